--
-- seq_truncate(): as far as nobody needs the log
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\set VERBOSITY terse
CREATE VIEW t.positions AS SELECT name, vshard, epoch, "position" FROM seq_cursors ORDER BY 1, 2;
CREATE VIEW t.log AS SELECT min(epoch) AS first, max(epoch) AS last, count(*) FROM seq_log;
CREATE FUNCTION t.received(name text) RETURNS bigint[] LANGUAGE sql AS
	$$ SELECT array_agg(epoch ORDER BY epoch) FROM seq_receive(1000, name => $1) $$;
CREATE FUNCTION t.fetched(name text, n int DEFAULT 1000) RETURNS text LANGUAGE sql AS
	$$ SELECT string_agg(vshard || '@' || epoch, ' ' ORDER BY epoch, vshard) FROM seq_fetch($1, $2) $$;

-- Nobody: all but the last batch, which tells the epoch; and what is behind it.
SELECT seq_truncate();
CALL t.append(5, '{a,b}');
INSERT INTO seq_log (entry) VALUES (''), ('');
CALL t.wait_applied();
SELECT seq_truncate();
TABLE t.log;
SELECT seq_truncate();

-- A durable cursor, registered or not, holds what is for it from there on; what is in
-- front of it, and quiet vshards, do not matter.
CALL t.append(3, '{b}');
SELECT seq_register('r', '{97,98}', 5);
CALL t.append(3, '{b}');
CALL t.append(2, '{a}');
-- 5..10 are for b, 11 and 12 for a
TABLE t.log;
SELECT seq_truncate();
SELECT seq_subscribe('{97,98}', 'r');
SELECT t.received('r');
SELECT seq_truncate();
SELECT seq_commit('r');
SELECT seq_unsubscribe(name => 'r');
TABLE t.positions;
SELECT seq_truncate();
TABLE t.log;
-- one that stands far behind, but needs only what came at last
SELECT seq_register('quiet', '{99}'), seq_unregister('r');
CALL t.append(40, '{a}');
CALL t.append(1, '{c}');
CALL t.append(5, '{a}');
TABLE t.positions;
SELECT seq_truncate();
TABLE t.log;
TABLE t.positions;
SELECT seq_subscribe('{99}', 'quiet'), t.received('quiet'), seq_commit('quiet');
SELECT seq_unsubscribe(name => 'quiet'), seq_unregister('quiet');

-- A live lossless consumer; what is received, and not committed, he could want again.
SELECT seq_subscribe('{97}', 'l');
CALL t.append(3);
TABLE t.log;
SELECT seq_truncate();
TABLE t.log;
BEGIN;
SELECT t.received('l');
SELECT seq_truncate();
COMMIT;
SELECT seq_truncate();
TABLE t.log;
SELECT seq_unsubscribe(name => 'l');

-- A group: from its first partition that lacks something on.  What another transaction
-- has fetched and not committed may come again; what passes none of its filters is
-- not for it.
SELECT seq_create_group('g', 4), seq_create_group('f', collections => '{b}');
CALL t.append(4, '{a}');
CALL t.append(2, '{b}');
CALL t.append(2, '{a}');
TABLE t.log;
-- g needs all of it
SELECT seq_truncate();
SELECT t.failure('SELECT seq_truncate(66)');
SELECT t.failure('SELECT seq_truncate(67)');
BEGIN;
SELECT t.fetched('g', 2);
SELECT seq_truncate();
COMMIT;
SELECT t.fetched('g');
SELECT seq_truncate();
TABLE t.log;
SELECT t.failure('SELECT seq_truncate(69)');
SELECT t.fetched('f');
SELECT seq_truncate();
TABLE t.log;
-- positions of the partitions, and of what was for others, stay behind, which is no loss
SELECT count(*), min(epoch) < (SELECT first FROM t.log) AS behind FROM seq_group_positions;
CALL t.append(2, '{b,c}');
SELECT t.fetched('g'), t.fetched('f');
-- parked is processed, as to the log: the content is beside it
CALL t.append(1, '{b}');
SELECT epoch, seq_park('f', 98, epoch, 0, 'for later') FROM seq_log WHERE kind = 'epoch_batch' ORDER BY epoch DESC LIMIT 1;
SELECT t.fetched('g'), t.fetched('f');
CALL t.append(1, '{c}');
SELECT seq_truncate();
TABLE t.log;
SELECT name, epoch FROM seq_parked;
SELECT p.epoch FROM seq_parked p, seq_retry('f', 98, p.epoch, 0) r;

