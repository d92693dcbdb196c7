// SPDX-License-Identifier: Apache-2.0
// The queue engine; the stream functions of the API are in stream_api.c.
#include "stream.h"

#include "capture.h"
#include "device.h"

#include <signal.h>
#include <stdlib.h>

struct queued {
    struct queued *next;
    struct op op;
};

static _Atomic unsigned long long last_id;
// Operations queued anywhere. Zero lets a free skip the search for work to wait for.
static _Atomic int queued_work;

struct stream *stream_new(struct context *context, unsigned flags, int priority) {
    struct stream *stream = object_new(OBJECT_STREAM, sizeof *stream);
    if (!stream) return NULL;
    stream->context = context;
    stream->flags = flags;
    stream->priority = priority > 0 ? 0 : priority < -5 ? -5 : priority;
    stream->id = atomic_fetch_add(&last_id, 1) + 1;
    pthread_mutex_init(&stream->lock, NULL);
    pthread_cond_init(&stream->changed, NULL);
    pthread_mutex_lock(&context->lock);
    stream->next = context->streams;
    context->streams = stream;
    pthread_mutex_unlock(&context->lock);
    return stream;
}

static bool takes_time(const struct op *op) {
    return op->kind != OP_SIGNAL && op->kind != OP_WAIT;
}

static void sleep_ns(uint64_t ns) {
    struct timespec pause = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    if (ns) nanosleep(&pause, NULL);
}

static void *work(void *data) {
    struct stream *stream = data;
    pthread_mutex_lock(&stream->lock);
    for (;;) {
        while (!stream->first && !stream->is_ending)
            pthread_cond_wait(&stream->changed, &stream->lock);
        struct queued *queued = stream->first;
        if (!queued) break;
        pthread_mutex_unlock(&stream->lock);
        if (takes_time(&queued->op)) sleep_ns(options.delay_ns);
        op_run(&queued->op);
        pthread_mutex_lock(&stream->lock);
        stream->first = queued->next;
        if (!stream->first) stream->last = NULL;
        atomic_fetch_add(&stream->completed, 1);
        atomic_fetch_sub(&queued_work, 1);
        pthread_cond_broadcast(&stream->changed);
        free(queued);
    }
    pthread_mutex_unlock(&stream->lock);
    object_delete(stream, OBJECT_STREAM);
    return NULL;
}

// Signals belong to the program's own threads.
static void start_worker(struct stream *stream) {
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, NULL, work, stream) != 0) abort();
    pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    stream->has_worker = true;
}

static bool runs_at_once(struct stream *stream, const struct op *op) {
    if (stream->first || op->kind == OP_HOST || op->kind == OP_CALLBACK) return false;
    if (op->kind == OP_WAIT_VALUE) return false;
    if (op->kind == OP_WAIT) return fence_is_reached(op->fence);
    return op->kind == OP_SIGNAL || options.delay_ns == 0;
}

static void submit(struct stream *stream, const struct op *op) {
    pthread_mutex_lock(&stream->lock);
    if (runs_at_once(stream, op)) {
        op_run(op);
        pthread_mutex_unlock(&stream->lock);
        return;
    }
    struct queued *queued = malloc(sizeof *queued);
    if (!queued) abort();
    *queued = (struct queued){.op = *op};
    if (stream->last)
        stream->last->next = queued;
    else
        stream->first = queued;
    stream->last = queued;
    atomic_fetch_add(&stream->submitted, 1);
    atomic_fetch_add(&queued_work, 1);
    if (!stream->has_worker) start_worker(stream);
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->lock);
}

bool stream_is_idle(struct stream *stream) {
    return atomic_load(&stream->completed) == atomic_load(&stream->submitted);
}

// What `later` is given from now on waits for what `earlier` was given so far.
static void order(struct stream *earlier, struct stream *later) {
    if (stream_is_idle(earlier)) return;
    struct op signal = {.kind = OP_SIGNAL, .fence = fence_new()};
    struct op wait = {.kind = OP_WAIT, .fence = fence_retain(signal.fence)};
    submit(earlier, &signal);
    submit(later, &wait);
}

