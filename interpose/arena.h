// SPDX-License-Identifier: Apache-2.0
//
// The ledger's arena: names, modules and stacks, each stored once. See arena.c.
#ifndef MEMWATCH_ARENA_H
#define MEMWATCH_ARENA_H

#include "ledger_format.h"

#include <stdbool.h>

// Starts afresh in a new ledger, with one chunk if there is room. Nobody may be using the arena.
void mw_arena_reset(void);

// The reference of an object with these very bytes, stored now if there is none yet. `object` is a
// complete one, its kind and size filled in, its padding zero. 0: no room (the caller counts it).
// Any thread; system calls only when the file grows.
uint32_t mw_intern(const struct mw_object *object);

// The reference of a string, cut at MW_STRING_MAX bytes. 0 for an empty one, or if there is no
// room.
uint32_t mw_intern_string(const char *bytes, unsigned length);

#endif
