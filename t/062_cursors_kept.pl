# Durable cursors outlive sessions, crashes and dumps; prepared transactions.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('cursors', max_prepared_transactions => 5);
create_extension($node);
my ($va, $vb) = map { vshard_of($_) } qw(a b);
my $small = [ [ 'a', 'b' ], 'ab', 1 ];
my $subscribe = "SELECT seq_subscribe('{$va,$vb}', 'w', queue_size => 8192)";
my $epochs = "SELECT string_agg(vshard || ':' || epoch, ' ' ORDER BY vshard, epoch) FROM seq_receive(1000, '0', 'w')";
my $cursors = 'SELECT name, vshard, epoch, position, version, committed_at FROM seq_cursors ORDER BY 1, 2';

sub keys_of
{
	my ($vshard, @epochs) = @_;

	return join ' ', map { "$vshard:$_" } @epochs;
}

sub both
{
	my (@epochs) = @_;

	return join ' ', map { keys_of($_, @epochs) } sort { $a <=> $b } $va, $vb;
}

append_batches($node, 'postgres', 0, 4, [$small]);
wait_for_epoch($node, 'postgres', 4);

#
# Crashes
#
sql($node, 'postgres', <<"EOS");
SELECT seq_subscribe('{$va,$vb}', 'w', from_epoch => 0);
BEGIN; SELECT count(*) FROM seq_receive(4, '0', 'w'); SELECT seq_commit('w'); COMMIT;
EOS
my $before = sql($node, 'postgres', $cursors);
my $s = session($node, 'postgres');
$s->query($subscribe);
$s->query("BEGIN; $epochs; SELECT seq_commit('w')");
$node->stop('immediate');
$node->start;
wait_for_applier($node, 'postgres');
is(sql($node, 'postgres', $cursors), $before, 'a crash takes no committed cursor away, and no other one remains');
$s = session($node, 'postgres');
$s->query($subscribe);
my $rest = sql($node, 'postgres', "SELECT string_agg(r.vshard || ':' || r.epoch, ' ' ORDER BY r.vshard, r.epoch) FROM seq_cursors c, seq_replay(c.vshard, c.epoch, 100) r WHERE (r.epoch, r.position) >= (c.epoch, c.position)");
is($s->query("BEGIN; $epochs; SELECT seq_commit('w') \\g /dev/null\nCOMMIT"), $rest, 'a session continues behind it');
append_batches($node, 'postgres', 5, 5, [$small]);
$node->stop('fast');
$node->start;
wait_for_applier($node, 'postgres');
append_batches($node, 'postgres', 6, 6, [$small]);
wait_for_epoch($node, 'postgres', 6);
$s = session($node, 'postgres');
$s->query($subscribe);
is($s->query("BEGIN; $epochs; SELECT seq_commit('w') \\g /dev/null\nCOMMIT"), both(5, 6), 'restarts lose nothing of quiet vshards');

#
# Prepared transactions: the cursor goes with the effects
#
sql($node, 'postgres', 'CREATE TABLE effects (n int GENERATED ALWAYS AS IDENTITY, key text)');
my $process = "INSERT INTO effects (key) SELECT vshard || ':' || epoch FROM seq_receive(1000, '0', 'w')";

append_batches($node, 'postgres', 7, 7, [$small]);
wait_for_epoch($node, 'postgres', 7);
$s->query("BEGIN; $process; SELECT seq_commit('w') \\g /dev/null\nPREPARE TRANSACTION 'p'");
is($s->query($epochs), '', 'what a prepared transaction has received does not come again');
$s->query("COMMIT PREPARED 'p'");
append_batches($node, 'postgres', 8, 8, [$small]);
wait_for_epoch($node, 'postgres', 8);
is($s->query("BEGIN; $epochs; SELECT seq_commit('w') \\g /dev/null\nCOMMIT"), both(8), 'and after its commit the session goes on');

