# What goes past the executor does what the executor would: whatever somebody has
# attached to the extension's tables, functions that write to them are as INSERT,
# UPDATE and DELETE.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinSubmit;
use CalvinTest;
use Test::More;

my $db = 'postgres';
my $node = new_node('executor', max_prepared_transactions => 2, 'calvin_seq.snapshot_interval' => 3);
my $txn = [ ['a'], 'ab', 1 ];
my $va = vshard_of('a');
my $epoch = 0;

create_extension($node, $db);
my $s = session($node, $db);
my @tables = split /\n/, $s->query(<<'SQL');
SELECT c.relname FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e'
WHERE relkind = 'r' ORDER BY 1
SQL
cmp_ok(scalar @tables, '>=', 9, 'tables, by the catalogs');

# One call of each function that writes.
sub write_all
{
	my ($name) = @_;

	$s->query("SELECT seq_append('\\x" . batch_hex($epoch++, 1, $txn, $txn) . "')");
	$s->query(qq{SELECT seq_append_json('{"EpochBatch": {"epoch": $epoch, "txns": []}}')});
	$epoch++;
	$s->query('SELECT seq_ack(' . ($epoch - 2) . ", 0, $va)");
	$s->query(q{SELECT seq_send('a', '{}')});
	wait_sequenced($node, $db);
	$epoch = 1 + $s->query('SELECT seq_current_committed_epoch()');
	wait_applied($node, $db);
	my $from = $epoch - 3;
	$s->query("SELECT seq_register('r$name', '{$va}', $from); SELECT seq_create_group('g$name', 3, from_epoch => $from)");
	foreach my $consumer ("p$name", "r$name")
	{
		$s->query("SELECT seq_subscribe('{$va}', '$consumer', from_epoch => $from)");
		$s->query("BEGIN; SELECT count(*) FROM seq_receive(1, '10s', '$consumer'); SELECT seq_commit('$consumer'); COMMIT") for 1 .. 2;
		$s->query("SELECT seq_unsubscribe('{$va}', '$consumer')");
	}
	$s->query("SELECT seq_park('g$name', vshard, epoch, position, 'x') FROM (SELECT * FROM seq_fetch('g$name', 1)) f");
	$s->query("SELECT seq_drop_parked('g$name', vshard, epoch, position) FROM seq_parked WHERE name = 'g$name'");
	$s->query("SELECT seq_handle('g$name', 'handler(seq_txn)'); SELECT seq_unhandle('g$name')");
	$s->query('SELECT seq_snapshot(); SELECT seq_truncate(' . ($epoch - 1) . ', force => true)');
	# seq_following is written past everything, and acks of a follower are in t/165
	my $follower = '00000000-0000-0000-0000-00000000000' . $name;
	$s->query("SELECT seq_feed_note('$follower', 'f', $_)") for 1 .. 2;
	$s->query("SELECT seq_drop_follower('$follower')");
	$s->query("SELECT seq_drop_cursor('p$name'); SELECT seq_unregister('r$name'); SELECT seq_drop_group('g$name')");
	return;
}

$s->query('CREATE FUNCTION handler(seq_txn) RETURNS void LANGUAGE sql AS $$ SELECT $$');
# a log that has an identity of a copy gets another one
$s->query("INSERT INTO seq_identity (identity) VALUES ('00000000-0000-0000-0000-000000000001')");

# Every row that comes and goes is noted, by triggers for rows and by those that see a
# statement's rows as a table: played back, the notes are what is in the tables.
$s->query(<<'SQL');
CREATE SCHEMA note;
CREATE TABLE note.rows (i bigserial, kind text, place text, op text, was jsonb, is_now jsonb);
CREATE TABLE note.commands (place text, time text, op text);
CREATE FUNCTION note.row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO note.rows (kind, place, op, was, is_now) VALUES ('row', TG_TABLE_NAME, TG_OP,
		CASE WHEN TG_OP <> 'INSERT' THEN pg_catalog.to_jsonb(OLD) END, CASE WHEN TG_OP <> 'DELETE' THEN pg_catalog.to_jsonb(NEW) END);
	RETURN NULL;
END $$;
CREATE FUNCTION note.inserted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO note.rows (kind, place, op, is_now) SELECT 'table', TG_TABLE_NAME, TG_OP, pg_catalog.to_jsonb(t) FROM new_rows t;
	RETURN NULL;
END $$;
CREATE FUNCTION note.deleted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO note.rows (kind, place, op, was) SELECT 'table', TG_TABLE_NAME, TG_OP, pg_catalog.to_jsonb(t) FROM old_rows t;
	RETURN NULL;
