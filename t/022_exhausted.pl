# Resources that are used up: an error that says which, and nothing is lost;
# databases whose encoding cannot hold what the log does.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $txn = [ ['a'], 'ab', 1 ];
my $va = vshard_of('a');
my $epoch = 0;
# segments are files of the data directory here
my $node = new_node('exhausted', dynamic_shared_memory_type => 'mmap', max_connections => 10, max_worker_processes => 8);

my $applier = create_extension($node);
my $watch = session($node, 'postgres');

sub append
{
	append_batches($node, 'postgres', $epoch, $epoch, [$txn], $watch);
	$watch->query("SELECT seq_wait_for_epoch($epoch, '30s')");
	return $epoch++;
}

sub subscriptions
{
	return $watch->query('SELECT count(*) FROM seq_subscriptions');
}

# The log has no hole, the applier is the same and has no error.
sub is_sound
{
	my ($desc) = @_;

	append();
	is($watch->query('SELECT count(*) = max(log_index), (SELECT lag FROM seq_state), (SELECT last_error FROM seq_state) FROM seq_log'),
		't|0|', "$desc: no hole in log_index, the applier goes on");
	is(applier_pid($node, 'postgres'), $applier, "$desc: in the same process");
	return;
}

append();
my $segments = segments($node);

#
# Dynamic shared memory: segments
#
my $s = session($node, 'postgres');
my $count = 0;
my $error = '';
while ($error eq '' && $count < 1024)
{
	$error = $s->error("SELECT seq_subscribe('{$count}', queue_size => 8192)");
	$count++ if $error eq '';
}
cmp_ok($count, '>', 64, "one call a vshard: $count segments");
like($error, qr/^53000: too many dynamic shared memory segments\nDETAIL: .*\nHINT: .*several vshards in one call, or raise max_connections/, 'then there is none left');
is(subscriptions(), $count, 'what there is stays');
my $last = append();
is($s->query("SELECT DISTINCT epoch FROM seq_receive(1000, '10s')"), $last, 'and receives') if $va < $count;
my $other = session($node, 'postgres');
like($other->error("SELECT seq_subscribe('{$va}', 'other', queue_size => 8192)"), qr/^53000: /, 'another session gets none either');
is($s->query('SELECT seq_unsubscribe(ARRAY[0])'), 1, 'one is given back');
# it is free when the applier has let go of it too
ok(wait_until(sub { $other->error("SELECT seq_subscribe('{$va}', 'other', queue_size => 8192)") eq '' }, 'a free segment'), 'then another one can be made');
$last = append();
is($other->query("SELECT epoch FROM seq_receive(10, '10s', 'other')"), $last, 'and works');
is($other->query('SELECT seq_unsubscribe(name => \'other\')'), 1, 'and leaves');
is($s->query('SELECT seq_unsubscribe()'), $count - 1, 'all are given back');
ok(eval { wait_until(sub { append(); segments($node) == $segments }, 'the segments to go') }, 'no segment is left');
is($s->query("SELECT seq_subscribe(array(SELECT generate_series(0, 1023)), queue_size => 8192), seq_unsubscribe()"), '|1024', 'in one call all vshards fit');
is_sound('segments');

# An applier that ended while all segments are taken: the queues cannot be made
# anew, and nothing is lost.
$s->query("SELECT seq_subscribe('{$va}', queue_size => 8192)");
append();
is($s->query("SELECT count(*) FROM seq_receive(10, '10s')"), 1, 'a consumer');
for ($count = 0, $error = ''; $error eq '' && $count < 1024; $count++)
{
	$error = $other->error("SELECT seq_subscribe('{$count}', 'taker', queue_size => 8192)");
}
like($error, qr/^53000: /, 'another one takes all segments');
$watch->query("SELECT pg_terminate_backend($applier, 10000)");
$applier = wait_for_applier($node, 'postgres');
my $first = append();
$last = append();
$s->query('CREATE TEMP TABLE got (epoch bigint)');
$error = $s->error("INSERT INTO pg_temp.got SELECT epoch FROM seq_receive(10, '10s')");
like($error, qr/^(?:$|53000: )/, 'its queue cannot be replaced: an error or the log instead');
$other->query("SELECT seq_unsubscribe(name => 'taker')");
$last = append();
wait_until(
	sub {
		$s->query("INSERT INTO pg_temp.got SELECT epoch FROM seq_receive(10, '1s')");
		return $s->query("SELECT max(epoch) FROM pg_temp.got") == $last;
	},
	'the stream');
