# pg_dump and pg_restore of an installation with everything that a user may add to it:
# without a warning, and in the ways that docs/backup.md shows.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use CalvinUpgrade;
use PostgreSQL::Test::Utils;
use Test::More;

my $install = own_installation();
my $node = new_node('added', -install => $install, 'calvin_seq.max_databases' => 10, max_worker_processes => 40, wal_level => 'logical');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $txn = [ ['a'], 'ab', 1 ];
my $va = vshard_of('a');
my $doc = slurp_file("$FindBin::RealBin/../docs/backup.md");

# What the page shows, as it is.
my ($control) = $doc =~ /```\n# SHAREDIR\/extension\/app_seq\.control\n(.*?)```/s;
my ($script) = $doc =~ /```sql\n-- SHAREDIR\/extension\/app_seq--1\.sql\n(.*?)```/s;
my ($added) = $doc =~ /```sql\n(-- added\.sql.*?)```/s;
my ($dump) = $doc =~ /```sh\n(psql -XAtq -d app -v when=before.*?)```/s;
my ($restore) = $doc =~ /```sh\n(createdb copy\npg_restore --exit-on-error --section=pre-data.*?)```/s;
ok($control && $script && $added && $dump && $restore, 'the page shows how');
add_extension('app_seq', $control, $script);
append_to_file("$dir/added.sql", $added);

# Run commands as they stand there; what they say besides.
sub shell
{
	my ($commands, %names) = @_;
	my $renamed = $commands =~ s/\b(app|copy)(?=[\s.]|$)/$names{$1}/gr;
	my ($ok, $out, $err);

	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PATH => "$install/bin:$ENV{PATH}");
	$ok = IPC::Run::run([ 'sh', '-ec', "cd '$dir'\n$renamed" ], '>', \$out, '2>', \$err);
	return ($ok ? 'done' : 'failed') . ($err eq '' ? '' : ": $err") . $out;
}

# Whatever the extension has: consumers, groups, handlers, parked, cursors, snapshots, base,
# what waits, grants.
sub fill
{
	my ($db) = @_;
	my $s = session($node, $db);

	append_batches($node, $db, 0, 9, [ $txn, $txn ]);
	wait_applied($node, $db);
	$s->query("SELECT seq_subscribe('{$va}', 'plain', from_epoch => 0); BEGIN; SELECT count(*) FROM seq_receive(9, '10s', 'plain'); SELECT seq_commit('plain'); COMMIT");
	$s->query("SELECT seq_register('worker', '{$va}', 5); SELECT seq_create_group('group', 2, from_epoch => 5)");
	$s->query("SELECT seq_park('group', vshard, epoch, position, 'for now') FROM (SELECT * FROM seq_fetch('group', 2)) f");
	$s->query('CREATE FUNCTION handler(seq_txn) RETURNS void LANGUAGE sql AS $$ SELECT $$');
	$s->query("SELECT seq_create_group('handled', 2); SELECT seq_handle('handled', 'handler(seq_txn)')");
	$s->query("SELECT seq_snapshot(); SELECT seq_unsubscribe(); SELECT seq_truncate(3, force => true)");
	$s->query('GRANT SELECT ON seq_log TO worker; GRANT EXECUTE ON FUNCTION seq_append(bytea, boolean) TO worker; REVOKE SELECT ON seq_state FROM pg_monitor');
	$s->query('CREATE PUBLICATION all_of_it FOR ALL TABLES');
	$s->quit;
	return;
}

sub contents
{
	my ($db, @columns) = @_;

	return join "\n", state($node, $db),
	  sql($node, $db, 'SELECT ' . join(', ', 'log_index', 'md5(entry)', 'kind', 'epoch', 'appended_at', @columns) . ' FROM seq_log ORDER BY 1'),
	  (map { sql($node, $db, "SELECT * FROM $_ ORDER BY 1, 2") } qw(seq_cursor_positions seq_parked_txns seq_group_positions)),
	  sql($node, $db, 'SELECT name, id, kind, vshards, partitions FROM seq_registrations ORDER BY 1'),
	  sql($node, $db, "SELECT has_table_privilege('worker', 'seq_log', 'SELECT'), has_function_privilege('worker', 'seq_append(bytea, boolean)', 'EXECUTE'), has_table_privilege('pg_monitor', 'seq_state', 'SELECT')");
}

