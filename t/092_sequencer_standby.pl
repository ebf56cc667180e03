# A standby has no sequencer; promoted, it gets one without a restart.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinSequencer;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $txn = [ ['a'], 'ab', 1 ];
my $any = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'calvin_seq sequencer'";
my $primary = new_node('primary', -streaming => 1);

create_extension($primary, 'postgres');
wait_for_sequencer($primary, 'postgres');
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
my $applier = wait_for_applier($standby, 'postgres');

# a second one comes while the standby runs
sql($primary, 'postgres', 'CREATE DATABASE other');
create_extension($primary, 'other');
append_batches($primary, 'other', 0, 0, [$txn]);
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
wait_for_epoch($standby, 'other', 0);
is(sql($standby, 'postgres', $any), 0, 'a standby has no sequencer');

$standby->restart;
$applier = wait_for_applier($standby, 'postgres');
wait_for_applier($standby, 'other');
is(sql($standby, 'postgres', $any), 0, 'nor after a restart');

log_has_no($standby, qr/"calvin_seq sequencer"/, 'and none was started and ended');

# on a standby that has nothing to replay, the launcher looks every few seconds
$primary->stop;
$standby->promote;
cmp_ok((elapsed { wait_for_sequencer($standby, $_) foreach 'postgres', 'other' }), '<', within(5), 'promotion starts one for each database');
is(wait_for_applier($standby, 'postgres'), $applier, 'beside the appliers that were there');
append_batches($standby, 'postgres', 0, 0, [$txn]);
wait_for_epoch($standby, 'postgres', 0);
pass('which go on');

$standby->stop;
nothing_crashed($_) foreach $primary, $standby;
done_testing();
