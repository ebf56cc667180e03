# Handlers that fail: what has failed is undone, tried again later while others go on,
# and parked with the error after so many attempts.  Also what ends the process.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinHandler;
use CalvinTest;
use Test::More;

my $node = new_node('main', max_worker_processes => 20, restart_after_crash => 'on');

create_extension($node);
prepare_handlers($node, 'postgres');
# calls, also those that were undone
sql($node, 'postgres', <<'EOS');
CREATE SEQUENCE calls;
CREATE FUNCTION count_calls() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM faults f WHERE f.n = NEW.n) THEN PERFORM nextval('calls'); END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER count_calls BEFORE INSERT ON done FOR EACH ROW EXECUTE FUNCTION count_calls();
EOS

# How often a number that is to fail was tried since the last call of this.
sub calls
{
	return sql($node, 'postgres', "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM calls; SELECT setval('calls', 1, false) \\g /dev/null\n");
}

sub parked
{
	my ($group) = @_;

	return sql($node, 'postgres', "SELECT seq_json((x).plans) ->> 'n', attempts, reason FROM (SELECT attempts, reason, epoch, position, vshard FROM seq_parked WHERE name = '$group') p, LATERAL (SELECT x FROM seq_replay(p.vshard, p.epoch, p.epoch) x WHERE x.position = p.position) r ORDER BY 1");
}

sub fault
{
	my ($n, $message) = @_;

	return sql($node, 'postgres', "INSERT INTO faults VALUES ($n, \$\$$message\$\$)");
}

sub end_group
{
	my ($group) = @_;

	sql($node, 'postgres', "SELECT seq_drop_group('$group'); TRUNCATE done, faults");
	calls();
	return;
}

#
# One of many fails for ever
#
foreach my $form ('rows', 'all')
{
	my $group = "fails_$form";

	sql($node, 'postgres', "SELECT seq_create_group('$group', 8)");
	fault(50, 'no fifty');
	handle($node, 'postgres', $group, $form, "max_attempts => 3, backoff => '50 ms'");
	send_numbers($node, 'postgres', 'a', 1, 100);
	send_numbers($node, 'postgres', 'b', 101, 200);
	wait_done($node, 'postgres', $group, 199);
	is(parked($group), '50|3|no fifty', "$form: parked with the error, after its attempts");
	is(sql($node, 'postgres', "SELECT count(DISTINCT n), count(*), count(*) FILTER (WHERE n = 50) FROM done"), '199|199|0', "$form: all others were done, each once");
	is(sql($node, 'postgres', "SELECT count(*) FROM (SELECT n, lag(n) OVER (PARTITION BY collection ORDER BY i) AS before FROM done) s WHERE n < before"), 0, "$form: in order");
	is(sql($node, 'postgres', "SELECT processed, failed, parked, retrying, state, last_error FROM seq_handlers WHERE name = '$group'"), '199|3|1|0|running|no fifty', "$form: what seq_handlers says");
	# three attempts, and at most two calls before them with others, undone with those
	my $calls = calls();
	cmp_ok($calls, '>=', 3, "$form: attempts are calls");
	cmp_ok($calls, '<=', 5, "$form: no more of them than there have to be");
	is(sql($node, 'postgres', "DELETE FROM faults; SELECT seq_json((seq_retry(name, vshard, epoch, position)).plans) ->> 'n' FROM seq_parked WHERE name = '$group'"), 50, "$form: and can be taken back");
	end_group($group);
}

