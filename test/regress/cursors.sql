\set ECHO none
--
-- What the tests of durable cursors share, to be read after prologue.sql.
--
-- What there is to receive, as vshard:epoch.position in the order it comes.
CREATE FUNCTION t.take(name text DEFAULT 'default', max_txns int DEFAULT 10000) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s:%s.%s', vshard, epoch, "position"), ' ' ORDER BY n)
		FROM seq_receive(max_txns, '0', name) WITH ORDINALITY
			AS t (vshard, epoch, "position", ms, tenant, vshards, plans, tx_class, n)
$$;

-- The cursors there are, in the same form.
CREATE FUNCTION t.cursors(OUT name text, OUT cursors text) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT name, string_agg(format('%s:%s.%s', vshard, epoch, "position"), ' ' ORDER BY vshard) FROM seq_cursors GROUP BY 1 ORDER BY 1
$$;

-- What was processed, once.
CREATE TABLE t.effects (n int GENERATED ALWAYS AS IDENTITY, vshard int, epoch bigint, "position" int, UNIQUE (vshard, epoch, "position"));
CREATE FUNCTION t.process(name text DEFAULT 'default', max_txns int DEFAULT 10000) RETURNS int LANGUAGE sql AS $$
	WITH i AS (INSERT INTO t.effects (vshard, epoch, "position") SELECT vshard, epoch, "position" FROM seq_receive(max_txns, '0', name) RETURNING 1)
	SELECT count(*)::int FROM i
$$;

-- How far from the epoch in t.first the next ones to receive are.
CREATE TABLE t.first (epoch bigint);
CREATE FUNCTION t.next(count int DEFAULT 1, name text DEFAULT 'back') RETURNS text LANGUAGE sql AS $$
	SELECT string_agg((epoch - (SELECT min(r.epoch) FROM t.first r))::text, ' ') FROM seq_receive(count, '0', name)
$$;

-- Nothing here waits long, unless it is broken.
SET statement_timeout = '2 min';
\set ECHO all
