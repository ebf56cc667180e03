# What happens to those who submit, to the inbox, and to the sequencer.
package Chaos::InboxFaults;

use strict;
use warnings;

use Chaos::Faults qw(fault process pause_process crash_by hold_append_lock release_append_lock);
use Chaos::LogFaults qw(truncate_log);
use Chaos::Loop qw(run_for run_until violation);

my $SEQUENCER = qr/calvin_seq sequencer/;

# More than shared memory has cells for; of seven one is rolled back, and has none.
our $MANY = 21_000;

fault 'sequencer killed', 3, sub {
	my ($cluster) = @_;

	crash_by($cluster->{primary}, process($cluster->{primary}, $SEQUENCER));
};
fault 'sequencer terminated', 4, sub {
	my ($cluster, $rng) = @_;

	foreach (1 .. 1 + $rng->below(4))
	{
		$cluster->{primary}->kill_process(process($cluster->{primary}, $SEQUENCER), 'TERM');
		run_for($rng->real(0.3));
	}
};
fault 'sequencer stopped', 4, sub {
	my ($cluster, $rng) = @_;

	pause_process($cluster->{primary}, process($cluster->{primary}, $SEQUENCER), 0.1 + $rng->real(0.8));
};

# Somebody who commits stands still, wherever that is; what comes after him in the
# order waits for him, unless he is gone.
fault 'submitter stopped while he commits', 5, sub {
	my ($cluster, $rng) = @_;
	my $primary = $cluster->{primary};

	foreach (1 .. 2 + $rng->below(3))
	{
		my $who;

		run_until(
			sub {
				my @committing = grep { my $c = $_->{connection}; $_->pid && $c->state eq 'busy' && $_->{on} == $primary && $c->{sql} eq 'COMMIT' } @{ $cluster->{submitters} };

				$who = @committing ? $rng->any(@committing) : undef;
			},
			'somebody to commit');
		my $pid = $who->pid;

		$primary->kill_process($pid, 'STOP');
		run_for(0.1 + $rng->real(0.6));
		if ($rng->chance(0.2)) { crash_by($primary, $pid); last; }
		$primary->kill_process($pid, 'TERM') if $rng->chance(0.2);
		$primary->kill_process($pid, 'CONT');
	}
};

sub burst
{
	my ($cluster, $count) = @_;

	return Chaos::Submitter::Burst->new(name => 'burst of submissions', cluster => $cluster, count => $count, undone_each => 7);
}

sub dismiss
{
	my ($actor) = @_;

	run_until(sub { $actor->is_idle || !$actor->is_connected }, "$actor->{name} to end");
	$actor->leave;
	Chaos::Loop::remove_actor($actor);
	return;
}

# So many wait that shared memory does not know of all; and the sequencer is ended
# in the middle of it.
fault 'more waits than there are cells', 3, sub {
	my ($cluster, $rng) = @_;
	my $holder = hold_append_lock($cluster);
	my $burst = burst($cluster, $MANY);

	run_until(sub { $burst->{finished} }, 'a burst of submissions');
	if ($rng->chance(0.3)) { $cluster->{primary}->kill_process(process($cluster->{primary}, $SEQUENCER), 'TERM'); }
	release_append_lock($holder);
	foreach (1 .. $rng->below(4))
	{
		run_for($rng->real(0.05));
		if ($rng->chance(0.2)) { crash_by($cluster->{primary}, process($cluster->{primary}, $SEQUENCER)); last; }
		$cluster->{primary}->kill_process(process($cluster->{primary}, $SEQUENCER), 'TERM');
	}
	dismiss($burst);
};

# What somebody may still see stays, and what waits is not lost by it.
fault 'inbox vacuumed under an old snapshot', 4, sub {
	my ($cluster, $rng) = @_;
	my $ask = $cluster->{primary}{ask};
	my $old = Chaos::Worker::Guest->new(name => 'old snapshot', cluster => $cluster, consumer => 'd');
	my $holder;

	$old->ask('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM published') if $rng->chance(0.7);
	foreach (1 .. 2)
	{
		$holder = hold_append_lock($cluster) if !$holder && $rng->chance(0.6);
		run_for($rng->real(0.4));
		foreach my $partition ($rng->shuffle(0 .. 7))
		{
			my $sql = $rng->any('VACUUM', 'VACUUM (FREEZE)', 'ANALYZE', 'VACUUM (FREEZE, DISABLE_PAGE_SKIPPING)') . " seq_inbox_$partition";
			my $result = $ask->ask($sql);

			violation('no unexpected error', "$sql: $result->{error}{state}: $result->{error}{message}")
			  if $result && $result->{error} && $result->{error}{state} !~ /^(?:57|40P01|55P03)/;
		}
		$holder = release_append_lock($holder) if $holder && $rng->chance(0.5);
	}
	release_append_lock($holder) if $holder;
	dismiss($old);
};

# More goes through than a partition takes, again and again; or all of it waits, and
# the sequencer has partitions to empty while others are not taken yet.
fault 'partitions rotated', 3, sub {
	my ($cluster, $rng) = @_;
	my @large = map { Chaos::Submitter::Flood->new(name => "flood$_", cluster => $cluster) } 1 .. 2;

	my $holder = $rng->chance(0.6) ? hold_append_lock($cluster) : undef;

	$_->{bytes} = 0 foreach @large;
	run_until(sub { $large[0]{bytes} + $large[1]{bytes} > 32_000_000 }, 'submissions of 32 MB');
	$_->{enough} = 1 foreach @large;
	release_append_lock($holder) if $holder;
	if ($rng->chance(0.3)) { crash_by($cluster->{primary}, process($cluster->{primary}, $SEQUENCER)); }
	truncate_log($cluster, $rng, 1);
	dismiss($_) foreach @large;
};

package Chaos::Submitter::Flood;

use strict;
use warnings;

use Chaos::Order qw(shape);

our @ISA = ('Chaos::Submitter');

sub next_plan
{
	my ($self) = @_;

	return if $self->{enough};
	my $rng = $self->{rng};
	my $txn = $self->begin;
	my $n = 1 + $rng->below(4);
	my $filling = $rng->chance(0.5) ? 7_000 : 300_000;

	$self->{cluster}{order}->submission($txn, shape('flood', 0), $filling) foreach 1 .. $n;
	push @{ $self->{plan} }, $self->commit_step($txn, "SET synchronous_commit = local; SELECT * FROM send_many($txn->{id}, 0, $n, 'flood', $filling)", 0);
	$self->{bytes} += $n * $filling;
	return;
}

1;
