--
-- Lossless streams in transactions: what is rolled back comes again.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\i :src/test/regress/stream.sql

-- Streams begin anywhere but at the log's first epoch.
CALL t.append(10, '{"a,b"}');

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
