# Backends, the sequencer and the server killed between each two steps: each
# submission that was committed is in the log once, in order, and no other is.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinPause;
use CalvinSequencer;
use CalvinSubmit;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

require_pauses();

my $node = new_node('main', restart_after_crash => 'on', 'calvin_seq.max_txns_per_epoch' => 7);
my $db = 'postgres';
my ($applier, $sequencer);

create_extension($node);
create_sent($node, $db);
sql($node, $db, 'CREATE TABLE t (i int); CREATE DATABASE side');
$sequencer = wait_for_sequencer($node, $db);
my $p = pauses($node, 'side');
my $n = 0;

sub send_one { my ($number) = @_; return "SELECT seq_send('a', '$number')" }
# what has been written beside is what was committed
sub committed { my ($from) = @_; return join(' ', map { "a=$_" } split /\n/, sql($node, $db, "SELECT i FROM t WHERE i >= $from ORDER BY i")) }

sub back
{
	my ($old) = @_;

	$p->quit;
	# whoever asks before the server has noticed is refused, or sees the old one
	wait_until(sub { !process_alive($old) }, 'the old sequencer to end');
	($applier, $sequencer) = both_workers($node, $db);
	$p = pauses($node, 'side');
	return;
}

#
# A backend at its COMMIT
#
foreach my $kill ('terminated', 'killed')
{
	foreach my $point ('submitters: before drawing', 'submission: stamp drawn', 'submission: written', 'submission: before clearing')
	{
		my $s = session($node, $db);
		my $from = ++$n;

		sql($node, $db, "INSERT INTO t VALUES ($n); " . send_one($n));
		$n++;
		$p->arm($point, $s->pid);
		$s->send("BEGIN; INSERT INTO t VALUES ($n); " . send_one($n) . '; COMMIT');
		$p->reached($point);
		# behind it, and waiting for it
		$n++;
		my $later = sql($node, $db, "BEGIN; INSERT INTO t VALUES ($n); " . send_one($n) . '; COMMIT');
		my $was = $point eq 'submission: before clearing' ? 1 : 0;
		if ($kill eq 'killed')
		{
			my $old = $sequencer;

			kill 'KILL', $s->pid;
			back($old);
		}
		else
		{
			sql($node, 'side', 'SELECT pg_terminate_backend(' . $s->pid . ')');
			$p->release($point);
			$was = 1 if ($s->finish)[1] eq '';
		}
		$s->kill_client;
		my @expected = map { "a=$_" } $point eq 'submitters: before drawing' ? ($from, $from + 2) : ($from .. $from + 2);
		my $found = committed($from);
		is($found, join(' ', $was ? @expected : ("a=$from", "a=" . ($from + 2))), "$kill at $point: what was committed") if $kill eq 'killed';
		is_next($node, $db, $found, "$kill at $point: it is sequenced, and nothing else");
	}
}

#
# The sequencer, and the server with it
#
my @steps = (
	'sequence: before the limit', 'sequence: before the snapshot', 'sequence: appended',
	'sequence: before the commit', 'sequence: committed');
foreach my $kill ('terminated', 'killed', 'server')
{
	foreach my $point (@steps)
	{
		my $from = ++$n;
		my $pid = $sequencer;

		$p->arm($point, $sequencer);
		# more than an epoch, in one transaction; then others
		sql($node, $db, "BEGIN; SELECT seq_send('a', to_jsonb(i)) FROM generate_series($n, $n + 9) i; INSERT INTO t SELECT generate_series($n, $n + 9); COMMIT");
		$n += 9;
		$p->reached($point);
		foreach (1 .. 3)
		{
			$n++;
			sql($node, $db, "BEGIN; INSERT INTO t VALUES ($n); " . send_one($n) . '; COMMIT');
		}
		if ($kill eq 'terminated')
		{
			sql($node, 'side', "SELECT pg_terminate_backend($pid)");
			$p->release($point);
			$sequencer = wait_for_sequencer($node, $db, $pid);
		}
		elsif ($kill eq 'killed')
		{
			kill 'KILL', $pid;
			back($pid);
		}
		else
		{
			$p->quit;
			$node->stop('immediate');
			$node->start;
			back($pid);
		}
		is(committed($from), join(' ', map { "a=$_" } $from .. $n), "$kill at $point: all was committed");
		is_next($node, $db, committed($from), "$kill at $point: all is sequenced, once");
	}
}

#
# All waiting when the server is stopped; what is more than one step
#
foreach my $mode ('fast', 'immediate')
{
	my $hold = hold_log($node, $db);
	my $from = ++$n;

	sql($node, $db, join('', map { my $i = $from + $_; "BEGIN; INSERT INTO t VALUES ($i); " . send_one($i) . "; COMMIT;\n" } 0 .. 99));
	$n += 99;
	wait_held($node, $db);
	is(sql($node, $db, 'SELECT waiting_rows, waits_for FROM seq_sequencer'), '100|append', 'a hundred wait');
	$p->quit;
	$hold->send('SELECT pg_sleep(1000)') if $mode eq 'fast';
	$node->stop($mode);
	$node->start;
	$hold->kill_client;
	wait_sequenced($node, $db);
	# a fast shutdown ends who holds the lock, and then perhaps the sequencer has it for a moment
	like(sql($node, $db, 'SELECT submitted, sequenced, waiting_rows, waiting_bytes FROM seq_sequencer'),
		$mode eq 'fast' ? qr/^0\|(0|100)\|0\|0$/ : qr/^0\|100\|0\|0$/, 'they were found, and are counted as such');
	is_next($node, $db, committed($from), "through a stop, $mode: they are sequenced");
	$p = pauses($node, 'side');
}

my ($all, $distinct) = split /\|/, sql($node, $db, "SELECT count(*), count(DISTINCT payload) FROM sent WHERE collection = 'a'");
is($all, $distinct, 'nothing is in the log twice');
is($all, sql($node, $db, 'SELECT count(*) FROM t'), 'nor is anything missing');

$p->quit;
$node->stop;
nothing_crashed($node, 1);
done_testing();