-- Forced past groups: they are lost, and hold nothing from then on.
CALL t.append(3, '{b}');
SELECT seq_truncate(75, true);
SELECT t.failure($$SELECT t.fetched('f')$$);
SELECT name, state FROM seq_consumers ORDER BY 1;
CALL t.append(3, '{b}');
SELECT seq_truncate();
TABLE t.log;
SELECT seq_drop_group('f'), seq_drop_group('g');

-- Forced past a cursor: it is lost likewise.
SELECT seq_register('r', '{98}'), seq_register('s', '{99}');
CALL t.append(3, '{b}');
SELECT t.failure('SELECT seq_truncate(82)');
SELECT seq_truncate(82, true);
CALL t.append(3, '{b}');
SELECT seq_truncate();
TABLE t.log;
SELECT name, state FROM seq_consumers ORDER BY 1;
SELECT t.failure($$SELECT seq_subscribe('{98}', 'r')$$);
SELECT t.failure($$SELECT seq_pending('r')$$);
-- the way out
SELECT first FROM t.log \gset
SELECT seq_subscribe('{98}', 'r', from_epoch => :first), t.received('r'), seq_commit('r');
SELECT name, state FROM seq_consumers ORDER BY 1;
-- and past a live one, whose queue is too small
SELECT seq_unsubscribe(name => 'r');
SELECT seq_subscribe('{98}', 'r', queue_size => 8192);
CALL t.append(300, '{b}');
SELECT count(*) > 0 FROM seq_receive(10, name => 'r');
SELECT t.failure($$SELECT seq_truncate(380)$$) ~ '^55006';
SELECT seq_truncate(380, true) > 0;
CALL t.append(2, '{c}');
SELECT t.failure($$SELECT t.received('r') FROM generate_series(1, 2)$$);
SELECT seq_truncate();
TABLE t.log;
-- nothing for him came since, but what he was passed in is not taken for nothing
SELECT t.failure($$SELECT t.received('r')$$);
SELECT seq_unregister('r'), seq_unregister('s');
SELECT seq_unsubscribe(name => 'r');

-- Not on the sly: who may, and where.
CREATE ROLE regress_truncator;
SET ROLE regress_truncator;
SELECT seq_truncate();
RESET ROLE;
GRANT EXECUTE ON FUNCTION seq_truncate() TO regress_truncator;
SET ROLE regress_truncator;
SELECT seq_truncate();
RESET ROLE;
DROP OWNED BY regress_truncator;
DROP ROLE regress_truncator;
BEGIN READ ONLY;
SELECT seq_truncate();
ROLLBACK;
-- rolled back, nothing is gone, and nobody is lost
SELECT seq_register('r', '{97}');
CALL t.append(3);
BEGIN;
SELECT seq_truncate();
SELECT seq_truncate(1000000, true);
ROLLBACK;
SELECT name, state, epochs_behind FROM seq_consumers;
SELECT seq_truncate();
SELECT name, state, epochs_behind FROM seq_consumers;
SELECT seq_unregister('r');
-- much of it, in steps
INSERT INTO seq_log (entry) SELECT t.empty_batch(e) FROM generate_series((SELECT last + 1 FROM t.log), (SELECT last + 45000 FROM t.log)) e;
CALL t.wait_applied();
SELECT seq_register('r', '{97}', last - 10) FROM t.log;
CALL t.append(1);
SELECT seq_truncate() > 45000 AS all_of_it;
SELECT last - first AS stays FROM t.log;
SELECT last_applied_epoch = (SELECT first - 1 FROM t.log) AS ok, count(*) OVER () FROM seq_snapshots WHERE base;
DROP EXTENSION calvin_seq CASCADE;
DROP SCHEMA t CASCADE;
