# What a submission must leave alone in the session that makes it, and what may
# come between the beginning of one and its end.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinSubmit;
use CalvinTest;
use Test::More;

my $db = 'postgres';
my $node = new_node('main', 'calvin_seq.tenant_inbox_quota' => 100000);

create_extension($node);
create_sent($node, $db);

# Once in so many submissions numbers are reserved; the application, which may do
# nothing with our sequence, asks for its own.
sql($node, $db, <<'EOS');
CREATE ROLE app;
GRANT EXECUTE ON FUNCTION seq_send(text, jsonb, bigint) TO app;
CREATE TABLE orders (id serial PRIMARY KEY);
GRANT INSERT ON orders TO app;
GRANT USAGE, SELECT ON SEQUENCE orders_id_seq TO app;
EOS
is(sql($node, $db, <<'EOS'), '0', 'lastval() is the application\'s own');
SET ROLE app;
CREATE FUNCTION pg_temp.wrong() RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	wrong int := 0;
BEGIN
	FOR i IN 1 .. 9000 LOOP
		INSERT INTO orders DEFAULT VALUES;
		PERFORM seq_send('orders', '{}');
		wrong := wrong + (lastval() <> i)::int;
	END LOOP;
	RETURN wrong;
END $$;
SELECT pg_temp.wrong();
EOS
sql($node, $db, "SELECT seq_send('orders', '{}')");
wait_sequenced($node, $db);
forget_sent($node, $db);

# Each change of the key is two submissions, and for each of the two rows a cast makes
# another one on the way, in a subtransaction of its own: all count for the tenant.
my $s = session($node, $db);

sql($node, $db, <<'EOS');
CREATE TYPE noisy AS ENUM ('a');
CREATE FUNCTION noisy_json(noisy) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		PERFORM seq_send('cast', '1');
	EXCEPTION WHEN division_by_zero THEN
		NULL;
	END;
	RETURN '1'::json;
END $$;
CREATE CAST (noisy AS json) WITH FUNCTION noisy_json(noisy);
CREATE TABLE keyed (id int PRIMARY KEY, n noisy);
CREATE TRIGGER send AFTER INSERT OR UPDATE ON keyed FOR EACH ROW EXECUTE FUNCTION seq_send_changes('k', 'id');
EOS
foreach my $odd (0, 1)
{
	$s->query('BEGIN');
	$s->query("SELECT seq_send('odd', '1')") if $odd;
	$s->query(q{DELETE FROM keyed; INSERT INTO keyed VALUES (0, 'a')});
	$s->query('UPDATE keyed SET id = id + 1') foreach 1 .. 40;
	$s->query('SAVEPOINT a; UPDATE keyed SET id = id + 1; ROLLBACK TO a');
	$s->query('UPDATE keyed SET id = id + 1') foreach 1 .. 40;
	$s->query('COMMIT');
	wait_sequenced($node, $db);
	is( sql($node, $db, <<'EOS'),
SELECT count(*) FILTER (WHERE collection = 'cast'), count(*) FILTER (WHERE collection ~ '^k/'), count(*) FILTER (WHERE collection = 'odd'),
	max(waiting_rows) FROM sent, seq_sequencer WHERE collection <> 'orders'
EOS
		join('|', 161 * (1 + $odd), 161 * (1 + $odd), $odd, 0),
		'two at once, and others between' . ($odd ? ', behind another' : ''));
}
# nothing of it is counted any more
$node->append_conf('postgresql.conf', "calvin_seq.tenant_inbox_quota = 1\n");
$node->reload;
wait_for_sql($node, $db, 'SHOW calvin_seq.tenant_inbox_quota', '1');
sql($node, $db, "SELECT seq_send('odd', '2')");
like(sql_error($node, $db, "BEGIN; SELECT seq_send('odd', '3'); SELECT seq_send('odd', '4')"),
	qr/1 of its submissions wait/, 'and all that the tenant had waiting is taken off again');
nothing_crashed($node);
$s->quit;
$node->stop;
done_testing();
