# Failovers under load: a primary with one synchronous standby is killed while
# several sessions append and consume; the standby is promoted, the consumers
# go on there at their durable cursors, and the old primary comes back as the
# standby of the new one.  Then the other way round.
#
# Whatever a client was told stays: appended transactions, received ones, and
# effects, each of which is there once.
#
# CALVIN_TEST_SECONDS makes the load before each failover longer.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $db = 'postgres';
my $seconds = $ENV{CALVIN_TEST_SECONDS} || 3;
my @collections = ('a' .. 'd');
my %vshard = map { ($_ => vshard_of($_)) } @collections;
my $all = join ',', map { $vshard{$_} } @collections;
my %workers = (
	w1 => "$vshard{a},$vshard{b}",
	w2 => "$vshard{c}",
	w3 => "$vshard{d}");

# Both start from one copy and change roles.  With mmap, segments of dynamic
# shared memory are files of the server's own.
my %conf = (
	wal_log_hints => 'on',
	wal_keep_size => '256MB',
	dynamic_shared_memory_type => 'mmap',
	max_prepared_transactions => 5,
	'calvin_seq.snapshot_interval' => 50);
my $north = new_node('north', -streaming => 1, %conf);
create_extension($north, $db);

# Appenders propose the next epoch, or lose it to another one and try again.
# Nothing but the cursors keeps an effect from being written twice.
sql($north, $db, <<'EOS');
CREATE TABLE effects (n bigint GENERATED ALWAYS AS IDENTITY, vshard int, epoch bigint, "position" int, tenant_id bigint, content text);
CREATE FUNCTION propose(txns jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	e bigint;
BEGIN
	LOOP
		e := coalesce(seq_current_committed_epoch() + 1, 0);
		BEGIN
			RETURN seq_append_json(jsonb_build_object('EpochBatch', jsonb_build_object('epoch', e, 'epoch_system_ms', 1000 + e, 'txns', txns)));
		EXCEPTION WHEN object_not_in_prerequisite_state THEN
			-- somebody was faster
		END;
	END LOOP;
END $$;
EOS
sql($north, $db, "SELECT seq_subscribe('{$workers{$_}}', '$_', from_epoch => 0); SELECT seq_commit('$_')") foreach sort keys %workers;

my $south = standby_from_backup($north, 'south', 'first');
synchronous($north, 'south');

#
# Roles
#
sub standby_from_backup
{
	my ($source, $name, $backup) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$source->backup($backup);
	$node->init_from_backup($source, $backup, has_streaming => 1);
	$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$node->start;
	return $node;
}

# From now on commits, and the applier, wait for this one.
sub synchronous
{
	my ($node, $name) = @_;

	sql($node, $db, "ALTER SYSTEM SET synchronous_standby_names = '" . ($name ? "ANY 1 ($name)" : '') . "'");
	sql($node, $db, 'SELECT pg_reload_conf()');
	return unless $name;
	wait_for_sql($node, $db, "SELECT sync_state FROM pg_stat_replication WHERE application_name = '$name'", 'quorum');
	return;
}

sub children
{
	my ($node) = @_;
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my @children;

	foreach my $stat (glob '/proc/[0-9]*/stat')
	{
		open(my $file, '<', $stat) or next;
		my $line = <$file> // '';

		push @children, $line =~ /^(\d+)/ if $line =~ /\) \S $postmaster /;
		close $file;
	}
	return @children;
}

my %kill = (
	'kill -9 of the postmaster' => sub {
		my ($node) = @_;
		my @children = children($node);

		$node->kill9;
		return sub { wait_until(sub { !grep { process_alive($_) } @children }, 'the last of its processes', 60); };
	},
	'an immediate stop' => sub { $_[0]->stop('immediate'); return sub { }; });

my %rejoin = (
	pg_rewind => sub {
		my ($old, $new) = @_;
		my $conf = slurp_file($old->data_dir . '/postgresql.conf');

		# before version 16 pg_rewind learns of the new timeline from a checkpoint
		sql($new, $db, 'CHECKPOINT');
		$old->command_ok([ 'pg_rewind', '--target-pgdata', $old->data_dir, '--source-server', $new->connstr('postgres') ],
			'pg_rewind');
		unlink $old->data_dir . '/postgresql.auto.conf';
		# it has taken the other one's settings over as well
		unlink $old->data_dir . '/postgresql.conf';
		append_to_file($old->data_dir . '/postgresql.conf', "$conf\nsynchronous_standby_names = ''\n");
		$old->enable_streaming($new);
		$old->set_standby_mode;
		$old->start;
		return $old;
	},
	'a base backup' => sub {
		my ($old, $new) = @_;

		return standby_from_backup($new, $old->name . '_again', 'again');
	});

