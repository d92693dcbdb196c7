// SPDX-License-Identifier: Apache-2.0
// Streams as queues of operations. With no delay asked for, an operation that finds its stream idle
// runs at once in the calling thread; otherwise a worker thread of the stream runs it in order,
// SIMGPU_DELAY later. Host functions always run on the worker, as they may wait for the caller.
#pragma once

#include "blocks.h"
#include "context.h"

#include <time.h>

struct graph_memory;
struct node;

// A point in a stream: reached once, waited for by events, other streams and threads.
struct fence;
struct fence *fence_new(void); // one reference
struct fence *fence_retain(struct fence *fence);
void fence_release(struct fence *fence);
bool fence_is_reached(struct fence *fence);
void fence_wait(struct fence *fence);
struct timespec fence_time(struct fence *fence); // only once reached

// Every copy is a copy of `depth` slices of `height` rows of `width` bytes.
struct copy_side {
    uintptr_t base;
    size_t pitch, slice; // bytes from row to row and from slice to slice
};

struct copy {
    struct copy_side from, to;
    size_t width, height, depth;
};

struct fill {
    uintptr_t base;
    size_t pitch, width, height; // width in elements
    unsigned element;            // bytes
    unsigned value;
};

enum op_kind {
    OP_NOTHING, // kernels, hints
    OP_COPY,
    OP_FILL,
    OP_HOST,
    OP_CALLBACK,
    OP_SIGNAL,
    OP_WAIT,
    OP_WRITE_VALUE,
    OP_WAIT_VALUE,
    OP_GIVE_BACK,  // memory freed in stream order
    OP_GRAPH_FREE, // memory of a graph, by a free node
};

struct op {
    enum op_kind kind;
    union {
        struct copy copy;
        struct fill fill;
        struct {
            CUhostFn function;
            void *data;
        } host;
        struct {
            CUstreamCallback function;
            CUstream stream;
            void *data;
        } callback;
        struct fence *fence; // a reference owned by the operation
        struct {
            CUdeviceptr address;
            uint64_t value;
            unsigned flags;
            bool wide;
        } value;
        struct block block;
        struct graph_memory *memory; // a reference owned by the operation
    };
};

struct stream {
    struct object object;
    struct context *context;
    unsigned flags;
    int priority;
    unsigned long long id;
    bool is_legacy, is_ending;
    struct stream *next; // in the context
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool has_worker;
    struct queued *first, *last;
    _Atomic uint64_t submitted, completed;
    struct capture *capture; // capture.c; NULL: not capturing
    struct node **tails;     // what the next captured node comes after
    size_t tail_count;
    CUstreamAttrValue attributes[CU_LAUNCH_ATTRIBUTE_MAX];
};

// NULL when out of host memory. Deleting lets queued work finish.
struct stream *stream_new(struct context *context, unsigned flags, int priority);
void stream_delete(struct stream *stream);
// Resolves a handle, the special ones included.
CUresult stream_get(CUstream handle, struct stream **stream);
// The stream of synchronous calls: the context's legacy one, or the thread's own.
CUresult stream_of_sync_calls(struct stream **stream);
// Queues or runs the operation. Takes over what the operation references.
void stream_submit(struct stream *stream, const struct op *op);
bool stream_is_idle(struct stream *stream);
void stream_synchronize(struct stream *stream);
// Waits for everything on the device, as freeing memory does.
void device_synchronize(int device);

// Like stream_submit for calls of the API: while the stream captures, the operation becomes a node
// of the kind given, with these parameters (may be NULL).
CUresult stream_submit_or_capture(struct stream *stream, const struct op *op, CUgraphNodeType type,
                                  const CUgraphNodeParams *params);

void op_run(const struct op *op);
// Copies what an operation references, for running it more than once.
struct op op_again(const struct op *op);
