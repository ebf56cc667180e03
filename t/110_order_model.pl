# A model of order: concurrent sessions whose transactions look at what others have
# committed, submit, use savepoints, exceptions, deferred triggers, cursors that are
# held, and connections of their own, commit or not.  Afterwards each submission
# that was committed is in the log once, behind all that its transaction saw or that
# had been acknowledged before.  See test/chaos/Chaos/Order.pm, Submitter.pm.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../test/chaos";

use CalvinTest;
use CalvinWorkers;
use Chaos::Loop qw(run_for run_until);
use Chaos::Order;
use Chaos::Rng;
use Chaos::Submitter;
use PostgreSQL::Test::Utils;
use Test::More;

# Transactions that are committed for each seed.
my $TRANSACTIONS = 300;

my $node = new_node('order_model', 'calvin_seq.max_txns_per_epoch' => 7);
my $order = Chaos::Order->new;
my $last_index = 0;

create_extension($node);
sql($node, 'postgres', $Chaos::Submitter::SCHEMA);
my $dblink = sql($node, 'postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'dblink'});
sql($node, 'postgres', 'CREATE EXTENSION dblink') if $dblink;

# What the submitters know of a server.
sub Target::path { return "$_[0]{dir}/.s.PGSQL.$_[0]{port}"; }
my $target = bless { name => 'order_model', dir => $node->host, port => $node->port, postmaster => 1 }, 'Target';

# Everybody's work until enough is committed, then all of it, in the log.
sub work
{
	my ($seed) = @_;
	my $rng = Chaos::Rng->new($seed, 'order model');
	my $cluster = {
		seed => $seed, order => $order, primary => $target, user => $node->can('user') ? $node->user : getpwuid($>),
		safe => 1, budget => 1, submitted => 0, submit_pause => 0, submitters_quiet => 0, dblink => $dblink };
	my @submitters = (
		(map { Chaos::Submitter->new(name => "submitter$_", cluster => $cluster) } 1 .. 10),
		(map { Chaos::Submitter::Large->new(name => "large$_", cluster => $cluster) } 1, 2),
		Chaos::Submitter::Idle->new(name => 'idle', cluster => $cluster));
	my $holder = session($node, 'postgres');
	my $before = $order->{last};

	foreach my $part (1 .. 4)
	{
		my $until = $before + $TRANSACTIONS * $part / 4;

		run_until(sub { $order->{last} >= $until }, 'transactions');
		# the sequencer is ended, or all wait for somebody who has appended something
		if ($part == 2) { sql($node, 'postgres', 'SELECT pg_terminate_backend(' . worker($node, 'sequencer') . ')'); }
		elsif ($part == 3)
		{
			$holder->query(q{BEGIN; SELECT seq_append('')});
			run_until(sub { $order->{last} >= $until + 40 }, 'transactions');
			$holder->query('ROLLBACK');
		}
	}
	$holder->quit;
	$cluster->{budget} = 0;
	run_until(sub { !grep { !$_->is_idle } @submitters }, 'the submitters to end');
	foreach (@submitters)
	{
		$_->leave;
		Chaos::Loop::remove_actor($_);
	}
	return;
}

sub drained { return wait_for_sql($node, 'postgres', 'SELECT waiting_rows = 0 AND waiting_bytes = 0 FROM seq_sequencer', 't', 60); }

sub check
{
	foreach my $row (split /\n/, sql($node, 'postgres', "SELECT log_index, epoch, encode(entry, 'hex') FROM seq_log WHERE log_index > $last_index ORDER BY 1"))
	{
		my ($log_index, $epoch, $hex) = split /\|/, $row;

		$order->take_batch(pack('H*', $hex), $epoch);
		$last_index = $log_index;
	}
	$order->check;
	$order->forget;
	return;
}

foreach my $seed (1, 2, 3)
{
	my %before = %{ $order->{count} };
	my $ok = eval { work($seed); drained(); check(); 1 };
	my $violation = $Chaos::Loop::first_violation;

	# it does not come into the log
	$violation ||= { invariant => 'each submission once', details => $@ } if !$ok;

	foreach my $invariant ('each submission once', 'order of submissions')
	{
		my $broken = $violation && $violation->{invariant} eq $invariant;

		ok(!$broken, "seed $seed: $invariant");
		diag($violation->{details}) if $broken;
	}
	# what comes after may follow from it
	last if $violation;
	my %count = map { ($_ => $order->{count}{$_} - $before{$_}) } keys %before;
	note(join ', ', map { "$count{$_} $_" } sort keys %count);
	cmp_ok($count{committed}, '>', 300, "seed $seed: committed were enough of them");
	cmp_ok($count{undone}, '>', 50, "seed $seed: and undone");
	cmp_ok($count{dependencies}, '>', 300, "seed $seed: transactions have seen each other");
}

$node->stop('immediate');
nothing_crashed($node, 0);
done_testing();
