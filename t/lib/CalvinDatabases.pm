# What the tests of commands on whole databases share: one server, a session
# outside of the databases, and how long a command may take.
package CalvinDatabases;

use strict;
use warnings;

use CalvinTest;
use Exporter 'import';
use Test::More;

our @EXPORT = qw($node $admin $bound $txn $va
  start_databases at_once is_back make_database drop_databases);

our ($node, $admin);

# Every command on a database has to be through by then: those that are held up
# wait for the server's own 5 s.
our $bound = within(4);

our $txn = [ ['a'], 'ab', 1 ];
our $va = vshard_of('a');

sub start_databases
{
	$node = new_node(
		'databases',
		-streaming => 1,
		'calvin_seq.max_databases' => 4,
		'calvin_seq.snapshot_interval' => 0,
		'calvin_seq.max_subscriptions' => 8,
		allow_in_place_tablespaces => 'on');
	$admin = session($node, 'postgres');
	# what hangs shall fail
	$admin->query("SET statement_timeout = '" . within(10) . "s'");
	$admin->query("CREATE TABLESPACE ts LOCATION ''");
	return;
}

sub at_once
{
	my ($sql, $desc) = @_;
	my $error;
	my $seconds = elapsed { $error = ($admin->send($sql)->finish)[1] };

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($error, '', "$desc works");
	cmp_ok($seconds, '<', $bound, "$desc takes less than $bound s");
	return;
}

# The applier came back with the state it had, and goes on.
sub is_back
{
	my ($db, $before, $desc) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_for_applier($node, $db);
	wait_applied($node, $db);
	is(state($node, $db), $before, "$desc: same state afterwards");
	my $epoch = sql($node, $db, 'SELECT coalesce(seq_current_committed_epoch(), -1)') + 1;
	append_batches($node, $db, $epoch, $epoch, [$txn]);
	ok(wait_for_epoch($node, $db, $epoch), "$desc: and it goes on");
	return;
}

# A database with a log that has all kinds of entries.
sub make_database
{
	my ($db) = @_;

	$admin->query("CREATE DATABASE $db");
	create_extension($node, $db);
	append_batches($node, $db, 0, 5, [$txn]);
	sql($node, $db, "INSERT INTO seq_log (entry) VALUES ('\\xc1'), (''), ('\\x"
		  . batch_hex(2, 0) . "'), ('\\x" . batch_hex(9, 0, $txn) . "')");
	wait_applied($node, $db);
	return;
}

sub drop_databases
{
	$admin->query("DROP DATABASE IF EXISTS $_") foreach @_;
	return;
}

1;
