# Commands on whole databases work at once while their appliers run.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinDatabases;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

start_databases();
my ($before, $pid, $s);

#
# An idle applier
#
make_database('d1');
$before = state($node, 'd1');
$pid = applier_pid($node, 'd1');

at_once('ALTER DATABASE d1 RENAME TO d1b', 'RENAME');
is_back('d1b', $before, 'RENAME');

$before = state($node, 'd1b');
at_once('ALTER DATABASE d1b SET TABLESPACE ts', 'SET TABLESPACE');
is_back('d1b', $before, 'SET TABLESPACE');

$before = state($node, 'd1b');
at_once('CREATE DATABASE d2 TEMPLATE d1b', 'CREATE DATABASE TEMPLATE');
wait_for_applier($node, 'd2');
wait_applied($node, 'd2');
is(state($node, 'd2'), $before, 'the copy has an applier, with the same state');
is_back('d1b', $before, 'CREATE DATABASE TEMPLATE');
is(state($node, 'd2'), $before, 'original and copy are independent');
isnt(applier_pid($node, 'd1b'), applier_pid($node, 'd2'), 'each has its applier');

at_once('DROP DATABASE d1b', 'DROP DATABASE');
is(applier_pid($node, 'd1b'), 0, 'its applier is gone');
is_back('d2', $before, 'DROP DATABASE of another one');

# Somebody consumes there: FORCE is for that, and the places become free.
$s = session($node, 'd2');
$s->query("SELECT seq_subscribe('{1,2,3,4,5,6,7,8}', lossless => false)");
at_once('DROP DATABASE d2 WITH (FORCE)', 'DROP DATABASE WITH (FORCE)');
like($s->error('SELECT 1'), qr/^57P01/, 'the consumer was terminated');
$s->quit;

# The default template.
create_extension($node, 'template1');
append_batches($node, 'template1', 0, 0, [$txn]);
wait_applied($node, 'template1');
at_once('CREATE DATABASE d3', 'CREATE DATABASE from template1');
wait_for_applier($node, 'd3');
wait_applied($node, 'd3');
is(state($node, 'd3'), state($node, 'template1'), 'the new database has what template1 has');
sql($node, 'template1', 'DROP EXTENSION calvin_seq');
wait_until(sub { applier_pid($node, 'template1') == 0 }, 'no applier in template1');

$s = session($node, 'd3');
is($s->query("SELECT seq_subscribe('{1,2,3,4,5,6,7,8}', lossless => false)"),
	'', 'the subscriptions of a dropped database have left their places');
$s->quit;
drop_databases('d3');

#
# Busy appliers
#
# ... in the middle of a burst
make_database('d1');
foreach my $command (
	[ 'd1', 'ALTER DATABASE d1 RENAME TO d1b', 'd1b' ],
	[ 'd1b', 'ALTER DATABASE d1b SET TABLESPACE ts', 'd1b' ],
	[ 'd1b', 'CREATE DATABASE d2 TEMPLATE d1b', 'd1b' ],
	[ 'd1b', 'DROP DATABASE d1b', 'd2' ])
{
	my ($db, $sql, $after) = @$command;
	my $error;
	my $insert = "INSERT INTO seq_log (entry) SELECT '' FROM generate_series(1, 20000)";

	$s = session($node, $db);
	$s->query('SELECT seq_current_committed_epoch()');
	$s->query($insert);
	# the same psql, to lose no time: the burst takes some 10 ms
	my $seconds = elapsed { $error = ($s->send("\\c postgres\n$sql")->finish)[1] };
	is($error, '', "$sql during a burst works");
	cmp_ok($seconds, '<', $bound, "$sql during a burst takes less than $bound s");
	$s->quit;
	wait_for_applier($node, $after);
	wait_applied($node, $after);
	is( sql($node, $after, 'SELECT entries_applied = (SELECT count(*) FROM seq_log) FROM seq_metrics'),
		't', "$sql during a burst: afterwards all is applied, once");
}
# both had the same history when the copy was made
my $digest = digest($node, 'd2');

