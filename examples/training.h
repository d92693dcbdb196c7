// SPDX-License-Identifier: Apache-2.0
//
// What the C examples have in common: the sizes of the small training loop, the way it is to end,
// and nothing of any GPU API, so that each example shows its own API whole.

#ifndef EXAMPLES_TRAINING_H
#define EXAMPLES_TRAINING_H

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHT_BYTES ((size_t)64 << 20)
#define BATCH_BYTES  ((size_t)8 << 20)

// The batch that does not fit doubles at each step; 32 doublings are beyond any device's memory.
enum { STEPS = 10, OOM_STEPS = 32 };

enum ending {
    ENDING_OK,    // frees everything
    ENDING_LEAK,  // keeps every batch
    ENDING_OOM,   // keeps every batch, each twice the last, until one does not fit
    ENDING_CRASH, // SIGSEGV in the middle of the loop
    ENDING_ABORT, // SIGABRT in the middle of the loop
    ENDINGS,
};

// The ending that the only argument names; without one, ENDING_OK.
static inline enum ending ending_from(int argc, char **argv) {
    static const char *const names[ENDINGS] = {"ok", "leak", "oom", "crash", "abort"};
    for (int i = 0; i < ENDINGS && argc == 2; i++)
        if (strcmp(argv[1], names[i]) == 0) return (enum ending)i;
    if (argc == 1) return ENDING_OK;
    fprintf(stderr, "usage: %s [ok|leak|oom|crash|abort]\n", argv[0]);
    exit(2);
}

static inline int steps_of(enum ending ending) {
    return ending == ENDING_OOM ? OOM_STEPS : STEPS;
}

static inline size_t batch_bytes(enum ending ending, int step) {
    return ending == ENDING_OOM ? BATCH_BYTES << step : BATCH_BYTES;
}

static inline int keeps_batches(enum ending ending) {
    return ending == ENDING_LEAK || ending == ENDING_OOM;
}

// Ends the process at half the loop if that is its ending.
static inline void maybe_die(enum ending ending, int step) {
    if (step != STEPS / 2) return;
    if (ending == ENDING_CRASH) {
        // Nothing may turn the signal into something else: die as a stray pointer would make us.
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    }
    if (ending == ENDING_ABORT) abort();
}

#endif
