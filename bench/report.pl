#!/usr/bin/perl
#
# report.pl [--partial] DIRECTORY
#	  Makes results.md, results.json and results.svg of the figures.tsv in it, and
#	  prints the first.  Fails if a figure is missing, unless --partial says
#	  that not all were asked for.

use strict;
use warnings;

my $partial = @ARGV && $ARGV[0] eq '--partial' ? shift : undef;
my $directory = shift or die "usage: report.pl [--partial] DIRECTORY\n";

# name => text; name => [figures, ascending]; name => [figures, round by round]
my (%machine, @machine, %figures, %rounds);

my @workloads = map { { key => $_, title => $_ } } qw(A B C D);
my @once = ({ key => '', title => '' });

my @clients = (1, 4, 16, 64, 200);
my @client_columns = map { { key => $_, title => $_ } } @clients;
my %percentiles = (columns => [ map { { key => $_, title => $_ } } qw(p50 p99 max) ]);

# Ways to publish: title, the figures' word for it, and what may be lacking:
# not everything can be had everywhere, or is measured in a short run.
my @publishers = (
	[ 'nothing is published: transactions/s', 'none', [ 4, 64 ] ],
	[ 'INSERT into a plain table, no consumer', 'plain' ],
	[ 'seq_send', 'send' ],
	[ 'an outbox table and a relay', 'outbox', [ 4, 64 ] ],
	[ 'NOTIFY', 'notify', [ 4, 64 ] ],
	[ 'pgq.insert_event', 'pgq', \@clients ],
	[ 'pgmq.send', 'pgmq', \@clients ]);

