# A session that stays open.
#
#   my $s = session($node, 'postgres');
#   $s->query('SELECT 1');					output; dies on an error
#   like($s->error('SELECT 1/0'), qr/^22012: /);		the error, '' without one
#   $s->send('SELECT pg_sleep(10)');		does not wait
#   my ($output, $error) = $s->finish;		waits for what was sent
#   $s->pid; $s->quit;
#
# An error reads "SQLSTATE: message", then DETAIL and HINT lines.
package CalvinSession;

use strict;
use warnings;

use Carp;
use IPC::Run;
use PostgreSQL::Test::Utils;

my $timeout = $PostgreSQL::Test::Utils::timeout_default || 180;

sub new
{
	my ($class, $node, $db, %params) = @_;
	my $connstr = $node->connstr($db);
	my $self = bless {
		stdin => '',
		stdout => '',
		stderr => '',
		number => 0,
		pending => 0,
		dead => 0
	}, $class;

	$connstr .= " user=$params{user}" if defined $params{user};
	$self->{timer} = IPC::Run::timer($timeout);
	$self->{run} = IPC::Run::start(
		[
			$node->installed_command('psql'), '-XAtq', '-v', 'VERBOSITY=verbose',
			'-d', $connstr, '-f', '-'
		],
		'<', \$self->{stdin},
		'>', \$self->{stdout},
		'2>', \$self->{stderr},
		$self->{timer});
	$self->{pid} = $self->query('SELECT pg_backend_pid()');
	return $self;
}

sub pid
{
	my ($self) = @_;

	return $self->{pid};
}

sub send
{
	my ($self, $sql) = @_;

	croak 'a statement is still running' if $self->{pending};
	croak 'the session has ended' if $self->{dead};
	$self->{number}++;
	$self->{pending} = 1;
	$self->{sql} = $sql;
	# psql leaves without a word at an empty statement after COPY data
	my $end = $sql =~ /\n\\\.\s*\z/ ? '' : ";\n";

	$self->{stdin} .=
	  "\\echo 'SENT $self->{number}.'\n$sql\n$end\\echo 'DONE $self->{number}.'\n\\warn 'DONE $self->{number}.'\n";
	$self->{timer}->start($timeout);
	local $SIG{PIPE} = 'IGNORE';
	# until psql has got it, not only IPC::Run
	until ($self->{stdout} =~ s/\ASENT $self->{number}\.\n//)
	{
		croak "timed out: $sql" if $self->{timer}->is_expired;
		last unless eval { $self->{run}->pumpable && $self->{run}->pump };
	}
	return $self;
}

# What the statements sent put out, and their error or ''.
sub finish
{
	my ($self) = @_;
	my $end = "DONE $self->{number}\\.\n";

	croak 'nothing was sent' unless $self->{pending};
	local $SIG{PIPE} = 'IGNORE';
	until ($self->{stdout} =~ /$end/ && $self->{stderr} =~ /$end/)
	{
		croak "timed out: $self->{sql}" if $self->{timer}->is_expired;
		next if eval { $self->{run}->pumpable && $self->{run}->pump };
		next if $self->{stdout} =~ /$end/ && $self->{stderr} =~ /$end/;

		# the server has closed the connection, and psql left
		eval { $self->{run}->finish };
		$self->{dead} = 1;
		last;
	}
	$self->{pending} = 0;

	my ($output, $error) = ($self->{stdout}, $self->{stderr});
	($self->{stdout}, $self->{stderr}) = ('', '');
	$output =~ s/\n?$end//;
	$output =~ s/\n\z//;
	$error =~ s/$end//;
	$error =~ s/^LOCATION: .*\n//mg;
	$error =~ s/^psql:[^:]*:\d+: //mg;
	$error =~ s/^(?:NOTICE|WARNING|INFO): .*\n(?:(?:DETAIL|HINT|CONTEXT): .*\n)*//mg;
	$error =~ s/^(?:ERROR|FATAL): +//;
	return ($output, $error);
}

# Is what was sent still running?
sub running
{
	my ($self) = @_;
	my $end = "DONE $self->{number}\\.\n";

	return 0 unless $self->{pending};
	eval { $self->{run}->pump_nb };
	return !($self->{stdout} =~ /$end/ && $self->{stderr} =~ /$end/);
}

sub query
{
	my ($self, $sql) = @_;
	my ($output, $error);

	$self->send($sql);
	($output, $error) = $self->finish;
	croak "failed: $error\nstatement: " . substr($sql, 0, 500) if $error ne '';
	return $output;
}

sub error
{
	my ($self, $sql) = @_;
	my ($output, $error);

	$self->send($sql);
	($output, $error) = $self->finish;
	return $error;
}

# The connection is gone, as far as psql has noticed.
sub dead
{
	my ($self) = @_;

	return $self->{dead};
}

# Takes back a statement_timeout that is so short that this may run into it.
sub reset_timeout
{
	my ($self) = @_;
	my $error;

	foreach (1 .. 100)
	{
		$error = $self->error('RESET statement_timeout');
		return if $error eq '';
		last if $error !~ /^57014: /;
	}
	croak "statement_timeout cannot be taken back: $error";
}

sub quit
{
	my ($self) = @_;

	return if $self->{dead};
	$self->{dead} = 1;
	local $SIG{PIPE} = 'IGNORE';
	$self->{stdin} .= "\\q\n";
	eval { $self->{run}->finish };
	return;
}

# Let psql vanish without a word.
sub kill_client
{
	my ($self) = @_;

	$self->{dead} = 1;
	$self->{run}->signal('KILL');
	eval { $self->{run}->finish };
	return;
}

1;
