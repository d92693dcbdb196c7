// SPDX-License-Identifier: Apache-2.0
//
// Copies and fills. The runtime has one function per shape and tells the direction by a parameter;
// the driver has functions per direction for plain ranges, and a descriptor for everything else.
//
// Compiled twice: every function here has a twin for per-thread default streams.

#include "runtime.h"

// --- ranges -------------------------------------------------------------------------------------

static cudaError_t copy(void *to, const void *from, size_t count, enum cudaMemcpyKind kind) {
    CUdeviceptr device_to = (CUdeviceptr)to, device_from = (CUdeviceptr)from;
    if (count == 0) return cudaSuccess;
    switch (kind) {
    case cudaMemcpyHostToDevice:
        return cudart_error(STREAM(cuMemcpyHtoD_v3020)(device_to, from, count));
    case cudaMemcpyDeviceToHost:
        return cudart_error(STREAM(cuMemcpyDtoH_v3020)(to, device_from, count));
    case cudaMemcpyDeviceToDevice:
        return cudart_error(STREAM(cuMemcpyDtoD_v3020)(device_to, device_from, count));
    case cudaMemcpyHostToHost:
    case cudaMemcpyDefault:
        return cudart_error(STREAM(cuMemcpy_v4000)(device_to, device_from, count));
    default:
        return cudaErrorInvalidMemcpyDirection;
    }
}

static cudaError_t copy_async(void *to, const void *from, size_t count, enum cudaMemcpyKind kind,
                              cudaStream_t stream) {
    CUdeviceptr device_to = (CUdeviceptr)to, device_from = (CUdeviceptr)from;
    if (count == 0) return cudaSuccess;
    switch (kind) {
    case cudaMemcpyHostToDevice:
        return cudart_error(STREAM(cuMemcpyHtoDAsync_v3020)(device_to, from, count, stream));
    case cudaMemcpyDeviceToHost:
        return cudart_error(STREAM(cuMemcpyDtoHAsync_v3020)(to, device_from, count, stream));
    case cudaMemcpyDeviceToDevice:
        return cudart_error(STREAM(cuMemcpyDtoDAsync_v3020)(device_to, device_from, count, stream));
    case cudaMemcpyHostToHost:
    case cudaMemcpyDefault:
        return cudart_error(STREAM(cuMemcpyAsync_v4000)(device_to, device_from, count, stream));
    default:
        return cudaErrorInvalidMemcpyDirection;
    }
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t count, enum cudaMemcpyKind kind) {
    return IN_CONTEXT(copy(to, from, count, kind));
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t count, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
    return IN_CONTEXT(copy_async(to, from, count, kind, stream));
}

// --- variables of nvcc programs -----------------------------------------------------------------

// The address at an offset in a variable, with count bytes behind it.
static cudaError_t in_variable(const void *symbol, size_t offset, size_t count, void **address) {
    CUdeviceptr start;
    size_t size;
    cudaError_t error = cudart_variable(symbol, &start, &size);
    if (error != cudaSuccess) return error;
    if (offset > size || count > size - offset) return cudaErrorInvalidValue;
    *address = (void *)(start + offset);
    return cudaSuccess;
}

static cudaError_t copy_to_symbol(const void *symbol, const void *from, size_t count, size_t offset,
                                  enum cudaMemcpyKind kind) {
    void *to;
    cudaError_t error = in_variable(symbol, offset, count, &to);
    return error != cudaSuccess ? error : copy(to, from, count, kind);
}

static cudaError_t copy_to_symbol_async(const void *symbol, const void *from, size_t count,
                                        size_t offset, enum cudaMemcpyKind kind,
                                        cudaStream_t stream) {
    void *to;
    cudaError_t error = in_variable(symbol, offset, count, &to);
    return error != cudaSuccess ? error : copy_async(to, from, count, kind, stream);
}

static cudaError_t copy_from_symbol(void *to, const void *symbol, size_t count, size_t offset,
                                    enum cudaMemcpyKind kind) {
    void *from;
    cudaError_t error = in_variable(symbol, offset, count, &from);
    return error != cudaSuccess ? error : copy(to, from, count, kind);
}

