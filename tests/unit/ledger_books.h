// SPDX-License-Identifier: Apache-2.0
//
// A ledger without any GPU, for the tests of what is in it: events are made here, and the file is
// read as a report does, but with other code.
#ifndef MEMWATCH_TESTS_LEDGER_BOOKS_H
#define MEMWATCH_TESTS_LEDGER_BOOKS_H

#include "ledger.h"
#include "stacks.h"
#include "wake.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static _Atomic uint32_t awake = MW_AWAKE;
_Atomic uint32_t *mw_wake_word = &awake;

// The stack that the next events are said to come from.
static _Atomic uint32_t stack_here;
uint32_t mw_stack_here(bool tensor) {
    (void)tensor;
    return stack_here;
}
uint32_t mw_stacks_thread_name(void) {
    return 0;
}
static bool python_ends;
bool mw_stacks_python_ends(void) {
    return python_ends;
}

enum { MANY_SITES = 16384 };

static int ledger_fd;
static char path[64];

static inline int fresh_ledger(void **state) {
    (void)state;
    strcpy(path, "/tmp/memwatch.unit.XXXXXX");
    ledger_fd = mkstemp(path);
    unlink(path);
    struct mw_ledger_place place = {path, UINT64_C(1) << 30, MANY_SITES, ledger_fd};
    stack_here = MW_NO_STACK;
    return mw_ledger_create(&place) >= 0 ? 0 : -1;
}

static inline struct mw_birth block(uint64_t key, uint64_t bytes) {
    return (struct mw_birth){.space = MW_SPACE_DEVICE,
                             .class_ = MW_CLASS_ADDRESS,
                             .key = key,
                             .bytes = bytes,
                             .asked = bytes,
                             .device = 0,
                             .context = 0x1234};
}

static inline bool free_block(uint64_t key) {
    struct mw_taken taken;
    bool found = mw_record_take(MW_CLASS_ADDRESS, key, &taken);
    mw_freed(&taken);
    return found;
}

// ---- reading the file as a report does, but with other code ----

struct totals {
    uint64_t records, record_bytes, allocations, allocated, frees, freed, lifetimes;
};

static inline void add_page(struct totals *t, const struct mw_cell_page *page) {
    for (unsigned i = 0; i < MW_CELLS; i++) {
        const struct mw_cell *x = &page->cell[i];
        t->allocations += x->allocations;
        t->allocated += x->bytes_in;
        t->frees += x->own_frees + x->foreign_frees;
        t->freed += x->own_bytes + x->foreign_bytes;
        for (unsigned k = 0; k < MW_LIFETIMES; k++) t->lifetimes += x->lifetime[k];
    }
}

static inline struct totals read_totals(void) {
    struct totals t = {0};
    const char *base = (const char *)mw_ledger;
    for (int i = 0; i < (int)MW_CHUNKS; i++) {
        const struct mw_chunk *c = &mw_ledger->chunk[i];
        const struct mw_record *r = (const struct mw_record *)(base + c->offset);
        const struct mw_thread *th = (const struct mw_thread *)(base + c->offset);
        for (uint32_t k = 0; c->kind == MW_CHUNK_RECORDS && k < c->count; k++)
            if (mw_commit_state(r[k].commit) == MW_LIVE) {
                t.records++;
                t.record_bytes += r[k].size & MW_MAX_BYTES;
            }
        for (uint32_t k = 0; c->kind == MW_CHUNK_THREADS && k < c->count; k++)
            add_page(&t, &th[k].cells);
        const struct mw_cell_page *page = (const struct mw_cell_page *)(base + c->offset);
        for (uint32_t k = 0; c->kind == MW_CHUNK_CELLS && k < c->count; k++) add_page(&t, &page[k]);
    }
    return t;
}

static inline void assert_consistent(void) {
    struct totals t = read_totals();
    assert_int_equal(t.allocations - t.frees, t.records);
    assert_int_equal(t.allocated - t.freed, t.record_bytes);
    assert_int_equal(t.lifetimes, t.frees);
}

static inline uint64_t peak(void) {
    return mw_ledger->account[mw_account_of(0, MW_SPACE_DEVICE)].peak;
}

// The only site with that stack; fails if there are several.
static inline const struct mw_site *site_of(uint32_t stack) {
    const struct mw_site *found = NULL;
    for (int i = 0; i < (int)MW_CHUNKS; i++) {
        const struct mw_chunk *c = &mw_ledger->chunk[i];
        const struct mw_site *s = (const struct mw_site *)((const char *)mw_ledger + c->offset);
        for (uint32_t k = 0; c->kind == MW_CHUNK_SITES && k < c->count; k++)
            if (s[k].state == 2 && s[k].stack == stack && s[k].account != MW_ACCOUNTS - 1) {
                assert_null(found);
                found = &s[k];
            }
    }
    return found;
}

#endif