# ... one that waits for a synchronous standby which is not there
$admin->query('SET synchronous_commit = local');
$admin->query("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
$node->reload;
foreach my $command (
	[ 'd2', 'ALTER DATABASE d2 RENAME TO d3', 'd3' ],
	[ 'd3', 'ALTER DATABASE d3 SET TABLESPACE pg_default', 'd3' ])
{
	my ($db, $sql, $after) = @$command;

	sql($node, $db, "SET synchronous_commit = local; INSERT INTO seq_log (entry) VALUES ('')");
	wait_for_sql($node, $db, 'SELECT applier_state FROM seq_state', 'waiting for durability');
	my $old = state($node, $db);
	# of another database too: that needs an answer of every process
	at_once($_, "$_ while the applier waits for a standby") foreach 'CREATE DATABASE bystander', 'DROP DATABASE bystander', $sql;
	wait_for_sql($node, $after, 'SELECT applier_state FROM seq_state', 'waiting for durability');
	is(state($node, $after), $old, 'what no standby has confirmed is not applied');
}
$admin->query("ALTER SYSTEM RESET synchronous_standby_names");
$node->reload;
$admin->query('RESET synchronous_commit');
wait_applied($node, 'd3');
$before = state($node, 'd3');
is_back('d3', $before, 'without synchronous standbys');

# ... one that waits to try again after an error
foreach my $command (
	[ 'd3', 'ALTER DATABASE d3 RENAME TO d4', 'd4' ],
	[ 'd4', 'DROP DATABASE d4', undef ])
{
	my ($db, $sql, $after) = @$command;

	break_log($node, $db);
	at_once($sql, "$sql while the applier waits to try again");
	next unless $after;
	mend_log($node, $after);
	wait_applied($node, $after);
	is_back($after, state($node, $after), "$sql after an error");
}
is(applier_pid($node, 'd4'), 0, 'no applier is left');

#
# In quick succession, before and while the applier starts
#
my $slowest = 0;
my @failed;
foreach my $round (1 .. 3)
{
	$admin->query('CREATE DATABASE d1');
	sql($node, 'd1', 'CREATE EXTENSION calvin_seq');
	append_batches($node, 'd1', 0, 0, [$txn]) if $round % 2;
	foreach my $sql (
		'ALTER DATABASE d1 RENAME TO d2', 'ALTER DATABASE d2 SET TABLESPACE ts',
		'CREATE DATABASE d3 TEMPLATE d2', 'ALTER DATABASE d2 RENAME TO d1',
		'DROP DATABASE d3', 'DROP DATABASE d1')
	{
		my $error;
		my $seconds = elapsed { $error = ($admin->send($sql)->finish)[1] };

		push @failed, "$sql: $error" if $error ne '';
		$slowest = $seconds if $seconds > $slowest;
	}
}
is(join("\n", @failed), '', 'commands in quick succession work');
cmp_ok($slowest, '<', $bound, 'each at once');
drop_databases('d1', 'd2', 'd3');

# Two sessions want the same at once; one of them gets it.
make_database('d1');
$before = state($node, 'd1');
my $rival = session($node, 'postgres');
$_->send('ALTER DATABASE d1 RENAME TO d' . ($_ == $admin ? 2 : 3)) foreach $admin, $rival;
my @errors = sort map { ($_->finish)[1] } $admin, $rival;
is($errors[0], '', 'of two that rename at the same time one succeeds');
like($errors[1], qr/^3D000: /, 'and the other does not find it any more');
$rival->quit;
my ($renamed) = $admin->query("SELECT datname FROM pg_database WHERE datname IN ('d2', 'd3')");
is_back($renamed, $before, 'RENAME by two');
drop_databases($renamed);

$admin->quit;

$node->stop;

nothing_crashed($node);
done_testing();
