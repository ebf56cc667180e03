# A physical standby derives the same streams, gives way to recovery, and goes
# on when it is promoted.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Settings of a database or a server are not meant for the workers: this one
# must not be used on a standby at all.
$ENV{PGOPTIONS} = '-c default_transaction_isolation=read\\ committed';
my $serializable = "default_transaction_isolation = 'serializable'";

my $txn = [ [ [ 'a', 1 ], [ 'b', 2 ] ], 'ab', 1 ];
my $va = vshard_of('a');
my ($s, $p, $pid);

my $primary = new_node(
	'primary',
	-streaming => 1,
	'calvin_seq.max_databases' => 6,
	'calvin_seq.snapshot_interval' => 7,
	allow_in_place_tablespaces => 'on');
create_extension($primary, 'postgres');
sql($primary, 'postgres', "CREATE DATABASE other; ALTER DATABASE other SET $serializable; ALTER DATABASE other SET lock_timeout = '1ms'");
append_batches($primary, 'postgres', 0, 4, [ $txn, $txn ]);
sql($primary, 'postgres', "INSERT INTO seq_log (entry) VALUES (''), ('\\xc1'), ('\\x"
	  . batch_hex(1, 0, $txn) . "'), ('\\x" . batch_hex(9, 0, $txn) . "')");

$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
# whatever holds up recovery is to be seen
$standby->append_conf('postgresql.conf', "max_standby_streaming_delay = -1\nhot_standby_feedback = off\n$serializable");
$standby->start;

sub replayed
{
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	return;
}

# Both have applied everything, with the same outcome.
sub is_in_step
{
	my ($db, $desc) = @_;

	wait_applied($primary, $db);
	replayed();
	my $state = state($primary, $db);
	wait_for_sql($standby, $db, 'SELECT last_applied_index FROM seq_state', (split /\|/, $state)[1]);
	is(state($standby, $db), $state, "$desc: same epoch and digest at the same log_index");
	return;
}

#
# Following
#
$pid = wait_for_applier($standby, 'postgres');
is_in_step('postgres', 'from the start');
is(sql($standby, 'postgres', 'SELECT role, applier_state, lag FROM seq_state'), 'standby|idle|0', 'its role');
is(applier_pid($standby, 'postgres'), $pid, 'its applier in pg_stat_activity');
my $replay = "SELECT md5(string_agg(r::text, ';')) FROM seq_replay($va, 0, 1000) r";
is(sql($standby, 'postgres', $replay), sql($primary, 'postgres', $replay), 'same rows by seq_replay');

