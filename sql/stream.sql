--
-- Lossless streams: queues that lack something are completed from the log.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
-- What a consumer got, in the order it came, each with its place.
CREATE TEMP TABLE got (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, txn seq_txn);
CREATE FUNCTION t.take(name text DEFAULT 'default', max_txns int DEFAULT 100000, timeout interval DEFAULT '0')
RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	count int;
BEGIN
	INSERT INTO got (name, txn) SELECT take.name, t FROM seq_receive(max_txns, timeout, take.name) t;
	GET DIAGNOSTICS count = ROW_COUNT;
	RETURN count;
END $$;
CREATE FUNCTION t.keys(txns seq_txn[]) RETURNS text LANGUAGE sql AS $$
	SELECT left(string_agg(format('%s.%s', epoch, "position"), ' ' ORDER BY n), 200)
		FROM unnest(txns) WITH ORDINALITY AS t (vshard, epoch, "position", ms, tenant, vshards, plans, tx_class, n)
$$;
-- Is what a consumer got, vshard for vshard, what seq_replay says of the
-- range from a key on: the same rows in the same order? Forgets it then.
CREATE FUNCTION t.verify(consumer text, vshards int[], from_epoch bigint DEFAULT 0, from_position int DEFAULT 0,
	to_epoch bigint DEFAULT 9223372036854775807) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	verdict text;
BEGIN
	WITH expected AS (
		SELECT v, ARRAY(SELECT r FROM seq_replay(v, from_epoch, to_epoch) r WHERE (r.epoch, r."position") >= (from_epoch, from_position)) AS txns
			FROM unnest(vshards) v
	), received AS (
		SELECT (txn).vshard AS v, array_agg(txn ORDER BY n) AS txns FROM got WHERE name = consumer GROUP BY 1
	)
	SELECT coalesce(left(string_agg(format('%s: %s instead of %s', v, t.keys(r.txns), t.keys(e.txns)), E'\n' ORDER BY v)
				FILTER (WHERE e.txns IS DISTINCT FROM coalesce(r.txns, '{}')), 1000),
			format('complete: %s of %s', sum(cardinality(e.txns)), count(*)))
		INTO verdict FROM expected e FULL JOIN received r USING (v);
	DELETE FROM got WHERE name = consumer;
	RETURN verdict;
END $$;
-- What a call read of the log: index scans, and the entries they yielded.
CREATE PROCEDURE t.take_counted(INOUT txns int, INOUT scans bigint, INOUT entries bigint, name text DEFAULT 'default', max_txns int DEFAULT 100000) LANGUAGE plpgsql AS $$
DECLARE
	before record;
	after record;
BEGIN
	SELECT idx_scan, idx_tup_fetch INTO before FROM pg_stat_xact_user_tables WHERE relid = 'seq_log'::regclass;
	txns := t.take(name, max_txns);
	SELECT idx_scan, idx_tup_fetch INTO after FROM pg_stat_xact_user_tables WHERE relid = 'seq_log'::regclass;
	scans := after.idx_scan - before.idx_scan;
	entries := after.idx_tup_fetch - before.idx_tup_fetch;
END $$;
-- Collections of vshards, by number.
CREATE TEMP TABLE place AS
	SELECT v, min(c) AS c FROM (SELECT 'c' || i AS c, seq_vshard('c' || i) AS v FROM generate_series(1, 20000) i) t GROUP BY 1;
SELECT count(*) FROM place;
-- End the applier and wait for the next one.
CREATE PROCEDURE t.restart_applier() LANGUAGE plpgsql AS $$
DECLARE
	old int := (SELECT applier_pid FROM seq_state);
BEGIN
	PERFORM pg_terminate_backend(old);
	FOR i IN 1..6000 LOOP
		IF (SELECT applier_pid <> old AND applier_state = 'idle' FROM seq_state) THEN
			RETURN;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RAISE 'the applier did not come back';
END $$;
CREATE PROCEDURE t.end_applier() LANGUAGE plpgsql AS $$
DECLARE
	old int := (SELECT applier_pid FROM seq_state);
BEGIN
	PERFORM pg_terminate_backend(old);
	FOR i IN 1..6000 LOOP
		IF (SELECT applier_pid IS NULL OR applier_pid <> old FROM seq_state) THEN
			RETURN;
		END IF;
		PERFORM pg_sleep(0.001);
	END LOOP;
	RAISE 'the applier did not end';
END $$;
-- Nothing here waits long, unless it is broken.
SET statement_timeout = '2 min';

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

--
-- Starting points
--

