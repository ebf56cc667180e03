# Nothing is delivered that could be lost: what a commit was in a hurry about,
# or stopped waiting for, the applier waits for itself.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $db = 'postgres';
my $txn = [ ['a'], 'ab', 1 ];
my $va = vshard_of('a');
my $far_away = 60;	# seconds in which what should not wait is long done

# A session that will have subscribed.
sub subscribed
{
	my ($node, $name) = @_;
	my $session = session($node, $name || $db);

	$session->query("SELECT seq_subscribe('{$va}', lossless => false)");
	return $session;
}

sub append { my ($session, $epoch) = @_; return $session->query("SELECT seq_append('\\x" . batch_hex($epoch, 1, $txn) . "')") }

#
# synchronous_commit = off: who delivers it flushes it.
#
{
	# nobody else does: the next round of the WAL writer is 10 s away
	my $node = new_node('async', wal_writer_delay => '10s', checkpoint_timeout => '1h', bgwriter_lru_maxpages => 0,
		restart_after_crash => 'off');
	my $applier = create_extension($node, $db);
	my $consumer = subscribed($node);
	my $appender = session($node, $db);
	my $watcher = session($node, $db);

	$appender->query('SET synchronous_commit = off');
	sql($node, $db, 'CHECKPOINT');

	my $flushed_alone = 0;
	for my $epoch (0 .. 2)
	{
		# what came before is published behind its delivery
		wait_for_epoch($node, $db, $epoch - 1) if $epoch > 0;
		# the applier is stopped, so that what the commit alone did can be seen
		kill 'STOP', $applier;
		$consumer->send("SELECT epoch, pg_current_wal_flush_lsn() FROM seq_receive(10, '60s')");
		append($appender, $epoch);
		my $commit = $appender->query('SELECT pg_current_wal_insert_lsn()');
		# a flush by chance, as of a checkpoint, is not what is tested
		$flushed_alone += $watcher->query("SELECT pg_current_wal_flush_lsn() < '$commit'") eq 't';
		is($watcher->query('SELECT seq_current_committed_epoch(), coalesce(seq_last_applied_epoch(), -1)'),
			$epoch . '|' . ($epoch - 1), "async $epoch: visible, not applied");
		ok($consumer->running, "async $epoch: not delivered");
		kill 'CONT', $applier;
		my ($row) = $consumer->finish;
		like($row, qr/^$epoch\|/, "async $epoch: delivered");
		my ($lsn) = $row =~ /\|(.*)/;
		is($watcher->query("SELECT '$lsn'::pg_lsn >= '$commit'"), 't', "async $epoch: and flushed by then");
	}
	cmp_ok($flushed_alone, '>=', 2, 'it was the applier that flushed');

	# What was received is there after a crash, however quick that is.
	my $epoch = 3;
	for my $round (1 .. 4)
	{
		$consumer->send("SELECT max(epoch) FROM seq_receive(100, '60s')");
		append($appender, $epoch);
		my ($received) = $consumer->finish;
		$node->stop('immediate');
		$node->start;
		is($received, $epoch, "crash $round: received before");
		is(sql($node, $db, 'SELECT seq_current_committed_epoch()'), $received, "crash $round: still in the log");
		wait_for_epoch($node, $db, $received);
		$epoch++;
		$_->quit for $consumer, $appender;
		$consumer = subscribed($node);
		$appender = session($node, $db);
		$appender->query('SET synchronous_commit = off');
	}
	$_->quit for $consumer, $appender, $watcher;
	$node->stop;
}

#
# Synchronous standbys
#
my $primary = new_node('primary', -streaming => 1, max_wal_senders => 5);
my $applier = create_extension($primary, $db);
sql($primary, 'template1', 'CREATE DATABASE doomed');
create_extension($primary, 'doomed');
$primary->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'b', has_streaming => 1);

my $consumer = subscribed($primary);
my $appender = session($primary, $db);
my $local = session($primary, $db);
$local->query('SET synchronous_commit = local');

sub switches
{
	my ($pid) = @_;
	return slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s*(\d+)/m ? $1 : die;
}

