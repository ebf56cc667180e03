# A standby of a standby: both derive the same streams and the same state, wait
# for completions that come from the primary, and go on when the one in the
# middle is promoted; so does a session that is in the midst of things then.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $db = 'postgres';
my ($va, $vb) = map { vshard_of($_) } qw(a b);
my $small = [ [ 'a', 'b' ], 'ab', 1 ];
my $bulk = [ ['a'], 'cd' x 200, 2 ];
my $large = [ [ 'a', 'b' ], 'ef' x 9000, 3 ];
my $epoch = 0;

my $primary = new_node('primary', -streaming => 1, 'calvin_seq.snapshot_interval' => 40);
create_extension($primary, $db);
$primary->backup('b');
my $middle = PostgreSQL::Test::Cluster->new('middle');
$middle->init_from_backup($primary, 'b', has_streaming => 1);
$middle->start;
$middle->backup('b');
my $cascade = PostgreSQL::Test::Cluster->new('cascade');
$cascade->init_from_backup($middle, 'b', has_streaming => 1);
$cascade->start;
wait_for_applier($_, $db) foreach $middle, $cascade;

sub append
{
	my ($node, $count, @txns) = @_;

	append_hex($node, $db, map { batch_hex($_, 1000 + $_, @txns) } $epoch .. $epoch + $count - 1);
	$epoch += $count;
	return;
}

sub gap
{
	my ($node) = @_;

	$epoch += 3;
	sql($node, $db, "SELECT seq_append('\\x" . batch_hex($epoch, 7, $small) . "', true)");
	$epoch++;
	return;
}

# All of them at the same index, with the same digest.
sub in_step
{
	my ($desc, $first, @others) = @_;

	wait_applied($first, $db);
	my $state = state($first, $db);
	foreach my $node (@others)
	{
		wait_for_sql($node, $db, 'SELECT last_applied_index FROM seq_state', (split /\|/, $state)[1]);
		is(state($node, $db), $state, "$desc: same epoch and digest at the same log_index on " . $node->name);
	}
	return;
}

my $rows = "string_agg(concat_ws(' ', vshard, epoch, position, md5(t::text)), ',' ORDER BY vshard, n)";

sub received
{
	my ($session, $name, $max) = @_;

	$max ||= 100000;
	return $session->query("SELECT $rows FROM (SELECT row_number() OVER () AS n, t, (t).* FROM seq_receive($max, '0', '$name') t) t");
}

sub replayed
{
	my ($node, $from) = @_;

	return sql($node, $db, "SELECT $rows FROM (SELECT row_number() OVER () AS n, t, (t).* FROM unnest('{$va,$vb}'::int[]) v, seq_replay(v, $from, 1000000) t) t");
}

#
# Both serve
#
my %session = map { ($_->name => session($_, $db)) } $primary, $middle, $cascade;
$_->query("SELECT seq_subscribe('{$va,$vb}', queue_size => 8192)") foreach values %session;
append($primary, 3, $small);
append($primary, 1, ($bulk) x 60, $small);
sql($primary, $db, "INSERT INTO seq_log (entry) VALUES (''), ('\\xc1'), ('\\x" . batch_hex(1, 0, $small) . "')");
gap($primary);
append($primary, 1, $large);
append($primary, 50, $small);
in_step('streaming', $primary, $middle, $cascade);
my $expected = replayed($primary, 0);
foreach my $node ($primary, $middle, $cascade)
{
	my $name = $node->name;
	my $role = $name eq 'primary' ? 'primary' : 'standby';

	is(replayed($node, 0), $expected, "$name: seq_replay");
	is(received($session{$name}, 'default'), $expected, "$name: seq_receive");
	is(sql($node, $db, 'SELECT role, lag, last_error FROM seq_state'), "$role|0|", "$name: seq_state");
	is(sql($node, $db, 'SELECT epochs_applied, epochs_skipped_gap, epochs_skipped_stale, entries_noop, entries_undecodable FROM seq_metrics'),
		'55|1|1|1|1', "$name: seq_metrics");
	is(sql($node, $db, 'SELECT count(*), bool_and(lag = 0), bool_or(dropped > 0) FROM seq_subscriptions'), '2|t|t', "$name: seq_subscriptions");
}

