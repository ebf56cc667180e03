# A server of an older major version with everything in place becomes one of this version:
# by pg_upgrade in both modes, by dump and restore, by a follower.  What docs/upgrading.md
# says is done with its own commands.
#
# CALVIN_OLD_SERVER is an installation of the older server with the extension;
# OLD_PG_CONFIG= of scripts/test.sh makes it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use CalvinFollow;
use CalvinGroup;
use CalvinSubmit;
use CalvinTest;
use CalvinUpgrade;
use Cwd qw(getcwd);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old_server = $ENV{CALVIN_OLD_SERVER};

plan skip_all => 'no older server to upgrade from (CALVIN_OLD_SERVER)' unless $old_server;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $txn = [ [ [ 'a', 1 ], [ 'b', 2 ] ], 'ab', 1 ];
my $va = vshard_of('a');
my $vo = vshard_of('orders/1');
my $document = slurp_file("$FindBin::RealBin/../docs/upgrading.md");
my %conf = (
	'calvin_seq.max_databases' => 12,
	'calvin_seq.max_handlers' => 4,
	'calvin_seq.snapshot_interval' => 5,
	max_worker_processes => 60,
	# so that the log has every worker that begins
	log_min_messages => 'debug1');
my $old = new_node('old', -install => $old_server, %conf);
my $elsewhere = new_node('elsewhere', %conf);
# pg_config may be the system's: the tests' programs are on the path
my $new_bin = dirname_of('pg_upgrade');
my $versions = join ' to ', map { sql($_, 'postgres', 'SHOW server_version') =~ s/ .*//sr } $old, $elsewhere;

note $versions;

sub dirname_of
{
	my ($program) = @_;
	my ($dir) = grep { -x "$_/$program" } split /:/, $ENV{PATH};

	return $dir;
}

# The commands, or statements, of a section of the document that have a pattern in them.
sub block
{
	my ($section, $language, $pattern) = @_;
	my ($text) = $document =~ /^## \Q$section\E\n(.*?)(?=^## |\z)/ms;
	my @blocks = grep { /$pattern/ } $text =~ /^```$language\n(.*?)^```$/msg;

	die "no such block in section $section: $pattern" unless @blocks == 1;
	return $blocks[0];
}

# Have a shell run them, in the directory of this test, with these variables.
sub shell
{
	my ($commands, $desc, $on, %variables) = @_;
	my $here = getcwd();

	local %ENV = (%ENV, %variables, PGHOST => $on->host, PGPORT => $on->port);
	chdir $dir or die $!;
	my $status = system('sh', '-ec', $commands);
	chdir $here or die $!;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($status, 0, $desc);
}

#
# Everything in place
#
create_extension($old, 'template1');
foreach my $db (qw(app waits copy from_1_0))
{
	sql($old, 'postgres', "CREATE DATABASE $db TEMPLATE template0");
}
# one whose log is empty, as template1 has it
sql($old, 'postgres', 'CREATE DATABASE nothing TEMPLATE template1');
sql($old, 'app', 'CREATE SCHEMA "Log Schema"; CREATE EXTENSION calvin_seq SCHEMA "Log Schema"; ALTER DATABASE app SET search_path = "Log Schema", public');
wait_for_applier($old, 'app');
create_extension($old, $_) foreach qw(waits copy);
create_extension($elsewhere, 'postgres');

# A log of all kinds of entries, truncated, with a cursor, a group, a handler, grants.
append_batches($old, 'app', 0, 9, [$txn]);
sql($old, 'app', "SELECT seq_register('worker', '{$va}'), seq_create_group('g', 4, collections => '{orders/%}'), seq_create_group('h', 4, collections => '{orders/%}')");
wait_applied($old, 'app');
sql($old, 'app', 'SELECT seq_snapshot()');
is(sql($old, 'app', 'SELECT seq_truncate() > 0'), 't', 'truncated');
append_batches($old, 'app', 10, 16, [$txn]);
sql($old, 'app', "INSERT INTO seq_log (entry) VALUES ('\\xc1'), (''), ('\\x" . batch_hex(2, 0) . "'), ('\\x" . batch_hex(19, 0, $txn) . "')");
sql($old, 'app', "SELECT seq_ack(12, 0, $va); INSERT INTO seq_log (log_index, entry) SELECT max(log_index) + 100, '' FROM seq_log");
wait_applied($old, 'app');

my $s = session($old, 'app');
$s->query("SELECT seq_subscribe('{$va}', 'worker')");
is($s->query("BEGIN; SELECT string_agg(epoch::text, ',') FROM seq_receive(3, '30s', 'worker'); SELECT seq_commit('worker'); COMMIT"),
	"10,11,12\n1", 'a consumer has committed');
$s->quit;
send_to($old, 'app', map { ('orders/1', $_) } 1 .. 20);
is(sql($old, 'app', numbers_of("seq_fetch_json('g', 7)")), join(',', 1 .. 7), 'a group has taken some');
sql($old, 'app', "SELECT seq_park('g', $vo, epoch, \"position\", 'aside') FROM seq_replay($vo, 10, 1000) WHERE seq_json(plans) = '9'");
sql($old, 'app', <<'EOS');
CREATE TABLE public.effects (n int GENERATED ALWAYS AS IDENTITY, payload text);
CREATE FUNCTION public.handle(t seq_txn) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.effects (payload) VALUES (seq_json(t.plans)::text) $$;
SELECT seq_handle('h', 'public.handle(seq_txn)');
CREATE ROLE reader;
CREATE ROLE writer LOGIN;
GRANT USAGE ON SCHEMA "Log Schema" TO reader, writer;
GRANT SELECT ON seq_log TO reader;
GRANT EXECUTE ON FUNCTION seq_send TO writer;
CREATE PUBLICATION p FOR TABLE seq_log WITH (publish = 'insert');
EOS
my $effects = "SELECT coalesce(string_agg(payload, ',' ORDER BY n), '') FROM public.effects";
wait_for_sql($old, 'app', $effects, join(',', 1 .. 20));

# Databases that follow another server, and are followed.
append_batches($elsewhere, 'postgres', 0, 9, [$txn]);
follow($old, 'copy', source_of($elsewhere, 'postgres'), $elsewhere);
sql($elsewhere, 'postgres', 'CREATE DATABASE follower TEMPLATE template0');
create_extension($elsewhere, 'follower');
follow($elsewhere, 'follower', source_of($old, 'app'));
is_copy($old, 'app', $elsewhere, 'follower', 'a follower of a later version');
sql($elsewhere, 'follower', "SELECT seq_create_group('theirs', from_epoch => seq_next_epoch())");

# One whose extension is that of the first version.
append_batches($old, 'nothing', 0, 6, [$txn]);
wait_applied($old, 'nothing');
my $state_1_0 = state($old, 'nothing');
as_of_version($old, 'nothing', '1.0', 'from_1_0');
sql($old, 'postgres', 'DROP DATABASE nothing');
sql($old, 'postgres', 'CREATE DATABASE nothing TEMPLATE template1');
wait_for_applier($old, 'nothing');

# Messages that wait in the inbox.
create_sent($old, 'waits');
sql($old, 'waits', filled('a', 1, 10));
wait_sequenced($old, 'waits');
my $hold = hold_log($old, 'waits');
sql($old, 'waits', filled('a', 11, 5));
wait_held($old, 'waits');

append_to_file("$dir/digest.sql", block('pg_upgrade', 'sql', 'digest'));
shell(block('pg_upgrade', 'sh', 'before.txt\n\z'), 'the digests before', $old);
my $kept = kept($old, 'app');
my @before = split /\n/, slurp_file("$dir/before.txt");
is(join(' ', map { s/\|.*//r } @before), 'app copy nothing template1 waits', '... are those of all but what the library does not serve');

sub kept
{
	my ($node, $db) = @_;

	return join "\n", map { sql($node, $db, $_) } 'SELECT log_index, md5(entry), kind, epoch, appended_at FROM seq_log ORDER BY 1',
	  'SELECT name, vshard, epoch, position, version, committed_at FROM seq_cursors ORDER BY 1, 2',
	  'SELECT log_index, last_applied_epoch, digest, digest_version FROM seq_snapshots WHERE base',
	  'SELECT name, vshard, epoch, "position", reason FROM seq_parked ORDER BY 1, 2',
	  'SELECT name, owner, kind, vshards, partitions FROM seq_consumers ORDER BY 1', 'TABLE seq_identity';
}

#
# Dump and restore of all databases, while it runs
#
my @dumped = qw(app nothing waits);
my $restored = new_node('restored', %conf);
shell(block('Dump and restore', 'sh', 'pg_dumpall') =~ s/^(.*pg_dump".*)app$/join "\n", map { my $d = $_; $1 =~ s{app}{$d}r . $d } @dumped/mer,
	'dumped by the new programs', $old, NEW_BIN => $new_bin);
my $restore = block('Dump and restore', 'sh', 'pg_restore');
# roles that are there already are no matter
shell($restore =~ s/\n.*//sr, 'globals', $restored, NEW_BIN => $new_bin);
shell($restore =~ s/^.*?\n//sr =~ s/\bapp\b/$_/r, "restored: $_", $restored, NEW_BIN => $new_bin) foreach @dumped;
check_app($restored, 'restored');
check_waits($restored, 'restored');
$restored->stop;

#
# pg_upgrade
#
$old->stop;
system_or_bail('cp', '-a', $old->data_dir, "$dir/second");
$old->start;
like(sql($old, 'waits', 'SELECT 1'), qr/^1$/, 'the old one starts again');
$old->stop;
system_or_bail('rm', '-rf', $old->data_dir);
system_or_bail('cp', '-a', "$dir/second", $old->data_dir);

upgrade('--copy', $old->data_dir);
system_or_bail('rm', '-rf', $old->data_dir);
system_or_bail('mv', "$dir/second", $old->data_dir);
upgrade('--link', $old->data_dir);

sub upgrade
{
	my ($mode, $data) = @_;
	my $checksums = $elsewhere->pg_version >= 18 && $old->pg_version < 18 ? '--no-data-checksums' : '';
	my $node = new_node('by' . $mode =~ tr/-/_/r, -start => 0, -port => $old->port, -extra => [ grep { $_ } $checksums ], %conf);
	my $begun = log_offset($old);

	# --retain keeps the servers' logs of meanwhile, and --socketdir is for the length of its name
	shell(block('pg_upgrade', 'sh', '--check') =~ s/\$MODE/\$MODE --retain --socketdir=\$PGHOST/r, "pg_upgrade $mode", $node,
		OLD_BIN => "$old_server/bin", NEW_BIN => $new_bin, OLD_DATA => $data, NEW_DATA => $node->data_dir, MODE => $mode);
	my @logs = glob($node->data_dir . '/pg_upgrade_output.d/*/log/pg_upgrade_server.log');
	my $log = join '', map { slurp_file($_) } @logs;
	like($log, qr/database system is ready/, "$mode: there are logs of the servers");
	is(join("\n", grep { /background worker process|calvin_seq (launcher|applier|sequencer|probe|handler)/ && /calvin_seq/ } split /\n/, $log), '',
		"$mode: nothing of ours has run");

	$node->start;
	like(log_since($node, 0), qr/starting background worker process "calvin_seq launcher"/, "$mode: which would have been seen");
	check_1_0($node, $mode);
	foreach my $db (qw(app copy nothing template1 waits from_1_0))
	{
		wait_for_sql($node, $db, 'SELECT 1', 1);
	}
	shell(block('pg_upgrade', 'sh', 'after.txt') =~ s/^diff.*//mr, "$mode: what is to be done afterwards", $node);
	wait_applied_all($node);
	unlink "$dir/after.txt";
	shell(block('pg_upgrade', 'sh', 'before.txt\n\z') =~ s/before\.txt/after.txt/r, "$mode: the digests after", $node);
	my %after = map { ($_ => 1) } split /\n/, slurp_file("$dir/after.txt");
	is(join("\n", grep { !$after{$_} && !/^(waits|copy)\|/ } @before), '', "$mode: all digests are as they were, but where more has come");
	is((grep { /^from_1_0\|/ } keys %after)[0] =~ s/^from_1_0\|//r, join('|', (split /\|/, $state_1_0)[ 1, 0, 2 ]), "$mode: also after the update from 1.0");
	# what it has left is of this run
	system_or_bail('rm', '-f', glob("$dir/*.sh"), "$dir/update_extensions.sql", "$dir/after.txt");

	sql($node, 'postgres', 'CREATE DATABASE fresh TEMPLATE template0');
	create_extension($node, 'fresh');
	my $fresh = objects($node, 'fresh');
	is(objects($node, $_), $fresh, "$mode: the objects in $_ are those of a fresh extension") foreach qw(nothing waits from_1_0);
	check_app($node, $mode);
	check_waits($node, $mode);

	# who follows us goes on, and so do we
	if ($mode eq '--copy')
	{
		send_to($node, 'app', 'orders/1', 26);
		is_copy($node, 'app', $elsewhere, 'follower', "$mode: its follower goes on");
		sql($elsewhere, 'follower', 'SELECT seq_unfollow()');
		is(sql($elsewhere, 'follower', "SELECT count(*) FROM seq_fetch('theirs')"), 7, "$mode: and gives what has come, once");
	}
	my $next = sql($elsewhere, 'postgres', 'SELECT seq_next_epoch()');
	append_batches($elsewhere, 'postgres', $next, $next + 2, [$txn]);
	is_copy($elsewhere, 'postgres', $node, 'copy', "$mode: it follows on");
	$node->stop;
	nothing_crashed($node);
	return;
}

sub wait_applied_all
{
	my ($node) = @_;

	wait_applied($node, $_) foreach qw(app copy nothing template1 waits from_1_0);
	return;
}

# All of them, but for what pg_upgrade leaves nobody the means to tell from what others
# have added: whether a table's constraint is a member.
sub objects
{
	my ($node, $db) = @_;

	return catalogue($node, $db) =~ s/^member constraint \S+_(check\d*|not_null) .*\n//mgr;
}

sub check_1_0
{
	my ($node, $desc) = @_;

	is(sql($node, 'from_1_0', "SELECT extversion FROM pg_extension WHERE extname = 'calvin_seq'"), '1.0', "$desc: 1.0 is as it was");
	like(sql_error($node, 'from_1_0', 'TABLE seq_state'), qr/^55000: .*does not serve its version/, "$desc: and says so");
	return;
}

# All that app had, and that it goes on where it was.
sub check_app
{
	my ($node, $desc) = @_;
	my $reader = 'SET ROLE reader; SELECT count(*) > 0 FROM "Log Schema".seq_log';

	wait_for_applier($node, 'app');
	wait_applied($node, 'app');
	my ($state) = map { join '|', (split /\|/)[ 2, 1, 3 ] } grep { /^app\|/ } @before;
	is(state($node, 'app'), $state, "$desc: the same state, by digest");
	is(kept($node, 'app'), $kept, "$desc: the same tables");
	is(sql($node, 'app', $reader), 't', "$desc: privileges of tables");
	like(sql_error($node, 'app', 'SET ROLE reader; SELECT seq_send($$a$$, $$1$$)'), qr/^42501: /, "$desc: and no others");
	is(sql($node, 'app', "SELECT string_agg(pubname || ' ' || schemaname || '.' || tablename, ',') FROM pg_publication_tables"),
		'p Log Schema.seq_log', "$desc: publications")
	  unless $desc eq 'restored';
	is( sql($node, 'app', "SELECT coalesce(string_agg(c.relname, ' '), '') FROM pg_depend JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'calvin_seq') AND reltype <> 0 AND has_type_privilege('reader', reltype, 'USAGE')"),
		'', "$desc: nobody else may use the row types");
	like(sql_error($node, 'app', 'DROP INDEX seq_log_epoch_idx'), qr/^(2BP01|55000): /, "$desc: the guard is there");
	like(sql_error($node, 'app', 'DELETE FROM seq_log'), qr/^55000: /, "$desc: and so are the triggers");

	my $on = session($node, 'app', user => 'writer');
	$on->query("BEGIN");
	$on->query("SELECT seq_send('orders/1', '$_')") foreach 21 .. 25;
	$on->query("SELECT seq_send('a', '1')");
	$on->query('COMMIT');
	$on->quit;
	wait_for_sql($node, 'app', $effects, join(',', 1 .. 25));
	pass("$desc: the handler has done what has come since, and nothing twice");
	is(sql($node, 'app', numbers_of("seq_fetch_json('g', 1000, '30s')")), join(',', 8, 10 .. 25), "$desc: the group goes on");
	is(sql($node, 'app', "SELECT seq_json(t.plans) FROM seq_parked p, seq_retry('g', p.vshard, p.epoch, p.\"position\") t"), 9, "$desc: and has what was parked");
	my $consumer = session($node, 'app');
	$consumer->query("SELECT seq_subscribe('{$va}', 'worker')");
	my $last = sql($node, 'app', 'SELECT seq_current_committed_epoch()');
	is($consumer->query("BEGIN; SELECT string_agg(epoch::text, ',' ORDER BY epoch) FROM seq_receive(1000, '30s', 'worker'); SELECT seq_commit('worker'); COMMIT"),
		"13,14,15,16,19,$last\n1", "$desc: the consumer goes on at its cursor");
	$consumer->quit;
	return;
}

sub check_waits
{
	my ($node, $desc) = @_;

	wait_for_applier($node, 'waits');
	wait_sequenced($node, 'waits');
	is(numbers($node, 'waits', 'a'), '15|15|15', "$desc: what waited is in the log, once, in order");
	sql($node, 'waits', filled('a', 16, 2));
	wait_sequenced($node, 'waits');
	is(numbers($node, 'waits', 'a'), '17|17|17', "$desc: and it goes on");
	return;
}

$_->stop foreach $elsewhere;
nothing_crashed($elsewhere);
done_testing();
