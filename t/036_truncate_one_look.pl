# seq_truncate decides by one look who needs the log: whoever begins to need it
# meanwhile is waited for, refused or respected, and loses nothing in silence.
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
my $node = new_node('look', max_prepared_transactions => 2);
create_extension($node, $db);
my ($va, $vb, $vc) = map { vshard_of($_) } qw(a b c);
my $last = 20;
my @points = map { "truncate: $_" } 'before the fence', 'before the look', 'between subscriptions and cursors', 'before what goes is read', 'before removing';
my $pauses = pauses($node, $db);
my $watch = session($node, $db);

append_batches($node, $db, 0, $last, [ [ ['a'], 'ab', 1 ], [ ['b'], 'ab', 1 ] ]);
wait_for_epoch($node, $db, $last);

# One who is behind, but for whom nothing comes: so what goes has to be read.
my $quiet = session($node, $db);
$quiet->query("SELECT seq_subscribe('{$vc}', 'quiet', from_epoch => 3)");

my $truncate = 'SELECT seq_truncate(15)';
my $epochs = q{SELECT string_agg(epoch::text, ' ' ORDER BY epoch) FROM seq_receive(1000, '0', '%s')};
my $all = join ' ', 0 .. $last;

sub first_epoch { return $watch->query("SELECT min(epoch) FROM seq_log WHERE kind = 'epoch_batch'"); }

# Has what a session was sent come to its end, or to a lock?
sub blocked
{
	my ($session) = @_;
	my $pid = $session->pid;

	return wait_until(
		sub { return !$session->running ? 'ended' : $watch->query("SELECT wait_event_type FROM pg_stat_activity WHERE pid = $pid") eq 'Lock' ? 'waits' : ''; },
		'what was sent ends or waits') eq 'waits';
}

# A truncation that has stopped at a point.
sub truncation_at
{
	my ($point) = @_;
	my $t = session($node, $db);

	$t->query('BEGIN');
	$pauses->arm($point, $t->pid);
	$t->send($truncate);
	$pauses->reached($point);
	return $t;
}

#
# A subscriber that wants all of it, at every step
#
foreach my $point (@points)
{
	my $t = truncation_at($point);
	my $s = session($node, $db);

	$s->send("SELECT seq_subscribe('{$va}', 's', from_epoch => 0)");
	my $waits = blocked($s);
	$pauses->release($point);
	my $error = ($t->finish)[1];
	if ($waits)
	{
		is($error, '', "$point: the truncation has not seen him");
		ok($s->running, 'who waits for it');
	}
	else
	{
		like($error, qr/^55006: cannot truncate past the subscription "s"/, "$point: the truncation is refused");
	}
	$t->query('ROLLBACK');
	is(($s->finish)[1], '', 'he is served when it is rolled back');
	is($s->query(sprintf $epochs, 's'), $all, 'with all that there is');
	$_->quit for $s, $t;
}

# He has looked at the log already, but not told what he needs.
foreach my $point ('start: before the base is looked at', 'start: before the floors are told')
{
	my $s = session($node, $db);
	my $t = session($node, $db);

	$pauses->arm($point, $s->pid);
	$s->send("SELECT seq_subscribe('{$va}', 's', from_epoch => 0)");
	$pauses->reached($point);
	cmp_ok($t->query("BEGIN; $truncate"), '>', 0, "$point: the truncation does not see him");
	$pauses->release($point);
	ok(blocked($s), 'he waits for it');
	$t->query('ROLLBACK');
	is(($s->finish)[1], '', 'and is served when it is rolled back');
	is($s->query(sprintf $epochs, 's'), $all, 'with all that there is');
	$_->quit for $s, $t;
}

#
# A cursor set back, or made, by somebody who leaves
#
my $c = session($node, $db);
$c->query("SELECT seq_subscribe('{$vb}', 'c', from_epoch => 18); SELECT seq_commit('c'); SELECT seq_unsubscribe(name => 'c')");
foreach my $name ('c', 'new')
{
	foreach my $point (@points)
	{
		my $t = truncation_at($point);
		my $s = session($node, $db);

		$s->send("SELECT seq_subscribe('{$vb}', '$name', from_epoch => 0); SELECT seq_commit('$name'); SELECT seq_unsubscribe(name => '$name')");
		my $waits = blocked($s);
		$pauses->release($point);
		my $error = ($t->finish)[1];
		if ($waits)
		{
			is($error, '', "$point, \"$name\": the truncation has not seen him");
		}
		else
		{
			like($error, qr/^55006: cannot truncate past the durable cursor "$name"/, "$point, \"$name\": the truncation is refused");
		}
		$t->query('ROLLBACK');
		is(($s->finish)[1], '', 'he goes on when it is rolled back');
		is($watch->query("SELECT epoch FROM seq_cursors WHERE name = '$name'"), 0, 'with his cursor');
		# back to where it does not matter
		$s->query("SELECT seq_drop_cursor('$name')");
		$s->query("SELECT seq_subscribe('{$vb}', 'c', from_epoch => 18); SELECT seq_commit('c'); SELECT seq_unsubscribe(name => 'c')") if $name eq 'c';
		$_->quit for $s, $t;
	}
}

