# Versions: ALTER EXTENSION UPDATE with data and subscriptions in place, and a
# library and SQL objects that do not belong together.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use CalvinUpgrade;
use PostgreSQL::Test::Utils;
use Test::More;

my $install = own_installation();
my $node = new_node('versions', -install => $install, 'calvin_seq.max_databases' => 8);
my $txn = [ ['a'], 'ab', 1 ];
my $va = vshard_of('a');
my $next = '2.0next';

# The version that an installed library is made for, and older ones of which
# there are scripts: these are found here when they are there.
my $current = sql($node, 'postgres', "SELECT default_version FROM pg_available_extensions WHERE name = 'calvin_seq'");
my @older = grep { $_ ne $current } split /\n/,
  sql($node, 'postgres', "SELECT version FROM pg_available_extension_versions WHERE name = 'calvin_seq' ORDER BY 1");

# A next version: an update, the way back, and what a fresh one would be.
my $update = <<'SQL';
CREATE FUNCTION seq_next_only() RETURNS int LANGUAGE sql AS 'SELECT 2';
REVOKE ALL ON FUNCTION seq_next_only() FROM PUBLIC;
ALTER TABLE seq_cursor_positions ADD note text;
SQL
my $base = scripts_of($node, $current);
# without one of its own, the way back from the next version would be one to it
add_script($current, $base) if grep { $_ eq '1.0' } @older;
add_script("$current--$next", $update);
add_script("$next--$current", 'DROP FUNCTION seq_next_only(); ALTER TABLE seq_cursor_positions DROP note;');
add_script($next, $base . $update);
# One that forgets something, for the comparison to find.
add_script("$current--careless", $update =~ s/REVOKE.*\n//r);

# What has to survive.
sub kept
{
	my ($db) = @_;

	return join "\n", sql($node, $db, 'SELECT log_index, entry, kind, epoch, appended_at FROM seq_log ORDER BY 1'),
	  sql($node, $db, 'SELECT name, vshard, epoch, position, version, committed_at FROM seq_cursors ORDER BY 1, 2'),
	  sql($node, $db, 'SELECT log_index, last_applied_epoch, digest, digest_version, taken_at FROM seq_snapshots ORDER BY 1');
}

# A log of all kinds of entries, a cursor, a snapshot.
sub fill
{
	my ($db) = @_;
	my $s = session($node, $db);

	append_batches($node, $db, 0, 5, [$txn]);
	$s->query("INSERT INTO seq_log (entry) VALUES ('\\xc1'), (''), ('\\x" . batch_hex(2, 0) . "'), ('\\x" . batch_hex(9, 0, $txn) . "')");
	$s->query("SELECT seq_ack(9, 0, $va); SELECT seq_wait_for_epoch(9, '30s')");
	$s->query("SELECT seq_subscribe('{$va}', 'worker', from_epoch => 0)");
	is($s->query("BEGIN; SELECT string_agg(epoch::text, ',') FROM seq_receive(3, '10s', 'worker'); SELECT seq_commit('worker'); COMMIT"),
		"0,1,2\n1", "$db: a consumer has committed");
	$s->quit;
	wait_applied($node, $db);
	sql($node, $db, 'SELECT seq_snapshot()');
	return;
}

# Every path that looks the log up says the same.
sub is_refused
{
	my ($db, $library, $version, $desc) = @_;
	my @calls = ("SELECT seq_append('')", 'TABLE seq_state', "SELECT seq_subscribe('{1}')", 'SELECT * FROM seq_replay(1, 0, 1)',
		'SELECT seq_current_committed_epoch()', "INSERT INTO seq_log (entry) VALUES ('')", 'SELECT seq_completion(0, 0)', "SELECT seq_drop_cursor('worker')");
	my $expected = qr/^55000: the library of extension calvin_seq does not serve its version in this database\nDETAIL: +The library is of version \Q$library\E, the extension in the database of version \Q$version\E\.\nHINT: .*ALTER EXTENSION calvin_seq UPDATE.*restart/;

	foreach my $call (@calls)
	{
		like(sql_error($node, $db, $call), $expected, "$desc: $call");
	}
	wait_for_sql($node, 'postgres',
		"SELECT string_agg(backend_type, ',' ORDER BY backend_type) FROM pg_stat_activity WHERE datname = '$db' AND query = 'waiting to try again after an error'",
		'calvin_seq applier,calvin_seq sequencer');
	pass("$desc: the workers wait");
	is(sql($node, $db, "SELECT seq_vshard('a'), seq_decode('')"), "$va|null", "$desc: what needs no log works");
	# what waits in the inbox only the right library can read: better no dump than one without it
	command_fails_like([ 'pg_dump', '-f', '/dev/null', $node->connstr($db) ], qr/does not serve its version/,
		"$desc: pg_dump says why it cannot have what waits");
	is(sql($node, $db, 'BEGIN; DROP EXTENSION calvin_seq; ROLLBACK; CREATE TABLE t (a int); DROP TABLE t; SELECT 1'), 1,
		"$desc: DROP EXTENSION and other commands work");
	return;
}

sql($node, 'postgres', "CREATE DATABASE $_") foreach qw(live next);
create_extension($node, $_) foreach qw(live next);
fill($_) foreach qw(live next);

#
# A library older than the SQL objects: nothing is lost, nothing crashes.
#
my $state = state($node, 'live');
my $kept = kept('live');
my $applier = applier_pid($node, 'live');
my $old_session = session($node, 'live');
$old_session->query("SELECT seq_subscribe('{$va}', 'worker')");
sql($node, 'live', "ALTER EXTENSION calvin_seq UPDATE TO '$next'");
like($old_session->error("SELECT seq_append('')"), qr/^55000: the library/, 'a session that had looked before notices');
is_refused('live', $current, $next, 'older library');
sql($node, 'live', "ALTER EXTENSION calvin_seq UPDATE TO '$current'");
is(state($node, 'live'), $state, 'back again: the state is the same');
is(kept('live'), $kept, 'and so are the tables');
append_batches($node, 'live', 10, 10, [$txn]);
ok(wait_for_epoch($node, 'live', 10), 'the applier goes on');
is(applier_pid($node, 'live'), $applier, 'in the same process');
is($old_session->query("SELECT string_agg(epoch::text, ',') FROM seq_receive(10, '10s', 'worker')"), '3,4,5,9,10',
	'and so does the stream of a session that was there all the time');
$old_session->quit;
like(sql_error($node, 'live', "BEGIN; ALTER EXTENSION calvin_seq UPDATE TO '$next'; PREPARE TRANSACTION 'x'"),
	qr/^(0A000|55000): /, 'an update cannot be prepared');

# A function that a library has not is the server's own error.
like(sql_error($node, 'live', "CREATE FUNCTION seq_of_later() RETURNS int LANGUAGE C AS '\$libdir/calvin_seq'"),
	qr/^42883: could not find function "seq_of_later" in file/, 'a function that is not in the library');
sql($node, 'live', "CREATE FUNCTION seq_of_later() RETURNS int LANGUAGE C AS '\$libdir/calvin_seq', 'seq_next_epoch'; UPDATE pg_proc SET prosrc = 'seq_of_later' WHERE proname = 'seq_of_later'");
like(sql_error($node, 'live', 'SELECT seq_of_later()'), qr/^42883: could not find function/, 'called later');
sql($node, 'live', 'DROP FUNCTION seq_of_later()');

#
# Real older versions, from each of which there must be a way.  Their library
# is not here, but what it stored is: rows are put in as they are.
#
foreach my $old (@older)
{
	my $db = "from_$old" =~ s/\W/_/gr;

	sql($node, 'postgres', "CREATE DATABASE $db");
	sql($node, 'postgres', 'CREATE DATABASE source');
	sql($node, 'source', "CREATE EXTENSION calvin_seq VERSION '$current'");
	wait_for_applier($node, 'source');
	fill('source');
	my @before = (state($node, 'source'), kept('source'));
	as_of_version($node, 'source', $old, $db);
	sql($node, 'postgres', 'DROP DATABASE source');
	upgrade_from($old, $current, $db, \@before);
	sql($node, 'postgres', "DROP DATABASE $db");
}
note 'older versions: ' . (@older ? join(', ', @older) : 'none yet');

#
# The libraries of the next version: one that serves both, one that does not.
#
my $both = build_library($next, "-DCALVIN_SEQ_SERVES_TOO=$current");

SKIP:
{
	skip 'the library cannot be built here', 1 unless defined $both;

	my %before = map { ($_ => [ state($node, $_), kept($_) ]) } qw(live next);
	install_library($both);
	$node->restart;
	wait_for_applier($node, 'live');
	my $s = session($node, 'live');
	$s->query("SELECT seq_subscribe('{$va}', 'worker')");
	is($s->query("SELECT epoch FROM seq_receive(1, '10s', 'worker')"), 3, 'a library that serves both: the stream goes on');
	$applier = applier_pid($node, 'live');
	my $appender = session($node, 'live');
	$appender->query('BEGIN');
	append_batches($node, 'live', 11, 11, [$txn], $appender);
	$appender->query('COMMIT');
	wait_applied($node, 'live');
	$state = state($node, 'live');
	sql($node, 'live', "ALTER EXTENSION calvin_seq UPDATE TO '$next'");
	is(state($node, 'live'), $state, 'the state is the same after ALTER EXTENSION UPDATE');
	append_batches($node, 'live', 12, 12, [$txn], $appender);
	wait_applied($node, 'live');
	is($s->query("BEGIN; SELECT string_agg(epoch::text, ',') FROM seq_receive(10, '10s', 'worker'); SELECT seq_commit('worker'); COMMIT"),
		"4,5,9,10,11,12\n1", 'the live subscription goes on over it, and commits');
	is(applier_pid($node, 'live'), $applier, 'with the same applier');
	is(sql($node, 'live', 'SELECT last_error IS NULL FROM seq_state'), 't', 'which had no error');
	is(sql($node, 'live', 'SELECT seq_next_only()'), 2, 'what is new is there');
	$_->quit foreach $s, $appender;

	install_library(build_library($next));
	$node->restart;
	is_refused('next', $next, $current, 'newer library');
	upgrade_from($current, $next, 'next', $before{next});

	sql($node, 'postgres', 'CREATE DATABASE careless');
	sql($node, 'careless', "CREATE EXTENSION calvin_seq VERSION 'careless'");
	sql($node, 'careless', "UPDATE pg_extension SET extversion = '$next' WHERE extname = 'calvin_seq'");
	isnt(catalogue($node, 'careless'), fresh($next), 'the comparison finds what an update forgot');
	sql($node, 'postgres', 'DROP DATABASE careless');
}

# The catalogue of a fresh extension.
sub fresh
{
	my ($version) = @_;

	sql($node, 'postgres', 'CREATE DATABASE fresh');
	sql($node, 'fresh', "CREATE EXTENSION calvin_seq VERSION '$version'");
	my $catalogue = catalogue($node, 'fresh');
	sql($node, 'postgres', 'DROP DATABASE fresh');
	return $catalogue;
}

# Update a filled database of an older version, and compare.
sub upgrade_from
{
	my ($from, $to, $db, $before) = @_;

	sql($node, $db, "ALTER EXTENSION calvin_seq UPDATE TO '$to'");
	wait_for_applier($node, $db);
	wait_applied($node, $db);
	is(state($node, $db), $before->[0], "$from to $to: the state is the same");
	is(kept($db), $before->[1], "$from to $to: the tables have what they had");
	is(catalogue($node, $db), fresh($to), "$from to $to: the objects are those of a fresh extension");
	my $s = session($node, $db);
	append_batches($node, $db, 10, 10, [$txn]);
	# seq_receive() waits for a first row only, and the others are there at once
	wait_applied($node, $db);
	$s->query("SELECT seq_subscribe('{$va}', 'worker')");
	is($s->query("BEGIN; SELECT string_agg(epoch::text, ',') FROM seq_receive(10, '10s', 'worker'); SELECT seq_commit('worker'); COMMIT"),
		"3,4,5,9,10\n1", "$from to $to: the stream goes on at its cursor");
	$s->quit;
	return;
}

$node->stop;
nothing_crashed($node);
done_testing();
