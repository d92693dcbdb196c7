// SPDX-License-Identifier: Apache-2.0
// links: interpose/ledger.c interpose/records.c interpose/counters.c
// links: interpose/sites.c interpose/map.c
// build: -D_GNU_SOURCE
//
// The ledger without any GPU: what is born is there, what is freed is gone, the counters agree with
// the records, and the peak is the real one, by one thread and by eight.
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

static int fresh_ledger(void **state) {
    (void)state;
    strcpy(path, "/tmp/memwatch.unit.XXXXXX");
    ledger_fd = mkstemp(path);
    unlink(path);
    struct mw_ledger_place place = {path, UINT64_C(1) << 30, MANY_SITES, ledger_fd};
    stack_here = MW_NO_STACK;
    return mw_ledger_create(&place) >= 0 ? 0 : -1;
}

static struct mw_birth block(uint64_t key, uint64_t bytes) {
    return (struct mw_birth){.space = MW_SPACE_DEVICE,
                             .class_ = MW_CLASS_ADDRESS,
                             .key = key,
                             .bytes = bytes,
                             .asked = bytes,
                             .device = 0,
                             .context = 0x1234};
}

static bool free_block(uint64_t key) {
    struct mw_taken taken;
    bool found = mw_record_take(MW_CLASS_ADDRESS, key, &taken);
    mw_freed(&taken);
    return found;
}

// ---- reading the file as a report does, but with other code ----

struct totals {
    uint64_t records, record_bytes, allocations, allocated, frees, freed, lifetimes;
};

static void add_page(struct totals *t, const struct mw_cell_page *page) {
    for (unsigned i = 0; i < MW_CELLS; i++) {
        const struct mw_cell *x = &page->cell[i];
        t->allocations += x->allocations;
        t->allocated += x->bytes_in;
        t->frees += x->own_frees + x->foreign_frees;
        t->freed += x->own_bytes + x->foreign_bytes;
        for (unsigned k = 0; k < MW_LIFETIMES; k++) t->lifetimes += x->lifetime[k];
    }
}

