# Sessions that subscribe and leave, in whatever way: nothing stays behind.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

# Segments as files in the data directory, where those of other servers of
# this machine do not get mixed up with ours.
my $node = new_node(
	'sessions',
	dynamic_shared_memory_type => 'mmap',
	'calvin_seq.max_subscriptions' => 3000);
my $txn = [ ['a'], 'ab', 1 ];
my $va = vshard_of('a');
my $pid = create_extension($node);
my $watch = session($node, 'postgres');
my $epoch = 0;

sub mapped_by_applier
{
	return 0 unless -r "/proc/$pid/maps";
	return scalar(() = slurp_file("/proc/$pid/maps") =~ m{pg_dynshmem/mmap}g);
}

# Memory of the applier's own, in kB.
sub private_memory
{
	return 0 unless -r "/proc/$pid/status";
	return slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m ? $1 : 0;
}

sub subscriptions
{
	return $watch->query('SELECT count(*) FROM seq_subscriptions');
}

sub main_memory
{
	return $watch->query(
		'SELECT sum(allocated_size) FROM pg_shmem_allocations WHERE name IS NOT NULL');
}

# One batch that makes everything move.
sub append
{
	my ($on) = @_;

	append_batches($node, 'postgres', $epoch, $epoch, [$txn], $on || $watch);
	$watch->query("SELECT seq_wait_for_epoch($epoch, '30s')");
	return $epoch++;
}

# What is left when everybody has gone: the server's own segments.
append();
my $baseline = segments($node);
my $mapped_baseline = mapped_by_applier();
my $main_baseline = main_memory();

sub is_clean
{
	my ($desc) = @_;

	wait_until(sub { subscriptions() == 0 }, "end of the subscriptions: $desc", 20);
	append();    # the applier has looked at the subscriptions then
	ok( eval {
			wait_until(
				sub { segments($node) == $baseline && mapped_by_applier() == $mapped_baseline },
				'the segments to go', 10);
		},
		"$desc: no subscription and no segment is left")
	  or diag 'segments: ' . segments($node) . ', mapped by the applier: ' . mapped_by_applier();
	return;
}

sub subscriber
{
	my ($vshards, $name) = @_;
	my $s = session($node, 'postgres');

	$s->query("SELECT seq_subscribe('{$vshards}', '$name', queue_size => 16384, lossless => false)");
	return $s;
}

#
# Ends of a session
#
my $s = subscriber("$va,1,2", 'quits');
append();
is(subscriptions(), 3, 'a subscription for each vshard');
cmp_ok(segments($node), '>', $baseline, 'in a segment');
$s->quit;
is_clean('a session that quits');

$s = subscriber("$va,1,2", 'terminated');
append();
$watch->query('SELECT pg_terminate_backend(' . $s->pid . ', 5000)');
$s->error('SELECT 1');
is_clean('a session that is terminated');

$s = subscriber("$va,1,2", 'waits');
$s->send("SELECT * FROM seq_receive(1, '60s', 'waits')");
wait_for_sql($node, 'postgres', 'SELECT wait_event_type FROM pg_stat_activity WHERE pid = ' . $s->pid, 'Extension');
$watch->query('SELECT pg_terminate_backend(' . $s->pid . ', 5000)');
like(($s->finish)[1], qr/^57P01: /, 'a waiting call is terminated');
is_clean('a session that is terminated while it waits');

$s = subscriber("$va,1,2", 'vanishes');
append();
$s->kill_client;
is_clean('a client that vanishes');

$s = subscriber("$va,1,2", 'in transaction');
$s->query("BEGIN; SELECT seq_subscribe('{5}', 'in transaction', lossless => false); SELECT 1");
$s->kill_client;
is_clean('a client that vanishes in a transaction');

$s = subscriber("$va,1,2", 'idle');
# it may be over before psql has told the result
$s->error("SET idle_session_timeout = '10ms'");
wait_until(sub { $watch->query('SELECT count(*) FROM pg_stat_activity WHERE pid = ' . $s->pid) == 0 },
	'the idle session to end');
$s->error('SELECT 1') unless $s->dead;
is_clean('a session that ends by a FATAL error');

