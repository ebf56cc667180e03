-- seq_encode, seq_decode, seq_vshard: entries as a person writes them.
-- What is shown is ASCII, whatever the encoding of the database under test.
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\pset format unaligned
\pset tuples_only on
SELECT current_database() AS home \gset

-- anyone may call them, anywhere in a query
SELECT proname, proisstrict, provolatile, proparallel,
	has_function_privilege('public', oid, 'EXECUTE')
FROM pg_proc WHERE proname IN ('seq_encode', 'seq_decode', 'seq_vshard')
ORDER BY proname;

-- what an error says, without the places in the source that VERBOSITY verbose adds
CREATE FUNCTION t.refusal(input jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE d text; h text;
BEGIN
	RETURN 'taken: ' || seq_encode(input)::text;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n   ', SQLSTATE || ' ' || SQLERRM, nullif(d, ''), nullif(h, ''));
END $$;
CREATE FUNCTION t.refusal(input bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE d text; h text;
BEGIN
	RETURN 'taken: ' || seq_decode(input)::text;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n   ', SQLSTATE || ' ' || SQLERRM, nullif(d, ''), nullif(h, ''));
END $$;
-- a batch of one transaction that writes nothing, but for "changes"
CREATE FUNCTION t.batch(changes jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('EpochBatch', jsonb_build_object('epoch', 5, 'epoch_system_ms', 0,
		'txns', jsonb_build_array(jsonb_build_object('tx_class',
			'{"write_set": [], "plans": "\\x", "tenant_id": 1}' || changes))))
$$;

--
-- The three examples
--
SELECT seq_encode('{"CompletionAck": {"epoch": 7, "position": 3, "vshard_id": 1000}}');
SELECT seq_encode('{"EpochBatch": {"epoch": 0, "epoch_system_ms": -1, "txns": []}}');
SELECT seq_encode('{"EpochBatch": {"epoch": 1, "epoch_system_ms": 1700000000000, "txns": [
	{"epoch_system_ms": 0, "tx_class": {
		"write_set": [{"Document": {"collection": "a", "surrogates": [1]}},
			{"Document": {"collection": "b", "surrogates": [2]}}],
		"plans": "\\xab", "tenant_id": 1}}]}}');
SELECT seq_decode('\x92ad436f6d706c6574696f6e41636b930703cd03e8');
SELECT seq_decode('\x92aa45706f6368426174636891930090ff');
SELECT seq_decode('\x92aa45706f636842617463689193019194010095909292a8446f63756d656e7492a161910192a8446f63756d656e7492a1629102c401ab01c000d30000018bcfe56800');

-- the no-op
SELECT seq_encode('null'), seq_decode(''), seq_encode(NULL) IS NULL, seq_decode(NULL) IS NULL;

--
-- Everything there is
--
SELECT seq_encode('{"EpochBatch": {"epoch": 7, "epoch_system_ms": -5, "txns": [
	{"tx_class": {"write_set": [], "plans": "\\x", "tenant_id": 0}},
	{"epoch": 7, "position": 1, "epoch_system_ms": 128, "tx_class": {
		"read_set": [{"Vector": {"collection": "v", "surrogates": []}},
			{"Vector": {"collection": "", "surrogates": [300, 2, 2, 1, 70000]}}],
		"write_set": [{"Kv": {"collection": "k", "keys": ["\\xff00", "\\x", "\\x7f", "\\xff00"]}},
			{"Edge": {"collection": "e", "edges": [[2, 0], [1, 4294967295], [1, 2], [2, 0]]}},
			{"Document": {"collection": "d", "surrogates": [1]}}],
		"plans": "\\xDEad be\nEF ", "tenant_id": 9223372036854775807,
		"dependent_reads": {"1000": [], "9": [{"Kv": {"collection": "k", "keys": []}}],
			"0": [{"Edge": {"collection": "x", "edges": []}},
				{"Document": {"collection": "y", "surrogates": [3]}}]}}},
	{"tx_class": {"write_set": [], "plans": "\\x00", "tenant_id": 1, "dependent_reads": {}}},
	{"tx_class": {"write_set": [], "plans": "\\x00", "tenant_id": 1, "dependent_reads": null}}
]}}') AS everything \gset
SELECT :'everything';
SELECT jsonb_pretty(seq_decode(:'everything'));
SELECT seq_encode(seq_decode(:'everything')) = :'everything';

