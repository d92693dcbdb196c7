// SPDX-License-Identifier: Apache-2.0
//
// Driver functions for programs that take them from the runtime (PyTorch and NCCL do). The answer
// is the driver's own, through the pointer that the runtime looks up its functions with.
//
// Compiled twice: the twin asks for functions with per-thread default streams.

#include "runtime.h"

// cudaEnableDefault means the kind of default stream that the caller was compiled for.
static unsigned long long stream_kind(unsigned long long flags) {
    if (flags == cudaEnableDefault && PER_THREAD) return cudaEnablePerThreadDefaultStream;
    return flags;
}

static cudaError_t find(const char *name, void **function, int version, unsigned long long flags,
                        int *status) {
    if (!name || !*name || !function || flags > cudaEnablePerThreadDefaultStream)
        return cudaErrorInvalidValue;
    *function = NULL;
    return cudart_error(cudart_look_up(name, version, stream_kind(flags), function, status));
}

#if CUDART_VERSION >= 12000

static cudaError_t find_with_status(const char *name, void **function, unsigned version,
                                    unsigned long long flags,
                                    enum cudaDriverEntryPointQueryResult *status) {
    int found = cudaDriverEntryPointSymbolNotFound;
    cudaError_t error = find(name, function, (int)version, flags, &found);
    if (status) *status = (enum cudaDriverEntryPointQueryResult)found;
    return error;
}

cudaError_t cudaGetDriverEntryPoint(const char *name, void **function, unsigned long long flags,
                                    enum cudaDriverEntryPointQueryResult *status) {
    return WITH_DRIVER(find_with_status(name, function, CUDART_VERSION, flags, status));
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version,
                                             unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *status) {
    return WITH_DRIVER(find_with_status(name, function, version, flags, status));
}

#else

cudaError_t cudaGetDriverEntryPoint(const char *name, void **function, unsigned long long flags) {
    int found;
    return WITH_DRIVER(find(name, function, CUDART_VERSION, flags, &found));
}

#endif
