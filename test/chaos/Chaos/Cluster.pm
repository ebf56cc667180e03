# The two servers, the workload on them, and getting all of it to rest.
package Chaos::Cluster;

use strict;
use warnings;

use Chaos::Actor;
use Chaos::Appender;
use Chaos::Consumer;
use Chaos::Entry qw(@vshards noop_entry);
use Chaos::GroupModel;
use Chaos::Groups;
use Chaos::Loop qw(run_until run_for violation);
use Chaos::Loops;
use Chaos::Model;
use Chaos::Reader;
use Chaos::Server;
use Chaos::Submitter;
use Time::HiRes qw(time);

# What makes every server quick to restart and to reconnect, and the suite sure
# of what it looks at: DSM as files of the data directory.
my %conf = (
	shared_preload_libraries => 'calvin_seq',
	fsync => 'off',
	max_connections => 60,
	max_worker_processes => 24,
	max_wal_senders => 6,
	wal_keep_size => '512MB',
	max_wal_size => '1GB',
	shared_buffers => '64MB',
	hot_standby => 'on',
	wal_log_hints => 'on',
	wal_retrieve_retry_interval => '50ms',
	wal_receiver_status_interval => '1s',
	synchronous_standby_names => 'ANY 1 (n1, n2)',
	restart_after_crash => 'on',
	dynamic_shared_memory_type => 'mmap',
	autovacuum => 'off',
	# a session that has had help keeps a segment, for as long as it lives
	max_parallel_workers_per_gather => 0,
	max_standby_streaming_delay => '1s',
	deadlock_timeout => '100ms',
	log_line_prefix => '%m [%p] %b %q%a ',
	log_min_messages => 'warning',
	log_min_error_statement => 'panic',
	log_checkpoints => 'off',
	'calvin_seq.snapshot_interval' => 300,
	'calvin_seq.apply_batch' => '64kB',
);

# new(seed, dir, bin, batch, burst, submissions, library, without)
sub new
{
	my ($class, %of) = @_;
	my $self = bless {
		%of,
		model => Chaos::Model->new,
		budget => 0,
		appended => 0,
		delivered => [],
		deliveries => 0,
		samples => [],
		quiet => 1,
		draining => 0,
		takeovers => 0,
		all_applied => 0,
		log_columns => q{log_index, md5(entry), octet_length(entry), kind, epoch, CASE WHEN position('~sub~'::bytea in entry) > 0 THEN entry END},
		acked_safe => 0,
		acked_unsafe => 0,
		submitted => 0,
		submit_pause => $of{submissions} ? 0 : 0.1,
		submitters_quiet => 0,
		stash => {},		# rows of the log that may be truncated before they are checked
		truncations => 0,
		truncated => 0,		# the epoch that the log begins with
		first_index => 1,
		checked_epoch => -1,
		count => { takeovers => 0 },
		groups => Chaos::GroupModel->new,
		paused_groups => {},	# for which nobody fetches
		backlog => 0,		# of groups
		tailing => 0,		# what retention may remove has to be read before
		retention => 0,
		durable => [ 'd', $of{without}{loops} ? () : 'p', $of{library} ? 'c' : () ],
	}, $class;

	$self->{order} = $self->{model}{order};
	$self->{nodes} = [ map { Chaos::Server->new(name => $_, dir => "$of{dir}/$_", bin => $of{bin}) } qw(n1 n2) ];
	$self->{servers} = [ @{ $self->{nodes} } ];
	$self->make_servers;
	$self->add_workload;
	return $self;
}

# What a server with the extension is configured by.
sub settings { return %conf; }

# Statements that make what the workload needs.
sub schema
{
	my ($self) = @_;
	my $library = $self->{library};

	return ($Chaos::Consumer::SCHEMA, $Chaos::Appender::SCHEMA, $Chaos::Submitter::SCHEMA, $Chaos::Looper::SCHEMA, $library ? Chaos::Native::schema($library) : (),
		$self->{without}{groups} ? () : ($Chaos::Groups::SCHEMA, Chaos::Groups::making()),
		map { "SELECT seq_subscribe('{" . join(',', @vshards) . "}', '$_', from_epoch => 0); SELECT seq_commit('$_'); SELECT seq_unsubscribe(name => '$_')" } @{ $self->{durable} });
}

