# A connection to a server: the frontend protocol, version 3, on a unix socket,
# without blocking.  A client of our own can vanish in the middle of a call,
# tells what is known of a commit, and costs no process.
#
#   state: starting, ready, busy, dead
#
# When a query ends, or the connection does, on_done is called with a result:
#   rows     of all statements, as arrays of text
#   error    { state, message } of the first error
#   notices  [{ state, message }, ...]
#   status   of the transaction: I, T, E
#   lost     the connection is gone, and what happened is unknown
package Chaos::Pg;

use strict;
use warnings;

use Errno qw(EAGAIN EWOULDBLOCK EINTR);
use IO::Handle;
use Socket;

sub new
{
	my ($class, %of) = @_;
	my $self = bless { %of, state => 'starting', in => '', out => '', result => fresh() }, $class;
	my $startup = pack('N', 196608)
	  . join('', map { "$_\0" } 'user', $of{user} || 'postgres', 'database', $of{database} || 'postgres',
		'application_name', $of{name} || 'chaos', 'client_min_messages', 'warning')
	  . "\0";

	socket(my $fh, PF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
	$fh->blocking(0);
	$self->{fh} = $fh;
	if (!connect($fh, pack_sockaddr_un($of{path})))
	{
		$self->{state} = 'dead';
		close $fh;
		return $self;
	}
	$self->{out} = pack('N', 4 + length $startup) . $startup;
	$self->flush;
	return $self;
}

sub fresh { return { rows => [], notices => [], error => undef, status => 'I', lost => 0 } }

sub fh { return $_[0]{fh} }
sub pid { return $_[0]{pid} }
sub state { return $_[0]{state} }
sub ready { return $_[0]{state} eq 'ready' }
sub dead { return $_[0]{state} eq 'dead' }
sub wants_to_write { return $_[0]{out} ne '' }

# query(sql, what COPY FROM STDIN is to read)
sub query
{
	my ($self, $sql, $data) = @_;

	die "not ready: $self->{state}" if $self->{state} ne 'ready';
	$self->{state} = 'busy';
	$self->{sql} = $sql;
	$self->{copy} = $data;
	$self->{result} = fresh();
	$self->{out} .= 'Q' . pack('N', 5 + length $sql) . "$sql\0";
	return $self->flush;
}

# Vanish without a word.
sub abandon
{
	my ($self) = @_;

	return if $self->{state} eq 'dead';
	close $self->{fh};
	$self->{state} = 'dead';
	return;
}

sub quit
{
	my ($self) = @_;

	# the server may have left first
	local $SIG{PIPE} = 'IGNORE';

	return if $self->{state} eq 'dead';
	$self->{fh}->blocking(1);
	syswrite $self->{fh}, 'X' . pack('N', 4);
	return $self->abandon;
}

sub send_copy
{
	my ($self) = @_;
	my $data = delete $self->{copy};

	for (my $at = 0; $at < length $data; $at += 65536)
	{
		my $part = substr $data, $at, 65536;

		$self->{out} .= 'd' . pack('N', 4 + length $part) . $part;
	}
	$self->{out} .= 'c' . pack('N', 4);
	return $self->flush;
}

sub flush
{
	my ($self) = @_;
	local $SIG{PIPE} = 'IGNORE';

	while ($self->{out} ne '')
	{
		my $n = syswrite $self->{fh}, $self->{out};

		if (defined $n) { substr($self->{out}, 0, $n) = ''; }
		elsif ($! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR) { last; }
		# what the server said before it left is still to be read
		else { $self->{out} = ''; last; }
	}
	return;
}

# What has come.
sub read_some
{
	my ($self) = @_;

	for (;;)
	{
		my $n = sysread $self->{fh}, $self->{in}, 262144, length $self->{in};

		if (!defined $n)
		{
			next if $! == EINTR;
			last if $! == EAGAIN || $! == EWOULDBLOCK;
			$n = 0;
		}
		$self->take_messages;
		return $self->lose if $n == 0;
		return if $self->{state} eq 'dead';
		last if $n < 262144;
	}
	return $self->take_messages;
}

sub lose
{
	my ($self) = @_;
	my $result = $self->{result};

	return if $self->{state} eq 'dead';
	close $self->{fh};
	$result->{lost} = 1;
	$result->{was} = $self->{state};
	$self->{state} = 'dead';
	$self->{on_done}->($self, $result);
	return;
}

sub fields
{
	my ($body) = @_;
	my %of = map { (substr($_, 0, 1) => substr($_, 1)) } grep { $_ ne '' } split /\0/, $body;

	return { state => $of{C}, message => $of{M}, severity => $of{V} || $of{S}, detail => $of{D} };
}

sub take_messages
{
	my ($self) = @_;
	my $in = \$self->{in};
	my $at = 0;
	my $result = $self->{result};

	while (length($$in) - $at >= 5)
	{
		my ($type, $length) = unpack "x$at a N", $$in;

		last if length($$in) - $at < $length + 1;
		if ($type eq 'D')
		{
			push @{ $result->{rows} }, row($in, $at + 5);
		}
		elsif ($type ne 'T' && $type ne 'S' && $type ne 'C')
		{
			my $body = substr $$in, $at + 5, $length - 4;

			if ($type eq 'E') { $result->{error} ||= fields($body); }
			elsif ($type eq 'N') { push @{ $result->{notices} }, fields($body); }
			elsif ($type eq 'K') { $self->{pid} = unpack 'N', $body; }
			elsif ($type eq 'G') { $self->send_copy; }
			elsif ($type eq 'R' && unpack('N', $body) != 0) { die 'authentication is wanted'; }
			elsif ($type eq 'Z')
			{
				$result->{status} = $self->{status} = $body;
				substr($$in, 0, $at + $length + 1) = '';
				$result->{was} = $self->{state};
				$self->{state} = 'ready';
				$self->{on_done}->($self, $result);
				return $self->{state} eq 'dead' ? undef : $self->take_messages;
			}
		}
		$at += $length + 1;
	}
	substr($$in, 0, $at) = '' if $at > 0;
	return;
}

sub row
{
	my ($in, $at) = @_;
	my $n = unpack "x$at n", $$in;
	my @row;

	$at += 2;
	foreach (1 .. $n)
	{
		my $length = unpack "x$at N", $$in;

		$at += 4;
		if ($length == 0xffffffff) { push @row, undef; next; }
		push @row, substr $$in, $at, $length;
		$at += $length;
	}
	return \@row;
}

1;
