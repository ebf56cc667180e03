#!/bin/bash
#
# demo.sh
#     Builds the extension, starts a throw-away server with it, tells the
#     story of demo-story.sh on it, and leaves nothing behind: `make demo`.
#
#   PAUSE=2      seconds to wait after each thing said (0)
#   NO_DEPS=1    install no packages
#
# What the story may use:
#   say TEXT...                narration
#   psql_run SQL               show and run SQL on the primary
#   psql_on SERVER SQL         the same on another server
#   psql_value SQL             the bare result, for the story's own use
#   session_open NAME [SERVER] a psql that stays connected, in the background
#   session_run NAME SQL       run SQL there and show what it answers
#   session_send NAME SQL      send SQL there and do not wait
#   session_wait NAME          wait for what was sent, and show what it answers
#   session_lost NAME          its server has gone: show what it says to that
#   session_close NAME
#   restart_server [immediate]
#   start_standby, promote_standby    a streaming replica, the server "standby"
#   database=NAME              what all of these connect to from here on

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
# shellcheck source=scripts/cluster.sh
. "$here/cluster.sh"

if [ -t 1 ]; then
	bold=$'\e[1m' cyan=$'\e[36m' plain=$'\e[0m'
else
	bold='' cyan='' plain=''
fi

declare -A session_in session_out session_pid session_sent
database=postgres

say() {
	printf '\n%s' "$bold"
	printf '%s\n' "$*" | fold -s -w 78
	printf '%s' "$plain"
	sleep "${PAUSE:-0}"
}

show_sql() {
	printf '\n%s%s%s\n' "$cyan" "$1> ${2//$'\n'/$'\n'$1> }" "$plain"
}

psql_run() { psql_on primary "$@"; }

psql_on() {
	show_sql "$1" "$2"
	cluster_psql "$1" -q -v ON_ERROR_STOP=1 -d "$database" -c "$2" 2>&1 </dev/null
}

psql_value() { cluster_psql primary -qAt -v ON_ERROR_STOP=1 -d "$database" -c "$1" </dev/null; }

# A psql between two pipes: one line of its output tells that all before it
# has been answered.
session_open() {
	local name=$1 server=${2:-primary} in out
	as_user mkfifo "$work/$name.in" "$work/$name.out"
	cluster_psql "$server" -q -d "$database" <"$work/$name.in" >"$work/$name.out" 2>&1 &
	session_pid[$name]=$!
	exec {in}>"$work/$name.in" {out}<"$work/$name.out"
	session_in[$name]=$in
	session_out[$name]=$out
	session_sent[$name]=0
}

session_send() {
	show_sql "$1" "$2"
	session_sent[$1]=$((session_sent[$1] + 1))
	printf '%s\n;\n\\echo answered %d\n' "$2" "${session_sent[$1]}" >&"${session_in[$1]}"
}

session_wait() {
	local line
	while IFS= read -r -t 60 line <&"${session_out[$1]}"; do
		[ "$line" != "answered ${session_sent[$1]}" ] || return 0
		printf '%s\n' "$line"
	done
	die "session $1 did not answer"
}

session_run() {
	session_send "$@"
	session_wait "$1"
}

session_close() {
	local in=${session_in[$1]} out=${session_out[$1]}
	# Sessions opened later hold this pipe too: its end would not be seen.
	printf '\\q\n' >&"$in"
	exec {in}>&- {out}<&-
	session_forget "$1"
}

session_forget() {
	wait "${session_pid[$1]}" || true
	rm -f "$work/$1.in" "$work/$1.out"
	unset "session_in[$1]" "session_out[$1]" "session_pid[$1]" "session_sent[$1]"
}

session_lost() {
	local in=${session_in[$1]} out=${session_out[$1]}
	printf '\n%s%s has lost its server:%s\n' "$cyan" "$1" "$plain"
	cat <&"$out"
	exec {in}>&- {out}<&-
	session_forget "$1"
}

restart_server() {
	cluster_stop primary "${1:-fast}"
	cluster_start primary
}

start_standby() {
	cluster_standby standby primary
	cluster_start standby
}

promote_standby() { cluster_promote standby; }

finish() {
	local status=$?
	trap - EXIT
	trap '' HUP INT TERM
	if [ "$status" -ne 0 ] && [ -n "$work" ] && [ -s "$work/primary/log" ]; then
		note "the end of the server's log:"
		tail -n 30 "$work/primary/log" >&2
	fi
	cleanup || true
	if [ "$status" -eq 0 ]; then
		heading "done in $(elapsed); the server is stopped and its files are gone"
	fi
	exit "$status"
}

main() {
	trap finish EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	[ -n "${NO_DEPS:-}" ] || DEPS=build bash "$here/deps.sh"
	find_server
	make_work
	heading "building for $server_version"
	copy_sources
	guarded pgxs_make -s -j "$jobs" all || die "the build failed"
	make_private_server
	heading "starting a throw-away server"
	cluster_init primary <"$(demo_settings)"
	cluster_start primary
	# shellcheck source=scripts/demo-story.sh
	. "$here/demo-story.sh"
	story
}

# What the story's server needs beyond test.conf.
demo_settings() {
	if [ -f "$here/demo.conf" ]; then echo "$here/demo.conf"; else echo /dev/null; fi
}

main
