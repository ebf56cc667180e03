# shellcheck shell=bash disable=SC2154
# demo-story.sh
#     What `make demo` tells; demo.sh says what can be used here.
#
# Every claim is checked, and one that does not hold ends the demo with an
# error.

# claim TEXT SQL EXPECTED: says what should hold, shows SQL and its result,
# and insists on EXPECTED (as psql -qAt prints it).
claim() {
	local got
	say "$1"
	psql_run "$2"
	got=$(psql_value "$2")
	[ "$got" = "$3" ] || die "this does not hold: expected \"$3\", got \"$got\""
}

# A file of the test vectors into a table's only column, one line a row.
load_vectors() {
	gzip -dc "$top/test/vectors/$1.gz" | if [ "${3:-}" ]; then tr -d '\n'; else cat; fi |
		cluster_psql primary -q -v ON_ERROR_STOP=1 -d "$database" -c "COPY $2 FROM STDIN"
}

# The server applies its log by itself: until it has.
wait_until_applied() {
	local tries
	for tries in {1..600}; do
		[ "$(psql_value "SELECT lag = 0 FROM seq_state" 2>/dev/null)" != t ] || return 0
		sleep 0.05
	done
	die "the log was not applied after $tries looks"
}

wait_until_handled() {
	local tries
	for tries in {1..600}; do
		[ "$(psql_value "SELECT count(*) > 801 FROM letters")" != t ] || return 0
		sleep 0.05
	done
	die "no letter was written after $tries looks"
}

story() {
	psql_run "CREATE DATABASE shop"
	database=shop
	tell_publishing
	tell_orders
	tell_crash

	database=postgres
	tell_log
	tell_original
	tell_live
	tell_replay
	tell_full_queue
	tell_restart
	tell_truncation
}

tell_publishing() {
	say "A shop, with orders, and with letters that are to be written about them."
	psql_run "CREATE EXTENSION calvin_seq;
CREATE TABLE orders (id int PRIMARY KEY, status text NOT NULL);
CREATE TABLE letters (n int GENERATED ALWAYS AS IDENTITY, about text, status text)"
	say "A group of workers, \"mailer\", is to get whatever is published from here on. Workers come and go; here is one."
	psql_run "SELECT seq_create_group('mailer')"
	session_open mailer
	say "The application publishes what it does in the very transaction that does it. A transaction that is rolled back has published nothing."
	session_open till
	session_run till "BEGIN;
INSERT INTO orders VALUES (4711, 'paid');
SELECT seq_send('orders/4711', '{\"status\": \"paid\"}');
COMMIT;"
	session_run till "BEGIN;
INSERT INTO orders VALUES (4712, 'paid');
SELECT seq_send('orders/4712', '{\"status\": \"paid\"}');
ROLLBACK;"
	session_close till
	say "The worker fetches what came and does its work, all in one transaction, so that each message is worked on once, whatever happens."
	session_run mailer "BEGIN;
INSERT INTO letters (about, status)
SELECT collection, payload->>'status' FROM seq_fetch_json('mailer', 100, '10s');
COMMIT;"
	claim "One letter, about the order that there is." \
		"SELECT about, status FROM letters" "orders/4711|paid"
}

tell_orders() {
	say "Now many at once. Two tills take orders, a transaction each; a cashier looks for orders that are new and has them paid; the worker goes on in a loop. Nobody waits for anybody."
	psql_run "CREATE PROCEDURE sell(first int, last int) LANGUAGE plpgsql AS \$\$
BEGIN
  FOR id IN first .. last LOOP
    INSERT INTO orders VALUES (id, 'new') ON CONFLICT DO NOTHING;
    IF FOUND THEN
      PERFORM seq_send('orders/' || id, '{\"status\": \"new\"}');
      COMMIT;
      PERFORM pg_sleep(0.005);
    END IF;
  END LOOP;
END \$\$"
	psql_run "CREATE PROCEDURE cash(until int) LANGUAGE plpgsql AS \$\$
DECLARE
  found_id int;
BEGIN
  WHILE until > (SELECT count(*) FROM orders WHERE status = 'paid') LOOP
    UPDATE orders SET status = 'paid'
    WHERE id = (SELECT id FROM orders WHERE status = 'new' LIMIT 1) RETURNING id INTO found_id;
    IF FOUND THEN
      PERFORM seq_send('orders/' || found_id, '{\"status\": \"paid\"}');
    END IF;
    COMMIT;
  END LOOP;
END \$\$"
	psql_run "CREATE PROCEDURE write_letters(until int) LANGUAGE plpgsql AS \$\$
BEGIN
  WHILE until > (SELECT count(*) FROM letters) LOOP
    INSERT INTO letters (about, status)
    SELECT collection, payload->>'status' FROM seq_fetch_json('mailer', 100, '1s');
    COMMIT;
  END LOOP;
END \$\$"
	session_open till_1
	session_open till_2
	session_open cashier
	start_shop
}

