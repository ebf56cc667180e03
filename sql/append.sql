--
-- seq_append: what it takes, in which form it stores it, what it refuses.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql

-- The stored form of an entry, or why it is refused; appends nothing.
CREATE FUNCTION t.attempt(entry bytea, force boolean DEFAULT false)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	place bigint;
	stored text;
	detail text;
BEGIN
	place := seq_append(entry, force);
	stored := (SELECT l.entry FROM seq_log l WHERE log_index = place);
	RAISE SQLSTATE 'SEQ00';
EXCEPTION
	WHEN SQLSTATE 'SEQ00' THEN
		RETURN stored;
	WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
		RETURN concat_ws(': ', SQLSTATE, SQLERRM, nullif(detail, ''));
END $$;

--
-- Forms
--

-- Headers and integers of any width, integers in either sign's form, bytes as
-- bin or as array, sets in any order and repeated: stored is the canonical
-- form. The first four are one entry.
SELECT form, t.attempt(entry) AS stored FROM (VALUES
	('canonical', '\x92aa45706f636842617463689193009194000095909192a8446f63756d656e7492a1619101c401ab01c000d30000018bcfe56800'::bytea),
	('wide headers', '\xdd00000002db0000000a45706f63684261746368dc0001dc000300dd00000001dc00040000dc0005dd00000000dc0001dc0002d908446f63756d656e74dd00000002da000161dc000101c600000001ab01c000d30000018bcfe56800'::bytea),
	('wide unsigned integers', '\x92aa45706f636842617463689193cf00000000000000009194cd0000ce0000000095909192a8446f63756d656e7492a16191ce00000001c401abcf0000000000000001c0cc00cf0000018bcfe56800'::bytea),
	('wide signed integers', '\x92aa45706f636842617463689193d0009194d10000d20000000095909192a8446f63756d656e7492a16191d30000000000000001c401abd001c0d30000000000000000d30000018bcfe56800'::bytea),
	('negative times', '\x92aa45706f6368426174636891930091940000959090c40000c0d3ffffffffffffffffd1ff80'::bytea),
	('unsigned time of 2^63-1', '\x92aa45706f6368426174636891930090cf7fffffffffffffff'::bytea),
	('sets unsorted, repeated', '\x92aa45706f6368426174636891930091940000959192a6566563746f7292a16194030103029292a44564676592a1629392020192010592020192a8446f63756d656e7492a16190c40000c00000'::bytea),
	('keys of Kv as bin and as array', '\x92aa45706f636842617463689193009194000095909192a24b7692a16194c40201ff9201ccffc400c5000100c40000c00000'::bytea),
	('plans as array', '\x92aa45706f63684261746368919300919400009590909300ccabd07f00c00000'::bytea),
	('dependent reads unsorted, repeated', '\x92aa45706f6368426174636891930091940000959090c400009183cd03e8900590cd0005919192a8446f63756d656e7492a1619202010000'::bytea),
	('ack', '\x92d90d436f6d706c6574696f6e41636b93cd0007d003d2000003e8'::bytea),
	('no-op', '\x'::bytea)
	) t (form, entry);

