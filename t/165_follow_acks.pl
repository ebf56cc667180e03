# What consumers acknowledge at a follower: stored in their transactions, in the source's log
# once, and complete on both sides, whoever ends meanwhile.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinFollow;
use CalvinPause;
use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $source = new_node('source', -streaming => 1);
my $follower = new_node('follower', 'calvin_seq.follower_timeout' => '3s', restart_after_crash => 'on', max_prepared_transactions => 2);
my ($va, $vb) = map { vshard_of($_) } 'a', 'b';
my $epoch = 0;

create_extension($_, $db) foreach $source, $follower;

# Batches of one transaction each, for both vshards.
sub append
{
	my ($n) = @_;

	append_batches($source, $db, $epoch, $epoch + $n - 1, [ [ [ 'a', 'b' ], 'ab', 1 ] ]);
	$epoch += $n;
	wait_follows($source, $db, $follower, $db);
	return;
}

sub acks { my ($node) = @_; return sql($node, $db, q{SELECT count(*) FROM seq_log WHERE kind = 'completion_ack'}); }
sub wait_acks { my ($n) = @_; return wait_for_sql($follower, $db, q{SELECT (SELECT count(*) FROM seq_log WHERE kind = 'completion_ack'), acks_waiting FROM seq_follower}, "$n|0"); }

follow($follower, $db, source_of($source, $db));
append(10);

#
# In the transaction of who calls
#
my $s = session($follower, $db);
$s->query("CREATE TABLE effects (epoch bigint); BEGIN; INSERT INTO effects VALUES (0); SELECT seq_ack(0, 0, $va); ROLLBACK");
is(follower($follower, $db, 'acks_waiting'), 0, 'rolled back: nothing');
$s->query("BEGIN; SAVEPOINT x; SELECT seq_ack(0, 0, $va); ROLLBACK TO x; COMMIT");
is(follower($follower, $db, 'acks_waiting'), 0, 'rolled back to a savepoint: nothing');
is($s->query("BEGIN; INSERT INTO effects VALUES (0); SELECT seq_ack(0, 0, $va) IS NULL"), 't', 'its log_index is not known yet');
is(acks($source), 0, 'not before it commits');
$s->query('COMMIT');
wait_acks(1);
is(acks($source), 1, 'it is in the source\'s log');
is(sql($_, $db, 'SELECT acked, complete FROM seq_completion(0, 0)'), "{$va}|f", $_->name . ': acknowledged by one') foreach $source, $follower;
my @waiting = map { session($_, $db) } $source, $follower;
$_->send("SELECT seq_wait_for_completion(0, 0, '60s')") foreach @waiting;
$s->query("SELECT seq_ack(0, 0, $vb)");
is(($_->finish)[0], 't', 'who waits for the completion is told') foreach @waiting;
$_->quit foreach @waiting;
wait_acks(2);

#
# Once
#
$s->query("SELECT seq_ack(0, 0, $va); SELECT seq_ack(0, 0, $vb)");
$s->query("BEGIN; SELECT seq_ack(1, 0, $va), seq_ack(1, 0, $va); COMMIT");
wait_acks(3);
is(acks($source), 3, 'what is acknowledged already is no entry more');
like(sql_error($follower, $db, 'SELECT seq_ack(1, 0, 1024)'), qr/^22023: /, 'nonsense is refused');

# two that do not see each other
{
	my $t = session($follower, $db);

	$s->query("BEGIN; SELECT seq_ack(2, 0, $va)");
	$t->query("BEGIN; SELECT seq_ack(2, 0, $va); COMMIT");
	$s->query('COMMIT');
	$t->quit;
	wait_acks(4);
	is(acks($source), 4, 'by two transactions at once');
}

# many
append(1500);
$s->query("SELECT count(seq_ack(e, 0, v)) FROM generate_series(10, 1509) e, unnest('{$va,$vb}'::int[]) v");
wait_acks(3004);
is(sql($source, $db, 'SELECT count(*) FROM generate_series(10, 1509) e WHERE NOT (seq_completion(e, 0)).complete'), 0, '3000 in one transaction');
is_copy($source, $db, $follower, $db, 'the logs');

# prepared
$s->query("BEGIN; SELECT seq_ack(3, 0, $va); PREPARE TRANSACTION 'p'");
$s->query("COMMIT PREPARED 'p'");
wait_acks(3005);
pass('in a prepared transaction');

#
# The source is away
#
$source->stop('immediate');
wait_follower_state($follower, $db, 'unreachable');
$s->query("SELECT seq_ack(4, 0, $va)");
$s->query("SELECT seq_ack(4, 0, $vb)");
is(follower($follower, $db, 'acks_waiting'), 2, 'they wait');
$s->quit;
$follower->stop('immediate');
$follower->start;
is(follower($follower, $db, 'acks_waiting'), 2, 'also when the follower has crashed');
$source->start;
wait_for_applier($source, $db);
wait_acks(3007);
is(acks($source), 3007, 'and arrive, once');

#
# The worker ends when the source has answered, and it has not come back
#
SKIP:
{
	skip 'not a build with pause points', 2 unless $ENV{CALVIN_PAUSE_POINTS};
	sql($follower, $db, 'CREATE DATABASE beside');
	my $p = pauses($follower, 'beside');

	$p->arm('shipping: answered', follower($follower, $db, 'pid'));
	sql($follower, $db, "SELECT seq_ack(5, 0, $va)");
	my $pid = $p->reached('shipping: answered');
	is(acks($source), 3008, 'the source has it');
	kill 'KILL', $pid;
	eval { $p->quit };
	wait_acks(3008);
	is(acks($source), 3008, 'and once after the worker was killed');
}

#
# A source that cannot append
#
$source->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($source, 'backup', has_streaming => 1);
$standby->start;
wait_for_applier($standby, $db);
sql($follower, $db, q{SELECT seq_follow('} . source_of($standby, $db) . q{')});
wait_follower_state($follower, $db, 'following');
my $before = acks($source);
sql($follower, $db, "SELECT seq_ack(6, 0, $va)");
wait_for_sql($follower, $db, q{SELECT last_error ~ '^acknowledgements cannot be shipped: .*server is in hot standby mode' FROM seq_follower});
is(follower($follower, $db, 'acks_waiting, state'), '1|following', 'following a standby they wait');
$source->stop('immediate');
$standby->promote;
wait_acks($before + 1);
is(acks($standby), $before + 1, 'until it is promoted');

#
# The end of it
#
$standby->stop('immediate');
sql($follower, $db, "SELECT seq_ack(7, 0, $va), seq_ack(7, 0, $vb)");
sql($follower, $db, 'SELECT seq_unfollow()');
is(sql($follower, $db, 'SELECT complete FROM seq_completion(7, 0)'), 't', 'what has not come back is of the own log then');
is(sql($follower, $db, 'SELECT count(*) FROM seq_outgoing_acks'), 0, 'and waits no more');

$follower->stop;
nothing_crashed($_, 1) foreach $source, $follower, $standby;
done_testing();
