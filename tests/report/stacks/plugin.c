// SPDX-License-Identifier: Apache-2.0
//
// A library that allocates: for a program that unloads it again, and for Python's ctypes.
#include <cuda.h>

extern CUdeviceptr plugin_block; // the last one
CUdeviceptr plugin_block;

__attribute__((noinline)) static int allocate_block(size_t bytes) {
    int result = cuMemAlloc(&plugin_block, bytes); // mark: plugin
    __asm__ volatile("" ::: "memory");
    return result;
}

int plugin_allocate(size_t bytes);
int plugin_allocate(size_t bytes) {
    CUcontext context;
    if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context)) return 2;
    int result = allocate_block(bytes); // mark: entry
    __asm__ volatile("" ::: "memory");
    return result;
}

int plugin_call(int (*callback)(void));
int plugin_call(int (*callback)(void)) {
    int result = callback(); // mark: callback
    __asm__ volatile("" ::: "memory");
    return result;
}

int plugin_free(CUdeviceptr address);
int plugin_free(CUdeviceptr address) {
    return cuMemFree(address);
}
