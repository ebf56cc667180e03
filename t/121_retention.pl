# The primary truncates by itself: what is old enough and needed by nobody, and what
# is too old to be kept for consumers.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinPause;
use CalvinTest;
use Carp;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

require_pauses();

my $db = 'postgres';
my $node = new_node('primary', -streaming => 1, max_wal_senders => 5);
create_extension($node, $db);
my ($va, $vb, $vc) = map { vshard_of($_) } qw(a b c);
my $epoch = 0;
my $watch = session($node, $db);

# Batches of the next epochs, as if appended that long ago.
sub append
{
	my ($n, $age, $collection) = @_;

	$watch->query('INSERT INTO seq_log (entry, appended_at) VALUES '
		  . join(', ', map { "('\\x" . batch_hex($_, 1000, [ [ $collection || 'a' ], 'ab', 1 ]) . "', now() - interval '$age')" } $epoch .. $epoch + $n - 1));
	$epoch += $n;
	wait_for_epoch($node, $db, $epoch - 1);
	return;
}

# Settings, as they are when nothing is given.
sub set
{
	my (%settings) = @_;
	my %all = ('calvin_seq.retention' => '0', 'calvin_seq.max_consumer_lag' => '0', %settings);

	$watch->query("ALTER SYSTEM SET $_ = '$all{$_}'") foreach sort keys %all;
	$watch->query('SELECT pg_reload_conf()');
	foreach my $name (sort keys %all)
	{
		wait_until(sub { $watch->query("SELECT current_setting('$name') = '$all{$name}' OR (SELECT setting || 's' FROM pg_settings WHERE name = '$name') = '$all{$name}'") eq 't' }, $name);
	}
	return;
}

# The worker shall look now, not after a while.
my $looks = 0;

sub look_again { return set('calvin_seq.retention' => '1h', 'calvin_seq.max_consumer_lag' => 1_000_000 + $looks++ . 's'); }

# The log begins with one batch of long ago.
sub begin_old
{
	set();
	append(2, '20 hours', 'c');
	$watch->query('SELECT seq_truncate()');
	croak 'somebody needs the log' if first_epoch() != $epoch - 1;
	return;
}

sub first_epoch { return $watch->query('SELECT min(epoch) FROM seq_log'); }

sub begins_with
{
	my ($first, $desc) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(wait_for_sql($node, $db, 'SELECT min(epoch) FROM seq_log', $first), $desc);
}

sub state_of_consumer
{
	my ($name) = @_;

	return $watch->query("SELECT state FROM seq_consumers WHERE name = '$name'");
}

# When the sequencer has come to rest last.
sub rest_since
{
	return $watch->query("SELECT state_change FROM pg_stat_activity WHERE backend_type = 'calvin_seq sequencer' AND state = 'idle'");
}

#
# Off by default; by age, with no traffic, in many steps
#
is($watch->query(q{SELECT string_agg(name || '=' || setting || coalesce(unit, ''), ' ' ORDER BY name) FROM pg_settings WHERE name IN ('calvin_seq.retention', 'calvin_seq.max_consumer_lag')}),
	'calvin_seq.max_consumer_lag=0s calvin_seq.retention=0s', 'off, and in seconds');
append(10, '3 hours');
append(5, '90 minutes');
append(5, '1 minute');
is(first_epoch(), 0, 'everything is kept');
set('calvin_seq.retention' => '2h');
begins_with(10, 'what is older has gone, with nothing coming in');
set('calvin_seq.retention' => '1h');
begins_with(15, 'a new setting counts at once');
is($watch->query('SELECT last_applied_epoch FROM seq_snapshots WHERE base'), 14, 'and the base is its end');

# Nothing to do: it sleeps, whatever is appended.
my $rest = rest_since();
append(20, '1 second');
append(20, '1 second');
is(rest_since(), $rest, 'nothing wakes it up while nothing is old enough');
is(first_epoch(), 15, 'and nothing has gone');
set('calvin_seq.retention' => '1s');
begins_with($epoch - 1, 'all but the last batch');
ok(wait_for_sql($node, $db, "SELECT state = 'idle' FROM pg_stat_activity WHERE backend_type = 'calvin_seq sequencer'"), 'it rests');
# by itself, at the time
append(3, '0 seconds');
begins_with($epoch - 1, 'what was too young is removed when it is not');

