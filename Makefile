# calvin_seq: a Calvin sequencer state machine inside PostgreSQL
#
#   make, make install      build and install, against the server of PG_CONFIG
#   make installcheck       all tests of the server against a running one,
#                           which must have shared_preload_libraries = 'calvin_seq';
#                           with TEMP_INSTANCE=1 on one that is made for it
#   make test               install what is needed, build, run every test
#   make fuzz SECONDS=60    the fuzzers of the codec and the state machine
#   make lint               what compilers do not complain about
#   make sanitize           the tests under sanitizers and valgrind
#   make test-versions      the tests on PostgreSQL 15, 17, 18, 19, in throw-away trees
#   make demo               a narrated tour on a throw-away server
#   make chaos              faults against a model: SEED=n ROUNDS=n PLANT=name
#   make chaos-followers    the same where there are followers
#   make chaos-plants       and whether planted bugs are caught
#   make chaos-bursts       count what slow consumers receive of large bursts
#   make clients            real clients, through a pooler too, and a restart
#   make cluster            Patroni, etcd and two followers, through faults; cluster-short
#   make monitoring         exporters, alert rules and dashboard, with the real ones
#   make bench              measure it beside what else PostgreSQL offers
#   make dist, make deb     what is released, Debian packages of it: both in dist/
#   make test-packages      these, installed and tried in throw-away trees
#   make test-update        from each released version, with its own library, to this one
#
# A warning is an error in `make test`; elsewhere `make COPT=-Werror` says so.

MODULE_big = calvin_seq

# The directory of this file, as PGXS will see it too when it is not the
# current one (a VPATH build).
top := $(if $(VPATH),$(VPATH),$(patsubst %/,%,$(dir $(firstword $(MAKEFILE_LIST)))))
in_top = $(sort $(patsubst $(top)/%,%,$(wildcard $(addprefix $(top)/,$(1)))))

OBJS = $(patsubst %.c,%.o,$(call in_top,src/*.c src/*/*.c))

# sequencer.control is installed as calvin_seq.control, so it is built data and
# not EXTENSION, for which PGXS insists on a file of that name in the source.
MODULEDIR = extension
DATA = $(call in_top,sql/calvin_seq--*.sql)
DATA_built = calvin_seq.control

# For consumers in C: extension/calvin_seq/calvin_seq.h below the server's.
HEADERS = $(call in_top,src/api/calvin_seq.h)

