# Appenders: batches through seq_append, in and out of transactions, and what a
# raw INSERT can put into the log.
package Chaos::Appender;

use strict;
use warnings;

use parent -norequire, 'Chaos::Actor';

use Chaos::Actor;
use Chaos::Entry qw(@vshards random_batch noop_entry ack_entry corrupt_entry);

our $SCHEMA = <<'EOS';
CREATE FUNCTION append_by_cursor(entry bytea) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	c CURSOR FOR SELECT CASE i WHEN 0 THEN seq_append(entry) ELSE 1 / (i - i) END FROM generate_series(0, 1) i;
	log_index bigint;
BEGIN
	OPEN c;
	FETCH c INTO log_index;
	BEGIN
		MOVE c;
	EXCEPTION WHEN division_by_zero THEN
		NULL;
	END;
	RETURN log_index;
END $$;
EOS

# lost the race for the epoch, or the log_index; a lock; a deadlock; a serialisation
# failure; not a primary any more
sub may_fail
{
	my ($self, $state) = @_;

	return $state =~ /^(?:55000|22023|55P03|40P01|40001|25006|22012|25P02)$/;
}

sub hex_of { my ($entry) = @_; return "'\\x" . unpack('H*', $entry->{bytes}) . "'"; }

sub next_plan
{
	my ($self) = @_;

	return if $self->{cluster}{budget} <= 0 || $self->{cluster}{backlog} > $Chaos::Gauge::MOST;
	$self->{in_flight} = [];
	push @{ $self->{plan} },
	  [
		'SELECT coalesce(seq_current_committed_epoch(), -1) + 1',
		sub { my ($result) = @_; $self->plan_appends($result->{rows}[0][0]) unless $result->{error}; }
	  ];
	return;
}

sub plan_appends
{
	my ($self, $epoch) = @_;
	my $rng = $self->{rng};

	return $self->{odd} ? $self->plan_odd($epoch)
	  : !$self->{cluster}{without}{cursors} && $rng->chance(0.1) ? $self->plan_cursor($epoch)
	  : $rng->chance(0.7) ? $self->plan_single($epoch)
	  : $self->plan_transaction($epoch);
}

sub batch
{
	my ($self, $epoch) = @_;
	my $rng = $self->{rng};
	my $most = $self->{cluster}{batch};
	my $count = 1 + $rng->below($rng->chance(0.15) ? 10 : $most);
	my $large = $rng->chance(0.06) ? 8000 + $rng->below(12000) : $rng->chance(0.01) ? 300_000 : 0;

	return random_batch($rng, $epoch, $count, $large);
}

# A step that appends one entry by an expression that returns its log_index.
sub append_step
{
	my ($self, $entry, $sql, $then) = @_;

	return [
		$sql,
		sub {
			my ($result) = @_;

			if ($result->{error}) { $self->refuse; }
			else
			{
				$entry->{said} = $result->{rows}[-1][0];
				$then->($result) if $then;
			}
		}
	];
}

# Announce to the model what is about to be sent.
sub sending
{
	my ($self, @entries) = @_;

	foreach my $entry (@entries)
	{
		$self->{cluster}{model}->sent($entry);
		push @{ $self->{in_flight} }, $entry;
	}
	return;
}

sub refuse
{
	my ($self) = @_;

	$_->{known} = 'refused' foreach @{ $self->{in_flight} };
	$self->{in_flight} = [];
	return;
}

# It is committed; and if the commit waited to its end, not to be lost.
sub acknowledge
{
	my ($self, $result, $synchronous) = @_;
	my $cluster = $self->{cluster};
	my $safe = $synchronous && !@{ $result->{notices} };

	foreach my $entry (@{ $self->{in_flight} })
	{
		$cluster->{model}->acknowledged($entry, $entry->{said}, $safe, $self->{on}{ask}{connection});
		$cluster->{budget} -= @{ $entry->{txns} };
		$cluster->{appended} += @{ $entry->{txns} };
		$cluster->{ $safe ? 'acked_safe' : 'acked_unsafe' }++;
	}
	$self->{in_flight} = [];
	return;
}

sub on_lost
{
	my ($self) = @_;

	$_->{known} = 'unknown' foreach @{ $self->{in_flight} || [] };
	$self->{in_flight} = [];
	return;
}

sub on_error { my ($self) = @_; return $self->refuse; }

sub plan_single
{
	my ($self, $epoch) = @_;
	my $entry = $self->batch($epoch);

	$self->sending($entry);
	push @{ $self->{plan} },
	  $self->append_step($entry, 'SELECT seq_append(' . hex_of($entry) . ')', sub { $self->acknowledge($_[0], 1) });
	return;
}

