// SPDX-License-Identifier: Apache-2.0
//
// Errors: what each thread last saw, which of them last for ever, and their names.

#include "runtime.h"

#include <stdatomic.h>

static _Thread_local cudaError_t last_error;

// Set once by the first error that leaves the process unable to go on.
static _Atomic cudaError_t lasting_error;

// The errors of which the documentation says that any further CUDA work returns the same error
// until the process is started again.
static bool lasts(cudaError_t error) {
    switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
        return true;
    default:
        return false;
    }
}

cudaError_t cudart_record(cudaError_t error) {
    if (error == cudaSuccess) return error;
    last_error = error;
    if (lasts(error)) atomic_store(&lasting_error, error);
    return error;
}

cudaError_t cudart_lasting_error(void) {
    return atomic_load_explicit(&lasting_error, memory_order_relaxed);
}

cudaError_t cudart_not_supported(void) {
    return cudart_record(cudaErrorNotSupported);
}

cudaError_t cudaGetLastError(void) {
    cudaError_t error = last_error;
    last_error = cudart_lasting_error();
    return error;
}

cudaError_t cudaPeekAtLastError(void) {
    return last_error;
}

static const char unknown[] = "unrecognized error code";

const char *cudaGetErrorName(cudaError_t error) {
    static const struct {
        int code;
        const char *name;
    } names[] = {
#include "error_names.h"
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].code == (int)error) return names[i].name;
    return unknown;
}

// The runtime can describe its errors without a driver; these are the ones that the simulation
// returns or is commonly told to return. Others are described by their names.
const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInitializationError:
        return "initialization error";
    case cudaErrorCudartUnloading:
        return "driver shutting down";
    case cudaErrorInvalidConfiguration:
        return "invalid configuration argument";
    case cudaErrorInvalidPitchValue:
        return "invalid pitch argument";
    case cudaErrorInvalidSymbol:
        return "invalid device symbol";
    case cudaErrorInvalidChannelDescriptor:
        return "invalid channel descriptor";
    case cudaErrorInvalidMemcpyDirection:
        return "invalid copy direction for memcpy";
    case cudaErrorInsufficientDriver:
        return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorMissingConfiguration:
        return "__global__ function call is not configured";
    case cudaErrorCallRequiresNewerDriver:
        return "API call is not supported in the installed CUDA driver";
    case cudaErrorInvalidDeviceFunction:
        return "invalid device function";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
        return "invalid device ordinal";
    case cudaErrorDeviceUninitialized:
        return "invalid device context";
    case cudaErrorMapBufferObjectFailed:
        return "mapping of buffer object failed";
    case cudaErrorPeerAccessUnsupported:
        return "peer access is not supported between these two devices";
    case cudaErrorInvalidResourceHandle:
        return "invalid resource handle";
    case cudaErrorIllegalState:
        return "the operation cannot be performed in the present state";
    case cudaErrorSymbolNotFound:
        return "named symbol not found";
    case cudaErrorNotReady:
        return "device not ready";
    case cudaErrorIllegalAddress:
        return "an illegal memory access was encountered";
    case cudaErrorLaunchTimeout:
        return "the launch timed out and was terminated";
    case cudaErrorPeerAccessAlreadyEnabled:
        return "peer access is already enabled";
    case cudaErrorPeerAccessNotEnabled:
        return "peer access has not been enabled";
    case cudaErrorContextIsDestroyed:
        return "context is destroyed";
    case cudaErrorAssert:
        return "device-side assert triggered";
    case cudaErrorHostMemoryAlreadyRegistered:
        return "part or all of the requested memory range is already mapped";
    case cudaErrorHostMemoryNotRegistered:
        return "pointer does not correspond to a registered memory region";
    case cudaErrorIllegalInstruction:
        return "an illegal instruction was encountered";
    case cudaErrorMisalignedAddress:
        return "misaligned address";
    case cudaErrorLaunchFailure:
        return "unspecified launch failure";
    case cudaErrorNotPermitted:
        return "operation not permitted";
    case cudaErrorNotSupported:
        return "operation not supported";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorUnknown:
        return "unknown error";
    default:
        return cudaGetErrorName(error);
    }
}
