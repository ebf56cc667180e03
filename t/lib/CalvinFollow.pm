# What the tests of followers share: connection strings, who follows whom, whether the
# copy is one.
#
#   my $to = source_of($node, 'postgres');	a connection string without secrets
#   follow($follower, $db, $to);			and wait until it has all
#   is_copy($source, $follower, $db, 'desc');	the same rows, and the same state
package CalvinFollow;

use strict;
use warnings;

use CalvinTest;
use Exporter 'import';
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(source_of follow wait_follows wait_follower_state follower_pid is_copy log_md5 follower);

# Of one node, or of several as one list of hosts.
sub source_of
{
	my ($nodes, $db, $more) = @_;
	my @nodes = ref $nodes eq 'ARRAY' ? @$nodes : ($nodes);

	return sprintf "host=%s port=%s dbname=%s%s", join(',', map { $_->host } @nodes),
	  join(',', map { $_->port } @nodes), $db, $more ? " $more" : '';
}

sub follow
{
	my ($follower, $db, $conninfo, $source, $source_db) = @_;

	$conninfo =~ s/'/''/g;
	sql($follower, $db, "SELECT seq_follow('$conninfo')");
	wait_follows($source, $source_db || 'postgres', $follower, $db) if $source;
	return;
}

# Until all that is in the source's log is applied at both.
sub wait_follows
{
	my ($source, $source_db, $follower, $db) = @_;

	wait_applied($source, $source_db);
	my $index = sql($source, $source_db, 'SELECT last_applied_index FROM seq_state');
	return wait_for_sql($follower, $db, "SELECT seq_wait_for_index($index, '60s')");
}

sub wait_follower_state
{
	my ($node, $db, $state) = @_;

	return wait_for_sql($node, $db, 'SELECT state FROM seq_follower', $state);
}

# A column of seq_follower.
sub follower
{
	my ($node, $db, $column) = @_;

	return sql($node, $db, "SELECT $column FROM seq_follower");
}

sub follower_pid { my ($node, $db) = @_; return follower($node, $db, 'pid'); }

# All columns of all rows.
sub log_md5
{
	my ($node, $db) = @_;

	return sql($node, $db,
		'SELECT count(*), md5(string_agg(log_index || md5(entry) || kind || coalesce(epoch, -1) || extract(epoch FROM appended_at), $$ $$ ORDER BY log_index)) FROM seq_log');
}

sub is_copy
{
	my ($source, $source_db, $follower, $db, $desc) = @_;

	wait_follows($source, $source_db, $follower, $db);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(log_md5($follower, $db), log_md5($source, $source_db), "$desc: the same rows");
	is( join('|', (split /\|/, state($follower, $db))[ 0 .. 2 ]),
		join('|', (split /\|/, state($source, $source_db))[ 0 .. 2 ]),
		"$desc: the same state");
	return;
}

1;
