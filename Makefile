# SPDX-License-Identifier: Apache-2.0
#
# The whole build in one make process: each folder's build.mk adds its products and rules, so that
# make sees every dependency. Products land in $(B) and nowhere else; `make B=elsewhere` keeps a
# second build (another compiler, a sanitizer) beside the first.

VERSION := 0.1.0

B       ?= build
PREFIX  ?= /usr/local
BINDIR  ?= $(PREFIX)/bin
LIBDIR  ?= $(PREFIX)/lib
DATADIR ?= $(PREFIX)/share

CC      ?= cc
INSTALL ?= install
NVCC    ?= $(shell command -v nvcc)
JOBS    ?= $(shell nproc)

CFLAGS ?= -O2 -g

# SANITIZE=address,undefined or SANITIZE=thread builds everything with that sanitizer.
SANITIZE ?=
ifneq ($(SANITIZE),)
override CFLAGS  += -fno-omit-frame-pointer -fsanitize=$(SANITIZE)
override LDFLAGS += -fsanitize=$(SANITIZE)
ifeq ($(SANITIZE),thread)
# gcc warns that ThreadSanitizer does not follow fences.
override CFLAGS += -Wno-tsan
endif
# nvcc takes the commas of an -Xcompiler option for its own.
comma := ,
NVCC_SANITIZE := $(patsubst %,-Xcompiler -fsanitize=%,$(subst $(comma), ,$(SANITIZE)))
# The companion's start runs on a stack of its own between clone and exec, where no sanitizer can.
$(B)/interpose/monitor.o: override CFLAGS += -fno-sanitize=all
endif

# What every C file is compiled with, whatever CFLAGS says: language, warnings and the one version.
WARN := -std=gnu17 -Wall -Wextra -Werror -DMEMWATCH_VERSION='"$(VERSION)"'

# The default goal: what a user installs.
.PHONY: all
all: $(B)/libmemwatch.so $(B)/memwatch

# Each build.mk adds what it builds for the tests.
ALL :=
include tools/build.mk
include interpose/build.mk knowledge/build.mk report/build.mk tests/build.mk $(wildcard tests/*/build.mk) examples/build.mk

.DELETE_ON_ERROR:
.PHONY: everything demo test test-built test-sanitizers test-arm64 test-driver bench install clean

everything: all $(ALL)

# Targets that first install and then build run make again, because the installed packages decide
# what the build.mk files say.
SUBMAKE = +$(MAKE) --no-print-directory $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(JOBS))

# What the scripts and tests need to know about this build.
BUILD_ENV = B='$(abspath $(B))' DEPS_DIR='$(abspath $(DEPS_DIR))' CC='$(CC)' \
            PYTHON='$(abspath $(PYTHON))' SANITIZE='$(SANITIZE)'

demo: $(DEPS_DEMO)
	@$(SUBMAKE) --quiet all $(B)/simgpu/libcuda.so.1 $(B)/examples/driver_api
	@$(BUILD_ENV) tools/demo

test: $(DEPS_TEST)
	$(SUBMAKE) test-built

test-built: everything
	$(BUILD_ENV) $(PYTHON) -m pytest -n $(JOBS) $(PYTEST_ARGS) tests

# The suite again, on builds that report data races, bad memory accesses and undefined behaviour.
test-sanitizers: $(DEPS_TEST)
	$(SUBMAKE) test-built B=$(B)/asan DEPS_DIR=$(DEPS_DIR) SANITIZE=address,undefined
	$(SUBMAKE) test-built B=$(B)/tsan DEPS_DIR=$(DEPS_DIR) SANITIZE=thread

test-arm64: $(DEPS_ARM64)
	$(BUILD_ENV) tests/arm64/run

test-driver: $(DEPS_TEST)
	$(SUBMAKE) everything
	$(BUILD_ENV) tests/driver/run

bench: $(DEPS_BENCH)
	$(SUBMAKE) everything
	$(BUILD_ENV) tests/bench/run

install: all
	$(INSTALL) -d $(addprefix $(DESTDIR),$(BINDIR) $(LIBDIR)/pkgconfig $(DATADIR)/memwatch)
	$(INSTALL) -m 755 $(B)/memwatch $(DESTDIR)$(BINDIR)/memwatch
	$(INSTALL) -m 755 $(B)/libmemwatch.so $(DESTDIR)$(LIBDIR)/libmemwatch.so
	$(INSTALL) -m 644 report/schema.json $(DESTDIR)$(DATADIR)/memwatch/schema.json
	sed -e 's|@VERSION@|$(VERSION)|' -e 's|@PREFIX@|$(PREFIX)|' -e 's|@BINDIR@|$(BINDIR)|' \
	    -e 's|@LIBDIR@|$(LIBDIR)|' libmemwatch.pc.in \
	    >$(DESTDIR)$(LIBDIR)/pkgconfig/libmemwatch.pc

clean:
	rm -rf $(B)
