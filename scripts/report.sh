# shellcheck shell=bash disable=SC2034,SC2154
# report.sh
#     A table of several runs of the tests, and the cache that such runs build
#     in. To be sourced after lib.sh.

passed=0
failed=0
finished=
rows=()
scratch=

# Builds go to $CACHE, and stay there for a quick next run; without it to a
# temporary directory, which goes. The servers' user must be let in.
make_cache() {
	umask 022
	scratch=$(mktemp -d)
	chmod 755 "$scratch"
	cache=$scratch/cache
	if [ -n "${CACHE:-}" ]; then
		mkdir -p "$CACHE"
		cache=$(cd "$CACHE" && pwd -P)
	fi
	mkdir -p "$cache"
}

# record NAME FROM PASSED FAILED SECONDS
record() {
	passed=$((passed + $3))
	failed=$((failed + $4))
	rows+=("$(printf '%-10s %-10s %7s %7s %8s' "$@")")
}

# record_run NAME FROM STATUS LOG BEGUN: the result of a run of test.sh is its
# last line. A run that failed, or ran nothing, has at least one failure.
record_run() {
	local line good=0 bad=0
	line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$4" | tail -n 1) || true
	if [ -n "$line" ]; then
		good=${line%% passed*}
		bad=${line#*, }
		bad=${bad% failed}
	fi
	if [ "$bad" -eq 0 ] && { [ "$3" -ne 0 ] || [ "$good" -eq 0 ]; }; then bad=1; fi
	record "$1" "$2" "$good" "$bad" $((SECONDS - $5))
}

# Shows the output only of what fails.
quietly() {
	local status=0
	# Not around guarded: what a trap says in it is to be read.
	guarded to_quiet_log "$@" || status=$?
	[ "$status" -eq 0 ] || tail -n 60 "$scratch/quiet.log" >&2
	return "$status"
}

# Ends what runs, with all that it started: under set -m it is a process group.
# Whoever is told so in time cleans up behind himself.
stop_child() {
	local killer
	[ -n "$child" ] || return 0
	kill -TERM -- "-$child" 2>/dev/null || true
	{ sleep 20; kill -KILL -- "-$child"; } 2>/dev/null &
	killer=$!
	disown "$killer"
	wait "$child" 2>/dev/null || true
	kill -KILL -- "-$child" "-$killer" 2>/dev/null || true
	child=
}

to_quiet_log() { "$@" >"$scratch/quiet.log" 2>&1; }

# report_and_exit STATUS HEADER
report_and_exit() {
	local row
	if [ -z "$finished" ]; then
		failed=$((failed + 1))
		rows+=("stopped before its end (status $1)")
	fi
	heading "summary, after $(elapsed)"
	printf '%-10s %-10s %7s %7s %8s\n' "$2" from passed failed seconds
	for row in "${rows[@]}"; do echo "$row"; done
	echo "$passed passed, $failed failed"
	[ "$failed" -eq 0 ] || exit 1
	exit 0
}
