# What is submitted is sequenced if the transaction commits, and only then: through
# savepoints, exception blocks, cursors and triggers that run at COMMIT.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinSubmit;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', max_prepared_transactions => 5, 'calvin_seq.max_plans_bytes_per_txn' => '4MB');
my $db = 'postgres';
my $s;

create_extension($node);
create_sent($node, $db);
# a statement for each number; "word", which may be seen, without a number
sub send_all { return join('; ', map { "SELECT seq_send('a', '$_')" } @_) . '; ' }

sub gives
{
	my ($sql, $expected, $desc) = @_;
	my $session = session($node, $db);
	my ($output, $error) = $session->send($sql)->finish;

	$session->quit;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($error, '', "$desc: no error") if $error ne '';
	return is_next($node, $db, join(' ', map { /=/ ? $_ : "a=$_" } split(/ /, $expected)), $desc);
}

sub fails
{
	my ($sql, $error, $expected, $desc) = @_;
	my $session = session($node, $db);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like($session->error($sql), $error, $desc);
	$session->quit;
	return is_next($node, $db, join(' ', map { "a=$_" } split(/ /, $expected)), "$desc: what came of it");
}

#
# The transaction
#
gives(send_all(1, 2), '1 2', 'each statement by itself');
gives('BEGIN; ' . send_all(1, 2) . 'COMMIT', '1 2', 'COMMIT');
gives('BEGIN; ' . send_all(1, 2) . 'ROLLBACK', '', 'ROLLBACK');
gives('BEGIN; ' . send_all(1), '', 'the session ended without COMMIT');
gives('BEGIN; ' . send_all(1) . 'COMMIT AND CHAIN; ' . send_all(2) . 'ROLLBACK AND CHAIN; ' . send_all(3) . 'COMMIT', '1 3', 'AND CHAIN');
fails('BEGIN; ' . send_all(1) . 'SELECT 1/0; COMMIT', qr/^22012: /, '', 'an error');
fails("SET statement_timeout = '1ms'; SELECT seq_send('a', '1') FROM pg_sleep(1)", qr/^57014: /, '', 'cancelled before the call');
fails("SET statement_timeout = '10ms'; BEGIN; WITH w AS MATERIALIZED (SELECT seq_send('a', '1')) SELECT pg_sleep(10) FROM w; COMMIT", qr/^57014: /, '', 'cancelled behind it');
gives("SELECT seq_send('a', to_jsonb(i)) FROM generate_series(1, 5) i", '1 2 3 4 5', 'many of one statement');
gives("SELECT seq_send('a', (seq_send('a', '1') * 0 + 2)::text::jsonb)", '1 2', 'a call among the arguments of another comes first');
gives("BEGIN; SELECT seq_send('a', '1'), seq_send_bytes('b', '2'), seq_send('a', '3'), seq_send('c', '4'); COMMIT", '1 b=2 3 c=4',
	'into several collections, in the order of the calls');

#
# Savepoints
#
gives('BEGIN; ' . send_all(1) . 'SAVEPOINT s; ' . send_all(2) . 'ROLLBACK TO s; ' . send_all(3) . 'COMMIT', '1 3', 'ROLLBACK TO');
gives('BEGIN; SAVEPOINT s; ' . send_all(1) . 'ROLLBACK TO s; COMMIT', '', 'ROLLBACK TO the beginning');
gives('BEGIN; SAVEPOINT s; ' . send_all(1) . 'ROLLBACK TO s; ROLLBACK TO s; ' . send_all(2) . 'RELEASE s; COMMIT', '2', 'twice');
gives('BEGIN; ' . send_all(1) . 'SAVEPOINT s; ' . send_all(2) . 'RELEASE s; ' . send_all(3) . 'COMMIT', '1 2 3', 'RELEASE');
gives('BEGIN; SAVEPOINT s; ' . send_all(1) . 'SAVEPOINT t; ' . send_all(2) . 'RELEASE t; ' . send_all(3) . 'ROLLBACK TO s; ' . send_all(4) . 'COMMIT', '4',
	'released, and what it was released to rolled back');
