--
-- Truncation: seq_truncate, the base snapshot, and who comes too late
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\set VERBOSITY default

-- What the log holds, and with which state it begins.
CREATE VIEW t.log AS
	SELECT count(*), min(log_index), max(log_index), min(epoch) FILTER (WHERE kind = 'epoch_batch') AS first_epoch FROM seq_log;
CREATE VIEW t.base AS SELECT log_index, last_applied_epoch FROM seq_snapshots WHERE base;

-- nothing there yet
SELECT seq_truncate(0), seq_truncate(1000);
SELECT seq_truncate(-1);
SELECT seq_truncate(NULL), seq_truncate(1, NULL);

-- Epochs 0 to 9, a gap, 20 to 29; with all that there may be in between.
INSERT INTO seq_log (entry) SELECT t.batch(e) FROM generate_series(0, 4) e;
INSERT INTO seq_log (entry) VALUES (''), ('\xc1'), (t.batch(3)), (seq_encode('{"CompletionAck": {"epoch": 4, "position": 0, "vshard_id": 97}}'));
INSERT INTO seq_log (entry) SELECT t.batch(e) FROM generate_series(5, 9) e;
INSERT INTO seq_log (log_index, entry) VALUES (100, t.batch(20));
INSERT INTO seq_log (entry) SELECT t.batch(e, ARRAY[CASE WHEN e % 2 = 0 THEN 'a' ELSE 'b' END]) FROM generate_series(21, 29) e;
CALL t.wait_applied();
TABLE t.log;

-- Where it is cut: in front of the batch that reaches the epoch.
BEGIN;
SELECT seq_truncate(0), seq_truncate(1);
TABLE t.log;
TABLE t.base;
SELECT seq_truncate(5);
TABLE t.log;
TABLE t.base;
-- what is gone is gone
SELECT seq_truncate(5), seq_truncate(4);
ROLLBACK;
TABLE t.log;
TABLE t.base;
SELECT seq_truncate(6);
TABLE t.log;
TABLE t.base;
-- within the gap of epochs, the batch behind it is the first that stays
SELECT seq_truncate(15);
TABLE t.log;
TABLE t.base;
SELECT seq_truncate(20);

-- What was truncated is told of, everywhere.
SELECT epoch FROM seq_replay(97, 10, 21);
SELECT epoch FROM seq_replay(97, 20, 21);
SELECT epoch FROM seq_replay(97, 9, 21);
SELECT epoch FROM seq_replay(97, 0, 0);
SELECT epoch FROM seq_replay(97, 3, 2);
SELECT epoch FROM seq_replay(97, 1000, 2000);
\echo :SQLSTATE
SELECT * FROM seq_completion(9, 0);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM seq_completion(10, 0);
SELECT * FROM seq_completion(20, 0);
SELECT seq_wait_for_completion(3, 0, '0');
SELECT seq_subscribe('{97}', from_epoch => 9);
SELECT seq_subscribe('{97}', from_epoch => 10);
SELECT array_agg(epoch) FROM seq_receive();
SELECT seq_unsubscribe();

-- A durable cursor holds it back, unless nothing that goes is for it; it may be
-- dropped.
SELECT seq_subscribe('{97,98}', 'c', from_epoch => 20);
BEGIN;
SELECT array_agg(epoch) FROM seq_receive(2, name => 'c');
SELECT seq_commit('c');
COMMIT;
SELECT seq_unsubscribe(name => 'c');
SELECT vshard, epoch, "position" FROM seq_cursors ORDER BY 1;
SELECT seq_truncate(22);
SELECT vshard, epoch, "position" FROM seq_cursors ORDER BY 1;
SELECT seq_truncate(25);
\echo :LAST_ERROR_SQLSTATE
SELECT seq_truncate(25, force => true);
TABLE t.log;
SELECT seq_subscribe('{97,98}', 'c');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM seq_subscriptions;
SELECT seq_drop_cursor('c');
SELECT seq_subscribe('{97,98}', 'c', from_epoch => 25);
SELECT array_agg(epoch) FROM seq_receive(name => 'c');
SELECT seq_unsubscribe(name => 'c');

-- A live consumer holds it back while it needs something: what it has not
-- received, and what a rollback would bring back.
SELECT seq_subscribe('{97,98}', 'l', from_epoch => 26);
SELECT seq_truncate(26);
SELECT t.failure('SELECT seq_truncate(28)');
BEGIN;
SELECT array_agg(epoch) FROM seq_receive(name => 'l');
SELECT t.failure('SELECT seq_truncate(28)');
ROLLBACK;
SELECT t.failure('SELECT seq_truncate(28)');
BEGIN;
SELECT array_agg(epoch) FROM seq_receive(name => 'l');
SELECT t.failure('SELECT seq_truncate(28)');
COMMIT;
-- it has all of it now: only epochs to come are wanted
SELECT seq_truncate(28);
TABLE t.log;
-- a bare one does not count, and a quiet vshard's neither
SELECT seq_subscribe('{97}', 'bare', lossless => false);
SELECT seq_subscribe('{5}', 'quiet');
SELECT seq_append(t.batch(30)), seq_append(t.batch(31)), seq_append(t.batch(32));
SELECT seq_wait_for_epoch(32, '30s');
SELECT count(*) FROM seq_receive(name => 'l');
SELECT seq_truncate(32);
SELECT array_agg(epoch) FROM seq_receive(name => 'bare');
SELECT count(*) FROM seq_receive(name => 'quiet');

