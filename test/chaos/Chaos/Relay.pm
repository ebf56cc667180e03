# The network between servers: a process that passes bytes on, from a socket of each link
# to a server's, and can be told to do it badly.
#
#   link(name, server)		a link, and whom it leads to; its directory is the host to connect to
#   tell(name, what...)
#
#	  cut					all its connections, at once
#	  middle [hang]			the next answer is cut off somewhere, and with it the connection;
#							or nothing comes any more, and nobody says so
#	  stall S				for so many seconds nothing passes
#	  slow S BYTES			for so many seconds so many bytes in a hundredth of one
#	  refuse S				for so many seconds whoever comes is turned away
#	  change				a byte of an entry, the next that comes
#	  heal					all is well again
package Chaos::Relay;

use strict;
use warnings;

use IO::Handle;
use POSIX ();
use Socket;
use Time::HiRes qw(time);

# Bytes that wait for who reads slowly.
my $MOST = 1 << 20;

# new(dir, seed)
sub new
{
	my ($class, %of) = @_;
	my $self = bless {%of}, $class;

	mkdir $self->{dir} or die "$self->{dir}: $!";
	pipe(my $read, my $write) or die "pipe: $!";
	$self->{pid} = fork // die "fork: $!";
	if ($self->{pid} == 0)
	{
		close $write;
		open STDERR, '>', "$self->{dir}/log" or POSIX::_exit(1);
		STDERR->autoflush(1);
		$SIG{PIPE} = 'IGNORE';
		srand $of{seed};
		eval { Chaos::Relay::Process->new($read)->run; 1 } or print STDERR $@;
		POSIX::_exit(1);
	}
	close $read;
	$write->autoflush(1);
	$self->{commands} = $write;
	return $self;
}

sub host { my ($self, $name) = @_; return "$self->{dir}/$name"; }

sub link
{
	my ($self, $name, $server) = @_;
	my $host = $self->host($name);

	mkdir $host;
	$self->tell($name, 'listen', "$host/.s.PGSQL.5432", $server->path);
	return;
}

sub tell
{
	my ($self, @words) = @_;
	local $SIG{PIPE} = 'IGNORE';

	syswrite $self->{commands}, "@words\n" or die "the relay is gone\n";
	return;
}

sub stop
{
	my ($self) = @_;

	close $self->{commands};
	waitpid $self->{pid}, 0;
	return;
}

package Chaos::Relay::Process;

use strict;
use warnings;

use Errno qw(EAGAIN EWOULDBLOCK EINTR);
use IO::Handle;
use Socket;
use Time::HiRes qw(time);

sub new { my ($class, $commands) = @_; return bless { commands => $commands, links => {}, pairs => [] }, $class; }

sub run
{
	my ($self) = @_;

	$self->{commands}->blocking(0);
	for (;;)
	{
		my ($read, $write) = ('', '');
		my $now = time();

		vec($read, fileno $self->{commands}, 1) = 1;
		vec($read, fileno $_->{listener}, 1) = 1 foreach values %{ $self->{links} };
		foreach my $side ($self->sides($now))
		{
			vec($read, fileno $side->{fh}, 1) = 1 if length $side->{other}{out} < $MOST;
			vec($write, fileno $side->{fh}, 1) = 1 if $side->{out} ne '' && $now >= ($side->{next} || 0);
		}
		# what is stalled, or slow, is looked at again soon
		select($read, $write, undef, $self->{hurried} ? 0.01 : 0.5);
		return if vec($read, fileno $self->{commands}, 1) && !$self->take_commands;
		foreach my $link (values %{ $self->{links} })
		{
			$self->accept_one($link) if vec($read, fileno $link->{listener}, 1);
		}
		foreach my $side ($self->sides($now))
		{
			$self->send_some($side, $now) if !$side->{pair}{gone} && vec($write, fileno $side->{fh}, 1);
			$self->take_some($side) if !$side->{pair}{gone} && vec($read, fileno $side->{fh}, 1);
		}
		$self->{pairs} = [ grep { !$_->{gone} } @{ $self->{pairs} } ];
	}
	return;
}

# Ends of connections for which something may pass now.
sub sides
{
	my ($self, $now) = @_;
	my @pairs = grep { !$_->{gone} && !$_->{hung} && $now >= ($_->{link}{stalled} || 0) } @{ $self->{pairs} };

	$self->{hurried} = grep { $now < ($_->{stalled} || 0) || $now < ($_->{slow_until} || 0) } values %{ $self->{links} };
	return map { @{ $_->{sides} } } @pairs;
}

