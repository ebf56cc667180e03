# What a command may do with what is the extension's, member by member as the catalogs
# have them, by a superuser: all that is not listed as allowed is refused and changes
# nothing.  And commands on what is not the extension's never fail because of it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', allow_in_place_tablespaces => 'on');
my $db = 'postgres';

create_extension($node);
sql($node, $db, <<'END');
CREATE TABLESPACE aside LOCATION '';
CREATE SCHEMA other;
CREATE SCHEMA leftovers;
CREATE ROLE somebody;
CREATE FUNCTION other.fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE VIEW other.members AS
	SELECT classid, objid, pg_describe_object(classid, objid, 0) AS object
	FROM pg_depend WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'calvin_seq');
CREATE VIEW other.relations AS
	SELECT c.*, c.oid::regclass AS name FROM other.members JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid;
-- All that a command could change of the members and their parts.
CREATE FUNCTION other.rows(catalog regclass, cond text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
	EXECUTE format('SELECT string_agg(t::text, E''\n'' ORDER BY t::text) FROM %s t WHERE %s', catalog, cond) INTO result;
	RETURN result;
END $$;
CREATE FUNCTION other.state() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(other.rows(catalog, replace(cond, '%', '(SELECT oid FROM other.relations)')), E'\n')
	FROM (VALUES ('pg_attribute', 'attrelid IN %'), ('pg_index', 'indrelid IN %'), ('pg_constraint', 'conrelid IN % OR confrelid IN %'),
		('pg_trigger', 'tgrelid IN % AND NOT tgisinternal'), ('pg_rewrite', 'ev_class IN %'), ('pg_attrdef', 'adrelid IN %'),
		('pg_inherits', 'inhrelid IN % OR inhparent IN %'), ('pg_sequence', 'seqrelid IN %'),
		('pg_proc', 'oid IN (SELECT objid FROM other.members WHERE classid = ''pg_proc''::regclass)'),
		('pg_attribute', 'attrelid IN (SELECT typrelid FROM pg_type JOIN other.members ON classid = ''pg_type''::regclass AND objid = pg_type.oid)'),
		('pg_type', 'oid IN (SELECT objid FROM other.members WHERE classid = ''pg_type''::regclass)')) x (catalog, cond)
$$;
CREATE FUNCTION other.state_of_relations() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', oid, relname, relkind, relnamespace, relowner, relpersistence, relam, relispopulated, relrowsecurity, relnatts), E'\n' ORDER BY oid)
	FROM pg_class WHERE oid IN (SELECT oid FROM other.relations UNION SELECT typrelid FROM pg_type JOIN other.members ON classid = 'pg_type'::regclass AND objid = pg_type.oid)
$$;
END

my $s = session($node, $db);
my $state = 'SELECT other.state() || other.state_of_relations() || (SELECT string_agg(object, E\'\n\' ORDER BY object) FROM other.members)';
my $is = $s->query($state);

# Each of a list of commands is refused, with one of these codes, and nothing has changed.
sub refused
{
	my ($desc, $codes, @commands) = @_;
	my @wrong;

	foreach my $command (@commands)
	{
		my $error = $s->error($command);

		push @wrong, "$command: " . ($error =~ s/\n.*//sr) unless $error =~ /^(?:$codes): /;
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(join("\n", @wrong), '', "$desc: refused, " . @commands . ' commands');
	return is(changed($is, $s->query($state)), '', "$desc: nothing has changed");
}

sub changed
{
	my ($before, $after) = @_;
	my %before = map { $_ => 1 } split /\n/, $before;
	my %after = map { $_ => 1 } split /\n/, $after;

	return join("\n", (map { "gone: $_" } grep { !$after{$_} } sort keys %before), (map { "new: $_" } grep { !$before{$_} } sort keys %after));
}

# Each of a list of commands works, in a transaction that is rolled back.
sub allowed
{
	my ($desc, @commands) = @_;
	my @wrong;

	foreach my $command (@commands)
	{
		my $error = $command =~ /CONCURRENTLY|VACUUM/ ? $s->error($command) : $s->error("BEGIN; $command");

		push @wrong, "$command: " . ($error =~ s/\n.*//sr) if $error ne '';
		$s->query('ROLLBACK') unless $command =~ /CONCURRENTLY|VACUUM/;
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(join("\n", @wrong), '', "$desc: allowed, " . @commands . ' commands');
}

sub rows
{
	return split /\n/, $s->query($_[0]);
}

# For each row that a query returns, the commands with its columns for $1, $2 ...
sub each_of
{
	my ($query, @templates) = @_;
	my @commands;

	foreach my $row (rows($query))
	{
		my @columns = split /\|/, $row, -1;

		push @commands, map { s/\$(\d)/$columns[$1 - 1]/gr } @templates;
	}
	die "nothing found by $query" unless @commands;
	return @commands;
}

my $tables = "SELECT name, relname FROM other.relations WHERE relkind = 'r' ORDER BY relname";
my $columns = "SELECT name, quote_ident(attname), format_type(atttypid, NULL) FROM other.relations r JOIN pg_attribute a ON attrelid = r.oid WHERE relkind = 'r' AND attnum > 0 ORDER BY relname, attnum";
my $refused = '55000|2BP01';

#
# Tables and their parts
#
refused('tables', $refused,
	each_of($tables,
		'ALTER TABLE $1 SET UNLOGGED', 'ALTER TABLE $1 SET SCHEMA other', 'ALTER TABLE $1 RENAME TO renamed',
		'DROP TABLE $1', 'DROP TABLE $1 CASCADE',
		'CREATE RULE r AS ON INSERT TO $1 DO ALSO SELECT 1', 'CREATE RULE r AS ON UPDATE TO $1 DO INSTEAD NOTHING',
		'CREATE OR REPLACE RULE r AS ON DELETE TO $1 DO INSTEAD NOTHING',
		'CREATE CONSTRAINT TRIGGER t AFTER INSERT ON $1 DEFERRABLE FOR EACH ROW EXECUTE FUNCTION other.fire()',
		'CREATE CONSTRAINT TRIGGER t AFTER INSERT ON $1 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION other.fire()',
		'ALTER TABLE $1 DISABLE TRIGGER ALL, ADD CHECK (false) NOT VALID, SET UNLOGGED',
		'CREATE TABLE other.child () INHERITS ($1)', 'CREATE UNLOGGED TABLE other.child () INHERITS ($1)',
		'CREATE TEMP TABLE child () INHERITS ($1)', 'CREATE TABLE leftovers.child_$2 (LIKE $1 INCLUDING CONSTRAINTS); ALTER TABLE leftovers.child_$2 INHERIT $1',
		'CREATE SCHEMA further CREATE TABLE child () INHERITS (public.$2)',
		'CREATE TABLE leftovers.parent_$2 (LIKE $1); ALTER TABLE $1 INHERIT leftovers.parent_$2'));
refused('tables as partitions', $refused,
	each_of($columns =~ s/ORDER BY/AND attnum = 1 ORDER BY/r,
		'CREATE TABLE leftovers.$1 (LIKE $1) PARTITION BY HASH ($2); ALTER TABLE leftovers.$1 ATTACH PARTITION $1 FOR VALUES WITH (MODULUS 1, REMAINDER 0)'));
refused('triggers', $refused,
	each_of($tables =~ s/ORDER BY/AND EXISTS (SELECT FROM pg_trigger JOIN other.members ON objid = pg_trigger.oid WHERE tgrelid = relations.oid) ORDER BY/r,
		'ALTER TABLE $1 DISABLE TRIGGER ALL', 'ALTER TABLE $1 DISABLE TRIGGER USER',
		'ALTER TABLE $1 ENABLE TRIGGER ALL', 'ALTER TABLE $1 ENABLE TRIGGER USER'),
	each_of("SELECT name, tgname, proname FROM other.relations r JOIN pg_trigger t ON tgrelid = r.oid JOIN pg_proc p ON p.oid = tgfoid WHERE NOT tgisinternal ORDER BY 1, 2",
		'DROP TRIGGER $2 ON $1', 'DROP TRIGGER $2 ON $1 CASCADE', 'ALTER TRIGGER $2 ON $1 RENAME TO renamed', 'ALTER TRIGGER $2 ON $1 DEPENDS ON EXTENSION plpgsql',
		'ALTER TABLE $1 DISABLE TRIGGER $2', 'ALTER TABLE $1 ENABLE TRIGGER $2', 'ALTER TABLE $1 ENABLE REPLICA TRIGGER $2',
		'CREATE OR REPLACE TRIGGER $2 BEFORE INSERT ON $1 FOR EACH ROW EXECUTE FUNCTION other.fire()',
		'CREATE OR REPLACE TRIGGER $2 BEFORE INSERT ON $1 FOR EACH ROW WHEN (false) EXECUTE FUNCTION $3()'));
# the server itself has its say about primary keys, and about what would be dropped with a column
refused('columns', "$refused|42P16|55006",
	each_of($columns,
		'ALTER TABLE $1 RENAME COLUMN $2 TO renamed', 'ALTER TABLE $1 DROP COLUMN $2', 'ALTER TABLE $1 DROP COLUMN $2 CASCADE',
		'ALTER TABLE $1 ALTER COLUMN $2 SET DEFAULT NULL', 'ALTER TABLE $1 ALTER COLUMN $2 DROP DEFAULT',
		'ALTER TABLE $1 ALTER COLUMN $2 SET NOT NULL, ALTER COLUMN $2 DROP NOT NULL'));
refused('types of columns', '55000|2BP01|42804|22P02|0A000|42846|42883|42846|22003',
	each_of($columns, 'ALTER TABLE $1 ALTER COLUMN $2 TYPE varchar(30)', 'ALTER TABLE $1 ALTER COLUMN $2 TYPE bytea USING NULL'));
refused('indexes', $refused,
	each_of("SELECT i.indexrelid::regclass FROM other.relations r JOIN pg_index i ON i.indrelid = r.oid ORDER BY 1",
		'DROP INDEX $1', 'DROP INDEX $1 CASCADE', 'ALTER INDEX $1 RENAME TO renamed', 'ALTER TABLE $1 RENAME TO renamed',
		'ALTER INDEX $1 DEPENDS ON EXTENSION plpgsql'));
# since 18 NOT NULL is one, of which the server says itself that a primary key needs it
refused('constraints', "$refused|42P16",
	each_of("SELECT name, conname FROM other.relations r JOIN pg_constraint ON conrelid = r.oid ORDER BY 1, 2",
		'ALTER TABLE $1 DROP CONSTRAINT $2', 'ALTER TABLE $1 DROP CONSTRAINT $2 CASCADE', 'ALTER TABLE $1 RENAME CONSTRAINT $2 TO renamed'));
refused('foreign keys to tables', '55000|42830',
	each_of("SELECT name, string_agg(quote_ident(attname), ', '), string_agg('c' || attnum || ' ' || format_type(atttypid, NULL), ', '), string_agg('c' || attnum, ', ') FROM other.relations r JOIN pg_index ON indrelid = r.oid AND indisprimary "
		  . "JOIN pg_attribute a ON attrelid = r.oid AND attnum = ANY (indkey) WHERE relkind = 'r' GROUP BY 1",
		'CREATE TABLE other.refers ($3, FOREIGN KEY ($4) REFERENCES $1 ($2))',
		'CREATE TABLE leftovers.$1_key ($3); ALTER TABLE leftovers.$1_key ADD FOREIGN KEY ($4) REFERENCES $1 ($2) NOT VALID',
		'CREATE SCHEMA further CREATE TABLE refers ($3, FOREIGN KEY ($4) REFERENCES public.$1 ($2))'));

#
# Other members
#
refused('functions', '55000|2BP01|42P13|0A000|42883',
	each_of("SELECT p.oid::regprocedure, format('%I.%I(%s) RETURNS %s', nspname, proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid)) "
		  . "FROM other.members JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid JOIN pg_namespace n ON n.oid = pronamespace ORDER BY 1",
		'CREATE OR REPLACE FUNCTION $2 LANGUAGE plpgsql AS \'BEGIN END\'', 'ALTER FUNCTION $1 RENAME TO renamed',
		'ALTER FUNCTION $1 SET SCHEMA other', 'ALTER FUNCTION $1 SECURITY DEFINER', 'ALTER FUNCTION $1 SET search_path = other',
		'ALTER ROUTINE $1 COST 5', 'ALTER FUNCTION $1 PARALLEL SAFE', 'ALTER FUNCTION $1 DEPENDS ON EXTENSION plpgsql',
		'DROP FUNCTION $1', 'DROP FUNCTION $1 CASCADE'));
refused('functions of event triggers', $refused,
	each_of("SELECT p.oid::regprocedure FROM other.members JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid WHERE prorettype = 'event_trigger'::regtype",
		'ALTER FUNCTION $1 OWNER TO somebody'));
refused('views', $refused,
	each_of("SELECT name, rtrim(pg_get_viewdef(oid), ';') FROM (SELECT oid, name, replace(pg_get_viewdef(oid), E'\\n', ' ') FROM other.relations WHERE relkind = 'v') x (oid, name, def) WHERE position(E'\\n' in def) = 0" =~ s/rtrim\(pg_get_viewdef\(oid\), ';'\)/rtrim(def, ';')/r,
		'CREATE OR REPLACE VIEW $1 AS $2', 'CREATE OR REPLACE VIEW $1 AS SELECT * FROM ($2) v', 'ALTER VIEW $1 RENAME TO renamed', 'ALTER VIEW $1 SET SCHEMA other',
		'DROP VIEW $1', 'DROP VIEW $1 CASCADE', 'CREATE RULE r AS ON INSERT TO $1 DO INSTEAD NOTHING',
		'CREATE TRIGGER t INSTEAD OF INSERT ON $1 FOR EACH ROW EXECUTE FUNCTION other.fire()'),
	each_of("SELECT name, quote_ident(attname) FROM other.relations r JOIN pg_attribute a ON attrelid = r.oid WHERE relkind = 'v' AND attnum = 1",
		'ALTER VIEW $1 RENAME COLUMN $2 TO renamed', 'ALTER VIEW $1 ALTER COLUMN $2 SET DEFAULT NULL'));
refused('materialized views', '55000|2BP01|42809|0A000',
	each_of("SELECT name FROM other.relations WHERE relkind = 'm'",
		'ALTER MATERIALIZED VIEW $1 RENAME TO renamed', 'ALTER MATERIALIZED VIEW $1 SET SCHEMA other', 'ALTER MATERIALIZED VIEW $1 RENAME COLUMN stamp TO renamed',
		'ALTER MATERIALIZED VIEW $1 ALTER COLUMN data SET STORAGE EXTENDED', 'REFRESH MATERIALIZED VIEW $1 WITH NO DATA', 'REFRESH MATERIALIZED VIEW $1',
		'DROP MATERIALIZED VIEW $1', 'CREATE INDEX ON $1 (stamp)', 'ALTER TABLE $1 RENAME TO renamed'));
# among the members are row types of tables and views since 17, and ALTER TYPE is not for them
refused('types', "$refused|42809",
	each_of("SELECT t.oid::regtype, attname, format_type(atttypid, NULL) FROM other.members JOIN pg_type t ON classid = 'pg_type'::regclass AND objid = t.oid JOIN pg_attribute ON attrelid = typrelid WHERE attnum > 0 AND typtype = 'c'",
		'ALTER TYPE $1 ADD ATTRIBUTE further text', 'ALTER TYPE $1 DROP ATTRIBUTE "$2"', 'ALTER TYPE $1 ALTER ATTRIBUTE "$2" TYPE text',
		'ALTER TYPE $1 ALTER ATTRIBUTE "$2" TYPE $3', 'ALTER TYPE $1 RENAME ATTRIBUTE "$2" TO renamed',
		'ALTER TYPE $1 RENAME TO renamed', 'ALTER TYPE $1 SET SCHEMA other', 'DROP TYPE $1', 'DROP TYPE $1 CASCADE'));
refused('sequences', $refused,
	each_of("SELECT name FROM other.relations WHERE relkind = 'S'",
		'ALTER SEQUENCE $1 RESTART', 'ALTER SEQUENCE $1 CYCLE', 'ALTER SEQUENCE $1 INCREMENT 2', 'ALTER SEQUENCE $1 RENAME TO renamed',
		'ALTER SEQUENCE $1 SET SCHEMA other', 'DROP SEQUENCE $1', 'DROP SEQUENCE $1 CASCADE'));
refused('the extension', '55000|2BP01|0A000',
	each_of("SELECT replace(object, ' on table ', ' ON ') FROM other.members WHERE object ~ '^(table|view|materialized view|function|sequence|type|event trigger) '", 'ALTER EXTENSION calvin_seq DROP $1'),
	'CREATE TABLE other.further (); ALTER EXTENSION calvin_seq ADD TABLE other.further', 'ALTER EXTENSION calvin_seq SET SCHEMA other',
	'DROP EVENT TRIGGER seq_log_guard', 'DROP OWNED BY CURRENT_USER');
# in other ways than one after the other
refused('in a block', $refused,
	each_of($tables, "DO \$\$ BEGIN ALTER TABLE \$1 SET UNLOGGED; END \$\$"), "SET session_replication_role = replica;\nALTER TABLE seq_log SET UNLOGGED", 'ALTER TABLE seq_log SET UNLOGGED');
$s->query('RESET session_replication_role');

#
# What is allowed
#
allowed('tables',
	each_of($tables,
		'ALTER TABLE $1 OWNER TO somebody', 'COMMENT ON TABLE $1 IS NULL', 'GRANT SELECT ON $1 TO somebody', 'ALTER TABLE $1 SET TABLESPACE aside',
		'ALTER TABLE $1 SET (autovacuum_enabled = off, fillfactor = 80)', 'ALTER TABLE $1 RESET (fillfactor)', 'ALTER TABLE $1 REPLICA IDENTITY FULL',
		'CREATE INDEX mine ON $1 ((1)); ALTER INDEX mine RENAME TO mine_too; DROP INDEX mine_too',
		'ALTER TABLE $1 ADD CONSTRAINT mine CHECK (true); ALTER TABLE $1 RENAME CONSTRAINT mine TO mine_too; ALTER TABLE $1 DROP CONSTRAINT mine_too',
		'CREATE TRIGGER mine AFTER INSERT ON $1 FOR EACH ROW EXECUTE FUNCTION other.fire(); ALTER TABLE $1 DISABLE TRIGGER mine; ALTER TABLE $1 ENABLE ALWAYS TRIGGER mine; ALTER TRIGGER mine ON $1 RENAME TO mine_too; DROP TRIGGER mine_too ON $1',
		'CREATE POLICY mine ON $1; ALTER TABLE $1 ENABLE ROW LEVEL SECURITY; ALTER POLICY mine ON $1 USING (true); DROP POLICY mine ON $1',
		'CREATE STATISTICS other.mine ON (1 + 1), (2 + 2) FROM $1; DROP STATISTICS other.mine', 'CREATE VIEW other.mine AS SELECT * FROM $1', 'CREATE TABLE other.mine (LIKE $1 INCLUDING ALL)',
		'CREATE PUBLICATION mine FOR TABLE $1', 'VACUUM FULL $1', 'REINDEX TABLE $1', 'REINDEX TABLE CONCURRENTLY $1', 'ANALYZE $1', 'LOCK TABLE $1'));
allowed('columns behind those of the tables that take some',
	each_of("VALUES ('seq_log'), ('seq_cursor_positions'), ('seq_snapshots')",
		'ALTER TABLE $1 ADD mine int DEFAULT 1; ALTER TABLE $1 ALTER mine SET NOT NULL, ALTER mine DROP DEFAULT; ALTER TABLE $1 ALTER mine TYPE bigint; ALTER TABLE $1 RENAME mine TO mine_too; ALTER TABLE $1 DROP mine_too'));
# indexes that were built anew are other ones
$is = $s->query($state);
refused('columns behind those of others', $refused,
	each_of($tables =~ s/ORDER BY/AND relname NOT IN ('seq_log', 'seq_cursor_positions', 'seq_snapshots') ORDER BY/r, 'ALTER TABLE $1 ADD mine int'));
allowed('indexes',
	each_of("SELECT i.indexrelid::regclass, r.name FROM other.relations r JOIN pg_index i ON i.indrelid = r.oid ORDER BY 1",
		'ALTER INDEX $1 SET (fillfactor = 70)', 'ALTER INDEX $1 SET TABLESPACE aside', 'REINDEX INDEX $1', 'COMMENT ON INDEX $1 IS \'mine\''),
	each_of($tables, 'CLUSTER $1 USING $2_pkey; ALTER TABLE $1 SET WITHOUT CLUSTER'));
allowed('others',
	each_of("SELECT p.oid::regprocedure FROM other.members JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid WHERE prorettype <> 'event_trigger'::regtype",
		'ALTER FUNCTION $1 OWNER TO somebody', 'GRANT EXECUTE ON FUNCTION $1 TO somebody', 'COMMENT ON FUNCTION $1 IS NULL'),
	each_of("SELECT name FROM other.relations WHERE relkind = 'v'", 'ALTER VIEW $1 OWNER TO somebody', 'GRANT SELECT ON $1 TO somebody'),
	each_of("SELECT name FROM other.relations WHERE relkind = 'S'", 'ALTER SEQUENCE $1 OWNER TO somebody'),
	each_of("SELECT name FROM other.relations WHERE relkind = 'm'", 'ALTER MATERIALIZED VIEW $1 OWNER TO somebody', 'ALTER MATERIALIZED VIEW $1 SET TABLESPACE aside'),
	'ALTER TYPE seq_txn OWNER TO somebody', 'ALTER TABLE ALL IN TABLESPACE pg_default OWNED BY somebody SET TABLESPACE aside', 'DROP EXTENSION calvin_seq',
	'REASSIGN OWNED BY somebody TO CURRENT_USER', 'ALTER EXTENSION calvin_seq UPDATE', 'DROP SCHEMA public CASCADE');

# Made members by their names alone, all parts are, but for what the server makes by itself.
is($s->query("SELECT object FROM (SELECT 'pg_trigger'::regclass AS classid, t.oid FROM pg_trigger t WHERE tgrelid IN (SELECT oid FROM other.relations) AND NOT tgisinternal "
		  . "UNION ALL SELECT 'pg_class'::regclass, indexrelid FROM pg_index WHERE indrelid IN (SELECT oid FROM other.relations) "
		  . "UNION ALL SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c WHERE conrelid IN (SELECT oid FROM other.relations)) x "
		  . "LEFT JOIN other.members m ON m.classid = x.classid AND objid = x.oid WHERE object IS NULL"),
	'', 'all parts of tables are members');

#
# Others' objects, in whatever state ours are
#
my @elsewhere = (
	'CREATE TABLE other.t (i int PRIMARY KEY)', 'ALTER TABLE other.t ADD j int, ADD CHECK (true)', 'CREATE UNLOGGED TABLE other.w ()', 'ALTER TABLE other.w SET LOGGED', 'ALTER TABLE other.w SET UNLOGGED', 'ALTER TABLE other.t RENAME TO u', 'ALTER TABLE other.u RENAME i TO k',
	'CREATE INDEX i ON other.u (j)', 'ALTER INDEX other.i RENAME TO renamed', 'CREATE TABLE other.child () INHERITS (other.u)', 'CREATE TABLE other.refers (i int REFERENCES other.u DEFERRABLE)',
	'CREATE CONSTRAINT TRIGGER t AFTER INSERT ON other.u DEFERRABLE FOR EACH ROW EXECUTE FUNCTION other.fire()', 'ALTER TABLE other.u DISABLE TRIGGER ALL', 'DROP TRIGGER t ON other.u',
	'CREATE RULE r AS ON INSERT TO other.u DO ALSO SELECT 1', 'CREATE TABLE other.seq_log (i int) PARTITION BY RANGE (i)', 'CREATE TABLE other.p PARTITION OF other.seq_log FOR VALUES FROM (1) TO (2)',
	'CREATE SCHEMA further CREATE TABLE t (i int) CREATE VIEW v AS SELECT * FROM t', 'CREATE OR REPLACE FUNCTION other.fire() RETURNS trigger LANGUAGE plpgsql AS \'BEGIN RETURN NULL; END\'',
	'CREATE TYPE other.seq_txn AS (i int)', 'ALTER TYPE other.seq_txn ADD ATTRIBUTE j int', 'CREATE TEMP TABLE seq_snapshots (i int)', 'ALTER TABLE seq_snapshots ADD j int',
	'CREATE MATERIALIZED VIEW other.seq_inbox_0 AS SELECT 1 AS i', 'REFRESH MATERIALIZED VIEW other.seq_inbox_0', 'CREATE VIEW other.v AS SELECT 1 AS i', 'CREATE OR REPLACE VIEW other.v AS SELECT 2 AS i',
	'CREATE SEQUENCE other.s', 'ALTER SEQUENCE other.s RESTART', 'CREATE EXTENSION IF NOT EXISTS citext', 'GRANT ALL ON ALL TABLES IN SCHEMA other TO somebody', 'ALTER DEFAULT PRIVILEGES IN SCHEMA other GRANT SELECT ON TABLES TO somebody',
	'COMMENT ON TABLE other.u IS \'x\'', 'SELECT 1 AS i INTO other.into_table', 'CREATE PUBLICATION p FOR ALL TABLES', 'DROP TABLE other.u, other.refers CASCADE', 'ANALYZE', 'DROP SCHEMA further CASCADE');

sub elsewhere
{
	my ($desc) = @_;
	my @wrong;
	my $other = session($node, $db);

	$other->query('SET client_min_messages = warning; BEGIN');
	foreach my $command (@elsewhere)
	{
		my $error = $other->error($command);

		next if $error eq '' || ($command =~ /citext/ && $error =~ /^(?:58P01|0A000)/);
		push @wrong, "$command: " . ($error =~ s/\n.*//sr);
		last;
	}
	$other->query('ROLLBACK');
	$other->quit;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(join("\n", @wrong), '', "commands on others' objects: $desc");
}
@elsewhere = grep { !/citext/ } @elsewhere unless sql($node, $db, "SELECT 1 FROM pg_available_extensions WHERE name = 'citext'");
elsewhere('as they are');
foreach my $broken (
	'ALTER INDEX seq_log_epoch_idx RENAME TO away', 'ALTER TABLE seq_log RENAME kind TO sort', 'ALTER TABLE seq_log DISABLE TRIGGER ALL',
	'CREATE TABLE further () INHERITS (seq_log)', 'CREATE SCHEMA aside; ALTER TABLE seq_log SET SCHEMA aside', 'ALTER TABLE aside.seq_log SET SCHEMA public; ALTER TABLE seq_log RENAME TO log_other', 'ALTER TABLE seq_identity RENAME TO identity_other',
	'ALTER EXTENSION calvin_seq DROP TABLE seq_snapshots', 'ALTER TYPE seq_txn ADD ATTRIBUTE further text', 'ALTER EXTENSION calvin_seq DROP TABLE log_other; ALTER EVENT TRIGGER seq_log_guard_kept DISABLE; ALTER EXTENSION calvin_seq DROP EVENT TRIGGER seq_log_guard_kept; DROP EVENT TRIGGER seq_log_guard_kept')
{
	sql($node, $db, unguarded($broken));
	elsewhere("after $broken");
}
sql($node, $db, 'DROP EXTENSION calvin_seq');
elsewhere('after DROP EXTENSION');

$s->quit;
nothing_crashed($node);
done_testing();