#
# It alone, so that each call is an attempt
#
sql($node, 'postgres', "SELECT seq_create_group('alone', 1)");
fault(1, 'first');
handle($node, 'postgres', 'alone', 'all', "max_attempts => 4, backoff => '1 ms'");
# trusted by then
foreach my $n (11 .. 20)
{
	send_numbers($node, 'postgres', 'a', $n, $n);
	wait_done($node, 'postgres', 'alone', $n - 10);
}
send_numbers($node, 'postgres', 'a', 1, 1);
wait_for_sql($node, 'postgres', "SELECT count(*) FROM seq_parked WHERE name = 'alone'", 1);
is(calls(), 4, 'each call of what is alone is an attempt, from the first on');
fault(2, 'second');
send_numbers($node, 'postgres', 'a', 2, 2);
wait_for_sql($node, 'postgres', "SELECT count(*) FROM seq_parked WHERE name = 'alone'", 2);
is(calls(), 4, 'also of a partition where something has failed before');

# an error that goes away
sql($node, 'postgres', "SELECT seq_handle('alone', 'h_alone(seq_txn[])', max_attempts => 1000, backoff => '10 ms')");
fault(3, 'third');
send_numbers($node, 'postgres', 'a', 3, 3);
wait_for_sql($node, 'postgres', "SELECT retrying = 1 AND failed >= 3 + 8 AND last_error = 'third' AND state = 'running' FROM seq_handlers");
sql($node, 'postgres', 'DELETE FROM faults');
wait_done($node, 'postgres', 'alone', 11);
is(sql($node, 'postgres', "SELECT retrying, parked, (SELECT count(*) FROM done WHERE n = 3) FROM seq_handlers"), '0|2|1', 'what works at last is done once');
is(sql($node, 'postgres', "SELECT count(*) FROM seq_group_positions WHERE attempts > 0 OR error IS NOT NULL OR retry_at IS NOT NULL"), 0, 'and its attempts are forgotten');
end_group('alone');

# others go on meanwhile
sql($node, 'postgres', "SELECT seq_create_group('beside', 8)");
fault(1, 'not this');
handle($node, 'postgres', 'beside', 'all', "max_attempts => 1000, backoff => '1 minute'");
send_numbers($node, 'postgres', 'a', 1, 10);
wait_for_sql($node, 'postgres', "SELECT retrying FROM seq_handlers", 1);
send_numbers($node, 'postgres', 'b', 11, 510);
wait_done($node, 'postgres', 'beside', 500);
is(sql($node, 'postgres', "SELECT count(*) FROM done WHERE collection = 'a'"), 0, 'those behind it wait, since their order is kept');
is(calls() <= 2, 1, 'and it is not tried before its time');
is(sql($node, 'postgres', 'SELECT seq_pending(\'beside\')'), 10, 'all of them are pending');
end_group('beside');

#
# Ways to fail
#
my @ways = (
	[ 'an error of the server', 'sql:SELECT 1/0', qr/^division by zero$/ ],
	[ 'a cancelled call', 'sql:SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(10)', qr/^canceling statement due to user request$/ ],
	[ 'a call that takes too long', 'sql:SELECT pg_sleep(100)', qr/^canceling statement due to statement timeout$/, q{ALTER ROLE CURRENT_USER SET statement_timeout = '200ms'}, 'ALTER ROLE CURRENT_USER RESET statement_timeout' ],
	[ 'a constraint at commit', 'sql:INSERT INTO late VALUES (1)', qr/^insert or update on table "late" violates foreign key constraint/, 'CREATE TABLE early (a int PRIMARY KEY); CREATE TABLE late (a int REFERENCES early DEFERRABLE INITIALLY DEFERRED)', 'DROP TABLE late, early' ],
	[ 'its process ended', 'sql:SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(10)', qr/^the worker that ran the handler ended in it$/ ],
	[ 'its process killed, and the server with it', q{sql:DO $x$ BEGIN EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'kill -9 ' || pg_backend_pid()); PERFORM pg_sleep(10); END $x$}, qr/^the worker that ran the handler ended in it$/ ],
	[ 'a serialization failure of its own', q{sql:DO $x$ BEGIN RAISE EXCEPTION 'mine' USING ERRCODE = '40001'; END $x$}, qr/^mine$/ ],
);

