# Two synchronous standbys of which any one will do: one may be missing; with
# both gone nothing is delivered that could be lost, by whatever way it came
# into the log and whatever way it is received, up to the end of the server.
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

my $primary = new_node('primary', -streaming => 1, restart_after_crash => 'off');
create_extension($primary, $db);
$primary->backup('b');
my %standby;
foreach my $name ('a', 'b')
{
	$standby{$name} = PostgreSQL::Test::Cluster->new($name);
	$standby{$name}->init_from_backup($primary, 'b', has_streaming => 1);
	$standby{$name}->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$standby{$name}->start;
}

my $watch = session($primary, $db);
$watch->query('SET synchronous_commit = local');
$watch->query("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (a, b)'");
$watch->query('SELECT pg_reload_conf()');

sub quorum
{
	my ($names) = @_;

	wait_until(
		sub {
			$watch->query("SELECT coalesce(string_agg(application_name, ' ' ORDER BY application_name), '') FROM pg_stat_replication WHERE sync_state = 'quorum'") eq $names;
		},
		"the synchronous standbys to be: $names");
	return;
}

sub append_sql { my ($epoch) = @_; return "SELECT seq_append('\\x" . batch_hex($epoch, 1, $txn) . "')"; }

sub wait_event
{
	my ($pid, $event) = @_;

	wait_until(
		sub { $watch->query("SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = $pid") eq $event },
		"process $pid to wait for $event");
	return;
}

sub walreceiver
{
	my ($name) = @_;
	my $pid = wait_until(
		sub { sql($standby{$name}, $db, 'SELECT pid FROM pg_stat_wal_receiver') },
		"the WAL receiver of $name");
	return $pid;
}

# One that lives on its queue, one that reads the log, and one that has none
# of both to fall back to.
my %consumer = (
	live => session($primary, $db),
	replaying => session($primary, $db),
	bare => session($primary, $db));
$consumer{live}->query("SELECT seq_subscribe('{$va}', 'live')");
$consumer{replaying}->query("SELECT seq_subscribe('{$va}', 'replaying', from_epoch => 0)");
$consumer{bare}->query("SELECT seq_subscribe('{$va}', 'bare', lossless => false)");

# What a call without waiting brings, in every session.
sub received
{
	return join '|', map { $consumer{$_}->query("SELECT coalesce(string_agg(epoch::text, ' '), '') FROM seq_receive(100, '0', '$_')") }
	  sort keys %consumer;
}

sub all_receive
{
	my ($epochs, $desc) = @_;
	my ($last) = $epochs =~ /(\d+)$/;

	is($watch->query("SELECT seq_wait_for_epoch($last, '60s')"), 't', "$desc: applied");
	is(received(), "$epochs|$epochs|$epochs", "$desc: delivered");
	return;
}

#
# Nothing is delivered before one of them has it.
#
quorum('a b');
my $appender = session($primary, $db);
$appender->query(append_sql(0));
all_receive('0', 'both are there');

my %receiver = map { ($_ => walreceiver($_)) } 'a', 'b';
kill 'STOP', values %receiver;
$consumer{live}->send("SELECT epoch, (SELECT max(flush_lsn) FROM pg_stat_replication) FROM seq_receive(10, '120s', 'live')");
$appender->send(append_sql(1));
wait_event($appender->pid, 'SyncRep');
my $commit = $watch->query('SELECT pg_current_wal_insert_lsn()');
is($watch->query("SELECT count(*) FROM pg_stat_replication WHERE flush_lsn >= '$commit'"), 0, 'no standby has it');
ok($consumer{live}->running, 'not delivered');
is($watch->query('SELECT seq_last_applied_epoch(), seq_current_committed_epoch()'), '0|0', 'nor applied, nor visible');
kill 'CONT', $receiver{b};
my ($row) = $consumer{live}->finish;
my ($epoch, $lsn) = split /\|/, $row;
is($epoch, 1, 'one standby has it: delivered');
is($watch->query("SELECT '$lsn'::pg_lsn >= '$commit'"), 't', 'and it had it by then');
is(($appender->finish)[0], 2, 'the append is through');
kill 'CONT', $receiver{a};
$consumer{$_}->query("SELECT count(*) FROM seq_receive(10, '10s', '$_')") foreach 'bare', 'replaying';

#
# One is gone, then the other instead.
#
$standby{a}->stop;
quorum('b');
$appender->query(append_sql(2));
all_receive('2', 'without a');
$standby{a}->start;
quorum('a b');
$standby{b}->stop('immediate');
quorum('a');
$appender->query(append_sql(3));
all_receive('3', 'without b');

