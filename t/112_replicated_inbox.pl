# What a restore brings into seq_inbox is put into the log of the database that was
# restored; where logical replication copies it to, nobody sequences it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinSequencer;
use CalvinTest;
use CalvinWire;
use Test::More;

my $source = new_node('source', -streaming => 1, wal_level => 'logical');
my $copy = new_node('copy');
my $va = vshard_of('a');
my $connstr = $source->connstr('postgres') =~ s/'/''/gr;

create_extension($_) foreach $source, $copy;
sql($source, 'postgres', 'CREATE TABLE mark (x int); CREATE PUBLICATION inbox FOR TABLE seq_inbox, mark');
sql($copy, 'postgres', "CREATE TABLE mark (x int); CREATE SUBSCRIPTION inbox CONNECTION '$connstr' PUBLICATION inbox WITH (copy_data = off)");

sub restored { my ($n) = @_; return "INSERT INTO seq_inbox VALUES ($n, $n, 0, '\\x" . unpack('H*', tx_class(plans => "restored$n")) . "')"; }

sub in_log
{
	my ($node) = @_;

	return sql($node, 'postgres', qq{SELECT coalesce(string_agg(convert_from(plans, 'UTF8'), ' ' ORDER BY epoch, "position"), '') FROM seq_replay($va, 0, 1000)});
}

sql($source, 'postgres', restored($_)) foreach 1, 2;
wait_until(sub { in_log($source) eq 'restored1 restored2' }, 'the source to sequence them');
pass('what is restored is put into the log');
sql($source, 'postgres', 'INSERT INTO mark VALUES (1)');
wait_for_sql($copy, 'postgres', 'SELECT count(*) FROM mark', '1');

# its own goes on, behind whatever might have come
sql($copy, 'postgres', q{SELECT seq_send_bytes('a', 'own')});
wait_until(sub { in_log($copy) =~ /own/ }, 'the copy to sequence its own');
is(in_log($copy), 'own', 'each submission once: a copy does not sequence what is the source\'s');
is(sql($copy, 'postgres', 'SELECT count(*) FROM seq_inbox'), 0, 'and does not keep it');

sql($copy, 'postgres', 'DROP SUBSCRIPTION inbox');
$_->stop foreach $source, $copy;
nothing_crashed($_, 0) foreach $source, $copy;
done_testing();
