// SPDX-License-Identifier: Apache-2.0
// links: interpose/ledger.c interpose/records.c interpose/counters.c
// links: interpose/sites.c interpose/map.c
// includes: tests/unit/ledger_books.h
// build: -D_GNU_SOURCE
//
// The ledger without any GPU: what is born is there, what is freed is gone, the counters agree with
// the records, and the peak is the real one. Several threads: test_ledger_threads.c.
#include "ledger_books.h"

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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
