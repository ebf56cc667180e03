# How long functions work on large input without looking for interrupts: measured in
# processor time by a signal (test/interrupts), for every kind of input that can be
# long, in disorder, or repeat itself.  What takes long is done by ever larger pieces of
# input, so at sizes like these any loop that is not interrupted shows.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinTest;
use File::Copy;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'processor time tells nothing under a tool' if under_tool();

my $most = 100;	# ms
my $bytes = ($ENV{INTERRUPTS_MB} || 8) * 1_000_000;
my $db = 'postgres';
my $dir = PostgreSQL::Test::Utils::tempdir_short();
my $node = new_node('interrupts', max_wal_size => '4GB', 'calvin_seq.apply_batch' => '1GB');
create_extension($node, $db);

copy("$FindBin::RealBin/../test/interrupts/$_", "$dir/$_") or die "$_: $!" foreach 'Makefile', 'test_interrupts.c';
my $pg_config = $node->config_data('--bindir') . '/pg_config';
$node->command_ok([ 'make', '-s', '-C', $dir, "PG_CONFIG=$pg_config", 'with_llvm=no' ], 'the measuring tool builds');
sql($node, $db, "CREATE FUNCTION $_ LANGUAGE c AS '$dir/test_interrupts'")
  foreach 'interrupts_watch() RETURNS void', 'interrupts_longest() RETURNS float8', 'interrupts_where() RETURNS text';
sql($node, $db, <<'SQL');
CREATE TABLE inputs (name text, tx bytea, entry bytea, js jsonb);
ALTER TABLE inputs ALTER tx SET STORAGE EXTERNAL, ALTER entry SET STORAGE EXTERNAL, ALTER js SET STORAGE EXTERNAL;
SQL

#
# Inputs
#
sub random
{
	my ($n) = @_;

	open my $fh, '<:raw', '/dev/urandom' or die;
	my $buffer;
	my $got = read($fh, $buffer, $n);
	close $fh;
	die unless $got == $n;
	return $buffer;
}

# Parts of "width" random bytes, each behind a prefix; or fixints.
sub parts
{
	my ($n, $prefix, $width, $small) = @_;
	my $random = random($n * $width);

	$random =~ tr/\x80-\xff/\x00-\x7f/ if $small;
	return join '', map { $prefix . $_ } unpack "(a$width)*", $random;
}

sub array { my ($n, $content) = @_; return "\xdd" . pack('N', $n) . $content }
sub text { my ($text) = @_; return "\xdb" . pack('N', length $text) . $text }
sub key_set { my ($kind, $name, $content) = @_; return "\x92" . text($kind) . "\x92" . text($name) . $content }

sub tx_class
{
	my (%f) = (read => "\x90", write => "\x91" . key_set('Kv', 'w', "\x90"), plans => "\xc4\x00", reads => "\xc0", @_);

	return "\x95$f{read}$f{write}$f{plans}\x01$f{reads}";
}

my $n = $bytes;
my %inputs = (
	# nothing in them is sorted, so there have to be more
	plans => tx_class(plans => "\xc6" . pack('N', 3 * $n) . random(3 * $n)),
	surrogates => tx_class(write => "\x91" . key_set('Vector', 'a', array(int(2 * $n / 5), parts(int(2 * $n / 5), "\xce", 4)))),
	edges => tx_class(read => "\x91" . key_set('Edge', 'a',
			array(int($n / 11), join '', map { "\x92\xce" . substr($_, 0, 4) . "\xce" . substr($_, 4) } unpack '(a8)*', random(8 * int($n / 11))))),
	keys => tx_class(write => "\x91" . key_set('Kv', 'a', array(int($n / 9), parts(int($n / 9), "\x98", 8, 1)))),
	'keys that begin alike' => tx_class(write => "\x91" . key_set('Kv', 'a',
			array(int($n / 2008), parts(int($n / 2008), "\xdd" . pack('N', 2003) . "\x7f" x 2000, 3, 1)))),
	'huge keys' => tx_class(write => "\x91" . key_set('Kv', 'a', "\x94" . join '', map { array($n / 4, "\x7f" x ($n / 4 - 1) . chr(9 - $_)) } 1 .. 4)),
	'key of two bytes each' => tx_class(write => "\x91" . key_set('Kv', 'a', "\x91" . array($n / 2, "\xcc\xff" x ($n / 2)))),
	'key sets' => tx_class(write => array(int($n / 18), join '', map { key_set('Kv', $_, "\x90") } unpack '(a2)*', random(2 * int($n / 18)) =~ tr/\x00-\xff/a-za-za-za-za-za-za-za-za-za-v/r)),
	'huge names' => tx_class(write => "\x92" . join '', map { key_set('Kv', 'x' x ($n / 2) . $_, "\x90") } 'b', 'a'),
	'huge names beyond ASCII' => tx_class(write => "\x92" . join '', map { key_set('Kv', "\xc3\xa4" x ($n / 4) . $_, "\x90") } 'b', 'a'),
	'dependent reads' => tx_class(reads => "\x91\x81\x07" . array(int($n / 19), join '', ("\x91" . key_set('Kv', 'ab', "\x90")) x int($n / 19))),
	'repeated dependent reads' => tx_class(reads => "\x91\xdf" . pack('N', $n / 2) . "\x07\x90" x ($n / 2)));