static cudaError_t copy_from_symbol_async(void *to, const void *symbol, size_t count, size_t offset,
                                          enum cudaMemcpyKind kind, cudaStream_t stream) {
    void *from;
    cudaError_t error = in_variable(symbol, offset, count, &from);
    return error != cudaSuccess ? error : copy_async(to, from, count, kind, stream);
}

cudaError_t cudaMemcpyToSymbol(const void *symbol, const void *from, size_t count, size_t offset,
                               enum cudaMemcpyKind kind) {
    return IN_CONTEXT(copy_to_symbol(symbol, from, count, offset, kind));
}

cudaError_t cudaMemcpyToSymbolAsync(const void *symbol, const void *from, size_t count,
                                    size_t offset, enum cudaMemcpyKind kind, cudaStream_t stream) {
    return IN_CONTEXT(copy_to_symbol_async(symbol, from, count, offset, kind, stream));
}

cudaError_t cudaMemcpyFromSymbol(void *to, const void *symbol, size_t count, size_t offset,
                                 enum cudaMemcpyKind kind) {
    return IN_CONTEXT(copy_from_symbol(to, symbol, count, offset, kind));
}

cudaError_t cudaMemcpyFromSymbolAsync(void *to, const void *symbol, size_t count, size_t offset,
                                      enum cudaMemcpyKind kind, cudaStream_t stream) {
    return IN_CONTEXT(copy_from_symbol_async(to, symbol, count, offset, kind, stream));
}

// --- rectangles ---------------------------------------------------------------------------------

// One side of a 2D copy: rows in linear memory, or a place in an array.
struct side {
    const void *memory;
    size_t pitch;
    cudaArray_const_t array;
    size_t x, y; // in bytes and rows
};

// The kinds of memory that a direction names.
static cudaError_t memory_types(enum cudaMemcpyKind kind, CUmemorytype *from, CUmemorytype *to) {
    static const struct {
        CUmemorytype from, to;
    } types[] = {
        [cudaMemcpyHostToHost] = {CU_MEMORYTYPE_HOST, CU_MEMORYTYPE_HOST},
        [cudaMemcpyHostToDevice] = {CU_MEMORYTYPE_HOST, CU_MEMORYTYPE_DEVICE},
        [cudaMemcpyDeviceToHost] = {CU_MEMORYTYPE_DEVICE, CU_MEMORYTYPE_HOST},
        [cudaMemcpyDeviceToDevice] = {CU_MEMORYTYPE_DEVICE, CU_MEMORYTYPE_DEVICE},
        [cudaMemcpyDefault] = {CU_MEMORYTYPE_UNIFIED, CU_MEMORYTYPE_UNIFIED},
    };
    if ((size_t)kind >= sizeof types / sizeof *types) return cudaErrorInvalidMemcpyDirection;
    *from = types[kind].from;
    *to = types[kind].to;
    return cudaSuccess;
}

static cudaError_t describe_2d(const struct side *to, const struct side *from, size_t width,
                               size_t height, enum cudaMemcpyKind kind, CUDA_MEMCPY2D *copy) {
    *copy = (CUDA_MEMCPY2D){
        .srcXInBytes = from->x,
        .srcY = from->y,
        .srcHost = from->memory,
        .srcDevice = (CUdeviceptr)from->memory,
        .srcArray = (CUarray)from->array,
        .srcPitch = from->pitch,
        .dstXInBytes = to->x,
        .dstY = to->y,
        .dstHost = (void *)to->memory,
        .dstDevice = (CUdeviceptr)to->memory,
        .dstArray = (CUarray)to->array,
        .dstPitch = to->pitch,
        .WidthInBytes = width,
        .Height = height,
    };
    cudaError_t error = memory_types(kind, &copy->srcMemoryType, &copy->dstMemoryType);
    if (error != cudaSuccess) return error;
    if (from->array) copy->srcMemoryType = CU_MEMORYTYPE_ARRAY;
    if (to->array) copy->dstMemoryType = CU_MEMORYTYPE_ARRAY;
    bool pitch_too_small =
        (!from->array && width > from->pitch) || (!to->array && width > to->pitch);
    return pitch_too_small ? cudaErrorInvalidPitchValue : cudaSuccess;
}

