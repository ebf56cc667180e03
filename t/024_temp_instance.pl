# `make installcheck TEMP_INSTANCE=1`: tests of SQL and of isolation on a server that is made
# for them, where none is prepared, and that is gone afterwards.
use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use FindBin;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = dirname(abs_path($FindBin::RealBin));
my $dir = PostgreSQL::Test::Utils::tempdir() . '/tree';
my ($pg_config) =
  grep { -x $_ && -f (qx("$_" --pgxs) =~ s/\n\z//r) && -f qx("$_" --includedir-server) =~ s/\n\z//r . '/postgres.h' }
  map { "$_/pg_config" } split(/:/, $ENV{PATH});

plan skip_all => 'no pg_config with the files to build extensions' unless defined $pg_config;

system_or_bail('mkdir', $dir);
system_or_bail('cp', '-R', map({ "$top/$_" } qw(Makefile sequencer.control scripts src sql expected specs test)), $dir);

# Nothing of the server that this test itself may be run on.
delete @ENV{qw(PGHOST PGPORT PGUSER PGDATABASE MAKEFLAGS MAKELEVEL MFLAGS)};
my ($bindir) = run_command([ $pg_config, '--bindir' ]);
my @make = ('make', '-C', $dir, "PG_CONFIG=$pg_config", "bindir=$bindir", 'with_llvm=no', 'installcheck', 'TEMP_INSTANCE=1', 'TAP_TESTS=');

sub installcheck
{
	my (@which) = @_;
	my ($stdout, $stderr) = ('', '');
	my $ok = IPC::Run::run([ @make, @which ], '<', \undef, '>', \$stdout, '2>', \$stderr);

	return ($ok, $stdout . $stderr);
}

my ($ok, $output) = installcheck('REGRESS=codec state', 'ISOLATION=visibility');
ok($ok, 'tests of SQL and of isolation pass') or diag($output);
like($output, qr/temporary instance|temporary server|temp instance/, 'on a temporary server');
my @passed = $output =~ /^(?:ok \d+|test \S+) .*/mg;
is(scalar @passed, 4, 'those that were asked for, and what isolation tests begin with');

# A test that passes with a test that cannot would show nothing.
append_to_file("$dir/expected/codec.out", "something else\n");
($ok, $output) = installcheck('REGRESS=codec', 'ISOLATION=');
ok(!$ok, 'what fails there fails make');

system_or_bail('make', '-s', '-C', $dir, "PG_CONFIG=$pg_config", 'with_llvm=no', 'clean');
ok(!-e "$dir/tmp_instance", 'make clean removes the rest');
done_testing();
