# Large entries: large plans, very many transactions, very many participants,
# sets in disorder; the limit; and the applier's memory.
use strict;
use warnings;

use Cwd qw(abs_path);
use Digest::MD5 qw(md5_hex);
use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use CalvinVectors;
use CalvinWire;
use PostgreSQL::Test::Utils;
use Test::More;

my $MB = 1024 * 1024;
my $LIMIT = 256 * $MB;
my $db = 'postgres';
my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
my $node = new_node(
	'big',
	shared_buffers => '16MB',
	max_wal_size => '4GB',
	checkpoint_timeout => '1h',
	synchronous_commit => 'off');
my $applier = create_extension($node, $db);
my $epoch = 0;
my $long = $ENV{CALVIN_LONG_TESTS};

sub status
{
	my ($field) = @_;
	return -r "/proc/$applier/status" && slurp_file("/proc/$applier/status") =~ /^$field:\s*(\d+) kB/m ? $1 / 1024 : undef;
}

# An entry on its way to the server: too long for a statement.
sub in_file
{
	my ($bytes) = @_;
	open my $file, '>:raw', "$dir/entry" or die $!;
	print $file $bytes;
	close $file or die $!;
	return "pg_read_binary_file('$dir/entry')";
}

sub insert
{
	my ($bytes, $in) = @_;
	sql($node, $in || $db, 'INSERT INTO seq_log (entry) VALUES (' . in_file($bytes) . ')');
	return;
}

# A batch of encoded transactions; their own numbers do not count.
sub raw_batch
{
	my ($n, $txns, $ms) = @_;
	return mp_array(mp_str('EpochBatch'), "\x91\x93" . mp_uint($epoch) . "\xdd" . pack('N', $n) . $txns . mp_int($ms));
}

sub applied
{
	my $reached = sql($node, $db, "SELECT seq_wait_for_epoch($epoch, '150s')");
	is($reached, 't', "$_[0]: applied");
	die 'not applied' if $reached ne 't';
	return;
}

# Live is replay, as far as it was received.
sub is_replayed
{
	my ($what, $rows, @vshards) = @_;
	my $union = join ' UNION ALL ', map { "SELECT * FROM seq_replay($_, $epoch, $epoch)" } @vshards;

	is( sql($node, $db, "CREATE TEMP TABLE replayed AS $union;"
			  . ' SELECT count(*), (SELECT count(*) FROM got) FROM replayed;'
			  . ' SELECT count(*) FROM (SELECT * FROM got EXCEPT ALL SELECT * FROM replayed) x'),
		"$rows|$rows\n0",
		"$what: received is replayed");
	return;
}

my $consumer = session($node, $db);

sub subscribe
{
	my ($queue_size, @vshards) = @_;

	$consumer->query('SELECT seq_unsubscribe(); DROP TABLE IF EXISTS got; CREATE UNLOGGED TABLE got AS SELECT r.* FROM seq_replay(0, 1, 0) r');
	$consumer->query('SELECT seq_subscribe(\'{' . join(',', @vshards) . "}', queue_size => $queue_size, lossless => false)");
	return;
}

sub receive
{
	$consumer->query("INSERT INTO got SELECT * FROM seq_receive(10000000, '0')");
	return;
}

my ($va, $vb, $vc) = map { vshard_of($_) } qw(a b c);

#
# Large plans
#
sub large_plans
{
	my ($n, $mb) = @_;
	my $what = "$n transactions of $mb MB";
	my @plans = map { scalar(chr(ord('A') + $_) . "\0\xff") x ($mb * $MB / 3) } 1 .. $n;

	subscribe(128 * $MB, $va);
	insert(raw_batch($n, join('', map { txn($epoch, 0, tx_class(plans => $_, tenant => 5)) } @plans), 77));
	applied($what);
	receive();
	is( sql($node, $db, 'SELECT "position", md5(plans), md5(tx_class), epoch_system_ms, tenant_id FROM got ORDER BY 1'),
		join("\n", map { "$_|" . md5_hex($plans[$_]) . '|' . md5_hex(tx_class(plans => $plans[$_], tenant => 5)) . '|77|5' } 0 .. $n - 1),
		"$what: received");
	is( sql($node, $db, "SELECT \"position\", md5(plans), md5(tx_class), participating_vshards FROM seq_replay($va, $epoch, $epoch)"),
		join("\n", map { "$_|" . md5_hex($plans[$_]) . '|' . md5_hex(tx_class(plans => $plans[$_], tenant => 5)) . "|{$va}" } 0 .. $n - 1),
		"$what: replayed");
	$epoch++;
	return;
}

