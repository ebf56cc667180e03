# Registered consumers: durable from the commit on, at the log's end as of that;
# whoever registers, commits, truncates and appends at the same time.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinPause;
use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

require_pauses();

my $db = 'postgres';
my $node = new_node('registered', max_prepared_transactions => 4);
create_extension($node, $db);
my ($va, $vb) = map { vshard_of($_) } qw(a b);
my $epoch = 0;
my $pauses = pauses($node, $db);
my $watch = session($node, $db);
my ($one, $other) = map { session($node, $db) } 1 .. 2;

sub append
{
	my ($n, $on) = @_;

	append_batches($node, $db, $epoch, $epoch + $n - 1, [ [ [ 'a', 'b' ], 'ab', 1 ] ], $on);
	$epoch += $n;
	wait_for_epoch($node, $db, $epoch - 1) unless $on;
	return;
}

# What was sent on a session waits for a lock.
sub waits
{
	my ($session, $desc) = @_;
	my $pid = $session->pid;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(
		wait_until(
			sub { $watch->query("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid") eq 't' },
			"$desc: waits"),
		"$desc: waits");
}

sub position
{
	my ($name) = @_;

	return $watch->query("SELECT string_agg(DISTINCT concat_ws('/', epoch, nullif(position, 0)), ' ') FROM seq_cursors WHERE name = '$name'");
}

# Everything that comes to a name from where it stands.
sub received
{
	my ($name) = @_;

	$watch->query("SELECT seq_subscribe('{$va}', '$name')");
	my $epochs = $watch->query("SELECT string_agg(epoch::text, ' ') FROM seq_receive(1000, '0', '$name')");
	$watch->query("SELECT seq_unsubscribe(name => '$name')");
	return $epochs;
}

#
# The end of the log, as of the commit
#
append(3);
$one->query("BEGIN; SELECT seq_register('grown', '{$va}')");
append(3);
$one->query('COMMIT');
is(position('grown'), $epoch, 'what was committed between the call and the commit is not for it');
append(1);
is(received('grown'), $epoch - 1, 'what comes after is');

# Nobody appends between the look at the end and the commit.
$one->query("BEGIN; SELECT seq_register('tight', '{$va,$vb}')");
append(1);
$pauses->arm('begin at end: moved', $one->pid);
$one->send('COMMIT');
$pauses->reached('begin at end: moved');
$other->send("SELECT seq_append('\\x" . batch_hex($epoch, 0, [ ['a'], 'ab', 1 ]) . "')");
waits($other, 'an append while one commits that registers');
$pauses->release('begin at end: moved');
$one->finish;
$other->finish;
is(position('tight'), $epoch, 'at the end as of its commit');
wait_for_epoch($node, $db, $epoch);
is(received('tight'), $epoch++, 'the append behind it comes');

# Whoever appends is waited for, by the commit; and either way it is exact.
foreach my $end ('COMMIT', 'ROLLBACK')
{
	$other->query('BEGIN');
	append(2, $other);
	$one->query("BEGIN; SELECT seq_register('after $end', '{$va}'); SELECT seq_create_group('group after $end', 2)");
	$one->send('COMMIT');
	waits($one, 'a commit that registers, while one appends');
	$other->query($end);
	$one->finish;
	$epoch -= 2 if $end eq 'ROLLBACK';
	is(position("after $end"), $epoch, "behind what another session appended: $end");
	is($watch->query("SELECT DISTINCT epoch FROM seq_group_positions JOIN seq_registrations USING (id) WHERE name = 'group after $end'"),
		$epoch, 'so is a group');
}
wait_for_epoch($node, $db, $epoch - 1);

# As of which commit: that of the outermost transaction.
$one->query("BEGIN; SAVEPOINT s; SELECT seq_register('nested', '{$va}'); RELEASE s");
append(1);
$one->query("SAVEPOINT t; SELECT seq_register('undone', '{$va}'); ROLLBACK TO t; COMMIT");
is(position('nested'), $epoch, 'a savepoint that was released');
is(position('undone'), '', 'and one that was rolled back');
like($watch->error('SELECT seq_pending($$undone$$)'), qr/^42704: /, 'there is none');

