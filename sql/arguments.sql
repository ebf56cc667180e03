--
-- Absurd arguments: every function, now and later, with all of them.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
SET client_min_messages = warning; -- 19 notices what depends on temporary types
SELECT seq_append_json('{"EpochBatch": {"epoch": 0, "epoch_system_ms": -1, "txns": [
	{"tx_class": {"write_set": [{"Document": {"collection": "a", "surrogates": [1]}}], "plans": "\\xab", "tenant_id": 1}}]}}');
INSERT INTO seq_log (entry) VALUES ('\xc1'), (''), ('\x92aa45706f6368426174636891930290ff');
SELECT seq_wait_for_epoch(2, '1 min');
CREATE TEMP TABLE before AS SELECT last_applied_epoch, last_applied_index, digest, (SELECT md5(string_agg(l::text, ';' ORDER BY log_index)) FROM seq_log l) FROM seq_state;

SELECT seq_create_group('workers', from_epoch => 0);
-- What is tried of each type: a literal, or for large values, which are not
-- combined with others, an expression.
CREATE TEMP TABLE tried (type regtype, large boolean, value text);
INSERT INTO tried SELECT 'boolean', false, v FROM unnest('{NULL,true,false}'::text[]) v;
INSERT INTO tried SELECT 'integer', false, v FROM unnest('{NULL,0,-1,1,97,1023,1024,8192,1000000000,-2147483648,2147483647}'::text[]) v;
INSERT INTO tried SELECT 'bigint', false, v FROM unnest('{NULL,0,-1,1,2,3,1000000000,4294967295,4294967296,
	-9223372036854775808,9223372036854775805,9223372036854775806,9223372036854775807}'::text[]) v;
INSERT INTO tried SELECT 'interval', false, v FROM unnest('{NULL,0,1 us,-1 us,-999 us,-1 ms,-1 day,1 day -24:00:00.000001,
	-1 month 30 days -0.0005 s,178000000 years,-178000000 years,2147483647 days,-2147483648 days,2562047788 hours}'::text[]) v;
INSERT INTO tried SELECT 'interval', false, v FROM unnest('{infinity,-infinity}'::text[]) v
	WHERE current_setting('server_version_num')::int >= 170000;
INSERT INTO tried VALUES
	('text', false, NULL), ('text', false, ''), ('text', false, 'idle'), ('text', false, 'nobody'), ('text', false, '%n "\\''; --'),
	('text', false, repeat('n', 63)), ('text', false, repeat('n', 64)),
	('text', false, 'n' || repeat(chr(252), 31)), ('text', false, repeat(chr(252), 32)), ('text', false, repeat(chr(252), 64)),
	('text', true, $$repeat('n', 1000000)$$), ('text', true, $$repeat('n', 100000000)$$);
INSERT INTO tried SELECT 'integer[]', false, v FROM unnest(ARRAY[NULL, '{}', '{NULL}', '{1,NULL}', '{{1,2}}', '{{1},{2}}', '{{{NULL}}}',
	'[0:1]={1,2}', '[-5:-4]={97,97}', '[2147483646:2147483646]={97}', '{97,97,97}', '{1024}', '{-1}', '{97,-2147483648}', '{2147483647,97}']) v;
INSERT INTO tried SELECT 'integer[]', true, format('(SELECT array_agg(%s) FROM generate_series(1, 1000000) n)', v)
	FROM unnest('{n % 1024,97,n - 1,"nullif(n, 1000000)","ARRAY[n % 1024]"}'::text[]) v;
INSERT INTO tried SELECT 'uuid', false, v FROM unnest('{NULL,00000000-0000-0000-0000-000000000000,ffffffff-ffff-ffff-ffff-ffffffffffff}'::text[]) v;
INSERT INTO tried SELECT 'bigint[]', false, v FROM unnest(ARRAY[NULL, '{}', '{NULL}', '{{1},{2}}', '{-1}', '{0,1}', '{9223372036854775807}']) v;
INSERT INTO tried SELECT 'bytea', false, v FROM unnest(ARRAY[NULL, '', '\x00', '\xc0', '\xc1', '\x90', '\x80', '\xddffffffff', '\xdfffffffff', '\xdbffffffff',
	'\xc6ffffffff', '\xc9ffffffff', '\xcb7ff8000000000000', '\x92aa45706f63684261746368', '\x92aa45706f636842617463689193cf7fffffffffffffff90ff',
	'\x92aa45706f636842617463689193cf7ffffffffffffffe90ff', '\x92aa45706f6368426174636891930390ff', '\x92aa45706f6368426174636891930390d38000000000000000',
	'\x92aa45706f63684261746368919303ddffffffff', '\x92ad436f6d706c6574696f6e41636b93cfffffffffffffffff00ceffffffff',
	'\x92ad436f6d706c6574696f6e41636b93cf7ffffffffffffffeceffffffffceffffffff']) v;
