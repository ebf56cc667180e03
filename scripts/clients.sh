#!/bin/bash
#
# clients.sh
#     Clients in Python, JavaScript, Go and psql, which are those of examples/,
#     against a throw-away server that is restarted in the middle, directly and
#     through a pooler: `make clients`.
#
# Publishers place orders and send a message for each, in one transaction. What
# they have committed is the table orders. Groups and streams of workers write a
# letter for each message. At the end each of them must have written one letter
# for each order, in the order of each publisher, and all in the same order of
# the collection that all publishers send to.
#
# The last line is "N passed, M failed"; the status is not zero unless M is.
#
#   LINES_EACH=160   orders of each publisher before each of the restarts
#   BROKEN=1         and a worker that must be found out: the run has to fail
#   KEEP=1           keep the work directory when something failed
#   NO_DEPS=1        install no packages

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
# shellcheck source=scripts/cluster.sh
. "$here/cluster.sh"
# shellcheck source=scripts/points.sh
. "$here/points.sh"

LINES_EACH=${LINES_EACH:-160}
pids=()
names=()
publisher_fds=()
publisher_names=()
publisher_lines=()

is() {
	[ "$1" = "$2" ] || { echo "# got:      $1"; echo "# expected: $2"; return 1; }
}

contains() {
	case $1 in *"$2"*) ;; *) echo "# got:      $1"; echo "# expected: ...$2..."; return 1 ;; esac
}

finish() {
	local status=$?
	trap - EXIT
	trap '' HUP INT TERM
	# a signal may have come where the output went elsewhere
	exec >&"$output"
	points_finish clients "$status" show_logs
}

