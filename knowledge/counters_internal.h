// SPDX-License-Identifier: Apache-2.0
//
// What counters.c finds and counters_text.c puts into words: the tables of known values.
#ifndef KNOWLEDGE_COUNTERS_INTERNAL_H
#define KNOWLEDGE_COUNTERS_INTERNAL_H

#include "counters.h"

#define TWO_TO(n) ((number_wide)1 << (n))
#define TOP       TWO_TO(64) // what a 64-bit counter wraps at

// A value that means "no amount": the `entry` of a COUNTER_SENTINEL.
struct sentinel {
    number_wide value; // of a negative one the magnitude
    unsigned bits;
    bool negative;
    const char *name;
    const char *meaning[LANGUAGES]; // and where it is seen
};

// The first bytes of a file, or what fills memory, as a little-endian machine reads eight of them:
// the `entry` of a COUNTER_MAGIC. NULL there is a byte that repeats.
struct magic {
    uint64_t value, mask; // only the bits of `mask` are fixed
    bool header;          // of a file; otherwise a fill pattern
    bool mach_o;
    const char *name[LANGUAGES];
};

// Where addresses lie: the `entry` of a COUNTER_POINTER. NULL there is a mapping of the context,
// or, with a sibling, the sibling's address less a tenth, so many times.
struct region {
    uint64_t first, last;
    const char *name[LANGUAGES];
};

// digits × unit: the value in the middle of those that print as `n`.
number_wide counters_middle(const struct number *n, uint64_t unit_bytes);

// The highest bit that is set, counted from 0; 0 if there is none.
int counters_top_bit(number_wide value);

// Eight bytes as two floats or one double, if these are what a program may well have stored: of
// magnitude 10^-6 to 10^6.
bool counters_two_floats(uint64_t bits, float *high, float *low);
bool counters_one_double(uint64_t bits, double *out);

#endif
