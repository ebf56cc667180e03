# Large ones, and many: of the largest size, ten thousand in a transaction, a
# transaction of 100 MB, two hundred thousand waiting, and a sequencer whose memory
# does not grow with them.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinSequencer;
use CalvinSubmit;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(
	'main',
	fsync => 'off',
	max_wal_size => '2GB',
	shared_buffers => '64MB',
	'calvin_seq.snapshot_interval' => 0,
	'calvin_seq.max_plans_bytes_per_txn' => '200MB');
my $db = 'postgres';
my ($s, $hold, $before);

create_extension($node);
create_sent($node, $db);
$s = session($node, $db);

# What a process has of its own, kB.
sub memory
{
	my ($pid) = @_;

	return $1 if slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m;
	return 0;
}

sub epochs_of
{
	my ($collection) = @_;

	return sql($node, $db,
		"SELECT string_agg(n::text, ' ' ORDER BY epoch) FROM (SELECT epoch, count(*) AS n FROM seq_replay(seq_vshard('$collection'), 0, 9000000000) GROUP BY epoch) e");
}

#
# Ten thousand in one transaction
#
sql($node, $db, filled('many', 1, 10000));
wait_sequenced($node, $db);
is(numbers($node, $db, 'many'), '10000|10000|10000', 'ten thousand in one transaction');
is(epochs_of('many'), join(' ', (1024) x 9, 784), 'in full epochs');
sql($node, $db, "BEGIN; SELECT 1; ROLLBACK; DO \$\$ BEGIN FOR i IN 1 .. 10000 LOOP BEGIN PERFORM seq_send_bytes('deep', convert_to(rpad(i || ' ', 20, 'x'), 'UTF8')); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END \$\$");
wait_sequenced($node, $db);
is(numbers($node, $db, 'deep'), '10000|10000|10000', 'each in a subtransaction of its own');

#
# A transaction of 100 MB, with parts rolled back
#
my $pid = $s->pid;
$before = memory($pid);
$s->query('BEGIN');
foreach my $i (0 .. 4)
{
	$s->query('SAVEPOINT a');
	$s->query(filled('big', $i * 20 + 1, 20, 1000000));
	$s->query('SAVEPOINT b');
	$s->query(filled('big', 9000, 10, 1000000));
	$s->query('ROLLBACK TO b; RELEASE b');
	$s->query('RELEASE a') if $i % 2;
}
SKIP:
{
	skip 'memory is a tool\'s', 1 if under_tool() || !$before;
	cmp_ok(memory($pid) - $before, '<', 40000, 'a transaction of 100 MB is not kept in memory');
}
forget_sent($node, $db);
is_next($node, $db, '', 'others go on meanwhile');
$s->query('COMMIT');
wait_sequenced($node, $db);
is(numbers($node, $db, 'big'), '100|100|100', 'it is in the log, without what was rolled back');
is(sql($node, $db, "SELECT sum(length(plans)), min(length(plans)) FROM seq_replay(seq_vshard('big'), 0, 9000000000)"), '100000000|1000000', 'every byte of it');

#
# One of the largest size
#
my $size = 200 * 1024 * 1024;
like(sql_error($node, $db, "SELECT seq_send_bytes('huge', decode(repeat('ab', $size + 1), 'hex'))"), qr/^54000: /, 'one byte too many');
sql($node, $db, "SELECT seq_send_bytes('huge', decode(repeat('ab', $size), 'hex'))");
sql($node, $db, "SELECT seq_send('huge', '\"behind\"')");
wait_sequenced($node, $db);
is(sql($node, $db, "SELECT count(*), max(length(plans)) FROM seq_replay(seq_vshard('huge'), 0, 9000000000)"), "2|$size", 'one of 200 MB, and one behind it');
is(sql($node, $db, "SELECT count(*) FROM seq_replay(seq_vshard('huge'), 0, 9000000000) WHERE length(plans) > 100 AND md5(plans) = md5(decode(repeat('ab', $size), 'hex'))"), 1, 'as it was');
wait_applied($node, $db);

#
# Two hundred thousand waiting
#
my $old = sequencer_pid($node, $db);
sql($node, $db, "SELECT pg_terminate_backend($old, 10000)");
my $sequencer = wait_for_sequencer($node, $db, $old);
$hold = hold_log($node, $db);
$before = memory($sequencer);
# of one transaction each: more than shared memory has cells for
$s->query("DO \$\$ BEGIN FOR i IN 1 .. 100000 LOOP PERFORM seq_send_bytes('w', convert_to(rpad(i || ' ', 100, 'x'), 'UTF8')); COMMIT; END LOOP; END \$\$");
# and in a few
$s->query(filled('w', 100001 + $_ * 10000, 10000, 100)) foreach 0 .. 9;
wait_held($node, $db);
is(sql($node, $db, 'SELECT waiting_rows, waits_for FROM seq_sequencer'), '200000|append', 'two hundred thousand wait');
$hold->query('ROLLBACK');
wait_sequenced($node, $db);
is(numbers($node, $db, 'w'), '200000|200000|200000', 'all in the log, in order');
is(sequencer_pid($node, $db), $sequencer, 'by the same process');
SKIP:
{
	skip 'memory is a tool\'s', 1 if under_tool() || !$before;
	cmp_ok(memory($sequencer) - $before, '<', 60000, 'whose memory is bounded');
}

# Likewise found by a sequencer that begins with them, after a crash.
$hold->query("BEGIN; INSERT INTO seq_log (entry) VALUES ('')");
$s->query("DO \$\$ BEGIN FOR i IN 1 .. 20000 LOOP PERFORM seq_send_bytes('v', convert_to(rpad(i || ' ', 100, 'x'), 'UTF8')); COMMIT; END LOOP; END \$\$");
$node->stop('immediate');
$node->start;
wait_sequenced($node, $db);
is(numbers($node, $db, 'v'), '20000|20000|20000', 'found after a crash, and sequenced');
$_->kill_client foreach $s, $hold;

$node->stop;
nothing_crashed($node);
done_testing();