is($s->query("SELECT string_agg(epoch::text, ',') FROM pg_temp.got"), join(',', $first .. $last), 'each transaction once, in order');
$s->query('SELECT seq_unsubscribe()');
is_sound('segments and a new applier');

#
# Dynamic shared memory: space
#
SKIP:
{
	my $prlimit = can_limit();

	skip "no prlimit: $prlimit", 5 if $prlimit ne '';
	limit_files($s, 20 * 1024 * 1024);
	like($s->error("SELECT seq_subscribe(array(SELECT generate_series(0, 1023)), queue_size => 65536)"),
		qr/^(53100|53200): could not resize shared memory segment/, 'segments as files: one that does not fit');
	limit_files($s, 'unlimited');
	is(subscriptions(), 0, 'no subscription is left');
	ok(eval { wait_until(sub { append(); segments($node) == $segments }, 'the segments to go') }, 'no segment is left');
	$s->query("SELECT seq_subscribe(array(SELECT generate_series(0, 1023)), queue_size => 8192)");
	$last = append();
	is($s->query("SELECT epoch FROM seq_receive(10, '10s')"), $last, 'smaller queues do');
	is($s->query('SELECT seq_unsubscribe()'), 1024, 'and end');
}
is_sound('space for segments');

#
# Files: a log that cannot grow
#
sub can_limit
{
	return 'it is not there' if system('command -v prlimit >/dev/null 2>&1') != 0;
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'prlimit', '--pid', $s->pid, '--fsize=unlimited:unlimited' ], '>', \$out, '2>', \$err);
	return $err;
}

sub limit_files
{
	my ($on, $bytes) = @_;

	system('prlimit', '--pid', $on->pid, "--fsize=$bytes:unlimited") == 0 or die "prlimit failed";
	return;
}

SKIP:
{
	my $prlimit = can_limit();
	my $batch = "seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object('epoch', seq_next_epoch(), 'epoch_system_ms', 0, 'txns',
		jsonb_build_array(jsonb_build_object('tx_class', jsonb_build_object('plans', '\\x' || repeat('ab', %d), 'tenant_id', 1, 'write_set',
		jsonb_build_array(jsonb_build_object('Document', jsonb_build_object('collection', 'a', 'surrogates', '[1]'::jsonb)))))))))";

	skip "no prlimit: $prlimit", 9 if $prlimit ne '';
	# WAL segments have 16 MB: below that, writing WAL would be in the way
	my $before;
	my $no_space = qr/^(53100|XX000): could not (extend|write to) file .*: (File too large|No space left on device)/;
	my $limited = session($node, 'postgres');
	limit_files($limited, 20 * 1024 * 1024);
	$other->query("SELECT seq_subscribe('{$va}', 'other', from_epoch => seq_next_epoch())");
	$last = append();
	$before = $watch->query('SELECT count(*), max(log_index) FROM seq_log');
	my $appended = 0;
	for ($error = ''; $error eq '' && $appended < 20;)
	{
		$error = $limited->error('SELECT seq_append(' . sprintf($batch, 3 * 1024 * 1024) . ")");
		next if $error ne '';
		$appended++;
		$watch->query('SELECT seq_wait_for_epoch(seq_current_committed_epoch(), \'30s\')');
	}
	cmp_ok($appended, '>', 2, "$appended entries of 3 MB fit into a limit of 20 MB");
	# the server has no class of its own for the limit of a process
	like($error, $no_space, 'then there is no space');
	is($watch->query('SELECT max(log_index) FROM seq_log'), (split /\|/, $before)[1] + $appended, 'nothing of the failed one is in the log');
	is($watch->query('SELECT count(*) FROM pg_locks WHERE pid = ' . $limited->pid), 0, 'it holds up nobody');
	$epoch = $watch->query('SELECT seq_next_epoch()');
	is_sound('no space for the log');
	like($limited->error('SELECT seq_append(' . sprintf($batch, 3 * 1024 * 1024) . ")"), $no_space, 'it stays so');
	is($limited->query("SELECT seq_append('') > 0"), 't', 'what fits is appended');
	limit_files($limited, 'unlimited');
	is($limited->query('SELECT seq_append(' . sprintf($batch, 3 * 1024 * 1024) . ") > 0"), 't', 'with space again all is');
	$epoch = $watch->query('SELECT seq_current_committed_epoch() + 1');
	is_sound('space again');
	is($other->query("SELECT string_agg(epoch::text, ',') FROM seq_receive(1000, '10s', 'other')"), join(',', $last .. $epoch - 1),
		'a consumer missed nothing');
	$other->query("SELECT seq_unsubscribe(name => 'other')");
	$limited->quit;
}

