#!/usr/bin/perl
#
# make_corpus.pl VECTORS DIRECTORY
#     Writes what the fuzzers begin with: every entry of the vectors that is
#     not too long as DIRECTORY/codec/*, and some programs as
#     DIRECTORY/machine/*. Files are named after their content.
use strict;
use warnings;

use Digest::SHA qw(sha1_hex);

use constant MOST_BYTES => 4096;

my ($vectors, $directory) = @ARGV;
die "usage: make_corpus.pl VECTORS DIRECTORY\n" unless defined $directory;

sub put_file
{
	my ($kind, $bytes) = @_;
	my $path = "$directory/$kind/" . sha1_hex($bytes);

	return if length $bytes > MOST_BYTES;
	open my $file, '>:raw', $path or die "$path: $!\n";
	print $file $bytes;
	close $file or die "$path: $!\n";
	return;
}

for my $kind ('codec', 'machine')
{
	mkdir "$directory/$kind" or $!{EEXIST} or die "$directory/$kind: $!\n";
}

for my $name ('accept.jsonl', 'basic.jsonl', 'rough.jsonl')
{
	open my $lines, '-|', 'gzip', '-dc', "$vectors/$name.gz" or die "gzip: $!\n";
	while (my $line = <$lines>)
	{
		my ($hex) = $line =~ /"hex":"([0-9a-f]*)"/ or die "$name: no entry in $line";
		put_file('codec', pack 'H*', $hex);
	}
	close $lines or die "gzip failed on $name\n";
}

# The operations are those of check_machine.c: next, gap, stale, any epoch,
# ack, no-op, broken, restart.
put_file('machine', pack 'H*', $_)
  for (
	'000000', '0005000400', '0001000102000705', '0303000000000000000000',
	'037ffffffffffffffe0003ffffffffffffffff02', '06000001060503', '00f80000000700c100070000',
	'07', '0405060708090a0b0c0d', '01ff01ff02ff0207010001', '00' x 40, '0007' x 20);
