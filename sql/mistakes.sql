--
-- What newcomers do at first, and what they are told.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_seq_worker, regress_seq_creator, regress_seq_heir;
RESET client_min_messages;
SELECT seq_create_group('g');
INSERT INTO seq_log (entry) SELECT t.batch(e, '{a}') FROM generate_series(0, 9) e;
CALL t.wait_applied();

--
-- LIMIT: what it would leave out counts as received, so it is refused before anything is
--
PREPARE bounded(int, int) AS SELECT epoch FROM seq_fetch('g', $1) LIMIT $2;
CREATE TEMP TABLE tried AS SELECT c, t.failure(c) FROM unnest(ARRAY[
	'SELECT * FROM seq_fetch(''g'') LIMIT 1', 'SELECT * FROM seq_fetch_json(''g'') LIMIT 1', 'SELECT * FROM seq_receive() LIMIT 1',
	'SELECT * FROM seq_fetch(''g'', 10) FETCH FIRST ROW ONLY', 'SELECT * FROM seq_fetch(''g'', 10) ORDER BY epoch DESC LIMIT 9', 'SELECT * FROM seq_fetch(''g'', 10) OFFSET 1',
	'SELECT seq_fetch(''g'', 10) LIMIT 1', 'SELECT * FROM (SELECT * FROM seq_fetch(''g'', 10)) f LIMIT 1',
	'CREATE TEMP TABLE none AS SELECT f.epoch FROM seq_fetch(''g'', 10) f, pg_class LIMIT 3', 'SELECT * FROM seq_fetch(max_txns => 2, name => ''g'') LIMIT 1',
	'SELECT f.epoch FROM seq_fetch(''g'', 2) f, generate_series(1, 3) LIMIT 4',
	'EXECUTE bounded(2, 1)', 'SELECT (SELECT epoch FROM seq_fetch(''g'', 2) LIMIT 1)', 'EXPLAIN SELECT * FROM seq_fetch(''g'') LIMIT 1']) c;
SELECT DISTINCT failure FROM tried ORDER BY 1;
SELECT seq_pending('g');
-- which it does not where it leaves out nothing
SELECT epoch FROM seq_fetch('g', 1) LIMIT 1;
SELECT epoch FROM seq_fetch('g', 2) LIMIT ALL;
SELECT epoch FROM seq_fetch('g', 1) OFFSET 0;
SELECT count(*), min(epoch) FROM seq_fetch('g', 3) LIMIT 1;
EXECUTE bounded(1, 1);
SELECT epoch, (SELECT seq_pending('g') >= 0) AS seen FROM seq_fetch('g', 1), LATERAL (SELECT FROM pg_class LIMIT 1) l;
SELECT count(*) FROM seq_replay(97, 0, 9) WHERE epoch IN (SELECT epoch FROM seq_replay(97, 0, 9) LIMIT 2);
SELECT seq_pending('g');

