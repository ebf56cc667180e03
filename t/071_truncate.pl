# Truncation over restarts, on standbys, and through dump and restore.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $txn = [ ['a'], 'ab', 1 ];
my $va = vshard_of('a');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $base = 'SELECT log_index, last_applied_epoch FROM seq_snapshots WHERE base';
my ($s, $pid, $state);

my $node = new_node('primary',
	-streaming => 1,
	'calvin_seq.max_databases' => 20,
	'calvin_seq.snapshot_interval' => 10,
	max_worker_processes => 30);
create_extension($node, $db);

sub append
{
	my ($first, $last) = @_;

	append_batches($node, $db, $_, $_, [$txn]) for $first .. $last;
	wait_for_epoch($node, $db, $last);
	return;
}

#
# Restarts
#
append(0, 39);
$state = state($node, $db);
is(sql($node, $db, 'SELECT seq_truncate(25)'), 25, 'truncated');
is(sql($node, $db, $base), '25|24', 'with a base at its end');
is(state($node, $db), $state, 'the state does not care');
foreach my $mode ('fast', 'immediate')
{
	$node->stop($mode);
	$node->start;
	wait_for_applier($node, $db);
	wait_applied($node, $db);
	is(state($node, $db), $state, "the same state after a restart ($mode)");
}
sql($node, $db, 'DELETE FROM seq_snapshots WHERE NOT base');
$node->restart;
wait_for_applier($node, $db);
wait_applied($node, $db);
is(state($node, $db), $state, 'from the base alone, too');
is(sql($node, $db, 'SELECT entries_applied FROM seq_metrics'), 15, 'by what is behind it');
append(40, 41);

#
# The applier itself may be behind
#
$pid = wait_for_applier($node, $db);
$s = session($node, $db);
$s->query("SELECT seq_subscribe('{$va}')");
my $quiet = session($node, $db);
$quiet->query(q{SELECT seq_subscribe('{5}', 'other')});
kill 'STOP', $pid;
append_batches($node, $db, 42, 45, [$txn]);
like(sql_error($node, $db, 'SELECT seq_truncate(44)'),
	qr/^55006: cannot truncate what the applier has not applied yet\nDETAIL: .*log_index 42 of 44/,
	'what is not applied yet stays');
my $offset = log_offset($node);
is(sql($node, $db, 'SELECT seq_truncate(44, true)'), 19, 'unless forced');
kill 'CONT', $pid;
wait_for_epoch($node, $db, 45);
wait_for_log_line($node, qr/WARNING: .*the log was truncated up to log_index 44, but was applied up to 42 only/, $offset);
like(sql($node, $db, 'SELECT last_error FROM seq_state'), qr/^the log was truncated up to log_index 44/,
	'the applier says that it came too late');
is(applier_pid($node, $db), $pid, 'and goes on');
like($s->error('SELECT * FROM seq_receive()'),
	qr/^55000: subscription "default" needs epoch 42, which was truncated.*\nDETAIL: .*first epoch kept is 44/,
	'so says the stream that lacks it');
like($s->error('SELECT * FROM seq_receive()'), qr/^55000: subscription "default" needs epoch 42/, 'at every call');
like($quiet->error(q{SELECT * FROM seq_receive(name => 'other')}),
	qr/^55000: subscription "other" needs epoch 42/, 'and one that might');
$s->query("SELECT seq_subscribe('{$va}', from_epoch => 44)");
is($s->query('SELECT array_agg(epoch) FROM seq_receive()'), '{44,45}', 'until it is begun anew');
$_->quit foreach $s, $quiet;

# with the same state as if it had applied it
$state = state($node, $db);
$node->restart;
wait_for_applier($node, $db);
wait_applied($node, $db);
is(state($node, $db), $state, 'the same state after a restart');

#
# Standbys
#
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;

sub is_in_step
{
	my ($desc) = @_;

	wait_applied($node, $db);
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	my $here = state($node, $db);
	wait_for_sql($standby, $db, 'SELECT last_applied_index FROM seq_state', (split /\|/, $here)[1]);
	is(state($standby, $db), $here, "$desc: the standby has the same state");
	return;
}

wait_for_applier($standby, $db);
is_in_step('a copy of a truncated log');
append(46, 59);
is_in_step('after more of it');
$s = session($standby, $db);
$s->query("SELECT seq_subscribe('{$va}', from_epoch => 46)");

# one that does not replay holds truncation back while it is connected
sql($standby, $db, 'SELECT pg_wal_replay_pause()');
wait_for_sql($standby, $db, "SELECT pg_get_wal_replay_pause_state()", 'paused');
append(60, 62);
like(sql_error($node, $db, 'SELECT seq_truncate(62)'),
	qr/^55006: cannot truncate past the standby of the walsender with PID \d+\n.*1 standby is behind/,
	'a standby that has not replayed it');
