// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda -pthread
//
// Threads that allocate and free in a loop and are cancelled asynchronously, at any instruction,
// one after the other; others go on meanwhile. The test brings a driver that has no locks: what a
// thread may leave half-done is then the library's.
#include "hazard.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { CANCELLED = 200 };
static _Atomic int stop, running;

static void *allocate(void *cancellable) {
    if (cancellable) pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    atomic_store(&running, 1);
    while (cancellable || !atomic_load(&stop)) {
        CUdeviceptr block;
        if (cuMemAlloc(&block, 4096) == CUDA_SUCCESS) cuMemFree(block);
    }
    return NULL;
}

int main(void) {
    pthread_t other, thread;
    CUdeviceptr block;
    MUST(cuInit(0));
    MUST(cuMemAlloc(&block, MIB));
    pthread_create(&other, NULL, allocate, NULL);
    for (int i = 0; i < CANCELLED; i++) {
        atomic_store(&running, 0);
        pthread_create(&thread, NULL, allocate, &running);
        while (!atomic_load(&running)) continue;
        nanosleep(&(struct timespec){0, 1000 * (i % 97)}, NULL);
        pthread_cancel(thread);
        pthread_join(thread, NULL);
    }
    atomic_store(&stop, 1);
    pthread_join(other, NULL);
    MUST(cuMemAlloc(&block, 3 * MIB));
    puts("all ended");
    return 0;
}
