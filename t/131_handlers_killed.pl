# Handlers' workers that are stopped, ended and killed between their steps.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinHandler;
use CalvinPause;
use CalvinTest;
use Test::More;

require_pauses();

my $node = new_node('main', max_worker_processes => 20, restart_after_crash => 'on');

create_extension($node);
sql($node, 'postgres', 'CREATE DATABASE side');
prepare_handlers($node, 'postgres');

my $pauses = pauses($node, 'side');
my $n = 0;

sub check
{
	my ($desc, $parked) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_for_sql($node, 'postgres', "SELECT seq_pending('g')", 0);
	wait_for_sql($node, 'postgres', "SELECT count(*) FROM seq_parked", $parked);
	is(sql($node, 'postgres', 'SELECT count(*), count(DISTINCT n) FROM done'), ($n - $parked) . '|' . ($n - $parked), "$desc: each once");
	is(sql($node, 'postgres', 'SELECT count(*) FROM (SELECT n, lag(n) OVER (PARTITION BY collection ORDER BY i) AS before FROM done) s WHERE n < before'), 0, "$desc: in order");
	is(sql($node, 'postgres', 'SELECT count(*) FROM seq_group_positions WHERE attempts > 0 OR error IS NOT NULL OR retry_at IS NOT NULL'), 0, "$desc: no attempt is left");
	# of a process that is gone the server would keep it
	wait_for_sql($node, 'postgres', q{SELECT count(*) FROM pg_locks WHERE locktype = 'object'}, 0);
	return;
}

sub begin
{
	my ($form, $options) = @_;

	$n = 0;
	sql($node, 'postgres', "SELECT seq_create_group('g', 4)");
	handle($node, 'postgres', 'g', $form, $options);
	wait_state($node, 'postgres', 'g', 'running');
	return;
}

sub done_with
{
	sql($node, 'postgres', "SELECT seq_drop_group('g'); TRUNCATE done, faults");
	wait_for_handlers($node, 'postgres', 0);
	return;
}

sub send_more
{
	my ($count) = @_;

	send_numbers($node, 'postgres', 'a', $n + 1, $n + $count);
	$n += $count;
	return;
}

#
# Ended at each step, of what works and of what does not
#
my @points = (
	'fetch: partition locked', 'fetch: positions stored', 'group: between removal and row',
	'handler: attempt noted', 'handler: called', 'handler: before commit',
	'handler: failure noted', 'handler: parked');

foreach my $point (@points)
{
	my $fails = $point =~ /failure|parked/;

	foreach my $trusted (0, 1)
	{
		next if $trusted && $point =~ /attempt|parked/;
		my $desc = "$point, " . ($trusted ? 'trusted' : 'new');

		begin('all', "max_attempts => 2, backoff => '1 ms'");
		if ($trusted)
		{
			foreach (1 .. 9)
			{
				send_more(1);
				wait_done($node, 'postgres', 'g', $n);
			}
		}
		my ($pid) = handler_pids($node, 'postgres', 'g');
		sql($node, 'postgres', 'INSERT INTO faults VALUES (' . ($n + 1) . ", 'it')") if $fails;
		# alone it is known to be the one that fails
		$pauses->arm($point, $pid);
		send_more($fails ? 1 : 5);
		# a failure of an attempt is noted in its transaction
		if ($point eq 'handler: failure noted' && !$trusted)
		{
			wait_for_sql($node, 'postgres', 'SELECT count(*) FROM seq_parked', 1);
			$pauses->release($point);
		}
		else
		{
			is($pauses->reached($point), $pid, "$desc: stopped");
			sql($node, 'side', "SELECT pg_terminate_backend($pid, 10000)");
			$pauses->release($point);
		}
		send_more(5);
		check($desc, $fails ? 1 : 0);
		is(sql($node, 'postgres', 'SELECT attempts, reason FROM seq_parked'), '2|it', "$desc: parked after its attempts, with the error") if $fails;
		done_with();
	}
}

