// SPDX-License-Identifier: Apache-2.0
//
// The arena: names, code, modules and stacks in the ledger, each stored once.
//
// Everything in it is immutable and named by its content: one function interns all kinds. Space is
// handed out by adding to one offset. The thread that takes the offset past three quarters of a
// chunk makes the next one, so that it is there before it is needed and nobody waits; where threads
// are faster than that, an object is lost and counted, and comes in with its next event.
//
// Bounded, like everything: after MAX_CHUNKS nothing new is stored. Two chunks are of each size, so
// that what is made in advance is a third of the whole.
#include "arena.h"

#include "ledger.h"
#include "map.h"

#include <string.h>

#define FIRST_BYTES (UINT64_C(128) << 10)
#define MAX_CHUNKS  18u // 32 MiB at last: 128 MiB in all

static struct {
    char *bytes;
    _Atomic uint64_t used; // may go beyond the chunk's size: then it is full
} chunk[MAX_CHUNKS];
static _Atomic uint32_t filling; // the chunk that is handed out of
static _Atomic uint32_t chunks;  // made
static _Atomic uint32_t claimed;
static struct mw_map known; // hash of the content → reference

static uint64_t chunk_bytes(uint32_t index) {
    return FIRST_BYTES << index / 2;
}

static void make_chunk(uint32_t index) {
    uint32_t expected = index;
    if (index >= MAX_CHUNKS || !atomic_compare_exchange_strong(&claimed, &expected, index + 1))
        return;
    uint64_t bytes = chunk_bytes(index);
    char *at = mw_ledger_grow(MW_CHUNK_ARENA, (uint32_t)(bytes / 8), bytes);
    if (!at) return;
    chunk[index].bytes = at;
    mw_set(&chunk[index].used, 0);
    atomic_store_explicit(&chunks, index + 1, memory_order_release);
}

void mw_arena_reset(void) {
    mw_map_reset(&known);
    mw_set(&filling, 0);
    mw_set(&chunks, 0);
    mw_set(&claimed, 0);
    make_chunk(0);
}

static void *reserve(uint64_t bytes) {
    uint32_t i = mw_get(&filling);
    while (i < atomic_load_explicit(&chunks, memory_order_acquire)) {
        uint64_t size = chunk_bytes(i), mark = size / 4 * 3;
        uint64_t at = mw_add(&chunk[i].used, bytes);
        if (at <= mark && at + bytes > mark) make_chunk(i + 1);
        if (at + bytes <= size) return chunk[i].bytes + at;
        // Full. If another thread has seen that too, i becomes what it left.
        if (atomic_compare_exchange_strong(&filling, &i, i + 1)) i++;
    }
    return NULL;
}

static uint64_t hash_bytes(const char *bytes, size_t length) {
    uint64_t h = length, word;
    for (; length >= 8; bytes += 8, length -= 8) {
        memcpy(&word, bytes, 8);
        h = mw_hash(h, word);
    }
    for (; length; length--) h = mw_hash(h, (unsigned char)*bytes++);
    return h;
}

uint32_t mw_intern(const struct mw_object *object) {
    uint64_t hash = hash_bytes((const char *)object, object->bytes);
    struct mw_map_search search = {0};
    uint32_t reference;
    // The map is this process's own memory: what it says lies in the mapping, whoever wrote there.
    while (mw_map_find(&known, hash, &search, &reference))
        if (memcmp((const char *)mw_ledger + (uint64_t)reference * 8, object, object->bytes) == 0)
            return reference;
    char *at = reserve((object->bytes + 7u) & ~7u);
    if (!at) return 0;
    memcpy(at, object, object->bytes);
    reference = (uint32_t)((uint64_t)(at - (char *)mw_ledger) / 8);
    mw_map_add(&known, hash, reference);
    return reference;
}

uint32_t mw_intern_string(const char *bytes, unsigned length) {
    union {
        struct mw_string string;
        char room[sizeof(struct mw_string) + MW_STRING_MAX];
    } object;
    if (length > MW_STRING_MAX) {
        length = MW_STRING_MAX;
        while (length && ((unsigned char)bytes[length] & 0xc0) == 0x80) length--;
    }
    if (!length) return 0;
    object.string.object.kind = MW_STRING;
    object.string.object.bytes = (uint16_t)(sizeof object.string + length);
    memcpy(object.string.bytes, bytes, length);
    return mw_intern(&object.string.object);
}
