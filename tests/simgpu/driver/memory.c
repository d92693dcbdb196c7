// SPDX-License-Identifier: Apache-2.0
// Plain allocations: linear, pitched, managed, pinned and registered memory, and the end of all
// that belongs to a context.
#include "memory.h"

#include "capture.h"
#include "device.h"
#include "graph_memory.h"
#include "pool.h"

#include <stdlib.h>

#define PITCH_UNIT ((size_t)512)

// A block that is a plain allocation of the context.
static struct block plain_block(enum block_kind kind, enum space space, struct context *context,
                                size_t size) {
    bool on_host = kind == BLOCK_PINNED || kind == BLOCK_REGISTERED;
    return (struct block){.size = size,
                          .kind = kind,
                          .space = space,
                          .device = on_host ? NO_DEVICE : context->device,
                          .context = context->owner};
}

static CUresult allocate(struct heap *heap, struct block *block) {
    CUresult result = heap_alloc(heap, block);
    if (result == CUDA_SUCCESS) books_alloc(block->device, block->space, block->size);
    return result;
}

void memory_settle(const struct block *block) {
    books_free(block->device, block->space, block->space == SPACE_IMPORTED ? 0 : block->size);
    if (block->kind == BLOCK_ASYNC) pool_block_freed(block);
}

void memory_give_back(const struct block *block) {
    if (block->kind == BLOCK_ASYNC)
        pool_give_back(block);
    else if (block->heap)
        heap_free(block);
    else if (block->kind != BLOCK_REGISTERED)
        address_space_give(block->base, block->span);
}

void memory_end_block(const struct block *block) {
    memory_settle(block);
    memory_give_back(block);
}

bool memory_is_known(uintptr_t address, size_t size) {
    struct block block;
    while (size > 0) {
        if (!block_find(address, &block)) return graph_memory_covers(address, size);
        size_t rest = block.base + block.size - address;
        if (rest >= size) return true;
        address += rest;
        size -= rest;
    }
    return true;
}

// ---- linear and pitched -------------------------------------------------------------------------

static CUresult allocate_device(uintptr_t *base, size_t size, bool low) {
    NEED_CONTEXT(context);
    CUresult result = capture_forbids_unsafe();
    if (result != CUDA_SUCCESS) return result;
    if (!size) return CUDA_ERROR_INVALID_VALUE;
    struct block block = plain_block(BLOCK_DEVICE, SPACE_DEVICE, context, size);
    struct device *device = &devices[context->device];
    result = allocate(low ? device->low : device->plain, &block);
    *base = block.base;
    return result;
}

ALLOCATES CUresult sim_cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize) {
    ATTEMPT(context_device(), SPACE_DEVICE);
    uintptr_t base;
    if (!dptr) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = allocate_device(&base, bytesize, false);
    if (result == CUDA_SUCCESS) *dptr = base;
    return result;
}

ALLOCATES CUresult sim_cuMemAlloc(CUdeviceptr_v1 *dptr, unsigned int bytesize) {
    ATTEMPT(context_device(), SPACE_DEVICE);
    uintptr_t base;
    if (!dptr) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = allocate_device(&base, bytesize, true);
    if (result == CUDA_SUCCESS) *dptr = (CUdeviceptr_v1)base;
    return result;
}

static CUresult allocate_pitched(uintptr_t *base, size_t *pitch, size_t width, size_t height,
                                 unsigned element, bool low) {
    bool known_element = element == 4 || element == 8 || element == 16;
    size_t size;
    if (!width || !height || !known_element) return CUDA_ERROR_INVALID_VALUE;
    *pitch = round_up(width, PITCH_UNIT);
    if (*pitch < width || __builtin_mul_overflow(*pitch, height, &size))
        return CUDA_ERROR_INVALID_VALUE;
    return allocate_device(base, size, low);
}

ALLOCATES CUresult sim_cuMemAllocPitch_v2(CUdeviceptr *dptr, size_t *pPitch, size_t WidthInBytes,
                                          size_t Height, unsigned int ElementSizeBytes) {
    ATTEMPT(context_device(), SPACE_DEVICE);
    uintptr_t base;
    size_t pitch;
    if (!dptr || !pPitch) return CUDA_ERROR_INVALID_VALUE;
    CUresult result =
        allocate_pitched(&base, &pitch, WidthInBytes, Height, ElementSizeBytes, false);
    if (result != CUDA_SUCCESS) return result;
    *dptr = base;
    *pPitch = pitch;
    return CUDA_SUCCESS;
}

