// SPDX-License-Identifier: Apache-2.0
// The stream functions of the API.
#include "stream.h"

#include "capture.h"
#include "device.h"
#include "event.h"
#include "pool.h"

#include <string.h>

CUresult sim_cuStreamCreateWithPriority(CUstream *phStream, unsigned int flags, int priority) {
    NEED_CONTEXT(context);
    if (!phStream || (flags & ~(unsigned)CU_STREAM_NON_BLOCKING)) return CUDA_ERROR_INVALID_VALUE;
    struct stream *stream = stream_new(context, flags, priority);
    if (!stream) return CUDA_ERROR_OUT_OF_MEMORY;
    *phStream = (CUstream)stream;
    return CUDA_SUCCESS;
}

CUresult sim_cuStreamCreate(CUstream *phStream, unsigned int Flags) {
    return sim_cuStreamCreateWithPriority(phStream, Flags, 0);
}

CUresult sim_cuStreamDestroy_v2(CUstream hStream) {
    if (!object_is(hStream, OBJECT_STREAM)) return CUDA_ERROR_INVALID_HANDLE;
    stream_delete((struct stream *)hStream);
    return CUDA_SUCCESS;
}

CUresult sim_cuStreamDestroy(CUstream hStream) {
    return sim_cuStreamDestroy_v2(hStream);
}

#define NEED_STREAM(name, handle)                                                                  \
    struct stream *name;                                                                           \
    do {                                                                                           \
        CUresult result_ = stream_get(handle, &name);                                              \
        if (result_ != CUDA_SUCCESS) return result_;                                               \
    } while (0)

CUresult sim_cuStreamQuery(CUstream hStream) {
    NEED_STREAM(stream, hStream);
    CUresult result = capture_forbids_waiting(stream);
    if (result != CUDA_SUCCESS) return result;
    return stream_is_idle(stream) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult sim_cuStreamSynchronize(CUstream hStream) {
    NEED_STREAM(stream, hStream);
    CUresult result = capture_forbids_waiting(stream);
    if (result != CUDA_SUCCESS) return result;
    stream_synchronize(stream);
    pools_synchronized(stream->context->device);
    return CUDA_SUCCESS;
}

CUresult sim_cuStreamGetPriority(CUstream hStream, int *priority) {
    NEED_STREAM(stream, hStream);
    if (!priority) return CUDA_ERROR_INVALID_VALUE;
    *priority = stream->priority;
    return CUDA_SUCCESS;
}

CUresult sim_cuStreamGetFlags(CUstream hStream, unsigned int *flags) {
    NEED_STREAM(stream, hStream);
    if (!flags) return CUDA_ERROR_INVALID_VALUE;
    *flags = stream->flags;
    return CUDA_SUCCESS;
}

CUresult sim_cuStreamGetId(CUstream hStream, unsigned long long *streamId) {
    NEED_STREAM(stream, hStream);
    if (!streamId) return CUDA_ERROR_INVALID_VALUE;
    *streamId = stream->id;
    return CUDA_SUCCESS;
}

CUresult sim_cuStreamGetDevice(CUstream hStream, CUdevice *device) {
    NEED_STREAM(stream, hStream);
    if (!device) return CUDA_ERROR_INVALID_VALUE;
    *device = stream->context->device;
    return CUDA_SUCCESS;
}

CUresult sim_cuStreamGetCtx(CUstream hStream, CUcontext *pctx) {
    NEED_STREAM(stream, hStream);
    if (!pctx) return CUDA_ERROR_INVALID_VALUE;
    *pctx = (CUcontext)stream->context;
    return CUDA_SUCCESS;
}

CUresult sim_cuStreamGetGreenCtx(CUstream hStream, CUgreenCtx *phCtx) {
    NEED_STREAM(stream, hStream);
    if (!phCtx) return CUDA_ERROR_INVALID_VALUE;
    bool green = stream->context->owner != stream->context;
    *phCtx = green ? (CUgreenCtx)stream->context : NULL;
    return CUDA_SUCCESS;
}

CUresult sim_cuStreamGetCtx_v2(CUstream hStream, CUcontext *pCtx, CUgreenCtx *pGreenCtx) {
    CUresult result = sim_cuStreamGetCtx(hStream, pCtx);
    return result == CUDA_SUCCESS ? sim_cuStreamGetGreenCtx(hStream, pGreenCtx) : result;
}

CUresult sim_cuStreamWaitEvent(CUstream hStream, CUevent hEvent, unsigned int Flags) {
    NEED_STREAM(stream, hStream);
    struct event *event = (struct event *)hEvent;
    if (!object_is(event, OBJECT_EVENT)) return CUDA_ERROR_INVALID_HANDLE;
    if (Flags & ~1u) return CUDA_ERROR_INVALID_VALUE;
    bool handled;
    CUresult result = capture_joins(stream, event, Flags & CU_EVENT_WAIT_EXTERNAL, &handled);
    if (result != CUDA_SUCCESS || handled) return result;
    pthread_mutex_lock(&event->lock);
    struct op op = {.kind = OP_WAIT, .fence = fence_retain(event->fence)};
    pthread_mutex_unlock(&event->lock);
    if (op.fence) stream_submit(stream, &op);
    return CUDA_SUCCESS;
}

CUresult sim_cuStreamAddCallback(CUstream hStream, CUstreamCallback callback, void *userData,
                                 unsigned int flags) {
    NEED_STREAM(stream, hStream);
    if (!callback || flags) return CUDA_ERROR_INVALID_VALUE;
    if (stream->capture) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    struct op op = {.kind = OP_CALLBACK, .callback = {callback, hStream, userData}};
    stream_submit(stream, &op);
    return CUDA_SUCCESS;
}

CUresult sim_cuLaunchHostFunc(CUstream hStream, CUhostFn fn, void *userData) {
    NEED_STREAM(stream, hStream);
    if (!fn) return CUDA_ERROR_INVALID_VALUE;
    struct op op = {.kind = OP_HOST, .host = {fn, userData}};
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_HOST, .host = {fn, userData}};
    return stream_submit_or_capture(stream, &op, CU_GRAPH_NODE_TYPE_HOST, &params);
}

