# Behaviour against the vectors: logs, and what the Rust original made of them.
#
# Every expectation is either taken from a vector or derived by the model in
# CalvinVectors, which is itself checked against the vectors first.  Where the
# two differ on purpose, the rule is written down here (see README.md there).
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use CalvinVectors;
use CalvinWire;
use PostgreSQL::Test::Utils;
use Test::More;

my $MAX_BIGINT = '9223372036854775807';
my $node = new_node(
	'vectors',
	'calvin_seq.max_databases' => 16,
	max_worker_processes => 24,
	shared_buffers => '64MB');

# Where a database keeps what it saw, and how it waits for its applier.
my $collector = <<'EOS';
CREATE SCHEMA test;
CREATE TABLE test.trace (n bigint PRIMARY KEY, reached boolean, line text);
CREATE TABLE test.received (step bigint, n bigint, vshard int, epoch bigint, "position" int,
	epoch_system_ms bigint, tenant_id bigint, participating_vshards int[],
	plans bytea, tx_class bytea, ordinal bigint);
CREATE PROCEDURE test.await(n bigint) LANGUAGE plpgsql AS $$
DECLARE until timestamptz := clock_timestamp() + interval '120s';
BEGIN
	WHILE (SELECT last_applied_index < n FROM seq_state) LOOP
		IF clock_timestamp() > until THEN
			RAISE EXCEPTION 'log_index % was not applied', n;
		END IF;
		PERFORM pg_sleep(0.0005);
	END LOOP;
END $$;
CREATE VIEW test.figures AS
	SELECT format('%s,%s,%s', last_applied_index, last_applied_epoch, digest) ||
		format(',%s,%s,%s,%s,%s,%s,%s,%s,%s,%s', epochs_applied, txns_fanned_out,
			txns_dropped_backpressure, epochs_skipped_gap, epochs_skipped_stale,
			entries_applied, entries_noop, entries_undecodable, completion_acks,
			bytes_applied) AS line
	FROM seq_state, seq_metrics;
EOS

sub new_database
{
	my ($db) = @_;

	sql($node, 'template1', "CREATE DATABASE $db");
	create_extension($node, $db);
	sql($node, $db, $collector);
	return;
}

# As test.figures, of the model.
sub figures
{
	my ($machine, $index, $digest, $fanned_out) = @_;

	return join ',', $index, $machine->{epoch} // '', $digest, $machine->{applied},
	  $fanned_out, 0, $machine->{gap}, $machine->{stale}, $machine->{entries},
	  $machine->{noop}, $machine->{undecodable}, $machine->{acks}, $machine->{bytes};
}

# What the model makes of a log: per entry its kind, outcome and figures; per
# vshard the rows of the stream, each with the entry it came from.
sub predict
{
	my (@log) = @_;
	my $machine = machine_new();
	my %model = (log => \@log, entries => [], streams => {}, fanned_out => 0);
	my $index = 0;

	for my $bytes (@log)
	{
		my $entry = wire_verdict($bytes);
		my $outcome = machine_step($machine, $entry);
		my $position = 0;

		$index++;
		$machine->{bytes} += length $bytes;
		for my $txn (@{ $entry->{txns} || [] })
		{
			my %row = (
				txn => $txn,
				n => $index,
				epoch => $entry->{epoch},
				position => $position++,
				ms => $entry->{ms},
				live => $outcome eq 'applied');

			next if $outcome eq 'stale';
			push @{ $model{streams}{$_} }, \%row for @{ $txn->{vshards} };
			$model{fanned_out} += @{ $txn->{vshards} } if $row{live};
		}
		$entry->{outcome} = $outcome;
		$entry->{kind} = 'stale_batch' if $outcome eq 'stale';
		$entry->{figures} = figures($machine, $index,
			machine_digest($machine, $index, $bytes, $outcome),
			$model{fanned_out});
		push @{ $model{entries} }, $entry;
	}
	return \%model;
}

