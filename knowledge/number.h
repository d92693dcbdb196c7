// SPDX-License-Identifier: Apache-2.0
//
// Numbers as people and programs write them: "67108914.49 GiB", "-76898304 B", "1,234 bytes",
// "17.79G", "0x0100000CFEEDFACF", "1.8446744073709552e+19", "112 %". A printed number stands for
// all the values that print so; which byte counts these are is what can be reasoned about.
//
// Nothing here allocates, keeps state or depends on the locale: safe in any thread.
#ifndef KNOWLEDGE_NUMBER_H
#define KNOWLEDGE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// 64-bit counters times units times a printed digit need more than 64 bits.
typedef unsigned __int128 number_wide;

enum number_kind {
    NUMBER_PLAIN,  // no unit: bytes, a count, a code, an id
    NUMBER_SIZE,   // bytes, with a unit
    NUMBER_RATE,   // bytes a second, with a unit
    NUMBER_PERCENT // "%"
};

struct number {
    number_wide digits; // all digits without sign and point: the number is digits / 10^decimals
    uint64_t integer;   // the digits before the point, without sign; UINT64_MAX if there are more
    bool negative;      // a minus stands before it: all fields but `value` are of the magnitude
    bool hexadecimal;   // was written "0x…"
    double value;       // the number as written, sign included, in its unit
    int decimals;       // digits after the point, less the exponent; negative: "2e9" has -9
    enum number_kind kind;
    bool has_unit;        // kind is NUMBER_SIZE or NUMBER_RATE
    bool binary;          // the unit can only be binary: B, KiB, Gi, pages; not "GB", "G"
    char unit[8];         // as written, without "/s"; "" if there is none
    uint64_t unit_bytes;  // bytes in one unit; 1 without a unit. "GB" and "G" count 1024^3 here, as
                          // the programs of this trade do (PyTorch up to 2.6 on MPS, TensorFlow)
    uint64_t other_bytes; // the unit's second reading, 1000^3 for "GB"; 0 if there is only one

    // The byte values (in units of 1 without a unit) that print so, when rounded to the digits
    // shown, both inclusive, in the reading of unit_bytes.
    number_wide wide_low, wide_high;
    uint64_t low, high; // the same, cut to 64 bits
    bool saturated;     // wide_high does not fit into 64 bits
};

// The number that `text`, of `length` bytes, begins with, its unit included; a blank may stand
// between the two. Thousands may be parted by commas. Returns the bytes it takes, 0 if none begins
// here, and then `out` is not touched. The text need not end with NUL and may hold anything;
// whether a word goes before it, as in "sm_90", is the caller's to look at.
size_t number_parse(const char *text, size_t length, struct number *out);

// Of a text all numbers that stand by themselves ("sm_90", "v2.9.1" and "10:31:07" have none):
// where the next one at or after `from` begins, or `length` if there is none; *taken is its length.
size_t number_find(const char *text, size_t length, size_t from, struct number *out, size_t *taken);

// The range of byte values for a given size of the unit (n->unit_bytes or n->other_bytes).
void number_range(const struct number *n, uint64_t unit_bytes, number_wide *low, number_wide *high);

// The byte value that the digits say exactly, rounded to the next byte; UINT64_MAX if it is more.
uint64_t number_bytes(const struct number *n);

// `bytes` in units of `unit_bytes` with so many digits (0 to 9) after the point, rounded as printf
// does. Returns `out`.
#define NUMBER_TEXT 64
const char *number_text(number_wide bytes, uint64_t unit_bytes, int decimals,
                        char out[NUMBER_TEXT]);

#endif
