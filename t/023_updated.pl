# From a released version to this one, with the library of each: a primary and a standby
# that have everything in place, and publishers and workers that go on meanwhile.
#
# Between the restart with the new library and ALTER EXTENSION UPDATE everything is refused,
# with a hint; nothing is lost by it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinHandler;
use CalvinReleased;
use CalvinSequencer;
use CalvinTest;
use CalvinUpgrade;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = released();
my $install = own_installation();
my $ours = installed_library();
my $txn = [ ['a'], 'ab', 1 ];
my $va = vshard_of('a');
my $dir = PostgreSQL::Test::Utils::tempdir();

install_released();
my $primary = new_node(
	'primary',
	-install => $install,
	-streaming => 1,
	'calvin_seq.max_databases' => 8,
	max_worker_processes => 24,
	dynamic_shared_memory_type => 'mmap');
my $new = sql($primary, 'postgres', "SELECT default_version FROM pg_available_extensions WHERE name = 'calvin_seq'");
is(released_script($old), slurp_file("$FindBin::RealBin/../sql/calvin_seq--$old.sql"), "the script of $old is as it was released");

# A log whose beginning is truncated, with entries of all kinds; a cursor, a registration,
# a snapshot; a group that has done half of its work and parked a part, a handler, a grant.
sub fill
{
	my ($db) = @_;

	sql($primary, 'postgres', "CREATE DATABASE $db");
	sql($primary, 'postgres', "ALTER DATABASE $db SET search_path TO public, \"Order log\"");
	sql($primary, $db, "CREATE SCHEMA \"Order log\"; CREATE EXTENSION calvin_seq VERSION '$old' SCHEMA \"Order log\"");
	wait_for_applier($primary, $db);
	append_batches($primary, $db, 0, 5, [$txn]);
	wait_applied($primary, $db);
	sql($primary, $db, 'SELECT seq_snapshot(); SELECT seq_truncate(3)');
	sql($primary, $db, "INSERT INTO seq_log (entry) VALUES ('\\xc1'), (''), ('\\x" . batch_hex(2, 0) . "'), ('\\x" . batch_hex(9, 0, $txn) . "')");
	sql($primary, $db, "SELECT seq_ack(9, 0, $va)");
	wait_for_epoch($primary, $db, 9);
	my $s = session($primary, $db);
	$s->query("SELECT seq_register('ledger', '{$va}', 5); SELECT seq_subscribe('{$va}', 'worker', from_epoch => 3)");
	is($s->query("BEGIN; SELECT string_agg(epoch::text, ',') FROM seq_receive(2, '10s', 'worker'); SELECT seq_commit('worker'); COMMIT"),
		"3,4\n1", "$db: a consumer has committed");
	$s->quit;
	sql($primary, $db, <<'EOS');
CREATE TABLE orders (n int PRIMARY KEY);
CREATE TABLE letters (i bigserial, n int, collection text);
CREATE TABLE bills (n int);
CREATE FUNCTION write_bill(t seq_txn) RETURNS void LANGUAGE sql AS 'INSERT INTO public.bills SELECT "Order log".seq_json(t.plans)::text::int';
CREATE FUNCTION place(first int, last int) RETURNS bigint LANGUAGE sql AS $$
	WITH o AS (INSERT INTO orders SELECT generate_series(first, last) ON CONFLICT DO NOTHING RETURNING n)
	SELECT count(seq_send('orders/' || n % 7, to_jsonb(n))) FROM o $$;
CREATE FUNCTION write_letters(most int) RETURNS bigint LANGUAGE sql AS $$
	WITH w AS (INSERT INTO letters (n, collection)
		SELECT payload::text::int, collection FROM seq_fetch_json('mailer', most, '200 ms') RETURNING n) SELECT count(*) FROM w $$;
SELECT seq_create_group('mailer', collections => '{orders/%}', from_epoch => 3);
SELECT seq_create_group('parker', collections => '{orders/%}', from_epoch => 3);
SELECT seq_create_group('billing', collections => '{orders/%}', from_epoch => 3);
SELECT seq_handle('billing', 'write_bill(seq_txn)');
GRANT USAGE ON SCHEMA "Order log" TO PUBLIC;
GRANT SELECT ON seq_log TO pg_read_all_stats;
SELECT place(1, 20);
EOS
	wait_for_sql($primary, $db, 'SELECT waiting_rows = 0 FROM seq_sequencer');
	wait_applied($primary, $db);
	# how many come at once is up to partitions
	cmp_ok(sql($primary, $db, 'SELECT write_letters(8)'), ">", 0, "$db: a worker has done a part of its work");
	is(sql($primary, $db, "SELECT count(seq_park('parker', vshard, epoch, \"position\", 'because')) FROM seq_fetch('parker', 3)"),
		3, "$db: something is parked");
	wait_for_sql($primary, $db, 'SELECT count(*) FROM bills', 20);
	sql($primary, $db, 'SELECT seq_snapshot()');
	return;
}

