#!/usr/bin/perl
#
# layers-check.pl
#     The rules of docs/architecture.md that a program can check: includes go
#     down, the pure layers know nothing of the server, nobody but the layer
#     shared takes its lock or writes its words, the extension's tables are opened
#     in one way, one file acts as their owners, and errors have a code.
#     To be run in the top directory.
use strict;
use warnings;

# From the bottom up; a file directly in src is above all of them.
my @layers = ('wire', 'machine', 'shared', 'log', 'consumer', 'process', 'sql', 'api');
my %rank = map { $layers[$_] => $_ } 0 .. $#layers;
my %pure = map { $_ => 1 } 'wire', 'machine';
my $bad = 0;

sub complain
{
	print "@_\n";
	$bad = 1;
	return;
}

sub slurp
{
	my ($path) = @_;

	local $/ = undef;
	open my $file, '<', $path or die "$path: $!\n";
	return <$file>;
}

sub check_includes
{
	my ($path, $layer, $text) = @_;

	while ($text =~ /^#\s*include\s+(["<])([^">]+)[">]/mg)
	{
		my ($quote, $name) = ($1, $2);
		my ($below) = $name =~ m{^(\w+)/};

		if ($quote eq '"' && $name =~ m{/} && exists $rank{$below} && -e "src/$name")
		{
			complain("$path includes $name, which is above it")
			  if defined $layer && $rank{$below} > $rank{$layer};
		}
		elsif (defined $layer && $pure{$layer})
		{
			# the C library and msgpack-c
			complain("$path includes $name, which is not of a pure layer")
			  unless $quote eq '<' && $name =~ m{^(std\w+|string|inttypes|limits|msgpack|msgpack/\w+)\.h$};
		}
	}
	return;
}

# Words that only the server's headers define, outside comments and strings.
sub check_purity
{
	my ($path, $text) = @_;

	$text =~ s{/\*.*?\*/}{}gs;
	$text =~ s{"(\\.|[^"\\])*"}{""}g;
	while ($text =~ /\b(palloc\w*|pfree|repalloc|elog|ereport|Assert|Datum|bytea|MemoryContext\w*|CHECK_FOR_INTERRUPTS|PG_\w+|pg_\w+)\b/g)
	{
		complain("$path uses $1, which is the server's");
	}
	return;
}