#
# Load
#
my $serial = 0;

# So many batches, each acknowledged by the numbers of its transactions.
sub proposals
{
	my ($n) = @_;
	my $sql = '';

	foreach (1 .. $n)
	{
		my (@txns, @numbers);

		foreach (1 .. 1 + int rand 4)
		{
			my %some = map { ($collections[ int rand @collections ] => 1) } 1 .. 1 + int rand 2;
			my $sets = join ',', map { "{\"Document\": {\"collection\": \"$_\", \"surrogates\": [1]}}" } sort keys %some;

			push @numbers, ++$serial;
			push @txns, "{\"tx_class\": {\"write_set\": [$sets], \"plans\": \"\\\\x" . ('cd' x int rand 600) . "\", \"tenant_id\": $serial}}";
		}
		$sql .= "SELECT 'appended', '@numbers' FROM propose('[" . join(',', @txns) . "]');\n";
	}
	return $sql;
}

# Rounds of a consumer.  What a call has received is known to the client
# before its commit, its commit only afterwards.
sub rounds
{
	my ($name, $n) = @_;

	return <<"EOS" x $n;
BEGIN;
WITH r AS MATERIALIZED (SELECT * FROM seq_receive(40, '50 ms', '$name')),
	i AS (INSERT INTO effects (vshard, epoch, "position", tenant_id, content) SELECT vshard, epoch, "position", tenant_id, md5(r::text) FROM r)
SELECT 'received', string_agg(vshard || '.' || epoch || '.' || "position", ' ') FROM r;
SELECT seq_commit('$name') \\g /dev/null
COMMIT;
SELECT 'committed';
EOS
}

my (%appended, %received, %committed, @unexpected);

# What a session's clients know; true if its server has left it.
sub note_output
{
	my ($session) = @_;
	my ($output, $error) = $session->finish;
	my @open;

	foreach (split /\n/, $output)
	{
		if (/^appended\|(.*)/) { $appended{$_} = 1 foreach split / /, $1; }
		elsif (/^received\|(.*)/) { @open = split / /, $1; $received{$_} = 1 foreach @open; }
		elsif (/^committed/) { $committed{$_} = 1 foreach @open; @open = (); }
	}
	# an end without a word is the client's word for it
	push @unexpected, $error
	  if $error ne '' && $error !~ /57P0[12]|server closed the connection|connection to server was lost|terminating connection|could not receive data/;
	return $session->dead;
}

# Keep sessions busy for a while, or until one of them is told so.
sub drive
{
	my ($sessions, $until) = @_;

	while (time() < $until)
	{
		foreach my $key (sort keys %$sessions)
		{
			my $session = $sessions->{$key};

			next if $session->running && !eval { !$session->{run}->pumpable };
			note_output($session) if $session->{pending};
			next if $session->dead;
			$session->send($key =~ /^w/ ? rounds($key, 10) : proposals(10));
		}
		usleep(5_000);
	}
	return;
}

sub load_sessions
{
	my ($node) = @_;
	my %sessions = map { ($_ => session($node, $db)) } 'p1', 'p2', 'p3', sort keys %workers;

	$sessions{$_}->query("SELECT seq_subscribe('{$workers{$_}}', '$_', queue_size => 8192)") foreach keys %workers;
	return \%sessions;
}

#
# What is left
#

