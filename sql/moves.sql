--
-- Vshards that move: arguments, what is told, and each state, on one server.  What two
-- servers do is in t/175_vshards_moved.pl.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
\set VERBOSITY terse
SET timezone = 'UTC';
SET statement_timeout = '1min';
CREATE FUNCTION t.fetched(name text, n int DEFAULT 1000) RETURNS text LANGUAGE sql AS
	$$ SELECT string_agg(concat_ws('/', vshard, epoch, "position"), ' ') FROM seq_fetch($1, $2) $$;
-- what differs from run to run
CREATE FUNCTION t.masked(message text) RETURNS text LANGUAGE sql AS
	$$ SELECT regexp_replace(regexp_replace(message, '(log here) [-0-9a-f]{36}', '\1 ours'), '(here it is) [0-9a-f]{16}', '\1 ours') $$;
SELECT t.failure($$SELECT seq_request_vshards('g', '{97}')$$);
SELECT seq_create_group('g', 2, '{97,98,99}');
CALL t.append(10, '{a,b}');

-- Arguments.
SELECT c, t.failure('SELECT ' || c) FROM unnest(ARRAY[
	$$seq_request_vshards('', '{1}')$$, $$seq_request_vshards(repeat('x', 64), '{1}')$$, $$seq_request_vshards('n', '{}')$$, $$seq_request_vshards('n', '{NULL}')$$,
	$$seq_request_vshards('n', '{{1},{2}}')$$, $$seq_request_vshards('n', '{1024}')$$, $$seq_request_vshards('n', '{-1}')$$, $$seq_request_vshards('g', '{1,97}')$$,
	$$seq_handover('x')$$, $$seq_handover('00000000-0000-0000-0000-000000000000')$$, $$seq_drop_move('00000000-0000-0000-0000-000000000000')$$]) c;
SELECT seq_request_vshards(NULL, '{1}') IS NULL, seq_release_vshards(NULL) IS NULL, seq_handover(NULL) IS NULL, seq_take_vshards(NULL) IS NULL, seq_drop_move(NULL) IS NULL;
SELECT count(*) FROM seq_moves;

-- A request of another server, as this one would make it.
CREATE TEMP TABLE r AS SELECT seq_request_vshards('n', '{98,97}') AS own;
SELECT name, state, vshards, changed_at > now() - interval '1 min' AS changed_at FROM seq_moves;
SELECT t.failure('SELECT seq_release_vshards(own) FROM r');
ALTER TABLE r ADD request jsonb;
UPDATE r SET request = own || '{"move": "00000000-0000-0000-0000-00000000000a", "group": "g"}';
SELECT request - 'log' FROM r;
SELECT seq_drop_move((own ->> 'move')::uuid) FROM r;
SELECT count(*) FROM seq_moves;

-- What is no request, or not for this server.
CREATE FUNCTION t.released(change jsonb, without text DEFAULT '') RETURNS text LANGUAGE sql AS
	$$ SELECT t.masked(t.failure(format('SELECT seq_release_vshards(%L)', (request || change) - without))) FROM r $$;
SELECT c, t.released(c::jsonb) FROM unnest(ARRAY[
	'{"move": null}', '{"move": "x"}', '{"move": 1}', '{"move": {}}', '{"log": ""}', '{"log": "00000000-0000-0000-0000-000000000000"}', '{"group": ""}', '{"group": 7}', '{"group": "nothing"}',
	'{"group": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}',
	'{"vshards": []}', '{"vshards": {}}', '{"vshards": 97}', '{"vshards": ["97"]}', '{"vshards": [97.5]}', '{"vshards": [1024]}', '{"vshards": [-1]}', '{"vshards": [98, 97]}', '{"vshards": [97, 97]}', '{"vshards": [[97]]}', '{"vshards": [null]}',
	'{"vshards": [1e3]}', '{"vshards": [1e30]}', '{"vshards": [96, 97]}', '{"begins": -1}', '{"begins": "0"}', '{"begins": 18446744073709551616}', '{"begins": 9223372036854775807}', '{"begins": 5}',
	'{"collections": {}}', '{"collections": []}', '{"collections": [1]}', '{"collections": ["a"]}']) c;
SELECT c, t.released('{}', c) FROM unnest(ARRAY['move', 'log', 'group', 'vshards', 'begins']) c;
SELECT c, t.failure(format('SELECT seq_release_vshards(%L)', c)) FROM unnest(ARRAY['[]', '{}', 'null', '1', '"x"', '[[]]']) c;

-- Where they stand is where they go on: in the middle of a transaction's vshards, and of an epoch.
SELECT t.fetched('g', 7);
BEGIN;
SELECT seq_release_vshards(request) FROM r;
SELECT t.failure('SELECT seq_handover(''00000000-0000-0000-0000-00000000000a'')');
ROLLBACK;
SELECT count(*) FROM seq_moves;
SELECT seq_release_vshards(request) FROM r;
SELECT seq_release_vshards(request) FROM r;
SELECT move, name, state, vshards FROM seq_moves;
ALTER TABLE r ADD handover jsonb;
UPDATE r SET handover = seq_handover('00000000-0000-0000-0000-00000000000a');
SELECT handover - 'log' - 'digest', handover ->> 'digest' ~ '^[0-9a-f]{16}$' AS digest FROM r;
SELECT vshards, partitions FROM seq_registrations;
SELECT t.fetched('g');

