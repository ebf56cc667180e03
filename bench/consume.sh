#!/bin/bash
#
# consume.sh
#     Measures what consuming costs: transactions that fetch for a group, write an
#     effect for each message and commit, and handlers that do it in the server,
#     beside the same with a SKIP LOCKED table, pgmq and PgQ. Builds the extension
#     and starts a throw-away server. A line a measurement on stdout.
#
#   BATCHES="1 10 100 1000"  messages a transaction
#   WORKERS="1 2 4 8"        connections
#   SECONDS_EACH=5           for each
#   MESSAGES=200000          that wait when it begins; filled up in between
#   PGMQ_SQL=file            pgmq's SQL file, to measure it as well
#   NO_DEPS=1                install no packages

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"
# shellcheck source=scripts/cluster.sh
. "$here/../scripts/cluster.sh"
# shellcheck source=bench/lib.sh
. "$here/lib.sh"

BATCHES=${BATCHES:-1 10 100 1000}
WORKERS=${WORKERS:-1 2 4 8}
SECONDS_EACH=${SECONDS_EACH:-5}
MESSAGES=${MESSAGES:-200000}
BENCH_SIZE=quick
BENCH_REPEAT=1

run_sql() { cluster_psql bench -qAt -v ON_ERROR_STOP=1 -d postgres "$@"; }

prepare() {
	run_sql >/dev/null <<-'SQL'
		CREATE EXTENSION calvin_seq;
		CREATE TABLE effects (id bigserial PRIMARY KEY, entity text, payload jsonb);
		CREATE TABLE queue (id bigserial PRIMARY KEY, entity text, payload jsonb)
			WITH (autovacuum_vacuum_cost_delay = 0);
		CREATE FUNCTION handle_many(t seq_txn[]) RETURNS void LANGUAGE plpgsql AS
			'BEGIN INSERT INTO effects (entity, payload) SELECT seq_collection(tx_class), seq_json(plans) FROM unnest(t); END';
		SELECT seq_create_group('g');
	SQL
	if [ -n "${PGMQ_SQL:-}" ]; then
		run_sql -c 'CREATE SCHEMA pgmq' -f "$work/pgmq.sql" >/dev/null 2>&1 || note "pgmq's file failed"
		run_sql -c "SELECT pgmq.create('q')" >/dev/null
	fi
	if bench_have_pgq; then
		run_sql -c 'CREATE EXTENSION pgq' -c "SELECT pgq.create_queue('q')" -c "SELECT pgq.register_consumer('q', 'c')" \
			-c "SELECT pgq.set_queue_config('q', 'ticker_max_lag', '0')" >/dev/null
	fi
}

# So many messages wait, in what is to be measured.
fill() {
	local what=$1 batch=$2 have
	case $what in
		group) run_sql -c "SELECT count(seq_send('orders/' || i % 1000, jsonb_build_object('n', i))) FROM generate_series(1, $MESSAGES - seq_pending('g')) i" >/dev/null
			run_sql -c "SELECT seq_wait_for_index((SELECT max(log_index) FROM seq_log), '60s')" >/dev/null
			until [ "$(run_sql -c 'SELECT waiting_rows FROM seq_sequencer')" = 0 ]; do :; done ;;
		skip) run_sql -c "INSERT INTO queue (entity, payload) SELECT 'orders/' || i % 1000, jsonb_build_object('n', i) FROM generate_series(1, $MESSAGES - (SELECT count(*) FROM queue)) i" ;;
		pgmq) run_sql -c "SELECT count(*) FROM pgmq.send_batch('q', (SELECT array_agg(jsonb_build_object('n', i, 'entity', 'orders/' || i % 1000)) FROM generate_series(1, $MESSAGES) i))" >/dev/null ;;
		pgq) have=$((MESSAGES / batch))
			if [ "$have" -gt 5000 ]; then have=5000; fi
			for ((i = 0; i < have; i++)); do
				printf "SELECT count(pgq.insert_event('q', 'orders/' || i %% 1000, jsonb_build_object('n', i)::text)) FROM generate_series(1, %d) i;\nSELECT pgq.ticker('q');\n" "$batch"
			done | run_sql >/dev/null ;;
	esac
}

