# How old the oldest is that has not been processed, as seq_behind has it from the log:
# of the applier, of consumers by name, groups and handlers, and of followers.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinFollow;
use CalvinPause;
use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

require_pauses();

my $db = 'postgres';
my $node = new_node('behind', -streaming => 1);
create_extension($node, $db);
my ($va, $vb, $vc) = map { vshard_of($_) } qw(a b c);
my $epoch = 0;

sub append
{
	my ($collection, $n) = @_;

	append_batches($node, $db, $epoch, $epoch + $n - 1, [ [ [$collection], 'ab', 1 ] ]);
	$epoch += $n;
	return wait_for_epoch($node, $db, $epoch - 1);
}

# The epoch that a row of seq_behind is about, 'none' if there is nothing to come.
sub first_of
{
	my ($where, $session) = @_;
	my $sql = "SELECT CASE WHEN oldest_unprocessed IS NULL AND behind = '0' THEN 'none' WHEN behind > '0' THEN (SELECT string_agg(epoch::text, ',') FROM seq_log WHERE appended_at = oldest_unprocessed) END FROM seq_behind WHERE $where";

	return $session ? $session->query($sql) : sql($node, $db, $sql);
}

# Pages that a look at it takes, of the log and all else.
sub pages
{
	my ($session) = @_;
	my $plan = $session->query('EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT * FROM seq_behind');
	my $n = 0;

	$plan =~ s/Planning:.*//s;
	my ($line) = $plan =~ /Buffers: shared (.*)/ or die $plan;
	$n += $1 while $line =~ /(?:hit|read)=(\d+)/g;
	return $n;
}

sub commit_all
{
	my ($name, $vshard) = @_;

	return sql($node, $db, "SELECT seq_subscribe('{$vshard}', '$name'); SELECT count(*) FROM seq_receive(100000, '0', '$name'); SELECT seq_commit('$name');");
}

#
# An empty log, and consumers
#
is(sql($node, $db, 'SELECT kind, name, behind, lost, pids = ARRAY[(SELECT applier_pid FROM seq_state)] FROM seq_behind'), 'applier||00:00:00|f|t', 'an empty log: there is the applier, not behind');
sql($node, $db, "SELECT seq_register('one', '{$va,$vb}', 0), seq_register('idle', '{$vc}', 0), seq_create_group('g', 4, NULL, ARRAY['b%'], 0)");
is(first_of("name = '$_'"), 'none', "$_: nothing has come") foreach qw(one idle g);
is(sql($node, $db, "SELECT string_agg(kind || coalesce(id, '?'), ' ' ORDER BY name) = (SELECT string_agg(kind || id, ' ' ORDER BY name) FROM seq_registrations) FROM seq_behind WHERE kind <> 'applier'"), 't', 'each with its registration');

# others' are not counted, wherever they stand
append('d', 3);
append('a', 1);
append('b', 2);
is(first_of("name = 'one'"), 3, 'a stream: the first that is for it, not the first behind where it stands');
is(first_of("name = 'g'"), 4, 'a group: the first that passes its filter');
is(first_of("name = 'idle'"), 'none', 'one for which nothing has come is not behind');
is(first_of("kind = 'applier'"), 'none', 'nor is the applier');
is(sql($node, $db, "SELECT b.oldest_unprocessed = c.oldest_unprocessed FROM seq_behind b JOIN seq_consumers c USING (name) ORDER BY name"), "t\n\nt", 'as seq_consumers has it');

