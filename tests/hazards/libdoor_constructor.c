// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda -pthread
//
// A plug-in that uses the GPU on another thread while its own constructor waits for that thread.
// glibc keeps its loader locked all that time, so a hook that asked the loader would never return.
#include "door.h"

#include <pthread.h>

static int result = -5;

static void *use_gpu(void *unused) {
    const struct door_functions gpu = {cuInit, cuDevicePrimaryCtxRetain, cuCtxSetCurrent,
                                       cuMemAlloc, cuMemFree};
    result = door_work(&gpu);
    return unused;
}

__attribute__((constructor)) static void start(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, use_gpu, NULL) == 0) pthread_join(thread, NULL);
}

int plugin_work(void) {
    return result;
}
