# What must have become of every message of every group: processed, once and in the
# order of its vshard, or set aside for a reason that somebody had.
#
# All of them are through whenever this looks, so what has come to a group since the
# last time is what the model's streams have.  What was parked then, and was not dealt
# with yet, is kept: {parked}, by group and "vshard key".
package Chaos::GroupModel;

use strict;
use warnings;

use Chaos::Entry qw(@vshards);
use Chaos::Groups;
use Chaos::Loop qw(violation run_until);
use Digest::MD5 qw(md5_hex);

# Why something may have been parked which nobody planned: what was done to workers and
# servers.
my $INJURY = qr/^(?:the worker that ran the handler ended in it|canceling statement due to user request|terminating \S.* due to administrator command)$/;

# And what else handlers may have met.
our $HANDLER_ERROR = qr/$INJURY|^(?:planned: \w|the worker ended, see the server log|deadlock detected|could not serialize access)/;

my %reason = (
	always => qr/^planned: always$/,
	late => qr/^planned: late$/,
	cancelled => qr/^canceling statement due to user request$/,
	'ends the worker' => qr/^the worker that ran the handler ended in it$/,
	'at times' => qr/^planned: at times$/);

sub new { my ($class) = @_; return bless { parked => {}, made => {}, at => {}, count => {} }, $class; }

# A copy, for a database that was restored.
sub copy
{
	my ($self) = @_;

	return bless { parked => { map { ($_ => { %{ $self->{parked}{$_} } }) } keys %{ $self->{parked} } }, at => {}, count => {}, restored => 1 }, ref $self;
}

our $EFFECTS = q{SELECT n, grp, vshard, keys, md5, how, reason, pid, CASE WHEN isolation <> 'read committed' THEN before ELSE -1 END FROM group_effects ORDER BY n};
our $PARKED = q{SELECT name, vshard, epoch || '.' || position, reason, attempts, md5(tx_class) FROM seq_parked};

# What is planned for a message, if anything.
sub planned
{
	my ($group, $what) = @_;
	my $of = $Chaos::Groups::unlucky{$group} or return;
	my ($vshard, $key) = split / /, $what;

	return $Chaos::Groups::PLANS[ hex(substr md5_hex("$group/$vshard/$key"), 0, 8) % $of ];
}

# check(model, injuries, rows by $EFFECTS, by $PARKED, those "e" that are there); of a
# restored database those with handlers only, since nobody else works there.
sub check
{
	my ($self, $model, $injuries, $effects, $parked, @made) = @_;
	my %there = map { ($_ => 1) } @made;
	my (%effects, %parked);

	push @{ $effects{ $_->[1] } }, $_ foreach @$effects;
	$parked{ $_->[0] }{"$_->[1] $_->[2]"} = { reason => $_->[3], attempts => $_->[4], class => $_->[5] } foreach @$parked;
	foreach my $group (sort keys %Chaos::Groups::groups)
	{
		next if $self->{restored} && !$Chaos::Groups::groups{$group}{handler};
		$self->check_group($model, $group, $injuries, delete $effects{$group} || [], delete $parked{$group} || {});
	}
	return if $self->{restored};
	my %ids = map { ($_ => 1) } @made, map { /^e\.(\d+)$/ ? $1 : () } keys %effects;
	$self->check_made($model, $_, delete $effects{"e.$_"} || [], $there{$_}) foreach sort { $a <=> $b } keys %ids;
	my ($other) = (keys %effects, keys %parked);
	violation('parked', "group $other has effects, or something parked, and is not there") if defined $other;
	return;
}

sub describe { my ($group, $row) = @_; return "the effect $row->[0] of group $group, pid $row->[7]"; }

