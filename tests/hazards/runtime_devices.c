// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcudart -pthread
//
// Two devices of the runtime API, one thread switching between them and others that inherit nothing
// from it: a thread begins on device 0, whatever its maker was set to.
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define MIB        ((size_t)1 << 20)
#define MUST(call) must((call), #call)

static void must(cudaError_t result, const char *call) {
    if (result == cudaSuccess) return;
    fprintf(stderr, "%s: error %d\n", call, (int)result);
    exit(2);
}

static void *allocate(size_t mib) {
    void *p;
    MUST(cudaMalloc(&p, mib * MIB));
    return p;
}

static void *in_a_thread(void *unused) {
    (void)unused;
    allocate(3);
    MUST(cudaSetDevice(1));
    allocate(5);
    return NULL;
}

int main(void) {
    pthread_t thread;
    void *on_one, *ordered, *pinned;
    MUST(cudaSetDevice(1));
    on_one = allocate(7);
    MUST(cudaMallocAsync(&ordered, 11 * MIB, 0));
    MUST(cudaHostAlloc(&pinned, MIB, cudaHostAllocDefault));
    MUST(cudaSetDevice(0));
    allocate(13);
    MUST(cudaFree(on_one));
    pthread_create(&thread, NULL, in_a_thread, NULL);
    pthread_join(thread, NULL);
    MUST(cudaMallocAsync(&ordered, 17 * MIB, 0));
    MUST(cudaSetDevice(1));
    MUST(cudaDeviceReset()); // ends what device 1 has, and nothing else
    MUST(cudaSetDevice(0));
    allocate(19);
    return 0;
}
