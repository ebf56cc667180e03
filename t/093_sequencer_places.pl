# Too few places for workers: appliers come first, and the server log says so.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinSequencer;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $txn = [ ['a'], 'ab', 1 ];
my %next;

# One beside the launcher
my $node = new_node(
	'places',
	'calvin_seq.max_databases' => 3,
	'calvin_seq.max_handlers' => 0,
	max_worker_processes => 2,
	max_logical_replication_workers => 0);

sub no_place
{
	my ($type) = @_;

	return qr/WARNING: .*no background worker left for a calvin_seq $type\n.*DETAIL: .*database with OID \d+.*\n.*HINT: .*max_worker_processes \(now \d\): calvin_seq needs 8, twice calvin_seq\.max_databases \(now 3\), calvin_seq\.max_handlers \(now 0\) and 2 more/;
}

sub goes_on
{
	my ($db, $desc) = @_;

	my $epoch = $next{$db}++ || 0;

	append_batches($node, $db, $epoch, $epoch, [$txn]);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(wait_for_epoch($node, $db, $epoch), $desc);
	return;
}

my $applier = create_extension($node);
wait_for_log_line($node, no_place('sequencer'), 0);
goes_on('postgres', 'one place: the applier has it');

# whatever makes the launcher try again
$node->reload;
foreach my $db (qw(x y))
{
	sql($node, 'postgres', "CREATE DATABASE $db");
	sql($node, 'postgres', "DROP DATABASE $db");
}
# an applier that ended is followed by one, and not by a sequencer
foreach (1 .. 3)
{
	sql($node, 'postgres', "SELECT pg_terminate_backend($applier, 5000)");
	wait_until(sub { my $new = applier_pid($node, 'postgres'); $new && $new != $applier }, 'the next applier');
	$applier = wait_for_applier($node, 'postgres');
	is(sequencer_pid($node, 'postgres'), 0, 'the place of an applier that ended is an applier\'s');
}
goes_on('postgres', 'and it goes on');
my @warnings = log_since($node, 0) =~ /(@{[no_place('sequencer')]})/g;
is(scalar @warnings, 1, 'one warning');

# Two, and another database
$node->append_conf('postgresql.conf', 'max_worker_processes = 3');
$node->restart;
both_workers($node, 'postgres');
pass('two places: both workers');
sql($node, 'postgres', 'CREATE DATABASE other');
my $offset = log_offset($node);
sql($node, 'other', 'CREATE EXTENSION calvin_seq');
cmp_ok((elapsed { wait_for_applier($node, 'other') }), '<', within(3), 'another database\'s applier gets the place of a sequencer');
wait_for_log_line($node, no_place('sequencer'), $offset);
is(sequencer_pid($node, 'postgres') . ' ' . sequencer_pid($node, 'other'), '0 0', 'which is told to leave, and has no other');
log_has_no($node, qr/no background worker left for a calvin_seq applier/, 'that is no reason to complain of the applier', $offset);
goes_on($_, "$_ goes on") foreach 'postgres', 'other';

# A restart finds two databases: both appliers, whichever is looked at first.
$offset = log_offset($node);
$node->restart;
wait_for_applier($node, $_) foreach 'postgres', 'other';
wait_for_log_line($node, no_place('sequencer'), $offset);
log_has_no($node, qr/no background worker left for a calvin_seq (?:applier|probe)/, 'from the start: no sequencer takes an applier\'s place', $offset);

# As many as the hint says
$node->append_conf('postgresql.conf', 'max_worker_processes = 8');
$offset = log_offset($node);
$node->restart;
sql($node, 'postgres', 'CREATE DATABASE third');
create_extension($node, 'third');
both_workers($node, $_) foreach 'postgres', 'other', 'third';
log_has_no($node, qr/no background worker left/, 'as many as the hint says are enough for all databases', $offset);

$node->stop;
nothing_crashed($node);
done_testing();