# rolled back
append_batches($node, 'postgres', 9, 9, [$small]);
wait_for_epoch($node, 'postgres', 9);
$s->query("BEGIN; $process; SELECT seq_commit('w') \\g /dev/null\nPREPARE TRANSACTION 'p'");
append_batches($node, 'postgres', 10, 10, [$small]);
wait_for_epoch($node, 'postgres', 10);
$s->query("ROLLBACK PREPARED 'p'");
$s->query("BEGIN; $process");
like($s->error("SELECT seq_commit('w')"), qr/^40001: /, 'after its rollback the session is told');
$s->query('ROLLBACK');
is($s->query("BEGIN; $epochs; SELECT seq_commit('w') \\g /dev/null\nCOMMIT"), both(9, 10), 'and goes back for it');

# in the meantime another session takes over, and has to wait for it
append_batches($node, 'postgres', 11, 11, [$small]);
wait_for_epoch($node, 'postgres', 11);
foreach my $end ('ROLLBACK', 'COMMIT')
{
	my $next = $end eq 'COMMIT' ? 12 : 11;

	$s->query("BEGIN; $process; SELECT seq_commit('w') \\g /dev/null\nPREPARE TRANSACTION 'p'");
	my $heir = session($node, 'postgres');
	$heir->query($subscribe);
	$heir->query("BEGIN; $process");
	$heir->send("SELECT seq_commit('w')");
	wait_for_sql($node, 'postgres', 'SELECT wait_event_type FROM pg_stat_activity WHERE pid = ' . $heir->pid, 'Lock');
	sql($node, 'postgres', "$end PREPARED 'p'");
	my ($output, $error) = $heir->finish;

	if ($end eq 'COMMIT')
	{
		like($error, qr/^40001: /, 'a takeover while it is prepared, which is then committed');
	}
	else
	{
		is("$output $error", '2 ', 'a takeover while it is prepared, which is then rolled back');
	}
	$heir->query('COMMIT');
	append_batches($node, 'postgres', $next + 1, $next + 1, [$small]);
	wait_for_epoch($node, 'postgres', $next + 1);
	$heir->query("SELECT seq_unsubscribe(name => 'w')") if $end eq 'ROLLBACK';
	is($heir->query("BEGIN; $process; SELECT seq_commit('w') \\g /dev/null\nCOMMIT"), '', 'goes on') if $end eq 'COMMIT';
	$s->quit;
	$s = session($node, 'postgres');
	$s->query($subscribe);
	$heir->quit;
}
is($s->query($epochs), '', 'nothing is left');
is($s->query("SELECT string_agg(key, ' ' ORDER BY n) FROM effects"), join(' ', both(7), both(11), both(12), both(13)), 'each had its effects once');

# without a cursor, it is committed with the transaction as well
$s->query("SELECT seq_subscribe('{$va}', 'first', from_epoch => 12)");
$s->query("BEGIN; SELECT count(*) FROM seq_receive(1, '0', 'first'); SELECT seq_commit('first'); PREPARE TRANSACTION 'p'");
$s->query("COMMIT PREPARED 'p'");
is($s->query("SELECT epoch FROM seq_receive(1, '0', 'first')"), 13, 'a first cursor in a prepared transaction');
is($s->query("SELECT seq_commit('first')"), 1, 'is one to continue from');

# and if it is rolled back, there is none that tells where the stream was
$s->query("SELECT seq_subscribe('{$va}', 'second', from_epoch => 12)");
$s->query("SELECT seq_drop_cursor('second')");
$s->query("BEGIN; SELECT count(*) FROM seq_receive(1, '0', 'second'); SELECT seq_commit('second'); PREPARE TRANSACTION 'p'");
like(sql_error($node, 'postgres', 'SELECT seq_truncate(13)'), qr/^55006: .*"second".*\n.*from epoch 12 on/,
	'what it has received may be needed again');
$s->query("ROLLBACK PREPARED 'p'");
$s->query("BEGIN; SELECT count(*) FROM seq_receive(1, '0', 'second')");
like($s->error("SELECT seq_commit('second')"), qr/^40001: /, 'the session is told of the rollback of its first cursor');
$s->query('ROLLBACK');
is($s->query("BEGIN; SELECT string_agg(epoch::text, ' ') FROM seq_receive(10, '0', 'second'); SELECT seq_commit('second') \\g /dev/null\nCOMMIT"),
	'12 13', 'and goes back to where it began');