-- Forced past a consumer: what its queue holds it still has; what it would
-- have to read from the log it is told of, at every call.
SELECT seq_subscribe('{97}', 'small', queue_size => 8192);
INSERT INTO seq_log (entry) SELECT t.batch(e) FROM generate_series(33, 332) e;
SELECT seq_wait_for_epoch(332, '30s');
SELECT count(*) FROM seq_receive(1000, name => 'l');
SELECT t.failure('SELECT seq_truncate(330)');
SELECT seq_truncate(330, true);
SELECT count(*) FROM seq_receive(10, name => 'small');
SELECT count(*) FROM seq_receive(1000, name => 'small');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM seq_receive(1000, name => 'small');
SELECT seq_subscribe('{97}', 'small', from_epoch => 330);
SELECT array_agg(epoch) FROM seq_receive(1000, name => 'small');
SELECT seq_unsubscribe(name => n) FROM unnest('{bare,quiet,small,l}'::text[]) n;

-- In the middle of a walk: it fetches some hundred entries at a time.
INSERT INTO seq_log (entry) SELECT t.batch(e) FROM generate_series(333, 999) e;
CALL t.wait_applied();
SELECT seq_subscribe('{97}', 'walk', from_epoch => 333);
SELECT array_agg(epoch) FROM seq_receive(2, name => 'walk');
SELECT seq_truncate(990, true);
SELECT min(epoch), max(epoch) FROM seq_receive(254, name => 'walk');
SELECT min(epoch), max(epoch) FROM seq_receive(1, name => 'walk');
SELECT seq_unsubscribe(name => 'walk');

-- The last batch stays, whatever is asked for, since it tells the epoch.
SELECT seq_truncate(9000000000000000000);
TABLE t.log;
TABLE t.base;
SELECT seq_truncate(9000000000000000000);
SELECT seq_current_committed_epoch(), seq_next_epoch();
SELECT seq_append(t.batch(1000));

-- All the time, nothing has happened to the state; a base is the state that
-- the applier had there.
CALL t.wait_applied();
SELECT last_applied_epoch, last_applied_index FROM seq_state;
CREATE TABLE t.standing AS SELECT last_applied_index, digest FROM seq_state;
SELECT seq_append(t.batch(1001)), seq_wait_for_epoch(1001, '0') IS NOT NULL;
SELECT seq_wait_for_epoch(1001, '30s');
SELECT seq_truncate(1001);
SELECT s.log_index = t.last_applied_index AND s.digest = t.digest AS same FROM t.standing t, seq_snapshots s WHERE base;

-- In REPEATABLE READ: replay sees its snapshot, truncation the latest.
INSERT INTO seq_log (entry) SELECT t.batch(e) FROM generate_series(1002, 1007) e;
CALL t.wait_applied();
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM seq_log;
SELECT seq_truncate(1007);
SELECT epoch FROM seq_replay(97, 1006, 1007);
COMMIT;

-- Snapshots: those of what was truncated are gone, the newest stay.
SELECT seq_snapshot();
INSERT INTO seq_log (entry) SELECT t.batch(e) FROM generate_series(1008, 1010) e;
CALL t.wait_applied();
SELECT seq_snapshot();
SELECT seq_truncate(1009);
SELECT log_index, last_applied_epoch, base FROM seq_snapshots ORDER BY 1;
-- it does not count among those that are kept
DO $$
BEGIN
	FOR i IN 1011..1037 LOOP
		PERFORM seq_append(t.batch(i));
		COMMIT;
		CALL t.wait_applied();
		PERFORM seq_snapshot();
		COMMIT;
	END LOOP;
END $$;
SELECT count(*), count(*) FILTER (WHERE base), min(log_index) FROM seq_snapshots;
-- there is one base, it stands in front of the log, and can be continued
INSERT INTO seq_snapshots SELECT log_index + 1, last_applied_epoch, digest, digest_version, now(), true FROM t.base JOIN seq_snapshots USING (log_index, last_applied_epoch);
INSERT INTO seq_snapshots VALUES (1, NULL, '910a2dec89025cc1', 2, now(), true);

-- Who may: the owner, and who is granted EXECUTE.
CREATE ROLE regress_truncator;
GRANT USAGE ON SCHEMA t TO regress_truncator;
SET ROLE regress_truncator;
SELECT seq_truncate(1010);
RESET ROLE;
GRANT EXECUTE ON FUNCTION seq_truncate(bigint, boolean) TO regress_truncator;
SET ROLE regress_truncator;
SELECT seq_truncate(1010);
RESET ROLE;
REVOKE EXECUTE ON FUNCTION seq_truncate(bigint, boolean) FROM regress_truncator;
REVOKE USAGE ON SCHEMA t FROM regress_truncator;
DROP ROLE regress_truncator;
-- what the owner has attached to the log runs, and can prevent it
CREATE FUNCTION t.planted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'planted'; END $$;
CREATE TRIGGER planted BEFORE DELETE ON seq_log FOR EACH ROW EXECUTE FUNCTION t.planted();
ALTER TABLE seq_log ENABLE ALWAYS TRIGGER planted;
SELECT t.failure('SELECT seq_truncate(1011)');
DROP TRIGGER planted ON seq_log;
SELECT seq_truncate(1011);
-- and the log is append-only as ever
DELETE FROM seq_log WHERE log_index < 10;
-- read-only
BEGIN READ ONLY;
SELECT seq_truncate(1012);
ROLLBACK;
BEGIN READ ONLY;
SELECT seq_append('');
ROLLBACK;
BEGIN READ ONLY;
SELECT seq_ack(1037, 0, 97);
ROLLBACK;
BEGIN READ ONLY;
SELECT seq_snapshot();
ROLLBACK;

SET client_min_messages = warning;
DROP SCHEMA t CASCADE;
