# A consumer to whom something happens, and whether each effect is there once
# in the end.
#
#   use CalvinScenario;
#   scenarios($node, $db);
#   scenario('it is disturbed', sub { my ($s, $first, $next) = @_; ... });
#
# The code has a session with a subscription to two vshards, $va and $vb, whose
# durable cursor stands in front of twelve epochs: $first to $next - 1.  process(n)
# receives up to n transactions and stores them as effects, store(vshard, epoch,
# position) one that was received otherwise.
package CalvinScenario;

use strict;
use warnings;

use CalvinTest;
use Exporter 'import';
use Test::More;

our @EXPORT = qw(scenarios scenario effects_stored $va $vb);

our ($va, $vb) = (vshard_of('a'), vshard_of('b'));
my @txns = ([ ['a'], 'ab', 1 ], [ [ 'a', 'b' ], 'cd', 2 ]);
my ($node, $db);
my $next = 0;

# Where the scenarios that follow take place.
sub scenarios
{
	($node, $db) = @_;

	create_extension($node, $db);
	sql($node, $db, <<'EOS');
CREATE TABLE effects (n int GENERATED ALWAYS AS IDENTITY, vshard int, epoch bigint, "position" bigint);
CREATE FUNCTION store(vshard int, epoch bigint, "position" bigint) RETURNS void LANGUAGE sql AS
	'INSERT INTO effects (vshard, epoch, "position") VALUES ($1, $2, $3)';
CREATE FUNCTION process(max_txns int DEFAULT 1000) RETURNS int LANGUAGE sql AS $$
	WITH i AS (INSERT INTO effects (vshard, epoch, "position") SELECT vshard, epoch, "position" FROM seq_receive(max_txns) RETURNING 1)
	SELECT count(*)::int FROM i
$$;
EOS
	return;
}

# So many epochs, each with a transaction for vshard a and one for both.
sub append
{
	my ($n) = @_;

	append_batches($node, $db, $next, $next + $n - 1, \@txns);
	$next += $n;
	return wait_for_epoch($node, $db, $next - 1);
}

# Receive and commit the rest as a consumer does that expects errors.
sub drain
{
	my ($session) = @_;

	$session->query("SELECT seq_subscribe('{$va,$vb}')");
	foreach my $try (1 .. 5)
	{
		my $error = $session->error('BEGIN; SELECT process(); SELECT seq_commit(); COMMIT');

		return if $error eq '';
		$session->query('ROLLBACK');
		die "cannot be drained: $error\n" unless $error =~ /^40001: /;
	}
	die "still not drained\n";
}

# The scenario; afterwards its session, or if that is gone another one, goes on as
# a consumer should.
sub scenario
{
	my ($name, $code) = @_;

	sql($node, $db, "SELECT seq_drop_cursor('default'); TRUNCATE effects");
	append(1);
	my $first = $next;
	my $s = session($node, $db);
	$s->query("SELECT seq_subscribe('{$va,$vb}', from_epoch => $first); SELECT seq_commit()");
	append(12);
	$code->($s, $first, $next);
	$s = session($node, $db) if $s->dead;
	drain($s);
	$s->quit;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(
		sql($node, $db, q{SELECT vshard, string_agg(epoch || '.' || "position", ' ' ORDER BY n) FROM effects GROUP BY 1 ORDER BY 1}),
		sql($node, $db, "SELECT vshard, string_agg(epoch || '.' || \"position\", ' ' ORDER BY epoch, \"position\")
			FROM unnest('{$va,$vb}'::int[]) v, seq_replay(v, $first, $next) GROUP BY 1 ORDER BY 1"),
		"$name: exactly once");
}

sub effects_stored { return sql($node, $db, 'SELECT count(*) FROM effects'); }

1;
