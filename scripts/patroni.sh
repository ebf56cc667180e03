#!/bin/bash
#
# patroni.sh
#     A cluster with Patroni and etcd of three members, and two followers, each
#     on a host of its own, through faults: `make cluster`; a part of them, for
#     CI: `make cluster-short`. It tells what happens and checks what was done.
#
# The hosts are network namespaces, which needs root, or sudo. All of it is in
# namespaces of its own, for processes and mounts too, which end with it: nothing
# is left, whatever stops the run. Where that cannot be, the short form runs on
# addresses of the loopback network, without what needs a network of its own, and
# says so; the whole one fails.
#
# The last line is "N passed, M failed"; the status is not zero unless M is.
#
#   CLUSTER=short        the short form: switchover, leader killed, leader cut off,
#                        follower cut off
#   TTL=30               of Patroni's leader key, in s (short: 20)
#   STRICT=1             0: without synchronous_mode_strict
#   PAUSE_MS=100         of each of the 16 connections between submissions
#   BROKEN=effects       a consumer that must be found out: the run has to fail
#   BROKEN=acknowledged  the same of submitters who record what they have rolled back
#   PLACE=loopback       no namespaces, though they could be had
#   KEEP=1               keep the work directory when something failed
#   NO_DEPS=1            install no packages

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"

CLUSTER=${CLUSTER:-full}
finished=
passed=0
failed=0

# What namespaces need is not known before it is tried.
have_namespaces() {
	# shellcheck disable=SC2016
	[ "$(id -u)" -eq 0 ] && unshare --net --mount --pid --ipc --fork --mount-proc sh -c '
		mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && ip netns add one &&
		ip link add to-one type veth peer name eth0 netns one && ip link add bridge type bridge &&
		nsenter --net=/run/netns/one true' >/dev/null 2>&1
}

as_root() {
	local name keep=()
	[ "$(id -u)" -ne 0 ] || return 0
	[ "${PLACE:-}" != loopback ] || return 0
	command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [ -t 0 ]; } || return 0
	for name in PG_CONFIG CLUSTER TTL STRICT PAUSE_MS BROKEN KEEP NO_DEPS CC COPT; do
		if [ -n "${!name-}" ]; then keep+=("$name=${!name}"); fi
	done
	exec sudo env "PATH=$PATH" "${keep[@]}" bash "$here/patroni.sh"
}

choose_place() {
	if [ "${PLACE:-namespaces}" = namespaces ]; then
		if have_namespaces; then
			place=namespaces
			return
		fi
		[ "$CLUSTER" = short ] || die "this needs network namespaces, for which one has to be root, or to have sudo, outside of a container without privileges; CLUSTER=short does without them what it can"
		echo "no network namespaces here: NOT run are leader cut off and follower cut off"
	fi
	place=loopback
}

finish() {
	local status=$? log
	trap - EXIT
	trap '' HUP INT TERM
	if [ -n "$work" ] && [ -s "$work/summary" ]; then read -r passed failed <"$work/summary"; fi
	if [ -z "$finished" ]; then
		failed=$((failed + 1))
		echo "not ok - stopped before its end (status $status)"
	fi
	if [ "$failed" -gt 0 ] && [ -n "$work" ]; then
		for log in "$work"/*/*.log; do
			[ -s "$log" ] || continue
			printf '\n-- the end of %s\n' "${log#"$work"/}"
			tail -n 8 "$log"
		done
		if [ -n "${KEEP:-}" ]; then keep_work=1; fi
	fi
	if [ -n "$child" ]; then
		# TERM is not for it; with it goes all that it has begun
		kill -s KILL "$child" 2>/dev/null || true
		child=
	fi
	cleanup || true
	heading "cluster, after $(elapsed)"
	echo "$passed passed, $failed failed"
	[ "$failed" -eq 0 ] || exit 1
	exit 0
}

main() {
	local wrap=() ids=() status=0
	as_root
	trap finish EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	[ -n "${NO_DEPS:-}" ] || DEPS=cluster bash "$here/deps.sh"
	PATH=$PATH:/usr/sbin:/sbin
	find_server
	choose_place
	make_work
	heading "building for $server_version"
	copy_sources
	guarded pgxs_make -s -j "$jobs" all || die "the build failed"
	make_private_server
	heading "a cluster with Patroni, after $(elapsed)"
	if [ ${#drop[@]} -gt 0 ]; then
		ids=("${owner%:*}" "${owner#*:}")
	fi
	if [ "$place" = namespaces ]; then
		# a shell is its first process, since that one has to wait for those whose parents are gone
		# shellcheck disable=SC2016
		wrap=(unshare --net --mount --pid --ipc --fork --mount-proc --kill-child -- bash -c '"$@" & wait -f $!' init)
	fi
	cp -r "$top/test/cluster" "$work/story"
	chmod -R a+rX "$work/story"
	guarded env -C "$work" PYTHONDONTWRITEBYTECODE=1 "${wrap[@]}" /usr/bin/python3 "$work/story/story.py" "$work" "$bin" \
		"$CLUSTER" "$place" "${ids[@]}" || status=$?
	[ -s "$work/summary" ] || die "the story ended with status $status"
	finished=1
}

main
