# Faults without end, and a model that knows what must be: `make chaos`.
#
#   chaos.pl --dir=DIR --bin=DIR [--seed=N] [--rounds=N] [--txns=N] [--only=FAULT,...]
#       [--burst=N] [--submissions=N] [--library=FILE] [--without=ACTOR,...]
#
# In every round the workload runs, something goes wrong, all comes to rest, and
# everything is checked.  The seed repeats the choices of a run.  Output is TAP:
# a point for every invariant.
#
# --burst is how many entries a burst has; --submissions how many there are at least
# in all, by submitters in bulk, who are not there otherwise; --library the module of test/consumer,
# without which there is no consumer in C.  --without=loops,cursors,groups leaves out the
# workers of Loops.pm, the appends through cursors, all of groups: what one of them finds
# at once hides what the others would.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin", "$FindBin::RealBin/../../t/lib";

use Getopt::Long;
use Time::HiRes qw(time);

use Chaos::Checker qw(check_all check_whole_log check_leftovers %checked @invariants);
use Chaos::Cluster;
use Chaos::DatabaseFaults qw(%of_databases);
use Chaos::Faults qw(%faults %weight);
use Chaos::GroupFaults;
use Chaos::InboxFaults;
use Chaos::LogFaults;
use Chaos::Loop qw(run_for run_until violation);
use Chaos::Rng;

$| = 1;

my %option = (seed => int(time() * 1000) % 1_000_000_000, rounds => 20, txns => 5000, only => '', batch => 1000, burst => 50_000, submissions => 0, library => '', without => '');
GetOptions(\%option, 'dir=s', 'bin=s', 'seed=i', 'rounds=i', 'txns=i', 'batch=i', 'burst=i', 'submissions=i', 'library=s', 'without=s', 'only=s') && $option{dir} && $option{bin} or die "see the head of $0\n";

my @only = split /,/, $option{only};
foreach (@only) { die "no such fault: $_; there are:\n" . join('', map { "  $_\n" } sort keys %faults) if !$faults{$_}; }

my $begin = time();
my (%times, %count);
my $round = 0;
my $kind = '';
my $cluster;

print "# chaos: seed $option{seed}, $option{rounds} rounds\n";

# Each kind before any of them again, in proportion to its weight.
sub schedule
{
	my $rng = Chaos::Rng->new($option{seed}, 'schedule');
	my @all = @only ? @only : map { ($_) x $weight{$_} } sort keys %faults;
	my @schedule;

	push @schedule, $rng->shuffle(@all) while @schedule < $option{rounds};
	return @schedule[ 0 .. $option{rounds} - 1 ];
}

sub run_round
{
	my $rng = Chaos::Rng->new($option{seed}, 'round', $round);
	my $before = $cluster->{appended};
	my $submitted = $cluster->{order}{count}{submissions};
	my $takeovers = $rng->any(0, 0.02, 0.1, 0.3);
	# half of the transactions before the fault, on the average
	my $share = int($option{txns} * (0.3 + $rng->real(1)));

	$cluster->{had_takeovers} = $takeovers > 0;
	$cluster->move_sessions($rng);
	$cluster->begin_work(1e9, $takeovers);
	# other databases have nobody who keeps what they need
	$cluster->set_retention(1 + $rng->below(2)) if $rng->chance(0.4) && !$of_databases{$kind};
	run_until(sub { $cluster->{appended} - $before >= $share && $cluster->{order}{count}{submissions} - $submitted >= $option{submissions} / $option{rounds} },
		'the workload', 300);
	my $fault_at = time();
	$faults{$kind}->($cluster, $rng);
	$cluster->settle;
	my $seconds = time() - $fault_at;
	push @{ $times{$kind} }, $seconds;
	$count{$kind}++;
	check_all($cluster, $rng);
	printf "# %3d. %-43s %6.2f s; %d transactions, %d submissions\n", $round, $kind, $seconds, $cluster->{appended} - $before,
	  $cluster->{order}{count}{submissions} - $submitted;
	return;
}

# Something to start from: a round in which nothing goes wrong.
sub warm_up
{
	$kind = 'none';
	$cluster->begin_work(1e9, 0.05);
	run_until(sub { $cluster->{appended} >= $option{txns} / 2 }, 'the workload');
	$cluster->settle;
	check_all($cluster, Chaos::Rng->new($option{seed}, 'warm up'));
	return;
}