gives('BEGIN; ' . send_all(1) . 'SAVEPOINT s; SAVEPOINT t; ' . send_all(2) . 'SAVEPOINT u; ' . send_all(3) . 'ROLLBACK TO u; RELEASE t; ' . send_all(4) . 'COMMIT', '1 2 4',
	'over levels that have nothing');
gives('BEGIN; SAVEPOINT s; SAVEPOINT t; ' . send_all(1) . 'COMMIT', '1', 'open savepoints at COMMIT');
$s = session($node, $db);
$s->query('BEGIN; ' . send_all(1) . 'SAVEPOINT s; ' . send_all(2));
like($s->error('SELECT 1/0'), qr/^22012: /, 'an error behind a savepoint');
$s->query('ROLLBACK TO s; ' . send_all(3) . 'COMMIT');
$s->quit;
is_next($node, $db, 'a=1 a=3', 'and ROLLBACK TO it');

#
# PL/pgSQL
#
gives(<<'EOS', '1 10 31 2 20 32 3 30 33 end=0', 'exception blocks, whose handlers submit too');
DO $$
BEGIN
	FOR i IN 1 .. 3 LOOP
		PERFORM seq_send('a', to_jsonb(i));
		BEGIN
			PERFORM seq_send('a', to_jsonb(i * 10));
			BEGIN
				PERFORM seq_send('lost', to_jsonb(i));
				PERFORM 1 / 0;
			EXCEPTION WHEN division_by_zero THEN
				PERFORM seq_send('a', to_jsonb(i + 30));
			END;
		EXCEPTION WHEN OTHERS THEN
			PERFORM seq_send('lost', '2');
		END;
	END LOOP;
	PERFORM seq_send('end', '0');
END $$
EOS
gives(<<'EOS', '1 3', 'a procedure that commits and rolls back');
DO $$
BEGIN
	PERFORM seq_send('a', '1'); COMMIT;
	PERFORM seq_send('a', '2'); ROLLBACK;
	PERFORM seq_send('a', '3');
END $$
EOS
# each level with more than is kept in memory, of which parts are undone
gives(<<'EOS', join(' ', map { ("a=$_ big=$_", map { "b=$_ big=$_" } $_ * 3 - 2 .. $_ * 3) } 1 .. 3), 'nested, with more than is kept in memory');
CREATE FUNCTION pg_temp.big(c text, n int) RETURNS void LANGUAGE sql AS
	$$ SELECT seq_send_bytes(c, convert_to(n::text, 'UTF8')), seq_send_bytes('big', convert_to(repeat('x', 700000) || n, 'UTF8')) $$;
DO $$
BEGIN
	FOR i IN 1 .. 3 LOOP
		BEGIN
			PERFORM pg_temp.big('a', i);
			FOR j IN 3 * i - 2 .. 3 * i LOOP
				BEGIN
					PERFORM pg_temp.big('b', j);
					BEGIN
						PERFORM pg_temp.big('lost', j), pg_temp.big('lost', j), pg_temp.big('lost', j);
						RAISE no_data_found;
					EXCEPTION WHEN no_data_found THEN
					END;
				END;
			END LOOP;
		EXCEPTION WHEN no_data_found THEN
		END;
	END LOOP;
END $$
EOS

#
# At COMMIT
#
gives("BEGIN; DECLARE c NO SCROLL CURSOR WITH HOLD FOR SELECT seq_send('a', to_jsonb(i)) FROM generate_series(1, 3) i; FETCH c; SELECT seq_send('b', '9'); COMMIT; FETCH ALL c; CLOSE c",
	'1 b=9 2 3', 'the rest of a cursor WITH HOLD is submitted at COMMIT');
