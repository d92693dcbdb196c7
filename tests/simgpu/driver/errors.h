// SPDX-License-Identifier: Apache-2.0
// The generated names of result codes, for errors.c.
#pragma once

#include <cuda.h>

struct error_row {
    int code;
    const char *name;
};

// Generated from the CUresult enumeration.
extern const struct error_row error_rows[];
extern const unsigned error_row_count;
