--
-- All vshards in one session, with the smallest queues: 200 epochs of 50
-- transactions, which are too many for most of them.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\i :src/test/regress/stream.sql

-- Streams begin anywhere but at the log's first epoch.
CALL t.append(10, '{"a,b"}');

SELECT seq_current_committed_epoch() + 1 AS first \gset
SELECT seq_subscribe(array_agg(v), 'all', queue_size => 8192) FROM generate_series(0, 1023) v;
CREATE PROCEDURE t.append_and_receive() LANGUAGE plpgsql AS $$
DECLARE
	first bigint := seq_current_committed_epoch() + 1;
	c text[] := (SELECT array_agg(c ORDER BY v) FROM place);
BEGIN
	FOR i IN 0..9 LOOP
		INSERT INTO seq_log (entry) SELECT seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object(
				'epoch', first + i * 20 + e, 'epoch_system_ms', e, 'txns',
				(SELECT jsonb_agg(jsonb_build_object('tx_class', jsonb_build_object('plans', '\x' || repeat(lpad(to_hex(p), 2, '0'), 600), 'tenant_id', t,
						'write_set', (SELECT jsonb_agg(jsonb_build_object('Document', jsonb_build_object('collection', c[v % 1024 + 1], 'surrogates', '[]'::jsonb)))
							FROM unnest(ARRAY[t, t * 3 + 1]) v))) ORDER BY p)
					FROM generate_series(0, 49) p, LATERAL (SELECT (i * 20 + e) * 50 + p AS t) o))))
			FROM generate_series(0, 19) e;
		COMMIT;
		PERFORM seq_wait_for_epoch(first + i * 20 + 19, '1 min');
		-- a little of it now and then
		CONTINUE WHEN i % 3 <> 1;
		INSERT INTO got (name, txn) SELECT 'all', t FROM seq_receive(500, '0', 'all') t;
		COMMIT;
	END LOOP;
END $$;
CALL t.append_and_receive();
SELECT count(*), bool_and(sent + dropped BETWEEN 18 AND 20) AS meant, count(*) FILTER (WHERE dropped > 0) > 500 AS holed FROM seq_subscriptions;
INSERT INTO got (name, txn) SELECT 'all', t FROM seq_receive(1000000, '0', 'all') t;
SELECT count(*) FROM seq_receive(name => 'all');
SELECT count(*), count(DISTINCT (txn).vshard) AS vshards, count(DISTINCT ((txn).epoch, (txn)."position")) AS txns FROM got;
-- in the order of each vshard, nothing twice,
SELECT count(*) FROM (SELECT ((txn).epoch, (txn)."position") <= lag(((txn).epoch, (txn)."position")) OVER (PARTITION BY (txn).vshard ORDER BY n) AS disordered FROM got) o WHERE disordered;
-- each where it belongs, and on each of its vshards,
SELECT count(*) FROM got WHERE (txn).vshard <> ALL ((txn).participating_vshards);
SELECT count(*) FROM (SELECT FROM got GROUP BY (txn).epoch, (txn)."position" HAVING array_agg((txn).vshard ORDER BY (txn).vshard) <> min((txn).participating_vshards)) o;
-- and as replayed.
SELECT count(*) FILTER (WHERE same) AS same, count(*) FROM (
	SELECT txns = ARRAY(SELECT r FROM seq_replay(v, :first, 1000000) r) AS same
		FROM (SELECT (txn).vshard AS v, array_agg(txn ORDER BY n) AS txns FROM got WHERE (txn).vshard % 16 = 0 GROUP BY 1) g) o;
SELECT count(*) FILTER (WHERE replayed >= dropped) AS plausible, count(*) FILTER (WHERE lag = 0) AS no_lag, sum(sent + dropped) AS meant FROM seq_subscriptions;
