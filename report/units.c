// SPDX-License-Identifier: Apache-2.0
//
// Byte counts for people (units.h).
#include "units.h"

#include <inttypes.h>
#include <stdio.h>

const char *bytes_text(uint64_t bytes, char out[BYTES_TEXT]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    unsigned unit = 0;
    // 1023.995 would be printed as 1024.00.
    while (value >= (unit ? 1023.995 : 1024) && unit < 6) value /= 1024, unit++;
    if (unit == 0)
        snprintf(out, BYTES_TEXT, "%" PRIu64 " B", bytes);
    else
        snprintf(out, BYTES_TEXT, "%.2f %s", value, units[unit]);
    return out;
}