#
# Memory: what no value can hold
#
my $mb = 1024 * 1024;
$s->query("CREATE TEMP TABLE large AS SELECT seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object('epoch', $epoch + i, 'epoch_system_ms', 0, 'txns',
	jsonb_build_array(jsonb_build_object('tx_class', jsonb_build_object('plans', '\\x' || repeat('ab', 100 * $mb), 'tenant_id', 1, 'write_set',
	jsonb_build_array(jsonb_build_object('Document', jsonb_build_object('collection', 'a', 'surrogates', '[1]'::jsonb))))))))) AS entry FROM generate_series(0, 1) i");
$s->query("SELECT seq_subscribe('{$va}', 'large')");
is($s->query('SELECT count(seq_append(entry)) FROM large'), 2, 'two entries of 100 MB');
$epoch += 2;
is($s->query("SELECT seq_wait_for_epoch($epoch - 1, '120s')"), 't', 'are applied');
is($s->query("SELECT l BETWEEN 100 * $mb AND 101 * $mb FROM (SELECT length(seq_receive_batch(10, '10s', 'large')) AS l OFFSET 0) b"), 't', 'seq_receive_batch ends behind 64 MB');
is($s->query("SELECT l BETWEEN 100 * $mb AND 101 * $mb FROM (SELECT length(seq_receive_batch(10, '10s', 'large')) AS l OFFSET 0) b"), 't', 'and goes on with the next call');
is($s->query("SELECT count(*), sum(length(plans)) FROM seq_replay($va, $epoch - 2, $epoch - 1)"), '2|' . 200 * $mb, 'and seq_replay has both');
like($s->error("SELECT seq_decode('\\x92aa45706f6368426174636891930091940000959090c6'::bytea || int4send(140 * $mb) || decode(repeat('ab', 140 * $mb), 'hex') || '\\x00c00000')"),
	qr/^54000: sequencer entry is too large for jsonb\nDETAIL: /, 'seq_decode of what no jsonb can hold');
like($s->error("SELECT seq_append('\\x92aa45706f636842617463689193' || decode(repeat('00', 257 * $mb), 'hex'))"), qr/^(54000|22P03): /, 'an entry over 256 MB');
like($s->error("INSERT INTO seq_log (entry) SELECT decode(repeat('00', 257 * $mb), 'hex')"), qr/^54000: sequencer entry is too large\nDETAIL: .*\nHINT: +Split/, 'by INSERT too');
$s->query("SELECT seq_unsubscribe(name => 'large')");
is_sound('large entries');

# A process that gets no more memory.
SKIP:
{
	skip 'under a tool with memory of its own', 6 if under_tool();
	my $poor = session($node, 'postgres');

	skip 'no prlimit', 3 if can_limit() ne '';
	my ($used) = slurp_file('/proc/' . $poor->pid . '/status') =~ /^VmSize:\s+(\d+) kB/m;
	system('prlimit', '--pid', $poor->pid, '--as=' . ($used + 40 * 1024) * 1024 . ':unlimited');
	foreach my $call ("SELECT length(seq_receive_batch(10, '10s', 'poor'))", "SELECT sum(length(tx_class)) FROM seq_replay($va, $epoch - 3, $epoch - 1)", "SELECT seq_append(seq_encode(seq_decode(entry))) FROM seq_log WHERE epoch = $epoch - 3 AND kind = 'epoch_batch'")
	{
		$poor->error("SELECT seq_subscribe('{$va}', 'poor', from_epoch => $epoch - 3, queue_size => 8192)");
		like($poor->error($call), qr/^53200: out of memory\nDETAIL: /, 'no memory: ' . substr($call, 0, 40));
	}
	system('prlimit', '--pid', $poor->pid, '--as=unlimited:unlimited');
	is($poor->query("SELECT count(*) FROM seq_receive(10, '10s', 'poor')"), 3, 'with memory it goes on, and has lost nothing');
	$poor->quit;
	is_sound('no memory');
}

