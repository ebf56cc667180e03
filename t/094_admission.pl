# What the inbox lets in: its capacity and its tenants' quotas, counted exactly,
# and given back however a submission ends.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('main');
create_extension($node, $db);
my ($a, $b, $watch) = map { session($node, $db) } 1 .. 3;

# A setting holds in these sessions from here on.
sub set
{
	my ($name, $value) = @_;

	$watch->query("ALTER SYSTEM SET calvin_seq.$name = $value");
	$node->reload;
	foreach my $s ($a, $b)
	{
		wait_until(sub { $s->query("SHOW calvin_seq.$name") eq $value }, "$name of a session");
	}
	return;
}

sub sends
{
	my ($n, $tenant) = @_;

	return join('; ', ('SELECT seq_send(\'a\', \'{}\', ' . ($tenant || 0) . ')') x $n);
}

my $full = qr/^53000: inbox is full\nDETAIL: +3 submissions wait to be sequenced; at most 3 may\.\nHINT: .*inbox_capacity/;

# Exactly so many more are let in; they are rolled back.
sub room
{
	my ($room, $what, $tenant, $error) = @_;

	$b->query('BEGIN');
	$b->query(sends($room, $tenant)) if $room;
	like($b->error(sends(1, $tenant)), $error, $what);
	$b->query('ROLLBACK');
	return;
}

#
# Capacity
#
set('inbox_capacity', 3);
room(3, 'as many as there is room for', 0, $full);
room(3, 'given back by a rollback', 0, $full);
$a->query('BEGIN; ' . sends(3));
room(0, 'what is not committed counts', 0, $full);
$a->query('ROLLBACK');
$a->query('BEGIN; ' . sends(1) . '; SAVEPOINT s; ' . sends(1) . '; SAVEPOINT t; ' . sends(1));
room(0, 'in subtransactions too', 0, $full);
$a->query('RELEASE t');
room(0, 'also released ones', 0, $full);
$a->query('ROLLBACK TO s');
room(2, 'until they are rolled back', 0, $full);
like($a->error('SELECT 1/0'), qr/^22012/, 'an error');
room(2, 'which undoes the subtransaction alone', 0, $full);
$a->query('ROLLBACK');
room(3, 'until the rest goes as well', 0, $full);

like($a->error('SELECT seq_send(\'a\', \'{}\') FROM generate_series(1, 4)'), $full, 'a statement that is one too many');
room(3, 'and leaves none', 0, $full);

$a->query('BEGIN; ' . sends(3));
$watch->query('SELECT pg_terminate_backend(' . $a->pid . ', 60000)');
room(3, 'a session that is ended gives them back', 0, $full);
$a = session($node, $db);

# what is in the log does not wait any more
$a->query(sends(1)) for 1 .. 3;
wait_until(sub { $a->error(sends(1)) eq '' }, 'there is room again') for 1 .. 6;
wait_for_sql($node, $db, "SELECT count(*) FROM seq_replay(seq_vshard('a'), 0, 1000000)", 9);
room(3, 'what is sequenced makes room, all of it', 0, $full);

#
# A quota, which may come and go while submissions wait
#
my $quota = qr/^53400: inbox quota of tenant 7 is used up\nDETAIL: +2 of its submissions wait to be sequenced; at most 2 may\.\nHINT: .*tenant_inbox_quota/;

set('inbox_capacity', 0);
set('tenant_inbox_quota', 2);
room(2, 'a quota', 7, $quota);
$a->query('BEGIN; ' . sends(2, 7));
room(0, 'is used up by others of the tenant', 7, $quota);
is($b->error('BEGIN; ' . sends(2, 8) . '; ROLLBACK'), '', 'and not by another tenant');
set('tenant_inbox_quota', 0);
$a->query(sends(5, 7));
set('tenant_inbox_quota', 2);
room(0, 'what was counted before stays so', 7, $quota);
$a->query('ROLLBACK');
room(2, 'and what was not counted is not taken off', 7, $quota);
$a->query(sends(2, 7));
wait_until(sub { $a->error('BEGIN; ' . sends(2, 7)) eq '' || !$a->query('ROLLBACK') && 0 }, 'its quota is free again');
$a->query('ROLLBACK');
room(2, 'what is sequenced is taken off, once', 7, $quota);

# one refused for the capacity does not count for its tenant
set('inbox_capacity', 1);
$a->query('BEGIN; ' . sends(1, 8));
like($b->error(sends(1, 7)), qr/^53000: /, 'refused, though within its quota') for 1 .. 3;
$a->query('ROLLBACK');
set('inbox_capacity', 0);
room(2, 'which is not used up by that', 7, $quota);

nothing_crashed($node);
done_testing();
