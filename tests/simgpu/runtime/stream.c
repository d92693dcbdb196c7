// SPDX-License-Identifier: Apache-2.0
//
// Streams and events with default settings, and the profiler, which has nothing to do here.

#include "runtime.h"

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    return IN_CONTEXT(DRIVER(cuStreamCreate_v2000)(stream, CU_STREAM_DEFAULT));
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
    return IN_CONTEXT(DRIVER(cuEventCreate_v2000)(event, CU_EVENT_DEFAULT));
}

// cuda_profiler_api.h declares these; it is not part of every toolkit package.
cudaError_t cudaProfilerStart(void);
cudaError_t cudaProfilerStop(void);

cudaError_t cudaProfilerStart(void) {
    return IN_CONTEXT(cudaSuccess);
}
cudaError_t cudaProfilerStop(void) {
    return IN_CONTEXT(cudaSuccess);
}

#if CUDART_VERSION < 12000
cudaError_t cudaProfilerInitialize(const char *config, const char *output, int mode);

cudaError_t cudaProfilerInitialize(const char *config, const char *output, int mode) {
    bool named = config && output;
    bool known = mode == 0 || mode == 1; // cudaKeyValuePair, cudaCSV
    return IN_CONTEXT(named && known ? cudaSuccess : cudaErrorInvalidValue);
}
#endif
