# What goes wrong with followers: their processes and servers, those of the source that
# feed them, the network between; what happens to logs and positions is in
# FollowerLogFaults.pm.  What happens to the source and its standby by themselves is
# borrowed from Faults.pm and LogFaults.pm.
package Chaos::FollowerFaults;

use strict;
use warnings;

use Chaos::Faults qw(process pause_process crash_by end_applier crash_applier);
use Chaos::LogFaults;
use Chaos::Loop qw(run_for run_until violation);
use Exporter 'import';

our @EXPORT_OK = qw(%faults %weight fault some_follower);

our (%faults, %weight);

sub fault
{
	my ($name, $weight, $sub) = @_;

	$faults{$name} = $sub;
	$weight{$name} = $weight;
	return;
}

sub borrow { my ($name, $weight) = @_; return fault($name, $weight, $Chaos::Faults::faults{$name} || die "no fault $name"); }

sub some_follower { my ($cluster, $rng) = @_; return $rng->any(@{ $cluster->{followers} }); }

borrow($_->[0], $_->[1]) foreach
  [ 'applier killed', 1 ], [ 'applier terminated', 2 ], [ 'applier stopped', 2 ],
  [ 'walreceiver terminated', 1 ], [ 'walreceiver stopped', 2 ], [ 'walsender terminated', 1 ],
  [ 'primary restarted immediately', 2 ], [ 'standby restarted immediately', 1 ], [ 'primary restarted', 1 ],
  [ 'postmaster killed', 1 ], [ 'postmaster stopped', 2 ], [ 'power lost', 2 ], [ 'power lost everywhere', 1 ],
  [ 'failover', 3 ], [ 'switchover', 2 ],
  [ 'log truncated', 3 ], [ 'log truncated and power lost', 1 ];

#
# The follower's processes and server
#
my $WORKER = qr/calvin_seq sequencer/;
my $HANDLER = qr/calvin_seq handler/;
my $WALWRITER = qr/walwriter/;

fault 'worker killed', 4, sub {
	my ($cluster, $rng) = @_;
	my $follower = some_follower($cluster, $rng);

	crash_by($follower, process($follower, $WORKER));
};
fault 'worker terminated', 3, sub {
	my ($cluster, $rng) = @_;
	my $follower = some_follower($cluster, $rng);

	foreach (1 .. 1 + $rng->below(3))
	{
		$follower->kill_process(process($follower, $WORKER), $rng->any(qw(TERM TERM INT)));
		run_for($rng->real(0.2));
	}
};
fault 'worker stopped', 3, sub {
	my ($cluster, $rng) = @_;
	my $follower = some_follower($cluster, $rng);

	pause_process($follower, process($follower, $WORKER), $rng->any(0.3, 0.6, 3.5));
};
fault 'applier of a follower ended', 4, sub {
	my ($cluster, $rng) = @_;
	my $follower = some_follower($cluster, $rng);

	$rng->chance(0.4) ? crash_applier($follower) : end_applier($follower);
};
fault 'applier of a follower stopped', 2, sub {
	my ($cluster, $rng) = @_;
	my $follower = some_follower($cluster, $rng);

	pause_process($follower, process($follower, qr/calvin_seq applier/), 0.2 + $rng->real(0.8));
};
fault 'handler ended', 3, sub {
	my ($cluster, $rng) = @_;
	my $follower = some_follower($cluster, $rng);

	return crash_by($follower, process($follower, $HANDLER)) if $rng->chance(0.3);
	foreach (1 .. 1 + $rng->below(3))
	{
		$follower->kill_process(process($follower, $HANDLER), $rng->any(qw(TERM INT)));
		run_for($rng->real(0.2));
	}
};

sub some_session
{
	my ($cluster, $rng, $follower) = @_;
	my @there = grep { $_->pid } $cluster->at_follower($follower);

	return @there ? $rng->any(@there) : undef;
}

