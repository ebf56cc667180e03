# pg_dump carries what waits, once: into the log behind what was dumped of it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinPause;
use CalvinSequencer;
use CalvinSubmit;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(
	'main',
	'calvin_seq.max_databases' => 24,
	max_worker_processes => 60,
	fsync => 'off',
	'calvin_seq.snapshot_interval' => 0);
my $dir = PostgreSQL::Test::Utils::tempdir();
my $hold;

# Something sequenced, something that waits: one of it large.
sql($node, 'postgres', 'CREATE DATABASE src');
create_extension($node, 'src');
create_sent($node, 'src');
sql($node, 'src', "CREATE TABLE mine (i int); INSERT INTO mine SELECT generate_series(1, 10)");
sql($node, 'src', filled('a', 1, 30, 50));
wait_sequenced($node, 'src');
$hold = hold_log($node, 'src');
sql($node, 'src', filled('a', 31, 5, 50));
sql($node, 'src', "SELECT seq_send_bytes('a', convert_to(rpad('36 ', 900000, 'x'), 'UTF8'), 7)");
sql($node, 'src', "BEGIN; " . filled('a', 37, 3, 500000) . "; " . filled('a', 40, 1, 10) . "; COMMIT");
wait_held($node, 'src');
is(sql($node, 'src', 'SELECT waiting_rows, waits_for FROM seq_sequencer'), '10|append', 'ten wait');
is(sql($node, 'src', 'SELECT count(*), count(DISTINCT place), count(DISTINCT submission), min(log_end) = (SELECT max(log_index) FROM seq_log) FROM seq_inbox_waiting()'), '10|10|10|t', 'and are shown to a dump');
is(sql($node, 'src', 'SELECT count(*) FROM seq_inbox'), 0, 'the table itself is empty');

sub dump_of
{
	my ($db, $file, @options) = @_;

	$node->command_ok([ 'pg_dump', '-f', "$dir/$file", @options, $db ], "pg_dump @options");
	return "$dir/$file";
}

sub restored
{
	my ($db, $desc) = @_;

	wait_for_applier($node, $db);
	wait_sequenced($node, $db);
	is(numbers($node, $db, 'a'), '40|40|40', "$desc: all in the log, once, in order");
	is(sql($node, $db, "SELECT string_agg(collection || ' ' || payload || ' ' || tenant_id, ' ') FROM sent WHERE tenant_id <> 0"), 'a 36 7', "$desc: as it was");
	is(sql($node, $db, 'SELECT count(*) FROM seq_inbox'), 0, "$desc: nothing is left in seq_inbox");
	is(sql($node, $db, 'SELECT sequenced, waiting_rows, waits_for IS NULL FROM seq_sequencer'), '10|0|t', "$desc: the view counts them");
	sql($node, $db, filled('a', 41, 2));
	wait_sequenced($node, $db);
	is(numbers($node, $db, 'a'), '42|42|42', "$desc: and it goes on");
	sql($node, 'postgres', "DROP DATABASE $db");
	return;
}

sub target
{
	my ($db) = @_;

	sql($node, 'postgres', "CREATE DATABASE $db");
	return $db;
}

sub restore_plain
{
	my ($file, $desc, @options) = @_;
	my $db = target('d' . ++$main::n);

	$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', @options, '-d', $db, '-f', $file ], "psql: $desc");
	restored($db, $desc);
	return;
}

sub restore
{
	my ($file, $desc, @options) = @_;
	my $db = target('d' . ++$main::n);

	$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $db, @options, $file ], "pg_restore: $desc");
	restored($db, $desc);
	return;
}

our $n = 0;
my $plain = dump_of('src', 'plain.sql');
my $inserts = dump_of('src', 'inserts.sql', '--inserts');
my $columns = dump_of('src', 'columns.sql', '--column-inserts', '--rows-per-insert=3');
my $custom = dump_of('src', 'custom.dump', '-Fc');
my $directory = dump_of('src', 'directory', '-Fd', '-j2');

restore_plain($plain, 'plain');
restore_plain($plain, 'plain, in one transaction', '-1');
restore_plain($inserts, '--inserts');
restore_plain($columns, '--column-inserts');
restore($custom, 'custom');
restore($custom, 'custom, with two jobs', '-j2');
restore($custom, 'custom, in one transaction', '--single-transaction');
restore($directory, 'directory, with two jobs', '-j2');

#
# The rows of seq_inbox first, those of the log later
#
my $list = slurp_file_of_list($custom);
my @data = grep { /TABLE DATA public seq_/ } @$list;
my ($inbox) = grep { /TABLE DATA public seq_inbox / } @data;
append_to_file("$dir/before.list", join("\n", grep { !/TABLE DATA public seq_/ } @$list) . "\n");
append_to_file("$dir/inbox.list", "$inbox\n");
append_to_file("$dir/log.list", join("\n", grep { !/TABLE DATA public seq_inbox / } @data) . "\n");
append_to_file("$dir/log_only.list", join("\n", grep { !/TABLE DATA public seq_(inbox|identity) / } @data) . "\n");
append_to_file("$dir/identity.list", join("\n", grep { /TABLE DATA public seq_identity / } @data) . "\n");

