--
-- Subscriptions: the bare queue (lossless => false).
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
-- What there is to receive, as vshard: keys in the order they came.
CREATE FUNCTION t.received(name text DEFAULT 'default', max_txns int DEFAULT 10000)
RETURNS TABLE (vshard int, keys text) LANGUAGE sql AS $$
	SELECT t.vshard, string_agg(format('%s.%s', epoch, "position"), ' ' ORDER BY n)
		FROM seq_receive(max_txns, '0', name) WITH ORDINALITY
			AS t (vshard, epoch, "position", ms, tenant, vshards, plans, tx_class, n)
		GROUP BY 1 ORDER BY 1
$$;

--
-- Start and end
--

-- Nothing here waits long, unless it is broken.
SET statement_timeout = '2 min';

SELECT t.failure('SELECT seq_receive()');
SELECT seq_unsubscribe(), seq_unsubscribe('{97}', 'nobody');
-- The first transaction received is that of the first batch appended after
-- the call, whether the applier has got that far or not.
INSERT INTO seq_log (entry) VALUES (t.batch(0)), (t.batch(1));
SELECT seq_subscribe('{97,98}', lossless => false);
SELECT vshard, name, pid = pg_backend_pid() AS own, lossless, queue_size, sent, dropped, replayed, last_epoch, last_position, lag,
	subscribed_at <= clock_timestamp() AS stamped FROM seq_subscriptions ORDER BY 1;
SELECT * FROM t.received();
CALL t.append(2, '{a,b,"a,b",c}');
SELECT * FROM t.received();
SELECT * FROM t.received();
SELECT vshard, state, queue_used, sent, dropped, last_epoch, last_position, lag FROM seq_subscriptions ORDER BY 1;
CALL t.append(1);
SELECT vshard, state, queue_used > 0 AS used, sent, dropped, last_epoch, last_position, lag > 0 AS behind FROM seq_subscriptions ORDER BY 1;
SELECT * FROM t.received();
-- Ending some, and all.
SELECT seq_unsubscribe('{98,99,98}');
CALL t.append(1, '{"a,b"}');
SELECT * FROM t.received();
SELECT seq_unsubscribe();
SELECT count(*) FROM seq_subscriptions;
SELECT t.failure('SELECT seq_receive()');
-- What came between is not in a later subscription.
CALL t.append(1);
SELECT seq_subscribe('{97}', lossless => false);
CALL t.append(1);
SELECT * FROM t.received();

-- Subscribing again starts anew, for the vshards named.
CALL t.append(1, '{"a,b"}');
SELECT seq_subscribe('{97,97,98}', lossless => false);
CALL t.append(1, '{"a,b,c"}');
SELECT seq_subscribe('{99,98}', lossless => false);
CALL t.append(1, '{"a,b,c"}');
SELECT * FROM t.received();
SELECT vshard, sent FROM seq_subscriptions ORDER BY 1;
SELECT seq_unsubscribe();

--
-- Transactions and sessions
--

-- As session advisory locks, subscriptions do not care for ROLLBACK.
BEGIN;
SELECT seq_subscribe('{97}', lossless => false);
ROLLBACK;
CALL t.append(1);
SELECT * FROM t.received();
BEGIN;
SAVEPOINT s;
SELECT seq_subscribe('{98}', lossless => false);
ROLLBACK TO s;
SELECT seq_unsubscribe('{97}');
ROLLBACK;
CALL t.append(1, '{"a,b"}');
SELECT * FROM t.received();
SELECT seq_unsubscribe();
-- They begin at once: in a transaction, what that appends later is received,
-- once it has committed.
BEGIN;
SELECT seq_subscribe('{97}', lossless => false);
INSERT INTO seq_log (entry) VALUES (t.batch(seq_current_committed_epoch() + 1));
SELECT * FROM t.received();
COMMIT;
CALL t.wait_applied();
SELECT * FROM t.received();
-- An append before it that is rolled back takes nothing away.
BEGIN;
INSERT INTO seq_log (entry) VALUES (t.batch(seq_current_committed_epoch() + 1)), (''), ('');
SELECT seq_subscribe('{97}', lossless => false);
ROLLBACK;
CALL t.append(4);
SELECT * FROM t.received();
SELECT seq_unsubscribe();

-- Names are independent consumers of the same stream.
SELECT seq_subscribe('{97}', 'x', lossless => false);
SELECT seq_subscribe('{97,98}', 'y', lossless => false);
SELECT seq_subscribe('{97}', lossless => false);
CALL t.append(2, '{"a,b"}');
SELECT * FROM t.received('x');
SELECT seq_unsubscribe(name => 'x');
SELECT * FROM t.received('y');
SELECT * FROM t.received();
SELECT t.failure('SELECT seq_receive(name => ''x'')');
SELECT name, vshard FROM seq_subscriptions ORDER BY 1, 2;
SELECT seq_unsubscribe(name => 'y'), seq_unsubscribe('{97}');

