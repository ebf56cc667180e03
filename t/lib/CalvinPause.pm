# Stopping processes at named points (src/shared/pause.h), in test builds.
#
#   require_pauses();                  skip the file unless this is a test build
#   my $p = pauses($node, $db);        in a database other than those stopped, or not
#   $p->arm('router: before publishing', $pid);	any process without a pid
#   my $pid = $p->reached('...');      waits until somebody stands there
#   $p->release('...');
package CalvinPause;

use strict;
use warnings;

use CalvinTest;
use Exporter 'import';
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(require_pauses pauses);

sub require_pauses
{
	plan skip_all => 'not a build with pause points (make PAUSE_POINTS=1)' unless $ENV{CALVIN_PAUSE_POINTS};
	return;
}

sub pauses
{
	my ($node, $db) = @_;
	my $self = bless { session => session($node, $db) }, 'CalvinPause';

	$self->{session}->query(<<'EOS');
CREATE OR REPLACE FUNCTION pg_temp.pause_arm(text, int, int) RETURNS void LANGUAGE C STRICT AS 'calvin_seq', 'calvin_pause_arm';
CREATE OR REPLACE FUNCTION pg_temp.pause_wait(text, int) RETURNS int LANGUAGE C STRICT AS 'calvin_seq', 'calvin_pause_wait';
CREATE OR REPLACE FUNCTION pg_temp.pause_release(text) RETURNS boolean LANGUAGE C STRICT AS 'calvin_seq', 'calvin_pause_release';
EOS
	return $self;
}

# arm(name, pid, skip): the first "skip" arrivals pass.
sub arm
{
	my ($self, $name, $pid, $skip) = @_;

	$self->{session}->query(sprintf q{SELECT pg_temp.pause_arm('%s', %d, %d)}, $name, $pid || 0, $skip || 0);
	return;
}

sub reached
{
	my ($self, $name) = @_;
	my $pid = $self->{session}->query("SELECT pg_temp.pause_wait('$name', 60000)");

	die "nobody came to pause point \"$name\"\n" if $pid eq '';
	return $pid;
}

sub release
{
	my ($self, $name) = @_;

	return $self->{session}->query("SELECT pg_temp.pause_release('$name')") eq 't';
}

sub quit { my ($self) = @_; return $self->{session}->quit; }

1;
