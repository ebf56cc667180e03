# The sequencer comes and goes with the extension and the server, as the applier
# does, and has nothing to do when nobody submits.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinSequencer;
use CalvinTest;
use CalvinWorkers;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

# one place for a database: it is seen at once whether it is free
my $node = new_node(
	'life',
	'calvin_seq.max_databases' => 1,
	restart_after_crash => 'on');
my $va = vshard_of('a');
my ($applier, $pid, $offset);

sub ended
{
	my ($pids, $desc) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(
		eval {
			wait_until(sub { !grep { process_alive($_) } @$pids }, "end of @$pids");
		},
		"$desc: no worker of before is left");
}

# A session has been served already, so others have the place; its successor.
sub follow
{
	my ($old) = @_;
	my $new = sql($node, 'postgres', 'SELECT applier_pid FROM seq_state');

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($new && !(grep { $_ == $new } @$old), 'another applier serves it');
	# a process ends some moments after it has left its place
	ended($old, 'and');
	return wait_for_applier($node, 'postgres');
}

is(sequencer_pid($node, 'postgres'), 0, 'no extension, no sequencer');
sql($node, 'postgres', 'CREATE DATABASE other');
($applier, $pid) = (create_extension($node), wait_for_sequencer($node, 'postgres'));
is( sql($node, 'postgres',
		"SELECT backend_type, application_name, datname, state, query, backend_xmin IS NULL, backend_xid IS NULL, xact_start IS NULL FROM pg_stat_activity WHERE pid = $pid"),
	'calvin_seq sequencer|calvin_seq sequencer|postgres|idle|waiting for submissions|t|t|t',
	'CREATE EXTENSION starts a sequencer, which waits without a transaction');
is(sql($node, 'postgres', "SELECT count(*) FROM pg_locks WHERE pid = $pid AND locktype <> 'virtualxid'"), 0, 'and without a lock');

#
# Nothing to do, although the log grows
#
SKIP:
{
	skip 'needs /proc', 2 unless -r "/proc/$pid/status";

	my $switches = sub {
		return slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m ? $1 : die;
	};
	my $before = -1;
	wait_until(
		sub {
			my $now = $switches->();
			my $same = $now == $before;

			$before = $now;
			usleep(1_500_000);
			return $same;
		},
		'quiet');
	my $s = session($node, 'postgres');
	my $end = time + 5;
	my $appended = 0;
	while (time < $end)
	{
		append_batches($node, 'postgres', $appended, $appended, [ [ ['a'], 'ab', 1 ] ], $s);
		$appended++;
		usleep(200_000);
	}
	$s->quit;
	cmp_ok($appended, '>', 5, 'while the log grows');
	is($switches->(), $before, 'the sequencer is not woken');
}

#
# Signals
#
sql($node, 'postgres', "SELECT pg_terminate_backend($pid, 5000)");
my $old = $pid;
cmp_ok((elapsed { $pid = wait_for_sequencer($node, 'postgres', $old) }), '<', within(5), 'a terminated sequencer is back within seconds');
is(applier_pid($node, 'postgres'), $applier, 'the applier has not noticed');

sql($node, 'postgres', "SELECT pg_terminate_backend($applier, 5000)");
$applier = wait_for_successor($node, 'applier', $applier);
is(sequencer_pid($node, 'postgres'), $pid, 'nor does the sequencer notice when the applier is terminated');

$offset = log_offset($node);
sql($node, 'postgres', "SELECT pg_cancel_backend($pid)");
kill 'INT', $pid;
$node->reload;
sql($node, 'postgres', "SELECT pg_log_backend_memory_contexts($pid)");
ok(wait_for_log_line($node, qr/logging memory contexts of PID $pid/, $offset), 'an idle sequencer serves interrupts');
is(wait_for_sequencer($node, 'postgres'), $pid, 'and survives SIGINT and SIGHUP');

my $launcher = worker($node, 'launcher');
sql($node, 'postgres', "SELECT pg_terminate_backend($launcher, 5000)");
wait_for_successor($node, 'launcher', $launcher);
is(sequencer_pid($node, 'postgres'), $pid, 'another launcher leaves it alone');
sql($node, 'postgres', "SELECT pg_terminate_backend($pid, 5000)");
$pid = wait_for_sequencer($node, 'postgres', $pid);
pass('and takes care of it');

kill 'KILL', $pid;
wait_until(sub { !process_alive($applier) }, 'the server to restart');
($applier, $pid) = both_workers($node, 'postgres');
pass('killed: both workers come back with the server');

