# Several databases at once, and too many of them.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('many');
my $txn = [ ['a'], 'ab', 1 ];
my $va = vshard_of('a');
my $admin = session($node, 'postgres');

#
# Two at the same time
#
$admin->query('CREATE DATABASE d1');
$admin->query('CREATE DATABASE d2');
create_extension($node, $_) foreach 'd1', 'd2';
append_batches($node, 'd1', 0, 9, [$txn]);
append_batches($node, 'd2', 0, 20, [$txn]);
wait_for_epoch($node, 'd1', 9);
wait_for_epoch($node, 'd2', 20);
is(sql($node, 'd1', 'SELECT seq_last_applied_epoch()'), 9, 'each database has its epoch');
my $s1 = session($node, 'd1');
my $s2 = session($node, 'd2');
$_->query("SELECT seq_subscribe('{$va}', lossless => false)") foreach $s1, $s2;
append_batches($node, 'd1', 10, 10, [$txn]);
append_batches($node, 'd2', 21, 21, [$txn]);
is($s1->query("SELECT epoch FROM seq_receive(10, '10s')"), 10, 'and its subscriptions');
is($s2->query("SELECT epoch FROM seq_receive(10, '10s')"), 21, 'of the same vshard and name');

# one of them is broken
my $pid2 = applier_pid($node, 'd2');
$s1->query("INSERT INTO seq_log (entry) SELECT '\\xc1' FROM generate_series(1, 10)");
break_log($node, 'd1');
append_batches($node, 'd2', 22, 24, [$txn]);
is($s2->query("SELECT string_agg(epoch::text, ',') FROM seq_receive(1, '10s')"),
	'22', 'a broken log in one database does not matter to the other');
is(applier_pid($node, 'd2'), $pid2, 'nor to its applier');
mend_log($node, 'd1');
wait_applied($node, 'd1');
$s1->query('DROP EXTENSION calvin_seq');
wait_until(sub { applier_pid($node, 'd1') == 0 }, 'no applier in d1');
wait_for_epoch($node, 'd2', 24);
is($s2->query("SELECT string_agg(epoch::text, ',') FROM seq_receive(10, '10s')"),
	'23,24', 'DROP EXTENSION in one leaves the other alone');
$_->quit foreach $s1, $s2;
$admin->quit;

#
# A database that nobody may connect to
#
sql($node, 'postgres', 'CREATE DATABASE closed');
create_extension($node, 'closed');
append_batches($node, 'closed', 0, 0, [$txn]);
sql($node, 'postgres', 'ALTER DATABASE closed ALLOW_CONNECTIONS false');
$node->restart;
wait_for_applier($node, 'd2');
sql($node, 'postgres', 'ALTER DATABASE closed ALLOW_CONNECTIONS true');
append_batches($node, 'closed', 1, 1, [$txn]);
ok(eval { wait_for_epoch($node, 'closed', 1) }, 'a database that takes connections again gets its applier');
sql($node, 'postgres', 'DROP DATABASE closed');

#
# More databases than places
#
$node->append_conf('postgresql.conf', 'calvin_seq.max_databases = 1');
my $offset = log_offset($node);
$node->restart;
$admin = session($node, 'postgres');
wait_for_applier($node, 'd2');
my $warning = qr/WARNING: .*more databases have calvin_seq than can have an applier\n.*\n.*HINT: .*calvin_seq\.max_databases/;
unlike(log_since($node, $offset), $warning, 'as many databases as places: no warning');

foreach my $db (qw(d1 postgres))
{
	sql($node, $db, 'CREATE EXTENSION calvin_seq');
	append_batches($node, $db, 0, 0, [$txn]);
}
wait_for_log_line($node, $warning, $offset);
foreach my $db (qw(d1 postgres))
{
	my $error;
	cmp_ok((elapsed { $error = sql_error($node, $db, 'SELECT * FROM seq_state') }), '<', within(2),
		"$db: an error at once");
	like($error, qr/^53400: no calvin_seq applier for this database\n.*\nHINT: .*calvin_seq\.max_databases \(now 1\)/,
		"$db: that names the setting");
	is(sql($node, $db, "SELECT epoch FROM seq_replay($va, 0, 9)"), 0,
		"$db: what needs no applier works");
}
my @warnings = log_since($node, $offset) =~ /($warning)/g;
is(scalar @warnings, 1, 'one warning');
sql($node, 'postgres', 'DROP EXTENSION calvin_seq');
$admin->query('DROP DATABASE d2');
wait_for_applier($node, 'd1');
wait_for_epoch($node, 'd1', 0);
pass('the place of a dropped database is taken by another one');
sql($node, 'postgres', 'CREATE EXTENSION calvin_seq');
wait_for_log_line($node, qr/$warning.*$warning/s, $offset);
sql($node, 'd1', 'DROP EXTENSION calvin_seq');
wait_for_applier($node, 'postgres');
pass('and that of a dropped extension');
sql($node, 'postgres', 'DROP EXTENSION calvin_seq');
$admin->quit;

#
# More workers than max_worker_processes: one is left besides the launcher
#
$node->append_conf('postgresql.conf',
	"calvin_seq.max_databases = 4\nmax_worker_processes = 2\nmax_logical_replication_workers = 0");
$offset = log_offset($node);
$node->restart;
create_extension($node, 'postgres');
pass('one worker besides the launcher is enough for one database');
sql($node, 'd1', 'CREATE EXTENSION calvin_seq');
wait_for_log_line($node,
	qr/WARNING: .*no background worker left for a calvin_seq applier\n.*\n.*HINT: .*max_worker_processes.*calvin_seq\.max_databases \(now 4\)/,
	$offset);
append_batches($node, 'postgres', 0, 0, [$txn]);
wait_for_epoch($node, 'postgres', 0);
pass('the first one goes on');
sql($node, 'postgres', 'DROP EXTENSION calvin_seq');
wait_for_applier($node, 'd1');
append_batches($node, 'd1', 0, 0, [$txn]);
wait_for_epoch($node, 'd1', 0);
pass('when a worker becomes free, the other database gets it');
$node->stop;

nothing_crashed($node);
done_testing();
