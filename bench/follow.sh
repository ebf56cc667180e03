#!/bin/bash
#
# follow.sh
#     Measures followers between throw-away servers on this machine: how long an
#     empty one takes to catch up, beside psql's COPY TO | COPY FROM of the same rows into
#     a log; how long from an append to a client there, beside a client of the source and
#     one of a copy by logical replication; how far behind one is after appends at full
#     speed; what four of them take from the source; how soon they go on after a failover;
#     and the memory of the worker for one large entry. A line each on stdout.
#
#   ONLY="..."           of: catch_up latency sustained four failover large
#   ENTRIES=1000  BYTES=143000    of the log to catch up with, and of what is sustained
#   TURNS=3              of each
#   APPENDS=1000         for the latency
#   RATE=4000  RATE_BYTES=1000    entries for the source's rate, and what they have
#   LARGE=255            MB of the one entry
#   NO_DEPS=1            install no packages

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"
# shellcheck source=scripts/cluster.sh
. "$here/../scripts/cluster.sh"
# shellcheck source=bench/lib.sh
. "$here/lib.sh"

ONLY=${ONLY:-catch_up latency sustained four failover large}
ENTRIES=${ENTRIES:-1000}
BYTES=${BYTES:-143000}
TURNS=${TURNS:-3}
APPENDS=${APPENDS:-1000}
RATE=${RATE:-4000}
RATE_BYTES=${RATE_BYTES:-1000}
LARGE=${LARGE:-255}
BENCH_SIZE=quick
BENCH_REPEAT=1

sql() { cluster_psql "$1" -Atq -v ON_ERROR_STOP=1 -d "$2" -c "SET client_min_messages = warning" -c "$3"; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }
at() { echo "host=$work/$1 port=5432 user=postgres dbname=$2"; }

follow_conf() {
	cat "$here/bench.conf"
	echo "shared_preload_libraries = 'calvin_seq'"
	echo "calvin_seq.max_databases = 8"
	echo "max_worker_processes = 40"
	echo "calvin_seq.max_plans_bytes_per_txn = 255MB"
}

# new_database SERVER NAME: with the extension, its applier at work
new_database() {
	sql "$1" postgres "DROP DATABASE IF EXISTS $2 WITH (FORCE)"
	sql "$1" postgres "CREATE DATABASE $2"
	sql "$1" "$2" "CREATE EXTENSION calvin_seq"
	wait_until "$1" "$2" "SELECT applier_pid > 0 FROM seq_state" t
}

# wait_until SERVER DATABASE QUERY ANSWER
wait_until() {
	local waited=0
	until [ "$(sql "$1" "$2" "$3")" = "$4" ]; do
		sleep 0.01
		waited=$((waited + 1))
		[ "$waited" -lt 6000 ] || die "not so within time, in $2 of $1: $3"
	done
}

# follower NAME [SOURCE DATABASE]: a database of b that follows
follower() {
	new_database b "$1"
	sql b "$1" "SELECT seq_follow('$(at "${2:-a}" "${3:-source}")')"
	wait_until b "$1" "SELECT state = 'following' FROM seq_follower" t
}

drop_follower() { sql b postgres "DROP DATABASE $1 WITH (FORCE)"; }

catch_up() {
	local end start turn
	heading "catching up: $ENTRIES entries of $BYTES bytes"
	new_database a source
	sql a source "SELECT count(seq_append_json(jsonb_build_object('EpochBatch', jsonb_build_object('txns', jsonb_build_array(jsonb_build_object('tx_class',
		jsonb_build_object('write_set', '[{\"Document\": {\"collection\": \"a\"}}]'::jsonb, 'plans', '\\x' || repeat(md5(n::text), $BYTES / 16)))))))) FROM generate_series(1, $ENTRIES) n" >/dev/null
	end=$(sql a source "SELECT max(log_index) FROM seq_log")
	wait_until a source "SELECT last_applied_index FROM seq_state" "$end"
	for ((turn = 1; turn <= TURNS; turn++)); do
		new_database b copied
		sql b postgres CHECKPOINT
		start=$(now_ms)
		cluster_psql a -d source -qc "COPY (SELECT log_index, entry, appended_at FROM seq_log ORDER BY log_index) TO STDOUT (FORMAT binary)" |
			cluster_psql b -d copied -qc "COPY seq_log (log_index, entry, appended_at) FROM STDIN (FORMAT binary)"
		echo "catch-up by psql, turn $turn: $(($(now_ms) - start)) ms"
		new_database b followed
		sql b postgres CHECKPOINT
		start=$(now_ms)
		sql b followed "SELECT seq_follow('$(at a source)')"
		wait_until b followed "SELECT coalesce(max(log_index), 0) FROM seq_log" "$end"
		echo "catch-up of a follower, turn $turn: $(($(now_ms) - start)) ms"
	done
	drop_follower copied
	drop_follower followed
}

# Where logical replication brings the log: the guard, and a subscription.
replicated() {
	new_database b replicated
	sql a source "CREATE PUBLICATION bench FOR TABLE seq_log WITH (publish = 'insert')"
	sql b replicated "SELECT seq_follow_replication('bench')"
	sql b replicated "CREATE SUBSCRIPTION bench CONNECTION '$(at a source)' PUBLICATION bench"
	wait_until b replicated "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel" t
}