static cudaError_t copy_2d(struct side to, struct side from, size_t width, size_t height,
                           enum cudaMemcpyKind kind) {
    CUDA_MEMCPY2D copy;
    cudaError_t error = describe_2d(&to, &from, width, height, kind, &copy);
    if (error != cudaSuccess || width == 0 || height == 0) return error;
    return cudart_error(STREAM(cuMemcpy2DUnaligned_v3020)(&copy));
}

static cudaError_t copy_2d_async(struct side to, struct side from, size_t width, size_t height,
                                 enum cudaMemcpyKind kind, cudaStream_t stream) {
    CUDA_MEMCPY2D copy;
    cudaError_t error = describe_2d(&to, &from, width, height, kind, &copy);
    if (error != cudaSuccess || width == 0 || height == 0) return error;
    return cudart_error(STREAM(cuMemcpy2DAsync_v3020)(&copy, stream));
}

#define ROWS(address, row_pitch) ((struct side){.memory = (address), .pitch = (row_pitch)})
#define PLACE(in_array, x_bytes, y_rows)                                                           \
    ((struct side){.array = (in_array), .x = (x_bytes), .y = (y_rows)})

cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                         size_t width, size_t height, enum cudaMemcpyKind kind) {
    return IN_CONTEXT(copy_2d(ROWS(to, to_pitch), ROWS(from, from_pitch), width, height, kind));
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, enum cudaMemcpyKind kind,
                              cudaStream_t stream) {
    return IN_CONTEXT(
        copy_2d_async(ROWS(to, to_pitch), ROWS(from, from_pitch), width, height, kind, stream));
}

cudaError_t cudaMemcpy2DToArray(cudaArray_t to, size_t x, size_t y, const void *from, size_t pitch,
                                size_t width, size_t height, enum cudaMemcpyKind kind) {
    return IN_CONTEXT(copy_2d(PLACE(to, x, y), ROWS(from, pitch), width, height, kind));
}

cudaError_t cudaMemcpy2DToArrayAsync(cudaArray_t to, size_t x, size_t y, const void *from,
                                     size_t pitch, size_t width, size_t height,
                                     enum cudaMemcpyKind kind, cudaStream_t stream) {
    return IN_CONTEXT(
        copy_2d_async(PLACE(to, x, y), ROWS(from, pitch), width, height, kind, stream));
}

cudaError_t cudaMemcpy2DFromArray(void *to, size_t pitch, cudaArray_const_t from, size_t x,
                                  size_t y, size_t width, size_t height, enum cudaMemcpyKind kind) {
    return IN_CONTEXT(copy_2d(ROWS(to, pitch), PLACE(from, x, y), width, height, kind));
}

cudaError_t cudaMemcpy2DFromArrayAsync(void *to, size_t pitch, cudaArray_const_t from, size_t x,
                                       size_t y, size_t width, size_t height,
                                       enum cudaMemcpyKind kind, cudaStream_t stream) {
    return IN_CONTEXT(
        copy_2d_async(ROWS(to, pitch), PLACE(from, x, y), width, height, kind, stream));
}

cudaError_t cudaMemcpy2DArrayToArray(cudaArray_t to, size_t to_x, size_t to_y,
                                     cudaArray_const_t from, size_t from_x, size_t from_y,
                                     size_t width, size_t height, enum cudaMemcpyKind kind) {
    return IN_CONTEXT(
        copy_2d(PLACE(to, to_x, to_y), PLACE(from, from_x, from_y), width, height, kind));
}

// --- volumes ------------------------------------------------------------------------------------

#if !PER_THREAD
// One definition serves both compilations, and graph.c.

// Positions and widths count elements where an array takes part, else bytes.
static cudaError_t element_size(const struct cudaMemcpy3DParms *params, size_t *bytes) {
    *bytes = 1;
    if (params->srcArray) return cudart_element_size(params->srcArray, bytes);
    if (params->dstArray) return cudart_element_size(params->dstArray, bytes);
    return cudaSuccess;
}

