// SPDX-License-Identifier: Apache-2.0
//
// The native frames of the calling thread, and the modules that addresses belong to. See
// stack_native.c.
#ifndef MEMWATCH_STACK_NATIVE_H
#define MEMWATCH_STACK_NATIVE_H

#include "ledger.h"

#include <stdbool.h>
#include <stdint.h>

// Sees how objects are found here and walks once; says in *level what came of it. Called once a
// ledger, at wake-up, and in a forked child again. Preserves errno.
void mw_native_find(struct mw_level *level);

// In a forked child, before anything else: what other threads were amid at the fork will not go on.
void mw_native_forked(void);
extern bool mw_native_ready;

// Addresses of the calling thread's frames, innermost first, this library's own left out; at most
// `limit`. Returns how many; *cut: there were more, beyond the limit or beyond code that says
// nothing of itself (made at run time, without frame pointers). They are return addresses, but
// where a signal interrupted the code: there it is the next instruction + 1, so that one rule
// serves all: the frame is at the address before.
//
// Anywhere at any time, also in signal handlers and within itself. Needs 2 KiB of stack. errno is
// preserved.
unsigned mw_native_walk(uintptr_t *pc, unsigned limit, bool *cut);

struct mw_generation {
    _Atomic uint64_t present;
    _Atomic uint64_t closing; // dlcloses under way
};
extern struct mw_generation mw_generation; // for mw_native_generation alone
uint64_t mw_unsettled_generation(void);    // another one at each call

// What was learnt about an address holds while this stays the same: it changes when objects are
// unloaded, and at every call while one is just being unloaded. Ask after the walk. (That
// nothing is loaded at an address may become false without a change.)
MW_INLINE uint64_t mw_native_generation(void) {
    // In this order: whoever sees that a dlclose has ended also sees what it changed.
    if (mw_unlikely(atomic_load_explicit(&mw_generation.closing, memory_order_acquire)))
        return mw_unsettled_generation();
    return mw_get(&mw_generation.present);
}
#define MW_UNSETTLED (UINT64_C(1) << 63) // set in a generation while one is being unloaded

// The doors tell of each dlclose, before and after.
void mw_native_closing(void);
void mw_native_closed(void);

// The object that holds an address, as the loader knows it just now. False: none does (code made at
// run time). `path` points to the loader's own string ("" = the program itself), valid while the
// object is loaded; build id bytes are copied. Without a lock where the C library has
// _dl_find_object (glibc 2.35).
struct mw_native_module {
    const char *path;
    uintptr_t base;       // load bias
    uintptr_t start, end; // its part of the address space
    uint8_t build_id_bytes, build_id[32];
};
bool mw_native_module_at(uintptr_t pc, struct mw_native_module *out);

#endif
