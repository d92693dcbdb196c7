// SPDX-License-Identifier: Apache-2.0
// The memcpy families. Device addresses are host addresses, so every form is a copy of slices of
// rows; only device-side addresses are checked, as the real driver does.
#include "copy.h"

#include "array.h"
#include "capture.h"
#include "memory.h"

#include <string.h>

#define SYNC ((CUstream)-1) // not a handle: the call waits for its own work

static CUresult submit(CUstream handle, const struct op *op, const CUDA_MEMCPY3D *description) {
    struct stream *stream;
    CUresult result = handle == SYNC ? stream_of_sync_calls(&stream) : stream_get(handle, &stream);
    if (result != CUDA_SUCCESS) return result;
    if (handle == SYNC && (result = capture_forbids_unsafe()) != CUDA_SUCCESS) return result;
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEMCPY};
    params.memcpy.copyParams = *description;
    result = stream_submit_or_capture(stream, op, CU_GRAPH_NODE_TYPE_MEMCPY, &params);
    if (handle == SYNC && result == CUDA_SUCCESS) stream_synchronize(stream);
    return result;
}

// ---- rows in a line -----------------------------------------------------------------------------

enum { CHECK_TO = 1, CHECK_FROM = 2 };

static CUresult copy_line(CUstream stream, uintptr_t to, uintptr_t from, size_t size,
                          unsigned checks) {
    NEED_CONTEXT(context);
    if (!size) return CUDA_SUCCESS;
    if (!to || !from) return CUDA_ERROR_INVALID_VALUE;
    if ((checks & CHECK_TO) && !memory_is_known(to, size)) return CUDA_ERROR_INVALID_VALUE;
    if ((checks & CHECK_FROM) && !memory_is_known(from, size)) return CUDA_ERROR_INVALID_VALUE;
    struct op op = {.kind = OP_COPY, .copy = {{from, 0, 0}, {to, 0, 0}, size, 1, 1}};
    CUDA_MEMCPY3D description = {.srcMemoryType = CU_MEMORYTYPE_UNIFIED,
                                 .srcDevice = from,
                                 .dstMemoryType = CU_MEMORYTYPE_UNIFIED,
                                 .dstDevice = to,
                                 .WidthInBytes = size,
                                 .Height = 1,
                                 .Depth = 1};
    return submit(stream, &op, &description);
}

CUresult sim_cuMemcpy(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount) {
    return copy_line(SYNC, dst, src, ByteCount, 0);
}

CUresult sim_cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount, CUstream hStream) {
    return copy_line(hStream, dst, src, ByteCount, 0);
}

CUresult sim_cuMemcpyHtoD_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount) {
    return copy_line(SYNC, dstDevice, (uintptr_t)srcHost, ByteCount, CHECK_TO);
}

CUresult sim_cuMemcpyHtoDAsync_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount,
                                  CUstream hStream) {
    return copy_line(hStream, dstDevice, (uintptr_t)srcHost, ByteCount, CHECK_TO);
}

CUresult sim_cuMemcpyDtoH_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount) {
    return copy_line(SYNC, (uintptr_t)dstHost, srcDevice, ByteCount, CHECK_FROM);
}

CUresult sim_cuMemcpyDtoHAsync_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount,
                                  CUstream hStream) {
    return copy_line(hStream, (uintptr_t)dstHost, srcDevice, ByteCount, CHECK_FROM);
}

CUresult sim_cuMemcpyDtoD_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount) {
    return copy_line(SYNC, dstDevice, srcDevice, ByteCount, CHECK_TO | CHECK_FROM);
}

CUresult sim_cuMemcpyDtoDAsync_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount,
                                  CUstream hStream) {
    return copy_line(hStream, dstDevice, srcDevice, ByteCount, CHECK_TO | CHECK_FROM);
}

CUresult sim_cuMemcpyPeer(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice,
                          CUcontext srcContext, size_t ByteCount) {
    if (!context_is_live((struct context *)dstContext) ||
        !context_is_live((struct context *)srcContext))
        return CUDA_ERROR_INVALID_CONTEXT;
    return copy_line(SYNC, dstDevice, srcDevice, ByteCount, CHECK_TO | CHECK_FROM);
}

CUresult sim_cuMemcpyPeerAsync(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice,
                               CUcontext srcContext, size_t ByteCount, CUstream hStream) {
    if (!context_is_live((struct context *)dstContext) ||
        !context_is_live((struct context *)srcContext))
        return CUDA_ERROR_INVALID_CONTEXT;
    return copy_line(hStream, dstDevice, srcDevice, ByteCount, CHECK_TO | CHECK_FROM);
}

