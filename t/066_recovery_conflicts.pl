# What recovery does to those who read on a standby: it cancels them, and they
# go on.  The applier survives or is back soon; consumers get an error that is
# to be retried, and lose or repeat nothing.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $db = 'postgres';
my $soon = 30;	# seconds in which the applier is to be there again
my $txn = [ ['a'], 'ab', 1 ];
my $large = [ ['a'], 'cd' x 30000, 2 ];
my $va = vshard_of('a');
my $epoch = 0;

my $primary = new_node('primary', -streaming => 1,
	'calvin_seq.max_databases' => 4,
	'calvin_seq.snapshot_interval' => 20,
	allow_in_place_tablespaces => 'on');
create_extension($primary, $db);
sql($primary, $db, 'CREATE TABLE junk (i int)');
append();
$primary->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'b', has_streaming => 1);
$standby->append_conf('postgresql.conf', <<'EOS');
max_standby_streaming_delay = 0
max_standby_archive_delay = 0
hot_standby_feedback = off
deadlock_timeout = 100ms
EOS
$standby->start;
my $pid = wait_for_applier($standby, $db);

sub append
{
	my @txns = @_ ? @_ : ($txn);

	append_hex($primary, $db, batch_hex($epoch, 1000 + $epoch, @txns));
	$epoch++;
	return;
}

# Makes row versions whose removal conflicts with every snapshot there is.
sub vacuum
{
	my ($table) = @_;

	sql($primary, $db, "INSERT INTO junk SELECT generate_series(1, 10); DELETE FROM junk");
	sql($primary, $db, 'VACUUM junk; VACUUM (FREEZE) ' . ($table || 'seq_log'));
	return;
}

sub replayed
{
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	return;
}

sub in_step
{
	my ($desc) = @_;

	replayed();
	wait_applied($primary, $db);
	my $state = state($primary, $db);
	wait_for_sql($standby, $db, 'SELECT last_applied_index FROM seq_state', (split /\|/, $state)[1], $soon);
	is(state($standby, $db), $state, "$desc: the standby's state is the primary's");
	return;
}

sub waits
{
	my ($session) = @_;

	wait_for_sql($standby, $db, "SELECT wait_event_type FROM pg_stat_activity WHERE state = 'active' AND pid = " . $session->pid, 'Extension');
	return;
}

my @received;

# A call that receives; its error, if any.  What it has brought is noted.
sub receive
{
	my ($session, $timeout) = @_;

	$timeout ||= '0';
	$session->send("SELECT epoch || '.' || position FROM seq_receive(1000, '$timeout')") unless $session->{pending};
	my ($output, $error) = $session->finish;
	push @received, split /\n/, $output if $error eq '';
	return $error;
}

sub has_all
{
	my ($session, $desc) = @_;

	wait_for_sql($standby, $db, 'SELECT seq_last_applied_epoch()', $epoch - 1, $soon);
	# a rest of a conflict may hit one more call
	my $error = '';
	my $expected = join ' ', split /\n/, sql($primary, $db, "SELECT epoch || '.' || position FROM seq_replay($va, 0, 1000000)");
	foreach (1 .. 20)
	{
		$error = receive($session);
		last if $error eq '' && "@received" eq $expected;
	}
	is($error, '', "$desc: the consumer goes on");
	is("@received", $expected, "$desc: nothing is lost or comes twice");
	return;
}

my $s = session($standby, $db);
$s->query("SELECT seq_subscribe('{$va}', from_epoch => 0, queue_size => 8192)");
has_all($s, 'at first');

#
# Snapshots
#
# A call that waits has one.
$s->send("SELECT epoch || '.' || position FROM seq_receive(1000, '60s')");
waits($s);
vacuum();
like(receive($s), qr/^40001: .*conflict with recovery/, 'VACUUM: a waiting call gets an error to be retried');
append();
has_all($s, 'VACUUM');
is(applier_pid($standby, $db), $pid, 'VACUUM: same applier');

# In a transaction, what it had received comes again.
append();
wait_for_sql($standby, $db, 'SELECT seq_last_applied_epoch()', $epoch - 1);
$s->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
is($s->query("SELECT epoch FROM seq_receive(1000, '0')"), $epoch - 1, 'received in a transaction');
$s->send("SELECT epoch || '.' || position FROM seq_receive(1000, '60s')");
waits($s);
vacuum();
like(receive($s), qr/^40001: .*conflict with recovery/, 'which VACUUM cancels');
$s->query('ROLLBACK');
append();
has_all($s, 'a transaction that was cancelled');

# Between its calls it has none, even though it holds queues.
vacuum('seq_cursor_positions');
replayed();
is($s->query('SELECT 1'), 1, 'an idle consumer is left alone');
# the applier has one whenever it looks for more
ok(eval { wait_for_sql($standby, $db, "SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()", 0) },
	'neither it nor the applier nor the launcher holds a snapshot') or diag $@;

