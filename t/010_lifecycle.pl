# The applier comes and goes with the extension, and with the server.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my $node = new_node('lifecycle', max_prepared_transactions => 2,
	'calvin_seq.snapshot_interval' => 0);
my $txn = [ [ [ 'a', 1 ], [ 'b', 2 ] ], 'ab', 1 ];
my $va = vshard_of('a');
my $empty_digest;
my $pid;

# Names of the databases that have an applier.
sub appliers
{
	return sql($node, 'template1',
		"SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_stat_activity WHERE backend_type = 'calvin_seq applier'"
	);
}

sub is_gone
{
	my ($pid, $desc) = @_;

	ok( eval {
			wait_until(sub { !process_alive($pid) }, "end of applier $pid");
		},
		"$desc: the applier ends");
}

# The shared helpers themselves, by the contract's examples.
is( batch_hex(1, 1700000000000, $txn),
	'92aa45706f636842617463689193019194010095909292a8446f63756d656e7492a161910192a8446f63756d656e7492a1629102c401ab01c000d30000018bcfe56800',
	'batch_hex is canonical');
is(ack_hex(7, 3, 1000), '92ad436f6d706c6574696f6e41636b930703cd03e8',
	'ack_hex is canonical');

#
# CREATE EXTENSION
#
is(appliers(), '', 'no extension, no applier');
# when it has looked at the databases there are
ok( eval {
		wait_for_sql(
			$node, 'postgres',
			"SELECT backend_type, application_name, state, query FROM pg_stat_activity WHERE backend_type LIKE 'calvin%'",
			'calvin_seq launcher|calvin_seq launcher|idle|waiting for databases to come and go');
	},
	'the launcher shows itself') or diag $@;

# What the launcher was asked before the other database's applier is done when
# that one runs.
sql($node, 'postgres',
	'BEGIN; CREATE EXTENSION calvin_seq; ROLLBACK; BEGIN; SAVEPOINT s; CREATE EXTENSION calvin_seq; ROLLBACK TO s; COMMIT; CREATE DATABASE other;');
ok((elapsed { create_extension($node, 'other') }) < 5,
	'CREATE EXTENSION starts an applier, without restart and at once');
is(appliers(), 'other', 'a rolled back CREATE EXTENSION leaves none');
sql($node, 'other', 'DROP EXTENSION calvin_seq');

# What the workers must know at the commit cannot wait for COMMIT PREPARED.
is( sql_error($node, 'postgres', "BEGIN; CREATE EXTENSION calvin_seq; PREPARE TRANSACTION 'x'") =~ s/:.*//sr,
	'0A000', 'CREATE EXTENSION in a prepared transaction is refused');
