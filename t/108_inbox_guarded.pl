# What commands do to the inbox's heaps while something waits in them: it is refused,
# or it changes nothing.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinSequencer;
use CalvinSubmit;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', allow_in_place_tablespaces => 'on', log_line_prefix => '%p %b ');
my $db = 'postgres';
my $hold;

create_extension($node);
create_sent($node, $db);
sql($node, $db, "CREATE TABLESPACE aside LOCATION ''");
sql($node, $db, 'CREATE SCHEMA elsewhere; CREATE ROLE somebody');

my $from = 1;
# the heap that a transaction with many bytes has written to, to which all go now
my $heap;
my $written = "SELECT relation::regclass FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'RowExclusiveLock' AND relation::regclass::text ~ '^seq_inbox_[0-9]'";

# What the heaps are like: but for where they are stored.
sub shape
{
	return sql($node, $db,
		"SELECT string_agg(concat_ws(' ', oid, relname, relkind, relnamespace, relowner, relpersistence, relam, reltablespace, relispopulated, relhasindex, relrowsecurity, relnatts, reloptions, "
		  . "(SELECT string_agg(concat_ws(' ', attname, atttypid, attstorage, attcompression, attisdropped), ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0)), ' ' ORDER BY oid) "
		  . "FROM pg_class c WHERE relname ~ '^seq_inbox_[0-9]'");
}

# With rows waiting, one of them in chunks; then whatever comes must find them.
sub waiting
{
	$hold = hold_log($node, $db);
	$from = sql($node, $db, "SELECT count(*) + 1 FROM sent WHERE collection = 'a'");
	sql($node, $db, filled('a', $from, 5, 30));
	$heap = sql($node, $db, 'BEGIN; ' . filled('a', $from + 5, 2, 700000) . "; $written; COMMIT");
	return;
}

sub are_there
{
	my ($desc) = @_;

	$hold->query('ROLLBACK');
	$hold->quit;
	wait_sequenced($node, $db);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $n = $from + 6;
	return is(numbers($node, $db, 'a'), "$n|$n|$n", "$desc: what waited is sequenced");
}

my $shape = shape();

#
# Refused
#
waiting();
my %refused = (
	'REFRESH MATERIALIZED VIEW seq_inbox_0' => '55000',
	'REFRESH MATERIALIZED VIEW seq_inbox_0 WITH NO DATA' => '55000',
	'REFRESH MATERIALIZED VIEW CONCURRENTLY seq_inbox_0' => '\w{5}',
	'DROP MATERIALIZED VIEW seq_inbox_0' => '2BP01',
	'DROP MATERIALIZED VIEW seq_inbox_0 CASCADE' => '2BP01',
	'SELECT * FROM seq_inbox_0' => '55000',
	'TABLE seq_inbox_7' => '55000',
	# from 18 on those that are populated can be copied
	'COPY seq_inbox_0 TO STDOUT' => $node->pg_version < 18 ? '42809' : '0A000',
	'COPY (SELECT * FROM seq_inbox_0) TO STDOUT' => '55000',
	"COPY seq_inbox_0 FROM STDIN;\n\\.\n" => '42809',
	"INSERT INTO seq_inbox_0 VALUES (1, 1, 1, 'p', '')" => '42809',
	'UPDATE seq_inbox_0 SET stamp = 1' => '42809',
	'DELETE FROM seq_inbox_0' => '42809',
	'TRUNCATE seq_inbox_0' => '42809',
	'BEGIN; LOCK TABLE seq_inbox_0' => '42809',
	'ALTER MATERIALIZED VIEW seq_inbox_0 RENAME TO other' => '55000',
	'ALTER MATERIALIZED VIEW seq_inbox_0 RENAME COLUMN stamp TO other' => '55000',
	'ALTER MATERIALIZED VIEW seq_inbox_0 SET SCHEMA elsewhere' => '\w{5}',
	'ALTER MATERIALIZED VIEW seq_inbox_0 ALTER COLUMN data SET STORAGE EXTENDED' => '55000');
foreach my $command (sort keys %refused)
{
	like(sql_error($node, $db, $command =~ s/seq_inbox_0/$heap/gr), qr/^$refused{$command}: /, "refused: $command");
	is(shape(), $shape, 'nothing has changed');
}
are_there('refused');

# Also where the event trigger is off.
waiting();
my $s = session($node, $db);
$s->query('SET session_replication_role = replica');
like($s->error("REFRESH MATERIALIZED VIEW $heap"), qr/^55000: /, 'REFRESH under session_replication_role');
$s->quit;
are_there('session_replication_role');

#
# Allowed, and changing nothing
#
foreach my $command (
	'VACUUM seq_inbox_0', 'VACUUM (FREEZE) seq_inbox_0', 'VACUUM (FULL) seq_inbox_0', 'VACUUM (FULL, FREEZE, ANALYZE) seq_inbox_0',
	'VACUUM (TRUNCATE, INDEX_CLEANUP ON, DISABLE_PAGE_SKIPPING) seq_inbox_0', 'VACUUM FREEZE', 'ANALYZE seq_inbox_0', 'ANALYZE',
	'REINDEX TABLE seq_inbox_0', 'VACUUM FULL seq_inbox', 'CLUSTER seq_inbox USING seq_inbox_pkey', 'REINDEX TABLE CONCURRENTLY seq_inbox', 'TRUNCATE seq_inbox',
	'ALTER MATERIALIZED VIEW seq_inbox_0 SET TABLESPACE aside', 'ALTER MATERIALIZED VIEW seq_inbox_0 SET TABLESPACE pg_default',
	'ALTER MATERIALIZED VIEW seq_inbox_0 SET (autovacuum_enabled = true)', 'ALTER MATERIALIZED VIEW seq_inbox_0 SET (autovacuum_enabled = false)',
	'ALTER MATERIALIZED VIEW seq_inbox_0 SET (fillfactor = 10)', 'ALTER MATERIALIZED VIEW seq_inbox_0 RESET (fillfactor)',
	'CREATE INDEX mine ON seq_inbox_0 (stamp)', 'ALTER MATERIALIZED VIEW seq_inbox_0 OWNER TO somebody', 'CHECKPOINT')
{
	my $error;

	waiting();
	$error = sql_error($node, $db, $command =~ s/seq_inbox_0/$heap/gr);
	note("$command: $error") if $error ne '';
	like($error, qr/^$|^(?!XX)\w{5}: /, "allowed, or refused: $command");
	are_there($command);
	sql($node, $db, 'DROP INDEX IF EXISTS mine; CREATE TABLE unrelated (i int); DROP TABLE unrelated');
}
pass('and other tables can be made after each of them');
is(sql($node, $db, 'SELECT count(*) FROM seq_inbox'), 0, 'seq_inbox is empty still');

# What had been written by its rows' own transaction before somebody rewrote it.
$s = session($node, $db);
$s->query('BEGIN; ' . filled('b', 1, 5, 500000));
$heap = $s->query($written);
like(sql_error($node, $db, "SET lock_timeout = '100ms';\nVACUUM FULL $heap"), qr/^55P03: /, 'a heap with chunks that are not committed is not rewritten meanwhile');
$s->query('COMMIT');
wait_sequenced($node, $db);
is(numbers($node, $db, 'b'), '5|5|5', 'they are sequenced');
$s->quit;

$node->restart;
waiting();
are_there('after all of it, restarted');
$node->stop;
nothing_crashed($node);
log_has_no($node, qr/calvin_seq sequencer (?:ERROR|FATAL|PANIC)(?!.*administrator command)/, 'the sequencer has met no error');
done_testing();
