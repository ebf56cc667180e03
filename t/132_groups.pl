# Groups: what is fetched is the transaction's, is waited for without polling, and
# survives what happens to sessions and servers.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', max_prepared_transactions => 5, -streaming => 1);
my $db = 'postgres';

create_extension($node);
sql($node, $db, 'CREATE TABLE effects (grp text, vshard int, epoch bigint, "position" int, n int, at bigserial)');

# Messages to entities of different vshards, all applied when it returns.
sub send_messages
{
	my ($from, $to, $prefix) = @_;

	$prefix //= 'e/';
	sql($node, $db, "SELECT count(seq_send('$prefix' || i, to_jsonb(i))) FROM generate_series($from, $to) i");
	wait_for_sql($node, $db, 'SELECT waiting_rows = 0 FROM seq_sequencer');
	wait_applied($node, $db);
	return;
}

my $numbers = "coalesce(string_agg(payload::text, ',' ORDER BY payload::int), '')";
my ($a, $b) = map { session($node, $db) } 1 .. 2;

#
# The caller's transaction
#
sql($node, $db, "SELECT seq_create_group('g', collections => '{e/%}')");
send_messages(1, 5);
$a->query('BEGIN');
is($a->query("SELECT $numbers FROM seq_fetch_json('g')"), '1,2,3,4,5', 'a transaction fetches what there is');
is($b->query("SELECT $numbers FROM seq_fetch_json('g')"), '', 'others pass by what it has taken');
is($a->query("SELECT $numbers FROM seq_fetch_json('g')"), '', 'it gets nothing twice itself');
$a->query('ROLLBACK');
is($b->query("SELECT $numbers FROM seq_fetch_json('g')"), '1,2,3,4,5', 'rolled back, it comes again');
is($a->query("SELECT $numbers FROM seq_fetch_json('g')"), '', 'committed, it does not');

send_messages(6, 8);
$a->query('BEGIN; SAVEPOINT s');
is($a->query("SELECT $numbers FROM seq_fetch_json('g')"), '6,7,8', 'in a subtransaction');
$a->query('ROLLBACK TO s');
is($b->query("SELECT $numbers FROM seq_fetch_json('g')"), '6,7,8', 'whose rollback gives it to others, at once');
$a->query('COMMIT');

send_messages(9, 10);
$a->query('BEGIN; SAVEPOINT s');
is($a->query("SELECT $numbers FROM seq_fetch_json('g')"), '9,10', 'in one that is released');
$a->query('RELEASE s');
is($b->query("SELECT $numbers FROM seq_fetch_json('g')"), '', 'it stays with the transaction');
$a->query('COMMIT');
is($b->query("SELECT $numbers FROM seq_fetch_json('g')"), '', 'and is processed with it');

like($a->error("BEGIN; SELECT seq_fetch('g'); PREPARE TRANSACTION 'p'"), qr/^0A000: /, 'PREPARE is refused');
$a->query('ROLLBACK');
like($a->error("BEGIN READ ONLY; SELECT seq_fetch('g')"), qr/^25006: /, 'a read-only transaction, too');
$a->query('ROLLBACK');

# in all isolation levels; one whose snapshot is older than the last owner's effects fails
foreach my $level ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
{
	send_messages(11, 12);
	$a->query("BEGIN ISOLATION LEVEL $level");
	is($a->query("SELECT $numbers FROM seq_fetch_json('g')"), '11,12', "$level: fetched");
	$a->query('COMMIT');
}
$a->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM effects');
send_messages(13, 13);
is($b->query("SELECT $numbers FROM seq_fetch_json('g')"), '13', 'another one moves a partition');
send_messages(13, 13);
like($a->error("SELECT $numbers FROM seq_fetch_json('g')"), qr/^40001: could not serialize access: group "g" was moved/,
	'an older snapshot does not see what it has done');
$a->query('ROLLBACK');
is($a->query("SELECT $numbers FROM seq_fetch_json('g')"), '13', 'a new one does');
# nor does it if it has taken the partition before, to park something
send_messages(14, 14);
$a->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM effects');
is($b->query("SELECT $numbers FROM seq_fetch_json('g')"), '14', 'another one moves a partition again');
send_messages(14, 14);
send_messages(14, 14);
my $key = $b->query(q{BEGIN; SELECT (array_agg(concat_ws(', ', vshard, epoch, position) ORDER BY epoch, position))[1] FROM seq_fetch('g')});
$b->query('ROLLBACK');
$a->query("SELECT seq_park('g', $key, 'an older snapshot')");
like($a->error("SELECT $numbers FROM seq_fetch_json('g')"), qr/^40001: could not serialize access: group "g" was moved/,
	'who has parked there with an older snapshot does not fetch there');
