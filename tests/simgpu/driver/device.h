// SPDX-License-Identifier: Apache-2.0
// The devices, their capacity and the heaps of plain allocations.
#pragma once

#include "heap.h"
#include "options.h"

struct pool;

struct device {
    uint64_t total;
    _Atomic uint64_t used;
    struct heap *plain, *low; // cuMemAlloc_v2, and the 32-bit cuMemAlloc
    struct context *primary;
    struct pool *default_pool, *graph_pool;
    _Atomic(struct pool *) current_pool;
};

extern struct device devices[MAX_DEVICES];

// Pinned memory.
extern struct heap *host_heap;

void devices_start(void);
bool device_exists(int ordinal);

// False when the device has not that many bytes left. NO_DEVICE has no limit.
bool device_charge(int device, uint64_t bytes);
void device_uncharge(int device, uint64_t bytes);