# Several, with savepoints, asynchronous or not, committed or not.
sub plan_transaction
{
	my ($self, $epoch) = @_;
	my $rng = $self->{rng};
	my $mode = $rng->any(qw(on on off local));
	my @steps = (['BEGIN' . ($rng->chance(0.2) ? ' ISOLATION LEVEL REPEATABLE READ' : '')]);
	my $pause = $rng->chance(0.1) ? $rng->real(0.05) : 0;

	push @steps, ["SET LOCAL synchronous_commit = $mode"] if $mode ne 'on';
	foreach (1 .. 1 + $rng->below(3))
	{
		my $undone = $rng->chance(0.25);
		my $entry = $self->batch($epoch);

		push @steps, ['SAVEPOINT s'] if $undone;
		$self->sending($entry);
		push @steps, $self->append_step($entry, 'SELECT seq_append(' . hex_of($entry) . ')');
		push @steps,
		  [
			'ROLLBACK TO s',
			sub {
				return if $_[0]{error};
				$entry->{known} = 'refused';
				@{ $self->{in_flight} } = grep { $_ != $entry } @{ $self->{in_flight} };
			}
		  ] if $undone;
		$epoch++ unless $undone;
	}
	push @steps, $pause if $pause;
	if ($rng->chance(0.85))
	{
		push @steps, [ 'COMMIT', sub { my ($result) = @_; $result->{error} ? $self->refuse : $self->acknowledge($result, $mode eq 'on') } ];
	}
	else { push @steps, [ 'ROLLBACK', sub { $self->refuse } ]; }
	push @{ $self->{plan} }, @steps;
	return;
}

# Through a cursor that fails at its second row: what was appended at the first
# one stays, and with it all that keeps others behind it.
sub plan_cursor
{
	my ($self, $epoch) = @_;
	my $rng = $self->{rng};
	my $entry = $self->batch($epoch);
	my @more = $rng->chance(0.3) ? $self->batch($epoch + 1) : ();

	$self->sending($entry, @more);
	push @{ $self->{plan} }, ['BEGIN'], $self->append_step($entry, 'SELECT append_by_cursor(' . hex_of($entry) . ')'), $rng->real(0.08);
	push @{ $self->{plan} }, $self->append_step($_, 'SELECT seq_append(' . hex_of($_) . ')') foreach @more;
	push @{ $self->{plan} }, $rng->chance(0.85)
	  ? [ 'COMMIT', sub { my ($result) = @_; $result->{error} ? $self->refuse : $self->acknowledge($result, 1) } ]
	  : [ 'ROLLBACK', sub { $self->refuse } ];
	return;
}

# What seq_append would not let in, and what it would not let in here.
sub plan_odd
{
	my ($self, $epoch) = @_;
	my $rng = $self->{rng};
	my $kind = $rng->any(qw(noop noop ack ack corrupt corrupt stale gap gap forced many many refused explicit));
	my @entries;
	my $sql;

	if ($kind eq 'noop') { @entries = (noop_entry()); $sql = q{SELECT seq_append('')}; }
	elsif ($kind eq 'ack')
	{
		my ($of, $position, $vshard) = ($rng->below($epoch + 2), $rng->below(20), $rng->any(@vshards));

		@entries = (ack_entry($of, $position, $vshard));
		$sql = "SELECT seq_ack($of, $position, $vshard)";
	}
	elsif ($kind eq 'forced')
	{
		@entries = ($self->batch($epoch + 1 + $rng->below(3)));
		$sql = 'SELECT seq_append(' . hex_of($entries[0]) . ', true)';
	}
	elsif ($kind eq 'refused')
	{
		@entries = (random_batch($rng, $rng->below($epoch + 1), 3));
		$sql = 'SELECT seq_append(' . hex_of($entries[0]) . ')';
	}
	else
	{
		@entries =
		    $kind eq 'corrupt' ? (corrupt_entry($rng, $epoch))
		  : $kind eq 'stale' ? (random_batch($rng, $rng->below($epoch + 1), 1 + $rng->below(20)))
		  : $kind eq 'gap' ? (random_batch($rng, $epoch + 1 + $rng->below(3), 1 + $rng->below(50)))
		  : $kind eq 'explicit' ? (random_batch($rng, $epoch, 1 + $rng->below(50)))
		  : (noop_entry(), random_batch($rng, $epoch, 10), corrupt_entry($rng, $epoch), random_batch($rng, $epoch + 1, 10),
			random_batch($rng, $epoch, 10), ack_entry($epoch, 1, $rng->any(@vshards)), random_batch($rng, $epoch + 3, 10));
		my $values = join ', ', map { $kind eq 'explicit' ? '((SELECT max(log_index) FROM seq_log) + ' . (1 + $rng->below(4)) . ', ' . hex_of($_) . '::bytea)' : '(' . hex_of($_) . ')' } @entries;
		$sql = 'INSERT INTO seq_log (' . ($kind eq 'explicit' ? 'log_index, ' : '') . "entry) VALUES $values RETURNING log_index";
	}
	$self->sending(@entries);
	push @{ $self->{plan} },
	  [
		$sql,
		sub {
			my ($result) = @_;

			return $self->refuse if $result->{error};
			$entries[$_]{said} = $result->{rows}[$_][0] foreach 0 .. $#entries;
			$self->acknowledge($result, 1);
		}
	  ],
	  $rng->real(0.06);
	return;
}

