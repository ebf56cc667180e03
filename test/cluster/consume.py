"""Consumers of a follower, which write what they get into its table effects, in the same transaction.

    consume.py SOCKET_DIRECTORY SECONDS_OF_WAIT VSHARD...

Two workers of the group "worked", which also acknowledge, and the registered consumer "streamed"
for the vshards. BROKEN=effects has one of the workers commit first, write then, and be
interrupted between the two now and then.
"""
import os
import signal
import sys
import threading
import time

import psycopg2
from connect import close, connect

WRITE = """INSERT INTO effects (reader, vshard, epoch, position, client, number, sent)
    SELECT %s, f.vshard, f.epoch, f.position, (f.payload ->> 'c')::int, (f.payload ->> 'n')::int, to_timestamp((f.payload ->> 'sent')::float8)
    FROM {} f ORDER BY f.epoch, f.position"""
FETCH = """CREATE TEMPORARY TABLE IF NOT EXISTS got (vshard int, epoch bigint, position int, payload jsonb) ON COMMIT DELETE ROWS;
    INSERT INTO got SELECT vshard, epoch, position, payload FROM seq_fetch_json('worked', 200, %s)"""
ACK = "SELECT seq_ack(epoch, position, vshard) FROM got"
RECEIVE = "(SELECT vshard, epoch, position, seq_json(plans) AS payload FROM seq_receive(500, %s, 'streamed'))"

directory, patience, vshards = sys.argv[1], float(sys.argv[2]), [int(v) for v in sys.argv[3:]]
broken = os.environ.get("BROKEN") == "effects"
ends = threading.Event()


def work(cursor, state, careless):
    cursor.execute("BEGIN")
    cursor.execute(FETCH, (f"{patience} s",))
    if careless:
        cursor.execute("SELECT * FROM got")
        got = cursor.fetchall()
        cursor.execute("COMMIT")
        state["rounds"] += 1
        if got and state["rounds"] % 10 == 0:
            return
        cursor.execute("BEGIN")
        for row in got:
            cursor.execute("INSERT INTO got SELECT %s, %s, %s, %s::jsonb", row[:3] + (str(row[3]).replace("'", '"'),))
    cursor.execute(WRITE.format("got"), ("worked",))
    cursor.execute(ACK)
    cursor.execute("COMMIT")


def stream(cursor, state):
    if not state["subscribed"]:
        cursor.execute("SELECT seq_subscribe(%s, 'streamed')", (vshards,))
        state["subscribed"] = True
    cursor.execute("BEGIN")
    cursor.execute(WRITE.format(RECEIVE), ("streamed", f"{patience} s"))
    cursor.execute("SELECT seq_commit('streamed')")
    cursor.execute("COMMIT")


def keep_on(name, step, *args):
    connection, state = None, None
    while not ends.is_set():
        try:
            if connection is None:
                connection = connect(60, host=directory, port=54320, dbname="app", user="postgres", application_name=name)
                state = {"subscribed": False, "rounds": 0}
            step(connection.cursor(), state, *args)
        except (psycopg2.Error, OSError, ValueError) as error:
            # what did not commit comes again
            print(time.strftime("%H:%M:%S"), name, str(error).strip(), flush=True)
            close(connection)
            connection = None
            ends.wait(0.1)
    close(connection)


signal.signal(signal.SIGTERM, lambda *_: ends.set())
threads = [threading.Thread(target=keep_on, args=("worker 1", work, broken)),
           threading.Thread(target=keep_on, args=("worker 2", work, False)),
           threading.Thread(target=keep_on, args=("stream", stream))]
for thread in threads:
    thread.start()
while not ends.is_set():
    ends.wait(0.2)
for thread in threads:
    thread.join()
