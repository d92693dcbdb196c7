// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda -pthread -fno-optimize-sibling-calls
//
// Threads that all begin to allocate at the same moment, each from stacks of many depths: the
// ledger is made, and its tables grow, while every one of them has events to be counted.
#include "hazard.h"

#include <pthread.h>

enum { THREADS = 8, DEPTHS = 60, ROUNDS = 4 };
static CUcontext context;
static pthread_barrier_t start;

// Not a loop: each depth is a stack of its own.
static __attribute__((noinline)) void block_at(int depth) {
    if (depth > 0)
        block_at(depth - 1);
    else
        MUST(cuMemFree(hazard_block(4096)));
    __asm__ volatile("");
}

static void *work(void *unused) {
    (void)unused;
    MUST(cuCtxSetCurrent(context));
    pthread_barrier_wait(&start);
    for (int round = 0; round < ROUNDS; round++)
        for (int depth = 0; depth < DEPTHS; depth++) block_at(depth);
    return NULL;
}

int main(void) {
    pthread_t thread[THREADS];
    context = hazard_use(0);
    pthread_barrier_init(&start, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) pthread_create(&thread[i], NULL, work, NULL);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    return 0;
}
