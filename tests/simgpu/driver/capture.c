// SPDX-License-Identifier: Apache-2.0
// Stream capture. A capture begins on one stream; others join by waiting for an event recorded in a
// capturing one, and must have come back by the end. Each capturing stream knows the nodes its next
// node comes after ("tails").
#include "capture.h"

#include "copy.h"
#include "graph.h"

#include <stdlib.h>
#include <string.h>

struct capture {
    struct stream *origin;
    struct graph *graph;
    bool owns_graph; // not when capturing into a graph of the caller
    CUstreamCaptureMode mode;
    unsigned long long id;
    const void *thread; // identity of the thread that began it
    bool is_invalid;
    struct capture *next;
    struct stream *streams[256]; // those that take part
    size_t stream_count;
};

_Atomic int captures_active;
static struct capture *captures; // under graph_lock

static __thread CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

static const void *this_thread(void) {
    return &thread_mode;
}

// The lock is held.
static void set_tails(struct stream *stream, struct node *const *nodes, size_t count) {
    struct node **tails = malloc((count + 1) * sizeof *tails);
    if (!tails) abort();
    if (count) memcpy(tails, nodes, count * sizeof *tails);
    free(stream->tails);
    stream->tails = tails;
    stream->tail_count = count;
}

static void add_tail(struct stream *stream, struct node *node) {
    for (size_t i = 0; i < stream->tail_count; i++)
        if (stream->tails[i] == node) return;
    stream->tails = realloc(stream->tails, (stream->tail_count + 1) * sizeof *stream->tails);
    if (!stream->tails) abort();
    stream->tails[stream->tail_count++] = node;
}

// The lock is held.
static void join(struct capture *capture, struct stream *stream) {
    if (capture->stream_count == sizeof capture->streams / sizeof *capture->streams) {
        capture->is_invalid = true;
        return;
    }
    capture->streams[capture->stream_count++] = stream;
    stream->capture = capture;
    set_tails(stream, NULL, 0);
}

static struct capture *find_capture(unsigned long long id) {
    struct capture *capture = captures;
    while (capture && capture->id != id) capture = capture->next;
    return capture;
}

// ---- begin and end ------------------------------------------------------------------------------

static CUresult begin(CUstream handle, struct graph *into, struct node *const *after, size_t count,
                      CUstreamCaptureMode mode) {
    static _Atomic unsigned long long last_id;
    struct stream *stream;
    CUresult result = stream_get(handle, &stream);
    if (result != CUDA_SUCCESS) return result;
    if (mode > CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_ERROR_INVALID_VALUE;
    if (stream->is_legacy) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    struct capture *capture = calloc(1, sizeof *capture);
    if (!capture) return CUDA_ERROR_OUT_OF_MEMORY;
    pthread_mutex_lock(&graph_lock);
    if (stream->capture) {
        result = CUDA_ERROR_ILLEGAL_STATE;
        free(capture);
    } else {
        capture->origin = stream;
        capture->graph = into ? into : graph_new();
        capture->owns_graph = !into;
        capture->mode = mode;
        capture->id = atomic_fetch_add(&last_id, 1) + 1;
        capture->thread = this_thread();
        join(capture, stream);
        set_tails(stream, after, count);
        capture->next = captures;
        captures = capture;
        atomic_fetch_add(&captures_active, 1);
    }
    pthread_mutex_unlock(&graph_lock);
    return result;
}

CUresult sim_cuStreamBeginCapture_v2(CUstream hStream, CUstreamCaptureMode mode) {
    return begin(hStream, NULL, NULL, 0, mode);
}

CUresult sim_cuStreamBeginCapture(CUstream hStream) {
    return begin(hStream, NULL, NULL, 0, CU_STREAM_CAPTURE_MODE_GLOBAL);
}

CUresult sim_cuStreamBeginCaptureToGraph(CUstream hStream, CUgraph hGraph,
                                         const CUgraphNode *dependencies,
                                         const CUgraphEdgeData *dependencyData,
                                         size_t numDependencies, CUstreamCaptureMode mode) {
    (void)dependencyData;
    if (!object_is(hGraph, OBJECT_GRAPH) || (numDependencies && !dependencies))
        return CUDA_ERROR_INVALID_VALUE;
    return begin(hStream, (struct graph *)hGraph, (struct node *const *)dependencies,
                 numDependencies, mode);
}

// Every stream that joined must have been waited for by the one the capture began on.
static bool is_joined(const struct capture *capture) {
    for (size_t i = 0; i < capture->stream_count; i++) {
        const struct stream *stream = capture->streams[i];
        for (size_t k = 0; stream != capture->origin && k < stream->tail_count; k++) {
            bool reached = false;
            for (size_t o = 0; o < capture->origin->tail_count && !reached; o++)
                reached = graph_reaches(stream->tails[k], capture->origin->tails[o]);
            if (!reached) return false;
        }
    }
    return true;
}

// The lock is held. Frees the capture, not its graph.
static void dissolve(struct capture *capture) {
    for (size_t i = 0; i < capture->stream_count; i++) {
        struct stream *stream = capture->streams[i];
        stream->capture = NULL;
        free(stream->tails);
        stream->tails = NULL;
        stream->tail_count = 0;
    }
    struct capture **at = &captures;
    while (*at != capture) at = &(*at)->next;
    *at = capture->next;
    atomic_fetch_sub(&captures_active, 1);
    free(capture);
}

// The lock is held.
static CUresult end(struct stream *stream, CUgraph *graph_out) {
    struct capture *capture = stream->capture;
    *graph_out = NULL;
    if (!capture) return CUDA_ERROR_ILLEGAL_STATE;
    if (capture->origin != stream) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture->thread != this_thread())
        return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    CUresult result = CUDA_SUCCESS;
    if (capture->is_invalid)
        result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    else if (!is_joined(capture))
        result = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    struct graph *graph = capture->graph;
    bool ends_graph = result != CUDA_SUCCESS && capture->owns_graph;
    dissolve(capture);
    if (ends_graph) graph_delete(graph);
    if (result == CUDA_SUCCESS) *graph_out = (CUgraph)graph;
    return result;
}

