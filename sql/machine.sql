--
-- The state machine: what each kind of entry and each order of epochs does to
-- state, counters, stream and replay.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
-- A new, empty log, whose vshards 97, 98 and 5 this session is subscribed to.
CREATE PROCEDURE t.fresh() LANGUAGE plpgsql AS $$
BEGIN
	PERFORM seq_unsubscribe();
	DROP EXTENSION calvin_seq;
	CREATE EXTENSION calvin_seq;
	COMMIT;
	CALL t.wait_applied();
	PERFORM seq_subscribe('{97,98,5}', lossless => false);
END $$;
-- A batch: for each text a transaction that writes the collections named in
-- it, with the tag and the position as its plans.
CREATE FUNCTION t.tagged_batch(epoch bigint, tag text DEFAULT '', txns text[] DEFAULT '{a}')
RETURNS bytea LANGUAGE sql AS $$
	SELECT seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object(
		'epoch', epoch, 'epoch_system_ms', 1000 + epoch % 1000, 'txns',
		(SELECT coalesce(jsonb_agg(jsonb_build_object('tx_class', jsonb_build_object(
			'plans', convert_to(tag || i, 'UTF8')::text, 'tenant_id', 1, 'write_set',
			(SELECT coalesce(jsonb_agg(jsonb_build_object('Document', jsonb_build_object('collection', c, 'surrogates', '[]'::jsonb))), '[]')
				FROM unnest(string_to_array(t, ',')) c))) ORDER BY i), '[]')
			FROM unnest(txns) WITH ORDINALITY AS u (t, i)))))
$$;
-- The state and the counters that are not 0.
CREATE FUNCTION t.state() RETURNS text LANGUAGE sql AS $$
	SELECT format('epoch %s, index %s:', coalesce(last_applied_epoch::text, 'none'), last_applied_index) ||
		(SELECT coalesce(string_agg(format(' %s %s', key, value), ',' ORDER BY key), '')
			FROM jsonb_each_text(to_jsonb(m) - 'bytes_applied')
			WHERE value <> '0' AND key NOT LIKE 'latency%')
		FROM seq_state, seq_metrics m
$$;
-- What this session received, and what replay says: vshard, key and plans, per
-- vshard in the order it came.
CREATE FUNCTION t.received() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s:(%s,%s)%s', vshard, epoch, "position", convert_from(plans, 'UTF8')), ' ' ORDER BY vshard, n)
		FROM seq_receive(1000) WITH ORDINALITY AS t (vshard, epoch, "position", ms, tenant, vshards, plans, tx_class, n)
$$;
CREATE FUNCTION t.replayed() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s:(%s,%s)%s', t.vshard, epoch, "position", convert_from(plans, 'UTF8')), ' ' ORDER BY t.vshard, n)
		FROM unnest('{97,98,5}'::int[]) v,
			seq_replay(v, 0, 9223372036854775807) WITH ORDINALITY AS t (vshard, epoch, "position", ms, tenant, vshards, plans, tx_class, n)
$$;

--
-- Orders of epochs
--

-- Epochs 0, 1, 2.
CALL t.fresh();
SELECT t.state(), seq_last_applied_epoch(), seq_next_epoch();
INSERT INTO seq_log (entry) VALUES (t.tagged_batch(0)), (t.tagged_batch(1)), (t.tagged_batch(2));
CALL t.wait_applied();
SELECT t.state(), seq_last_applied_epoch(), seq_next_epoch();
SELECT t.received(), t.replayed();

-- A first batch of epoch 5 is a gap: not fanned out, but the machine moves on.
CALL t.fresh();
INSERT INTO seq_log (entry) VALUES (t.tagged_batch(5));
CALL t.wait_applied();
SELECT t.state(), t.received(), t.replayed();
INSERT INTO seq_log (entry) VALUES (t.tagged_batch(6));
CALL t.wait_applied();
SELECT t.state(), t.received(), t.replayed();

-- 0, 2, 3: 2 is a gap, 3 is applied.
CALL t.fresh();
INSERT INTO seq_log (entry) VALUES (t.tagged_batch(0)), (t.tagged_batch(2)), (t.tagged_batch(3));
CALL t.wait_applied();
SELECT t.state(), t.received(), t.replayed();

