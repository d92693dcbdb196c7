// SPDX-License-Identifier: Apache-2.0
//
// The doors: the ways by which a program gets hold of a function that we wrap. See doors.c.
#ifndef MEMWATCH_DOORS_H
#define MEMWATCH_DOORS_H

#include "entrypoints.h"
#include "ledger_format.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What the doors saw, kept from the first instruction on, in the library's own memory: look-ups
// happen long before there is a ledger. Copied into the ledger when one is made and at every
// change thereafter (mw_doors_publish).
struct mw_doors_seen {
    _Atomic uint32_t answered[MW_DOOR_COUNT]; // look-ups answered with a wrapper
    _Atomic uint32_t deepbinds;
    char deepbind_path[256];
    char driver_path[256]; // the object whose functions are routed
    struct mw_lookup unwatched[MW_LOOKUPS];
    _Atomic uint32_t unwatched_lost;
};
extern struct mw_doors_seen mw_doors_seen;

// The definition of a libc function behind us in load order, into `real` if that is still NULL:
// libc's own, or another tool's that keeps its place between us and libc.
void mw_doors_real(mw_pointer *real, const char *name);

// True if another copy of this library stands before us in load order: then we stay inert.
bool mw_doors_second_copy(void);

// The real function behind an entry's `next`, resolved at first use by walking the loaded objects
// (dl_iterate_phdr and their symbol tables: no dl function, which glibc would block while another
// thread runs a constructor). NULL if no object after us defines it.
void *mw_doors_next(unsigned entry);

// What to hand out for a pointer that a look-up of `name` returned: a wrapper, if the pointer is
// exactly the address of a function we wrap whose name begins with `name` (equals it for
// MW_DOOR_DLSYM), else the pointer itself. The first pointer into a driver or runtime library makes
// its symbols known. Records unwatched look-ups. errno is preserved.
void *mw_doors_route(void *pointer, const char *name, enum mw_door door);

// Address → is it inside this library?
bool mw_doors_is_ours(const void *pointer);

// Object → is it this library, or another file of it?
struct mw_elf;
bool mw_doors_is_this(const struct mw_elf *object);
bool mw_doors_is_a_copy(const struct mw_elf *object);

// Defined by the ledger's side: called after mw_doors_seen changed (a new unwatched name, a first
// answer, a deep bind), so that a ledger that exists can copy it. No-op while there is none.
void mw_doors_changed(void);

#endif
