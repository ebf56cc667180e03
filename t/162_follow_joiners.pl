# Followers that come late: an empty one begins with the source's base, one that is made
# from a base backup where that ends; and copies of a follower itself, by streaming
# replication and by pg_dump, neither lose their place nor go their own way unasked.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinFollow;
use CalvinGroup;
use CalvinPause;
use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $txn = [ [ [ 'a', 1 ], [ 'b', 2 ] ], 'ab', 1 ];
my $source = new_node('source', -streaming => 1, 'calvin_seq.snapshot_interval' => 7);
my $follower = new_node('follower', -streaming => 1, 'calvin_seq.snapshot_interval' => 5, 'calvin_seq.max_databases' => 8, max_worker_processes => 30);
my $to = source_of($source, $db);

create_extension($_, $db) foreach $source, $follower;

sub append
{
	my ($n) = @_;
	my $epoch = sql($source, $db, 'SELECT coalesce(seq_current_committed_epoch() + 1, 0)');

	append_batches($source, $db, $epoch, $epoch + $n - 1, [$txn]);
	return;
}

# Of both the rows from where both logs have begun.
sub is_tail
{
	my ($node, $name, $desc) = @_;

	wait_follows($source, $db, $node, $name);
	my ($first) = sort { $b <=> $a } sql($node, $name, 'SELECT min(log_index) FROM seq_log'), sql($source, $db, 'SELECT min(log_index) FROM seq_log');
	my $md5 = "SELECT count(*), md5(string_agg(log_index || md5(entry) || kind || coalesce(epoch, -1), ' ' ORDER BY log_index)) FROM seq_log WHERE log_index >= $first";
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(sql($node, $name, $md5), sql($source, $db, $md5), "$desc: the same rows");
	is(state($node, $name), state($source, $db), "$desc: the same state");
	return;
}

#
# The source's log is empty, then begins
#
follow($follower, $db, $to);
wait_follower_state($follower, $db, 'following');
append(40);
is_copy($source, $db, $follower, $db, 'followed before there was a log');
is(sql($follower, $db, 'SELECT identity FROM seq_identity'), sql($source, $db, 'SELECT identity FROM seq_identity'), 'it is the same log');

#
# A log that was truncated: the base, and what is behind it
#
sql($source, $db, 'SELECT seq_truncate(20, true)');
append(5);
sql($follower, $db, 'CREATE DATABASE late');
create_extension($follower, 'late');
follow($follower, 'late', $to, $source);
is_tail($follower, 'late', 'an empty follower of a truncated log');
my $base = 'SELECT log_index, last_applied_epoch, digest, entry_length, entry_crc, identity FROM seq_snapshots WHERE base';
is(sql($follower, 'late', $base), sql($source, $db, $base), 'it has the same base');
append(5);
is_tail($follower, 'late', 'and goes on');
like(sql_error($follower, 'late', "SELECT count(*) FROM seq_replay(0, 3, 4)"), qr/^55000: epoch 3 was truncated/, 'what it has not got is told');
wait_applied($follower, 'late');
$follower->restart;
append(5);
is_tail($follower, 'late', 'after a restart');

# each truncates for itself
sql($follower, 'late', 'SELECT seq_truncate(30, true)');
append(3);
is_tail($follower, 'late', 'truncated there');
is_tail($follower, $db, 'which is nothing to others');

#
# The base moves between the look at it and the first rows
#
SKIP:
{
	skip 'not a build with pause points', 2 unless $ENV{CALVIN_PAUSE_POINTS};
	sql($follower, $db, 'CREATE DATABASE racing');
	create_extension($follower, 'racing');
	my $p = pauses($source, 'template1');
	# any session: the applications' own read no feed
	$p->arm('feed: state read', 0, 0);
	# those of the followers that are there wait for something to come
	sql($follower, $_, 'SELECT seq_unfollow()') foreach $db, 'late';
	sql($follower, 'racing', "SELECT seq_follow('$to')");
	$p->reached('feed: state read');
	sql($source, $db, 'SELECT seq_truncate(35, true)');
	$p->release('feed: state read');
	is_tail($follower, 'racing', 'the base has moved meanwhile');
	$p->quit;
	sql($follower, $_, "SELECT seq_follow('$to')") foreach $db, 'late';
}