ALLOCATES CUresult sim_cuMemAllocPitch(CUdeviceptr_v1 *dptr, unsigned int *pPitch,
                                       unsigned int WidthInBytes, unsigned int Height,
                                       unsigned int ElementSizeBytes) {
    ATTEMPT(context_device(), SPACE_DEVICE);
    uintptr_t base;
    size_t pitch;
    if (!dptr || !pPitch) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = allocate_pitched(&base, &pitch, WidthInBytes, Height, ElementSizeBytes, true);
    if (result != CUDA_SUCCESS) return result;
    *dptr = (CUdeviceptr_v1)base;
    *pPitch = (unsigned)pitch;
    return CUDA_SUCCESS;
}

CUresult sim_cuMemFree_v2(CUdeviceptr dptr) {
    struct block block;
    NEED_CONTEXT(context);
    if (!dptr) return CUDA_SUCCESS;
    CUresult result = capture_forbids_unsafe();
    if (result != CUDA_SUCCESS) return result;
    if (!block_find(dptr, &block) || block.base != dptr) return CUDA_ERROR_INVALID_VALUE;
    device_synchronize(block.device);
    if (block.kind == BLOCK_GRAPH) return graph_memory_free_outside(dptr);
    if (!block_take(dptr,
                    KIND(BLOCK_DEVICE) | KIND(BLOCK_MANAGED) | KIND(BLOCK_ASYNC) |
                        KIND(BLOCK_EXTERNAL) | KIND(BLOCK_IMPORTED),
                    &block))
        return CUDA_ERROR_INVALID_VALUE;
    memory_end_block(&block);
    return CUDA_SUCCESS;
}

// ---- managed ------------------------------------------------------------------------------------

ALLOCATES CUresult sim_cuMemAllocManaged(CUdeviceptr *dptr, size_t bytesize, unsigned int flags) {
    ATTEMPT(context_device(), SPACE_MANAGED);
    NEED_CONTEXT(context);
    if (!dptr || !bytesize || (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST))
        return CUDA_ERROR_INVALID_VALUE;
    CUresult result = capture_forbids_unsafe();
    if (result != CUDA_SUCCESS) return result;
    struct block block = plain_block(BLOCK_MANAGED, SPACE_MANAGED, context, bytesize);
    block.flags = flags;
    // Managed memory may exceed the device's: it lives where it was touched last.
    result = allocate(host_heap, &block);
    if (result == CUDA_SUCCESS) *dptr = block.base;
    return result;
}

// ---- pinned -------------------------------------------------------------------------------------

#define HOST_ALLOC_FLAGS                                                                           \
    (CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED)

ALLOCATES CUresult sim_cuMemHostAlloc(void **pp, size_t bytesize, unsigned int Flags) {
    ATTEMPT(NO_DEVICE, SPACE_PINNED);
    NEED_CONTEXT(context);
    if (!pp || !bytesize || (Flags & ~(unsigned)HOST_ALLOC_FLAGS)) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = capture_forbids_unsafe();
    if (result != CUDA_SUCCESS) return result;
    struct block block = plain_block(BLOCK_PINNED, SPACE_PINNED, context, bytesize);
    block.flags = Flags;
    result = allocate(host_heap, &block);
    if (result == CUDA_SUCCESS) *pp = (void *)block.base;
    return result;
}

ALLOCATES CUresult sim_cuMemAllocHost_v2(void **pp, size_t bytesize) {
    return sim_cuMemHostAlloc(pp, bytesize, 0);
}

ALLOCATES CUresult sim_cuMemAllocHost(void **pp, unsigned int bytesize) {
    return sim_cuMemHostAlloc(pp, bytesize, 0);
}

CUresult sim_cuMemFreeHost(void *p) {
    struct block block;
    NEED_CONTEXT(context);
    CUresult result = capture_forbids_unsafe();
    if (result != CUDA_SUCCESS) return result;
    device_synchronize(NO_DEVICE);
    if (!block_take((uintptr_t)p, KIND(BLOCK_PINNED), &block)) return CUDA_ERROR_INVALID_VALUE;
    memory_end_block(&block);
    return CUDA_SUCCESS;
}

CUresult sim_cuMemHostGetFlags(unsigned int *pFlags, void *p) {
    struct block block;
    NEED_CONTEXT(context);
    if (!pFlags || !block_find((uintptr_t)p, &block) ||
        !(KIND(block.kind) & (KIND(BLOCK_PINNED) | KIND(BLOCK_REGISTERED))))
        return CUDA_ERROR_INVALID_VALUE;
    *pFlags = block.flags | CU_MEMHOSTALLOC_DEVICEMAP;
    return CUDA_SUCCESS;
}

CUresult sim_cuMemHostGetDevicePointer_v2(CUdeviceptr *pdptr, void *p, unsigned int Flags) {
    struct block block;
    NEED_CONTEXT(context);
    if (!pdptr || Flags || !block_find((uintptr_t)p, &block)) return CUDA_ERROR_INVALID_VALUE;
    *pdptr = (CUdeviceptr)p;
    return CUDA_SUCCESS;
}

