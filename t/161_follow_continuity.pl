# A follower's log is a part of its source's, or it stops and says where it is not: what
# the source may lose is not got, another history, a hole, a source that is behind or has
# truncated too much are told from each other, and nothing is ever skipped.
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
my $source = new_node('source', -streaming => 1, synchronous_standby_names => '');
my $follower = new_node('follower', 'calvin_seq.follower_timeout' => '3s', 'calvin_seq.max_databases' => 8, max_worker_processes => 30);

create_extension($source, $db);
create_extension($follower, $db);

# "fork": with another content
sub append
{
	my ($node, $n, $fork) = @_;
	my $epoch = sql($node, $db, 'SELECT coalesce(seq_current_committed_epoch() + 1, 0)');

	append_batches($node, $db, $epoch, $epoch + $n - 1, [ $fork ? [ [ [ 'a', 1 ] ], 'ff', 1 ] : $txn ]);
	return;
}

sub log_end { my ($node) = @_; return sql($node, $db, 'SELECT max(log_index) FROM seq_log'); }

# It stays where it is, whatever comes at the source.
sub stopped
{
	my ($state, $regexp, $desc) = @_;
	my $before = log_md5($follower, $db);

	wait_follower_state($follower, $db, $state);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like(follower($follower, $db, 'last_error'), $regexp, $desc);
	is(log_md5($follower, $db), $before, "$desc: nothing is skipped, nothing lost");
	return;
}