large_plans(1, 1);
large_plans(4, 4);

#
# Very many transactions: the decoder stages 16384 of them, the rest is
# decoded a second time.
#
sub tiny
{
	my ($i, $collection) = @_;
	return "\x94\x00\x00\x95\x90\x91\x92\xa8Document\x92\xa1$collection\x91\x01\xc4\x04" . pack('N', $i) . mp_uint($i) . "\xc0\x00";
}

# 16 MB take 400000
for my $n (16383, 16384, 16385, $long ? 400_000 : 100_000)
{
	my $entry = raw_batch($n, join('', map { tiny($_, $_ % 2 ? 'b' : 'a') } 0 .. $n - 1), -9);
	my $what = "$n transactions, " . int(length($entry) / $MB + 0.5) . ' MB';

	subscribe($n * 64 + 8 * $MB, $va, $vb);
	insert($entry);
	applied($what);
	receive();
	is( sql($node, $db, <<'EOS'), "$n|$n|t|t|t", "$what: each of them, complete");
SELECT count(*), count(DISTINCT "position"), bool_and(plans = int4send("position")), bool_and(tenant_id = "position"),
	bool_and(participating_vshards = ARRAY[vshard] AND epoch_system_ms = -9
		AND tx_class = '\x959091'::bytea || '\x92a8446f63756d656e7492a1'::bytea
			|| convert_to(CASE WHEN "position" % 2 = 1 THEN 'b' ELSE 'a' END, 'UTF8') || '\x9101c404'::bytea || plans
			|| CASE WHEN "position" < 128 THEN substr(int4send("position"), 4)
				WHEN "position" < 256 THEN '\xcc'::bytea || substr(int4send("position"), 4)
				WHEN "position" < 65536 THEN '\xcd'::bytea || substr(int4send("position"), 3)
				ELSE '\xce'::bytea || int4send("position") END
			|| '\xc0'::bytea)
FROM got
EOS
	is_replayed($what, $n, $va, $vb);
	$epoch++;
}

# Very many participants: places for 65536 of them.
{
	my ($n, $each) = (1000, 200);
	my @set = map { document(collection_of($_), 1) } 0 .. 1023;
	my $what = 200 * 999 + 1024 . ' participants';
	my $txns = join '', map {
		my $i = $_;

		txn(0, 0, tx_class(plans => pack('N', $i), write_set => $i == 500 ? \@set : [ map { $set[ ($i * 7 + $_ * 5) % 1024 ] } 0 .. $each - 1 ]))
	} 0 .. $n - 1;

	subscribe(4 * $MB, 0, 511, 1023);
	insert(raw_batch($n, $txns, 3));
	applied($what);
	receive();
	my $expected = <<"EOS";
SELECT i, array_agg(v ORDER BY v) AS vs FROM
	(SELECT DISTINCT i, (i * 7 + j * 5) % 1024 AS v FROM generate_series(0, 999) i, generate_series(0, 199) j WHERE i <> 500
	UNION SELECT 500, generate_series(0, 1023)) x
GROUP BY 1
EOS
	is( sql($node, $db, <<"EOS"), '0|0|t', "$what: who takes part, and in what");
WITH e AS ($expected), w AS (SELECT v AS vshard, i AS "position", vs FROM e, unnest(ARRAY[0, 511, 1023]) v WHERE v = ANY (vs))
SELECT (SELECT count(*) FROM (SELECT vshard, "position", participating_vshards FROM got EXCEPT ALL SELECT * FROM w) x),
	(SELECT count(*) FROM (SELECT * FROM w EXCEPT ALL SELECT vshard, "position", participating_vshards FROM got) x),
	(SELECT bool_and(plans = int4send("position")) FROM got)
EOS
	is_replayed($what, sql($node, $db, 'SELECT count(*) FROM got'), 0, 511, 1023);
	$epoch++;
}