sub run_all
{
	$cluster = Chaos::Cluster->new(
		(map { ($_ => $option{$_}) } qw(seed dir bin batch burst submissions library)),
		without => { map { ($_ => 1) } split /,/, $option{without} });
	warm_up();
	foreach my $next (schedule())
	{
		$round++;
		$kind = $next;
		run_round();
	}
	check_whole_log($cluster);
	$cluster->disperse;
	check_leftovers($cluster);
	return;
}

sub median
{
	my @sorted = sort { $a <=> $b } @_;

	return $sorted[ @sorted / 2 ];
}

sub report
{
	my ($violation) = @_;
	my $faults = 0;

	$faults += $_ foreach values %count;
	print "#\n# faults by kind, and seconds until all was applied and received again (median, max)\n";
	printf "#   %-43s %4d  %6.2f  %6.2f\n", $_, $count{$_}, median(@{ $times{$_} }), (sort { $b <=> $a } @{ $times{$_} })[0]
	  foreach sort keys %count;
	printf "# %d faults, %d promotions (%d by pg_rewind), %d subscriptions of the durable consumer; %d s\n", $faults,
	  $cluster->{count}{promotions} || 0, $cluster->{count}{rewound} || 0, $cluster->{count}{takeovers} || 0, time() - $begin;
	printf "# truncated: %d entries, refused %d times; readers that jumped over that: %d\n", map { $cluster->{count}{$_} || 0 } 'truncated', 'truncation refused', 'jumps';
	printf "# appended: %d transactions; commits acknowledged %d, not to be relied on %d\n",
	  @{$cluster}{qw(appended acked_safe acked_unsafe)};
	printf "# submissions: %d, of which %d are in the log, %d were undone; transactions lost with a server or a connection: %d\n", @{ $cluster->{order}{count} }{qw(submissions committed undone lost)};
	printf "# their order: %d against what was seen, %d against what was acknowledged\n", @{ $cluster->{order}{count} }{qw(dependencies pairs)};
	printf "# groups: %s\n", join ', ', map { "$cluster->{groups}{count}{$_} $_" } sort keys %{ $cluster->{groups}{count} };
	printf "# checked: %s\n", join ', ', map { "$checked{$_} $_" } sort keys %checked;
	my %errors;
	foreach my $actor ($cluster->everybody)
	{
		$errors{$_} += $actor->{errors}{$_} foreach keys %{ $actor->{errors} };
	}
	printf "# errors of the workload: %s\n", join(', ', map { "$errors{$_} x $_" } sort keys %errors) || 'none';
	return;
}

# The end of a server's log, without what the workload brings about.
sub show_log
{
	my ($server) = @_;

	open my $fh, '<', $server->{log} or return;
	my @lines = grep { !/ client backend \S+( \S+)? (?:ERROR|DETAIL|HINT|CONTEXT|WARNING):| calvin_seq (?:applier|sequencer) (?:LOG|WARNING|DETAIL):|^\t/ } <$fh>;
	splice @lines, 0, -12 if @lines > 12;
	print "# the end of $server->{name}'s log:\n";
	print "#   $_" foreach @lines;
	return;
}

my $ok = eval { run_all(); 1 };
my $error = $@;
my $violation = $Chaos::Loop::first_violation;

if (!$ok && !$violation) { $violation = { invariant => 'recovers', details => $error }; }
report($violation) if $cluster;
foreach my $server (@{ $cluster ? $cluster->{nodes} : [] })
{
	eval { $server->continue_all; $server->lose_power if $server->running; };
}

my $number = 0;
my %wanted = map { ($_ => 1) } @invariants;
foreach my $invariant (@invariants, $violation && !$wanted{ $violation->{invariant} } ? $violation->{invariant} : ())
{
	$number++;
	# what was broken first hides the others
	if (!$violation) { print "ok $number - $invariant\n"; }
	elsif ($violation->{invariant} eq $invariant)
	{
		print "not ok $number - $invariant\n";
		print "# seed $option{seed}, round $round ($kind), after " . int(time() - $begin) . " s\n";
		print "#   $_\n" foreach split /\n/, $violation->{details};
		show_log($_) foreach @{ $cluster ? $cluster->{nodes} : [] };
	}
	else { print "ok $number # SKIP another one was broken before\n"; }
}
print "1..$number\n";
exit($violation ? 1 : 0);
