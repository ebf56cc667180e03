--
-- seq_replay: ranges, order, snapshots, and the form of what comes out.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
-- A batch: for each text a transaction that writes the collections named in
-- it. Vshards: 97 for "a", 98 for "b" and so on.
CREATE FUNCTION t.keyed_batch(epoch bigint, txns text[] DEFAULT '{a}')
RETURNS bytea LANGUAGE sql AS $$
	SELECT seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object(
		'epoch', epoch, 'epoch_system_ms', 1000 + epoch % 1000, 'txns',
		(SELECT coalesce(jsonb_agg(jsonb_build_object('tx_class', jsonb_build_object(
			'plans', convert_to(epoch || '.' || i, 'UTF8')::text, 'tenant_id', 1, 'write_set',
			(SELECT coalesce(jsonb_agg(jsonb_build_object('Document', jsonb_build_object('collection', c, 'surrogates', '[]'::jsonb))), '[]')
				FROM unnest(string_to_array(t, ',')) c))) ORDER BY i), '[]')
			FROM unnest(txns) WITH ORDINALITY AS u (t, i)))))
$$;
-- Keys in the order they come.
CREATE FUNCTION t.keys(vshard int, from_epoch bigint, to_epoch bigint) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s.%s', epoch, "position"), ' ' ORDER BY n)
		FROM seq_replay($1, $2, $3) WITH ORDINALITY
			AS t (vshard, epoch, "position", ms, tenant, vshards, plans, tx_class, n)
$$;
-- Not one of these waits for the applier: the log alone is read.

-- An empty log.
SELECT t.keys(97, 0, 9223372036854775807);

INSERT INTO seq_log (entry) SELECT t.keyed_batch(e, '{a,b,"a,b",c,"a"}') FROM generate_series(0, 3) e;
-- Ranges include both ends.
SELECT t.keys(97, 0, 3);
SELECT t.keys(98, 0, 3);
SELECT t.keys(97, 1, 2);
SELECT t.keys(97, 3, 3);
SELECT t.keys(97, 3, 9223372036854775807);
SELECT t.keys(97, 4, 9223372036854775807) AS beyond, t.keys(100, 0, 3) AS untouched,
	t.keys(97, 2, 1) AS turned, t.keys(97, 9223372036854775807, 9223372036854775807) AS last,
	t.keys(0, 0, 3) AS vshard_0, t.keys(1023, 0, 3) AS vshard_1023;
SELECT vshard, epoch, "position", epoch_system_ms, tenant_id, participating_vshards, convert_from(plans, 'UTF8') AS plans, tx_class
	FROM seq_replay(98, 2, 2);
-- Arguments.
SELECT c, t.failure('SELECT count(*) FROM seq_replay(' || c || ')') FROM unnest(ARRAY[
	'-1, 0, 1', '1024, 0, 1', '2147483647, 0, 1', '97, -1, 1', '97, 0, -1', '97, -2, -1', '1024, 1, 0', '97, 1, -9223372036854775808']) c;
SELECT count(*) FROM seq_replay(NULL, 0, 1);
SELECT count(*) FROM seq_replay(97, NULL, 1);
SELECT count(*) FROM seq_replay(97, 0, NULL);

-- What is part of no stream does not come: stale batches, no-ops, acks,
-- undecodable entries. Skipped batches do come.
INSERT INTO seq_log (entry) VALUES (''), (t.keyed_batch(2)), ('\xc1'), (t.keyed_batch(8)), (t.keyed_batch(5)),
	('\x92ad436f6d706c6574696f6e41636b93090301'), (t.keyed_batch(9)), (t.keyed_batch(9, '{a,a,a}')), (t.keyed_batch(10, '{}'));
SELECT t.keys(97, 2, 20);
SELECT t.keys(97, 4, 8), t.keys(97, 5, 7);

-- Entries put in out of order come out in order.
BEGIN;
INSERT INTO seq_log (log_index, entry) VALUES (30, t.keyed_batch(12)), (25, t.keyed_batch(11)), (27, t.keyed_batch(12, '{a,a}'));
SELECT t.keys(97, 10, 20);
ROLLBACK;

