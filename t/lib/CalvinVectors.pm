# What tests need to read entries, of the state machine and the vectors.
#
# All of it is written anew from the contract, in the plainest way: it is what
# the extension is measured against, so it shares nothing with it.

package CalvinVectors;

use strict;
use warnings;

use CalvinWire;
use Compress::Zlib ();
use Exporter 'import';
use FindBin;
use IO::Uncompress::Gunzip ();
use JSON::PP ();

our @EXPORT = qw(
  vector_lines vector_json vector_log crc32
  wire_parse wire_verdict
  machine_new machine_step machine_digest
);

my $MAX_EPOCH = 9223372036854775806;
my $MAX_TENANT = 9223372036854775807;

#
# The files
#

sub slurp
{
	my ($name) = @_;
	my $file = "$FindBin::RealBin/../test/vectors/$name.gz";
	my $content;

	IO::Uncompress::Gunzip::gunzip($file => \$content, MultiStream => 1)
	  or die "$file: $IO::Uncompress::Gunzip::GunzipError";
	return $content;
}

# Integers beyond 53 bits keep every digit, as strings if need be.
sub vector_json { return JSON::PP->new->decode(slurp($_[0])); }

sub vector_lines
{
	my $json = JSON::PP->new;
	return map { $json->decode($_) } grep { /\S/ } split /\n/, slurp($_[0]);
}

# The entries of a log as byte strings, in order.
sub vector_log
{
	my ($name) = @_;
	my @entries;

	# long lines, which JSON::PP would take character by character
	for my $line (split /\n/, slurp("$name.jsonl"))
	{
		$line =~ /"log_index"\s*:\s*(\d+).*"hex"\s*:\s*"([0-9a-f]*)"/
		  or die "unexpected line in $name.jsonl";
		push @entries, pack('H*', $2);
		die "$name.jsonl is not in order" if $1 != @entries;
	}
	return @entries;
}

sub crc32 { return Compress::Zlib::crc32($_[0]) }

#
# Reading an entry.  Dies with "refused: ..." on what the log does not accept,
# or, if lenient, what seq_append does not.  What comes back is canonical.
#

our ($data, $at, $lenient);

sub repeat(&$) { my ($code, $n) = @_; my @all; push @all, $code->() while $n-- > 0; return @all; }

sub refuse { die "refused: $_[0] at $at\n" }

sub take
{
	my ($n) = @_;
	refuse('end of input') if $n > length($data) - $at;
	my $bytes = substr($data, $at, $n);
	$at += $n;
	return $bytes;
}

sub byte { return unpack('C', take(1)) }

my %UNSIGNED = (0xcc => [ 1, 'C' ], 0xcd => [ 2, 'n' ], 0xce => [ 4, 'N' ], 0xcf => [ 8, 'Q>' ]);
my %SIGNED = (0xd0 => [ 1, 'c' ], 0xd1 => [ 2, 's>' ], 0xd2 => [ 4, 'l>' ], 0xd3 => [ 8, 'q>' ]);

sub number
{
	my ($forms, $marker) = @_;
	my $form = $forms->{$marker} or refuse(sprintf 'marker %02x', $marker);
	return unpack($form->[1], take($form->[0]));
}

# An unsigned field of so many bytes.
sub unsigned
{
	my ($size) = @_;
	my $marker = byte();
	return $marker if $marker < 0x80;
	if ($lenient)
	{
		my $n = number($SIGNED{$marker} ? \%SIGNED : \%UNSIGNED, $marker);
		refuse("$n does not fit") if $n < 0 || ($size < 8 && $n >= 1 << 8 * $size);
		return $n;
	}
	refuse(sprintf 'marker %02x', $marker)
	  if !$UNSIGNED{$marker} || $UNSIGNED{$marker}[0] > $size;
	return number(\%UNSIGNED, $marker);
}

sub signed
{
	my $marker = byte();
	return $marker if $marker < 0x80;
	return $marker - 256 if $marker >= 0xe0;
	if ($lenient && $UNSIGNED{$marker})
	{
		my $n = number(\%UNSIGNED, $marker);
		refuse("$n does not fit") if $n > $MAX_TENANT;
		return $n;
	}
	return number(\%SIGNED, $marker);
}

sub array_length
{
	my $marker = byte();
	return $marker & 15 if ($marker & 0xf0) == 0x90;
	return unpack('n', take(2)) if $marker == 0xdc;
	return unpack('N', take(4)) if $marker == 0xdd;
	refuse('no array');
}

