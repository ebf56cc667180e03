# Workers that end and come back, and a consumer that goes on meanwhile; all of
# it in database postgres.
package CalvinWorkers;

use strict;
use warnings;

use CalvinTest;
use Exporter 'import';

our @EXPORT = qw(worker wait_for_successor next_epoch append_next receive_until);

# Pid of a worker, 0 if there is none.
sub worker
{
	my ($node, $type) = @_;

	return sql($node, 'postgres',
		"SELECT coalesce(min(pid), 0) FROM pg_stat_activity WHERE backend_type = 'calvin_seq $type'");
}

# Until another process than the given one has taken over.
sub wait_for_successor
{
	my ($node, $type, $old) = @_;
	my $new;

	wait_until(
		sub {
			$new = eval { worker($node, $type) };
			return $new && $new != $old;
		},
		"another $type than $old");
	wait_for_applier($node, 'postgres') if $type eq 'applier';
	return $new;
}

sub next_epoch
{
	my ($node) = @_;

	return sql($node, 'postgres', 'SELECT coalesce(seq_current_committed_epoch(), -1) + 1');
}

# Append n batches of one transaction each; the last epoch.
sub append_next
{
	my ($node, $n) = @_;
	my $epoch = next_epoch($node);

	append_batches($node, 'postgres', $epoch, $epoch + $n - 1, [ [ ['a'], 'ab', 1 ] ]);
	return $epoch + $n - 1;
}

# Epochs that a session receives until it has got the last one.
sub receive_until
{
	my ($session, $last) = @_;
	my @epochs;

	while (!@epochs || $epochs[-1] < $last)
	{
		my $output = $session->query("SELECT epoch FROM seq_receive(1000, '10s')");

		last if $output eq '';
		push @epochs, split /\n/, $output;
	}
	return @epochs;
}

1;
