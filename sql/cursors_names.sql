--
-- Durable cursors by name: names, privileges, dropping them.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\i :src/test/regress/cursors.sql

CALL t.append(2, '{z}');
CALL t.append(7, '{b}');
SELECT 9 AS first \gset
CALL t.append(10);

--
-- Names
--

CREATE TABLE t.names (n int GENERATED ALWAYS AS IDENTITY, name text);
INSERT INTO t.names (name) VALUES ('it''s "quoted"; DROP TABLE seq_cursors; --'), ('X'), ('x'), (E'tab\tand\nnewline'), (repeat('n', 63)), (repeat('n', 62)), ('%s %I $1 \ {}'), (' ');
SELECT n, seq_subscribe('{97}', name, from_epoch => :first + n) FROM t.names;
BEGIN;
SELECT n, (SELECT min(epoch) - :first FROM seq_receive(1, '0', name)) AS next, seq_commit(name) FROM t.names ORDER BY 1;
COMMIT;
SELECT n, name = (SELECT c.name::text FROM seq_cursors c WHERE c.name::text = n.name) AS same, (SELECT epoch - :first FROM seq_cursors c WHERE c.name::text = n.name) AS epoch, seq_unsubscribe(name => name), seq_drop_cursor(name) FROM t.names n ORDER BY 1;
SELECT * FROM t.cursors();
-- Not in ASCII: bytes count.
DO $$
DECLARE
	bytes int := octet_length(chr(233));
	longest text := repeat(chr(233), 63 / bytes) || repeat('x', 63 % bytes);
BEGIN
	PERFORM seq_subscribe('{97}', longest, from_epoch => 0);
	ASSERT seq_commit(longest) = 1;
	ASSERT (SELECT count(*) FROM seq_cursors WHERE name::text = longest) = 1;
	ASSERT seq_drop_cursor(longest) = 1;
	ASSERT seq_unsubscribe(name => longest) = 1;
	RAISE NOTICE '%', t.failure(format('SELECT seq_drop_cursor(%L)', longest || 'x'));
END $$;

--
-- Privileges
--

SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_cursor_consumer, regress_cursor_nobody;
RESET client_min_messages;
CREATE ROLE regress_cursor_nobody;
CREATE ROLE regress_cursor_consumer;
GRANT EXECUTE ON FUNCTION seq_subscribe, seq_receive, seq_commit, seq_rewind, seq_drop_cursor, seq_unsubscribe TO regress_cursor_consumer;
SET ROLE regress_cursor_nobody;
SELECT c, t.failure(c) FROM unnest(ARRAY['SELECT seq_commit()', 'SELECT seq_rewind()', 'SELECT seq_drop_cursor(''back'')', 'TABLE seq_cursors',
	'INSERT INTO seq_cursor_positions VALUES (''x'', 1, 1, 1, 1, now())', 'UPDATE seq_cursor_positions SET epoch = 0', 'DELETE FROM seq_cursor_positions']) c;