$node->restart;
($applier, $pid) = both_workers($node, 'postgres');
pass('a restart brings both');

#
# An error
#
$offset = log_offset($node);
$pid = fail_sequencer($node, 'postgres');
wait_for_log_line($node,
	qr/\[$pid\] ERROR:  the library of extension calvin_seq does not serve its version.*\[$pid\] ERROR:  the library/s, $offset);
mend_sequencer($node, 'postgres');
is(wait_for_sequencer($node, 'postgres'), $pid, 'an error is survived by the process, which tries again');
is(applier_pid($node, 'postgres'), $applier, 'and is the applier\'s in no way');

#
# DROP EXTENSION
#
sql($node, 'postgres', 'BEGIN; DROP EXTENSION calvin_seq; ROLLBACK');
is(join(' ', both_workers($node, 'postgres')), "$applier $pid", 'DROP EXTENSION rolled back: both stay');

sql($node, 'postgres', 'DROP EXTENSION calvin_seq');
ended([ $applier, $pid ], 'DROP EXTENSION');
create_extension($node, 'other');
wait_for_sequencer($node, 'other');
pass('and their place is another database\'s');
sql($node, 'other', 'CREATE VIEW v AS TABLE seq_log; DROP EXTENSION calvin_seq CASCADE');
wait_until(sub { !sequencer_pid($node, 'other') && !applier_pid($node, 'other') }, 'both to end');
pass('DROP EXTENSION CASCADE: both end');

($applier, $pid) = (create_extension($node), wait_for_sequencer($node, 'postgres'));
sql($node, 'postgres', 'DROP EXTENSION calvin_seq; CREATE EXTENSION calvin_seq');
is(sql($node, 'postgres', "SELECT count(seq_subscribe('{$va}'))"), 1, 'created anew at once: sessions wait for the old workers to leave');
$applier = follow([ $applier, $pid ]);
$pid = wait_for_sequencer($node, 'postgres', $pid);
sql($node, 'postgres', 'BEGIN; DROP EXTENSION calvin_seq; CREATE EXTENSION calvin_seq; COMMIT');
is(sql($node, 'postgres', "SELECT count(seq_subscribe('{$va}'))"), 1, 'in one transaction: likewise');
$applier = follow([ $applier, $pid ]);
$pid = wait_for_sequencer($node, 'postgres', $pid);

# A slot that somebody still works in is nobody else's, whichever worker it is.
foreach my $late ('sequencer', 'applier')
{
	my ($stopped, $quick) = $late eq 'sequencer' ? ($pid, $applier) : ($applier, $pid);

	kill 'STOP', $stopped;
	sql($node, 'postgres', 'DROP EXTENSION calvin_seq');
	wait_until(sub { !process_alive($quick) }, 'the other worker to end');
	# it commits after the other one has left, and finds the slot taken
	sql($node, 'other', 'CREATE EXTENSION calvin_seq');
	like(sql_error($node, 'other', 'SELECT * FROM seq_state'), qr/^53400: no calvin_seq applier for this database\n/,
		"while its $late has not left, the slot is not free");
	kill 'CONT', $stopped;
	both_workers($node, 'other');
	ended([$stopped], "when the $late has left, the other database has it");
	sql($node, 'other', 'DROP EXTENSION calvin_seq');
	($applier, $pid) = (create_extension($node), wait_for_sequencer($node, 'postgres'));
}

# Neither does a worker that is to leave come back meanwhile.
kill 'STOP', $pid;
sql($node, 'postgres', 'DROP EXTENSION calvin_seq');
wait_until(sub { !process_alive($applier) }, 'the applier to end');
kill 'TERM', $pid;
kill 'CONT', $pid;
wait_until(sub { !process_alive($pid) }, 'the sequencer to end');
($applier, $pid) = (create_extension($node), wait_for_sequencer($node, 'postgres'));
is(sql($node, 'postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'calvin_seq (applier|sequencer)'"), 2,
	'terminated while it is to leave: one applier and one sequencer follow');

#
# Without the library preloaded
#
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
sql($node, 'postgres', "SELECT seq_append('\\x" . batch_hex(0, 0, [ ['a'], 'ab', 1 ]) . "')");
is(sequencer_pid($node, 'postgres'), 0, 'not preloaded: no sequencer');

$node->stop;
nothing_crashed($node, 1);
done_testing();
