# Servers that are watched: sessions in them, exporters and a Prometheus beside them, what
# it says, and points that are counted by who reads the output.
package Watched;

use strict;
use warnings;

use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP;
use Time::HiRes qw(sleep time);

sub new
{
	my ($class, $tree, $work, $bin) = @_;

	return bless { tree => $tree, work => $work, bin => $bin, dir => "$work/watching", children => [], fired => {},
		patience => $ENV{PG_TEST_TIMEOUT_DEFAULT} || 90, http => HTTP::Tiny->new(timeout => 20) }, $class;
}

#
# Points
#
sub point
{
	my ($self, $good, $description, $more) = @_;

	print $good ? 'ok' : 'not ok', " - $description\n";
	print "# $more\n" if !$good && defined $more;
	return $good;
}

sub finish
{
	my ($self) = @_;

	$_->stop foreach @{ $self->{children} };
	print "1..\n";
	return;
}

# Poll until sub returns true; a point that says so.
sub wait_point
{
	my ($self, $description, $sub, $seconds) = @_;
	my $begin = time();
	my $until = $begin + ($seconds || $self->{patience});
	my ($good, $more);

	until ($good)
	{
		($good, $more) = $sub->();
		last if $good || time() > $until;
		sleep 0.2;
	}
	printf "# after %.0f s\n", time() - $begin if time() - $begin > 5;
	return $self->point($good, $description, $more);
}

#
# Sessions
#
sub psql
{
	my ($self, $cluster, $db, @more) = @_;

	return ("$self->{bin}/psql", '-X', '-qAt', '-v', 'ON_ERROR_STOP=1', '-h', "$self->{work}/$cluster", '-U', 'postgres', '-d', $db, @more);
}

sub run_sql
{
	my ($self, $cluster, $db, $sql) = @_;
	my $pid = open my $out, '-|';

	die "fork: $!\n" unless defined $pid;
	if ($pid == 0)
	{
		open STDERR, '>&', \*STDOUT;
		open STDIN, '<', '/dev/null';
		exec $self->psql($cluster, $db, '-c', $sql) or exit 127;
	}
	local $/ = undef;
	my $said = <$out>;
	my $good = close $out;
	$said =~ s/\n\z//;
	return ($good, $said);
}

sub sql
{
	my ($self, @where) = @_;
	my ($good, $said) = $self->run_sql(@where);

	die "$where[2]\n$said\n" unless $good;
	return $said;
}

sub sql_fails
{
	my ($self, @where) = @_;
	my ($good, $said) = $self->run_sql(@where);

	return $self->point(!$good, "an error: $where[2]", $said);
}

sub wait_sql
{
	my ($self, @where) = @_;

	return $self->wait_point("$where[0]: $where[2]", sub { my ($good, $said) = $self->run_sql(@where); return ($good && $said eq 't', $said) });
}

sub wait_log
{
	my ($self, $cluster, $pattern) = @_;

	return $self->wait_point("in the log of $cluster: the workers fail", sub { return slurp("$self->{work}/$cluster/log") =~ $pattern });
}

# A session that has done something and stays, with what else it is told.
sub opened
{
	my ($self, $cluster, $db, @statements) = @_;
	my $child = Watched::Child->new($self, "session-$cluster", $self->psql($cluster, $db));

	$child->say($_) foreach @statements;
	push @{ $self->{children} }, $child;
	return $child;
}

sub background { my ($self, @what) = @_; return $self->opened(@what); }

sub stop_server
{
	my ($self, $cluster) = @_;

	return system("$self->{bin}/pg_ctl", '-D', "$self->{work}/$cluster/data", '-m', 'immediate', '-s', 'stop') == 0;
}

#
# Exporters, and Prometheus
#
sub slurp
{
	my ($path) = @_;

	local $/ = undef;
	open my $file, '<', $path or return '';
	return <$file> // '';
}

sub spew
{
	my ($path, $text) = @_;

	open my $file, '>', $path or die "$path: $!\n";
	print $file $text;
	close $file or die "$path: $!\n";
	return;
}

