# Truncation and those who need nothing of what goes: it must not cost them
# their subscriptions, whatever happens to them afterwards.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('consumers',
	-streaming => 1,
	wal_level => 'logical',
	max_replication_slots => 4,
	'calvin_seq.max_databases' => 6);
my $epoch = 0;
my %vshard = map { ($_ => vshard_of($_)) } 'a' .. 'c';

create_extension($node, $db);

# The next epochs, each with one transaction for this collection.
sub append
{
	my ($collection, $n, $plans) = @_;

	append_batches($node, $db, $epoch, $epoch + $n - 1, [ [ [$collection], $plans || 'ab', 1 ] ]);
	$epoch += $n;
	wait_for_epoch($node, $db, $epoch - 1);
	return $epoch - 1;
}

# As much as can be, which must be more than nothing.
sub truncate_all
{
	my ($desc, $force) = @_;

	cmp_ok(sql($node, $db, 'SELECT seq_truncate(' . ($epoch - 1) . ($force ? ', true)' : ')')), '>', 0, $desc);
	return;
}

sub replace_applier
{
	my $pid = wait_for_applier($node, $db);

	sql($node, $db, "SELECT pg_terminate_backend($pid)");
	wait_for_sql($node, $db, "SELECT applier_pid <> $pid AND applier_state = 'idle' FROM seq_state");
	return;
}

my $s = session($node, $db);
my $received = q{SELECT string_agg(epoch::text, ' ' ORDER BY epoch) FROM seq_receive(name => 'c')};

sub subscribe
{
	$s->query("SELECT seq_subscribe('{$vshard{a}}', 'c', queue_size => 8192)");
	return;
}

#
# A consumer for which nothing came
#
foreach my $force (0, 1)
{
	my $how = $force ? ' (forced)' : '';

	subscribe();
	append('b', 10);
	truncate_all("past a consumer for which nothing came$how", $force);
	my $large = append('a', 1, 'ab' x 20_000);
	is($s->query($received), $large, "it gets what does not fit into its queue$how");
	append('b', 10);
	truncate_all("and once more$how", $force);
	append('b', 10);
	truncate_all("and again, with nothing in between$how", $force);
	replace_applier();
	my $next = append('a', 1);
	is($s->query($received), $next, "and what came when it was not attached$how");
}

# one that could be rolled back to before what was truncated
subscribe();
append('b', 5);
$s->query('BEGIN');
is($s->query($received), '', 'nothing yet');
append('b', 5);
truncate_all('past one that waits in a transaction');
my $first = append('a', 1);
is($s->query($received), $first, 'received');
$s->query('ROLLBACK');
is($s->query($received), $first, 'and again after a rollback');

# one that has all, but cannot know that nothing follows in the same epoch
append('a', 3);
is($s->query(q{SELECT count(*) FROM seq_receive(3, name => 'c')}), 3, 'exactly all');
append('c', 5);
truncate_all('past one that has all');
replace_applier();
my $next = append('a', 1);
is($s->query($received), $next, 'it goes on with the next');

# but what it lacks it is told of, noted or not
append('b', 5);
truncate_all('nothing for it');
append('a', 5);
append('b', 5);
like(sql_error($node, $db, 'SELECT seq_truncate(' . ($epoch - 1) . ')'),
	qr/^55006: cannot truncate past the subscription "c"/, 'now there is something');
replace_applier();
truncate_all('forced', 1);
$s->query("SELECT seq_subscribe('{$vshard{b}}', 'd')");
$next = append('a', 1, 'ab' x 20_000);
like($s->error($received), qr/^55000: subscription "c" needs epoch/, 'it is told') for 1 .. 2;

# one that is behind, but not by anything of what goes
$s->query("SELECT seq_unsubscribe(name => 'd')");
subscribe();
append('b', 5);
my $kept = $epoch;
$first = append('a', 1, 'ab' x 20_000);
append('b', 5);
is(sql($node, $db, "SELECT seq_truncate($kept)") > 0, 1, 'past one that needs only what stays');
like(sql_error($node, $db, 'SELECT seq_truncate(' . ($epoch - 1) . ')'),
	qr/^55006: cannot truncate past the subscription "c"/, 'which is kept');
is($s->query($received), $first, 'it gets that');
$s->query("SELECT seq_unsubscribe(name => 'c')");

#
# Durable cursors of quiet vshards
#
my $cursors = q{SELECT string_agg(vshard || ':' || epoch || '.' || position || ' v' || version, ' ' ORDER BY vshard) FROM seq_cursors};
my $take = q{SELECT coalesce(string_agg(vshard || ':' || epoch, ' ' ORDER BY epoch, vshard), '') FROM seq_receive(name => 'q')};

