// SPDX-License-Identifier: Apache-2.0
//
// What a tensor's two events cost, for tensor_pairs.py: the calls that PyTorch's allocator makes
// when it hands a block out and takes it back, to libc10 itself (bare) and through the dynamic
// linker (watched), under the mutex that the allocator holds.
#include "c10.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

#define STRING(symbol)  STRING_(symbol)
#define STRING_(symbol) #symbol

// The definition behind a preloaded library's.
static __typeof__(&USAGE_SYMBOL) bare(const char *libc10) {
    void *handle = dlopen(libc10, RTLD_NOW | RTLD_NOLOAD);
    return handle ? (__typeof__(&USAGE_SYMBOL))dlsym(handle, STRING(USAGE_SYMBOL)) : NULL;
}

// Nanoseconds a pair, with `live` tensors of which a random one is the next to go; -1: no libc10.
// As in a caching allocator addresses come again: the one that was freed some pairs ago is the
// next.
double tensor_pairs(const char *libc10, bool watched, size_t live, size_t pairs) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    __typeof__(&USAGE_SYMBOL) event = watched ? USAGE_SYMBOL : bare(libc10);
    enum { FREE = 64 };
    uint64_t random = 88172645463325252u, vacant[FREE];
    total_t allocated = 0;
    uint64_t *tensor = calloc(live, sizeof *tensor);
    const Device device = {CUDA, 0};
    double begin = 0;
    if (!event || !tensor) return -1;
    for (size_t i = 0; i < FREE; i++) vacant[i] = UINT64_C(0x7e0000000000) + 512 * i;
    for (size_t i = 0; i < live + pairs; i++) {
        if (i == live) begin = now();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        uint64_t *victim = i < live ? &tensor[i] : &tensor[random % live];
        pthread_mutex_lock(&mutex);
        if (*victim) event((void *)*victim, -512, allocated -= 512, (total_t)1 << 30, device);
        pthread_mutex_unlock(&mutex);
        uint64_t next = *victim ? vacant[i % FREE] : UINT64_C(0x7f0000000000) + 512 * i;
        if (*victim) vacant[i % FREE] = *victim;
        *victim = next;
        pthread_mutex_lock(&mutex);
        event((void *)*victim, 512, allocated += 512, (total_t)1 << 30, device);
        pthread_mutex_unlock(&mutex);
    }
    double elapsed = now() - begin;
    for (size_t i = 0; i < live; i++)
        event((void *)tensor[i], -512, allocated -= 512, (total_t)1 << 30, device);
    free(tensor);
    return elapsed / (double)pairs;
}
