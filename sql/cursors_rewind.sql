--
-- Durable cursors and rollback: what comes again, and what seq_rewind does.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\i :src/test/regress/cursors.sql

SELECT 0 AS first \gset
SELECT seq_subscribe('{97,98}', 'back', from_epoch => :first, queue_size => 8192);
CALL t.append(1, array_fill('a'::text, '{60}') || '{b}'::text[], 100);
CALL t.append(4, '{"a,b"}');
BEGIN;
SELECT t.process('back', 20);
SELECT seq_commit('back');
COMMIT;
SELECT vshard, epoch - :first AS epoch, "position" FROM seq_cursors WHERE name = 'back' ORDER BY 1;
-- A rollback leads back to the cursor, also of transactions that received
-- and committed, but not their position, and of any other transaction;
SELECT length(t.take('back', 30)) > 0 AS came;
BEGIN;
SELECT length(t.take('back')) > 0 AS came;
ROLLBACK;
SELECT count(*), min(epoch) - :first AS epoch, min("position") FROM seq_receive(1000, '0', 'back') WHERE vshard = 97;
SELECT 1 / 0;
SELECT count(*), min(epoch) - :first AS epoch, min("position") FROM seq_receive(1000, '0', 'back') WHERE vshard = 97;
-- also when it fails in its effects;
INSERT INTO t.effects (vshard, epoch, "position") VALUES (98, :first + 4, 0);
BEGIN;
SELECT seq_rewind('back');
SELECT t.process('back', 30);
SELECT seq_commit('back');
SELECT t.process('back');
COMMIT;
DELETE FROM t.effects WHERE epoch = :first + 4;
SELECT epoch - :first AS epoch, "position" FROM seq_cursors WHERE name = 'back' AND vshard = 97;
BEGIN;
SELECT t.process('back');
SELECT seq_commit('back');
COMMIT;
-- the rollback of a seq_commit, too.
CALL t.append(2, '{a,b}');
BEGIN;
SELECT t.process('back', 1);
SELECT seq_commit('back');
SELECT t.process('back', 1);
SELECT seq_commit('back');
ROLLBACK;
BEGIN;
SELECT t.process('back', 1);
SELECT seq_commit('back');
SELECT t.process('back', 1);
SELECT seq_commit('back');
COMMIT;
-- In the end each was processed once, in order.
BEGIN;
SELECT t.process('back'), seq_commit('back');
COMMIT;
SELECT vshard, array_agg((epoch - :first, "position") ORDER BY n) = (SELECT array_agg((epoch - :first, "position")) FROM seq_replay(vshard, :first, 1000000)) AS complete
	FROM t.effects WHERE epoch >= :first GROUP BY 1 ORDER BY 1;
-- Several commits in one transaction, savepoints between them.
CALL t.append(10);
SELECT seq_current_committed_epoch() - 9 AS first \gset
BEGIN;
SELECT t.process('back', 1), seq_commit('back');
SAVEPOINT a;
SELECT t.process('back', 1), seq_commit('back');
ROLLBACK TO a;
SELECT t.process('back', 2);
SAVEPOINT b;
SELECT t.process('back', 1), seq_commit('back');
SAVEPOINT c;
SELECT t.process('back', 1), seq_commit('back');
RELEASE b;
SELECT t.process('back', 1), seq_commit('back');
SAVEPOINT d;
SELECT t.process('back', 1), seq_commit('back');
SAVEPOINT e;
SELECT seq_commit('back');
ROLLBACK TO d;
SELECT t.process('back', 1);
SELECT seq_commit('back');
COMMIT;
SELECT epoch - :first AS epoch, "position" FROM seq_cursors WHERE name = 'back' AND vshard = 97;
SELECT t.process('back') = 3 AS rest;
SELECT seq_commit('back');
SELECT array_agg(epoch - :first ORDER BY n) FROM t.effects WHERE epoch >= :first;
-- a first one that is rolled back leaves nothing,
SELECT seq_subscribe('{97}', 'new', from_epoch => :first);
BEGIN;
SELECT count(*) FROM seq_receive(3, '0', 'new');
SELECT seq_commit('new');
ROLLBACK;
SELECT count(*) FROM seq_cursors WHERE name = 'new';
BEGIN;
SELECT count(*) FROM seq_receive(3, '0', 'new');
SAVEPOINT s;
SELECT seq_commit('new');
ROLLBACK TO s;
SELECT seq_commit('new');
SELECT count(*) FROM seq_receive(1, '0', 'new');
COMMIT;
SELECT epoch - :first AS epoch FROM seq_cursors WHERE name = 'new';
-- nor does one in an exception block.
DO $$
BEGIN
	BEGIN
		PERFORM seq_receive(2, '0', 'new');
		PERFORM seq_commit('new');
		RAISE 'failed';
	EXCEPTION WHEN raise_exception THEN
	END;
	PERFORM seq_receive(1, '0', 'new');
	PERFORM seq_commit('new');
END $$;
SELECT epoch - :first AS epoch FROM seq_cursors WHERE name = 'new';
-- One that is taken back still has to be made.
BEGIN;
SELECT count(*) FROM seq_receive(1, '0', 'new');
SAVEPOINT s;
SELECT seq_commit('new');
ROLLBACK TO s;
SELECT seq_commit('new');
COMMIT;
SELECT epoch - :first AS epoch FROM seq_cursors WHERE name = 'new';
SELECT seq_unsubscribe(name => 'new') + seq_drop_cursor('new');

-- seq_rewind goes to the cursor: the committed one, or this transaction's own,
SELECT seq_unsubscribe(name => 'back');
SELECT seq_subscribe('{97}', 'back', from_epoch => :first);
SELECT count(*) FROM seq_receive(3, '0', 'back');
SELECT seq_commit('back');
INSERT INTO t.first VALUES (:first);
SELECT t.next(2);
SELECT seq_rewind('back');
SELECT t.next(2);
BEGIN;
SELECT t.next();
SELECT seq_rewind('back');
SELECT t.next(2), seq_commit('back'), t.next(2);
SELECT seq_rewind('back');
SELECT t.next();
ROLLBACK;
SELECT t.next(2);
-- also twice, and at the beginning;
BEGIN;
SELECT seq_rewind('back');
SELECT t.next(2);
SELECT seq_rewind('back');
SELECT seq_rewind('back');
SELECT t.next(2);
COMMIT;
-- in a savepoint that is rolled back it did not happen,
BEGIN;
SELECT t.next(2);
SAVEPOINT a;
SELECT seq_rewind('back');
SELECT t.next();
ROLLBACK TO a;
SELECT t.next();
SELECT seq_rewind('back');
SELECT t.next(2);
SAVEPOINT b;
SELECT seq_rewind('back');
ROLLBACK TO b;
SELECT t.next();
DO $$
BEGIN
	PERFORM seq_rewind('back');
	RAISE 'failed';
EXCEPTION WHEN raise_exception THEN
END $$;
SELECT t.next();
COMMIT;
SELECT t.next();
-- in one that is released, it did.
BEGIN;
SAVEPOINT a;
SELECT seq_rewind('back');
RELEASE a;
SELECT t.next(2);
COMMIT;
-- seq_commit right after it, or after a rollback, takes nothing back.
SELECT seq_rewind('back');
SELECT seq_commit('back');
SELECT t.next(2);
SELECT 1 / 0;
SELECT seq_commit('back');
SELECT t.next(2);
SELECT seq_rewind('back');
SELECT epoch - :first AS epoch FROM seq_cursors WHERE name = 'back' AND vshard = 97;
