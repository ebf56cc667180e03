# What happens to the logs of followers, and to what is known of them: whom they follow,
# truncation, positions, acknowledgements, bursts.
package Chaos::FollowerLogFaults;

use strict;
use warnings;

use Chaos::FollowerFaults qw(fault some_follower);
use Chaos::LogFaults;
use Chaos::Loop qw(run_for run_until violation);

#
# Whom they follow
#
fault 'unfollowed and followed again', 4, sub {
	my ($cluster, $rng) = @_;
	my $follower = some_follower($cluster, $rng);
	my $once = $rng->chance(0.5);
	my $follow = "SELECT seq_follow('" . $cluster->conninfo($follower) . "')";

	$cluster->pause_follower($follower);
	$cluster->rows($follower, $once ? "BEGIN; SELECT seq_unfollow(); $follow; COMMIT" : 'SELECT seq_unfollow()');
	if (!$once)
	{
		run_for($rng->real(0.5));
		$cluster->rows($follower, $follow);
	}
	$cluster->resume_follower($follower);
};
fault 'follows the standby for a while', 3, sub {
	my ($cluster, $rng) = @_;
	my $follower = some_follower($cluster, $rng);

	return if $follower->{mode} ne 'primary';
	$cluster->change_mode($follower, 'standby');
	run_for(0.5 + $rng->real(1));
	$cluster->change_mode($follower, 'primary');
};
# The second one follows the first from here on, or does not any more.
fault 'cascade', 5, sub {
	my ($cluster, $rng) = @_;
	my $follower = $cluster->{followers}[1];

	$cluster->change_mode($follower, $follower->{mode} eq 'cascade' ? 'primary' : 'cascade');
	run_for($rng->real(0.5));
};
fault 'followed again and again', 2, sub {
	my ($cluster, $rng) = @_;
	my $follower = some_follower($cluster, $rng);

	foreach (1 .. 5)
	{
		$cluster->rows($follower, "SELECT seq_follow('" . $cluster->conninfo($follower) . "')");
		run_for($rng->real(0.1));
	}
};

#
# Its log is not a part of the source's any more: that has to be found, nothing is to be
# stored, and it begins anew.
#

# One that follows it has to follow another one first.
sub stand_alone
{
	my ($cluster, $follower) = @_;

	$cluster->change_mode($_, 'primary') foreach grep { $_->{mode} eq 'cascade' && ($_ == $follower || $cluster->source_of($_) == $follower) } @{ $cluster->{followers} };
	return;
}

