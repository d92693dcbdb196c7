// SPDX-License-Identifier: Apache-2.0
// Memory of allocation nodes is shared by the graph, its executable copy, free nodes and, while it
// is live, its block; each holds a reference, and the address goes back with the last.
#include "graph_memory.h"

#include "device.h"
#include "memory.h"

#include <stdlib.h>
#include <sys/mman.h>

struct graph_memory {
    struct graph_memory *next;
    _Atomic int references;
    uintptr_t base;
    size_t size, span;
    int device;
    bool is_live, is_booked;
};

// Per device: what graphs hold, and how much of it is in use.
static struct { uint64_t used, used_high, reserved, reserved_high; } totals[MAX_DEVICES];

static struct graph_memory *all;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

CUresult graph_memory_new(size_t size, int device, struct graph_memory **memory) {
    struct graph_memory *fresh = calloc(1, sizeof *fresh);
    if (!fresh) return CUDA_ERROR_OUT_OF_MEMORY;
    fresh->references = 1;
    fresh->size = size;
    fresh->span = round_up(size, DEVICE_PAGE);
    fresh->device = device;
    fresh->base = fresh->span < size
                      ? 0
                      : address_space_take(fresh->span, DEVICE_PAGE, PROT_READ | PROT_WRITE, false);
    if (!fresh->base) {
        free(fresh);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    fresh->is_booked = true;
    books_alloc(device, SPACE_GRAPH, size);
    pthread_mutex_lock(&lock);
    fresh->next = all;
    all = fresh;
    pthread_mutex_unlock(&lock);
    *memory = fresh;
    return CUDA_SUCCESS;
}

struct graph_memory *graph_memory_retain(struct graph_memory *memory) {
    if (memory) atomic_fetch_add(&memory->references, 1);
    return memory;
}

void graph_memory_release(struct graph_memory *memory) {
    if (!memory || atomic_fetch_sub(&memory->references, 1) > 1) return;
    pthread_mutex_lock(&lock);
    struct graph_memory **at = &all;
    while (*at != memory) at = &(*at)->next;
    *at = memory->next;
    pthread_mutex_unlock(&lock);
    address_space_give(memory->base, memory->span);
    free(memory);
}

struct graph_memory *graph_memory_find(CUdeviceptr dptr) {
    pthread_mutex_lock(&lock);
    struct graph_memory *memory = all;
    while (memory && memory->base != dptr) memory = memory->next;
    pthread_mutex_unlock(&lock);
    return memory;
}

bool graph_memory_covers(CUdeviceptr address, size_t size) {
    pthread_mutex_lock(&lock);
    struct graph_memory *memory = all;
    while (memory && !(memory->base <= address && size <= memory->size &&
                       address - memory->base <= memory->size - size))
        memory = memory->next;
    pthread_mutex_unlock(&lock);
    return memory;
}

CUdeviceptr graph_memory_address(const struct graph_memory *memory) {
    return memory->base;
}
bool graph_memory_is_live(const struct graph_memory *memory) {
    return memory->is_live;
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

// The lock is held.
static bool use(int device, size_t span) {
    uint64_t used = totals[device].used + span;
    if (used > totals[device].reserved) {
        if (!device_charge(device, used - totals[device].reserved)) return false;
        totals[device].reserved = used;
    }
    totals[device].used = used;
    totals[device].used_high = larger(totals[device].used_high, used);
    totals[device].reserved_high = larger(totals[device].reserved_high, totals[device].reserved);
    return true;
}

CUresult graph_memory_begin(struct graph_memory *memory) {
    pthread_mutex_lock(&lock);
    bool begins = !memory->is_live && use(memory->device, memory->span);
    if (begins) memory->is_live = true;
    pthread_mutex_unlock(&lock);
    if (!begins) return CUDA_ERROR_OUT_OF_MEMORY;
    graph_memory_retain(memory); // by the block
    struct block block = {.base = memory->base,
                          .size = memory->size,
                          .span = memory->span,
                          .kind = BLOCK_GRAPH,
                          .space = SPACE_GRAPH,
                          .device = memory->device,
                          .detail = memory,
                          .id = block_new_id()};
    block_add(&block);
    return CUDA_SUCCESS;
}

void graph_memory_end(struct graph_memory *memory) {
    struct block block;
    if (!block_take(memory->base, KIND(BLOCK_GRAPH), &block)) return;
    pthread_mutex_lock(&lock);
    memory->is_live = false;
    totals[memory->device].used -= memory->span;
    pthread_mutex_unlock(&lock);
    graph_memory_release(memory);
}

static void leave_books(struct graph_memory *memory) {
    pthread_mutex_lock(&lock);
    bool leaves = memory->is_booked;
    memory->is_booked = false;
    pthread_mutex_unlock(&lock);
    if (leaves) books_free(memory->device, SPACE_GRAPH, memory->size);
}

CUresult graph_memory_free_outside(CUdeviceptr dptr) {
    struct graph_memory *memory = graph_memory_find(dptr);
    if (!memory || !memory->is_live) return CUDA_ERROR_INVALID_VALUE;
    leave_books(memory);
    graph_memory_end(memory);
    return CUDA_SUCCESS;
}

void graph_memory_graph_destroyed(struct graph_memory *memory) {
    leave_books(memory);
    graph_memory_release(memory);
}

// ---- per device ---------------------------------------------------------------------------------

CUresult sim_cuDeviceGraphMemTrim(CUdevice device) {
    if (!device_exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    pthread_mutex_lock(&lock);
    device_uncharge(device, totals[device].reserved - totals[device].used);
    totals[device].reserved = totals[device].used;
    pthread_mutex_unlock(&lock);
    return CUDA_SUCCESS;
}

// One of a device's totals, or NULL. The lock is held.
static uint64_t *total_of(CUdevice device, CUgraphMem_attribute attr) {
    switch (attr) {
    case CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT:
        return &totals[device].used;
    case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH:
        return &totals[device].used_high;
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT:
        return &totals[device].reserved;
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH:
        return &totals[device].reserved_high;
    default:
        return NULL;
    }
}

CUresult sim_cuDeviceGetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attr, void *value) {
    if (!value) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    pthread_mutex_lock(&lock);
    const uint64_t *total = total_of(device, attr);
    if (total) *(cuuint64_t *)value = *total;
    pthread_mutex_unlock(&lock);
    return total ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// Only the high marks can be set, and only to the present value, by writing 0.
CUresult sim_cuDeviceSetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attr, void *value) {
    bool is_high =
        attr == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH || attr == CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH;
    if (!value || *(cuuint64_t *)value != 0 || !is_high) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    pthread_mutex_lock(&lock);
    *total_of(device, attr) =
        attr == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH ? totals[device].used : totals[device].reserved;
    pthread_mutex_unlock(&lock);
    return CUDA_SUCCESS;
}
