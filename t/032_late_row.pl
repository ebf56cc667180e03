# The alarm for a row at a log_index that was passed: nothing can write one while
# all is well, so the triggers that keep the order are taken off here.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use Test::More;

my $primary = new_node('late', -streaming => 1, 'calvin_seq.standby_poll_interval' => '5ms');

create_extension($primary, 'postgres');
$primary->backup('start');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'start', has_streaming => 1);
$standby->start;
wait_for_applier($standby, 'postgres');

# Holes 2..9 and 11..19, more of them than are remembered, and 1011..1999.
sql($primary, 'postgres', q{INSERT INTO seq_log (log_index, entry) VALUES (1, ''), (10, '')});
sql($primary, 'postgres', q{INSERT INTO seq_log (log_index, entry) SELECT i, '' FROM generate_series(20, 1010, 10) i});
sql($primary, 'postgres', q{INSERT INTO seq_log (log_index, entry) VALUES (2000, '')});
sql($_, 'postgres', q{SELECT seq_wait_for_index(2000, '60s')}) foreach $primary, $standby;
is(sql($_, 'postgres', 'SELECT last_applied_index, last_error IS NULL FROM seq_state'), '2000|t', $_->name . ': holes are no error')
  foreach $primary, $standby;

sub write_late
{
	my ($log_index) = @_;

	return sql($primary, 'postgres', <<"EOS");
ALTER EVENT TRIGGER seq_log_guard DISABLE;
BEGIN;
ALTER TABLE seq_log DISABLE TRIGGER seq_log_assign;
INSERT INTO seq_log (log_index, entry, kind) VALUES ($log_index, '', 'noop');
ALTER TABLE seq_log ENABLE ALWAYS TRIGGER seq_log_assign;
COMMIT;
ALTER EVENT TRIGGER seq_log_guard ENABLE ALWAYS;
EOS
}

my $end = 2000;

foreach my $late (1500, 1005)
{
	my $before = log_offset($primary);
	my $digest = digest($primary, 'postgres');

	write_late($late);
	# whoever appends next has the applier look
	sql($primary, 'postgres', q{INSERT INTO seq_log (entry) VALUES ('')});
	$end++;
	foreach my $node ($primary, $standby)
	{
		is(sql($node, 'postgres', "SELECT seq_wait_for_index($end, '60s')"), 't', $node->name . ': goes on');
		wait_for_sql($node, 'postgres', "SELECT last_error LIKE 'a row turned up at log_index $late, but the log was applied up to %' FROM seq_state");
	}
	wait_for_log_line($primary, qr/WARNING:  calvin_seq: a row turned up at log_index $late, but/, $before);
	isnt(digest($primary, 'postgres'), $digest, 'and the digest is that of what was applied');
	is(digest($standby, 'postgres'), digest($primary, 'postgres'), 'on both');
}

# told once
my $before = log_offset($primary);
sql($primary, 'postgres', q{INSERT INTO seq_log (entry) VALUES ('')});
$end++;
sql($_, 'postgres', "SELECT seq_wait_for_index($end, '60s')") foreach $primary, $standby;
log_has_no($primary, qr/turned up/, 'told once', $before);
nothing_crashed($_) foreach $primary, $standby;
done_testing();
