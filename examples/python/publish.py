"""Reads "customer number" lines; each is an order, and its message, in one transaction."""
import sys
import time

import psycopg
from psycopg.types.json import Jsonb

db = None
for customer, number in map(str.split, sys.stdin):
    while True:
        try:
            if db is None or db.closed:
                db = psycopg.connect(autocommit=True, prepare_threshold=None)
            with db.transaction():
                order = db.execute("INSERT INTO orders VALUES (%s, %s) ON CONFLICT DO NOTHING", (customer, number))
                if order.rowcount == 1:
                    db.execute("SELECT seq_send(%s, %s)", ("orders/" + customer, Jsonb({"number": int(number)})))
            break
        except psycopg.OperationalError as error:
            # Lost in COMMIT it may have committed: at the next try the key of orders tells.
            print(error, file=sys.stderr)
            time.sleep(0.2)
