\set ECHO none
--
-- What the tests of streams share, to be read after prologue.sql: what a
-- consumer got, and whether that is what seq_replay says.
--
-- What a consumer got, in the order it came, each with its place.
CREATE TEMP TABLE got (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, txn seq_txn);

CREATE FUNCTION t.take(name text DEFAULT 'default', max_txns int DEFAULT 100000, timeout interval DEFAULT '0')
RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	count int;
BEGIN
	INSERT INTO got (name, txn) SELECT take.name, t FROM seq_receive(max_txns, timeout, take.name) t;
	GET DIAGNOSTICS count = ROW_COUNT;
	RETURN count;
END $$;

CREATE FUNCTION t.keys(txns seq_txn[]) RETURNS text LANGUAGE sql AS $$
	SELECT left(string_agg(format('%s.%s', epoch, "position"), ' ' ORDER BY n), 200)
		FROM unnest(txns) WITH ORDINALITY AS t (vshard, epoch, "position", ms, tenant, vshards, plans, tx_class, n)
$$;

-- Is what a consumer got, vshard for vshard, what seq_replay says of the
-- range from a key on: the same rows in the same order? Forgets it then.
CREATE FUNCTION t.verify(consumer text, vshards int[], from_epoch bigint DEFAULT 0, from_position int DEFAULT 0,
	to_epoch bigint DEFAULT 9223372036854775807) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	verdict text;
BEGIN
	WITH expected AS (
		SELECT v, ARRAY(SELECT r FROM seq_replay(v, from_epoch, to_epoch) r WHERE (r.epoch, r."position") >= (from_epoch, from_position)) AS txns
			FROM unnest(vshards) v
	), received AS (
		SELECT (txn).vshard AS v, array_agg(txn ORDER BY n) AS txns FROM got WHERE name = consumer GROUP BY 1
	)
	SELECT coalesce(left(string_agg(format('%s: %s instead of %s', v, t.keys(r.txns), t.keys(e.txns)), E'\n' ORDER BY v)
				FILTER (WHERE e.txns IS DISTINCT FROM coalesce(r.txns, '{}')), 1000),
			format('complete: %s of %s', sum(cardinality(e.txns)), count(*)))
		INTO verdict FROM expected e FULL JOIN received r USING (v);
	DELETE FROM got WHERE name = consumer;
	RETURN verdict;
END $$;

-- What a call read of the log: index scans, and the entries they yielded.
CREATE PROCEDURE t.take_counted(INOUT txns int, INOUT scans bigint, INOUT entries bigint, name text DEFAULT 'default', max_txns int DEFAULT 100000) LANGUAGE plpgsql AS $$
DECLARE
	before record;
	after record;
BEGIN
	SELECT idx_scan, idx_tup_fetch INTO before FROM pg_stat_xact_user_tables WHERE relid = 'seq_log'::regclass;
	txns := t.take(name, max_txns);
	SELECT idx_scan, idx_tup_fetch INTO after FROM pg_stat_xact_user_tables WHERE relid = 'seq_log'::regclass;
	scans := after.idx_scan - before.idx_scan;
	entries := after.idx_tup_fetch - before.idx_tup_fetch;
END $$;

-- Collections of vshards, by number.
CREATE TEMP TABLE place AS
	SELECT v, min(c) AS c FROM (SELECT 'c' || i AS c, seq_vshard('c' || i) AS v FROM generate_series(1, 20000) i) t GROUP BY 1;

-- End the applier and wait for the next one.
CREATE PROCEDURE t.restart_applier() LANGUAGE plpgsql AS $$
DECLARE
	old int := (SELECT applier_pid FROM seq_state);
BEGIN
	PERFORM pg_terminate_backend(old);
	FOR i IN 1..6000 LOOP
		IF (SELECT applier_pid <> old AND applier_state = 'idle' FROM seq_state) THEN
			RETURN;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RAISE 'the applier did not come back';
END $$;

-- End it, and wait only for that.
CREATE PROCEDURE t.end_applier() LANGUAGE plpgsql AS $$
DECLARE
	old int := (SELECT applier_pid FROM seq_state);
BEGIN
	PERFORM pg_terminate_backend(old);
	FOR i IN 1..6000 LOOP
		IF (SELECT applier_pid IS NULL OR applier_pid <> old FROM seq_state) THEN
			RETURN;
		END IF;
		PERFORM pg_sleep(0.001);
	END LOOP;
	RAISE 'the applier did not end';
END $$;

-- Nothing here waits long, unless it is broken.
SET statement_timeout = '2 min';
\set ECHO all
