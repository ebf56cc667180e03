# Where a submission went, what the view shows, and when an epoch closes.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinSequencer;
use CalvinSubmit;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', 'calvin_seq.submissions_remembered' => 10);
my $db = 'postgres';
my ($n, $number, $s, $u);

create_extension($node);
create_sent($node, $db);
($s, $u) = map { session($node, $db) } 1 .. 2;

sub set
{
	my (%settings) = @_;

	sql($node, $db, join('', map { "ALTER SYSTEM SET calvin_seq.$_ = '$settings{$_}';\n" } sort keys %settings) . 'SELECT pg_reload_conf()');
	# the sequencer has read it when it has served a signal that came later
	my $pid = wait_for_sequencer($node, $db);
	my $offset = log_offset($node);
	sql($node, $db, "SELECT pg_log_backend_memory_contexts($pid)");
	wait_for_log_line($node, qr/logging memory contexts of PID $pid/, $offset);
	return;
}

#
# seq_submission
#
$s->query('BEGIN');
$number = $s->query("SELECT seq_send('a', '1')");
is($s->query("SELECT * FROM seq_submission($number)"), '|', 'before COMMIT it is nowhere, for its own transaction');
is($u->query("SELECT * FROM seq_submission($number)"), '|', 'nor for others');
cmp_ok((elapsed { $n = $u->query("SELECT * FROM seq_submission($number, '300ms')") }), '>=', 0.3, 'it is waited for as long as was said');
is($n, '|', 'and is nowhere then');
$u->send("SELECT * FROM seq_submission($number, '1 minute')");
ok($u->running, 'who waits longer');
$s->query('COMMIT');
my ($place) = $u->finish;
is($place, sql($node, $db, "SELECT epoch, position FROM sent WHERE collection = 'a'"), 'is told where it is, when it is');
is($u->query("SELECT * FROM seq_submission($number)"), $place, 'asked at once, too');
is($u->query("SELECT (seq_submission($number)).epoch IS NOT NULL"), 't', 'it is a row');
like(sql_error($node, $db, "SELECT seq_submission($_)"), qr/^22023: there is no submission $_\n/, "no number that was given: $_") foreach 0, -1, $number + 100000, '9223372036854775807';
is($u->query("SELECT seq_submission(NULL) IS NULL"), 't', 'null');

my @numbers = split /\n/, $s->query("SELECT seq_send('b', to_jsonb(i)) FROM generate_series(1, 10) i");
is(scalar(grep { $u->query("SELECT epoch IS NOT NULL FROM seq_submission($_, '1 minute')") eq 't' } @numbers), 10, 'the last ten are remembered');
is(join(' ', map { $u->query("SELECT position FROM seq_submission($_)") } @numbers), join(' ', 0 .. 9), 'each with its place');
like($u->error("SELECT seq_submission($number)"), qr/^55000: submission $number is not known any more\nDETAIL: .*\nHINT: .*calvin_seq\.submissions_remembered/, 'the one before is not');
is($u->query("SELECT epoch IS NOT NULL FROM seq_submission($numbers[0])"), 't', 'the first of them is, still');

# rolled back: nowhere, for ever
$s->query('BEGIN');
$number = $s->query("SELECT seq_send('a', '1')");
$s->query('ROLLBACK');
like($u->error("SELECT * FROM seq_submission($number, '1 minute')"), qr/^55000: submission $number is not known any more\n/,
	'nobody waits for one that was rolled back');
$s->query("SELECT seq_send('b', to_jsonb(i)) FROM generate_series(1, 30) i");
wait_sequenced($node, $db);
like($u->error("SELECT seq_submission($number, '1 minute')"), qr/^55000: submission $number is not known any more\n/, 'and is forgotten as others are');

# not waited for in vain
$s->query('BEGIN');
$number = $s->query("SELECT seq_send('a', '1')");
$u->send("SELECT * FROM seq_submission($number, '1 minute')");
ok($u->running, 'waiting');
sql($node, $db, 'SELECT pg_cancel_backend(' . $u->pid . ')');
like(($u->finish)[1], qr/^57014: /, 'who waits can be cancelled');
$s->query('COMMIT');

my ($last) = sql($node, $db, "SELECT seq_send('a', '1')");
wait_sequenced($node, $db);
$_->quit foreach $s, $u;
$node->restart;
wait_for_sequencer($node, $db);
wait_for_applier($node, $db);
like(sql_error($node, $db, "SELECT seq_submission($last)"), qr/^55000: submission $last is not known any more\nDETAIL:  It was made before the server started\.\nHINT: |^22023: there is no submission $last\n/, 'before the restart: an error');
is(sql($node, $db, "SELECT seq_send('a', '1') > $last"), 't', 'the numbers go on');
like(sql_error($node, $db, "SELECT seq_submission($last)"), qr/^55000: submission $last is not known any more\nDETAIL:  It was made before the server started\.\nHINT: /, 'and the error says so');
forget_sent($node, $db);

