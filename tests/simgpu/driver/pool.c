// SPDX-License-Identifier: Apache-2.0
// Pools and cuMemAllocAsync. A block leaves the books and the pool's "used" when its free is
// called; its memory can be handed out again once the stream got there.
#include "pool.h"

#include "capture.h"
#include "device.h"
#include "graph_memory.h"
#include "memory.h"

#include <stdlib.h>
#include <string.h>

static struct pool *pool_new(const CUmemPoolProps *props) {
    struct pool *pool = object_new(OBJECT_POOL, sizeof *pool);
    if (!pool) return NULL;
    bool on_device = props->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
    bool managed = props->allocType == CU_MEM_ALLOCATION_TYPE_MANAGED;
    pool->props = *props;
    pool->device = on_device ? props->location.id : NO_DEVICE;
    pool->space = managed ? SPACE_MANAGED : on_device ? SPACE_DEVICE : SPACE_PINNED;
    pool->heap = heap_new(managed ? NO_DEVICE : pool->device, true, false);
    for (int i = 1; i < 4; i++) pool->reuse[i] = 1;
    if (pool->heap) return pool;
    object_delete(pool, OBJECT_POOL);
    return NULL;
}

void pools_start(int device) {
    CUmemPoolProps props = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                            .location = {CU_MEM_LOCATION_TYPE_DEVICE, device}};
    devices[device].default_pool = pool_new(&props);
    if (!devices[device].default_pool) abort();
    atomic_store(&devices[device].current_pool, devices[device].default_pool);
}

struct pool *pool_new_imported(const CUmemPoolProps *props) {
    struct pool *pool = object_new(OBJECT_POOL, sizeof *pool);
    if (!pool) return NULL;
    pool->props = *props;
    pool->device = props->location.id;
    pool->space = SPACE_IMPORTED;
    return pool;
}

// Every pool that may hold free memory; visited at synchronisation.
static struct pool *made[4096];
static int made_count;
static pthread_mutex_t made_lock = PTHREAD_MUTEX_INITIALIZER;

static void release_above_threshold(struct pool *pool) {
    uint64_t keep = atomic_load(&pool->threshold);
    if (pool->heap && atomic_load(&pool->heap->reserved) > keep) heap_trim(pool->heap, keep);
}

void pools_synchronized(int device) {
    release_above_threshold(devices[device].default_pool);
    pthread_mutex_lock(&made_lock);
    for (int i = 0; i < made_count; i++)
        if (made[i]->device == device || made[i]->device == NO_DEVICE)
            release_above_threshold(made[i]);
    pthread_mutex_unlock(&made_lock);
}

static void end_pool(struct pool *pool) {
    if (pool->heap) heap_delete(pool->heap);
    object_delete(pool, OBJECT_POOL);
}

void pool_block_freed(const struct block *block) {
    struct pool *pool = block->detail;
    atomic_fetch_sub(&pool->used, block->size);
}

// The block's memory is back in the heap.
static void block_returned(struct pool *pool) {
    if (atomic_fetch_sub(&pool->live, 1) == 1 && atomic_load(&pool->is_destroyed)) end_pool(pool);
}

void pool_give_back(const struct block *block) {
    struct pool *pool = block->detail;
    heap_free(block);
    block_returned(pool);
}

// ---- allocation and free in stream order --------------------------------------------------------

static CUresult allocate(struct pool *pool, size_t size, CUdeviceptr *dptr) {
    struct block block = {.size = size,
                          .kind = BLOCK_ASYNC,
                          .space = pool->space,
                          .device = pool->device,
                          .detail = pool};
    if (pool->props.maxSize && atomic_load(&pool->used) + size > pool->props.maxSize)
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = heap_alloc(pool->heap, &block);
    if (result == CUDA_ERROR_OUT_OF_MEMORY) {
        // Memory on its way back to the pool is waited for before giving up.
        device_synchronize(pool->device);
        result = heap_alloc(pool->heap, &block);
    }
    if (result != CUDA_SUCCESS) return result;
    atomic_fetch_add(&pool->live, 1);
    uint64_t used = atomic_fetch_add(&pool->used, size) + size;
    uint64_t high = atomic_load(&pool->used_high);
    while (used > high && !atomic_compare_exchange_weak(&pool->used_high, &high, used)) {
    }
    books_alloc(block.device, block.space, size);
    *dptr = block.base;
    return CUDA_SUCCESS;
}

