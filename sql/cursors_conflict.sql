--
-- Durable cursors as a compare-and-set: who loses it, in which transactions.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\i :src/test/regress/cursors.sql

CALL t.append(2, '{z}');
CALL t.append(7, '{b}');
SELECT 9 AS first \gset
CALL t.append(20);

-- The cursor is moved by somebody else: the transaction fails, savepoints or
-- not, and the session goes on from there.
SELECT seq_subscribe('{97,98}', 'cas', from_epoch => :first);
SELECT seq_commit('cas');
UPDATE seq_cursor_positions SET epoch = :first + 5, version = version + 1 WHERE name = 'cas' AND vshard = 97;
BEGIN;
SELECT count(*) FROM seq_receive(3, '0', 'cas');
SAVEPOINT s;
SELECT seq_commit('cas');
ROLLBACK TO s;
SELECT count(*) FROM seq_receive(2, '0', 'cas');
SELECT seq_commit('cas');
ROLLBACK TO s;
SELECT t.failure('SELECT seq_commit(''cas'')');
COMMIT;
SELECT min(epoch) - :first AS next FROM seq_receive(1, '0', 'cas');
SELECT seq_commit('cas');
-- In an exception block, the same.
UPDATE seq_cursor_positions SET version = version + 1 WHERE name = 'cas' AND vshard = 97;
DO $$
BEGIN
	PERFORM seq_receive(1, '0', 'cas');
	FOR i IN 1..2 LOOP
		BEGIN
			PERFORM seq_commit('cas');
			RAISE NOTICE 'committed';
		EXCEPTION WHEN serialization_failure THEN
			RAISE NOTICE 'failed';
		END;
	END LOOP;
END $$;
SELECT min(epoch) - :first AS next FROM seq_receive(1, '0', 'cas');
SELECT seq_commit('cas');
SELECT vshard, epoch - :first AS epoch, version FROM seq_cursors WHERE name = 'cas' ORDER BY 1;
UPDATE seq_cursor_positions SET epoch = :first + 8, version = version + 1 WHERE name = 'cas' AND vshard = 97;
SELECT count(*) FROM seq_receive(1, '0', 'cas');
SELECT seq_commit('cas');
SELECT min(epoch) - :first AS next FROM seq_receive(1, '0', 'cas');
SELECT seq_commit('cas');
-- one that was not there is,
SELECT seq_subscribe('{99}', 'cas', from_epoch => :first);
CALL t.append(1, '{c}');
SELECT seq_current_committed_epoch() AS last \gset
INSERT INTO seq_cursor_positions VALUES ('cas', 99, :last + 1, 0, 7, now());
SELECT count(*) FROM seq_receive(1, '0', 'cas') WHERE vshard = 99;
SELECT seq_commit('cas');
SELECT count(*) FROM seq_receive(10, '0', 'cas') WHERE vshard = 99;
SELECT version FROM seq_cursors WHERE name = 'cas' AND vshard = 99;
-- one is there no more.
SELECT count(*) >= 0 AS x FROM seq_receive(1000, '0', 'cas') \gset
SELECT seq_commit('cas') > 0 AS moved;
CALL t.append(1, '{"a,b,c"}');
SELECT seq_drop_cursor('cas', '{98,99,100}');
BEGIN;
SELECT count(*) FROM seq_receive(1000, '0', 'cas');
SELECT seq_commit('cas');
ROLLBACK;
BEGIN;
SELECT count(*) FROM seq_receive(1000, '0', 'cas');
SELECT seq_commit('cas');
COMMIT;
SELECT vshard, version > 1 AS old FROM seq_cursors WHERE name = 'cas' ORDER BY 1;
-- The error in full.
UPDATE seq_cursor_positions SET version = version + 1 WHERE name = 'cas';
CALL t.append(1, '{"a,b,c"}');
SELECT count(*) FROM seq_receive(1000, '0', 'cas');
\set VERBOSITY verbose
\set SHOW_CONTEXT never
SELECT t.failure('SELECT seq_commit(''cas'')');
\set VERBOSITY default
SELECT seq_unsubscribe(name => 'cas'), seq_drop_cursor('cas');

-- In any isolation level; read-only transactions cannot.
SELECT seq_subscribe('{97}', 'level', from_epoch => :first);
SELECT seq_commit('level');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM seq_receive(1, '0', 'level');
SELECT seq_commit('level');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM seq_receive(1, '0', 'level');
SELECT seq_commit('level');
SELECT count(*) FROM seq_receive(1, '0', 'level');
SELECT seq_commit('level');
COMMIT;
BEGIN READ ONLY;
SELECT epoch - :first AS next FROM seq_receive(1, '0', 'level');
SELECT seq_commit('level');
ROLLBACK;
BEGIN READ ONLY;
SELECT epoch - :first AS next FROM seq_receive(1, '0', 'level');
SELECT seq_drop_cursor('level');
ROLLBACK;
SELECT epoch - :first AS epoch FROM seq_cursors WHERE name = 'level';
SELECT seq_unsubscribe(name => 'level') + seq_drop_cursor('level');

-- Bare subscriptions have no position.
SELECT seq_subscribe('{97}', 'bare', lossless => false);
SELECT seq_commit('bare');
SELECT seq_subscribe('{98}', 'bare');
CALL t.append(1, '{"a,b"}');
BEGIN;
SELECT count(*) FROM seq_receive(10, '0', 'bare');
SELECT seq_commit('bare');
ROLLBACK;
SELECT vshard FROM seq_receive(10, '0', 'bare');
SELECT seq_commit('bare');
SELECT vshard, (SELECT max(epoch) - seq_current_committed_epoch() FROM seq_cursors WHERE name = 'bare') AS epoch FROM seq_cursors WHERE name = 'bare';
SELECT seq_unsubscribe(name => 'bare') + seq_drop_cursor('bare');