# Nobody else may use a row type, in any of the databases.
sub types_are_closed
{
	my ($db) = @_;

	return is(sql($node, $db, <<'SQL'), '', "$db: nobody may use a type of the extension");
SELECT t.oid::regtype FROM pg_extension e JOIN pg_depend d ON refclassid = 'pg_extension'::regclass AND refobjid = e.oid AND extname = 'calvin_seq'
JOIN pg_type t ON (d.classid = 'pg_type'::regclass AND d.objid = t.oid) OR (d.classid = 'pg_class'::regclass AND d.objid = t.typrelid)
WHERE has_type_privilege('worker', t.oid, 'USAGE')
SQL
}

sql($node, 'postgres', 'CREATE ROLE worker; CREATE DATABASE plain; CREATE DATABASE by_extension; CREATE DATABASE by_hand');

# Nothing added: no warning, of either program.
create_extension($node, 'plain');
fill('plain');
types_are_closed('plain');
is(shell("pg_dump -Fc -f app.dump app\ncreatedb copy\npg_restore --exit-on-error -d copy app.dump", app => 'plain', copy => 'plain_copy'), 'done', 'dumped and restored without a word');
wait_for_applier($node, 'plain_copy');
wait_applied($node, 'plain_copy');
is(contents('plain_copy'), contents('plain'), 'all is there');
types_are_closed('plain_copy');

# By an extension of one's own.
sql($node, 'by_extension', 'CREATE EXTENSION app_seq CASCADE');
wait_for_applier($node, 'by_extension');
fill('by_extension');
types_are_closed('by_extension');
sql($node, 'by_extension', "INSERT INTO seq_log (entry, region) VALUES ('', 'us')");
sql($node, 'by_extension', 'CREATE VIEW regions AS SELECT region, count(*) FROM seq_log GROUP BY 1');
wait_applied($node, 'by_extension');
is(shell("pg_dump -Fc -f app.dump app\ncreatedb copy\npg_restore --exit-on-error -d copy app.dump", app => 'by_extension', copy => 'extension_copy'), 'done', 'an extension that adds: not a word');
wait_for_applier($node, 'extension_copy');
wait_applied($node, 'extension_copy');
is(contents('extension_copy', 'region'), contents('by_extension', 'region'), 'all is there');
is(sql($node, 'extension_copy', "SELECT to_regclass('app_seq_region') IS NOT NULL, (SELECT string_agg(region, ' ' ORDER BY region) FROM regions)"), 't|eu us', 'and what is on it');

