// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// Pools: of another device than the context's, made the current one, and destroyed while memory of
// theirs is in use, which lives on until it is freed.
#include "hazard.h"

static CUmemoryPool make_pool(CUdevice device) {
    CUmemoryPool pool;
    CUmemPoolProps props = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED};
    props.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    props.location.id = device;
    MUST(cuMemPoolCreate(&pool, &props));
    return pool;
}

int main(void) {
    CUdeviceptr kept, freed, elsewhere, standard;
    CUmemoryPool pool, far, usual;
    CUstream stream;
    cuuint64_t used = 0, threshold = 64 * MIB;
    hazard_use(1);
    hazard_use(0);
    MUST(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));

    pool = make_pool(0);
    MUST(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold));
    MUST(cuMemAllocFromPoolAsync(&kept, 3 * MIB, pool, stream));
    MUST(cuMemAllocFromPoolAsync(&freed, 5 * MIB, pool, stream));
    MUST(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used));
    printf("used: %llu\n", (unsigned long long)used);
    MUST(cuStreamSynchronize(stream));
    MUST(cuMemPoolDestroy(pool));
    MUST(cuMemFreeAsync(freed, stream));

    far = make_pool(1);
    MUST(cuMemAllocFromPoolAsync(&elsewhere, 7 * MIB, far, stream));

    MUST(cuDeviceGetMemPool(&usual, 0));
    pool = make_pool(0);
    MUST(cuDeviceSetMemPool(0, pool));
    MUST(cuMemAllocAsync(&standard, 11 * MIB, stream));
    MUST(cuDeviceSetMemPool(0, usual));
    MUST(cuMemAllocAsync(&standard, 13 * MIB, stream));
    MUST(cuMemPoolTrimTo(usual, 0));
    MUST(cuStreamSynchronize(stream));
    return 0;
}
