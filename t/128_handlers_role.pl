# Who a handler runs as, with what settings and rights; what it must be; and what becomes
# of it when its function or its role goes.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinHandler;
use CalvinTest;
use Test::More;

my $node = new_node('main', max_worker_processes => 20, 'calvin_seq.max_handlers' => 4);

create_extension($node);
prepare_handlers($node, 'postgres');
my $owner = sql($node, 'postgres', 'SELECT current_user');

# What a role needs that is to make groups and handlers, and no more.
sub make_role
{
	my ($role, $options) = @_;

	return sql($node, 'postgres', <<"EOS");
CREATE ROLE $role $options;
GRANT EXECUTE ON FUNCTION seq_create_group(text, int, int[], text[], bigint), seq_drop_group(text),
	seq_handle(text, regprocedure, int, int, int, interval), seq_unhandle(text) TO $role;
GRANT ALL ON SCHEMA public TO $role;
EOS
}

make_role('app', 'LOGIN');
make_role('nobody', 'NOLOGIN');
make_role('other', 'LOGIN');

my $app = session($node, 'postgres', user => 'app');
my $other = session($node, 'postgres', user => 'other');
my $admin = session($node, 'postgres');

#
# As the role that asked, with its settings
#
$app->query("SELECT seq_create_group('mine', 2)");
$admin->query(<<'EOS');
ALTER ROLE app SET search_path = pg_temp;
ALTER ROLE app SET default_transaction_isolation = 'repeatable read';
ALTER ROLE app IN DATABASE postgres SET work_mem = '12345kB';
CREATE TABLE seen (session name, present name, path text, isolation text, work_mem text, readable text);
GRANT ALL ON seen TO PUBLIC;
CREATE TABLE secret (a int);
CREATE FUNCTION look(t seq_txn) RETURNS int LANGUAGE plpgsql AS $$
DECLARE readable text := 'yes';
BEGIN
	BEGIN
		PERFORM a FROM public.secret;
	EXCEPTION WHEN insufficient_privilege THEN readable := 'no';
	END;
	INSERT INTO public.seen SELECT session_user, current_user, current_setting('search_path'), current_setting('transaction_isolation'), current_setting('work_mem'), readable;
	RETURN 1;
END $$;
EOS
$app->query("SELECT seq_handle('mine', 'look(seq_txn)')");
send_numbers($node, 'postgres', 'a', 1, 1);
wait_for_sql($node, 'postgres', 'SELECT count(*) FROM seen', 1);
is(sql($node, 'postgres', 'SELECT * FROM seen'), 'app|app|pg_temp|repeatable read|12345kB|no', 'as the role, with what is set for it, and with no more rights');
is(sql($node, 'postgres', "SELECT usename, backend_type, application_name, state, query FROM pg_stat_activity WHERE backend_type = 'calvin_seq handler'"),
	'app|calvin_seq handler|calvin_seq handler|idle|waiting for transactions for group "mine"', 'pg_stat_activity shows it');
is(sql($node, 'postgres', "SELECT backend_xmin IS NULL, xact_start IS NULL FROM pg_stat_activity WHERE backend_type = 'calvin_seq handler'"), 't|t', 'it holds nothing while it waits');
is(sql($node, 'postgres', "SELECT kind, state, pids = (SELECT pids FROM seq_handlers) FROM seq_consumers WHERE name = 'mine'"), 'handler|live|t', 'and seq_consumers knows its worker');
is(sql($node, 'postgres', "SELECT handler, role, state FROM seq_handlers"), 'public.look(public.seq_txn)|app|running', 'as does seq_handlers');
# of all settings that were made for it no trace is in who comes after
$admin->query('ALTER ROLE app RESET ALL; ALTER ROLE app IN DATABASE postgres RESET ALL; TRUNCATE seen');

