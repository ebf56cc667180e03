# What the programs without a server are built with; "top" is set before.

CC ?= cc
PKG_CONFIG ?= pkg-config
# msgpack-c's pkg-config name is msgpack-c since 6.0 and was msgpack before.
MSGPACK := $(shell for p in msgpack-c msgpack; do \
	$(PKG_CONFIG) --exists $$p 2>/dev/null && { echo $$p; break; }; done)
MSGPACK_CFLAGS := $(patsubst -I%,-isystem %,$(shell $(PKG_CONFIG) --cflags $(MSGPACK) 2>/dev/null))
MSGPACK_LIBS := $(shell $(PKG_CONFIG) --libs $(MSGPACK) 2>/dev/null || echo -lmsgpackc)

CFLAGS ?= -O2 -g
override CFLAGS += -std=gnu11 -Wall -Wextra -Werror -Wmissing-prototypes \
	-Wdeclaration-after-statement -Wvla
override CPPFLAGS += -I$(top)/src $(MSGPACK_CFLAGS)
