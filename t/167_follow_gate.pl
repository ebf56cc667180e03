# The gate that seq_follow() closes, against whoever appends and submits: nothing is accepted
# that a follower could not put into its log, whoever is stopped, rolled back or ended between.
# And positions that followers have noted, against who truncates at the same time.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinFollow;
use CalvinPause;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

require_pauses();

my $db = 'postgres';
my $txn = [ [ [ 'a', 1 ], [ 'b', 2 ] ], 'ab', 1 ];
my $source = new_node('source', 'calvin_seq.max_databases' => 8, max_worker_processes => 30);
my $node = new_node('node', 'calvin_seq.follower_timeout' => '1s', 'calvin_seq.max_databases' => 8, max_worker_processes => 30, restart_after_crash => 'on');
my $to = source_of($source, $db);
my $epoch = 0;

sql($_, $db, 'CREATE DATABASE pauses') foreach $source, $node;

create_extension($_, $db) foreach $source, $node;

sub append
{
	my ($n) = @_;

	append_batches($source, $db, $epoch, $epoch + $n - 1, [$txn]);
	$epoch += $n;
	wait_applied($source, $db);
	return;
}

append(10);

# A database that has a log of its own, which it may keep.
my $number = 0;

sub fresh
{
	my $name = 'db' . ++$number;

	sql($node, $db, "CREATE DATABASE $name");
	create_extension($node, $name);
	# somebody has looked at the table, and found the gate open
	is(sent($name), 0, "$name: its own log");
	return $name;
}

# The epoch of something that is sent now.
sub sent
{
	my ($name) = @_;
	my $submission = sql($node, $name, q{SELECT seq_send('a', '1')});

	return sql($node, $name, "SELECT (seq_submission($submission, '60s')).epoch");
}

my $closed = qr/^25006: cannot submit: this database is about to follow another one/;
my $follows = qr/^25006: cannot submit: this database follows/;

sub waiting { my ($name) = @_; return sql($node, $name, 'SELECT waiting_rows FROM seq_sequencer'); }

#
# What is rolled back to a savepoint opens the gate, and whoever has done so does not open it
# for another one later
#
foreach my $end ('COMMIT', 'ROLLBACK')
{
	my $name = fresh();
	my ($one, $two) = map { session($node, $name) } 1 .. 2;

	$one->query("BEGIN; SAVEPOINT a; SELECT seq_follow('$to'); ROLLBACK TO a");
	is(sql_error($node, $name, q{SELECT seq_send('a', '2')}), '', "$end: rolled back to a savepoint: the log is its own");
	wait_for_sql($node, $name, 'SELECT waiting_rows FROM seq_sequencer', 0);
	$two->query("BEGIN; SELECT seq_follow('$to')");
	like(sql_error($node, $name, q{SELECT seq_send('a', '3')}), $closed, "$end: another one closes it");
	$one->query($end);
	like(sql_error($node, $name, q{SELECT seq_send('a', '4')}), $closed, "$end of the first: it stays closed");
	$two->query('COMMIT');
	like(sql_error($node, $name, q{SELECT seq_send('a', '5')}), $follows, "$end: and then it follows");
	is(waiting($name), 0, "$end: nothing waits that nobody can sequence");
	$_->quit foreach $one, $two;
	sql($node, $db, "DROP DATABASE $name");
}