# Idle in a transaction: the session is ended, and another one begins where
# the cursor is.
my $t = session($standby, $db);
$t->query("SELECT seq_subscribe('{$va}', 't', from_epoch => 0)");
$t->query("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM seq_receive(1, '0', 't')");
vacuum();
replayed();
like($t->error('SELECT 1'), qr/^40001: .*conflict with recovery/, 'idle in a transaction: the session is ended');
wait_for_sql($standby, $db, "SELECT count(*) FROM seq_subscriptions WHERE name = 't'", 0);
$t->quit;

#
# The applier itself, in the middle of a burst: stopped there by a lock on the
# log that recovery holds, or by chance, while the log is read.
#
my $errors = 0;
my $conflicts = sub {
	return sql($standby, $db, 'SELECT sum(confl_snapshot + confl_lock + confl_tablespace + confl_bufferpin + confl_deadlock) FROM pg_stat_database_conflicts');
};
my $before = $conflicts->();
my $appender = session($primary, $db);
my $until = time() + 4;
while (time() < $until)
{
	my $first = $epoch;

	$epoch += 8;
	$appender->send(join "\n", map { "SELECT seq_append('\\x" . batch_hex($_, 1000 + $_, $txn, $large) . "') \\g /dev/null" } $first .. $epoch - 1);
	vacuum();
	sql($primary, $db, 'VACUUM (FULL) ' . ('seq_log', 'seq_snapshots', 'seq_cursor_positions', 'pg_class')[ int rand 4 ]);
	sql($primary, $db, 'BEGIN; LOCK TABLE ' . ('seq_log', 'seq_snapshots')[ int rand 2 ] . ' IN ACCESS EXCLUSIVE MODE; COMMIT');
	$appender->finish;
	my $error = receive($s);
	$errors++ if $error =~ /^40001: .*conflict with recovery/;
	is($error, '', 'no other error') if $error ne '' && $error !~ /^40001: .*conflict with recovery/;
	if ($s->dead)
	{
		fail('the session was ended');
		last;
	}
}
in_step('under fire');
has_all($s, 'under fire');
note(($conflicts->() - $before) . " conflicts, $errors of them with the consumer; the applier: "
	  . (sql($standby, $db, 'SELECT last_error FROM seq_state') || 'none'));
is(applier_pid($standby, $db), $pid, 'under fire: same applier');

# Caught in the middle of a burst, with a lock on the log that recovery wants.
# Large entries for a vshard that nobody is subscribed to give the time.
my $watch = session($standby, $db);
my $holds = "SELECT count(*) FROM pg_locks WHERE granted AND pid = $pid AND relation = (SELECT oid FROM pg_class WHERE relname = 'seq_log')";
my $caught = 0;
foreach my $round (1 .. 20)
{
	kill 'STOP', $pid;
	foreach (1 .. 8)
	{
		sql($primary, $db, "SELECT seq_append(seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object('epoch', $epoch, 'epoch_system_ms', 1, 'txns',
			jsonb_build_array(jsonb_build_object('tx_class', jsonb_build_object('tenant_id', 1, 'plans', '\\x' || repeat('cd', 4000000),
				'write_set', '[{\"Document\": {\"collection\": \"b\", \"surrogates\": [1]}}]'::jsonb)))))))");
		$epoch++;
	}
	replayed();
	kill 'CONT', $pid;
	my $give_up = time() + 2;
	until ($caught || time() > $give_up)
	{
		next unless $watch->query($holds);
		kill 'STOP', $pid;
		# it may have let go in between
		$caught = $watch->query($holds) > 0;
		kill 'CONT', $pid unless $caught;
	}
	last if $caught;
}
ok($caught, 'the applier is stopped in the middle of a burst');
my $offset = log_offset($standby);
my $applied = $watch->query('SELECT seq_last_applied_epoch()');
sql($primary, $db, 'VACUUM (FULL) seq_log');
# recovery stands still at the lock, with all of it received
my $end = $primary->lsn('insert');
my $stands = "SELECT pg_last_wal_receive_lsn() >= '$end', pg_last_wal_replay_lsn() < '$end', pg_last_wal_replay_lsn()";
wait_until(
	sub {
		my $first = $watch->query($stands);
		usleep(100_000);
		return $first =~ /^t\|t/ && $watch->query($stands) eq $first;
	},
	'recovery to find the applier in its way');
kill 'CONT', $pid;
cmp_ok(elapsed { replayed() }, '<', $soon, 'recovery goes on');
wait_for_log_line($standby, qr/\[$pid\] ERROR: +canceling statement due to conflict with recovery/, $offset);
my $back = elapsed { in_step('cancelled in a burst') };
is(applier_pid($standby, $db), $pid, 'cancelled in a burst: same applier');
like(sql($standby, $db, 'SELECT last_error FROM seq_state'), qr/conflict with recovery/, 'seq_state tells of it');
note sprintf('the applier was back after %.2f s', $back);
$watch->quit;
has_all($s, 'cancelled in a burst');

