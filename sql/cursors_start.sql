--
-- Durable cursors and where a subscription starts.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\i :src/test/regress/cursors.sql

CALL t.append(2, '{z}');
CALL t.append(7, '{b}');
SELECT 9 AS first \gset
CALL t.append(10);
INSERT INTO t.first VALUES (:first);
SELECT seq_subscribe('{97}', 'back', from_epoch => :first);
SELECT seq_commit('back');

-- from_epoch goes before the cursor: back,
SELECT seq_unsubscribe(name => 'back');
SELECT seq_subscribe('{97}', 'back', from_epoch => :first + 1);
SELECT t.next(), seq_commit('back');
SELECT epoch - :first AS epoch FROM seq_cursors WHERE name = 'back' AND vshard = 97;
-- forward,
SELECT seq_subscribe('{97}', 'back', from_epoch => :first + 6);
SELECT t.next(), seq_commit('back');
SELECT epoch - :first AS epoch FROM seq_cursors WHERE name = 'back' AND vshard = 97;
-- and it is not undone by a rollback, before which nothing is passed over,
SELECT seq_subscribe('{97}', 'back', from_epoch => :first + 1);
BEGIN;
SELECT t.next(2);
ROLLBACK;
SELECT t.next(2);
SELECT seq_commit('back');
SELECT t.next(2);
SELECT 1 / 0;
SELECT t.next(2);
SELECT seq_subscribe('{97}', 'back', from_epoch => :first + 1);
BEGIN;
SELECT t.next(2);
SELECT seq_rewind('back');
SELECT t.next(3);
COMMIT;
SELECT seq_commit('back');
SELECT seq_subscribe('{97}', 'back', from_epoch => :first);
SELECT seq_rewind('back');
SELECT t.next(2);
-- nor by an earlier one. seq_commit stores it, with or without any receiving.
SELECT seq_unsubscribe(name => 'back');
SELECT seq_subscribe('{97}', 'back', from_epoch => :first + 4);
SELECT seq_commit('back');
SELECT epoch - :first AS epoch FROM seq_cursors WHERE name = 'back' AND vshard = 97;
SELECT 1 / 0;
SELECT seq_subscribe('{97}', 'back', from_epoch => :first + 1);
SELECT t.next(2);
-- Other vshards of the name still go back to their cursors then.
SELECT seq_unsubscribe(name => 'back');
SELECT seq_subscribe('{97,122}', 'back', from_epoch => :first);
SELECT t.next(), seq_commit('back'), t.next(2);
SELECT 1 / 0;
SELECT seq_subscribe('{122}', 'back', from_epoch => :first - 9);
SELECT (SELECT count(*) FROM seq_receive(2, '0', 'back') WHERE vshard = 122), t.next(3);
-- A start in the future, too. A lost compare-and-set ends it, and what is
-- appended between the cursor and that start is not lost then.
SELECT seq_subscribe('{97}', 'future', from_epoch => :first + 8);
SELECT seq_commit('future');
SELECT seq_subscribe('{97}', 'future', from_epoch => :first + 1000);
SELECT 1 / 0;
SELECT t.next(10, 'future');
SELECT seq_rewind('future');
CALL t.append(3);
SELECT t.next(10, 'future');
UPDATE seq_cursor_positions SET version = version + 1 WHERE name = 'future';
SELECT seq_commit('future');
SELECT t.next(10, 'future');
CALL t.append(3);
SELECT t.next(10, 'future');
SELECT seq_commit('future');
CALL t.append(1, '{a}', 300000);
CALL t.append(2);
SELECT t.next(10, 'future');
-- To be stored it has to be in the log, or next.
SELECT seq_subscribe('{97}', 'future', from_epoch => :first + 1000);
SELECT seq_commit('future');
SELECT epoch - :first AS epoch FROM seq_cursors WHERE name = 'future';
-- one that is beyond was stored for another log, or by the owner
UPDATE seq_cursor_positions SET epoch = epoch + 1000 WHERE name = 'future';
SELECT seq_subscribe('{97}', 'future');
UPDATE seq_cursor_positions SET epoch = epoch - 1000 WHERE name = 'future';
SELECT seq_subscribe('{97}', 'future');
CALL t.append(1);
SELECT t.next(10, 'future');
SELECT seq_unsubscribe(name => 'future') + seq_drop_cursor('future');
-- Subscribed at this transaction's own cursor, which is then rolled back:
-- again, nothing is lost, and it is not continued at what was never stored.
BEGIN;
SELECT seq_subscribe('{97}', 'own', from_epoch => :first);
SELECT t.next(2, 'own'), seq_commit('own');
SELECT seq_subscribe('{97}', 'own');
SELECT t.next(2, 'own');
ROLLBACK;
SELECT t.next(1, 'own') IN ('0', '2') AS lost_nothing;
SELECT count(*) FROM seq_cursors WHERE name = 'own';
SELECT seq_unsubscribe(name => 'own');
SELECT seq_subscribe('{97}', 'own', from_epoch => :first);
SELECT seq_commit('own');
BEGIN;
SELECT t.next(2, 'own'), seq_commit('own');
SELECT seq_subscribe('{97}', 'own');
SELECT t.next(2, 'own');
ROLLBACK;
SELECT t.next(2, 'own');
-- The same beside a stream that stays.
SELECT seq_unsubscribe(name => 'own');
SELECT seq_subscribe('{97}', 'own', from_epoch => :first);
SELECT seq_commit('own');
BEGIN;
SELECT t.next(2, 'own');
SELECT seq_subscribe('{122}', 'own', from_epoch => :first - 9);
SELECT count(*), seq_commit('own') FROM seq_receive(4, '0', 'own');
SELECT count(*) FROM seq_receive(4, '0', 'own') WHERE vshard = 122;
ROLLBACK;
SELECT count(*) FILTER (WHERE vshard = 122) AS of_122, min(epoch) FILTER (WHERE vshard = 97) - :first AS next FROM seq_receive(1000, '0', 'own');
SELECT seq_subscribe('{97}', 'own');
-- A cursor beyond the log: as restored without the log, or so.
UPDATE seq_cursor_positions SET epoch = 9223372036854775807, "position" = 4294967295 WHERE name = 'own';
SELECT seq_subscribe('{97}', 'own');
CALL t.append(1);
SELECT count(*) FROM seq_receive(1000, '0', 'own');
SELECT seq_unsubscribe(name => 'own') + seq_drop_cursor('own'), seq_unsubscribe(name => 'back') + seq_drop_cursor('back');
