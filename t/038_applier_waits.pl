# What the applier must not wait for: locked snapshots, standbys that a snapshot's
# commit would ask, transactions that fit into no ring.  And what is long, in it
# and in its readers, can be interrupted.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinPause;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

require_pauses();

my $db = 'postgres';
my $txn = [ ['a'], 'ab', 1 ];
my $va = vshard_of('a');
my $node = new_node(
	'waits',
	-streaming => 1,
	dynamic_shared_memory_type => 'mmap',
	'calvin_seq.snapshot_interval' => 5);

sql($node, $db, 'CREATE DATABASE elsewhere');
sql($node, $db, 'CREATE DATABASE bystander');
create_extension($node, $db);
my $pause = pauses($node, 'elsewhere');
my $watch = session($node, $db);
my $epoch = 0;

# Append n batches, one commit each, so that snapshots fall due in between.
sub append
{
	my ($n) = @_;

	append_batches($node, $db, $epoch, $epoch + $n - 1, [$txn], $watch);
	$epoch += $n;
	return $epoch - 1;
}

sub applied
{
	my ($last) = @_;

	return $watch->query("SELECT seq_wait_for_epoch($last, '" . within(20) . "s')");
}

#
# Snapshots that somebody has locked are not pruned now, but later.
#
my $kept = 16;	# SNAPSHOTS_KEPT
foreach (1 .. $kept + 2)
{
	applied(append(1));
	$watch->query('SELECT seq_snapshot()');
}
is($watch->query('SELECT count(*) FROM seq_snapshots'), $kept, 'as many snapshots as are kept');
foreach my $lock ('KEY SHARE', 'SHARE', 'UPDATE')
{
	my $locker = session($node, $db);

	my $locked = $locker->query("BEGIN; SELECT log_index FROM seq_snapshots FOR $lock");
	is(applied(append(30)), 't', "FOR $lock on the snapshots: the applier goes on");
	is($watch->query("SELECT count(*) FROM pg_locks WHERE NOT granted"), 0, "FOR $lock: nobody waits for a lock");
	wait_for_sql($node, $db, 'SELECT max(log_index) > ' . (split /\n/, $locked)[-1] . ' FROM seq_snapshots');
	pass("FOR $lock: and takes new snapshots");
	is($watch->query("SELECT count(*) FROM seq_snapshots WHERE log_index IN (" . join(',', split /\n/, $locked) . ')'),
		scalar(split /\n/, $locked), "FOR $lock: what is locked stays");
	$locker->query('ROLLBACK');
	$locker->quit;
}
applied(append(10));
wait_for_sql($node, $db, "SELECT count(*) <= $kept FROM seq_snapshots");
pass('when it is not locked any more it goes');

# the newest one, of the very entry that the next one would be of
{
	my $locker = session($node, $db);

	$locker->query('BEGIN; SELECT 1 FROM seq_snapshots FOR UPDATE');
	$pause->arm('applier: snapshot stored');
	my $last = append(10);
	$pause->reached('applier: snapshot stored');
	$pause->release('applier: snapshot stored');
	is(applied($last), 't', 'a snapshot beside locked ones: the applier goes on');
	$locker->quit;
}
is($watch->query('SELECT last_error FROM seq_state'), '', 'without an error');

#
# A standby that leaves when a snapshot is about to commit.  What waits for it
# accepts no barrier either, and so holds up commands in other databases.
#
wait_applied($node, $db);
$pause->arm('applier: snapshot stored');
append(10);
my $applier = $pause->reached('applier: snapshot stored');
$node->append_conf('postgresql.conf', "synchronous_standby_names = 'gone'");
$node->reload;
{
	# the checkpointer tells the others, of which this is the first
	my $commit = session($node, $db);

	$commit->send('SELECT txid_current(), pg_logical_emit_message(true, \'waits\', \'\')');
	wait_for_sql($node, $db, "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = " . $commit->pid);
	sql($node, $db, 'SELECT pg_terminate_backend(' . $commit->pid . ', 60000)');
	$pause->release('applier: snapshot stored');
	sql($node, $db, "SET synchronous_commit = 'off'; SET statement_timeout = '" . within(20) . "s'; DROP DATABASE bystander");
	pass('DROP DATABASE of another one does not wait for it');
	# it may have come to the next entries, for which it does wait, and says so
	is(sql($node, $db, "SELECT count(*) FROM pg_stat_activity WHERE pid = $applier AND wait_event = 'SyncRep' AND query <> 'waiting for synchronous standbys to confirm the log'"),
		0, 'a snapshot is committed without a standby');
}
$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
$node->reload;
is(applied($epoch - 1), 't', 'and the applier goes on');

