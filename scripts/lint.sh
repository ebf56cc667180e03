#!/bin/bash
#
# lint.sh
#     What compilers do not complain about: `make lint`.
#
#   CHECKS="layers headers meta format tidy cppcheck shell perl"    which checks to run
#   NO_DEPS=1        install no packages
#
# Every file is checked in the clone itself, and nothing is written to it.
# .clang-format and .clang-tidy are for the versions of Debian 12; others may
# see things differently.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"

CHECKS=${CHECKS:-layers headers meta format tidy cppcheck shell perl}
bad=()
temporary=

sources() { compgen -G 'src/*.c' || true; compgen -G 'src/*/*.c'; }
pure_sources() { compgen -G 'src/wire/*.c'; compgen -G 'src/machine/*.c'; compgen -G 'test/unit/*.c'; compgen -G 'test/fuzz/*.c'; }
formatted() { compgen -G 'src/*.[ch]'; compgen -G 'src/*/*.[ch]'; compgen -G 'test/*/*.[ch]'; }

check_layers() { perl scripts/layers-check.pl; }

check_meta() { perl scripts/meta-check.pl; }

check_headers() {
	make -s "PG_CONFIG=$pg_config" with_llvm=no COPT=-Werror headerscheck
}

check_format() { formatted | TMPDIR=$temporary xargs perl scripts/format-check.pl; }

# Each layer with the flags of its build. clang-tidy counts what it suppressed
# on stderr, for each file.
tidy() {
	# shellcheck disable=SC2016
	xargs -P "$jobs" -n 2 sh -c 'flags=$1; shift; exec clang-tidy --quiet "$@" -- -std=gnu11 -Wall -Wextra $flags' sh "$1" \
		2>"$temporary/tidy.err" || { grep -E 'error|Error' "$temporary/tidy.err"; return 1; }
}
check_tidy() {
	local status=0
	sources | grep -v -e ^src/wire/ -e ^src/machine/ |
		tidy "-D_GNU_SOURCE -DCALVIN_SEQ_VERSION=0 -Wno-unused-parameter -Isrc -isystem $("$pg_config" --includedir-server) -isystem $("$pg_config" --includedir)" || status=1
	pure_sources | tidy "-Isrc -Itest/unit -Itest/fuzz -DCHECK=codec_check -DENTRIES" || status=1
	return "$status"
}

# Without the server's headers, hence without what depends on their macros.
check_cppcheck() {
	cppcheck -q -j "$jobs" --error-exitcode=1 --inline-suppr --std=c11 \
		--enable=warning,style,performance,portability --suppress=missingIncludeSystem \
		-Isrc -Itest/unit -Itest/fuzz src test
}

check_shell() {
	shellcheck -x scripts/*.sh .ci/* debian/tests/installcheck debian/tests/server-options
}

# What t/*.pl use of PostgreSQL's own modules is found where PGXS has it.
check_perl() {
	local file status=0 modules
	modules=$(dirname "$("$pg_config" --pgxs)")/../test/perl
	for file in scripts/*.pl test/*/*.pl t/*.pl t/lib/*.pm; do
		perl -Mwarnings=FATAL,all -I t/lib -I "$modules" -c "$file" >"$temporary/perl" 2>&1 ||
			{ cat "$temporary/perl"; status=1; }
	done
	return "$status"
}

main() {
	local check
	[ -n "${NO_DEPS:-}" ] || DEPS=lint bash "$here/deps.sh"
	find_server
	cd "$top"
	temporary=$(mktemp -d /tmp/calvin_seq.XXXXXX)
	trap 'rm -rf "$temporary"' EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	for check in $CHECKS; do
		declare -F "check_$check" >/dev/null || die "no such check: $check"
		if "check_$check"; then
			echo "$check: clean"
		else
			echo "$check: FAILED"
			bad+=("$check")
		fi
	done
	[ ${#bad[@]} -eq 0 ] || die "not clean: ${bad[*]}"
}

main
