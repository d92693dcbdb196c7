// SPDX-License-Identifier: Apache-2.0
//
// A training loop's memory through the CUDA driver API, linked with libcuda: two lasting buffers
// and one batch a step. How it ends is its argument (training.h).

#include <cuda.h>

#include "training.h"

static CUresult report(CUresult result, const char *what, size_t bytes) {
    const char *text = "unknown error";
    if (result != CUDA_SUCCESS) {
        cuGetErrorString(result, &text);
        fprintf(stderr, "driver_api: %s (%zu bytes): %s\n", what, bytes, text);
    }
    return result;
}

static void must(CUresult result, const char *what) {
    if (report(result, what, 0) != CUDA_SUCCESS) exit(1);
}

// Returns the number of the step that ran out of memory, or -1.
static int train(enum ending ending) {
    for (int step = 0; step < steps_of(ending); step++) {
        size_t bytes = batch_bytes(ending, step);
        CUdeviceptr batch;
        if (report(cuMemAlloc(&batch, bytes), "cuMemAlloc of a batch", bytes) != CUDA_SUCCESS)
            return step;
        must(cuMemsetD8(batch, (unsigned char)step, BATCH_BYTES), "cuMemsetD8");
        maybe_die(ending, step);
        if (!keeps_batches(ending)) must(cuMemFree(batch), "cuMemFree");
    }
    return -1;
}

int main(int argc, char **argv) {
    enum ending ending = ending_from(argc, argv);
    CUdevice device;
    CUcontext context;
    CUdeviceptr weights, gradients;

    must(cuInit(0), "cuInit");
    must(cuDeviceGet(&device, 0), "cuDeviceGet");
    must(cuDevicePrimaryCtxRetain(&context, device), "cuDevicePrimaryCtxRetain");
    must(cuCtxSetCurrent(context), "cuCtxSetCurrent");
    must(cuMemAlloc(&weights, WEIGHT_BYTES), "cuMemAlloc");
    must(cuMemAlloc(&gradients, WEIGHT_BYTES), "cuMemAlloc");

    int failed_step = train(ending);

    must(cuMemFree(gradients), "cuMemFree");
    must(cuMemFree(weights), "cuMemFree");
    printf("driver_api: %s\n", failed_step < 0 ? "done" : "stopped");
    // The context is left to the end of the process, as most programs do.
    return failed_step < 0 ? 0 : 1;
}
