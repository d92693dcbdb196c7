// SPDX-License-Identifier: Apache-2.0
//
// What a program of rows does: every operation makes something and undoes it, in every variant, by
// several threads.
//
//   churn    each thread makes and undoes small things one after the other
//   peak     each thread makes all things, large; then all wait for one another. Here the peak of
//            every space is reached with no call under way, so that the ledger's and the GPU's own
//            peak must be the same number
//   undoing  each thread undoes what its neighbour made, so that frees by another thread are the
//            rule; with the end "leak" it leaves every third thing
//   failing  calls that fail
//   alone    operations that would disturb other threads, by the main thread
#ifndef MEMWATCH_TEST_OPERATIONS_H
#define MEMWATCH_TEST_OPERATIONS_H

#include "cuda_abi.h"

#include <stdio.h>
#include <stdlib.h>

struct worker {
    unsigned number;
    int device;
    mwHandle context, stream;
};

// One thing made. What the fields hold is the operation's business.
struct thing {
    unsigned variant;
    size_t bytes; // how large it shall be
    mwPtr key, other;
    void *pointer, *more;
};

struct operation {
    const char *name;
    unsigned variants;
    void (*make)(const struct worker *, struct thing *);
    void (*undo)(const struct worker *, struct thing *);
};

extern const struct operation operations[], operations_alone[];
extern const unsigned operation_count, operation_alone_count;

// The program's own parts. prepare: once, before any thread; begin: by each thread, first of all;
// fail_calls: calls that must fail.
void prepare(void);
void begin(struct worker *);
void fail_calls(const struct worker *);

#define MUST(call)                                                                                 \
    do {                                                                                           \
        int result_ = (call);                                                                      \
        if (result_) {                                                                             \
            fprintf(stderr, "%s:%d: %s: result %d\n", __FILE__, __LINE__, #call, result_);         \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define MUST_FAIL(call)                                                                            \
    do {                                                                                           \
        if (!(call)) {                                                                             \
            fprintf(stderr, "%s:%d: %s: succeeded\n", __FILE__, __LINE__, #call);                  \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#endif