-- Refused, with the offset and what was expected there.
SELECT t.attempt(entry) AS "refused", what FROM (VALUES
	('nil', '\xc0'::bytea),
	('a map', '\x82'::bytea),
	('array of 3', '\x93'::bytea),
	('unknown variant', '\x92a54f746865729190'::bytea),
	('variant in another case', '\x92aa65706f636862617463689193009000'::bytea),
	('variant as bin', '\x92c40a45706f636842617463689193009000'::bytea),
	('variant by number', '\x92009193009000'::bytea),
	('payload not wrapped', '\x92aa45706f6368426174636893009000'::bytea),
	('2 fields in a batch', '\x92aa45706f6368426174636891920090'::bytea),
	('4 fields in a batch', '\x92aa45706f63684261746368919400900000'::bytea),
	('negative epoch', '\x92aa45706f636842617463689193ff9000'::bytea),
	('epoch as float', '\x92aa45706f636842617463689193cb00000000000000009000'::bytea),
	('epoch as nil', '\x92aa45706f636842617463689193c09000'::bytea),
	('epoch 2^63-1', '\x92aa45706f636842617463689193cf7fffffffffffffff9000'::bytea),
	('time 2^63', '\x92aa45706f6368426174636891930090cf8000000000000000'::bytea),
	('txns is a map', '\x92aa45706f636842617463689193008000'::bytea),
	('more txns than bytes', '\x92aa45706f63684261746368919300ddffffffff00'::bytea),
	('byte after the entry', '\x92aa45706f63684261746368919300900000'::bytea),
	('noise after an ack', '\x92ad436f6d706c6574696f6e41636b93000000ff'::bytea),
	('epoch of txn', '\x92aa45706f6368426174636891930091940100959090c40000c00000'::bytea),
	('position of txn', '\x92aa45706f6368426174636891930091940001959090c40000c00000'::bytea),
	('position 2^32', '\x92aa45706f63684261746368919300919400cf0000000100000000959090c40000c00000'::bytea),
	('tenant 2^63', '\x92aa45706f6368426174636891930091940000959090c400cf8000000000000000c00000'::bytea),
	('tenant below 0', '\x92aa45706f6368426174636891930091940000959090c400d3ffffffffffffffffc00000'::bytea),
	('plans as str', '\x92aa45706f6368426174636891930091940000959090a16100c00000'::bytea),
	('plans with a 256', '\x92aa45706f636842617463689193009194000095909091cd010000c00000'::bytea),
	('variant of a set', '\x92aa45706f636842617463689193009194000095909192a54f7468657292a16190c40000c00000'::bytea),
	('collection as bin', '\x92aa45706f636842617463689193009194000095909192a8446f63756d656e7492c4016190c40000c00000'::bytea),
	('collection not UTF-8', '\x92aa45706f636842617463689193009194000095909192a8446f63756d656e7492a2c08090c40000c00000'::bytea),
	('collection with a surrogate', '\x92aa45706f636842617463689193009194000095909192a8446f63756d656e7492a3eda08090c40000c00000'::bytea),
	('surrogate 2^32', '\x92aa45706f636842617463689193009194000095909192a8446f63756d656e7492a16191cf0000000100000000c40000c00000'::bytea),
	('key as str', '\x92aa45706f636842617463689193009194000095909192a24b7692a16191a161c40000c00000'::bytea),
	('edge of 3', '\x92aa45706f636842617463689193009194000095909192a44564676592a1619193000000c40000c00000'::bytea),
	('dependent vshard 1024', '\x92aa45706f6368426174636891930091940000959090c400009181cd0400900000'::bytea),
	('dependent reads not wrapped', '\x92aa45706f6368426174636891930091940000959090c40000800000'::bytea),
	('ack position 2^32', '\x92ad436f6d706c6574696f6e41636b9300cf000000010000000000'::bytea),
	('ack vshard below 0', '\x92ad436f6d706c6574696f6e41636b930000ff'::bytea)
	) t (what, entry);

-- So is every part of an entry that is its beginning.
SELECT count(*), min(attempt), max(attempt) FROM (
	SELECT left(t.attempt(substr(entry, 1, n)), 5) AS attempt
		FROM (VALUES ('\x92aa45706f6368426174636891930091940000959192a8446f63756d656e7492a1619201029292a44564676592a1619192010292a24b7692a162919201ccffc402abcd00918105919192a6566563746f7292a16391070000'::bytea)) t (entry), generate_series(1, length(entry) - 1) n) t;
SELECT left(t.attempt('\x92aa45706f6368426174636891930091940000959192a8446f63756d656e7492a1619201029292a44564676592a1619192010292a24b7692a162919201ccffc402abcd00918105919192a6566563746f7292a16391070000'), 4);

