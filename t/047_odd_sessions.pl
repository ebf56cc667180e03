# Consumers in SQL that ends in the middle: procedures, blocks, cursors, chains,
# triggers.  Whatever fails on the way, what is committed in the end is what
# seq_replay says, once.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinScenario;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('odd_sessions');

scenarios($node, $db);

#
# Procedures
#

scenario(
	'COMMIT and ROLLBACK in turn, in a procedure called by a procedure',
	sub {
		my ($s) = @_;

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
		cmp_ok(effects_stored(), '>', 10, 'it has got somewhere');
	});

scenario(
	'exception blocks around receiving, effects and seq_commit each',
	sub {
		my ($s) = @_;

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
		cmp_ok(effects_stored(), '>', 10, 'it has got somewhere');
	});

scenario(
	'a loop over what was received, that commits when it has done half',
	sub {
		my ($s) = @_;
		my $error = $s->error(<<'EOS');
DO $$
DECLARE
	r record;
	n int := 0;
BEGIN
	FOR r IN SELECT * FROM seq_receive(20) LOOP
		PERFORM store(r.vshard, r.epoch, r."position");
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
		is(effects_stored(), 0, 'nor those that are');
	});

scenario(
	'receiving for each row received, in blocks that fail',
	sub {
		my ($s) = @_;

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
		is(effects_stored(), 6, 'what was committed');
	});

scenario(
	'a cursor that is opened in a block, and read after it',
	sub {
		my ($s) = @_;

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
			PERFORM store(r.vshard, r.epoch, r."position");
		END LOOP;
		PERFORM seq_commit();
	END LOOP;
END $$;
EOS
		is(effects_stored(), 12, 'what was committed');
	});

scenario(
	'a thousand blocks, half of which fail',
	sub {
		my ($s) = @_;

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
		is(effects_stored(), 25, 'what was committed');
	});

scenario(
	'transactions in a chain',
	sub {
		my ($s) = @_;

		$s->query(<<'EOS');
BEGIN; SELECT process(3); SELECT seq_commit(); COMMIT AND CHAIN;
SELECT process(3); ROLLBACK AND CHAIN;
SAVEPOINT s; SELECT seq_unsubscribe(); ROLLBACK TO s;
EOS
		like($s->error('SELECT process(3)'), qr/^55000: /, 'the end of a subscription is not taken back');
		$s->query("ROLLBACK AND CHAIN; SELECT seq_subscribe('{$va,$vb}'); SELECT process(3); SELECT seq_commit(); COMMIT AND CHAIN; SELECT process(3); COMMIT");
		$s->query(q{DELETE FROM effects WHERE n IN (SELECT n FROM effects ORDER BY n DESC LIMIT 3)});
		is(effects_stored(), 6, 'what was committed');
	});

# The loops that are safe: what receives is not what loops over transactions.
scenario(
	'a loop over something else, with a transaction in each turn',
	sub {
		my ($s) = @_;

		$s->query(<<'EOS');
DO $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT generate_series(1, 6) AS i LOOP
		PERFORM process(2);
		IF r.i % 2 = 0 THEN
			ROLLBACK;
		ELSE
			PERFORM seq_commit();
			COMMIT;
		END IF;
	END LOOP;
END $$;
EOS
		is(effects_stored(), 6, 'what was committed');
	});

scenario(
	'a loop over rows kept in a variable, left before the transaction ends',
	sub {
		my ($s) = @_;

		$s->query(<<'EOS');
DO $$
DECLARE
	txns seq_txn[];
	r record;
BEGIN
	FOR i IN 1..4 LOOP
		txns := ARRAY(SELECT t FROM seq_receive(3) t);
		FOR r IN SELECT * FROM unnest(txns) LOOP
			PERFORM store(r.vshard, r.epoch, r."position");
		END LOOP;
		IF i = 2 THEN
			ROLLBACK;
		ELSE
			PERFORM seq_commit();
			COMMIT;
		END IF;
	END LOOP;
END $$;
EOS
		is(effects_stored(), 9, 'what was committed');
	});

scenario(
	'a block for each row, some of which fail at first',
	sub {
		my ($s) = @_;

		$s->query(<<'EOS');
DO $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT * FROM seq_receive(9) LOOP
		FOR try IN 1..2 LOOP
			BEGIN
				PERFORM store(r.vshard, r.epoch, r."position");
				IF try = 1 AND r.epoch % 2 = 0 THEN RAISE 'at first'; END IF;
				EXIT;
			EXCEPTION WHEN raise_exception THEN NULL;
			END;
		END LOOP;
	END LOOP;
	PERFORM seq_commit();
END $$;
EOS
		is(effects_stored(), 9, 'what was committed');
	});

scenario(
	'a held cursor, whose query receives and commits when the transaction does',
	sub {
		my ($s) = @_;

		like($s->error('BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT process(2), seq_commit() FROM generate_series(1, 3); COMMIT'),
			qr/^40001: /, 'is refused');
		is(effects_stored(), 0, 'and leaves nothing');
		# the server had held it by then
		$s->query('CLOSE h');
	});

#
# Triggers
#

scenario(
	'triggers that receive: of a statement, of rows, and deferred to the end',
	sub {
		my ($s) = @_;

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
		is(effects_stored(), 6, 'each has processed two');
		like($s->error("INSERT INTO ticks VALUES ('row')"), qr/^P0001: failed in row/, 'one fails at once');
		like($s->error("INSERT INTO ticks VALUES ('deferred')"), qr/^P0001: failed in deferred/, 'one when the transaction was to commit');
		$s->query("BEGIN; INSERT INTO ticks VALUES ('none'); SAVEPOINT s; INSERT INTO ticks VALUES ('none'), ('none'); ROLLBACK TO s; COMMIT");
		is(effects_stored(), 12, 'and nothing of those is left');
	});

$node->stop;
nothing_crashed($node);
done_testing();
