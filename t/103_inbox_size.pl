# The inbox while much goes through it: emptied although somebody holds an old
# snapshot or dumps the database, what such a dump needs is kept, and a kill between
# two steps of that loses nothing.
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

# nothing of this is about durability
my $node = new_node('main', restart_after_crash => 'on', max_wal_size => '2GB', fsync => 'off', 'calvin_seq.snapshot_interval' => 0);
my $db = 'postgres';
my $bound = 64 * 1024 * 1024;
my $n = 0;
my $largest = 0;

create_extension($node);
create_sent($node, $db);
sql($node, $db, 'CREATE DATABASE side');
my $sequencer = wait_for_sequencer($node, $db);
my $p = pauses($node, 'side');
my $s = session($node, $db);

# so many MB, a thousand submissions in a transaction
sub push_through
{
	my ($mb) = @_;

	foreach (1 .. $mb)
	{
		my $size;

		$s->query(filled('a', $n + 1, 1000, 1000));
		$n += 1000;
		# what waits may be as much as it likes
		$size = $s->query(q{SELECT sum(pg_relation_size(c.oid)) - max(q.waiting_bytes) FROM pg_class c, seq_sequencer q WHERE relname ~ '^seq_inbox_[0-9]+$'});
		$largest = $size if $size > $largest;
	}
	wait_sequenced($node, $db);
	return;
}

sub complete
{
	my ($desc) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(numbers($node, $db, 'a'), "$n|$n|$n", "$desc: each once, in order");
}

sub stays_small
{
	my ($desc) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	cmp_ok($largest, '<', $bound, "$desc: the inbox stays small");
	$largest = 0;
	return;
}

push_through(60);
complete('nobody in the way');
stays_small('nobody in the way');

#
# An old snapshot
#
sql($node, $db, 'CREATE TABLE other (i int)');
my $old = session($node, $db);
$old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM other; UPDATE other SET i = 0');
push_through(110);
complete('beside an old snapshot');
stays_small('beside an old snapshot');
like($old->error('SELECT * FROM seq_inbox_waiting()'),
	qr/^40001: what waited in the inbox at the time of this snapshot is no longer there\nDETAIL: .*\nHINT: /, 'which does not see what waited: an error, not less');
$old->query('ROLLBACK');

#
# A dump, which comes for the inbox after all has gone through it
#
my $hold = hold_log($node, $db);
my $before = $n;
$s->query(filled('a', $n + 1, 500, 20));
$n += 500;
my $waits = sql($node, $db, 'SELECT waiting_rows FROM seq_sequencer');
$old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM other; LOCK TABLE seq_inbox IN ACCESS SHARE MODE');
$hold->query('COMMIT');
push_through(110);
complete('beside a dump');
stays_small('beside a dump');
is($waits, 500, 'of what waited when it began');
is($old->query(<<'EOS'), "500|$before|" . ($before + 500), 'it still gets all of it');
SELECT count(*), min(i) - 1, max(i)
FROM seq_inbox_waiting(), LATERAL (SELECT split_part(convert_from((seq_decode_tx_class(tx_class) ->> 'plans')::bytea, 'UTF8'), ' ', 1)::int AS i) w
EOS
is($old->query("SELECT count(*) FROM seq_replay(seq_vshard('a'), 0, 9000000000)"), $before, 'and what was in the log then there');
is(sql($node, $db, 'SELECT count(*) FROM seq_inbox_waiting()'), 0, 'a newer snapshot sees that nothing waits');
$old->query('ROLLBACK');
push_through(40);
complete('after the dump');

#
# The sequencer ended while it empties a partition
#
foreach my $kill ('terminated', 'killed')
{
	foreach my $point ('rotation: pins known', 'rotation: locked')
	{
		foreach my $skip (0, 1)
		{
			my $pid = $sequencer;

			$p->arm($point, $pid, $skip);
			my $more = 0;
			# until it stands there
			until ($more++ > 60 || $p->{session}->query("SELECT pg_temp.pause_wait('$point', 10)") ne '')
			{
				$s->query(filled('a', $n + 1, 1000, 1000));
				$n += 1000;
			}
			is($p->reached($point), $pid, "stopped at $point");
			$s->query(filled('a', $n + 1, 10, 10));
			$n += 10;
			if ($kill eq 'terminated')
			{
				sql($node, 'side', "SELECT pg_terminate_backend($pid)");
				$p->release($point);
				$sequencer = wait_for_sequencer($node, $db, $pid);
			}
			else
			{
				kill 'KILL', $pid;
				wait_until(sub { !process_alive($pid) }, 'its end');
				$_->quit foreach $p, $s, $old, $hold;
				(undef, $sequencer) = both_workers($node, $db);
				$p = pauses($node, 'side');
				($s, $old, $hold) = map { session($node, $db) } 1 .. 3;
			}
			push_through(20);
			complete("$kill at $point");
			stays_small("$kill at $point");
		}
	}
}

$_->quit foreach $s, $old, $hold, $p;
$node->stop;
nothing_crashed($node, 1);
done_testing();
