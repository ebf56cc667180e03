# A follower: a second, writable server with a copy of the log.  It has exactly what the
# source has, appends nothing of its own, and consumers, groups and handlers write there.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinFollow;
use CalvinGroup;
use CalvinPause;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $txn = [ [ [ 'a', 1 ], [ 'b', 2 ] ], 'ab', 1 ];
my $source = new_node('source', 'calvin_seq.snapshot_interval' => 10);
my $follower = new_node('follower', 'calvin_seq.snapshot_interval' => 10, 'calvin_seq.follower_timeout' => '3s', restart_after_crash => 'on');
my $to = source_of($source, $db, 'user=feeder application_name=copy');
my $epoch = 0;

create_extension($_, $db) foreach $source, $follower;
# what the role needs, and nothing else
sql($source, $db, 'CREATE ROLE feeder LOGIN; GRANT EXECUTE ON FUNCTION seq_feed, seq_feed_state, seq_feed_note TO feeder');

sub append
{
	my ($n) = @_;

	$epoch = sql($source, $db, 'SELECT seq_current_committed_epoch() + 1') || 0;
	append_batches($source, $db, $epoch, $epoch + $n - 1, [ $txn, $txn ]);
	$epoch += $n;
	return;
}

#
# From the beginning, with everything that a log can hold
#
append(25);
sql($source, $db, "INSERT INTO seq_log (entry) VALUES (''), ('\\xc1'), ('\\x" . batch_hex(1, 0, $txn) . "'), ('\\x" . batch_hex($epoch + 3, 0, $txn) . "')");
$epoch += 4;
sql($source, $db, 'SELECT seq_ack(3, 1, 0)');
# an explicit log_index leaves a hole
sql($source, $db, "INSERT INTO seq_log (log_index, entry) SELECT max(log_index) + 100, '' FROM seq_log");
is(sql($follower, $db, 'SELECT count(*) FROM seq_follower'), 0, 'no row where the log is its own');
my $offset = log_offset($follower);
follow($follower, $db, $to, $source);
is_copy($source, $db, $follower, $db, 'what was there');
is(sql($follower, $db, 'SELECT identity FROM seq_identity'), sql($source, $db, 'SELECT identity FROM seq_identity'), 'the same log');
wait_follower_state($follower, $db, 'following');
is(follower($follower, $db, 'lag, lag_time, log_index = source_index, proved_index = log_index, entries, connected_to'),
	join('|', 0, '00:00:00', 't', 't', 31, $source->host . ':' . $source->port), 'seq_follower');
like(follower($follower, $db, 'source'), qr/^database "postgres" on host ".*", port \d+$/, 'the source, for people');
is(sql($source, $db, "SELECT usename, application_name FROM pg_stat_activity WHERE query ~ 'seq_feed' AND pid <> pg_backend_pid()"), 'feeder|copy', 'its session at the source');

append(30);
is_copy($source, $db, $follower, $db, 'what came since');

# a large entry, and many small ones
sql($source, $db, "SELECT seq_append_json(jsonb_build_object('EpochBatch', jsonb_build_object('txns', jsonb_build_array(jsonb_build_object('tx_class', jsonb_build_object('plans', '\\x' || repeat('ab', 20000000), 'write_set', '[{\"Document\": {\"collection\": \"a\"}}]'::jsonb))))))");
$epoch++;
sql($source, $db, "INSERT INTO seq_log (entry) SELECT '' FROM generate_series(1, 20000)");
is_copy($source, $db, $follower, $db, 'an entry of 20 MB, and 20,000 of none');

