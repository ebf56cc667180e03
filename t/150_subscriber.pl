# Logical replication of everything, FOR ALL TABLES: what a subscriber takes of the
# extension's tables is the log, in the right order and of the right kinds; nothing
# that is done at the source stops it, or touches what is the subscriber's own.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $va = vshard_of('a');
my $source = new_node('source', -streaming => 1, wal_level => 'logical', 'calvin_seq.snapshot_interval' => 5);
my $copy = new_node('copy', 'calvin_seq.snapshot_interval' => 0);
my $other = new_node('other');
my $connstr = $source->connstr($db) =~ s/'/''/gr;
my $txn = [ ['a'], 'ab', 1 ];

create_extension($_) foreach $source, $copy, $other;
sql($_, $db, 'CREATE TABLE mark (x int PRIMARY KEY); CREATE ROLE boss') foreach $source, $copy, $other;

my @tables = split /\n/, sql($source, $db, <<'SQL');
SELECT c.relname FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e'
WHERE relkind = 'r' AND c.relname <> 'seq_log' ORDER BY 1
SQL
cmp_ok(scalar @tables, '>=', 8, 'side tables, by the catalogs');

# All there is in them.
sub contents
{
	my ($node) = @_;

	return join "\n", map { "$_: " . sql($node, $db, "SELECT coalesce(string_agg(t::text, ' ' ORDER BY t::text), '') FROM $_ t") } @tables;
}

sub fill
{
	my ($node, $epochs) = @_;
	my $s = session($node, $db);

	append_batches($node, $db, 0, $epochs - 1, [ $txn, $txn ]) if $epochs > 0;
	wait_applied($node, $db);
	$s->query("SELECT seq_subscribe('{$va}', 'plain', from_epoch => 0); BEGIN; SELECT count(*) FROM seq_receive(3, '10s', 'plain'); SELECT seq_commit('plain'); COMMIT");
	$s->query("SELECT seq_register('worker', '{$va}', 0); SELECT seq_create_group('group', 2, from_epoch => 0)");
	$s->query("SELECT seq_park('group', vshard, epoch, position, 'for now') FROM (SELECT * FROM seq_fetch('group', 2)) f");
	$s->query('CREATE FUNCTION handler(seq_txn) RETURNS void LANGUAGE sql AS $$ SELECT $$');
	$s->query("SELECT seq_create_group('handled', 2); SELECT seq_handle('handled', 'handler(seq_txn)')");
	$s->query('SELECT seq_snapshot()') if $epochs > 0;
	$s->quit;
	return;
}

# Wait until all that was committed on the source so far has come.
my $marks = 0;
sub wait_for_copy
{
	my ($node) = @_;

	$marks++;
	sql($source, $db, "INSERT INTO mark VALUES ($marks)");
	wait_for_sql($node, $db, "SELECT count(*) FROM mark WHERE x = $marks", '1');
	return;
}

sub log_of { my ($node, $from) = @_; return sql($node, $db, "SELECT string_agg(concat_ws(' ', log_index, md5(entry), kind, epoch), E'\\n' ORDER BY log_index) FROM seq_log WHERE log_index >= $from") }

# What the source has is copied first, then followed.
fill($source, 12);
is(sql($source, $db, 'SELECT count(*) > 0 FROM ' . join(' CROSS JOIN ', grep { !/^seq_(?:inbox|following|follower_positions|outgoing_acks|group_starts|vshard_moves)$/ } @tables)), 't', 'all of them have rows at the source');
# what the copy has of its own, under the names that the source uses too
sql($copy, $db, 'CREATE TABLE own AS SELECT 1 AS x');
my $c = session($copy, $db);
$c->query("INSERT INTO seq_cursor_positions SELECT 'plain', $va, 0, 1, v, now(), 0, 0 FROM generate_series(1, 1) v");
$c->query("SELECT seq_create_group('group', 2, vshards => '{$va}', from_epoch => 0)");
$c->query("INSERT INTO seq_handler_definitions SELECT name, id, 1, 'public', 'none', false, 10, 'postgres', 1, 5, 100, 100, now(), 'postgres' FROM seq_registrations WHERE name = 'group'");
my $own = contents($copy);