is( sql($node, $db, 'SELECT pid FROM pg_stat_replication'),
	(sql_error($node, $db, 'SELECT seq_truncate(62)') =~ /PID (\d+)/)[0],
	'by its walsender');
sql($standby, $db, 'SELECT pg_wal_replay_resume()');
is_in_step('resumed');
is(sql($node, $db, 'SELECT seq_truncate(50)'), 6, 'then it does not');
is_in_step('truncation replayed');
is(sql($standby, $db, $base), '50|49', 'with the base');
like(sql_error($standby, $db, 'SELECT seq_truncate(55)'), qr/^25006: /, 'which a standby does not make');
like(sql_error($standby, $db, "SELECT * FROM seq_replay($va, 49, 52)"),
	qr/^55000: epoch 49 was truncated from the log\nDETAIL: .*50/, 'replay there knows');
is(sql($standby, $db, "SELECT count(*) FROM seq_replay($va, 50, 62)"), 13, 'what is left of it');
like($s->error('SELECT * FROM seq_receive()'), qr/^55000: subscription "default" needs epoch 46/,
	'a consumer there is not protected, but told');
$s->query("SELECT seq_subscribe('{$va}', from_epoch => 50)");
is($s->query('SELECT count(*), min(epoch), max(epoch) FROM seq_receive()'), '13|50|62', 'and goes on');

# its applier may be behind what is replayed
$pid = applier_pid($standby, $db);
kill 'STOP', $pid;
append(63, 69);
sql($node, $db, 'SELECT seq_truncate(66, true)');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
$offset = log_offset($standby);
kill 'CONT', $pid;
is_in_step('truncation replayed before it was applied');
wait_for_log_line($standby, qr/WARNING: .*the log was truncated up to log_index 66, but was applied up to 63 only/, $offset);
is(applier_pid($standby, $db), $pid, 'by the same applier');
like($s->error('SELECT * FROM seq_receive()'), qr/^55000: subscription "default" needs epoch 63/, 'consumers are told');
$s->quit;

# a standby that has seen nothing of it yet
$standby->stop;
append(70, 79);
sql($node, $db, 'SELECT seq_truncate(75)');
$standby->start;
wait_for_applier($standby, $db);
is_in_step('away during truncation');
$standby->stop;

#
# Dump and restore
#
sql($node, 'postgres', 'CREATE DATABASE src');
create_extension($node, 'src');
append_batches($node, 'src', 0, 34, [ $txn, $txn ]);
wait_applied($node, 'src');
sql($node, 'src', 'SELECT seq_snapshot()');
$s = session($node, 'src');
$s->query("SELECT seq_subscribe('{$va}', 'kept', from_epoch => 30)");
$s->query("BEGIN; SELECT count(*) FROM seq_receive(5, name => 'kept'); SELECT seq_commit('kept'); COMMIT");
$s->quit;
sql($node, 'src', 'SELECT seq_truncate(20)');
$state = state($node, 'src');
my $rows = "SELECT md5(string_agg(l::text, ';' ORDER BY log_index)) FROM seq_log l";
my $sum = sql($node, 'src', $rows);

sub target
{
	my ($name, $extension) = @_;

	sql($node, 'postgres', "CREATE DATABASE $name");
	create_extension($node, $name) if $extension;
	return $name;
}

sub dump_src
{
	my ($file, @options) = @_;

	$node->command_ok([ 'pg_dump', '-f', "$dir/$file", @options, 'src' ], "pg_dump @options");
	return "$dir/$file";
}

sub feed
{
	my ($name, $file, $desc) = @_;

	$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $name, '-f', $file ], $desc);
	return;
}

sub is_restored
{
	my ($name, $desc) = @_;

	is(sql($node, $name, $rows), $sum, "$desc: the same rows");
	wait_for_sql($node, $name, 'SELECT applier_pid IS NOT NULL AND lag = 0 FROM seq_state');
	is(state($node, $name), $state, "$desc: the same state");
	is(sql($node, $name, $base), '20|19', "$desc: the base");
	is(sql($node, $name, 'SELECT name, vshard, epoch, position FROM seq_cursors'), "kept|$va|32|1", "$desc: the cursors")
	  unless $desc =~ /without cursors/;
	append_batches($node, $name, 35, 35, [$txn]);
	ok(wait_for_epoch($node, $name, 35), "$desc: and it goes on");
	sql($node, 'postgres', "DROP DATABASE $name");
	return;
}

my $plain = dump_src('plain.sql');
my $inserts = dump_src('inserts.sql', '--rows-per-insert=3');
my $custom = dump_src('custom.dump', '-Fc');
my $log = dump_src('log.sql', '--data-only', '-t', 'seq_log');
my $log_inserts = dump_src('log_inserts.sql', '--data-only', '--rows-per-insert=3', '-t', 'seq_log');
my $snapshots = dump_src('snapshots.sql', '--data-only', '-t', 'seq_snapshots');

