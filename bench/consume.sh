#!/bin/bash
#
# consume.sh
#     Measures what consuming costs: transactions that fetch for a group, write an
#     effect for each message and commit, and handlers that do it in the server,
#     beside the same with a SKIP LOCKED table, pgmq and PgQ; and whether that goes
#     on while somebody holds an old snapshot. Builds the extension and starts a
#     throw-away server. A line a measurement on stdout.
#
#   BATCHES="1 10 100 1000"  messages a transaction
#   WORKERS="1 2 4 8"        connections
#   ROUNDS=3                 of each, in turns: medians are shown
#   MESSAGES=200000          of a round in batches of 100 or more; fewer in smaller ones
#   HELD_MINUTES=5           under a held snapshot, 0: leave that out
#   HELD="group skip"        what is measured so
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
ROUNDS=${ROUNDS:-3}
MESSAGES=${MESSAGES:-200000}
HELD_MINUTES=${HELD_MINUTES:-5}
HELD=${HELD:-group skip}
BENCH_SIZE=quick
BENCH_REPEAT=1

run_sql() { cluster_psql bench -qAt -v ON_ERROR_STOP=1 -d postgres "$@"; }

# Every effect is a row that is written, with the entity and the payload as jsonb.
prepare() {
	run_sql >/dev/null <<-'SQL'
		ALTER SYSTEM SET autovacuum = on;
		ALTER SYSTEM SET autovacuum_naptime = '10s';
		SELECT pg_reload_conf();
		CREATE EXTENSION calvin_seq;
		CREATE TABLE effects (id bigserial PRIMARY KEY, entity text, payload jsonb);
		CREATE TABLE queue (id bigserial PRIMARY KEY, entity text, payload jsonb);
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

# So many messages wait: fill WHAT BATCH COUNT.
fill() {
	local what=$1 batch=$2 count=$3 i
	case $what in
		group) run_sql -c "SELECT count(seq_send('orders/' || i % 1000, jsonb_build_object('n', i))) FROM generate_series(1, $count) i" >/dev/null
			until [ "$(run_sql -c 'SELECT waiting_rows FROM seq_sequencer')" = 0 ]; do :; done
			run_sql -c "SELECT seq_wait_for_index((SELECT max(log_index) FROM seq_log), '60s')" >/dev/null ;;
		skip) run_sql -c "INSERT INTO queue (entity, payload) SELECT 'orders/' || i % 1000, jsonb_build_object('n', i) FROM generate_series(1, $count) i" ;;
		pgmq) run_sql -c "SELECT count(*) FROM pgmq.send_batch('q', (SELECT array_agg(jsonb_build_object('n', i, 'entity', 'orders/' || i % 1000)) FROM generate_series(1, $count) i))" >/dev/null ;;
		pgq) for ((i = 0; i < count / batch; i++)); do
				printf "SELECT count(pgq.insert_event('q', 'orders/' || i %% 1000, jsonb_build_object('n', i)::text)) FROM generate_series(1, %d) i;\nSELECT pgq.ticker('q');\n" "$batch"
			done | run_sql >/dev/null ;;
	esac
}

script_of() {
	case $1 in
		group) echo "WITH m AS MATERIALIZED (SELECT * FROM seq_fetch('g', $2)) INSERT INTO effects (entity, payload) SELECT seq_collection(tx_class), seq_json(plans) FROM m;" ;;
		skip) echo "WITH m AS (DELETE FROM queue WHERE id = ANY (ARRAY(SELECT id FROM queue ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING *) INSERT INTO effects (entity, payload) SELECT entity, payload FROM m;" ;;
		pgmq) echo "WITH m AS MATERIALIZED (SELECT * FROM pgmq.read('q', 60, $2)), i AS (INSERT INTO effects (entity, payload) SELECT message ->> 'entity', message FROM m) SELECT pgmq.delete('q', coalesce((SELECT array_agg(msg_id) FROM m), '{}'));" ;;
		pgq) printf "SELECT pgq.next_batch('q', 'c') AS b \\\\gset\nBEGIN;\nINSERT INTO effects (entity, payload) SELECT ev_type, ev_data::jsonb FROM pgq.get_batch_events(:b);\nSELECT pgq.finish_batch(:b);\nCOMMIT;\n" ;;
		plain) echo "INSERT INTO effects (entity, payload) SELECT 'orders/' || i % 1000, jsonb_build_object('n', i) FROM generate_series(1, $2) i;" ;;
	esac
}

# run_script WHAT BATCH WORKERS TRANSACTIONS-EACH: messages a second, of effects committed.
run_script() {
	local before tps
	script_of "$1" "$2" | as_user tee "$work/consume.sql" >/dev/null
	before=$(run_sql -c 'SELECT count(*) FROM effects')
	as_user env "PATH=$bin:$PATH" pgbench -n -M prepared -c "$3" -j "$3" -t "$4" -f "$work/consume.sql" postgres >"$work/pgbench.log" 2>&1 ||
		{ tail -n 5 "$work/pgbench.log" >&2; die "pgbench failed"; }
	tps=$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' "$work/pgbench.log")
	awk "BEGIN { printf \"%.0f\", ($(run_sql -c 'SELECT count(*) FROM effects') - $before) * $tps / ($3 * $4) }"
}

