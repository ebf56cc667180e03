--
-- Snapshots of the state machine
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\set VERBOSITY default
-- nothing to take one of
SELECT seq_snapshot();
\echo :LAST_ERROR_SQLSTATE
-- entries without an epoch have a state too
SELECT seq_append('');
CALL t.wait_applied();
SELECT seq_snapshot();
SELECT s.log_index, s.last_applied_epoch, s.digest = t.digest AS same, s.digest_version
	FROM seq_snapshots s, seq_state t;
-- a second one of the same state is the same
SELECT seq_snapshot();
SELECT count(*) FROM seq_snapshots;
-- it says what seq_state says
SELECT seq_append_json('{"EpochBatch": {"epoch": 0, "epoch_system_ms": 0, "txns": []}}');
SELECT seq_wait_for_epoch(0, '10s');
SELECT seq_snapshot();
SELECT s.log_index, s.last_applied_epoch, s.digest = t.digest AS same
	FROM seq_snapshots s, seq_state t ORDER BY 1;
-- rolled back with its transaction
SELECT seq_append('');
CALL t.wait_applied();
BEGIN;
SELECT seq_snapshot();
ROLLBACK;
SELECT max(log_index) FROM seq_snapshots;
-- only the newest are kept
DO $$
	BEGIN
		FOR i IN 4..24 LOOP
			INSERT INTO seq_log (entry) VALUES ('');
			COMMIT;
			CALL t.wait_applied();
			PERFORM seq_snapshot();
			COMMIT;
		END LOOP;
	END $$;
SELECT count(*), min(log_index), max(log_index) FROM seq_snapshots;
-- not while catching up: no rows
SELECT * FROM seq_progress;
