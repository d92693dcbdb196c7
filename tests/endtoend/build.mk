# SPDX-License-Identifier: Apache-2.0
#
# The programs of the end-to-end tests. Those of one source (a "build:" line as in tests/build.mk
# says with what) are X.c; the programs of rows are one source built for each door.

E2E     := tests/endtoend
E2E_OUT := $(B)/tests/endtoend

E2E_PARTS    := rows operations exporter
E2E_RUNTIMES := 11.0 12 13

E2E_ROWS := $(addprefix $(E2E_OUT)/,driver_rows driver_rows_linked runtime_rows runtime_rows_static \
              $(addprefix runtime_rows_,$(E2E_RUNTIMES)))
E2E_ROWS_OF  := $(patsubst %,$(E2E)/%.c,$(E2E_PARTS) driver_rows runtime_rows)
E2E_PROGRAMS := $(patsubst %.c,$(B)/%,$(filter-out $(E2E_ROWS_OF),$(wildcard $(E2E)/*.c)))
ALL += $(E2E_ROWS) $(E2E_PROGRAMS)

E2E_CC = $(CC) $(WARN) $(CFLAGS) -D_GNU_SOURCE -Iinterpose -isystem $(CUDA13_INC)
E2E_ROWS_C = $(filter %.c,$^)

$(E2E_ROWS): $(E2E_PARTS:%=$(E2E)/%.c) $(wildcard $(E2E)/*.h) interpose/entrypoints.def \
             interpose/cuda_abi.h | $(E2E_OUT)/
$(E2E_OUT)/driver_rows $(E2E_OUT)/driver_rows_linked: $(E2E)/driver_rows.c
$(filter $(E2E_OUT)/runtime%,$(E2E_ROWS)): $(E2E)/runtime_rows.c

$(E2E_OUT)/driver_rows:
	$(E2E_CC) $(E2E_ROWS_C) -o $@ $(LDFLAGS) -pthread -ldl
$(E2E_OUT)/runtime_rows:
	$(E2E_CC) -DRUNTIME_ROWS $(E2E_ROWS_C) -o $@ $(LDFLAGS) -pthread -ldl

$(E2E_OUT)/driver_rows_linked: $(B)/simgpu/libcuda.so.1
	$(E2E_CC) -DLINKED $(E2E_ROWS_C) -o $@ $(LDFLAGS) $(filter $(B)/simgpu/%,$^) -pthread -ldl
$(E2E_RUNTIMES:%=$(E2E_OUT)/runtime_rows_%): $(E2E_OUT)/runtime_rows_%: $(B)/simgpu/libcudart.so.%
	$(E2E_CC) -DLINKED -DRUNTIME_ROWS $(E2E_ROWS_C) -o $@ $(LDFLAGS) $(filter $(B)/simgpu/%,$^) -pthread -ldl
$(E2E_OUT)/runtime_rows_static: $(B)/simgpu/libcudart_static.a
	$(E2E_CC) -DLINKED -DRUNTIME_ROWS $(E2E_ROWS_C) -o $@ $(LDFLAGS) $(filter $(B)/simgpu/%,$^) -pthread -ldl -lrt

$(E2E_PROGRAMS): $(B)/%: %.c $(B)/simgpu/libcuda.so | $(E2E_OUT)/
	$(E2E_CC) $< -o $@ $(LDFLAGS) -L$(B)/simgpu $(call source_line,$<,build) -pthread -ldl
$(E2E_PROGRAMS): export B := $(B)

$(E2E_OUT)/:
	mkdir -p $@
