# Commands on whole databases work at once while their sequencers run.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinDatabases;
use CalvinSequencer;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

start_databases();
make_database('d1');
make_database('d2');
my %pid = map { ($_ => wait_for_sequencer($node, $_)) } 'd1', 'd2';
isnt($pid{d1}, $pid{d2}, 'each database has a sequencer');

# d1 under its new name: another sequencer than before, and that of d2 is the same.
sub followed
{
	my ($db, $desc) = @_;
	my ($applier, $pid) = both_workers($node, $db);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	isnt($pid, $pid{d1}, "$desc: the sequencer has given way and is back");
	is(wait_for_sequencer($node, 'd2'), $pid{d2}, "$desc: that of another database has not");
	$pid{d1} = $pid;
	return;
}

#
# An idle one
#
at_once('ALTER DATABASE d1 RENAME TO d3', 'RENAME');
followed('d3', 'RENAME');
at_once('ALTER DATABASE d3 SET TABLESPACE ts', 'SET TABLESPACE');
followed('d3', 'SET TABLESPACE');
at_once('CREATE DATABASE copy TEMPLATE d3', 'CREATE DATABASE TEMPLATE');
followed('d3', 'CREATE DATABASE TEMPLATE');
isnt(wait_for_sequencer($node, 'copy'), $pid{d1}, 'the copy has its own');

# held off for as long as the transaction lasts
$admin->query('BEGIN; ALTER DATABASE d3 RENAME TO d4');
is(sequencer_pid($node, 'd3') . ' ' . applier_pid($node, 'd3'), '0 0', 'a command in a transaction: both workers are gone');
$admin->query('ROLLBACK');
followed('d3', 'rolled back');

# who may not run the command disturbs nobody
sql($node, 'postgres', 'CREATE USER nobody');
my $s = session($node, 'postgres', user => 'nobody');
like($s->error($_), qr/^42501/, "$_: refused") foreach 'ALTER DATABASE d3 RENAME TO d4', 'DROP DATABASE d3';
is(sequencer_pid($node, 'd3'), $pid{d1}, 'and the sequencer goes on');
$s->quit;

#
# One that does not notice by itself
#
$pid{d1} = fail_sequencer($node, 'd3');
at_once('ALTER DATABASE d3 RENAME TO d1', 'RENAME while it waits to try again');
mend_sequencer($node, 'd1');
followed('d1', 'after an error');

# a stopped one cannot leave: the command waits for it alone, and can be cancelled
kill 'STOP', $pid{d1};
like($admin->error("SET statement_timeout = '1s'; ALTER DATABASE d1 RENAME TO d3"), qr/^57014/, 'a sequencer that does not leave is waited for');
$admin->query("SET statement_timeout = '" . within(10) . "s'");
kill 'CONT', $pid{d1};
followed('d1', 'cancelled');

#
# In quick succession, before and while they start
#
at_once("ALTER DATABASE d1 RENAME TO d3", 'RENAME'), at_once("ALTER DATABASE d3 RENAME TO d1", 'and back') for 1 .. 3;
followed('d1', 'renamed several times');
at_once('CREATE DATABASE copy2 TEMPLATE copy', 'a copy');
at_once('DROP DATABASE copy2', 'DROP DATABASE of the copy at once');

#
# DROP DATABASE
#
at_once('DROP DATABASE copy', 'DROP DATABASE');
is(sequencer_pid($node, 'copy'), 0, 'its sequencer is gone');
at_once('DROP DATABASE d1 WITH (FORCE)', 'DROP DATABASE WITH (FORCE)');
is(wait_for_sequencer($node, 'd2'), $pid{d2}, 'that of the other database is still the same');

# all places are free again
foreach my $db (qw(e1 e2 e3))
{
	make_database($db);
	wait_for_sequencer($node, $db);
}
pass('the places of dropped databases are free for others');

$admin->quit;
$node->stop;
nothing_crashed($node);
done_testing();