CUresult sim_cuStreamEndCapture(CUstream hStream, CUgraph *phGraph) {
    struct stream *stream;
    CUresult result = stream_get(hStream, &stream);
    if (result != CUDA_SUCCESS) return result;
    if (!phGraph) return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&graph_lock);
    result = end(stream, phGraph);
    pthread_mutex_unlock(&graph_lock);
    return result;
}

void capture_forget(struct stream *stream) {
    pthread_mutex_lock(&graph_lock);
    struct capture *capture = stream->capture;
    if (capture && capture->origin == stream) {
        struct graph *graph = capture->owns_graph ? capture->graph : NULL;
        dissolve(capture);
        if (graph) graph_delete(graph);
    } else if (capture) {
        capture->is_invalid = true;
        for (size_t i = 0; i < capture->stream_count; i++)
            if (capture->streams[i] == stream)
                capture->streams[i] = capture->streams[--capture->stream_count];
    }
    pthread_mutex_unlock(&graph_lock);
}

// ---- adding nodes -------------------------------------------------------------------------------

// The lock is held.
static CUresult append(struct stream *stream, struct node *node) {
    set_tails(stream, &node, 1);
    return CUDA_SUCCESS;
}

CUresult capture_add(struct stream *stream, const struct op *op, CUgraphNodeType type,
                     const CUgraphNodeParams *params) {
    CUresult result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    pthread_mutex_lock(&graph_lock);
    struct capture *capture = stream->capture;
    if (capture && !capture->is_invalid)
        result = append(
            stream, graph_add(capture->graph, type, params, op, stream->tails, stream->tail_count));
    pthread_mutex_unlock(&graph_lock);
    return result;
}

// The legacy stream waits for the blocking streams of its context, which it must not do while one
// of them captures.
static CUresult forbid_legacy(const struct stream *legacy) {
    CUresult result = CUDA_SUCCESS;
    pthread_mutex_lock(&graph_lock);
    for (struct capture *capture = captures; capture; capture = capture->next)
        for (size_t i = 0; i < capture->stream_count; i++) {
            const struct stream *stream = capture->streams[i];
            bool waits =
                stream->context == legacy->context && !(stream->flags & CU_STREAM_NON_BLOCKING);
            if (!waits) continue;
            capture->is_invalid = true;
            result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
        }
    pthread_mutex_unlock(&graph_lock);
    return result;
}

