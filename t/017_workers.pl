# Terminated, stopped and failing workers, in a server that goes on.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use CalvinWorkers;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my $node = new_node('workers');
my $txn = [ ['a'], 'ab', 1 ];
my $va = vshard_of('a');
my $pid = create_extension($node);
my ($before, $offset, $s);

append_batches($node, 'postgres', 0, 2, [$txn]);

sub subscription
{
	return sql($node, 'postgres', 'SELECT sent, dropped FROM seq_subscriptions');
}

#
# Terminated workers
#
$s = session($node, 'postgres');
$s->query("SELECT seq_subscribe('{$va}', lossless => false)");
my (@received, @expected);
my $last;

# what is on the queue already outlives its sender
$before = next_epoch($node);
$last = append_next($node, 5);
wait_for_epoch($node, 'postgres', $last);
$pid = worker($node, 'applier');
sql($node, 'postgres', "SELECT pg_terminate_backend($pid, 5000)");
cmp_ok((elapsed { wait_for_successor($node, 'applier', $pid) }), '<', within(5),
	'a terminated applier is back within seconds');
push @received, receive_until($s, $last);
is(join(',', @received), join(',', $before .. $last),
	'what was on the queue is received after its applier has ended');
wait_for_sql($node, 'postgres', 'SELECT state FROM seq_subscriptions', 'live');

# The session goes on receiving; what came while nobody was attached counts as
# dropped, and nothing comes twice.
my $first = $before;
my $worst = 0;
foreach my $round (1 .. 2)
{
	$pid = worker($node, 'applier');
	$last = append_next($node, 3);
	sql($node, 'postgres', "SELECT pg_terminate_backend($pid)");
	$last = append_next($node, 3);
	my $seconds = elapsed { wait_for_successor($node, 'applier', $pid) };
	$worst = $seconds if $seconds > $worst;
	wait_for_epoch($node, 'postgres', $last);
	push @received, split /\n/, $s->query('SELECT epoch FROM seq_receive(1000)');
	# now it is connected to the new applier
	wait_for_sql($node, 'postgres', 'SELECT state FROM seq_subscriptions', 'live');
	$last = append_next($node, 3);
	push @received, receive_until($s, $last);
	is("@received[-3 .. -1]", join(' ', $last - 2 .. $last),
		"round $round: the session goes on receiving");
}
cmp_ok($worst, '<', within(5), 'each time the applier is back within seconds');
my %times;
$times{$_}++ foreach @received;
is(scalar(grep { $_ > 1 } values %times), 0, 'nothing comes twice');
is("@received", join(' ', sort { $a <=> $b } @received), 'and all in order');
my ($sent, $dropped) = split /\|/, subscription();
is($sent + $dropped, $last - $first + 1, 'what is not sent is counted as dropped');
is($sent, scalar @received, 'and what is sent is received');
is(sql($node, 'postgres', 'SELECT last_applied_index = (SELECT max(log_index) FROM seq_log) FROM seq_state'),
	't', 'the state is that of the whole log');
my $here = state($node, 'postgres');
$s->quit;
$node->restart;
wait_for_applier($node, 'postgres');
wait_applied($node, 'postgres');
is(state($node, 'postgres'), $here, 'and the same when it is made from the start');