static struct totals read_totals(void) {
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

static void assert_consistent(void) {
    struct totals t = read_totals();
    assert_int_equal(t.allocations - t.frees, t.records);
    assert_int_equal(t.allocated - t.freed, t.record_bytes);
    assert_int_equal(t.lifetimes, t.frees);
}

static uint64_t peak(void) {
    return mw_ledger->account[mw_account_of(0, MW_SPACE_DEVICE)].peak;
}

// ---- one thread ----

static void an_allocation_is_there_until_it_is_freed(void **state) {
    (void)state;
    struct mw_taken found;
    struct mw_birth b = block(0x7f0000000000, 4096);
    mw_born(&b);
    assert_true(mw_record_find(MW_CLASS_ADDRESS, 0x7f0000000000, &found));
    assert_int_equal(mw_taken_bytes(&found), 4096);
    assert_false(mw_record_find(MW_CLASS_HANDLE, 0x7f0000000000, &found)); // another key space
    assert_true(free_block(0x7f0000000000));
    assert_false(free_block(0x7f0000000000));
    assert_int_equal(read_totals().records, 0);
    assert_consistent();
}

static void what_python_s_end_frees_is_told_apart(void **state) {
    (void)state;
    for (uint64_t i = 0; i < 3; i++) {
        struct mw_birth b = block(0x7f0000000000 + i * 4096, 100 << i);
        mw_born(&b);
    }
    struct mw_taken taken;
    assert_true(mw_record_find(MW_CLASS_ADDRESS, 0x7f0000000000, &taken));
    const struct mw_site *site = mw_site_at(mw_taken_site(&taken));
    assert_true(free_block(0x7f0000000000));
    assert_int_equal(site->exit_blocks, 0);
    python_ends = true;
    assert_true(free_block(0x7f0000001000));
    assert_true(free_block(0x7f0000002000));
    python_ends = false;
    assert_int_equal(site->exit_blocks, 2);
    assert_int_equal(site->exit_bytes, 200 + 400);
    assert_int_equal(mw_ledger->python_went_on, 0);
    // What it makes and frees itself, however often, it did not hold when it began to end.
    python_ends = true;
    for (uint64_t i = 0; i < 5; i++) {
        struct mw_birth b = block(0x7f0000000000, 1000);
        mw_born(&b);
        assert_true(free_block(0x7f0000000000));
    }
    python_ends = false;
    assert_int_equal(site->exit_blocks, 2);
    assert_int_equal(mw_ledger->python_went_on, 0);
    struct mw_birth b = block(0x7f0000000000, 1000); // the program goes on without it
    mw_born(&b);
    assert_int_equal(mw_ledger->python_went_on, 1);
    assert_true(free_block(0x7f0000000000));
    assert_int_equal(site->exit_blocks, 2);
    assert_int_equal(read_totals().records, 0); // they are freed all the same
    assert_consistent();
}

static void a_failed_free_leaves_everything_as_it_was(void **state) {
    (void)state;
    struct mw_taken taken, found;
    struct mw_birth b = block(0x7f0000000000, 4096);
    mw_born(&b);
    assert_true(mw_record_take(MW_CLASS_ADDRESS, b.key, &taken));
    assert_false(mw_record_find(MW_CLASS_ADDRESS, b.key, &found));
    mw_put_back(&taken);
    assert_true(mw_record_find(MW_CLASS_ADDRESS, b.key, &found));
    assert_int_equal(mw_taken_bytes(&found), 4096);
    assert_consistent();
}

static void the_table_grows_and_loses_nothing(void **state) {
    (void)state;
    enum { N = 300000 };
    for (uint64_t i = 0; i < N; i++) {
        struct mw_birth b = block(0x7f0000000000 + i * 512, 512 + i % 7);
        mw_born(&b);
    }
    assert_int_equal(read_totals().records, N);
    assert_int_equal(mw_ledger->losses[MW_LOSS_RECORDS], 0);
    assert_consistent();
    for (uint64_t i = 0; i < N; i++) assert_true(free_block(0x7f0000000000 + i * 512));
    assert_int_equal(read_totals().records, 0);
    assert_consistent();
    assert_true(mw_ledger->file_bytes <= UINT64_C(96) * N);
}

static void a_full_file_costs_counted_records_and_nothing_else(void **state) {
    (void)state;
    struct mw_ledger_place place = {path, UINT64_C(4) << 20, MANY_SITES,
                                    open("/tmp", O_RDWR | O_TMPFILE, 0600)};
    assert_true(mw_ledger_create(&place) >= 0);
    enum { N = 200000 };
    for (uint64_t i = 0; i < N; i++) {
        struct mw_birth b = block(0x7f0000000000 + i * 512, 512);
        mw_born(&b);
    }
    uint64_t lost = mw_ledger->losses[MW_LOSS_RECORDS];
    assert_true(lost > 0 && lost < N);
    assert_int_equal(read_totals().records + lost, N);
    assert_int_equal(mw_ledger->losses[MW_LOSS_RECORD_BYTES], lost * 512);
    assert_consistent();
}

static bool any(const struct mw_taken *taken, void *context) {
    (void)taken, (void)context;
    return true;
}

static void a_key_that_somebody_overwrote_does_not_slow_down_the_end_of_a_context(void **state) {
    (void)state;
    enum { N = 40000 };
    struct mw_birth sound = block(0x7f0000000000, 512);
    mw_born(&sound);
    for (uint64_t i = 1; i <= N; i++) {
        struct mw_birth b = block(0x7f0000000000 + i * 512, 512);
        mw_born(&b);
    }
    for (int i = 0; i < (int)MW_CHUNKS; i++) {
        const struct mw_chunk *c = &mw_ledger->chunk[i];
        struct mw_record *r = (struct mw_record *)((char *)mw_ledger + c->offset);
        for (uint32_t k = 0; c->kind == MW_CHUNK_RECORDS && k < c->count; k++)
            if (mw_commit_state(r[k].commit) == MW_LIVE && mw_commit_key(r[k].commit) != sound.key)
                r[k].commit ^= UINT64_C(0x155555555000);
    }
    mw_records_take_all(any, mw_freed, NULL);
    assert_true(read_totals().records > N / 2); // they lie where no search would look for them
    assert_false(free_block(sound.key));
}

static void physical_memory_lives_until_its_last_reference(void **state) {
    (void)state;
    struct mw_taken t;
    bool ended;
    struct mw_birth b = block(77, 2 << 20);
    b.class_ = MW_CLASS_HANDLE;
    b.references = 1;
    mw_born(&b);
    assert_true(mw_record_refer(MW_CLASS_HANDLE, 77, +1, &t, &ended)); // a mapping
    assert_true(mw_record_refer(MW_CLASS_HANDLE, 77, -1, &t, &ended)); // release
    assert_false(ended);
    assert_int_equal(read_totals().records, 1);
    assert_true(mw_record_refer(MW_CLASS_HANDLE, 77, -1, &t, &ended)); // unmap
    assert_true(ended);
    mw_freed(&t);
    assert_int_equal(read_totals().records, 0);
    assert_consistent();
}

static void an_address_handed_out_again_ends_the_old_record(void **state) {
    (void)state;
    struct mw_birth first = block(0x7f0000000000, 4096), second = block(0x7f0000000000, 512);
    mw_born(&first); // its free came by a way that nobody watches
    mw_born(&second);
    struct totals t = read_totals();
    assert_int_equal(t.records, 1);
    assert_int_equal(t.record_bytes, 512);
    assert_int_equal(mw_ledger->losses[MW_LOSS_REUSED_KEYS], 1);
    assert_consistent();
}

// Its old record may be in any part of a table that has grown since.
static void an_address_handed_out_again_is_known_in_a_large_table(void **state) {
    (void)state;
    enum { N = 300000, AGAIN = 5000 };
    for (uint64_t i = 0; i < N; i++) {
        struct mw_birth b = block(0x7f0000000000 + i * 512, 512);
        mw_born(&b);
    }
    for (uint64_t i = 0; i < N; i += N / AGAIN) {
        struct mw_birth b = block(0x7f0000000000 + i * 512, 1024);
        mw_born(&b);
    }
    struct totals t = read_totals();
    assert_int_equal(t.records, N);
    assert_int_equal(t.record_bytes, UINT64_C(512) * (N + AGAIN));
    assert_int_equal(mw_ledger->losses[MW_LOSS_REUSED_KEYS], AGAIN);
    assert_consistent();
}

// Where the record of an address lies in the file; NULL = nowhere.
static const struct mw_record *record_of(uint64_t key) {
    for (int i = 0; i < (int)MW_CHUNKS; i++) {
        const struct mw_chunk *c = &mw_ledger->chunk[i];
        const struct mw_record *r = (const struct mw_record *)((const char *)mw_ledger + c->offset);
        for (uint32_t k = 0; c->kind == MW_CHUNK_RECORDS && k < c->count; k++)
            if (mw_commit_state(r[k].commit) == MW_LIVE && mw_commit_key(r[k].commit) == key)
                return &r[k];
    }
    return NULL;
}

// So threads that use the same addresses over and over write to nothing but the records. While the
// table has grown there is some moving to its newest part, which comes to an end.
static void an_address_that_comes_back_gets_its_old_place(void **state) {
    enum { LOOKED_AT = 200, SETTLED = 3 };
    const uint64_t counts[] = {1000, 100000, 220000}; // one, two and three segments
    for (unsigned c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        const struct mw_record *before[LOOKED_AT];
        const uint64_t n = counts[c];
        unsigned moved = 0;
        fresh_ledger(state);
        for (unsigned round = 0; round <= SETTLED; round++) {
            for (uint64_t i = 0; i < n; i++) {
                struct mw_birth b = block(0x7f0000000000 + (round % 2 ? n - 1 - i : i) * 512, 512);
                mw_born(&b);
            }
            for (uint64_t i = 0; i < LOOKED_AT && round + 1 >= SETTLED; i++) {
                const struct mw_record *r = record_of(0x7f0000000000 + i * (n / LOOKED_AT) * 512);
                assert_non_null(r);
                if (round == SETTLED) moved += r != before[i];
                before[i] = r;
            }
            for (uint64_t i = 0; i < n; i++) assert_true(free_block(0x7f0000000000 + i * 512));
        }
        assert_in_range(moved, 0, LOOKED_AT / 20); // two whose tags are alike may change places
        assert_consistent();
    }
}

static void addresses_that_never_come_back_fill_nothing_up(void **state) {
    (void)state;
    enum { LIVE = 1000, N = 1000000 };
    const uint64_t first = 0x100000000000, length = mw_ledger->file_bytes;
    for (uint64_t i = 0; i < N; i++) {
        struct mw_birth b = block(first + i * 512, 512);
        mw_born(&b);
        if (i >= LIVE) assert_true(free_block(first + (i - LIVE) * 512));
        if (i >= LIVE && i % 1000 == 0) assert_false(free_block(first + (i - LIVE) * 512));
    }
    assert_int_equal(read_totals().records, LIVE);
    assert_int_equal(mw_ledger->losses[MW_LOSS_RECORDS], 0);
    assert_int_equal(mw_ledger->file_bytes, length);
    assert_consistent();
}

static void the_peak_is_the_largest_sum_there_was(void **state) {
    (void)state;
    uint64_t live = 0, highest = 0, bytes[64] = {0};
    unsigned random = 1;
    for (int i = 0; i < 20000; i++) {
        unsigned k = (random = random * 1103515245 + 12345) >> 16 & 63;
        if (bytes[k]) {
            assert_true(free_block(0x7f0000000000 + k * 4096));
            live -= bytes[k];
            bytes[k] = 0;
        } else {
            bytes[k] = 1 + (random >> 4) % 4096;
            struct mw_birth b = block(0x7f0000000000 + k * 4096, bytes[k]);
            mw_born(&b);
            live += bytes[k];
            if (live > highest) highest = live;
        }
        assert_int_equal(peak(), highest);
    }
    assert_consistent();
}

static void the_slack_of_a_pitched_allocation_is_kept(void **state) {
    (void)state;
    uint64_t values[] = {0, 1, 511, 524287, 524288, UINT64_C(3) << 30};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        assert_int_equal(mw_unpack_slack(mw_pack_slack(values[i])), values[i]);
}

// ---- sites ----

// The only site with that stack; fails if there are several.
static const struct mw_site *site_of(uint32_t stack) {
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

static void every_stack_is_a_site_of_its_own(void **state) {
    (void)state;
    enum { STACKS = 5000 };
    for (uint32_t round = 0; round < 3; round++)
        for (uint32_t i = 0; i < STACKS; i++) {
            stack_here = 1000 + i;
            struct mw_birth b = block(0x7f0000000000 + (round * STACKS + i) * 512, 512);
            mw_born(&b);
        }
    for (uint32_t i = 0; i < STACKS; i++) {
        const struct mw_site *site = site_of(1000 + i);
        assert_non_null(site);
        assert_int_equal(site->peak, 3 * 512);
    }
    assert_int_equal(read_totals().allocations, 3 * STACKS);
    assert_int_equal(mw_ledger->losses[MW_LOSS_SITES], 0);
    assert_int_equal(mw_ledger->losses[MW_LOSS_CELLS], 0);
    for (uint32_t i = 0; i < 3 * STACKS; i++) assert_true(free_block(0x7f0000000000 + i * 512));
    assert_int_equal(read_totals().records, 0);
    assert_consistent();
}

static void stacks_beyond_the_limit_are_one_site_together(void **state) {
    (void)state;
    enum { MORE = 100 };
    for (uint32_t i = 0; i < MANY_SITES + MORE; i++) {
        stack_here = 1000 + i;
        struct mw_birth b = block(0x7f0000000000 + i * 512, 512);
        mw_born(&b);
    }
    // Entry 0 is taken from the start, so one stack less than the limit has a site.
    assert_int_equal(mw_ledger->losses[MW_LOSS_SITES], MORE + 1);
    const struct mw_site *overflow = site_of(MW_OVERFLOW);
    assert_non_null(overflow);
    assert_int_equal(overflow->peak, (MORE + 1) * 512);
    assert_int_equal(peak(), (uint64_t)(MANY_SITES + MORE) * 512);
    assert_consistent();
}

static void a_sites_peak_is_the_largest_sum_of_its_blocks(void **state) {
    (void)state;
    uint64_t live = 0, highest = 0, bytes[64] = {0};
    unsigned random = 7;
    for (int i = 0; i < 20000; i++) {
        unsigned k = (random = random * 1103515245 + 12345) >> 16 & 63;
        if (bytes[k]) {
            assert_true(free_block(0x7f0000000000 + k * 4096));
            live -= k < 32 ? bytes[k] : 0;
            bytes[k] = 0;
        } else {
            bytes[k] = 1 + (random >> 4) % 65536;
            stack_here = k < 32 ? 1 : 2; // two sites in turns
            struct mw_birth b = block(0x7f0000000000 + k * 4096, bytes[k]);
            mw_born(&b);
            live += k < 32 ? bytes[k] : 0;
            if (live > highest) highest = live;
        }
        const struct mw_site *site = site_of(1);
        assert_int_equal(site ? site->peak : 0, highest);
    }
    assert_consistent();
}

// ---- several threads ----

enum { THREADS = 8, ROUNDS = 30000, MINE = 512 };

struct work {
    unsigned index;
    pthread_barrier_t *all_hold;
};

// Even if something is wrong it goes on to the barriers: others wait there.
static void *hammer(void *argument) {
    const struct work *w = argument;
    uint64_t base = 0x7f0000000000 + ((uint64_t)w->index << 32);
    bool held[MINE] = {false};
    unsigned random = w->index + 1, missed = 0;
    for (int i = 0; i < ROUNDS; i++) {
        unsigned k = (random = random * 1103515245 + 12345) >> 16 & (MINE - 1);
        if (held[k]) {
            missed += !free_block(base + k * 512);
        } else {
            struct mw_birth b = block(base + k * 512, 512);
            mw_born(&b);
        }
        held[k] = !held[k];
    }
    for (unsigned k = 0; k < MINE; k++) missed += held[k] && !free_block(base + k * 512);
    // The highest sum of all, at one moment: everybody holds everything.
    pthread_barrier_wait(w->all_hold);
    for (unsigned k = 0; k < MINE; k++) {
        struct mw_birth b = block(base + k * 512, 1 << 20);
        mw_born(&b);
    }
    pthread_barrier_wait(w->all_hold);
    return missed ? "a recorded block was not found" : NULL;
}

// One thread after the other: nothing is live when the next begins.
enum { TURNS = 4 };

struct turn {
    uint64_t first_key, bytes;
    unsigned blocks;
};

static void *allocate_and_free(void *argument) {
    const struct turn *t = argument;
    for (unsigned i = 0; i < t->blocks; i++) {
        struct mw_birth b = block(t->first_key + i * t->bytes, t->bytes);
        mw_born(&b);
    }
    for (unsigned i = 0; i < t->blocks; i++) free_block(t->first_key + i * t->bytes);
    return NULL;
}

// What the threads before freed is nobody's any more; a site's peak is not their sum.
static void a_sites_peak_is_not_the_sum_of_its_threads(void **state) {
    const struct {
        uint64_t bytes, allowed; // too much, for each thread that used the site before
        unsigned blocks;
    } cases[] = {{UINT64_C(1) << 30, 0, 4}, {UINT64_C(2) << 20, 0, 9}, {4096, 4096000 / 8, 1000}};
    for (unsigned c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        fresh_ledger(state);
        stack_here = 1;
        uint64_t true_peak = cases[c].bytes * cases[c].blocks;
        for (unsigned i = 0; i < TURNS; i++) {
            struct turn turn = {0x100000000000 + i * true_peak, cases[c].bytes, cases[c].blocks};
            pthread_t thread;
            assert_int_equal(pthread_create(&thread, NULL, allocate_and_free, &turn), 0);
            assert_int_equal(pthread_join(thread, NULL), 0);
            assert_in_range(site_of(1)->peak, true_peak, true_peak + i * cases[c].allowed);
            assert_int_equal(peak(), true_peak);
        }
        assert_consistent();
    }
}

// Blocks in turns: this thread allocates, another frees, and only one is ever live.
static struct {
    pthread_barrier_t turn;
    _Atomic uint64_t key;
} passed;

static void *free_what_is_passed(void *argument) {
    (void)argument;
    for (;;) {
        pthread_barrier_wait(&passed.turn);
        if (!passed.key) return NULL;
        free_block(passed.key);
        pthread_barrier_wait(&passed.turn);
    }
}

static void a_small_sites_peak_is_right_where_another_thread_frees(void **state) {
    (void)state;
    enum { N = 2000 };
    const uint64_t key = 0x7f0000000000;
    pthread_t thread;
    stack_here = 1;
    pthread_barrier_init(&passed.turn, NULL, 2);
    pthread_create(&thread, NULL, free_what_is_passed, NULL);
    for (int i = 0; i < N; i++) {
        struct mw_birth b = block(key, 4096);
        mw_born(&b);
        passed.key = key;
        pthread_barrier_wait(&passed.turn);
        pthread_barrier_wait(&passed.turn);
    }
    passed.key = 0;
    pthread_barrier_wait(&passed.turn);
    pthread_join(thread, NULL);
    assert_in_range(site_of(1)->peak, 4096, 4096 + 4096 / 8);
    assert_int_equal(peak(), 4096);
    assert_consistent();
}

// Each gets a number of its own, from 1.
static void start_all(pthread_t *thread, void *(*work)(void *)) {
    for (uintptr_t i = 0; i < THREADS; i++) pthread_create(&thread[i], NULL, work, (void *)(i + 1));
}

static void join_all(const pthread_t *thread) {
    for (unsigned i = 0; i < THREADS; i++) {
        void *complaint;
        pthread_join(thread[i], &complaint);
        if (complaint) fail_msg("%s", (const char *)complaint);
    }
}

static void eight_threads_leave_exact_sums(void **state) {
    (void)state;
    pthread_barrier_t barrier;
    pthread_t thread[THREADS];
    struct work work[THREADS];
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (unsigned i = 0; i < THREADS; i++) {
        work[i] = (struct work){i, &barrier};
        pthread_create(&thread[i], NULL, hammer, &work[i]);
    }
    join_all(thread);
    struct totals t = read_totals();
    assert_int_equal(t.records, THREADS * MINE);
    assert_int_equal(t.record_bytes, (uint64_t)THREADS * MINE << 20);
    assert_int_equal(peak(), (uint64_t)THREADS * MINE << 20);
    assert_consistent();
    // Another thread frees them all: the owners' blocks must show it.
    for (unsigned i = 0; i < THREADS; i++)
        for (unsigned k = 0; k < MINE; k++)
            assert_true(free_block(0x7f0000000000 + ((uint64_t)i << 32) + k * 512));
    assert_int_equal(read_totals().records, 0);
    assert_consistent();
}

static void *squeeze_in(void *seed) {
    uint64_t fresh = (uint64_t)(uintptr_t)seed << 40;
    for (int i = 0; i < ROUNDS; i++) {
        struct mw_birth b = block(fresh += 512, 512);
        mw_born(&b);
        free_block(b.key); // not there if there was no room
    }
    return NULL;
}

// A table that is full but for a few slots: all threads want the same ones.
static void no_two_blocks_get_the_same_slot(void **state) {
    (void)state;
    struct mw_ledger_place place = {path, UINT64_C(4) << 20, MANY_SITES,
                                    open("/tmp", O_RDWR | O_TMPFILE, 0600)};
    assert_true(mw_ledger_create(&place) >= 0);
    for (uint64_t i = 0; i < 80000; i++) {
        struct mw_birth b = block(0x7f0000000000 + i * 512, 512);
        mw_born(&b);
    }
    for (uint64_t i = 0; i < 80000; i += 1000) free_block(0x7f0000000000 + i * 512);
    uint64_t left = read_totals().records;
    pthread_t thread[THREADS];
    start_all(thread, squeeze_in);
    join_all(thread);
    assert_int_equal(read_totals().records, left);
    assert_consistent();
}

// What another thread freed is not live, though that one keeps it at hand for its own allocations.
static void *free_a_hundred(void *first) {
    for (uintptr_t i = 0; i < 100; i++)
        if (!free_block((uintptr_t)first + (i << 20))) return "a recorded block was not found";
    return NULL;
}

static void the_peak_stays_exact_where_another_thread_frees(void **state) {
    (void)state;
    for (uint64_t round = 1; round <= 4; round++) {
        uint64_t blocks = 100 * round, base = 0x7f0000000000;
        for (uint64_t i = 0; i < blocks; i++) {
            struct mw_birth b = block(base + (i << 20), 1 << 20);
            mw_born(&b);
        }
        assert_int_equal(peak(), blocks << 20);
        for (uint64_t i = 0; i < blocks; i += 100) {
            pthread_t thread;
            void *complaint;
            pthread_create(&thread, NULL, free_a_hundred, (void *)(base + (i << 20)));
            pthread_join(thread, &complaint);
            assert_null(complaint);
        }
        assert_int_equal(peak(), blocks << 20);
        assert_int_equal(mw_account_live(mw_account_of(0, MW_SPACE_DEVICE)), 0);
    }
    assert_consistent();
}

// Blocks on their way from any thread to any other: 0, or the address of a live one.
enum { HANDED = 4096 };
static _Atomic uint64_t handed[HANDED];

static void *hand_on(void *seed) {
    unsigned random = (unsigned)(uintptr_t)seed;
    uint64_t fresh = (uint64_t)(uintptr_t)seed << 40;
    for (int i = 0; i < 4 * ROUNDS; i++) {
        unsigned k = (random = random * 1103515245 + 12345) >> 16 & (HANDED - 1);
        uint64_t key = atomic_exchange(&handed[k], 0);
        if (key && !free_block(key)) return "a recorded block was not found";
        if (key && free_block(key)) return "a freed block was found again";
        if (!key) key = fresh += 512;
        struct mw_birth b = block(key, 512);
        mw_born(&b);
        key = atomic_exchange(&handed[k], key);
        if (key && !free_block(key)) return "a recorded block was not found";
    }
    return NULL;
}

// The table grows meanwhile; and what is told of the whole is never absurd.
static void blocks_handed_from_thread_to_thread_are_found(void **state) {
    (void)state;
    enum { MORE = 300000, MOST = MORE + HANDED + 2 * THREADS };
    pthread_t thread[THREADS];
    uint64_t left = MORE;
    start_all(thread, hand_on);
    for (uint64_t i = 0; i < MORE; i++) {
        struct mw_birth b = block(0x7f0000000000 + i * 512, 512);
        mw_born(&b);
        if (i % 8 == 0)
            assert_in_range(mw_account_live(mw_account_of(0, MW_SPACE_DEVICE)), 0, MOST * 512);
    }
    join_all(thread);
    for (unsigned k = 0; k < HANDED; k++) {
        left += handed[k] != 0;
        handed[k] = 0;
    }
    assert_int_equal(read_totals().records, left);
    assert_int_equal(mw_ledger->losses[MW_LOSS_REUSED_KEYS], 0);
    assert_consistent();
}

// At most as many blocks as there are places; who finds one allocates, and another thread frees.
enum { PLACES = 48 };
static _Atomic uint32_t places;

static void *allocate_or_free(void *seed) {
    unsigned random = (unsigned)(uintptr_t)seed;
    uint64_t fresh = (uint64_t)(uintptr_t)seed << 40;
    for (int i = 0; i < 4 * ROUNDS; i++) {
        unsigned k = (random = random * 1103515245 + 12345) >> 16 & (HANDED - 1);
        uint32_t left = places;
        uint64_t key = atomic_exchange(&handed[k % 64], 0);
        if (key && free_block(key)) places++;
        if (key || !left || !atomic_compare_exchange_strong(&places, &left, left - 1)) continue;
        struct mw_birth b = block(fresh += 4 << 20, 4 << 20);
        mw_born(&b);
        key = atomic_exchange(&handed[k % 64], b.key);
        if (key && free_block(key)) places++;
    }
    return NULL;
}

static void the_peak_is_exact_but_for_what_happens_at_that_moment(void **state) {
    (void)state;
    pthread_t thread[THREADS];
    places = PLACES;
    start_all(thread, allocate_or_free);
    join_all(thread);
    for (unsigned k = 0; k < 64; k++) handed[k] = 0;
    // What each thread freed just when the last was allocated may or may not be in it.
    assert_in_range(peak(), (uint64_t)(PLACES - THREADS) * 4 << 20,
                    (uint64_t)(PLACES + THREADS) * 4 << 20);
    assert_consistent();
}

static void *one_block(void *argument) {
    struct mw_birth b = block((uintptr_t)argument, 4096);
    mw_born(&b);
    free_block(b.key);
    return NULL;
}

static void short_threads_share_a_block_of_counters(void **state) {
    (void)state;
    mw_counters_init();
    for (uintptr_t i = 0; i < 1000; i++) {
        pthread_t t;
        pthread_create(&t, NULL, one_block, (void *)(0x7f0000000000 + i * 512));
        pthread_join(t, NULL);
    }
    uint64_t thread_bytes = 0;
    for (unsigned i = 0; i < MW_CHUNKS; i++)
        if (mw_ledger->chunk[i].kind == MW_CHUNK_THREADS) thread_bytes += mw_ledger->chunk[i].bytes;
    assert_int_equal(thread_bytes, 32 * sizeof(struct mw_thread)); // the first chunk was enough
    assert_int_equal(read_totals().allocations, 1000);
    assert_consistent();
}

static void a_length_that_somebody_overwrote_does_not_move_what_is_added(void **state) {
    (void)state;
    const uint64_t length = mw_ledger->file_bytes, wrong[] = {0, 8, length - 4096, UINT64_MAX - 7};
    const char *end = (const char *)mw_ledger + length;
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        mw_ledger->file_bytes = wrong[i];
        assert_ptr_equal(mw_ledger_grow(MW_CHUNK_PLACES, 1, 4096), end + i * 4096);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, fresh_ledger)
    const struct CMUnitTest tests[] = {
        TEST(an_allocation_is_there_until_it_is_freed),
        TEST(what_python_s_end_frees_is_told_apart),
        TEST(a_failed_free_leaves_everything_as_it_was),
        TEST(the_table_grows_and_loses_nothing),
        TEST(a_full_file_costs_counted_records_and_nothing_else),
        TEST(a_key_that_somebody_overwrote_does_not_slow_down_the_end_of_a_context),
        TEST(physical_memory_lives_until_its_last_reference),
        TEST(an_address_handed_out_again_ends_the_old_record),
        TEST(an_address_handed_out_again_is_known_in_a_large_table),
        TEST(an_address_that_comes_back_gets_its_old_place),
        TEST(addresses_that_never_come_back_fill_nothing_up),
        TEST(the_peak_is_the_largest_sum_there_was),
        TEST(the_slack_of_a_pitched_allocation_is_kept),
        TEST(every_stack_is_a_site_of_its_own),
        TEST(stacks_beyond_the_limit_are_one_site_together),
        TEST(a_sites_peak_is_the_largest_sum_of_its_blocks),
        TEST(a_sites_peak_is_not_the_sum_of_its_threads),
        TEST(a_small_sites_peak_is_right_where_another_thread_frees),
        TEST(eight_threads_leave_exact_sums),
        TEST(no_two_blocks_get_the_same_slot),
        TEST(the_peak_stays_exact_where_another_thread_frees),
        TEST(the_peak_is_exact_but_for_what_happens_at_that_moment),
        TEST(blocks_handed_from_thread_to_thread_are_found),
        TEST(short_threads_share_a_block_of_counters),
        TEST(a_length_that_somebody_overwrote_does_not_move_what_is_added),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
