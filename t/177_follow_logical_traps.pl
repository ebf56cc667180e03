# What logical replication of the log does without an error: it brings what the source's
# synchronous standby has not confirmed, which a failover loses; and a new subscription after
# a failover leaves a hole.  A follower gets neither, and where it is to go on from such a
# copy, it finds out and stops.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinFollow;
use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $txn = [ [ [ 'a', 1 ], [ 'b', 2 ] ], 'ab', 1 ];
my $source = new_node('source', -streaming => 1, wal_level => 'logical');
my $copies = new_node('copies', 'calvin_seq.max_databases' => 8, max_worker_processes => 30, 'calvin_seq.follower_timeout' => '3s');

sub append
{
	my ($node, $n, $fork) = @_;
	my $epoch = sql($node, $db, 'SELECT coalesce(seq_current_committed_epoch() + 1, 0)');

	append_batches($node, $db, $epoch, $epoch + $n - 1, [ $fork ? [ [ [ 'a', 1 ] ], 'ff', 1 ] : $txn ]);
	return;
}
sub log_end { my ($node, $in) = @_; return sql($node, $in // $db, 'SELECT coalesce(max(log_index), 0) FROM seq_log'); }

# As its source is gone, its slot cannot be dropped.
sub end_subscription
{
	my ($in, $name) = @_;

	sql($copies, $in, "ALTER SUBSCRIPTION $name DISABLE");
	sql($copies, $in, "ALTER SUBSCRIPTION $name SET (slot_name = NONE)");
	sql($copies, $in, "DROP SUBSCRIPTION $name");
	return;
}

create_extension($source, $db);
append($source, 10);
sql($source, $db, q{CREATE PUBLICATION log FOR TABLE seq_log WITH (publish = 'insert')});
$source->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($source, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', "primary_conninfo = '" . $source->connstr . " application_name=standby'");
$standby->start;
wait_for_applier($standby, $db);

foreach my $name ('early', 'holed', 'followed')
{
	sql($copies, $db, "CREATE DATABASE $name");
	create_extension($copies, $name);
}
foreach my $name ('early', 'holed')
{
	sql($copies, $name, q{SELECT seq_follow_replication('the log of the source')});
	sql($copies, $name, "CREATE SUBSCRIPTION $name CONNECTION '" . source_of($source, $db) . "' PUBLICATION log");
	is_copy($source, $db, $copies, $name, "by logical replication, $name");
}
follow($copies, 'followed', source_of([ $source, $standby ], $db, 'target_session_attrs=read-write connect_timeout=2'), $source);

#
# What no standby has confirmed
#
$source->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = 'standby'");
$source->reload;
wait_for_sql($source, $db, 'SELECT sync_state FROM pg_stat_replication WHERE application_name = $$standby$$', 'sync');
append($source, 3);
is_copy($source, $db, $copies, 'early', 'confirmed');
my $receiver = sql($standby, $db, 'SELECT pid FROM pg_stat_wal_receiver');
my $end = log_end($source);
kill 'STOP', $receiver;
{
	my $impatient = session($source, $db);

	$impatient->send('SELECT seq_append_json($${"EpochBatch": {"txns": []}}$$)');
	wait_for_sql($source, $db, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'client backend'", 1);
	sql($source, $db, 'SELECT pg_cancel_backend(' . $impatient->pid . ')');
	$impatient->finish;
	$impatient->quit;
}
wait_for_sql($copies, 'early', 'SELECT max(log_index) FROM seq_log', $end + 1);
wait_for_sql($copies, 'early', 'SELECT last_applied_index FROM seq_state', $end + 1);
pass('logical replication brings what no standby has confirmed, and it is delivered');
is(log_end($copies, 'followed'), $end, 'a follower has not got it');
# what is on its way to the standby is not read any more
$source->stop('immediate');
$standby->stop('immediate');
$standby->start;
$standby->promote;
wait_for_applier($standby, $db);
is(log_end($standby), $end, 'it is lost in the failover');
end_subscription('early', 'early');
append($standby, 3, 1);
is_copy($standby, $db, $copies, 'followed', 'the follower goes on');

sql($copies, 'early', q{SELECT seq_follow('} . source_of($standby, $db) . q{')});
wait_follower_state($copies, 'early', 'other history');
like(follower($copies, 'early', 'last_error'), qr/^the source has another history: at log_index ${\ ($end + 1)} /, 'who goes on from the copy is told');
is(log_end($copies, 'early'), $end + 1, 'and gets nothing');

#
# A new subscription, behind what has come since
#
end_subscription('holed', 'holed');
sql($copies, 'holed', "CREATE SUBSCRIPTION again CONNECTION '" . source_of($standby, $db) . "' PUBLICATION log WITH (copy_data = false)");
wait_for_sql($standby, $db, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'again' AND active", 1);
sql($copies, 'holed', 'SELECT count(*) FROM seq_log');
append($standby, 2);
wait_for_sql($copies, 'holed', 'SELECT max(log_index) FROM seq_log', log_end($standby));
wait_applied($copies, 'holed');
is(sql($copies, 'holed', 'SELECT max(log_index) - count(*) > 0 FROM seq_log'), 't', 'a new subscription leaves a hole');
is(sql($copies, 'holed', 'SELECT lag, last_error IS NULL FROM seq_state'), '0|t', 'without an error');
sql($copies, 'holed', 'DROP SUBSCRIPTION again');
my $before = log_md5($copies, 'holed');
sql($copies, 'holed', q{SELECT seq_follow('} . source_of($standby, $db) . q{')});
wait_follower_state($copies, 'holed', 'other history');
like(follower($copies, 'holed', 'last_error'), qr/^the source has another history: at log_index /, 'which a follower finds');
append($standby, 2);
is_copy($standby, $db, $copies, 'followed', 'the follower has gone on all the while');
is(log_md5($copies, 'holed'), $before, 'and nothing is put behind a hole');

$_->stop foreach $copies, $standby;
nothing_crashed($_) foreach $copies, $standby, $source;
done_testing();
