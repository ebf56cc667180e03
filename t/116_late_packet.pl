# A heap of the inbox that has been emptied gets something from one who was late: it
# has its turn all the same.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinSubmit;
use CalvinTest;
use Test::More;

my $db = 'postgres';
my $node = new_node('main', fsync => 'off', max_wal_size => '2GB');
my $n = 0;

create_extension($node);
create_sent($node, $db);
my $s = session($node, $db);
my $late = session($node, $db);

sub push_through
{
	$s->query(filled('a', $n + 1, 500, 1000));
	$n += 500;
	wait_sequenced($node, $db);
	return;
}

sub storage { return sql($node, $db, q{SELECT pg_relation_filenode('seq_inbox_0')}); }

# It has chosen its heap, and then lets go of it with what it wrote.
$late->query('BEGIN; SAVEPOINT a');
$late->query(filled('gone', 1, 3000, 1000));
$late->query('ROLLBACK TO a');
my $first = storage();
my $emptied = 0;

foreach (1 .. 200)
{
	push_through();
	$emptied = sql($node, $db, "SELECT pg_relation_size('seq_inbox_0') = 8192") eq 't' && storage() ne $first;
	last if $emptied;
}
ok($emptied, 'the heap was filled and emptied meanwhile');
my $second = storage();
$late->query("SELECT seq_send('late', '1'); COMMIT");
wait_sequenced($node, $db);
is(sql($node, $db, "SELECT count(*) FROM sent WHERE collection = 'late'"), 1, 'what came late is in the log');
is(storage(), $second, 'in the heap it had chosen');
foreach (1 .. 120)
{
	push_through();
	last if storage() ne $second;
}
isnt(storage(), $second, 'which is emptied again, or has its turn');
is(numbers($node, $db, 'a'), "$n|$n|$n", 'nothing else is lost');
$_->quit foreach $s, $late;
$node->stop;
done_testing();