-- 0, 1, 1, 2: the second 1 is stale, the first one counts.
CALL t.fresh();
INSERT INTO seq_log (entry) VALUES (t.tagged_batch(0)), (t.tagged_batch(1, 'first')), (t.tagged_batch(1, 'second')), (t.tagged_batch(2));
CALL t.wait_applied();
SELECT t.state(), t.received(), t.replayed();

-- 0, 1, 2, 0, 1, 2: nothing goes back, nothing comes twice.
CALL t.fresh();
INSERT INTO seq_log (entry) SELECT t.tagged_batch(e, tag) FROM unnest('{first,second}'::text[]) tag, generate_series(0, 2) e;
CALL t.wait_applied();
SELECT t.state(), t.received(), t.replayed();

-- 0, 5, 3, 6: 5 is a gap, 3 is stale, 6 is applied.
CALL t.fresh();
INSERT INTO seq_log (entry) VALUES (t.tagged_batch(0)), (t.tagged_batch(5)), (t.tagged_batch(3)), (t.tagged_batch(6));
CALL t.wait_applied();
SELECT t.state(), t.received(), t.replayed();
-- One entry at a time comes to the same.
CALL t.fresh();
INSERT INTO seq_log (entry) VALUES (t.tagged_batch(0));
CALL t.wait_applied();
INSERT INTO seq_log (entry) VALUES (t.tagged_batch(5));
CALL t.wait_applied();
SELECT t.state();
INSERT INTO seq_log (entry) VALUES (t.tagged_batch(3));
CALL t.wait_applied();
SELECT t.state();
INSERT INTO seq_log (entry) VALUES (t.tagged_batch(6));
CALL t.wait_applied();
SELECT t.state(), t.received(), t.replayed();

-- Epoch 2^64-1 and what else no bigint holds is undecodable; 2^63-2 is an
-- epoch like any other, and the last one.
CALL t.fresh();
INSERT INTO seq_log (entry) VALUES (t.tagged_batch(0)),
	('\x92aa45706f636842617463689193cfffffffffffffffff90ff'),
	('\x92aa45706f636842617463689193cf7fffffffffffffff90ff');
CALL t.wait_applied();
SELECT t.state();
INSERT INTO seq_log (entry) VALUES (t.tagged_batch(1)), (t.tagged_batch(9223372036854775806)), (t.tagged_batch(2));
CALL t.wait_applied();
SELECT t.state(), seq_next_epoch(), seq_current_committed_epoch();
SELECT t.received(), t.replayed();

--
-- Kinds of entries
--

-- No-ops, undecodable entries and acks change nothing but their counters: the
-- epoch before and after them is the same.
CALL t.fresh();
INSERT INTO seq_log (entry) VALUES (''), ('\xc1'), ('\x92ad436f6d706c6574696f6e41636b93070301');
CALL t.wait_applied();
SELECT t.state(), seq_last_applied_epoch(), seq_next_epoch();
INSERT INTO seq_log (entry) VALUES (t.tagged_batch(0)), (''), (substr(t.tagged_batch(1), 1, 40)), ('\x92ad436f6d706c6574696f6e41636b93070301'),
	(t.tagged_batch(1)), ('');
CALL t.wait_applied();
SELECT t.state(), t.received(), t.replayed();
-- Acks of unknown transactions, and repeated ones, are counted like others.
INSERT INTO seq_log (entry) SELECT '\x92ad436f6d706c6574696f6e41636b93cf7ffffffffffffffeceffffffffceffffffff' FROM generate_series(1, 3);
CALL t.wait_applied();
SELECT t.state();
-- Bytes behind an entry are ignored.
INSERT INTO seq_log (entry) VALUES (t.tagged_batch(2) || '\xc1'), ('\x92ad436f6d706c6574696f6e41636b93070301' || '\x00'::bytea);
CALL t.wait_applied();
SELECT t.state(), t.received();
-- All bytes count, those of undecodable entries too.
SELECT bytes_applied = (SELECT sum(octet_length(entry)) FROM seq_log) AS all_bytes FROM seq_metrics;

