#!/bin/bash
#
# monitoring.sh
#     What operators load from monitoring/, with the real Prometheus, sql_exporter and
#     postgres_exporter: `make monitoring`.
#
# promtool checks the rules and runs their unit tests; the queries run as a role that
# is in pg_monitor alone; then exporters and Prometheus watch two throw-away servers, where
# what each alert rule is for is brought about, and each panel of the dashboard is asked.
#
# The last line is "N passed, M failed"; the status is not zero unless M is.
#
#   STATIC=1         only what needs no server
#   KEEP=1           keep the work directory when something failed
#   NO_DEPS=1        install no packages

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
# shellcheck source=scripts/cluster.sh
. "$here/cluster.sh"
# shellcheck source=scripts/points.sh
. "$here/points.sh"

show_logs() { show_ends "$work"/watching/*.log "$work"/source/log "$work"/follower/log; }

finish() {
	local status=$?
	trap - EXIT
	trap '' HUP INT TERM
	points_finish monitoring "$status" show_logs
}

# quietly COMMAND...: what it says is only of interest if it fails.
quietly() {
	local said
	said=$("$@" </dev/null 2>&1) || { printf '%s\n' "$said"; return 1; }
}

check_files() {
	heading "what promtool says"
	point "the configuration" quietly promtool check config "$top/monitoring/prometheus.yml"
	point "the alert rules" quietly promtool check rules "$top/monitoring/alerts.yml"
	point "the rules' unit tests" quietly promtool test rules "$top/test/monitoring/alerts_test.yml"
	point "each rule has a unit test, and is documented" each_rule
	point "the exporters' queries are the same" quietly env -C "$top" perl scripts/monitoring-queries.pl --check
	point "the metrics of rules and dashboard are there" known_metrics
}

each_rule() {
	local rule bad=0
	while IFS= read -r rule; do
		for file in test/monitoring/alerts_test.yml docs/monitoring.md; do
			grep -qw "$rule" "$top/$file" || { echo "$rule is not in $file"; bad=1; }
		done
	done < <(sed -n 's/^ *- alert: //p' "$top/monitoring/alerts.yml")
	return "$bad"
}

# Names of metrics in files, but those of exporters themselves.
known_metrics() {
	local name bad=0 known
	known=$(awk '/^calvin_seq_[a-z_]*:$/ { sub(/:$/, ""); query = $0 }
		/^    - [a-z_0-9]*:$/ { sub(/^    - /, ""); sub(/:$/, ""); print query "_" $0 }' "$top/monitoring/postgres_exporter.yaml")
	while IFS= read -r name; do
		grep -qx "$name" <<<"$known" || { echo "nothing makes $name"; bad=1; }
	done < <(grep -ohE '\bcalvin_seq_[a-z_0-9]+' "$top/monitoring/alerts.yml" "$top/monitoring/dashboard.json" |
		grep -v '_\.\*$' | sort -u | grep -vx 'calvin_seq_')
	return "$bad"
}

watch_servers() {
	local line
	heading "building for $server_version"
	copy_sources
	guarded pgxs_make -s -j "$jobs" all || die "the build failed"
	make_private_server
	for name in source follower; do
		cluster_init "$name" <<-'EOF'
			wal_level = logical
			calvin_seq.follower_timeout = 3s
			calvin_seq.max_databases = 3
			autovacuum = off
		EOF
		cluster_start "$name"
	done
	as_user mkdir -m 700 "$work/watching"
	heading "living servers, after $(elapsed)"
	while IFS= read -r line; do
		case $line in
			'ok - '*) passed=$((passed + 1)) ;;
			'not ok - '*) failed=$((failed + 1)) ;;
			'1..') finished=1 ;;
		esac
		printf '%s\n' "$line"
	done < <(as_user env -C "$work/watching" perl "$work/tree/test/monitoring/live.pl" "$work/tree" "$work" "$bin" </dev/null 2>&1)
}

main() {
	trap finish EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	[ -n "${NO_DEPS:-}" ] || DEPS=monitoring bash "$here/deps.sh"
	check_files
	if [ -n "${STATIC:-}" ]; then
		finished=1
		return
	fi
	find_server
	make_work
	watch_servers
}

main
