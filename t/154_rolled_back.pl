# What was appended and rolled back lies in the indexes beyond the log's end until
# VACUUM comes.  Nobody passes by it: counted in pages, not in time.  And the bound that
# sees to it is never in front of what is committed.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use Test::More;

my $rows = 100_000;
my $few = 100;	# pages; the rows that were rolled back are in more than 500
my $db = 'postgres';
my $txn = [ ['a'], 'ab', 1 ];
my $node = new_node('rolled_back', autovacuum => 'off');
my $batch = q{'{"EpochBatch": {"txns": []}}'};
my $append = "SELECT seq_append_json($batch)";

# Pages that a statement has looked at, its planning too.
sub pages
{
	my ($session, $sql) = @_;
	my $plan = $session->query("EXPLAIN (ANALYZE, BUFFERS, TIMING off, COSTS off) $sql");
	my $pages = 0;

	$pages += $1 while $plan =~ /(?:hit|read)=(\d+)/g;
	return $pages;
}

sub few_pages
{
	my ($session, $sql, $what) = @_;
	my $pages = pages($session, $sql);

	return cmp_ok($pages, '<', $few, "$what: $pages pages");
}

sub end_of
{
	my ($db_) = @_;

	return sql($node, $db_ // $db, 'SELECT max(log_index), max(epoch), count(*) FROM seq_log');
}

create_extension($node, $db);
append_batches($node, $db, 0, 9, [$txn]);
sql($node, $db, 'VACUUM ANALYZE seq_log');
sql($node, $db, <<"SQL");
CREATE TABLE batches AS
SELECT seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object('epoch', n, 'epoch_system_ms', 1, 'txns', '[]'::jsonb))) AS entry
FROM generate_series(10, $rows + 9) n
SQL
my $s = session($node, $db);
# what a session looks up once
$s->query($append);
$s->query('SELECT seq_ack(0, 0, 0)');
is(end_of(), '12|10|12', 'the log ends there');
wait_applied($node, $db);
my $insert = 'INSERT INTO seq_log (entry) SELECT entry FROM batches';

# each of them is the first one that comes after it
foreach my $after (
	[ $append, 'seq_append_json' ],
	[ 'SELECT seq_ack(0, 0, 0)', 'seq_ack' ],
	[ q{INSERT INTO seq_log (entry) VALUES ('')}, 'INSERT' ],
	[ 'SELECT seq_current_committed_epoch() + random()', 'seq_current_committed_epoch' ],
	[ 'SELECT * FROM seq_state', 'seq_state' ],
	[ "SELECT * FROM seq_replay(" . vshard_of('a') . ', 0, 9000000000000000000)', 'seq_replay to the end' ])
{
	my ($sql, $what) = @$after;

	$s->query("BEGIN; $insert; ROLLBACK");
	few_pages($s, $sql, "$what, after $rows rows were rolled back");
	few_pages($s, $sql, "$what, again");
}
is(end_of(), '18|12|18', 'no hole, and the epochs are those that follow');
wait_applied($node, $db);
is(sql($node, $db, 'SELECT last_applied_index FROM seq_state'), 18, 'all of it is applied');

# to a savepoint
$s->query("BEGIN; $append; SAVEPOINT s; $insert; ROLLBACK TO s; $append");
few_pages($s, $append, 'in the transaction that rolled back to a savepoint');
$s->query('COMMIT');
few_pages($s, $append, 'and after it');
is(end_of(), '22|16|22', 'no hole after a savepoint');

# the savepoint that has taken the lock: the next one may be somebody else
$s->query("BEGIN; SAVEPOINT s; $insert; ROLLBACK TO s");
my $other = session($node, $db);
$other->query($append);
few_pages($other, $append, 'beside one that rolled back to a savepoint and goes on');
$s->query("$append; COMMIT");
is(end_of(), '25|19|25', 'each behind the other');