#
# The view
#
$node->restart;
wait_for_sequencer($node, $db);
wait_for_applier($node, $db);
is(sql($node, $db, 'SELECT pid > 0, state, submitted, sequenced, epochs, waiting_rows, waiting_bytes, oldest_waiting, waits_for, waits_for_pids, rejected, latency_p50_us, latency_p99_us, latency_max_us, last_error, last_error_at FROM seq_sequencer'),
	't|running|0|0|0|0|0||||0|||||', 'at the start there is nothing');
is(sql($node, $db, 'SELECT pid FROM seq_sequencer'), sequencer_pid($node, $db), 'but the process');
# each alone, or a slow sequencer would find two at once
sql($node, $db, filled('a', 1, 5, 100));
wait_sequenced($node, $db);
sql($node, $db, filled('a', 6, 1, 100));
wait_sequenced($node, $db);
sql($node, $db, "BEGIN; SELECT seq_send('a', '1'); ROLLBACK");
sql($node, $db, "BEGIN; SAVEPOINT s; SELECT seq_send('a', '1'); ROLLBACK TO s; SELECT seq_send('a', '2'); COMMIT");
wait_sequenced($node, $db);
is(sql($node, $db, 'SELECT submitted, sequenced, epochs, waiting_rows, waiting_bytes FROM seq_sequencer'), '7|7|3|0|0', 'seven submitted, in three epochs, none waits');
is(sql($node, $db, 'SELECT latency_p50_us > 0, latency_p99_us >= latency_p50_us, latency_max_us >= latency_p99_us, latency_max_us < 60e6 FROM seq_sequencer'), 't|t|t|t', 'latencies');
my $hold = hold_log($node, $db);
sql($node, $db, filled('a', 7, 3, 100));
my $first = sql($node, $db, 'SELECT now()');
sql($node, $db, filled('a', 10, 1, 100));
my ($rows, $bytes, $oldest) = split /\|/, sql($node, $db, "SELECT waiting_rows, waiting_bytes, oldest_waiting <= '$first' FROM seq_sequencer");
is("$rows $oldest", '4 t', 'four wait, since before the last came');
cmp_ok($bytes, '>', 400, 'with their bytes');
cmp_ok($bytes, '<', 600, 'and not much more');
is(sql_error($node, $db, "SELECT seq_send_bytes('a', convert_to(repeat('x', 1048577), 'UTF8'))") =~ /^54000: /, 1, 'one is refused');
is(sql($node, $db, 'SELECT rejected, rejected_plans_bytes, rejected_no_participants FROM seq_sequencer'), '1|1|0', 'and counted by its reason');
$hold->query('ROLLBACK');
wait_sequenced($node, $db);
is(sql($node, $db, "SELECT latency_max_us BETWEEN 1 AND 60e6, submitted, sequenced FROM seq_sequencer"), 't|11|11', 'all of them are in the log');
# who only watches
sql($node, $db, 'CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher');
$s = session($node, $db, user => 'watcher');
is($s->query('SELECT submitted FROM seq_sequencer'), 11, 'pg_monitor may look');
like($s->error("SELECT seq_send('a', '1')"), qr/^42501: /, 'and do no more');
$s->quit;
sql($node, $db, 'CREATE ROLE nobody_special LOGIN');
$s = session($node, $db, user => 'nobody_special');
like($s->error($_), qr/^42501: /, "others may not: $_") foreach 'SELECT * FROM seq_sequencer', "SELECT seq_submission(1)", "SELECT seq_send('a', '1')", 'SELECT * FROM seq_inbox', 'SELECT * FROM seq_inbox_waiting()', 'SELECT * FROM seq_inbox_0';
$s->quit;
forget_sent($node, $db);

#
# When an epoch closes
#
sub epochs
{
	my ($collection) = @_;

	wait_sequenced($node, $db);
	return sql($node, $db, "SELECT string_agg(n::text, ' ' ORDER BY epoch) FROM (SELECT epoch, count(*) AS n FROM sent WHERE collection = '$collection' GROUP BY epoch) e");
}

