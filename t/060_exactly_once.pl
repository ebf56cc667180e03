# Exactly once, whatever happens: workers that take vshards over from each
# other, roll back, and are terminated; an applier that is terminated; queues
# that are too small; gaps in the epochs.  In the end every transaction of the
# log has had its effect once, in order.
#
# CALVIN_TEST_SEED repeats a run's choices, CALVIN_TEST_SECONDS makes it longer.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seed = $ENV{CALVIN_TEST_SEED} || (time() * 1000) % 1_000_000_000;
my $seconds = $ENV{CALVIN_TEST_SECONDS} || 9;
my @names = ('a' .. 'h');
my @vshards = map { vshard_of($_) } @names;
my $all = join ',', @vshards;

srand($seed);
note "CALVIN_TEST_SEED=$seed";

my $node = new_node('exactly_once');
create_extension($node);

# Nothing here keeps an effect from being written twice but the cursors: a
# unique index would hide it.
sql($node, 'postgres', <<'EOS');
CREATE TABLE effects (n bigint GENERATED ALWAYS AS IDENTITY, vshard int, epoch bigint, "position" int, content text, who int DEFAULT pg_backend_pid());
CREATE FUNCTION take(max_txns int) RETURNS int LANGUAGE sql AS $$
	WITH i AS (INSERT INTO effects (vshard, epoch, "position", content)
			SELECT vshard, epoch, "position", md5(t::text) FROM seq_receive(max_txns, '5 ms', 'w') t RETURNING 1)
		SELECT count(*)::int FROM i
$$;
CREATE FUNCTION take_or_not(max_txns int, fail boolean) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	n int;
BEGIN
	n := take(max_txns);
	IF fail THEN
		RAISE 'not now';
	END IF;
	RETURN n;
EXCEPTION WHEN raise_exception THEN
	RETURN -1;
END $$;
CREATE FUNCTION batch(epoch bigint, txns text[], plans int) RETURNS bytea LANGUAGE sql AS $$
	SELECT seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object('epoch', epoch, 'epoch_system_ms', 7 * epoch, 'txns',
		(SELECT jsonb_agg(jsonb_build_object('tx_class', jsonb_build_object('plans', '\x' || repeat(lpad(to_hex(i % 256), 2, '0'), plans), 'tenant_id', i, 'write_set',
			(SELECT jsonb_agg(jsonb_build_object('Document', jsonb_build_object('collection', c, 'surrogates', '[]'::jsonb)))
				FROM unnest(string_to_array(t, ',')) c))) ORDER BY i) FROM unnest(txns) WITH ORDINALITY AS u (t, i)))))
$$;
EOS

sub any
{
	return $_[ int rand @_ ];
}

sub chance
{
	return rand() < $_[0];
}

# So many appends, each in a transaction of its own.
sub appends
{
	my ($n) = @_;
	my $sql = '';

	foreach (1 .. $n)
	{
		my @txns = map {
			my %some = map { (any(@names) => 1) } 1 .. 1 + int rand 3;
			'"' . join(',', sort keys %some) . '"';
		} 1 .. 1 + int rand(chance(0.1) ? 200 : 20);
		my $next = 'coalesce(seq_current_committed_epoch() + 1, 0)' . (chance(0.07) ? ' + ' . int rand 4 : '');
		my $plans = chance(0.03) ? 9000 : int rand 200;

		$sql .= "SELECT seq_append(batch($next, '{" . join(',', @txns) . "}', $plans), true) \\g /dev/null\n";
		$sql .= 'SELECT pg_sleep(' . rand(0.02) . ") \\g /dev/null\n" if chance(0.3);
	}
	return $sql;
}

# A transaction of a worker: whatever is written has its position with it.
sub transaction
{
	my $sql = chance(0.2) ? "BEGIN ISOLATION LEVEL REPEATABLE READ;\n" : "BEGIN;\n";
	my $depth = 0;

	foreach (1 .. 1 + int rand 3)
	{
		my $max = any(1, 1, 3, 10, 50, 50, 300);
		my $kind = rand;

		if ($kind < 0.15)
		{
			$sql .= "SELECT take_or_not($max, true);\n";
		}
		elsif ($kind < 0.3)
		{
			$sql .= "SELECT take_or_not($max, false);\n";
		}
		elsif ($kind < 0.5)
		{
			$sql .= "SAVEPOINT s;\nSELECT take($max);\n";
			$sql .= "SELECT seq_commit('w');\n" if chance(0.3);
			$sql .= chance(0.5) ? "ROLLBACK TO s;\n" : "RELEASE s;\n";
		}
		else
		{
			$sql .= "SELECT take($max);\n";
		}
		$sql .= "SELECT seq_commit('w');\n" if chance(0.2);
		$sql .= 'SELECT pg_sleep(' . rand(0.02) . ");\n" if chance(0.2);
	}
	$sql .= "SELECT seq_commit('w');\n";
	$sql .= 'SELECT pg_sleep(' . rand(0.02) . ");\n" if chance(0.2);
	$sql .= chance(0.8) ? "COMMIT;\n" : chance(0.3) ? "SELECT 1/0;\nCOMMIT;\n" : "ROLLBACK;\n";
	return $sql;
}

