# The SQL of a document, run block by block as a reader would.
#
#   ```sql ... ```			is run; nothing may fail, unless the output shows it
#   ``` ... ```				right behind it: lines that `psql -Xq` puts out for it, in one piece
#
# What a reader need not see is in comments, on a line by themselves:
#
#   <!-- test: database NAME -->		the database of the document
#   <!-- test: run ... -->				statements that come before the next block
#   <!-- test: until SELECT ... -->	wait until this is true
#   <!-- test: not run: REASON -->		the next block cannot be run
package CalvinDocs;

use strict;
use warnings;

use CalvinTest;
use Carp;
use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(document_parts document_links document_anchors terminal);

my $timeout = $PostgreSQL::Test::Utils::timeout_default || 180;

# What there is to do, in order: [ kind, line, text, output, reason ], where kind is
# database, run, until, sql, not_run, json.
sub document_parts
{
	my ($path) = @_;
	my @lines = split /\n/, slurp_file($path), -1;
	my ($i, @parts, $reason) = (0);
	my $until = sub {
		my ($end) = @_;
		my @text;

		push @text, $lines[$i] while ++$i < @lines && $lines[$i] !~ $end;
		croak "$path: what begins here has no end: " . ($text[0] // '') if $i >= @lines;
		return join("\n", @text);
	};

	for (; $i < @lines; $i++)
	{
		my $at = $i + 1;

		if ($lines[$i] =~ /^\s*<!-- test: (database|until|not run:) (.*) -->$/)
		{
			if ($1 eq 'not run:') { $reason = $2; }
			else { push @parts, [ $1, $at, $2 ]; }
		}
		elsif ($lines[$i] =~ /^\s*<!-- test: run$/)
		{
			push @parts, [ 'run', $at, $until->(qr/^\s*-->$/) ];
		}
		elsif ($lines[$i] =~ /^\s*<!-- test:/)
		{
			croak "$path: line $at is no instruction";
		}
		elsif ($lines[$i] =~ /^\s*```(\w*)/)
		{
			my $kind = $1;
			my $part = [ $kind, $at, $until->(qr/^\s*```$/) ];

			if ($kind eq 'sql')
			{
				@$part[ 0, 4 ] = ('not_run', $reason) if defined $reason;
				$reason = undef;
				push @parts, $part;
				# an output is the next thing behind it
				my $next = $i + 1;
				$next++ while $next < @lines && $lines[$next] eq '';
				if ($next < @lines && $lines[$next] =~ /^\s*```$/)
				{
					$i = $next;
					$part->[3] = $until->(qr/^\s*```$/);
				}
			}
			elsif ($kind eq 'json') { push @parts, $part; }
		}
	}
	croak "$path: nothing comes behind \"not run: $reason\"" if defined $reason;
	return @parts;
}

# Targets of its links that are files or parts of files here.
sub document_links
{
	my ($path) = @_;
	my $text = slurp_file($path) =~ s/```.*?```//gsr;

	return grep { !/^[a-z]+:/ } $text =~ /\]\(([^)\s]+)\)/g, $text =~ /<img [^>]*src="([^"]+)"/g,
	  $text =~ /srcset="([^"]+)"/g;
}

# The anchors that its headings make.
sub document_anchors
{
	my ($path) = @_;
	my $text = slurp_file($path) =~ s/```.*?```//gsr;
	my %anchors;

	foreach my $heading ($text =~ /^#+ (.*)$/mg)
	{
		my $anchor = lc($heading =~ s/\[([^\]]*)\]\([^)]*\)/$1/gr);

		$anchor =~ s/[^\w\- ]//g;
		$anchors{ $anchor =~ s/ /-/gr } = 1;
	}
	return \%anchors;
}

# A psql as somebody has it before him, who connects again when he was disconnected.
sub terminal
{
	my ($node, $db) = @_;
	my $self = bless { command => [ $node->installed_command('psql'), '-Xq', '-d', $node->connstr($db) ] }, __PACKAGE__;

	return $self;
}

sub connect
{
	my ($self) = @_;

	@$self{qw(in out err)} = ('', '', '');
	$self->{timer} = IPC::Run::timer($timeout);
	$self->{run} = IPC::Run::start($self->{command}, '<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err}, $self->{timer});
	return;
}

# What it puts out, without the blanks at the ends of lines; errors come last.
sub put_in
{
	my ($self, $sql) = @_;
	my $end = "the end of the block\n";
	my ($out, $err);

	$self->connect unless defined $self->{run};
	local $SIG{PIPE} = 'IGNORE';
	$self->{timer}->start($timeout);
	$self->{in} .= "$sql\n\\echo 'the end of the block'\n\\warn 'the end of the block'\n";
	until ($self->{out} =~ /$end/ && $self->{err} =~ /$end/)
	{
		croak "timed out: $sql" if $self->{timer}->is_expired;
		next if eval { $self->{run}->pumpable && $self->{run}->pump };
		next if $self->{out} =~ /$end/ && $self->{err} =~ /$end/;
		eval { $self->{run}->finish };
		$self->{run} = undef;
		last;
	}
	($out, $err) = @$self{qw(out err)};
	@$self{qw(out err)} = ('', '');
	return "$out$err" =~ s/$end//gr =~ s/[ \t]+$//mgr;
}

sub leave
{
	my ($self) = @_;

	return unless defined $self->{run};
	$self->{in} .= "\\q\n";
	eval { $self->{run}->finish };
	$self->{run} = undef;
	return;
}

1;
