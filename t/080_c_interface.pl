# Consumers in C, inside the server: built against the installed header, as
# another extension would be.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use File::Copy;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my ($va, $vb) = map { vshard_of($_) } 'a', 'b';
my @txns = ([ [ [ 'a', 1, 2 ], [ 'b', 3 ] ], 'c0ffee', 7 ], [ ['a'], '', 8, { 5 => ['x'] } ]);
my $node = new_node('c_interface', max_worker_processes => 24);
create_extension($node, $db);

# the module
my $dir = PostgreSQL::Test::Utils::tempdir_short();
copy("$FindBin::RealBin/../test/consumer/$_", "$dir/$_") or die "$_: $!" foreach 'Makefile', 'test_consumer.c';
my $pg_config = $node->config_data('--bindir') . '/pg_config';
$node->command_ok([ 'make', '-s', '-C', $dir, "PG_CONFIG=$pg_config", 'with_llvm=no' ], 'a consumer builds');
my $library = "$dir/test_consumer";
sql($node, $db, qq{
CREATE TABLE effects (n serial, line text);
CREATE FUNCTION test_api_version() RETURNS int LANGUAGE c AS '$library';
CREATE FUNCTION test_subscribe(name text, vshards int[], epoch bigint DEFAULT -1, "position" int DEFAULT 0,
	queue_size bigint DEFAULT 0, bare boolean DEFAULT false) RETURNS void LANGUAGE c STRICT AS '$library';
CREATE FUNCTION test_receive(name text, max int DEFAULT 1000) RETURNS text LANGUAGE c STRICT AS '$library';
CREATE FUNCTION test_receive_rolled_back(name text, max int DEFAULT 1000) RETURNS text LANGUAGE c STRICT AS '$library';
CREATE FUNCTION test_position(name text, vshard int) RETURNS text LANGUAGE c STRICT AS '$library';
CREATE FUNCTION test_commit(name text) RETURNS int LANGUAGE c STRICT AS '$library';
CREATE FUNCTION test_rewind(name text) RETURNS void LANGUAGE c STRICT AS '$library';
CREATE FUNCTION test_unsubscribe(name text, vshards int[] DEFAULT '{}') RETURNS int LANGUAGE c STRICT AS '$library';
CREATE FUNCTION test_start_worker(library text, vshard int) RETURNS int LANGUAGE c STRICT AS '$library';
-- a transaction as the module writes it
CREATE FUNCTION line(t seq_txn) RETURNS text LANGUAGE sql RETURN concat_ws('|', t.vshard, t.epoch, t.position,
	t.epoch_system_ms, t.tenant_id, t.participating_vshards, encode(t.plans, 'hex'), encode(t.tx_class, 'hex'));
});
is(sql($node, $db, 'SELECT test_api_version()'), 1, 'the version of the interface');

sub replayed
{
	my ($vshard, $from, $to) = @_;

	return sql($node, $db, "SELECT line(r) FROM seq_replay($vshard, $from, $to) r");
}

#
# Step by step
#
my $s = session($node, $db);
$s->query("SELECT test_subscribe('c', '{$va,$vb,$va}')");
is($s->query("SELECT string_agg(vshard::text, ',' ORDER BY vshard), bool_and(lossless), min(queue_size) FROM seq_subscriptions"),
	"$va,$vb|t|131072", 'a subscription like any other');
is($s->query("SELECT test_receive('c')"), '', 'nothing yet');
append_batches($node, $db, 0, 4, \@txns);
wait_for_epoch($node, $db, 4);
my $received = $s->query("SELECT line FROM regexp_split_to_table(test_receive('c'), '\\n') line WHERE line <> '' ORDER BY split_part(line, '|', 1)::int");
is($received, join("\n", map { replayed($_, 0, 4) } sort { $a <=> $b } $va, $vb),
	'what came is what is replayed, all of it');
is($s->query("SELECT test_position('c', $va), test_position('c', $vb), test_position('c', 1), test_position('nobody', $va)"),
	'5.0|5.0||', 'its position, past all there is');
is($s->query("SELECT last_epoch, last_position, lag FROM seq_subscriptions WHERE vshard = $va"), '4|1|0', 'is published');

# transactions and cursors
append_batches($node, $db, 5, 7, \@txns);
wait_for_epoch($node, $db, 7);
$s->query('BEGIN');
$s->query("SELECT test_receive('c', 4)");
$s->query('ROLLBACK');
is($s->query("SELECT test_position('c', $va)"), '5.0', 'a rollback takes a receive back');
$s->query("BEGIN; SELECT test_receive('c', 1000); SELECT test_rewind('c')");
is($s->query("SELECT test_position('c', $va)"), '5.0', 'as does rewinding');
is($s->query("SELECT count(*) FROM regexp_split_to_table(test_receive('c'), '\\n') line WHERE line <> ''"), 9, 'so that it comes again');
is($s->query("SELECT test_commit('c'); COMMIT"), 2, 'committed');
is(sql($node, $db, 'SELECT vshard, epoch, position FROM seq_cursors ORDER BY vshard'), "$va|8|0\n$vb|8|0", 'the durable cursors');

