# REINDEX TABLE CONCURRENTLY, which replaces all indexes of a table, and that of what is
# stored out of line, without being in anybody's way: of each table of ours, with every
# function in each step of it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinPause;
use CalvinTest;
use Test::More;

require_pauses();

my $db = 'postgres';
my $va = vshard_of('a');
# beyond a page, and so out of line
my $large = [ ['a'], 'ab' x 20000, 1 ];
my $node = new_node('reindexed', log_line_prefix => '%p %b ', max_worker_processes => 24, 'calvin_seq.snapshot_interval' => 1);
create_extension($node, $db);
sql($node, $db, 'CREATE DATABASE control');
my $p = pauses($node, 'control');
my $epoch = 0;
append_batches($node, $db, 0, 19, [$large]);
$epoch = 20;
append_hex($node, $db, ack_hex(7, 0, $va));
sql($node, $db, q{SELECT seq_create_group('g', collections => '{a}')});
sql($node, $db, q{SELECT seq_register('r', ARRAY[seq_vshard('a')], from_epoch => 0)});
wait_applied($node, $db);

my @tables = split /\n/, sql($node, $db, <<'SQL');
SELECT c.oid::regclass FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'e' AND c.relkind = 'r'
AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'calvin_seq')
ORDER BY c.relname
SQL
cmp_ok(scalar @tables, '>=', 7, "the tables: @tables");

# What uses all of them, in a session that goes on: each is called with what the last
# call has left, and what a session knows of tables and indexes.
my $append = "SELECT seq_append_json('{\"EpochBatch\": {\"txns\": [{\"tx_class\": {\"write_set\": [{\"Kv\": {\"collection\": \"a\"}}], \"plans\": \"\\\\x00\"}}]}}')";
my @calls = (
	$append,
	"INSERT INTO seq_log (entry) VALUES ('')",
	'SELECT seq_ack(7, 0, 0)',
	"SELECT count(*) > 0 FROM seq_replay($va, 0, 1000)",
	'SELECT cardinality(acked) > 0 FROM seq_completion(7, 0)',
	'SELECT seq_current_committed_epoch() > 0, log_end > 0 FROM seq_state',
	"SELECT count(*) > 0 FROM seq_receive(3, '10s', 'w')",
	"SELECT seq_commit('w')",
	"SELECT count(*) FROM seq_cursors",
	"SELECT count(*) > 0 FROM seq_fetch('g', 2)",
	"SELECT count(*) FROM seq_consumers",
	'SELECT seq_snapshot()',
	"SELECT seq_send('a', '{}'::jsonb)",
	q{DO $$ DECLARE r record; BEGIN FOR r IN SELECT * FROM seq_fetch('g', 1) LOOP
		PERFORM seq_park('g', r.vshard, r.epoch, r.position, 'x'); PERFORM seq_drop_parked('g', r.vshard, r.epoch, r.position); END LOOP; END $$},
	q{SELECT seq_register('other', ARRAY[3]), seq_unregister('other')},
	'SELECT seq_truncate(1)');

sub cached
{
	my $session = session($node, $db);

	$session->query("SELECT seq_subscribe('{$va}', 'w', from_epoch => 1)");
	return $session;
}

sub call_all
{
	my ($session, $when, $but) = @_;

	foreach my $call (grep { !$but || !/$but/ } @calls)
	{
		my ($output, $error);

		$session->send($call);
		($output, $error) = $session->finish;
		# what somebody needs stays
		$error = '' if $call =~ /seq_truncate/ && $error =~ /cannot truncate past/;
		is($error, '', "$when: $call") if $error ne '';
		return 0 if $error ne '';
	}
	return 1;
}