# The %s in a name is the column's key.  A row's third element has the keys of
# the columns that may be empty.
my @tables = (
	{
		title => 'Delivery of about 100,000 transactions committed at once',
		section => 'delivery', unit => 'thousand fan-outs/s', scale => 1000, columns => \@workloads,
		rows => [
			[ 'SQL rows, all columns', 'delivery.%s.rows' ],
			[ 'SQL rows, four columns', 'delivery.%s.rows4' ],
			[ 'framed batches', 'delivery.%s.framed' ],
			[ 'C consumer in the server', 'delivery.%s.inside' ],
			[ 'C consumer, rings that hold all', 'delivery.%s.held' ],
			[ 'C consumer, past overflow of 8 kB rings', 'delivery.%s.overflow' ],
			[ 'bare shm_mq, one queue', 'delivery.%s.bare' ],
			[ 'bare shm_mq, 64 queues', 'delivery.%s.bare_many' ],
			[ 'an applier that waits for room in 8 kB rings', 'delivery.%s.waiting' ],
		]
	},
	{
		title => 'Of these, read from the log since the ring was full',
		section => 'delivery', unit => '%', scale => 1, columns => \@workloads,
		rows => [ [ 'C consumer in the server', 'delivery.%s.inside_healed' ] ]
	},
	{
		title => 'Peers, with the messages of workload A',
		section => 'peers', unit => 'thousand messages/s', scale => 1000, columns => \@once,
		rows => [
			[ 'NOTIFY, 2048 a commit, 8 listeners', 'peers.notify_2048' ],
			[ 'NOTIFY, one commit, 8 listeners', 'peers.notify_at_once' ],
			(
				map {
					my ($consumers, $batch) = @$_;
					[ "SKIP LOCKED, batches of $batch, consumers: $consumers", "peers.skip_locked_${consumers}x$batch" ]
				} [ 1, 100 ], [ 1, 1000 ], [ 1, 10000 ], [ 2, 1000 ], [ 2, 10000 ]),
			[ 'logical decoding, pgoutput, binary', 'peers.pgoutput' ],
		]
	},
	{
		title => 'End to end: appending',
		section => 'end_to_end', unit => 'epochs/s', scale => 1, columns => [ @workloads[ 0, 2 ] ],
		rows => [
			[ 'INSERT of the same bytes into a plain table', 'end_to_end.%s.plain' ],
			[ 'seq_append, no consumer', 'end_to_end.%s.append' ],
			[ 'INSERT INTO seq_log, no consumer', 'end_to_end.%s.insert' ],
			[ 'seq_append, C consumer beside', 'end_to_end.%s.inside.append' ],
			[ 'seq_append, framed batches beside', 'end_to_end.%s.framed.append' ],
			[ 'seq_append, SQL rows beside', 'end_to_end.%s.rows.append' ],
		]
	},
	{
		title => 'End to end: from the first append to the last fan-out received',
		section => 'end_to_end', unit => 'thousand fan-outs/s', scale => 1000, columns => [ @workloads[ 0, 2 ] ],
		rows => [
			[ 'C consumer', 'end_to_end.%s.inside.fanouts' ],
			[ 'framed batches', 'end_to_end.%s.framed.fanouts' ],
			[ 'SQL rows', 'end_to_end.%s.rows.fanouts' ],
		]
	},
	{
		title => 'End to end: the consumer\'s delay after the last commit',
		section => 'end_to_end', unit => 'ms', scale => 1, columns => [ @workloads[ 0, 2 ] ],
		rows => [
			[ 'C consumer', 'end_to_end.%s.inside.delay_ms' ],
			[ 'framed batches', 'end_to_end.%s.framed.delay_ms' ],
			[ 'SQL rows', 'end_to_end.%s.rows.delay_ms' ],
		]
	},
	{
		title => 'Latency, one transaction a commit',
		section => 'latency', unit => 'µs', scale => 1,
		columns => [ map { { key => $_, title => $_ } } qw(p50 p99 max) ],
		rows => [
			[ 'commit to SQL row', 'latency.alone.%s' ],
			[ 'INSERT + NOTIFY', 'latency.alone_notify.%s' ],
			[ 'commit to SQL row, beside 64 idle subscriptions', 'latency.idle.%s' ],
			[ 'INSERT + NOTIFY, beside the same', 'latency.idle_notify.%s' ],
			[ 'commit to SQL row, beside 100 epochs of A/s', 'latency.load.%s' ],
			[ 'INSERT + NOTIFY, beside the same', 'latency.load_notify.%s' ],
		]
	},
	{
		title => 'Appending small entries, by entries a commit',
		section => 'append', unit => 'entries/s', scale => 1,
		columns => [ map { { key => $_, title => $_ } } 1, 10, 100, 1000 ],
		rows => [ [ 'seq_append', 'append.commit_of.%s' ], [ 'INSERT into a plain table', 'append.commit_of_plain.%s' ] ]
	},
	{
		title => 'Appending small entries, one a commit, by appenders',
		section => 'append', unit => 'entries/s', scale => 1,
		columns => [ map { { key => $_, title => $_ } } 1, 2, 4 ],
		rows => [ [ 'seq_append', 'append.appenders.%s' ], [ 'INSERT into a plain table', 'append.appenders_plain.%s' ] ]
	},
	{
		title => 'Reading the log',
		section => 'replay', unit => 'thousand transactions of the log/s', scale => 1000, columns => \@once,
		rows => [
			[ 'replay of a vshard of 367', 'replay.sparse' ],
			[ 'replay of a vshard that every transaction takes part in', 'replay.dense' ],
		]
	},
	{
		title => 'Catching up after a restart, without a snapshot',
		section => 'catchup', unit => 'thousand transactions/s', scale => 1000, columns => \@once,
		rows => [ [ 'no subscriptions', 'catchup.txns' ] ]
	},
	{
		title => 'Growth: a log ten times as long',
		section => 'catchup', unit => 'see row', scale => 1,
		columns => [ { key => 'short', title => '1 x' }, { key => 'long', title => '10 x' } ],
		rows => [
			[ 'restart from a snapshot, ms', 'growth.restart_ms.%s' ],
			[ 'replay of ten epochs, µs', 'growth.narrow_us.%s' ],
		]
	},
	{
		title => 'Growth: subscribed vshards, C consumer, workload A',
		section => 'growth', unit => 'thousand fan-outs/s', scale => 1000,
		columns => [ map { { key => $_, title => $_ } } 1, 8, 64, 512 ],
		rows => [ [ 'delivery', 'growth.vshards.%s' ] ]
	},
	{
		title => 'Growth: the size of an entry, end to end to a C consumer',
		section => 'growth', unit => 'MB/s', scale => 1,
		columns => [ map { { key => $_, title => $_ } } qw(100B 1kB 10kB 100kB 1MB 16MB) ],
		rows => [ [ 'one commit an entry', 'growth.entries.%s' ] ]
	},
	{
		title => 'Private memory over a million transactions',
		section => 'memory', unit => 'kB', scale => 1,
		columns => [ { key => 'early', title => 'after a tenth' }, { key => 'end', title => 'at the end' } ],
		rows => [ [ 'applier', 'memory.applier.%s' ], [ 'C consumer', 'memory.consumer.%s' ] ]
	},
	{
		title => 'Publishing: an order and one event a transaction, by clients, their consumer beside',
		section => 'publish', unit => 'events/s', scale => 1, columns => \@client_columns,
		rows => [ map { [ $_->[0], "publish.one.$_->[1].%s", $_->[2] ] } @publishers ]
	},
	{
		title => 'Publishing: an order and ten events a transaction',
		section => 'publish', unit => 'events/s', scale => 1, columns => \@client_columns,
		rows => [ map { [ $_->[0], "publish.ten.$_->[1].%s", $_->[1] =~ /^pg/ ? \@clients : [ 1, 4, 64, 200 ] ] } @publishers[ 1 .. 6 ] ]
	},
	{
		title => 'Publishing: what was left to do after the last commit, one event a transaction',
		section => 'publish', unit => 'ms', scale => 1, columns => \@client_columns,
		rows => [
			[ 'seq_send: until all was in the log', 'publish.one.send.%s.in_log_ms' ],
			map { [ "$_->[0]: until the consumer had all", "publish.one.$_->[1].%s.consumer_ms", $_->[2] ] } @publishers[ 2 .. 6 ],
		]
	},
	{
		title => 'Publishing: from COMMIT to the client that waits',
		section => 'publish_latency', unit => 'µs', scale => 1, %percentiles,
		rows => [
			[ 'seq_send, COMMIT to SQL row', 'publish.latency.alone.%s' ],
			[ 'INSERT + NOTIFY', 'publish.latency.alone_notify.%s' ],
			[ 'seq_send, beside 16 clients that do so too', 'publish.latency.load.%s' ],
			[ 'INSERT + NOTIFY, beside 16 clients that do so too', 'publish.latency.load_notify.%s' ],
		]
	},
	{
		title => 'Handlers: from a seq_send that commits to the effect that one has committed',
		section => 'handler_latency', unit => 'µs', scale => 1, %percentiles,
		rows => [
			[ 'seq_send, to the NOTIFY of the handler\'s transaction', 'handler.latency.%s' ],
			[ 'INSERT, one commit', 'handler.latency_insert.%s' ],
			[ 'INSERT + NOTIFY, to the notification', 'handler.latency_notify.%s' ],
		]
	},
	{
		title => 'Publishing while an old snapshot is held, 16 clients',
		section => 'publish_held', unit => 'transactions/s', scale => 1,
		columns => [ { key => 'before', title => 'before' }, { key => 'last', title => 'at the end' } ],
		rows => [ map { [ $_->[0], "publish.held.$_->[1].%s", $_->[1] eq 'send' ? undef : [qw(before last)] ] } @publishers[ 1 .. 3, 5, 6 ] ]
	},
	{
		title => 'The inbox while an old snapshot is held',
		section => 'publish_held', unit => 'MB at most', scale => 1, columns => \@once,
		rows => [ [ 'on disk', 'publish.held.inbox_mb' ], [ 'beyond what waited', 'publish.held.inbox_beyond_mb' ] ]
	},
	{
		title => 'Submissions of 100 bytes that waited, into the log',
		section => 'publish_drain', unit => 'thousand submissions/s', scale => 1000, columns => \@once,
		rows => [
			[ 'by 10,000 a transaction', 'publish.drain.all' ],
			[ 'by 10,000 a transaction, a tenth of them', 'publish.drain.tenth' ],
			[ 'one a transaction', 'publish.drain.single' ],
		]
	},
	{
		title => 'Private memory of the sequencer meanwhile, at most',
		section => 'publish_drain', unit => 'kB', scale => 1, columns => \@once,
		rows => [
			[ 'by 10,000 a transaction', 'publish.drain.all_kb' ],
			[ 'by 10,000 a transaction, a tenth of them', 'publish.drain.tenth_kb' ],
			[ 'one a transaction', 'publish.drain.single_kb' ],
		]
	});