SELECT seq_append(NULL), seq_append('', NULL), seq_append_json(NULL), seq_append_json('{}', NULL);
SELECT count(*) FROM seq_log;

--
-- Epochs
--

SELECT t.attempt(t.empty_batch(1));
SELECT seq_append(t.empty_batch(0));
SELECT t.attempt(t.empty_batch(0));
SELECT t.attempt(t.empty_batch(2));
-- Two in one transaction; what is rolled back is free again.
BEGIN;
SELECT seq_append(t.empty_batch(1)), seq_append(t.empty_batch(2));
SELECT t.attempt(t.empty_batch(2));
ROLLBACK;
SELECT t.attempt(t.empty_batch(2));
SELECT seq_append(t.empty_batch(1));
-- force jumps ahead, never back, and by no more than 2^20 epochs.
SELECT t.attempt(t.empty_batch(1), force => true);
SELECT t.attempt(t.empty_batch(3 + 1048576), force => true);
SELECT t.attempt(t.empty_batch(9223372036854775806), force => true);
SELECT seq_append(t.empty_batch(2 + 1048576), force => true);
SELECT seq_append(t.empty_batch(3 + 1048576), force => true);
SELECT seq_append(t.empty_batch(4 + 1048576));
-- Acks and no-ops have no place in this, and force is nothing to them.
SELECT seq_append('\x92ad436f6d706c6574696f6e41636b930703cd03e8'),
	seq_append('\x92ad436f6d706c6574696f6e41636b93cf7ffffffffffffffeceffffffffceffffffff', true),
	seq_append(''), seq_append('', true);
SELECT t.attempt(t.empty_batch(2 + 1048576));
-- What the raw log holds counts, unless it is stale or undecodable.
INSERT INTO seq_log (entry) VALUES (t.empty_batch(1048600)), (t.empty_batch(7)), ('\xc1');
SELECT t.attempt(t.empty_batch(8));
SELECT seq_append(t.empty_batch(1048601));
CALL t.wait_applied();
SELECT seq_last_applied_epoch(), epochs_applied, epochs_skipped_gap, epochs_skipped_stale, entries_undecodable
	FROM seq_metrics;

-- The last epoch there is.
BEGIN;
INSERT INTO seq_log (entry) VALUES (t.empty_batch(9223372036854775806));
SELECT t.attempt(t.empty_batch(9223372036854775806));
SELECT seq_append('');
ROLLBACK;

--
-- seq_append_json: the same for JSON
--

SELECT seq_append_json('{"EpochBatch": {"epoch": 1048602, "epoch_system_ms": 1700000000000, "txns": [
	{"tx_class": {"write_set": [{"Document": {"collection": "b", "surrogates": [2, 1, 2]}}], "plans": "\\xab", "tenant_id": 1}},
	{"tx_class": {"write_set": [], "plans": "\\x", "tenant_id": 0}}]}}');
SELECT seq_append_json('{"CompletionAck": {"epoch": 1048602, "position": 0, "vshard_id": 98}}');
SELECT log_index, kind, epoch, entry FROM seq_log ORDER BY 1 DESC LIMIT 2;
SELECT seq_append_json('{"EpochBatch": {"epoch": 1048602, "epoch_system_ms": 0, "txns": []}}');
SELECT seq_append_json('{"EpochBatch": {"epoch": 1048604, "epoch_system_ms": 0, "txns": []}}');
SELECT seq_append_json('{"EpochBatch": {"epoch": 1048604, "epoch_system_ms": 0, "txns": []}}', force => true);
SELECT seq_append_json('{"EpochBatch": {"epoch": 1048605, "epoch_system_ms": 0, "txns":
	[{"position": 1, "tx_class": {"write_set": [], "plans": "\\x", "tenant_id": 0}}]}}');
CALL t.wait_applied();
SELECT (SELECT array_agg(log_index ORDER BY log_index) FROM seq_log) = ARRAY(SELECT generate_series(1, max(log_index)) FROM seq_log) AS dense,
	seq_next_epoch(), seq_current_committed_epoch();
