# Row types that are not what the extension made them: no function fills, or reads, a
# row without having compared its type.  Functions and types come from the catalogs.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $db = 'postgres';
my $collection = 'a';
my $vshard = vshard_of($collection);
my $members = "SELECT classid, objid FROM pg_depend WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'calvin_seq')";

create_extension($node);
sql($node, $db, "SELECT seq_append_json('{\"EpochBatch\": {\"txns\": [{\"tx_class\": {\"write_set\": [{\"Document\": {\"collection\": \"$collection\"}}], \"plans\": \"\\\\xab\"}}]}}')");
wait_applied($node, $db);

my $s = session($node, $db);
$s->query("SELECT seq_subscribe('{$vshard}', from_epoch => 0)");

# A call with arguments made up by their types, of each function that a condition selects.
sub calls
{
	my ($condition, $name) = @_;

	$name = "format('%I.%I', nspname, proname)" unless defined $name;
	return split /\n/, sql($node, $db, "SELECT $name || '(' || coalesce(("
		  . "SELECT string_agg(format('%L::%s', CASE t::regtype::text WHEN 'bytea' THEN '' WHEN 'jsonb' THEN 'null' WHEN 'integer[]' THEN '{$vshard}' "
		  . "WHEN 'interval' THEN '0' WHEN 'text' THEN 'default' WHEN 'boolean' THEN 'f' WHEN 'integer' THEN CASE proname WHEN 'seq_replay' THEN '$vshard' ELSE '10' END ELSE '0' END, t::regtype), ', ' ORDER BY n) "
		  . "FROM unnest(proargtypes::oid[]) WITH ORDINALITY AS a(t, n)), '') || ')' "
		  . "FROM ($members) m JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid JOIN pg_namespace n ON n.oid = pronamespace "
		  . "JOIN pg_type t ON t.oid = prorettype WHERE $condition ORDER BY 1");
}

# In whatever way a set or a row is asked for.
sub ways
{
	my ($call) = @_;

	return ("SELECT * FROM $call", "SELECT $call", "SELECT count(*) FROM $call", "SELECT t FROM $call t");
}

