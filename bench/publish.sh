#!/bin/bash
#
# publish.sh
#     Measures what publishing costs: transactions a second that insert an order
#     and seq_send an event, with a consumer of all of them beside, of those that
#     insert the same bytes into a plain table instead. Builds the extension and
#     starts a throw-away server. A line a number of clients on stdout, with what
#     was left to do after the last commit.
#
#   CLIENTS="1 4 16 64 200"   connections
#   SECONDS_EACH=10      for each of the two, in two turns
#   EVENTS=1             a transaction
#   NO_DEPS=1            install no packages

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"
# shellcheck source=scripts/cluster.sh
. "$here/../scripts/cluster.sh"
# shellcheck source=bench/lib.sh
. "$here/lib.sh"

CLIENTS=${CLIENTS:-1 4 16 64 200}
SECONDS_EACH=${SECONDS_EACH:-10}
EVENTS=${EVENTS:-1}
BENCH_SIZE=quick
BENCH_REPEAT=1

main() {
	cluster_traps bench
	bench_prepare
	bench_server
	heading "$EVENTS a transaction, $SECONDS_EACH s each"
	# shellcheck disable=SC2086
	guarded bench_client publish_ratio "$SECONDS_EACH" "$EVENTS" $CLIENTS || die "measuring failed"
	cluster_stop bench
}

main
