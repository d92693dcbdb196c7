// SPDX-License-Identifier: Apache-2.0
//
// Memory of other interfaces. The runtime's descriptors have the driver's members, but lost or
// gained the reserved space behind them over the releases.

#include "runtime.h"

static cudaError_t import(cudaExternalMemory_t *memory,
                          const struct cudaExternalMemoryHandleDesc *desc) {
    if (!memory || !desc) return cudaErrorInvalidValue;
    CUDA_EXTERNAL_MEMORY_HANDLE_DESC wanted = {
        .type = (CUexternalMemoryHandleType)desc->type,
        .size = desc->size,
        .flags = desc->flags,
    };
    _Static_assert(sizeof wanted.handle == sizeof desc->handle, "layout");
    __builtin_memcpy(&wanted.handle, &desc->handle, sizeof wanted.handle);
    return cudart_error(DRIVER(cuImportExternalMemory_v10000)((CUexternalMemory *)memory, &wanted));
}

cudaError_t cudaImportExternalMemory(cudaExternalMemory_t *memory,
                                     const struct cudaExternalMemoryHandleDesc *desc) {
    return IN_CONTEXT(import(memory, desc));
}

static cudaError_t map_buffer(void **pointer, cudaExternalMemory_t memory,
                              const struct cudaExternalMemoryBufferDesc *desc) {
    if (!pointer || !desc) return cudaErrorInvalidValue;
    CUDA_EXTERNAL_MEMORY_BUFFER_DESC wanted = {
        .offset = desc->offset, .size = desc->size, .flags = desc->flags};
    return cudart_error(DRIVER(cuExternalMemoryGetMappedBuffer_v10000)(
        (CUdeviceptr *)pointer, (CUexternalMemory)memory, &wanted));
}

cudaError_t cudaExternalMemoryGetMappedBuffer(void **pointer, cudaExternalMemory_t memory,
                                              const struct cudaExternalMemoryBufferDesc *desc) {
    return IN_CONTEXT(map_buffer(pointer, memory, desc));
}

static cudaError_t map_array(cudaMipmappedArray_t *array, cudaExternalMemory_t memory,
                             const struct cudaExternalMemoryMipmappedArrayDesc *desc) {
    if (!array || !desc) return cudaErrorInvalidValue;
    CUDA_EXTERNAL_MEMORY_MIPMAPPED_ARRAY_DESC wanted = {
        .offset = desc->offset,
        .arrayDesc = {.Width = desc->extent.width,
                      .Height = desc->extent.height,
                      .Depth = desc->extent.depth,
                      .Flags = desc->flags},
        .numLevels = desc->numLevels,
    };
    if (!cudart_array_format(&desc->formatDesc, &wanted.arrayDesc))
        return cudaErrorInvalidChannelDescriptor;
    return cudart_error(DRIVER(cuExternalMemoryGetMappedMipmappedArray_v10000)(
        (CUmipmappedArray *)array, (CUexternalMemory)memory, &wanted));
}

cudaError_t
cudaExternalMemoryGetMappedMipmappedArray(cudaMipmappedArray_t *array, cudaExternalMemory_t memory,
                                          const struct cudaExternalMemoryMipmappedArrayDesc *desc) {
    return IN_CONTEXT(map_array(array, memory, desc));
}
