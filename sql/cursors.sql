--
-- Durable cursors: what is committed, and where whoever comes next continues.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\i :src/test/regress/cursors.sql

-- The table.
SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attrelid = 'seq_cursors'::regclass AND attnum > 0 ORDER BY attnum;
SELECT t.failure(format('INSERT INTO seq_cursor_positions VALUES (%s, now())', c)) LIKE '23%' AS refused FROM unnest(ARRAY[
	'''x'', -1, 0, 0, 1', '''x'', 1024, 0, 0, 1', '''x'', 1, -1, 0, 1', '''x'', 1, 0, -1, 1', '''x'', 1, 0, 0, 0', 'NULL, 1, 0, 0, 1']) c;

--
-- Committing and continuing
--

SELECT c, t.failure('SELECT ' || c) FROM unnest(ARRAY[
	'seq_commit()', 'seq_rewind()', 'seq_commit(NULL)', 'seq_rewind(NULL)', 'seq_commit('''')', 'seq_commit(repeat(''x'', 64))', 'seq_drop_cursor(NULL)',
	'seq_drop_cursor('''')', 'seq_drop_cursor(repeat(''x'', 64))', 'seq_drop_cursor(''x'', ''{}'')', 'seq_drop_cursor(''x'', ''{1024}'')']) c;
SELECT seq_drop_cursor('default'), seq_drop_cursor('default', '{97}');
CALL t.append(3, '{"a,b"}');
-- Before the first transaction: what comes after the subscription.
SELECT seq_subscribe('{97,98}');
SELECT * FROM t.cursors();
SELECT seq_commit();
SELECT * FROM t.cursors();
SELECT version, committed_at BETWEEN now() - interval '1 min' AND clock_timestamp() AS stamped FROM seq_cursors;
-- Receive, effects and seq_commit in one transaction.
CALL t.append(3, '{a,"a,b"}');
BEGIN;
SELECT t.process(max_txns => 4);
SELECT seq_commit() > 0 AS moved;
COMMIT;
SELECT * FROM t.cursors();
SELECT * FROM t.effects ORDER BY n;
-- Nothing is stored that did not move.
SELECT seq_commit();
-- Another session continues there, as this one does when it comes back;
SELECT seq_unsubscribe();
SELECT seq_subscribe('{97,98}');
SELECT t.take();
\c -
SET statement_timeout = '2 min';
SELECT seq_subscribe('{97,98}');
SELECT t.take();
-- what was received but not committed is received again.
\c -
SET statement_timeout = '2 min';
SELECT seq_subscribe('{97,98}');
BEGIN;
SELECT t.process();
SELECT seq_commit() > 0 AS moved;
COMMIT;
\c -
SET statement_timeout = '2 min';
SELECT seq_subscribe('{97,98}');
SELECT t.take();
CALL t.append(1, '{b}');
SELECT t.take();
SELECT seq_unsubscribe();
SELECT * FROM t.cursors();

-- Quiet vshards continue, too: nothing that comes between sessions is lost,
-- whether anything came before or not.
SELECT seq_subscribe('{97,98,99,100}', 'quiet');
SELECT t.take('quiet');
CALL t.append(1);
SELECT t.process('quiet');
SELECT seq_commit('quiet');
\c -
SET statement_timeout = '2 min';
CALL t.append(1, '{"a,b,c"}');
SELECT seq_subscribe('{97,98,99}', 'quiet');
CALL t.append(1, '{c,b}');
SELECT t.take('quiet');
-- Subscribed without a cursor beside those with one: from now on.
CALL t.append(1, '{"a,b,d,e"}');
SELECT seq_subscribe('{99,100,101}', 'quiet');
CALL t.append(1, '{"a,b,c,d,e"}');
SELECT t.take('quiet');
SELECT seq_commit('quiet');
SELECT * FROM t.cursors() WHERE name = 'quiet';
-- A cursor with nothing to do is brought along now and then, so that nobody
-- has to read all of the log again.
CALL t.append(1022, '{z}');
SELECT t.take('quiet'), seq_commit('quiet');
CALL t.append(2, '{z}');
SELECT t.take('quiet'), seq_commit('quiet');
SELECT count(DISTINCT epoch), min(epoch) = seq_current_committed_epoch() + 1 AS at_end, sum("position") FROM seq_cursors WHERE name = 'quiet';
SELECT seq_commit('quiet'), seq_unsubscribe(name => 'quiet'), seq_drop_cursor('quiet');
