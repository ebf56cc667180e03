# Consumers without a durable cursor.  Where they stand they know themselves, and
# say so when they have to subscribe again.
#
#   Chaos::Reader   {next} by vshard, the key to go on with; {chunks}, what it
#                   received and kept
#   Chaos::Slow     polls every 0 to 2 s
#   Chaos::Bare     the queue alone
package Chaos::Reader;

use strict;
use warnings;

use Chaos::Consumer;
use Chaos::Entry qw(@vshards);

our @ISA = ('Chaos::Consumer');

sub new
{
	my ($class, %of) = @_;
	my $self = Chaos::Actor::new($class, vshards => [@vshards], next => {}, chunks => [], %of);

	$self->{at} = { map { ($_ => 0) } @{ $self->{vshards} } };
	return $self;
}

sub next_plan
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	my $rng = $self->{rng};

	return $self->subscribe unless $self->{subscribed};
	return if $cluster->{draining} ? $self->{current} : $cluster->{quiet};
	return $self->plan_receive(5000) if $cluster->{draining} || $rng->chance(0.5);
	return $self->plan_transaction;
}

sub subscribe
{
	my ($self) = @_;
	my $size = $self->{queue_size} || 8192;

	push @{ $self->{plan} },
	  [
		join('; ', map {
			my ($epoch, $position) = split /\./, $self->{next}{$_} || '0.0';
			"SELECT seq_subscribe('{$_}', '$self->{consumer}', $epoch, $position, queue_size => $size)"
		} @{ $self->{vshards} }),
		sub { $self->{subscribed} = 1 unless $_[0]{error} }
	  ];
	return;
}

# Nobody waits for one who is not there, or on a standby: the log may have been
# truncated.  It goes on where that begins, and says so.
sub skip_truncated
{
	my ($self) = @_;

	$self->{subscribed} = 0;
	push @{ $self->{plan} },
	  [
		q{SELECT coalesce((SELECT last_applied_epoch + 1 FROM seq_snapshots WHERE base), 0)},
		sub {
			my ($result) = @_;
			my $epoch = $result->{error} ? return : $result->{rows}[0][0];

			push @{ $self->{chunks} }, { jump => $epoch };
			$self->{cluster}{count}{jumps}++;
			foreach my $vshard (@{ $self->{vshards} })
			{
				my ($next) = split /\./, $self->{next}{$vshard} || '0.0';

				$self->{next}{$vshard} = "$epoch.0" if $next < $epoch;
			}
		}
	  ];
	return;
}

sub keep
{
	my ($self, @chunks) = @_;

	push @{ $self->{chunks} }, @chunks;
	foreach my $chunk (@chunks)
	{
		my ($epoch, $position) = $chunk->{keys} =~ /(\d+)\.(\d+)\z/;

		$self->{next}{ $chunk->{vshard} } = "$epoch." . ($position + 1);
	}
	return;
}

sub receive_sql { my ($self, $max) = @_; return "SELECT * FROM digest_rows('$self->{consumer}', $max, '5 ms')"; }

sub plan_receive
{
	my ($self, $max) = @_;

	push @{ $self->{plan} },
	  [
		$self->receive_sql($max),
		sub {
			my ($result) = @_;
			my @chunks = $self->seen($result);

			return if $result->{error};
			$self->keep(@chunks);
			$self->drained(!@chunks);
		}
	  ];
	return;
}

sub plan_transaction
{
	my ($self) = @_;
	my $rng = $self->{rng};
	my @got;
	my $receive = sub {
		return [
			$self->receive_sql($rng->any(1, 7, 100, 1000)),
			sub { my @chunks = $self->seen($_[0]); push @got, @chunks unless $_[0]{error}; }
		];
	};
	my @steps = (['BEGIN'], $receive->());

	if ($rng->chance(0.5))
	{
		my $mark;

		push @steps, [ 'SAVEPOINT s', sub { $mark = @got } ], $receive->(),
		  [ 'ROLLBACK TO s', sub { $#got = $mark - 1 unless $_[0]{error} } ];
	}
	push @steps, [ "SELECT seq_rewind('$self->{consumer}')", sub { @got = () unless $_[0]{error} } ], $receive->()
	  if $rng->chance(0.1);
	push @steps, $receive->() if $rng->chance(0.5);
	push @steps,
	    $rng->chance(0.7) ? [ 'COMMIT', sub { $self->keep(@got) unless $_[0]{error} } ]
	  : $rng->chance(0.5) ? ['ROLLBACK']
	  :                     ['SELECT 1/0'];
	push @{ $self->{plan} }, @steps;
	return;
}

sub on_error
{
	my ($self, $result) = @_;

	$self->{subscribed} = 0 if $result->{error}{state} =~ /^(?:55006|55000)$/;
	$self->skip_truncated if $result->{error}{message} =~ /truncated/;
	return;
}

package Chaos::Slow;

use strict;
use warnings;

use Time::HiRes qw(time);

our @ISA = ('Chaos::Reader');

# It does not pause in a plan, so that nobody has to wait for it at rest.
sub next_plan
{
	my ($self) = @_;
	my $cluster = $self->{cluster};

	return $self->subscribe unless $self->{subscribed};
	return $self->{current} || $self->plan_receive(100_000) if $cluster->{draining};
	return if $cluster->{quiet} || time() < ($self->{poll_at} || 0);
	$self->{poll_at} = time() + $self->{rng}->real(2);
	return $self->plan_receive(100_000);
}

package Chaos::Bare;

use strict;
use warnings;

our @ISA = ('Chaos::Reader');

sub next_plan
{
	my ($self) = @_;
	my $cluster = $self->{cluster};

	return $self->subscribe unless $self->{subscribed};
	return if $cluster->{draining} ? $self->{current} : $cluster->{quiet};
	$self->plan_receive(3000);
	push @{ $self->{plan} }, $self->{rng}->real(0.03) unless $cluster->{draining};
	return;
}

sub subscribe
{
	my ($self) = @_;
	my $list = Chaos::Consumer::list();

	$self->{received} = {};
	$self->{uncounted} = 0;
	push @{ $self->{plan} },
	  [
		"SELECT seq_subscribe('{$list}', '$self->{consumer}', queue_size => 65536, lossless => false)",
		sub { $self->{subscribed} = 1 unless $_[0]{error} }
	  ];
	return;
}

sub keep
{
	my ($self, @chunks) = @_;

	push @{ $self->{chunks} }, @chunks;
	$self->{received}{ $_->{vshard} } += 1 + ($_->{keys} =~ tr/,//) foreach @chunks;
	return;
}

# A call that failed took with it what it had received: from then on it cannot
# be counted.
sub on_error
{
	my ($self, $result) = @_;

	$self->{uncounted} = 1;
	return $self->SUPER::on_error($result);
}

1;
