# Handlers: functions that the server calls for what a group fetches.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', -streaming => 1, 'calvin_seq.max_handlers' => 4, max_worker_processes => 24);
my $db = 'postgres';

create_extension($node);
sql($node, $db, <<'EOS');
CREATE TABLE effects (grp text, vshard int, epoch bigint, "position" int, n int, usr name DEFAULT session_user,
	path text DEFAULT current_setting('search_path'), pid int DEFAULT pg_backend_pid(), at bigserial);
GRANT INSERT, SELECT ON effects TO PUBLIC;
GRANT USAGE ON SEQUENCE effects_at_seq TO PUBLIC;
CREATE TABLE calls (n int);
CREATE FUNCTION one(t seq_txn) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO effects (grp, vshard, epoch, "position", n) VALUES ('one', t.vshard, t.epoch, t."position", (seq_json(t.plans))::int);
END $$;
CREATE FUNCTION many(t seq_txn[]) RETURNS int LANGUAGE sql AS $$
	WITH i AS (INSERT INTO effects (grp, vshard, epoch, "position", n) SELECT 'many', vshard, epoch, "position", (seq_json(plans))::int FROM unnest(t) RETURNING 1)
	SELECT count(*)::int FROM i $$;
CREATE FUNCTION fails(t seq_txn) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	IF seq_json(t.plans) = '13' THEN RAISE EXCEPTION 'thirteen'; END IF;
	INSERT INTO effects (grp, vshard, epoch, "position", n) VALUES ('fails', t.vshard, t.epoch, t."position", (seq_json(t.plans))::int);
END $$;
CREATE FUNCTION commits(t seq_txn) RETURNS void LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;
CREATE FUNCTION sleeps(t seq_txn) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(600) $$;
CREATE FUNCTION ends(t seq_txn) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	IF seq_json(t.plans) = '2' THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); END IF;
	INSERT INTO effects (grp, vshard, epoch, "position", n) VALUES ('ends', t.vshard, t.epoch, t."position", (seq_json(t.plans))::int);
END $$;
CREATE PROCEDURE proc(t seq_txn) LANGUAGE plpgsql AS $$ BEGIN END $$;
EOS

sub send_messages
{
	my ($from, $to) = @_;

	return sql($node, $db, "SELECT count(seq_send('e/' || i, to_jsonb(i))) FROM generate_series($from, $to) i");
}

sub wait_effects
{
	my ($group, $n) = @_;

	return wait_for_sql($node, $db, "SELECT count(*) = $n FROM effects WHERE grp = '$group'");
}

sub group_with
{
	my ($name, $handler, @more) = @_;

	sql($node, $db, "SELECT seq_create_group('$name'); ");
	sql($node, $db, "SELECT seq_handle(" . join(', ', "'$name'", "'$handler'", @more) . ")");
	return wait_for_sql($node, $db, "SELECT state = 'running' FROM seq_handlers WHERE name = '$name'");
}

#
# Exactly once, in order, without a client
#
group_with('one', 'one(seq_txn)', 2);
group_with('many', 'many(seq_txn[])', 1);
send_messages(1, 1000);
ok(wait_effects('one', 1000), 'a function is called with each transaction');
ok(wait_effects('many', 1000), 'or with many of them');
is(sql($node, $db, 'SELECT grp, count(DISTINCT n) FROM effects GROUP BY 1 ORDER BY 1'), "many|1000\none|1000", 'each once');
sql($node, $db, "SELECT count(seq_send('o/' || i % 7, to_jsonb(i))) FROM generate_series(2001, 2500) i");
ok(wait_effects('one', 1500), 'more');
is(sql($node, $db, "SELECT count(*) FROM (SELECT n, lag(n) OVER (PARTITION BY vshard ORDER BY at) AS before FROM effects WHERE grp = 'one' AND n > 2000) x WHERE before > n"), 0,
	'in order');
wait_for_sql($node, $db, "SELECT pending = 0 FROM seq_consumers WHERE name = 'one'");
is(sql($node, $db, "SELECT h.processed, h.failed, h.parked, h.workers, cardinality(h.pids), c.kind, c.delivered FROM seq_handlers h JOIN seq_consumers c USING (name) WHERE name = 'one'"),
	'1500|0|0|2|2|handler|1500', 'and shown');
my $pids = sql($node, $db, "SELECT string_agg(p::text, ',') FROM seq_handlers, unnest(pids) p");
is(sql($node, $db, "SELECT count(*) FROM pg_stat_activity WHERE pid IN ($pids) AND xact_start IS NULL AND backend_xmin IS NULL AND backend_type = 'calvin_seq handler'"), 3,
	'nothing is held while they wait');

