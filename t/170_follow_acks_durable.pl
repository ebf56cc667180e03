# What a source has of a follower's acknowledgements is durable at the follower, with the
# effects of their transactions: also where commits do not wait for that.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinFollow;
use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $source = new_node('source');
my $follower = new_node('follower', -streaming => 1, 'calvin_seq.follower_timeout' => '3s', synchronous_standby_names => '', wal_writer_delay => '10s');
my $vshard = vshard_of('a');

sub acks { my ($node) = @_; return sql($node, $db, q{SELECT count(*) FROM seq_log WHERE kind = 'completion_ack'}); }
sub wait_acks { my ($n) = @_; return wait_for_sql($source, $db, q{SELECT count(*) FROM seq_log WHERE kind = 'completion_ack'}, $n); }
sub pid_of { my ($type) = @_; return sql($follower, $db, "SELECT pid FROM pg_stat_activity WHERE backend_type = '$type'"); }

create_extension($_, $db) foreach $source, $follower;
follow($follower, $db, source_of($source, $db));
append_batches($source, $db, 0, 9, [ [ ['a'], 'a', 1 ] ]);
wait_follows($source, $db, $follower, $db);
sql($follower, $db, 'CREATE TABLE effects (epoch bigint)');

#
# A commit that does not wait for the disk, and nobody else who flushes what it has written
#
my @stopped = map { pid_of($_) } 'walwriter', 'calvin_seq applier';
kill 'STOP', @stopped;
sql($follower, $db, "SET synchronous_commit = off; BEGIN; INSERT INTO effects VALUES (0); SELECT seq_ack(0, 0, $vshard); COMMIT");
wait_acks(1);
my @children = split /\n/, sql($follower, $db, q{SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()});
$follower->kill9;
kill 'KILL', @stopped;
wait_until(sub { !grep { process_alive($_) } @children }, 'the last of its processes');
$follower->start;
wait_for_applier($follower, $db);
is(sql($follower, $db, 'SELECT count(*) FROM effects'), 1, 'the follower has lost nothing that the source has an acknowledgement of');

#
# One that does not wait for a synchronous standby, which is away
#
$follower->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($follower, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', "primary_conninfo = '" . $follower->connstr . " application_name=standby'");
$standby->start;
$follower->safe_psql($db, "ALTER SYSTEM SET synchronous_standby_names = 'standby'");
$follower->reload;
wait_for_sql($follower, $db, 'SELECT sync_state FROM pg_stat_replication', 'sync');
wait_for_applier($standby, $db);
sql($follower, $db, "BEGIN; INSERT INTO effects VALUES (1); SELECT seq_ack(1, 0, $vshard); COMMIT");
wait_acks(2);
pass('a standby that confirms holds nothing up');

my $receiver = sql($standby, $db, 'SELECT pid FROM pg_stat_wal_receiver');
kill 'STOP', $receiver;
sql($follower, $db, "SET synchronous_commit = local; BEGIN; INSERT INTO effects VALUES (2); SELECT seq_ack(2, 0, $vshard); COMMIT");
# the worker has looked, and still goes on with what comes
append_batches($source, $db, 10, 14, [ [ ['a'], 'a', 1 ] ]);
wait_for_sql($follower, $db, 'SELECT log_index FROM seq_follower', sql($source, $db, 'SELECT max(log_index) FROM seq_log'));
is(follower($follower, $db, 'acks_waiting'), 1, 'what no standby has confirmed waits');
is(acks($source), 2, 'and the source does not have it');
kill 'CONT', $receiver;
wait_acks(3);
pass('until the standby is there again');

$_->stop foreach $standby, $follower, $source;
nothing_crashed($standby);
done_testing();