sub free_port
{
	my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => 0) or die "no port: $!\n";

	return $socket->sockport;
}

sub start
{
	my ($self, $name, @command) = @_;
	my $child = Watched::Child->new($self, $name, @command);

	push @{ $self->{children} }, $child;
	return $child;
}

sub start_watching
{
	my ($self) = @_;
	my ($dir, $monitoring) = ($self->{dir}, "$self->{tree}/monitoring");
	my @databases = ([ 'source', 'app' ], [ 'follower', 'app' ], [ 'follower', 'fed' ]);
	my @dsns = map { "host=$self->{work}/$_->[0] port=5432 user=monitor dbname=$_->[1] sslmode=disable" } @databases;
	my %port = map { $_ => free_port() } qw(postgres sql cnpg prometheus);
	my $text;

	# as they are, but for connections, ports, and times
	($text = slurp("$monitoring/sql_exporter.yml")) =~ s/interval: 15s/interval: 1s/;
	my ($job) = $text =~ /^jobs:\n(.*)/ms;
	my $jobs = '';
	foreach my $database (@databases)
	{
		my $one = $job;

		$one =~ s/^- name: calvin_seq/- name: $database->[0]_$database->[1]/m;
		$one =~ s{'postgres://[^']*'}{'postgres://monitor\@/$database->[1]?host=$self->{work}/$database->[0]&sslmode=disable'};
		$jobs .= $one;
	}
	spew("$dir/sql_exporter.yml", "jobs:\n$jobs");
	# CloudNativePG's own prefix
	($text = slurp("$monitoring/cloudnativepg.yaml")) =~ s/.*^  queries: \|\n//ms;
	$text =~ s/^    //mg;
	$text =~ s/^calvin_seq_/cnpg_calvin_seq_/mg;
	spew("$dir/cnpg.yaml", $text);
	($text = slurp("$monitoring/prometheus.yml")) =~ s/_interval: 15s/_interval: 1s/g;
	$text =~ s/:9187/:$port{postgres}/;
	$text =~ s/:9237/:$port{sql}/;
	$text =~ s/:9188/:$port{cnpg}/;
	spew("$dir/prometheus.yml", $text);
	($text = slurp("$monitoring/alerts.yml")) =~ s/for: \d+m/for: 1s/g;
	@{ $self->{alerts} } = $text =~ /- alert: (\w+)/g;
	$text =~ s/> (?:60|120|300)$/> 3/mg;
	$text =~ s/> 1000$/> 10/mg;
	$text =~ s/\[(?:5|10|15)m\]/[20s]/g;
	spew("$dir/alerts.yml", $text);

	my $listen = '--web.listen-address=127.0.0.1';
	my $quiet = '--disable-default-metrics';
	local $ENV{DATA_SOURCE_NAME} = join ',', @dsns;
	$self->start('postgres_exporter', 'prometheus-postgres-exporter', "$listen:$port{postgres}", $quiet, '--disable-settings-metrics', '--no-collector.database', '--no-collector.bgwriter', "--extend.query-path=$monitoring/postgres_exporter.yaml");
	$ENV{DATA_SOURCE_NAME} = $dsns[0];
	$self->start('cnpg', 'prometheus-postgres-exporter', "$listen:$port{cnpg}", $quiet, '--disable-settings-metrics', '--no-collector.database', '--no-collector.bgwriter', "--extend.query-path=$dir/cnpg.yaml");
	$self->start('sql_exporter', 'prometheus-sql-exporter', '-web.listen-address', "127.0.0.1:$port{sql}", '-config.file', "$dir/sql_exporter.yml");
	mkdir "$dir/data";
	$self->start('prometheus', 'prometheus', "--config.file=$dir/prometheus.yml", "--storage.tsdb.path=$dir/data", "$listen:$port{prometheus}");
	$self->{url} = "http://127.0.0.1:$port{prometheus}/api/v1";
	return $self->wait_point('prometheus is ready', sub { return $self->{http}->get("http://127.0.0.1:$port{prometheus}/-/ready")->{success} });
}