#
# Nothing is appended there
#
my $refused = qr/^25006: .*: this database follows database "postgres" on host "\Q${\ $source->host}\E"/;
my %statements = (
	'seq_append' => "SELECT seq_append('\\x" . batch_hex($epoch, 0, $txn) . "')",
	'seq_append, what is in the log' => "SELECT seq_append('\\x" . batch_hex(0, 0, $txn) . "')",
	'seq_append_json' => q[SELECT seq_append_json('{"EpochBatch": {"txns": []}}')],
	'INSERT' => q[INSERT INTO seq_log (entry) VALUES ('')],
	'INSERT with log_index' => q[INSERT INTO seq_log (log_index, entry) VALUES (1000000, '')],
	'INSERT of replication' => q[SET session_replication_role = replica; INSERT INTO seq_log (log_index, entry) VALUES (1000000, '')],
	'COPY' => q[COPY seq_log (entry) FROM PROGRAM 'echo "\\\\x"'],
	'seq_send' => q[SELECT seq_send('a', '1')],
	'seq_send_bytes' => q[SELECT seq_send_bytes('a', '')],
	'seq_submit' => q[SELECT seq_submit('{"write_set": [{"Document": {"collection": "a"}}]}')]);

foreach my $what (sort keys %statements)
{
	like(sql_error($follower, $db, $statements{$what}), $refused, "$what is refused, and says by whom");
}
like(sql_error($follower, $db, 'BEGIN; DELETE FROM seq_following'), qr/^55000: cannot change seq_following/, 'nor is that undone by SQL');
like(sql_error($follower, $db, "INSERT INTO seq_following SELECT false, id, 'pull', source, 'host=x', since, 0 FROM seq_following"), qr/^55000: cannot change seq_following/, 'or made');
like(sql_error($source, $db, "SELECT seq_follow('$to password=secret')"), qr/^22023: option "password" cannot be in/, 'no password in the connection string');
like(sql_error($source, $db, "SELECT seq_follow('nonsense=1')"), qr/^22023: invalid connection string/, 'nonsense is refused');
like(sql_error($source, $db, "SELECT seq_follow('')"), qr/^22023: the connection string is empty/, 'nothing, too');
like(sql_error($source, $db, 'SELECT seq_unfollow()'), qr/^55000: this database does not follow/, 'seq_unfollow of nothing');
sql($source, $db, 'GRANT EXECUTE ON FUNCTION seq_follow TO feeder');
like(sql_error($source, $db, "SET ROLE feeder; SELECT seq_follow('$to')"), qr/^42501: must be superuser/, 'for superusers only: it is their login');

#
# Consumers, groups and handlers write there
#
sql($follower, $db, <<'EOS');
CREATE TABLE effects (n int GENERATED ALWAYS AS IDENTITY, who text, payload text);
SELECT seq_create_group('g', 4, collections => '{orders/%}');
SELECT seq_create_group('h', 4, collections => '{orders/%}');
CREATE FUNCTION handle(t seq_txn) RETURNS void LANGUAGE sql AS $$ INSERT INTO effects (who, payload) VALUES ('handler', seq_json(t.plans)::text) $$;
SELECT seq_handle('h', 'handle(seq_txn)');
EOS
my $consumer = session($follower, $db);
$consumer->query("SELECT seq_subscribe('{" . vshard_of('orders/1') . "}')");
send_to($source, $db, map { ("orders/1", $_) } 1 .. 20);
wait_follows($source, $db, $follower, $db);
is(sql($follower, $db, numbers_of("seq_fetch_json('g')")), join(',', 1 .. 20), 'a group there');
is($consumer->query(q{SELECT string_agg(seq_json(plans)::text, ',') FROM seq_receive(100, '10s')}), join(',', 1 .. 20), 'a consumer there');
wait_for_sql($follower, $db, "SELECT string_agg(payload, ',' ORDER BY n) FROM effects", join(',', 1 .. 20));
pass('a handler there');
$consumer->quit;

#
# Whoever ends: each goes on where the log ends
#
my $pid = follower_pid($follower, $db);
kill 'TERM', $pid;
wait_for_sql($follower, $db, "SELECT pid <> $pid AND state = 'following' FROM seq_follower");
append(5);
is_copy($source, $db, $follower, $db, 'the worker was ended');

$follower->stop('immediate');
append(5);
$follower->start;
is_copy($source, $db, $follower, $db, 'the follower has crashed');