--
-- Receiving
--

SELECT seq_subscribe('{97}', 'rows', lossless => false);
SELECT seq_subscribe('{97}', 'framed', lossless => false);
SELECT seq_subscribe('{97,98}', 'both', lossless => false);
CALL t.append(1, '{a,a,b,a}');
-- max_txns; every row that is produced counts as received.
SELECT count(*) FROM seq_receive(0, name => 'rows');
SELECT * FROM t.received('rows', 2);
SELECT epoch, "position" FROM seq_receive(1, name => 'rows');
SELECT count(*) FROM seq_receive(name => 'rows');
SELECT count(*) FROM seq_receive(2, name => 'both') WHERE vshard < 0;
SELECT count(*) FROM seq_receive(name => 'both');
-- Whole rows.
CALL t.append(1, '{"b,a"}');
SELECT * FROM seq_receive(name => 'rows');
-- The same framed: [vshard, epoch, position, epoch_system_ms, TxClass]...
SELECT seq_receive_batch(1, name => 'framed');
SELECT seq_receive_batch(name => 'framed');
SELECT seq_receive_batch(name => 'framed'), seq_receive_batch(0, name => 'framed');
SELECT seq_unsubscribe(name => 'rows') + seq_unsubscribe(name => 'framed') + seq_unsubscribe(name => 'both');

-- A timeout waits for the first row only, and no longer than it says.
SELECT seq_subscribe('{97}', lossless => false);
SELECT count(*) FROM seq_receive(10, '10 ms');
SELECT count(*) FROM seq_receive(10, '0');
SELECT seq_receive_batch(10, '10 ms');
INSERT INTO seq_log (entry) VALUES (t.batch(seq_current_committed_epoch() + 1));
SELECT count(*) FROM seq_receive(10, '1 min');
INSERT INTO seq_log (entry) VALUES (t.batch(seq_current_committed_epoch() + 1));
SELECT length(seq_receive_batch(10, '1000000 years')) > 1 AS came;
SELECT count(*) FROM seq_receive(0, '1000000 years');
SELECT seq_unsubscribe();

-- The rows are those of seq_replay, byte for byte, whatever the transaction
-- looks like and in whatever form the log has it.
SELECT seq_subscribe('{5,97,98,120,1023}', lossless => false);
SELECT seq_current_committed_epoch() + 1 AS first \gset
INSERT INTO seq_log (entry) SELECT seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object(
		'epoch', :first - 1 + n, 'epoch_system_ms', (ARRAY[-9223372036854775808, -1, 0, 9223372036854775807])[n], 'txns', jsonb '[
	{"tx_class": {"plans": "\\x", "tenant_id": 0, "write_set": [{"Document": {"collection": "a", "surrogates": []}}]}},
	{"tx_class": {"plans": "\\x00ff", "tenant_id": 9223372036854775807, "write_set": [
		{"Vector": {"collection": "b", "surrogates": [4294967295, 0]}},
		{"Kv": {"collection": "x", "keys": ["\\x", "\\x00", "\\xff7f80"]}},
		{"Edge": {"collection": "a", "edges": [[2, 1], [1, 4294967295]]}}],
		"read_set": [{"Document": {"collection": "q", "surrogates": [1]}}]}},
	{"tx_class": {"plans": "\\x01", "tenant_id": 1, "write_set": [], "dependent_reads": {"5": [], "1023": [{"Kv": {"collection": "\u00e9", "keys": []}}]}}},
	{"tx_class": {"plans": "\\x02", "tenant_id": 1, "write_set": []}}]')))
	FROM generate_series(1, 4) n;
-- not canonical: wide headers, unsorted and repeated sets, bytes behind it
DO $$
DECLARE
	next bigint := seq_current_committed_epoch() + 1;
BEGIN
	INSERT INTO seq_log (entry) VALUES ('\xdd00000002db0000000a45706f63684261746368dc0001dc0003cf'::bytea || int8send(next) ||
		'\xdd00000001dc0004cd0007ce00000009dc0005dd00000000dc0001dc0002d908446f63756d656e74dd00000002da000161dc0003ce0000000301cc03c600000001abcd0007c0d3000000000000000fd10010ffff');
END $$;
CALL t.append(1, '{"a,b,x"}', 5000);
CALL t.wait_applied();
CREATE TEMP TABLE live AS SELECT * FROM seq_receive(10000);
CREATE TEMP TABLE replayed AS SELECT r.* FROM unnest('{5,97,98,120,1023}'::int[]) v, seq_replay(v, :first, 1000000) r;
SELECT vshard, count(*), count(DISTINCT tx_class) AS different FROM live GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM (TABLE live EXCEPT TABLE replayed) t;
SELECT count(*) FROM (TABLE replayed EXCEPT TABLE live) t;
SELECT epoch_system_ms, tenant_id, plans, tx_class FROM live WHERE epoch = :first + 4;
SELECT seq_unsubscribe();

