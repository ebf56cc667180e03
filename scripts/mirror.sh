# shellcheck shell=bash disable=SC2034
# mirror.sh
#     Debian's packages beyond those of this release, by the mirror that this
#     machine's apt uses already and without touching its configuration. To be
#     sourced after lib.sh.

# Sets mirror, mirror_keyring and mirror_options (for a line of sources).
find_mirror() {
	# shellcheck disable=SC2016
	mirror=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
		sed -n 's/^Debian|Debian|//p' | head -n 1)
	mirror=${mirror%/}
	[ -n "$mirror" ] || die "apt knows no mirror of Debian here (is apt-get update needed?)"
	mirror_keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	mirror_options=signed-by=$mirror_keyring
	[ -f "$mirror_keyring" ] || die "$mirror_keyring is missing: install debian-archive-keyring"
}

# private_apt DIRECTORY: an apt of its own, with the sources on stdin.
private_apt() {
	mkdir -p "$1/lists/partial" "$1/cache/archives/partial"
	cat >"$1/sources.list"
	cat >"$1/apt.conf" <<-END
		Dir::Etc::sourcelist "$1/sources.list";
		Dir::Etc::sourceparts "-";
		Dir::State::lists "$1/lists";
		Dir::Cache "$1/cache";
		APT::Sandbox::User "root";
		Acquire::Languages "none";
	END
}
private_apt_get() { local dir=$1; shift; APT_CONFIG=$dir/apt.conf apt-get "$@"; }
private_apt_cache() { local dir=$1; shift; APT_CONFIG=$dir/apt.conf apt-cache "$@"; }

# Installs a package of this release, as deps.sh does it.
install_package() {
	local log status=0
	log=$(mktemp)
	note "installing $*"
	{ apt-get -q update || true
	  DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
		install --no-install-recommends "$@"; } </dev/null >"$log" 2>&1 || status=$?
	[ "$status" -eq 0 ] || tail -n 40 "$log" >&2
	rm -f "$log"
	return "$status"
}

# Lines of sources for the source packages of what apt has lists of from Debian.
source_lines() {
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(ORIGIN)|$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		sed -n 's/^Debian|//p' | sort -u | sed "s|^|deb-src [$mirror_options] |"
}
