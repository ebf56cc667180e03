--
-- Who may do what.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_seq_nobody, regress_seq_monitor, regress_seq_proposer, regress_seq_consumer;
RESET client_min_messages;
CREATE ROLE regress_seq_nobody;
CREATE ROLE regress_seq_monitor IN ROLE pg_monitor;
CREATE ROLE regress_seq_proposer;
CREATE ROLE regress_seq_consumer;

-- What the extension consists of.
CREATE TEMP VIEW functions AS
	SELECT p.oid, p.oid::regprocedure AS function, proname COLLATE "C" AS proname, proacl, proowner, provolatile, proparallel, prosecdef
	FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'calvin_seq');
CREATE TEMP VIEW relations AS
	SELECT c.oid, c.oid::regclass AS relation, relname COLLATE "C" AS relname, relkind
	FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
	WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'calvin_seq') AND relkind IN ('r', 'v', 'm', 'f', 'p', 'S');
SELECT count(*) > 20 AS functions, (SELECT count(*) >= 4 FROM relations) AS relations FROM functions;
-- PUBLIC may execute the pure functions, which alone are parallel safe.
SELECT function, provolatile AS volatile, proparallel AS parallel FROM functions
	WHERE has_function_privilege('regress_seq_nobody', oid, 'EXECUTE') OR proparallel <> 'u' ORDER BY proname;
SELECT function, provolatile AS volatile FROM functions WHERE provolatile <> 'v' AND proname NOT LIKE 'seq\_log\_%' ORDER BY proname;
-- What pg_monitor may execute besides, but for what its views are made of.
SELECT function FROM functions
	WHERE has_function_privilege('regress_seq_monitor', oid, 'EXECUTE') AND NOT has_function_privilege('regress_seq_nobody', oid, 'EXECUTE')
	AND proname NOT LIKE '%\_info' ORDER BY proname;