# The same, of what was filled in before.
measure() {
	local what=$1 batch=$2 workers=$3 each count
	count=$((batch < 10 ? MESSAGES / 20 : batch < 100 ? MESSAGES / 4 : MESSAGES))
	each=$((count / batch / workers))
	[ "$what" = plain ] || fill "$what" "$batch" "$((each * batch * workers))"
	run_sql -c 'TRUNCATE effects' -c CHECKPOINT
	run_script "$what" "$batch" "$workers" "$each"
}

median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }
ratio() { awk "BEGIN { printf \"%.2f\", $1 / ($2 + 0.001) }"; }
line() { printf '%-10s %8s %8s %12s  %s\n' "$@"; }

# All of them in turns, so that they meet the same machine.
compare() {
	local batch=$1 workers=$2 what i
	shift 2
	declare -A rates=()
	for ((i = 0; i < ROUNDS; i++)); do
		for what; do
			rates[$what]+="$(measure "$what" "$batch" "$workers") "
		done
	done
	for what; do
		# shellcheck disable=SC2086
		rates[$what]=$(median ${rates[$what]})
	done
	for what; do
		line "$what" "$batch" "$workers" "${rates[$what]}" "$(ratio "${rates[$what]}" "${rates[skip]}")"
	done
}

# Until handlers have done all that waits, beside the same INSERTs by one client without
# any queue.
handlers() {
	local workers=$1 start handled='' plain='' i
	for ((i = 0; i < ROUNDS; i++)); do
		plain+="$(measure plain 100 1) "
		fill group 100 "$MESSAGES"
		run_sql -c 'TRUNCATE effects' -c CHECKPOINT
		start=$(date +%s%N)
		run_sql -c "SELECT seq_handle('g', 'handle_many(seq_txn[])', $workers, 5, 100)" >/dev/null
		until [ "$(run_sql -c "SELECT seq_pending('g')")" = 0 ]; do sleep 0.1; done
		handled+="$((MESSAGES * 1000 / (($(date +%s%N) - start) / 1000000))) "
		run_sql -c "SELECT seq_unhandle('g')" >/dev/null
	done
	# shellcheck disable=SC2086
	plain=$(median $plain) handled=$(median $handled)
	line handlers 100 "$workers" "$handled" "$(ratio "$handled" "$plain") of the same INSERTs by one client ($plain)"
}

# The rate of a minute's rounds before, and under an old snapshot for so many minutes.
held() {
	local what=$1 before='' last holder end
	for _ in 1 2 3; do before+="$(measure "$what" 100 4) "; done
	# shellcheck disable=SC2086
	before=$(median $before)
	# a connection that stays: what it has read keeps all versions from then on
	mkfifo "$work/holder"
	chmod 644 "$work/holder"
	run_sql <"$work/holder" >/dev/null &
	holder=$!
	exec 9>"$work/holder"
	echo 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class;' >&9
	end=$(($(date +%s) + HELD_MINUTES * 60))
	while [ "$(date +%s)" -lt "$end" ]; do
		last=
		for _ in 1 2 3; do last+="$(measure "$what" 100 4) "; done
	done
	# shellcheck disable=SC2086
	last=$(median $last)
	line "$what" 100 4 "$last" "$(ratio "$last" "$before") of the rate before ($before)"
	echo 'COMMIT;' >&9
	exec 9>&-
	wait "$holder"
	rm "$work/holder"
}

main() {
	local batch workers peers what
	cluster_traps bench
	bench_prepare
	bench_peers
	bench_server
	prepare
	peers="skip group"
	if [ -n "${PGMQ_SQL:-}" ]; then peers="skip pgmq group"; fi
	heading "fetch, effects, commit: messages a second, medians of $ROUNDS, and of SKIP LOCKED"
	line what batch workers messages/s ratio
	for batch in $BATCHES; do
		for workers in $WORKERS; do
			if [ "$workers" = 1 ] && bench_have_pgq; then
				# one consumer has one batch at a time
				# shellcheck disable=SC2086
				compare "$batch" 1 $peers pgq
			else
				# shellcheck disable=SC2086
				compare "$batch" "$workers" $peers
			fi
		done
	done
	heading "handlers, array form"
	for workers in $WORKERS; do handlers "$workers"; done
	if [ "$HELD_MINUTES" -gt 0 ]; then
		heading "after $HELD_MINUTES minutes under a held snapshot"
		for what in $HELD; do held "$what"; done
	fi
	cluster_stop bench
}

main
