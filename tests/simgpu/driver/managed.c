// SPDX-License-Identifier: Apache-2.0
// Hints about where managed memory lives. All memory is host memory here, so they only take their
// place in stream order; what was advised is not remembered.
#include "context.h"
#include "memory.h"
#include "stream.h"

#include <string.h>

static CUresult hint(CUdeviceptr address, size_t size) {
    struct block block;
    NEED_CONTEXT(context);
    if (!size || !block_find(address, &block) || block.base + block.size - address < size)
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

static CUresult move(CUdeviceptr address, size_t size, CUstream handle) {
    struct stream *stream;
    CUresult result = hint(address, size);
    if (result == CUDA_SUCCESS) result = stream_get(handle, &stream);
    if (result != CUDA_SUCCESS) return result;
    struct op op = {.kind = OP_NOTHING};
    return stream_submit_or_capture(stream, &op, CU_GRAPH_NODE_TYPE_EMPTY, NULL);
}

CUresult sim_cuMemAdvise(CUdeviceptr devPtr, size_t count, CUmem_advise advice, CUdevice device) {
    (void)advice, (void)device;
    return hint(devPtr, count);
}

CUresult sim_cuMemAdvise_v2(CUdeviceptr devPtr, size_t count, CUmem_advise advice,
                            CUmemLocation location) {
    (void)advice, (void)location;
    return hint(devPtr, count);
}

CUresult sim_cuMemPrefetchAsync(CUdeviceptr devPtr, size_t count, CUdevice dstDevice,
                                CUstream hStream) {
    (void)dstDevice;
    return move(devPtr, count, hStream);
}

CUresult sim_cuMemPrefetchAsync_v2(CUdeviceptr devPtr, size_t count, CUmemLocation location,
                                   unsigned int flags, CUstream hStream) {
    (void)location;
    return flags ? CUDA_ERROR_INVALID_VALUE : move(devPtr, count, hStream);
}

static CUresult move_all(CUdeviceptr *dptrs, size_t *sizes, size_t count, CUstream stream) {
    if (!dptrs || !sizes || !count) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = CUDA_SUCCESS;
    for (size_t i = 0; i < count && result == CUDA_SUCCESS; i++)
        result = move(dptrs[i], sizes[i], stream);
    return result;
}

CUresult sim_cuMemPrefetchBatchAsync(CUdeviceptr *dptrs, size_t *sizes, size_t count,
                                     CUmemLocation *prefetchLocs, size_t *prefetchLocIdxs,
                                     size_t numPrefetchLocs, unsigned long long flags,
                                     CUstream hStream) {
    (void)prefetchLocs, (void)prefetchLocIdxs, (void)numPrefetchLocs;
    return flags ? CUDA_ERROR_INVALID_VALUE : move_all(dptrs, sizes, count, hStream);
}

CUresult sim_cuMemDiscardBatchAsync(CUdeviceptr *dptrs, size_t *sizes, size_t count,
                                    unsigned long long flags, CUstream hStream) {
    return flags ? CUDA_ERROR_INVALID_VALUE : move_all(dptrs, sizes, count, hStream);
}

CUresult sim_cuMemDiscardAndPrefetchBatchAsync(CUdeviceptr *dptrs, size_t *sizes, size_t count,
                                               CUmemLocation *prefetchLocs, size_t *prefetchLocIdxs,
                                               size_t numPrefetchLocs, unsigned long long flags,
                                               CUstream hStream) {
    (void)prefetchLocs, (void)prefetchLocIdxs, (void)numPrefetchLocs;
    return flags ? CUDA_ERROR_INVALID_VALUE : move_all(dptrs, sizes, count, hStream);
}

// As if nothing had ever been advised.
static CUresult answer(void *data, size_t size, CUmem_range_attribute attribute) {
    int value = 0;
    if (attribute == CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION ||
        attribute == CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION ||
        attribute == CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY)
        value = CU_DEVICE_INVALID;
    if (!data || size < sizeof value || size % sizeof value) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < size / sizeof value; i++) ((int *)data)[i] = value;
    return CUDA_SUCCESS;
}

CUresult sim_cuMemRangeGetAttribute(void *data, size_t dataSize, CUmem_range_attribute attribute,
                                    CUdeviceptr devPtr, size_t count) {
    CUresult result = hint(devPtr, count);
    return result == CUDA_SUCCESS ? answer(data, dataSize, attribute) : result;
}

CUresult sim_cuMemRangeGetAttributes(void **data, size_t *dataSizes,
                                     CUmem_range_attribute *attributes, size_t numAttributes,
                                     CUdeviceptr devPtr, size_t count) {
    CUresult result = hint(devPtr, count);
    if (!data || !dataSizes || !attributes) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < numAttributes && result == CUDA_SUCCESS; i++)
        result = answer(data[i], dataSizes[i], attributes[i]);
    return result;
}
