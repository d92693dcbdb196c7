// SPDX-License-Identifier: Apache-2.0
//
// One program image: the device code that nvcc put into an object file. It is given to the driver
// at the first need, as a library since CUDA 12 (one for all contexts) and as one module per
// context before that. Not thread-safe: the caller (registry.c) holds its lock.

#ifndef SIMGPU_RUNTIME_IMAGE_H
#define SIMGPU_RUNTIME_IMAGE_H

#include "runtime.h"

struct symbol;
struct cudart_module;

struct image {
    const void *code;
    struct symbol *symbols; // all registered of this image, linked
#if CUDART_VERSION >= 12000
    CUlibrary library;
#else
    struct cudart_module *modules;
#endif
};

// A kernel, as the current context launches it.
cudaError_t cudart_image_function(struct image *image, const char *name, CUfunction *function);

// A variable in the current context.
cudaError_t cudart_image_variable(struct image *image, const char *name, CUdeviceptr *address,
                                  size_t *size);

#if CUDART_VERSION >= 12000
cudaError_t cudart_image_kernel(struct image *image, const char *name, CUkernel *kernel);
#endif

// Takes the image from the driver again.
void cudart_image_unload(struct image *image);

#endif
