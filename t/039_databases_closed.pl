# Databases that take no connections for a while, that somebody has locked, or
# that lose their log under a session that is about to subscribe.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinPause;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

require_pauses();

my $txn = [ ['a'], 'ab', 1 ];
my $va = vshard_of('a');
my $node = new_node('closed', 'calvin_seq.max_databases' => 2);

sql($node, 'postgres', "CREATE DATABASE $_") foreach qw(closed locked source);
create_extension($node, 'closed');

my $launchers =
  "SELECT coalesce(min(pid), 0) FROM pg_stat_activity WHERE backend_type = 'calvin_seq launcher'";

#
# No connections: those who have one still append, and the applier still applies.
#
my $s = session($node, 'closed');
my $offset = log_offset($node);

sql($node, 'postgres', 'ALTER DATABASE closed ALLOW_CONNECTIONS false');
for my $epoch (0 .. 3)
{
	my $applier = applier_pid($node, 'closed');

	sql($node, 'postgres', "SELECT pg_terminate_backend($applier, 60000)");
	append_batches($node, 'closed', $epoch, $epoch, [$txn], $s);
	is($s->query("SELECT seq_wait_for_epoch($epoch, '" . within(30) . "s')"), 't',
		"while the database is closed, terminated $epoch: an applier comes and applies");
}
log_has_no($node, qr/not currently accepting connections/, 'nobody tries in vain', $offset);
$s->quit;

# and when it was closed already when the server was started
$node->restart;
my $launcher;
wait_until(sub { $launcher = sql($node, 'postgres', $launchers) }, 'the launcher');
is(applier_pid($node, 'closed'), 0, 'a database closed when the server starts has no applier');
sql($node, 'postgres', 'ALTER DATABASE closed ALLOW_CONNECTIONS true');
# nobody connects to it before the applier is there
wait_until(sub { applier_pid($node, 'closed') }, 'the applier of the opened database');
wait_for_epoch($node, 'closed', 3);
pass('opened again it gets one, without being asked for');
log_has_no($node, qr/not currently accepting connections/, 'and no probe tried before', $offset);

#
# A probe that waits for a lock: other databases do not wait for it.
#
create_extension($node, 'source');
my $locker = session($node, 'locked');
$locker->query('BEGIN; LOCK TABLE pg_extension IN ACCESS EXCLUSIVE MODE');
$offset = log_offset($node);
# its successor looks at all databases
sql($node, 'postgres', "SELECT pg_terminate_backend($launcher, 60000)");
wait_for_sql($node, 'postgres',
	"SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'pg_extension'::regclass");
sql($node, 'postgres', 'DROP DATABASE closed');
sql($node, 'postgres', 'CREATE DATABASE copy TEMPLATE source');
my $seconds = elapsed { wait_until(sub { applier_pid($node, 'copy') }, 'the applier of the copy') };
cmp_ok($seconds, '<', within(40), 'a copied database gets its applier beside one whose catalog is locked');
wait_for_log_line($node, qr/looking for the extension in the database with OID \d+ takes too long/, $offset);
sql($node, 'postgres', 'DROP DATABASE copy');
# it is tried again, and the log is not filled with it
wait_for_sql($node, 'postgres',
	"SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'pg_extension'::regclass");
wait_for_sql($node, 'postgres',
	"SELECT count(*) = 0 FROM pg_locks WHERE NOT granted AND relation = 'pg_extension'::regclass");
my $told = () = log_since($node, $offset) =~ /takes too long/g;
is($told, 1, 'said once');
$locker->query('ROLLBACK');
$locker->query('CREATE EXTENSION calvin_seq');
$locker->quit;
wait_for_applier($node, 'locked');
pass('when it is not locked any more all is well');

#
# A slot that changes hands between a session's look and its subscription.
#
my $pause = pauses($node, 'postgres');
$s = session($node, 'locked');
sql($node, 'postgres', 'CREATE DATABASE heir');
$pause->arm('subscription: before claim', $s->pid);
$s->send("SELECT seq_subscribe('{$va}')");
$pause->reached('subscription: before claim');
sql($node, 'locked', 'DROP EXTENSION calvin_seq');
wait_until(sub { !applier_pid($node, 'locked') }, 'the end of the applier');
create_extension($node, 'heir');
append_batches($node, 'heir', 0, 9, [$txn]);
wait_applied($node, 'heir');
$pause->release('subscription: before claim');
my (undef, $error) = $s->finish;
like($error, qr/^55000: the log was dropped while it was subscribed to/, 'subscribing to a log that was dropped');
is(sql($node, 'heir', 'SELECT count(*) FROM seq_subscriptions'), 0, 'nobody subscribed to the next one');
# what the session has lost it can have again
sql($node, 'heir', 'DROP EXTENSION calvin_seq');
$s->query('CREATE EXTENSION calvin_seq');
wait_for_applier($node, 'locked');
is($s->query('SELECT count(*) FROM seq_subscriptions'), 0, 'and none outlives the log');
$s->query("SELECT seq_subscribe('{$va}')");
append_batches($node, 'locked', 0, 2, [$txn]);
is($s->query("SELECT count(*) FROM seq_receive(3, '30s')"), 3, 'the new log can be subscribed to');

# the same log made anew in between, in the same place
$pause->arm('subscription: before claim', $s->pid);
$s->send("SELECT seq_subscribe('{$va}', 'second')");
$pause->reached('subscription: before claim');
sql($node, 'locked', 'DROP EXTENSION calvin_seq');
wait_until(sub { !applier_pid($node, 'locked') }, 'the end of the applier');
create_extension($node, 'locked');
append_batches($node, 'locked', 0, 9, [$txn]);
wait_applied($node, 'locked');
$pause->release('subscription: before claim');
(undef, $error) = $s->finish;
like($error, qr/^55000: the log was dropped while it was subscribed to/, 'nor to its successor by mistake');
is(sql($node, 'locked', 'SELECT count(*) FROM seq_subscriptions'), 0, 'no subscription is left');

$s->quit;
$pause->quit;
$node->stop;
nothing_crashed($node);
done_testing();
