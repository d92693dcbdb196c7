// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// A context ends while memory of every kind lives in it: by cuCtxDestroy, by a reset of the primary
// context, or by its last release. What ends with it, and what outlives it, is for the GPU to say.
#include "hazard.h"

#include <string.h>

static void allocate_everything(CUdevice device) {
    static char pages[2][4096] __attribute__((aligned(4096)));
    static int registered;
    CUdeviceptr linear, managed, pitched, ordered, range;
    CUmemGenericAllocationHandle physical;
    CUarray array;
    CUstream stream;
    void *pinned;
    size_t pitch;
    CUDA_ARRAY_DESCRIPTOR shape = {256, 256, CU_AD_FORMAT_FLOAT, 2};
    CUmemAllocationProp prop = hazard_physical(device);

    MUST(cuMemAlloc(&linear, 3 * MIB));
    MUST(cuMemAllocPitch(&pitched, &pitch, 100, 50, 4));
    MUST(cuMemAllocManaged(&managed, 5 * MIB, CU_MEM_ATTACH_GLOBAL));
    MUST(cuMemHostAlloc(&pinned, 7 * MIB, 0));
    MUST(cuMemHostRegister(pages[registered++], 4096, 0));
    MUST(cuArrayCreate(&array, &shape));
    MUST(cuStreamCreate(&stream, 0));
    MUST(cuMemAllocAsync(&ordered, 11 * MIB, stream));
    MUST(cuStreamSynchronize(stream));
    MUST(cuMemCreate(&physical, 2 * MIB, &prop, 0));
    MUST(cuMemAddressReserve(&range, 2 * MIB, 0, 0, 0));
    MUST(cuMemMap(range, 2 * MIB, 0, physical, 0));
}

int main(int argc, char **argv) {
    const char *how = argc == 2 ? argv[1] : "";
    CUcontext primary = hazard_use(0), mine;
    hazard_block(MIB);

    if (!strcmp(how, "destroy")) {
        MUST(cuCtxCreate(&mine, NULL, 0, 0));
        allocate_everything(0);
        MUST(cuCtxDestroy(mine));
        MUST(cuCtxSetCurrent(primary));
    } else if (!strcmp(how, "destroy-other")) { // not the current one
        MUST(cuCtxCreate(&mine, NULL, 0, 0));
        allocate_everything(0);
        MUST(cuCtxSetCurrent(primary));
        hazard_block(2 * MIB);
        MUST(cuCtxDestroy(mine));
    } else if (!strcmp(how, "reset")) {
        allocate_everything(0);
        MUST(cuDevicePrimaryCtxReset(0));
    } else if (!strcmp(how, "reset-other-device")) {
        allocate_everything(0);
        hazard_use(1);
        allocate_everything(1);
        MUST(cuDevicePrimaryCtxReset(0));
    } else if (!strcmp(how, "release")) {
        MUST(cuDevicePrimaryCtxRetain(&primary, 0));
        allocate_everything(0);
        MUST(cuDevicePrimaryCtxRelease(0)); // one reference is left
        hazard_block(2 * MIB);
        MUST(cuDevicePrimaryCtxRelease(0));
    } else {
        return 2;
    }
    // The device can be used again, and the new memory is counted again.
    hazard_use(0);
    hazard_block(13 * MIB);
    return 0;
}