CUresult stream_submit_or_capture(struct stream *stream, const struct op *op, CUgraphNodeType type,
                                  const CUgraphNodeParams *params) {
    if (stream->capture) return capture_add(stream, op, type, params);
    if (stream->is_legacy && atomic_load(&captures_active) > 0) {
        CUresult result = forbid_legacy(stream);
        if (result != CUDA_SUCCESS) return result;
    }
    stream_submit(stream, op);
    return CUDA_SUCCESS;
}

// Through the API's own node functions, which know how to make memory nodes.
static CUresult add_memory_node(struct stream *stream, CUgraphNodeParams *params) {
    CUgraphNode node;
    CUresult result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    pthread_mutex_lock(&graph_lock);
    struct capture *capture = stream->capture;
    if (capture && !capture->is_invalid)
        result =
            graph_add_described(&node, capture->graph, stream->tails, stream->tail_count, params);
    if (result == CUDA_SUCCESS) append(stream, (struct node *)node);
    pthread_mutex_unlock(&graph_lock);
    return result;
}

CUresult capture_alloc(struct stream *stream, CUdeviceptr *dptr, size_t size, int device) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEM_ALLOC};
    params.alloc.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    params.alloc.poolProps.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    params.alloc.poolProps.location.id = device;
    params.alloc.bytesize = size;
    CUresult result = add_memory_node(stream, &params);
    if (result == CUDA_SUCCESS) *dptr = params.alloc.dptr;
    return result;
}

CUresult capture_free(struct stream *stream, CUdeviceptr dptr) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEM_FREE, .free = {dptr}};
    return add_memory_node(stream, &params);
}

// ---- events -------------------------------------------------------------------------------------

CUresult capture_records(struct stream *stream, struct event *event, bool external, bool *handled) {
    *handled = stream->capture != NULL;
    if (!*handled) return CUDA_SUCCESS;
    if (external) {
        CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_EVENT_RECORD};
        struct op op = {.kind = OP_NOTHING};
        params.eventRecord.event = (CUevent)event;
        return capture_add(stream, &op, params.type, &params);
    }
    pthread_mutex_lock(&graph_lock);
    event_set_captured(event, stream->capture->id, stream->tails, stream->tail_count);
    pthread_mutex_unlock(&graph_lock);
    return CUDA_SUCCESS;
}

CUresult capture_joins(struct stream *stream, struct event *event, bool external, bool *handled) {
    *handled = false;
    if (atomic_load(&captures_active) == 0) return CUDA_SUCCESS;
    if (external && stream->capture) {
        CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_WAIT_EVENT};
        struct op op = {.kind = OP_NOTHING};
        params.eventWait.event = (CUevent)event;
        *handled = true;
        return capture_add(stream, &op, params.type, &params);
    }
    CUresult result = CUDA_SUCCESS;
    pthread_mutex_lock(&graph_lock);
    struct capture *capture = find_capture(event->capture);
    if (stream->capture && stream->capture != capture) {
        // Depends on work outside the capture, or on another capture.
        stream->capture->is_invalid = true;
        result = capture ? CUDA_ERROR_STREAM_CAPTURE_MERGE : CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    } else if (capture) {
        *handled = true;
        if (!stream->capture) join(capture, stream);
        for (size_t i = 0; i < event->captured_count; i++) add_tail(stream, event->captured[i]);
    }
    pthread_mutex_unlock(&graph_lock);
    return result;
}

// ---- what captures forbid -----------------------------------------------------------------------