package Chaos::Appender::Tails;

use strict;
use warnings;

use Chaos::Entry qw(random_batch);

our @ISA = ('Chaos::Appender');

# Pairs of batches: of the first one the last transaction does not fit a queue of
# 8 kB, of the next one nothing does.  So it is only told of, at a lower position.
sub next_plan
{
	my ($self) = @_;

	return if $self->{enough};
	$self->{in_flight} = [];
	push @{ $self->{plan} },
	  [
		'SELECT coalesce(seq_current_committed_epoch(), -1) + 1',
		sub { my ($result) = @_; $self->plan_appends($result->{rows}[0][0]) unless $result->{error}; }
	  ];
	return;
}

sub plan_appends
{
	my ($self, $epoch) = @_;
	my $rng = $self->{rng};
	my ($tail, $alone) = (random_batch($rng, $epoch, 40, 9000, 39), random_batch($rng, $epoch + 1, 1, 9000, 0));
	my $step = sub { my ($entry, $then) = @_; return $self->append_step($entry, 'SELECT seq_append(' . Chaos::Appender::hex_of($entry) . ')', $then); };

	$self->sending($tail);
	push @{ $self->{plan} },
	  $step->($tail, sub { $self->acknowledge($_[0], 1); $self->sending($alone); }),
	  $step->($alone, sub { $self->acknowledge($_[0], 1); $self->{pairs}++; }),
	  $rng->real(0.01);
	return;
}

package Chaos::Appender::Burst;

use strict;
use warnings;

use Chaos::Entry qw(random_batch idle_batch);

our @ISA = ('Chaos::Appender');

# {count} entries of one transaction each, in one COPY.  Only those at its end are
# for somebody, so that who calls before finds nothing.  They are {built} a few at
# a time, while the others go on; that is why their epochs begin a little above
# the log's.  When they are {copied} they wait for {go}; {finished}: it is over.
sub next_plan
{
	my ($self) = @_;

	return $self->plan_begin if !defined $self->{epoch};
	return $self->build if !$self->{built};
	return if $self->{finished};
	return $self->plan_copy if !$self->{copied};
	push @{ $self->{plan} }, [ 'COMMIT', sub { $self->acknowledge($_[0], 1) unless $_[0]{error}; $self->{finished} = 1; } ] if $self->{go};
	return;
}

sub plan_copy
{
	my ($self) = @_;
	my $data = join '', map { '\\\\x' . unpack('H*', $_->{bytes}) . "\n" } @{ $self->{in_flight} };

	push @{ $self->{plan} }, ['BEGIN'], [ 'COPY seq_log (entry) FROM STDIN', undef, $data ],
	  [
		'SELECT max(log_index) FROM seq_log',
		sub {
			my ($result) = @_;
			my $said = $result->{error} ? return : $result->{rows}[0][0] - @{ $self->{in_flight} };

			$_->{said} = ++$said foreach @{ $self->{in_flight} };
			$self->{copied} = 1;
		}
	  ];
	return;
}

sub plan_begin
{
	my ($self) = @_;

	push @{ $self->{plan} },
	  [
		'SELECT coalesce(seq_current_committed_epoch(), -1) + 2000',
		sub { $self->{epoch} = $_[0]{rows}[0][0] unless $_[0]{error}; }
	  ];
	return;
}

sub build
{
	my ($self) = @_;
	my $rng = $self->{rng};
	my $entries = $self->{in_flight} ||= [];

	foreach (1 .. 500)
	{
		last if @$entries == $self->{count};
		$self->sending(@$entries < $self->{count} * 0.9 ? idle_batch($self->{epoch}++) : random_batch($rng, $self->{epoch}++, 1));
	}
	$self->{built} = @{ $self->{in_flight} } == $self->{count};
	return;
}

# No second try: it is a burst that was lost.
sub on_error { my ($self) = @_; $self->{finished} = 1; return $self->refuse; }

sub on_lost
{
	my ($self) = @_;

	$self->{built} = $self->{finished} = 1 if $self->{epoch};
	return $self->SUPER::on_lost;
}

1;
