# What the order of submissions, and each being in the log once, rests on, a race at
# a time: processes are stopped between two steps, and others go on.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinPause;
use CalvinSequencer;
use CalvinTest;
use CalvinWorkers;
use Test::More;

require_pauses();

my $node = new_node('order_races', -streaming => 1, restart_after_crash => 'on');
my $va = vshard_of('a');
my $sent = 0;

create_extension($node);
sql($node, 'postgres', 'CREATE DATABASE control');
my $pauses = pauses($node, 'control');
my ($one, $two) = map { session($node, 'postgres') } 1, 2;

# All in the log, as sent to collection a, in order.
sub in_log
{
	return sql($node, 'postgres', "SELECT coalesce(string_agg(convert_from(plans, 'UTF8'), ' ' ORDER BY epoch, \"position\"), '') FROM seq_replay($va, 0, 1000000)");
}

sub send_text { my ($text) = @_; return "SELECT seq_send_bytes('a', '$text')"; }

# Until it is in the log, or the time is over that this may take: is_in_log() tells.
sub wait_in_log
{
	my ($text) = @_;

	return eval { wait_until(sub { in_log() =~ /\b$text\b/ }, "$text to be in the log", 60) };
}

# What has come last, in that order, each once.
sub is_in_log
{
	my ($expected, $name) = @_;
	my @expected = split / /, $expected;
	my $pattern = join '|', map { quotemeta } @expected;

	return is(join(' ', grep { /^(?:$pattern)$/ } split / /, in_log()), $expected, "each submission once: $name");
}

# All that anybody has written so far is on disk.
sub flush_log { return sql($node, 'control', 'CREATE TABLE flush (); DROP TABLE flush'); }

#
# Who sees it comes behind it, whenever it had been called.
#
$one->query('BEGIN');
$one->query(send_text('called1st'));
$two->query(send_text('committed1st'));
$one->query(send_text('called2nd'));
$one->query('COMMIT');
wait_in_log('called2nd');
is_in_log('committed1st called1st called2nd', 'a call has no place, a commit has');
$one->query('BEGIN');
$one->query(send_text('open'));
$two->query(send_text('beside'));
wait_in_log('beside');
is_in_log('beside', 'an open transaction holds nothing up');
$one->query('COMMIT');
wait_in_log('open');

#
# A commit that is in the log of the server, and cannot be seen yet: what came after
# it waits, since it is not to be found.
#
$node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
$node->reload;
# the checkpointer has to have heard of it
for (my $held = 0; !$held;)
{
	$one->send(q{SELECT pg_logical_emit_message(true, 'a', 'something to be confirmed')});
	$held = sql($node, 'postgres', q{SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = } . $one->pid) eq 't'
	  while !$held && $one->running;
	sql($node, 'postgres', 'SELECT pg_cancel_backend(' . $one->pid . ')') if $held;
	$one->finish;
}
$one->send(send_text('confirmed_late'));
wait_for_sql($node, 'postgres', q{SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = } . $one->pid);
$two->query('SET synchronous_commit = local');
$two->query(send_text('confirmed_early'));
is(sql($node, 'postgres', "SELECT waits_for, waits_for_pids = ARRAY[" . $one->pid . '] FROM seq_sequencer'), 'commit|t', 'one who commits is waited for');
$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
$node->reload;
$one->finish;
wait_in_log('confirmed_early');
is_in_log('confirmed_late confirmed_early', 'a commit that is seen late');

#
# Somebody commits between the limit and the snapshot.
#
$pauses->arm('sequence: before the snapshot', worker($node, 'sequencer'));
$one->query(send_text('before_it'));
$pauses->reached('sequence: before the snapshot');
$two->query(send_text('after_it'));
$pauses->release('sequence: before the snapshot');
wait_in_log('after_it');
is_in_log('before_it after_it', 'committed before the snapshot, above the limit');

# And between the two looks that make the limit.
foreach my $point ('submitters: before drawing', 'submission: stamp drawn', 'submission: written', 'submission: before clearing')
{
	my $n = ++$sent;

	$pauses->arm($point, $one->pid);
	$one->send(send_text("stopped$n"));
	$pauses->reached($point);
	$two->query(send_text("meanwhile$n"));
	$pauses->release($point);
	$one->finish;
	wait_in_log("stopped$n");
	wait_in_log("meanwhile$n");
	is_in_log($point eq 'submitters: before drawing' ? "meanwhile$n stopped$n" : "stopped$n meanwhile$n", "one stands still at \"$point\"");
}

