// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// A library that keeps memory for as long as it is loaded: what its constructor allocates its
// destructor frees. Loaded at run time, it ends after most of what was there before it.
#include "hazard.h"

static CUdeviceptr kept;

__attribute__((constructor)) static void start(void) {
    hazard_use(0);
    kept = hazard_block(5 * MIB);
}

__attribute__((destructor)) static void end(void) {
    printf("freed by the library: %d\n", (int)cuMemFree(kept));
    fflush(stdout);
}