set(max_txns_per_epoch => 2);
sql($node, $db, filled('e1', 1, 5));
is(epochs('e1'), '2 2 1', 'max_txns_per_epoch');
set(max_txns_per_epoch => 1024, max_bytes_per_epoch => '1000B');
sql($node, $db, filled('e2', 1, 7, 300) . '; ' . filled('e2', 8, 1, 5000) . '; ');
sql($node, $db, 'BEGIN; ' . filled('e3', 1, 1, 300) . '; ' . filled('e3', 2, 1, 5000) . '; ' . filled('e3', 3, 1, 300) . '; ' . filled('e3', 4, 1, 700) . '; ' . filled('e3', 5, 1, 20) . '; COMMIT');
is(epochs('e2'), '3 3 1 1', 'max_bytes_per_epoch');
is(epochs('e3'), '1 1 2 1', 'one that is larger alone has an epoch of its own');

set(max_bytes_per_epoch => '16MB', epoch_interval => '1s');
is(sql($node, $db, "SELECT count(*) FROM seq_log WHERE kind = 'epoch_batch' AND seq_decode(entry)->'EpochBatch'->'txns' = '[]'"), 0,
	'no submissions, no epoch');
my $seconds = elapsed
{
	sql($node, $db, filled('e4', $_, 1)) foreach 1 .. 4;
	$number = sql($node, $db, "SELECT seq_send('e4', '5')");
	sql($node, $db, "SELECT seq_submission($number, '1 minute')");
};
cmp_ok($seconds, '>=', 1, 'epoch_interval: it waits for more');
is(epochs('e4'), '5', 'which come into the same epoch') if $seconds < 2;
# a full one does not wait
set(epoch_interval => '1min', max_txns_per_epoch => 3);
$seconds = elapsed
{
	my @three = split /\n/, sql($node, $db, join('', map { "SELECT seq_send('e5', '$_');\n" } 1 .. 3));
	is(sql($node, $db, "SELECT epoch IS NOT NULL FROM seq_submission($three[2], '50s')"), 't', 'a full epoch');
};
cmp_ok($seconds, '<', within(20), 'is closed at once');
is(epochs('e5'), '3', 'as one');
# one of one transaction, and one of many bytes
$number = sql($node, $db, filled('e8', 1, 2) . "; SELECT seq_send('e8', '3')");
is(sql($node, $db, "SELECT epoch IS NOT NULL FROM seq_submission($number, '50s')"), 't', 'also when two come at once');
set(max_txns_per_epoch => 1024, max_bytes_per_epoch => '1000B');
$number = sql($node, $db, filled('e9', 1, 1, 400) . "; SELECT seq_send_bytes('e9', convert_to(rpad('2 ', 700, 'x'), 'UTF8'))");
is(sql($node, $db, "SELECT epoch IS NOT NULL FROM seq_submission($number, '50s')"), 't', 'or many bytes');
set(max_bytes_per_epoch => '16MB');
# and a change of the setting is noticed by one that waits
$number = sql($node, $db, "SELECT seq_send('e6', '1')");
is(sql($node, $db, "SELECT epoch IS NULL FROM seq_submission($number, '200ms')"), 't', 'one alone waits');
sql($node, $db, "ALTER SYSTEM SET calvin_seq.epoch_interval = 0; SELECT pg_reload_conf()");
is(sql($node, $db, "SELECT epoch IS NOT NULL FROM seq_submission($number, '50s')"), 't', 'until it is told not to');
set(epoch_interval => 0, max_txns_per_epoch => 1024);

# the clock of the epochs
my $entry = "seq_decode(entry) #>> '{EpochBatch,epoch_system_ms}'";
sql($node, $db, "SELECT seq_send('c', '1')");
wait_sequenced($node, $db);
is(sql($node, $db, "SELECT abs(($entry)::bigint - extract(epoch FROM now()) * 1000) < 60000 FROM seq_log ORDER BY log_index DESC LIMIT 1"), 't', 'epoch_system_ms is the wall clock');
sql($node, $db, q{SELECT seq_append_json('{"EpochBatch": {"epoch_system_ms": 9000000000000, "txns": []}}')});
sql($node, $db, "SELECT seq_send('c', '2')");
wait_sequenced($node, $db);
is(sql($node, $db, "SELECT $entry FROM seq_log ORDER BY log_index DESC LIMIT 1"), '9000000000000', 'never below that of the batch before');
# with those who append themselves
sql($node, $db, q{BEGIN; SELECT seq_append_json('{"EpochBatch": {"txns": []}}'); SELECT seq_send('c', '3'); SELECT seq_append_json('{"EpochBatch": {"txns": []}}'); COMMIT});
wait_sequenced($node, $db);
is(sql($node, $db, "SELECT count(DISTINCT epoch) = count(*), max(epoch) - min(epoch) + 1 = count(*), count(*) FILTER (WHERE kind <> 'epoch_batch') FROM seq_log WHERE kind ~ 'batch'"), 't|t|0', 'beside seq_append the epochs have no holes');

$hold->quit;
$node->stop;
nothing_crashed($node);
done_testing();
