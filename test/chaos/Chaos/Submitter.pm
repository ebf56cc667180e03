# Submitters: business transactions that submit to the log what they do, and look at
# what others have committed before.
#
#   Chaos::Submitter          all that a transaction can be made of
#   Chaos::Submitter::Large   submissions that do not fit into a row, or into memory
#   Chaos::Submitter::Idle    stays open for long
#   Chaos::Submitter::Burst   {count} transactions by one call, as fast as it goes
#   Chaos::Submitter::Bulk    bursts without end, and transactions of many
package Chaos::Submitter;

use strict;
use warnings;

use parent -norequire, 'Chaos::Actor';

use CalvinWire;
use Chaos::Actor;
use Chaos::Entry;
use Chaos::Order qw(shape);

# "published" is what a transaction leaves for others to see.
our $SCHEMA = <<'EOS';
CREATE TABLE published (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, txn bigint);
CREATE TABLE later (txn bigint, n int, collection text, filling int);
CREATE FUNCTION seen() RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT coalesce(string_agg(txn::text, ','), '') FROM (SELECT txn FROM published p ORDER BY p.n DESC LIMIT 6) p
$$;
CREATE FUNCTION send_one(txn bigint, n int, collection text, filling int, saw text DEFAULT '') RETURNS bigint LANGUAGE sql VOLATILE AS $$
	SELECT seq_send_bytes(collection, convert_to(format('~sub~%s.%s:%s;', txn, n, saw) || repeat('x', filling), 'UTF8'))
$$;
CREATE FUNCTION send_many(txn bigint, first int, count int, collection text, filling int) RETURNS SETOF bigint LANGUAGE sql VOLATILE AS $$
	SELECT send_one(txn, i, collection, filling) FROM generate_series(first, first + count - 1) i
