// SPDX-License-Identifier: Apache-2.0
//
// Functions with the names that rustc gives its own: the older scheme and v0.
#include <cuda.h>

static CUdeviceptr block;

__attribute__((noinline)) int v0(void) __asm__("_RNvNtCs1234_5model5layer7forward");
int v0(void) {
    int result = cuMemAlloc(&block, 4096);
    __asm__ volatile("" ::: "memory");
    return result;
}

__attribute__((noinline)) int legacy(void) __asm__("_ZN5model5train17h0123456789abcdefE");
int legacy(void) {
    int result = v0();
    __asm__ volatile("" ::: "memory");
    return result;
}

int main(void) {
    CUcontext context;
    if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context)) return 2;
    return legacy();
}