#
# A database copied with its snapshots: nothing is shown that could be lost.
#
{
	wait_applied($node, $db);
	sql($node, $db, 'SELECT seq_snapshot()');
	my $before = state($node, $db);

	$watch->quit;
	$node->append_conf('postgresql.conf', "synchronous_standby_names = 'gone'");
	$node->reload;
	my $waits = session($node, 'elsewhere');
	$waits->send('SELECT txid_current(), pg_logical_emit_message(true, \'waits\', \'\')');
	wait_for_sql($node, 'elsewhere', "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = " . $waits->pid);
	# its commit does not ask, so it is visible and may be lost
	sql($node, 'elsewhere', "SET synchronous_commit = 'local'; CREATE DATABASE copy TEMPLATE $db");
	wait_until(sub { applier_pid($node, $db) && applier_pid($node, 'copy') }, 'the appliers');
	wait_for_sql($node, 'elsewhere',
		"SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE backend_type = 'calvin_seq applier' AND datname = 'copy'");
	is(state($node, 'copy') =~ s/\|[^|]*$//r, '|0', 'a copy that is not safe yet: nothing is applied');
	$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$node->reload;
	wait_applied($node, 'copy');
	is(state($node, 'copy'), $before, 'then the state is that of the snapshot');
	$waits->kill_client;
	sql($node, $db, 'DROP DATABASE copy');
	$watch = session($node, $db);
}

#
# An entry of 64 MB: keys in disorder, as a raw INSERT may bring them.
#
my $hex_epoch = 'cf' . sprintf('%016x', $epoch);
my $head = "92aa45706f636842617463689193${hex_epoch}9194${hex_epoch}0095909192a24b7692a161dd";
my $tail = 'c401ab01c00000';
my $keys = 7 * 1024 * 1024;
my $reader = session($node, $db);

$reader->query(<<"SQL");
CREATE TABLE large AS SELECT '\\x$head'::bytea || int4send($keys) || block || '\\x$tail'::bytea AS entry
	FROM (SELECT string_agg('\\x98'::bytea || int8send(
			(n * 7046029254386353131::numeric % 9223372036854775807)::bigint & 9187201950435737471), '') AS block
		FROM generate_series(1, $keys) n) b;
ALTER TABLE large ALTER entry SET STORAGE EXTERNAL;
SQL

# How long it takes until what has begun has ended, after it was asked to.
sub interrupted
{
	my ($sql) = @_;

	like($reader->error("SET statement_timeout = '300ms'; $sql"), qr/^57014: /, "cancelled: $sql");
	$reader->query('RESET statement_timeout');
	return;
}

sub is_interrupted
{
	my ($sql) = @_;
	my $seconds = elapsed { interrupted($sql) };

	return cmp_ok($seconds, '<', within(1.3), "within a second: $sql");
}

is_interrupted('SELECT seq_decode(entry) FROM large');
is_interrupted('SELECT seq_append(entry) FROM large');

# What it takes to write it anew, and that it is not done where it is for nothing.
my $subscriber = session($node, $db);
$subscriber->query("SELECT seq_subscribe('{$va}', 'small', lossless => false)");
wait_for_sql($node, $db, q{SELECT state = 'live' FROM seq_subscriptions});
$watch->query('INSERT INTO seq_log (entry) SELECT entry FROM large');
my $to_apply = elapsed { applied($epoch) };
my $to_write = elapsed { $reader->query("SELECT length(tx_class) FROM seq_replay($va, $epoch, $epoch)") };
note("$keys keys: applied after $to_apply s, written anew in $to_write s");
cmp_ok($to_apply, '<', $to_write / 2, 'what no ring takes is not written anew');
is(sql($node, $db, 'SELECT sent, dropped FROM seq_subscriptions'), '0|1', 'it is dropped');
is_interrupted("SELECT count(*) FROM seq_replay($va, $epoch, $epoch)");
$epoch++;

# With a ring that takes it the applier does write it; and ends when told to.
$subscriber->query("SELECT seq_subscribe('{$va}', 'large', queue_size => 128 * 1024 * 1024, lossless => false)");
wait_for_sql($node, $db, q{SELECT state = 'live' FROM seq_subscriptions WHERE name = 'large'});
$hex_epoch = 'cf' . sprintf('%016x', $epoch);
my $next = "92aa45706f636842617463689193${hex_epoch}9194${hex_epoch}0095";
$applier = applier_pid($node, $db);
$pause->arm('apply: writing anew');
$watch->query("INSERT INTO seq_log (entry) SELECT '\\x$next'::bytea || substr(entry, " . (length($next) / 2 + 1) . ") FROM large");
$pause->reached('apply: writing anew');
$pause->release('apply: writing anew');
my $to_end = elapsed {
	sql($node, 'elsewhere', "SELECT pg_terminate_backend($applier, " . (within(30) * 1000) . ')');
};
cmp_ok($to_end, '<', within(1), 'an applier in the middle of it ends when told to');
is(applied($epoch), 't', 'its successor applies it');
$epoch++;
is(applied(append(1)), 't', 'and what comes after it');

$_->quit foreach $subscriber, $reader, $watch;
$pause->quit;
$node->stop;
nothing_crashed($node);
done_testing();
