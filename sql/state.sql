--
-- What the state machine says of itself: epochs, waiting for them, seq_state,
-- seq_metrics.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
-- Nothing here waits long, unless it is broken.
SET statement_timeout = '2 min';

-- The views and their columns.
SELECT attrelid::regclass AS view, attname, format_type(atttypid, atttypmod) AS type
	FROM pg_attribute WHERE attrelid IN ('seq_state'::regclass, 'seq_metrics'::regclass, 'seq_subscriptions'::regclass)
	AND attnum > 0 ORDER BY attrelid::regclass::text, attnum;

-- Before the first entry.
SELECT seq_last_applied_epoch(), seq_next_epoch(), seq_current_committed_epoch();
SELECT role, applier_pid IS NOT NULL AS has_applier, last_applied_epoch, last_applied_index, log_end, lag, digest,
	started_at <= clock_timestamp() AS started, last_error, last_error_at FROM seq_state;
SELECT * FROM seq_metrics;
SELECT count(*) FROM seq_subscriptions;
-- The applier is the process that says so.
SELECT backend_type, application_name, datname = current_database() AS here FROM pg_stat_activity
	WHERE pid = (SELECT applier_pid FROM seq_state);

-- Epoch 0 is not none.
INSERT INTO seq_log (entry) VALUES (t.empty_batch(0));
SELECT seq_wait_for_epoch(0, '1 min');
SELECT seq_last_applied_epoch(), seq_next_epoch(), seq_current_committed_epoch();
SELECT last_applied_epoch, last_applied_index, log_end, lag, last_error FROM seq_state;
-- Committed is what is in the log, applied or not: stale batches, acks and
-- undecodable entries do not count, gaps do.
INSERT INTO seq_log (entry) VALUES (t.empty_batch(4)), (t.empty_batch(2)), ('\x92ad436f6d706c6574696f6e41636b93090301'), ('\xc1'), ('');
SELECT seq_current_committed_epoch();
SELECT seq_wait_for_epoch(4, '1 min');
SELECT seq_last_applied_epoch(), seq_next_epoch(), seq_current_committed_epoch();
-- A hole is no lag.
INSERT INTO seq_log (log_index, entry) VALUES (100, t.empty_batch(5));
CALL t.wait_applied();
SELECT last_applied_epoch, last_applied_index, log_end, lag FROM seq_state;
CALL t.wait_applied();

--
-- Waiting
--

SELECT seq_wait_for_epoch(0, '0'), seq_wait_for_epoch(5, '0'), seq_wait_for_epoch(5, '1000000 years');
SELECT seq_wait_for_epoch(6, '0'), seq_wait_for_epoch(6, '10 ms'), seq_wait_for_epoch(9223372036854775807, '1 ms');
SELECT seq_wait_for_epoch(NULL, '0'), seq_wait_for_epoch(5, NULL);
SELECT seq_wait_for_epoch(-1, '0');
SELECT seq_wait_for_epoch(6, '-1 ms');
-- In a transaction, its own append does not come before its commit.
BEGIN;
INSERT INTO seq_log (entry) VALUES (t.empty_batch(6));
SELECT seq_wait_for_epoch(6, '10 ms');
COMMIT;
SELECT seq_wait_for_epoch(6, '1 min');
-- A wait that is cancelled leaves nothing behind.
SET statement_timeout = '50 ms';
SELECT seq_wait_for_epoch(7, '1 min');
SET statement_timeout = '2 min';
INSERT INTO seq_log (entry) VALUES (t.empty_batch(7));
SELECT seq_wait_for_epoch(7, '1 min');
-- What is waited for can be received.
SELECT seq_subscribe('{97}', lossless => false);
DO $$
BEGIN
	FOR e IN 8..40 LOOP
		INSERT INTO seq_log (entry) VALUES (seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object('epoch', e, 'epoch_system_ms', 0,
			'txns', '[{"tx_class": {"write_set": [{"Document": {"collection": "a", "surrogates": []}}], "plans": "\\x", "tenant_id": 1}}]'::jsonb))));
		COMMIT;
		ASSERT seq_wait_for_epoch(e, '1 min'), 'applied in time';
		ASSERT (SELECT array_agg(epoch) = ARRAY[e::bigint] FROM seq_receive()), 'received at once';
		ASSERT (SELECT last_applied_epoch = e FROM seq_state), 'shown at once';
	END LOOP;
