# What goes wrong with processes, servers and replication; with the log in
# LogFaults.pm, with databases in DatabaseFaults.pm.  Every fault is a sub of the
# cluster and a generator; it returns when both servers let sessions in again,
# the workload going on meanwhile.
package Chaos::Faults;

use strict;
use warnings;

use Chaos::Entry qw(@vshards);
use Chaos::Loop qw(run_for run_until);
use Exporter 'import';

our @EXPORT_OK = qw(%faults %weight fault some_server process pause_process crash_by end_applier crash_applier hold_append_lock release_append_lock);

our %faults;
our %weight;

# fault(name, weight, sub)
sub fault
{
	my ($name, $weight, $sub) = @_;

	$faults{$name} = $sub;
	$weight{$name} = $weight;
	return;
}

my $APPLIER = qr/calvin_seq applier/;
my $WALSENDER = qr/walsender .*streaming/;
my $WALRECEIVER = qr/walreceiver/;

sub some_server { my ($cluster, $rng) = @_; return $rng->any(@{ $cluster->{nodes} }); }

sub some_session
{
	my ($cluster, $rng, @of) = @_;
	my @there = grep { $_->pid } @of ? @of : $cluster->everybody;

	return @there ? $rng->any(@there) : undef;
}

# The process must be there first: it may be on its way after the last fault.
sub process
{
	my ($server, $title) = @_;

	return run_until(sub { $server->process($title) }, "$server->{name} to have a process $title");
}

# Kill one of a server's processes, which takes all of them down.
sub crash_by
{
	my ($server, $pid) = @_;
	my $connection = $server->{control}{connection};

	$server->kill_process($pid, 'KILL');
	run_until(
		sub {
			$server->{control}{connection} != $connection && $server->{control}->is_connected;
		},
		"$server->{name} to come back after a crash");
	return;
}

# Somebody who has appended something, and does not end: all others wait.
sub hold_append_lock
{
	my ($cluster) = @_;
	my $holder = Chaos::Appender::Holder->new(name => 'holder', cluster => $cluster);
	my $entry = Chaos::Entry::noop_entry();

	run_until(
		sub {
			$holder->{in_flight} = [];
			$holder->sending($entry);
			my $result = $holder->ask(q{BEGIN; SELECT seq_append('')});
			return $result && !$result->{error} && !$result->{lost};
		},
		'an append');
	return $holder;
}

sub release_append_lock
{
	my ($holder) = @_;

	$holder->ask('ROLLBACK') if $holder->is_connected;
	$holder->refuse;
	$holder->leave;
	Chaos::Loop::remove_actor($holder);
	return;
}

# Stop a process for a while.
sub pause_process
{
	my ($server, $pid, $seconds) = @_;

	$server->kill_process($pid, 'STOP');
	run_for($seconds);
	$server->kill_process($pid, 'CONT');
	return;
}

#
# The applier
#

sub end_applier
{
	my ($server) = @_;
	my $pid = process($server, $APPLIER);

	$server->kill_process($pid, 'TERM');
	run_until(sub { !Chaos::Server::alive($pid) }, "the applier of $server->{name} to end");
	return;
}

sub crash_applier
{
	my ($server) = @_;

	return crash_by($server, process($server, $APPLIER));
}

fault 'applier killed', 3, sub {
	my ($cluster, $rng) = @_;

	crash_applier(some_server($cluster, $rng));
};
fault 'applier terminated', 5, sub {
	my ($cluster, $rng) = @_;
	my $server = some_server($cluster, $rng);

	$server->kill_process(process($server, $APPLIER), 'TERM');
	run_for($rng->real(0.2));
};
fault 'applier stopped', 4, sub {
	my ($cluster, $rng) = @_;
	my $server = some_server($cluster, $rng);

	pause_process($server, process($server, $APPLIER), 0.1 + $rng->real(0.6));
};

#
# Sessions
#
fault 'session killed', 2, sub {
	my ($cluster, $rng) = @_;
	my $session = some_session($cluster, $rng) or return;

	crash_by($session->{on}, $session->pid);
};
fault 'session terminated', 4, sub {
	my ($cluster, $rng) = @_;

	foreach (1 .. 1 + $rng->below(4))
	{
		my $session = some_session($cluster, $rng) or next;

		$session->{on}->kill_process($session->pid, 'TERM');
		run_for($rng->real(0.1));
	}
};
fault 'session cancelled', 4, sub {
	my ($cluster, $rng) = @_;

	foreach (1 .. 2 + $rng->below(8))
	{
		my $session = some_session($cluster, $rng) or next;

		$session->{on}->kill_process($session->pid, 'INT');
		run_for($rng->real(0.05));
	}
};
fault 'client vanished', 4, sub {
	my ($cluster, $rng) = @_;

	foreach (1 .. 1 + $rng->below(4))
	{
		my $session = some_session($cluster, $rng) or next;

		$session->vanish;
		run_for($rng->real(0.1));
	}
};
fault 'consumer stopped', 4, sub {
	my ($cluster, $rng) = @_;
	my $session = some_session($cluster, $rng, @{ $cluster->{consumers} }) or return;

	pause_process($session->{on}, $session->pid, 0.2 + $rng->real(0.8));
};

