#!/bin/bash
#
# test-versions.sh
#     Runs all tests on several versions of PostgreSQL: `make test-versions`.
#
# Each version comes from the first Debian release that has it, in a tree of
# its own outside the clone, from the mirror that this machine's apt uses; one
# that only experimental has, from there, in a tree of sid. There the tests run
# as `make test` does. The last line is "N passed, M failed"; the status is not
# zero unless M is. No release has 16, which is thus untested unless a server
# of it is named.
#
#   VERSIONS="17 18"     which ones; those asked for by name must be to be had
#   UPGRADES="15-18 18-19"    from and to which version t/179_upgraded_server.pl upgrades
#   PG_CONFIG_16=PATH    take a server of this machine for that version
#   CACHE=DIR            keep the trees there, for a quick next run; otherwise
#                        they are temporary
#   RELEASES="trixie"    Debian releases to look in, oldest first, experimental last
#   SUITES=, REGRESS=, ISOLATION=, PROVE_TESTS=, SUITE_TIMEOUT=    as test.sh has them
#
# It needs root, for chroot. All mounts are made in a mount namespace that
# ends with the process in it, so that none can be left behind.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
# shellcheck source=scripts/mirror.sh
. "$here/mirror.sh"
# shellcheck source=scripts/report.sh
. "$here/report.sh"
# shellcheck source=scripts/trees.sh
. "$here/trees.sh"

RELEASES=${RELEASES:-bookworm trixie forky sid experimental}
asked=${VERSIONS:-}
VERSIONS=${VERSIONS:-15 17 18 19}
# Not from 17: its last minor releases have what 18's in Debian do not know yet
# (docs/upgrading.md).
UPGRADES=${UPGRADES-15-18 18-19}

finish() {
	local status=$?
	trap - EXIT
	trap '' HUP INT TERM
	stop_child
	if [ -n "$scratch" ]; then rm -rf "$scratch"; fi
	report_and_exit "$status" version
}

# The first release that has the version, from one look at the lists of all.
release_of() {
	local release found
	if [ ! -d "$scratch/apt" ]; then
		for release in $RELEASES; do
			echo "deb [$mirror_options] $mirror $release main"
		done | private_apt "$scratch/apt"
		# A release that the mirror no longer has spoils nothing for the others.
		private_apt_get "$scratch/apt" -q update >"$scratch/apt.log" 2>&1 || cat "$scratch/apt.log" >&2
	fi
	found=$(private_apt_cache "$scratch/apt" madison "postgresql-server-dev-$1")
	for release in $RELEASES; do
		if [[ $found == *" $release/main "*Packages* ]]; then
			echo "$release"
			return 0
		fi
	done
	return 1
}