my $waits = 'SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND pid = ';
my $log = log_offset($node);
my $s = cached();
ok(call_all($s, 'before'), 'before anything');
foreach my $table (@tables)
{
	my ($old, $reindexing) = map { session($node, $db) } 1 .. 2;
	my $indexes = "SELECT string_agg(indexrelid::text, ',' ORDER BY indexrelid) FROM pg_index WHERE indrelid IN ('$table'::regclass, (SELECT reltoastrelid FROM pg_class WHERE oid = '$table'::regclass))";
	my $were = sql($node, $db, $indexes);

	# the new ones are built; the exchange waits for who has an older snapshot
	$old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	$reindexing->send("REINDEX TABLE CONCURRENTLY $table");
	wait_for_sql($node, 'control', $waits . $reindexing->pid);
	# who takes a snapshot waits for who else works on those
	ok(call_all($s, "$table, both are there", $table eq 'seq_snapshots' ? qr/seq_(?:snapshot|truncate)\(/ : undef),
		"$table: while the old and the new indexes are there");
	$old->query('COMMIT');
	is(($reindexing->finish)[1], '', "$table: they are exchanged");
	isnt(sql($node, $db, $indexes), $were, "$table: they are others");
	ok(call_all($s, "$table, exchanged"), "$table: after it, in a session that knew the old ones");
	$_->quit foreach $old, $reindexing;
}
wait_applied($node, $db);

# The rest takes one index at a time: each waits for the snapshots that are older than
# its own, and so for who is stopped, but not for the first one.
sub reindex
{
	my ($index, $point, $call) = @_;
	my ($old, $reindexing) = map { session($node, $db) } 1 .. 2;

	$s->query($call);
	$old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	$reindexing->send("REINDEX INDEX CONCURRENTLY $index");
	wait_for_sql($node, 'control', $waits . $reindexing->pid);
	sql($node, 'control', 'SELECT txid_current()');
	$p->arm($point, $s->pid);
	$s->send($call);
	$p->reached($point);
	$old->query('COMMIT');
	$old->quit;
	return $reindexing;
}

# the whole command, between the look at which indexes there are and the lock
foreach my $index ('seq_log_pkey', 'seq_log_epoch_idx')
{
	foreach my $call ($append, "SELECT count(*) > 0 FROM seq_replay($va, 5, 1000)",
		'SELECT seq_current_committed_epoch()')
	{
		my $reindexing = reindex($index, 'access: before locking', $call);

		is(($reindexing->finish)[1], '', "$index is replaced in front of the lock");
		$p->release('access: before locking');
		is(($s->finish)[1], '', "and no error of $call");
		$reindexing->quit;
	}
}

# Who is in the middle of an entry that is stored out of line keeps the index he has
# begun with: the drop waits for him.
{
	my $of_toast = "indrelid = (SELECT reltoastrelid FROM pg_class WHERE oid = 'seq_log'::regclass)";
	my ($oid, $name) = split /\|/, sql($node, $db, "SELECT indexrelid, indexrelid::regclass FROM pg_index WHERE $of_toast");
	my $reindexing = reindex($name, 'chunks: index opened', "SELECT count(*), max(length(plans)) FROM seq_replay($va, 5, 15)");

	wait_for_sql($node, 'control', "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'virtualxid' AND pid = " . $reindexing->pid);
	wait_for_sql($node, $db, "SELECT count(*) > 0 FROM pg_index WHERE $of_toast AND indisvalid AND indexrelid <> $oid");
	$p->release('chunks: index opened');
	is(($s->finish)[0], '11|20000', 'who reads an entry reads on');
	is(($reindexing->finish)[1], '', 'and the command ends');
	is(sql($node, $db, "SELECT count(*) FROM pg_index WHERE $of_toast AND indexrelid <> $oid"), 1, 'with another index');
	$reindexing->quit;
}
ok(call_all($s, 'at last'), 'and at last');
wait_applied($node, $db);
is(sql($node, $db, 'SELECT last_error IS NULL FROM seq_state'), 't', 'the applier had no error');
log_has_no($node, qr/could not open relation|FATAL|calvin_seq (?:applier|sequencer).*ERROR/, 'nor had anybody', $log);
$s->quit;
$p->quit;
nothing_crashed($node);
done_testing();
