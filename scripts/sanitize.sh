#!/bin/bash
#
# sanitize.sh
#     Runs the tests where errors of memory and undefined behaviour show:
#     `make sanitize`.
#
# The last line is "N passed, M failed"; the status is not zero unless M is.
# Each report of a tool counts as a failure, whatever the tests say.
#
#   unit        the pure layers under the address, leak and undefined behaviour
#               sanitizers
#   assert      the extension in a server with assertions
#   library     the extension under the address and undefined behaviour
#               sanitizers, in that server, which is not
#   valgrind    both under valgrind, which that server tells of its own
#               allocator: a selection, since it is twenty times slower
#
# The server is built outside the clone, from Debian's source of the installed
# major version.
#
#   PARTS="unit assert library valgrind"    which of them
#   CACHE=DIR          keep the server there, for a quick next run; otherwise it
#                      is temporary
#   SOURCE=DIR         PostgreSQL's source, instead of Debian's
#   VALGRIND_REGRESS=, VALGRIND_ISOLATION=, VALGRIND_TAP=    that selection
#   SUITES=, REGRESS=, ISOLATION=, PROVE_TESTS=    of the parts with a server but
#                      valgrind, as test.sh has them
#   NO_DEPS=1          install no packages

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
# shellcheck source=scripts/mirror.sh
. "$here/mirror.sh"
# shellcheck source=scripts/report.sh
. "$here/report.sh"

PARTS=${PARTS:-unit assert library valgrind}
VALGRIND_REGRESS=${VALGRIND_REGRESS-append completion cursors cursors_conflict cursors_names cursors_rewind cursors_start log replay snapshot state subscribe truncate}
VALGRIND_ISOLATION=${VALGRIND_ISOLATION-stream-takeover takeover}
VALGRIND_TAP=${VALGRIND_TAP-t/070_snapshots.pl t/080_c_interface.pl}
# Everything is slower here; these bound only what hangs.
export PG_TEST_TIMEOUT_DEFAULT=${PG_TEST_TIMEOUT_DEFAULT:-900} PGCTLTIMEOUT=${PGCTLTIMEOUT:-600}
export SUITE_TIMEOUT=${SUITE_TIMEOUT:-7200}

finish() {
	local status=$?
	trap - EXIT
	trap '' HUP INT TERM
	stop_child
	cleanup || true
	if [ -n "$scratch" ]; then rm -rf "$scratch"; fi
	report_and_exit "$status" part
}

wants() { [[ " $PARTS " == *" $1 "* ]]; }

