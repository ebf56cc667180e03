# What the tests of moving vshards share.
#
#   my $request = request_vshards($node, $db, 'g', '{1,2}');
#   my $handover = release_vshards($node, $db, $request);	committed, and asked for
#   take_vshards($node, $db, $handover);
#   move_vshards('g', $from, $to, $db, '{1,2}');		all of it
package CalvinMove;

use strict;
use warnings;

use CalvinTest;
use Exporter 'import';

our @EXPORT = qw(request_vshards release_sql release_vshards handover take_sql take_vshards move_vshards vshards_of_group);

sub request_vshards
{
	my ($node, $db, $group, $vshards) = @_;

	return sql($node, $db, "SELECT seq_request_vshards('$group', '$vshards')");
}

sub release_sql { my ($request) = @_; $request =~ s/'/''/g; return "SELECT seq_release_vshards('$request')"; }

sub handover { my ($node, $db, $move) = @_; return sql($node, $db, "SELECT seq_handover('$move')"); }

sub release_vshards
{
	my ($node, $db, $request) = @_;

	return handover($node, $db, sql($node, $db, release_sql($request)));
}

sub take_sql
{
	my ($handover, $more) = @_;

	$handover =~ s/'/''/g;
	return "SELECT seq_take_vshards('$handover'" . ($more // '') . ')';
}

sub take_vshards { my ($node, $db, $handover, $more) = @_; return sql($node, $db, take_sql($handover, $more)); }

sub move_vshards
{
	my ($group, $from, $to, $db, $vshards) = @_;

	return take_vshards($to, $db, release_vshards($from, $db, request_vshards($to, $db, $group, $vshards)));
}

# How many it has here.
sub vshards_of_group
{
	my ($node, $db, $group) = @_;

	return sql($node, $db, "SELECT coalesce((SELECT coalesce(cardinality(vshards), 1024) FROM seq_registrations WHERE name = '$group'), 0)");
}

1;
