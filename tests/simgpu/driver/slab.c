// SPDX-License-Identifier: Apache-2.0
// One device page cut into slots of one size class. A page once used for slabs stays one for ever
// (its descriptor and its entry in the page map are never removed), so an address is resolved to
// its slab without a lock; the slot itself is then read under the lock of the shard that owns the
// slab at that moment.
#include "slab.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SMALLEST   ((size_t)512)
#define MOST_SLOTS (DEVICE_PAGE / SMALLEST)

struct slab {
    uintptr_t base;
    struct heap *heap;
    _Atomic(struct shard *) shard; // NULL while spare
    unsigned class, used, free_count;
    unsigned touched; // slots from here on were never handed out
    bool low, is_open;
    struct slab *next_open, *previous_open, *next, *previous;
    uint16_t free[MOST_SLOTS]; // a stack: the address freed last is used first
    struct block slots[MOST_SLOTS];
};

// Page number to slab: open addressing, insert-only. Enough for 512 GiB of small blocks.
#define PAGE_MAP_SIZE ((size_t)1 << 19)
static _Atomic(struct slab *) page_map[PAGE_MAP_SIZE];

static struct slab *spare[2]; // by `low`
static pthread_mutex_t spare_lock = PTHREAD_MUTEX_INITIALIZER;

static struct heap *heaps;
static pthread_mutex_t heaps_lock = PTHREAD_MUTEX_INITIALIZER;

void slab_watch(struct heap *heap) {
    pthread_mutex_lock(&heaps_lock);
    heap->next = heaps;
    heaps = heap;
    pthread_mutex_unlock(&heaps_lock);
}

void slab_unwatch(struct heap *heap) {
    pthread_mutex_lock(&heaps_lock);
    struct heap **at = &heaps;
    while (*at != heap) at = &(*at)->next;
    *at = heap->next;
    pthread_mutex_unlock(&heaps_lock);
}

static size_t page_hash(uintptr_t base) {
    return (base / DEVICE_PAGE * 0x9E3779B97F4A7C15ull) >> 45;
}

static struct slab *slab_of(uintptr_t address) {
    uintptr_t base = address / DEVICE_PAGE * DEVICE_PAGE;
    for (size_t i = page_hash(base);; i = (i + 1) % PAGE_MAP_SIZE) {
        struct slab *slab = atomic_load_explicit(&page_map[i], memory_order_acquire);
        if (!slab || slab->base == base) return slab;
    }
}

static void map_page(struct slab *slab) {
    for (size_t i = page_hash(slab->base);; i = (i + 1) % PAGE_MAP_SIZE) {
        struct slab *none = NULL;
        if (atomic_compare_exchange_strong(&page_map[i], &none, slab)) return;
    }
}

