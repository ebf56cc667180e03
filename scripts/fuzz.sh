#!/bin/bash
#
# fuzz.sh
#     Runs the fuzzers of test/fuzz: `make fuzz`.
#
#   SECONDS=60            how long each runs (given to make)
#   FUZZERS="codec machine json"
#   FOUND=test/fuzz/found where inputs that made something fail are put
#   SAVE_CORPUS=1         minimise what was found worth keeping, and put it in
#                         test/fuzz/corpus.tar.gz
#   NO_DEPS=1             install no packages

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
# shellcheck source=scripts/cluster.sh
. "$here/cluster.sh"
# shellcheck source=scripts/fuzzing.sh
. "$here/fuzzing.sh"

FUZZERS=${FUZZERS:-codec machine json}
FUZZ_SECONDS=${FUZZ_SECONDS:-60}
FOUND=${FOUND:-$top/test/fuzz/found}
report=()
bad=0

finish() {
	local status=$?
	trap - EXIT
	trap '' HUP INT TERM
	[ -z "$work" ] || keep_found || true
	cleanup || true
	if [ ${#report[@]} -gt 0 ]; then
		heading "summary, after $(elapsed)"
		printf '%s\n' "${report[@]}"
	fi
	[ "$status" -eq 0 ] && [ "$bad" -eq 0 ] || exit 1
	exit 0
}

# What was found outlives the work directory.
keep_found() {
	compgen -G "$work/fuzz/found/*" >/dev/null || return 0
	mkdir -p "$FOUND"
	cp "$work"/fuzz/found/* "$FOUND"
	report+=("inputs that made something fail are in $FOUND")
}

# Lines and branches of the pure layers that the corpus reaches.
coverage() {
	local profdata cov name
	profdata=$("$fuzz_clang" -print-prog-name=llvm-profdata)
	cov=$("$fuzz_clang" -print-prog-name=llvm-cov)
	if ! "$cov" --version >/dev/null 2>&1; then
		report+=("coverage: there is no llvm-cov")
		return 0
	fi
	guarded fuzz_make coverage
	for name in codec machine; do
		# shellcheck disable=SC2016
		as_user env -C "$work/fuzz" "LLVM_PROFILE_FILE=$work/fuzz/$name.profraw" \
			sh -c './coverage_drive "$1" corpus/"$1"/* >/dev/null' sh "$name"
	done
	as_user "$profdata" merge -o "$work/fuzz/all.profdata" "$work"/fuzz/*.profraw
	heading "coverage of the final corpus"
	as_user "$cov" report "$work/fuzz/coverage_drive" "-instr-profile=$work/fuzz/all.profdata" \
		"$work/tree/src/wire" "$work/tree/src/machine" >"$work/fuzz/coverage.txt"
	# regions, functions, lines and branches have three columns each
	awk '/^[a-z].*\.[ch] |^TOTAL/ {
		printf "%-28s %6d lines, %6s covered, %5d branches, %6s taken both ways\n", $1, $8, $10, $11, $13
	}' "$work/fuzz/coverage.txt"
	report+=("$(awk '/^TOTAL/ { printf "coverage: %s of %d lines, %s of %d branches", $10, $8, $13, $11 }' \
		"$work/fuzz/coverage.txt")")
	if [ -n "${MISSED:-}" ]; then
		as_user "$cov" show "$work/fuzz/coverage_drive" "-instr-profile=$work/fuzz/all.profdata" \
			"$work/tree/src/wire" "$work/tree/src/machine" | grep -E '^ +[0-9]+\| +0\|' || true
	fi
}

# The smallest files that reach everything that the corpus reaches.
save_corpus() {
	local name
	for name in codec machine; do
		as_user mkdir -p "$work/fuzz/small/$name"
		as_user env -C "$work/fuzz" "./fuzz_$name" -merge=1 -max_len=1024 "small/$name" "corpus/$name" \
			>"$work/fuzz/$name.merge" 2>&1 || { tail -n 20 "$work/fuzz/$name.merge"; return 1; }
	done
	as_user tar -C "$work/fuzz/small" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 \
		-cf "$work/fuzz/corpus.tar" codec machine
	gzip -9 -n <"$work/fuzz/corpus.tar" >"$top/test/fuzz/corpus.tar.gz"
	report+=("corpus: $(find "$work/fuzz/small" -type f | wc -l) files, $(wc -c <"$top/test/fuzz/corpus.tar.gz") bytes")
}

main() {
	local name verdict
	trap finish EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	[ -n "${NO_DEPS:-}" ] || DEPS=fuzz bash "$here/deps.sh"
	find_server
	make_work
	copy_sources
	heading "build"
	fuzz_prepare || die "the build failed"
	[ -n "$fuzz_clang" ] || die "no clang with libFuzzer (Debian: clang, libclang-rt-dev)"
	for name in $FUZZERS; do
		heading "$name"
		verdict=ok
		case $name in
			codec | machine) fuzz_run "$name" "$FUZZ_SECONDS" || verdict=FAILED ;;
			json)
				guarded pgxs_make -s -j "$jobs" "CC=${CC:-gcc}" all || die "the build failed"
				make_private_server
				fuzz_json "$((FUZZ_SECONDS * 5000))" || verdict=FAILED
				;;
			*) die "no such fuzzer: $name" ;;
		esac
		[ "$verdict" = ok ] || bad=1
		report+=("$(printf '%-8s %9d executions  %s' "$name" "$executions" "$verdict")")
		echo "${report[-1]}"
	done
	# What fails would end these runs too.
	[ "$bad" -eq 0 ] || return 0
	coverage
	[ -z "${SAVE_CORPUS:-}" ] || save_corpus
}

main
