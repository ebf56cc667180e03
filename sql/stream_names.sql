--
-- Lossless streams of several names, vshards and kinds in one session.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\i :src/test/regress/stream.sql

CALL t.append(100, '{"a,b"}');

--
-- Several names and kinds
--

-- Names are independent: their holes, positions, rollbacks.
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
DISCARD ALL;
SELECT count(*) FROM seq_subscriptions;
SELECT * FROM seq_receive();
SELECT seq_subscribe('{97}', from_epoch => 1000000);
SELECT count(*) FROM seq_receive();
SELECT seq_unsubscribe();