#
# Sets in disorder: delivered and stored in order, and in no time.
#
{
	my $u32 = sub { return "\xdd" . pack('N', scalar @_) . join '', map { mp_uint($_) } @_ };
	my $random = 12345;
	my $next = sub { return $random = ($random * 1103515245 + 12345) % 2147483648 };
	my $set = sub { my ($kind, $values) = @_; return mp_array(mp_str($kind), mp_array(mp_str('a'), $values)) };
	my $class = mp_array(
		mp_array(
			$set->('Vector', $u32->((1 .. 25_000), reverse 1 .. 25_000)),
			$set->('Document', $u32->((7) x 50_000)),
			$set->('Edge', "\xdd" . pack('N', 25_000) . join '', map { mp_array(mp_uint($next->() % 500), mp_uint($next->() % 500)) } 1 .. 25_000)),
		mp_array(
			$set->('Document', $u32->(map { $next->() } 1 .. 50_000)),
			$set->('Document', $u32->(reverse 1 .. 50_000)),
			$set->('Kv', "\xdd" . pack('N', 15_000) . join '', map { mp_array(map { mp_uint($next->() >> 8 & 255) } 1 .. $next->() % 5) } 1 .. 15_000)),
		mp_bin('plans'), mp_uint(1),
		mp_array("\xde" . pack('n', 1025) . join '', map { mp_uint($_ == 1024 ? 0 : 1023 - $_) . mp_array(mp_array(document('x', $_))) } 0 .. 1024));
	my $entry = mp_array(mp_str('EpochBatch'), mp_array(mp_array(mp_uint($epoch), mp_array(txn($epoch, 0, $class), txn($epoch, 1, tx_class())), mp_int(0))));
	my $parsed = wire_verdict($entry);
	my $canonical = $parsed->{canonical};
	my $what = int(length($entry) / 1024) . ' kB of sets in disorder, ' . int(length($canonical) / 1024) . ' in order';

	subscribe(64 * $MB, 0, $va);
	my $file = in_file($entry);
	is(sql($node, $db, "BEGIN; CREATE TEMP TABLE i AS SELECT seq_append($file) AS i; SELECT length(entry), md5(entry) FROM seq_log, i WHERE log_index = i; ROLLBACK"),
		length($canonical) . '|' . md5_hex($canonical), "$what: seq_append stores it in order");
	my $took = elapsed { insert($entry); applied($what) };
	cmp_ok($took, '<', within(60), "$what: in time ($took s)");
	receive();
	is(sql($node, $db, 'SELECT vshard, "position", length(tx_class), md5(tx_class), md5(plans) FROM got ORDER BY 1, 2'),
		join("\n", sort { ($a =~ /(\d+)/)[0] <=> ($b =~ /(\d+)/)[0] }
			(map { "$_|0|" . length($parsed->{txns}[0]{class}) . '|' . md5_hex($parsed->{txns}[0]{class}) . '|' . md5_hex('plans') } 0, $va),
			"$va|1|" . length(tx_class()) . '|' . md5_hex(tx_class()) . '|' . md5_hex('')),
		"$what: received in order");
	is_replayed($what, 3, 0, $va);
	$epoch++;
}