# All that the extension's tables have, in the columns that they had before.
my %columns;
sub kept
{
	my ($db) = @_;

	$columns{$db} ||= [ split /\n/, sql($primary, $db, <<'EOS') ];
SELECT attrelid::regclass || ':' || string_agg(quote_ident(attname), ', ' ORDER BY attnum)
FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped
AND attrelid IN (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'calvin_seq')
GROUP BY attrelid ORDER BY attrelid::regclass::text COLLATE "C"
EOS
	return join "\n", map {
		my ($table, $list) = split /:/, $_, 2;
		$table =~ /submission_numbers/ ? () : "$table\n" . sql($primary, $db, "SELECT row($list)::text FROM $table ORDER BY 1");
	} @{ $columns{$db} };
}

# What loops for ever as a program of its own, connecting anew for each statement.
my @loops;
sub begin_loop
{
	my ($name, $script) = @_;

	local $ENV{PSQL} = $primary->installed_command('psql') . " -XAtq -v ON_ERROR_STOP=1 -v VERBOSITY=sqlstate -d 'dbname=shop host=" . $primary->host . ' port=' . $primary->port . "'";
	my $run = IPC::Run::start([ 'sh', '-c', $script, 'sh', "$dir/stop" ], '<', \undef, '>', '/dev/null', '2>', "$dir/$name");
	push @loops, $run;
	return;
}

# Also when the test ends before its end.
sub end_loops
{
	append_to_file("$dir/stop", '');
	(shift @loops)->finish while @loops;
	return;
}
END
{
	local $?;
	end_loops();
}

sub refused
{
	my ($node, $db, @calls) = @_;

	like(sql_error($node, $db, $_),
		qr/^55000: the library of extension calvin_seq does not serve its version in this database\nDETAIL: +The library is of version \Q$new\E, the extension in the database of version \Q$old\E\.\nHINT: .*ALTER EXTENSION calvin_seq UPDATE/,
		$node->name . ", $db, before the update: $_") foreach @calls;
	return;
}

#
# The released version
#
fill('shop');
fill('quiet');
sql($primary, 'postgres', 'CREATE DATABASE bare');
sql($primary, 'bare', "CREATE EXTENSION calvin_seq VERSION '$old'");
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby', install_path => $install);
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
wait_for_applier($standby, 'quiet');
my $state = state($primary, 'quiet');
my $kept = kept('quiet');
wait_for_sql($standby, 'quiet', 'SELECT digest FROM seq_state', digest($primary, 'quiet'));

begin_loop('publisher', 'n=1000; while [ ! -e "$1" ]; do n=$((n + 1)); until [ -e "$1" ] || eval "$PSQL -c \'SELECT place($n, $n)\'"; do sleep 0.05; done; done');
begin_loop('worker', 'while [ ! -e "$1" ]; do eval "$PSQL -c \'SELECT write_letters(50)\'" || sleep 0.05; done');
wait_for_sql($primary, 'shop', 'SELECT count(*) > 10 FROM letters WHERE n > 1000');