sub take_commands
{
	my ($self) = @_;
	my $n = sysread $self->{commands}, $self->{text}, 65536, length($self->{text} // '');

	return defined $n || $! == EAGAIN || $! == EINTR ? $n : 0 if !$n;
	while ($self->{text} =~ s/^(\S+) (\S+) ?(.*)\n//)
	{
		my ($name, $verb, @more) = ($1, $2, split / /, $3);
		my $link = $self->{links}{$name} ||= { name => $name };

		$self->can("do_$verb")->($self, $link, @more);
	}
	return 1;
}

sub do_listen
{
	my ($self, $link, $path, $to) = @_;

	$link->{to} = $to;
	return if $link->{listener};
	socket(my $fh, PF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
	bind($fh, pack_sockaddr_un($path)) or die "$path: $!";
	listen($fh, 64) or die "listen: $!";
	$fh->blocking(0);
	$link->{listener} = $fh;
	return;
}

sub do_cut { my ($self, $link) = @_; drop($_) foreach grep { $_->{link} == $link } @{ $self->{pairs} }; return; }
sub do_middle { my ($self, $link, $how) = @_; $link->{middle} = $how || 'cut'; return; }
sub do_stall { my ($self, $link, $seconds) = @_; $link->{stalled} = time() + $seconds; return; }
sub do_change { my ($self, $link) = @_; $link->{change} = 1; return; }

sub do_heal
{
	my ($self, $link) = @_;

	drop($_) foreach grep { $_->{link} == $link && $_->{hung} } @{ $self->{pairs} };
	delete @{$link}{qw(middle stalled slow_until refuse change)};
	return;
}

sub do_slow
{
	my ($self, $link, $seconds, $bytes) = @_;

	@{$link}{qw(slow_until bytes)} = (time() + $seconds, $bytes);
	return;
}

sub do_refuse
{
	my ($self, $link, $seconds) = @_;

	$link->{refuse} = time() + $seconds;
	return $self->do_cut($link);
}

sub accept_one
{
	my ($self, $link) = @_;

	accept(my $client, $link->{listener}) or return;
	socket(my $server, PF_UNIX, SOCK_STREAM, 0) or return;
	return if time() < ($link->{refuse} || 0);
	connect($server, pack_sockaddr_un($link->{to})) or return note($link, "$link->{to}: $!");
	$_->blocking(0) foreach $client, $server;
	my $pair = { link => $link };
	my @sides = map { { fh => $_, out => '', pair => $pair } } $client, $server;

	($sides[0]{other}, $sides[1]{other}) = @sides[ 1, 0 ];
	$sides[1]{answers} = 1;
	$pair->{sides} = \@sides;
	push @{ $self->{pairs} }, $pair;
	return;
}

sub note { my ($link, $what) = @_; printf STDERR "%.3f %s %s\n", time(), $link->{name}, $what; return; }

sub drop
{
	my ($pair) = @_;

	return if $pair->{gone};
	note($pair->{link}, 'a connection ends');
	$pair->{gone} = 1;
	foreach my $side (@{ $pair->{sides} })
	{
		close $side->{fh};
		delete $side->{other};
	}
	return;
}

sub take_some
{
	my ($self, $side) = @_;
	my $link = $side->{pair}{link};
	my $n = sysread $side->{fh}, my $bytes, 65536;

	if (!$n)
	{
		return if !defined $n && ($! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR);
		note($link, ($side->{answers} ? 'the server' : 'the client') . ' ends it' . (defined $n ? '' : ": $!"));
		# what came before passes, if it can at once
		$self->send_some($side->{other}, time());
		return drop($side->{pair});
	}
	if ($side->{answers} && $link->{change} && (my $at = index $bytes, 'EpochBatch') >= 0)
	{
		substr($bytes, $at, 1) = 'e';
		$link->{change} = 0;
	}
	# not one of those that only say that there is nothing
	if ($side->{answers} && $link->{middle} && $n > 200)
	{
		my $how = delete $link->{middle};

		syswrite $side->{other}{fh}, $side->{other}{out} . substr $bytes, 0, int rand $n;
		return $how eq 'hang' ? $side->{pair}{hung} = 1 : drop($side->{pair});
	}
	$side->{other}{out} .= $bytes;
	$self->send_some($side->{other}, time()) if time() >= ($link->{slow_until} || 0);
	return;
}

sub send_some
{
	my ($self, $side, $now) = @_;
	my $link = $side->{pair}{link};
	my $most = length $side->{out};

	return if $most == 0;
	if ($now < ($link->{slow_until} || 0))
	{
		return if $now < ($side->{next} || 0);
		$side->{next} = $now + 0.01;
		$most = $link->{bytes} if $most > $link->{bytes};
	}
	my $n = syswrite $side->{fh}, $side->{out}, $most;

	if (defined $n) { substr($side->{out}, 0, $n) = ''; }
	elsif ($! != EAGAIN && $! != EWOULDBLOCK && $! != EINTR) { drop($side->{pair}); }
	return;
}

1;
