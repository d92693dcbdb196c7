// SPDX-License-Identifier: Apache-2.0
//
// Linear memory where the runtime's rules differ from the driver's: no bytes are no error, a null
// pointer may be freed, and a pointer that no allocation knows can be asked about.

#include "runtime.h"

static cudaError_t allocate(void **pointer, size_t size) {
    if (!pointer) return cudaErrorInvalidValue;
    *pointer = NULL;
    if (size == 0) return cudaSuccess;
    return cudart_error(DRIVER(cuMemAlloc_v3020)((CUdeviceptr *)pointer, size));
}

cudaError_t cudaMalloc(void **pointer, size_t size) {
    return IN_CONTEXT(allocate(pointer, size));
}

cudaError_t cudaFree(void *pointer) {
    return IN_CONTEXT(pointer ? DRIVER(cuMemFree_v3020)((CUdeviceptr)pointer) : CUDA_SUCCESS);
}

static cudaError_t allocate_host(void **pointer, size_t size, unsigned flags) {
    if (!pointer) return cudaErrorInvalidValue;
    *pointer = NULL;
    if (size == 0) return cudaSuccess;
    return cudart_error(DRIVER(cuMemHostAlloc_v2020)(pointer, size, flags));
}

cudaError_t cudaMallocHost(void **pointer, size_t size) {
    return IN_CONTEXT(allocate_host(pointer, size, 0));
}

cudaError_t cudaHostAlloc(void **pointer, size_t size, unsigned flags) {
    return IN_CONTEXT(allocate_host(pointer, size, flags));
}

cudaError_t cudaFreeHost(void *pointer) {
    return IN_CONTEXT(pointer ? DRIVER(cuMemFreeHost_v2000)(pointer) : CUDA_SUCCESS);
}

// The rows of a pitched allocation start at multiples of what any element type needs.
static cudaError_t allocate_rows(void **pointer, size_t *pitch, size_t width, size_t rows) {
    enum { LARGEST_ELEMENT = 16 };
    if (!pointer || !pitch) return cudaErrorInvalidValue;
    *pointer = NULL;
    *pitch = 0;
    if (width == 0 || rows == 0) return cudaSuccess;
    return cudart_error(
        DRIVER(cuMemAllocPitch_v3020)((CUdeviceptr *)pointer, pitch, width, rows, LARGEST_ELEMENT));
}

cudaError_t cudaMallocPitch(void **pointer, size_t *pitch, size_t width, size_t height) {
    return IN_CONTEXT(allocate_rows(pointer, pitch, width, height));
}

static cudaError_t allocate_volume(struct cudaPitchedPtr *volume, struct cudaExtent extent) {
    size_t rows;
    if (!volume || __builtin_mul_overflow(extent.height, extent.depth, &rows))
        return cudaErrorInvalidValue;
    volume->xsize = extent.width;
    volume->ysize = extent.height;
    return allocate_rows(&volume->ptr, &volume->pitch, extent.width, rows);
}

cudaError_t cudaMalloc3D(struct cudaPitchedPtr *volume, struct cudaExtent extent) {
    return IN_CONTEXT(allocate_volume(volume, extent));
}

static enum cudaMemoryType memory_type(unsigned type, int managed) {
    if (managed) return cudaMemoryTypeManaged;
    if (type == CU_MEMORYTYPE_HOST) return cudaMemoryTypeHost;
    if (type == CU_MEMORYTYPE_DEVICE) return cudaMemoryTypeDevice;
    return cudaMemoryTypeUnregistered;
}

static cudaError_t pointer_attributes(struct cudaPointerAttributes *out, const void *pointer) {
    if (!out) return cudaErrorInvalidValue;
    unsigned type = 0;
    int managed = 0, ordinal = 0;
    CUdeviceptr device_pointer = 0;
    void *host_pointer = NULL;
    CUpointer_attribute names[] = {
        CU_POINTER_ATTRIBUTE_MEMORY_TYPE,    CU_POINTER_ATTRIBUTE_IS_MANAGED,
        CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_DEVICE_POINTER,
        CU_POINTER_ATTRIBUTE_HOST_POINTER,
    };
    void *values[] = {&type, &managed, &ordinal, &device_pointer, &host_pointer};
    CUresult result = DRIVER(cuPointerGetAttributes_v7000)
    (sizeof names / sizeof *names, names, values, (CUdeviceptr)pointer);
    if (result != CUDA_SUCCESS) return cudart_error(result);

    *out = (struct cudaPointerAttributes){
        .type = memory_type(type, managed),
        .device = ordinal,
        .devicePointer = (void *)device_pointer,
        .hostPointer = host_pointer,
    };
    if (out->type == cudaMemoryTypeUnregistered) {
        out->device = cudaInvalidDeviceId;
        out->devicePointer = NULL;
        out->hostPointer = (void *)pointer;
    }
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *out, const void *pointer) {
    return IN_CONTEXT(pointer_attributes(out, pointer));
}
