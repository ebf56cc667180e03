# Groups under attack: what comes, ends or is removed in the middle of a fetch.  Nobody
# who could have a message sleeps beside it, and no gap is passed over in silence.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinGroup;
use CalvinPause;
use CalvinTest;
use CalvinWire;
use PostgreSQL::Test::Utils;
use Test::More;

require_pauses();

my $node = new_node('main');
my $db = 'w';

sql($node, 'postgres', "CREATE DATABASE $db");
create_extension($node, $db);

my $pauses = pauses($node, 'postgres');
my ($first, $second, $third) = map { session($node, $db) } 1 .. 3;
my $poll = numbers_of("seq_fetch_json('g')");
my $wait = numbers_of("seq_fetch_json('g', 100, '60s')");

# A new group of one partition, for what begins with "m".
sub new_group
{
	sql($node, $db, "SELECT seq_drop_group('g') FROM seq_registrations WHERE name = 'g'; SELECT seq_create_group('g', 1, collections => '{m%}')");
	return;
}

# They wait, in this order.
sub waiting_for_group
{
	my (@sessions) = @_;
	my $n = 0;

	foreach my $session (@sessions)
	{
		$session->send($wait);
		wait_waiting($node, $db, ++$n);
	}
	return;
}

# Whether a session has what it waits for, although it could wait longer.
sub gets
{
	my ($session, $expected, $desc) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	eval { wait_until(sub { !$session->running }, $desc, within(4)) };
	my $late = $session->running;
	my ($output, $error) = $session->finish;
	return is(($late ? 'late: ' : '') . "$output$error", $expected, $desc);
}

#
# What the applier had noted, and did not publish before it ended
#
sql($node, $db, "SELECT seq_create_group('epochs', 1)");
$pauses->arm('apply: entry', 0, 2);
$first->query('BEGIN');
append_batches($node, $db, 0, 3, [ [ ['m'] ] ], $first);
$first->query('COMMIT');
my $applier = $pauses->reached('apply: entry');
# from here on what comes is noted, in the middle of what is not published
is(sql($node, $db, "SELECT count(*) FROM seq_fetch('epochs')"), 0, 'the first fetch is early');
$pauses->arm('apply: told, not published');
$pauses->release('apply: entry');
is($pauses->reached('apply: told, not published'), $applier, 'the rest is noted');
sql($node, $db, "SELECT pg_terminate_backend($applier)");
wait_until(sub { !process_alive($applier) }, 'the applier ended');
$pauses->release('apply: told, not published');
wait_for_epoch($node, $db, 3);
is(sql($node, $db, "SELECT string_agg(epoch::text, ',') FROM seq_fetch('epochs')"), '0,1,2,3', 'all of it comes once it is published');
sql($node, $db, "SELECT seq_drop_group('epochs')");

#
# What is just being noted in the place of the first one that is kept
#
new_group();
send_to($node, $db, 'm/1', $_) foreach 1 .. 4;
$pauses->arm('traffic: noted, not counted', applier_pid($node, $db));
sql($node, $db, "SELECT seq_send('m/1', '5')");
$pauses->reached('traffic: noted, not counted');
is(sql($node, $db, $poll), '1,2,3,4', 'what is published is there');
$pauses->release('traffic: noted, not counted');
wait_for_sql($node, $db, 'SELECT waiting_rows = 0 FROM seq_sequencer');
wait_applied($node, $db);
is(sql($node, $db, $poll), '5', 'and then the rest');

#
# Who polls in the way of who waits: passed by, one looks again
#
new_group();
waiting_for_group($second);
# who polls looks for this, which is none of the group's
$pauses->arm('fetch: state read', $first->pid);
send_to($node, $db, 'x', 0);
wait_waiting($node, $db, 1);
$first->send($poll);
$pauses->reached('fetch: state read');
$pauses->arm('fetch: before the lock', $second->pid);
send_to($node, $db, 'm', 1);
$pauses->reached('fetch: before the lock');
$pauses->arm('fetch: partition locked', $first->pid);
$pauses->release('fetch: state read');
$pauses->reached('fetch: partition locked');
$pauses->release('fetch: before the lock');
wait_waiting($node, $db, 1);
$pauses->release('fetch: partition locked');
is(($first->finish)[0], '', 'who polls finds nothing of what he has seen');
gets($second, '1', 'whom he was in the way of has what has come');