cudaError_t cudart_copy_3d(const struct cudaMemcpy3DParms *params, CUDA_MEMCPY3D *copy) {
    size_t element;
    if (!params || (params->srcArray && params->srcPtr.ptr) ||
        (params->dstArray && params->dstPtr.ptr))
        return cudaErrorInvalidValue;
    cudaError_t error = element_size(params, &element);
    if (error != cudaSuccess) return error;
    *copy = (CUDA_MEMCPY3D){
        .srcXInBytes = params->srcPos.x * (params->srcArray ? element : 1),
        .srcY = params->srcPos.y,
        .srcZ = params->srcPos.z,
        .srcHost = params->srcPtr.ptr,
        .srcDevice = (CUdeviceptr)params->srcPtr.ptr,
        .srcArray = (CUarray)params->srcArray,
        .srcPitch = params->srcPtr.pitch,
        .srcHeight = params->srcPtr.ysize,
        .dstXInBytes = params->dstPos.x * (params->dstArray ? element : 1),
        .dstY = params->dstPos.y,
        .dstZ = params->dstPos.z,
        .dstHost = params->dstPtr.ptr,
        .dstDevice = (CUdeviceptr)params->dstPtr.ptr,
        .dstArray = (CUarray)params->dstArray,
        .dstPitch = params->dstPtr.pitch,
        .dstHeight = params->dstPtr.ysize,
        .WidthInBytes = params->extent.width * element,
        .Height = params->extent.height,
        .Depth = params->extent.depth,
    };
    error = memory_types(params->kind, &copy->srcMemoryType, &copy->dstMemoryType);
    if (params->srcArray) copy->srcMemoryType = CU_MEMORYTYPE_ARRAY;
    if (params->dstArray) copy->dstMemoryType = CU_MEMORYTYPE_ARRAY;
    return error;
}
#endif

static bool is_empty(struct cudaExtent extent) {
    return extent.width == 0 || extent.height == 0 || extent.depth == 0;
}

static cudaError_t copy_3d(const struct cudaMemcpy3DParms *params) {
    CUDA_MEMCPY3D copy;
    cudaError_t error = cudart_copy_3d(params, &copy);
    if (error != cudaSuccess || is_empty(params->extent)) return error;
    return cudart_error(STREAM(cuMemcpy3D_v3020)(&copy));
}

static cudaError_t copy_3d_async(const struct cudaMemcpy3DParms *params, cudaStream_t stream) {
    CUDA_MEMCPY3D copy;
    cudaError_t error = cudart_copy_3d(params, &copy);
    if (error != cudaSuccess || is_empty(params->extent)) return error;
    return cudart_error(STREAM(cuMemcpy3DAsync_v3020)(&copy, stream));
}

cudaError_t cudaMemcpy3D(const struct cudaMemcpy3DParms *params) {
    return IN_CONTEXT(copy_3d(params));
}

cudaError_t cudaMemcpy3DAsync(const struct cudaMemcpy3DParms *params, cudaStream_t stream) {
    return IN_CONTEXT(copy_3d_async(params, stream));
}

// The peer form has two devices in place of a direction.
static cudaError_t describe_peer_3d(const struct cudaMemcpy3DPeerParms *params,
                                    CUDA_MEMCPY3D_PEER *peer) {
    CUDA_MEMCPY3D copy;
    if (!params) return cudaErrorInvalidValue;
    cudaError_t error = cudart_copy_3d(
        &(struct cudaMemcpy3DParms){
            .srcArray = params->srcArray,
            .srcPos = params->srcPos,
            .srcPtr = params->srcPtr,
            .dstArray = params->dstArray,
            .dstPos = params->dstPos,
            .dstPtr = params->dstPtr,
            .extent = params->extent,
            .kind = cudaMemcpyDefault,
        },
        &copy);
    if (error != cudaSuccess) return error;
    // The two descriptors differ in where they have contexts: in place of the reserved members.
    _Static_assert(sizeof copy == sizeof *peer, "layout");
    _Static_assert(offsetof(CUDA_MEMCPY3D, reserved1) == offsetof(CUDA_MEMCPY3D_PEER, dstContext),
                   "layout");
    *peer = *(CUDA_MEMCPY3D_PEER *)&copy;
    error = cudart_primary_context(params->srcDevice, &peer->srcContext);
    if (error != cudaSuccess) return error;
    return cudart_primary_context(params->dstDevice, &peer->dstContext);
}