need_tools() {
	local lacking=()
	[ -n "${NO_DEPS:-}" ] || bash "$here/deps.sh"
	[ "$PARTS" != unit ] || return 0
	[ -n "${SOURCE:-}" ] || command -v dpkg-source >/dev/null || lacking+=(dpkg-dev)
	# The source of a server that tells valgrind of its allocator reads the header.
	[ -e /usr/include/valgrind/memcheck.h ] && command -v valgrind >/dev/null || lacking+=(valgrind)
	[ ${#lacking[@]} -eq 0 ] || [ -n "${NO_DEPS:-}" ] || install_package "${lacking[@]}"
}

part_unit() {
	local status=0 begun=$SECONDS log=$scratch/unit.log good
	heading "unit: the pure layers under the address, leak and undefined behaviour sanitizers"
	make_work
	as_user mkdir "$work/tree" "$work/unit"
	{ tar -C "$top" --exclude-vcs -cf - . || [ $? -eq 1 ]; } | as_user tar -C "$work/tree" -xf -
	logged "$log" as_user make -s -C "$work/tree/test/unit" check SANITIZE=1 \
		"BUILD=$work/unit" "CC=${CC:-gcc}" || status=$?
	cleanup
	# Of each program "NAME: ok, N tests", or the points that failed.
	good=$(sed -n 's/^[a-z_]*: ok, \([0-9]*\) tests$/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
	record unit gcc "$good" "$([ "$status" -eq 0 ] && [ "$good" -gt 0 ]; echo $?)" $((SECONDS - begun))
}

# The newest source that the mirror really has: of what a security update
# replaced, it may have the lists alone.
fetch_source() {
	local dir=$1 version
	find_mirror
	private_apt "$scratch/apt" < <(source_lines)
	private_apt_get "$scratch/apt" -q update || return 1
	while read -r version; do
		rm -rf "$dir"
		mkdir -p "$dir"
		if (cd "$dir" && private_apt_get "$scratch/apt" -q source "postgresql-$major=$version"); then
			return 0
		fi
	done < <(private_apt_cache "$scratch/apt" showsrc --only-source "postgresql-$major" |
		sed -n 's/^Version: //p' | sort -ruV)
	echo "the mirror has no source of postgresql-$major"
	return 1
}

# With only what the tests use.
#
# Debian's source has a fixed directory for libraries, that of the installed
# server, unless the prefix has "postgres" in it. What is built must not get
# there, so that is checked, and the user who installs could not write to it.
build_server() {
	local source=$1 build=$prefix.build
	rm -rf "$build" "$prefix"
	mkdir -p "$build" "$prefix"
	mkdir "$prefix/sanitize"
	cp -R "$top/test/sanitize/valgrind" "$prefix/sanitize/"
	if [ ${#drop[@]} -gt 0 ]; then chown "$owner" "$build" "$prefix"; fi
	# Below another make it would not make its headers first.
	# shellcheck disable=SC2016
	"${drop[@]}" env -C "$build" -u MAKELEVEL -u MAKEFLAGS -u MFLAGS HOME="$build" sh -c '
		prefix=$1
		shift
		"$@" --prefix="$prefix" --enable-cassert --enable-debug --enable-tap-tests \
			--without-icu --without-readline --without-zlib &&
		sed -i "s/ ecpg\$//; /ecpg/d" src/interfaces/Makefile &&
		make -s -j "$(nproc)" || exit
		libraries=$(printf "include src/Makefile.global\nshow:; @echo \$(pkglibdir)\n" | make -s -f - top_builddir=. show)
		case $libraries in
			"$prefix"/*) ;;
			*) echo "it would be installed into $libraries"; exit 1 ;;
		esac
		make -s install && make -s -C src/test/isolation install
		' sh "$prefix" "$source/configure" CC="${CC:-gcc}" \
		CFLAGS="-O1 -g -fno-omit-frame-pointer -DUSE_VALGRIND -isystem $prefix/sanitize" || return 1
	rm -rf "$build"
}

# Sets prefix to the server.
have_server() {
	local source
	prefix=$cache/postgresql-$major-assert
	if [ -e "$prefix/.ready" ]; then
		wrap_server
		return
	fi
	source=${SOURCE:-}
	if [ -z "$source" ]; then
		if ! compgen -G "$scratch/source/*/configure" >/dev/null; then
			heading "the source of PostgreSQL $major"
			quietly fetch_source "$scratch/source" || return 1
		fi
		source=$(dirname "$(compgen -G "$scratch/source/*/configure" | head -n 1)")
	fi
	heading "a server with assertions"
	quietly build_server "$source" || return 1
	cp "$source/src/tools/valgrind.supp" "$prefix/"
	wrap_server
	touch "$prefix/.ready"
}

# pg_ctl starts the server by a script, which runs it as the environment asks.
# It is pg_ctl that is replaced and not the server's program: by the name of
# that the server is started again, and everything else may use it directly. But
# pg_rewind starts one too, by itself.
wrap_server() {
	local program
	for program in pg_ctl pg_rewind; do
		[ -e "$prefix/bin/$program.real" ] || mv "$prefix/bin/$program" "$prefix/bin/$program.real"
	done
	cat >"$prefix/bin/pg_ctl" <<-'END'
		#!/bin/sh
		bin=$(cd "$(dirname "$0")" && pwd)
		exec "$bin/pg_ctl.real" "$@" -p "$bin/postgres.under"
	END
	cat >"$prefix/bin/postgres.under" <<-'END'
		#!/bin/sh
		real=${0%.under}
		if [ -n "$VALGRIND_REPORTS" ]; then
			exec valgrind --quiet --trace-children=yes --track-origins=no \
				--leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=none \
				--fullpath-after= --num-callers=30 --suppressions="$VALGRIND_SUPPRESSIONS" \
				--error-markers=VALGRINDERROR-BEGIN,VALGRINDERROR-END \
				--log-file="$VALGRIND_REPORTS/%p" "$real" "$@"
		elif [ -n "$SERVER_PRELOAD" ]; then
			LD_PRELOAD=$SERVER_PRELOAD exec "$real" "$@"
		else
			exec "$real" "$@"
		fi
	END
	cat >"$prefix/bin/pg_rewind" <<-'END'
		#!/bin/sh
		LD_PRELOAD=$SERVER_PRELOAD exec "$(dirname "$0")/pg_rewind.real" "$@"
	END
	chmod 755 "$prefix/bin/pg_ctl" "$prefix/bin/pg_rewind" "$prefix/bin/postgres.under"
}

# A directory where each process of the servers may leave its report.
make_reports() {
	reports=$scratch/reports-$1
	mkdir -m 1777 "$reports"
}

# run_tests PART SCRIPT SETTINGS...: the tests on $prefix. What the awk script
# prints of the reports is shown; it begins each that counts by "REPORT".
run_tests() {
	local part=$1 script=$2 begun=$SECONDS status=0 log=$scratch/$1.log found
	shift 2
	heading "$part: the tests"
	logged "$log" env PG_CONFIG="$prefix/bin/pg_config" NO_DEPS=1 "$@" bash "$here/test.sh" || status=$?
	record_run "$part" "$major" "$status" "$log" "$begun"
	find "$reports" -type f -size +0c -print0 | sort -z | xargs -0r awk "$script" >"$scratch/$part.found"
	found=$(grep -c '^REPORT' "$scratch/$part.found" || true)
	if [ "$found" -gt 0 ]; then
		heading "$part: $found reports"
		head -c 40000 "$scratch/$part.found"
	fi
	record "$part" reports 0 "$found" 0
}

# need_server PART: a build that failed counts as the part's failure.
need_server() {
	local begun=$SECONDS
	if ! have_server; then
		record "$1" build 0 1 $((SECONDS - begun))
		return 1
	fi
}

# Freed memory is overwritten here, and what is written behind a chunk is noticed.
part_assert() {
	need_server assert || return 0
	make_reports assert
	run_tests assert '{ print }' "SUITES=${SUITES:-regress isolation tap}"
}

# The server is not compiled for the sanitizers, so the first library of its
# processes must be the runtime. Leaks are not looked for, since it forgets memory
# at their end; and frames stay on the stack, by which it measures its depth.
part_library() {
	need_server library || return 0
	make_reports library
	# The runtime for undefined behaviour knows no log_path: what it says is in the
	# server's log, where test.sh looks for it.
	SERVER_PRELOAD=$("${CC:-gcc}" -print-file-name=libasan.so) \
		COPT=-fsanitize=address,undefined \
		UBSAN_OPTIONS=print_stacktrace=1 \
		ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:abort_on_error=1:log_path=$reports/report \
		run_tests library 'FNR == 1 { print "REPORT of " FILENAME } { print }' "SUITES=${SUITES:-regress isolation tap}"
}

# Every error counts; of the leaks those of what we asked for ourselves: the
# server forgets memory at the end of its processes, also of what it does for us.
# Who asked is the first that is no part of an allocator.
# shellcheck disable=SC2016
valgrind_reports='
	function flush() {
		if (record != "" && (!leak || ours))
			print "REPORT of " FILENAME "\n" record
		record = ""
		leak = ours = known = inside = 0
	}
	{ sub(/^==[0-9]+== ?/, "") }
	FNR == 1 { flush() }
	/^VALGRINDERROR-BEGIN/ { flush(); inside = 1; next }
	/^VALGRINDERROR-END/ { flush(); next }
	!inside { next }
	/ lost in loss record / { leak = 1 }
	/^ +(at|by) 0x/ && !known &&
	!/vgpreload_memcheck|\/valgrind\/memcheck.h|\/src\/common\/stringinfo|\/src\/backend\/(utils\/mmgr|utils\/hash|lib|nodes)\// {
		known = 1
		ours = /\/tree\/src\//
	}
	{ record = record $0 "\n" }
	END { flush() }'

part_valgrind() {
	local suites=
	need_server valgrind || return 0
	make_reports valgrind
	[ -z "$VALGRIND_REGRESS" ] || suites+=" regress"
	[ -z "$VALGRIND_ISOLATION" ] || suites+=" isolation"
	[ -z "$VALGRIND_TAP" ] || suites+=" tap"
	cat "$prefix/valgrind.supp" "$top/test/sanitize/valgrind.supp" >"$scratch/valgrind.supp"
	VALGRIND_REPORTS=$reports VALGRIND_SUPPRESSIONS=$scratch/valgrind.supp \
		run_tests valgrind "$valgrind_reports" "SUITES=$suites" "REGRESS=$VALGRIND_REGRESS" \
		"ISOLATION=$VALGRIND_ISOLATION" "PROVE_TESTS=$VALGRIND_TAP"
}

main() {
	local part
	set -m
	trap finish EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	need_tools
	find_server
	choose_user
	major=${server_version#PostgreSQL }
	major=${major%%[!0-9]*}
	make_cache
	for part in $PARTS; do
		case $part in
			unit | assert | library | valgrind) "part_$part" ;;
			*) die "no such part: $part" ;;
		esac
	done
	finished=1
}

main
