# Workers that receive as programs do: row by row, through cursors and loops,
# with savepoints and exception blocks that fail in the middle, in procedures
# that end transactions, and through the C interface.  Whatever they do, what
# commits is the stream, each transaction once: a seq_commit that would make it
# otherwise has to fail.
package Chaos::Looper;

use strict;
use warnings;

use Chaos::Consumer;

our @ISA = ('Chaos::Worker');

# An exception of the program's own is one that goes away: the handler does what
# the block did not get to do, and the loop goes on.
our $SCHEMA = <<'EOS';
CREATE FUNCTION shown(r seq_txn) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT format('%s.%s/%s/%s/%s/%s/%s', r.epoch, r."position", r.epoch_system_ms, r.tenant_id, r.participating_vshards, r.plans, r.tx_class)
$$;
CREATE FUNCTION effect(consumer text, r seq_txn, how text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO effects (consumer, vshard, keys, md5, how)
		VALUES (effect.consumer, r.vshard, r.epoch || '.' || r."position", md5(shown(r)), effect.how)
$$;
-- a cursor, each FETCH in a block of its own, but for the first if it is outside
CREATE FUNCTION loop_fetch(consumer text, max int, fails int, outside boolean) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	how text := format('fetching, block %s fails, first outside: %s', fails, outside);
	c CURSOR FOR SELECT * FROM seq_receive(max, '0', consumer);
	r seq_txn;
	n int := 0;
BEGIN
	OPEN c;
	IF outside THEN
		FETCH c INTO r;
		IF FOUND THEN PERFORM effect(consumer, r, how); END IF;
	END IF;
	LOOP
		n := n + 1;
		r := NULL;
		BEGIN
			FETCH c INTO r;
			EXIT WHEN NOT FOUND;
			PERFORM effect(consumer, r, how);
			IF n = fails THEN PERFORM 1 / 0; END IF;
		EXCEPTION WHEN division_by_zero THEN
			PERFORM effect(consumer, r, how);
		END;
	END LOOP;
	CLOSE c;
	PERFORM seq_commit(consumer);
	RETURN n;
END $$;
-- a FOR loop, its body in a block; or all of it in a block that fails, and once more
CREATE FUNCTION loop_for(consumer text, max int, fails int, whole boolean) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	how text := format('FOR, row %s fails, all of it: %s', fails, whole);
	r seq_txn;
	n int := 0;
BEGIN
	BEGIN
		FOR r IN SELECT * FROM seq_receive(max, '0', consumer) LOOP
			n := n + 1;
			BEGIN
				PERFORM effect(consumer, r, how);
				IF n = fails THEN PERFORM 1 / 0; END IF;
			EXCEPTION WHEN division_by_zero THEN
				IF whole THEN RAISE EXCEPTION USING errcode = 'P0009'; END IF;
				PERFORM effect(consumer, r, how);
			END;
		END LOOP;
	EXCEPTION WHEN SQLSTATE 'P0009' THEN
		FOR r IN SELECT * FROM seq_receive(max, '0', consumer) LOOP
			PERFORM effect(consumer, r, how);
		END LOOP;
	END;
	PERFORM seq_commit(consumer);
	RETURN n;
END $$;
-- a FOR loop of a procedure that ends the transaction at one of its rows
CREATE PROCEDURE loop_ends(consumer text, max int, ends int, what text, fails int) LANGUAGE plpgsql AS $$
DECLARE
	how text := format('%s at row %s of FOR, row %s fails', what, ends, fails);
	r seq_txn;
	n int := 0;
BEGIN
	FOR r IN SELECT * FROM seq_receive(max, '0', consumer) LOOP
		n := n + 1;
		PERFORM effect(consumer, r, how);
		IF n = ends THEN
			IF what = 'ROLLBACK' THEN
				ROLLBACK;
			ELSE
				PERFORM seq_commit(consumer);
				COMMIT;
			END IF;
		END IF;
		IF n = fails THEN PERFORM 1 / 0; END IF;
	END LOOP;
	PERFORM seq_commit(consumer);
END $$;
EOS

# no such cursor any more
sub may_fail
{
	my ($self, $state) = @_;

	return $state eq '34000' || $self->SUPER::may_fail($state);
}

sub plan_transaction
{
	my ($self) = @_;
	my $rng = $self->{rng};
	my $name = $self->{consumer};
	my ($max, $at) = ($rng->any(1, 5, 40, 150), 1 + $rng->below(6));
	my ($later, $yes) = ($at + $rng->below(5), $rng->chance(0.5) ? 'true' : 'false');

	return $self->plan_cursor($max) if $rng->chance(0.5);
	push @{ $self->{plan} },
	  [
		$rng->any(
			"SELECT loop_fetch('$name', $max, $at, $yes)",
			"SELECT loop_for('$name', $max, $at, $yes)",
			"CALL loop_ends('$name', $max, $at, '" . $rng->any(qw(COMMIT ROLLBACK)) . "', $later)")
	  ],
	  $rng->real(0.02);
	return;
}

# A cursor of SQL's.  The rows that it has given are the client's, whatever
# becomes of a savepoint: their effects are done again after that.
sub plan_cursor
{
	my ($self, $max) = @_;
	my $rng = $self->{rng};
	my $name = $self->{consumer};
	my ($hold, $first_inside, $undone) = ($rng->chance(0.15), $rng->chance(0.5), $rng->chance(0.8));
	my $how = 'cursor' . ($hold ? ' with hold' : '') . ', first FETCH ' . ($first_inside ? 'in' : 'before') . ' a savepoint ' . ($undone ? 'undone' : 'kept');
	my @got;
	my $fetch = sub {
		return [
			"FETCH $_[0] FROM c",
			sub { my ($result) = @_; $self->seen($result); @got = @{ $result->{rows} }; }
		];
	};
	my $effects = [
		sub {
			my $values = join ', ', map { "('$name', $_->[0], '$_->[1]', '$_->[2]', '$how')" } @got;

			return $values ? "INSERT INTO effects (consumer, vshard, keys, md5, how) VALUES $values" : 'SELECT 1';
		}
	];
	my @steps = (['BEGIN'],
		[ 'DECLARE c CURSOR ' . ($hold ? 'WITH HOLD ' : '')
			  . qq{FOR SELECT r.vshard, r.epoch || '.' || r."position", md5(shown(r)) FROM seq_receive($max, '0', '$name') r} ]);

	push @steps, $fetch->(2), $effects unless $first_inside;
	push @steps, ['SAVEPOINT s'], $fetch->(3), $effects, [ $undone ? 'ROLLBACK TO s' : 'RELEASE s' ];
	push @steps, $effects if $undone;
	# what is left when the transaction ends is read after it
	push @steps, ["SELECT seq_commit('$name')"], ['COMMIT'], ['BEGIN'] if $hold;
	push @steps, $fetch->('ALL'), $effects;
	push @steps, ['CLOSE c'] if $hold || $rng->chance(0.5);
	push @steps, ["SELECT seq_commit('$name')"] unless $hold;
	push @steps, [ $rng->chance(0.9) ? 'COMMIT' : 'ROLLBACK' ];
	push @{ $self->{plan} }, @steps;
	return;
}

sub on_error
{
	my ($self, $result) = @_;

	$self->SUPER::on_error($result);
	unshift @{ $self->{plan} }, ['CLOSE ALL'];
	return;
}

package Chaos::Native;

use strict;
use warnings;

our @ISA = ('Chaos::Worker');

# What the C functions write is brought into the form of the other effects.
sub schema
{
	my ($library) = @_;

	return <<"EOS";
CREATE FUNCTION test_receive(name text, max int) RETURNS text LANGUAGE c STRICT AS '$library';
CREATE FUNCTION test_receive_rolled_back(name text, max int) RETURNS text LANGUAGE c STRICT AS '$library';
CREATE FUNCTION test_commit(name text) RETURNS int LANGUAGE c STRICT AS '$library';
CREATE FUNCTION take_native(consumer text, lines text, how text, OUT vshard int, OUT keys text, OUT md5 text) RETURNS SETOF record LANGUAGE sql AS \$\$
	INSERT INTO effects (consumer, vshard, keys, md5, how)
		SELECT take_native.consumer, f[1]::int, string_agg(f[2] || '.' || f[3], ',' ORDER BY n),
				md5(string_agg(format('%s.%s/%s/%s/%s/\\x%s/\\x%s', f[2], f[3], f[4], f[5], f[6], f[7], f[8]), '|' ORDER BY n)), take_native.how
			FROM (SELECT n, string_to_array(line, '|') AS f FROM string_to_table(lines, E'\\n') WITH ORDINALITY AS l (line, n) WHERE line <> '') l
			GROUP BY f[1]
		RETURNING effects.vshard, effects.keys, effects.md5
\$\$;
EOS
}

sub plan_transaction
{
	my ($self) = @_;
	my $rng = $self->{rng};
	my $name = $self->{consumer};
	my @steps = (['BEGIN']);

	foreach (1 .. 1 + $rng->below(3))
	{
		my $undone = $rng->chance(0.3);
		# half of its calls are in subtransactions of its own
		my $function = $rng->any('test_receive', 'test_receive_rolled_back');
		my $max = $rng->any(1, 10, 50);

		push @steps, ['SAVEPOINT s'] if $undone;
		push @steps, [ "SELECT * FROM take_native('$name', $function('$name', $max), '$function')", sub { $self->seen($_[0]) } ];
		push @steps, ['ROLLBACK TO s'] if $undone;
	}
	push @steps, [ $rng->any("SELECT test_commit('$name')", "SELECT seq_commit('$name')") ], [ $rng->chance(0.9) ? 'COMMIT' : 'ROLLBACK' ], $rng->real(0.02);
	push @{ $self->{plan} }, @steps;
	return;
}

1;