INSERT INTO tried SELECT 'bytea', true, format($$decode(repeat('%s', 1000000), 'hex')$$, v) FROM unnest('{00,91,81,c4,ff}'::text[]) v;
INSERT INTO tried SELECT 'jsonb', false, v FROM unnest(ARRAY[NULL, 'null', 'true', '0', '1e1000', '-1e-1000', '""', '[]', '{}', '{"EpochBatch": null}', '{"EpochBatch": {}}',
	'{"CompletionAck": {"epoch": -1, "position": 0, "vshard_id": 0}}', '{"CompletionAck": {"epoch": 0.5, "position": 0, "vshard_id": 0}}',
	'{"CompletionAck": {"epoch": 9223372036854775806, "position": 4294967295, "vshard_id": 4294967295}}',
	'{"CompletionAck": {"epoch": 9223372036854775807, "position": 0, "vshard_id": 0}}',
	'{"CompletionAck": {"epoch": 0, "position": 4294967296, "vshard_id": 0}}', '{"CompletionAck": {"epoch": 1e400, "position": 0, "vshard_id": 0}}',
	'{"EpochBatch": {"epoch": 3, "epoch_system_ms": 9223372036854775807, "txns": []}}', '{"EpochBatch": {"epoch": 3, "epoch_system_ms": 9223372036854775808, "txns": []}}',
	'{"EpochBatch": {"epoch": 3, "epoch_system_ms": -9223372036854775808, "txns": []}}', '{"EpochBatch": {"epoch": 3, "epoch_system_ms": 0, "txns": [null]}}',
	'{"EpochBatch": {"epoch": 9223372036854775806, "epoch_system_ms": 0, "txns": []}}', '{"EpochBatch": {"epoch": 18446744073709551616, "epoch_system_ms": 0, "txns": {}}}']) v;
INSERT INTO tried SELECT 'text[]', false, v FROM unnest(ARRAY[NULL, '{}', '{NULL}', '{a,NULL}', '{{a}}', '{a,%,b%%,""}', '{%}']) v;
INSERT INTO tried SELECT 'regprocedure', false, v FROM unnest(ARRAY[NULL, '0', '4294967295', 'now()', 'sum(integer)', 'seq_vshard(text)']) v;
INSERT INTO tried VALUES
	('jsonb', true, $$repeat('[', 1000) || repeat(']', 1000)$$),
	('jsonb', true, $$format('{"%s": %s}', repeat('k', 1000000), repeat('9', 100000))$$),
	('jsonb', true, $$format('{"EpochBatch": {"epoch": 3, "epoch_system_ms": 0, "txns": [null%s]}}', repeat(',null', 100000))$$);
UPDATE tried SET value = CASE WHEN large THEN format('(%s)::%s', value, type) ELSE format('%L::%s', value, type) END;

-- Functions with the values that their arguments have when another is tried. Those of type
-- internal can be had by nobody.
CREATE TEMP TABLE functions AS
	SELECT p.oid::regprocedure AS function, format('%I.%I', nspname, proname) AS name, pronargs AS nargs,
		ARRAY(SELECT format_type(t, NULL)::regtype FROM unnest(proargtypes::oid[]) t) AS types,
		ARRAY(SELECT CASE WHEN n = 'queue_size' THEN '8192' WHEN n = 'max_txns' THEN '100' WHEN n = 'from_epoch' AND proname = 'seq_subscribe' THEN NULL
				WHEN n = 'to_epoch' THEN '9' WHEN n = 'name' AND proname ~ 'fetch|park|retry|handle' THEN 'workers'
				WHEN n = 'name' AND proname ~ 'register|group' THEN 'registered' ELSE CASE t::regtype WHEN 'bytea'::regtype THEN '' WHEN 'jsonb'::regtype THEN 'null' WHEN 'uuid'::regtype THEN '00000000-0000-0000-0000-000000000000' WHEN 'integer[]'::regtype THEN '{97}' WHEN 'bigint[]'::regtype THEN '{0}'
				WHEN 'text'::regtype THEN 'default' WHEN 'text[]'::regtype THEN '{a}' WHEN 'regprocedure'::regtype THEN 'now()' WHEN 'boolean'::regtype THEN 'true' ELSE '0' END END
			FROM unnest(proargtypes::oid[], proargnames[1:pronargs]) WITH ORDINALITY AS a (t, n, i) ORDER BY i) AS ordinary
	FROM pg_depend JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid JOIN pg_namespace n ON n.oid = pronamespace
	WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'calvin_seq')
	AND 'internal'::regtype <> ALL (proargtypes::oid[]);
