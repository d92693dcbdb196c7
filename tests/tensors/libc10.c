// SPDX-License-Identifier: Apache-2.0
//
// A libc10 of one generation: the functions that tell a profiler, with a profiler that only counts;
// and the host's allocator, which reports while a profiler wants to know.
#include "c10.h"

#include <stdlib.h>

static struct profile got;

void c10_profile(struct profile *out) {
    out->usages = __atomic_load_n(&got.usages, __ATOMIC_RELAXED);
    out->ooms = __atomic_load_n(&got.ooms, __ATOMIC_RELAXED);
    out->sum = __atomic_load_n(&got.sum, __ATOMIC_RELAXED);
}

static void take(uint64_t *count, uint64_t mixed) {
    __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&got.sum, mixed, __ATOMIC_RELAXED);
}

#if GENERATION == 1
void USAGE_SYMBOL(void *pointer, int64_t delta, Device device) {
    take(&got.usages, profile_mix((uintptr_t)pointer, (uint64_t)delta, 0, 0, device));
}
#else
void USAGE_SYMBOL(void *pointer, int64_t delta, total_t allocated, total_t reserved,
                  Device device) {
    take(&got.usages, profile_mix((uintptr_t)pointer, (uint64_t)delta, (uint64_t)allocated,
                                  (uint64_t)reserved, device));
}
void OOM_SYMBOL(int64_t asked, total_t allocated, total_t reserved, Device device) {
    take(&got.ooms,
         profile_mix(0, (uint64_t)asked, (uint64_t)allocated, (uint64_t)reserved, device));
}
#endif

// ---- the host's allocator: index -1, a reserve of 0 ------------------------------------------

static int64_t host_allocated;

void *c10_host_alloc(size_t bytes) {
    void *p = malloc(bytes);
    int64_t now = __atomic_add_fetch(&host_allocated, (int64_t)bytes, __ATOMIC_RELAXED);
    (void)now;
#if GENERATION == 1
    USAGE_SYMBOL(p, (int64_t)bytes, (Device){CPU, -1});
#else
    USAGE_SYMBOL(p, (int64_t)bytes, (total_t)now, 0, (Device){CPU, -1});
#endif
    return p;
}

void c10_host_free(void *p, size_t bytes) {
    int64_t now = __atomic_sub_fetch(&host_allocated, (int64_t)bytes, __ATOMIC_RELAXED);
    (void)now;
#if GENERATION == 1
    USAGE_SYMBOL(p, -(int64_t)bytes, (Device){CPU, -1});
#else
    USAGE_SYMBOL(p, -(int64_t)bytes, (total_t)now, 0, (Device){CPU, -1});
#endif
    free(p);
}
