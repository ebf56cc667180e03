# Lossless streams on a hot standby: the same rows, from the same cursors; what
# writes is for the primary only; the session lives through a promotion.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node('primary', -streaming => 1);
create_extension($primary);
my ($va, $vb) = map { vshard_of($_) } qw(a b);
my $small = [ [ 'a', 'b' ], 'ab', 1 ];
my $bulk = [ ['a'], 'cd' x 200, 2 ];
my $large = [ [ 'a', 'b' ], 'ef' x 9000, 3 ];
my $epoch = 0;

# Batches of the next epochs, each with these transactions.
sub append
{
	my ($node, $count, @txns) = @_;

	append_hex($node, 'postgres', map { batch_hex($_, 1000 + $_, @txns) } $epoch .. $epoch + $count - 1);
	$epoch += $count;
	return;
}

# One that jumps over some epochs.
sub gap
{
	my ($node) = @_;

	$epoch += 5;
	sql($node, 'postgres', "SELECT seq_append('\\x" . batch_hex($epoch, 7, $small, $small) . "', true)");
	$epoch++;
	return;
}

# Rows in the order they come, each with all of its bytes; per vshard.
my $digest = "string_agg(concat_ws(' ', epoch, position, md5(t::text)), ',' ORDER BY n)";

sub received
{
	my ($session, $name, $max) = @_;

	$max ||= 100000;
	return $session->query("SELECT vshard, $digest FROM (SELECT row_number() OVER () AS n, t, (t).* FROM seq_receive($max, '0', '$name') t) t GROUP BY 1 ORDER BY 1");
}

sub replayed
{
	my ($session, $from_epoch, $from_position) = @_;

	return $session->query("SELECT vshard, $digest FROM (SELECT row_number() OVER () AS n, t, (t).* FROM unnest('{$va,$vb}'::int[]) v, seq_replay(v, $from_epoch, 1000000) t WHERE (t.epoch, t.position) >= ($from_epoch, "
	  . ($from_position || 0) . ")) t GROUP BY 1 ORDER BY 1");
}

# What there is from the cursors on.
sub from_cursors
{
	my ($session) = @_;

	return $session->query("SELECT vshard, $digest FROM (SELECT row_number() OVER () AS n, t, (t).* FROM seq_cursors c, seq_replay(c.vshard, c.epoch, 1000000) t WHERE c.name = 'w' AND (t.epoch, t.position) >= (c.epoch, c.position)) t GROUP BY 1 ORDER BY 1");
}

# A cursor, with something behind it.
append($primary, 3, $small);
wait_for_epoch($primary, 'postgres', $epoch - 1);
sql($primary, 'postgres', <<"EOS");
SELECT seq_subscribe('{$va,$vb}', 'w', from_epoch => 0);
BEGIN; SELECT count(*) FROM seq_receive(4, '0', 'w'); SELECT seq_commit('w'); COMMIT;
EOS
append($primary, 2, $small);

$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
wait_for_applier($standby, 'postgres');
wait_for_epoch($standby, 'postgres', $epoch - 1);

my $session = session($standby, 'postgres');
my $reader = session($standby, 'postgres');

#
# Receiving
#
$session->query("SELECT seq_subscribe('{$va,$vb}', 'w', queue_size => 8192)");
like(received($session, 'w'), qr/^$va\|2 0 .*\n$vb\|2 0 /, 'the stream begins at the cursor that was replicated');

$session->query("SELECT seq_subscribe('{$va,$vb}', 'live', queue_size => 8192)");
my $first = $epoch;
append($primary, 2, $small);
append($primary, 1, ($bulk) x 60, $small);
append($primary, 1, $large);
gap($primary);
append($primary, 1, $small);
wait_for_epoch($standby, 'postgres', $epoch - 1);
cmp_ok($reader->query("SELECT min(dropped) FROM seq_subscriptions WHERE name = 'live'"), '>', 0, 'queues lack something');
my $expected = replayed($reader, $first);
is(received($session, 'live'), $expected, 'full queues, large transactions, gaps: all of it, as replayed');
is($reader->query("SELECT count(*) FROM seq_subscriptions WHERE name = 'live' AND lag = 0 AND replayed > 0"), 2, 'partly from the log');
is(received($session, 'live'), '', 'once');

# in pieces, taken back, in an older snapshot
$session->query("SELECT seq_subscribe('{$va,$vb}', 'live', from_epoch => $first, queue_size => 8192)");
$session->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM seq_log');
received($session, 'live', 30);
my $begin = $epoch;
gap($primary);
append($primary, 2, $large);
wait_for_epoch($standby, 'postgres', $epoch - 1);
received($session, 'live', 100);
$session->query('SAVEPOINT s');
received($session, 'live');
$session->query('ROLLBACK TO s');
$session->query('ROLLBACK');
is(received($session, 'live'), replayed($reader, $first), 'rolled back: all of it again');

