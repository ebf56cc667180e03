#!/usr/bin/perl
#
# monitoring-queries.pl
#     Makes monitoring/sql_exporter.yml and monitoring/cloudnativepg.yaml from
#     monitoring/postgres_exporter.yaml, so that all three ask the same. With --check
#     nothing is written: the status says whether they are what would be.
#     To be run in the top directory.
use strict;
use warnings;

my $check = @ARGV && $ARGV[0] eq '--check';
my $source = 'monitoring/postgres_exporter.yaml';
# where these are gone there is nothing to be said of them
my %may_be_empty = map { $_ => 1 } qw(calvin_seq_handler calvin_seq_subscription calvin_seq_follower);

sub slurp
{
	my ($path) = @_;

	local $/ = undef;
	open my $file, '<', $path or return '';
	return <$file>;
}

# Queries in the order of the file: name, SQL lines, columns with usage and description.
sub queries_of
{
	my ($text) = @_;
	my @queries;

	foreach my $line (split /\n/, $text)
	{
		if ($line =~ /^(calvin_seq_\w+):$/) { push @queries, { name => $1, sql => [], columns => [] } }
		elsif ($line =~ /^  query: \|$/ || $line =~ /^  metrics:$/) { }
		elsif ($line =~ /^    - (\w+):$/) { push @{ $queries[-1]{columns} }, { name => $1 } }
		elsif ($line =~ /^        (usage|description): "(.*)"$/) { $queries[-1]{columns}[-1]{$1} = $2 }
		elsif ($line =~ /^    (.*)$/) { push @{ $queries[-1]{sql} }, $1 }
		elsif ($line ne '' && $line !~ /^#/) { die "$source: not understood: $line\n" }
	}
	return @queries;
}

sub indented { my ($by, @lines) = @_; return join '', map { ' ' x $by . "$_\n" } @lines; }

sub sql_exporter
{
	my $out = <<'EOS';
# Queries of calvin_seq for sql_exporter (prometheus-sql-exporter), as its configuration:
# put your connections in. What they need is pg_monitor; docs/monitoring.md has the rest.
#
# Made from postgres_exporter.yaml by scripts/monitoring-queries.pl.

jobs:
- name: calvin_seq
  interval: 15s
  connections:
  - 'postgres://monitor@127.0.0.1:5432/app?sslmode=disable'
  startup_sql:
  - 'SET statement_timeout = 10000'
  queries:
EOS
	foreach my $query (@_)
	{
		my %names;

		push @{ $names{ $_->{usage} eq 'LABEL' ? 'labels' : 'values' } }, "'$_->{name}'" foreach @{ $query->{columns} };
		$out .= "  - name: $query->{name}\n    help: 'calvin_seq: $query->{name}, by column'\n";
		$out .= "    allow_zero_rows: true\n" if $may_be_empty{ $query->{name} };
		$out .= "    $_: [" . join(', ', @{ $names{$_} }) . "]\n" foreach qw(labels values);
		$out .= "    query: |\n" . indented(6, @{ $query->{sql} });
	}
	return $out;
}

sub cloudnativepg
{
	my ($text) = @_;
	my $out = <<'EOS';
# Queries of calvin_seq for CloudNativePG, for a Cluster's
#
#   monitoring:
#     customQueriesConfigMap:
#     - name: calvin-seq-monitoring
#       key: queries
#
# They run as pg_monitor in the application's database; where the extension is in others,
# give each query its target_databases. docs/monitoring.md has the rest.
#
# Made from postgres_exporter.yaml by scripts/monitoring-queries.pl.

apiVersion: v1
kind: ConfigMap
metadata:
  name: calvin-seq-monitoring
  labels:
    cnpg.io/reload: ""
data:
  queries: |
EOS
	$text =~ s/\A(?:#.*\n)+\n*//;
	return $out . join '', map { $_ eq '' ? "\n" : "    $_\n" } split /\n/, $text;
}

my $text = slurp($source);
my @queries = queries_of($text);
my %made = ('monitoring/sql_exporter.yml' => sql_exporter(@queries), 'monitoring/cloudnativepg.yaml' => cloudnativepg($text));
my $bad = 0;

foreach my $path (sort keys %made)
{
	if ($check)
	{
		next if slurp($path) eq $made{$path};
		print "$path is not what $0 makes of $source\n";
		$bad = 1;
	}
	else
	{
		open my $file, '>', $path or die "$path: $!\n";
		print $file $made{$path};
		close $file or die "$path: $!\n";
	}
}
exit $bad;
