# Readers on a standby: a table that is rewritten, and indexes that are replaced,
# by replay while they wait.  And what a log says that begins above 1.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinPause;
use CalvinTest;
use Test::More;

require_pauses();

my $primary = new_node('primary', -streaming => 1);
my $va = vshard_of('a');
my $txn = [ [ [ 'a', 1 ] ], 'ab', 1 ];

create_extension($primary, 'postgres');
sql($primary, 'postgres', 'CREATE DATABASE control');
append_batches($primary, 'postgres', 0, 9, [$txn]);
append_hex($primary, 'postgres', ack_hex(7, 0, $va));
$primary->backup('start');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'start', has_streaming => 1);
$standby->append_conf('postgresql.conf', 'max_standby_streaming_delay = -1
hot_standby_feedback = on
wal_receiver_status_interval = 1');
$standby->start;
wait_for_applier($standby, 'postgres');
wait_applied($standby, 'postgres');

my $epochs = join "\n", 0 .. 9;
my $n = 0;

sub replayed
{
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	return;
}

# Waits for a lock, which on a standby the startup process has.
sub waits_for_lock
{
	my ($session) = @_;
	my $waiting = 'SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND pid = ' . $session->pid;

	wait_until(sub { !$session->running || sql($standby, 'control', $waiting) eq 't' }, 'a reader');
	return $session->running;
}

foreach my $case (
	[ 'seq_log', 'seq_replay', "SELECT epoch FROM seq_replay($va, 0, 100)", $epochs ],
	[ 'seq_log', 'seq_state', 'SELECT log_end, lag FROM seq_state', '11|0' ],
	[ 'seq_log', 'seq_current_committed_epoch', 'SELECT seq_current_committed_epoch()', 9 ],
	[ 'seq_log', 'seq_completion', 'SELECT acked FROM seq_completion(7, 0)', "{$va}" ],
	[ 'seq_log', 'seq_subscribe', "SELECT seq_subscribe('{$va}', from_epoch => 0)", '' ],
	[ 'seq_log', 'seq_receive', 'SELECT epoch FROM seq_receive()', $epochs, "SELECT seq_subscribe('{$va}', from_epoch => 0)" ],
	[ 'seq_snapshots', 'seq_subscribe', "SELECT seq_subscribe('{$va}', from_epoch => 0)", '' ],
	[ 'seq_cursors', 'seq_subscribe', "SELECT seq_subscribe('{$va}')", '' ])
{
	my ($table, $name, $query, $expected, $before) = @$case;
	my ($writer, $reader) = (session($primary, 'postgres'), session($standby, 'postgres'));

	$reader->query($_) foreach grep { defined $_ } $before, $before ? undef : $query;
	$n++;
	$writer->query("BEGIN; ALTER TABLE $table ADD COLUMN extra$n timestamptz DEFAULT clock_timestamp()");
	replayed();
	$reader->send($query);
	ok(waits_for_lock($reader), "$name waits for the rewrite of $table");
	$writer->query('COMMIT');
	my ($output, $error) = $reader->finish;
	is($error, '', "$name: no error");
	is($output, $expected, "$name: sees what is in it");
	$_->quit foreach $writer, $reader;
}

# The old index is gone between the look at it and its opening.
{
	my $p = pauses($primary, 'control');
	my $r = session($standby, 'postgres');

	# functions of the test are made by the primary: temporary ones are none on a standby
	sql($primary, 'control', <<'EOS');
CREATE FUNCTION pause_arm(text, int, int) RETURNS void LANGUAGE C STRICT AS 'calvin_seq', 'calvin_pause_arm';
CREATE FUNCTION pause_wait(text, int) RETURNS int LANGUAGE C STRICT AS 'calvin_seq', 'calvin_pause_wait';
CREATE FUNCTION pause_release(text) RETURNS boolean LANGUAGE C STRICT AS 'calvin_seq', 'calvin_pause_release';
EOS
	replayed();
	foreach my $point ('access: before locking', 'access: before the snapshot')
	{
		foreach my $case (
			[ 'seq_log_epoch_idx', "SELECT epoch FROM seq_replay($va, 0, 100)", $epochs ],
			[ 'seq_log_pkey', 'SELECT log_end FROM seq_state', 11 ])
		{
			my ($index, $query, $expected) = @$case;

			$r->query($query);
			sql($standby, 'control', sprintf q{SELECT pause_arm('%s', %d, 0)}, $point, $r->pid);
			$r->send($query);
			isnt(sql($standby, 'control', "SELECT pause_wait('$point', 60000)"), '', 'a reader has stopped');
			my $old = sql($primary, 'postgres', "SELECT '$index'::regclass::oid");

			sql($primary, 'postgres', "REINDEX INDEX CONCURRENTLY $index");
			# the exchange: the drop of the old one may have to wait for the reader
			wait_for_sql($standby, 'postgres', "SELECT '$index'::regclass::oid <> $old");
			sql($standby, 'control', "SELECT pause_release('$point')");
			my ($output, $error) = $r->finish;
			is($error, '', "$point: no error with REINDEX CONCURRENTLY of $index");
			is($output, $expected, "$point: all is seen");
			replayed();
		}
	}
	$r->quit;
	$p->quit;
}
append_batches($primary, 'postgres', 10, 10, [$txn]);
ok(wait_for_epoch($standby, 'postgres', 10), 'the applier went on');
is(sql($standby, 'postgres', 'SELECT last_error IS NULL FROM seq_state'), 't', 'without an error');

# A first row above log_index 1 may be of a restore: the state says what is awaited.
sql($primary, 'postgres', 'CREATE DATABASE gap');
create_extension($primary, 'gap');
sql($primary, 'gap', "INSERT INTO seq_log (log_index, entry) VALUES (5, '')");
wait_for_sql($primary, 'gap', 'SELECT applier_state FROM seq_state', 'waiting for the base snapshot');
is(sql($primary, 'gap', 'SELECT last_error, last_applied_index FROM seq_state'),
	'the log begins at log_index 5, and its base snapshot is not there|0', 'a log that begins above 1 says so in last_error');
nothing_crashed($_) foreach $primary, $standby;
done_testing();