#
# A small apply_batch changes nothing but how often progress is seen.
#
{
	my $digest = digest($node, $db);

	sql($node, $db, "COPY (SELECT entry FROM seq_log ORDER BY log_index) TO '$dir/log' (FORMAT binary)");
	sql($node, 'template1', 'CREATE DATABASE small');
	sql($node, 'small', "ALTER SYSTEM SET calvin_seq.apply_batch = '64kB'");
	sql($node, 'small', 'SELECT pg_reload_conf()');
	wait_for_sql($node, 'small', "SELECT setting FROM pg_settings WHERE name = 'calvin_seq.apply_batch'", 64);
	create_extension($node, 'small');

	my $second = session($node, 'small');
	my $watcher = session($node, 'small');
	$second->query("SELECT seq_subscribe('{$va,$vb,511}', queue_size => 268435456, lossless => false)");
	$watcher->send(<<'EOS');
CREATE TEMP TABLE seen AS SELECT 0::bigint AS i;
DO $$ DECLARE i bigint; last bigint := 0; till timestamptz := clock_timestamp() + interval '120s';
BEGIN
	WHILE clock_timestamp() < till AND last < 9 LOOP
		SELECT last_applied_index INTO i FROM seq_state;
		IF i > last THEN INSERT INTO seen VALUES (i); last := i; END IF;
	END LOOP;
END $$;
SELECT count(*) FROM seen;
EOS
	sql($node, 'small', "COPY seq_log (entry) FROM '$dir/log' (FORMAT binary)");
	is(sql($node, 'small', 'SELECT max(log_index) FROM seq_log'), 8, 'apply_batch 64kB: the same log');
	sql($node, 'small', "INSERT INTO seq_log (entry) VALUES ('')");
	wait_applied($node, 'small');
	cmp_ok(($watcher->finish)[0], '>', 3, 'apply_batch 64kB: progress is seen in between');
	is(sql($node, $db, "INSERT INTO seq_log (entry) VALUES (''); SELECT 1"), 1, 'a no-op in both');
	wait_applied($node, $db);
	is(digest($node, 'small'), digest($node, $db), 'apply_batch 64kB: the same digest');
	isnt($digest, digest($node, $db), '... which moves');

	# by vshard, in the order received
	my $got = $second->query(<<'EOS');
CREATE UNLOGGED TABLE got AS SELECT r.* FROM seq_receive(10000000, '0') WITH ORDINALITY r;
SELECT vshard, count(*), md5(string_agg(md5(tx_class), '' ORDER BY ordinality)) FROM got GROUP BY 1 ORDER BY 1;
EOS
	is( $got,
		sql($node, 'small', join(' UNION ALL ', map { "SELECT $_ AS vshard, count(*), md5(string_agg(md5(tx_class), '')) FROM seq_replay($_, 0, 1000)" } $va, $vb, 511)
			  . ' ORDER BY 1'),
		'apply_batch 64kB: received is replayed, in order');
	is( sql($node, 'small', 'SELECT txns_dropped_backpressure FROM seq_metrics'), 0, 'apply_batch 64kB: nothing dropped');
	$_->quit for $second, $watcher;
	sql($node, 'template1', 'ALTER SYSTEM RESET calvin_seq.apply_batch');
	sql($node, 'template1', 'SELECT pg_reload_conf()');
	sql($node, 'template1', 'DROP DATABASE small');
	unlink "$dir/log";
}

#
# 100 MB: in the plans of one transaction, and of small ones
#
large_plans(1, 100);

# One vshard takes part in one in a hundred of these.
{
	my $chunk = join '', map { tiny($_, $_ % 100 == 99 ? 'c' : 'd') } 0 .. 99_999;
	my $times = int(100 * $MB / length($chunk)) + 1;
	my $n = 100_000 * $times;
	my $what = "100 MB, $n transactions";

	subscribe(64 * $MB, $vc);
	insert(raw_batch($n, $chunk x $times, 3));
	applied($what);
	receive();
	is( sql($node, $db, 'SELECT count(*), count(DISTINCT "position"), bool_and("position" % 100 = 99 AND plans = int4send("position" % 100000)), max("position") FROM got'),
		join('|', $n / 100, $n / 100, 't', $n - 1), "$what: those of the vshard");
	is_replayed($what, $n / 100, $vc);
	$epoch++;
}