fault 'session at a follower killed', 2, sub {
	my ($cluster, $rng) = @_;
	my $follower = some_follower($cluster, $rng);
	my $session = some_session($cluster, $rng, $follower) or return;

	crash_by($follower, $session->pid);
};
fault 'sessions at followers ended', 3, sub {
	my ($cluster, $rng) = @_;

	foreach (1 .. 2 + $rng->below(6))
	{
		my $follower = some_follower($cluster, $rng);
		my $session = some_session($cluster, $rng, $follower) or next;

		$rng->chance(0.3) ? $session->vanish : $follower->kill_process($session->pid, $rng->any(qw(TERM INT)));
		run_for($rng->real(0.1));
	}
};

sub end_server
{
	my ($server, $how) = @_;

	if ($how eq 'power') { $server->lose_power; }
	elsif ($how eq 'postmaster') { $server->lose_postmaster; }
	else { $server->stop($how); }
	return;
}

fault 'follower restarted', 5, sub {
	my ($cluster, $rng) = @_;
	my $follower = some_follower($cluster, $rng);

	end_server($follower, $rng->any(qw(power power immediate immediate postmaster fast)));
	run_for($rng->real(0.3));
	$follower->start;
};
fault 'source and follower lost', 2, sub {
	my ($cluster, $rng) = @_;
	my @servers = ($cluster->{primary}, some_follower($cluster, $rng));

	end_server($_, 'power') foreach @servers;
	$_->launch foreach $rng->shuffle(@servers);
	$_->wait_until_open foreach @servers;
};

# What the follower has stored is not durable there, while it says where it is, and
# the source truncates what nobody needs.  Then it loses that.
fault 'follower loses what was not durable', 3, sub {
	my ($cluster, $rng) = @_;
	my $follower = some_follower($cluster, $rng);
	my ($applier, $walwriter) = map { process($follower, $_) } qr/calvin_seq applier/, $WALWRITER;

	$cluster->pause_follower($follower);
	my $source = $cluster->source_of($follower);
	my $id = $cluster->value($follower, 'SELECT id FROM seq_following');
	$follower->kill_process($_, 'STOP') foreach $applier, $walwriter;
	# it says so each second
	run_for(1.5 + $rng->real(0.5));
	my $is = $cluster->follower_state($follower);
	my $position = $cluster->value($source, "SELECT log_index FROM seq_followers WHERE id = '$id'");
	violation('positions', "$source->{name} has been told log_index $position by $follower->{name}, which has applied, and so made durable, up to $is->{applied}")
	  if $is && $is->{applied} && $position > $is->{applied};
	Chaos::LogFaults::truncate_log($cluster, $rng) if $source == $cluster->{primary};
	$follower->lose_power;
	$follower->start;
	$cluster->resume_follower($follower);
};

#
# The source's side of the connection
#
sub feed_sessions
{
	my ($cluster, $server) = @_;
	my $result = $server->{ask}->ask(q{SELECT pid FROM pg_stat_activity WHERE application_name = 'calvin_seq follower'});

	return $result && !$result->{error} && !$result->{lost} ? map { $_->[0] } @{ $result->{rows} } : ();
}

fault 'feed killed', 3, sub {
	my ($cluster, $rng) = @_;
	my $source = $cluster->source_of(some_follower($cluster, $rng));
	my @pids = feed_sessions($cluster, $source) or return;

	crash_by($source, $rng->any(@pids));
};
fault 'feeds ended', 4, sub {
	my ($cluster, $rng) = @_;
	my $source = $cluster->source_of(some_follower($cluster, $rng));

	foreach (1 .. 1 + $rng->below(4))
	{
		$source->kill_process($_, $rng->any(qw(TERM TERM INT))) foreach feed_sessions($cluster, $source);
		run_for($rng->real(0.3));
	}
};
fault 'feed stopped', 3, sub {
	my ($cluster, $rng) = @_;
	my $source = $cluster->source_of(some_follower($cluster, $rng));
	my @pids = feed_sessions($cluster, $source) or return;

	pause_process($source, $rng->any(@pids), $rng->any(0.3, 0.8, 3.5));
};

#
# The network
#
sub network
{
	my ($name, $weight, $sub) = @_;

	return fault $name, $weight, sub {
		my ($cluster, $rng) = @_;
		my $follower = some_follower($cluster, $rng);

		$sub->($cluster, $rng, sub { $cluster->{relay}->tell($_, @_) foreach $cluster->links($follower); }, $follower);
	};
}

