# Registrations on a standby and after its promotion, in a dump and where it is
# restored: names, owners and positions are what they were.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('primary', -streaming => 1);
create_extension($node, $db);
my ($va, $vb) = map { vshard_of($_) } qw(a b);
my $epoch = 0;
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
my @odd = (q{We'ird "näme" %}, q{Röle "x" '\\});

sub append
{
	my ($n, $to) = @_;

	append_batches($to || $node, $db, $epoch, $epoch + $n - 1, [ [ [ 'a', 'b' ], 'ab', 1 ] ]);
	$epoch += $n;
	wait_for_epoch($to || $node, $db, $epoch - 1);
	return;
}

sub quoted { my ($s) = @_; $s =~ s/'/''/g; return "'$s'"; }
sub identifier { my ($s) = @_; $s =~ s/"/""/g; return "\"$s\""; }

my $grants = 'GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO billing, mallory';
my $registered = q{SELECT r.name, pg_get_userbyid(r.owner), r.kind, r.vshards, r.partitions, r.collections, r.registered_at::text, (SELECT string_agg(c.vshard || ':' || c.epoch || '.' || c.position, ' ' ORDER BY c.vshard) FROM seq_cursors c WHERE c.name = r.name) FROM seq_registrations r ORDER BY r.name::text COLLATE "C"};

sql($node, $db, 'CREATE ROLE billing; CREATE ROLE mallory; CREATE ROLE leaves; CREATE ROLE ' . identifier($odd[1]));
sql($node, $db, $grants);
append(4);
sql($node, $db, "SET ROLE billing; SELECT seq_register('billing', '{$va,$vb}', 2)");
sql($node, $db, "SELECT seq_register(" . quoted($odd[0]) . ", '{$va}', 1)");
sql($node, $db, 'GRANT EXECUTE ON FUNCTION seq_register(text, int[], bigint), seq_create_group(text, int, int[], text[], bigint) TO leaves, ' . identifier($odd[1]));
sql($node, $db, 'SET ROLE ' . identifier($odd[1]) . "; SELECT seq_register('odd owner', '{$vb}', 3); SELECT seq_create_group('odd group', 2, '{$va,$vb}', '{a,b%}', 1)");
sql($node, $db, "SET ROLE leaves; SELECT seq_register('left', '{$va}', 3)");
# half of a batch's vshards are done
my $s = session($node, $db);
$s->query("SET ROLE billing; SELECT seq_subscribe('{$va,$vb}', 'billing'); BEGIN; SELECT count(*) FROM seq_receive(3, '0', 'billing'); SELECT seq_commit('billing'); COMMIT");
$s->quit;
my $rows = sql($node, $db, $registered);

#
# A standby
#
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
wait_for_epoch($standby, $db, $epoch - 1);
is(sql($standby, $db, $registered), $rows, 'the same registrations');
foreach my $sql ("seq_register('new', '{$va}')", q{seq_unregister('billing')}, q{seq_drop_cursor('billing')})
{
	like(sql_error($standby, $db, "SELECT $sql"), qr/^25006: cannot execute seq_\w+(\(\))? during recovery/, "not there: $sql");
}
$s = session($standby, $db);
like($s->error("SET ROLE mallory; SELECT seq_subscribe('{$va}', 'billing')"), qr/^42501: permission denied for consumer "billing"/, 'whose it is counts there');
like($s->error("SELECT seq_subscribe('{$va}', 'odd group')"), qr/^42809: /, 'and what it is');
$s->query('RESET ROLE; SET ROLE billing');
like($s->error("SELECT seq_subscribe('{$va}', 'billing', from_epoch => 100)"), qr/^22023: /, 'and where the log ends');
my $epochs = q{SELECT string_agg(epoch || ':' || vshard, ' ' ORDER BY epoch, vshard) FROM seq_receive(100, '0', 'billing')};
$s->query("SELECT seq_subscribe('{$va,$vb}', 'billing')");
my $left = $s->query($epochs);
is(scalar(split / /, $left), 1, 'it begins where it stands');
$standby->promote;
append(1, $standby);
is($s->query($epochs), join(' ', map { $epoch - 1 . ":$_" } sort { $a <=> $b } $va, $vb), 'and goes on after the promotion');
is($s->query(q{SELECT seq_commit('billing')}), 2, 'which may commit now');
$s->quit;
sql($standby, $db, "SELECT seq_register('new', '{$va}')");
is(sql($standby, $db, q{SELECT epoch FROM seq_cursors WHERE name = 'new'}), $epoch, 'and register');
$standby->stop;
$epoch--;

#
# A dump, restored where roles have other numbers, and one is not there
#
my $other = new_node('other');
sql($other, $db, 'CREATE ROLE z1; CREATE ROLE z2; CREATE ROLE z3; CREATE ROLE mallory; CREATE ROLE billing; CREATE ROLE ' . identifier($odd[1]));
isnt(sql($other, $db, q{SELECT oid FROM pg_roles WHERE rolname = 'billing'}), sql($node, $db, q{SELECT oid FROM pg_roles WHERE rolname = 'billing'}), 'another number');
foreach my $format ('plain', 'custom')
{
	$node->command_ok([ 'pg_dump', '--no-privileges', '--no-owner', "--format=$format", '-f', "$dump.$format", $db ], "pg_dump, $format");
	sql($other, $db, 'CREATE DATABASE restored');
	my ($out, $err) = ('', '');
	local %ENV = $other->_get_env;
	IPC::Run::run(
		$format eq 'plain' ? [ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $other->connstr('restored'), '-f', "$dump.$format" ]
		: [ 'pg_restore', '-e', '-d', $other->connstr('restored'), "$dump.$format" ],
		'>', \$out, '2>', \$err);
	is($?, 0, "restored, $format") or diag $err;
	like($err, qr/WARNING:  role "leaves" does not exist\nDETAIL:  Consumer "left" belongs to "\w+" from now on\./, 'a role that is not there') if $format eq 'plain';
	(my $there = $rows) =~ s/^left\|leaves\|/'left|' . sql($other, $db, 'SELECT current_user') . '|'/me;
	is(sql($other, 'restored', $registered), $there, 'the same registrations, by the names of the roles');
	is(sql($other, 'restored', 'SELECT count(*) FROM seq_registrations WHERE owner_name IS NOT NULL'), 0, 'by number again');
	wait_for_applier($other, 'restored');
	wait_applied($other, 'restored');
	sql($other, 'restored', $grants);
	like(sql_error($other, 'restored', "SET ROLE mallory; SELECT seq_subscribe('{$va}', 'billing')"), qr/^42501: /, 'not everybody\'s');
	$s = session($other, 'restored');
	$s->query("SET ROLE billing; SELECT seq_subscribe('{$va,$vb}', 'billing')");
	is($s->query($epochs), $left, 'and its consumer goes on where it stood');
	$s->quit;
	is(sql($other, 'restored', q{SELECT count(*) FROM seq_fetch('odd group')}), 6, 'so does a group');
	sql($other, 'restored', "SELECT seq_register('after', '{$va}')");
	# once more out of that one, and into it
	sql($other, $db, 'DROP DATABASE restored');
}

$_->stop foreach $node, $other;
nothing_crashed($_) foreach $node, $standby, $other;
done_testing();
