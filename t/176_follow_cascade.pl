# A cascade: a follower of a standby, and a follower of that follower.  Each has what the
# source has, the primary knows of the one that follows its standby, acknowledgements come
# all the way back, and whichever server in front of them fails, they go on.  And hosts that
# are in a service file are tried in turn as well.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinFollow;
use CalvinGroup;
use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $txn = [ [ [ 'a', 1 ], [ 'b', 2 ] ], 'ab', 1 ];
my @watched = ('calvin_seq.follower_timeout' => '3s');
my $primary = new_node('primary', -streaming => 1);

create_extension($primary, $db);
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
wait_for_applier($standby, $db);

# the service file is the server's
my $service = $primary->basedir . '/services';
sub services
{
	my ($hosts) = @_;

	unlink $service;
	append_to_file($service, "[log]\n" . join('', map { "$_\n" } split / /, source_of($hosts, $db)));
	return;
}
services([ $standby, $primary ]);
$ENV{PGSERVICEFILE} = $service;
my ($near, $far) = map { new_node($_, @watched, restart_after_crash => 'on') } qw(near far);
create_extension($_, $db) foreach $near, $far;
my $epoch = 0;

sub append
{
	my ($node, $n) = @_;

	append_batches($node, $db, $epoch, $epoch + $n - 1, [$txn]);
	$epoch += $n;
	return;
}

sub are_copies
{
	my ($source, $desc) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	foreach my $node ($near, $far)
	{
		wait_follows($source, $db, $node, $db);
		# each begins where it has truncated
		is(state($node, $db), state($source, $db), "$desc, " . $node->name . ': the same state');
	}
	return;
}

#
# What the standby has comes to both; the primary knows who follows
#
append($primary, 20);
follow($near, $db, 'service=log target_session_attrs=prefer-standby connect_timeout=2', $primary);
follow($far, $db, source_of($near, $db), $primary);
are_copies($primary, 'a cascade');
is(follower($near, $db, 'connected_to'), $standby->host . ':' . $standby->port, 'the first one follows the standby');
is(follower($near, $db, 'source'), 'a database, service "log"', 'by its service');
wait_for_sql($primary, $db, "SELECT count(*) FROM seq_followers WHERE lag = 0 AND id = '" . sql($near, $db, 'SELECT id FROM seq_following') . "'", 1);
pass('and the primary knows how far it is');
wait_for_sql($standby, $db, 'SELECT count(*) FROM seq_followers', 1);
pass('from which its standby knows it, too');
wait_for_sql($near, $db, "SELECT count(*) FROM seq_followers WHERE lag = 0 AND id = '" . sql($far, $db, 'SELECT id FROM seq_following') . "'", 1);
pass('the second one is known to the first');
is(sql($primary, $db, 'SELECT count(*) FROM seq_followers'), 1, 'and to nobody else');

append($primary, 10);
are_copies($primary, 'what came since');
wait_for_sql($primary, $db, "SELECT min(lag) FROM seq_followers", 0);
$near->stop;
append($primary, 10);
like(sql_error($primary, $db, "SELECT seq_truncate($epoch - 1)"), qr/^55006: cannot truncate past the follower "\w+\/postgres"/, 'the primary keeps what the follower of its standby has not got');
$near->start;
are_copies($primary, 'back again');
wait_for_sql($primary, $db, 'SELECT min(lag) FROM seq_followers', 0);
wait_for_sql($near, $db, 'SELECT min(lag) FROM seq_followers', 0);
is(sql($primary, $db, "SELECT seq_truncate($epoch - 1) > 0"), 't', 'and truncates what it has');
append($primary, 5);
is(state($_, $db), state($primary, $db), $_->name . ' has all') foreach map { wait_follows($primary, $db, $_, $db); $_ } $near, $far;

#
# Acknowledgements come to the primary, and back through all of them
#
sql($far, $db, 'SELECT seq_ack(' . ($epoch - 1) . ', 0, ' . vshard_of('a') . ')');
wait_for_sql($primary, $db, "SELECT count(*) FROM seq_log WHERE kind = 'completion_ack'", 1);
wait_for_sql($far, $db, 'SELECT acks_waiting FROM seq_follower', 0);
wait_for_sql($near, $db, 'SELECT acks_waiting FROM seq_follower', 0);
is(sql($_, $db, "SELECT count(*) FROM seq_log WHERE kind = 'completion_ack'"), 1, 'an acknowledgement of the last one, at ' . $_->name) foreach $standby, $near, $far;

#
# The standby does not answer: the next host of the service is tried
#
my $postmaster = (split /\n/, slurp_file($standby->data_dir . '/postmaster.pid'))[0];
my $serving = sql($standby, $db, "SELECT pid FROM pg_stat_activity WHERE query ~ 'seq_feed\\('  AND pid <> pg_backend_pid()");
kill 'STOP', $postmaster, $serving;
append($primary, 5);
wait_for_sql($near, $db, "SELECT connected_to FROM seq_follower", $primary->host . ':' . $primary->port);
are_copies($primary, 'the standby hangs');
kill 'CONT', $postmaster, $serving;

#
# The primary fails, its standby is promoted, the follower between fails
#
append($primary, 5);
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
$primary->stop('immediate');
$standby->promote;
wait_for_applier($standby, $db);
append($standby, 5);
are_copies($standby, 'the standby was promoted');
$near->stop('immediate');
append($standby, 5);
$near->start;
are_copies($standby, 'the follower between has crashed');
sql($far, $db, 'SELECT seq_follow($$' . source_of($standby, $db) . '$$)');
append($standby, 5);
are_copies($standby, 'the second one follows the source itself');

#
# A standby alone: followed, and said that its primary does not know
#
$standby->backup('second');
my $alone = PostgreSQL::Test::Cluster->new('alone');
$alone->init_from_backup($standby, 'second', has_streaming => 1);
$alone->start;
wait_for_applier($alone, $db);
my $offset = log_offset($far);
my $known = sql($standby, $db, 'SELECT count(*) FROM seq_followers');
sql($far, $db, 'SELECT seq_follow($$' . source_of($alone, $db) . '$$)');
append($standby, 5);
wait_follows($standby, $db, $far, $db);
is(state($far, $db), state($standby, $db), 'a standby alone');
wait_for_log_line($far, qr/calvin_seq follower: the primary of the standby that is followed is not told/, $offset);
is(follower($far, $db, q{state, last_error ~ 'not told'}), 'following|f', 'that the primary does not know is said in the log, and no error');
is(sql($standby, $db, 'SELECT count(*) FROM seq_followers'), $known, 'nor does it');
append($standby, 1);
wait_follows($standby, $db, $far, $db);
my $told = () = log_since($far, $offset) =~ /is not told how far/g;
is($told, 1, 'once');

$_->stop foreach $far, $near, $alone, $standby;
nothing_crashed($_, 1) foreach $far, $near, $alone, $standby, $primary;
done_testing();
