# Those who fetch for groups, and what is done to groups meanwhile.
#
#   Chaos::PoolWorker   workers behind a pooler: each transaction on any connection
#   Chaos::Operator     deals with what is parked, and parks what is to come
#   Chaos::Maker        makes a group, and drops it, again and again
#   Chaos::Keeper       ends handlers and begins them
#   Chaos::Gauge        how far behind groups are, so that appenders wait for them
#   Chaos::Tailer       reads the log before retention removes it
#
# The effects of a group are in one table, in the transaction of the fetch, with what
# became of each message: processed (''), parked, retried, dropped.
package Chaos::Groups;

use strict;
use warnings;

use Chaos::Consumer;
use Chaos::Entry qw(@vshards @collections);

our @ISA = ('Chaos::Consumer');

my ($first, $second, $third, $fourth, $fifth) = @vshards[ 0, 1, 4, 6, 7 ];

# What of these groups nobody else makes.  "g" gets all, "f" what passes its filter:
# of the first vshards what is not their first collection's; the other two have
# handlers, for an array of messages and for one.
our %groups = (
	g => { partitions => 4, vshards => [@vshards] },
	f => { partitions => 5, vshards => undef, collections => [ 'd', 'twin%' ] },
	ha => { partitions => 3, vshards => [ $first, $second, $third ], handler => 'handle_batch(seq_txn[])' },
	hs => { partitions => 2, vshards => [ $fourth, $fifth ], collections => ['g'], handler => 'handle_each(seq_txn)' });

our $MAX_ATTEMPTS = 3;

# What is planned for a message, by a number below this that is made of its key: it
# fails always, as soon as it is called; at the end; by being cancelled; by ending the
# worker; and others at times, two of three calls.
our %unlucky = (ha => 40_000, hs => 16_000);
our @PLANS = (('always') x 4, ('late') x 4, ('cancelled') x 4, 'ends the worker', ('at times') x 19);

our $SCHEMA = <<'EOS';
CREATE TABLE group_effects (n bigint GENERATED ALWAYS AS IDENTITY, grp text, vshard int, keys text, md5 text, how text DEFAULT '',
	reason text, pid int DEFAULT pg_backend_pid(), before bigint DEFAULT -1, isolation text DEFAULT current_setting('transaction_isolation'));
CREATE INDEX ON group_effects (grp, vshard, n) WHERE how = '';
CREATE FUNCTION key_of(r seq_txn) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT r.epoch || '.' || r."position" $$;
-- "before": the last one of the vshard that this transaction sees
CREATE FUNCTION fetch_group(grp text, max int, wait interval, OUT vshard int, OUT keys text, OUT md5 text) RETURNS SETOF record LANGUAGE sql AS $$
	WITH m AS MATERIALIZED (SELECT row_number() OVER () AS i, f.* FROM seq_fetch(grp, max, wait) f)
	INSERT INTO group_effects (grp, vshard, keys, md5, before)
		SELECT fetch_group.grp, m.vshard, string_agg(m.epoch || '.' || m."position", ',' ORDER BY i),
				md5(string_agg(format('%s.%s/%s/%s/%s/%s/%s', m.epoch, m."position", m.epoch_system_ms, m.tenant_id, m.participating_vshards, m.plans, m.tx_class), '|' ORDER BY i)),
				coalesce((SELECT max(e.n) FROM group_effects e WHERE e.grp = fetch_group.grp AND e.vshard = m.vshard AND e.how = ''), 0)
			FROM m GROUP BY m.vshard ORDER BY m.vshard
		RETURNING group_effects.vshard, group_effects.keys, group_effects.md5
$$;
-- the effects of messages, in their order
CREATE FUNCTION group_effect(grp text, rs seq_txn[]) RETURNS SETOF group_effects LANGUAGE sql AS $$
	INSERT INTO group_effects (grp, vshard, keys, md5)
		SELECT group_effect.grp, m.vshard, string_agg(m.epoch || '.' || m."position", ',' ORDER BY i),
				md5(string_agg(format('%s.%s/%s/%s/%s/%s/%s', m.epoch, m."position", m.epoch_system_ms, m.tenant_id, m.participating_vshards, m.plans, m.tx_class), '|' ORDER BY i))
			FROM unnest(rs) WITH ORDINALITY AS m (vshard, epoch, "position", epoch_system_ms, tenant_id, participating_vshards, plans, tx_class, i)
			GROUP BY m.vshard ORDER BY m.vshard
		RETURNING *
