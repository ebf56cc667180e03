--
-- Lossless streams: queues that lack something are completed from the log.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\i :src/test/regress/stream.sql

--
-- The default is lossless
--

INSERT INTO seq_log (entry) VALUES (t.batch(0)), (t.batch(1));
SELECT seq_subscribe('{97,98}');
SELECT vshard, name, lossless, sent, dropped, replayed, last_epoch, last_position, lag FROM seq_subscriptions ORDER BY 1;
-- The first transaction is that of the first batch appended after the call.
SELECT t.take();
CALL t.append(2, '{a,"a,b",b,c}');
SELECT t.take(), t.take();
SELECT t.verify('default', '{97,98}', 2);
-- It came by the queue: the log was not read.
SELECT vshard, state, queue_used, sent, dropped, replayed, last_epoch, last_position, lag FROM seq_subscriptions ORDER BY 1;
CALL t.append(1, '{a,"a,b"}');
CALL t.take_counted(NULL, NULL, NULL);
CALL t.take_counted(NULL, NULL, NULL);
DELETE FROM got;
SELECT seq_unsubscribe();

--
-- Full queues
--

-- At the end of the log: what did not fit comes in the same call, from the log.
SELECT seq_subscribe('{97}', queue_size => 8192);
SELECT seq_current_committed_epoch() + 1 AS first \gset
CALL t.append(1, array_fill('a'::text, '{200}'), 100);
SELECT state, queue_used <= queue_size AS fits, sent + dropped AS meant, dropped > 0 AS dropped, replayed, last_epoch, lag FROM seq_subscriptions;
SELECT t.take(), t.take();
SELECT t.verify('default', '{97}', :first);
SELECT replayed >= dropped AS healed, replayed <= 200 AS once, last_epoch - :first AS last_epoch, last_position, lag FROM seq_subscriptions;
-- Then the queue is rejoined: what comes now fits, and the log is let alone.
SELECT sent, dropped, replayed FROM seq_subscriptions \gset before_
CALL t.append(3, '{a,a}');
CALL t.take_counted(NULL, NULL, NULL);
SELECT state, sent - :before_sent AS sent, dropped - :before_dropped AS dropped, replayed - :before_replayed AS replayed, queue_used, lag FROM seq_subscriptions;
SELECT t.verify('default', '{97}', :first + 1);
-- In the middle: the queue holds what was before the hole and what came after.
CALL t.append(1, array_fill('a'::text, '{200}'), 100);
SELECT t.take(max_txns => 25);
SELECT sent, dropped FROM seq_subscriptions \gset before_
CALL t.append(2, '{a}');
SELECT sent - :before_sent AS sent, dropped - :before_dropped AS dropped FROM seq_subscriptions;
SELECT t.take(max_txns => 100), t.take(), t.take();
SELECT t.verify('default', '{97}', :first + 4);
-- Several holes, in every call another part of one.
SELECT seq_current_committed_epoch() + 1 AS first \gset
DO $$
BEGIN
	FOR i IN 1..40 LOOP
		CALL t.append(1, array_fill('a'::text, ARRAY[i * 7 % 60]), 100);
		PERFORM t.take(max_txns => i * 11 % 30);
	END LOOP;
END $$;
SELECT t.take() > 0 AS rest;
SELECT t.verify('default', '{97}', :first);
SELECT dropped > 0 AS dropped, replayed > 0 AS replayed FROM seq_subscriptions;
-- Nothing stays of it: again by the queue.
CALL t.append(1);
SELECT replayed FROM seq_subscriptions \gset before_
SELECT t.take();
SELECT state, replayed - :before_replayed AS replayed, lag FROM seq_subscriptions;
DELETE FROM got;

-- A transaction larger than the ring never fits; those around it do.
SELECT seq_current_committed_epoch() + 1 AS first \gset
SELECT dropped AS before_dropped FROM seq_subscriptions \gset
INSERT INTO seq_log (entry) SELECT t.batch(:first + i, '{a,a}', CASE WHEN i IN (1, 3, 4) THEN 9000 ELSE 1 END) FROM generate_series(0, 5) i;
CALL t.wait_applied();
SELECT dropped - :before_dropped AS dropped FROM seq_subscriptions;
SELECT t.take(max_txns => 3), t.take(max_txns => 1), t.take(), t.take();
SELECT t.verify('default', '{97}', :first);
-- As the last one, and far larger than any queue.
SELECT seq_current_committed_epoch() + 1 AS first \gset
CALL t.append(1, '{a,b,a}', 3000000);
SELECT t.take(), t.take();
SELECT t.verify('default', '{97}', :first);

