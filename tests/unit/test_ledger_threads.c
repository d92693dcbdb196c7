// SPDX-License-Identifier: Apache-2.0
// links: interpose/ledger.c interpose/records.c interpose/counters.c
// links: interpose/sites.c interpose/map.c
// includes: tests/unit/ledger_books.h
// build: -D_GNU_SOURCE
//
// The ledger used by several threads at once and in turns: nothing is lost or counted twice, and
// peaks are what was there.
#include "ledger_books.h"

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
