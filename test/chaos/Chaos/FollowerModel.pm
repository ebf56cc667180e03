# At rest, of a run with followers: the source's log is the model's, the followers' are
# copies of it, what was done at each is what the model says, once, and what was
# acknowledged there is in the log, once.
package Chaos::FollowerModel;

use strict;
use warnings;

use Chaos::Checker qw(%checked);
use Chaos::Entry qw(@vshards ack_entry);
use Chaos::FollowerWork;
use Chaos::Loop qw(violation run_until);
use Exporter 'import';

our @EXPORT_OK = qw(check_all check_end @invariants %checked);

our @invariants = (
	'recovers', 'follows', 'log', 'acknowledged is not lost', 'each submission once', 'order of submissions', 'durable before delivered', 'nothing twice', 'nothing missing', 'order',
	'byte for byte', 'copy', 'replay', 'digest', 'acknowledgements', 'guard', 'positions', 'truncation', 'the state never goes back', 'counters', 'subscriptions', 'handlers',
	'nothing held when idle', 'no unexpected error', 'nothing crashed', 'nothing left behind');
$checked{$_} = 0 foreach 'acknowledgements', 'rows of followers', 'rows witnessed', 'effects of groups', 'completions';

sub check_all
{
	my ($cluster, $rng) = @_;
	my $model = $cluster->{model};
	my $before = $model->{last_index};
	my @acks = note_acks($cluster);

	Chaos::Checker::check_log($cluster);
	check_acks($cluster, $rng, @acks);
	check_witnessed($cluster);
	Chaos::Checker::check_delivered($cluster);
	check_effects($cluster, $_) foreach @{ $cluster->{followers} };
	check_followers($cluster);
	Chaos::Checker::check_state($cluster);
	Chaos::Checker::check_counters($cluster, $_) foreach @{ $cluster->{servers} };
	check_copies($cluster, $before);
	{
		local $cluster->{nodes} = $cluster->{servers};
		local $cluster->{truncated} = (sort { $b <=> $a } $cluster->{truncated}, map { $cluster->value($_, 'SELECT coalesce(max(last_applied_epoch) + 1, 0) FROM seq_snapshots WHERE base') } @{ $cluster->{followers} })[0];
		Chaos::Checker::check_replay($cluster, $rng);
		Chaos::Checker::check_crashes($cluster);
	}
	Chaos::Checker::check_idle($cluster, $_) foreach @{ $cluster->{nodes} };
	foreach my $follower (@{ $cluster->{followers} })
	{
		# which has the workers of a primary
		local $cluster->{primary} = $follower;
		Chaos::Checker::check_idle($cluster, $follower);
	}
	$cluster->{checked_epoch} = $model->last_epoch;
	$model->forget_contents;
	$cluster->{order}->forget;
	return;
}

# All that is to be in the log, before it is read.
sub note_acks
{
	my ($cluster) = @_;
	my (%known, @acks);

	foreach my $follower (@{ $cluster->{followers} })
	{
		$cluster->keep_acked($follower);
		$cluster->rows($follower, 'TRUNCATE acked');
	}
	foreach (@{ $cluster->{acked} })
	{
		my ($name, @key) = @$_;

		# another incarnation of the follower has got the message as well
		next if $known{"@key"}++;
		my $entry = $cluster->{model}->sent(ack_entry(@key));

		$entry->{known} = 'acked';
		push @acks, { entry => $entry, name => $name, key => \@key };
	}
	$cluster->{acked} = [];
	return @acks;
}

# Each is there, and seen as complete by everybody.
sub check_acks
{
	my ($cluster, $rng, @acks) = @_;

	foreach my $ack (@acks)
	{
		$checked{acknowledgements}++;
		violation('acknowledgements', "(@{ $ack->{key} }) (epoch, position, vshard) was acknowledged at $ack->{name}, committed there, and is not in the log") if !$ack->{entry}{log_index};
	}
	foreach my $ack (@acks ? map { $rng->any(@acks) } 1 .. 5 : ())
	{
		my ($epoch, $position, $vshard) = @{ $ack->{key} };

		foreach my $server (@{ $cluster->{servers} })
		{
			my $base = $cluster->value($server, 'SELECT coalesce(max(last_applied_epoch), -1) FROM seq_snapshots WHERE base');

			next if $epoch <= $base;
			violation('acknowledgements', "seq_completion($epoch, $position) at $server->{name} does not have vshard $vshard, which was acknowledged at $ack->{name}")
			  if $cluster->value($server, "SELECT $vshard = ANY (acked) FROM seq_completion($epoch, $position)") ne 't';
			$checked{completions}++;
		}
	}
	return;
}

