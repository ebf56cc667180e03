# At rest: is everything as the model says?
package Chaos::Checker;

use strict;
use warnings;

use Chaos::Entry qw(@vshards);
use Chaos::GroupModel;
use Chaos::Loop qw(violation);
use Exporter 'import';

our @EXPORT_OK = qw(check_all check_whole_log check_leftovers %checked @invariants);

# In the order in which they are reported.
our @invariants = (
	'recovers', 'log', 'acknowledged is not lost', 'each submission once', 'order of submissions', 'durable before delivered', 'nothing twice', 'nothing missing', 'order',
	'byte for byte', 'replay', 'digest', 'truncation', 'restore', 'the state never goes back', 'counters', 'subscriptions', 'filters', 'parked', 'handlers', 'nothing held when idle',
	'no unexpected error', 'nothing crashed', 'nothing left behind');
our %checked = map { ($_ => 0) } qw(entries txns chunks effects rows replayed samples counters subscriptions sums restored);

sub check_all
{
	my ($cluster, $rng) = @_;

	check_log($cluster);
	check_delivered($cluster);
	check_effects($cluster);
	check_readers($cluster);
	check_restored($cluster);
	check_groups($cluster);
	check_bare($cluster);
	check_state($cluster);
	check_counters($cluster, $_) foreach @{ $cluster->{nodes} };
	check_replay($cluster, $rng);
	check_idle($cluster, $_) foreach @{ $cluster->{nodes} };
	check_crashes($cluster);
	$cluster->{checked_epoch} = $cluster->{model}->last_epoch;
	$cluster->{model}->forget_contents;
	$cluster->{order}->forget;
	return;
}

sub check_log
{
	my ($cluster) = @_;
	my $model = $cluster->{model};
	my $before = $model->{txns};

	my @rows = $cluster->rows($cluster->{primary}, "SELECT $cluster->{log_columns} FROM seq_log WHERE log_index > $model->{last_index} ORDER BY 1");
	my ($first) = map { @$_ } $cluster->rows($cluster->{primary}, 'SELECT min(log_index) FROM seq_log');

	# what was truncated since was read before that
	unshift @rows, map { $cluster->{stash}{$_} }
	  sort { $a <=> $b } grep { $_ > $model->{last_index} && $_ < $first } keys %{ $cluster->{stash} };
	$cluster->{stash} = {};
	foreach my $row (@rows)
	{
		$model->append(@$row);
		$checked{entries}++;
	}
	$model->check_acknowledged($cluster->{primary}{ask}{connection});
	$cluster->{order}->check($cluster->{primary}{ask}{connection});
	$checked{txns} += $model->{txns} - $before;
	check_base($cluster, $first);
	return;
}

