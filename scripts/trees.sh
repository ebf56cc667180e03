# shellcheck shell=bash disable=SC2154
# trees.sh
#     Base systems of Debian outside the clone, to try things in. To be sourced after
#     lib.sh and mirror.sh, and used after find_mirror.
#
# They need root, for chroot. All mounts are made in a mount namespace that
# ends with the process in it, so that none can be left behind.

need_tools() {
	[ "$(id -u)" -eq 0 ] || die "the trees need root"
	command -v apt-get >/dev/null || die "the trees need apt-get, to know a mirror"
	command -v debootstrap >/dev/null || install_package debootstrap
	unshare --mount --pid --fork true 2>/dev/null ||
		die "mounts are not permitted here (unshare --mount fails), so there can be no trees"
}

# A command with mounts, processes and shared memory of its own, all of which
# end with it, or with us. Its first process stays a shell, which reaps.
boxed() {
	# shellcheck disable=SC2016
	unshare --mount --pid --ipc --fork --kill-child --mount-proc \
		bash -c '"$@"; exit $?' bash "$@"
}

# in_box TREE COMMAND...: inside of boxed, as root of the tree.
in_box() {
	local tree=$1
	shift
	mount --rbind /dev "$tree/dev"
	mount -t tmpfs -o mode=1777 tmpfs "$tree/dev/shm"
	mount -t proc proc "$tree/proc"
	env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
		LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive chroot "$tree" "$@"
}
export -f in_box

enter() { boxed bash -ec 'in_box "$@"' bash "$@"; }

# bare_tree TREE RELEASE: what debootstrap makes, with make, and services that do not start.
bare_tree() {
	local tree=$1 release=$2 script=
	rm -rf "$tree"
	mkdir -p "$tree"
	# A release newer than debootstrap is set up like the newest it knows.
	[ -e "/usr/share/debootstrap/scripts/$release" ] || script=sid
	boxed debootstrap --variant=minbase --include=make,ca-certificates ${mirror_keyring:+"--keyring=$mirror_keyring"} \
		"$release" "$tree" "$mirror" ${script:+"$script"} || return 1
	apt-config dump | grep -E '^Acquire::(http|https|Check-|Retries)' \
		>"$tree/etc/apt/apt.conf.d/90calvin_seq" || true
	printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
	chmod +x "$tree/usr/sbin/policy-rc.d"
	cp -L /etc/resolv.conf /etc/hosts "$tree/etc/"
	enter "$tree" apt-get -q update
}