#
# How far behind
#
my %delay;
foreach my $round (1 .. 30)
{
	foreach my $node ($primary, $middle, $cascade)
	{
		$session{ $node->name }->send("SELECT extract(epoch FROM clock_timestamp()) FROM seq_receive(1, '60s') LIMIT 1");
	}
	my $committed = sql($primary, $db, "SELECT seq_append('\\x" . batch_hex($epoch++, 0, [ ['a'] ]) . "') \\g /dev/null\nSELECT extract(epoch FROM clock_timestamp())");
	foreach my $node ($primary, $middle, $cascade)
	{
		my ($row) = $session{ $node->name }->finish;

		push @{ $delay{ $node->name } }, ($row - $committed) * 1000;
	}
}
note sprintf('%s: received %.1f ms after the commit (median of 30), %.1f ms at most', $_, (sort { $a <=> $b } @{ $delay{$_} })[15, 29])
  foreach map { $_->name } $primary, $middle, $cascade;

#
# Completions
#
my $batch = $epoch;
append($primary, 1, $small);
in_step('before completions', $primary, $middle, $cascade);
my @waiters;
foreach my $node ($middle, $cascade)
{
	is(sql($node, $db, "SELECT * FROM seq_completion($batch, 0)"), '{' . join(',', sort { $a <=> $b } $va, $vb) . '}|{}|f',
		$node->name . ': nothing is acknowledged');
	is(sql($node, $db, "SELECT seq_wait_for_completion($batch, 0, '100ms')"), 'f', $node->name . ': waits in vain');
	like(sql_error($node, $db, "SELECT seq_ack($batch, 0, $va)"), qr/^25006: /, $node->name . ': acknowledges nothing itself');
	push @waiters, map { session($node, $db)->send("SELECT seq_wait_for_completion($batch, 0, '60s'), seq_last_applied_epoch()") } 1 .. 3;
	# one for a batch that is still to come
	push @waiters, session($node, $db)->send('SELECT seq_wait_for_completion(' . ($batch + 1) . ", 0, '60s'), seq_last_applied_epoch()");
}
sql($primary, $db, "SELECT seq_ack($batch, 0, $va)");
sql($primary, $db, "SELECT seq_ack($batch, 0, $va)");
in_step('an ack, twice', $primary, $middle, $cascade);
is(sql($_, $db, "SELECT acked, complete FROM seq_completion($batch, 0)"), "{$va}|f", $_->name . ': half of it') foreach $middle, $cascade;
ok(!(grep { !$_->running } @waiters), 'all wait on');

# the last one is in the log of the standby, but its applier has not got to it
my $applier = applier_pid($middle, $db);
kill 'STOP', $applier;
sql($primary, $db, "SELECT seq_ack($batch, 0, $vb)");
$primary->wait_for_catchup($middle, 'replay', $primary->lsn('insert'));
is(sql($middle, $db, "SELECT complete FROM seq_completion($batch, 0)"), 't', 'middle: the log has the last ack');
is(($_->finish)[0], "t|$batch", 'cascade: woken by the last ack') foreach @waiters[ 4 .. 6 ];
ok(!(grep { !$_->running } @waiters[ 0 .. 2 ]), 'middle: not before it is applied there');
kill 'CONT', $applier;
is(($_->finish)[0], "t|$batch", 'middle: woken by its applier') foreach @waiters[ 0 .. 2 ];
append($primary, 1, $small);
sql($primary, $db, "SELECT seq_ack($batch + 1, 0, $va), seq_ack($batch + 1, 0, $vb)");
is(($_->finish)[0], 't|' . ($batch + 1), 'woken for a batch that came meanwhile') foreach @waiters[ 3, 7 ];

# Many come and go, in time or not, and nothing is kept for them anywhere.
my $shared = "SELECT sum(allocated_size) FROM pg_shmem_allocations WHERE name LIKE '%calvin%'";
my $before = sql($middle, $db, $shared);
my $waiter = $waiters[0];
my $many = "SELECT count(*) FROM generate_series(1, 2000) i WHERE seq_wait_for_completion($batch + i % 2, 0, '1s')";
my $mine = q{SELECT sum(used_bytes) FROM pg_backend_memory_contexts WHERE name <> 'TopMemoryContext'};
is($waiter->query($many), 2000, '2000 waits for what is complete');
my $used = $waiter->query($mine);
is($waiter->query($many), 2000, 'and 2000 more');
is($waiter->query("SELECT count(*) FROM generate_series(1, 300) i WHERE seq_wait_for_completion($epoch + i, 0, '1ms')"), 0, '300 in vain');
cmp_ok($waiter->query($mine), '<', $used + 65536, 'nothing is kept in the session');
is(sql($middle, $db, $shared), $before, 'nor in shared memory');
# the applier has one whenever it looks for more
ok(eval { wait_for_sql($middle, $db, "SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()", 0) }, 'nor a snapshot') or diag $@;
$_->quit foreach @waiters;

