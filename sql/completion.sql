--
-- Completions: expected and acked participants, from the log alone
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\set VERBOSITY default

-- not in the log: unknown
SELECT * FROM seq_completion(0, 0);
-- an ack that comes before its batch does not count
SELECT seq_ack(0, 0, 97);
INSERT INTO seq_log (entry) VALUES (t.batch(0, '{"a,b","a,b"}')), (t.batch(1, '{""}'));
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
INSERT INTO seq_log (entry) VALUES (t.batch(0, '{""}'));
SELECT * FROM seq_completion(0, 1);
-- a gap counts: its batch is part of the streams
INSERT INTO seq_log (entry) VALUES (t.batch(9, '{"a,b"}'));
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
