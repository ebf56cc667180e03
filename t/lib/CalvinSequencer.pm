# Where a database's sequencer is.
package CalvinSequencer;

use strict;
use warnings;

use CalvinTest;
use Exporter 'import';

our @EXPORT = qw(sequencer_pid wait_for_sequencer both_workers fail_sequencer mend_sequencer);

# Its pid as pg_stat_activity has it, 0 if there is none.
sub sequencer_pid
{
	my ($node, $db) = @_;

	return sql($node, 'postgres',
		"SELECT coalesce(min(pid), 0) FROM pg_stat_activity WHERE backend_type = 'calvin_seq sequencer' AND datname = '$db'");
}

# Until one, other than a given process, waits for something to do; its pid.
sub wait_for_sequencer
{
	my ($node, $db, $old) = @_;

	return wait_until(
		sub {
			my ($ret, $pid) = try_psql($node, 'postgres',
				"SELECT pid FROM pg_stat_activity WHERE backend_type = 'calvin_seq sequencer' AND datname = '$db' AND query = 'waiting for submissions'");
			return $ret == 0 && $pid =~ /^\d+$/ && $pid != ($old || 0) ? $pid : 0;
		},
		"the sequencer of database $db");
}

# Until both workers of a database are there; their pids.
sub both_workers
{
	my ($node, $db) = @_;

	return (wait_for_applier($node, $db), wait_for_sequencer($node, $db));
}

# Have a sequencer fail that begins, as under a library of another version, and
# wait until it has noticed; its pid.
sub fail_sequencer
{
	my ($node, $db) = @_;
	my $pid = sequencer_pid($node, $db);

	sql($node, $db, "UPDATE pg_extension SET extversion = '0.0' WHERE extname = 'calvin_seq'");
	sql($node, 'postgres', "SELECT pg_terminate_backend($pid, 5000)");
	wait_for_sql($node, 'postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE datname = '$db' AND backend_type = 'calvin_seq sequencer' AND query = 'waiting to try again after an error'", 1);
	return sequencer_pid($node, $db);
}

sub mend_sequencer
{
	my ($node, $db) = @_;

	return sql($node, $db, "UPDATE pg_extension SET extversion = '1.1' WHERE extname = 'calvin_seq'");
}

1;
