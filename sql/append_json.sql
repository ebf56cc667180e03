--
-- seq_append_json: what a batch may leave out, and what it gets for it.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\pset format unaligned
\pset tuples_only on

-- A batch of one transaction, with or without its numbers.
CREATE FUNCTION t.put(numbers jsonb DEFAULT '{}', force boolean DEFAULT false) RETURNS bigint LANGUAGE sql AS $$
	SELECT seq_append_json(jsonb_build_object('EpochBatch', '{"txns": [{"tx_class": {"write_set": [], "plans": "\\x"}}]}' || numbers), force)
$$;
CREATE VIEW t.batches AS SELECT log_index, kind, epoch, (seq_decode(entry) #>> '{EpochBatch,epoch_system_ms}')::bigint AS ms FROM seq_log;
CREATE FUNCTION t.ms() RETURNS bigint LANGUAGE sql AS 'SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint';

-- the first epoch is 0, the time is now
SELECT t.ms() AS before \gset
SELECT t.put();
SELECT log_index, kind, epoch, ms BETWEEN :before AND t.ms() AS now FROM t.batches;
SELECT (seq_decode(entry) #> '{EpochBatch,txns,0}') - 'epoch_system_ms'::text,
	seq_decode(entry) #> '{EpochBatch,txns,0,epoch_system_ms}' = seq_decode(entry) #> '{EpochBatch,epoch_system_ms}' AS of_batch FROM seq_log;
-- never below the last batch's, whoever has said that one, and whatever stands between
SELECT t.put('{"epoch_system_ms": 9000000000000}');
SELECT t.put(), t.put('{"epoch": 3}');
SELECT seq_ack(3, 0, 5), seq_append('');
\c
SELECT t.put();
SELECT log_index, kind, epoch, ms FROM t.batches WHERE log_index > 1 ORDER BY 1;
-- a time that is said is taken as it is, also an earlier one
SELECT t.put('{"epoch_system_ms": -1}');
SELECT t.ms() AS before \gset
SELECT t.put();
SELECT kind, epoch, ms BETWEEN :before AND t.ms() AS now FROM t.batches ORDER BY log_index DESC LIMIT 1;

-- what was rolled back is not the last batch
BEGIN;
SELECT t.put('{"epoch_system_ms": 9100000000000}');
ROLLBACK;
INSERT INTO seq_log (entry) VALUES (t.batch(7));
SELECT t.ms() AS before \gset
SELECT t.put();
SELECT kind, epoch, ms BETWEEN :before AND t.ms() AS now FROM t.batches ORDER BY log_index DESC LIMIT 1;
BEGIN;
SELECT t.put('{"epoch_system_ms": 9200000000000}');
SAVEPOINT s;
SELECT t.put('{"epoch_system_ms": 9300000000000}');
ROLLBACK TO s;
SELECT t.put();
-- this one is of another epoch than what was rolled back
SAVEPOINT s;
SELECT t.put('{"epoch_system_ms": 9400000000000}'), t.put();
SELECT epoch, ms FROM t.batches ORDER BY log_index DESC LIMIT 4;
ROLLBACK;
-- nor is one that is not above what was before it, or no batch at all
INSERT INTO seq_log (entry) VALUES (t.batch(2)), ('\xc1');
SELECT t.ms() AS before \gset
SELECT t.put();
SELECT kind, epoch, ms BETWEEN :before AND t.ms() AS now FROM t.batches WHERE kind = 'epoch_batch' ORDER BY log_index DESC LIMIT 1;
-- several in one transaction, out of order, and forced ahead
BEGIN;
SELECT t.put(force => true), t.put('{"epoch": 100, "epoch_system_ms": 9500000000000}', true), t.put();
INSERT INTO seq_log (log_index, entry) VALUES (200, ''), (199, seq_encode('{"EpochBatch": {"epoch": 200, "epoch_system_ms": 9600000000000, "txns": []}}'));
SELECT t.put();
SELECT log_index, kind, epoch, ms FROM t.batches WHERE log_index > 10 AND epoch >= 100 ORDER BY log_index;
ROLLBACK;

-- the rest of what may be left out, and what may not
SELECT seq_encode('{"EpochBatch": {"epoch": 0, "epoch_system_ms": 0, "txns": [{"tx_class": {"plans": "\\x", "write_set": [
	{"Document": {"collection": "a"}}, {"Vector": {"collection": "a"}}, {"Kv": {"collection": "a"}}, {"Edge": {"collection": "a"}}]}}]}}');
SELECT t.failure('SELECT t.put(''{"epoch": null}'')'), t.failure('SELECT t.put(''{"epoch_system_ms": null}'')');
SELECT t.failure('SELECT t.put(''{"epoch": 3}'')');
SELECT t.failure(format('SELECT seq_append_json(%L)', '{"EpochBatch": {}}'));
SELECT t.failure(format('SELECT seq_append_json(%L)', '{"CompletionAck": {"position": 0, "vshard_id": 0}}'));
\set VERBOSITY default
SELECT seq_encode('{"EpochBatch": {"epoch_system_ms": 0, "txns": []}}');
SELECT seq_encode('{"EpochBatch": {"epoch": 0, "txns": []}}');
SELECT t.failure('SET TRANSACTION READ ONLY; SELECT t.put()');
