// SPDX-License-Identifier: Apache-2.0
//
// Allocates and frees at full speed until it is killed: hammer THREADS. Blocks of several spaces;
// each thread frees what it finds in a shared table, so mostly another thread's.
// build: -lcuda
#include <cuda.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { SLOTS = 512, LARGEST = 4096 };
enum kind { LINEAR, STREAM_ORDERED, PINNED, KINDS };

static _Atomic(void *) slots[KINDS][SLOTS];
static CUcontext context;

static void must(CUresult result, const char *what) {
    if (result == CUDA_SUCCESS) return;
    fprintf(stderr, "hammer: %s: result %d\n", what, (int)result);
    abort();
}

static void *allocate(enum kind kind, size_t bytes) {
    CUdeviceptr dptr = 0;
    void *host;
    switch (kind) {
    case LINEAR:
        must(cuMemAlloc(&dptr, bytes), "cuMemAlloc");
        break;
    case STREAM_ORDERED:
        must(cuMemAllocAsync(&dptr, bytes, NULL), "cuMemAllocAsync");
        break;
    default:
        must(cuMemAllocHost(&host, bytes), "cuMemAllocHost");
        return host;
    }
    return (void *)dptr;
}

static void release(enum kind kind, void *block) {
    switch (kind) {
    case LINEAR:
        must(cuMemFree((CUdeviceptr)block), "cuMemFree");
        break;
    case STREAM_ORDERED:
        must(cuMemFreeAsync((CUdeviceptr)block, NULL), "cuMemFreeAsync");
        break;
    default:
        must(cuMemFreeHost(block), "cuMemFreeHost");
    }
}

static void *work(void *argument) {
    unsigned random = 2463534242u + (unsigned)(uintptr_t)argument * 7919u;
    must(cuCtxSetCurrent(context), "cuCtxSetCurrent");
    while (true) {
        random ^= random << 13, random ^= random >> 17, random ^= random << 5;
        enum kind kind = random % KINDS;
        _Atomic(void *) *slot = &slots[kind][random / KINDS % SLOTS];
        void *old = atomic_exchange(slot, NULL);
        if (old) {
            release(kind, old);
        } else {
            old = atomic_exchange(slot, allocate(kind, 1 + random % LARGEST));
            if (old) release(kind, old);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    pthread_t thread;
    must(cuInit(0), "cuInit");
    must(cuDevicePrimaryCtxRetain(&context, 0), "cuDevicePrimaryCtxRetain");
    for (uintptr_t i = 1; i < (uintptr_t)threads; i++)
        pthread_create(&thread, NULL, work, (void *)i);
    work(NULL);
}