// The legacy stream and the blocking streams of its context wait for each other.
static void order_with_legacy(struct stream *stream) {
    struct context *context = stream->context;
    if (!stream->is_legacy) {
        if (!(stream->flags & CU_STREAM_NON_BLOCKING)) order(context->legacy, stream);
        return;
    }
    pthread_mutex_lock(&context->lock);
    for (struct stream *other = context->streams; other; other = other->next)
        if (other != stream && !(other->flags & CU_STREAM_NON_BLOCKING)) order(other, stream);
    pthread_mutex_unlock(&context->lock);
}

void stream_submit(struct stream *stream, const struct op *op) {
    order_with_legacy(stream);
    submit(stream, op);
}

void stream_synchronize(struct stream *stream) {
    if (stream->is_legacy) order_with_legacy(stream);
    if (stream_is_idle(stream)) return;
    pthread_mutex_lock(&stream->lock);
    uint64_t goal = atomic_load(&stream->submitted);
    while (atomic_load(&stream->completed) < goal)
        pthread_cond_wait(&stream->changed, &stream->lock);
    pthread_mutex_unlock(&stream->lock);
}

// ---- streams of a context -----------------------------------------------------------------------

void streams_start_context(struct context *context) {
    context->legacy = stream_new(context, 0, 0);
    if (!context->legacy) abort();
    context->legacy->is_legacy = true;
}

CUresult streams_synchronize(struct context *context) {
    // Work is only ever added by other threads meanwhile; what is there now is waited for.
    for (;;) {
        struct stream *busy = NULL;
        pthread_mutex_lock(&context->lock);
        for (struct stream *s = context->streams; s && !busy; s = s->next)
            if (!stream_is_idle(s)) busy = s;
        struct op signal = {.kind = OP_SIGNAL, .fence = busy ? fence_new() : NULL};
        struct fence *fence = fence_retain(signal.fence);
        if (busy) submit(busy, &signal);
        pthread_mutex_unlock(&context->lock);
        if (!busy) return CUDA_SUCCESS;
        fence_wait(fence);
        fence_release(fence);
    }
}

void device_synchronize(int device) {
    if (atomic_load(&queued_work) == 0) return;
    if (device == NO_DEVICE) {
        for (int i = 0; i < options.devices; i++) device_synchronize(i);
        return;
    }
    contexts_visit(device, streams_synchronize);
}

// The stream leaves its context at once; its worker, if it has one, finishes what is queued.
void stream_delete(struct stream *stream) {
    struct context *context = stream->context;
    capture_forget(stream);
    pthread_mutex_lock(&context->lock);
    struct stream **at = &context->streams;
    while (*at && *at != stream) at = &(*at)->next;
    if (*at) *at = stream->next;
    pthread_mutex_unlock(&context->lock);

    pthread_mutex_lock(&stream->lock);
    bool has_worker = stream->has_worker;
    stream->is_ending = true;
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->lock);
    if (!has_worker) object_delete(stream, OBJECT_STREAM);
}

void streams_end_context(struct context *context) {
    for (;;) {
        pthread_mutex_lock(&context->lock);
        struct stream *stream = context->streams;
        if (stream && stream->is_legacy && context->primary) stream = stream->next;
        pthread_mutex_unlock(&context->lock);
        if (!stream) return;
        stream_delete(stream);
    }
}

// ---- handles ------------------------------------------------------------------------------------

// Default streams of this thread, one per context it used. A context's id is never used twice, so
// a line of an ended context is merely dead.
struct own_stream {
    struct own_stream *next;
    unsigned long long context_id;
    struct stream *stream;
};
static __thread struct own_stream *own_streams;

static struct stream *own_stream(struct context *context) {
    for (struct own_stream *own = own_streams; own; own = own->next)
        if (own->context_id == context->id) return own->stream;
    struct own_stream *own = malloc(sizeof *own);
    if (!own) return NULL;
    *own = (struct own_stream){own_streams, context->id, stream_new(context, 0, 0)};
    own_streams = own;
    return own->stream;
}

CUresult stream_get(CUstream handle, struct stream **stream) {
    bool special = !handle || handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD;
    if (!special) {
        *stream = (struct stream *)handle;
        return object_is(handle, OBJECT_STREAM) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
    }
    NEED_CONTEXT(context);
    bool own = handle == CU_STREAM_PER_THREAD || (!handle && call_is_per_thread());
    *stream = own ? own_stream(context) : context->legacy;
    return *stream ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult stream_of_sync_calls(struct stream **stream) {
    return stream_get(NULL, stream);
}