static CUresult copy_batch(CUdeviceptr *dsts, CUdeviceptr *srcs, size_t *sizes, size_t count,
                           size_t *failIdx, CUstream hStream) {
    if (!dsts || !srcs || !sizes || !count || !hStream) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count; i++) {
        CUresult result = copy_line(hStream, dsts[i], srcs[i], sizes[i], 0);
        if (result == CUDA_SUCCESS) continue;
        if (failIdx) *failIdx = i;
        return result;
    }
    return CUDA_SUCCESS;
}

CUresult sim_cuMemcpyBatchAsync(CUdeviceptr *dsts, CUdeviceptr *srcs, size_t *sizes, size_t count,
                                CUmemcpyAttributes *attrs, size_t *attrsIdxs, size_t numAttrs,
                                size_t *failIdx, CUstream hStream) {
    (void)attrs, (void)attrsIdxs, (void)numAttrs;
    return copy_batch(dsts, srcs, sizes, count, failIdx, hStream);
}

CUresult sim_cuMemcpyBatchAsync_v2(CUdeviceptr *dsts, CUdeviceptr *srcs, size_t *sizes,
                                   size_t count, CUmemcpyAttributes *attrs, size_t *attrsIdxs,
                                   size_t numAttrs, CUstream hStream) {
    (void)attrs, (void)attrsIdxs, (void)numAttrs;
    return copy_batch(dsts, srcs, sizes, count, NULL, hStream);
}

// ---- arrays in a line ---------------------------------------------------------------------------

static CUresult copy_array(CUstream stream, CUarray to_array, uintptr_t to, CUarray from_array,
                           uintptr_t from, size_t size) {
    struct copy_side side;
    NEED_CONTEXT(context);
    if (to_array) {
        if (!array_is(to_array)) return CUDA_ERROR_INVALID_HANDLE;
        if (!array_side(to_array, to, 0, 0, &side)) return CUDA_ERROR_INVALID_VALUE;
        to = side.base;
    }
    if (from_array) {
        if (!array_is(from_array)) return CUDA_ERROR_INVALID_HANDLE;
        if (!array_side(from_array, from, 0, 0, &side)) return CUDA_ERROR_INVALID_VALUE;
        from = side.base;
    }
    return copy_line(stream, to, from, size, 0);
}

CUresult sim_cuMemcpyDtoA_v2(CUarray dstArray, size_t dstOffset, CUdeviceptr srcDevice,
                             size_t ByteCount) {
    return copy_array(SYNC, dstArray, dstOffset, NULL, srcDevice, ByteCount);
}

CUresult sim_cuMemcpyAtoD_v2(CUdeviceptr dstDevice, CUarray srcArray, size_t srcOffset,
                             size_t ByteCount) {
    return copy_array(SYNC, NULL, dstDevice, srcArray, srcOffset, ByteCount);
}

CUresult sim_cuMemcpyHtoA_v2(CUarray dstArray, size_t dstOffset, const void *srcHost,
                             size_t ByteCount) {
    return copy_array(SYNC, dstArray, dstOffset, NULL, (uintptr_t)srcHost, ByteCount);
}

CUresult sim_cuMemcpyHtoAAsync_v2(CUarray dstArray, size_t dstOffset, const void *srcHost,
                                  size_t ByteCount, CUstream hStream) {
    return copy_array(hStream, dstArray, dstOffset, NULL, (uintptr_t)srcHost, ByteCount);
}

CUresult sim_cuMemcpyAtoH_v2(void *dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount) {
    return copy_array(SYNC, NULL, (uintptr_t)dstHost, srcArray, srcOffset, ByteCount);
}

CUresult sim_cuMemcpyAtoHAsync_v2(void *dstHost, CUarray srcArray, size_t srcOffset,
                                  size_t ByteCount, CUstream hStream) {
    return copy_array(hStream, NULL, (uintptr_t)dstHost, srcArray, srcOffset, ByteCount);
}

CUresult sim_cuMemcpyAtoA_v2(CUarray dstArray, size_t dstOffset, CUarray srcArray, size_t srcOffset,
                             size_t ByteCount) {
    return copy_array(SYNC, dstArray, dstOffset, srcArray, srcOffset, ByteCount);
}

// ---- two and three dimensions -------------------------------------------------------------------

// One side of a CUDA_MEMCPY3D, whichever it is.
struct side_description {
    size_t x, y, z, pitch, height;
    CUmemorytype type;
    uintptr_t host, device;
    CUarray array;
};