$s->query("SELECT seq_subscribe('{$vshard{a},$vshard{b}}', 'q')");
append('b', 1);
my $start = $epoch;
$s->query("BEGIN; $take; SELECT seq_commit('q'); COMMIT");
is(sql($node, $db, $cursors), "$vshard{a}:$start.0 v1 $vshard{b}:$start.0 v1", 'cursors');
append('b', 9);
$s->query("BEGIN; $take; SELECT seq_commit('q'); COMMIT");
is(sql($node, $db, $cursors), "$vshard{a}:$start.0 v1 $vshard{b}:$epoch.0 v2", 'that of a quiet vshard is not stored anew');
append('c', 1);
truncate_all('past a cursor for which nothing came');
is(sql($node, $db, $cursors), "$vshard{a}:" . ($epoch - 1) . ".0 v1 $vshard{b}:$epoch.0 v2"
	  =~ s/$vshard{b}:$epoch/"$vshard{b}:" . ($epoch - 1)/er, 'which is moved along');
append('a', 2);
is($s->query("BEGIN; $take"), join(' ', map { "$vshard{a}:$_" } $epoch - 2, $epoch - 1), 'its consumer does not notice');
$s->query('ROLLBACK');
is($s->query("BEGIN; $take"), join(' ', map { "$vshard{a}:$_" } $epoch - 2, $epoch - 1), 'after a rollback neither');
is($s->query("SELECT seq_commit('q'); COMMIT"), 1, 'and commits');

# without a consumer; and not where something came
append('b', 5);
$s->query("SELECT seq_unsubscribe(name => 'q')");
like(sql_error($node, $db, 'SELECT seq_truncate(' . ($epoch - 2) . ')'),
	qr/^55006: cannot truncate past the durable cursor "q" of vshard $vshard{b}\nDETAIL: .* 1 cursor needs/,
	'a cursor for which something came');
append('c', 5);
truncate_all('forced past one of two', 1);
like(sql_error($node, $db, "SELECT seq_subscribe('{$vshard{b}}', 'q')"),
	qr/^55000: subscription "q" needs epoch/, 'what was lost is not hidden');
$s->query("SELECT seq_subscribe('{$vshard{a}}', 'q')");
$next = append('a', 1);
is($s->query($take), "$vshard{a}:$next", 'the other one is whole');
append('c', 5);
like(sql_error($node, $db, 'SELECT seq_truncate(' . ($epoch - 1) . ')'),
	qr/^55006: cannot truncate past the durable cursor "q" of vshard $vshard{b}\n/, 'it holds back until it is dropped');
sql($node, $db, "SELECT seq_drop_cursor('q', '{$vshard{b}}')");
$s->query("SELECT seq_commit('q'), seq_unsubscribe(name => 'q')");

# while its consumer is about to commit
$s->query("SELECT seq_subscribe('{$vshard{a}}', 'q')");
append('c', 5);
$next = append('a', 1);
$s->query("BEGIN; $take; SELECT seq_commit('q')");
append('c', 1100);
my $truncating = session($node, $db);
$truncating->send("SELECT seq_truncate($next) > 0");
$s->query('COMMIT');
is(($truncating->finish)[0], 't', 'a commit under way goes first');
is(sql($node, $db, $cursors), "$vshard{a}:" . ($next + 1) . '.0 v4', 'and what it stored stays');
$truncating->quit;
$s->query("SELECT seq_unsubscribe(name => 'q'), seq_drop_cursor('q')");

#
# What cannot be subscribed to changes nothing
#
subscribe();
$s->query("SELECT seq_subscribe('{$vshard{b}}', 'c')");
my $other = session($node, $db);
foreach my $who ([ $s, 'this' ], [ $other, 'another' ])
{
	like($who->[0]->error("SELECT seq_subscribe('{$vshard{a}}', 'c', from_epoch => 3)"),
		qr/^55000: subscription "c" needs epoch 3, which was truncated/, "from what was truncated, by $who->[1] session");
	$next = append('a', 1);
	is($s->query($received), $next, 'the subscription there was goes on');
}
$s->query("BEGIN; SELECT seq_commit('c'); COMMIT");
append('a', 5);
truncate_all('past the cursor', 1);
like($other->error("SELECT seq_subscribe('{$vshard{a}}', 'c')"),
	qr/^55000: subscription "c" needs epoch \d+, which was truncated/, 'from a cursor in there, by another session');
is($s->query('SELECT count(*) FROM seq_subscriptions WHERE name = $$c$$ AND pid = pg_backend_pid()'), 2, 'nor is it taken over');
#
# An applier that comes too late, but not for any batch
#
$s->query("SELECT seq_subscribe('{$vshard{a}}', 'late')");
append('a', 2);
my $pid = applier_pid($node, $db);
kill 'STOP', $pid;
sql($node, $db, "INSERT INTO seq_log (entry) VALUES (''), ('')");
append_batches($node, $db, $epoch, $epoch, [ [ ['a'], 'ab', 1 ] ]);
sql($node, $db, "SELECT seq_truncate($epoch, true)");
kill 'CONT', $pid;
wait_for_epoch($node, $db, $epoch);
like(sql($node, $db, 'SELECT last_error FROM seq_state'), qr/^the log was truncated up to/, 'the applier came too late');
is($s->query(q{SELECT array_agg(epoch) FROM seq_receive(name => 'late')}), '{' . join(',', $epoch - 2 .. $epoch) . '}',
	'for nothing that a consumer lacks');