sql($source, $db, 'CREATE PUBLICATION everything FOR ALL TABLES');
sql($copy, $db, "CREATE SUBSCRIPTION everything CONNECTION '$connstr' PUBLICATION everything");
wait_for_sql($copy, $db, "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel", 't');
wait_for_copy($copy);
is(log_of($copy, 1), log_of($source, 1), 'the log is copied as it is');
is(contents($copy), $own, 'nothing of the source\'s other tables');
wait_applied($copy, $db);
is(state($copy, $db), state($source, $db), 'the same state, by digest');

# Rows that come out of order, in one transaction or two.
my @late = map { unpack 'H*', pack 'H*', batch_hex($_, 0, $txn) } 12 .. 20;
sql($source, $db, "INSERT INTO seq_log (log_index, entry) VALUES (40, '\\x$late[4]'), (30, '\\x$late[2]'), (35, '\\x$late[2]'), (20, '\\x$late[0]'), (38, '\\x$late[3]'), (39, '\\x$late[1]')");
sql($source, $db, "BEGIN; INSERT INTO seq_log (log_index, entry) VALUES (60, '\\x$late[7]'); INSERT INTO seq_log (log_index, entry) VALUES (50, '\\x$late[8]'); COMMIT");
sql($source, $db, "BEGIN; INSERT INTO seq_log (log_index, entry) VALUES (80, '\\x$late[8]'); SAVEPOINT s; INSERT INTO seq_log (log_index, entry) VALUES (70, '\\x$late[8]'); ROLLBACK TO s; INSERT INTO seq_log (log_index, entry) VALUES (71, ''); COMMIT");
wait_for_copy($copy);
like(log_of($source, 20), qr/^20 \S+ epoch_batch.*\n30 \S+ epoch_batch.*\n35 \S+ stale_batch.*\n38 \S+ epoch_batch.*\n39 \S+ stale_batch.*\n40 \S+ epoch_batch.*\n50 \S+ epoch_batch.*\n60 \S+ stale_batch/, 'out of order at the source');
is(log_of($copy, 1), log_of($source, 1), 'of the same kinds where they are copied to');
wait_applied($_, $db) foreach $source, $copy;
is(state($copy, $db), state($source, $db), 'and the same state');

# Everything that changes the source's tables.
my $s = session($source, $db);
$s->query("SELECT seq_subscribe('{$va}', 'plain'); BEGIN; SELECT count(*) FROM seq_receive(100, '10s', 'plain'); SELECT seq_commit('plain'); COMMIT");
$s->query("SELECT seq_subscribe('{$va}', 'worker'); BEGIN; SELECT count(*) FROM seq_receive(100, '10s', 'worker'); SELECT seq_commit('worker'); COMMIT");
$s->query("SELECT seq_drop_parked('group', vshard, epoch, position) FROM seq_parked LIMIT 1");
$s->query("SELECT count(*) FROM seq_fetch('group', 1000)");
$s->query("SELECT seq_unhandle('handled'); SELECT seq_drop_group('handled'); SELECT seq_unregister('worker')");
$s->query('SELECT seq_snapshot()');
cmp_ok($s->query('SELECT seq_truncate(14, force => true)'), '>', 5, 'the source is truncated');
$s->query("UPDATE seq_cursor_positions SET position = position; UPDATE seq_group_positions SET delivered = delivered; UPDATE seq_registrations SET name = name; UPDATE seq_parked_txns SET reason = 'changed'");
wait_for_copy($copy);
pass('and the subscription goes on');
is(contents($copy), $own, 'without any of it');
is(log_of($copy, 60), log_of($source, 60), 'the log is the same from where the source\'s begins,');
is(sql($copy, $db, 'SELECT min(log_index) FROM seq_log'), 1, 'and the copy keeps what it has');
append_batches($source, $db, 21, 23, [$txn]);
wait_for_copy($copy);
wait_applied($_, $db) foreach $source, $copy;
is(state($copy, $db), state($source, $db), 'later entries come, to the same state');
is(sql($copy, $db, 'SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL'), 1, 'by the same worker');
unlike(slurp_file($copy->logfile), qr/ERROR/, 'which has met no error');
is(sql($copy, $db, "SELECT seq_truncate(10, force => true) > 0"), 't', 'the copy truncates for itself');