is(appliers() =~ s/other//r, '', 'and starts nothing');

# Everything in the transaction that creates it.
my $s = session($node, 'postgres');
$s->query('BEGIN; CREATE EXTENSION calvin_seq');
is($s->query("SELECT seq_append('\\x" . batch_hex(0, 5, $txn) . "')"), 1,
	'seq_append in the transaction of CREATE EXTENSION');
is( $s->query("INSERT INTO seq_log (entry) VALUES ('') RETURNING log_index, kind"),
	'2|noop', 'INSERT in the transaction of CREATE EXTENSION');
is( $s->query("SELECT vshard, epoch, position, epoch_system_ms FROM seq_replay($va, 0, 10)"),
	"$va|0|0|5",
	'seq_replay in the transaction of CREATE EXTENSION');
is($s->query("SELECT seq_decode(seq_encode('{\"CompletionAck\": {\"epoch\": 1, \"position\": 2, \"vshard_id\": 3}}')) -> 'CompletionAck' ->> 'epoch'"),
	'1', 'seq_encode and seq_decode in the transaction of CREATE EXTENSION');
like($s->query('SELECT seq_current_committed_epoch()'),
	qr/^0?$/, 'seq_current_committed_epoch in the transaction of CREATE EXTENSION');
$s->query('SAVEPOINT s');
foreach my $call (
	'seq_last_applied_epoch()', 'seq_next_epoch()',
	"seq_wait_for_epoch(0, '0')", "seq_subscribe('{1}', lossless => false)",
	'seq_metrics_reset()')
{
	like($s->error("SELECT $call"),
		qr/^55000: no calvin_seq applier for this database yet\nDETAIL: .*CREATE EXTENSION has committed/,
		"$call in the transaction of CREATE EXTENSION says what it waits for");
	$s->query('ROLLBACK TO s');
}
foreach my $view (qw(seq_state seq_metrics))
{
	like($s->error("SELECT * FROM $view"),
		qr/^55000: no calvin_seq applier for this database yet/,
		"$view in the transaction of CREATE EXTENSION");
	$s->query('ROLLBACK TO s');
}
is($s->query('SELECT count(*) FROM seq_subscriptions'),
	0, 'seq_subscriptions in the transaction of CREATE EXTENSION');
$s->query('COMMIT');
$pid = wait_for_applier($node, 'postgres');
wait_for_epoch($node, 'postgres', 0);
is($s->query('SELECT last_applied_epoch, last_applied_index, lag FROM seq_state'),
	'0|2|0', 'and all of it is applied after the commit');

#
# pg_stat_activity
#
is( sql($node, 'postgres',
		"SELECT backend_type, application_name, datname, state, query, backend_xmin IS NULL, backend_xid IS NULL, xact_start IS NULL FROM pg_stat_activity WHERE pid = $pid"),
	'calvin_seq applier|calvin_seq applier|postgres|idle|waiting for log entries|t|t|t',
	'an idle applier in pg_stat_activity, without a transaction');

# Entries come in one commit, and somebody looks what the applier does then.
wait_until(
	sub {
		my ($output, $error) = $s->send(<<"SQL")->finish;
INSERT INTO seq_log (entry) SELECT '' FROM generate_series(1, 30000);
DO \$\$
DECLARE
	seen text;
BEGIN
	FOR i IN 1 .. 5000 LOOP
		SELECT query INTO seen FROM pg_stat_get_activity($pid) WHERE state = 'active';
		IF FOUND THEN
			RAISE EXCEPTION 'seen: %', seen;
		END IF;
		PERFORM pg_stat_clear_snapshot();
	END LOOP;
END
\$\$
SQL
		return $error =~ /seen: applying log entries \d+ to \d+$/m;
	},
	'a busy applier in pg_stat_activity');
pass('a busy applier in pg_stat_activity');
wait_applied($node, 'postgres');

# No wake-ups when idle.
sub wakeups
{
	my ($pid) = @_;

	return slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m
	  ? $1 : -1;
}
SKIP:
{
	skip 'no /proc', 2 unless -r "/proc/$pid/status";
	my $launcher = sql($node, 'postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'calvin_seq launcher'");
	# what is under way ends first
	foreach my $worker ($pid, $launcher)
	{
		ok( eval {
				wait_until(
					sub {
						my $before = wakeups($worker);

						$s->query('SELECT pg_sleep(1)');
						return wakeups($worker) == $before;
					},
					'a quiet second', 10);
			},
			'an idle ' . ($worker == $pid ? 'applier' : 'launcher') . ' is not woken');
	}
}

#
# Commands that rewrite the log's storage
#
append_batches($node, 'postgres', 1, 5, [$txn]);
wait_applied($node, 'postgres');
$s->query("SELECT seq_subscribe('{$va}', lossless => false)");
foreach my $sql ('VACUUM FULL seq_log', 'CLUSTER seq_log USING seq_log_pkey',
	'REINDEX TABLE seq_log', 'REINDEX INDEX CONCURRENTLY seq_log_epoch_idx', 'ANALYZE seq_log')
{
	$s->query($sql);
	my $epoch = $s->query('SELECT seq_current_committed_epoch() + 1');
	append_batches($node, 'postgres', $epoch, $epoch, [$txn], $s);
	is($s->query("SELECT epoch FROM seq_receive(10, '10s')"), $epoch, "$sql: the stream goes on");
}
$s->query('SELECT seq_unsubscribe()');
is($s->query('SELECT applier_pid, last_error IS NULL FROM seq_state'), "$pid|t",
	'the same applier, without any error');

#
# Server restart
#
append_batches($node, 'postgres', 11, 20, [ $txn, $txn ]);
sql($node, 'postgres', "INSERT INTO seq_log (entry) VALUES ('\\xc1'), ('\\x"
	  . batch_hex(5, 1, $txn) . "'), ('\\x" . batch_hex(30, 1, $txn) . "')");
wait_for_epoch($node, 'postgres', 30);
my $before = state($node, 'postgres');
my $metrics = 'SELECT epochs_applied, epochs_skipped_gap, epochs_skipped_stale, entries_noop, entries_undecodable, entries_applied FROM seq_metrics';
my $metrics_before = sql($node, 'postgres', $metrics);
like($metrics_before, qr/^21\|1\|1\|\d+\|1\|\d+$/, 'what was applied');
$s->quit;
$node->restart;
is(wait_for_applier($node, 'postgres') != $pid, 1, 'a new applier after a restart');
wait_applied($node, 'postgres');
is(state($node, 'postgres'), $before,
	'same epoch, index and digest after a restart');
is(sql($node, 'postgres', $metrics), $metrics_before,
	'same counters after a restart');
append_batches($node, 'postgres', 31, 31, [$txn]);
wait_for_epoch($node, 'postgres', 31);
isnt(digest($node, 'postgres'), (split /\|/, $before)[2],
	'the digest goes on with the log');

#
# DROP EXTENSION, by whatever path
#
$pid = applier_pid($node, 'postgres');
$s = session($node, 'postgres');
$s->query("SELECT seq_subscribe('{$va}', lossless => false)");
$s->query('BEGIN; DROP EXTENSION calvin_seq; ROLLBACK');
$s->query("SELECT seq_append('\\x" . batch_hex(32, 1, $txn) . "')");
is($s->query("SELECT epoch FROM seq_receive(10, '10s')"), 32,
	'a rolled back DROP EXTENSION leaves the subscription as it is');
like($s->error("BEGIN; DROP EXTENSION calvin_seq; PREPARE TRANSACTION 'x'"), qr/^0A000: /,
	'DROP EXTENSION in a prepared transaction is refused');
is(applier_pid($node, 'postgres'), $pid, 'and the applier');

$s->query('DROP EXTENSION calvin_seq');
is_gone($pid, 'DROP EXTENSION');
like($s->error('SELECT seq_receive()'), qr/^42883: /,
	'nothing to call after DROP EXTENSION');

sub recreate
{
	my ($sql) = @_;

	sql($node, 'postgres', $sql);
	$pid = wait_for_applier($node, 'postgres');
	return;
}

recreate('CREATE EXTENSION calvin_seq');
is(state($node, 'postgres') =~ s/[^|]*$//r, '|0|', 'a new one starts from nothing');
$empty_digest = digest($node, 'postgres');
is(sql($node, 'postgres', 'SELECT count(*) FROM seq_subscriptions'),
	0, 'without subscriptions of the old one');
like($s->error('SELECT seq_receive()'),
	qr/^(55006|55000): .*subscri.*\n(DETAIL: .*\n)?HINT: .*[Ss]ubscribe/,
	'whose sessions are told to subscribe again');
$s->query("SELECT seq_subscribe('{$va}', lossless => false)");
$s->query("SELECT seq_append('\\x" . batch_hex(0, 1, $txn) . "')");
is($s->query("SELECT epoch FROM seq_receive(10, '10s')"), 0, 'which works');
$s->quit;

sql($node, 'postgres', 'CREATE VIEW dependent AS SELECT * FROM seq_log');
like(sql_error($node, 'postgres', 'DROP EXTENSION calvin_seq'),
	qr/^2BP01: /, 'a dependent object protects the extension');
is(applier_pid($node, 'postgres'), $pid, 'and its applier');
sql($node, 'postgres', 'DROP EXTENSION calvin_seq CASCADE');
is_gone($pid, 'DROP EXTENSION CASCADE');

recreate('CREATE SCHEMA s; CREATE EXTENSION calvin_seq SCHEMA s; ALTER DATABASE postgres SET search_path = s');
append_batches($node, 'postgres', 0, 0, [$txn]);
wait_for_epoch($node, 'postgres', 0);
pass('the extension in a schema of its own');
sql($node, 'postgres', 'DROP SCHEMA s CASCADE');
is_gone($pid, 'DROP SCHEMA CASCADE');
sql($node, 'postgres', 'ALTER DATABASE postgres RESET search_path');

sql($node, 'postgres', 'CREATE ROLE boss SUPERUSER');
recreate('SET ROLE boss; CREATE EXTENSION calvin_seq');
sql($node, 'postgres', 'DROP OWNED BY boss');
is_gone($pid, 'DROP OWNED');
is(appliers(), '', 'none is left');
sql($node, 'postgres', 'DROP ROLE boss');

#
# Drop and create in one transaction, and in quick succession
#
recreate('CREATE EXTENSION calvin_seq');
append_batches($node, 'postgres', 0, 2, [$txn]);
wait_for_epoch($node, 'postgres', 2);
$s = session($node, 'postgres');
$s->query("SELECT seq_subscribe('{$va,7}', lossless => false)");

# A waiting call notices too.
my $waiting = session($node, 'postgres');
$waiting->query("SELECT seq_subscribe('{$va}', 'waiting', lossless => false)");
$waiting->send("SELECT * FROM seq_receive(1, '30s', 'waiting')");
wait_for_sql($node, 'postgres',
	'SELECT wait_event_type FROM pg_stat_activity WHERE pid = ' . $waiting->pid,
	'Extension');
sql($node, 'postgres',
	"BEGIN; DROP EXTENSION calvin_seq; CREATE EXTENSION calvin_seq; COMMIT;");
like(($waiting->finish)[1],
	qr/^(55006|55000): .*subscription/,
	'a waiting call ends with an error when the extension is made anew');
$waiting->quit;
wait_for_applier($node, 'postgres');
wait_for_sql($node, 'postgres', 'SELECT last_applied_index FROM seq_state', '0');
is(digest($node, 'postgres'), $empty_digest,
	'dropped and created in one transaction: the state is that of nothing');
like($s->error('SELECT seq_receive()'), qr/^(55006|55000): .*subscription/,
	'subscriptions of the old one are over');
is($s->query('SELECT count(*) FROM seq_subscriptions'), 0, 'and not listed');

# Nothing of the old one may be seen or received, nothing of the new one lost,
# also while the applier has not noticed yet.
append_batches($node, 'postgres', 0, 2, [$txn]);
wait_for_epoch($node, 'postgres', 2);
$pid = applier_pid($node, 'postgres');
kill 'STOP', $pid;
sql($node, 'postgres',
	'BEGIN; DROP EXTENSION calvin_seq; CREATE EXTENSION calvin_seq; COMMIT;');
my ($output, $error);
$s->query("SET statement_timeout = '300ms'");
foreach my $call ('seq_last_applied_epoch()', "seq_wait_for_epoch(0, '0')")
{
	($output, $error) = $s->send("SELECT $call")->finish;
	unlike($output, qr/^(2|t)$/, "$call: nothing of the old one is seen");
	like($error, qr/^(|55000: .*|57014: .*)/, "$call: it is null, an error, or waits");
}
$s->query('RESET statement_timeout');
$s->send("SELECT seq_subscribe('{$va}', lossless => false)");
kill 'CONT', $pid;
($output, $error) = $s->finish;
is($error, '', 'seq_subscribe waits for the new applier');
append_batches($node, 'postgres', 0, 1, [$txn], $s);
is(($s->send("SELECT epoch FROM seq_receive(10, '10s')")->finish)[0] =~ s/\n.*//sr,
	0, 'and the subscription lives');

# In quick succession.
foreach my $how ('one transaction', 'two transactions')
{
	my ($stale, $lost) = (0, 0);

	foreach my $round (1 .. 10)
	{
		$s->query(
			$how eq 'one transaction'
			? 'BEGIN; DROP EXTENSION calvin_seq; CREATE EXTENSION calvin_seq; COMMIT;'
			: 'DROP EXTENSION calvin_seq; CREATE EXTENSION calvin_seq');

		# as soon as the session gets an answer, it has to be of the new one
		my $epoch;
		wait_until(
			sub {
				my ($output, $error) =
				  $s->send('SELECT coalesce(seq_last_applied_epoch(), -1)')->finish;
				$epoch = $output;
				return $error eq '';
			},
			'an answer of the new extension');
		$stale++ if $epoch != -1;
		$s->query("SELECT seq_subscribe('{$va}', lossless => false)");
		append_batches($node, 'postgres', 0, 1, [$txn], $s);
		$stale++ if $s->query("SELECT seq_wait_for_epoch(1, '10s')") ne 't';
		($output, $error) = $s->send("SELECT epoch FROM seq_receive(10, '10s')")->finish;
		if ($error ne '' || $output ne "0\n1")
		{
			$lost++;
			diag "round $round: output \"$output\", error \"$error\"";
		}
	}
	is($stale, 0, "no state of the old one after drop and create in $how");
	is($lost, 0, "a subscription made at once after drop and create in $how lives");
}
is(appliers(), 'postgres', 'one applier is left');
wait_applied($node, 'postgres');
$s->quit;
# The workers are nothing that a smart shutdown waits for.
cmp_ok((elapsed { $node->stop('smart') }), '<', within(5), 'smart shutdown');

nothing_crashed($node);
done_testing();
