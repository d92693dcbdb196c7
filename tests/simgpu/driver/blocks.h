// SPDX-License-Identifier: Apache-2.0
// Every address range the driver knows: what it handed out, what it imported, mapped or was asked
// to register. Small blocks live in slabs (heap.h), all others in one sorted table here; both are
// found through these functions.
#pragma once

#include "books.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct context;
struct heap;

enum block_kind {
    BLOCK_NONE,
    BLOCK_DEVICE,     // cuMemAlloc and cuMemAllocPitch
    BLOCK_ASYNC,      // from a pool
    BLOCK_MANAGED,    // cuMemAllocManaged
    BLOCK_PINNED,     // cuMemHostAlloc
    BLOCK_REGISTERED, // the caller's own pages
    BLOCK_MAPPED,     // cuMemMap
    BLOCK_IPC,        // cuIpcOpenMemHandle
    BLOCK_IMPORTED,   // cuMemPoolImportPointer
    BLOCK_EXTERNAL,   // cuExternalMemoryGetMappedBuffer
    BLOCK_GRAPH,      // memory of an allocation node
    BLOCK_GLOBAL,     // a module's variable
    BLOCK_ARRAY,      // storage of an array, which has no address in the API
};

#define KIND(kind) (1u << (kind))

struct block {
    uintptr_t base;
    size_t size; // what the books count
    size_t span; // address space held
    enum block_kind kind;
    enum space space;
    int device;
    unsigned flags;          // of the call that made it
    struct context *context; // whose end ends it; NULL: nobody's
    struct heap *heap;       // where it goes back to; NULL: unmapped
    void *detail;            // by kind: graph node, VMM handle, imported object
    uint64_t id;             // CU_POINTER_ATTRIBUTE_BUFFER_ID
    bool sync_memops;
};

// Copies the block that contains the address.
bool block_find(uintptr_t address, struct block *copy);
// Removes the block that begins at base, if it is of one of the kinds (a mask of KIND()). The
// address stays reserved until the caller gives it back, so books can be settled in between.
bool block_take(uintptr_t base, unsigned kinds, struct block *copy);
// Adds a block that is not in a heap. False when it overlaps one (host registration only).
bool block_add(const struct block *block);
// Changes the stored block that begins at copy->base to the copy.
void block_update(const struct block *copy);
// Takes one block after the other that the test selects, and passes it on.
void blocks_take_all(bool (*selects)(const struct block *, void *),
                     void (*ends)(const struct block *, void *), void *data);

uint64_t block_new_id(void);

// Address space in units of the device's page. Zeroed, not charged to any device. `low`: below
// 4 GiB, for the ABIs with 32-bit device pointers. 0 when there is none.
#define DEVICE_PAGE ((size_t)2 << 20)
uintptr_t address_space_take(size_t size, size_t alignment, int protection, bool low);
// Unmaps the pages that the range touches.
void address_space_give(uintptr_t base, size_t size);

// The address space between base and base + size as a file another process can map: replaces the
// private pages by shared ones with the same contents, once. Returns the descriptor (owned here)
// and where in it `address` is; -1 when it cannot. Nothing may write there meanwhile.
int address_space_share(uintptr_t base, size_t size, uintptr_t address, size_t *offset);

static inline size_t round_up(size_t size, size_t unit) {
    return (size + unit - 1) / unit * unit;
}