# an error late in COMMIT, and a session that is ended
$s->query(q{CREATE TABLE late (x int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO late VALUES (1)});
like($s->error("BEGIN; INSERT INTO late VALUES (1); $insert; COMMIT"), qr/^23505/, 'an error late in COMMIT');
few_pages($other, $append, 'after it');
$s->query("BEGIN; $insert");
sql($node, $db, 'SELECT pg_terminate_backend(' . $s->pid . ', 60000)');
few_pages($other, $append, 'after a session was ended');
$s = session($node, $db);
is(end_of(), '27|21|27', 'no hole after either');

# while it is not known yet what becomes of it
$s->query("BEGIN; $insert");
few_pages($other, 'SELECT seq_current_committed_epoch() + random()', 'seq_current_committed_epoch beside rows that are not committed');
is($other->query('SELECT seq_current_committed_epoch()'), 21, 'which do not count');
$s->query('COMMIT');
is($other->query('SELECT seq_current_committed_epoch()'), $rows + 9, 'and then do');
$other->query($append);
is(end_of(), join('|', $rows + 28, $rows + 10, $rows + 28), 'the log goes on behind them');

# a jump across what was rolled back, by a restore: it is what the log ends with
my $end = $rows + 28;
$s->query("BEGIN; $insert; ROLLBACK");
$s->query("INSERT INTO seq_log (log_index, entry) VALUES ($end + 2 * $rows, '')");
$s->query("BEGIN; $insert; ROLLBACK");
few_pages($other, $append, 'behind a jump');
$end += 2 * $rows + 1;
is(end_of() =~ s/\|.*//r, $end, 'the log goes on behind the jump');
wait_applied($node, $db);
is(sql($node, $db, 'SELECT last_applied_index FROM seq_state'), $end, 'all of it is applied');

# a trigger of the owner that puts rows elsewhere, behind ours
$s->query(<<'SQL');
CREATE FUNCTION further() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.log_index := NEW.log_index + 1000; RETURN NEW; END $$;
CREATE TRIGGER z_further BEFORE INSERT ON seq_log FOR EACH ROW EXECUTE FUNCTION further();
SQL
$other->query(q{INSERT INTO seq_log (entry) VALUES ('')});
$s->query('DROP TRIGGER z_further ON seq_log');
$s->query("BEGIN; $insert; ROLLBACK");
$other->query(q{INSERT INTO seq_log (entry) VALUES ('')});
$end += 1002;
is(end_of() =~ s/\|.*//r, $end, 'a row that the owner has put further away is the end');
wait_applied($node, $db);

# the server is restarted: nobody knows, the first one looks
$node->restart;
$s = session($node, $db);
$s->query($append);
few_pages($s, $append, 'after a restart, and another append');
is(end_of() =~ s/\|.*//r, $end + 2, 'it goes on there');
$s->quit;
$other->quit;

#
# A database that takes the place of one, OIDs and all
#
wait_applied($node, $db);
sql($node, $db, 'CREATE DATABASE elsewhere');
my $where = 'elsewhere';
sql($node, $where, "CREATE DATABASE short TEMPLATE $db");
my $oid = sql($node, $where, "SELECT oid FROM pg_database WHERE datname = 'short'");
sql($node, 'short', "$append; $append");
$s = session($node, $db);
$s->query("$append; $append; $append; $append; BEGIN; $insert; ROLLBACK");
$s->quit;
sql($node, $where, $_) foreach 'DROP DATABASE short', "CREATE DATABASE short OID = $oid TEMPLATE $db";
is(sql($node, 'short', 'SELECT seq_current_committed_epoch()'), sql($node, $db, 'SELECT seq_current_committed_epoch()'), 'it has all of the epochs of its own log');
sql($node, 'short', $append);
is(end_of('short') =~ s/\|.*//r, $end + 7, 'and goes on at its own end');

nothing_crashed($node);
done_testing();
