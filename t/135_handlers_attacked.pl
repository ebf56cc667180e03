# Handlers under attack: who would have them run as others, or what he may not; messages
# that would have others counted as failed; workers that end between a failure and its note.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinHandler;
use CalvinPause;
use CalvinTest;
use Test::More;

require_pauses();

my $node = new_node('main', max_worker_processes => 24, 'calvin_seq.max_handlers' => 4);

create_extension($node);
prepare_handlers($node, 'postgres');
sql($node, 'postgres', 'CREATE DATABASE side');
my $pauses = pauses($node, 'side');
my $owner = sql($node, 'postgres', 'SELECT current_user');

# What a group has parked: number, attempts, reason.
sub parked
{
	my ($group) = @_;

	return sql($node, 'postgres', "SELECT seq_json((x).plans) ->> 'n', attempts, reason FROM (SELECT attempts, reason, epoch, position, vshard FROM seq_parked WHERE name = '$group') p, LATERAL (SELECT x FROM seq_replay(p.vshard, p.epoch, p.epoch) x WHERE x.position = p.position) r ORDER BY 1");
}

sub fault
{
	my ($n, $message) = @_;

	return sql($node, 'postgres', "INSERT INTO faults VALUES ($n, \$f\$$message\$f\$)");
}

# Until both partitions are trusted, and so handled together.
sub have_trusted
{
	my ($group) = @_;

	foreach (1 .. 5)
	{
		sql($node, 'postgres', "SELECT seq_send(c, '{\"n\": 0}') FROM unnest(ARRAY['a', 'b']) c");
		wait_for_sql($node, 'postgres', "SELECT seq_pending('$group')", 0);
	}
	return;
}

sub end_group
{
	my ($group) = @_;

	return sql($node, 'postgres', "SELECT seq_drop_group('$group'); TRUNCATE done, faults");
}

#
# Rights
#
sql($node, 'postgres', <<'EOS');
CREATE ROLE mallory LOGIN;
GRANT CREATE, USAGE ON SCHEMA public TO mallory;
GRANT USAGE ON TYPE seq_txn TO mallory;
GRANT EXECUTE ON FUNCTION seq_create_group(text, int, int[], text[], bigint), seq_drop_group(text),
	seq_handle(text, regprocedure, int, int, int, interval) TO mallory;
GRANT SELECT, INSERT, DELETE ON seq_handler_definitions TO mallory;
EOS
my $mallory = session($node, 'postgres', user => 'mallory');
$mallory->query("SELECT seq_create_group('shared', 1)");
handle($node, 'postgres', 'shared', 'rows');
wait_state($node, 'postgres', 'shared', 'running');
$mallory->query(<<'EOS');
CREATE FUNCTION evil(t seq_txn) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO done (handler, who) VALUES ('evil', current_user); END $$;
BEGIN;
CREATE TEMP TABLE d AS SELECT * FROM seq_handler_definitions;
DELETE FROM seq_handler_definitions;
INSERT INTO seq_handler_definitions SELECT name, id, definition, 'public', 'evil', false, 'mallory'::regrole, 'mallory', workers, max_attempts, batch, backoff_ms, defined_at, 'mallory' FROM d;
COMMIT;
EOS
send_numbers($node, 'postgres', 'a', 1, 1);
wait_for_sql($node, 'postgres', 'SELECT count(*) FROM done', 1);
is(sql($node, 'postgres', 'SELECT handler, who FROM done'), 'evil|mallory', 'a row with the number of another definition has its worker call nothing');
end_group('shared');
$mallory->query('DROP TABLE d');

