--
-- Durable cursors: seq_commit, seq_rewind, seq_drop_cursor, seq_cursors.
--
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS calvin_seq CASCADE;
DROP SCHEMA IF EXISTS t CASCADE;
CREATE EXTENSION calvin_seq;
CREATE SCHEMA t;
RESET client_min_messages;

-- Wait for the applier of this database.
DO $$
BEGIN
	FOR i IN 1..6000 LOOP
		BEGIN
			IF (SELECT applier_pid IS NOT NULL AND last_applied_index = 0 FROM seq_state) THEN
				RETURN;
			END IF;
		EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
		END;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RAISE 'the applier did not start';
END $$;
CREATE PROCEDURE t.wait_applied() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..6000 LOOP
		IF (SELECT applier_pid IS NOT NULL AND last_applied_index = (SELECT coalesce(max(log_index), 0) FROM seq_log) FROM seq_state) THEN
			RETURN;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RAISE 'the log was not applied';
END $$;
CREATE FUNCTION t.failure(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE command;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(': ', SQLSTATE, SQLERRM, nullif(detail, ''));
END $$;
-- A batch: for each text a transaction that writes the collections named in
-- it; plans of so many bytes. Vshards: 97 for "a", 98 for "b" and so on.
CREATE FUNCTION t.batch(epoch bigint, txns text[] DEFAULT '{a}', plans int DEFAULT 1)
RETURNS bytea LANGUAGE sql AS $$
	SELECT seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object(
		'epoch', epoch, 'epoch_system_ms', 1000 + epoch, 'txns',
		(SELECT coalesce(jsonb_agg(jsonb_build_object('tx_class', jsonb_build_object(
			'plans', '\x' || repeat('70', plans), 'tenant_id', i, 'write_set',
			(SELECT coalesce(jsonb_agg(jsonb_build_object('Document', jsonb_build_object('collection', c, 'surrogates', '[]'::jsonb))), '[]')
				FROM unnest(string_to_array(t, ',')) c))) ORDER BY i), '[]')
			FROM unnest(txns) WITH ORDINALITY AS u (t, i)))))
$$;
-- Append the next so many epochs, or from an epoch on, and wait until they
-- are applied.
CREATE PROCEDURE t.append(n int, txns text[] DEFAULT '{a}', plans int DEFAULT 1, first bigint DEFAULT NULL) LANGUAGE plpgsql AS $$
BEGIN
	first := coalesce(first, seq_current_committed_epoch() + 1, 0);
	INSERT INTO seq_log (entry) SELECT t.batch(first + i, txns, plans) FROM generate_series(0, n - 1) i;
	COMMIT;
	CALL t.wait_applied();
END $$;
-- What there is to receive, as vshard:epoch.position in the order it comes.
CREATE FUNCTION t.take(name text DEFAULT 'default', max_txns int DEFAULT 10000) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s:%s.%s', vshard, epoch, "position"), ' ' ORDER BY n)
		FROM seq_receive(max_txns, '0', name) WITH ORDINALITY
			AS t (vshard, epoch, "position", ms, tenant, vshards, plans, tx_class, n)
$$;
CREATE FUNCTION t.cursors(OUT name text, OUT cursors text) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT name, string_agg(format('%s:%s.%s', vshard, epoch, "position"), ' ' ORDER BY vshard) FROM seq_cursors GROUP BY 1 ORDER BY 1
$$;
-- What there was once processed, by whom.
CREATE TABLE t.effects (n int GENERATED ALWAYS AS IDENTITY, vshard int, epoch bigint, "position" int, UNIQUE (vshard, epoch, "position"));
CREATE FUNCTION t.process(name text DEFAULT 'default', max_txns int DEFAULT 10000) RETURNS int LANGUAGE sql AS $$
	WITH i AS (INSERT INTO t.effects (vshard, epoch, "position") SELECT vshard, epoch, "position" FROM seq_receive(max_txns, '0', name) RETURNING 1)
	SELECT count(*)::int FROM i
$$;
-- Nothing here waits long, unless it is broken.
SET statement_timeout = '2 min';