script_of() {
	case $1 in
		group) echo "WITH m AS MATERIALIZED (SELECT * FROM seq_fetch('g', $2)) INSERT INTO effects (entity, payload) SELECT seq_collection(tx_class), seq_json(plans) FROM m;" ;;
		skip) echo "WITH m AS (DELETE FROM queue WHERE id IN (SELECT id FROM queue ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING *) INSERT INTO effects (entity, payload) SELECT entity, payload FROM m;" ;;
		pgmq) echo "WITH m AS MATERIALIZED (SELECT * FROM pgmq.read('q', 60, $2)), i AS (INSERT INTO effects (entity, payload) SELECT message ->> 'entity', message FROM m) SELECT pgmq.delete('q', coalesce((SELECT array_agg(msg_id) FROM m), '{}'));" ;;
		pgq) printf "SELECT pgq.next_batch('q', 'c') AS b \\\\gset\nBEGIN;\nINSERT INTO effects (entity, payload) SELECT ev_type, ev_data::jsonb FROM pgq.get_batch_events(:b);\nSELECT pgq.finish_batch(:b);\nCOMMIT;\n" ;;
	esac
}

# Messages a second, of effects committed.
measure() {
	local what=$1 batch=$2 workers=$3 before after
	script_of "$what" "$batch" | as_user tee "$work/consume.sql" >/dev/null
	run_sql -c CHECKPOINT
	before=$(run_sql -c 'SELECT count(*) FROM effects')
	as_user env "PATH=$bin:$PATH" pgbench -n -M prepared -c "$workers" -j "$workers" -T "$SECONDS_EACH" -f "$work/consume.sql" postgres >"$work/pgbench.log" 2>&1 || true
	after=$(run_sql -c 'SELECT count(*) FROM effects')
	echo $(((after - before) / SECONDS_EACH))
}

line() { printf '%-28s %8s %8s %10s  %s\n' "$@"; }

main() {
	local batch workers what rate base peers
	cluster_traps bench
	bench_prepare
	bench_peers
	bench_server
	prepare
	peers="skip group"
	if [ -n "${PGMQ_SQL:-}" ]; then peers="skip pgmq group"; fi
	heading "fetch, effects, commit: messages a second"
	line what batch workers messages/s "of SKIP LOCKED"
	for batch in $BATCHES; do
		for workers in $WORKERS; do
			base=
			for what in $peers; do
				fill "$what" "$batch"
				rate=$(measure "$what" "$batch" "$workers")
				base=${base:-$rate}
				line "$what" "$batch" "$workers" "$rate" "$(awk "BEGIN { printf \"%.2f\", $rate / ($base + 0.001) }")"
			done
		done
		if bench_have_pgq; then
			fill pgq "$batch"
			line pgq "$batch" 1 "$(measure pgq "$batch" 1)" "until it has drained"
		fi
	done
	heading "handlers, array form, batches of 100"
	script_handler
	cluster_stop bench
}

# Until a handler has done all that waits; and the same effects by one client.
script_handler() {
	local start end done_at plain
	run_sql -c 'TRUNCATE effects' -c CHECKPOINT
	fill group 100
	start=$(date +%s%N)
	run_sql -c "SELECT seq_handle('g', 'handle_many(seq_txn[])', 1, 5, 100)" >/dev/null
	until [ "$(run_sql -c 'SELECT count(*) FROM effects')" -ge "$MESSAGES" ]; do sleep 0.2; done
	end=$(date +%s%N)
	done_at=$((MESSAGES * 1000 / ((end - start) / 1000000)))
	run_sql -c "SELECT seq_unhandle('g')" >/dev/null
	echo "INSERT INTO effects (entity, payload) SELECT 'orders/' || i % 1000, jsonb_build_object('n', i) FROM generate_series(1, 100) i;" | as_user tee "$work/consume.sql" >/dev/null
	run_sql -c 'TRUNCATE effects' -c CHECKPOINT
	as_user env "PATH=$bin:$PATH" pgbench -n -M prepared -T "$SECONDS_EACH" -f "$work/consume.sql" postgres >/dev/null 2>&1
	plain=$(($(run_sql -c 'SELECT count(*) FROM effects') / SECONDS_EACH))
	line "handler" 100 1 "$done_at" "$(awk "BEGIN { printf \"%.2f\", $done_at / $plain }") of the same INSERTs by one client ($plain)"
}

main