-- No function has its owner's rights by SECURITY DEFINER.
SELECT function FROM functions WHERE prosecdef;
-- Nobody may touch a table or view, but pg_monitor may read the views.
SELECT relation FROM relations
	WHERE has_table_privilege('regress_seq_nobody', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
	OR has_any_column_privilege('regress_seq_nobody', oid, 'SELECT, INSERT, UPDATE, REFERENCES')
	OR has_table_privilege('regress_seq_monitor', oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER');
SELECT relation, relkind FROM relations WHERE has_table_privilege('regress_seq_monitor', oid, 'SELECT') AND relkind <> 'v';
SELECT extrelocatable FROM pg_extension WHERE extname = 'calvin_seq';
SELECT trusted, superuser, relocatable FROM pg_available_extension_versions WHERE name = 'calvin_seq' AND installed;

INSERT INTO seq_log (entry) VALUES ('\x92aa45706f6368426174636891930090ff');
CALL t.wait_applied();

-- An ordinary role has the pure functions.
SET ROLE regress_seq_nobody;
SELECT seq_vshard('a'), seq_encode('{"CompletionAck": {"epoch": 7, "position": 3, "vshard_id": 1000}}'), seq_decode('\x92ad436f6d706c6574696f6e41636b930703cd03e8');
SELECT c, t.failure(c) FROM unnest(ARRAY[
	'SELECT seq_append('''')', 'SELECT seq_append_json(''{}'')', 'SELECT seq_replay(0, 0, 0)',
	'SELECT seq_subscribe(''{1}'', lossless => false)', 'SELECT seq_receive()', 'SELECT seq_receive_batch()', 'SELECT seq_unsubscribe()',
	'SELECT seq_last_applied_epoch()', 'SELECT seq_wait_for_epoch(0, ''0'')', 'SELECT seq_metrics_reset()',
	'TABLE seq_state', 'TABLE seq_metrics', 'TABLE seq_subscriptions', 'TABLE seq_log', 'INSERT INTO seq_log (entry) VALUES ('''')']) c;
RESET ROLE;

-- pg_monitor sees state and metrics, and changes nothing.
SET ROLE regress_seq_monitor;
SELECT last_applied_epoch, log_end, lag FROM seq_state;
SELECT entries_applied FROM seq_metrics;
SELECT count(*) FROM seq_subscriptions;
SELECT seq_last_applied_epoch(), seq_next_epoch(), seq_current_committed_epoch();
SELECT c, t.failure(c) FROM unnest(ARRAY[
	'SELECT seq_append('''')', 'SELECT seq_replay(0, 0, 0)', 'SELECT seq_subscribe(''{1}'', lossless => false)',
	'SELECT seq_metrics_reset()', 'TABLE seq_log']) c;
RESET ROLE;

-- EXECUTE on a function is all that its user needs.
GRANT EXECUTE ON FUNCTION seq_append(bytea, boolean), seq_append_json(jsonb, boolean) TO regress_seq_proposer;
GRANT EXECUTE ON FUNCTION seq_replay(integer, bigint, bigint), seq_wait_for_epoch(bigint, interval),
	seq_subscribe(integer[], text, bigint, integer, integer, boolean), seq_unsubscribe(integer[], text),
	seq_receive(integer, interval, text), seq_receive_batch(integer, interval, text) TO regress_seq_consumer;
SET ROLE regress_seq_consumer;
SELECT seq_subscribe('{97}', lossless => false), seq_subscribe('{97}', 'framed', lossless => false);
SET ROLE regress_seq_proposer;
SELECT seq_append('\x92aa45706f6368426174636891930190ff');
SELECT seq_append_json('{"EpochBatch": {"epoch": 2, "epoch_system_ms": 1700000000000, "txns": [
	{"tx_class": {"write_set": [{"Document": {"collection": "a", "surrogates": [1]}}], "plans": "\\xab", "tenant_id": 1}}]}}');
SELECT t.failure('SELECT seq_append(''\x92aa45706f6368426174636891930190ff'')');
SELECT t.failure('TABLE seq_log'), t.failure('INSERT INTO seq_log (entry) VALUES ('''')');
SET ROLE regress_seq_consumer;
SELECT seq_wait_for_epoch(2, '1 min');
SELECT vshard, epoch, "position", plans FROM seq_receive();
SELECT seq_receive_batch(name => 'framed');
SELECT vshard, epoch, "position", plans FROM seq_replay(97, 0, 10);
SELECT seq_unsubscribe(), seq_unsubscribe(name => 'framed');
SELECT t.failure('TABLE seq_log'), t.failure('TABLE seq_subscriptions'), t.failure('SELECT seq_append('''')');
RESET ROLE;
-- What comes after the call is the caller's again.
SELECT current_user = session_user AS self;
SET ROLE regress_seq_proposer;
SELECT seq_append(''), current_user;
SELECT t.failure('SELECT seq_append(''\xc1'')'), current_user;
RESET ROLE;

-- INSERT may be granted for the raw interface.
GRANT INSERT (entry, log_index) ON seq_log TO regress_seq_proposer;
SET ROLE regress_seq_proposer;
BEGIN;
INSERT INTO seq_log (log_index, entry) VALUES (12, '\x92aa45706f6368426174636891930490ff');
INSERT INTO seq_log (log_index, entry) VALUES (10, '\x92aa45706f6368426174636891930590ff');
INSERT INTO seq_log (entry) VALUES (''), ('\xc1');
COMMIT;
RESET ROLE;
SELECT log_index, kind, epoch FROM seq_log WHERE log_index > 4 ORDER BY 1;

-- Objects of the same names in the caller's search path are not taken.
CREATE SCHEMA regress_seq_hostile CREATE TABLE seq_log (LIKE public.seq_log);
CREATE FUNCTION regress_seq_hostile.gt(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
CREATE OPERATOR regress_seq_hostile.> (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = regress_seq_hostile.gt);
CREATE OPERATOR regress_seq_hostile.<= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = regress_seq_hostile.gt);
SET search_path = regress_seq_hostile, pg_catalog, public;
SELECT seq_append('');
BEGIN;
INSERT INTO public.seq_log (log_index, entry) VALUES (22, '\x92aa45706f6368426174636891930690ff'), (20, '\x92aa45706f6368426174636891930790ff');
COMMIT;
SELECT count(*) FROM seq_replay(97, 0, 10);
SELECT seq_wait_for_epoch(7, '1 min');
SELECT last_applied_epoch, last_applied_index, log_end FROM seq_state;
RESET search_path;
SELECT log_index, kind, epoch FROM seq_log ORDER BY 1 DESC LIMIT 3;
SELECT count(*) FROM regress_seq_hostile.seq_log;
SET client_min_messages = warning;
DROP SCHEMA regress_seq_hostile CASCADE;
RESET client_min_messages;

DROP VIEW functions, relations;
DROP OWNED BY regress_seq_proposer, regress_seq_consumer;
DROP ROLE regress_seq_nobody, regress_seq_monitor, regress_seq_proposer, regress_seq_consumer;
