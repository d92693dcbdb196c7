// SPDX-License-Identifier: Apache-2.0
//
// What the hazard programs share: calls that must succeed, and calls whose answer is told, so that
// a test can compare what a program is answered with and without the library.
#ifndef HAZARD_H
#define HAZARD_H

#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

// Ends the program if the call fails.
#define MUST(call) hazard_must((call), #call)
// Prints the call and what it returned.
#define TELL(call) printf("%s: %d\n", #call, (int)(call))

static inline void hazard_must(CUresult result, const char *call) {
    if (result == CUDA_SUCCESS) return;
    fprintf(stderr, "%s: error %d\n", call, (int)result);
    exit(2);
}

// Initialises the driver and makes a device's primary context current, as the runtime does.
static inline CUcontext hazard_use(CUdevice device) {
    CUcontext context;
    MUST(cuInit(0));
    MUST(cuDevicePrimaryCtxRetain(&context, device));
    MUST(cuCtxSetCurrent(context));
    return context;
}

static inline CUdeviceptr hazard_block(size_t bytes) {
    CUdeviceptr block;
    MUST(cuMemAlloc(&block, bytes));
    return block;
}

// Physical memory of a device, as cuMemCreate wants it.
static inline CUmemAllocationProp hazard_physical(CUdevice device) {
    CUmemAllocationProp prop;
    memset(&prop, 0, sizeof prop);
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    prop.location.id = device;
    return prop;
}

#endif
