// SPDX-License-Identifier: Apache-2.0
// Kernel launches, which do nothing in stream order, and occupancy.
#include "context.h"
#include "device.h"
#include "stream.h"

static CUresult launch(CUfunction f, CUstream handle, const CUgraphNodeParams *params) {
    struct stream *stream;
    CUresult result = stream_get(handle, &stream);
    if (result != CUDA_SUCCESS) return result;
    if (!object_is(f, OBJECT_FUNCTION)) return CUDA_ERROR_INVALID_HANDLE;
    const CUDA_KERNEL_NODE_PARAMS_v3 *k = &params->kernel;
    bool empty = !k->gridDimX || !k->gridDimY || !k->gridDimZ || !k->blockDimX || !k->blockDimY ||
                 !k->blockDimZ;
    uint64_t threads = (uint64_t)k->blockDimX * k->blockDimY * k->blockDimZ;
    if (empty || threads > 1024) return CUDA_ERROR_INVALID_VALUE;
    struct op op = {.kind = OP_NOTHING};
    return stream_submit_or_capture(stream, &op, CU_GRAPH_NODE_TYPE_KERNEL, params);
}

CUresult sim_cuLaunchKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
                            unsigned int gridDimZ, unsigned int blockDimX, unsigned int blockDimY,
                            unsigned int blockDimZ, unsigned int sharedMemBytes, CUstream hStream,
                            void **kernelParams, void **extra) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_KERNEL,
                                .kernel = {.func = f,
                                           .gridDimX = gridDimX,
                                           .gridDimY = gridDimY,
                                           .gridDimZ = gridDimZ,
                                           .blockDimX = blockDimX,
                                           .blockDimY = blockDimY,
                                           .blockDimZ = blockDimZ,
                                           .sharedMemBytes = sharedMemBytes,
                                           .kernelParams = kernelParams,
                                           .extra = extra}};
    return launch(f, hStream, &params);
}

CUresult sim_cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **kernelParams,
                              void **extra) {
    if (!config) return CUDA_ERROR_INVALID_VALUE;
    return sim_cuLaunchKernel(f, config->gridDimX, config->gridDimY, config->gridDimZ,
                              config->blockDimX, config->blockDimY, config->blockDimZ,
                              config->sharedMemBytes, config->hStream, kernelParams, extra);
}

CUresult sim_cuLaunchCooperativeKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
                                       unsigned int gridDimZ, unsigned int blockDimX,
                                       unsigned int blockDimY, unsigned int blockDimZ,
                                       unsigned int sharedMemBytes, CUstream hStream,
                                       void **kernelParams) {
    return sim_cuLaunchKernel(f, gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ,
                              sharedMemBytes, hStream, kernelParams, NULL);
}

CUresult sim_cuLaunchGridAsync(CUfunction f, int grid_width, int grid_height, CUstream hStream) {
    return sim_cuLaunchKernel(f, (unsigned)grid_width, (unsigned)grid_height, 1, 1, 1, 1, 0,
                              hStream, NULL, NULL);
}

CUresult sim_cuLaunchGrid(CUfunction f, int grid_width, int grid_height) {
    return sim_cuLaunchGridAsync(f, grid_width, grid_height, NULL);
}

CUresult sim_cuLaunch(CUfunction f) {
    return sim_cuLaunchGrid(f, 1, 1);
}

// ---- occupancy: limited by threads alone --------------------------------------------------------

#define THREADS_PER_MULTIPROCESSOR 2048

CUresult sim_cuOccupancyMaxActiveBlocksPerMultiprocessor(int *numBlocks, CUfunction func,
                                                         int blockSize, size_t dynamicSMemSize) {
    (void)dynamicSMemSize;
    if (!numBlocks || blockSize <= 0) return CUDA_ERROR_INVALID_VALUE;
    if (!object_is(func, OBJECT_FUNCTION)) return CUDA_ERROR_INVALID_HANDLE;
    int blocks = blockSize > 1024 ? 0 : THREADS_PER_MULTIPROCESSOR / blockSize;
    *numBlocks = blocks > 32 ? 32 : blocks;
    return CUDA_SUCCESS;
}

CUresult sim_cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *numBlocks, CUfunction func,
                                                                  int blockSize,
                                                                  size_t dynamicSMemSize,
                                                                  unsigned int flags) {
    (void)flags;
    return sim_cuOccupancyMaxActiveBlocksPerMultiprocessor(numBlocks, func, blockSize,
                                                           dynamicSMemSize);
}

CUresult
sim_cuOccupancyMaxPotentialBlockSizeWithFlags(int *minGridSize, int *blockSize, CUfunction func,
                                              CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                              size_t dynamicSMemSize, int blockSizeLimit,
                                              unsigned int flags) {
    (void)blockSizeToDynamicSMemSize, (void)dynamicSMemSize, (void)flags;
    if (!minGridSize || !blockSize) return CUDA_ERROR_INVALID_VALUE;
    if (!object_is(func, OBJECT_FUNCTION)) return CUDA_ERROR_INVALID_HANDLE;
    *blockSize = blockSizeLimit > 0 && blockSizeLimit < 1024 ? blockSizeLimit : 1024;
    *minGridSize = 128 * (THREADS_PER_MULTIPROCESSOR / *blockSize);
    return CUDA_SUCCESS;
}

CUresult sim_cuOccupancyMaxPotentialBlockSize(int *minGridSize, int *blockSize, CUfunction func,
                                              CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                              size_t dynamicSMemSize, int blockSizeLimit) {
    return sim_cuOccupancyMaxPotentialBlockSizeWithFlags(minGridSize, blockSize, func,
                                                         blockSizeToDynamicSMemSize,
                                                         dynamicSMemSize, blockSizeLimit, 0);
}

CUresult sim_cuOccupancyAvailableDynamicSMemPerBlock(size_t *dynamicSmemSize, CUfunction func,
                                                     int numBlocks, int blockSize) {
    (void)blockSize;
    if (!dynamicSmemSize || numBlocks <= 0) return CUDA_ERROR_INVALID_VALUE;
    if (!object_is(func, OBJECT_FUNCTION)) return CUDA_ERROR_INVALID_HANDLE;
    *dynamicSmemSize = (size_t)(228 << 10) / (size_t)numBlocks;
    return CUDA_SUCCESS;
}
