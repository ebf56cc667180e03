--
-- Groups: how they are made, what seq_fetch gives, and whose it is then
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\set VERBOSITY terse
SET timezone = 'UTC';
SET statement_timeout = '1min';
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_team, regress_mate, regress_stranger;
RESET client_min_messages;
-- What a fetch gives: vshard, epoch and position.
CREATE FUNCTION t.fetched(name text, n int DEFAULT 1000, timeout interval DEFAULT '0') RETURNS text LANGUAGE sql AS
	$$ SELECT string_agg(concat_ws('/', vshard, epoch, "position"), ' ') FROM seq_fetch($1, $2, $3) $$;
-- Where its partitions stand.
CREATE FUNCTION t.stands(name text) RETURNS text LANGUAGE sql AS
	$$ SELECT string_agg(concat_ws('/', epoch, "position", vshard), ' ' ORDER BY "partition") FROM
		(SELECT DISTINCT ON ("partition") * FROM seq_group_positions JOIN seq_registrations r USING (id) WHERE r.name = $1 ORDER BY "partition", version DESC) p $$;
-- One message in JSON for each collection, in a batch of the epoch.
CREATE FUNCTION t.messages(epoch bigint, VARIADIC messages text[]) RETURNS bytea LANGUAGE sql AS $$
	SELECT seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object('epoch', epoch, 'epoch_system_ms', 1000 * epoch, 'txns',
		(SELECT jsonb_agg(jsonb_build_object('tx_class', jsonb_build_object('tenant_id', i, 'plans', '\x' || encode(convert_to(split_part(m, '=', 2), 'UTF8'), 'hex'),
			'write_set', (SELECT jsonb_agg(jsonb_build_object('Document', jsonb_build_object('collection', c, 'surrogates', '[]'::jsonb))) FROM unnest(coalesce(nullif(string_to_array(split_part(m, '=', 1), ','), '{}'), '{""}')) c))) ORDER BY i)
			FROM unnest(messages) WITH ORDINALITY AS u (m, i)))))
$$;

--
-- Making them
--

-- Nothing in the log: its end is epoch 0.
SELECT seq_create_group('early', 2);
SELECT t.stands('early');
CALL t.append(5, '{a,b}');
-- all that may be left out, and where they begin: at the end of the log as of the commit
SELECT seq_create_group('plain');
SELECT name, owner = current_user AS mine, kind, vshards, partitions, epochs_behind, pending, parked, delivered, retried, last_progress, state FROM seq_consumers ORDER BY 1;
SELECT t.stands('plain') = repeat('5/0/0 ', 15) || '5/0/0' AS at_the_end;
BEGIN;
SELECT seq_create_group('later', 1);
SELECT seq_append(t.batch(5)) > 0;
COMMIT;
SELECT t.stands('later');
SELECT seq_create_group('from_0', 1, from_epoch => 0), seq_create_group('from_3', 1, from_epoch => 3), seq_create_group('from_end', 1, from_epoch => 6);
CALL t.wait_applied();
SELECT t.fetched('from_0'), t.fetched('from_3'), t.fetched('from_end'), t.fetched('later'), t.fetched('early');
SELECT count(seq_drop_group(name)) FROM seq_registrations;

-- Partitions: as many as that, but not more than vshards.
SELECT seq_create_group('one', 1), seq_create_group('most', 1024), seq_create_group('few', 100, '{3,1,2,2,1}');
SELECT name, partitions, vshards FROM seq_consumers ORDER BY 1;
SELECT count(seq_drop_group(name)) FROM seq_registrations;

