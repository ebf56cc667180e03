# Cancelling and terminating: at every wait and in all that takes long.  The
# session goes on, or ends, and leaves nothing behind.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(
	'cancelled',
	dynamic_shared_memory_type => 'mmap',
	'calvin_seq.queue_size' => '64kB');
my $txn = [ ['a'], 'ab', 1 ];
my $va = vshard_of('a');
my $applier = create_extension($node);
my $watch = session($node, 'postgres');
my $epoch = 0;

sub append
{
	append_batches($node, 'postgres', $epoch, $epoch, [$txn], $watch);
	$watch->query("SELECT seq_wait_for_epoch($epoch, '30s')");
	return $epoch++;
}

# Until a session waits as expected.
sub wait_for_wait
{
	my ($s, $condition) = @_;

	return wait_until(
		sub {
			return $watch->query("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND $condition AND pid = " . $s->pid) == 1;
		},
		"$condition of " . $s->pid);
}

# Locks that outlive a transaction, or an appender.
sub locks_of
{
	my ($pid) = @_;

	return $watch->query("SELECT count(*) FROM pg_locks WHERE pid = $pid");
}

append();
my $segments = segments($node);

sub subscriber
{
	my $s = session($node, 'postgres');

	$s->query("SELECT seq_subscribe('{$va,1,2}')");
	return $s;
}

sub is_clean
{
	my ($desc) = @_;

	ok( eval {
			wait_until(
				sub {
					return $watch->query('SELECT count(*) FROM seq_subscriptions') == 0
					  && segments($node) == $segments;
				},
				'all to go', 20);
		},
		"$desc: nothing is left behind") or diag segments($node) . " segments, $segments before";
	return;
}

# A session must be able to do everything still.
sub goes_on
{
	my ($s, $desc, $name) = @_;
	my $last;

	$name = 'default' unless defined $name;

	is(locks_of($s->pid), 0, "$desc: no lock is left");
	$last = append();
	is($s->query("SELECT seq_wait_for_epoch($last, '30s')"), 't', "$desc: the session goes on");
	like($s->query("SELECT string_agg(DISTINCT epoch::text, ',') FROM seq_receive(1000, '10s', '$name')"), qr/\b$last\z/, "$desc: with its subscription");
	is($s->query("SELECT seq_append('')") > 0, 1, "$desc: and appends");
	return;
}

#
# Every call that waits, ended in every way
#
my $late = 1_000_000;
my %waits = (
	seq_receive => "SELECT * FROM seq_receive(1, '1 day')",
	seq_receive_batch => "SELECT seq_receive_batch(1, '1 day')",
	seq_wait_for_epoch => "SELECT seq_wait_for_epoch($late, '1 day')",
	seq_wait_for_completion => "SELECT seq_wait_for_completion($late, 0, '1 day')",
	'seq_wait_for_completion of a batch that is there' => "SELECT seq_wait_for_completion(0, 0, '1 day')");

foreach my $name (sort keys %waits)
{
	my $s = subscriber();

	$s->send($waits{$name});
	wait_for_wait($s, "wait_event_type = 'Extension'");
	is($watch->query('SELECT pg_cancel_backend(' . $s->pid . ')'), 't', "$name: cancelled");
	like(($s->finish)[1], qr/^57014: canceling statement due to user request/, "$name: an error");
	goes_on($s, "$name, cancelled");
	$s->query("SET statement_timeout = '50ms'");
	like($s->error($waits{$name}), qr/^57014: canceling statement due to statement timeout/, "$name: statement_timeout");
	$s->reset_timeout;
	# a transaction that caught it can go on as well
	like($s->error("BEGIN; SAVEPOINT a; SET LOCAL statement_timeout = '50ms'; $waits{$name}"), qr/^57014: /, "$name: in a savepoint");
	is($s->query("ROLLBACK TO a; SELECT seq_append('') > 0; COMMIT"), 't', "$name: the transaction goes on");
	goes_on($s, "$name, timed out");
	$s->send($waits{$name});
	wait_for_wait($s, "wait_event_type = 'Extension'");
	$watch->query('SELECT pg_terminate_backend(' . $s->pid . ')');
	like(($s->finish)[1], qr/^57P01: terminating connection due to administrator command/, "$name: terminated");
	is_clean($name);
}

#
# Waiting for the right to append, and to truncate
#
my $holder = session($node, 'postgres');
my $before = $watch->query('SELECT count(*), max(log_index) FROM seq_log');
my %blocked = (
	seq_append => "SELECT seq_append('')",
	seq_append_json => "SELECT seq_append_json('null')",
	seq_ack => "SELECT seq_ack(0, 0, $va)",
	INSERT => "INSERT INTO seq_log (entry) VALUES ('')");
