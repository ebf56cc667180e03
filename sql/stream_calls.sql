--
-- Calls for a lossless stream that end early, and all ways to call.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\i :src/test/regress/stream.sql

SELECT 1500 AS first \gset
CALL t.append(2, array_fill('a'::text, '{60}') || '{"a,b"}'::text[], 100, first => :first);
CALL t.append(1, '{"a,b"}', 9000, first => :first + 5);
CALL t.append(2, '{"a,b"}');

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
SELECT (SELECT count(*) FROM (SELECT seq_receive(3) AS r) t WHERE (r).vshard < 0), (SELECT count(*) FROM (SELECT seq_receive(3)) t);
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
