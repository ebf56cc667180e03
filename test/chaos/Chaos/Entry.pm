# Entries as the workload appends them: random content, canonical bytes, and
# beside them what the model has to know, so that nothing need be decoded.
package Chaos::Entry;

use strict;
use warnings;

use CalvinWire;
use Digest::MD5 qw(md5_hex);
use Exporter 'import';

our @EXPORT_OK = qw(@vshards @collections random_batch idle_batch noop_entry ack_entry corrupt_entry one_txn_function);

# Collections, each with a vshard of its own; and some more that share one with the
# first of these.
my @first = ('a' .. 'h');
our @vshards = map { vshard_of($_) } @first;
our @collections = (@first, map { twin_of($_) } @first[ 0 .. 3 ]);
my @names = @collections[ 0 .. 9 ];
my %participants;
my $uid = 0;

# The sets of one combination of collections: encoded, and its vshards.
my @combinations = map {
	my $bits = $_;
	my @in = grep { $bits & (1 << $_) } 0 .. $#names;

	@in > 3 ? () : {
		sets => mp_array() . mp_array(map { document($names[$_], 1) } @in),
		written(map { $names[$_] } @in),
	};
} 0 .. 2**@names - 1;

# Dependent reads of one vshard, beside what is written.
my %dependent = map {
	($vshards[$_] => mp_array(mp_map(mp_uint($vshards[$_]), mp_array(mp_array(document($first[$_], 9))))))
} 0 .. $#first;

# Another collection of the same vshard.
sub twin_of
{
	my ($name) = @_;
	my $n = 0;

	$n++ while vshard_of("twin$n") != vshard_of($name);
	return "twin$n";
}

# vshards => those of collections, in their order; written => which they are, by vshard.
sub written
{
	my %by_vshard;

	push @{ $by_vshard{ vshard_of($_) } }, $_ foreach @_;
	return (vshards => [ sort { $a <=> $b } keys %by_vshard ], written => \%by_vshard);
}

# A batch of an epoch with so many transactions; one of them, which may be named
# by its position, is so many bytes large.
#
# Its transactions are [vshards, content, written], content being what a consumer must
# see of it, as the SQL of the workload writes it, "written" the collections of each
# vshard that are written.
sub random_batch
{
	my ($rng, $epoch, $count, $large, $large_at) = @_;
	my $id = ++$uid;
	my $ms = 1_700_000_000_000 + $rng->below(1_000_000_000) * ($rng->chance(0.1) ? -2 : 1);
	my $encoded_epoch = mp_uint($epoch);
	my $large_one = $large ? $large_at // $rng->below($count) : -1;
	my @txns;
	my $body = '';

	foreach my $position (0 .. $count - 1)
	{
		my $word = $rng->word;
		my $combination = $combinations[ $word % @combinations ];
		my $vshards = $combination->{vshards};
		my $plans = pack 'NnN', $id, $position & 0xffff, $word;
		my $dependent = "\xc0";
		my $tenant = $word & 0x7ff;

		$plans .= 'x' x $large if $position == $large_one;
		if (($word >> 16) % 32 == 0)
		{
			my $reads = $vshards[ $word % @vshards ];
			my %all = map { ($_ => 1) } @$vshards, $reads;

			$dependent = $dependent{$reads};
			$vshards = [ sort { $a <=> $b } keys %all ];
		}
		my $class = "\x95" . $combination->{sets} . mp_bin($plans) . mp_uint($tenant) . $dependent;
		my $list = join ',', @$vshards;

		$body .= "\x94" . $encoded_epoch . mp_uint($position) . $class . "\x00";
		push @txns, [ $participants{$list} ||= $vshards,
			"$epoch.$position/$ms/$tenant/{$list}/\\x" . unpack('H*', $plans) . '/\\x' . unpack('H*', $class),
			$combination->{written} ];
	}
	return entry('batch', "\x92" . mp_str('EpochBatch') . "\x91\x93" . $encoded_epoch . mp_array_header($count) . $body . mp_int($ms),
		epoch => $epoch, txns => \@txns, id => $id);
}

# A batch of one transaction for a vshard that nobody subscribes to.
my $idle_class = tx_class(write_set => [ document('idle', 1) ], plans => 'idle');

sub idle_batch
{
	my ($epoch) = @_;
	my $encoded = mp_uint($epoch);
	my $txn = mp_array($encoded, mp_uint(0), $idle_class, mp_int(0));

	return entry('batch', mp_array(mp_str('EpochBatch'), mp_array(mp_array($encoded, mp_array($txn), mp_int(0)))), epoch => $epoch, txns => [ [ [], '' ] ]);
}

# CREATE FUNCTION one_txn(e, which): an entry of epoch e with one transaction that
# writes a document of the collection which, counted from 0, for bursts that the
# server makes by itself.
sub one_txn_function
{
	my (@collections) = @_;
	my $mark = 'EEEEEEEE';
	my @cases = map {
		my $class = tx_class(write_set => [ document($collections[$_], 1) ], plans => 'burst' x 60);
		my $txn = mp_array("\xcf$mark", mp_uint(0), $class, mp_int(0));
		my $entry = mp_array(mp_str('EpochBatch'), mp_array(mp_array("\xcf$mark", mp_array($txn), mp_int(0))));

		"WHEN $_ THEN " . join ' || int8send(e) || ', map { "'\\x" . unpack('H*', $_) . "'::bytea" } split /$mark/, $entry, -1;
	} 0 .. $#collections;

	return "CREATE FUNCTION one_txn(e bigint, which int) RETURNS bytea LANGUAGE sql IMMUTABLE RETURN CASE which @cases END";
}

sub noop_entry { return entry('noop', ''); }

sub ack_entry
{
	my ($epoch, $position, $vshard) = @_;

	return entry('ack', ack($epoch, $position, $vshard), epoch => $epoch);
}

# Cut off, so that it cannot be anything.
sub corrupt_entry
{
	my ($rng, $epoch) = @_;
	my $entry = random_batch($rng, $epoch, 1 + $rng->below(3));

	return entry('undecodable', substr($entry->{bytes}, 0, length($entry->{bytes}) - 1 - $rng->below(10)));
}

# known: sent, acked, refused, unknown
sub entry
{
	my ($kind, $bytes, %more) = @_;

	return { kind => $kind, bytes => $bytes, md5 => md5_hex($bytes), known => 'sent', txns => [], %more };
}

1;