# Set it, and wait until everyone concerned knows.
sub set_standbys
{
	my ($names) = @_;
	my $before = -e "/proc/$applier/status" ? switches($applier) : 0;

	$local->query("ALTER SYSTEM SET synchronous_standby_names = '$names'");
	$local->query('SELECT pg_reload_conf()');
	wait_until(sub { switches($applier) > $before }, 'the applier to reload') if -e "/proc/$applier/status";
	wait_for_commits_to_wait() if $names ne '';
	return;
}

# Whether they do is the checkpointer's to say.
sub wait_for_commits_to_wait
{
	my $probe = session($primary, $db);
	my $pid = $probe->pid;
	wait_until(
		sub {
			$probe->send('INSERT INTO probe VALUES (1)');
			while ($probe->running)
			{
				my $waits = $local->query("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND wait_event = 'SyncRep'");
				if ($waits)
				{
					$local->query("SELECT pg_cancel_backend($pid)");
					$probe->finish;
					return 1;
				}
			}
			$probe->finish;
			return 0;
		},
		'commits to wait');
	$probe->quit;
	return;
}

sub waiting_for_standby
{
	my ($pid) = @_;
	wait_until(sub { $local->query("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND wait_event = 'SyncRep'") },
		"process $pid to wait for the standby");
	return;
}

