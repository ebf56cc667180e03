# A receive, and then something else in the same transaction that takes its ground
# away: subscribing anew, giving up, rewinding, preparing, with rows held or not.
# Either nothing comes of it, or each effect is there once.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('given_up', max_prepared_transactions => 4);
my ($va, $vb) = map { vshard_of($_) } 'a', 'b';
my $epoch = 0;

create_extension($node, $db);
sql($node, $db, 'CREATE TABLE effects (n int GENERATED ALWAYS AS IDENTITY, epoch bigint)');
my $s = session($node, $db);

sub append
{
	my ($n) = @_;

	append_batches($node, $db, $epoch, $epoch + $n - 1, [ [ ['a'], 'ab', 1 ] ]);
	$epoch += $n;
	wait_for_epoch($node, $db, $epoch - 1);
	return;
}

# The consumer begins anew, behind all there is; with a cursor unless told so.
sub begin_anew
{
	my ($n, $without_cursor) = @_;

	$s->query("SELECT seq_unsubscribe(), seq_drop_cursor('default'); TRUNCATE effects");
	$s->query("SELECT seq_subscribe('{$va}')");
	if (!$without_cursor)
	{
		append(1);
		$s->query('BEGIN; SELECT count(*) FROM seq_receive(); SELECT seq_commit(); COMMIT');
	}
	append($n);
	return;
}

my $process = 'INSERT INTO effects (epoch) SELECT epoch FROM seq_receive()';

# What is left is processed, in another session if this one has ended.
sub exactly_once
{
	my ($n, $desc) = @_;

	$s->query("BEGIN; $process; SELECT seq_commit(); COMMIT");
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(sql($node, $db, q{SELECT string_agg(epoch::text, ' ' ORDER BY n) FROM effects}), join(' ', $epoch - $n .. $epoch - 1), $desc);
}

# This error, with the transaction rolled back.
sub refused
{
	my ($sql, $regexp, $desc) = @_;

	my $error = $s->error($sql);
	$s->query('ROLLBACK');
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return like($error, $regexp, $desc);
}

sub another_session
{
	$s->quit;
	$s = session($node, $db);
	$s->query("SELECT seq_subscribe('{$va}')");
	return;
}

# So many rows of a held cursor, processed.
sub process_from_cursor
{
	my ($n) = @_;
	my $rows = $s->query("FETCH $n FROM c");

	$s->query('INSERT INTO effects (epoch) VALUES ' . join(', ', map { "($_)" } split /\n/, $rows));
	return;
}

#
# Subscribed anew behind a receive
#
my $given_up = qr/^40001: cannot commit the position of "default": a subscription was given up/;
foreach my $what ("seq_subscribe('{$va}')", "seq_subscribe('{$va,$vb}')", "seq_unsubscribe(), seq_subscribe('{$va}')",
	"seq_subscribe('{$va}', from_epoch => 0)")
{
	begin_anew(3);
	refused("BEGIN; $process; SELECT $what; SELECT seq_commit(); COMMIT", $given_up, "$what behind a receive: seq_commit is refused");
	exactly_once(3, 'and what was received comes again') unless $what =~ /from_epoch/;
}

begin_anew(3);
$s->query("BEGIN; $process");
{
	my $other = session($node, $db);

	$other->query("SELECT seq_subscribe('{$va}'); BEGIN; $process; SELECT seq_commit(); COMMIT");
	$other->quit;
}
refused("SELECT seq_subscribe('{$va}'); SELECT seq_commit(); COMMIT", $given_up, 'taken over, processed there, and taken back without having noticed');
exactly_once(3, 'processed there alone');

begin_anew(3);
$s->query("BEGIN; SAVEPOINT s; $process; SELECT seq_subscribe('{$va}'); ROLLBACK TO s; $process; SELECT seq_commit(); COMMIT");
exactly_once(3, 'what a savepoint took back is in nobody\'s way');

#
# A held cursor with rows left, and what else could hide that a cursor was stored
#
foreach my $then ('seq_unsubscribe()', "seq_subscribe('{$va}')", 'seq_rewind()')
{
	begin_anew(10);
	$s->query('BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT epoch FROM seq_receive()');
	process_from_cursor(2);
	$s->query("SELECT seq_commit(); SELECT $then");
	like($s->error('COMMIT'), qr/^40001: /, "rows held, seq_commit, $then: COMMIT is refused");
	another_session();
	exactly_once(10, 'when the session has ended they are all there');
}
begin_anew(5);
$s->query('BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT epoch FROM seq_receive()');
process_from_cursor(5);
$s->query('SELECT seq_commit(); COMMIT; CLOSE c');
exactly_once(5, 'one of which exactly all rows were fetched');

#
# Prepared transactions
#
begin_anew(3, 1);
$s->query("BEGIN; $process; SELECT seq_commit(); SELECT seq_subscribe('{$va}'); PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'");
append(2);
# the first one finds that its cursor has not come to be
my $error = $s->error("BEGIN; $process; SELECT seq_commit(); COMMIT");
$s->query('ROLLBACK') if $error ne '';
exactly_once(5, 'a first cursor, subscribed anew, prepared and rolled back');

begin_anew(3, 1);
refused("BEGIN; $process; SELECT seq_commit(); SELECT seq_unsubscribe(); PREPARE TRANSACTION 'p'", qr/^0A000: /, 'or given up: not to be prepared');

foreach my $without_cursor (0, 1)
{
	begin_anew(10, $without_cursor);
	$s->query('BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT epoch FROM seq_receive(); COMMIT; BEGIN');
	process_from_cursor(2);
	refused("SELECT seq_commit(); PREPARE TRANSACTION 'p'", qr/^40001: /, 'PREPARE with rows held that the cursor covers');
	if (!$without_cursor)
	{
		another_session();
		exactly_once(10, 'they come again');
	}
	else { $s->query('CLOSE c'); }
}

#
# A loop that commits, and rolls back later
#
foreach my $without_cursor (0, 1)
{
	begin_anew(10, $without_cursor);
	$s->query(<<'EOS');
CREATE OR REPLACE PROCEDURE pg_temp.commits_once() LANGUAGE plpgsql AS $$
DECLARE
	r record;
	n int := 0;
BEGIN
	FOR r IN SELECT epoch FROM seq_receive() LOOP
		INSERT INTO effects (epoch) VALUES (r.epoch);
		n := n + 1;
		IF n = 3 THEN COMMIT; END IF;
		IF n = 5 THEN ROLLBACK; END IF;
	END LOOP;
	PERFORM seq_commit();
	COMMIT;
END $$;
EOS
	like($s->error('CALL pg_temp.commits_once()'), qr/^40001: cannot commit the position of "default": rows that were rolled back/,
		'a loop that has committed some of its rows, and lost others by a rollback');
}

#
# seq_rewind
#
begin_anew(3);
$s->query("SELECT seq_subscribe('{$va}', from_epoch => " . ($epoch - 3) . ')');
$s->query("BEGIN; INSERT INTO effects (epoch) SELECT epoch FROM seq_receive(1); SELECT seq_commit(); SELECT seq_rewind(); $process; SELECT seq_commit(); COMMIT");
exactly_once(3, 'back to the cursor that the transaction itself has stored');

$s->quit;
$node->stop;
nothing_crashed($node);
done_testing();