my @locked = map { [ $_, "SELECT seq_append('')", $blocked{$_} ] } sort keys %blocked;
push @locked,
  [ 'seq_truncate', "LOCK TABLE seq_snapshots IN ACCESS EXCLUSIVE MODE", 'SELECT seq_truncate(0)' ],
  [ 'seq_snapshot', "LOCK TABLE seq_snapshots IN ACCESS EXCLUSIVE MODE", 'SELECT seq_snapshot()' ],
  [ 'seq_commit', "LOCK TABLE seq_cursor_positions IN ACCESS EXCLUSIVE MODE", 'SELECT seq_commit()' ],
  [ 'seq_drop_cursor', "LOCK TABLE seq_cursor_positions IN ACCESS EXCLUSIVE MODE", "SELECT seq_drop_cursor('default')" ];
foreach my $case (@locked)
{
	my ($name, $lock, $blocked) = @$case;
	my $s = subscriber();
	my $next = session($node, 'postgres');

	# under a name of its own, so that neither takes over from the other
	$next->query("SELECT seq_subscribe('{$va}', 'next')");
	$holder->query("BEGIN; $lock");
	$s->send($blocked);
	wait_for_wait($s, "wait_event_type = 'Lock'");
	$watch->query('SELECT pg_cancel_backend(' . $s->pid . ')');
	like(($s->finish)[1], qr/^57014: /, "$name: cancelled at the lock");
	is(locks_of($s->pid), 0, "$name: and does not wait any more");
	$s->query("SET statement_timeout = '50ms'");
	like($s->error($blocked), qr/^57014: canceling statement due to statement timeout/, "$name: statement_timeout");
	$s->reset_timeout;
	$s->query("SET lock_timeout = '50ms'");
	like($s->error($blocked), qr/^55P03: canceling statement due to lock timeout/, "$name: lock_timeout");
	$s->query('RESET lock_timeout');
	$s->send($blocked);
	wait_for_wait($s, "wait_event_type = 'Lock'");
	# one more behind it is served then
	$next->send($blocked =~ s/default/next/r =~ s/seq_commit\(\)/seq_commit('next')/r);
	wait_for_wait($next, "wait_event_type = 'Lock'");
	$watch->query('SELECT pg_terminate_backend(' . $s->pid . ')');
	like(($s->finish)[1], qr/^57P01: /, "$name: terminated");
	$holder->query('ROLLBACK');
	is(($next->finish)[1], '', "$name: the next in the queue gets it");
	goes_on($next, $name, 'next');
	$next->quit;
	is_clean($name);
}
is($watch->query('SELECT count(*) = max(log_index) FROM seq_log'), 't', 'no hole in log_index');

# An appender that holds the right, and is ended, lets it go.
$holder->query("BEGIN; SELECT seq_append('')");
$before = $watch->query('SELECT max(log_index) FROM seq_log');
my $s = session($node, 'postgres');
$s->send("SELECT seq_append('')");
wait_for_wait($s, "wait_event_type = 'Lock'");
$watch->query('SELECT pg_terminate_backend(' . $holder->pid . ')');
is(join('', $s->finish), $before + 1, 'the log_index of a terminated appender is the next one\'s');
$holder->error('SELECT 1');
$s->quit;

# A durable cursor that another session is about to move.
my $one = subscriber();
append();
$one->query("BEGIN; SELECT count(*) FROM seq_receive(10, '10s'); SELECT seq_commit()");
my $two = subscriber();
append();
$two->send("BEGIN; SELECT count(*) FROM seq_receive(10, '10s'); SELECT seq_commit()");
wait_for_wait($two, "wait_event_type = 'Lock'");
$watch->query('SELECT pg_cancel_backend(' . $two->pid . ')');
like(($two->finish)[1], qr/^57014: /, 'seq_commit waiting for another one: cancelled');
$two->query('ROLLBACK');
$one->query('COMMIT');
$one->quit;
like($two->error("BEGIN; SELECT count(*) FROM seq_receive(10, '10s'); SELECT seq_commit()"), qr/^40001: /, 'the first cursor of the name is news to it');
is($two->query("ROLLBACK; BEGIN; SELECT string_agg(epoch::text, ',') FROM seq_receive(10, '10s'); SELECT seq_commit(); COMMIT"), ($epoch - 1) . "\n1",
	'goes on at the cursor that came') or diag $watch->query('TABLE seq_cursors');
