# Consumers.  What a client has got to see, in whatever transaction, has to be
# in the surviving log: {delivered}.  Beyond that there are three kinds:
#
#   workers   durable cursor: receive, effects, seq_commit in one transaction;
#             Chaos::Worker here, others in Loops.pm
#   readers   no cursor: they remember where they stand (Reader.pm)
#   bare      the queue alone: what they lack was dropped (Reader.pm)
package Chaos::Consumer;

use strict;
use warnings;

use parent -norequire, 'Chaos::Actor';

use Chaos::Actor;
use Chaos::Entry qw(@vshards);

# The SQL they need; what is received becomes, for each call and vshard, its
# keys and a digest of all its bytes.
our $SCHEMA = <<'EOS';
CREATE TABLE effects (n bigint GENERATED ALWAYS AS IDENTITY, consumer text, vshard int, keys text, md5 text, how text,
	pid int DEFAULT pg_backend_pid());
CREATE FUNCTION digest_rows(consumer text, max int, wait interval, OUT vshard int, OUT keys text, OUT md5 text) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT r.vshard, string_agg(r.epoch || '.' || r."position", ',' ORDER BY r.n),
			md5(string_agg(format('%s.%s/%s/%s/%s/%s/%s', r.epoch, r."position", r.epoch_system_ms, r.tenant_id, r.participating_vshards, r.plans, r.tx_class), '|' ORDER BY r.n))
		FROM (SELECT row_number() OVER () AS n, t.* FROM seq_receive(max, wait, consumer) t) r
		GROUP BY r.vshard
$$;
CREATE FUNCTION take(consumer text, max int, wait interval, OUT vshard int, OUT keys text, OUT md5 text) RETURNS SETOF record LANGUAGE sql AS $$
	INSERT INTO effects (consumer, vshard, keys, md5) SELECT take.consumer, d.* FROM digest_rows(consumer, max, wait) d
		RETURNING effects.vshard, effects.keys, effects.md5
$$;
CREATE FUNCTION digest_replay(vshard int, from_epoch bigint, to_epoch bigint, OUT epoch bigint, OUT count bigint, OUT md5 text) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT r.epoch, count(*),
			md5(string_agg(format('%s.%s/%s/%s/%s/%s/%s', r.epoch, r."position", r.epoch_system_ms, r.tenant_id, r.participating_vshards, r.plans, r.tx_class), '|' ORDER BY r.n))
		FROM (SELECT row_number() OVER () AS n, t.* FROM seq_replay(vshard, from_epoch, to_epoch) t) r
		GROUP BY r.epoch
$$;
EOS

# taken over, moved by another, a deadlock or conflict, and what comes of these; no applier yet
sub may_fail
{
	my ($self, $state) = @_;

	return $state =~ /^(?:55006|55000|40001|40P01|22012|25P02|3B001|55P03)$/;
}

sub on_lost { my ($self) = @_; $self->{subscribed} = 0; return; }

sub seen
{
	my ($self, $result) = @_;
	my @chunks = map {
		{ who => "$self->{name} on $self->{on}{name}", vshard => $_->[0], keys => $_->[1], md5 => $_->[2] }
	} @{ $result->{rows} };

	push @{ $self->{cluster}{delivered} }, @chunks;
	$self->{cluster}{deliveries} += 1 + ($_->{keys} =~ tr/,//) foreach @chunks;
	return @chunks;
}

sub list { return join ',', @_ ? @_ : @vshards; }

# At the end of a round: empty-handed after all was applied is current.
sub drained
{
	my ($self, $nothing) = @_;

	$self->{current} = 1 if $nothing && $self->{cluster}{all_applied};
	return;
}

# Several workers take the vshards of one name from each other.
package Chaos::Worker;

use strict;
use warnings;

use Chaos::Entry qw(@vshards);

our @ISA = ('Chaos::Consumer');

sub next_plan
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	my $rng = $self->{rng};
	my $name = $self->{consumer};

	if ($cluster->{draining})
	{
		return if !$self->{leader} || $self->{current};
		return $self->subscribe(Chaos::Consumer::list()) if !$self->{leads};
		my $nothing;

		push @{ $self->{plan} }, ['BEGIN'],
		  [ "SELECT * FROM take('$name', 5000, '0')", sub { $nothing = !$self->seen($_[0]); } ],
		  ["SELECT seq_commit('$name')"],
		  [ 'COMMIT', sub { $self->drained($nothing) unless $_[0]{error} } ];
		return;
	}
	$self->{leads} = 0;
	return if $cluster->{quiet} || $cluster->{workers_quiet};

	# now and then it takes all, or some, from whoever has them
	if (!$self->{subscribed} || $rng->chance($cluster->{takeovers}))
	{
		my @some = grep { $rng->chance(0.5) } @vshards;

		return $self->subscribe(Chaos::Consumer::list($rng->chance(0.6) ? () : @some));
	}
	return $self->plan_transaction;
}

