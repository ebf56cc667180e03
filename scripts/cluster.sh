# shellcheck shell=bash disable=SC2154
# cluster.sh
#     Throw-away clusters on unix sockets, for the tests and the demo. To be
#     sourced after lib.sh, and used after make_private_server.
#
# A cluster NAME lives in $work/NAME: data, log and its socket. There is no
# TCP, so ports need no choosing.

# cluster_init NAME: a new cluster with scripts/test.conf, and with what is
# given on stdin.
cluster_init() {
	local dir=$work/$1
	as_user mkdir -m 700 "$dir"
	as_user "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 \
		--no-sync --no-instructions >"$dir.initdb.log" 2>&1 ||
		{ cat "$dir.initdb.log" >&2; die "initdb failed"; }
	{ cat "$top/scripts/test.conf"; cat; } | cluster_configure "$1"
}

# cluster_configure NAME: appends stdin to its settings.
cluster_configure() {
	# shellcheck disable=SC2016
	as_user sh -c 'cat >>"$1"' sh "$work/$1/data/postgresql.conf"
}

cluster_start() {
	local dir=$work/$1
	as_user env -C "$dir" "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w -t "${PGCTLTIMEOUT:-60}" -s \
		-o "-k '$dir' -c listen_addresses=''" start </dev/null >/dev/null ||
		{ tail -n 50 "$dir/log" >&2; die "the server did not start"; }
}

# cluster_stop NAME [fast|immediate]
cluster_stop() {
	as_user "$bin/pg_ctl" -D "$work/$1/data" -m "${2:-fast}" -w -t "${PGCTLTIMEOUT:-60}" -s stop
}

# cluster_standby NAME PRIMARY: a streaming standby, not yet started.
cluster_standby() {
	local dir=$work/$1
	as_user mkdir -m 700 "$dir"
	PGHOST=$work/$2 PGPORT=5432 PGUSER=postgres as_user "$bin/pg_basebackup" \
		-D "$dir/data" -R -X stream -c fast --no-sync
}

cluster_promote() {
	as_user "$bin/pg_ctl" -D "$work/$1/data" -w -t "${PGCTLTIMEOUT:-60}" -s promote
}

# cluster_use NAME: where the clients that follow connect to.
cluster_use() {
	export PGHOST=$work/$1 PGPORT=5432 PGUSER=postgres
}

# cluster_psql NAME [psql options]
cluster_psql() {
	local name=$1
	shift
	PGHOST=$work/$name PGPORT=5432 PGUSER=postgres as_user "$bin/psql" -X "$@"
}

# cluster_traps NAME: however the script ends, what it has made is removed; after a
# failure the end of that cluster's log is shown.
cluster_traps() {
	# shellcheck disable=SC2064
	trap "cluster_finish '$1'" EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

cluster_finish() {
	local status=$?
	trap - EXIT
	trap '' HUP INT TERM
	if [ "$status" -ne 0 ] && [ -n "$work" ] && [ -s "$work/$1/log" ]; then
		note "the end of the server's log:"
		tail -n 30 "$work/$1/log" >&2
	fi
	cleanup || true
	exit "$status"
}
