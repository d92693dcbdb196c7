# SPDX-License-Identifier: Apache-2.0
#
# The test programs in C and C++. A source says in its own first lines what it is built with, so that no
# list here has to follow it:
#
#   // links: interpose/ledger.c report/reader.c     the sources under test (tests/unit)
#   // includes: interpose/ledger.c                  those of them that it includes instead
#   // build: -L$B/simgpu -lcuda -pthread            more for the compiler's line (both)
#
# tests/unit/test_X.c are cmocka programs, tests/hazards/X.c and X.cc programs to run under the
# library, and tests/hazards/libX.c the plug-ins that some of those load.

source_line = $(shell sed -n 's|^// $(2): ||p' $(1))

UNIT_TESTS   := $(patsubst %.c,$(B)/%,$(wildcard tests/unit/test_*.c))
HAZARD_LIBS  := $(patsubst %.c,$(B)/%.so,$(wildcard tests/hazards/lib*.c))
HAZARDS      := $(patsubst %.c,$(B)/%,$(filter-out tests/hazards/lib%,$(wildcard tests/hazards/*.c)))
HAZARDS_CXX  := $(patsubst %.cc,$(B)/%,$(wildcard tests/hazards/*.cc))
ALL += $(UNIT_TESTS) $(HAZARDS) $(HAZARDS_CXX) $(HAZARD_LIBS)

# The recipes' shell expands the $B of a "build:" line.
$(UNIT_TESTS) $(HAZARDS) $(HAZARDS_CXX) $(HAZARD_LIBS): export B := $(B)
TEST_FLAGS = $(CFLAGS) -Iinterpose -Iknowledge -Ireport -Itests/hazards -I$(B) \
             -isystem $(CUDA13_INC)
TEST_CC = $(CC) $(WARN) $(TEST_FLAGS)
TEST_CXX = $(CXX) $(filter-out -std=%,$(WARN)) -std=gnu++20 $(TEST_FLAGS)
AUTO_DEPS = -MMD -MP -MT $@ -MF $(basename $@).d
TEST_LIBS = $(LDFLAGS) $(call source_line,$<,build)

# The simulated GPU is linked against only for its names; whoever runs the program chooses the GPU.
SIMGPU_LIBS := $(addprefix $(B)/simgpu/,libcuda.so libcudart.so.11.0 libcudart.so.12 libcudart.so.13 \
                 libcudart.so libcudart_static.a)

.SECONDEXPANSION:
$(UNIT_TESTS): $(B)/tests/unit/%: tests/unit/%.c $$(call source_line,tests/unit/%.c,links) \
    $$(call source_line,tests/unit/%.c,includes) $(wildcard interpose/*.h interpose/*.def knowledge/*.h report/*.h)
	@mkdir -p $(@D)
	$(TEST_CC) $(shell pkg-config --cflags cmocka libcjson libpcre2-8) \
	    $(filter-out $(call source_line,$<,includes),$(filter %.c %.S,$^)) -o $@ $(TEST_LIBS) \
	    $(shell pkg-config --libs cmocka libcjson libpcre2-8) -pthread -ldl

$(HAZARDS): $(B)/tests/hazards/%: tests/hazards/%.c | $(SIMGPU_LIBS)
	@mkdir -p $(@D)
	$(TEST_CC) $(AUTO_DEPS) $< -o $@ $(TEST_LIBS) -ldl

$(HAZARDS_CXX): $(B)/tests/hazards/%: tests/hazards/%.cc | $(SIMGPU_LIBS)
	@mkdir -p $(@D)
	$(TEST_CXX) $(AUTO_DEPS) $< -o $@ $(TEST_LIBS) -ldl

$(HAZARD_LIBS): $(B)/tests/hazards/%.so: tests/hazards/%.c | $(SIMGPU_LIBS)
	@mkdir -p $(@D)
	$(TEST_CC) $(AUTO_DEPS) -shared -fPIC $< -o $@ $(TEST_LIBS)

-include $(addsuffix .d,$(HAZARDS) $(HAZARDS_CXX) $(basename $(HAZARD_LIBS)))

