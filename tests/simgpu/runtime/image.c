// SPDX-License-Identifier: Apache-2.0
//
// The two ways to give an image to the driver, each in one half of this file: as a library (CUDA 12
// and later), which needs no context and outlives a reset, or as a module of each context (before).

#include "image.h"

#include <stdlib.h>

// The driver's words for a missing symbol and the runtime's.
static cudaError_t not_found(CUresult result, cudaError_t instead) {
    return result == CUDA_ERROR_NOT_FOUND ? instead : cudart_error(result);
}

#if CUDART_VERSION >= 12000

static cudaError_t load(struct image *image) {
    if (image->library) return cudaSuccess;
    return cudart_error(DRIVER(cuLibraryLoadData_v12000)(&image->library, image->code, NULL, NULL,
                                                         0, NULL, NULL, 0));
}

cudaError_t cudart_image_kernel(struct image *image, const char *name, CUkernel *kernel) {
    cudaError_t error = load(image);
    if (error != cudaSuccess) return error;
    return not_found(DRIVER(cuLibraryGetKernel_v12000)(kernel, image->library, name),
                     cudaErrorInvalidDeviceFunction);
}

cudaError_t cudart_image_function(struct image *image, const char *name, CUfunction *function) {
    CUkernel kernel;
    cudaError_t error = cudart_image_kernel(image, name, &kernel);
    if (error != cudaSuccess) return error;
    return cudart_error(DRIVER(cuKernelGetFunction_v12000)(function, kernel));
}

cudaError_t cudart_image_variable(struct image *image, const char *name, CUdeviceptr *address,
                                  size_t *size) {
    cudaError_t error = load(image);
    if (error != cudaSuccess) return error;
    return not_found(DRIVER(cuLibraryGetGlobal_v12000)(address, size, image->library, name),
                     cudaErrorInvalidSymbol);
}

void cudart_image_unload(struct image *image) {
    if (image->library) DRIVER(cuLibraryUnload_v12000)
    (image->library);
    image->library = NULL;
}

#else

struct cudart_module {
    CUcontext context;
    int device;
    unsigned generation; // of the device's primary context when it was loaded
    CUmodule module;
    struct cudart_module *next;
};

// What was loaded before a reset of the device is gone with it, and its handle with that.
static bool is_valid(const struct cudart_module *loaded) {
    return loaded->generation == cudart_context_generation(loaded->device);
}

static cudaError_t load(struct image *image, CUmodule *module) {
    struct cudart_module here = {.next = image->modules};
    CUresult result = DRIVER(cuCtxGetCurrent_v4000)
    (&here.context);
    if (result == CUDA_SUCCESS) result = DRIVER(cuCtxGetDevice_v2000)
    (&here.device);
    if (result != CUDA_SUCCESS) return cudart_error(result);
    here.generation = cudart_context_generation(here.device);
    for (struct cudart_module *known = image->modules; known; known = known->next) {
        if (known->context != here.context || !is_valid(known)) continue;
        *module = known->module;
        return cudaSuccess;
    }
    struct cudart_module *loaded = malloc(sizeof *loaded);
    if (!loaded) return cudaErrorMemoryAllocation;
    result = DRIVER(cuModuleLoadData_v2000)
    (&here.module, image->code);
    if (result != CUDA_SUCCESS) {
        free(loaded);
        return cudart_error(result);
    }
    *loaded = here;
    image->modules = loaded;
    *module = here.module;
    return cudaSuccess;
}

cudaError_t cudart_image_function(struct image *image, const char *name, CUfunction *function) {
    CUmodule module;
    cudaError_t error = load(image, &module);
    if (error != cudaSuccess) return error;
    return not_found(DRIVER(cuModuleGetFunction_v2000)(function, module, name),
                     cudaErrorInvalidDeviceFunction);
}

cudaError_t cudart_image_variable(struct image *image, const char *name, CUdeviceptr *address,
                                  size_t *size) {
    CUmodule module;
    cudaError_t error = load(image, &module);
    if (error != cudaSuccess) return error;
    return not_found(DRIVER(cuModuleGetGlobal_v3020)(address, size, module, name),
                     cudaErrorInvalidSymbol);
}

void cudart_image_unload(struct image *image) {
    for (struct cudart_module *loaded = image->modules, *next; loaded; loaded = next) {
        next = loaded->next;
        if (is_valid(loaded)) DRIVER(cuModuleUnload_v2000)
        (loaded->module);
        free(loaded);
    }
    image->modules = NULL;
}

#endif
