// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda -pthread
//
// The process becomes another program, without GPU use, while its threads allocate: exec ends them
// wherever they are.
#include "hazard.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { THREADS = 3 };
static CUcontext context;
static _Atomic int at_work;

static void *allocate(void *unused) {
    (void)unused;
    MUST(cuCtxSetCurrent(context));
    for (int i = 0;; i++) {
        CUdeviceptr block = hazard_block(4096);
        if (i % 8) MUST(cuMemFree(block));
        if (i == 100) atomic_fetch_add(&at_work, 1);
    }
    return NULL;
}

int main(void) {
    pthread_t thread;
    context = hazard_use(0);
    for (int i = 0; i < THREADS; i++) pthread_create(&thread, NULL, allocate, NULL);
    while (atomic_load(&at_work) < THREADS) usleep(100);
    execl("/bin/echo", "echo", "another program", NULL);
    return 127;
}
