// SPDX-License-Identifier: Apache-2.0
// The one way into the driver. Every exported function is an ENTRY (generated): it checks that the
// driver is up, applies injected faults and slowness, runs the behaviour sim_NAME, and books a
// failed allocation. Behaviours call each other by their sim_ names only, so that one call from
// outside counts once.
#pragma once

#include "api.h"
#include "books.h"

#include <stdbool.h>

// Markers in front of a behaviour's definition; generate.py turns them into API_* flags.
// ALLOCATES: creates something the books count. It states what by ATTEMPT, and an injected fault
// strikes there, so that the failure is booked where a real one would be.
#define ALLOCATES
// ANYTIME: answers before cuInit, in a forked child and after the end.
#define ANYTIME

enum { API_ALLOCATES = 1, API_ANYTIME = 2, API_PER_THREAD = 4 };

struct api {
    const char *name, *base; // exported name, and without _vN, _ptsz, _ptds
    unsigned flags;
};

// Generated, in the order of names.
extern const struct api apis[];
extern const unsigned api_count;

// The call a thread is in; lives in the ENTRY's frame.
struct call {
    struct call *outer;
    const struct api *api;
    CUresult fault;
    int attempts_space, attempts_device;
};

CUresult call_begin(struct call *call, unsigned api);
CUresult call_end(struct call *call, CUresult result);

// Exported name of the API this thread is in, for messages.
const char *call_name(void);
// Whether the call came by a _ptsz/_ptds twin: stream 0 then means the thread's own.
bool call_is_per_thread(void);

CUresult call_attempts(int device, enum space space);

#define ATTEMPT(device, space)                                                                     \
    do {                                                                                           \
        CUresult fault_ = call_attempts(device, space);                                            \
        if (fault_ != CUDA_SUCCESS) return fault_;                                                 \
    } while (0)

#define ENTRY(name, index, behaviour, params, args)                                                \
    __attribute__((visibility("default"))) CUresult name params {                                  \
        struct call call_;                                                                         \
        CUresult result_ = call_begin(&call_, index);                                              \
        if (result_ == CUDA_SUCCESS) result_ = sim_##behaviour args;                               \
        return call_end(&call_, result_);                                                          \
    }

#define ENTRY_WITHOUT_BEHAVIOUR(name, index, answer, params)                                       \
    __attribute__((visibility("default"))) CUresult name params {                                  \
        struct call call_;                                                                         \
        CUresult result_ = call_begin(&call_, index);                                              \
        return call_end(&call_, result_ == CUDA_SUCCESS ? answer : result_);                       \
    }

// CUDA_SUCCESS while the driver is up, else the error every call gets.
CUresult driver_state(void);
// Moves to "up". Idempotent.
CUresult driver_start(void);