static cudaError_t copy_3d_peer(const struct cudaMemcpy3DPeerParms *params) {
    CUDA_MEMCPY3D_PEER copy;
    cudaError_t error = describe_peer_3d(params, &copy);
    if (error != cudaSuccess || is_empty(params->extent)) return error;
    return cudart_error(STREAM(cuMemcpy3DPeer_v4000)(&copy));
}

static cudaError_t copy_3d_peer_async(const struct cudaMemcpy3DPeerParms *params,
                                      cudaStream_t stream) {
    CUDA_MEMCPY3D_PEER copy;
    cudaError_t error = describe_peer_3d(params, &copy);
    if (error != cudaSuccess || is_empty(params->extent)) return error;
    return cudart_error(STREAM(cuMemcpy3DPeerAsync_v4000)(&copy, stream));
}

cudaError_t cudaMemcpy3DPeer(const struct cudaMemcpy3DPeerParms *params) {
    return IN_CONTEXT(copy_3d_peer(params));
}

cudaError_t cudaMemcpy3DPeerAsync(const struct cudaMemcpy3DPeerParms *params, cudaStream_t stream) {
    return IN_CONTEXT(copy_3d_peer_async(params, stream));
}

// --- fills --------------------------------------------------------------------------------------

cudaError_t cudaMemset(void *memory, int value, size_t count) {
    return IN_CONTEXT(STREAM(cuMemsetD8_v3020)((CUdeviceptr)memory, (unsigned char)value, count));
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t count, cudaStream_t stream) {
    return IN_CONTEXT(
        STREAM(cuMemsetD8Async_v3020)((CUdeviceptr)memory, (unsigned char)value, count, stream));
}

cudaError_t cudaMemset2D(void *memory, size_t pitch, int value, size_t width, size_t height) {
    return IN_CONTEXT(STREAM(cuMemsetD2D8_v3020)((CUdeviceptr)memory, pitch, (unsigned char)value,
                                                 width, height));
}

cudaError_t cudaMemset2DAsync(void *memory, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream) {
    return IN_CONTEXT(STREAM(cuMemsetD2D8Async_v3020)((CUdeviceptr)memory, pitch,
                                                      (unsigned char)value, width, height, stream));
}

// The driver fills rectangles only: one for each slice.
static cudaError_t fill_3d(struct cudaPitchedPtr volume, int value, struct cudaExtent extent) {
    CUresult result = CUDA_SUCCESS;
    for (size_t z = 0; z < extent.depth && result == CUDA_SUCCESS; z++) {
        CUdeviceptr slice = (CUdeviceptr)volume.ptr + z * volume.pitch * volume.ysize;
        result = STREAM(cuMemsetD2D8_v3020)(slice, volume.pitch, (unsigned char)value, extent.width,
                                            extent.height);
    }
    return cudart_error(result);
}

static cudaError_t fill_3d_async(struct cudaPitchedPtr volume, int value, struct cudaExtent extent,
                                 cudaStream_t stream) {
    CUresult result = CUDA_SUCCESS;
    for (size_t z = 0; z < extent.depth && result == CUDA_SUCCESS; z++) {
        CUdeviceptr slice = (CUdeviceptr)volume.ptr + z * volume.pitch * volume.ysize;
        result = STREAM(cuMemsetD2D8Async_v3020)(slice, volume.pitch, (unsigned char)value,
                                                 extent.width, extent.height, stream);
    }
    return cudart_error(result);
}

cudaError_t cudaMemset3D(struct cudaPitchedPtr volume, int value, struct cudaExtent extent) {
    return IN_CONTEXT(fill_3d(volume, value, extent));
}

cudaError_t cudaMemset3DAsync(struct cudaPitchedPtr volume, int value, struct cudaExtent extent,
                              cudaStream_t stream) {
    return IN_CONTEXT(fill_3d_async(volume, value, extent, stream));
}
