#!/bin/bash
#
# deb.sh
#     Debian packages for each version of PostgreSQL that is supported here, in dist/:
#     `make deb`.
#
#   DEB_BUILD_OPTIONS=nocheck    do not run the tests of SQL on them
#   NO_DEPS=1                    install no packages
#
# pg_buildext tells the versions: those in debian/pgversions that postgresql-common
# knows as supported. The packages are built in a copy; nothing is written to the clone
# but dist.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"

finish() {
	local status=$?
	trap - EXIT
	trap '' HUP INT TERM
	cleanup || true
	exit "$status"
}

main() {
	local target=$top/dist
	trap finish EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	[ -n "${NO_DEPS:-}" ] || DEPS=deb bash "$here/deps.sh"
	command -v pg_buildext >/dev/null || die "pg_buildext is missing: install postgresql-server-dev-all"
	make_work
	as_user mkdir "$work/tree"
	{ tar -C "$top" --exclude-vcs --exclude=./dist -cf - . || [ $? -eq 1 ]; } | as_user tar -C "$work/tree" -xf -
	guarded in_tree pg_buildext updatecontrol
	guarded in_tree ${DEB_BUILD_OPTIONS:+"DEB_BUILD_OPTIONS=$DEB_BUILD_OPTIONS"} dpkg-buildpackage -b -us -uc ||
		die "the packages could not be built"
	mkdir -p "$target"
	cp "$work"/*.deb "$work"/*.buildinfo "$work"/*.changes "$target"
	heading "in dist"
	(cd "$target" && ls -- *.deb)
}

main