-- All their types are among those above.
SELECT function FROM functions WHERE EXISTS (SELECT FROM unnest(types) t WHERE t NOT IN (SELECT type FROM tried));

CREATE TEMP TABLE outcomes (function regprocedure, call text, waits boolean, state text, message text);
CREATE FUNCTION t.call_of(f functions, i int, vi text, j int, vj text) RETURNS text LANGUAGE sql AS $$
	SELECT format('SELECT %s(%s)', f.name, (SELECT string_agg(CASE n WHEN i THEN vi WHEN j THEN vj ELSE format('%L::%s', f.ordinary[n], f.types[n]) END, ', ' ORDER BY n)
		FROM generate_series(1, f.nargs) n))
$$;
-- Each call in a transaction that ends with an error: the log stays as it is.
CREATE PROCEDURE t.try(function regprocedure, call text, waits boolean) LANGUAGE plpgsql AS $$
DECLARE
	state text;
	message text;
BEGIN
	BEGIN
		-- what a name, or the log's beginning, is of use to
		IF call ~ '::text|seq_truncate' AND call !~ 'seq_subscribe' THEN
			PERFORM seq_subscribe('{97}', from_epoch => 0, queue_size => 8192), seq_subscribe('{97}', 'idle', queue_size => 8192);
		END IF;
		EXECUTE call;
		RAISE SQLSTATE 'ZZ000';
	EXCEPTION WHEN query_canceled OR assert_failure OR OTHERS THEN
		state := CASE SQLSTATE WHEN 'ZZ000' THEN 'ok' ELSE SQLSTATE END;
		message := SQLERRM;
	END;
	INSERT INTO pg_temp.outcomes VALUES (function, left(call, 300), waits, state, left(message, 300));
END $$;
-- A timeout that never comes is cut short.
CREATE FUNCTION t.waits(f functions, i int, vi text, j int, vj text) RETURNS boolean LANGUAGE sql AS $$
	SELECT coalesce((f.types[i] = 'interval'::regtype AND vi ~ '^''[12i]' AND vi !~ '-24:') OR (f.types[j] = 'interval'::regtype AND vj ~ '^''[12i]' AND vj !~ '-24:'), false)
$$;
CREATE TEMP TABLE calls AS
	SELECT function, t.call_of(f, 0, NULL, 0, NULL) AS call, false AS waits FROM functions f
	UNION
	SELECT function, t.call_of(f, i, v.value, 0, NULL), t.waits(f, i, v.value, 0, NULL)
		FROM functions f, generate_series(1, nargs) i, tried v WHERE v.type = types[i]
	UNION
	SELECT function, t.call_of(f, i, v.value, j, w.value), t.waits(f, i, v.value, j, w.value)
		FROM functions f, generate_series(1, nargs) i, generate_series(i + 1, nargs) j, tried v, tried w
		WHERE v.type = types[i] AND w.type = types[j] AND NOT v.large AND NOT w.large;
CREATE PROCEDURE t.try_all() LANGUAGE plpgsql AS $$
DECLARE c record;
BEGIN
	FOR c IN SELECT function, call FROM pg_temp.calls WHERE NOT waits ORDER BY function::text COLLATE "C", call COLLATE "C" LOOP
		CALL t.try(c.function, c.call, false);
		COMMIT;
	END LOOP;
END $$;
SET statement_timeout = '10min';
CALL t.try_all();
SET statement_timeout = '50ms';
\set ECHO none
SELECT format('CALL t.try(%L, %L, true)', function, call) FROM calls WHERE waits \gexec
\set ECHO all
RESET statement_timeout;

