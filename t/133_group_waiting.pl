# Who waits for a group is woken by whatever gives it something, one at a time, and
# what has woken one who goes without it wakes the next.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinGroup;
use CalvinPause;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

require_pauses();

my $node = new_node('main');
my $db = 'w';

sql($node, 'postgres', "CREATE DATABASE $db");
create_extension($node, $db);

my $pauses = pauses($node, 'postgres');
my ($first, $second, $third) = map { session($node, $db) } 1 .. 3;
my $fetch = numbers_of("seq_fetch_json('g', 100, '60s')");
my $one = numbers_of("seq_fetch_json('g', 1, '60s')");

# A new group for each part, of a partition for each of four vshards.
sub new_group
{
	sql($node, $db, "SELECT seq_drop_group('g') FROM seq_registrations WHERE name = 'g'; SELECT seq_create_group('g', 4, '{97,98,99,100}')");
	# from here on what each vshard had last is known, and nothing is looked for in vain
	send_to($node, $db, map { ($_ => 0) } 'a' .. 'd');
	is(sql($node, $db, numbers_of("seq_fetch_json('g')")), '0,0,0,0', 'a group is there');
	return;
}

# They wait, in this order.
sub waiting
{
	my ($query, @sessions) = @_;
	my $n = 0;

	foreach my $session (@sessions)
	{
		$session->send($query);
		wait_waiting($node, $db, ++$n);
	}
	return;
}

# What a session gets, and whether it had to wait for longer than it needs.
sub got
{
	my ($session, $desc) = @_;

	eval { wait_until(sub { !$session->running }, $desc, within(20)) };
	my $late = $session->running;
	my ($output, $error) = $session->finish;
	return ($late ? 'late: ' : '') . "$output$error";
}

sub gets
{
	my ($session, $expected, $desc) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(got($session, $desc), $expected, $desc);
}

#
# What comes between a look and the return of who has found something
#
new_group();
$first->query('BEGIN');
waiting($fetch, $first, $second);
$pauses->arm('fetch: state read', $first->pid);
send_to($node, $db, 'a', 1);
$pauses->reached('fetch: state read');
# the first in the list is woken again, and does not look any more
send_to($node, $db, 'b', 2);
$pauses->release('fetch: state read');
gets($first, '1', 'who was woken has what he has looked for');
gets($second, '2', 'what came while he did is the next one\'s, although he goes on');
$first->query('COMMIT');

# likewise if he is woken by another one's end
new_group();
send_to($node, $db, 'a', 3);
$third->query('BEGIN');
is($third->query(numbers_of("seq_fetch_json('g')")), '3', 'somebody has a partition');
$first->query('BEGIN');
waiting($fetch, $first, $second);
$pauses->arm('fetch: state read', $first->pid);
send_to($node, $db, 'b', 4);
$pauses->reached('fetch: state read');
$pauses->arm('fetch: partition locked', $first->pid);
$pauses->release('fetch: state read');
# what the other one has is passed over already: the older ones are tried first
$pauses->reached('fetch: partition locked');
$third->query('ROLLBACK');
$pauses->release('fetch: partition locked');
# who was woken before, by the way, has looked too early, and has the other one
is(join(' ', sort map { got($_, 'something') } $first, $second), '3 4',
	'one has what he found free, what was rolled back meanwhile is the next one\'s');
$first->query('COMMIT');

#
# Who was woken, and ends before he has anything
#
foreach my $point ('fetch: state read', 'fetch: partition locked')
{
	foreach my $end ('cancel', 'terminate')
	{
		my $d = session($node, $db);

		new_group();
		waiting($fetch, $d, $second);
		$pauses->arm($point, $d->pid);
		send_to($node, $db, 'a', 5);
		$pauses->reached($point);
		sql($node, 'postgres', 'SELECT pg_' . $end . '_backend(' . $d->pid . ')');
		like(($d->finish)[1], $end eq 'cancel' ? qr/^57014: / : qr/^57P01: /, "$point: ${end}ed");
		gets($second, '5', 'the next one is woken instead');
		$d->quit;
	}
}

