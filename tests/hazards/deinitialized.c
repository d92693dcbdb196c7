// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// After exit began the driver may be gone already: every call answers CUDA_ERROR_DEINITIALIZED
// (SIMGPU_DEINIT). The frees of a program's static objects then fail, which harms nobody.
#include "hazard.h"

static CUdeviceptr blocks[3];

__attribute__((destructor)) static void destroy(void) {
    CUdeviceptr block;
    for (int i = 0; i < 3; i++) TELL(cuMemFree(blocks[i]));
    TELL(cuMemAlloc(&block, MIB));
    TELL(cuMemUnmap(0x200000, 2 * MIB));
}

int main(void) {
    hazard_use(0);
    for (int i = 0; i < 3; i++) blocks[i] = hazard_block(MIB);
    return 0;
}
