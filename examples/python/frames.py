"""Subscribes, under a registered name, to the vshards that are named, and decodes framed batches."""
import json
import sys
import time

import msgpack
import psycopg

name, vshards = sys.argv[1], [int(vshard) for vshard in sys.argv[2:]]
while True:
    try:
        with psycopg.connect(autocommit=True) as db:
            db.execute("SELECT seq_subscribe(%s, %s)", (vshards, name))
            while True:
                with db.transaction():
                    batch, = db.execute("SELECT seq_receive_batch(1000, '5s', %s)", (name,), binary=True).fetchone()
                    for vshard, epoch, position, ms, tx_class in msgpack.unpackb(batch, strict_map_key=False):
                        read_set, write_set, plans, tenant, dependent_reads = tx_class
                        engine, (about, surrogates) = write_set[0]
                        db.execute("INSERT INTO letters (reader, about, number) VALUES (%s, %s, %s)",
                                   (name, about, json.loads(plans)["number"]))
                    db.execute("SELECT seq_commit(%s)", (name,))
    except psycopg.OperationalError as error:
        # The new session goes on at the durable cursor, which moved with the letters.
        print(error, file=sys.stderr)
        time.sleep(0.2)
