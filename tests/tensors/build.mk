# SPDX-License-Identifier: Apache-2.0
#
# A synthetic libc10 and its caching allocator, for each generation of libc10's interface, a folder
# each; "copy" and "copy2" are libraries under a name of their own, as in a package that brings
# another PyTorch along; "static" has all in the allocator's library, and no libc10. Programs and scripts load the allocator with dlopen, as Python does torch's.

TENSORS     := tests/tensors
TENSORS_OUT := $(B)/tests/tensors
TENSOR_KINDS := 1 wide 2 3 copy copy2 static

TENSOR_FLAGS_1      := -DGENERATION=1
TENSOR_FLAGS_wide   := -DGENERATION=1 -DWIDE
TENSOR_FLAGS_2      := -DGENERATION=2
TENSOR_FLAGS_3      := -DGENERATION=3
TENSOR_FLAGS_copy   := -DGENERATION=3
TENSOR_FLAGS_copy2  := -DGENERATION=2
TENSOR_FLAGS_static := -DGENERATION=3

TENSOR_LIBS := $(TENSOR_KINDS:%=$(TENSORS_OUT)/%/libc10_cuda.so)
ALL += $(TENSOR_LIBS) $(TENSORS_OUT)/tensors

# The linker puts the library's own name into what needs it, and there it is looked for.
TENSOR_NAME = libc10$(if $(filter copy%,$*),-$*).so

TENSOR_CC = $(CC) $(WARN) $(CFLAGS) -D_GNU_SOURCE $(TENSOR_FLAGS_$*) -isystem $(CUDA13_INC)

$(TENSORS_OUT)/%/libc10.so: $(TENSORS)/libc10.c $(TENSORS)/c10.h
	@mkdir -p $(@D)
	$(TENSOR_CC) -shared -fPIC $< -o $@ $(LDFLAGS) -Wl,-soname,$(TENSOR_NAME)
	$(if $(filter copy%,$*),ln -sf libc10.so $(@D)/$(TENSOR_NAME))

$(filter-out %/static/libc10_cuda.so,$(TENSOR_LIBS)): $(TENSORS_OUT)/%/libc10_cuda.so: \
    $(TENSORS)/allocator.c $(TENSORS)/allocator.h $(TENSORS)/c10.h $(TENSORS_OUT)/%/libc10.so \
    $(B)/simgpu/libcudart.so.13
	$(TENSOR_CC) -shared -fPIC $< -o $@ $(LDFLAGS) $(TENSORS_OUT)/$*/libc10.so \
	    $(B)/simgpu/libcudart.so.13 -Wl,-soname,libc10_cuda.so -Wl,-rpath,'$$ORIGIN' -pthread

$(TENSORS_OUT)/static/libc10_cuda.so: $(TENSORS_OUT)/%/libc10_cuda.so: $(TENSORS)/allocator.c \
    $(TENSORS)/libc10.c $(TENSORS)/allocator.h $(TENSORS)/c10.h $(B)/simgpu/libcudart.so.13
	@mkdir -p $(@D)
	$(TENSOR_CC) -shared -fPIC $(filter %.c,$^) -o $@ $(LDFLAGS) -fvisibility=default \
	    $(B)/simgpu/libcudart.so.13 -Wl,-soname,libtorch_static.so -pthread

$(TENSORS_OUT)/tensors: $(TENSORS)/tensors.c $(TENSORS)/allocator.h $(TENSORS)/c10.h
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) -D_GNU_SOURCE -DGENERATION=3 $< -o $@ $(LDFLAGS) -pthread -ldl
