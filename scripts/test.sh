#!/bin/bash
#
# test.sh
#     Builds the extension and runs all of its tests: `make test`.
#
# The last line is "N passed, M failed"; the status is not zero unless M is.
#
#   SUITES="compile unit fuzz regress isolation tap chaos bench"    which to run
#   REGRESS="a b"  ISOLATION="c"  PROVE_TESTS="t/d.pl"    which of their tests
#   SEED=n               of the second run of chaos
#   SUITE_TIMEOUT=1800   seconds that one suite may take
#   KEEP=1               keep the work directory when something failed
#   RELEASED=needed      fail without the version before this one (released.sh)
#   NO_DEPS=1            install no packages
#   OLD_PG_CONFIG=PATH   of an older server with its headers, from which the tests upgrade

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
# shellcheck source=scripts/cluster.sh
. "$here/cluster.sh"
# shellcheck source=scripts/fuzzing.sh
. "$here/fuzzing.sh"
# shellcheck source=scripts/released.sh
. "$here/released.sh"
# shellcheck source=bench/lib.sh
. "$here/../bench/lib.sh"

SUITES=${SUITES:-compile unit fuzz regress isolation tap chaos bench}
SUITE_TIMEOUT=${SUITE_TIMEOUT:-1800}
passed=0
failed=0
finished=
report=()

# One suite's result: NAME PASSED FAILED.
record() {
	passed=$((passed + $2))
	failed=$((failed + $3))
	report+=("$(printf '%-10s %5d passed %5d failed' "$1" "$2" "$3")")
}

finish() {
	local status=$? line
	trap - EXIT
	trap '' HUP INT TERM
	if [ -z "$finished" ]; then
		# Whatever stopped the run half-way is a failure of it.
		failed=$((failed + 1))
		report+=("stopped before its end (status $status)")
	fi
	if [ "$failed" -gt 0 ] && [ -n "${KEEP:-}" ]; then keep_work=1; fi
	cleanup || true
	heading "summary, after $(elapsed)"
	for line in "${report[@]}"; do echo "$line"; done
	echo "$passed passed, $failed failed"
	[ "$failed" -eq 0 ] || exit 1
	exit 0
}

show_tail() {
	[ -s "$1" ] || return 0
	printf '\n-- the end of %s\n' "${1#"$work"/}"
	tail -n "${2:-60}" "$1"
}

# The names of the tests in a directory, without its suffix.
tests_in() {
	local file
	for file in "$work/tree/$1"/*"$2"; do
		[ -e "$file" ] || continue
		file=$(basename "$file" "$2")
		case $file in calvin_seq--*) ;; *) printf '%s ' "$file" ;; esac
	done
}

# Points of TAP on stdin, as "passed failed". What is marked TODO may fail; a
# plan that was not kept to is one failure.
count_tap() {
	awk '
		/^ok( |$)/ { good++; next }
		/^not ok( |$)/ { if (toupper($0) ~ /# *TODO/) good++; else bad++; next }
		/^1\.\.[0-9]+/ { sub(/^1\.\./, ""); plan += $1 + 0; plans++ }
		END { if (plans && plan > good + bad) bad++; print good + 0, bad + 0 }'
}

with_timeout() { timeout -k 30 "$SUITE_TIMEOUT" "$@"; }

# A crash of a server is a failure even where no test saw it, and so is what a
# sanitizer says in its log.
crashes_in() {
	grep -shE 'TRAP: |was terminated by signal (7|8|11)\b|: runtime error: ' "$@" | sort -u | sed -n 1,40p | grep .
}

build() {
	heading "build: $server_version, $(compiler_version "${CC:-gcc}")"
	# Tests stop processes at named points, which other builds do not have.
	export PAUSE_POINTS=1 CALVIN_PAUSE_POINTS=1
	guarded pgxs_make -s -j "$jobs" "CC=${CC:-gcc}" "COPT=-Werror${COPT:+ $COPT}" all ||
		die "the build failed"
	make_private_server
	[ -z "${OLD_PG_CONFIG:-}" ] || build_old
	unset PAUSE_POINTS
}

# The same extension in a private copy of the server that tests of upgrades begin with.
# Headers of before C23 do not always compile by it, which newer compilers begin with.
build_old() {
	local old=$work/old system_bin server bin pg_config=$OLD_PG_CONFIG COPT="-std=gnu17${COPT:+ $COPT}"
	heading "build: $("$pg_config" --version), to upgrade from"
	as_user mkdir "$old"
	as_user cp -R "$work/tree" "$old/tree"
	local work=$old
	system_bin=$("$pg_config" --bindir)
	pgxs_make -s clean >/dev/null
	guarded pgxs_make -s -j "$jobs" "CC=${CC:-gcc}" "COPT=-Werror $COPT" all ||
		die "the build for the older server failed"
	make_private_server
	export CALVIN_OLD_SERVER=${bin%/bin}
}

compiler_version() { "$1" --version | head -n 1; }

# The one on the path, or the one that the server's build used for bitcode.
find_clang() {
	command -v clang ||
		command -v "$(sed -n 's/^CLANG *= *//p' "$(dirname "$("$pg_config" --pgxs)")/../Makefile.global")"
}

