# Vshards of a group that move from one follower to another, and back: whoever fetches
# meanwhile, and whoever ends at whichever point, what is sent is processed once, and in
# order; in between the vshards are nobody's, and what was released can be asked for again.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinFollow;
use CalvinGroup;
use CalvinMove;
use CalvinPause;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $source = new_node('source');
my ($one, $two) = map { new_node($_, 'calvin_seq.follower_timeout' => '3s', 'calvin_seq.max_databases' => 8, max_worker_processes => 30) } qw(one two);
my $to = source_of($source, $db);
my $sent = 0;

create_extension($_, $db) foreach $source, $one, $two;

# So many messages, to 40 entities in turn, which are of different vshards.
sub send_more
{
	my ($n) = @_;

	sql($source, $db, "SELECT count(seq_send('e/' || i % 40, to_jsonb(i))) FROM generate_series(" . ($sent + 1) . ', ' . ($sent + $n) . ') i');
	$sent += $n;
	wait_for_sql($source, $db, 'SELECT waiting_rows = 0 FROM seq_sequencer');
	wait_follows($source, $db, $_, $db) foreach $one, $two;
	return;
}

# Everything was processed once, that of an entity in order; whose it is at the end.
sub all_once
{
	my ($group, $desc, $from) = @_;
	my (%count, %last, $wrong);

	$from //= 1;
	foreach my $node ($one, $two)
	{
		$count{$_}++ foreach split /\n/, sql($node, $db, "SELECT n FROM effects WHERE grp = '$group'");
		# within a server: by when it was done
		$wrong .= sql($node, $db, "SELECT coalesce(string_agg(n::text, ' '), '') FROM (SELECT n, lag(n) OVER (PARTITION BY collection ORDER BY i) AS before FROM effects WHERE grp = '$group') e WHERE before > n");
	}
	my @lacking = grep { !$count{$_} } $from .. $sent;
	my @twice = grep { $count{$_} > 1 } keys %count;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is("@lacking|@twice|$wrong", '||', "$desc: each once, in order");
}

my $process = sub {
	my ($group, $n) = @_;
	return "INSERT INTO effects (grp, collection, n) SELECT '$group', collection, payload::int FROM seq_fetch_json('$group', $n) ORDER BY epoch, \"position\", vshard";
};
sub process_all
{
	my ($node, $group) = @_;

	1 while sql($node, $db, 'WITH done AS (' . $process->($group, 1000) . ' RETURNING 1) SELECT count(*) FROM done') > 0;
	return;
}
sub vshards { my (@entities) = @_; return '{' . join(',', map { vshard_of("e/$_") } @entities) . '}'; }

sql($_, $db, 'CREATE TABLE effects (i bigserial, grp text, collection text, n int)') foreach $one, $two;
send_more(0);
append_batches($source, $db, 0, 0, [ [ ['a'], 'ab', 1 ] ]);
follow($_, $db, $to, $source) foreach $one, $two;

