--
-- Lossless streams across the end of the applier.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\i :src/test/regress/stream.sql

-- Streams begin anywhere but at the log's first epoch.
CALL t.append(10, '{"a,b"}');

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