-- What is no handover, or not for this server.
CREATE FUNCTION t.taken(change jsonb, without text DEFAULT '', more text DEFAULT ', force => true') RETURNS text LANGUAGE sql AS
	$$ SELECT t.masked(t.failure(format('SELECT seq_take_vshards(%L%s)', (handover || change) - without, more))) FROM r $$;
SELECT c, t.taken(c::jsonb) FROM unnest(ARRAY[
	'{"move": null}', '{"move": "x"}', '{"log": "00000000-0000-0000-0000-000000000000"}', '{"group": ""}', '{"group": "other"}', '{"vshards": [97, 99]}', '{"vshards": [97]}', '{"vshards": []}',
	'{"epochs": [1]}', '{"epochs": [1, -1]}', '{"epochs": [1, "1"]}', '{"epochs": [1, 9223372036854775807]}', '{"positions": [0, 4294967296]}', '{"positions": []}', '{"positions": [0.1, 0]}',
	'{"partitions": 0}', '{"partitions": 1025}', '{"partitions": null}', '{"log_index": -1}', '{"log_index": 3}', '{"digest": ""}', '{"digest": "0123456789abcdeF"}', '{"digest": "0123456789abcdef"}',
	'{"digest": 1}', '{"collections": ["a"]}', '{"collections": []}']) c;
SELECT t.taken('{"log_index": 1000}', more => ', ''0''');
SELECT c, t.taken('{}', c) FROM unnest(ARRAY['move', 'log', 'group', 'vshards', 'collections', 'epochs', 'positions', 'partitions', 'log_index', 'digest']) c;
SELECT t.taken('{}', more => ''), t.taken('{}', more => ', ''-1 s''');
-- of a move that is not known, vshards that are here
SELECT t.taken('{"move": "00000000-0000-0000-0000-00000000000b", "vshards": [97, 99]}');
SELECT move, state FROM seq_moves;

-- Back, with force; once.
SELECT seq_take_vshards(handover, force => true) FROM r;
SELECT seq_take_vshards(handover, force => true), seq_take_vshards(handover) FROM r;
SELECT t.failure('SELECT seq_release_vshards(request) FROM r'), t.failure('SELECT seq_handover(''00000000-0000-0000-0000-00000000000a'')');
SELECT name, state FROM seq_moves;
SELECT vshards, partitions FROM seq_registrations;
TABLE seq_group_starts;
SELECT seq_pending('g');
SELECT t.fetched('g');
SELECT seq_pending('g');

-- All of them: the group goes, and its handler.  Into nothing: a group comes.
CREATE FUNCTION t.handle(seq_txn) RETURNS void LANGUAGE sql AS '';
SELECT seq_handle('g', 't.handle(seq_txn)');
UPDATE r SET request = request || '{"move": "00000000-0000-0000-0000-00000000000c", "vshards": [97, 98, 99]}';
SELECT seq_release_vshards(request) FROM r;
SELECT (SELECT count(*) FROM seq_registrations) AS groups, (SELECT count(*) FROM seq_group_positions) AS positions, (SELECT count(*) FROM seq_group_starts) AS starts, (SELECT count(*) FROM seq_handlers) AS handlers;
CALL t.append(2, '{a,b}');
UPDATE r SET handover = seq_handover('00000000-0000-0000-0000-00000000000c');
SELECT seq_take_vshards(handover, force => true) FROM r;
SELECT name, vshards, partitions, owner::regrole = current_user::regrole AS own FROM seq_registrations;
SELECT t.fetched('g');

-- A stream, a transaction that may not write, and what is parked ahead.
SELECT seq_register('stream', '{1}');
SELECT t.failure($$SELECT seq_request_vshards('stream', '{2}')$$);
UPDATE r SET request = request || '{"move": "00000000-0000-0000-0000-00000000000d", "vshards": [97]}';
SELECT t.failure($$SELECT seq_release_vshards(request || '{"group": "stream"}') FROM r$$);
BEGIN READ ONLY;
SELECT seq_request_vshards('g', '{1}');
ROLLBACK;
BEGIN READ ONLY;
SELECT seq_release_vshards(request) FROM r;
ROLLBACK;
BEGIN READ ONLY;
SELECT seq_take_vshards(handover) FROM r;
ROLLBACK;
CALL t.append(3, '{a,b}');
SELECT seq_park('g', 97, 14, 0, 'ahead');
SELECT t.failure('SELECT seq_release_vshards(request) FROM r');
SELECT seq_drop_parked('g', 97, 14, 0);
SELECT t.failure('SELECT seq_release_vshards(request) FROM r');
SELECT t.fetched('g');
SELECT seq_release_vshards(request) FROM r;
SELECT vshards FROM seq_registrations WHERE name = 'g';
SELECT seq_drop_move(move) FROM seq_moves;
SELECT seq_drop_group('g'), seq_unregister('stream');
SELECT (SELECT count(*) FROM seq_group_starts) AS starts, (SELECT count(*) FROM seq_group_positions) AS positions, (SELECT count(*) FROM seq_moves) AS moves;
DROP EXTENSION calvin_seq CASCADE;
DROP SCHEMA t CASCADE;
