// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda -pthread
//
// Threads that end: with memory left, which others free; a thousand of them, one after the other;
// and one that is cancelled within a call (the test makes that call slow, so that it is).
#include "hazard.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 8, BLOCKS = 100, SHORT_LIVED = 1000 };
static CUcontext context;
static CUdeviceptr blocks[THREADS][BLOCKS];
static _Atomic int inside;

static void *leave_behind(void *argument) {
    CUdeviceptr *mine = argument;
    MUST(cuCtxSetCurrent(context));
    for (int i = 0; i < BLOCKS; i++) mine[i] = hazard_block(4096);
    for (int i = 0; i < BLOCKS; i += 2) MUST(cuMemFree(mine[i]));
    return NULL;
}

static void *free_anothers(void *argument) {
    CUdeviceptr *theirs = argument;
    MUST(cuCtxSetCurrent(context));
    for (int i = 1; i < BLOCKS; i += 4) MUST(cuMemFree(theirs[i]));
    return NULL;
}

static void *one_block(void *unused) {
    (void)unused;
    MUST(cuCtxSetCurrent(context));
    MUST(cuMemFree(hazard_block(512)));
    return NULL;
}

static void *be_cancelled(void *how) {
    CUdeviceptr block;
    MUST(cuCtxSetCurrent(context));
    block = strcmp(how, "cancelled-free") ? 0 : hazard_block(MIB);
    atomic_store(&inside, 1);
    for (;;) {
        if (block)
            cuMemFree(block);
        else
            cuMemAllocHost(&(void *){NULL}, MIB);
    }
    return NULL;
}

static void run_all(void *(*function)(void *)) {
    pthread_t thread[THREADS];
    for (int i = 0; i < THREADS; i++) pthread_create(&thread[i], NULL, function, blocks[i]);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
}

int main(int argc, char **argv) {
    char *how = argc == 2 ? argv[1] : "";
    pthread_t thread;
    context = hazard_use(0);
    if (!strcmp(how, "ended")) {
        run_all(leave_behind);
        run_all(free_anothers);
    } else if (!strcmp(how, "short-lived")) {
        for (int i = 0; i < SHORT_LIVED; i++) {
            pthread_create(&thread, NULL, one_block, NULL);
            pthread_join(thread, NULL);
        }
        hazard_block(MIB);
    } else {
        pthread_create(&thread, NULL, be_cancelled, how);
        while (!atomic_load(&inside)) usleep(100);
        usleep(2000);
        pthread_cancel(thread);
        pthread_join(thread, NULL);
        run_all(leave_behind);
    }
    return 0;
}
