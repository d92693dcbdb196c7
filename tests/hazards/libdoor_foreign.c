// SPDX-License-Identifier: Apache-2.0
//
// Another tool's preload library, which wraps two functions of the driver and passes each call on
// to whatever comes next. It must see the same calls with us as without, before us or behind us.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>

static int allocations, frees;

int cuMemAlloc_v2(unsigned long long *pointer, size_t bytes) {
    static int (*next)(unsigned long long *, size_t);
    if (!next) next = (int (*)(unsigned long long *, size_t))dlsym(RTLD_NEXT, "cuMemAlloc_v2");
    if (!next) {
        void *driver = dlopen("libcuda.so.1", RTLD_NOW);
        next = (int (*)(unsigned long long *, size_t))dlsym(driver, "cuMemAlloc_v2");
    }
    allocations++;
    return next(pointer, bytes);
}

int cuMemFree_v2(unsigned long long pointer) {
    static int (*next)(unsigned long long);
    if (!next) next = (int (*)(unsigned long long))dlsym(RTLD_NEXT, "cuMemFree_v2");
    if (!next) {
        void *driver = dlopen("libcuda.so.1", RTLD_NOW);
        next = (int (*)(unsigned long long))dlsym(driver, "cuMemFree_v2");
    }
    frees++;
    return next(pointer);
}

__attribute__((destructor)) static void print(void) {
    printf("the other tool saw %d allocations and %d frees\n", allocations, frees);
}
