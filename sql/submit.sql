--
-- seq_send, seq_submit and the rest: what they take, what they refuse, what is
-- counted.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\pset format unaligned
\pset tuples_only on

-- The way a command fails, with all that it says.
CREATE FUNCTION t.refusal(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE d text; h text;
BEGIN
	EXECUTE command;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n   ', SQLSTATE || ' ' || SQLERRM, nullif(d, ''), nullif(h, ''));
END $$;
-- settings, with their units and ranges
SELECT name, setting, unit, min_val, max_val, context FROM pg_settings
WHERE name ~ '^calvin_seq\.(epoch_|max_txns|max_bytes|max_plans|max_part|max_dep|inbox|tenant|submissions)'
ORDER BY name;

-- who may call what
SELECT proname, proisstrict, provolatile, proparallel, has_function_privilege('public', oid, 'EXECUTE')
FROM pg_proc WHERE proname ~ '^seq_(send|submit|collection|json|decode_tx)' ORDER BY proname;

--
-- A row's content
--
SELECT '\x95909192a8446f63756d656e7492a86f72646572732f3790c4087b2261223a20317d00c0' AS sent \gset
SELECT seq_decode_tx_class(:'sent'), seq_collection(:'sent'), seq_collections(:'sent');
SELECT seq_json(convert_to('{"a": [1, null]}', 'UTF8')), seq_json('null'), seq_json(NULL) IS NULL;
SELECT t.refusal(format('SELECT seq_json(%L)', b))
FROM unnest('{"\\x", "\\x7b", "\\xff", "\\x31c0", "\\x3100", "\\x225c753030303022"}'::bytea[]) b;
-- each collection once, in the order of the write set; read_set does not count
SELECT seq_collections(tx), seq_collection(tx), seq_decode_tx_class(tx)
FROM (VALUES ('\x95'::bytea || '\x9192a24b7692a17292910191cc80' || '\x94'
	|| '\x92a24b7692a163929091cc80' || '\x92a445646765' || '\x92a16291920102'
	|| '\x92a8446f63756d656e74' || '\x92a16391cd0100' || '\x92a6566563746f72' || '\x92a090'
	|| '\xc400' || '\x07' || '\x9182' || '\x00919192a24b7692a16b90' || '\xcd03ff90')) v(tx);
SELECT seq_collections('\x959090c40000c0'), seq_collection('\x959090c40000c0') IS NULL;
-- strict, as the log is; loose forms of it are shown as what they mean
SELECT seq_decode_tx_class('\xdc00059090c50000cd0007c0');
SELECT f, t.refusal(format('SELECT %I(%L::bytea)', f, b))
FROM unnest('{seq_decode_tx_class, seq_collections, seq_collection}'::text[]) f,
	unnest('{"\\x", "\\x95", "\\x9490", "\\x959090c40000c0c0", "\\x959090c400d000c0"}'::bytea[]) b;
SELECT f, t.refusal(format('SELECT %I(%L::bytea)', f, '\x95909192a24b7692a2610090c40000c0'))
FROM unnest('{seq_decode_tx_class, seq_collections, seq_collection}'::text[]) f;

--
-- Nulls and arguments
--
SELECT t.refusal(c) FROM unnest(ARRAY[
	'SELECT seq_send(NULL, ''{}'')', 'SELECT seq_send(''a'', NULL)', 'SELECT seq_send(''a'', ''{}'', NULL)',
	'SELECT seq_send(''a'', ''{}'', -1)', 'SELECT seq_send_bytes(NULL, '''')', 'SELECT seq_send_bytes(''a'', NULL)',
	'SELECT seq_send_bytes(''a'', '''', NULL)', 'SELECT seq_send_bytes(''a'', '''', -9223372036854775808)',
	'SELECT seq_submit(NULL)', 'SELECT seq_submit_encoded(NULL)']) c;
SELECT t.refusal(format('SELECT seq_submit(%L)', j)) FROM unnest(ARRAY[
	'1', '[]', '{}', '{"write_set": []}', '{"write_set": [], "plans": "\\x", "plan": 1}',
	'{"write_set": [{"Document": {"surrogates": [1]}}], "plans": "\\x"}',
	'{"write_set": [], "plans": "\\x", "tenant_id": -1}']) j;
SELECT t.refusal(format('SELECT seq_submit_encoded(%L)', b))
FROM unnest('{"\\x", "\\x959090c40000", "\\x959090c40000c0c0", "\\x959090a00000"}'::bytea[]) b;

--
-- Where nobody may submit
--
SELECT t.refusal(format('SET TRANSACTION READ ONLY; SELECT %s', c)) FROM unnest(ARRAY[
	'seq_send(''a'', ''{}'')', 'seq_send_bytes(''a'', '''')',
	'seq_submit(''{"write_set": [{"Document": {"collection": "a"}}], "plans": "\\x"}'')',
	'seq_submit_encoded(''\x959090c40000c0'')']) c;

--
-- Limits of one submission: each at its bound and one beyond it
--
SELECT t.refusal('SELECT seq_submit(''{"write_set": [], "plans": "\\x"}'')');
SELECT t.refusal('SELECT seq_submit(''{"write_set": [], "plans": "\\x", "dependent_reads": {}}'')');
SELECT t.refusal('SELECT seq_submit(''{"write_set": [], "plans": "\\x", "dependent_reads": {"5": []}}'')');
SELECT t.refusal(format('SELECT seq_send_bytes(%L, %s)', 'a', v)) FROM unnest(ARRAY[
	'convert_to(repeat(''x'', 1048576), ''UTF8'')', 'convert_to(repeat(''x'', 1048577), ''UTF8'')']) v;
-- with its quotes the text is two bytes longer
SELECT t.refusal(format('SELECT seq_send(%L, to_jsonb(repeat(''x'', %s)))', 'a', n)) FROM unnest('{1048574, 1048575}'::int[]) n;
CREATE FUNCTION t.tx(collections int, reads int DEFAULT 0, surrogates int DEFAULT 0) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('plans', '\x', 'write_set',
		(SELECT coalesce(jsonb_agg(jsonb_build_object('Document', jsonb_build_object('collection', chr(i)))), '[]') FROM generate_series(33, 32 + collections) i),
		'dependent_reads', (SELECT jsonb_object_agg(i, CASE WHEN surrogates > 0 THEN
			jsonb_build_array(jsonb_build_object('Document', jsonb_build_object('collection', 'd', 'surrogates',
				(SELECT jsonb_agg(n) FROM generate_series(70000, 69999 + surrogates) n)))) ELSE '[]' END)
			FROM generate_series(500, 499 + reads) i))
$$;
SELECT c, r, t.refusal(format('SELECT seq_submit(t.tx(%s, %s))', c, r))
FROM (VALUES (64, 0), (65, 0), (60, 4), (60, 5), (1, 16), (1, 17)) v(c, r);
-- of five bytes each, and 20 around them
SELECT n, t.refusal(format('SELECT seq_submit(t.tx(1, 1, %s))', n)) FROM unnest('{838856, 838857}'::int[]) n;

--
-- Changes of a table
--
CREATE TABLE t.orders (id int, day date, note text, gone int, total int GENERATED ALWAYS AS (id * 2) STORED);
ALTER TABLE t.orders DROP COLUMN gone;
CREATE TRIGGER send AFTER INSERT OR UPDATE OR DELETE ON t.orders FOR EACH ROW EXECUTE FUNCTION seq_send_changes('orders', 'id', 'day');
INSERT INTO t.orders VALUES (1, '2024-02-29', 'it''s "so"');
UPDATE t.orders SET note = NULL;
UPDATE t.orders SET id = 2;
DELETE FROM t.orders;
SELECT t.refusal('INSERT INTO t.orders VALUES (NULL, now())');
DROP TRIGGER send ON t.orders;
CREATE PROCEDURE t.misuse(trigger text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'CREATE TRIGGER send ' || trigger;
	RAISE NOTICE '%: %', trigger, t.refusal('INSERT INTO t.orders VALUES (1, now())');
	DROP TRIGGER send ON t.orders;
END $$;
CALL t.misuse('BEFORE INSERT ON t.orders FOR EACH ROW EXECUTE FUNCTION seq_send_changes(''o'', ''id'')');
CALL t.misuse('AFTER INSERT ON t.orders FOR EACH STATEMENT EXECUTE FUNCTION seq_send_changes(''o'', ''id'')');
CALL t.misuse('AFTER INSERT ON t.orders FOR EACH ROW EXECUTE FUNCTION seq_send_changes()');
CALL t.misuse('AFTER INSERT ON t.orders FOR EACH ROW EXECUTE FUNCTION seq_send_changes(''o'')');
CALL t.misuse('AFTER INSERT ON t.orders FOR EACH ROW EXECUTE FUNCTION seq_send_changes(''o'', ''gone'')');
CALL t.misuse('AFTER INSERT ON t.orders FOR EACH ROW EXECUTE FUNCTION seq_send_changes(''o'', ''id'')');
SELECT t.refusal('SELECT seq_send_changes()');
-- who may write the table need not be able to call anything
CREATE ROLE regress_seq_writer;
GRANT INSERT ON t.orders TO regress_seq_writer;
CREATE TRIGGER send AFTER INSERT ON t.orders FOR EACH ROW EXECUTE FUNCTION seq_send_changes('orders', 'id');
SET ROLE regress_seq_writer;
INSERT INTO t.orders VALUES (1, '2024-02-29');
SELECT t.refusal('SELECT seq_send(''a'', ''{}'')');
RESET ROLE;
DROP OWNED BY regress_seq_writer;
DROP ROLE regress_seq_writer;