# the other side of the same subscription
append_batches($node, $db, 8, 8, \@txns);
wait_for_epoch($node, $db, 8);
is($s->query(q{SELECT count(*) FROM seq_receive(name => 'c')}), 3, 'SQL receives for it');
is($s->query(q{SELECT seq_commit('c')}), 2, 'and commits for it');
is($s->query("SELECT test_unsubscribe('c', '{$va}'), test_unsubscribe('c'), test_unsubscribe('c')"), '1|1|0', 'given up');

# in subtransactions of the caller's own
$s->query("SELECT test_subscribe('c', '{$va}', 0)");
is($s->query("SELECT rtrim(test_receive_rolled_back('c', 100000), E'\\n')"), replayed($va, 0, 8),
	'a subtransaction that is rolled back takes back what was received in it');
$s->query("SELECT test_unsubscribe('c')");

# from the past and past a small queue
$s->query("SELECT test_subscribe('c', '{$va}', 3, 1, 8192)");
is($s->query("SELECT test_receive('c', 1)"), (split /\n/, replayed($va, 3, 3))[1], 'from a key on');
append_batches($node, $db, 9, 208, \@txns);
wait_for_epoch($node, $db, 208);
is($s->query("SELECT rtrim(test_receive('c', 100000), E'\\n')"), replayed($va, 4, 208), 'the queue overflowed, the stream is whole');
cmp_ok($s->query('SELECT replayed FROM seq_subscriptions'), '>', 0, 'with the help of the log');

# a bare one
$s->query("SELECT test_unsubscribe('c'), test_subscribe('c', '{$va}', bare => true)");
is($s->query('SELECT lossless FROM seq_subscriptions'), 'f', 'bare');

# errors
my $other = session($node, $db);
$other->query("SELECT test_subscribe('c', '{$va}')");
like($s->error("SELECT test_receive('c')"), qr/^55006: .*taken over by the session with PID @{[$other->pid]}/, 'taken over');
foreach (
	[ "test_receive('c')", qr/^55000: this session has no subscription named "c"/ ],
	[ "test_commit('nobody')", qr/^55000: / ],
	[ "test_rewind('nobody')", qr/^55000: / ],
	[ "test_receive('')", qr/^42602: / ],
	[ "test_subscribe('', '{1}')", qr/^42602: / ],
	[ "test_subscribe(repeat('x', 64), '{1}')", qr/^42622: / ],
	[ "test_subscribe('c', '{1024}')", qr/^22023: vshard 1024 is out of range/ ],
	[ "test_subscribe('c', '{}')", qr/^22023: at least one vshard/ ],
	[ "test_subscribe('c', '{1}', queue_size => 8191)", qr/^22023: queue_size 8191 is out of range/ ],
	[ "test_subscribe('c', '{1}', queue_size => -1)", qr/^22023: queue_size \d+ is out of range/ ],
	[ "test_subscribe('c', '{1}', -2)", qr/^22023: epoch 18446744073709551614 is out of range/ ],
	[ "test_subscribe('c', '{1}', 0, bare => true)", qr/^22023: a first key needs a lossless/ ])
{
	like($s->error("SELECT $_->[0]"), $_->[1], "refused: $_->[0]");
}
$_->quit foreach $s, $other;

#
# In a background worker, through all that happens to it
#
my $pid = sql($node, $db, "SELECT test_start_worker('$library', $va)");
sub worker_has
{
	my ($epoch, $desc) = @_;
	my $wanted = replayed($va, 209, $epoch);

	wait_for_epoch($node, $db, $epoch);
	wait_for_sql($node, $db, 'SELECT count(*) FROM effects', scalar(split /\n/, $wanted));
	is(sql($node, $db, 'SELECT line FROM effects ORDER BY n'), $wanted, $desc);
	return;
}
wait_for_sql($node, $db, "SELECT query FROM pg_stat_activity WHERE pid = $pid", 'waiting for transactions');
append_batches($node, $db, 209, 215, \@txns);
worker_has(215, 'a worker executes what comes');
is(sql($node, $db, "SELECT backend_xmin IS NULL FROM pg_stat_activity WHERE pid = $pid"), 't', 'and holds no snapshot between');

# an error in the middle: the effects of that transaction and its position go
sql($node, $db, "ALTER TABLE effects ADD CONSTRAINT refused CHECK (line NOT LIKE '%|218|%')");
append_batches($node, $db, 216, 220, \@txns);
wait_for_log_line($node, qr/ERROR: .*violates check constraint "refused"/, 0);
sql($node, $db, 'ALTER TABLE effects DROP CONSTRAINT refused');
worker_has(220, 'restarted after an error, it goes on at its cursor');

# the applier ends
kill 'TERM', applier_pid($node, $db);
append_batches($node, $db, 221, 225, \@txns);
worker_has(225, 'when the applier is restarted');

# a crash
$node->stop('immediate');
$node->start;
wait_for_applier($node, $db);
append_batches($node, $db, 226, 230, \@txns);
sql($node, $db, "SELECT test_start_worker('$library', $va)");
worker_has(230, 'after a crash of the server');

$node->stop;
nothing_crashed($node);
done_testing();
