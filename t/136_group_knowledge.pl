# Groups: who is woken where others have all, and what a session knows of a group whose
# positions were put back.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinGroup;
use CalvinPause;
use CalvinTest;
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

#
# Two wait for what a third one has: they do not wake each other all the time
#
sql($node, $db, "SELECT seq_create_group('g', 1)");
send_to($node, $db, 'm', 1);
$first->query('BEGIN');
is($first->query($poll), '1', 'the only partition is taken');
$second->send($wait);
$third->send($wait);
wait_waiting($node, $db, 2);
send_to($node, $db, 'm', 2);
my @pids = ($second->pid, $third->pid);
my $before = switches($pids[0]) + switches($pids[1]);
# nothing is to happen, so there is nothing to wait for
sql($node, $db, 'SELECT pg_sleep(2)');
cmp_ok(switches($pids[0]) + switches($pids[1]) - $before, '<', 50, 'who waits for a partition that is taken sleeps');
$first->query('ROLLBACK');
wait_until(sub { !$second->running || !$third->running }, 'it is free');
my ($had, $other) = $second->running ? ($third, $second) : ($second, $third);
is(join('', $had->finish), '1,2', 'one of them has all of it');
send_to($node, $db, 'm', 3);
is(join('', $other->finish), '3', 'and the other one what comes next');

#
# What comes for a partition that a waiting session has itself is for nobody else
#
$first->query('BEGIN');
send_to($node, $db, 'm', 4);
is($first->query($poll), '4', 'a transaction has the partition');
$second->send($wait);
wait_waiting($node, $db, 1);
$first->send($wait);
wait_waiting($node, $db, 2);
send_to($node, $db, 'm', 5);
eval { wait_until(sub { !$first->running }, 'it is told', within(4)) };
ok(!$first->running, 'and is told of what comes there, though another one has waited for longer');
is(join('', $first->finish), '5', 'which is for it');
$first->query('COMMIT');
send_to($node, $db, 'm', 6);
is(join('', $second->finish), '6', 'and the other one has what is free');

#
# What was dealt with ahead is forgotten also where nothing is found behind it
#
sql($node, $db, "SELECT seq_drop_group('g'); SELECT seq_create_group('g', 1, collections => '{m}')");
send_to($node, $db, 'm', 10);
my $ahead = $first->query("BEGIN; SELECT vshard || ',' || epoch || ',' || position FROM seq_fetch('g')");
$first->query("ROLLBACK; SELECT seq_park('g', $ahead, 'ahead'); SELECT seq_drop_parked('g', $ahead)");
my $epoch = 1 + sql($node, $db, 'SELECT seq_current_committed_epoch()');
append_batches($node, $db, $epoch, $epoch + 1100, [ [ ['x'] ] ]);
wait_for_epoch($node, $db, $epoch + 1100);
is($first->query("$poll; SELECT count(*) FROM seq_parked_txns; SELECT epoch > $epoch FROM seq_group_positions"), "\n0\nt", 'the position is stored, and nothing to be passed over is left');
sql($node, $db, "SELECT seq_drop_group('g'); SELECT seq_create_group('g', 1)");

#
# What a session knows of a group is not true of one that was restored
#
my $dump = PostgreSQL::Test::Utils::tempdir() . '/early.dump';

# Each in an epoch of its own.
sub epochs_sent
{
	my (@numbers) = @_;

	send_to($node, $db, 'm', $_) foreach @numbers;
	return;
}

$_->quit foreach $second, $third;
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $db ], 'dumped early');
epochs_sent(11 .. 20);
is($first->query($poll), join(',', 11 .. 20), 'a session goes on behind the dump');
sql($node, $db, 'DROP EXTENSION calvin_seq CASCADE');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $db, $dump ], 'restored under it');
wait_for_applier($node, $db);
epochs_sent(31);
is($first->query($poll), '31', 'the session begins anew, as the group does');

# nor where the position alone was put back
epochs_sent(32 .. 33);
is($first->query($poll), '32,33', 'behind that');
sql($node, $db, q{UPDATE seq_group_positions SET epoch = epoch - 3, "position" = 0, vshard = 0});
epochs_sent(34);
is($first->query($poll), '31,32,33,34', 'a position that was put back counts');

done_testing();