-- All were called, and what they raised is an error of the user's.
SELECT count(*) > 3000 AS many, count(DISTINCT function) = (SELECT count(*) FROM functions) AS of_all,
	bool_or(state = '57014') AS waited FROM outcomes;
SELECT state, call, message FROM outcomes
	WHERE state !~ '^(ok|22...|42602|42622|42704|42710|42809|40001|5400.|55000|55006)$' AND NOT (state = '57014' AND waits)
	AND NOT (state = '39P01' AND call ~ '\(\)$' AND message ~ 'was not called by its (event )?trigger') ORDER BY call COLLATE "C" LIMIT 20;
SELECT function, string_agg(DISTINCT state, ' ' ORDER BY state) AS outcomes FROM outcomes GROUP BY 1 ORDER BY function::text COLLATE "C";
-- However small, a negative timeout is one.
SELECT DISTINCT state FROM outcomes WHERE call ~ $$'-[^']*'::interval$$ AND call !~ 'NULL';
SELECT count(CASE kind WHEN 'group' THEN seq_drop_group(name) ELSE seq_unregister(name) END) > 0 AS registered FROM seq_registrations;
-- Nothing was left, nor changed.
SELECT DISTINCT name COLLATE "C" AS name FROM seq_subscriptions ORDER BY 1;
SELECT count(seq_unsubscribe(name => name)) > 0 AS unsubscribed FROM (SELECT DISTINCT name FROM seq_subscriptions) s;
SELECT count(*) FROM seq_subscriptions;
SELECT count(*) FROM seq_cursors;
TABLE before EXCEPT SELECT last_applied_epoch, last_applied_index, digest, (SELECT md5(string_agg(l::text, ';' ORDER BY log_index)) FROM seq_log l) FROM seq_state;
SELECT last_error FROM seq_state;
DROP TABLE outcomes;