# Whatever was in a follower's log at some time.
sub check_witnessed
{
	my ($cluster) = @_;

	foreach (@{ $cluster->{witnessed} })
	{
		my ($name, $index, $md5) = @$_;
		my $at = $cluster->{model}{at}{$index};

		$checked{'rows witnessed'}++;
		violation('durable before delivered', "$name had, at log_index $index, an entry of md5 $md5; the surviving log has " . ($at ? $at->{md5} // 'nothing' : 'nothing'))
		  if !$at || ($at->{md5} // '') ne $md5;
	}
	$cluster->{witnessed} = [];
	return;
}

# Where in a stream an epoch begins.
sub place_of
{
	my ($model, $vshard, $epoch) = @_;
	my $stream = $model->{streams}{$vshard};
	my @before = grep { /^(\d+)/ && $1 < $epoch } @{ $stream->{keys} };

	return $stream->{offset} + @before;
}

sub check_effects
{
	my ($cluster, $follower) = @_;
	my $model = $cluster->{model};
	my $name = $follower->{name};
	my @half = Chaos::FollowerWork::half($follower->{number});

	foreach my $of ([ 'stream d', 'effects', \@vshards, q{consumer = 'd'} ], map { [ "group $_", 'group_effects', \@half, "grp = '$_'" ] } qw(g h))
	{
		my ($who, $table, $vshards, $which) = @$of;
		my $at = $follower->{at}{$who} ||= { map { ($_ => place_of($model, $_, $follower->{from})) } @$vshards };

		foreach my $row ($cluster->rows($follower, "SELECT vshard, keys, md5, pid, n FROM $table WHERE $which ORDER BY n"))
		{
			my ($vshard, $keys, $md5, $pid, $n) = @$row;

			violation('filters', "$name, $who got something of vshard $vshard") if !defined $at->{$vshard};
			$at->{$vshard} = $model->check_next({ who => "the effect $n of $who at $name, pid $pid", vshard => $vshard, keys => $keys, md5 => $md5 }, $at->{$vshard});
			$checked{ $table eq 'effects' ? 'effects' : 'effects of groups' } += 1 + ($keys =~ tr/,//);
		}
		Chaos::Checker::check_complete($model, "the effects of $who at $name", $at);
	}
	my ($parked) = $cluster->rows($follower, 'SELECT name, reason FROM seq_parked LIMIT 1');

	violation('nothing missing', "$name: group $parked->[0] has parked something ($parked->[1])") if $parked;
	$cluster->rows($follower, 'TRUNCATE effects, group_effects');
	return;
}

# Their state, their handlers, and what the source knows of them.
sub check_followers
{
	my ($cluster) = @_;
	my $model = $cluster->{model};

	foreach my $follower (@{ $cluster->{followers} })
	{
		my ($row) = $cluster->rows($follower, 'SELECT last_applied_epoch, last_applied_index, digest, role, log_end FROM seq_state');
		my $expected = join '|', $model->last_epoch, $model->{last_index}, $model->{at}{ $model->{last_index} }{digest}, 'primary', $model->{last_index};
		my $got = join '|', map { $_ // -1 } @$row;

		violation('digest', "$follower->{name}: state $got; the model's is $expected") if $got ne $expected;
		run_until(
			sub {
				my $result = $follower->{ask}->ask(q{SELECT name || ' ' || state || ' ' || workers - cardinality(pids) FROM seq_handlers});
				return $result && !$result->{error} && !$result->{lost} && ($got = $result->{rows}[0][0] // '') eq 'h running 0';
			},
			sub { "the handler of $follower->{name}: $got" },
			30, 'handlers');
		my $source = $cluster->source_of($follower);
		my $id = $cluster->value($follower, 'SELECT id FROM seq_following');
		my $position = $cluster->value($source, "SELECT log_index FROM seq_followers WHERE id = '$id'");

		violation('positions', "$source->{name} has " . (defined $position ? "log_index $position" : 'no position') . " of $follower->{name}, whose log ends with $model->{last_index}")
		  if !defined $position || $position > $model->{last_index};
	}
	return;
}

my $ROW = q{log_index || ':' || md5(entry) || ':' || kind || ':' || coalesce(epoch, -1) || ':' || extract(epoch FROM appended_at)};

# All columns of the rows that are new, or of all.
sub check_copies
{
	my ($cluster, $behind) = @_;
	my ($first) = sort { $b <=> $a } map { $cluster->value($_, 'SELECT min(log_index) FROM seq_log') // $cluster->{model}{last_index} } @{ $cluster->{servers} };
	my $where = "log_index >= $first AND log_index > $behind";
	my %is = map { ($_->{name} => join '|', map { $_ // '' } map { @$_ } $cluster->rows($_, "SELECT count(*), md5(string_agg($ROW, ' ' ORDER BY log_index)) FROM seq_log WHERE $where")) } @{ $cluster->{servers} };
	my $primary = $cluster->{primary};

	foreach my $server (grep { $_ != $primary } @{ $cluster->{servers} })
	{
		my ($count) = $is{ $server->{name} } =~ /^(\d+)/;

		$checked{'rows of followers'} += $count if $server->{number};
		next if $is{ $server->{name} } eq $is{ $primary->{name} };
		my @rows = map { [ map { $_->[0] } $cluster->rows($_, "SELECT $ROW FROM seq_log WHERE $where ORDER BY log_index") ] } $primary, $server;

		my ($at) = grep { ($rows[0][$_] // '') ne ($rows[1][$_] // '') } 0 .. ($#{ $rows[0] } > $#{ $rows[1] } ? $#{ $rows[0] } : $#{ $rows[1] });
		violation('copy', "$server->{name} has " . ($rows[1][$at] // 'nothing') . " where $primary->{name} has " . ($rows[0][$at] // 'nothing'));
	}
	return;
}

# Every row once more, and what is left when everybody has gone.
sub check_end
{
	my ($cluster) = @_;

	check_copies($cluster, 0);
	Chaos::Checker::check_whole_log($cluster);
	$cluster->disperse;
	$cluster->rows($_, q{SELECT seq_unhandle('h'), seq_unfollow()}) foreach @{ $cluster->{followers} };
	local $cluster->{nodes} = $cluster->{servers};
	Chaos::Checker::check_leftovers($cluster);
	$cluster->{relay}->stop;
	return;
}

1;
