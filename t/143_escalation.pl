# The straight way to become a superuser: an ordinary trigger on the log, or on the
# cursors, that writes to a table with a deferred one; a superuser appends, or commits.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $db = 'postgres';
my $vshard = vshard_of('a');

create_extension($node);
sql($node, $db, <<'END');
CREATE ROLE mallory LOGIN;
CREATE SCHEMA evil AUTHORIZATION mallory;
ALTER TABLE seq_log OWNER TO mallory;
ALTER TABLE seq_cursor_positions OWNER TO mallory;
GRANT EXECUTE ON FUNCTION seq_log_ack_position(bytea) TO mallory;
SET SESSION AUTHORIZATION mallory;
CREATE TABLE evil.fired (who name);
CREATE TABLE evil.deferred (i int);
CREATE FUNCTION evil.later() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO evil.fired VALUES (current_user);
	IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
		ALTER ROLE mallory SUPERUSER;
	END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON evil.deferred DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION evil.later();
CREATE FUNCTION evil.leave() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'PREPARE left_behind AS SELECT 1';
EXCEPTION WHEN OTHERS THEN
	NULL;
END $$;
CREATE FUNCTION evil.leave_table() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	CREATE TEMP TABLE left_behind (i int);
EXCEPTION WHEN OTHERS THEN
	NULL;
END $$;
CREATE FUNCTION evil.leave_type() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	CREATE DOMAIN pg_temp.text AS pg_catalog.text;
EXCEPTION WHEN OTHERS THEN
	NULL;
END $$;
CREATE FUNCTION evil.fire() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO evil.deferred VALUES (1);
	PERFORM evil.leave(), evil.leave_table(), evil.leave_type();
	RETURN NULL;
END $$;
CREATE TRIGGER fire AFTER INSERT ON seq_log FOR EACH ROW EXECUTE FUNCTION evil.fire();
CREATE TRIGGER fire AFTER INSERT ON seq_cursor_positions FOR EACH ROW EXECUTE FUNCTION evil.fire();
END

my $boss = session($node, $db);

sub nothing_came_of_it
{
	my ($desc) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(sql($node, $db, 'SELECT DISTINCT who FROM evil.fired'), 'mallory', "$desc: the deferred trigger has fired as the owner");
	is(sql($node, $db, "SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'"), 'f', "$desc: who is no superuser");
	is($boss->query("SELECT name FROM pg_prepared_statements UNION ALL SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema() UNION ALL SELECT typname FROM pg_type WHERE typnamespace = pg_my_temp_schema()"),
		'', "$desc: nothing is left in the session");
	sql($node, $db, 'TRUNCATE evil.fired; ALTER ROLE mallory NOSUPERUSER');
	$boss->query('DISCARD TEMP; DEALLOCATE ALL');
	return;
}

$boss->query("SELECT seq_subscribe('{$vshard}', from_epoch => 0)");
foreach my $call (
	"seq_append('')",
	'seq_append_json(\'{"EpochBatch": {"txns": [{"tx_class": {"write_set": [{"Document": {"collection": "a"}}], "plans": "\\\\xab"}}]}}\')',
	"seq_ack(0, 0, $vshard)")
{
	$boss->query("SELECT $call");
	nothing_came_of_it($call =~ s/\(.*//r);
}
wait_applied($node, $db);
is($boss->query('SELECT count(*) FROM seq_receive()'), 1, 'something to commit');
$boss->query('SELECT seq_commit()');
nothing_came_of_it('seq_commit');

$boss->quit;
nothing_crashed($node);
done_testing();
