// SPDX-License-Identifier: Apache-2.0
// Where device memory and pinned memory come from. Blocks up to half a device page share pages of
// one size class ("slabs"), larger ones have pages of their own; a device is charged whole pages,
// as NVIDIA's driver is commonly observed to do (2 MiB).
// A heap that retains (a memory pool) keeps its free pages charged until trimmed.
#pragma once

#include "blocks.h"

#include <cuda.h>
#include <pthread.h>
#include <stdatomic.h>

#define HEAP_SHARDS  4
#define SLAB_CLASSES 12 // 512 bytes to 1 MiB

struct slab;

// Threads spread over shards, so that unrelated allocations do not meet at one lock.
struct shard {
    pthread_mutex_t lock;
    struct slab *open[SLAB_CLASSES]; // slabs that have a free slot
    struct slab *all;
};

struct chunk {
    uintptr_t base;
    size_t span;
};

struct heap {
    struct heap *next;
    int device; // NO_DEVICE: host memory, never charged
    bool retains, low;
    struct shard shards[HEAP_SHARDS];
    _Atomic uint64_t reserved, reserved_high;
    pthread_mutex_t chunk_lock;
    struct chunk *chunks; // free pages kept, by address, neighbours merged
    size_t chunk_count, chunk_capacity;
};

struct heap *heap_new(int device, bool retains, bool low);
// Fills in base and span for block->size bytes, stores the block, zeroes nothing.
CUresult heap_alloc(struct heap *heap, struct block *block);
// Gives back a block that was taken (block_take) from this heap.
void heap_free(const struct block *block);
// Gives free pages back to the device until at most `keep` bytes stay reserved.
void heap_trim(struct heap *heap, uint64_t keep);
// The heap ends; its blocks must be gone.
void heap_delete(struct heap *heap);

// The slab half of blocks.h.
bool slab_find(uintptr_t address, struct block *copy);
bool slab_take(uintptr_t base, unsigned kinds, struct block *copy);
bool slab_update(const struct block *copy);
bool slab_take_one(bool (*selects)(const struct block *, void *), void *data, struct block *copy);