SET ROLE regress_cursor_consumer;
SELECT seq_subscribe('{97}', 'theirs', from_epoch => :first);
BEGIN;
SELECT count(*) FROM seq_receive(2, '0', 'theirs');
SELECT seq_commit('theirs');
COMMIT;
SELECT count(*) FROM seq_receive(2, '0', 'theirs');
SELECT seq_rewind('theirs');
SELECT epoch - :first AS next FROM seq_receive(1, '0', 'theirs');
SELECT seq_commit('theirs');
-- whoever shadows what it is made of,
CREATE TEMP TABLE seq_cursors (LIKE pg_class);
CREATE TEMP TABLE seq_cursor_positions (LIKE pg_class);
CREATE FUNCTION pg_temp.unnest(anyarray, anyarray, anyarray, anyarray) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'called as %', current_user; END $$;
SET search_path = pg_temp, public, pg_catalog;
SELECT epoch - :first AS next FROM seq_receive(1, '0', 'theirs');
SELECT seq_commit('theirs');
SELECT seq_drop_cursor('theirs', '{98}');
RESET search_path;
SELECT t.failure('TABLE public.seq_cursors');
SELECT seq_unsubscribe(name => 'theirs');
RESET ROLE;
DROP TABLE pg_temp.seq_cursors, pg_temp.seq_cursor_positions;
SELECT epoch - :first AS epoch, version FROM seq_cursors WHERE name = 'theirs';
SET ROLE regress_cursor_consumer;
SELECT seq_drop_cursor('theirs');
RESET ROLE;
-- with or without row security.
ALTER TABLE seq_cursor_positions ENABLE ROW LEVEL SECURITY;
SET ROLE regress_cursor_consumer;
SELECT seq_subscribe('{97}', 'theirs', from_epoch => :first);
SELECT seq_commit('theirs');
SELECT count(*) FROM seq_receive(2, '0', 'theirs');
SELECT seq_commit('theirs');
SELECT seq_unsubscribe(name => 'theirs'), seq_drop_cursor('theirs');
RESET ROLE;
ALTER TABLE seq_cursor_positions DISABLE ROW LEVEL SECURITY;
DROP OWNED BY regress_cursor_consumer, regress_cursor_nobody;
DROP ROLE regress_cursor_consumer, regress_cursor_nobody;

--
-- Dropping
--

-- Dropping some and all, of one name.
SELECT seq_subscribe('{97,98,99}', 'drop', from_epoch => 0);
SELECT seq_subscribe('{97,98,99}', 'drop too', from_epoch => 0);
SELECT seq_commit('drop') + seq_commit('drop too');
SELECT seq_drop_cursor('drop', '{98,100,98}');
BEGIN;
SELECT seq_drop_cursor('drop too', '{97}');
ROLLBACK;
SELECT * FROM t.cursors() WHERE name LIKE 'drop%';
SELECT seq_drop_cursor('drop'), seq_drop_cursor('drop', '{97}'), seq_drop_cursor('drop');
SELECT * FROM t.cursors() WHERE name LIKE 'drop%';
-- They need no subscription and end none; it begins anew afterwards.
SELECT count(*) FROM seq_subscriptions WHERE name LIKE 'drop%';
SELECT seq_unsubscribe(name => 'drop') + seq_unsubscribe(name => 'drop too');
SELECT seq_subscribe('{97}', 'drop too');
SELECT t.take('drop too') = (SELECT string_agg(format('%s:%s.%s', vshard, epoch, "position"), ' ') FROM seq_replay(97, 0, 1000000)) AS from_cursor;
SELECT seq_drop_cursor('drop too');
SELECT seq_subscribe('{97}', 'drop too');
SELECT t.take('drop too') IS NULL AS from_now;
SELECT seq_unsubscribe(name => 'drop too');

-- Given up and subscribed again in one transaction: its rollback leads back to
-- where the first one stood, also where the second one began at the cursor
-- that is rolled back.
SELECT seq_subscribe('{97}', 'twice', from_epoch => :first);
BEGIN;
SELECT count(*) FROM seq_receive(2, name => 'twice');
SELECT seq_commit('twice');
SELECT seq_unsubscribe(name => 'twice');
SELECT seq_subscribe('{97}', 'twice');
SELECT epoch - :first AS epoch FROM seq_receive(1, name => 'twice');
ROLLBACK;
SELECT epoch - :first AS epoch FROM seq_receive(1, name => 'twice');
SELECT seq_unsubscribe(name => 'twice');
-- given up for good
BEGIN;
SELECT seq_subscribe('{97}', 'twice', from_epoch => :first);
SELECT count(*) FROM seq_receive(2, name => 'twice');
SELECT seq_unsubscribe(name => 'twice');
SELECT t.failure('SELECT seq_receive(name => ''twice'')');
COMMIT;
SELECT t.failure('SELECT seq_receive(name => ''twice'')');
