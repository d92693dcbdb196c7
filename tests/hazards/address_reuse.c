// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda -pthread
//
// Threads that are given each other's addresses at once: large blocks on a small device, freed by
// one thread and allocated by the next before the first has returned from its free.
#include "hazard.h"

#include <pthread.h>
#include <stdint.h>

enum { THREADS = 4, ROUNDS = 3000, HELD = 3 };
static CUcontext context;

static void *take_turns(void *argument) {
    CUdeviceptr held[HELD] = {0};
    unsigned random = (unsigned)(uintptr_t)argument;
    MUST(cuCtxSetCurrent(context));
    for (int i = 0; i < ROUNDS; i++) {
        CUdeviceptr *slot = &held[i % HELD];
        if (*slot) MUST(cuMemFree(*slot));
        random = random * 1103515245 + 12345;
        *slot = hazard_block((2 + (random >> 16) % 3) * MIB);
    }
    return NULL; // keeps the last ones
}

int main(void) {
    pthread_t thread[THREADS];
    context = hazard_use(0);
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&thread[i], NULL, take_turns, (void *)(i + 1));
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    return 0;
}