# Held at the start of a burst by a lock that recovery has: it has no snapshot
# yet, and is in nobody's way.
my $holder = session($primary, $db);
$holder->query('BEGIN; LOCK TABLE seq_log IN ACCESS EXCLUSIVE MODE; INSERT INTO junk VALUES (1)');
sql($primary, $db, 'CREATE TABLE ticks (i int)');
wait_until(
	sub {
		sql($primary, $db, 'INSERT INTO ticks VALUES (1)');
		return sql($standby, $db, "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = $pid AND relation = (SELECT oid FROM pg_class WHERE relname = 'seq_log')");
	},
	'the applier to wait for a lock that recovery holds');
vacuum('junk');
cmp_ok(elapsed { replayed() }, '<', $soon, 'an applier that waits does not hold up recovery');
$s->query("SET statement_timeout = '10s'");
is($s->query("SELECT count(*) FROM seq_receive(1, '100ms')"), 0, 'a consumer that needs nothing of the log is not held up');
$s->query('RESET statement_timeout');
$holder->query('COMMIT');
append();
in_step('after the lock');
has_all($s, 'after the lock');
$_->quit foreach $holder, $appender;
is(applier_pid($standby, $db), $pid, 'after the lock: same applier');

#
# A tablespace that is dropped: whoever has a snapshot might use it.
#
sql($primary, $db, "CREATE TABLESPACE ts LOCATION ''");
$s->send("SELECT epoch || '.' || position FROM seq_receive(1000, '2s')");
waits($s);
sql($primary, $db, 'DROP TABLESPACE ts');
replayed();
# with temporary files in it only: the call may live
my $error = receive($s);
like($error, qr/^(40001: .*conflict with recovery|$)/, 'DROP TABLESPACE: at most an error to be retried');
append();
in_step('DROP TABLESPACE');
has_all($s, 'DROP TABLESPACE');

#
# A database that is dropped under its applier and a consumer.
#
sql($primary, $db, 'CREATE DATABASE doomed');
create_extension($primary, 'doomed');
append_batches($primary, 'doomed', 0, 3, [$txn]);
my $doomed = wait_for_applier($standby, 'doomed');
# all of it, so that the second call of a consumer has to wait
wait_for_epoch($standby, 'doomed', 3);
my @consumers = map { session($standby, 'doomed') } 1 .. 3;
$consumers[$_]->query("SELECT seq_subscribe('{$va}', 'c$_', from_epoch => 0)") foreach 0 .. 2;
$consumers[0]->query("SELECT count(*) FROM seq_receive(100, '30s', 'c0')");
$consumers[0]->send("SELECT epoch FROM seq_receive(100, '60s', 'c0')");
$consumers[1]->query("BEGIN; SELECT count(*) FROM seq_receive(1, '0', 'c1')");
waits($consumers[0]);
cmp_ok(elapsed { sql($primary, $db, 'DROP DATABASE doomed'); replayed() }, '<', $soon, 'DROP DATABASE is replayed at once');
like(($consumers[0]->finish)[1], qr/^57P04: /, 'DROP DATABASE: a waiting consumer is told');
like($consumers[$_]->error('SELECT 1'), qr/^57P04: /, 'as is an idle one') foreach 1, 2;
wait_until(sub { !process_alive($doomed) }, 'its applier to leave');
is(applier_pid($standby, 'doomed'), 0, 'its applier is gone');
wait_until(sub { !grep { process_alive($_->pid) } @consumers }, 'its consumers to leave');
$_->quit foreach @consumers;

# its place, and those of its subscriptions, are free
sql($primary, $db, 'CREATE DATABASE doomed');
create_extension($primary, 'doomed');
append_batches($primary, 'doomed', 0, 1, [$txn]);
wait_for_applier($standby, 'doomed');
wait_for_sql($standby, 'doomed', 'SELECT seq_last_applied_epoch()', 1, $soon);
is(sql($standby, 'doomed', 'SELECT count(*) FROM seq_subscriptions'), 0, 'the next database of that name begins anew');

append();
in_step('at the end');
has_all($s, 'at the end');
is(applier_pid($standby, $db), $pid, 'all with the same applier');

# nothing is left
$s->quit;
wait_for_sql($standby, $db, 'SELECT count(*) FROM seq_subscriptions', 0);
ok(eval { wait_for_sql($standby, $db, "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE backend_type LIKE 'calvin%' AND locktype <> 'virtualxid'", 0) },
	'no lock is left') or diag $@;
$standby->stop;
$primary->stop;
nothing_crashed($_) foreach $primary, $standby;
done_testing();