# One that is not committed yet is waited for, either way.
foreach my $end ('COMMIT', 'ROLLBACK')
{
	my $s = session($node, $db);
	my $t = session($node, $db);

	$s->query("SELECT seq_subscribe('{$vb}', 'new', from_epoch => 0); BEGIN; SELECT seq_commit('new'); SELECT seq_unsubscribe(name => 'new')");
	$t->query('BEGIN');
	$t->send($truncate);
	ok(blocked($t), 'the truncation waits');
	$s->query($end);
	if ($end eq 'COMMIT')
	{
		like(($t->finish)[1], qr/^55006: cannot truncate past the durable cursor "new"/, 'and is refused');
		$t->query('ROLLBACK');
		$s->query("SELECT seq_drop_cursor('new')");
	}
	else
	{
		is(($t->finish)[1], '', 'and goes on');
		$t->query('ROLLBACK');
	}
	$_->quit for $s, $t;
}

# Taken over without having noticed, he is no subscriber any more, and his
# cursor is not there yet.
foreach my $end ('', 'ROLLBACK')
{
	my $s = session($node, $db);
	my $other = session($node, $db);
	my $t = session($node, $db);
	my $point = 'cursors: between look and row';

	$s->query("SELECT seq_subscribe('{$vb}', 'over', from_epoch => 0)");
	$pauses->arm($point, $s->pid);
	$s->send("SELECT seq_commit('over')");
	$pauses->reached($point);
	$other->query("SELECT seq_subscribe('{$vb}', 'over', from_epoch => 19)");
	cmp_ok($t->query("BEGIN; $truncate"), '>', 0, 'the truncation does not see him');
	$t->query($end) if $end ne '';
	$pauses->release($point);
	if ($end eq '')
	{
		like(($s->finish)[1], qr/^40001: the log is being truncated past where the cursor stands/, 'as long as it is open he fails');
		$t->query('ROLLBACK');
	}
	else
	{
		is(($s->finish)[1], '', 'when it was rolled back he commits');
	}
	$s->query("SELECT seq_drop_cursor('over')");
	$_->quit for $s, $other, $t;
}

#
# Nothing is left of a truncation that was taken back
#
my $t = session($node, $db);
$t->query("BEGIN; SAVEPOINT s; $truncate; ROLLBACK TO s");
my $s = session($node, $db);
$s->query("SELECT seq_subscribe('{$va}', 's', from_epoch => 0)");
is($s->query(sprintf $epochs, 's'), $all, 'rolled back to a savepoint');
$s->quit;
$t->query("SAVEPOINT s; $truncate; RELEASE s");
$s = session($node, $db);
$s->send("SELECT seq_subscribe('{$va}', 's', from_epoch => 0)");
ok(blocked($s), 'released, it is still under way');
like($t->error("PREPARE TRANSACTION 'truncation'"), qr/^0A000: cannot PREPARE a transaction that has truncated seq_log/, 'it cannot be prepared');
is(($s->finish)[1], '', 'then nobody waits');
$s->query("SELECT seq_unsubscribe(name => 's')");
# two truncations are one at a time
$t->query("BEGIN; $truncate");
$s->send('BEGIN; SELECT seq_truncate(10)');
ok(blocked($s), 'another truncation waits');
$t->query('ROLLBACK');
is(($s->finish)[0], '10', 'and finds what is there then');
$s->query('ROLLBACK');

#
# Those who come too late are told by name
#
is(first_epoch(), 0, 'nothing has gone so far');
my $late = session($node, $db);
$t->query("BEGIN; $truncate");
$late->send("SELECT seq_subscribe('{$va}', 'late', from_epoch => 0)");
ok(blocked($late), 'a subscriber waits');
$t->query('COMMIT');
like(($late->finish)[1], qr/^55000: subscription "late" needs epoch 0, which was truncated from the log/, 'in vain');
is($quiet->query(sprintf $epochs, 'quiet'), '', 'who needs nothing of it goes on');
is($late->query("SELECT seq_subscribe('{$va}', 'late', from_epoch => 15)"), '', 'so does who begins behind it');
is($late->query(sprintf $epochs, 'late'), join(' ', 15 .. $last), 'with the rest');
$late->query("SELECT seq_unsubscribe(name => 'late')");

# and by force
$late->query("SELECT seq_subscribe('{$va}', 'late', from_epoch => 15)");
like($t->error('SELECT seq_truncate(18)'), qr/^55006: cannot truncate past the subscription "late"/, 'refused');
cmp_ok($t->query('SELECT seq_truncate(18, true)'), '>', 0, 'forced');
like($late->error(sprintf $epochs, 'late'), qr/^55000: subscription "late" needs epoch 15, which was truncated/, 'the reader is told');
$_->quit for $s, $t, $c, $late, $quiet, $watch, $pauses;

nothing_crashed($node);
done_testing();