END $$;
CREATE FUNCTION note.updated() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO note.rows (kind, place, op, was) SELECT 'table', TG_TABLE_NAME, TG_OP, pg_catalog.to_jsonb(t) FROM old_rows t;
	INSERT INTO note.rows (kind, place, op, is_now) SELECT 'table', TG_TABLE_NAME, TG_OP, pg_catalog.to_jsonb(t) FROM new_rows t;
	RETURN NULL;
END $$;
CREATE FUNCTION note.command() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO note.commands VALUES (TG_TABLE_NAME, TG_WHEN, TG_OP);
	RETURN NULL;
END $$;
SQL
sub attach
{
	my ($table) = @_;

	$s->query(<<"SQL");
CREATE TRIGGER zz_row AFTER INSERT OR UPDATE OR DELETE ON $table FOR EACH ROW EXECUTE FUNCTION note.row();
CREATE TRIGGER zz_inserted AFTER INSERT ON $table REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION note.inserted();
CREATE TRIGGER zz_deleted AFTER DELETE ON $table REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION note.deleted();
CREATE TRIGGER zz_updated AFTER UPDATE ON $table REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION note.updated();
CREATE TRIGGER zz_before BEFORE INSERT OR UPDATE OR DELETE ON $table FOR EACH STATEMENT EXECUTE FUNCTION note.command();
CREATE TRIGGER zz_after AFTER INSERT OR UPDATE OR DELETE ON $table FOR EACH STATEMENT EXECUTE FUNCTION note.command();
SQL
	$s->query("INSERT INTO note.rows (kind, place, op, is_now) SELECT k, '$table', 'HAD', to_jsonb(t) FROM $table t, unnest(ARRAY['row', 'table']) k");
	return;
}

sub detach
{
	my ($table) = @_;

	$s->query("DROP TRIGGER zz_$_ ON $table") foreach qw(row inserted deleted updated before after);
	return;
}

attach($_) foreach @tables;
write_all('1');
write_all('2');
foreach my $table (@tables)
{
	foreach my $kind ('row', 'table')
	{
		is($s->query(<<"SQL"), '', "$table: what came and went is what is there, by $kind");
SELECT jsonb, sum(n) FROM (
	SELECT is_now AS jsonb, 1 AS n FROM note.rows WHERE kind = '$kind' AND place = '$table' AND is_now IS NOT NULL
	UNION ALL SELECT was, -1 FROM note.rows WHERE kind = '$kind' AND place = '$table' AND was IS NOT NULL
	UNION ALL SELECT to_jsonb(t), -1 FROM $table t) n GROUP BY 1 HAVING sum(n) <> 0
SQL
	}
}
is($s->query("SELECT string_agg(DISTINCT place, ' ' ORDER BY place) FROM note.rows WHERE op = 'INSERT'"), join(' ', grep { !/^seq_(?:inbox|following|outgoing_acks|group_starts|vshard_moves)$/ } @tables), 'rows came to all of them');
is($s->query("SELECT string_agg(DISTINCT place, ' ' ORDER BY place) FROM note.rows WHERE op = 'DELETE'"), join(' ', grep { !/^seq_(?:inbox|following|outgoing_acks|group_starts|vshard_moves)$/ } @tables), 'and went');
is($s->query("SELECT count(*) FROM (SELECT place, op FROM note.commands GROUP BY 1, 2 HAVING count(*) FILTER (WHERE time = 'BEFORE') <> count(*) FILTER (WHERE time = 'AFTER')) c"), 0, 'statements begin and end');
is($s->query("SELECT count(*) > 20 FROM note.commands"), 't', 'there were some');
detach($_) foreach @tables;

# and a restored submission, which the sequencer takes
attach('seq_inbox');
$s->query("INSERT INTO seq_inbox VALUES (1, 1, 0, '\\x" . unpack('H*', CalvinWire::tx_class(plans => 'restored')) . "')");
wait_for_sql($node, $db, 'SELECT count(*) FROM seq_inbox', '0');
is($s->query("SELECT string_agg(kind || ' ' || op, ', ' ORDER BY op, kind) FROM note.rows WHERE place = 'seq_inbox'"), 'row DELETE, table DELETE, row INSERT, table INSERT', 'what is taken from seq_inbox is deleted');
detach('seq_inbox');
$epoch = 1 + $s->query('SELECT seq_current_committed_epoch()');
$s->query('TRUNCATE note.rows, note.commands');