sub median
{
	my $values = $figures{ $_[0] } or return undef;
	my $n = @$values;
	return $n % 2 ? $values->[ ($n - 1) / 2 ] : ($values->[ $n / 2 - 1 ] + $values->[ $n / 2 ]) / 2;
}

sub largest
{
	my @medians = sort { $a <=> $b } grep { defined } map { median($_) } @_;
	return $medians[-1];
}

sub ratio { return defined $_[0] && defined $_[1] ? $_[0] / $_[1] : undef }

sub ratio_of { return ratio(median($_[0]), median($_[1])) }

# The median of the rounds' ratios: who took turns met the same machine.
sub paired_ratio
{
	my ($ours, $theirs) = map { $rounds{$_} } @_;
	return ratio_of(@_) unless $ours && $theirs && @$ours == @$theirs;
	my @ratios = sort { $a <=> $b } map { $ours->[$_] / $theirs->[$_] } 0 .. $#$ours;
	return ($ratios[ $#ratios / 2 ] + $ratios[ @ratios / 2 ]) / 2;
}

# What is wanted: text, value, "at least" or "at most", the bound, the unit.
sub targets
{
	my $notify = median('peers.notify_2048');
	my $pgoutput = median('peers.pgoutput');
	my $queue = largest(grep { /^peers\.skip_locked/ } keys %figures);
	my @targets;

	push @targets,
	  [ 'C consumer that keeps up, A: of the bare one-way shm_mq', ratio_of('delivery.A.inside', 'delivery.A.bare'), '>=', 0.40, 'x' ],
	  [ 'past overflow, A: of an applier that waits for the same rings', ratio_of('delivery.A.overflow', 'delivery.A.waiting'), '>=', 2, 'x' ];
	foreach my $kind ([ 'framed', 'framed batches', 5 ], [ 'rows4', 'rows with four columns', 3 ], [ 'rows', 'rows with all columns', 1.7 ])
	{
		my ($name, $title, $factor) = @$kind;
		my $rate = median("delivery.A.$name");
		push @targets,
		  [ "$title: of NOTIFY", ratio($rate, $notify), '>=', $factor, 'x' ],
		  [ "$title: of pgoutput", ratio($rate, $pgoutput), '>=', $factor, 'x' ];
	}
	push @targets,
	  [ 'framed batches: of SKIP LOCKED at its best', ratio(median('delivery.A.framed'), $queue), '>=', 4, 'x' ],
	  [ 'rows with all columns: of SKIP LOCKED at its best', ratio(median('delivery.A.rows'), $queue), '>=', 4, 'x' ],
	  [ 'appending end to end, A: of a plain INSERT', ratio_of('end_to_end.A.inside.append', 'end_to_end.A.plain'), '>=', 0.85, 'x' ];
	push @targets, [ "delay after the last commit, A: $_->[1]", median("end_to_end.A.$_->[0].delay_ms"), '<=', 50, 'ms' ]
	  foreach [ 'inside', 'C consumer' ], [ 'framed', 'framed batches' ], [ 'rows', 'SQL rows' ];
	push @targets,
	  [ 'latency alone, p50: of INSERT + NOTIFY', ratio_of('latency.alone.p50', 'latency.alone_notify.p50'), '<=', 1.1, 'x' ],
	  [ 'latency alone, p99: of INSERT + NOTIFY', ratio_of('latency.alone.p99', 'latency.alone_notify.p99'), '<=', 1.5, 'x' ],
	  [ 'latency beside 64 idle subscriptions, p50: of alone', ratio_of('latency.idle.p50', 'latency.alone.p50'), '<=', 1.1, 'x' ],
	  [ 'catch-up, shared_buffers empty', ratio(median('catchup.txns'), 1e6), '>=', 6, 'M/s' ],
	  [ 'catch-up, the log in shared_buffers', ratio(median('catchup.warm_txns'), 1e6), '>=', 6, 'M/s' ],
	  [ 'replay, sparse', ratio(median('replay.sparse'), 1e6), '>=', 5, 'M/s' ],
	  [ 'replay, dense', ratio(median('replay.dense'), 1e6), '>=', 3, 'M/s' ],
	  [ 'delivery to 512 vshards: of 64', ratio_of('growth.vshards.512', 'growth.vshards.64'), '>=', 0.7, 'x' ],
	  [ 'narrow replay in a log ten times as long', ratio_of('growth.narrow_us.long', 'growth.narrow_us.short'), '<=', 1.5, 'x' ],
	  [ 'restart from a snapshot, of a log ten times as long', ratio_of('growth.restart_ms.long', 'growth.restart_ms.short'), '<=', 1.5, 'x' ];
	push @targets, [ "private memory after a million transactions: $_", ratio_of("memory.$_.end", "memory.$_.early"), '<=', 1.1, 'x' ]
	  foreach qw(applier consumer);
	push @targets, publish_targets();
	return grep { defined $_->[1] } @targets;
}

sub publish_targets
{
	my @targets;

	push @targets, [ "seq_send, clients: $_: of a plain INSERT", paired_ratio("publish.one.send.$_", "publish.one.plain.$_"), '>=', 0.85, 'x' ]
	  foreach @clients;
	foreach my $peer ([ 'pgmq', 'pgmq.send' ], [ 'pgq', 'pgq.insert_event' ])
	{
		push @targets, [ "seq_send, clients: $_: of $peer->[1]", paired_ratio("publish.one.send.$_", "publish.one.$peer->[0].$_"), '>=', $_ == 64 ? 1.3 : 1, 'x' ]
		  foreach @clients;
	}
	push @targets,
	  [ 'ten seq_send a transaction, clients: 16: of plain INSERTs', paired_ratio('publish.ten.send.16', 'publish.ten.plain.16'), '>=', 0.85, 'x' ],
	  [ 'after the last of a run\'s commits, until all is in the log, at most', largest(map { "publish.one.send.$_.in_log_ms" } @clients), '<=', 20, 'ms' ],
	  [ 'after the last of a run\'s commits, until the consumer has all, at most', largest(map { "publish.one.send.$_.consumer_ms" } @clients), '<=', 50, 'ms' ];
	push @targets,
	  [ "COMMIT to the client\'s row, alone, $_->[0]: of INSERT + NOTIFY", paired_ratio("publish.latency.alone.$_->[0]", "publish.latency.alone_notify.$_->[0]"), '<=', $_->[1], 'x' ]
	  foreach [ 'p50', 1.8 ], [ 'p99', 2 ];
	push @targets,
	  [ "COMMIT to the client\'s row, under load, $_: of INSERT + NOTIFY", paired_ratio("publish.latency.load.$_", "publish.latency.load_notify.$_"), '<=', 1, 'x' ]
	  foreach qw(p50 p99);
	push @targets,
	  [ 'seq_send to the effect of a handler, alone, p50: of one commit', paired_ratio('handler.latency.p50', 'handler.latency_insert.p50'), '<=', 3, 'x' ];
	push @targets,
	  [ 'rate at the end under an old snapshot: of the rate before', ratio_of('publish.held.send.last', 'publish.held.send.before'), '>=', 0.95, 'x' ],
	  [ 'inbox beyond what waits, under an old snapshot', median('publish.held.inbox_beyond_mb'), '<=', 64, 'MB' ],
	  [ 'draining what waits', ratio(median('publish.drain.all'), 1e6), '>=', 0.5, 'M/s' ],
	  [ 'memory of the sequencer while it drains: of a tenth as many', ratio_of('publish.drain.all_kb', 'publish.drain.tenth_kb'), '<=', 1.1, 'x' ],
	  [ 'wake-ups of an idle sequencer (none counts as a half)', median('publish.idle.wakeups'), '<=', 0.5, '' ];
	return @targets;
}

sub number
{
	my ($value) = @_;
	my $digits = $value >= 100 ? 0 : $value >= 10 ? 1 : $value >= 1 ? 2 : 3;
	my $text = sprintf("%.${digits}f", $value);
	1 while $text =~ s/^(\d+)(\d{3})/$1,$2/;
	return $text;
}

sub cell
{
	my ($name, $scale) = @_;
	my $values = $figures{$name} or return '';
	my $text = number(median($name) / $scale);
	return $text if @$values == 1;
	return sprintf('%s (%s–%s)', $text, number($values->[0] / $scale), number($values->[-1] / $scale));
}

sub read_figures
{
	open(my $in, '<', "$directory/figures.tsv") or die "$directory/figures.tsv: $!\n";
	while (my $line = <$in>)
	{
		chomp $line;
		my ($name, $value) = split /\t/, $line, 2;
		die "line $. of the figures is not understood: $line\n" unless defined $value;
		if ($name =~ /\./ && $name !~ /^setting / && $value =~ /^[0-9.e+-]+$/)
		{
			die "$name is $value\n" unless $value > 0;
			push @{ $figures{$name} }, $value;
		}
		else
		{
			push @machine, $name unless exists $machine{$name};
			$machine{$name} = $value;
		}
	}
	close $in;
	%rounds = %figures;
	$figures{$_} = [ sort { $a <=> $b } @{ $figures{$_} } ] foreach keys %figures;
}

# Names of what the tables want and the figures lack.
sub missing
{
	my @missing;
	foreach my $table (@tables)
	{
		foreach my $row (@{ $table->{rows} })
		{
			foreach my $column (@{ $table->{columns} })
			{
				my $name = name_of($row, $column);
				push @missing, $name unless $figures{$name} || grep { $_ eq $column->{key} } @{ $row->[2] || [] };
			}
		}
	}
	return @missing;
}

sub name_of
{
	my ($row, $column) = @_;
	return $row->[1] =~ /%s/ ? sprintf($row->[1], $column->{key}) : $row->[1];
}

sub markdown
{
	my $text = "# Benchmark\n\n| | |\n|---|---|\n";
	$text .= join('', map { "| $_ | $machine{$_} |\n" } @machine);
	$text .= "\nMedians of $machine{repetitions}, with the least and the largest. Ratios are those of the medians; of publishing, the medians of the rounds' ratios.\n";
	$text .= "\nWorkloads: transactions an epoch, vshards each, bytes of the plan: A 1024, 2, 64; B 1024, 2, 1024; C 64, 2, 64; D 1024, 8, 64.\n";

	my @targets = targets();
	$text .= "\n## Targets\n\n| | measured | wanted | |\n|---|---|---|---|\n" if @targets;
	foreach my $target (@targets)
	{
		my ($title, $value, $operator, $bound, $unit) = @$target;
		my $space = $unit eq '' ? '' : $unit eq 'x' ? ' ' : ' ';
		$text .= sprintf("| %s | %s%s%s | %s %s | %s |\n", $title, number($value), $space, $unit,
			$operator eq '>=' ? 'at least' : 'at most', $bound, is_met($target) ? 'met' : '**not met**');
	}
	foreach my $table (@tables)
	{
		my @rows = grep { my $row = $_; grep { $figures{ name_of($row, $_) } } @{ $table->{columns} } } @{ $table->{rows} };
		next unless @rows;
		$text .= "\n## $table->{title}\n\n";
		$text .= '| ' . join(' | ', $table->{unit}, map { $_->{title} } @{ $table->{columns} }) . " |\n";
		$text .= '|---' . ('|---:' x @{ $table->{columns} }) . "|\n";
		foreach my $row (@rows)
		{
			$text .= '| ' . join(' | ', $row->[0], map { cell(name_of($row, $_), $table->{scale}) } @{ $table->{columns} }) . " |\n";
		}
	}
	return $text;
}

sub is_met
{
	my ($target) = @_;
	return $target->[2] eq '>=' ? $target->[1] >= $target->[3] : $target->[1] <= $target->[3];
}

sub quoted
{
	my ($text) = @_;
	$text =~ s/(["\\])/\\$1/g;
	$text =~ s/([\x00-\x1f])/sprintf('\\u%04x', ord $1)/ge;
	return qq("$text");
}

sub json
{
	my @figures = map {
		my $values = $figures{$_};
		sprintf('    %s: {"median": %.6g, "min": %.6g, "max": %.6g, "n": %d}',
			quoted($_), median($_), $values->[0], $values->[-1], scalar @$values)
	} sort keys %figures;
	my @targets = map {
		sprintf('    {"target": %s, "measured": %.4g, "unit": %s, "bound": %s, "wanted": %s, "met": %s}',
			quoted($_->[0]), $_->[1], quoted($_->[4]), quoted($_->[2] eq '>=' ? 'at least' : 'at most'),
			$_->[3], is_met($_) ? 'true' : 'false')
	} targets();
	return "{\n  \"machine\": {\n"
	  . join(",\n", map { '    ' . quoted($_) . ': ' . quoted($machine{$_}) } @machine)
	  . "\n  },\n  \"figures\": {\n" . join(",\n", @figures)
	  . "\n  },\n  \"targets\": [\n" . join(",\n", @targets) . "\n  ]\n}\n";
}

sub escaped
{
	my ($text) = @_;
	$text =~ s/&/&amp;/g;
	$text =~ s/</&lt;/g;
	return $text;
}

# Delivery beside the peers, as bars.
sub svg
{
	my $queue = (sort { median($b) <=> median($a) } grep { /^peers\.skip_locked/ } keys %figures)[0];
	my @bars = grep { defined $_->[1] && $figures{ $_->[1] } } (
		[ 'queue table, SKIP LOCKED', $queue, '#b8b8b8' ],
		[ 'logical decoding, pgoutput', 'peers.pgoutput', '#b8b8b8' ],
		[ 'NOTIFY, 2048 a commit', 'peers.notify_2048', '#b8b8b8' ],
		[ 'NOTIFY, all in one commit', 'peers.notify_at_once', '#b8b8b8' ],
		[ 'calvin_seq, SQL rows', 'delivery.A.rows', '#336791' ],
		[ 'calvin_seq, four columns', 'delivery.A.rows4', '#336791' ],
		[ 'calvin_seq, framed batches', 'delivery.A.framed', '#336791' ],
		[ 'calvin_seq, C consumer', 'delivery.A.inside', '#336791' ]);
	return undef unless @bars;
	my ($top) = sort { $b <=> $a } map { $figures{ $_->[1] }[-1] } @bars;
	my ($left, $width, $step) = (220, 420, 30);
	my $height = 70 + $step * @bars;
	my $total = $left + $width + 150;
	my $y = 48;
	my $text = qq(<svg xmlns="http://www.w3.org/2000/svg" width="$total" height="$height" viewBox="0 0 $total $height" font-family="sans-serif" font-size="13">\n)
	  . qq(<rect width="$total" height="$height" fill="#ffffff"/>\n)
	  . qq(<text x="12" y="24" font-size="15" font-weight="bold" fill="#222222">Messages delivered a second, 140 bytes each</text>\n);
	foreach my $bar (@bars)
	{
		my ($title, $name, $colour) = @$bar;
		my $values = $figures{$name};
		my $long = $width * median($name) / $top;
		my @ends = map { $left + $width * $_ / $top } $values->[0], $values->[-1];
		$ends[1] = $total if $ends[1] > $total;
		$text .= sprintf(qq(<text x="%d" y="%d" text-anchor="end" fill="#222222">%s</text>\n), $left - 10, $y + 15, escaped($title));
		$text .= sprintf(qq(<rect x="%d" y="%d" width="%.1f" height="20" fill="%s"/>\n), $left, $y, $long, $colour);
		$text .= sprintf(qq(<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#222222"/>\n), $ends[0], $y + 10, $ends[1], $y + 10) if @$values > 1;
		$text .= sprintf(qq(<text x="%.1f" y="%d" fill="#222222">%s k/s</text>\n), ($ends[1] > $left + $long ? $ends[1] : $left + $long) + 8, $y + 15, number(median($name) / 1000));
		$y += $step;
	}
	$text .= sprintf(qq(<text x="12" y="%d" font-size="11" fill="#666666">%s, %s cores, %s; medians of %s, lines from the least to the largest</text>\n),
		$height - 8, escaped($machine{cpu}), $machine{cores}, escaped($machine{server}), $machine{repetitions});
	return "$text</svg>\n";
}

sub write_file
{
	my ($name, $text) = @_;
	open(my $out, '>', "$directory/$name") or die "$directory/$name: $!\n";
	print $out $text;
	close $out or die "$directory/$name: $!\n";
}

read_figures();
write_file('results.md', markdown());
write_file('results.json', json());
my $plot = svg();
write_file('results.svg', $plot) if defined $plot;
print markdown();
my @missing = $partial ? () : missing();
die "figures are missing: @missing\n" if @missing;