$a->query('ROLLBACK');
$a->query("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT seq_park('g', $key, 'a new one')");
is($a->query("SELECT $numbers FROM seq_fetch_json('g')"), '14', 'with a new one he does');
$a->query("SELECT seq_drop_parked('g', $key)");
$a->query('COMMIT');

#
# Waiting
#
$a->send("SELECT $numbers FROM seq_fetch_json('g', 100, '1 minute')");
ok($a->running, 'a worker waits');
wait_for_sql($node, $db, "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE '%seq_fetch_json%' AND pid <> pg_backend_pid() AND state = 'active'");
send_messages(20, 20);
is(($a->finish)[0], '20', 'and is woken by what comes');

# by the rollback, and by the death, of who has taken it
foreach my $end ('ROLLBACK', 'kill')
{
	my $holder = session($node, $db);

	send_messages(21, 21);
	$holder->query("BEGIN; SELECT count(*) FROM seq_fetch('g')");
	$a->send("SELECT $numbers FROM seq_fetch_json('g', 100, '1 minute')");
	wait_for_sql($node, $db, "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE '%seq_fetch_json%' AND pid <> pg_backend_pid() AND state = 'active'");
	if ($end eq 'kill')
	{
		my $pid = $holder->pid;
		ok((elapsed { sql($node, $db, "SELECT pg_terminate_backend($pid)"); is(($a->finish)[0], '21', 'terminated, its partitions are the next one\'s'); }) < 30, 'soon');
	}
	else
	{
		$holder->query($end);
		is(($a->finish)[0], '21', 'rolled back, too');
		$holder->quit;
	}
}

# one that was woken, and ends instead, passes it on
my @waiting = map { session($node, $db) } 1 .. 3;
foreach my $i (0 .. 2)
{
	$waiting[$i]->send("SELECT $numbers FROM seq_fetch_json('g', 1, '1 minute')");
	wait_for_sql($node, $db, 'SELECT count(*) = ' . ($i + 1) . " FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE '%seq_fetch_json%' AND pid <> pg_backend_pid() AND state = 'active'");
}
send_messages(31, 33);
is(join(' ', sort map { ($_->finish)[0] } @waiting), '31 32 33', 'three that wait for one each get one each');
$_->quit foreach @waiting;

#
# Locks are bounded, partitions are not starved
#
sql($node, $db, "SELECT seq_create_group('wide', 1024)");
send_messages(1, 3000, 'w/');
$a->query('BEGIN');
cmp_ok($a->query("SELECT count(*) FROM seq_fetch('wide', 100000)"), '>', 0, 'a group of 1024 partitions');
$a->query("SELECT count(*) FROM seq_fetch('wide', 100000)") foreach 1 .. 5;
cmp_ok(sql($node, $db, "SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND classid = 'seq_registrations'::regclass"), '<=', 33,
	'a transaction takes at most 32 of them');
$a->query('COMMIT');
my $left = 1;
my $calls = 0;
$left = $a->query("SELECT count(*) FROM seq_fetch('wide', 100000)") while $left > 0 && $calls++ < 200;
is(sql($node, $db, "SELECT seq_pending('wide')"), 0, 'others have theirs');
is(sql($node, $db, "SELECT delivered FROM seq_consumers WHERE name = 'wide'"), 3000, 'each once');

# several share what is free; whoever comes within a second of another one takes half of it
sql($node, $db, "SELECT seq_create_group('shared')");
sql($node, $db, "SELECT count(seq_send('s/' || i % 200, to_jsonb(i))) FROM generate_series(1, 4000) i");
wait_for_sql($node, $db, 'SELECT waiting_rows = 0 FROM seq_sequencer');
wait_applied($node, $db);
my @sharing = map { session($node, $db) } 1 .. 4;
my @shares = (0);
for (my $try = 0; $try < 50 && grep({ $_ == 0 } @shares); $try++)
{
	@shares = map { $_->query('BEGIN'); $_->query("SELECT count(*) FROM seq_fetch('shared', 20)") } @sharing;
	$_->query('ROLLBACK') foreach @sharing;
}
is(join(',', @shares), '20,20,20,20', 'four that come together each have as much as they want');
$_->quit foreach @sharing;
sql($node, $db, "SELECT seq_drop_group('shared')");

