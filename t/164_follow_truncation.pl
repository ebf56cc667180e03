# What is truncated at the source respects its followers, as far as they have got it durably,
# unless they are further behind than calvin_seq.max_consumer_lag; who is left behind is named.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinFollow;
use CalvinTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $source = new_node('source', -streaming => 1);
my $follower = new_node('follower', cluster_name => 'east', 'calvin_seq.follower_timeout' => '1s');
my $epoch = 0;

create_extension($_, $db) foreach $source, $follower;

sub append
{
	my ($n, $age) = @_;

	sql($source, $db, 'INSERT INTO seq_log (entry, appended_at) VALUES '
		  . join(', ', map { "('\\x" . batch_hex($_, 1000, [ ['a'], 'ab', 1 ]) . "', now() - interval '" . ($age || '0') . "')" } $epoch .. $epoch + $n - 1));
	$epoch += $n;
	wait_for_epoch($source, $db, $epoch - 1);
	return;
}

# Until the source knows that the follower has all.
sub wait_noted { return wait_for_sql($source, $db, 'SELECT min(log_index) = (SELECT max(log_index) FROM seq_log) FROM seq_followers'); }

append(10);
follow($follower, $db, source_of($source, $db), $source);
wait_noted();
like(sql($source, $db, 'SELECT name, log_index, lag, lost, seen_at > since FROM seq_followers'), qr{^(?:east|follower)/postgres\|10\|0\|f\|t$}, 'seq_followers');
my $id = sql($source, $db, 'SELECT id FROM seq_followers');
is($id, sql($follower, $db, 'SELECT id FROM seq_following'), 'it is the one');

#
# A follower that is away
#
$follower->stop;
append(10);
like(sql_error($source, $db, 'SELECT seq_truncate(15)'),
	qr{^55006: cannot truncate past the follower "\w+/postgres"\nDETAIL:  It has the log up to log_index 10, and what would go ends at 15; 1 follower needs}, 'what it has not got is not truncated');
is(sql($source, $db, 'SELECT seq_truncate()'), 10, 'what it has got is');
is(sql($source, $db, 'SELECT log_index, lag, lost FROM seq_followers'), '10|10|f', 'it is behind, and not lost');

# so is an entry that is no batch
sql($source, $db, q{INSERT INTO seq_log (entry) VALUES (''), ('')});
append(1);
is(sql($source, $db, 'SELECT seq_truncate()'), 0, 'nothing more');

# its standbys know as well
$source->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($source, 'backup', has_streaming => 1);
$standby->start;
is(sql($standby, $db, 'SELECT id, log_index FROM seq_followers'), "$id|10", 'a standby of the source has that too');
$standby->stop;

$follower->start;
wait_follows($source, $db, $follower, $db);
wait_noted();
is(sql($source, $db, 'SELECT seq_truncate()'), 12, 'when it is back and has all, the rest goes');
is(sql($source, $db, 'SELECT id FROM seq_followers'), $id, 'it is still the same one');
append(5);
wait_follows($source, $db, $follower, $db);
is(state($follower, $db), state($source, $db), 'nothing is missing there');

#
# Further behind than max_consumer_lag
#
wait_noted();
$follower->stop;
append(5, '2 hours');
append(5);
my $offset = log_offset($source);
sql($source, $db, "ALTER SYSTEM SET calvin_seq.retention = '1h'");
$source->reload;
wait_for_sql($source, $db, "SELECT current_setting('calvin_seq.retention')", '1h');
is(sql($source, $db, 'SELECT seq_truncate()'), 6, 'without it, what the follower has goes alone');
is(sql($source, $db, 'SELECT lost FROM seq_followers'), 'f', 'it is not lost');
sql($source, $db, "ALTER SYSTEM SET calvin_seq.max_consumer_lag = '1h'");
$source->reload;
wait_for_log_line($source, qr{calvin_seq: the follower "\w+/postgres" is left behind}, $offset);
wait_for_sql($source, $db, 'SELECT lost FROM seq_followers');
pass('with it, what is older goes, and the follower is named');
$follower->start;
wait_follower_state($follower, $db, 'truncated');
like(follower($follower, $db, 'last_error'), qr/^the source has truncated what comes behind log_index 28, it begins behind log_index \d+/, 'which it finds');

#
# One that does not come back
#
my $other = new_node('other', 'calvin_seq.follower_timeout' => '1s');
create_extension($other, $db);
follow($other, $db, source_of($source, $db), $source);
wait_for_sql($source, $db, "SELECT count(*) FROM seq_followers WHERE NOT lost AND lag = 0", 1);
$other->stop;
append(5);
like(sql_error($source, $db, 'SELECT seq_truncate(' . ($epoch - 1) . ')'), qr/^55006: cannot truncate past the follower/, 'another one');
my $gone = sql($source, $db, "SELECT id FROM seq_followers WHERE NOT lost");
sql($source, $db, "SELECT seq_drop_follower('$gone')");
is(sql($source, $db, 'SELECT seq_truncate(' . ($epoch - 1) . ') > 0'), 't', 'is forgotten, and holds nothing');
like(sql_error($source, $db, "SELECT seq_drop_follower('$gone')"), qr/^42704: there is no follower/, 'once');
like(sql_error($source, $db, "SELECT seq_drop_follower('x')"), qr/^22P02: /, 'of nonsense');
is(sql($source, $db, "SELECT seq_feed_note('$gone', 'x', 1000000)"), 'f', 'who says that he has more than there is, is not believed');
is(sql($source, $db, 'SELECT count(*) FROM seq_followers'), 1, 'and not noted');

$_->stop foreach $follower, $source;
nothing_crashed($_) foreach $source, $follower, $other;
done_testing();
