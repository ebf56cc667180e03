# A source of several hosts, one of which is silent: it takes connections and answers nothing, as
# one that is cut off.  Whoever follows does not wait for it while another host could serve, and
# gives it its time nevertheless, for it may only be slow.  A primary that was replaced, and does not
# know that, is left for the one that replaces it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinFollow;
use CalvinTest;
use IO::Select;
use IO::Socket::UNIX;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $txn = [ [ [ 'a', 1 ] ], 'ab', 1 ];
# longer than any test waits
my $patient = 'connect_timeout=6000';
my @children;

END
{
	my $status = $?;

	kill 'KILL', @children;
	waitpid $_, 0 foreach @children;
	$? = $status;
}

# A host that listens, and does what $answer says with the socket.  Its directory.
sub host_that
{
	my ($answer) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir_short();
	my $socket = IO::Socket::UNIX->new(Local => "$dir/.s.PGSQL.1", Listen => 100) or die "cannot listen: $!";
	my $pid = fork;

	if (!$pid)
	{
		# whoever reads what the test says is not to wait for this process
		close $_ foreach *STDOUT, *STDERR;
		eval { $answer->($socket) };
		POSIX::_exit(0);
	}
	push @children, $pid;
	return $dir;
}

# The first connection is handed on to the server, once as many have come to its other port.
sub hand_on_after
{
	my ($node, $count) = @_;

	return sub {
		my ($socket) = @_;
		my @came = $socket->accept;
		my $other = IO::Socket::UNIX->new(Local => $socket->hostpath =~ s/1$/2/r, Listen => 100) or die "cannot listen: $!";

		push @came, map { $other->accept } 1 .. $count;
		my ($path, %other) = $node->host . '/.s.PGSQL.' . $node->port;
		my $server = IO::Socket::UNIX->new(Peer => $path) or die "cannot connect: $!";

		%other = (fileno $came[0] => $server, fileno $server => $came[0]);
		my $both = IO::Select->new($came[0], $server);
		while (1)
		{
			foreach my $end ($both->can_read)
			{
				sysread $end, my $bytes, 65536 or return;
				syswrite $other{ fileno $end }, $bytes;
			}
		}
	};
}

sub append
{
	my ($node) = @_;
	my $epoch = sql($node, $db, 'SELECT coalesce(seq_current_committed_epoch() + 1, 0)');

	append_batches($node, $db, $epoch, $epoch + 2, [ $txn, $txn ]);
	return;
}

my ($silent, $mute) = map { host_that(sub { sleep }) } 1 .. 2;
my $source = new_node('source', -streaming => 1);
my $follower = new_node('follower', 'calvin_seq.follower_timeout' => '10s');
create_extension($_, $db) foreach $source, $follower;
append($source);
$source->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($source, 'backup', has_streaming => 1);
$standby->start;

#
# In front of the source
#
follow($follower, $db, sprintf('host=%s,%s port=1,%s dbname=%s %s', $silent, $source->host, $source->port, $db, $patient), $source);
is_copy($source, $db, $follower, $db, 'a silent host in front of the source');
is(follower($follower, $db, 'connected_to'), $source->host . ':' . $source->port, 'connected to the one behind it');
sql($follower, $db, "SELECT seq_ack(0, 0, seq_vshard('a'))");
wait_for_sql($follower, $db, 'SELECT acks_waiting FROM seq_follower', 0);
is(sql($source, $db, 'SELECT complete FROM seq_completion(0, 0)'), 't', 'acknowledgements are shipped past it too');

#
# Two of them, between standbys: the one that is promoted is found
#
my @hosts = ([ $silent, 1 ], [ $source->host, $source->port ], [ $mute, 1 ], [ $standby->host, $standby->port ]);
follow($follower, $db, sprintf('host=%s port=%s dbname=%s target_session_attrs=read-write %s',
	join(',', map { $_->[0] } @hosts), join(',', map { $_->[1] } @hosts), $db, $patient), $source);
wait_follower_state($follower, $db, 'following');
$standby->poll_query_until($db, 'SELECT pg_last_wal_replay_lsn() >= $$' . sql($source, $db, 'SELECT pg_current_wal_flush_lsn()') . '$$') or die 'the standby is late';
$source->stop('immediate');
wait_follower_state($follower, $db, 'unreachable');
$standby->promote;
append($standby);
is_copy($standby, $db, $follower, $db, 'a silent host beside one that is promoted');

#
# It answers, late: nobody has hung up
#
my $slow = host_that(hand_on_after($standby, 3));
follow($follower, $db, sprintf('host=%s,%s port=1,2 dbname=%s %s', $slow, $slow, $db, $patient), $standby);
append($standby);
is_copy($standby, $db, $follower, $db, 'a host that is slow');
is(follower($follower, $db, 'connected_to'), "$slow:1", 'it is the one that has answered late');

#
# A standby is looked for, and is silent: libpq comes to it again before it takes another server
#
follow($follower, $db, sprintf('host=%s,%s port=1,%s dbname=%s target_session_attrs=prefer-standby %s', $silent, $standby->host, $standby->port, $db, $patient), $standby);
append($standby);
is_copy($standby, $db, $follower, $db, 'a silent host where a standby was to be');

#
# A primary that has been replaced without knowing it
#
$source->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
$source->start;
follow($follower, $db, source_of([ $source, $standby ], $db, "target_session_attrs=read-write $patient"), $standby);
append($standby);
is_copy($standby, $db, $follower, $db, 'an old primary in front, which has less');

#
# One that is replaced while it serves us, and has nothing new from then on
#
$standby->backup('backup');
my $third = PostgreSQL::Test::Cluster->new('third');
$third->init_from_backup($standby, 'backup', has_streaming => 1);
$third->start;
follow($follower, $db, source_of([ $standby, $third ], $db, "target_session_attrs=read-write $patient"), $standby);
append($standby);
is_copy($standby, $db, $follower, $db, 'a primary');
is(follower($follower, $db, 'connected_to'), $standby->host . ':' . $standby->port, 'connected to it');
$standby->poll_query_until($db, 'SELECT bool_and(replay_lsn >= pg_current_wal_flush_lsn()) FROM pg_stat_replication') or die 'the standby is late';
$third->promote;
append($third);
is_copy($third, $db, $follower, $db, 'the one that was promoted is found, and the old one lives');
is(follower($follower, $db, 'connected_to'), $third->host . ':' . $third->port, 'connected to the new one');

nothing_crashed($_) foreach $follower, $standby, $third;
done_testing();