# A base system with make and the server's headers, and then what deps.sh
# finds missing: a release's own names of packages are put to the test too.
make_tree() {
	local tree=$1 release=$2 version=$3 base=$2 script='' packages=("postgresql-server-dev-$3")
	if [ "$release" = experimental ]; then
		# It completes sid, and apt takes from it only what it is asked for by name.
		base=sid
		packages=("postgresql-"{"$version","client-$version","server-dev-$version"}/experimental
			libpq5/experimental libpq-dev/experimental)
	fi
	if [ ! -e "$tree/.ready" ]; then
		rm -rf "$tree"
		mkdir -p "$tree"
		# A release newer than debootstrap is set up like the newest it knows.
		[ -e "/usr/share/debootstrap/scripts/$base" ] || script=sid
		boxed debootstrap --variant=minbase ${mirror_keyring:+"--keyring=$mirror_keyring"} \
			"$base" "$tree" "$mirror" ${script:+"$script"} || return 1
		if [ "$release" != "$base" ]; then
			echo "deb [$mirror_options] $mirror $release main" >"$tree/etc/apt/sources.list.d/$release.list"
		fi
		apt-config dump | grep -E '^Acquire::(http|https|Check-|Retries)' \
			>"$tree/etc/apt/apt.conf.d/90calvin_seq" || true
		mkdir -p "$tree/etc/postgresql-common"
		echo 'create_main_cluster = false' >"$tree/etc/postgresql-common/createcluster.conf"
		printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
		chmod +x "$tree/usr/sbin/policy-rc.d"
	fi
	cp -L /etc/resolv.conf /etc/hosts "$tree/etc/"
	rm -rf "$tree/tmp"/* "$tree/srv/calvin_seq"
	mkdir "$tree/srv/calvin_seq"
	tar -C "$top" --exclude-vcs -cf - . | tar -C "$tree/srv/calvin_seq" --no-same-owner -xf - || return 1
	if [ ! -e "$tree/.ready" ]; then
		enter "$tree" sh -c 'apt-get -q update && apt-get -qy --no-install-recommends install "$@" && apt-get clean' \
			sh make "${packages[@]}" || return 1
	fi
	enter "$tree" bash /srv/calvin_seq/scripts/deps.sh || return 1
	touch "$tree/.ready"
}

# The older version that this one is upgraded from.
upgraded_from() {
	local pair
	for pair in $UPGRADES; do
		if [ "${pair#*-}" = "$1" ]; then echo "${pair%-*}"; fi
	done
}

# add_old_server TREE VERSION: the server from the first release that has it, that is of
# the release's own packages and not of what came as security updates. Its headers are
# unpacked only: the compiler that their package wants is that of its release.
add_old_server() {
	local tree=$1 version=$2 release
	[ ! -e "$tree/.old-$version" ] || return 0
	release=$(release_of "$version") || return 1
	echo "deb [$mirror_options] $mirror $release main" >"$tree/etc/apt/sources.list.d/$release.list"
	# shellcheck disable=SC2016
	enter "$tree" sh -ec '
		apt-get -q update
		apt-get -qy --no-install-recommends install "postgresql-$1/$2" "postgresql-client-$1/$2"
		cd "$(mktemp -d)"
		apt-get -q download "postgresql-server-dev-$1/$2"
		dpkg -x "postgresql-server-dev-$1"_*.deb /
		apt-get clean' sh "$version" "$release" || return 1
	touch "$tree/.old-$version"
}

# What test.sh is told, as assignments.
test_settings() {
	local name
	for name in SUITES REGRESS ISOLATION PROVE_TESTS SUITE_TIMEOUT PG_TEST_TIMEOUT_DEFAULT; do
		if [ -n "${!name:-}" ]; then printf '%s\0' "$name=${!name}"; fi
	done
}

test_version() {
	local version=$1 release tree status=0 begun=$SECONDS log="$scratch/$1.log" own="PG_CONFIG_$1" settings old
	mapfile -d '' -t settings < <(test_settings)
	if [ -n "${!own:-}" ]; then
		heading "PostgreSQL $version: ${!own}"
		logged "$log" env "PG_CONFIG=${!own}" "${settings[@]}" NO_DEPS=1 KEEP= bash "$here/test.sh" || status=$?
		record_run "$version" given "$status" "$log" "$begun"
		return
	fi
	tree=$(compgen -G "$cache/tree-$version-*/.ready" | head -n 1) || true
	if [ -n "$tree" ]; then
		tree=${tree%/.ready}
		release=${tree##*-}
	elif release=$(release_of "$version"); then
		tree=$cache/tree-$version-$release
	else
		note "no release of $RELEASES has PostgreSQL $version; PG_CONFIG_$version= can name a server"
		# Only what was asked for by name has to be there.
		record "$version" "not run" 0 "$([ -z "$asked" ]; echo $?)" 0
		return
	fi
	heading "PostgreSQL $version: the tree, $release"
	if ! quietly make_tree "$tree" "$release" "$version"; then
		note "the tree of PostgreSQL $version could not be made"
		: >"$log"
		record_run "$version" "$release" 1 "$log" "$begun"
		return
	fi
	old=$(upgraded_from "$version")
	if [ -n "$old" ]; then
		if ! quietly add_old_server "$tree" "$old"; then
			note "PostgreSQL $old, to upgrade from, could not be had"
			: >"$log"
			record_run "$version" "$release" 1 "$log" "$begun"
			return
		fi
		settings+=("PG_CONFIG=/usr/lib/postgresql/$version/bin/pg_config"
			"OLD_PG_CONFIG=/usr/lib/postgresql/$old/bin/pg_config")
	fi
	heading "PostgreSQL $version: the tests, in $release"
	# Not by the environment: to those of the Makefile's own names it would give their values.
	logged "$log" enter "$tree" env NO_DEPS=1 make -s -C /srv/calvin_seq test "${settings[@]}" || status=$?
	record_run "$version" "$release" "$status" "$log" "$begun"
	[ -n "${CACHE:-}" ] || rm -rf "$tree"
}

main() {
	local version own
	set -m
	trap finish EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	case $VERSIONS in *[!0-9\ ]*) die "VERSIONS are major versions, as in \"17 18\"" ;; esac
	for version in $VERSIONS; do
		own=PG_CONFIG_$version
		if [ -z "${!own:-}" ]; then
			need_tools
			find_mirror
			break
		fi
	done
	make_cache
	for version in $VERSIONS; do test_version "$version"; done
	finished=1
}

main
