--
-- Completions: expected and acked participants, from the log alone
--
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS calvin_seq CASCADE;
CREATE EXTENSION calvin_seq;
RESET client_min_messages;
\set VERBOSITY default
-- 'a' is vshard 97, 'b' 98; every transaction writes both, or none
CREATE FUNCTION batch(epoch bigint, txns int, write boolean DEFAULT true) RETURNS bytea
LANGUAGE sql AS $$
	SELECT seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object(
		'epoch', epoch, 'epoch_system_ms', 0, 'txns',
		(SELECT coalesce(jsonb_agg(jsonb_build_object('tx_class', jsonb_build_object(
			'write_set', CASE WHEN write THEN
				'[{"Document": {"collection": "b", "surrogates": [1]}},
				  {"Document": {"collection": "a", "surrogates": [1]}}]'::jsonb
				ELSE '[]' END,
			'plans', '\x', 'tenant_id', 1))), '[]') FROM generate_series(1, txns)))))
$$;

-- not in the log: unknown
SELECT * FROM seq_completion(0, 0);
-- an ack that comes before its batch does not count
SELECT seq_ack(0, 0, 97);
INSERT INTO seq_log (entry) VALUES (batch(0, 2)), (batch(1, 1, false));
SELECT * FROM seq_completion(0, 0);
-- repeated ones, strangers' and those for other transactions are no harm
SELECT seq_ack(0, 0, 98), seq_ack(0, 0, 98), seq_ack(0, 0, 5), seq_ack(0, 1, 97), seq_ack(1, 0, 97);
INSERT INTO seq_log (entry) VALUES (seq_encode('{"CompletionAck": {"epoch": 0, "position": 0, "vshard_id": 4000000000}}'));
SELECT * FROM seq_completion(0, 0);
SELECT * FROM seq_completion(0, 1);
SELECT seq_wait_for_completion(0, 0, '0');
SELECT seq_ack(0, 0, 97);
SELECT * FROM seq_completion(0, 0);
SELECT seq_wait_for_completion(0, 0, '10s');
-- nobody takes part: complete as soon as it is there
SELECT * FROM seq_completion(1, 0);
SELECT seq_wait_for_completion(1, 0, '10s');
-- a stale batch of the same epoch changes nothing
INSERT INTO seq_log (entry) VALUES (batch(0, 1, false));
SELECT * FROM seq_completion(0, 1);
-- a gap counts: its batch is part of the streams
INSERT INTO seq_log (entry) VALUES (batch(9, 1));
SELECT seq_ack(9, 0, 97), seq_ack(9, 0, 98);
SELECT seq_wait_for_completion(9, 0, '10s');
-- what is rolled back does not count
BEGIN;
SELECT seq_ack(0, 1, 98);
SELECT * FROM seq_completion(0, 1);
ROLLBACK;
SELECT * FROM seq_completion(0, 1);
-- the ack is the entry that a program would write
SELECT entry = seq_encode('{"CompletionAck": {"epoch": 9, "position": 0, "vshard_id": 98}}') AS same, kind, epoch
	FROM seq_log ORDER BY log_index DESC LIMIT 1;
-- errors
SELECT * FROM seq_completion(0, 2);
\echo :LAST_ERROR_SQLSTATE
SELECT seq_wait_for_completion(0, 2, '10s');
SELECT * FROM seq_completion(-1, 0);
SELECT * FROM seq_completion(0, -1);
SELECT * FROM seq_completion(0, 4294967296);
SELECT seq_ack(0, 0, 1024);
SELECT seq_ack(0, 0, -1);
SELECT seq_ack(9223372036854775807, 0, 1);
SELECT seq_wait_for_completion(0, 1, '-1s');
SELECT * FROM seq_completion(NULL, 0);
-- found by index, not by reading the log
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT 1 FROM seq_log
	WHERE kind = 'completion_ack' AND epoch = 0 AND seq_log_ack_position(entry) = 1;
DROP FUNCTION batch;