# Added columns: the same by a function as by INSERT.
$s->query(<<'SQL');
SET client_min_messages = error;
CREATE DOMAIN note.positive AS int DEFAULT 3 NOT NULL CHECK (VALUE > 0);
CREATE SEQUENCE note.numbers;
CREATE FUNCTION note.answer() RETURNS int LANGUAGE plpgsql VOLATILE AS $$ BEGIN RETURN 42; END $$;
SQL
foreach my $table (qw(seq_log seq_snapshots seq_cursor_positions))
{
	$s->query("ALTER TABLE $table ADD COLUMN own_text text NOT NULL DEFAULT 'x', ADD COLUMN own_call int DEFAULT note.answer(), ADD COLUMN own_domain note.positive, ADD COLUMN own_number bigint NOT NULL DEFAULT nextval('note.numbers'), ADD COLUMN own_sum int GENERATED ALWAYS AS (1 + 1) STORED, ADD COLUMN own_null int, ADD COLUMN own_gone int DEFAULT 1");
	$s->query("ALTER TABLE $table DROP COLUMN own_gone");
	$s->query(unguarded("ALTER TABLE $table ADD COLUMN own_identity int GENERATED ALWAYS AS IDENTITY"));
	$s->query(unguarded("ALTER TABLE $table ADD COLUMN own_given int GENERATED BY DEFAULT AS IDENTITY"));
}
my $own = 'own_text, own_call, own_domain, own_number IS NOT NULL, own_sum, own_null IS NULL, own_identity > 0, own_given > 0';
my $rows = $s->query('SELECT count(*) FROM seq_log');
$s->query("INSERT INTO seq_log (entry) VALUES ('')");
is($s->query("SELECT $own FROM seq_log ORDER BY log_index DESC LIMIT 1"), 'x|42|3|t|2|t|t|t', 'what an INSERT gives to added columns');
write_all('3');
is($s->query("SELECT DISTINCT $own FROM seq_log"), 'x|42|3|t|2|t|t|t', 'is what every function gives');
is($s->query("SELECT DISTINCT $own FROM seq_snapshots"), 'x|42|3|t|2|t|t|t', 'to snapshots too, of which each is stored');
is($s->query('SELECT count(DISTINCT own_number) = count(*), count(DISTINCT own_identity) = count(*) FROM seq_log'), 't|t', 'numbers are drawn once');
my $applied = $s->query('SELECT last_applied_index FROM seq_state');
append_batches($node, $db, $epoch, $epoch + 8, [$txn]);
wait_for_sql($node, $db, "SELECT count(*) > 0 FROM seq_snapshots WHERE log_index > $applied", 't');
pass('the applier stores snapshots as before');
$epoch += 9;

# of a cursor, what was set goes on with it
$s->query("SELECT seq_subscribe('{$va}', 'c', from_epoch => " . ($epoch - 9) . '); SELECT count(*) FROM seq_receive(1, \'10s\', \'c\'); SELECT seq_commit(\'c\')');
is($s->query("SELECT $own FROM seq_cursor_positions"), 'x|42|3|t|2|t|t|t', 'a new cursor');
$s->query("UPDATE seq_cursor_positions SET own_text = 'mine', own_call = NULL, own_null = 5");
my $kept = $s->query('SELECT own_text, own_call, own_domain, own_number, own_sum, own_null, own_identity, own_given FROM seq_cursor_positions');
$s->query("SELECT count(*) FROM seq_receive(1, '10s', 'c'); SELECT seq_commit('c')");
is($s->query('SELECT own_text, own_call, own_domain, own_number, own_sum, own_null, own_identity, own_given FROM seq_cursor_positions'), $kept, 'and what became of it goes on');
is($s->query('SELECT version FROM seq_cursor_positions'), 2, 'with the next version');
$s->query("SELECT seq_drop_cursor('c')");

# constraints of somebody's
$s->query("ALTER TABLE seq_log ADD CONSTRAINT own CHECK (own_text = 'x'), ALTER COLUMN own_text SET DEFAULT 'y'");
like($s->error("SELECT seq_append('')"), qr/^23514: .*own/, 'a constraint that the default violates');
like($s->error("INSERT INTO seq_log (entry) VALUES ('')"), qr/^23514: .*own/, 'as for INSERT');
$s->query('ALTER TABLE seq_log DROP CONSTRAINT own, ALTER COLUMN own_text DROP DEFAULT');
like($s->error("SELECT seq_append('')"), qr/^23502: null value in column "own_text"/, 'NOT NULL without a default');
$s->query('ALTER TABLE seq_log DROP COLUMN own_text; ALTER TABLE seq_log DROP COLUMN own_call; ALTER TABLE seq_log DROP COLUMN own_domain; ALTER TABLE seq_log DROP COLUMN own_number; ALTER TABLE seq_log DROP COLUMN own_sum; ALTER TABLE seq_log DROP COLUMN own_identity; ALTER TABLE seq_log DROP COLUMN own_given');
cmp_ok($s->query("SELECT seq_append('')"), '>', 0, 'without them it goes on');

