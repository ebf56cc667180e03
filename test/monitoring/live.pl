#!/usr/bin/perl
#
# live.pl
#     The files of monitoring/ against living servers: the exporters and Prometheus run,
#     what each alert rule is for is brought about, and each panel of the dashboard has
#     data. For scripts/monitoring.sh, which has made the clusters "source" and "follower":
#
#         perl live.pl TREE WORK BIN
#
# Times in the rules are shortened; those they have are what the unit tests are for.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Watched;

my ($tree, $work, $bin) = @ARGV;
my $w = Watched->new($tree, $work, $bin);
my @both = ('postgres_exporter', 'sql_exporter');

$| = 1;

#
# A source with traffic, a follower, and a database that logical replication feeds
#
foreach my $database ([ 'source', 'app' ], [ 'follower', 'app' ], [ 'follower', 'fed' ])
{
	$w->sql($database->[0], 'postgres', "CREATE DATABASE $database->[1]");
	$w->sql(@$database, 'CREATE EXTENSION calvin_seq');
}
$w->sql($_, 'postgres', 'CREATE ROLE monitor LOGIN IN ROLE pg_monitor') foreach 'source', 'follower';
$w->sql('source', 'app', <<'EOS');
CREATE ROLE feeder LOGIN REPLICATION;
GRANT EXECUTE ON FUNCTION seq_feed, seq_feed_state, seq_feed_note, seq_feed_acks TO feeder;
CREATE PUBLICATION log FOR TABLE seq_log WITH (publish = 'insert');
CREATE FUNCTION handle(t seq_txn) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM seq_json(t.plans); END $$;
CREATE FUNCTION fail(t seq_txn) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'planted'; END $$;
CREATE FUNCTION gone(t seq_txn) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT seq_create_group('mail', 4, NULL, ARRAY['orders']), seq_create_group('fetched', 4, NULL, ARRAY['other']);
SELECT seq_register('audit', ARRAY[seq_vshard('orders')]);
SELECT seq_register('idle', ARRAY[seq_vshard('nothing')]);
SELECT seq_handle('mail', 'handle(seq_txn)');
EOS
$w->sql('follower', 'app', "SELECT seq_follow('host=$work/source port=5432 dbname=app user=feeder')");
$w->sql('follower', 'fed', "CREATE SUBSCRIPTION log CONNECTION 'host=$work/source port=5432 dbname=app' PUBLICATION log");
$w->sql('follower', 'fed', "SELECT seq_follow_replication('the source')");
my @traffic = ('source', 'app', q{SELECT seq_send('orders', jsonb_build_object('at', clock_timestamp())) \watch 0.2});
$w->background(@traffic);
$w->background('source', 'app',
	q{SELECT seq_subscribe(ARRAY[seq_vshard('orders')], 'audit');},
	q{DO $$ BEGIN PERFORM count(*) FROM seq_receive(1000, '200 ms', 'audit'); PERFORM seq_commit('audit'); END $$ \watch 0.2});
$w->start_watching;

