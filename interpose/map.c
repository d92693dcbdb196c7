// SPDX-License-Identifier: Apache-2.0
//
// Levels of open addressing, each twice the one before. When one is half full the next is
// begun, and nothing ever moves: so a reader needs no lock, and what was stored first, which is
// what a program's loop uses, is found first.
//
// An entry is claimed by compare-and-swap of its hash, then gets its value. Who meets it between
// the two passes over it: the thing is found a little later, or stored twice.
#include "map.h"

#include "ledger.h"

#include <errno.h>
#include <sys/mman.h>

#define MAX_PROBES 16u // at half load chains are short; a longer one is as good as full

static uint32_t entries_of(uint32_t level) {
    return MW_MAP_FIRST << level;
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

static void begin_level(struct mw_map *map, uint32_t level) {
    uint32_t expected = level;
    if (level >= MW_MAP_LEVELS ||
        !atomic_compare_exchange_strong(&map->levels, &expected, level + 1))
        return;
    int saved = errno;
    void *table = mmap(NULL, entries_of(level) * sizeof(struct mw_map_entry),
                       PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    errno = saved;
    if (table == MAP_FAILED) return; // the level stays begun: not tried again at each event
    __atomic_store_n(&map->level[level], table, __ATOMIC_RELEASE);
}

static bool add_in(struct mw_map *map, uint32_t level, uint64_t hash, uint32_t value) {
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

bool mw_map_add(struct mw_map *map, uint64_t hash, uint32_t value) {
    uint32_t levels = mw_get(&map->levels);
    hash = mark(hash);
    if (mw_get(&map->used[levels - 1]) > entries_of(levels - 1) / 2) begin_level(map, levels++);
    // The newest may be in the making by another thread: until then the older ones take more.
    for (uint32_t level = levels < MW_MAP_LEVELS ? levels : MW_MAP_LEVELS; level-- > 0;)
        if (add_in(map, level, hash, value)) return true;
    return false;
}

void mw_map_reset(struct mw_map *map) {
    for (uint32_t i = 0; i < MW_MAP_LEVELS; i++) {
        if (map->level[i]) munmap(map->level[i], entries_of(i) * sizeof(struct mw_map_entry));
        map->level[i] = NULL;
        mw_set(&map->used[i], 0);
    }
    mw_set(&map->levels, 0);
    begin_level(map, 0);
}
