// SPDX-License-Identifier: Apache-2.0
//
// A caching allocator as torch's libc10_cuda has it: segments from cudaMalloc, kept; blocks cut out
// of them, best fit, and joined again; a mutex a device, recursive, held while it reports; a
// request that cannot be met empties the cache, tries again, reports and fails.
//
// It keeps books of its own by other means than what it reports, so that a test can compare.
#include "allocator.h"

#include "c10.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <search.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { DEVICES = 4 };
#define ROUND   ((size_t)512)
#define SEGMENT ((size_t)2 << 20)

struct segment;
struct block {
    char *pointer;
    size_t bytes;
    bool used;
    struct block *next; // in the segment, by address
    struct segment *segment;
};
struct segment {
    struct segment *next;
    size_t bytes;
    int device;
    struct block *first;
};

static struct device {
    pthread_mutex_t mutex;
    struct segment *segments;
    struct books books;
    int type;
} devices[DEVICES];

static pthread_mutex_t tree_mutex = PTHREAD_MUTEX_INITIALIZER;
static void *tree; // of blocks in use, by pointer
static struct profile gave;

__attribute__((constructor)) static void begin(void) {
    pthread_mutexattr_t recursive;
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    for (int i = 0; i < DEVICES; i++) {
        pthread_mutex_init(&devices[i].mutex, &recursive);
        devices[i].type = CUDA;
    }
}

// ---- reporting -------------------------------------------------------------------------------

static Device device_of(int device) {
    Device d = {0, 0};
    d.type = (__typeof__(d.type))devices[device].type;
    d.index = (__typeof__(d.index))device;
    return d;
}

static void give(uint64_t *count, uint64_t mixed) {
    __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&gave.sum, mixed, __ATOMIC_RELAXED);
}

static void report(struct block *b, int64_t delta, int device) {
    const struct books *books = &devices[device].books;
    Device d = device_of(device);
#if GENERATION == 1
    // The allocator's own struct for the block, and no totals.
    give(&gave.usages, profile_mix((uintptr_t)b, (uint64_t)delta, 0, 0, d));
    USAGE_SYMBOL(b, delta, d);
    (void)books;
#else
    give(&gave.usages,
         profile_mix((uintptr_t)b->pointer, (uint64_t)delta, books->allocated, books->reserved, d));
    USAGE_SYMBOL(b->pointer, delta, (total_t)books->allocated, (total_t)books->reserved, d);
#endif
}

static void report_oom(size_t bytes, int device) {
    struct books *books = &devices[device].books;
    books->ooms++;
#ifdef OOM_SYMBOL
    Device d = device_of(device);
    give(&gave.ooms, profile_mix(0, bytes, books->allocated, books->reserved, d));
    OOM_SYMBOL((int64_t)bytes, (total_t)books->allocated, (total_t)books->reserved, d);
#else
    (void)bytes;
#endif
}

// ---- blocks and segments ---------------------------------------------------------------------

static int by_pointer(const void *x, const void *y) {
    const struct block *a = x, *b = y;
    return a->pointer < b->pointer ? -1 : a->pointer > b->pointer;
}

static struct block *best_fit(struct device *d, size_t bytes) {
    struct block *best = NULL;
    for (struct segment *s = d->segments; s; s = s->next)
        for (struct block *b = s->first; b; b = b->next)
            if (!b->used && b->bytes >= bytes && (!best || b->bytes < best->bytes)) best = b;
    return best;
}

static void raise_to(uint64_t *peak, uint64_t value) {
    if (value > *peak) *peak = value;
}

static struct block *new_segment(int device, size_t bytes) {
    struct device *d = &devices[device];
    void *p = NULL;
    bytes = (bytes + SEGMENT - 1) / SEGMENT * SEGMENT;
    if (cudaSetDevice(device) || cudaMalloc(&p, bytes)) {
        cudaGetLastError();
        return NULL;
    }
    struct segment *s = calloc(1, sizeof *s);
    struct block *b = calloc(1, sizeof *b);
    *b = (struct block){.pointer = p, .bytes = bytes, .segment = s};
    *s = (struct segment){.next = d->segments, .bytes = bytes, .device = device, .first = b};
    d->segments = s;
    d->books.reserved += bytes;
    d->books.segments++;
    raise_to(&d->books.reserved_peak, d->books.reserved);
    return b;
}

