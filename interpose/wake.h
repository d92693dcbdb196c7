// SPDX-License-Identifier: Apache-2.0
//
// Inert → awake: when the library begins to record, and what a fork, an exec and an exit do to it.
// See wake.c.
#ifndef MEMWATCH_WAKE_H
#define MEMWATCH_WAKE_H

#include "ledger.h"

enum mw_wake_state {
    MW_INERT,  // nothing made yet; also every forked child, since the kernel zeroes the page
    MW_WAKING, // one thread is making the ledger
    MW_AWAKE,
    MW_OFF // told not to record, or no ledger can be made
};

// The state lives in a page that the kernel zeroes in a forked child (MADV_WIPEONFORK), also after
// a raw clone that no atfork handler hears of. So one load tells both whether we record and whether
// the ledger is this process's own. The page is made by the first mw_wake; until then the state is
// MW_INERT, or MW_OFF, and stands elsewhere.
extern _Atomic uint32_t *mw_wake_word;

MW_INLINE bool mw_awake(void) {
    // Acquire: the page was mapped before the pointer to it was stored.
    _Atomic uint32_t *word = __atomic_load_n(&mw_wake_word, __ATOMIC_ACQUIRE);
    return mw_likely(atomic_load_explicit(word, memory_order_acquire) == MW_AWAKE);
}

// Makes the ledger if there is none: at the first event worth recording. True if awake afterwards.
// The first call takes about a millisecond (a file, a companion process); threads that come
// meanwhile wait for it, at most 5 s. errno is preserved.
bool mw_wake(void);

#endif
