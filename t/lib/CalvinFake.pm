# A server that speaks the protocol and is no PostgreSQL: it answers whatever a test says.
#
#   my $fake = CalvinFake->new(sub { my ($sql) = @_; return row('x'); });
#   $fake->conninfo;	of libpq
#   $fake->quit;
#
# For each query the function returns messages, made by those below, behind which the server
# is ready again; undef closes the connection, and "silence" never answers.
package CalvinFake;

use strict;
use warnings;

use Carp;
use Exporter 'import';
use IO::Socket::INET;

our @EXPORT = qw(message described row error silence copy_begin copy_data copy_row copy_end COPY_HEADER);

use constant COPY_HEADER => "PGCOPY\n\xff\r\n\0" . "\0" x 8;

sub message { my ($type, $body) = @_; return $type . pack('N', 4 + length $body) . $body; }

# Of so many columns of text.
sub described
{
	my ($n) = @_;

	return message('T', pack('n', $n) . join('', map { "c$_\0" . pack('Nn N n N n', 0, 0, 25, 0xffff, 0xffffffff, 0) } 1 .. $n));
}

sub values_of { return pack('n', scalar @_) . join('', map { defined $_ ? pack('N', length $_) . $_ : "\xff\xff\xff\xff" } @_); }

# One row as the result of a SELECT; undef is null.
sub row { my @values = @_; return described(scalar @values) . message('D', values_of(@values)) . message('C', "SELECT 1\0"); }

sub error { my ($code, $text) = @_; return message('E', "SERROR\0VERROR\0C$code\0M$text\0\0"); }

use constant SILENCE => 'silence';
sub silence { return SILENCE; }

# COPY in binary format
sub copy_begin { return message('H', pack('C n n5', 1, 5, (1) x 5)); }
sub copy_data { my ($bytes) = @_; return message('d', $bytes); }
sub copy_row { return copy_data(values_of(@_)); }
sub copy_end { return copy_data("\xff\xff") . message('c', '') . message('C', "COPY 1\0"); }

sub read_exactly
{
	my ($socket, $length) = @_;
	my $bytes = '';

	while (length $bytes < $length)
	{
		sysread($socket, $bytes, $length - length $bytes, length $bytes) or return;
	}
	return $bytes;
}

sub write_all
{
	my ($socket, $bytes) = @_;
	my $at = 0;

	while ($at < length $bytes)
	{
		my $n = syswrite($socket, $bytes, 65536, $at);

		return 0 unless $n;
		$at += $n;
	}
	return 1;
}

# The startup packet; neither TLS nor GSS.
sub greet
{
	my ($socket) = @_;

	for (;;)
	{
		my $head = read_exactly($socket, 8) // return 0;
		my ($length, $code) = unpack 'NN', $head;

		if ($code == 80877103 || $code == 80877104)
		{
			write_all($socket, 'N') or return 0;
			next;
		}
		read_exactly($socket, $length - 8) // return 0;
		last;
	}
	return write_all($socket,
		    message('R', pack('N', 0))
		  . join('', map { message('S', "$_\0") } "server_version\x0015.0", "server_encoding\0UTF8", "client_encoding\0UTF8", "standard_conforming_strings\0on",
			"in_hot_standby\0off", "default_transaction_read_only\0off")
		  . message('K', pack('NN', 1, 1))
		  . message('Z', 'I'));
}

# Messages, or a function that writes them.
sub serve
{
	my ($socket, $answer) = @_;

	greet($socket) or return;
	for (;;)
	{
		my $head = read_exactly($socket, 5) // return;
		my ($type, $length) = unpack 'aN', $head;
		my $body = $length > 4 ? read_exactly($socket, $length - 4) // return : '';

		return if $type eq 'X';
		next if $type ne 'Q';
		my $messages = $answer->(unpack('Z*', $body), sub { return write_all($socket, $_[0]); });
		return unless defined $messages;
		next if $messages eq SILENCE;
		write_all($socket, $messages . message('Z', 'I')) or return;
	}
	return;
}

sub new
{
	my ($class, $answer) = @_;
	my $listener = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1', Proto => 'tcp') or croak "cannot listen: $!";
	my $self = bless { port => $listener->sockport }, $class;

	$self->{pid} = fork // croak "cannot fork: $!";
	return $self if $self->{pid};

	# nothing of the test's is to be done here, whatever happens
	local $SIG{CHLD} = 'IGNORE';
	local $SIG{PIPE} = 'IGNORE';
	local $SIG{TERM} = sub { kill 'KILL', $$; };
	local $SIG{__DIE__} = sub { kill 'KILL', $$; };
	setpgrp;
	while (my $socket = $listener->accept)
	{
		my $child = fork;

		next if $child;
		serve($socket, $answer);
		kill 'KILL', $$;
	}
	kill 'KILL', $$;
	return;
}

sub port { my ($self) = @_; return $self->{port}; }

sub conninfo { my ($self) = @_; return "host=127.0.0.1 port=$self->{port} dbname=fake user=fake"; }

sub quit
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;

	kill 'KILL', -$pid;
	kill 'KILL', $pid;
	waitpid $pid, 0;
	return;
}

sub DESTROY { local ($?, $!); $_[0]->quit; return; }

1;
