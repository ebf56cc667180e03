# What must become of submissions: each one that was committed is in the log once,
# none that was rolled back is, and their order is that of the contract.
#
# It knows every transaction with what it submitted, in the order of the calls,
# what it saw of others, and when its COMMIT was sent and acknowledged, by a clock
# that ticks with each event of this process.  What the log has is found by marks
# in the plans, "~sub~TRANSACTION.NUMBER:WHAT IT SAW;", and is compared byte for
# byte; what only the server knew when it submitted stands in that mark.
#
#   known   open        not committed yet
#           committing  COMMIT was sent
#           acked       and acknowledged
#           refused     it was rolled back, or never committed
#           unknown     the connection was lost meanwhile
package Chaos::Order;

use strict;
use warnings;

use CalvinWire;
use Chaos::Loop qw(violation);
use Exporter 'import';

our @EXPORT_OK = qw($MARK shape);

our $MARK = '~sub~';

# new(vshards that have consumers)
sub new
{
	my ($class, @vshards) = @_;

	return bless {
		streams => { map { ($_ => 1) } @vshards },
		last => 0,			# transactions so far
		txns => {},			# by id, those that were not settled yet
		present => '',		# a bit for each that was: is it in the log?
		numbers => '',		# a bit for each submission number given out
		clock => 0,
		position => 0,		# submissions found in the log
		found => [],		# those since the last check, in the log's order
		count => { map { ($_ => 0) } qw(submissions committed undone lost dependencies pairs) },
	}, $class;
}

sub tick { my ($self) = @_; return ++$self->{clock}; }

# A transaction that may submit something.
sub begin
{
	my ($self, $who) = @_;
	my $id = ++$self->{last};

	return $self->{txns}{$id} = { id => $id, who => $who, subs => [], saw => {}, known => 'open' };
}

# What all submissions of a kind have in common: bytes before the plans and behind
# them, and the vshards that take part.
#
#   shape(collection, tenant)			as seq_send makes them
#   shape([sets], tenant, dependent, [vshards], written)
#
# "written" is as in Entry.pm.
my %shapes;

sub shape
{
	my ($of, $tenant, $dependent, $vshards, $written) = @_;

	return { prefix => "\x95\x90" . mp_array(@$of), suffix => mp_uint($tenant) . $dependent, vshards => $vshards, written => $written, text => text_of($tenant, $vshards) } if ref $of;
	return $shapes{"$of $tenant"} ||= {
		prefix => "\x95\x90" . mp_array(mp_array(mp_str('Document'), mp_array(mp_str($of), mp_array()))),
		suffix => mp_uint($tenant) . "\xc0",
		vshards => [ vshard_of($of) ],
		written => { vshard_of($of) => [$of] },
		text => text_of($tenant, [ vshard_of($of) ]),
	};
}

sub text_of { my ($tenant, $vshards) = @_; return "$tenant/{" . join(',', @$vshards) . '}'; }