clang_make() { as_user env -C "$work/clang" make -s "PG_CONFIG=$pg_config" with_llvm=no "$@"; }

# Whether the library built in a directory has pause points.
pause_points() { nm "$1/calvin_seq.so" | grep -w pause_point >/dev/null; }

# Includes go down; every header alone, and all sources by the other compiler:
# both as the build does, with warnings as errors, but without pause points.
suite_compile() {
	local good=0 bad=0 clang
	heading "compile: layers, META.json, and headers alone"
	if in_tree perl scripts/layers-check.pl; then good=1; else bad=1; fi
	if in_tree perl scripts/meta-check.pl; then good=$((good + 1)); else bad=$((bad + 1)); fi
	if guarded pgxs_make -s "CC=${CC:-gcc}" COPT=-Werror headerscheck; then
		good=$((good + 1))
	else
		bad=$((bad + 1))
	fi
	if clang=$(find_clang); then
		heading "compile: $(compiler_version "$clang")"
		# In a tree of its own: VPATH would find the objects there are.
		as_user cp -R "$work/tree" "$work/clang"
		clang_make clean >/dev/null
		if guarded clang_make -j "$jobs" "CC=$clang" COPT=-Werror all; then
			good=$((good + 1))
		else
			bad=$((bad + 1))
		fi
		if pause_points "$work/tree" && ! pause_points "$work/clang"; then
			good=$((good + 1))
		else
			echo "not ok: pause points are for the build under test alone"
			bad=$((bad + 1))
		fi
	else
		echo "no clang, so gcc alone judges"
	fi
	record compile "$good" "$bad"
}

suite_unit() {
	local status=0 good bad
	[ -f "$work/tree/test/unit/Makefile" ] || return 0
	heading unit
	as_user mkdir "$work/unit"
	logged "$work/unit.log" with_unit || status=$?
	# Each program's TAP is beside it.
	read -r good bad < <(tap_points "$work/unit" '*.tap')
	record_checked unit "$status" "$good" "$bad"
}
with_unit() {
	as_user env -C "$work/tree" timeout -k 30 "$SUITE_TIMEOUT" \
		make -s -C test/unit check "BUILD=$work/unit" "CC=${CC:-gcc}"
}