$epoch++;
$_->quit foreach $s, $other;

#
# A logical subscriber that is behind is no standby: it has its own copy, by WAL
#
sql($node, $db, q{SELECT seq_drop_cursor('c')});
sql($node, $db, 'CREATE TABLE told (n int); CREATE PUBLICATION told FOR TABLE told');
sql($node, $db, "SELECT pg_create_logical_replication_slot('told', 'pgoutput')");
sql($node, $db, 'CREATE DATABASE subscriber');
sql($node, 'subscriber', 'CREATE TABLE told (n int)');
sql($node, 'subscriber', "CREATE SUBSCRIPTION told CONNECTION '" . $node->connstr . " dbname=$db"
	  . "' PUBLICATION told WITH (create_slot = false, copy_data = false)");
sql($node, $db, 'INSERT INTO told VALUES (1)');
wait_for_sql($node, 'subscriber', 'SELECT count(*) FROM told', 1);
wait_for_sql($node, $db, "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn IS NOT NULL AND state = 'streaming'", 1);
$s = session($node, 'subscriber');
$s->query('BEGIN; LOCK TABLE told');
sql($node, $db, 'INSERT INTO told VALUES (2)');
wait_for_sql($node, $db, "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IS NOT NULL", 1);
append('b', 3);
is(sql($node, $db, 'SELECT replay_lsn < pg_current_wal_insert_lsn() FROM pg_stat_replication'), 't', 'a subscriber is behind');
truncate_all('which does not matter');
$s->query('ROLLBACK');
$s->quit;
sql($node, 'subscriber', 'DROP SUBSCRIPTION told');

#
# Space that was freed is used again: then the rows of a dump are in any order
#
append('a', 150);
truncate_all('much of it');
sql($node, $db, 'VACUUM seq_log');
append('b', 150);
is(sql($node, $db, 'SELECT bool_or(log_index < before) FROM (SELECT log_index, lag(log_index) OVER (ORDER BY ctid) AS before FROM seq_log) l'),
	't', 'the log is not in order on disk');
wait_applied($node, $db);
my $rows = "SELECT md5(string_agg(l::text, ';' ORDER BY log_index)) FROM seq_log l";
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
foreach my $options ([], ['--inserts'], ['--rows-per-insert=7'])
{
	my @tables = map { ('-t', $_) } 'seq_log', 'seq_snapshots', 'seq_cursor_positions';

	$node->command_ok([ 'pg_dump', '-f', $dump, '--data-only', @tables, @$options, $db ], "pg_dump @$options");
	sql($node, $db, 'CREATE DATABASE restored');
	create_extension($node, 'restored');
	$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '--single-transaction', '-d', 'restored', '-f', $dump ], 'restored');
	wait_applied($node, 'restored');
	is(sql($node, 'restored', $rows), sql($node, $db, $rows), 'the same rows');
	is(state($node, 'restored'), state($node, $db), 'the same state');
	sql($node, $db, 'DROP DATABASE restored');
}

#
# A log without its base, and a base without its log: a restore at work
#
sql($node, $db, 'CREATE DATABASE log_first');
create_extension($node, 'log_first');
sql($node, 'log_first', "INSERT INTO seq_log (log_index, entry) VALUES "
	  . join(', ', map { "(1 + $_, '\\x" . batch_hex($_, 1, [ ['a'], 'ab', 1 ]) . "')" } 20 .. 22));
foreach my $query ("SELECT * FROM seq_replay($vshard{a}, 19, 22)",
	'SELECT * FROM seq_completion(19, 0)', "SELECT seq_subscribe('{$vshard{a}}', from_epoch => 19)")
{
	like(sql_error($node, 'log_first', $query),
		qr/^55000: the log begins above log_index 1, and its base snapshot is not there\nDETAIL: .*log_index 21\. Whether epoch 19 /,
		"nobody knows what was before: $query");
}
is(sql($node, 'log_first', "SELECT count(*) FROM seq_replay($vshard{a}, 20, 22)"), 3, 'what is there is there');

sql($node, $db, 'CREATE DATABASE base_first');
create_extension($node, 'base_first');
sql($node, 'base_first', "INSERT INTO seq_snapshots VALUES (20, 19, '0123456789abcdef', 1, now(), true)");
$s = session($node, 'base_first');
$s->query("SELECT seq_subscribe('{$vshard{a}}', queue_size => 8192)");
append_batches($node, 'base_first', 20, 22, [ [ ['a'], 'ab' x 20_000, 1 ] ]);
wait_for_epoch($node, 'base_first', 22);
is($s->query('SELECT array_agg(epoch) FROM seq_receive()'), '{20,21,22}', 'who subscribes before the log is there gets it from its base on');
$s->quit;

$node->stop;
nothing_crashed($node);
done_testing();
