// SPDX-License-Identifier: Apache-2.0
// Arrays as copies and mipmapped arrays see them.
#pragma once

#include "memory.h"
#include "stream.h"

// An array, or one level of a mipmapped array (then `owner` is set and it holds no memory itself).
struct array {
    struct object object;
    struct array *next;
    struct context *context;
    struct mipmap *owner;
    CUDA_ARRAY3D_DESCRIPTOR descriptor;
    size_t bytes; // booked
    uintptr_t base;
    size_t pitch, slice; // of rows (of blocks, where the format has blocks) and slices
};

// The side of a copy that begins at (x bytes, y, z). False when the array has no memory.
bool array_side(CUarray handle, size_t x, size_t y, size_t z, struct copy_side *side);
bool array_is(CUarray handle);
