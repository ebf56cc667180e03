/* calvin_seq 1.0 */

\echo Use "CREATE EXTENSION calvin_seq" to load this file. \quit

--
-- The guard, first of all: it makes what follows members of the extension, also
-- indexes, triggers and constraints
--

CREATE FUNCTION seq_log_guard() RETURNS event_trigger
	LANGUAGE C AS 'MODULE_PATHNAME';
CREATE EVENT TRIGGER seq_log_guard ON ddl_command_end
	EXECUTE FUNCTION seq_log_guard();
ALTER EVENT TRIGGER seq_log_guard ENABLE ALWAYS;

-- The same again, for who replaces the function of the first.
CREATE FUNCTION seq_log_guard_kept() RETURNS event_trigger
	LANGUAGE C AS 'MODULE_PATHNAME', 'seq_log_guard';
CREATE EVENT TRIGGER seq_log_guard_kept ON ddl_command_end
	WHEN TAG IN ('CREATE FUNCTION')
	EXECUTE FUNCTION seq_log_guard_kept();
ALTER EVENT TRIGGER seq_log_guard_kept ENABLE ALWAYS;
REVOKE ALL ON FUNCTION seq_log_guard(), seq_log_guard_kept() FROM PUBLIC;

--
-- The log
--

CREATE TABLE seq_log (
	log_index bigint PRIMARY KEY,
	entry bytea NOT NULL,
	kind text,
	epoch bigint,
	appended_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE seq_log ALTER COLUMN entry SET STORAGE EXTERNAL;

-- Batches that raise the epoch: both columns ascend together.
CREATE INDEX seq_log_epoch_idx ON seq_log (epoch) WHERE kind = 'epoch_batch';

-- Acks by the transaction they are for.
CREATE FUNCTION seq_log_ack_position(entry bytea) RETURNS bigint
	LANGUAGE C STRICT IMMUTABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION seq_log_ack_position(bytea) FROM PUBLIC;
CREATE INDEX seq_log_ack_idx ON seq_log (epoch, seq_log_ack_position(entry))
	WHERE kind = 'completion_ack';

COMMENT ON TABLE seq_log IS
	'the committed, ordered log of sequencer entries; append-only';
COMMENT ON COLUMN seq_log.log_index IS
	'order of the entry, from 1 in commit order; assigned when left out';
COMMENT ON COLUMN seq_log.entry IS
	'the entry in MessagePack, at most 256 MB; no bytes are a no-op';
COMMENT ON COLUMN seq_log.kind IS
	'epoch_batch, stale_batch, completion_ack, noop or undecodable; derived';
COMMENT ON COLUMN seq_log.epoch IS
	'the entry''s epoch, null for no-ops and undecodable entries; derived';

CREATE FUNCTION seq_log_before_insert() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION seq_log_after_insert() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION seq_log_refuse_change() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION seq_log_before_insert(), seq_log_after_insert(),
	seq_log_refuse_change() FROM PUBLIC;

CREATE TRIGGER seq_log_assign BEFORE INSERT ON seq_log
	FOR EACH ROW EXECUTE FUNCTION seq_log_before_insert();
CREATE TRIGGER seq_log_correct AFTER INSERT ON seq_log
	FOR EACH STATEMENT EXECUTE FUNCTION seq_log_after_insert();
CREATE TRIGGER seq_log_no_change BEFORE UPDATE OR DELETE ON seq_log
	FOR EACH STATEMENT EXECUTE FUNCTION seq_log_refuse_change();
CREATE TRIGGER seq_log_no_row_change BEFORE UPDATE OR DELETE ON seq_log
	FOR EACH ROW EXECUTE FUNCTION seq_log_refuse_change();
CREATE TRIGGER seq_log_no_truncate BEFORE TRUNCATE ON seq_log
	FOR EACH STATEMENT EXECUTE FUNCTION seq_log_refuse_change();
ALTER TABLE seq_log ENABLE ALWAYS TRIGGER seq_log_assign;
ALTER TABLE seq_log ENABLE ALWAYS TRIGGER seq_log_correct;
ALTER TABLE seq_log ENABLE ALWAYS TRIGGER seq_log_no_change;
ALTER TABLE seq_log ENABLE ALWAYS TRIGGER seq_log_no_row_change;
ALTER TABLE seq_log ENABLE ALWAYS TRIGGER seq_log_no_truncate;

SELECT pg_catalog.pg_extension_config_dump('seq_log', '');

--
-- All other tables are about this server: what logical replication brings of them
-- is passed over
--

CREATE FUNCTION seq_pass_over_replicated() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION seq_refuse_truncate() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION seq_pass_over_replicated(), seq_refuse_truncate() FROM PUBLIC;

--
-- Durable cursors
--

-- Each version is a row of its own, with the newest one last in the key: what
-- it replaced lies behind, where nobody passes by.  There is one at a time.
CREATE TABLE seq_cursor_positions (
	name name,
	vshard integer CHECK (vshard BETWEEN 0 AND 1023),
	epoch bigint NOT NULL CHECK (epoch >= 0),
	"position" bigint NOT NULL CHECK ("position" >= 0),
	version bigint NOT NULL CHECK (version > 0),
	committed_at timestamptz NOT NULL,
	incarnation bigint NOT NULL DEFAULT 0 CHECK (incarnation >= 0),
	stored_by bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (name, vshard, incarnation, version)
);
CREATE TRIGGER seq_apply_passes_over BEFORE INSERT OR UPDATE OR DELETE ON seq_cursor_positions
	FOR EACH ROW EXECUTE FUNCTION seq_pass_over_replicated();
CREATE TRIGGER seq_no_truncate BEFORE TRUNCATE ON seq_cursor_positions
	FOR EACH STATEMENT EXECUTE FUNCTION seq_refuse_truncate();
ALTER TABLE seq_cursor_positions
	ENABLE ALWAYS TRIGGER seq_apply_passes_over,
	ENABLE ALWAYS TRIGGER seq_no_truncate;
-- Of two sessions that make the same cursor, one fails here.
CREATE UNIQUE INDEX seq_cursor_positions_first_idx
	ON seq_cursor_positions (name, vshard) WHERE version = 1;
COMMENT ON TABLE seq_cursor_positions IS
	'durable cursors as they are stored; to be read as seq_cursors';
COMMENT ON COLUMN seq_cursor_positions.incarnation IS
	'tells a cursor from one of the same name that was dropped before';
COMMENT ON COLUMN seq_cursor_positions.stored_by IS
	'the transaction that has stored this version: the same one may be stored again by another, if it was rolled back';

CREATE FUNCTION seq_cursor_positions_before_insert() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION seq_cursor_positions_before_insert() FROM PUBLIC;
CREATE TRIGGER seq_cursor_positions_alone BEFORE INSERT ON seq_cursor_positions
	FOR EACH ROW EXECUTE FUNCTION seq_cursor_positions_before_insert();
ALTER TABLE seq_cursor_positions ENABLE ALWAYS TRIGGER seq_cursor_positions_alone;

SELECT pg_catalog.pg_extension_config_dump('seq_cursor_positions', '');

CREATE FUNCTION seq_cursors_info(
	OUT name name, OUT vshard integer, OUT epoch bigint,
	OUT "position" bigint, OUT version bigint, OUT committed_at timestamptz)
	RETURNS SETOF record
	LANGUAGE C STRICT STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
CREATE VIEW seq_cursors AS SELECT * FROM seq_cursors_info();
COMMENT ON VIEW seq_cursors IS
	'durable cursors: the first key that each (name, vshard) has not processed';

--
-- Consumers by name
--

CREATE TABLE seq_registrations (
	name name PRIMARY KEY,
	id bigint NOT NULL UNIQUE CHECK (id > 0),
	kind text NOT NULL CHECK (kind IN ('stream', 'group')),
	owner oid NOT NULL,
	owner_name name,
	vshards integer[],
	partitions integer CHECK (partitions BETWEEN 1 AND 1024),
	collections text[],
	registered_at timestamptz NOT NULL,
	lost_before bigint CHECK (lost_before > 0),
	CHECK (partitions IS NOT NULL OR kind = 'stream')
);
CREATE TRIGGER seq_apply_passes_over BEFORE INSERT OR UPDATE OR DELETE ON seq_registrations
	FOR EACH ROW EXECUTE FUNCTION seq_pass_over_replicated();
CREATE TRIGGER seq_no_truncate BEFORE TRUNCATE ON seq_registrations
	FOR EACH STATEMENT EXECUTE FUNCTION seq_refuse_truncate();
ALTER TABLE seq_registrations
	ENABLE ALWAYS TRIGGER seq_apply_passes_over,
	ENABLE ALWAYS TRIGGER seq_no_truncate;
COMMENT ON TABLE seq_registrations IS
	'registered consumers and groups; to be read as seq_consumers';
COMMENT ON COLUMN seq_registrations.id IS
	'tells a consumer from one of the same name before it';
COMMENT ON COLUMN seq_registrations.owner_name IS
	'in a dump: the owner, whose number may be another one where it is restored';
COMMENT ON COLUMN seq_registrations.collections IS
	'names, or prefixes that end in %; null: all';
COMMENT ON COLUMN seq_registrations.lost_before IS
	'something before this epoch, which it needed, was truncated nevertheless';

CREATE FUNCTION seq_registrations_before_insert() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION seq_registrations_before_insert() FROM PUBLIC;
CREATE TRIGGER seq_registrations_restore BEFORE INSERT ON seq_registrations
	FOR EACH ROW EXECUTE FUNCTION seq_registrations_before_insert();
ALTER TABLE seq_registrations ENABLE ALWAYS TRIGGER seq_registrations_restore;

-- A role has another number elsewhere, but its name.
SELECT pg_catalog.pg_extension_config_dump('seq_registrations',
	'WHERE false UNION ALL SELECT name, id, kind, 0::pg_catalog.oid,'
	' pg_catalog.pg_get_userbyid(owner), vshards, partitions, collections, registered_at,'
	' lost_before'
	' FROM @extschema@.seq_registrations');

-- As durable cursors are stored: the newest version is the last one of its key.
CREATE TABLE seq_group_positions (
	id bigint,
	"partition" integer CHECK ("partition" BETWEEN 0 AND 1023),
	version bigint CHECK (version > 0),
	epoch bigint NOT NULL CHECK (epoch >= 0),
	"position" bigint NOT NULL CHECK ("position" >= 0),
	vshard integer NOT NULL CHECK (vshard BETWEEN 0 AND 1023),
	moved_at timestamptz NOT NULL,
	delivered bigint NOT NULL DEFAULT 0 CHECK (delivered >= 0),
	attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
	retried bigint NOT NULL DEFAULT 0 CHECK (retried >= 0),
	retry_at timestamptz,
	error text,
	PRIMARY KEY (id, "partition", version)
);
CREATE TRIGGER seq_apply_passes_over BEFORE INSERT OR UPDATE OR DELETE ON seq_group_positions
	FOR EACH ROW EXECUTE FUNCTION seq_pass_over_replicated();
CREATE TRIGGER seq_no_truncate BEFORE TRUNCATE ON seq_group_positions
	FOR EACH STATEMENT EXECUTE FUNCTION seq_refuse_truncate();
ALTER TABLE seq_group_positions
	ENABLE ALWAYS TRIGGER seq_apply_passes_over,
	ENABLE ALWAYS TRIGGER seq_no_truncate;
COMMENT ON TABLE seq_group_positions IS
	'the first key that each partition of a group has not processed; to be read as seq_consumers';
COMMENT ON COLUMN seq_group_positions.attempts IS
	'of a handler, at the transaction that is next';
SELECT pg_catalog.pg_extension_config_dump('seq_group_positions', '');

CREATE TABLE seq_parked_txns (
	id bigint,
	epoch bigint CHECK (epoch >= 0),
	"position" bigint CHECK ("position" >= 0),
	vshard integer CHECK (vshard BETWEEN 0 AND 1023),
	epoch_system_ms bigint NOT NULL,
	tx_class bytea NOT NULL,
	reason text NOT NULL,
	attempts integer NOT NULL CHECK (attempts >= 0),
	parked_at timestamptz NOT NULL,
	settled boolean NOT NULL DEFAULT false,
	PRIMARY KEY (id, epoch, "position", vshard)
);
CREATE TRIGGER seq_apply_passes_over BEFORE INSERT OR UPDATE OR DELETE ON seq_parked_txns
	FOR EACH ROW EXECUTE FUNCTION seq_pass_over_replicated();
CREATE TRIGGER seq_no_truncate BEFORE TRUNCATE ON seq_parked_txns
	FOR EACH STATEMENT EXECUTE FUNCTION seq_refuse_truncate();
ALTER TABLE seq_parked_txns
	ENABLE ALWAYS TRIGGER seq_apply_passes_over,
	ENABLE ALWAYS TRIGGER seq_no_truncate;
COMMENT ON TABLE seq_parked_txns IS
	'transactions that groups have set aside; to be read as seq_parked';
COMMENT ON COLUMN seq_parked_txns.settled IS
	'retried or dropped before its group came to it, which is still to pass over it';
SELECT pg_catalog.pg_extension_config_dump('seq_parked_txns', '');

-- Which function the server runs for a group, and as whom.
CREATE TABLE seq_handler_definitions (
	name name PRIMARY KEY,
	id bigint NOT NULL,
	definition bigint NOT NULL CHECK (definition > 0),
	handler_schema name NOT NULL,
	handler_name name NOT NULL,
	takes_array boolean NOT NULL,
	role oid NOT NULL,
	role_name name NOT NULL,
	workers integer NOT NULL CHECK (workers > 0),
	max_attempts integer NOT NULL CHECK (max_attempts > 0),
	batch integer NOT NULL CHECK (batch > 0),
	backoff_ms integer NOT NULL CHECK (backoff_ms > 0),
	defined_at timestamptz NOT NULL,
	handler_owner name NOT NULL
);
CREATE TRIGGER seq_apply_passes_over BEFORE INSERT OR UPDATE OR DELETE ON seq_handler_definitions
	FOR EACH ROW EXECUTE FUNCTION seq_pass_over_replicated();
CREATE TRIGGER seq_no_truncate BEFORE TRUNCATE ON seq_handler_definitions
	FOR EACH STATEMENT EXECUTE FUNCTION seq_refuse_truncate();
ALTER TABLE seq_handler_definitions
	ENABLE ALWAYS TRIGGER seq_apply_passes_over,
	ENABLE ALWAYS TRIGGER seq_no_truncate;
COMMENT ON TABLE seq_handler_definitions IS
	'handlers of groups; to be read as seq_handlers';
COMMENT ON COLUMN seq_handler_definitions.id IS 'of the group, in seq_registrations';
COMMENT ON COLUMN seq_handler_definitions.definition IS
	'tells a handler from one of the same group before it';
COMMENT ON COLUMN seq_handler_definitions.role_name IS
	'whose number may be another one where a dump is restored';
COMMENT ON COLUMN seq_handler_definitions.handler_owner IS
	'whose the function was; one of another owner, who may not act as the role, is not called';

CREATE FUNCTION seq_handler_definitions_before_change() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME';
CREATE FUNCTION seq_handler_definitions_after_change() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION
	seq_handler_definitions_before_change(),
	seq_handler_definitions_after_change()
	FROM PUBLIC;
CREATE TRIGGER seq_handler_definitions_restore
	BEFORE INSERT ON seq_handler_definitions
	FOR EACH ROW EXECUTE FUNCTION seq_handler_definitions_before_change();
CREATE TRIGGER seq_handler_definitions_no_change
	BEFORE UPDATE ON seq_handler_definitions
	FOR EACH STATEMENT EXECUTE FUNCTION seq_handler_definitions_before_change();
CREATE TRIGGER seq_handler_definitions_role
	AFTER INSERT ON seq_handler_definitions
	FOR EACH ROW EXECUTE FUNCTION seq_handler_definitions_after_change();
CREATE TRIGGER seq_handler_definitions_tell
	AFTER INSERT OR DELETE OR TRUNCATE ON seq_handler_definitions
	FOR EACH STATEMENT EXECUTE FUNCTION seq_handler_definitions_after_change();
ALTER TABLE seq_handler_definitions
	ENABLE ALWAYS TRIGGER seq_handler_definitions_restore,
	ENABLE ALWAYS TRIGGER seq_handler_definitions_no_change,
	ENABLE ALWAYS TRIGGER seq_handler_definitions_role,
	ENABLE ALWAYS TRIGGER seq_handler_definitions_tell;
SELECT pg_catalog.pg_extension_config_dump('seq_handler_definitions',
	'WHERE false UNION ALL SELECT name, id, definition, handler_schema, handler_name,'
	' takes_array, 0::pg_catalog.oid, pg_catalog.pg_get_userbyid(role), workers,'
	' max_attempts, batch, backoff_ms, defined_at, handler_owner'
	' FROM @extschema@.seq_handler_definitions');

--
-- Snapshots of the state machine
--

CREATE TABLE seq_snapshots (
	log_index bigint PRIMARY KEY CHECK (log_index > 0),
	last_applied_epoch bigint,
	digest text NOT NULL,
	digest_version integer NOT NULL,
	taken_at timestamptz NOT NULL,
	base boolean NOT NULL DEFAULT false,
	entry_length bigint,
	entry_crc bigint,
	identity uuid
);
CREATE TRIGGER seq_apply_passes_over BEFORE INSERT OR UPDATE OR DELETE ON seq_snapshots
	FOR EACH ROW EXECUTE FUNCTION seq_pass_over_replicated();
CREATE TRIGGER seq_no_truncate BEFORE TRUNCATE ON seq_snapshots
	FOR EACH STATEMENT EXECUTE FUNCTION seq_refuse_truncate();
ALTER TABLE seq_snapshots
	ENABLE ALWAYS TRIGGER seq_apply_passes_over,
	ENABLE ALWAYS TRIGGER seq_no_truncate;
CREATE UNIQUE INDEX seq_snapshots_base_idx ON seq_snapshots (base) WHERE base;
COMMENT ON TABLE seq_snapshots IS
	'states of the state machine, with which the applier begins after a restart';
COMMENT ON COLUMN seq_snapshots.base IS
	'the state at the end of what was truncated, with which the log begins';
COMMENT ON COLUMN seq_snapshots.entry_crc IS
	'with entry_length and identity: the CRC-32C of its entry, and which log that is in';

CREATE FUNCTION seq_snapshots_before_insert() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION seq_snapshots_before_insert() FROM PUBLIC;
CREATE TRIGGER seq_snapshots_pass_over BEFORE INSERT ON seq_snapshots
	FOR EACH ROW EXECUTE FUNCTION seq_snapshots_before_insert();
ALTER TABLE seq_snapshots ENABLE ALWAYS TRIGGER seq_snapshots_pass_over;

SELECT pg_catalog.pg_extension_config_dump('seq_snapshots', '');

--
-- Which log this is
--

CREATE TABLE seq_identity (
	one boolean PRIMARY KEY DEFAULT true CHECK (one),
	identity uuid NOT NULL
);
CREATE TRIGGER seq_apply_passes_over BEFORE INSERT OR UPDATE OR DELETE ON seq_identity
	FOR EACH ROW EXECUTE FUNCTION seq_pass_over_replicated();
CREATE TRIGGER seq_no_truncate BEFORE TRUNCATE ON seq_identity
	FOR EACH STATEMENT EXECUTE FUNCTION seq_refuse_truncate();
ALTER TABLE seq_identity
	ENABLE ALWAYS TRIGGER seq_apply_passes_over,
	ENABLE ALWAYS TRIGGER seq_no_truncate;
COMMENT ON TABLE seq_identity IS
	'which log this is: given with its first entry, and restored with it';

CREATE FUNCTION seq_identity_before_change() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION seq_identity_before_change() FROM PUBLIC;
CREATE TRIGGER seq_identity_restore BEFORE INSERT ON seq_identity
	FOR EACH ROW EXECUTE FUNCTION seq_identity_before_change();
CREATE TRIGGER seq_identity_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON seq_identity
	FOR EACH STATEMENT EXECUTE FUNCTION seq_identity_before_change();
ALTER TABLE seq_identity ENABLE ALWAYS TRIGGER seq_identity_restore;
ALTER TABLE seq_identity ENABLE ALWAYS TRIGGER seq_identity_no_change;

SELECT pg_catalog.pg_extension_config_dump('seq_identity', '');

--
-- Whether this log is another server's
--

CREATE TABLE seq_following (
	one boolean PRIMARY KEY DEFAULT true CHECK (one),
	id uuid NOT NULL,
	mode text NOT NULL CHECK (mode IN ('pull', 'fed', 'restored')),
	source text NOT NULL,
	conninfo text CHECK ((conninfo IS NOT NULL) = (mode = 'pull')),
	since timestamptz NOT NULL,
	first_base bigint NOT NULL CHECK (first_base >= 0)
);
CREATE TRIGGER seq_apply_passes_over BEFORE INSERT OR UPDATE OR DELETE ON seq_following
	FOR EACH ROW EXECUTE FUNCTION seq_pass_over_replicated();
CREATE TRIGGER seq_no_truncate BEFORE TRUNCATE ON seq_following
	FOR EACH STATEMENT EXECUTE FUNCTION seq_refuse_truncate();
ALTER TABLE seq_following
	ENABLE ALWAYS TRIGGER seq_apply_passes_over,
	ENABLE ALWAYS TRIGGER seq_no_truncate;
COMMENT ON TABLE seq_following IS
	'whose log this is a copy of, if it is one; to be read as seq_follower';
COMMENT ON COLUMN seq_following.id IS
	'tells this follower from others, and from itself before';
COMMENT ON COLUMN seq_following.mode IS
	'pull: its worker gets the entries; fed: logical replication brings them; restored: from the dump of a follower, which neither follows nor appends';
COMMENT ON COLUMN seq_following.first_base IS
	'log_index of the base that it was given when it was empty';

CREATE FUNCTION seq_following_before_change() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION seq_following_before_change() FROM PUBLIC;
CREATE TRIGGER seq_following_restore BEFORE INSERT ON seq_following
	FOR EACH ROW EXECUTE FUNCTION seq_following_before_change();
CREATE TRIGGER seq_following_no_change BEFORE UPDATE OR DELETE ON seq_following
	FOR EACH STATEMENT EXECUTE FUNCTION seq_following_before_change();
ALTER TABLE seq_following
	ENABLE ALWAYS TRIGGER seq_following_restore,
	ENABLE ALWAYS TRIGGER seq_following_no_change;

-- A copy of a follower shall neither follow, nor append, without being told so.
SELECT pg_catalog.pg_extension_config_dump('seq_following',
	'WHERE false UNION ALL SELECT one, id, ''restored'', source, NULL, since, first_base'
	' FROM @extschema@.seq_following');

-- A follower's acknowledgements, until they have come back with the log.
CREATE TABLE seq_outgoing_acks (
	epoch bigint CHECK (epoch >= 0),
	"position" bigint CHECK ("position" >= 0),
	vshard integer CHECK (vshard BETWEEN 0 AND 1023),
	stored_by bigint,
	stored_at timestamptz NOT NULL,
	PRIMARY KEY (epoch, "position", vshard, stored_by)
);
CREATE TRIGGER seq_apply_passes_over BEFORE INSERT OR UPDATE OR DELETE ON seq_outgoing_acks
	FOR EACH ROW EXECUTE FUNCTION seq_pass_over_replicated();
CREATE TRIGGER seq_no_truncate BEFORE TRUNCATE ON seq_outgoing_acks
	FOR EACH STATEMENT EXECUTE FUNCTION seq_refuse_truncate();
ALTER TABLE seq_outgoing_acks
	ENABLE ALWAYS TRIGGER seq_apply_passes_over,
	ENABLE ALWAYS TRIGGER seq_no_truncate;
COMMENT ON TABLE seq_outgoing_acks IS
	'acknowledgements of a follower that have not come back from its source yet';
SELECT pg_catalog.pg_extension_config_dump('seq_outgoing_acks', '');

-- Who follows this one; of this server and its standbys, so not in a dump.
CREATE TABLE seq_follower_positions (
	id uuid PRIMARY KEY,
	name text NOT NULL,
	log_index bigint NOT NULL CHECK (log_index >= 0),
	seen_at timestamptz NOT NULL,
	since timestamptz NOT NULL
);
CREATE TRIGGER seq_apply_passes_over BEFORE INSERT OR UPDATE OR DELETE ON seq_follower_positions
	FOR EACH ROW EXECUTE FUNCTION seq_pass_over_replicated();
CREATE TRIGGER seq_no_truncate BEFORE TRUNCATE ON seq_follower_positions
	FOR EACH STATEMENT EXECUTE FUNCTION seq_refuse_truncate();
ALTER TABLE seq_follower_positions
	ENABLE ALWAYS TRIGGER seq_apply_passes_over,
	ENABLE ALWAYS TRIGGER seq_no_truncate;
COMMENT ON TABLE seq_follower_positions IS
	'followers of this log, and what each has durably; to be read as seq_followers';

--
-- The inbox: what was submitted and is not in the log yet
--

-- The heaps that submissions wait in.  pg_dump locks every table, of extensions
-- too, from its beginning to its end, and so would keep them from being emptied; it
-- cannot lock a materialized view.  Nobody can read one that is not populated.
CREATE MATERIALIZED VIEW seq_inbox_0 WITH (autovacuum_enabled = false) AS
	SELECT 0::bigint AS stamp, 0::bigint AS at, 0::bigint AS link, 'p'::"char" AS kind,
		''::bytea AS data
	WITH NO DATA;
ALTER MATERIALIZED VIEW seq_inbox_0 ALTER COLUMN data SET STORAGE PLAIN;
CREATE MATERIALIZED VIEW seq_inbox_1 WITH (autovacuum_enabled = false) AS
	SELECT 0::bigint AS stamp, 0::bigint AS at, 0::bigint AS link, 'p'::"char" AS kind,
		''::bytea AS data
	WITH NO DATA;
ALTER MATERIALIZED VIEW seq_inbox_1 ALTER COLUMN data SET STORAGE PLAIN;
CREATE MATERIALIZED VIEW seq_inbox_2 WITH (autovacuum_enabled = false) AS
	SELECT 0::bigint AS stamp, 0::bigint AS at, 0::bigint AS link, 'p'::"char" AS kind,
		''::bytea AS data
	WITH NO DATA;
ALTER MATERIALIZED VIEW seq_inbox_2 ALTER COLUMN data SET STORAGE PLAIN;
CREATE MATERIALIZED VIEW seq_inbox_3 WITH (autovacuum_enabled = false) AS
	SELECT 0::bigint AS stamp, 0::bigint AS at, 0::bigint AS link, 'p'::"char" AS kind,
		''::bytea AS data
	WITH NO DATA;
ALTER MATERIALIZED VIEW seq_inbox_3 ALTER COLUMN data SET STORAGE PLAIN;
CREATE MATERIALIZED VIEW seq_inbox_4 WITH (autovacuum_enabled = false) AS
	SELECT 0::bigint AS stamp, 0::bigint AS at, 0::bigint AS link, 'p'::"char" AS kind,
		''::bytea AS data
	WITH NO DATA;
ALTER MATERIALIZED VIEW seq_inbox_4 ALTER COLUMN data SET STORAGE PLAIN;
CREATE MATERIALIZED VIEW seq_inbox_5 WITH (autovacuum_enabled = false) AS
	SELECT 0::bigint AS stamp, 0::bigint AS at, 0::bigint AS link, 'p'::"char" AS kind,
		''::bytea AS data
	WITH NO DATA;
ALTER MATERIALIZED VIEW seq_inbox_5 ALTER COLUMN data SET STORAGE PLAIN;
CREATE MATERIALIZED VIEW seq_inbox_6 WITH (autovacuum_enabled = false) AS
	SELECT 0::bigint AS stamp, 0::bigint AS at, 0::bigint AS link, 'p'::"char" AS kind,
		''::bytea AS data
	WITH NO DATA;
ALTER MATERIALIZED VIEW seq_inbox_6 ALTER COLUMN data SET STORAGE PLAIN;
CREATE MATERIALIZED VIEW seq_inbox_7 WITH (autovacuum_enabled = false) AS
	SELECT 0::bigint AS stamp, 0::bigint AS at, 0::bigint AS link, 'p'::"char" AS kind,
		''::bytea AS data
	WITH NO DATA;
ALTER MATERIALIZED VIEW seq_inbox_7 ALTER COLUMN data SET STORAGE PLAIN;

-- Where a dump's submissions come to, and are taken from behind the log's end then.
CREATE TABLE seq_inbox (
	place bigint PRIMARY KEY,
	submission bigint NOT NULL,
	log_end bigint NOT NULL,
	tx_class bytea NOT NULL
);
CREATE TRIGGER seq_apply_passes_over BEFORE INSERT OR UPDATE OR DELETE ON seq_inbox
	FOR EACH ROW EXECUTE FUNCTION seq_pass_over_replicated();
CREATE TRIGGER seq_no_truncate BEFORE TRUNCATE ON seq_inbox
	FOR EACH STATEMENT EXECUTE FUNCTION seq_refuse_truncate();
ALTER TABLE seq_inbox
	ENABLE ALWAYS TRIGGER seq_apply_passes_over,
	ENABLE ALWAYS TRIGGER seq_no_truncate;
COMMENT ON TABLE seq_inbox IS
	'restored submissions on their way into the log; usually empty, see seq_sequencer for what waits';
COMMENT ON COLUMN seq_inbox.log_end IS
	'the log''s last log_index when they were dumped';

CREATE FUNCTION seq_inbox_before_insert() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION seq_inbox_before_insert() FROM PUBLIC;
CREATE TRIGGER seq_inbox_restore BEFORE INSERT ON seq_inbox
	FOR EACH ROW EXECUTE FUNCTION seq_inbox_before_insert();
ALTER TABLE seq_inbox ENABLE ALWAYS TRIGGER seq_inbox_restore;

CREATE FUNCTION seq_inbox_waiting() RETURNS SETOF seq_inbox
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION seq_inbox_waiting() FROM PUBLIC;
COMMENT ON FUNCTION seq_inbox_waiting() IS
	'for pg_dump: what waits in the inbox, by the transaction''s snapshot';

-- A dump has what waits there as rows of seq_inbox.
SELECT pg_catalog.pg_extension_config_dump('seq_inbox',
	'UNION ALL SELECT * FROM @extschema@.seq_inbox_waiting()');

CREATE SEQUENCE seq_submission_numbers;
COMMENT ON SEQUENCE seq_submission_numbers IS
	'the highest submission number that was reserved: they are, in blocks';
SELECT pg_catalog.pg_extension_config_dump('seq_submission_numbers', '');

CREATE FUNCTION seq_snapshot() RETURNS bigint
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_snapshot() IS
	'store a snapshot of the state machine; returns its log_index';

CREATE FUNCTION seq_truncate() RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'seq_truncate_unneeded';
COMMENT ON FUNCTION seq_truncate() IS
	'remove the beginning of the log as far as nobody needs it; returns how many entries went';

CREATE FUNCTION seq_truncate(before_epoch bigint, force boolean DEFAULT false)
	RETURNS bigint
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_truncate(bigint, boolean) IS
	'remove the log in front of an epoch, unless somebody still needs it; returns how many entries went';

--
-- Appending
--

CREATE FUNCTION seq_append(entry bytea, force boolean DEFAULT false)
	RETURNS bigint
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_append(bytea, boolean) IS
	'check an entry, bring it into canonical form and append it; returns its log_index';

CREATE FUNCTION seq_append_json(entry jsonb, force boolean DEFAULT false)
	RETURNS bigint
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_append_json(jsonb, boolean) IS
	'append an entry written as JSON; a batch may leave out its epoch (the log''s next) and its epoch_system_ms (now, never before the last batch); returns its log_index';

CREATE FUNCTION seq_encode(entry jsonb) RETURNS bytea
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_encode(jsonb) IS
	'an entry''s canonical bytes; a batch needs its epoch and epoch_system_ms';

CREATE FUNCTION seq_decode(entry bytea) RETURNS jsonb
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_decode(bytea) IS
	'an entry as JSON; an error if the log would call it undecodable';

CREATE FUNCTION seq_vshard(collection text) RETURNS integer
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_vshard(text) IS
	'the vshard, 0 to 1023, that a collection belongs to';

CREATE FUNCTION seq_decode_tx_class(tx_class bytea) RETURNS jsonb
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_decode_tx_class(bytea) IS
	'a transaction''s content as JSON, as seq_submit takes it';

CREATE FUNCTION seq_collections(tx_class bytea) RETURNS text[]
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_collections(bytea) IS
	'the collections that a transaction writes, each once, in the order of its write set';

CREATE FUNCTION seq_collection(tx_class bytea) RETURNS text
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_collection(bytea) IS
	'the first collection that a transaction writes; null if it writes none';

CREATE FUNCTION seq_json(plans bytea) RETURNS jsonb
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_json(bytea) IS
	'the payload that seq_send was given; an error if plans are not JSON text in UTF-8';

--
-- Submitting
--

-- None is strict: a null that is passed over in silence is a lost message.
CREATE FUNCTION seq_send(collection text, payload jsonb,
	tenant_id bigint DEFAULT 0)
	RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_send(text, jsonb, bigint) IS
	'send a message to a collection (any name, also the empty one) if this transaction commits, in order with what else is sent there; returns its submission number';

CREATE FUNCTION seq_send_bytes(collection text, payload bytea,
	tenant_id bigint DEFAULT 0)
	RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_send_bytes(text, bytea, bigint) IS
	'as seq_send, with a payload of any bytes';

CREATE FUNCTION seq_submit(tx_class jsonb) RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_submit(jsonb) IS
	'submit a transaction written as JSON, to be sequenced if this one commits; returns its submission number';

CREATE FUNCTION seq_submit_encoded(tx_class bytea) RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_submit_encoded(bytea) IS
	'as seq_submit, in MessagePack: checked, and stored in canonical form';

CREATE FUNCTION seq_send_changes() RETURNS trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_send_changes() IS
	'for triggers AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW, with a prefix and the key''s columns: sends {"op", "table", "old", "new"} to prefix/key, and an UPDATE of the key to both; not for TRUNCATE';

--
-- Subscriptions
--

-- A transaction as a consumer gets it.
CREATE TYPE seq_txn AS (
	vshard integer,
	epoch bigint,
	"position" integer,
	epoch_system_ms bigint,
	tenant_id bigint,
	participating_vshards integer[],
	plans bytea,
	tx_class bytea
);

CREATE FUNCTION seq_subscribe(vshards integer[], name text DEFAULT 'default',
	from_epoch bigint DEFAULT NULL, from_position integer DEFAULT 0,
	queue_size integer DEFAULT NULL, lossless boolean DEFAULT true)
	RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_subscribe(integer[], text, bigint, integer, integer, boolean) IS
	'make this session the consumer "name" of some vshards; queue_size in bytes';

CREATE FUNCTION seq_unsubscribe(vshards integer[] DEFAULT NULL,
	name text DEFAULT 'default')
	RETURNS integer
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_unsubscribe(integer[], text) IS
	'end this session''s subscriptions, all of the name if no vshards are given; returns how many';

CREATE FUNCTION seq_receive(max_txns integer DEFAULT 100,
	timeout interval DEFAULT '0', name text DEFAULT 'default')
	RETURNS SETOF seq_txn
	LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_receive(integer, interval, text) IS
	'transactions that came for this session, per vshard in key order; waits up to timeout for the first';

CREATE FUNCTION seq_receive_batch(max_txns integer DEFAULT 100,
	timeout interval DEFAULT '0', name text DEFAULT 'default')
	RETURNS bytea
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_receive_batch(integer, interval, text) IS
	'as seq_receive, in one MessagePack array of [vshard, epoch, position, epoch_system_ms, TxClass]';

CREATE FUNCTION seq_commit(name text DEFAULT 'default') RETURNS integer
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_commit(text) IS
	'store this session''s position as the durable cursor, in this transaction; 40001 if another session has moved it';

CREATE FUNCTION seq_rewind(name text DEFAULT 'default') RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_rewind(text) IS
	'go back to the durable cursor, or without one to where this transaction began';

CREATE FUNCTION seq_drop_cursor(name text, vshards integer[] DEFAULT NULL)
	RETURNS integer
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_drop_cursor(text, integer[]) IS
	'forget durable cursors of a name, all if no vshards are given; returns how many';

CREATE FUNCTION seq_subscriptions_info(
	OUT vshard integer, OUT name text, OUT pid integer, OUT lossless boolean,
	OUT state text, OUT queue_size bigint, OUT queue_used bigint,
	OUT sent bigint, OUT dropped bigint, OUT replayed bigint,
	OUT last_epoch bigint, OUT last_position bigint, OUT lag bigint,
	OUT subscribed_at timestamptz)
	RETURNS SETOF record
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
CREATE VIEW seq_subscriptions AS SELECT * FROM seq_subscriptions_info();
COMMENT ON VIEW seq_subscriptions IS
	'consumers of this database: queue sizes in bytes, lag in epochs';

--
-- Registering
--

CREATE FUNCTION seq_register(name text, vshards integer[],
	from_epoch bigint DEFAULT NULL)
	RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_register(text, integer[], bigint) IS
	'register a consumer, which from this transaction''s commit on has durable cursors of these vshards, at the beginning of an epoch (null: at the log''s end when it commits); it belongs to the present role';

CREATE FUNCTION seq_unregister(name text) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_unregister(text) IS
	'forget a registered consumer and its durable cursors';

--
-- Groups: fetching without a session of one's own
--

-- None is strict: what a null would mean is said by an error.
CREATE FUNCTION seq_create_group(name text, partitions integer DEFAULT 16,
	vshards integer[] DEFAULT NULL, collections text[] DEFAULT NULL,
	from_epoch bigint DEFAULT NULL)
	RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_create_group(text, integer, integer[], text[], bigint) IS
	'make a group, of 1 to 1024 partitions, that gets what is for these vshards (null: all) and collections (names, or prefixes that end in %; null: all), from an epoch on (null: from the log''s end when this transaction commits)';

CREATE FUNCTION seq_drop_group(name text) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_drop_group(text) IS
	'forget a group, its positions and what it has parked; waits for transactions that have fetched for it';

CREATE FUNCTION seq_fetch(name text, max_txns integer DEFAULT 100,
	timeout interval DEFAULT '0')
	RETURNS SETOF seq_txn
	LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_fetch(text, integer, interval) IS
	'the next transactions for a group, which this transaction has processed if it commits; waits up to timeout for the first';

CREATE FUNCTION seq_fetch_json(name text, max_txns integer DEFAULT 100,
	timeout interval DEFAULT '0', OUT vshard integer, OUT epoch bigint,
	OUT "position" integer, OUT at timestamptz, OUT collection text,
	OUT tenant_id bigint, OUT payload jsonb)
	RETURNS SETOF record
	LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_fetch_json(text, integer, interval) IS
	'as seq_fetch, for what seq_send has sent; an error that names the transaction if its plans are not JSON';

CREATE FUNCTION seq_park(name text, vshard integer, epoch bigint,
	"position" integer, reason text)
	RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_park(text, integer, bigint, integer, text) IS
	'set a transaction aside for a group, which has not processed it yet, or has fetched it in this transaction';

CREATE FUNCTION seq_retry(name text, vshard integer, epoch bigint,
	"position" integer)
	RETURNS seq_txn
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_retry(text, integer, bigint, integer) IS
	'take a parked transaction back; if this one commits it is processed';

CREATE FUNCTION seq_drop_parked(name text, vshard integer, epoch bigint,
	"position" integer)
	RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_drop_parked(text, integer, bigint, integer) IS
	'forget a parked transaction, which nobody will process';

CREATE VIEW seq_parked AS
	SELECT r.name, p.vshard, p.epoch, p."position"::pg_catalog.int4 AS "position",
		pg_catalog.to_timestamp(p.epoch_system_ms / 1000.0) AS at,
		p.reason, p.attempts, p.parked_at, p.tx_class
	FROM seq_parked_txns p JOIN seq_registrations r ON r.id = p.id
	WHERE NOT p.settled;
COMMENT ON VIEW seq_parked IS
	'transactions that groups have set aside, for seq_retry or seq_drop_parked';

--
-- Handlers: groups whose workers the server runs
--

CREATE FUNCTION seq_handle(name text, handler regprocedure,
	workers integer DEFAULT 1, max_attempts integer DEFAULT 5,
	batch integer DEFAULT 100, backoff interval DEFAULT '100 ms')
	RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_handle(text, regprocedure, integer, integer, integer, interval) IS
	'have background workers call a function, with a seq_txn or a seq_txn[] of up to batch transactions, for what a group gets, as the role that calls this; one that fails is tried again after backoff, doubling up to a minute, and parked after max_attempts';

CREATE FUNCTION seq_unhandle(name text) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_unhandle(text) IS
	'no new call of a group''s handler begins after this commits; the group stays';

CREATE FUNCTION seq_handlers_info(
	OUT name name, OUT id bigint, OUT handler text, OUT role name,
	OUT workers integer, OUT pids integer[], OUT max_attempts integer,
	OUT batch integer, OUT backoff interval, OUT rate double precision,
	OUT state text, OUT last_error text, OUT last_error_at timestamptz,
	OUT defined_at timestamptz, OUT attempted integer[])
	RETURNS SETOF record
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
CREATE VIEW seq_handlers AS
	SELECT i.name, i.handler, i.role, i.workers, i.pids, i.state,
		coalesce(p.delivered, 0)::bigint AS processed,
		coalesce(p.retried, 0)::bigint AS failed,
		(SELECT pg_catalog.count(*) FROM seq_parked_txns t
			WHERE t.id = i.id AND NOT t.settled) AS parked,
		coalesce(p.retrying, 0) AS retrying,
		i.rate, coalesce(i.last_error, p.error) AS last_error,
		CASE WHEN i.last_error IS NULL THEN p.error_at ELSE i.last_error_at END
			AS last_error_at,
		i.max_attempts, i.batch, i.backoff, i.defined_at
	-- the attempt that is under way has been noted, and has not failed yet
	FROM seq_handlers_info() i,
		LATERAL (SELECT pg_catalog.sum(g.delivered) AS delivered,
				pg_catalog.sum(g.retried) AS retried,
				pg_catalog.count(*) FILTER (WHERE g.attempts > g.now) AS retrying,
				(pg_catalog.array_agg(g.error ORDER BY g.moved_at DESC)
					FILTER (WHERE g.error IS NOT NULL AND g.now = 0))[1] AS error,
				pg_catalog.max(g.moved_at)
					FILTER (WHERE g.error IS NOT NULL AND g.now = 0) AS error_at
			FROM (SELECT s.*, (s."partition" = ANY (i.attempted))::integer AS now
				FROM seq_group_positions s WHERE s.id = i.id) g) p;
COMMENT ON VIEW seq_handlers IS
	'handlers of groups, and how they do: processed by the group so far, failed calls of which an attempt was counted, partitions that retry, transactions a second lately';
COMMENT ON COLUMN seq_handlers.state IS
	'running: all of its workers are; starting: not yet; retrying: a worker has failed before or after a call; no slot: calvin_seq.max_handlers are taken; no place: max_worker_processes are; held: by a command on the database; stopped: it cannot run, last_error says why; standby: not before a promotion';

--
-- Consumers by name, as an operator sees them
--

CREATE FUNCTION seq_pending(name text) RETURNS bigint
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_pending(text) IS
	'how many transactions a consumer or group has not processed, counted from the log; one of several vshards counts for each, parked ones do not count';

CREATE FUNCTION seq_consumers_info(
	OUT name name, OUT id bigint, OUT kind text, OUT owner oid,
	OUT vshards integer[], OUT partitions integer, OUT epochs_behind bigint,
	OUT pending bigint, OUT oldest_unprocessed timestamptz,
	OUT delivered bigint, OUT retried bigint, OUT last_progress timestamptz,
	OUT lost boolean, OUT pids integer[])
	RETURNS SETOF record
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';

CREATE VIEW seq_consumers AS
	SELECT i.name, pg_catalog.pg_get_userbyid(i.owner) AS owner,
		CASE WHEN EXISTS (SELECT FROM seq_handler_definitions h WHERE h.id = i.id)
			THEN 'handler' ELSE i.kind END AS kind, i.vshards,
		i.partitions, i.pids, i.epochs_behind, i.pending, i.oldest_unprocessed,
		pg_catalog.clock_timestamp() - i.oldest_unprocessed AS lag,
		(SELECT pg_catalog.count(*) FROM seq_parked_txns p
			WHERE p.id = i.id AND NOT p.settled) AS parked,
		i.delivered, i.retried, i.last_progress,
		CASE WHEN i.lost THEN 'lost'
			WHEN i.pids IS NULL AND (i.kind = 'stream' OR i.last_progress IS NULL
				OR i.last_progress < pg_catalog.clock_timestamp() - interval '1 minute')
				THEN 'offline'
			WHEN i.oldest_unprocessed IS NULL
				OR i.oldest_unprocessed > pg_catalog.clock_timestamp() - interval '10 seconds'
				THEN 'live'
			WHEN GREATEST(i.last_progress, i.oldest_unprocessed)
				< pg_catalog.clock_timestamp() - interval '1 minute' THEN 'stalled'
			ELSE 'behind' END AS state
	FROM seq_consumers_info() i;
COMMENT ON VIEW seq_consumers IS
	'all consumers by name, also those that are offline, and how far behind they are: counted from the log with each query, so it takes the longer the more there is';
COMMENT ON COLUMN seq_consumers.vshards IS 'null: all of them';
COMMENT ON COLUMN seq_consumers.epochs_behind IS
	'epochs with something for it that it has not processed';
COMMENT ON COLUMN seq_consumers.state IS
	'lost: what it needs was truncated; offline: no session has it (of a group: in the last minute); live: nothing older than 10 seconds is unprocessed; stalled: something is, and it has not moved for a minute; behind: else';

--
-- Replay
--

CREATE FUNCTION seq_replay(vshard integer, from_epoch bigint, to_epoch bigint)
	RETURNS SETOF seq_txn
	LANGUAGE C STRICT STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_replay(integer, bigint, bigint) IS
	'a vshard''s transactions of epochs from_epoch to to_epoch, from the log alone';

--
-- Completions
--

CREATE FUNCTION seq_completion(epoch bigint, "position" bigint,
	OUT expected integer[], OUT acked integer[], OUT complete boolean)
	RETURNS record
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_completion(bigint, bigint) IS
	'participants of a transaction, which of them have acknowledged it, and whether all have; null if its batch is not in the log';

CREATE FUNCTION seq_ack(epoch bigint, "position" bigint, vshard integer)
	RETURNS bigint
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_ack(bigint, bigint, integer) IS
	'append the acknowledgement of a transaction by one of its vshards, at a follower have it shipped; returns its log_index';

CREATE FUNCTION seq_wait_for_completion(epoch bigint, "position" bigint,
	timeout interval)
	RETURNS boolean
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_wait_for_completion(bigint, bigint, interval) IS
	'wait until every participant''s acknowledgement is applied; false if timeout comes first';

--
-- State and metrics
--

CREATE FUNCTION seq_last_applied_epoch() RETURNS bigint
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_last_applied_epoch() IS
	'the epoch the state machine stands at, null if none was applied';
CREATE FUNCTION seq_next_epoch() RETURNS bigint
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_next_epoch() IS
	'the epoch the state machine expects next';
CREATE FUNCTION seq_current_committed_epoch() RETURNS bigint
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_current_committed_epoch() IS
	'the highest epoch in the log, applied or not, null if it has none';
CREATE FUNCTION seq_wait_for_epoch(epoch bigint, timeout interval)
	RETURNS boolean
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_wait_for_epoch(bigint, interval) IS
	'wait until an epoch is applied and can be received; false if timeout comes first';
CREATE FUNCTION seq_wait_for_index(log_index bigint, timeout interval)
	RETURNS boolean
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_wait_for_index(bigint, interval) IS
	'wait until the log is applied up to a log_index; false if timeout comes first';

CREATE FUNCTION seq_state_info(
	OUT role text, OUT applier_pid integer, OUT applier_state text,
	OUT last_applied_epoch bigint, OUT last_applied_index bigint,
	OUT log_end bigint, OUT lag bigint, OUT digest text,
	OUT started_at timestamptz, OUT last_error text,
	OUT last_error_at timestamptz)
	RETURNS record
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
CREATE VIEW seq_state AS SELECT * FROM seq_state_info();
COMMENT ON VIEW seq_state IS
	'the state machine of this database; lag in entries';

CREATE FUNCTION seq_progress_info(
	OUT applied bigint, OUT total bigint, OUT rate double precision,
	OUT time_left interval)
	RETURNS SETOF record
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
CREATE VIEW seq_progress AS SELECT * FROM seq_progress_info();
COMMENT ON VIEW seq_progress IS
	'while the applier catches up after its start: log indexes, entries per second';

CREATE FUNCTION seq_metrics_info(
	OUT epochs_applied bigint, OUT txns_fanned_out bigint,
	OUT txns_dropped_backpressure bigint, OUT epochs_skipped_gap bigint,
	OUT epochs_skipped_stale bigint, OUT entries_applied bigint,
	OUT entries_noop bigint, OUT entries_undecodable bigint,
	OUT completion_acks bigint, OUT bytes_applied bigint,
	OUT latency_p50_us double precision, OUT latency_p99_us double precision,
	OUT latency_max_us double precision)
	RETURNS record
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
CREATE VIEW seq_metrics AS SELECT * FROM seq_metrics_info();
COMMENT ON VIEW seq_metrics IS
	'counters since the server started or seq_metrics_reset(); latency from append to fan-out';
CREATE FUNCTION seq_metrics_reset() RETURNS void
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_metrics_reset() IS
	'let seq_metrics count from now on';

--
-- What became of a submission, and the sequencer
--

CREATE FUNCTION seq_submission(submission bigint, timeout interval DEFAULT '0',
	OUT epoch bigint, OUT "position" integer)
	RETURNS record
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_submission(bigint, interval) IS
	'where a submission went, nulls if it is not in the log yet; waits up to timeout for that; numbers are unique among committed transactions: one whose transaction was lost in a crash may be given to another';

CREATE FUNCTION seq_sequencer_info(
	OUT pid integer, OUT state text, OUT submitted bigint, OUT sequenced bigint,
	OUT epochs bigint, OUT waiting_rows bigint, OUT waiting_bytes bigint,
	OUT oldest_waiting timestamptz, OUT rejected bigint,
	OUT rejected_no_participants bigint, OUT rejected_plans_bytes bigint,
	OUT rejected_participating_vshards bigint,
	OUT rejected_dependent_read_bytes bigint,
	OUT rejected_dependent_read_passives bigint, OUT rejected_too_large bigint,
	OUT rejected_tenant_quota bigint, OUT rejected_inbox_full bigint,
	OUT latency_p50_us double precision, OUT latency_p99_us double precision,
	OUT latency_max_us double precision, OUT committing_pid integer,
	OUT restoring boolean, OUT last_error text, OUT last_error_at timestamptz)
	RETURNS record
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
CREATE VIEW seq_sequencer AS
	SELECT i.pid, i.state, i.submitted, i.sequenced, i.epochs, i.waiting_rows,
		i.waiting_bytes, i.oldest_waiting,
		CASE WHEN w.blockers <> '{}' THEN 'append'
			WHEN i.restoring THEN 'restore'
			WHEN i.committing_pid IS NOT NULL AND i.waiting_rows > 0 THEN 'commit'
			END AS waits_for,
		CASE WHEN w.blockers <> '{}' THEN w.blockers
			WHEN i.committing_pid IS NOT NULL AND i.waiting_rows > 0 AND NOT i.restoring
				THEN ARRAY[i.committing_pid]
			END AS waits_for_pids,
		i.rejected, i.rejected_no_participants, i.rejected_plans_bytes,
		i.rejected_participating_vshards, i.rejected_dependent_read_bytes,
		i.rejected_dependent_read_passives, i.rejected_too_large,
		i.rejected_tenant_quota, i.rejected_inbox_full,
		i.latency_p50_us, i.latency_p99_us, i.latency_max_us,
		i.last_error, i.last_error_at
	FROM seq_sequencer_info() i,
		LATERAL (SELECT pg_catalog.pg_blocking_pids(i.pid) AS blockers) w;
COMMENT ON VIEW seq_sequencer IS
	'submissions since the server started, what waits, and the sequencer; latency from commit to log';
COMMENT ON COLUMN seq_sequencer.waits_for IS
	'append: a transaction that has appended and not ended; commit: one that is committing; restore: the rest of a dump';

--
-- More than one server
--

CREATE FUNCTION seq_follow(conninfo text) RETURNS void
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_follow(text) IS
	'have this database''s log be a copy of another server''s, and append nothing of its own; for superusers';

CREATE FUNCTION seq_follow_replication(source text) RETURNS void
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_follow_replication(text) IS
	'append nothing here: logical replication brings the entries, from what people call so';

CREATE FUNCTION seq_unfollow() RETURNS void
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_unfollow() IS
	'end that: from here on the log goes its own way';

CREATE FUNCTION seq_follower_info(
	OUT source text, OUT state text, OUT connected_to text, OUT pid integer,
	OUT log_index bigint, OUT source_index bigint, OUT lag bigint, OUT lag_time interval,
	OUT proved_index bigint, OUT proved_at timestamptz, OUT entries bigint,
	OUT bytes bigint, OUT last_error text, OUT last_error_at timestamptz,
	OUT since timestamptz, OUT acks_waiting bigint)
	RETURNS SETOF record
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
CREATE VIEW seq_follower AS SELECT * FROM seq_follower_info();
COMMENT ON VIEW seq_follower IS
	'whom this database follows, and how it is going; no row where the log is its own';
COMMENT ON COLUMN seq_follower.proved_index IS
	'up to here this log was seen to be the source''s';

CREATE FUNCTION seq_followers_info(
	OUT id text, OUT name text, OUT log_index bigint, OUT lag bigint, OUT lost boolean,
	OUT seen_at timestamptz, OUT since timestamptz)
	RETURNS SETOF record
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
CREATE VIEW seq_followers AS SELECT * FROM seq_followers_info();
COMMENT ON VIEW seq_followers IS
	'who follows this log: truncation respects them, up to calvin_seq.max_consumer_lag';
COMMENT ON COLUMN seq_followers.lost IS
	'something that it has not got was truncated';

CREATE FUNCTION seq_drop_follower(id text) RETURNS void
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_drop_follower(text) IS
	'forget a follower that does not come back, so that it holds no truncation up';

-- For followers: what their role needs here is EXECUTE on these.
CREATE FUNCTION seq_feed_note(follower text, name text, log_index bigint) RETURNS boolean
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_feed_note(text, text, bigint) IS
	'for followers: where one is, for seq_followers and truncation; false on a standby, which cannot store it';

CREATE FUNCTION seq_feed_acks(epochs bigint[], positions bigint[], vshards integer[])
	RETURNS bigint
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_feed_acks(bigint[], bigint[], integer[]) IS
	'for followers: append acknowledgements that are not in the log yet; returns where it ends then';

CREATE FUNCTION seq_feed_state(behind bigint,
	OUT digest_version integer, OUT identity uuid, OUT follower uuid,
	OUT applied_index bigint, OUT log_end bigint, OUT base_index bigint,
	OUT base_epoch bigint, OUT base_digest text, OUT base_entry_length bigint,
	OUT base_entry_crc bigint, OUT found_index bigint, OUT digest text)
	RETURNS record
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_feed_state(bigint) IS
	'for followers: what this log is, and its digest behind an entry';

CREATE FUNCTION seq_feed(behind bigint, max_bytes bigint, timeout interval)
	RETURNS TABLE (log_index bigint, appended_at timestamptz, entry bytea,
		applied_index bigint, digest text)
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION seq_feed(bigint, bigint, interval) IS
	'for followers: entries behind one, as far as they are applied here, waited for so long; and in the end where that is, with the digest there';

--
-- Privileges: nothing for PUBLIC but the pure functions
--

REVOKE ALL ON FUNCTION
	seq_append(bytea, boolean),
	seq_append_json(jsonb, boolean),
	seq_send(text, jsonb, bigint),
	seq_send_bytes(text, bytea, bigint),
	seq_submit(jsonb),
	seq_submit_encoded(bytea),
	seq_send_changes(),
	seq_submission(bigint, interval),
	seq_sequencer_info(),
	seq_subscribe(integer[], text, bigint, integer, integer, boolean),
	seq_unsubscribe(integer[], text),
	seq_receive(integer, interval, text),
	seq_receive_batch(integer, interval, text),
	seq_commit(text),
	seq_rewind(text),
	seq_drop_cursor(text, integer[]),
	seq_cursors_info(),
	seq_register(text, integer[], bigint),
	seq_unregister(text),
	seq_create_group(text, integer, integer[], text[], bigint),
	seq_drop_group(text),
	seq_fetch(text, integer, interval),
	seq_fetch_json(text, integer, interval),
	seq_park(text, integer, bigint, integer, text),
	seq_retry(text, integer, bigint, integer),
	seq_drop_parked(text, integer, bigint, integer),
	seq_handle(text, regprocedure, integer, integer, integer, interval),
	seq_unhandle(text),
	seq_handlers_info(),
	seq_pending(text),
	seq_consumers_info(),
	seq_follow(text),
	seq_follow_replication(text),
	seq_unfollow(),
	seq_follower_info(),
	seq_followers_info(),
	seq_drop_follower(text),
	seq_feed_note(text, text, bigint),
	seq_feed_acks(bigint[], bigint[], integer[]),
	seq_feed_state(bigint),
	seq_feed(bigint, bigint, interval),
	seq_replay(integer, bigint, bigint),
	seq_wait_for_epoch(bigint, interval),
	seq_wait_for_index(bigint, interval),
	seq_completion(bigint, bigint),
	seq_ack(bigint, bigint, integer),
	seq_wait_for_completion(bigint, bigint, interval),
	seq_metrics_reset(),
	seq_subscriptions_info(),
	seq_last_applied_epoch(),
	seq_next_epoch(),
	seq_current_committed_epoch(),
	seq_state_info(),
	seq_progress_info(),
	seq_snapshot(),
	seq_truncate(),
	seq_truncate(bigint, boolean),
	seq_metrics_info()
	FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
	seq_subscriptions_info(),
	seq_cursors_info(),
	seq_last_applied_epoch(),
	seq_next_epoch(),
	seq_current_committed_epoch(),
	seq_state_info(),
	seq_progress_info(),
	seq_metrics_info(),
	seq_sequencer_info(),
	seq_handlers_info(),
	seq_consumers_info(),
	seq_follower_info(),
	seq_followers_info(),
	seq_pending(text)
	TO pg_monitor;
GRANT SELECT ON seq_subscriptions, seq_cursors, seq_state, seq_progress, seq_metrics,
	seq_sequencer, seq_parked, seq_consumers, seq_handlers, seq_follower,
	seq_followers
	TO pg_monitor;

-- A column of this type in somebody's table would be in the way of DROP EXTENSION, and
-- of updates.  The row types of tables and views are closed by the guard, as they are
-- made.
REVOKE ALL ON TYPE seq_txn FROM PUBLIC;