-- An entry of the log need not be canonical: here no integer or header is as
-- short as it could be, a set is unsorted, and vshard 5 is there twice. It
-- decodes to what it means, and that encodes to the canonical form.
SELECT '\x92d90a45706f6368426174636891dc0003cd0000919400ce0000000095909192a8446f63756d656e7492d901619303cc0203c50001abcd000191de000305919192a24b7692a16b9005900390d10000d30000000000000007' AS loose \gset
SELECT seq_decode(:'loose');
SELECT seq_encode(seq_decode(:'loose'));
-- what follows an entry is ignored
SELECT seq_decode('\x92aa45706f6368426174636891930090ffc1');
-- a transaction's own epoch and position are shown as they stand
SELECT seq_decode(e), t.refusal(seq_decode(e))
FROM (VALUES ('\x92aa45706f6368426174636891930591940907959090c40001c00000'::bytea)) v(e);

--
-- Numbers at their bounds, in any form that is an integer
--
SELECT n, t.refusal(jsonb_build_object('EpochBatch',
	jsonb_build_object('epoch', n, 'epoch_system_ms', 0, 'txns', '[]'::jsonb)))
FROM unnest('{0, 127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296, 9223372036854775806,
	9223372036854775807, -1, 1e3, 7.000, 0.5, 1e30, -1e30}'::numeric[]) n;
SELECT n, t.refusal(jsonb_build_object('EpochBatch',
	jsonb_build_object('epoch', 0, 'epoch_system_ms', n, 'txns', '[]'::jsonb)))
FROM unnest('{0, 127, 128, 255, 32767, 32768, 2147483647, 2147483648, 9223372036854775807,
	9223372036854775808, -1, -32, -33, -128, -129, -32768, -32769, -2147483648, -2147483649,
	-9223372036854775808, -9223372036854775809}'::numeric[]) n;
SELECT n, t.refusal(t.batch(jsonb_build_object('tenant_id', n)))
FROM unnest('{0, 9223372036854775807, 9223372036854775808, -1, 1.25}'::numeric[]) n;
SELECT n, t.refusal(jsonb_build_object('CompletionAck',
	jsonb_build_object('epoch', 0, 'position', n, 'vshard_id', n)))
FROM unnest('{0, 1023, 1024, 4294967295, 4294967296, -1}'::numeric[]) n;
SELECT n, t.refusal(t.batch(jsonb_build_object('write_set', jsonb_build_array(
	jsonb_build_object('Vector', jsonb_build_object('collection', 'v', 'surrogates', jsonb_build_array(n)))))))
FROM unnest('{0, 4294967295, 4294967296, -1}'::numeric[]) n;
SELECT n, t.refusal(t.batch(jsonb_build_object('dependent_reads', jsonb_build_object(n, '[]'::jsonb))))
FROM unnest('{0, 1023, 1024, 99999999999999999999, -1, +1, 01, 00, "", a, "1 "}'::text[]) n;
-- of a very long number some digits are shown
SELECT t.refusal('{"CompletionAck": {"epoch": 1e100000, "position": 0, "vshard_id": 0}}'::jsonb);
SELECT t.refusal('{"CompletionAck": {"epoch": 1e-1000, "position": 0, "vshard_id": 0}}'::jsonb);