sub map_length
{
	my $marker = byte();
	return $marker & 15 if ($marker & 0xf0) == 0x80;
	return unpack('n', take(2)) if $marker == 0xde;
	return unpack('N', take(4)) if $marker == 0xdf;
	refuse('no map');
}

sub array_of { my ($n) = @_; refuse("no array of $n") if array_length() != $n; }

sub text
{
	my $marker = byte();
	my $n =
	    ($marker & 0xe0) == 0xa0 ? $marker & 31
	  : $marker == 0xd9 ? byte()
	  : $marker == 0xda ? unpack('n', take(2))
	  : $marker == 0xdb ? unpack('N', take(4))
	  : refuse('no str');
	my $s = take($n);

	# the table of well-formed sequences of the Unicode standard
	refuse('UTF-8')
	  unless $s =~ /\A(?: [\x00-\x7f]++ | [\xc2-\xdf][\x80-\xbf] | \xe0[\xa0-\xbf][\x80-\xbf]
		| [\xe1-\xec\xee\xef][\x80-\xbf]{2} | \xed[\x80-\x9f][\x80-\xbf]
		| \xf0[\x90-\xbf][\x80-\xbf]{2} | [\xf1-\xf3][\x80-\xbf]{3}
		| \xf4[\x80-\x8f][\x80-\xbf]{2} )*+\z/x;
	return $s;
}

sub u8s { return pack 'C*', repeat { unsigned(1) } array_length() }

sub is_array { return substr($data, $at, 1) =~ /[\x90-\x9f\xdc\xdd]/ }

sub bin
{
	return u8s() if $lenient && is_array();
	my $marker = byte();
	my $n =
	    $marker == 0xc4 ? byte()
	  : $marker == 0xc5 ? unpack('n', take(2))
	  : $marker == 0xc6 ? unpack('N', take(4))
	  : refuse('no bin');
	return take($n);
}


# As encoded; sorted as numbers, as byte strings, as pairs.
sub key_set
{
	my ($collections) = @_;
	my ($kind, $collection, @values);
	my %seen;

	array_of(2);
	$kind = text();
	refuse("tag $kind") unless $kind =~ /\A(?:Document|Vector|Kv|Edge)\z/;
	array_of(2);
	$collection = text();
	push @$collections, $collection if $collections;

	if ($kind eq 'Kv')
	{
		@values = repeat { $lenient && !is_array() ? bin() : u8s() } array_length();
		@values = map { mp_array(map { mp_uint($_) } unpack 'C*', $_) }
		  grep { !$seen{$_}++ } sort @values;
	}
	elsif ($kind eq 'Edge')
	{
		@values = repeat { array_of(2); pack 'NN', unsigned(4), unsigned(4) } array_length();
		@values = map { mp_array(map { mp_uint($_) } unpack 'NN', $_) }
		  grep { !$seen{$_}++ } sort @values;
	}
	else
	{
		@values = repeat { unsigned(4) } array_length();
		@values = map { mp_uint($_) } grep { !$seen{$_}++ } sort { $a <=> $b } @values;
	}
	return mp_array(mp_str($kind), mp_array(mp_str($collection), mp_array(@values)));
}

sub dependent_reads
{
	my ($vshards) = @_;
	my %of;

	if (substr($data, $at, 1) eq "\xc0")
	{
		$at++;
		return "\xc0";
	}
	array_of(1);
	for (my $n = map_length(); $n > 0; $n--)
	{
		my $vshard = unsigned(4);

		refuse("vshard $vshard") if $vshard > 1023;
		$of{$vshard} = mp_array(repeat { array_of(1); mp_array(key_set()) } array_length());
	}
	push @$vshards, keys %of;
	return mp_array(mp_map(map { mp_uint($_), $of{$_} } sort { $a <=> $b } keys %of));
}

sub parse_txn
{
	my (@collections, @vshards, %seen);
	my %txn;

	array_of(4);
	$txn{epoch} = unsigned(8);
	refuse("epoch $txn{epoch}") if $txn{epoch} > $MAX_EPOCH;
	$txn{position} = unsigned(4);
	my $begin = $at;
	array_of(5);
	my $reads = mp_array(repeat { key_set() } array_length());
	my $writes = mp_array(repeat { key_set(\@collections) } array_length());
	$txn{plans} = bin();
	$txn{tenant} = unsigned(8);
	refuse("tenant $txn{tenant}") if $txn{tenant} > $MAX_TENANT;
	my $dependent = dependent_reads(\@vshards);
	$txn{raw_class} = substr($data, $begin, $at - $begin);
	$txn{ms} = signed();

	$txn{class} =
	  mp_array($reads, $writes, mp_bin($txn{plans}), mp_uint($txn{tenant}), $dependent);
	push @vshards, map { vshard_of($_) } @collections;
	$txn{vshards} = [ sort { $a <=> $b } grep { !$seen{$_}++ } @vshards ];
	return \%txn;
}

