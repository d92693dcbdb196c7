// SPDX-License-Identifier: Apache-2.0
// Events: a record replaces the event's fence, so whoever waits holds the fence it saw.
#include "event.h"

#include "capture.h"
#include "pool.h"

#include <stdlib.h>
#include <string.h>

CUresult sim_cuEventCreate(CUevent *phEvent, unsigned int Flags) {
    NEED_CONTEXT(context);
    if (!phEvent) return CUDA_ERROR_INVALID_VALUE;
    struct event *event = object_new(OBJECT_EVENT, sizeof *event);
    if (!event) return CUDA_ERROR_OUT_OF_MEMORY;
    event->context = context;
    event->flags = Flags;
    pthread_mutex_init(&event->lock, NULL);
    *phEvent = (CUevent)event;
    return CUDA_SUCCESS;
}

CUresult sim_cuEventDestroy_v2(CUevent hEvent) {
    struct event *event = (struct event *)hEvent;
    if (!object_is(event, OBJECT_EVENT)) return CUDA_ERROR_INVALID_HANDLE;
    fence_release(event->fence);
    free(event->captured);
    object_delete(event, OBJECT_EVENT);
    return CUDA_SUCCESS;
}

CUresult sim_cuEventDestroy(CUevent hEvent) {
    return sim_cuEventDestroy_v2(hEvent);
}

// The fence of the last record, retained; NULL when never recorded.
static struct fence *last_fence(struct event *event) {
    pthread_mutex_lock(&event->lock);
    struct fence *fence = fence_retain(event->fence);
    pthread_mutex_unlock(&event->lock);
    return fence;
}

void event_set_captured(struct event *event, unsigned long long capture, struct node **nodes,
                        size_t count) {
    pthread_mutex_lock(&event->lock);
    free(event->captured);
    event->capture = capture;
    event->captured_count = count;
    event->captured = malloc((count + 1) * sizeof *nodes);
    if (!event->captured) abort();
    if (count) memcpy(event->captured, nodes, count * sizeof *nodes);
    pthread_mutex_unlock(&event->lock);
}

CUresult sim_cuEventRecordWithFlags(CUevent hEvent, CUstream hStream, unsigned int flags) {
    struct event *event = (struct event *)hEvent;
    struct stream *stream;
    CUresult result = stream_get(hStream, &stream);
    if (result != CUDA_SUCCESS) return result;
    if (!object_is(event, OBJECT_EVENT)) return CUDA_ERROR_INVALID_HANDLE;
    if (flags & ~1u) return CUDA_ERROR_INVALID_VALUE;
    bool handled;
    result = capture_records(stream, event, flags & CU_EVENT_RECORD_EXTERNAL, &handled);
    if (result != CUDA_SUCCESS || handled) return result;
    struct op op = {.kind = OP_SIGNAL, .fence = fence_new()};
    pthread_mutex_lock(&event->lock);
    fence_release(event->fence);
    event->fence = fence_retain(op.fence);
    event->capture = 0;
    pthread_mutex_unlock(&event->lock);
    stream_submit(stream, &op);
    return CUDA_SUCCESS;
}

CUresult sim_cuEventRecord(CUevent hEvent, CUstream hStream) {
    return sim_cuEventRecordWithFlags(hEvent, hStream, 0);
}

// All work of a context: its streams are asked one after the other, so the event comes after what
// the legacy stream waits for.
static CUresult record_context(CUcontext handle, CUevent event) {
    struct context *context = (struct context *)handle;
    if (!context_is_live(context)) return CUDA_ERROR_INVALID_CONTEXT;
    return sim_cuEventRecord(event, (CUstream)context->legacy);
}

static CUresult wait_context(CUcontext handle, CUevent event) {
    struct context *context = (struct context *)handle;
    if (!context_is_live(context)) return CUDA_ERROR_INVALID_CONTEXT;
    return sim_cuStreamWaitEvent((CUstream)context->legacy, event, 0);
}

CUresult sim_cuCtxRecordEvent(CUcontext hCtx, CUevent hEvent) {
    return record_context(hCtx, hEvent);
}

CUresult sim_cuCtxWaitEvent(CUcontext hCtx, CUevent hEvent) {
    return wait_context(hCtx, hEvent);
}

CUresult sim_cuGreenCtxRecordEvent(CUgreenCtx hCtx, CUevent hEvent) {
    return record_context((CUcontext)hCtx, hEvent);
}

CUresult sim_cuGreenCtxWaitEvent(CUgreenCtx hCtx, CUevent hEvent) {
    return wait_context((CUcontext)hCtx, hEvent);
}

CUresult sim_cuEventQuery(CUevent hEvent) {
    struct event *event = (struct event *)hEvent;
    if (!object_is(event, OBJECT_EVENT)) return CUDA_ERROR_INVALID_HANDLE;
    struct fence *fence = last_fence(event);
    bool reached = !fence || fence_is_reached(fence);
    fence_release(fence);
    return reached ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult sim_cuEventSynchronize(CUevent hEvent) {
    struct event *event = (struct event *)hEvent;
    if (!object_is(event, OBJECT_EVENT)) return CUDA_ERROR_INVALID_HANDLE;
    struct fence *fence = last_fence(event);
    if (fence) fence_wait(fence);
    fence_release(fence);
    pools_synchronized(event->context->device);
    return CUDA_SUCCESS;
}

CUresult sim_cuEventElapsedTime_v2(float *pMilliseconds, CUevent hStart, CUevent hEnd) {
    struct event *start = (struct event *)hStart, *end = (struct event *)hEnd;
    if (!pMilliseconds) return CUDA_ERROR_INVALID_VALUE;
    if (!object_is(start, OBJECT_EVENT) || !object_is(end, OBJECT_EVENT))
        return CUDA_ERROR_INVALID_HANDLE;
    if ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING) return CUDA_ERROR_INVALID_HANDLE;
    struct fence *first = last_fence(start), *second = last_fence(end);
    CUresult result = CUDA_ERROR_INVALID_HANDLE; // not recorded
    if (first && second) {
        result = CUDA_ERROR_NOT_READY;
        if (fence_is_reached(first) && fence_is_reached(second)) {
            struct timespec a = fence_time(first), b = fence_time(second);
            *pMilliseconds = (float)((double)(b.tv_sec - a.tv_sec) * 1e3 +
                                     (double)(b.tv_nsec - a.tv_nsec) / 1e6);
            result = CUDA_SUCCESS;
        }
    }
    fence_release(first);
    fence_release(second);
    return result;
}

CUresult sim_cuEventElapsedTime(float *pMilliseconds, CUevent hStart, CUevent hEnd) {
    return sim_cuEventElapsedTime_v2(pMilliseconds, hStart, hEnd);
}