# the schema of a function counts as well, which its number does not need
sql($node, 'postgres', <<'EOS');
CREATE SCHEMA hidden;
CREATE FUNCTION hidden.h(t seq_txn) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO done (handler) VALUES ('hidden'); END $$;
EOS
my $number = sql($node, 'postgres', "SELECT 'hidden.h'::regproc::oid");
$mallory->query("SELECT seq_create_group('hidden', 1)");
like($mallory->error("SELECT seq_handle('hidden', $number)"), qr/^42501: .*\nDETAIL: .*Role "mallory" may not use schema "hidden"/, 'no handler in a schema that its role may not use');
sql($node, 'postgres', 'GRANT USAGE ON SCHEMA hidden TO mallory');
$mallory->query("SELECT seq_handle('hidden', $number)");
wait_state($node, 'postgres', 'hidden', 'running');
sql($node, 'postgres', 'REVOKE USAGE ON SCHEMA hidden FROM mallory');
send_numbers($node, 'postgres', 'a', 1, 1);
wait_for_handlers($node, 'postgres', 0);
is(sql($node, 'postgres', "SELECT state, (SELECT count(*) FROM done), seq_pending('hidden') FROM seq_handlers"), 'stopped|0|1', 'nor any more, once it may not');
sql($node, 'postgres', 'GRANT USAGE ON SCHEMA hidden TO mallory');
wait_done($node, 'postgres', 'hidden', 1);

# nor one that has the function's names by now
sql($node, 'postgres', <<'EOS');
CREATE SCHEMA app;
GRANT CREATE, USAGE ON SCHEMA app TO mallory;
CREATE FUNCTION app.h(t seq_txn) RETURNS void LANGUAGE plpgsql AS 'BEGIN NULL; END';
SELECT seq_create_group('names', 1);
SELECT seq_handle('names', 'app.h(seq_txn)');
DROP FUNCTION app.h(seq_txn);
EOS
$mallory->query("CREATE FUNCTION app.h(t seq_txn) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN INSERT INTO done (handler, who) VALUES ('names', current_user); END \$\$");
send_numbers($node, 'postgres', 'a', 1, 1);
is(sql($node, 'postgres', "SELECT state, last_error FROM seq_handlers WHERE name = 'names'"),
	"stopped|function app.h(public.seq_txn) belongs to role \"mallory\", and did to \"$owner\" when it became the handler", 'nor does a function of somebody else take the place of one that was dropped');
sql($node, 'postgres', "SELECT seq_handle('names', 'app.h(seq_txn)')");
wait_done($node, 'postgres', 'names', 1);
pass('unless one is asked for it');
end_group('names');