sub applier_waits
{
	my ($what, $epoch, $rows) = @_;

	$applier = wait_until(sub { $local->query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'calvin_seq applier' AND datname = '$db'") },
		'an applier');
	waiting_for_standby($applier);
	is($local->query("SELECT state, query, wait_event_type FROM pg_stat_activity WHERE pid = $applier"),
		'active|waiting for synchronous standbys to confirm the log|IPC', "$what: pg_stat_activity says what the applier does");
	is($local->query('SELECT applier_state, last_applied_epoch, seq_current_committed_epoch(), seq_next_epoch() FROM seq_state'),
		"waiting for durability|$epoch|$rows|" . ($epoch + 1), "$what: visible, not applied");
	is($local->query("SELECT seq_wait_for_epoch($epoch + 1, '300ms')"), 'f', "$what: nor awaited with success");
	ok($consumer->running, "$what: not delivered");
	return;
}

$local->query('CREATE TABLE probe (a int)');
append($appender, 0);
wait_for_epoch($primary, $db, 0);
is($consumer->query("SELECT epoch FROM seq_receive(100, '60s')"), 0, 'without standbys: delivered');
set_standbys('standby');

$consumer->send("SELECT epoch FROM seq_receive(100, '120s')");
$appender->send("SELECT seq_append('\\x" . batch_hex(1, 1, $txn) . "')");
waiting_for_standby($appender->pid);
is($local->query('SELECT count(*) FROM seq_log'), 1, 'the commit waits, and is not visible');
ok($consumer->running, 'nor delivered');

$local->query('SELECT pg_cancel_backend(' . $appender->pid . ')');
my ($index, $error) = $appender->finish;
is("$index$error", '2', 'the wait was cancelled, the commit stands');
applier_waits('cancelled wait', 0, 1);
append($local, 2);
applier_waits('synchronous_commit = local', 0, 2);
$appender->query('SET synchronous_commit = off');
append($appender, 3);
applier_waits('synchronous_commit = off', 0, 3);

# Neither a cancel nor the applier's end makes it deliver.
$local->query("SELECT pg_cancel_backend($applier)");
usleep(200_000);
is($local->query("SELECT wait_event FROM pg_stat_activity WHERE pid = $applier"), 'SyncRep', 'the applier cannot be cancelled out of it');
$local->query("SELECT pg_terminate_backend($applier, 30000)");
my $old = $applier;
applier_waits('applier terminated', 0, 3);
isnt($applier, $old, '... and this is another one');

$standby->start;
my ($epochs) = $consumer->finish;
wait_for_epoch($primary, $db, 3);
$epochs .= "\n" . $consumer->query("SELECT epoch FROM seq_receive(100, '0')");
is(join(' ', split /\s+/, $epochs), '1 2 3', 'the standby is up: delivered');
is($local->query('SELECT last_applied_epoch, lag FROM seq_state'), '3|0', '... and applied');

# An ordinary append, the standby being there.
$appender->query('SET synchronous_commit = on');
append($appender, 4);
is($consumer->query("SELECT epoch FROM seq_receive(100, '60s')"), 4, 'as long as it is up, all goes its way');
$standby->stop;

# It leaves, and the setting is taken back.
$consumer->send("SELECT epoch FROM seq_receive(100, '120s')");
append($local, 5);
applier_waits('standby gone', 4, 5);
$local->query("ALTER SYSTEM SET synchronous_standby_names = ''");
$local->query('SELECT pg_reload_conf()');
is(($consumer->finish)[0], 5, 'the setting is gone: delivered');
is($local->query("SELECT seq_wait_for_epoch(5, '60s')"), 't', '... and applied');

# Others may know of standbys before the applier does.  It waits without keeping
# anybody else from anything.
$local->query("ALTER SYSTEM SET synchronous_standby_names = 'standby'");
kill 'HUP', $local->query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
wait_for_commits_to_wait();
$local->query("INSERT INTO seq_log (entry) VALUES ('')");
waiting_for_standby($applier);
is($local->query("SELECT backend_xmin IS NULL, applier_state FROM pg_stat_activity, seq_state WHERE pid = $applier"),
	't|waiting for durability', 'the applier waits without a snapshot');
is($local->query("SELECT count(*) FROM pg_locks WHERE pid = $applier AND relation = 'seq_log'::regclass"), 0, '... and without a lock');
$local->query("ALTER SYSTEM SET synchronous_standby_names = ''");
$local->query('SELECT pg_reload_conf()');
wait_for_sql($primary, $db, 'SELECT lag FROM seq_state', 0);

# DROP DATABASE, and the end of the server, while appliers wait.
set_standbys('standby');
my $other = session($primary, 'doomed');
$other->query('SET synchronous_commit = local');
append($other, 0);
$other->quit;
my $doomed = applier_pid($primary, 'doomed');
waiting_for_standby($doomed);

# The end of WAL that a commit waits for is that of two appliers, too: a server
# with assertions sees to it that no two processes wait for the same position.
$consumer->send("SELECT epoch FROM seq_receive(100, '120s')");
append($local, 6);
my $same = 0;
# now and then something else writes WAL in between
for (1 .. 10)
{
	$appender->send('INSERT INTO probe VALUES (2)');
	waiting_for_standby($appender->pid);
	my $end = $local->query('SELECT pg_current_wal_insert_lsn()');

	$local->query("SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE backend_type = 'calvin_seq applier'");
	$doomed = wait_until(sub { my $pid = applier_pid($primary, 'doomed'); $pid != $doomed && $pid }, 'another applier');
	waiting_for_standby($doomed);
	applier_waits('with others', 5, 6);
	$same = $local->query('SELECT pg_current_wal_insert_lsn()') eq $end;
	$local->query('SELECT pg_cancel_backend(' . $appender->pid . ')');
	$appender->finish;
	last if $same;
}
ok($same, 'a commit and two appliers wait for the same end of WAL');

cmp_ok(elapsed { $local->query('DROP DATABASE doomed') }, '<', $far_away / 2, 'DROP DATABASE is not held up');
is($local->query("SELECT count(*) FROM pg_database WHERE datname = 'doomed'"), 0, '... and done');
wait_until(sub { !process_alive($doomed) }, 'its applier to leave');

append($local, 7);
applier_waits('before the end', 5, 7);
cmp_ok(elapsed { $primary->stop('fast') }, '<', $far_away / 2, 'nor is the end of the server');
is(($consumer->finish)[0] // '', '', '... which delivers nothing either');

# After the restart the applier reads the log anew, and waits as before.
$primary->start;
$local = session($primary, $db);
$local->query('SET synchronous_commit = local');
$applier = wait_until(sub { $local->query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'calvin_seq applier'") }, 'an applier');
waiting_for_standby($applier);
is($local->query('SELECT seq_last_applied_epoch() IS NULL'), 't', 'restarted: what is not confirmed is not applied');
$standby->start;
wait_for_epoch($primary, $db, 7);
is($local->query('SELECT last_applied_epoch, lag FROM seq_state'), '7|0', 'the standby is back: applied');

$_->quit for $consumer, $appender, $local;
$standby->stop;
$primary->stop;
done_testing();
