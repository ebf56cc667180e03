# Bursts under slow consumers, the applier being ended all the time: `make chaos-bursts`.
#
#   bursts.pl --dir=DIR --bin=DIR [--seed=N] [--bursts=N] [--entries=N] [--restarts=N]
#
# One server.  Eight consumers, a vshard each, poll every 0 to 2 s; every other
# one commits what it received.  The applier is terminated before each burst
# commits and again while it is applied, so that consumers call, and make new
# queues, in the middle of one.  Every entry is a batch of one transaction, and the
# epochs go round forty vshards, so what each consumer has to receive is every
# fortieth epoch: it is through long before the applier is.  What lacks is
# counted, and the run goes on.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin", "$FindBin::RealBin/../../t/lib";

use CalvinWire;
use Chaos::Actor;
use Chaos::Entry qw(one_txn_function);
use Chaos::Loop qw(run_for run_until);
use Chaos::Rng;
use Chaos::Server;
use Getopt::Long;
use Time::HiRes qw(time);

$| = 1;

my %option = (seed => int(time() * 1000) % 1_000_000_000, bursts => 60, entries => 150_000, restarts => 90);
GetOptions(\%option, 'dir=s', 'bin=s', 'seed=i', 'bursts=i', 'entries=i', 'restarts=i') && $option{dir} && $option{bin} or die "see the head of $0\n";

my $APPLIER = qr/calvin_seq applier/;
my $CONSUMERS = 8;
my @names = map { "collection$_" } 1 .. 40;
my $begin = time();
my $rng = Chaos::Rng->new($option{seed}, 'bursts');
my $restarts = 0;
my $cluster = { seed => $option{seed}, draining => 0 };
my ($server, @consumers);

my %conf = (
	shared_preload_libraries => 'calvin_seq',
	fsync => 'off',
	max_wal_size => '2GB',
	wal_level => 'minimal',
	max_wal_senders => 0,
	shared_buffers => '256MB',
	autovacuum => 'off',
	log_min_messages => 'warning',
	log_line_prefix => '%m [%p] %b %q%a ',
);

sub must
{
	my ($sql, $seconds) = @_;
	my $result = $server->{ask}->ask($sql, $seconds);

	die "$sql: " . ($result && $result->{error} ? $result->{error}{message} : 'connection lost') . "\n" if !$result || $result->{error} || $result->{lost};
	return @{ $result->{rows} };
}

sub start_server
{
	$server = Chaos::Server->new(name => 'bursts', dir => "$option{dir}/bursts", bin => $option{bin});
	$cluster->{primary} = $server;
	$server->init(\%conf);
	$server->{control} = $server->{ask} = Chaos::Bursts::Asker->new(name => 'ask', cluster => $cluster);
	$server->start;
	must('CREATE EXTENSION calvin_seq');
	must(one_txn_function(@names));
	@consumers = map {
		Chaos::Bursts::Consumer->new(name => "consumer$_", cluster => $cluster, vshard => vshard_of($names[$_]),
			stride => scalar @names, next => $_, durable => $_ % 2, received => 0, lost => 0, doubled => 0, polls => 0, subscribed => 0)
	} 0 .. $CONSUMERS - 1;
	run_until(sub { !grep { !$_->{subscribed} } @consumers }, 'the subscriptions');
	return;
}

sub end_applier
{
	my $pid = run_until(sub { $server->process($APPLIER) }, 'an applier');

	$server->kill_process($pid, 'TERM');
	run_until(sub { !Chaos::Server::alive($pid) }, 'the applier to end');
	$restarts++;
	return;
}

# One burst: all applied, and all that comes received.
sub burst
{
	my ($number) = @_;
	my $first = $number * $option{entries};
	my $end = $first + $option{entries};
	my $of_this = int($option{restarts} * ($number + 1) / $option{bursts}) - $restarts;

	$cluster->{draining} = 0;
	$_->{current} = 0 foreach @consumers;
	must('BEGIN');
	must("INSERT INTO seq_log (entry) SELECT one_txn(e, (e % ${\ scalar @names})::int) FROM generate_series(${first}::bigint, $end - 1) e", 300);
	# the next one finds the queues of the last one's, and those are replaced while it applies
	if ($of_this-- > 0)
	{
		end_applier();
		run_until(sub { $server->process($APPLIER) }, 'the next applier');
		run_for(0.05);
	}
	must('COMMIT', 300);
	while ($of_this-- > 0)
	{
		run_for($rng->real(0.1));
		end_applier();
	}
	run_until(sub { my ($row) = must('SELECT coalesce(last_applied_epoch, -1) FROM seq_state'); $row->[0] >= $end - 1 }, 'the burst to be applied', 300);
	$cluster->{draining} = 1;
	run_until(sub { !grep { !$_->{current} || !$_->is_idle } @consumers }, 'the consumers to be current', 300);
	$_->account($end) foreach @consumers;
	printf "# burst %2d: applier ended %d times so far, lost so far: %s\n", $number + 1, $restarts, join ' ', map { $_->{lost} } @consumers;
	return;
}

