# What must be, from the entries that were appended and the order in which the
# surviving log has them: every vshard's stream, the digest, the counters.
#
# It knows nothing of the extension but its contract.  Entries are known by
# their bytes' MD5; contents are kept until all consumers have been checked
# against them, after that a digest of each (vshard, epoch).
package Chaos::Model;

use strict;
use warnings;

use CalvinVectors;
use Chaos::Entry qw(@vshards);
use Chaos::Loop qw(violation);
use Chaos::Order;
use Digest::MD5 qw(md5_hex);

my %KIND = (batch => 'epoch_batch', noop => 'noop', ack => 'completion_ack', undecodable => 'undecodable');

sub new
{
	my ($class) = @_;
	my $machine = machine_new();

	return bless {
		order => Chaos::Order->new(@vshards),
		entries => {},		# md5 => [entries], those not seen in the log yet
		acked => [],		# acknowledged since the last look at the log
		machine => $machine,
		last_index => 0,
		at => { 0 => { digest => sprintf('%016x', $machine->{digest}) } },	# by log_index
		streams => { map { ($_ => { offset => 0, keys => [], contents => [], written => [], place => {}, epochs => {} }) } @vshards },
		applied => { map { ($_ => []) } @vshards },	# log_index, of each transaction fanned out
		txns => 0,
		checked_epoch => -1,	# up to here all consumers have been checked
	}, $class;
}

# An entry is about to be sent.
sub sent
{
	my ($self, $entry) = @_;

	push @{ $self->{entries}{ $entry->{md5} } }, $entry;
	return $entry;
}

# acknowledged($entry, $log_index, $safe, $witness)
#
# Safe: nothing may lose it.  Else it stays for as long as the server does, of
# which a session is the witness.
sub acknowledged
{
	my ($self, $entry, $log_index, $safe, $witness) = @_;

	$entry->{known} = $safe ? 'acked' : 'unknown';
	push @{ $self->{acked} }, [ $entry, $log_index, $safe ? undef : $witness ];
	return;
}

