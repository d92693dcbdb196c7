// SPDX-License-Identifier: Apache-2.0
//
// Byte counts and durations for people (units.h).
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

const char *duration_text(uint64_t ns, char out[DURATION_TEXT]) {
    static const struct {
        const char *unit;
        double seconds, below; // that many seconds make one; up to so many of them are told in it
    } units[] = {{"s", 1, 120}, {"min", 60, 120}, {"h", 3600, 48}, {"d", 86400, 1e12}};
    double s = (double)ns / 1e9;
    size_t i = 0;
    while (i < 3 && s / units[i].seconds >= units[i].below) i++;
    if (ns < 1000000000)
        snprintf(out, DURATION_TEXT, "%u ms", (unsigned)(ns / 1000000));
    else
        snprintf(out, DURATION_TEXT, "%.1f %s", s / units[i].seconds, units[i].unit);
    return out;
}