# Each has to succeed.
sub do_all
{
	my ($server, @statements) = @_;

	foreach my $sql (@statements)
	{
		my $result = $server->{ask}->ask($sql);

		die "$server->{name}: " . ($result->{error} ? $result->{error}{message} : 'connection lost') . " in $sql\n" if $result->{error} || $result->{lost};
	}
	return;
}

sub make_servers
{
	my ($self) = @_;
	my ($n1, $n2) = @{ $self->{nodes} };

	$self->{primary} = $n1;
	$n1->init({ $self->settings, include_if_exists => "$self->{dir}/retention.conf" });
	$self->add_watchers($_) foreach $n1, $n2;
	$n1->start;
	do_all($n1, 'SET synchronous_commit = local; CREATE EXTENSION calvin_seq', $self->schema);
	$n1->{ask}->vanish;
	$n2->copy_from($n1);
	$n2->start;
	$self->{standby} = $n2;
	return;
}

sub add_watchers
{
	my ($self, $node) = @_;

	$node->{control} = Chaos::Monitor->new(name => "monitor-$node->{name}", cluster => $self, node => $node);
	$node->{ask} = Chaos::Monitor::Quiet->new(name => "ask-$node->{name}", cluster => $self, node => $node);
	return;
}

sub add_workload
{
	my ($self) = @_;

	$self->{appenders} = [
		(map { Chaos::Appender->new(name => "appender$_", cluster => $self) } 1, 2),
		Chaos::Appender->new(name => 'raw', cluster => $self, odd => 1) ];
	$self->{submitters} = $self->{without}{submitters} ? [] : [
		(map { Chaos::Submitter->new(name => "submitter$_", cluster => $self) } 1 .. 4),
		Chaos::Submitter::Large->new(name => 'large submitter', cluster => $self),
		Chaos::Submitter::Idle->new(name => 'idle submitter', cluster => $self),
		$self->{submissions} ? map { Chaos::Submitter::Bulk->new(name => "bulk submitter$_", cluster => $self) } 1, 2 : () ];
	$self->{last_submitter} = Chaos::Submitter::Last->new(name => 'last submitter', cluster => $self);
	$self->{workers} = [
		(map { Chaos::Worker->new(name => "worker$_", cluster => $self, consumer => 'd', leader => $_ == 1) } 1 .. 3),
		$self->{without}{loops} ? () : (map { Chaos::Looper->new(name => "looper$_", cluster => $self, consumer => 'p', leader => $_ == 1) } 1, 2),
		$self->{library} ? Chaos::Native->new(name => 'native', cluster => $self, consumer => 'c', leader => 1) : () ];
	$self->{readers} = [
		Chaos::Reader->new(name => 'reader', cluster => $self, consumer => 'm'),
		Chaos::Reader->new(name => 'standby reader', cluster => $self, consumer => 's', role => 'standby', queue_size => 32768),
		map { Chaos::Slow->new(name => "slow$_", cluster => $self, consumer => 'slow', vshards => [$_], queue_size => 131072) } @vshards ];
	$self->{bare} = [
		Chaos::Bare->new(name => 'bare', cluster => $self, consumer => 'b'),
		Chaos::Bare->new(name => 'standby bare', cluster => $self, consumer => 'sb', role => 'standby') ];
	$self->{pool} = $self->{without}{groups} ? [] : [ map { Chaos::PoolWorker->new(name => "pooled$_", cluster => $self, leader => $_ == 1) } 1 .. 4 ];
	$self->{group_actors} = $self->{without}{groups} ? [] : [
		@{ $self->{pool} }, Chaos::Operator->new(name => 'operator', cluster => $self), Chaos::Maker->new(name => 'maker', cluster => $self),
		Chaos::Keeper->new(name => 'keeper', cluster => $self, leader => 1) ];
	$self->{gauge} = Chaos::Gauge->new(name => 'gauge', cluster => $self) if @{ $self->{pool} };
	$self->{tailer} = Chaos::Tailer->new(name => 'tailer', cluster => $self);
	$self->{probe} = Chaos::Appender->new(name => 'probe', cluster => $self);
	$self->{consumers} = [ @{ $self->{workers} }, @{ $self->{readers} }, @{ $self->{bare} } ];
	$self->{worker_at} = { map { my $name = $_; ($name => { map { ($_ => 0) } @vshards }) } @{ $self->{durable} } };
	return;
}

