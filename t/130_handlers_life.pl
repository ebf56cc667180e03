# The life of handlers' workers: databases and the extension come and go, places are few,
# servers restart, are promoted, dumped and restored.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinHandler;
use CalvinSequencer;
use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $bound = within(4);
my $node = new_node(
	'main',
	-streaming => 1,
	'calvin_seq.max_databases' => 4,
	'calvin_seq.max_handlers' => 4,
	allow_in_place_tablespaces => 'on',
	max_prepared_transactions => 2,
	max_worker_processes => 20);
my $admin = session($node, 'template1');

sub make_database
{
	my ($db) = @_;

	$admin->query("CREATE DATABASE $db TEMPLATE template0");
	create_extension($node, $db);
	prepare_handlers($node, $db);
	sql($node, $db, "SELECT seq_create_group('g', 4)");
	handle($node, $db, 'g', 'all');
	wait_state($node, $db, 'g', 'running');
	return;
}

sub goes_on
{
	my ($on, $db, $n, $desc) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_for_sql($on, $db, "SELECT state FROM seq_handlers WHERE name = 'g'", 'running');
	send_numbers($on, $db, 'a', $n, $n);
	wait_for_sql($on, $db, "SELECT count(*) FROM done WHERE n = $n", 1);
	is(sql($on, $db, 'SELECT count(*) - count(DISTINCT n) FROM done'), 0, $desc);
	return;
}

#
# Commands on whole databases: who is in a call gives way, too
#
make_database('one');
$admin->query("CREATE TABLESPACE ts LOCATION ''");
my $n = 0;
my $db = 'one';

foreach my $busy (0, 1)
{
	foreach my $command (
		[ 'ALTER DATABASE %s RENAME TO %s' ],
		[ 'ALTER DATABASE %s SET TABLESPACE ' . ($busy ? 'pg_default' : 'ts') ],
		[ 'CREATE DATABASE copy TEMPLATE %s' ])
	{
		my $other = $db eq 'one' ? 'two' : 'one';
		my $sql = sprintf $command->[0], $db, $other;
		my $what = $sql . ($busy ? ', in a call' : '');

		if ($busy)
		{
			$n++;
			sql($node, $db, "INSERT INTO faults VALUES ($n, 'sql:SELECT pg_sleep(600)')");
			send_numbers($node, $db, 'a', $n, $n);
			wait_for_sql($node, 'postgres', "SELECT count(*) FROM pg_stat_activity WHERE datname = '$db' AND backend_type = 'calvin_seq handler' AND wait_event = 'PgSleep'", 1);
			# the next call of it does not sleep
			sql($node, $db, 'DELETE FROM faults');
		}
		my $error;
		my $seconds = elapsed { $error = ($admin->send($sql)->finish)[1] };
		is($error, '', $what);
		cmp_ok($seconds, '<', $bound, "$what: within $bound s");
		$db = $other if $sql =~ /RENAME/;
		goes_on($node, $db, ++$n, "$what: goes on, each once");
		if ($sql =~ /^CREATE/)
		{
			wait_for_sql($node, 'copy', "SELECT state FROM seq_handlers WHERE name = 'g'", 'running');
			goes_on($node, 'copy', 1000, "$what: so does the copy");
			cmp_ok((elapsed { $admin->query('DROP DATABASE copy') }), '<', $bound, "$what: which can be dropped");
		}
	}
}
is(sql($node, $db, 'SELECT count(*), count(DISTINCT n) FROM done'), "$n|$n", 'nothing was lost, nothing is there twice');

#
# The extension
#
sql($node, $db, 'BEGIN; DROP EXTENSION calvin_seq CASCADE; ROLLBACK');
goes_on($node, $db, ++$n, 'DROP EXTENSION rolled back');
sql($node, $db, 'DROP EXTENSION calvin_seq CASCADE');
wait_for_handlers($node, $db, 0);
create_extension($node, $db);
is(sql($node, $db, 'SELECT count(*) FROM seq_handlers'), 0, 'created anew, it has no handlers');
wait_for_handlers($node, $db, 0);
cmp_ok((elapsed { $admin->query("DROP DATABASE $db") }), '<', $bound, 'nobody is left there');

like(sql_error($node, 'postgres', 'CREATE EXTENSION calvin_seq'), qr/^$/, 'another database');
wait_for_applier($node, 'postgres');
prepare_handlers($node, 'postgres');
sql($node, 'postgres', "SELECT seq_create_group('g', 4)");
make_handler($node, 'postgres', 'g', 'all');
like(sql_error($node, 'postgres', "BEGIN; SELECT seq_handle('g', 'h_g(seq_txn[])'); PREPARE TRANSACTION 'x'"), qr/^0A000: cannot PREPARE a transaction that has defined or ended a handler/, 'not in a prepared transaction');

