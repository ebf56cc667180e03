# A server: its files, its processes, and what can be done to them.
#
# What is a node's own (socket, name, whom to follow) is on its command line,
# so that its files may come from the other one.
package Chaos::Server;

use strict;
use warnings;

use Chaos::Loop qw(run_until run_command start_process reap);
use Time::HiRes qw(time usleep);

# What was done to processes and servers that ends them, or what they do.
my $injuries = 0;

sub injuries { return $injuries; }

# new(name, directory, bindir)
sub new
{
	my ($class, %of) = @_;
	my $self = bless { %of, incarnation => 0, killed => {}, stopped => {}, role => 'primary' }, $class;

	mkdir $self->{dir} or die "$self->{dir}: $!" unless -d $self->{dir};
	$self->{data} = "$self->{dir}/data";
	$self->{log} = "$self->{dir}/log";
	$self->{tools} = "$self->{dir}/tools.log";
	return $self;
}

sub name { return $_[0]{name} }
sub path { return "$_[0]{dir}/.s.PGSQL.5432" }

sub tool
{
	my ($self, $program, @arguments) = @_;

	return run_command($self->{tools}, "$self->{bin}/$program", @arguments);
}

sub tool_must
{
	my ($self, $program, @arguments) = @_;

	$self->tool($program, @arguments) == 0 or die "$program failed: see $self->{tools}\n";
	return;
}

sub init
{
	my ($self, $conf) = @_;

	$self->tool_must('initdb', '-D', $self->{data}, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8',
		'--locale=C', '--no-sync', '--no-instructions');
	open my $fh, '>>', "$self->{data}/postgresql.conf" or die $!;
	print $fh "$_ = '$conf->{$_}'\n" foreach sort keys %$conf;
	close $fh;
	return;
}

# Follow another server from now on, or nobody.
sub set_standby
{
	my ($self, $of) = @_;
	my $signal = "$self->{data}/standby.signal";

	if ($of)
	{
		open my $fh, '>', $signal or die $!;
		close $fh;
		$self->{follows} = $of;
		$self->{role} = 'standby';
	}
	else
	{
		unlink $signal;
		$self->{role} = 'primary';
	}
	return;
}

# A copy of a running server, as its standby.
sub copy_from
{
	my ($self, $of) = @_;

	system('rm', '-rf', $self->{data}) == 0 or die;
	$self->tool_must('pg_basebackup', '-D', $self->{data}, '-X', 'stream', '-c', 'fast', '--no-sync',
		'-d', "host=$of->{dir} port=5432 user=postgres");
	$self->set_standby($of);
	return;
}

# The same without copying what is there already; false if that cannot be.
sub rewind_to
{
	my ($self, $of) = @_;
	my $ok = $self->tool('pg_rewind', '-D', $self->{data}, '--no-sync',
		'--source-server', "host=$of->{dir} port=5432 user=postgres dbname=postgres") == 0;

	$self->set_standby($of) if $ok;
	return $ok;
}

sub launch
{
	my ($self) = @_;
	my @options = ('-D', $self->{data}, '-k', $self->{dir}, '-p', 5432, '-c', 'listen_addresses=',
		'-c', "cluster_name=$self->{name}");

	push @options, '-c',
	  "primary_conninfo=host=$self->{follows}{dir} port=5432 user=postgres application_name=$self->{name}"
	  if $self->{follows};
	$self->{incarnation}++;
	$self->{postmaster} = start_process($self->{log}, "$self->{bin}/postgres", @options);
	return;
}

# Until it lets somebody in.
sub start
{
	my ($self) = @_;

	$self->launch;
	$self->wait_until_open;
	return;
}

sub wait_until_open
{
	my ($self) = @_;

	run_until(
		sub {
			die "$self->{name} did not start: see $self->{log}\n" if defined reap($self->{postmaster});
			$self->{control}->is_connected;
		},
		"$self->{name} to accept connections");
	return;
}

sub running
{
	my ($self) = @_;

	return $self->{postmaster} && !defined reap($self->{postmaster});
}

