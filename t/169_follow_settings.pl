# What is set, locked, moved or stopped around a follower does not stop it, and does not have it
# say that it follows when it does not: settings of roles and databases at both ends, locks and a
# standby that is away at the source, an error here, another log among its hosts.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinFollow;
use CalvinTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $source = new_node('source', max_prepared_transactions => 2);
my $follower = new_node('follower', 'calvin_seq.follower_timeout' => '1500ms', 'calvin_seq.max_databases' => 8, max_worker_processes => 30);
my $epoch = 0;

create_extension($_, $db) foreach $source, $follower;
sql($source, $db, 'CREATE ROLE feeder LOGIN; GRANT EXECUTE ON FUNCTION seq_feed, seq_feed_state, seq_feed_note, seq_feed_acks TO feeder');
my $to = source_of($source, $db, 'user=feeder');

sub append
{
	my ($n) = @_;

	append_batches($source, $db, $epoch, $epoch + $n - 1, [ [ [ [ 'a', 1 ], [ 'b', 2 ] ], 'ab', 1 ] ]);
	$epoch += $n;
	return;
}

sub acks { my ($node) = @_; return sql($node, $db, q{SELECT count(*) FROM seq_log WHERE kind = 'completion_ack'}); }
sub feeders { return sql($source, $db, q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'feeder'}); }

# Until the source has answered once more from now on.
sub wait_proved
{
	my ($name) = @_;

	return wait_for_sql($follower, $name, "SELECT proved_at > '" . sql($follower, $db, 'SELECT clock_timestamp()') . "' FROM seq_follower");
}

#
# What is set for the role, and for the source's database
#
my %settings = (
	array_nulls => 'off',
	bytea_output => 'escape',
	client_encoding => 'LATIN1',
	client_min_messages => 'debug5',
	'DateStyle' => 'German',
	default_transaction_deferrable => 'on',
	default_transaction_isolation => 'serializable',
	default_transaction_read_only => 'on',
	idle_in_transaction_session_timeout => '1ms',
	idle_session_timeout => '1ms',
	'IntervalStyle' => 'sql_standard',
	lock_timeout => '1ms',
	quote_all_identifiers => 'on',
	row_security => 'off',
	search_path => 'evil',
	standard_conforming_strings => 'off',
	statement_timeout => '1ms',
	'TimeZone' => 'America/Caracas',
	transform_null_equals => 'on',
	work_mem => '64kB');

sql($source, $db, join '', map { "ALTER ROLE feeder SET $_ = '$settings{$_}';\n" } sort keys %settings);
sql($source, $db, <<'EOS');
CREATE SCHEMA evil;
CREATE FUNCTION evil.seq_feed(bigint, bigint, interval) RETURNS TABLE (log_index bigint, appended_at timestamptz, entry bytea, applied_index bigint, digest text) LANGUAGE sql AS $$ SELECT NULL::bigint, NULL::timestamptz, NULL::bytea, NULL::bigint, NULL::text $$;
GRANT USAGE ON SCHEMA evil TO feeder;
EOS
append(10);
follow($follower, $db, $to, $source);
is_copy($source, $db, $follower, $db, 'whatever is set for the role');
wait_for_sql($source, $db, 'SELECT log_index FROM seq_followers', 10);
sql($follower, $db, 'SELECT seq_ack(3, 0, 1)');
wait_for_sql($follower, $db, 'SELECT acks_waiting FROM seq_follower', 0);
is(acks($source), 1, 'acknowledgements, too');
sql($source, $db, "ALTER DATABASE $db SET default_transaction_read_only = on");
sql($source, 'template1', 'SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = $$feeder$$');
sql($source, $db, "BEGIN READ WRITE; INSERT INTO seq_log (entry) VALUES (''); COMMIT");
is_copy($source, $db, $follower, $db, 'a database that is read-only unless told otherwise');
sql($source, 'template1', "ALTER DATABASE $db RESET default_transaction_read_only");

