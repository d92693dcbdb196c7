// SPDX-License-Identifier: Apache-2.0
//
// The simulated CUDA runtime: what its parts share.
//
// The runtime is a client of the driver API and nothing else; all memory, streams and graphs are
// the driver's. Each file is compiled once per CUDA release against that release's headers, because
// the same name means different parameters in different releases; files that define functions with
// twins for per-thread default streams are compiled a second time with
// CUDA_API_PER_THREAD_DEFAULT_STREAM, under which NVIDIA's header renames them (NAME_ptsz, _ptds).
//
// Every function that is not part of the API is called cudart_*, so that the static archive takes
// no name from a program's.

#ifndef SIMGPU_RUNTIME_H
#define SIMGPU_RUNTIME_H

#include <cuda_runtime_api.h>

// The typedefs of all ABIs of a driver function, not only of the newest. After the runtime's
// header, which has a meaning of its own for this.
#define __CUDA_API_VERSION_INTERNAL
#include <cudaTypedefs.h>

#include <stdbool.h>
#include <stddef.h>

#ifdef CUDA_API_PER_THREAD_DEFAULT_STREAM
#    define PER_THREAD 1
#else
#    define PER_THREAD 0
#endif

// --- the driver's functions (driver.c) ----------------------------------------------------------

// Functions of which the driver has twins for per-thread default streams.
struct cudart_stream_functions {
#define STREAM_ROW(name, version, twin) PFN_##name##_v##version name##_v##version;
#define DRIVER_ROW(name, version)
#include "rows.h"
#undef STREAM_ROW
#undef DRIVER_ROW
};

// What the look-ups gave; a function that this driver lacks is one that answers
// CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER. Valid after cudart_enter() succeeded.
struct cudart_driver {
#define STREAM_ROW(name, version, twin)
#define DRIVER_ROW(name, version) PFN_##name##_v##version name##_v##version;
#include "rows.h"
#undef STREAM_ROW
#undef DRIVER_ROW
    // Index 0: the legacy default stream, 1: per-thread default streams.
    struct cudart_stream_functions stream[2];
};

extern struct cudart_driver cudart_driver;

// One driver function, by base name and the CUDA version that introduced its ABI. The generator
// finds these in the sources: a name written here is a name looked up.
#define DRIVER(function) (cudart_driver.function)
#define STREAM(function) (cudart_driver.stream[PER_THREAD].function)

// Loads the driver at the first call; afterwards answers how that went.
cudaError_t cudart_load(void);

// The driver's own look-up of a name, for cudaGetDriverEntryPoint. *status as the driver gives it
// (CU_GET_PROC_ADDRESS_SUCCESS, ..._SYMBOL_NOT_FOUND, ..._VERSION_NOT_SUFFICIENT).
CUresult cudart_look_up(const char *name, int version, unsigned long long flags, void **function,
                        int *status);

// --- the state of the process and its threads (context.c, error.c) ------------------------------

// The driver is there and initialised. Does not record an error.
cudaError_t cudart_enter(void);

// In addition the thread has a current context: its own, or the primary one of its device.
cudaError_t cudart_enter_context(void);

// The device of the thread: that of its current context, else the one it chose.
cudaError_t cudart_current_device(int *device);

// The primary context of a device, retained at its first use.
cudaError_t cudart_primary_context(int device, CUcontext *context);

// A number that changes when the primary context of a device is reset: what was loaded into that
// context before is gone.
unsigned cudart_context_generation(int device);

// Makes error the thread's last error unless it is cudaSuccess; returns it.
cudaError_t cudart_record(cudaError_t error);

// The error after which no more work is possible, or cudaSuccess.
cudaError_t cudart_lasting_error(void);

// CUresult and cudaError_t share their numbers (since CUDA 10.1).
static inline cudaError_t cudart_error(CUresult result) {
    return (cudaError_t)result;
}

// Evaluates a call (to the driver or one of ours) under what it needs, and records its error.
#define WITH_DRIVER(call) CUDART_GUARDED(cudart_enter(), call)
#define IN_CONTEXT(call)  CUDART_GUARDED(cudart_enter_context(), call)

#define CUDART_GUARDED(entry, call)                                                                \
    ({                                                                                             \
        cudaError_t error_ = (entry);                                                              \
        cudart_record(error_ != cudaSuccess ? error_ : (cudaError_t)(call));                       \
    })

// --- programs compiled by nvcc (registry.c) -----------------------------------------------------

// The kernel of a __global__ function (or of a cudaKernel_t), as the current context launches it.
cudaError_t cudart_function(const void *symbol, CUfunction *function);

// The memory of a __device__, __constant__ or __managed__ variable in the current context.
cudaError_t cudart_variable(const void *symbol, CUdeviceptr *address, size_t *size);

// --- formats (array.c) --------------------------------------------------------------------------

// false if there is no array of such elements.
bool cudart_array_format(const struct cudaChannelFormatDesc *desc, CUDA_ARRAY3D_DESCRIPTOR *array);

// The bytes of one element of an array; 0 for formats of blocks or planes.
cudaError_t cudart_element_size(cudaArray_const_t array, size_t *bytes);

// --- copies (copy.c) ----------------------------------------------------------------------------

// The driver's form of a 3D copy, for graphs too.
cudaError_t cudart_copy_3d(const struct cudaMemcpy3DParms *params, CUDA_MEMCPY3D *copy);

#endif