# What a worker does for a while.
sub work
{
	my $sql = "SET lock_timeout = '20s';\n";

	# all of them, or some
	$sql .= "SELECT seq_subscribe('{$_}', 'w', queue_size => 8192);\n"
	  foreach chance(0.7) ? $all : join(',', grep { chance(0.5) } @vshards) || $all;
	foreach (1 .. 1 + int rand 12)
	{
		$sql .= transaction();
		$sql .= "BEGIN; SELECT count(*) FROM seq_receive(20, '0', 'w'); SELECT seq_rewind('w'); COMMIT;\n" if chance(0.05);
	}
	$sql .= "SELECT seq_unsubscribe(name => 'w');\n" if chance(0.1);
	return $sql;
}

# Where all of them begin.
sql($node, 'postgres', "SELECT seq_subscribe('{$all}', 'w', from_epoch => 0); SELECT seq_commit('w')");
sql($node, 'postgres', appends(20));

my $watch = session($node, 'postgres');
my $appender = session($node, 'postgres')->send(appends(50));
my @workers = map { session($node, 'postgres')->send(work()) } 1 .. 3;
my %errors;
my %unexpected;
my ($chunks, $terminated, $appliers) = (0, 0, 0);

sub collect
{
	my ($session) = @_;
	my ($output, $error) = $session->finish;

	$chunks++;
	while ($error =~ /^(?:(?:ERROR|FATAL):\s+)?([0-9A-Z]{5}): (.*)/mg)
	{
		my ($state, $message) = ($1, $2);

		$errors{$state}++;
		# taken over, moved by another, terminated, division by zero, and what comes of these
		$unexpected{"$state: $message"}++
		  unless $state =~ /^(?:55006|55000|40001|40P01|57P01|22012|25P02|3B001)$/;
	}
	return;
}

my $until = time() + $seconds;
my $next_event = time() + 0.5;
while (time() < $until)
{
	foreach my $worker (@workers)
	{
		next if $worker->running && !eval { !$worker->{run}->pumpable };
		collect($worker);
		$worker = session($node, 'postgres') if $worker->dead;
		$worker->send(work());
	}
	unless ($appender->running)
	{
		($appender->finish)[1] eq '' or fail 'an append failed';
		$appender->send(appends(50));
	}
	if (time() > $next_event)
	{
		if (chance(0.4))
		{
			$watch->query('SELECT pg_terminate_backend(applier_pid) FROM seq_state WHERE applier_pid IS NOT NULL');
			$appliers++;
		}
		else
		{
			$watch->query('SELECT pg_terminate_backend(' . any(@workers)->pid . ')');
			$terminated++;
		}
		$next_event = time() + 0.2 + rand 0.8;
	}
	usleep(5_000);
}
collect($_) foreach @workers;
is(($appender->finish)[1], '', 'the appends');
$_->quit foreach @workers, $appender;

wait_applied($node, 'postgres');
my $done_before = $watch->query('SELECT count(*) FROM effects');
my $cursors_before = $watch->query('SELECT min(version) FROM seq_cursors');

# The rest, by one more.
my $last = session($node, 'postgres');
$last->query("SELECT seq_subscribe('{$all}', 'w', queue_size => 8192)");
while ($last->query("BEGIN; SELECT take(1000); SELECT seq_commit('w') \\g /dev/null\nCOMMIT") > 0) { }
is($last->query("SELECT take(10)"), 0, 'nothing is left');

is_deeply(\%unexpected, {}, 'no errors but those of takeovers, terminations and failures on purpose');
is($watch->query('SELECT count(*) FROM (SELECT FROM effects GROUP BY vshard, epoch, "position" HAVING count(*) > 1) t'),
	0, 'nothing twice');
is($watch->query(<<"EOS"), '', 'every vshard: all of it, in order, as replayed');
SELECT vshard, count(*) FILTER (WHERE e IS DISTINCT FROM r), count(e), count(r) FROM (
	SELECT v AS vshard, unnest(ARRAY(SELECT format('%s.%s %s', epoch, "position", content) FROM effects WHERE vshard = v ORDER BY n)) AS e,
			unnest(ARRAY(SELECT format('%s.%s %s', epoch, "position", md5(t::text)) FROM seq_replay(v, 0, 1000000) t)) AS r
		FROM unnest('{$all}'::int[]) v) t
	WHERE e IS DISTINCT FROM r GROUP BY 1
EOS

# That it was a test.
my ($total, $entries, $who) = split /\|/,
  $watch->query('SELECT count(*), (SELECT count(*) FROM seq_log), count(DISTINCT who) FROM effects');
note "$chunks chunks, $total effects ($done_before in time) of $entries entries by $who sessions; "
  . "terminated $terminated workers, $appliers appliers; errors: "
  . join(', ', map { "$errors{$_} x $_" } sort keys %errors);
cmp_ok($done_before, '>', $total / 10, 'work was done in time');
cmp_ok($who, '>', 2, 'by several');
cmp_ok(($errors{'55006'} || 0) + ($errors{'40001'} || 0), '>', 5, 'there were takeovers');
cmp_ok($terminated + $appliers, '>', 2, 'and terminations');
is($watch->query('SELECT last_error FROM seq_state'), '', 'the applier had no error');
$_->quit foreach $last, $watch;
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'nothing crashed');
done_testing();
