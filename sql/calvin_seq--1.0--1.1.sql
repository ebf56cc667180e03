/* calvin_seq 1.0 to 1.1 */

\echo Use "ALTER EXTENSION calvin_seq UPDATE TO '1.1'" to load this file. \quit

--
-- CREATE EXTENSION runs this behind calvin_seq--1.0.sql, so that a new database and an
-- updated one cannot differ. 1.0 is as it was released: what changes is changed here.
--

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
