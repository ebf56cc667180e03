#!/bin/sh
# Reads "customer number" lines; each is an order, and its message, in one statement.
while read -r customer number; do
	# Lost in COMMIT it may have committed: at the next try the key of orders tells.
	until psql -X -q -o /dev/null -v ON_ERROR_STOP=1 -v customer="$customer" -v number="$number" <<'SQL'
WITH placed AS (
  INSERT INTO orders VALUES (:'customer', :'number') ON CONFLICT DO NOTHING RETURNING *)
SELECT seq_send('orders/' || customer, jsonb_build_object('number', number)) FROM placed;
SQL
	do sleep 0.2; done
done
