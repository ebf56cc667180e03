# Durable cursors under an old snapshot, and the compare-and-set of their versions.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinPause;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

require_pauses();

my $node = new_node('versions', max_prepared_transactions => 2);
create_extension($node);
my ($va, $vb) = map { vshard_of($_) } qw(a b);
my $pauses = pauses($node, 'postgres');
my $watch = session($node, 'postgres');

# One batch with all there is to receive.
append_batches($node, 'postgres', 0, 0, [ ([ [ 'a', 'b' ], 'ab', 1 ]) x 3000 ]);
append_batches($node, 'postgres', 1, 20, [ [ ['a'], 'a', 1 ] ]);
wait_for_epoch($node, 'postgres', 20);

sql($node, 'postgres', <<'EOS');
-- So many times a transaction, or one for each vshard, and the cursors.
CREATE PROCEDURE commits(name text, n int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..n LOOP
		PERFORM count(*) FROM seq_receive(2, '0', name);
		PERFORM seq_commit(name);
		COMMIT;
	END LOOP;
END $$;
EOS

# The pages that a statement looks at.
sub buffers
{
	my ($session, $statement) = @_;
	my $plan = $session->query("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) $statement");
	my ($hit) = $plan =~ /"Shared Hit Blocks": (\d+)/;
	my ($read) = $plan =~ /"Shared Read Blocks": (\d+)/;

	return $hit + $read;
}

# The least of several times: whatever comes now and then is not meant.
sub least
{
	my ($sub) = @_;
	my ($least) = sort { $a <=> $b } map { $sub->() } 1 .. 5;

	return $least;
}

# A transaction received and committed, in pages of seq_commit.
sub commit_buffers
{
	my ($session, $name) = @_;

	return least(sub { $session->query("SELECT count(*) FROM seq_receive(2, '0', '$name')"); return buffers($session, "SELECT seq_commit('$name')"); });
}

#
# A held snapshot
#
my $w = session($node, 'postgres');
my $holder = session($node, 'postgres');
$w->query("SELECT seq_subscribe('{$va,$vb}', 'w', from_epoch => 0)");
$w->query("CALL commits('w', 10)");
$holder->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM seq_cursors');
my %before = (commit => commit_buffers($w, 'w'), read => least(sub { buffers($watch, 'TABLE seq_cursors') }));
my $version = $watch->query('SELECT min(version) FROM seq_cursors');
$w->query("CALL commits('w', 2000)");
is($watch->query('SELECT count(*), min(version) FROM seq_cursors'), '2|' . ($version + 2000), 'as many versions, one cursor a vshard');
is($watch->query('SELECT count(*) FROM seq_cursor_positions'), 2, 'and one row that is seen');
cmp_ok($watch->query("SELECT pg_relation_size('seq_cursor_positions') / 8192"), '>', 20, 'what was replaced is still there');

# an index with some thousand rows has one level more
my $more = 8;
cmp_ok(commit_buffers($w, 'w'), '<=', $before{commit} + 2 * $more, 'seq_commit does not look at it') or diag $before{commit};
cmp_ok(least(sub { buffers($watch, 'TABLE seq_cursors') }), '<=', $before{read} + 2 * $more, 'nor does who reads the cursors') or diag $before{read};
is(session($node, 'postgres')->query("BEGIN; SET LOCAL enable_seqscan = off; SELECT count(*) FROM seq_cursors; COMMIT"), 2, 'whatever the planner is told');
is($holder->query('SELECT count(*), min(version) FROM seq_cursors'), "2|" . ($version - 5), 'and the old snapshot has what it had');

# Dropped and made anew, under the same snapshot: it begins at version 1, but
# in front of what the other one has left.
is($watch->query("SELECT seq_drop_cursor('w')"), 2, 'both are dropped');
is($watch->query('SELECT count(*) FROM seq_cursors'), 0, 'and are gone');
$w->query("SELECT seq_subscribe('{$va,$vb}', 'w', from_epoch => 0)");
$w->query("CALL commits('w', 10)");
is($watch->query('SELECT min(version), max(version) FROM seq_cursors'), '10|10', 'versions begin again');
cmp_ok(commit_buffers($w, 'w'), '<=', $before{commit} + 2 * $more, 'and do not look at the old ones either') or diag $before{commit};
$holder->query('COMMIT');
$w->query("SELECT seq_unsubscribe(name => 'w')");

# With nobody in the way, the index forgets them without a vacuum.
sql($node, 'postgres', 'VACUUM seq_cursor_positions');
my $size = q{SELECT pg_relation_size('seq_cursor_positions_pkey')};
$w->query("SELECT seq_subscribe('{$va}', 'v', from_epoch => 0)");
$w->query("CALL commits('v', 300)");
my $small = $watch->query($size);
$w->query("CALL commits('v', 1000)");
cmp_ok($watch->query($size), '<=', $small + 5 * 8192, 'the index does not grow with the commits');
$w->query("SELECT seq_unsubscribe(name => 'v')");

#
# Who writes to the table himself
#
like(sql_error($node, 'postgres', "INSERT INTO seq_cursor_positions VALUES ('v', $va, 0, 0, 5, now())"), qr/there is a durable cursor "v" of vshard $va already/, 'no second row of a cursor');
sql($node, 'postgres', "INSERT INTO seq_cursor_positions VALUES ('v', $vb, 0, 0, 5, now())");
is($watch->query("SELECT seq_drop_cursor('v')"), 2, 'another vshard is no matter');

# SELECT on the view, and EXECUTE on what it is made of.
sql($node, 'postgres', 'CREATE ROLE reader; GRANT SELECT ON seq_cursors TO reader');
like(sql_error($node, 'postgres', 'SET ROLE reader; TABLE seq_cursors'), qr/permission denied for function seq_cursors_info/, 'the view alone is not enough');
sql($node, 'postgres', 'GRANT EXECUTE ON FUNCTION seq_cursors_info() TO reader');
is(sql($node, 'postgres', 'SET ROLE reader; SELECT count(*) FROM seq_cursors'), 2, 'with its function, it is');
is(sql($node, 'postgres', 'CREATE ROLE monitor IN ROLE pg_monitor; SET ROLE monitor; SELECT count(*) FROM seq_cursors'), 2, 'pg_monitor has both');
sql($node, 'postgres', "SELECT seq_drop_cursor('w')");

#
# A cursor dropped and made anew is another one
#
my ($old, $new) = map { session($node, 'postgres') } 1, 2;
my $lost = qr/the durable cursor "aba" was moved by another session/;
$old->query("SELECT seq_subscribe('{$va}', 'aba', from_epoch => 0)");
$old->query("BEGIN; SELECT count(*) FROM seq_receive(5, '0', 'aba'); SELECT seq_commit('aba'); COMMIT");
$pauses->arm('cursors: before the look', $old->pid);
$old->send("BEGIN; SELECT count(*) FROM seq_receive(5, '0', 'aba'); SELECT seq_commit('aba'); COMMIT");
$pauses->reached('cursors: before the look');
# it is taken over without having noticed, and the new one begins anew
$watch->query("SELECT seq_drop_cursor('aba')");
$new->query("SELECT seq_subscribe('{$va}', 'aba', from_epoch => 0)");
$new->query("BEGIN; SELECT count(*) FROM seq_receive(7, '0', 'aba'); SELECT seq_commit('aba'); COMMIT");
is($watch->query("SELECT position, version FROM seq_cursors WHERE name = 'aba'"), '7|1', 'the new one has the same version');
$pauses->release('cursors: before the look');
like(($old->finish)[1], $lost, 'the old one cannot commit against it');
is($watch->query("SELECT position, version FROM seq_cursors WHERE name = 'aba'"), '7|1', 'and has not');
$_->quit for $old, $new;
$watch->query("SELECT seq_drop_cursor('aba')");

#
# Two make the same one, and the first has moved on before the second has seen it
#
($old, $new) = map { session($node, 'postgres') } 1, 2;
$lost = qr/the durable cursor "first" was moved by another session/;
$old->query("SELECT seq_subscribe('{$va}', 'first', from_epoch => 0)");
$old->query("BEGIN; SELECT count(*) FROM seq_receive(1, '0', 'first'); SELECT seq_commit('first'); SELECT count(*) FROM seq_receive(1, '0', 'first'); SELECT seq_commit('first')");
$new->query("SELECT seq_subscribe('{$va}', 'first', from_epoch => 0)");
$pauses->arm('cursors: between look and row', $new->pid);
$new->send("BEGIN; SELECT count(*) FROM seq_receive(1, '0', 'first'); SELECT seq_commit('first'); COMMIT");
$pauses->reached('cursors: between look and row');
$old->query('COMMIT');
$pauses->release('cursors: between look and row');
like(($new->finish)[1], $lost, 'the second one fails');
is($watch->query("SELECT count(*), max(version) FROM seq_cursor_positions WHERE name = 'first'"), '1|2', 'there is one cursor');
$_->quit for $old, $new;

#
# Dropping gets who has moved meanwhile
#
$old = session($node, 'postgres');
$old->query("SELECT seq_subscribe('{$va}', 'first')");
$old->query("BEGIN; SELECT count(*) FROM seq_receive(1, '0', 'first'); SELECT seq_commit('first')");
$new = session($node, 'postgres');
$new->send("SELECT seq_drop_cursor('first')");
wait_for_sql($node, 'postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%seq_drop_cursor%'");
$old->query('COMMIT');
is(($new->finish)[0], 1, 'it is dropped in the end');
is($watch->query("SELECT count(*) FROM seq_cursors WHERE name = 'first'"), 0, 'with the version that came meanwhile');
$_->quit for $old, $new;

# A version that came to nothing with a prepared transaction, and was given again to
# another session's position: who prepared it does not take that for its own
$new = session($node, 'postgres');
$old = session($node, 'postgres');
$old->query("SELECT seq_subscribe('{$va}', 'p', from_epoch => 1); SELECT seq_commit('p')");
is($old->query("BEGIN; SELECT count(*) FROM seq_receive(3, '0', 'p')"), 3, 'some received');
$pauses->arm('cursors: before the look', $old->pid);
$old->send("SELECT seq_commit('p')");
$pauses->reached('cursors: before the look');
$new->query("SELECT seq_subscribe('{$va}', 'p'); BEGIN; SELECT count(*) FROM seq_receive(10, '0', 'p'); SELECT seq_commit('p'); PREPARE TRANSACTION 'p'");
$pauses->release('cursors: before the look');
$new->query("ROLLBACK PREPARED 'p'");
is(($old->finish)[1], '', 'the old consumer stores its position');
$old->query('COMMIT');
like($new->error("BEGIN; SELECT count(*) FROM seq_receive(5, '0', 'p'); SELECT seq_commit('p')"),
	qr/^40001: the durable cursor "p" was moved by another session/, 'the new one finds that it is not what it had stored');
$new->query('ROLLBACK');
is($new->query("SELECT min(epoch) FROM seq_receive(100, '0', 'p')"), 4, 'and goes on where the old one stopped');
$_->quit for $old, $new, $w, $holder, $watch, $pauses;

nothing_crashed($node);
done_testing();
