// SPDX-License-Identifier: Apache-2.0
//
// A program for nvcc as users write them: kernels, device variables, managed variables, attributes.
// Kernels do nothing on the simulated GPU; everything around them works.

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: not true: %s (last error: %s)\n", __LINE__, #condition,      \
                    cudaGetErrorName(cudaGetLastError()));                                         \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)
#define MUST(call) CHECK((call) == cudaSuccess)

__device__ int counters[4];
__constant__ float scale[2];
__managed__ int shared_number;

__global__ void fill(int *memory, int value) {
    memory[threadIdx.x] = value + counters[0];
}

template <typename T> __global__ void multiply(T *memory, T by) {
    memory[threadIdx.x] *= by * (T)scale[0];
    shared_number++;
}

static unsigned blocks_after_launch(int *memory) {
    fill<<<1, 32>>>(memory, 1);
    return 2;
}

static void variables() {
    int numbers[4] = {1, 2, 3, 4}, back[4] = {};
    float factors[2] = {1.5f, 2.5f};
    size_t size;
    void *address;
    MUST(cudaMemcpyToSymbol(counters, numbers, sizeof numbers));
    MUST(cudaMemcpyFromSymbol(back, counters, 2 * sizeof(int), sizeof(int)));
    CHECK(back[0] == 2 && back[1] == 3);
    MUST(cudaMemcpyToSymbol(scale, factors, sizeof factors));
    MUST(cudaGetSymbolSize(&size, scale));
    CHECK(size == sizeof factors);
    MUST(cudaGetSymbolAddress(&address, counters));
    MUST(cudaMemset(address, 0, sizeof counters));
    CHECK(cudaMemcpyToSymbol(counters, numbers, 100) == cudaErrorInvalidValue);
    CHECK(cudaGetLastError() == cudaErrorInvalidValue);
    shared_number = 41;
    CHECK(shared_number + 1 == 42);
}

static void kernels() {
    int *memory, blocks, grid, block;
    cudaStream_t stream;
    cudaFuncAttributes attributes;
    MUST(cudaMalloc(&memory, 1024 * sizeof(int)));
    MUST(cudaStreamCreate(&stream));
    fill<<<4, 256>>>(memory, 7);
    MUST(cudaGetLastError());
    multiply<int><<<blocks_after_launch(memory), 128, 1024, stream>>>(memory, 3);
    MUST(cudaGetLastError());
    fill<<<0, 256>>>(memory, 7);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    void *arguments[] = {&memory, &blocks};
    MUST(cudaLaunchKernel((const void *)fill, dim3(1), dim3(32), arguments, 0, stream));
    CHECK(cudaLaunchKernel(arguments, dim3(1), dim3(32), arguments, 0, stream) ==
          cudaErrorInvalidDeviceFunction);
    CHECK(cudaGetLastError() == cudaErrorInvalidDeviceFunction);
    MUST(cudaFuncGetAttributes(&attributes, multiply<int>));
    CHECK(attributes.maxThreadsPerBlock > 0);
    MUST(cudaFuncSetAttribute(fill, cudaFuncAttributeMaxDynamicSharedMemorySize, 4096));
    MUST(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, fill, 256, 0));
    CHECK(blocks > 0);
    MUST(cudaOccupancyMaxPotentialBlockSize(&grid, &block, fill));
    CHECK(grid > 0 && block > 0);
    MUST(cudaStreamSynchronize(stream));
    MUST(cudaStreamDestroy(stream));
    MUST(cudaFree(memory));
}

static void graph_of_kernels() {
    int *memory, value = 5;
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaGraphNode_t node;
    MUST(cudaMalloc(&memory, 1024));
    MUST(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    MUST(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
    fill<<<1, 32, 0, stream>>>(memory, value);
    MUST(cudaStreamEndCapture(stream, &graph));
    void *arguments[] = {&memory, &value};
    cudaKernelNodeParams params = {};
    params.func = (void *)fill;
    params.gridDim = params.blockDim = dim3(1);
    params.kernelParams = arguments;
    MUST(cudaGraphAddKernelNode(&node, graph, nullptr, 0, &params));
    MUST(cudaGraphInstantiate(&exec, graph, 0));
    MUST(cudaGraphLaunch(exec, stream));
    MUST(cudaStreamSynchronize(stream));
    MUST(cudaGraphExecDestroy(exec));
    MUST(cudaGraphDestroy(graph));
    MUST(cudaStreamDestroy(stream));
    MUST(cudaFree(memory));
}

int main() {
    int device;
    variables();
    kernels();
    graph_of_kernels();
    MUST(cudaGetDevice(&device));
    // After a reset everything is loaded again.
    MUST(cudaDeviceReset());
    kernels();
    return 0;
}