# What a truncated log begins with.
sub check_base
{
	my ($cluster, $first) = @_;
	my $model = $cluster->{model};
	my ($base) = $cluster->rows($cluster->{primary}, 'SELECT log_index, last_applied_epoch, digest FROM seq_snapshots WHERE base');

	if ($first > $cluster->{first_index})
	{
		violation('truncation', "the log begins at $first, and nobody has truncated it") if !$cluster->{truncations};
		violation('truncation', "the log begins at $first, and there is no base snapshot") if !$base;
		$cluster->{first_index} = $first;
	}
	return if !$base;
	my $at = $model->{at}{ $base->[0] };
	my $got = "log_index $base->[0], epoch " . ($base->[1] // -1) . ", digest $base->[2]";

	violation('truncation', "the log begins at $first, its base is $got; the model's at that place: "
		  . ($at ? 'epoch ' . ($at->{epoch} // -1) . ", digest $at->{digest}" : 'nothing'))
	  if $base->[0] >= $first || !$at || $at->{digest} ne $base->[2] || ($at->{epoch} // -1) != ($base->[1] // -1);
	$cluster->{truncated} = ($base->[1] // -1) + 1;
	my $result = $cluster->{primary}{ask}->ask("SELECT * FROM seq_replay($vshards[0], $cluster->{truncated} - 1, 1000000000)");

	violation('truncation', "seq_replay from below epoch $cluster->{truncated}, where the log begins, raised no error")
	  if $cluster->{truncated} > 0 && (!$result->{error} || $result->{error}{state} ne '55000');
	return;
}

# All that anybody has seen, also in transactions that were rolled back.
sub check_delivered
{
	my ($cluster) = @_;

	foreach my $chunk (@{ $cluster->{delivered} })
	{
		$cluster->{model}->check_chunk($chunk, $chunk->{holes} || $chunk->{who} =~ /bare/);
		$checked{chunks}++;
	}
	$cluster->{delivered} = [];
	return;
}

sub check_effects
{
	my ($cluster) = @_;
	my $model = $cluster->{model};

	$cluster->{worker_was_at} = { %{ $cluster->{worker_at}{d} } };
	foreach my $row ($cluster->rows($cluster->{primary}, 'SELECT vshard, keys, md5, pid, n, consumer, how FROM effects ORDER BY n'))
	{
		my ($vshard, $keys, $md5, $pid, $n, $consumer, $how) = @$row;
		my $at = $cluster->{worker_at}{$consumer};

		$at->{$vshard} = $model->check_next(
			{ who => "the effect $n of consumer $consumer, pid $pid" . ($how ? " ($how)" : ''), vshard => $vshard, keys => $keys, md5 => $md5 },
			$at->{$vshard});
		$checked{effects} += 1 + ($keys =~ tr/,//);
	}
	check_complete($model, "the effects of the durable consumer $_", $cluster->{worker_at}{$_}) foreach @{ $cluster->{durable} };
	$cluster->rows($cluster->{primary}, 'TRUNCATE effects');
	return;
}

sub check_complete
{
	my ($model, $who, $at) = @_;

	foreach my $vshard (sort { $a <=> $b } keys %$at)
	{
		my $end = $model->end_of($vshard);
		my $stream = $model->{streams}{$vshard};

		violation('nothing missing', "$who, vshard $vshard: " . ($end - $at->{$vshard}) . ' transactions, from ('
			  . ($stream->{keys}[ $at->{$vshard} - $stream->{offset} ] // '?') . ') on')
		  if $at->{$vshard} != $end;
	}
	return;
}

sub check_readers
{
	my ($cluster) = @_;

	foreach my $reader (@{ $cluster->{readers} })
	{
		foreach my $chunk (@{ $reader->{chunks} })
		{
			if (defined $chunk->{jump})
			{
				jump($cluster, $reader, $chunk->{jump});
				next;
			}
			$reader->{at}{ $chunk->{vshard} } = $cluster->{model}->check_next($chunk, $reader->{at}{ $chunk->{vshard} });
			$checked{rows} += 1 + ($chunk->{keys} =~ tr/,//);
		}
		$reader->{chunks} = [];
		check_complete($cluster->{model}, $reader->{name}, $reader->{at});
	}
	return;
}

# It was told that the log has been truncated, and went on where that begins.
sub jump
{
	my ($cluster, $reader, $epoch) = @_;

	violation('truncation', "$reader->{name} was told of a truncation up to epoch $epoch, which there was not (the log begins with $cluster->{truncated})")
	  if $epoch > $cluster->{truncated};
	foreach my $vshard (@{ $reader->{vshards} })
	{
		my $stream = $cluster->{model}{streams}{$vshard};
		my $place = $stream->{offset};

		$place++ while $place < $cluster->{model}->end_of($vshard) && $stream->{keys}[ $place - $stream->{offset} ] =~ /^(\d+)/ && $1 < $epoch;
		$reader->{at}{$vshard} = $place if $reader->{at}{$vshard} < $place;
	}
	return;
}

# Groups: their messages, and their handlers.
sub check_groups
{
	my ($cluster) = @_;
	my $primary = $cluster->{primary};
	my $injuries = Chaos::Server::injuries();
	my $got;

	return if !@{ $cluster->{group_actors} };
	Chaos::Loop::run_until(
		sub {
			my @handlers = $cluster->rows($primary, q{SELECT name || ' ' || state, workers - cardinality(pids), last_error FROM seq_handlers ORDER BY name});

			$got = join ', ', map { join ' ', map { $_ // 'null' } @$_ } @handlers;
			foreach my $error (grep { defined } map { $_->[2] } @handlers)
			{
				violation('no unexpected error', "a handler: $error") if $error !~ $Chaos::GroupModel::HANDLER_ERROR;
			}
			return join(', ', map { "$_->[0] $_->[1]" } @handlers) eq 'ha running 0, hs running 0';
		},
		sub { "the handlers to run: $got" },
		30, 'handlers');
	my @counted = map { join ' ', @$_ } $cluster->rows($primary, <<'EOS');
SELECT c.name, c.pending, c.parked - (SELECT count(*) FROM seq_parked p WHERE p.name = c.name), c.state
	FROM seq_consumers c WHERE c.kind <> 'stream' AND (c.pending <> 0 OR c.state = 'lost' OR c.parked <> (SELECT count(*) FROM seq_parked p WHERE p.name = c.name))
EOS
	violation('counters', "all is through, and seq_consumers says (name, pending, parked too many, state): " . join ', ', @counted) if @counted;
	$cluster->{groups}->check(
		$cluster->{model}, $injuries - ($cluster->{injuries_before} || 0),
		[ $cluster->rows($primary, $Chaos::GroupModel::EFFECTS) ], [ $cluster->rows($primary, $Chaos::GroupModel::PARKED) ],
		map { $_->[0] } $cluster->rows($primary, q{SELECT id FROM seq_registrations WHERE name = 'e'}));
	$cluster->{injuries_before} = $injuries;
	$cluster->rows($primary, 'TRUNCATE group_effects');
	return;
}

# The bare queue: ascending, and as many as the server says it sent.
sub check_bare
{
	my ($cluster) = @_;
	my $model = $cluster->{model};

	foreach my $bare (@{ $cluster->{bare} })
	{
		my %last;

		foreach my $chunk (@{ $bare->{chunks} })
		{
			my $vshard = $chunk->{vshard};
			my $place = $model->check_chunk($chunk, 1);
			my ($key) = $chunk->{keys} =~ /([^,]+)\z/;

			violation('order', "$chunk->{who}, vshard $vshard: $chunk->{keys} came too late")
			  if defined $last{$vshard} && $place <= $last{$vshard};
			$last{$vshard} = $model->{streams}{$vshard}{place}{$key};
		}
		$bare->{chunks} = [];
		next if $bare->{uncounted} || !$bare->pid;
		foreach my $row ($cluster->rows($bare->{on}, "SELECT vshard, sent, dropped FROM seq_subscriptions WHERE pid = " . $bare->pid))
		{
			my ($vshard, $sent, $dropped) = @$row;

			violation('subscriptions', "$bare->{name}, vshard $vshard: sent $sent, received " . ($bare->{received}{$vshard} || 0))
			  if $sent != ($bare->{received}{$vshard} || 0);
		}
	}
	return;
}

# What was dumped, restored, and received there by the durable consumer.  Behind the
# log that was dumped there are the submissions that waited then.
sub check_restored
{
	my ($cluster) = @_;
	my $restored = delete $cluster->{restored} or return;
	my $model = $cluster->{model};
	my @sequenced = @{ $restored->{rows} };

	shift @sequenced while @sequenced && ($model->{at}{ $sequenced[0][0] }{md5} // '') eq $sequenced[0][1];
	my ($end) = map { $_->[0] } $restored->{rows}[ $#{ $restored->{rows} } - @sequenced ];
	my $stranger = grep { !defined $_->[5] } @sequenced;

	violation('restore', "behind log_index $end of $restored->{index} there are $stranger entries that are neither in the log that was dumped nor made of submissions") if $stranger;
	$model = $model->restored($end, $restored->{since}, map { [ $_->[0], pack('H*', substr $_->[5], 2), $_->[4] ] } @sequenced);
	$checked{restored} += @sequenced;
	my $at = $model->{at}{ $restored->{index} };
	my $got = 'epoch ' . ($restored->{epoch} // -1) . ", digest $restored->{digest}";
	my %at = %{ $cluster->{worker_was_at} };

	$model->check_chunk($_) foreach @{ $restored->{seen} };
	violation('restore', "at log_index $restored->{index}: $got; the model's is " . ($at ? 'epoch ' . ($at->{epoch} // -1) . ", digest $at->{digest}" : 'nothing'))
	  if !$at || $at->{digest} ne $restored->{digest} || ($at->{epoch} // -1) != ($restored->{epoch} // -1);
	foreach my $row (@{ $restored->{effects} })
	{
		my ($vshard, $keys, $md5, $pid, $n) = @$row;

		$at{$vshard} = $model->check_next({ who => "the effect $n after the restore", vshard => $vshard, keys => $keys, md5 => $md5 }, $at{$vshard});
		$checked{effects} += 1 + ($keys =~ tr/,//);
	}
	foreach my $vshard (@vshards)
	{
		my $stream = $model->{streams}{$vshard};
		my $next = $stream->{keys}[ $at{$vshard} - $stream->{offset} ] // next;

		violation('nothing missing', "after the restore, vshard $vshard: ($next) is not among the effects, the log ending with epoch $restored->{epoch}")
		  if $next =~ /^(\d+)/ && $1 <= $restored->{epoch};
	}
	if ($restored->{groups})
	{
		my $groups = $cluster->{groups}->copy;

		$groups->check($model, Chaos::Server::injuries() - ($cluster->{injuries_before} || 0), $restored->{groups}{effects}, $restored->{groups}{parked});
		$checked{'restored for groups'} += $groups->{count}{processed} || 0;
	}
	return;
}

# Both servers have the model's state; and so had they whenever it was looked at.
sub check_state
{
	my ($cluster) = @_;
	my $model = $cluster->{model};

	foreach my $server (@{ $cluster->{nodes} })
	{
		my ($row) = $cluster->rows($server,
			'SELECT last_applied_epoch, last_applied_index, digest, role, log_end, seq_next_epoch(), seq_current_committed_epoch() FROM seq_state');
		my $expected = join '|', $model->last_epoch, $model->{last_index}, $model->{at}{ $model->{last_index} }{digest},
		  $server == $cluster->{primary} ? 'primary' : 'standby', $model->{last_index}, $model->last_epoch + 1, $model->last_epoch;
		my $got = join '|', map { $_ // -1 } @$row;

		violation('digest', "$server->{name}: state $got; the model's is $expected") if $got ne $expected;
	}
	my ($waits) = $cluster->rows($cluster->{primary}, 'SELECT waiting_rows, waiting_bytes, coalesce(waits_for, 0::text) FROM seq_sequencer');

	violation('counters', "all is in the log, and seq_sequencer says that there wait @$waits (submissions, bytes, for)") if "@$waits" ne '0 0 0';
	foreach my $sample (@{ $cluster->{samples} })
	{
		my ($name, $epoch, $index, $digest) = @$sample;
		my $at = $model->{at}{$index};

		$checked{samples}++;
		violation('digest', "$name was at log_index $index, epoch $epoch, digest $digest; the model's is "
			  . ($at ? "epoch $at->{epoch}, $at->{digest}" : 'nothing'))
		  if !$at || $at->{digest} ne $digest || ($at->{epoch} // -1) != $epoch;
	}
	$cluster->{samples} = [];
	return;
}

my @counters = (
	[ epochs_applied => 'applied' ], [ epochs_skipped_gap => 'gap' ], [ epochs_skipped_stale => 'stale' ],
	[ entries_applied => 'entries' ], [ entries_noop => 'noop' ], [ entries_undecodable => 'undecodable' ],
	[ completion_acks => 'acks' ], [ bytes_applied => 'bytes' ]);

# What a server counted since the last time, if it has been up since.
sub check_counters
{
	my ($cluster, $server) = @_;
	my $model = $cluster->{model};
	my ($metrics) = $cluster->rows($server,
		'SELECT ' . join(', ', map { $_->[0] } @counters) . ', txns_fanned_out, txns_dropped_backpressure FROM seq_metrics');
	my %subscriptions = map { ("$_->[0] $_->[1] $_->[2] $_->[3]" => $_) }
	  $cluster->rows($server, 'SELECT vshard, name, pid, subscribed_at, sent, dropped, CASE WHEN lossless THEN lag ELSE 0 END FROM seq_subscriptions');
	my $now = {
		connection => $server->{ask}{connection},
		metrics => $metrics,
		model => { %{ $model->{machine} } },
		subscriptions => \%subscriptions,
		index => $model->{last_index},
		applied => { map { ($_ => scalar @{ $model->{applied}{$_} }) } @vshards },
	};
	my $before = $server->{counted};

	$server->{counted} = $now;
	foreach my $s (values %subscriptions)
	{
		violation('subscriptions', "$server->{name}: $s->[1], vshard $s->[0] has a lag of $s->[6], and has received everything")
		  if $s->[6] != 0;
	}
	return if !$before || $before->{connection} != $now->{connection};
	foreach my $i (0 .. $#counters)
	{
		my ($name, $of) = @{ $counters[$i] };
		my $got = $metrics->[$i] - $before->{metrics}[$i];
		my $expected = $now->{model}{$of} - $before->{model}{$of};

		$checked{counters}++;
		violation('counters', "$server->{name}: $name rose by $got, the model's by $expected") if $got != $expected;
	}

	my ($sent, $dropped, $known) = (0, 0, keys %subscriptions == keys %{ $before->{subscriptions} });

	foreach my $key (sort keys %subscriptions)
	{
		my ($s, $b) = ($subscriptions{$key}, $before->{subscriptions}{$key});

		if (!$b) { $known = 0; next; }
		my $got = $s->[4] + $s->[5] - $b->[4] - $b->[5];
		my $expected = $now->{applied}{ $s->[0] } - $before->{applied}{ $s->[0] };

		$checked{subscriptions}++;
		violation('subscriptions', "$server->{name}: vshard $s->[0], name $s->[1]: sent and dropped rose by $got, for it were $expected")
		  if $got != $expected;
		$sent += $s->[4] - $b->[4];
		$dropped += $s->[5] - $b->[5];
	}
	return unless $known && !$cluster->{had_takeovers};
	$checked{sums}++;
	my @rose = map { $metrics->[$_] - $before->{metrics}[$_] } scalar @counters, @counters + 1;

	violation('counters', "$server->{name}: fanned out $rose[0], dropped $rose[1]; by its subscriptions $sent and $dropped")
	  if $rose[0] != $sent || $rose[1] != $dropped;
	return;
}

# seq_replay on either server is the stream as well.
sub check_replay
{
	my ($cluster, $rng) = @_;
	my $server = $rng->any(@{ $cluster->{nodes} });
	my $to = $cluster->{model}->last_epoch;
	my $from = ($cluster->{checked_epoch} // -1) + 1;

	# now and then further back
	$from = $rng->below($from + 1) if $rng->chance(0.1);
	$from = $cluster->{truncated} if $from < $cluster->{truncated};
	return if $from > $to;
	foreach my $vshard (@vshards)
	{
		my $epochs = $cluster->{model}{streams}{$vshard}{epochs};
		my %got = map { ($_->[0] => "$_->[1] $_->[2]") } $cluster->rows($server, "SELECT * FROM digest_replay($vshard, $from, $to)");

		foreach my $epoch ($from .. $to)
		{
			my ($is, $should) = ($got{$epoch} // 'nothing', $epochs->{$epoch} // 'nothing');

			violation('replay', "on $server->{name}, vshard $vshard, epoch $epoch: $is; the model has $should") if $is ne $should;
			$checked{replayed} += $1 if $is =~ /^(\d+) /;
		}
	}
	return;
}

# Idle workers hold nothing.
sub check_idle
{
	my ($cluster, $server) = @_;
	my $got;

	Chaos::Loop::run_until(
		sub {
			my ($row) = $cluster->rows($server, <<'EOS');
SELECT count(*), count(backend_xmin), count(backend_xid), count(xact_start),
		(SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.backend_type LIKE 'calvin_seq%')
		+ (SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'calvin_seq handler%' AND (backend_xmin IS NOT NULL OR xact_start IS NOT NULL))
	FROM pg_stat_activity WHERE backend_type IN ('calvin_seq applier', 'calvin_seq sequencer') AND datname = 'postgres'
EOS
			my $workers = $server == $cluster->{primary} ? 2 : 1;

			$got = join '|', @$row;
			return $got eq "$workers|0|0|0|0";
		},
		sub { "the workers of $server->{name} to hold nothing (workers, xmin, xid, transactions, locks): $got" },
		10, 'nothing held when idle');
	return;
}

sub check_crashes
{
	my ($cluster) = @_;

	foreach my $server (@{ $cluster->{nodes} })
	{
		my @lines = $server->crashes;

		violation('nothing crashed', "on $server->{name}:\n" . join '', @lines) if @lines;
	}
	return;
}

# Every row once more: what has been checked stays.
sub check_whole_log
{
	my ($cluster) = @_;
	my $model = $cluster->{model};

	foreach my $server (@{ $cluster->{nodes} })
	{
		my %left = map { ($_ => 1) } grep { $_ > 0 && $_ >= $cluster->{first_index} } keys %{ $model->{at} };

		foreach my $row ($cluster->rows($server, 'SELECT log_index, md5(entry) FROM seq_log ORDER BY 1'))
		{
			my ($index, $md5) = @$row;

			violation('log', "on $server->{name}, log_index $index has changed")
			  if !delete $left{$index} || $model->{at}{$index}{md5} ne $md5;
		}
		violation('log', "on $server->{name}: missing " . join(' ', sort { $a <=> $b } keys %left)) if %left;
	}
	return;
}

# After everybody has left: no subscription, segment, lock or snapshot.
sub check_leftovers
{
	my ($cluster) = @_;

	foreach my $server (@{ $cluster->{nodes} })
	{
		my $got = '';

		Chaos::Loop::run_until(
			sub {
				my ($row) = $cluster->rows($server, <<'EOS');
SELECT (SELECT count(*) FROM seq_subscriptions), (SELECT count(*) FROM pg_locks WHERE pid <> pg_backend_pid() AND locktype NOT IN ('virtualxid')),
		(SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND backend_type <> 'walsender'),
		(SELECT count(*) FROM pg_replication_slots), (SELECT count(*) FROM pg_prepared_xacts)
EOS
				# one segment is the server's own, about all others
				$got = join '|', @$row, $server->segments;
				return $got =~ /^0\|0\|0\|0\|0\|[01]$/;
			},
			sub { "$server->{name} to be clean (subscriptions, locks, xmins, slots, prepared, segments): $got; " . join ' ', map { "$_ " . -s } glob "$server->{data}/pg_dynshmem/*" },
			20, 'nothing left behind');
	}
	return;
}

1;
