# What waits, through promotion, a copied database, DROP EXTENSION, a log that
# cannot be appended to, one that is truncated, a synchronous standby that is gone,
# and logical replication.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinSequencer;
use CalvinSubmit;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my %fast = ('calvin_seq.max_databases' => 6, fsync => 'off');
my $node = new_node('primary', %fast, -streaming => 1, wal_level => 'logical');
my $db = 'postgres';
my ($hold, $s, $error);

create_extension($node);
create_sent($node, $db);

#
# Promotion
#
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
wait_for_applier($standby, $db);
sql($node, $db, filled('a', 1, 50));
wait_sequenced($node, $db);
$hold = hold_log($node, $db);
sql($node, $db, "BEGIN; " . filled('a', 51, 20) . "; COMMIT");
sql($node, $db, filled('a', 71, 10, 400000) . "; " . filled('a', 81, 20));
sql($node, $db, "BEGIN; " . filled('a', 1000, 3) . "; ROLLBACK");
is(sql($node, $db, 'SELECT waiting_rows FROM seq_sequencer'), 50, 'fifty wait on the primary');
$s = session($node, $db);
$s->query("BEGIN; SELECT seq_send('a', '\"never committed\"')");
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is(numbers($standby, $db, 'a'), '50|50|50', 'on the standby they wait too');
like(sql_error($standby, $db, $_), qr/^25006: cannot execute seq_\w+\(\) during recovery\n/, "there, $_")
  foreach "SELECT seq_send('a', '1')", "SELECT seq_send_bytes('a', '1')", "SELECT seq_submit('{}')", "SELECT seq_submit_encoded('\\x')", 'SELECT seq_submission(1)';
like(sql($standby, $db, 'SELECT state, pid IS NULL FROM seq_sequencer'), qr/^standby\|t$/, 'and nobody sequences');
is(sql($standby, $db, 'SELECT count(*) FROM seq_inbox_waiting()'), 50, 'a dump of the standby has them');
$node->stop('immediate');
$_->kill_client foreach $s, $hold;
$standby->promote;
wait_for_sequencer($standby, $db);
wait_sequenced($standby, $db);
is(numbers($standby, $db, 'a'), '100|100|100', 'promoted: it sequences each, once, in order');
is(sql($standby, $db, 'SELECT submitted, sequenced FROM seq_sequencer'), '0|50', 'and says so');
sql($standby, $db, filled('a', 101, 5));
wait_sequenced($standby, $db);
is(numbers($standby, $db, 'a'), '105|105|105', 'and goes on');
$standby->stop;
$node->start;
wait_for_sequencer($node, $db);
wait_sequenced($node, $db);
is(numbers($node, $db, 'a'), '100|100|100', 'the old primary, started again, has its own');

