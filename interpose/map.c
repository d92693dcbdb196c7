// SPDX-License-Identifier: Apache-2.0
//
// Levels of open addressing, each four times the one before. When one is half full the next is
// begun, and nothing ever moves: so a reader needs no lock, and what was stored first, which is
// what a program's loop uses, is found first.
//
// An entry is claimed by compare-and-swap of its hash, then gets its value. Who meets it between
// the two passes over it: the thing is found a little later, or stored twice.
#include "map.h"

#include "ledger.h"

#include <errno.h>
#include <sys/mman.h>

struct mw_map_entry {
    _Atomic uint64_t hash;  // 0 = free
    _Atomic uint32_t value; // plus 1; 0 = being stored
    uint32_t reserved;
};

#define FIRST_ENTRIES 1024u
#define MAX_PROBES    16u // at half load chains are short; a longer one is as good as full

static uint32_t entries_of(uint32_t level) {
    return FIRST_ENTRIES << 2 * level;
}

// A hash of 0 would read as a free entry.
static uint64_t mark(uint64_t hash) {
    return hash ? hash : 1;
}

bool mw_map_find(struct mw_map *map, uint64_t hash, struct mw_map_search *search, uint32_t *value) {
    uint32_t levels = atomic_load_explicit(&map->levels, memory_order_acquire);
    hash = mark(hash);
    for (; search->level < levels && search->level < MW_MAP_LEVELS; search->level++) {
        struct mw_map_entry *table = __atomic_load_n(&map->level[search->level], __ATOMIC_ACQUIRE);
        uint32_t mask = entries_of(search->level) - 1;
        while (table && search->probe < MAX_PROBES) {
            struct mw_map_entry *e = &table[(hash + search->probe++) & mask];
            uint64_t have = mw_get(&e->hash);
            if (!have) break;
            // Acquire: what the value refers to was complete before the value was stored.
            uint32_t stored =
                have == hash ? atomic_load_explicit(&e->value, memory_order_acquire) : 0;
            if (stored) {
                *value = stored - 1;
                return true;
            }
        }
        search->probe = 0;
    }
    return false;
}

static bool begin_level(struct mw_map *map, uint32_t level) {
    uint32_t expected = level;
    if (level >= MW_MAP_LEVELS ||
        !atomic_compare_exchange_strong(&map->levels, &expected, level + 1))
        return false;
    int saved = errno;
    void *table = mmap(NULL, entries_of(level) * sizeof(struct mw_map_entry),
                       PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    errno = saved;
    if (table == MAP_FAILED) return false; // the level stays begun: not tried again at each event
    __atomic_store_n(&map->level[level], table, __ATOMIC_RELEASE);
    return true;
}

bool mw_map_add(struct mw_map *map, uint64_t hash, uint32_t value) {
    hash = mark(hash);
    uint32_t levels = mw_get(&map->levels);
    uint32_t level = levels ? levels - 1 : 0;
    if (!levels || mw_get(&map->used[level]) > entries_of(level) / 2)
        if (begin_level(map, levels)) level = levels;
    struct mw_map_entry *table = __atomic_load_n(&map->level[level], __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; table && i < MAX_PROBES; i++) {
        struct mw_map_entry *e = &table[(hash + i) & (entries_of(level) - 1)];
        uint64_t none = 0;
        if (mw_get(&e->hash) == 0 &&
            atomic_compare_exchange_strong_explicit(&e->hash, &none, hash, memory_order_relaxed,
                                                    memory_order_relaxed)) {
            mw_add(&map->used[level], 1);
            atomic_store_explicit(&e->value, value + 1, memory_order_release);
            return true;
        }
    }
    return false;
}

void mw_map_clear(struct mw_map *map) {
    for (uint32_t i = 0; i < MW_MAP_LEVELS; i++) {
        if (map->level[i]) munmap(map->level[i], entries_of(i) * sizeof(struct mw_map_entry));
        map->level[i] = NULL;
        mw_set(&map->used[i], 0);
    }
    mw_set(&map->levels, 0);
}
