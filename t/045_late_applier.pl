# A standby's applier that has not begun yet, a subscription made before it, and a
# snapshot of the primary with which it begins: what lies between comes from the log.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinPause;
use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

require_pauses();

my $va = vshard_of('a');
my $txns = [ [ ['a'], 'ab', 1 ] ];
my $node = new_node('primary', -streaming => 1);

# Temporary functions are none on a standby
sql($node, 'postgres', <<'EOS');
CREATE FUNCTION pause_arm(text, int, int) RETURNS void LANGUAGE C STRICT AS 'calvin_seq', 'calvin_pause_arm';
CREATE FUNCTION pause_wait(text, int) RETURNS int LANGUAGE C STRICT AS 'calvin_seq', 'calvin_pause_wait';
CREATE FUNCTION pause_release(text) RETURNS boolean LANGUAGE C STRICT AS 'calvin_seq', 'calvin_pause_release';
EOS
sql($node, 'postgres', 'CREATE DATABASE y');
$node->backup('start');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'start', has_streaming => 1);
$standby->start;

my $point = 'access: before locking';
sql($standby, 'postgres', "SELECT pause_arm('$point', 0, 0)");
create_extension($node, 'y');
append_batches($node, 'y', 0, 4, $txns);
my $applier = sql($standby, 'postgres', "SELECT pause_wait('$point', 60000)");
is($applier, applier_pid($standby, 'y'), 'the applier stands before its first look');
kill 'STOP', $applier;
sql($standby, 'postgres', "SELECT pause_release('$point')");

$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
my $s = session($standby, 'y');
$s->query("SELECT seq_subscribe('{$va}', 's')");
append_batches($node, 'y', 5, 19, $txns);
wait_for_epoch($node, 'y', 19);
is(sql($node, 'y', 'SELECT seq_snapshot()'), 20, 'a snapshot behind the start of the subscription');
append_batches($node, 'y', 20, 22, $txns);
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
kill 'CONT', $applier;
wait_for_epoch($standby, 'y', 22);
is($s->query(q{SELECT string_agg(epoch::text, ' ' ORDER BY epoch) FROM seq_receive(1000, '0', 's')}), join(' ', 5 .. 22), 'nothing is jumped over');

$s->quit;
$_->stop foreach $standby, $node;
nothing_crashed($_) foreach $node, $standby;
done_testing();
