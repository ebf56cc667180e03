# shellcheck shell=bash disable=SC2154
# released.sh
#     The version before this one, from git's history, for tests of updates. To be sourced
#     after lib.sh, and used after find_server and make_work.

version_at() { git -C "$top" show "$1:sequencer.control" 2>/dev/null | sed -n "s/^default_version = '\(.*\)'.*/\1/p"; }

# The commit of the version before this one: its last tag, or what this version began from.
released_commit() {
	local commit current before tag
	current=$(sed -n "s/^default_version = '\(.*\)'.*/\1/p" "$top/sequencer.control")
	while read -r commit; do
		before=$(version_at "$commit^")
		[ -n "$before" ] || return
		[ "$before" != "$current" ] || continue
		tag=$(git -C "$top" tag -l "v$before" "v$before.*" | sort -V | tail -n 1)
		git -C "$top" rev-parse "${tag:-$commit^}^{commit}"
		return
	done < <(git -C "$top" log --format=%H -- sequencer.control 2>/dev/null)
	return 1
}

# Builds it in $work/released, and tells the tests. False if there is no history here, or
# it does not compile for this server.
make_released() {
	local commit
	commit=$(released_commit) || { echo "git's history is not here: no released version to update from"; return 1; }
	as_user mkdir "$work/released"
	git -C "$top" archive "$commit" | as_user tar -C "$work/released" -xf -
	heading "build: version $(version_at "$commit"), as of ${commit:0:10}"
	guarded as_user env -C "$work/released" make -s -j "$jobs" "PG_CONFIG=$pg_config" with_llvm=no "CC=${CC:-gcc}" all ||
		return 1
	export CALVIN_SEQ_RELEASED=$work/released
}
