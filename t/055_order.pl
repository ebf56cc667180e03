# Many appenders at once, half of which think better of it: the log is dense
# and in commit order, and a consumer gets what replay says, in that order.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my ($clients, $transactions) = (8, 120);
my $node = new_node('order', track_commit_timestamp => 'on', max_locks_per_transaction => 128, deadlock_timeout => '10s');
my $applier = create_extension($node, $db);
my @vshards = map { vshard_of($_) } qw(a b);

sql($node, $db, <<'EOS');
-- what the appenders believe to have committed
CREATE TABLE believed (log_index bigint, epoch bigint, client int);

-- A proposer: takes the next epoch, and another one if somebody was first.
CREATE FUNCTION propose(client int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE e bigint; i bigint; tries int := 0;
BEGIN
	LOOP
		-- behind what is committed, and behind its own of this transaction
		e := coalesce(greatest(seq_current_committed_epoch(), (SELECT max(epoch) FROM believed)), -1) + 1;
		BEGIN
			i := seq_append_json(jsonb_build_object('EpochBatch', jsonb_build_object(
				'epoch', e, 'epoch_system_ms', 1700000000000 + e,
				'txns', (SELECT jsonb_agg(jsonb_build_object('tx_class', jsonb_build_object(
						'write_set', (SELECT jsonb_agg(jsonb_build_object('Document',
								jsonb_build_object('collection', c, 'surrogates', jsonb_build_array(client))))
							FROM unnest((ARRAY['{a}', '{b}', '{a,b}', '{c}'])[1 + (e + n) % 4]::text[]) c),
						'plans', '\x' || md5(format('%s %s', e, n)), 'tenant_id', client)))
					FROM generate_series(0, e % 5) n))));
			INSERT INTO believed VALUES (i, e, client);
			RETURN i;
		EXCEPTION WHEN object_not_in_prerequisite_state THEN
			tries := tries + 1;
			IF tries > 10000 THEN RAISE; END IF;
		END;
	END LOOP;
END $$;
CREATE TABLE got (vshard int, epoch bigint, "position" int, epoch_system_ms bigint, tenant_id bigint,
	participating_vshards int[], plans bytea, tx_class bytea, arrival bigint GENERATED ALWAYS AS IDENTITY);
CREATE TABLE late (LIKE got INCLUDING ALL);
CREATE TABLE stop (a int);
EOS

# weight => script
my %scripts = (
	plain => [ 2, 'SELECT propose(:client_id);' ],
	twice => [ 2, 'BEGIN; SELECT propose(:client_id); SELECT propose(:client_id); COMMIT;' ],
	undone => [ 4, 'BEGIN; SELECT propose(:client_id); SELECT propose(:client_id); ROLLBACK;' ],
	savepoints => [ 2, <<'EOS' ],
BEGIN; SELECT propose(:client_id); SAVEPOINT s; SELECT propose(:client_id); ROLLBACK TO s; SELECT propose(:client_id);
SAVEPOINT t; SELECT propose(:client_id); RELEASE t; COMMIT;
EOS
	early_savepoint => [ 2, <<'EOS' ],
BEGIN; SAVEPOINT s; SELECT propose(:client_id); ROLLBACK TO s; SELECT propose(:client_id); COMMIT;
EOS
	all_undone => [ 1, 'BEGIN; SAVEPOINT s; SELECT propose(:client_id); ROLLBACK TO s; COMMIT;' ],
	failed => [ 1, <<'EOS' ],
DO $$ BEGIN PERFORM propose(0); PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN NULL; END $$;
EOS
	old_snapshot => [ 2, <<'EOS' ],
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM seq_log; SELECT propose(:client_id);
INSERT INTO seq_log (entry) VALUES (''), ('\x92ad436f6d706c6574696f6e41636b93000007'), (''); SELECT propose(:client_id); COMMIT;
EOS
	raw_undone => [ 1, q{BEGIN; INSERT INTO seq_log (entry) VALUES (''), ('\x92'); ROLLBACK;} ]);
my $dir = PostgreSQL::Test::Utils::tempdir();
my @files = map { append_to_file("$dir/$_", "$scripts{$_}[1]\n"); ('-f', "$dir/$_\@$scripts{$_}[0]") } sort keys %scripts;

# Two consumers: one receives all the while, one only at the end.
my ($live, $idle, $watcher) = map { session($node, $db) } 1 .. 3;
my $set = '{' . join(',', @vshards) . '}';
$live->query("SELECT seq_subscribe('$set', 'live', queue_size => 1048576, lossless => false)");
$idle->query("SELECT seq_subscribe('$set', 'late', queue_size => 16777216, lossless => false)");
$live->send(<<'EOS');
DO $$ BEGIN
	LOOP
		INSERT INTO got SELECT * FROM seq_receive(7, '100ms', 'live');
		EXIT WHEN EXISTS (SELECT FROM stop);
	END LOOP;
	INSERT INTO got SELECT * FROM seq_receive(100000, '0', 'live');
END $$
EOS
# Whoever looks sees a log without holes, and a state that is not ahead of it.
$watcher->send(<<'EOS');
DO $$ DECLARE looks int := 0; n bigint; last bigint; applied bigint;
BEGIN
	LOOP
		SELECT last_applied_index INTO applied FROM seq_state;
		SELECT count(*), coalesce(max(log_index), 0) INTO n, last FROM seq_log;
		IF n <> last OR applied > last THEN
			RAISE EXCEPTION '% rows, the last one is %, applied is %', n, last, applied;
		END IF;
		looks := looks + 1;
		EXIT WHEN EXISTS (SELECT FROM stop);
	END LOOP;
	IF looks < 10 THEN RAISE EXCEPTION 'looked only % times', looks; END IF;
END $$
EOS

my ($stdout, $stderr) = ('', '');
my $run = IPC::Run::run(
	[ $node->installed_command('pgbench'), '-n', '-c', $clients, '-j', 2, '-t', $transactions, '-M', 'prepared', '--random-seed=7', @files,
		'-h', $node->host, '-p', $node->port, $db ],
	'>', \$stdout, '2>', \$stderr, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
ok($run, 'the appenders came to an end') or diag $stderr;
like($stdout, qr{number of transactions actually processed: (\d+)/\1\b}, '... all of them, of all their transactions');

wait_applied($node, $db);
sql($node, $db, 'INSERT INTO stop VALUES (1)');
is(join('', $watcher->finish), '', 'nobody ever saw a hole');
is(join('', $live->finish), '', 'the consumer received all the while');
$idle->query("INSERT INTO late SELECT * FROM seq_receive(1000000, '0', 'late')");

my ($rows, $epochs) = split /\|/, sql($node, $db, "SELECT count(*), count(*) FILTER (WHERE kind = 'epoch_batch') FROM seq_log");
cmp_ok($epochs, '>', 500, "$epochs batches in $rows entries");
is(sql($node, $db, 'SELECT min(log_index), max(log_index), count(DISTINCT log_index) FROM seq_log'), "1|$rows|$rows", 'the log is dense');
is( sql($node, $db, <<'EOS'), "0|t|t", 'epochs are contiguous, and ascend with the log');
SELECT min(epoch), max(epoch) = count(*) - 1, bool_and(epoch = place)
FROM (SELECT epoch, row_number() OVER (ORDER BY log_index) - 1 AS place FROM seq_log WHERE kind = 'epoch_batch') x
EOS
is(sql($node, $db, 'SELECT string_agg(DISTINCT kind, \' \' ORDER BY kind) FROM seq_log'), 'completion_ack epoch_batch noop', 'no batch is stale, none undecodable');
is( sql($node, $db, <<'EOS'), '0|0', 'the log has what was committed, and nothing else');
SELECT (SELECT count(*) FROM (SELECT log_index, epoch FROM believed EXCEPT ALL SELECT log_index, epoch FROM seq_log) x),
	(SELECT count(*) FROM (SELECT log_index, epoch FROM seq_log WHERE kind = 'epoch_batch' EXCEPT ALL SELECT log_index, epoch FROM believed) x)
EOS
is( sql($node, $db, <<'EOS'), 't|t', 'in commit order, each transaction at a stretch');
SELECT bool_and(committed >= before), count(*) FILTER (WHERE starts) = count(DISTINCT committed)
FROM (SELECT committed, coalesce(lag(committed) OVER w, '-infinity') AS before, committed IS DISTINCT FROM lag(committed) OVER w AS starts
	-- of a subtransaction it is that of its parent
	FROM (SELECT log_index, pg_xact_commit_timestamp(xmin) AS committed FROM seq_log) x
	WINDOW w AS (ORDER BY log_index)) y
EOS
is( sql($node, $db, 'SELECT epochs_applied, epochs_skipped_gap, epochs_skipped_stale, entries_applied, txns_dropped_backpressure FROM seq_metrics'),
	"$epochs|0|0|$rows|0", 'applied, all of it, without a gap or a drop');

my $columns = 'vshard, epoch, "position", epoch_system_ms, tenant_id, participating_vshards, plans, tx_class';
sql($node, $db, "CREATE TABLE replayed AS "
	  . join(' UNION ALL ', map { "SELECT * FROM seq_replay($_, 0, 1000000) WITH ORDINALITY r ($columns, arrival)" } @vshards));
for my $table (qw(got late))
{
	is( sql($node, $db, <<"EOS"), '0|0|t', "$table: what was received is the replay, in its order");
WITH r AS (SELECT row_number() OVER (PARTITION BY vshard ORDER BY arrival) AS n, $columns FROM $table),
	e AS (SELECT arrival, $columns FROM replayed)
SELECT (SELECT count(*) FROM (TABLE r EXCEPT ALL TABLE e) x), (SELECT count(*) FROM (TABLE e EXCEPT ALL TABLE r) x),
	(SELECT count(*) > 500 FROM r)
EOS
}
is( sql($node, $db, <<'EOS'), 't|t', 'of the batches that were committed, by those who committed them');
SELECT bool_and(g.plans = ('\x' || md5(format('%s %s', g.epoch, g."position")))::bytea AND g.epoch_system_ms = 1700000000000 + g.epoch),
	bool_and(g.tenant_id = b.client)
FROM got g LEFT JOIN believed b USING (epoch)
EOS
is(applier_pid($node, $db), $applier, 'one applier did it');
unlike(log_since($node, 0), qr/(?:deadlock detected|PANIC|applier.*ERROR)/, 'no deadlock, no error of it');

$_->quit for $live, $idle, $watcher;
$node->stop;
done_testing();
