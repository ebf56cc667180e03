# What happens to databases: dumps and restores, copies of another log's tables,
# databases that take another one's place.  Beside the workload's there is one
# more for a while, with a log of its own.
package Chaos::DatabaseFaults;

use strict;
use warnings;

use CalvinVectors;
use CalvinWire;
use Chaos::Entry qw(@vshards random_batch one_txn_function);
use Chaos::Faults qw(fault some_server hold_append_lock release_append_lock);
use Chaos::GroupModel;
use Chaos::LogFaults qw(truncate_log);
use Chaos::Loop qw(run_for run_until violation);
use Exporter 'import';

our @EXPORT_OK = qw(%of_databases);
our %of_databases = map { ($_ => 1) } 'snapshots of another log', 'database in place of another', 'truncated beside a newcomer', 'dumped and restored';

# Somebody in another database, of the primary unless role is standby.
sub guest
{
	my ($cluster, $name, $database, @more) = @_;

	return Chaos::Worker::Guest->new(name => $name, cluster => $cluster, consumer => 'd', database => $database, @more);
}

sub dismiss
{
	foreach (@_)
	{
		$_->leave;
		Chaos::Loop::remove_actor($_);
	}
	return;
}

# A statement of a guest's that has to succeed; its rows.
sub must
{
	my ($guest, $sql) = @_;
	my $result = $guest->ask($sql);

	violation('no unexpected error', "$guest->{name}: " . ($result && $result->{error} ? "$result->{error}{state}: $result->{error}{message}" : 'connection lost')
		  . "\nstatement: " . substr $sql, 0, 300)
	  if !$result || $result->{error} || $result->{lost};
	return @{ $result->{rows} };
}

sub drop_database
{
	my ($cluster, $database) = @_;

	run_until(
		sub {
			my $result = $cluster->{primary}{ask}->ask("DROP DATABASE IF EXISTS $database");
			return $result && !$result->{error} && !$result->{lost};
		},
		"database $database to be dropped");
	return;
}

#
# A small log with a model of its own
#

sub fresh_log { return { machine => machine_new(), index => 0, txns => {} }; }

# Append so many batches, the first one of an epoch if that is given.
sub append_batches
{
	my ($guest, $log, $rng, $n, $epoch) = @_;

	$epoch //= $log->{machine}{entries} ? $log->{machine}{epoch} + 1 : 0;
	foreach (1 .. $n)
	{
		my $entry = random_batch($rng, $epoch++, 1 + $rng->below(20));
		my ($row) = must($guest, 'SELECT seq_append(' . Chaos::Appender::hex_of($entry) . ', true)');
		my $outcome = machine_step($log->{machine}, { kind => 'epoch_batch', epoch => $entry->{epoch} });

		$log->{digest} = machine_digest($log->{machine}, $row->[0], $entry->{bytes}, $outcome);
		$log->{index} = $row->[0];
		$log->{txns}{$_}++ foreach map { @{ $_->[0] } } @{ $entry->{txns} };
	}
	return;
}

