# Commands on whole databases that fail, and those who may not give them.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinDatabases;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

start_databases();
my ($before, $pid, $s);

#
# Commands that fail
#
make_database('d1');
$admin->query('CREATE DATABASE other');
$before = state($node, 'd1');

like($admin->error('ALTER DATABASE d1 RENAME TO other'), qr/^42P04: /, 'RENAME to an existing name fails');
is_back('d1', $before, 'failed RENAME');

$before = state($node, 'd1');
like($admin->error('CREATE DATABASE other TEMPLATE d1'), qr/^42P04: /, 'CREATE DATABASE of an existing name fails');
is_back('d1', $before, 'failed CREATE DATABASE');

$before = state($node, 'd1');
like($admin->error('BEGIN; DROP DATABASE d1;'), qr/^25001: /, 'DROP DATABASE in a transaction block fails');
$admin->query('ROLLBACK');
is_back('d1', $before, 'DROP DATABASE in a transaction block');

$before = state($node, 'd1');
$admin->query('BEGIN; ALTER DATABASE d1 RENAME TO d1b; ROLLBACK');
is_back('d1', $before, 'rolled back RENAME');

$before = state($node, 'd1');
$admin->query('BEGIN; SAVEPOINT s; ALTER DATABASE d1 RENAME TO d1b; ROLLBACK TO s; COMMIT');
is_back('d1', $before, 'RENAME rolled back to a savepoint');

$before = state($node, 'd1');
my $killed = session($node, 'postgres');
$killed->query('BEGIN; ALTER DATABASE d1 RENAME TO d1b');
$admin->query('SELECT pg_terminate_backend(' . $killed->pid . ', 5000)');
is_back('d1', $before, 'RENAME in a session that is terminated');
$killed->quit;

# The server itself gives up only after 5 s when somebody is connected.
$before = state($node, 'd1');
$s = session($node, 'd1');
$s->query("SELECT seq_subscribe('{$va}', lossless => false)");
like($admin->error('DROP DATABASE d1'), qr/^55006: .*\nDETAIL: +There is 1 other session/,
	'DROP DATABASE fails because of the other session, and not of the applier');
is_back('d1', $before, 'failed DROP DATABASE');
# one more, of a new connection to the consumer's queue
my $epoch = sql($node, 'd1', 'SELECT seq_next_epoch()');
$s->query("SELECT * FROM seq_receive(100, '100ms')");
append_batches($node, 'd1', $epoch, $epoch, [$txn]);
is($s->query("SELECT epoch FROM seq_receive(100, '10s')"), $epoch,
	'the session goes on receiving after the failed DROP DATABASE');
$s->quit;

#
# Those who may not
#
$admin->query('CREATE ROLE weak LOGIN; CREATE ROLE creator LOGIN CREATEDB; CREATE ROLE owner LOGIN; CREATE ROLE signaller LOGIN IN ROLE pg_signal_backend');
$admin->query('ALTER DATABASE d1 OWNER TO owner');
$pid = wait_for_applier($node, 'd1');
foreach my $attempt (
	[ 'weak', 'DROP DATABASE d1' ],
	[ 'weak', 'DROP DATABASE d1 WITH (FORCE)' ],
	[ 'weak', 'ALTER DATABASE d1 RENAME TO mine' ],
	[ 'weak', 'ALTER DATABASE d1 SET TABLESPACE ts' ],
	[ 'weak', 'CREATE DATABASE mine TEMPLATE d1' ],
	[ 'creator', 'DROP DATABASE d1' ],
	[ 'creator', 'ALTER DATABASE d1 RENAME TO mine' ],
	[ 'creator', 'ALTER DATABASE d1 SET TABLESPACE ts' ],
	[ 'creator', 'CREATE DATABASE mine TEMPLATE d1' ],
	[ 'owner', 'ALTER DATABASE d1 RENAME TO mine' ],
	[ 'owner', 'CREATE DATABASE mine TEMPLATE d1' ],
	[ 'weak', "SELECT pg_terminate_backend($pid)" ],
	[ 'signaller', "SELECT pg_terminate_backend($pid)" ],
	[ 'signaller', "SELECT pg_cancel_backend($pid)" ])
{
	my ($role, $sql) = @$attempt;
	my $weak = session($node, 'postgres', user => $role);

	like($weak->error($sql), qr/^42501: /, "$role may not: $sql");
	$weak->quit;
	is(applier_pid($node, 'd1'), $pid, 'and does not disturb the applier');
}

# One who may does.
$before = state($node, 'd1');
$admin->query('ALTER ROLE owner CREATEDB');
my $owner = session($node, 'postgres', user => 'owner');
cmp_ok((elapsed { $owner->query('ALTER DATABASE d1 RENAME TO d1b') }), '<', $bound, 'the owner may');
is_back('d1b', $before, 'RENAME by the owner');
$owner->quit;
drop_databases('d1b', 'other');

log_has_no($node, qr/FATAL: .*database \d+ does not exist/, 'no probe of a database that is gone');

$admin->quit;

$node->stop;

nothing_crashed($node);
done_testing();
