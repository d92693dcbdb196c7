// SPDX-License-Identifier: Apache-2.0
// cuGetErrorName and cuGetErrorString. Names come from the header; for most codes the driver's
// text is the name in words, so only the texts that differ are written down here.
#include "errors.h"

#include "entry.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define TEXT_SIZE 96

static const struct error_row texts[] = {
    {CUDA_SUCCESS, "no error"},
    {CUDA_ERROR_INVALID_VALUE, "invalid argument"},
    {CUDA_ERROR_NOT_INITIALIZED, "initialization error"},
    {CUDA_ERROR_DEINITIALIZED, "driver shutting down"},
    {CUDA_ERROR_STUB_LIBRARY, "CUDA driver is a stub library"},
    {CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"},
    {CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"},
    {CUDA_ERROR_INVALID_CONTEXT, "invalid device context"},
    {CUDA_ERROR_MAP_FAILED, "mapping of buffer object failed"},
    {CUDA_ERROR_UNMAP_FAILED, "unmapping of buffer object failed"},
    {CUDA_ERROR_ALREADY_MAPPED, "resource already mapped"},
    {CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"},
    {CUDA_ERROR_NOT_MAPPED, "resource not mapped"},
    {CUDA_ERROR_ECC_UNCORRECTABLE, "uncorrectable ECC error encountered"},
    {CUDA_ERROR_UNSUPPORTED_LIMIT, "limit is not supported on this architecture"},
    {CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, "peer access is not supported between these two devices"},
    {CUDA_ERROR_INVALID_PTX, "a PTX JIT compilation failed"},
    {CUDA_ERROR_INVALID_SOURCE, "device kernel image is invalid"},
    {CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"},
    {CUDA_ERROR_NOT_FOUND, "named symbol not found"},
    {CUDA_ERROR_NOT_READY, "device not ready"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"},
    {CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"},
    {CUDA_ERROR_LAUNCH_TIMEOUT, "the launch timed out and was terminated"},
    {CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "peer access is already enabled"},
    {CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "peer access has not been enabled"},
    {CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"},
    {CUDA_ERROR_ASSERT, "device-side assert triggered"},
    {CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED,
     "part or all of the requested memory range is already mapped"},
    {CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED,
     "pointer does not correspond to a registered memory region"},
    {CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"},
    {CUDA_ERROR_NOT_PERMITTED, "operation not permitted"},
    {CUDA_ERROR_NOT_SUPPORTED, "operation not supported"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"},
    {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
     "operation failed due to a previous error during capture"},
    {CUDA_ERROR_UNKNOWN, "unknown error"},
};

static char (*derived)[TEXT_SIZE];

static const char *find(const struct error_row *rows, unsigned count, int code) {
    for (unsigned i = 0; i < count; i++)
        if (rows[i].code == code) return rows[i].name;
    return NULL;
}

static void derive_texts(void) {
    static char space[256][TEXT_SIZE];
    for (unsigned i = 0; i < error_row_count && i < 256; i++) {
        const char *name = error_rows[i].name;
        if (strncmp(name, "CUDA_ERROR_", 11) == 0) name += 11;
        for (unsigned k = 0; name[k] && k + 1 < TEXT_SIZE; k++)
            space[i][k] = name[k] == '_' ? ' ' : (char)tolower((unsigned char)name[k]);
    }
    derived = space;
}

ANYTIME CUresult sim_cuGetErrorName(CUresult error, const char **pStr) {
    if (!pStr) return CUDA_ERROR_INVALID_VALUE;
    *pStr = find(error_rows, error_row_count, (int)error);
    return *pStr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

ANYTIME CUresult sim_cuGetErrorString(CUresult error, const char **pStr) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (!pStr) return CUDA_ERROR_INVALID_VALUE;
    pthread_once(&once, derive_texts);
    *pStr = find(texts, sizeof texts / sizeof *texts, (int)error);
    for (unsigned i = 0; !*pStr && i < error_row_count; i++)
        if (error_rows[i].code == (int)error) *pStr = derived[i];
    return *pStr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
