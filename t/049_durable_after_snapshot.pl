# The applier's snapshots wait for nobody; what it delivers after one still waits
# for synchronous standbys.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $txn = [ ['a'], 'ab', 1 ];
my $va = vshard_of('a');
my $node = new_node('primary', -streaming => 1, 'calvin_seq.snapshot_interval' => 5);

create_extension($node, $db);
my ($s, $local, $watch, $probe) = map { session($node, $db) } 1 .. 4;
$s->query("SELECT seq_subscribe('{$va}')");
$local->query('SET synchronous_commit = local');

# A standby that will never come, as backends see it, too.
sub require_standby
{
	my $commit = q{SELECT count(pg_logical_emit_message(true, 'probe', ''))};

	$node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
	$node->reload;
	$probe->send($commit);
	return wait_until(
		sub {
			return 1 if $watch->query('SELECT count(*) FROM pg_stat_activity WHERE wait_event = \'SyncRep\' AND pid = ' . $probe->pid) eq '1';
			return 0 if $probe->running;
			$probe->finish;
			$probe->send($commit);
			return 0;
		},
		'a commit that waits');
}

sub release_standby
{
	$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$node->reload;
	return $probe->finish;
}

my $epoch = 0;
foreach my $round ('before a snapshot', 'after one', 'after another')
{
	require_standby();
	append_batches($node, $db, $epoch, $epoch, [$txn], $local);
	wait_until(
		sub { $watch->query("SELECT applier_state LIKE 'waiting%' OR last_applied_epoch >= $epoch FROM seq_state") eq 't' },
		'the applier to get to it');
	is($watch->query("SELECT coalesce(last_applied_epoch, -1) < $epoch FROM seq_state"), 't', "$round: not applied before it is confirmed");
	is($s->query('SELECT count(*) FROM seq_receive()'), 0, "$round: nor delivered");
	release_standby();
	wait_for_epoch($node, $db, $epoch);
	is($s->query('SELECT count(*) FROM seq_receive()'), 1, "$round: but then");
	append_batches($node, $db, $epoch + 1, $epoch + 10, [$txn], $local);
	$epoch += 11;
	wait_for_sql($node, $db, "SELECT max(last_applied_epoch) >= $epoch - 6 FROM seq_snapshots");
	is($s->query(q{SELECT count(*) FROM seq_receive(100, '1 min')}) > 0, 1, "$round: a snapshot was taken meanwhile");
	wait_for_epoch($node, $db, $epoch - 1);
	$s->query('SELECT count(*) FROM seq_receive(100)');
}

$_->quit foreach $s, $local, $watch, $probe;
$node->stop;
nothing_crashed($node);
done_testing();