# what a filter keeps out is read once
sql($node, $db, "SELECT seq_create_group('none', 2, collections => '{nothing}')");
sql($node, $db, "SELECT count(*) FROM seq_fetch('none')");
sql($node, $db, q(SELECT count(seq_append_json('{"EpochBatch": {"txns": [{"tx_class": {"write_set": [{"Document": {"collection": "x/1"}}], "plans": "\\\\x"}}]}}')) FROM generate_series(1, 1100)));
wait_applied($node, $db);
my $reached = "SELECT max(p.epoch) - seq_next_epoch() FROM seq_group_positions p JOIN seq_registrations r USING (id) WHERE r.name = 'none'";
is($a->query("BEGIN; SELECT count(*) FROM seq_fetch('none')"), 0, 'nothing passes a filter');
is($a->query($reached), 0, 'how far it was looked for is stored');
$a->query('ROLLBACK');
is($a->query($reached), -1100, 'with the transaction');
is($a->query("SELECT count(*) FROM seq_fetch('none')"), 0, 'again');
is($b->query($reached), 0, 'for all others, too');
sql($node, $db, "SELECT seq_drop_group('none')");

#
# Order, and exactly once, with workers that come and go
#
sql($node, $db, "SELECT seq_create_group('many', 4)");
my @workers = map { session($node, $db) } 1 .. 4;
sql($node, $db, "SELECT count(seq_send('m/' || i % 37, to_jsonb(i))) FROM generate_series(1, 2000) i");
my $round = 0;
while (sql($node, $db, "SELECT count(*) FROM effects WHERE grp = 'many'") < 2000 && $round++ < 2000)
{
	my $size = 1 + $round % 50;
	$_->send("BEGIN; INSERT INTO effects (grp, vshard, epoch, \"position\", n) SELECT 'many', vshard, epoch, \"position\", payload::int FROM seq_fetch_json('many', $size, '100ms'); "
		  . ($round % 5 ? 'COMMIT' : 'ROLLBACK')) foreach @workers;
	$_->finish foreach @workers;
}
is(sql($node, $db, "SELECT count(*), count(DISTINCT n) FROM effects WHERE grp = 'many'"), '2000|2000', 'four workers do each once');
is(sql($node, $db, "SELECT count(*) FROM (SELECT n, lag(n) OVER (PARTITION BY vshard ORDER BY at) AS before FROM effects WHERE grp = 'many') x WHERE before > n"), 0,
	'in order, in each vshard');
$_->quit foreach @workers;

#
# Truncation
#
send_messages(41, 41);
sql($node, $db, "SELECT seq_append_json('{\"EpochBatch\": {\"txns\": []}}')") foreach 1 .. 2;
wait_applied($node, $db);
my $next = sql($node, $db, 'SELECT seq_next_epoch()') - 1;
like(sql_error($node, $db, "SELECT seq_truncate($next)"), qr/^55006: cannot truncate past the group "\w+"\nDETAIL: .*\nHINT: /, 'nobody truncates past a group');
is($a->query("SELECT $numbers FROM seq_fetch_json('g')"), '41', 'which has then what it needs');
sql($node, $db, "SELECT seq_drop_group('wide')");
like(sql_error($node, $db, "SELECT seq_truncate($next)"), qr/past the group "many"/, 'the others, too');
sql($node, $db, "SELECT count(*) FROM seq_fetch('many')");
cmp_ok(sql($node, $db, "SELECT seq_truncate($next)"), '>', 0, 'and then it goes');
send_messages(42, 42);
is($a->query("SELECT $numbers FROM seq_fetch_json('g')"), '42', 'partitions that had nothing of it go on');
send_messages(43, 43);
sql($node, $db, "SELECT seq_append_json('{\"EpochBatch\": {\"txns\": []}}')") foreach 1 .. 2;
wait_applied($node, $db);
$next = sql($node, $db, 'SELECT seq_next_epoch()') - 1;
sql($node, $db, "SELECT seq_truncate($next, true)");
like($a->error("SELECT seq_fetch('g')"), qr/^55000: group "g" is lost\nDETAIL: .*\nHINT: .*seq_drop_group/, 'a forced one is told');
is(sql($node, $db, "SELECT state FROM seq_consumers WHERE name = 'g'"), 'lost', 'and shown');
sql($node, $db, "SELECT seq_drop_group('g'), seq_drop_group('many')");
sql($node, $db, "SELECT seq_create_group('g', collections => '{e/%}'), seq_create_group('Some \"Group\"', 3, '{1,2,3}', '{x,y%}')");

