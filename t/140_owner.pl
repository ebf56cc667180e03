# The owner of the tables, who is nobody else, against a superuser who calls each
# function: nothing of the owner's runs as the superuser, and nothing of it is left in
# his session.  Functions and tables come from the catalogs.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinSubmit;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', 'calvin_seq.snapshot_interval' => 3);
my $db = 'postgres';
my $collection = 'a';
my $vshard = vshard_of($collection);

create_extension($node);
sql($node, $db, <<"END");
CREATE ROLE mallory LOGIN;
CREATE SCHEMA evil AUTHORIZATION mallory;
CREATE SCHEMA boss;
CREATE TABLE boss.secret AS SELECT 'secret' AS s;
CREATE TABLE boss.own (i int);
CREATE TABLE boss.fired (who name);
CREATE FUNCTION boss.fire() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	INSERT INTO boss.fired VALUES (current_user);
	RETURN NULL;
END \$\$;
CREATE CONSTRAINT TRIGGER fire AFTER INSERT ON boss.own DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION boss.fire();
CREATE VIEW boss.members AS
	SELECT classid, objid, pg_describe_object(classid, objid, 0) AS object
	FROM pg_depend WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'calvin_seq');
END

#
# What the owner prepares
#
sql($node, $db, <<'END');
DO $$
DECLARE m record;
BEGIN
	FOR m IN SELECT c.relkind, c.oid::regclass AS name FROM boss.members
		JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid WHERE relkind IN ('r', 'm', 'v', 'S')
	LOOP
		EXECUTE format('ALTER %s %s OWNER TO mallory',
			CASE m.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, m.name);
	END LOOP;
	FOR m IN SELECT p.oid::regprocedure AS name FROM boss.members JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid
		WHERE prorettype <> 'event_trigger'::regtype
	LOOP
		EXECUTE format('ALTER FUNCTION %s OWNER TO mallory', m.name);
	END LOOP;
	-- since 19 the row types of tables are members too
	FOR m IN SELECT objid::regtype AS name FROM boss.members JOIN pg_class ON reltype = objid WHERE classid = 'pg_type'::regclass AND relkind = 'c'
	LOOP
		EXECUTE format('ALTER TYPE %s OWNER TO mallory', m.name);
	END LOOP;
	-- she may make triggers on what was hers when it was made
	GRANT CREATE ON SCHEMA public TO mallory;
END $$;
END

my $mallory = session($node, $db, user => 'mallory');
$mallory->query(<<'END');
SET search_path = evil, public;
-- "forbidden": it must fail.  Otherwise what it does must be undone.
CREATE TABLE attempts (command text PRIMARY KEY, forbidden boolean);
INSERT INTO attempts VALUES
	('ALTER ROLE mallory SUPERUSER', true),
	('GRANT pg_execute_server_program TO mallory', true),
	('SELECT s FROM boss.secret', true),
	('SET ROLE NONE', true),
	('RESET SESSION AUTHORIZATION', true),
	('SELECT set_config(''role'', ''none'', false)', true),
	('CREATE TEMP TABLE left_behind (i int)', true),
	('CREATE TEMP VIEW left_behind AS SELECT 1', true),
	('CREATE TEMP SEQUENCE left_behind', true),
	('SELECT 1 AS i INTO TEMP left_behind', true),
	('CREATE TYPE pg_temp.left_behind AS (i int)', true),
	('CREATE TYPE pg_temp.left_behind AS ENUM (''a'')', true),
	('CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (evil.attack(''domain''))', true),
	('CREATE FUNCTION pg_temp.left_behind() RETURNS int LANGUAGE sql AS ''SELECT 1''', true),
	('CREATE OPERATOR pg_temp.= (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq)', true),
	('DO ''BEGIN CREATE DOMAIN pg_temp.int4 AS pg_catalog.int4; END''', true),
	('PREPARE left_behind AS SELECT 1', true),
	('EXECUTE boss_statement', true),
	('DEALLOCATE ALL', true),
	('DECLARE left_behind CURSOR WITH HOLD FOR SELECT 1', true),
	('DECLARE left_behind CURSOR FOR SELECT 1', true),
	('FETCH ALL FROM boss_cursor', true),
	('MOVE ALL FROM boss_cursor', true),
	('CLOSE ALL', true),
	('SELECT cursor_to_xml(''boss_cursor'', 1, false, true, '''')', true),
	('LISTEN left_behind', true),
	('UNLISTEN *', true),
	('DISCARD TEMP', true),
	('DISCARD ALL', true),
	('SET CONSTRAINTS ALL IMMEDIATE', true),
	('SET CONSTRAINTS boss.fire IMMEDIATE', true),
	('SET CONSTRAINTS ALL DEFERRED', true),
	('SELECT pg_advisory_lock(42)', true),
	('SELECT pg_advisory_lock_shared(4, 2)', true),
	('SELECT pg_try_advisory_lock(42)', true),
	('SELECT pg_advisory_unlock(7)', true),
	('SELECT pg_advisory_unlock_all()', true),
	('COMMIT', true),
	('ROLLBACK TO boss_savepoint', true),
	('CREATE TABLE evil.left_behind ()', true),
	('CREATE OR REPLACE FUNCTION public.seq_json(plans bytea) RETURNS jsonb LANGUAGE sql AS ''SELECT NULL''', true),
	('SELECT set_config(''search_path'', ''evil'', false)', false),
	('SELECT set_config(''evil.left_behind'', ''1'', false)', false),
	('SET statement_timeout = ''1h''', false),
	('SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY', false),
	('SET synchronous_commit = off', false),
	('SET lock_timeout = ''1h''', false);