#
# Whose it is
#
like($other->error("SELECT seq_handle('mine', 'look(seq_txn)')"), qr/^42501: permission denied for consumer "mine"/, 'others define none for a group');
like($other->error("SELECT seq_unhandle('mine')"), qr/^42501: permission denied for consumer "mine"/, 'nor end it');
like($other->error("SELECT * FROM seq_handlers"), qr/^42501: /, 'nor see it');
like($other->error("INSERT INTO seq_handler_definitions SELECT * FROM seq_handler_definitions"), qr/^42501: /, 'nor write to the table');
$admin->query('GRANT pg_monitor TO other');
is($other->query('SELECT count(*) FROM seq_handlers'), 1, 'who monitors does');
$admin->query('GRANT INSERT, SELECT, UPDATE ON seq_handler_definitions TO other');
like($other->error("INSERT INTO seq_handler_definitions SELECT 'x', id, definition, handler_schema, handler_name, takes_array, 10, role_name, workers, max_attempts, batch, backoff_ms, defined_at, handler_owner FROM seq_handler_definitions"),
	qr/^42501: permission denied to define a handler that runs as role/, 'with the right to write to the table, nobody is made to run one');
like($other->error("INSERT INTO seq_handler_definitions SELECT 'x', id, definition, handler_schema, handler_name, takes_array, 0, '$owner', workers, max_attempts, batch, backoff_ms, defined_at, handler_owner FROM seq_handler_definitions"),
	qr/^42501: permission denied to define a handler that runs as role/, 'by his name neither');
like($other->error("UPDATE seq_handler_definitions SET role = 10"), qr/^55000: cannot UPDATE seq_handler_definitions/, 'nor by a change');
$admin->query('REVOKE ALL ON seq_handler_definitions FROM other; REVOKE pg_monitor FROM other');
# the owner of the table can, but not beyond himself
$admin->query('ALTER TABLE seq_handler_definitions OWNER TO other');
wait_for_sql($node, 'postgres', "SELECT state, last_error FROM seq_handlers", 'stopped|the owner of seq_handler_definitions may not act as role "app"');
pass('nor by being the owner of the table');
$admin->query("ALTER TABLE seq_handler_definitions OWNER TO $owner");
$app->query("SELECT seq_handle('mine', 'look(seq_txn)')");
wait_state($node, 'postgres', 'mine', 'running');

