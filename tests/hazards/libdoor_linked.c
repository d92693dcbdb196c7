// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// A plug-in that is linked with libcuda: its calls go through the exported symbols.
#include "door.h"

int plugin_work(void) {
    const struct door_functions gpu = {cuInit, cuDevicePrimaryCtxRetain, cuCtxSetCurrent,
                                       cuMemAlloc, cuMemFree};
    return door_work(&gpu);
}
