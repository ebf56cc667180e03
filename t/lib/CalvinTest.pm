# What the TAP tests of calvin_seq share: nodes, sessions, entries, waiting.
#
# Nothing here sleeps for a fixed time: wait_until() polls, wait_for_epoch()
# waits in the server.
package CalvinTest;

use strict;
use warnings;

use CalvinSession;
use CalvinWire;
use Carp;
use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);

our @EXPORT = qw(
  new_node create_extension
  batch_hex ack_hex vshard_of collection_of
  append_hex append_batches
  session sql sql_error try_psql
  wait_until wait_for_sql wait_for_epoch wait_for_applier wait_applied
  wait_for_log_line log_offset log_since log_has_no nothing_crashed
  applier_pid process_alive segments elapsed within under_tool
  state state_of digest
  break_log mend_log unguarded
);

my $timeout = $PostgreSQL::Test::Utils::timeout_default || 180;

# new_node('main', 'calvin_seq.max_databases' => 2, -streaming => 1)
#
# An initialised and started node that preloads calvin_seq.  Names that begin
# with a dash are for this function, the others are settings:
#   -preload => 0		without shared_preload_libraries
#   -streaming => 1		may be the primary of standbys
#   -start => 0			do not start it yet
#   -install => PATH	of this installation
#   -port => N			in the place of another node, which is stopped
#   -extra => [...]		for initdb
sub new_node
{
	my ($name, %conf) = @_;
	my %own = map { ($_ => delete $conf{$_}) } grep { /^-/ } keys %conf;
	my $node = PostgreSQL::Test::Cluster->new($name,
		defined $own{-install} ? (install_path => $own{-install}) : (),
		defined $own{-port} ? (port => $own{-port}) : ());

	$node->init(
		allows_streaming => $own{-streaming} ? 1 : 0,
		extra => [ '--encoding=UTF8', '--locale=C', @{ $own{-extra} || [] } ]);
	%conf = (
		# what Cluster.pm leaves out or sets too low for a dozen sessions
		max_connections => 40,
		max_worker_processes => 16,
		autovacuum => 'off',
		log_statement => 'none',
		%conf);
	$conf{shared_preload_libraries} = 'calvin_seq'
	  unless (defined $own{-preload} && !$own{-preload})
	  || exists $conf{shared_preload_libraries};
	$node->append_conf('postgresql.conf',
		join('', map { "$_ = '$conf{$_}'\n" } sort keys %conf));
	$node->start unless defined $own{-start} && !$own{-start};
	return $node;
}

# CREATE EXTENSION in a database, and wait until its applier runs.
sub create_extension
{
	my ($node, $db) = @_;

	$db = 'postgres' unless defined $db;
	sql($node, $db, 'CREATE EXTENSION calvin_seq');
	return wait_for_applier($node, $db);
}

#
# Entries
#