$two->quit;
$watch->query("SELECT seq_drop_cursor('default')");
is_clean('seq_commit');

#
# Attaching: what the launcher has not served yet
#
my $launcher = $watch->query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'calvin_seq launcher'");
$watch->query('CREATE DATABASE source');
create_extension($node, 'source');
kill 'STOP', $launcher;
$watch->query('CREATE DATABASE fresh TEMPLATE source');
my %attach = (
	seq_state => 'TABLE seq_state',
	seq_subscribe => "SELECT seq_subscribe('{1}')",
	seq_snapshot => 'SELECT seq_snapshot()',
	seq_truncate => 'SELECT seq_truncate(0)',
	seq_wait_for_epoch => "SELECT seq_wait_for_epoch(0, '1 day')",
	seq_wait_for_completion => "SELECT seq_wait_for_completion(0, 0, '1 day')");
foreach my $name (sort keys %attach)
{
	my $fresh = session($node, 'fresh');

	$fresh->query("SET statement_timeout = '50ms'");
	like($fresh->error($attach{$name}), qr/^57014: canceling statement due to statement timeout/,
		"$name: can be cancelled while there is nothing to attach to");
	$fresh->reset_timeout;
	is(locks_of($fresh->pid), 0, "$name: no lock is left");
	$fresh->send($attach{$name});
	wait_for_wait($fresh, "wait_event_type = 'Extension'");
	$watch->query('SELECT pg_terminate_backend(' . $fresh->pid . ')');
	like(($fresh->finish)[1], qr/^57P01: /, "$name: and terminated");
}
my $fresh = session($node, 'fresh');
is($fresh->query("SELECT seq_append('')"), 1, 'appending does not need it');
like($fresh->error('TABLE seq_state'), qr/^55000: no calvin_seq applier for this database yet\nDETAIL: .*10 seconds.*\nHINT: /, 'it is not waited for for ever');
kill 'CONT', $launcher;
wait_for_applier($node, 'fresh');
$fresh->query("SELECT seq_subscribe('{$va}')");
append_batches($node, 'fresh', 0, 0, [$txn], $fresh);
is($fresh->query("SELECT seq_wait_for_epoch(0, '30s')"), 't', 'then all works');
is($fresh->query('SELECT epoch FROM seq_receive(9, \'10s\')'), 0, 'receiving too');
$fresh->quit;

#
# DROP DATABASE while the applier cannot leave
#
my $stopped = applier_pid($node, 'fresh');
kill 'STOP', $stopped;
$s = session($node, 'postgres');
$s->send('DROP DATABASE fresh');
wait_until(sub { $watch->query("SELECT wait_event_type IS NOT NULL AND state = 'active' FROM pg_stat_activity WHERE pid = " . $s->pid) eq 't' }, 'DROP DATABASE to wait');
$watch->query('SELECT pg_cancel_backend(' . $s->pid . ')');
like(($s->finish)[1], qr/^(57014|55006): /, 'DROP DATABASE is cancelled');
$s->query("SET statement_timeout = '200ms'");
like($s->error('ALTER DATABASE fresh RENAME TO stale'), qr/^(57014|55006): /, 'RENAME runs into statement_timeout');
$s->reset_timeout;
$s->send('DROP DATABASE fresh');
wait_until(sub { $watch->query("SELECT wait_event_type IS NOT NULL AND state = 'active' FROM pg_stat_activity WHERE pid = " . $s->pid) eq 't' }, 'DROP DATABASE to wait');
$watch->query('SELECT pg_terminate_backend(' . $s->pid . ')');
like(($s->finish)[1], qr/^57P01: /, 'and terminated');
kill 'CONT', $stopped;
wait_for_applier($node, 'fresh');
is(sql($node, 'fresh', "SELECT seq_append('')"), 3, 'the database is there as before');
wait_applied($node, 'fresh');
pass('its applier came back');
$watch->query('DROP DATABASE fresh');
$watch->query('DROP DATABASE source');

