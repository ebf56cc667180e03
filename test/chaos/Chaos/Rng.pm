# Random choices that a seed repeats.
#
# Every actor and every round has a generator of its own, so that what one of
# them draws does not depend on how fast the others are.
package Chaos::Rng;

use strict;
use warnings;

use Digest::MD5 qw(md5);

# Chaos::Rng->new(seed, words...)
sub new
{
	my ($class, @words) = @_;
	my $state = unpack('N', md5(join ' ', @words)) || 1;

	return bless \$state, $class;
}

# xorshift, 32 bits
sub word
{
	my ($self) = @_;
	my $x = $$self;

	$x ^= ($x << 13) & 0xffffffff;
	$x ^= $x >> 17;
	$x ^= ($x << 5) & 0xffffffff;
	return $$self = $x;
}

# From 0, below n.
sub below
{
	my ($self, $n) = @_;

	return $self->word % $n;
}

# From 0, below n, with a fraction.
sub real
{
	my ($self, $n) = @_;

	return $self->word / 4294967296 * $n;
}

sub chance
{
	my ($self, $p) = @_;

	return $self->real(1) < $p;
}

sub any
{
	my ($self, @of) = @_;

	return $of[ $self->below(scalar @of) ];
}

sub shuffle
{
	my ($self, @of) = @_;

	for (my $i = @of - 1; $i > 0; $i--)
	{
		my $j = $self->below($i + 1);

		@of[ $i, $j ] = @of[ $j, $i ];
	}
	return @of;
}

1;