# a savepoint that is released, or outside of which the gate was closed
{
	my $name = fresh();
	my $s = session($node, $name);

	$s->query("BEGIN; SAVEPOINT a; SAVEPOINT b; SELECT seq_follow('$to'); RELEASE b; RELEASE a");
	like(sql_error($node, $name, q{SELECT seq_send('a', '2')}), $closed, 'a savepoint is released: closed');
	$s->query("SAVEPOINT c; SELECT seq_follow('$to'); ROLLBACK TO c");
	like(sql_error($node, $name, q{SELECT seq_send('a', '2')}), $closed, 'a second seq_follow is rolled back, the first is not: closed');
	$s->query('ROLLBACK');
	is(sql_error($node, $name, q{SELECT seq_send('a', '2')}), '', 'all is rolled back: open');
	wait_for_sql($node, $name, 'SELECT waiting_rows FROM seq_sequencer', 0);
	$s->query("BEGIN; SELECT seq_follow('$to'); SAVEPOINT a; SELECT seq_unfollow(); ROLLBACK TO a");
	like(sql_error($node, $name, q{SELECT seq_send('a', '3')}), $closed, 'seq_unfollow is rolled back: closed');
	$s->query('COMMIT');
	like(sql_error($node, $name, q{SELECT seq_send('a', '3')}), $follows, 'and it follows');
	$s->quit;
	sql($node, $db, "DROP DATABASE $name");
}

# ended in between
{
	my $name = fresh();
	my $s = session($node, $name);

	$s->query("BEGIN; SELECT seq_follow('$to')");
	is(sql($node, $name, 'SELECT pg_terminate_backend(' . $s->pid . ', 60000)'), 't', 'the session is ended');
	is(sql_error($node, $name, q{SELECT seq_send('a', '2')}), '', 'the gate is open');
	eval { $s->quit };
	sql($node, $db, "DROP DATABASE $name");
}

#
# Between any two lines
#
my $p = pauses($node, 'pauses');

# who submits has looked at the table, and has not said that it is empty
{
	my $name = fresh();
	my $submitter = session($node, $name);
	my $s = session($node, $name);

	sql($node, $name, "BEGIN; SELECT seq_follow('$to') \\g /dev/null\nROLLBACK");
	$p->arm('following: looked', $submitter->pid);
	$submitter->send(q{SELECT seq_send('a', '2')});
	$p->reached('following: looked');
	$s->query("BEGIN; SELECT seq_follow('$to')");
	$p->release('following: looked');
	like(($submitter->finish)[1], $closed, 'who has found the table empty before finds the gate closed when he is counted');
	like(sql_error($node, $name, q{SELECT seq_send('a', '3')}), $closed, 'and has not opened it for others');
	$s->query('COMMIT');
	like(sql_error($node, $name, q{SELECT seq_send('a', '3')}), $follows, 'it follows');
	$_->quit foreach $s, $submitter;
	sql($node, $db, "DROP DATABASE $name");
}

