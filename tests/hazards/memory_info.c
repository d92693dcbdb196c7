// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// Sizes at the edge: an allocation of 80 GiB, and a driver whose answer to how much is free is
// nonsense (SIMGPU_LIE). What is told of the device is the driver's word, not a reason to fail. It
// is of the moment when the program asked: what it frees afterwards was in use.
#include "hazard.h"

int main(void) {
    size_t available = 0, total = 0;
    hazard_use(0);
    CUdeviceptr block = hazard_block((size_t)80 << 30);
    CUdeviceptr freed = hazard_block((size_t)40 << 30);
    MUST(cuMemGetInfo(&available, &total));
    MUST(cuMemFree(freed));
    printf("%zu of %zu\n", available, total);
    TELL(cuMemAlloc(&(CUdeviceptr){0}, (size_t)80 << 30));
    return block == 0;
}
