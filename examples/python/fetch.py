"""Works for the group that is named: fetches, and does its work in the same transaction."""
import sys
import time

import psycopg

group = sys.argv[1]
while True:
    try:
        with psycopg.connect(autocommit=True, prepare_threshold=None) as db:
            while True:
                with db.transaction():
                    messages = db.execute("SELECT collection, payload FROM seq_fetch_json(%s, 100, '5s')", (group,))
                    for about, payload in messages:
                        db.execute("INSERT INTO letters (reader, about, number) VALUES (%s, %s, %s)",
                                   (group, about, payload["number"]))
    except psycopg.OperationalError as error:
        # Nothing is to be cleaned up: what did not commit is fetched again.
        print(error, file=sys.stderr)
        time.sleep(0.2)