# Errors that do not end it.
$s = subscriber("$va,1,2", 'default');
$s->query("SET statement_timeout = '50ms'");
like($s->error("SELECT * FROM seq_receive(1, '60s')"), qr/^57014: /, 'a waiting call can be cancelled');
$s->reset_timeout;
like($s->error("BEGIN; SELECT seq_subscribe('{7}', lossless => false); SELECT 1/0"), qr/^22012: /, 'an error');
$s->query('ROLLBACK');
is(subscriptions(), 4, 'a subscription survives ROLLBACK, its own too');
my $last = append();
is($s->query("SELECT epoch FROM seq_receive(10, '10s')"), $last, 'and goes on receiving');
like($s->error("SELECT seq_subscribe('{1024}', lossless => false)"), qr/^22\w+: /, 'an error of seq_subscribe');
like($s->error("SELECT seq_subscribe(array(SELECT generate_series(0, 1023)), 'x' || n, queue_size => 16384, lossless => false) FROM generate_series(1, 4) n"),
	qr/^53400: too many calvin_seq subscriptions\n.*\nHINT: .*calvin_seq\.max_subscriptions/,
	'too many subscriptions');
is(subscriptions(), 4 + 2 * 1024, 'those before stay');
$s->query('DISCARD ALL');
is_clean('DISCARD ALL');
$s->quit;

#
# Thousands of them
#
sub cycles
{
	my ($sessions, $calls) = @_;
	my $script = '';

	# new sessions, two at a time of the same subscription
	$script .= "\\c postgres\nSELECT seq_subscribe('{$va,1,2}', queue_size => 16384, lossless => false) \\g /dev/null\n"
	  . ($_ % 10 == 0 ? "SELECT seq_append('\\x" . batch_hex($epoch++, 0, $txn) . "') \\g /dev/null\nSELECT count(*) FROM seq_receive(1, '10s') \\g /dev/null\n" : '')
	  foreach 1 .. $sessions;
	# in one session: over and over, taking over from itself, and ended
	$script .= "SELECT seq_subscribe('{$va,1,2}', 'n' || n % 3, queue_size => 16384, lossless => false), CASE WHEN n % 2 = 0 THEN seq_unsubscribe(name => 'n' || n % 3) END FROM generate_series(1, $calls) n \\g /dev/null\n";
	sql($node, 'postgres', $script);
	return;
}

cycles(50, 300);
is_clean('the first sessions');
SKIP:
{
	skip 'no /proc', 1 unless private_memory();
	my $before = private_memory();

	cycles(800, 2000);
	is_clean('thousands of subscriptions');
	skip 'under a tool with memory of its own', 1 if under_tool();
	my $growth = private_memory() - $before;
	cmp_ok($growth, '<', 200, "the applier's memory does not grow with them ($growth kB)");
}
is(main_memory(), $main_baseline, 'main shared memory is what it was');
is(applier_pid($node, 'postgres'), $pid, 'all that with the same applier');

#
# All vshards in one session
#
$s = subscriber(join(',', 0 .. 1023), 'all');
is(subscriptions(), 1024, 'one session on all vshards');
my @txns = map { [ [ collection_of($_) ], sprintf('%04x', $_), $_ ] } 0 .. 1023;
$watch->query("SELECT seq_append('\\x" . batch_hex($epoch, 77, @txns) . "')");
$s->query("SELECT seq_wait_for_epoch($epoch, '30s')");
is( $s->query("SELECT count(*), count(DISTINCT vshard), bool_and(vshard = position AND tenant_id = vshard AND epoch = $epoch AND epoch_system_ms = 77 AND participating_vshards = ARRAY[vshard] AND plans = decode(lpad(to_hex(vshard), 4, '0'), 'hex')) FROM seq_receive(2000, '10s', 'all')"),
	'1024|1024|t', 'receives what belongs to each');
$epoch++;

# and another one takes over
my $heir = subscriber(join(',', 0 .. 1023), 'all');
is(subscriptions(), 1024, 'another session takes over all of them');
like($s->error("SELECT * FROM seq_receive(1, '0', 'all')"),
	qr/^55006: .*taken over by the session with PID ${\ $heir->pid}\b/, 'and the first one is told');
like($s->error("SELECT * FROM seq_receive(1, '0', 'all')"), qr/^55000: .*no subscription/,
	'once: then it has none');
$s->quit;
is($heir->query("SELECT count(*) FROM seq_receive(1, '0', 'all')"), 0,
	'the end of the first one does not matter to its heir');