append($source, 10);
$source->backup('early');
$source->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($source, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', "primary_conninfo = '" . $source->connstr . " application_name=standby'");
$standby->start;
wait_for_applier($standby, $db);
my $both = source_of([ $source, $standby ], $db, 'target_session_attrs=read-write connect_timeout=2');

#
# What the synchronous standby has not confirmed is not got; a failover loses nothing
#
follow($follower, $db, $both, $source);
$source->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = 'standby'");
$source->reload;
wait_for_sql($source, $db, "SELECT sync_state FROM pg_stat_replication", 'sync');
append($source, 5);
is_copy($source, $db, $follower, $db, 'under a synchronous standby');

my $receiver = sql($standby, $db, 'SELECT pid FROM pg_stat_wal_receiver');
kill 'STOP', $receiver;
my $end = log_end($source);
{
	my $impatient = session($source, $db);

	# its wait is cancelled: committed, visible, and not safe
	$impatient->send("SELECT seq_append_json('{\"EpochBatch\": {\"txns\": []}}')");
	wait_for_sql($source, $db, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'client backend'", 1);
	sql($source, $db, 'SELECT pg_cancel_backend(' . $impatient->pid . ')');
	$impatient->finish;
	$impatient->quit;
}
is(log_end($source), $end + 1, 'an entry is there that no standby has confirmed');
wait_for_sql($source, $db, "SELECT applier_state FROM seq_state", 'waiting for durability');
is(log_end($follower), $end, 'the follower does not get it');
$source->stop('immediate');
kill 'CONT', $receiver;
$standby->promote;
wait_for_applier($standby, $db);
append($standby, 5);
is_copy($standby, $db, $follower, $db, 'from the standby that was promoted');
like(follower($follower, $db, 'connected_to'), qr/:${\ $standby->port}$/, 'to which it is connected now');

#
# A source that is behind, for a while
#
$standby->backup('second', backup_options => [ '-c', 'fast' ]);
my $late = PostgreSQL::Test::Cluster->new('late');
$late->init_from_backup($standby, 'second', has_streaming => 1);
$late->start;
wait_for_applier($late, $db);
$standby->wait_for_catchup($late, 'replay', $standby->lsn('insert'));
sql($late, $db, 'SELECT pg_wal_replay_pause()');
append($standby, 3);
is_copy($standby, $db, $follower, $db, 'ahead of what replays later');
sql($follower, $db, q{SELECT seq_follow('} . source_of($late, $db) . q{')});
stopped('source behind', qr/^the source has applied up to log_index \d+ only, and we have log_index \d+; it goes on if/, 'a standby that is behind');
sql($late, $db, 'SELECT pg_wal_replay_resume()');
is_copy($standby, $db, $follower, $db, 'which catches up');
append($standby, 3);
is_copy($standby, $db, $follower, $db, 'following a hot standby');

#
# An asynchronous failover loses what the follower has: a fork, found when it goes on
#
sql($follower, $db, q{SELECT seq_follow('} . source_of($standby, $db) . q{')});
wait_follower_state($follower, $db, 'following');
$late->stop('immediate');
append($standby, 3);
is_copy($standby, $db, $follower, $db, 'before the failover');
$standby->stop('immediate');
$late->start;
$late->promote;
wait_for_applier($late, $db);
sql($follower, $db, q{SELECT seq_follow('} . source_of($late, $db) . q{')});
stopped('source behind', qr/if it has lost what we have, begin anew/, 'the new primary has lost entries');
append($late, 2, 1);
stopped('source behind', qr/^the source has applied up to log_index/, 'and goes its own way');
append($late, 2, 1);
my $last = log_end($follower);
stopped('other history', qr/^the source has another history: at log_index $last its digest is [0-9a-f]{16}, and ours [0-9a-f]{16}; one of the two logs/, 'beyond where the follower stands');
$late->stop('immediate');

#
# An older base of the same log that went its own way
#
my $older = PostgreSQL::Test::Cluster->new('older');
$older->init_from_backup($source, 'early');
$older->start;
wait_for_applier($older, $db);
append($older, 40, 1);
sql($follower, $db, q{SELECT seq_follow('} . source_of($older, $db) . q{')});
stopped('other history', qr/^the source has another history: at log_index $last /, 'restored from an older backup');

#
# Holes, as other ways to copy leave them
#
sub copy_of
{
	my ($name, $where) = @_;

	sql($follower, 'postgres', "DROP DATABASE IF EXISTS $name");
	sql($follower, 'postgres', "CREATE DATABASE $name");
	create_extension($follower, $name);
	my $rows = sql($older, $db, "COPY (SELECT log_index, entry FROM seq_log WHERE $where) TO STDOUT");
	my $session = session($follower, $name);
	$session->query("COPY seq_log (log_index, entry) FROM STDIN;\n$rows\n\\.");
	$session->quit;
	wait_applied($follower, $name);
	sql($follower, $name, q{SELECT seq_follow('} . source_of($older, $db) . q{')});
	return;
}
copy_of('holed', 'log_index <= 20 AND log_index <> 15');
wait_follower_state($follower, 'holed', 'other history');
like(follower($follower, 'holed', 'last_error'), qr/^the source has another history: at log_index 20 /, 'a hole in the middle of what is here');
is(sql($follower, 'holed', 'SELECT count(*) FROM seq_log'), 19, 'nothing is put behind it');
copy_of('whole', 'log_index <= 20');
is_copy_but_times('whole', 'without a hole it goes on');
sql($older, $db, q{INSERT INTO seq_log (log_index, entry) VALUES (1000, '')});
is_copy_but_times('whole', 'a hole that is the source\'s own is copied');

sub is_copy_but_times
{
	my ($name, $desc) = @_;

	wait_follows($older, $db, $follower, $name);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(state($follower, $name), state($older, $db), $desc);
}

# an entry more than the source has
sql($follower, 'whole', 'SELECT seq_unfollow()');
sql($follower, 'whole', q{INSERT INTO seq_log (log_index, entry) VALUES (1001, '')});
wait_applied($follower, 'whole');
append($older, 1);
sql($older, $db, q{INSERT INTO seq_log (log_index, entry) VALUES (1005, '')});
wait_applied($older, $db);
is(sql($older, $db, 'SELECT count(*) FROM seq_log WHERE log_index = 1001'), 1, 'both have gone on');
sql($follower, 'whole', q{SELECT seq_follow('} . source_of($older, $db) . q{')});
wait_follower_state($follower, 'whole', 'other history');
like(follower($follower, 'whole', 'last_error'), qr/at log_index 1001 /, 'each in its own way');
sql($follower, 'whole', q{SELECT seq_unfollow(); INSERT INTO seq_log (log_index, entry) VALUES (1003, '')});
wait_applied($follower, 'whole');
sql($follower, 'whole', q{SELECT seq_follow('} . source_of($older, $db) . q{')});
wait_follower_state($follower, 'whole', 'other history');
like(follower($follower, 'whole', 'last_error'), qr/^the source has no entry at log_index 1003, the last one here; /, 'where the source has nothing');

#
# Truncated beyond where the follower stands
#
copy_of('behind', 'log_index <= 12');
wait_follows($older, $db, $follower, 'behind');
sql($follower, 'behind', 'SELECT seq_unfollow()');
append($older, 10);
wait_applied($older, $db);
sql($older, $db, 'SELECT seq_truncate(seq_current_committed_epoch() - 3, true)');
sql($follower, 'behind', q{SELECT seq_follow('} . source_of($older, $db) . q{')});
wait_follower_state($follower, 'behind', 'truncated');
like(follower($follower, 'behind', 'last_error'), qr/^the source has truncated what comes behind log_index 1005, it begins behind log_index \d+; /, 'truncated too far');

#
# Whoever is no source
#
sql($older, $db, 'CREATE DATABASE empty');
sql($follower, 'postgres', 'CREATE DATABASE new');
create_extension($follower, 'new');
sql($follower, 'new', q{SELECT seq_follow('} . source_of($older, 'empty') . q{')});
wait_follower_state($follower, 'new', 'refused');
like(follower($follower, 'new', 'last_error'), qr/^the source has no extension calvin_seq in that database/, 'a database without the extension');
sql($older, $db, 'CREATE ROLE nobody LOGIN');
sql($follower, 'new', q{SELECT seq_follow('} . source_of($older, $db, 'user=nobody') . q{')});
wait_for_sql($follower, 'new', q{SELECT last_error ~ 'permission denied for function seq_feed_state; the role needs EXECUTE' FROM seq_follower});
pass('a role without the privilege');
sql($follower, 'new', q{SELECT seq_follow('} . source_of($follower, 'new') . q{')});
wait_for_sql($follower, 'new', q{SELECT last_error ~ '^the source is this database itself' FROM seq_follower});
pass('itself');
sql($follower, 'new', q{SELECT seq_follow('} . source_of($older, 'nowhere') . q{')});
wait_for_sql($follower, 'new', q{SELECT last_error ~ 'database "nowhere" does not exist' FROM seq_follower});
pass('a database that does not exist');

$_->stop foreach $older, $follower;
nothing_crashed($_) foreach $older, $follower, $late, $standby, $source;
done_testing();