# who is cancelled with a partition in his hands
new_group();
send_to($node, $db, 'm', 2);
$pauses->arm('fetch: partition locked', $first->pid);
$first->send($poll);
$pauses->reached('fetch: partition locked');
waiting_for_group($second);
sql($node, $db, 'SELECT pg_cancel_backend(' . $first->pid . ')');
like(($first->finish)[1], qr/^57014: /, 'cancelled with the partition locked');
$pauses->release('fetch: partition locked');
gets($second, '2', 'who waits has it');

#
# Woken, and too old for it
#
new_group();
$first->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class');
send_to($node, $db, 'm', 3);
is($third->query($poll), '3', 'a partition is moved behind a snapshot');
waiting_for_group($first, $second);
send_to($node, $db, 'm', 4);
like(($first->finish)[1], qr/^40001: /, 'who has that snapshot is woken in vain');
gets($second, '4', 'the next one has what he was woken for');
$first->query('ROLLBACK');

# too old for what was set aside, as well
$first->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class');
send_to($node, $db, 'm', 9);
my $parked = $third->query("SELECT vshard || ',' || epoch || ',' || position FROM (SELECT *, seq_park('g', vshard, epoch, position, 'late') FROM seq_fetch('g')) AS f");
like($first->error("SELECT seq_retry('g', $parked)"), qr/^40001: could not serialize access: the transaction was parked by another one/, 'what was parked behind a snapshot is not taken back in it');
$first->query('ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ');
is($first->query("SELECT count(*) FROM seq_retry('g', $parked)"), 1, 'but in the next one');
$first->query('COMMIT');
send_to($node, $db, 'm', 10);
$first->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
$parked = $first->query("SELECT vshard || ',' || epoch || ',' || position FROM (SELECT *, seq_park('g', vshard, epoch, position, 'own') FROM seq_fetch('g')) AS f");
is($first->query("SELECT count(*) FROM seq_retry('g', $parked)"), 1, 'what a transaction has parked itself it takes back');
$first->query('COMMIT');

#
# Rows that outlive what has fetched them
#
my $cursor = q{DECLARE c CURSOR FOR SELECT 10 / (payload::int - 22) FROM seq_fetch_json('g')};
new_group();
send_to($node, $db, map { ('m', $_) } 20 .. 23);
$first->query("BEGIN; $cursor; SAVEPOINT s");
like($first->error('FETCH 1 FROM c'), qr/^40001: cannot fetch through a cursor that was opened outside of the present subtransaction/,
	'a cursor does not keep what a savepoint takes back');
$first->query("ROLLBACK; BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT * FROM seq_fetch('g')");
like($first->error('COMMIT'), qr/^40001: cannot commit the position of "g" while a cursor or loop still holds rows/, 'nor what nobody has seen beyond the commit');
# the server keeps it all the same
$first->query('CLOSE h');
$first->query("BEGIN; $cursor; FETCH 1 FROM c; SAVEPOINT s");
like($first->error('FETCH 2 FROM c'), qr/^22012: /, 'one that fails');
$first->query('ROLLBACK TO s');
like($first->error('COMMIT'), qr/^40001: cannot commit the position of "g"/, 'has rows that nobody can get any more');
$first->query('CREATE TABLE seen (payload jsonb)');
$first->query(<<'EOS');
CREATE PROCEDURE each_by_itself() LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT * FROM seq_fetch_json('g') LOOP
		INSERT INTO seen VALUES (r.payload);
		COMMIT;
	END LOOP;
END $$
EOS
like($first->error('CALL each_by_itself()'), qr/^40001: cannot commit the position of "g" while/, 'a loop does not commit what it has not come to');
is($first->query('SELECT count(*) FROM seen'), 0, 'nor what it has');
is($second->query($poll), '20,21,22,23', 'all of it comes again');

