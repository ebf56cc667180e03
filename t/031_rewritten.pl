# Who waits for the lock on a table that is being rewritten sees what is in it
# afterwards: every reader of the log, and of cursors and snapshots.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinPause;
use CalvinTest;
use Test::More;

require_pauses();

my $node = new_node('rewritten');
my $va = vshard_of('a');
my $txn = [ [ [ 'a', 1 ] ], 'ab', 1 ];

create_extension($node, 'postgres');
sql($node, 'postgres', 'CREATE DATABASE control');
append_batches($node, 'postgres', 0, 9, [$txn]);
append_hex($node, 'postgres', ack_hex(7, 0, $va));
wait_applied($node, 'postgres');

my $column = 0;

# The commands that give a table new contents, or new indexes.
my %rewrites = (
	'ALTER' => sub { $column++; return "ALTER TABLE $_[0] ADD COLUMN extra$column timestamptz DEFAULT clock_timestamp()" },
	'REINDEX' => sub { return "REINDEX TABLE $_[0]" });

sub waits_for_lock
{
	my ($session) = @_;
	my $waiting = 'SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND pid = ' . $session->pid;

	wait_until(sub { !$session->running || sql($node, 'control', $waiting) eq 't' }, 'a reader');
	return $session->running;
}

# A reader that waits for a table's lock while another session rewrites it.
sub reads_after
{
	my ($reader, $table, $rewrite, $query, $expected, $desc) = @_;
	my $writer = session($node, 'postgres');

	$writer->query('BEGIN; ' . $rewrites{$rewrite}->($table));
	$reader->send($query);
	ok(waits_for_lock($reader), "$desc waits for $rewrite of $table");
	$writer->query('COMMIT');
	my ($output, $error) = $reader->finish;
	is($error, '', "$desc: no error after $rewrite of $table");
	is($output, $expected, "$desc: sees what is in it");
	$writer->quit;
	return;
}

my $epochs = join "\n", 0 .. 9;

foreach my $rewrite (sort keys %rewrites)
{
	# a session that has looked the tables up, and one that has not
	foreach my $warm (0, 1)
	{
		foreach my $case (
			[ 'seq_replay', "SELECT epoch FROM seq_replay($va, 0, 100)", $epochs ],
			[ 'seq_completion', 'SELECT expected, acked, complete FROM seq_completion(7, 0)', "{$va}|{$va}|t" ],
			[ 'seq_state', 'SELECT log_end, lag FROM seq_state', '11|0' ],
			[ 'seq_current_committed_epoch', 'SELECT seq_current_committed_epoch()', 9 ],
			[ 'seq_append', "BEGIN; SELECT seq_append('\\x" . batch_hex(10, 0, $txn) . "'); ROLLBACK", 12 ],
			[ 'an explicit log_index', "BEGIN; INSERT INTO seq_log (log_index, entry) VALUES (12, '') RETURNING log_index; ROLLBACK", 12 ])
		{
			my ($name, $query, $expected) = @$case;
			my $reader = session($node, 'postgres');

			$reader->query($query) if $warm;
			reads_after($reader, 'seq_log', $rewrite, $query, $expected, $name . ($warm ? ', once more' : ''));
			$reader->quit;
		}
	}

	# a stream that starts, and one that has to read the log
	my $reader = session($node, 'postgres');
	reads_after($reader, 'seq_log', $rewrite,
		"SELECT seq_subscribe('{$va}', 'r', from_epoch => 0)", '', 'seq_subscribe');
	reads_after($reader, 'seq_log', $rewrite,
		"SELECT epoch FROM seq_receive(100, '0', 'r')", $epochs, 'seq_receive');
	$reader->query("SELECT seq_commit('r')");
	is($reader->query("SELECT seq_unsubscribe(name => 'r')"), 1, 'and leaves a cursor');
	# the cursor, and the base
	foreach my $table ('seq_cursor_positions', 'seq_snapshots')
	{
		reads_after($reader, $table, $rewrite, "SELECT seq_subscribe('{$va}', 'r')", '', 'seq_subscribe at a cursor');
		is($reader->query("SELECT epoch FROM seq_receive(100, '0', 'r')"), '', 'nothing comes twice');
		is($reader->query("SELECT seq_unsubscribe(name => 'r')"), 1, 'and once more');
	}
	sql($node, 'postgres', "SELECT seq_drop_cursor('r')");
	$reader->quit;
}

# A truncation that waits computes the base from what is there, and removes it.
{
	my $s = session($node, 'postgres');

	reads_after($s, 'seq_log', 'ALTER', 'SELECT seq_truncate(3)', 3, 'seq_truncate');
	is(sql($node, 'postgres', 'SELECT log_index, last_applied_epoch FROM seq_snapshots WHERE base'), '3|2', 'the base is stored');
	reads_after($s, 'seq_snapshots', 'ALTER', 'SELECT seq_truncate(5)', 2, 'seq_truncate');
	is(sql($node, 'postgres', 'SELECT log_index, last_applied_epoch FROM seq_snapshots WHERE base'), '5|4', 'the base is moved');
	like($s->error("SELECT * FROM seq_replay($va, 4, 100)"), qr/^55000: epoch 4 was truncated/, 'what went is told');
	$s->quit;
}
my $rest = join "\n", 5 .. 9;

