// SPDX-License-Identifier: Apache-2.0
//
// Kernel launches.
//
// Compiled twice: every exported function here has a twin for per-thread default streams.

#include "runtime.h"

static bool is_empty(dim3 size) {
    return size.x == 0 || size.y == 0 || size.z == 0;
}

static cudaError_t launch(const void *symbol, dim3 grid, dim3 block, void **args, size_t shared,
                          cudaStream_t stream) {
    CUfunction kernel;
    if (is_empty(grid) || is_empty(block)) return cudaErrorInvalidConfiguration;
    cudaError_t error = cudart_function(symbol, &kernel);
    if (error != cudaSuccess) return error;
    return cudart_error(STREAM(cuLaunchKernel_v4000)(kernel, grid.x, grid.y, grid.z, block.x,
                                                     block.y, block.z, (unsigned)shared, stream,
                                                     args, NULL));
}

cudaError_t cudaLaunchKernel(const void *symbol, dim3 grid, dim3 block, void **args, size_t shared,
                             cudaStream_t stream) {
    return IN_CONTEXT(launch(symbol, grid, block, args, shared, stream));
}

static cudaError_t launch_cooperative(const void *symbol, dim3 grid, dim3 block, void **args,
                                      size_t shared, cudaStream_t stream) {
    CUfunction kernel;
    if (is_empty(grid) || is_empty(block)) return cudaErrorInvalidConfiguration;
    cudaError_t error = cudart_function(symbol, &kernel);
    if (error != cudaSuccess) return error;
    return cudart_error(STREAM(cuLaunchCooperativeKernel_v9000)(
        kernel, grid.x, grid.y, grid.z, block.x, block.y, block.z, (unsigned)shared, stream, args));
}

cudaError_t cudaLaunchCooperativeKernel(const void *symbol, dim3 grid, dim3 block, void **args,
                                        size_t shared, cudaStream_t stream) {
    return IN_CONTEXT(launch_cooperative(symbol, grid, block, args, shared, stream));
}

static cudaError_t launch_config(const cudaLaunchConfig_t *config, const void *symbol,
                                 void **args) {
    CUfunction kernel;
    if (!config) return cudaErrorInvalidValue;
    if (is_empty(config->gridDim) || is_empty(config->blockDim))
        return cudaErrorInvalidConfiguration;
    cudaError_t error = cudart_function(symbol, &kernel);
    if (error != cudaSuccess) return error;
    _Static_assert(sizeof(*config->attrs) == sizeof(CUlaunchAttribute), "layout");
    CUlaunchConfig wanted = {
        .gridDimX = config->gridDim.x,
        .gridDimY = config->gridDim.y,
        .gridDimZ = config->gridDim.z,
        .blockDimX = config->blockDim.x,
        .blockDimY = config->blockDim.y,
        .blockDimZ = config->blockDim.z,
        .sharedMemBytes = (unsigned)config->dynamicSmemBytes,
        .hStream = config->stream,
        .attrs = (CUlaunchAttribute *)config->attrs,
        .numAttrs = config->numAttrs,
    };
    return cudart_error(STREAM(cuLaunchKernelEx_v11060)(&wanted, kernel, args, NULL));
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *symbol, void **args) {
    return IN_CONTEXT(launch_config(config, symbol, args));
}

// --- called by generated code -------------------------------------------------------------------

#if CUDART_VERSION >= 12000

#    if PER_THREAD
#        define __cudaLaunchKernel __cudaLaunchKernel_ptsz
#    endif

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **args,
                               size_t shared, cudaStream_t stream);

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **args,
                               size_t shared, cudaStream_t stream) {
    return cudaLaunchKernel((const void *)kernel, grid, block, args, shared, stream);
}

#endif

#if !PER_THREAD

// kernel<<<grid, block, shared, stream>>>(arguments) pushes the configuration, evaluates the
// arguments, which may launch kernels themselves, and pops it in the kernel's host function.
struct configuration {
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
};

enum { DEEPEST_NESTING = 32 };

static _Thread_local struct configuration pushed[DEEPEST_NESTING];
static _Thread_local unsigned depth;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream);
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream);

// Anything but 0 keeps the program from launching.
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
    if (depth == DEEPEST_NESTING) return (unsigned)cudart_record(cudaErrorInvalidConfiguration);
    pushed[depth++] = (struct configuration){grid, block, shared, stream};
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
    if (depth == 0) return cudart_record(cudaErrorMissingConfiguration);
    const struct configuration *top = &pushed[--depth];
    *grid = top->grid;
    *block = top->block;
    *shared = top->shared;
    *(cudaStream_t *)stream = top->stream;
    return cudaSuccess;
}

#endif