-- It sees what its transaction's snapshot sees, own rows included.
BEGIN;
INSERT INTO seq_log (entry) VALUES (t.keyed_batch(11));
SELECT t.keys(97, 10, 20);
SAVEPOINT s;
INSERT INTO seq_log (entry) VALUES (t.keyed_batch(12));
SELECT t.keys(97, 10, 20);
ROLLBACK TO s;
SELECT t.keys(97, 10, 20);
ROLLBACK;
SELECT t.keys(97, 10, 20);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT t.keys(97, 10, 20);
INSERT INTO seq_log (entry) VALUES (t.keyed_batch(11));
SELECT t.keys(97, 10, 20);
ROLLBACK;
-- A cursor sees what it saw when it was opened, wherever it stands.
INSERT INTO seq_log (entry) SELECT t.keyed_batch(e) FROM generate_series(11, 600) e;
BEGIN;
DECLARE c CURSOR FOR SELECT epoch, "position" FROM seq_replay(97, 11, 700);
DECLARE s CURSOR FOR SELECT (seq_replay(97, 11, 700)).epoch;
FETCH 2 FROM c;
FETCH 2 FROM s;
INSERT INTO seq_log (entry) SELECT t.keyed_batch(e) FROM generate_series(601, 610) e;
SELECT count(*), max(epoch) FROM seq_replay(97, 11, 700);
MOVE 586 FROM c;
FETCH ALL FROM c;
MOVE 586 FROM s;
FETCH ALL FROM s;
CLOSE c;
CLOSE s;
-- Savepoints rolled back under an open cursor.
DECLARE c CURSOR FOR SELECT (seq_replay(97, 11, 700)).epoch;
FETCH 1 FROM c;
SAVEPOINT s;
FETCH 300 FROM c \g /dev/null
INSERT INTO seq_log (entry) VALUES (t.keyed_batch(611));
ROLLBACK TO s;
FETCH 1 FROM c;
MOVE 297 FROM c;
FETCH ALL FROM c;
ROLLBACK;
-- In the select list it can be left half-way, and used many times at once.
SELECT (r).epoch FROM (SELECT seq_replay(97, 100, 700) AS r LIMIT 2) t;
SELECT epoch FROM seq_replay(97, 100, 700) LIMIT 2;
SELECT v, (seq_replay(v, 0, 0)).position FROM generate_series(97, 99) v;
SELECT (seq_replay(97, 0, 0)).position AS a, (seq_replay(98, 0, 0)).position AS b;
SELECT v, count(r.epoch) FROM generate_series(97, 100) v LEFT JOIN LATERAL seq_replay(v, 0, 3) r ON true GROUP BY 1 ORDER BY 1;
-- Many entries, one large batch among them, and all in order.
INSERT INTO seq_log (entry) VALUES (t.keyed_batch(601, array_fill('a'::text, ARRAY[5000]))), (t.keyed_batch(602));
SELECT count(*), count(DISTINCT epoch), bool_and(ordered) AS ordered
	FROM (SELECT epoch, (epoch, "position") > lag((epoch, "position")) OVER (ORDER BY n) IS NOT false AS ordered
		FROM seq_replay(97, 0, 700) WITH ORDINALITY AS t (vshard, epoch, "position", ms, tenant, vshards, plans, tx_class, n)) t;
SELECT count(*), min("position"), max("position") FROM seq_replay(97, 601, 601);
-- Entries of all sizes, stored inline and out of line.
INSERT INTO seq_log (entry) SELECT seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object('epoch', 602 + i, 'epoch_system_ms', 0,
		'txns', jsonb_build_array(jsonb_build_object('tx_class', jsonb_build_object('write_set', '[]'::jsonb, 'tenant_id', 0,
			'dependent_reads', '{"5": []}'::jsonb, 'plans', '\x' || repeat('61', size)))))))
	FROM unnest(ARRAY[0, 1, 127, 255, 256, 1900, 2100, 65535, 65536, 1000000]) WITH ORDINALITY AS t (size, i);
SELECT epoch, length(plans), md5(plans) = md5(repeat('a', length(plans))) AS same, length(tx_class) - length(plans) AS rest FROM seq_replay(5, 600, 700);

-- Entries in another form come out in the canonical one: wide headers and
-- integers, keys not sorted and repeated, bytes behind the entry.
INSERT INTO seq_log (entry) VALUES (
	'\xdd00000002db0000000a45706f63684261746368dc0001dc0003cd0265dd00000001dc0004cd0007ce00000009dc0005dd00000000dc0001dc0002d908446f63756d656e74dd00000002da000161dc0003ce0000000301cc03c600000001abcd0007c0d3000000000000000fd10010ffff'),
	(seq_encode('{"EpochBatch": {"epoch": 614, "epoch_system_ms": 16, "txns": [{"tx_class": {"plans": "\\xab", "tenant_id": 7,
		"write_set": [{"Document": {"collection": "a", "surrogates": [1, 3]}}]}}]}}'));
SELECT epoch, "position", epoch_system_ms, tenant_id, participating_vshards, plans, tx_class FROM seq_replay(97, 613, 614);