REGRESS = $(filter-out calvin_seq--% $(REGRESS_EXCEPT),$(patsubst sql/%.sql,%,$(call in_top,sql/*.sql)))
ISOLATION = $(patsubst specs/%.spec,%,$(call in_top,specs/*.spec))
# The one that leaves in the database what the others use.
ifneq ($(ISOLATION),)
override ISOLATION := prologue $(filter-out prologue,$(ISOLATION))
endif
TAP_TESTS = $(if $(call in_top,t/*.pl),1)

# msgpack-c's pkg-config name is msgpack-c since 6.0 and was msgpack before.
PKG_CONFIG ?= pkg-config
MSGPACK := $(shell for p in msgpack-c msgpack; do \
	$(PKG_CONFIG) --exists $$p 2>/dev/null && { echo $$p; break; }; done)
ifneq ($(MSGPACK),)
MSGPACK_CFLAGS := $(patsubst -I%,-isystem %,$(shell $(PKG_CONFIG) --cflags $(MSGPACK)))
MSGPACK_LIBS := $(shell $(PKG_CONFIG) --libs $(MSGPACK))
# Where the server's own prefix has none of libpq's headers. Behind all others: with them
# is a pg_config.h, perhaps of another version.
LIBPQ_CFLAGS := $(patsubst -I%,-idirafter %,$(shell $(PKG_CONFIG) --cflags-only-I libpq 2>/dev/null))
endif

# -isystem keeps the warnings for our own code: the server's headers are not
# written for -Wextra.
PG_CPPFLAGS = -I$(srcdir)/src -isystem $(includedir_server) -isystem $(libpq_srcdir) \
	$(MSGPACK_CFLAGS) $(LIBPQ_CFLAGS)

# The version is said once, in the control file.
version := $(shell sed -n "s/^default_version *= *'\(.*\)' *$$/\1/p" '$(top)/sequencer.control')
PG_CPPFLAGS += -DCALVIN_SEQ_VERSION=$(version)

# For tests: named points at which processes can be stopped (src/shared/pause.h).
PG_CPPFLAGS += $(if $(PAUSE_POINTS),-DCALVIN_PAUSE_POINTS)

# The server's callbacks have fixed signatures, hence no -Wunused-parameter.
# CFLAGS are those of the compiler the server was built by: clang does not
# know all of gcc's.
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -fvisibility=hidden \
	$(if $(findstring clang,$(CC)),-Wno-unknown-warning-option -Wno-ignored-optimization-argument)

SHLIB_LINK = $(MSGPACK_LIBS)
# of followers
SHLIB_LINK_INTERNAL = $(libpq)

# A server for the tests of SQL and of isolation, made by pg_regress and removed with them.
ifneq ($(TEMP_INSTANCE),)
override EXTRA_REGRESS_OPTS += --temp-instance=tmp_instance --temp-config='$(top)/scripts/test.conf'
endif

EXTRA_CLEAN = tmp_instance src/*.[do] src/*.bc src/*/*.[do] src/*/*.bc

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
SERVER_HEADER := $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)/postgres.h

# Some packages have the makefiles without the headers.
ifneq ($(and $(wildcard $(PGXS)),$(wildcard $(SERVER_HEADER))),)

# A server built with LLVM wants bitcode of its extensions; without its clang
# they work as well.
pgxs_value = $(shell sed -n 's/^$(1)[ \t]*=[ \t]*//p' $(dir $(PGXS))../Makefile.global)
ifeq ($(wildcard $(call pgxs_value,CLANG)),)
override with_llvm := no
else ifeq ($(wildcard $(call pgxs_value,LLVM_BINPATH)/llvm-lto),)
override with_llvm := no
endif

include $(PGXS)

# Objects depend on the headers they read, bitcode on what its object does.
%.o: override CFLAGS += -MMD -MP
-include $(OBJS:.o=.d)
$(OBJS:.o=.bc): %.bc: %.o

# Who knows the version is built anew with another one.
versioned := $(patsubst $(top)/%.c,%.o,$(shell grep -l '"log/version.h"' '$(top)'/src/*/*.c))
$(versioned): sequencer.control

# Before any object: msgpack-c must be there, and in a VPATH build the
# directories of the objects.
$(OBJS): | prepare
.PHONY: prepare
prepare:
	@$(if $(MSGPACK),,$(error msgpack-c is missing (pkg-config knows neither \
	msgpack-c nor msgpack): on Debian 12 install libmsgpack-dev, on later \
	releases libmsgpack-c-dev))$(MKDIR_P) $(sort $(dir $(OBJS)))

# Every header must compile alone: in the pure layers by itself, elsewhere
# after postgres.h.
.PHONY: headerscheck
headerscheck:
	@for h in $(call in_top,src/*.h src/*/*.h); do \
		case $$h in src/wire/*|src/machine/*) first= ;; *) first='-include postgres.h' ;; esac; \
		$(CC) $(CFLAGS) $(CPPFLAGS) $$first -include $$h -fsyntax-only -x c /dev/null || \
			{ echo "$$h does not compile alone"; exit 1; }; \
	done

calvin_seq.control: sequencer.control
	cp $< $@

else # no PGXS: only what installs it, or needs no server, can work

.DEFAULT_GOAL := all
.PHONY: all install uninstall installcheck clean
all install uninstall installcheck:
	$(error $(PG_CONFIG) does not lead to PostgreSQL's extension build files: \
	on Debian install postgresql-server-dev-all, elsewhere set PG_CONFIG)

clean:
	rm -rf $(EXTRA_CLEAN) $(MODULE_big).so $(DATA_built) \
		results regression.diffs regression.out tmp_check log output_iso tmp_check_iso

endif

# Commands of our own: the head of scripts/NAME.sh says what they take.
scripts = test test-versions test-packages test-update dist deb sanitize lint demo chaos clients monitoring
.PHONY: fuzz chaos-followers chaos-plants chaos-bursts cluster cluster-short bench $(scripts)
$(scripts):
	@bash '$(subst ','\'',$(top))/scripts/$@.sh'

# SECONDS is a variable of bash's own.
fuzz:
	@FUZZ_SECONDS='$(or $(SECONDS),60)' bash '$(subst ','\'',$(top))/scripts/fuzz.sh'

chaos-followers chaos-plants chaos-bursts:
	@bash '$(subst ','\'',$(top))/scripts/chaos.sh' --$(patsubst chaos-%,%,$@)

cluster cluster-short:
	@$(if $(findstring short,$@),CLUSTER=short )bash '$(subst ','\'',$(top))/scripts/patroni.sh'

bench:
	@bash '$(subst ','\'',$(top))/bench/run.sh'
	@[ -n "$$BENCH_ONLY" ] || bash '$(subst ','\'',$(top))/bench/consume.sh'
