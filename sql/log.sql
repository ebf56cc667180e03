--
-- The log as a table: commit-ordered log_index, derived columns, append-only.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql


-- log_index is assigned from 1, by one row or many, by INSERT and COPY.
INSERT INTO seq_log (entry) VALUES (t.empty_batch(0)) RETURNING log_index, kind, epoch, appended_at IS NOT NULL AS stamped;
INSERT INTO seq_log (entry) VALUES (t.empty_batch(1)), (''), (t.empty_batch(2)) RETURNING log_index, kind, epoch;
INSERT INTO seq_log (entry) SELECT t.empty_batch(n) FROM generate_series(3, 6) n ORDER BY n DESC RETURNING log_index, kind, epoch;
COPY seq_log (entry) FROM stdin;
\\x92aa45706f636842617463689193079000
\\x
\\x92ad436f6d706c6574696f6e41636b93070301
\\xc1
\.
SELECT log_index, kind, epoch FROM seq_log WHERE log_index > 8 ORDER BY 1;

-- What is rolled back leaves no hole, nor does a savepoint.
BEGIN;
INSERT INTO seq_log (entry) VALUES (''), ('') RETURNING log_index;
ROLLBACK;
BEGIN;
INSERT INTO seq_log (entry) VALUES ('') RETURNING log_index;
SAVEPOINT s;
INSERT INTO seq_log (entry) VALUES (''), ('') RETURNING log_index;
ROLLBACK TO s;
INSERT INTO seq_log (entry) VALUES (t.empty_batch(8)) RETURNING log_index, kind;
SAVEPOINT t;
INSERT INTO seq_log (entry) VALUES (t.empty_batch(9)) RETURNING log_index, kind;
RELEASE t;
ROLLBACK TO s;
INSERT INTO seq_log (entry) VALUES (t.empty_batch(8)) RETURNING log_index, kind;
COMMIT;
-- The first append of a transaction within a savepoint that is rolled back.
BEGIN;
SAVEPOINT s;
INSERT INTO seq_log (entry) VALUES ('') RETURNING log_index;
ROLLBACK TO s;
INSERT INTO seq_log (entry) VALUES ('') RETURNING log_index;
COMMIT;
-- A statement that fails half-way leaves none either.
INSERT INTO seq_log (entry) VALUES (''), (NULL);
INSERT INTO seq_log (entry) VALUES ('') RETURNING log_index;
DO $$
BEGIN
	INSERT INTO seq_log (entry) VALUES ('');
	BEGIN
		INSERT INTO seq_log (entry) VALUES (''), ('');
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN NULL;
	END;
	INSERT INTO seq_log (entry) VALUES ('');
END $$;
SELECT count(*), min(log_index), max(log_index) FROM seq_log;

-- Appending works in every isolation level.
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO seq_log (entry) VALUES (''), ('') RETURNING log_index;
INSERT INTO seq_log (entry) VALUES ('') RETURNING log_index;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
INSERT INTO seq_log (entry) VALUES (''), ('') RETURNING log_index;
COMMIT;

-- Rows that another trigger keeps out, or ON CONFLICT, take no place.
CREATE FUNCTION t.keep_acks_out() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN RETURN CASE WHEN NEW.kind = 'completion_ack' THEN NULL ELSE NEW END; END $$;
CREATE TRIGGER z_keep_acks_out BEFORE INSERT ON seq_log FOR EACH ROW EXECUTE FUNCTION t.keep_acks_out();
INSERT INTO seq_log (entry) VALUES (''), ('\x92ad436f6d706c6574696f6e41636b93070301'), ('') RETURNING log_index, kind;
DROP TRIGGER z_keep_acks_out ON seq_log;
BEGIN;
INSERT INTO seq_log (log_index, entry) VALUES (30, ''), (30, t.empty_batch(100)), (NULL, '')
	ON CONFLICT DO NOTHING RETURNING log_index, kind;