# Let the workload run: so many transactions may be appended.
sub begin_work
{
	my ($self, $budget, $takeovers) = @_;

	$self->{takeovers} = $takeovers;
	$self->{budget} = $budget;
	$self->{quiet} = $self->{workers_quiet} = $self->{submitters_quiet} = $self->{draining} = $self->{all_applied} = 0;
	$_->{current} = 0 foreach @{ $self->{consumers} }, @{ $self->{group_actors} };
	$self->{paused_groups} = {};
	return;
}

# All who work.
sub everybody { my ($self) = @_; return map { @{ $self->{$_} } } qw(consumers group_actors appenders submitters); }

# After so many seconds what nobody needs is removed; 0: it is not.
sub set_retention
{
	my ($self, $seconds) = @_;

	return if $self->{retention} == $seconds;
	$self->{retention} = $seconds;
	# what goes meanwhile has to be known
	$self->{tailing} = 1;
	$self->{truncations}++ if $seconds;
	open my $fh, '>', "$self->{dir}/retention.conf" or die $!;
	print $fh "calvin_seq.retention = $seconds\n";
	close $fh;
	$_->kill_process($_->{postmaster}, 'HUP') foreach grep { $_->running } @{ $self->{nodes} };
	return if $seconds;
	# a step of it may be under way
	run_for(0.3);
	$self->{tailing} = 0;
	return;
}

# One statement on a server, at rest: it must not fail.
sub rows
{
	my ($self, $server, $sql) = @_;
	my $result = $server->{ask}->ask($sql);

	violation('no unexpected error', "on $server->{name}: " . ($result->{error} ? "$result->{error}{state}: $result->{error}{message}" : 'connection lost') . "\nstatement: $sql")
	  if !$result || $result->{lost} || $result->{error};
	return @{ $result->{rows} };
}