void c10_empty_cache(int device) {
    struct device *d = &devices[device];
    pthread_mutex_lock(&d->mutex);
    for (struct segment **link = &d->segments, *s; (s = *link);) {
        if (s->first->used || s->first->next) {
            link = &s->next;
            continue;
        }
        *link = s->next;
        cudaFree(s->first->pointer);
        d->books.reserved -= s->bytes;
        d->books.segments--;
        free(s->first);
        free(s);
    }
    pthread_mutex_unlock(&d->mutex);
}

void *c10_alloc(int device, size_t bytes) {
    struct device *d = &devices[device];
    size_t size = bytes ? (bytes + ROUND - 1) / ROUND * ROUND : ROUND;
    pthread_mutex_lock(&d->mutex);
    struct block *b = best_fit(d, size);
    if (!b) b = new_segment(device, size);
    if (!b) {
        c10_empty_cache(device);
        b = new_segment(device, size);
    }
    if (!b) {
        report_oom(size, device);
        pthread_mutex_unlock(&d->mutex);
        return NULL;
    }
    if (b->bytes > size) {
        struct block *rest = calloc(1, sizeof *rest);
        *rest = (struct block){.pointer = b->pointer + size,
                               .bytes = b->bytes - size,
                               .next = b->next,
                               .segment = b->segment};
        b->bytes = size;
        b->next = rest;
    }
    b->used = true;
    pthread_mutex_lock(&tree_mutex);
    tsearch(b, &tree, by_pointer);
    pthread_mutex_unlock(&tree_mutex);
    d->books.allocations++;
    d->books.blocks++;
    d->books.allocated += size;
    raise_to(&d->books.allocated_peak, d->books.allocated);
    void *pointer = b->pointer;
    report(b, (int64_t)size, device);
    pthread_mutex_unlock(&d->mutex);
    return pointer;
}

void c10_free(void *pointer) {
    struct block key = {.pointer = pointer};
    pthread_mutex_lock(&tree_mutex);
    struct block **found = tfind(&key, &tree, by_pointer);
    if (!found) abort();
    struct block *b = *found;
    tdelete(b, &tree, by_pointer);
    pthread_mutex_unlock(&tree_mutex);
    int device = b->segment->device;
    struct device *d = &devices[device];
    size_t size = b->bytes;
    pthread_mutex_lock(&d->mutex);
    b->used = false;
    d->books.frees++;
    d->books.blocks--;
    d->books.allocated -= size;
    report(b, -(int64_t)size, device);
    // Joined after the report, as torch does, so that the struct still stands for its block.
    for (struct block *at = b->segment->first; at && at->next;) {
        struct block *next = at->next;
        if (at->used || next->used) {
            at = next;
            continue;
        }
        at->bytes += next->bytes;
        at->next = next->next;
        free(next);
    }
    pthread_mutex_unlock(&d->mutex);
}

// ---- for the tests ---------------------------------------------------------------------------

void c10_books(int device, struct books *out) {
    struct device *d = &devices[device];
    pthread_mutex_lock(&d->mutex);
    d->books.largest_gap = 0;
    for (struct segment *s = d->segments; s; s = s->next)
        for (struct block *b = s->first; b; b = b->next)
            if (!b->used) raise_to(&d->books.largest_gap, b->bytes);
    *out = d->books;
    pthread_mutex_unlock(&d->mutex);
}

void c10_gave(struct profile *out) {
    *out = gave;
}
void c10_type(int device, int type) {
    devices[device].type = type;
}
void c10_lock(int device) {
    pthread_mutex_lock(&devices[device].mutex);
}
void c10_unlock(int device) {
    pthread_mutex_unlock(&devices[device].mutex);
}
// The end of a tensor that nobody was told the beginning of.
void c10_stray(int device) {
    struct block unknown = {.pointer = (char *)0x10000};
    report(&unknown, -512, device);
}
// As if the allocator's own counter had been written over.
void c10_corrupt(int device, int64_t by) {
    devices[device].books.allocated += (uint64_t)by;
}