ALLOCATES CUresult sim_cuMemAllocFromPoolAsync(CUdeviceptr *dptr, size_t bytesize,
                                               CUmemoryPool pool, CUstream hStream) {
    struct pool *from = (struct pool *)pool;
    bool known = object_is(from, OBJECT_POOL);
    ATTEMPT(known ? from->device : context_device(), known ? from->space : SPACE_DEVICE);
    struct stream *stream;
    CUresult result = stream_get(hStream, &stream);
    if (result != CUDA_SUCCESS) return result;
    if (!dptr || !known || atomic_load(&from->is_destroyed)) return CUDA_ERROR_INVALID_VALUE;
    if (!bytesize || !from->heap) return CUDA_ERROR_INVALID_VALUE;
    if (stream->capture) {
        ATTEMPT(from->device, SPACE_GRAPH);
        return capture_alloc(stream, dptr, bytesize, from->device);
    }
    return allocate(from, bytesize, dptr);
}

ALLOCATES CUresult sim_cuMemAllocAsync(CUdeviceptr *dptr, size_t bytesize, CUstream hStream) {
    struct stream *stream;
    CUresult result = stream_get(hStream, &stream);
    int device = result == CUDA_SUCCESS ? stream->context->device : context_device();
    bool captures = result == CUDA_SUCCESS && stream->capture;
    ATTEMPT(device, captures ? SPACE_GRAPH : SPACE_DEVICE);
    if (result != CUDA_SUCCESS) return result;
    if (!dptr || !bytesize) return CUDA_ERROR_INVALID_VALUE;
    if (captures) return capture_alloc(stream, dptr, bytesize, device);
    struct pool *pool = atomic_load(&devices[device].current_pool);
    ATTEMPT(pool->device, pool->space);
    return allocate(pool, bytesize, dptr);
}

CUresult sim_cuMemFreeAsync(CUdeviceptr dptr, CUstream hStream) {
    struct block block;
    struct stream *stream;
    CUresult result = stream_get(hStream, &stream);
    if (result != CUDA_SUCCESS) return result;
    if (stream->capture) return capture_free(stream, dptr);
    if (!block_find(dptr, &block) || block.base != dptr) return CUDA_ERROR_INVALID_VALUE;
    if (block.kind == BLOCK_GRAPH) {
        stream_synchronize(stream);
        return graph_memory_free_outside(dptr);
    }
    if (!block_take(dptr,
                    KIND(BLOCK_ASYNC) | KIND(BLOCK_DEVICE) | KIND(BLOCK_MANAGED) |
                        KIND(BLOCK_IMPORTED),
                    &block))
        return CUDA_ERROR_INVALID_VALUE;
    memory_settle(&block);
    struct op op = {.kind = OP_GIVE_BACK, .block = block};
    stream_submit(stream, &op);
    return CUDA_SUCCESS;
}

// ---- pools of the API ---------------------------------------------------------------------------

