# Consumers in odd sessions: procedures, triggers, prepared statements, portals,
# roles, DISCARD, timeouts, other sessions in between.  Whatever fails on the
# way, what is committed in the end is what seq_replay says, once.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinProtocol;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('odd', max_prepared_transactions => 5);
my ($va, $vb) = (vshard_of('a'), vshard_of('b'));
my @txns = ([ ['a'], 'ab', 1 ], [ [ 'a', 'b' ], 'cd', 2 ]);
my $next = 0;
my $first;    # epoch of the scenario that runs
my $s;        # its session

create_extension($node, $db);
sql($node, $db, <<'EOS');
CREATE TABLE effects (n int GENERATED ALWAYS AS IDENTITY, vshard int, epoch bigint, "position" bigint);
CREATE FUNCTION process(max_txns int DEFAULT 1000) RETURNS int LANGUAGE sql AS $$
	WITH i AS (INSERT INTO effects (vshard, epoch, "position") SELECT vshard, epoch, "position" FROM seq_receive(max_txns) RETURNING 1)
	SELECT count(*)::int FROM i
$$;
EOS

# So many epochs, each with a transaction for vshard a and one for both.
sub append
{
	my ($n) = @_;

	append_batches($node, $db, $next, $next + $n - 1, \@txns);
	$next += $n;
	return wait_for_epoch($node, $db, $next - 1);
}

# Receive and commit the rest as a consumer does that expects errors.
sub drain
{
	my ($session) = @_;

	$session->query("SELECT seq_subscribe('{$va,$vb}')");
	foreach my $try (1 .. 5)
	{
		my $error = $session->error('BEGIN; SELECT process(); SELECT seq_commit(); COMMIT');

		return if $error eq '';
		$session->query('ROLLBACK');
		die "cannot be drained: $error\n" unless $error =~ /^40001: /;
	}
	die "still not drained\n";
}