# Append entries, given in hex, in one transaction; returns the last log_index.
sub append_hex
{
	my ($node, $db, @entries) = @_;

	return sql($node, $db,
		    "BEGIN;\n"
		  . join('', map { "SELECT seq_append('\\x$_') \\g /dev/null\n" } @entries[0 .. $#entries - 1])
		  . "SELECT seq_append('\\x$entries[-1]');\nCOMMIT;");
}

# append_batches(node, db, first epoch, last epoch, [txns], on)
#
# Batches of these epochs, each with the same transactions (as batch_hex takes
# them), each in a transaction of its own unless the session passed as "on" is
# in one already.
sub append_batches
{
	my ($node, $db, $first, $last, $txns, $on) = @_;
	my $sql = join('',
		map { "SELECT seq_append('\\x" . batch_hex($_, 1000 + $_, @$txns) . "') \\g /dev/null\n" }
		  ($first .. $last));

	return $on ? $on->query($sql) : sql($node, $db, $sql);
}

#
# Statements
#

# One call of psql; its output.  Dies if anything fails.
sub sql
{
	my ($node, $db, $sql, %params) = @_;
	my ($ret, $stdout, $stderr) =
	  $node->psql($db, $sql, on_error_stop => 1, timeout => $timeout, %params);

	croak "failed: $stderr\nin database $db: " . substr($sql, 0, 500)
	  if $ret != 0;
	return $stdout;
}

# The error that one statement must raise, as CalvinSession::error does.
sub sql_error
{
	my ($node, $db, $sql) = @_;
	my $session = session($node, $db);
	my $error = $session->error($sql);

	$session->quit;
	return $error;
}

# session(node, db, user => 'x'): a psql that stays connected; see below.
sub session
{
	my ($node, $db, %params) = @_;

	return CalvinSession->new($node, $db, %params);
}

#
# Waiting
#

# Poll until sub returns true; its value then.  Fails and dies otherwise, as
# whatever comes after would only confuse.  wait_until(sub, desc, seconds)
sub wait_until
{
	my ($sub, $desc, $seconds) = @_;
	my $until = time() + ($seconds || $timeout);
	my $pause = 5_000;

	for (;;)
	{
		my $result = $sub->();

		return $result if $result;
		last if time() > $until;
		usleep($pause);
		$pause = $pause * 1.5 if $pause < 100_000;
	}
	croak "timed out waiting for " . ($desc || 'a condition');
}

# psql, where the server may refuse it: psql then ends before it has read the query, which
# IPC::Run dies of.
sub try_psql
{
	my ($node, $db, $sql) = @_;
	my @result = (3, '', 'psql ended before it had read the query');

	eval { @result = $node->psql($db, $sql); 1 } or $@ =~ /Broken pipe/ or die $@;
	return @result;
}

# Poll until a query returns the expected text ("t" unless given); errors of
# the query, and of the connection, count as "not yet".
sub wait_for_sql
{
	my ($node, $db, $sql, $expected, $seconds) = @_;
	my ($ret, $stdout, $stderr) = (0, '', '');

	$expected = 't' unless defined $expected;
	my $done = eval {
		wait_until(
			sub {
				($ret, $stdout, $stderr) = try_psql($node, $db, $sql);
				return $ret == 0 && $stdout eq $expected;
			},
			$sql, $seconds);
	};
	croak "timed out waiting for \"$expected\" of: $sql\nlast output: $stdout\nlast error: $stderr"
	  unless $done;
	return 1;
}

# Until the epoch is applied (and the applier there at all).
sub wait_for_epoch
{
	my ($node, $db, $epoch) = @_;

	return wait_for_sql($node, $db, "SELECT seq_wait_for_epoch($epoch, '10s')");
}

# Until the applier of a database runs and has looked at its log; its pid.
sub wait_for_applier
{
	my ($node, $db) = @_;
	my $pid;

	wait_until(
		sub {
			my ($ret, $stdout) = try_psql($node, $db,
				"SELECT applier_pid FROM seq_state WHERE applier_state = 'idle' AND applier_pid IS NOT NULL"
			);
			return 0 if $ret != 0 || $stdout !~ /^\d+$/;
			$pid = $stdout;
			return 1;
		},
		"the applier of database $db");
	return $pid;
}

# Until everything in the log is applied.
sub wait_applied
{
	my ($node, $db) = @_;

	return wait_for_sql($node, $db,
		'SELECT lag = 0 AND applier_pid IS NOT NULL FROM seq_state');
}

sub log_offset
{
	my ($node) = @_;

	return -s $node->logfile || 0;
}

sub log_since
{
	my ($node, $offset) = @_;

	return slurp_file($node->logfile, $offset);
}

# Until the server log has a match behind an offset.
sub wait_for_log_line
{
	my ($node, $regexp, $offset) = @_;

	return wait_until(sub { log_since($node, $offset || 0) =~ $regexp },
		"log line $regexp");
}

# A test: no line of a server's log matches.
sub log_has_no
{
	my ($node, $regexp, $desc, $offset) = @_;
	my @lines = grep { $_ =~ $regexp } split /\n/, log_since($node, $offset || 0);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	splice @lines, 10;
	return is(join("\n", @lines), '', $desc);
}

# A test for the end: no process of a server has crashed, or been killed by
# others than the test.
sub nothing_crashed
{
	my ($node, $killed) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return log_has_no($node,
		$killed ? qr/PANIC|TRAP:|terminated by signal (?!9)/ : qr/PANIC|TRAP:|terminated by signal/,
		$node->name . ': nothing crashed');
}

#
# Processes and state
#

# Pid of a database's applier as pg_stat_activity has it, 0 if there is none.
sub applier_pid
{
	my ($node, $db) = @_;

	# asked from another database: nobody is to be connected to this one
	my $pid = sql($node, 'postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'calvin_seq applier' AND datname = '$db'"
	);
	return $pid eq '' ? 0 : $pid;
}

# Segments of dynamic shared memory, of a node where they are files of the data
# directory: dynamic_shared_memory_type => 'mmap'.
sub segments
{
	my ($node) = @_;
	my @files = grep { /^mmap/ } slurp_dir($node->data_dir . '/pg_dynshmem');

	return scalar @files;
}

sub process_alive
{
	my ($pid) = @_;

	return kill(0, $pid) ? 1 : 0;
}

# elapsed { ... }: seconds that a block takes.
sub elapsed(&)
{
	my ($sub) = @_;
	my $start = time();

	$sub->();
	return time() - $start;
}

# The bound in seconds of something that is not held up.  Whoever grants the
# whole test more time than usual, since his machine or his tools are slow,
# grants this more in proportion.
sub within
{
	my ($seconds) = @_;

	return $timeout > 180 ? $seconds * $timeout / 180 : $seconds;
}

# Whether the servers run under a sanitizer or valgrind: what a process has in
# memory is then theirs for the most part, and says nothing about ours.
sub under_tool
{
	return defined $ENV{ASAN_OPTIONS} || defined $ENV{VALGRIND_REPORTS};
}

# seq_state as a hash.
sub state_of
{
	my ($node, $db) = @_;
	my @columns =
	  qw(role applier_pid applier_state last_applied_epoch last_applied_index
	  log_end lag digest started_at last_error last_error_at);
	my @values = split /\x1f/,
	  sql($node, $db, 'SELECT ' . join(', ', @columns) . ' FROM seq_state',
		extra_params => [ '-F', "\x1f" ]), -1;
	my %state;

	@state{@columns} = @values;
	return \%state;
}

# What must be equal on every replica and after every restart.
sub state
{
	my ($node, $db) = @_;

	return sql($node, $db,
		'SELECT last_applied_epoch, last_applied_index, digest FROM seq_state');
}

sub digest
{
	my ($node, $db) = @_;

	return sql($node, $db, 'SELECT digest FROM seq_state');
}

# Make the log unusable as a superuser can, with an entry left to apply, and
# wait until the applier has noticed.
sub break_log
{
	my ($node, $db) = @_;
	my $pid = applier_pid($node, $db);

	# stopped meanwhile, or it might apply the entry before it hears of the index
	kill 'STOP', $pid;
	sql($node, $db,
		"BEGIN; INSERT INTO seq_log (entry) VALUES (''); " . unguarded('ALTER INDEX seq_log_epoch_idx RENAME TO seq_log_away') . ' COMMIT;');
	kill 'CONT', $pid;
	return wait_for_sql($node, 'postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE datname = '$db' AND backend_type = 'calvin_seq applier' AND query = 'waiting to try again after an error'",
		1);
}

sub mend_log
{
	my ($node, $db) = @_;

	return sql($node, $db, unguarded('ALTER INDEX seq_log_away RENAME TO seq_log_epoch_idx'));
}

# A command that the guard would refuse.
sub unguarded
{
	my ($command) = @_;

	return "ALTER EVENT TRIGGER seq_log_guard DISABLE; $command; ALTER EVENT TRIGGER seq_log_guard ENABLE ALWAYS;";
}

1;