foreach my $way (@ways)
{
	my ($name, $sql, $reason, $before, $after) = @$way;

	sql($node, 'postgres', $before) if $before;
	foreach my $form ('rows', 'all')
	{
		sql($node, 'postgres', "SELECT seq_create_group('way', 2)");
		sql($node, 'postgres', "INSERT INTO faults VALUES (10, \$f\$$sql\$f\$)");
		send_numbers($node, 'postgres', 'a', 1, 30);
		send_numbers($node, 'postgres', 'b', 31, 40);
		# only now: it may end this session, too
		handle($node, 'postgres', 'way', $form, "max_attempts => 2, backoff => '1 ms'");
		wait_done($node, 'postgres', 'way', 39);
		wait_for_sql($node, 'postgres', "SELECT count(*) FROM seq_parked WHERE name = 'way'", 1);
		is(sql($node, 'postgres', 'SELECT count(DISTINCT n) FROM done WHERE n <> 10'), 39, "$name, $form: all others were done, each once");
		my ($n, $attempts, $why) = split /\|/, parked('way');
		is("$n|$attempts", '10|2', "$name, $form: parked after its attempts");
		like($why, $reason, "$name, $form: with the reason");
		end_group('way');
	}
	sql($node, 'postgres', $after) if $after;
}

#
# What a handler may not do, and what it may
#
sql($node, 'postgres', "SELECT seq_create_group('commits', 1)");
sql($node, 'postgres', 'CREATE FUNCTION h_commits(t seq_txn[]) RETURNS void LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$');
sql($node, 'postgres', "SELECT seq_handle('commits', 'h_commits(seq_txn[])', max_attempts => 2, backoff => '1 ms')");
send_numbers($node, 'postgres', 'a', 1, 1);
wait_for_sql($node, 'postgres', "SELECT reason FROM seq_parked WHERE name = 'commits'", 'invalid transaction termination');
pass('COMMIT is refused, as a failure');
end_group('commits');

sql($node, 'postgres', "SELECT seq_create_group('odd', 1, collections => ARRAY['a', 'answers'])");
sql($node, 'postgres', "INSERT INTO faults VALUES (1, \$\$sql:SELECT seq_send('answers', '{\"n\": 100}')\$\$), (2, \$\$sql:INSERT INTO done (handler, collection, n) SELECT 'fetched', 'a', count(*) FROM seq_fetch('odd')\$\$), (3, \$\$sql:SET ROLE pg_monitor\$\$), (4, \$\$sql:SELECT seq_unhandle('odd')\$\$)");
handle($node, 'postgres', 'odd', 'rows', 'max_attempts => 1');
send_numbers($node, 'postgres', 'a', 1, 1);
wait_for_sql($node, 'postgres', "SELECT count(*) FROM done WHERE handler = 'odd' AND collection = 'answers' AND n = 100", 1);
pass('it may send');
send_numbers($node, 'postgres', 'a', 2, 2);
wait_for_sql($node, 'postgres', "SELECT n FROM done WHERE handler = 'fetched'", 0);
pass('and fetch for its own group, which has given it all there is');
send_numbers($node, 'postgres', 'a', 3, 3);
send_numbers($node, 'postgres', 'a', 30, 30);
wait_for_sql($node, 'postgres', "SELECT who FROM done WHERE handler = 'odd' AND n = 30", sql($node, 'postgres', 'SELECT current_user'));
pass('what it does to its role does not outlive its transaction');
send_numbers($node, 'postgres', 'a', 4, 5);
wait_for_handlers($node, 'postgres', 0);
is(sql($node, 'postgres', "SELECT (SELECT count(*) FROM seq_handlers), (SELECT count(*) FROM done WHERE n = 4), (SELECT count(*) FROM done WHERE n = 5) + seq_pending('odd')"), '0|1|1', 'and take itself away');
is(parked('odd'), '', 'nothing of that has failed');
end_group('odd');

$node->stop;
nothing_crashed($node, 1);
done_testing();
