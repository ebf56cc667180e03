# Groups under attack: what comes, ends or is removed in the middle of a fetch.  Nobody
# who could have a message sleeps beside it, and no gap is passed over in silence.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinGroup;
use CalvinPause;
use CalvinTest;
use CalvinWire;
use PostgreSQL::Test::Utils;
use Test::More;

require_pauses();

my $node = new_node('main');
my $db = 'w';

sql($node, 'postgres', "CREATE DATABASE $db");
create_extension($node, $db);

my $pauses = pauses($node, 'postgres');
my ($first, $second, $third) = map { session($node, $db) } 1 .. 3;
my $poll = numbers_of("seq_fetch_json('g')");
my $wait = numbers_of("seq_fetch_json('g', 100, '60s')");

# A new group of one partition, for what begins with "m".
sub new_group
{
	sql($node, $db, "SELECT seq_drop_group('g') FROM seq_registrations WHERE name = 'g'; SELECT seq_create_group('g', 1, collections => '{m%}')");
	return;
}

# They wait, in this order.
sub waiting_for_group
{
	my (@sessions) = @_;
	my $n = 0;

	foreach my $session (@sessions)
	{
		$session->send($wait);
		wait_waiting($node, $db, ++$n);
	}
	return;
}

# Whether a session has what it waits for, although it could wait longer.
sub gets
{
	my ($session, $expected, $desc) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	eval { wait_until(sub { !$session->running }, $desc, within(4)) };
	my $late = $session->running;
	my ($output, $error) = $session->finish;
	return is(($late ? 'late: ' : '') . "$output$error", $expected, $desc);
}

#
# What the applier had noted, and did not publish before it ended
#
sql($node, $db, "SELECT seq_create_group('epochs', 1)");
$pauses->arm('apply: entry', 0, 2);
$first->query('BEGIN');
append_batches($node, $db, 0, 3, [ [ ['m'] ] ], $first);
$first->query('COMMIT');
my $applier = $pauses->reached('apply: entry');
# from here on what comes is noted, in the middle of what is not published
is(sql($node, $db, "SELECT count(*) FROM seq_fetch('epochs')"), 0, 'the first fetch is early');
$pauses->arm('apply: told, not published');
$pauses->release('apply: entry');
is($pauses->reached('apply: told, not published'), $applier, 'the rest is noted');
sql($node, $db, "SELECT pg_terminate_backend($applier)");
wait_until(sub { !process_alive($applier) }, 'the applier ended');
$pauses->release('apply: told, not published');
wait_for_epoch($node, $db, 3);
is(sql($node, $db, "SELECT string_agg(epoch::text, ',') FROM seq_fetch('epochs')"), '0,1,2,3', 'all of it comes once it is published');
sql($node, $db, "SELECT seq_drop_group('epochs')");

#
# What is just being noted in the place of the first one that is kept
#
new_group();
send_to($node, $db, 'm/1', $_) foreach 1 .. 4;
$pauses->arm('traffic: noted, not counted', applier_pid($node, $db));
sql($node, $db, "SELECT seq_send('m/1', '5')");
$pauses->reached('traffic: noted, not counted');
is(sql($node, $db, $poll), '1,2,3,4', 'what is published is there');
$pauses->release('traffic: noted, not counted');
wait_for_sql($node, $db, 'SELECT waiting_rows = 0 FROM seq_sequencer');
wait_applied($node, $db);
is(sql($node, $db, $poll), '5', 'and then the rest');

nothing_crashed($node);
$_->quit foreach $first, $second, $third, $pauses;
$node->stop;
done_testing();
