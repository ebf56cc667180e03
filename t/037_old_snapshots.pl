# Truncation, and who is behind in another way: the snapshot of the transaction that
# truncates, an applier that has not begun, a quiet consumer's position, a standby's
# readers.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my ($va, $vb) = map { vshard_of($_) } qw(a b);
my $node = new_node('primary', -streaming => 1);

create_extension($node, $db);

# Past an applier that has applied nothing yet: its subscribers are told
{
	sql($node, $db, 'CREATE DATABASE fresh');
	my $applier = create_extension($node, 'fresh');
	my $s = session($node, 'fresh');

	$s->query("SELECT seq_subscribe('{$va}', 's')");
	kill 'STOP', $applier;
	append_batches($node, 'fresh', 0, 20, [ [ ['a'], 'ab', 1 ] ]);
	sql($node, 'fresh', 'SELECT seq_truncate(15, true)');
	kill 'CONT', $applier;
	wait_for_epoch($node, 'fresh', 20);
	like($s->error('SELECT count(*) FROM seq_receive(name => \'s\')'), qr/^55000: subscription "s" needs epoch 0, which was truncated/,
		'a forced truncation past an applier that has not begun is an error');

	# a quiet stream's position, committed when the truncation is done
	append_batches($node, 'fresh', 21, 60, [ [ ['a'], 'ab', 1 ] ]);
	wait_for_epoch($node, 'fresh', 60);
	$s->query("SELECT seq_unsubscribe(name => 's'); SELECT seq_subscribe('{$vb}', 'd', from_epoch => 23)");
	sql($node, 'fresh', 'SELECT seq_truncate(50)');
	$s->query("SELECT seq_commit('d')");
	is($s->error("SELECT seq_subscribe('{$vb}', 'd')"), '', 'a quiet consumer that commits behind a truncation can go on');
	$s->quit;
}

append_batches($node, $db, 0, 20, [ [ ['a'], 'ab', 1 ] ]);
wait_for_epoch($node, $db, 20);
$node->backup('start');

# A quiet cursor that the truncating transaction's snapshot does not have
my ($s, $t) = map { session($node, $db) } 1, 2;
$t->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$s->query("SELECT seq_subscribe('{$vb}', 'q', from_epoch => 3); SELECT seq_commit('q'); SELECT seq_unsubscribe(name => 'q')");
$t->query('SELECT seq_truncate(10); COMMIT');
is(sql($node, $db, 'SELECT epoch FROM seq_cursors'), 10, 'a cursor for which there was nothing is moved along, whoever sees it');
is($s->error("SELECT seq_subscribe('{$vb}', 'q')"), '', 'and goes on');
$_->quit foreach $s, $t;

# A reader of a standby with a snapshot from before the truncation, and an index
# that is made without the rows that only he can see
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'start', has_streaming => 1);
$standby->append_conf('postgresql.conf', "max_standby_streaming_delay = -1\nhot_standby_feedback = on\nwal_receiver_status_interval = 1");
$standby->start;
wait_for_applier($standby, $db);
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
my $replay = "SELECT string_agg(epoch::text, ' ' ORDER BY epoch) FROM seq_replay($va, 10, 100)";
my $all = join ' ', 10 .. 20;

foreach my $level ('REPEATABLE READ', 'READ COMMITTED')
{
	my $r = session($standby, $db);
	my $from = $level =~ /REP/ ? 13 : 16;
	my $kept = join ' ', $from .. 20;

	$r->query("BEGIN ISOLATION LEVEL $level; SELECT 1");
	is($r->query($replay), $all, "$level: before") if $level =~ /REP/;
	sql($node, $db, "SELECT seq_truncate($from)");
	sql($node, $db, 'REINDEX INDEX CONCURRENTLY seq_log_epoch_idx');
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	like($r->error($replay), $level =~ /REP/ ? qr/^40001: could not serialize access: the log was rewritten/ : qr/^55000: epoch 10 was truncated/,
		"$level: what is gone with the index is an error");
	$r->query('ROLLBACK');
	is($r->query($replay =~ s/\(\d+, 10/($va, $from/r), $kept, 'what is left is there');
	$r->quit;
}

$_->stop foreach $standby, $node;
nothing_crashed($_) foreach $node, $standby;
done_testing();
