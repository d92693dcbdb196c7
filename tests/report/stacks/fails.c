// SPDX-License-Identifier: Apache-2.0
//
// Calls that fail, each from a function of its own: an allocation that is too large, at a site that
// never got anything; one at a site that did; a free of what was freed already.
#include <cuda.h>

#define GIB ((size_t)1 << 30)

static CUdeviceptr block;

__attribute__((noinline)) static int asks_for_too_much(void) {
    CUdeviceptr none;
    int result = cuMemAlloc(&none, 640 * GIB); // mark: too much
    __asm__ volatile("" ::: "memory");
    return result;
}

__attribute__((noinline)) static int allocates(size_t bytes) {
    CUdeviceptr some;
    int result = cuMemAlloc(&some, bytes); // mark: some
    if (result == 0) block = some;
    return result;
}

__attribute__((noinline)) static int frees(void) {
    int result = cuMemFree(block); // mark: free
    __asm__ volatile("" ::: "memory");
    return result;
}

int main(void) {
    CUcontext context;
    if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context)) return 2;
    int failed = 0;
    failed += asks_for_too_much() != 0;
    for (int i = 0; i < 2; i++) failed += allocates(i ? 640 * GIB : 4096) != 0;
    for (int i = 0; i < 2; i++) failed += frees() != 0;
    return failed == 3 ? 0 : 3;
}
