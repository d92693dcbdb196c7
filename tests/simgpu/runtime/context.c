// SPDX-License-Identifier: Apache-2.0
//
// Which context a thread works in. The runtime uses the primary context of each device: it retains
// one at the first need and makes it current in each thread that has none. A context which the
// program made current through the driver API is left as it is and used.

#include "runtime.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct primary {
    CUcontext context;
    bool retained;
    // Counts the resets: a thread that made the context current before one has to do so again.
    _Atomic unsigned generation;
};

static struct {
    pthread_once_t once;
    cudaError_t outcome; // of counting the devices
    int device_count;
    pthread_mutex_t lock; // for context and retained of all primaries
    struct primary *primaries;
} process = {.once = PTHREAD_ONCE_INIT, .lock = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local struct {
    int device;      // chosen by cudaSetDevice
    CUcontext bound; // the primary context which we made current, or NULL
    int bound_device;
    unsigned generation; // of bound
} self;

static atomic_bool unloading;

__attribute__((destructor)) static void unload(void) {
    atomic_store(&unloading, true);
}

static void count_devices(void) {
    process.outcome = cudart_error(DRIVER(cuDeviceGetCount_v2000)(&process.device_count));
    if (process.outcome != cudaSuccess) return;
    process.primaries = calloc((size_t)process.device_count, sizeof *process.primaries);
    if (!process.primaries) process.outcome = cudaErrorMemoryAllocation;
}

cudaError_t cudart_enter(void) {
    if (atomic_load_explicit(&unloading, memory_order_relaxed)) return cudaErrorCudartUnloading;
    cudaError_t error = cudart_load();
    if (error != cudaSuccess) return error;
    pthread_once(&process.once, count_devices);
    return process.outcome;
}

static cudaError_t check_device(int device) {
    bool known = device >= 0 && device < process.device_count;
    return known ? cudaSuccess : cudaErrorInvalidDevice;
}

static cudaError_t retain(int device, CUcontext *context, unsigned *generation) {
    struct primary *primary = &process.primaries[device];
    CUresult result = CUDA_SUCCESS;
    pthread_mutex_lock(&process.lock);
    if (!primary->retained) {
        result = DRIVER(cuDevicePrimaryCtxRetain_v7000)
        (&primary->context, device);
        primary->retained = result == CUDA_SUCCESS;
    }
    *context = primary->context;
    *generation = atomic_load(&primary->generation);
    pthread_mutex_unlock(&process.lock);
    return cudart_error(result);
}

cudaError_t cudart_primary_context(int device, CUcontext *context) {
    unsigned generation;
    cudaError_t error = check_device(device);
    return error != cudaSuccess ? error : retain(device, context, &generation);
}

unsigned cudart_context_generation(int device) {
    return atomic_load(&process.primaries[device].generation);
}

// Makes the primary context of a device current in this thread.
static cudaError_t bind(int device) {
    CUcontext context;
    unsigned generation;
    cudaError_t error = retain(device, &context, &generation);
    if (error != cudaSuccess) return error;
    error = cudart_error(DRIVER(cuCtxSetCurrent_v4000)(context));
    if (error != cudaSuccess) return error;
    self.bound = context;
    self.bound_device = device;
    self.generation = generation;
    return cudaSuccess;
}

static cudaError_t unbind(void) {
    self.bound = NULL;
    return cudart_error(DRIVER(cuCtxSetCurrent_v4000)(NULL));
}

// True for a context that this thread can work in: not one of ours from before a reset.
static bool is_usable(CUcontext context) {
    if (!context) return false;
    if (context != self.bound) return true;
    return self.generation == cudart_context_generation(self.bound_device);
}

cudaError_t cudart_enter_context(void) {
    cudaError_t error = cudart_enter();
    if (error != cudaSuccess) return error;
    error = cudart_lasting_error();
    if (error != cudaSuccess) return error;
    CUcontext current = NULL;
    error = cudart_error(DRIVER(cuCtxGetCurrent_v4000)(&current));
    if (error != cudaSuccess || is_usable(current)) return error;
    error = check_device(self.device);
    return error != cudaSuccess ? error : bind(self.device);
}

// One call of the driver, as in NVIDIA's own 11.0, 12 and 13 (read in their code): programs ask for
// the device often, PyTorch five times an allocation, and whoever watches the driver pays each
// time.
static CUresult device_of_current_context(CUdevice *device) {
#if CUDART_VERSION >= 13000
    return DRIVER(cuCtxGetDevice_v13000)
    (device, NULL);
#else
    return DRIVER(cuCtxGetDevice_v2000)
    (device);
#endif
}

cudaError_t cudart_current_device(int *device) {
    CUdevice of_context;
    CUresult result = device_of_current_context(&of_context);
    // Of a context that was ours before a reset nothing is left that the program knows of.
    bool before_reset =
        result == CUDA_ERROR_CONTEXT_IS_DESTROYED && self.bound && !is_usable(self.bound);
    bool none = result == CUDA_ERROR_INVALID_CONTEXT || before_reset;
    *device = result == CUDA_SUCCESS ? of_context : self.device;
    return none ? cudaSuccess : cudart_error(result);
}

// --- the API ------------------------------------------------------------------------------------

cudaError_t cudaGetDevice(int *device) {
    if (!device) return cudart_record(cudaErrorInvalidValue);
    return WITH_DRIVER(cudart_current_device(device));
}

// Since CUDA 12 the primary context is created here, before that at the first call that needs it.
static cudaError_t set_device(int device) {
    cudaError_t error = check_device(device);
    if (error != cudaSuccess) return error;
#if CUDART_VERSION >= 12000
    error = bind(device);
#else
    error = self.bound && self.bound_device == device ? cudaSuccess : unbind();
#endif
    if (error == cudaSuccess) self.device = device;
    return error;
}

cudaError_t cudaSetDevice(int device) {
    return WITH_DRIVER(set_device(device));
}

// The first device of the list becomes the thread's; the others would serve if it were exclusive.
cudaError_t cudaSetValidDevices(int *devices, int count) {
    if (count < 0 || (count > 0 && !devices)) return cudart_record(cudaErrorInvalidValue);
    return WITH_DRIVER(set_device(count > 0 ? devices[0] : 0));
}

static cudaError_t set_flags(int device, unsigned flags) {
    return cudart_error(DRIVER(cuDevicePrimaryCtxSetFlags_v11000)(device, flags));
}

#if CUDART_VERSION >= 12000
static cudaError_t init_device(int device, unsigned device_flags, unsigned flags) {
    if (flags & ~(unsigned)cudaInitDeviceFlagsAreValid) return cudaErrorInvalidValue;
    cudaError_t error = check_device(device);
    if (error == cudaSuccess && flags & cudaInitDeviceFlagsAreValid)
        error = set_flags(device, device_flags);
    CUcontext context;
    return error != cudaSuccess ? error : cudart_primary_context(device, &context);
}

cudaError_t cudaInitDevice(int device, unsigned device_flags, unsigned flags) {
    return WITH_DRIVER(init_device(device, device_flags, flags));
}
#endif

static cudaError_t set_current_flags(unsigned flags) {
    int device;
    cudaError_t error = cudart_current_device(&device);
    // Device memory is always mappable; the flag is accepted and means nothing to the driver.
    return error != cudaSuccess ? error : set_flags(device, flags & ~(unsigned)cudaDeviceMapHost);
}

cudaError_t cudaSetDeviceFlags(unsigned flags) {
    return WITH_DRIVER(set_current_flags(flags));
}

static cudaError_t get_current_flags(unsigned *flags) {
    int device, active;
    cudaError_t error = cudart_current_device(&device);
    if (error != cudaSuccess) return error;
    error = cudart_error(DRIVER(cuDevicePrimaryCtxGetState_v7000)(device, flags, &active));
    *flags |= cudaDeviceMapHost;
    return error;
}

cudaError_t cudaGetDeviceFlags(unsigned *flags) {
    if (!flags) return cudart_record(cudaErrorInvalidValue);
    return WITH_DRIVER(get_current_flags(flags));
}

// The reset ends everything in the device's primary context; the next call starts a new one.
static cudaError_t reset_device(void) {
    int device;
    cudaError_t error = cudart_current_device(&device);
    if (error != cudaSuccess) return error;
    struct primary *primary = &process.primaries[device];
    pthread_mutex_lock(&process.lock);
    error = cudart_error(DRIVER(cuDevicePrimaryCtxReset_v11000)(device));
    if (error == cudaSuccess) {
        // A reset keeps the references; ours is given back, so that the next retain is the first.
        if (primary->retained) DRIVER(cuDevicePrimaryCtxRelease_v11000)
        (device);
        primary->retained = false;
        atomic_fetch_add(&primary->generation, 1);
    }
    pthread_mutex_unlock(&process.lock);
    return error == cudaSuccess && self.bound && self.bound_device == device ? unbind() : error;
}

cudaError_t cudaDeviceReset(void) {
    return WITH_DRIVER(reset_device());
}

#if CUDART_VERSION < 13000
cudaError_t cudaThreadExit(void) {
    return cudaDeviceReset();
}
#endif

static cudaError_t enable_peer_access(int peer, unsigned flags) {
    CUcontext context;
    cudaError_t error = cudart_primary_context(peer, &context);
    if (error != cudaSuccess) return error;
    return cudart_error(DRIVER(cuCtxEnablePeerAccess_v4000)(context, flags));
}

static cudaError_t disable_peer_access(int peer) {
    CUcontext context;
    cudaError_t error = cudart_primary_context(peer, &context);
    if (error != cudaSuccess) return error;
    return cudart_error(DRIVER(cuCtxDisablePeerAccess_v4000)(context));
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
    return IN_CONTEXT(enable_peer_access(peer, flags));
}

cudaError_t cudaDeviceDisablePeerAccess(int peer) {
    return IN_CONTEXT(disable_peer_access(peer));
}