-- What is refused, by an error that names it; nothing is left of it.
CREATE TABLE t.refused (call text);
\copy t.refused FROM stdin
'x', 0
'x', -1
'x', 1025
'x', 2147483647
'x', NULL
NULL
''
repeat('x', 64)
repeat('é', 32)
'x', 4, '{}'
'x', 4, '{1024}'
'x', 4, '{-1}'
'x', 4, '{1,NULL}'
'x', 4, '{{1,2},{3,4}}'
'x', collections => '{}'
'x', collections => '{a,NULL}'
'x', collections => '{{a},{b}}'
'x', from_epoch => -1
'x', from_epoch => 7
'x', from_epoch => 9223372036854775807
\.
\pset tuples_only on
\pset format unaligned
SELECT call || E'\n  ' || t.failure('SELECT seq_create_group(' || call || ')') FROM t.refused;
\pset tuples_only off
\pset format aligned
-- a name at its longest, and one as odd as names can be
SELECT seq_create_group(repeat('x', 63)), seq_create_group('We''ird "näme" %', 1, '{97}', from_epoch => 5);
SELECT name, owner = current_user AS mine FROM seq_consumers ORDER BY name COLLATE "C";
SELECT t.fetched('We''ird "näme" %');
SELECT count(seq_drop_group(name)) FROM seq_registrations;

-- Kinds, and names that are taken.
SELECT seq_create_group('g', 4, '{97,98,99,100}', from_epoch => 0), seq_register('stream', '{97}', 0);
SELECT c, t.failure('SELECT ' || c) FROM unnest(ARRAY[
	$$seq_create_group('g')$$, $$seq_create_group('stream')$$, $$seq_register('g', '{97}')$$,
	$$seq_fetch('stream')$$, $$seq_fetch_json('stream')$$, $$seq_park('stream', 97, 0, 0, '')$$, $$seq_retry('stream', 97, 0, 0)$$, $$seq_drop_parked('stream', 97, 0, 0)$$,
	$$seq_drop_group('stream')$$, $$seq_unregister('g')$$, $$seq_subscribe('{97}', 'g')$$, $$seq_commit('g')$$, $$seq_drop_cursor('g')$$,
	$$seq_fetch('nobody')$$, $$seq_fetch_json('nobody')$$, $$seq_drop_group('nobody')$$, $$seq_pending('nobody')$$]) c;
-- for each of them, its own name in the error
SELECT c, t.failure('SELECT ' || c) FROM unnest(ARRAY[$$seq_fetch('')$$, $$seq_fetch_json(repeat('x', 64))$$, $$seq_park('', 1, 0, 0, '')$$, $$seq_retry('', 1, 0, 0)$$,
	$$seq_drop_parked('', 1, 0, 0)$$, $$seq_drop_group('')$$, $$seq_pending('')$$, $$seq_unregister('')$$]) c;
BEGIN READ ONLY;
SAVEPOINT s;
\set ON_ERROR_ROLLBACK on
SELECT seq_create_group('x');
SELECT seq_drop_group('g');
SELECT * FROM seq_fetch('g');
SELECT * FROM seq_fetch_json('g');
SELECT seq_park('g', 97, 0, 0, '');
SELECT seq_retry('g', 97, 0, 0);
SELECT seq_drop_parked('g', 97, 0, 0);
SELECT seq_handle('g', 'now()');
SELECT seq_unhandle('g');
-- but it tells
SELECT seq_pending('g'), (SELECT pending FROM seq_consumers WHERE name = 'g');
\set ON_ERROR_ROLLBACK off
COMMIT;

--
-- Fetching
--

-- Arguments.
SELECT c, t.failure('SELECT ' || c) FROM unnest(ARRAY[$$seq_fetch(NULL)$$, $$seq_fetch('g', NULL)$$, $$seq_fetch('g', timeout => NULL)$$, $$seq_fetch('g', -1)$$,
	$$seq_fetch('g', 1, '-1 us')$$, $$seq_fetch_json('g', -1)$$, $$seq_fetch_json('g', 1, '-1 day')$$, $$seq_fetch_json(NULL)$$]) c;
-- none is nothing, and waits for nothing
SELECT t.fetched('g', 0, '1 hour');
SELECT t.stands('g');

-- As many as were asked for, in the order of their keys, whichever partition they are in.
SELECT seq_create_group('two', 2, '{97,98}', from_epoch => 0);
SELECT t.fetched('two', 1);
SELECT t.fetched('two', 2);
SELECT t.fetched('two', 3);
-- a partition that had nothing of it stays where it was
SELECT t.stands('two');
SELECT t.fetched('two', 1);
SELECT t.stands('two');
SELECT t.fetched('two');
SELECT t.fetched('two', 1000, '1 ms');
SELECT seq_pending('two');
SELECT seq_drop_group('two');
SELECT t.fetched('g');