INSERT INTO seq_log (entry) VALUES (t.empty_batch(99)) RETURNING log_index, kind;
ROLLBACK;
-- Nor do they make stale what is behind the place they did not take.
BEGIN;
INSERT INTO seq_log (log_index, entry) VALUES (30, t.empty_batch(30)), (35, t.empty_batch(31));
INSERT INTO seq_log (log_index, entry) VALUES (30, t.empty_batch(100)) ON CONFLICT DO NOTHING RETURNING log_index;
SELECT log_index, kind, epoch FROM seq_log WHERE log_index >= 30 ORDER BY 1;
ROLLBACK;
INSERT INTO seq_log (entry) VALUES ('') ON CONFLICT (log_index) DO UPDATE SET entry = '';

-- An explicit log_index has to be above the end of the log as it was when
-- the transaction first appended; then any order will do, and holes may stay.
SELECT max(log_index) FROM seq_log;
INSERT INTO seq_log (log_index, entry) VALUES (26, '');
INSERT INTO seq_log (log_index, entry) VALUES (25, '');
INSERT INTO seq_log (log_index, entry) VALUES (0, '');
INSERT INTO seq_log (log_index, entry) VALUES (-1, '');
BEGIN;
INSERT INTO seq_log (log_index, entry) VALUES (40, ''), (38, ''), (39, '') RETURNING log_index;
INSERT INTO seq_log (entry) VALUES ('') RETURNING log_index;
INSERT INTO seq_log (log_index, entry) VALUES (36, '') RETURNING log_index;
SAVEPOINT s;
INSERT INTO seq_log (log_index, entry) VALUES (39, '');
ROLLBACK TO s;
INSERT INTO seq_log (log_index, entry) VALUES (26, '');
ROLLBACK TO s;
-- The savepoint's rollback does not forget where the transaction began.
INSERT INTO seq_log (log_index, entry) VALUES (37, '') RETURNING log_index;
COMMIT;
INSERT INTO seq_log (log_index, entry) VALUES (35, '');
-- Where the first append was rolled back, the next one is the first.
BEGIN;
SAVEPOINT s;
INSERT INTO seq_log (log_index, entry) VALUES (60, '');
ROLLBACK TO s;
INSERT INTO seq_log (log_index, entry) VALUES (43, '') RETURNING log_index;
INSERT INTO seq_log (log_index, entry) VALUES (42, '') RETURNING log_index;
COMMIT;
COPY seq_log (log_index, entry) FROM stdin;
51	\\x
50	\\xc1
\.
SELECT array_agg(log_index ORDER BY log_index) FROM seq_log WHERE log_index > 25;
BEGIN;
INSERT INTO seq_log (log_index, entry) VALUES (9223372036854775807, '');
SELECT t.failure($$INSERT INTO seq_log (entry) VALUES ('')$$);
ROLLBACK;

-- kind and epoch are derived, whatever the writer says.
INSERT INTO seq_log (entry, kind, epoch) VALUES
	('', 'epoch_batch', 90),
	('\xc1', 'noop', 91),
	(t.empty_batch(10), 'undecodable', NULL),
	(t.empty_batch(10), 'epoch_batch', 11),
	(t.empty_batch(3), NULL, NULL),
	('\x92ad436f6d706c6574696f6e41636b937f0301', 'epoch_batch', 3),
	(t.empty_batch(11), 'stale_batch', 2)
	RETURNING log_index, kind, epoch;
-- The epoch of an ack is no mark for batches; bytes that follow an entry are
-- ignored; an epoch that no bigint holds makes an entry undecodable.
BEGIN;
INSERT INTO seq_log (entry) VALUES
	(t.empty_batch(12)),
	(t.empty_batch(13) || '\xdeadbeef'),
	('\x92aa45706f636842617463689193cf7ffffffffffffffe90ff'),
	('\x92aa45706f636842617463689193cf7fffffffffffffff90ff'),
	('\x92aa45706f636842617463689193cfffffffffffffffff90ff')
	RETURNING log_index, kind, epoch;
ROLLBACK;

-- Out of order, an entry makes those behind it stale that no longer raise
-- the epoch, and a savepoint's rollback makes them what they were.
BEGIN;
INSERT INTO seq_log (log_index, entry) VALUES
	(80, t.empty_batch(20)), (81, t.empty_batch(21)), (83, t.empty_batch(23));
