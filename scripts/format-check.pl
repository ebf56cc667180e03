#!/usr/bin/perl
#
# format-check.pl FILE...
#     Compares files with what clang-format makes of them, as far as it can
#     follow pgindent.
#
# Two things it cannot: it does not line names up at column 12, and it indents
# the lines that continue a statement in its own way. So blanks within a line
# count as one, and statements are compared as wholes, wherever their lines
# break. What remains is checked: where statements and braces stand, how deep,
# blanks between tokens, empty lines, the order of includes.
use strict;
use warnings;

# A file's logical lines.
sub logical_lines
{
	my @lines;
	my $open;       # a statement that goes on

	for my $line (@_)
	{
		chomp $line;
		my ($indent, $text) = $line =~ /^(\s*)(.*?)\s*$/;
		my $macro = $text =~ s/\s*\\$//;

		$indent =~ s/ {4}/\t/g;
		$text =~ s/\s+/ /g;
		$text =~ s/\* (?=\w)/*/g;
		$text =~ s/(\(\*\w+\)) \(/$1(/g;
		$text =~ s/ (\(\*\w+\)[\[(])/$1/g;
		$text =~ s/\) \{/){/g;
		if (defined $open)
		{
			$open .= ' ' unless $open =~ /[({]$/ || $text =~ /^([})]|$)/
			  || ($text =~ /^\[/ && $open !~ /,$/);
			$open .= $text;
		}
		else
		{
			$indent = '' if $text =~ /^\*/;
			$open = $indent . $text;
		}

		# What ends a statement, trailing comments aside.
		my $code = $text;
		$code =~ s{\s*/\*.*\*/$}{};
		next
		  if $macro
		  || !($text eq ''
			|| $code eq ''
			|| $text =~ m{^(\*|/\*)}
			|| $code =~ /[;{]$/
			|| $code =~ /^\}/
			|| $code =~ /^(case\b.*|default|\w+):$/
			|| $open =~ /^\s*#/
			|| $line =~ /^[a-z][\w *]*$/);
		push @lines, $open;
		undef $open;
	}
	push @lines, $open if defined $open;
	return map { "$_\n" } @lines;
}

sub read_from
{
	my ($mode, @what) = @_;

	open my $handle, $mode, @what or die "$what[0]: $!\n";
	my @lines = <$handle>;
	close $handle or die "$what[0] failed\n";
	return @lines;
}

my $bad = 0;
for my $file (@ARGV)
{
	my $is = join '', logical_lines(read_from('<', $file));
	my $wanted = join '', logical_lines(read_from('-|', $ENV{CLANG_FORMAT} // 'clang-format', $file));

	next if $is eq $wanted;
	$bad++;
	my @temporary = map { "$ENV{TMPDIR}/format-check.$_" } 'is', 'wanted';
	for ([$temporary[0], $is], [$temporary[1], $wanted])
	{
		open my $out, '>', $_->[0] or die "$_->[0]: $!\n";
		print $out $_->[1];
		close $out or die "$_->[0]: $!\n";
	}
	system 'diff', '-u', '--label', $file, '--label', "$file as clang-format has it", @temporary;
	unlink @temporary;
}
exit($bad > 0);
