#!/bin/sh
# Subscribes, under a registered name, to the vshards that are named, and decodes what comes.
name=$1
shift
vshards=$(echo "$@" | tr ' ' ',')

subscribe="SELECT seq_subscribe(:'vshards', :'name');"
transaction="BEGIN;
INSERT INTO letters (reader, about, number)
SELECT :'name', tx #>> '{write_set,0,Document,collection}',
       (seq_json((tx ->> 'plans')::bytea) ->> 'number')::int
FROM (SELECT seq_decode_tx_class(tx_class) AS tx FROM seq_receive(1000, '5s', :'name')) AS m;
SELECT seq_commit(:'name');
COMMIT;"

# The new session goes on at the durable cursor, which moved with the letters.
until { echo "$subscribe"; yes "$transaction"; } 2>/dev/null |
	psql -X -q -o /dev/null -v ON_ERROR_STOP=1 -v name="$name" -v vshards="{$vshards}"
do sleep 0.2; done
