# A released version beside this one, with its own library: scripts/test-update.sh makes it
# from git's history and names its directory in CALVIN_SEQ_RELEASED.
#
#   my $version = released();		skip the file unless there is one
#   own_installation(); install_released();	its library in the place of ours
package CalvinReleased;

use strict;
use warnings;

use CalvinUpgrade;
use Exporter 'import';
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(released released_script install_released);

sub released
{
	plan skip_all => "no released library here (make test-update, in a clone with its history)"
	  unless $ENV{CALVIN_SEQ_RELEASED};
	my ($version) = slurp_file("$ENV{CALVIN_SEQ_RELEASED}/sequencer.control") =~ /^default_version = '(.*)'/m;
	return $version;
}

# Its script of a version, or undef.
sub released_script
{
	my ($versions) = @_;
	my $file = "$ENV{CALVIN_SEQ_RELEASED}/sql/calvin_seq--$versions.sql";

	return -e $file ? slurp_file($file) : undef;
}

sub install_released
{
	return install_library("$ENV{CALVIN_SEQ_RELEASED}/calvin_seq.so");
}

1;
