// SPDX-License-Identifier: Apache-2.0
// Pages, charging and large blocks; slabs are in slab.c. Address space of slab pages is never
// unmapped, only reused.
#include "heap.h"

#include "device.h"
#include "slab.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LARGEST_SMALL (DEVICE_PAGE / 2)

// A heap's memory is only ever reused for another heap: a thread that looks an address up may hold
// on to a shard whose heap has just ended.
static struct heap *ended_heaps;
static pthread_mutex_t ended_lock = PTHREAD_MUTEX_INITIALIZER;

static struct heap *heap_memory(void) {
    pthread_mutex_lock(&ended_lock);
    struct heap *heap = ended_heaps;
    if (heap) ended_heaps = heap->next;
    pthread_mutex_unlock(&ended_lock);
    if (heap || !(heap = calloc(1, sizeof *heap))) return heap;
    for (int i = 0; i < HEAP_SHARDS; i++) pthread_mutex_init(&heap->shards[i].lock, NULL);
    pthread_mutex_init(&heap->chunk_lock, NULL);
    return heap;
}

struct heap *heap_new(int device, bool retains, bool low) {
    struct heap *heap = heap_memory();
    if (!heap) return NULL;
    heap->device = device;
    heap->retains = retains;
    heap->low = low;
    atomic_store(&heap->reserved_high, 0);
    slab_watch(heap);
    return heap;
}

CUresult heap_charge(struct heap *heap, size_t bytes) {
    if (!device_charge(heap->device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    if (!heap->retains) return CUDA_SUCCESS;
    uint64_t reserved = atomic_fetch_add(&heap->reserved, bytes) + bytes;
    uint64_t high = atomic_load(&heap->reserved_high);
    while (reserved > high &&
           !atomic_compare_exchange_weak(&heap->reserved_high, &high, reserved)) {
    }
    books_move(heap->device, SPACE_POOL_RESERVED, (int64_t)bytes);
    return CUDA_SUCCESS;
}

void heap_uncharge(struct heap *heap, size_t bytes) {
    device_uncharge(heap->device, bytes);
    if (!heap->retains) return;
    atomic_fetch_sub(&heap->reserved, bytes);
    books_move(heap->device, SPACE_POOL_RESERVED, -(int64_t)bytes);
}

// First fit; what is left over stays a chunk.
static uintptr_t take_chunk(struct heap *heap, size_t span) {
    uintptr_t base = 0;
    pthread_mutex_lock(&heap->chunk_lock);
    for (size_t i = 0; i < heap->chunk_count && !base; i++) {
        struct chunk *chunk = &heap->chunks[i];
        if (chunk->span < span) continue;
        base = chunk->base;
        chunk->base += span;
        chunk->span -= span;
        if (chunk->span == 0) memmove(chunk, chunk + 1, (--heap->chunk_count - i) * sizeof *chunk);
    }
    pthread_mutex_unlock(&heap->chunk_lock);
    return base;
}

static void keep_chunk(struct heap *heap, uintptr_t base, size_t span) {
    pthread_mutex_lock(&heap->chunk_lock);
    if (heap->chunk_count == heap->chunk_capacity) {
        heap->chunk_capacity = heap->chunk_capacity ? heap->chunk_capacity * 2 : 64;
        heap->chunks = realloc(heap->chunks, heap->chunk_capacity * sizeof *heap->chunks);
        if (!heap->chunks) abort();
    }
    size_t i = 0;
    while (i < heap->chunk_count && heap->chunks[i].base < base) i++;
    struct chunk *at = &heap->chunks[i];
    bool joins_before = i > 0 && at[-1].base + at[-1].span == base;
    bool joins_after = i < heap->chunk_count && base + span == at->base;
    if (joins_before && joins_after) {
        at[-1].span += span + at->span;
        memmove(at, at + 1, (--heap->chunk_count - i) * sizeof *at);
    } else if (joins_before) {
        at[-1].span += span;
    } else if (joins_after) {
        *at = (struct chunk){base, at->span + span};
    } else {
        memmove(at + 1, at, (heap->chunk_count++ - i) * sizeof *at);
        *at = (struct chunk){base, span};
    }
    pthread_mutex_unlock(&heap->chunk_lock);
}

// Gives up to `bytes` of free pages back to the device.
static void give_chunks(struct heap *heap, uint64_t bytes) {
    pthread_mutex_lock(&heap->chunk_lock);
    while (heap->chunk_count > 0 && bytes > 0) {
        struct chunk *last = &heap->chunks[heap->chunk_count - 1];
        uint64_t wanted = round_up(bytes, DEVICE_PAGE);
        size_t part = wanted < last->span ? wanted : last->span;
        last->span -= part;
        address_space_give(last->base + last->span, part);
        if (last->span == 0) heap->chunk_count--;
        heap_uncharge(heap, part);
        bytes -= part < bytes ? part : bytes;
    }
    pthread_mutex_unlock(&heap->chunk_lock);
}

static CUresult alloc_large(struct heap *heap, struct block *block) {
    block->span = round_up(block->size, DEVICE_PAGE);
    if (block->span < block->size) return CUDA_ERROR_OUT_OF_MEMORY;
    block->base = heap->retains ? take_chunk(heap, block->span) : 0;
    if (!block->base) {
        // A real pool maps its free pages to the new address; here they go and as many come.
        give_chunks(heap, block->span);
        CUresult result = heap_charge(heap, block->span);
        if (result != CUDA_SUCCESS) return result;
        block->base =
            address_space_take(block->span, DEVICE_PAGE, PROT_READ | PROT_WRITE, heap->low);
        if (!block->base) {
            heap_uncharge(heap, block->span);
            return CUDA_ERROR_OUT_OF_MEMORY;
        }
    }
    block_add(block);
    return CUDA_SUCCESS;
}

CUresult heap_alloc(struct heap *heap, struct block *block) {
    block->heap = heap;
    block->id = block_new_id();
    CUresult (*alloc)(struct heap *, struct block *) =
        block->size <= LARGEST_SMALL ? slab_alloc : alloc_large;
    CUresult result = alloc(heap, block);
    if (result == CUDA_SUCCESS || !heap->retains) return result;
    // The device is full, perhaps of this heap's own free pages.
    heap_trim(heap, 0);
    return alloc(heap, block);
}

void heap_free(const struct block *block) {
    struct heap *heap = block->heap;
    if (block->span < DEVICE_PAGE) {
        slab_free(block);
    } else if (heap->retains) {
        keep_chunk(heap, block->base, block->span);
    } else {
        address_space_give(block->base, block->span);
        heap_uncharge(heap, block->span);
    }
}

void heap_trim(struct heap *heap, uint64_t keep) {
    uint64_t reserved = atomic_load(&heap->reserved);
    if (reserved > keep) give_chunks(heap, reserved - keep);
    slab_trim(heap, keep);
}

void heap_delete(struct heap *heap) {
    heap_trim(heap, 0);
    slab_unwatch(heap);
    pthread_mutex_lock(&ended_lock);
    heap->next = ended_heaps;
    ended_heaps = heap;
    pthread_mutex_unlock(&ended_lock);
}
