--
-- Entries stored out of line: read back as they were written, wherever their
-- chunks lie
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql

-- So many bytes that differ from epoch to epoch and from place to place.
CREATE FUNCTION t.plans(epoch bigint, size int) RETURNS bytea LANGUAGE sql AS $$
	SELECT substr(string_agg(decode(md5(epoch || '/' || i), 'hex'), '' ORDER BY i), 1, size)
	FROM generate_series(0, size / 16) i
$$;
-- An entry of so many bytes, as the next epoch.
CREATE FUNCTION t.append_bytes(size int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	epoch bigint;
	head jsonb;
	overhead int;
BEGIN
	epoch := (SELECT coalesce(max(l.epoch), -1) + 1 FROM seq_log l);
	head := jsonb_build_object('EpochBatch', jsonb_build_object('epoch', epoch, 'epoch_system_ms', 1, 'txns',
		jsonb_build_array(jsonb_build_object('tx_class', jsonb_build_object('tenant_id', 1, 'write_set',
			'[{"Document": {"collection": "a", "surrogates": [1]}}]'::jsonb)))));
	overhead := length(seq_encode(jsonb_set(head, '{EpochBatch,txns,0,tx_class,plans}', to_jsonb(t.plans(0, 1000)::text)))) - 1000;
	RETURN seq_append_json(jsonb_set(head, '{EpochBatch,txns,0,tx_class,plans}',
		to_jsonb(t.plans(epoch, size - overhead)::text)));
END $$;
-- What is read of each epoch, live entries and replay, against what was made.
CREATE FUNCTION t.check(OUT epochs bigint, OUT bytes bigint, OUT wrong bigint) LANGUAGE sql AS $$
	SELECT count(*), sum(length(r.plans)), count(*) FILTER (WHERE r.plans <> t.plans(r.epoch, length(r.plans))
		OR l.entry <> seq_encode(seq_decode(l.entry)) OR position(r.tx_class IN l.entry) = 0)
	FROM (SELECT min(l.epoch) AS lo, max(l.epoch) AS hi FROM seq_log l) e,
		seq_replay(97, e.lo, e.hi) r JOIN seq_log l USING (epoch)
$$;
-- Values whose chunks are not one behind the other.
CREATE FUNCTION t.scattered() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	result bigint;
BEGIN
	EXECUTE format($q$
		SELECT count(DISTINCT chunk_id) FROM (
			SELECT chunk_id, (ctid::text::point)[0] AS block,
				lag((ctid::text::point)[0]) OVER (PARTITION BY chunk_id ORDER BY chunk_seq) AS before
			FROM %s) c
		WHERE block NOT IN (before, before + 1)$q$,
		(SELECT reltoastrelid::regclass FROM pg_class WHERE oid = 'seq_log'::regclass)) INTO result;
	RETURN result;
END $$;

-- Whole chunks of 1996 bytes, and a byte more or less.
SELECT count(t.append_bytes(size)) FROM unnest(ARRAY[1995, 1996, 1997, 2032, 3991, 3992, 3993, 7983, 7984, 7985, 19960, 100000, 1000000]) size;
SELECT array_agg(length(entry) ORDER BY log_index) FROM seq_log;
SELECT * FROM t.check();

-- Chunks that fill the places of those that went.
SELECT count(t.append_bytes(5000 + 100 * i)) FROM generate_series(1, 60) i;
CALL t.wait_applied();
SELECT seq_truncate(43);
VACUUM seq_log;
VACUUM seq_log;
SELECT count(t.append_bytes(size)) FROM unnest(ARRAY[600000, 50000, 300000, 9000, 40000]) size;
SELECT t.scattered() > 0 AS scattered;
SELECT * FROM t.check();

-- Compressed ones, which the extension itself never stores: by pglz, or lz4 since 19, and
-- by either still too large for the row.
ALTER TABLE seq_log ALTER COLUMN entry SET STORAGE EXTENDED;
INSERT INTO seq_log (entry)
	SELECT seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object('epoch', (SELECT max(epoch) + 1 FROM seq_log), 'epoch_system_ms', 1, 'txns',
		jsonb_build_array(jsonb_build_object('tx_class', jsonb_build_object('tenant_id', 1, 'plans', '\x' || repeat('ab', 2000000), 'write_set',
			'[{"Document": {"collection": "a", "surrogates": [1]}}]'::jsonb))))));
SELECT pg_column_compression(entry) IS NOT NULL AS compressed, pg_column_size(entry) > 4000 AS out_of_line, length(entry) FROM seq_log ORDER BY log_index DESC LIMIT 1;
SELECT length(plans), plans = decode(repeat('ab', 2000000), 'hex') AS same FROM seq_replay(97, (SELECT max(epoch) FROM seq_log), 1000000);
ALTER TABLE seq_log ALTER COLUMN entry SET STORAGE EXTERNAL;

-- The applier has read the same.
CALL t.wait_applied();
SELECT epochs_applied, entries_undecodable FROM seq_metrics;

DROP EXTENSION calvin_seq;
