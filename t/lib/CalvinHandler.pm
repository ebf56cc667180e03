# Handlers for tests: what they do, and waiting for it.
#
# A table "done" tells what was handled, by the name of the group; a table "faults" what
# is to go wrong: a handler fails with a message for the numbers that are in it.
package CalvinHandler;

use strict;
use warnings;

use CalvinTest;
use Exporter 'import';

our @EXPORT = qw(prepare_handlers make_handler handle send_numbers wait_done wait_state
  wait_for_handlers handler_pids);

sub prepare_handlers
{
	my ($node, $db) = @_;

	return sql($node, $db, <<'EOS');
CREATE TABLE done (i bigserial, handler text, collection text, n int, who name, pid int, xid xid8 DEFAULT pg_current_xact_id());
CREATE TABLE faults (n int, message text);
GRANT ALL ON done, faults TO PUBLIC;
GRANT USAGE ON SEQUENCE done_i_seq TO PUBLIC;
CREATE FUNCTION do_one(handler text, t seq_txn) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	m int := (seq_json(t.plans) ->> 'n')::int;
	fault text := (SELECT message FROM faults f WHERE f.n = m LIMIT 1);
BEGIN
	INSERT INTO done (handler, collection, n, who, pid)
		VALUES (handler, seq_collection(t.tx_class), m, current_user, pg_backend_pid());
	IF fault LIKE 'sql:%' THEN
		EXECUTE substr(fault, 5);
	ELSIF fault IS NOT NULL THEN
		RAISE EXCEPTION '%', fault;
	END IF;
END
$$;
EOS
}

# A function of that name for a group: "rows" takes one transaction, "all" many.
sub make_handler
{
	my ($node, $db, $group, $form) = @_;

	return sql($node, $db, $form eq 'rows' ?
		"CREATE OR REPLACE FUNCTION h_$group(t seq_txn) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN PERFORM do_one('$group', t); END \$\$" :
		"CREATE OR REPLACE FUNCTION h_$group(t seq_txn[]) RETURNS void LANGUAGE plpgsql AS \$\$ DECLARE x seq_txn; BEGIN FOREACH x IN ARRAY t LOOP PERFORM do_one('$group', x); END LOOP; END \$\$");
}

# handle(node, db, group, form, options of seq_handle)
sub handle
{
	my ($node, $db, $group, $form, $options) = @_;

	make_handler($node, $db, $group, $form);
	return sql($node, $db, "SELECT seq_handle('$group', 'h_$group(seq_txn" . ($form eq 'rows' ? '' : '[]') . ")'" . ($options ? ", $options" : '') . ')');
}

# Numbers from .. to, each a transaction of its own for a collection.
sub send_numbers
{
	my ($node, $db, $collection, $from, $to) = @_;

	return sql($node, $db,
		"SELECT count(seq_send('$collection', jsonb_build_object('n', n))) FROM generate_series($from, $to) n");
}

sub wait_done
{
	my ($node, $db, $group, $n) = @_;

	return wait_for_sql($node, $db, "SELECT count(*) FROM done WHERE handler = '$group'", $n);
}

sub wait_state
{
	my ($node, $db, $group, $state) = @_;

	return wait_for_sql($node, $db, "SELECT state FROM seq_handlers WHERE name = '$group'", $state);
}

# Until so many workers are connected to a database.
sub wait_for_handlers
{
	my ($node, $db, $n) = @_;

	return wait_for_sql($node, 'postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'calvin_seq handler' AND datname = '$db'", $n);
}

sub handler_pids
{
	my ($node, $db, $group) = @_;

	return split /,/, sql($node, $db, "SELECT array_to_string(pids, ',') FROM seq_handlers WHERE name = '$group'");
}

1;
