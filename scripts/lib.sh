# shellcheck shell=bash disable=SC2034
# lib.sh
#     What the scripts share: the private work directory, the unprivileged
#     user, the build and a private copy of the server. To be sourced by bash.
#
# Nothing is written to the clone or to the installed server: the sources are
# copied to a new directory under /tmp, built there, and installed into a copy
# of the server beside them. PostgreSQL finds its files relative to its own
# programs, so that copy is a server of its own. It also means that the clone
# may lie where the unprivileged user cannot look, under any name.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
work=
child=
started=$SECONDS
unset PGHOST PGPORT PGUSER

heading() { printf '\n== %s\n' "$*"; }
note() { printf '%s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# PostgreSQL refuses to run as root: then everything that is built and run
# belongs to the user its packages make, or to nobody.
choose_user() {
	drop=()
	[ "$(id -u)" -eq 0 ] || return 0
	local user
	for user in postgres nobody; do
		if id "$user" >/dev/null 2>&1; then
			drop=(setpriv "--reuid=$(id -u "$user")" "--regid=$(id -g "$user")" --clear-groups --)
			owner="$(id -u "$user"):$(id -g "$user")"
			return 0
		fi
	done
	die "running as root needs a user to drop to: neither postgres nor nobody exists"
}

# The directory is short because a socket's path may have 107 bytes, and its
# mode of 700 is what lets the clusters in it trust whoever can connect.
make_work() {
	choose_user
	umask 022
	work=$(mktemp -d /tmp/calvin_seq.XXXXXX)
	mkdir "$work/home" "$work/tmp"
	if [ ${#drop[@]} -gt 0 ]; then
		chown -R "$owner" "$work"
	fi
	# The user's programs ask for the current directory and must be let in.
	cd "$work" || exit
}

# Runs a command as the unprivileged user, with an environment of our own:
# the caller's PG* variables, locale and make flags are not the tests'.
as_user() {
	local keep=() name
	for name in TERM PG_TEST_TIMEOUT_DEFAULT PG_TEST_EXTRA PGCTLTIMEOUT PGHOST PGPORT PGUSER \
		PERL_TEST_HARNESS_DUMP_TAP PAUSE_POINTS CALVIN_PAUSE_POINTS CALVIN_OLD_SERVER CALVIN_SEQ_RELEASED COPT ASAN_OPTIONS UBSAN_OPTIONS SERVER_PRELOAD \
		VALGRIND_REPORTS VALGRIND_SUPPRESSIONS; do
		if [ -n "${!name-}" ]; then keep+=("$name=${!name}"); fi
	done
	"${drop[@]}" env -i --default-signal=INT,QUIT PATH="$PATH:/usr/sbin:/sbin" HOME="$work/home" \
		TMPDIR="$work/tmp" LANG=C.UTF-8 "${keep[@]}" "$@"
}

# Bash runs a trap only between commands: what takes long is waited for in
# this way, so that a signal ends it at once. That it is stopped for a while
# is not its end (-f), which matters under set -m.
guarded() {
	"$@" </dev/null &
	child=$!
	local status=0
	wait -f "$child" || status=$?
	child=
	return "$status"
}

# guarded, its output going to a file and the terminal.
logged() {
	local log=$1 status=0
	shift
	: >"$log"
	"$@" </dev/null >"$log" 2>&1 &
	child=$!
	tail -n +1 -s 0.1 -f --pid="$child" "$log" 2>/dev/null &
	local tail_pid=$!
	wait -f "$child" || status=$?
	child=
	wait "$tail_pid" || true
	return "$status"
}

find_server() {
	pg_config=$(command -v "${PG_CONFIG:-pg_config}") || die "pg_config not found"
	server_version=$("$pg_config" --version)
	system_bin=$("$pg_config" --bindir)
	jobs=$(nproc 2>/dev/null || echo 2)
}

copy_sources() {
	as_user mkdir "$work/tree"
	# tar's status 1 is a file that changed meanwhile, which is no matter here.
	{ tar -C "$top" --exclude-vcs -cf - . || [ $? -eq 1 ]; } | as_user tar -C "$work/tree" -xf -
	pgxs_make -s clean >/dev/null
}

in_tree() { as_user env -C "$work/tree" "$@"; }

pgxs_make() { in_tree make "PG_CONFIG=$pg_config" with_llvm=no "$@"; }

# The server's programs are copied, since a link would be followed to where
# the real server's files are; all else is linked.
make_private_server() {
	local dir
	server="$work/server"
	bin="$server$system_bin"
	as_user mkdir -p "$bin"
	as_user cp -L "$system_bin"/* "$bin"
	for dir in "$("$pg_config" --pkglibdir)" "$("$pg_config" --sharedir)" \
		"$("$pg_config" --includedir-server)"; do
		as_user mkdir -p "$server$dir"
		as_user cp -as "$dir/." "$server$dir"
	done
	pgxs_make -s install "DESTDIR=$server" >/dev/null
}

# The consumer in C, against the header that the private server has now.
make_consumer() {
	in_tree make -s -C test/consumer "PG_CONFIG=$bin/pg_config" with_llvm=no "CC=${CC:-gcc}" >/dev/null
	library=$work/tree/test/consumer/test_consumer
}

# Processes whose current directory is in the work directory: all of them are
# ours, and of a server every one is.
processes_inside() {
	local dir cwd
	for dir in /proc/[0-9]*; do
		cwd=$(readlink "$dir/cwd" 2>/dev/null) || continue
		case $cwd in
			"$work"/*) [ "${dir#/proc/}" = "$$" ] || echo "${dir#/proc/}" ;;
		esac
	done
}

# TERM lets test scripts stop their servers; QUIT stops servers at once, with
# their shared memory; what then remains is killed.
stop_processes() {
	local signal pids tries
	for signal in TERM QUIT KILL; do
		for tries in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
			pids=$(processes_inside)
			[ -n "$pids" ] || return 0
			if [ "$tries" -eq 1 ]; then
				# shellcheck disable=SC2086
				kill -s "$signal" $pids 2>/dev/null || true
			fi
			sleep 0.2
		done
	done
}

# Leaves nothing running and nothing behind.
cleanup() {
	[ -n "$work" ] || return 0
	if [ -n "$child" ]; then
		kill "$child" 2>/dev/null || true
		child=
	fi
	stop_processes
	cd /
	if [ "${keep_work:-}" ]; then
		note "kept: $work"
	else
		rm -rf "$work"
	fi
	work=
}

elapsed() {
	local seconds=$((SECONDS - started))
	printf '%dm%02ds' $((seconds / 60)) $((seconds % 60))
}
