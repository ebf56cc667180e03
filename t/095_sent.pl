# What is sent is what arrives: payloads, collections, changes of tables, in
# every encoding.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', -streaming => 1, 'calvin_seq.max_databases' => 8, max_worker_processes => 30);
my $plans = q{decode(substr(t #>> '{tx_class,plans}', 3), 'hex')};
my $collection = q{t #>> '{tx_class,write_set,0,Document,collection}'};
my $seen = 0;

create_extension($node, 'postgres');

# What the next n transactions of the log are, in order, once they are there.
sub next_sent
{
	my ($n, $what) = @_;
	my $txns = q{FROM seq_log, jsonb_array_elements(seq_decode(entry) #> '{EpochBatch,txns}') WITH ORDINALITY u (t, i) WHERE kind = 'epoch_batch'};
	my $skip = $seen;

	$seen += $n;
	wait_for_sql($node, 'postgres', "SELECT count(*) = $seen $txns");
	return sql($node, 'postgres', "SELECT $what FROM (SELECT log_index, i, t $txns ORDER BY log_index, i OFFSET $skip) s ORDER BY log_index, i");
}

#
# Each function
#
sql($node, 'postgres', <<'END');
BEGIN;
SELECT seq_send('orders/1', '{"status": "paid", "n": [1, 2.50]}');
SELECT seq_send_bytes('', '\x00ff', 9223372036854775807);
SELECT seq_submit('{"write_set": [{"Kv": {"collection": "k", "keys": ["\\x02", "\\x01"]}}], "plans": "\\xab", "dependent_reads": {"7": []}}');
SELECT seq_submit_encoded('\xdc00059091dc0002a24b76dc0002a16b90c50000cd0007c0');
COMMIT;
END
is(next_sent(4, "t #> '{tx_class,tenant_id}', t #> '{tx_class,write_set}', t #> '{tx_class,dependent_reads}', t #>> '{tx_class,plans}'"),
	join("\n",
		'0|[{"Document": {"collection": "orders/1", "surrogates": []}}]|null|\x'
		  . unpack('H*', '{"n": [1, 2.50], "status": "paid"}'),
		'9223372036854775807|[{"Document": {"collection": "", "surrogates": []}}]|null|\x00ff',
		'0|[{"Kv": {"keys": ["\\\\x01", "\\\\x02"], "collection": "k"}}]|{"7": []}|\xab',
		'7|[{"Kv": {"keys": [], "collection": "k"}}]|null|\x'),
	'what was submitted, in the order of the calls');
is(sql($node, 'postgres', q{SELECT seq_collection(tx_class), seq_json(plans) FROM seq_replay(seq_vshard('orders/1'), 0, 1000)}),
	'orders/1|{"n": [1, 2.50], "status": "paid"}', 'as a consumer reads it');

#
# Changes of a table
#
sql($node, 'postgres', <<'END');
CREATE SCHEMA "S";
CREATE TABLE "S".items (gone int, id int, day timestamp, note text, twice int GENERATED ALWAYS AS (id * 2) STORED);
ALTER TABLE "S".items DROP COLUMN gone;
CREATE TRIGGER send AFTER INSERT OR UPDATE OR DELETE ON "S".items FOR EACH ROW EXECUTE FUNCTION seq_send_changes('items', 'id', 'day');
SET DateStyle = 'German';
INSERT INTO "S".items VALUES (1, '29.02.2024', 'a"b');
UPDATE "S".items SET note = NULL;
UPDATE "S".items SET id = 2;
DELETE FROM "S".items;
END
my @rows = ('{"id": 1, "day": "2024-02-29T00:00:00", "note": "a\"b", "twice": 2}',
	'{"id": 1, "day": "2024-02-29T00:00:00", "note": null, "twice": 2}',
	'{"id": 2, "day": "2024-02-29T00:00:00", "note": null, "twice": 4}');
my $payload = sub { return qq({"op": "$_[0]", "table": "\\"S\\".items", "old": $_[1], "new": $_[2]}) };
my $at = 'items/%d/2024-02-29T00:00:00|%s';
is(next_sent(5, "$collection, convert_from($plans, 'UTF8')"),
	join("\n",
		sprintf($at, 1, $payload->('insert', 'null', $rows[0])),
		sprintf($at, 1, $payload->('update', $rows[0], $rows[1])),
		sprintf($at, 1, $payload->('update', $rows[1], $rows[2])),
		sprintf($at, 2, $payload->('update', $rows[1], $rows[2])),
		sprintf($at, 2, $payload->('delete', $rows[2], 'null'))),
	'changes go to the key, and an update of the key to both');
sql($node, 'postgres', <<'END');
COPY "S".items (id, day) FROM STDIN;
5	2024-01-01
6	2024-01-01
\.
SET session_replication_role = replica;
INSERT INTO "S".items VALUES (7, '2024-01-01');
RESET session_replication_role;
ALTER TABLE "S".items DISABLE TRIGGER send;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON "S".items DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION seq_send_changes('later', 'id');
BEGIN;
INSERT INTO "S".items VALUES (8, '2024-01-01');
SELECT seq_send('before', '{}');
COMMIT;
END
is(next_sent(4, $collection),
	"items/5/2024-01-01T00:00:00\nitems/6/2024-01-01T00:00:00\nbefore\nlater/8",
	'by COPY; not by a replica; deferred, at the commit');
is(sql_error($node, 'postgres', q{SET default_transaction_read_only = on; INSERT INTO "S".items VALUES (9, '2024-01-01')}) =~ /^25006/, 1, 'not in a read-only transaction');

#
# Encodings: the log has UTF-8
#
$node->psql('postgres', "CREATE DATABASE latin1 TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
create_extension($node, 'latin1');
sql($node, 'latin1', qq{SET client_encoding = 'UTF8'; SELECT seq_send(U&'caf\\00e9', to_jsonb(U&'\\00e9'::text))});
wait_for_sql($node, 'latin1', "SELECT count(*) = 1 FROM seq_log WHERE kind = 'epoch_batch'");
is(sql($node, 'latin1', q{SET client_encoding = 'UTF8'; SELECT encode(plans, 'hex'), encode(convert_to(seq_collection(tx_class), 'UTF8'), 'hex'),
	seq_json(plans) = to_jsonb(U&'\00e9'::text) FROM seq_replay(seq_vshard(U&'caf\00e9'), 0, 0)}),
	'22c3a922|636166c3a9|t', 'in a database of LATIN1');

#
# A standby
#
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
foreach my $call (q{seq_send('a', '{}')}, q{seq_send_bytes('a', '')}, q{seq_submit('{}')}, q{seq_submit_encoded('')})
{
	like(sql_error($standby, 'postgres', "SELECT $call"), qr/^25006: /, "$call on a standby");
}

nothing_crashed($_) for $node, $standby;
done_testing();
