"""Works for the group that is named by single statements, as a pooler's statement mode needs it."""
import sys
import time

import psycopg

work = """WITH m AS MATERIALIZED (SELECT * FROM seq_fetch_json(%(group)s, 100, '5s'))
          INSERT INTO letters (reader, about, number)
          SELECT %(group)s, collection, (payload ->> 'number')::int FROM m"""
while True:
    try:
        with psycopg.connect(autocommit=True, prepare_threshold=None) as db:
            while True:
                db.execute(work, {"group": sys.argv[1]})
    except psycopg.OperationalError as error:
        print(error, file=sys.stderr)
        time.sleep(0.2)