#
# Background workers: none left for another database's applier
#
$watch->query('CREATE DATABASE second');
$node->append_conf('postgresql.conf', "max_worker_processes = 2\nmax_logical_replication_workers = 0");
$_->quit foreach $s, $other, $watch;
my $offset = log_offset($node);
$node->restart;
$applier = wait_for_applier($node, 'postgres');
sql($node, 'second', 'CREATE EXTENSION calvin_seq');
is(sql($node, 'second', "SELECT seq_append('\\x" . batch_hex(0, 0, $txn) . "')"), 1, 'appending needs no worker');
wait_for_log_line($node, qr/WARNING: .*no background worker left for a calvin_seq applier\n.*\n.*HINT: .*max_worker_processes.*calvin_seq\.max_databases/, $offset);
pass('the warning names the settings');
is(sql($node, 'second', 'SELECT applier_state, lag FROM seq_state'), 'waiting to start|1', 'seq_state says what is missing');
is(sql($node, 'second', "SELECT seq_wait_for_epoch(0, '100ms')"), 'f', 'waiting ends in time');
is(sql($node, 'second', "SELECT count(*) FROM seq_replay($va, 0, 1)"), 1, 'replay needs no worker');

#
# Databases of other encodings: the log is the same
#
$watch = session($node, 'postgres');
$watch->query("DROP EXTENSION calvin_seq");
$watch->query('DROP DATABASE second');
$node->append_conf('postgresql.conf', 'max_worker_processes = 8');
$node->restart;
$watch = session($node, 'postgres');
# U+00E9, U+0416 and U+20AC in a collection's name
my %utf8 = (latin => 'c3a9', cyrillic => 'd096', euro => 'e282ac');
my %hash = map { ($_ => vshard_of(pack('H*', $utf8{$_}))) } keys %utf8;
foreach my $encoding (qw(LATIN1 SQL_ASCII LATIN9 EUC_JP))
{
	my $db = lc "db_$encoding";

	$watch->query("CREATE DATABASE $db TEMPLATE template0 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'");
	create_extension($node, $db);
	my $e = session($node, $db);
	my $ms = 0;

	$e->query("SET client_encoding = " . ($encoding eq 'SQL_ASCII' ? 'SQL_ASCII' : 'UTF8'));
	$e->query("SELECT seq_subscribe('{" . join(',', values %hash) . "}')");
	foreach my $name (sort keys %utf8)
	{
		my $text = pack('H*', $utf8{$name});
		my $in_text = $encoding eq 'SQL_ASCII' || ($name eq 'latin' && $encoding ne 'EUC_JP') || ($name eq 'euro' && $encoding eq 'LATIN9')
		  || ($name eq 'cyrillic' && $encoding eq 'EUC_JP') || ($name eq 'latin' && $encoding eq 'EUC_JP');
		my $entry = batch_hex($ms, 0, [ [$text], 'ab', 1 ]);
		my $json = "{\"EpochBatch\": {\"epoch\": $ms, \"epoch_system_ms\": 0, \"txns\": [{\"epoch_system_ms\": 0, \"tx_class\": {\"plans\": \"\\\\xab\", \"tenant_id\": 1, \"write_set\": [{\"Document\": {\"collection\": \"$text\", \"surrogates\": [1]}}]}}]}}";

		if ($in_text)
		{
			is($e->query("SELECT seq_vshard('$text')"), $hash{$name}, "$encoding, $name: seq_vshard is of the UTF-8 bytes");
			is($e->query("SELECT encode(seq_encode('$json'), 'hex')"), $entry, "$encoding, $name: seq_encode");
			is($e->query("SELECT seq_decode('\\x$entry') #>> '{EpochBatch,txns,0,tx_class,write_set,0,Document,collection}'"), $text, "$encoding, $name: seq_decode");
			is($e->query("SELECT encode(seq_encode(seq_decode('\\x$entry')), 'hex')"), $entry, "$encoding, $name: there and back");
		}
		else
		{
			like($e->error("SELECT seq_vshard('$text')"), qr/^22P05: /, "$encoding, $name: no text holds it");
			like($e->error("SELECT seq_decode('\\x$entry')"),
				qr/^22P05: cannot represent collection name of sequencer entry as text\nDETAIL: .*0x$utf8{$name} at byte \d+ .*"$encoding"\.\nHINT: .*tx_class/,
				"$encoding, $name: seq_decode says so");
		}
		is($e->query("SELECT seq_append('\\x$entry') > 0, seq_vshard('a')"), "t|$va", "$encoding, $name: seq_append takes it");
		$e->query("SELECT seq_wait_for_epoch($ms, '30s')");
		is($e->query("SELECT encode(tx_class, 'hex') FROM seq_receive(1, '10s')"), $e->query("SELECT encode(tx_class, 'hex') FROM seq_replay($hash{$name}, $ms, $ms)"),
			"$encoding, $name: received as replayed");
		is($e->query("SELECT position(decode('$utf8{$name}', 'hex') IN tx_class) > 0 FROM seq_replay($hash{$name}, $ms, $ms)"), 't', "$encoding, $name: as it is");
		$ms++;
	}
	# names of subscriptions are text like all others
	my $name = pack('H*', 'c3a9');
	$e->query("SELECT seq_subscribe('{1}', '$name')");
	is($e->query('SELECT name FROM seq_subscriptions WHERE vshard = 1'), $name, "$encoding: a subscription's name with bytes above 127");
	is($e->query("SELECT seq_commit('$name'), (SELECT name FROM seq_cursors)"), "1|", "$encoding: and of a cursor");
	is($e->query("SELECT name FROM seq_cursors"), $name, "$encoding: which is stored");
	like($e->error("SELECT seq_subscribe('{1}', repeat('$name', 64))"), qr/^42622: .*\nDETAIL: +It has \d+ bytes/, "$encoding: one that is too long");
	is($e->query("SELECT seq_drop_cursor('$name'), seq_unsubscribe(name => '$name')"), '1|1', "$encoding: they end");
	is($e->query('SELECT lag, last_error FROM seq_state'), '0|', "$encoding: the applier has no error");
	$e->quit;
	$watch->query("DROP DATABASE $db");
}
$watch->quit;
$node->stop;
nothing_crashed($node);

