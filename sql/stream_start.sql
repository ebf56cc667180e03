--
-- Where lossless streams start: in the past, now, in the future.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\i :src/test/regress/stream.sql

-- A log with gaps, in which the last epochs are each of another kind.
CALL t.append(40, '{a,"a,b",b}');
CALL t.append(2, '{c}', first => 50);
CALL t.append(1);
CALL t.append(1, array_fill('a'::text, '{100}') || '{b}'::text[], 100);
CALL t.append(1, '{a,"a,b"}', 9000, first => 60);
CALL t.append(1, '{"a,b"}');
CALL t.append(1, '{b}', 9000);
CALL t.append(1, '{"a,b"}');

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