#
# A worker that has noted an attempt keeps others from the partition, and not from others
#
begin('all', "workers => 2, max_attempts => 1");
my ($first) = handler_pids($node, 'postgres', 'g');
$pauses->arm('handler: attempt noted');
send_more(1);
my $pid = $pauses->reached('handler: attempt noted');
is(sql($node, 'postgres', 'SELECT sum(attempts) FROM seq_group_positions'), 1, 'the attempt is there before the call');
# it has as many attempts as it may: who came to it now would park it
send_more(1);
send_numbers($node, 'postgres', 'b', 101, 110);
wait_for_sql($node, 'postgres', "SELECT count(*) FROM done WHERE collection = 'b' AND pid <> $pid", 10);
is(sql($node, 'postgres', "SELECT (SELECT count(*) FROM seq_parked), (SELECT count(*) FROM done WHERE collection = 'a')"), '0|0', 'others pass by the partition');
$pauses->release('handler: attempt noted');
wait_for_sql($node, 'postgres', "SELECT count(*) FROM done WHERE collection = 'a'", 2);
is(sql($node, 'postgres', 'SELECT count(*) FROM seq_parked'), 0, 'what was attempted has worked');
done_with();

# one that died in an attempt leaves it to another one that runs already
begin('all', "workers => 2, max_attempts => 1");
$pauses->arm('handler: called');
send_more(1);
$pid = $pauses->reached('handler: called');
sql($node, 'side', "SELECT pg_terminate_backend($pid, 10000)");
$pauses->release('handler: called');
wait_for_sql($node, 'postgres', 'SELECT reason, attempts FROM seq_parked', 'the worker that ran the handler ended in it|1');
pass('an attempt that has ended its worker counts for the others');
done_with();

#
# What others do to an attempt
#
begin('rows', 'max_attempts => 3');
$pauses->arm('handler: attempt noted');
send_more(1);
$pid = $pauses->reached('handler: attempt noted');
sql($node, 'postgres', "SELECT seq_unhandle('g')");
$pauses->release('handler: attempt noted');
wait_for_handlers($node, 'postgres', 0);
is(sql($node, 'postgres', "SELECT (SELECT count(*) FROM done), seq_pending('g')"), '0|1', 'ended between the attempt and the call: it is not called');
is(sql($node, 'postgres', 'SELECT sum(attempts), count(error) FROM seq_group_positions'), '0|0', 'which is no attempt');
handle($node, 'postgres', 'g', 'rows');
check('and by the next one', 0);
$pauses->arm('handler: attempt noted');
send_more(1);
$pauses->reached('handler: attempt noted');
sql($node, 'postgres', "SELECT seq_drop_group('g')");
$pauses->release('handler: attempt noted');
wait_for_handlers($node, 'postgres', 0);
is(sql($node, 'postgres', 'SELECT count(*) FROM seq_group_positions'), 0, 'nor is the group dropped any more');
done_with() if sql($node, 'postgres', "SELECT count(*) FROM seq_consumers WHERE name = 'g'");
sql($node, 'postgres', 'TRUNCATE done');

# the call is not waited for by who ends the handler, and what it does holds
begin('rows');
$pauses->arm('handler: before commit');
send_more(1);
$pid = $pauses->reached('handler: before commit');
cmp_ok((elapsed { sql($node, 'postgres', "SELECT seq_unhandle('g')") }), '<', within(3), 'seq_unhandle waits for nobody');
my $drop = session($node, 'postgres')->send("SELECT seq_drop_group('g')");
wait_for_sql($node, 'side', "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%seq_drop_group%'", 1);
$pauses->release('handler: before commit');
is(($drop->finish)[1], '', 'seq_drop_group does for the call');
is(sql($node, 'postgres', 'SELECT count(*) FROM done'), 1, 'which is not undone');
sql($node, 'postgres', 'TRUNCATE done');

#
# Killed, and the server with it
#
foreach my $point ('handler: attempt noted', 'handler: called', 'handler: before commit')
{
	begin('all', 'max_attempts => 5');
	my ($worker) = handler_pids($node, 'postgres', 'g');
	$pauses->arm($point, $worker);
	send_more(5);
	is($pauses->reached($point), $worker, "$point: stopped");
	kill 'KILL', $worker;
	wait_until(sub { !process_alive($worker) }, 'its end');
	wait_for_sql($node, 'side', 'SELECT 1', 1);
	wait_applied($node, 'postgres');
	send_more(5);
	check("$point, killed", 0);
	$pauses = pauses($node, 'side');
	done_with();
}

$node->stop;
nothing_crashed($node, 1);
done_testing();