--
-- What is refused, and where
--
SELECT t.refusal(j) FROM unnest(ARRAY[
	'1', '"EpochBatch"', 'true', '[]', '[null]', '{}',
	'{"Batch": {}}', '{"epochbatch": {}}',
	'{"EpochBatch": {}, "CompletionAck": {}}',
	'{"EpochBatch": null}', '{"EpochBatch": []}', '{"EpochBatch": {}}',
	'{"EpochBatch": {"epoch": "1"}}', '{"EpochBatch": {"epoch": null}}',
	'{"EpochBatch": {"epoch": 1}}',
	'{"EpochBatch": {"epoch": 1, "epoch_system_ms": false}}',
	'{"EpochBatch": {"epoch": 1, "epoch_system_ms": 1}}',
	'{"EpochBatch": {"epoch": 1, "epoch_system_ms": 1, "txns": {}}}',
	'{"EpochBatch": {"epoch": 1, "epoch_system_ms": 1, "txns": [], "x": 1}}',
	'{"EpochBatch": {"epoch": 1, "epoch_system_ms": 1, "txns": [], "a \"b\"": 1}}',
	'{"EpochBatch": {"epoch": 1, "epoch_system_ms": 1, "txns": [], "": 1}}',
	'{"EpochBatch": {"epoch": 1, "epoch_system_ms": 1, "txns": [1]}}',
	'{"EpochBatch": {"epoch": 1, "epoch_system_ms": 1, "txns": [{}]}}',
	'{"EpochBatch": {"epoch": 1, "epoch_system_ms": 1, "txns": [{"tx_class": {}}]}}',
	'{"EpochBatch": {"epoch": 1, "epoch_system_ms": 1, "txns": [{"tx_class": {}, "plans": "\\x"}]}}',
	'{"EpochBatch": {"epoch": 1, "epoch_system_ms": 1, "txns": [{"epoch": 2}]}}',
	'{"EpochBatch": {"epoch": 1, "epoch_system_ms": 1, "txns": [{"epoch": -1}]}}',
	'{"EpochBatch": {"epoch": 1, "epoch_system_ms": 1, "txns": [{"position": 1}]}}',
	'{"EpochBatch": {"epoch": 1, "epoch_system_ms": 1, "txns": [{"position": "0"}]}}',
	'{"EpochBatch": {"epoch": 1, "epoch_system_ms": 1, "txns": [
		{"tx_class": {"write_set": [], "plans": "\\x", "tenant_id": 1}, "epoch_system_ms": null}]}}',
	'{"EpochBatch": {"epoch": 1, "epoch_system_ms": 1, "txns": [
		{"tx_class": {"write_set": [], "plans": "\\x", "tenant_id": 1}},
		{"tx_class": {"write_set": [], "plans": "\\x", "tenant_id": "one"}}]}}',
	'{"CompletionAck": {}}', '{"CompletionAck": [7, 3, 1000]}',
	'{"CompletionAck": {"epoch": 7}}', '{"CompletionAck": {"epoch": 7, "position": 3}}',
	'{"CompletionAck": {"epoch": 7, "position": 3, "vshard": 1000}}'
]::jsonb[]) j;

