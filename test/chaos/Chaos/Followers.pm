# A source and its standby, and two followers of them, each behind a relay (Relay.pm).
#
# A follower is a server with
#
#   number, mode	which half it owns; primary, standby, cascade: whom it follows
#   from			the epoch that its consumers have begun with
#   at				where they are in the model's streams
#   paused			nobody works there
#   open			its log may be its own for a moment
#   anew			it is being made anew
package Chaos::Followers;

use strict;
use warnings;

use Chaos::Cluster;
use Chaos::FollowerWork;
use Chaos::Loop qw(run_until run_for violation);
use Chaos::Relay;

our @ISA = ('Chaos::Cluster');

my %at_followers = (synchronous_standby_names => '', 'calvin_seq.follower_timeout' => '3s');

sub settings { my ($self) = @_; return ($self->SUPER::settings, 'calvin_seq.follower_timeout' => '3s', wal_keep_size => '256MB'); }
sub schema { return ($Chaos::Consumer::SCHEMA, $Chaos::Appender::SCHEMA, $Chaos::Submitter::SCHEMA); }

sub make_servers
{
	my ($self) = @_;
	my $relay = $self->{relay} = Chaos::Relay->new(dir => "$self->{dir}/r", seed => $self->{seed});

	open my $fh, '>', "$self->{dir}/retention.conf" or die $!;
	close $fh;
	$self->SUPER::make_servers;
	$self->{witnessed} = [];
	$self->{acked} = [];
	$self->{followers} = [ map { Chaos::Server->new(name => "f$_", dir => "$self->{dir}/f$_", bin => $self->{bin}, number => $_, mode => 'primary', from => 0, at => {}) } 1, 2 ];
	push @{ $self->{servers} }, @{ $self->{followers} };
	foreach my $follower (@{ $self->{followers} })
	{
		$follower->init({ $self->settings, %at_followers });
		$self->add_watchers($follower);
		$follower->start;
		$relay->link("$follower->{name}-$_->{name}", $_) foreach @{ $self->{nodes} };
	}
	$relay->link('f2-f1', $self->{followers}[0]);
	$self->make_follower($_) foreach @{ $self->{followers} };
	return;
}

sub make_follower
{
	my ($self, $follower) = @_;

	Chaos::Cluster::do_all($follower, 'CREATE EXTENSION calvin_seq', Chaos::FollowerWork::schema($follower->{number}), "SELECT seq_follow('" . $self->conninfo($follower) . "')");
	$self->wait_followers($follower);
	my $base = $self->value($follower, 'SELECT coalesce(max(last_applied_epoch) + 1, 0) FROM seq_snapshots WHERE base');
	# what was truncated nobody can begin with
	$follower->{from} = $base if $follower->{from} < $base;
	Chaos::Cluster::do_all($follower, Chaos::FollowerWork::making($follower->{number}, $follower->{from}));
	return;
}

sub links
{
	my ($self, $follower) = @_;

	return $follower->{mode} eq 'cascade' ? "$follower->{name}-f1" : map { "$follower->{name}-$_->{name}" } @{ $self->{nodes} };
}

sub conninfo
{
	my ($self, $follower) = @_;
	my %attributes = (primary => 'read-write', standby => 'prefer-standby', cascade => 'any');

	return 'host=' . join(',', map { $self->{relay}->host($_) } $self->links($follower)) . " port=5432 dbname=postgres user=postgres connect_timeout=2 target_session_attrs=$attributes{ $follower->{mode} }";
}

# Whom it follows, of those to whom it tells where it is.
sub source_of { my ($self, $follower) = @_; return $follower->{mode} eq 'cascade' ? $self->{followers}[0] : $self->{primary}; }

sub add_workload
{
	my ($self) = @_;

	$self->{appenders} = [
		Chaos::SourceAppender->new(name => 'appender', cluster => $self),
		Chaos::SourceAppender->new(name => 'raw', cluster => $self, odd => 1) ];
	$self->{submitters} = [
		(map { Chaos::Submitter->new(name => "submitter$_", cluster => $self) } 1, 2),
		Chaos::Submitter::Large->new(name => 'large submitter', cluster => $self) ];
	$self->{last_submitter} = Chaos::Submitter::Last->new(name => 'last submitter', cluster => $self);
	$self->{probe} = Chaos::Appender->new(name => 'probe', cluster => $self);
	foreach my $follower (@{ $self->{followers} })
	{
		my %of = (cluster => $self, node => $follower);

		push @{ $self->{consumers} }, (map { Chaos::FollowerWorker->new(%of, name => "$follower->{name} worker$_", consumer => 'd', leader => $_ == 1) } 1, 2);
		push @{ $self->{group_actors} }, (map { Chaos::FollowerGroup->new(%of, name => "$follower->{name} group$_", leader => $_ == 1) } 1 .. 3);
		push @{ $self->{others} }, Chaos::Intruder->new(%of, name => "$follower->{name} intruder"), Chaos::Witness->new(%of, name => "$follower->{name} witness");
	}
	return;
}

