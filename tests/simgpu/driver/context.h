// SPDX-License-Identifier: Apache-2.0
// Contexts and the per-thread stack of current ones.
#pragma once

#include "entry.h"
#include "object.h"

#include <pthread.h>
#include <stdatomic.h>

struct stream;

struct context {
    struct object object;
    int device;
    bool primary;
    // A green context shares the memory of the primary one it was made from.
    struct context *owner;
    _Atomic int retains;
    unsigned flags;
    unsigned long long id; // changes when a primary context is reset
    struct context *next;  // all contexts
    size_t limits[CU_LIMIT_MAX];
    _Atomic uint64_t peers; // devices whose memory this context may use
    pthread_mutex_t lock;   // streams
    struct stream *streams, *legacy;
};

void context_make_primary(int device);
// Calls `visit` for each live context of the device.
void contexts_visit(int device, CUresult (*visit)(struct context *));
// A green context keeps its primary one alive.
struct context *context_new_green(struct context *primary);
void context_delete_green(struct context *green);
// The calling thread's context. CUDA_ERROR_INVALID_CONTEXT when there is none,
// CUDA_ERROR_CONTEXT_IS_DESTROYED when it has ended.
CUresult context_current(struct context **context);
// Its device, NO_DEVICE without one: for booking a failure.
int context_device(void);
bool context_is_live(const struct context *context);

#define NEED_CONTEXT(name)                                                                         \
    struct context *name;                                                                          \
    do {                                                                                           \
        CUresult result_ = context_current(&name);                                                 \
        if (result_ != CUDA_SUCCESS) return result_;                                               \
    } while (0)

// memory.c: ends what plain allocation calls made in the context; `pools`: also the device's
// stream-ordered allocations.
void memory_end_context(struct context *context, bool pools);
// array.c
void arrays_end_context(struct context *context);
// stream.c
void streams_start_context(struct context *context);
void streams_end_context(struct context *context);
CUresult streams_synchronize(struct context *context);
