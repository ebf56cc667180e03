--
-- Registered consumers: durable from the commit on, at the log's end, and their
-- role's alone
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\set VERBOSITY terse

CREATE ROLE regress_billing;
CREATE ROLE regress_clerk IN ROLE regress_billing;
CREATE ROLE regress_mallory;
-- README's grants for a consumer, and those to register
GRANT EXECUTE ON FUNCTION
	seq_subscribe(integer[], text, bigint, integer, integer, boolean),
	seq_unsubscribe(integer[], text), seq_receive(integer, interval, text),
	seq_receive_batch(integer, interval, text), seq_commit(text), seq_rewind(text),
	seq_drop_cursor(text, integer[]), seq_register(text, integer[], bigint), seq_unregister(text)
	TO regress_billing, regress_mallory;
CREATE VIEW t.positions AS SELECT name, vshard, epoch, "position" FROM seq_cursors ORDER BY 1, 2;
-- our own session under a name, whether or not it was subscribed
CREATE FUNCTION t.received(name text) RETURNS bigint[] LANGUAGE sql AS
	$$ SELECT array_agg(epoch ORDER BY epoch) FROM seq_receive(1000, name => $1) $$;

-- Nothing in the log yet: its end is epoch 0.
SELECT seq_register('early', '{97}');
TABLE t.positions;
CALL t.append(3, '{a,b}');

-- At the log's end, and nothing is missed before the first seq_commit.
SET ROLE regress_billing;
SELECT seq_register('billing', '{98,97,98}');
RESET ROLE;
TABLE t.positions;
SELECT name, owner, kind, vshards FROM seq_consumers ORDER BY 1;
CALL t.append(2, '{a,b}');
SET ROLE regress_billing;
SELECT seq_subscribe('{97,98}', 'billing');
SELECT t.received('billing');
SELECT seq_unsubscribe(name => 'billing');
-- again: nothing of it was committed
SELECT seq_subscribe('{97,98}', 'billing');
SELECT t.received('billing');
SELECT seq_commit('billing');
SELECT seq_unsubscribe(name => 'billing');
RESET ROLE;
TABLE t.positions;
SELECT seq_subscribe('{97}', 'early');
SELECT t.received('early');
SELECT seq_unsubscribe(name => 'early');

-- Who is no member does not subscribe, commit, drop, unregister: the theft.
SET ROLE regress_mallory;
SELECT t.failure($$SELECT seq_subscribe('{97,98}', 'billing')$$);
SELECT t.failure($$SELECT seq_subscribe('{97,98}', 'billing', from_epoch => 10000000)$$);
SELECT t.failure($$SELECT seq_subscribe('{97}', 'billing', lossless => false)$$);
SELECT t.failure($$SELECT seq_commit('billing')$$);
SELECT t.failure($$SELECT seq_drop_cursor('billing')$$);
SELECT t.failure($$SELECT seq_unregister('billing')$$);
SELECT t.failure($$SELECT seq_register('billing', '{97}')$$);
RESET ROLE;
TABLE t.positions;
-- a member does, even beyond the end he does not
SET ROLE regress_clerk;
SELECT seq_subscribe('{97,98}', 'billing');
SELECT t.failure($$SELECT seq_subscribe('{97,98}', 'billing', from_epoch => 6)$$);
SELECT t.failure($$SELECT seq_subscribe('{97,98}', 'billing', from_epoch => 5, from_position => 1)$$);
SELECT seq_subscribe('{97,98}', 'billing', from_epoch => 5);
SELECT seq_subscribe('{97,98}', 'billing', from_epoch => 4);
SELECT seq_commit('billing');
RESET ROLE;
TABLE t.positions;
SET ROLE regress_clerk;
SELECT t.received('billing'), seq_commit('billing');
RESET ROLE;
-- whose session is who is asked, not who subscribed: here the superuser
SELECT seq_commit('billing');
-- other vshards than it is registered for
SELECT t.failure($$SELECT seq_subscribe('{97,5}', 'billing')$$);
-- cursors are there as long as it is registered
SELECT t.failure($$SELECT seq_drop_cursor('billing')$$);
SELECT t.failure($$SELECT seq_drop_cursor('billing', '{97}')$$);
SELECT seq_unsubscribe(name => 'billing');

