"""Submits from many connections, and records what became of each submission.

    load.py RECORD FIRST COUNT PAUSE_MS PASSFILE HOST...

Connections FIRST to FIRST + COUNT - 1, each at the one of the hosts that takes writes. A line of
RECORD is "outcome connection number host sent answered": outcome A is acknowledged; U nobody can
tell, since the connection was lost or no answer came; R refused, so that it must not be in the log.
BROKEN=acknowledged records some as acknowledged that were rolled back.
"""
import json
import os
import signal
import sys
import threading
import time

import psycopg2
from connect import close, connect

# longer than a failover that is planned, and shorter than somebody would wait
ANSWER_S = 5
SEND = "SELECT seq_send(%(collection)s, %(payload)s)"
APPEND_JSON = """SELECT seq_append_json(jsonb_build_object('EpochBatch', jsonb_build_object('txns', jsonb_build_array(
    jsonb_build_object('tx_class', jsonb_build_object('plans', '\\x' || encode(convert_to(%(payload)s, 'UTF8'), 'hex'),
    'write_set', jsonb_build_array(jsonb_build_object('Document', jsonb_build_object('collection', %(collection)s)),
    jsonb_build_object('Document', jsonb_build_object('collection', %(other)s)))))))))"""
APPEND = """SELECT seq_append(seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object('epoch', e, 'epoch_system_ms', ms,
    'txns', jsonb_build_array(jsonb_build_object('epoch', e, 'position', 0, 'epoch_system_ms', ms,
    'tx_class', jsonb_build_object('plans', '\\x' || encode(convert_to(%(payload)s, 'UTF8'), 'hex'), 'write_set',
    jsonb_build_array(jsonb_build_object('Document', jsonb_build_object('collection', %(collection)s))))))))))
    FROM (SELECT coalesce(seq_current_committed_epoch() + 1, 0) AS e, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms) n"""

record, first, count, pause_ms, passfile = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
hosts = sys.argv[6:]
broken = os.environ.get("BROKEN") == "acknowledged"
ends = threading.Event()
log = os.open(record, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)


def statement_of(client):
    return {3: APPEND_JSON, 11: APPEND_JSON, 7: APPEND}.get(client, SEND)


def outcome_of(error):
    """Shutting down, or nothing that the server has said: nobody can tell."""
    code = getattr(error, "pgcode", None)
    return "U" if code is None or code[:2] in ("57", "08", "XX") else "R"


def reach(turn):
    host = hosts[turn % len(hosts)]
    return host, connect(ANSWER_S, host=host, port=54320, dbname="app", user="writer", passfile=passfile,
                         target_session_attrs="read-write", application_name="load")


def submit(client):
    connection, host, turn, number = None, None, client, 0
    while not ends.is_set():
        if connection is None:
            try:
                host, connection = reach(turn)
            except (psycopg2.Error, OSError, ValueError):
                turn += 1
                ends.wait(0.05)
                continue
        number += 1
        sent = time.time()
        values = {"collection": f"s/{client}/{number % 4}", "other": f"all/{number % 8}",
                  "payload": json.dumps({"c": client, "n": number, "sent": sent})}
        try:
            cursor = connection.cursor()
            if broken and number % 100 == 50:
                cursor.execute("BEGIN")
                cursor.execute(statement_of(client), values)
                cursor.execute("ROLLBACK")
            else:
                cursor.execute(statement_of(client), values)
            outcome = "A"
        except (psycopg2.Error, OSError, ValueError) as error:
            outcome = outcome_of(error)
            if outcome == "U" or connection.closed or error.pgcode == "25006":
                close(connection)
                connection = None
                turn += 1
        os.write(log, f"{outcome} {client} {number} {host} {sent:.4f} {time.time():.4f}\n".encode())
        ends.wait(pause_ms / 1000)
    close(connection)


signal.signal(signal.SIGTERM, lambda *_: ends.set())
threads = [threading.Thread(target=submit, args=(client,)) for client in range(first, first + count)]
for thread in threads:
    thread.start()
while not ends.is_set():
    ends.wait(0.2)
for thread in threads:
    thread.join()
