// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -l:libcudart.so.13
//
// The plug-in of door_runtimes.c.
#include <stddef.h>

extern int cudaMalloc(void **pointer, size_t bytes);
extern int cudaFree(void *pointer);
extern int cudaGetLastError(void);

int plugin_fail(void) {
    void *pointer = NULL;
    return cudaMalloc(&pointer, (size_t)1 << 50);
}

int plugin_error(void) {
    return cudaGetLastError();
}

int plugin_work(void) {
    void *kept = NULL, *freed = NULL;
    int result = cudaMalloc(&kept, 3 << 20);
    if (!result) result = cudaMalloc(&freed, 2 << 20);
    return result ? result : cudaFree(freed);
}