-- A transaction of several vshards comes for each of them; whoever reads a vshard
-- is in it as well, and gets no collection.
INSERT INTO seq_log (entry) SELECT seq_encode('{"EpochBatch": {"epoch": 6, "epoch_system_ms": 6000, "txns": [
	{"tx_class": {"write_set": [{"Document": {"collection": "c", "surrogates": []}}, {"Document": {"collection": "a", "surrogates": []}}], "plans": "\\x31", "tenant_id": 7}},
	{"tx_class": {"write_set": [{"Document": {"collection": "b", "surrogates": []}}], "plans": "\\x32", "tenant_id": 8,
		"dependent_reads": {"100": [{"Document": {"collection": "a", "surrogates": [1]}}], "5": []}}}]}}');
CALL t.wait_applied();
BEGIN;
SELECT vshard, epoch, "position", epoch_system_ms, tenant_id, participating_vshards, plans, tx_class = (SELECT r.tx_class FROM seq_replay(f.vshard, f.epoch, f.epoch) r WHERE r."position" = f."position") AS same FROM seq_fetch('g') f;
ROLLBACK;
SELECT * FROM seq_fetch_json('g');

-- What else is in the log is passed by: no-ops, acks, what is stale, no entry, or empty.
INSERT INTO seq_log (entry) VALUES (''), (t.batch(3, '{c}')), ('\xc1'), ('\x92aa45706f6368426174636891930790ff');
SELECT seq_ack(6, 0, 97) > 0;
-- a gap, whose epochs there are not
INSERT INTO seq_log (entry) VALUES (t.batch(1000, '{a}')), (''), (t.batch(1001, '{b}'));
CALL t.wait_applied();
SELECT kind, epoch FROM seq_log WHERE log_index > 7 ORDER BY log_index;
SELECT seq_pending('g'), epochs_behind FROM seq_consumers WHERE name = 'g';
SELECT t.fetched('g', 1);
SELECT t.fetched('g');

-- Filters: what is for another collection is passed by, in each vshard for itself.
SELECT seq_create_group('exact', 4, '{97,98,99,100}', '{a,b}'), seq_create_group('prefix', collections => '{or%}'), seq_create_group('both', collections => '{order%,orders,c}'),
	seq_create_group('all', collections => '{%}'), seq_create_group('none', collections => '{""}'), seq_create_group('percent', collections => '{%%,a_}');
SELECT seq_vshard('orders') AS orders, seq_vshard('orders/1') AS orders_1, seq_vshard('order') AS "order", seq_vshard('%') AS percent, seq_vshard('a%b') AS within, seq_vshard('') AS empty;
INSERT INTO seq_log (entry) VALUES (t.batch(1002, '{"orders,a","b,c","order,orders/1","%","a%b","c,b,a"}'));
CALL t.wait_applied();
SELECT name, seq_pending(name), t.fetched(name) FROM unnest('{exact,prefix,both,all,none,percent,g}'::text[]) name;
-- the first collection of the vshard that passes
INSERT INTO seq_log (entry) VALUES (t.messages(1003, 'zz,a=1', 'orders=2', '="no name"', 'c,order,b=3'));
CALL t.wait_applied();
SELECT f.* FROM unnest('{exact,both,none}'::text[]) name, seq_fetch_json(name) f;
SELECT name, seq_pending(name) FROM unnest('{exact,prefix,both,all,none,percent,g}'::text[]) name;
SELECT count(seq_drop_group(name)) FROM seq_registrations WHERE name NOT IN ('g', 'stream');
SELECT t.fetched('g');