#
# seq_replay sees what its statement sees, unless that is gone
#
{
	my $s = session($node, 'postgres');
	my $replay = "SELECT epoch FROM seq_replay($va, 5, 100)";

	foreach my $level ('REPEATABLE READ', 'SERIALIZABLE')
	{
		$s->query("BEGIN ISOLATION LEVEL $level; SELECT 1");
		append_batches($node, 'postgres', 10, 10, [$txn]) if $level eq 'REPEATABLE READ';
		is($s->query($replay), $level eq 'REPEATABLE READ' ? $rest : "$rest\n10", "$level: the transaction's snapshot");
		sql($node, 'postgres', $rewrites{'ALTER'}->('seq_log'));
		like($s->error($replay), qr/^40001: could not serialize access: the log was rewritten.*HINT:/s,
			"$level: a rewrite since is an error, not an empty log");
		$s->query('ROLLBACK');
		is($s->query("BEGIN ISOLATION LEVEL $level; $replay; COMMIT"), "$rest\n10", "$level: the next transaction sees all");
	}
	# of this transaction's own
	is($s->query('BEGIN; ' . $rewrites{'ALTER'}->('seq_log') . "; $replay; ROLLBACK"), "$rest\n10", 'an own rewrite');
	# row by row, with a rewrite between two of them
	$s->query("BEGIN; DECLARE c CURSOR FOR SELECT epoch FROM (SELECT seq_replay($va, 5, 100) AS r) q, LATERAL (SELECT (r).epoch) e");
	is($s->query('FETCH 1 FROM c'), 5, 'a cursor over seq_replay');
	is($s->query('FETCH ALL FROM c'), "6\n7\n8\n9\n10", 'to its end');
	$s->query('COMMIT');
	$s->quit;
}

#
# Indexes that are replaced without a lock in the way: the old ones are dropped
# between the look at them and their opening
#
{
	my $p = pauses($node, 'control');
	my $s = session($node, 'postgres');

	foreach my $case (
		[ "SELECT epoch FROM seq_replay($va, 5, 100)", 'seq_log_epoch_idx', "$rest\n10" ],
		[ 'SELECT log_end FROM seq_state', 'seq_log_pkey', 12 ],
		[ 'SELECT seq_current_committed_epoch()', 'seq_log_epoch_idx', 10 ],
		[ 'SELECT acked FROM seq_completion(7, 0)', 'seq_log_ack_idx', "{$va}" ])
	{
		my ($query, $index, $expected) = @$case;
		my ($old, $reindexing) = (session($node, 'postgres'), session($node, 'postgres'));

		# The command waits for snapshots, also for that of our statement, unless
		# it is newer than its own: an older one stops it meanwhile.
		$s->query($query);
		$old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
		$reindexing->send("REINDEX INDEX CONCURRENTLY $index");
		ok(waits_for_lock($reindexing), "REINDEX CONCURRENTLY of $index is under way");
		sql($node, 'control', 'SELECT txid_current()');
		$p->arm('access: before locking', $s->pid);
		$s->send($query);
		$p->reached('access: before locking');
		$old->query('COMMIT');
		is(($reindexing->finish)[1], '', 'and ends');
		$p->release('access: before locking');
		my ($output, $error) = $s->finish;
		is($error, '', "no error of $query");
		is($output, $expected, 'and all is seen');
		$_->quit foreach $old, $reindexing;
	}
	# ... and after a look at which they are, by who has none of the log yet
	my @indexes = qw(seq_log_pkey seq_log_epoch_idx seq_log_ack_idx);
	foreach my $before (0 .. $#indexes)
	{
		my $index = $indexes[$before];
		my ($old, $reindexing, $new) = map { session($node, 'postgres') } 1 .. 3;
		my $oid = "SELECT '$index'::regclass::oid";
		my $was = sql($node, 'postgres', $oid);

		$old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
		$reindexing->send("REINDEX INDEX CONCURRENTLY $index");
		ok(waits_for_lock($reindexing), "REINDEX CONCURRENTLY of $index is under way");
		sql($node, 'control', 'SELECT txid_current()');
		$p->arm('shape: index looked up', $new->pid, $before);
		$new->send('SELECT log_end FROM seq_state');
		$p->reached('shape: index looked up');
		$old->query('COMMIT');
		# the exchange: the drop of the old one has to wait for who looks
		wait_for_sql($node, 'postgres', "$oid <> $was");
		$p->release('shape: index looked up');
		my ($output, $error) = $new->finish;
		is($error, '', "no error of who had looked $index up");
		is($output, 12, 'and all is seen');
		is(($reindexing->finish)[1], '', 'and the command ends');
		$_->quit foreach $old, $reindexing, $new;
	}
	foreach my $command ('VACUUM FULL seq_log', $rewrites{'ALTER'}->('seq_log'))
	{
		my $query = "SELECT epoch FROM seq_replay($va, 5, 100)";

		$s->query($query);
		$p->arm('access: before locking', $s->pid);
		$s->send($query);
		$p->reached('access: before locking');
		sql($node, 'postgres', $command);
		$p->release('access: before locking');
		is(($s->finish)[0], "$rest\n10", "after $command");
	}
	$p->quit;
	$s->quit;
}

append_batches($node, 'postgres', 11, 12, [$txn]);
ok(wait_for_epoch($node, 'postgres', 12), 'the applier went on all the time');
is(sql($node, 'postgres', 'SELECT last_error IS NULL, lag FROM seq_state'), 't|0', 'without an error');
nothing_crashed($node);
done_testing();