# scenario(name, code): a new session, which has a durable cursor in front of
# twelve epochs, does something odd.  Afterwards it, or if it is gone another
# one, goes on as it should; then each effect is there, once and in order.
sub scenario
{
	my ($name, $code) = @_;

	sql($node, $db, "SELECT seq_drop_cursor('default'); TRUNCATE effects");
	append(1);
	$first = $next;
	$s = session($node, $db);
	$s->query("SELECT seq_subscribe('{$va,$vb}', from_epoch => $first); SELECT seq_commit()");
	append(12);
	$code->();
	$s = session($node, $db) if $s->dead;
	drain($s);
	$s->quit;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(
		sql($node, $db, q{SELECT vshard, string_agg(epoch || '.' || "position", ' ' ORDER BY n) FROM effects GROUP BY 1 ORDER BY 1}),
		sql($node, $db, "SELECT vshard, string_agg(epoch || '.' || \"position\", ' ' ORDER BY epoch, \"position\")
			FROM unnest('{$va,$vb}'::int[]) v, seq_replay(v, $first, $next) GROUP BY 1 ORDER BY 1"),
		"$name: exactly once");
}

sub effects { return sql($node, $db, 'SELECT count(*) FROM effects'); }

#
# Procedures
#

scenario(
	'COMMIT and ROLLBACK in turn, in a procedure called by a procedure',
	sub {
		$s->query(<<'EOS');
CREATE PROCEDURE pg_temp.one(i int) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM process(5);
	IF i % 3 = 0 THEN
		ROLLBACK;
	ELSE
		PERFORM seq_commit();
		COMMIT;
	END IF;
END $$;
CREATE PROCEDURE pg_temp.all() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 0..6 LOOP
		CALL pg_temp.one(i);
		PERFORM seq_receive(2);		-- and never committed: taken back by the next ROLLBACK
		ROLLBACK;
	END LOOP;
END $$;
CALL pg_temp.all();
EOS
		cmp_ok(effects(), '>', 10, 'it has got somewhere');
	});

scenario(
	'exception blocks around receiving, effects and seq_commit each',
	sub {
		$s->query(<<'EOS');
DO $$
BEGIN
	FOR i IN 1..12 LOOP
		BEGIN
			BEGIN
				PERFORM process(3);
				IF i % 4 = 1 THEN RAISE 'after receiving'; END IF;
			EXCEPTION WHEN raise_exception THEN NULL;
			END;
			PERFORM process(1);
			BEGIN
				PERFORM seq_commit();
				IF i % 4 = 2 THEN RAISE 'after seq_commit'; END IF;
			EXCEPTION WHEN raise_exception THEN NULL;
			END;
			IF i % 4 = 3 THEN RAISE 'at the end'; END IF;
		EXCEPTION WHEN raise_exception THEN NULL;
		END;
	END LOOP;
	PERFORM seq_commit();
END $$;
EOS
		cmp_ok(effects(), '>', 10, 'it has got somewhere');
	});

scenario(
	'a loop over what was received, that commits when it has done half',
	sub {
		my $error = $s->error(<<'EOS');
DO $$
DECLARE
	r record;
	n int := 0;
BEGIN
	FOR r IN SELECT * FROM seq_receive(20) LOOP
		INSERT INTO effects (vshard, epoch, "position") VALUES (r.vshard, r.epoch, r."position");
		n := n + 1;
		IF n = 10 THEN
			PERFORM seq_commit();
			COMMIT;
			RAISE 'gives up';
		END IF;
	END LOOP;
END $$;
EOS
		like($error, qr/^40001: /, 'rows that are not processed yet cannot be committed');
		is(effects(), 0, 'nor those that are');
	});

scenario(
	'receiving for each row received, in blocks that fail',
	sub {
		$s->query(<<'EOS');
CREATE FUNCTION pg_temp.looks_ahead(n int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	seen int;
BEGIN
	SELECT count(*) INTO seen FROM seq_receive(n);
	RAISE '%', seen;
EXCEPTION WHEN raise_exception THEN
	RETURN SQLERRM;
END $$;
BEGIN;
INSERT INTO effects (vshard, epoch, "position") SELECT vshard, epoch, "position" FROM seq_receive(6) WHERE pg_temp.looks_ahead(epoch::int % 5 + 1) >= 0;
SELECT seq_commit();
COMMIT;
EOS
		is(effects(), 6, 'what was committed');
	});

scenario(
	'a cursor that is opened in a block, and read after it',
	sub {
		$s->query(<<'EOS');
CREATE FUNCTION pg_temp.opens(fail boolean) RETURNS refcursor LANGUAGE plpgsql AS $$
DECLARE
	c refcursor;
	r record;
BEGIN
	BEGIN
		OPEN c FOR SELECT vshard, epoch, "position" FROM seq_receive(6);
		FETCH c INTO r;
		MOVE BACKWARD ALL FROM c;
		IF fail THEN RAISE 'with its cursor'; END IF;
	EXCEPTION WHEN raise_exception THEN
		c := NULL;
	END;
	RETURN c;
END $$;
DO $$
DECLARE
	c refcursor;
	r record;
BEGIN
	FOR i IN 1..4 LOOP
		c := pg_temp.opens(i % 2 = 1);
		CONTINUE WHEN c IS NULL;
		LOOP
			FETCH c INTO r;
			EXIT WHEN NOT FOUND;
			INSERT INTO effects (vshard, epoch, "position") VALUES (r.vshard, r.epoch, r."position");
		END LOOP;
		PERFORM seq_commit();
	END LOOP;
END $$;
EOS
		is(effects(), 12, 'what was committed');
	});

scenario(
	'a thousand blocks, half of which fail',
	sub {
		$s->query(<<'EOS');
DO $$
BEGIN
	FOR i IN 1..1000 LOOP
		BEGIN
			PERFORM process(1);
			IF i % 3 = 0 THEN PERFORM seq_commit(); END IF;
			IF i % 2 = 0 OR i > 50 THEN RAISE 'failed'; END IF;
		EXCEPTION WHEN raise_exception THEN NULL;
		END;
	END LOOP;
	PERFORM seq_commit();
END $$;
EOS
		is(effects(), 25, 'what was committed');
	});

scenario(
	'transactions in a chain',
	sub {
		$s->query(<<'EOS');
BEGIN; SELECT process(3); SELECT seq_commit(); COMMIT AND CHAIN;
SELECT process(3); ROLLBACK AND CHAIN;
SAVEPOINT s; SELECT seq_unsubscribe(); ROLLBACK TO s;
EOS
		like($s->error('SELECT process(3)'), qr/^55000: /, 'the end of a subscription is not taken back');
		$s->query("ROLLBACK AND CHAIN; SELECT seq_subscribe('{$va,$vb}'); SELECT process(3); SELECT seq_commit(); COMMIT AND CHAIN; SELECT process(3); COMMIT");
		$s->query(q{DELETE FROM effects WHERE n IN (SELECT n FROM effects ORDER BY n DESC LIMIT 3)});
		is(effects(), 6, 'what was committed');
	});

scenario(
	'several statements in one message, the last of which fails',
	sub {
		my $c = CalvinProtocol->new($node, $db);

		$c->query("SELECT seq_subscribe('{$va,$vb}')");
		like($c->query('SELECT process(3); SELECT seq_commit(); SELECT 1 / 0')->{error}, qr/^22012: /, 'all of it fails');
		is(effects(), 0, 'and leaves nothing');
		like($c->query('SELECT process(3); SELECT seq_commit(); COMMIT; SELECT process(3); SELECT seq_commit(); SELECT 1 / 0')->{error},
			qr/^22012: /, 'or only what was not committed in it');
		is(effects(), 3, 'which leaves the rest');
		$c->quit;
	});

#
# Triggers
#

scenario(
	'triggers that receive: of a statement, of rows, and deferred to the end',
	sub {
		$s->query(<<'EOS');
CREATE TEMP TABLE ticks (fail text);
CREATE FUNCTION pg_temp.receives() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM process(2);
	PERFORM seq_commit();
	IF TG_LEVEL = 'ROW' THEN
		IF NEW.fail = TG_NAME THEN RAISE 'failed in %', TG_NAME; END IF;
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER statement AFTER INSERT ON ticks EXECUTE FUNCTION pg_temp.receives();
CREATE TRIGGER row AFTER INSERT ON ticks FOR EACH ROW EXECUTE FUNCTION pg_temp.receives();
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON ticks DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pg_temp.receives();
INSERT INTO ticks VALUES ('none');
EOS
		is(effects(), 6, 'each has processed two');
		like($s->error("INSERT INTO ticks VALUES ('row')"), qr/^P0001: failed in row/, 'one fails at once');
		like($s->error("INSERT INTO ticks VALUES ('deferred')"), qr/^P0001: failed in deferred/, 'one when the transaction was to commit');
		$s->query("BEGIN; INSERT INTO ticks VALUES ('none'); SAVEPOINT s; INSERT INTO ticks VALUES ('none'), ('none'); ROLLBACK TO s; COMMIT");
		is(effects(), 12, 'and nothing of those is left');
	});

#
# Prepared statements, and ways to run a query
#

scenario(
	'prepared statements, given up in the middle',
	sub {
		$s->query(<<'EOS');
SET plan_cache_mode = force_generic_plan;
PREPARE p(int) AS SELECT process($1);
PREPARE c AS SELECT seq_commit();
BEGIN; EXECUTE p(3); DEALLOCATE p; EXECUTE c; COMMIT;
PREPARE p(int) AS SELECT process($1);
BEGIN; EXECUTE p(3); DEALLOCATE ALL; ROLLBACK;
PREPARE p(int) AS SELECT process($1);
BEGIN; SAVEPOINT a; EXECUTE p(3); ROLLBACK TO a; EXECUTE p(4); DISCARD PLANS; SELECT seq_commit(); COMMIT;
EOS
		is(effects(), 7, 'what was committed');
	});

scenario(
	'explained, made a table of, copied out',
	sub {
		# neither of these receives
		$s->query(<<'EOS');
EXPLAIN SELECT process(), * FROM seq_receive(5);
CREATE TEMP TABLE nothing AS SELECT * FROM seq_receive(5) WITH NO DATA;
SELECT * FROM effects, LATERAL (SELECT seq_receive(5)) r WHERE effects.n < 0;
SELECT CASE WHEN false THEN (SELECT count(*) FROM seq_receive(5)) END;
EOS
		is($s->query(q{SELECT count(*) FROM seq_receive(1) WHERE epoch = } . $first), 1, 'the first one is still there');
		$s->query('SELECT seq_rewind()');
		# these do, and are rolled back
		foreach my $query ('EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT process()', 'COPY (SELECT * FROM seq_receive(5)) TO STDOUT',
			'CREATE TEMP TABLE taken AS SELECT * FROM seq_receive(5)', 'CREATE MATERIALIZED VIEW seen AS SELECT * FROM seq_receive(5)')
		{
			$s->query("BEGIN; $query; ROLLBACK");
		}
		# as are these, with their effects
		$s->query(<<'EOS');
BEGIN; CREATE TEMP TABLE taken AS SELECT vshard, epoch, "position" FROM seq_receive(5);
INSERT INTO effects (vshard, epoch, "position") TABLE taken; SELECT seq_commit(); COMMIT;
EOS
		is(effects(), 5, 'what was committed');
	});

#
# The extended protocol
#

scenario(
	'portals that are read a few rows at a time',
	sub {
		my $c = CalvinProtocol->new($node, $db);
		my ($r, @rows);
		my $receive = $c->parse('receive', 'SELECT vshard, epoch, "position" FROM seq_receive(9)');
		my $store = sub {
			$c->query('INSERT INTO effects (vshard, epoch, "position") VALUES ' . join(', ', map { '(' . join(', ', @$_) . ')' } @_));
		};

		$c->query("SELECT seq_subscribe('{$va,$vb}')");
		# to its end, in steps
		$c->query('BEGIN');
		$r = $c->run($receive, $c->bind('p', 'receive'), $c->execute('p', 4), $c->execute('p', 4), $c->execute('p', 4));
		is("$r->{error} $r->{suspended} " . @{ $r->{rows} }, ' 2 9', 'nine rows in three steps');
		$store->(@{ $r->{rows} });
		is($c->query('SELECT seq_commit(); COMMIT')->{error}, '', 'are committed');
		# suspended, and rolled back
		$c->query('BEGIN');
		$r = $c->run($c->bind('p', 'receive'), $c->execute('p', 4));
		is($r->{suspended}, 1, 'one that was not read to its end');
		$store->(@{ $r->{rows} });
		$c->query('ROLLBACK');
		# bound in front of a savepoint, executed behind it
		$c->query('BEGIN');
		$c->run($c->bind('p', 'receive'));
		$c->query('SAVEPOINT s');
		$r = $c->run($c->execute('p', 4));
		like($r->{error}, qr/^40001: /, 'rows would outlive the savepoint');
		$c->query('ROLLBACK');
		# begun in front of a savepoint: its rows are the transaction's
		$c->query('BEGIN');
		$r = $c->run($c->bind('p', 'receive'), $c->execute('p', 4));
		@rows = @{ $r->{rows} };
		$c->query('SAVEPOINT s');
		$r = $c->run($c->execute('p', 2));
		push @rows, @{ $r->{rows} };
		$c->query('ROLLBACK TO s');
		$r = $c->run($c->execute('p', 0));
		push @rows, @{ $r->{rows} };
		is(scalar(@rows), 9, 'one that was begun before goes on behind it');
		$store->(@rows);
		is($c->query('SELECT seq_commit(); COMMIT')->{error}, '', 'and is committed');
		# without a transaction block: the Sync ends it
		$r = $c->run($c->bind('', 'receive'), $c->execute('', 4));
		is($r->{status}, 'I', 'a portal that ends with its statement');
		$c->query('SELECT seq_rewind()');
		$r = $c->run($c->parse('commit', 'SELECT seq_commit()'), $c->parse('store', 'SELECT process(3)'),
			map { ($c->bind('', $_), $c->execute('')) } 'store', 'commit', 'store');
		is("$r->{error} " . @{ $r->{tags} }, ' 3', 'statements of one pipeline');
		is(effects(), 9 + 9 + 6, 'what was committed');
		# the second one was stored without the position: it is the client's error
		$c->query('DELETE FROM effects WHERE n IN (SELECT n FROM effects ORDER BY n DESC LIMIT 3)');
		$c->quit;
	});

#
# Roles, DISCARD, and what else ends in the middle
#

scenario(
	'roles that change in the middle',
	sub {
		sql($node, $db, <<'EOS');
CREATE ROLE consumer;
GRANT ALL ON effects TO consumer;
CREATE FUNCTION received_as_owner(n int) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT process(n)';
EOS
		$s->query(<<'EOS');
BEGIN; SELECT process(3); SET LOCAL ROLE consumer; SELECT received_as_owner(2); RESET ROLE; SELECT seq_commit(); COMMIT;
BEGIN; SELECT process(3); SAVEPOINT s; SET LOCAL ROLE consumer;
EOS
		like($s->error('SELECT process(3)'), qr/^42501: /, 'one that may not');
		$s->query('ROLLBACK TO s; SET LOCAL ROLE consumer');
		like($s->error('SELECT seq_commit()'), qr/^42501: /, 'nor commit the position');
		$s->query('ROLLBACK');
		is(effects(), 5, 'what was committed');
		sql($node, $db, 'DROP FUNCTION received_as_owner; DROP OWNED BY consumer; DROP ROLE consumer');
	});

scenario(
	'DISCARD ALL with rows received and not committed, and a cursor held open',
	sub {
		$s->query("SELECT count(*) FROM seq_receive(7)");
		$s->query('BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT * FROM seq_receive(3); COMMIT; FETCH 1 FROM h');
		$s->query('DISCARD ALL');
		like($s->error('SELECT seq_receive()'), qr/^55000: /, 'the subscription is gone');
		$s->query("SELECT seq_subscribe('{$va,$vb}')");
		$s->query('BEGIN; SELECT process(4); SELECT seq_commit(); COMMIT');
		like($s->error('BEGIN; SELECT process(4); DISCARD ALL'), qr/^25001: /, 'it cannot be used within a transaction');
		$s->query('ROLLBACK; BEGIN; SELECT process(4); DISCARD TEMP; DISCARD SEQUENCES; SELECT seq_commit(); COMMIT');
		is(effects(), 8, 'what was committed');
	});

scenario(
	'statement_timeout while it receives, in its effects, and while it waits',
	sub {
		$s->query(<<'EOS');
CREATE FUNCTION pg_temp.slowly(n int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT * FROM seq_receive(n) LOOP
		INSERT INTO effects (vshard, epoch, "position") VALUES (r.vshard, r.epoch, r."position");
		PERFORM pg_sleep(0.03);
	END LOOP;
	PERFORM seq_commit();
END $$;
EOS
		$s->query(q{SET statement_timeout = '100ms'});
		like($s->error('SELECT pg_temp.slowly(30)'), qr/^57014: /, 'too many');
		$s->query('BEGIN; SAVEPOINT s');
		like($s->error('SELECT pg_temp.slowly(30)'), qr/^57014: /, 'in a savepoint');
		$s->query('ROLLBACK TO s; SELECT pg_temp.slowly(1); COMMIT');
		$s->query(q{RESET statement_timeout; BEGIN; SELECT process(); SET LOCAL statement_timeout = '50ms'});
		like($s->error(q{SELECT * FROM seq_receive(1, '1 min')}), qr/^57014: /, 'while there is nothing');
		$s->query('ROLLBACK');
		is(effects(), 1, 'what was committed');
	});

scenario(
	'the session is terminated between seq_commit and COMMIT',
	sub {
		$s->query('BEGIN; SELECT process(5); SELECT seq_commit(); COMMIT');
		$s->query('BEGIN; SELECT process(5); SELECT seq_commit()');
		sql($node, $db, 'SELECT pg_terminate_backend(' . $s->pid . ', 60000)');
		like($s->error('COMMIT'), qr/57P01|closed/, 'it is gone');
		is(effects(), 5, 'what was committed');
	});

#
# Other sessions
#

scenario(
	'another session takes over between receiving and seq_commit',
	sub {
		my $other = session($node, $db);

		$s->query('BEGIN; SELECT process(5)');
		$other->query("SELECT seq_subscribe('{$va,$vb}'); BEGIN; SELECT process(7); SELECT seq_commit(); COMMIT");
		like($s->error('SELECT seq_commit()'), qr/^(?:40001|55006): /, 'the first one cannot commit');
		$s->query('ROLLBACK');
		$s->query("SELECT seq_subscribe('{$va,$vb}')");
		like($other->error('SELECT process(7)'), qr/^55006: /, 'and takes it back');
		$s->query('BEGIN; SELECT process(2); SELECT seq_commit(); COMMIT');
		$other->quit;
		is(effects(), 9, 'what was committed');
	});

scenario(
	'the position moved and set back by others, while the transaction runs',
	sub {
		$s->query('BEGIN; SELECT process(5)');
		sql($node, $db, "SELECT seq_subscribe('{$va,$vb}', from_epoch => $next); SELECT seq_commit();");
		my $error = $s->error('SELECT seq_commit()');
		like($error, qr/^(?:40001|55006): /, 'it is not what it began at');
		$s->query('ROLLBACK');
		sql($node, $db, "SELECT seq_subscribe('{$va,$vb}', from_epoch => $first); SELECT seq_commit();");
	});

SKIP:
{
	my ($ret) = $node->psql($db, 'CREATE EXTENSION dblink');
	skip 'no dblink here', 1 if $ret != 0;

	scenario(
		'a second session by dblink, within the transaction of the first',
		sub {
			my $connstr = $node->connstr($db);

			$s->query("SELECT dblink_connect('other', \$\$$connstr\$\$)");
			$s->query("SELECT dblink_exec('other', 'CREATE TEMP TABLE mine (vshard int)')");
			$s->query('BEGIN; SELECT process(4); SELECT seq_commit(); COMMIT');
			# what the second commits stays, though the first rolls back
			$s->query(<<"EOS");
BEGIN;
SELECT process(6);
SELECT * FROM dblink('other', 'SELECT count(seq_subscribe(''{$va,$vb}''))') AS t (n bigint);
SELECT * FROM dblink('other', 'SELECT process(3), seq_commit()') AS t (n int, moved int);
EOS
			like($s->error('SELECT seq_commit()'), qr/^(?:40001|55006): /, 'it has lost the position to itself');
			$s->query("ROLLBACK; SELECT dblink_disconnect('other')");
			is(effects(), 7, 'what was committed');
		});
}

#
# Prepared transactions
#

scenario(
	'prepared transactions, finished by others either way',
	sub {
		$s->query("BEGIN; SELECT process(4); SELECT seq_commit(); PREPARE TRANSACTION 'yes'");
		sql($node, $db, "COMMIT PREPARED 'yes'");
		$s->query("BEGIN; SELECT process(4); SELECT seq_commit(); PREPARE TRANSACTION 'no'");
		sql($node, $db, "ROLLBACK PREPARED 'no'");
		# the session does not hear of that: at the latest seq_commit tells it
		my $error = $s->error('BEGIN; SELECT process(2); SELECT seq_commit(); COMMIT');
		like($error, qr/^40001: /, 'the position is not where it left it');
		$s->query('ROLLBACK');
		is(effects(), 4, 'what was committed');
	});

#
# Two names
#

scenario(
	'two names in one transaction, one of which is committed',
	sub {
		$s->query("SELECT seq_subscribe('{$va}', 'two', from_epoch => $first); SELECT seq_commit('two')");
		$s->query(<<'EOS');
CREATE TEMP TABLE two AS SELECT 0::bigint AS epoch, 0::bigint AS "position" WITH NO DATA;
BEGIN;
SELECT process(3);
INSERT INTO two SELECT epoch, "position" FROM seq_receive(5, name => 'two');
SELECT seq_commit();
SAVEPOINT s;
INSERT INTO two SELECT epoch, "position" FROM seq_receive(5, name => 'two');
SELECT process(3), seq_commit(), seq_commit('two');
ROLLBACK TO s;
INSERT INTO two SELECT epoch, "position" FROM seq_receive(2, name => 'two');
SELECT seq_commit('two');
COMMIT;
BEGIN;
INSERT INTO two SELECT epoch, "position" FROM seq_receive(name => 'two');
ROLLBACK;
BEGIN;
INSERT INTO two SELECT epoch, "position" FROM seq_receive(name => 'two');
SELECT seq_commit('two');
COMMIT;
EOS
		is(effects(), 3, 'what was committed');
		is( $s->query(q{SELECT string_agg(epoch || '.' || "position", ' ') FROM two}),
			sql($node, $db, "SELECT string_agg(epoch || '.' || \"position\", ' ') FROM seq_replay($va, $first, $next)"),
			'the other name: exactly once');
		$s->query("SELECT seq_unsubscribe(name => 'two'), seq_drop_cursor('two')");
	});

$node->stop;
nothing_crashed($node);
done_testing();
