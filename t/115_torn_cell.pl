# What shared memory says of a packet's place may be another's, where somebody was
# so late that others have gone once round all cells: it is a hint, and not believed.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinPause;
use CalvinSubmit;
use CalvinTest;
use Test::More;

require_pauses();

my $db = 'postgres';
my $node = new_node('main', fsync => 'off');
# as many as SUBMITTER_CELLS, and some
my $others = 16384 + 16;

create_extension($node);
create_sent($node, $db);
sql($node, $db, 'CREATE DATABASE side');
sql($node, $db, <<EOS);
CREATE PROCEDURE others() LANGUAGE plpgsql AS \$\$
BEGIN
	FOR i IN 1 .. $others LOOP
		PERFORM seq_send_bytes('others', i::text::bytea);
		COMMIT;
	END LOOP;
END \$\$;
EOS

my $p = pauses($node, 'side');
my $late = session($node, $db);

$p->arm('submitters: in a cell', $late->pid);
$late->send("SELECT seq_send('late', '1')");
$p->reached('submitters: in a cell');
sql($node, $db, 'CALL others()');
ok($p->release('submitters: in a cell'), 'it was there all the time');
$late->finish;
wait_sequenced($node, $db);
is(sql($node, $db, "SELECT count(*) FROM sent WHERE collection = 'late'"), 1, 'what was late is in the log');
is(numbers($node, $db, 'others'), "$others|$others|$others", 'and all others, in order');
is(sql($node, $db, 'SELECT submitted - sequenced, waiting_rows FROM seq_sequencer'), '0|0', 'nothing waits');
$late->quit;
$p->quit;
$node->stop;
done_testing();