--
-- Fan-out
--

-- A transaction goes to every vshard that it writes to, once, in key order;
-- one without participants to none; a vshard that nobody is subscribed to
-- (99 here) is passed over and is no drop; a batch may be empty.
CALL t.fresh();
INSERT INTO seq_log (entry) VALUES
	(t.tagged_batch(0, 't', '{a,b,"a,b,c",c,"","a,a"}')), (t.tagged_batch(1, 't', '{}')), (t.tagged_batch(2, 't', '{"b,a"}'));
CALL t.wait_applied();
SELECT t.state();
SELECT t.received();
SELECT t.replayed();
SELECT epoch, "position", participating_vshards FROM seq_replay(99, 0, 9);
-- The vshards of dependent reads take part, those of the read set do not.
INSERT INTO seq_log (entry) VALUES (seq_encode('{"EpochBatch": {"epoch": 3, "epoch_system_ms": 7, "txns": [
	{"tx_class": {"plans": "\\x64", "tenant_id": 2, "read_set": [{"Document": {"collection": "b", "surrogates": [1]}}],
	"write_set": [{"Document": {"collection": "a", "surrogates": [1]}}],
	"dependent_reads": {"5": [{"Document": {"collection": "z", "surrogates": [1]}}], "1023": []}}}]}}'));
CALL t.wait_applied();
SELECT vshard, epoch, "position", epoch_system_ms, tenant_id, participating_vshards, convert_from(plans, 'UTF8') AS plans
	FROM seq_receive() ORDER BY vshard;
SELECT vshard, epoch, "position", epoch_system_ms, tenant_id, participating_vshards, convert_from(plans, 'UTF8') AS plans
	FROM unnest('{5,97,98,122,1023}'::int[]) v, seq_replay(v, 3, 3);
SELECT t.state();
-- A dependent-read vshard above 1023 makes the entry undecodable.
INSERT INTO seq_log (entry) VALUES ('\x92aa45706f6368426174636891930491940400959090c400009181cd0400900000');
CALL t.wait_applied();
SELECT t.state();

-- The identity of a transaction is its batch's epoch and its index, and its
-- time the batch's, whatever it says itself: (9,7)@3 and (8,6)@2 here.
CALL t.fresh();
INSERT INTO seq_log (entry) VALUES ('\x92aa45706f636842617463689193009294090795909192a8446f63756d656e7492a16190c4017800c00394080695909192a8446f63756d656e7492a16190c4017900c0022a');
CALL t.wait_applied();
SELECT t.state(), seq_decode(entry) FROM seq_log;
SELECT epoch, "position", epoch_system_ms, plans FROM seq_receive();
SELECT epoch, "position", epoch_system_ms, plans FROM seq_replay(97, 0, 9);

--
-- Full queues
--

-- A queue that is full in the middle loses what does not fit, and takes what
-- comes later and does. Of two participants one gets the transaction, the
-- other does not. Nothing of this is to be seen in the log.
CALL t.fresh();
SELECT seq_unsubscribe();
SELECT seq_subscribe('{97}', queue_size => 8192, lossless => false);
SELECT seq_subscribe('{98}', lossless => false);
INSERT INTO seq_log (entry) VALUES
	(t.tagged_batch(0, repeat('x', 3000), '{"a,b"}')), (t.tagged_batch(1, repeat('x', 3000), '{"a,b"}')),
	(t.tagged_batch(2, repeat('x', 3000), '{"a,b"}')), (t.tagged_batch(3, '', '{"a,b"}'));
CALL t.wait_applied();
SELECT t.state();
SELECT vshard, array_agg(epoch ORDER BY n)
	FROM seq_receive(1000) WITH ORDINALITY AS t (vshard, epoch, "position", ms, tenant, vshards, plans, tx_class, n) GROUP BY 1 ORDER BY 1;
SELECT vshard, array_agg(epoch) FROM unnest('{97,98}'::int[]) v, seq_replay(v, 0, 9) GROUP BY 1 ORDER BY 1;