SELECT t.refusal(t.batch() #- ARRAY['EpochBatch', 'txns', '0', 'tx_class', member])
FROM unnest('{write_set, plans, tenant_id}'::text[]) member;

SELECT t.refusal(t.batch(changes)) FROM unnest(ARRAY[
	'{"participating_vshards": [1]}',
	'{"read_set": {}}', '{"write_set": [1]}', '{"write_set": [[]]}', '{"write_set": [{}]}',
	'{"write_set": [{"Kv": {}, "Edge": {}}]}', '{"write_set": [{"Graph": {}}]}',
	'{"write_set": [{"Kv": []}]}', '{"write_set": [{"Kv": {}}]}',
	'{"write_set": [{"Kv": {"collection": 1}}]}', '{"write_set": [{"Kv": {"collection": "k"}}]}',
	'{"write_set": [{"Kv": {"collection": "k", "surrogates": []}}]}',
	'{"write_set": [{"Kv": {"collection": "k", "keys": "\\x"}}]}',
	'{"write_set": [{"Kv": {"collection": "k", "keys": ["\\x", 1]}}]}',
	'{"write_set": [{"Kv": {"collection": "k", "keys": ["\\x", "\\x", "00"]}}]}',
	'{"write_set": [{"Document": {"collection": "d", "surrogates": [1, "2"]}}]}',
	'{"write_set": [{"Vector": {"collection": "d", "surrogates": [], "keys": []}}]}',
	'{"write_set": [{"Edge": {"collection": "e", "edges": [1, 2]}}]}',
	'{"write_set": [{"Edge": {"collection": "e", "edges": [[1, 2], []]}}]}',
	'{"write_set": [{"Edge": {"collection": "e", "edges": [[1]]}}]}',
	'{"write_set": [{"Edge": {"collection": "e", "edges": [[1, 2, 3]]}}]}',
	'{"write_set": [{"Edge": {"collection": "e", "edges": [[1, -2]]}}]}',
	'{"write_set": [{"Edge": {"collection": "e", "edges": [{"src": 1, "dst": 2}]}}]}',
	'{"plans": 1}', '{"plans": ""}', '{"plans": "ab"}', '{"plans": "\\"}', '{"plans": "\\X00"}',
	'{"plans": "\\xa"}', '{"plans": "\\xabc"}', '{"plans": "\\xzz"}', '{"plans": "\\xa b"}',
	'{"plans": "\\x00-11"}', '{"plans": "a string of which only the beginning is shown"}',
	'{"dependent_reads": []}', '{"dependent_reads": {"1": {}}}',
	'{"dependent_reads": {"1": [], "7": [{"Kv": {"collection": "k", "keys": [0]}}]}}'
]::jsonb[]) changes;

-- what the strict reader refuses, decoding refuses
SELECT t.refusal(e) FROM unnest(ARRAY[
	'\x00', '\x92ad436f6d706c6574696f6e41636b9307', '\x92a142c0',
	'\x92aa45706f636842617463689193cfffffffffffffffff9000',
	'\x92aa45706f6368426174636891930090cc00'
]::bytea[]) e;
-- a zero byte in a name: offsets are the entry's, canonical or not
SELECT t.refusal(e) FROM unnest(ARRAY[
	'\x92aa45706f636842617463689193009194000095909192a8446f63756d656e7492a36100629102c40000c00000',
	'\x92aa45706f636842617463689193009194000095909192a8446f63756d656e7492d9036100629303cc0203c40000c00000'
]::bytea[]) e;

--
-- Large ones
--
SELECT seq_encode(t.batch(jsonb_build_object('write_set', jsonb_build_array(jsonb_build_object('Document',
	jsonb_build_object('collection', 'd', 'surrogates', (SELECT jsonb_agg(i) FROM generate_series(100000, 1, -1) i)))))))
	AS large \gset
SELECT length(:'large'::bytea), md5(:'large'::bytea), seq_encode(seq_decode(:'large')) = :'large';
SELECT min(s::int), max(s::int), count(*), bool_and(s::int = n)
FROM jsonb_array_elements(seq_decode(:'large')
	#> '{EpochBatch,txns,0,tx_class,write_set,0,Document,surrogates}') WITH ORDINALITY e(s, n);
SELECT length(e), seq_encode(seq_decode(e)) = e
FROM (SELECT seq_encode(t.batch(jsonb_build_object(
	'plans', '\x' || repeat('5a', 1000000),
	'write_set', jsonb_build_array(jsonb_build_object('Kv', jsonb_build_object(
		'collection', repeat('k', 70000), 'keys', jsonb_build_array('\x' || repeat('c8', 70000)))))))) e OFFSET 0) s;
SELECT length(e), seq_encode(seq_decode(e)) = e, jsonb_array_length(seq_decode(e) #> '{EpochBatch,txns}')
FROM (SELECT seq_encode(jsonb_set(t.batch(), '{EpochBatch,txns}',
	(SELECT jsonb_agg(t.batch() #> '{EpochBatch,txns,0}') FROM generate_series(1, 1000)))) e OFFSET 0) s;
SELECT length(e), seq_encode(seq_decode(e)) = e
FROM (SELECT seq_encode(t.batch(jsonb_build_object('dependent_reads',
	(SELECT jsonb_object_agg(i, '[]'::jsonb) FROM generate_series(0, 1023) i)))) e OFFSET 0) s;
-- 135 million bytes of plans are twice as many digits: more than a jsonb holds
SELECT t.refusal('\x92aa45706f6368426174636891930091940000959090c6080befc0'::bytea
	|| repeat('p', 135000000)::bytea || '\x01c00000');

--
-- Dependent reads that are superseded: of a repeated vshard the last one is what is
-- meant, and the names of the others are not shown, whatever they are
--
CREATE FUNCTION t.reading(reads bytea) RETURNS bytea LANGUAGE sql AS $$
	SELECT '\x92aa45706f636842617463689193009194000095 90 90 c400 01 91'::bytea || reads || '\x0000'
$$;
-- 3: a zero byte, 3: b;  3: b, 3: a zero byte;  5: a zero byte, 3: a, 5: b;  and what only is in front of one
SELECT n, t.refusal(t.reading(reads)), encode(seq_encode(seq_decode(t.reading(shown))), 'hex') AS means
FROM (VALUES (1, '\x82 03 9191 92a24b76 92a2610090 03 9191 92a24b76 92a16290'::bytea, '\x81 03 9191 92a24b76 92a16290'::bytea),
	(2, '\x82 03 9191 92a24b76 92a16290 03 9191 92a24b76 92a2610090', NULL),
	(3, '\x83 05 9191 92a24b76 92a2610090 03 9191 92a24b76 92a16190 05 9191 92a24b76 92a16290',
		'\x82 03 9191 92a24b76 92a16190 05 9191 92a24b76 92a16290'),
	(4, '\x83 05 9191 92a24b76 92a2610090 03 9191 92a24b76 92a2610090 05 9191 92a24b76 92a16290', NULL),
	(5, '\x82 03 9191 92a24b76 92a2610090 03 90', '\x81 03 90')) v (n, reads, shown) ORDER BY n;
-- the same by itself, and seq_append has always taken it
SELECT seq_decode_tx_class('\x95 90 90 c400 01 91 82 03 9191 92a24b76 92a2610090 03 9191 92a24b76 92a16290'),
	seq_collections('\x95 90 91 92a24b76 92a16390 c400 01 91 82 03 9191 92a24b76 92a2610090 03 9191 92a24b76 92a16290'),
	seq_append(t.reading('\x82 03 9191 92a24b76 92a2610090 03 9191 92a24b76 92a16290'));

--
-- Vshards
--
SELECT seq_vshard(''), seq_vshard('a'), seq_vshard('ab'), seq_vshard('abcdefgh'), seq_vshard('a name of some length'),
	seq_vshard(NULL);

--
-- Encodings: the log has UTF-8, in databases of any encoding
--
CREATE DATABASE codec_utf8 TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER libc LOCALE 'C';
CREATE DATABASE codec_latin1 TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C';
CREATE DATABASE codec_euc_jp TEMPLATE template0 ENCODING 'EUC_JP' LOCALE_PROVIDER libc LOCALE 'C';
CREATE DATABASE codec_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C';

-- The functions alone will do there; names go in and out as bytes, so
-- the client needs no conversion, which not all pairs of encodings have.
\set define 'CREATE FUNCTION seq_encode(jsonb) RETURNS bytea LANGUAGE C STRICT AS \'$libdir/calvin_seq\'; CREATE FUNCTION seq_decode(bytea) RETURNS jsonb LANGUAGE C STRICT AS \'$libdir/calvin_seq\'; CREATE FUNCTION seq_vshard(text) RETURNS int LANGUAGE C STRICT AS \'$libdir/calvin_seq\';'
\set tester 'CREATE FUNCTION name_test(utf8 bytea) RETURNS text LANGUAGE plpgsql AS $$ DECLARE e bytea; n text; d text; BEGIN e := \'\\x92aa45706f636842617463689193009194000095909192a24b7692\'::bytea || set_byte(\'\\x00\', 0, 160 + length(utf8)) || utf8 || \'\\x90c40001c00000\'; n := seq_decode(e) #>> \'{EpochBatch,txns,0,tx_class,write_set,0,Kv,collection}\'; RETURN concat_ws(\' \', encode(convert_to(n, getdatabaseencoding()), \'hex\'), seq_vshard(n), seq_encode(seq_decode(e)) = e); EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL; RETURN concat_ws(E\'\\n   \', SQLSTATE || \' \' || SQLERRM, d); END $$;'
-- ASCII, e acute, the euro, hiragana a, a broken bar (EUC_JP has one for two of
-- Unicode's), an emoji, a combining accent after "e"
\set names 'SELECT name_test(n) FROM unnest(ARRAY[\'a\', \'\\x61c3a9\', \'\\x61e282ac\', \'\\x61e38182\', \'\\x61efbfa4\', \'\\x61c2a6\', \'\\x61f09f9880\', \'\\x65cc81\']::bytea[]) n;'

\c -reuse-previous=on "dbname=codec_utf8 client_encoding=SQL_ASCII"
:define
:tester
:names
\c -reuse-previous=on "dbname=codec_latin1 client_encoding=SQL_ASCII"
:define
:tester
:names
\c -reuse-previous=on "dbname=codec_euc_jp client_encoding=SQL_ASCII"
:define
:tester
:names
\c -reuse-previous=on "dbname=codec_ascii client_encoding=SQL_ASCII"
:define
:tester
:names
-- text that is no UTF-8 cannot be a name
SELECT seq_vshard(E'a\xe9');
SELECT seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object('epoch', 0, 'epoch_system_ms', 0,
	'txns', jsonb_build_array(jsonb_build_object('tx_class', jsonb_build_object('plans', '\x', 'tenant_id', 1,
		'write_set', jsonb_build_array(jsonb_build_object('Kv', jsonb_build_object('collection', E'a\xe9', 'keys', '[]'::jsonb)))))))));
\echo :LAST_ERROR_SQLSTATE

\c :home
DROP DATABASE codec_utf8;
DROP DATABASE codec_latin1;
DROP DATABASE codec_euc_jp;
DROP DATABASE codec_ascii;