SELECT seq_current_committed_epoch() AS last \gset
-- from the first, from an epoch, one that is not there, inside a batch, behind
-- its last transaction, the last epoch
SELECT f.epoch - :last AS epoch, f."position", t.failure(format('SELECT seq_subscribe(''{97,98}'', from_epoch => %s, from_position => %s)', f.epoch, f."position")) AS subscribe,
		t.take() AS taken, t.verify('default', '{97,98}', f.epoch, f."position")
	FROM (VALUES (:last - 1, 0), (:last - 1, 1), (:last - 20, 0), (:last - 3, 1), (:last - 3, 2), (:last - 4, 37), (:last - 4, 99), (:last - 4, 2147483647), (:last, 0), (:last, 1)) f (epoch, "position");
SELECT seq_subscribe('{97,98}', from_epoch => 0);
SELECT vshard, lag = :last + 1 AS lag FROM seq_subscriptions ORDER BY 1;
SELECT t.take(max_txns => 100), t.take(), t.take();
SELECT vshard, lag FROM seq_subscriptions ORDER BY 1;
SELECT t.verify('default', '{97,98}');
-- then live
CALL t.append(2, '{"a,b"}');
SELECT replayed > 0 AS replayed, sum(sent) AS sent FROM seq_subscriptions GROUP BY 1;
SELECT replayed FROM seq_subscriptions LIMIT 1 \gset before_
SELECT t.take();
SELECT replayed - :before_replayed AS replayed, lag FROM seq_subscriptions LIMIT 1;
SELECT t.verify('default', '{97,98}', :last + 1);
-- The past in small pieces, while the future comes.
SELECT seq_subscribe('{97,98}', from_epoch => 2, from_position => 1, queue_size => 8192);
DO $$
BEGIN
	FOR i IN 1..60 LOOP
		PERFORM t.take(max_txns => 7);
		CALL t.append(1, '{a,"a,b",b}', i * 3);
	END LOOP;
END $$;
SELECT t.take() > 0 AS rest;
SELECT t.verify('default', '{97,98}', 2, 1);
-- Each of several vshards from its own start.
SELECT seq_current_committed_epoch() AS last \gset
SELECT seq_subscribe('{97}', from_epoch => :last - 5);
SELECT seq_subscribe('{98}', from_epoch => :last - 50);
SELECT seq_subscribe('{99}');
CALL t.append(3, '{"a,b,c"}');
SELECT t.take(max_txns => 10) + t.take() > 50 AS came;
SELECT seq_current_committed_epoch() AS last2 \gset
INSERT INTO got (name, txn) SELECT 'c' || (txn).vshard, txn FROM got ORDER BY n;
SELECT t.verify('c97', '{97}', :last - 5), t.verify('c98', '{98}', :last - 50), t.verify('c99', '{99}', :last + 1);
DELETE FROM got;
-- In the future: what is before it is passed over.
SELECT seq_subscribe('{97,98}', from_epoch => :last2 + 3, from_position => 1);
CALL t.append(2, '{"a,b",a}');
SELECT t.take();
CALL t.append(3, '{"a,b",a,b}');
SELECT t.take();
SELECT t.verify('default', '{97,98}', :last2 + 3, 1);
-- with a gap before and over it,
SELECT seq_current_committed_epoch() AS last \gset
SELECT seq_subscribe('{97,98}', from_epoch => :last + 10);
CALL t.append(1, '{"a,b"}', first => :last + 5);
SELECT t.take();
CALL t.append(2, '{"a,b"}');
SELECT t.take();
CALL t.append(2, '{"a,b"}', first => :last + 15);
SELECT t.take();
SELECT t.verify('default', '{97,98}', :last + 10);
-- a full queue before it,
SELECT seq_current_committed_epoch() AS last \gset
SELECT seq_subscribe('{97}', from_epoch => :last + 3, queue_size => 8192);
CALL t.append(4, array_fill('a'::text, '{60}'), 100);
SELECT t.take();
SELECT t.verify('default', '{97}', :last + 3);
-- and as far as can be.
SELECT seq_subscribe('{97}', from_epoch => 9223372036854775807);
CALL t.append(1, array_fill('a'::text, '{1000}'), 1000);
SELECT t.take();
SELECT seq_unsubscribe(), seq_unsubscribe('{98}');
-- The start of a stream is fixed while the applier is behind, too.
SELECT seq_current_committed_epoch() AS last \gset
INSERT INTO seq_log (entry) SELECT t.batch(:last + i, array_fill('a'::text, '{200}')) FROM generate_series(1, 20) i;
SELECT seq_subscribe('{97}', 'from now');
SELECT seq_subscribe('{97}', 'from there', from_epoch => :last + 5);
CALL t.append(2);
SELECT t.take('from now'), t.take('from there');
SELECT t.verify('from now', '{97}', :last + 21), t.verify('from there', '{97}', :last + 5);
SELECT seq_unsubscribe(name => 'from now') + seq_unsubscribe(name => 'from there');
SELECT c, t.failure('SELECT seq_subscribe(''{97}'', ' || c || ')') FROM unnest(ARRAY[
	'from_epoch => -1', 'from_epoch => 0, from_position => -1', 'from_epoch => 0, from_position => NULL', 'from_epoch => 0, lossless => false', 'from_position => 5']) c;