--
-- The caller's transaction
--
INSERT INTO seq_log (entry) SELECT t.messages(e, 'a=' || e, 'b=' || e) FROM generate_series(1004, 1009) e;
CALL t.wait_applied();
SELECT t.stands('g') AS before \gset
BEGIN;
SELECT t.fetched('g', 3);
-- two fetches in one
SELECT t.fetched('g', 2);
SAVEPOINT s;
SELECT t.fetched('g', 2);
ROLLBACK TO s;
SELECT t.fetched('g', 1);
RELEASE s;
SAVEPOINT s;
SAVEPOINT t;
SELECT t.fetched('g', 2);
RELEASE t;
ROLLBACK TO s;
SELECT seq_pending('g');
SELECT t.fetched('g', 1);
ROLLBACK;
SELECT t.stands('g') = :'before' AS nothing_moved, seq_pending('g');
-- an error is a rollback, also in a block
BEGIN;
SELECT t.fetched('g', 1);
SELECT t.failure($$SELECT 1 / 0 FROM seq_fetch('g', 4)$$);
SELECT t.fetched('g', 2);
SELECT 1 / 0;
ROLLBACK;
SELECT t.stands('g') = :'before' AS nothing_moved;

-- It cannot be prepared, also if nothing came of it.
BEGIN;
SELECT t.fetched('g', 1);
PREPARE TRANSACTION 'p';
BEGIN;
SELECT t.fetched('g', 0);
PREPARE TRANSACTION 'p';
SELECT t.stands('g') = :'before' AS nothing_moved;

-- In one statement.
CREATE TABLE t.effects (epoch bigint, n int);
WITH m AS MATERIALIZED (SELECT * FROM seq_fetch_json('g', 2)) INSERT INTO t.effects SELECT epoch, payload::int FROM m;
TABLE t.effects;
-- twice in one, each of them has its own
SELECT x.epoch, x.vshard, y.epoch, y.vshard FROM seq_fetch('g', 1) x, seq_fetch('g', 1) y;
-- in the select list
SELECT (f).vshard, (f).epoch FROM (SELECT seq_fetch('g', 2) AS f OFFSET 0) x;
SELECT count(*) FROM (SELECT seq_fetch('g', 1) FROM generate_series(1, 2)) x;
-- a WHERE does not make it less: every row that came is processed; a LIMIT would not, and is refused
SELECT vshard, epoch FROM seq_fetch('g', 3) LIMIT 1;
SELECT seq_pending('g');
SELECT vshard, epoch FROM seq_fetch('g', 3) WHERE vshard < 0;
SELECT seq_pending('g');
SELECT vshard, epoch FROM seq_fetch('g', 1) WHERE vshard < 0;
SELECT t.fetched('g');

--
-- Rows live as long as what they were fetched in
--
INSERT INTO seq_log (entry) SELECT t.messages(e, 'a=' || e) FROM generate_series(1010, 1013) e;
CALL t.wait_applied();
-- a cursor of the same transaction
BEGIN;
DECLARE c CURSOR FOR SELECT vshard, epoch FROM seq_fetch('g', 2);
FETCH 1 FROM c;
SELECT seq_pending('g');
FETCH ALL FROM c;
ROLLBACK;
-- from outside of a savepoint, whose rollback it would survive
BEGIN;
DECLARE c CURSOR FOR SELECT vshard, epoch FROM seq_fetch('g');
SAVEPOINT s;
FETCH 1 FROM c;
ROLLBACK TO s;
FETCH 1 FROM c;
ROLLBACK;
-- one that failed in the middle
BEGIN;
DECLARE c CURSOR FOR SELECT epoch, 1 / (epoch - 1011) AS x FROM seq_fetch('g');
FETCH 1 FROM c;
SAVEPOINT s;
FETCH 1 FROM c;
ROLLBACK TO s;
COMMIT;
SELECT seq_pending('g');
-- WITH HOLD: with rows that nobody has seen it does not commit, nor gives them later
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT epoch FROM seq_fetch('g', 2);
FETCH 1 FROM c;
COMMIT;
SELECT seq_pending('g');
FETCH 1 FROM c;
CLOSE c;
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT epoch FROM seq_fetch('g', 1);
FETCH ALL FROM c;
COMMIT;
CLOSE c;
SELECT seq_pending('g');
-- one that was read to its last row, though not beyond, and does not fit into memory
SET work_mem = '64kB';
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT repeat('x', 100000) FROM seq_fetch('g', 1);
MOVE 1 FROM c;
COMMIT;
CLOSE c;
RESET work_mem;
SELECT seq_pending('g');
-- the loops of procedures
\set VERBOSITY default
\set SHOW_CONTEXT never
DO $$
DECLARE r record;
BEGIN
	FOR r IN SELECT * FROM seq_fetch('g') LOOP
		INSERT INTO t.effects VALUES (r.epoch);
		COMMIT;
	END LOOP;