# A row of *.apply.json: under the identity given, stamped with the ms given.
sub apply_row
{
	my ($row, $epoch, $position, $ms) = @_;
	my $txn = $row->{txn};

	return join ',', $epoch, $position, $ms, crc32($txn->{plans}), length $txn->{plans},
	  crc32(sequenced_txn($epoch, $position, $txn->{class}, $ms));
}

# The rows of a table of the collector, per vshard, as apply_row and with all
# other columns behind.
sub rows_of
{
	my ($db, $from) = @_;
	my %streams;

	for my $line (split /\n/, sql($node, $db, <<"EOS"))
SELECT vshard, n, epoch, "position", epoch_system_ms, tenant_id,
	array_to_string(participating_vshards, ' '), encode(plans, 'hex'), encode(tx_class, 'hex')
FROM $from ORDER BY vshard, step, ordinal
EOS
	{
		my ($vshard, $n, $epoch, $position, $ms, $tenant, $vshards, $plans, $class) =
		  split /\|/, $line, -1;
		$plans = pack 'H*', $plans;
		$class = pack 'H*', $class;
		push @{ $streams{$vshard} },
		  join(',', $epoch, $position, $ms, crc32($plans), length $plans,
			crc32(sequenced_txn($epoch, $position, $class, $ms))) . "|$n|$tenant|$vshards";
	}
	return \%streams;
}

# The same of the model.
sub rows_predicted
{
	my ($model, $live_only) = @_;
	my %streams;

	for my $vshard (keys %{ $model->{streams} })
	{
		for my $row (@{ $model->{streams}{$vshard} })
		{
			next if $live_only && !$row->{live};
			push @{ $streams{$vshard} }, apply_row($row, @{$row}{qw(epoch position ms)})
			  . "|$row->{n}|$row->{txn}{tenant}|" . join(' ', @{ $row->{txn}{vshards} });
		}
	}
	return \%streams;
}

# Fewer lines than is_deeply would print of a thousand streams.
sub same_streams
{
	my ($got, $expected, $what) = @_;
	my @different;

	for my $vshard (0 .. 1023)
	{
		my $g = join "\n", @{ $got->{$vshard} || [] };
		my $e = join "\n", @{ $expected->{$vshard} || [] };
		push @different, $vshard if $g ne $e;
	}
	ok(!@different, $what)
	  or diag "vshards @different\nthe first of them: ", explain($got->{ $different[0] }), 'expected: ',
	  explain($expected->{ $different[0] });
	return;
}

sub lines { return split /\n/, $_[0] }

