# Vshards of a registered consumer that move from one follower to another, as
# docs/scale-out.md says: in the middle of an epoch, with one vshard ahead of another,
# each transaction is processed once, and in order.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinFollow;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $source = new_node('source');
my ($one, $two) = map { new_node($_) } qw(one two);
my $to = source_of($source, $db);

create_extension($_, $db) foreach $source, $one, $two;
my @vshards = split /,/, sql($source, $db, q{SELECT string_agg(DISTINCT seq_vshard('e/' || i)::text, ',') FROM generate_series(1, 3) i});
my $vshards = "'{" . join(',', @vshards) . "}'";
is(scalar(@vshards), 3, 'three vshards');
# Epochs of twelve transactions, of the three in turn.
my $sent = 0;

sub send_epochs
{
	my ($n) = @_;

	foreach (1 .. $n)
	{
		sql($source, $db, "BEGIN; SELECT count(seq_send('e/' || 1 + i % 3, to_jsonb(i))) FROM generate_series(" . ($sent + 1) . ', ' . ($sent + 12) . ') i; COMMIT');
		$sent += 12;
	}
	wait_for_sql($source, $db, 'SELECT waiting_rows = 0 FROM seq_sequencer');
	wait_follows($source, $db, $_, $db) foreach $one, $two;
	return;
}

foreach my $node ($one, $two)
{
	sql($node, $db, 'CREATE TABLE effects (i int GENERATED ALWAYS AS IDENTITY, vshard int, n int)');
	follow($node, $db, $to, $source);
}
sql($one, $db, "SELECT seq_register('r', $vshards)");
send_epochs(5);

# The least of them is done one by one, and the others stand where they are.
my $first = $vshards[0];
my $done = sub {
	my ($from) = @_;
	return "INSERT INTO effects (vshard, n) SELECT vshard, seq_json(plans)::int FROM $from";
};
my $session = session($one, $db);
$session->query("SELECT seq_subscribe($vshards, 'r')");
$session->query('BEGIN;' . $done->(q{seq_receive(7, '60s', 'r')}) . q{; SELECT seq_commit('r'); COMMIT});
$session->query("SELECT seq_unsubscribe(null, 'r'); SELECT seq_subscribe('{$first}', 'r')");
$session->query('BEGIN;' . $done->(q{seq_receive(6, '60s', 'r')}) . q{; SELECT seq_commit('r'); COMMIT});
$session->quit;

my $noted = sql($one, $db, q{SELECT string_agg(format('(%s, %s, %s)', vshard, epoch, "position"), ', ') FROM seq_cursors WHERE name = 'r'});
my $least = sql($one, $db, q{SELECT min(epoch) FROM seq_cursors WHERE name = 'r'});
is(sql($one, $db, q{SELECT count(DISTINCT (epoch, "position")) > 1 AND max("position") > 0 FROM seq_cursors WHERE name = 'r'}), 't', 'they stand apart, within epochs');
sql($one, $db, q{SELECT seq_unregister('r')});
sql($two, $db, 'CREATE TABLE moved (vshard int, epoch bigint, "position" int)');
sql($two, $db, "INSERT INTO moved VALUES $noted");
sql($two, $db, "SELECT seq_register('r', $vshards, $least)");
send_epochs(2);

$session = session($two, $db);
$session->query("SELECT seq_subscribe($vshards, 'r')");
my $more = $done->(q{seq_receive(10, '1s', 'r') JOIN moved USING (vshard) WHERE (seq_receive.epoch, seq_receive."position") >= (moved.epoch, moved."position") ORDER BY seq_receive.epoch, seq_receive."position"});
while (sql($two, $db, q{SELECT seq_pending('r')}) > 0)
{
	$session->query("BEGIN; $more; SELECT seq_commit('r'); COMMIT");
}
$session->quit;

my (%count, $wrong);
foreach my $node ($one, $two)
{
	$count{$_}++ foreach split /\n/, sql($node, $db, 'SELECT n FROM effects');
	$wrong .= sql($node, $db, q{SELECT coalesce(string_agg(n::text, ' '), '') FROM (SELECT n, lag(n) OVER (PARTITION BY vshard ORDER BY i) AS before FROM effects) e WHERE before > n});
}
is(join(' ', grep { !$count{$_} } 1 .. $sent), '', 'nothing is lost');
is(join(' ', grep { $count{$_} > 1 } sort keys %count), '', 'or done twice');
is($wrong, '', 'or out of order');
is(sql($one, $db, q{SELECT count(*) FROM seq_cursors WHERE name = 'r'}), 0, 'the old owner has nothing of it');

$_->stop foreach $one, $two, $source;
nothing_crashed($_) foreach $one, $two, $source;
done_testing();