# Stop the workload and wait until all of it is applied, on both servers, and
# received by everybody.
sub settle
{
	my ($self) = @_;
	my $index = -1;

	$self->{budget} = 0;
	$self->{quiet} = 1;
	run_until(sub { !grep { !$_->is_idle } @{ $self->{appenders} }, @{ $self->{submitters} }, $self->{probe} }, 'the appenders to end');
	$self->drain_inbox;
	$self->probe;
	run_until(sub { !grep { !$_->is_idle } @{ $self->{consumers} }, @{ $self->{group_actors} } }, 'the consumers to end');
	foreach my $server (@{$self}{qw(primary standby)})
	{
		run_until(
			sub {
				my $result = $server->{ask}->ask('SELECT last_applied_index, log_end, applier_state FROM seq_state');

				return 0 if !$result || $result->{error} || $result->{lost};
				my ($applied, $end, $state) = @{ $result->{rows}[0] };
				$self->{last_seen} = "$server->{name}: applied " . ($applied // 'null') . " of $end, $state";
				return 0 if $applied < $end || $server == $self->{standby} && $end < $index || $state ne 'idle';
				$index = $end;
				return 1;
			},
			sub { "$server->{name} to apply: " . ($self->{last_seen} || '') });
	}
	$self->{all_applied} = $self->{draining} = 1;
	run_until(
		sub { !grep { !$_->is_idle || !$_->{current} && (!$_->isa('Chaos::Worker') || $_->{leader}) } @{ $self->{consumers} } },
		'the consumers to be current');
	run_until(sub { !grep { !$_->is_idle || $_->{leader} && !$_->{current} } @{ $self->{group_actors} } }, 'the groups to be current');
	$self->set_retention(0);
	return;
}

# An append that must get through, since everything is up.
sub probe
{
	my ($self) = @_;
	my $probe = $self->{probe};

	run_until(
		sub {
			my $entry = noop_entry();
			$probe->{in_flight} = [];
			$probe->sending($entry);
			my $result = $probe->ask(q{SELECT seq_append('')});
			return 0 if !$result || $result->{lost};
			return $probe->refuse && 0 if $result->{error};
			$entry->{said} = $result->{rows}[0][0];
			$probe->acknowledge($result, 1);
			return 1;
		},
		'an append to succeed');
	return;
}

# A submission of whose transaction all others are before, has to get through: then
# so have they.
sub drain_inbox
{
	my ($self) = @_;
	my $last = $self->{last_submitter};

	run_until(
		sub {
			my $txn = $last->begin;

			$self->{order}->submission($txn, Chaos::Order::shape('a', 0), 0);
			my $result = $last->ask(sub { $self->{order}->committing($txn); return "SELECT send_one($txn->{id}, 0, 'a', 0)"; });
			return 0 if !$result || $result->{lost};
			return 0 if $result->{error};
			$last->acknowledge($txn, $result, 1);
			my $number = $result->{rows}[0][0];
			$result = $last->ask("SELECT epoch, position FROM seq_submission($number, '30 s')");
			return 0 if !$result || $result->{lost} || $result->{error};
			violation('recovers', "submission $number is not in the log after 30 s: " . $self->what_waits) if !defined $result->{rows}[0][0];
			$txn->{subs}[0]{said} = $result->{rows}[0];
			return 1;
		},
		'a submission to get into the log');
	return;
}

# A submission of one message, which is in the log when this returns.
sub send_one
{
	my ($self, $collection) = @_;
	my $last = $self->{last_submitter};

	run_until(
		sub {
			my $txn = $last->begin;

			$self->{order}->submission($txn, Chaos::Order::shape($collection, 0), 0);
			my $result = $last->ask(sub { $self->{order}->committing($txn); return "SELECT send_one($txn->{id}, 0, '$collection', 0)"; });
			return 0 if !$result || $result->{lost} || $result->{error};
			$last->acknowledge($txn, $result, 1);
			$result = $last->ask("SELECT epoch FROM seq_submission($result->{rows}[0][0], '30 s')");
			return $result && !$result->{error} && !$result->{lost} && defined $result->{rows}[0][0];
		},
		'a submission to get into the log');
	return;
}

sub what_waits
{
	my ($self) = @_;
	my $result = $self->{primary}{ask}->ask('SELECT row_to_json(s) FROM seq_sequencer s');

	return $result && !$result->{error} && !$result->{lost} ? $result->{rows}[0][0] : 'nothing is known';
}

# Sessions go where they belong, after roles have changed; not always at once.
sub move_sessions
{
	my ($self, $rng) = @_;

	foreach my $actor ($self->everybody)
	{
		$actor->vanish if $actor->{on} && $actor->server != $actor->{on} && $rng->chance(0.6);
	}
	return;
}

# Everybody leaves.
sub disperse
{
	my ($self) = @_;

	$_->leave foreach $self->everybody, @{$self}{qw(probe last_submitter tailer)}, $self->{gauge} || ();
	return;
}

package Chaos::Submitter::Last;

use strict;
use warnings;

our @ISA = ('Chaos::Submitter');

sub next_plan { return; }

package Chaos::Monitor::Quiet;

use strict;
use warnings;

our @ISA = ('Chaos::Actor');

sub may_fail { return 1; }

1;
