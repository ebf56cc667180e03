--
-- What a group sets aside: seq_park, seq_retry, seq_drop_parked, in every state
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\set VERBOSITY terse
SET timezone = 'UTC';
SET statement_timeout = '1min';
CREATE FUNCTION t.fetched(name text, n int DEFAULT 1000) RETURNS text LANGUAGE sql AS
	$$ SELECT string_agg(concat_ws('/', vshard, epoch, "position"), ' ') FROM seq_fetch($1, $2) $$;
CREATE VIEW t.parked AS SELECT name, vshard, epoch, "position", reason, attempts FROM seq_parked ORDER BY 1, 3, 4, 2;
-- also those that only the group is still to pass by
CREATE VIEW t.kept AS SELECT vshard, epoch, "position", settled, length(tx_class) > 0 AS content FROM seq_parked_txns ORDER BY 2, 3, 1;
SELECT seq_create_group('g', 2, '{97,98}'), seq_create_group('filtered', 1, '{97,98,99}', '{b}');
CALL t.append(10, '{a,b}');

-- Arguments.
SELECT c, t.failure('SELECT ' || c) FROM unnest(ARRAY[
	$$seq_park(NULL, 97, 0, 0, '')$$, $$seq_park('g', NULL, 0, 0, '')$$, $$seq_park('g', 97, NULL, 0, '')$$, $$seq_park('g', 97, 0, NULL, '')$$, $$seq_park('g', 97, 0, 0, NULL)$$,
	$$seq_park('g', -1, 0, 0, '')$$, $$seq_park('g', 1024, 0, 0, '')$$, $$seq_park('g', 97, -1, 0, '')$$, $$seq_park('g', 97, 0, -1, '')$$,
	$$seq_retry(NULL, 97, 0, 0)$$, $$seq_retry('g', 97, 0, NULL)$$, $$seq_retry('g', 1024, 0, 0)$$, $$seq_retry('g', 97, -1, 0)$$, $$seq_retry('g', 97, 0, -1)$$,
	$$seq_drop_parked('g', NULL, 0, 0)$$, $$seq_drop_parked('g', 97, -9223372036854775808, 0)$$, $$seq_drop_parked('g', -1, 0, 0)$$]) c;

-- What there is not, or is not for the group.
SELECT c, t.failure('SELECT ' || c) FROM unnest(ARRAY[
	$$seq_park('g', 97, 10, 0, 'not there yet')$$, $$seq_park('g', 97, 9223372036854775807, 2147483647, 'never')$$, $$seq_park('g', 97, 0, 2, 'so many there are not')$$,
	$$seq_park('g', 97, 0, 1, 'another vshard''s')$$, $$seq_park('g', 99, 0, 0, 'no vshard of it')$$, $$seq_park('filtered', 97, 0, 0, 'it passes that by')$$, $$seq_park('filtered', 99, 0, 0, 'not there')$$,
	$$seq_retry('g', 97, 0, 0)$$, $$seq_retry('g', 99, 0, 0)$$, $$seq_drop_parked('g', 97, 0, 0)$$, $$seq_drop_parked('filtered', 98, 0, 1)$$]) c;
SELECT count(*) FROM seq_parked_txns;

-- Ahead of the group: it is passed by, and is not pending; of this group alone.
SELECT seq_park('g', 97, 3, 0, 'ahead');
TABLE t.parked;
SELECT at, parked_at > now() - interval '1 min' AS parked_at, tx_class = (SELECT r.tx_class FROM seq_replay(97, 3, 3) r) AS tx_class FROM seq_parked;
SELECT seq_pending('g'), seq_pending('filtered');
SELECT parked, pending, epochs_behind FROM seq_consumers WHERE name = 'g';
-- twice
SELECT t.failure($$SELECT seq_park('g', 97, 3, 0, 'again')$$);
SELECT t.fetched('g', 7);
SELECT t.fetched('filtered', 4);
-- behind it: that is parked, too, and stays so
SELECT t.failure($$SELECT seq_park('g', 97, 3, 0, 'again')$$);
TABLE t.parked;