SELECT seq_unsubscribe();

--
-- The applier ends
--

SELECT seq_subscribe('{97,98}', queue_size => 8192);
SELECT seq_current_committed_epoch() + 1 AS first \gset
-- while messages wait, and while more is appended;
CALL t.append(3, '{a,"a,b"}');
CALL t.end_applier();
INSERT INTO seq_log (entry) SELECT t.batch(:first + i, '{a,"a,b"}') FROM generate_series(3, 5) i;
SELECT t.take() >= 9 AS those_that_waited;
CALL t.wait_applied();
INSERT INTO seq_log (entry) VALUES (t.batch(:first + 6, '{"a,b"}'));
CALL t.wait_applied();
SELECT t.take() > 0 AS the_rest;
SELECT t.take();
SELECT t.verify('default', '{97,98}', :first);
-- the queues are new ones of the same size, and work;
SELECT replayed FROM seq_subscriptions WHERE vshard = 97 \gset before_
CALL t.append(1, '{"a,b"}');
SELECT t.take();
SELECT vshard, state, queue_size, queue_used, lag FROM seq_subscriptions ORDER BY 1;
SELECT replayed - :before_replayed AS replayed FROM seq_subscriptions WHERE vshard = 97;
-- nobody looks until the next one runs, with holes on both sides;
CALL t.append(1, array_fill('a'::text, '{100}') || '{b}'::text[], 100);
CALL t.restart_applier();
CALL t.append(2, '{"a,b"}', 9000);
CALL t.append(1, '{"a,b"}', first => :first + 20);
CALL t.append(1, '{"a,b"}');
SELECT t.take(max_txns => 20), t.take() > 0 AS rest, t.take();
CALL t.append(1, '{"a,b"}');
SELECT t.take();
SELECT t.verify('default', '{97,98}', :first + 7);
-- in the middle of filling;
SELECT seq_subscribe('{97,98}', from_epoch => 0, queue_size => 8192);
SELECT t.take(max_txns => 30);
CALL t.restart_applier();
SELECT t.take(max_txns => 30);
CALL t.append(1, '{"a,b"}');
SELECT t.take() > 0 AS rest;
CALL t.append(1, '{"a,b"}');
SELECT t.take();
SELECT t.verify('default', '{97,98}');
-- while a call waits.
SELECT t.take();
DO $$ BEGIN PERFORM pg_terminate_backend(applier_pid) FROM seq_state; END $$;
SELECT t.take(timeout => '100 ms');
SELECT seq_current_committed_epoch() + 1 AS first \gset
INSERT INTO seq_log (entry) VALUES (t.batch(:first, '{"a,b"}'));
SELECT t.take(timeout => '1 min') > 0 AS came;
CALL t.wait_applied();
SELECT t.take() < 2 AS rest;
SELECT t.verify('default', '{97,98}', :first);
-- Each queue keeps its size.
SELECT seq_subscribe('{98}', queue_size => 100000);
SELECT seq_subscribe('{99}', lossless => false);
CALL t.append(1, '{"a,b,c"}');
SELECT t.take();
CALL t.restart_applier();
SELECT t.take();
SELECT vshard, lossless, queue_size FROM seq_subscriptions ORDER BY 1;
CALL t.append(1, '{"a,b,c"}');
SELECT t.take();
SELECT seq_unsubscribe();
DELETE FROM got;

--
-- Transactions
--

