// SPDX-License-Identifier: Apache-2.0
//
// A small training loop for nvcc: two lasting buffers, one batch a step in stream-ordered memory,
// one kernel launch a step. How it ends is its argument (training.h).

#include <cuda_runtime.h>

#include "training.h"

static cudaError_t report(cudaError_t error, const char *what, size_t bytes) {
    if (error != cudaSuccess)
        fprintf(stderr, "train: %s (%zu bytes): %s\n", what, bytes, cudaGetErrorString(error));
    return error;
}

static void must(cudaError_t error, const char *what) {
    if (report(error, what, 0) != cudaSuccess) exit(1);
}

__global__ void descend(float *weights, float *gradients, const float *batch, size_t batch_size,
                        size_t weight_count) {
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (i >= weight_count) return;
    gradients[i] = 2.0f * weights[i] * batch[i % batch_size];
    weights[i] -= 0.01f * gradients[i];
}

// Returns the number of the step that ran out of memory, or -1.
static int train(enum ending ending, float *weights, float *gradients, cudaStream_t stream) {
    const size_t count = WEIGHT_BYTES / sizeof *weights;
    const unsigned threads = 256, blocks = (unsigned)((count + threads - 1) / threads);

    for (int step = 0; step < steps_of(ending); step++) {
        size_t bytes = batch_bytes(ending, step);
        float *batch;
        if (report(cudaMallocAsync((void **)&batch, bytes, stream), "cudaMallocAsync of a batch",
                   bytes) != cudaSuccess)
            return step;
        must(cudaMemsetAsync(batch, 0, BATCH_BYTES, stream), "cudaMemsetAsync");
        descend<<<blocks, threads, 0, stream>>>(weights, gradients, batch,
                                                BATCH_BYTES / sizeof *batch, count);
        must(cudaGetLastError(), "kernel launch");
        maybe_die(ending, step);
        if (!keeps_batches(ending)) must(cudaFreeAsync(batch, stream), "cudaFreeAsync");
        must(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    }
    return -1;
}

int main(int argc, char **argv) {
    enum ending ending = ending_from(argc, argv);
    float *weights, *gradients;
    cudaStream_t stream;

    must(cudaStreamCreate(&stream), "cudaStreamCreate");
    must(cudaMalloc((void **)&weights, WEIGHT_BYTES), "cudaMalloc");
    must(cudaMalloc((void **)&gradients, WEIGHT_BYTES), "cudaMalloc");
    must(cudaMemset(weights, 0, WEIGHT_BYTES), "cudaMemset");

    int failed_step = train(ending, weights, gradients, stream);

    must(cudaFree(gradients), "cudaFree");
    must(cudaFree(weights), "cudaFree");
    must(cudaStreamDestroy(stream), "cudaStreamDestroy");
    printf("train: %s\n", failed_step < 0 ? "done" : "stopped");
    return failed_step < 0 ? 0 : 1;
}