-- Behind the group: processed is processed, in whichever transaction.
SELECT t.failure($$SELECT seq_park('g', 97, 0, 0, 'too late')$$);
SELECT t.failure($$SELECT seq_park('g', 98, 2, 1, 'too late')$$);
-- fetched in this transaction, it can be
BEGIN;
SELECT t.fetched('g', 3);
SELECT t.failure($$SELECT seq_park('g', 97, 0, 0, 'before this transaction')$$);
SELECT seq_park('g', 97, 4, 0, 'in it');
SELECT t.failure($$SELECT seq_park('g', 97, 4, 0, 'again')$$);
-- behind a savepoint: undone with that
SAVEPOINT s;
SELECT seq_park('g', 98, 4, 1, 'undone');
ROLLBACK TO s;
SELECT seq_park('g', 98, 4, 1, 'once more');
COMMIT;
TABLE t.parked;
SELECT t.failure($$SELECT seq_park('g', 97, 4, 0, 'again')$$);
-- fetched, rolled back, and parked in the next one
BEGIN;
SELECT t.fetched('g', 2);
ROLLBACK;
SELECT seq_park('g', 98, 5, 1, 'next one');
BEGIN;
SELECT seq_park('g', 97, 6, 0, 'not in the end');
ROLLBACK;
SELECT t.fetched('g', 2);

-- Taken back, behind the group: the row, once, in the transaction.
BEGIN;
SELECT vshard, epoch, "position", epoch_system_ms, tenant_id, participating_vshards, plans, tx_class = (SELECT r.tx_class FROM seq_replay(97, 3, 3) r) AS same FROM seq_retry('g', 97, 3, 0);
SELECT t.failure($$SELECT seq_retry('g', 97, 3, 0)$$);
-- it does not become what can be parked
SELECT t.failure($$SELECT seq_park('g', 97, 3, 0, 'again')$$);
ROLLBACK;
SELECT epoch FROM seq_retry('g', 97, 3, 0);
SELECT t.failure($$SELECT seq_retry('g', 97, 3, 0)$$);
SELECT t.failure($$SELECT seq_drop_parked('g', 97, 3, 0)$$);
SELECT t.failure($$SELECT seq_park('g', 97, 3, 0, 'again')$$);
-- of another vshard, position, epoch, group
SELECT c, t.failure('SELECT ' || c) FROM unnest(ARRAY[$$seq_retry('g', 98, 4, 0)$$, $$seq_retry('g', 97, 4, 1)$$, $$seq_retry('g', 97, 6, 0)$$, $$seq_retry('filtered', 98, 4, 1)$$]) c;
BEGIN;
SELECT seq_drop_parked('g', 97, 4, 0);
ROLLBACK;
SELECT seq_drop_parked('g', 97, 4, 0);
SELECT t.failure($$SELECT seq_drop_parked('g', 97, 4, 0)$$);
SELECT t.failure($$SELECT seq_retry('g', 97, 4, 0)$$);
TABLE t.parked;
-- nothing is kept of what is done
TABLE t.kept;

-- Taken back ahead of the group: it has been processed, and is still passed by, without
-- its content; and then nothing is kept of it.
SELECT seq_park('g', 97, 8, 0, 'ahead'), seq_park('g', 98, 8, 1, 'ahead'), seq_park('g', 97, 9, 0, 'ahead');
SELECT epoch FROM seq_retry('g', 97, 8, 0);
SELECT seq_drop_parked('g', 98, 8, 1);
SELECT t.failure($$SELECT seq_retry('g', 97, 8, 0)$$);
SELECT t.failure($$SELECT seq_drop_parked('g', 97, 8, 0)$$);
SELECT t.failure($$SELECT seq_park('g', 97, 8, 0, 'again')$$);
TABLE t.parked;
TABLE t.kept;
SELECT seq_pending('g'), parked FROM seq_consumers WHERE name = 'g';
SELECT t.fetched('g');
TABLE t.kept;
SELECT t.failure($$SELECT seq_park('g', 97, 8, 0, 'again')$$);
SELECT epoch FROM seq_retry('g', 97, 9, 0);
TABLE t.parked;