#
# Takeovers around a commit: one that has stored its cursor is not done yet, and
# another one goes on from the old one.
#
fault 'taken over before COMMIT', 4, sub {
	my ($cluster, $rng) = @_;
	my ($one, $two) = map { Chaos::Worker::Guest->new(name => "guest$_", cluster => $cluster, consumer => 'd') } 1, 2;
	my $all = join ',', @vshards;
	my $subscribe = "SELECT seq_subscribe('{$all}', 'd', queue_size => 8192)";
	my $take = sub { my ($who) = @_; my $result = $who->ask("SELECT * FROM take('d', 500, '20 ms')"); $who->seen($result) if $result; };

	# three are too many: the others wait
	$cluster->{workers_quiet} = 1;
	run_until(sub { !grep { !$_->is_idle } @{ $cluster->{workers} } }, 'the workers to end');
	foreach (1 .. 2 + $rng->below(3))
	{
		$one->ask($subscribe);
		$one->ask('BEGIN');
		$take->($one);
		$one->ask("SELECT seq_commit('d')");
		$two->ask($subscribe);
		$two->ask('BEGIN');
		$take->($two);
		# it has to wait for the first one
		push @{ $two->{plan} }, ["SELECT seq_commit('d')"], ['COMMIT'];
		run_for(0.02 + $rng->real(0.04));
		$one->ask($rng->chance(0.8) ? 'COMMIT' : 'ROLLBACK');
		run_until(sub { $two->is_idle || !$two->is_connected }, 'the second one to end');
	}
	$cluster->{workers_quiet} = 0;
	foreach ($one, $two)
	{
		$_->leave;
		Chaos::Loop::remove_actor($_);
	}
};
#
# Replication
#
fault 'walreceiver killed', 2, sub {
	my ($cluster) = @_;
	my $server = $cluster->{standby};

	crash_by($server, process($server, $WALRECEIVER));
};
fault 'walreceiver terminated', 3, sub {
	my ($cluster, $rng) = @_;
	my $server = $cluster->{standby};

	$server->kill_process(process($server, $WALRECEIVER), 'TERM');
	run_for($rng->real(0.2));
};
fault 'walreceiver stopped', 3, sub {
	my ($cluster, $rng) = @_;
	my $server = $cluster->{standby};

	pause_process($server, process($server, $WALRECEIVER), 0.2 + $rng->real(0.5));
};
fault 'walsender killed', 2, sub {
	my ($cluster) = @_;
	my $server = $cluster->{primary};

	crash_by($server, process($server, $WALSENDER));
};
fault 'walsender terminated', 3, sub {
	my ($cluster, $rng) = @_;
	my $server = $cluster->{primary};

	$server->kill_process(process($server, $WALSENDER), 'TERM');
	run_for($rng->real(0.2));
};