INSERT INTO seq_log (log_index, entry) VALUES (75, t.empty_batch(19)) RETURNING log_index, kind, epoch;
SELECT log_index, kind, epoch FROM seq_log WHERE log_index >= 75 ORDER BY 1;
SAVEPOINT s;
INSERT INTO seq_log (log_index, entry) VALUES (76, t.empty_batch(21)) RETURNING log_index, kind, epoch;
SELECT log_index, kind, epoch FROM seq_log WHERE log_index >= 75 ORDER BY 1;
ROLLBACK TO s;
SELECT log_index, kind, epoch FROM seq_log WHERE log_index >= 75 ORDER BY 1;
INSERT INTO seq_log (log_index, entry) VALUES
	(78, t.empty_batch(20)), (82, t.empty_batch(21)), (84, t.empty_batch(22)), (79, t.empty_batch(18)), (77, '');
SELECT log_index, kind, epoch FROM seq_log WHERE log_index >= 75 ORDER BY 1;
COMMIT;
INSERT INTO seq_log (entry) VALUES (t.empty_batch(23)), (t.empty_batch(24)) RETURNING log_index, kind, epoch;

-- The applier judges the bytes alone, and comes to the same kinds. It does
-- not wait on a hole.
CALL t.wait_applied();
SELECT last_applied_index, last_applied_epoch, last_error FROM seq_state;
SELECT count(*) FILTER (WHERE kind = 'epoch_batch') = epochs_applied + epochs_skipped_gap AS batches,
	count(*) FILTER (WHERE kind = 'stale_batch') = epochs_skipped_stale AS stale,
	count(*) FILTER (WHERE kind = 'noop') = entries_noop AS noops,
	count(*) FILTER (WHERE kind = 'undecodable') = entries_undecodable AS undecodable,
	count(*) FILTER (WHERE kind = 'completion_ack') = completion_acks AS acks,
	count(*) = entries_applied AS entries,
	sum(octet_length(entry)) = bytes_applied AS bytes
	FROM seq_log, seq_metrics GROUP BY seq_metrics.*, epochs_applied, epochs_skipped_gap, epochs_skipped_stale,
		entries_noop, entries_undecodable, completion_acks, entries_applied, bytes_applied;