-- An overflow costs one pass over what is missing, for all vshards together.
SELECT seq_unsubscribe();
SELECT count(*) FROM place;
SELECT seq_subscribe(array_agg(v), queue_size => 8192) FROM place WHERE v < 200;
SELECT array_agg(c ORDER BY v) AS names FROM place WHERE v < 200 \gset
SELECT seq_current_committed_epoch() + 1 AS first \gset
CALL t.append(30, :'names', 700);
SELECT count(*), count(*) FILTER (WHERE dropped > 0) AS holed, bool_and(sent + dropped = 30) AS all, bool_and(lag = 30) AS lag FROM seq_subscriptions;
CALL t.take_counted(NULL, NULL, NULL) \gset
SELECT :txns AS txns, :scans BETWEEN 1 AND 35 AS few_scans, :entries BETWEEN 30 AND 40 AS one_pass;
SELECT t.verify('default', (SELECT array_agg(v) FROM place WHERE v < 200), :first);
SELECT bool_and(replayed >= dropped AND replayed <= 30) AS plausible, bool_and(lag = 0) AS no_lag FROM seq_subscriptions;
-- Small entries: a block of them at a time.
SELECT seq_current_committed_epoch() + 1 AS first \gset
CALL t.append(1, :'names', 10000);
CALL t.append(1000, '{c1,c2}');
CALL t.take_counted(NULL, NULL, NULL) \gset
SELECT :txns AS txns, :scans BETWEEN 4 AND 10 AS few_scans, :entries BETWEEN 1001 AND 1020 AS one_pass;
SELECT t.verify('default', (SELECT array_agg(v) FROM place WHERE v < 200), :first);
-- In pieces it costs no more.
SELECT seq_subscribe(array_agg(v), from_epoch => :first, queue_size => 8192) FROM place WHERE v < 200;
DO $$
DECLARE
	txns int;
	scans bigint;
	entries bigint;
	all_scans bigint := 0;
	all_entries bigint := 0;
BEGIN
	FOR i IN 1..230 LOOP
		CALL t.take_counted(txns, scans, entries, max_txns => 10);
		IF txns <> (CASE WHEN i <= 220 THEN 10 ELSE 0 END) THEN
			RAISE '% came in call %', txns, i;
		END IF;
		all_scans := all_scans + scans;
		all_entries := all_entries + entries;
		COMMIT;
	END LOOP;
	RAISE NOTICE 'few scans: %, one pass: %', all_scans BETWEEN 4 AND 10, all_entries BETWEEN 1001 AND 1020;
END $$;
SELECT t.verify('default', (SELECT array_agg(v) FROM place WHERE v < 200), :first);
SELECT seq_unsubscribe();

--
-- One at a time, through holes of several entries and vshards
--

SELECT seq_subscribe('{97,98,99}', queue_size => 8192);
SELECT seq_current_committed_epoch() + 1 AS first \gset
CALL t.append(4, array_fill('a'::text, '{30}') || '{b,"b,c","a,b,c"}'::text[], 200);
SELECT vshard, dropped > 0 AS holed FROM seq_subscriptions ORDER BY 1;
DO $$
BEGIN
	FOR i IN 1..146 LOOP
		IF t.take(max_txns => 1) <> 1 THEN
			RAISE 'nothing came at %', i;
		END IF;
		COMMIT;
		-- more of it meanwhile
		IF i IN (20, 90) THEN
			CALL t.append(1, '{"a,b","b,c"}', 1000);
		END IF;
	END LOOP;
END $$;
SELECT t.take();
SELECT t.verify('default', '{97,98,99}', :first);
SELECT seq_unsubscribe();

--
-- Gaps
--

SELECT seq_subscribe('{97,98}', queue_size => 8192);
SELECT seq_current_committed_epoch() + 1 AS first \gset
-- A batch jumped to is not on the queue; as the last one,
CALL t.append(1, '{a,"a,b"}', first => :first + 9);
SELECT vshard, state, sent, dropped, lag > 0 AS lag FROM seq_subscriptions ORDER BY 1;
SELECT t.take(), t.take();
SELECT vshard, sent, dropped, replayed, last_epoch - :first AS last_epoch, lag FROM seq_subscriptions ORDER BY 1;
-- between others,
CALL t.append(2);
CALL t.append(1, '{b,a}', first => :first + 20);
CALL t.append(2, '{"a,b"}');
SELECT t.take(), t.take();
-- twice in a row, with stale ones and other entries among them,
INSERT INTO seq_log (entry) VALUES (t.batch(:first + 30)), (''), (t.batch(:first + 25, '{"a,b"}')), ('\xc1'), (t.batch(:first + 40, '{"a,b"}')),
	('\x92ad436f6d706c6574696f6e41636b93070301'), (t.batch(:first + 40, '{"a,b"}')), (t.batch(:first + 41, '{b}'));
CALL t.wait_applied();
SELECT t.take(max_txns => 1), t.take(), t.take();
-- for others only,
CALL t.append(1, '{c}', first => :first + 50);
SELECT t.take();
CALL t.append(1, '{c}');
CALL t.append(1);
SELECT t.take();
-- and beside a full queue and a transaction that is too large for it.
CALL t.append(1, array_fill('a'::text, '{100}') || '{b}'::text[], 100);
CALL t.append(1, '{a,"a,b"}', 9000, first => :first + 60);
CALL t.append(1, '{"a,b"}');
CALL t.append(1, '{b}', 9000);
SELECT t.take(max_txns => 50), t.take(), t.take();
SELECT t.verify('default', '{97,98}', :first);
SELECT vshard, lag FROM seq_subscriptions ORDER BY 1;
CALL t.append(1, '{"a,b"}');
SELECT vshard, state, lag FROM seq_subscriptions ORDER BY 1;
SELECT seq_unsubscribe();
DELETE FROM got;