gives("BEGIN; DECLARE c CURSOR FOR SELECT seq_send('a', to_jsonb(i)) FROM generate_series(1, 3) i; FETCH c; COMMIT", '1', 'that of another one is not');
sql($node, $db, <<'EOS');
CREATE TABLE t (i int PRIMARY KEY, n text);
CREATE FUNCTION send_i() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	PERFORM seq_send('a', to_jsonb(NEW.i));
	IF NEW.n = 'more' THEN INSERT INTO t VALUES (NEW.i + 1, 'late'); END IF;
	IF NEW.n = 'error' THEN RAISE no_data_found; END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER c AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION send_i();
EOS
gives('BEGIN; INSERT INTO t VALUES (1), (2); ' . send_all(3) . 'COMMIT', '3 1 2', 'deferred triggers submit at COMMIT');
gives("BEGIN; INSERT INTO t VALUES (11, 'more'); COMMIT", '11 12', 'also those whose events a deferred trigger has made');
gives('BEGIN; INSERT INTO t VALUES (21); SAVEPOINT s; INSERT INTO t VALUES (22); ROLLBACK TO s; COMMIT', '21', 'not for a row that was rolled back');
fails('BEGIN; ' . send_all(1) . "INSERT INTO t VALUES (31, NULL), (32, 'error'); COMMIT", qr/^P0002: /, '', 'one that fails at COMMIT');
gives(<<'EOS', '41 1 42', 'from a cursor that is read at COMMIT, beside deferred triggers');
CREATE FUNCTION pg_temp.ins(i int) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (i); RETURN i; END $$;
BEGIN;
INSERT INTO t VALUES (41);
DECLARE c CURSOR WITH HOLD FOR SELECT seq_send('a', '1'), pg_temp.ins(42);
COMMIT;
CLOSE c;
EOS
fails('BEGIN; ' . send_all(1) . "DECLARE c CURSOR WITH HOLD FOR SELECT seq_send('a', '2'), 1 / 0; COMMIT", qr/^22012: /, '', 'a cursor that fails at COMMIT');
gives("CREATE TEMP TABLE tt (i int) ON COMMIT DELETE ROWS; CREATE TEMP TABLE ut (i int) ON COMMIT DROP; BEGIN; INSERT INTO tt VALUES (1); "
	  . send_all(1) . "COMMIT; BEGIN; CREATE TEMP TABLE vt ON COMMIT DROP AS SELECT seq_send('a', '2'); COMMIT", '1 2', 'beside ON COMMIT');

#
# Triggers
#
sql($node, $db, "DELETE FROM t; DROP TRIGGER c ON t; CREATE TRIGGER send AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION send_i()");
gives("COPY t FROM STDIN;\n1\ta\n2\tb\n3\tc\n\\.\n", '1 2 3', 'COPY into a table with a trigger');
fails("COPY t FROM STDIN;\n4\ta\n5\tb\n1\tc\n\\.\n", qr/^23505: /, '', 'COPY that fails');
gives('SET session_replication_role = replica; INSERT INTO t VALUES (5)', '', 'session_replication_role');
sql($node, $db, 'ALTER TABLE t ENABLE ALWAYS TRIGGER send');
gives('SET session_replication_role = replica; INSERT INTO t VALUES (6); SELECT seq_send(\'a\', \'7\')', '6 7', 'with ENABLE ALWAYS, and for calls');
sql($node, $db, "DROP TRIGGER send ON t; CREATE TRIGGER send AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION seq_send_changes('t', 'i')");

$s = session($node, $db);
$s->query("COPY t FROM STDIN;\n7\t\\N\n8\t\\N\n\\.\n");
$s->query("BEGIN; INSERT INTO t VALUES (9); SAVEPOINT s; UPDATE t SET n = 'x' WHERE i = 7; ROLLBACK TO s; UPDATE t SET n = 'y' WHERE i = 8; DELETE FROM t WHERE i = 9; COMMIT");
$s->quit;
sql($node, $db, "SELECT seq_send('.', '0') AS n \\gset\nSELECT seq_submission(:n, '60s')");
is(sql($node, $db, "SELECT string_agg(concat_ws(' ', collection, payload::jsonb ->> 'op', payload::jsonb #>> '{new,n}'), ', ' ORDER BY log_index, position) FROM sent WHERE collection ~ '^t/'"),
	't/7 insert, t/8 insert, t/9 insert, t/8 update y', 'seq_send_changes, by COPY, and what was not rolled back');
