# A log that logical replication feeds: the guard of followers lets its apply worker pass and
# nobody else, and a follower can go on from there.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinFollow;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $txn = [ [ [ 'a', 1 ], [ 'b', 2 ] ], 'ab', 1 ];
my $source = new_node('source', -streaming => 1, wal_level => 'logical');
my $fed = new_node('fed');

create_extension($_, $db) foreach $source, $fed;
append_batches($source, $db, 0, 9, [$txn]);
sql($source, $db, q{CREATE PUBLICATION log FOR TABLE seq_log WITH (publish = 'insert')});
like(sql_error($fed, $db, q{SELECT seq_follow_replication('')}), qr/^22023: the source must have/, 'it has a name');
sql($fed, $db, q{SELECT seq_follow_replication('the log of db1')});
is(follower($fed, $db, 'source, state'), 'the log of db1|fed', 'seq_follower');
sql($fed, $db, q{CREATE SUBSCRIPTION log CONNECTION '} . source_of($source, $db) . q{' PUBLICATION log});
is_copy($source, $db, $fed, $db, 'what was there');
append_batches($source, $db, 10, 19, [$txn]);
is_copy($source, $db, $fed, $db, 'what came since');
like(sql_error($fed, $db, $_), qr/^25006: .*: this database follows the log of db1/, $_)
  foreach 'SELECT seq_ack(1, 0, 1)', q{SELECT seq_send('a', '1')}, q{INSERT INTO seq_log (entry) VALUES ('')}, q{INSERT INTO seq_log (log_index, entry) VALUES (1000, '')},
  q{SET session_replication_role = replica; INSERT INTO seq_log (log_index, entry) VALUES (1000, '')};
append_batches($source, $db, 20, 29, [$txn]);
is_copy($source, $db, $fed, $db, 'it goes on');

sql($fed, $db, 'DROP SUBSCRIPTION log');
append_batches($source, $db, 30, 39, [$txn]);
follow($fed, $db, source_of($source, $db), $source);
is_copy($source, $db, $fed, $db, 'followed from there');
is(sql($fed, $db, 'SELECT identity FROM seq_identity'), sql($source, $db, 'SELECT identity FROM seq_identity'), 'the same log');

$_->stop foreach $fed, $source;
nothing_crashed($_) foreach $source, $fed;
done_testing();
