# What happens to those who fetch for groups, to handlers, and to the tables of groups.
package Chaos::GroupFaults;

use strict;
use warnings;

use Chaos::Faults qw(fault some_server process pause_process crash_by);
use Chaos::LogFaults;
use Chaos::Loop qw(run_for run_until violation);
use Time::HiRes qw(time);

my $HANDLER = qr/calvin_seq handler/;

# Some handler worker of the primary; undef if there is none, for all may be ended.
sub some_handler
{
	my ($cluster, $rng) = @_;
	my %children = $cluster->{primary}->children;
	my @handlers = sort { $a <=> $b } grep { $children{$_} =~ $HANDLER } keys %children;

	return @handlers ? $rng->any(@handlers) : undef;
}

# Somebody behind the pooler who is in a transaction now.
sub in_transaction
{
	my ($cluster, $rng) = @_;
	my $who;

	run_until(
		sub {
			my @there = grep { $_->pid && $_->{on} == $cluster->{primary} && ($_->{connection}{status} // 'I') eq 'T' } @{ $cluster->{pool} };

			$who = @there ? $rng->any(@there) : undef;
		},
		'somebody to be in a transaction that fetches');
	return $who;
}

fault 'handler killed', 3, sub {
	my ($cluster, $rng) = @_;
	my $handler;

	run_until(sub { $handler = some_handler($cluster, $rng) }, 'a handler');
	crash_by($cluster->{primary}, $handler);
};
fault 'handler terminated', 4, sub {
	my ($cluster, $rng) = @_;

	foreach (1 .. 2 + $rng->below(8))
	{
		my $handler = some_handler($cluster, $rng);

		$cluster->{primary}->kill_process($handler, 'TERM') if $handler;
		run_for($rng->real(0.2));
	}
};
fault 'handler cancelled', 4, sub {
	my ($cluster, $rng) = @_;

	foreach (1 .. 5 + $rng->below(20))
	{
		my $handler = some_handler($cluster, $rng);

		$cluster->{primary}->kill_process($handler, 'INT') if $handler;
		run_for($rng->real(0.05));
	}
};
fault 'handler stopped', 3, sub {
	my ($cluster, $rng) = @_;
	my $handler = some_handler($cluster, $rng) or return;

	pause_process($cluster->{primary}, $handler, 0.2 + $rng->real(0.8));
};

# What it has taken is free as soon as it is gone, and comes again.
fault 'fetching session killed', 3, sub {
	my ($cluster, $rng) = @_;
	my $session = in_transaction($cluster, $rng);

	crash_by($session->{on}, $session->pid);
};
fault 'fetching session ended', 4, sub {
	my ($cluster, $rng) = @_;

	foreach (1 .. 3 + $rng->below(8))
	{
		my $session = in_transaction($cluster, $rng);
		my $how = $rng->any(qw(TERM INT vanish stop));

		if ($how eq 'vanish') { $session->vanish; }
		elsif ($how eq 'stop') { pause_process($session->{on}, $session->pid, $rng->real(0.4)); }
		else { $session->{on}->kill_process($session->pid, $how); }
		run_for($rng->real(0.05));
	}
};

# In the middle of fetching and parking.
my @tables = qw(seq_group_positions seq_group_positions seq_parked_txns seq_registrations seq_handler_definitions);

fault "groups' tables rewritten", 4, sub {
	my ($cluster, $rng) = @_;
	my $ask = $cluster->{primary}{ask};
	my %keys = map { @$_ } $cluster->rows($cluster->{primary},
		"SELECT indrelid::regclass, min(indexrelid::regclass::text) FROM pg_index WHERE indrelid::regclass::text LIKE 'seq\\_%' GROUP BY 1");

	foreach (1 .. 3 + $rng->below(4))
	{
		my $table = $rng->any(@tables);
		my $sql = $rng->any("VACUUM FULL $table", "CLUSTER $table USING $keys{$table}", "REINDEX TABLE $table", "REINDEX TABLE CONCURRENTLY $table", "VACUUM (FREEZE) $table");

		run_until(sub { Chaos::LogFaults::done($ask, $sql) }, $sql);
		run_for($rng->real(0.15));
	}
};

# Versions pile up behind it; who fetches in it sees only what it saw before.
fault 'groups under an old snapshot', 3, sub {
	my ($cluster, $rng) = @_;
	my $ask = $cluster->{primary}{ask};
	my $old = Chaos::GroupGuest->new(name => 'old snapshot', cluster => $cluster);

	$old->ask('BEGIN ISOLATION LEVEL ' . $rng->any('REPEATABLE READ', 'SERIALIZABLE') . '; SELECT count(*) FROM group_effects');
	foreach (1 .. 3)
	{
		run_for($rng->real(0.4));
		run_until(sub { Chaos::LogFaults::done($ask, 'VACUUM seq_group_positions, seq_parked_txns') }, 'VACUUM');
	}
	foreach (1 .. 3)
	{
		my $result = $old->ask("SELECT * FROM fetch_group('" . $rng->any(qw(g f)) . "', 1000, '0')");

		$old->seen($result) if $result;
	}
	$old->ask($rng->any(qw(COMMIT ROLLBACK)));
	$old->dismiss;
};

#
# Retention, and a group that is behind: nobody fetches for it, or its handler is
# ended, for longer than what nobody needs is kept
#
fault 'retention beside a group that is behind', 5, sub {
	my ($cluster, $rng) = @_;
	my $group = $rng->any(qw(g f f ha hs));
	my $handled = $group =~ /^h/;

	$cluster->set_retention(1);
	$cluster->{paused_groups}{$group} = 1;
	if ($handled) { run_until(sub { Chaos::LogFaults::done($cluster->{primary}{ask}, "SELECT seq_unhandle(name) FROM seq_handlers WHERE name = '$group'") }, 'the handler to be ended'); }
	run_for(2.5 + $rng->real(1));
	crash_by($cluster->{primary}, process($cluster->{primary}, qr/calvin_seq sequencer/)) if $rng->chance(0.2);
	$cluster->{paused_groups} = {};
};

# Messages one by one, while all who wait for some do so: each has to be taken, though
# nothing comes after it.
fault 'messages one by one', 3, sub {
	my ($cluster, $rng) = @_;
	my $ask = $cluster->{primary}{ask};

	$cluster->settle;
	$cluster->{draining} = 0;
	$_->{current} = 0 foreach @{ $cluster->{consumers} }, @{ $cluster->{group_actors} };
	foreach (1 .. 10 + $rng->below(20))
	{
		my $pending;

		$cluster->send_one($rng->any(qw(a b e g g)));
		run_until(
			sub {
				my ($row) = $cluster->rows($cluster->{primary}, q{SELECT seq_pending('ha'), seq_pending('hs')});

				$pending = join ', ', @$row;
				return $pending eq '0, 0';
			},
			sub { "the last message to be handled; there wait for ha, hs: $pending" },
			20, 'nothing missing');
	}
};

package Chaos::GroupGuest;

use strict;
use warnings;

our @ISA = ('Chaos::Groups');

sub next_plan { return; }

sub dismiss
{
	my ($self) = @_;

	$self->leave;
	Chaos::Loop::remove_actor($self);
	return;
}

1;
