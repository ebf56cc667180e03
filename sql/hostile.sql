--
-- Hostile roles, search paths and arguments.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
DROP EXTENSION calvin_seq;
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS regress_seq_evil CASCADE;
DROP ROLE IF EXISTS regress_seq_nobody, regress_seq_monitor, regress_seq_one, regress_seq_trigger, regress_seq_side;
RESET client_min_messages;
-- For these, one that calls nothing by a name that has no schema.
CREATE OR REPLACE FUNCTION t.failure(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN pg_catalog.concat_ws(': ', SQLSTATE, SQLERRM);
END $$;

--
-- What others have planted in the extension's schema: it is not adopted.
--
CREATE ROLE regress_seq_nobody;
CREATE SCHEMA regress_seq_planted AUTHORIZATION regress_seq_nobody;
CREATE PROCEDURE t.plant(object text) LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL ROLE regress_seq_nobody;
	SET LOCAL search_path = regress_seq_planted;
	EXECUTE object;
	RESET ROLE;
	SET LOCAL search_path = public;
	RAISE NOTICE '%: %', object, t.failure('CREATE EXTENSION calvin_seq SCHEMA regress_seq_planted');
	ROLLBACK;
END $$;
CALL t.plant('CREATE TABLE seq_log (log_index bigint, entry bytea)');
CALL t.plant('CREATE TABLE seq_cursor_positions (vshard int)');
CALL t.plant('CREATE VIEW seq_cursors AS SELECT 1 AS vshard');
CALL t.plant('CREATE TABLE seq_snapshots ()');
CALL t.plant('CREATE TYPE seq_txn AS (vshard int)');
CALL t.plant('CREATE SEQUENCE seq_log_ack_idx');
CALL t.plant('CREATE VIEW seq_state AS SELECT 1 AS role');
CALL t.plant($$CREATE FUNCTION seq_log_ack_position(bytea) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 1::bigint'$$);
CALL t.plant($$CREATE FUNCTION seq_log_before_insert() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'$$);
CALL t.plant($$CREATE FUNCTION seq_state_info() RETURNS int LANGUAGE sql AS 'SELECT 1'$$);
CALL t.plant($$CREATE FUNCTION seq_state_info(VARIADIC int[] DEFAULT '{}') RETURNS int LANGUAGE sql AS 'SELECT 1'$$);
CALL t.plant($$CREATE FUNCTION seq_append(entry bytea, force boolean) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'$$);
-- Nor is anything run that only looks alike, or fits better.
SET ROLE regress_seq_nobody;
SET search_path = regress_seq_planted;
CREATE TABLE ran (what text);
CREATE FUNCTION ran(text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO regress_seq_planted.ran VALUES ($1);
	RAISE 'planted: %', $1;
END $$;
CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM regress_seq_planted.ran('clock_timestamp'); RETURN NULL; END $$;
CREATE FUNCTION pg_extension_config_dump(text, text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM regress_seq_planted.ran('pg_extension_config_dump'); END $$;
CREATE FUNCTION seq_log_ack_position(anyelement) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM regress_seq_planted.ran('seq_log_ack_position'); RETURN 0; END $$;
CREATE FUNCTION op(text, text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN regress_seq_planted.ran('text'); END $$;
CREATE FUNCTION op(int, int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN regress_seq_planted.ran('int'); END $$;
CREATE FUNCTION op(bigint, int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN regress_seq_planted.ran('bigint'); END $$;
CREATE FUNCTION op(bigint, bigint) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN regress_seq_planted.ran('bigints'); END $$;
CREATE FUNCTION op(int, bigint) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN regress_seq_planted.ran('int and bigint'); END $$;
CREATE FUNCTION op(name, name) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN regress_seq_planted.ran('name'); END $$;
DO $$
DECLARE
	types text;
	o text;
BEGIN
	FOREACH o IN ARRAY ARRAY['=', '<', '>', '<=', '>=', '<>'] LOOP
		FOREACH types IN ARRAY ARRAY['text,text', 'int,int', 'bigint,int', 'bigint,bigint', 'int,bigint', 'name,name'] LOOP
			EXECUTE format('CREATE OPERATOR regress_seq_planted.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = regress_seq_planted.op)',
				o, split_part(types, ',', 1), split_part(types, ',', 2));
		END LOOP;
	END LOOP;
END $$;
RESET ROLE;
GRANT CREATE, USAGE ON SCHEMA regress_seq_planted TO PUBLIC;
CREATE TEMP TABLE seq_log (mine int);
CREATE TEMP TABLE seq_cursors (mine int);
CREATE TEMP TABLE seq_cursor_positions (mine int);
CREATE TEMP TABLE seq_registrations (mine int);
CREATE TEMP TABLE seq_group_positions (mine int);
CREATE TEMP TABLE seq_parked_txns (mine int);
CREATE TEMP TABLE seq_handler_definitions (mine int);
SET search_path = regress_seq_planted, pg_temp, pg_catalog;
CREATE EXTENSION calvin_seq SCHEMA regress_seq_planted;
SELECT * FROM ran;
SELECT viewname COLLATE pg_catalog."C" AS view, pg_catalog.count(*) AS columns FROM pg_views v JOIN pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) pg_catalog.format('%I.%I', schemaname, viewname)::regclass
	WHERE schemaname OPERATOR(pg_catalog.=) 'regress_seq_planted' AND attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 GROUP BY 1 ORDER BY 1;
-- Its functions do not take what is planted either, whoever calls them.
SELECT seq_subscribe('{97}', queue_size => 8192);
SELECT seq_append('\x92aa45706f6368426174636891930090ff');
SELECT seq_append_json('{"EpochBatch": {"epoch": 1, "epoch_system_ms": 1700000000000, "txns": [
	{"tx_class": {"write_set": [{"Document": {"collection": "a", "surrogates": [1]}}], "plans": "\\xab", "tenant_id": 1}}]}}');
SELECT seq_ack(1, 0, 97);
BEGIN;
INSERT INTO regress_seq_planted.seq_log (log_index, entry) VALUES (12, '\x92aa45706f6368426174636891930390ff'), (10, '\x92aa45706f6368426174636891930290ff');
COMMIT;
SELECT seq_wait_for_completion(1, 0, '1 min'), seq_wait_for_epoch(3, '1 min');
SELECT expected, acked, complete FROM seq_completion(1, 0);
SELECT vshard, epoch, "position" FROM seq_receive(10, '10s');
SELECT seq_commit(), seq_commit();
SELECT seq_rewind();
SELECT pg_catalog.count(*) FROM seq_replay(97, 0, 10);
SELECT seq_snapshot();
SELECT seq_current_committed_epoch(), seq_last_applied_epoch(), seq_next_epoch();
SELECT last_applied_index, log_end, lag, last_error FROM seq_state;
SELECT entries_applied FROM seq_metrics;
SELECT vshard, name, lag FROM seq_subscriptions;
SELECT seq_drop_cursor('default', '{97}'), seq_drop_cursor('default'), seq_unsubscribe();
SELECT seq_register('stream', '{97}', 0), seq_create_group('g', 2, '{97,98}', '{a,b%}', 0);
BEGIN;
SELECT vshard, epoch, "position" FROM seq_fetch('g');
ROLLBACK;
SELECT t.failure('SELECT seq_fetch_json(''g'')'), t.failure('SELECT seq_fetch(''nobody'')');
SELECT seq_pending('g'), seq_pending('stream');
SELECT seq_park('g', 97, 1, 0, 'set aside');
SELECT name, vshard, epoch, "position", reason FROM seq_parked;
SELECT name, kind, vshards, pending, parked, state FROM seq_consumers;
BEGIN;
SELECT vshard, epoch, "position" FROM seq_retry('g', 97, 1, 0);
ROLLBACK;
SELECT seq_drop_parked('g', 97, 1, 0);
SELECT vshard, epoch, "position" FROM seq_fetch('g');
BEGIN;
CREATE FUNCTION regress_seq_planted.handler(seq_txn) RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT seq_handle('g', 'regress_seq_planted.handler(regress_seq_planted.seq_txn)');
SELECT name, handler, workers, processed, parked FROM seq_handlers;
SELECT kind FROM seq_consumers;
SELECT seq_unhandle('g');
ROLLBACK;
SELECT seq_drop_group('g'), seq_unregister('stream');
SELECT (SELECT pg_catalog.count(*) FROM regress_seq_planted.seq_registrations) AS registrations, (SELECT pg_catalog.count(*) FROM regress_seq_planted.seq_cursor_positions) AS cursors,
	(SELECT pg_catalog.count(*) FROM regress_seq_planted.seq_group_positions) AS positions, (SELECT pg_catalog.count(*) FROM regress_seq_planted.seq_parked_txns) AS parked;
REINDEX TABLE regress_seq_planted.seq_log;
VACUUM ANALYZE regress_seq_planted.seq_log;
SELECT * FROM ran;
TABLE pg_temp.seq_log;
SELECT (SELECT pg_catalog.count(*) FROM pg_temp.seq_registrations) AS registrations, (SELECT pg_catalog.count(*) FROM pg_temp.seq_group_positions) AS positions,
	(SELECT pg_catalog.count(*) FROM pg_temp.seq_parked_txns) AS parked, (SELECT pg_catalog.count(*) FROM pg_temp.seq_handler_definitions) AS handlers;
DROP EXTENSION calvin_seq;
SELECT * FROM ran;
RESET search_path;
DROP TABLE pg_temp.seq_log, pg_temp.seq_cursors, pg_temp.seq_cursor_positions, pg_temp.seq_registrations, pg_temp.seq_group_positions,
	pg_temp.seq_parked_txns, pg_temp.seq_handler_definitions;
SET client_min_messages = warning;
DROP SCHEMA regress_seq_planted CASCADE;
RESET client_min_messages;

--
-- Every object of the extension, now and later, by a role without a grant.
--
CREATE EXTENSION calvin_seq;
CALL t.wait_applied();
CREATE ROLE regress_seq_monitor IN ROLE pg_monitor;
CREATE ROLE regress_seq_one;
CREATE TEMP VIEW members AS
	SELECT classid, objid, pg_describe_object(classid, objid, 0) COLLATE "C" AS object
	FROM pg_depend WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'calvin_seq');
CREATE TEMP VIEW relation_members AS
	SELECT c.oid, c.oid::regclass AS name, relkind FROM members JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid;
CREATE TEMP VIEW type_members AS
	SELECT t.oid, t.oid::regtype AS name FROM pg_type t
	WHERE t.oid IN (SELECT objid FROM members WHERE classid = 'pg_type'::regclass)
	OR t.typrelid IN (SELECT oid FROM relation_members);
-- A call with the arguments that have no default, each of its type; those of type internal can be
-- had by nobody.
CREATE TEMP VIEW calls AS
	SELECT p.oid, p.oid::regprocedure AS function, prorettype IN ('trigger'::regtype, 'event_trigger'::regtype) AS for_triggers,
		format('SELECT %I.%I(%s)', nspname, proname, (
			SELECT string_agg(format('%L::%s', CASE t::regtype::text WHEN 'bytea' THEN '' WHEN 'jsonb' THEN 'null' WHEN 'uuid' THEN '00000000-0000-0000-0000-000000000000' WHEN 'integer[]' THEN '{1}' WHEN 'bigint[]' THEN '{1}'
				WHEN 'interval' THEN '0' WHEN 'text' THEN 'default' WHEN 'boolean' THEN 'f' ELSE '0' END, t::regtype), ', ' ORDER BY n)
			FROM unnest(proargtypes::oid[]) WITH ORDINALITY AS a(t, n) WHERE n <= pronargs - pronargdefaults)) AS call
	FROM members JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid
	JOIN pg_namespace n ON n.oid = pronamespace WHERE 'internal'::regtype <> ALL (proargtypes::oid[]);
SELECT count(*) > 30 AS functions, bool_or(for_triggers) AS of_triggers FROM calls;
SELECT count(*) FILTER (WHERE relkind = 'r') >= 3 AS tables, count(*) FILTER (WHERE relkind = 'v') >= 4 AS views FROM relation_members;
SELECT count(*) > 7 AS types FROM type_members;
GRANT SELECT ON members, relation_members, type_members, calls TO PUBLIC;
-- All kinds of members are looked at below, or parts of those.
SELECT DISTINCT classid::regclass FROM members
	WHERE classid NOT IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass, 'pg_event_trigger'::regclass,
		'pg_constraint'::regclass, 'pg_trigger'::regclass);

SET ROLE regress_seq_nobody;
SELECT function FROM calls WHERE t.failure(call) !~ '^42501: permission denied for function' ORDER BY function::text COLLATE "C";
SELECT DISTINCT left(t.failure(format('CREATE TEMP TABLE own (a int); CREATE TRIGGER t BEFORE INSERT ON own FOR EACH ROW EXECUTE FUNCTION %s', function)), 38)
	FROM calls WHERE for_triggers;
SELECT command, name, t.failure(format(command, name))
	FROM relation_members, unnest(ARRAY['TABLE %s', 'SELECT FROM %s', 'DELETE FROM %s', 'TRUNCATE %s', 'LOCK %s',
		'INSERT INTO %s DEFAULT VALUES', 'CREATE RULE r AS ON INSERT TO %s DO INSTEAD NOTHING', 'COMMENT ON TABLE %s IS NULL',
		'ALTER TABLE %s ADD z int', 'GRANT ALL ON %s TO PUBLIC', 'CREATE POLICY p ON %s', 'CREATE INDEX ON %s ((1))',
		'CREATE TRIGGER t BEFORE INSERT ON %s FOR EACH STATEMENT EXECUTE FUNCTION suppress_redundant_updates_trigger()',
		'CREATE TEMP TABLE child () INHERITS (%s)']) command
	WHERE t.failure(format(command, name)) !~ CASE relkind WHEN 'i' THEN '^42501: |^42809: ' WHEN 'S' THEN '^42501: |^42809: '
		WHEN 'm' THEN '^42501: |^42809: |^0A000: ' WHEN 'v' THEN '^42501: |^42809: |^55000: ' ELSE '^42501: ' END ORDER BY 1, 2;
SELECT name, command FROM type_members, unnest(ARRAY['CREATE TEMP TABLE t (a %s)', 'CREATE TEMP TABLE t (a %s[])', 'CREATE DOMAIN t.d AS %s']) command
	WHERE t.failure(format(command, name)) !~ '^42501: ' ORDER BY name::text COLLATE "C", command COLLATE "C";
SELECT object FROM members WHERE classid = 'pg_event_trigger'::regclass
	AND t.failure(format('ALTER %s DISABLE', object)) !~ '^42501: ';
SELECT c, t.failure(c) FROM unnest(ARRAY['DROP EXTENSION calvin_seq', 'ALTER EXTENSION calvin_seq UPDATE', 'ALTER EXTENSION calvin_seq SET SCHEMA pg_temp',
	'ALTER EXTENSION calvin_seq DROP TABLE seq_log']) c;
RESET ROLE;
-- pg_monitor reads, and only what shows the state.
SET ROLE regress_seq_monitor;
SELECT function FROM calls WHERE t.failure(call) !~ '^42501: permission denied for function' ORDER BY function::text COLLATE "C";
SELECT name FROM relation_members WHERE t.failure(format('SELECT FROM %s', name)) = 'ok' ORDER BY name::text COLLATE "C";
RESET ROLE;
-- One function is enough to use it: no table is asked for, and none is given.
CREATE PROCEDURE t.try_alone(function regprocedure, call text) LANGUAGE plpgsql AS $$
DECLARE
	result text;
	others text;
BEGIN
	EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO regress_seq_one', function);
	SET LOCAL ROLE regress_seq_one;
	result := t.failure(call);
	SELECT string_agg(name::text, ', ') INTO others FROM pg_temp.relation_members WHERE t.failure(format('SELECT FROM %s', name)) = 'ok';
	RESET ROLE;
	IF result ~ '^42501' OR others IS NOT NULL THEN
		RAISE NOTICE '%: % (%)', function, result, others;
	END IF;
	EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM regress_seq_one', function);
END $$;
INSERT INTO seq_log (entry) VALUES ('\x92aa45706f6368426174636891930090ff');
CALL t.wait_applied();
SELECT seq_subscribe('{1}', queue_size => 8192);
DO $$
DECLARE c record;
BEGIN
	FOR c IN SELECT function, call FROM pg_temp.calls WHERE NOT for_triggers AND call !~ 'seq_subscribe\(|seq_unsubscribe' ORDER BY 2 LOOP
		CALL t.try_alone(c.function, c.call);
	END LOOP;
END $$;
CALL t.try_alone('seq_unsubscribe(int[], text)', 'SELECT seq_unsubscribe()');
CALL t.try_alone('seq_subscribe(int[], text, bigint, int, int, boolean)', $$SELECT seq_subscribe('{1}', queue_size => 8192)$$);
SELECT seq_unsubscribe();
SELECT seq_drop_cursor('default');
DROP VIEW calls, type_members, relation_members, members;

--
-- What is attached to the tables runs as their owner when a function writes
-- to them.  So TRIGGER alone is not enough to attach it.
--
CREATE ROLE regress_seq_trigger;
CREATE ROLE regress_seq_side;
CREATE SCHEMA regress_seq_evil;
GRANT USAGE, CREATE ON SCHEMA regress_seq_evil TO regress_seq_trigger, regress_seq_side;
CREATE TABLE regress_seq_evil.ran (what text, who name);
GRANT INSERT, SELECT ON regress_seq_evil.ran TO PUBLIC;
GRANT TRIGGER, INSERT ON seq_log, seq_cursor_positions, seq_snapshots, seq_registrations, seq_group_positions, seq_parked_txns, seq_handler_definitions TO regress_seq_trigger;
GRANT EXECUTE ON FUNCTION seq_append(bytea, boolean), seq_log_ack_position(bytea),
	seq_subscribe(int[], text, bigint, int, int, boolean), seq_unsubscribe(int[], text), seq_commit(text), seq_rewind(text), seq_snapshot(),
	seq_receive(int, interval, text) TO regress_seq_trigger, regress_seq_side;
SET ROLE regress_seq_trigger;
CREATE FUNCTION regress_seq_evil.spy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO regress_seq_evil.ran VALUES (TG_TABLE_NAME, current_user);
	RETURN NEW;
END $$;
SELECT c, t.failure(c) FROM unnest(ARRAY[
	'CREATE TRIGGER spy BEFORE INSERT ON seq_log FOR EACH ROW EXECUTE FUNCTION regress_seq_evil.spy()',
	'CREATE TRIGGER spy AFTER INSERT ON seq_log REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION regress_seq_evil.spy()',
	'CREATE CONSTRAINT TRIGGER spy AFTER INSERT ON seq_log DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION regress_seq_evil.spy()',
	'CREATE OR REPLACE TRIGGER spy BEFORE UPDATE OF kind ON public.seq_log FOR EACH ROW EXECUTE FUNCTION regress_seq_evil.spy()',
	'CREATE TRIGGER seq_log_assign BEFORE INSERT ON seq_log FOR EACH ROW EXECUTE FUNCTION regress_seq_evil.spy()',
	'CREATE OR REPLACE TRIGGER seq_log_assign BEFORE INSERT ON seq_log FOR EACH ROW EXECUTE FUNCTION regress_seq_evil.spy()',
	'CREATE TRIGGER spy AFTER INSERT OR DELETE ON seq_cursor_positions FOR EACH ROW EXECUTE FUNCTION regress_seq_evil.spy()',
	'CREATE TRIGGER spy BEFORE INSERT ON seq_snapshots FOR EACH ROW EXECUTE FUNCTION regress_seq_evil.spy()',
	'CREATE TRIGGER spy BEFORE INSERT ON seq_registrations FOR EACH ROW EXECUTE FUNCTION regress_seq_evil.spy()',
	'CREATE TRIGGER spy AFTER INSERT OR UPDATE ON seq_group_positions FOR EACH ROW EXECUTE FUNCTION regress_seq_evil.spy()',
	'CREATE TRIGGER spy AFTER DELETE ON seq_parked_txns FOR EACH ROW EXECUTE FUNCTION regress_seq_evil.spy()',
	'CREATE TRIGGER spy BEFORE INSERT ON seq_handler_definitions FOR EACH ROW EXECUTE FUNCTION regress_seq_evil.spy()']) c;
-- Nor has INSERT alone a handler run as somebody else.
SELECT t.failure($$INSERT INTO seq_handler_definitions VALUES ('theirs', 1, 1, 'pg_catalog', 'now', false, 10, 'postgres', 1, 1, 1, 1, now())$$);
-- Elsewhere it may.
SET search_path = regress_seq_evil, public;
CREATE TABLE seq_log (a int);
SELECT t.failure('CREATE TRIGGER spy BEFORE INSERT ON seq_log FOR EACH ROW EXECUTE FUNCTION regress_seq_evil.spy()');
SELECT t.failure('CREATE TRIGGER spy BEFORE INSERT ON public.seq_log FOR EACH ROW EXECUTE FUNCTION regress_seq_evil.spy()');
RESET search_path;
RESET ROLE;
SELECT count(*) FROM pg_trigger WHERE tgname = 'spy' AND tgrelid <> 'regress_seq_evil.seq_log'::regclass;

-- The owner may.  It runs as the owner, but not with the caller's search path:
-- the caller shall not choose what a careless function calls.
CREATE FUNCTION public.regress_seq_careless() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF lower('A') <> 'a' OR NEW IS NULL THEN
		RAISE 'never';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER careless BEFORE INSERT ON seq_log FOR EACH ROW EXECUTE FUNCTION regress_seq_careless();
CREATE TRIGGER careless BEFORE INSERT OR UPDATE ON seq_cursor_positions FOR EACH ROW EXECUTE FUNCTION regress_seq_careless();
SET ROLE regress_seq_trigger;
CREATE FUNCTION regress_seq_evil.lower(text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO regress_seq_evil.ran VALUES ('lower', current_user);
	RETURN 'a';
END $$;
SET search_path = regress_seq_evil, pg_temp, pg_catalog, public;
SELECT lower('A');
SELECT seq_subscribe('{2}', queue_size => 8192);
SELECT seq_append('') > 0 AS appended, lower('A');
SELECT t.failure('SELECT seq_append(''\xc1'')');
SELECT current_setting('search_path'), current_user;
SELECT seq_commit();
SELECT current_setting('search_path'), current_user;
-- A plain INSERT runs it as who inserts, as ever.
INSERT INTO public.seq_log (entry) VALUES ('');
RESET ROLE;
RESET search_path;
SELECT what, who, count(*) FROM regress_seq_evil.ran GROUP BY 1, 2 ORDER BY 1, 2;
TRUNCATE regress_seq_evil.ran;
DROP TRIGGER careless ON seq_log;
DROP TRIGGER careless ON seq_cursor_positions;
SELECT seq_unsubscribe();

-- The same with constraints, generated columns and indexes of the owner.
CREATE FUNCTION public.regress_seq_check(bytea) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	RETURN CASE WHEN lower('A') = 'a' THEN 1 END;
END $$;
ALTER TABLE seq_log ADD CHECK (regress_seq_check(entry) IS NOT NULL);
SET ROLE regress_seq_trigger;
SET search_path = regress_seq_evil, pg_temp, pg_catalog, public;
SELECT seq_append('') > 0 AS appended;
RESET ROLE;
RESET search_path;
ALTER TABLE seq_log DROP CONSTRAINT seq_log_entry_check;
CREATE INDEX regress_seq_idx ON seq_log (regress_seq_check(entry));
SET ROLE regress_seq_trigger;
SET search_path = regress_seq_evil, pg_temp, pg_catalog, public;
SELECT seq_append('') > 0 AS appended;
RESET ROLE;
RESET search_path;
DROP INDEX regress_seq_idx;
ALTER TABLE seq_log ADD generated bigint GENERATED ALWAYS AS (regress_seq_check(entry)) STORED;
SET ROLE regress_seq_trigger;
SET search_path = regress_seq_evil, pg_temp, pg_catalog, public;
SELECT seq_append('') > 0 AS appended;
RESET ROLE;
RESET search_path;
SELECT generated FROM seq_log ORDER BY log_index DESC LIMIT 1;
TABLE regress_seq_evil.ran;
ALTER TABLE seq_log DROP generated;

-- A table that somebody else was given is written to with his rights alone.
ALTER TABLE seq_cursor_positions OWNER TO regress_seq_side;
ALTER TABLE seq_snapshots OWNER TO regress_seq_side;
ALTER TABLE seq_registrations OWNER TO regress_seq_side;
ALTER TABLE seq_group_positions OWNER TO regress_seq_side;
ALTER TABLE seq_parked_txns OWNER TO regress_seq_side;
SET ROLE regress_seq_side;
CREATE FUNCTION regress_seq_evil.spy_side(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	INSERT INTO regress_seq_evil.ran VALUES ($1, current_user);
	RETURN true;
END $$;
ALTER FUNCTION regress_seq_evil.spy_side(text) VOLATILE;
ALTER TABLE seq_cursor_positions ADD CHECK (regress_seq_evil.spy_side('cursors') AND version > 0);
ALTER TABLE seq_snapshots ADD CHECK (regress_seq_evil.spy_side('snapshots') AND log_index > 0);
ALTER TABLE seq_registrations ADD CHECK (regress_seq_evil.spy_side('registrations') AND id > 0);
ALTER TABLE seq_group_positions ADD CHECK (regress_seq_evil.spy_side('group positions') AND id > 0);
ALTER TABLE seq_parked_txns ADD CHECK (regress_seq_evil.spy_side('parked') AND id > 0);
RESET ROLE;
TRUNCATE regress_seq_evil.ran;
SELECT seq_drop_cursor('default');
SELECT seq_subscribe('{2}', queue_size => 8192);
SELECT count(*) FROM seq_receive(1, '1s');
SELECT seq_commit();
CALL t.wait_applied();
SELECT seq_snapshot() > 0 AS snapshot;
SELECT seq_create_group('g', 2);
INSERT INTO seq_log (entry) VALUES (t.batch(seq_next_epoch(), '{a,b}')) RETURNING epoch \gset
CALL t.wait_applied();
SELECT seq_park('g', 97, :epoch, 0, 'set aside'), seq_park('g', 98, :epoch, 1, 'set aside');
SELECT count(*) FROM seq_fetch('g');
SELECT vshard FROM seq_retry('g', 97, :epoch, 0);
SELECT DISTINCT what, who FROM regress_seq_evil.ran ORDER BY 1;
SELECT seq_drop_group('g');
SELECT seq_unsubscribe();

-- What a worker can hold is bounded, and nothing of it is lost.
SELECT seq_create_group('wide', 1024);
INSERT INTO seq_log (entry) SELECT t.batch(seq_next_epoch(), array_agg('c' || i)) FROM generate_series(1, 60) i RETURNING epoch \gset
CALL t.wait_applied();
CREATE TEMP TABLE there AS SELECT vshard, "position" FROM generate_series(1, 60) i, seq_replay(seq_vshard('c' || i), :epoch, :epoch);
BEGIN;
SELECT count(DISTINCT vshard) > 32 AS more FROM there;
SELECT t.failure(format('SELECT seq_park(''wide'', vshard, %s, "position", '''') FROM pg_temp.there', :epoch));
SELECT count(*) <= 32 AS bounded FROM seq_fetch('wide', 2147483647);
ROLLBACK;
SELECT seq_pending('wide') = count(*) AS all_of_them, (SELECT count(*) FROM seq_parked) AS parked FROM there;
SELECT seq_drop_group('wide');
DROP TABLE there;

-- The applier: nothing planted on the log is run by it.
TRUNCATE regress_seq_evil.ran;
CREATE POLICY nothing ON seq_log USING (regress_seq_evil.spy_side('policy'));
ALTER TABLE seq_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE seq_log FORCE ROW LEVEL SECURITY;
SELECT t.failure('CREATE RULE also AS ON INSERT TO seq_log DO ALSO INSERT INTO regress_seq_evil.ran VALUES (''rule'', current_user)');
SELECT t.failure('CREATE RULE "_RETURN" AS ON SELECT TO seq_log DO INSTEAD SELECT 1::bigint, ''''::bytea, ''''::text, 1::bigint, now()') ~ '^(0A000|42809|55000|42P17)' AS refused;
SELECT seq_append_json('{"EpochBatch": {"txns": []}}') > 0 AS appended;
SELECT seq_wait_for_epoch(seq_current_committed_epoch(), '1 min');
SELECT lag, last_error FROM seq_state;
TABLE regress_seq_evil.ran;
DROP POLICY nothing ON seq_log;
ALTER TABLE seq_log NO FORCE ROW LEVEL SECURITY;
ALTER TABLE seq_log DISABLE ROW LEVEL SECURITY;

SET client_min_messages = warning;
DROP EXTENSION calvin_seq;
DROP SCHEMA regress_seq_evil CASCADE;
DROP FUNCTION regress_seq_careless(), regress_seq_check(bytea);
DROP OWNED BY regress_seq_trigger, regress_seq_side, regress_seq_one, regress_seq_nobody;
DROP ROLE regress_seq_nobody, regress_seq_monitor, regress_seq_one, regress_seq_trigger, regress_seq_side;
