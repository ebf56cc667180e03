# With nothing to do, nobody does anything: no wake-ups, no snapshot, no lock.
#
# CALVIN_LONG_TESTS=1 watches for a minute instead of ten seconds.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinSequencer;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'needs /proc' unless -r "/proc/$$/status";

my $seconds = $ENV{CALVIN_LONG_TESTS} ? 60 : 10;
my $db = 'postgres';
my $node = new_node('idle', checkpoint_timeout => '1h');
my $txn = [ ['a'], 'ab', 1 ];
my $va = vshard_of('a');

sub status
{
	my ($pid, $field) = @_;
	return slurp_file("/proc/$pid/status") =~ /^\Q$field\E:\s*(\d+)/m ? $1 : die "no $field";
}

create_extension($node, $db);
sql($node, 'template1', 'CREATE DATABASE empty');
create_extension($node, 'empty');

# A consumer that waits, one that does not, and somebody who waits for an epoch.
my ($waiting, $absent, $for_epoch, $watcher) = map { session($node, $db) } 1 .. 4;
$waiting->query("SELECT seq_subscribe('{$va}', 'waiting', lossless => false)");
$absent->query("SELECT seq_subscribe('{$va}', 'absent', lossless => false)");
$watcher->query('CREATE TABLE unrelated (a int)');
append_batches($node, $db, 0, 9, [$txn]);
wait_for_epoch($node, $db, 9);
is($waiting->query("SELECT count(*) FROM seq_receive(100, '0', 'waiting')"), 10, 'all is delivered');

my $timeout = ($seconds + 100) . 's';
$waiting->send("SELECT count(*) FROM seq_receive(100, '$timeout', 'waiting')");
$for_epoch->send("SELECT seq_wait_for_epoch(10, '$timeout')");
wait_until(
	sub {
		$watcher->query("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event_type = 'Extension'") == 2;
	},
	'both to wait');

my %pids = (
	applier => applier_pid($node, $db),
	'applier of an empty log' => applier_pid($node, 'empty'),
	sequencer => wait_for_sequencer($node, $db),
	launcher => $watcher->query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'calvin_seq launcher'"),
	'consumer in seq_receive' => $waiting->pid,
	'session in seq_wait_for_epoch' => $for_epoch->pid);

# The sleepers may have a last thing to do, as a timer that nobody needs any
# more goes off once: after a wait for a lock that is a second later.
my %before;
wait_until(
	sub {
		my %now = map { ($_ => status($pids{$_}, 'voluntary_ctxt_switches')) } keys %pids;
		my $same = !grep { $now{$_} != ($before{$_} // -1) } keys %pids;
		%before = %now;
		usleep(2_000_000);
		return $same;
	},
	'quiet');

my %cpu = map { ($_ => cpu($pids{$_})) } keys %pids;

# user and system time, in ticks
sub cpu
{
	my @fields = split ' ', slurp_file("/proc/$_[0]/stat") =~ s/.*\) //sr;
	return $fields[11] + $fields[12];
}

# Life goes on in this database, but the log does not grow.
my $others = 0;
my $end = time + $seconds;
while (time < $end)
{
	if ($others < 50)
	{
		$watcher->query('INSERT INTO unrelated VALUES (1)');
		$others++;
	}
	usleep(200_000);
}

for my $name (sort keys %pids)
{
	my $switches = status($pids{$name}, 'voluntary_ctxt_switches') - $before{$name};

	# a session's timer for its statistics goes off once, needed or not
	my $allowed = $name =~ / in / ? 2 : 0;
	cmp_ok($switches, '<=', $allowed, "$name: no wake-up in $seconds s");
	cmp_ok(cpu($pids{$name}) - $cpu{$name}, '<=', $allowed, "$name: no time used");
}
is($watcher->query('SELECT count(*) FROM unrelated'), $others, "while there were $others commits of others");

# What they hold meanwhile.
my $workers = join ', ', @pids{ 'applier', 'applier of an empty log', 'sequencer', 'launcher' };
is( $watcher->query(
		"SELECT count(*), count(backend_xmin), count(backend_xid), count(xact_start) FROM pg_stat_activity WHERE pid IN ($workers)"),
	'4|0|0|0', 'the workers hold no snapshot, are in no transaction');
is($watcher->query("SELECT count(*) FROM pg_locks WHERE pid IN ($workers) AND locktype <> 'virtualxid'"), 0, '... hold no lock');
is( $watcher->query("SELECT string_agg(DISTINCT state, ' '), bool_and(wait_event_type = 'Extension') FROM pg_stat_activity WHERE pid IN ($workers)"),
	'idle|t', '... and are idle');
is($watcher->query("SELECT query FROM pg_stat_activity WHERE pid = $pids{applier}"), 'waiting for log entries', '... and say so');

# They were asleep, not dead.
append_batches($node, $db, 10, 10, [$txn]);
is(($waiting->finish)[0], 1, 'the consumer wakes up');
is(($for_epoch->finish)[0], 't', 'so does who waited for the epoch');
isnt(status($pids{applier}, 'voluntary_ctxt_switches'), $before{applier}, 'so did the applier: the measure works');
is(status($pids{'applier of an empty log'}, 'voluntary_ctxt_switches'), $before{'applier of an empty log'}, 'but not the one of another database');

# The snapshot is not held between batches either: whoever waits for all
# snapshots to go gets it while entries come in.
append_batches($node, $db, 11, 11, [$txn]);
wait_for_epoch($node, $db, 11);
sql($node, $db, 'CREATE INDEX CONCURRENTLY ON unrelated (a)', timeout => 60);
pass('CREATE INDEX CONCURRENTLY is not kept waiting');

# An ALTER TABLE of the log finds no lock of the applier.
sql($node, $db, "SET lock_timeout = '20s'; ALTER TABLE seq_log SET (autovacuum_enabled = off)");
append_batches($node, $db, 12, 12, [$txn]);
wait_for_epoch($node, $db, 12);
pass('ALTER TABLE seq_log is not kept waiting, and the applier goes on');

$_->quit for $waiting, $absent, $for_epoch, $watcher;
$node->stop;
done_testing();
