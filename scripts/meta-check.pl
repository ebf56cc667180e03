#!/usr/bin/perl
#
# meta-check.pl [META.json]
#     Whether META.json is what PGXN takes (its meta spec 1.0.0), and says of the
#     extension what the other files say: its version, and files that are there.

use strict;
use warnings;

use File::Basename qw(dirname);
use JSON::PP;

my $top = dirname(dirname(__FILE__));
my $file = shift // "$top/META.json";
my @wrong;

sub slurp
{
	my ($name) = @_;

	open my $in, '<:raw', $name or die "$name: $!\n";
	local $/;
	return scalar <$in>;
}

sub wrong { push @wrong, "$_[0]: $_[1]"; return; }

# Kinds of values: each tells what is expected of one that is not of it.
my %kinds = (
	string => sub { defined $_[0] && !ref $_[0] && length $_[0] ? undef : 'a text is expected' },
	term => sub { defined $_[0] && !ref $_[0] && $_[0] =~ m{\A[^\s[:cntrl:]/\\]{2,}\z} ? undef : 'a name of two characters or more, without spaces and slashes, is expected' },
	tag => sub { defined $_[0] && !ref $_[0] && $_[0] =~ m{\A[^[:cntrl:]/\\]{1,255}\z} ? undef : 'a tag of up to 255 characters without slashes is expected' },
	version => sub { defined $_[0] && !ref $_[0] && $_[0] =~ /\A(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){2}(?:-?[a-zA-Z][-0-9A-Za-z]*)?\z/ ? undef : 'a semantic version is expected' },
	url => sub { defined $_[0] && !ref $_[0] && $_[0] =~ m{\A[a-z][a-z0-9+.-]*://[^/?#\s]+\S*\z} ? undef : 'a URL is expected' },
	status => sub { defined $_[0] && $_[0] =~ /\A(?:stable|testing|unstable)\z/ ? undef : 'stable, testing or unstable is expected' },
	file => sub { defined $_[0] && !ref $_[0] && -f "$top/$_[0]" ? undef : 'a file of the source is expected' },
	spec => sub { defined $_[0] && $_[0] eq '1.0.0' ? undef : '1.0.0 is the version of the spec' },
	phase => sub { $_[0] =~ /\A(?:configure|build|test|runtime|develop)\z/ ? undef : 'not a phase' },
	relation => sub { $_[0] =~ /\A(?:requires|recommends|suggests|conflicts)\z/ ? undef : 'not a relation' },
	range => sub { defined $_[0] && !ref $_[0] && $_[0] =~ /\A\s*(?:[<>=!]=?\s*)?\d[\w.]*(?:\s*,\s*(?:[<>=!]=?\s*)?\d[\w.]*)*\s*\z/ ? undef : 'versions are expected' },
	any => sub { undef },
);

# The fields of an object: those with "!" must be there; [kind] is one value or a list of
# them; {*} is any other name, a kind, and what is under it.
my %provided = ('file!' => 'file', 'version!' => 'version', abstract => 'string', docfile => 'file');
my %meta = (
	'name!' => 'term',
	'version!' => 'version',
	'abstract!' => 'string',
	'maintainer!' => ['string'],
	'license!' => { '*' => [ any => 'url' ] },
	'provides!' => { '*' => [ term => \%provided ] },
	'meta-spec!' => { 'version!' => 'spec', url => 'url' },
	description => 'string',
	generated_by => 'string',
	release_status => 'status',
	tags => ['tag'],
	prereqs => { '*' => [ phase => { '*' => [ relation => { '*' => [ term => 'range' ] } ] } ] },
	resources => {
		homepage => 'url',
		license => ['url'],
		bugtracker => { web => 'url', mailto => 'string' },
		repository => { url => 'url', web => 'url', type => 'string' },
	},
	no_index => 'any',
);

sub check
{
	my ($at, $value, $rule) = @_;

	if (ref $rule eq 'HASH') { return check_object($at, $value, $rule); }
	if (ref $rule eq 'ARRAY')
	{
		check($at, $_, $rule->[0]) foreach ref $value eq 'ARRAY' ? @$value : $value;
		return;
	}
	my $complaint = $kinds{$rule}->($value);
	wrong($at, $complaint) if defined $complaint;
	return;
}

sub check_object
{
	my ($at, $value, $rule) = @_;

	return wrong($at, 'an object is expected') if ref $value ne 'HASH';
	foreach my $name (map { /^(.*)!$/ ? $1 : () } keys %$rule)
	{
		wrong("$at.$name", 'is missing') unless exists $value->{$name};
	}
	foreach my $name (sort keys %$value)
	{
		my $below = $rule->{"$name!"} // $rule->{$name};

		if (defined $below && $name ne '*') { check("$at.$name", $value->{$name}, $below); }
		elsif ($rule->{'*'})
		{
			check("$at.$name", $name, $rule->{'*'}[0]);
			check("$at.$name", $value->{$name}, $rule->{'*'}[1]);
		}
		elsif ($name !~ /\Ax_/i) { wrong("$at.$name", 'is not a field of the spec'); }
	}
	return;
}

my $meta = eval { JSON::PP->new->utf8->decode(slurp($file)) } or die "$file: " . ($@ || 'empty') . "\n";
check('META', $meta, \%meta);

# One version, however it is written: 1.1 of SQL is 1.1.0 of PGXN and 1.1.0-1 of Debian.
my ($sql) = slurp("$top/sequencer.control") =~ /^default_version *= *'(.*)'/m;
my ($debian) = slurp("$top/debian/changelog") =~ /\A\S+ \((.*)-[^-]*\)/;
my ($news) = slurp("$top/CHANGELOG.md") =~ /^## (\S+)/m;
my $version = $meta->{version} // '';
wrong('META.version', "is not $sql of sequencer.control") unless $version =~ /\A\Q$sql\E\.\d+\z/;
wrong('debian/changelog', "has $debian, and META.json $version") unless $debian eq $version;
wrong('CHANGELOG.md', "begins with $news, and sequencer.control has $sql") unless $news eq $sql || $news eq $version;
wrong('META.provides', "calvin_seq is not of version $version")
  unless (eval { $meta->{provides}{calvin_seq}{version} } // '') eq $version;

print "$_\n" foreach @wrong;
exit(@wrong ? 1 : 0);