#
# The next worker has what one that ended had
#
handle($node, 'postgres', 'g', 'all', 'workers => 2');
wait_state($node, 'postgres', 'g', 'running');
goes_on($node, 'postgres', 1, 'two workers');
$admin->query("SELECT 1");
sql($node, 'postgres', "INSERT INTO faults VALUES (2, 'sql:SELECT pg_sleep(600)')");
send_numbers($node, 'postgres', 'a', 2, 2);
wait_for_sql($node, 'postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'calvin_seq handler' AND wait_event = 'PgSleep'", 1);
my $watcher = session($node, 'postgres');
$watcher->query('DELETE FROM faults');
my $gap = $watcher->query(<<'EOS');
CREATE TEMP TABLE t AS SELECT clock_timestamp() AS ended, pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND backend_type = 'calvin_seq handler';
CREATE TEMP TABLE u AS SELECT clock_timestamp() AS ended;
DO $$ BEGIN FOR i IN 1 .. 10000 LOOP EXIT WHEN EXISTS (SELECT FROM done WHERE n = 2); PERFORM pg_sleep(0.001); END LOOP; END $$;
SELECT extract(epoch FROM clock_timestamp() - ended) FROM u;
EOS
cmp_ok($gap, '<', within(0.1), 'the next worker has what one that was ended had, at once');
wait_for_sql($node, 'postgres', "SELECT cardinality(pids) FROM seq_handlers WHERE state = 'running'", 2);
pass('which is replaced');

#
# Two databases want more than there can be
#
$admin->query('CREATE DATABASE more TEMPLATE template0');
create_extension($node, 'more');
prepare_handlers($node, 'more');
sql($node, 'more', "SELECT seq_create_group('g', 4)");
handle($node, 'more', 'g', 'all', 'workers => 4');
wait_state($node, 'more', 'g', 'no slot');
is(sql($node, 'more', "SELECT workers, cardinality(pids) FROM seq_handlers"), '4|2', 'more workers than calvin_seq.max_handlers: some are there');
goes_on($node, 'postgres', 3, 'who had his keeps them');
sql($node, 'postgres', "SELECT seq_unhandle('g')");
wait_state($node, 'more', 'g', 'running');
is(sql($node, 'more', "SELECT cardinality(pids) FROM seq_handlers"), 4, 'another database gets what one does not need any more');
handle($node, 'postgres', 'g', 'all');
wait_state($node, 'postgres', 'g', 'no slot');
sql($node, 'more', "SELECT seq_drop_group('g')");
wait_state($node, 'postgres', 'g', 'running');
cmp_ok((elapsed { $admin->query('DROP DATABASE more') }), '<', $bound, 'and so on');

#
# A standby, and its promotion
#
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
wait_for_applier($standby, 'postgres');
like(sql_error($standby, 'postgres', "SELECT seq_handle('g', 'h_g(seq_txn[])')"), qr/^25006: cannot execute seq_handle\(\) during recovery/, 'none is defined on a standby');
like(sql_error($standby, 'postgres', "SELECT seq_unhandle('g')"), qr/^25006: /, 'nor ended');
is(sql($standby, 'postgres', "SELECT state, pids, (SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'calvin_seq handler') FROM seq_handlers"), 'standby|{}|0', 'nor run');
sql($node, 'postgres', "INSERT INTO faults VALUES (4, 'sql:SELECT pg_sleep(600)')");
send_numbers($node, 'postgres', 'a', 4, 5);
wait_for_sql($node, 'postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'calvin_seq handler' AND wait_event = 'PgSleep'", 1);
$node->wait_for_catchup($standby);
$node->stop('immediate');
$standby->promote;
wait_for_sql($standby, 'postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'calvin_seq handler' AND wait_event = 'PgSleep'", 1);
pass('promoted, it does what the primary did not finish');
sql($standby, 'postgres', 'DELETE FROM faults; SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = \'PgSleep\'');
wait_for_sql($standby, 'postgres', "SELECT string_agg(n::text, ',' ORDER BY n) FROM done", '1,2,3,4,5');
pass('each once');

#
# Too few places
#
$standby->append_conf('postgresql.conf', "max_worker_processes = 4\nmax_logical_replication_workers = 0\ncalvin_seq.max_databases = 2");
my $offset = log_offset($standby);
$standby->restart;
goes_on($standby, 'postgres', 6, 'places for one handler, and a restart');
handle($standby, 'postgres', 'g', 'all', 'workers => 3');
wait_for_sql($standby, 'postgres', 'SELECT state, cardinality(pids) FROM seq_handlers', 'no place|1');
pass('too few places: some are there');
wait_for_log_line($standby, qr/WARNING: .*no background worker left for a calvin_seq handler\n.*DETAIL: .*\n.*HINT: .*max_worker_processes \(now 4\): calvin_seq needs 10, twice calvin_seq\.max_databases \(now 2\), calvin_seq\.max_handlers \(now 4\) and 2 more/, $offset);
sql($standby, 'postgres', 'CREATE DATABASE more TEMPLATE template0');
cmp_ok((elapsed { create_extension($standby, 'more') }), '<', $bound, 'an applier gets the place of a handler');
append_batches($standby, 'more', 0, 0, [ [ ['a'], 'ab', 1 ] ]);
ok(wait_for_epoch($standby, 'more', 0), 'and works');
my @warnings = log_since($standby, $offset) =~ /(no background worker left for a calvin_seq handler)/g;
is(scalar @warnings, 1, 'the log says it once');
log_has_no($standby, qr/no background worker left for a calvin_seq applier/, 'and nothing of an applier', $offset);
sql($standby, 'postgres', 'DROP DATABASE more');
wait_for_sql($standby, 'postgres', "SELECT cardinality(pids) FROM seq_handlers", 1);
goes_on_at_once($standby, 7);

sub goes_on_at_once
{
	my ($on, $number) = @_;

	send_numbers($on, 'postgres', 'a', $number, $number);
	wait_for_sql($on, 'postgres', "SELECT count(*) FROM done WHERE n = $number", 1);
	pass('those that are there work');
	return;
}

#
# Dumped and restored
#
$standby->append_conf('postgresql.conf', 'max_worker_processes = 20');
$standby->restart;
wait_state($standby, 'postgres', 'g', 'running');
sql($standby, 'postgres', 'CREATE ROLE lost LOGIN; GRANT ALL ON SCHEMA public TO lost; GRANT lost TO CURRENT_USER');
sql($standby, 'postgres', "SET ROLE lost; RESET ROLE; SELECT seq_create_group('l', 2); UPDATE seq_registrations SET owner = 'lost'::regrole WHERE name = 'l'");
sql($standby, 'postgres', 'GRANT EXECUTE ON FUNCTION seq_handle(text, regprocedure, int, int, int, interval) TO lost');
make_handler($standby, 'postgres', 'l', 'rows');
sql($standby, 'postgres', "SET ROLE lost; SELECT seq_handle('l', 'h_l(seq_txn)', max_attempts => 7, batch => 9, backoff => '11 ms')");
sql($standby, 'postgres', "SELECT seq_unhandle('g')");
send_numbers($standby, 'postgres', 'a', 8, 8);
sql($standby, 'postgres', "SELECT seq_handle('g', 'h_g(seq_txn[])', 2)");
wait_for_sql($standby, 'postgres', "SELECT count(*) FROM done WHERE handler = 'g' AND n = 8", 1);
command_ok([ 'pg_dump', '-f', "$PostgreSQL::Test::Utils::tmp_check/dump.sql", $standby->connstr('postgres') ], 'pg_dump');
my $before = sql($standby, 'postgres', "SELECT name, handler, workers, max_attempts, batch, backoff FROM seq_handlers ORDER BY name");
my $handled = sql($standby, 'postgres', "SELECT count(*) FROM done WHERE handler = 'g'");
$standby->stop;

my $third = new_node('third', max_worker_processes => 20);
sql($third, 'postgres', 'CREATE ROLE other_number'); # lost is not there
my ($ret, $out, $err) = $third->psql('postgres', slurp_file("$PostgreSQL::Test::Utils::tmp_check/dump.sql"));
like($err, qr/WARNING: +role "lost" does not exist\nDETAIL: +The handler of group "l" does not run/, 'restored where a role is not');
wait_for_applier($third, 'postgres');
is(sql($third, 'postgres', "SELECT name, handler, workers, max_attempts, batch, backoff FROM seq_handlers ORDER BY name"), $before, 'a dump has the handlers');
wait_state($third, 'postgres', 'g', 'running');
is(sql($third, 'postgres', "SELECT state, role, last_error FROM seq_handlers WHERE name = 'l'"), 'stopped|lost|role "lost" does not exist', 'one whose role is not there does not run as another');
send_numbers($third, 'postgres', 'a', 9, 9);
wait_for_sql($third, 'postgres', "SELECT count(*) FROM done WHERE handler = 'g' AND n = 9", 1);
is(sql($third, 'postgres', "SELECT count(*) FROM done WHERE handler = 'g'"), $handled + 1, 'and the others go on where they stood');
$third->stop;

# without the library
my $bare = new_node('bare', -preload => 0);
sql($bare, 'postgres', 'CREATE EXTENSION calvin_seq; CREATE FUNCTION h(seq_txn) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$');
like(sql_error($bare, 'postgres', "SELECT seq_handle('g', 'h(seq_txn)')"), qr/^55000: calvin_seq is not in shared_preload_libraries/, 'not without preloading');
like(sql_error($bare, 'postgres', "SELECT seq_unhandle('g')"), qr/^55000: /, 'seq_unhandle neither');
like(sql_error($bare, 'postgres', 'SELECT * FROM seq_handlers'), qr/^55000: /, 'nor is there anything to see');
$bare->stop;

nothing_crashed($_) foreach $node, $standby, $third, $bare;
done_testing();
