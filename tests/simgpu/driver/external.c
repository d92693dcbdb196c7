// SPDX-License-Identifier: Apache-2.0
// Memory and semaphores of other APIs, imported by file descriptor, and graphics resources.
#include "device.h"
#include "memory.h"
#include "stream.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct external {
    struct object object;
    size_t size;
    uintptr_t base;
    int device;
};

ALLOCATES CUresult sim_cuImportExternalMemory(
    CUexternalMemory *extMem_out, const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *memHandleDesc) {
    ATTEMPT(context_device(), SPACE_IMPORTED);
    NEED_CONTEXT(context);
    if (!extMem_out || !memHandleDesc || !memHandleDesc->size) return CUDA_ERROR_INVALID_VALUE;
    if (memHandleDesc->type != CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD &&
        memHandleDesc->type != CU_EXTERNAL_MEMORY_HANDLE_TYPE_DMABUF_FD)
        return CUDA_ERROR_NOT_SUPPORTED;
    struct external *external = object_new(OBJECT_EXTERNAL, sizeof *external);
    if (!external) return CUDA_ERROR_OUT_OF_MEMORY;
    int file = memHandleDesc->handle.fd;
    void *map = mmap(NULL, memHandleDesc->size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) {
        object_delete(external, OBJECT_EXTERNAL);
        return CUDA_ERROR_INVALID_VALUE;
    }
    close(file); // a successful import owns the descriptor
    external->base = (uintptr_t)map;
    external->size = memHandleDesc->size;
    external->device = context->device;
    books_alloc(external->device, SPACE_IMPORTED, external->size);
    *extMem_out = (CUexternalMemory)external;
    return CUDA_SUCCESS;
}

CUresult sim_cuDestroyExternalMemory(CUexternalMemory extMem) {
    struct external *external = (struct external *)extMem;
    if (!object_is(external, OBJECT_EXTERNAL)) return CUDA_ERROR_INVALID_HANDLE;
    books_free(external->device, SPACE_IMPORTED, external->size);
    munmap((void *)external->base, external->size);
    object_delete(external, OBJECT_EXTERNAL);
    return CUDA_SUCCESS;
}

// A buffer is a second mapping of its own, so that freeing it and destroying the import are
// independent; mremap with old size 0 duplicates a shared mapping.
ALLOCATES CUresult
sim_cuExternalMemoryGetMappedBuffer(CUdeviceptr *devPtr, CUexternalMemory extMem,
                                    const CUDA_EXTERNAL_MEMORY_BUFFER_DESC *bufferDesc) {
    struct external *external = (struct external *)extMem;
    bool known = object_is(external, OBJECT_EXTERNAL);
    ATTEMPT(known ? external->device : context_device(), SPACE_IMPORTED);
    if (!known) return CUDA_ERROR_INVALID_HANDLE;
    if (!devPtr || !bufferDesc || !bufferDesc->size) return CUDA_ERROR_INVALID_VALUE;
    size_t offset = bufferDesc->offset, page = (size_t)sysconf(_SC_PAGESIZE), skip = offset % page;
    if (offset > external->size || bufferDesc->size > external->size - offset)
        return CUDA_ERROR_INVALID_VALUE;
    void *map = mremap((void *)(external->base + offset - skip), 0,
                       round_up(bufferDesc->size + skip, page), MREMAP_MAYMOVE);
    if (map == MAP_FAILED) return CUDA_ERROR_MAP_FAILED;
    struct block block = {.base = (uintptr_t)map + skip,
                          .size = bufferDesc->size,
                          .span = bufferDesc->size,
                          .kind = BLOCK_EXTERNAL,
                          .space = SPACE_IMPORTED,
                          .device = external->device,
                          .id = block_new_id()};
    block_add(&block);
    books_alloc(block.device, SPACE_IMPORTED, 0);
    *devPtr = block.base;
    return CUDA_SUCCESS;
}

ALLOCATES CUresult sim_cuExternalMemoryGetMappedMipmappedArray(
    CUmipmappedArray *mipmap, CUexternalMemory extMem,
    const CUDA_EXTERNAL_MEMORY_MIPMAPPED_ARRAY_DESC *mipmapDesc) {
    struct external *external = (struct external *)extMem;
    bool known = object_is(external, OBJECT_EXTERNAL);
    ATTEMPT(known ? external->device : context_device(), SPACE_IMPORTED);
    if (!known) return CUDA_ERROR_INVALID_HANDLE;
    if (!mipmap || !mipmapDesc || mipmapDesc->offset > external->size)
        return CUDA_ERROR_INVALID_VALUE;
    return mipmap_of_external(mipmapDesc, external->base + mipmapDesc->offset, mipmap);
}

// ---- semaphores: always signalled ---------------------------------------------------------------

CUresult sim_cuImportExternalSemaphore(CUexternalSemaphore *extSem_out,
                                       const CUDA_EXTERNAL_SEMAPHORE_HANDLE_DESC *semHandleDesc) {
    if (!extSem_out || !semHandleDesc) return CUDA_ERROR_INVALID_VALUE;
    struct object *semaphore = object_new(OBJECT_SEMAPHORE, sizeof *semaphore);
    if (!semaphore) return CUDA_ERROR_OUT_OF_MEMORY;
    *extSem_out = (CUexternalSemaphore)semaphore;
    return CUDA_SUCCESS;
}

CUresult sim_cuDestroyExternalSemaphore(CUexternalSemaphore extSem) {
    if (!object_is(extSem, OBJECT_SEMAPHORE)) return CUDA_ERROR_INVALID_HANDLE;
    object_delete(extSem, OBJECT_SEMAPHORE);
    return CUDA_SUCCESS;
}

static CUresult use_semaphores(const CUexternalSemaphore *semaphores, unsigned count,
                               CUstream handle) {
    struct stream *stream;
    CUresult result = stream_get(handle, &stream);
    if (result != CUDA_SUCCESS) return result;
    for (unsigned i = 0; i < count; i++)
        if (!object_is(semaphores[i], OBJECT_SEMAPHORE)) return CUDA_ERROR_INVALID_HANDLE;
    struct op op = {.kind = OP_NOTHING};
    return stream_submit_or_capture(stream, &op, CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL, NULL);
}

CUresult
sim_cuSignalExternalSemaphoresAsync(const CUexternalSemaphore *extSemArray,
                                    const CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS *paramsArray,
                                    unsigned int numExtSems, CUstream stream) {
    (void)paramsArray;
    return use_semaphores(extSemArray, numExtSems, stream);
}

CUresult sim_cuWaitExternalSemaphoresAsync(const CUexternalSemaphore *extSemArray,
                                           const CUDA_EXTERNAL_SEMAPHORE_WAIT_PARAMS *paramsArray,
                                           unsigned int numExtSems, CUstream stream) {
    (void)paramsArray;
    return use_semaphores(extSemArray, numExtSems, stream);
}
