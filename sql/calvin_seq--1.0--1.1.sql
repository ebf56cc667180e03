/* calvin_seq 1.0 to 1.1 */

\echo Use "ALTER EXTENSION calvin_seq UPDATE TO '1.1'" to load this file. \quit

--
-- CREATE EXTENSION runs this behind calvin_seq--1.0.sql, so that a new database and an
-- updated one cannot differ. 1.0 is as it was released: what changes is changed here.
--

--
-- Vshards of a group that move from one server to another
--

-- Where a group begins with a vshard that it has not had from its partition's position on.
CREATE TABLE seq_group_starts (
	id bigint,
	vshard integer CHECK (vshard BETWEEN 0 AND 1023),
	epoch bigint NOT NULL CHECK (epoch >= 0),
	"position" bigint NOT NULL CHECK ("position" BETWEEN 0 AND 4294967295),
	PRIMARY KEY (id, vshard)
);
CREATE TRIGGER seq_apply_passes_over BEFORE INSERT OR UPDATE OR DELETE ON seq_group_starts
	FOR EACH ROW EXECUTE FUNCTION seq_pass_over_replicated();
CREATE TRIGGER seq_no_truncate BEFORE TRUNCATE ON seq_group_starts
	FOR EACH STATEMENT EXECUTE FUNCTION seq_refuse_truncate();
ALTER TABLE seq_group_starts
	ENABLE ALWAYS TRIGGER seq_apply_passes_over,
	ENABLE ALWAYS TRIGGER seq_no_truncate;
COMMENT ON TABLE seq_group_starts IS
	'the first key of a vshard that is for a group, where that is behind the position of its partition';
SELECT pg_catalog.pg_extension_config_dump('seq_group_starts', '');

CREATE TABLE seq_vshard_moves (
	move uuid PRIMARY KEY,
	state text NOT NULL CHECK (state IN ('requested', 'released', 'taken')),
	name name NOT NULL,
	role_name name NOT NULL,
	vshards integer[] NOT NULL,
	handover jsonb CHECK ((handover IS NOT NULL) = (state = 'released')),
	changed_at timestamptz NOT NULL
);
CREATE TRIGGER seq_apply_passes_over BEFORE INSERT OR UPDATE OR DELETE ON seq_vshard_moves
	FOR EACH ROW EXECUTE FUNCTION seq_pass_over_replicated();
CREATE TRIGGER seq_no_truncate BEFORE TRUNCATE ON seq_vshard_moves
	FOR EACH STATEMENT EXECUTE FUNCTION seq_refuse_truncate();
ALTER TABLE seq_vshard_moves
	ENABLE ALWAYS TRIGGER seq_apply_passes_over,
	ENABLE ALWAYS TRIGGER seq_no_truncate;
COMMENT ON TABLE seq_vshard_moves IS
	'vshards of groups that have moved from or to this server; to be read as seq_moves';
COMMENT ON COLUMN seq_vshard_moves.role_name IS 'whose the group was';
SELECT pg_catalog.pg_extension_config_dump('seq_vshard_moves', '');

CREATE VIEW seq_moves AS
	SELECT move, name, state, vshards, changed_at FROM seq_vshard_moves;
COMMENT ON VIEW seq_moves IS
	'vshards of groups that move: requested: by this server, which has not got them yet; released: they are not this server''s any more, and their new owner''s when that has taken them; taken: they are this server''s';

CREATE FUNCTION seq_request_vshards(name text, vshards integer[]) RETURNS jsonb
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_request_vshards(text, integer[]) IS
	'at the new owner: ask for vshards of a group, which exists here or will; what it returns is for seq_release_vshards() at the old owner';

CREATE FUNCTION seq_release_vshards(request jsonb) RETURNS uuid
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_release_vshards(jsonb) IS
	'at the old owner: from this transaction''s commit on its group has these vshards no more; waits for transactions that have fetched for it';

CREATE FUNCTION seq_handover(move uuid) RETURNS jsonb
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_handover(uuid) IS
	'at the old owner, once the release is committed: what seq_take_vshards() at the new owner needs, as often as it is asked for';

CREATE FUNCTION seq_take_vshards(handover jsonb, timeout interval DEFAULT '1 min',
	force boolean DEFAULT false) RETURNS boolean
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_take_vshards(jsonb, interval, boolean) IS
	'at the new owner: its group has these vshards from here on, behind what the old owner has processed; false: it has taken them before; force: take what was released for another server, which never will';

CREATE FUNCTION seq_drop_move(move uuid) RETURNS void
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_drop_move(uuid) IS
	'forget a move; one that was released, when its new owner has taken it';

REVOKE ALL ON FUNCTION
	seq_request_vshards(text, integer[]),
	seq_release_vshards(jsonb),
	seq_handover(uuid),
	seq_take_vshards(jsonb, interval, boolean),
	seq_drop_move(uuid)
	FROM PUBLIC;
