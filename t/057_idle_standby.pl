# A standby with nothing to replay: since PostgreSQL 19 nobody there wakes up, and what is
# replayed, or asked for, wakes who is to hear of it; before, the applier looks every
# standby_poll_interval.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinGroup;
use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'needs /proc' unless -r "/proc/$$/status";

my $db = 'postgres';
my $txn = [ ['a'], 'ab', 1 ];
my $va = vshard_of('a');
# nothing of the server's own is written to WAL meanwhile
my $primary = new_node('primary', -streaming => 1, checkpoint_timeout => '1h', 'calvin_seq.snapshot_interval' => 0);
my $told = sql($primary, $db, 'SHOW server_version_num') >= 190000;

create_extension($primary, $db);
append_batches($primary, $db, 0, 4, [$txn]);
$primary->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'b', has_streaming => 1);
$standby->start;
wait_for_applier($standby, $db);
wait_for_epoch($standby, $db, 4);

my $watcher = session($standby, 'template1');
my $workers = "backend_type IN ('calvin_seq applier', 'calvin_seq launcher')";
my ($applier, $launcher) =
  map { $watcher->query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'calvin_seq $_'") } qw(applier launcher);

# Wake-ups of both while somebody else has been served so many times, over a moment.
sub wake_ups
{
	my %before = map { ($_ => switches($_)) } $applier, $launcher;

	for (1 .. 100)
	{
		usleep(50_000);
		$watcher->query('SELECT 1');
	}
	return map { switches($_) - $before{$_} } $applier, $launcher;
}

if ($told)
{
	# the primary notes its running transactions once more, 15 s at most after the last of them
	my $quiet = 0;

	wait_until(sub { $quiet = "@{[ wake_ups() ]}" eq '0 0' ? $quiet + 1 : 0; return $quiet == 4; }, 'nothing to be replayed');
	is("@{[ wake_ups() ]}", '0 0', 'no wake-up with nothing to replay');
	is($watcher->query("SELECT string_agg(DISTINCT wait_event_type, ' ') FROM pg_stat_activity WHERE $workers"), 'Extension', 'they sleep');
}
else
{
	cmp_ok((wake_ups())[0], '>', 10, 'the applier polls: the measure works');
}

# The latch still means what it meant: a subscriber is seen, changed settings and a
# command that needs the worker to leave, while nothing is replayed.
my $s = session($standby, $db);
$s->query("SELECT seq_subscribe('{$va}', from_epoch => 0)");
is($s->query("SELECT string_agg(epoch::text, ',') FROM seq_receive(100, '30s')"), '0,1,2,3,4', 'a subscriber');
my $offset = log_offset($standby);
$standby->append_conf('postgresql.conf', "calvin_seq.standby_poll_interval = '7ms'");
$standby->reload;
wait_for_log_line($standby, qr/parameter "calvin_seq.standby_poll_interval" changed to "7ms"/, $offset);

my $count = switches($applier);
$s->send("SELECT string_agg(epoch::text, ',') FROM seq_receive(100, '300s')");
append_batches($primary, $db, 5, 5, [$txn]);
is(($s->finish)[0], '5', 'what is replayed is delivered');
cmp_ok(switches($applier), '>', $count, 'by who was woken for it');
$s->quit;

sql($standby, 'template1', "SELECT pg_terminate_backend($applier, 60000)");
wait_for_applier($standby, $db);
$applier = applier_pid($standby, $db);
sql($primary, 'template1', 'CREATE DATABASE other');
create_extension($primary, 'other');
wait_for_applier($standby, 'other');
pass('a database that is new by replay is found');
sql($primary, 'template1', 'DROP DATABASE other WITH (FORCE)');
wait_for_sql($standby, 'template1', "SELECT count(*) FROM pg_database WHERE datname = 'other'", 0);
pass('and one is dropped by replay while its applier sleeps');

# It is not missed that recovery ends while nothing is replayed.
$primary->stop;
$standby->promote;
wait_for_sql($standby, $db, "SELECT role FROM seq_state", 'primary');
append_batches($standby, $db, 6, 6, [$txn]);
wait_for_epoch($standby, $db, 6);
is(applier_pid($standby, $db), $applier, 'promoted, the applier goes on');
$watcher->quit;
$standby->stop;
nothing_crashed($standby);
done_testing();
