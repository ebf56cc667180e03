#!/bin/bash
#
# chaos.sh
#     Faults against a model: `make chaos`, `make chaos-followers`, `make chaos-plants`,
#     `make chaos-bursts`.
#
#   SEED=n ROUNDS=n    which choices, and how many faults
#   TXNS=n             transactions appended in a round, on the average
#   BURST=n            entries of a burst
#   SUBMISSIONS=n      submissions in all, by submitters in bulk
#   WITHOUT="a,b"      leave out: native (the consumer in C), loops (those of
#                      programs), cursors (appends through them),
#                      submitters, groups
#   FAULTS="a,b"       these kinds only
#   PLANT=name         with the bug of test/chaos/plants/name.patch: must fail
#   KEEP=1             keep the work directory when something failed
#   NO_DEPS=1          install no packages
#
# chaos.sh --followers is the same with a source, its standby and two followers; it takes
# SEED, ROUNDS, TXNS, FAULTS, PLANT, KEEP and NO_DEPS. With SHORT=1 it is a fixed selection
# that takes two minutes, and its last line is "N passed, M failed".
# chaos.sh --plants runs every plant, and succeeds if each is caught.
# chaos.sh --bursts counts what slow consumers receive of large bursts, the
# applier being ended all the time:
#
#   BURSTS=n ENTRIES=n RESTARTS=n   how many, how large, how often in all

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"

plants=$top/test/chaos/plants
status=1

finish() {
	trap - EXIT
	trap '' HUP INT TERM
	if [ "$status" -ne 0 ] && [ -n "${KEEP:-}" ]; then keep_work=1; fi
	cleanup || true
	exit "$status"
}

# A line "NAME: value" at the head of a plant.
plant_says() { sed -n "s/^$2: //p;/^---/q" "$plants/$1.patch"; }

apply_plant() {
	[ -f "$plants/$1.patch" ] || die "no such plant: $1"
	in_tree patch -p1 -s -N --dry-run -i "$plants_copy/$1.patch" >/dev/null || die "plant $1 does not apply any more"
	in_tree patch -p1 -s -N -i "$plants_copy/$1.patch"
}

run_perl() {
	local program=$1
	shift
	as_user mkdir "$work/nodes"
	logged "$work/chaos.log" as_user env -C "$work/nodes" perl "$work/tree/test/chaos/$program" \
		"--dir=$work/nodes" "--bin=$bin" ${SEED:+"--seed=$SEED"} "$@"
}
run_suite() {
	local native='' tests=''
	[ -z "${PLANT:-}" ] || tests=$(plant_says "$PLANT" Tests)
	if [ -n "$tests" ]; then
		run_tests "$tests"
		return
	fi
	if [ -n "${PLANT:-}" ] && [ "$(plant_says "$PLANT" Run)" = followers ]; then
		run_followers
		return
	fi
	if [[ ",${WITHOUT:-}," != *,native,* ]]; then
		make_consumer
		native=--library=$library
	fi
	run_perl chaos.pl ${native:+"$native"} ${ROUNDS:+"--rounds=$ROUNDS"} ${TXNS:+"--txns=$TXNS"} ${FAULTS:+"--only=$FAULTS"} \
		${BURST:+"--burst=$BURST"} ${SUBMISSIONS:+"--submissions=$SUBMISSIONS"} ${WITHOUT:+"--without=$WITHOUT"}
}
# A plant that needs a moment which only the tests make.
run_tests() {
	logged "$work/chaos.log" env SUITES=tap "PROVE_TESTS=$1" NO_DEPS=1 bash "$work/tree/scripts/test.sh"
}
run_followers() {
	local status=0 good bad
	if [ -n "${SHORT:-}" ]; then
		SEED=${SEED:-1}
		FAULTS=${FAULTS:-$short_selection}
		ROUNDS=${ROUNDS:-$(tr , '\n' <<<"$FAULTS" | wc -l)}
		TXNS=${TXNS:-200}
	fi
	run_perl followers.pl ${ROUNDS:+"--rounds=$ROUNDS"} ${TXNS:+"--txns=$TXNS"} ${FAULTS:+"--only=$FAULTS"} || status=$?
	if [ -n "${SHORT:-}" ]; then
		good=$(grep -c '^ok [0-9]* -' "$work/chaos.log") || true
		bad=$(grep -c '^not ok' "$work/chaos.log") || true
		[ "$status" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
		echo "$good passed, $bad failed"
	fi
	return "$status"
}
# Of each kind one that comes upon most.
short_selection="worker killed,follower restarted,cut in the middle of an answer,a byte changed on its way"
short_selection+=",failover with confirmations held,cascade,unfollowed and followed again,left behind"
short_selection+=",followers truncated,many acknowledgements,follower loses what was not durable"
run_bursts() {
	run_perl bursts.pl ${BURSTS:+"--bursts=$BURSTS"} ${ENTRIES:+"--entries=$ENTRIES"} ${RESTARTS:+"--restarts=$RESTARTS"}
}

# With a planted bug it is the right invariant that must break.
caught() {
	local broken expected
	broken=$(sed -n "s/^not ok [0-9]* - //p; s/^#   Failed test '\(seed [0-9]*: \)\?\(.*\)'\$/\2/p" "$work/chaos.log" | head -n 1)
	expected=$(plant_says "$PLANT" Breaks)
	if [[ "|$expected|" == *"|$broken|"* ]] && [ -n "$broken" ]; then
		note "plant $PLANT: caught, by \"$broken\""
		return 0
	fi
	note "plant $PLANT: NOT caught; expected \"$expected\", broken is \"$broken\""
	return 1
}

main() {
	local found=0
	trap finish EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	[ -n "${NO_DEPS:-}" ] || DEPS=${PLANT:+plants} bash "$here/deps.sh"
	find_server
	make_work
	copy_sources
	plants_copy=$work/tree/test/chaos/plants
	if [ -n "${PLANT:-}" ]; then
		apply_plant "$PLANT"
		FAULTS=${FAULTS:-$(plant_says "$PLANT" Faults)}
		SEED=${SEED:-$(plant_says "$PLANT" Seed)}
		ROUNDS=${ROUNDS:-$(plant_says "$PLANT" Rounds)}
	fi
	if [ -z "${PLANT:-}" ] || [ -z "$(plant_says "$PLANT" Tests)" ]; then
		guarded pgxs_make -s -j "$jobs" "CC=${CC:-gcc}" COPT=-Werror all || die "the build failed"
		make_private_server
	fi
	status=0
	"run_$1" || status=$?
	if [ -n "${PLANT:-}" ]; then
		# `make chaos` fails, as it has to, and all_plants is content with that
		if caught; then found=1; fi
		if [ -n "${EXPECT_FAILURE:-}" ]; then status=$((1 - found)); fi
	fi
}

# Each in a process of its own, with its own work directory.
all_plants() {
	local file name bad=0 results=()
	[ -n "${NO_DEPS:-}" ] || DEPS=plants bash "$here/deps.sh"
	for file in "$plants"/*.patch; do
		name=$(basename "$file" .patch)
		heading "plant $name"
		if PLANT=$name EXPECT_FAILURE=1 NO_DEPS=1 bash "$here/chaos.sh"; then
			results+=("caught      $name")
		else
			results+=("NOT caught  $name")
			bad=$((bad + 1))
		fi
	done
	heading "plants, after $(elapsed)"
	printf '%s\n' "${results[@]}"
	[ "$bad" -eq 0 ]
}

case ${1:-} in
	--plants) all_plants ;;
	--followers) main followers ;;
	--bursts) main bursts ;;
	*) main suite ;;
esac