--
-- Full queues
--

-- The setting is the default size; a ring holds what fits, and what does not
-- is counted as dropped, for that subscription only.
SHOW calvin_seq.queue_size;
SET calvin_seq.queue_size = '16kB';
SELECT seq_subscribe('{97}', 'small', queue_size => 8192, lossless => false);
SELECT seq_subscribe('{97}', 'set', lossless => false);
SELECT seq_subscribe('{97}', 'large', queue_size => 1000000, lossless => false);
RESET calvin_seq.queue_size;
SELECT seq_metrics_reset();
CALL t.append(6, plans => 3000);
SELECT name, state, queue_size, queue_used <= queue_size AS fits, sent, dropped, sent + dropped AS meant, lag FROM seq_subscriptions ORDER BY queue_size;
SELECT txns_fanned_out, txns_dropped_backpressure FROM seq_metrics;
-- Still full: dropped again. Once it is read, what comes then fits.
CALL t.append(1, plans => 3000);
SELECT name, state, sent, dropped FROM seq_subscriptions ORDER BY queue_size;
SELECT count(*) FROM t.received('small');
SELECT name, state, sent, dropped FROM seq_subscriptions ORDER BY queue_size LIMIT 1;
CALL t.append(1, plans => 3000);
SELECT name, state, sent, dropped FROM seq_subscriptions ORDER BY queue_size LIMIT 1;
SELECT array_length(string_to_array(keys, ' '), 1) FROM t.received('small');
-- The next full queue is full at the same place: nothing is lost of the ring.
CALL t.append(4, plans => 3000);
SELECT name, state, sent, dropped FROM seq_subscriptions ORDER BY queue_size LIMIT 1;
SELECT array_length(string_to_array(keys, ' '), 1) FROM t.received('small');
SELECT sum(array_length(string_to_array(keys, ' '), 1)) FROM t.received('set');
SELECT sum(array_length(string_to_array(keys, ' '), 1)) FROM t.received('large');
SELECT txns_fanned_out, txns_dropped_backpressure FROM seq_metrics;
SELECT sum(sent), sum(dropped) FROM seq_subscriptions;
-- What is larger than the ring never fits; smaller ones do before and after.
SELECT seq_current_committed_epoch() AS last \gset
INSERT INTO seq_log (entry) SELECT t.batch(:last + i, plans => CASE i WHEN 2 THEN 9000 ELSE 1 END)
	FROM generate_series(1, 3) i;
CALL t.wait_applied();
SELECT name, sent, dropped FROM seq_subscriptions ORDER BY queue_size;
SELECT array_length(string_to_array(keys, ' '), 1) FROM t.received('small');
SELECT array_length(string_to_array(keys, ' '), 1) FROM t.received('large');
SELECT seq_unsubscribe(name => 'small') + seq_unsubscribe(name => 'set') + seq_unsubscribe(name => 'large');
-- A ring goes round and round: many more bytes than it has, read in time.
SELECT seq_subscribe('{97}', queue_size => 8200, lossless => false);
SELECT queue_size FROM seq_subscriptions;
CREATE TEMP TABLE round (epoch bigint, length int);
DO $$
BEGIN
	FOR i IN 1..60 LOOP
		CALL t.append(1, plans => (i * 97) % 2500);
		INSERT INTO round SELECT epoch, length(plans) FROM seq_receive();
	END LOOP;
END $$;
SELECT count(*), count(DISTINCT epoch), sum(length) FROM round;
SELECT sum((i * 97) % 2500) FROM generate_series(1, 60) i;
SELECT state, sent, dropped FROM seq_subscriptions;
SELECT seq_unsubscribe();

--
-- Arguments
--

