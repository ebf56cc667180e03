#!/bin/bash
#
# run.sh
#     Builds the extension, measures it beside what else PostgreSQL offers, on
#     one throw-away server, and leaves nothing behind but its results:
#     `make bench`.
#
#   BENCH_SIZE=quick     tiny (does it run?), quick (a quarter of an hour), full
#   BENCH_ONLY="..."     sections: delivery peers end_to_end latency append
#                        replay catchup growth memory publish publish_latency
#                        publish_held publish_drain handler_latency
#   BENCH_REPEAT=3       repetitions: medians and their spread are shown
#   BENCH_OUT=bench-results   where results.md, .json and .svg go
#   PGMQ_SQL=file        pgmq's SQL, to compare publishing with it too
#   NO_DEPS=1            install no packages

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"
# shellcheck source=scripts/cluster.sh
. "$here/../scripts/cluster.sh"
# shellcheck source=bench/lib.sh
. "$here/lib.sh"

BENCH_SIZE=${BENCH_SIZE:-quick}
BENCH_REPEAT=${BENCH_REPEAT:-3}
out=$(realpath -m "${BENCH_OUT:-$top/bench-results}")

main() {
	local section
	cluster_traps bench
	case $BENCH_SIZE in tiny | quick | full) ;; *) die "BENCH_SIZE is tiny, quick or full" ;; esac
	[[ $BENCH_REPEAT =~ ^[1-9][0-9]*$ ]] || die "BENCH_REPEAT is a number above 0"
	for section in ${BENCH_ONLY:-}; do
		case " $bench_sections " in *" $section "*) ;; *) die "no such section: $section" ;; esac
	done
	if [ -n "${PGMQ_SQL:-}" ]; then
		[ -r "$PGMQ_SQL" ] || die "PGMQ_SQL cannot be read: $PGMQ_SQL"
		PGMQ_SQL=$(realpath "$PGMQ_SQL")
	fi
	mkdir -p "$out"
	bench_prepare
	case " ${BENCH_ONLY:-publish} " in *" publish"*) bench_peers || die "a peer could not be prepared" ;; esac
	bench_server
	bench_machine >"$work/figures"
	for section in ${BENCH_ONLY:-$bench_sections}; do
		heading "$section, after $(elapsed)"
		guarded bench_section bench "$section" >>"$work/figures" || die "$section failed"
	done
	cluster_stop bench
	heading "results"
	cp "$work/figures" "$out/figures.tsv"
	perl "$here/report.pl" ${BENCH_ONLY:+--partial} "$out"
	heading "done in $(elapsed): $out"
}

main