#
# Nothing is wrong
#
foreach my $check (
	[ 'postgres_exporter', 'calvin_seq_state_log_end', 3 ],
	[ 'sql_exporter', 'calvin_seq_state_log_end', 3 ],
	[ 'cloudnativepg', 'calvin_seq_state_log_end', 1 ],
	[ 'postgres_exporter', 'calvin_seq_follower_well', 2 ],
	[ 'sql_exporter', 'calvin_seq_follower_well', 2 ],
	[ 'postgres_exporter', 'calvin_seq_behind_seconds{kind="follower"}', 1 ],
	[ 'cloudnativepg', 'calvin_seq_behind_seconds{kind="handler"}', 1 ],
	[ 'sql_exporter', 'calvin_seq_behind_seconds{kind="stream"}', 2 ])
{
	my ($job, $expr, $n) = @$check;

	$expr .= '{}' unless $expr =~ /\}$/;
	$expr =~ s/\}$/, job="$job"}/;
	$expr =~ s/\{, /{/;
	$w->wait_value("count($expr)", $n, "$job: $expr");
}
$w->wait_value('count(count by (__name__) ({__name__=~"calvin_seq_.*", job="postgres_exporter"} or on (__name__) {__name__=~"calvin_seq_.*", job="sql_exporter"}))',
	$w->query('count(count by (__name__) ({__name__=~"calvin_seq_.*", job="sql_exporter"}))'), 'both exporters have the same names');
$w->wait_value('min(calvin_seq_sequencer_well) + min(calvin_seq_state_applier_running) + min(calvin_seq_follower_well)', 3, 'all is well');
$w->wait_value('max(calvin_seq_behind_seconds{name="idle"})', 0, 'an idle consumer is not behind');
$w->queries_as_pg_monitor($_, 'app') foreach 'source', 'follower';
$w->settle;
$w->none_active('nothing fires while all is well');

#
# Consumers, groups, handlers, queues; what is odd in the log, and rejected
#
my $small_queue = $w->opened('source', 'app', "SELECT seq_subscribe(ARRAY[seq_vshard('large')], 'small', queue_size => 8192);");
my $bare = $w->opened('source', 'app', "SELECT seq_subscribe(ARRAY[seq_vshard('orders')], 'bare', queue_size => 8192, lossless => false);");
$w->not_active(qw(CalvinSeqConsumerBehind CalvinSeqConsumerStalled CalvinSeqParked CalvinSeqHandlerNotRunning CalvinSeqHandlerFailing
	CalvinSeqDropped CalvinSeqBackpressure CalvinSeqStalledWithoutLag CalvinSeqLogOdd CalvinSeqRejected));
$w->sql('source', 'app', "INSERT INTO seq_log (entry) VALUES ('\\xc1')");
$w->sql_fails('source', 'app', "SELECT seq_send('orders', to_jsonb(repeat('x', 2000000)))");
$w->fires(\@both, qw(CalvinSeqLogOdd CalvinSeqRejected));
$w->sql('source', 'app', "SELECT seq_register('sleepy', ARRAY[seq_vshard('orders')], 0)");
$w->sql('source', 'app', "SELECT seq_send('other', '1')");
$w->wait_sql('source', 'app', "SELECT seq_pending('fetched') = 1");
$w->sql('source', 'app', "SELECT seq_park('fetched', vshard, epoch, position, 'planted') FROM seq_fetch('fetched', 1)");
$w->sql('source', 'app', "SELECT seq_create_group('failing', 1, NULL, ARRAY['orders']), seq_create_group('unmade', 1, NULL, ARRAY['orders'])");
$w->sql('source', 'app', "SELECT seq_handle('failing', 'fail(seq_txn)', max_attempts => 100000, backoff => '1 s'), seq_handle('unmade', 'gone(seq_txn)')");
$w->sql('source', 'app', 'DROP FUNCTION gone');
$w->sql('source', 'app', "SELECT count(seq_send('orders', jsonb_build_object('n', n, 'fill', repeat('x', 200)))) FROM generate_series(1, 200) n");
$w->sql('source', 'app', "SELECT seq_send('large', to_jsonb(repeat('x', 20000)))");
$w->wait_sql('source', 'app', "SELECT state = 'stalled' AND lag > 0 FROM seq_subscriptions WHERE name = 'small'");
$small_queue->say("SELECT count(*) FROM seq_receive(10, '10 s', 'small');");
# what dropped once is seen as an increase only if it goes on
my $burst = $w->background('source', 'app', q{SELECT count(seq_send('orders', jsonb_build_object('n', n, 'fill', repeat('x', 200)))) FROM generate_series(1, 100) n \watch 1});
$w->fires(\@both, qw(CalvinSeqConsumerBehind CalvinSeqConsumerStalled CalvinSeqParked CalvinSeqHandlerNotRunning CalvinSeqHandlerFailing
	CalvinSeqDropped CalvinSeqBackpressure CalvinSeqStalledWithoutLag));
$w->fires_with('CalvinSeqConsumerBehind', name => 'sleepy');
$w->fires_with('CalvinSeqHandlerNotRunning', name => 'unmade');
$w->fires_with('CalvinSeqHandlerFailing', name => 'failing');
$w->dashboard;
$burst->stop;
$bare->stop;
$small_queue->stop;
$w->sql('source', 'app', "SELECT seq_unhandle('failing'), seq_unhandle('unmade')");
$w->sql('source', 'app', "SELECT seq_drop_group('failing'), seq_drop_group('unmade'), seq_drop_group('fetched')");
$w->rests(qw(CalvinSeqParked CalvinSeqHandlerNotRunning CalvinSeqHandlerFailing CalvinSeqDropped CalvinSeqStalledWithoutLag CalvinSeqBackpressure
	CalvinSeqLogOdd CalvinSeqRejected));

#
# The applier and the sequencer
#
my $applier = $w->sql('source', 'app', 'SELECT applier_pid FROM seq_state');
$w->not_active(qw(CalvinSeqApplierStuck CalvinSeqSequencerStuck CalvinSeqInboxGrowing));
kill 'STOP', $applier;
$w->fires(\@both, 'CalvinSeqApplierStuck');
kill 'CONT', $applier;
my $appender = $w->opened('source', 'app', 'BEGIN;', q(SELECT seq_append_json('{"EpochBatch": {"txns": []}}');));
$w->fires(\@both, qw(CalvinSeqSequencerStuck CalvinSeqInboxGrowing));
$appender->stop;
$w->rests(qw(CalvinSeqApplierStuck CalvinSeqSequencerStuck CalvinSeqInboxGrowing));

# nobody starts them again
my $launcher = $w->sql('source', 'app', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'calvin_seq launcher'");
$w->not_active(qw(CalvinSeqApplierNotRunning CalvinSeqSequencerNotRunning));
kill 'STOP', $launcher;
$w->sql('source', 'app', 'SELECT pg_terminate_backend(s.applier_pid), pg_terminate_backend(q.pid) FROM seq_state s, seq_sequencer q');
$w->fires(\@both, qw(CalvinSeqApplierNotRunning CalvinSeqSequencerNotRunning));
kill 'CONT', $launcher;
$w->rests(qw(CalvinSeqApplierNotRunning CalvinSeqSequencerNotRunning));

$w->not_active(qw(CalvinSeqApplierErrors CalvinSeqSequencerErrors));
# with something left for both to do
my @workers = split /\|/, $w->sql('source', 'app', 'SELECT s.applier_pid, q.pid FROM seq_state s, seq_sequencer q');
kill 'STOP', @workers;
$w->sql('source', 'app', "INSERT INTO seq_log (entry) VALUES ('')");
$w->sql('source', 'app', "SELECT seq_send('orders', '1')");
my $guard = 'ALTER EVENT TRIGGER seq_log_guard';
$w->sql('source', 'app', "$guard DISABLE; ALTER INDEX seq_log_epoch_idx RENAME TO seq_log_away; $guard ENABLE ALWAYS");
kill 'CONT', @workers;
$w->wait_log('source', qr/calvin_seq applier.*ERROR: .*\n(?:.*\n)*.*calvin_seq sequencer.*ERROR: |calvin_seq sequencer.*ERROR: .*\n(?:.*\n)*.*calvin_seq applier.*ERROR: /);
$w->sql('source', 'app', "$guard DISABLE; ALTER INDEX seq_log_away RENAME TO seq_log_epoch_idx; $guard ENABLE ALWAYS");
$w->background(@traffic);
$w->fires(\@both, qw(CalvinSeqApplierErrors CalvinSeqSequencerErrors));

#
# Followers, and what is lost
#
$w->not_active(qw(CalvinSeqFollowerStopped CalvinSeqFollowerBehind CalvinSeqFollowerLost CalvinSeqConsumerLost CalvinSeqReplicationFails CalvinSeqMetricsGone));
$w->sql('source', 'app', "ALTER ROLE feeder NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'feeder'");
$w->fires(\@both, qw(CalvinSeqFollowerStopped CalvinSeqFollowerBehind));
$w->sql('source', 'app', 'ALTER ROLE feeder LOGIN');
$w->rests(qw(CalvinSeqFollowerStopped CalvinSeqFollowerBehind));
$w->sql('source', 'app', "ALTER ROLE feeder NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'feeder'");
$w->sql('source', 'app', "SELECT seq_send('orders', '1')");
$w->wait_sql('source', 'app', 'SELECT max(lag) > 3 FROM seq_followers');
# what is in the way of the log as well
$w->sql('source', 'app', 'CREATE TABLE more (i int); ALTER PUBLICATION log ADD TABLE more');
$w->sql('source', 'app', 'INSERT INTO more VALUES (1)');
$w->sql('source', 'app', 'SELECT seq_truncate(seq_last_applied_epoch(), true)');
$w->fires(\@both, qw(CalvinSeqConsumerLost CalvinSeqFollowerLost CalvinSeqReplicationFails));
$w->fires_with('CalvinSeqConsumerLost', name => 'sleepy');

#
# Nobody can say anything any more
#
$w->stop_server('follower');
$w->fires(\@both, 'CalvinSeqMetricsGone');

$w->all_fired;
$w->finish;