commit_all('one', "$va,$vb");
is(first_of("name = 'one'"), 'none', 'what has caught up is not behind');
is(sql($node, $db, "SELECT count(*) FROM (SELECT * FROM seq_fetch('g', 1)) f"), 1, 'the group fetches one');
is(first_of("name = 'g'"), 5, 'and the next is the oldest');
sql($node, $db, "CREATE FUNCTION h(t seq_txn) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'never'; END \$\$; SELECT seq_handle('g', 'h(seq_txn)', max_attempts => 1000, backoff => '1 minute')");
is(sql($node, $db, "SELECT kind FROM seq_behind WHERE name = 'g'"), 'handler', 'a handler is one');
is(first_of("name = 'g'"), 5, 'whose failures leave it behind');
sql($node, $db, "SELECT seq_unhandle('g')");
wait_for_sql($node, $db, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'calvin_seq handler'", 0);
sql($node, $db, "SELECT seq_park('g', $vb, 5, 0, 'for now')");
is(first_of("name = 'g'"), 'none', 'what is parked is not waited for');
is(sql($node, $db, 'SELECT name, parked FROM seq_behind ORDER BY name'), "g|1\nidle|\none|\n|", 'but counted');

#
# Cheap, also where nothing has come for long and nobody has noted it
#
sql($node, $db, "SELECT seq_append_json(jsonb_build_object('EpochBatch', jsonb_build_object('txns', jsonb_build_array(jsonb_build_object('tx_class', jsonb_build_object('plans', '\\x' || repeat('ab', 1000), 'write_set', '[{\"Document\": {\"collection\": \"d\"}}]'::jsonb)))))) FROM generate_series(1, 3000)");
$epoch += 3000;
wait_for_epoch($node, $db, $epoch - 1);
sql($node, $db, 'SELECT seq_snapshot()');
$node->restart;
wait_for_applier($node, $db);
my $s = session($node, $db);
my $first = pages($s);
my $again = pages($s);
cmp_ok($first, '>', 3 * $again, "the first look of a session goes through the log ($first pages)");
cmp_ok($again, '<', 400, "the next does not ($again pages)");
is(first_of("name = 'idle'", $s), 'none', 'it still is not behind');
append('c', 1);
append('d', 10);
is(first_of("name = 'idle'", $s), $epoch - 11, 'and then it is, by the one that has come');
is(first_of("name = 'idle'"), $epoch - 11, 'as for a session that never looked');
cmp_ok(pages($s), '<', 400, 'which costs no more, however often it is asked');
commit_all('idle', $vc);
is(first_of("name = 'idle'", $s), 'none', 'when it has caught up it is not');
append('c', 2);
is(first_of("name = 'idle'", $s), $epoch - 2, 'a new one is found');

# a session that looked is told of what others do
sql($node, $db, "SELECT seq_unregister('idle'); SELECT seq_register('idle', '{$vc}', 0)");
is(first_of("name = 'idle'", $s), $epoch - 13, 'registered anew, from the beginning: what it is behind by then');

#
# The applier
#
my $pauses = pauses($node, $db);
$pauses->arm('apply: entry');
append_batches($node, $db, $epoch, $epoch + 1, [ [ ['a'], 'ab', 1 ] ]);
$pauses->reached('apply: entry');
is(first_of("kind = 'applier'"), $epoch, 'the applier is behind by the first it has not applied');
is(first_of("name = 'one'"), $epoch, 'a consumer by what is not applied, too');
$pauses->release('apply: entry');
$epoch += 2;
wait_for_epoch($node, $db, $epoch - 1);
is(first_of("kind = 'applier'"), 'none', 'and then it is not');

#
# A standby
#
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
wait_for_applier($standby, $db);
wait_for_sql($standby, $db, sprintf "SELECT seq_wait_for_epoch(%d, '10s')", $epoch - 1);
my $all = "SELECT string_agg(concat_ws('/', kind, name, id, oldest_unprocessed, lost, parked), ' ' ORDER BY kind, name) FROM seq_behind";
is(sql($standby, $db, $all), sql($node, $db, $all), 'a standby has the same');
$standby->stop;

#
# Followers
#
my $follower = new_node('copy', 'calvin_seq.follower_timeout' => '3s', cluster_name => 'copy');
create_extension($follower, $db);
follow($follower, $db, source_of($node, $db), $node);
wait_for_sql($node, $db, "SELECT lag FROM seq_followers", 0);
is(first_of("kind = 'follower'"), 'none', 'a follower that has all');
is(sql($node, $db, "SELECT b.name, b.last_progress = f.seen_at FROM seq_behind b JOIN seq_followers f USING (id)"), 'copy/postgres|t', 'it has its name');
$follower->stop;
append('a', 2);
is(first_of("kind = 'follower'"), $epoch - 2, 'one that is away, by the first it has not got');
$follower->start;
wait_for_sql($node, $db, "SELECT oldest_unprocessed IS NULL FROM seq_behind WHERE kind = 'follower'");
is(first_of("kind = 'follower'"), 'none', 'and it comes back');

#
# What is lost
#
$follower->stop;
append('a', 5);
sql($node, $db, sprintf('SELECT seq_truncate(%d, true)', $epoch - 1));
is(sql($node, $db, "SELECT string_agg(kind || ':' || lost, ' ' ORDER BY kind, name) FROM seq_behind"), 'applier:false follower:true group:false stream:true stream:true', 'who has lost something');
is(sql($node, $db, "SELECT b.lost = c.lost_too FROM seq_behind b JOIN (SELECT name, state = 'lost' AS lost_too FROM seq_consumers) c USING (name)"), "t\nt\nt", 'as seq_consumers has it');

#
# Who may
#
sql($node, $db, 'CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE ROLE nobody LOGIN');
my $watcher = session($node, $db, user => 'watcher');
is($watcher->query('SELECT count(*) FROM seq_behind'), 5, 'pg_monitor may');
is($watcher->query('BEGIN READ ONLY; SELECT count(*) FROM seq_behind; COMMIT'), 5, 'read only, too');
like($watcher->error('SELECT * FROM seq_log'), qr/^42501/, 'and has not got the log');
my $nobody = session($node, $db, user => 'nobody');
like($nobody->error('SELECT * FROM seq_behind'), qr/^42501/, 'others may not');
like($nobody->error('SELECT * FROM seq_behind_info()'), qr/^42501/, 'nor call its function');
$_->quit foreach $s, $watcher, $nobody, $pauses;

nothing_crashed($node);
done_testing();