-- The table.
SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attrelid = 'seq_cursors'::regclass AND attnum > 0 ORDER BY attnum;
SELECT t.failure(format('INSERT INTO seq_cursors VALUES (%s, now())', c)) LIKE '23%' AS refused FROM unnest(ARRAY[
	'''x'', -1, 0, 0, 1', '''x'', 1024, 0, 0, 1', '''x'', 1, -1, 0, 1', '''x'', 1, 0, -1, 1', '''x'', 1, 0, 0, 0', 'NULL, 1, 0, 0, 1']) c;

--
-- Committing and continuing
--

SELECT c, t.failure('SELECT ' || c) FROM unnest(ARRAY[
	'seq_commit()', 'seq_rewind()', 'seq_commit(NULL)', 'seq_rewind(NULL)', 'seq_commit('''')', 'seq_commit(repeat(''x'', 64))', 'seq_drop_cursor(NULL)',
	'seq_drop_cursor('''')', 'seq_drop_cursor(repeat(''x'', 64))', 'seq_drop_cursor(''x'', ''{}'')', 'seq_drop_cursor(''x'', ''{1024}'')']) c;
SELECT seq_drop_cursor('default'), seq_drop_cursor('default', '{97}');
CALL t.append(3, '{"a,b"}');
-- Before the first transaction: what comes after the subscription.
SELECT seq_subscribe('{97,98}');
SELECT * FROM t.cursors();
SELECT seq_commit();
SELECT * FROM t.cursors();
SELECT version, committed_at BETWEEN now() - interval '1 min' AND clock_timestamp() AS stamped FROM seq_cursors;
-- Receive, effects and seq_commit in one transaction.
CALL t.append(3, '{a,"a,b"}');
BEGIN;
SELECT t.process(max_txns => 4);
SELECT seq_commit() > 0 AS moved;
COMMIT;
SELECT * FROM t.cursors();
SELECT * FROM t.effects ORDER BY n;
-- Nothing is stored that did not move.
SELECT seq_commit();
-- Another session continues there, as this one does when it comes back;
SELECT seq_unsubscribe();
SELECT seq_subscribe('{97,98}');
SELECT t.take();
\c -
SET statement_timeout = '2 min';
SELECT seq_subscribe('{97,98}');
SELECT t.take();
-- what was received but not committed is received again.
\c -
SET statement_timeout = '2 min';
SELECT seq_subscribe('{97,98}');
BEGIN;
SELECT t.process();
SELECT seq_commit() > 0 AS moved;
COMMIT;
\c -
SET statement_timeout = '2 min';
SELECT seq_subscribe('{97,98}');
SELECT t.take();
CALL t.append(1, '{b}');
SELECT t.take();
SELECT seq_unsubscribe();
SELECT * FROM t.cursors();

-- Quiet vshards continue, too: nothing that comes between sessions is lost,
-- whether anything came before or not.
SELECT seq_subscribe('{97,98,99,100}', 'quiet');
SELECT t.take('quiet');
CALL t.append(1);
SELECT t.process('quiet');
SELECT seq_commit('quiet');
\c -
SET statement_timeout = '2 min';
CALL t.append(1, '{"a,b,c"}');
SELECT seq_subscribe('{97,98,99}', 'quiet');
CALL t.append(1, '{c,b}');
SELECT t.take('quiet');
-- Subscribed without a cursor beside those with one: from now on.
CALL t.append(1, '{"a,b,d,e"}');
SELECT seq_subscribe('{99,100,101}', 'quiet');
CALL t.append(1, '{"a,b,c,d,e"}');
SELECT t.take('quiet');
SELECT seq_commit('quiet');
SELECT * FROM t.cursors() WHERE name = 'quiet';
-- A cursor with nothing to do is brought along now and then, so that nobody
-- has to read all of the log again.
CALL t.append(1022, '{z}');
SELECT t.take('quiet'), seq_commit('quiet');
CALL t.append(2, '{z}');
SELECT t.take('quiet'), seq_commit('quiet');
SELECT count(DISTINCT epoch), min(epoch) = seq_current_committed_epoch() + 1 AS at_end, sum("position") FROM seq_cursors WHERE name = 'quiet';
SELECT seq_commit('quiet'), seq_unsubscribe(name => 'quiet'), seq_drop_cursor('quiet');
SELECT seq_current_committed_epoch() + 1 AS first \gset

--
-- Going back
--

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
CREATE TABLE t.first AS SELECT :first::bigint AS epoch;
CREATE FUNCTION t.next(count int DEFAULT 1, name text DEFAULT 'back') RETURNS text LANGUAGE sql AS $$
	SELECT string_agg((epoch - (SELECT min(r.epoch) FROM t.first r))::text, ' ') FROM seq_receive(count, '0', name)
$$;
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

--
-- Starting elsewhere
--

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
UPDATE seq_cursors SET version = version + 1 WHERE name = 'future';
SELECT seq_commit('future');
SELECT t.next(10, 'future');
CALL t.append(3);
SELECT t.next(10, 'future');
SELECT seq_commit('future');
CALL t.append(1, '{a}', 300000);
CALL t.append(2);
SELECT t.next(10, 'future');
-- To be stored it has to be committed.
SELECT seq_subscribe('{97}', 'future', from_epoch => :first + 1000);
SELECT seq_commit('future');
SELECT epoch - :first AS epoch FROM seq_cursors WHERE name = 'future';
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
-- A cursor beyond the log, as restored without the log, is refused.
UPDATE seq_cursors SET epoch = 9223372036854775807, "position" = 4294967295 WHERE name = 'own';
SELECT seq_subscribe('{97}', 'own');
CALL t.append(1);
SELECT count(*) FROM seq_receive(1000, '0', 'own');
SELECT seq_unsubscribe(name => 'own') + seq_drop_cursor('own'), seq_unsubscribe(name => 'back') + seq_drop_cursor('back');

--
-- Compare and set
--

-- The cursor is moved by somebody else: the transaction fails, savepoints or
-- not, and the session goes on from there.
SELECT seq_subscribe('{97,98}', 'cas', from_epoch => :first);
SELECT seq_commit('cas');
UPDATE seq_cursors SET epoch = :first + 5, version = version + 1 WHERE name = 'cas' AND vshard = 97;
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
UPDATE seq_cursors SET version = version + 1 WHERE name = 'cas' AND vshard = 97;
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
UPDATE seq_cursors SET epoch = :first + 8, version = version + 1 WHERE name = 'cas' AND vshard = 97;
SELECT count(*) FROM seq_receive(1, '0', 'cas');
SELECT seq_commit('cas');
SELECT min(epoch) - :first AS next FROM seq_receive(1, '0', 'cas');
SELECT seq_commit('cas');
-- one that was not there is,
SELECT seq_subscribe('{99}', 'cas', from_epoch => :first);
CALL t.append(1, '{c}');
SELECT seq_current_committed_epoch() AS last \gset
INSERT INTO seq_cursors VALUES ('cas', 99, :last + 1, 0, 7, now());
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
UPDATE seq_cursors SET version = version + 1 WHERE name = 'cas';
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
	IF seq_commit(longest) <> 1 OR NOT EXISTS (SELECT FROM seq_cursors WHERE name::text = longest) OR seq_drop_cursor(longest) <> 1
			OR seq_unsubscribe(name => longest) <> 1 THEN
		RAISE 'not the same name';
	END IF;
	PERFORM seq_drop_cursor(longest || 'x');
END $$;

--
-- Privileges
--

SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_cursor_consumer, regress_cursor_nobody;
RESET client_min_messages;
CREATE ROLE regress_cursor_nobody;
CREATE ROLE regress_cursor_consumer;
GRANT USAGE ON SCHEMA t TO PUBLIC;
GRANT EXECUTE ON FUNCTION seq_subscribe, seq_receive, seq_commit, seq_rewind, seq_drop_cursor, seq_unsubscribe TO regress_cursor_consumer;
SET ROLE regress_cursor_nobody;
SELECT c, t.failure(c) FROM unnest(ARRAY['SELECT seq_commit()', 'SELECT seq_rewind()', 'SELECT seq_drop_cursor(''back'')', 'TABLE seq_cursors',
	'INSERT INTO seq_cursors VALUES (''x'', 1, 1, 1, 1, now())', 'UPDATE seq_cursors SET epoch = 0', 'DELETE FROM seq_cursors']) c;
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
CREATE FUNCTION pg_temp.unnest(anyarray, anyarray, anyarray, anyarray) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'called as %', current_user; END $$;
SET search_path = pg_temp, public, pg_catalog;
SELECT epoch - :first AS next FROM seq_receive(1, '0', 'theirs');
SELECT seq_commit('theirs');
SELECT seq_drop_cursor('theirs', '{98}');
RESET search_path;
SELECT t.failure('TABLE public.seq_cursors');
SELECT seq_unsubscribe(name => 'theirs');
RESET ROLE;
DROP TABLE pg_temp.seq_cursors;
SELECT epoch - :first AS epoch, version FROM seq_cursors WHERE name = 'theirs';
SET ROLE regress_cursor_consumer;
SELECT seq_drop_cursor('theirs');
RESET ROLE;
-- with or without row security.
ALTER TABLE seq_cursors ENABLE ROW LEVEL SECURITY;
SET ROLE regress_cursor_consumer;
SELECT seq_subscribe('{97}', 'theirs', from_epoch => :first);
SELECT seq_commit('theirs');
SELECT count(*) FROM seq_receive(2, '0', 'theirs');
SELECT seq_commit('theirs');
SELECT seq_unsubscribe(name => 'theirs'), seq_drop_cursor('theirs');
RESET ROLE;
ALTER TABLE seq_cursors DISABLE ROW LEVEL SECURITY;
DROP OWNED BY regress_cursor_consumer, regress_cursor_nobody;
DROP ROLE regress_cursor_consumer, regress_cursor_nobody;

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
SET client_min_messages = warning;
DROP SCHEMA t CASCADE;