sub check_errcodes
{
	my ($path, $text) = @_;

	$text =~ s{/\*.*?\*/}{}gs;
	while ($text =~ /\bereport\s*(\((?:[^()"]|"(?:\\.|[^"\\])*"|(?1))*\))/g)
	{
		my $call = $1;
		my ($message) = $call =~ /"([^"]*)"/;

		complain("$path: an error without errcode: $message")
		  if $call =~ /^\((ERROR|FATAL|PANIC)\b/ && $call !~ /\berrcode\w*\s*\(/;
	}
	return;
}

# Members of the structs in shared memory, by name.
sub shared_fields
{
	my ($text) = @_;
	my %field;

	$text =~ s{/\*.*?\*/}{}gs;
	for my $struct ('DatabaseSlot', 'SubscriptionSlot', 'CalvinShared')
	{
		my ($body) = $text =~ /typedef struct $struct\s*\{(.*?)\}\s*$struct;/s
		  or die "src/shared/shmem.h has no struct $struct\n";
		$field{$1} = 1 while $body =~ /(\w+)(?:\[[^\]]*\])?;/g;
	}
	return %field;
}

# Outside of shared: its lock is not named, and its words are not written.  A
# pointer to a slot is known by its name, as everywhere in the source.
sub check_shared
{
	my ($path, $text, $fields) = @_;
	my $slot = qr/(?:\bCalvin|\w*[sS]lot\b|\b(?:subscriptions|databases)\[[^\]]*\])\s*(?:->|\.)\s*/;
	my $field = join '|', sort keys %$fields;

	$text =~ s{/\*.*?\*/}{}gs;
	complain("$path names the lock of shared memory") if $text =~ /\bCalvin->lock\b/;
	while ($text =~ /$slot($field)\b(?:\[[^\]]*\])?\s*(?:[-+|&^]?=(?!=)|\+\+|--)/g)
	{
		complain("$path writes $1, which is shared memory's");
	}
	while ($text =~ /(?:\+\+|--)\s*$slot($field)\b/g)
	{
		complain("$path writes $1, which is shared memory's");
	}
	while ($text =~ /\b(pg_atomic_(?:write|exchange|fetch|compare|add|sub|init|clear|test)\w*|LWLock\w+|mem(?:cpy|set|move)|strlcpy|histogram_(?:init|add|rebase))\s*\(\s*&?\s*$slot($field)\b/g)
	{
		complain("$path: $1 of $2, which is shared memory's");
	}
	return;
}

# The extension's tables are opened by src/log/access.c: locked first, then looked
# up, then a snapshot.  Elsewhere only catalogs are, by their constant, and:
my %opens = map { $_ => 1 } (
	'src/log/access.c',
	'src/log/table.c',     # seq_log, to look it up
	'src/log/shape.c',     # indexes, to check them
	'src/log/chunks.c',    # the TOAST table of what is open
	'src/log/insert.c',    # to write
	'src/log/members.c',   # catalogs
	'src/log/inbox.c',     # its partitions, which nobody else rewrites
	'src/log/snapshots.c', # an active snapshot to delete by
	'src/log/identity.c',  # likewise
	'src/log/remove.c',    # likewise
);
my %reads = map { $_ => 1 } glob 'src/log/*.c src/consumer/*.c src/sql/*.c src/process/appl*.c';

sub check_access
{
	my ($path, $text) = @_;

	return if !$reads{$path} || $opens{$path};
	$text =~ s{/\*.*?\*/}{}gs;
	while ($text =~ /\b(?:(\w*(?:table|index|relation)_open)\s*\(\s*(\w+)|(GetLatestSnapshot|GetTransactionSnapshot|RegisterSnapshot)\s*\()/g)
	{
		my ($call, $what) = ($1 // $3, $2 // '');

		complain("$path calls $call(), which is src/log/access.c's")
		  unless defined $1 && $what =~ /^[A-Z]\w+(?:RelationId|IndexId)$/;
	}
	return;
}

# Whose one file it is to act as somebody else, to ask what row a function returns, and to
# write rows without the executor.
my %only_in = (
	'SetUserIdAndSecContext' => 'src/log/owner.c',
	'get_call_result_type' => 'src/sql/result.c',
	'InitMaterializedSRF' => 'src/sql/result.c',
	'ExecSimpleRelationInsert' => 'src/log/insert.c',
	'table_tuple_delete' => 'src/log/remove.c',
	'simple_table_tuple_delete' => 'src/log/truncate.c');

sub check_alone
{
	my ($path, $text) = @_;

	# what it makes of a call has the call's name behind compat_
	return if $path eq 'src/compat.h';
	$text =~ s{/\*.*?\*/}{}gs;
	for my $call (sort keys %only_in)
	{
		complain("$path calls $call(), which is $only_in{$call}'s")
		  if $path ne $only_in{$call} && $text =~ /\b(?:compat_)?$call\s*\(/;
	}
	return;
}

my %shared_field = shared_fields(slurp('src/shared/shmem.h'));

for my $path (sort glob 'src/*.[ch] src/*/*.[ch]')
{
	my ($layer) = $path =~ m{^src/(\w+)/};
	my $text = slurp($path);

	complain("$path: docs/architecture.md knows no layer $layer") if defined $layer && !exists $rank{$layer};
	check_includes($path, $layer, $text);
	check_shared($path, $text, \%shared_field) unless defined $layer && $rank{$layer} <= $rank{shared};
	check_access($path, $text);
	check_alone($path, $text);
	if (defined $layer && $pure{$layer}) { check_purity($path, $text) }
	else { check_errcodes($path, $text) }
}
exit $bad;
