# A run: which faults come in which order, how long each took, and what is printed in
# the end, as TAP: a point for every invariant.
package Chaos::Run;

use strict;
use warnings;

use Chaos::Loop qw(run_until);
use Chaos::Rng;
use Exporter 'import';
use Time::HiRes qw(time);

our @EXPORT_OK = qw(run_faults $round $kind);

our $round = 0;
our $kind = 'none';
my $begin = time();
my (%times, %count);

# Each kind before any of them again, in proportion to its weight.
sub schedule
{
	my ($of) = @_;
	my $rng = Chaos::Rng->new($of->{seed}, 'schedule');
	my @all = @{ $of->{only} } ? @{ $of->{only} } : map { ($_) x $of->{weight}{$_} } sort keys %{ $of->{faults} };
	my @schedule;

	push @schedule, $rng->shuffle(@all) while @schedule < $of->{rounds};
	return @schedule[ 0 .. $of->{rounds} - 1 ];
}

sub median
{
	my @sorted = sort { $a <=> $b } @_;

	return $sorted[ @sorted / 2 ];
}

sub report_faults
{
	my ($cluster) = @_;
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
	return;
}

sub report_errors
{
	my ($cluster, $checked) = @_;
	my %errors;

	printf "# checked: %s\n", join ', ', map { "$checked->{$_} $_" } sort keys %$checked;
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
	my @lines = grep { !/ client backend \S+( \S+)? (?:ERROR|DETAIL|HINT|CONTEXT|WARNING):| calvin_seq (?:applier|sequencer) (?:LOG|WARNING|DETAIL):| calvin_seq handler (?:ERROR|CONTEXT):|^\t/ } <$fh>;
	splice @lines, 0, -12 if @lines > 12;
	print "# the end of $server->{name}'s log:\n";
	print "#   $_" foreach @lines;
	return;
}

sub show_violation
{
	my ($violation, $seed, $cluster) = @_;

	print "# seed $seed, round $round ($kind), after " . int(time() - $begin) . " s\n";
	print "#   $_\n" foreach split /\n/, $violation->{details};
	show_log($_) foreach @{ $cluster ? $cluster->{servers} : [] };
	return;
}

sub print_points
{
	my ($violation, $of, $cluster) = @_;
	my %wanted = map { ($_ => 1) } @{ $of->{invariants} };
	my $number = 0;

	foreach my $invariant (@{ $of->{invariants} }, $violation && !$wanted{ $violation->{invariant} } ? $violation->{invariant} : ())
	{
		$number++;
		# what was broken first hides the others
		if (!$violation) { print "ok $number - $invariant\n"; }
		elsif ($violation->{invariant} eq $invariant)
		{
			print "not ok $number - $invariant\n";
			show_violation($violation, $of->{seed}, $cluster);
		}
		else { print "ok $number # SKIP another one was broken before\n"; }
	}
	print "1..$number\n";
	return;
}

# run_faults(%of), which does not come back:
#
#   seed, rounds, only			which faults, of these kinds if there are any
#   faults, weight				all there are
#   invariants, checked
#   make()						the cluster
#   warm_up(cluster)			something to start from: a round without a fault
#   round(cluster, rng)			a round up to its fault; returns what says how much was done
#   check(cluster, rng)			all being at rest
#   end(cluster)
#   report(cluster)				figures of its own
sub run_faults
{
	my (%of) = @_;
	my $cluster;
	my $ok = eval {
		$cluster = $of{make}->();
		warm_up(\%of, $cluster);
		foreach my $next (schedule(\%of))
		{
			$round++;
			$kind = $next;
			run_round(\%of, $cluster);
		}
		$of{end}->($cluster);
		1;
	};
	my $error = $@;
	my $violation = $Chaos::Loop::first_violation;

	if (!$ok && !$violation) { $violation = { invariant => 'recovers', details => $error }; }
	if ($cluster)
	{
		report_faults($cluster);
		$of{report}->($cluster);
		report_errors($cluster, $of{checked});
	}
	foreach my $server (@{ $cluster ? $cluster->{servers} : [] })
	{
		eval { $server->continue_all; $server->lose_power if $server->running; };
	}
	print_points($violation, \%of, $cluster);
	exit($violation ? 1 : 0);
}

# Something to start from: a round in which nothing goes wrong.
sub warm_up
{
	my ($of, $cluster) = @_;

	$cluster->begin_work(1e9, $of->{warm_up}{takeovers});
	run_until(sub { $cluster->{appended} >= $of->{warm_up}{txns} }, 'the workload');
	$cluster->settle;
	$of->{check}->($cluster, Chaos::Rng->new($of->{seed}, 'warm up'));
	return;
}

sub run_round
{
	my ($of, $cluster) = @_;
	my $rng = Chaos::Rng->new($of->{seed}, 'round', $round);
	my $done = $of->{round}->($cluster, $rng);
	my $fault_at = time();

	$of->{faults}{$kind}->($cluster, $rng);
	$cluster->settle;
	my $seconds = time() - $fault_at;
	push @{ $times{$kind} }, $seconds;
	$count{$kind}++;
	$of->{check}->($cluster, $rng);
	printf "# %3d. %-43s %6.2f s; %s\n", $round, $kind, $seconds, $done->();
	return;
}

1;
