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
use Chaos::Loop qw(run_until);
use Chaos::Run qw(run_faults $kind);

$| = 1;

my %option = (seed => int(time() * 1000) % 1_000_000_000, rounds => 20, txns => 5000, only => '', batch => 1000, burst => 50_000, submissions => 0, library => '', without => '');
GetOptions(\%option, 'dir=s', 'bin=s', 'seed=i', 'rounds=i', 'txns=i', 'batch=i', 'burst=i', 'submissions=i', 'library=s', 'without=s', 'only=s') && $option{dir} && $option{bin} or die "see the head of $0\n";

my @only = split /,/, $option{only};
foreach (@only) { die "no such fault: $_; there are:\n" . join('', map { "  $_\n" } sort keys %faults) if !$faults{$_}; }

print "# chaos: seed $option{seed}, $option{rounds} rounds\n";

sub make
{
	return Chaos::Cluster->new(
		(map { ($_ => $option{$_}) } qw(seed dir bin batch burst submissions library)),
		without => { map { ($_ => 1) } split /,/, $option{without} });
}

sub begin_round
{
	my ($cluster, $rng) = @_;
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
	return sub { sprintf '%d transactions, %d submissions', $cluster->{appended} - $before, $cluster->{order}{count}{submissions} - $submitted };
}

sub end
{
	my ($cluster) = @_;

	check_whole_log($cluster);
	$cluster->disperse;
	check_leftovers($cluster);
	return;
}

sub report
{
	my ($cluster) = @_;

	printf "# groups: %s\n", join ', ', map { "$cluster->{groups}{count}{$_} $_" } sort keys %{ $cluster->{groups}{count} };
	return;
}

run_faults(
	seed => $option{seed}, rounds => $option{rounds}, only => \@only, faults => \%faults, weight => \%weight,
	invariants => \@invariants, checked => \%checked,
	make => \&make, warm_up => { txns => $option{txns} / 2, takeovers => 0.05 }, round => \&begin_round, check => \&check_all, end => \&end, report => \&report);
