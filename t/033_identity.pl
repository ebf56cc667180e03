# Which log this is: what speaks of another one is not believed.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('identity', -streaming => 1, 'calvin_seq.max_databases' => 20, 'calvin_seq.snapshot_interval' => 0,
	max_worker_processes => 30);
my $dir = PostgreSQL::Test::Utils::tempdir();
my $txn = [ [ [ 'a', 1 ] ], 'ab', 1 ];
my $other = [ [ [ 'a', 2 ], [ 'b', 1 ] ], 'cd', 2 ];
my $identity = 'SELECT identity FROM seq_identity';

sub database
{
	my ($db) = @_;

	sql($node, 'postgres', "CREATE DATABASE $db");
	create_extension($node, $db);
	return;
}

sub dump_of
{
	my ($db, $file, @options) = @_;

	$node->command_ok([ 'pg_dump', '-f', "$dir/$file", @options, $db ], "pg_dump @options $db");
	return "$dir/$file";
}

# Errors are looked for by the caller.
sub restore
{
	my ($db, $file) = @_;
	my ($ret, $out, $err) = $node->psql($db, '', extra_params => [ '-f', $file ]);

	return $err;
}

# seq_identity itself
database('a');
is(sql($node, 'a', $identity), '', 'a log without entries has no identity');
sql($node, 'a', "INSERT INTO seq_log (log_index, entry) VALUES (1, '')");
is(sql($node, 'a', $identity), '', 'and none by an explicit log_index');
append_batches($node, 'a', 0, 7, [$txn]);
my $a = sql($node, 'a', $identity);
like($a, qr/^[0-9a-f-]{36}$/, 'it has one with what is appended here');
# both logs have a no-op at log_index 10
sql($node, 'a', "INSERT INTO seq_log (entry) VALUES ('')");
append_batches($node, 'a', 8, 9, [$txn]);
is(sql($node, 'a', $identity), $a, 'the same ever after');
foreach my $sql ('UPDATE seq_identity SET identity = gen_random_uuid()', 'DELETE FROM seq_identity', 'TRUNCATE seq_identity',
	'INSERT INTO seq_identity (identity) VALUES (gen_random_uuid())')
{
	like(sql_error($node, 'a', $sql), qr/^55000: .*DETAIL: /s, "refused: $sql");
}
my $s = session($node, 'a');
database('rolled_back');
sql($node, 'rolled_back', "BEGIN; INSERT INTO seq_log (entry) VALUES (''); ROLLBACK");
is(sql($node, 'rolled_back', $identity), '', 'rolled back with the entry');
sql($node, 'rolled_back', "INSERT INTO seq_log (entry) VALUES ('')");
isnt(sql($node, 'rolled_back', $identity), '', 'and given with the next');
$s->quit;

#
# Snapshots
#
wait_applied($node, 'a');
sql($node, 'a', 'SELECT seq_snapshot()');
is(sql($node, 'a', 'SELECT log_index, identity = (SELECT identity FROM seq_identity) FROM seq_snapshots'), '12|t', 'a snapshot names its log');
sql($node, 'a', "INSERT INTO seq_snapshots SELECT 10, 7, digest, digest_version, taken_at, false, 0, 0, identity FROM seq_snapshots");
my $snapshots = dump_of('a', 'snapshots.sql', '--data-only', '-t', 'seq_snapshots');
my $all = dump_of('a', 'all.sql');
my $data = dump_of('a', 'data.sql', '--data-only');
my $without_log = dump_of('a', 'without_log.sql', '--exclude-table-data=seq_log');
my $archive = dump_of('a', 'directory', '-Fd', '-j2');

# of another log, which is longer
database('b');
append_batches($node, 'b', 0, 8, [$other]);
sql($node, 'b', "INSERT INTO seq_log (entry) VALUES ('')");
append_batches($node, 'b', 9, 30, [$other]);
restore('b', $snapshots);
is(sql($node, 'b', 'SELECT count(*) FROM seq_snapshots'), 2, 'snapshots of another log were restored');
like(restore('b', $data), qr/this log has an identity already.*HINT: +Restore into a fresh database/s, 'its identity is not');

