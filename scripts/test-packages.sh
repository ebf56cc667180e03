#!/bin/bash
#
# test-packages.sh
#     Makes the packages, and tries them where nothing of the build is: `make test-packages`.
#
# For each release of Debian there is a bare tree (trees.sh), and copies of it:
#   build     make deb, which installs what debian/control says
#   deb       the package installed, and debian/tests run by autopkgtest
#   dist      what make dist has packed, by the client of PGXN
#   docker    the image of the Dockerfile, by buildah, from what stands for the official
#             one, and a server in it; where the release has what that installs
#
# The last line is "N passed, M failed".
#
#   RELEASES="bookworm trixie"    which ones
#   STEPS="build deb dist docker" which of these; all begin with build
#   REGRESS=, ISOLATION=, PROVE_TESTS=    which of the tests autopkgtest runs
#   DEB_BUILD_OPTIONS=nocheck     no tests while the packages are built

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

RELEASES=${RELEASES:-bookworm trixie}
STEPS=${STEPS:-build deb dist docker}

finish() {
	local status=$?
	trap - EXIT
	trap '' HUP INT TERM
	stop_child
	if [ -n "$scratch" ]; then rm -rf "$scratch"; fi
	report_and_exit "$status" step
}

# fresh NAME: a copy of the release's bare tree, with the sources. Sets tree.
fresh() {
	tree=$scratch/$1
	rm -rf "$tree"
	cp -a "$scratch/bare" "$tree"
	mkdir "$tree/srv/calvin_seq"
	tar -C "$top" --exclude-vcs --exclude=./dist -cf - . | tar -C "$tree/srv/calvin_seq" --no-same-owner -xf -
}