# stop(fast|immediate)
sub stop
{
	my ($self, $mode) = @_;

	$injuries++;
	$self->continue_all;
	kill { fast => 'INT', immediate => 'QUIT' }->{ $mode || 'fast' }, $self->{postmaster};
	$self->wait_until_gone;
	return;
}

sub wait_until_gone
{
	my ($self, @children) = @_;

	run_until(sub { defined reap($self->{postmaster}) && !grep { alive($_) } @children },
		"$self->{name} to be gone");
	return;
}

sub alive
{
	my ($pid) = @_;

	open my $fh, '<', "/proc/$pid/stat" or return 0;
	my $line = <$fh> // return 0;
	return $line !~ /\) [ZX] /;
}

# pid => what it calls itself
sub children
{
	my ($self) = @_;
	my %children;

	opendir my $dir, '/proc' or die;
	foreach my $pid (grep { /^\d+$/ } readdir $dir)
	{
		open my $fh, '<', "/proc/$pid/stat" or next;
		my $line = <$fh> // next;
		close $fh;
		my ($parent) = $line =~ /\) \S (\d+)/ or next;
		next if $parent != $self->{postmaster};
		open $fh, '<', "/proc/$pid/cmdline" or next;
		local $/;
		my $title = <$fh> // '';
		$title =~ s/\0+\z//;
		$children{$pid} = $title;
	}
	return %children;
}

# The process whose title fits, 0 if there is none.
sub process
{
	my ($self, $title) = @_;
	my %children = $self->children;
	my ($pid) = sort { $a <=> $b } grep { $children{$_} =~ $title } keys %children;

	return $pid || 0;
}

sub kill_process
{
	my ($self, $pid, $signal) = @_;

	return 0 unless $pid;
	$injuries++ if $signal =~ /^(?:KILL|TERM|INT)$/;
	$self->{killed}{$pid} = 1 if $signal eq 'KILL';
	if ($signal eq 'STOP') { $self->{stopped}{$pid} = 1; }
	if ($signal eq 'CONT') { delete $self->{stopped}{$pid}; }
	return kill $signal, $pid;
}

sub continue_all
{
	my ($self) = @_;

	kill 'CONT', keys %{ $self->{stopped} };
	$self->{stopped} = {};
	return;
}

# As if the power had gone: nobody gets to do anything any more.
sub lose_power
{
	my ($self) = @_;
	my @children = keys %{ { $self->children } };

	$injuries++;
	kill 'KILL', $self->{postmaster}, @children;
	$self->{killed}{$_} = 1 foreach $self->{postmaster}, @children;
	$self->wait_until_gone(@children);
	$self->{stopped} = {};
	return;
}

# Its postmaster alone; the others notice, and leave.
sub lose_postmaster
{
	my ($self) = @_;
	my @children = keys %{ { $self->children } };

	$injuries++;
	kill 'KILL', $self->{postmaster};
	# those that are stopped cannot notice
	Chaos::Loop::run_for(0.3) if %{ $self->{stopped} };
	kill 'KILL', keys %{ $self->{stopped} };
	$self->wait_until_gone(@children);
	$self->{stopped} = {};
	return;
}

# Crashes that nobody meant, as lines of its log.
sub crashes
{
	my ($self) = @_;
	my @lines;

	open my $fh, '<', $self->{log} or return;
	while (<$fh>)
	{
		if (/PANIC|TRAP:/) { push @lines, $_; }
		elsif (/\(PID (\d+)\) was terminated by signal (\d+)/)
		{
			push @lines, $_ unless $2 == 9 && $self->{killed}{$1};
		}
	}
	return @lines;
}

# What a session that has had a parallel query keeps to its end: SESSION_MAGIC of
# access/common/session.c.
sub is_of_session
{
	my ($file) = @_;
	my $magic = '';

	open(my $in, '<:raw', $file) or return 0;
	read $in, $magic, 4;
	close $in;
	return length $magic == 4 && unpack('V', $magic) == 0xabb0fbc9;
}

# Segments of dynamic shared memory (it is set to be files), but for those that
# the statistics of the server itself grow by.
sub segments
{
	my ($self) = @_;

	return scalar grep { -f && -s _ < 1024 * 1024 && !is_of_session($_) } glob "$self->{data}/pg_dynshmem/mmap.*";
}

1;