# Time from the commit to the row in a consumer's hands.
$s = session($standby, 'postgres');
$p = session($primary, 'postgres');
$_->query("SELECT seq_subscribe('{$va}', lossless => false)") foreach $s, $p;
my ($slowest, @streams) = (0, '', '');
foreach my $epoch (10 .. 19)
{
	append_batches($primary, 'postgres', $epoch, $epoch, [ $txn, $txn ], $p);
	my $seconds = elapsed
	{
		is($s->query("SELECT seq_wait_for_epoch($epoch, '30s')"), 't', "epoch $epoch arrives");
	};
	$slowest = $seconds if $seconds > $slowest;
	$streams[0] .= $p->query("SELECT r FROM seq_receive(10, '10s') r");
	$streams[1] .= $s->query("SELECT r FROM seq_receive(10, '10s') r");
}
cmp_ok($slowest, '<', within(2), 'the standby follows within a bounded time');
like($streams[0], qr/\($va,10,0,1010,.*\($va,19,1,1019,/s, 'the stream on the primary');
is($streams[1], $streams[0], 'is that on the standby');
is($s->query('SELECT vshard, name, sent, dropped, state FROM seq_subscriptions'), "$va|default|20|0|live",
	'the subscription on the standby');
is($p->query('SELECT pid FROM seq_subscriptions'), $p->pid, 'is not that on the primary');
is_in_step('postgres', 'after live entries');

# A waiting call.
$s->send("SELECT epoch FROM seq_receive(10, '30s')");
append_batches($primary, 'postgres', 20, 20, [$txn], $p);
is(($s->finish)[0], 20, 'a call that waits on the standby is woken');
is($s->query("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT seq_current_committed_epoch(); COMMIT"), 20,
	'REPEATABLE READ');

# Read-only.
foreach my $sql (
	"SELECT seq_append('\\x" . batch_hex(21, 0, $txn) . "')",
	q{SELECT seq_append_json('{"CompletionAck": {"epoch": 1, "position": 0, "vshard_id": 1}}')},
	"INSERT INTO seq_log (entry) VALUES ('')",
	'DROP EXTENSION calvin_seq')
{
	like($s->error($sql), qr/^25006: /, "refused: $sql");
}
is(sql($standby, 'postgres', "SELECT seq_decode(seq_encode('{\"CompletionAck\": {\"epoch\": 1, \"position\": 2, \"vshard_id\": 3}}')) IS NOT NULL, seq_vshard('a')"),
	"t|$va", 'what only computes works');

# Recovery is not held up by the applier or by consumers that wait in vain.
sql($primary, 'postgres', 'VACUUM FULL pg_class; REINDEX TABLE seq_log; CREATE TABLE t (i int); DROP TABLE t');
cmp_ok((elapsed { replayed() }), '<', within(2), 'locks and vacuum are replayed at once');
append_batches($primary, 'postgres', 21, 21, [$txn], $p);
is($s->query("SELECT epoch FROM seq_receive(10, '10s')"), 21, 'and the stream goes on');
is(applier_pid($standby, 'postgres'), $pid, 'all with the same applier');

# Restart of either.
wait_applied($standby, 'postgres');
my $state = state($standby, 'postgres');
$s->quit;
$standby->restart;
$pid = wait_for_applier($standby, 'postgres');
wait_applied($standby, 'postgres');
is(state($standby, 'postgres'), $state, 'same state after a restart of the standby');
$p->quit;
$primary->stop('immediate');
is(sql($standby, 'postgres', 'SELECT seq_last_applied_epoch()'), 21, 'the standby does without its primary');
$primary->start;
wait_for_applier($primary, 'postgres');
append_batches($primary, 'postgres', 22, 22, [$txn]);
wait_for_epoch($standby, 'postgres', 22);
is_in_step('postgres', 'after a crash of the primary');
is(applier_pid($standby, 'postgres'), $pid, 'with the same applier');

#
# Extensions and databases that come and go by replay
#
sub comes
{
	my ($db, $desc) = @_;

	append_batches($primary, $db, 0, 2, [$txn]);
	cmp_ok((elapsed { wait_for_applier($standby, $db) }), '<', within(10), "$desc: an applier within seconds");
	wait_for_epoch($standby, $db, 2);
	is_in_step($db, $desc);
	return;
}

sub goes
{
	my ($db, $sql, $on, $desc) = @_;
	my $gone = applier_pid($standby, $db);

	cmp_ok($gone, '>', 0, "$desc: there is one");
	sql($primary, $on, $sql);
	cmp_ok((elapsed { replayed() }), '<', within(2), "$desc is replayed at once");
	ok( eval {
			wait_until(sub { !process_alive($gone) && applier_pid($standby, $db) == 0 }, 'its end');
		},
		"$desc: the applier ends");
	return;
}

sql($primary, 'postgres', 'CREATE DATABASE fresh');
sql($primary, $_, 'CREATE EXTENSION calvin_seq') foreach 'other', 'fresh';
comes('other', 'CREATE EXTENSION replayed');
comes('fresh', 'CREATE DATABASE and CREATE EXTENSION replayed');
sql($primary, 'postgres', 'CREATE DATABASE copy TEMPLATE other');

goes('other', 'DROP EXTENSION calvin_seq', 'other', 'DROP EXTENSION');
sql($primary, 'other', 'CREATE EXTENSION calvin_seq');
append_batches($primary, 'other', 0, 0, [$txn]);
wait_for_applier($standby, 'other');
wait_for_epoch($standby, 'other', 0);
is_in_step('other', 'the extension made anew');
wait_for_applier($standby, 'copy');
is_in_step('copy', 'CREATE DATABASE TEMPLATE replayed');

# dropped and made in one transaction, with a consumer
$s = session($standby, 'other');
$s->query("SELECT seq_subscribe('{$va}', lossless => false)");
sql($primary, 'other', "BEGIN; DROP EXTENSION calvin_seq; CREATE EXTENSION calvin_seq; SELECT seq_append('\\x"
	  . batch_hex(0, 9, $txn) . "'); COMMIT");
cmp_ok((elapsed { replayed() }), '<', within(2), 'DROP and CREATE EXTENSION in one transaction is replayed at once');
is_in_step('other', 'DROP and CREATE EXTENSION in one transaction');
like($s->error('SELECT seq_receive(1)'), qr/^(55006|55000): .*subscription/,
	'whose consumers on the standby are told');
$s->quit;

# whole databases
$pid = applier_pid($standby, 'fresh');
sql($primary, 'postgres', "CREATE TABLESPACE ts LOCATION ''; ALTER DATABASE fresh SET TABLESPACE ts; ALTER DATABASE copy RENAME TO copied");
cmp_ok((elapsed { replayed() }), '<', within(2), 'SET TABLESPACE and RENAME are replayed at once');
append_batches($primary, 'fresh', 3, 3, [$txn]);
append_batches($primary, 'copied', 3, 3, [$txn]);
wait_for_epoch($standby, $_, 3) foreach 'fresh', 'copied';
is_in_step($_, 'SET TABLESPACE and RENAME') foreach 'fresh', 'copied';
goes('fresh', 'DROP DATABASE fresh', 'postgres', 'DROP DATABASE');
goes('copied', 'DROP DATABASE copied', 'postgres', 'DROP DATABASE of a renamed one');

#
# Promotion
#
$pid = applier_pid($standby, 'postgres');
my $other_pid = applier_pid($standby, 'other');
$s = session($standby, 'postgres');
$s->query("SELECT seq_subscribe('{$va}', lossless => false)");
append_batches($primary, 'postgres', 23, 24, [$txn]);
is_in_step('postgres', 'before the promotion');
$primary->stop;
$standby->promote;
is(sql($standby, 'postgres', 'SELECT role FROM seq_state'), 'primary', 'promoted');
append_batches($standby, 'postgres', 25, 26, [$txn]);
my @received;
while (@received < 4)
{
	my $output = $s->query("SELECT epoch FROM seq_receive(10, '10s')");

	last if $output eq '';
	push @received, split /\n/, $output;
}
is("@received", '23 24 25 26', 'the stream goes on without a gap');
is(applier_pid($standby, 'postgres'), $pid, 'from the same applier');
is(applier_pid($standby, 'other'), $other_pid, 'in every database');
append_batches($standby, 'other', 1, 1, [$txn]);
wait_for_epoch($standby, 'other', 1);
# counted behind its delivery
wait_for_epoch($standby, 'postgres', 26);
is($s->query('SELECT sent, dropped FROM seq_subscriptions'), '4|0', 'nothing was dropped');
sql($standby, 'postgres', 'CREATE DATABASE late');
cmp_ok((elapsed { create_extension($standby, 'late') }), '<', within(5), 'new databases get their applier');
$s->quit;

# What it wrote as a primary is the same when it is read from the start.
$state = state($standby, 'postgres');
$standby->restart;
wait_for_applier($standby, 'postgres');
wait_applied($standby, 'postgres');
is(state($standby, 'postgres'), $state, 'same state after a restart of the new primary');
$standby->stop;

nothing_crashed($_) foreach $primary, $standby;
done_testing();