-- The same in one transaction, with its fetch; rolled back to behind it.
CALL t.append(3, '{a,b}');
BEGIN;
SELECT seq_park('g', 97, 10, 0, 'ahead');
SAVEPOINT s;
SELECT t.fetched('g', 3);
SELECT epoch FROM seq_retry('g', 97, 10, 0);
ROLLBACK TO s;
SELECT t.fetched('g', 2);
SELECT epoch FROM seq_retry('g', 97, 10, 0);
COMMIT;
TABLE t.kept;
SELECT t.fetched('g');
-- fetched, parked and taken back in one: done
CALL t.append(1, '{a,b}');
BEGIN;
SELECT t.fetched('g');
SELECT seq_park('g', 97, 13, 0, 'for later');
SELECT epoch FROM seq_retry('g', 97, 13, 0);
COMMIT;
TABLE t.kept;
SELECT t.fetched('g');
-- fetched in a savepoint, and parked behind its rollback: once, by whoever takes it
CALL t.append(1, '{a,b}');
BEGIN;
SAVEPOINT s;
SELECT t.fetched('g');
ROLLBACK TO s;
SELECT seq_park('g', 97, 14, 0, 'failed');
SELECT t.fetched('g');
COMMIT;
SELECT epoch FROM seq_retry('g', 97, 14, 0);

-- Rows live as long as what they were taken back in.
CALL t.append(1, '{a}');
SELECT seq_park('g', 97, 15, 0, 'held');
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT epoch FROM seq_retry('g', 97, 15, 0);
COMMIT;
FETCH ALL FROM c;
CLOSE c;
BEGIN;
DECLARE c CURSOR FOR SELECT epoch FROM seq_retry('g', 97, 15, 0);
SAVEPOINT s;
FETCH ALL FROM c;
ROLLBACK;
TABLE t.parked;

-- A transaction that has parked, too, cannot be prepared.
BEGIN;
SELECT epoch FROM seq_retry('g', 97, 15, 0);
PREPARE TRANSACTION 'p';
BEGIN;
SELECT seq_drop_parked('g', 97, 15, 0);
PREPARE TRANSACTION 'p';

-- Reasons as they come.
SELECT seq_drop_parked('g', 97, 15, 0), seq_drop_parked('g', 98, 4, 1), seq_drop_parked('g', 98, 5, 1);
CALL t.append(3, '{a,b}');
SELECT seq_park('g', 97, 16, 0, ''), seq_park('g', 97, 17, 0, repeat('because ', 10000)), seq_park('g', 98, 18, 1, E'it''s "%s"\n\\x');
SELECT epoch, length(reason), left(reason, 20) FROM t.parked;

-- The log may go: what is parked is beside it; and with the group it goes.
SELECT t.fetched('g'), t.fetched('filtered');
CALL t.append(1, '{c}');
SELECT seq_truncate(19) > 0 AS truncated;
SELECT t.failure($$SELECT seq_park('g', 97, 16, 0, 'again')$$);
SELECT t.failure($$SELECT seq_park('g', 98, 16, 1, 'gone')$$);
SELECT vshard, epoch, "position", plans FROM seq_retry('g', 97, 16, 0);
SELECT seq_drop_group('g');
TABLE t.kept;
SELECT seq_create_group('g', 2, '{97,98}');
SELECT t.failure($$SELECT seq_retry('g', 97, 17, 0)$$);
SELECT seq_drop_group('g'), seq_drop_group('filtered');
DROP EXTENSION calvin_seq CASCADE;
DROP SCHEMA t CASCADE;
