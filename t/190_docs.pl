# README and the documents: every SQL block is run, in a database for each document, and
# puts out what is shown; links lead somewhere; the reference has all that there is.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinDocs;
use CalvinTest;
use File::Basename qw(dirname);
use PostgreSQL::Test::Utils;
use Test::More;

my $top = dirname($FindBin::RealBin);
my @documents = map { s{^\Q$top\E/}{}r } ("$top/README.md", "$top/CHANGELOG.md", sort glob("$top/docs/*.md"));
my $node = new_node('docs', 'calvin_seq.max_databases' => scalar(@documents) + 2, max_worker_processes => 2 * @documents + 20);

# How many blocks cannot be run, each with its reason beside it: who marks another one
# says so here as well.
my %not_run = (
	'docs/backup.md' => 4,
	'docs/followers.md' => 1,
	'docs/patroni.md' => 1,
	'docs/replication.md' => 2,
	'docs/retention.md' => 1,
	'docs/scale-out.md' => 4);
# Documents whose outputs are there to be seen.
my %outputs = ('README.md' => 3, 'docs/tutorial.md' => 13);
my %seen;

# The first line of an output that is not in another one as a whole, '' if all are.
sub difference
{
	my ($shown, $output) = @_;
	my $whole = "\n" . ($shown =~ s/[ \t]+$//mgr =~ s/\n+\z//r) . "\n";

	return $whole =~ /\S/ && index("\n$output\n", $whole) >= 0 ? '' : "shown:\n$shown\nbut it puts out:\n$output\n";
}

# What was sent is applied: a reader is slower than we are.
sub settle
{
	my ($db) = @_;

	return if sql($node, $db, q{SELECT count(*) FROM pg_extension WHERE extname = 'calvin_seq'}) == 0;
	return wait_for_sql($node, $db, 'SELECT s.waiting_rows = 0 AND t.lag = 0 AND t.applier_pid IS NOT NULL FROM seq_sequencer s, seq_state t');
}

# All of it once; what does not do as it says.
sub run_document
{
	my ($document, $db, @parts) = @_;
	my $terminal = terminal($node, $db);
	my ($n, @wrong) = (0);

	foreach my $part (@parts)
	{
		my ($kind, $line, $text, $shown) = @$part;

		settle($db) if $kind eq 'sql';
		if ($kind eq 'until') { wait_for_sql($node, $db, $text); }
		next unless $kind eq 'sql' || $kind eq 'run';
		my $output = $terminal->put_in($text);
		my $fails = $output =~ /^(?:ERROR|FATAL|WARNING):/m;
		my $difference = $kind eq 'run' || !defined $shown ? '' : difference($shown, $output);

		$n++ if $kind eq 'sql' && defined $shown;
		push @wrong, "$document, line $line: $difference" if $difference ne '';
		push @wrong, "$document, line $line, fails:\n$output" if $fails && ($shown // '') !~ /^(?:ERROR|FATAL|WARNING):/m;
	}
	$terminal->leave;
	return ($n, @wrong);
}

sub database_of
{
	my ($document, @parts) = @_;
	my ($named) = map { $_->[2] } grep { $_->[0] eq 'database' } @parts;

	return $named if defined $named;
	return $document =~ s{.*/}{}r =~ s{\.md$}{}r =~ s/\W/_/gr;
}

foreach my $document (@documents)
{
	my @parts = document_parts("$top/$document");
	my $db = database_of($document, @parts);
	my $blocks = grep { $_->[0] eq 'sql' } @parts;
	my $skipped = grep { $_->[0] eq 'not_run' } @parts;

	is($skipped, $not_run{$document} // 0, "$document: blocks that cannot be run");
	next unless $blocks;
	sql($node, 'postgres', "CREATE DATABASE $db");
	create_extension($node, $db) unless grep { $_->[2] =~ /^CREATE EXTENSION IF NOT EXISTS calvin_seq;/m } @parts;
	my ($n, @wrong) = run_document($document, $db, @parts);
	is(join("\n", @wrong), '', "$document: $blocks blocks do what is shown");
	cmp_ok($n, '>=', $outputs{$document} // 0, "$document: shows its outputs");
	$seen{$document} = $blocks;
}
cmp_ok($seen{'README.md'}, '>=', 4, 'README is run');
cmp_ok($seen{'docs/tutorial.md'}, '>=', 17, 'the tutorial is run');
cmp_ok(scalar(keys %seen), '>=', 8, 'and so are the others');

# The first screen may be pasted again, and a message of two collections is worked on once.
my ($first) = grep { $_->[0] eq 'sql' } document_parts("$top/README.md");
my $app = terminal($node, 'app');
my $again = $app->put_in($first->[2]);
unlike($again, qr/^(?:ERROR|WARNING)/m, 'the first screen again');
like($again, qr/orders\/4711 \| \{"status": "paid"\}\n orders\/4711 \| \{"status": "paid"\}\n/, 'does its work again');
my ($worker) = $first->[2] =~ /(-- a worker .*?^COMMIT;)/ms;
sql($node, 'app', "SELECT seq_unhandle('mailer')");
sql($node, 'app', q{SELECT seq_submit('{"write_set": [{"Document": {"collection": "two/1"}}, {"Document": {"collection": "two/2"}}], "plans": "\\\\x7b7d"}')});
isnt(vshard_of('two/1'), vshard_of('two/2'), 'two collections of two vshards');
settle('app');
is(sql($node, 'app', "SELECT seq_pending('mailer')"), 2, 'come twice');
$app->put_in("$worker\n$worker");
is(sql($node, 'app', "SELECT count(*) FROM letters WHERE about ~ '^two/'"), 1, 'README\'s worker works on them once');
$app->leave;

# Links.
my %anchors;
foreach my $document (@documents)
{
	my @dead;

	foreach my $link (document_links("$top/$document"))
	{
		my ($path, $anchor) = split /#/, $link, 2;
		my $file = $path eq '' ? "$top/$document" : dirname("$top/$document") . "/$path";

		if (!-e $file) { push @dead, $link; }
		elsif (defined $anchor)
		{
			$anchors{$file} //= document_anchors($file);
			push @dead, $link unless $anchors{$file}{$anchor};
		}
	}
	is("@dead", '', "$document: its links lead somewhere");
}
my $index = slurp_file("$top/docs/README.md");
is(join(' ', grep { $_ ne 'README.md' && $index !~ /\]\(\Q$_\E\)/ } map { s{.*/}{}r } glob("$top/docs/*.md")), '', 'the index has every document');

#
# The reference, beside the catalogs
#
my $reference = slurp_file("$top/docs/reference.md");
my $db = 'reference';
my $members = "JOIN pg_depend d ON d.objid = o.oid AND d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'calvin_seq') AND d.classid =";
my @missing;

# As it is written there: int, not integer; a default as a person writes it; nothing that is put out.
sub signature
{
	my ($name, $arguments) = @_;

	$arguments = join(', ', grep { !/^(?:OUT|TABLE) / } split(/, /, $arguments));
	$arguments =~ s/::[a-z ]+(?:\[\])?//g;
	$arguments =~ s/'00:00:00'/'0'/g;
	$arguments =~ s/'00:01:00'/'1 min'/g;
	$arguments =~ s/'00:00:00\.1'/'100 ms'/g;
	$arguments =~ s/\binteger\b/int/g;
	$arguments =~ s/\bNULL\b/null/g;
	return "$name($arguments)";
}
my $functions = 0;
foreach my $row (split /\n/, sql($node, $db, "SELECT proname, prorettype::regtype, pg_get_function_arguments(o.oid) FROM pg_proc o $members 'pg_proc'::regclass ORDER BY 1"))
{
	my ($name, $type, $arguments) = split /\|/, $row, 3;
	my $wanted = $name =~ /_info$/ || $type =~ /trigger|internal/ ? $name : signature($name, $arguments);

	$functions++;
	push @missing, $wanted unless $reference =~ /`\Q$wanted\E`/;
}
cmp_ok($functions, '>', 80, 'functions there are');
is(join("\n", @missing), '', 'the reference has each, with its arguments');
is(sql($node, $db, "SELECT string_agg(relname, ' ') FROM pg_class o $members 'pg_class'::regclass WHERE relkind IN ('r', 'v', 'm', 'S') AND NOT relname = ANY ('{"
		  . join(',', $reference =~ /`(seq_\w+)`/g) . "}')"), '', 'every table and view');
is(sql($node, $db, "SELECT string_agg(relname || '.' || attname, ' ') FROM pg_attribute a JOIN pg_class o ON a.attrelid = o.oid AND attnum > 0 $members 'pg_class'::regclass WHERE relkind = 'v' AND NOT attname = ANY ('{"
		  . join(',', $reference =~ /`(\w+)`/g) . "}')"), '', 'every column of a view');
is(sql($node, $db, "SELECT string_agg(name, ' ') FROM pg_settings WHERE name LIKE 'calvin\\_seq.%' AND NOT name = ANY ('{"
		  . join(',', $reference =~ /^\| `(calvin_seq\.\w+)`/mg) . "}')"), '', 'every setting');
# Nothing that is not there.
is(join(' ', grep { sql($node, $db, "SELECT current_setting('$_', true) IS NULL") eq 't' } $reference =~ /`(calvin_seq\.\w+)`/g), '', 'settings that it names are there');
foreach my $json (grep { $_->[0] eq 'json' } document_parts("$top/docs/reference.md"))
{
	like(sql($node, $db, "SELECT seq_encode(\$json\$$json->[2]\$json\$)"), qr/^\\x92/, "the entry in line $json->[1] is one");
}

nothing_crashed($node);
$node->stop;
done_testing();