-- The log is append-only, for every session.
SELECT t.failure(c) FROM unnest(ARRAY[
	'UPDATE seq_log SET kind = kind',
	'UPDATE seq_log SET entry = '''' WHERE false',
	'DELETE FROM seq_log',
	'DELETE FROM seq_log WHERE log_index = 1',
	'TRUNCATE seq_log']) c;
SET session_replication_role = replica;
SELECT t.failure(c) FROM unnest(ARRAY[
	'UPDATE seq_log SET kind = kind', 'DELETE FROM seq_log', 'TRUNCATE seq_log']) c;
INSERT INTO seq_log (entry, kind) VALUES ('', 'epoch_batch') RETURNING log_index, kind;
RESET session_replication_role;

SET client_min_messages = warning;
-- Its triggers cannot be disabled, weakened, renamed, replaced or dropped.
SELECT c, t.failure(c) FROM unnest(ARRAY[
	'ALTER TABLE seq_log DISABLE TRIGGER ALL',
	'ALTER TABLE seq_log DISABLE TRIGGER USER',
	'ALTER TABLE seq_log DISABLE TRIGGER seq_log_assign',
	'ALTER TABLE seq_log DISABLE TRIGGER seq_log_no_change',
	'ALTER TABLE seq_log DISABLE TRIGGER seq_log_no_truncate',
	'ALTER TABLE seq_log ENABLE TRIGGER seq_log_assign',
	'ALTER TABLE seq_log ENABLE TRIGGER ALL',
	'ALTER TABLE seq_log ENABLE REPLICA TRIGGER seq_log_assign',
	'ALTER TABLE seq_log ENABLE ALWAYS TRIGGER seq_log_assign',
	'ALTER TRIGGER seq_log_assign ON seq_log RENAME TO other',
	'DROP TRIGGER seq_log_assign ON seq_log',
	'DROP TRIGGER seq_log_no_change ON seq_log',
	'DROP TRIGGER seq_log_no_truncate ON seq_log',
	'DROP TRIGGER seq_log_correct ON seq_log',
	'DROP TRIGGER seq_log_no_row_change ON seq_log',
	'CREATE OR REPLACE TRIGGER seq_log_no_change BEFORE UPDATE ON seq_log FOR EACH ROW EXECUTE FUNCTION seq_log_refuse_change()',
	'ALTER FUNCTION seq_log_refuse_change() RENAME TO other',
	'DROP FUNCTION seq_log_refuse_change() CASCADE',
	'ALTER EXTENSION calvin_seq DROP FUNCTION seq_log_refuse_change(); DROP FUNCTION seq_log_refuse_change() CASCADE']) c;
RESET client_min_messages;
-- Nor can its columns and indexes, and it takes part in no inheritance.
CREATE TABLE log_other (LIKE seq_log);
CREATE TABLE log_partitioned (LIKE seq_log) PARTITION BY RANGE (log_index);
SELECT c, split_part(t.failure(c), ':', 1) AS failure FROM unnest(ARRAY[
	'ALTER TABLE seq_log RENAME COLUMN entry TO other',
	'ALTER TABLE seq_log DROP COLUMN kind',
	'DROP INDEX seq_log_epoch_idx',
	'ALTER TABLE seq_log INHERIT log_other',
	'CREATE TABLE log_child () INHERITS (seq_log)',
	'ALTER TABLE log_partitioned ATTACH PARTITION seq_log FOR VALUES FROM (0) TO (1000)',
	'DROP TABLE seq_log']) c;
DROP TABLE log_other, log_partitioned;
SET session_replication_role = replica;
SELECT t.failure('ALTER TABLE seq_log DISABLE TRIGGER seq_log_assign');
RESET session_replication_role;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'seq_log'::regclass ORDER BY 1;
-- Other tables are not concerned, nor are other changes of this one.
CREATE TABLE log_other (i int);
CREATE TRIGGER t BEFORE INSERT ON log_other FOR EACH ROW EXECUTE FUNCTION t.keep_acks_out();
ALTER TABLE log_other DISABLE TRIGGER ALL;
ALTER TABLE log_other ENABLE REPLICA TRIGGER t;
DROP TRIGGER t ON log_other;
ALTER TABLE log_other ADD COLUMN j int;
DROP TABLE log_other;
ALTER TABLE seq_log SET (fillfactor = 90);
ALTER TABLE seq_log ADD COLUMN note text;
INSERT INTO seq_log (entry, note) VALUES ('', 'seen') RETURNING log_index, kind, note;
SELECT seq_append('');
ALTER TABLE seq_log DROP COLUMN note;

-- A trigger function of the extension serves seq_log only.
CREATE TABLE log_other (LIKE seq_log);
CREATE TRIGGER t BEFORE INSERT ON log_other FOR EACH ROW EXECUTE FUNCTION seq_log_before_insert();
INSERT INTO log_other VALUES (1, '');
DROP TABLE log_other;

-- A transaction that appended cannot be prepared; one that took it back can.
SET lock_timeout = '10s';
BEGIN;
INSERT INTO seq_log (entry) VALUES ('');
PREPARE TRANSACTION 'calvin_seq_log_1';
BEGIN;
SAVEPOINT s;
INSERT INTO seq_log (entry) VALUES ('');
RELEASE s;
SAVEPOINT t;
ROLLBACK TO t;
PREPARE TRANSACTION 'calvin_seq_log_2';
BEGIN;
CREATE TABLE log_other (i int);
SAVEPOINT s;
INSERT INTO seq_log (entry) VALUES ('');
ROLLBACK TO s;
PREPARE TRANSACTION 'calvin_seq_log';
-- The prepared transaction holds no place: appending goes on.
INSERT INTO seq_log (entry) VALUES ('') RETURNING log_index;
ROLLBACK PREPARED 'calvin_seq_log';
-- (what should not have been prepared would stand in the way of all that follows)
SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts WHERE database = current_database() \gexec

-- Entries are stored uncompressed, out of line when they are large.
INSERT INTO seq_log (entry) VALUES (decode(repeat('c1', 100000), 'hex'));
SELECT kind, octet_length(entry), pg_column_size(entry) FROM seq_log ORDER BY log_index DESC LIMIT 1;

-- An entry has at most 256 MB.
SELECT t.failure('INSERT INTO seq_log (entry) VALUES (convert_to(repeat(''x'', 268435457), ''UTF8''))');
SELECT log_index, kind FROM seq_log ORDER BY log_index DESC LIMIT 1;
