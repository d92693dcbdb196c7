// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda -pthread
//
// Two devices: switched by the current context, by pushed and popped ones, by a thread for each;
// what is allocated on one is freed while the other is current; peers. Every byte must be put down
// to the device that it is on.
#include "hazard.h"

#include <pthread.h>
#include <string.h>

static CUcontext context[2];

static void *work_on(void *argument) {
    int device = *(int *)argument;
    MUST(cuCtxSetCurrent(context[device]));
    for (size_t i = 1; i <= 20; i++) {
        CUdeviceptr block = hazard_block(i * (device ? 4096 : 512));
        if (i % 3) MUST(cuMemFree(block));
    }
    return NULL;
}

static void push_and_pop(void) {
    CUcontext top;
    MUST(cuCtxPushCurrent(context[1]));
    hazard_block(3 * MIB);
    MUST(cuCtxPushCurrent(context[0]));
    hazard_block(5 * MIB);
    MUST(cuCtxPopCurrent(&top));
    hazard_block(7 * MIB);
    MUST(cuCtxPopCurrent(&top));
    hazard_block(11 * MIB);
}

static void second_context_on_the_second_device(void) {
    CUcontext mine, top;
    MUST(cuCtxCreate(&mine, NULL, 0, 1));
    hazard_block(13 * MIB);
    MUST(cuCtxPopCurrent(&top)); // the one before is current again
    hazard_block(17 * MIB);
    MUST(cuCtxSetCurrent(mine));
    hazard_block(19 * MIB);
    MUST(cuCtxDestroy(mine));
    MUST(cuCtxSetCurrent(context[0]));
    hazard_block(23 * MIB);
}

int main(void) {
    pthread_t thread[2];
    int device[2] = {0, 1};
    MUST(cuInit(0));
    for (int i = 0; i < 2; i++) MUST(cuDevicePrimaryCtxRetain(&context[i], i));

    MUST(cuCtxSetCurrent(context[1]));
    CUdeviceptr on_one = hazard_block(29 * MIB);
    MUST(cuCtxSetCurrent(context[0]));
    CUdeviceptr on_zero = hazard_block(31 * MIB);
    MUST(cuCtxEnablePeerAccess(context[1], 0));
    MUST(cuMemcpyPeer(on_one, context[1], on_zero, context[0], MIB));
    MUST(cuMemFree(on_one)); // device 0 is current
    push_and_pop();
    second_context_on_the_second_device();
    for (int i = 0; i < 2; i++) pthread_create(&thread[i], NULL, work_on, &device[i]);
    for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
    return 0;
}