# Without seq_commit, nobody would come back for what was received if it were
# rolled back later: refused, like other things that belong to the session.
$s->query("SELECT seq_subscribe('{$va}', 'other', from_epoch => 12)");
$s->query("BEGIN; SELECT count(*) FROM seq_receive(1, '0', 'other')");
like($s->error("PREPARE TRANSACTION 'p'"), qr/^0A000: /, 'a transaction that only receives cannot be prepared');
is($s->query("SELECT epoch FROM seq_receive(1, '0', 'other')"), 12, 'and is rolled back');
$s->query("BEGIN; SELECT seq_commit('other'); SELECT count(*) FROM seq_receive(1, '0', 'other')");
like($s->error("PREPARE TRANSACTION 'p'"), qr/^0A000: /, 'nor one that receives after seq_commit');
$s->query("BEGIN; SAVEPOINT s; SELECT count(*) FROM seq_receive(1, '0', 'other'); ROLLBACK TO s; PREPARE TRANSACTION 'p'");
$s->query("ROLLBACK PREPARED 'p'");
$s->query("BEGIN; SELECT count(*) FROM seq_receive(0, '0', 'other'); PREPARE TRANSACTION 'p'");
$s->query("COMMIT PREPARED 'p'");
# without a cursor, a rollback leads back to the start of its transaction: 13 is left
is($s->query("SELECT string_agg(epoch::text, ' ') FROM seq_receive(10, '0', 'other')"), '13', 'one that received nothing can');
$s->query("SELECT seq_subscribe('{$va}', 'bare', lossless => false)");
append_batches($node, 'postgres', 14, 14, [$small]);
wait_for_epoch($node, 'postgres', 14);
$s->query("BEGIN; SELECT count(*) FROM seq_receive(1, '0', 'bare'); PREPARE TRANSACTION 'p'");
$s->query("ROLLBACK PREPARED 'p'");
is($s->query("SELECT count(*) FROM seq_receive(1, '0', 'bare')"), 0, 'and one that received from a bare queue');

# and with an error in it
like($s->error("BEGIN; SELECT count(*) FROM seq_receive(1, '0', 'first'); SELECT seq_commit('first'); SELECT 1/0"), qr/^22012/, 'an error before it is prepared');
$s->query("PREPARE TRANSACTION 'p'");
is($s->query("SELECT seq_commit('first')"), 0, 'is a rollback');
$s->quit;

#
# Dumps
#
sql($node, 'postgres', "SELECT seq_subscribe('{5,$va}', 'it''s \"w\"', from_epoch => 3, from_position => 7); SELECT seq_commit('it''s \"w\"')");
$before = sql($node, 'postgres', $cursors);
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
foreach my $format (qw(c p))
{
	my $db = "restored_$format";

	$node->command_ok([ 'pg_dump', '-F', $format, '-f', "$dump.$format", $node->connstr('postgres') ], "pg_dump -F $format");
	sql($node, 'postgres', "CREATE DATABASE $db");
	$node->command_ok($format eq 'p' ?
		  [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.$format", $node->connstr($db) ] :
		  [ 'pg_restore', '--exit-on-error', '-d', $node->connstr($db), "$dump.$format" ],
		"restored in $db");
	is(sql($node, $db, $cursors), $before, 'with all cursors');
	wait_for_epoch($node, $db, 14);
	append_batches($node, $db, 15, 15, [$small]);
	wait_for_epoch($node, $db, 15);
	$s = session($node, $db);
	$s->query($subscribe);
	is($s->query("BEGIN; $epochs; SELECT seq_commit('w') \\g /dev/null\nCOMMIT"), both(14, 15), 'a consumer continues there');
	$s->quit;
}

# what went to the clone has not moved the original
is(sql($node, 'postgres', $cursors), $before, 'the original is what it was');
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP/, 'nothing crashed');
done_testing();
