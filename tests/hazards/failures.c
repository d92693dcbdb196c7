// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// Calls that fail: before cuInit, without a context, with no place for the answer, of no size, of
// too large a size, frees of what is not there, frees a second time. Whatever it is answered the
// program goes on, and frees for real what the driver refused to free before.
#include "hazard.h"

#include <stdint.h>

int main(int argc, char **argv) {
    (void)argv;
    CUdeviceptr block = 0, second = 0;
    CUmemGenericAllocationHandle physical = 0;
    CUmemAllocationProp prop = hazard_physical(0);
    CUmemoryPool pool = NULL;
    CUarray array = NULL;
    CUDA_ARRAY_DESCRIPTOR shape = {64, 64, CU_AD_FORMAT_FLOAT, 4};
    void *pinned = NULL;
    static char page[4096] __attribute__((aligned(4096)));

    if (argc > 1) { // before cuInit
        TELL(cuMemAlloc(&block, MIB));
        TELL(cuMemFree(0x1000));
        return 0;
    }
    hazard_use(0);
    MUST(cuCtxSetCurrent(NULL));
    TELL(cuMemAlloc(&block, MIB));
    hazard_use(0);

    TELL(cuMemAlloc(NULL, MIB));
    TELL(cuMemAllocPitch(NULL, NULL, 64, 64, 4));
    TELL(cuMemAllocPitch(&block, NULL, 64, 64, 4));
    TELL(cuMemAllocManaged(NULL, MIB, CU_MEM_ATTACH_GLOBAL));
    TELL(cuMemHostAlloc(NULL, MIB, 0));
    TELL(cuMemHostRegister(NULL, 4096, 0));
    TELL(cuArrayCreate(NULL, &shape));
    TELL(cuArrayCreate(&array, NULL));
    TELL(cuMemAllocAsync(NULL, MIB, NULL));
    TELL(cuMemPoolCreate(&pool, NULL));
    TELL(cuMemCreate(NULL, 2 * MIB, &prop, 0));
    TELL(cuMemCreate(&physical, 2 * MIB, NULL, 0));
    TELL(cuMemAddressReserve(NULL, 2 * MIB, 0, 0, 0));
    TELL(cuMemMap(0, 2 * MIB, 0, 0, 0));
    TELL(cuMemUnmap(0, 2 * MIB));
    TELL(cuMemGetInfo(NULL, NULL));
    TELL(cuCtxGetCurrent(NULL));
    TELL(cuDevicePrimaryCtxRetain(NULL, 0));

    TELL(cuMemAlloc(&block, 0));
    TELL(cuMemHostAlloc(&pinned, 0, 0));
    TELL(cuMemAlloc(&block, SIZE_MAX));
    TELL(cuMemAlloc(&block, (size_t)1 << 63));
    TELL(cuMemAllocPitch(&block, &(size_t){0}, SIZE_MAX / 2, 2, 4));
    TELL(cuMemAllocManaged(&block, (size_t)1 << 60, CU_MEM_ATTACH_GLOBAL));
    TELL(cuMemCreate(&physical, (size_t)1 << 50, &prop, 0));
    TELL(cuMemAddressReserve(&block, (size_t)1 << 62, 0, 0, 0));
    TELL(cuMemAllocAsync(&block, (size_t)1 << 50, NULL));

    block = hazard_block(3 * MIB);
    TELL(cuMemFree(block + 512));
    TELL(cuMemFree((CUdeviceptr)(uintptr_t)page));
    TELL(cuMemFreeHost(page));
    TELL(cuMemHostUnregister(page));
    TELL(cuMemFreeAsync(0x1000, NULL));
    TELL(cuMemRelease(0x1000));
    TELL(cuMemFree(0));
    MUST(cuMemFree(block));
    TELL(cuMemFree(block));
    TELL(cuMemFree(block));

    // The third free of what is there fails by SIMGPU_FAULT where the test says so.
    block = hazard_block(5 * MIB);
    second = hazard_block(7 * MIB);
    for (int i = 0; i < 3; i++) TELL(cuMemFree(block));
    MUST(cuMemHostAlloc(&pinned, MIB, 0));
    for (int i = 0; i < 2; i++) TELL(cuMemFreeHost(pinned));
    MUST(cuArrayCreate(&array, &shape));
    for (int i = 0; i < 2; i++) TELL(cuArrayDestroy(array));
    MUST(cuMemCreate(&physical, 2 * MIB, &prop, 0));
    for (int i = 0; i < 2; i++) TELL(cuMemRelease(physical));
    return second == 0;
}