# before he has run at all
foreach my $end ('cancel', 'terminate')
{
	my $d = session($node, $db);
	my $pid = $d->pid;

	new_group();
	waiting($fetch, $d, $second);
	kill 'STOP', $pid;
	send_to($node, $db, 'a', 6);
	sql($node, 'postgres', "SELECT pg_${end}_backend($pid)");
	kill 'CONT', $pid;
	my ($output, $error) = $d->finish;
	# it may have been served first
	$output eq '6' ? pass("$end: had it") : like($error, qr/^57/, "$end: woken and ended");
	if ($output eq '6')
	{
		send_to($node, $db, 'a', 6);
	}
	gets($second, '6', 'the next one has it');
	$d->quit;
}

# and by a timeout of the call, and of the statement
new_group();
$second->send($fetch);
wait_waiting($node, $db, 1);
is($first->query(numbers_of("seq_fetch_json('g', 100, '200ms')")), '', 'the call\'s timeout is an empty answer');
like($first->error("SET statement_timeout = '200ms'; SELECT seq_fetch('g', 100, '60s')"), qr/^57014: canceling statement due to statement timeout/, 'the statement\'s is an error');
$first->query('RESET statement_timeout');
send_to($node, $db, 'a', 7);
gets($second, '7', 'who waits on is woken');

# between joining the list and the look
new_group();
$pauses->arm('fetch: joined', $first->pid);
$first->send($fetch);
$pauses->reached('fetch: joined');
send_to($node, $db, 'a', 8);
$pauses->release('fetch: joined');
gets($first, '8', 'what comes while one lies down is seen');

#
# By the end of who has taken it
#
foreach my $end ('ROLLBACK', 'ROLLBACK TO s', 'terminate', 'cancel', 'client')
{
	my $holder = session($node, $db);
	my $pid = $holder->pid;

	new_group();
	send_to($node, $db, map { ($_ => ord($_)) } 'a' .. 'd');
	$holder->query('BEGIN; SAVEPOINT s');
	is($holder->query(numbers_of("seq_fetch_json('g')")), '97,98,99,100', 'one has all');
	waiting($one, $first, $second, $third);
	if ($end =~ /^ROLLBACK/) { $holder->query($end) }
	elsif ($end eq 'terminate') { sql($node, 'postgres', "SELECT pg_terminate_backend($pid)") }
	elsif ($end eq 'client') { $holder->kill_client }
	else
	{
		$holder->send('SELECT pg_sleep(600)');
		wait_for_sql($node, 'postgres', "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $pid");
		sql($node, 'postgres', "SELECT pg_cancel_backend($pid)");
		$holder->finish;
		# an aborted transaction has nothing any more
	}
	my @got;
	foreach my $session ($first, $second, $third)
	{
		eval { wait_until(sub { !$session->running }, 'a worker', within(20)) };
		push @got, $session->running ? 'late' : ($session->finish)[0];
	}
	is(join(' ', sort { $a <=> $b } @got), '97 98 99', "$end: three that wait have one each, the oldest ones");
	$holder->quit;
	is($first->query(numbers_of("seq_fetch_json('g')")), '100', 'and one is left');
}

