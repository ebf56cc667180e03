# Without shared_preload_libraries, and under pg_upgrade.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $txn = [ [ [ 'a', 1 ], [ 'b', 2 ] ], 'ab', 1 ];
my $va = vshard_of('a');
my $node = new_node('plain', -preload => 0);

sub workers
{
	my ($node) = @_;

	return sql($node, 'postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'calvin%'");
}

my $checksum = "SELECT count(*), md5(string_agg(concat_ws(',', log_index, encode(entry, 'hex'), kind, epoch, appended_at), ';' ORDER BY log_index)) FROM seq_log";

#
# What works
#
my $s = session($node, 'postgres');
$s->query('CREATE EXTENSION calvin_seq');
is($s->query("SELECT seq_append('\\x" . batch_hex(0, 5, $txn) . "')"), 1, 'seq_append');
is($s->query(q{SELECT seq_append_json('{"EpochBatch": {"epoch": 1, "epoch_system_ms": 6, "txns": []}}')}),
	2, 'seq_append_json');
is($s->query("INSERT INTO seq_log (entry) VALUES (''), ('\\xc1') RETURNING log_index, kind"),
	"3|noop\n4|undecodable", 'INSERT');
$s->query("COPY seq_log (entry) FROM stdin;\n\\\\x"
	  . batch_hex(2, 7, $txn, $txn) . "\n\\\\x" . ack_hex(2, 0, $va) . "\n\\.\n");
is($s->query('SELECT log_index, kind, epoch FROM seq_log WHERE log_index > 4 ORDER BY 1'),
	"5|epoch_batch|2\n6|completion_ack|2", 'COPY');
is($s->query("SELECT seq_decode(seq_encode('{\"CompletionAck\": {\"epoch\": 1, \"position\": 2, \"vshard_id\": 3}}')) #>> '{CompletionAck,position}'"),
	2, 'seq_encode and seq_decode');
is($s->query("SELECT seq_vshard('a')"), $va, 'seq_vshard');
is($s->query('SELECT seq_current_committed_epoch()'), 2, 'seq_current_committed_epoch');
my $replay = "SELECT vshard, epoch, position, epoch_system_ms FROM seq_replay($va, 0, 100)";
my $rows = "$va|0|0|5\n$va|2|0|7\n$va|2|1|7";
is($s->query($replay), $rows, 'seq_replay');
like($s->error('DELETE FROM seq_log'), qr/^55000: .*append-only/, 'the log is append-only');
like($s->error("SELECT seq_append('\\x" . batch_hex(7, 5) . "')"), qr/^[^\n]*epoch/, 'seq_append checks the epoch');

#
# What does not
#
foreach my $sql (
	'SELECT seq_last_applied_epoch()',
	'SELECT seq_next_epoch()',
	"SELECT seq_wait_for_epoch(0, '1s')",
	"SELECT seq_subscribe('{1}', lossless => false)",
	'SELECT seq_unsubscribe()',
	'SELECT * FROM seq_receive()',
	'SELECT seq_receive_batch()',
	'SELECT * FROM seq_subscriptions',
	'SELECT * FROM seq_state',
	'SELECT * FROM seq_metrics',
	'SELECT seq_metrics_reset()',
	"SELECT seq_send('a', '{}')",
	"SELECT seq_send_bytes('a', '')",
	"SELECT seq_submit('{}')",
	"SELECT seq_submit_encoded('')")
{
	like($s->error($sql), qr/^55000: .*\n(DETAIL: .*\n)?HINT: .*shared_preload_libraries/,
		"$sql says what is missing");
}

# The hooks of a library that was loaded late.
$s->query('DISCARD ALL');
$s->query('CREATE DATABASE other');
$s->query('ALTER DATABASE other RENAME TO another; CREATE DATABASE copy TEMPLATE another; DROP DATABASE another; DROP DATABASE copy');
my $late = session($node, 'postgres');
$late->query("LOAD 'calvin_seq'");
$late->query('CREATE DATABASE other; ALTER DATABASE other RENAME TO another; DROP DATABASE another; DISCARD ALL');
like($late->error('SELECT * FROM seq_state'), qr/^55000: /, 'LOAD is not enough');
$late->quit;
$s->query('BEGIN; DROP EXTENSION calvin_seq; ROLLBACK');
pass('commands on databases and extensions work');
is(workers($node), 0, 'no worker runs');
$s->quit;

#
# Preloading it then
#
my $sum = sql($node, 'postgres', $checksum);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'calvin_seq'");
$node->restart;
wait_for_applier($node, 'postgres');
wait_for_epoch($node, 'postgres', 2);
wait_applied($node, 'postgres');
is(sql($node, 'postgres', 'SELECT last_applied_epoch, last_applied_index FROM seq_state'),
	'2|6', 'once it is preloaded, the applier catches up');
is(sql($node, 'postgres', 'SELECT epochs_applied, entries_noop, entries_undecodable, completion_acks FROM seq_metrics'),
	'3|1|1|1', 'with all that is in the log');
is(sql($node, 'postgres', $replay), $rows, 'and the streams are the same');
$s = session($node, 'postgres');
$s->query("SELECT seq_subscribe('{$va}', lossless => false)");
append_batches($node, 'postgres', 3, 3, [$txn]);
is($s->query("SELECT epoch FROM seq_receive(10, '10s')"), 3, 'and it goes on');
$s->quit;
append_hex($node, 'postgres', batch_hex(4, 1, map { [ ['a'], 'ab' x 5000, $_ ] } 1 .. 20));
wait_for_epoch($node, 'postgres', 4);
my $state = state($node, 'postgres');
$sum = sql($node, 'postgres', $checksum);

my $triggers = "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'seq_log'::regclass UNION ALL SELECT evtname, evtenabled FROM pg_event_trigger ORDER BY 1";
my $had_triggers = sql($node, 'postgres', $triggers);
like($had_triggers, qr/^(seq_log_\w+\|A\n?){4,}$/, 'triggers that always fire');

# And back: a server that does not preload it any more can still drop it.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
is(workers($node), 0, 'no worker without preload');
sql($node, 'postgres', 'CREATE DATABASE copy TEMPLATE postgres');
sql($node, 'copy', 'DROP EXTENSION calvin_seq');
sql($node, 'postgres', 'DROP DATABASE copy');
pass('DROP EXTENSION without preload');

#
# Binary upgrade mode
#
sql($node, 'postgres', 'CREATE INDEX mine ON seq_log (appended_at)');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'calvin_seq'");
$node->stop;
system_or_bail('pg_ctl', '-w', '-D', $node->data_dir, '-l', $node->logfile, '-o', '-b', 'start');
is(workers($node), 0, 'no worker runs in binary upgrade mode');
is(sql($node, 'postgres', $replay . ' WHERE epoch < 3'), $rows, 'but the log can be read');
# indexes and triggers are the extension's too, but not those that somebody has added
my $parts = "SELECT string_agg(pg_describe_object(classid, objid, 0), ', ' ORDER BY pg_describe_object(classid, objid, 0)) FROM pg_depend LEFT JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid "
  . "WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'calvin_seq') AND (classid = 'pg_trigger'::regclass OR relkind = 'i')";
my $had_parts = sql($node, 'postgres', $parts);
like($had_parts, qr/index seq_log_epoch_idx.*trigger seq_log_assign/, 'indexes and triggers are members');
system_or_bail('pg_ctl', '-w', '-D', $node->data_dir, '-m', 'fast', 'stop');

my $new = new_node('upgraded', -start => 0);
my $bindir = $node->config_data('--bindir');
my $offset = log_offset($node);
chdir PostgreSQL::Test::Utils::tempdir();    # it writes there
command_ok(
	[
		'pg_upgrade', '--no-sync',
		'-d', $node->data_dir, '-D', $new->data_dir,
		'-b', $bindir, '-B', $bindir,
		'-s', $new->host, '-p', $node->port, '-P', $new->port
	],
	'pg_upgrade');
$new->start;
wait_for_applier($new, 'postgres');
wait_applied($new, 'postgres');
is(sql($new, 'postgres', $checksum), $sum, 'the log is the same after pg_upgrade');
is(state($new, 'postgres'), $state, 'and so is the state');
is(sql($new, 'postgres', $triggers), $had_triggers, 'its triggers are what they were');
is(sql($new, 'postgres', $parts), $had_parts, 'members too');
sql($new, 'postgres', 'CREATE ROLE anybody');
is(sql($new, 'postgres', "SELECT count(*) FILTER (WHERE has_type_privilege('anybody', reltype, 'USAGE')), count(*) > 8 FROM pg_class WHERE relname LIKE 'seq\\_%' AND reltype <> 0"),
	'0|t', 'nobody else may use the row types');
like(sql_error($new, 'postgres', 'DROP INDEX seq_log_epoch_idx'), qr/^2BP01: /, 'none can be dropped');
is(sql_error($new, 'postgres', 'DROP INDEX mine'), '', 'but what was added');
is(sql($new, 'postgres', "SELECT attstorage FROM pg_attribute WHERE attrelid = 'seq_log'::regclass AND attname = 'entry'"),
	'e', 'and its storage');
append_batches($new, 'postgres', 5, 5, [$txn]);
ok(wait_for_epoch($new, 'postgres', 5), 'and it goes on');
my $applier = applier_pid($new, 'postgres');
sql($new, 'postgres', 'DROP EXTENSION calvin_seq');
wait_until(sub { !process_alive($applier) }, 'the applier to end');
is(sql($new, 'postgres', "SELECT count(*) FROM pg_proc WHERE proname LIKE 'seq\\_%'"), 0,
	'DROP EXTENSION drops all of it');
$new->stop;

nothing_crashed($_) foreach $node, $new;
done_testing();
