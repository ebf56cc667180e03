# The one loop: connections are served, actors go on, and whoever waits for
# something waits here, so that the workload never stops.
package Chaos::Loop;

use strict;
use warnings;

use Exporter 'import';
use POSIX qw(:sys_wait_h);
use Time::HiRes qw(time);

our @EXPORT_OK = qw(add_actor remove_actor $patience run_for run_until run_command start_process reap violation $first_violation);

my %actors;
my %exit_status;
our $first_violation;
# Where others use the machine, what takes too long takes so many times as long.
our $patience = 1;

# The first broken invariant counts: what comes after may follow from it.
sub violation
{
	my ($invariant, $details) = @_;

	$first_violation ||= { invariant => $invariant, details => $details };
	die "violation: $invariant\n";
}

sub add_actor { my ($actor) = @_; $actors{ $actor->{name} } = $actor; return $actor; }
sub remove_actor { my ($actor) = @_; delete $actors{ $actor->{name} }; return; }

sub serve
{
	my ($pause) = @_;
	my ($read, $write) = ('', '');
	my @connections = grep { !$_->dead } map { $_->{connection} || () } values %actors;

	foreach my $c (@connections)
	{
		vec($read, fileno $c->fh, 1) = 1;
		vec($write, fileno $c->fh, 1) = 1 if $c->wants_to_write;
	}
	if (select($read, $write, undef, $pause) > 0)
	{
		foreach my $c (@connections)
		{
			next if $c->dead;
			$c->flush if vec($write, fileno $c->fh, 1);
			$c->read_some if vec($read, fileno $c->fh, 1);
		}
	}
	$_->go_on foreach map { $actors{$_} } sort keys %actors;
	return;
}

sub run_for
{
	my ($seconds) = @_;
	my $until = time() + $seconds;

	while ((my $left = $until - time()) > 0) { serve($left < 0.01 ? $left : 0.01); }
	return;
}

# Until sub returns true; its value.  What takes too long breaks an invariant.
sub run_until
{
	my ($sub, $what, $seconds, $invariant) = @_;
	my $until = time() + ($seconds || 90) * $patience;

	for (;;)
	{
		my $result = $sub->();

		return $result if $result;
		violation($invariant || 'recovers', 'timed out waiting for ' . (ref $what ? $what->() : $what)
			  . "\n" . join("\n", map { '  ' . $_->describe } map { $actors{$_} } sort keys %actors))
		  if time() > $until;
		serve(0.005);
	}
}

#
# Processes of our own: servers and their tools.
#

# start_process(log file, program, arguments...)
sub start_process
{
	my ($log, @command) = @_;
	my $pid = fork // die "fork: $!";

	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', $log or POSIX::_exit(126);
		open STDERR, '>&', \*STDOUT;
		exec { $command[0] } @command or POSIX::_exit(127);
	}
	return $pid;
}

# The status of a process that has ended, undef while it runs.
sub reap
{
	my ($pid) = @_;

	while ((my $ended = waitpid(-1, WNOHANG)) > 0) { $exit_status{$ended} = $?; }
	return $exit_status{$pid};
}

# Run a program to its end, the workload going on meanwhile.
sub run_command
{
	my ($log, @command) = @_;
	my $pid = start_process($log, @command);

	run_until(sub { defined reap($pid) }, "@command");
	return reap($pid);
}

1;