#
# What is set here, with a trigger of the owner's, so that the executor stores the rows
#
sql($follower, $db, <<'EOS');
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER zz BEFORE INSERT ON seq_log FOR EACH ROW EXECUTE FUNCTION look();
EOS
my @here = grep { !/^client|search_path/ } sort keys %settings;
my $worker = q{FROM pg_stat_activity WHERE backend_type = 'calvin_seq sequencer' AND datname = 'postgres'};
sql($follower, $db, join '', map { "ALTER DATABASE $db SET $_ = '$settings{$_}';\n" } @here);
sql($follower, 'template1', "SELECT pg_terminate_backend(pid, 60000) $worker");
append(5);
wait_applied($source, $db);
wait_for_sql($follower, 'template1', "SELECT count(*) $worker", 1);
wait_for_sql($source, $db, 'SELECT log_index FROM seq_followers', sql($source, $db, 'SELECT max(log_index) FROM seq_log'));
sql($follower, 'template1', join '', map { "ALTER DATABASE $db RESET $_;\n" } @here);
is_copy($source, $db, $follower, $db, 'whatever is set here');

#
# An error here
#
sql($follower, $db, q[CREATE OR REPLACE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the disk is full'; END $$]);
append(5);
wait_applied($source, $db);
wait_follower_state($follower, $db, 'failed');
is(follower($follower, $db, 'last_error, connected_to IS NULL'), 'the disk is full|t', 'an error here: the state says so');
is(follower($follower, $db, 'proved_index = log_index AND log_index < ' . sql($source, $db, 'SELECT last_applied_index FROM seq_state')), 't', 'and nothing is said to be there that is not');
sql($follower, $db, 'DROP TRIGGER zz ON seq_log');
is_copy($source, $db, $follower, $db, 'without it it goes on');
wait_follower_state($follower, $db, 'following');

#
# Locks at the source
#
{
	my $s = session($source, $db);

	$s->query('BEGIN; LOCK TABLE seq_follower_positions IN ACCESS EXCLUSIVE MODE');
	wait_for_sql($follower, $db, q{SELECT state = 'unreachable' AND last_error ~ '^the source answers: canceling statement due to lock timeout' FROM seq_follower});
	foreach (1 .. 3)
	{
		my $at = follower($follower, $db, 'last_error_at');

		wait_for_sql($follower, $db, "SELECT last_error_at > '$at' FROM seq_follower");
	}
	ok(feeders() <= 2, 'a lock at the source is told, and sessions do not pile up behind it');
	$s->query('ROLLBACK');
	append(3);
	is_copy($source, $db, $follower, $db, 'without the lock it goes on');
	$s->quit;
}

#
# A standby of the source that is away: what was applied before is given out
#
sql($source, $db, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
$source->reload;
wait_for_sql($source, $db, "SELECT current_setting('synchronous_standby_names')", 'nobody');
sql($follower, $db, 'CREATE DATABASE late');
create_extension($follower, 'late');
follow($follower, 'late', $to);
wait_follower_state($follower, 'late', 'following');
is(log_md5($follower, 'late'), log_md5($source, $db), 'a late follower gets what was confirmed before');
sql($source, $db, 'ALTER SYSTEM RESET synchronous_standby_names');
$source->reload;
append(3);
is_copy($source, $db, $follower, 'late', 'and the rest when it is back');
sql($follower, $db, 'DROP DATABASE late');

#
# The extension moves at the source; the follower's database gets another name
#
sql($source, $db, 'CREATE SCHEMA "a ""b"; GRANT USAGE ON SCHEMA "a ""b" TO feeder');
SKIP:
{
	my $error = sql_error($source, $db, 'ALTER EXTENSION calvin_seq SET SCHEMA "a ""b"');

	skip "not to be moved: $error", 2 if $error ne '';
	sql($source, $db, 'SET search_path = "a ""b"; SELECT seq_append_json($${"EpochBatch": {"txns": []}}$$)');
	$epoch++;
	wait_for_sql($follower, $db, 'SELECT max(epoch) FROM seq_log', $epoch - 1);
	pass('the extension has moved');
	sql($source, $db, 'ALTER EXTENSION calvin_seq SET SCHEMA public');
	append(1);
	is_copy($source, $db, $follower, $db, 'and again');
}
sql($follower, $db, 'CREATE DATABASE one');
create_extension($follower, 'one');
follow($follower, 'one', $to, $source);
sql($follower, $db, 'ALTER DATABASE one RENAME TO two');
append(2);
is_copy($source, $db, $follower, 'two', 'a database that follows is renamed');
wait_for_sql($source, $db, q{SELECT count(*) FROM seq_followers WHERE name ~ '/two$'}, 1);
sql($follower, 'two', 'DROP EXTENSION calvin_seq');
create_extension($follower, 'two');
is(sql($follower, 'two', 'SELECT count(*) FROM seq_follower'), 0, 'an extension that is created anew follows nobody');
sql($follower, $db, 'DROP DATABASE two');

#
# A name that is not in the encoding
#
sql($follower, $db, q{CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'});
{
	my $s = session($follower, 'latin');

	# a database cannot be copied from within itself
	$s->query(qq{SET client_encoding = 'LATIN1'; CREATE DATABASE "donn\xe9e" TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'});
	create_extension($follower, "donn\xe9e");
	follow($follower, "donn\xe9e", $to, $source);
	wait_for_sql($source, $db, q{SELECT count(*) FROM seq_followers WHERE name ~ '/donn\?e$'}, 1);
	pass('a database whose name is in another encoding');
	$s->query(qq{DROP DATABASE "donn\xe9e"});
	$s->quit;
}

#
# A log that is full
#
sql($source, $db, 'CREATE DATABASE full_log');
create_extension($source, 'full_log');
sql($source, 'full_log', q{INSERT INTO seq_log (entry) SELECT '' FROM generate_series(1, 10)});
sql($follower, $db, 'CREATE DATABASE full_log');
create_extension($follower, 'full_log');
sql($follower, 'full_log', q{SELECT seq_follow('} . source_of($source, 'full_log') . q{')});
wait_for_sql($follower, 'full_log', 'SELECT count(*) FROM seq_log', 10);
sql($source, 'full_log', q{INSERT INTO seq_log (log_index, entry) VALUES (9223372036854775807, '')});
wait_for_sql($follower, 'full_log', 'SELECT max(log_index) FROM seq_log', '9223372036854775807');
wait_proved('full_log');
is(follower($follower, 'full_log', 'state, last_error IS NULL'), 'following|t', 'the last log_index that there is');
sql($follower, 'full_log', q{SELECT seq_follow('} . source_of($source, 'full_log') . q{')});
wait_proved('full_log');
is(follower($follower, 'full_log', 'state, last_error IS NULL'), 'following|t', 'is where it can go on, too');
sql($follower, $db, 'DROP DATABASE full_log');

#
# Another log among the hosts gets nothing of this one
#
my $other = new_node('other');
create_extension($other, $db);
sql($other, $db, 'CREATE ROLE feeder LOGIN; GRANT EXECUTE ON FUNCTION seq_feed, seq_feed_state, seq_feed_note, seq_feed_acks TO feeder');
append_batches($other, $db, 0, 30, [ [ [ ['a'], 'ff', 1 ] ] ]);
wait_applied($other, $db);
sql($follower, $db, q{SELECT seq_follow('} . source_of([ $source, $other ], $db, 'user=feeder') . q{')});
wait_follower_state($follower, $db, 'following');
{
	my $path = $source->host . '/.s.PGSQL.' . $source->port;
	my $before = sql($other, $db, 'SELECT count(*) FROM seq_log');
	my $offset = log_offset($follower);

	# its connection for the log stays, and there is no other one to be had
	rename $path, "$path.away" or die "rename: $!";
	sql($follower, $db, 'SELECT seq_ack(4, 0, 1)');
	wait_for_log_line($follower, qr/acknowledgements cannot be shipped: the log at .* has another digest at log_index \d+/, $offset);
	is(follower($follower, $db, 'acks_waiting'), 1, 'an acknowledgement waits');
	is(sql($other, $db, 'SELECT count(*) FROM seq_log'), $before, 'and the other log has got nothing');
	rename "$path.away", $path or die "rename: $!";
	wait_for_sql($follower, $db, 'SELECT acks_waiting FROM seq_follower', 0);
	is(acks($source), 2, 'until the right one is there');
}

$_->stop foreach $follower, $other, $source;
nothing_crashed($_) foreach $source, $follower, $other;
done_testing();