# but a follower that had rows is never given a later base
sql($follower, 'late', 'SELECT seq_unfollow()');
append(10);
wait_applied($source, $db);
sql($source, $db, 'SELECT seq_truncate(seq_current_committed_epoch() - 1, true)');
sql($follower, 'late', "SELECT seq_truncate(seq_current_committed_epoch(), true)");
sql($follower, 'late', "SELECT seq_follow('$to')");
wait_follower_state($follower, 'late', 'truncated');
pass('who had rows does not jump to a later base');

#
# A base backup of the source
#
$source->backup('backup');
append(5);
my $copy = PostgreSQL::Test::Cluster->new('copy');
$copy->init_from_backup($source, 'backup');
$copy->start;
wait_for_applier($copy, $db);
follow($copy, $db, $to, $source);
is_tail($copy, $db, 'made from a base backup');
$copy->stop;

#
# A standby of the follower, which is promoted
#
wait_follows($source, $db, $follower, $db);
$follower->backup('followers');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($follower, 'followers', has_streaming => 1);
$standby->start;
wait_for_applier($standby, $db);
append(5);
wait_follows($source, $db, $follower, $db);
is_tail($standby, $db, 'a standby of the follower');
is(follower($standby, $db, 'state, pid IS NULL'), 'standby|t', 'which follows nobody itself');
$follower->stop('immediate');
append(5);
$standby->promote;
is_tail($standby, $db, 'and goes on when it is promoted');
wait_follower_state($standby, $db, 'following');
like(sql_error($standby, $db, q{SELECT seq_send('a', '1')}), qr/^25006: .* this database follows/, 'as a follower');

#
# A dump of the follower, restored elsewhere
#
my $dump = $standby->data_dir . '/dump.sql';
sql($standby, $db, "SELECT seq_create_group('g', 4)");
$standby->command_ok([ 'pg_dump', '-d', $standby->connstr($db), '-f', $dump ], 'pg_dump of a follower');
unlike(slurp_file($dump), qr/host=/, 'without the connection string');
sql($standby, $db, 'CREATE DATABASE restored');
$standby->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $standby->connstr('restored') ], 'restored elsewhere');
wait_applied($standby, 'restored');
is(follower($standby, 'restored', "state, source ~ '^database \"postgres\"'"), 'restored|t', 'it does not follow');
my $refused = qr/^25006: .*: this database follows database "postgres" on host .*\nDETAIL:  It was restored from the dump of a follower/s;
like(sql_error($standby, 'restored', q{SELECT seq_append_json('{"EpochBatch": {"txns": []}}')}), $refused, 'nor append');
like(sql_error($standby, 'restored', q{SELECT seq_send('a', '1')}), $refused, 'nor take submissions');
like(sql_error($standby, 'restored', q{INSERT INTO seq_log (entry) VALUES ('')}), $refused, 'nor raw entries');
append(5);
is_tail($standby, $db, 'the follower itself');
follow($standby, 'restored', $to, $source);
is_tail($standby, 'restored', 'when it is told to follow, it does');

sql($standby, $db, 'CREATE DATABASE own');
$standby->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $standby->connstr('own') ], 'restored once more');
sql($standby, 'own', 'SELECT seq_unfollow()');
like(sql($standby, 'own', q{SELECT seq_append_json('{"EpochBatch": {"txns": []}}')}), qr/^\d+$/, 'when it is told to be on its own, it is');

# not preloaded, the table alone tells
$standby->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$standby->restart;
like(sql_error($standby, $db, q{SELECT seq_append_json('{"EpochBatch": {"txns": []}}')}), qr/^25006: .*follows/, 'not preloaded: refused as well');
like(sql($standby, 'own', q{SELECT seq_append_json('{"EpochBatch": {"txns": []}}')}), qr/^\d+$/, 'and where the log is its own, not');

$_->stop foreach $standby, $source;
nothing_crashed($_) foreach $source, $follower, $standby, $copy;
done_testing();
