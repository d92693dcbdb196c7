// SPDX-License-Identifier: Apache-2.0
// The generated table behind cuGetProcAddress, for lookup.c.
#pragma once

struct lookup_row {
    const char *base;
    int version;    // the toolkit version that introduced this ABI
    int per_thread; // a _ptsz/_ptds symbol
    void *entry;
};

// Generated, ordered by base name, then per_thread, then version.
extern const struct lookup_row lookup_rows[];
extern const unsigned lookup_row_count;
