// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// What is current is a stack, and a primary context has several lives: cuCtxSetCurrent(NULL) pops,
// a failing switch changes nothing, and a reset forgets the references of the life before.
#include "hazard.h"

#include <string.h>

static CUcontext context[2];

static void switch_to_none(void) {
    MUST(cuCtxSetCurrent(context[1]));
    MUST(cuCtxPushCurrent(context[0]));
    hazard_block(3 * MIB); // on device 0
    MUST(cuCtxSetCurrent(NULL));
    hazard_block(5 * MIB); // on device 1: as documented, NULL is a pop
    MUST(cuCtxSetCurrent(NULL));
    TELL(cuMemAlloc(&(CUdeviceptr){0}, MIB));
    MUST(cuCtxSetCurrent(context[0]));
    hazard_block(7 * MIB);
}

static void switch_and_fail(void) {
    CUcontext top, ended;
    MUST(cuCtxSetCurrent(context[1]));
    MUST(cuCtxCreate(&ended, NULL, 0, 0));
    MUST(cuCtxPopCurrent(&top));
    MUST(cuCtxDestroy(ended));
    TELL(cuCtxSetCurrent(ended));
    TELL(cuCtxPushCurrent(ended));
    hazard_block(11 * MIB); // still on device 1
    MUST(cuCtxPopCurrent(&top));
    TELL(cuCtxPopCurrent(&top));
    MUST(cuCtxSetCurrent(context[0]));
    hazard_block(13 * MIB);
}

// A context made anew may get the handle of one that ended on the other device.
static void made_anew(void) {
    MUST(cuCtxSetCurrent(context[0]));
    for (int i = 0; i < 6; i++) {
        CUcontext mine;
        MUST(cuCtxCreate(&mine, NULL, 0, i % 2));
        hazard_block((size_t)(i + 1) * MIB);
        MUST(cuCtxDestroy(mine));
        hazard_block(4096); // on device 0 again
    }
}

static void reset_and_release(void) {
    CUcontext again;
    MUST(cuDevicePrimaryCtxRetain(&again, 0)); // the second reference
    MUST(cuCtxSetCurrent(context[0]));
    hazard_block(17 * MIB);
    MUST(cuDevicePrimaryCtxReset(0));
    MUST(cuDevicePrimaryCtxRetain(&again, 0));
    MUST(cuCtxSetCurrent(again));
    hazard_block(19 * MIB);
    MUST(cuDevicePrimaryCtxRelease(0)); // the last of the new life
    TELL(cuDevicePrimaryCtxRelease(0));
    MUST(cuDevicePrimaryCtxRetain(&again, 0));
    MUST(cuCtxSetCurrent(again));
    hazard_block(23 * MIB);
    MUST(cuDevicePrimaryCtxRelease(0)); // the one that failed before has not been counted
}

int main(int argc, char **argv) {
    const char *how = argc == 2 ? argv[1] : "";
    MUST(cuInit(0));
    for (int i = 0; i < 2; i++) MUST(cuDevicePrimaryCtxRetain(&context[i], i));
    if (!strcmp(how, "none"))
        switch_to_none();
    else if (!strcmp(how, "failing"))
        switch_and_fail();
    else if (!strcmp(how, "made-anew"))
        made_anew();
    else if (!strcmp(how, "reset"))
        reset_and_release();
    else
        return 2;
    return 0;
}