$$;
-- one of those fetched is parked, in the same transaction
CREATE FUNCTION fetch_and_park(grp text, max int, nth int, reason text, OUT vshard int, OUT keys text, OUT md5 text) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	rs seq_txn[] := ARRAY(SELECT f FROM seq_fetch(grp, max) f);
	r seq_txn := rs[1 + nth % greatest(cardinality(rs), 1)];
BEGIN
	IF cardinality(rs) = 0 THEN RETURN; END IF;
	PERFORM park(grp, r.vshard, r.epoch, r."position", reason);
	RETURN QUERY SELECT e.vshard, e.keys, e.md5 FROM group_effect(grp, ARRAY(SELECT u FROM unnest(rs) u WHERE (u.vshard, u.epoch, u."position") <> (r.vshard, r.epoch, r."position"))) e;
END $$;
CREATE FUNCTION park(grp text, vshard int, epoch bigint, pos int, reason text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM seq_park(grp, vshard, epoch, pos, reason);
	INSERT INTO group_effects (grp, vshard, keys, how, reason) VALUES (grp, vshard, epoch || '.' || pos, 'parked', reason);
END $$;
-- the last message of a vshard in an epoch
CREATE FUNCTION park_ahead(grp text, which int, ahead int, reason text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	e bigint := greatest(seq_last_applied_epoch() - ahead, 0);
	r seq_txn;
BEGIN
	SELECT t.* INTO r FROM seq_replay(which, e, e) t ORDER BY t."position" DESC LIMIT 1;
	IF FOUND THEN PERFORM park(grp, which, r.epoch, r."position", reason); END IF;
END $$;
CREATE FUNCTION settle(grp text, vshard int, epoch bigint, pos int, how text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	r seq_txn;
BEGIN
	IF how = 'dropped' THEN
		PERFORM seq_drop_parked(grp, vshard, epoch, pos);
	ELSE
		r := seq_retry(grp, vshard, epoch, pos);
	END IF;
	INSERT INTO group_effects (grp, vshard, keys, md5, how) VALUES (grp, vshard, epoch || '.' || pos, md5(shown(r)), how);
END $$;
-- a group of this name comes and goes: which one it was is known after it has been fetched for
CREATE FUNCTION fetch_made(max int, wait interval, OUT vshard int, OUT keys text, OUT md5 text) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	rs seq_txn[];
	grp text;
BEGIN
	IF NOT EXISTS (SELECT FROM seq_registrations WHERE name = 'e') THEN RETURN; END IF;
	rs := ARRAY(SELECT f FROM seq_fetch('e', max, wait) f);
	SELECT 'e.' || id INTO STRICT grp FROM seq_registrations WHERE name = 'e';
	RETURN QUERY SELECT e.vshard, e.keys, e.md5 FROM group_effect(grp, rs) e;
END $$;
-- handlers
CREATE SEQUENCE handler_calls;
CREATE TABLE late_failures (key text);
CREATE FUNCTION fail_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'planned: late'; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late_failures DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail_late();
CREATE FUNCTION luck(grp text, vshard int, epoch bigint, pos int, of int) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
	SELECT ('x' || substr(md5(format('%s/%s/%s.%s', grp, vshard, epoch, pos)), 1, 8))::bit(32)::bigint % of
$$;
CREATE FUNCTION misbehave(plan bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	CASE (ARRAY['__PLANS__'])[plan + 1]
		WHEN 'always' THEN RAISE 'planned: always';
		WHEN 'late' THEN INSERT INTO late_failures VALUES (plan);
		WHEN 'cancelled' THEN PERFORM pg_cancel_backend(pg_backend_pid()), pg_sleep(10);
		WHEN 'ends the worker' THEN PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(10);
		ELSE IF nextval('handler_calls') % 3 <> 0 THEN RAISE 'planned: at times'; END IF;
	END CASE;
END $$;
CREATE FUNCTION handle_batch(rs seq_txn[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM group_effect('ha', rs);
	PERFORM misbehave(l) FROM unnest(rs) r, luck('ha', r.vshard, r.epoch, r."position", __HA__) l WHERE l < __N__;
END $$;
CREATE FUNCTION handle_each(r seq_txn) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	plan bigint := luck('hs', r.vshard, r.epoch, r."position", __HS__);
BEGIN
	INSERT INTO group_effects (grp, vshard, keys, md5) VALUES ('hs', r.vshard, key_of(r), md5(shown(r)));
	IF plan < __N__ THEN PERFORM misbehave(plan); END IF;
END $$;
EOS
my %constants = (HA => $unlucky{ha}, HS => $unlucky{hs}, N => scalar @PLANS, PLANS => join("','", @PLANS));
$SCHEMA =~ s/__(\w+?)__/$constants{$1}/g;

sub array_or_null { my ($list) = @_; return $list ? "'{" . join(',', @$list) . "}'" : 'null'; }

# What makes the groups, each one a statement.
sub making
{
	return map {
		my $group = $groups{$_};

		"SELECT seq_create_group('$_', $group->{partitions}, " . array_or_null($group->{vshards}) . ', ' . array_or_null($group->{collections}) . ', 0)',
		  $group->{handler} ? handling($_, 2, 100) : ()
	} sort keys %groups;
}

sub handling
{
	my ($name, $workers, $batch) = @_;

	return "SELECT seq_handle('$name', '$groups{$name}{handler}', $workers, $MAX_ATTEMPTS, $batch, '10 ms')";
}

# Does a message that has written these collections of a vshard pass?
sub passes
{
	my ($group, $written) = @_;
	my $filters = $group->{collections} or return 1;

	foreach my $name (@{ $written || [] })
	{
		foreach my $filter (@$filters)
		{
			return 1 if $filter eq $name || $filter =~ /^(.*)%\z/ && index($name, $1) == 0;
		}
	}
	return 0;
}

# Deadlocks and conflicts; a lock_timeout; a group that is not there; something that is
# parked, processed, or dealt with by another one meanwhile; no applier yet.  Never what
# says that the partition was another one's at the same time, or that something is gone.
sub may_fail
{
	my ($self, $state, $message) = @_;

	return $state =~ /^(?:55000|40001|40P01|55P03|42704|42710|25006|25P02|22012|3B001)$/
	  && $message !~ /^the position of partition|is lost|truncated/;
}

sub seen
{
	my ($self, $result) = @_;
	my @chunks = $self->SUPER::seen($result);

	$_->{holes} = 1 foreach @chunks;
	return @chunks;
}

package Chaos::PoolWorker;

use strict;
use warnings;

our @ISA = ('Chaos::Groups');

sub next_plan
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	my $rng = $self->{rng};

	return $self->drain if $cluster->{draining};
	return if $cluster->{quiet};
	# another connection from here on, one of the pool's or a new one
	if (!delete $self->{changed} && $rng->chance(0.7))
	{
		$self->{changed} = 1;
		return $rng->chance(0.08) ? $self->{connection}->quit : $self->swap;
	}
	return $self->plan_transaction;
}

# Each transaction on the connection that the pooler gives.
sub swap
{
	my ($self) = @_;
	my @others = grep { $_ != $self && $_->is_connected && $_->{on} == $self->{on} && $_->{connection}->ready && !@{ $_->{plan} } } @{ $self->{cluster}{pool} };
	my $other = @others ? $self->{rng}->any(@others) : return;

	$self->{connection}{on_done} = sub { $other->done($_[1]) };
	$other->{connection}{on_done} = sub { $self->done($_[1]) };
	($self->{connection}, $other->{connection}) = ($other->{connection}, $self->{connection});
	return;
}

# Groups that are held up: {paused}, a hash.
sub some_group
{
	my ($self) = @_;
	my $paused = $self->{cluster}{paused_groups} || {};
	my @groups = grep { !$paused->{$_} } qw(g g f e);

	return @groups ? $self->{rng}->any(@groups) : undef;
}

sub fetch_step
{
	my ($self, $group, $max, $wait) = @_;

	return [
		$group eq 'e' ? "SELECT * FROM fetch_made($max, '$wait')" : "SELECT * FROM fetch_group('$group', $max, '$wait')",
		sub { @{ $self->{got} } = $self->seen($_[0]) }
	];
}

sub some_max { my ($self) = @_; return $self->{rng}->any(1, 2, 10, 100, 500, 1000, 1000, 3000); }

# Parks one of those that were fetched last, and rolled back.
sub park_step
{
	my ($self, $group) = @_;
	my $rng = $self->{rng};

	return [
		sub {
			$self->{key} = undef;
			my $chunk = @{ $self->{got} } ? $rng->any(@{ $self->{got} }) : return 'SELECT 1';
			my ($epoch, $position) = split /\./, $rng->any(split /,/, $chunk->{keys});

			$self->{key} = "$chunk->{vshard}, $epoch, $position";
			return "SELECT park('$group', $self->{key}, 'of $self->{name}')";
		}
	];
}

# And deals with it at once: the group is still to pass over it.
sub settle_step
{
	my ($self, $group) = @_;
	my $how = $self->{rng}->any(qw(retried dropped));

	return [ sub { return $self->{key} ? "SELECT settle('$group', $self->{key}, '$how')" : 'SELECT 1'; } ];
}

sub plan_transaction
{
	my ($self) = @_;
	my $rng = $self->{rng};
	my $group = $self->some_group;
	my $made = ($group // '') eq 'e';
	my @steps;

	if (!defined $group) { push @{ $self->{plan} }, 0.05; return; }
	$self->{got} = [];
	# a statement that is a transaction by itself
	if ($rng->chance(0.25))
	{
		push @{ $self->{plan} }, $self->fetch_step($group, $self->some_max, $rng->any('0', '20 ms', '200 ms'));
		return;
	}
	push @steps, [ 'BEGIN' . ($made ? '' : $rng->any('', '', '', ' ISOLATION LEVEL REPEATABLE READ', ' ISOLATION LEVEL SERIALIZABLE')) ];
	push @steps, ["SET LOCAL lock_timeout = '20 ms'"] if $rng->chance(0.1);
	# the snapshot is older than what others commit meanwhile
	push @steps, ['SELECT 1 FROM group_effects LIMIT 1'], $rng->real(0.05) if $rng->chance(0.1);
	foreach (1 .. 1 + $rng->below(3)) { push @steps, $self->part($group); }
	push @steps, $rng->real($rng->chance(0.1) ? 0.4 : 0.03) if $rng->chance(0.25);
	if ($rng->chance(0.04)) { push @steps, [ 'SELECT 1', sub { $self->vanish } ]; }
	elsif ($rng->chance(0.85)) { push @steps, ['COMMIT']; }
	else { push @steps, [ $rng->chance(0.3) ? 'SELECT 1/0' : 'ROLLBACK' ], $rng->chance(0.3) && !$made ? $self->park_step($group) : (); }
	push @{ $self->{plan} }, @steps;
	return;
}

# One fetch, within a savepoint or not.
sub part
{
	my ($self, $group) = @_;
	my $rng = $self->{rng};
	my $fetch = sub { return $self->fetch_step($group, $self->some_max, '0'); };
	my $kind = $rng->any(qw(plain plain plain undone undone kept nested), $group eq 'e' ? 'plain' : qw(parks undone_parks));

	return $fetch->() if $kind eq 'plain';
	return (['SAVEPOINT s'], $fetch->(), ['RELEASE s']) if $kind eq 'kept';
	# what is taken back so comes again, to this one too
	return (['SAVEPOINT s'], $fetch->(), ['ROLLBACK TO s'], $rng->chance(0.3) ? $rng->real(0.03) : (), $rng->chance(0.5) ? $fetch->() : ()) if $kind eq 'undone';
	return ([ "SELECT * FROM fetch_and_park('$group', " . $self->some_max . ', ' . $rng->below(1000) . ", 'fetched by $self->{name}')", sub { $self->seen($_[0]) } ]) if $kind eq 'parks';
	return (['SAVEPOINT s'], $fetch->(), ['ROLLBACK TO s'], $self->park_step($group), $rng->chance(0.4) ? $self->settle_step($group) : (), $rng->chance(0.7) ? $fetch->() : ()) if $kind eq 'undone_parks';
	return (
		['SAVEPOINT s'], $fetch->(), ['SAVEPOINT t'], $fetch->(), [ $rng->any('ROLLBACK TO t', 'RELEASE t') ],
		$rng->chance(0.5) ? $fetch->() : (), [ $rng->any('ROLLBACK TO s', 'RELEASE s') ]);
}

# The leader fetches what is left, and waits for the handlers.
sub drain
{
	my ($self) = @_;
	my $n = 0;

	return if !$self->{leader} || $self->{current};
	push @{ $self->{plan} }, (map { my $step = $self->fetch_step($_, 5000, '0'); [ $step->[0], sub { $step->[1]->($_[0]); $n += @{ $self->{got} }; } ] } qw(g f e)),
	  [
		q{SELECT coalesce(sum(seq_pending(name)), 0), string_agg(name || ' ' || seq_pending(name), ', ') FROM seq_registrations WHERE kind = 'group'},
		sub {
			my ($result) = @_;

			return if $result->{error};
			($n, $self->{pending}) = ($n + $result->{rows}[0][0], $result->{rows}[0][1]);
			$self->drained($n == 0);
		}
	  ],
	  0.02;
	return;
}

sub describe { my ($self) = @_; return $self->SUPER::describe . ', pending ' . ($self->{pending} // '?'); }

package Chaos::Operator;

use strict;
use warnings;

our @ISA = ('Chaos::Groups');

# It looks at epochs that everybody has processed.
sub may_fail { my ($self, $state, $message) = @_; return $message =~ /truncated/ || $self->SUPER::may_fail($state, $message); }

sub next_plan
{
	my ($self) = @_;
	my $rng = $self->{rng};

	return if $self->{cluster}{quiet};
	return $self->park_ahead if $rng->chance(0.3);
	push @{ $self->{plan} },
	  [
		'SELECT name, vshard, epoch, position FROM seq_parked ORDER BY name, epoch, position, vshard OFFSET ' . $rng->below(30) . ' LIMIT 1',
		sub { $self->settle(@{ $_[0]{rows}[0] }) if !$_[0]{error} && @{ $_[0]{rows} }; }
	  ],
	  $rng->real(0.2);
	return;
}

sub park_ahead
{
	my ($self) = @_;
	my $rng = $self->{rng};
	my $group = $rng->any(qw(g f));

	push @{ $self->{plan} }, [ "SELECT park_ahead('$group', " . $rng->any(@Chaos::Entry::vshards) . ', ' . $rng->below(2) . ", 'of the operator, ahead')" ], $rng->real(0.1);
	return;
}

# Retried or dropped, perhaps after a first time that was rolled back.
sub settle
{
	my ($self, $name, $vshard, $epoch, $position) = @_;
	my $rng = $self->{rng};
	my $sql = sub { return [ "SELECT settle('$name', $vshard, $epoch, $position, '" . $rng->any(qw(retried dropped)) . "')" ]; };
	my @steps = (['BEGIN']);

	push @steps, ['SAVEPOINT s'], $sql->(), ['ROLLBACK TO s'] if $rng->chance(0.3);
	push @steps, $sql->();
	push @steps, $rng->real(0.05) if $rng->chance(0.3);
	push @steps, [ $rng->chance(0.8) ? 'COMMIT' : 'ROLLBACK' ];
	unshift @{ $self->{plan} }, @steps;
	return;
}

package Chaos::Maker;

use strict;
use warnings;

our @ISA = ('Chaos::Groups');

sub may_fail { my ($self, $state, $message) = @_; return $state eq '22023' || $self->SUPER::may_fail($state, $message); }

# {made}: by id, "low" the last epoch that it must not get, "high" the last one that it
# need not get.
sub next_plan
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	my $rng = $self->{rng};

	return if $cluster->{quiet};
	push @{ $self->{plan} },
	  [
		'SELECT coalesce(seq_current_committed_epoch(), -1), (SELECT count(*) FROM seq_registrations WHERE name = ' . "'e')",
		sub { $self->plan_one(@{ $_[0]{rows}[0] }) if !$_[0]{error}; }
	  ],
	  $rng->real(1);
	return;
}

sub plan_one
{
	my ($self, $low, $exists) = @_;
	my $cluster = $self->{cluster};
	my $rng = $self->{rng};
	my $from = $rng->chance(0.5) ? undef : $low - $rng->below(3);
	my $high;

	$from = $cluster->{checked_epoch} + 1 if defined $from && $from <= $cluster->{checked_epoch};
	$from = undef if defined $from && $from > $low;
	$low = $high = $from - 1 if defined $from;
	my $create = [ "SELECT seq_create_group('e', " . $rng->any(1, 3, 8) . ", '{" . join(',', @Chaos::Entry::vshards) . "}', null, " . ($from // 'null') . ')' ];
	my @steps;

	if ($exists && $rng->chance(0.5)) { @steps = (["SELECT seq_drop_group('e')"]); }
	elsif ($rng->chance(0.2)) { @steps = (['BEGIN'], $exists ? ["SELECT seq_drop_group('e')"] : (), $create, $rng->real(0.05), ['ROLLBACK']); }
	else
	{
		@steps = (['BEGIN'], $exists ? ["SELECT seq_drop_group('e')"] : (), $create, $rng->real(0.03), ['COMMIT'],
			[
				q{SELECT seq_current_committed_epoch(), id FROM seq_registrations WHERE name = 'e'},
				sub {
					my ($result) = @_;

					$cluster->{groups}{made}{ $result->{rows}[0][1] } = { low => $low, high => $high // $result->{rows}[0][0] // -1 } if !$result->{error} && @{ $result->{rows} };
				}
			]);
	}
	unshift @{ $self->{plan} }, @steps;
	return;
}

package Chaos::Keeper;

use strict;
use warnings;

our @ISA = ('Chaos::Groups');

sub next_plan
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	my $rng = $self->{rng};

	return $self->begin_all if $cluster->{draining};
	return if $cluster->{quiet};
	push @{ $self->{plan} }, 0.3 + $rng->real(2), $self->change($rng->any(qw(ha hs)));
	push @{ $self->{plan} }, $rng->real(0.3), $self->change($rng->any(qw(ha hs))) if $rng->chance(0.5);
	return;
}

sub handle { my ($self, $name) = @_; my $rng = $self->{rng}; return Chaos::Groups::handling($name, 1 + $rng->below(2), $rng->any(1, 10, 100, 500)); }

sub change
{
	my ($self, $name) = @_;
	my $sql = $self->{rng}->chance(0.5) ? "SELECT seq_unhandle('$name')" : $self->handle($name);

	return [ sub { return $self->{cluster}{paused_groups}{$name} ? 'SELECT 1' : $sql; } ];
}

# Those that are there stay as they are.
sub begin_all
{
	my ($self) = @_;

	return if $self->{current};
	push @{ $self->{plan} },
	  [
		'SELECT name FROM seq_handlers',
		sub {
			my ($result) = @_;
			my %there = map { ($_->[0] => 1) } $result->{error} ? return : @{ $result->{rows} };
			my @missing = grep { !$there{$_} } qw(ha hs);

			$self->{current} = !@missing;
			unshift @{ $self->{plan} }, map { [ $self->handle($_) ] } @missing;
		}
	  ];
	return;
}

package Chaos::Gauge;

use strict;
use warnings;

our @ISA = ('Chaos::Groups');

# Appenders append nothing while more than this waits, so that a round has an end.
our $MOST = 3000;

sub is_idle { return 1; }
sub on_lost { my ($self) = @_; $self->{cluster}{backlog} = 0; return; }

sub next_plan
{
	my ($self) = @_;
	my $cluster = $self->{cluster};

	push @{ $self->{plan} },
	  [
		q{SELECT name, seq_pending(name) FROM seq_registrations WHERE kind = 'group' AND name <> 'e'},
		sub {
			my ($result) = @_;

			$cluster->{backlog} = 0;
			$cluster->{backlog} += $_->[1] foreach grep { !$cluster->{paused_groups}{ $_->[0] } } @{ $result->{rows} };
		}
	  ],
	  0.4;
	return;
}

package Chaos::Tailer;

use strict;
use warnings;

our @ISA = ('Chaos::Groups');

# Reads what comes while retention is on, which may remove it.
sub on_connect { my ($self) = @_; $self->{last} = undef; return; }

sub is_idle { return 1; }

sub next_plan
{
	my ($self) = @_;
	my $cluster = $self->{cluster};

	$self->{last} = undef if !$cluster->{tailing};
	return if !$cluster->{tailing};
	my ($after) = sort { $b <=> $a } $self->{last} // 0, $cluster->{model}{last_index};

	push @{ $self->{plan} },
	  [
		"SELECT $cluster->{log_columns} FROM seq_log WHERE log_index > $after ORDER BY 1 LIMIT 20000",
		sub {
			my ($result) = @_;

			return if $result->{error} || !@{ $result->{rows} };
			$cluster->{stash}{ $_->[0] } = $_ foreach @{ $result->{rows} };
			$self->{last} = $result->{rows}[-1][0];
		}
	  ],
	  0.05;
	return;
}

1;