# a waiting call
foreach my $kind (\&gap, sub { append($_[0], 1, $small) }, sub { append($_[0], 1, $large) })
{
	$session->send("SELECT count(*), max(epoch) FROM seq_receive(1, '60s', 'live')");
	wait_for_sql($standby, 'postgres', 'SELECT wait_event_type FROM pg_stat_activity WHERE pid = ' . $session->pid, 'Extension');
	$kind->($primary);
	my $seconds = elapsed { is(($session->finish)[0], '1|' . ($epoch - 1), 'a waiting call gets what comes') };
	cmp_ok($seconds, '<', within(20), 'at once');
	# what came for the other vshard, perhaps a moment later
	wait_for_epoch($standby, 'postgres', $epoch - 1);
	received($session, 'live');
}

# the applier ends
my $from = $epoch;
append($primary, 1, $small);
wait_for_epoch($standby, 'postgres', $epoch - 1);
my $pid = applier_pid($standby, 'postgres');
$reader->query("SELECT pg_terminate_backend($pid, 10000)");
append($primary, 1, $bulk, $small);
wait_until(sub { my $p = applier_pid($standby, 'postgres'); $p && $p != $pid }, 'the next applier');
gap($primary);
append($primary, 1, $small);
wait_for_epoch($standby, 'postgres', $epoch - 1);
is(received($session, 'live'), replayed($reader, $from), 'an applier that ended took nothing along');

#
# Cursors
#
foreach my $call ("seq_commit('live')", "seq_commit('w')", "seq_drop_cursor('w')", "seq_drop_cursor('nobody')")
{
	like($session->error("SELECT $call"), qr/^25006: cannot execute seq_\w+\(\) during recovery/, "$call is for the primary");
}
is($session->query("SELECT seq_rewind('w')"), '', 'seq_rewind works');
is(received($session, 'w'), from_cursors($reader), 'and leads back to the cursor');
received($session, 'live');
like($session->error('SELECT 1/0'), qr/^22012/, 'a rollback');
is(received($session, 'w'), from_cursors($reader), 'does so as well');

# moved on the primary, and dropped
wait_for_epoch($primary, 'postgres', $epoch - 1);
sql($primary, 'postgres', <<"EOS");
SELECT seq_subscribe('{$va,$vb}', 'w');
BEGIN; SELECT count(*) FROM seq_receive(10, '0', 'w'); SELECT seq_commit('w'); COMMIT;
EOS
$primary->wait_for_catchup($standby);
my $cursors = "SELECT vshard, epoch, position FROM seq_cursors ORDER BY 1";
is($reader->query($cursors), sql($primary, 'postgres', $cursors), 'cursors are replicated');
$session->query("SELECT seq_rewind('w')");
cmp_ok($reader->query('SELECT max(epoch) FROM seq_cursors'), '>', 2, 'one was moved');
is(received($session, 'w'), from_cursors($reader), 'where it is known now');

#
# Promotion
#
$from = $epoch;
append($primary, 1, $small, ($bulk) x 50);
$primary->wait_for_catchup($standby);
$session->query("SELECT seq_rewind('w')");
received($session, 'w', 3);
$primary->stop;
$standby->promote;
append($standby, 2, $small, $large);
gap($standby);
wait_for_epoch($standby, 'postgres', $epoch - 1);
is(received($session, 'live'), replayed($reader, $from), 'the session goes on through a promotion');
$session->query("SELECT seq_rewind('w')");
$session->query('BEGIN');
is(received($session, 'w'), from_cursors($reader), 'from the cursor');
cmp_ok($session->query("SELECT seq_commit('w')"), '>', 0, 'and can commit now');
$session->query('COMMIT');
is($reader->query("SELECT count(*) FROM seq_cursors WHERE name = 'w' AND epoch >= $epoch - 1"), 2, 'the cursors are at the end');
append($standby, 1, $small);
wait_for_epoch($standby, 'postgres', $epoch - 1);
is($session->query("SELECT count(*) FROM seq_receive(10, '0', 'w')"), 2, 'and so is the stream');
$_->quit foreach $session, $reader;
$standby->stop;
unlike(slurp_file($_->logfile), qr/PANIC|TRAP|terminated by signal/, 'nothing crashed') foreach $primary, $standby;
done_testing();