# Some are committed, and wait for the sequencer, when the server ends.
kill 'STOP', sequencer_pid($primary, 'shop');
is(sql($primary, 'shop', 'SELECT place(501, 503)'), 3, 'submissions that are not sequenced yet');
$primary->stop('immediate');
$standby->stop;

#
# The new library, before the update
#
install_library($ours);
$primary->start;
$standby->start;
wait_for_sql($primary, 'shop', 'SELECT count(*) FROM orders WHERE n BETWEEN 501 AND 503', 3);
my $own = session($primary, 'shop');
refused($primary, 'shop', "SELECT place(600, 600)", 'SELECT write_letters(1)', "SELECT seq_subscribe('{$va}', 'worker')", 'TABLE seq_state', "SELECT seq_append('')");
refused($standby, 'shop', 'TABLE seq_state', "SELECT * FROM seq_replay($va, 3, 9)", "SELECT seq_subscribe('{$va}')");
like($own->error('SELECT place(601, 601)'), qr/^55000: the library/, 'a session that goes on over the update is refused, too');
my $own_standby = session($standby, 'shop');
like($own_standby->error('TABLE seq_state'), qr/^55000: the library/, 'and one on the standby');
is(sql($primary, 'shop', 'SELECT count(*) FROM orders WHERE n >= 600 AND n < 700'), 0, 'a business transaction that cannot publish is not there');
is(sql($primary, 'shop', "CREATE TABLE other (a int); INSERT INTO other VALUES (1); DROP TABLE other; SELECT count(*) FROM \"Order log\".seq_log WHERE kind = 'undecodable'"), 1, 'others go on, and the log can be read');
wait_for_sql($primary, 'postgres',
	"SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'calvin_seq %' AND datname = '$_' AND query = 'waiting to try again after an error'", 2)
  foreach qw(shop quiet bare);
pass('the workers wait');
wait_until(sub { slurp_file("$dir/publisher") =~ /55000/ && slurp_file("$dir/worker") =~ /55000/ }, 'publisher and worker are refused');

#
# The update, one database after the other
#
sql($primary, 'shop', 'ALTER EXTENSION calvin_seq UPDATE');
is(sql($primary, 'shop', "SELECT extversion FROM pg_extension WHERE extname = 'calvin_seq'"), $new, 'updated');
is($own->query('SELECT place(600, 602)'), 3, 'the session that was there publishes');
wait_for_sql($primary, 'shop', "SELECT count(*) FROM letters WHERE n BETWEEN 501 AND 503 OR n BETWEEN 600 AND 602", 6);
pass('what was committed before is sequenced and worked on, and what comes after');
refused($primary, 'quiet', 'SELECT place(600, 600)');
sql($primary, $_, 'ALTER EXTENSION calvin_seq UPDATE') foreach qw(quiet bare);

wait_for_applier($primary, 'quiet');
wait_applied($primary, 'quiet');
is(state($primary, 'quiet'), $state, 'state and digest are what they were');
is(kept('quiet'), $kept, 'the tables have what they had');
is(sql($primary, 'quiet', "SELECT has_table_privilege('pg_read_all_stats', 'seq_log', 'SELECT')"), 't', 'a grant is there');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
wait_for_applier($standby, 'quiet');
wait_for_sql($standby, 'quiet', 'SELECT digest FROM seq_state', digest($primary, 'quiet'));
is(state($standby, 'quiet'), $state, 'on the standby, too');
is($own_standby->query("SELECT count(*) > 0 FROM seq_replay($va, 3, 9)"), 't', 'where the session that was there goes on');

# Consumers go on where they were.
my $s = session($primary, 'quiet');
$s->query("SELECT seq_subscribe('{$va}', 'worker')");
is($s->query("BEGIN; SELECT string_agg(epoch::text, ',') FROM (SELECT epoch FROM seq_receive(100, '10s', 'worker') WHERE seq_collection(tx_class) = 'a') r; SELECT seq_commit('worker'); COMMIT"),
	"5,9\n1", 'the durable cursor');
