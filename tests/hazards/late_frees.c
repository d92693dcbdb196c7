// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda -pthread
//
// Memory that is freed, and allocated, when the process or a thread is already ending: by atexit
// handlers, by destructors, by the destructors of thread-specific data.
#include "hazard.h"

#include <pthread.h>

static CUcontext context;
static CUdeviceptr for_atexit, for_destructor, of_thread[4];
static pthread_key_t key;

static void release(CUdeviceptr block) {
    printf("freed: %d\n", (int)cuMemFree(block));
}

static void at_exit(void) {
    release(for_atexit);
}

__attribute__((destructor)) static void destroy(void) {
    if (for_destructor) release(for_destructor);
}

// glibc runs these up to four rounds: the value set again brings the next one, long after our own
// handler for the thread's exit has run.
static void thread_ends(void *value) {
    CUdeviceptr *block = value;
    CUdeviceptr other;
    release(*block);
    MUST(cuMemAlloc(&other, 3 * MIB));
    release(other);
    if (block > of_thread) pthread_setspecific(key, block - 1);
}

static void *work(void *unused) {
    (void)unused;
    MUST(cuCtxSetCurrent(context));
    for (int i = 0; i < 4; i++) of_thread[i] = hazard_block(MIB);
    pthread_setspecific(key, &of_thread[3]);
    return NULL;
}

int main(void) {
    pthread_t thread;
    pthread_key_create(&key, thread_ends);
    context = hazard_use(0);
    atexit(at_exit);
    for_atexit = hazard_block(5 * MIB);
    for_destructor = hazard_block(7 * MIB);
    hazard_block(11 * MIB); // nobody frees this one
    pthread_create(&thread, NULL, work, NULL);
    pthread_join(thread, NULL);
    // The main thread ends first, the process by a handler of its exit.
    return 0;
}