#
# A standby that waits for somebody who is gone
#
$node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
$node->reload;
wait_for_sql($node, $db, 'SHOW synchronous_standby_names', 'nobody');
$s = session($node, $db);
$s->send("SELECT seq_send('s', '1')");
wait_for_sql($node, $db, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = " . $s->pid, 1);
sql($node, $db, "SET synchronous_commit = local; SELECT seq_send('s', '2')");
is(sql($node, $db, 'SELECT waiting_rows, waits_for, waits_for_pids FROM seq_sequencer'), '1|commit|{' . $s->pid . '}',
	'a synchronous standby that is gone: what comes behind the commit waits, and the view says for whom');
ok(eval { wait_for_sql($node, $db, "SELECT query ~ '^waiting for' FROM pg_stat_activity WHERE backend_type = 'calvin_seq sequencer' AND datname = '$db'") }, 'the sequencer sleeps meanwhile') or diag $@;
sql($node, $db, 'SELECT pg_cancel_backend(' . $s->pid . ')');
is(($s->finish)[1], '', 'cancelled, it has committed');
wait_sequenced($node, $db);
is(sql($node, $db, "SELECT string_agg(payload, ' ' ORDER BY log_index, position) FROM sent WHERE collection = 's'"), '1 2', 'and both are sequenced, in order');
$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
$node->reload;
wait_for_sql($node, $db, 'SHOW synchronous_standby_names', '');
is(sql($node, $db, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"), 0, 'the sequencer itself waits for no standby');
forget_sent($node, $db);

#
# An appender, idle in its transaction
#
$hold = hold_log($node, $db);
sql($node, $db, "SELECT seq_send('a', '1'); SELECT seq_send('a', '2')");
wait_held($node, $db);
is(sql($node, $db, "SELECT waiting_rows, waiting_bytes > 0, oldest_waiting BETWEEN now() - interval '1 minute' AND now(), waits_for, waits_for_pids FROM seq_sequencer"),
	'2|t|t|append|{' . $hold->pid . '}', 'an appender idle in its transaction: the view names it');
$error = sql_error($node, $db, "SET lock_timeout = '10ms'; SELECT seq_append_json('{\"EpochBatch\": {\"txns\": []}}')");
like($error, qr/^55P03: /, 'other appenders wait too');
is(sql($node, $db, "SELECT seq_send('a', '3') IS NOT NULL"), 't', 'those who submit do not');
$hold->query('ROLLBACK');
is_next($node, $db, 'a=1 a=2 a=3', 'and all goes on');
is(sql($node, $db, 'SELECT waits_for IS NULL, waits_for_pids IS NULL, oldest_waiting IS NULL FROM seq_sequencer'), 't|t|t', 'nothing is named any more');

#
# A log that takes nothing
#
sql($node, $db, <<'EOS');
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE disk_full USING MESSAGE = 'no place for epoch ' || NEW.epoch; END $$;
CREATE TRIGGER zz_full BEFORE INSERT ON seq_log FOR EACH ROW EXECUTE FUNCTION full_disk();
ALTER TABLE seq_log ENABLE ALWAYS TRIGGER zz_full;
EOS
sql($node, $db, "SELECT seq_send('a', '1')");
wait_for_sql($node, $db, 'SELECT last_error ~ \'no place for epoch\' FROM seq_sequencer');
sql($node, $db, "SELECT seq_send('a', '2')");
is(sql($node, $db, 'SELECT waiting_rows, state, last_error_at <= now() FROM seq_sequencer'), '2|running|t', 'a log that takes nothing: they wait, and the error is shown');
$node->restart;
wait_for_sql($node, $db, 'SELECT last_error ~ \'no place for epoch\' AND waiting_rows = 2 FROM seq_sequencer');
sql($node, $db, "SELECT seq_send('a', '3')");
sql($node, $db, 'DROP TRIGGER zz_full ON seq_log');
wait_sequenced($node, $db);
is_next($node, $db, 'a=1 a=2 a=3', 'when it takes them again, none is lost');

#
# Truncated
#
$s->quit;
$hold->quit;
$hold = hold_log($node, $db);
sql($node, $db, "SELECT seq_send('a', '7'); SELECT seq_send('a', '8')");
$hold->query('COMMIT');
$hold->quit;
wait_sequenced($node, $db);
my $epoch = sql($node, $db, 'SELECT max(epoch) FROM seq_log');
wait_applied($node, $db);
sql($node, $db, "SELECT seq_snapshot(); SELECT seq_truncate((SELECT max(log_index) FROM seq_log), true)");
my $left = sql($node, $db, 'SELECT count(*) FROM seq_log');
sql($node, $db, "SELECT seq_send('a', '9')");
wait_sequenced($node, $db);
is(sql($node, $db, "SELECT string_agg(collection || payload, ' '), min(epoch) FROM sent WHERE epoch > $epoch"), 'a9|' . ($epoch + 1), "a truncated log ($left rows): the epochs go on");
forget_sent($node, $db);

#
# DROP EXTENSION with much in flight, and again
#
sql($node, 'postgres', 'CREATE DATABASE d');
create_extension($node, 'd');
foreach my $i (1 .. 3)
{
	my @senders = map { session($node, 'd') } 1 .. 3;
	my @errors;

	$_->send("DO \$\$ BEGIN FOR i IN 1 .. 100000 LOOP PERFORM seq_send('a', to_jsonb(i)); COMMIT; END LOOP; END \$\$") foreach @senders;
	wait_for_sql($node, 'd', 'SELECT sequenced > 50 FROM seq_sequencer');
	sql($node, 'd', 'CREATE VIEW dependent AS TABLE seq_log; DROP EXTENSION calvin_seq CASCADE');
	push @errors, ($_->finish)[1] foreach @senders;
	is(scalar(grep { $_ =~ /^(?:42883|55000|42P01|53400)/ } @errors), 3, "DROP EXTENSION CASCADE with submissions in flight: they fail ($i)") or diag @errors;
	$_->quit foreach @senders;
	create_extension($node, 'd');
	is(sql($node, 'd', 'SELECT count(*) FROM seq_log'), 0, 'and nothing is in the next one');
	create_sent($node, 'd');
	forget_sent($node, 'd');
	is_next($node, 'd', '', 'which works');
	sql($node, 'd', 'DROP VIEW sent; DROP EXTENSION calvin_seq');
	create_extension($node, 'd');
}

#
# CREATE DATABASE TEMPLATE, with submissions waiting
#
sql($node, 'd', "CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE disk_full; END'; CREATE TRIGGER zz_full BEFORE INSERT ON seq_log FOR EACH ROW EXECUTE FUNCTION never()");
create_sent($node, 'd');
sql($node, 'd', filled('a', 1, 20));
foreach my $strategy ('wal_log', 'file_copy')
{
	wait_until(
		sub {
			# our own workers leave when they are asked for
			my ($ret, $out, $err) = $node->psql('postgres', "CREATE DATABASE copy_$strategy TEMPLATE d STRATEGY $strategy");
			return $ret == 0;
		},
		'the database to be copied');
	sql($node, "copy_$strategy", 'DROP TRIGGER zz_full ON seq_log');
	wait_for_sequencer($node, "copy_$strategy");
	wait_sequenced($node, "copy_$strategy");
	is(numbers($node, "copy_$strategy", 'a'), '20|20|20', "a copy, $strategy, sequences what waited");
	sql($node, "copy_$strategy", filled('a', 21, 5));
	wait_sequenced($node, "copy_$strategy");
	is(numbers($node, "copy_$strategy", 'a'), '25|25|25', 'and goes on');
}
sql($node, 'd', 'DROP TRIGGER zz_full ON seq_log');
wait_for_sequencer($node, 'd');
wait_sequenced($node, 'd');
is(numbers($node, 'd', 'a'), '20|20|20', 'and so does the one that was copied');

#
# Logical replication: there, it does nothing
#
my $subscriber = new_node('subscriber', %fast);
create_extension($subscriber);
create_sent($subscriber, $db);
sql($subscriber, $db, 'CREATE TABLE mine (i int)');
sql($node, $db, 'CREATE TABLE mine (i int); CREATE PUBLICATION p FOR ALL TABLES');
my ($ret, $out, $err) = $subscriber->psql($db, sprintf "CREATE SUBSCRIPTION s CONNECTION 'dbname=$db host=%s port=%s' PUBLICATION p WITH (copy_data = false)", $node->host, $node->port);
is($ret, 0, 'a subscription for all tables') or diag $err;
is(sql($node, $db, "SELECT count(*) FROM pg_publication_tables WHERE tablename ~ '^seq_inbox_'"), 0, 'the inbox is not published');
# (its log can only be that of one of them)
$hold = hold_log($node, $db);
sql($node, $db, filled('a', 1, 20) . "; INSERT INTO mine VALUES (1)");
$node->wait_for_catchup('s');
is(sql($subscriber, $db, 'SELECT count(*) FROM mine'), 1, 'all else is replicated');
is(sql($subscriber, $db, 'SELECT count(*), (SELECT waiting_rows FROM seq_sequencer) FROM seq_inbox'), '0|0', 'what waits is not');
$hold->query('ROLLBACK');
wait_sequenced($node, $db);
sql($subscriber, $db, 'ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s');
is(sql($subscriber, $db, 'SELECT submitted, sequenced, waiting_rows FROM seq_sequencer'), '0|0|0', 'nor is anything sequenced');

$hold->quit;
$_->stop foreach $node, $subscriber;
nothing_crashed($_) foreach $node, $standby, $subscriber;
done_testing();