sub api
{
	my ($self, $path, %params) = @_;
	my $url = "$self->{url}/$path";

	$url .= '?' . $self->{http}->www_form_urlencode(\%params) if %params;
	my $response = $self->{http}->get($url);
	my $said = eval { decode_json($response->{content}) } || {};
	return ($said->{data}, $said->{error} || ($response->{success} ? undef : "$response->{status} $response->{content}"));
}

# The rows of an instant query.
sub rows
{
	my ($self, $expr) = @_;
	my ($data, $error) = $self->api('query', query => $expr);

	return ($error, ()) if defined $error;
	return (undef, $data->{resultType} eq 'scalar' ? [ {}, $data->{result}[1] ] : map { [ $_->{metric}, $_->{value}[1] ] } @{ $data->{result} });
}

sub query
{
	my ($self, $expr) = @_;
	my ($error, @rows) = $self->rows($expr);

	return @rows == 1 ? $rows[0][1] : undef;
}

sub wait_value
{
	my ($self, $expr, $value, $description) = @_;

	return $self->wait_point($description, sub { my $is = $self->query($expr) // 'nothing'; return ($is eq $value, "$expr is $is, not $value") });
}

# CloudNativePG's way: each query in a transaction that only reads, as pg_monitor itself.
sub queries_as_pg_monitor
{
	my ($self, $cluster, $db) = @_;
	my $text = slurp("$self->{dir}/cnpg.yaml");
	my $n = 0;

	while ($text =~ /^cnpg_(calvin_seq_\w+):\n  query: \|\n((?:    .*\n)+)  metrics:\n((?:    .*\n)+)/mg)
	{
		my ($name, $sql, $metrics) = ($1, $2, $3);
		my @columns = $metrics =~ /^    - (\w+):$/mg;
		my $list = join ', ', @columns;
		my ($good, $said) = $self->run_sql($cluster, $db, "BEGIN READ ONLY; SET LOCAL ROLE pg_monitor; SELECT $list FROM ($sql) q; COMMIT");

		$self->point($good, "$name in $cluster, read only and as pg_monitor, has what it says", $said);
		$n++;
	}
	return $self->point($n == 7, "the ConfigMap has all queries", "it has $n");
}

# Until rules were evaluated with what has been scraped since.
sub settle
{
	my ($self) = @_;
	my $begin = time();

	return $self->wait_point('the rules were evaluated', sub {
		my $scraped = $self->query('min(timestamp(calvin_seq_state_log_end))') // 0;

		return $scraped > $begin + 3;
	});
}

# Alerts that are pending or firing: name -> list of [state, labels].
sub active
{
	my ($self) = @_;
	my ($data) = $self->api('alerts');
	my %active;

	push @{ $active{ $_->{labels}{alertname} } }, [ $_->{state}, $_->{labels} ] foreach @{ $data->{alerts} || [] };
	return \%active;
}

sub describe
{
	my ($active, @names) = @_;

	return join '; ', map {
		my $name = $_;
		map { "$name $_->[0] " . join ',', map { my $l = $_->[1]; defined $l->{$_} ? "$_=$l->{$_}" : () } () } @{ $active->{$name} || [] }
	} @names;
}

sub none_active
{
	my ($self, $description) = @_;
	my $active = $self->active;

	return $self->point(!%$active, $description, join ' ', map { "$_ " . encode_json($active->{$_}) } sort keys %$active);
}

sub not_active
{
	my ($self, @names) = @_;
	my $active = $self->active;

	$self->point(!$active->{$_}, "$_ does not fire before", $active->{$_} && encode_json($active->{$_})) foreach @names;
	return;
}

sub fires
{
	my ($self, $jobs, @names) = @_;

	foreach my $name (@names)
	{
		$self->{fired}{$name} = $self->wait_point("$name fires, by @$jobs", sub {
			my %by = map { ($_->[1]{job} => 1) } grep { $_->[0] eq 'firing' } @{ $self->active->{$name} || [] };

			return ((grep { !$by{$_} } @$jobs) == 0, 'by: ' . join ' ', sort keys %by);
		});
	}
	return;
}

sub fires_with
{
	my ($self, $name, $label, $value) = @_;
	my @all = map { $_->[1]{$label} // '' } @{ $self->active->{$name} || [] };

	return $self->point((grep { $_ eq $value } @all) > 0, "$name says $label $value", "it says: @all");
}

sub rests
{
	my ($self, @names) = @_;

	foreach my $name (@names)
	{
		$self->wait_point("$name ends when its cause does", sub { my $active = $self->active; return (!$active->{$name}, encode_json($active->{$name} || [])) });
	}
	return;
}

sub all_fired
{
	my ($self) = @_;
	my @never = grep { !$self->{fired}{$_} } @{ $self->{alerts} };

	return $self->point(!@never && @{ $self->{alerts} } > 0, 'every rule has fired', "not @never");
}

#
# The dashboard
#
sub dashboard
{
	my ($self) = @_;
	my $dashboard = decode_json(slurp("$self->{tree}/monitoring/dashboard.json"));
	my $n = 0;

	foreach my $variable (grep { $_->{type} eq 'query' } @{ $dashboard->{templating}{list} })
	{
		my ($selector, $label) = $variable->{query}{query} =~ /^label_values\((.*), (\w+)\)$/ or die "variable $variable->{name}\n";
		my ($error, @rows) = $self->rows('count by (' . $label . ') (' . filled($selector) . ')');

		$self->point(!defined $error && @rows > 0, "variable $variable->{name} has values", $error);
	}
	foreach my $panel (grep { $_->{type} ne 'row' } @{ $dashboard->{panels} })
	{
		foreach my $target (@{ $panel->{targets} })
		{
			my ($error, @rows);

			$self->wait_point("panel \"$panel->{title}\": $target->{expr}", sub {
				($error, @rows) = $self->rows(filled($target->{expr}));
				return (!defined $error && @rows > 0, $error // 'no data');
			}, 20);
			$n++;
		}
	}
	return $self->point($n > 0, "all $n expressions of the dashboard were looked at");
}

# As Grafana fills in variables where all are chosen.
sub filled
{
	my ($expr) = @_;

	$expr =~ s/\$__rate_interval/20s/g;
	$expr =~ s/\$(?:job|instance|datname)\b/.*/g;
	return $expr;
}

# A process with a pipe to its input; its output goes to a file.
package Watched::Child;

use IO::Handle;
use POSIX ':sys_wait_h';

my $number = 0;

sub new
{
	my ($class, $watched, $name, @command) = @_;
	my $log = sprintf '%s/%s-%d.log', $watched->{dir}, $name, ++$number;

	pipe my $theirs, my $ours or die "pipe: $!\n";
	my $pid = fork;
	die "fork: $!\n" unless defined $pid;
	if ($pid == 0)
	{
		close $ours;
		open STDIN, '<&', $theirs;
		open STDOUT, '>', $log;
		open STDERR, '>&', \*STDOUT;
		chdir $watched->{dir};
		exec @command or exit 127;
	}
	close $theirs;
	$ours->autoflush(1);
	return bless { pid => $pid, in => $ours, log => $log }, $class;
}

sub say
{
	my ($self, $text) = @_;

	local $SIG{PIPE} = 'IGNORE';
	print { $self->{in} } "$text\n";
	return;
}

sub stop
{
	my ($self) = @_;

	return unless $self->{pid};
	kill 'TERM', $self->{pid};
	for (1 .. 50)
	{
		last if waitpid($self->{pid}, WNOHANG) != 0;
		select undef, undef, undef, 0.1;
		kill 'KILL', $self->{pid} if $_ == 40;
	}
	close $self->{in};
	$self->{pid} = 0;
	return;
}

1;
