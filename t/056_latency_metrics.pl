# Latency from append to fan-out: of what came while the applier was there to
# take it, and of nothing else.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $db = 'postgres';
my $node = new_node('latency');
my $applier = create_extension($node, $db);
my $txn = [ ['a'], 'ab', 1 ];
my $second = 1_000_000;

# p50, p99 and max in microseconds, '' for null
sub latency { return split /\|/, sql($node, $db, 'SELECT latency_p50_us, latency_p99_us, latency_max_us FROM seq_metrics'), -1 }

sub is_null { my ($what) = @_; is(join('|', latency()), '||', "$what: null"); return }

sub in_order
{
	my ($what) = @_;
	my ($p50, $p99, $max) = latency();

	ok($p50 ne '' && $p50 >= 0 && $p50 <= $p99 && $p99 <= $max, "$what: p50 <= p99 <= max")
	  or diag "$p50 $p99 $max";
	return ($p50, $p99, $max);
}

sub append
{
	my ($first, $last) = @_;
	append_batches($node, $db, $first, $last, [$txn]);
	wait_for_epoch($node, $db, $last);
	return;
}

# While the applier cannot: append, and give the microseconds it could not.
sub append_held
{
	my ($first, $last, $seconds) = @_;

	kill 'STOP', $applier;
	append_batches($node, $db, $first, $last, [$txn]);
	usleep($seconds * $second);
	kill 'CONT', $applier;
	wait_for_epoch($node, $db, $last);
	return;
}

is_null('before the first append');
sql($node, $db, "INSERT INTO seq_log (entry) VALUES (''), ('\\x" . ack_hex(0, 0, 1) . "'), ('\\x92')");
wait_applied($node, $db);
is_null('what is not fanned out');

append(0, 0);
my ($p50, $p99, $max) = in_order('one append');
# a percentile is the upper limit of its bucket, but never above the largest
is($p50, $max, 'of one, both percentiles are the largest');
cmp_ok($max, '>', 0, '... which took some time');

# A delay that is known: of one among many it is the largest only, ...
append(1, 300);
append_held(301, 301, 0.5);
($p50, $p99, $max) = in_order('one late among many');
cmp_ok($max, '>=', 0.5 * $second, 'the largest one is there');
cmp_ok($p50, '<', $max, '... the median is not it');

# ... of many it is the median too, within an eighth.
sql($node, $db, 'SELECT seq_metrics_reset()');
is_null('after a reset');
append_held(302, 305, 1);
($p50, $p99, $max) = in_order('all late');
cmp_ok($p50, '>=', $second, "the median is late ($p50)");
cmp_ok($p50, '<=', $max, '... and is not more than the largest');

# Reset: the counters from zero, the state and its digest as they were.
my $state = state($node, $db);
sql($node, $db, 'SELECT seq_metrics_reset()');
is_null('after a second reset');
is( sql($node, $db, <<'EOS'), '0|0|0|0|0|0|0|0|0|0', 'the counters start again');
SELECT epochs_applied, txns_fanned_out, txns_dropped_backpressure, epochs_skipped_gap, epochs_skipped_stale,
	entries_applied, entries_noop, entries_undecodable, completion_acks, bytes_applied
FROM seq_metrics
EOS
is(state($node, $db), $state, 'the state is as before');
append(306, 306);
is(sql($node, $db, 'SELECT epochs_applied, entries_applied, bytes_applied FROM seq_metrics'),
	'1|1|' . length(batch_hex(306, 1306, $txn)) / 2, '... and count what comes');
($p50, $p99, $max) = in_order('after the reset');

# A gap and a stale batch are not fanned out.
sql($node, $db, 'SELECT seq_metrics_reset()');
sql($node, $db, "INSERT INTO seq_log (entry) VALUES ('\\x" . batch_hex(400, 1, $txn) . "'), ('\\x" . batch_hex(3, 1, $txn) . "')");
wait_applied($node, $db);
is_null('a gap and a stale batch');

# The applier was away: what came meanwhile is catch-up, however late.
append(401, 401);
my $before = join '|', latency();
my $launcher = sql($node, $db, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'calvin_seq launcher'");
kill 'STOP', $launcher;
sql($node, $db, "SELECT pg_terminate_backend($applier, 30000)");
append_batches($node, $db, 402, 410, [$txn]);
usleep(1.5 * $second);
is(sql($node, $db, 'SELECT last_applied_epoch FROM seq_state'), 401, 'nobody applies');
kill 'CONT', $launcher;
wait_for_epoch($node, $db, 410);
is(join('|', latency()), $before, 'what a new applier finds is not counted');
$applier = wait_for_applier($node, $db);
append_held(411, 411, 0.3);
($p50, $p99, $max) = in_order('after the catch-up');
cmp_ok($max, '>=', 0.3 * $second, 'what comes after it is');
is(sql($node, $db, 'SELECT epochs_applied FROM seq_metrics'), 11, 'the other counters have all');

# So it is after a restart of the server, whatever its log holds.
$state = state($node, $db);
$node->stop;
usleep(0.2 * $second);
$node->start;
$applier = wait_for_applier($node, $db);
wait_applied($node, $db);
is(state($node, $db), $state, 'restarted: the same state');
is_null('restarted');
append(412, 412);
in_order('restarted, and appended');

# A fresh log has no past.
sql($node, $db, 'DROP EXTENSION calvin_seq');
$applier = create_extension($node, $db);
is_null('a new log');
is(sql($node, $db, 'SELECT epochs_applied, entries_applied, bytes_applied FROM seq_metrics'), '0|0|0', '... nor counters');
append(0, 0);
in_order('a new log, appended to');

$node->stop;
done_testing();