#
# Crash, dump and restore, standby
#
send_messages(51, 53);
$a->query("BEGIN; SELECT count(*) FROM seq_fetch('g')");
$node->stop('immediate');
$node->start;
wait_for_applier($node, $db);
$a->quit;
$b->quit;
is(sql($node, $db, "SELECT $numbers FROM seq_fetch_json('g', 2, '1 minute')"), '51,52', 'after a crash');

sql($node, $db, 'CREATE ROLE "the owner"; GRANT EXECUTE ON FUNCTION seq_create_group, seq_fetch_json TO "the owner"');
sql($node, $db, "SET ROLE \"the owner\"; SELECT seq_create_group('theirs')");
sql($node, $db, "SELECT seq_park('g', seq_vshard('e/53'), (SELECT max(epoch) FROM seq_log), 2, 'aside')");
$node->run_log([ 'pg_dump', '-Fc', '-f', $node->basedir . '/dump', $node->connstr($db) ]);
sql($node, 'postgres', 'CREATE DATABASE restored');
command_ok([ 'pg_restore', '-d', $node->connstr('restored'), $node->basedir . '/dump' ], 'a dump is restored');
is(sql($node, 'restored', 'SELECT name, owner, kind, vshards, partitions FROM seq_consumers ORDER BY name'),
	sql($node, $db, 'SELECT name, owner, kind, vshards, partitions FROM seq_consumers ORDER BY name'), 'with its groups');
is(sql($node, 'restored', 'SELECT name, vshard, epoch, "position", reason FROM seq_parked'), sql($node, $db, 'SELECT name, vshard, epoch, "position", reason FROM seq_parked'),
	'and what they have parked');
is(sql($node, 'restored', "SELECT $numbers FROM seq_fetch_json('g', 100, '1s')"), '', 'which is passed over there');
is(sql($node, 'restored', "SELECT seq_json(plans) FROM seq_retry('g', seq_vshard('e/53'), (SELECT max(epoch) FROM seq_log), 2)"), '53', 'and can be retried');
like(sql_error($node, 'restored', "CREATE ROLE stranger; GRANT EXECUTE ON FUNCTION seq_fetch TO stranger; SET ROLE stranger; SELECT seq_fetch('theirs')"),
	qr/^42501: .*\nDETAIL: +It belongs to the role "the owner"/, 'whose they are');
sql($node, 'postgres', 'DROP DATABASE restored');

$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
send_messages(61, 63);
$node->wait_for_catchup($standby);
foreach my $call ("seq_fetch('g')", "seq_fetch_json('g')", "seq_park('g', 1, 0, 0, '')", "seq_retry('g', 1, 0, 0)", "seq_drop_parked('g', 1, 0, 0)",
	"seq_create_group('x')", "seq_drop_group('g')", "seq_register('x', '{1}')", "seq_unregister('x')", "seq_handle('g', 'now()')", "seq_unhandle('g')")
{
	my ($function) = $call =~ /^(\w+)/;

	like(sql_error($standby, $db, "SELECT $call"), qr/^25006: cannot execute $function\(\) during recovery/, "a standby refuses $function");
}
is(sql($standby, $db, "SELECT seq_pending('g')"), 3, 'but tells what is pending');
is(sql($node, $db, "SELECT $numbers FROM seq_fetch_json('g', 1)"), '61', 'the primary goes on');
$node->wait_for_catchup($standby);
$node->stop;
$standby->promote;
wait_for_applier($standby, $db);
is(sql($standby, $db, "SELECT $numbers FROM seq_fetch_json('g', 100, '1 minute')"), '62,63', 'and the standby where it stopped');
$standby->stop;

nothing_crashed($standby);
done_testing();
