// SPDX-License-Identifier: Apache-2.0
// The memset families.
#include "capture.h"
#include "copy.h"
#include "memory.h"

#define SYNC ((CUstream)-1) // not a handle: the call waits for its own work

CUresult fill_from_params(const CUDA_MEMSET_NODE_PARAMS_v2 *params, struct op *op) {
    unsigned element = params->elementSize;
    if (element != 1 && element != 2 && element != 4) return CUDA_ERROR_INVALID_VALUE;
    if (params->dst % element || params->pitch % element) return CUDA_ERROR_INVALID_VALUE;
    size_t reach = (params->height - 1) * params->pitch + params->width * element;
    if (!memory_is_known(params->dst, reach)) return CUDA_ERROR_INVALID_VALUE;
    *op = (struct op){.kind = OP_FILL,
                      .fill = {.base = params->dst,
                               .pitch = params->pitch,
                               .width = params->width,
                               .height = params->height,
                               .element = element,
                               .value = params->value}};
    return CUDA_SUCCESS;
}

static CUresult fill(CUstream handle, CUdeviceptr dst, size_t pitch, unsigned value,
                     unsigned element, size_t width, size_t height) {
    struct op op;
    struct stream *stream;
    CUresult result = handle == SYNC ? stream_of_sync_calls(&stream) : stream_get(handle, &stream);
    if (result != CUDA_SUCCESS) return result;
    if (!width || !height) return CUDA_SUCCESS;
    if (handle == SYNC && (result = capture_forbids_unsafe()) != CUDA_SUCCESS) return result;
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEMSET,
                                .memset = {.dst = dst,
                                           .pitch = pitch,
                                           .value = value,
                                           .elementSize = element,
                                           .width = width,
                                           .height = height}};
    result = fill_from_params(&params.memset, &op);
    if (result != CUDA_SUCCESS) return result;
    result = stream_submit_or_capture(stream, &op, CU_GRAPH_NODE_TYPE_MEMSET, &params);
    if (handle == SYNC && result == CUDA_SUCCESS) stream_synchronize(stream);
    return result;
}

// Three widths, in one and two dimensions, with and without a stream.

CUresult sim_cuMemsetD8_v2(CUdeviceptr dst, unsigned char uc, size_t N) {
    return fill(SYNC, dst, 0, uc, 1, N, 1);
}

CUresult sim_cuMemsetD8Async(CUdeviceptr dst, unsigned char uc, size_t N, CUstream hStream) {
    return fill(hStream, dst, 0, uc, 1, N, 1);
}

CUresult sim_cuMemsetD2D8_v2(CUdeviceptr dst, size_t pitch, unsigned char uc, size_t width,
                             size_t height) {
    return fill(SYNC, dst, pitch, uc, 1, width, height);
}

CUresult sim_cuMemsetD2D8Async(CUdeviceptr dst, size_t pitch, unsigned char uc, size_t width,
                               size_t height, CUstream hStream) {
    return fill(hStream, dst, pitch, uc, 1, width, height);
}

CUresult sim_cuMemsetD16_v2(CUdeviceptr dst, unsigned short us, size_t N) {
    return fill(SYNC, dst, 0, us, 2, N, 1);
}

CUresult sim_cuMemsetD16Async(CUdeviceptr dst, unsigned short us, size_t N, CUstream hStream) {
    return fill(hStream, dst, 0, us, 2, N, 1);
}

CUresult sim_cuMemsetD2D16_v2(CUdeviceptr dst, size_t pitch, unsigned short us, size_t width,
                              size_t height) {
    return fill(SYNC, dst, pitch, us, 2, width, height);
}

CUresult sim_cuMemsetD2D16Async(CUdeviceptr dst, size_t pitch, unsigned short us, size_t width,
                                size_t height, CUstream hStream) {
    return fill(hStream, dst, pitch, us, 2, width, height);
}

CUresult sim_cuMemsetD32_v2(CUdeviceptr dst, unsigned int ui, size_t N) {
    return fill(SYNC, dst, 0, ui, 4, N, 1);
}

CUresult sim_cuMemsetD32Async(CUdeviceptr dst, unsigned int ui, size_t N, CUstream hStream) {
    return fill(hStream, dst, 0, ui, 4, N, 1);
}

CUresult sim_cuMemsetD2D32_v2(CUdeviceptr dst, size_t pitch, unsigned int ui, size_t width,
                              size_t height) {
    return fill(SYNC, dst, pitch, ui, 4, width, height);
}

CUresult sim_cuMemsetD2D32Async(CUdeviceptr dst, size_t pitch, unsigned int ui, size_t width,
                                size_t height, CUstream hStream) {
    return fill(hStream, dst, pitch, ui, 4, width, height);
}