GRANT SELECT ON seq_moves TO pg_monitor;

--
-- How far behind everybody is, cheap enough to be asked all the time
--

CREATE FUNCTION seq_behind_info(
	OUT kind text, OUT name text, OUT id text, OUT oldest_unprocessed timestamptz,
	OUT last_progress timestamptz, OUT lost boolean, OUT pids integer[])
	RETURNS SETOF record
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';

CREATE VIEW seq_behind AS
	SELECT CASE WHEN i.kind = 'group' AND EXISTS (SELECT FROM seq_handler_definitions h
				WHERE h.id::pg_catalog.text = i.id)
			THEN 'handler' ELSE i.kind END AS kind,
		i.name, i.id, i.oldest_unprocessed,
		GREATEST(coalesce(pg_catalog.clock_timestamp() - i.oldest_unprocessed,
			interval '0'), interval '0') AS behind,
		i.last_progress, i.lost, i.pids,
		CASE WHEN i.kind = 'group' THEN (SELECT pg_catalog.count(*) FROM seq_parked_txns p
			WHERE p.id = i.id::bigint AND NOT p.settled) END AS parked
	FROM seq_behind_info() i;
COMMENT ON VIEW seq_behind IS
	'how old the oldest entry is that the applier, each consumer by name, and each follower of this log has not processed: from the log, found by its index, zero for who has nothing to come';
COMMENT ON COLUMN seq_behind.kind IS
	'applier, stream, group, handler, follower';
COMMENT ON COLUMN seq_behind.id IS
	'of a follower as in seq_followers, of a registered consumer its registration';
COMMENT ON COLUMN seq_behind.last_progress IS
	'of a follower, when it has told last where it is';

REVOKE ALL ON FUNCTION seq_behind_info() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION seq_behind_info() TO pg_monitor;
GRANT SELECT ON seq_behind TO pg_monitor;

--
-- What LIMIT leaves out would be lost: what receives rows refuses it.
--

CREATE FUNCTION seq_receive_support(internal) RETURNS internal
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION seq_receive_support(internal) FROM PUBLIC;
COMMENT ON FUNCTION seq_receive_support(internal) IS
	'for the planner: refuses LIMIT on what receives rows';
ALTER FUNCTION seq_receive(integer, interval, text) SUPPORT seq_receive_support;
ALTER FUNCTION seq_fetch(text, integer, interval) SUPPORT seq_receive_support;
ALTER FUNCTION seq_fetch_json(text, integer, interval) SUPPORT seq_receive_support;

--
-- The guard belongs to who cannot be dropped: an event trigger's owner has to be a
-- superuser, and so REASSIGN OWNED from who created the extension to somebody who is none
-- failed.  Nobody but him may replace what it calls.
--

DO $$
DECLARE
	first name;
BEGIN
	SELECT r.rolname INTO first FROM pg_catalog.pg_roles r
		WHERE r.oid OPERATOR(pg_catalog.=) 10 AND r.rolsuper;
	IF FOUND THEN
		EXECUTE pg_catalog.format('ALTER FUNCTION seq_log_guard() OWNER TO %I', first);
		EXECUTE pg_catalog.format('ALTER FUNCTION seq_log_guard_kept() OWNER TO %I', first);
		EXECUTE pg_catalog.format('ALTER EVENT TRIGGER seq_log_guard OWNER TO %I', first);
		EXECUTE pg_catalog.format('ALTER EVENT TRIGGER seq_log_guard_kept OWNER TO %I', first);
	END IF;
END $$;

--
-- What 42883 is about, where \df+ and the like show it: no overload could take 5 or
-- ARRAY['orders'] without making calls with untyped literals ambiguous.
--

COMMENT ON FUNCTION seq_fetch(text, integer, interval) IS
	'the next transactions for a group, which this transaction has processed if it commits; waits up to timeout, an interval as in ''5 s'', for the first';
COMMENT ON FUNCTION seq_fetch_json(text, integer, interval) IS
	'as seq_fetch, for what seq_send has sent; an error that names the transaction if its plans are not JSON; timeout is an interval, as in ''5 s''';
COMMENT ON FUNCTION seq_receive(integer, interval, text) IS
	'transactions that came for this session, per vshard in key order; waits up to timeout, an interval as in ''5 s'', for the first';
COMMENT ON FUNCTION seq_subscribe(integer[], text, bigint, integer, integer, boolean) IS
	'make this session the consumer "name" of some vshards, which are numbers, as in ARRAY[seq_vshard(''orders/1'')]; queue_size in bytes';
COMMENT ON FUNCTION seq_register(text, integer[], bigint) IS
	'register a consumer, which from this transaction''s commit on has durable cursors of these vshards (numbers, as in ARRAY[seq_vshard(''orders/1'')]), at the beginning of an epoch (null: at the log''s end when it commits); it belongs to the present role';