# A submission of a transaction; later ones are called later.  Its plans end with
# so many bytes of filling, and stand between quotes if it is JSON.
sub submission
{
	my ($self, $txn, $shape, $filling, $quote) = @_;
	my $sub = { txn => $txn, n => scalar @{ $txn->{subs} }, shape => $shape, filling => $filling, quote => $quote // '', known => 'sent' };

	push @{ $txn->{subs} }, $sub;
	$self->{count}{submissions}++;
	return $sub;
}

sub mark { my ($sub, $saw) = @_; return "$MARK$sub->{txn}{id}.$sub->{n}:" . ($saw // '') . ';'; }

sub plans
{
	my ($sub, $saw) = @_;

	return $sub->{quote} . mark($sub, $saw) . 'x' x $sub->{filling} . $sub->{quote};
}

sub class { my ($sub, $saw) = @_; return $sub->{shape}{prefix} . mp_bin(plans($sub, $saw)) . $sub->{shape}{suffix}; }

# It is rolled back, with a savepoint or by an exception.
sub undo
{
	my ($self, @subs) = @_;

	$_->{known} = 'refused' foreach @subs;
	$self->{count}{undone} += @subs;
	return;
}

# The numbers that calls have returned.
sub numbered
{
	my ($self, $txn, @numbers) = @_;

	push @{ $txn->{numbers} }, @numbers;
	return;
}

# It has seen what these have committed.
sub saw
{
	my ($self, $txn, @others) = @_;

	$txn->{saw}{$_} = 1 foreach @others;
	return;
}

sub committing
{
	my ($self, $txn) = @_;

	$txn->{known} = 'committing';
	$txn->{commit_at} = $self->tick;
	return;
}

# Safe: nothing may lose it.  Else it stays for as long as the server does, of which
# a session is the witness.
sub acknowledged
{
	my ($self, $txn, $safe, $witness) = @_;

	$txn->{known} = 'acked';
	$txn->{acked_at} = $self->tick;
	$txn->{safe} = $safe;
	$txn->{witness} = $witness;
	return;
}

sub refused { my ($self, $txn) = @_; $txn->{known} = 'refused'; return; }

# The connection was lost.
sub lost
{
	my ($self, $txn) = @_;

	$txn->{known} = $txn->{known} eq 'committing' ? 'unknown' : 'refused' unless $txn->{known} eq 'acked';
	return;
}

sub describe
{
	my ($sub) = @_;
	my $txn = $sub->{txn};

	return "submission $sub->{n} of transaction $txn->{id} ($txn->{who}, $txn->{known}" . ($txn->{safe} ? ', safe' : '') . ')';
}

#
# Reading a batch of the sequencer's
#

# Its ms, and its transactions as [submission, plans, class, what it saw].  An error
# unless each byte is what it must be.
sub read_batch
{
	my ($self, $entry, $epoch) = @_;
	my $encoded = mp_uint($epoch);
	my $head = "\x92" . mp_str('EpochBatch') . "\x91\x93$encoded";
	my ($ms, $encoded_ms, @txns);
	my $wrong = sub { violation('byte for byte', "the batch of epoch $epoch, position " . @txns . ": $_[0]"); };

	$wrong->('it does not begin as a batch') if substr($entry, 0, length $head) ne $head;
	my ($type, $short, $long) = unpack 'x' . length($head) . ' C n N', $entry . "\0" x 8;
	my $count = $type == 0xdc ? unpack('n', substr $entry, length($head) + 1, 2) : $type == 0xdd ? unpack('N', substr $entry, length($head) + 1, 4) : $type & 0x0f;
	my $at = length($head) + length mp_array_header($count);

	foreach my $position (0 .. $count - 1)
	{
		my $before = "\x94$encoded" . mp_uint($position);

		$wrong->('a transaction begins otherwise') if substr($entry, $at, length $before) ne $before;
		$at += length $before;
		pos($entry) = $at;
		$entry =~ /~sub~(\d+)\.(\d+):([\d,]*);/g or $wrong->('nobody submitted this');
		my ($id, $n, $saw) = ($1, $2, $3);
		my $txn = $self->{txns}{$id};

		if (!$txn)
		{
			my $was = $id <= $self->{last} ? (vec($self->{present}, $id, 1) ? 'is in the log already' : 'was not committed') : 'does not exist';
			violation('each submission once', "submission $n of transaction $id is in epoch $epoch, position $position; the transaction $was");
		}
		my $sub = $txn->{subs}[$n] or $wrong->("transaction $id has no submission $n");
		my $class = class($sub, $saw);

		$wrong->(describe($sub) . ' is not what was submitted') if substr($entry, $at, length $class) ne $class;
		$at += length $class;
		if (!defined $ms)
		{
			$ms = read_int($entry, $at) // $wrong->('no ms');
			$encoded_ms = mp_int($ms);
		}
		$wrong->('another ms') if substr($entry, $at, length $encoded_ms) ne $encoded_ms;
		$at += length $encoded_ms;
		push @txns, [ $sub, plans($sub, $saw), $class, $saw ];
	}
	$wrong->('its end') if substr($entry, $at) ne $encoded_ms;
	return ($ms, @txns);
}

sub read_int
{
	my ($bytes, $at) = @_;
	my ($type) = unpack "x$at C", $bytes;

	return $type if $type < 0x80;
	return $type - 256 if $type >= 0xe0;
	my $format = { 0xd0 => 'c', 0xd1 => 's>', 0xd2 => 'l>', 0xd3 => 'q>' }->{$type} or return;
	return unpack 'x' . ($at + 1) . " $format", $bytes;
}

# The next batch of the log: noted, and what each vshard must get of it as
# Entry.pm has it.
sub take_batch
{
	my ($self, $entry, $epoch) = @_;
	my ($ms, @txns) = $self->read_batch($entry, $epoch);
	my $position = 0;

	foreach (@txns)
	{
		my ($sub, undef, undef, $saw) = @$_;

		violation('each submission once', describe($sub) . " is in the log twice, the second time in epoch $epoch, position $position") if defined $sub->{place};
		$sub->{place} = $self->{position}++;
		$sub->{key} = [ $epoch, $position++ ];
		$self->saw($sub->{txn}, split /,/, $saw) if $saw ne '';
		push @{ $self->{found} }, $sub;
	}
	return $self->contents($epoch, $ms, @txns);
}

# For the vshards that somebody listens to.
sub contents
{
	my ($self, $epoch, $ms, @txns) = @_;
	my $position = -1;

	return map {
		my ($sub, $plans, $class) = @$_;
		my $vshards = $self->listened($sub->{shape}{vshards});

		$position++;
		[ $vshards, @$vshards ? "$epoch.$position/$ms/$sub->{shape}{text}/\\x" . unpack('H*', $plans) . '/\\x' . unpack('H*', $class) : '',
			$sub->{shape}{written} ]
	} @txns;
}

sub listened
{
	my ($self, $vshards) = @_;

	return $self->{listened}{"@$vshards"} ||= [ grep { $self->{streams}{$_} } @$vshards ];
}

#
# At rest, all of the log having been read
#

sub check
{
	my ($self, $witness) = @_;

	$self->check_once($witness);
	$self->check_calls;
	$self->check_seen($self->{found});
	$self->check_acknowledged($self->{found});
	return;
}

# All of it was checked.  Of transactions it is kept whether they are in the log.
sub forget
{
	my ($self) = @_;

	foreach my $txn (values %{ $self->{txns} })
	{
		$self->{count}{committed} += $txn->{in_log} || 0;
		$self->check_numbers($txn) if $txn->{in_log};
		# of who has submitted nothing it is unknown
		vec($self->{present}, $txn->{id}, 1) = $txn->{in_log} || !grep({ $_->{known} ne 'refused' } @{ $txn->{subs} }) ? 1 : 0;
	}
	$self->{txns} = {};
	$self->{found} = [];
	return;
}

# Numbers are unique for ever: of what was not lost with a server before it was
# durable.
sub check_numbers
{
	my ($self, $txn) = @_;

	foreach my $number (@{ $txn->{numbers} || [] })
	{
		violation('each submission once', "submission number $number was given out twice, the second time to transaction $txn->{id} ($txn->{who})") if vec $self->{numbers}, $number, 1;
		vec($self->{numbers}, $number, 1) = 1;
	}
	return;
}

sub check_once
{
	my ($self, $witness) = @_;

	foreach my $sub (@{ $self->{found} })
	{
		my $txn = $sub->{txn};

		violation('each submission once', describe($sub) . ", which was rolled back, is in the log, epoch $sub->{key}[0]")
		  if $sub->{known} eq 'refused' || $txn->{known} eq 'refused' || $txn->{known} eq 'open';
		violation('each submission once', describe($sub) . " is at @{ $sub->{key} }, seq_submission says (@{ $sub->{said} })")
		  if $sub->{said} && "@{ $sub->{said} }" ne "@{ $sub->{key} }";
		$txn->{in_log}++;
		$txn->{first} //= $sub->{place};
		$txn->{last} = $sub->{place};
	}
	foreach my $txn (sort { $a->{id} <=> $b->{id} } values %{ $self->{txns} })
	{
		my $must = $txn->{in_log} || $txn->{known} eq 'acked' && ($txn->{safe} || $txn->{witness} && $txn->{witness} == $witness);

		if (!$must) { $self->{count}{lost}++ if $txn->{known} =~ /acked|unknown/; next; }
		my ($missing) = grep { $_->{known} ne 'refused' && !defined $_->{place} } @{ $txn->{subs} };

		violation('each submission once', describe($missing) . ' is not in the log; of its transaction ' . ($txn->{in_log} || 0) . ' submissions of ' . @{ $txn->{subs} } . ' are') if $missing;
	}
	return;
}

# Within a transaction the order of the calls.
sub check_calls
{
	my ($self) = @_;
	my %last;

	foreach my $sub (@{ $self->{found} })
	{
		my $id = $sub->{txn}{id};

		violation('order of submissions', describe($sub) . " comes after submission $last{$id} of the same transaction") if defined $last{$id} && $last{$id} > $sub->{n};
		$last{$id} = $sub->{n};
	}
	return;
}

# After all that was visible.
sub check_seen
{
	my ($self, $found) = @_;
	my %checked;

	foreach my $sub (@$found)
	{
		my $txn = $sub->{txn};

		next if $checked{ $txn->{id} }++;
		foreach my $id (grep { $_ != $txn->{id} } keys %{ $txn->{saw} })
		{
			my $other = $self->{txns}{$id};

			$self->{count}{dependencies}++;
			if (!$other)
			{
				violation('each submission once', describe($sub) . " saw transaction $id, whose submissions are not in the log") unless vec $self->{present}, $id, 1;
				next;
			}
			next unless grep { $_->{known} ne 'refused' } @{ $other->{subs} };
			violation('each submission once', describe($sub) . ' saw ' . describe($other->{subs}[0]) . ', which is not in the log') if !$other->{in_log};
			violation('order of submissions', describe($sub) . " comes before the last one of transaction $id ($other->{who}), which it saw") if $other->{last} > $txn->{first};
		}
	}
	return;
}

# After all that had been acknowledged when its COMMIT was sent: going back from the
# end, the earliest acknowledgement of what comes later is known.
sub check_acknowledged
{
	my ($self, $found) = @_;
	my ($earliest, $of);

	foreach my $sub (reverse @$found)
	{
		my $txn = $sub->{txn};

		$self->{count}{pairs}++;
		violation('order of submissions', describe($sub) . ' comes before ' . describe($of) . ', which was acknowledged before its COMMIT was sent')
		  if defined $earliest && defined $txn->{commit_at} && $earliest < $txn->{commit_at};
		($earliest, $of) = ($txn->{acked_at}, $sub) if $txn->{acked_at} && (!defined $earliest || $txn->{acked_at} < $earliest);
	}
	return;
}

#
# A restored database, which has sequenced what waited when it was dumped
#

# Its batches behind "last_epoch", as [epoch, entry]; "since" is the clock when the
# dump began, undef if what was acknowledged then need not be in it.  Returns what
# the vshards get: [epoch, contents...] for each.
sub check_restored
{
	my ($self, $last_epoch, $since, @batches) = @_;
	my (@result, %there, $before);

	foreach (@batches)
	{
		my ($entry, $epoch) = @$_;
		my ($ms, @txns) = $self->read_batch($entry, $epoch);

		foreach my $sub (map { $_->[0] } @txns)
		{
			violation('restore', describe($sub) . ' was restored, and is not in the log of the database that was dumped') if !defined $sub->{place};
			violation('restore', describe($sub) . ' was restored twice, as an entry and as a submission') if $sub->{key}[0] <= $last_epoch;
			violation('restore', describe($sub) . ' was restored twice, or in another order') if defined $before && $sub->{place} <= $before;
			$before = $sub->{place};
			$there{"$sub->{txn}{id}.$sub->{n}"} = 1;
		}
		push @result, [ $epoch, $self->contents($epoch, $ms, @txns) ];
	}
	foreach my $sub (@{ $self->{found} })
	{
		my $txn = $sub->{txn};

		next if $sub->{key}[0] <= $last_epoch || $there{"$txn->{id}.$sub->{n}"};
		violation('restore', describe($sub) . ' was acknowledged before the dump, which has it neither as an entry nor as a submission')
		  if defined $since && $txn->{acked_at} && $txn->{acked_at} < $since;
	}
	return @result;
}

1;