#
# Some of them, in the middle of what has come
#
sql($one, $db, "SELECT seq_create_group('g', 4, collections => '{e/%}')");
send_more(200);
sql($one, $db, $process->('g', 70));
my $request = request_vshards($two, $db, 'g', vshards(0 .. 19));
is(sql($two, $db, 'SELECT name, state, cardinality(vshards) FROM seq_moves'), 'g|requested|20', 'requested');
my $handover = release_vshards($one, $db, $request);
is(sql($one, $db, 'SELECT name, state, cardinality(vshards) FROM seq_moves'), 'g|released|20', 'released');
is(vshards_of_group($one, $db, 'g') . '|' . vshards_of_group($two, $db, 'g'), '1004|0', 'they are nobody\'s for a while');
process_all($one, 'g');
send_more(100);
is(take_vshards($two, $db, $handover), 't', 'taken');
is(take_vshards($two, $db, $handover), 'f', 'which is done once');
is(take_vshards($two, $db, $handover, ", force => true"), 'f', 'forced or not');
is(vshards_of_group($one, $db, 'g') . '|' . vshards_of_group($two, $db, 'g'), '1004|20', 'the new owner has them');
is(sql($two, $db, 'SELECT state FROM seq_moves'), 'taken', 'as seq_moves says');
is(sql($two, $db, "SELECT seq_pending('g')"), sql($two, $db, $process->('g', 1000) . ' RETURNING 1') =~ tr/1//, 'seq_pending counts from there on');
process_all($_, 'g') foreach $one, $two;
all_once('g', 'moved to a server that had no such group');
is(sql($one, $db, "SELECT pending FROM seq_consumers WHERE name = 'g'") + sql($two, $db, "SELECT pending FROM seq_consumers WHERE name = 'g'"), 0, 'nothing is pending');

# back, and others with them, into a group that stands elsewhere
send_more(100);
sql($two, $db, $process->('g', 13));
sql($one, $db, $process->('g', 40));
is(move_vshards('g', $two, $one, $db, vshards(0 .. 4)), 't', 'back, some of them');
process_all($one, 'g');
is(move_vshards('g', $two, $one, $db, vshards(5 .. 19)), 't', 'back, all of them');
is(vshards_of_group($one, $db, 'g') . '|' . vshards_of_group($two, $db, 'g'), '1024|0', 'who has given all of them has no group any more');
send_more(100);
process_all($one, 'g');
all_once('g', 'moved back');
is(move_vshards('g', $one, $two, $db, vshards(20 .. 39)), 't', 'and others');
send_more(100);
process_all($_, 'g') foreach $one, $two;
all_once('g', 'moved behind all');

#
# Whoever has fetched is waited for; who comes then gets nothing of them
#
{
	my ($worker, $other, $mover) = map { session($one, $db) } 1 .. 3;

	send_more(100);
	$request = request_vshards($two, $db, 'g', vshards(0 .. 9));
	$worker->query('BEGIN; ' . $process->('g', 30));
	$mover->send(release_sql($request));
	wait_for_sql($one, $db, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'seq_release_vshards'", 1);
	$other->send($process->('g', 1000));
	wait_for_sql($one, $db, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'seq_fetch'", 1);
	is(sql($one, $db, 'SELECT count(*) FROM seq_moves WHERE state = $$released$$ AND move = $$' . ($request =~ /"move": "(.*?)"/)[0] . '$$'), 0, 'a release waits for who has fetched');
	$worker->query('COMMIT');
	my ($move) = $mover->finish;
	$other->finish;
	is(sql($one, $db, "SELECT count(*) FROM seq_fetch_json('g', 1000)"), 0, 'and who has waited behind it');
	$handover = handover($one, $db, $move);
	take_vshards($two, $db, $handover);
	process_all($two, 'g');
	all_once('g', 'with fetches under way');

	# rolled back, what was fetched comes to the new owner
	send_more(100);
	$request = request_vshards($two, $db, 'g', vshards(10 .. 14));
	$worker->query('BEGIN; ' . $process->('g', 1000));
	$mover->send(release_sql($request));
	wait_for_sql($one, $db, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'seq_release_vshards'", 1);
	$worker->query('ROLLBACK');
	($move) = $mover->finish;
	take_vshards($two, $db, handover($one, $db, $move));
	process_all($_, 'g') foreach $two, $one;
	all_once('g', 'with one that is rolled back');

	# in the transaction itself
	send_more(40);
	$request = request_vshards($two, $db, 'g', vshards(15));
	$worker->query('BEGIN; ' . $process->('g', 1000));
	like($worker->error(release_sql($request)), qr/^55006: this transaction has fetched for group "g"/, 'not by who has fetched himself');
	$worker->query('ROLLBACK');
	$worker->query('BEGIN');
	($move) = $worker->query(release_sql($request));
	like($worker->error("SELECT seq_handover('$move')"), qr/^55000: the release is not committed/, 'nothing is handed over before the commit');
	$worker->query('ROLLBACK');
	like(sql_error($one, $db, "SELECT seq_handover('$move')"), qr/^42704: there is no move/, 'nor when it was rolled back');
	process_all($_, 'g') foreach $two, $one;
	all_once('g', 'rolled back: nothing has moved');
	# what comes anew after a snapshot is not for it
	$worker->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	send_more(20);
	release_vshards($one, $db, $request);
	like($worker->error($process->('g', 1000)), qr/^40001: /, 'a group that has changed after a snapshot');
	$worker->query('ROLLBACK');
	take_vshards($two, $db, handover($one, $db, $move));
	process_all($_, 'g') foreach $two, $one;
	all_once('g', 'nor lost by that');
	$_->quit foreach $worker, $other, $mover;
}

#
# Handlers and workers of both, while vshards move to and fro
#
foreach my $node ($one, $two)
{
	sql($node, $db, "CREATE FUNCTION handle(t seq_txn) RETURNS void LANGUAGE sql AS \$\$ INSERT INTO effects (grp, collection, n) VALUES ('h', seq_collection(t.tx_class), seq_json(t.plans)::int) \$\$");
	my @half = grep { $_ % 2 == ($node == $one ? 0 : 1) } 0 .. 1023;
	sql($node, $db, "SELECT seq_create_group('$_', 8, '{" . join(',', @half) . "}', '{e/%}') FROM generate_series(1, 1)") foreach 'h', 'w';
	sql($node, $db, "SELECT seq_handle('h', 'handle(seq_txn)', 2)");
}
{
	my $from = $sent + 1;
	my @workers;

	foreach my $node ($one, $two)
	{
		# three workers each, until a row says that it is enough
		sql($node, $db, <<'EOS');
CREATE TABLE enough (yes bool);
CREATE PROCEDURE work() LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		INSERT INTO effects (grp, collection, n) SELECT 'w', collection, payload::int FROM seq_fetch_json('w', 7, '100 ms') ORDER BY epoch, "position", vshard;
		COMMIT;
		EXIT WHEN EXISTS (SELECT FROM enough);
	END LOOP;
END
$$;
EOS
		push @workers, map { session($node, $db) } 1 .. 3;
	}
	$_->send('CALL work()') foreach @workers;
	foreach my $round (1 .. 6)
	{
		send_more(150);
		my ($old, $new) = $round % 2 ? ($one, $two) : ($two, $one);
		my @entities = grep { vshard_of("e/$_") % 2 == 0 } 0 .. 39;
		foreach my $group ('h', 'w')
		{
			my $asked = request_vshards($new, $db, $group, vshards(@entities[ 0 .. $#entities / 2 ]));
			my $move = sql($old, $db, release_sql($asked));
			send_more(20);
			take_vshards($new, $db, handover($old, $db, $move));
		}
	}
	wait_until(
		sub {
			my $n = 0;
			$n += sql($_, $db, "SELECT count(*) FROM effects WHERE grp IN ('h', 'w')") foreach $one, $two;
			return $n >= 2 * ($sent - $from + 1);
		},
		'all to be processed');
	sql($_, $db, 'INSERT INTO enough VALUES (true)') foreach $one, $two;
	$_->finish foreach @workers;
	$_->quit foreach @workers;
	all_once('h', 'handlers of both, vshards moving to and fro', $from);
	all_once('w', 'workers of both, vshards moving to and fro', $from);
	is(sql($_, $db, "SELECT count(*) FROM seq_handlers WHERE name = 'h' AND state = 'running'"), 1, 'the handler of ' . $_->name . ' is still there') foreach $one, $two;
	sql($_, $db, "SELECT seq_unhandle('h')") foreach $one, $two;
}

#
# Whoever ends, at whichever point
#
SKIP:
{
	skip 'not a build with pause points', 10 unless $ENV{CALVIN_PAUSE_POINTS};
	sql($_, $db, 'CREATE DATABASE beside') foreach $one, $two;
	send_more(50);
	sql($one, $db, $process->('g', 3));

	my $owned = vshards_of_group($one, $db, 'g');
	my $p = pauses($one, 'beside');
	my $s = session($one, $db);
	$request = request_vshards($two, $db, 'g', vshards(16, 17));
	$two->stop('immediate');
	$two->start;
	is(sql($two, $db, "SELECT count(*) FROM seq_moves WHERE state = 'requested'"), 1, 'the new owner has crashed: the request is there');
	$p->arm('move: released', $s->pid);
	$s->send(release_sql($request));
	$p->reached('move: released');
	$one->stop('immediate');
	eval { $s->quit };
	eval { $p->quit };
	$one->start;
	wait_for_applier($one, $db);
	is(vshards_of_group($one, $db, 'g'), $owned, 'the old owner has crashed before the release was committed: they are its');
	sql($one, $db, $process->('g', 3));
	# the commit does not wait for the disk, but for a release
	my $move = sql($one, $db, 'SET synchronous_commit = off; ' . release_sql($request));
	$one->stop('immediate');
	$one->start;
	is(vshards_of_group($one, $db, 'g'), $owned - 2, 'behind it: they are not');
	is(sql($one, $db, release_sql($request)), $move, 'released again, it is the same');
	is(sql($one, $db, 'SELECT count(*) FROM seq_moves WHERE state = $$released$$ AND move = $$' . $move . '$$'), 1, 'it shows');
	$handover = handover($one, $db, $move);

	$p = pauses($two, 'beside');
	$s = session($two, $db);
	$owned = vshards_of_group($two, $db, 'g');
	$p->arm('move: taken', $s->pid);
	$s->send(take_sql($handover));
	$p->reached('move: taken');
	$two->stop('immediate');
	eval { $s->quit };
	eval { $p->quit };
	$two->start;
	wait_for_applier($two, $db);
	is(vshards_of_group($two, $db, 'g'), $owned, 'the new owner has crashed before it had taken them: it has not');
	is(sql($two, $db, 'SET synchronous_commit = off; ' . take_sql($handover)), 't', 'it takes them then');
	$two->stop('immediate');
	$two->start;
	wait_for_applier($two, $db);
	is(take_vshards($two, $db, $handover), 'f', 'and has them, whatever ends');
	wait_follows($source, $db, $_, $db) foreach $one, $two;
	process_all($_, 'g') foreach $two, $one;
	all_once('g', 'with servers that crash');
}

#
# Who is not meant
#
{
	send_more(10);
	$request = request_vshards($two, $db, 'g', vshards(18));
	like(sql_error($two, $db, release_sql($request)), qr/^55000: the vshards were requested by this server itself/, 'not where it was requested');
	like(sql_error($two, $db, "SELECT seq_request_vshards('g', '" . vshards(0) . "')"), qr/^55000: group "g" has vshard \d+ here already/, 'nor what is here');
	$handover = release_vshards($one, $db, $request);
	my ($move) = $request =~ /"move": "(.*?)"/;
	my $again = request_vshards($two, $db, 'g', vshards(18));
	like(sql_error($one, $db, release_sql($again)), qr/^55000: group "g" does not have vshard \d+ here/, 'nor what is not');
	sql($two, $db, "SELECT seq_drop_move('" . ($again =~ /"move": "(.*?)"/)[0] . "')");

	my $other = new_node('other', 'calvin_seq.follower_timeout' => '3s');
	create_extension($other, $db);
	like(sql_error($other, $db, "SELECT seq_request_vshards('g', '{1}')"), qr/^55000: the log here is empty, and does not know yet/, 'nor without a log');
	follow($other, $db, $to, $source);
	like(sql_error($other, $db, take_sql($handover)), qr/^55000: these vshards were not requested by this server\nDETAIL: .* seq_moves has $move as requested/, 'nor another follower');
	like(sql_error($one, $db, take_sql($handover)), qr/^55000: the vshards were released by this server itself/, 'nor the old owner');

	# another log
	sql($other, 'postgres', 'CREATE DATABASE foreign_log');
	create_extension($other, 'foreign_log');
	append_batches($other, 'foreign_log', 0, 0, [ [ ['a'], 'ab', 1 ] ]);
	like(sql_error($other, 'foreign_log', take_sql($handover)), qr/^55000: the other server has another log\nDETAIL:  Its identity is [-0-9a-f]{36}, and that of the log here [-0-9a-f]{36}/, 'nor another log');
	like(sql_error($one, $db, release_sql(request_vshards($other, 'foreign_log', 'g', vshards(1)))), qr/^55000: the other server has another log/, 'which gets nothing either');

	# the same log, that has gone its own way
	sql($other, $db, 'SELECT seq_unfollow()');
	my $forked = request_vshards($other, $db, 'g', vshards(19));
	append_batches($other, $db, sql($other, $db, 'SELECT seq_next_epoch()'), sql($other, $db, 'SELECT seq_next_epoch()') + 20, [ [ ['x'], 'ff', 1 ] ]);
	wait_applied($other, $db);
	send_more(10);
	my $for_fork = release_vshards($one, $db, $forked);
	like(sql_error($other, $db, take_sql($for_fork)), qr/^55000: the old owner has another history\nDETAIL:  At log_index \d+ its digest is/, 'nor one that has gone its own way');
	# which never gets them: the old owner takes them back
	is(take_vshards($one, $db, $for_fork, ', force => true'), 't', 'the old owner has them back, with force');
	is(take_vshards($one, $db, $for_fork, ', force => true'), 'f', 'once');
	is(take_vshards($two, $db, $handover), 't', 'the one that has asked has them then');

	$other->stop;
	nothing_crashed($other);
	process_all($_, 'g') foreach $two, $one;
	all_once('g', 'whoever has asked besides');
	sql($two, $db, "SELECT seq_drop_move(move) FROM seq_moves");
	is(sql($two, $db, 'SELECT count(*) FROM seq_moves'), 0, 'moves are forgotten');
}

#
# What a group has set aside; another filter; what is lost, and whose it is
#
{
	send_more(40);
	sql($two, $db, "SELECT seq_park('g', $_->[0], $_->[1], $_->[2], 'no') FROM generate_series(1, 1)")
	  foreach [ split /\|/, sql($two, $db, "BEGIN; SELECT vshard, epoch, \"position\" FROM seq_fetch('g', 1); ROLLBACK") ];
	my ($vshard, $epoch, $position) = split /\|/, sql($two, $db, 'SELECT vshard, epoch, "position" FROM seq_parked');
	$request = request_vshards($one, $db, 'g', "{$vshard}");
	like(sql_error($two, $db, release_sql($request)), qr/^55000: group "g" has set transaction \($epoch, $position\) of vshard $vshard aside\nHINT:  Use seq_retry/, 'what is set aside is to be dealt with first');
	# another vshard's stays, under the group's new id
	my ($moving) = grep { vshard_of("e/$_") != $vshard && sql($two, $db, "SELECT " . vshard_of("e/$_") . " = ANY (vshards) FROM seq_registrations WHERE name = 'g'") eq 't' } 0 .. 39;
	is(move_vshards('g', $two, $one, $db, '{' . vshard_of("e/$moving") . '}'), 't', 'of others');
	is(sql($two, $db, 'SELECT name, vshard, epoch, "position" FROM seq_parked'), "g|$vshard|$epoch|$position", 'does not hold them up, and is kept');
	process_all($_, 'g') foreach $two, $one;
	sql($two, $db, "BEGIN; INSERT INTO effects (grp, collection, n) SELECT 'g', seq_collection(t.tx_class), seq_json(t.plans)::int FROM seq_retry('g', $vshard, $epoch, $position) t; COMMIT");
	is(sql($two, $db, release_sql($request)) ne '', 1, 'retried, it may go');
	take_vshards($one, $db, release_vshards($two, $db, $request));
	send_more(20);
	process_all($_, 'g') foreach $two, $one;
	my %count;
	$count{$_}++ foreach map { split /\n/, sql($_, $db, "SELECT n FROM effects WHERE grp = 'g'") } $one, $two;
	is(join(' ', grep { ($count{$_} // 0) != 1 } 1 .. $sent), '', 'each once');

	sql($one, $db, "SELECT seq_create_group('filtered', collections => '{e/%}')");
	sql($two, $db, "SELECT seq_create_group('filtered', vshards => '{5}', collections => '{f/%}')");
	like(sql_error($one, $db, release_sql(request_vshards($two, $db, 'filtered', '{6}'))), qr/^55000: group "filtered" gets other collections on the other server/, 'another filter');
	like(sql_error($two, $db, release_sql(request_vshards($one, $db, 'nothing', '{6}'))), qr/^42704: there is no group "nothing"/, 'no group');

	sql($_, $db, 'CREATE ROLE app; CREATE ROLE other; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO app, other') foreach $one, $two;
	sql($one, $db, "SET ROLE app; SELECT seq_create_group('app', collections => '{e/%}')");
	like(sql_error($one, $db, 'SET ROLE other; ' . release_sql(request_vshards($two, $db, 'app', '{6}'))), qr/^42501: permission denied for consumer "app"/, 'another role releases nothing');
	$request = sql($two, $db, "SET ROLE app; SELECT seq_request_vshards('app', '{6}')");
	my $move = sql($one, $db, 'SET ROLE app; ' . release_sql($request));
	like(sql_error($one, $db, "SET ROLE other; SELECT seq_handover('$move')"), qr/^42501: permission denied for a move of group "app"/, 'is handed nothing');
	like(sql_error($one, $db, "SET ROLE other; SELECT seq_drop_move('$move')"), qr/^42501: /, 'forgets nothing');
	$handover = sql($one, $db, "SET ROLE app; SELECT seq_handover('$move')");
	like(sql_error($two, $db, 'SET ROLE other; ' . take_sql($handover)), qr/^42501: /, 'takes nothing');
	is(sql($two, $db, 'SET ROLE app; ' . take_sql($handover)), 't', 'whose group it is does');
	is(sql($two, $db, "SELECT owner::regrole FROM seq_registrations WHERE name = 'app'"), 'app', 'and has it');
}

#
# What the new owner does not have any more
#
{
	process_all($_, 'g') foreach $one, $two;
	sql($_, $db, "SELECT seq_drop_group(name) FROM seq_consumers WHERE name IN ('h', 'w', 'app', 'filtered')") foreach $one, $two;
	my ($owner, $new) = sql($one, $db, 'SELECT ' . vshard_of('e/30') . " = ANY (vshards) FROM seq_registrations WHERE name = 'g'") eq 't' ? ($one, $two) : ($two, $one);
	# the last batch stays
	send_more(30) foreach 1 .. 2;
	process_all($new, 'g');
	sql($new, $db, 'SELECT seq_truncate(seq_current_committed_epoch(), true)');
	$request = request_vshards($new, $db, 'g', vshards(30));
	like(sql_error($owner, $db, release_sql($request)), qr/^55000: the new owner has truncated what comes next for vshard \d+/, 'who has truncated it gets nothing');
	process_all($owner, 'g');
	$request = request_vshards($new, $db, 'g', vshards(30));
	$handover = release_vshards($owner, $db, $request);
	# the last batch stays
	send_more(30) foreach 1 .. 2;
	process_all($new, 'g');
	sql($new, $db, 'SELECT seq_truncate(seq_current_committed_epoch(), true)');
	like(sql_error($new, $db, take_sql($handover)), qr/^55000: /, 'nor who does it in between');
	is(take_vshards($owner, $db, $handover, ', force => true'), 't', 'but the old owner');
	process_all($_, 'g') foreach $one, $two;
	my %count;
	$count{$_}++ foreach map { split /\n/, sql($_, $db, "SELECT n FROM effects WHERE grp = 'g'") } $one, $two;
	is(join(' ', grep { ($count{$_} // 0) != 1 } 1 .. $sent), '', 'and nothing is lost');
}

#
# A dump has where they stand
#
{
	send_more(60);
	sql($one, $db, $process->('g', 10));
	my $dump = $one->data_dir . '/dump.sql';
	$one->command_ok([ 'pg_dump', '-d', $one->connstr($db), '-f', $dump ], 'pg_dump');
	sql($one, 'postgres', 'CREATE DATABASE restored');
	$one->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $one->connstr('restored') ], 'restored');
	wait_applied($one, 'restored');
	my $rest = "SELECT coalesce(string_agg(payload::text, ',' ORDER BY payload::int), '') FROM seq_fetch_json('g', 1000)";
	is(sql($one, 'restored', $rest), sql($one, $db, "BEGIN; $rest; ROLLBACK"), 'what is left there is what is left here');
	is(sql($one, 'restored', 'SELECT count(*) FROM seq_moves'), sql($one, $db, 'SELECT count(*) FROM seq_moves'), 'and the moves are there');
}

#
# A group that is lost is not moved, though it is being lost just then
#
SKIP:
{
	skip 'not a build with pause points', 4 unless $ENV{CALVIN_PAUSE_POINTS};
	my $p = pauses($one, 'beside');
	my ($truncates, $moves) = map { session($one, $db) } 1 .. 2;
	my $lost = qr/55000: group "behind\d" is lost/;

	# the first one lacks what comes for what it keeps, the other one what comes for what it has
	my $release = sub {
		sql($one, $db, "SELECT seq_create_group('behind1', 2, '" . vshards(0, 1) . "')");
		return release_sql(request_vshards($two, $db, 'behind1', vshards(0)));
	};
	my $take = sub {
		sql($one, $db, "SELECT seq_create_group('behind2', 1, '" . vshards(2) . "')");
		sql($two, $db, "SELECT seq_create_group('behind2', 1, '" . vshards(3) . "')");
		return take_sql(release_vshards($two, $db, request_vshards($one, $db, 'behind2', vshards(3))));
	};
	foreach my $prepare ($release, $take)
	{
		my $call = $prepare->();

		send_more(20) foreach 1 .. 2;
		$p->arm('truncate: before removing', $truncates->pid);
		$truncates->send('SELECT seq_truncate(seq_current_committed_epoch(), true)');
		$p->reached('truncate: before removing');
		$moves->send($call);
		wait_for_sql($one, $db, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'seq_(release|take)_vshards'", 1);
		$p->release('truncate: before removing');
		cmp_ok(($truncates->finish)[0], '>', 0, 'truncated');
		like(($moves->finish)[1], $lost, 'who waited for it sees what it has lost');
	}
	$_->quit foreach $truncates, $moves;
	$p->quit;
}

#
# A server whose commits wait for nobody, though standbys are named
#
{
	sql($one, $db, "SELECT seq_create_group('unwatched', 1, '" . vshards(7) . "')");
	$one->append_conf('postgresql.conf', "max_wal_senders = 0\nsynchronous_standby_names = 'nobody'");
	$one->restart;
	wait_for_applier($one, $db);
	like(release_vshards($one, $db, request_vshards($two, $db, 'unwatched', vshards(7))), qr/"move"/, 'a handover waits for none either');
}

$_->stop foreach $one, $two, $source;
nothing_crashed($_, 1) foreach $one, $two, $source;
done_testing();
