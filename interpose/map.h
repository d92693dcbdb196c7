// SPDX-License-Identifier: Apache-2.0
//
// From a 64-bit hash to a 32-bit value, lock-free and only growing: what this process remembers of
// the tables that it interned things into. Private memory, not part of the file: a reader needs no
// hashes. See map.c.
#ifndef MEMWATCH_MAP_H
#define MEMWATCH_MAP_H

#include "ledger.h"

#include <stdbool.h>
#include <stdint.h>

#define MW_MAP_LEVELS 9u

struct mw_map_entry {
    _Atomic uint64_t hash;  // 0 = free
    _Atomic uint32_t value; // plus 1; 0 = being stored
    uint32_t reserved;
};
#define MW_MAP_FIRST 1024u // entries of the first level, a power of two
struct mw_map {
    struct mw_map_entry *level[MW_MAP_LEVELS]; // of MW_MAP_FIRST entries, then twice as many each
    _Atomic uint32_t levels;                   // begun, of which the last may be in the making
    _Atomic uint32_t used[MW_MAP_LEVELS];
};

// Where a search stands; starts as all zero.
struct mw_map_search {
    uint32_t level, probe;
};

// The next value stored under the hash; false if there is no more. Several things may share a
// hash: the caller compares and asks again. Any thread, no lock, no system call.
bool mw_map_find(struct mw_map *map, uint64_t hash, struct mw_map_search *search, uint32_t *value);

// The first value stored under the hash, for callers to whom the hash says all. Most likely it is
// the first that is looked at: a program's loop was stored first.
MW_INLINE bool mw_map_find_one(struct mw_map *map, uint64_t hash, uint32_t *value) {
    struct mw_map_entry *table = __atomic_load_n(&map->level[0], __ATOMIC_ACQUIRE);
    struct mw_map_search search = {0};
    if (mw_likely(table && hash)) {
        struct mw_map_entry *e = &table[hash % MW_MAP_FIRST];
        // Acquire: what the value refers to was complete before the value was stored.
        uint32_t stored =
            mw_get(&e->hash) == hash ? atomic_load_explicit(&e->value, memory_order_acquire) : 0;
        *value = stored - 1;
        if (mw_likely(stored)) return true;
    }
    return mw_map_find(map, hash, &search, value);
}

// Stores a value, beside others of that hash. False: full; then it is not found later, which costs
// the caller time or a duplicate, no more.
// Makes a system call when it grows (a dozen times in a life); errno is preserved.
bool mw_map_add(struct mw_map *map, uint64_t hash, uint32_t value);

// Forgets everything, and makes the first level: before the first use, while nobody else uses the
// map. (Made by the first to add something, it would not be there for threads that add meanwhile,
// and these would intern the same thing again at each event.)
void mw_map_reset(struct mw_map *map);

// Two words as one, in which each bit of both counts. The folded 128-bit product mixes all bits
// into all, as in wyhash; a plain product leaves the low bits, which choose the entry, to the low
// bits.
#define MW_MIX_A UINT64_C(0xa0761d6478bd642f)
#define MW_MIX_B UINT64_C(0xe7037ed1a0b428db)
static inline uint64_t mw_mix(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)(a ^ MW_MIX_A) * (b ^ MW_MIX_B);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

// A hash: h = mw_hash(h, word) for each word.
static inline uint64_t mw_hash(uint64_t h, uint64_t word) {
    return mw_mix(h ^ word, 0);
}

#endif
