// SPDX-License-Identifier: Apache-2.0
// build: -DCUDA_API_PER_THREAD_DEFAULT_STREAM -L$B/simgpu -lcuda -pthread
//
// Each thread's own default stream has the same name, 0, in all threads. One thread captures on its
// own while another allocates on its own: only the first makes nodes of a graph.
#include "hazard.h"

#include <pthread.h>

static CUcontext context;
static pthread_barrier_t both;

static void *allocate_beside(void *unused) {
    CUdeviceptr block;
    (void)unused;
    MUST(cuCtxSetCurrent(context));
    pthread_barrier_wait(&both); // the other one captures from here
    MUST(cuMemAllocAsync(&block, 3 * MIB, NULL));
    MUST(cuMemFreeAsync(block, NULL));
    MUST(cuMemAllocAsync(&block, 5 * MIB, CU_STREAM_PER_THREAD));
    pthread_barrier_wait(&both); // to here
    return NULL;
}

int main(void) {
    pthread_t thread;
    CUdeviceptr block;
    CUgraph graph;
    context = hazard_use(0);
    pthread_barrier_init(&both, NULL, 2);
    pthread_create(&thread, NULL, allocate_beside, NULL);
    MUST(cuStreamBeginCapture(NULL, CU_STREAM_CAPTURE_MODE_RELAXED));
    pthread_barrier_wait(&both);
    MUST(cuMemAllocAsync(&block, 7 * MIB, CU_STREAM_PER_THREAD)); // the same stream as NULL here
    MUST(cuMemAllocAsync(&block, 11 * MIB, NULL));
    pthread_barrier_wait(&both);
    MUST(cuStreamEndCapture(NULL, &graph));
    MUST(cuMemAllocAsync(&block, 13 * MIB, NULL));
    pthread_join(thread, NULL);
    return 0;
}