# The same rows as the source's, so that all that is done to them would meet them.
$c->query("SELECT seq_drop_cursor('plain')");
foreach my $table (grep { !/^seq_(?:identity|handler|inbox|snapshots|following)/ } @tables)
{
	$c->query("DELETE FROM $table");
	$source->command_ok([ 'pg_dump', '-a', '-t', $table, '-f', "${\$source->basedir}/$table.sql", $db ], "dump of $table");
	$copy->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $db, '-f', "${\$source->basedir}/$table.sql" ], "and restore of $table");
}
$own = contents($copy);
$s->query("UPDATE seq_cursor_positions SET position = position + 1; UPDATE seq_group_positions SET delivered = delivered + 1; UPDATE seq_registrations SET lost_before = 1; UPDATE seq_parked_txns SET reason = 'changed again'");
$s->query('DELETE FROM seq_cursor_positions; DELETE FROM seq_parked_txns; DELETE FROM seq_group_positions; DELETE FROM seq_registrations');
wait_for_copy($copy);
is(contents($copy), $own, 'rows of the same keys stay as they are');

# Nothing can be truncated that would stop a subscriber.
foreach my $table ('seq_log', @tables)
{
	like($s->error("TRUNCATE $table"), qr/^55000: cannot TRUNCATE $table/, "TRUNCATE $table");
	like($s->error("SET session_replication_role = replica; TRUNCATE $table CASCADE"), qr/^55000: cannot TRUNCATE $table/, "TRUNCATE $table as replica");
	$s->query('RESET session_replication_role');
}
sql($copy, $db, 'DROP SUBSCRIPTION everything');

# A restore is none, whatever it sets.
my $file = $source->basedir . '/whole.sql';
$source->command_ok([ 'pg_dump', '-a', '--exclude-table=mark', '-f', $file, $db ], 'a dump');
sql($other, $db, 'CREATE DATABASE restored');
create_extension($other, 'restored');
my $sql = slurp_file($file);
open my $out, '>', $file or die $!;
print $out "SET session_replication_role = replica;\n$sql";
close $out;
$other->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', 'restored', '-f', $file ], 'is restored under session_replication_role');
is(sql($other, 'restored', 'SELECT (SELECT count(*) FROM seq_identity), (SELECT count(*) > 0 FROM seq_snapshots)'), '1|t', 'with what is about it');
wait_for_applier($other, 'restored');
wait_applied($other, 'restored');
is(state($other, 'restored'), state($source, $db), 'to the same state');

# A copy of a log that was truncated: its beginning is carried by hand.
$source->command_ok([ 'pg_dump', '-a', '-t', 'seq_snapshots', '-f', $source->basedir . '/snapshots.sql', $db ], 'the base snapshot is dumped');
sql($source, $db, q{CREATE PUBLICATION log FOR TABLE seq_log, mark WITH (publish = 'insert')});
sql($other, $db, "CREATE SUBSCRIPTION late CONNECTION '$connstr' PUBLICATION log");
wait_for_sql($other, $db, "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel", 't');
wait_for_copy($other);
is(sql($other, $db, 'SELECT applier_state FROM seq_state'), 'waiting for the base snapshot', 'a copy waits for it');
$other->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $db, '-f', $source->basedir . '/snapshots.sql' ], 'and restored');
append_batches($source, $db, 24, 24, [$txn]);
wait_for_copy($other);
wait_applied($_, $db) foreach $source, $other;
is(state($other, $db), state($source, $db), 'from where it is the same state');

# Who has entries of his own is no copy: that is told, and how to go on.
my $offset = log_offset($other);
sql($other, $db, "SELECT seq_append('')");
append_batches($source, $db, 25, 25, [$txn]);
wait_for_log_line($other, qr/HINT: .*publish without seq_log/, $offset);
pass('a copy that got an entry of its own says what is wrong');
sql($source, $db, 'CREATE PUBLICATION rest FOR TABLE mark');
sql($other, $db, "DROP SUBSCRIPTION late; CREATE SUBSCRIPTION late CONNECTION '$connstr' PUBLICATION rest WITH (copy_data = off)");
wait_for_copy($other);
pass('and other tables go on without the log');

sql($other, $db, 'DROP SUBSCRIPTION late');
$_->quit foreach $s, $c;
$_->stop foreach $source, $copy, $other;
nothing_crashed($_, 0) foreach $source, $copy, $other;
done_testing();
