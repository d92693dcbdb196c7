// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda -pthread -rdynamic
//
// Loads a plug-in that allocates in its constructor, while another thread allocates for the first
// time in its life.
#include "hazard.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

_Atomic int constructor_runs, other_is_done;
static CUcontext context;

static void *allocate(void *unused) {
    (void)unused;
    while (!atomic_load(&constructor_runs)) usleep(100);
    MUST(cuCtxSetCurrent(context));
    MUST(cuMemFree(hazard_block(7 * MIB)));
    hazard_block(11 * MIB);
    atomic_store(&other_is_done, 1);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t thread;
    if (argc != 2) return 2;
    context = hazard_use(0);
    pthread_create(&thread, NULL, allocate, NULL);
    if (!dlopen(argv[1], RTLD_NOW)) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    pthread_join(thread, NULL);
    return 0;
}
