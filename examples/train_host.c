// SPDX-License-Identifier: Apache-2.0
//
// A training loop's memory through the CUDA runtime API, in C without kernels: builds with any C
// compiler. train.cu is the same loop with a kernel. How it ends is its argument (training.h).

#include <cuda_runtime_api.h>

#include "training.h"

static cudaError_t report(cudaError_t error, const char *what, size_t bytes) {
    if (error != cudaSuccess)
        fprintf(stderr, "train_host: %s (%zu bytes): %s\n", what, bytes, cudaGetErrorString(error));
    return error;
}

static void must(cudaError_t error, const char *what) {
    if (report(error, what, 0) != cudaSuccess) exit(1);
}

// Returns the number of the step that ran out of memory, or -1.
static int train(enum ending ending) {
    for (int step = 0; step < steps_of(ending); step++) {
        size_t bytes = batch_bytes(ending, step);
        void *batch;
        if (report(cudaMalloc(&batch, bytes), "cudaMalloc of a batch", bytes) != cudaSuccess)
            return step;
        must(cudaMemset(batch, step, BATCH_BYTES), "cudaMemset");
        maybe_die(ending, step);
        if (!keeps_batches(ending)) must(cudaFree(batch), "cudaFree");
    }
    return -1;
}

int main(int argc, char **argv) {
    enum ending ending = ending_from(argc, argv);
    void *weights, *gradients;

    must(cudaMalloc(&weights, WEIGHT_BYTES), "cudaMalloc");
    must(cudaMalloc(&gradients, WEIGHT_BYTES), "cudaMalloc");

    int failed_step = train(ending);

    must(cudaFree(gradients), "cudaFree");
    must(cudaFree(weights), "cudaFree");
    printf("train_host: %s\n", failed_step < 0 ? "done" : "stopped");
    return failed_step < 0 ? 0 : 1;
}