sub check_group
{
	my ($self, $model, $group, $injuries, $effects, $parked) = @_;
	my $kept = $self->{parked}{$group} ||= {};
	my (%done, %reasons);

	$self->check_effects($model, $group, $kept, $effects, \%done, \%reasons);
	my %wanted = $self->check_stream($model, $group, \%done, $parked);
	foreach my $what (sort keys %$kept)
	{
		next if $parked->{$what};
		violation('nothing missing', "group $group: ($what), which was parked, is neither parked any more nor dealt with") if !$done{$what};
		delete $kept->{$what};
	}
	foreach my $what (sort keys %$parked)
	{
		my $is = $parked->{$what};
		my $known = $kept->{$what};

		violation('parked', "group $group: ($what) is parked ($is->{reason}), and was $done{$what} as well") if defined $done{$what};
		violation('parked', "group $group: ($what) is parked ($is->{reason}), and not for it") if !$known && !$wanted{$what};
		if (!$known)
		{
			$self->check_reason($group, $what, $is, $reasons{$what}, $injuries);
			$known = $kept->{$what} = { %$is, content => $wanted{$what} };
			$self->{count}{ planned($group, $what) // 'parked by clients' }++;
		}
		violation('parked', "group $group: ($what) is parked as $is->{reason}, class $is->{class}; it was as $known->{reason}, class $known->{class}")
		  if $is->{reason} ne $known->{reason} || $is->{class} ne $known->{class};
		my ($class) = $known->{content} =~ m{/\\x([0-9a-f]*)\z};
		violation('byte for byte', "group $group: ($what) is parked with another content") if md5_hex(pack 'H*', $class) ne $is->{class};
	}
	return;
}

# The effects by themselves: their content and order, none of them twice.
sub check_effects
{
	my ($self, $model, $group, $kept, $effects, $done, $reasons) = @_;
	my (%last, %last_n);

	foreach my $row (@$effects)
	{
		my ($n, undef, $vshard, $keys, $md5, $how, $reason, undef, $before) = @$row;
		my $who = describe($group, $row);

		if ($how eq 'parked')
		{
			violation('parked', "$who: ($vshard $keys) is parked twice") if defined $reasons->{"$vshard $keys"};
			$reasons->{"$vshard $keys"} = $reason;
			next;
		}
		if ($how eq '')
		{
			$model->check_chunk({ who => $who, vshard => $vshard, keys => $keys, md5 => $md5 }, 1);
			# in the higher isolation levels a transaction sees what was done before
			violation('order', "$who, vshard $vshard: ($keys) was fetched by a transaction that sees of what is before it the effects up to $before, there are up to " . ($last_n{$vshard} // 0))
			  if $before >= 0 && $before != ($last_n{$vshard} // 0);
			$last_n{$vshard} = $n;
		}
		foreach my $key (split /,/, $keys)
		{
			my $what = "$vshard $key";
			my $place = $model->{streams}{$vshard}{place}{$key};

			violation('nothing twice', "$who: ($what) was " . ($done->{$what} || 'processed') . ' before, now it is ' . ($how || 'processed')) if defined $done->{$what};
			$done->{$what} = $how;
			$self->{count}{ $how || 'processed' }++;
			if ($how ne '')
			{
				$self->check_settled($model, $who, $what, $kept, $how, $md5);
				next;
			}
			violation('parked', "$who: ($what) was parked ($kept->{$what}{reason}) long ago, and is delivered") if $kept->{$what};
			violation('order', "$who: ($what) came after one of a later place of the same vshard") if defined $last{$vshard} && $place <= $last{$vshard};
			$last{$vshard} = $place;
		}
	}
	foreach my $what (sort keys %$reasons)
	{
		violation('parked', "group $group: ($what) was parked ($reasons->{$what}), and delivered by a fetch") if defined $done->{$what} && $done->{$what} eq '';
	}
	return;
}

# Something parked that was retried or dropped; from now on, or kept from before.
sub check_settled
{
	my ($self, $model, $who, $what, $kept, $how, $md5) = @_;
	my ($vshard, $key) = split / /, $what;
	my $stream = $model->{streams}{$vshard};
	my $place = $stream->{place}{$key};
	my $content = $kept->{$what} ? $kept->{$what}{content} : defined $place ? $stream->{contents}[ $place - $stream->{offset} ] : undef;

	violation('parked', "$who: ($what) is $how, and nobody knows of it") if !defined $content;
	violation('byte for byte', "$who: ($what) is $how, with another content") if $how eq 'retried' && $md5 ne md5_hex($content);
	return;
}

# All that is meant for a group is done, or is parked; and nothing else.  Returns what
# is, with its content.
sub check_stream
{
	my ($self, $model, $group, $done, $parked) = @_;
	my $of = $Chaos::Groups::groups{$group};
	my %wanted;
	my %left = %$done;

	foreach my $vshard (@{ $of->{vshards} || \@vshards })
	{
		my $stream = $model->{streams}{$vshard};

		foreach my $i (0 .. $#{ $stream->{keys} })
		{
			my $what = "$vshard $stream->{keys}[$i]";

			next if !Chaos::Groups::passes($of, $stream->{written}[$i]);
			$wanted{$what} = $stream->{contents}[$i];
			delete $left{$what};
			next if defined $done->{$what} || $parked->{$what};
			violation('nothing missing', "group $group: ($what) was neither processed nor parked" . $self->where($group, $done, $vshard));
		}
	}
	foreach my $what (sort keys %left)
	{
		violation('filters', "group $group: ($what) was processed, and is not for it") if $left{$what} eq '';
	}
	return %wanted;
}

sub where
{
	my ($self, $group, $done, $vshard) = @_;
	my @keys = sort { ($a =~ /(\d+)\./)[0] <=> ($b =~ /(\d+)\./)[0] || ($a =~ /\.(\d+)/)[0] <=> ($b =~ /\.(\d+)/)[0] } map { /^$vshard (.*)/ ? $1 : () } keys %$done;

	return @keys ? "; of this vshard were those from ($keys[0]) to ($keys[-1])" : '; nothing of this vshard was';
}

# Is a message parked for what was planned, or said by who parked it?
sub check_reason
{
	my ($self, $group, $what, $is, $said, $injuries) = @_;
	my $plan = planned($group, $what);

	if (defined $said)
	{
		violation('parked', "group $group: ($what) is parked as $is->{reason}, said was $said") if $is->{reason} ne $said;
		return;
	}
	violation('parked', "group $group: ($what) is parked ($is->{reason}), and nobody has parked it") if !$Chaos::Groups::unlucky{$group};
	violation('parked', "group $group: ($what) is parked ($is->{reason}) after $is->{attempts} attempts") if $is->{attempts} != $Chaos::Groups::MAX_ATTEMPTS;
	return if defined $plan && $is->{reason} =~ $reason{$plan};
	# others need as many injuries as there were attempts
	return if $is->{reason} =~ $INJURY && $injuries >= (defined $plan ? 1 : $is->{attempts});
	violation('parked', "group $group: ($what) is parked ($is->{reason}) after $is->{attempts} attempts; planned was " . ($plan // 'nothing') . ", there were $injuries injuries");
}

#
# A group that was made meanwhile: from somewhere between two places on, without a hole,
# and to the end if it is still there
#
sub check_made
{
	my ($self, $model, $id, $effects, $there) = @_;
	my $made = $self->{made}{$id} || {};
	my $at = $self->{at}{$id} ||= {};

	$self->{count}{'groups made'}++ if !%$at;
	foreach my $row (@$effects)
	{
		my ($n, undef, $vshard, $keys, $md5) = @$row;
		my $who = describe("e.$id", $row);
		my ($key) = split /,/, $keys;
		my ($epoch) = split /\./, $key;

		$model->check_chunk({ who => $who, vshard => $vshard, keys => $keys, md5 => $md5 }, 1);
		if (!defined $at->{$vshard})
		{
			violation('nothing twice', "$who: ($key) of vshard $vshard is from before epoch $made->{low}, when it was made") if defined $made->{low} && $epoch <= $made->{low};
			$at->{$vshard} = $self->begin_of($model, $vshard, $made, $key);
		}
		$at->{$vshard} = $model->check_next({ who => $who, vshard => $vshard, keys => $keys, md5 => $md5 }, $at->{$vshard});
		$self->{count}{'processed by groups made'} += 1 + ($keys =~ tr/,//);
	}
	if (!$there) { delete $self->{at}{$id}; return; }
	foreach my $vshard (@vshards)
	{
		my $stream = $model->{streams}{$vshard};
		my $end = $model->end_of($vshard);

		$at->{$vshard} = $self->begin_of($model, $vshard, $made, undef) if !defined $at->{$vshard};
		violation('nothing missing', "group e.$id, vshard $vshard: " . ($end - $at->{$vshard}) . " messages, from ($stream->{keys}[$at->{$vshard} - $stream->{offset}]) on")
		  if $at->{$vshard} < $end;
	}
	return;
}

# Where it begins: with a key, but at the latest behind "high".
sub begin_of
{
	my ($self, $model, $vshard, $made, $key) = @_;
	my $stream = $model->{streams}{$vshard};
	my $place = defined $key ? $stream->{place}{$key} : $model->end_of($vshard);
	my $first = $stream->{offset};

	return $place if !defined $made->{high};
	$first++ while $first < $place && $stream->{keys}[ $first - $stream->{offset} ] =~ /^(\d+)/ && $1 <= $made->{high};
	return $first;
}

1;
