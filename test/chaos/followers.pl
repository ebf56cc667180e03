# Faults without end where there is more than one server: `make chaos-followers`.
#
#   followers.pl --dir=DIR --bin=DIR [--seed=N] [--rounds=N] [--txns=N] [--only=FAULT,...]
#       [--patience=N]
#
# A source, its synchronous standby, and two followers at which a stream, a group and a
# handler write what they got, and acknowledge some of it.  In every round they work,
# something goes wrong, all comes to rest, and everything is checked.  The seed repeats the
# choices of a run.  Output is TAP: a point for every invariant.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin", "$FindBin::RealBin/../../t/lib";

use Getopt::Long;
use Time::HiRes qw(time);

use Chaos::FollowerFaults qw(%faults %weight);
use Chaos::FollowerLogFaults;
use Chaos::FollowerModel qw(check_all check_end %checked @invariants);
use Chaos::Followers;
use Chaos::Loop qw(run_until $patience);
use Chaos::Run qw(run_faults);

$| = 1;

my %option = (seed => int(time() * 1000) % 1_000_000_000, rounds => 20, txns => 300, only => '', batch => 60, patience => 1);
GetOptions(\%option, 'dir=s', 'bin=s', 'seed=i', 'rounds=i', 'txns=i', 'batch=i', 'patience=i', 'only=s') && $option{dir} && $option{bin} or die "see the head of $0\n";

$patience = $option{patience};
my @only = split /,/, $option{only};
foreach (@only) { die "no such fault: $_; there are:\n" . join('', map { "  $_\n" } sort keys %faults) if !$faults{$_}; }

print "# chaos of followers: seed $option{seed}, $option{rounds} rounds\n";

sub make { return Chaos::Followers->new((map { ($_ => $option{$_}) } qw(seed dir bin batch)), submissions => 0, without => { cursors => 1 }); }

sub begin_round
{
	my ($cluster, $rng) = @_;
	my $before = $cluster->{appended};
	my $acks = $checked{acknowledgements};
	# half of the transactions before the fault, on the average
	my $share = int($option{txns} * (0.3 + $rng->real(1)));

	$cluster->{had_takeovers} = 1;
	$cluster->move_sessions($rng);
	$cluster->begin_work(1e9, $rng->any(0, 0.02, 0.1));
	run_until(sub { $cluster->{appended} - $before >= $share }, 'the workload', 300);
	return sub { sprintf '%d transactions, %d acknowledgements', $cluster->{appended} - $before, $checked{acknowledgements} - $acks };
}

# Of this kind of run alone.
sub report
{
	my ($cluster) = @_;
	my %other = map { ($_ => 1) } qw(promotions rewound takeovers truncated jumps), 'truncation refused';

	printf "# of followers: %s\n", join ', ', map { "$cluster->{count}{$_} $_" } grep { !$other{$_} } sort keys %{ $cluster->{count} };
	return;
}

run_faults(
	seed => $option{seed}, rounds => $option{rounds}, only => \@only, faults => \%faults, weight => \%weight,
	invariants => \@invariants, checked => \%checked,
	make => \&make, warm_up => { txns => $option{txns} / 2, takeovers => 0 }, round => \&begin_round, check => \&check_all, end => \&check_end, report => \&report);
