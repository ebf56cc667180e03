# shellcheck shell=bash disable=SC2154,SC2034
# lib.sh
#     Building and running the benchmark, for run.sh and for the tests. To be
#     sourced after scripts/lib.sh and scripts/cluster.sh, and used after
#     make_private_server.

bench_sections="delivery peers end_to_end latency append replay catchup growth memory publish publish_latency publish_held publish_drain handler_latency"

# The client is built against the system's libpq, the module against the header
# that the private server has.
# What a benchmark needs before it has a server: packages, unless NO_DEPS is set, the
# extension in a private server's tree, and the client.
bench_prepare() {
	[ -n "${NO_DEPS:-}" ] || DEPS=bench bash "$top/scripts/deps.sh"
	find_server
	make_work
	heading "building for $server_version"
	copy_sources
	guarded pgxs_make -s -j "$jobs" all || die "the build failed"
	make_private_server
	bench_build || die "the benchmark's build failed"
}

# The cluster "bench", for a run of $BENCH_SIZE, and clients connect to it.
bench_server() {
	cluster_init bench < <(bench_settings "$BENCH_SIZE")
	cluster_start bench
	cluster_use bench
}

bench_build() {
	guarded in_tree make -s -C bench "PG_CONFIG=$pg_config" "CC=${CC:-gcc}" calvin_bench || return 1
	guarded in_tree make -s -C bench/module "PG_CONFIG=$bin/pg_config" with_llvm=no all install
}

# What publishing is compared with, as far as it can be had: PgQ as it is
# installed or from Debian's packages, which are only unpacked, since to install
# them starts a daemon; pgmq from the file that PGMQ_SQL names.
bench_peers() {
	if [ -n "${PGMQ_SQL:-}" ]; then
		as_user tee "$work/pgmq.sql" <"$PGMQ_SQL" >/dev/null || return 1
		as_user tee -a "$work/peers" <<<"setting pgmq	SQL file of sha256 $(sha256sum <"$PGMQ_SQL" | cut -c 1-12)" >/dev/null
	fi
	if ! bench_have_pgq; then
		if [ -n "${NO_DEPS:-}" ] || ! bench_unpack_pgq || ! bench_have_pgq; then
			note "PgQ is not measured: neither is it installed, nor were its packages to be had"
			return
		fi
	fi
	as_user tee -a "$work/peers" <<<"setting PgQ	$(sed -n "s/^default_version *= *'\(.*\)'/\1/p" \
		"$server$("$pg_config" --sharedir)/extension/pgq.control"), a tick every 100 ms" >/dev/null
}

bench_have_pgq() {
	[ -e "$server$("$pg_config" --sharedir)/extension/pgq.control" ] &&
		PATH=$bin:$PATH command -v pgqd >/dev/null
}

bench_unpack_pgq() {
	local major dir=$work/pgq
	major=$("$pg_config" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
	command -v dpkg-deb >/dev/null && command -v apt-get >/dev/null || return 1
	as_user mkdir "$dir"
	as_user env -C "$dir" apt-get -qq download "postgresql-$major-pgq3" pgqd >/dev/null 2>&1 || return 1
	find "$dir" -name '*.deb' -print0 | as_user xargs -0 -I '{}' dpkg-deb -x '{}' "$dir" || return 1
	# it brings no libraries of its own
	if ldd "$dir/usr/bin/pgqd" | grep -q 'not found'; then return 1; fi
	as_user cp "$dir/usr/bin/pgqd" "$bin" &&
		as_user cp "$dir$("$pg_config" --pkglibdir)"/*.so "$server$("$pg_config" --pkglibdir)" &&
		as_user cp -r "$dir$("$pg_config" --sharedir)/extension/." "$server$("$pg_config" --sharedir)/extension"
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

# A section that takes longer than this is stuck. What it may leave running is
# found by its directory, as all else is.
bench_client() {
	local pgmq=
	if [ -e "$work/pgmq.sql" ]; then pgmq=$work/pgmq.sql; fi
	as_user env -C "$work/tmp" "PGOPTIONS=-c client_min_messages=warning" "BENCH_SIZE=$BENCH_SIZE" \
		"BENCH_REPEAT=$BENCH_REPEAT" "BENCH_PGBENCH=$bin/pgbench" "PATH=$bin:$PATH:/usr/sbin:/sbin" \
		"PGMQ_SQL=$pgmq" timeout -k 30 "${SUITE_TIMEOUT:-3600}" \
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
	if [ -e "$work/peers" ]; then cat "$work/peers"; fi
	for name in fsync synchronous_commit wal_level shared_buffers calvin_seq.queue_size calvin_seq.apply_batch; do
		printf 'setting %s\t%s\n' "$name" "$(cluster_psql bench -qAt -d postgres -c "SHOW $name" </dev/null)"
	done
}
