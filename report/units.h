// SPDX-License-Identifier: Apache-2.0
//
// Byte counts and durations for people.
#ifndef MEMWATCH_UNITS_H
#define MEMWATCH_UNITS_H

#include <stdint.h>

#define BYTES_TEXT 24

// "0 B", "1023 B", "1.00 KiB", "1.50 GiB": three digits or more, binary units. Returns `out`.
const char *bytes_text(uint64_t bytes, char out[BYTES_TEXT]);

#define DURATION_TEXT 16

// "12 ms", "3.4 s", "5.6 min", "7.8 h", "9.1 d". Returns `out`.
const char *duration_text(uint64_t ns, char out[DURATION_TEXT]);

#endif
