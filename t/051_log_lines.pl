# What is out of the ordinary is said in the server log, once and with its
# log_index, is counted, and has the effect on the state that it should have.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use CalvinVectors;
use CalvinWire;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node('lines', log_line_prefix => '%p %b ');
my $db = 'postgres';
my $applier = create_extension($node, $db);
my $offset;

sub hex_of { return unpack 'H*', $_[0] }

# Lines of the applier since $offset, each with its DETAIL behind it.
sub said
{
	my @lines;

	for my $line (split /\n/, log_since($node, $offset))
	{
		next unless $line =~ s/^\d+ calvin_seq applier //;
		if ($line =~ s/^DETAIL:\s+//) { $lines[-1] .= " | $line" }
		else { push @lines, $line =~ s/^(\w+):\s+calvin_seq: /$1: /r }
	}
	return @lines;
}

sub counters
{
	return sql($node, $db, <<'EOS');
SELECT concat_ws(' ', 'applied', epochs_applied, 'fanned', txns_fanned_out, 'dropped', txns_dropped_backpressure,
	'gap', epochs_skipped_gap, 'stale', epochs_skipped_stale, 'entries', entries_applied,
	'noop', entries_noop, 'undecodable', entries_undecodable, 'acks', completion_acks)
FROM seq_metrics
EOS
}

# Insert one entry from the hex, wait, and give what was said about it.
sub insert
{
	my ($hex) = @_;

	$offset = log_offset($node);
	sql($node, $db, "INSERT INTO seq_log (entry) VALUES ('\\x$hex')");
	wait_applied($node, $db);
	return join "\n", said();
}

sub position { return sql($node, $db, 'SELECT last_applied_epoch, last_applied_index, log_end, lag, applier_state FROM seq_state') }

my $txn = [ ['a'], 'ab', 1 ];
my $va = vshard_of('a');

#
# Entries
#
is(insert(batch_hex(0, 1, $txn)), '', 'a batch in its turn: no line');
is(insert(''), '', 'a no-op: no line');
is(insert(ack_hex(0, 0, $va)), '', 'an ack: no line');
is(position(), '0|3|3|0|idle', '... and applied');

my $before = digest($node, $db);
is( insert('92aa45706f636842617463689193ff90ff'),
	'WARNING: entry at log_index 4 is undecodable and was skipped | At byte 14: wrong type, expected an unsigned integer up to 9223372036854775806 for epoch.',
	'undecodable: log_index, offset and reason');
is(position(), '0|4|4|0|idle', '... passed over: the index moves, the epoch does not');
isnt(digest($node, $db), $before, '... and is part of the digest');
like(insert('92'), qr/^WARNING: entry at log_index 5 is undecodable and was skipped \| At byte 1: /, 'cut off');
is(counters(), 'applied 1 fanned 0 dropped 0 gap 0 stale 0 entries 5 noop 1 undecodable 2 acks 1', 'counted');

is( insert(batch_hex(4, 1, $txn)),
	'WARNING: epoch gap at log_index 6: epoch 4 came where 1 was next | The batch was not fanned out; consumers get it from the log.',
	'gap: log_index, the epoch and the one expected');
is(position(), '4|6|6|0|idle', '... and the epoch advances to it');
is( insert(batch_hex(4, 1, $txn)),
	'LOG: stale batch at log_index 7: epoch 4 came where 5 was next | It is part of no stream.',
	'stale: the same epoch again');
like(insert(batch_hex(2, 1, $txn)), qr/^LOG: stale batch at log_index 8: epoch 2 came where 5 was next \|/, 'stale: an older one');
is(position(), '4|8|8|0|idle', '... and the epoch stays');
is(counters(), 'applied 1 fanned 0 dropped 0 gap 1 stale 2 entries 8 noop 1 undecodable 2 acks 1', 'counted');
is(sql($node, $db, 'SELECT last_error IS NULL AND last_error_at IS NULL FROM seq_state'), 't', 'none of this is an error of the applier');

# Several at once, in one transaction: in order, and each once.
$offset = log_offset($node);
sql($node, $db, "INSERT INTO seq_log (entry) VALUES ('\\x92'), ('\\x" . batch_hex(9, 1, $txn) . "'), ('\\x"
	  . batch_hex(5, 1, $txn) . "'), ('\\x93')");
wait_applied($node, $db);
is_deeply(
	[ map { /^(\w+: .* at log_index \d+)/ ? $1 : $_ } said() ],
	[ 'WARNING: entry at log_index 9', 'WARNING: epoch gap at log_index 10', 'LOG: stale batch at log_index 11', 'WARNING: entry at log_index 12' ],
	'several in one burst: each is named, in order');
is(position(), '9|12|12|0|idle', '... and applied');

#
# Rows that do not say what their entry is.  The extension derives both
# columns; but an owner can have a trigger of his own behind its trigger.
#
sql($node, $db, <<'EOS');
CREATE FUNCTION lie() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.kind := nullif(current_setting('lie.kind'), '');
	NEW.epoch := nullif(current_setting('lie.epoch'), '')::bigint;
	RETURN NEW;
END $$;
CREATE TRIGGER zz_lie BEFORE INSERT ON seq_log FOR EACH ROW EXECUTE FUNCTION lie();
ALTER TABLE seq_log DISABLE TRIGGER zz_lie;
EOS

sub insert_lie
{
	my ($hex, $kind, $epoch) = @_;

	$offset = log_offset($node);
	sql($node, $db, "BEGIN; ALTER TABLE seq_log ENABLE TRIGGER zz_lie; SET lie.kind = '$kind'; SET lie.epoch = '$epoch';"
		  . " INSERT INTO seq_log (entry) VALUES ('\\x$hex'); ALTER TABLE seq_log DISABLE TRIGGER zz_lie; COMMIT;");
	wait_applied($node, $db);
	return join "\n", said();
}

# The line about such a row: what it says, and what is so.
sub mismatch
{
	my ($log_index, $row, $entry) = @_;
	return qr/^WARNING: .*row .*log_index $log_index says $row, but its entry is $entry \|/m;
}

is(insert(batch_hex(10, 1, $txn)), '', 'a batch in its turn again');
like( insert_lie(batch_hex(11, 1, $txn), 'noop', ''),
	mismatch(14, qr/noop\b.*/, qr/epoch_batch of epoch 11/),
	'a batch in a row that calls it a no-op');
is(position(), '11|14|14|0|idle', '... the entry counts');
like( insert_lie(ack_hex(1, 2, 3), 'epoch_batch', '12'),
	mismatch(15, qr/epoch_batch of epoch 12/, qr/completion_ack of epoch 1/),
	'an ack in a row that calls it a batch');
is(position(), '11|15|15|0|idle', '... the entry counts');
like(sql_error($node, $db, "SELECT * FROM seq_replay($va, 12, 12)"),
	qr/^XX001: .*log_index 15 /, '... and replay does not make it up');
is( sql($node, $db, "SELECT epoch FROM seq_replay($va, 9, 11) ORDER BY 1"), "9\n10", '... nor does it see the other one');
is(sql($node, $db, 'SELECT completion_acks, epochs_applied FROM seq_metrics'), '2|3', '... counted as what they are');

like(insert_lie(batch_hex(12, 1, $txn), 'epoch_batch', '13'),
	mismatch(16, qr/epoch_batch of epoch 13/, qr/epoch_batch of epoch 12/), 'a batch in a row with another epoch');
like(insert_lie('92', 'completion_ack', '5'), mismatch(17, qr/completion_ack of epoch 5/, qr/undecodable\b.*/), 'an undecodable one called an ack');
is(scalar(my @two = said()), 2, '... of which both is said');
like(insert_lie(ack_hex(1, 2, 3), 'completion_ack', '7'),
	mismatch(18, qr/completion_ack of epoch 7/, qr/completion_ack of epoch 1/), 'an ack in a row with another epoch');
is(insert_lie(ack_hex(1, 2, 3), 'completion_ack', '1'), '', 'a row that says what is so, whoever wrote it: no line');
like(insert_lie(batch_hex(3, 1, $txn), 'stale_batch', '4'),
	mismatch(20, qr/stale_batch of epoch 4/, qr/stale_batch of epoch 3/), 'a stale batch in a row with another epoch');
like(insert_lie('', 'noop', '4'), mismatch(21, qr/noop of epoch 4/, qr/noop\b.*/), 'a no-op in a row with an epoch');

# The straight way in: a superuser who takes the guard away.
$offset = log_offset($node);
sql($node, $db, <<"EOS");
BEGIN;
ALTER EVENT TRIGGER seq_log_guard DISABLE;
ALTER TABLE seq_log DISABLE TRIGGER seq_log_assign;
INSERT INTO seq_log (log_index, entry, kind) VALUES (22, '\\x@{[ batch_hex(13, 1, $txn) ]}', 'undecodable');
ALTER TABLE seq_log ENABLE ALWAYS TRIGGER seq_log_assign;
ALTER EVENT TRIGGER seq_log_guard ENABLE ALWAYS;
SELECT seq_append('');
COMMIT;
EOS
wait_applied($node, $db);
like(join("\n", said()), mismatch(22, qr/undecodable\b.*/, qr/epoch_batch of epoch 13/), 'a row put in past the triggers');
is(scalar(@two = said()), 1, '... of which one line is said');
is(position(), '13|23|23|0|idle', '... the entry counts');
is(applier_pid($node, $db), $applier, 'all that by one applier');

#
# A full queue.  The queue of the smallest size takes a few of these.
#
my $first = 14;

sub transactions { my ($n, $collections) = @_; return map { [ $collections || ['a'], 'ab' x 1000, 1 ] } 1 .. $n }

sub subscriptions
{
	return sql($node, $db, 'SELECT vshard, name, sent, dropped, state FROM seq_subscriptions ORDER BY 1, 2');
}

my ($small, $large) = map { session($node, $db) } 1 .. 2;
my $vb = vshard_of('b');
sql($node, $db, 'SELECT seq_metrics_reset()');
$small->query("SELECT seq_subscribe('{$va}', 'small', queue_size => 8192, lossless => false)");
$large->query("SELECT seq_subscribe('{$va,$vb}', 'large', queue_size => 1048576, lossless => false)");
$offset = log_offset($node);
append_hex($node, $db, batch_hex($first, 1, transactions(50, [ 'a', 'b' ])));
append_hex($node, $db, batch_hex($first + 1, 1, transactions(20)));
wait_applied($node, $db);

my ($fit) = $small->query('SELECT sent FROM seq_subscriptions WHERE name = \'small\'');
ok($fit >= 5 && $fit <= 7, "the small queue took $fit of 70");
my $lost = 70 - $fit;
is( subscriptions(),
	join("\n", sort "$va|large|70|0|live", "$va|small|$fit|$lost|stalled", "$vb|large|50|0|live"),
	'one queue is full, the others are not, not even of the same transactions');
is( sql($node, $db, 'SELECT txns_dropped_backpressure, txns_fanned_out FROM seq_metrics'),
	$lost . '|' . ($fit + 120), '... counted');
is(position(), ($first + 1) . '|25|25|0|idle', '... and the applier did not wait');
is_deeply([ said() ], [], '... nothing is said while it lasts');
is($small->query("SELECT string_agg(format('%s.%s', epoch, \"position\"), ' ') FROM seq_receive(100, '0', 'small')"),
	join(' ', map { "$first.$_" } 0 .. $fit - 1), '... what fitted is there');

append_hex($node, $db, batch_hex($first + 2, 1, transactions(1)));
wait_applied($node, $db);
my @said = said();
is(scalar @said, 1, 'one line when it is over');
like( $said[0], qr/^LOG: .*subscription "small" to vshard $va .*full.*: $lost transactions? dropped \|/,
	'... with the total of the episode');
is($said[0] =~ /\((\d+), (\d+)\)/ ? "$1.$2" : $said[0], ($first + 1) . '.19', '... and the last one lost');
is(sql($node, $db, "SELECT state, dropped FROM seq_subscriptions WHERE name = 'small'"), "live|$lost", '... and it is live again');

# The second episode has a line and a total of its own; it ends with a
# transaction that fits, though the ones before and behind it do not.
$small->query("SELECT count(*) FROM seq_receive(100, '0', 'small')");
$offset = log_offset($node);
append_hex($node, $db,
	batch_hex($first + 3, 1, [ ['a'], 'ab' x 20000, 1 ], [ ['a'], 'cd', 1 ], [ ['a'], 'ab' x 20000, 1 ]));
wait_applied($node, $db);
is_deeply([ map { s/^LOG: .*subscription "small" to vshard $va .*full.*: (\d+) transactions? dropped \| .*/$1 dropped/r } said() ], ['1 dropped'],
	'larger than the queue: an episode, over with the next one');
is($small->query("SELECT string_agg(format('%s.%s', epoch, \"position\"), ' ') FROM seq_receive(100, '0', 'small')"),
	($first + 3) . '.1', '... which arrives');
$offset = log_offset($node);
$small->query("SELECT seq_unsubscribe(name => 'small')");
append_hex($node, $db, batch_hex($first + 4, 1, transactions(1)));
wait_applied($node, $db);
is_deeply([ map { s/^LOG: .*subscription "small" to vshard $va .*full.*: (\d+) transactions? dropped \| .*/$1 dropped/r } said() ], ['1 dropped'],
	'an episode cut short by the end of the subscription is told too');
is(sql($node, $db, 'SELECT txns_dropped_backpressure FROM seq_metrics'), $lost + 2, '... and all are counted');

#
# A vanished consumer
#
is($large->query("SELECT count(*), count(DISTINCT (epoch, \"position\")) FROM seq_receive(1000, '0', 'large') WHERE vshard = $va"),
	'75|75', 'the large queue lost nothing');
$offset = log_offset($node);
my $dropped = sql($node, $db, 'SELECT txns_dropped_backpressure FROM seq_metrics');
my $pid = $large->pid;
$large->kill_client;
wait_until(sub { !process_alive($pid) }, 'the consumer to leave');
is(subscriptions(), '', 'its subscriptions are gone with it');
append_hex($node, $db, batch_hex($first + 5, 1, transactions(5)));
wait_applied($node, $db);
is(sql($node, $db, 'SELECT txns_dropped_backpressure FROM seq_metrics'), $dropped, 'who has left before drops nothing');
is_deeply([ said() ], [], '... and nothing is said');

# ... in the middle of a burst: the applier holds the queue and finds nobody.
my $gone = session($node, $db);
my $per_entry = 5000;
my $entries = 300;
$gone->query("SELECT seq_subscribe('{$va}', 'gone', queue_size => 268435456, lossless => false)");
# the same transactions in each batch: the numbers they carry do not count
my $body = hex_of(mp_array(map { txn(0, 0, tx_class(write_set => [ document('a', 1) ])) } 1 .. $per_entry) . mp_int(0));
my $head = hex_of("\x92" . mp_str('EpochBatch') . "\x91\x93\xce");
my $from = $first + 6;
my $to = $from + $entries - 1;
my $caught = 0;
my ($metrics) = sql($node, $db, 'SELECT seq_metrics_reset(); SELECT last_applied_index FROM seq_state');
$offset = log_offset($node);

# stopped while it applies, which a poll of a millisecond or so will see
my $watch = session($node, $db);
$watch->query(<<'EOS');
CREATE FUNCTION await_applying() RETURNS text LANGUAGE plpgsql AS $$
DECLARE state text;
BEGIN
	LOOP
		SELECT s.applier_state INTO state FROM seq_state s;
		EXIT WHEN state = 'applying';
	END LOOP;
	RETURN state;
END $$;
EOS
$watch->send('SELECT await_applying()');
sql($node, $db, "INSERT INTO seq_log (entry)"
	  . " SELECT '\\x$head'::bytea || int4send(n) || '\\x$body'::bytea FROM generate_series($from, $to) n");
$watch->finish;
kill 'STOP', $applier;
usleep(100_000);
$pid = $gone->pid;
my $applied = sql($node, $db, 'SELECT last_applied_epoch FROM seq_state');
kill 'TERM', $pid;
# bounded: the applier may have been stopped with a lock in its hands
for (1 .. 500)
{
	last if !process_alive($pid);
	usleep(10_000);
}
ok($applied < $to, "the applier was stopped in the middle of its work, at $applied of $to");
kill 'CONT', $applier;
wait_applied($node, $db);
is(sql($node, $db, 'SELECT txns_fanned_out + txns_dropped_backpressure FROM seq_metrics'),
	$per_entry * $entries, 'all meant for the one who left were sent or dropped');
cmp_ok(sql($node, $db, 'SELECT txns_dropped_backpressure FROM seq_metrics'), '>', 0, '... some were dropped');
wait_until(sub { said() }, 'a line about it') if !said();
append_hex($node, $db, batch_hex($to + 1, 1, $txn));
wait_applied($node, $db);
@said = grep { /subscription "gone"/ } said();
is(scalar @said, 1, 'one line about it');
like($said[0], qr/^LOG: .*subscription "gone" to vshard $va .*: \d+ transactions? dropped/, '... with a total');
unlike($said[0], qr/full/, '... which does not say that its queue was full');
is(subscriptions(), '', '... and the subscription is gone');
is(sql($node, $db, 'SELECT txns_fanned_out + txns_dropped_backpressure FROM seq_metrics'),
	$per_entry * $entries, '... so that what comes later is not dropped');
is(applier_pid($node, $db), $applier, 'the applier goes on');
is(position(), join('|', $to + 1, ($metrics + $entries + 1) x 2, 0, 'idle'), '... with all of it');
unlike(log_since($node, 0), qr/ calvin_seq applier (?:ERROR|FATAL|PANIC)/, 'no error in all that');

$node->stop;
done_testing();
