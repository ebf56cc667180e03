#!/bin/bash
#
# deps.sh
#     Installs what building and testing need, by apt-get and only what is
#     missing. Nothing is started: the packages' own cluster is not created.
#
# DEPS=build leaves out what only the tests and the benchmark need, DEPS=bench
# what only the tests need, DEPS=clients as well, but adds what `make clients` needs;
# DEPS=fuzz, DEPS=lint, DEPS=plants and DEPS=monitoring add what `make fuzz`, `make lint`,
# `make chaos-plants` and `make monitoring` need.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
PG_CONFIG=${PG_CONFIG:-pg_config}

die() { printf 'error: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Debian's client package has the makefiles, but not the headers.
have_build_files() {
	have "$PG_CONFIG" && [ -f "$("$PG_CONFIG" --pgxs 2>/dev/null)" ] &&
		[ -f "$("$PG_CONFIG" --includedir-server)/postgres.h" ]
}
have_server() {
	local bindir
	have "$PG_CONFIG" && bindir=$("$PG_CONFIG" --bindir) && [ -x "$bindir/postgres" ] && [ -x "$bindir/initdb" ]
}
have_msgpack() {
	have pkg-config && { pkg-config --exists msgpack-c || pkg-config --exists msgpack; } 2>/dev/null
}
have_libpq() { have "$PG_CONFIG" && [ -f "$("$PG_CONFIG" --includedir)/libpq-fe.h" ]; }
have_perl_tests() { have prove && perl -MIPC::Run -MTest::More -e 1 2>/dev/null; }
# Not to /dev/null: a linker that fails removes its output, and as root it can.
have_fuzzer() {
	local output status=0
	have "${CLANG:-clang}" || return
	output=$(mktemp)
	echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n ? 0 : 0; }' |
		"${CLANG:-clang}" -fsanitize=fuzzer,address -x c -o "$output" - 2>/dev/null || status=$?
	rm -f "$output"
	return "$status"
}
# Of the system's Python, to which Debian's packages belong.
have_python() { /usr/bin/python3 -c "import $1" 2>/dev/null; }
have_go_library() { [ -d "/usr/share/gocode/src/github.com/$1" ]; }
have_pgbouncer() { have pgbouncer || [ -x /usr/sbin/pgbouncer ]; }
have_coverage() { have "${CLANG:-clang}" && have "$("${CLANG:-clang}" -print-prog-name=llvm-cov)"; }
has_package() { apt-cache show "$1" >/dev/null 2>&1; }

# What is missing, in words that a reader without apt understands too.
missing() {
	have make || echo make
	have "${CC:-gcc}" || echo gcc
	have pkg-config || echo pkg-config
	have_build_files || echo server-headers
	have_server || echo server
	have_msgpack || echo msgpack-c
	case ${DEPS:-} in build | bench | clients | monitoring) ;; *) have_perl_tests || echo perl-tests ;; esac
	have_libpq || echo libpq
	[ "${DEPS:-}" = build ] || have perl || echo perl
	have gzip || echo gzip
	case ${DEPS:-} in
		fuzz)
			have_fuzzer || echo fuzzer
			have_coverage || echo llvm-cov
			;;
		lint)
			have clang-tidy || echo clang-tidy
			have clang-format || echo clang-format
			have cppcheck || echo cppcheck
			have shellcheck || echo shellcheck
			;;
		clients)
			have_python psycopg || echo python3-psycopg
			have_python msgpack || echo python3-msgpack
			have node || echo nodejs
			have npm || echo npm
			have go || echo golang-go
			have_go_library lib/pq || echo golang-github-lib-pq-dev
			have_go_library vmihailenco/msgpack/v5 || echo golang-github-vmihailenco-msgpack.v5-dev
			have_pgbouncer || echo pgbouncer
			;;
		plants)
			have patch || echo patch
			;;
		monitoring)
			have prometheus && have promtool || echo prometheus
			have prometheus-sql-exporter || echo prometheus-sql-exporter
			have prometheus-postgres-exporter || echo prometheus-postgres-exporter
			;;
	esac
	have xz || ! compgen -G "$top/test/vectors/*.xz" >/dev/null || echo xz
}

# The major version of an installed server or of its build files, so that the
# other half fits it; else the one of this release.
server_major() {
	if have_build_files; then
		"$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/'
		return
	fi
	local newest
	newest=$(compgen -G '/usr/lib/postgresql/*/bin/postgres' | cut -d/ -f5 | sort -n | tail -n 1) || true
	[ -n "$newest" ] || newest=$(apt-cache depends postgresql |
		sed -n 's/^ *Depends: postgresql-\([0-9][0-9]*\)$/\1/p' | head -n 1)
	[ -n "$newest" ] || die "this release's packages have no PostgreSQL server"
	echo "$newest"
}

# The package without a version in its name is newer than some releases.
sanitizer_package() {
	if has_package libclang-rt-dev; then
		echo libclang-rt-dev
	else
		apt-cache depends clang | sed -n 's/^ *Depends: clang-\([0-9][0-9]*\)$/libclang-rt-\1-dev/p' | head -n 1
	fi
}

packages_for() {
	local what
	for what in "$@"; do
		case $what in
			# The C library's headers are only recommended by the compiler.
			gcc) echo gcc libc6-dev ;;
			server) echo "postgresql-$(server_major)" ;;
			server-headers) echo "postgresql-server-dev-$(server_major)" ;;
			msgpack-c) if has_package libmsgpack-c-dev; then echo libmsgpack-c-dev; else echo libmsgpack-dev; fi ;;
			libpq) echo libpq-dev ;;
			perl-tests) echo perl libipc-run-perl ;;
			xz) echo xz-utils ;;
			# clang only recommends what -fsanitize= links.
			fuzzer) echo clang "$(sanitizer_package)" ;;
			llvm-cov) echo llvm ;;
			*) echo "$what" ;;
		esac
	done
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

apt_get() {
	# The log is shown when it is of use.
	local log status=0
	log=$(mktemp)
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get -y -o DPkg::Lock::Timeout=300 \
		-o Dpkg::Use-Pty=0 "$@" </dev/null >"$log" 2>&1 || status=$?
	[ "$status" -eq 0 ] || tail -n 40 "$log" >&2
	rm -f "$log"
	return "$status"
}

# The server's package would create and start a cluster, the pooler's and the monitoring's
# would start themselves: a setting beside the administrator's, and a policy unless he has one, there
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
	local lacking packages
	lacking=$(missing | paste -sd " ")
	[ -n "$lacking" ] || return 0

	have apt-get || die "missing, and there is no apt-get to install it: $lacking"
	find_root || die "missing: $lacking; installing it needs root or sudo"

	echo "installing for the build and its tests: $lacking"
	apt_get update || echo "apt-get update failed, going on with the lists there are" >&2
	# shellcheck disable=SC2086
	packages=$(packages_for $lacking | paste -sd " ")
	forbid_cluster
	# shellcheck disable=SC2086
	apt_get install --no-install-recommends $packages || die "apt-get could not install: $packages"

	hash -r
	lacking=$(missing | paste -sd " ")
	[ -z "$lacking" ] || die "still missing after installing $packages: $lacking"
}

main
