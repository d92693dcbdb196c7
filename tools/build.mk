# SPDX-License-Identifier: Apache-2.0
#
# What the build and the tests need from outside, and the upkeep of the sources (format, lint).
#
# Every download leaves a stamp, so that it happens once and everything after it works offline.
# DEPS_DIR is apart from B because a second build (clang, a sanitizer) shares what the first
# downloaded.

DEPS_DIR ?= $(B)

PYTHON       := $(DEPS_DIR)/venv/bin/python
CLANG_FORMAT := $(DEPS_DIR)/venv/bin/clang-format

# NVIDIA's headers and runtimes of three CUDA releases, for the simulated GPU, the examples and the
# tests; the library and the program need none of them.
CUDA13_INC := $(DEPS_DIR)/deps/cuda13/include
CUDA12_INC := $(DEPS_DIR)/deps/cuda12/include
CUDA11_INC := $(DEPS_DIR)/deps/cuda11/include
CUDA13_LIB := $(DEPS_DIR)/deps/cuda13/lib
CUDA12_LIB := $(DEPS_DIR)/deps/cuda12/lib
CUDA11_LIB := $(DEPS_DIR)/deps/cuda11/lib

# The crt headers come with the runtime since CUDA 13 and with the compiler before.
CUDA13_WHEELS := nvidia-cuda-runtime==13.0.96 nvidia-cuda-crt==13.0.88
CUDA12_WHEELS := nvidia-cuda-runtime-cu12==12.9.79 nvidia-cuda-nvcc-cu12==12.9.86
CUDA11_WHEELS := nvidia-cuda-runtime-cu11==11.8.89 nvidia-cuda-nvcc-cu11==11.8.89

stamp = $(DEPS_DIR)/deps/$(1).stamp

DEPS_DEMO  := $(call stamp,packages-demo) $(call stamp,cuda13)
DEPS_TEST  := $(call stamp,packages-test) $(call stamp,python) \
              $(call stamp,cuda13) $(call stamp,cuda12) $(call stamp,cuda11)
DEPS_ARM64 := $(call stamp,packages-arm64) $(DEPS_TEST)
DEPS_BENCH := $(call stamp,packages-bench) $(DEPS_TEST)

.PHONY: deps format lint check-format
deps: $(DEPS_DEMO) $(DEPS_TEST)

# PACKAGES_x: the groups of tools/packages that target x needs.
PACKAGES_demo  := build python
PACKAGES_test  := build python test
PACKAGES_arm64 := arm64
PACKAGES_bench := bench
PACKAGES_lint  := lint

$(DEPS_DIR)/deps/packages-%.stamp: tools/packages
	@mkdir -p $(@D)
	@tools/packages install $(PACKAGES_$*)
	@touch $@

$(PYTHON): | $(call stamp,packages-demo)
	@echo 'deps: a Python environment in $(DEPS_DIR)/venv, apart from the system one'
	@$(firstword $(wildcard /usr/bin/python3) python3) -m venv $(DEPS_DIR)/venv

$(call stamp,python): tools/requirements.txt | $(PYTHON)
	@echo 'deps: Python packages of tools/requirements.txt, for the tests and the Python examples'
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -r tools/requirements.txt
	@touch $@

$(DEPS_DIR)/deps/cuda%.stamp: tools/fetch-cuda.py | $(PYTHON)
	@echo 'deps: NVIDIA CUDA $* headers and runtime, for the simulated GPU and the tests'
	@$(PYTHON) tools/fetch-cuda.py $(@:.stamp=) $(CUDA$*_WHEELS)
	@touch $@

# Plain `make` installs nothing; it says what to do.
hash := \#
ifneq ($(filter all everything install test-built,$(or $(MAKECMDGOALS),all)),)
ifneq ($(shell pkg-config --exists libcjson libelf libdw libpcre2-8 && \
               echo '$(hash)include <libiberty/demangle.h>' | $(CC) -E -x c - >/dev/null 2>&1 || echo missing),)
$(error memwatch needs cJSON, elfutils and PCRE2, found by pkg-config, and libiberty: run `make deps`)
endif
endif

# Whoever needs a header gets its release, without naming the stamp.
$(CUDA13_INC)/cuda.h: | $(call stamp,cuda13) ;
$(CUDA12_INC)/cuda.h: | $(call stamp,cuda12) ;
$(CUDA11_INC)/cuda.h: | $(call stamp,cuda11) ;

C_SOURCES = $(shell find interpose knowledge report examples tests -name '*.[ch]' -o -name '*.cc' -o -name '*.cu')

format: $(call stamp,python)
	@$(CLANG_FORMAT) -i $(C_SOURCES)

check-format: $(call stamp,python)
	@$(CLANG_FORMAT) --dry-run -Werror $(C_SOURCES)

# clang-tidy judges what runs on users' machines; the checks are chosen in .clang-tidy. One file at a
# time: in company its va_list check takes one file's state into the next.
LINTED := $(wildcard interpose/*.c knowledge/*.c report/*.c)
.PHONY: $(LINTED:%=lint-%)
lint: check-format $(LINTED:%=lint-%)

$(LINTED:%=lint-%): lint-%: % $(call stamp,packages-lint)
	@clang-tidy --quiet $< -- $(WARN) -D_GNU_SOURCE -Iinterpose -Iknowledge -Ireport -I$(B) \
	    $(shell pkg-config --cflags libcjson libelf libdw libpcre2-8)
