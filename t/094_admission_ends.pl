# What waits to be sequenced is given back by a commit that fails late, after the
# packet was written, too; a restart counts what it finds, and tenants from zero.
# A limit of n lets exactly n in, so each refusal that comes one too early or too
# late tells of a count that is wrong.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $node = new_node('admission', max_prepared_transactions => 1);

create_extension($node, $db);

my @sessions = map { session($node, $db) } 1 .. 2;
my ($s, $other) = @sessions;

# Change settings, and wait until both sessions know.
sub limits
{
	my (%limits) = @_;

	sql($node, $db, join('', map { "ALTER SYSTEM SET calvin_seq.$_ = '$limits{$_}';\n" } sort keys %limits)
		. 'SELECT pg_reload_conf()');
	foreach my $session (@sessions)
	{
		foreach my $name (keys %limits)
		{
			wait_until(sub { $session->query("SHOW calvin_seq.$name") eq $limits{$name} }, "$name of a session");
		}
	}
	return;
}

sub send_one { my ($tenant) = @_; return "SELECT seq_send('a', '{}', $tenant) > 0"; }

# How many submissions of a tenant, or each of another, are let in, up to a number;
# they are rolled back.
my $refusal;

sub fill
{
	my ($session, $most, $tenant) = @_;
	my $let_in = 0;

	$session->query('BEGIN');
	$let_in++ while $let_in < $most && ($refusal = $session->error("SAVEPOINT s;\n" . send_one($tenant || 100 + $let_in))) eq '';
	$session->query('ROLLBACK');
	return $let_in;
}

# So many are, and then no more.
sub fills
{
	my ($session, $n, $tenant, $error, $desc) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(fill($session, $n + 1, $tenant), $n, "$desc: $n are let in");
	like($refusal, $error, "$desc: and no more");
	return;
}

# What is committed stops waiting at some time; then a limit lets all in again.
sub drained
{
	my ($n, $tenant) = @_;

	return wait_until(
		sub {
			my $error = $s->error("BEGIN;\n" . join('', map { send_one($tenant) . ";\n" } 1 .. $n));

			$s->query('ROLLBACK');
			return $error eq '';
		},
		"room for $n");
}

my $full = qr/^53000: inbox is full\nDETAIL:  3 submissions wait to be sequenced; at most 3 may\.\nHINT:  .*calvin_seq\.inbox_capacity/;
my $quota = qr/^53400: inbox quota of tenant 7 is used up\nDETAIL:  2 of its submissions wait to be sequenced; at most 2 may\.\nHINT:  .*calvin_seq\.tenant_inbox_quota/;

limits(tenant_inbox_quota => 2);

#
# A commit that fails late: the packet is written when a serialization failure is found
# out.
#
sql($node, $db, 'CREATE TABLE pairs (id int PRIMARY KEY, value int); INSERT INTO pairs VALUES (1, 0), (2, 0)');
$_->query("BEGIN ISOLATION LEVEL SERIALIZABLE;\nSELECT sum(value) FROM pairs") foreach @sessions;
$s->query('UPDATE pairs SET value = 1 WHERE id = 1');
$other->query("UPDATE pairs SET value = 1 WHERE id = 2;\n" . send_one(7) . ";\n" . send_one(7));
$s->query('COMMIT');
like($other->error('COMMIT'), qr/^40001: /, 'a commit fails');
drained(2, 7);
fills($s, 2, 7, $quota, 'after a failed commit');

#
# A restart: what it finds counts for the whole, but not for tenants, who begin at
# zero.  A prepared transaction keeps it out of the log meanwhile.
#
sub in_log
{
	return sql($node, $db, q{SELECT coalesce(sum(jsonb_array_length(seq_decode(entry) #> '{EpochBatch,txns}')), 0) FROM seq_log WHERE kind = 'epoch_batch'});
}

my $before = in_log();
$s->query("BEGIN;\nLOCK TABLE seq_log IN SHARE MODE;\nPREPARE TRANSACTION 'hold'");
$s->query("BEGIN;\n" . send_one(7) . ";\n" . send_one(7) . ";\nCOMMIT");
fills($s, 0, 7, $quota, 'before a crash');
$_->quit foreach @sessions;
$node->stop('immediate');
$node->start;
wait_for_applier($node, $db);
@sessions = map { session($node, $db) } 1 .. 2;
($s, $other) = @sessions;
fills($s, 2, 7, $quota, 'after a crash');
limits(inbox_capacity => 3);
wait_until(sub { fill($s, 4) == 1 }, 'the sequencer to count what it finds');
fills($s, 1, undef, $full, 'with what was found');
is(in_log(), $before, 'nothing of it is in the log');
limits(inbox_capacity => 0);
$other->query("BEGIN;\n" . send_one(7) . ";\n" . send_one(7));
$s->query(q{COMMIT PREPARED 'hold'});
wait_until(sub { in_log() == $before + 2 }, 'what was found to be in the log');
limits(inbox_capacity => 3);
wait_until(sub { fill($s, 4) == 1 }, 'the sequencer to have taken it off');
fills($s, 1, undef, $full, 'with what is not committed');
fills($s, 0, 7, $quota, 'nothing was taken off its tenant');
$other->query('ROLLBACK');
fills($s, 2, 7, $quota, 'in the end');

#
# More tenants than can be counted: refused, and none of them left behind
#
limits(inbox_capacity => 0, tenant_inbox_quota => 1);
$s->query('BEGIN');
like($s->error(q{SELECT count(seq_send('a', '{}', n)) FROM generate_series(1, 8193) n}),
	qr/^53400: too many tenants have submissions waiting to be sequenced\nDETAIL:  .* 8192 /, 'too many tenants');
$s->query('ROLLBACK');
is($s->query(q{BEGIN; SELECT count(seq_send('a', '{}', n)) FROM generate_series(1, 8192) n; ROLLBACK}), 8192, 'as many as can be');

$_->quit foreach @sessions;
nothing_crashed($node);
done_testing();