# From an epoch on, it can be prepared.
$one->query("BEGIN; SELECT seq_register('prepared', '{$va}', 5); PREPARE TRANSACTION 'p'");
append(1);
$other->send('SELECT seq_truncate(6)');
waits($other, 'a truncation, for one that was prepared');
$one->query("COMMIT PREPARED 'p'");
my (undef, $error) = $other->finish;
like($error, qr/^55006: cannot truncate past the durable cursor "prepared" of vshard $va\b/, 'which it then sees');
is(position('prepared'), 5, 'from that epoch on');
$watch->query(q{SELECT seq_unregister('prepared')});

#
# Truncation at the same time
#
$one->query("BEGIN; SELECT seq_register('old', '{$va}', 4)");
$other->send('SELECT seq_truncate(5)');
waits($other, 'a truncation');
$one->query('ROLLBACK');
($_, $error) = $other->finish;
is($error, '', 'nobody has registered');
foreach my $end ('ROLLBACK', 'COMMIT')
{
	$other->query('BEGIN; SELECT seq_truncate(6)');
	$one->send("SELECT seq_register('old', '{$va}', 5)");
	waits($one, 'who registers within what goes');
	$other->query($end);
	($_, $error) = $one->finish;
	like($error, $end eq 'COMMIT' ? qr/^55000: epoch 5 was truncated from the log/ : qr/^$/, "what becomes of it decides: $end");
	is(position('old'), $end eq 'COMMIT' ? '' : 5, 'where it stands');
	$watch->query(q{SELECT seq_unregister('old')}) if $end eq 'ROLLBACK';
}

# a group that is used before its commit has nothing taken from under it
sql($node, $db, 'CREATE DATABASE early');
create_extension($node, 'early');
my ($maker, $truncating) = map { session($node, 'early') } 1 .. 2;
$maker->query("BEGIN; SELECT seq_create_group('early', 1)");
append_batches($node, 'early', 0, 2, [ [ ['a'], 'ab', 1 ] ]);
wait_for_epoch($node, 'early', 2);
is($maker->query("SELECT epoch FROM seq_fetch('early', 1)"), 0, 'the transaction that makes a group fetches for it');
$truncating->send('SELECT seq_truncate(2)');
waits($truncating, 'a truncation, for that');
$maker->query('COMMIT');
($_, $error) = $truncating->finish;
like($error, qr/^55006: cannot truncate past the group "early"/, 'which it sees then');
is($truncating->query("SELECT string_agg(epoch::text, ' ' ORDER BY epoch) FROM seq_fetch('early')"), '1 2', 'the rest is there');
$_->quit foreach $maker, $truncating;

