// SPDX-License-Identifier: Apache-2.0
// Memory pools and stream-ordered allocation.
#pragma once

#include "context.h"
#include "heap.h"

struct pool {
    struct object object;
    struct heap *heap; // NULL: imported from another process, allocates nothing
    CUmemPoolProps props;
    int device; // NO_DEVICE: host memory
    enum space space;
    _Atomic uint64_t threshold, used, used_high;
    _Atomic int live; // blocks out; a destroyed pool ends with the last one
    _Atomic bool is_destroyed;
    int reuse[4];   // the three CU_MEMPOOL_ATTR_REUSE_* switches, by attribute
    uint64_t peers; // devices given access
};

void pools_start(int device);
// A synchronisation happened: free memory above the thresholds goes back to the device.
void pools_synchronized(int device);
// A block of the pool was freed: settles the pool's own counts.
void pool_block_freed(const struct block *block);
// Its memory can be handed out again; ends a destroyed pool with its last block.
void pool_give_back(const struct block *block);
// A pool of another process: gives access to single pointers, allocates nothing.
struct pool *pool_new_imported(const CUmemPoolProps *props);
