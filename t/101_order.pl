# The order of what is submitted, with processes stopped where it could go wrong:
# behind whatever was visible, or acknowledged, and never held up by a transaction
# that is only open.
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

my @committing = ('submitters: before drawing', 'submission: stamp drawn', 'submission: written', 'submission: before clearing');
my $node = new_node('main');
my $db = 'postgres';

create_extension($node);
create_sent($node, $db);
sql($node, $db, 'CREATE TABLE t (i int); CREATE DATABASE side');
my $sequencer = wait_for_sequencer($node, $db);
my $p = pauses($node, 'side');
my ($s, $u, $v) = map { session($node, $db) } 1 .. 3;

sub send_one { my ($name) = @_; return "SELECT seq_send('a', '\"$name\"')" }
sub waits
{
	return sql($node, $db, 'SELECT concat_ws(\' \', waiting_rows, waits_for, waits_for_pids) FROM seq_sequencer');
}

#
# A commit under way: who came later waits for it
#
foreach my $point (@committing)
{
	my @order = $point eq 'submitters: before drawing' ? (2, 1) : (1, 2);
	my $visible = $point eq 'submission: before clearing' ? 1 : 0;

	sql($node, $db, 'TRUNCATE t');
	$p->arm($point, $s->pid);
	$s->send('BEGIN; INSERT INTO t VALUES (1); ' . send_one(1) . '; COMMIT');
	is($p->reached($point), $s->pid, "stopped at $point");
	is($u->query('SELECT count(*) FROM t'), $visible, $visible ? 'its transaction is visible' : 'its transaction is not visible');
	my $number = $u->query(send_one(2));
	is($u->query("SELECT seq_submission($number, '200ms') IS NULL"), 't', 'what was committed later waits');
	is(waits(), ($visible ? 2 : 1) . " commit {" . $s->pid . '}', 'and the view says for whom');
	ok($p->release($point), 'going on');
	is(($s->finish)[1], '', 'COMMIT');
	# who had not drawn comes later, and nothing visible says otherwise
	is_next($node, $db, join(' ', map { qq(a="$_") } @order), "$point: the order");
}

#
# Behind what is visible, although it is drawn before that is acknowledged
#
$p->arm('submission: before clearing', $s->pid);
sql($node, $db, 'TRUNCATE t');
$s->send('BEGIN; INSERT INTO t VALUES (1); ' . send_one('seen') . '; COMMIT');
$p->reached('submission: before clearing');
$u->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
is($u->query('SELECT count(*) FROM t'), 1, 'seen before its COMMIT has returned');
$u->query(send_one('sees') . '; COMMIT');
$v->query(send_one('after'));
$p->release('submission: before clearing');
$s->finish;
is_next($node, $db, 'a="seen" a="sees" a="after"', 'who saw it comes behind it');

# A number drawn at the call would have it the other way round.
$s->query('BEGIN; ' . send_one('first call'));
$u->query(send_one('first commit'));
$v->query('BEGIN; ' . send_one('second call'));
$s->query('COMMIT');
$v->query('COMMIT');
is_next($node, $db, 'a="first commit" a="first call" a="second call"', 'the order is that of the commits, not of the calls');

# Who only reads what another one has written, and submits then, in one commit each.
$s->query('CREATE TABLE turn (i int); INSERT INTO turn VALUES (0)');
my @sessions = ($s, $u, $v);
foreach my $i (1 .. 30)
{
	my $one = $sessions[ $i % 3 ];

	$one->query("BEGIN; SELECT seq_send('a', to_jsonb(i)) FROM turn; UPDATE turn SET i = i + 1; COMMIT");
}
is_next($node, $db, join(' ', map { "a=$_" } 0 .. 29), 'a chain of transactions that each saw the one before');

#
# A transaction that is only open holds up nobody
#
$s->query('BEGIN; ' . send_one('open') . "; SELECT seq_send_bytes('a', convert_to('big' || repeat('x', 600000), 'UTF8')) FROM generate_series(1, 4)");
is_next($node, $db, '', 'others go on beside an open transaction that has submitted much');
is(waits(), '0', 'the sequencer waits for nobody');
$u->query('BEGIN; ' . send_one('open too'));
is_next($node, $db, '', 'and beside two');
$u->query('COMMIT');
$s->query('COMMIT');
is_next($node, $db, 'a="open too" a="open"' . ' a=big' x 4, 'theirs come with their COMMIT');

#
# The sequencer, stopped between its looks
#
# (b): behind the limit and before the snapshot one commits, which must not be passed over
foreach my $point ('sequence: before the limit', 'sequence: before the snapshot', 'sequence: appended', 'sequence: before the commit', 'sequence: committed')
{
	$p->arm($point, $sequencer);
	$s->query(send_one('wakes'));
	is($p->reached($point), $sequencer, "the sequencer is stopped at $point");
	$u->query(send_one('meanwhile'));
	$p->arm('submission: stamp drawn', $v->pid);
	$v->send('BEGIN; ' . send_one('drawn') . '; COMMIT');
	$p->reached('submission: stamp drawn');
	my $last = $s->query(send_one('last'));
	$p->release($point);
	is($s->query("SELECT seq_submission($last, '200ms') IS NULL"), 't', 'what is behind one that has drawn is not taken');
	$p->release('submission: stamp drawn');
	$v->finish;
	is_next($node, $db, 'a="wakes" a="meanwhile" a="drawn" a="last"', "$point: the order");
}

#
# Rolled back when its stamp was drawn, and its rows were written
#
$u->query('CREATE TABLE skew (i int); INSERT INTO skew VALUES (1), (2)');
foreach my $one ([ $s, 1 ], [ $v, 2 ])
{
	$one->[0]->query("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT sum(i) FROM skew; UPDATE skew SET i = 3 WHERE i = $one->[1]; " . send_one("skew $one->[1]"));
}
$p->arm('submission: written', $s->pid);
$s->send('COMMIT');
$p->reached('submission: written');
is($v->error('COMMIT'), '', 'one of two serializable transactions commits');
my $behind = $u->query(send_one('behind it'));
is($u->query("SELECT seq_submission($behind, '200ms') IS NULL"), 't', 'while the other is at its COMMIT, what comes behind waits');
$p->release('submission: written');
like(($s->finish)[1], qr/^40001: /, 'whose COMMIT fails');
is_next($node, $db, 'a="skew 2" a="behind it"', 'what it had written is not sequenced, and holds up nothing');

# Waiting for one that fails is nothing to see afterwards.
is(waits(), '0', 'nobody is waited for');

$node->stop;
nothing_crashed($node);
done_testing();