#
# The applier's memory does not grow with the log, and what a large entry took
# it gives back.
#
SKIP:
{
	skip 'needs /proc', 4 unless defined status('VmHWM');
	skip 'under a tool with memory of its own', 4 if under_tool();
	subscribe(8192, $va);
	# a new one, whose peak is not that of the entries above
	sql($node, $db, "SELECT pg_terminate_backend($applier, 30000)");
	$applier = wait_for_applier($node, $db);

	my $head = unpack 'H*', "\x92" . mp_str('EpochBatch') . "\x91\x93\xce";
	my $insert = sub {
		my ($count, $body) = @_;
		my $file = in_file($body);
		my $last = $epoch + $count - 1;
		sql($node, $db, "INSERT INTO seq_log (entry) SELECT '\\x$head'::bytea || int4send(n) || b FROM $file b, generate_series($epoch, $last) n");
		$epoch = $last;
		applied("$count entries of " . length($body));
		$epoch++;
	};
	my $large = "\x92" . txn(0, 0, tx_class(plans => 'x' x (2 * $MB))) x 2 . "\x00";
	$insert->(5, $large);
	my $before = status('VmHWM');
	$insert->(50, $large);
	my $grown = status('VmHWM') - $before;
	# the server's shared buffers count as its own, once it has used them
	cmp_ok($grown, '<', 24, "200 MB of entries: the peak is higher by $grown MB");

	my $anon = status('RssAnon');
	$insert->(20_000, "\x92" . txn(0, 0, tx_class()) x 2 . "\x00");
	$grown = status('RssAnon') - $anon;
	cmp_ok($grown, '<', 4, "20000 small entries: larger by $grown MB");
}

#
# The limit
#
SKIP:
{
	my ($available) = -r '/proc/meminfo' ? slurp_file('/proc/meminfo') =~ /^MemAvailable:\s*(\d+) kB/m : ();
	skip 'needs 4 GB of memory', 10 unless defined $available && $available > 4 * 1024 * 1024;

	# around the plans, whose length stands in the four bytes before them
	my ($head, $tail) = batch($epoch, 0, tx_class(plans => 'x' x 65536)) =~ /\A(.*?)\x00\x01\x00\x00x+(.*)\z/s;
	my $plans = $LIMIT - length($head) - 4 - length($tail);
	my $entry = $head . pack('N', $plans + 1) . 'x' x ($plans + 1) . $tail;
	is(length($entry), $LIMIT + 1, 'an entry of one byte too many');
	my $file = in_file($entry);
	for my $statement ("INSERT INTO seq_log (entry) VALUES ($file)", "SELECT seq_append($file)")
	{
		like(sql_error($node, $db, $statement),
			qr/^54000: sequencer entry is too large\nDETAIL:  An entry has at most 268435456 bytes\.\nHINT:  Split the batch\./,
			"refused: $statement");
	}

	$entry = $head . pack('N', $plans) . 'x' x $plans . $tail;
	is(length($entry), $LIMIT, 'an entry of just the limit');
	my $md5 = md5_hex($entry);
	subscribe(64 * $MB, $va);
	my $dropped = sql($node, $db, 'SELECT txns_dropped_backpressure FROM seq_metrics');
	insert($entry);
	applied('an entry of just the limit');
	is(sql($node, $db, "SELECT kind, length(entry), md5(entry) FROM seq_log WHERE epoch = $epoch"),
		"epoch_batch|$LIMIT|$md5", '... stored');
	is(sql($node, $db, 'SELECT txns_dropped_backpressure FROM seq_metrics') - $dropped, 1, '... dropped where the queue is smaller');
	is(sql($node, $db, "SELECT \"position\", length(plans), md5(plans) FROM seq_replay($va, $epoch, $epoch)"),
		"0|$plans|" . md5_hex('x' x $plans), '... and replayed from the log');
	$epoch++;
  SKIP:
	{
		skip 'needs /proc', 1 unless defined status('RssAnon');
		skip 'under a tool with memory of its own', 1 if under_tool();
		append_batches($node, $db, $epoch, $epoch, [ [ ['a'], 'ab', 1 ] ]);
		applied('a small one after it');
		my $anon = status('RssAnon');
		cmp_ok($anon, '<', 64, "the applier gives memory back: it keeps $anon MB");
	}
}

is(applier_pid($node, $db), $applier, 'it is still the same applier');
unlike(log_since($node, 0), qr/ (?:ERROR|FATAL): .*(?:memory|allocation)|PANIC/, 'no lack of memory');
$consumer->quit;
$node->stop;
done_testing();