END $$;
SELECT seq_unsubscribe();

--
-- Metrics
--

SELECT epochs_applied, txns_fanned_out, txns_dropped_backpressure, epochs_skipped_gap, epochs_skipped_stale,
	entries_applied, entries_noop, entries_undecodable, completion_acks, bytes_applied = (SELECT sum(octet_length(entry)) FROM seq_log) AS bytes
	FROM seq_metrics;
SELECT latency_p50_us > 0 AS p50, latency_p99_us >= latency_p50_us AS p99, latency_max_us >= latency_p99_us AS max FROM seq_metrics;
-- A reset lets counting start anew; the state machine does not move.
SELECT digest, last_applied_index FROM seq_state \gset before_
SELECT seq_metrics_reset();
SELECT * FROM seq_metrics;
SELECT last_applied_epoch, last_applied_index = :before_last_applied_index AS same_index, digest = :'before_digest' AS same_digest FROM seq_state;
INSERT INTO seq_log (entry) VALUES (t.empty_batch(41)), (''), (t.empty_batch(41));
CALL t.wait_applied();
SELECT epochs_applied, epochs_skipped_stale, entries_noop, entries_applied, bytes_applied, latency_max_us > 0 AS latency FROM seq_metrics;
-- Not undone by ROLLBACK: it is no table.
BEGIN;
SELECT seq_metrics_reset();
ROLLBACK;
SELECT entries_applied FROM seq_metrics;
-- What entries in the log say of the time of their append is no latency of
-- acks and gaps.
INSERT INTO seq_log (entry, appended_at) VALUES (t.empty_batch(50), 'epoch'), ('', 'epoch'), (t.empty_batch(3), 'epoch');
CALL t.wait_applied();
SELECT entries_applied, latency_p50_us, latency_p99_us, latency_max_us FROM seq_metrics;

--
-- Digest
--

-- It is that of the log: of the entries, their places and what became of them.
-- Consumers and drops are not in it (the last batch here is dropped in what
-- follows, but there is no consumer now).
INSERT INTO seq_log (entry) VALUES (seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object('epoch', 51, 'epoch_system_ms', 0, 'txns',
	jsonb_build_array(jsonb_build_object('tx_class', jsonb_build_object('write_set', '[{"Document": {"collection": "a", "surrogates": []}}]'::jsonb,
		'plans', '\x' || repeat('00', 20000), 'tenant_id', 1)))))));
CALL t.wait_applied();
CREATE TEMP TABLE digests (n int, digest text);
CREATE TEMP TABLE entries AS SELECT log_index, entry FROM seq_log;
INSERT INTO digests SELECT 1, digest FROM seq_state;
CREATE PROCEDURE t.rebuild(n int, change text DEFAULT '') LANGUAGE plpgsql AS $$
BEGIN
	DROP EXTENSION calvin_seq;
	CREATE EXTENSION calvin_seq;
	COMMIT;
	CALL t.wait_applied();
	PERFORM seq_subscribe(ARRAY[97], queue_size => 8192, lossless => false);
	INSERT INTO seq_log (log_index, entry)
		SELECT log_index + CASE WHEN change = 'place' AND log_index > 1 THEN 1 ELSE 0 END,
			CASE WHEN change = 'trailing byte' AND log_index = 100 THEN entry || '\x00' ELSE entry END
		FROM entries ORDER BY log_index;
	COMMIT;
	CALL t.wait_applied();
	INSERT INTO digests SELECT n, digest FROM seq_state;
	ASSERT (SELECT dropped = 1 FROM seq_subscriptions), 'too large for the queue';
	PERFORM seq_unsubscribe();
END $$;
CALL t.rebuild(2);
CALL t.rebuild(3, 'place');
CALL t.rebuild(4, 'trailing byte');
SELECT array_agg(n ORDER BY n) FROM digests GROUP BY digest ORDER BY 1;
-- Version 1 is as it was.
SELECT digest FROM digests WHERE n = 1;
