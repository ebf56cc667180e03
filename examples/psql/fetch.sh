#!/bin/sh
# Works for the group that is named: fetches, and does its work in the same statement.
# Nothing is to be cleaned up after an error: what did not commit is fetched again.
until psql -X -q -o /dev/null -v ON_ERROR_STOP=1 -v group="$1" <<'SQL'
WITH m AS MATERIALIZED (SELECT * FROM seq_fetch_json(:'group', 100, '5s'))
INSERT INTO letters (reader, about, number)
SELECT :'group', collection, (payload ->> 'number')::int FROM m
\watch 0.01
SQL
do sleep 0.2; done
