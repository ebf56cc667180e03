# What was submitted, as the log has it.
#
#   is_next($node, $db, 'a=1 b=2', 'what it shows');	since the last look at it
package CalvinSubmit;

use strict;
use warnings;

use CalvinTest;
use Exporter 'import';
use Test::More;

our @EXPORT = qw(create_sent sent sent_count wait_sequenced is_next forget_sent hold_log wait_held filled numbers inbox_size);

my %seen;

# The transactions of the log's batches, whose plans are text, in its order;
# what they were filled up with is left out.
sub create_sent
{
	my ($node, $db) = @_;

	return sql($node, $db, <<'EOS');
CREATE VIEW sent AS
	SELECT log_index, epoch, n - 1 AS position, txn #>> '{tx_class,write_set,0,Document,collection}' AS collection,
		btrim(convert_from((txn #>> '{tx_class,plans}')::bytea, 'UTF8'), ' x') AS payload, (txn #>> '{tx_class,tenant_id}')::bigint AS tenant_id
	FROM seq_log, LATERAL jsonb_array_elements(seq_decode(entry) #> '{EpochBatch,txns}') WITH ORDINALITY t (txn, n)
	WHERE kind = 'epoch_batch';
EOS
}

# "collection=payload" of each, behind a log_index.
sub sent
{
	my ($node, $db, $after) = @_;

	return sql($node, $db,
		"SELECT coalesce(string_agg(collection || '=' || payload, ' ' ORDER BY log_index, position), '') FROM sent WHERE log_index > " . ($after || 0));
}

sub sent_count
{
	my ($node, $db) = @_;

	return sql($node, $db, "SELECT count(*), count(DISTINCT (collection, payload)) FROM sent");
}

# Until all that was committed is in the log: the sequencer has looked, and says so.
sub wait_sequenced
{
	my ($node, $db) = @_;

	return wait_for_sql($node, $db, <<EOS);
SELECT waiting_rows = 0 AND waits_for IS NULL AND EXISTS (SELECT FROM pg_stat_activity WHERE pid = s.pid AND query ~ '^waiting (for submissions|to close)')
FROM seq_sequencer s
EOS
}

# A test: these, and no others, in this order, have come into the log since the last
# look.  One more is submitted, behind which nothing of what was before can come.
sub is_next
{
	my ($node, $db, $expected, $desc) = @_;
	my $key = $node->name . " $db";
	my $last = $seen{$key} || 0;
	my $placed = sql($node, $db, "SELECT seq_send('.', '0') AS n \\gset\nSELECT epoch IS NOT NULL FROM seq_submission(:n, '60s')");

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$seen{$key} = sql($node, $db, 'SELECT coalesce(max(log_index), 0) FROM seq_log');
	return is($placed . ' ' . sent($node, $db, $last), $expected eq '' ? 't .=0' : "t $expected .=0", $desc);
}

# What is in the log now has been looked at.
sub forget_sent
{
	my ($node, $db) = @_;

	$seen{ $node->name . " $db" } = sql($node, $db, 'SELECT coalesce(max(log_index), 0) FROM seq_log');
	return;
}

# A session with an open transaction that has appended: what is submitted meanwhile
# waits until it ends.
sub hold_log
{
	my ($node, $db) = @_;
	my $s = session($node, $db);

	$s->query("BEGIN; INSERT INTO seq_log (entry) VALUES ('')");
	return $s;
}

# Until the sequencer stands there: it may not have come to it when those who
# submitted go on.
sub wait_held
{
	my ($node, $db) = @_;

	return wait_for_sql($node, $db, 'SELECT waits_for FROM seq_sequencer', 'append');
}

# Of numbers that were submitted with filled() and begin with 1: how many there are,
# how many distinct, how many in their place, as the log alone tells.
sub numbers
{
	my ($node, $db, $collection) = @_;

	return sql($node, $db, <<EOS);
SELECT count(*), count(DISTINCT i), count(*) FILTER (WHERE i = n)
FROM (SELECT split_part(encode(substr(plans, 1, 20), 'escape'), ' ', 1)::int AS i, row_number() OVER () AS n
	FROM seq_replay(seq_vshard('$collection'), 0, 9000000000)) s
EOS
}

# Bytes of the inbox's partitions.
sub inbox_size
{
	my ($node, $db) = @_;

	return sql($node, $db, q{SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relname ~ '^seq_inbox_[0-9]+$'});
}

# SQL that submits some in one transaction, from a number on, each with so many bytes.
sub filled
{
	my ($collection, $from, $n, $bytes) = @_;

	return sprintf(
		q{DO $$ BEGIN PERFORM seq_send_bytes('%s', convert_to(rpad(i || ' ', %d, 'x'), 'UTF8')) FROM generate_series(%d, %d) i; END $$},
		$collection, $bytes || 20, $from, $from + $n - 1);
}

1;