-- A name that nobody registered: as ever, but nobody commits beyond the end.
SET ROLE regress_mallory;
SELECT seq_subscribe('{97}', 'own', from_epoch => 10000000);
SELECT t.failure($$SELECT seq_commit('own')$$);
SELECT seq_subscribe('{97}', 'own', from_epoch => 5, from_position => 7);
SELECT t.failure($$SELECT seq_commit('own')$$);
SELECT seq_subscribe('{97}', 'own', from_epoch => 5);
SELECT seq_commit('own');
SELECT seq_unsubscribe(name => 'own');
SELECT t.failure($$SELECT seq_register('own', '{97}')$$);
SELECT seq_drop_cursor('own');
-- who was subscribed before somebody registered the name commits nothing of it
SELECT seq_subscribe('{97,98}', 'shared');
RESET ROLE;
SELECT seq_register('shared', '{97}', 0);
CALL t.append(1, '{a,b}');
SET ROLE regress_mallory;
SELECT t.received('shared');
SELECT t.failure($$SELECT seq_commit('shared')$$);
RESET ROLE;
-- nor does a member, of vshards that it is not registered for
SELECT t.failure($$SELECT seq_commit('shared')$$);
SELECT seq_unsubscribe(name => 'shared');

-- Where it begins.
SELECT t.failure($$SELECT seq_register('x', '{97}', -1)$$);
SELECT t.failure($$SELECT seq_register('x', '{97}', 7)$$);
SELECT t.failure($$SELECT seq_register('x', '{97}', 9223372036854775807)$$);
SELECT t.failure($$SELECT seq_register('x', '{}')$$);
SELECT t.failure($$SELECT seq_register('x', '{1024}')$$);
SELECT t.failure($$SELECT seq_register('x', NULL)$$);
SELECT t.failure($$SELECT seq_register(NULL, '{97}')$$);
SELECT t.failure($$SELECT seq_register('', '{97}')$$);
SELECT t.failure(format($$SELECT seq_register(%L, '{97}')$$, repeat('x', 64)));
SELECT seq_register('x', '{97}', 6), seq_register('y', '{97}', 2);
SELECT t.failure($$SELECT seq_register('x', '{98}')$$);
SELECT * FROM t.positions WHERE name IN ('x', 'y');
-- what is needed from there on is kept
SELECT seq_unregister(n) FROM unnest('{early,shared}'::text[]) n;
SELECT t.failure($$SELECT seq_truncate(3)$$);
SELECT seq_unregister('y');
SELECT seq_truncate(3);
SELECT t.failure($$SELECT seq_register('y', '{97}', 2)$$);
SELECT seq_register('y', '{97}', 3);

-- One name space with groups.
SELECT seq_create_group('g');
SELECT t.failure($$SELECT seq_subscribe('{97}', 'g')$$);
SELECT t.failure($$SELECT seq_commit('g')$$);
SELECT t.failure($$SELECT seq_drop_cursor('g')$$);
SELECT t.failure($$SELECT seq_register('g', '{97}')$$);
SELECT t.failure($$SELECT seq_unregister('g')$$);
SELECT t.failure($$SELECT seq_create_group('x')$$);
SELECT t.failure($$SELECT seq_drop_group('x')$$);
SELECT t.failure($$SELECT seq_unregister('nobody')$$);
SELECT seq_drop_group('g');
-- a group is not made of a name that has cursors
SELECT seq_subscribe('{97}', 'u'), seq_commit('u'), seq_unsubscribe(name => 'u');
SELECT t.failure($$SELECT seq_create_group('u')$$);
SELECT seq_drop_cursor('u');