--
-- Some that are worth their words.
--
CREATE FUNCTION t.told(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	EXECUTE command;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n', SQLSTATE || ': ' || SQLERRM, nullif(detail, ''), nullif(hint, ''));
END $$;
\pset format unaligned
\pset tuples_only on
SELECT c || E'\n  ' || replace(t.told('SELECT ' || c), E'\n', E'\n  ') FROM unnest(ARRAY[
	'seq_subscribe(NULL)', 'seq_subscribe(''{}'')', 'seq_subscribe(''{1,NULL}'')', 'seq_subscribe(''{{1,2}}'')', 'seq_subscribe(''{1024}'')', 'seq_subscribe(''{-1}'')',
	'seq_subscribe(''{1}'', NULL)', 'seq_subscribe(''{1}'', '''')', 'seq_subscribe(''{1}'', repeat(''n'', 64))',
	'seq_subscribe(''{1}'', from_epoch => -1)', 'seq_subscribe(''{1}'', from_epoch => 0, from_position => -1)', 'seq_subscribe(''{1}'', from_epoch => 0, lossless => false)',
	'seq_subscribe(''{1}'', queue_size => 8191)', 'seq_subscribe(''{1}'', queue_size => 1073741825)',
	'seq_subscribe(''{1}'', queue_size => -2147483648)', 'seq_subscribe(''{1}'', lossless => NULL)',
	'seq_receive()', 'seq_receive(-1)', 'seq_receive(NULL)', 'seq_receive(1, ''-1 us'')', 'seq_receive_batch(1, ''-178000000 years'')', 'seq_receive(1, NULL)',
	'seq_commit(NULL)', 'seq_commit()', 'seq_rewind(NULL)', 'seq_drop_cursor(NULL)', 'seq_drop_cursor(''n'', ''{1024}'')', 'seq_unsubscribe(name => NULL)',
	'seq_replay(1024, 0, 0)', 'seq_replay(1, -1, 0)', 'seq_replay(1, 0, -1)', 'seq_wait_for_epoch(-1, ''0'')', 'seq_wait_for_epoch(0, ''-1 us'')',
	'seq_completion(0, -1)', 'seq_completion(0, 4294967296)', 'seq_completion(0, 1)', 'seq_completion(-1, 0)', 'seq_wait_for_completion(0, 0, ''-1 us'')',
	'seq_ack(0, 0, 1024)', 'seq_ack(9223372036854775807, 0, 1)', 'seq_truncate(-1)',
	'seq_append(''\x92aa45706f636842617463689193cf7ffffffffffffffe90ff'', true)', 'seq_append(''\x92aa45706f636842617463689193cf7fffffffffffffff90ff'', true)']) c;
\pset format aligned
\pset tuples_only off

-- The highest epoch is the last one: nothing is in the way of it, and nothing
-- comes after it.
BEGIN;
INSERT INTO seq_log (entry) VALUES ('\x92aa45706f636842617463689193cf7ffffffffffffffe90ff');
COMMIT;
SELECT seq_wait_for_epoch(9223372036854775806, '1 min'), seq_wait_for_epoch(9223372036854775807, '0');
SELECT seq_next_epoch(), seq_current_committed_epoch(), seq_last_applied_epoch();
SELECT t.told($$SELECT seq_append('\x92aa45706f636842617463689193cf7ffffffffffffffe90ff', true)$$);
SELECT seq_subscribe('{97}', from_epoch => 9223372036854775806, from_position => 2147483647, queue_size => 8192);
SELECT seq_subscribe('{97}', 'beyond', from_epoch => 9223372036854775807, from_position => 2147483647, queue_size => 8192);
SELECT seq_subscribe('{97}', 'now', queue_size => 8192);
SELECT seq_ack(9223372036854775806, 4294967295, 1) > 0 AS acked;
SELECT seq_completion(9223372036854775806, 4294967295);
SELECT count(*) FROM seq_receive() UNION ALL SELECT count(*) FROM seq_receive(name => 'beyond') UNION ALL SELECT count(*) FROM seq_receive(name => 'now');
SELECT seq_commit(), seq_commit('now');
SELECT t.told($$SELECT seq_commit('beyond')$$);
-- nobody has processed anything up to there
SELECT name, epoch, "position" FROM seq_cursors ORDER BY name::text COLLATE "C";
-- when the applier has seen them
DO $$
BEGIN
	FOR i IN 1..6000 LOOP
		EXIT WHEN NOT EXISTS (SELECT FROM seq_subscriptions WHERE state = 'catching up');
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
SELECT name, state, lag FROM seq_subscriptions ORDER BY name COLLATE "C";
SELECT seq_unsubscribe(), seq_unsubscribe(name => 'beyond'), seq_unsubscribe(name => 'now');
SELECT seq_subscribe('{97}', queue_size => 8192), seq_subscribe('{97}', 'beyond', queue_size => 8192);
SELECT seq_receive(), seq_receive(name => 'beyond');
SELECT seq_unsubscribe(), seq_unsubscribe(name => 'beyond');
SELECT vshard, epoch FROM seq_replay(97, 0, 9223372036854775807);
SELECT seq_drop_cursor(name) FROM (SELECT DISTINCT name FROM seq_cursors) c;
SELECT seq_truncate(9223372036854775807) > 0 AS truncated;
SELECT count(*) FROM seq_log;

--
-- A call that fails costs the session no memory, whatever its names are.
--
SELECT seq_subscribe(array(SELECT generate_series(0, 1023)), 'n' || n, queue_size => 8192) FROM generate_series(1, current_setting('calvin_seq.max_subscriptions')::int / 1024) n \g /dev/null
SELECT current_setting('calvin_seq.max_subscriptions')::int / 1024 AS n \gset
SELECT sum(total_bytes) AS used FROM pg_backend_memory_contexts WHERE name ~ '^calvin_seq' \gset
DO $$
BEGIN
	FOR i IN 1..1000 LOOP
		BEGIN
			-- refused when all else was prepared
			PERFORM seq_subscribe('{97}', 'failing' || i, queue_size => 8192);
			RAISE 'there was a place';
		EXCEPTION WHEN configuration_limit_exceeded THEN NULL;
		END;
	END LOOP;
END $$;
SELECT sum(total_bytes) - :used < 65536 AS kept_nothing FROM pg_backend_memory_contexts WHERE name ~ '^calvin_seq';
SELECT count(DISTINCT name) = :'n' AS none_of_them FROM seq_subscriptions;
DISCARD ALL;
SELECT count(*) FROM seq_subscriptions;
SET client_min_messages = warning;
DROP EXTENSION calvin_seq;
