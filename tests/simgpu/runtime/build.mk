# SPDX-License-Identifier: Apache-2.0
# The simulated runtime: the same sources built against the headers of three CUDA releases into
# libcudart.so.{11.0,12,13}, and once more, for 13, into the static archive.

RT_SRC := tests/simgpu/runtime
RT_OUT := $(B)/simgpu/runtime
RT_C   := $(notdir $(wildcard $(RT_SRC)/*.c))
# Compiled a second time for per-thread default streams (runtime.h).
RT_TWINS := copy.c entry_point.c launch.c

RT_OBJECTS := $(RT_C:.c=.o) $(RT_TWINS:.c=.per-thread.o) forwards.o
RT_HEADERS := rows.h error_names.h

RT_LIBRARIES := $(addprefix $(B)/simgpu/,libcudart.so.11.0 libcudart.so.12 libcudart.so.13 \
                                         libcudart.so libcudart_static.a)

# Programs for the tests: one for each way to use the runtime.
RT_RUN := $(RT_OUT)/programs
RT_PROGRAMS := $(foreach p,families errors,\
                   $(addprefix $(RT_RUN)/$(p).,11.0 12 13 static per-thread)) \
               $(RT_RUN)/door/libcuda.so.1 \
               $(if $(NVCC),$(addprefix $(RT_RUN)/kernels.,shared static per-thread))
# -rdynamic would show names that the static archive does not hide.
RT_PROGRAM = $(CC) $(WARN) $(CFLAGS) $< -o $@ $(LDFLAGS) -pthread -rdynamic

ALL += $(RT_LIBRARIES) $(RT_PROGRAMS)

# The runtime's structures are passed on as the driver's, whose layouts they have: the compiler must
# not conclude from the types that they are different memory.
RT_CFLAGS = $(WARN) $(CFLAGS) -fPIC -fno-strict-aliasing -pthread -MMD -MP -I$(RT_SRC)
RT_GENERATE = python3 $(RT_SRC)/generate.py --preprocessed $(@D)/api.i --output $@

# $(1): folder of the objects, $(2): headers of the release, $(3): product, $(4): more flags.
define RT_RELEASE
$(RT_OUT)/$(1)/api.i: $(2)/cuda.h
	@mkdir -p $$(@D)
	$$(CC) -E -P -x c $(2)/cuda_runtime_api.h -o $$@

$(RT_OUT)/$(1)/rows.h: $(RT_SRC)/generate.py $(RT_SRC)/forward.def $(RT_C:%=$(RT_SRC)/%) \
                       $(RT_OUT)/$(1)/api.i
	$$(RT_GENERATE) --include $(2) --forward $(RT_SRC)/forward.def $(RT_C:%=$(RT_SRC)/%)

$(RT_OUT)/$(1)/forwards.c: $(RT_SRC)/generate.py $(RT_SRC)/forward.def $(RT_OUT)/$(1)/api.i
	$$(RT_GENERATE) --include $(2) --forward $(RT_SRC)/forward.def

$(RT_OUT)/$(1)/error_names.h: $(RT_SRC)/generate.py $(RT_OUT)/$(1)/api.i
	$$(RT_GENERATE) --include $(2)

$(RT_OUT)/$(1)/symbols: $(RT_OBJECTS:%=$(RT_OUT)/$(1)/%)
	nm -g --defined-only $$^ >$$@

$(RT_OUT)/$(1)/unsupported.c: $(RT_SRC)/generate.py $(RT_OUT)/$(1)/symbols
	$$(RT_GENERATE) --include $(2) --symbols $(RT_OUT)/$(1)/symbols

$(RT_OUT)/$(1)/%.o: RT_VARIANT = -isystem $(2) -I$(RT_OUT)/$(1) $(4)
$(RT_OUT)/$(1)/%.o: $(RT_SRC)/%.c | $(RT_HEADERS:%=$(RT_OUT)/$(1)/%)
	$$(CC) $$(RT_CFLAGS) $$(RT_VARIANT) -c $$< -o $$@

$(RT_OUT)/$(1)/%.per-thread.o: $(RT_SRC)/%.c | $(RT_HEADERS:%=$(RT_OUT)/$(1)/%)
	$$(CC) $$(RT_CFLAGS) $$(RT_VARIANT) -DCUDA_API_PER_THREAD_DEFAULT_STREAM -c $$< -o $$@

$(RT_OUT)/$(1)/%.o: $(RT_OUT)/$(1)/%.c | $(RT_HEADERS:%=$(RT_OUT)/$(1)/%)
	$$(CC) $$(RT_CFLAGS) $$(RT_VARIANT) -c $$< -o $$@

$(RT_RUN)/%.$(1): $(RT_SRC)/programs/%.c $(B)/simgpu/$(3)
	@mkdir -p $$(@D)
	$$(RT_PROGRAM) -isystem $(2) $(B)/simgpu/$(3) -ldl

-include $(RT_OBJECTS:%.o=$(RT_OUT)/$(1)/%.d)
endef

$(eval $(call RT_RELEASE,11.0,$(CUDA11_INC),libcudart.so.11.0))
$(eval $(call RT_RELEASE,12,$(CUDA12_INC),libcudart.so.12))
$(eval $(call RT_RELEASE,13,$(CUDA13_INC),libcudart.so.13))
$(eval $(call RT_RELEASE,static,$(CUDA13_INC),libcudart_static.a,-fvisibility=hidden))

# Like NVIDIA's: every name has the version libcudart.so.N, and calls inside stay inside.
$(RT_OUT)/%/exports:
	@mkdir -p $(@D)
	echo 'libcudart.so.$* { global: cuda[A-Z]*; __cuda*; local: *; };' >$@

$(B)/simgpu/libcudart.so.%: $(RT_OUT)/%/exports $(RT_OUT)/%/unsupported.o \
                            $(RT_OBJECTS:%.o=$(RT_OUT)/\%/%.o)
	$(CC) $(CFLAGS) -shared -pthread -Wl,-Bsymbolic -Wl,--no-undefined -Wl,-z,now -Wl,--as-needed \
	    -Wl,-soname,$(@F) -Wl,--version-script=$< $(filter %.o,$^) -o $@

$(B)/simgpu/libcudart.so: $(B)/simgpu/libcudart.so.13
	ln -sf libcudart.so.13 $@

$(B)/simgpu/libcudart_static.a: $(addprefix $(RT_OUT)/static/,unsupported.o $(RT_OBJECTS))
	rm -f $@
	$(AR) rcs $@ $^

# Under per-thread default streams a program calls other names.
$(RT_RUN)/%.per-thread: $(RT_SRC)/programs/%.c $(B)/simgpu/libcudart.so.13
	@mkdir -p $(@D)
	$(RT_PROGRAM) -isystem $(CUDA13_INC) -DCUDA_API_PER_THREAD_DEFAULT_STREAM \
	    $(B)/simgpu/libcudart.so.13

$(RT_RUN)/door/libcuda.so.1: $(RT_SRC)/programs/door.c
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) -shared -fPIC -Wl,-soname,libcuda.so.1 $< -o $@

# nvcc finds our libraries first: -L comes before its own folder. It splits options at commas.
$(RT_RUN)/kernels.%: $(RT_SRC)/programs/kernels.cu $(B)/simgpu/libcudart.so \
                     $(B)/simgpu/libcudart_static.a
	@mkdir -p $(@D)
	$(NVCC) -std=c++17 $(RT_NVCC_$*) -L$(B)/simgpu $< -o $@ \
	    $(patsubst %,-Xcompiler -fsanitize=%,$(subst $(RT_COMMA), ,$(SANITIZE)))

RT_COMMA           := ,
RT_NVCC_shared     := -cudart shared
RT_NVCC_static     := -cudart static
RT_NVCC_per-thread := -cudart shared -default-stream per-thread

# Made on the way to the objects, but worth keeping for a look.
.SECONDARY: $(foreach r,11.0 12 13 static,$(addprefix $(RT_OUT)/$(r)/,$(RT_HEADERS) api.i \
                forwards.c unsupported.c unsupported.o symbols exports $(RT_OBJECTS)))