my $ok = eval {
	print "# bursts: seed $option{seed}, $option{bursts} of $option{entries} transactions, $option{restarts} restarts of the applier\n";
	start_server();
	burst($_) foreach 0 .. $option{bursts} - 1;
	1;
};
my $error = $@;
my $violation = $Chaos::Loop::first_violation;

$error = "$violation->{invariant}: $violation->{details}" if $violation;
my %sum = map {
	my $what = $_;
	my $sum = 0;
	$sum += $_->{$what} foreach @consumers;
	($what => $sum);
} qw(received lost doubled polls);
printf "# %s: received %d, lost %d, twice or out of order %d\n", $_->{name}, @{$_}{qw(received lost doubled)} foreach @consumers;
printf "# %d bursts of %d, applier ended %d times, %d polls, received %d, lost %d by %d consumers; %d s\n", $option{bursts}, $option{entries},
  $restarts, $sum{polls}, $sum{received}, $sum{lost}, scalar(grep { $_->{lost} } @consumers), time() - $begin;
if ($server && $server->running) { eval { $server->lose_power; }; }

my $number = 0;
foreach ([ 'goes through', $ok, $error ], [ 'nothing missing', !$sum{lost} ], [ 'nothing twice', !$sum{doubled} ])
{
	my ($name, $good, $details) = @$_;

	$number++;
	print $good ? '' : 'not ', "ok $number - $name\n";
	print map { "#   $_\n" } split /\n/, $details if !$good && $details;
}
print "1..$number\n";
exit($ok && !$sum{lost} && !$sum{doubled} ? 0 : 1);

package Chaos::Bursts::Asker;

use strict;
use warnings;

our @ISA;
BEGIN { @ISA = ('Chaos::Actor'); }

sub may_fail { return 1; }

package Chaos::Bursts::Consumer;

use strict;
use warnings;

our @ISA;
BEGIN { @ISA = ('Chaos::Actor'); }

sub next_plan
{
	my ($self) = @_;
	my $draining = $self->{cluster}{draining};
	my $name = $self->{name};

	if (!$self->{subscribed})
	{
		push @{ $self->{plan} }, [ "SELECT seq_subscribe('{$self->{vshard}}', '$name', from_epoch => 0)", sub { $self->{subscribed} = !$_[0]{error} } ];
		return;
	}
	return if $draining && $self->{current};
	push @{ $self->{plan} }, $self->{rng}->real(2) unless $draining;
	push @{ $self->{plan} }, [
		"SELECT count(*), min(epoch), max(epoch), count(*) FILTER (WHERE epoch <> before + $self->{stride}) FROM (SELECT epoch, lag(epoch) OVER () AS before FROM seq_receive(10000000, '0', '$name')) r"
		  . ($self->{durable} ? "; SELECT seq_commit('$name')" : ''),
		sub { $self->take($draining, @{ $_[0]{rows}[0] }) unless $_[0]{error} }
	];
	return;
}

# Epochs from min to max, every one of this vshard if there is no break.
sub take
{
	my ($self, $draining, $count, $min, $max, $breaks) = @_;

	$self->{polls}++;
	if ($count == 0)
	{
		$self->{current} = 1 if $draining;
		return;
	}
	my $wanted = ($max - $self->{next}) / $self->{stride} + 1;

	$self->{received} += $count;
	if ($min < $self->{next} || $count > $wanted) { $self->{doubled} += $count > $wanted ? $count - $wanted : 1; }
	elsif ($breaks > 0 && $count == ($max - $min) / $self->{stride} + 1) { $self->{doubled} += $breaks; }
	$self->{lost} += $wanted - $count if $wanted > $count;
	$self->{next} = $max + $self->{stride};
	return;
}

# At rest, $end being the first epoch that is not in the log.
sub account
{
	my ($self, $end) = @_;

	while ($self->{next} < $end)
	{
		$self->{lost}++;
		$self->{next} += $self->{stride};
	}
	return;
}
