// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// A pool has two figures, what is used of it and what it holds of the device; the program reads
// both. A pool that is destroyed while it is the current one leaves its place to the default one.
#include "hazard.h"

static CUmemoryPool make_pool(CUmemLocationType type, int id) {
    CUmemoryPool pool;
    CUmemPoolProps props = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED};
    props.location.type = type;
    props.location.id = id;
    MUST(cuMemPoolCreate(&pool, &props));
    return pool;
}

static unsigned long long attribute(CUmemoryPool pool, CUmemPool_attribute which) {
    cuuint64_t value = 0;
    MUST(cuMemPoolGetAttribute(pool, which, &value));
    return value;
}

int main(void) {
    CUdeviceptr kept, freed, last;
    CUstream stream;
    cuuint64_t threshold = 64 * MIB;
    hazard_use(0);
    MUST(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CUmemoryPool pool = make_pool(CU_MEM_LOCATION_TYPE_DEVICE, 0);
    MUST(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold));
    MUST(cuMemAllocFromPoolAsync(&kept, 4 * MIB, pool, stream));
    MUST(cuMemAllocFromPoolAsync(&freed, 12 * MIB, pool, stream));
    MUST(cuMemFreeAsync(freed, stream));
    MUST(cuStreamSynchronize(stream));
    printf("%llx %llu %llu %llu %llu\n", (unsigned long long)(uintptr_t)pool,
           attribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT),
           attribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH),
           attribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT),
           attribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH));

    CUmemoryPool current = make_pool(CU_MEM_LOCATION_TYPE_DEVICE, 0);
    MUST(cuDeviceSetMemPool(0, current));
    MUST(cuMemPoolDestroy(current));
    // Made until one has the destroyed pool's handle; what it holds is host memory.
    for (int i = 0; i < 64 && make_pool(CU_MEM_LOCATION_TYPE_HOST, 0) != current; i++) continue;
    MUST(cuMemAllocAsync(&last, 6 * MIB, stream)); // of the default pool, on the device
    return 0;
}
