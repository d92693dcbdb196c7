# SPDX-License-Identifier: Apache-2.0
# The simulated GPU: libcuda.so.1 (driver/), libnvidia-ml.so.1 (nvml/), the null driver for benchmarks,
# and by runtime/build.mk libcudart. Everything derived from NVIDIA's headers is generated into $(B)/simgpu/driver/.

SIM_SRC := tests/simgpu
SIM_OUT := $(B)/simgpu
SIM_GEN := $(SIM_OUT)/driver

SIM_DRIVER_C := $(sort $(wildcard $(SIM_SRC)/driver/*.c))
SIM_DRIVER_O := $(SIM_DRIVER_C:$(SIM_SRC)/driver/%.c=$(SIM_GEN)/%.o) $(SIM_GEN)/entries.o
SIM_CFLAGS = $(WARN) $(CFLAGS) -fPIC -fvisibility=hidden -ftls-model=initial-exec -pthread -MMD -MP \
             -D_GNU_SOURCE -D__CUDA_API_VERSION_INTERNAL -I$(SIM_SRC)/driver -I$(SIM_GEN) -isystem $(CUDA13_INC)
# A function of the driver that calls another one must reach its own, whoever is preloaded.
SIM_LDFLAGS = -shared -pthread -Wl,-Bsymbolic -Wl,--no-undefined -Wl,-z,now -Wl,--as-needed
SIM_GENERATE = python3 $(SIM_SRC)/generate.py --include $(CUDA13_INC) --preprocessed $(SIM_GEN)/cuda.i

ALL += $(SIM_OUT)/libcuda.so.1 $(SIM_OUT)/libcuda.so $(SIM_OUT)/libnvidia-ml.so.1 $(SIM_OUT)/null/libcuda.so.1

$(SIM_GEN)/cuda.i: $(CUDA13_INC)/cuda.h
	@mkdir -p $(@D)
	$(CC) -E -P -D_GNU_SOURCE -D__CUDA_API_VERSION_INTERNAL -x c $< -o $@

$(SIM_GEN)/api.h: $(SIM_SRC)/generate.py $(SIM_GEN)/cuda.i
	$(SIM_GENERATE) --product api --output $@

$(SIM_GEN)/entries.c: $(SIM_SRC)/generate.py $(SIM_GEN)/cuda.i $(SIM_DRIVER_C) \
                      $(SIM_SRC)/driver/quiet.def
	$(SIM_GENERATE) --product entries --quiet $(SIM_SRC)/driver/quiet.def --output $@ $(SIM_DRIVER_C)

$(SIM_GEN)/null.c: $(SIM_SRC)/generate.py $(SIM_GEN)/cuda.i tests/bench/nulldriver.c
	$(SIM_GENERATE) --product null --output $@ tests/bench/nulldriver.c

$(SIM_GEN)/%.o: $(SIM_SRC)/driver/%.c | $(SIM_GEN)/api.h
	$(CC) $(SIM_CFLAGS) -c $< -o $@

$(SIM_GEN)/%.o: $(SIM_GEN)/%.c | $(SIM_GEN)/api.h
	$(CC) $(SIM_CFLAGS) -c $< -o $@

$(SIM_GEN)/nulldriver.o: tests/bench/nulldriver.c | $(SIM_GEN)/api.h
	$(CC) $(SIM_CFLAGS) -c $< -o $@

$(SIM_OUT)/libcuda.so.1: $(SIM_DRIVER_O)
	$(CC) $(CFLAGS) $(SIM_LDFLAGS) -Wl,-soname,libcuda.so.1 $^ -o $@ $(LDFLAGS)

# NVML comes with the driver, beside it.
$(SIM_OUT)/libnvidia-ml.so.1: $(SIM_SRC)/nvml/nvml.c $(SIM_SRC)/driver/simgpu.h $(SIM_OUT)/libcuda.so.1
	$(CC) $(WARN) $(CFLAGS) -fPIC -fvisibility=hidden -D_GNU_SOURCE -I$(SIM_SRC)/driver \
	    $(SIM_LDFLAGS) -Wl,-soname,$(@F) $(filter %.c %.so.1,$^) -o $@ $(LDFLAGS)

$(SIM_OUT)/libcuda.so: $(SIM_OUT)/libcuda.so.1
	ln -sf libcuda.so.1 $@

$(SIM_OUT)/null/libcuda.so.1: $(SIM_GEN)/null.o $(SIM_GEN)/nulldriver.o
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(SIM_LDFLAGS) -Wl,-soname,libcuda.so.1 $^ -o $@ $(LDFLAGS)

SIM_PROGRAMS := $(patsubst $(SIM_SRC)/programs/%.c,$(SIM_OUT)/programs/%,$(wildcard $(SIM_SRC)/programs/*.c))
ALL += $(SIM_PROGRAMS)

$(SIM_PROGRAMS): $(SIM_OUT)/programs/%: $(SIM_SRC)/programs/%.c $(SIM_OUT)/libcuda.so.1
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) -pthread -isystem $(CUDA13_INC) $^ -o $@ $(LDFLAGS)

-include $(SIM_DRIVER_O:.o=.d) $(SIM_GEN)/null.d $(SIM_GEN)/nulldriver.d
-include $(SIM_SRC)/runtime/build.mk
