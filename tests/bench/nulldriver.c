// SPDX-License-Identifier: Apache-2.0
// The cheapest possible driver, for benchmarks of what watches it: an allocation is a pointer taken
// from a per-thread list, no lock and no shared cache line. It exports every name the toolkit
// declares (generated next to this file's object), all of which succeed; only those below do more.
// Memory it hands out is address space without pages behind it: never touch it.
#include <cuda.h>

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define UNIT 512
// A thread's range holds 2^36 bytes of addresses; ranges lie far from anything mapped, and within
// the 47 bits that a real address has.
#define RANGE       ((uintptr_t)1 << 36)
#define FIRST_RANGE ((uintptr_t)1 << 46)
#define REUSED      2048u

struct lookup_row {
    const char *base;
    int version, per_thread;
    void *entry;
};
extern const struct lookup_row lookup_rows[]; // ordered by base, per_thread, version
extern const unsigned lookup_row_count;

// What a thread freed it hands out again, oldest first, whatever the size was and whoever had
// allocated it: an address comes back soon, but not while what watches this driver still has it in
// its nearest cache.
static __thread struct {
    uintptr_t next;
    unsigned freed, reused; // ever; their difference is what waits
    uintptr_t free[REUSED];
} range;

static void begin_range(void) {
    static _Atomic uintptr_t ranges;
    range.next = FIRST_RANGE + RANGE * atomic_fetch_add_explicit(&ranges, 1, memory_order_relaxed);
}

#pragma GCC visibility push(default)

CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize) {
    (void)bytesize;
    if (range.freed - range.reused > REUSED / 2) {
        *dptr = range.free[range.reused++ % REUSED];
        return CUDA_SUCCESS;
    }
    if (range.next % RANGE == 0) begin_range();
    *dptr = range.next += UNIT;
    return CUDA_SUCCESS;
}

CUresult cuMemFree_v2(CUdeviceptr dptr) {
    if (range.freed - range.reused < REUSED) range.free[range.freed++ % REUSED] = dptr;
    return CUDA_SUCCESS;
}

CUresult cuMemAllocAsync(CUdeviceptr *dptr, size_t bytesize, CUstream hStream) {
    (void)hStream;
    return cuMemAlloc_v2(dptr, bytesize);
}

CUresult cuMemFreeAsync(CUdeviceptr dptr, CUstream hStream) {
    (void)hStream;
    return cuMemFree_v2(dptr);
}

CUresult cuMemHostAlloc(void **pp, size_t bytesize, unsigned int Flags) {
    (void)Flags;
    CUdeviceptr address;
    CUresult result = cuMemAlloc_v2(&address, bytesize);
    *pp = (void *)address;
    return result;
}

CUresult cuMemFreeHost(void *p) {
    return cuMemFree_v2((CUdeviceptr)p);
}

CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
    *free = *total = (size_t)16 << 30;
    return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *driverVersion) {
    *driverVersion = 13000;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
    *count = 1;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetAttribute(int *pi, CUdevice_attribute attrib, CUdevice dev) {
    (void)attrib, (void)dev;
    *pi = 1;
    return CUDA_SUCCESS;
}

// One context, current everywhere.
static int only_context;

CUresult cuCtxGetCurrent(CUcontext *pctx) {
    *pctx = (CUcontext)&only_context;
    return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v2(CUcontext *pctx, unsigned int flags, CUdevice dev) {
    (void)flags, (void)dev;
    return cuCtxGetCurrent(pctx);
}

CUresult cuCtxCreate_v4(CUcontext *pctx, CUctxCreateParams *ctxCreateParams, unsigned int flags,
                        CUdevice dev) {
    (void)ctxCreateParams, (void)flags, (void)dev;
    return cuCtxGetCurrent(pctx);
}

CUresult cuCtxGetDevice(CUdevice *device) {
    *device = 0;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev) {
    (void)dev;
    return cuCtxGetCurrent(pctx);
}

CUresult cuGetProcAddress_v2(const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags,
                             CUdriverProcAddressQueryResult *symbolStatus) {
    int per_thread = (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0;
    *pfn = NULL;
    for (unsigned i = 0; i < lookup_row_count; i++) {
        const struct lookup_row *row = &lookup_rows[i];
        if (strcmp(row->base, symbol) == 0 && row->version <= cudaVersion &&
            row->per_thread <= per_thread)
            *pfn = row->entry;
    }
    if (symbolStatus)
        *symbolStatus = *pfn ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return CUDA_SUCCESS;
}

CUresult cuGetProcAddress(const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags) {
    return cuGetProcAddress_v2(symbol, pfn, cudaVersion, flags, NULL);
}

// The two that are measured, by a name that nobody preloaded answers: what they cost unwatched.
const struct {
    CUresult (*alloc)(CUdeviceptr *, size_t);
    CUresult (*release)(CUdeviceptr);
} nulldriver_bare = {cuMemAlloc_v2, cuMemFree_v2};

#pragma GCC visibility pop
