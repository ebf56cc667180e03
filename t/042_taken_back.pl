# What is received is taken back together with the rows it gave, whatever ends
# when: cursors, exception blocks, loops of procedures, prepared transactions.
# Where that cannot be, the call or seq_commit is refused.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('taken_back', max_prepared_transactions => 2);
my $va = vshard_of('a');
my $epoch = 0;

create_extension($node, $db);
sql($node, $db, 'CREATE TABLE effects (n int GENERATED ALWAYS AS IDENTITY, epoch bigint)');
my $s = session($node, $db);

# So many epochs more, each with one transaction.
sub append
{
	my ($n) = @_;

	append_batches($node, $db, $epoch, $epoch + $n - 1, [ [ ['a'], 'ab', 1 ] ]);
	$epoch += $n;
	wait_for_epoch($node, $db, $epoch - 1);
	return;
}

# The consumer begins anew, behind all there is; without a cursor or with one.
sub begin_anew
{
	my ($n, $with_cursor) = @_;

	$s->query("SELECT seq_unsubscribe(), seq_drop_cursor('default'); TRUNCATE effects");
	$s->query("SELECT seq_subscribe('{$va}')");
	if ($with_cursor)
	{
		append(1);
		$s->query('BEGIN; SELECT count(*) FROM seq_receive(); SELECT seq_commit(); COMMIT');
	}
	append($n);
	return;
}

# The rest is received and committed: then every effect is there once.
sub exactly_once
{
	my ($desc) = @_;

	$s->query('BEGIN; INSERT INTO effects (epoch) SELECT epoch FROM seq_receive(); SELECT seq_commit(); COMMIT');
	my $expected = sql($node, $db, "SELECT string_agg(e::text, ' ' ORDER BY e) FROM generate_series($epoch - 10, $epoch - 1) e");
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(sql($node, $db, q{SELECT string_agg(epoch::text, ' ' ORDER BY epoch) FROM effects}), $expected, $desc);
}

sub effects { return sql($node, $db, 'SELECT count(*) FROM effects'); }