# A trigger may keep a row out, or in, and is named; it may not make another one of it.
$s->query(<<'SQL');
CREATE FUNCTION note.nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE FUNCTION note.other() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.owner := 10; RETURN NEW; END $$;
CREATE FUNCTION note.other_role() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.role := 10; RETURN NEW; END $$;
CREATE TRIGGER zz BEFORE DELETE ON seq_log FOR EACH ROW EXECUTE FUNCTION note.nothing();
SQL
my $count = $s->query('SELECT count(*), (SELECT count(*) FROM seq_snapshots WHERE base) FROM seq_log');
like($s->error("SELECT seq_truncate($epoch - 1, force => true)"), qr/^09000: a trigger on seq_log keeps entries from being removed/, 'a trigger keeps entries in');
is($s->query('SELECT count(*), (SELECT count(*) FROM seq_snapshots WHERE base) FROM seq_log'), $count, 'and all of them stay');
like($s->error('DELETE FROM seq_log'), qr/^55000: /, 'nobody else may delete');
$s->query('DROP TRIGGER zz ON seq_log; CREATE FUNCTION note.more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM public.seq_log; RETURN OLD; END $$; CREATE TRIGGER zz AFTER DELETE ON seq_log FOR EACH ROW EXECUTE FUNCTION note.more()');
like($s->error("SELECT seq_truncate($epoch - 1, force => true)"), qr/^55000: cannot DELETE FROM seq_log/, 'nor the trigger, of what is to stay');
$s->query('DROP TRIGGER zz ON seq_log');
$s->query('CREATE ROLE evil SUPERUSER LOGIN; CREATE TRIGGER zz BEFORE INSERT ON seq_registrations FOR EACH ROW EXECUTE FUNCTION note.other(); SET ROLE evil');
like($s->error("SELECT seq_register('other', '{1}')"), qr/^09000: a trigger on seq_registrations has changed a row/, 'nobody registers somebody else');
$s->query("RESET ROLE; DROP TRIGGER zz ON seq_registrations; SELECT seq_create_group('g', 1); CREATE TRIGGER zz BEFORE INSERT ON seq_handler_definitions FOR EACH ROW EXECUTE FUNCTION note.other_role(); SET ROLE evil");
like($s->error("SELECT seq_handle('g', 'handler(seq_txn)')"), qr/^09000: a trigger on seq_handler_definitions has changed a row/, 'or has a handler run as him');
# not by the owner of the table's own INSERT either
$s->query('RESET ROLE; ALTER ROLE evil NOSUPERUSER; ALTER TABLE seq_handler_definitions OWNER TO evil; SET ROLE evil');
like($s->error("INSERT INTO seq_handler_definitions SELECT 'g', 1, 1, 'public', 'handler', false, 'evil'::regrole, 'evil', 1, 5, 100, 100, now(), 'evil'"),
	qr/^42501: permission denied to define a handler that runs as role/, 'by INSERT neither');
$s->query('RESET ROLE; DROP TRIGGER zz ON seq_handler_definitions');

# Foreign keys to any of the tables are refused; those that are there all the same count.
foreach my $table (@tables)
{
	my ($key, $types) = split /\|/, $s->query("SELECT string_agg(attname, ', ' ORDER BY attnum), string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey) WHERE indrelid = '$table'::regclass AND indisprimary");

	$s->query("CREATE TABLE note.mine ($types)");
	foreach my $command ("CREATE TABLE note.fk ($types, FOREIGN KEY ($key) REFERENCES $table)", "ALTER TABLE note.mine ADD FOREIGN KEY ($key) REFERENCES $table NOT VALID",
		"CREATE TABLE note.fk ($types, FOREIGN KEY ($key) REFERENCES $table ON DELETE CASCADE) PARTITION BY LIST (" . ($key =~ s/,.*//r) . ')')
	{
		like($s->error($command), qr/^55000: $table cannot be referenced by foreign keys/, $command =~ s/ \(.*//r . " $table");
	}
	$s->query('DROP TABLE note.mine');
}
$s->query(unguarded('CREATE TABLE note.fk (i bigint REFERENCES seq_log)'));
$s->query('INSERT INTO note.fk SELECT min(log_index) FROM seq_log');
like($s->error("SELECT seq_truncate($epoch - 1, force => true)"), qr/^23503: /, 'a reference from before the guard holds');
$s->query('DROP TABLE note.fk; ' . unguarded('CREATE TABLE note.fk (i bigint REFERENCES seq_log ON DELETE CASCADE)') . '; INSERT INTO note.fk SELECT log_index FROM seq_log');
cmp_ok($s->query("SELECT seq_truncate($epoch - 1, force => true)"), '>', 0, 'or goes with what it refers to');
is($s->query('SELECT count(*) FROM note.fk WHERE NOT EXISTS (SELECT FROM seq_log WHERE log_index = i)'), 0, 'and nothing dangles');
$s->query('DROP TABLE note.fk');

# With nothing attached it is past the executor again: no trigger of ours is called.
is($s->query("SELECT seq_append('') > 0"), 't', 'all goes on');

$s->quit;
$node->stop;
nothing_crashed($node);
done_testing();