network 'connections cut', 4, sub {
	my ($cluster, $rng, $tell) = @_;

	foreach (1 .. 1 + $rng->below(6))
	{
		$tell->('cut');
		run_for($rng->real(0.3));
	}
};
network 'cut in the middle of an answer', 6, sub {
	my ($cluster, $rng, $tell) = @_;

	foreach (1 .. 2 + $rng->below(6))
	{
		$tell->('middle');
		run_for($rng->real(0.4));
	}
};
network 'an answer without an end', 3, sub {
	my ($cluster, $rng, $tell) = @_;

	$tell->('middle', 'hang');
	run_for(0.5 + $rng->real(4));
};
network 'network stalled', 3, sub {
	my ($cluster, $rng, $tell) = @_;
	my $seconds = $rng->any(0.3, 1, 4);

	$tell->('stall', $seconds);
	run_for($seconds);
};
network 'network slow', 3, sub {
	my ($cluster, $rng, $tell) = @_;
	my $seconds = 1 + $rng->real(1);

	$tell->('slow', $seconds, $rng->any(30, 300, 3000));
	run_for($seconds);
};
network 'network away', 3, sub {
	my ($cluster, $rng, $tell) = @_;
	my $seconds = 0.3 + $rng->real(2);

	$tell->('refuse', $seconds);
	run_for($seconds);
};
# Nothing of it may be stored, and the right one has to come.
network 'a byte changed on its way', 3, sub {
	my ($cluster, $rng, $tell) = @_;

	$tell->('change');
	run_for(0.3 + $rng->real(0.5));
};

#
# Failovers
#

# While commits at the source are not confirmed, nothing of theirs is at a follower.
sub held
{
	my ($cluster, $rng) = @_;
	my $walsender = Chaos::Faults::hold_standby($cluster, $rng);
	my $primary = $cluster->{primary};
	my ($row) = $cluster->rows($primary, 'SELECT last_applied_index, log_end FROM seq_state');

	$cluster->{count}{'entries held back'} += $row->[1] - ($row->[0] // 0);
	foreach my $follower (@{ $cluster->{followers} })
	{
		my $is = $cluster->follower_state($follower) or next;

		violation('durable before delivered', "$follower->{name} has log_index $is->{log_index}, and the source, which no standby confirms anything to, has published up to " . ($row->[0] // 0))
		  if $is->{log_index} > ($row->[0] // 0);
	}
	return $walsender;
}

fault 'confirmations held', 4, sub {
	my ($cluster, $rng) = @_;
	my $walsender = held($cluster, $rng);

	$cluster->{primary}->kill_process($walsender, 'CONT');
};
fault 'failover with confirmations held', 4, sub {
	my ($cluster, $rng) = @_;

	held($cluster, $rng);
	$cluster->{primary}->lose_power;
	Chaos::Faults::change_roles($cluster, $rng);
};

# The standby is promoted while the old primary does not know of it.  Followers may go on
# with that, which cannot confirm anything any more, until it is gone.
fault 'promoted beside a living source', 3, sub {
	my ($cluster, $rng) = @_;
	my ($old, $new) = @{$cluster}{qw(primary standby)};
	my $hasty = Chaos::Appender::Hasty->new(name => 'hasty', cluster => $cluster, node => $old);

	Chaos::Faults::promote($cluster);
	$cluster->move_sessions($rng);
	run_for(0.5 + $rng->real(1));
	$hasty->leave;
	Chaos::Loop::remove_actor($hasty);
	$old->lose_power;
	Chaos::Faults::rejoin($cluster, $rng);
};
# It hangs, as a whole, and comes to for a moment when another one has its place.
fault 'promoted beside a source that hangs', 3, sub {
	my ($cluster, $rng) = @_;
	my $old = $cluster->{primary};

	$old->kill_process($_, 'STOP') foreach $old->{postmaster}, keys %{ { $old->children } };
	run_for($rng->real(0.5));
	Chaos::Faults::promote($cluster);
	$_->vanish foreach grep { $_->{on} && $_->{on} == $old } $cluster->everybody;
	run_for($rng->real(1.5));
	$old->continue_all;
	run_for($rng->real(0.5));
	$old->lose_power;
	Chaos::Faults::rejoin($cluster, $rng);
};

1;