# Many steps; meanwhile what is submitted is put into the log.
set();
$watch->query("SELECT seq_register('feed', '{$va}')");
$watch->query(qq{DO \$\$ BEGIN FOR i IN 1..4000 LOOP PERFORM seq_append_json('{"EpochBatch": {"txns": []}}'); END LOOP; END \$\$});
$epoch += 4000;
set('calvin_seq.retention' => '1s');
my $submission = $watch->query(q{SELECT seq_send('a', '{"n": 1}')});
is($watch->query("SELECT epoch FROM seq_submission($submission, '60s')"), $epoch++, 'it comes to the log');
begins_with($epoch - 1, 'everything goes');
is($watch->query(q{SELECT epoch FROM seq_cursors WHERE name = 'feed'}), $epoch - 1, 'a quiet consumer is moved along');
is($watch->query(q{SELECT seq_pending('feed')}), 1, 'and lacks nothing');
$watch->query(q{SELECT seq_unregister('feed')});

#
# Who needs something
#
begin_old();
my $first = $epoch;
$watch->query("SELECT seq_register('stream', '{$va,$vb}'); SELECT seq_create_group('group', 4); SELECT seq_create_group('filtered', collections => '{b}')");
append(3, '5 hours');
append(3, '5 hours', 'b');
append(3, '5 hours', 'c');
append(3, '1 second', 'c');
look_again();
begins_with($first, 'up to what a consumer needs');
$watch->query("SELECT seq_subscribe('{$va,$vb}', 'stream')");
is($watch->query(q{SELECT count(*) FROM seq_receive(3, '0', 'stream')}), 3, 'some of it is received,');
$watch->query(q{SELECT seq_commit('stream'); SELECT seq_unsubscribe(name => 'stream')});
is($watch->query(q{SELECT string_agg(epoch::text, ' ') FROM seq_fetch('group', 2)}), join(' ', $first, $first + 1), 'or fetched');
look_again();
begins_with($first + 2, 'and goes');
my $fetching = session($node, $db);
$fetching->query(q{BEGIN; SELECT * FROM seq_fetch('group', 1)});
is($watch->query('SELECT seq_truncate()'), 0, 'what a transaction has fetched may come again');
$fetching->query('ROLLBACK');
is($watch->query(q{SELECT count(*) FROM seq_fetch('group')}), 10, 'and does');
look_again();
begins_with($first + 3, 'what is for another group stays');
is($watch->query(q{SELECT count(*) FROM seq_fetch('filtered')}), 3, 'it is fetched');
$watch->query("SELECT seq_subscribe('{$va,$vb}', 'stream')");
is($watch->query(q{SELECT count(*) FROM seq_receive(100, '0', 'stream')}), 3, 'as it is received,');
$watch->query(q{SELECT seq_commit('stream'); SELECT seq_unsubscribe(name => 'stream')});
look_again();
begins_with($first + 9, 'and all that is old enough has gone');
is($watch->query(q{SELECT count(*) FROM seq_consumers WHERE state = 'lost'}), 0, 'nobody is lost');
$watch->query("SELECT seq_drop_group('group'); SELECT seq_drop_group('filtered'); SELECT seq_unregister('stream')");

#
# Who is in the way for a moment is not waited for
#
my $in_the_way = session($node, $db);
foreach my $hold (
	"SELECT seq_register('held', '{$va}', %d)",
	'LOCK TABLE seq_snapshots IN SHARE MODE',
	"SELECT seq_subscribe('{$va}', 'moving', from_epoch => %d); SELECT seq_commit('moving')")
{
	begin_old();
	append(2, '2 hours', 'c');
	$first = first_epoch();
	$in_the_way->query('BEGIN; ' . sprintf($hold, $first));
	set('calvin_seq.retention' => '20s');
	my $n = $watch->query(q{SELECT seq_send('c', '{}')});
	is($watch->query("SELECT epoch FROM seq_submission($n, '60s')"), $epoch++, "the sequencer goes on: $hold");
	is(first_epoch(), $first, 'and removes nothing');
	$in_the_way->query('ROLLBACK; SELECT seq_unsubscribe(name => $$moving$$)');
	begins_with($epoch - 1, 'it goes when nobody is in the way');
}
$in_the_way->quit;