#
# Both are gone.
#
sub nothing_moves
{
	my ($what, $applied, $committed) = @_;
	my $applier = applier_pid($primary, $db);

	wait_event($applier, 'SyncRep');
	is($watch->query('SELECT applier_state, last_applied_epoch, lag FROM seq_state'),
		"waiting for durability|$applied|" . ($committed - $applied), "$what: it waits");
	is($watch->query("SELECT seq_wait_for_epoch($applied + 1, '200ms')"), 'f', "$what: nothing is applied");
	is(received(), '||', "$what: nothing is delivered, from queues or from the log");
	return;
}

$standby{a}->stop;
quorum('');
$appender->send(append_sql(4));
wait_event($appender->pid, 'SyncRep');
is($watch->query('SELECT seq_current_committed_epoch()'), 3, 'a commit that waits is not visible');
is(received(), '||', 'nor delivered');
$watch->query('SELECT pg_cancel_backend(' . $appender->pid . ')');
is(join('', $appender->finish), 5, 'its wait cancelled, it has committed');
nothing_moves('a cancelled wait', 3, 4);
$appender->query('SET synchronous_commit = off');
$appender->query(append_sql(5));
nothing_moves('synchronous_commit = off', 3, 5);
$appender->query('SET synchronous_commit = local');
$appender->query(append_sql(6));
nothing_moves('synchronous_commit = local', 3, 6);

# A consumer that comes only now.
$consumer{late} = session($primary, $db);
$consumer{late}->query("SELECT seq_subscribe('{$va}', 'late', from_epoch => 4)");
is($consumer{late}->query("SELECT count(*) FROM seq_receive(10, '200ms', 'late')"), 0, 'a new consumer receives nothing either');
(delete $consumer{late})->quit;
is($watch->query("SELECT string_agg(epoch::text, ' ') FROM seq_replay($va, 4, 100)"), '4 5 6', 'replay shows what is committed here');

# The other way to be done with waiting: the session ends.
$appender->query('SET synchronous_commit = on');
$appender->send(append_sql(7));
wait_event($appender->pid, 'SyncRep');
$watch->query('SELECT pg_terminate_backend(' . $appender->pid . ')');
$appender->finish;
wait_until(sub { $watch->query('SELECT seq_current_committed_epoch()') == 7 }, 'the terminated commit');
nothing_moves('a terminated wait', 3, 7);

$standby{b}->start;
quorum('b');
all_receive('4 5 6 7', 'one is back');

#
# What was delivered is on the standby that confirmed it, and what was not is
# not delivered in the server's last moments.  Busy sessions outlive the
# postmaster for a while.
#
$standby{b}->stop;
quorum('');
$appender = session($primary, $db);
$appender->query('SET synchronous_commit = local');
my $busy = session($primary, $db);
$busy->query("SELECT seq_subscribe('{$va}', 'busy')");
my $applier = applier_pid($primary, $db);
$busy->send(<<'EOS');
DO $$
DECLARE
	received bigint;
	until timestamptz := clock_timestamp() + '4s';
BEGIN
	RAISE WARNING 'begun';
	WHILE clock_timestamp() < until LOOP
		SELECT max(epoch) INTO received FROM seq_receive(10, '0', 'busy');
		IF received IS NOT NULL THEN
			RAISE WARNING 'received %', received;
		END IF;
	END LOOP;
	RAISE WARNING 'ended';
END $$
EOS
$appender->query(append_sql(8));
wait_event($applier, 'SyncRep');
$primary->kill9;
wait_until(sub { !process_alive($applier) }, 'the applier to notice');
my $words = '';
wait_until(
	sub {
		$busy->running;
		$words = join ' ', $busy->{stderr} =~ /WARNING: .*?(begun|received \d+|ended)/g;
		return $busy->{stderr} =~ /ended/ || !process_alive($busy->pid);
	},
	'the busy session to end');
is($words, 'begun ended', 'a session that outlives the postmaster receives nothing unconfirmed');
$_->quit foreach $appender, $busy, $watch, values %consumer;

# The standby that confirmed is the one to promote.
$standby{b}->start;
$standby{b}->promote;
wait_applied($standby{b}, $db);
is(sql($standby{b}, $db, "SELECT string_agg(epoch::text, ' ') FROM seq_replay($va, 0, 100)"),
	'0 1 2 3 4 5 6 7', 'all that was delivered is on the standby');
$standby{b}->stop;
nothing_crashed($_) foreach $primary, values %standby;
done_testing();