CUresult sim_cuStreamAttachMemAsync(CUstream hStream, CUdeviceptr dptr, size_t length,
                                    unsigned int flags) {
    (void)length, (void)flags;
    struct block block;
    NEED_STREAM(stream, hStream);
    return block_find(dptr, &block) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// ---- attributes ---------------------------------------------------------------------------------

static bool known_attribute(CUstreamAttrID attr) {
    return attr > 0 && attr < CU_LAUNCH_ATTRIBUTE_MAX;
}

CUresult sim_cuStreamGetAttribute(CUstream hStream, CUstreamAttrID attr,
                                  CUstreamAttrValue *value_out) {
    NEED_STREAM(stream, hStream);
    if (!value_out || !known_attribute(attr)) return CUDA_ERROR_INVALID_VALUE;
    *value_out = stream->attributes[attr];
    return CUDA_SUCCESS;
}

CUresult sim_cuStreamSetAttribute(CUstream hStream, CUstreamAttrID attr,
                                  const CUstreamAttrValue *value) {
    NEED_STREAM(stream, hStream);
    if (!value || !known_attribute(attr)) return CUDA_ERROR_INVALID_VALUE;
    stream->attributes[attr] = *value;
    return CUDA_SUCCESS;
}

CUresult sim_cuStreamCopyAttributes(CUstream dst, CUstream src) {
    NEED_STREAM(to, dst);
    NEED_STREAM(from, src);
    memcpy(to->attributes, from->attributes, sizeof to->attributes);
    return CUDA_SUCCESS;
}

// ---- memory operations --------------------------------------------------------------------------

static CUresult submit_value(CUstream handle, enum op_kind kind, CUdeviceptr address,
                             uint64_t value, unsigned flags, bool wide) {
    NEED_STREAM(stream, handle);
    if (!address || address % (wide ? 8 : 4)) return CUDA_ERROR_INVALID_VALUE;
    struct op op = {.kind = kind, .value = {address, value, flags, wide}};
    return stream_submit_or_capture(stream, &op, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, NULL);
}

CUresult sim_cuStreamWriteValue32_v2(CUstream stream, CUdeviceptr addr, cuuint32_t value,
                                     unsigned int flags) {
    return submit_value(stream, OP_WRITE_VALUE, addr, value, flags, false);
}

CUresult sim_cuStreamWriteValue64_v2(CUstream stream, CUdeviceptr addr, cuuint64_t value,
                                     unsigned int flags) {
    return submit_value(stream, OP_WRITE_VALUE, addr, value, flags, true);
}

CUresult sim_cuStreamWaitValue32_v2(CUstream stream, CUdeviceptr addr, cuuint32_t value,
                                    unsigned int flags) {
    return submit_value(stream, OP_WAIT_VALUE, addr, value, flags, false);
}

CUresult sim_cuStreamWaitValue64_v2(CUstream stream, CUdeviceptr addr, cuuint64_t value,
                                    unsigned int flags) {
    return submit_value(stream, OP_WAIT_VALUE, addr, value, flags, true);
}

CUresult sim_cuStreamBatchMemOp_v2(CUstream stream, unsigned int count,
                                   CUstreamBatchMemOpParams *paramArray, unsigned int flags) {
    (void)flags;
    if (!paramArray && count) return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < count; i++) {
        const CUstreamBatchMemOpParams *p = &paramArray[i];
        bool writes = p->operation == CU_STREAM_MEM_OP_WRITE_VALUE_32 ||
                      p->operation == CU_STREAM_MEM_OP_WRITE_VALUE_64;
        bool waits = p->operation == CU_STREAM_MEM_OP_WAIT_VALUE_32 ||
                     p->operation == CU_STREAM_MEM_OP_WAIT_VALUE_64;
        bool wide = p->operation == CU_STREAM_MEM_OP_WRITE_VALUE_64 ||
                    p->operation == CU_STREAM_MEM_OP_WAIT_VALUE_64;
        if (!writes && !waits) continue;
        // Both kinds keep address, value and flags at the same places.
        CUresult result = submit_value(
            stream, writes ? OP_WRITE_VALUE : OP_WAIT_VALUE, p->writeValue.address,
            wide ? p->writeValue.value64 : p->writeValue.value, p->writeValue.flags, wide);
        if (result != CUDA_SUCCESS) return result;
    }
    return CUDA_SUCCESS;
}