CUresult capture_forbids_waiting(struct stream *stream) {
    if (!stream->capture) return CUDA_SUCCESS;
    pthread_mutex_lock(&graph_lock);
    if (stream->capture) stream->capture->is_invalid = true;
    pthread_mutex_unlock(&graph_lock);
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

CUresult capture_forbids_unsafe_slow(void) {
    CUresult result = CUDA_SUCCESS;
    if (thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_SUCCESS;
    pthread_mutex_lock(&graph_lock);
    for (struct capture *capture = captures; capture; capture = capture->next) {
        bool own = capture->thread == this_thread();
        bool forbids = (own && capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED) ||
                       (!own && capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL &&
                        thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL);
        if (!forbids) continue;
        capture->is_invalid = true;
        result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    pthread_mutex_unlock(&graph_lock);
    return result;
}

CUresult sim_cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode) {
    if (!mode || *mode > CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_ERROR_INVALID_VALUE;
    CUstreamCaptureMode before = thread_mode;
    thread_mode = *mode;
    *mode = before;
    return CUDA_SUCCESS;
}

// ---- questions ----------------------------------------------------------------------------------

static CUstreamCaptureStatus status_of(const struct stream *stream) {
    if (!stream->capture) return CU_STREAM_CAPTURE_STATUS_NONE;
    return stream->capture->is_invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                       : CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

CUresult sim_cuStreamGetCaptureInfo_v3(CUstream hStream, CUstreamCaptureStatus *captureStatus_out,
                                       cuuint64_t *id_out, CUgraph *graph_out,
                                       const CUgraphNode **dependencies_out,
                                       const CUgraphEdgeData **edgeData_out,
                                       size_t *numDependencies_out) {
    struct stream *stream;
    CUresult result = stream_get(hStream, &stream);
    if (result != CUDA_SUCCESS) return result;
    if (!captureStatus_out) return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&graph_lock);
    *captureStatus_out = status_of(stream);
    if (*captureStatus_out == CU_STREAM_CAPTURE_STATUS_ACTIVE) {
        if (id_out) *id_out = stream->capture->id;
        if (graph_out) *graph_out = (CUgraph)stream->capture->graph;
        if (dependencies_out) *dependencies_out = (const CUgraphNode *)stream->tails;
        if (edgeData_out) *edgeData_out = NULL;
        if (numDependencies_out) *numDependencies_out = stream->tail_count;
    }
    pthread_mutex_unlock(&graph_lock);
    return CUDA_SUCCESS;
}

CUresult sim_cuStreamGetCaptureInfo_v2(CUstream hStream, CUstreamCaptureStatus *captureStatus_out,
                                       cuuint64_t *id_out, CUgraph *graph_out,
                                       const CUgraphNode **dependencies_out,
                                       size_t *numDependencies_out) {
    return sim_cuStreamGetCaptureInfo_v3(hStream, captureStatus_out, id_out, graph_out,
                                         dependencies_out, NULL, numDependencies_out);
}

CUresult sim_cuStreamGetCaptureInfo(CUstream hStream, CUstreamCaptureStatus *captureStatus_out,
                                    cuuint64_t *id_out) {
    return sim_cuStreamGetCaptureInfo_v3(hStream, captureStatus_out, id_out, NULL, NULL, NULL,
                                         NULL);
}

CUresult sim_cuStreamIsCapturing(CUstream hStream, CUstreamCaptureStatus *captureStatus) {
    return sim_cuStreamGetCaptureInfo(hStream, captureStatus, NULL);
}

CUresult sim_cuStreamUpdateCaptureDependencies_v2(CUstream hStream, CUgraphNode *dependencies,
                                                  const CUgraphEdgeData *dependencyData,
                                                  size_t numDependencies, unsigned int flags) {
    (void)dependencyData;
    struct stream *stream;
    CUresult result = stream_get(hStream, &stream);
    if (result != CUDA_SUCCESS) return result;
    if (numDependencies && !dependencies) return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&graph_lock);
    if (status_of(stream) != CU_STREAM_CAPTURE_STATUS_ACTIVE) {
        result = CUDA_ERROR_ILLEGAL_STATE;
    } else if (flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES) {
        set_tails(stream, (struct node *const *)dependencies, numDependencies);
    } else {
        for (size_t i = 0; i < numDependencies; i++)
            add_tail(stream, (struct node *)dependencies[i]);
    }
    pthread_mutex_unlock(&graph_lock);
    return result;
}

CUresult sim_cuStreamUpdateCaptureDependencies(CUstream hStream, CUgraphNode *dependencies,
                                               size_t numDependencies, unsigned int flags) {
    return sim_cuStreamUpdateCaptureDependencies_v2(hStream, dependencies, NULL, numDependencies,
                                                    flags);
}
