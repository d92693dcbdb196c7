// SPDX-License-Identifier: Apache-2.0
// The table of blocks outside slabs: sorted by base under one read-write lock. Its users pay for an
// mmap anyway, so a short search and a memmove under the lock are no bottleneck.
#include "blocks.h"

#include "heap.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct block **table;
static size_t count, capacity;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;

// Index of the first block that begins above the address.
static size_t above(uintptr_t address) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (table[middle]->base <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint64_t block_new_id(void) {
    static _Atomic uint64_t last;
    return atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
}

bool block_find(uintptr_t address, struct block *copy) {
    if (slab_find(address, copy)) return true;
    pthread_rwlock_rdlock(&lock);
    size_t i = above(address);
    bool found = i > 0 && address - table[i - 1]->base < table[i - 1]->size;
    if (found) *copy = *table[i - 1];
    pthread_rwlock_unlock(&lock);
    return found;
}

static void remove_at(size_t i, struct block *copy) {
    *copy = *table[i];
    free(table[i]);
    memmove(&table[i], &table[i + 1], (--count - i) * sizeof *table);
}

bool block_take(uintptr_t base, unsigned kinds, struct block *copy) {
    if (slab_take(base, kinds, copy)) return true;
    pthread_rwlock_wrlock(&lock);
    size_t i = above(base);
    bool found = i > 0 && table[i - 1]->base == base && (kinds & KIND(table[i - 1]->kind));
    if (found) remove_at(i - 1, copy);
    pthread_rwlock_unlock(&lock);
    return found;
}

bool block_add(const struct block *block) {
    struct block *stored = malloc(sizeof *stored);
    if (!stored) return false;
    *stored = *block;
    pthread_rwlock_wrlock(&lock);
    size_t i = above(block->base);
    bool overlaps = (i > 0 && block->base - table[i - 1]->base < table[i - 1]->span) ||
                    (i < count && table[i]->base - block->base < block->span);
    if (!overlaps && count == capacity) {
        capacity = capacity ? capacity * 2 : 256;
        table = realloc(table, capacity * sizeof *table);
        if (!table) abort();
    }
    if (!overlaps) {
        memmove(&table[i + 1], &table[i], (count++ - i) * sizeof *table);
        table[i] = stored;
    }
    pthread_rwlock_unlock(&lock);
    if (overlaps) free(stored);
    return !overlaps;
}

void block_update(const struct block *copy) {
    if (slab_update(copy)) return;
    pthread_rwlock_wrlock(&lock);
    size_t i = above(copy->base);
    if (i > 0 && table[i - 1]->base == copy->base) *table[i - 1] = *copy;
    pthread_rwlock_unlock(&lock);
}

static bool take_one(bool (*selects)(const struct block *, void *), void *data,
                     struct block *copy) {
    bool found = false;
    pthread_rwlock_wrlock(&lock);
    for (size_t i = 0; i < count && !found; i++) {
        found = selects(table[i], data);
        if (found) remove_at(i, copy);
    }
    pthread_rwlock_unlock(&lock);
    return found;
}

void blocks_take_all(bool (*selects)(const struct block *, void *),
                     void (*ends)(const struct block *, void *), void *data) {
    struct block block;
    while (take_one(selects, data, &block) || slab_take_one(selects, data, &block))
        ends(&block, data);
}

// x86 has a flag for addresses below 2 GiB; elsewhere the kernel honours a hint when it can.
static void *map_low(size_t size, int protection) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    for (uintptr_t hint = 0x10000000; hint + size < 0xF0000000; hint += 0x1000000) {
        void *map = mmap((void *)hint, size, protection, flags | MAP_FIXED_NOREPLACE, -1, 0);
        if (map == (void *)hint) return map;
        if (map != MAP_FAILED) munmap(map, size);
    }
    return MAP_FAILED;
}

uintptr_t address_space_take(size_t size, size_t alignment, int protection, bool low) {
    if (size > SIZE_MAX / 2 || alignment > SIZE_MAX / 4) return 0;
    size_t length = size + alignment;
    void *map =
        low ? map_low(length, protection)
            : mmap(NULL, length, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) return 0;
    uintptr_t start = (uintptr_t)map, base = round_up(start, alignment);
    if (base > start) munmap(map, base - start);
    if (start + length > base + size) munmap((void *)(base + size), start + length - base - size);
    return base;
}

// Shared parts of the address space; only programs that use IPC ever have any.
struct shared {
    struct shared *next;
    uintptr_t base;
    size_t size;
    int file;
};
static _Atomic(struct shared *) shared_parts;
static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;

// Writes only pages that hold something, so that untouched ones stay untouched in the file too.
static bool fill_file(int file, uintptr_t base, size_t size) {
    static const char zeroes[4096];
    if (ftruncate(file, (off_t)size) != 0) return false;
    for (size_t at = 0; at < size; at += sizeof zeroes) {
        const char *page = (const char *)base + at;
        if (memcmp(page, zeroes, sizeof zeroes) == 0) continue;
        if (pwrite(file, page, sizeof zeroes, (off_t)at) != (ssize_t)sizeof zeroes) return false;
    }
    return true;
}

// The lock is held.
static struct shared *share(uintptr_t base, size_t size) {
    struct shared *part = malloc(sizeof *part);
    int file = memfd_create("simgpu", MFD_CLOEXEC);
    bool fits = part && file >= 0 && fill_file(file, base, size) &&
                mmap((void *)base, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) !=
                    MAP_FAILED;
    if (!fits) {
        if (file >= 0) close(file);
        free(part);
        return NULL;
    }
    *part = (struct shared){shared_parts, base, size, file};
    shared_parts = part;
    return part;
}

int address_space_share(uintptr_t base, size_t size, uintptr_t address, size_t *offset) {
    pthread_mutex_lock(&shared_lock);
    struct shared *part = shared_parts;
    while (part && !(part->base <= base && base + size <= part->base + part->size))
        part = part->next;
    if (!part) part = share(base, size);
    if (part) *offset = address - part->base;
    pthread_mutex_unlock(&shared_lock);
    return part ? part->file : -1;
}

static void forget_shared(uintptr_t base, size_t size) {
    pthread_mutex_lock(&shared_lock);
    for (struct shared *part = shared_parts, *before = NULL, *next; part; part = next) {
        next = part->next;
        if (part->base + part->size <= base || base + size <= part->base) {
            before = part;
            continue;
        }
        if (before)
            before->next = next;
        else
            shared_parts = next;
        close(part->file);
        free(part);
    }
    pthread_mutex_unlock(&shared_lock);
}

void address_space_give(uintptr_t base, size_t size) {
    if (atomic_load_explicit(&shared_parts, memory_order_relaxed)) forget_shared(base, size);
    size_t page = (size_t)sysconf(_SC_PAGESIZE), skip = base % page;
    munmap((void *)(base - skip), round_up(size + skip, page));
}
