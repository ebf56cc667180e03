# Rows of a source that are not its log's, whatever has changed them on the way, are not
# stored: each feed has to lead to the source's digest.  A follower that is sent such goes on,
# from where it was, when it is sent the right ones.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinFollow;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $source = new_node('source');
my $follower = new_node('follower', 'calvin_seq.follower_timeout' => '3s');
my $epoch = 0;

create_extension($_, $db) foreach $source, $follower;

sub append
{
	my ($n) = @_;

	append_hex($source, $db, map { batch_hex($_, 1000 + $_, [ ['a'], 'ab', 1 ]) } $epoch .. $epoch + $n - 1);
	$epoch += $n;
	return;
}

append(5);
follow($follower, $db, source_of($source, $db), $source);
is_copy($source, $db, $follower, $db, 'before');

# In place of seq_feed, one that changes what it gives; asked from now on.
sql($source, $db, unguarded('ALTER FUNCTION seq_feed RENAME TO real_feed;'));
sub feed_is
{
	my ($select) = @_;

	sql($source, $db, <<"EOS");
CREATE OR REPLACE FUNCTION seq_feed(behind bigint, max_bytes bigint, timeout interval)
	RETURNS TABLE (log_index bigint, appended_at timestamptz, entry bytea, applied_index bigint, digest text)
	LANGUAGE sql AS \$\$ $select \$\$;
SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = 'calvin_seq follower' \\g /dev/null
EOS
	return;
}
my $columns = 'log_index, appended_at, entry, applied_index, digest';
my $real = 'public.real_feed(behind, max_bytes, timeout)';
feed_is("SELECT * FROM $real");
append(2);
is_copy($source, $db, $follower, $db, 'by another function that gives the same');

my $history = qr/^what the source has sent behind log_index \d+ does not lead to its digest at log_index \d+; it was not stored/;
my $nonsense = qr/^the source does not answer as this version does/;
my @faults = (
	[ 'a row is missing', "SELECT * FROM $real WHERE entry IS NULL OR log_index % 3 <> 0", 'other history', $history ],
	[ 'the last one is', "SELECT * FROM $real WHERE entry IS NULL OR log_index < (SELECT max(log_index) FROM public.seq_log)", 'other history', $history ],
	[ 'all of them are', "SELECT * FROM $real WHERE entry IS NULL", 'other history', $history ],
	[ 'another entry', "SELECT log_index, appended_at, CASE WHEN log_index % 3 = 0 THEN entry || '\\x00' ELSE entry END, applied_index, digest FROM $real", 'other history', $history ],
	[ 'another log_index', "SELECT CASE WHEN entry IS NULL THEN log_index ELSE log_index + 1 END, appended_at, entry, applied_index, digest FROM $real", 'other history', $history ],
	[ 'another digest', "SELECT log_index, appended_at, entry, applied_index, md5(digest)::varchar(16) FROM $real", 'other history', $history ],
	[ 'another order', "SELECT * FROM $real ORDER BY entry IS NULL, log_index DESC", 'refused', $nonsense ],
	[ 'a row twice', "SELECT f.* FROM $real f, pg_catalog.generate_series(1, CASE WHEN f.entry IS NULL THEN 1 ELSE 2 END) ORDER BY f.entry IS NULL, f.log_index", 'refused', $nonsense ],
	[ 'no end', "SELECT * FROM $real WHERE entry IS NOT NULL", 'refused', $nonsense ],
	[ 'something behind the end', "SELECT * FROM $real UNION ALL SELECT 1000000, pg_catalog.now(), '', NULL, NULL", 'refused', $nonsense ],
	[ 'nonsense for a digest', "SELECT log_index, appended_at, entry, applied_index, 'x' FROM $real", 'refused', $nonsense ]);

foreach my $fault (@faults)
{
	my ($what, $select, $state, $regexp) = @$fault;
	my $before = log_md5($follower, $db);

	feed_is($select);
	append(4);
	wait_applied($source, $db);
	# not the error of the one before
	wait_for_sql($follower, $db, "SELECT state = '$state' AND last_error_at > '" . sql($follower, $db, 'SELECT clock_timestamp()') . "' FROM seq_follower");
	like(follower($follower, $db, 'last_error'), $regexp, $what);
	is(log_md5($follower, $db), $before, "$what: nothing is stored");
	feed_is("SELECT * FROM $real");
	is_copy($source, $db, $follower, $db, "$what, then not any more");
}

$_->stop foreach $follower, $source;
nothing_crashed($_) foreach $source, $follower;
done_testing();