CUresult sim_cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *poolProps) {
    if (!pool || !poolProps) return CUDA_ERROR_INVALID_VALUE;
    bool on_device = poolProps->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
    bool known_type = poolProps->allocType == CU_MEM_ALLOCATION_TYPE_PINNED ||
                      poolProps->allocType == CU_MEM_ALLOCATION_TYPE_MANAGED;
    if (!known_type || (on_device && !device_exists(poolProps->location.id)))
        return CUDA_ERROR_INVALID_VALUE;
    struct pool *fresh = pool_new(poolProps);
    if (!fresh) return CUDA_ERROR_OUT_OF_MEMORY;
    pthread_mutex_lock(&made_lock);
    bool fits = made_count < (int)(sizeof made / sizeof *made);
    if (fits) made[made_count++] = fresh;
    pthread_mutex_unlock(&made_lock);
    if (!fits) {
        end_pool(fresh);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *pool = (CUmemoryPool)fresh;
    return CUDA_SUCCESS;
}

static CUresult given_pool(CUmemoryPool handle, struct pool **pool) {
    *pool = (struct pool *)handle;
    bool usable = object_is(*pool, OBJECT_POOL) && !atomic_load(&(*pool)->is_destroyed);
    return usable ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// Blocks that are still out stay valid; the pool ends with the last of them.
CUresult sim_cuMemPoolDestroy(CUmemoryPool pool) {
    struct pool *ending;
    CUresult result = given_pool(pool, &ending);
    if (result != CUDA_SUCCESS) return result;
    bool is_default = false;
    for (int i = 0; i < options.devices; i++) {
        is_default |= ending == devices[i].default_pool;
        struct pool *current = ending;
        atomic_compare_exchange_strong(&devices[i].current_pool, &current, devices[i].default_pool);
    }
    if (is_default) return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&made_lock);
    for (int i = 0; i < made_count; i++)
        if (made[i] == ending) made[i] = made[--made_count];
    pthread_mutex_unlock(&made_lock);
    // The pool itself counts as one block, so that exactly one side ends it.
    atomic_fetch_add(&ending->live, 1);
    atomic_store(&ending->is_destroyed, true);
    if (ending->heap) heap_trim(ending->heap, 0);
    block_returned(ending);
    return CUDA_SUCCESS;
}

CUresult sim_cuMemPoolTrimTo(CUmemoryPool pool, size_t minBytesToKeep) {
    struct pool *trimmed;
    CUresult result = given_pool(pool, &trimmed);
    if (result == CUDA_SUCCESS && trimmed->heap) heap_trim(trimmed->heap, minBytesToKeep);
    return result;
}

CUresult sim_cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value) {
    struct pool *changed;
    CUresult result = given_pool(pool, &changed);
    if (result != CUDA_SUCCESS) return result;
    if (!value) return CUDA_ERROR_INVALID_VALUE;
    if (attr < CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) {
        changed->reuse[attr] = *(int *)value;
        return CUDA_SUCCESS;
    }
    cuuint64_t wanted = *(cuuint64_t *)value;
    switch (attr) {
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
        atomic_store(&changed->threshold, wanted);
        break;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
        if (wanted) return CUDA_ERROR_INVALID_VALUE;
        if (changed->heap)
            atomic_store(&changed->heap->reserved_high, atomic_load(&changed->heap->reserved));
        break;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
        if (wanted) return CUDA_ERROR_INVALID_VALUE;
        atomic_store(&changed->used_high, atomic_load(&changed->used));
        break;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

CUresult sim_cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value) {
    struct pool *asked;
    CUresult result = given_pool(pool, &asked);
    if (result != CUDA_SUCCESS) return result;
    if (!value || attr < 1) return CUDA_ERROR_INVALID_VALUE;
    if (attr < CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) {
        *(int *)value = asked->reuse[attr];
        return CUDA_SUCCESS;
    }
    cuuint64_t *answer = value;
    struct heap *heap = asked->heap;
    switch (attr) {
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
        *answer = asked->threshold;
        break;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
        *answer = heap ? heap->reserved : 0;
        break;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
        *answer = heap ? heap->reserved_high : 0;
        break;
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
        *answer = asked->used;
        break;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
        *answer = asked->used_high;
        break;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

CUresult sim_cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *map, size_t count) {
    struct pool *changed;
    CUresult result = given_pool(pool, &changed);
    if (result != CUDA_SUCCESS) return result;
    if (!map && count) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count; i++) {
        if (map[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE) continue;
        if (!device_exists(map[i].location.id)) return CUDA_ERROR_INVALID_DEVICE;
        uint64_t bit = 1ull << map[i].location.id;
        if (map[i].flags == CU_MEM_ACCESS_FLAGS_PROT_NONE)
            changed->peers &= ~bit;
        else
            changed->peers |= bit;
    }
    return CUDA_SUCCESS;
}

CUresult sim_cuMemPoolGetAccess(CUmemAccess_flags *flags, CUmemoryPool memPool,
                                CUmemLocation *location) {
    struct pool *asked;
    CUresult result = given_pool(memPool, &asked);
    if (result != CUDA_SUCCESS) return result;
    if (!flags || !location) return CUDA_ERROR_INVALID_VALUE;
    bool own = location->id == asked->device;
    bool allowed = own || (location->id >= 0 && asked->peers >> location->id & 1);
    *flags = allowed ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE : CU_MEM_ACCESS_FLAGS_PROT_NONE;
    return CUDA_SUCCESS;
}

// The pool of a kind of memory at a place: device pools as above, and one each for managed and for
// host memory, made when first asked for.
static struct pool *place_pool(const CUmemLocation *location, CUmemAllocationType type,
                               _Atomic(struct pool *) **current) {
    static struct pool *made_for[2];
    static _Atomic(struct pool *) current_for[2];
    if (location->type == CU_MEM_LOCATION_TYPE_DEVICE && type == CU_MEM_ALLOCATION_TYPE_PINNED) {
        if (!device_exists(location->id)) return NULL;
        *current = &devices[location->id].current_pool;
        return devices[location->id].default_pool;
    }
    int i = type == CU_MEM_ALLOCATION_TYPE_MANAGED;
    pthread_mutex_lock(&made_lock);
    if (!made_for[i]) {
        CUmemPoolProps props = {.allocType = type, .location = *location};
        made_for[i] = pool_new(&props);
        atomic_store(&current_for[i], made_for[i]);
        if (made_for[i]) made[made_count++] = made_for[i];
    }
    pthread_mutex_unlock(&made_lock);
    *current = &current_for[i];
    return made_for[i];
}

CUresult sim_cuMemGetDefaultMemPool(CUmemoryPool *pool_out, CUmemLocation *location,
                                    CUmemAllocationType type) {
    _Atomic(struct pool *) *current;
    if (!pool_out || !location) return CUDA_ERROR_INVALID_VALUE;
    *pool_out = (CUmemoryPool)place_pool(location, type, &current);
    return *pool_out ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuMemGetMemPool(CUmemoryPool *pool, CUmemLocation *location,
                             CUmemAllocationType type) {
    _Atomic(struct pool *) *current;
    if (!pool || !location || !place_pool(location, type, &current))
        return CUDA_ERROR_INVALID_VALUE;
    *pool = (CUmemoryPool)atomic_load(current);
    return CUDA_SUCCESS;
}

CUresult sim_cuMemSetMemPool(CUmemLocation *location, CUmemAllocationType type, CUmemoryPool pool) {
    struct pool *wanted;
    _Atomic(struct pool *) *current;
    CUresult result = given_pool(pool, &wanted);
    if (result != CUDA_SUCCESS) return result;
    if (!location || !place_pool(location, type, &current)) return CUDA_ERROR_INVALID_VALUE;
    atomic_store(current, wanted);
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceGetDefaultMemPool(CUmemoryPool *pool_out, CUdevice dev) {
    if (!pool_out) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    *pool_out = (CUmemoryPool)devices[dev].default_pool;
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice dev) {
    if (!pool) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    *pool = (CUmemoryPool)atomic_load(&devices[dev].current_pool);
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceSetMemPool(CUdevice dev, CUmemoryPool pool) {
    struct pool *current;
    CUresult result = given_pool(pool, &current);
    if (result != CUDA_SUCCESS) return result;
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    if (current->device != dev) return CUDA_ERROR_INVALID_VALUE;
    atomic_store(&devices[dev].current_pool, current);
    return CUDA_SUCCESS;
}