$$;
CREATE FUNCTION send_and_fail(txn bigint, first int, count int, collection text, filling int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM send_many(txn, first, count, collection, filling);
	PERFORM 1 / (first - first);
EXCEPTION WHEN division_by_zero THEN
	NULL;
END $$;
CREATE FUNCTION send_later() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM send_one(NEW.txn, NEW.n, NEW.collection, NEW.filling, seen());
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER send_later AFTER INSERT ON later DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION send_later();
CREATE PROCEDURE send_burst(first bigint, count int, undone_each int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 0 .. count - 1 LOOP
		PERFORM send_one(first + i, 0, 'burst', 40);
		IF i % undone_each = undone_each - 1 THEN ROLLBACK; ELSE COMMIT; END IF;
	END LOOP;
END $$;
EOS

# What is submitted to: some have consumers.
my @collections = (@Chaos::Entry::collections, map { "nobody/$_" } 1 .. 8);

# a lock, a deadlock, a serialisation failure; not a primary any more; no applier
# yet; a database that dblink does not get to
sub may_fail
{
	my ($self, $state) = @_;

	return $state =~ /^(?:55000|53400|55P03|40P01|40001|25006|25P02|08001|08003|08006|3B001)$/;
}

sub next_plan
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	my $rng = $self->{rng};

	return if $cluster->{budget} <= 0 || $cluster->{submitters_quiet};
	$self->{txn} = undef;
	$rng->chance(0.35) ? $self->plan_statement : $self->plan_transaction;
	push @{ $self->{plan} }, $rng->real($cluster->{submit_pause}) if $cluster->{submit_pause};
	return;
}

sub begin
{
	my ($self) = @_;

	return $self->{txn} = $self->{cluster}{order}->begin($self->{name});
}

sub filling { my ($self) = @_; my $rng = $self->{rng}; return $rng->chance(0.05) ? $rng->below(9000) : $rng->below(100); }

# One submission: itself, and the expression that makes it.
sub some_submission
{
	my ($self, $txn) = @_;
	my $rng = $self->{rng};
	my $order = $self->{cluster}{order};
	my $kind = $rng->any(qw(bytes bytes json encoded class));
	my $tenant = $rng->chance(0.5) ? 0 : $rng->below(1000);
	my $collection = $rng->any(@collections);
	my $filling = $self->filling;
	my $saw = join ',', sort { $a <=> $b } keys %{ $txn->{saw} };

	if ($kind eq 'bytes')
	{
		my $sub = $order->submission($txn, shape($collection, $tenant), $filling);
		return ($sub, "seq_send_bytes('$collection', '\\x" . unpack('H*', Chaos::Order::plans($sub, $saw)) . "', $tenant)");
	}
	if ($kind eq 'json')
	{
		my $sub = $order->submission($txn, shape($collection, $tenant), $filling, '"');
		return ($sub, "seq_send('$collection', '" . Chaos::Order::plans($sub, $saw) . "', $tenant)");
	}
	my $other = $rng->any(grep { $_ ne $collection } @collections);
	my @names = sort { $a cmp $b } $collection, $rng->chance(0.5) ? $other : ();
	my $reads = $rng->chance(0.3) ? vshard_of($other) : undef;
	my %vshards = map { ($_ => 1) } (map { vshard_of($_) } @names), $reads // ();
	my $sub = $order->submission(
		$txn,
		shape(
			[ map { document($_, 1, 7) } @names ],
			$tenant, defined $reads ? mp_array(mp_map(mp_uint($reads), mp_array(mp_array(document($other, 9))))) : "\xc0",
			[ sort { $a <=> $b } keys %vshards ], { Chaos::Entry::written(@names) }->{written}),
		$filling);

	return ($sub, "seq_submit_encoded('\\x" . unpack('H*', Chaos::Order::class($sub, $saw)) . "')") if $kind eq 'encoded';
	my $sets = join ', ', map { qq({"Document": {"collection": "$_", "surrogates": [7, 1]}}) } @names;
	my $dependent = defined $reads ? qq(, "dependent_reads": {"$reads": [{"Document": {"collection": "$other", "surrogates": [9]}}]}) : '';
	my $json = qq({"write_set": [$sets], "plans": "\\\\x) . unpack('H*', Chaos::Order::plans($sub, $saw)) . qq(", "tenant_id": $tenant$dependent});

	return ($sub, "seq_submit('$json')");
}

# A step that submits by an expression.
sub send_step
{
	my ($self, $sql) = @_;

	return [ "SELECT $sql", sub { $self->{cluster}{order}->numbered($self->{txn}, map { $_->[0] } @{ $_[0]{rows} }) unless $_[0]{error}; } ];
}

# Look at what others have committed.
sub look_step
{
	my ($self, $txn) = @_;

	return [ 'SELECT seen()', sub { $self->{cluster}{order}->saw($txn, split /,/, $_[0]{rows}[0][0]) unless $_[0]{error}; } ];
}

sub refuse { my ($self) = @_; $self->{cluster}{order}->refused($self->{txn}) if $self->{txn}; $self->{txn} = undef; return; }
sub on_error { my ($self) = @_; return $self->refuse; }

sub on_lost
{
	my ($self) = @_;

	$self->{cluster}{order}->lost($_) foreach grep { $_ } delete @{$self}{qw(txn autonomous)};
	return;
}

# A step that commits: sql is what does.
sub commit_step
{
	my ($self, $txn, $sql, $synchronous) = @_;
	my $order = $self->{cluster}{order};

	return [
		sub { $order->committing($txn); return $sql; },
		sub { my ($result) = @_; $self->acknowledge($txn, $result, $synchronous) unless $result->{error}; }
	];
}

sub acknowledge
{
	my ($self, $txn, $result, $synchronous) = @_;
	my $cluster = $self->{cluster};

	$cluster->{order}->numbered($txn, map { $_->[0] } @{ $result->{rows} });
	$cluster->{order}->acknowledged($txn, $cluster->{safe} || $synchronous && !@{ $result->{notices} }, $self->{on}{ask} && $self->{on}{ask}{connection});
	$cluster->{submitted} += grep { $_->{known} ne 'refused' } @{ $txn->{subs} };
	$self->{txn} = undef;
	return;
}

# A transaction of one statement, or of several in one message.
sub plan_statement
{
	my ($self) = @_;
	my $rng = $self->{rng};
	my $txn = $self->begin;

	push @{ $self->{plan} }, $self->look_step($txn) if $rng->chance(0.5);
	push @{ $self->{plan} }, [
		'SELECT 1',
		sub {
			return if $_[0]{error};
			my ($sub, $sql) = $self->some_submission($txn);
			my $many = $rng->chance(0.5) ? $self->many($txn) : undef;

			unshift @{ $self->{plan} }, $self->commit_step($txn, "SELECT $sql" . ($many ? "; SELECT * FROM $many" : ''), 1);
		}
	];
	return;
}

# Several by one call.
sub many
{
	my ($self, $txn, $known) = @_;
	my $rng = $self->{rng};
	my $count = $self->{cluster}{many} || 1 + $rng->below($rng->chance(0.1) ? 60 : 6);
	my $collection = $rng->any(@collections);
	my $filling = $self->filling;
	my $first = @{ $txn->{subs} };
	my @subs = map { $self->{cluster}{order}->submission($txn, shape($collection, 0), $filling) } 1 .. $count;

	$self->{cluster}{order}->undo(@subs) if $known;
	return ($known ? 'send_and_fail' : 'send_many') . "($txn->{id}, $first, $count, '$collection', $filling)";
}

# Rolled back or released savepoints, one in another; what was submitted within one
# that is undone is.
sub savepoint_steps
{
	my ($self, $txn, $depth) = @_;
	my $rng = $self->{rng};
	my $name = "s$depth";
	my $first = @{ $txn->{subs} };
	my @steps = (["SAVEPOINT $name"], $self->work_steps($txn, 1 + $rng->below(2), $depth + 1));

	if ($rng->chance(0.45))
	{
		$self->{cluster}{order}->undo(grep { $_->{known} ne 'refused' } @{ $txn->{subs} }[ $first .. $#{ $txn->{subs} } ]);
		push @steps, ["ROLLBACK TO $name"];
	}
	push @steps, ["RELEASE $name"] if $rng->chance(0.5);
	return @steps;
}

# One that commits by itself, in the middle of another: before it, for it is
# acknowledged.
sub autonomous_step
{
	my ($self, $txn) = @_;
	my $cluster = $self->{cluster};
	my $own = $cluster->{order}->begin("$self->{name}, autonomous");

	$cluster->{order}->submission($own, shape('a', 0), 10);
	return [
		sub {
			$self->{autonomous} = $own;
			$cluster->{order}->committing($own);
			my $server = $self->server;
			return "SELECT * FROM dblink('host=$server->{dir} port=" . ($server->{port} || 5432) . " dbname=postgres user=" . ($cluster->{user} || 'postgres')
			  . " options=''-c synchronous_commit=local''', 'SELECT send_one($own->{id}, 0, ''a'', 10)') AS d(n bigint)";
		},
		sub {
			my ($result) = @_;

			delete $self->{autonomous};
			return $cluster->{order}->lost($own) if $result->{error};
			$cluster->{order}->numbered($own, $result->{rows}[0][0]);
			$cluster->{order}->acknowledged($own, $cluster->{safe}, $self->{on}{ask} && $self->{on}{ask}{connection});
			$cluster->{submitted}++;
		}
	];
}

sub work_steps
{
	my ($self, $txn, $n, $depth) = @_;
	my $rng = $self->{rng};
	my @steps;

	foreach (1 .. $n)
	{
		my $kind = $rng->any(qw(send send send look look many savepoint savepoint fails publish pause), $self->{cluster}{dblink} ? 'autonomous' : ());

		if ($kind eq 'send') { push @steps, $self->send_step(($self->some_submission($txn))[1]); }
		elsif ($kind eq 'look') { push @steps, $self->look_step($txn); }
		elsif ($kind eq 'many') { push @steps, $self->send_step('* FROM ' . $self->many($txn)); }
		elsif ($kind eq 'savepoint') { push @steps, $self->savepoint_steps($txn, $depth) if $depth < 4; }
		elsif ($kind eq 'fails') { push @steps, [ 'SELECT ' . $self->many($txn, 1) ]; }
		# within a savepoint it may be undone, so that nobody sees it
		elsif ($kind eq 'publish') { push @steps, ["INSERT INTO published (txn) VALUES ($txn->{id})"]; }
		elsif ($kind eq 'autonomous') { push @steps, $self->autonomous_step($txn) if $rng->chance(0.3); }
		elsif ($rng->chance(0.3)) { push @steps, $rng->real(0.03); }
	}
	return @steps;
}

# What others do at commit: deferred triggers, and then cursors that are held.
sub at_commit_steps
{
	my ($self, $txn) = @_;
	my $rng = $self->{rng};
	my $order = $self->{cluster}{order};
	my (@steps, @after);

	if ($rng->chance(0.3))
	{
		my $collection = $rng->any(@collections);
		my $sub = $order->submission($txn, shape($collection, 0), 20);

		push @steps, ["INSERT INTO later VALUES ($txn->{id}, $sub->{n}, '$collection', 20)"];
	}
	if ($rng->chance(0.2))
	{
		push @steps, [ 'DECLARE held CURSOR WITH HOLD FOR SELECT * FROM ' . $self->many($txn) ];
		push @after, ['CLOSE held'];
	}
	return (\@steps, \@after);
}

sub plan_transaction
{
	my ($self) = @_;
	my $rng = $self->{rng};
	my $txn = $self->begin;
	my $mode = $rng->any(qw(on on on off local));
	my $commits = $rng->chance(0.85);
	my ($at_commit, $after) = ([], []);
	my @steps = (['BEGIN' . ($rng->chance(0.2) ? ' ISOLATION LEVEL REPEATABLE READ' : '')]);

	push @steps, ["SET LOCAL synchronous_commit = $mode"] if $mode ne 'on';
	push @steps, $self->look_step($txn) if $rng->chance(0.5);
	push @steps, $self->work_steps($txn, 1 + $rng->below(5), 1);
	push @steps, ["INSERT INTO published (txn) VALUES ($txn->{id})"] if $rng->chance(0.7);
	($at_commit, $after) = $self->at_commit_steps($txn) if $rng->chance(0.5);
	push @steps, @$at_commit;
	# what it sees after it has called counts as well
	push @steps, $self->look_step($txn) if $rng->chance(0.5);
	if ($commits) { push @steps, $self->commit_step($txn, 'COMMIT', $mode eq 'on'), @$after; }
	else { push @steps, [ 'ROLLBACK', sub { $self->refuse } ]; }
	push @{ $self->{plan} }, @steps;
	return;
}

package Chaos::Submitter::Large;

use strict;
use warnings;

use Chaos::Order qw(shape);

our @ISA = ('Chaos::Submitter');

# More than fits into a row; and, through savepoints, more than is kept in memory.
sub filling { my ($self) = @_; my $rng = $self->{rng}; return $rng->chance(0.3) ? 8000 + $rng->below(200) : $rng->below(250_000); }

sub next_plan
{
	my ($self) = @_;
	my $cluster = $self->{cluster};

	return if $cluster->{budget} <= 0 || $cluster->{submitters_quiet};
	$self->{txn} = undef;
	$self->plan_transaction;
	push @{ $self->{plan} }, $self->{rng}->real($cluster->{submissions} ? 6 : 0.6);
	return;
}

sub work_steps
{
	my ($self, $txn, $n, $depth) = @_;
	my $rng = $self->{rng};
	my $first = @{ $txn->{subs} };
	my $before = sub { my ($n) = @_; return $self->sized($txn, $n, 60_000 + $rng->below(100_000)) };
	my @steps = (
		$before->(1 + $rng->below(9)),
		['SAVEPOINT s'], $before->(1 + $rng->below(9)), ['SAVEPOINT t']);
	my $inner = @{ $txn->{subs} };

	push @steps, $before->(1 + $rng->below(9));
	$self->{cluster}{order}->undo(@{ $txn->{subs} }[ $inner .. $#{ $txn->{subs} } ]), push @steps, ['ROLLBACK TO t'] if $rng->chance(0.5);
	push @steps, ['RELEASE s'], $before->(1);
	return @steps;
}

sub sized
{
	my ($self, $txn, $n, $filling) = @_;
	my $first = @{ $txn->{subs} };

	$self->{cluster}{order}->submission($txn, shape('h', 0), $filling) foreach 1 .. $n;
	return $self->send_step("* FROM send_many($txn->{id}, $first, $n, 'h', $filling)");
}

package Chaos::Submitter::Idle;

use strict;
use warnings;

our @ISA = ('Chaos::Submitter');

# Nobody waits for it: it has no place in the order before it commits.
sub plan_statement { my ($self) = @_; return $self->plan_transaction; }

sub work_steps
{
	my ($self, $txn, $n, $depth) = @_;

	return $self->SUPER::work_steps($txn, $n, $depth) if $depth > 1;
	return ($self->SUPER::work_steps($txn, 1, $depth), 0.2 + $self->{rng}->real(0.8), $self->SUPER::work_steps($txn, $n, $depth));
}

package Chaos::Submitter::Burst;

use strict;
use warnings;

use Chaos::Order qw(shape);

our @ISA = ('Chaos::Submitter');

# {count} transactions, one after the other; of {undone_each} one is rolled back.
# {finished}: it is over.
sub next_plan { my ($self) = @_; return $self->{txns} || $self->{finished} ? undef : $self->plan_burst; }

sub plan_burst
{
	my ($self) = @_;
	my $order = $self->{cluster}{order};

	$self->{txns} = [ map { $order->begin($self->{name}) } 1 .. $self->{count} ];
	my $first = $self->{txns}[0]{id};
	my $shape = shape('burst', 0);
	my $before;

	foreach my $i (0 .. $self->{count} - 1)
	{
		my $txn = $self->{txns}[$i];

		$order->submission($txn, $shape, 40);
		if ($i % $self->{undone_each} == $self->{undone_each} - 1) { $order->refused($txn); next; }
		# each is committed before the next one begins
		$order->saw($txn, $before->{id}) if $before;
		$before = $txn;
	}
	push @{ $self->{plan} }, ['SET synchronous_commit = off'],
	  [
		sub {
			$order->committing($_) foreach grep { $_->{known} eq 'open' } @{ $self->{txns} };
			return "CALL send_burst($first, $self->{count}, $self->{undone_each})";
		},
		sub { $self->end(!$_[0]{error}) }
	  ];
	return;
}

# Those that the client was not told of are unknown.
sub end
{
	my ($self, $acknowledged) = @_;
	my $order = $self->{cluster}{order};

	foreach my $txn (grep { $_->{known} ne 'refused' } @{ delete $self->{txns} || [] })
	{
		if (!$acknowledged) { $order->lost($txn); next; }
		$order->acknowledged($txn, $self->{cluster}{safe}, $self->{on}{ask} && $self->{on}{ask}{connection});
		$self->{cluster}{submitted}++;
	}
	$self->{finished} = 1;
	return;
}

sub on_error { my ($self) = @_; return $self->end(0) if $self->{txns}; }
sub on_lost { my ($self) = @_; return $self->end(0) if $self->{txns}; }

package Chaos::Submitter::Bulk;

use strict;
use warnings;

use Chaos::Order qw(shape);

our @ISA = ('Chaos::Submitter::Burst');

# One after the other: bursts, and transactions of a thousand submissions.
sub next_plan
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	my $rng = $self->{rng};

	return if $cluster->{budget} <= 0 || $cluster->{submitters_quiet};
	@{$self}{qw(txn txns finished)} = ();
	if ($rng->chance(0.6))
	{
		@{$self}{qw(count undone_each)} = (100 + $rng->below(1500), 3 + $rng->below(20));
		return $self->plan_burst;
	}
	my $n = 100 + $rng->below(1500);
	my $txn = $self->begin;

	$cluster->{order}->submission($txn, shape('bulk', 0), 30) foreach 1 .. $n;
	push @{ $self->{plan} }, ['SET synchronous_commit = on'], ['BEGIN'], $self->look_step($txn), $self->send_step("* FROM send_many($txn->{id}, 0, $n, 'bulk', 30)"),
	  ["INSERT INTO published (txn) VALUES ($txn->{id})"], $self->commit_step($txn, 'COMMIT', 1);
	return;
}

sub on_error
{
	my ($self) = @_;

	$self->end(0) if $self->{txns};
	return $self->refuse;
}

sub on_lost
{
	my ($self) = @_;

	$self->end(0) if $self->{txns};
	return Chaos::Submitter::on_lost($self);
}

1;
