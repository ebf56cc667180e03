# What the applier tells of a subscription, and who is woken: with processes
# stopped at any point between.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinPause;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

require_pauses();

my $db = 'postgres';
my $node = new_node('publication');
my $va = vshard_of('a');
my $epoch = 0;

create_extension($node, $db);
my $pauses = pauses($node, $db);
my $s = session($node, $db);

# Epochs, each with so many transactions of a size, in one commit; not waited for.
sub append
{
	my ($n, $txns, $size) = @_;
	my @txns = map { [ ['a'], 'ab' x ($size || 1), $_ ] } 1 .. ($txns || 1);

	append_hex($node, $db, map { batch_hex($_, 1000 + $_, @txns) } $epoch .. $epoch + $n - 1);
	$epoch += $n;
	return;
}

sub wait_until_waiting
{
	my ($session) = @_;

	return wait_for_sql($node, $db, "SELECT wait_event_type = 'Extension' AND state = 'active' FROM pg_stat_activity WHERE pid = " . $session->pid);
}

my $keys = q{SELECT string_agg(epoch || '.' || "position", ' ') FROM seq_receive(100000)};

sub keys_of
{
	my ($from, $to, $txns) = @_;

	return join ' ', map { my $e = $_; map { "$e.$_" } 0 .. ($txns || 1) - 1 } $from .. $to;
}

sub replace_applier
{
	my $pid = wait_for_applier($node, $db);

	sql($node, $db, "SELECT pg_terminate_backend($pid)");
	wait_for_sql($node, $db, "SELECT applier_pid <> $pid AND applier_state = 'idle' FROM seq_state");
	return wait_for_applier($node, $db);
}

#
# A consumer makes new queues in the middle of a burst of the next applier.
#
$s->query("SELECT seq_subscribe('{$va}')");
append(1);
wait_for_epoch($node, $db, 0);
is($s->query($keys), '0.0', 'the first applier has sent');
foreach my $point ('router: flushed, not told', 'apply: told, not published')
{
	my $applier = replace_applier();

	$pauses->arm($point, $applier);
	append(10);
	is($pauses->reached($point), $applier, "the next one stands at \"$point\"");
	my $early = $s->query($keys);
	$pauses->release($point);
	wait_for_epoch($node, $db, $epoch - 1);
	my $late = $s->query($keys);
	is(join(' ', grep { $_ ne '' } $early, $late), keys_of($epoch - 10, $epoch - 1), 'nothing of its burst is lost to who made new queues meanwhile');
	append(3);
	wait_for_epoch($node, $db, $epoch - 1);
	is($s->query($keys), keys_of($epoch - 3, $epoch - 1), 'nor of the next one');
}

# and sleeps when the burst ends
{
	my $applier = replace_applier();
	my $point = 'router: flushed, not told';

	$pauses->arm($point, $applier);
	append(5);
	$pauses->reached($point);
	$s->send(q{SELECT string_agg(epoch || '.' || "position", ' ') FROM seq_receive(100000, '5min')});
	wait_until_waiting($s);
	$pauses->release($point);
	my ($output) = $s->finish;
	is($output, keys_of($epoch - 5, $epoch - 1), 'it is woken when that is told');
}

#
# A key is read as a whole.  The first transaction of an epoch comes by the queue,
# the others do not fit into it, nor does the next epoch's.
#
{
	my $point = 'whole: half read';

	$s->query("SELECT seq_subscribe('{$va}', queue_size => 16384)");
	append(1, 20, 9000);
	wait_for_epoch($node, $db, $epoch - 1);
	is($s->query(q{SELECT string_agg(epoch || '.' || "position", ' ') FROM seq_receive(1)}), ($epoch - 1) . '.0', 'the first of twenty');
	is(sql($node, $db, 'SELECT sent, dropped FROM seq_subscriptions'), '1|19', 'the others were dropped');
	# the state of the database is read first, then what is told of the stream
	$pauses->arm($point, $s->pid, 1);
	$s->send($keys);
	is($pauses->reached($point), $s->pid, 'stopped between two words of a key');
	append(1, 1, 20000);
	wait_for_epoch($node, $db, $epoch - 1);
	$pauses->release($point);
	my ($output) = $s->finish;
	$output = join ' ', grep { $_ ne '' } $output, $s->query($keys);
	is($output, join(' ', map({ ($epoch - 2) . ".$_" } 1 .. 19), ($epoch - 1) . '.0'), 'nothing is missing');
}

