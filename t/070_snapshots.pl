# Snapshots and restarts: the applier begins with the last usable one, and
# arrives at the same state as from the start of the log.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $txn = [ ['a'], 'ab', 1 ];
my $node = new_node('snapshots',
	-streaming => 1,
	'calvin_seq.snapshot_interval' => 10);
create_extension($node, $db);

# one commit each, so that snapshots fall due in between
sub append
{
	my ($first, $last) = @_;

	append_batches($node, $db, $_, $_, [$txn]) for $first .. $last;
	wait_for_epoch($node, $db, $last);
	return;
}

# epoch, index, digest of the state; and how many entries were read for it
sub standing
{
	my ($n) = @_;

	return sql($n, $db, 'SELECT last_applied_epoch, last_applied_index, digest FROM seq_state');
}

sub entries_read
{
	my ($n) = @_;

	return sql($n, $db, 'SELECT entries_applied FROM seq_metrics');
}

sub restarted
{
	my ($n, $epoch) = @_;

	$n->restart;
	wait_for_applier($n, $db);
	wait_for_epoch($n, $db, $epoch);
	return;
}

append(0, 34);
wait_for_sql($node, $db, 'SELECT count(*) >= 3 FROM seq_snapshots', 't');
my $before = standing($node);
is(sql($node, $db, 'SELECT bool_and(log_index >= 10) FROM seq_snapshots'), 't',
	'taken by itself, an interval apart');

restarted($node, 34);
is(standing($node), $before, 'the same state after a restart');
cmp_ok(entries_read($node), '<', 20, 'without reading the log from its start');

# one that is not of this log, one of another digest version, one of nothing
sql($node, $db, "INSERT INTO seq_snapshots VALUES (1000, 7, 'ffffffffffffffff', 1, now()),
	(34, 7, 'ffffffffffffffff', 999, now()), (33, 7, 'no digest', 1, now())");
restarted($node, 34);
is(standing($node), $before, 'unusable snapshots are passed over');
cmp_ok(entries_read($node), '<', 20, 'for the last usable one');

sql($node, $db, 'DELETE FROM seq_snapshots');
restarted($node, 34);
is(standing($node), $before, 'the same state from the start of the log');
is(entries_read($node), 35, 'all of it');

# in a cluster that crashes, too
sql($node, $db, 'SELECT seq_snapshot()');
append(35, 36);
$before = standing($node);
$node->stop('immediate');
$node->start;
wait_for_applier($node, $db);
wait_for_epoch($node, $db, 36);
is(standing($node), $before, 'the same state after a crash');

# a standby uses the primary's, and takes none
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
wait_for_applier($standby, $db);
$node->wait_for_catchup($standby, 'replay');
wait_for_epoch($standby, $db, 36);
is(standing($standby), $before, 'a standby arrives at the same state');
cmp_ok(entries_read($standby), '<', 37, 'from a snapshot');
like(sql_error($standby, $db, 'SELECT seq_snapshot()'), qr/25006|during recovery/, 'and takes none itself');

# whoever holds the table does not hold up the applier
my $s = session($node, $db);
$s->query('BEGIN; LOCK TABLE seq_snapshots');
append(37, 60);
pass('a locked table does not hold up the applier');
$s->query('ROLLBACK');
$s->quit;

# 0 means none
sql($node, $db, 'ALTER SYSTEM SET calvin_seq.snapshot_interval = 0');
sql($node, $db, 'SELECT pg_reload_conf()');
restarted($node, 60);
sql($node, $db, 'DELETE FROM seq_snapshots');
append(61, 90);
is(sql($node, $db, 'SELECT count(*) FROM seq_snapshots'), 0, 'no interval, no snapshots');

$standby->stop;
$node->stop;
done_testing();
