#!/bin/bash
#
# cursors.sh
#     Measures whether seq_commit and reading cursors slow down while somebody
#     holds an old snapshot: builds the extension, starts a throw-away server,
#     and has one consumer commit batch after batch.  A table on stdout, and a
#     status that is not zero if the last slice's rate is below 0.9 of the
#     first's.
#
#   SECONDS_TOTAL=600    how long, a multiple of SLICES
#   SLICES=10            in how many slices the rate is told
#   VSHARDS=8            of the consumer; every batch is for all of them
#   HOLD=1               hold the snapshot; 0 to compare
#   NO_DEPS=1            install no packages

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"
# shellcheck source=scripts/cluster.sh
. "$here/../scripts/cluster.sh"

SECONDS_TOTAL=${SECONDS_TOTAL:-600}
SLICES=${SLICES:-10}
VSHARDS=${VSHARDS:-8}
HOLD=${HOLD:-1}

setup() {
	cluster_psql cursors -qAt -v ON_ERROR_STOP=1 -d postgres <<'EOS' >&2
CREATE EXTENSION calvin_seq;
-- The collections of so many different vshards.
CREATE TABLE collections AS
	SELECT DISTINCT ON (seq_vshard('c' || i)) 'c' || i AS name, seq_vshard('c' || i) AS vshard
	FROM generate_series(1, 5000) i;
-- As many batches as the time allows, one commit each; how many in each slice.
CREATE PROCEDURE consume(vshards int, seconds float, slices int) LANGUAGE plpgsql AS $$
DECLARE
	began timestamptz := clock_timestamp();
	slice int := 1;
	batches int := 0;
	looked timestamptz;
	look float;
	write_set jsonb := (SELECT jsonb_agg(jsonb_build_object('Document', jsonb_build_object('collection', name, 'surrogates', '[]'::jsonb)))
		FROM (SELECT * FROM collections ORDER BY vshard LIMIT vshards) c);
	next bigint := 0;
	taken int;
BEGIN
	PERFORM seq_subscribe((SELECT array_agg(vshard) FROM (SELECT * FROM collections ORDER BY vshard LIMIT vshards) c), 'bench');
	COMMIT;
	WHILE slice <= slices LOOP
		PERFORM seq_append_json(jsonb_build_object('EpochBatch', jsonb_build_object('epoch', next, 'epoch_system_ms', 1, 'txns',
			jsonb_build_array(jsonb_build_object('tx_class', jsonb_build_object('plans', '\x70', 'tenant_id', 1, 'write_set', write_set))))));
		COMMIT;
		taken := 0;
		WHILE taken < vshards LOOP
			taken := taken + (SELECT count(*) FROM seq_receive(1000, '10s', 'bench'));
		END LOOP;
		PERFORM seq_commit('bench');
		COMMIT;
		next := next + 1;
		batches := batches + 1;
		IF clock_timestamp() >= began + make_interval(secs => seconds / slices * slice) THEN
			looked := clock_timestamp();
			PERFORM count(*) FROM seq_cursors;
			look := extract(epoch FROM clock_timestamp() - looked) * 1000;
			RAISE INFO '%', concat_ws(E'\t', slice, round(batches / (seconds / slices)), round(look::numeric, 2),
				pg_size_pretty(pg_total_relation_size('seq_cursor_positions')));
			batches := 0;
			slice := slice + 1;
		END IF;
	END LOOP;
END $$;
EOS
}

main() {
	cluster_traps cursors
	[ -n "${NO_DEPS:-}" ] || DEPS=bench bash "$top/scripts/deps.sh"
	find_server
	make_work
	heading "building for $server_version"
	copy_sources
	guarded pgxs_make -s -j "$jobs" all || die "the build failed"
	make_private_server
	cluster_init cursors </dev/null
	cluster_start cursors
	setup
	if [ "$HOLD" -ne 0 ]; then
		coproc holder { cluster_psql cursors -qAt -d postgres; }
		printf 'BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT count(*) FROM seq_log;\n' >&"${holder[1]}"
		read -r _ <&"${holder[0]}"
	fi
	heading "slices of $((SECONDS_TOTAL / SLICES)) s: batches a second, ms to read seq_cursors, size"
	guarded cluster_psql cursors -qAt -v ON_ERROR_STOP=1 -d postgres \
		-c "CALL consume($VSHARDS, $SECONDS_TOTAL, $SLICES)" </dev/null 2>&1 |
		sed -u 's/^INFO:  //' | tee "$work/rates"
	awk -F'\t' 'NR == 1 { first = $2 } { last = $2 }
		END { printf "the last slice is at %.2f of the first\n", last / first; exit last < 0.9 * first }' "$work/rates" ||
		die "it has slowed down"
}

main