-- In a transaction: rolled back, it was never there; a savepoint likewise.
BEGIN;
SELECT seq_register('z', '{97}');
ROLLBACK;
BEGIN;
SELECT seq_register('z', '{98}');
SAVEPOINT s;
SELECT seq_register('w', '{98}');
ROLLBACK TO s;
SELECT seq_append(t.batch(6)) > 0;
COMMIT;
SELECT name, vshards FROM seq_registrations ORDER BY 1;
-- its own appends are before its commit
SELECT * FROM t.positions WHERE name = 'z';
-- made and ended
BEGIN;
SELECT seq_register('w', '{98}');
SELECT seq_append(t.batch(7)) > 0;
SELECT seq_unregister('w');
COMMIT;
SELECT count(*) FROM t.positions WHERE name = 'w';
BEGIN;
SELECT seq_create_group('w');
SELECT seq_append(t.batch(8)) > 0;
SELECT seq_drop_group('w');
COMMIT;
-- subscribed in the same transaction
CALL t.wait_applied();
BEGIN;
SELECT seq_register('w', '{97}');
SELECT seq_subscribe('{97}', 'w');
SELECT seq_append(t.batch(9)) > 0;
COMMIT;
CALL t.append(1);
SELECT t.received('w'), seq_commit('w');
SELECT seq_unregister('w');
-- who is subscribed goes on, under a name that is nobody's
CALL t.append(1);
SELECT t.received('w');
SELECT t.failure($$SELECT seq_commit('w')$$);
SELECT t.received('w');
SELECT seq_commit('w');
SELECT seq_unsubscribe(name => 'w'), seq_drop_cursor('w');
DO $$
BEGIN
	PERFORM seq_register('w', '{97}');
	PERFORM seq_append(t.batch(12));
	COMMIT;
	PERFORM seq_append(t.batch(13));
END $$;
SELECT epoch FROM t.positions WHERE name = 'w';
SELECT seq_unregister('w');
BEGIN;
SELECT seq_register('w', '{97}');
PREPARE TRANSACTION 'w';
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM seq_log;
SELECT seq_register('w', '{97}');
COMMIT;
BEGIN READ ONLY;
SELECT t.failure($$SELECT seq_register('r', '{97}')$$);
SELECT t.failure($$SELECT seq_unregister('w')$$);
COMMIT;
SELECT seq_unregister('w');

-- Names as they come.
SELECT seq_register('We''ird "näme" %', '{97}'), seq_subscribe('{97}', 'We''ird "näme" %');
SELECT seq_unsubscribe(name => 'We''ird "näme" %');
SELECT owner, vshards FROM seq_consumers WHERE name = 'We''ird "näme" %';
SELECT seq_unregister('We''ird "näme" %');

-- How it is seen, offline too: what is committed counts, not what was received; and of
-- the log only what is for it.
SELECT seq_register('seen', '{97,98}');
CREATE VIEW t.seen AS SELECT vshards, partitions, pids = ARRAY[pg_backend_pid()] AS mine, epochs_behind, pending, oldest_unprocessed = (SELECT min(appended_at) FROM seq_log WHERE epoch > 1000) AS oldest,
	lag > '1 min' AS lags, parked, delivered, retried, last_progress > now() - interval '1 min' AS progress, state FROM seq_consumers WHERE name = 'seen';
TABLE t.seen;
CALL t.append(40, '{c}', first => 100);
INSERT INTO seq_log (entry, appended_at) SELECT t.batch(e, '{a,b}'), now() - interval '2 min' FROM generate_series(1001, 1004) e;
CALL t.append(40, '{c}');
TABLE t.seen;
SELECT seq_subscribe('{97,98}', 'seen');
TABLE t.seen;
SELECT count(*) FROM seq_receive(1000, name => 'seen');
TABLE t.seen;
SELECT seq_pending('seen');
UPDATE seq_cursor_positions SET committed_at = now() - interval '2 min' WHERE name = 'seen';
TABLE t.seen;
SELECT seq_commit('seen');
TABLE t.seen;
SELECT seq_unsubscribe(name => 'seen');
TABLE t.seen;
SELECT seq_unregister('seen');

-- A role that is dropped: what it registered is the superuser's to end.
SET ROLE regress_mallory;
SELECT seq_register('left', '{97}');
RESET ROLE;
DROP OWNED BY regress_mallory;
DROP ROLE regress_mallory;
SET ROLE regress_billing;
SELECT t.failure($$SELECT seq_unregister('left')$$) ~ '^42501: .*which was dropped';
RESET ROLE;
SELECT seq_unregister('left');

-- With the extension gone in the same transaction there is nothing to be moved.
BEGIN;
SELECT seq_register('last', '{97}');
SELECT seq_append(t.batch(2000), true) > 0;
SET LOCAL client_min_messages = warning;
DROP EXTENSION calvin_seq CASCADE;
COMMIT;
DROP SCHEMA t CASCADE;
DROP ROLE regress_clerk;
DROP OWNED BY regress_billing;
DROP ROLE regress_billing;