# About a minute of what `make fuzz` does for longer. The inputs that once
# failed are among the unit tests.
suite_fuzz() {
	local good=0 bad=0 name
	[ -f "$work/tree/test/fuzz/Makefile" ] || return 0
	heading fuzz
	fuzz_prepare || { record fuzz 0 1; return 0; }
	[ -n "$fuzz_clang" ] || echo "no clang with libFuzzer (DEPS=fuzz scripts/deps.sh installs it):" \
		"the corpus and random changes to it, by the plain driver"
	for name in "codec 30" "machine 15" "json 30000"; do
		executions=0
		if fuzz_one "${name% *}" "${name#* }"; then
			good=$((good + 1))
		else
			bad=$((bad + 1))
		fi
		echo "${name% *}: $executions executions"
	done
	record fuzz "$good" "$bad"
}
fuzz_one() { if [ "$1" = json ]; then fuzz_json "$2"; else fuzz_run "$1" "$2"; fi; }

# A suite that failed, or ran nothing, has at least one failure.
record_checked() {
	local name=$1 status=$2 good=$3 bad=$4
	if [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$good" -eq 0 ]; }; then
		echo "$name: status $status after $good passed"
		bad=1
	fi
	record "$name" "$good" "$bad"
}

installcheck() {
	as_user env -C "$work/tree" timeout -k 30 "$SUITE_TIMEOUT" \
		make -s "PG_CONFIG=$pg_config" with_llvm=no "bindir=$bin" installcheck "$@"
}

# pg_regress NAME DIRECTORY-OF-DIFFS TESTS, for both kinds of it: each has a
# cluster of its own. Its output has two forms, before version 16 and since.
run_pg_regress() {
	local name=$1 output=$2 tests=$3 status=0 total good bad
	shift 3
	total=$(wc -w <<<"$tests")
	[ "$total" -gt 0 ] || return 0
	heading "$name"
	cluster_init "$name" </dev/null
	cluster_start "$name"
	cluster_use "$name"
	logged "$work/$name.log" installcheck "$@" || status=$?
	unset PGHOST PGPORT PGUSER
	cluster_stop "$name" || status=1
	good=$(grep -cE '^ok [0-9]|\.\.\. ok\b' "$work/$name.log" || true)
	bad=$((total - good))
	if crashes_in "$work/$name/log"; then bad=$((bad + 1)); fi
	if [ "$bad" -gt 0 ] || [ "$status" -ne 0 ]; then
		head -c 100000 "$work/tree/$output/regression.diffs" 2>/dev/null || true
		show_tail "$work/$name/log"
	fi
	record_checked "$name" "$status" "$good" "$bad"
}

suite_regress() {
	local tests=${REGRESS:-$(tests_in sql .sql)}
	run_pg_regress regress . "$tests" "REGRESS=$tests" ISOLATION= TAP_TESTS=
}

suite_isolation() {
	local tests=" ${ISOLATION:-$(tests_in specs .spec)} "
	# as the Makefile does, for the count
	tests="prologue ${tests// prologue / }"
	run_pg_regress isolation output_iso "$tests" REGRESS= "ISOLATION=$tests" TAP_TESTS=
}

suite_tap() {
	local status=0 good bad log
	[ -n "${PROVE_TESTS:-}$(tests_in t .pl)" ] || return 0
	case ${PROVE_TESTS:-updated} in
		*updated*) make_released || [ "${RELEASED:-}" != needed ] || die "there is no released version to update from" ;;
	esac
	heading tap
	as_user mkdir "$work/tap"
	# prove says which files failed; their points are counted from a copy.
	export PERL_TEST_HARNESS_DUMP_TAP=$work/tap
	logged "$work/tap.log" installcheck REGRESS= ISOLATION= TAP_TESTS=1 \
		"PROVE_FLAGS=-j2 --timer" ${PROVE_TESTS:+"PROVE_TESTS=$PROVE_TESTS"} || status=$?
	unset PERL_TEST_HARNESS_DUMP_TAP
	read -r good bad < <(tap_points "$work/tap" '*')
	if crashes_in "$work"/tree/tmp_check/log/*.log; then bad=$((bad + 1)); fi
	if [ "$bad" -gt 0 ] || [ "$status" -ne 0 ]; then show_tap_logs; fi
	record_checked tap "$status" "$good" "$bad"
}

# Faults against a model, twice: a fixed selection, and one by chance, whose
# seed is printed. `make chaos` is the longer one.
suite_chaos() {
	local status=0 good bad
	local faults="applier ended in a burst,database in place of another,dumped and restored"
	faults+=",failover with confirmations held,log rewritten,log truncated,more waits than there are cells,power lost"
	faults+=",session cancelled,snapshots of another log,submitter stopped while he commits"
	faults+=",taken over before COMMIT,truncated beside a newcomer"
	faults+=",fetching session ended,messages one by one,retention beside a group that is behind"
	heading chaos
	as_user mkdir "$work/chaos" "$work/chaos/fixed" "$work/chaos/random"
	make_consumer
	run_chaos fixed --seed=1 --rounds=16 "--only=$faults" || status=$?
	run_chaos random --rounds=3 ${SEED:+"--seed=$SEED"} || status=$?
	read -r good bad < <(tap_points "$work/chaos" '*.tap')
	record_checked chaos "$status" "$good" "$bad"
}
run_chaos() {
	local name=$1
	shift
	logged "$work/chaos/$name.tap" as_user env -C "$work/chaos" timeout -k 30 "$SUITE_TIMEOUT" \
		perl "$work/tree/test/chaos/chaos.pl" "--dir=$work/chaos/$name" "--bin=$bin" "--library=$library" --txns=500 --burst=10000 "$@"
}

# The points in the files of DIRECTORY that fit PATTERN. A file at a time, since
# each has its own plan.
tap_points() {
	local file good=0 bad=0 counts
	while IFS= read -r file; do
		counts=$(count_tap <"$file")
		good=$((good + ${counts% *}))
		bad=$((bad + ${counts#* }))
	done < <(find "$1" -type f -name "$2")
	echo "$good $bad"
}

# Of the files with a failure: what the test said, and its servers.
show_tap_logs() {
	local name log
	{ grep -E '^t/.*\(Wstat: [^)]*\)' "$work/tap.log" || true; } | sed 's,^t/\([^ ]*\)\.pl .*,\1,' | sort -u |
		while IFS= read -r name; do
			for log in "$work/tree/tmp_check/log/regress_log_$name" "$work/tree/tmp_check/log/${name}_"*.log; do
				show_tail "$log" 80
			done
		done
}

# The benchmark in its smallest size: its clients check every key they get, and
# the report that every figure is there. How large they are is no matter here.
suite_bench() {
	local section good=0 bad=0
	heading bench
	BENCH_SIZE=tiny
	BENCH_REPEAT=1
	if ! bench_build; then
		record bench 0 1
		return
	fi
	cluster_init bench < <(bench_settings tiny)
	cluster_start bench
	cluster_use bench
	as_user mkdir "$work/bench-results"
	bench_machine | as_user tee "$work/bench-results/figures.tsv" >/dev/null
	for section in $bench_sections; do
		if guarded bench_section bench "$section" >>"$work/bench-results/figures.tsv"; then
			good=$((good + 1))
		else
			echo "not ok: $section"
			bad=$((bad + 1))
		fi
	done
	unset PGHOST PGPORT PGUSER
	cluster_stop bench || bad=$((bad + 1))
	if as_user perl "$work/tree/bench/report.pl" "$work/bench-results" >/dev/null; then
		good=$((good + 1))
	else
		bad=$((bad + 1))
	fi
	if crashes_in "$work/bench/log"; then bad=$((bad + 1)); fi
	if [ "$bad" -gt 0 ]; then show_tail "$work/bench/log"; fi
	record bench "$good" "$bad"
}

main() {
	local suite
	trap finish EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	[ -n "${NO_DEPS:-}" ] || bash "$here/deps.sh"
	find_server
	make_work
	copy_sources
	build
	for suite in $SUITES; do
		case $suite in
			compile | unit | fuzz | regress | isolation | tap | chaos | bench) "suite_$suite" ;;
			*) die "no such suite: $suite" ;;
		esac
	done
	finished=1
}

main
