# Killed processes and crashed servers.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use CalvinWorkers;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my $node = new_node(
	'crash',
	-streaming => 1,
	restart_after_crash => 'on',
	'calvin_seq.snapshot_interval' => 7);
my $txn = [ ['a'], 'ab', 1 ];
my $va = vshard_of('a');
my $pid = create_extension($node);
my ($before, $offset, $s);

#
# A server that crashes because a worker or a consumer was killed
#
append_next($node, 3);
sql($node, 'postgres', "INSERT INTO seq_log (entry) VALUES ('\\xc1'), (''), ('\\x"
	  . batch_hex(1, 0, $txn) . "'), ('\\x" . batch_hex(7, 0, $txn) . "')");
append_next($node, 2);
wait_applied($node, 'postgres');
$before = state($node, 'postgres');

foreach my $victim ('applier', 'launcher', 'consumer')
{
	$s = session($node, 'postgres');
	$s->query("SELECT seq_subscribe('{$va,1,2,3}', lossless => false)");
	my $old = worker($node, 'applier');
	my $killed = $victim eq 'consumer' ? $s->pid : worker($node, $victim);

	kill 'KILL', $killed;
	wait_until(sub { !process_alive($old) }, "end of the applier");
	wait_for_successor($node, 'applier', $old);
	wait_applied($node, 'postgres');
	is(state($node, 'postgres'), $before, "$victim killed: same state afterwards");
	is(sql($node, 'postgres', 'SELECT count(*) FROM seq_subscriptions'),
		0, "$victim killed: no subscription is left");
	like($s->error('SELECT 1'), qr/57P02|server closed the connection|connection to server was lost/,
		"$victim killed: the consumer's connection is lost");
	$s->quit;

	$s = session($node, 'postgres');
	$s->query("SELECT seq_subscribe('{$va}', lossless => false)");
	my $epoch = append_next($node, 1);
	is(join(',', receive_until($s, $epoch)), $epoch,
		"$victim killed: a consumer that comes back receives");
	$s->quit;
	$before = state($node, 'postgres');
}

# Immediate shutdown, in the middle of things.
$s = session($node, 'postgres');
$s->query("SELECT seq_subscribe('{$va}', lossless => false)");
append_next($node, 20);
sql($node, 'postgres', "INSERT INTO seq_log (entry) SELECT '' FROM generate_series(1, 20000)");
my $end = state_of($node, 'postgres');
$s->kill_client;
$node->stop('immediate');
$node->start;
wait_for_applier($node, 'postgres');
wait_applied($node, 'postgres');
$before = state($node, 'postgres');
is((split /\|/, $before)[1], $end->{log_end}, 'immediate shutdown: all is applied afterwards');
$node->restart;
wait_for_applier($node, 'postgres');
wait_applied($node, 'postgres');
is(state($node, 'postgres'), $before, 'and the state is the same as after a clean one');

# Durable before delivered: what an asynchronous commit appended and somebody
# received is there after the crash.
# Nobody else shall write WAL for reasons of his own: neither because it was
# long ago, nor because a page of it is full, nor for a data page or a snapshot.
my %quiet = (
	wal_writer_delay => '10s',
	wal_writer_flush_after => 1000000,
	full_page_writes => 'off',
	bgwriter_lru_maxpages => 0,
	shared_buffers => '16MB',
	'calvin_seq.snapshot_interval' => 0);
sql($node, 'postgres', "ALTER SYSTEM SET $_ = '$quiet{$_}'") foreach keys %quiet;
$node->restart;
foreach my $round (1 .. 2)
{
	wait_for_applier($node, 'postgres');
	my $epoch = append_next($node, 1) + 1;
	$s = session($node, 'postgres');
	$s->query("SELECT seq_subscribe('{$va}', lossless => false); SET synchronous_commit = off");
	append_batches($node, 'postgres', $epoch, $epoch, [$txn], $s);
	is(join(',', receive_until($s, $epoch)), $epoch, 'an asynchronous append is received');
	$s->kill_client;
	$node->stop('immediate');
	$node->start;
	is(sql($node, 'postgres', "SELECT count(*) FROM seq_log WHERE epoch = $epoch AND kind = 'epoch_batch'"),
		1, 'and survives the crash');
}
sql($node, 'postgres', "ALTER SYSTEM RESET $_") foreach keys %quiet;
$node->reload;
wait_for_applier($node, 'postgres');

# The same with a synchronous standby that does not answer: nothing is
# delivered before.
$s = session($node, 'postgres');
$s->query("SELECT seq_subscribe('{$va}', lossless => false)");
$s->query("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
$s->query('SELECT pg_reload_conf(); SET synchronous_commit = local');
wait_for_sql($node, 'postgres', 'SHOW synchronous_standby_names', 'nobody');
$before = state($node, 'postgres');
my $epoch = next_epoch($node);
append_batches($node, 'postgres', $epoch, $epoch, [$txn], $s);
wait_for_sql($node, 'postgres', 'SELECT applier_state FROM seq_state', 'waiting for durability');
is(sql($node, 'postgres', "SELECT query FROM pg_stat_activity WHERE backend_type = 'calvin_seq applier'"),
	'waiting for synchronous standbys to confirm the log', 'the applier says what it waits for');
is($s->query("SELECT epoch FROM seq_receive(10, '100ms')"), '',
	'what no synchronous standby has confirmed is not delivered');
# nor if the wait is broken off
$pid = worker($node, 'applier');
$s->query("SELECT pg_terminate_backend($pid, 5000)");
wait_until(sub { (my $new = worker($node, 'applier')) != $pid && worker($node, 'applier') }, 'the next applier');
wait_for_sql($node, 'postgres', 'SELECT applier_state FROM seq_state', 'waiting for durability');
is(state($node, 'postgres'), $before, 'nor when the waiting applier is terminated');
$s->query("ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()");
wait_for_epoch($node, 'postgres', $epoch);
$s->quit;

$node->stop;
nothing_crashed($node, 'killed');
done_testing();