#
# Too old to be kept for consumers
#
begin_old();
$first = $epoch;
$watch->query("SELECT seq_register('dead', '{$va}'); SELECT seq_register('slow', '{$vb}'); SELECT seq_register('away', '{$vc}'); SELECT seq_create_group('gone', 2, '{$va}')");
my $live = session($node, $db);
$live->query("SELECT seq_subscribe('{$va}', 'live', queue_size => 8192)");
append(400, '10 hours');
append(3, '4 hours', 'b');
append(3, '1 second', 'b');
# each holds it, as long as it may
set('calvin_seq.retention' => '1h');
like($watch->error("SELECT seq_truncate($first + 100)"), qr/^55006: /, 'they hold it');
is($watch->query("SELECT count(*) FROM seq_consumers WHERE state = 'lost'"), 0, 'nobody is lost');
set('calvin_seq.retention' => '1h', 'calvin_seq.max_consumer_lag' => '5h');
my $next = $first + 400;
begins_with($next, 'what is older goes; what is younger is kept for who needs it');
is(state_of_consumer('dead'), 'lost', 'who was further behind is lost,');
is(state_of_consumer('gone'), 'lost', 'so is a group');
isnt(state_of_consumer('slow'), 'lost', 'and who was not is not');
isnt(state_of_consumer('away'), 'lost', 'nor who had nothing in it');
like($watch->error("SELECT seq_subscribe('{$va}', 'dead')"),
	qr/^55000: subscription "dead" needs epoch $first, which was truncated from the log\nDETAIL: .*$next.*\nHINT: .*from_epoch => $next /, 'his next call is the named error, with the way out');
like($watch->error(q{SELECT * FROM seq_fetch('gone')}), qr/^55000: group "gone" is lost\n.*\nHINT: .*seq_drop_group/, 'as that of a group');
like($live->error(q{SELECT count(*) FROM seq_receive(100000, '0', 'live')}), qr/^55000: subscription "live" needs epoch \d+, which was truncated/, 'and of a live one');
$watch->query("SELECT seq_subscribe('{$va}', 'dead', from_epoch => $next); SELECT seq_commit('dead'); SELECT seq_unsubscribe(name => 'dead')");
isnt(state_of_consumer('dead'), 'lost', 'the way out');
$watch->query("SELECT seq_subscribe('{$vb}', 'slow')");
is($watch->query(q{SELECT count(*) FROM seq_receive(100, '0', 'slow')}), 6, 'who was not lost lacks nothing');
$watch->query(q{SELECT seq_commit('slow'); SELECT seq_unsubscribe(name => 'slow')});
set('calvin_seq.retention' => '1h', 'calvin_seq.max_consumer_lag' => '18001s');
begins_with($next + 3, 'and the lost hold nothing: the live one neither');
$live->quit;

# seq_truncate, in both forms, goes by it as well
set();
append(3, '9 hours');
append(3, '1 second');
like($watch->error('SELECT seq_truncate(100000000)'), qr/^55006: .*"dead"/, 'a consumer holds everything');
set('calvin_seq.max_consumer_lag' => '5h');
$first = first_epoch();
like($watch->error('SELECT seq_truncate(100000000)'), qr/^55006: .*"dead"/, 'what is too old behind what is not does not change that');
is(first_epoch(), $first, 'nothing has gone');
is($watch->query('SELECT seq_truncate()'), 8, 'what nobody needs goes, then what is too old is first, and who is lost holds nothing else');
is(state_of_consumer('dead'), 'lost', 'by that');
$watch->query(q{SELECT seq_unregister('dead'); SELECT seq_unregister('slow'); SELECT seq_unregister('away'); SELECT seq_drop_group('gone')});
begin_old();
$watch->query("SELECT seq_register('dead', '{$va}')");
append(3, '9 hours');
append(1, '1 second', 'b');
set('calvin_seq.max_consumer_lag' => '5h');
is($watch->query('SELECT seq_truncate(' . ($epoch - 1) . ')'), 4, 'up to an epoch, past who is too far behind');
is(state_of_consumer('dead'), 'lost', 'who is lost');
$watch->query(q{SELECT seq_unregister('dead')});