# Differences between two lists, by number from 1.
sub differences
{
	my ($got, $expected) = @_;
	my $n = @$got > @$expected ? @$got : @$expected;

	return [ map { "$_: " . ($got->[ $_ - 1 ] // 'nothing') . ' instead of ' . ($expected->[ $_ - 1 ] // 'nothing') }
		  grep { ($got->[ $_ - 1 ] // '') ne ($expected->[ $_ - 1 ] // '') } 1 .. $n ];
}

# Insert a log entry by entry; after each, look at everything.
sub play_one_by_one
{
	my ($db, $model) = @_;
	my $script = "SELECT seq_subscribe(array(SELECT generate_series(0, 1023)),"
	  . " queue_size => 262144, lossless => false);\n";
	my $n = 0;

	for my $entry (@{ $model->{entries} })
	{
		my $hex = unpack 'H*', $model->{log}[ $n++ ];

		# a batch that raises the epoch can be waited for without polling;
		# what is awaited is then there, with no need to look twice
		$script .= "INSERT INTO seq_log (entry) VALUES ('\\x$hex');\n"
		  . (
			$entry->{outcome} =~ /^(?:applied|gap)$/
			? "INSERT INTO test.trace VALUES ($n, seq_wait_for_epoch($entry->{epoch}, '60s'));\n"
			: "CALL test.await($n);\nINSERT INTO test.trace VALUES ($n);\n"
		  )
		  . "UPDATE test.trace SET line = figures.line FROM test.figures WHERE n = $n;\n"
		  . "INSERT INTO test.received SELECT $n, $n, * FROM seq_receive(100000) WITH ORDINALITY;\n";
	}
	sql($node, $db, "SET client_min_messages = warning;\n\\o /dev/null\n$script");
	return;
}

# Insert a log all at once while somebody has subscribed to everything.
sub play_at_once
{
	my ($db, $insert, $n) = @_;
	my $consumer = session($node, $db);

	$consumer->query("SELECT seq_subscribe(array(SELECT generate_series(0, 1023)),"
		  . " queue_size => 262144, lossless => false)");
	sql($node, $db, $insert);
	$consumer->query("CALL test.await($n)");
	$consumer->query('INSERT INTO test.received SELECT 1,'
		  . ' (SELECT log_index FROM seq_log l WHERE l.epoch = r.epoch AND kind = \'epoch_batch\'), r.*'
		  . ' FROM seq_receive(1000000) WITH ORDINALITY r');
	is($consumer->query("SELECT count(*) FROM seq_receive(10, '0')"), 0, "$db: nothing more comes");
	$consumer->quit;
	return;
}

sub copy_script
{
	return join '', "COPY seq_log (entry) FROM STDIN;\n", (map { '\\\\x' . unpack('H*', $_) . "\n" } @_), "\\.\n";
}

sub insert_script
{
	return 'INSERT INTO seq_log (entry) VALUES ' . join(', ', map { "('\\x" . unpack('H*', $_) . "')" } @_) . ";\n";
}

# Live rows are replayed rows, byte for byte; replay has those of gaps besides.
sub check_replay
{
	my ($db, $model) = @_;

	sql($node, $db, <<"EOS");
CREATE TABLE test.replayed AS
	SELECT 1 AS step, l.log_index AS n, r.*
	FROM generate_series(0, 1023) v
		CROSS JOIN LATERAL seq_replay(v, 0, $MAX_BIGINT) WITH ORDINALITY
			r (vshard, epoch, "position", epoch_system_ms, tenant_id, participating_vshards, plans, tx_class, ordinal)
		LEFT JOIN seq_log l ON l.epoch = r.epoch AND l.kind = 'epoch_batch';
EOS
	my $columns = 'vshard, epoch, "position", epoch_system_ms, tenant_id, participating_vshards, plans, tx_class';
	is( sql($node, $db, <<"EOS"), '0|t', "$db: live rows are replayed rows");
SELECT (SELECT count(*) FROM (SELECT $columns FROM test.received EXCEPT ALL SELECT $columns FROM test.replayed) x),
	count(*) = (SELECT count(*) FROM test.received)
FROM test.replayed WHERE epoch IN (SELECT epoch FROM test.received)
EOS
	my @gaps = sort { $a <=> $b }
	  map { $_->{epoch} } grep { $_->{outcome} eq 'gap' && @{ $_->{txns} } } @{ $model->{entries} };
	is( sql($node, $db,
			'SELECT DISTINCT epoch FROM test.replayed WHERE epoch NOT IN (SELECT epoch FROM test.received) ORDER BY 1'
		),
		join("\n", @gaps),
		"$db: what was replayed and not live are the gaps");
	return;
}

# kind, epoch and seq_decode of every row.
sub check_columns
{
	my ($db, $model) = @_;
	my @kinds = map { "$_->{kind}|" . ($_->{epoch} // '') } @{ $model->{entries} };

	is_deeply(differences([ lines(sql($node, $db, 'SELECT kind, epoch FROM seq_log ORDER BY log_index')) ], \@kinds),
		[], "$db: kind and epoch of every row");
	return;
}

sub play
{
	my ($name) = @_;
	my $model = predict(vector_log($name));
	my @entries = @{ $model->{entries} };
	my $count = @entries;

	# The model explains the vectors.
	my @decoded = vector_lines("$name.decode.jsonl");
	my %verdict = (epoch_batch => 'batch', completion_ack => 'ack', noop => 'reject', undecodable => 'reject');
	my @canonical = (
		[
			map {
				join ',', $verdict{ $_->{kind} },
				  map { $_ // '' } $_->{kind} =~ /batch|ack/
				  ? ($_->{epoch}, $_->{ms}, scalar @{ $_->{txns} || [] }, @{$_}{qw(position vshard trailing)},
					length $_->{canonical}, crc32($_->{canonical}))
				  : ()
			} @entries
		],
		[
			map {
				join ',', $_->{verdict},
				  map { $_ // '' } $_->{verdict} ne 'reject'
				  ? (@{$_}{qw(epoch epoch_system_ms)}, $_->{txns} // 0, @{$_}{qw(position vshard_id trailing_bytes canonical_len canonical_crc32)})
				  : ()
			} @decoded
		]);
	is_deeply(differences(@canonical), [], "$name: the model decodes as the original");
	ok((!grep { $_->{outcome} eq 'stale' } @entries), "$name: no stale batch in it");

	# Its trace is the original's; "no subscriber" makes the fan-out 0 there.
	my @trace = map { [@$_] } @{ vector_json("$name.trace.json")->{trace} };
	is_deeply(
		[ map { [ $_->[0], $_->[1], $_->[2], $_->[5] ] } @trace ],
		[
			map {
				my @f = split /,/, $entries[$_]{figures};
				my @g = $_ ? split /,/, $entries[ $_ - 1 ]{figures} : (0) x 13;
				[ $f[0], $f[1], $f[3] - $g[3], $f[6] - $g[6] ]
			} 0 .. $#entries
		],
		"$name: the model counts as the original");

	# Live: entry by entry.
	my $db = $name;
	new_database($db);
	play_one_by_one($db, $model);

	my @figures = map { $_->{figures} } @entries;
	is_deeply(differences([ lines(sql($node, $db, 'SELECT line FROM test.trace ORDER BY n')) ], \@figures),
		[], "$name: state, counters and digest after every entry");
	is( sql($node, $db, 'SELECT count(*), bool_and(reached) FROM test.trace WHERE reached IS NOT NULL'),
		(grep { $_->{outcome} =~ /applied|gap/ } @entries) . '|t',
		"$name: every epoch was waited for");

	my $received = rows_of($db, 'test.received');
	same_streams($received, rows_predicted($model, 1), "$name: what each vshard received, and when");

	# The same against the vector.  The one rule that makes a difference: the
	# original delivers a transaction under the numbers it carries, we under
	# those of its batch and its place there.
	my $apply = vector_json("$name.apply.json");
	my %ours = map { my $v = $_; ($v => [ map { s/\|.*//r } @{ $received->{$v} } ]) } keys %$received;
	my %theirs = map { my $v = $_; ($v => [ map { join ',', @$_ } @{ $apply->{vshards}{$v} } ]) } keys %{ $apply->{vshards} };
	my $misnumbered = 0;
	for my $vshard (keys %{ $model->{streams} })
	{
		for my $row (grep { $_->{live} } @{ $model->{streams}{$vshard} })
		{
			my $txn = $row->{txn};
			my $own = apply_row($row, @{$txn}{qw(epoch position)}, $row->{ms});
			next if $txn->{epoch} == $row->{epoch} && $txn->{position} == $row->{position};
			$misnumbered++;
			$_ = $_ eq $own ? apply_row($row, @{$row}{qw(epoch position ms)}) : $_ for @{ $theirs{$vshard} };
		}
	}
	same_streams(\%ours, \%theirs, "$name: live as *.apply.json has it, but $misnumbered rows with the batch's numbers");
	is($model->{fanned_out}, $apply->{metrics}{txns_fanned_out}, "$name: txns_fanned_out as *.apply.json has it");

	# Replay.
	check_replay($db, $model);
	my $replayed = rows_of($db, 'test.replayed');
	same_streams($replayed, rows_predicted($model), "$name: the replay of each vshard");

	# Against the vector: the original's stamp is the transaction's own.
	my (%own, %original);
	for my $vshard (keys %{ $model->{streams} })
	{
		my $place = 0;

		# ours, with the stamp (and the numbers) the transaction carries
		for my $row (@{ $model->{streams}{$vshard} })
		{
			my ($epoch, $position, $ms, $plans_crc, $plans_len, undef, undef, $tenant, $vshards) =
			  split /[,|]/, $replayed->{$vshard}[ $place++ ] // '';
			my $txn = $row->{txn};

			# before it is overwritten: it is the batch's
			$ms = $ms eq $row->{ms} ? $txn->{ms} : "not the batch's: $ms";
			push @{ $own{$vshard} },
			  [ $txn->{epoch}, $txn->{position}, $ms, $tenant, $vshards, $plans_crc, $plans_len,
				crc32(sequenced_txn($txn->{epoch}, $txn->{position}, $txn->{class}, $txn->{ms})) ];
		}
	}
	my $replay = vector_json("$name.replay.json");
	for my $vshard (keys %$replay)
	{
		$original{$vshard} = [
			map { join ',', @{$_}{qw(epoch position epoch_system_ms tenant_id)},
				  join(' ', @{ $_->{participating_vshards} }), @{$_}{qw(plans_crc32 plans_len txn_crc32)} } @{ $replay->{$vshard} } ];
	}
	# ... and the original sorts by these numbers
	%own = map {
		my $v = $_;
		($v => [ map { join ',', @$_ } sort { $a->[0] <=> $b->[0] || $a->[1] <=> $b->[1] } @{ $own{$v} } ])
	} keys %own;
	same_streams(\%own, \%original, "$name: replay as *.replay.json has it, but stamped by the batch");

	check_columns($db, $model);

	# All at once, with a consumer: the same, entry by entry makes no difference.
	my $bulk = "${name}_bulk";
	new_database($bulk);
	play_at_once($bulk, $name eq 'basic' ? copy_script(@{ $model->{log} }) : insert_script(@{ $model->{log} }), $count);
	is(sql($node, $bulk, 'SELECT line FROM test.figures'), $figures[-1], "$bulk: the same state, digest and counters");
	same_streams(rows_of($bulk, 'test.received'), $received, "$bulk: the same rows");
	check_columns($bulk, $model);

	# Nobody subscribed: nothing is fanned out, and nothing counts as dropped.
	my $silent = "${name}_silent";
	new_database($silent);
	sql($node, $silent, copy_script(@{ $model->{log} }) . "CALL test.await($count);");
	my @last = split /,/, $figures[-1];
	$last[4] = 0;
	is(sql($node, $silent, 'SELECT line FROM test.figures'), join(',', @last), "$silent: no subscriber, no drop");
	return $model;
}

# seq_append, seq_decode, seq_encode with each entry alone: it is the one that
# its log waits for, and it is rolled back.
sub check_entries
{
	my ($db, $model) = @_;
	my $n = 0;

	sql($node, $db, <<'EOS');
CREATE TABLE test.entries (n bigint, entry bytea, filler bytea);
CREATE FUNCTION test.try_append(entry bytea, filler bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text; i bigint;
BEGIN
	IF filler IS NOT NULL THEN
		INSERT INTO seq_log (entry) VALUES (filler);
	END IF;
	i := seq_append(entry);
	SELECT concat_ws('|', kind, length(l.entry), md5(l.entry)) INTO result
	FROM seq_log l WHERE l.log_index = i;
	RAISE EXCEPTION SQLSTATE 'TTTTT' USING MESSAGE = coalesce(result, 'not found');
EXCEPTION WHEN SQLSTATE 'TTTTT' THEN RETURN SQLERRM;
WHEN OTHERS THEN RETURN concat(SQLSTATE, ' ', SQLERRM);
END $$;
CREATE FUNCTION test.recode(entry bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE decoded jsonb;
BEGIN
	decoded := seq_decode(entry);
	RETURN concat_ws('|', decoded #>> '{EpochBatch,epoch}', decoded #>> '{CompletionAck,epoch}',
		length(seq_encode(decoded)), md5(seq_encode(decoded)));
EXCEPTION WHEN OTHERS THEN RETURN concat(SQLSTATE, ' ', SQLERRM);
END $$;
EOS
	my $copy = "COPY test.entries FROM STDIN;\n";
	my (@append, @recode);
	for my $bytes (@{ $model->{log} })
	{
		my $strict = wire_verdict($bytes);
		my $lenient = wire_verdict($bytes, 1);
		my $index = 0;
		my $misnumbered = grep { $_->{epoch} != $lenient->{epoch} || $_->{position} != $index++ } @{ $lenient->{txns} || [] };
		my $canonical = $lenient->{canonical} // '';
		my $stored = length($canonical) . '|' . md5_hex($canonical);
		my $filler = $lenient->{kind} eq 'epoch_batch' && $lenient->{epoch} > 0
		  ? '\\\\x' . unpack('H*', batch($lenient->{epoch} - 1, 0)) : '\\N';

		$copy .= ++$n . "\t\\\\x" . unpack('H*', $bytes) . "\t$filler\n";
		push @append,
		    $lenient->{kind} eq 'undecodable' || $lenient->{trailing} || $misnumbered
		  ? 'refused'
		  : "$lenient->{kind}|$stored";
		push @recode,
		    $strict->{kind} eq 'undecodable' ? 'refused'
		  : $strict->{kind} eq 'noop' ? undef
		  : $misnumbered ? 'misnumbered'
		  : "$strict->{epoch}|$stored";
	}
	sql($node, $db, "$copy\\.\n");

	# what the error says is a matter of the wire tests: here, that it says where
	my @appended = lines(sql($node, $db, 'SELECT test.try_append(entry, filler) FROM test.entries ORDER BY n'));
	s/^(?:22P03|22003|22021|22000) .*at byte \d+: .*/refused/ for @appended;
	is_deeply(differences(\@appended, \@append), [], "$db: what seq_append stores of each entry");

	my @recoded = lines(sql($node, $db, 'SELECT test.recode(entry) FROM test.entries ORDER BY n'));
	for my $i (0 .. $#recoded)
	{
		# a name with NUL is refused by seq_decode alone; a no-op has no JSON to agree on
		$recoded[$i] = $recode[$i] if $recoded[$i] =~ /^22P05 / && $model->{log}[$i] =~ /\x00/ && defined $recode[$i] && $recode[$i] ne 'refused';
		$recoded[$i] = undef if !defined $recode[$i];
		$recoded[$i] =~ s/^22000 .* at JSON path .*/misnumbered/ if defined $recoded[$i];
		$recoded[$i] =~ s/^(?:22P03|22003|22021) .*at byte \d+: .*/refused/ if defined $recoded[$i];
	}
	is_deeply(differences(\@recoded, \@recode), [], "$db: seq_decode's verdicts, and seq_encode of what it made");
	is(sql($node, $db, "SELECT seq_append('')"), 1, "$db: all this left no hole in the log");
	return;
}

sub md5_hex { require Digest::MD5; return Digest::MD5::md5_hex($_[0]) }

my %models = map { ($_ => play($_)) } qw(basic rough);
for my $name (qw(basic rough))
{
	new_database("${name}_entries");
	check_entries("${name}_entries", $models{$name});
}

#
# accept.jsonl: the verdict on single entries.
#
{
	my @cases = vector_lines('accept.jsonl');
	my @log = map { pack 'H*', $_->{hex} } @cases;
	my $model = predict(@log);
	my @expected;

	is(scalar @cases, 298, 'accept: all cases');
	new_database('accept');
	sql($node, 'accept', copy_script(@log) . 'CALL test.await(298);');
	my @kinds = lines(sql($node, 'accept', 'SELECT kind FROM seq_log ORDER BY log_index'));

	for my $case (@cases)
	{
		my $accept = $case->{rust} eq 'accept';

		# no bigint holds it; the original panics on it
		$accept = 0 if $case->{case} eq 'uint64 max' && $case->{group} =~ /epoch|tenant/;
		$accept = 0 if $case->{rust} eq 'panic';
		push @expected, $accept ? 'accept' : $case->{hex} eq '' ? 'noop' : 'reject';
	}
	my @verdicts = map { /batch|ack/ ? 'accept' : $_ eq 'noop' ? 'noop' : 'reject' } @kinds;
	is_deeply(
		[ map { my $i = $_ =~ /^(\d+)/ ? $1 - 1 : 0; "$cases[$i]{group}, $cases[$i]{case}: $_" } @{ differences(\@verdicts, \@expected) } ],
		[], 'accept: every verdict');
	is((grep { $cases[$_]{rust} eq 'accept' && $expected[$_] ne 'accept' } 0 .. $#cases),
		3, 'accept: the exceptions are three');
	is(sql($node, 'accept', 'SELECT line FROM test.figures'),
		do { my @f = split /,/, $model->{entries}[-1]{figures}; $f[4] = 0; join ',', @f },
		'accept: applied as the model does');
	check_columns('accept', $model);
	new_database('accept_entries');
	check_entries('accept_entries', $model);
}

#
# Odd logs: the table in the vectors' README, and forms that are not canonical.
#
my $number = 0;

# epochs => [ epochs live, epochs replayed ]; the last of a repeated epoch says
# "again" in its plans.
sub check_odd
{
	my ($what, $epochs, $live, $streamed, %counters) = @_;
	my $db = 'odd' . ++$number;
	my (%seen, @log);

	for my $epoch (@$epochs)
	{
		my $plans = $seen{$epoch}++ ? "again$seen{$epoch}" : 'first';
		push @log, batch($epoch, 1000 + @log, tx_class(plans => $plans), tx_class(plans => "$plans+"));
	}
	my $model = predict(@log);
	new_database($db);
	play_at_once($db, copy_script(@log), scalar @log);
	my $rows = sub {
		return sql($node, $db,
			"SELECT string_agg(DISTINCT epoch::text, ' '), bool_and(plans IN ('first', 'first+')) FROM $_[0]");
	};
	is($rows->('test.received'), join(' ', @$live) . '|t', "$what: live, and the first of one epoch");
	check_replay($db, $model);
	is($rows->('test.replayed'), join(' ', @$streamed) . '|t', "$what: replayed, and the first of one epoch");
	my $columns = join ', ', sort keys %counters;
	is( sql($node, $db, "SELECT $columns FROM seq_metrics"),
		join('|', map { $counters{$_} } sort keys %counters), "$what: counters");
	is(sql($node, $db, 'SELECT seq_last_applied_epoch(), seq_next_epoch()'),
		$streamed->[-1] . '|' . ($streamed->[-1] + 1), "$what: the counter never goes back");
	is(sql($node, $db, 'SELECT line FROM test.figures'), $model->{entries}[-1]{figures}, "$what: as the model");
	check_columns($db, $model);
	sql($node, 'template1', "DROP DATABASE $db");
	return;
}

check_odd('first batch is 5', [ 5, 6 ], [6], [ 5, 6 ], epochs_skipped_gap => 1, epochs_applied => 1);
check_odd('0 2 3', [ 0, 2, 3 ], [ 0, 3 ], [ 0, 2, 3 ], epochs_skipped_gap => 1, epochs_applied => 2);
check_odd('0 1 1 2', [ 0, 1, 1, 2 ], [ 0, 1, 2 ], [ 0, 1, 2 ],
	epochs_skipped_gap => 0, epochs_skipped_stale => 1, epochs_applied => 3);
check_odd('0 1 2 0 1 2', [ 0, 1, 2, 0, 1, 2 ], [ 0, 1, 2 ], [ 0, 1, 2 ],
	epochs_skipped_gap => 0, epochs_skipped_stale => 3, epochs_applied => 3);
check_odd('0 5 3 6', [ 0, 5, 3, 6 ], [ 0, 6 ], [ 0, 5, 6 ],
	epochs_skipped_gap => 1, epochs_skipped_stale => 1, epochs_applied => 2);

{
	my $db = 'odd';
	my $class = tx_class(write_set => [ document('a', 1) ], plans => 'p');
	my $max = '9223372036854775806';
	# Sets unsorted and repeated, wide headers and integers, a map unsorted and
	# with a key twice, names of two and three bytes a character.
	my $odd = mp_array(
		mp_array(mp_array(mp_str('Kv'), mp_array(mp_str('a'),
			"\xdc\x00\x03" . mp_array("\xcc\x05") . mp_array("\xcc\xff", "\x01") . "\xdd\x00\x00\x00\x00"))),
		mp_array(
			mp_array("\xdb\x00\x00\x00\x08Document", mp_array("\xd9\x02\xc3\xa9",
				mp_array(mp_uint(7), "\xce\x00\x00\x00\x03", mp_uint(7), mp_uint(1)))),
			mp_array(mp_str('Edge'), mp_array(mp_str("\xe6\xbc\xa2"),
				mp_array(mp_array(mp_uint(2), mp_uint(1)), mp_array(mp_uint(1), mp_uint(9)), mp_array(mp_uint(2), mp_uint(1)))))),
		"\xc6\x00\x00\x00\x02ab",
		"\xcf\x00\x00\x00\x00\x00\x00\x00\x09",
		mp_array("\xde\x00\x03"
			  . mp_uint(700) . mp_array(mp_array(document('x', 1)))
			  . mp_uint(3) . "\x90"
			  . "\xcd\x02\xbc" . mp_array(mp_array(document('y', 5, 2, 5)))));
	my @log = (
		batch(0, -1, $class),
		# its own numbers disagree with batch and index; so does its own ms
		mp_array(mp_str('EpochBatch'), mp_array(mp_array(mp_uint(1),
			mp_array(txn(77, 9, $class, 5), txn(0, 0, $odd, -5)), "\xd3" . pack('q>', 1700000000000)))),
		# the highest epoch is no number of an epoch
		mp_array(mp_str('EpochBatch'), mp_array(mp_array("\xcf" . "\xff" x 8, "\x90", "\x00"))),
		batch($MAX_BIGINT, 0),
		batch(2, 3, $class) . 'and bytes behind it',
		ack(0, 0, 97), ack(0, 0, 97), ack(12345, 4294967295, 4294967295),
		batch($max, 0, $class),
		batch($max, 1, $class),
		batch(3, 1, $class));
	my $model = predict(@log);

	is(join(' ', map { $_->{outcome} } @{ $model->{entries} }),
		'applied applied undecodable undecodable applied acks acks acks gap stale stale',
		'odd entries: what is expected');
	isnt($model->{entries}[1]{txns}[1]{class}, $odd, 'odd entries: one is not canonical');
	new_database($db);
	play_at_once($db, insert_script(@log), scalar @log);
	same_streams(rows_of($db, 'test.received'), rows_predicted($model, 1), 'odd entries: live');
	check_replay($db, $model);
	same_streams(rows_of($db, 'test.replayed'), rows_predicted($model), 'odd entries: replayed');
	is( sql($node, $db, "SELECT encode(tx_class, 'hex') FROM test.received WHERE epoch = 1 AND \"position\" = 1 AND vshard = 3"),
		unpack('H*', $model->{entries}[1]{txns}[1]{class}),
		'odd entries: the TxClass delivered is canonical');
	is(sql($node, $db, 'SELECT line FROM test.figures'), $model->{entries}[-1]{figures}, 'odd entries: counters and digest');
	check_columns($db, $model);
	is(sql($node, $db, 'SELECT seq_last_applied_epoch(), seq_next_epoch(), seq_current_committed_epoch()'),
		"$max|$MAX_BIGINT|$max", 'odd entries: the highest epoch of all');
	like(sql_error($node, $db, "SELECT seq_append('\\x" . unpack('H*', batch($MAX_BIGINT, 0)) . "')"),
		qr/^22003: /, 'odd entries: and no epoch comes after it');
}

$node->stop;
done_testing();