$last = append();
is($heir->query("SELECT epoch FROM seq_receive(1, '10s', 'all')"), $last, 'who receives');
is($heir->query("SELECT seq_unsubscribe(name => 'all')"), 1024, 'until it unsubscribes');
$heir->quit;
is_clean('all vshards');

#
# Takeover storms
#
my @storm = map { session($node, 'postgres') } 1 .. 4;
my $owner;
my ($wrong, $duplicate) = (0, 0);
my %received;
foreach my $round (1 .. 60)
{
	my $next = $storm[ $round * 7 % @storm ];

	$next->query("SELECT seq_subscribe('{$va,1}', lossless => false)");
	append() if $round % 3 == 0;
	if ($owner && $owner != $next)
	{
		my $error = $owner->error("SELECT seq_receive(10)");
		my $pid = $next->pid;

		$wrong++ if $error !~ /^55006: .*PID $pid\b/;
	}
	$received{$_}++ foreach split /\n/, $next->query('SELECT epoch FROM seq_receive(10)');
	$owner = $next;
}
is($wrong, 0, 'each takeover is reported to the one before, with the new PID');
is(scalar(grep { $_ != 1 } values %received), 0, 'no transaction comes to two of them');
is($watch->query("SELECT count(*), min(pid) = @{[ $owner->pid ]} FROM seq_subscriptions"),
	'2|t', 'the last one has it');

# all at the same time
$_->send("SELECT count(seq_subscribe('{$va,1,2}', queue_size => 16384, lossless => false)) FROM generate_series(1, 300)")
  foreach @storm;
append() foreach 1 .. 20;
foreach (@storm)
{
	my ($output, $error) = $_->finish;

	is("$output $error", '300 ', 'subscribes at the same time as others');
}
my $winner = $watch->query('SELECT pid FROM seq_subscriptions LIMIT 1');
is($watch->query("SELECT count(*), count(DISTINCT pid) FROM seq_subscriptions"), '3|1', 'one has it in the end');
# until it has reconnected, in case it was the applier's turn to be late
$last = append();
foreach (@storm)
{
	my ($output, $error) = $_->send("SELECT max(epoch) FROM seq_receive(100, '10s')")->finish;

	if ($_->pid == $winner)
	{
		is("$output $error", "$last ", 'and receives');
	}
	else
	{
		like($error, qr/^55006: .*PID $winner\b/, 'the others are told who has it');
	}
}
$_->quit foreach @storm;
is_clean('takeover storms');

#
# Consumers that stop, or go, while the applier sends
#
my $bulk = [ ['a'], 'ab' x 400, 1 ];
$s = subscriber($va, 'stopped');
kill 'STOP', $s->pid;
my $metrics = 'SELECT txns_dropped_backpressure FROM seq_metrics';
my $dropped = $watch->query($metrics);
append_batches($node, 'postgres', $epoch, $epoch + 9, [ ($bulk) x 100 ], $watch);
$epoch += 10;
is($watch->query("SELECT seq_wait_for_epoch($epoch - 1, '10s')"), 't', 'the applier does not wait for a stopped consumer');
is($watch->query("SELECT sent + dropped, dropped > 0, state FROM seq_subscriptions"), '1000|t|stalled',
	'but drops, and counts');
is($watch->query($metrics) - $dropped, $watch->query('SELECT dropped FROM seq_subscriptions'), 'in the metrics too');
kill 'CONT', $s->pid;
$s->quit;
is_clean('a stopped consumer');

foreach my $round (1 .. 5)
{
	$s = subscriber("$va,1,2", 'goes');
	my $bulk_sender = session($node, 'postgres');
	my $hex = batch_hex($epoch, 0, ($bulk) x 200);

	# stale ones after the first: they take the applier's time too
	$bulk_sender->send("INSERT INTO seq_log (entry) SELECT '\\x$hex' FROM generate_series(1, 20)");
	$epoch++;
	$watch->query('SELECT pg_terminate_backend(' . $s->pid . ')') if $round % 2;
	$s->kill_client;
	is(($bulk_sender->finish)[1], '', 'a consumer goes while the applier sends');
	$bulk_sender->quit;
}
is_clean('consumers that go while the applier sends');
is(applier_pid($node, 'postgres'), $pid, 'the applier is the same');
is($watch->query('SELECT last_error IS NULL FROM seq_state'), 't', 'without any error');
$watch->quit;

$node->stop;
nothing_crashed($node);
done_testing();
