# What the TAP tests of calvin_seq share: nodes, sessions, entries, waiting.
#
# Nothing here sleeps for a fixed time: wait_until() polls, wait_for_epoch()
# waits in the server.
package CalvinTest;

use strict;
use warnings;

use Carp;
use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);

our @EXPORT = qw(
  new_node create_extension
  batch_hex ack_hex vshard_of collection_of
  append_hex append_batches
  session sql sql_error
  wait_until wait_for_sql wait_for_epoch wait_for_applier wait_applied
  wait_for_log_line log_offset log_since log_has_no nothing_crashed
  applier_pid process_alive segments elapsed within under_tool
  state state_of digest
  break_log mend_log
);

my $timeout = $PostgreSQL::Test::Utils::timeout_default || 180;

# new_node('main', 'calvin_seq.max_databases' => 2, -streaming => 1)
#
# An initialised and started node that preloads calvin_seq.  Names that begin
# with a dash are for this function, the others are settings:
#   -preload => 0		without shared_preload_libraries
#   -streaming => 1		may be the primary of standbys
#   -start => 0			do not start it yet
#   -extra => [...]		for initdb
sub new_node
{
	my ($name, %conf) = @_;
	my %own = map { ($_ => delete $conf{$_}) } grep { /^-/ } keys %conf;
	my $node = PostgreSQL::Test::Cluster->new($name,
		defined $own{-install} ? (install_path => $own{-install}) : ());

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
# Entries: canonical MessagePack
#

sub pack_uint
{
	my ($n) = @_;

	return pack('C', $n) if $n < 0x80;
	return pack('CC', 0xcc, $n) if $n < 0x100;
	return pack('Cn', 0xcd, $n) if $n < 0x10000;
	return pack('CN', 0xce, $n) if $n < 4294967296;
	return pack('CQ>', 0xcf, $n);
}

sub pack_int
{
	my ($n) = @_;

	return pack('c', $n) if $n >= -32 && $n < 0x80;
	return pack('Cc', 0xd0, $n) if $n >= -0x80 && $n < 0x80;
	return pack('Cs>', 0xd1, $n) if $n >= -0x8000 && $n < 0x8000;
	return pack('Cl>', 0xd2, $n)
	  if $n >= -0x80000000 && $n < 0x80000000;
	return pack('Cq>', 0xd3, $n);
}

sub pack_str
{
	my ($s) = @_;
	my $n = length $s;

	return pack('C', 0xa0 | $n) . $s if $n < 32;
	return pack('CC', 0xd9, $n) . $s if $n < 0x100;
	return pack('Cn', 0xda, $n) . $s if $n < 0x10000;
	return pack('CN', 0xdb, $n) . $s;
}

sub pack_bin
{
	my ($s) = @_;
	my $n = length $s;

	return pack('CC', 0xc4, $n) . $s if $n < 0x100;
	return pack('Cn', 0xc5, $n) . $s if $n < 0x10000;
	return pack('CN', 0xc6, $n) . $s;
}

sub pack_array
{
	my ($n) = @_;

	return pack('C', 0x90 | $n) if $n < 16;
	return pack('Cn', 0xdc, $n) if $n < 0x10000;
	return pack('CN', 0xdd, $n);
}

sub pack_map
{
	my ($n) = @_;

	return pack('C', 0x80 | $n) if $n < 16;
	return pack('Cn', 0xde, $n) if $n < 0x10000;
	return pack('CN', 0xdf, $n);
}

# "name", with the surrogate 1, or ["name", surrogates...]
sub pack_document
{
	my ($collection) = @_;
	my ($name, @surrogates) = ref $collection ? @$collection : ($collection, 1);
	my %seen;

	@surrogates = grep { !$seen{$_}++ } sort { $a <=> $b } @surrogates;
	return
	    pack_array(2)
	  . pack_str('Document')
	  . pack_array(2)
	  . pack_str($name)
	  . pack_array(scalar @surrogates)
	  . join('', map { pack_uint($_) } @surrogates);
}

sub pack_documents
{
	my %by_name = map { ((ref $_ ? $_->[0] : $_) => $_) } @_;

	return pack_array(scalar keys %by_name)
	  . join('', map { pack_document($by_name{$_}) } sort keys %by_name);
}

# batch_hex(epoch, ms, [[collections], plans as hex, tenant, dependent], ...)
#
# The canonical bytes, as hex, of an EpochBatch.  A transaction writes one
# document of each collection; a collection is a name or [name, surrogates].
# plans, tenant and dependent (a hash of vshard => [collections]) may be left
# out.  The transactions' own ms are 0, as NodeDB leaves them: the batch's count.
sub batch_hex
{
	my ($epoch, $ms, @txns) = @_;
	my $position = 0;
	my $bytes =
	    pack_array(2)
	  . pack_str('EpochBatch')
	  . pack_array(1)
	  . pack_array(3)
	  . pack_uint($epoch)
	  . pack_array(scalar @txns);

	foreach my $txn (@txns)
	{
		my ($collections, $plans, $tenant, $dependent) = @$txn;

		$bytes .=
		    pack_array(4)
		  . pack_uint($epoch)
		  . pack_uint($position++)
		  . pack_array(5)
		  . pack_array(0)
		  . pack_documents(@$collections)
		  . pack_bin(pack('H*', defined $plans ? $plans : ''))
		  . pack_uint(defined $tenant ? $tenant : 0);
		if ($dependent)
		{
			$bytes .= pack_array(1) . pack_map(scalar keys %$dependent);
			foreach my $vshard (sort { $a <=> $b } keys %$dependent)
			{
				my @sets = @{ $dependent->{$vshard} };

				$bytes .= pack_uint($vshard) . pack_array(scalar @sets)
				  . join('', map { pack_array(1) . pack_document($_) } @sets);
			}
		}
		else
		{
			$bytes .= pack('C', 0xc0);
		}
		$bytes .= pack_int(0);
	}
	$bytes .= pack_int($ms);
	return unpack('H*', $bytes);
}

sub ack_hex
{
	my ($epoch, $position, $vshard) = @_;

	return unpack('H*',
		    pack_array(2)
		  . pack_str('CompletionAck')
		  . pack_array(3)
		  . pack_uint($epoch)
		  . pack_uint($position)
		  . pack_uint($vshard));
}

sub vshard_of
{
	my ($collection) = @_;
	my $h = 0;

	$h = ($h * 31 + $_) & 0xffffffff foreach unpack('C*', $collection);
	return $h % 1024;
}

# The name of a collection that belongs to a vshard.
my @collections;

sub collection_of
{
	my ($vshard) = @_;
	my $n = 0;

	while (!@collections)
	{
		my @found;
		my $missing = 1024;

		for (my $i = 0; $missing > 0; $i++)
		{
			my $v = vshard_of("k$i");

			next if defined $found[$v];
			$found[$v] = "k$i";
			$missing--;
		}
		@collections = @found;
	}
	return $collections[$vshard];
}

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

# The error that one statement must raise, as CalvinTest::Session::error does.
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

	return CalvinTest::Session->new($node, $db, %params);
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
				($ret, $stdout, $stderr) = $node->psql($db, $sql);
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
			my ($ret, $stdout) = $node->psql($db,
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

# Make the log unusable as its owner can, with an entry left to apply, and
# wait until the applier has noticed.
sub break_log
{
	my ($node, $db) = @_;
	my $pid = applier_pid($node, $db);

	# stopped meanwhile, or it might apply the entry before it hears of the index
	kill 'STOP', $pid;
	sql($node, $db,
		"BEGIN; INSERT INTO seq_log (entry) VALUES (''); ALTER INDEX seq_log_epoch_idx RENAME TO seq_log_away; COMMIT;");
	kill 'CONT', $pid;
	return wait_for_sql($node, 'postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE datname = '$db' AND query = 'waiting to try again after an error'",
		1);
}

sub mend_log
{
	my ($node, $db) = @_;

	return sql($node, $db, 'ALTER INDEX seq_log_away RENAME TO seq_log_epoch_idx');
}

#
# A session that stays open.
#
#   my $s = session($node, 'postgres');
#   $s->query('SELECT 1');					output; dies on an error
#   like($s->error('SELECT 1/0'), qr/^22012: /);		the error, '' without one
#   $s->send('SELECT pg_sleep(10)');		does not wait
#   my ($output, $error) = $s->finish;		waits for what was sent
#   $s->pid; $s->quit;
#
# An error reads "SQLSTATE: message", then DETAIL and HINT lines.
#
package CalvinTest::Session;

use strict;
use warnings;

use Carp;
use IPC::Run;

sub new
{
	my ($class, $node, $db, %params) = @_;
	my $connstr = $node->connstr($db);
	my $self = bless {
		stdin => '',
		stdout => '',
		stderr => '',
		number => 0,
		pending => 0,
		dead => 0
	}, $class;

	$connstr .= " user=$params{user}" if defined $params{user};
	$self->{timer} = IPC::Run::timer($timeout);
	$self->{run} = IPC::Run::start(
		[
			$node->installed_command('psql'), '-XAtq', '-v', 'VERBOSITY=verbose',
			'-d', $connstr, '-f', '-'
		],
		'<', \$self->{stdin},
		'>', \$self->{stdout},
		'2>', \$self->{stderr},
		$self->{timer});
	$self->{pid} = $self->query('SELECT pg_backend_pid()');
	return $self;
}

sub pid
{
	my ($self) = @_;

	return $self->{pid};
}

sub send
{
	my ($self, $sql) = @_;

	croak 'a statement is still running' if $self->{pending};
	croak 'the session has ended' if $self->{dead};
	$self->{number}++;
	$self->{pending} = 1;
	$self->{sql} = $sql;
	# psql leaves without a word at an empty statement after COPY data
	my $end = $sql =~ /\n\\\.\s*\z/ ? '' : ";\n";

	$self->{stdin} .=
	  "\\echo 'SENT $self->{number}.'\n$sql\n$end\\echo 'DONE $self->{number}.'\n\\warn 'DONE $self->{number}.'\n";
	$self->{timer}->start($timeout);
	local $SIG{PIPE} = 'IGNORE';
	# until psql has got it, not only IPC::Run
	until ($self->{stdout} =~ s/\ASENT $self->{number}\.\n//)
	{
		croak "timed out: $sql" if $self->{timer}->is_expired;
		last unless eval { $self->{run}->pumpable && $self->{run}->pump };
	}
	return $self;
}

# What the statements sent put out, and their error or ''.
sub finish
{
	my ($self) = @_;
	my $end = "DONE $self->{number}\\.\n";

	croak 'nothing was sent' unless $self->{pending};
	local $SIG{PIPE} = 'IGNORE';
	until ($self->{stdout} =~ /$end/ && $self->{stderr} =~ /$end/)
	{
		croak "timed out: $self->{sql}" if $self->{timer}->is_expired;
		next if eval { $self->{run}->pumpable && $self->{run}->pump };
		next if $self->{stdout} =~ /$end/ && $self->{stderr} =~ /$end/;

		# the server has closed the connection, and psql left
		eval { $self->{run}->finish };
		$self->{dead} = 1;
		last;
	}
	$self->{pending} = 0;

	my ($output, $error) = ($self->{stdout}, $self->{stderr});
	($self->{stdout}, $self->{stderr}) = ('', '');
	$output =~ s/\n?$end//;
	$output =~ s/\n\z//;
	$error =~ s/$end//;
	$error =~ s/^LOCATION: .*\n//mg;
	$error =~ s/^psql:[^:]*:\d+: //mg;
	$error =~ s/^(?:NOTICE|WARNING|INFO): .*\n(?:(?:DETAIL|HINT|CONTEXT): .*\n)*//mg;
	$error =~ s/^(?:ERROR|FATAL): +//;
	return ($output, $error);
}

# Is what was sent still running?
sub running
{
	my ($self) = @_;
	my $end = "DONE $self->{number}\\.\n";

	return 0 unless $self->{pending};
	eval { $self->{run}->pump_nb };
	return !($self->{stdout} =~ /$end/ && $self->{stderr} =~ /$end/);
}

sub query
{
	my ($self, $sql) = @_;
	my ($output, $error);

	$self->send($sql);
	($output, $error) = $self->finish;
	croak "failed: $error\nstatement: " . substr($sql, 0, 500) if $error ne '';
	return $output;
}

sub error
{
	my ($self, $sql) = @_;
	my ($output, $error);

	$self->send($sql);
	($output, $error) = $self->finish;
	return $error;
}

# The connection is gone, as far as psql has noticed.
sub dead
{
	my ($self) = @_;

	return $self->{dead};
}

sub quit
{
	my ($self) = @_;

	return if $self->{dead};
	$self->{dead} = 1;
	local $SIG{PIPE} = 'IGNORE';
	$self->{stdin} .= "\\q\n";
	eval { $self->{run}->finish };
	return;
}

# Let psql vanish without a word.
sub kill_client
{
	my ($self) = @_;

	$self->{dead} = 1;
	$self->{run}->signal('KILL');
	eval { $self->{run}->finish };
	return;
}

1;