show_logs() { show_ends "$work"/clients/*.log "$work"/main/log "$work"/bouncer/log; }

# What npm and go need of the caller's settings they get: it is he who runs them.
# Nothing of it is kept, and nothing that the packages bring is run here.
build_clients() {
	local program
	mkdir "$work/node"
	cp "$top"/examples/node/*.js* "$work/node"
	timeout 120 npm --prefix "$work/node" install --ignore-scripts --no-audit --no-fund --no-package-lock --loglevel=error \
		</dev/null >"$work/npm.log" 2>&1 ||
		{ cat "$work/npm.log" >&2; die "npm could not install pg and @msgpack/msgpack"; }
	as_user mkdir "$work/go"
	for program in publish fetch statement frames; do
		as_user env GO111MODULE=off GOPATH=/usr/share/gocode "GOCACHE=$work/tmp/go" GOFLAGS= \
			go build -o "$work/go/$program" "$work/tree/examples/go/$program.go"
	done
}

sql() { PGDATABASE=postgres cluster_psql main -qAt -v ON_ERROR_STOP=1 -c "$1" </dev/null; }
sql_as_service() {
	PGHOST=$work/main PGPORT=5432 PGUSER=service as_user "$bin/psql" -X -qAt -v ON_ERROR_STOP=1 -d postgres -c "$1" </dev/null
}

# by MODE ROLE SQL: through the pooler; errors are part of the output.
by() {
	PGHOST=$work/bouncer PGPORT=6432 PGUSER=$2 as_user env PGCONNECT_TIMEOUT=20 \
		"$bin/psql" -X -qAt -v VERBOSITY=verbose -d "$1" -c "$3" </dev/null 2>&1 || true
}

# wait_for DESCRIPTION SQL: until it is true. A point, so that the end comes soon.
wait_for() {
	local tries
	for ((tries = 0; tries < 1200; tries++)); do
		[ "$(sql "$2" 2>/dev/null)" != t ] || { point "$1" true; return 0; }
		sleep 0.1
	done
	point "$1" false
	return 1
}

# A pooler for the three modes. It refuses to run as root, and so does the server.
start_bouncer() {
	local mode tries
	as_user mkdir -m 700 "$work/bouncer"
	as_user sh -c "cat >'$work/bouncer/users'" <<<'"service" ""
"shared" ""
"kept_off" ""
"cautious" ""'
	{
		echo '[databases]'
		for mode in session transaction statement; do
			echo "$mode = host=$work/main port=5432 dbname=postgres pool_mode=$mode"
		done
		# the least that a client who shares it would notice
		echo "two = host=$work/main port=5432 dbname=postgres pool_mode=transaction pool_size=2"
		cat <<-EOF
			[pgbouncer]
			unix_socket_dir = $work/bouncer
			listen_port = 6432
			auth_type = trust
			auth_file = $work/bouncer/users
			default_pool_size = 40
			max_client_conn = 200
			server_login_retry = 1
			ignore_startup_parameters = extra_float_digits
			logfile = $work/bouncer/log
		EOF
	} | as_user sh -c "cat >'$work/bouncer/ini'"
	as_user env -C "$work/bouncer" pgbouncer -q "$work/bouncer/ini" </dev/null >"$work/bouncer.log" 2>&1 &
	disown
	for ((tries = 0; tries < 100; tries++)); do
		[ ! -S "$work/bouncer/.s.PGSQL.6432" ] || return 0
		sleep 0.1
	done
	cat "$work/bouncer.log" >&2
	die "pgbouncer did not start"
}

prepare_database() {
	sql 'CREATE EXTENSION calvin_seq'
	PGDATABASE=postgres cluster_psql main -q -v ON_ERROR_STOP=1 -f "$work/tree/examples/schema.sql" </dev/null
	sql "CREATE ROLE service LOGIN; CREATE ROLE shared LOGIN IN ROLE service; CREATE ROLE kept_off LOGIN IN ROLE service;
		CREATE ROLE cautious LOGIN IN ROLE service;
		ALTER ROLE kept_off SET calvin_seq.subscriptions = off;
		ALTER ROLE cautious SET calvin_seq.subscriptions = registered;
		GRANT SELECT, INSERT ON orders, letters TO service;
		GRANT EXECUTE ON FUNCTION seq_send(text, jsonb, bigint), seq_fetch(text, int, interval),
			seq_fetch_json(text, int, interval), seq_create_group(text, int, int[], text[], bigint),
			seq_register(text, int[], bigint), seq_pending(text),
			seq_subscribe(int[], text, bigint, int, int, boolean), seq_receive(int, interval, text),
			seq_receive_batch(int, interval, text), seq_commit(text), seq_unsubscribe(int[], text) TO service"
	sql "SELECT seq_wait_for_index(0, '30s')" >/dev/null
}

# start NAME HOST PORT DATABASE COMMAND...: a client, known to the server by its name.
start() {
	local name=$1 host=$2 port=$3 database=$4
	shift 4
	# <&0: the shell would take the input away from what runs in the background
	PGHOST=$host PGPORT=$port PGUSER=service as_user env -C "$work/clients" "PATH=$bin:$PATH" PGSSLMODE=disable \
		"PGDATABASE=$database" "PGAPPNAME=$name" PYTHONUNBUFFERED=1 "$@" <&0 2>"$work/clients/$name.log" >"$work/clients/$name.out" &
	pids+=($!)
	names+=("$name")
}

# command_of LANGUAGE PROGRAM, in the array "command".
command_of() {
	case $1 in
		python) command=(/usr/bin/python3 "$work/tree/examples/python/$2.py") ;;
		node) command=(node "$work/node/$2.js") ;;
		go) command=("$work/go/$2") ;;
		psql) command=("$work/tree/examples/psql/$2.sh") ;;
	esac
}

# where MODE: direct or one of the pooler's, in host, port and database.
where() {
	host=$work/bouncer port=6432 database=$1
	if [ "$1" = direct ]; then host=$work/main port=5432 database=postgres; fi
}

# worker LANGUAGE PROGRAM MODE READER NUMBER [ARGUMENTS]
worker() {
	local command host port database
	command_of "$1" "$2"
	where "$3"
	start "$4-$1-$5" "$host" "$port" "$database" "${command[@]}" "$4" "${@:6}" </dev/null
}

# publisher LANGUAGE MODE SHARE: reads its orders from a pipe. SHARE is the part
# of LINES_EACH in percent: who starts a psql for each order gets fewer.
publisher() {
	local command host port database fd name=$1-$2
	as_user mkfifo "$work/clients/$name.in"
	command_of "$1" publish
	where "$2"
	# open for both, so that opening does not wait
	exec {fd}<>"$work/clients/$name.in"
	start "publisher-$name" "$host" "$port" "$database" "${command[@]}" <"$work/clients/$name.in"
	publisher_fds+=("$fd")
	publisher_names+=("$name")
	publisher_lines+=($((LINES_EACH * $3 / 100)))
}

# Half of the orders are for a customer that all publishers have in common.
place_orders() {
	local round=$1 i n
	for i in "${!publisher_fds[@]}"; do
		for ((n = 0; n < publisher_lines[i]; n += 2)); do
			printf '%s %d\nall %d\n' "${publisher_names[i]}" $((round * 10000 + n)) \
				$((i * 100000 + round * 10000 + n))
		done >&"${publisher_fds[i]}"
		placed=$((placed + (publisher_lines[i] + 1) / 2 * 2))
	done
}

# Orders are placed, and in the middle of it the server is restarted.
round() {
	local before=$placed at
	place_orders "$1"
	wait_for "$2: orders and letters are being written" "SELECT (SELECT count(*) FROM orders) > $((before + (placed - before) / 10))
		AND (SELECT count(*) FROM letters) > $before"
	cluster_stop main "$2"
	cluster_start main
	at=$(sql 'SELECT count(*) FROM orders')
	point "$2: the restart came in the middle ($((at - before)) of $((placed - before)) placed)" test "$at" -lt "$placed"
	wait_for "$2: all orders are placed" "SELECT count(*) = $placed FROM orders"
}

# What a reader has written beside what was committed.
check_reader() {
	local reader=$1
	point "$reader: a letter for each order, and no other" is "$(sql "
		SELECT count(*) || ' lacking or too many' FROM (
			(SELECT 'orders/' || customer, number FROM orders EXCEPT ALL SELECT about, number FROM letters WHERE reader = '$reader')
			UNION ALL
			(SELECT about, number FROM letters WHERE reader = '$reader' EXCEPT ALL SELECT 'orders/' || customer, number FROM orders)) d")" \
		'0 lacking or too many'
	point "$reader: in the order of each publisher" is "$(sql "
		SELECT count(*) || ' before their turn' FROM (
			SELECT number < lag(number) OVER (PARTITION BY about, number / 100000 ORDER BY id) AS early
			FROM letters WHERE reader = '$reader') l WHERE early")" '0 before their turn'
}

# What works through a pooler was seen; what cannot says so.
check_refused() {
	local mode
	for mode in transaction statement; do
		point "$mode mode: seq_receive says that the pooler may be why" contains \
			"$(by $mode shared 'SELECT seq_receive()')" 'A connection pooler in transaction or statement mode'
		point "$mode mode: so does seq_commit" contains \
			"$(by $mode shared 'SELECT seq_commit()')" 'A connection pooler in transaction or statement mode'
		point "$mode mode: seq_subscribe is refused where it is turned off" contains \
			"$(by $mode kept_off "SELECT seq_subscribe('{1}')")" 'ERROR:  55000: subscriptions are turned off in this session'
		point "$mode mode: a name that is not registered is refused where it has to be" contains \
			"$(by $mode cautious "SELECT seq_subscribe('{1}')")" 'ERROR:  55000: consumer "default" is not registered'
	done
	point "statement mode: a transaction is refused by the pooler" contains \
		"$(by statement service 'BEGIN')" 'transaction blocks not allowed'
}

stop_clients() {
	local dir cwd
	for dir in /proc/[0-9]*; do
		cwd=$(readlink "$dir/cwd" 2>/dev/null) || continue
		if [ "$cwd" = "$work/clients" ]; then kill "${dir#/proc/}" 2>/dev/null || true; fi
	done
	wait "${pids[@]}" 2>/dev/null || true
}

workers() {
	local name
	for name in "${names[@]}"; do
		case $name in publisher-*) ;; *) printf '%s ' "$name" ;; esac
	done
}

# Which of the workers have ended by themselves.
ended() {
	local i
	for i in "${!pids[@]}"; do
		case ${names[i]} in
			publisher-*) ;;
			*) kill -0 "${pids[i]}" 2>/dev/null || printf '%s ' "${names[i]}" ;;
		esac
	done
}

run() {
	local language mode reader fd i groups='direct session transaction statement python node go psql' streams='' vshards pending
	placed=0
	as_user mkdir "$work/clients"

	for language in python node go psql; do
		for mode in direct session; do streams+=" frames_${language}_$mode"; done
	done
	for reader in $groups; do
		# through the pooler, where one is its mode's
		case $reader in
			session | transaction | statement) by "$reader" service "SELECT seq_create_group('$reader')" ;;
			*) sql_as_service "SELECT seq_create_group('$reader')" ;;
		esac >/dev/null
	done
	[ -z "${BROKEN:-}" ] || sql_as_service "SELECT seq_create_group('broken')" >/dev/null

	for language in python node go psql; do
		for mode in direct session transaction; do
			publisher "$language" "$mode" "$([ "$language" = psql ] && echo 20 || echo 100)"
		done
	done
	publisher psql statement 20
	vshards=$(sql "SELECT string_agg(DISTINCT seq_vshard('orders/' || c)::text, ' ')
		FROM unnest(string_to_array('all ${publisher_names[*]}', ' ')) c")
	for reader in $streams; do sql_as_service "SELECT seq_register('$reader', '{${vshards// /,}}')" >/dev/null; done

	for language in python node go psql; do
		# several of each language on one group, one of each on others, and one language alone
		worker "$language" fetch direct direct 1
		worker "$language" fetch direct direct 2
		worker "$language" fetch session session 1
		worker "$language" fetch transaction transaction 1
		worker "$language" "$([ "$language" = psql ] && echo fetch || echo statement)" statement statement 1
		worker "$language" fetch transaction "$language" 1
		worker "$language" fetch direct "$language" 2
		# shellcheck disable=SC2086
		for mode in direct session; do worker "$language" frames "$mode" "frames_${language}_$mode" 1 $vshards; done
	done
	if [ -n "${BROKEN:-}" ]; then
		start broken "$work/main" 5432 postgres /usr/bin/python3 "$work/tree/test/clients/broken.py" broken </dev/null
	fi

	heading "the server is restarted in the middle, after $(elapsed)"
	round 1 immediate
	round 2 fast
	for i in "${!publisher_fds[@]}"; do
		fd=${publisher_fds[i]}
		exec {fd}>&-
	done

	heading "what was written, after $(elapsed)"
	[ -z "${BROKEN:-}" ] || groups+=' broken'
	# shellcheck disable=SC2086
	pending=$(printf "+ seq_pending('%s')" $groups $streams)
	wait_for "nobody has anything left to do" "SELECT 0 $pending = 0"
	point "no worker has ended" is "$(ended)" ''
	wait_for "each of $(workers | wc -w) workers is there, and waits for more" "SELECT count(DISTINCT application_name) = $(workers | wc -w)
		FROM pg_stat_activity WHERE state = 'active' AND application_name = ANY (string_to_array('$(workers)', ' '))" ||
		sql "SELECT 'only ' || string_agg(application_name, ' ') FROM pg_stat_activity WHERE state = 'active'"
	point "no session had an error" is "$(grep -a ' ERROR: ' "$work/main/log" | head -n 5)" ''
	stop_clients
	for reader in $groups $streams; do check_reader "$reader"; done
	point "all write in the same order of what all send to" is "$(sql "
		SELECT count(DISTINCT numbers) FROM (
			SELECT string_agg(number::text, ' ' ORDER BY id) AS numbers FROM letters
			WHERE about = 'orders/all' AND reader <> 'broken' GROUP BY reader) l")" 1

	heading "what a pooler cannot do, after $(elapsed)"
	check_refused
	point_services
}

# Two services with subscriptions that share sessions: whatever happens to them, none
# gets what is the other's.
point_services() {
	local said line
	said=$(PGHOST=$work/bouncer PGPORT=6432 PGUSER=shared as_user env -C "$work/clients" PGDATABASE=two \
		"DIRECT=host=$work/main port=5432 dbname=postgres" \
		/usr/bin/python3 "$work/tree/test/clients/services.py" </dev/null 2>&1) || true
	while IFS= read -r line; do
		case $line in
			'ok - '*) passed=$((passed + 1)) ;;
			'not ok - '*) failed=$((failed + 1)) ;;
		esac
		printf '%s\n' "$line"
	done <<<"$said"
	point "services: the test came to its end" contains "$said" '1..'
}

main() {
	exec {output}>&1
	trap finish EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	[ -n "${NO_DEPS:-}" ] || DEPS=clients bash "$here/deps.sh"
	PATH=$PATH:/usr/sbin
	find_server
	make_work
	heading "building for $server_version"
	copy_sources
	guarded pgxs_make -s -j "$jobs" all || die "the build failed"
	make_private_server
	build_clients
	cluster_init main <<-'EOF'
		max_connections = 200
		max_locks_per_transaction = 64
		shared_buffers = 64MB
	EOF
	cluster_start main
	prepare_database
	start_bouncer
	run
	finished=1
}

main