#
# One at a time, and nobody else
#
new_group();
sql($node, $db, "SELECT seq_create_group('h', 1, '{101}')");
my $other = session($node, $db);
$other->send("SELECT seq_fetch('h', 1, '10 min')");
wait_waiting($node, $db, 1);
$first->query('BEGIN');
foreach ($first, $second, $third)
{
	$_->send(numbers_of("seq_fetch_json('g', 100, '10 min')"));
	wait_until(sub { my @w = waiting_pids($node, $db); grep { $_ == $first->pid } @w }, 'it waits');
}
wait_waiting($node, $db, 4);
my @sleepers = map { $_->pid } $second, $third, $other;
quiet(@sleepers);
my %before = map { ($_ => switches($_)) } @sleepers;
send_to($node, $db, 'a', 10);
gets($first, '10', 'one is woken');
is(join(' ', map { switches($_) - $before{$_} } @sleepers), '0 0 0', 'the others of the group, and those of another, sleep on');
# nobody polls
usleep(3_000_000);
is(join(' ', map { switches($_) - $before{$_} } @sleepers), '0 0 0', 'also as time goes by');
# traffic of vshards that are nobody's
send_to($node, $db, 'z', $_) foreach 1 .. 20;
is(join(' ', map { switches($_) - $before{$_} } @sleepers), '0 0 0', 'and while there is what is not for them');
$first->query('COMMIT');
usleep(500_000);
cmp_ok(scalar(grep { switches($_) != $before{$_} } @sleepers), '<=', 1, 'a commit, which gives partitions back, wakes one at most');
send_to($node, $db, 'b', 11, 'c', 12);
# one of them has both or they have one each
my %got;
foreach ($second, $third)
{
	eval { wait_until(sub { !$_->running }, 'a worker', within(5)) };
	$got{$_} = $_->running ? '' : ($_->finish)[0];
}
is(join(',', sort { $a <=> $b } map { split /,/, $_ } values %got), '11,12', 'what is for both is given out');
foreach ($second, $third)
{
	next if $got{$_} ne '';
	send_to($node, $db, 'a', 13);
	gets($_, '13', 'the one that is left');
}
send_to($node, $db, 'e', 14);
gets($other, '(101,' . sql($node, $db, 'SELECT seq_current_committed_epoch()') . ',0,1970,,)', 'the other group') if 0;
ok(($other->finish)[1] eq '', 'the other group has its own');

#
# The applier's end
#
new_group();
waiting($fetch, $first);
my $applier = applier_pid($node, $db);
sql($node, 'postgres', "SELECT pg_terminate_backend($applier, 10000)");
wait_for_applier($node, $db);
send_to($node, $db, 'a', 20);
gets($first, '20', 'another applier wakes as well');

# what is processed, and goes, while somebody counts is not lacked by then
new_group();
send_to($node, $db, a => 1);
$pauses->arm('backlog: before the log is read', $first->pid);
$first->send(q{SELECT seq_pending('g')});
$pauses->reached('backlog: before the log is read');
is(sql($node, $db, numbers_of("seq_fetch_json('g')")), '1', 'somebody fetches what another one is about to count');
send_to($node, $db, e => 2);
cmp_ok(sql($node, $db, 'SELECT seq_truncate()'), '>', 0, 'and it is truncated');
$pauses->release('backlog: before the log is read');
is(join('|', $first->finish), '0|', 'it does not count, and is no error');

#
# seq_drop_group and DROP EXTENSION
#
new_group();
waiting($fetch, $first);
$second->send("SELECT seq_drop_group('g')");
wait_for_sql($node, 'postgres', 'SELECT cardinality(pg_blocking_pids(' . $second->pid . ')) = 1');
is(sql($node, 'postgres', 'SELECT pg_blocking_pids(' . $second->pid . ')'), '{' . $first->pid . '}', 'seq_drop_group waits for who waits for the group');
sql($node, 'postgres', 'SELECT pg_cancel_backend(' . $first->pid . ')');
like(($first->finish)[1], qr/^57014: /, 'who is cancelled');
is(($second->finish)[1], '', 'and then it goes');
like($first->error($fetch), qr/^42704: there is no group "g"/, 'nobody waits for one that is gone');

sql($node, $db, "SELECT seq_create_group('g', 4, '{97,98,99,100}')");
waiting($fetch, $first);
$second->send("SET lock_timeout = '60s'; DROP EXTENSION calvin_seq");
wait_until(sub { !$second->running || sql($node, 'postgres', 'SELECT cardinality(pg_blocking_pids(' . $second->pid . '))') > 0 }, 'DROP EXTENSION to get somewhere');
if ($second->running)
{
	is(sql($node, 'postgres', 'SELECT pg_blocking_pids(' . $second->pid . ')'), '{' . $first->pid . '}', 'DROP EXTENSION waits for who waits');
	sql($node, 'postgres', 'SELECT pg_cancel_backend(' . $first->pid . ')');
	like(($first->finish)[1], qr/^57014: /, 'who is cancelled');
	is(($second->finish)[1], '', 'and then it goes');
}
else
{
	is(($second->finish)[1], '', 'DROP EXTENSION');
	like(($first->finish)[1], qr/^(?:55000|42P01|42704): /, 'who waited is told');
}

nothing_crashed($node);
done_testing();
