// SPDX-License-Identifier: Apache-2.0
// The simulated GPU's own books: what it handed out, counted by itself. Tests compare the ledger
// with these numbers, so nothing here may be shared with the code under test.
// One row per (device ordinal, space); the file is a plain array, readable at any moment and after
// any end of the process (tests/simgpu/books.py reads it).
#pragma once

#include <stdint.h>

// The order is part of the file format; books.py lists the same names.
enum space {
    SPACE_DEVICE,
    SPACE_MANAGED,
    SPACE_PINNED,
    SPACE_REGISTERED,
    SPACE_ARRAY,
    SPACE_PHYSICAL,
    SPACE_MAPPED,
    SPACE_ADDRESS,
    SPACE_IMPORTED,
    SPACE_GRAPH,
    SPACE_MULTICAST,
    SPACE_POOL_RESERVED, // bytes pools hold from the device; live and peak only
    SPACE_COUNT
};

// Ordinal of memory that lives in no device: pinned, registered, address space.
#define NO_DEVICE (-1)

// Creates the file (path with "%p" for the pid; NULL: private memory only). Exits with a message
// when it cannot.
void books_open(const char *path, int devices);

// All thread-safe and lock-free. Called when the effect happens: after an allocation is usable and
// before its memory can be handed out again.
void books_alloc(int device, enum space space, uint64_t bytes);
void books_free(int device, enum space space, uint64_t bytes);
void books_failed(int device, enum space space);
// Moves live without counting an allocation or a free.
void books_move(int device, enum space space, int64_t delta);
