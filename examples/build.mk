# SPDX-License-Identifier: Apache-2.0
#
# The C examples, built as their users would build them: they know nothing of libmemwatch. Those of
# nvcc are built only where nvcc is.
#
# They are linked with the simulated GPU's libraries because those are always at hand; the shared
# ones have NVIDIA's names, so at run time the loader takes whichever it finds.

EXAMPLES := $(addprefix $(B)/examples/,driver_api train_host $(if $(NVCC),train_static train_shared))
EXAMPLE_LINK := -L$(B)/simgpu
EXAMPLE_RUNTIME := $(B)/simgpu/libcudart.so $(B)/simgpu/libcudart_static.a
ALL += $(EXAMPLES)

$(B)/examples/driver_api: examples/driver_api.c examples/training.h $(B)/simgpu/libcuda.so
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) -isystem $(CUDA13_INC) $< -o $@ $(LDFLAGS) $(EXAMPLE_LINK) -lcuda

$(B)/examples/train_host: examples/train_host.c examples/training.h $(EXAMPLE_RUNTIME)
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) -isystem $(CUDA13_INC) $< -o $@ $(LDFLAGS) $(EXAMPLE_LINK) -lcudart

$(B)/examples/train_static $(B)/examples/train_shared: $(B)/examples/train_%: examples/train.cu \
    examples/training.h $(EXAMPLE_RUNTIME)
	@mkdir -p $(@D)
	$(NVCC) -O2 -std=c++17 -cudart $* $(NVCC_SANITIZE) -L$(B)/simgpu $< -o $@