# it begins again by itself when the table has its owner back
sql($node, 'postgres', 'CREATE ROLE other; ALTER TABLE seq_handler_definitions OWNER TO other');
wait_for_handlers($node, 'postgres', 0);
sql($node, 'postgres', "ALTER TABLE seq_handler_definitions OWNER TO $owner");
wait_state($node, 'postgres', 'hidden', 'running');
pass('it ends, and begins again, with the owner of the table of definitions');
# and when the database is its own
sql($node, 'postgres', 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC');
wait_for_handlers($node, 'postgres', 0);
sql($node, 'postgres', 'ALTER DATABASE postgres OWNER TO mallory');
wait_state($node, 'postgres', 'hidden', 'running');
pass('or with that of the database, who may connect');
sql($node, 'postgres', "ALTER DATABASE postgres OWNER TO $owner; GRANT CONNECT ON DATABASE postgres TO PUBLIC");
end_group('hidden');

# a worker that cannot connect ends, and nothing else does
$mallory->query("SELECT seq_create_group('late', 1)");
$pauses->arm('handler: claimed');
make_handler($node, 'postgres', 'late', 'rows');
$mallory->query("SELECT seq_handle('late', 'h_late(seq_txn)')");
$pauses->reached('handler: claimed');
sql($node, 'postgres', 'ALTER ROLE mallory NOLOGIN');
$pauses->release('handler: claimed');
wait_state($node, 'postgres', 'late', 'stopped');
sql($node, 'postgres', 'ALTER ROLE mallory LOGIN');
wait_state($node, 'postgres', 'late', 'running');
pass('a role that may not log in any more when its worker connects');
end_group('late');

# what one call does to its role is not for the next one
sql($node, 'postgres', "SELECT seq_create_group('roles', 1)");
handle($node, 'postgres', 'roles', 'rows');
have_trusted('roles');
fault(1, 'sql:SET ROLE mallory');
fault(3, 'sql:SET SESSION AUTHORIZATION mallory');
sql($node, 'postgres', "SELECT seq_send('a', jsonb_build_object('n', n)) FROM generate_series(1, 4) n");
wait_done($node, 'postgres', 'roles', 14);
is(sql($node, 'postgres', 'SELECT count(DISTINCT xid), array_agg(DISTINCT who::text) FROM done WHERE n > 0'), "1|{$owner}", 'in one transaction, each call is as the role');
end_group('roles');

#
# Others' failures
#
sql($node, 'postgres', 'CREATE TABLE early (a int PRIMARY KEY); CREATE TABLE late (a int REFERENCES early DEFERRABLE INITIALLY DEFERRED)');
sql($node, 'postgres', "SELECT seq_create_group('late', 2)");
handle($node, 'postgres', 'late', 'rows', 'max_attempts => 1, batch => 4');
have_trusted('late');
fault(1, 'sql:INSERT INTO late VALUES (1)');
sql($node, 'postgres', q{SELECT seq_send('a', '{"n": 1}'); SELECT seq_send('b', '{"n": 2}')});
wait_for_sql($node, 'postgres', "SELECT seq_pending('late')", 0);
like(parked('late'), qr/^1\|1\|insert or update on table "late" violates foreign key constraint[^\n]*$/, 'what fails at the commit is not taken for the last one called');
is(sql($node, 'postgres', 'SELECT n FROM done WHERE n > 0'), 2, 'which is handled');
end_group('late');

sql($node, 'postgres', 'CREATE SEQUENCE calls');
sql($node, 'postgres', "SELECT seq_create_group('conflicts', 2)");
fault(1, q{sql:DO $x$ BEGIN PERFORM nextval('calls'); RAISE EXCEPTION 'mine' USING ERRCODE = '40001'; END $x$});
sql($node, 'postgres', q{SELECT seq_send('a', '{"n": 1}')});
sql($node, 'postgres', q{SELECT count(seq_send('b', '{"n": 0}')) FROM generate_series(1, 2000)});
handle($node, 'postgres', 'conflicts', 'rows', "max_attempts => 2, batch => 10, backoff => '1 ms'");
wait_for_sql($node, 'postgres', "SELECT seq_pending('conflicts')", 0);
is(parked('conflicts'), '1|2|mine', 'a conflict for ever is parked, whatever works meanwhile');
cmp_ok(sql($node, 'postgres', 'SELECT last_value FROM calls'), '<=', 12, 'after ten that do not count');
end_group('conflicts');

# parked by hand, it takes its attempts along
sql($node, 'postgres', "SELECT seq_create_group('by_hand', 1)");
fault(1, 'first fails');
handle($node, 'postgres', 'by_hand', 'rows', "max_attempts => 2, backoff => '1 minute'");
send_numbers($node, 'postgres', 'a', 1, 3);
wait_for_sql($node, 'postgres', "SELECT retrying FROM seq_handlers", 1);
sql($node, 'postgres', "SELECT seq_park('by_hand', vshard, epoch, position, 'by hand') FROM seq_replay(seq_vshard('a'), 0, seq_last_applied_epoch()) WHERE seq_json(plans) ->> 'n' = '1' AND epoch > seq_last_applied_epoch() - 3 ORDER BY epoch DESC LIMIT 1");
sql($node, 'postgres', "SELECT seq_handle('by_hand', 'h_by_hand(seq_txn)', max_attempts => 1)");
wait_for_sql($node, 'postgres', "SELECT seq_pending('by_hand')", 0);
is(parked('by_hand'), '1|1|by hand', 'what is behind something that was parked by hand has its own attempts');
is(sql($node, 'postgres', "SELECT array_agg(n ORDER BY i) FROM done"), '{2,3}', 'and at once');
end_group('by_hand');

# an attempt that was noted, and not made
sql($node, 'postgres', "SELECT seq_create_group('unmade', 1)");
handle($node, 'postgres', 'unmade', 'rows', 'max_attempts => 1');
$pauses->arm('handler: attempt noted');
send_numbers($node, 'postgres', 'a', 1, 1);
$pauses->reached('handler: attempt noted');
is(sql($node, 'postgres', "SELECT retrying, last_error IS NULL FROM seq_handlers"), '0|t', 'an attempt that is under way has not failed, for seq_handlers');
sql($node, 'postgres', "SELECT seq_handle('unmade', 'h_unmade(seq_txn)', max_attempts => 1)");
$pauses->release('handler: attempt noted');
wait_for_sql($node, 'postgres', "SELECT seq_pending('unmade')", 0);
is(parked('unmade') . sql($node, 'postgres', 'SELECT count(*) FROM done'), '1', 'an attempt that is not made, since the handler is defined anew, does not count');
end_group('unmade');

# nor does one for which there was no function any more
sql($node, 'postgres', "SELECT seq_create_group('unmade', 1)");
handle($node, 'postgres', 'unmade', 'rows', 'max_attempts => 1');
wait_state($node, 'postgres', 'unmade', 'running');
# the first one of it stops in the fetch of the attempt, not in the look before it
$pauses->arm('fetch: positions stored', (handler_pids($node, 'postgres', 'unmade'))[0]);
send_numbers($node, 'postgres', 'a', 1, 1);
$pauses->reached('fetch: positions stored');
sql($node, 'postgres', 'DROP FUNCTION h_unmade(seq_txn)');
$pauses->release('fetch: positions stored');
wait_for_handlers($node, 'postgres', 0);
is(parked('unmade') . sql($node, 'postgres', "SELECT seq_pending('unmade'), state FROM seq_handlers"), '1|stopped', 'a function that is dropped just before the call is no failure of what it was for');
make_handler($node, 'postgres', 'unmade', 'rows');
wait_done($node, 'postgres', 'unmade', 1);
end_group('unmade');

# what fails at its commit is nobody's until that is noted
sql($node, 'postgres', "SELECT seq_create_group('commit', 2)");
fault(1, 'sql:DECLARE held CURSOR WITH HOLD FOR SELECT 1 / (random() * 0)::int');
handle($node, 'postgres', 'commit', 'rows', 'workers => 2, max_attempts => 1');
wait_state($node, 'postgres', 'commit', 'running');
$pauses->arm('handler: failed');
send_numbers($node, 'postgres', 'a', 1, 2);
my $pid = $pauses->reached('handler: failed');
send_numbers($node, 'postgres', 'b', 3, 4);
wait_for_sql($node, 'postgres', "SELECT count(*) FROM done WHERE pid <> $pid AND collection = 'b'", 2);
is(parked('commit') . sql($node, 'postgres', "SELECT count(*) FROM done WHERE collection = 'a'"), '0', 'others leave it alone');
$pauses->release('handler: failed');
wait_for_sql($node, 'postgres', "SELECT seq_pending('commit')", 0);
is(parked('commit'), '1|1|division by zero', 'it is parked with its error');
end_group('commit');

# nor for ever: its worker ends
sql($node, 'postgres', "SELECT seq_create_group('commit', 2)");
fault(1, 'sql:DECLARE held CURSOR WITH HOLD FOR SELECT 1 / (random() * 0)::int');
handle($node, 'postgres', 'commit', 'rows', 'workers => 2, max_attempts => 1');
wait_state($node, 'postgres', 'commit', 'running');
$pauses->arm('handler: failed');
send_numbers($node, 'postgres', 'a', 1, 2);
$pid = $pauses->reached('handler: failed');
sql($node, 'side', "SELECT pg_terminate_backend($pid, 10000)");
$pauses->release('handler: failed');
wait_for_sql($node, 'postgres', "SELECT seq_pending('commit')", 0);
is(parked('commit'), '1|1|the worker that ran the handler ended in it', 'ended before it could note the error, it leaves the attempt');
is(sql($node, 'postgres', 'SELECT failed FROM seq_handlers'), 1, 'which is counted as failed');
end_group('commit');

# and noted in a transaction that cannot conflict with those of calls
sql($node, 'postgres', <<'EOS');
CREATE TABLE noted (attempts int, error text, isolation text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.noted VALUES (NEW.attempts, NEW.error, current_setting('transaction_isolation'));
	RETURN NULL;
END $$;
CREATE TRIGGER note AFTER INSERT ON seq_group_positions FOR EACH ROW EXECUTE FUNCTION note();
ALTER ROLE CURRENT_USER SET default_transaction_isolation = 'serializable';
EOS
sql($node, 'postgres', "SELECT seq_create_group('commit', 2)");
fault(1, 'sql:DECLARE held CURSOR WITH HOLD FOR SELECT 1 / (random() * 0)::int');
handle($node, 'postgres', 'commit', 'rows', 'max_attempts => 1');
send_numbers($node, 'postgres', 'a', 1, 1);
wait_for_sql($node, 'postgres', "SELECT seq_pending('commit')", 0);
is(sql($node, 'postgres', "SELECT DISTINCT attempts, isolation FROM noted WHERE error = 'division by zero'"), '1|read committed', 'the note of a failure is not serializable, whatever the calls are');
end_group('commit');
sql($node, 'postgres', 'DROP TRIGGER note ON seq_group_positions; ALTER ROLE CURRENT_USER RESET default_transaction_isolation');

#
# What a call leaves, and says
#
sql($node, 'postgres', "SELECT seq_create_group('spoilt', 1)");
fault(1, 'sql:SET default_transaction_read_only = on');
handle($node, 'postgres', 'spoilt', 'rows');
send_numbers($node, 'postgres', 'a', 1, 5);
wait_done($node, 'postgres', 'spoilt', 5);
pass('a session in which nothing works any more is given up for another one');
end_group('spoilt');

sql($node, 'postgres', "SELECT seq_create_group('says', 1)");
handle($node, 'postgres', 'says', 'rows', 'max_attempts => 1');
sql($node, 'postgres', q{INSERT INTO faults VALUES (1, 'x' || repeat('é', 20000)), (2, '')});
send_numbers($node, 'postgres', 'a', 1, 1);
wait_for_sql($node, 'postgres', "SELECT count(*) FROM seq_parked", 1);
is(sql($node, 'postgres', "SELECT octet_length(convert_to(last_error, 'LATIN1')) FROM seq_handlers"), 256, 'an error is cut where a character ends');
is(sql($node, 'postgres', "SELECT length(reason) FROM seq_parked"), 4096, 'and not stored without bounds');
send_numbers($node, 'postgres', 'a', 2, 2);
wait_for_sql($node, 'postgres', "SELECT count(*) FROM seq_parked", 2);
is(sql($node, 'postgres', "SELECT reason FROM seq_parked WHERE length(reason) < 100"), 'an error of SQLSTATE P0001 without a message', 'one that says nothing still is a reason');
end_group('says');

# a time that is another clock's
sql($node, 'postgres', "SELECT seq_create_group('clock', 1)");
fault(1, 'once');
handle($node, 'postgres', 'clock', 'rows', "backoff => '1 minute'");
send_numbers($node, 'postgres', 'a', 1, 1);
wait_for_sql($node, 'postgres', "SELECT retrying FROM seq_handlers", 1);
sql($node, 'postgres', "SELECT seq_unhandle('clock')");
wait_for_handlers($node, 'postgres', 0);
sql($node, 'postgres', "DELETE FROM faults; UPDATE seq_group_positions SET retry_at = now() + interval '1 day'");
sql($node, 'postgres', "SELECT seq_handle('clock', 'h_clock(seq_txn)')");
wait_done($node, 'postgres', 'clock', 1);
pass('nothing is put off for longer than a minute, whatever the clock was');
end_group('clock');

#
# Slots
#
sql($node, 'postgres', 'CREATE DATABASE full_one; CREATE DATABASE without');
foreach my $db ('full_one', 'without')
{
	create_extension($node, $db);
	sql($node, $db, "SELECT seq_create_group('g', 1); CREATE FUNCTION h(t seq_txn) RETURNS void LANGUAGE plpgsql AS 'BEGIN NULL; END'");
}
sql($node, 'full_one', "SELECT seq_handle('g', 'h(seq_txn)', workers => 4)");
wait_state($node, 'full_one', 'g', 'running');
sql($node, 'without', "SELECT seq_handle('g', 'h(seq_txn)', workers => 2)");
wait_state($node, 'without', 'g', 'no slot');
sql($node, 'postgres', 'DROP DATABASE full_one');
wait_state($node, 'without', 'g', 'running');
pass('slots of a database that was dropped are for others');

$node->stop;
nothing_crashed($node);
done_testing();
