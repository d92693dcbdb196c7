// SPDX-License-Identifier: Apache-2.0
//
// Questions about kernels and their settings: the driver's, behind the host function's address.

#include "runtime.h"

// Evaluates a call of the driver with `kernel` standing for the CUfunction of a symbol.
#define OF_KERNEL(symbol, call)                                                                    \
    ({                                                                                             \
        CUfunction kernel;                                                                         \
        cudaError_t found_ = cudart_function(symbol, &kernel);                                     \
        found_ != cudaSuccess ? found_ : cudart_error(call);                                       \
    })

static cudaError_t get_attributes(struct cudaFuncAttributes *out, const void *symbol) {
    CUfunction kernel;
    int shared = 0, constant = 0, local = 0;
    if (!out) return cudaErrorInvalidValue;
    cudaError_t error = cudart_function(symbol, &kernel);
    if (error != cudaSuccess) return error;
    *out = (struct cudaFuncAttributes){0};
    const struct {
        CUfunction_attribute name;
        int *value;
    } rows[] = {
        {CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, &out->maxThreadsPerBlock},
        {CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, &shared},
        {CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES, &constant},
        {CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, &local},
        {CU_FUNC_ATTRIBUTE_NUM_REGS, &out->numRegs},
        {CU_FUNC_ATTRIBUTE_PTX_VERSION, &out->ptxVersion},
        {CU_FUNC_ATTRIBUTE_BINARY_VERSION, &out->binaryVersion},
        {CU_FUNC_ATTRIBUTE_CACHE_MODE_CA, &out->cacheModeCA},
        {CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, &out->maxDynamicSharedSizeBytes},
        {CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, &out->preferredShmemCarveout},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CUresult result = DRIVER(cuFuncGetAttribute_v2020)
        (rows[i].value, rows[i].name, kernel);
        if (result != CUDA_SUCCESS) return cudart_error(result);
    }
    out->sharedSizeBytes = (size_t)shared;
    out->constSizeBytes = (size_t)constant;
    out->localSizeBytes = (size_t)local;
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *out, const void *symbol) {
    return IN_CONTEXT(get_attributes(out, symbol));
}

// cudaFuncAttribute has the driver's numbers.
cudaError_t cudaFuncSetAttribute(const void *symbol, enum cudaFuncAttribute attribute, int value) {
    return IN_CONTEXT(OF_KERNEL(
        symbol, DRIVER(cuFuncSetAttribute_v9000)(kernel, (CUfunction_attribute)attribute, value)));
}

cudaError_t cudaFuncSetCacheConfig(const void *symbol, enum cudaFuncCache config) {
    return IN_CONTEXT(
        OF_KERNEL(symbol, DRIVER(cuFuncSetCacheConfig_v3000)(kernel, (CUfunc_cache)config)));
}

cudaError_t cudaFuncSetSharedMemConfig(const void *symbol, enum cudaSharedMemConfig config) {
    return IN_CONTEXT(
        OF_KERNEL(symbol, DRIVER(cuFuncSetSharedMemConfig_v4020)(kernel, (CUsharedconfig)config)));
}

#if CUDART_VERSION >= 12000
cudaError_t cudaFuncGetName(const char **name, const void *symbol) {
    return IN_CONTEXT(OF_KERNEL(symbol, DRIVER(cuFuncGetName_v12030)(name, kernel)));
}

cudaError_t cudaFuncGetParamInfo(const void *symbol, size_t index, size_t *offset, size_t *size) {
    return IN_CONTEXT(
        OF_KERNEL(symbol, DRIVER(cuFuncGetParamInfo_v12040)(kernel, index, offset, size)));
}

cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t kernel, enum cudaFuncAttribute attribute,
                                            int value, int device) {
    return IN_CONTEXT(DRIVER(cuKernelSetAttribute_v12000)((CUfunction_attribute)attribute, value,
                                                          (CUkernel)kernel, device));
}
#endif

// --- occupancy ----------------------------------------------------------------------------------

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *symbol,
                                                                   int block_size, size_t shared,
                                                                   unsigned flags) {
    return IN_CONTEXT(
        OF_KERNEL(symbol, DRIVER(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags_v7000)(
                              blocks, kernel, block_size, shared, flags)));
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *symbol,
                                                          int block_size, size_t shared) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, symbol, block_size,
                                                                  shared, cudaOccupancyDefault);
}

cudaError_t cudaOccupancyAvailableDynamicSMemPerBlock(size_t *size, const void *symbol, int blocks,
                                                      int block_size) {
    return IN_CONTEXT(OF_KERNEL(symbol, DRIVER(cuOccupancyAvailableDynamicSMemPerBlock_v10020)(
                                            size, kernel, blocks, block_size)));
}