# Each way of each call fails with the named error, in a session that goes on.
sub each_refused
{
	my ($desc, @calls) = @_;
	my @wrong;

	foreach my $sql (map { ways($_) } @calls)
	{
		my $error = $s->error("BEGIN; $sql");

		push @wrong, "$sql: " . ($error =~ s/\n.*//sr) unless $error =~ /^55000: the row type of \S+.* is not as extension/;
		die "the session has ended: $sql\n" if $s->dead;
		$s->query('ROLLBACK');
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(join("\n", @wrong), '', "$desc: refused, " . scalar(@calls) . ' functions');
}

#
# A type that is the extension's
#
my @returning = calls("typtype = 'c' AND typrelid <> 0");
cmp_ok(scalar @returning, '>=', 3, 'there are functions that return rows of a named type');
foreach my $type (split /\n/, sql($node, $db, "SELECT DISTINCT prorettype::regtype FROM ($members) m JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid JOIN pg_type t ON t.oid = prorettype WHERE typtype = 'c' ORDER BY 1"))
{
	my @of_type = calls("t.oid = '$type'::regtype");
	my ($kind, $relkind) = split /\|/, sql($node, $db, "SELECT CASE relkind WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END, CASE relkind WHEN 'c' THEN 'ATTRIBUTE' ELSE 'COLUMN' END FROM pg_class WHERE reltype = '$type'::regtype");
	my @columns = split /\n/, sql($node, $db, "SELECT quote_ident(attname) FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid WHERE reltype = '$type'::regtype AND attnum > 0 ORDER BY attnum");

	like($s->error("ALTER $kind $type ADD $relkind further text"), qr/^55000: /, "$type: the guard refuses another column");
	foreach my $change ("ADD $relkind further text", (map { "DROP $relkind $_ CASCADE" } @columns), (map { "ALTER $relkind $_ TYPE text" } @columns), (map { "ALTER $relkind $_ TYPE smallint" . ($kind eq 'TABLE' ? ' USING 0' : '') } @columns))
	{
		# in a transaction of its own, since nothing of it is to stay
		my @wrong;
		my $error = $s->error("BEGIN; ALTER EVENT TRIGGER seq_log_guard DISABLE; ALTER $kind $type $change");

		if ($error ne '') { note("$change: $error") }
		foreach my $sql (map { ways($_) } $error eq '' ? @of_type : ())
		{
			$s->query('SAVEPOINT way');
			my $got = $s->error($sql);
			push @wrong, "$sql: " . ($got =~ s/\n.*//sr) unless $got =~ /^55000: the row type of \S+.* is not as extension/;
			die "the session has ended: $change, $sql\n" if $s->dead;
			$s->query('ROLLBACK TO way');
		}
		$s->query('ROLLBACK');
		is(join("\n", @wrong), '', "$type, $change");
	}
}

#
# Functions declared otherwise: with as many columns, but of other types; with one more; with one less
#
my @rows = split /\n/, sql($node, $db,
	"SELECT proname, prosrc, proretset, coalesce((SELECT string_agg(t::regtype::text, ', ' ORDER BY n) FROM unnest(proargtypes::oid[]) WITH ORDINALITY AS a(t, n)), ''), "
	  . "coalesce(array_length(proallargtypes, 1) - pronargs, (SELECT relnatts FROM pg_class WHERE reltype = prorettype)) "
	  . "FROM ($members) m JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid JOIN pg_type t ON t.oid = prorettype "
	  . "WHERE typtype = 'c' OR prorettype = 'record'::regtype ORDER BY 1");
cmp_ok(scalar @rows, '>=', 10, 'there are functions that return rows');
sql($node, $db, 'CREATE SCHEMA other');
foreach my $row (@rows)
{
	my ($name, $symbol, $set, $arguments, $n) = split /\|/, $row;

	foreach my $other ([ 'text' => $n ], [ 'int4' => $n ], [ 'bool' => $n + 1 ], [ 'int8' => $n - 1 ], ['float8' => $n + 30])
	{
		my ($type, $count) = @$other;
		my $outs = join(', ', map { "OUT c$_ $type" } 1 .. $count);

		next if $count < 2;
		sql($node, $db, "DROP FUNCTION IF EXISTS other.$name; CREATE FUNCTION other.$name(" . join(', ', grep { $_ ne '' } $arguments, $outs) . ") RETURNS " . ($set eq 't' ? 'SETOF record' : 'record')
			  . " LANGUAGE C STRICT AS '\$libdir/calvin_seq', '$symbol'");
		my ($call) = calls("proname = '$name'", "'other.' || quote_ident(proname)");
		each_refused("$name, $count columns of type $type", $call);
	}
}

#
# Triggers on tables of others
#
my @triggers = split /\n/, sql($node, $db,
	"SELECT proname FROM ($members) m JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid WHERE prorettype = 'trigger'::regtype AND proname <> 'seq_send_changes' ORDER BY 1");
cmp_ok(scalar @triggers, '>=', 6, 'there are trigger functions');
foreach my $function (@triggers)
{
	my @wrong;

	foreach my $columns ('a int', 'a text', 'a bool, b bool', join(', ', map { "c$_ int DEFAULT 7" } 1 .. 10), join(', ', map { "c$_ text DEFAULT 'x'" } 1 .. 10), 'TABLE seq_log', 'TABLE seq_cursor_positions', 'TABLE seq_snapshots', '')
	{
		foreach my $when ('BEFORE INSERT ON other.t FOR EACH ROW', 'AFTER INSERT ON other.t FOR EACH ROW', 'BEFORE INSERT ON other.t FOR EACH STATEMENT', 'BEFORE UPDATE ON other.t FOR EACH ROW', 'BEFORE DELETE ON other.t FOR EACH ROW', 'BEFORE TRUNCATE ON other.t FOR EACH STATEMENT')
		{
			my ($op) = $when =~ /^\w+ (\w+)/;
			my $error;

			$s->query('BEGIN; CREATE TABLE other.t ' . ($columns =~ /^TABLE/ ? "AS $columns WITH NO DATA" : "($columns)") . '; ALTER TABLE other.t ADD z int; INSERT INTO other.t (z) VALUES (1)');
			$s->query("CREATE TRIGGER t $when EXECUTE FUNCTION $function()");
			$error = $s->error({ INSERT => 'INSERT INTO other.t (z) VALUES (1)', UPDATE => 'UPDATE other.t SET z = 1', DELETE => 'DELETE FROM other.t', TRUNCATE => 'TRUNCATE other.t' }->{$op});
			die "the session has ended: $function, $columns, $when\n" if $s->dead;
			$s->query('ROLLBACK');
			push @wrong, "$columns, $when: " . ($error =~ s/\n.*//sr)
			  unless $error =~ /^(?:39P01|55000): / || ($error eq '' && $function eq 'seq_log_after_insert');
		}
	}
	is(join("\n", @wrong), '', "$function on tables of others: refused");
}

is(sql($node, $db, "SELECT count(*) FROM seq_replay($vshard, 0, 10)"), 1, 'and all works');
is($s->query('SELECT plans FROM seq_receive()'), '\xab', 'in the session that all of it came to pass in');
$s->quit;
nothing_crashed($node);
done_testing();