static CUresult resolve_side(const struct side_description *d, const CUDA_MEMCPY3D *whole,
                             struct copy_side *side) {
    if (d->type == CU_MEMORYTYPE_ARRAY) {
        if (!array_is(d->array)) return CUDA_ERROR_INVALID_HANDLE;
        return array_side(d->array, d->x, d->y, d->z, side) ? CUDA_SUCCESS
                                                            : CUDA_ERROR_INVALID_VALUE;
    }
    if (d->type < CU_MEMORYTYPE_HOST || d->type > CU_MEMORYTYPE_UNIFIED)
        return CUDA_ERROR_INVALID_VALUE;
    uintptr_t base = d->type == CU_MEMORYTYPE_HOST ? d->host : d->device;
    if (d->pitch && d->pitch < whole->WidthInBytes + d->x) return CUDA_ERROR_INVALID_VALUE;
    side->pitch = d->pitch ? d->pitch : whole->WidthInBytes + d->x;
    side->slice = side->pitch * (d->height ? d->height : whole->Height + d->y);
    side->base = base + d->x + d->y * side->pitch + d->z * side->slice;
    bool checked = d->type == CU_MEMORYTYPE_DEVICE;
    size_t reach =
        (whole->Depth - 1) * side->slice + (whole->Height - 1) * side->pitch + whole->WidthInBytes;
    if (!base || (checked && !memory_is_known(side->base, reach))) return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

CUresult copy_from_description(const CUDA_MEMCPY3D *d, struct op *op) {
    *op = (struct op){.kind = OP_NOTHING};
    if (!d->WidthInBytes || !d->Height || !d->Depth) return CUDA_SUCCESS;
    struct side_description from = {d->srcXInBytes,        d->srcY,      d->srcZ,
                                    d->srcPitch,           d->srcHeight, d->srcMemoryType,
                                    (uintptr_t)d->srcHost, d->srcDevice, d->srcArray};
    struct side_description to = {d->dstXInBytes,        d->dstY,      d->dstZ,
                                  d->dstPitch,           d->dstHeight, d->dstMemoryType,
                                  (uintptr_t)d->dstHost, d->dstDevice, d->dstArray};
    op->kind = OP_COPY;
    op->copy = (struct copy){.width = d->WidthInBytes, .height = d->Height, .depth = d->Depth};
    CUresult result = resolve_side(&from, d, &op->copy.from);
    return result == CUDA_SUCCESS ? resolve_side(&to, d, &op->copy.to) : result;
}

static CUresult copy_box(const CUDA_MEMCPY3D *description, CUstream stream) {
    struct op op;
    NEED_CONTEXT(context);
    CUresult result = copy_from_description(description, &op);
    if (result != CUDA_SUCCESS || op.kind == OP_NOTHING) return result;
    return submit(stream, &op, description);
}

static bool describe_operand(const CUmemcpy3DOperand *operand, CUmemorytype *type,
                             CUdeviceptr *device, CUarray *array, size_t at[3], size_t *pitch,
                             size_t *height) {
    if (operand->type == CU_MEMCPY_OPERAND_TYPE_ARRAY) {
        *type = CU_MEMORYTYPE_ARRAY;
        *array = operand->op.array.array;
        at[0] = operand->op.array.offset.x;
        at[1] = operand->op.array.offset.y;
        at[2] = operand->op.array.offset.z;
        return true;
    }
    *type = CU_MEMORYTYPE_UNIFIED;
    *device = operand->op.ptr.ptr;
    *pitch = operand->op.ptr.rowLength;
    *height = operand->op.ptr.layerHeight;
    return operand->type == CU_MEMCPY_OPERAND_TYPE_POINTER;
}

static CUresult copy_boxes(size_t count, CUDA_MEMCPY3D_BATCH_OP *list, size_t *failIdx,
                           CUstream stream) {
    if (!list || !count || !stream) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count; i++) {
        CUDA_MEMCPY3D box = {.WidthInBytes = list[i].extent.width,
                             .Height = list[i].extent.height,
                             .Depth = list[i].extent.depth};
        size_t from[3] = {0}, to[3] = {0};
        bool known = describe_operand(&list[i].src, &box.srcMemoryType, &box.srcDevice,
                                      &box.srcArray, from, &box.srcPitch, &box.srcHeight) &&
                     describe_operand(&list[i].dst, &box.dstMemoryType, &box.dstDevice,
                                      &box.dstArray, to, &box.dstPitch, &box.dstHeight);
        box.srcXInBytes = from[0], box.srcY = from[1], box.srcZ = from[2];
        box.dstXInBytes = to[0], box.dstY = to[1], box.dstZ = to[2];
        CUresult result = known ? copy_box(&box, stream) : CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS) continue;
        if (failIdx) *failIdx = i;
        return result;
    }
    return CUDA_SUCCESS;
}

