// SPDX-License-Identifier: Apache-2.0
//
// Byte counts for people.
#ifndef MEMWATCH_UNITS_H
#define MEMWATCH_UNITS_H

#include <stdint.h>

#define BYTES_TEXT 24

// "0 B", "1023 B", "1.00 KiB", "1.50 GiB": three digits or more, binary units. Returns `out`.
const char *bytes_text(uint64_t bytes, char out[BYTES_TEXT]);

#endif
