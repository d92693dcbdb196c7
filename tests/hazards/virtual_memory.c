// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// Physical memory lives until its last handle is released and its last mapping is gone, in whatever
// order that happens; a range may hold many mappings and be unmapped in one call or piece by piece.
#include "hazard.h"

#include <stdbool.h>

static size_t piece; // the device's granularity

static CUmemGenericAllocationHandle create(size_t pieces) {
    CUmemGenericAllocationHandle handle;
    CUmemAllocationProp prop = hazard_physical(0);
    MUST(cuMemCreate(&handle, pieces * piece, &prop, 0));
    return handle;
}

static CUdeviceptr reserve(size_t pieces) {
    CUdeviceptr range;
    MUST(cuMemAddressReserve(&range, pieces * piece, 0, 0, 0));
    return range;
}

static void released_before_unmapped(void) {
    CUmemGenericAllocationHandle handle = create(3);
    CUdeviceptr range = reserve(3);
    MUST(cuMemMap(range, 3 * piece, 0, handle, 0));
    MUST(cuMemRelease(handle));
    MUST(cuMemUnmap(range, 3 * piece));
    MUST(cuMemAddressFree(range, 3 * piece));
}

// PyTorch's expandable segments: one range, a handle for each piece, unmapped from either end.
static void many_mappings(size_t count) {
    CUdeviceptr range = reserve(count);
    for (size_t i = 0; i < count; i++) {
        CUmemGenericAllocationHandle handle = create(1);
        MUST(cuMemMap(range + i * piece, piece, 0, handle, 0));
        MUST(cuMemRelease(handle));
    }
    MUST(cuMemUnmap(range, piece));
    MUST(cuMemUnmap(range + (count - 1) * piece, piece));
    // All the others at once. Where the test makes the first attempt fail, everything stays mapped.
    if (cuMemUnmap(range + piece, (count - 2) * piece) != CUDA_SUCCESS) {
        puts("unmapping failed");
        MUST(cuMemUnmap(range + piece, (count - 2) * piece));
    }
    MUST(cuMemAddressFree(range, count * piece));
}

static void mapped_twice_and_retained(void) {
    CUmemGenericAllocationHandle handle = create(2), again, third;
    CUdeviceptr one = reserve(2), two = reserve(2);
    MUST(cuMemMap(one, 2 * piece, 0, handle, 0));
    MUST(cuMemMap(two, 2 * piece, 0, handle, 0));
    MUST(cuMemRetainAllocationHandle(&again, (void *)one));
    MUST(cuMemRetainAllocationHandle(&third, (void *)(two + piece)));
    MUST(cuMemRelease(handle));
    MUST(cuMemUnmap(one, 2 * piece));
    MUST(cuMemUnmap(two, 2 * piece));
    MUST(cuMemRelease(again)); // the third still holds it
    MUST(cuMemMap(one, 2 * piece, 0, third, 0));
    MUST(cuMemRelease(third));
    MUST(cuMemUnmap(one, 2 * piece));
    MUST(cuMemAddressFree(one, 2 * piece));
    MUST(cuMemAddressFree(two, 2 * piece));
}

static void unmapping_that_fails(void) {
    CUmemGenericAllocationHandle handle = create(2);
    CUdeviceptr range = reserve(4);
    MUST(cuMemMap(range, 2 * piece, 0, handle, 0));
    TELL(cuMemUnmap(range, piece));                 // half a mapping
    TELL(cuMemUnmap(range + 2 * piece, 2 * piece)); // nothing is mapped there
    TELL(cuMemMap(range + piece, 2 * piece, 0, handle, 0));
    TELL(cuMemAddressFree(range, 4 * piece));
    MUST(cuMemUnmap(range, 2 * piece));
    MUST(cuMemRelease(handle));
    TELL(cuMemRelease(handle));
    MUST(cuMemAddressFree(range, 4 * piece));
}

int main(void) {
    CUmemAllocationProp prop = hazard_physical(0);
    hazard_use(0);
    MUST(cuMemGetAllocationGranularity(&piece, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    released_before_unmapped();
    many_mappings(5);
    many_mappings(100);
    mapped_twice_and_retained();
    unmapping_that_fails();
    // What is left at the end is left: a mapping without a handle, a handle without a mapping.
    CUdeviceptr range = reserve(1);
    CUmemGenericAllocationHandle handle = create(1);
    MUST(cuMemMap(range, piece, 0, handle, 0));
    MUST(cuMemRelease(handle));
    create(2);
    return 0;
}