# who submits is counted, and has not looked
{
	my $name = fresh();
	my $submitter = session($node, $name);

	$p->arm('submission: counted', $submitter->pid);
	$submitter->send(q{SELECT seq_send('a', '2')});
	$p->reached('submission: counted');
	like(sql_error($node, $name, "SELECT seq_follow('$to')"), qr/^55006: submissions are waiting/, 'who is counted is seen');
	$p->release('submission: counted');
	is(($submitter->finish)[1], '', 'and goes on');
	wait_for_sql($node, $name, 'SELECT waiting_rows FROM seq_sequencer', 0);

	# the gate is closed, and the count was not looked at
	my $s = session($node, $name);
	$p->arm('follow: gate closed', $s->pid);
	$s->send("BEGIN; SELECT seq_follow('$to')");
	$p->reached('follow: gate closed');
	like($submitter->error(q{SELECT seq_send('a', '3')}), $closed, 'who comes behind that is refused');
	$p->release('follow: gate closed');
	is(($s->finish)[1], '', 'and seq_follow goes on');

	# it is committed, and its session has not told so
	$p->arm('wakeup: committed', $s->pid);
	$s->send('COMMIT');
	$p->reached('wakeup: committed');
	like($submitter->error(q{SELECT seq_send('a', '4')}), $follows, 'committed, and not told: submissions are refused');
	my $appender = session($node, $name);
	$appender->send(q{INSERT INTO seq_log (entry) VALUES ('')});
	wait_for_sql($node, $name, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ '^INSERT INTO seq_log'", 1);
	$p->release('wakeup: committed');
	$s->finish;
	like(($appender->finish)[1], qr/^25006: cannot append to the log: this database follows/, 'and who appends waits until it is told');
	is(waiting($name), 0, 'nothing waits');
	$_->quit foreach $s, $submitter, $appender;
	sql($node, $db, "DROP DATABASE $name");
}

# killed with the gate closed, and everybody with it
{
	my $name = fresh();
	my $s = session($node, $name);

	$p->arm('follow: gate closed', $s->pid);
	$s->send("SELECT seq_follow('$to')");
	kill 'KILL', $p->reached('follow: gate closed');
	eval { $s->finish };
	eval { $p->quit };
	eval { $s->quit };
	wait_for_sql($node, $name, 'SELECT state IS NOT NULL FROM seq_sequencer');
	ok(sent($name) > 0, 'killed with the gate closed: open');
	sql($node, $db, "DROP DATABASE $name");
}

#
# What waits is found in the tables, though nobody has counted it
#
{
	my $name = fresh();
	my $s = session($node, $name);

	# the sequencer waits for the log, and nothing counts what is there after a restart
	$s->query(q{BEGIN; INSERT INTO seq_log (entry) VALUES ('')});
	sql($node, $name, q{SELECT seq_send('a', '2')});
	$node->stop('immediate');
	eval { $s->quit };
	$node->append_conf('postgresql.conf', "max_worker_processes = 2\nmax_logical_replication_workers = 0\ncalvin_seq.max_handlers = 0");
	start_without_sequencer();
	like(sql_error($node, $name, "SELECT seq_follow('$to')"), qr/^55006: submissions are waiting to be sequenced\nDETAIL:  There (?:is|are) 1\b/, 'after a crash, before anybody has counted');
	$node->append_conf('postgresql.conf', 'max_worker_processes = 30');
	$node->restart;
	wait_for_sql($node, $name, "SELECT (seq_decode(entry)->'EpochBatch'->>'epoch')::int FROM seq_log ORDER BY log_index DESC LIMIT 1", 1);
	pass('it gets into the log');

	# restored ones, behind a log that is not there
	sql($node, $name, q{INSERT INTO seq_inbox SELECT 1, 1, 1000, tx_class FROM seq_replay(seq_vshard('a'), 0, 0)});
	wait_for_sql($node, $name, 'SELECT count(*) FROM seq_inbox', 1);
	like(sql_error($node, $name, "SELECT seq_follow('$to')"), qr/^55006: submissions are waiting to be sequenced/, 'restored ones, too');
	sql($node, $db, "DROP DATABASE $name");
}

# With places for appliers alone.
sub start_without_sequencer
{
	my $offset = log_offset($node);

	$node->start;
	wait_for_log_line($node, qr/no background worker left for a calvin_seq/, $offset);
	is(sql($node, 'postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'calvin_seq sequencer'}), 0, 'no sequencer has a place');
	return;
}

#
# Positions: who begins with a base is respected from there on
#
$p = pauses($node, 'pauses');
my $at_source = pauses($source, 'pauses');

sub follower_of
{
	my $name = 'f' . ++$number;

	sql($node, $db, "CREATE DATABASE $name");
	create_extension($node, $name);
	return $name;
}

sub caught_up
{
	my ($name, $desc) = @_;

	wait_follows($source, $db, $node, $name);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(state($node, $name), state($source, $db), $desc);
}

append(20);
sql($source, $db, 'SELECT seq_truncate(10, true)');
{
	my $name = follower_of();

	$p->arm('following: received');
	sql($node, $name, "SELECT seq_follow('$to')");
	$p->reached('following: received');
	like(sql_error($source, $db, 'SELECT seq_truncate(25)'), qr/^55006: cannot truncate past the follower/, 'who has got the base is respected');
	is(sql($source, $db, 'SELECT log_index, lost FROM seq_followers'), '10|f', 'and is not lost');
	$p->release('following: received');
	caught_up($name, 'it goes on');
	sql($node, $db, "DROP DATABASE $name");
	sql($source, $db, 'SELECT seq_drop_follower(id) FROM seq_followers');
}

# the one who notes, while what he needs is truncated
{
	my $name = follower_of();
	my $s = session($source, $db);

	$at_source->arm('truncate: before removing', $s->pid);
	$s->send('SELECT seq_truncate(20)');
	$at_source->reached('truncate: before removing');
	$p->arm('following: received');
	sql($node, $name, "SELECT seq_follow('$to')");
	# it waits until that is committed
	wait_for_sql($source, $db, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'seq_feed_note'", 1);
	$at_source->release('truncate: before removing');
	is(($s->finish)[0], 10, 'truncated');
	$p->reached('following: received');
	is(sql($source, $db, 'SELECT log_index, lost FROM seq_followers'), '20|f', 'the newcomer begins behind it');
	$p->release('following: received');
	caught_up($name, 'and goes on');
	wait_for_sql($source, $db, 'SELECT log_index FROM seq_followers', 30);

	# the other way round: a session that has noted, and not committed
	my $id = '12345678-9abc-4def-8123-456789abcdef';
	my $t = session($source, $db);
	$t->query("BEGIN; SELECT seq_feed_note('$id', 'x', 22)");
	$s->send('SELECT seq_truncate(25)');
	wait_for_sql($source, $db, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'seq_truncate'", 1);
	$t->query('COMMIT');
	like(($s->finish)[1], qr/^55006: cannot truncate past the follower "x"/, 'who has noted before is waited for, and respected');
	# one that is known holds up nobody
	$t->query("BEGIN; SELECT seq_feed_note('$id', 'x', 23)");
	is($s->query('SELECT seq_truncate(22)'), 2, 'who goes forward is not waited for');
	$t->query('COMMIT');
	sql($source, $db, "SELECT seq_drop_follower('$id')");

	# a position can go back, as that of a follower that was restored does
	my $other = '22345678-9abc-4def-8123-456789abcdef';
	sql($source, $db, "SELECT seq_feed_note('$other', 'y', 30)");
	is(sql($source, $db, "SELECT seq_feed_note('$other', 'y', 24)"), 't', 'a position goes back');
	like(sql_error($source, $db, 'SELECT seq_truncate(28)'), qr/^55006: cannot truncate past the follower "y"/, 'and is respected');
	sql($source, $db, "SELECT seq_drop_follower('$other')");
	$_->quit foreach $s, $t;
	sql($node, $db, "DROP DATABASE $name");
	sql($source, $db, 'SELECT seq_drop_follower(id) FROM seq_followers');
}

# who holds on to a position of his holds up no other follower, nor what the server truncates
{
	my $name = follower_of();
	my $t = session($source, $db);

	$t->query("BEGIN; SELECT seq_feed_note('32345678-9abc-4def-8123-456789abcdef', 'z', 26)");
	sql($node, $name, "SELECT seq_follow('$to')");
	caught_up($name, 'a transaction that has noted does not hold others up');
	append(3);
	caught_up($name, 'nor later');
	$t->quit;
	sql($node, $db, "DROP DATABASE $name");
	sql($source, $db, 'SELECT seq_drop_follower(id) FROM seq_followers');
}

#
# Who is no copy of the source is not respected there
#
{
	my $name = fresh();

	sql($node, $name, "SELECT seq_follow('$to')");
	wait_follower_state($node, $name, 'other log');
	is(sql($source, $db, 'SELECT count(*) FROM seq_followers'), 0, 'another log: nothing is kept for it');
	sql($node, $name, "SELECT seq_follow('" . source_of($node, $name) . "')");
	wait_for_sql($node, $name, q{SELECT state = 'refused' AND last_error ~ '^the source is this database itself' FROM seq_follower});
	is(sql($node, $name, 'SELECT count(*) FROM seq_followers'), 0, 'nor by a database for itself');
}

$_->quit foreach $p, $at_source;
$_->stop foreach $node, $source;
nothing_crashed($source);
nothing_crashed($node, 1);
done_testing();
