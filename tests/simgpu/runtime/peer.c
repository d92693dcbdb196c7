// SPDX-License-Identifier: Apache-2.0
//
// Copies between devices that name the devices. Unlike other copies these have no twins for
// per-thread default streams.

#include "runtime.h"

struct ends {
    CUcontext to, from;
};

static cudaError_t find_ends(int to, int from, struct ends *ends) {
    cudaError_t error = cudart_primary_context(to, &ends->to);
    return error != cudaSuccess ? error : cudart_primary_context(from, &ends->from);
}

static cudaError_t copy(void *to, int to_device, const void *from, int from_device, size_t count) {
    struct ends ends;
    cudaError_t error = find_ends(to_device, from_device, &ends);
    if (error != cudaSuccess || count == 0) return error;
    return cudart_error(
        STREAM(cuMemcpyPeer_v4000)((CUdeviceptr)to, ends.to, (CUdeviceptr)from, ends.from, count));
}

static cudaError_t copy_async(void *to, int to_device, const void *from, int from_device,
                              size_t count, cudaStream_t stream) {
    struct ends ends;
    cudaError_t error = find_ends(to_device, from_device, &ends);
    if (error != cudaSuccess || count == 0) return error;
    return cudart_error(STREAM(cuMemcpyPeerAsync_v4000)((CUdeviceptr)to, ends.to, (CUdeviceptr)from,
                                                        ends.from, count, stream));
}

cudaError_t cudaMemcpyPeer(void *to, int to_device, const void *from, int from_device,
                           size_t count) {
    return IN_CONTEXT(copy(to, to_device, from, from_device, count));
}

cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device,
                                size_t count, cudaStream_t stream) {
    return IN_CONTEXT(copy_async(to, to_device, from, from_device, count, stream));
}
