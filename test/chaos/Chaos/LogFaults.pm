# What happens to the log: bursts, truncation, locks and rewrites of its tables.
package Chaos::LogFaults;

use strict;
use warnings;

use Chaos::Faults qw(fault some_server end_applier crash_applier);
use Chaos::Loop qw(run_for run_until violation);
use Exporter 'import';
use Time::HiRes qw(time);

our @EXPORT_OK = qw(truncate_log);

#
# Bursts, in the middle of which the applier is ended; and the one after it has
# the queues of the last one's, until their consumers notice.  Those that poll
# slowly do so while it applies the burst, and make new queues then.
#
fault 'applier ended in a burst', 4, sub {
	my ($cluster, $rng) = @_;
	my $server = $rng->chance(0.8) ? $cluster->{primary} : $cluster->{standby};
	my @slow = grep { $_->isa('Chaos::Slow') } @{ $cluster->{readers} };
	my $burst = Chaos::Appender::Burst->new(name => 'burst', cluster => $cluster, count => $cluster->{burst});

	run_until(sub { $burst->{copied} || $burst->{finished} }, 'a burst to be copied');
	# so that what is before it has been received
	run_for($rng->real(2));
	$_->{poll_at} = time() + 10 foreach @slow;
	end_applier($server);
	run_until(sub { $server->process(qr/calvin_seq applier/) }, 'the next applier');
	run_for(0.05);
	$burst->{go} = 1;
	run_until(sub { $burst->{finished} }, 'a burst to be appended');
	$_->{poll_at} = time() + $rng->real(0.06) foreach @slow;
	foreach (1 .. 1 + $rng->below(2))
	{
		run_for($rng->real(0.2));
		$rng->chance(0.1) ? crash_applier($server) : end_applier($server);
	}
	run_for($rng->real(1));
	$burst->leave;
	Chaos::Loop::remove_actor($burst);
};

# What does not fit is only told of, and in front of it there is something on the
# queue.
fault 'tails that do not fit', 3, sub {
	my ($cluster, $rng) = @_;
	my $budget = $cluster->{budget};
	my $tails = Chaos::Appender::Tails->new(name => 'tails', cluster => $cluster, pairs => 0);

	$cluster->{budget} = 0;
	run_until(sub { $tails->{pairs} >= 150 }, 'batches');
	$cluster->{budget} = $budget;
	$tails->{enough} = 1;
	run_until(sub { $tails->is_idle || !$tails->is_connected }, 'the last of them');
	$tails->leave;
	Chaos::Loop::remove_actor($tails);
};

#
# Locks and rewrites
#

# The extension's tables, largest first.
sub tables
{
	my ($cluster) = @_;
	my @rows = $cluster->rows($cluster->{primary},
		"SELECT t::regclass FROM pg_extension, unnest(extconfig) t JOIN pg_class c ON c.oid = t AND relkind = 'r'"
		  . " WHERE extname = 'calvin_seq' ORDER BY pg_table_size(t) DESC, t");

	return map { $_->[0] } @rows;
}

# The log half of the time.
sub some_table
{
	my ($cluster, $rng) = @_;

	return $rng->chance(0.5) ? 'seq_log' : $rng->any(tables($cluster));
}

fault 'log locked', 2, sub {
	my ($cluster, $rng) = @_;
	my $ask = $cluster->{primary}{ask};
	my $table = some_table($cluster, $rng);

	$ask->ask("BEGIN; LOCK TABLE $table IN ACCESS EXCLUSIVE MODE");
	run_for(0.1 + $rng->real(0.4));
	$ask->ask('ROLLBACK');
};

# Whoever reads has to wait, and then read what has been written anew: an
# ALTER TABLE that rewrites leaves nothing that an older snapshot could see, and
# another index may have another OID.
my $column = 0;
fault 'log rewritten', 5, sub {
	my ($cluster, $rng) = @_;
	my $ask = $cluster->{primary}{ask};

	foreach (1 .. 2 + $rng->below(3))
	{
		my $table = some_table($cluster, $rng);
		# those that take columns of others
		my $wider = $table =~ /^seq_(?:log|cursor_positions|snapshots)$/ ? $table : 'seq_log';
		my $name = 'extra' . ++$column;
		my @commands = (
			[ "ALTER TABLE $wider ADD COLUMN $name float8 DEFAULT random()", "ALTER TABLE $wider DROP COLUMN $name" ],
			[ "ALTER TABLE $wider ADD COLUMN $name float8 DEFAULT random()", "ALTER TABLE $wider DROP COLUMN $name" ],
			["VACUUM FULL $table"],
			["REINDEX TABLE $table"],
			["REINDEX TABLE CONCURRENTLY $table"]);

		foreach my $sql (@{ $rng->any(@commands) })
		{
			run_until(sub { done($ask, $sql) }, $sql);
			run_for($rng->real(0.1));
		}
	}
};

# Has it been done, or has it to be tried again?
sub done
{
	my ($ask, $sql) = @_;
	my $result = $ask->ask($sql) or return 0;

	return 0 if $result->{lost};
	return 1 if !$result->{error};
	my ($state, $message) = @{ $result->{error} }{qw(state message)};

	violation('no unexpected error', "$sql: $state: $message") unless $state =~ /^(?:57|40P01|55P03|40001|42704)/;
	return 0;
}

#
# Its beginning
#

# Truncate up to an epoch, which somebody may well need, or surely not ("modest"), or all
# that there is ("most"); true if that was done.  What goes is read before: log_index is commit order, so
# nothing in front of a batch seen comes later.
sub truncate_log
{
	my ($cluster, $rng, $modest) = @_;
	my $ask = $cluster->{primary}{ask};
	my $result = $ask->ask("SELECT $cluster->{log_columns} FROM seq_log WHERE log_index > $cluster->{model}{last_index} ORDER BY 1");

	return 0 if !$result || $result->{error} || $result->{lost};
	my @epochs = ((map { $_->[4] } grep { $_->[3] eq 'epoch_batch' } @{ $result->{rows} }), $cluster->{checked_epoch});
	my $epoch = !$modest && $rng->chance(0.5) ? $rng->any(@epochs) : $cluster->{truncated} + $rng->below($cluster->{checked_epoch} + 2 - $cluster->{truncated});

	($epoch) = sort { $b <=> $a } @epochs if ($modest // '') eq 'most';
	$epoch = 0 if $epoch < 0;
	$cluster->{stash}{ $_->[0] } = $_ foreach @{ $result->{rows} };
	$result = $ask->ask("SELECT seq_truncate($epoch)") or return 0;
	if ($result->{error})
	{
		my ($state, $message) = @{ $result->{error} }{qw(state message)};

		# somebody needs it; the log is locked, or the session ended
		Chaos::Loop::violation('no unexpected error', "seq_truncate($epoch): $state: $message")
		  unless $state =~ /^(?:55006|57|40P01|55P03)/;
		$cluster->{count}{"truncation refused"}++;
		return 0;
	}
	$cluster->{truncations}++;
	return 0 if $result->{lost};
	$cluster->{count}{truncated} += $result->{rows}[0][0];
	return $result->{rows}[0][0] > 0;
}

fault 'log truncated', 4, sub {
	my ($cluster, $rng) = @_;

	foreach (1 .. 2 + $rng->below(5))
	{
		truncate_log($cluster, $rng);
		run_for($rng->real(0.1));
	}
};
fault 'log truncated and power lost', 2, sub {
	my ($cluster, $rng) = @_;
	my $server = some_server($cluster, $rng);

	truncate_log($cluster, $rng);
	$server->lose_power;
	$server->start;
	truncate_log($cluster, $rng);
};

1;
