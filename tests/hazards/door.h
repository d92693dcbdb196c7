// SPDX-License-Identifier: Apache-2.0
//
// What the programs about doors do once they are through one: three allocations and a free, by
// whatever function pointers they were given. The tests compare the report with the GPU's books.
#ifndef DOOR_H
#define DOOR_H

#include <cuda.h>
#include <stddef.h>

struct door_functions {
    CUresult (*init)(unsigned);
    CUresult (*retain)(CUcontext *, CUdevice);
    CUresult (*enter)(CUcontext);
    CUresult (*allocate)(CUdeviceptr *, size_t);
    CUresult (*release)(CUdeviceptr);
};

// The symbols, by exported name, in the order of the struct.
static const char *const door_symbols[] = {"cuInit", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent",
                                           "cuMemAlloc_v2", "cuMemFree_v2"};
// The same for cuGetProcAddress: base names.
static const char *const door_base_names[] = {"cuInit", "cuDevicePrimaryCtxRetain",
                                              "cuCtxSetCurrent", "cuMemAlloc", "cuMemFree"};
enum { DOOR_FUNCTIONS = sizeof door_symbols / sizeof door_symbols[0] };

// 6 MiB allocated, 4 MiB of them live afterwards. Zero, or the first error.
static inline int door_work(const struct door_functions *gpu) {
    CUcontext context;
    CUdeviceptr block[3];
    CUresult result = gpu->init(0);
    if (!result) result = gpu->retain(&context, 0);
    if (!result) result = gpu->enter(context);
    for (size_t i = 0; !result && i < 3; i++) result = gpu->allocate(&block[i], (i + 1) << 20);
    if (!result) result = gpu->release(block[1]);
    return (int)result;
}

#endif
