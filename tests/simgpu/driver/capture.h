// SPDX-License-Identifier: Apache-2.0
// Stream capture: while a stream captures, what it is given becomes nodes of a graph.
#pragma once

#include "event.h"
#include "stream.h"

// cuStreamWaitEvent and cuEventRecord on a stream or event that has to do with a capture. `handled`
// is set when nothing is left to do outside the graph.
CUresult capture_joins(struct stream *stream, struct event *event, bool external, bool *handled);
CUresult capture_records(struct stream *stream, struct event *event, bool external, bool *handled);

// A call that waits for the stream ends its capture: an error, and the capture becomes invalid.
CUresult capture_forbids_waiting(struct stream *stream);

// Calls that may wait for the device (plain allocation and free) are errors while this thread, or
// any thread in global mode, captures; they make the captures invalid. One load when nothing
// captures.
CUresult capture_forbids_unsafe_slow(void);
extern _Atomic int captures_active;
static inline CUresult capture_forbids_unsafe(void) {
    return __builtin_expect(atomic_load_explicit(&captures_active, memory_order_relaxed) == 0, 1)
               ? CUDA_SUCCESS
               : capture_forbids_unsafe_slow();
}

// Adds a node after what the stream has captured so far. The stream must be capturing.
CUresult capture_add(struct stream *stream, const struct op *op, CUgraphNodeType type,
                     const CUgraphNodeParams *params);
// cuMemAllocAsync and cuMemFreeAsync on a capturing stream.
CUresult capture_alloc(struct stream *stream, CUdeviceptr *dptr, size_t size, int device);
CUresult capture_free(struct stream *stream, CUdeviceptr dptr);

// The stream ends: so does its part in a capture.
void capture_forget(struct stream *stream);
