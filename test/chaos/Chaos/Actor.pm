# One who uses a server: a connection that comes back when it is lost, and a
# plan of statements and pauses that is gone through one by one.
#
#   next_plan    fills {plan}; nothing to do leaves it empty
#   on_connect   what a new session does first
#   on_error, on_lost
#
# A step of a plan is a number (seconds to pause) or [sql, sub of its result,
# data of a COPY in it]; sql may be a sub that makes it.
package Chaos::Actor;

use strict;
use warnings;

use Chaos::Loop qw(add_actor violation);
use Chaos::Pg;
use Chaos::Rng;
use Time::HiRes qw(time);

sub new
{
	my ($class, %of) = @_;
	my $self = bless { role => 'primary', plan => [], wake_at => 0, reconnect_at => 0, wanted => 1, errors => {}, %of },
	  $class;

	$self->{rng} = Chaos::Rng->new($self->{cluster}{seed}, $self->{name});
	return add_actor($self);
}

sub server
{
	my ($self) = @_;

	return $self->{node} || $self->{cluster}{ $self->{role} };
}

sub is_connected { my ($self) = @_; my $c = $self->{connection}; return $c && !$c->dead && $c->state ne 'starting'; }

sub is_idle
{
	my ($self) = @_;

	return !$self->{wanted} && !$self->is_connected || $self->is_connected && $self->{connection}->ready && !@{ $self->{plan} };
}

sub pid { my ($self) = @_; return $self->is_connected ? $self->{connection}->pid : 0; }

sub describe
{
	my ($self) = @_;
	my $c = $self->{connection};

	return "$self->{name}: " . ($c ? $c->state . ' pid ' . ($c->pid // '-') . ' ' . substr($c->{sql} // '', 0, 100) : 'not connected')
	  . ', last error ' . ($self->{last_error} // 'none') . ', plan ' . scalar(@{ $self->{plan} });
}

sub go_on
{
	my ($self) = @_;
	my $c = $self->{connection};
	my $now = time();

	if (!$c || $c->dead)
	{
		my $server = $self->server;

		return if !$self->{wanted} || $now < $self->{reconnect_at} || !$server || !$server->{postmaster};
		$self->{plan} = [];
		$self->{on} = $server;
		$self->{connection} = Chaos::Pg->new(path => $server->path, name => $self->{name}, database => $self->{database}, user => $self->{cluster}{user},
			on_done => sub { $self->done($_[1]) });
		$self->{reconnect_at} = $now + 0.03;
		return;
	}
	return if !$c->ready || $now < $self->{wake_at};
	$self->next_plan unless @{ $self->{plan} };
	while (@{ $self->{plan} } && $c->ready)
	{
		my $step = shift @{ $self->{plan} };

		if (!ref $step)
		{
			$self->{wake_at} = $now + $step;
			return;
		}
		my ($sql, $then, $data) = @$step;

		$sql = $sql->() if ref $sql;
		$self->{step} = [ $sql, $then ];
		$c->query($sql, $data);
	}
	return;
}

sub done
{
	my ($self, $result) = @_;
	my $step = delete $self->{step};

	if ($result->{error})
	{
		my ($state, $message) = @{ $result->{error} }{qw(state message)};

		$self->{last_error} = "$state: $message" . ($result->{error}{detail} ? " ($result->{error}{detail})" : '');
		$self->{errors}{$state}++;
		violation('no unexpected error', "$self->{name} on " . ($self->{on}{name}) . ": $state: $message\nstatement: "
			  . substr($step ? $step->[0] : 'connecting', 0, 300))
		  unless $self->expects($state, $message);
	}
	if ($result->{lost})
	{
		$self->{plan} = [];
		$self->{wake_at} = 0;
		$self->{reconnect_at} = time() + 0.03;
		$self->on_lost($result, $step) if $result->{was} ne 'starting';
		return;
	}
	if ($result->{was} eq 'starting')
	{
		$self->{wake_at} = 0;
		return $self->on_connect;
	}
	$step->[1]->($result) if $step->[1];
	if ($result->{error})
	{
		$self->{plan} = [];
		$self->on_error($result);
		unshift @{ $self->{plan} }, ['ROLLBACK'] if $result->{status} ne 'I';
	}
	return;
}

# What becomes of every session now and then: terminated, cancelled, the server
# starting, stopping, crashed, in recovery, full.
sub expects
{
	my ($self, $state, $message) = @_;

	return $state =~ /^(?:57P01|57P02|57P03|57P05|57014|53300)$/ || $self->may_fail($state, $message);
}

sub may_fail { return 0; }
sub next_plan { return; }
sub on_connect { return; }
sub on_error { return; }
sub on_lost { return; }

# The client vanishes; another one comes in its place.
sub vanish
{
	my ($self) = @_;
	my $c = $self->{connection};

	return unless $c && !$c->dead;
	my $step = delete $self->{step};
	$c->abandon;
	$self->{plan} = [];
	$self->{wake_at} = 0;
	$self->on_lost({ lost => 1 }, $step);
	return;
}

sub leave
{
	my ($self) = @_;

	$self->{wanted} = 0;
	$self->{connection}->quit if $self->{connection};
	return;
}

# One statement now, from outside of the plan; its result, undef if the
# connection was lost.
sub ask
{
	my ($self, $sql, $seconds) = @_;
	my $result;

	Chaos::Loop::run_until(sub { $self->is_idle && $self->is_connected }, "$self->{name} to be idle");
	push @{ $self->{plan} }, [ $sql, sub { $result = $_[0] } ];
	my $connection = $self->{connection};
	Chaos::Loop::run_until(sub { $result || $connection->dead || $connection != $self->{connection} }, $sql, $seconds);
	return $result;
}

1;