--
-- Rows that a query leaves out at another level, or that nobody takes: it fails at its end
--
INSERT INTO seq_log (entry) SELECT t.batch(e, '{a}') FROM generate_series(10, 39) e;
CALL t.wait_applied();
CREATE FUNCTION pg_temp.lazy() RETURNS bigint LANGUAGE sql AS 'SELECT epoch FROM seq_fetch(''g'', 2)';
CREATE FUNCTION pg_temp.looped(most int, stop bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE r record; n bigint = 0;
BEGIN
	FOR r IN SELECT * FROM seq_fetch('g', most) LOOP
		n = n + 1;
		EXIT WHEN n = stop;
	END LOOP;
	RETURN n;
END $$;
SELECT seq_subscribe(ARRAY[97], 's', 0);
CREATE TEMP TABLE left_out AS SELECT c, t.failure(c) FROM unnest(ARRAY[
	'WITH m AS MATERIALIZED (SELECT * FROM seq_fetch(''g'', 3)) SELECT * FROM m LIMIT 2', 'WITH m AS MATERIALIZED (SELECT * FROM seq_fetch(''g'', 3)) SELECT * FROM m OFFSET 1',
	'WITH m AS MATERIALIZED (SELECT * FROM seq_fetch(''g'', 3) ORDER BY epoch DESC) SELECT epoch FROM m ORDER BY 1 LIMIT 1',
	'SELECT * FROM (SELECT epoch FROM seq_fetch(''g'', 3) ORDER BY 1) f LIMIT 2', 'SELECT * FROM (SELECT seq_fetch(''g'', 3) OFFSET 0) f LIMIT 2',
	'SELECT epoch, n FROM (SELECT epoch, count(*) AS n FROM seq_fetch(''g'', 3) GROUP BY 1) f LIMIT 2', 'SELECT epoch, count(*) FROM seq_fetch(''g'', 3) GROUP BY 1 LIMIT 2',
	'SELECT EXISTS (SELECT FROM seq_fetch(''g'', 3))', 'SELECT epoch FROM seq_fetch(''g'', 3) UNION ALL SELECT epoch FROM seq_fetch(''g'', 3) LIMIT 4',
	'SELECT epoch FROM seq_fetch(''g'', 3) UNION ALL SELECT epoch FROM seq_fetch(''g'', 3) ORDER BY 1 LIMIT 4',
	'WITH m AS MATERIALIZED (SELECT * FROM seq_fetch(''g'', 3)) SELECT * FROM m UNION ALL SELECT * FROM m LIMIT 2',
	'WITH m AS MATERIALIZED (SELECT * FROM seq_fetch(''g'', 3)) SELECT epoch FROM m, generate_series(1, 3) ORDER BY 1 LIMIT 4', 'SELECT unnest(ARRAY[(seq_fetch(''g'', 3)).epoch, 1, 2]) LIMIT 4',
	'SELECT f.* FROM generate_series(1, 2) n, LATERAL (SELECT * FROM (SELECT n, epoch FROM seq_fetch(''g'', 5 - 2 * n) OFFSET 0) f LIMIT 2) f',
	'WITH m AS MATERIALIZED (SELECT * FROM seq_receive(3, ''0'', ''s'')) SELECT * FROM m LIMIT 2',
	'WITH m AS MATERIALIZED (SELECT * FROM seq_fetch(''g'', 3)), n AS MATERIALIZED (SELECT epoch FROM m) SELECT * FROM n LIMIT 2',
	'SELECT pg_temp.lazy()', 'SELECT pg_temp.looped(30, 2)',
	'DO ''DECLARE e bigint; BEGIN SELECT epoch INTO e FROM seq_fetch(''''g'''', 3); END''', 'DO ''DECLARE e bigint; BEGIN SELECT seq_fetch(''''g'''', 3) INTO e; END''',
	'DO ''DECLARE e bigint; BEGIN SELECT epoch INTO e FROM seq_fetch(''''g'''', 3) ORDER BY epoch DESC; END''',
	'DO ''DECLARE c CURSOR FOR SELECT * FROM seq_fetch(''''g'''', 3); r record; BEGIN OPEN c; FETCH c INTO r; CLOSE c; END''',
	'DO ''DECLARE c SCROLL CURSOR FOR SELECT epoch FROM seq_fetch(''''g'''', 3); r record; BEGIN OPEN c; FETCH c INTO r; FETCH c INTO r; FETCH PRIOR FROM c INTO r; FETCH c INTO r; CLOSE c; END''',
	'DO ''DECLARE c SCROLL CURSOR FOR SELECT epoch FROM seq_fetch(''''g'''', 2); r record; BEGIN OPEN c; FETCH c INTO r; FETCH ABSOLUTE 1 FROM c INTO r; CLOSE c; END''',
	'DO ''DECLARE c SCROLL CURSOR FOR SELECT * FROM (SELECT epoch FROM seq_fetch(''''g'''', 3) ORDER BY 1) f LIMIT 2; r record; BEGIN OPEN c; MOVE FORWARD ALL FROM c; FETCH PRIOR FROM c INTO r; CLOSE c; END''',
	'DO ''DECLARE c CURSOR FOR SELECT * FROM seq_receive(3, ''''0'''', ''''s''''); r record; BEGIN OPEN c; FETCH c INTO r; CLOSE c; END''']) c;
SELECT failure, count(*) FROM left_out GROUP BY 1 ORDER BY 1;
SELECT c, failure FROM left_out WHERE failure !~ '^0A000';
BEGIN;
DECLARE c CURSOR FOR SELECT epoch FROM seq_fetch('g', 3);
FETCH 2 FROM c;
COMMIT;
SELECT seq_pending('g');
-- but not what was taken to its end, what a condition or a join passes over, and what is stored
WITH m AS MATERIALIZED (SELECT epoch FROM seq_fetch('g', 2)) SELECT * FROM m LIMIT 2;
WITH m AS MATERIALIZED (SELECT epoch FROM seq_fetch('g', 2)) SELECT * FROM m LIMIT 3;
WITH m AS MATERIALIZED (SELECT epoch FROM seq_fetch('g', 2)), n AS (SELECT count(*) FROM m) SELECT * FROM n LIMIT 1;
WITH m AS MATERIALIZED (SELECT epoch FROM seq_fetch('g', 2)), n AS (SELECT array_agg(epoch) AS all_of FROM m) SELECT epoch, all_of FROM m, n LIMIT 1;
CREATE TEMP TABLE stored (epoch bigint);
WITH m AS MATERIALIZED (SELECT epoch FROM seq_fetch('g', 2)), n AS (INSERT INTO stored SELECT epoch FROM m RETURNING 1) SELECT * FROM n LIMIT 1;
WITH m AS MATERIALIZED (SELECT epoch FROM seq_fetch('g', 2)) SELECT e.* FROM m JOIN (VALUES (20), (23)) e (epoch) USING (epoch) LIMIT 5;
SELECT epoch FROM (SELECT epoch FROM seq_fetch('g', 3) ORDER BY 1) f WHERE epoch % 2 = 1 LIMIT 3;
SELECT EXISTS (SELECT FROM seq_fetch('g', 1));
SELECT pg_temp.looped(3, 3);
DO $$ DECLARE e bigint[]; f bigint; BEGIN SELECT array_agg(epoch) INTO e FROM seq_fetch('g', 2); SELECT epoch INTO f FROM seq_fetch('g', 1); RAISE NOTICE '% %', e, f; END $$;
SELECT pg_temp.looped(12, null);
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT epoch FROM seq_receive(3, '0', 's');
FETCH 2 FROM c;
FETCH 2 FROM c;
FETCH BACKWARD 2 FROM c;
CLOSE c;
COMMIT;
SELECT count(*) FROM stored;
SELECT seq_pending('g');
INSERT INTO seq_log (entry) SELECT t.batch(e, '{a}') FROM generate_series(40, 61) e;
CALL t.wait_applied();
-- EXPLAIN ANALYZE shows none of them: only where it can be rolled back, or what it runs stores them
\o /dev/null
EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM seq_fetch('g', 3);
EXPLAIN (ANALYZE, COSTS OFF) SELECT count(*) FROM seq_fetch_json('g', 0);
BEGIN;
EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM seq_fetch('g', 3);
ROLLBACK;
\o
SELECT seq_pending('g');
\o /dev/null
EXPLAIN (ANALYZE, COSTS OFF) INSERT INTO stored SELECT epoch FROM seq_fetch('g', 1);
EXPLAIN (ANALYZE, COSTS OFF) WITH n AS (INSERT INTO stored SELECT epoch FROM seq_fetch('g', 1) RETURNING 1) SELECT * FROM n;
\o
SELECT seq_pending('g'), (SELECT max(epoch) FROM stored);
-- each of several calls has a LIMIT of its own
SELECT (SELECT epoch FROM seq_fetch(n, 1) LIMIT 1), EXISTS (SELECT FROM seq_fetch(n, 1)) FROM (VALUES ('g'), ('g')) v (n);
SELECT f.* FROM generate_series(1, 2) n, LATERAL (SELECT * FROM (SELECT n, epoch FROM seq_fetch('g', 2 + 0 * n) OFFSET 0) f LIMIT 2) f;
SELECT epoch FROM seq_fetch('g', 2) UNION ALL SELECT epoch FROM seq_fetch('g', 2) LIMIT 4;
SELECT f.epoch FROM seq_fetch('g', 1) f, generate_series(1, 3) LIMIT 1;
SELECT epoch FROM seq_fetch('g', 2) f WHERE NOT EXISTS (SELECT FROM stored s WHERE s.epoch = f.epoch) ORDER BY epoch LIMIT 2;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT epoch FROM seq_fetch('g', 2);
FETCH 2 FROM c;
FETCH BACKWARD 1 FROM c;
CLOSE c;
COMMIT;
SELECT seq_pending('g');
-- where its CLOSE fails behind a savepoint a cursor is of no use any more, and nothing can be committed
BEGIN;
DECLARE c CURSOR FOR SELECT epoch FROM seq_fetch('g', 3);
FETCH 1 FROM c;
SAVEPOINT s;
CLOSE c;
ROLLBACK TO s;
SAVEPOINT t;
FETCH 1 FROM c;
ROLLBACK TO t;
CLOSE c;
COMMIT;
CREATE FUNCTION pg_temp.each() RETURNS SETOF bigint LANGUAGE sql AS 'SELECT epoch FROM seq_fetch(''g'', 3)';
DO $$ DECLARE c CURSOR FOR SELECT pg_temp.each(); e bigint; BEGIN OPEN c; FETCH c INTO e; BEGIN CLOSE c; EXCEPTION WHEN feature_not_supported THEN END; END $$;
BEGIN;
DECLARE c CURSOR FOR SELECT epoch FROM seq_receive(3, '0', 's');
FETCH 1 FROM c;
SAVEPOINT s;
CLOSE c;
ROLLBACK TO s;
CLOSE c;
SELECT seq_commit('s');
ROLLBACK;
SELECT seq_pending('g');
SELECT seq_unsubscribe(NULL, 's');

--
-- Arguments of another type: the error is the server's, what is to be done is said by \df+
--
SELECT c, regexp_replace(t.failure(c), ': No .*', '') AS failure FROM unnest(ARRAY['SELECT seq_receive(timeout => 5)', 'SELECT seq_fetch(''g'', 100, 5)', 'SELECT seq_subscribe(ARRAY[''orders''])']) c;
SELECT proname COLLATE "C", obj_description(oid, 'pg_proc') ~ 'as in (''5 s''|ARRAY\[seq_vshard)' AS shown FROM pg_proc
WHERE proname IN ('seq_fetch', 'seq_fetch_json', 'seq_receive', 'seq_subscribe', 'seq_register') ORDER BY 1;
-- Untyped arguments, as drivers send them, fit one function each.
SELECT count(*) FROM (SELECT proname FROM pg_proc WHERE proname ~ '^seq_(fetch|fetch_json|receive|receive_batch|subscribe|register|send|wait_for_.*|submission)$'
	GROUP BY 1 HAVING count(*) > 1) overloaded;

--
-- Hints name what the role may not use, and say so
--
CREATE ROLE regress_seq_worker;
CREATE ROLE regress_seq_creator SUPERUSER;
CREATE ROLE regress_seq_heir;
GRANT EXECUTE ON FUNCTION seq_fetch(text, integer, interval), seq_receive(integer, interval, text) TO regress_seq_worker;
SET ROLE regress_seq_worker;
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE FUNCTION pg_temp.hint(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
	EXECUTE command;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN hint;
END $$;
SELECT pg_temp.hint('SELECT seq_fetch(''none'')');
-- A pooler is the likely cause.
SELECT pg_temp.hint('SELECT seq_receive()');
RESET ROLE;
SELECT pg_temp.hint('SELECT seq_fetch(''none'')');
GRANT EXECUTE ON FUNCTION seq_create_group(text, integer, integer[], text[], bigint) TO regress_seq_worker;
SET ROLE regress_seq_worker;
SELECT pg_temp.hint('SELECT seq_fetch(''none'')');
SELECT pg_temp.hint('SELECT seq_create_group(''g'')');
RESET ROLE;
DROP OWNED BY regress_seq_worker;

--
-- REASSIGN OWNED from who created the extension, to somebody who is no superuser: an event
-- trigger could not be his, nor may he have what that calls
--
DROP EXTENSION calvin_seq CASCADE;
GRANT CREATE ON SCHEMA public TO regress_seq_heir;
SET SESSION AUTHORIZATION regress_seq_creator;
SET client_min_messages = error;
CREATE EXTENSION calvin_seq;
RESET SESSION AUTHORIZATION;
RESET client_min_messages;
REASSIGN OWNED BY regress_seq_creator TO regress_seq_heir;
SELECT extowner::regrole, (SELECT relowner::regrole FROM pg_class WHERE oid = 'seq_log'::regclass) FROM pg_extension WHERE extname = 'calvin_seq';
SELECT count(*) AS of_the_guard, bool_and(owner = (SELECT oid FROM pg_roles WHERE oid = 10)) AS kept
FROM (SELECT evtowner FROM pg_event_trigger WHERE evtname ~ '^seq_log_guard' UNION ALL SELECT proowner FROM pg_proc WHERE proname ~ '^seq_log_guard') o (owner);
SET ROLE regress_seq_heir;
SELECT t.failure(c) FROM unnest(ARRAY[
	'CREATE OR REPLACE FUNCTION seq_log_guard() RETURNS event_trigger LANGUAGE plpgsql AS ''BEGIN END''',
	'ALTER EXTENSION calvin_seq DROP FUNCTION seq_log_guard()', 'ALTER TABLE seq_log DISABLE TRIGGER ALL']) c;
SELECT seq_create_group('h');
SELECT seq_append_json('{"EpochBatch": {"txns": [{"tx_class": {"write_set": [{"Document": {"collection": "a"}}], "plans": "\\x"}}]}}');
SELECT vshard, epoch FROM seq_fetch('h', 10, '1 min');
RESET ROLE;
DROP OWNED BY regress_seq_creator, regress_seq_heir CASCADE;
DROP ROLE regress_seq_worker, regress_seq_creator, regress_seq_heir;
SET client_min_messages = warning;
CREATE EXTENSION calvin_seq;