# Terminated in the middle of sending: nothing is lost without being counted,
# nothing comes twice or out of order.  What was sent but not published is sent
# again by the next applier.
$s = session($node, 'postgres');
$s->query("SELECT seq_subscribe('{$va}', 'storm', queue_size => 262144, lossless => false)");
$first = next_epoch($node);
my @keys;
my $in_the_middle = 0;
my $rounds = 0;
while ($in_the_middle < 2 && $rounds++ < 6)
{
	my $batches = 1000;
	my $epoch = next_epoch($node);

	wait_applied($node, 'postgres');
	my $before = $s->query('SELECT last_applied_index FROM seq_state');
	$pid = worker($node, 'applier');
	# one burst, slowed down by what has to be logged
	kill 'STOP', $pid;
	sql($node, 'postgres', 'INSERT INTO seq_log (entry) SELECT unnest(ARRAY[e, u, u, u, u]) FROM unnest(ARRAY['
		  . join(', ', map { "'\\x" . batch_hex($_, 7, $txn) . "'" } $epoch .. $epoch + $batches - 1)
		  . "]::bytea[]) e, (VALUES ('\\xc1'::bytea)) v(u)");
	# the first part of it arrives
	$s->send("SELECT epoch FROM seq_receive(100000, '10s', 'storm')");
	kill 'CONT', $pid;
	push @keys, split /\n/, ($s->finish)[0];
	kill 'TERM', $pid;
	wait_until(sub { !process_alive($pid) }, 'end of the applier');
	# the rest of the old queue; and a new one for the next applier to fill
	push @keys, split /\n/, $s->query("SELECT epoch FROM seq_receive(100000, '0', 'storm')");
	my $after = $s->query('SELECT last_applied_index FROM seq_state');
	$in_the_middle++ if $after == $before && $keys[-1] >= $epoch;
	wait_for_successor($node, 'applier', $pid);
	wait_applied($node, 'postgres');
	push @keys, split /\n/, $s->query("SELECT epoch FROM seq_receive(100000, '0', 'storm')");
}
cmp_ok($in_the_middle, '>=', 2, "the applier was terminated in the middle of a burst ($rounds rounds)");
my $disorder = 0;
foreach (1 .. $#keys)
{
	$disorder++ if $keys[$_] <= $keys[ $_ - 1 ];
}
is($disorder, 0, 'each transaction comes once, in order');
my $missing = next_epoch($node) - $first - @keys;
$dropped = $s->query("SELECT dropped FROM seq_subscriptions WHERE name = 'storm'");
cmp_ok($missing, '<=', $dropped, "what is missing ($missing) is counted as dropped ($dropped)");
$s->quit;

# Launcher.
my $launcher = worker($node, 'launcher');
$pid = worker($node, 'applier');
sql($node, 'postgres', "SELECT pg_terminate_backend($launcher, 5000)");
wait_for_successor($node, 'launcher', $launcher);
is(worker($node, 'applier'), $pid, 'a terminated launcher is started again, and leaves the applier alone');
wait_for_epoch($node, 'postgres', append_next($node, 1));
sql($node, 'postgres', "SELECT pg_terminate_backend($pid, 5000)");
wait_for_successor($node, 'applier', $pid);
wait_for_epoch($node, 'postgres', append_next($node, 1));
pass('the new launcher takes care of an applier it has not started');
sql($node, 'postgres', 'CREATE DATABASE other');
create_extension($node, 'other');
pass('and of new databases');

# Both at once, and a database that comes meanwhile.
sql($node, 'other', 'DROP EXTENSION calvin_seq');
($launcher, $pid) = (worker($node, 'launcher'), worker($node, 'applier'));
sql($node, 'postgres', "SELECT pg_terminate_backend($launcher), pg_terminate_backend($pid)");
sql($node, 'other', 'CREATE EXTENSION calvin_seq');
wait_for_successor($node, 'launcher', $launcher);
wait_until(sub { my $new = applier_pid($node, 'postgres'); $new && $new != $pid }, 'both workers');
wait_for_applier($node, 'other');
wait_for_epoch($node, 'postgres', append_next($node, 1));
pass('launcher and applier terminated at once');
sql($node, 'postgres', 'DROP DATABASE other');

# SIGINT is for queries.
($launcher, $pid) = (worker($node, 'launcher'), worker($node, 'applier'));
sql($node, 'postgres', "SELECT pg_cancel_backend($launcher), pg_cancel_backend($pid)");
kill 'INT', $launcher, $pid;
wait_for_epoch($node, 'postgres', append_next($node, 1));
is(worker($node, 'launcher') . ' ' . worker($node, 'applier'), "$launcher $pid", 'SIGINT does nothing');

# Interrupts are served, also by those who sleep.
$offset = log_offset($node);
sql($node, 'postgres', "SELECT pg_log_backend_memory_contexts($launcher), pg_log_backend_memory_contexts($pid)");
foreach ($launcher, $pid)
{
	ok(wait_for_log_line($node, qr/logging memory contexts of PID $_/, $offset),
		'an idle worker serves interrupts');
}

#
# An error in the applier
#
$s = session($node, 'postgres');
$s->query("SELECT seq_subscribe('{$va}', lossless => false)");
$first = next_epoch($node);
$last = append_next($node, 2);
wait_for_epoch($node, 'postgres', $last);
$offset = log_offset($node);
$pid = worker($node, 'applier');
my $broken_at = sql($node, 'postgres', 'SELECT clock_timestamp()');
break_log($node, 'postgres');
wait_for_log_line($node,
	qr/\[$pid\] ERROR:  table seq_log is not as extension calvin_seq made it\n.*\[$pid\] ERROR:  table seq_log is not/s,
	$offset);
pass('an error is logged, and tried again');
is(worker($node, 'applier'), $pid, 'in the same process');
is($s->query("SELECT count(*) FROM seq_receive(1, '10s')"), 1, 'consumers go on meanwhile');
mend_log($node, 'postgres');
wait_applied($node, 'postgres');
is(sql($node, 'postgres',
		"SELECT applier_pid, last_error, last_error_at > '$broken_at', applier_state FROM seq_state"),
	"$pid|table seq_log is not as extension calvin_seq made it|t|idle",
	'it recovers in the same process, and seq_state remembers the error');
$last = append_next($node, 2);
is(join(',', receive_until($s, $last)), join(',', $first + 1 .. $last),
	'queues and subscribers stay');
# counted behind its delivery
wait_for_epoch($node, 'postgres', $last);
is(subscription(), '4|0', 'without any drop');
$s->quit;

#
# A stopped applier is in nobody's way
#
$s = session($node, 'postgres');
$s->query("SELECT seq_subscribe('{$va}', lossless => false)");
kill 'STOP', $pid;
my $other;
my $seconds = elapsed
{
	$last = append_next($node, 50);
	is($s->query("SELECT count(*) FROM seq_receive(10, '10ms')"), 0, 'nothing to receive');
	$other = session($node, 'postgres');
	$other->query("SELECT seq_subscribe('{$va,9}', 'other', lossless => false)");
	is($other->query('SELECT count(*) FROM seq_subscriptions'), 3, 'subscriptions are made');
	is($other->query("SELECT seq_unsubscribe('{9}', 'other')"), 1, 'and ended');
	is($other->query('SELECT lag FROM seq_state'), 50, 'the state can be read');
	$other->quit;
};
cmp_ok($seconds, '<', within(2), 'a stopped applier holds nobody up');
kill 'CONT', $pid;
is(scalar(receive_until($s, $last)), 50, 'and catches up when it runs again');
is(worker($node, 'applier'), $pid, 'in the same process');
$s->quit;

$node->stop;
nothing_crashed($node);
done_testing();
