// SPDX-License-Identifier: Apache-2.0
//
// The caching allocator of allocator.c, as programs and Python scripts call it after dlopen.
#ifndef ALLOCATOR_H
#define ALLOCATOR_H

#include <stddef.h>
#include <stdint.h>

// What it knows of itself: the tests' truth.
struct books {
    uint64_t allocated, allocated_peak, reserved, reserved_peak;
    uint64_t blocks, segments, largest_gap;
    uint64_t allocations, frees, ooms;
};

#endif
