# shellcheck shell=bash disable=SC2154,SC2034
# points.sh
#     Points that a script counts by itself, for those whose last line is
#     "N passed, M failed". To be sourced after lib.sh.

passed=0
failed=0
# set behind the last point: what ends before has failed
finished=

# point DESCRIPTION COMMAND...: one that is counted.
point() {
	local description=$1
	shift
	if "$@"; then
		passed=$((passed + 1))
		echo "ok - $description"
	else
		failed=$((failed + 1))
		echo "not ok - $description"
	fi
}

# points_finish NAME STATUS SHOW: what a trap for EXIT does. SHOW is a command that
# shows the logs, if a point has failed.
points_finish() {
	if [ -z "$finished" ]; then
		failed=$((failed + 1))
		echo "not ok - stopped before its end (status $2)"
	fi
	if [ "$failed" -gt 0 ] && [ -n "$work" ]; then "$3"; fi
	if [ "$failed" -gt 0 ] && [ -n "${KEEP:-}" ]; then keep_work=1; fi
	cleanup || true
	heading "$1, after $(elapsed)"
	echo "$passed passed, $failed failed"
	[ "$failed" -eq 0 ] || exit 1
	exit 0
}

# show_ends LOG...: the ends of those that there are.
show_ends() {
	local log
	for log in "$@"; do
		[ -s "$log" ] || continue
		printf '\n-- the end of %s\n' "${log#"$work"/}"
		tail -n 8 "$log"
	done
}
