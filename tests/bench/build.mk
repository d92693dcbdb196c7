# SPDX-License-Identifier: Apache-2.0
#
# The programs that `make bench` measures with; tests/bench/run says what it does with them.

BENCH_OUT      := $(B)/tests/bench
BENCH_PROGRAMS := $(BENCH_OUT)/pairs $(BENCH_OUT)/pairs.so $(BENCH_OUT)/exec $(BENCH_OUT)/throw \
                  $(BENCH_OUT)/scan $(BENCH_OUT)/tensor_pairs.so
ALL += $(BENCH_PROGRAMS)

BENCH_CC = $(CC) $(WARN) $(CFLAGS) -D_GNU_SOURCE -isystem $(CUDA13_INC)

$(BENCH_OUT)/pairs: tests/bench/pairs.c $(B)/simgpu/null/libcuda.so.1
	@mkdir -p $(@D)
	$(BENCH_CC) $^ -o $@ $(LDFLAGS) -pthread -ldl

$(BENCH_OUT)/pairs.so: tests/bench/pairs.c $(B)/simgpu/null/libcuda.so.1
	@mkdir -p $(@D)
	$(BENCH_CC) -fPIC -shared $^ -o $@ $(LDFLAGS) -pthread -ldl

$(BENCH_OUT)/throw: tests/bench/throw.cc $(B)/simgpu/null/libcuda.so.1
	@mkdir -p $(@D)
	$(TEST_CXX) $^ -o $@ $(LDFLAGS)

$(BENCH_OUT)/tensor_pairs.so: tests/bench/tensor_pairs.c tests/tensors/c10.h $(B)/tests/tensors/3/libc10.so
	@mkdir -p $(@D)
	$(BENCH_CC) -DGENERATION=3 -Itests/tensors -shared -fPIC $(filter %.c %.so,$^) -o $@ $(LDFLAGS) \
	    -Wl,-rpath,'$$ORIGIN/../tensors/3' -pthread

$(BENCH_OUT)/exec: tests/bench/exec.c
	@mkdir -p $(@D)
	$(BENCH_CC) $^ -o $@ $(LDFLAGS)

$(BENCH_OUT)/scan: tests/bench/scan.c $(B)/libknowledge.a
	@mkdir -p $(@D)
	$(BENCH_CC) -Iknowledge $(shell pkg-config --cflags $(KNOWLEDGE_PACKAGES)) $^ -o $@ $(LDFLAGS) \
	    $(shell pkg-config --libs $(KNOWLEDGE_PACKAGES))