start_shop() {
	session_send mailer "CALL write_letters(801);"
	session_send cashier "CALL cash(401);"
	session_send till_1 "CALL sell(1, 200);"
	session_send till_2 "CALL sell(201, 400);"
}

tell_crash() {
	local tries
	for tries in {1..1000}; do
		[ "$(psql_value "SELECT count(*) > 200 FROM letters")" != t ] || break
		sleep 0.01
	done
	say "In the middle of it the server crashes: every process of it is ended on the spot."
	restart_server immediate
	for session in till_1 till_2 cashier mailer; do
		session_lost "$session"
	done
	say "It is back. What had been committed is there, letters as well as orders; somebody was interrupted."
	psql_run "SELECT count(*) AS orders, count(*) FILTER (WHERE status = 'paid') AS paid,
       (SELECT count(*) FROM letters) AS letters FROM orders"
	[ "$(psql_value "SELECT count(*) < 801 FROM letters")" = t ] || die "the crash came after the end"
	say "They connect again and go on. The worker just fetches again, with nothing to set up: it goes on behind what was committed."
	session_open mailer
	session_open till_1
	session_open till_2
	session_open cashier
	start_shop
	for session in till_1 till_2 cashier mailer; do
		session_wait "$session"
		session_close "$session"
	done
	claim "All 400 orders are there, and each has its letters, once, in order: none is missing, and none came twice. \"paid\" comes after \"new\", though another session has sent it: the cashier had seen the order." \
		"SELECT letters, count(*) AS orders
FROM (SELECT o.id, string_agg(l.status, ', ' ORDER BY l.n) AS letters
      FROM orders o LEFT JOIN letters l ON l.about = 'orders/' || o.id
      WHERE o.id <= 400 GROUP BY o.id) x
GROUP BY letters" "new, paid|400"
	claim "Nothing else has been written." \
		"SELECT count(*) AS letters, count(DISTINCT about) AS about_orders FROM letters" "801|401"
	say "No client is needed for that: the server calls a function for each message, in the same way."
	psql_run "CREATE FUNCTION write_letter(message seq_txn) RETURNS void LANGUAGE sql AS
  'INSERT INTO letters (about, status)
   SELECT seq_collection(message.tx_class), seq_json(message.plans)->>''status''';
SELECT seq_handle('mailer', 'write_letter(seq_txn)')"
	psql_run "SELECT seq_send('orders/4711', '{\"status\": \"sent\"}')"
	wait_until_handled
	claim "The letter is written." "SELECT about, status FROM letters ORDER BY n DESC LIMIT 1" "orders/4711|sent"
	claim "Behind it is the sequencer, a background worker that puts what was committed into one log, in batches." \
		"SELECT count(*) > 0 AS batches, sum(jsonb_array_length(seq_decode(entry) #> '{EpochBatch,txns}')) AS messages
FROM seq_log" "t|802"
	psql_run "SELECT state, submitted, sequenced, epochs, waiting_rows, latency_p50_us, latency_p99_us FROM seq_sequencer"
}

tell_log() {
	say "So much for who publishes. The log behind it can be had by itself, in a database of its own: CREATE EXTENSION makes an empty one, seq_log, and a second background worker applies it, the applier."
	psql_run "CREATE EXTENSION calvin_seq"
	psql_run "SELECT role, last_applied_epoch, last_applied_index, digest FROM seq_state"
}

tell_original() {
	say "The log of this demo was not written by us: its 120 entries, and what its state machine made of them, come from the Rust original. Here they wait as hex, together with what each vshard received there."
	psql_run "CREATE TABLE original (line jsonb);
CREATE TABLE outcome (doc jsonb);"
	load_vectors basic.jsonl original
	load_vectors basic.apply.json outcome joined
	psql_run "SELECT line->'log_index' AS log_index, left(line->>'hex', 56) || '...' AS entry
FROM original ORDER BY 1 LIMIT 3"
	psql_run "CREATE VIEW expected AS
SELECT v.key::int AS vshard, (t->>0)::bigint AS epoch, (t->>1)::int AS position,
       (t->>2)::bigint AS epoch_system_ms, (t->>4)::int AS plans_bytes
FROM outcome, jsonb_each(doc->'vshards') v, jsonb_array_elements(v.value) t"
	psql_run "SELECT count(*) AS deliveries, count(DISTINCT vshard) AS vshards, max(epoch) AS last_epoch
FROM expected"
}

tell_live() {
	say "Two sessions divide the vshards between them. Each subscribes, then loops: wait for transactions, store them."
	psql_run "CREATE TABLE received AS SELECT 'who' AS who, r.* FROM seq_replay(0, 0, 0) r;
CREATE PROCEDURE consume(who text, until bigint, name text DEFAULT 'default') LANGUAGE plpgsql AS \$\$
DECLARE
  reached boolean;
BEGIN
  LOOP
    reached := seq_wait_for_epoch(until, '0');
    INSERT INTO received SELECT who, r.* FROM seq_receive(1000, '100ms', consume.name) r;
    EXIT WHEN reached AND NOT FOUND;
    COMMIT;
  END LOOP;
END \$\$"
	session_open north
	session_open south
	session_run north "SELECT count(DISTINCT vshard) AS vshards, seq_subscribe(array_agg(DISTINCT vshard))
FROM expected WHERE vshard < 512;"
	session_run south "SELECT count(DISTINCT vshard) AS vshards, seq_subscribe(array_agg(DISTINCT vshard))
FROM expected WHERE vshard >= 512;"
	session_send north "CALL consume('north', 85);"
	session_send south "CALL consume('south', 85);"

	say "Now the log goes in, an entry a commit, with a short pause after each, as a proposer would do it. log_index is assigned in commit order."
	psql_run "DO \$\$
DECLARE
  hex text;
BEGIN
  FOR hex IN SELECT line->>'hex' FROM original ORDER BY (line->>'log_index')::int LOOP
    INSERT INTO seq_log (entry) VALUES (decode(hex, 'hex'));
    COMMIT;
    PERFORM pg_sleep(0.01);
  END LOOP;
END \$\$"
	session_wait north
	session_wait south

	claim "Both sessions have had all of it. Of the counters, the first four are the original's, and they have the values it counted." \
		"SELECT epochs_applied, txns_fanned_out, txns_dropped_backpressure, epochs_skipped_gap,
       to_jsonb(m) @> (doc->'metrics') AS as_the_original FROM seq_metrics m, outcome" \
		"86|1992|0|0|t"
	psql_run "SELECT who, count(*) AS received, count(DISTINCT vshard) AS vshards, min(epoch), max(epoch)
FROM received GROUP BY who ORDER BY who"
	claim "And what arrived is what the original delivered, transaction by transaction: nothing is missing, nothing is there besides." \
		"SELECT (SELECT count(*) FROM (TABLE expected EXCEPT ALL
          SELECT vshard, epoch, position, epoch_system_ms, length(plans) FROM received) m) AS missing,
       (SELECT count(*) FROM (SELECT vshard, epoch, position, epoch_system_ms, length(plans) FROM received
          EXCEPT ALL TABLE expected) e) AS extra" \
		"0|0"
}

tell_replay() {
	say "The log keeps it all. A replay of one vshard, from the log alone:"
	psql_run "SELECT epoch, position, epoch_system_ms, tenant_id, participating_vshards, length(tx_class) AS bytes
FROM seq_replay(754, 0, 85) LIMIT 5"
	claim "Replayed and received rows are the same, byte for byte, for every vshard." \
		"WITH replayed AS (SELECT r.* FROM (SELECT DISTINCT vshard FROM expected) v, seq_replay(v.vshard, 0, 85) r),
     live AS (SELECT vshard, epoch, position, epoch_system_ms, tenant_id,
                     participating_vshards, plans, tx_class FROM received)
SELECT (SELECT count(*) FROM replayed) AS replayed,
       (SELECT count(*) FROM (TABLE replayed EXCEPT ALL TABLE live) a) AS only_replayed,
       (SELECT count(*) FROM (TABLE live EXCEPT ALL TABLE replayed) b) AS only_live" \
		"1992|0|0"
}

tell_full_queue() {
	local sent dropped
	say "The applier never waits for a consumer. To see that, two sessions subscribe to another vshard with the smallest possible queue: \"bare\" takes the queue as it is, \"lossless\" the default."
	session_open bare
	session_open lossless
	session_run bare "SELECT seq_subscribe(ARRAY[seq_vshard('parcels')], 'bare', queue_size => 8192, lossless => false);"
	session_run lossless "SELECT seq_subscribe(ARRAY[seq_vshard('parcels')], 'lossless', queue_size => 8192);"
	say "One transaction sends 500 messages. They make one batch, with the log's next epoch, 86."
	psql_run "SELECT count(seq_send('parcels', to_jsonb(n))) AS sent FROM generate_series(1, 500) n"
	claim "It is applied at once." "SELECT seq_wait_for_epoch(86, '30s')" t
	psql_run "SELECT name, state, queue_size, queue_used, sent, dropped FROM seq_subscriptions
WHERE name <> 'default' ORDER BY name"
	session_run bare "CALL consume('bare', 86, 'bare');"
	session_run lossless "CALL consume('lossless', 86, 'lossless');"

	sent=$(psql_value "SELECT sent FROM seq_subscriptions WHERE name = 'bare'")
	dropped=$(psql_value "SELECT dropped FROM seq_subscriptions WHERE name = 'bare'")
	if [ "$sent" -eq 0 ] || [ "$dropped" -eq 0 ]; then
		die "the small queue took $sent transactions and dropped $dropped"
	fi
	claim "Both queues overflowed, and the drops are counted. The bare one's consumer has what its queue held; the lossless one read the rest from the log and has all 500." \
		"SELECT name, sent, dropped, replayed, (SELECT count(*) FROM received WHERE who = name) AS received,
       txns_dropped_backpressure
FROM seq_subscriptions, seq_metrics WHERE name <> 'default' ORDER BY name" \
		"bare|$sent|$dropped|0|$sent|$((2 * dropped))
lossless|$sent|$dropped|$dropped|500|$((2 * dropped))"
	claim "What the bare one missed is a replay away." \
		"SELECT count(*) AS missed, min(position), max(position)
FROM seq_replay(seq_vshard('parcels'), 86, 86)
WHERE (epoch, position) NOT IN (SELECT epoch, position FROM received WHERE who = 'bare')" \
		"$dropped|$sent|499"
	say "So far, with the time from append to fan-out in microseconds:"
	psql_run "SELECT epochs_applied, txns_fanned_out, txns_dropped_backpressure AS dropped, entries_applied,
       entries_noop, completion_acks, bytes_applied, latency_p50_us, latency_p99_us
FROM seq_metrics"
	session_close lossless
	session_close bare
	session_close south
	session_close north
}

tell_restart() {
	local before
	wait_until_applied
	say "The state machine's state is its place in the log and a digest over everything up to there."
	psql_run "SELECT last_applied_epoch, last_applied_index, digest FROM seq_state"
	before=$(psql_value "SELECT last_applied_epoch, last_applied_index, digest FROM seq_state")

	say "Now the server is restarted. Shared memory is gone with it; the applier rebuilds the state from the log."
	restart_server fast
	wait_until_applied
	claim "It stands where it stood." \
		"SELECT last_applied_epoch, last_applied_index, digest FROM seq_state" "$before"
	say "And it goes on from there."
	psql_run "SELECT seq_append_json('{\"EpochBatch\": {\"txns\": []}}')"
	claim "Epoch 87 is the 88th that this log has applied." \
		"SELECT seq_wait_for_epoch(87, '30s')" t
	claim "At the end, the metrics: counted anew since the restart, from the same log. Nobody was subscribed." \
		"SELECT epochs_applied, txns_fanned_out, txns_dropped_backpressure AS dropped,
       epochs_skipped_gap, epochs_skipped_stale, entries_applied, entries_noop,
       entries_undecodable, completion_acks FROM seq_metrics" \
		"88|0|0|0|0|122|1|0|33"
}

tell_truncation() {
	local before
	before=$(psql_value "SELECT last_applied_epoch, last_applied_index, digest FROM seq_state")
	say "The log need not grow for ever. What is in front of epoch 80 goes, unless somebody still needs it; the state that it led to stays as the base that the log begins with."
	psql_run "SELECT seq_truncate(80) AS entries_removed"
	claim "The log begins with epoch 80 now." \
		"SELECT min(epoch) AS first_epoch, (SELECT last_applied_epoch FROM seq_snapshots WHERE base) AS base_epoch
FROM seq_log WHERE kind = 'epoch_batch'" "80|79"
	say "After another restart, without what was removed:"
	restart_server fast
	wait_until_applied
	claim "It stands where it stood, again." \
		"SELECT last_applied_epoch, last_applied_index, digest FROM seq_state" "$before"
}