# From here on nothing reaches the standby: what commits without waiting, or
# stops to wait, is visible and not confirmed.  Whatever could end the
# applier's wait is tried.
sub hold_standby
{
	my ($cluster, $rng) = @_;
	my $server = $cluster->{primary};
	my $ask = $server->{ask};
	my $walsender = process($server, $WALSENDER);
	my $hasty = Chaos::Appender::Hasty->new(name => 'hasty', cluster => $cluster);

	$server->kill_process($walsender, 'STOP');
	run_until(sub { $hasty->is_connected }, 'a session');
	foreach (1 .. 2 + $rng->below(2))
	{
		run_for(0.1 + $rng->real(0.15));
		$ask->ask(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'});
		run_for($rng->real(0.1));
		$ask->ask('SELECT pg_reload_conf()');
		run_for(0.1 + $rng->real(0.1));
	}
	$hasty->leave;
	Chaos::Loop::remove_actor($hasty);
	return $walsender;
}

fault 'confirmations held', 4, sub {
	my ($cluster, $rng) = @_;
	my $walsender = hold_standby($cluster, $rng);

	$cluster->{primary}->kill_process($walsender, 'CONT');
};

#
# Servers
#
sub restart
{
	my ($server, $mode) = @_;

	$server->stop($mode);
	$server->start;
	return;
}

fault 'primary restarted immediately', 3, sub { restart($_[0]{primary}, 'immediate') };
fault 'standby restarted immediately', 3, sub { restart($_[0]{standby}, 'immediate') };
fault 'primary restarted', 1, sub { restart($_[0]{primary}, 'fast') };
fault 'standby restarted', 1, sub { restart($_[0]{standby}, 'fast') };
fault 'postmaster killed', 3, sub {
	my ($cluster, $rng) = @_;
	my $server = some_server($cluster, $rng);

	$server->lose_postmaster;
	$server->start;
};
fault 'power lost', 3, sub {
	my ($cluster, $rng) = @_;
	my $server = some_server($cluster, $rng);

	$server->lose_power;
	$server->start;
};
fault 'power lost everywhere', 2, sub {
	my ($cluster, $rng) = @_;

	$_->lose_power foreach $rng->shuffle(@{ $cluster->{nodes} });
	$_->launch foreach $rng->shuffle(@{ $cluster->{nodes} });
	$_->wait_until_open foreach @{ $cluster->{nodes} };
};
fault 'postmaster stopped', 2, sub {
	my ($cluster, $rng) = @_;
	my $server = some_server($cluster, $rng);

	pause_process($server, $server->{postmaster}, 0.2 + $rng->real(0.5));
};

#
# The standby becomes the primary, and the other one its standby.
#
sub promote
{
	my ($cluster) = @_;
	my ($old, $new) = @{$cluster}{qw(primary standby)};

	$new->tool_must('pg_ctl', '-D', $new->{data}, '-W', '-s', 'promote');
	run_until(
		sub {
			my $result = $new->{ask}->ask('SELECT pg_is_in_recovery()');
			return $result && !$result->{error} && !$result->{lost} && $result->{rows}[0][0] eq 'f';
		},
		"$new->{name} to be promoted");
	@{$cluster}{qw(primary standby)} = ($new, $old);
	$new->set_standby(undef);
	$cluster->{count}{promotions}++;
	return;
}

# The old primary, which is down, as the standby of the new one.
sub rejoin
{
	my ($cluster, $rng, $clean) = @_;
	my ($new, $old) = @{$cluster}{qw(primary standby)};

	if ($clean) { $old->set_standby($new); }
	elsif ($rng->chance(0.4))
	{
		# the target's history has to be known to be another one
		run_until(
			sub {
				my $result = $new->{ask}->ask('CHECKPOINT');
				return $result && !$result->{error} && !$result->{lost};
			},
			'a checkpoint');
		$cluster->{count}{rewound}++;
		$old->rewind_to($new) or $old->copy_from($new);
	}
	else { $old->copy_from($new); }
	$old->start;
	return;
}

sub change_roles
{
	my ($cluster, $rng, $clean) = @_;

	promote($cluster);
	rejoin($cluster, $rng, $clean);
	return;
}

fault 'failover', 5, sub {
	my ($cluster, $rng) = @_;

	$cluster->{primary}->lose_power;
	change_roles($cluster, $rng);
};
fault 'failover with confirmations held', 4, sub {
	my ($cluster, $rng) = @_;

	hold_standby($cluster, $rng);
	$cluster->{primary}->lose_power;
	change_roles($cluster, $rng);
};
fault 'postmaster killed with confirmations held', 2, sub {
	my ($cluster, $rng) = @_;

	hold_standby($cluster, $rng);
	$cluster->{primary}->lose_postmaster;
	change_roles($cluster, $rng);
};
fault 'switchover', 2, sub {
	my ($cluster, $rng) = @_;

	$cluster->{primary}->stop('fast');
	change_roles($cluster, $rng, 1);
};

package Chaos::Worker::Guest;

use strict;
use warnings;

our @ISA = ('Chaos::Worker');

# a database that is not there yet
sub may_fail { my ($self, $state) = @_; return $state eq '3D000' || $self->SUPER::may_fail($state); }
sub next_plan { return; }

package Chaos::Appender::Holder;

use strict;
use warnings;

our @ISA = ('Chaos::Appender');

sub next_plan { return; }

package Chaos::Appender::Hasty;

use strict;
use warnings;

our @ISA = ('Chaos::Appender');

# Commits that do not wait for anybody, as fast as it goes.
sub plan_appends
{
	my ($self, $epoch) = @_;
	my $entry = Chaos::Entry::random_batch($self->{rng}, $epoch, 1 + $self->{rng}->below(20));
	my $mode = $self->{rng}->any(qw(off local));

	$self->sending($entry);
	push @{ $self->{plan} },
	  ["SET synchronous_commit = $mode"],
	  $self->append_step($entry, 'SELECT seq_append(' . Chaos::Appender::hex_of($entry) . ')', sub { $self->acknowledge($_[0], 0) }),
	  0.02;
	return;
}

1;
