# An entry is stored as it is read: what is copied from a compressed column, of
# whatever method and place, is not compressed any more.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('compressed', max_wal_size => '4GB', checkpoint_timeout => '1h', shared_buffers => '32MB');

create_extension($node, $db);
my $s = session($node, $db);

# What the log has of its last entries: whether they are compressed, or take more
# bytes than they have, and whether they are what they were.
sub stored
{
	my ($n) = @_;

	return $s->query(<<"SQL");
SELECT count(*), count(pg_column_compression(l.entry)), max(pg_column_size(l.entry) - octet_length(l.entry)) <= 4, bool_and(l.entry = s.entry), string_agg(DISTINCT kind, ' ')
FROM (SELECT *, row_number() OVER (ORDER BY log_index) AS i FROM (SELECT * FROM seq_log ORDER BY log_index DESC LIMIT $n) l) l JOIN src s USING (i)
SQL
}

# In line, and out of line with random bytes behind the same ones.
my @methods = $s->error('CREATE TABLE try (b bytea COMPRESSION lz4)') eq '' ? qw(pglz lz4) : ('pglz');
my $random = join '', map { sprintf '%02x', rand 256 } 1 .. 6000;
my $epoch = 0;
foreach my $method (@methods)
{
	$s->query("DROP TABLE IF EXISTS src; CREATE TABLE src (i int, entry bytea COMPRESSION $method)");
	my @entries = map { batch_hex($epoch++, 1, [ ['a'], 'ab' x 40000 . $_, 1 ]) } '', $random;
	$s->query("INSERT INTO src VALUES (1, '\\x$entries[0]'), (2, '\\x$entries[1]')");
	is($s->query("SELECT string_agg(pg_column_compression(entry) || ' ' || (pg_column_size(entry) > 4000)::text, ', ' ORDER BY i), min(octet_length(entry)) > 40000 FROM src"),
		"${method} false, ${method} true|t", "$method: the source is compressed, in line and out of line");
	$s->query('INSERT INTO seq_log (entry) SELECT entry FROM src ORDER BY i');
	is(stored(2), '2|0|t|t|epoch_batch', 'the log is not');

	# nor what a function carries
	$s->query(q{DO $$ DECLARE r record; BEGIN FOR r IN SELECT entry FROM src ORDER BY i LOOP INSERT INTO seq_log (entry) VALUES (r.entry); END LOOP; END $$});
	is(stored(2), '2|0|t|t|stale_batch', 'by a loop');
}
wait_applied($node, $db);
is(sql($node, $db, 'SELECT count(*) FROM seq_replay(' . vshard_of('a') . ', 0, 100)'), scalar(2 * @methods), 'and is applied');

# A large one takes some copies, not many.
SKIP:
{
	skip 'needs /proc', 2 unless -r '/proc/self/status';
	skip 'memory is not what it is', 2 if under_tool();
	my $peak = sub { return slurp_file('/proc/' . $s->pid . '/status') =~ /^VmHWM:\s+(\d+) kB/m ? $1 / 1024 : die };

	$s->query('DROP TABLE src; CREATE TABLE src (i int, entry bytea COMPRESSION pglz)');
	$s->query(q{INSERT INTO src SELECT 1, decode('c1', 'hex') || convert_to(repeat('x', 100 * 1024 * 1024), 'UTF8')});
	$s->quit;
	$s = session($node, $db);
	$s->query('SELECT count(*) FROM seq_log');
	my $before = $peak->();
	$s->query('INSERT INTO seq_log (entry) SELECT entry FROM src');
	my $grown = $peak->() - $before;
	note("grown by $grown MB");
	cmp_ok($grown, '<', 4 * 100 + 32, 'an entry of 100 MB takes a few copies');
	is(stored(1), '1|0|t|t|undecodable', 'and is stored as it is');
}

$s->quit;
$node->stop;
nothing_crashed($node);
done_testing();