feed(target('r1'), $plain, 'plain');
is_restored('r1', 'plain');
feed(target('r2'), $inserts, 'by INSERT');
is_restored('r2', 'by INSERT');
foreach my $options ([], ['--single-transaction'], ['-j2'])
{
	$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', target('r3'), @$options, $custom ], "pg_restore @$options");
	is_restored('r3', "pg_restore @$options");
}

# into another server
my $elsewhere = new_node('elsewhere');
sql($elsewhere, 'postgres', 'CREATE DATABASE r3');
$elsewhere->command_ok([ 'pg_restore', '--exit-on-error', '-d', 'r3', $custom ], 'pg_restore into another server');
is(sql($elsewhere, 'r3', $rows), $sum, 'another server: the same rows');
wait_for_sql($elsewhere, 'r3', 'SELECT applier_pid IS NOT NULL AND lag = 0 FROM seq_state');
is(state($elsewhere, 'r3'), $state, 'another server: the same state');
is(sql($elsewhere, 'r3', 'SELECT name, vshard, epoch, position FROM seq_cursors'), "kept|$va|32|1", 'another server: the cursors');
$s = session($elsewhere, 'r3');
$s->query("SELECT seq_subscribe('{$va}', 'kept')");
append_batches($elsewhere, 'r3', 35, 35, [$txn]);
wait_for_epoch($elsewhere, 'r3', 35);
is($s->query("SELECT array_agg(epoch ORDER BY epoch) FROM seq_receive(name => 'kept')"), '{32,33,33,34,34,35}',
	'another server: its consumer goes on at its cursor');
$s->quit;
$elsewhere->stop;

# the log first: nothing is applied before its base is there
foreach my $file ($log, $log_inserts)
{
	$offset = log_offset($node);
	feed(target('r4', 1), $file, 'the log alone');
	wait_for_sql($node, 'r4', 'SELECT applier_state FROM seq_state', 'waiting for the base snapshot');
	wait_for_log_line($node, qr/LOG: .*the log begins at log_index 21, and its base snapshot is not there/, $offset);
	is(sql($node, 'r4', 'SELECT last_applied_index, lag FROM seq_state'), '0|35', 'a log without its base waits');
	is(sql($node, 'r4', 'SELECT seq_wait_for_epoch(20, $$0$$)'), 'f', 'with nothing applied');
	like(sql_error($node, 'r4', 'SELECT seq_snapshot()'), qr/^55000: there is no state/, 'and no state to take a snapshot of');
	like(sql_error($node, 'r4', 'SELECT seq_truncate(25)'), qr/^55000: the log begins above log_index 1, and its base/,
		'or to truncate from');
	# appending goes on, and so does another applier that starts meanwhile
	append_batches($node, 'r4', 35, 35, [$txn]);
	kill 'TERM', applier_pid($node, 'r4');
	wait_for_sql($node, 'r4', 'SELECT applier_state, last_applied_index FROM seq_state', 'waiting for the base snapshot|0');
	my $consumer = session($node, 'r4');
	$consumer->query("SELECT seq_subscribe('{$va}', from_epoch => 33)");
	is($consumer->query('SELECT count(*) FROM seq_receive()'), 0, 'nor is anything delivered');
	feed('r4', $snapshots, 'then its snapshots');
	wait_for_epoch($node, 'r4', 35);
	is($consumer->query('SELECT array_agg(epoch ORDER BY epoch) FROM seq_receive()'), '{33,33,34,34,35}', 'then it is');
	$consumer->quit;
	append_batches($node, 'src', 35, 35, [$txn]) if $file eq $log;
	wait_applied($node, 'src');
	wait_applied($node, 'r4');
	is(state($node, 'r4'), state($node, 'src'), 'with the same state');
	sql($node, 'postgres', 'DROP DATABASE r4');
}

# the snapshots first
feed(target('r5', 1), $snapshots, 'the snapshots alone');
like(sql_error($node, 'r5', "INSERT INTO seq_log (log_index, entry) VALUES (20, '')"),
	qr/^22023: log_index 20 is not above the end of the log/, 'the log begins behind its base');
feed('r5', $log, 'then the log');
is_restored('r5', 'snapshots before the log, without cursors');
feed(target('r6', 1), $snapshots, 'the snapshots alone');
is(sql($node, 'r6', q{SELECT seq_append('')}), 21, 'it is continued, if nothing is restored');
is(sql($node, 'r6', "SELECT seq_append('\\x" . batch_hex(20, 0, $txn) . "')"), 22, 'with the epoch that follows');

# a base that does not fit
target('r7', 1);
append_batches($node, 'r7', 0, 2, [$txn]);
$node->command_fails_like(
	[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', 'r7', '-f', $snapshots ],
	qr/the base snapshot is of log_index 20, but the log begins at 1\n/,
	'the base of another log is refused');
append_batches($node, 'r7', 3, 3, [$txn]);
ok(wait_for_epoch($node, 'r7', 3), 'and nothing has changed');

$node->stop;
nothing_crashed($_) foreach $node, $standby;
done_testing();