my $late = target('late');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $late, '-L', "$dir/before.list", $custom ], 'all but the extension\'s rows');
wait_for_sequencer($node, $late);
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $late, '-L', "$dir/inbox.list", $custom ], 'then what waited');
wait_for_sql($node, $late, 'SELECT waits_for FROM seq_sequencer', 'restore');
is(sql($node, $late, 'SELECT count(*) FROM seq_log'), 0, 'which waits for the log');
# a dump of that has them too
my $again = dump_of($late, 'again.dump', '-Fc');
like(join("\n", @{ slurp_file_of_list($again) }), qr/TABLE DATA public seq_inbox /, 'a dump of them');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $late, '-L', "$dir/log.list", $custom ], 'and the log at last');
restored($late, 'the inbox before the log');

# As parallel jobs may have it: the log's identity is last.
$late = target('identity');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $late, '-L', "$dir/before.list", $custom ], 'all but the rows');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $late, '-L', "$dir/log_only.list", $custom ], 'the log without its identity');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $late, '-L', "$dir/inbox.list", $custom ], 'what waited');
wait_for_sql($node, $late, 'SELECT waits_for FROM seq_sequencer', 'restore');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $late, '-L', "$dir/identity.list", $custom ], 'which waits for the identity');
is(sql($node, $late, 'SELECT identity FROM seq_identity'), sql($node, 'src', 'SELECT identity FROM seq_identity'), 'so that it is that of the dump');
restored($late, 'the identity last');

#
# A dump of what is restored, not sequenced, and joined by others
#
$late = target('second');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $late, $custom ], 'restored');
wait_for_applier($node, $late);
wait_sequenced($node, $late);
is(numbers($node, $late, 'a'), '40|40|40', 'all there');
sql($node, 'postgres', "DROP DATABASE $late");

$late = target('second');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $late, '-L', "$dir/before.list", $custom ], 'all but the rows');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $late, '-L', "$dir/log.list", $custom ], 'then the log');
my $hold2 = hold_log($node, $late);
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $late, '-L', "$dir/inbox.list", $custom ], 'then the inbox, while the log is held');
sql($node, $late, filled('a', 41, 2));
is(sql($node, $late, 'SELECT count(*) FROM seq_inbox'), 10, 'it waits');
is(sql($node, $late, 'SELECT count(*), count(DISTINCT place) FROM (TABLE seq_inbox UNION ALL SELECT * FROM seq_inbox_waiting()) d'), '12|12', 'and others do');
$again = dump_of($late, 'second.dump', '-Fc');
$hold2->query('COMMIT');
$hold2->quit;
wait_sequenced($node, $late);
is(numbers($node, $late, 'a'), '42|42|42', 'restored ones come before those submitted since');
my $third = target('third');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $third, $again ], 'a dump of both');
wait_for_applier($node, $third);
wait_sequenced($node, $third);
is(numbers($node, $third, 'a'), '42|42|42', 'has each once, in order');
sql($node, 'postgres', "DROP DATABASE $_") foreach $late, $third;

# What was dumped is here still.
$hold->query('COMMIT');
$hold->quit;
wait_sequenced($node, 'src');
is(numbers($node, 'src', 'a'), '40|40|40', 'the source goes on with what waited');

#
# Dumps under load, with several partitions written meanwhile
#
my $to = 40;
my $s = session($node, 'src');
foreach my $i (1 .. 4)
{
	my @command = ($node->installed_command('pg_dump'), '-Fc', '-f', "$dir/load$i", '-d', $node->connstr('src'));
	my $started = $to;
	my $h = IPC::Run::start(\@command, '2>', \my $stderr);
	my $count = 0;
	while ($h->pumpable && $count++ < 60)
	{
		$s->query(filled('a', $to + 1, 500, 1000));
		$to += 500;
		eval { $h->pump_nb };
	}
	ok($h->finish, "dump $i under load") or diag $stderr;
	my $db = target("load$i");
	$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $db, "$dir/load$i" ], 'is restored');
	wait_for_applier($node, $db);
	wait_sequenced($node, $db);
	my ($all, $distinct, $placed) = split /\|/, numbers($node, $db, 'a');
	is("$all $distinct", "$placed $placed", 'each submission is there once, in order, none is missing');
	cmp_ok($placed, '>=', $started, 'all of those that were committed before');
	sql($node, 'postgres', "DROP DATABASE $db");
}
wait_sequenced($node, 'src');
is(numbers($node, 'src', 'a'), "$to|$to|$to", 'and so it is in the source');

#
# What cannot be restored into it
#
my $none = target('none');
create_extension($node, $none);
my $tx = sql($node, 'src', "SELECT tx_class FROM seq_replay(seq_vshard('a'), 0, 0) LIMIT 1");
like(sql_error($node, $none, "INSERT INTO seq_inbox VALUES (1, 1, 0, '\\x00')"), qr/^(?!XX)\w{5}: /, 'a row that is no submission is refused');
sql($node, $none, "INSERT INTO seq_inbox VALUES (1, 1, 0, '$tx')");
wait_sequenced($node, $none);
is(numbers($node, $none, 'a'), '1|1|1', 'one that is is taken');

$s->quit;
$node->stop;
nothing_crashed($node);
done_testing();

sub slurp_file_of_list
{
	my ($file) = @_;
	my ($out, $err);

	IPC::Run::run([ $node->installed_command('pg_restore'), '-l', $file ], '>', \$out, '2>', \$err) or die $err;
	return [ split /\n/, $out ];
}
