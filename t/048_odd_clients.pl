# Consumers whose clients do odd things: prepared statements, portals, roles,
# DISCARD, timeouts, other sessions in between.  Whatever fails on the way, what
# is committed in the end is what seq_replay says, once.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinProtocol;
use CalvinScenario;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('odd_clients', max_prepared_transactions => 5);

scenarios($node, $db);

#
# Prepared statements, and ways to run a query
#

scenario(
	'prepared statements, given up in the middle',
	sub {
		my ($s) = @_;

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
		is(effects_stored(), 7, 'what was committed');
	});

scenario(
	'explained, made a table of, copied out',
	sub {
		my ($s, $first) = @_;

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
		is(effects_stored(), 5, 'what was committed');
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
		is("$r->{status} $r->{suspended}", 'I 1', 'a portal that ends with its statement');
		like($r->{error}, qr/^0A000: the query leaves out rows/, 'has rows left, so it fails');
		# and so does one that is closed
		$c->query('BEGIN');
		$r = $c->run($c->bind('p', 'receive'), $c->execute('p', 8), $c->close_portal('p'));
		like($r->{error}, qr/^0A000: the query leaves out rows/, 'one that is closed in front of its end');
		is($c->query('COMMIT')->{tags}[0], 'ROLLBACK', 'and its transaction');
		# all, though not its end
		$c->query('BEGIN');
		$r = $c->run($c->bind('p', 'receive'), $c->execute('p', 9), $c->close_portal('p'));
		is("$r->{error} $r->{suspended}", ' 1', 'one that nobody read on from, with nothing left');
		$c->query('ROLLBACK');
		$c->query('SELECT seq_rewind()');
		$r = $c->run($c->parse('commit', 'SELECT seq_commit()'), $c->parse('store', 'SELECT process(3)'),
			map { ($c->bind('', $_), $c->execute('')) } 'store', 'commit', 'store');
		is("$r->{error} " . @{ $r->{tags} }, ' 3', 'statements of one pipeline');
		is(effects_stored(), 9 + 9 + 6, 'what was committed');
		# the second one was stored without the position: it is the client's error
		$c->query('DELETE FROM effects WHERE n IN (SELECT n FROM effects ORDER BY n DESC LIMIT 3)');
		$c->quit;
	});

scenario(
	'several statements in one message, the last of which fails',
	sub {
		my $c = CalvinProtocol->new($node, $db);

		$c->query("SELECT seq_subscribe('{$va,$vb}')");
		like($c->query('SELECT process(3); SELECT seq_commit(); SELECT 1 / 0')->{error}, qr/^22012: /, 'all of it fails');
		is(effects_stored(), 0, 'and leaves nothing');
		like($c->query('SELECT process(3); SELECT seq_commit(); COMMIT; SELECT process(3); SELECT seq_commit(); SELECT 1 / 0')->{error},
			qr/^22012: /, 'or only what was not committed in it');
		is(effects_stored(), 3, 'which leaves the rest');
		$c->quit;
	});

#
# Roles, DISCARD, and what else ends in the middle
#

scenario(
	'roles that change in the middle',
	sub {
		my ($s) = @_;

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
		is(effects_stored(), 5, 'what was committed');
		sql($node, $db, 'DROP FUNCTION received_as_owner; DROP OWNED BY consumer; DROP ROLE consumer');
	});

scenario(
	'DISCARD ALL with rows received and not committed, and a cursor held open',
	sub {
		my ($s) = @_;

		$s->query("SELECT count(*) FROM seq_receive(7)");
		$s->query('BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT * FROM seq_receive(3); COMMIT; FETCH 1 FROM h');
		$s->query('DISCARD ALL');
		like($s->error('SELECT seq_receive()'), qr/^55000: /, 'the subscription is gone');
		$s->query("SELECT seq_subscribe('{$va,$vb}')");
		$s->query('BEGIN; SELECT process(4); SELECT seq_commit(); COMMIT');
		like($s->error('BEGIN; SELECT process(4); DISCARD ALL'), qr/^25001: /, 'it cannot be used within a transaction');
		$s->query('ROLLBACK; BEGIN; SELECT process(4); DISCARD TEMP; DISCARD SEQUENCES; SELECT seq_commit(); COMMIT');
		is(effects_stored(), 8, 'what was committed');
	});

