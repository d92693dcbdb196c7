// SPDX-License-Identifier: Apache-2.0
//
// The way to the driver. It is NVIDIA's runtime's own, because tools that watch a program stand in
// it: at the first API call one dlopen of libcuda.so.1, one dlsym of cuGetProcAddress_v2 (of
// cuGetProcAddress before CUDA 12), then every function by name, version and flags through that
// pointer. The first of these look-ups has an empty name.

#include "runtime.h"

#include <dlfcn.h>
#include <pthread.h>

struct cudart_driver cudart_driver;

static struct {
    pthread_once_t once;
    cudaError_t outcome;
#if CUDART_VERSION >= 12000
    PFN_cuGetProcAddress_v12000 look_up;
#else
    PFN_cuGetProcAddress_v11030 look_up;
#endif
} loader = {.once = PTHREAD_ONCE_INIT};

// One look-up to make and where its result goes.
static const struct wanted {
    const char *name;
    int version;
    unsigned flags;
    size_t offset;
} wanted[] = {
#define DRIVER_ROW(name, version)                                                                  \
    {#name, version, 0, offsetof(struct cudart_driver, name##_v##version)},
#define STREAM_ROW(name, version, twin)                                                            \
    {#name, version, 0, offsetof(struct cudart_driver, stream[0].name##_v##version)},              \
        {#name, twin, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM,                               \
         offsetof(struct cudart_driver, stream[1].name##_v##version)},
#include "rows.h"
#undef DRIVER_ROW
#undef STREAM_ROW
};

// Stands in for a function that the driver lacks, whatever its parameters.
static CUresult needs_newer_driver(void) {
    return (CUresult)cudaErrorCallRequiresNewerDriver;
}

CUresult cudart_look_up(const char *name, int version, unsigned long long flags, void **function,
                        int *status) {
#if CUDART_VERSION >= 12000
    CUdriverProcAddressQueryResult found = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    CUresult result = loader.look_up(name, function, version, flags, &found);
    *status = found;
#else
    CUresult result = loader.look_up(name, function, version, flags);
    *status = result != CUDA_SUCCESS || !*function;
#endif
    return result;
}

static void look_up_all(void) {
    void *function = NULL;
    int status;
    cudart_look_up("", 0, 0, &function, &status);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        const struct wanted *w = &wanted[i];
        function = NULL;
        CUresult result = cudart_look_up(w->name, w->version, w->flags, &function, &status);
        if (result != CUDA_SUCCESS || !function) function = (void *)needs_newer_driver;
        *(void **)((char *)&cudart_driver + w->offset) = function;
    }
}

static cudaError_t load(void) {
#if CUDART_VERSION >= 12000
    static const char look_up_name[] = "cuGetProcAddress_v2";
#else
    static const char look_up_name[] = "cuGetProcAddress";
#endif
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library) return cudaErrorInsufficientDriver;
    *(void **)&loader.look_up = dlsym(library, look_up_name);
    if (!loader.look_up) return cudaErrorInsufficientDriver;
    look_up_all();

    // Any driver of the same major release will do (minor version compatibility).
    int version = 0;
    CUresult result = DRIVER(cuDriverGetVersion_v2020)
    (&version);
    if (result != CUDA_SUCCESS) return cudart_error(result);
    if (version / 1000 < CUDART_VERSION / 1000) return cudaErrorInsufficientDriver;
    return cudart_error(DRIVER(cuInit_v2000)(0));
}

static void load_once(void) {
    loader.outcome = load();
}

cudaError_t cudart_load(void) {
    pthread_once(&loader.once, load_once);
    return loader.outcome;
}

// Without a driver the answer is version 0 and success, so that programs can ask.
cudaError_t cudaDriverGetVersion(int *version) {
    if (!version) return cudart_record(cudaErrorInvalidValue);
    *version = 0;
    cudart_load();
    if (DRIVER(cuDriverGetVersion_v2020)) DRIVER(cuDriverGetVersion_v2020)
    (version);
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    if (!version) return cudart_record(cudaErrorInvalidValue);
    *version = CUDART_VERSION;
    return cudaSuccess;
}