# Wait until what the database says of itself is the model's.
sub check_log
{
	my ($guest, $log, $what) = @_;
	my $expected = join '|', $log->{machine}{epoch}, $log->{index}, $log->{digest}, $log->{index};
	my $got = '';

	run_until(
		sub {
			my $result = $guest->ask(q{SELECT coalesce(last_applied_epoch, -1), coalesce(last_applied_index, 0), digest, log_end FROM seq_state}) or return 0;
			return 0 if $result->{error} || $result->{lost} || !@{ $result->{rows} };
			$got = join '|', map { $_ // '' } @{ $result->{rows}[0] };
			return $got eq $expected;
		},
		sub { "$what: epoch, applied index, digest, end of the log are $got; the model's $expected" },
		60, 'digest');
	return;
}

# All of it comes to a consumer.
sub check_received
{
	my ($guest, $log, $what) = @_;
	my $list = join ',', @vshards;
	my %got;

	must($guest, "SELECT seq_subscribe('{$list}', 'fresh', from_epoch => 0)");
	while (my @rows = must($guest, q{SELECT vshard, count(*) FROM seq_receive(100000, '0', 'fresh') GROUP BY 1}))
	{
		$got{ $_->[0] } += $_->[1] foreach @rows;
	}
	must($guest, q{SELECT seq_unsubscribe(name => 'fresh')});
	foreach my $vshard (@vshards)
	{
		my ($is, $should) = map { $_->{$vshard} || 0 } \%got, $log->{txns};

		violation($is < $should ? 'nothing missing' : 'nothing twice', "$what, vshard $vshard: $is transactions, there are $should") if $is != $should;
	}
	return;
}

# Snapshots of another log, which has been at higher epochs at the same places,
# put into one that has entries.
fault 'snapshots of another log', 2, sub {
	my ($cluster, $rng) = @_;
	my $ask = $cluster->{primary}{ask};
	my ($log, $others) = (fresh_log(), fresh_log());
	my $file = "$cluster->{dir}/snapshots";
	my $n = 2 + $rng->below(10);

	$ask->ask("CREATE DATABASE $_ TEMPLATE template0") foreach qw(other here);
	my ($other, $here) = map { guest($cluster, $_, $_) } qw(other here);
	must($_, 'CREATE EXTENSION calvin_seq') foreach $other, $here;
	append_batches($other, $others, $rng, $n, 1000 + $rng->below(1000));
	check_log($other, $others, 'the other log');
	must($other, 'SELECT seq_snapshot()');
	unlink $file;
	must($other, "COPY seq_snapshots TO '$file'");
	append_batches($here, $log, $rng, $n + $rng->below(10));
	check_log($here, $log, 'before snapshots of another log');
	# it may be refused
	$here->ask("COPY seq_snapshots FROM '$file'");
	$cluster->{primary}->stop($rng->any(qw(fast immediate)));
	$cluster->{primary}->start;
	append_batches($here, $log, $rng, 1 + $rng->below(10));
	check_log($here, $log, 'with snapshots of another log');
	check_received($here, $log, 'with snapshots of another log');
	dismiss($other, $here);
	unlink $file;
	drop_database($cluster, $_) foreach qw(other here);
};

# A database that is dropped, and another one in its place, down to the OIDs,
# whose log is shorter.
fault 'database in place of another', 2, sub {
	my ($cluster, $rng) = @_;
	my $ask = $cluster->{primary}{ask};
	my @servers = qw(primary standby);
	my $oid = 4_000_000_000 + $rng->below(1_000_000);
	my $create = "CREATE DATABASE twin TEMPLATE twins OID = $oid";

	$ask->ask('CREATE DATABASE twins TEMPLATE template0');
	my $there = guest($cluster, 'twins', 'twins');
	must($there, 'CREATE EXTENSION calvin_seq');
	dismiss($there);
	foreach my $batches (20 + $rng->below(20), 1 + $rng->below(10))
	{
		my $log = fresh_log();

		run_until(sub { Chaos::LogFaults::done($ask, $create) }, $create);
		my @there = map { guest($cluster, "twin on the $_", 'twin', role => $_) } @servers;
		append_batches($there[0], $log, $rng, $batches);
		foreach (@there)
		{
			check_log($_, $log, "$_->{name}, $batches batches");
			check_received($_, $log, "$_->{name}, $batches batches");
		}
		dismiss(@there);
		drop_database($cluster, 'twin');
	}
	drop_database($cluster, 'twins');
};

#
# Truncation, and somebody who comes while it looks who needs what goes.  In
# front there is a vshard that has nothing later, and one that never has
# anything keeps a consumer in the middle.
#
my $FRONT = 1000;
my $REST = 60_000;

fault 'truncated beside a newcomer', 4, sub {
	my ($cluster, $rng) = @_;
	my ($front, $rest, $none) = map { vshard_of($_) } 'front', 'rest', 'none';
	my $begin = 0;

	$cluster->{primary}{ask}->ask('CREATE DATABASE beside TEMPLATE template0');
	my ($quiet, $newcomer, $truncates) = map { guest($cluster, $_, 'beside') } 'quiet', 'newcomer', 'truncates';
	must($quiet, 'CREATE EXTENSION calvin_seq');
	must($quiet, one_txn_function('front', 'rest'));
	foreach my $kind ($rng->shuffle('subscribes', 'sets its cursor back', 'leaves a first cursor', 'subscribes', 'sets its cursor back'))
	{
		my $middle = $begin + $FRONT;
		my $end = $begin + $REST;
		my $subscribe = "SELECT seq_subscribe('{$front}', 'newcomer', from_epoch => $begin)";
		my $leave = q{SELECT seq_unsubscribe(name => 'newcomer')};
		my ($truncated, $came);

		must($quiet, "INSERT INTO seq_log (entry) SELECT one_txn(e, (e >= $middle)::int) FROM generate_series(${begin}::bigint, $end - 1) e");
		must($quiet, "SELECT seq_wait_for_epoch($end - 1, '30 s')");
		must($quiet, "SELECT seq_subscribe('{$none}', 'quiet', from_epoch => $middle)");
		if ($kind eq 'sets its cursor back')
		{
			must($newcomer, "SELECT seq_subscribe('{$front}', 'newcomer', from_epoch => $middle)");
			must($newcomer, q{SELECT seq_commit('newcomer')});
			must($newcomer, $leave);
		}
		must($newcomer, $subscribe) if $kind eq 'leaves a first cursor';

		push @{ $truncates->{plan} }, [ "SELECT seq_truncate($end - 1000)", sub { $truncated = $_[0]; } ];
		run_for($rng->real(0.2));
		if ($kind eq 'leaves a first cursor') { $came = $newcomer->ask(q{SELECT seq_commit('newcomer')}); }
		elsif ($kind eq 'subscribes') { $came = $newcomer->ask($subscribe); }
		else { $came = $newcomer->ask("$subscribe; SELECT seq_commit('newcomer')"); }
		$newcomer->ask($leave) if $kind ne 'subscribes';
		run_until(sub { $truncated }, 'the truncation to end');
		check_newcomer($newcomer, $front, $kind, $begin, $came, $truncated);

		$newcomer->ask(q{SELECT seq_unsubscribe(name => 'newcomer')});
		$newcomer->ask(q{SELECT seq_drop_cursor('newcomer')});
		must($quiet, q{SELECT seq_unsubscribe(name => 'quiet')});
		must($truncates, "SELECT seq_truncate($end - 1000)");
		$begin = $end;
	}
	dismiss($quiet, $newcomer, $truncates);
	drop_database($cluster, 'beside');
};

# Who was let in gets all, whatever became of the truncation; who was not let in
# has been told so by a truncation that was done.
sub check_newcomer
{
	my ($newcomer, $vshard, $kind, $begin, $came, $truncated) = @_;
	my $went = $truncated->{error} ? "refused ($truncated->{error}{message})" : "done ($truncated->{rows}[0][0] entries)";
	my $what = "a newcomer that $kind, epochs $begin to " . ($begin + $FRONT - 1) . "; the truncation was $went";
	my @got = (0, 0, 0);

	violation('no unexpected error', "$what: $truncated->{error}{state}") if $truncated->{error} && $truncated->{error}{state} ne '55006';
	if ($came->{error})
	{
		# the latter may be tried again
		violation('no unexpected error', "$what; $came->{error}{state}: $came->{error}{message}")
		  if $came->{error}{state} ne '40001' && ($truncated->{error} || $came->{error}{state} ne '55000');
		return;
	}
	my $let_down = sub { my ($error) = @_; violation('nothing missing', "$what: received $got[0], then $error->{state}: $error->{message}"); };
	my $again = $kind eq 'subscribes' ? {} : $newcomer->ask("SELECT seq_subscribe('{$vshard}', 'newcomer')");

	$let_down->($again->{error}) if $again->{error};
	for (;;)
	{
		my $result = $newcomer->ask(q{SELECT count(*), min(epoch), max(epoch) FROM seq_receive(100000, '0', 'newcomer')});

		$let_down->($result->{error}) if $result->{error};
		my ($n, $min, $max) = @{ $result->{rows}[0] };

		last if $n == 0;
		@got = ($got[0] + $n, $got[0] ? $got[1] : $min, $max);
	}
	violation('nothing missing', "$what: received $got[0], from $got[1] to $got[2]")
	  if $got[0] != $FRONT || $got[1] != $begin || $got[2] != $begin + $FRONT - 1;
	return;
}

# Handlers go on where they were, by themselves: what they have come to.
sub groups_there
{
	my ($there) = @_;
	my $pending;
	my %there = map { ($_->[0] => 1) } must($there, 'SELECT name FROM seq_handlers');

	# one that was ended when it was dumped
	must($there, Chaos::Groups::handling($_, 1, 100)) foreach grep { !$there{$_} } qw(ha hs);
	run_until(
		sub {
			my $result = $there->ask(q{SELECT seq_pending('ha'), seq_pending('hs'), (SELECT string_agg(concat_ws(' ', name, state, last_error), ', ') FROM seq_handlers)}) or return 0;

			return 0 if $result->{error} || $result->{lost};
			$pending = join ', ', @{ $result->{rows}[0] };
			return $pending =~ /^0, 0,/;
		},
		sub { "the restored handlers to be through; there wait for ha, hs: $pending" });
	return { effects => [ must($there, $Chaos::GroupModel::EFFECTS) ], parked => [ must($there, $Chaos::GroupModel::PARKED) ] };
}

#
# Dump and restore, the snapshots coming late: what was truncated is in the
# base alone, so the applier has to wait for it.
#
fault 'dumped and restored', 2, sub {
	my ($cluster, $rng) = @_;
	my $primary = $cluster->{primary};
	my $from = some_server($cluster, $rng);
	my $dump = "$cluster->{dir}/dump";
	my @to = ('-h', $primary->{dir}, '-p', 5432, '-U', 'postgres', '-d', 'restored');

	my ($since, $holder);
	my $tries = 0;

	# of what all have received, something goes
	run_until(sub { truncate_log($cluster, $rng, 1) }, 'a truncation') if $cluster->{first_index} == 1 || $rng->chance(0.5);
	# something waits, most of the time
	$holder = hold_append_lock($cluster) if $rng->chance(0.7);
	run_for($rng->real(0.5)) if $holder;
	run_until(
		sub {
			unlink $dump;
			# replay may conflict with it again and again
			$from = $primary if $tries++ > 2;
			# what a standby has flushed it may not have replayed
			$since = $from == $primary ? $cluster->{order}->tick : undef;
			$from->tool('pg_dump', '-h', $from->{dir}, '-p', 5432, '-U', 'postgres', '-Fc', '-Z0', '-f', $dump, 'postgres') == 0;
		},
		'a dump');
	release_append_lock($holder) if $holder;
	$primary->{ask}->ask('CREATE DATABASE restored TEMPLATE template0');

	my @list = split /^/, `'$primary->{bin}/pg_restore' -l '$dump'`;
	foreach my $late (0, 1)
	{
		open my $fh, '>', "$dump.list" or die $!;
		print $fh grep { /TABLE DATA \S+ seq_snapshots / ? $late : !$late } @list;
		close $fh;
		$primary->tool_must('pg_restore', '-L', "$dump.list", @to, $dump);
		run_for(0.2 + $rng->real(0.3)) if !$late;
	}

	my $there = Chaos::Worker::Guest->new(name => 'restored', cluster => $cluster, consumer => 'd', database => 'restored');
	my $state;
	run_until(
		sub {
			my $result = $there->ask('SELECT last_applied_epoch, last_applied_index, digest, log_end, applier_state FROM seq_state') or return 0;
			return 0 if $result->{error} || $result->{lost};
			$state = $result->{rows}[0];
			return 0 if ($state->[1] // 0) < $state->[3] || $state->[4] ne 'idle';
			$result = $there->ask('SELECT waiting_rows, (SELECT count(*) FROM seq_inbox) FROM seq_sequencer') or return 0;
			return 0 if $result->{error} || $result->{lost} || "@{ $result->{rows}[0] }" ne '0 0';
			# nothing has come in between
			$result = $there->ask('SELECT log_end FROM seq_state') or return 0;
			return !$result->{error} && !$result->{lost} && $result->{rows}[0][0] == $state->[3];
		},
		sub { 'the restored log to be applied: ' . join '|', map { $_ // '' } @{ $state || [] } });
	my $groups = @{ $cluster->{group_actors} } ? groups_there($there) : undef;
	$there->ask("SELECT seq_subscribe('{" . join(',', @vshards) . "}', 'd', queue_size => 8192)");
	my $more = 1;
	my @seen;
	while ($more)
	{
		$there->ask('BEGIN');
		my $result = $there->ask(q{SELECT * FROM take('d', 5000, '0')});
		die "receiving after the restore: $result->{error}{message}\n" if $result->{error};
		$more = my @chunks = $there->seen($result);
		# another log than that of all others
		push @seen, splice @{ $cluster->{delivered} }, -@chunks if $more;
		$there->ask(q{SELECT seq_commit('d')});
		$there->ask('COMMIT');
	}
	$cluster->{restored} = {
		epoch => $state->[0],
		index => $state->[1],
		digest => $state->[2],
		since => $since,
		seen => \@seen,
		groups => $groups,
		rows => $there->ask("SELECT $cluster->{log_columns} FROM seq_log ORDER BY 1")->{rows},
		effects => $there->ask('SELECT vshard, keys, md5, pid, n FROM effects WHERE consumer = \'d\' ORDER BY n')->{rows},
	};
	$there->leave;
	Chaos::Loop::remove_actor($there);
	unlink $dump, "$dump.list";
	run_until(
		sub {
			my $result = $primary->{ask}->ask('DROP DATABASE restored');
			return $result && !$result->{error};
		},
		'the restored database to be dropped');
};

1;
