# What the tests of groups share: what is sent for them, who waits for them.
#
#   send_to($node, $db, 'a', 1, 'b', 2);	one message each, in this order, applied
#   numbers_of("seq_fetch_json('g')");	SQL of what was fetched: '1,2'
#   wait_waiting($node, $db, 2);		until two sessions wait in seq_fetch
package CalvinGroup;

use strict;
use warnings;

use CalvinTest;
use Exporter 'import';

our @EXPORT = qw(send_to numbers_of wait_waiting waiting_pids switches quiet);

# Sent in one transaction, in the log and applied when it returns.
sub send_to
{
	my ($node, $db, @messages) = @_;
	my $sql = '';

	while (my ($collection, $number) = splice @messages, 0, 2)
	{
		$sql .= "SELECT seq_send('$collection', '$number') AS sent \\gset\n";
	}
	my $placed = sql($node, $db, "BEGIN;\n${sql}COMMIT;\nSELECT epoch FROM seq_submission(:sent, '60s')");

	wait_for_epoch($node, $db, $placed);
	return $placed;
}

# In the order of their keys.
sub numbers_of
{
	my ($fetch) = @_;

	return "SELECT coalesce(string_agg(payload::text, ',' ORDER BY epoch, \"position\", vshard), '') FROM $fetch";
}

sub waiting_pids
{
	my ($node, $db) = @_;

	return split /\n/,
	  sql($node, 'postgres',
		"SELECT pid FROM pg_stat_activity WHERE datname = '$db' AND wait_event_type = 'Extension' AND state = 'active' AND query LIKE '%seq_fetch%' AND pid <> pg_backend_pid()");
}

# Until so many sleep in seq_fetch.
sub wait_waiting
{
	my ($node, $db, $n) = @_;

	return wait_until(sub { my @pids = waiting_pids($node, $db); return @pids == $n; }, "$n that wait");
}

# How often a process has gone to sleep.
sub switches
{
	my ($pid) = @_;

	return PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s*(\d+)/m ? $1 : die 'no voluntary_ctxt_switches';
}

# Until none of these processes has woken for eleven seconds: the timer of an earlier
# statement for its statistics goes off once, after ten.
sub quiet
{
	my (@pids) = @_;
	my %before;

	return wait_until(
		sub {
			my %now = map { ($_ => switches($_)) } @pids;
			my $same = !grep { $now{$_} != ($before{$_} // -1) } @pids;

			%before = %now;
			Time::HiRes::usleep(11_000_000) unless $same;
			return $same;
		},
		'quiet');
}

1;