latency() {
	local turn
	heading "from an append to a client, $APPENDS each (0: of the source, 1: of a follower, 2: of a copy by logical replication)"
	new_database a source
	follower followed
	replicated
	for ((turn = 1; turn <= TURNS; turn++)); do
		bench_client follow_latency "$APPENDS" "$(at a source)" "$(at b followed)" "$(at b replicated)"
	done
	sql b replicated "DROP SUBSCRIPTION bench"
	drop_follower followed
	drop_follower replicated
}

sustained() {
	local turn
	heading "at full speed, an epoch a commit: $ENTRIES entries of $BYTES bytes, then $RATE of $RATE_BYTES"
	new_database a source
	follower followed
	for ((turn = 1; turn <= TURNS; turn++)); do
		bench_client follow_lag "$ENTRIES" "$BYTES" "$(at a source)" "$(at b followed)" | sed 's/^/large: /'
		bench_client follow_lag "$RATE" "$RATE_BYTES" "$(at a source)" "$(at b followed)" | sed 's/^/small: /'
	done
	drop_follower followed
}

four_of() {
	local turn i
	for ((turn = 1; turn <= TURNS; turn++)); do
		new_database a source
		bench_client follow_rate "$1" "$2" "$(at a source)" | sed 's/^/no follower: /'
		for i in 1 2 3 4; do follower "followed$i"; done
		bench_client follow_rate "$1" "$2" "$(at a source)" | sed 's/^/four followers: /'
		for i in 1 2 3 4; do drop_follower "followed$i"; done
	done
}

# Followers have machines of their own as a rule. Here they have what the source leaves of
# the processors, and wait for no disk: what is measured then is what feeding them takes.
apart() {
	local pid
	cluster_configure b <<<"fsync = $1"
	cluster_stop b
	cluster_start b
	[ "$1" = off ] || return 0
	pid=$(head -n 1 "$work/b/data/postmaster.pid")
	renice -n 19 -p "$pid" $(pgrep -P "$pid") >/dev/null
}

four() {
	heading "the source's rate: $RATE entries of $RATE_BYTES bytes, then $ENTRIES of $BYTES"
	four_of "$RATE" "$RATE_BYTES" | sed 's/^/small, /'
	four_of "$ENTRIES" "$BYTES" | sed 's/^/large, /'
	heading "the same, with what followers do given the lowest priority"
	apart off
	four_of "$RATE" "$RATE_BYTES" | sed 's/^/small, /'
	four_of "$ENTRIES" "$BYTES" | sed 's/^/large, /'
	apart on
}

failover() {
	local turn i
	heading "the source killed, its synchronous standby promoted: from there to the first row"
	for ((turn = 1; turn <= TURNS; turn++)); do
		follow_conf | cluster_init c
		cluster_start c
		new_database c source
		cluster_standby s c
		cluster_start s
		sql c postgres "ALTER SYSTEM SET synchronous_standby_names = '*'"
		sql c postgres "SELECT pg_reload_conf()" >/dev/null
		wait_until c postgres "SELECT bool_and(sync_state = 'sync') FROM pg_stat_replication" t
		for i in 1 2; do
			new_database b "followed$i"
			sql b "followed$i" "SELECT seq_follow('host=$work/c,$work/s port=5432 user=postgres dbname=source target_session_attrs=read-write')"
		done
		bench_client follow_rate 200 "$RATE_BYTES" "$(at c source)" >/dev/null
		for i in 1 2; do wait_until b "followed$i" "SELECT state = 'following' FROM seq_follower" t; done
		cluster_stop c immediate
		cluster_configure s <<<"synchronous_standby_names = ''"
		cluster_promote s
		bench_client follow_first "$(at s source)" "$(at b followed1)" "$(at b followed2)"
		for i in 1 2; do drop_follower "followed$i"; done
		cluster_stop s
		as_user rm -rf "$work/c" "$work/s"
	done
}

large() {
	local rss pid start
	heading "one entry of $LARGE MB"
	new_database a source
	follower followed
	pid=$(sql b followed "SELECT pid FROM seq_follower")
	sql a source "SELECT seq_append(decode(string_agg(x, ''), 'hex')) IS NULL FROM (SELECT '92aa45706f6368426174636891' || '93' || 'cf' || lpad(to_hex(seq_next_epoch()), 16, '0') || '91' || '94' || 'cf' || lpad(to_hex(seq_next_epoch()), 16, '0') || '00' || '95' || '90' || '91' || '92a8446f63756d656e74' || '92a16190' || 'c6' || lpad(to_hex($LARGE * 1000000), 8, '0') || repeat('ab', $LARGE * 1000000) || '01' || 'c0' || '00' || '00' AS x) y" >/dev/null
	start=$(now_ms)
	sql b followed "SELECT seq_wait_for_index($(sql a source "SELECT max(log_index) FROM seq_log"), '60s')" >/dev/null
	rss=$(awk '/VmHWM/ { print int($2 / 1024) }' "/proc/$pid/status")
	echo "there after $(($(now_ms) - start)) ms more; the worker's largest memory was $rss MB"
	drop_follower followed
}

main() {
	local section
	cluster_traps a
	bench_prepare
	follow_conf | cluster_init a
	follow_conf | cluster_init b
	cluster_start a
	cluster_start b
	for section in $ONLY; do
		case $section in
			catch_up | latency | sustained | four | failover | large) "$section" ;;
			*) die "no such section: $section" ;;
		esac
	done
	cluster_stop a
	cluster_stop b
}

main