# a word that is being written is waited for
{
	my $point = 'whole: half written';
	my $applier = wait_for_applier($node, $db);

	$pauses->arm($point, $applier);
	append(1, 3, 9000);
	is($pauses->reached($point), $applier, 'the applier stands between two words');
	$s->send($keys);
	is(sql($node, $db, 'SELECT count(*) FROM pg_stat_activity WHERE state = \'active\' AND pid = ' . $s->pid), 1, 'who reads them waits');
	$pauses->release($point);
	my ($output) = $s->finish;
	wait_for_epoch($node, $db, $epoch - 1);
	$output = join ' ', grep { $_ ne '' } $output, $s->query($keys);
	is($output, keys_of($epoch - 1, $epoch - 1, 3), 'and gets them all');
}

#
# Wake-ups.  Who subscribes while the applier is behind waits for what lies in
# front of its start, and gets it as it is applied, not when all is;
#
{
	my ($first, $second) = ('apply: told, not published', 'router: flushed, not told');
	my $applier = wait_for_applier($node, $db);
	my $s2 = session($node, $db);
	my $begin = $epoch;

	$pauses->arm($first, $applier);
	# several publications in one burst
	append(3, 100, 9000);
	$pauses->reached($first);
	$s2->query("SELECT seq_subscribe('{$va}', 'late', from_epoch => $begin)");
	$s2->send(q{SELECT string_agg(epoch || '.' || "position", ' ') FROM seq_receive(1, '5min', 'late')});
	wait_until_waiting($s2);
	$pauses->arm($second, $applier);
	my $output;
	my $seconds = elapsed
	{
		$pauses->release($first);
		$pauses->reached($second);
		($output) = $s2->finish;
	};
	is($output, "$begin.0", 'woken when the first of what it begins with is applied');
	cmp_ok($seconds, '<', within(5), 'at once');
	$pauses->release($second);
	$s2->quit;
	wait_for_epoch($node, $db, $epoch - 1);
	$s->query('SELECT count(*) FROM seq_receive(100000)');
}

# and who has rolled back what came before the burst's end
{
	my $point = 'router: flushed, not told';

	$pauses->arm($point, wait_for_applier($node, $db));
	$s->query("SELECT seq_subscribe('{$va}')");
	append(1);
	$pauses->reached($point);
	$s->query('BEGIN');
	# it may come late: the applier may have looked before it knew of the queue
	is($s->query($keys), ($epoch - 1) . '.0', 'received in the middle of a burst');
	$s->query('ROLLBACK');
	$s->send(q{SELECT string_agg(epoch || '.' || "position", ' ') FROM seq_receive(100000, '5min')});
	wait_until_waiting($s);
	my $output;
	my $seconds = elapsed { $pauses->release($point); ($output) = $s->finish; };
	is($output, ($epoch - 1) . '.0', 'what was rolled back comes when the burst is applied');
	cmp_ok($seconds, '<', within(5), 'at once');
}

# or has taken a message that shows a hole off the queue, and is rolled back
{
	my $point = 'router: flushed, not told';

	$s->query("SELECT seq_subscribe('{$va}', queue_size => 8192)");
	append(1);
	wait_for_epoch($node, $db, $epoch - 1);
	is($s->query($keys), ($epoch - 1) . '.0', 'live');
	append(2, 1, 20000);
	wait_for_epoch($node, $db, $epoch - 1);
	$pauses->arm($point, wait_for_applier($node, $db));
	append_hex($node, $db, batch_hex($epoch, 1, [ ['a'], 'ab' x 20000, 1 ]), batch_hex($epoch + 1, 1, [ ['a'], 'ab', 1 ]));
	$epoch += 2;
	$pauses->reached($point);
	$s->query('BEGIN');
	is($s->query(q{SELECT string_agg(epoch || '.' || "position", ' ') FROM seq_receive(1)}), ($epoch - 4) . '.0', 'the first of the hole');
	$s->query('ROLLBACK');
	is($s->query($keys), keys_of($epoch - 4, $epoch - 3), 'again, up to what is applied');
	$s->send(q{SELECT string_agg(epoch || '.' || "position", ' ') FROM seq_receive(100000, '5min')});
	wait_until_waiting($s);
	my $output;
	my $seconds = elapsed { $pauses->release($point); ($output) = $s->finish; };
	is($output, keys_of($epoch - 2, $epoch - 1), 'the rest when it is applied');
	cmp_ok($seconds, '<', within(5), 'at once');
}

$_->quit foreach $s, $pauses;
$node->stop;
nothing_crashed($node);
done_testing();