CREATE TABLE journal (place text, attempt text, outcome text, who name);
CREATE TABLE deferred (place text);

CREATE FUNCTION note(place text, attempt text, outcome text) RETURNS void LANGUAGE sql AS
	$$ INSERT INTO evil.journal VALUES (place, attempt, outcome, current_user) $$;
CREATE FUNCTION try(place text, command text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		EXECUTE command;
		PERFORM evil.note(place, command, 'done');
	EXCEPTION WHEN OTHERS THEN
		PERFORM evil.note(place, command, SQLSTATE);
	END;
END $$;
-- What PL/pgSQL does with cursors by their names, without a command.
CREATE FUNCTION look(place text, name text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	c refcursor := name;
	s text;
BEGIN
	BEGIN
		FETCH c INTO s;
		PERFORM evil.note(place, 'FETCH in PL/pgSQL', 'done');
	EXCEPTION WHEN OTHERS THEN
		PERFORM evil.note(place, 'FETCH in PL/pgSQL', SQLSTATE);
	END;
	BEGIN
		CLOSE c;
		PERFORM evil.note(place, 'CLOSE in PL/pgSQL', 'done');
	EXCEPTION WHEN OTHERS THEN
		PERFORM evil.note(place, 'CLOSE in PL/pgSQL', SQLSTATE);
	END;
	BEGIN
		OPEN c FOR SELECT evil.attack('a cursor of the owner');
		PERFORM evil.note(place, 'OPEN in PL/pgSQL', 'done');
	EXCEPTION WHEN OTHERS THEN
		PERFORM evil.note(place, 'OPEN in PL/pgSQL', SQLSTATE);
	END;
END $$;
-- and cursors of names that may be wanted later, left open
CREATE FUNCTION leave_open() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	c refcursor := 'left_behind';
	d refcursor;
BEGIN
	BEGIN
		OPEN c FOR SELECT evil.attack('a cursor of the owner');
	EXCEPTION WHEN duplicate_cursor THEN
		NULL;
	END;
	OPEN d FOR EXECUTE 'EXPLAIN ANALYZE SELECT evil.attack(''a cursor of the owner'')';
END $$;
CREATE FUNCTION attack(place text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evil.note(place, 'runs', (SELECT rolsuper::text FROM pg_catalog.pg_roles WHERE rolname = current_user));
	INSERT INTO evil.deferred VALUES (place);
	PERFORM evil.try(place, command) FROM evil.attempts
		WHERE command !~ 'boss_cursor' OR EXISTS (SELECT FROM pg_cursors WHERE name = 'boss_cursor');
	-- not in a worker
	IF EXISTS (SELECT FROM pg_cursors WHERE name = 'boss_cursor') THEN
		PERFORM evil.look(place, 'boss_cursor'), evil.look(place, 'boss_held');
	END IF;
	PERFORM evil.leave_open();
	RETURN true;
END $$;
-- Where an index or a generated column wants an immutable function.
CREATE FUNCTION quiet(place text, value text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	PERFORM evil.attack(place);
	RETURN true;
END $$;
CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evil.note(NEW.place, 'deferred trigger', 'fires');
	PERFORM evil.try(NEW.place || ', deferred', command) FROM evil.attempts
		WHERE command ~ 'ALTER ROLE|GRANT|secret';
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION later();
CREATE TABLE parent (i int PRIMARY KEY);
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evil.attack(TG_TABLE_NAME || ' ' || TG_WHEN || ' ' || TG_OP || ' ' || TG_LEVEL);
	RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
END

# All that can be attached to a table, to each that is the extension's; some of it may be refused.
my @tables = split /\n/, sql($node, $db,
	"SELECT c.oid::regclass FROM boss.members JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid WHERE relkind = 'r' ORDER BY 1");
foreach my $table (@tables)
{
	my $column = sql($node, $db, "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = '$table'::regclass AND attnum = 1");

	foreach my $when ('BEFORE', 'AFTER')
	{
		foreach my $op ('INSERT', 'UPDATE', 'DELETE')
		{
			foreach my $level ('ROW', 'STATEMENT')
			{
				$mallory->query("CREATE TRIGGER zz_\L${when}_${op}_${level}\E $when $op ON $table FOR EACH $level EXECUTE FUNCTION evil.fire()");
			}
		}
	}
	$mallory->query("ALTER TABLE $table ADD CHECK (evil.attack('$table check'))");
	$mallory->query("CREATE INDEX ON $table (evil.quiet('$table index', $column\::text))");
	$mallory->error("ALTER TABLE $table ADD generated boolean GENERATED ALWAYS AS (evil.quiet('$table generated', $column\::text)) STORED");
	$mallory->error("ALTER TABLE $table ADD refers int DEFAULT 1 REFERENCES evil.parent DEFERRABLE INITIALLY DEFERRED");
	$mallory->query("CREATE POLICY p ON $table USING (evil.attack('$table policy')) WITH CHECK (evil.attack('$table policy'))");
	$mallory->query("ALTER TABLE $table ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY");
	like($mallory->error("CREATE RULE r AS ON INSERT TO $table DO ALSO SELECT evil.attack('rule')"), qr/^55000: /, "no rules on $table");
	like($mallory->error("CREATE CONSTRAINT TRIGGER d AFTER INSERT ON $table DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION evil.fire()"),
		qr/^55000: /, "no deferrable trigger on $table");
}
$mallory->query('TRUNCATE journal');
cmp_ok(scalar @tables, '>=', 5, 'there are tables');

#
# What the superuser does
#
my $boss = session($node, $db);
my $state = <<'END';
SELECT string_agg(x, E'\n' ORDER BY x COLLATE "C") FROM (
	SELECT 'statement ' || name FROM pg_prepared_statements
	UNION ALL SELECT 'cursor ' || name || is_holdable FROM pg_cursors WHERE name <> ''
	UNION ALL SELECT 'listens to ' || c FROM pg_listening_channels() c
	UNION ALL SELECT 'setting ' || name || ' ' || coalesce(setting, '') FROM pg_settings
	UNION ALL SELECT 'relation ' || relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()
	UNION ALL SELECT 'type ' || typname FROM pg_type WHERE typnamespace = pg_my_temp_schema()
	UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = pg_my_temp_schema()
	UNION ALL SELECT 'operator ' || oprname FROM pg_operator WHERE oprnamespace = pg_my_temp_schema()
	UNION ALL SELECT 'lock ' || objid || mode FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
	UNION ALL SELECT 'user ' || current_user || session_user
	UNION ALL SELECT 'fired ' || count(*) || ' ' || count(DISTINCT who) FROM boss.fired) x (x)
END
# What a state of the session has that another lacks, and the other way round.
sub changed
{
	my ($before, $after) = @_;
	my %before = map { $_ => 1 } split /\n/, $before;
	my %after = map { $_ => 1 } split /\n/, $after;

	return join("\n", (map { "gone: $_" } grep { !$after{$_} } sort keys %before), (map { "new: $_" } grep { !$before{$_} } sort keys %after));
}

# with the languages loaded, whose settings come with them
$boss->query("DO 'BEGIN END'");
$boss->query('CREATE TEMP TABLE mine (i int); PREPARE boss_statement AS SELECT 1; SELECT pg_advisory_lock(7); LISTEN boss; DECLARE boss_held SCROLL CURSOR WITH HOLD FOR SELECT s FROM boss.secret');

# How functions are called, in this order: those that need something after those that make it.
# All others are called with arguments made up by their types.
my $batch = sub { my ($n) = @_; return "seq_append_json('{\"EpochBatch\": {\"txns\": [" . join(', ', ("{\"tx_class\": {\"write_set\": [{\"Document\": {\"collection\": \"$collection\"}}], \"plans\": \"\\\\xab\"}}") x $n) . "]}}')" };
my @calls = (
	['seq_append', "seq_append('')"],
	['seq_append_json', $batch->(1)],
	['seq_append_json', $batch->(2)],
	['seq_append_json', $batch->(1)],
	['seq_ack', "seq_ack(0, 0, $vshard)"],
	['seq_send', "seq_send('$collection', '1')"],
	['seq_send_bytes', "seq_send_bytes('$collection', 'x')"],
	['seq_submit', "seq_submit('{\"write_set\": [{\"Document\": {\"collection\": \"$collection\"}}], \"plans\": \"\\\\xab\"}')"],
	['seq_submit_encoded', "seq_submit_encoded('\\x95909192a8446f63756d656e7492a16190c40000c0')"],
	['seq_subscribe', "seq_subscribe('{$vshard}', from_epoch => 0)"],
	['seq_receive', "(SELECT count(*) FROM seq_receive(1))"],
	['seq_commit', 'seq_commit()'],
	['seq_receive', "(SELECT count(*) FROM seq_receive(100))"],
	['seq_commit', 'seq_commit()'],
	# a cursor that a truncation moves along
	['seq_subscribe', "seq_subscribe('{" . (($vshard + 1) % 1024) . "}', 'other', from_epoch => 0)"],
	['seq_commit', "seq_commit('other')"],
	['seq_unsubscribe', "seq_unsubscribe(name => 'other')"],
	['seq_snapshot', 'seq_snapshot()'],
	['seq_truncate', 'seq_truncate(2)'],
	['seq_truncate', 'seq_truncate(2, true)'],
	['seq_drop_cursor', "seq_drop_cursor('default')"],
	['seq_unsubscribe', 'seq_unsubscribe()'],
	['seq_replay', "(SELECT count(*) FROM seq_replay($vshard, 0, 100))"]);
my %known = map { $_->[0] => 1 } @calls;
my $made_up = <<'END';
SELECT p.proname, format('%I.%I(%s)', nspname, proname, (
	SELECT string_agg(format('%L::%s', CASE t::regtype::text WHEN 'bytea' THEN '' WHEN 'jsonb' THEN 'null' WHEN 'integer[]' THEN '{1}'
		WHEN 'interval' THEN '0' WHEN 'text' THEN 'default' WHEN 'boolean' THEN 'f' ELSE '0' END, t::regtype), ', ' ORDER BY n)
	FROM unnest(proargtypes::oid[]) WITH ORDINALITY AS a(t, n) WHERE n <= pronargs - pronargdefaults))
FROM boss.members JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid
JOIN pg_namespace n ON n.oid = pronamespace ORDER BY 1
END
foreach my $row (split /\n/, sql($node, $db, $made_up))
{
	my ($name, $call) = split /\|/, $row, 2;

	push @calls, [ $name, $call ] unless $known{$name};
}
foreach my $view (split /\n/, sql($node, $db, "SELECT c.oid::regclass FROM boss.members JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid WHERE relkind IN ('v', 'S')"))
{
	push @calls, [ $view, "(SELECT count(*) FROM $view)" ];
}
cmp_ok(scalar @calls, '>=', 50, 'there are functions');

my ($worked, $fired) = (0, 0);
foreach my $call (@calls)
{
	my ($name, $expression) = @$call;
	my ($before, $error);

	$boss->query("BEGIN; DECLARE boss_cursor CURSOR FOR SELECT s FROM boss.secret; INSERT INTO boss.own VALUES (1); SAVEPOINT boss_savepoint");
	$before = $boss->query($state);
	$error = $boss->error("SELECT $expression");
	if ($error eq '') { $worked++ }
	else { note("$expression: $error"); $boss->query('ROLLBACK TO boss_savepoint') }
	is(changed($before, $boss->query($state)), '', "$name: nothing is left");
	is($boss->query('FETCH ALL FROM boss_cursor; FETCH ALL FROM boss_held'), "secret\nsecret", "$name: the caller's cursors are where they were");
	$boss->query('MOVE BACKWARD ALL FROM boss_held');
	$boss->query('COMMIT');
	$fired++;
	$before =~ s/^cursor boss_cursor.*\n//m;
	$before =~ s/^fired .*$/'fired ' . $fired . ' 1'/me;
	is(changed($before, $boss->query($state)), '', "$name: nor after the commit");
	# one that follows another takes nothing that is sent
	sql($node, $db, 'SELECT seq_unfollow()') if $name =~ /^seq_follow(?:_replication)?$/ && $error eq '';
	wait_applied($node, $db) if $name =~ /^seq_(?:append|ack|sen|submit)/;
	wait_sequenced($node, $db) if $name =~ /^seq_(?:sen|submit)/;
}
is(sql($node, $db, 'SELECT count(*), bool_and(who = (SELECT usename FROM pg_user WHERE usesysid = 10)) FROM boss.fired'),
	"$fired|t", 'what the caller had deferred fired at his commits, as himself');
$boss->query('RESET ALL');
is($boss->query("SELECT 'x'::text, 1::int4"), 'x|1', 'names of types mean what they did');

#
# What became of it
#
my @functions = map { $_->[0] } @calls;
cmp_ok($worked, '>=', 25, 'most of the calls worked');
note(sql($node, $db, 'SELECT place, count(*) FROM evil.journal GROUP BY 1 ORDER BY 1'));
is(sql($node, $db, "SELECT DISTINCT who FROM evil.journal"), 'mallory', 'all of it ran as the owner');
is(sql($node, $db, "SELECT DISTINCT outcome FROM evil.journal WHERE attempt = 'runs'"), 'false', 'who is no superuser');
is(sql($node, $db, "SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'"), 'f', 'nor has become one');
is(sql($node, $db, "SELECT count(*) FROM pg_auth_members WHERE member = 'mallory'::regrole"), 0, 'nor a member of another role');
is(sql($node, $db, "SELECT DISTINCT command FROM evil.attempts JOIN evil.journal ON attempt = command WHERE forbidden AND outcome = 'done'"),
	'', 'nothing that is forbidden was done');
is(sql($node, $db, "SELECT string_agg(DISTINCT attempt, ', ') FROM evil.journal WHERE attempt ~ 'PL/pgSQL' AND outcome IN ('55000', '24000')"),
	'CLOSE in PL/pgSQL, FETCH in PL/pgSQL', 'cursors of the caller were neither read nor closed');
is(sql($node, $db, "SELECT count(*) FROM evil.journal WHERE attempt ~ 'PL/pgSQL' AND outcome = 'done'"), 0, 'nor others opened in their place');
is(sql($node, $db, "SELECT command FROM evil.attempts WHERE NOT EXISTS (SELECT FROM evil.journal WHERE attempt = command)"), '', 'all was tried');
is(sql($node, $db, "SELECT command FROM evil.attempts WHERE NOT forbidden AND NOT EXISTS (SELECT FROM evil.journal WHERE attempt = command AND outcome = 'done')"),
	'', 'and what is taken back was done');
is(sql($node, $db, "SELECT count(*) > 0, count(*) = (SELECT count(*) FROM evil.deferred) FROM evil.journal WHERE attempt = 'deferred trigger'"),
	't|t', 'deferred triggers fired, each once');
is(sql($node, $db, "SELECT string_agg(DISTINCT split_part(place, ' ', 1), ' ') FROM evil.journal"),
	'seq_cursor_positions seq_following seq_group_positions seq_identity seq_log seq_registrations seq_snapshots', 'whatever the tables were written to for');
is(sql($node, $db, "SELECT string_agg(DISTINCT place, ', ') FROM evil.journal WHERE place ~ '^seq_cursor_positions (BEFORE|AFTER) (INSERT|UPDATE|DELETE) ROW\\Z|^seq_log (BEFORE|AFTER) INSERT ROW\\Z'"),
	'seq_cursor_positions AFTER DELETE ROW, seq_cursor_positions AFTER INSERT ROW, seq_cursor_positions AFTER UPDATE ROW, '
	  . 'seq_cursor_positions BEFORE DELETE ROW, seq_cursor_positions BEFORE INSERT ROW, seq_cursor_positions BEFORE UPDATE ROW, '
	  . 'seq_log AFTER INSERT ROW, seq_log BEFORE INSERT ROW', 'triggers of all kinds have fired');
is(sql($node, $db, "SELECT state FROM seq_sequencer"), 'running', 'the sequencer, where it ran too, is at work');
is(sql($node, $db, "SELECT last_error FROM seq_sequencer"), '', 'and has met no error');

# What would keep its own notes from being written.
$mallory->query(<<'END');
CREATE FUNCTION read_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	SET TRANSACTION READ ONLY;
	RETURN NULL;
END $$;
CREATE TRIGGER zzz AFTER INSERT ON public.seq_log FOR EACH STATEMENT EXECUTE FUNCTION read_only();
END
$boss->query("BEGIN; SELECT seq_append('')");
is($boss->query('SHOW transaction_read_only'), 'off', 'the transaction goes on writing');
$boss->query('INSERT INTO boss.secret VALUES (1); ROLLBACK');
$mallory->query('DROP TRIGGER zzz ON public.seq_log');

# What was opened is closed, and what was the caller's is his again, also after errors.
$mallory->query(<<'END');
CREATE FUNCTION half() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evil.leave_open();
	RAISE 'failed';
END $$;
CREATE TRIGGER zzz AFTER INSERT ON public.seq_log FOR EACH ROW EXECUTE FUNCTION half();
END
$boss->query('BEGIN; DECLARE before CURSOR FOR SELECT generate_series(1, 3); SAVEPOINT s; DECLARE inside CURSOR FOR SELECT 1');
is($boss->query('FETCH before'), 1, 'a cursor');
like($boss->error("SELECT seq_append('')"), qr/^P0001: failed/, 'an error within');
$boss->query('ROLLBACK TO s');
is($boss->query('SELECT string_agg(name, \' \' ORDER BY name) FROM pg_cursors'), 'before boss_held', 'what the savepoint had is gone');
$boss->query('COMMIT');
$boss->query('BEGIN; DECLARE before CURSOR FOR SELECT generate_series(1, 3); FETCH before; SAVEPOINT s');
like($boss->error("SELECT seq_append('')"), qr/^P0001: failed/, 'an error within');
$boss->query('ROLLBACK TO s');
is($boss->query('FETCH before; CLOSE before'), 2, 'a cursor of before the savepoint goes on');
$boss->query('DECLARE before CURSOR FOR SELECT 1');
like($boss->error("SELECT seq_append('')"), qr/^P0001: failed/, 'an error of the transaction');
$boss->query('ROLLBACK');
is($boss->query('SELECT string_agg(name, \' \') FROM pg_cursors'), 'boss_held', 'which ends its cursors');
is($boss->query('FETCH ALL FROM boss_held; CLOSE boss_held'), 'secret', 'but for those that are held');
$mallory->query('DROP TRIGGER zzz ON public.seq_log');

# An error that the caller catches ends what was restricted.
$mallory->query(<<'END');
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'failed'; END $$;
CREATE TRIGGER zzz AFTER INSERT ON public.seq_log FOR EACH ROW EXECUTE FUNCTION fail();
END
$boss->query('BEGIN; SAVEPOINT s');
like($boss->error("SELECT seq_append('')"), qr/^P0001: failed/, 'an error of the owner is the caller\'s');
$boss->query('ROLLBACK TO s');
is($boss->query('SELECT current_user = session_user; CREATE TEMP TABLE allowed (); PREPARE allowed AS SELECT 1; SELECT pg_advisory_lock(8); SHOW search_path'),
	"t\n\n\"\$user\", public", 'after which he may do what he may');
$boss->query('COMMIT');
$boss->query("DO \$\$ BEGIN PERFORM seq_append(''); EXCEPTION WHEN OTHERS THEN CREATE TEMP TABLE caught (); END \$\$");
is($boss->query('TABLE caught'), '', 'also where a function catches it');
$mallory->query('DROP TRIGGER zzz ON public.seq_log');

$mallory->quit;
$boss->quit;
nothing_crashed($node);
done_testing();