#
# The name at the same time
#
$watch->query('CREATE ROLE mallory LOGIN; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO mallory');
my $mallory = session($node, $db, user => 'mallory');
$mallory->query("SELECT seq_subscribe('{$va}', 'name', from_epoch => $epoch - 2)");
$mallory->query("BEGIN; SELECT count(*) FROM seq_receive(1, '0', 'name'); SELECT seq_commit('name')");
$one->send("SELECT seq_register('name', '{$va}')");
waits($one, 'who registers a name of which a cursor is being stored');
$mallory->query('COMMIT');
($_, $error) = $one->finish;
like($error, qr/^55000: there are durable cursors of the name "name" already/, 'is told');
$mallory->query(q{SELECT seq_drop_cursor('name')});
$one->query("BEGIN; SELECT seq_register('name', '{$va}')");
$mallory->send(q{SELECT seq_commit('name')});
waits($mallory, 'who stores a cursor of a name that is being registered');
$one->query('COMMIT');
($_, $error) = $mallory->finish;
like($error, qr/^42501: permission denied for consumer "name"/, 'does not');
is(position('name'), $epoch, 'nothing has moved');
$one->query("SELECT seq_subscribe('{$va}', 'name')");
like($mallory->error(q{SELECT * FROM seq_receive(1, '0', 'name')}), qr/^55006: /, 'a member takes the stream over');
append(2);
$one->query(q{BEGIN; SELECT count(*) FROM seq_receive(1, '0', 'name'); SELECT seq_commit('name')});
$other->send(q{SELECT seq_unregister('name')});
waits($other, 'seq_unregister, for who has committed a position');
$one->query('COMMIT');
$other->finish;
is(position('name'), '', 'then it has gone');
# two at a time
$one->query("BEGIN; SELECT seq_register('two', '{$va}')");
$other->send("SELECT seq_register('two', '{$vb}')");
waits($other, 'who registers what another one does');
$one->query('COMMIT');
($_, $error) = $other->finish;
like($error, qr/^42710: "two" is registered already/, 'comes too late');
$one->query(q{BEGIN; SELECT seq_unregister('two')});
$other->send(q{SELECT seq_unregister('two')});
waits($other, 'two that unregister');
$one->query('COMMIT');
($_, $error) = $other->finish;
like($error, qr/^42704: /, 'one has');

# The theft: with README's grants, and a live consumer.
$one->query("SELECT seq_register('billing', '{$va}'); SELECT seq_subscribe('{$va}', 'billing')");
foreach my $sql ("SELECT seq_subscribe('{$va}', 'billing', from_epoch => 10000000)",
	"SELECT seq_subscribe('{$va}', 'billing')", q{SELECT seq_commit('billing')}, q{SELECT seq_drop_cursor('billing')},
	q{SELECT seq_unregister('billing')})
{
	like($mallory->error($sql), qr/^42501: permission denied for consumer "billing"\n/, "refused: $sql");
}
append(1);
is($one->query(q{SELECT count(*) FROM seq_receive(10, '0', 'billing')}), 1, 'its owner has noticed nothing');
like($one->error("SELECT seq_subscribe('{$va}', 'billing', from_epoch => 10000000)"),
	qr/^22023: from_epoch 10000000 is beyond the end of the log/, 'nor is he to be ten million epochs ahead');
is($watch->query(q{SELECT epochs_behind FROM seq_consumers WHERE name = 'billing'}), 1, 'which is not committed yet');

#
# A crash in between
#
$one->query("BEGIN; SELECT seq_register('crashed', '{$va}')");
append(1);
$pauses->arm('begin at end: moved', $one->pid);
$one->send('COMMIT');
$pauses->reached('begin at end: moved');
$node->stop('immediate');
$node->start;
wait_for_applier($node, $db);
$_->quit foreach $pauses, $watch, $one, $other, $mallory;
$watch = session($node, $db);
is(position('crashed'), '', 'what was not committed is not registered');
append(1);
is(position('grown'), 6, 'what was, is');
is($watch->query(q{SELECT string_agg(name, ' ' ORDER BY name) FROM seq_registrations WHERE kind = 'stream'}),
	'after COMMIT after ROLLBACK billing grown nested tight', 'all of them');

#
# Without preload: a migration may register
#
$watch->quit;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
$watch = session($node, $db);
$watch->query("SELECT seq_register('without', '{$va}'); SELECT seq_create_group('group without')");
is(position('without'), $epoch, 'at the end');
$watch->query(q{SELECT seq_unregister('nested'); SELECT seq_drop_group('group without')});
like($watch->error("SELECT seq_subscribe('{$va}', 'without')"), qr/^55000: /, 'who subscribes needs it');
$watch->quit;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'calvin_seq'\n");
$node->restart;
wait_for_applier($node, $db);
$watch = session($node, $db);
append(2);
is(received('without'), join(' ', $epoch - 2, $epoch - 1), 'from there on');
$watch->quit;

$node->stop;
nothing_crashed($node);
done_testing();