#
# What it must be
#
$admin->query(<<'EOS');
CREATE PROCEDURE a_procedure(t seq_txn) LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION a_set(t seq_txn) RETURNS SETOF int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION of_int(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION of_two(seq_txn, int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION of_any(anyelement) RETURNS int LANGUAGE sql AS 'SELECT 1';
EOS
foreach ([ 'a_procedure(seq_txn)', 'is not a plain function' ], [ 'a_set(seq_txn)', 'is not a plain function' ],
	[ 'of_int(int)', 'A handler takes one argument, of type seq_txn or seq_txn\[\]' ], [ 'of_two(seq_txn, int)', 'A handler takes one argument' ],
	[ 'of_any(anyelement)', 'A handler takes one argument' ])
{
	like($app->error("SELECT seq_handle('mine', '$_->[0]')"), qr/^55000: group "mine" cannot be handled like that\nDETAIL: .*$_->[1]/, "not $_->[0]");
}
$admin->query('CREATE FUNCTION pg_temp.passing(seq_txn) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$');
like($admin->error("SELECT seq_handle('mine', 'pg_temp.passing(seq_txn)')"), qr/^55000: .*\nDETAIL: .*of this session alone/, 'nor one of a session');
$admin->query('CREATE FUNCTION guarded(seq_txn) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$; REVOKE ALL ON FUNCTION guarded FROM PUBLIC');
like($app->error("SELECT seq_handle('mine', 'guarded(seq_txn)')"), qr/^42501: .*\nDETAIL: .*Role "app" may not execute function public\.guarded/, 'nor one that the role may not execute');
like($admin->error("SET ROLE nobody; SELECT seq_create_group('dumb', 1); SELECT seq_handle('dumb', 'look(seq_txn)')"), qr/^55000: .*\nDETAIL: .*Role "nobody" is not permitted to log in.*\nHINT: .*background worker/, 'nor as a role that cannot log in');
$admin->query('RESET ROLE');

my @refused = (
	[ "'none', 'look(seq_txn)'", qr/^42704: there is no group "none"/ ],
	[ "NULL, 'look(seq_txn)'", qr/^22004: / ],
	[ "'mine', NULL", qr/^22004: / ],
	[ "'mine', 'look(seq_txn)', NULL", qr/^22004: / ],
	[ "'', 'look(seq_txn)'", qr/^42602: / ],
	[ "'mine', 'look(seq_txn)', 0", qr/^22023: workers must be between 1 and 4/ ],
	[ "'mine', 'look(seq_txn)', 5", qr/^22023: workers must be between 1 and 4.*\n.*\nHINT: / ],
	[ "'mine', 'look(seq_txn)', max_attempts => 0", qr/^22023: max_attempts must be between 1 and / ],
	[ "'mine', 'look(seq_txn)', batch => 0", qr/^22023: batch must be between 1 and / ],
	[ "'mine', 'look(seq_txn)', batch => 100001", qr/^22023: batch must be between 1 and / ],
	[ "'mine', 'look(seq_txn)', backoff => '0'", qr/^22023: backoff must be between / ],
	[ "'mine', 'look(seq_txn)', backoff => '2 minutes'", qr/^22023: backoff must be between / ],
	[ "'mine', 'look(seq_txn)', backoff => '-1 second'", qr/^22023: backoff must be between / ],
	[ "'mine', 'nothing(seq_txn)'", qr/^42883: / ],
);

like($app->error("SELECT seq_handle($_->[0])"), $_->[1], "seq_handle($_->[0])") foreach @refused;
like($app->error('BEGIN READ ONLY; SELECT seq_handle(\'mine\', \'look(seq_txn)\')'), qr/^25006: /, 'not in a read-only transaction');
$app->query('ROLLBACK');
like($app->error('SELECT seq_unhandle(NULL)'), qr/^22004: /, 'seq_unhandle(NULL)');
like($app->error("SELECT seq_unhandle('none')"), qr/^42704: there is no group/, 'seq_unhandle of no group');
$app->query("SELECT seq_create_group('bare', 1)");
like($app->error("SELECT seq_unhandle('bare')"), qr/^42704: group "bare" has no handler/, 'seq_unhandle of a group without one');
$app->query("SELECT seq_drop_group('bare')");

#
# Defined again, in a transaction, rolled back
#
my ($before) = handler_pids($node, 'postgres', 'mine');
$app->query("BEGIN; SELECT seq_unhandle('mine'); ROLLBACK; BEGIN; SELECT seq_handle('mine', 'look(seq_txn)', 2); ROLLBACK");
send_numbers($node, 'postgres', 'a', 2, 2);
wait_for_sql($node, 'postgres', 'SELECT count(*) FROM seen', 1);
is((handler_pids($node, 'postgres', 'mine'))[0], $before, 'what is rolled back is nothing');
$app->query("SELECT seq_handle('mine', 'look(seq_txn)', 3)");
wait_for_sql($node, 'postgres', "SELECT cardinality(pids) = 3 AND NOT pids && ARRAY[$before] AND state = 'running' FROM seq_handlers");
pass('defined again: other workers, and as many');
$app->query("BEGIN; SELECT seq_unhandle('mine'); SELECT seq_handle('mine', 'look(seq_txn)', 1); COMMIT");
wait_for_sql($node, 'postgres', "SELECT cardinality(pids) = 1 AND state = 'running' FROM seq_handlers");
pass('ended and defined in one transaction');

#
# The function goes, and comes back
#
my $offset = log_offset($node);
my $look = sql($node, 'postgres', "SELECT pg_get_functiondef('look(seq_txn)'::regprocedure)");
sub comes_back
{
	my ($away, $error, $back, $desc) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$admin->query($away);
	wait_for_sql($node, 'postgres', "SELECT state, pids, last_error FROM seq_handlers", "stopped|{}|$error");
	is(sql($node, 'postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'calvin_seq handler'"), 0, "$desc: it stops, and says why");
	send_numbers($node, 'postgres', 'a', 3, 3);
	$admin->query($back);
	wait_for_sql($node, 'postgres', "SELECT state, last_error IS NULL FROM seq_handlers WHERE seq_pending('mine') = 0", 'running|t');
	pass("$desc: and goes on when that has passed");
	return;
}

comes_back('DROP FUNCTION look', 'function public.look(public.seq_txn) does not exist', $look, 'its function dropped');
comes_back('DROP FUNCTION look; CREATE FUNCTION look(seq_txn[]) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$', 'function public.look(public.seq_txn) does not exist', "DROP FUNCTION look; $look", 'replaced by another one');
comes_back('ALTER FUNCTION look RENAME TO gone', 'function public.look(public.seq_txn) does not exist', 'ALTER FUNCTION gone RENAME TO look', 'renamed');
comes_back('CREATE SCHEMA away; ALTER FUNCTION look SET SCHEMA away', 'function public.look(public.seq_txn) does not exist', 'ALTER FUNCTION away.look SET SCHEMA public', 'moved');
comes_back('REVOKE ALL ON FUNCTION look FROM PUBLIC', 'role "app" may not execute function public.look(public.seq_txn)', 'GRANT EXECUTE ON FUNCTION look TO PUBLIC', 'not to be executed');
comes_back('ALTER ROLE app NOLOGIN', 'role "app" is not permitted to log in', 'ALTER ROLE app LOGIN', 'its role cannot log in');
comes_back('REVOKE CONNECT ON DATABASE postgres FROM PUBLIC', 'role "app" does not have the CONNECT privilege on the database', 'GRANT CONNECT ON DATABASE postgres TO PUBLIC', 'its role cannot connect');
log_has_no($node, qr/FATAL/, 'none of that floods the log', $offset);

# the role is gone, and its group another's
$app->quit;
$admin->query("REASSIGN OWNED BY app TO other; DROP OWNED BY app; DROP ROLE app");
wait_for_sql($node, 'postgres', "SELECT state, pids, role, last_error FROM seq_handlers", 'stopped|{}|app|role "app" does not exist');
is(sql($node, 'postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'calvin_seq handler'"), 0, 'its role dropped: it stops, and says why');
is($admin->query("SELECT seq_unhandle('mine'), count(*) FROM seq_handlers"), '|1', 'and a superuser ends it');
log_has_no($node, qr/FATAL/, 'without a word in the log', $offset);

# what is wrong with the session is tried again, later each time
$admin->query('ALTER ROLE other SET default_transaction_read_only = on');
$other->query("SELECT seq_create_group('few', 1)");
$offset = log_offset($node);
$other->query("SELECT seq_handle('few', 'look(seq_txn)')");
wait_for_sql($node, 'postgres', "SELECT state, last_error FROM seq_handlers WHERE name = 'few'", 'retrying|cannot execute seq_fetch() in a read-only transaction');
wait_until(sub { my @tries = log_since($node, $offset) =~ /(ERROR: +cannot execute seq_fetch)/g; @tries >= 3 }, 'three tries');
$admin->query('ALTER ROLE other RESET ALL');
$other->query("SELECT seq_handle('few', 'look(seq_txn)')");
wait_state($node, 'postgres', 'few', 'running');
my @lines = log_since($node, $offset) =~ /(ERROR: +cannot execute seq_fetch)/g;
cmp_ok(scalar @lines, '<', 8, 'an error before a call: retried, but not at once');

$node->stop;
nothing_crashed($node);
done_testing();