# The next row of the log; of a batch of the sequencer's there is the hex of its
# bytes as well.
sub append
{
	my ($self, $log_index, $md5, $length, $kind, $epoch, $hex) = @_;

	$self->sent($self->sequenced(pack('H*', substr $hex, 2), $epoch)) if defined $hex;
	my $candidates = $self->{entries}{$md5};
	my $row = "log_index $log_index, md5 $md5, $length bytes, kind $kind";

	violation('log', "not ascending after $self->{last_index}: $row") if $log_index <= $self->{last_index};
	violation('log', "nobody appended this, or it is there twice: $row") if !$candidates || !@$candidates;

	# of equal ones (no-ops, acks) an acknowledged one counts first
	my ($best) = sort { rank($a) <=> rank($b) } @$candidates;
	violation('log', "this was refused or rolled back, and yet it is there: $row") if $best->{known} eq 'refused';
	@$candidates = grep { $_ != $best } @$candidates;
	delete $self->{entries}{$md5} unless @$candidates;
	violation('log', "length of $row is not " . length $best->{bytes}) if $length != length $best->{bytes};

	my $outcome = machine_step($self->{machine}, machine_input($best));
	my $expected = $outcome eq 'stale' ? 'stale_batch' : $KIND{ $best->{kind} };
	my $digest = machine_digest($self->{machine}, $log_index, $best->{bytes}, $outcome);

	$self->{machine}{bytes} += $length;
	violation('log', "kind or epoch of the row: $row, epoch " . ($epoch // 'null') . "; expected $expected, " . ($best->{epoch} // 'null'))
	  if $kind ne $expected || ($epoch // -1) != ($best->{epoch} // -1);
	$best->{log_index} = $log_index;
	$self->{last_index} = $log_index;
	$self->{at}{$log_index} = { digest => $digest, epoch => $self->{machine}{epoch}, md5 => $md5 };
	$self->stream_out($log_index, $best, $outcome) if $outcome eq 'applied' || $outcome eq 'gap';
	delete @{$best}{qw(bytes txns)};
	return;
}

# An entry that was made of submissions.
sub sequenced
{
	my ($self, $bytes, $epoch) = @_;
	my @txns = $self->{order}->take_batch($bytes, $epoch);

	return {
		kind => 'batch', bytes => $bytes, md5 => md5_hex($bytes), known => 'acked', epoch => $epoch,
		txns => \@txns
	};
}

# What must become of a database that has been restored, whose log is ours up to
# log_index "end" and goes on with batches of submissions: [log_index, entry, epoch].
sub restored
{
	my ($self, $end, $since, @batches) = @_;
	my $last_epoch = $self->{at}{$end}{epoch} // -1;
	my %at = ($end => $self->{at}{$end});
	my %streams;

	foreach my $vshard (@vshards)
	{
		my $stream = $self->{streams}{$vshard};
		my @in = grep { $stream->{keys}[$_] =~ /^(\d+)/ && $1 <= $last_epoch } 0 .. $#{ $stream->{keys} };

		$streams{$vshard} = { offset => $stream->{offset}, keys => [ @{ $stream->{keys} }[@in] ], contents => [ @{ $stream->{contents} }[@in] ],
			written => [ @{ $stream->{written} }[@in] ], place => {} };
		$streams{$vshard}{place}{ $streams{$vshard}{keys}[$_] } = $stream->{offset} + $_ foreach 0 .. $#in;
	}
	my $restored = bless {
		order => $self->{order}, streams => \%streams, at => \%at, entries => {}, applied => { map { ($_ => []) } @vshards },
		machine => { %{ machine_new() }, epoch => $self->{at}{$end}{epoch}, digest => unpack('Q>', pack 'H16', $self->{at}{$end}{digest}) },
		checked_epoch => $self->{checked_epoch}
	}, ref $self;
	my @contents = $self->{order}->check_restored($last_epoch, $since, map { [ $_->[1], $_->[2] ] } @batches);

	foreach my $batch (@batches)
	{
		my ($log_index, $bytes, $epoch) = @$batch;
		my (undef, @txns) = @{ shift @contents };
		my $outcome = machine_step($restored->{machine}, { kind => 'epoch_batch', epoch => $epoch });
		my $digest = machine_digest($restored->{machine}, $log_index, $bytes, $outcome);

		$at{$log_index} = { digest => $digest, epoch => $epoch };
		$restored->stream_out($log_index, { epoch => $epoch, txns => \@txns }, $outcome);
	}
	return $restored;
}

sub rank { return { acked => 0, unknown => 1, sent => 1, refused => 2 }->{ $_[0]{known} }; }

sub machine_input
{
	my ($entry) = @_;

	return { kind => $KIND{ $entry->{kind} }, epoch => $entry->{epoch} };
}

sub stream_out
{
	my ($self, $log_index, $entry, $outcome) = @_;
	my $position = 0;
	my %of_epoch;

	foreach my $txn (@{ $entry->{txns} })
	{
		my $key = "$entry->{epoch}." . $position++;

		foreach my $vshard (@{ $txn->[0] })
		{
			my $stream = $self->{streams}{$vshard};

			$stream->{place}{$key} = $stream->{offset} + @{ $stream->{keys} };
			push @{ $stream->{keys} }, $key;
			push @{ $stream->{contents} }, $txn->[1];
			push @{ $stream->{written} }, $txn->[2]{$vshard};
			push @{ $of_epoch{$vshard} }, $txn->[1];
			push @{ $self->{applied}{$vshard} }, $log_index if $outcome eq 'applied';
		}
	}
	$self->{txns} += $position;
	foreach my $vshard (keys %of_epoch)
	{
		my $contents = $of_epoch{$vshard};

		$self->{streams}{$vshard}{epochs}{ $entry->{epoch} } = @$contents . ' ' . md5_hex(join '|', @$contents);
	}
	return;
}

# After all rows have been appended: what was acknowledged is there, where it
# was said to be.
sub check_acknowledged
{
	my ($self, $witness) = @_;

	foreach (@{ $self->{acked} })
	{
		my ($entry, $log_index, $wanted) = @$_;

		next if $wanted && $wanted != $witness;
		my $what = "$entry->{kind}" . (defined $entry->{epoch} ? " of epoch $entry->{epoch}" : '') . ", md5 $entry->{md5}";

		violation('acknowledged is not lost', "$what was acknowledged as log_index $log_index; there is "
			  . ($self->{at}{$log_index} ? "md5 " . ($self->{at}{$log_index}{md5} // '') : 'nothing'))
		  if !$self->{at}{$log_index} || ($self->{at}{$log_index}{md5} // '') ne $entry->{md5};
	}
	$self->{acked} = [];
	return;
}

sub last_epoch { return $_[0]{machine}{epoch} // -1; }

# One past the last transaction of a stream, counted from its beginning.
sub end_of { my ($self, $vshard) = @_; my $s = $self->{streams}{$vshard}; return $s->{offset} + @{ $s->{keys} }; }

# What was received in one call for one vshard: part of the stream, without a
# hole, byte for byte.  Returns where it begins.
sub check_chunk
{
	my ($self, $chunk, $holes) = @_;
	my ($vshard, $keys, $md5) = @{$chunk}{qw(vshard keys md5)};
	my $stream = $self->{streams}{$vshard} or violation('stream', "vshard $vshard of $chunk->{who} has no stream");
	my @keys = split /,/, $keys;
	my @places = map { $stream->{place}{$_} } @keys;

	foreach my $i (0 .. $#keys)
	{
		next if defined $places[$i];
		my ($epoch) = split /\./, $keys[$i];
		violation('nothing twice', "$chunk->{who} received ($keys[$i]) of vshard $vshard long after it had been processed")
		  if $epoch <= $self->{checked_epoch};
		violation('durable before delivered',
			"$chunk->{who} received ($keys[$i]) of vshard $vshard, which the surviving log does not have (its last epoch is "
			  . $self->last_epoch . ')');
	}
	foreach my $i (1 .. $#keys)
	{
		next if $places[$i] == $places[ $i - 1 ] + 1 || $holes && $places[$i] > $places[ $i - 1 ];
		$self->blame(\@keys, $places[$i] > $places[ $i - 1 ] ? 'nothing missing' : 'order',
			"$chunk->{who}, vshard $vshard: ($keys[$i]) came after ($keys[$i - 1])");
	}
	my @contents = @{ $stream->{contents} }[ map { $_ - $stream->{offset} } @places ];

	return $places[0] if md5_hex(join '|', @contents) eq $md5;
	$self->blame(\@keys, 'byte for byte', "$chunk->{who}, vshard $vshard, ($keys[0]) to ($keys[-1]): the rows differ from what was appended");
}

# If a batch of one of these epochs was lost, and another one has its epoch now,
# then that is what was received.
sub blame
{
	my ($self, $keys, $invariant, $details) = @_;

	violation($invariant, $details) unless $self->was_lost(map { /^(\d+)/ } @$keys);
	violation('durable before delivered', "$details\na batch of one of these epochs is not in the surviving log; another one has its place");
}

# Was a batch of one of these epochs sent, and is not in the log, though not
# for having been refused?
sub was_lost
{
	my ($self, @epochs) = @_;
	my %wanted = map { ($_ => 1) } @epochs;

	return grep { $_->{kind} eq 'batch' && $_->{known} ne 'refused' && $wanted{ $_->{epoch} } } map { @$_ } values %{ $self->{entries} };
}

# A consumer that stands at $at goes on with this chunk; where it stands then.
sub check_next
{
	my ($self, $chunk, $at) = @_;
	my $place = $self->check_chunk($chunk);
	my $stream = $self->{streams}{ $chunk->{vshard} };
	my $keys = $chunk->{keys};

	return $place + 1 + ($keys =~ tr/,//) if $place == $at;
	my ($first) = split /,/, $keys;
	my $wanted = $at < $stream->{offset} ? 'one processed before' : $stream->{keys}[ $at - $stream->{offset} ] // 'the end';

	violation($place < $at ? 'nothing twice' : 'nothing missing',
		"$chunk->{who}, vshard $chunk->{vshard}: ($first) came where ($wanted) was next");
}

# All are through: contents are no longer needed.
sub forget_contents
{
	my ($self) = @_;

	foreach my $stream (values %{ $self->{streams} })
	{
		$stream->{offset} += @{ $stream->{keys} };
		@{$stream}{qw(keys contents written place)} = ([], [], [], {});
	}
	$self->{checked_epoch} = $self->last_epoch;

	# what was refused can only be told apart by its absence: that is checked
	# as long as it is kept, which need not be for ever
	foreach my $md5 (grep { length } keys %{ $self->{entries} })
	{
		@{ $self->{entries}{$md5} } = grep { $_->{known} ne 'refused' || !$_->{old}++ } @{ $self->{entries}{$md5} };
		delete $self->{entries}{$md5} unless @{ $self->{entries}{$md5} };
	}
	return;
}

1;