#
# Standbys
#
begin_old();
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
wait_for_sql($node, $db, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn IS NOT NULL", 1);
# on some pages
append(500, '2 hours');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
sql($standby, $db, 'SELECT pg_wal_replay_pause()');
wait_for_sql($standby, $db, 'SELECT pg_get_wal_replay_pause_state()', 'paused');
$first = first_epoch();
append(3, '2 hours');
set('calvin_seq.retention' => '20s');
wait_for_sql($node, $db, "SELECT count(*) FROM seq_log WHERE epoch = $first", 0);
cmp_ok(first_epoch(), '<=', $epoch - 3, 'what a standby has not replayed stays');
set();
my $held = first_epoch();
is($watch->query('SELECT seq_truncate()'), 0, 'also when asked for');
set('calvin_seq.retention' => '20s');
sql($standby, $db, 'SELECT pg_wal_replay_resume()');
begins_with($epoch - 1, 'until it has');
cmp_ok($held, '<', $epoch - 1, 'which was later');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is(sql($standby, $db, 'SELECT min(epoch) FROM seq_log'), $epoch - 1, 'the standby follows');
like(sql_error($standby, $db, 'SELECT seq_truncate()'), qr/^25006: /, 'and does not do it itself');

# What the owner has attached to the tables may run SQL.
begin_old();
my $behind = $epoch;
append(5, '2 hours', 'c');
$watch->query("SELECT seq_create_group('too_old', 1, '{$vc}', from_epoch => $behind)");
$watch->query(<<'EOS');
CREATE TABLE marked (name name);
CREATE FUNCTION note_marked() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.marked VALUES (NEW.name); RETURN NULL; END $$;
CREATE TRIGGER note_marked AFTER INSERT ON seq_registrations FOR EACH ROW EXECUTE FUNCTION note_marked();
EOS
set('calvin_seq.retention' => '1h', 'calvin_seq.max_consumer_lag' => '1h');
begins_with($epoch - 1, 'it truncates where marking a group as lost runs SQL');
is($watch->query('SELECT DISTINCT name FROM marked'), 'too_old', 'which has run');
$watch->query("DROP TRIGGER note_marked ON seq_registrations; SELECT seq_drop_group('too_old')");
set();

# A crash between the steps, then the promotion: the new primary does it.
begin_old();
append(2500, '2 hours', 'c');
$watch->query("SELECT seq_register('kept', '{$vc}', $epoch - 3)");
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
my $pauses = pauses($node, $db);
my $sequencer = $watch->query(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'calvin_seq sequencer'});
$pauses->arm('truncate: before removing', $sequencer, 1);
set('calvin_seq.retention' => '1h');
$pauses->reached('truncate: before removing');
my $before = first_epoch();
is($watch->query('SELECT last_error FROM seq_sequencer'), '', 'whoever was in the way was no error');
cmp_ok($before, '<', $epoch - 3, 'in the middle of it');
# its commits are not flushed by itself
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
$_->quit foreach $pauses, $watch, $fetching;
$node->stop('immediate');
cmp_ok(sql($standby, $db, 'SELECT min(epoch) FROM seq_log'), '<=', $before, 'whole steps');
sql($standby, $db, q{ALTER SYSTEM SET calvin_seq.retention = '1h'});
$standby->promote;
$standby->reload;
ok(wait_for_sql($standby, $db, 'SELECT min(epoch) FROM seq_log', $epoch - 3), 'the new primary goes on with it');
is(sql($standby, $db, q{SELECT seq_pending('kept')}), 3, 'with what is registered');
is(sql($standby, $db, "SELECT seq_subscribe('{$vc}', 'kept'); SELECT count(*) FROM seq_receive(10, '10s', 'kept')"), "\n3", 'and it lacks nothing');

$standby->stop;
nothing_crashed($standby);
done_testing();