#
# Full file systems: a server that sees its own /dev/shm, and a tablespace of
# 20 MB, in a mount namespace that needs no privilege where users may have one
#
SKIP:
{
	my @private = ('unshare', '--map-current-user', '--keep-caps', '--mount');
	my ($out, $err) = ('', '');

	skip 'no unshare', 13 if system('command -v unshare >/dev/null 2>&1') != 0;
	IPC::Run::run([ @private, 'sh', '-c', 'mount -t tmpfs -o size=1m tmpfs /dev/shm' ], '>', \$out, '2>', \$err);
	skip 'no private mounts here: ' . ($out || $err), 13 if $? != 0;

	my $small = new_node('small', dynamic_shared_memory_type => 'posix', -start => 0);
	my $dir = $small->basedir . '/tablespace';

	mkdir $dir;
	command_ok(
		[ @private, 'sh', '-c', 'mount -t tmpfs -o size=20m tmpfs /dev/shm && mount -t tmpfs -o size=20m tmpfs "$1" && exec pg_ctl -w -D "$2" -l "$3" start',
			'sh', $dir, $small->data_dir, $small->logfile ],
		'a server on small file systems');
	$small->_update_pid(1);
	$applier = create_extension($small, 'postgres');
	$s = session($small, 'postgres');
	like($s->error("SELECT seq_subscribe(array(SELECT generate_series(0, 1023)), queue_size => 65536)"),
		qr/^53100: could not resize shared memory segment .*: No space left on device/, '/dev/shm is full');
	is($s->query('SELECT count(*) FROM seq_subscriptions'), 0, 'no subscription is left');
	$s->query("SELECT seq_subscribe(array(SELECT generate_series(0, 1023)), queue_size => 8192)");
	append_batches($small, 'postgres', 0, 0, [$txn], $s);
	is($s->query("SELECT epoch FROM seq_receive(10, '30s')"), 0, 'smaller queues fit');

	$s->query("CREATE TABLESPACE small LOCATION '$dir'");
	$s->query('ALTER TABLE seq_log SET TABLESPACE small');
	$s->query('CREATE TEMP TABLE large AS SELECT decode(repeat(\'00\', 3000000), \'hex\') AS bytes');
	my $appended = 1;
	for ($error = ''; $error eq '' && $appended < 20;)
	{
		# an ack, and bytes that count for nothing
		$error = $s->error("INSERT INTO seq_log (entry) SELECT '\\x" . ack_hex(0, 0, $va) . "'::bytea || bytes FROM large");
		$appended++ if $error eq '';
	}
	cmp_ok($appended, '>', 3, 'a log that grows');
	like($error, qr/^53100: could not (extend|write to) file .*: No space left on device/, 'until its file system is full');
	is($s->query('SELECT count(*), max(log_index) FROM seq_log'), "$appended|$appended", 'the log is as it was');
	my $two = session($small, 'postgres');
	like($two->error("INSERT INTO seq_log (entry) SELECT decode(repeat('00', 3000000), 'hex')"), qr/^53100: /, 'others fare no better');
	is($two->query("SELECT seq_append('')"), $appended + 1, 'what fits is appended, without a hole');
	ok(wait_applied($small, 'postgres'), 'and applied');
	is(applier_pid($small, 'postgres') . '|' . $two->query('SELECT last_error FROM seq_state'), "$applier|", 'by the same process, which has no error');
	$s->query('ALTER TABLE seq_log SET TABLESPACE pg_default');
	is($s->query("INSERT INTO seq_log (entry) SELECT bytes FROM large RETURNING log_index"), $appended + 2, 'with space again all is');
	$_->quit foreach $s, $two;
	$small->stop;
	nothing_crashed($small);
}

