#!/bin/bash
#
# deps.sh
#     Installs what building and testing need, by apt-get and only what is missing: what
#     debian/control.in says. Nothing is started: the packages' own cluster is not created.
#
# DEPS=NAME adds what its field X-Depends-NAME has: fuzz, lint, plants and so on.
# DEPS=build, bench, clients, cluster and monitoring leave out what is marked <!nocheck>, which
# only the tests need. DEPS=deb is all that a package is built with.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
control=$top/debian/control.in
PG_CONFIG=${PG_CONFIG:-pg_config}

die() { printf 'error: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# The dependencies in a field of the source, one a line.
field() {
	awk -v "field=$1:" '
		/^$/ { exit }
		/^[^ ]/ { inside = tolower($1) == tolower(field); if (inside) $1 = "" }
		inside' "$control" | tr ',' '\n' | sed 's/^ *//; s/ *$//; /^$/d'
}

# Debian's client package has the makefiles, but not the headers.
have_build_files() {
	have "$PG_CONFIG" && [ -f "$("$PG_CONFIG" --pgxs 2>/dev/null)" ] &&
		[ -f "$("$PG_CONFIG" --includedir-server)/postgres.h" ]
}
have_server() {
	local bindir
	have "$PG_CONFIG" && bindir=$("$PG_CONFIG" --bindir) && [ -x "$bindir/postgres" ] && [ -x "$bindir/initdb" ]
}
have_libpq() { have "$PG_CONFIG" && [ -f "$("$PG_CONFIG" --includedir)/libpq-fe.h" ]; }

# The major version of an installed server or of its build files, so that the
# other half fits it; else the one of this release.
server_major() {
	if have_build_files; then
		"$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/'
		return
	fi
	local newest
	newest=$(compgen -G '/usr/lib/postgresql/*/bin/postgres' | cut -d/ -f5 | sort -n | tail -n 1) || true
	[ -n "$newest" ] || newest=$(apt-cache depends postgresql 2>/dev/null |
		sed -n 's/^ *Depends: postgresql-\([0-9][0-9]*\)$/\1/p' | head -n 1)
	echo "$newest"
}

# What apt has to see to, as one line for it. PostgreSQL is that of one version, and may
# be here from elsewhere; debhelper is for packages alone.
wanted() {
	local major line
	if [ "${DEPS:-}" = deb ]; then
		{ echo build-essential; field Build-Depends; } | sed 's/ *<[^>]*>//' | paste -sd ,
		return
	fi
	major=$(server_major)
	[ -n "$major" ] || return
	{
		# The C library's headers are only recommended by the compiler.
		printf '%s\n' make gcc libc6-dev
		have_server || echo "postgresql-$major"
		field Build-Depends | case ${DEPS:-} in build | bench | clients | cluster | monitoring) grep -v '<!nocheck>' ;; *) cat ;; esac
		[ -z "${DEPS:-}" ] || field "X-Depends-$DEPS"
	} | while IFS= read -r line; do
		line=${line%% <*}
		case $line in
			debhelper-compat* | postgresql-all*) ;;
			libpq-dev) have_libpq || echo "$line" ;;
			postgresql-server-dev-all*) have_build_files || echo "postgresql-server-dev-$major" ;;
			*) echo "$line" ;;
		esac
	done | paste -sd ,
}

# The packages that are missing, as far as apt's lists tell; false if they do not.
missing() {
	local plan
	[ -n "$(wanted)" ] || return
	plan=$(apt-get -s -q --no-install-recommends satisfy "$(wanted)" 2>/dev/null) || return
	sed -n 's/^Inst \([^ ]*\).*/\1/p' <<<"$plan"
}

# Sets root, the way to run a command as root.
find_root() {
	root=()
	[ "$(id -u)" -eq 0 ] && return
	if have sudo; then
		if sudo -n true 2>/dev/null; then root=(sudo -n); return; fi
		# Asking for a password makes sense only where somebody can answer.
		if [ -t 0 ]; then root=(sudo); return; fi
	fi
	return 1
}

# What apt tells a program, for people: on a terminal a line that changes, elsewhere one
# for every tenth. All else goes to the log.
show_progress() {
	local line kind percent text tenth=-1
	while IFS= read -r line; do
		case $line in
			dlstatus:* | pmstatus:*)
				IFS=: read -r kind _ percent text <<<"$line"
				percent=${percent%%.*}
				case $kind in dlstatus) kind=download ;; pmstatus) kind=install ;; esac
				if [ -t 1 ]; then
					printf '\r\e[K%s %3d %%  %.60s' "$kind" "$percent" "$text"
				elif [ "$kind$((percent / 10))" != "$tenth" ]; then
					tenth=$kind$((percent / 10))
					printf '%s %3d %%  %s\n' "$kind" "$percent" "$text"
				fi
				;;
			*) printf '%s\n' "$line" >>"$1" ;;
		esac
	done
	if [ -t 1 ]; then printf '\r\e[K'; fi
}

apt_get() {
	# The log is shown when it is of use. The status goes with it: sudo closes other files.
	local log status=0
	log=$(mktemp)
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get -qy -o DPkg::Lock::Timeout=300 \
		-o Dpkg::Use-Pty=0 -o APT::Status-Fd=1 "$@" </dev/null 2>&1 | show_progress "$log" || status=$?
	[ "$status" -eq 0 ] || tail -n 40 "$log" >&2
	rm -f "$log"
	return "$status"
}

# The server's package would create and start a cluster, the pooler's, Patroni's and
# etcd's and the monitoring's would start them: a setting beside the administrator's, and a policy unless he has one, there
# only while the packages are installed, tell them not to.
policy=/usr/sbin/policy-rc.d
made_policy=
dropin_dir=/etc/postgresql-common/createcluster.d
dropin=$dropin_dir/calvin_seq-no-cluster.conf
forbid_cluster() {
	made=$(for d in /etc/postgresql-common "$dropin_dir"; do [ -d "$d" ] || echo "$d"; done)
	"${root[@]}" mkdir -p "$dropin_dir"
	echo 'create_main_cluster = false' | "${root[@]}" tee "$dropin" >/dev/null
	trap allow_cluster EXIT
	trap 'exit 1' HUP INT TERM
	[ ! -e "$policy" ] || return 0
	made_policy=1
	printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
	"${root[@]}" chmod 755 "$policy"
}
allow_cluster() {
	"${root[@]}" rm -f "$dropin"
	[ -z "$made_policy" ] || "${root[@]}" rm -f "$policy"
	# Only what was made here, and only when empty.
	if [ -n "$made" ]; then "${root[@]}" rmdir --ignore-fail-on-non-empty -p "$dropin_dir" 2>/dev/null || true; fi
}

main() {
	local packages
	if ! have apt-get; then
		echo "no apt-get here: what debian/control.in names has to be there by other means" >&2
		return 0
	fi
	if packages=$(missing) && [ -z "$packages" ]; then return 0; fi

	find_root || die "packages are missing, and installing them needs root or sudo (NO_DEPS=1 goes on without):" \
		"${packages:+${packages//$'\n'/ }}"
	echo "looking for what the build and its tests need"
	apt_get update || echo "apt-get update failed, going on with the lists there are" >&2
	packages=$(missing) || die "apt-get cannot install: $(wanted)"
	echo "installing $(wc -w <<<"$packages") packages: $(wanted)"
	forbid_cluster
	apt_get --no-install-recommends satisfy "$(wanted)" || die "apt-get could not install: $(wanted)"
	hash -r
}

main
