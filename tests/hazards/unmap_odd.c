// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// Handles that are released once too often while mappings hold their memory, and an unmapping of
// many mappings at once that fails first and succeeds then.
#include "hazard.h"

#include <string.h>

enum { MAPPINGS = 40 }; // more than are kept on a stack

int main(void) {
    CUmemAllocationProp prop = hazard_physical(0);
    CUmemGenericAllocationHandle handle, again;
    CUdeviceptr range, other;
    hazard_use(0);
    MUST(cuMemAddressReserve(&range, MAPPINGS * 2 * MIB, 0, 0, 0));
    MUST(cuMemAddressReserve(&other, 2 * MIB, 0, 0, 0));

    MUST(cuMemCreate(&handle, 2 * MIB, &prop, 0));
    MUST(cuMemMap(range, 2 * MIB, 0, handle, 0));
    MUST(cuMemRelease(handle));
    TELL(cuMemRelease(handle)); // only the mapping is left, and a mapping is no handle
    MUST(cuMemRetainAllocationHandle(&again, (void *)range));
    MUST(cuMemUnmap(range, 2 * MIB));
    MUST(cuMemMap(other, 2 * MIB, 0, again, 0));
    MUST(cuMemUnmap(other, 2 * MIB));
    MUST(cuMemRelease(again));

    for (size_t i = 0; i < MAPPINGS; i++) {
        MUST(cuMemCreate(&handle, 2 * MIB, &prop, 0));
        MUST(cuMemMap(range + i * 2 * MIB, 2 * MIB, 0, handle, 0));
        MUST(cuMemRelease(handle));
    }
    TELL(cuMemUnmap(range, MAPPINGS * 2 * MIB)); // the test lets this one fail
    TELL(cuMemUnmap(range, MAPPINGS * 2 * MIB + MIB));
    MUST(cuMemUnmap(range, MAPPINGS * 2 * MIB));
    MUST(cuMemAddressFree(range, MAPPINGS * 2 * MIB));
    return 0;
}
