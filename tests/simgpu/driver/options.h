// SPDX-License-Identifier: Apache-2.0
// The SIMGPU_* environment options, read once (tests/simgpu/README.md explains each). A wrong value
// ends the process with one line: a test that believes in a fault that never comes would pass for
// the wrong reason.
#pragma once

#include "books.h"

#include <cuda.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_DEVICES 64

struct options {
    int devices;
    uint64_t memory[MAX_DEVICES]; // bytes
    int version;                  // what cuDriverGetVersion answers
    bool lies_free, lies_total;   // cuMemGetInfo answers lie_* instead of the truth
    uint64_t lie_free, lie_total;
    uint64_t context;  // bytes of its device that a context takes for itself
    uint64_t delay_ns; // each piece of stream work completes this much later
    bool deinitialises;
    const char *books;
};

extern struct options options;

// Reads the environment at the first call; later calls cost one load.
void options_read(void);

// Counts this call against SIMGPU_FAULT and SIMGPU_SLOW: sleeps as asked, then returns the code to
// fail with, or CUDA_SUCCESS.
CUresult options_disturb(unsigned api);

// Replaces "%p" by the process id.
void option_path(const char *pattern, char *path, size_t size);

// Prints "simgpu: NAME=value: expected ..." and ends the process with status 2.
_Noreturn void option_fail(const char *name, const char *value, const char *expected);

// SIMGPU_TRACE: one line for a change of the books.
void trace_change(int device, enum space space, char change, uint64_t bytes);