sub entry
{
	my ($epoch, @txns) = @_;

	return "\x92\xaaEpochBatch\x91\x93" . "\xcf" . pack('Q>', $epoch)
	  . array(scalar @txns, join '', map { "\x94\xcf" . pack('Q>', $epoch) . "\xce" . pack('N', $_) . $txns[$_] . "\x00" } 0 .. $#txns) . "\x00";
}

sub load
{
	my ($name, $column, $content) = @_;

	open my $fh, '>:raw', "$dir/input" or die;
	print $fh $content;
	close $fh or die;
	chmod 0644, "$dir/input";
	sql($node, $db, "UPDATE inputs SET $column = pg_read_binary_file('$dir/input') WHERE name = '$name'");
	unlink "$dir/input";
	return;
}

#
# Measuring
#
my $s = session($node, $db);
my @table;

# How long it took at most, with the error if there was one.
sub measure
{
	my ($what, $input, $sql) = @_;

	$s->query('BEGIN');
	$s->query('SELECT interrupts_watch()');
	my $error = eval { $s->query($sql); 1 } ? '' : $@;
	$s->query('ROLLBACK; BEGIN') if $error ne '';
	my $ms = $s->query('SELECT round(interrupts_longest()::numeric)');
	my $where = $ms >= $most ? $s->query('SELECT interrupts_where()') : '';

	$s->query('ROLLBACK');
	push @table, [ $what, $input, $ms ];
	diag($where) if $where ne '';
	return ($ms, $error);
}

sub in_time
{
	my ($what, $input, $sql) = @_;
	my ($ms, $error) = measure($what, $input, $sql);

	is($error, '', "$what, $input");
	return cmp_ok($ms, '<', $most, "$what, $input: $ms ms");
}

# the tool itself: what is the server's, and known not to look
{
	my ($ms) = measure('repeat, md5', 'a text', "SELECT md5(repeat('x', 400000000))");
	cmp_ok($ms, '>', $most, "the tool sees what is not interrupted: $ms ms");
}

foreach my $name (sort keys %inputs)
{
	my $from = "FROM inputs WHERE name = '$name'";

	sql($node, $db, "INSERT INTO inputs (name) VALUES ('$name')");
	load($name, 'tx', $inputs{$name});
	load($name, 'entry', entry(0, $inputs{$name}));
	delete $inputs{$name};
	in_time('seq_append', $name, "SELECT seq_append(entry) $from");
	in_time('INSERT', $name, "INSERT INTO seq_log (entry) SELECT entry $from");
	in_time('seq_decode', $name, "SELECT pg_column_size(seq_decode(entry)) $from");
	in_time('seq_decode_tx_class', $name, "SELECT pg_column_size(seq_decode_tx_class(tx)) $from");
	sql($node, $db, "UPDATE inputs SET js = seq_decode(entry) WHERE name = '$name'");
	in_time('seq_encode', $name, "SELECT length(seq_encode(js)) $from");
	in_time('seq_append_json', $name, "SELECT seq_append_json(js) $from");
	in_time('seq_collections', $name, "SELECT cardinality(seq_collections(tx)) $from") if $name =~ /set|name|edges/;
	next if $name =~ /plans|reads|key sets/;	# beyond what may be submitted
	in_time('seq_submit_encoded', $name, "SELECT seq_submit_encoded(tx) $from");
	in_time('seq_submit', $name, "SELECT seq_submit(js #> '{EpochBatch,txns,0,tx_class}') $from");
}

# many transactions in one batch
sql($node, $db, "INSERT INTO inputs (name) VALUES ('transactions')");
load('transactions', 'entry', entry(0, (tx_class()) x int($bytes / 40)));
in_time('seq_append', 'transactions', "SELECT seq_append(entry) FROM inputs WHERE name = 'transactions'");
in_time('INSERT', 'transactions', "INSERT INTO seq_log (entry) SELECT entry FROM inputs WHERE name = 'transactions'");
in_time('seq_decode', 'transactions', "SELECT pg_column_size(seq_decode(entry)) FROM inputs WHERE name = 'transactions'");

# from the log: raw, so that what is read is written anew
my $va = vshard_of('w');
my $last = -1;
foreach my $name (grep { !/plans/ } split /\n/, sql($node, $db, 'SELECT name FROM inputs WHERE tx IS NOT NULL ORDER BY 1'))
{
	sql($node, $db, "INSERT INTO seq_log (entry) SELECT set_byte(overlay(entry PLACING '\\xcf' || int8send(${\($last + 1)}) FROM 15), 0, 146) FROM inputs WHERE name = '$name'");
	$last++;
}
wait_applied($node, $db);
is(sql($node, $db, 'SELECT last_applied_epoch FROM seq_state'), $last, 'all of it is in the log');
my $vshards = '(SELECT array_agg(DISTINCT seq_vshard(c)) FROM unnest(ARRAY[\'a\', \'w\']) c)';
in_time('seq_replay', 'all of it', "SELECT sum(length(tx_class)) FROM seq_replay($_, 0, 1000)") foreach $va, vshard_of('a');
in_time('seq_snapshot', 'all of it', 'SELECT seq_snapshot()');
$s->query("SELECT seq_subscribe($vshards, 'late', from_epoch => 0, queue_size => 1048576)");
in_time('seq_receive', 'all of it', "SELECT sum(length(tx_class)) FROM seq_receive(1000, '10s', 'late')");
in_time('seq_truncate', 'all of it', 'SELECT seq_truncate(5, true)');
$s->quit;

note(sprintf '%-22s %-26s %4d ms', @$_) foreach @table;
nothing_crashed($node);
done_testing();