CUresult sim_cuMemcpy3DBatchAsync(size_t numOps, CUDA_MEMCPY3D_BATCH_OP *opList, size_t *failIdx,
                                  unsigned long long flags, CUstream hStream) {
    return flags ? CUDA_ERROR_INVALID_VALUE : copy_boxes(numOps, opList, failIdx, hStream);
}

CUresult sim_cuMemcpy3DBatchAsync_v2(size_t numOps, CUDA_MEMCPY3D_BATCH_OP *opList,
                                     unsigned long long flags, CUstream hStream) {
    return flags ? CUDA_ERROR_INVALID_VALUE : copy_boxes(numOps, opList, NULL, hStream);
}

// The structures of all ABIs name these fields alike; only their widths differ.
#define DESCRIPTION_2D(copy)                                                                       \
    {                                                                                              \
        .srcXInBytes = (copy)->srcXInBytes, .srcY = (copy)->srcY,                                  \
        .srcMemoryType = (copy)->srcMemoryType, .srcHost = (copy)->srcHost,                        \
        .srcDevice = (copy)->srcDevice, .srcArray = (copy)->srcArray,                              \
        .srcPitch = (copy)->srcPitch, .dstXInBytes = (copy)->dstXInBytes, .dstY = (copy)->dstY,    \
        .dstMemoryType = (copy)->dstMemoryType, .dstHost = (copy)->dstHost,                        \
        .dstDevice = (copy)->dstDevice, .dstArray = (copy)->dstArray,                              \
        .dstPitch = (copy)->dstPitch, .WidthInBytes = (copy)->WidthInBytes,                        \
        .Height = (copy)->Height, .Depth = 1                                                       \
    }

#define COPY_2D(copy, stream)                                                                      \
    do {                                                                                           \
        if (!(copy)) return CUDA_ERROR_INVALID_VALUE;                                              \
        CUDA_MEMCPY3D box = DESCRIPTION_2D(copy);                                                  \
        return copy_box(&box, stream);                                                             \
    } while (0)

#define COPY_3D(copy, stream)                                                                      \
    do {                                                                                           \
        if (!(copy)) return CUDA_ERROR_INVALID_VALUE;                                              \
        CUDA_MEMCPY3D box = DESCRIPTION_2D(copy);                                                  \
        box.srcZ = (copy)->srcZ, box.srcHeight = (copy)->srcHeight;                                \
        box.dstZ = (copy)->dstZ, box.dstHeight = (copy)->dstHeight;                                \
        box.Depth = (copy)->Depth;                                                                 \
        return copy_box(&box, stream);                                                             \
    } while (0)

CUresult sim_cuMemcpy2D(const CUDA_MEMCPY2D_v1 *pCopy) {
    COPY_2D(pCopy, SYNC);
}
CUresult sim_cuMemcpy2D_v2(const CUDA_MEMCPY2D *pCopy) {
    COPY_2D(pCopy, SYNC);
}
CUresult sim_cuMemcpy2DUnaligned(const CUDA_MEMCPY2D_v1 *pCopy) {
    COPY_2D(pCopy, SYNC);
}
CUresult sim_cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D *pCopy) {
    COPY_2D(pCopy, SYNC);
}
CUresult sim_cuMemcpy3D(const CUDA_MEMCPY3D_v1 *pCopy) {
    COPY_3D(pCopy, SYNC);
}
CUresult sim_cuMemcpy3D_v2(const CUDA_MEMCPY3D *pCopy) {
    COPY_3D(pCopy, SYNC);
}
CUresult sim_cuMemcpy3DPeer(const CUDA_MEMCPY3D_PEER *pCopy) {
    COPY_3D(pCopy, SYNC);
}

CUresult sim_cuMemcpy2DAsync(const CUDA_MEMCPY2D_v1 *pCopy, CUstream hStream) {
    COPY_2D(pCopy, hStream);
}

CUresult sim_cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *pCopy, CUstream hStream) {
    COPY_2D(pCopy, hStream);
}

CUresult sim_cuMemcpy3DAsync(const CUDA_MEMCPY3D_v1 *pCopy, CUstream hStream) {
    COPY_3D(pCopy, hStream);
}

CUresult sim_cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D *pCopy, CUstream hStream) {
    COPY_3D(pCopy, hStream);
}

CUresult sim_cuMemcpy3DPeerAsync(const CUDA_MEMCPY3D_PEER *pCopy, CUstream hStream) {
    COPY_3D(pCopy, hStream);
}
