// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// errno is the program's: no GPU call changes it, the first one included, which makes the ledger,
// nor one that makes it grow.
#include "hazard.h"

#include <errno.h>

enum { MANY = 70000 }; // more than the first table of records holds

#define KEEPS(call)                                                                                \
    do {                                                                                           \
        errno = 4242;                                                                              \
        (void)(call);                                                                              \
        if (errno != 4242) {                                                                       \
            printf("errno is %d after %s\n", errno, #call);                                        \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

int main(void) {
    static CUdeviceptr block[MANY];
    void *pinned;
    hazard_use(0);
    KEEPS(cuMemAlloc(&block[0], MIB));
    KEEPS(cuMemFree(block[0]));
    KEEPS(cuMemFree(block[0]));
    KEEPS(cuMemAlloc(&block[0], 0));
    KEEPS(cuMemHostAlloc(&pinned, MIB, 0));
    KEEPS(cuMemFreeHost(pinned));
    for (int i = 0; i < MANY; i++) KEEPS(cuMemAlloc(&block[i], 512));
    for (int i = 0; i < MANY; i++) KEEPS(cuMemFree(block[i]));
    return 0;
}