SELECT c, t.failure('SELECT seq_subscribe(' || c || ', lossless => false)') FROM unnest(ARRAY[
	'NULL', '''{}''', '''{NULL}''', '''{1,NULL}''', '''{-1}''', '''{1024}''', '''{97,1024}''', '''{{1,2},{3,4}}''',
	'''{97}'', NULL', '''{97}'', ''''', '''{97}'', repeat(''x'', 64)', '''{97}'', repeat(''é'', 32)',
	'''{97}'', queue_size => 8191', '''{97}'', queue_size => 0', '''{97}'', queue_size => -1', '''{97}'', queue_size => 1073741825',
	'''{97}'', from_position => NULL', '''{97}'', from_epoch => 0']) c;
SELECT t.failure('SELECT seq_subscribe(''{97}'', lossless => NULL)');
SELECT count(*) FROM seq_subscriptions;
-- The longest name; a lower bound other than 1 is no second dimension.
SELECT seq_subscribe('[5:6]={97,98}', repeat('x', 63), queue_size => 8192, lossless => false);
SELECT vshard, name = repeat('x', 63) AS name FROM seq_subscriptions ORDER BY 1;
SELECT seq_unsubscribe(name => repeat('x', 63));
SELECT seq_subscribe('{97}', lossless => false);
SELECT c, t.failure('SELECT ' || c) FROM unnest(ARRAY[
	'seq_receive(-1)', 'seq_receive(NULL)', 'seq_receive(1, NULL)', 'seq_receive(1, ''-1 s'')', 'seq_receive(1, ''-1 month 1 day'')',
	'seq_receive(1, ''0'', NULL)', 'seq_receive(1, ''0'', '''')', 'seq_receive(1, ''0'', repeat(''x'', 64))', 'seq_receive(1, ''0'', ''other'')',
	'seq_receive_batch(-1)', 'seq_receive_batch(NULL)', 'seq_receive_batch(1, ''-1 s'')', 'seq_receive_batch(1, ''0'', ''other'')',
	'seq_unsubscribe(''{}'')', 'seq_unsubscribe(''{1024}'')', 'seq_unsubscribe(''{NULL}'')', 'seq_unsubscribe(NULL, NULL)', 'seq_unsubscribe(NULL, '''')']) c;
-- Errors have changed nothing.
CALL t.append(1);
SELECT count(*) FROM seq_receive();
SELECT left(t.failure(format('SET calvin_seq.queue_size = %L', size)), 5) FROM unnest('{7kB,1048577kB,8kB,1GB}'::text[]) size;
RESET calvin_seq.queue_size;
SELECT seq_unsubscribe();

--
-- Limits
--

-- All vshards in one session: one call, one queue each.
SELECT seq_subscribe(array_agg(v), queue_size => 8192, lossless => false) FROM generate_series(0, 1023) v;
SELECT count(*), count(DISTINCT vshard), min(vshard), max(vshard) FROM seq_subscriptions;
SELECT array_agg('c' || i) AS names FROM generate_series(1, 1500) i \gset
CALL t.append(3, :'names');
SELECT count(*) = 3 * 1500 AS complete, count(DISTINCT vshard) = (SELECT count(DISTINCT seq_vshard('c' || i)) FROM generate_series(1, 1500) i) AS everywhere
	FROM seq_receive(10000);
SELECT sum(sent), sum(dropped) FROM seq_subscriptions;
-- No more than calvin_seq.max_subscriptions at once, and all or none of them.
SHOW calvin_seq.max_subscriptions;
SELECT seq_subscribe(array_agg(v), 'second', queue_size => 8192, lossless => false) FROM generate_series(0, 1022) v;
SELECT seq_subscribe('{1,2}', 'third', queue_size => 8192, lossless => false);
SELECT count(*) FROM seq_subscriptions;
-- Those there are can be replaced, and the last place be taken.
SELECT seq_subscribe('{1,2}', 'second', queue_size => 8192, lossless => false);
SELECT seq_subscribe('{1}', 'third', queue_size => 8192, lossless => false);
SELECT t.failure('SELECT seq_subscribe(''{1023}'', ''second'', queue_size => 8192, lossless => false)');
SELECT 'c' || min(i) AS name FROM generate_series(1, 100000) i WHERE seq_vshard('c' || i) = 1 \gset
CALL t.append(1, ARRAY[:'name']);
SELECT (SELECT count(*) FROM seq_receive()), (SELECT count(*) FROM seq_receive(name => 'second')), (SELECT count(*) FROM seq_receive(name => 'third'));

-- DISCARD ALL ends all subscriptions of the session, nothing less does.
DISCARD PLANS;
SELECT count(*) FROM seq_subscriptions;
DISCARD ALL;
SELECT count(*) FROM seq_subscriptions;
SELECT seq_receive();
SELECT seq_subscribe('{97}', lossless => false);
SELECT count(*) FROM seq_subscriptions;
\c -
SELECT seq_receive();

-- Who comes through a pooler that shares sessions can be kept from it, at once.
SET calvin_seq.subscriptions = off;
SELECT seq_subscribe('{97}', lossless => false);
SELECT count(*) FROM seq_subscriptions WHERE pid = pg_backend_pid();
RESET calvin_seq.subscriptions;
SELECT seq_subscribe('{97}', lossless => false);

-- Or from taking a name that is not registered.
SET calvin_seq.subscriptions = registered;
SELECT seq_subscribe('{97}', lossless => false);
SELECT seq_register('mine', '{97}');
SELECT seq_subscribe('{97}', 'mine');
SELECT seq_unsubscribe(name => 'mine');
SELECT seq_unregister('mine');
RESET calvin_seq.subscriptions;