SELECT seq_current_committed_epoch() + 1 AS first \gset
SELECT seq_subscribe('{97,98}', queue_size => 8192);
CALL t.append(2, array_fill('a'::text, '{60}') || '{"a,b"}'::text[], 100);
CALL t.append(1, '{"a,b"}', 9000, first => :first + 5);
-- A rollback leads back to where the transaction began,
SELECT t.take(max_txns => 10);
BEGIN;
SELECT t.take(max_txns => 30), t.take(max_txns => 40);
ROLLBACK;
BEGIN;
SELECT t.take();
ROLLBACK;
-- again and again; also that of a single statement, whatever it failed in,
SELECT t.failure('SELECT 1 / (epoch - epoch) FROM seq_receive()');
SELECT 1 / (epoch - epoch) FROM seq_receive();
SELECT count(*) FROM seq_receive(20);
ROLLBACK;
-- and committed ones do not come again.
SELECT seq_subscribe('{97,98}', from_epoch => :first, queue_size => 8192);
DELETE FROM got;
BEGIN;
SELECT t.take(max_txns => 50);
COMMIT;
BEGIN;
SELECT t.take(max_txns => 50);
ROLLBACK;
SELECT t.take();
SELECT t.verify('default', '{97,98}', :first);
-- A transaction that does not receive changes nothing.
CALL t.append(2, '{"a,b"}');
BEGIN;
SELECT 1;
ROLLBACK;
SELECT t.take(max_txns => 1);
BEGIN;
SAVEPOINT s;
ROLLBACK TO s;
ROLLBACK;
SELECT t.take();
SELECT t.verify('default', '{97,98}', :first + 6);
-- Savepoints lead back to where they were made, but to what was received
-- before only as far as that goes.
SELECT seq_subscribe('{97,98}', from_epoch => :first, queue_size => 8192);
BEGIN;
SELECT t.take(max_txns => 20);
SAVEPOINT a;
SELECT t.take(max_txns => 20);
SAVEPOINT b;
SELECT t.take(max_txns => 50);
ROLLBACK TO b;
SELECT t.take(max_txns => 5);
SAVEPOINT c;
SELECT t.take(max_txns => 5);
RELEASE c;
SELECT t.take(max_txns => 5);
RELEASE b;
SAVEPOINT d;
SELECT t.take(max_txns => 5);
ROLLBACK TO d;
SELECT t.take(max_txns => 5);
COMMIT;
SELECT count(*) FROM got;
SELECT t.take() > 0 AS rest;
SELECT t.verify('default', '{97,98}', :first);
-- A released savepoint is part of what is around it.
SELECT seq_subscribe('{97,98}', from_epoch => :first, queue_size => 8192);
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
SELECT t.take(max_txns => 20);
RELEASE b;
SELECT t.take(max_txns => 20);
ROLLBACK TO a;
SELECT t.take(max_txns => 7);
SAVEPOINT b;
SAVEPOINT c;
SELECT t.take(max_txns => 20);
RELEASE b;
ROLLBACK TO a;
SAVEPOINT e;
SELECT t.take(max_txns => 3);
RELEASE a;
SELECT t.take(max_txns => 3);
COMMIT;
SELECT count(*) FROM got;
BEGIN;
SAVEPOINT a;
SELECT t.take();
RELEASE a;
ROLLBACK;
BEGIN;
SELECT t.take(max_txns => 20);
SAVEPOINT a;
SAVEPOINT b;
SELECT t.take();
SELECT 1 / 0;
ROLLBACK;
SELECT t.take() > 0 AS rest;
SELECT t.verify('default', '{97,98}', :first);
-- Exception blocks are savepoints.
CREATE FUNCTION t.failing(times int, batch int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	attempts int := 0;
BEGIN
	LOOP
		BEGIN
			attempts := attempts + 1;
			PERFORM t.take(max_txns => batch);
			IF attempts <= times THEN
				RAISE 'failed';
			END IF;
			RETURN attempts;
		EXCEPTION WHEN raise_exception THEN
			-- the same ones once more
		END;
	END LOOP;
END $$;
SELECT seq_subscribe('{97,98}', from_epoch => :first, queue_size => 8192);
SELECT t.failing(3, 10), t.failing(0, 30), t.failing(2, 40), t.failing(1, 1), t.failing(1, 1000);
SELECT t.verify('default', '{97,98}', :first);
SELECT seq_subscribe('{97,98}', from_epoch => :first, queue_size => 8192);
BEGIN;
SELECT count(*) FROM (SELECT t.failing(n % 2, 1) FROM generate_series(1, 50) n) t;
ROLLBACK;
SELECT count(*) FROM (SELECT t.failing(n % 2, 1) FROM generate_series(1, 50) n) t;
SELECT t.take() > 0 AS rest;
SELECT t.verify('default', '{97,98}', :first);
-- seq_rewind, without a cursor, is what the rollback would do.
SELECT seq_subscribe('{97,98}', from_epoch => :first, queue_size => 8192);
SELECT t.take(max_txns => 10);
SELECT seq_rewind() IS NULL AS nothing_to_take_back;
BEGIN;
SELECT count(*) FROM seq_receive(30);
SELECT seq_rewind();
SELECT count(*) FROM seq_receive(50);
SAVEPOINT a;
SELECT count(*) FROM seq_receive(20);
SELECT seq_rewind();
SELECT t.take(max_txns => 40);
SAVEPOINT b;
SELECT seq_rewind();
SELECT count(*) FROM seq_receive(5);
ROLLBACK TO b;
SELECT t.take(max_txns => 10);
SAVEPOINT c;
SELECT seq_rewind();
ROLLBACK TO c;
SELECT t.take(max_txns => 10);
COMMIT;
SELECT t.take() > 0 AS rest;
SELECT t.verify('default', '{97,98}', :first);

-- Subscribed in the transaction that is rolled back: the subscription stays,
-- and nothing that it received is passed over; whenever it was made,
SELECT seq_unsubscribe();
BEGIN;
SELECT seq_subscribe('{97}', from_epoch => :first, queue_size => 8192);
SELECT t.take(max_txns => 30);
ROLLBACK;
SELECT t.take() > 0 AS came;
SELECT t.verify('default', '{97}', :first);
-- after the first call of the transaction,
SELECT seq_subscribe('{97}', from_epoch => :first, queue_size => 8192);
BEGIN;
SELECT t.take(max_txns => 30);
SELECT seq_subscribe('{98}', from_epoch => :first + 1);
SELECT t.take(max_txns => 100);
ROLLBACK;
SELECT t.take() > 0 AS came;
INSERT INTO got (name, txn) SELECT 'c' || (txn).vshard, txn FROM got ORDER BY n;
SELECT t.verify('c97', '{97}', :first), t.verify('c98', '{98}', :first + 1);
DELETE FROM got;
-- again,
SELECT seq_subscribe('{97}', from_epoch => :first, queue_size => 8192);
BEGIN;
SELECT t.take(max_txns => 30);
SELECT seq_subscribe('{97}', from_epoch => :first + 1, queue_size => 8192);
SELECT t.take(max_txns => 30);
ROLLBACK;
SELECT seq_unsubscribe('{98}');
SELECT t.take() > 0 AS came;
SELECT t.verify('default', '{97}', :first + 1);
-- in savepoints, that of the call or one around it.
SELECT seq_subscribe('{97}', from_epoch => :first, queue_size => 8192);
BEGIN;
SELECT t.take(max_txns => 3);
SAVEPOINT a;
SELECT t.take(max_txns => 3);
SELECT seq_subscribe('{98}', from_epoch => :first);
SELECT t.take(max_txns => 100) > 0 AS both;
ROLLBACK TO a;
SELECT t.take(max_txns => 100) > 0 AS both;
COMMIT;
SELECT t.take() > 0 AS rest;
SELECT t.verify('default', '{97,98}', :first);
SELECT seq_subscribe('{97}', from_epoch => :first, queue_size => 8192);
SELECT seq_unsubscribe('{98}');
BEGIN;
SELECT t.take(max_txns => 3);
SAVEPOINT a;
SAVEPOINT b;
SELECT t.take(max_txns => 3);
SELECT seq_subscribe('{98}', from_epoch => :first);
SELECT t.take(max_txns => 100) > 0 AS both;
RELEASE b;
ROLLBACK TO a;
SELECT t.take(max_txns => 100) > 0 AS both;
ROLLBACK;
SELECT t.take() > 0 AS both;
SELECT t.verify('default', '{97,98}', :first);

-- Nor does it matter which isolation level they have,
SELECT seq_subscribe('{97,98}', from_epoch => :first, queue_size => 8192);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT t.take(max_txns => 20);
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT t.take(max_txns => 20);
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT t.take(max_txns => 20);
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT count(*) FROM seq_receive(20);
ROLLBACK;
SELECT t.take() > 0 AS rest;
SELECT t.verify('default', '{97,98}', :first);

--
-- Calls that end early
--

-- An error in the middle of one: its rows do not fit.
SELECT seq_subscribe('{97,98}', from_epoch => :first, queue_size => 8192);
SELECT t.take(max_txns => 10);
CALL t.append(20, array_fill('a,b'::text, '{20}'), 1000);
SET work_mem = '64kB';
SET temp_file_limit = '256kB';
-- The server's versions word this differently: 53400 it is in all of them.
\set VERBOSITY sqlstate
SELECT left(t.failure('SELECT count(*) FROM seq_receive(10000)'), 5) AS failure;
SELECT count(*) FROM seq_receive(10000);
BEGIN;
SELECT t.take(max_txns => 10);
SAVEPOINT s;
SELECT count(*) FROM seq_receive(10000);
ROLLBACK TO s;
SELECT t.take(max_txns => 10);
COMMIT;
\set VERBOSITY default
RESET work_mem;
RESET temp_file_limit;
SELECT t.take() > 0 AS rest;
SELECT t.verify('default', '{97,98}', :first);
-- A timeout while it waits,
SET statement_timeout = '20ms';
SELECT count(*) FROM seq_receive(10, '1 min');
SELECT seq_receive_batch(10, '1 min');
RESET statement_timeout;
SELECT seq_current_committed_epoch() + 1 AS next \gset
CALL t.append(1, '{"a,b"}');
SELECT t.take();
SELECT t.verify('default', '{97,98}', :next);
-- or in the middle of filling.
CALL t.append(150, array_fill('a'::text, '{100}'), 50);
SELECT seq_subscribe('{97,98}', from_epoch => :first, queue_size => 8192);
SELECT t.take(max_txns => 10);
SET statement_timeout = '20ms';
SELECT count(*), pg_sleep(10) FROM seq_receive(3000);
SELECT length(seq_receive_batch(3000)), pg_sleep(10);
SELECT count(*) FROM seq_receive(1000000), pg_sleep(10);
SET statement_timeout = '2 min';
SELECT t.take() > 15000 AS rest;
SELECT t.verify('default', '{97,98}', :first);

--
-- Ways to call it
--

SELECT seq_subscribe('{97,98}', from_epoch => :next, queue_size => 8192);
-- A cursor's rows count as received when the first is fetched; it does not
-- matter what else happens meanwhile.
BEGIN;
DECLARE c CURSOR FOR SELECT epoch - :next AS epoch, "position" FROM seq_receive(4);
FETCH 1 FROM c;
SELECT t.take(max_txns => 3);
SAVEPOINT s;
SELECT t.take(max_txns => 3);
ROLLBACK TO s;
FETCH 1 FROM c;
ROLLBACK;
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM seq_receive(30);
DECLARE h CURSOR WITH HOLD FOR SELECT epoch - :next AS epoch, "position" FROM seq_receive(2);
DO $$
DECLARE
	c refcursor := 'c';
	txn seq_txn;
BEGIN
	LOOP
		FETCH c INTO txn;
		EXIT WHEN NOT FOUND;
		INSERT INTO got (name, txn) VALUES ('default', txn);
	END LOOP;
END $$;
COMMIT;
FETCH ALL FROM h;
CLOSE h;
SELECT (SELECT count(*) FROM (SELECT seq_receive(3) LIMIT 1) t), (SELECT count(*) FROM (SELECT seq_receive(3)) t);
SELECT count(*), max((txn).epoch) - :next AS epoch FROM got;
SELECT t.take(max_txns => 1);
SELECT (txn).vshard, (txn).epoch - :next AS epoch, (txn)."position" FROM got ORDER BY n DESC LIMIT 1;
DELETE FROM got;
-- Rows and batches, mixed: one stream.
CREATE FUNCTION t.uint(n bigint) RETURNS bytea LANGUAGE sql AS $$
	SELECT CASE WHEN n < 128 THEN substr(int2send(n::int2), 2) WHEN n < 256 THEN '\xcc' || substr(int2send(n::int2), 2)
		WHEN n < 65536 THEN '\xcd' || substr(int4send(n::int4), 3) ELSE '\xce' || substr(int8send(n), 5) END
$$;
-- One signed and at least 128.
CREATE FUNCTION t.int(n bigint) RETURNS bytea LANGUAGE sql AS $$
	SELECT CASE WHEN n < 32768 THEN '\xd1' || substr(int4send(n::int4), 3) ELSE '\xd2' || substr(int8send(n), 5) END
$$;
CREATE FUNCTION t.framed(vshard int, from_epoch bigint, skip int, count int) RETURNS bytea LANGUAGE sql AS $$
	SELECT '\xdd'::bytea || int4send(count) || string_agg('\x95'::bytea || t.uint(vshard) || t.uint(epoch) || t.uint("position")
			|| t.int(epoch_system_ms) || tx_class, '' ORDER BY epoch, "position")
		FROM (SELECT * FROM seq_replay($1, $2, 1000000) OFFSET skip LIMIT count) t
$$;
SELECT seq_unsubscribe('{98}'), seq_subscribe('{97}', from_epoch => :first, queue_size => 8192);
SELECT n, CASE WHEN n % 3 = 1 THEN (SELECT count(*) FROM seq_receive(100 + n - n))::text
		ELSE (seq_receive_batch(100 + n - n) = t.framed(97, :first, (n - 1) * 100, 100))::text END AS came
	FROM generate_series(1, 12) n;
SELECT seq_receive_batch(1000000) = t.framed(97, :first, 1200, (SELECT count(*)::int - 1200 FROM seq_replay(97, :first, 1000000))) AS rest;
SELECT seq_receive_batch();
CALL t.append(2, '{a}', 9000);
SELECT length(seq_receive_batch(1)), (SELECT count(*) FROM seq_receive()), seq_receive_batch();

--
-- Several names and kinds
--

-- Names are independent: their holes, positions, rollbacks.
SELECT seq_unsubscribe();
SELECT seq_current_committed_epoch() + 1 AS first \gset
SELECT seq_subscribe('{97}', 'small', queue_size => 8192);
SELECT seq_subscribe('{97,98}', 'large');
SELECT seq_subscribe('{97,98}', 'past', from_epoch => :first - 100, queue_size => 8192);
SELECT seq_subscribe('{97}', 'bare', queue_size => 8192, lossless => false);
CALL t.append(2, array_fill('a'::text, '{60}') || '{"a,b"}'::text[], 100);
SELECT t.take('past', 70), t.take('large', 1), t.take('small', 50);
BEGIN;
SELECT t.take('small', 100), t.take('past', 100), t.take('bare', 40);
ROLLBACK;
BEGIN;
SELECT t.take('small', 10);
SAVEPOINT s;
SELECT t.take('past', 10), t.take('large', 10);
ROLLBACK TO s;
SELECT t.take('large', 10);
COMMIT;
CALL t.append(1, '{"a,b"}', first => :first + 10);
CALL t.append(1, '{"a,b"}');
SELECT t.take('small') > 0 AS small, t.take('large') > 0 AS large, t.take('past') > 0 AS past;
SELECT t.verify('small', '{97}', :first), t.verify('large', '{97,98}', :first), t.verify('past', '{97,98}', :first - 100);
-- Of the bare one nothing comes twice, and what is missing stays so.
SELECT dropped > 0 AS dropped, sent - 40 AS left FROM seq_subscriptions WHERE name = 'bare' \gset bare_
SELECT t.take('bare') = :bare_left AS came, :'bare_dropped' AS dropped, (SELECT replayed FROM seq_subscriptions WHERE name = 'bare');
SELECT count(*), count(DISTINCT ((txn).epoch, (txn)."position")) = count(*) AS once,
		bool_and(txn IN (SELECT r FROM seq_replay(97, :first, 1000000) r)) AS replayed
	FROM got WHERE name = 'bare' AND (txn).epoch <> :first;
SELECT seq_unsubscribe(name => 'small') + seq_unsubscribe(name => 'large') + seq_unsubscribe(name => 'past') + seq_unsubscribe(name => 'bare');
DELETE FROM got;
-- Both kinds under one name.
SELECT seq_current_committed_epoch() + 1 AS first \gset
SELECT seq_subscribe('{97}', 'both', queue_size => 8192);
SELECT seq_subscribe('{98}', 'both', queue_size => 8192, lossless => false);
CALL t.append(3, array_fill('a,b'::text, '{40}'), 100);
CALL t.append(1, '{"a,b"}', first => :first + 10);
SELECT vshard, lossless, dropped > 0 AS dropped FROM seq_subscriptions ORDER BY 1;
BEGIN;
SELECT t.take('both', 90);
ROLLBACK;
SELECT t.take('both') > 0 AS rest;
SELECT count(*) FILTER (WHERE (txn).vshard = 98) < 120 AS bare FROM got;
DELETE FROM got WHERE (txn).vshard = 98;
SELECT t.verify('both', '{97}', :first);
SELECT vshard, replayed > 0 AS replayed FROM seq_subscriptions ORDER BY 1;
CALL t.append(1, '{"a,b"}');
SELECT t.take('both');
SELECT vshard, state, lag FROM seq_subscriptions ORDER BY 1;
-- One kind instead of the other.
SELECT seq_subscribe('{98}', 'both', queue_size => 8192);
SELECT seq_subscribe('{97}', 'both', queue_size => 8192, lossless => false);
SELECT vshard, lossless FROM seq_subscriptions ORDER BY 1;
SELECT seq_current_committed_epoch() + 1 AS first \gset
CALL t.append(3, array_fill('b'::text, '{40}'), 100);
DELETE FROM got;
SELECT t.take('both');
SELECT t.verify('both', '{98}', :first);
SELECT seq_unsubscribe(name => 'both');

--
-- Coming and going in the middle
--

SELECT seq_current_committed_epoch() + 1 AS first \gset
CALL t.append(4, array_fill('a,b,c,d'::text, '{10}'), 100);
SELECT seq_subscribe('{97,98,99,100}', from_epoch => :first, queue_size => 8192);
SELECT t.take(max_txns => 50);
SELECT array_agg((txn).vshard || ' ' || (txn).epoch - :first || '.' || (txn)."position" ORDER BY (txn).vshard) FROM got WHERE n IN (SELECT max(n) FROM got GROUP BY (txn).vshard);
-- one is subscribed again while the log is read for all: it starts anew,
SELECT seq_subscribe('{98}', from_epoch => :first + 1, queue_size => 8192);
DELETE FROM got WHERE (txn).vshard = 98;
SELECT t.take(max_txns => 10);
-- others end,
SELECT seq_unsubscribe('{99}');
DELETE FROM got WHERE (txn).vshard = 99;
SELECT t.take(max_txns => 10);
-- one comes,
SELECT seq_subscribe('{101}');
CALL t.append(1, '{"a,b,c,d,e"}', 9000);
SELECT t.take() > 0 AS rest;
INSERT INTO got (name, txn) SELECT 'c' || (txn).vshard, txn FROM got ORDER BY n;
SELECT t.verify('c97', '{97}', :first), t.verify('c98', '{98}', :first + 1), t.verify('c100', '{100}', :first), t.verify('c101', '{101}', :first + 4);
DELETE FROM got;
-- all end and come back.
SELECT seq_subscribe('{97,98,99,100}', from_epoch => :first, queue_size => 8192);
SELECT t.take(max_txns => 50);
DELETE FROM got;
SELECT seq_unsubscribe();
SELECT seq_subscribe('{97,98,99,100}', from_epoch => :first + 2, queue_size => 8192);
SELECT t.take() > 0 AS came;
SELECT t.verify('default', '{97,98,99,100}', :first + 2);
SELECT seq_subscribe('{97,98,99,100}', from_epoch => :first, queue_size => 8192);
SELECT t.take(max_txns => 50);
-- DISCARD ALL ends all of it.
CREATE TABLE place_kept AS TABLE place;
DISCARD ALL;
SELECT count(*) FROM seq_subscriptions;
SELECT * FROM seq_receive();
SELECT seq_subscribe('{97}', from_epoch => 1000000);
SELECT count(*) FROM seq_receive();
SELECT seq_unsubscribe();

--
-- All vshards in one session, with the smallest queues: 200 epochs of 50
-- transactions, which are too many for most of them
--

CREATE TEMP TABLE got AS SELECT 0::bigint AS n, t FROM seq_replay(0, 1, 0) t;
CREATE SEQUENCE t.n;
SELECT seq_current_committed_epoch() + 1 AS first \gset
SELECT seq_subscribe(array_agg(v), 'all', queue_size => 8192) FROM generate_series(0, 1023) v;
CREATE PROCEDURE t.append_and_receive() LANGUAGE plpgsql AS $$
DECLARE
	first bigint := seq_current_committed_epoch() + 1;
	c text[] := (SELECT array_agg(c ORDER BY v) FROM place_kept);
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
		INSERT INTO got SELECT nextval('t.n'), t FROM seq_receive(500, '0', 'all') t;
		COMMIT;
	END LOOP;
END $$;
CALL t.append_and_receive();
SELECT count(*), bool_and(sent + dropped BETWEEN 18 AND 20) AS meant, count(*) FILTER (WHERE dropped > 0) > 500 AS holed FROM seq_subscriptions;
INSERT INTO got SELECT nextval('t.n'), t FROM seq_receive(1000000, '0', 'all') t;
SELECT count(*) FROM seq_receive(name => 'all');
SELECT count(*), count(DISTINCT (t).vshard) AS vshards, count(DISTINCT ((t).epoch, (t)."position")) AS txns FROM got;
-- in the order of each vshard, nothing twice,
SELECT count(*) FROM (SELECT ((t).epoch, (t)."position") <= lag(((t).epoch, (t)."position")) OVER (PARTITION BY (t).vshard ORDER BY n) AS disordered FROM got) o WHERE disordered;
-- each where it belongs, and on each of its vshards,
SELECT count(*) FROM got WHERE (t).vshard <> ALL ((t).participating_vshards);
SELECT count(*) FROM (SELECT FROM got GROUP BY (t).epoch, (t)."position" HAVING array_agg((t).vshard ORDER BY (t).vshard) <> min((t).participating_vshards)) o;
-- and as replayed.
SELECT count(*) FILTER (WHERE same) AS same, count(*) FROM (
	SELECT txns = ARRAY(SELECT r FROM seq_replay(v, :first, 1000000) r) AS same
		FROM (SELECT (t).vshard AS v, array_agg(t ORDER BY n) AS txns FROM got WHERE (t).vshard % 16 = 0 GROUP BY 1) g) o;
SELECT count(*) FILTER (WHERE replayed >= dropped) AS plausible, count(*) FILTER (WHERE lag = 0) AS no_lag, sum(sent + dropped) AS meant FROM seq_subscriptions;
DROP TABLE place_kept;