#
# A cursor that was committed on the primary is where one on a standby starts.
#
my $w_from = $epoch;
append($primary, 2, $small);
sql($primary, $db, <<"EOS");
SELECT seq_subscribe('{$va,$vb}', 'w', from_epoch => $w_from);
BEGIN; SELECT count(*) FROM seq_receive(2, '0', 'w'); SELECT seq_commit('w'); COMMIT;
EOS
append($primary, 1, $small);
in_step('with a cursor', $primary, $middle, $cascade);
$primary->wait_for_catchup($middle, 'replay', $primary->lsn('insert'));
my $w = session($middle, $db);
$w->query("SELECT seq_subscribe('{$va,$vb}', 'w', queue_size => 8192)");
my $from_cursor = sql($middle, $db, "SELECT $rows FROM (SELECT row_number() OVER () AS n, t, (t).* FROM seq_cursors c, seq_replay(c.vshard, c.epoch, 1000000) t WHERE c.name = 'w' AND (t.epoch, t.position) >= (c.epoch, c.position)) t");
is(received($w, 'w'), $from_cursor, 'a durable cursor of the primary is where a consumer on the standby starts');

#
# Promotion of the middle, with sessions in the midst of transactions.
#
received($session{$_}, 'default') foreach 'middle', 'cascade';
my $held = $session{middle};
my $from = $epoch;
append($primary, 2, $small);
append($primary, 1, ($bulk) x 60, $small);
gap($primary);
append($primary, 1, $small);
in_step('before the promotion', $primary, $middle, $cascade);
cmp_ok($held->query('SELECT max(dropped) FROM seq_subscriptions WHERE pid = pg_backend_pid()'), '>', 0, 'its queue has overflowed');
my $pid = applier_pid($middle, $db);
my $cascade_pid = applier_pid($cascade, $db);
$held->query('BEGIN');
received($held, 'default', 40);
$held->query('SAVEPOINT s');
received($held, 'default');
$held->query('ROLLBACK TO s');
# "w" is at the end, and rolls back to its cursor
$w->query('BEGIN');
received($w, 'w');
$primary->stop;
my $seconds = elapsed { $middle->promote };
note sprintf('promotion: %.2f s', $seconds);
append($middle, 1, ($bulk) x 60, $small);
gap($middle);
append($middle, 1, $large);
wait_for_epoch($middle, $db, $epoch - 1);
$held->query('ROLLBACK');
is(received($held, 'default'), replayed($middle, $from), 'rolled back after the promotion: all of it from before it on');
is(received($held, 'default'), '', 'once');
$w->query('ROLLBACK');
$from_cursor = sql($middle, $db, "SELECT $rows FROM (SELECT row_number() OVER () AS n, t, (t).* FROM seq_cursors c, seq_replay(c.vshard, c.epoch, 1000000) t WHERE c.name = 'w' AND (t.epoch, t.position) >= (c.epoch, c.position)) t");
$w->query('BEGIN');
is(received($w, 'w'), $from_cursor, 'one with a cursor: from there');
is($w->query("SELECT seq_commit('w')"), 2, 'which it can commit now');
$w->query('COMMIT');
append($middle, 1, $small);
wait_for_epoch($middle, $db, $epoch - 1);
is($w->query("BEGIN; SELECT count(*) FROM seq_receive(10, '0', 'w'); SELECT seq_commit('w'); COMMIT"), "2\n2", 'and once more');
is(applier_pid($middle, $db), $pid, 'all with the same applier');

# the cascade follows, with the same sessions
in_step('after the promotion', $middle, $cascade);
is(applier_pid($cascade, $db), $cascade_pid, 'the cascade goes on with the same applier');
is(received($session{cascade}, 'default'), replayed($cascade, $from), 'and the same session');
is(sql($cascade, $db, "SELECT bool_and(epoch = $epoch) FROM seq_cursors WHERE name = 'w'"), 't', 'and has the new cursors');
$session{cascade}->send("SELECT epoch FROM seq_receive(1, '60s')");
append($middle, 1, $small);
is(($session{cascade}->finish)[0], $epoch - 1, 'a waiting call there is woken');

# the primary that was stopped comes back below the new one
$primary->enable_streaming($middle);
$primary->set_standby_mode;
$primary->start;
wait_for_applier($primary, $db);
append($middle, 1, $small);
in_step('with the old primary', $middle, $cascade, $primary);

$_->quit foreach values %session, $w;
$_->stop foreach $primary, $cascade, $middle;
nothing_crashed($_) foreach $primary, $middle, $cascade;
done_testing();