# By hand.
create_extension($node, 'by_hand');
my $h = session($node, 'by_hand');
my ($ret, $out, $err) = $node->psql('by_hand', 'ALTER TABLE seq_log ADD COLUMN note text');
is($ret, 0, 'a column is added');
like($err, qr/WARNING: .*a dump of seq_log can be restored only where it has column "note".*HINT: .*docs\/backup\.md/s, 'with a warning');
foreach my $column ('s serial', 'i int GENERATED ALWAYS AS IDENTITY', 'b int GENERATED BY DEFAULT AS IDENTITY')
{
	like($h->error("ALTER TABLE seq_log ADD COLUMN $column"), qr/^55000: columns of seq_log cannot own sequences/, "$column is not");
}
$h->query('ALTER TABLE seq_log ADD COLUMN plain int NOT NULL DEFAULT 0');
like($h->error('ALTER TABLE seq_log ALTER COLUMN plain DROP DEFAULT, ALTER COLUMN plain ADD GENERATED ALWAYS AS IDENTITY'), qr/^55000: columns of seq_log cannot own sequences/, 'nor later');
$h->query('CREATE SEQUENCE mine; CREATE FUNCTION mine() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT \'mine\' $$; CREATE DOMAIN small AS int CHECK (VALUE < 1000)');
$h->query(q{ALTER TABLE seq_log ADD COLUMN "a ""name""" bigint DEFAULT nextval('mine'), ADD COLUMN by text COLLATE "C" DEFAULT mine(), ADD COLUMN size int GENERATED ALWAYS AS (length(entry)) STORED, ADD COLUMN gone int, ADD COLUMN small small DEFAULT 7});
# 18 has columns that are generated when they are read.
my @later = $node->pg_version >= 18 ? ('twice') : ();
$h->query("ALTER TABLE seq_log ADD COLUMN $_ int GENERATED ALWAYS AS (length(entry) * 2) VIRTUAL") foreach @later;
$h->query('ALTER TABLE seq_log DROP COLUMN gone');
$h->query('ALTER TABLE seq_cursor_positions ADD COLUMN note varchar(20); ALTER TABLE seq_snapshots ADD COLUMN "at" timestamptz NOT NULL DEFAULT now()');
fill('by_hand');
$h->query("INSERT INTO seq_log (entry, note) VALUES ('', 'seen'); UPDATE seq_cursor_positions SET note = 'moved'");
$h->query('CREATE TABLE kinds (kind text PRIMARY KEY); INSERT INTO kinds SELECT DISTINCT kind FROM seq_log');
$h->query('ALTER TABLE seq_log ADD CONSTRAINT "short note" CHECK (length(note) < 100), ADD CONSTRAINT kinds FOREIGN KEY (kind) REFERENCES kinds, ADD UNIQUE (log_index, note)');
$h->query(q{CREATE POLICY own ON seq_log FOR SELECT TO worker USING (kind = 'noop'); CREATE POLICY "all" ON seq_cursor_positions AS RESTRICTIVE WITH CHECK (true); ALTER TABLE seq_log ENABLE ROW LEVEL SECURITY});
$h->query('CREATE INDEX by_size ON seq_log (size) WHERE size > 0; CREATE INDEX ON seq_parked_txns (parked_at)');
$h->query('CREATE TABLE seen (i bigint); CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (NEW.log_index); RETURN NULL; END $$');
$h->query('CREATE TRIGGER see AFTER INSERT ON seq_log FOR EACH ROW EXECUTE FUNCTION see(); CREATE TRIGGER always AFTER INSERT ON seq_log FOR EACH ROW EXECUTE FUNCTION see(); ALTER TABLE seq_log ENABLE ALWAYS TRIGGER always');
wait_applied($node, 'by_hand');
is(shell($dump, app => 'by_hand'), 'done', 'by hand: dumped');
my $parts = "SELECT command FROM (" . ($added =~ s/.*?\n(?=WITH)//sr =~ s/;\s*\z//r =~ s/:'when' = '(?:before|after)'/true/gr) . ") a";
is(shell($restore, copy => 'hand_copy', app => 'by_hand'), 'done', 'and restored without a word');
wait_for_applier($node, 'hand_copy');
wait_applied($node, 'hand_copy');
my @columns = ('note', '"a ""name"""', 'by', 'size', 'small', 'plain', @later);
is(contents('hand_copy', @columns), contents('by_hand', @columns), 'all is there');
is(sql($node, 'hand_copy', $parts), sql($node, 'by_hand', $parts), 'and all that was added');
cmp_ok(scalar(split /\n/, sql($node, 'by_hand', $parts)), '>=', 18, 'which is a lot');
is(sql($node, 'hand_copy', 'SELECT count(*) = (SELECT count(*) FROM seq_log) - 1 FROM seen') , sql($node, 'by_hand', 'SELECT count(*) = (SELECT count(*) FROM seq_log) - 1 FROM seen'), 'triggers did not fire for what is restored');
sql($node, 'hand_copy', "SELECT seq_append('')");
is(sql($node, 'hand_copy', 'SELECT by, small, size, (SELECT count(*) FROM seen WHERE i = log_index) FROM seq_log ORDER BY log_index DESC LIMIT 1'), 'mine|7|0|2', 'and do for what is appended');

# Without the page's help it fails, and says for what column.
like(shell("createdb copy\npg_restore --exit-on-error -d copy app.dump", app => 'by_hand', copy => 'fails'), qr/^failed: .*column "note" of relation "seq_\w+" does not exist/s, 'all at once it does not work');

$h->quit;
$node->stop;
nothing_crashed($node);
done_testing();
