# pg_dump and pg_restore of a database with a log.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(
	'dump',
	'calvin_seq.max_databases' => 20,
	'calvin_seq.snapshot_interval' => 7,
	max_worker_processes => 30);
my $dir = PostgreSQL::Test::Utils::tempdir();
my $txn = [ [ [ 'a', 1 ], [ 'b', 2 ] ], 'ab', 1 ];
my $s;

# Everything that a log can hold, with holes.
sql($node, 'postgres', 'CREATE DATABASE src');
create_extension($node, 'src');
append_batches($node, 'src', 0, 9, [ $txn, $txn ]);
sql($node, 'src', "INSERT INTO seq_log (entry) VALUES (''), ('\\xc1'), ('\\x"
	  . batch_hex(4, 0, $txn) . "'), ('\\x" . ack_hex(3, 0, 1) . "'), ('\\x"
	  . batch_hex(20, 0, $txn) . "')");
sql($node, 'src', "INSERT INTO seq_log (log_index, entry) VALUES (100, ''), (200, '\\x"
	  . batch_hex(21, 0, $txn) . "')");
append_hex($node, 'src', batch_hex(22, 0, map { [ ['big'], unpack('H*', join('', map { chr(int(rand(256))) } 1 .. 20000)), $_ ] } 1 .. 30));
append_batches($node, 'src', 23, 30, [$txn]);
sql($node, 'src', 'CREATE TABLE mine (i int)');
wait_applied($node, 'src');

my $checksum = "SELECT count(*), max(log_index), md5(string_agg(concat_ws(',', log_index, md5(entry), kind, coalesce(epoch, -1), appended_at), ';' ORDER BY log_index)) FROM seq_log";
my $sum = sql($node, 'src', $checksum);
my $state = state($node, 'src');
like($sum, qr/^26\|209\|/, 'a log with all there is, and holes');

sub is_restored
{
	my ($db, $desc) = @_;

	is(sql($node, $db, $checksum), $sum, "$desc: the same rows");
	wait_for_applier($node, $db);
	wait_applied($node, $db);
	is(state($node, $db), $state, "$desc: the same state, by digest");
	append_batches($node, $db, 31, 31, [$txn]);
	ok(wait_for_epoch($node, $db, 31), "$desc: and it goes on");
	is(sql($node, $db, 'SELECT max(log_index) FROM seq_log'), 210, "$desc: where the log ended");
	sql($node, 'postgres', "DROP DATABASE $db");
	return;
}

# A database of which the dump is to be restored; with the extension, if its
# data alone are to come.
sub target
{
	my ($db, $extension) = @_;

	sql($node, 'postgres', "CREATE DATABASE $db");
	create_extension($node, $db) if $extension;
	return $db;
}

sub dump_src
{
	my ($file, @options) = @_;

	$node->command_ok([ 'pg_dump', '-f', "$dir/$file", @options, 'src' ], "pg_dump @options");
	return "$dir/$file";
}

sub restore_plain
{
	my ($db, $file, $desc) = @_;

	$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $db, '-f', $file ], "psql: $desc");
	is_restored($db, $desc);
	return;
}

sub restore
{
	my ($db, $file, $desc, @options) = @_;

	$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $db, @options, $file ], "pg_restore: $desc");
	is_restored($db, $desc);
	return;
}

my $plain = dump_src('plain.sql');
my $data = dump_src('data.sql', '--data-only', '-t', 'seq_log');
my $all_data = dump_src('all_data.sql', '--data-only');
my $inserts = dump_src('inserts.sql', '--rows-per-insert=7');
my $custom = dump_src('custom.dump', '-Fc');
my $parallel = dump_src('directory', '-Fd', '-j2');

restore_plain(target('d1'), $plain, 'plain');
sql($node, target('d2', 1), 'CREATE TABLE mine (i int)');
restore_plain('d2', $all_data, 'plain, --data-only');
restore_plain(target('d3', 1), $data, 'plain, --data-only of the table');
restore_plain(target('d4'), $inserts, 'plain, by INSERT');
restore(target('d5'), $custom, 'custom');
restore(target('d6'), $custom, 'custom, in one transaction', '--single-transaction');
restore(target('d7'), $custom, 'custom, with two jobs', '-j2');
restore(target('d8', 1), $custom, 'custom, --data-only', '--data-only', '-t', 'seq_log');
restore(target('d9'), $parallel, 'directory, with two jobs', '-j2');

# A consumer sees a restored log as it comes: the applier runs meanwhile.
target('d10', 1);
$s = session($node, 'd10');
$s->query("SELECT seq_subscribe('{@{[vshard_of('a')]}}', lossless => false)");
$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', 'd10', '-f', $data ], 'psql, with a consumer');
wait_applied($node, 'd10');
is($s->query("SELECT count(*), count(DISTINCT (epoch, position)), min(epoch), max(epoch) FROM seq_receive(1000, '10s')"),
	'29|29|0|30', 'a consumer of the database receives what is restored');
$s->quit;

# Into a log that has something already: it would become another history.
$node->command_fails_like(
	[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', 'd10', '-f', $data ],
	qr/log_index 1 is not above the end of the log\nDETAIL: .*209/,
	'a log that is not empty takes no restore');
is(sql($node, 'd10', $checksum), $sum, 'and stays as it is');
is(state($node, 'd10'), $state, 'as does the state');

# Without its triggers, rows would get no place in the order.
target('d11', 1);
my $clear = qr/ERROR: .*the triggers of seq_log must stay as they are\n.*HINT: .*--disable-triggers/s;
$node->command_fails_like(
	[ 'pg_restore', '--exit-on-error', '--data-only', '--disable-triggers', '-d', 'd11', '-t', 'seq_log', $custom ],
	$clear, 'pg_restore --disable-triggers says what is wrong');
my $disable = dump_src('disable.sql', '--data-only', '--disable-triggers', '-t', 'seq_log');
$node->command_fails_like(
	[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', 'd11', '-f', $disable ],
	$clear, 'and so does pg_dump --disable-triggers');
is(sql($node, 'd11', 'SELECT count(*) FROM seq_log'), 0, 'nothing went in');
# the table still takes what comes properly
restore('d11', $custom, 'after that', '--data-only', '-t', 'seq_log');

$node->stop;
nothing_crashed($node);
done_testing();