forget_sent($node, $db);

#
# Where nothing can be submitted
#
sub refused { return fails(@_) }
refused('BEGIN; ' . send_all(1) . "PREPARE TRANSACTION 'p'", qr/^0A000: cannot PREPARE a transaction that has submitted something\nDETAIL: .*\nHINT: /, '', 'PREPARE');
refused('BEGIN; SAVEPOINT s; ' . send_all(1) . "RELEASE s; PREPARE TRANSACTION 'p'", qr/^0A000: /, '', 'PREPARE, submitted in a savepoint that was released');
refused('BEGIN; SAVEPOINT s; ' . send_all(1) . "PREPARE TRANSACTION 'p'", qr/^0A000: /, '', 'PREPARE, in an open savepoint');
refused("DELETE FROM t; BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT seq_send('a', '1'); PREPARE TRANSACTION 'p'", qr/^0A000: /, '', 'PREPARE, with a cursor that would submit');
sql($node, $db, 'DROP TRIGGER send ON t; CREATE CONSTRAINT TRIGGER c AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION send_i()');
refused("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'p'", qr/^0A000: /, '', 'PREPARE, with a deferred trigger that submits');
gives('BEGIN; SAVEPOINT s; ' . send_all(1) . "ROLLBACK TO s; PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'", '', 'PREPARE, with what had been submitted rolled back');
is(sql($node, $db, 'SELECT count(*) FROM pg_prepared_xacts'), 0, 'nothing is left prepared');
refused('BEGIN READ ONLY; ' . send_all(1) . 'COMMIT', qr/^25006: cannot execute seq_send\(\) in a read-only transaction\n/, '', 'a read-only transaction');
gives('BEGIN; ' . send_all(1) . 'SET TRANSACTION READ ONLY; COMMIT', '1', 'read-only behind the call: it counts');
# 16 has named it anew
my $force = sql($node, $db, q{SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')});
refused(<<"EOS", qr/^25000: cannot execute seq_send\(\) during a parallel operation\n/, '100', 'a parallel worker');
INSERT INTO t VALUES (100, 'late');
CREATE FUNCTION unsafe(i int) RETURNS bigint LANGUAGE plpgsql PARALLEL SAFE AS 'BEGIN RETURN seq_send(''a'', to_jsonb(i)); END';
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET $force = on;
SELECT unsafe(i) FROM t;
EOS
gives("SET $force = on; SELECT seq_send('a', to_jsonb(i)) FROM generate_series(1, 3) i", '1 2 3', 'where parallelism is forced');

#
# Isolation levels, and a transaction that has no XID of its own otherwise
#
foreach my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
	gives("BEGIN ISOLATION LEVEL $level; SELECT 1; " . send_all(1, 2) . 'COMMIT', '1 2', $level);
}

#
# Through another connection
#
SKIP:
{
	skip 'dblink is not installed', 1
	  unless sql($node, $db, "SELECT count(*) FROM pg_available_extensions WHERE name = 'dblink'");
	sql($node, $db, 'CREATE EXTENSION dblink');
	my $connection = 'dbname=postgres host=' . $node->host . ' port=' . $node->port;
	gives("BEGIN; SELECT seq_send('a', '1'); SELECT * FROM dblink('$connection', 'SELECT seq_send(''a'', ''2'')') d (n bigint); SELECT seq_send('a', '3'); ROLLBACK",
		'2', 'through dblink: a transaction of its own');
}

#
# The extension, dropped and created between the call and COMMIT
#
sub other_database
{
	my ($name) = @_;

	sql($node, $db, "CREATE DATABASE $name");
	create_extension($node, $name);
	create_sent($node, $name);
	# a number is drawn, the first of many: whoever reserves them is in the way of DROP
	is_next($node, $name, '', "database $name");
	return session($node, $name);
}
$s = other_database('dropped');
$s->query("CREATE TABLE mine (i int); BEGIN; INSERT INTO mine VALUES (1); SELECT seq_send('a', '1')");
sql($node, 'dropped', 'DROP VIEW sent; DROP EXTENSION calvin_seq');
like($s->error('COMMIT'), qr/^55000: extension calvin_seq was dropped after this transaction had submitted to it\nDETAIL: .*\nHINT: /, 'dropped: COMMIT fails');
is($s->query('SELECT count(*) FROM mine'), 0, 'and nothing of the transaction is there');
create_extension($node, 'dropped');
create_sent($node, 'dropped');
forget_sent($node, 'dropped');
is_next($node, 'dropped', '', 'nor when it is created again');
$s->query("BEGIN; INSERT INTO mine VALUES (1); SELECT seq_send('a', '1')");
sql($node, 'dropped', 'DROP VIEW sent; DROP EXTENSION calvin_seq; CREATE EXTENSION calvin_seq');
create_sent($node, 'dropped');
forget_sent($node, 'dropped');
like($s->error("SAVEPOINT s; SELECT seq_send('a', '2')"), qr/^55000: extension calvin_seq was created anew after this transaction had submitted to it\n/,
	'created anew: the next call fails');
$s->query('ROLLBACK TO s');
like($s->error('COMMIT'), qr/^55000: extension calvin_seq was dropped after /, 'and so does COMMIT');
is_next($node, 'dropped', '', 'with nothing in the new log');
is($s->query('SELECT count(*) FROM mine'), 0, 'and nothing of the transaction');
$s->query("BEGIN; SELECT seq_send('a', '1'); ROLLBACK; BEGIN; SELECT seq_send('a', '2'); COMMIT");
is_next($node, 'dropped', 'a=2', 'the session goes on with the new one');
like($s->error('BEGIN; DROP VIEW sent; DROP EXTENSION calvin_seq; CREATE EXTENSION calvin_seq; ' . send_all(1)),
	qr/^55000: cannot submit in the transaction that creates the extension\n/, 'not in the transaction that creates it');
$s->query('ROLLBACK');
$s->query('BEGIN; ' . send_all(3));
like($s->error('DROP VIEW sent; DROP EXTENSION calvin_seq; COMMIT'), qr/^55000: extension calvin_seq was dropped after /, 'dropped by the transaction itself: an error');
is_next($node, 'dropped', '', 'and neither has happened');
$s->quit;

#
# Numbers
#
my @numbers = split /\n/,
  sql($node, $db, "BEGIN; SELECT seq_send('a', '1') FROM generate_series(1, 3000); ROLLBACK; SELECT seq_send('a', '1') FROM generate_series(1, 3000)");
foreach my $mode ('fast', 'immediate')
{
	$node->stop($mode);
	$node->start;
	wait_for_applier($node, $db);
	push @numbers, split /\n/, sql($node, $db, "SELECT seq_send('a', '1') FROM generate_series(1, 500)");
}
my %distinct = map { $_ => 1 } @numbers;
is(scalar(keys %distinct) . ' of ' . scalar(@numbers), '7000 of 7000', 'a number is given once, also to what was rolled back, and through restarts');

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
like(sql_error($node, $db, $_), qr/^55000: calvin_seq is not in shared_preload_libraries\n/, "not preloaded: $_")
  foreach "SELECT seq_send('a', '1')", "SELECT seq_send_bytes('a', '1')", "SELECT seq_submit_encoded('\\x')", 'SELECT seq_submit(\'{}\')', 'SELECT seq_submission(1)';

$node->stop;
nothing_crashed($node);
done_testing();
