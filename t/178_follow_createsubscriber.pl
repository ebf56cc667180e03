# A follower that is made of a standby by pg_createsubscriber: its subscription is dropped,
# and it follows from where that has got.
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
my $txn = [ [ [ 'a', 1 ], [ 'b', 2 ] ], 'ab', 1 ];
my $source = new_node('source', -streaming => 1, wal_level => 'logical', max_wal_senders => 10, max_replication_slots => 10, max_worker_processes => 30);

plan skip_all => 'pg_createsubscriber came with PostgreSQL 17'
  if sql($source, $db, 'SELECT current_setting($$server_version_num$$)::int') < 170000;

create_extension($source, $db);
append_batches($source, $db, 0, 19, [$txn]);
sql($source, $db, "SELECT seq_create_group('g', 4)");
$source->backup('backup');
my $made = PostgreSQL::Test::Cluster->new('made');
$made->init_from_backup($source, 'backup', has_streaming => 1);
$made->start;
wait_for_applier($made, $db);
append_batches($source, $db, 20, 29, [$txn]);
$source->wait_for_catchup($made, 'replay', $source->lsn('insert'));
$made->stop;

command_ok(
	[
		'pg_createsubscriber', '--verbose', '--pgdata', $made->data_dir, '--publisher-server',
		$source->connstr($db), '--socketdir', $made->host, '--subscriber-port', $made->port,
		'--database', $db, '--recovery-timeout', 180
	],
	'pg_createsubscriber');
append_batches($source, $db, 30, 39, [$txn]);
$made->start;
wait_for_applier($made, $db);
isnt(sql($made, $db, 'SELECT system_identifier FROM pg_control_system()'), sql($source, $db, 'SELECT system_identifier FROM pg_control_system()'), 'it is a server of its own');
my $subscription = sql($made, $db, 'SELECT subname FROM pg_subscription');
is_copy($source, $db, $made, $db, 'by its subscription');
sql($made, $db, "DROP SUBSCRIPTION \"$subscription\"");
# the source's groups have come along
sql($made, $db, "SELECT seq_drop_group('g')");
append_batches($source, $db, 40, 49, [$txn]);
follow($made, $db, source_of($source, $db), $source);
is_copy($source, $db, $made, $db, 'followed from there');
append_batches($source, $db, 50, 59, [$txn]);
is_copy($source, $db, $made, $db, 'and on');
like(sql_error($made, $db, q{SELECT seq_send('a', '1')}), qr/^25006: .* this database follows/, 'as a follower');

$_->stop foreach $made, $source;
nothing_crashed($_) foreach $made, $source;
done_testing();