sub must_stop
{
	my ($cluster, $follower, $state, $before) = @_;
	my $end = sub { return $cluster->value($follower, "SELECT count(*) || ' ' || coalesce(md5(string_agg(log_index || md5(entry), ' ' ORDER BY log_index)), '') FROM seq_log") };
	my $is;

	my $was = $end->();
	run_until(sub { $is = $cluster->follower_state($follower); return $is && $is->{state} =~ $state; },
		sub { "$follower->{name} to say $state; it is " . ($is ? "$is->{state}, at log_index $is->{log_index}: " . ($is->{error} // '') : 'not known') }, 30, 'follows');
	run_for(0.5);
	violation('copy', "$follower->{name} has stored something though its log is not the source's ($is->{state}: $is->{error})") if $end->() ne $was;
	return;
}

fault 'fork', 2, sub {
	my ($cluster, $rng) = @_;
	my $follower = some_follower($cluster, $rng);

	stand_alone($cluster, $follower);
	$cluster->pause_follower($follower);
	$follower->{anew} = 1;
	$cluster->{relay}->tell($_, 'refuse', 60) foreach $cluster->links($follower);
	$cluster->rows($follower, q{SELECT seq_unfollow()});
	$cluster->rows($follower, q{INSERT INTO seq_log (entry) VALUES ('fork') RETURNING log_index});
	# the source has to go beyond that
	my $end = $cluster->value($follower, 'SELECT max(log_index) FROM seq_log');
	run_until(sub { my $result = $cluster->{primary}{ask}->ask('SELECT last_applied_index FROM seq_state'); return $result && !$result->{error} && !$result->{lost} && ($result->{rows}[0][0] // 0) > $end + 2; }, 'the source to go on');
	$cluster->rows($follower, "SELECT seq_follow('" . $cluster->conninfo($follower) . "')");
	$cluster->{relay}->tell($_, 'heal') foreach $cluster->links($follower);
	must_stop($cluster, $follower, qr/^other history$/);
	$cluster->make_anew($follower);
};
fault 'left behind', 3, sub {
	my ($cluster, $rng) = @_;
	my $follower = some_follower($cluster, $rng);

	stand_alone($cluster, $follower);
	$cluster->pause_follower($follower);
	my $id = $cluster->value($follower, 'SELECT id FROM seq_following');
	$cluster->{relay}->tell($_, 'refuse', 60) foreach $cluster->links($follower);
	run_for(0.1);
	my $end = $cluster->value($follower, 'SELECT max(log_index) FROM seq_log');
	run_until(sub { $cluster->value($cluster->{primary}, 'SELECT last_applied_index FROM seq_state') > $end + 5 }, 'the source to go on');
	# as long as it is known that is not done
	Chaos::LogFaults::truncate_log($cluster, $rng, 'most');
	my $base = $cluster->value($cluster->{primary}, 'SELECT coalesce(max(log_index), 0) FROM seq_snapshots WHERE base');
	violation('truncation', "$cluster->{primary}{name} has truncated what is before log_index $base, and $follower->{name}, which it knows, has the log up to $end") if $base > $end;
	$cluster->forget_position($id);
	my $truncated = run_until(
		sub {
			my $primary = $cluster->{primary};
			Chaos::LogFaults::truncate_log($cluster, $rng, 'most');
			run_for(0.2);
			return $cluster->value($primary, 'SELECT coalesce(max(log_index), 0) FROM seq_snapshots WHERE base') > $end;
		},
		'a truncation of what the follower has not got');
	$follower->{anew} = 1;
	$cluster->{relay}->tell($_, 'heal') foreach $cluster->links($follower);
	must_stop($cluster, $follower, qr/^truncated$/);
	$cluster->make_anew($follower);
};
fault 'begun anew', 2, sub {
	my ($cluster, $rng) = @_;
	my $follower = some_follower($cluster, $rng);

	stand_alone($cluster, $follower);
	$cluster->pause_follower($follower);
	$cluster->make_anew($follower);
};

#
# Positions and truncation
#
fault 'position dropped', 3, sub {
	my ($cluster, $rng) = @_;
	my $follower = some_follower($cluster, $rng);

	foreach (1 .. 1 + $rng->below(3))
	{
		$cluster->forget_position($cluster->value($follower, 'SELECT id FROM seq_following'));
		run_for($rng->real(0.5));
	}
	my $id = $cluster->value($follower, 'SELECT id FROM seq_following');
	my $source = $cluster->source_of($follower);
	run_until(sub { $cluster->value($source, "SELECT count(*) FROM seq_followers WHERE id = '$id'") }, "$follower->{name} to say where it is", 20, 'positions');
};

# Each for itself, up to what is needed there.
fault 'followers truncated', 4, sub {
	my ($cluster, $rng) = @_;

	foreach (1 .. 2 + $rng->below(4))
	{
		my $follower = some_follower($cluster, $rng);
		my $epoch = $rng->chance(0.3) ? $cluster->{checked_epoch} + 1 : $rng->below($cluster->{checked_epoch} + 2);
		my $result = $follower->{ask}->ask("SELECT seq_truncate($epoch)") or next;

		violation('no unexpected error', "seq_truncate($epoch) at $follower->{name}: $result->{error}{state}: $result->{error}{message}")
		  if $result->{error} && $result->{error}{state} !~ /^(?:55006|57|40P01|55P03)/;
		$cluster->{count}{'truncated at followers'} += $result->{rows}[0][0] if !$result->{error} && !$result->{lost};
		run_for($rng->real(0.2));
	}
};
fault 'log of a follower locked', 2, sub {
	my ($cluster, $rng) = @_;
	my $follower = some_follower($cluster, $rng);
	my $table = $rng->any(qw(seq_log seq_log seq_outgoing_acks seq_following));

	$follower->{ask}->ask("BEGIN; LOCK TABLE $table IN ACCESS EXCLUSIVE MODE");
	run_for(0.1 + $rng->real(0.5));
	$follower->{ask}->ask('ROLLBACK');
};

#
# Acknowledgements: many, and somebody ends before they have come back
#
fault 'many acknowledgements', 6, sub {
	my ($cluster, $rng) = @_;
	my $follower = some_follower($cluster, $rng);
	my @ends = (
		sub { $follower->lose_power; $follower->start; },
		sub { my $source = $cluster->{primary}; $source->lose_power; $source->start; },
		sub { Chaos::Faults::crash_by($follower, Chaos::Faults::process($follower, qr/calvin_seq sequencer/)); },
		sub { $cluster->{relay}->tell($_, 'middle') foreach $cluster->links($follower); run_for(0.3); },
		sub { $cluster->{relay}->tell($_, 'cut') foreach $cluster->links($follower); run_for(0.1); });

	$cluster->rows($follower, 'UPDATE knobs SET share = 1');
	foreach (1 .. 2)
	{
		run_for(0.1 + $rng->real(0.4));
		$rng->any(@ends)->();
	}
	run_until(sub { my $result = $follower->{ask}->ask('UPDATE knobs SET share = 0.1'); return $result && !$result->{error} && !$result->{lost}; }, 'acknowledgements to become fewer');
};

#
# Large entries: a feed for each, and one after which the connection is made anew
#
fault 'large entries', 3, sub {
	my ($cluster, $rng) = @_;

	# who takes long to make a batch is late with its number, as long as others append
	$cluster->{budget} = 0;
	$cluster->{quiet} = 1;
	$cluster->appenders_end;
	my $appender = Chaos::Appender::LargeBatches->new(name => 'large', cluster => $cluster, sizes => [ (map { 1_000_000 * (1 + $rng->below(4)) } 1 .. 4), $rng->chance(0.3) ? 34_000_000 : () ]);

	run_until(sub { !@{ $appender->{sizes} } && $appender->is_idle }, 'large entries', 120);
	if ($rng->chance(0.5))
	{
		my $follower = some_follower($cluster, $rng);

		$cluster->{relay}->tell($_, 'middle') foreach $cluster->links($follower);
	}
	$appender->leave;
	Chaos::Loop::remove_actor($appender);
};

package Chaos::Appender::LargeBatches;

use strict;
use warnings;

use Chaos::Entry qw(random_batch);

our @ISA = ('Chaos::Appender');

sub next_plan
{
	my ($self) = @_;

	return if !@{ $self->{sizes} };
	$self->{in_flight} = [];
	push @{ $self->{plan} },
	  [
		'SELECT coalesce(seq_current_committed_epoch(), -1) + 1',
		sub { my ($result) = @_; $self->plan_large($result->{rows}[0][0]) unless $result->{error}; }
	  ];
	return;
}

sub plan_large
{
	my ($self, $epoch) = @_;
	my $entry = random_batch($self->{rng}, $epoch, 1, $self->{sizes}[0]);

	$self->sending($entry);
	push @{ $self->{plan} },
	  $self->append_step($entry, 'SELECT seq_append(' . Chaos::Appender::hex_of($entry) . ')', sub { $self->acknowledge($_[0], 1); shift @{ $self->{sizes} }; });
	return;
}

1;