$s->query("SELECT seq_subscribe('{$va}', 'ledger')");
is($s->query("SELECT min(epoch) FROM seq_receive(100, '10s', 'ledger')"), 5, 'the registered consumer');
$s->quit;
my $left = 20 - sql($primary, 'quiet', 'SELECT count(*) FROM letters');
is(sql($primary, 'quiet', 'SELECT write_letters(100)'), $left, 'the group has the rest');
is(sql($primary, 'quiet', 'SELECT count(*), count(DISTINCT n), min(n), max(n) FROM letters'), '20|20|1|20', 'each once');
is(sql($primary, 'quiet', "SELECT count(*), min(reason) FROM seq_parked WHERE name = 'parker'"), '3|because', 'what was parked is');
is(sql($primary, 'quiet', "SELECT count(seq_retry(name, vshard, epoch, \"position\")) FROM seq_parked"), 3, 'and can be retried');
sql($primary, 'quiet', 'SELECT place(21, 30)');
wait_for_sql($primary, 'quiet', 'SELECT count(*), count(DISTINCT n) FROM bills', '30|30');
pass('the handler is called, and only for what is new');

# What the update leaves is what a fresh extension is, for a dump too.
sql($primary, 'postgres', 'CREATE DATABASE fresh');
sql($primary, 'fresh', 'CREATE EXTENSION calvin_seq');
is(catalogue($primary, 'bare'), catalogue($primary, 'fresh'), 'the objects are those of a fresh extension');
is(dumped('bare'), dumped('fresh'), 'and so is a dump');
sub dumped
{
	my ($db) = @_;
	my $file = "$dir/$db.sql";

	command_ok([ $primary->installed_command('pg_dump'), '--schema-only', '-f', $file, $primary->connstr($db) ], "pg_dump of $db");
	return slurp_file($file) =~ s/^(?:--|\\(?:un)?restrict).*\n//gmr;
}

#
# All that was published while this went on
#
end_loops();
my $published = sql($primary, 'shop', 'SELECT count(*) FROM orders');
wait_until(sub { sql($primary, 'shop', 'SELECT write_letters(1000)') == 0 && sql($primary, 'shop', 'SELECT waiting_rows FROM seq_sequencer') == 0 }, 'the rest');
wait_for_sql($primary, 'shop', 'SELECT count(*) FROM bills', $published);
note "$published orders";
is(sql($primary, 'shop', 'SELECT count(*) FROM (TABLE orders EXCEPT ALL SELECT n FROM letters) o'), 0, 'each order has its letter');
is(sql($primary, 'shop', 'SELECT count(*) FROM (SELECT n FROM letters EXCEPT ALL TABLE orders) l'), 0, 'and only one');
is(sql($primary, 'shop', 'SELECT count(*) FROM (TABLE orders EXCEPT ALL TABLE bills) b'), 0, 'and its bill');
is(sql($primary, 'shop', 'SELECT count(*) FROM (SELECT n < lag(n) OVER (PARTITION BY collection ORDER BY i) AS back FROM letters WHERE n > 1000) l WHERE back'),
	0, 'in order');
wait_applied($primary, 'shop');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
wait_for_sql($standby, 'shop', 'SELECT digest FROM seq_state', digest($primary, 'shop'));
is(state($standby, 'shop'), state($primary, 'shop'), 'the standby has the same state');
$_->quit foreach $own, $own_standby;

$primary->stop;
$standby->promote;
wait_for_sequencer($standby, 'shop');
is(sql($standby, 'shop', 'SELECT place(5001, 5003)'), 3, 'promoted, it publishes');
wait_for_sql($standby, 'shop', 'SELECT write_letters(10) > 0 OR (SELECT count(*) = 3 FROM letters WHERE n > 5000)');
wait_for_sql($standby, 'shop', 'SELECT count(*) FROM bills WHERE n > 5000', 3);
$standby->stop;
nothing_crashed($primary, 1);
nothing_crashed($standby);
done_testing();