CUresult sim_cuMemHostGetDevicePointer(CUdeviceptr_v1 *pdptr, void *p, unsigned int Flags) {
    CUdeviceptr wide;
    CUresult result = sim_cuMemHostGetDevicePointer_v2(pdptr ? &wide : NULL, p, Flags);
    if (result == CUDA_SUCCESS) *pdptr = (CUdeviceptr_v1)wide;
    return result;
}

// ---- registered ---------------------------------------------------------------------------------

#define HOST_REGISTER_FLAGS                                                                        \
    (CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP | CU_MEMHOSTREGISTER_IOMEMORY |    \
     CU_MEMHOSTREGISTER_READ_ONLY)

ALLOCATES CUresult sim_cuMemHostRegister_v2(void *p, size_t bytesize, unsigned int Flags) {
    ATTEMPT(NO_DEVICE, SPACE_REGISTERED);
    NEED_CONTEXT(context);
    if (!p || !bytesize || (Flags & ~(unsigned)HOST_REGISTER_FLAGS))
        return CUDA_ERROR_INVALID_VALUE;
    struct block block = plain_block(BLOCK_REGISTERED, SPACE_REGISTERED, context, bytesize);
    block.base = (uintptr_t)p;
    block.span = bytesize;
    block.flags = Flags;
    block.id = block_new_id();
    struct block other;
    if (block_find(block.base, &other) || !block_add(&block))
        return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    books_alloc(block.device, block.space, block.size);
    return CUDA_SUCCESS;
}

ALLOCATES CUresult sim_cuMemHostRegister(void *p, size_t bytesize, unsigned int Flags) {
    return sim_cuMemHostRegister_v2(p, bytesize, Flags);
}

CUresult sim_cuMemHostUnregister(void *p) {
    struct block block;
    NEED_CONTEXT(context);
    device_synchronize(NO_DEVICE);
    if (!block_take((uintptr_t)p, KIND(BLOCK_REGISTERED), &block))
        return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    memory_end_block(&block);
    return CUDA_SUCCESS;
}

// ---- questions ----------------------------------------------------------------------------------

CUresult sim_cuMemGetInfo_v2(size_t *free, size_t *total) {
    NEED_CONTEXT(context);
    if (!free || !total) return CUDA_ERROR_INVALID_VALUE;
    struct device *device = &devices[context->device];
    *total = options.lies_total ? options.lie_total : device->total;
    *free = options.lies_free ? options.lie_free : device->total - atomic_load(&device->used);
    return CUDA_SUCCESS;
}

CUresult sim_cuMemGetInfo(unsigned int *free, unsigned int *total) {
    size_t wide_free, wide_total;
    if (!free || !total) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = sim_cuMemGetInfo_v2(&wide_free, &wide_total);
    if (result != CUDA_SUCCESS) return result;
    *free = wide_free > UINT32_MAX ? UINT32_MAX : (unsigned)wide_free;
    *total = wide_total > UINT32_MAX ? UINT32_MAX : (unsigned)wide_total;
    return CUDA_SUCCESS;
}

CUresult sim_cuMemGetAddressRange_v2(CUdeviceptr *pbase, size_t *psize, CUdeviceptr dptr) {
    struct block block;
    NEED_CONTEXT(context);
    if (!block_find(dptr, &block)) return CUDA_ERROR_NOT_FOUND;
    if (pbase) *pbase = block.base;
    if (psize) *psize = block.size;
    return CUDA_SUCCESS;
}

CUresult sim_cuMemGetAddressRange(CUdeviceptr_v1 *pbase, unsigned int *psize, CUdeviceptr_v1 dptr) {
    CUdeviceptr base;
    size_t size;
    CUresult result = sim_cuMemGetAddressRange_v2(&base, &size, dptr);
    if (result != CUDA_SUCCESS) return result;
    if (pbase) *pbase = (CUdeviceptr_v1)base;
    if (psize) *psize = (unsigned)size;
    return CUDA_SUCCESS;
}

// ---- the end of a context -----------------------------------------------------------------------

struct ending {
    struct context *context;
    int pools_of; // NO_DEVICE: pools survive
};

static bool ends_with(const struct block *block, void *data) {
    const struct ending *ending = data;
    return block->context == ending->context ||
           (block->kind == BLOCK_ASYNC && ending->pools_of != NO_DEVICE &&
            block->device == ending->pools_of);
}

static void end_block(const struct block *block, void *data) {
    (void)data;
    memory_end_block(block);
}

void memory_end_context(struct context *context, bool pools) {
    struct ending ending = {context, pools ? context->device : NO_DEVICE};
    blocks_take_all(ends_with, end_block, &ending);
}