#
# Log indexes as large as there are: catching up tells no time left below zero
#
my $far = new_node('far',
	'calvin_seq.snapshot_interval' => 0,
	'calvin_seq.apply_batch' => '64kB',
	max_prepared_transactions => 2);
create_extension($far);
sql($far, 'postgres', "INSERT INTO seq_log (entry) SELECT '' FROM generate_series(1, 60000)");
sql($far, 'postgres', "INSERT INTO seq_log (log_index, entry) VALUES (9223372036854775806, '')");

# The applier takes the log's lock for one short transaction after the other.
# Whoever queues behind it finds it in the middle of things, after every turn
# a little further; so that it cannot be through before, it begins behind a
# prepared transaction.
sql($far, 'postgres', q{BEGIN; LOCK TABLE seq_log; PREPARE TRANSACTION 'hold'});
$far->restart;
my $waiting = q{SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
	WHERE relation = 'seq_log'::regclass AND NOT granted AND backend_type <> 'calvin_seq sequencer'};
wait_for_sql($far, 'postgres', $waiting, 1);
my $observer = session($far, 'postgres');
$observer->send('BEGIN; LOCK TABLE seq_log');
wait_for_sql($far, 'postgres', $waiting, 2);
sql($far, 'postgres', q{ROLLBACK PREPARED 'hold'});
$observer->finish;
my $progress = '';
foreach (1 .. 60)
{
	$progress = $observer->query(q{SELECT time_left IS NULL OR time_left > '0' FROM seq_progress WHERE rate > 0});
	last if $progress ne '';
	$observer->query('COMMIT; BEGIN; LOCK TABLE seq_log');
}
is($progress, 't', 'an applier that catches up over a hole as large as there can be has no time left below zero');
$observer->query('COMMIT');
wait_applied($far, 'postgres');
$observer->quit;
$far->stop;
done_testing();
