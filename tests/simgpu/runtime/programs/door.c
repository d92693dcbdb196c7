// SPDX-License-Identifier: Apache-2.0
//
// A libcuda.so.1 with nothing but the look-up: it writes down what the runtime asks for, one line
// `version flags name` per look-up, and has none of it.

#include <stdint.h>
#include <stdio.h>

int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags);
int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags,
                        int *status);

enum { SUCCESS = 0, NOT_FOUND = 500, SYMBOL_NOT_FOUND = 1 };

int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
    printf("4 %d %d %s\n", version, (int)flags, name);
    *function = NULL;
    return NOT_FOUND;
}

int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags,
                        int *status) {
    printf("5 %d %d %s\n", version, (int)flags, name);
    *function = NULL;
    *status = SYMBOL_NOT_FOUND;
    return SUCCESS;
}
