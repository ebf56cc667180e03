# shellcheck shell=bash disable=SC2154,SC2034
# lib.sh
#     Building and running the benchmark, for run.sh and for the tests. To be
#     sourced after scripts/lib.sh and scripts/cluster.sh, and used after
#     make_private_server.

bench_sections="delivery peers end_to_end latency append replay catchup growth memory"

# The client is built against the system's libpq, the module against the header
# that the private server has.
bench_build() {
	guarded in_tree make -s -C bench "PG_CONFIG=$pg_config" "CC=${CC:-gcc}" calvin_bench || return 1
	guarded in_tree make -s -C bench/module "PG_CONFIG=$bin/pg_config" with_llvm=no all install
}

# bench_settings SIZE: the cluster's, beyond test.conf.
bench_settings() {
	cat "$work/tree/bench/bench.conf"
	# what only has to run need not wait for the disk
	[ "$1" != tiny ] || echo 'fsync = off'
}

# bench_section CLUSTER NAME: its figures on stdout.
bench_section() {
	local cluster=$1 section=$2 what round status=0
	if [ "$section" != catchup ]; then
		bench_client "$section" || status=1
		return "$status"
	fi
	# Each restart is followed by another hold, for the next one.
	for what in large warm short long; do
		bench_client catchup_prepare "$what" || return 1
		for ((round = 0; round < BENCH_REPEAT; round++)); do
			cluster_stop "$cluster" >&2 || return 1
			cluster_start "$cluster" >&2
			bench_client catchup_release "$what" || return 1
		done
		bench_client catchup_done || return 1
	done
}

# A section that takes longer than this is stuck.
bench_client() {
	as_user env "PGOPTIONS=-c client_min_messages=warning" "BENCH_SIZE=$BENCH_SIZE" \
		"BENCH_REPEAT=$BENCH_REPEAT" "BENCH_PGBENCH=$bin/pgbench" timeout -k 30 "${SUITE_TIMEOUT:-3600}" \
		"$work/tree/bench/calvin_bench" "$@"
}

# What the figures depend on, a line each: "name<TAB>text".
bench_machine() {
	local name
	printf 'date\t%s\n' "$(date -u '+%Y-%m-%d %H:%M UTC')"
	printf 'cpu\t%s\n' "$(sed -n 's/^model name[ \t]*: //p' /proc/cpuinfo | head -n 1)"
	printf 'cores\t%s\n' "$(nproc)"
	printf 'memory\t%s GB\n' "$(awk '/^MemTotal/ { printf "%.0f", $2 / 1024 / 1024 }' /proc/meminfo)"
	printf 'kernel\t%s\n' "$(uname -sr)"
	printf 'server\t%s\n' "$server_version"
	printf 'load\t%s\n' "$(cut -d' ' -f1-3 /proc/loadavg)"
	printf 'size\t%s\n' "$BENCH_SIZE"
	printf 'repetitions\t%s\n' "$BENCH_REPEAT"
	for name in fsync synchronous_commit wal_level shared_buffers calvin_seq.queue_size calvin_seq.apply_batch; do
		printf 'setting %s\t%s\n' "$name" "$(cluster_psql bench -qAt -d postgres -c "SHOW $name" </dev/null)"
	done
}