#
# Somebody submits while the sequencer is about to sleep: it is woken, or does not.
#
foreach my $point ('sequence: going to sleep', 'sequencer: before waiting')
{
	my $n = ++$sent;

	$pauses->arm($point, worker($node, 'sequencer'));
	$one->query(send_text("awake$n"));
	$pauses->reached($point);
	$two->query(send_text("asleep$n"));
	$pauses->release($point);
	wait_in_log("asleep$n");
	is_in_log("awake$n asleep$n", "the sequencer falls asleep at \"$point\"");
}

#
# The sequencer is killed between any two steps
#
foreach my $point ('sequence: before the limit', 'sequence: before the snapshot', 'sequence: appended', 'sequence: before the commit', 'sequence: committed')
{
	my $n = ++$sent;
	my $pid = worker($node, 'sequencer');

	$pauses->arm($point, $pid);
	$one->query(send_text("killed_a$n"));
	$pauses->reached($point);
	$two->query(send_text("killed_b$n"));
	flush_log();
	kill 'KILL', $pid;
	$_->kill_client foreach $one, $two, $pauses->{session};
	wait_until(sub { !process_alive($pid) }, 'the sequencer to be gone');
	wait_for_sequencer($node, 'postgres', $pid);
	($one, $two) = map { session($node, 'postgres') } 1, 2;
	$pauses = pauses($node, 'control');
	$one->query(send_text("killed_c$n"));
	wait_in_log("killed_c$n");
	is_in_log("killed_a$n killed_b$n killed_c$n", "the sequencer is killed at \"$point\"");
}

#
# Nothing is known of what waits but by the tables: after a restart
#
$one->query(q{BEGIN; SELECT seq_append('')});
$two->query(send_text('restarted'));
$_->kill_client foreach $one, $two, $pauses->{session};
$node->stop('immediate');
$node->start;
wait_for_sequencer($node, 'postgres');
($one, $two) = map { session($node, 'postgres') } 1, 2;
$one->query(send_text('anew'));
wait_in_log('anew');
is_in_log('restarted anew', 'it waited while the server was restarted');

#
# A partition that has grown full is emptied when all in it is in the log, not before:
# ten of them, and all wait.
#
$one->query(q{BEGIN; SELECT seq_append('')});
$two->query("SELECT seq_send_bytes('large', convert_to('large$_ ' || repeat('x', 900000), 'UTF8'))") foreach 1 .. 60;
$one->query('ROLLBACK');
$two->query(send_text('small'));
wait_in_log('small');
is(sql($node, 'postgres', q{SELECT string_agg(split_part(convert_from(plans, 'UTF8'), ' ', 1), ' ' ORDER BY epoch, "position") FROM seq_replay(} . vshard_of('large') . ', 0, 1000000)'),
	join(' ', map { "large$_" } 1 .. 60), 'each submission once: more waits than partitions are large');

#
# What a transaction has in memory stays its own, whatever becomes of a savepoint in
# which others were too large for memory.
#
$one->query('BEGIN');
$one->query("SELECT seq_send_bytes('large', convert_to('outer1 ' || repeat('x', 500000), 'UTF8'))");
$one->query('SAVEPOINT s');
$one->query("SELECT seq_send_bytes('large', convert_to('inner$_ ' || repeat('x', 900000), 'UTF8'))") foreach 1, 2;
$one->query('ROLLBACK TO s');
$one->query("SELECT seq_send_bytes('large', convert_to('outer2 ' || repeat('x', 10), 'UTF8'))");
$one->query('COMMIT');
$one->query(send_text('behind'));
wait_in_log('behind');
is(sql($node, 'postgres', q{SELECT string_agg(split_part(convert_from(plans, 'UTF8'), ' ', 1), ' ' ORDER BY epoch, "position") FROM seq_replay(} . vshard_of('large') . q{, 0, 1000000) WHERE get_byte(plans, 0) <> ascii('l')}),
	'outer1 outer2', 'each submission once: a savepoint whose submissions were too large for memory is rolled back');

$_->quit foreach $one, $two, $pauses;
$node->stop;
nothing_crashed($node, 1);
done_testing();
