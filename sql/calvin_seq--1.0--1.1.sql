/* calvin_seq 1.0 to 1.1 */

\echo Use "ALTER EXTENSION calvin_seq UPDATE TO '1.1'" to load this file. \quit

--
-- CREATE EXTENSION runs this behind calvin_seq--1.0.sql, so that a new database and an
-- updated one cannot differ. 1.0 is as it was released: what changes is changed here.
--

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
		EXECUTE pg_catalog.format('ALTER FUNCTION @extschema@.seq_log_guard() OWNER TO %I', first);
		EXECUTE pg_catalog.format('ALTER FUNCTION @extschema@.seq_log_guard_kept() OWNER TO %I', first);
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