END $$;
DO $$
DECLARE
	r record;
	first boolean := true;
BEGIN
	FOR r IN SELECT * FROM seq_fetch('g') LOOP
		INSERT INTO t.effects VALUES (r.epoch);
		IF first THEN ROLLBACK; END IF;
		first := false;
	END LOOP;
END $$;
\set VERBOSITY terse
SELECT seq_pending('g'), (SELECT count(*) FROM t.effects) AS effects;
DO $$
DECLARE r record;
BEGIN
	LOOP
		FOR r IN SELECT * FROM seq_fetch('g', 2) LOOP
			BEGIN
				INSERT INTO t.effects VALUES (r.epoch);
			EXCEPTION WHEN OTHERS THEN
				PERFORM seq_park('g', r.vshard, r.epoch, r."position", SQLERRM);
			END;
		END LOOP;
		EXIT WHEN NOT FOUND;
		COMMIT;
	END LOOP;
END $$;
SELECT seq_pending('g'), (SELECT count(*) FROM t.effects) AS effects;

--
-- JSON
--
-- (vshard, epoch, position, at, collection, tenant_id, payload)
SELECT name, type::regtype FROM pg_proc, unnest(proargnames, proallargtypes, proargmodes) AS a (name, type, mode) WHERE proname = 'seq_fetch_json' AND mode = 'o';
-- a payload that is none is an error, that names it; nothing has moved
INSERT INTO seq_log (entry) VALUES (t.messages(1014, 'a={"n": [1, null, "é"]}', 'b=1')), (t.messages(1015, 'a=2', 'a=no JSON', 'b=3'));
CALL t.wait_applied();
SELECT t.stands('g') AS before \gset
CREATE FUNCTION t.where_it_fails(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	context text;
BEGIN
	EXECUTE command;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
	RETURN SQLSTATE || ': ' || substring(context FROM 'transaction [^\n]*');
END $$;
SELECT t.where_it_fails($$SELECT * FROM seq_fetch_json('g')$$);
SELECT t.stands('g') = :'before' AS nothing_moved, seq_pending('g');
SELECT * FROM seq_fetch_json('g', 3);
SELECT seq_park('g', 97, 1015, 1, 'no JSON');
SELECT * FROM seq_fetch_json('g');
SELECT seq_pending('g'), (SELECT parked FROM seq_consumers WHERE name = 'g');
SELECT plans FROM seq_retry('g', 97, 1015, 1);

--
-- Lost: what it needs was truncated
--
SELECT seq_drop_group('g'), seq_unregister('stream');
SELECT seq_create_group('g', 2, '{97,98}', from_epoch => 1010), seq_create_group('h', 1, '{99}', from_epoch => 1010);
SELECT seq_truncate(1012, true) > 0;
SELECT t.failure($$SELECT seq_create_group('x', from_epoch => 1011)$$);
SELECT seq_create_group('x', 1, '{97}', from_epoch => 1012);
SELECT c, t.failure('SELECT ' || c) FROM unnest(ARRAY[$$seq_fetch('g')$$, $$seq_fetch_json('g')$$, $$seq_pending('g')$$, $$seq_park('g', 97, 1013, 0, '')$$, $$seq_retry('g', 97, 1013, 0)$$, $$seq_handle('g', 'now()')$$]) c;
-- who had nothing in what went is not
SELECT name, state, pending, t.failure(format('SELECT seq_fetch(%L)', name)) <> 'ok' AS fails FROM seq_consumers ORDER BY 1;
SELECT seq_drop_group('g');
SELECT seq_create_group('g', 2, '{97,98}', from_epoch => 1012);
SELECT t.fetched('g');
SELECT count(seq_drop_group(name)) FROM seq_registrations;

--
-- Whose it is, and how it is seen
--
CREATE ROLE regress_team;
CREATE ROLE regress_mate IN ROLE regress_team;
CREATE ROLE regress_stranger;
GRANT EXECUTE ON FUNCTION seq_create_group, seq_drop_group, seq_fetch, seq_fetch_json, seq_park, seq_retry, seq_drop_parked, seq_handle, seq_unhandle, seq_pending
	TO regress_team, regress_stranger;
SET ROLE regress_team;
SELECT seq_create_group('theirs', 2, '{97,98}');
RESET ROLE;
CALL t.append(2, '{a,b}', first => 1016);
SELECT seq_park('theirs', 97, 1016, 0, 'aside');
SELECT t.stands('theirs') AS before \gset
SET ROLE regress_stranger;
SELECT c, t.failure('SELECT ' || c) FROM unnest(ARRAY[$$seq_fetch('theirs')$$, $$seq_fetch_json('theirs')$$, $$seq_park('theirs', 98, 1016, 1, '')$$, $$seq_retry('theirs', 97, 1016, 0)$$,
	$$seq_drop_parked('theirs', 97, 1016, 0)$$, $$seq_drop_group('theirs')$$, $$seq_create_group('theirs')$$, $$seq_handle('theirs', 'now()')$$, $$seq_unhandle('theirs')$$]) c;
RESET ROLE;
SELECT t.stands('theirs') = :'before' AS nothing_moved;
SET ROLE regress_mate;
SELECT t.fetched('theirs', 1);
RESET ROLE;
SELECT name, owner, kind, vshards, partitions, epochs_behind, pending, parked, delivered, retried, last_progress > now() - interval '1 min' AS progress,
	oldest_unprocessed = (SELECT appended_at FROM seq_log WHERE epoch = 1016) AS oldest, lag > '0' AS lag, state FROM seq_consumers;
SELECT t.fetched('theirs');
SELECT epochs_behind, pending, parked, delivered, oldest_unprocessed, lag, state FROM seq_consumers;
-- who fetches is among its pids, to the end of his transaction
BEGIN;
SELECT t.fetched('theirs');
SELECT pids = ARRAY[pg_backend_pid()] AS mine FROM seq_consumers;
COMMIT;
SELECT pids FROM seq_consumers;
-- states; what time it is, is in the tables
INSERT INTO seq_log (entry, appended_at) VALUES (t.batch(1018), now() - interval '30 s');
CALL t.wait_applied();
SELECT state, lag BETWEEN interval '30 s' AND interval '2 min' AS lag FROM seq_consumers;
INSERT INTO seq_log (entry, appended_at) VALUES (t.batch(1019), now() - interval '1 hour');
CALL t.wait_applied();
UPDATE seq_group_positions SET moved_at = now() - interval '2 min';
SELECT state FROM seq_consumers;
BEGIN;
SELECT t.fetched('theirs', 0);
SELECT state FROM seq_consumers;
SELECT t.fetched('theirs', 1);
SELECT oldest_unprocessed = (SELECT appended_at FROM seq_log WHERE epoch = 1019) AS oldest, state FROM seq_consumers;
COMMIT;
UPDATE seq_group_positions SET moved_at = now() - interval '2 min';
BEGIN;
SELECT t.fetched('theirs', 0);
SELECT state FROM seq_consumers;
COMMIT;
-- dropped, with all it had; another one of its name has nothing of it
SET ROLE regress_mate;
SELECT seq_drop_group('theirs');
RESET ROLE;
SELECT (SELECT count(*) FROM seq_group_positions) AS positions, (SELECT count(*) FROM seq_parked_txns) AS parked, (SELECT count(*) FROM seq_consumers) AS consumers;
SELECT seq_create_group('theirs', 1, '{97,98}', from_epoch => 1016);
SELECT t.fetched('theirs');
-- dropped and made anew in one transaction in which it was used
BEGIN;
SELECT seq_drop_group('theirs');
SELECT t.failure($$SELECT seq_fetch('theirs')$$);
SELECT seq_create_group('theirs', 1, '{97}', from_epoch => 1018);
SELECT t.fetched('theirs', 1);
COMMIT;
SELECT t.fetched('theirs');
DROP OWNED BY regress_team, regress_stranger;
DROP ROLE regress_team, regress_mate, regress_stranger;
DROP EXTENSION calvin_seq CASCADE;
DROP SCHEMA t CASCADE;