# Segments of queues; those of the server's statistics are whole megabytes,
# and one is the list of all.
sub queue_segments
{
	my ($node) = @_;

	return scalar(grep { (-s $_ // 0) % 1048576 != 0 } glob $node->data_dir . '/pg_dynshmem/mmap.*') - 1;
}

sub nothing_left
{
	my ($node, $desc) = @_;

	# the applier of a standby has them whenever it looks for more
	ok(eval { wait_for_sql($node, $db, <<'EOS', '0|0|0|0|0') }, "$desc: no subscription, lock, snapshot, transaction or slot is left") or diag $@;
SELECT (SELECT count(*) FROM seq_subscriptions),
	(SELECT count(*) FROM pg_locks WHERE pid <> pg_backend_pid() AND locktype <> 'virtualxid'),
	(SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL) AND backend_type <> 'walsender'),
	(SELECT count(*) FROM pg_prepared_xacts),
	(SELECT count(*) FROM pg_replication_slots)
EOS
	eval { wait_until(sub { queue_segments($node) == 0 }, 'segments to go'); };
	is(queue_segments($node), 0, "$desc: nor a segment of dynamic shared memory");
	return;
}

sub in_step
{
	my ($primary, $standby, $desc) = @_;

	wait_applied($primary, $db);
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	my $state = state($primary, $db);
	wait_for_sql($standby, $db, 'SELECT last_applied_index FROM seq_state', (split /\|/, $state)[1]);
	is(state($standby, $db), $state, "$desc: same epoch and digest at the same log_index");
	return;
}

# One failover, from beginning to end; returns the nodes in their new roles.
sub fail_over
{
	my ($old, $new, $kill, $rejoin) = @_;
	my $desc = "$kill, back by $rejoin";
	my %took;

	# a consumer of the standby, whose session lives through it
	my $held = session($new, $db);
	$held->query("SELECT seq_subscribe('{$all}', 'held', queue_size => 8192)");
	my $held_from = $held->query("SELECT coalesce(max(last_applied_epoch), -1) + 1 FROM seq_state");
	my @held = split /\n/, $held->query("SELECT vshard || '.' || epoch || '.' || \"position\" FROM seq_receive(10000, '0', 'held')");

	%appended = %received = %committed = @unexpected = ();
	my $sessions = load_sessions($old);
	drive($sessions, time() + $seconds);
	# some may be between two statements
	my $in_flight;
	wait_until(
		sub {
			drive($sessions, time() + 0.01);
			$in_flight = grep { $_->running } values %$sessions;
			return $in_flight >= 4;
		},
		'sessions at work');
	my $start = time();
	my $gone = $kill{$kill}->($old);

	foreach my $session (values %$sessions)
	{
		note_output($session) if $session->{pending};
		$session->quit;
	}
	is("@unexpected", '', "$desc: no other errors than the server's end");
	cmp_ok($in_flight, '>=', 4, "$desc: sessions were at work");
	cmp_ok(scalar keys %appended, '>', 20, "$desc: appended before");
	cmp_ok(scalar keys %committed, '>', 20, "$desc: processed before");
	my $acknowledged = keys %appended;
	my $end = sql($new, $db, 'SELECT coalesce(max(log_index), 0) FROM seq_log');

	# the standby takes over
	$took{'promotion'} = elapsed { $new->promote };
	my $first = session($new, $db);
	$first->send(proposals(1));
	note_output($first);
	$took{'to the first append'} = time() - $start;
	# one that has caught up would wait for ever if none of it were for its vshards
	$first->send(proposals(20));
	note_output($first);
	$sessions = load_sessions($new);
	$sessions->{w1}->send("SELECT count(*) FROM (SELECT seq_receive(1, '60s', 'w1')) r");
	is(($sessions->{w1}->finish)[0], 1, "$desc: a consumer goes on");
	# what it took outside of a transaction has no effects: take it back
	$sessions->{w1}->query("SELECT seq_rewind('w1')");
	$took{'to the first row'} = time() - $start;
	drive($sessions, time() + $seconds);

	# the old primary comes back, and meanwhile the load goes on
	my $rejoined;
	$took{'of the old primary'} = elapsed
	{
		$gone->();
		$rejoined = $rejoin{$rejoin}->($old, $new);
		wait_for_applier($rejoined, $db);
	};
	synchronous($new, $rejoined->name);
	drive($sessions, time() + 1);
	foreach my $session (values %$sessions)
	{
		note_output($session) if $session->{pending};
	}
	is("@unexpected", '', "$desc: no errors afterwards");

	# the rest
	foreach my $name (sort keys %workers)
	{
		my $left = 1;

		wait_applied($new, $db);
		while ($left > 0)
		{
			my $before = keys %committed;

			$sessions->{$name}->send(rounds($name, 5));
			note_output($sessions->{$name});
			$left = keys(%committed) - $before;
		}
		is($sessions->{$name}->query("SELECT count(*) FROM seq_receive(10, '0', '$name')"), 0, "$desc: nothing is left for $name");
	}
	push @held, split /\n/, $held->query("SELECT vshard || '.' || epoch || '.' || \"position\" FROM seq_receive(1000000, '0', 'held')");
	$_->quit foreach values %$sessions, $first;

	# of what clients were told nothing is lost
	my $log = { map { ($_ => 1) } split /\n/, sql($new, $db, "SELECT DISTINCT tenant_id FROM unnest('{$all}'::int[]) v, seq_replay(v, 0, 1000000)") };
	my @effects = split /\n/, sql($new, $db, 'SELECT vshard || \'.\' || epoch || \'.\' || "position" FROM effects ORDER BY n');
	my %effects = map { ($_ => 1) } @effects;
	my @stream = split /\n/, sql($new, $db, "SELECT r.vshard || '.' || r.epoch || '.' || r.\"position\" FROM unnest('{$all}'::int[]) v, seq_replay(v, 0, 1000000) r");
	my %stream = map { ($_ => 1) } @stream;

	is(scalar(grep { !$log->{$_} } keys %appended), 0, "$desc: no acknowledged transaction is lost");
	is(scalar(grep { !$stream{$_} } keys %received), 0, "$desc: nor one that was received");
	is(scalar(grep { !$effects{$_} } keys %committed), 0, "$desc: nor an acknowledged effect");
	is(scalar(@effects), scalar(keys %effects), "$desc: nothing has two effects");
	is(sql($new, $db, <<"EOS"), '', "$desc: every vshard has had all of its stream, in order, byte for byte");
SELECT vshard, count(*) FILTER (WHERE e IS DISTINCT FROM r), count(e), count(r) FROM (
	SELECT v AS vshard, unnest(ARRAY(SELECT format('%s.%s %s %s', epoch, "position", tenant_id, content) FROM effects WHERE vshard = v ORDER BY n)) AS e,
			unnest(ARRAY(SELECT format('%s.%s %s %s', epoch, "position", tenant_id, md5(t::text)) FROM seq_replay(v, 0, 1000000) t)) AS r
		FROM unnest('{$all}'::int[]) v) t
	WHERE e IS DISTINCT FROM r GROUP BY 1
EOS
	is(sql($new, $db, 'SELECT count(*) = max(log_index), min(log_index), count(*) FILTER (WHERE kind = \'epoch_batch\') - 1 = max(epoch), count(*) FILTER (WHERE kind <> \'epoch_batch\') FROM seq_log'),
		't|1|t|0', "$desc: log_index and epochs go on without a hole");
	cmp_ok(sql($new, $db, 'SELECT max(log_index) FROM seq_log'), '>', $end, "$desc: and they do");

	# and the session that was there before
	my $expected = sql($new, $db, "SELECT r.vshard || '.' || r.epoch || '.' || r.\"position\" FROM unnest('{$all}'::int[]) v, seq_replay(v, $held_from, 1000000) r ORDER BY r.vshard, r.epoch, r.\"position\"");
	my $by_vshard = sub { return join "\n", map { $_->[0] } sort { $a->[1] <=> $b->[1] } map { [ $_, /^(\d+)/ ] } @_; };
	is($by_vshard->(@held), $by_vshard->(split /\n/, $expected), "$desc: a consumer of the standby has the whole stream, from before its promotion on");
	is(sql($new, $db, "SELECT state, backend_xmin IS NULL, backend_xid IS NULL, (SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid) FROM pg_stat_activity a WHERE pid = " . $held->pid),
		'idle|t|t|0', "$desc: and holds nothing between its calls");
	cmp_ok(queue_segments($new), '>', 0, "$desc: but its segment");
	$held->quit;

	in_step($new, $rejoined, $desc);
	wait_for_sql($new, $db, 'SELECT count(*) FROM seq_subscriptions', 0);
	nothing_left($new, "$desc: the new primary");
	nothing_left($rejoined, "$desc: the old one");
	note sprintf('%s: %d transactions acknowledged before, %d processed; took %s',
		$desc, $acknowledged, scalar @effects,
		join(', ', map { sprintf '%s %.2f s', $_, $took{$_} } sort keys %took));
	return ($new, $rejoined);
}

my @nodes = ($north, $south);
my ($primary, $standby) = fail_over($north, $south, 'kill -9 of the postmaster', 'pg_rewind');
($primary, $standby) = fail_over($primary, $standby, 'an immediate stop', 'a base backup');
push @nodes, $standby;

# A switchover that was planned needs neither.
in_step($primary, $standby, 'before a switchover');
my $state = state($primary, $db);
$primary->stop('fast');
$standby->promote;
is(state($standby, $db), $state, 'a planned switchover: the state goes on');
$primary->append_conf('postgresql.conf', "synchronous_standby_names = ''");
unlink $primary->data_dir . '/postgresql.auto.conf';
$primary->enable_streaming($standby);
$primary->set_standby_mode;
$primary->start;
wait_for_applier($primary, $db);
sql($standby, $db, proposals(3));
in_step($standby, $primary, 'the old primary follows without a rewind');

$primary->stop;
$standby->stop;
nothing_crashed($_, 1) foreach @nodes;
done_testing();