$offset = log_offset($follower);
$source->stop('immediate');
wait_follower_state($follower, $db, 'unreachable');
like(follower($follower, $db, 'last_error'), qr/^no connection to the source: |^the source answers: /, 'the source has crashed: an error says so');
like(sql_error($follower, $db, $statements{seq_append}), $refused, 'and nothing is appended meanwhile');
$source->start;
wait_for_applier($source, $db);
append(5);
is_copy($source, $db, $follower, $db, 'the source is back');
my @said = log_since($follower, $offset) =~ /calvin_seq follower: (?:no connection|the source answers)/g;
is(scalar @said, 1, 'which was said once');

# killed, with everything else there, between receiving and committing
SKIP:
{
	skip 'not a build with pause points', 6 unless $ENV{CALVIN_PAUSE_POINTS};
	sql($follower, $db, 'CREATE DATABASE beside');
	foreach my $point ('received', 'before the commit', 'committed')
	{
		my $p = pauses($follower, 'beside');

		$p->arm("following: $point", follower_pid($follower, $db));
		append(2);
		kill 'KILL', $p->reached("following: $point");
		eval { $p->quit };
		wait_for_sql($follower, $db, "SELECT state FROM seq_follower WHERE pid IS NOT NULL", 'following');
		append(2);
		is_copy($source, $db, $follower, $db, "killed at \"$point\"");
	}
}

# a session of the source that hangs is given up
my $feeding = sql($source, $db, "SELECT pid FROM pg_stat_activity WHERE usename = 'feeder'");
kill 'STOP', $feeding;
append(2);
wait_for_sql($source, $db, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'feeder' AND pid <> $feeding", 1);
is_copy($source, $db, $follower, $db, 'a connection that is silent is made anew');
kill 'CONT', $feeding;

#
# It ends
#
sql($follower, $db, 'SELECT seq_unfollow()');
like(sql_error($follower, $db, "SELECT seq_ack(1, 0, 1)"), qr/^$/, 'seq_unfollow: the log is its own');
is(sql($follower, $db, 'SELECT count(*) FROM seq_follower'), 0, 'and seq_follower is empty');
$follower->stop;
$follower->start;
is(sql($follower, $db, q{SELECT (seq_submission(seq_send('a', '1'), '0')).epoch IS NULL}), 't', 'seq_send is possible');

#
# The transaction of seq_follow decides
#
my $fresh = new_node('fresh', max_prepared_transactions => 2);
create_extension($fresh, $db);
my $s = session($fresh, $db);
$s->query("BEGIN; SELECT seq_follow('$to'); ROLLBACK");
is(sql($fresh, $db, q{SELECT seq_append_json('{"EpochBatch": {"txns": []}}')}), 1, 'rolled back: nothing');
like($s->error("BEGIN; SELECT seq_follow('$to'); PREPARE TRANSACTION 'p'"), qr/^0A000: /, 'not to be prepared');
$s->query('ROLLBACK');
$s->query("BEGIN; SELECT seq_follow('$to')");
{
	my $appender = session($fresh, $db);
	my $submitter = session($fresh, $db);

	like($submitter->error("SELECT seq_send('a', '1')"), qr/^25006: cannot submit: this database is about to follow/, 'submissions are refused before it commits');
	$appender->send(q{SELECT seq_append_json('{"EpochBatch": {"txns": []}}')});
	wait_for_sql($fresh, $db, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'seq_append_json'", 1);
	$s->query('COMMIT');
	like(($appender->finish)[1], qr/^25006: cannot append to the log: this database follows/, 'who has waited to append');
	is(sql($fresh, $db, 'SELECT count(*) FROM seq_log'), 1, 'is refused');
	$_->quit foreach $appender, $submitter;
}
wait_follower_state($fresh, $db, 'other log');
like(follower($fresh, $db, 'last_error'), qr/^the source has another log: its identity is [-0-9a-f]{36}, and ours [-0-9a-f]{36}; see to it/, 'a log of its own does not become another one');
sql($fresh, $db, 'SELECT seq_unfollow()');
$s->query("BEGIN; SELECT seq_send('a', '1')");
like(sql_error($fresh, $db, "SELECT seq_follow('$to')"), qr/^55006: submissions are waiting to be sequenced/, 'not with submissions waiting');
$s->query('COMMIT');
$s->quit;

$_->stop foreach $source, $follower, $fresh;
nothing_crashed($_, 1) foreach $source, $follower, $fresh;
done_testing();
