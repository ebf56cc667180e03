# REPACK, from PostgreSQL 19 on: the extension's tables are written anew beside those who
# append, receive and fetch, and none of them misses anything.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinGroup;
use CalvinSubmit;
use CalvinTest;
use Test::More;

my $node = new_node('repacked', -streaming => 1, 'calvin_seq.snapshot_interval' => 20);
my $db = 'postgres';

if (sql($node, $db, 'SHOW server_version_num') < 190000)
{
	$node->stop;
	plan skip_all => 'REPACK is of PostgreSQL 19';
}

create_extension($node);
create_sent($node, $db);
sql($node, $db, "SELECT seq_create_group('g', 4, collections => '{a}'), seq_register('c', ARRAY[seq_vshard('a')])");
my $consumer = session($node, $db);
$consumer->query("SELECT seq_subscribe(ARRAY[seq_vshard('a')], 'c')");

my @tables = split /\n/, sql($node, $db,
	"SELECT c.oid::regclass FROM pg_depend JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'calvin_seq') AND relkind = 'r' ORDER BY 1");
my $sent = 0;
my $fetched = '';
my $received = '';

# A little of everything that writes to them.
sub work
{
	sql($node, $db, filled('a', $sent + 1, 5));
	$sent += 5;
	$fetched .= sql($node, $db, "SELECT coalesce(string_agg(btrim(convert_from(plans, 'UTF8'), ' x') || ',', '' ORDER BY epoch, \"position\"), '') FROM seq_fetch('g', 2)");
	$received .= $consumer->query("BEGIN; SELECT coalesce(string_agg(btrim(convert_from(plans, 'UTF8'), ' x') || ',', ''), '') FROM seq_receive(3, '0', 'c'); SELECT seq_commit('c') \\g /dev/null\nCOMMIT");
	return;
}

work() for 1 .. 10;
foreach my $how ('', '(CONCURRENTLY)')
{
	foreach my $table (@tables, '')
	{
		# all there are has no form beside others
		next if $table eq '' && $how ne '';
		my $repacking = session($node, $db);

		$repacking->send("REPACK $how $table");
		do { work() } while $repacking->running;
		is(($repacking->finish)[1], '', "REPACK $how $table");
		$repacking->quit;
	}
}
like(sql_error($node, $db, 'REPACK (CONCURRENTLY) seq_inbox_0'), qr/^(0A000|42809|55000): /, 'what waits in the inbox is not rewritten beside who publishes');
wait_sequenced($node, $db);
wait_applied($node, $db);
is(numbers($node, $db, 'a'), "$sent|$sent|$sent", "all $sent are in the log, once, in order");
$fetched .= sql($node, $db, "SELECT coalesce(string_agg(btrim(convert_from(plans, 'UTF8'), ' x') || ',', '' ORDER BY epoch, \"position\"), '') FROM seq_fetch('g', 100000)");
is($fetched, join('', map { "$_," } 1 .. $sent), 'the group has had all, once, in order');
$received .= $consumer->query("SELECT coalesce(string_agg(btrim(convert_from(plans, 'UTF8'), ' x') || ',', ''), '') FROM seq_receive(100000, '30s', 'c')");
is($received, join('', map { "$_," } 1 .. $sent), 'so has the consumer');
$consumer->quit;

# From the log alone, and from where the tables lie now.
my $state = state($node, $db);
sql($node, $db, 'DELETE FROM seq_snapshots WHERE NOT base');
$node->restart;
wait_for_applier($node, $db);
wait_applied($node, $db);
is(state($node, $db), $state, 'the same digest, from the log');
$node->stop;
nothing_crashed($node);
done_testing();
