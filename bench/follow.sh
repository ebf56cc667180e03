#!/bin/bash
#
# follow.sh
#     Measures followers between two throw-away servers on this machine: how long an
#     empty one takes to catch up, beside psql's COPY TO | COPY FROM of the same rows into
#     a log; how long from an append to it being applied there, beside at the source; and
#     the memory of the worker for one large entry. A line each on stdout.
#
#   ENTRIES=1000  BYTES=143000    of the log to catch up with
#   TURNS=3              of catching up
#   APPENDS=300          for the latency
#   LARGE=255            MB of the one entry, 0: none
#   NO_DEPS=1            install no packages

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"
# shellcheck source=scripts/cluster.sh
. "$here/../scripts/cluster.sh"
# shellcheck source=bench/lib.sh
. "$here/lib.sh"

ENTRIES=${ENTRIES:-1000}
BYTES=${BYTES:-143000}
TURNS=${TURNS:-3}
APPENDS=${APPENDS:-300}
LARGE=${LARGE:-255}
BENCH_SIZE=quick
BENCH_REPEAT=1

sql() { cluster_psql "$1" -Atq -v ON_ERROR_STOP=1 -d "$2" -c "$3"; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }

follow_conf() {
	cat "$here/bench.conf" 2>/dev/null
	echo "shared_preload_libraries = 'calvin_seq'"
	echo "calvin_seq.max_databases = 8"
	echo "max_worker_processes = 30"
	echo "calvin_seq.max_plans_bytes_per_txn = 255MB"
	echo "autovacuum = off"
}

new_database() {
	sql b postgres "DROP DATABASE IF EXISTS $1"
	sql b postgres "CREATE DATABASE $1"
	sql b "$1" "CREATE EXTENSION calvin_seq"
	sql b "$1" "SELECT count(*) FROM seq_state" >/dev/null
}

catch_up() {
	local end start
	end=$(sql a postgres "SELECT last_applied_index FROM seq_state")
	for _ in $(seq "$TURNS"); do
		new_database copied
		start=$(now_ms)
		cluster_psql a -d postgres -qc "COPY (SELECT log_index, entry, appended_at FROM seq_log ORDER BY log_index) TO STDOUT (FORMAT binary)" |
			cluster_psql b -d copied -qc "COPY seq_log (log_index, entry, appended_at) FROM STDIN (FORMAT binary)"
		echo "catch-up psql $(($(now_ms) - start)) ms"
		new_database followed
		start=$(now_ms)
		sql b followed "SELECT seq_follow('host=$work/a port=5432 user=postgres dbname=postgres')"
		while [ "$(sql b followed "SELECT coalesce(max(log_index), 0) FROM seq_log")" != "$end" ]; do sleep 0.01; done
		echo "catch-up follower $(($(now_ms) - start)) ms"
	done
}

main() {
	local rss pid epoch
	cluster_traps a b
	bench_prepare
	follow_conf | cluster_init a
	follow_conf | cluster_init b
	cluster_start a
	cluster_start b
	sql a postgres "CREATE EXTENSION calvin_seq; CREATE EXTENSION IF NOT EXISTS dblink"
	heading "catching up: $ENTRIES entries of $BYTES bytes"
	sql a postgres "SELECT count(seq_append_json(jsonb_build_object('EpochBatch', jsonb_build_object('txns', jsonb_build_array(jsonb_build_object('tx_class',
		jsonb_build_object('write_set', '[{\"Document\": {\"collection\": \"a\"}}]'::jsonb, 'plans', '\\x' || repeat(md5(n::text), $BYTES / 16)))))))) FROM generate_series(1, $ENTRIES) n" >/dev/null
	sql a postgres "SELECT seq_wait_for_index((SELECT max(log_index) FROM seq_log), '60s')" >/dev/null
	catch_up
	heading "from append to applied, $APPENDS each"
	sql a postgres "DO \$\$
		DECLARE n bigint; t timestamptz; own float8[]; theirs float8[];
		BEGIN
			PERFORM dblink_connect('w', 'host=$work/a port=5432 user=postgres dbname=postgres');
			PERFORM dblink_connect('f', 'host=$work/b port=5432 user=postgres dbname=followed');
			FOR i IN 1..$APPENDS LOOP
				t := clock_timestamp();
				SELECT x INTO n FROM dblink('w', 'SELECT seq_append_json(\$j\${\"EpochBatch\": {\"txns\": []}}\$j\$)') AS d (x bigint);
				PERFORM seq_wait_for_index(n, '10s');
				own := own || extract(epoch FROM clock_timestamp() - t)::float8;
				t := clock_timestamp();
				SELECT x INTO n FROM dblink('w', 'SELECT seq_append_json(\$j\${\"EpochBatch\": {\"txns\": []}}\$j\$)') AS d (x bigint);
				PERFORM x FROM dblink('f', format('SELECT seq_wait_for_index(%s, %L)', n, '10s')) AS d (x bool);
				theirs := theirs || extract(epoch FROM clock_timestamp() - t)::float8;
			END LOOP;
			RAISE NOTICE 'latency p50: source % ms, follower % ms',
				round((SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x) FROM unnest(own) x)::numeric * 1000, 2),
				round((SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x) FROM unnest(theirs) x)::numeric * 1000, 2);
		END \$\$" 2>&1 | sed 's/^NOTICE:  //'
	[ "$LARGE" -gt 0 ] || return 0
	heading "one entry of $LARGE MB"
	pid=$(sql b followed "SELECT pid FROM seq_follower")
	sql a postgres "SELECT seq_append(decode(string_agg(x, ''), 'hex')) IS NULL FROM (SELECT '92aa45706f6368426174636891' || '93' || 'cf' || lpad(to_hex(seq_next_epoch()), 16, '0') || '91' || '94' || 'cf' || lpad(to_hex(seq_next_epoch()), 16, '0') || '00' || '95' || '90' || '91' || '92a8446f63756d656e74' || '92a16190' || 'c6' || lpad(to_hex($LARGE * 1000000), 8, '0') || repeat('ab', $LARGE * 1000000) || '01' || 'c0' || '00' || '00' AS x) y" >/dev/null
	epoch=$(now_ms)
	sql b followed "SELECT seq_wait_for_index($(sql a postgres "SELECT max(log_index) FROM seq_log"), '60s')" >/dev/null
	rss=$(awk '/VmHWM/ { print int($2 / 1024) }' "/proc/$pid/status")
	echo "large entry: there after $(($(now_ms) - epoch)) ms more, worker's largest memory $rss MB"
	cluster_stop a
	cluster_stop b
}

main
