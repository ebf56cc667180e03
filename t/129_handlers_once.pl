# Handlers: the server calls a function for what a group gets, once, in order, as the
# role that asked for it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinHandler;
use CalvinTest;
use Test::More;

my $node = new_node('main', max_worker_processes => 20);

create_extension($node);
prepare_handlers($node, 'postgres');

#
# What is sent is done, once, in the order of each vshard
#
foreach my $form ('rows', 'all')
{
	my $group = "in_$form";

	sql($node, 'postgres', "SELECT seq_create_group('$group', 4)");
	handle($node, 'postgres', $group, $form, 'workers => 2');
	send_numbers($node, 'postgres', 'orders', 1, 300);
	send_numbers($node, 'postgres', 'bills', 1, 200);
	wait_done($node, 'postgres', $group, 500);
	is(sql($node, 'postgres', "SELECT collection, count(*), count(DISTINCT n), min(n), max(n) FROM done WHERE handler = '$group' GROUP BY 1 ORDER BY 1"),
		"bills|200|200|1|200\norders|300|300|1|300", "$form: each once");
	is(sql($node, 'postgres', "SELECT count(*) FROM (SELECT n, lag(n) OVER (PARTITION BY collection ORDER BY i) AS before FROM done WHERE handler = '$group') s WHERE n < before"),
		0, "$form: in order");
	is(sql($node, 'postgres', "SELECT processed, failed, parked, state, last_error IS NULL, workers, cardinality(pids), rate > 0 FROM seq_handlers WHERE name = '$group'"),
		'500|0|0|running|t|2|2|t', "$form: what seq_handlers says");
	is(sql($node, 'postgres', "SELECT seq_pending('$group')"), 0, "$form: nothing is left");
	sql($node, 'postgres', "SELECT seq_drop_group('$group'); TRUNCATE done");
	is(sql($node, 'postgres', 'SELECT count(*) FROM seq_handlers'), 0, "$form: a handler ends with its group");
}
wait_for_handlers($node, 'postgres', 0);

$node->stop;
nothing_crashed($node);
done_testing();