foreach my $with_cursor (0, 1)
{
	my $how = $with_cursor ? 'with a cursor' : 'without a cursor';

	#
	# A cursor opened in front of an exception block, first fetched from in it
	#
	begin_anew(10, $with_cursor);
	like($s->error(<<'EOS'), qr/^40001: cannot receive through a cursor that was opened outside/, "$how: a cursor from outside the block");
DO $$
DECLARE
	c CURSOR FOR SELECT epoch FROM seq_receive();
	r record;
BEGIN
	OPEN c;
	BEGIN
		FETCH c INTO r;
		INSERT INTO effects (epoch) VALUES (r.epoch);
		RAISE 'on the way';
	EXCEPTION WHEN raise_exception THEN
		NULL;
	END;
	LOOP
		FETCH c INTO r;
		EXIT WHEN NOT FOUND;
		INSERT INTO effects (epoch) VALUES (r.epoch);
	END LOOP;
	PERFORM seq_commit();
END $$
EOS
	is(effects(), 0, "$how: has had no effect");
	exactly_once("$how: nor has it cost anything");

	begin_anew(10, $with_cursor);
	$s->query('BEGIN; DECLARE c CURSOR FOR SELECT epoch FROM seq_receive(); SAVEPOINT s');
	like($s->error('FETCH 1 FROM c'), qr/^40001: /, "$how: a cursor declared in front of a savepoint");
	$s->query('ROLLBACK TO s; ROLLBACK');
	$s->query('BEGIN; DECLARE c CURSOR FOR SELECT seq_receive_batch(1) FROM generate_series(1, 10); FETCH 1 FROM c; SAVEPOINT s');
	like($s->error('FETCH 1 FROM c'), qr/^40001: /, "$how: or one that receives with each fetch");
	$s->query('ROLLBACK');
	exactly_once("$how: what those have not received comes");

	# through a function that passes the rows on
	$s->query('CREATE OR REPLACE FUNCTION pg_temp.pass_on() RETURNS SETOF seq_txn LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY SELECT * FROM seq_receive(); END $$');
	begin_anew(10, $with_cursor);
	$s->query('BEGIN; DECLARE c CURSOR FOR SELECT epoch FROM pg_temp.pass_on(); SAVEPOINT s');
	like($s->error('FETCH 1 FROM c'), qr/^40001: /, "$how: nor by way of a function");
	$s->query('ROLLBACK');
	exactly_once("$how: all is there then");

	# what is safe
	begin_anew(10, $with_cursor);
	$s->query(<<'EOS');
DO $$
DECLARE
	r record;
BEGIN
	FOR i IN 1..2 LOOP
		BEGIN
			FOR r IN SELECT epoch FROM seq_receive() LOOP
				INSERT INTO effects (epoch) VALUES (r.epoch);
				IF i = 1 THEN RAISE 'on the way'; END IF;
			END LOOP;
			PERFORM seq_commit();
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END $$
EOS
	exactly_once("$how: a loop within a block that is tried again");

	begin_anew(10, $with_cursor);
	$s->query(<<'EOS');
CREATE OR REPLACE FUNCTION pg_temp.process() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	txns seq_txn[];
BEGIN
	FOR i IN 1..3 LOOP
		BEGIN
			txns := ARRAY(SELECT t FROM seq_receive(7) t);
			INSERT INTO effects (epoch) SELECT epoch FROM unnest(txns);
			IF i = 1 THEN RAISE 'on the way'; END IF;
			PERFORM seq_commit();
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT pg_temp.process();
EOS
	exactly_once("$how: blocks within a function");

	#
	# Procedures
	#
	$s->query(<<'EOS');
CREATE OR REPLACE PROCEDURE pg_temp.rolls_back() LANGUAGE plpgsql AS $$
DECLARE
	r record;
	n int := 0;
BEGIN
	FOR r IN SELECT epoch FROM seq_receive() LOOP
		INSERT INTO effects (epoch) VALUES (r.epoch);
		n := n + 1;
		IF n = 3 THEN ROLLBACK; END IF;
	END LOOP;
	PERFORM seq_commit();
	COMMIT;
END $$;
CREATE OR REPLACE PROCEDURE pg_temp.commits() LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT epoch FROM seq_receive() LOOP
		INSERT INTO effects (epoch) VALUES (r.epoch);
		PERFORM seq_commit();
		COMMIT;
	END LOOP;
END $$;
CREATE OR REPLACE PROCEDURE pg_temp.by_batches() LANGUAGE plpgsql AS $$
DECLARE
	r record;
	n int;
	tries int := 0;
BEGIN
	LOOP
		n := 0;
		tries := tries + 1;
		FOR r IN SELECT epoch FROM seq_receive(3) LOOP
			INSERT INTO effects (epoch) VALUES (r.epoch);
			n := n + 1;
		END LOOP;
		EXIT WHEN n = 0;
		IF tries % 3 = 1 THEN
			ROLLBACK;
		ELSE
			PERFORM seq_commit();
			COMMIT;
		END IF;
	END LOOP;
END $$;
EOS
	begin_anew(10, $with_cursor);
	like($s->error('CALL pg_temp.rolls_back()'), qr/^40001: cannot commit the position of "default": rows that were rolled back/,
		"$how: a loop that goes on after a rollback");
	is(effects(), 0, "$how: cannot commit what it did with rows that come again");
	exactly_once("$how: they do");

	begin_anew(10, $with_cursor);
	like($s->error('CALL pg_temp.commits()'), qr/^40001: cannot commit the position of "default" while a cursor or loop/,
		"$how: a loop that commits the position with the first of its rows");
	is(effects(), 0, "$how: is undone");
	exactly_once("$how: and nothing is lost");

	begin_anew(10, $with_cursor);
	$s->query('CALL pg_temp.by_batches()');
	exactly_once("$how: batches that are committed or rolled back as a whole");

	#
	# Cursors WITH HOLD
	#
	begin_anew(10, $with_cursor);
	$s->query('BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT epoch FROM seq_receive(); FETCH 2 FROM c; SELECT seq_commit()');
	like($s->error('COMMIT'), qr/^40001: cannot commit the position of "default" while a cursor or loop/,
		"$how: a held cursor with rows that would count as processed");
	# the server has held it by then
	$s->query('CLOSE c');
	exactly_once("$how: which come again");

	begin_anew(10, $with_cursor);
	$s->query('BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT epoch FROM seq_receive(); COMMIT; BEGIN; FETCH 2 FROM c; SAVEPOINT s; FETCH 1 FROM c; ROLLBACK');
	if ($with_cursor)
	{
		$s->query('BEGIN; FETCH 1 FROM c');
		like($s->error('SELECT seq_commit()'), qr/^40001: .*rows that were rolled back/, "$how: a held cursor whose rows a later rollback takes back");
		$s->query('ROLLBACK; CLOSE c');
	}
	else
	{
		# what was received in a transaction that committed is not taken back
		$s->query('CLOSE c');
		append(10);
	}
	exactly_once("$how: after it was closed");

	begin_anew(10, $with_cursor);
	$s->query('BEGIN; DECLARE c CURSOR WITH HOLD FOR WITH r AS MATERIALIZED (SELECT epoch FROM seq_receive()) SELECT epoch FROM r');
	my @read = split /\n/, $s->query('FETCH ALL FROM c');
	$s->query('INSERT INTO effects (epoch) VALUES ' . join(', ', map { "($_)" } @read) . '; SELECT seq_commit(); COMMIT; BEGIN; SELECT 1; ROLLBACK');
	is(scalar(@read), 10, "$how: one that was read to its end");
	append(1);
	$s->query('BEGIN; SELECT count(*) FROM seq_receive(); SELECT seq_commit(); COMMIT; CLOSE c');
	$epoch--;
	exactly_once("$how: is in nobody's way");
	$epoch++;

	#
	# seq_rewind
	#
	begin_anew(10, $with_cursor);
	$s->query('BEGIN; SELECT count(*) FROM seq_receive(4); SELECT seq_rewind(); INSERT INTO effects (epoch) SELECT epoch FROM seq_receive(); SELECT seq_commit(); COMMIT');
	exactly_once("$how: received again on demand");

	#
	# Prepared transactions
	#
	begin_anew(10, $with_cursor);
	$s->query("BEGIN; INSERT INTO effects (epoch) SELECT epoch FROM seq_receive(); SELECT seq_subscribe('{$va}')");
	like($s->error("PREPARE TRANSACTION 'p'"), qr/^0A000: cannot PREPARE a transaction that has received without seq_commit/,
		"$how: subscribed again after a receive");
	exactly_once("$how: its rollback takes that back");

	begin_anew(10, $with_cursor);
	$s->query("BEGIN; INSERT INTO effects (epoch) SELECT epoch FROM seq_receive(); SELECT seq_unsubscribe()");
	like($s->error("PREPARE TRANSACTION 'p'"), qr/^0A000: /, "$how: given up after a receive");

	#
	# What is seen of one that rolls back
	#
	begin_anew(10, $with_cursor);
	$s->query('BEGIN; SELECT count(*) FROM seq_receive()');
	$s->query('ROLLBACK');
	is(sql($node, $db, 'SELECT state, lag FROM seq_subscriptions'), 'catching up|10', "$how: who rolls back is behind, for all to see");
	$s->query('BEGIN; SAVEPOINT s; SELECT count(*) FROM seq_receive(); ROLLBACK TO s');
	is(sql($node, $db, 'SELECT state, lag FROM seq_subscriptions'), 'catching up|10', "$how: to a savepoint, too");
	$s->query('COMMIT');
	exactly_once("$how: and catches up");
	is(sql($node, $db, 'SELECT state, lag FROM seq_subscriptions'), 'live|0', "$how: live again");
}

$s->quit;
$node->stop;
nothing_crashed($node);
done_testing();