#
# What is removed under a fetch
#
new_group();
send_to($node, $db, 'm', $_) foreach 5 .. 7;
my $kept = sql($node, $db, 'SELECT seq_current_committed_epoch()');
$pauses->arm('fetch: state read', $first->pid);
$first->send($poll);
$pauses->reached('fetch: state read');
cmp_ok(sql($node, $db, "SELECT seq_truncate($kept, true)"), '>', 1, 'what is fetched just now is removed by force');
$pauses->release('fetch: state read');
like(join('', $first->finish), qr/^55000: group "g" is lost/, 'nothing from behind the gap is returned');

#
# Views, while a group ends
#
foreach my $query ('SELECT count(*) FROM seq_consumers', 'SELECT seq_truncate()')
{
	# something to be removed
	send_to($node, $db, 'x', $_) foreach 1 .. 2;
	new_group();
	$pauses->arm('backlog: registrations listed', $first->pid);
	$first->send($query);
	$pauses->reached('backlog: registrations listed');
	sql($node, $db, "SELECT seq_drop_group('g')");
	$pauses->release('backlog: registrations listed');
	is(($first->finish)[1], q{}, "$query: a group that has ended is no error");
}

# while the log is truncated
send_to($node, $db, 'x', $_) foreach 1 .. 3;
new_group();
sql($node, $db, "SELECT seq_register('s', ARRAY[" . vshard_of('x') . '])');
send_to($node, $db, 'm', 11);
$pauses->arm('backlog: before the log is read', $first->pid);
$first->send("SELECT string_agg(name || ' ' || state || ' ' || epochs_behind, ', ' ORDER BY name) FROM seq_consumers WHERE name IN ('g', 's')");
$pauses->reached('backlog: before the log is read');
is($third->query($poll), '11', 'what was to be counted is processed');
send_to($node, $db, 'x', 12);
sql($node, $db, 'SELECT seq_truncate()');
$pauses->release('backlog: before the log is read');
is(join('', $first->finish), 'g live 0, s offline 1', 'and removed: it is counted anew');
sql($node, $db, "SELECT seq_unregister('s')");

#
# What is in the log, and not applied yet
#
new_group();
sql($node, $db, "SELECT seq_register('s', ARRAY[" . vshard_of('m') . '])');
send_to($node, $db, 'm', 8);
is(sql($node, $db, $poll), '8', 'nothing is left');
$pauses->arm('apply: told, not published', applier_pid($node, $db));
append_batches($node, $db, ($kept = sql($node, $db, 'SELECT seq_next_epoch()')), $kept + 1, [ [ ['m'] ] ]);
$pauses->reached('apply: told, not published');
is(sql($node, $db, "SELECT seq_pending('g'), seq_pending('s')"), '2|3', 'what comes is counted before it is applied');
is(sql($node, $db, "SELECT string_agg(epochs_behind::text, ',' ORDER BY name) FROM seq_consumers WHERE name IN ('g', 's')"), '2,3', 'and seen');
$pauses->release('apply: told, not published');
sql($node, $db, "SELECT seq_unregister('s')");

#
# A filter that cannot be what the log has
#
sql($node, 'postgres', "CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'");
create_extension($node, 'ascii');
like(sql_error($node, 'ascii', q{SELECT seq_create_group('bad', collections => ARRAY[E'\xff%'])}), qr/^22021: /, 'one that is no UTF-8 is refused');
is(sql($node, 'ascii', 'SELECT count(*) FROM seq_consumers'), 0, 'so nobody else stumbles over it');

#
# Who looks at groups does not keep them
#
my $rounds = 150;
my $groups = q{SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'calvin_seq group'};
foreach my $i (1 .. $rounds)
{
	$third->query("SELECT seq_create_group('n$i', 1)");
	$first->query('SELECT count(*) FROM seq_consumers');
	$third->query("SELECT seq_drop_group('n$i')");
}
cmp_ok($first->query($groups), '<', $rounds / 2, 'of those that have ended few are kept');

nothing_crashed($node);
$_->quit foreach $first, $second, $third, $pauses;
$node->stop;
done_testing();