step_build() {
	fresh build
	enter "$tree" env ${DEB_BUILD_OPTIONS:+"DEB_BUILD_OPTIONS=$DEB_BUILD_OPTIONS"} make -s -C /srv/calvin_seq deb || return 1
	cp "$tree"/srv/calvin_seq/dist/*.deb "$scratch/debs"
	rm -f "$scratch/debs"/*-dbgsym_*
}

step_deb() {
	local name settings=()
	for name in REGRESS ISOLATION PROVE_TESTS; do
		if [ -n "${!name:-}" ]; then settings+=("--env=$name=${!name}"); fi
	done
	fresh deb
	cp "$scratch/debs"/*.deb "$tree/srv/"
	# as pg_buildext updatecontrol has it where the package was built
	sed "s/PGVERSION/$version/g" "$top/debian/control.in" >"$tree/srv/calvin_seq/debian/control"
	enter "$tree" apt-get -qy install --no-install-recommends autopkgtest || return 1
	# shellcheck disable=SC2016
	enter "$tree" sh -c 'exec autopkgtest "$@" /srv/calvin_seq /srv/*.deb -- null' sh "${settings[@]}"
}

step_dist() {
	fresh dist
	cp "$top"/dist/calvin_seq-*.zip "$tree/srv/"
	# shellcheck disable=SC2016
	enter "$tree" bash -ec '
		apt-get -qy install --no-install-recommends pgxnclient gcc libc6-dev pkg-config libpq-dev unzip postgresql-server-dev-$1 \
			$(apt-cache show libmsgpack-c-dev >/dev/null 2>&1 && echo libmsgpack-c-dev || echo libmsgpack-dev) postgresql-$1
		pgxn install --yes /srv/calvin_seq-*.zip
		ls -l "$(pg_config --pkglibdir)/calvin_seq.so" "$(pg_config --sharedir)/extension/calvin_seq.control"
		unzip -q /srv/calvin_seq-*.zip -d /home && cd /home/calvin_seq-* && chown -R nobody .
		setpriv --reuid=nobody --regid=nogroup --clear-groups make installcheck TEMP_INSTANCE=1 REGRESS="codec submit" ISOLATION= TAP_TESTS=' bash "$version"
}

# What stands for the official image: the same release and version of PostgreSQL, from
# Debian. Its image, and ours, are in the scratch directory.
step_docker() {
	local images=(buildah --storage-driver vfs --root "$scratch/images" --runroot "$scratch/images-run") container mounted
	command -v buildah >/dev/null || install_package buildah || return 1
	fresh docker
	mkdir -p "$tree/etc/postgresql-common"
	echo 'create_main_cluster = false' >"$tree/etc/postgresql-common/createcluster.conf"
	enter "$tree" apt-get -qy install --no-install-recommends "postgresql-$version" || return 1
	mv "$tree/srv/calvin_seq" "$scratch/context"

	container=$("${images[@]}" from scratch) || return 1
	mounted=$("${images[@]}" mount "$container") || return 1
	tar -C "$tree" --one-file-system --exclude=./dev -cf - . | tar -C "$mounted" -xpf - || return 1
	"${images[@]}" umount "$container" >/dev/null || return 1
	"${images[@]}" commit -q --rm "$container" "docker.io/library/postgres:$version-$release" || return 1
	rm -rf "$tree"

	"${images[@]}" build --isolation chroot --pull-never -t calvin_seq --build-arg "PG_MAJOR=$version" \
		--build-arg "DEBIAN_RELEASE=$release" "$scratch/context" || return 1
	container=$("${images[@]}" from --pull-never localhost/calvin_seq) || return 1
	# shellcheck disable=SC2016
	"${images[@]}" run --isolation chroot --user postgres "$container" -- bash -exc '
		PATH=/usr/lib/postgresql/$1/bin:$PATH
		cd /tmp
		initdb -D /tmp/data -A trust >/dev/null
		pg_ctl -D /tmp/data -l /tmp/log -o "-k /tmp" -w start
		psql -h /tmp -d postgres -v ON_ERROR_STOP=1 -Atc "CREATE EXTENSION calvin_seq" -c "SELECT seq_create_group(\$\$g\$\$)" \
			-c "SELECT seq_send(\$\$a\$\$, \$\$1\$\$) > 0" -c "SELECT payload FROM seq_fetch_json(\$\$g\$\$, 1, \$\$30 s\$\$)" | tee /tmp/out
		pg_ctl -D /tmp/data -m fast -w stop
		tail -n 1 /tmp/out | grep -x 1' bash "$version"
}

# What a step says of tests: pg_regress has two forms, prove another.
tests_in_log() {
	awk '/All [0-9]+ tests passed/ { sub(/.*All /, ""); n += $1 } /Tests=[0-9]+/ { sub(/.*Tests=/, ""); n += $1 + 0 }
		END { printf "%d\n", (n ? n : 1) }' "$1"
}

try_step() {
	local step=$1 release=$2 status=0 begun=$SECONDS log=$scratch/$2-$1.log
	heading "$release: $step"
	logged "$log" "step_$step" || status=$?
	rm -rf "${scratch:?}/$step" "$scratch"/images* "$scratch/context"
	if [ "$status" -eq 0 ]; then
		record "$step" "$release" "$(tests_in_log "$log")" 0 $((SECONDS - begun))
	else
		record "$step" "$release" 0 1 $((SECONDS - begun))
	fi
	return "$status"
}

main() {
	local release step
	set -m
	trap finish EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	need_tools
	find_mirror
	make_cache
	case $STEPS in *dist*) bash "$here/dist.sh" ;; esac
	for release in $RELEASES; do
		heading "$release: a bare tree"
		quietly bare_tree "$scratch/bare" "$release" || die "the tree of $release could not be made"
		rm -rf "$scratch/debs"
		mkdir "$scratch/debs"
		try_step build "$release" || continue
		version=$(basename "$scratch/debs"/*.deb | sed 's/^postgresql-\([0-9]*\)-.*/\1/')
		for step in $STEPS; do
			case $step in
				build) ;;
				docker)
					if enter "$scratch/bare" apt-cache show postgresql-common-dev >/dev/null 2>&1; then
						try_step docker "$release" || true
					else
						note "$release has no postgresql-common-dev: the Dockerfile needs the PostgreSQL project's there"
					fi
					;;
				deb | dist) try_step "$step" "$release" || true ;;
				*) die "no such step: $step" ;;
			esac
		done
	done
	finished=1
}

main
