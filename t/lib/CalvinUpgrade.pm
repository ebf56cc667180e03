# What tests of versions share: an installation of one's own, in which other
# libraries and scripts can be put, and databases to compare.
package CalvinUpgrade;

use strict;
use warnings;

use Carp;
use CalvinTest;
use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use FindBin;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(own_installation build_library install_library
  installed_library add_script add_extension scripts_of as_of_version catalogue);

my ($root, $libdir, $extdir);

sub config
{
	my ($what) = @_;
	my ($stdout) = run_command([ 'pg_config', "--$what" ]);

	return $stdout;
}

# A copy of the installation that the tests run on; the path for new_node.
# Programs find their files relative to themselves, so they are copied, and
# all else is linked.
sub own_installation
{
	my $bindir = config('bindir');

	$root = PostgreSQL::Test::Utils::tempdir();
	foreach my $dir ($bindir, config('pkglibdir'), config('sharedir'))
	{
		system_or_bail('mkdir', '-p', $root . dirname($dir));
		system_or_bail('cp', $dir eq $bindir ? '-RL' : '-Rs', $dir, $root . dirname($dir));
	}
	$libdir = $root . config('pkglibdir');
	$extdir = $root . config('sharedir') . '/extension';
	return $root . dirname($bindir);
}

# The library, built from these sources as of a version, with these macros if any; its path, or undef
# where it cannot be built.  What does not depend on them is not built again.
sub build_library
{
	my ($version, $macros) = @_;
	my $top = dirname(abs_path($FindBin::RealBin));
	my $dir = PostgreSQL::Test::Utils::tempdir() . '/build';
	my ($pg_config) =
	  grep { -x $_ && -f qx("$_" --includedir-server) =~ s/\n\z//r . '/postgres.h' }
	  map { "$_/pg_config" } split(/:/, $ENV{PATH}), '/usr/bin';

	return unless defined $pg_config;
	system_or_bail('mkdir', '-p', $dir);
	# with their times, so that objects which are built already are up to date
	system_or_bail('cp', '-Rp', map({ "$top/$_" } qw(Makefile sequencer.control src sql)), $dir);
	my $control = slurp_file("$dir/sequencer.control") =~ s/^(default_version *= *).*/$1'$version'/mr;
	unlink "$dir/sequencer.control";
	append_to_file("$dir/sequencer.control", $control);
	local $ENV{MAKEFLAGS} = '';
	local $ENV{MAKELEVEL} = '';
	local $ENV{PAUSE_POINTS} = $ENV{CALVIN_PAUSE_POINTS} // '';
	# what the other objects were built with
	$macros = join ' ', grep { defined } $macros, $ENV{COPT};
	system_log('make', '-s', '-C', $dir, "PG_CONFIG=$pg_config", 'with_llvm=no', "COPT=$macros", 'all') == 0
	  or croak 'the library could not be built';
	return "$dir/calvin_seq.so";
}

# Put a library in the place of the present one, for servers started later.
sub install_library
{
	my ($library) = @_;

	unlink "$libdir/calvin_seq.so";
	system_or_bail('cp', $library, "$libdir/calvin_seq.so");
	return;
}

# A copy of the present one, to put back.
sub installed_library
{
	my $copy = PostgreSQL::Test::Utils::tempdir() . '/calvin_seq.so';

	system_or_bail('cp', '-L', "$libdir/calvin_seq.so", $copy);
	return $copy;
}

# An extension beside it.
sub add_extension
{
	my ($name, $control, $script) = @_;

	append_to_file("$extdir/$name.control", $control);
	append_to_file("$extdir/$name--1.sql", $script);
	return;
}

sub add_script
{
	my ($versions, $text) = @_;

	append_to_file("$extdir/calvin_seq--$versions.sql", $text);
	return;
}

# A database of an older version with the rows of one of the present version.  Its library
# is not here, but what it stored is: rows are put in as they are.
sub as_of_version
{
	my ($node, $source, $version, $db) = @_;
	my @tables = qw(seq_log seq_cursor_positions seq_snapshots);

	sql($node, $db, "CREATE EXTENSION calvin_seq VERSION '$version'");
	sql($node, $db, 'ALTER EVENT TRIGGER seq_log_guard DISABLE; '
		  . join(' ', map { "ALTER TABLE $_ DISABLE TRIGGER USER;" } @tables));
	foreach my $table (@tables)
	{
		my $columns = sql($node, $db, "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute WHERE attrelid = '$table'::regclass AND attnum > 0");
		my $file = PostgreSQL::Test::Utils::tempdir() . "/$table";

		sql($node, $source, "COPY $table ($columns) TO '$file'");
		sql($node, $db, "COPY $table ($columns) FROM '$file'");
	}
	return sql($node, $db, "DO \$\$ DECLARE t record; BEGIN FOR t IN SELECT tgrelid::regclass AS r, tgname FROM pg_trigger WHERE tgrelid IN ('seq_log'::regclass, 'seq_cursor_positions'::regclass, 'seq_snapshots'::regclass) AND NOT tgisinternal LOOP EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', t.r, t.tgname); END LOOP; END \$\$; ALTER EVENT TRIGGER seq_log_guard ENABLE ALWAYS;");
}

# What CREATE EXTENSION runs for a version: the script of one, and the updates from there.
sub scripts_of
{
	my ($node, $version) = @_;
	my ($first) = grep { -e "$extdir/calvin_seq--$_.sql" }
	  split /\n/, sql($node, 'postgres', "SELECT version FROM pg_available_extension_versions WHERE name = 'calvin_seq'");
	my @path = $first eq $version ? ($version) : split /--/,
	  sql($node, 'postgres', "SELECT path FROM pg_extension_update_paths('calvin_seq') WHERE source = '$first' AND target = '$version'");

	return join '', slurp_file("$extdir/calvin_seq--$first.sql"),
	  map { slurp_file("$extdir/calvin_seq--$path[$_ - 1]--$path[$_].sql") } 1 .. $#path;
}

# All objects of the extension in a database, one a line, as far as they can
# differ between an updated and a fresh one.
sub catalogue
{
	my ($node, $db) = @_;

	return sql($node, $db, <<'SQL');
CREATE TEMP VIEW members AS
	SELECT classid, objid FROM pg_depend WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'calvin_seq');
CREATE TEMP VIEW rels AS
	SELECT c.* FROM members JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid;
CREATE FUNCTION pg_temp.acl(aclitem[]) RETURNS text LANGUAGE sql AS $$ SELECT coalesce((SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest($1) a), 'default') $$;
SELECT line FROM (
	SELECT 'member ' || pg_describe_object(classid, objid, 0) || ' ' || coalesce(obj_description(objid, classid::regclass::name), '') FROM members
	UNION ALL
	SELECT concat_ws(' ', 'function', p.oid::regprocedure, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), provolatile, proparallel, proisstrict,
		prosecdef, proleakproof, procost, prorows, proconfig, prosrc, probin, lanname, pg_temp.acl(proacl))
	FROM members JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid JOIN pg_language l ON l.oid = prolang
	UNION ALL
	SELECT concat_ws(' ', 'relation', oid::regclass, relkind, relpersistence, relrowsecurity, relforcerowsecurity, reloptions, pg_temp.acl(relacl),
		(SELECT pg_temp.acl(typacl) FROM pg_type WHERE pg_type.oid = reltype), oid IN (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'calvin_seq')) FROM rels
	UNION ALL
	SELECT concat_ws(' ', 'column', attrelid::regclass, attnum, attname, format_type(atttypid, atttypmod), attnotnull, attstorage, attidentity, attgenerated,
		pg_get_expr(adbin, adrelid), pg_temp.acl(attacl), col_description(attrelid, attnum))
	FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
	WHERE attrelid IN (SELECT oid FROM rels) AND attnum > 0 AND NOT attisdropped
	UNION ALL
	SELECT 'view ' || oid::regclass || ' ' || pg_get_viewdef(oid) FROM rels WHERE relkind = 'v'
	UNION ALL
	SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid IN (SELECT oid FROM rels)
	UNION ALL
	SELECT 'index ' || pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid IN (SELECT oid FROM rels)
	UNION ALL
	SELECT 'trigger ' || pg_get_triggerdef(oid) || ' ' || tgenabled::text FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM rels)
	UNION ALL
	SELECT concat_ws(' ', 'event trigger', evtname, evtevent, evtfoid::regproc, evtenabled, evttags) FROM members JOIN pg_event_trigger e ON classid = 'pg_event_trigger'::regclass AND objid = e.oid
	UNION ALL
	SELECT concat_ws(' ', 'type', t.oid::regtype, typtype, pg_temp.acl(typacl), (SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = typrelid AND attnum > 0))
	FROM members JOIN pg_type t ON classid = 'pg_type'::regclass AND objid = t.oid
) AS l(line) ORDER BY line COLLATE "C";
SQL
}

1;