#
# What takes long: a replay, a large entry
#
# At several moments of a statement: how long it then takes to end.
sub cancelled_within
{
	my ($limit, $desc, $on, $sql) = @_;
	my ($worst, $cancelled, $ended) = (0, 0, 0);
	my $full = elapsed { $on->query("BEGIN; $sql; ROLLBACK") };

	foreach my $part (1 .. 4)
	{
		my $after = int($full * 1000 * $part / 5) || 1;
		my ($error, $took);

		$on->query("SET statement_timeout = '${after}ms'");
		$took = elapsed { $error = $on->error("BEGIN; $sql") };
		$on->query('ROLLBACK');
		$on->reset_timeout;
		$worst = $took - $after / 1000 if $took - $after / 1000 > $worst;
		$cancelled++ if $error =~ /^57014: /;
		$ended++ if $error eq '';
	}
	# the last ones may have been done in time
	is($cancelled + $ended, 4, "$desc: nothing but the cancellation");
	cmp_ok($cancelled, '>=', 2, "$desc: can be cancelled");
	cmp_ok($worst, '<', within($limit), "$desc: soon");
	note(sprintf('%s: %.2f s in all, cancelled %d times, %.2f s late at most', $desc, $full, $cancelled, $worst));
	return;
}

$s = session($node, 'postgres');
append_batches($node, 'postgres', $epoch, $epoch + 299, [ ($txn) x 100 ]);
$epoch += 300;
wait_applied($node, 'postgres');
cancelled_within(20, 'seq_replay', $s, "SELECT sum(length((txn).tx_class)) FROM (SELECT seq_replay($va, 0, 1000000) AS txn FROM generate_series(1, 20)) r");
$s->query("SELECT seq_subscribe('{$va}', from_epoch => 0)");
like($s->error("SET statement_timeout = '5ms'; SELECT count(*) FROM seq_receive(1000000)"), qr/^57014: /, 'a long seq_receive is cancelled');
$s->reset_timeout;
is($s->query("SELECT count(*), count(DISTINCT (epoch, \"position\")) FROM seq_receive(1000000)"),
	$watch->query("SELECT count(*), count(*) FROM seq_replay($va, 0, 1000000)"), 'and loses nothing');
$s->query('SELECT seq_unsubscribe()');

# 13 million unsorted surrogates, 64 MB
my $head = '92aa45706f636842617463689193cf' . sprintf('%016x', $epoch) . '9194cf' . sprintf('%016x', $epoch) . '0095909192a8446f63756d656e7492a161dd';
my $tail = 'c401ab01c00000';
$s->query(<<"SQL");
CREATE TEMP TABLE large AS SELECT '\\x$head'::bytea || int4send(13 * 1024 * 1024) || block || block || block || block || block || block || block || block || block || block || block || block || block || '\\x$tail'::bytea AS entry
	FROM (SELECT string_agg('\\xce'::bytea || int4send(((n * 2654435761) % 4294967296 - 2147483648)::int), '') AS block FROM generate_series(0, 1048575) n) b;
SQL
is($s->query('SELECT length(entry) > 64 * 1024 * 1024 FROM large'), 't', 'an entry of 64 MB');
my $log = $watch->query('SELECT count(*), max(log_index) FROM seq_log');
cancelled_within(60, 'seq_decode of 64 MB', $s, 'SELECT seq_decode(entry) FROM large');
$s->query("CREATE TEMP TABLE json AS SELECT jsonb_build_object('EpochBatch', jsonb_build_object('epoch', $epoch, 'epoch_system_ms', 0, 'txns', jsonb_build_array(jsonb_build_object('tx_class',
	jsonb_build_object('plans', '\\x', 'tenant_id', 1, 'write_set', jsonb_build_array(jsonb_build_object('Document', jsonb_build_object('collection', 'a', 'surrogates',
	(SELECT jsonb_agg((n * 2654435761) % 4294967296) FROM generate_series(0, 2000000) n))))))))) AS entry");
cancelled_within(60, 'seq_encode of 2 million surrogates', $s, 'SELECT length(seq_encode(entry)) FROM json');
cancelled_within(60, 'seq_append of 64 MB', $s, 'SELECT seq_append(entry) FROM large');
cancelled_within(60, 'INSERT of 64 MB', $s, 'INSERT INTO seq_log (entry) SELECT entry FROM large');
is($watch->query('SELECT count(*), max(log_index) FROM seq_log'), $log, 'nothing is appended');
is(locks_of($s->pid), 0, 'no lock is left');
append();
pass('others append');
$s->quit;

is(applier_pid($node, 'postgres'), $applier, 'the applier was not disturbed by any of that');
is($watch->query('SELECT lag, last_error FROM seq_state'), '0|', 'and goes on');
is($watch->query('SELECT count(*) = max(log_index) FROM seq_log'), 't', 'no hole in log_index');
is_clean('all');
$watch->quit;
$node->stop;
nothing_crashed($node);
done_testing();
