# The append lock lives as long as what was appended: also where a cursor wrote
# the rows, whose locks go with the savepoint in which it fails.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use Test::More;

my $node = new_node('append_lock');

create_extension($node, 'postgres');
sql($node, 'postgres', <<'EOS');
-- appends the i-th of some entries; the second one fails
CREATE FUNCTION append_nth(i int) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	IF i = 2 THEN RAISE division_by_zero; END IF;
	RETURN seq_append_json(jsonb_build_object('CompletionAck', jsonb_build_object('epoch', i, 'position', 0, 'vshard_id', 1)));
END $$;
CREATE FUNCTION insert_nth(i int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	result bigint;
BEGIN
	IF i = 2 THEN RAISE division_by_zero; END IF;
	INSERT INTO seq_log (log_index, entry) VALUES (i + (SELECT coalesce(max(log_index), 0) FROM seq_log), '') RETURNING log_index INTO result;
	RETURN result;
END $$;
EOS

# What kind of lock a session's statement waits for, or '' if it is through.
sub waits_for
{
	my ($session) = @_;
	my $kind;

	wait_until(
		sub {
			$kind = sql($node, 'postgres', 'SELECT locktype FROM pg_locks WHERE NOT granted AND pid = ' . $session->pid);
			return $kind ne '' || !$session->running;
		},
		'the other appender');
	return $kind;
}

foreach my $function ('append_nth', 'insert_nth')
{
	foreach my $held ('', 'SELECT append_nth(1);')
	{
		my $first = session($node, 'postgres');
		my $second = session($node, 'postgres');
		my $end = sql($node, 'postgres', 'SELECT coalesce(max(log_index), 0) FROM seq_log');
		my $desc = $function . ($held ? ' behind another append' : '');

		$first->query("BEGIN; $held DECLARE c CURSOR FOR SELECT $function(i) FROM generate_series(1, 3) i; FETCH 1 FROM c; SAVEPOINT s");
		like($first->error('FETCH 1 FROM c'), qr/^22012: /, "$desc: the second FETCH fails");
		$first->query('ROLLBACK TO s');
		is($first->query('SELECT count(*) FROM seq_log WHERE log_index > ' . $end), $held ? 2 : 1,
			"$desc: the row of the first one is there");

		$second->send("INSERT INTO seq_log (entry) VALUES ('') RETURNING log_index");
		is(waits_for($second), 'object', "$desc: another appender waits for the end of the log");
		$first->query('COMMIT');
		is(($second->finish)[0], $end + ($held ? 3 : 2), "$desc: and comes behind it");
		is($second->query("SELECT seq_wait_for_index($end + 2, '30s')"), 't', "$desc: all is applied");
		$_->quit foreach $first, $second;
	}
}

# Released where nothing is left of what was appended.
{
	my $first = session($node, 'postgres');
	my $second = session($node, 'postgres');

	$first->query("BEGIN; DECLARE c CURSOR FOR SELECT append_nth(i) FROM generate_series(1, 3) i; SAVEPOINT s; FETCH 1 FROM c; ROLLBACK TO s");
	$second->send("INSERT INTO seq_log (entry) VALUES ('')");
	is(waits_for($second), '', 'an append that was rolled back keeps nobody waiting');
	is(($second->finish)[1], '', 'who appends then succeeds');
	$first->query('ROLLBACK');
	$_->quit foreach $first, $second;
}
is(sql($node, 'postgres', 'SELECT last_error IS NULL FROM seq_state'), 't', 'the applier has nothing to complain about');
nothing_crashed($node);
done_testing();