# while the server restarts, and one of them is terminated
sql($node, $db, "SELECT pg_terminate_backend(p) FROM seq_handlers, unnest(pids) p WHERE name = 'one'");
send_messages(3001, 3100);
ok(wait_effects('one', 1600), 'terminated, they come back');
$node->stop('immediate');
$node->start;
wait_for_applier($node, $db);
send_messages(3101, 3200);
ok(wait_effects('one', 1700), 'and after a crash');
is(sql($node, $db, "SELECT count(DISTINCT n) FROM effects WHERE grp = 'one'"), 1700, 'each still once');

#
# Errors
#
sql($node, $db, "SELECT seq_unhandle('one'), seq_drop_group('one'), seq_drop_group('many')");
is(wait_for_sql($node, $db, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'calvin_seq handler'"), 1, 'ended, nothing runs');
like(sql_error($node, $db, "SELECT seq_unhandle('one')"), qr/^42704: there is no group "one"/, 'nor is it there any more');

group_with('fails', 'fails(seq_txn)', 1, 3);
send_messages(1, 50);
ok(wait_effects('fails', 49), 'others go on beside one that fails');
wait_for_sql($node, $db, "SELECT count(*) = 1 FROM seq_parked WHERE name = 'fails'");
is(sql($node, $db, "SELECT reason, attempts FROM seq_parked WHERE name = 'fails'"), 'thirteen|3', 'which is parked, with the error as the reason');
is(sql($node, $db, "SELECT count(DISTINCT n), count(*) FILTER (WHERE n = 13) FROM effects WHERE grp = 'fails'"), '49|0', 'and nothing of it is left');
is(sql($node, $db, "SELECT last_error FROM seq_handlers WHERE name = 'fails'"), 'thirteen', 'the view has it');
my $parked = sql($node, $db, "SELECT vshard || ', ' || epoch || ', ' || position FROM seq_parked WHERE name = 'fails'");
is(sql($node, $db, "SELECT seq_json(plans) FROM seq_retry('fails', $parked)"), '13', 'it is taken back');
is(sql($node, $db, "SELECT count(*) FROM seq_parked"), 0, 'once');
sql($node, $db, "SELECT seq_drop_group('fails')");

group_with('commits', 'commits(seq_txn)', 1, 2);
send_messages(1, 1);
wait_for_sql($node, $db, "SELECT count(*) = 1 FROM seq_parked WHERE name = 'commits'");
like(sql($node, $db, 'SELECT reason FROM seq_parked'), qr/invalid transaction termination/, 'COMMIT is refused');
sql($node, $db, "SELECT seq_drop_group('commits')");

sql($node, $db, "CREATE ROLE worker LOGIN; ALTER ROLE worker SET statement_timeout = '200ms'; ALTER ROLE worker SET search_path = pg_temp, public");
sql($node, $db, "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO worker");
sql($node, $db, "SET ROLE worker; SELECT seq_create_group('sleeps'); SELECT seq_handle('sleeps', 'sleeps(seq_txn)', 1, 2)");
send_messages(1, 1);
wait_for_sql($node, $db, "SELECT count(*) = 1 FROM seq_parked WHERE name = 'sleeps'");
like(sql($node, $db, 'SELECT reason FROM seq_parked'), qr/statement timeout/, 'statement_timeout applies, as the role has it');
sql($node, $db, "SELECT seq_drop_group('sleeps')");

# one that takes the worker with it
sql($node, $db, "SELECT seq_create_group('ends', 1)");
sql($node, $db, "SELECT seq_handle('ends', 'ends(seq_txn)', 1, 2)");
send_messages(1, 3);
ok(wait_effects('ends', 2), 'a message that ends its worker is not tried for ever');
is(sql($node, $db, "SELECT string_agg(n::text, ',' ORDER BY n) FROM effects WHERE grp = 'ends'"), '1,3', 'what is behind it goes on');
like(sql($node, $db, "SELECT reason || ' ' || attempts FROM seq_parked WHERE name = 'ends'"), qr/^the worker that ran the handler ended in it 2$/, 'it is parked');
sql($node, $db, "SELECT seq_drop_group('ends')");

#
# Who it runs as, and what it calls
#
sql($node, $db, "SET ROLE worker; SELECT seq_create_group('mine', 4); SELECT seq_handle('mine', 'one(seq_txn)')");
sql($node, $db, "TRUNCATE effects");
send_messages(1, 1);
ok(wait_effects('one', 1), 'as the role that asked');
is(sql($node, $db, 'SELECT usr, path FROM effects'), 'worker|pg_temp, public', 'with its settings');
like(sql_error($node, $db, "CREATE ROLE other LOGIN; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO other; SET ROLE other; SELECT seq_handle('mine', 'one(seq_txn)')"),
	qr/^42501: /, 'others may not');
like(sql_error($node, $db, "SET ROLE other; SELECT seq_unhandle('mine')"), qr/^42501: /, 'nor end it');

sql($node, $db, 'ALTER ROLE worker NOLOGIN');
wait_for_sql($node, $db, "SELECT state = 'stopped' AND pids = '{}' FROM seq_handlers WHERE name = 'mine'");
like(sql($node, $db, "SELECT last_error FROM seq_handlers WHERE name = 'mine'"), qr/role "worker" is not permitted to log in/, 'a role that may not log in: stopped');
my $offset = log_offset($node);
sql($node, $db, 'ALTER ROLE worker LOGIN');
wait_for_sql($node, $db, "SELECT state = 'running' FROM seq_handlers WHERE name = 'mine'");
sql($node, $db, 'ALTER FUNCTION one(seq_txn) RENAME TO another');
wait_for_sql($node, $db, "SELECT state = 'stopped' AND pids = '{}' FROM seq_handlers WHERE name = 'mine'");
like(sql($node, $db, "SELECT last_error FROM seq_handlers WHERE name = 'mine'"), qr/function public\.one\(public\.seq_txn\) does not exist/, 'a function that is gone');
send_messages(2, 2);
sql($node, $db, 'ALTER FUNCTION another(seq_txn) RENAME TO one');
ok(wait_effects('one', 2), 'and is there again');
log_has_no($node, qr/FATAL: +role/, 'nobody has tried as the role meanwhile', $offset);

foreach (['one(int)', qr/^42883/], ['proc(seq_txn)', qr/^55000: .*\nDETAIL: .*is not a plain function/], ['pg_sleep(double precision)', qr/^55000: .*\nDETAIL: .*seq_txn/])
{
	like(sql_error($node, $db, "SELECT seq_handle('mine', '$_->[0]')"), $_->[1], "no handler: $_->[0]");
}
like(sql_error($node, $db, "SELECT seq_handle('mine', 'one(seq_txn)', $_)"), qr/^22023: workers must be/, "workers: $_") foreach 0, 5;
sql($node, $db, "SET ROLE worker; SELECT seq_handle('mine', 'one(seq_txn)', 4)");
wait_for_sql($node, $db, "SELECT cardinality(pids) = 4 FROM seq_handlers WHERE name = 'mine'");
sql($node, $db, "SELECT seq_create_group('late'); SELECT seq_handle('late', 'one(seq_txn)')");
wait_for_sql($node, $db, "SELECT state = 'no slot' FROM seq_handlers WHERE name = 'late'");
sql($node, $db, "SELECT seq_unhandle('mine')");
ok(wait_for_sql($node, $db, "SELECT state = 'running' FROM seq_handlers WHERE name = 'late'"), 'who lacked a slot gets one that is given up');
sql($node, $db, "SELECT seq_drop_group('late')");

#
# Standby, and the database's end
#
sql($node, $db, "SET ROLE worker; SELECT seq_handle('mine', 'one(seq_txn)')");
wait_for_sql($node, $db, "SELECT state = 'running' FROM seq_handlers WHERE name = 'mine'");
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
wait_for_applier($standby, $db);
is(sql($standby, $db, 'SELECT state, pids FROM seq_handlers'), 'standby|{}', 'a standby runs none');
send_messages(4, 4);
ok(wait_effects('one', 3), 'the primary does');
$node->wait_for_catchup($standby);
$node->stop;
$standby->promote;
ok(wait_for_sql($standby, $db, "SELECT state = 'running' FROM seq_handlers"), 'until it is promoted');
sql($standby, $db, "SELECT seq_send('e/1', '5')");
ok(wait_for_sql($standby, $db, 'SELECT count(*) = 4 FROM effects'), 'and goes on where it stopped');
sql($standby, 'template1', 'CREATE DATABASE copy TEMPLATE postgres');
ok(wait_for_sql($standby, $db, "SELECT state = 'running' FROM seq_handlers"), 'a copy is made of the database beside them');
sql($standby, $db, 'DROP EXTENSION calvin_seq CASCADE');
ok(wait_for_sql($standby, $db, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'calvin_seq handler' AND datname = 'postgres'"), 'without the extension they end');
sql($standby, 'template1', 'DROP DATABASE copy');
$standby->stop;

nothing_crashed($standby);
done_testing();