sub parse_entry
{
	my %entry;

	array_of(2);
	my $kind = text();
	if ($kind eq 'CompletionAck')
	{
		array_of(3);
		%entry = (kind => 'completion_ack', epoch => unsigned(8));
		refuse("epoch $entry{epoch}") if $entry{epoch} > $MAX_EPOCH;
		@entry{qw(position vshard)} = (unsigned(4), unsigned(4));
		$entry{canonical} = ack(@entry{qw(epoch position vshard)});
	}
	elsif ($kind eq 'EpochBatch')
	{
		array_of(1);
		array_of(3);
		%entry = (kind => 'epoch_batch', epoch => unsigned(8));
		refuse("epoch $entry{epoch}") if $entry{epoch} > $MAX_EPOCH;
		$entry{txns} = [ repeat { parse_txn() } array_length() ];
		$entry{ms} = signed();
		$entry{canonical} = mp_array(mp_str($kind),
			mp_array(mp_array(mp_uint($entry{epoch}),
				mp_array(map { txn($_->{epoch}, $_->{position}, $_->{class}, $_->{ms}) } @{ $entry{txns} }),
				mp_int($entry{ms}))));
	}
	else { refuse("tag $kind") }
	$entry{trailing} = length($data) - $at;
	return \%entry;
}

sub wire_parse
{
	local ($data, $at, $lenient) = ($_[0], 0, $_[1]);
	return { kind => 'noop', canonical => '', trailing => 0 } if $data eq '';
	return parse_entry();
}

# wire_verdict(bytes, lenient)
#
# The same, with a kind of 'undecodable' and the reason for what is refused.
sub wire_verdict
{
	my $entry = eval { wire_parse(@_) };

	return $entry if $entry;
	die $@ unless $@ =~ /^refused: (.*)/;
	return { kind => 'undecodable', reason => $1 };
}

#
# The state machine
#

sub machine_new
{
	return { epoch => undef, digest => mix(1),
		map { $_ => 0 } qw(applied gap stale noop undecodable acks entries bytes) };
}

# Steps with a parsed entry; returns the outcome, of which 'applied' is fanned
# out, and it and 'gap' are part of the streams.
my %OUTCOME = (noop => 0, undecodable => 1, applied => 2, gap => 3, stale => 4, acks => 5);

sub machine_step
{
	my ($machine, $entry) = @_;
	my $kind = $entry->{kind};
	my $outcome;

	if ($kind eq 'epoch_batch')
	{
		my $next = defined $machine->{epoch} ? $machine->{epoch} + 1 : 0;

		$outcome = $entry->{epoch} == $next ? 'applied' : $entry->{epoch} > $next ? 'gap' : 'stale';
		$machine->{epoch} = $entry->{epoch} if $outcome ne 'stale';
	}
	else { $outcome = $kind eq 'completion_ack' ? 'acks' : $kind; }
	$machine->{$outcome}++;
	$machine->{entries}++;
	return $outcome;
}

# The digest, version 1: 64-bit arithmetic that wraps.
sub mix
{
	my ($x) = @_;

	# multiplication wraps with "use integer", shifts are logical without
	no warnings 'portable';
	my $right = sub { return $_[0] >> $_[1] };
	use integer;
	$x += 0x9e3779b97f4a7c15;
	$x = ($x ^ $right->($x, 30)) * 0xbf58476d1ce4e5b9;
	$x = ($x ^ $right->($x, 27)) * 0x94d049bb133111eb;
	$x ^= $right->($x, 31);
	no integer;
	return $x | 0;
}

my @crc32c_table = map {
	my $c = $_;
	$c = $c & 1 ? ($c >> 1) ^ 0x82f63b78 : $c >> 1 for 1 .. 8;
	$c;
} 0 .. 255;

sub crc32c
{
	my $crc = 0xffffffff;
	$crc = $crc32c_table[ ($crc ^ $_) & 0xff ] ^ ($crc >> 8) for unpack 'C*', $_[0];
	return $crc ^ 0xffffffff;
}

sub machine_digest
{
	my ($machine, $log_index, $bytes, $outcome) = @_;
	my $digest = $machine->{digest};

	$digest = mix($digest ^ $log_index);
	$digest = mix($digest ^ (length($bytes) << 32 | crc32c($bytes)));
	$digest = mix($digest ^ $OUTCOME{$outcome});
	$machine->{digest} = $digest;
	return sprintf '%016x', $digest;
}

1;
