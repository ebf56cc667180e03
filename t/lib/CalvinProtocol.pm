# A connection that speaks the extended protocol as no psql does: named portals,
# read a few rows at a time.
#
#   my $c = CalvinProtocol->new($node, $db);
#   my $r = $c->query('BEGIN');
#   $r = $c->run($c->parse('s', 'SELECT ...'), $c->bind('p', 's'), $c->execute('p', 3));
#
# run() sends messages and a Sync, and returns, once the server is ready again,
#   rows       [[...], ...] as text
#   suspended  how many Executes ended at their limit
#   tags       what was completed
#   error      "SQLSTATE: message" of the first error, or ''
#   status     of the transaction: I, T, E
package CalvinProtocol;

use strict;
use warnings;

use Carp;
use IO::Socket::UNIX;

sub message { return $_[0] . pack('N', 4 + length $_[1]) . $_[1] }

sub new
{
	my ($class, $node, $db) = @_;
	my $path = $node->host . '/.s.PGSQL.' . $node->port;
	my $socket = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $path) or croak "$path: $!";
	my $self = bless { socket => $socket }, $class;
	my $user = $ENV{PGUSER} || getpwuid($>);
	my $startup = pack('N', 196608) . "user\0$user\0database\0$db\0\0";

	$self->write_all(pack('N', 4 + length $startup) . $startup);
	my $result = $self->result;
	croak $result->{error} if $result->{error} ne '';
	return $self;
}

sub write_all
{
	my ($self, $bytes) = @_;

	while ($bytes ne '')
	{
		my $n = syswrite($self->{socket}, $bytes);

		croak "cannot send: $!" unless $n;
		substr($bytes, 0, $n, '');
	}
	return;
}

sub read_exactly
{
	my ($self, $length) = @_;
	my $bytes = '';

	while (length $bytes < $length)
	{
		sysread($self->{socket}, $bytes, $length - length $bytes, length $bytes)
		  or croak 'the connection was closed';
	}
	return $bytes;
}

sub parse { my ($self, $name, $sql) = @_; return message('P', "$name\0$sql\0\0\0"); }

sub bind { my ($self, $portal, $name) = @_; return message('B', "$portal\0$name\0" . "\0" x 6); }

sub execute { my ($self, $portal, $limit) = @_; return message('E', "$portal\0" . pack('N', $limit || 0)); }

sub close_portal { my ($self, $portal) = @_; return message('C', "P$portal\0"); }

sub run
{
	my ($self, @messages) = @_;

	$self->write_all(join('', @messages, message('S', '')));
	return $self->result;
}

sub query
{
	my ($self, $sql) = @_;

	$self->write_all(message('Q', "$sql\0"));
	return $self->result;
}

# All until the server is ready.
sub result
{
	my ($self) = @_;
	my %result = (rows => [], tags => [], suspended => 0, error => '');

	for (;;)
	{
		my ($type, $length) = unpack 'aN', $self->read_exactly(5);
		my $body = $self->read_exactly($length - 4);

		if ($type eq 'D') { push @{ $result{rows} }, [ unpack 'x2 (l>/a)*', $body ]; }
		elsif ($type eq 'C') { push @{ $result{tags} }, unpack 'Z*', $body; }
		elsif ($type eq 's') { $result{suspended}++; }
		elsif ($type eq 'E')
		{
			my %of = map { (substr($_, 0, 1) => substr($_, 1)) } grep { $_ ne '' } split /\0/, $body;

			$result{error} ||= "$of{C}: $of{M}";
		}
		elsif ($type eq 'Z')
		{
			$result{status} = $body;
			return \%result;
		}
	}
	return;
}

sub quit { my ($self) = @_; close $self->{socket}; return; }

1;
