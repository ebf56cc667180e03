# Who works on the servers of a run with followers.
#
#   Chaos::SourceAppender	what is appended at the source beside submissions
#   Chaos::FollowerWorker	a stream of all vshards at a follower, by Chaos::Worker
#   Chaos::FollowerGroup	a group of half of the vshards, with acknowledgements
#   Chaos::Intruder			tries to append at a follower
#   Chaos::Witness			what has ever been in a follower's log
#
# Beside these there is a handler of the same half at each follower.  Effects, positions and
# acknowledgements are in one transaction: table "acked" has those whose transactions have
# committed, whatever has become of who called.
package Chaos::FollowerWork;

use strict;
use warnings;

use Chaos::Appender;
use Chaos::Consumer;
use Chaos::Entry qw(@vshards random_batch noop_entry ack_entry corrupt_entry);

# Acknowledgements that somebody makes at the source itself are of positions from here on.
our $FOREIGN = 100_000;

# What a follower owns: of its half the even ones are acknowledged by the group, the odd
# ones by the handler.
sub half { my ($number) = @_; return @vshards[ map { $_ + ($number - 1) * 4 } 0 .. 3 ]; }

our $SCHEMA = <<'EOS';
CREATE TABLE group_effects (n bigint GENERATED ALWAYS AS IDENTITY, grp text, vshard int, keys text, md5 text, pid int DEFAULT pg_backend_pid());
CREATE TABLE acked (epoch bigint, pos bigint, vshard int);
CREATE TABLE knobs (acks boolean, share float8);
INSERT INTO knobs VALUES (true, 0.1);
CREATE FUNCTION acknowledge(rs seq_txn[], grp text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	IF NOT (SELECT acks FROM knobs) THEN RETURN; END IF;
	WITH picked AS (
		INSERT INTO acked SELECT r.epoch, r."position", r.vshard FROM unnest(rs) r, knobs k
			WHERE (r.vshard = ANY (__EVEN__)) = (grp = 'g') AND random() < k.share
			RETURNING *)
	-- asked for twice it is no entry more
	SELECT count(seq_ack(epoch, pos, vshard)) INTO n FROM picked, generate_series(0, (random() < 0.1)::int);
END $$;
CREATE FUNCTION work(grp text, rs seq_txn[]) RETURNS SETOF group_effects LANGUAGE plpgsql AS $$
BEGIN
	PERFORM acknowledge(rs, grp);
	RETURN QUERY INSERT INTO group_effects (grp, vshard, keys, md5)
		SELECT work.grp, m.vshard, string_agg(m.epoch || '.' || m."position", ',' ORDER BY i),
				md5(string_agg(format('%s.%s/%s/%s/%s/%s/%s', m.epoch, m."position", m.epoch_system_ms, m.tenant_id, m.participating_vshards, m.plans, m.tx_class), '|' ORDER BY i))
			FROM unnest(rs) WITH ORDINALITY AS m (vshard, epoch, "position", epoch_system_ms, tenant_id, participating_vshards, plans, tx_class, i)
			GROUP BY m.vshard ORDER BY m.vshard
		RETURNING *;
END $$;
CREATE FUNCTION fetch_group(grp text, max int, wait interval, OUT vshard int, OUT keys text, OUT md5 text) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	rs seq_txn[] := ARRAY(SELECT f FROM seq_fetch(grp, max, wait) f);
BEGIN
	RETURN QUERY SELECT w.vshard, w.keys, w.md5 FROM work(grp, rs) w;
END $$;
CREATE FUNCTION handle(rs seq_txn[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM work('h', rs);
	IF random() < 0.03 THEN RAISE 'planned'; END IF;
END $$;
EOS

# All that a follower has, before the log comes.
sub schema
{
	my ($number) = @_;
	my $even = "'{" . join(',', (half($number))[ 0, 2 ]) . "}'";

	return ($Chaos::Consumer::SCHEMA, $SCHEMA =~ s/__EVEN__/$even/gr);
}

# Consumers that begin with an epoch.
sub making
{
	my ($number, $from) = @_;
	my ($all, $half) = map { "'{" . join(',', @$_) . "}'" } [@vshards], [ half($number) ];

	return (
		"SELECT seq_register('d', $all, $from)",
		"SELECT seq_create_group('g', 3, $half, NULL, $from), seq_create_group('h', 2, $half, NULL, $from)",
		"SELECT seq_handle('h', 'handle(seq_txn[])', 2, 1000000, 100, '10 ms')");
}

package Chaos::SourceAppender;

use strict;
use warnings;

use Chaos::Entry qw(@vshards random_batch noop_entry ack_entry corrupt_entry);

our @ISA = ('Chaos::Appender');

# What seq_append would not let in, holes, and acknowledgements.
sub plan_odd
{
	my ($self, $epoch) = @_;
	my $rng = $self->{rng};
	my $kind = $rng->any(qw(noop ack corrupt stale gap explicit refused));
	my @entry = (
		noop => sub { noop_entry() },
		ack => sub { ack_entry($rng->below($epoch + 2), $Chaos::FollowerWork::FOREIGN + $rng->below(1000), $rng->any(@vshards)) },
		corrupt => sub { corrupt_entry($rng, $epoch) },
		stale => sub { random_batch($rng, $rng->below($epoch + 1), 1 + $rng->below(20)) },
		gap => sub { random_batch($rng, $epoch + 1 + $rng->below(3), 1 + $rng->below(20)) },
		explicit => sub { random_batch($rng, $epoch, 1 + $rng->below(20)) },
		refused => sub { random_batch($rng, $rng->below($epoch + 1), 3) });
	my $entry = {@entry}->{$kind}->();
	my $hex = Chaos::Appender::hex_of($entry);
	my $place = $kind eq 'explicit' ? '(SELECT max(log_index) FROM seq_log) + ' . (1 + $rng->below(4)) : '';
	my $sql = $kind eq 'refused' ? "SELECT seq_append($hex)" : $place ? "INSERT INTO seq_log (log_index, entry) VALUES ($place, $hex) RETURNING log_index" : "INSERT INTO seq_log (entry) VALUES ($hex) RETURNING log_index";

	$self->sending($entry);
	push @{ $self->{plan} }, $self->append_step($entry, $sql, sub { $self->acknowledge($_[0], 1) }), $rng->real(0.1);
	return;
}

package Chaos::FollowerWorker;

use strict;
use warnings;

use Chaos::Consumer;

our @ISA = ('Chaos::Worker');

# It may be made anew, and the log has to come first.
sub may_fail { my ($self, $state, $message) = @_; return $self->{node}{anew} || $self->SUPER::may_fail($state, $message); }
sub next_plan { my ($self) = @_; return if $self->{node}{paused}; return $self->SUPER::next_plan; }

package Chaos::FollowerGroup;

use strict;
use warnings;

our @ISA = ('Chaos::Consumer');

sub may_fail
{
	my ($self, $state, $message) = @_;

	return $self->{node}{anew} || $state =~ /^(?:55000|40001|40P01|55P03|22012|25P02)$/ && $message !~ /^the position of partition|is lost|truncated/;
}

sub fetch_step
{
	my ($self, $max, $wait) = @_;

	return [ "SELECT * FROM fetch_group('g', $max, '$wait')", sub { $self->{got} += $self->seen($_[0]) } ];
}

sub seen
{
	my ($self, $result) = @_;
	my @chunks = $self->SUPER::seen($result);

	$_->{holes} = 1 foreach @chunks;
	return scalar @chunks;
}

sub next_plan
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	my $rng = $self->{rng};

	return if $self->{node}{paused};
	return $self->drain if $cluster->{draining};
	return if $cluster->{quiet};
	my $mode = $rng->any(qw(on on off));
	my @steps = ([ 'BEGIN' . $rng->any('', '', ' ISOLATION LEVEL REPEATABLE READ') ], ["SET LOCAL synchronous_commit = $mode"]);

	foreach (1 .. 1 + $rng->below(2))
	{
		my $undone = $rng->chance(0.2);

		push @steps, ['SAVEPOINT s'] if $undone;
		push @steps, $self->fetch_step($rng->any(1, 10, 100, 500), $rng->any('0', '20 ms'));
		push @steps, ['ROLLBACK TO s'] if $undone;
	}
	# with acknowledgements that are not committed yet
	push @steps, $rng->real(0.1) if $rng->chance(0.2);
	push @{ $self->{plan} }, @steps, [ $rng->any(qw(COMMIT COMMIT COMMIT COMMIT ROLLBACK)) ], $rng->real(0.05);
	return;
}

# The leader fetches what is left, and waits for the handler.
sub drain
{
	my ($self) = @_;

	return if !$self->{leader} || $self->{current};
	$self->{got} = 0;
	push @{ $self->{plan} }, $self->fetch_step(5000, '0'),
	  [
		q{SELECT sum(seq_pending(name)), string_agg(name || ' ' || seq_pending(name), ', ') FROM seq_registrations WHERE kind = 'group'},
		sub {
			my ($result) = @_;

			return if $result->{error};
			$self->{pending} = $result->{rows}[0][1];
			$self->drained($self->{got} == 0 && $result->{rows}[0][0] == 0);
		}
	  ],
	  0.02;
	return;
}

sub describe { my ($self) = @_; return $self->SUPER::describe . ', pending ' . ($self->{pending} // '?'); }

package Chaos::Intruder;

use strict;
use warnings;

use Chaos::Entry qw(random_batch noop_entry);
use Chaos::Loop qw(violation);

our @ISA = ('Chaos::Actor');

sub may_fail { my ($self, $state) = @_; return $self->{node}{anew} || $state =~ /^(?:25006|55000|55P03|40P01)$/; }

# Never while the log is a follower's: {open} says when it may not be one.
sub next_plan
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	my $rng = $self->{rng};
	my $node = $self->{node};

	return if $cluster->{quiet} || $node->{paused} || $node->{open} || $node->{anew};
	my $hex = Chaos::Appender::hex_of($rng->chance(0.5) ? noop_entry() : random_batch($rng, 1_000_000, 1));
	my $sql = $rng->any(
		"SELECT seq_append($hex, true)",
		q{SELECT seq_send('intruder', '{}')},
		q{SELECT seq_submit('{"write_set": [{"Document": {"collection": "intruder", "surrogates": [1]}}], "plans": "", "tenant_id": 0}')},
		"INSERT INTO seq_log (entry) VALUES ($hex)",
		"INSERT INTO seq_log (log_index, entry) SELECT max(log_index) + 1, $hex FROM seq_log");

	push @{ $self->{plan} },
	  [
		$sql,
		sub {
			my ($result) = @_;

			violation('guard', "$self->{name}: this raised no error at $node->{name}, which follows another server: " . substr $sql, 0, 200) if !$result->{error};
			$cluster->{count}{'refused at followers'}++ if $result->{error}{state} eq '25006';
		}
	  ],
	  $rng->real(0.2);
	return;
}

package Chaos::Witness;

use strict;
use warnings;

our @ISA = ('Chaos::Actor');

sub may_fail { my ($self, $state) = @_; return $self->{node}{anew} || $state =~ /^(?:55000|40001|40P01)$/; }
sub is_idle { return 1; }

# Whatever was there once has to be in the surviving log.
sub next_plan
{
	my ($self) = @_;
	my $node = $self->{node};

	return if $node->{paused} || $node->{anew};
	push @{ $self->{plan} }, [
		'SELECT log_index, md5(entry) FROM seq_log ORDER BY log_index DESC LIMIT 3',
		sub {
			my ($result) = @_;

			push @{ $self->{cluster}{witnessed} }, [ $node->{name}, @$_ ] foreach $result->{error} ? () : @{ $result->{rows} };
		}
	  ],
	  0.04;
	return;
}

1;
