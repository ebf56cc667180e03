# What our processes wait for has a name in pg_stat_activity: from 17 on one of its own
# for each wait, before that the one for all extensions, and what the query says.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinFollow;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('waits', 'calvin_seq.follower_timeout' => '3s');
my $named = $node->pg_version >= 17;
create_extension($node, $db);
my ($va, $vb) = map { vshard_of($_) } qw(a b);
my $watch = session($node, 'template1');
my $here = "datname = '$db' AND backend_type =";
my %seen;

# A process, by a condition, waits for that.
sub waits
{
	my ($who, $name, $desc, $query) = @_;

	$seen{$name} = 1;
	$name = 'Extension' unless $named;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(
		wait_until(
			sub {
				my $row = $watch->query("SELECT wait_event_type || '/' || wait_event || '/' || query FROM pg_stat_activity WHERE $who");

				return $row =~ m{^Extension/$name/} && (!defined $query || $row =~ /$query/);
			},
			"$desc: $name"),
		$desc);
}

sub session_waits
{
	my ($sql, $name, $on) = @_;
	my $session = session($node, $on || $db);

	$session->send($sql);
	waits('pid = ' . $session->pid, $name, $sql);
	return $session;
}

#
# Workers
#
waits("backend_type = 'calvin_seq launcher'", 'CalvinSeqLauncher', 'the launcher', 'databases to come and go');
waits("$here 'calvin_seq applier'", 'CalvinSeqApplier', 'the applier', 'waiting for log entries');
waits("backend_type = 'calvin_seq sequencer'", 'CalvinSeqSequencer', 'the sequencer', 'waiting for submissions');
sql($node, $db, q{CREATE FUNCTION h(t seq_txn) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$; SELECT seq_create_group('g', 1); SELECT seq_handle('g', 'h(seq_txn)')});
waits("backend_type = 'calvin_seq handler'", 'CalvinSeqHandler', 'a handler', 'waiting for transactions');

#
# Sessions
#
my @sessions = (
	session_waits("SELECT seq_subscribe('{$va}', 'r'); SELECT count(*) FROM seq_receive(1, '1 hour', 'r')", 'CalvinSeqReceive'),
	session_waits("SELECT seq_create_group('f', 1); SELECT count(*) FROM seq_fetch('f', 1, '1 hour')", 'CalvinSeqFetch'),
	session_waits("SELECT seq_wait_for_epoch(1000, '1 hour')", 'CalvinSeqApplied'),
	session_waits("SELECT seq_wait_for_index(1000, '1 hour')", 'CalvinSeqApplied'));
append_batches($node, $db, 0, 0, [ [ ['b'], 'ab', 1 ] ]);
push @sessions, session_waits("SELECT seq_wait_for_completion(0, 0, '1 hour')", 'CalvinSeqCompletion');
# who has the right to append holds the sequencer up
my $holder = session($node, $db);
$holder->query('BEGIN');
append_batches($node, $db, 1, 1, [ [ ['b'], 'ab', 1 ] ], $holder);
sql($node, $db, "CREATE TABLE sent AS SELECT seq_send('b', '1') AS number");
push @sessions, session_waits("SELECT seq_submission((SELECT number FROM sent), '1 hour')", 'CalvinSeqSubmission');
$holder->query('ROLLBACK');

#
# Errors, and commands on databases
#
break_log($node, $db);
waits("$here 'calvin_seq applier'", 'CalvinSeqRetry', 'an applier that has failed', 'waiting to try again after an error');
mend_log($node, $db);

sql($node, 'template1', 'CREATE DATABASE other TEMPLATE template0');
my $applier = create_extension($node, 'other');
kill 'STOP', $applier;
push @sessions, session_waits('ALTER DATABASE other RENAME TO renamed', 'CalvinSeqHoldOff', $db);
kill 'CONT', $applier;

#
# Followers
#
my $source = new_node('source');
create_extension($source, $db);
wait_for_applier($node, 'renamed');
follow($node, 'renamed', source_of($source, $db), $source);
waits("datname = 'renamed' AND backend_type = 'calvin_seq sequencer'", 'CalvinSeqSource', 'the worker of a follower');

SKIP:
{
	skip 'before 17 the wait events of extensions have no names', 2 unless $named;
	my %known = map { $_ => 1 } split /\n/, sql($node, $db, "SELECT name FROM pg_wait_events WHERE type = 'Extension' AND name LIKE 'CalvinSeq%'");

	is(join(' ', grep { !$known{$_} } sort keys %seen), '', 'pg_wait_events has all of them');
	# for less than a millisecond, and where a database is new
	delete @known{ keys %seen, 'CalvinSeqEpoch', 'CalvinSeqFlush', 'CalvinSeqAttach' };
	is(join(' ', sort keys %known), '', 'and none that was not seen');
}

# they still wait, for an hour
$_->kill_client foreach @sessions;
$holder->quit;
$watch->quit;
nothing_crashed($node);
done_testing();
