# A source that is none, or an enemy: whatever it answers, the follower says what is wrong and
# stays as it is.  It does not crash, hang, or take memory without end, it can be ended, and
# what it shows of the answers is text that everybody can read.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinFake;
use CalvinFollow;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $follower = new_node('follower', 'calvin_seq.follower_timeout' => '2s', log_error_verbosity => 'verbose');
my $feeding = PostgreSQL::Test::Utils::tempdir() . '/feeding';

create_extension($follower, $db);

# What a right one would answer, in front of a log of which nothing has come yet.
my $identity = '12345678-9abc-4def-8123-456789abcdef';
my @state = split /\|/, sql($follower, $db, 'SELECT * FROM seq_feed_state(0)'), -1;
@state[ 1 .. 6 ] = ($identity, undef, 100, 100, 0, undef);
my $digest = $state[11];

sub rightly
{
	my ($sql) = @_;

	return row('public') if $sql =~ /search_path/;
	return row('t') if $sql =~ /seq_feed_note/;
	return row(@state) if $sql =~ /seq_feed_state/;
	if ($sql =~ /seq_feed\(/)
	{
		# nothing comes, and it takes as long as it may to say so
		append_to_file($feeding, 'x');
		select undef, undef, undef, 0.5;
		return copy_begin() . copy_data(COPY_HEADER) . copy_row(pack('q>', 0), undef, undef, pack('q>', 100), $digest) . copy_end();
	}
	return error('42601', 'what?');
}

# All as a right one, but the answer to what has that in it.
sub answering
{
	my ($where, $answer) = @_;

	return CalvinFake->new(sub { my ($sql, $write) = @_; return $sql =~ $where ? ref $answer ? $answer->($write, $sql) : $answer : rightly($sql); });
}

my $pid;

sub is_as_before
{
	my ($what) = @_;
	my $now = follower_pid($follower, $db);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(sql($follower, $db, 'SELECT count(*) FROM seq_log'), 0, "$what: nothing is stored");
	# without a row there is none before the first time
	is($now, $pid, "$what: by the same worker") if defined $pid;
	$pid = $now;
	return;
}

sub refused
{
	my ($what, $fake, $state, $regexp, $condition) = @_;
	my $now = sql($follower, $db, 'SELECT clock_timestamp()');

	unlink $feeding;
	sql($follower, $db, "SELECT seq_follow('" . $fake->conninfo . "')");
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $seen = eval { wait_for_sql($follower, $db, "SELECT state = '$state' AND last_error_at > '$now' FROM seq_follower", 't', within(40)) };
	ok($seen, "$what: $state") or diag follower($follower, $db, 'state, last_error');
	like(follower($follower, $db, 'last_error'), $regexp, "$what: an error says so");
	is(follower($follower, $db, $condition), 't', "$what: $condition") if $condition;
	is_as_before($what);
	$fake->quit;
	return;
}

my $settling = qr/search_path/;
my $noting = qr/seq_feed_note/;
my $comparing = qr/seq_feed_state/;
my $feeds = qr/seq_feed\(/;
my $nonsense = qr/^the source does not answer as this version does/;
my $nothing = described(0) . message('D', pack 'n', 0) . message('C', "SELECT 1\0");
my $begin = copy_begin() . copy_data(COPY_HEADER);

sub state_with
{
	my ($column, $value) = @_;
	my @changed = @state;

	$changed[$column] = $value;
	return row(@changed);
}

#
# Results that are not what was asked for
#
foreach my $phase ([ 'settling', $settling ], [ 'noting', $noting ], [ 'comparing', $comparing ])
{
	my ($what, $where) = @$phase;

	refused("$what: a row without columns", answering($where, $nothing), 'refused', $nonsense);
	refused("$what: COPY out", answering($where, copy_begin()), 'refused', $nonsense);
	refused("$what: COPY in", answering($where, message('G', pack 'C n', 0, 0)), 'refused', $nonsense);
	refused("$what: COPY both ways", answering($where, message('W', pack 'C n', 0, 0)), 'refused', $nonsense);
	refused("$what: silence", answering($where, silence()), 'unreachable', qr/^no connection to the source: no answer from 127/);
	refused("$what: random bytes", answering($where, join '', map { chr int rand 256 } 1 .. 5000), 'unreachable', qr/^no connection to the source: /);
}
refused('no name for a schema', answering($settling, row(undef)), 'refused', $nonsense);
refused('a schema of 10 kB', answering($settling, row('s' x 10000)), 'refused', $nonsense);
refused('no identity, but words', answering($comparing, state_with(1, 'words')), 'refused', $nonsense);
refused('no follower, but words', answering($comparing, state_with(2, '{}')), 'refused', $nonsense);
refused('an index below zero', answering($comparing, state_with(3, '-1')), 'refused', $nonsense);
refused('an index beyond all', answering($comparing, state_with(5, '18446744073709551615')), 'refused', $nonsense);
refused('words for an index', answering($comparing, state_with(4, 'x')), 'refused', $nonsense);
refused('an index that is null', answering($comparing, state_with(5, undef)), 'refused', $nonsense);
refused('two rows', answering($comparing, described(12) . message('D', CalvinFake::values_of(@state)) x 2 . message('C', "SELECT 2\0")), 'refused', $nonsense);

#
# Feeds
#
refused('an entry of 257 MB', answering($feeds, sub {
			my ($write) = @_;
			my $size = 257 * 1024 * 1024;
			my $field = pack('N q>', 8, 1) . pack('N q>', 8, 0);

			$write->($begin . 'd' . pack('N', 4 + 2 + 24 + 4 + $size + 8) . pack('n', 5) . $field . pack('N', $size)) or return;
			foreach (1 .. 257) { $write->('x' x (1024 * 1024)) or return; }
			return "\xff" x 8 . copy_end();
		}), 'refused', $nonsense);
refused('rows without end', answering($feeds, sub {
			my ($write) = @_;

			$write->($begin) or return;
			foreach my $n (1 .. 64) { $write->(copy_row(pack('q>', $n), pack('q>', 0), 'x' x (1024 * 1024), undef, undef)) or return; }
			return silence();
		}), 'refused', $nonsense);
refused('a time that is none', answering($feeds, sub { return $begin . copy_row(pack('q>', 1), pack('q>', -9223372036854775806), '', undef, undef) . copy_row(pack('q>', 1), undef, undef, pack('q>', 100), $digest) . copy_end(); }), 'refused', $nonsense);
refused('a COPY of another form', answering($feeds, copy_begin() . copy_data("a\tb\n") . copy_end()), 'refused', $nonsense);
refused('rows of a SELECT', answering($feeds, row('x')), 'refused', $nonsense);
refused('COPY after COPY', answering($feeds, (copy_begin() . message('c', '')) x 3 . message('C', "COPY 0\0")), 'refused', $nonsense);
refused('a feed that is an error, always', answering($feeds, error('55000', 'not now')), 'refused', qr/^the source answers: not now/);

#
# What it says is shown, as text
#
my $long = "\xc3\xa4" x 2000;
refused('a text with control characters', answering($comparing, error('XX000', "a\nb\r\x1b[31mc\x7f")), 'refused', qr/^the source answers: a b  \[31mc ; the role/);
refused('a text that is not in the encoding', answering($comparing, error('XX000', "a\xff\xc3b")), 'refused', qr/^the source answers: a\?\?b;/);
refused('a text that is too long', answering($comparing, error('XX000', "x$long")), 'refused', qr/^the source answers: x/,
	'last_error IS NFC NORMALIZED AND octet_length(last_error) > 400');
refused('a text of who breaks off', answering($comparing, sub { my ($write) = @_; $write->(message('E', "SFATAL\0VFATAL\0C57P01\0Mgo\n\xffnow\0\0")); return; }), 'unreachable', qr/go \?now/);
log_has_no($follower, qr/^(?:b|now)/, 'nor are there lines of its own in the server log');

#
# Notices without end do not matter
#
{
	my $notice = message('N', "SNOTICE\0VNOTICE\0C00000\0Mx\0\0");

	refused('notices, then an error', answering($comparing, $notice x 20000 . error('42501', 'no')), 'refused', qr/^the source answers: no;/);
}

#
# Acknowledgements
#
sub ships_to
{
	my ($what, $fake, $regexp) = @_;
	my $now = sql($follower, $db, 'SELECT clock_timestamp()');

	unlink $feeding;
	sql($follower, $db, "SELECT seq_follow('" . $fake->conninfo . "')");
	sql($follower, $db, 'SELECT seq_ack(0, 0, 1)');
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $seen = eval { wait_for_sql($follower, $db, "SELECT last_error ~ '$regexp' AND last_error_at > '$now' FROM seq_follower", 't', within(40)) };
	ok($seen, "acknowledgements: $what") or diag follower($follower, $db, 'state, last_error');
	is(follower($follower, $db, 'acks_waiting'), 1, "acknowledgements: $what: they wait");
	is_as_before("acknowledgements: $what");
	$fake->quit;
	return;
}
my $shipping = qr/seq_feed_acks/;
ships_to('a row without columns', answering($shipping, $nothing), '^acknowledgements cannot be shipped: the source does not answer');
ships_to('null', answering($shipping, row(undef)), '^acknowledgements cannot be shipped: the source does not answer');
ships_to('words', answering($shipping, row('soon')), '^acknowledgements cannot be shipped: the source does not answer');
ships_to('COPY', answering($shipping, copy_begin()), '^acknowledgements cannot be shipped: the source does not answer');
ships_to('a row without columns before', answering($settling, sub { return -e $feeding ? $nothing : row('public'); }), '^acknowledgements cannot be shipped: the source does not answer');
ships_to('silence', answering($shipping, silence()), '^acknowledgements cannot be shipped: no answer');
{
	# it says that they will be back, at the end of all days
	my $file = "$feeding.acks";
	my $fake = answering($shipping, sub { append_to_file($file, 'x'); return row('9223372036854775807'); });
	sql($follower, $db, "SELECT seq_follow('" . $fake->conninfo . "')");
	ok(eval { wait_until(sub { (-s $file || 0) >= 2 }, 'asked again', within(40)) }, 'acknowledgements: they are not believed to be on their way for ever');
	$fake->quit;
}

#
# It can be ended, whatever it is at
#
foreach my $what ([ 'COPY out', $settling, copy_begin() ], [ 'rows without end', $feeds, sub { my ($write) = @_; $write->($begin) or return; while ($write->(message('N', "SNOTICE\0VNOTICE\0C00000\0Mx\0\0") x 100)) { } return; } ])
{
	my $fake = answering($what->[1], $what->[2]);

	unlink $feeding;
	sql($follower, $db, 'CREATE DATABASE other');
	create_extension($follower, 'other');
	sql($follower, 'other', "SELECT seq_follow('" . $fake->conninfo . "')");
	wait_for_sql($follower, 'other', "SELECT state IN ('refused', 'following', 'catching up') FROM seq_follower");
	is(sql($follower, 'other', 'SELECT pg_terminate_backend(pid, 20000) FROM seq_follower'), 't', "$what->[0]: it ends when it is told to");
	sql($follower, $db, 'DROP DATABASE other');
	$fake->quit;
}
sql($follower, $db, 'SELECT seq_unfollow()');

$follower->stop;
nothing_crashed($follower);
done_testing();
