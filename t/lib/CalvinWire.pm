# The wire format as the tests write it, and where its collections belong.
#
# Written anew from the contract, in the plainest way: the extension is measured
# against it, so it shares nothing with it.  What it writes is canonical if the
# sets it is given are.
package CalvinWire;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(
  mp_uint mp_int mp_str mp_bin mp_array mp_array_header mp_map
  document tx_class txn batch ack sequenced_txn
  batch_hex ack_hex
  vshard_of collection_of
);

#
# Writing MessagePack
#

sub mp_uint
{
	my ($n) = @_;
	return pack('C', $n) if $n < 0x80;
	return pack('CC', 0xcc, $n) if $n <= 0xff;
	return pack('Cn', 0xcd, $n) if $n <= 0xffff;
	return pack('CN', 0xce, $n) if $n <= 0xffffffff;
	return pack('CQ>', 0xcf, $n);
}

sub mp_int
{
	my ($n) = @_;
	return pack('C', $n & 0xff) if $n >= -32 && $n < 128;
	return pack('Cc', 0xd0, $n) if $n >= -128 && $n < 128;
	return pack('Cs>', 0xd1, $n) if $n >= -32768 && $n < 32768;
	return pack('Cl>', 0xd2, $n) if $n >= -2147483648 && $n < 2147483648;
	return pack('Cq>', 0xd3, $n);
}

sub mp_str
{
	my ($s) = @_;
	my $n = length $s;
	return pack('C', 0xa0 | $n) . $s if $n < 32;
	return pack('CC', 0xd9, $n) . $s if $n <= 0xff;
	return pack('Cn', 0xda, $n) . $s if $n <= 0xffff;
	return pack('CN', 0xdb, $n) . $s;
}

sub mp_bin
{
	my ($s) = @_;
	my $n = length $s;
	return pack('CC', 0xc4, $n) . $s if $n <= 0xff;
	return pack('Cn', 0xc5, $n) . $s if $n <= 0xffff;
	return pack('CN', 0xc6, $n) . $s;
}

sub mp_array_header
{
	my ($n) = @_;
	return pack('C', 0x90 | $n) if $n < 16;
	return pack('Cn', 0xdc, $n) if $n <= 0xffff;
	return pack('CN', 0xdd, $n);
}

sub mp_array { return mp_array_header(scalar @_) . join('', @_) }

sub mp_map
{
	my (@pairs) = @_;
	my $n = @pairs / 2;
	my $header =
	    $n < 16 ? pack('C', 0x80 | $n)
	  : $n <= 0xffff ? pack('Cn', 0xde, $n)
	  : pack('CN', 0xdf, $n);
	return $header . join('', @pairs);
}

#
# Entries
#

# A key set of a collection and its surrogates.
sub document
{
	my ($collection, @surrogates) = @_;
	return mp_array(mp_str('Document'),
		mp_array(mp_str($collection), mp_array(map { mp_uint($_) } @surrogates)));
}

# write_set, dependent_reads: encoded already
sub tx_class
{
	my (%of) = @_;
	return mp_array(mp_array(@{ $of{read_set} || [] }),
		mp_array(@{ $of{write_set} || [ document('a', 1) ] }),
		mp_bin($of{plans} // ''), mp_uint($of{tenant} // 1), $of{dependent} // "\xc0");
}

sub txn
{
	my ($epoch, $position, $class, $ms) = @_;
	return mp_array(mp_uint($epoch), mp_uint($position), $class, mp_int($ms // 0));
}

# An entry of one batch; the transactions as TxClass bytes.
sub batch
{
	my ($epoch, $ms, @classes) = @_;
	my $position = 0;

	return mp_array(mp_str('EpochBatch'),
		mp_array(mp_array(mp_uint($epoch),
			mp_array(map { txn($epoch, $position++, $_) } @classes), mp_int($ms))));
}

sub ack
{
	my ($epoch, $position, $vshard) = @_;
	return mp_array(mp_str('CompletionAck'),
		mp_array(mp_uint($epoch), mp_uint($position), mp_uint($vshard)));
}

# The transaction as delivered, in the form that *.apply.json has the CRC of.
sub sequenced_txn
{
	my ($epoch, $position, $class, $ms) = @_;
	return mp_array(mp_uint($epoch), mp_uint($position), $class, mp_int($ms));
}

# A collection, that is a name or [name, surrogates...], as a key set with the
# surrogate 1 or those; and several, sorted by name.
sub document_of
{
	my ($name, @surrogates) = ref $_[0] ? @{ $_[0] } : ($_[0], 1);
	my %once = map { ($_ => 1) } @surrogates;
	return document($name, sort { $a <=> $b } keys %once);
}

sub documents_of
{
	my %of = map { ((ref $_ ? $_->[0] : $_) => $_) } @_;
	return map { document_of($of{$_}) } sort keys %of;
}

# The dependent reads of a hash of vshard => [collections].
sub dependent_of
{
	my ($of) = @_;
	return mp_array(mp_map(
		map { (mp_uint($_), mp_array(map { mp_array(document_of($_)) } @{ $of->{$_} })) }
		  sort { $a <=> $b } keys %$of));
}

# batch_hex(epoch, ms, [[collections], plans as hex, tenant, dependent], ...)
#
# The canonical bytes, as hex, of an EpochBatch.  A transaction writes one
# document of each collection, as document_of takes them.  plans, tenant and
# dependent (a hash of vshard => [collections]) may be left out.  The
# transactions' own ms are 0, as NodeDB leaves them: the batch's count.
sub batch_hex
{
	my ($epoch, $ms, @txns) = @_;
	my @classes = map {
		my ($collections, $plans, $tenant, $dependent) = @$_;

		tx_class(
			write_set => [ documents_of(@$collections) ],
			plans => pack('H*', $plans // ''),
			tenant => $tenant // 0,
			dependent => $dependent && dependent_of($dependent));
	} @txns;
	return unpack('H*', batch($epoch, $ms, @classes));
}

sub ack_hex { return unpack('H*', ack(@_)) }

#
# Vshards
#

sub vshard_of
{
	my ($collection) = @_;
	my $h = 0;
	$h = ($h * 31 + $_) & 0xffffffff for unpack('C*', $collection);
	return $h % 1024;
}

# The name of a collection that belongs to a vshard.
my @collections;

sub collection_of
{
	my ($vshard) = @_;
	my $n = 0;

	while (!@collections)
	{
		my @found;
		my $missing = 1024;

		for (my $i = 0; $missing > 0; $i++)
		{
			my $v = vshard_of("k$i");

			next if defined $found[$v];
			$found[$v] = "k$i";
			$missing--;
		}
		@collections = @found;
	}
	return $collections[$vshard];
}

1;
