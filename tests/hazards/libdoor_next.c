// SPDX-License-Identifier: Apache-2.0
//
// A wrapper library as many programs carry one: it stands before libc with a function of the same
// name and finds the real one by RTLD_NEXT. If the real dlsym took somebody else for the caller, it
// would be given its own function again and never end. To be preloaded after memwatch.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

int getpagesize(void) {
    static int depth;
    int (*next)(void) = (int (*)(void))dlsym(RTLD_NEXT, "getpagesize");
    if (++depth > 1) return -1;
    int bytes = next ? next() : -2;
    depth--;
    return bytes + 1;
}

__attribute__((destructor)) static void print(void) {
    printf("page size and one: %d\n", getpagesize());
}