# a copy without the log's rows, which goes its own way
sql($node, 'postgres', 'CREATE DATABASE c');
restore('c', $without_log);
wait_for_applier($node, 'c');
is(sql($node, 'c', $identity), $a, 'a copy without the log');
append_batches($node, 'c', 0, 8, [$other]);
sql($node, 'c', "INSERT INTO seq_log (entry) VALUES ('')");
append_batches($node, 'c', 9, 30, [$other]);
isnt(sql($node, 'c', $identity), $a, 'is another log as soon as it has entries of its own');

# copies
sql($node, 'postgres', "CREATE DATABASE $_") foreach 'd', 'e';
database('f');
restore('d', $all);
$node->command_ok([ 'pg_restore', '--exit-on-error', '-j2', '-d', 'e', $archive ], 'pg_restore -j2');
is(restore('f', $data), '', 'data alone, into a fresh extension');
foreach my $db ('d', 'e', 'f')
{
	wait_for_applier($node, $db);
	wait_applied($node, $db);
	is(sql($node, $db, $identity), $a, "$db: a restored log has its identity");
	is(state($node, $db), state($node, 'a'), "$db: and the same state");
}

# After a restart all begin with the snapshots that are theirs.
my %before;
foreach my $db ('a' .. 'f')
{
	wait_applied($node, $db);
	$before{$db} = state($node, $db);
}
is($before{b}, $before{c}, 'two databases with the same entries');
$node->restart;
foreach my $db ('a' .. 'f')
{
	wait_for_applier($node, $db);
	wait_applied($node, $db);
	is(state($node, $db), $before{$db}, "$db: the same state after a restart");
}
# The wrong snapshot of a at 10 was not used there, since that at 12 is newer.
sql($node, 'a', 'DELETE FROM seq_snapshots WHERE log_index = 12');

#
# Databases with the same OIDs: a standby learns of the exchange by replay
#
database('template');
$node->backup('start');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'start', has_streaming => 1);
$standby->start;
sql($node, 'postgres', 'CREATE DATABASE x TEMPLATE template');
my $oid = sql($node, 'postgres', "SELECT oid FROM pg_database WHERE datname = 'x'");
wait_for_applier($node, 'x');
append_batches($node, 'x', 0, 20, [$txn]);
wait_for_sql($standby, 'x', 'SELECT last_applied_index FROM seq_state', 21);
sql($standby, 'postgres', 'SELECT pg_wal_replay_pause()');
wait_for_sql($standby, 'postgres', 'SELECT pg_get_wal_replay_pause_state()', 'paused');
my $log = sql($node, 'x', q{SELECT 'seq_log'::regclass::oid});
sql($node, 'postgres', $_) foreach 'DROP DATABASE x', "CREATE DATABASE x OID = $oid TEMPLATE template";
is(sql($node, 'x', q{SELECT 'seq_log'::regclass::oid}), $log, 'another log of the same OID');
wait_for_applier($node, 'x');
append_batches($node, 'x', 0, 8, [$other]);
sql($node, 'x', "INSERT INTO seq_log (entry) VALUES ('')");
append_batches($node, 'x', 9, 30, [$other]);
wait_applied($node, 'x');
is(state($node, 'x'), $before{b}, 'the primary has its state');
sql($standby, 'postgres', 'SELECT pg_wal_replay_resume()');
wait_for_sql($standby, 'x', 'SELECT last_applied_index FROM seq_state', 32);
is(state($standby, 'x'), $before{b}, 'and so has the standby');

#
# A state from a snapshot is shown when it is durable
#
sql($node, 'b', 'SELECT seq_snapshot()');
$node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
$node->restart;
wait_for_sql($node, 'b', "SELECT applier_state FROM seq_state", 'waiting for durability');
is(sql($node, 'b', 'SELECT last_applied_index, last_applied_epoch IS NULL FROM seq_state'), '0|t', 'nothing is shown before');
sql($node, 'postgres', q{ALTER SYSTEM SET synchronous_standby_names = ''});
sql($node, 'postgres', 'SELECT pg_reload_conf()');
wait_applied($node, 'b');
is(state($node, 'b'), $before{b}, 'and then it is');
nothing_crashed($_) foreach $node, $standby;
done_testing();