scenario(
	'statement_timeout while it receives, in its effects, and while it waits',
	sub {
		my ($s) = @_;

		$s->query(<<'EOS');
CREATE FUNCTION pg_temp.slowly(n int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT * FROM seq_receive(n) LOOP
		PERFORM store(r.vshard, r.epoch, r."position");
		PERFORM pg_sleep(0.03);
	END LOOP;
	PERFORM seq_commit();
END $$;
EOS
		$s->query(q{SET statement_timeout = '100ms'});
		like($s->error('SELECT pg_temp.slowly(30)'), qr/^57014: /, 'too many');
		$s->query('BEGIN; SAVEPOINT s');
		like($s->error('SELECT pg_temp.slowly(30)'), qr/^57014: /, 'in a savepoint');
		$s->query('ROLLBACK TO s');
		$s->reset_timeout;
		# one that has the time
		$s->query('SELECT pg_temp.slowly(1); COMMIT');
		$s->query(q{BEGIN; SELECT process(); SET LOCAL statement_timeout = '50ms'});
		like($s->error(q{SELECT * FROM seq_receive(1, '1 min')}), qr/^57014: /, 'while there is nothing');
		$s->query('ROLLBACK');
		is(effects_stored(), 1, 'what was committed');
	});

scenario(
	'the session is terminated between seq_commit and COMMIT',
	sub {
		my ($s) = @_;

		$s->query('BEGIN; SELECT process(5); SELECT seq_commit(); COMMIT');
		$s->query('BEGIN; SELECT process(5); SELECT seq_commit()');
		sql($node, $db, 'SELECT pg_terminate_backend(' . $s->pid . ', 60000)');
		like($s->error('COMMIT'), qr/57P01|closed/, 'it is gone');
		is(effects_stored(), 5, 'what was committed');
	});

#
# Other sessions
#

scenario(
	'another session takes over between receiving and seq_commit',
	sub {
		my ($s) = @_;
		my $other = session($node, $db);

		$s->query('BEGIN; SELECT process(5)');
		$other->query("SELECT seq_subscribe('{$va,$vb}'); BEGIN; SELECT process(7); SELECT seq_commit(); COMMIT");
		like($s->error('SELECT seq_commit()'), qr/^(?:40001|55006): /, 'the first one cannot commit');
		$s->query('ROLLBACK');
		$s->query("SELECT seq_subscribe('{$va,$vb}')");
		like($other->error('SELECT process(7)'), qr/^55006: /, 'and takes it back');
		$s->query('BEGIN; SELECT process(2); SELECT seq_commit(); COMMIT');
		$other->quit;
		is(effects_stored(), 9, 'what was committed');
	});

scenario(
	'the position moved and set back by others, while the transaction runs',
	sub {
		my ($s, $first, $next) = @_;

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
			my ($s) = @_;
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
			is(effects_stored(), 7, 'what was committed');
		});
}

#
# Prepared transactions
#

scenario(
	'prepared transactions, finished by others either way',
	sub {
		my ($s) = @_;

		$s->query("BEGIN; SELECT process(4); SELECT seq_commit(); PREPARE TRANSACTION 'yes'");
		sql($node, $db, "COMMIT PREPARED 'yes'");
		$s->query("BEGIN; SELECT process(4); SELECT seq_commit(); PREPARE TRANSACTION 'no'");
		sql($node, $db, "ROLLBACK PREPARED 'no'");
		# the session does not hear of that: at the latest seq_commit tells it
		my $error = $s->error('BEGIN; SELECT process(2); SELECT seq_commit(); COMMIT');
		like($error, qr/^40001: /, 'the position is not where it left it');
		$s->query('ROLLBACK');
		is(effects_stored(), 4, 'what was committed');
	});

#
# Two names
#

scenario(
	'two names in one transaction, one of which is committed',
	sub {
		my ($s, $first, $next) = @_;

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
		is(effects_stored(), 3, 'what was committed');
		is( $s->query(q{SELECT string_agg(epoch || '.' || "position", ' ') FROM two}),
			sql($node, $db, "SELECT string_agg(epoch || '.' || \"position\", ' ') FROM seq_replay($va, $first, $next)"),
			'the other name: exactly once');
		$s->query("SELECT seq_unsubscribe(name => 'two'), seq_drop_cursor('two')");
	});

$node->stop;
nothing_crashed($node);
done_testing();