sub subscribe
{
	my ($self, $list) = @_;

	push @{ $self->{plan} },
	  [
		"SELECT seq_subscribe('{$list}', '$self->{consumer}', queue_size => 8192)",
		sub {
			return if $_[0]{error};
			$self->{subscribed} = 1;
			$self->{leads} = 1 if $self->{cluster}{draining};
			$self->{cluster}{count}{takeovers}++;
		}
	  ];
	return;
}

sub plan_transaction
{
	my ($self) = @_;
	my $rng = $self->{rng};
	my $name = $self->{consumer};
	my @steps = ([ $rng->chance(0.2) ? 'BEGIN ISOLATION LEVEL REPEATABLE READ' : 'BEGIN' ]);
	my $take = sub {
		my $max = $rng->any(1, 3, 50, 300, 1000, 1000, 3000);

		return [ "SELECT * FROM take('$name', $max, '5 ms')", sub { $self->seen($_[0]) } ];
	};

	# what is taken back so must not have had effects
	push @steps, [ "SELECT * FROM digest_rows('$name', 50, '0')", sub { $self->seen($_[0]) } ], ["SELECT seq_rewind('$name')"]
	  if $rng->chance(0.05);
	foreach (1 .. 1 + $rng->below(3))
	{
		my $undone = $rng->chance(0.15);
		my $kept = $rng->chance(0.15);

		push @steps, ['SAVEPOINT s'] if $undone || $kept;
		push @steps, $take->();
		push @steps, ["SELECT seq_commit('$name')"] if $rng->chance(0.15);
		push @steps, [ $undone ? 'ROLLBACK TO s' : 'RELEASE s' ] if $undone || $kept;
		push @steps, $rng->real(0.02) if $rng->chance(0.15);
	}
	push @steps, ["SELECT seq_commit('$name')"];
	# somebody may take over between the two
	push @steps, $rng->real(0.05) if $rng->chance(0.25);
	push @steps, [ $rng->chance(0.85) ? 'COMMIT' : $rng->chance(0.3) ? 'SELECT 1/0' : 'ROLLBACK' ];
	push @{ $self->{plan} }, @steps;
	return;
}

sub on_error
{
	my ($self, $result) = @_;

	# nothing is left to it: ask for some, but let the other one get somewhere
	if ($result->{error}{state} =~ /^(?:55006|55000)$/)
	{
		$self->{subscribed} = 0;
		push @{ $self->{plan} }, $self->{rng}->real(0.15) unless $self->{cluster}{draining};
	}
	$self->{leads} = 0 if $result->{error}{state} =~ /^(?:55006|55000|40001)$/;
	return;
}

package Chaos::Monitor;

use strict;
use warnings;

use Chaos::Loop qw(violation);

our @ISA = ('Chaos::Actor');

# a DROP EXTENSION beside it may take the deadlock, or leave it to it
sub may_fail { my ($self, $state) = @_; return $state =~ /^(?:55000|53400|40001|42704|42P01)$/ || $self->{node}{anew} && $state eq '40P01'; }

sub on_connect { my ($self) = @_; $self->{last} = [ -1, -1 ]; return; }

# The state, again and again: it never goes back, and every digest is the model's.
sub next_plan
{
	my ($self) = @_;

	push @{ $self->{plan} }, [
		'SELECT last_applied_epoch, last_applied_index, digest FROM seq_state',
		sub {
			my ($result) = @_;
			return if $result->{error} || !@{ $result->{rows} };
			my ($epoch, $index, $digest) = @{ $result->{rows}[0] };

			$epoch //= -1;
			$index //= 0;
			violation('the state never goes back', "on $self->{node}{name}: from epoch $self->{last}[0] at log_index $self->{last}[1] to epoch $epoch at $index")
			  if $epoch < $self->{last}[0] || $index < $self->{last}[1];
			push @{ $self->{cluster}{samples} }, [ $self->{node}{name}, $epoch, $index, $digest ] if $index > $self->{last}[1];
			$self->{last} = [ $epoch, $index ];
		}
	  ],
	  0.03;
	return;
}

sub is_idle { return 1; }

1;