static struct slab *new_slab(bool low) {
    struct slab *slab = mmap(NULL, sizeof *slab, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (slab == MAP_FAILED) return NULL;
    slab->low = low;
    slab->base = address_space_take(DEVICE_PAGE, DEVICE_PAGE, PROT_READ | PROT_WRITE, low);
    if (!slab->base) {
        munmap(slab, sizeof *slab);
        return NULL;
    }
    map_page(slab);
    return slab;
}

static struct slab *take_spare(bool low) {
    pthread_mutex_lock(&spare_lock);
    struct slab *slab = spare[low];
    if (slab) spare[low] = slab->next;
    pthread_mutex_unlock(&spare_lock);
    return slab ? slab : new_slab(low);
}

static void open_slab(struct shard *shard, struct slab *slab) {
    struct slab **head = &shard->open[slab->class];
    slab->previous_open = NULL;
    slab->next_open = *head;
    if (*head) (*head)->previous_open = slab;
    *head = slab;
    slab->is_open = true;
}

static void close_slab(struct shard *shard, struct slab *slab) {
    if (slab->previous_open)
        slab->previous_open->next_open = slab->next_open;
    else
        shard->open[slab->class] = slab->next_open;
    if (slab->next_open) slab->next_open->previous_open = slab->previous_open;
    slab->is_open = false;
}

// The shard's lock is held.
static CUresult add_slab(struct heap *heap, struct shard *shard, unsigned class) {
    CUresult result = heap_charge(heap, DEVICE_PAGE);
    if (result != CUDA_SUCCESS) return result;
    struct slab *slab = take_spare(heap->low);
    if (!slab) {
        heap_uncharge(heap, DEVICE_PAGE);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    slab->heap = heap;
    slab->class = class;
    slab->used = 0;
    slab->free_count = 0;
    slab->touched = 0;
    slab->previous = NULL;
    slab->next = shard->all;
    if (shard->all) shard->all->previous = slab;
    shard->all = slab;
    open_slab(shard, slab);
    atomic_store_explicit(&slab->shard, shard, memory_order_release);
    return CUDA_SUCCESS;
}

// The shard's lock is held; the slab is empty.
static void retire_slab(struct shard *shard, struct slab *slab) {
    struct heap *heap = slab->heap;
    close_slab(shard, slab);
    if (slab->previous)
        slab->previous->next = slab->next;
    else
        shard->all = slab->next;
    if (slab->next) slab->next->previous = slab->previous;
    atomic_store_explicit(&slab->shard, NULL, memory_order_release);
    pthread_mutex_lock(&spare_lock);
    slab->next = spare[slab->low];
    spare[slab->low] = slab;
    pthread_mutex_unlock(&spare_lock);
    heap_uncharge(heap, DEVICE_PAGE);
}

static void take_slot(struct shard *shard, struct block *block) {
    struct slab *slab = shard->open[__builtin_ctzll(block->span / SMALLEST)];
    unsigned slot = slab->free_count > 0 ? slab->free[--slab->free_count] : slab->touched++;
    slab->used++;
    block->base = slab->base + slot * block->span;
    slab->slots[slot] = *block;
    bool is_full = slab->free_count == 0 && slab->touched * block->span == DEVICE_PAGE;
    if (is_full) close_slab(shard, slab);
}

static unsigned own_shard(void) {
    static _Atomic unsigned threads;
    static __thread unsigned number;
    if (!number) number = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) + 1;
    return number % HEAP_SHARDS;
}

CUresult slab_alloc(struct heap *heap, struct block *block) {
    unsigned class = 0;
    while ((SMALLEST << class) < block->size) class ++;
    block->span = SMALLEST << class;
    CUresult result = CUDA_SUCCESS;
    // When the device is full, a page that another shard has begun still has room.
    for (unsigned i = 0; i < HEAP_SHARDS; i++) {
        struct shard *shard = &heap->shards[(own_shard() + i) % HEAP_SHARDS];
        pthread_mutex_lock(&shard->lock);
        bool has_room = shard->open[class] ||
                        (i == 0 && (result = add_slab(heap, shard, class)) == CUDA_SUCCESS);
        if (has_room) take_slot(shard, block);
        pthread_mutex_unlock(&shard->lock);
        if (has_room) return CUDA_SUCCESS;
    }
    return result;
}

// The shard that owns the address's slab, locked; NULL when the address is in no live slab.
static struct shard *lock_shard(uintptr_t address, struct slab **found) {
    struct slab *slab = slab_of(address);
    if (!slab) return NULL;
    for (;;) {
        struct shard *shard = atomic_load_explicit(&slab->shard, memory_order_acquire);
        if (!shard) return NULL;
        pthread_mutex_lock(&shard->lock);
        *found = slab;
        if (atomic_load_explicit(&slab->shard, memory_order_relaxed) == shard) return shard;
        pthread_mutex_unlock(&shard->lock);
    }
}

static struct block *slot_of(struct slab *slab, uintptr_t address) {
    return &slab->slots[(address - slab->base) / (SMALLEST << slab->class)];
}

static bool is_live(const struct block *slot) {
    return slot->kind != BLOCK_NONE;
}

bool slab_find(uintptr_t address, struct block *copy) {
    struct slab *slab;
    struct shard *shard = lock_shard(address, &slab);
    if (!shard) return false;
    struct block *slot = slot_of(slab, address);
    bool found = is_live(slot) && address - slot->base < slot->size;
    if (found) *copy = *slot;
    pthread_mutex_unlock(&shard->lock);
    return found;
}

bool slab_take(uintptr_t base, unsigned kinds, struct block *copy) {
    struct slab *slab;
    struct shard *shard = lock_shard(base, &slab);
    if (!shard) return false;
    struct block *slot = slot_of(slab, base);
    bool found = is_live(slot) && slot->base == base && (kinds & KIND(slot->kind));
    if (found) {
        *copy = *slot;
        slot->kind = BLOCK_NONE;
    }
    pthread_mutex_unlock(&shard->lock);
    return found;
}

bool slab_update(const struct block *copy) {
    struct slab *slab;
    struct shard *shard = lock_shard(copy->base, &slab);
    if (!shard) return false;
    struct block *slot = slot_of(slab, copy->base);
    bool found = is_live(slot) && slot->base == copy->base;
    if (found) *slot = *copy;
    pthread_mutex_unlock(&shard->lock);
    return found;
}

void slab_free(const struct block *block) {
    struct slab *slab;
    // Never NULL: a slab with a used slot stays with its shard.
    struct shard *shard = lock_shard(block->base, &slab);
    if (!shard) return;
    slab->free[slab->free_count++] = (uint16_t)((block->base - slab->base) / block->span);
    if (!slab->is_open) open_slab(shard, slab);
    if (--slab->used == 0 && !slab->heap->retains) retire_slab(shard, slab);
    pthread_mutex_unlock(&shard->lock);
}

void slab_trim(struct heap *heap, uint64_t keep) {
    for (unsigned i = 0; i < HEAP_SHARDS; i++) {
        struct shard *shard = &heap->shards[i];
        pthread_mutex_lock(&shard->lock);
        for (struct slab *slab = shard->all, *next; slab; slab = next) {
            next = slab->next;
            if (slab->used == 0 && atomic_load(&heap->reserved) > keep) retire_slab(shard, slab);
        }
        pthread_mutex_unlock(&shard->lock);
    }
}

static bool take_one_in_shard(struct shard *shard, bool (*selects)(const struct block *, void *),
                              void *data, struct block *copy) {
    bool found = false;
    pthread_mutex_lock(&shard->lock);
    for (struct slab *slab = shard->all; slab && !found; slab = slab->next) {
        size_t slots = DEVICE_PAGE / (SMALLEST << slab->class);
        for (size_t i = 0; i < slots && !found; i++) {
            struct block *slot = &slab->slots[i];
            found = is_live(slot) && selects(slot, data);
            if (found) {
                *copy = *slot;
                slot->kind = BLOCK_NONE;
            }
        }
    }
    pthread_mutex_unlock(&shard->lock);
    return found;
}

bool slab_take_one(bool (*selects)(const struct block *, void *), void *data, struct block *copy) {
    bool found = false;
    pthread_mutex_lock(&heaps_lock);
    for (struct heap *heap = heaps; heap && !found; heap = heap->next)
        for (unsigned i = 0; i < HEAP_SHARDS && !found; i++)
            found = take_one_in_shard(&heap->shards[i], selects, data, copy);
    pthread_mutex_unlock(&heaps_lock);
    return found;
}
