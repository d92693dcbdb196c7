// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// Memory freed by the other family's call: cuMemFreeAsync of what cuMemAlloc made and cuMemFree of
// what cuMemAllocAsync made, on the default stream and on one of the program's own.
#include "hazard.h"

int main(void) {
    CUstream stream;
    CUdeviceptr block;
    hazard_use(0);
    MUST(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CUstream streams[] = {stream, NULL, CU_STREAM_PER_THREAD};
    for (int i = 0; i < 3; i++) {
        MUST(cuMemAlloc(&block, (size_t)(i + 1) * MIB));
        MUST(cuMemFreeAsync(block, streams[i]));
        MUST(cuMemAllocAsync(&block, (size_t)(i + 1) * 3 * MIB, streams[i]));
        MUST(cuMemFree(block));
        // Freed on another stream than it was allocated on, which the program orders.
        MUST(cuMemAllocAsync(&block, (size_t)(i + 1) * 5 * MIB, streams[i]));
        MUST(cuStreamSynchronize(streams[i]));
        MUST(cuMemFreeAsync(block, streams[(i + 1) % 3]));
        MUST(cuCtxSynchronize());
    }
    MUST(cuMemAlloc(&block, MIB));
    MUST(cuMemAllocAsync(&block, 2 * MIB, stream));
    MUST(cuCtxSynchronize());
    return 0;
}