sub everybody { my ($self) = @_; return ($self->SUPER::everybody, @{ $self->{others} }); }
sub at_follower { my ($self, $follower) = @_; return grep { $_->{node} && $_->{node} == $follower } $self->everybody; }

sub value
{
	my ($self, $server, $sql) = @_;
	my ($row) = $self->rows($server, $sql);

	return $row ? $row->[0] : undef;
}

# What a follower says of itself; undef while it cannot.
sub follower_state
{
	my ($self, $follower) = @_;
	my $result = $follower->{ask}->ask('SELECT f.state, f.lag, f.acks_waiting, f.log_index, s.last_applied_index, s.applier_state, f.last_error FROM seq_follower f, seq_state s');

	return if !$result || $result->{lost} || $result->{error} || !@{ $result->{rows} };
	my %of;

	@of{qw(state lag acks log_index applied applier error)} = @{ $result->{rows}[0] };
	return \%of;
}

# Until these follow, have what the source has, and all that was acknowledged is back.  An
# error that does not go away is one.
sub wait_followers
{
	my ($self, @followers) = @_;
	my %said;

	run_until(
		sub {
			my ($end) = map { $_ && !$_->{error} && !$_->{lost} ? $_->{rows}[0][0] : () } $self->{primary}{ask}->ask('SELECT log_end FROM seq_state');

			return 0 if !defined $end;
			foreach my $follower (@followers)
			{
				my $is = $self->follower_state($follower);

				$said{ $follower->{name} } = $is ? join ', ', map { "$_ " . ($is->{$_} // 'null') } sort keys %$is : 'nothing';
				return 0 if !$is || $is->{state} ne 'following' || $is->{acks} != 0 || $is->{log_index} != $end || ($is->{applied} // 0) != $end;
			}
			return 1;
		},
		sub { 'followers to have what the source has: ' . join '; ', map { "$_: $said{$_}" } sort keys %said },
		60, 'follows');
	return;
}

sub appenders_end
{
	my ($self) = @_;

	run_until(sub { !grep { !$_->is_idle } @{ $self->{appenders} }, @{ $self->{submitters} }, @{ $self->{others} }, $self->{probe} }, 'the appenders to end');
	return;
}

sub settle
{
	my ($self) = @_;

	$self->{budget} = 0;
	$self->{quiet} = 1;
	$self->{relay}->heal;
	$self->appenders_end;
	$self->drain_inbox;
	$self->probe;
	run_until(sub { !grep { !$_->is_idle } @{ $self->{consumers} }, @{ $self->{group_actors} } }, 'the consumers to end');
	$self->wait_followers(@{ $self->{followers} });
	$self->{all_applied} = $self->{draining} = 1;
	run_until(
		sub { !grep { !$_->is_idle || $_->{leader} && !$_->{current} } @{ $self->{consumers} }, @{ $self->{group_actors} } },
		'the consumers to be current');
	# what they have acknowledged meanwhile
	$self->wait_followers(@{ $self->{followers} });
	foreach my $server (@{$self}{qw(primary standby)})
	{
		my $end = $self->value($self->{primary}, 'SELECT log_end FROM seq_state');

		run_until(
			sub {
				my $result = $server->{ask}->ask('SELECT last_applied_index, applier_state FROM seq_state');
				return $result && !$result->{error} && !$result->{lost} && ($result->{rows}[0][0] // 0) == $end && $result->{rows}[0][1] eq 'idle';
			},
			"$server->{name} to apply");
	}
	$self->forget_strays;
	return;
}

# Those who have followed under another id than now.
sub forget_strays
{
	my ($self) = @_;

	foreach my $server ($self->{primary}, $self->{followers}[0])
	{
		my %now = map { ($self->value($_, 'SELECT id FROM seq_following') => 1) } grep { $self->source_of($_) == $server } @{ $self->{followers} };

		foreach my $id (grep { !$now{$_} } map { $_->[0] } $self->rows($server, 'SELECT id FROM seq_followers'))
		{
			$self->rows($server, "SELECT seq_drop_follower('$id')");
			$self->{count}{'positions dropped'}++;
		}
	}
	return;
}

# Wherever it is known.
sub forget_position
{
	my ($self, $id) = @_;

	$self->rows($_, "SELECT seq_drop_follower(id) FROM seq_followers WHERE id = '$id'") foreach $self->{primary}, $self->{followers}[0];
	return;
}

# Nobody works at a follower, and nothing that was acknowledged there is on its way.
sub pause_follower
{
	my ($self, $follower) = @_;

	$follower->{paused} = 1;
	run_until(sub { !grep { !$_->is_idle && $_->is_connected } $self->at_follower($follower) }, "those at $follower->{name} to end");
	run_until(
		sub {
			my $result = $follower->{ask}->ask('UPDATE knobs SET acks = false');
			return $result && !$result->{error} && !$result->{lost};
		},
		'acknowledgements to end');
	run_until(sub { my $is = $self->follower_state($follower); return $is && $is->{acks} == 0; }, 'acknowledgements to come back', 60, 'follows');
	return;
}

sub resume_follower
{
	my ($self, $follower) = @_;

	run_until(
		sub {
			my $result = $follower->{ask}->ask('UPDATE knobs SET acks = true');
			return $result && !$result->{error} && !$result->{lost};
		},
		'acknowledgements to begin');
	$follower->{paused} = 0;
	return;
}

# Follow another one, whose log has what comes next here.
sub refollow
{
	my ($self, $follower, $mode) = @_;

	local $follower->{mode} = $mode;
	my $source = $self->source_of($follower);
	my $base = $self->value($source, 'SELECT coalesce(max(log_index), 0) FROM seq_snapshots WHERE base');
	run_until(sub { my $is = $self->follower_state($follower); return $is && $is->{log_index} >= $base; }, "$follower->{name} to have the base of $source->{name}");
	$self->rows($follower, "SELECT seq_follow('" . $self->conninfo($follower) . "')");
	$self->{count}{"followed a $mode"}++;
	run_until(sub { my $is = $self->follower_state($follower); return $is && $is->{state} =~ /^(?:following|catching up)$/; }, "$follower->{name} to follow", 60, 'follows');
	return;
}

sub change_mode
{
	my ($self, $follower, $mode) = @_;

	$self->refollow($follower, $mode);
	$follower->{mode} = $mode;
	return;
}

# From the beginning: the base of the source, and consumers that begin with what was not
# checked yet.  What was acknowledged is on record.
sub make_anew
{
	my ($self, $follower) = @_;

	$follower->{anew} = 1;
	$follower->{paused} = 1;
	run_until(sub { !grep { !$_->is_idle && $_->is_connected } $self->at_follower($follower) }, "those at $follower->{name} to end");
	$self->keep_acked($follower);
	$_->vanish foreach $self->at_follower($follower), $follower->{control};
	# whoever looks at a view of it meanwhile takes the tables in another order
	foreach my $sql (q{SELECT seq_unhandle('h')}, 'DROP EXTENSION calvin_seq CASCADE', 'DROP SCHEMA public CASCADE', 'CREATE SCHEMA public')
	{
		run_until(
			sub {
				my $result = $follower->{ask}->ask($sql);

				violation('no unexpected error', "$sql: $result->{error}{state}: $result->{error}{message}") if $result && $result->{error} && $result->{error}{state} ne '40P01';
				return $result && !$result->{error} && !$result->{lost};
			},
			$sql);
	}
	$follower->{control}->vanish;
	# what its log was before is no part of the model's
	@{ $self->{$_} } = grep { $_->[0] ne $follower->{name} } @{ $self->{$_} } foreach qw(samples witnessed);
	@{$follower}{qw(from at)} = ($self->{checked_epoch} + 1, {});
	$self->make_follower($follower);
	$follower->{control}->vanish;
	delete $follower->{counted};
	@{$follower}{qw(anew paused)} = (0, 0);
	$self->{count}{'made anew'}++;
	return;
}

# What was acknowledged at a follower, whose transactions are committed.
sub keep_acked
{
	my ($self, $follower) = @_;

	push @{ $self->{acked} }, map { [ $follower->{name}, @$_ ] } $self->rows($follower, 'SELECT epoch, pos, vshard FROM acked');
	return;
}

sub disperse
{
	my ($self) = @_;

	$_->leave foreach $self->everybody, @{$self}{qw(probe last_submitter)};
	return;
}

1;
