// SPDX-License-Identifier: Apache-2.0
// links: report/reader.c report/model.c report/check.c report/places.c tests/unit/ledger_builder.c
//
// The reader on files made by other code: what stands in a ledger is understood, whatever its
// writer's struct sizes; a file that is cut, foreign or damaged is refused with a reason; a ledger
// that does not agree with itself is found out, one whose process was killed is not accused.
#define _GNU_SOURCE // syscall
#include "check.h"
#include "ledger_builder.h"
#include "model.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64], path[96];
static struct builder b;
static struct model m;
static struct check check;

static int set_up(void **state) {
    (void)state;
    strcpy(folder, "/tmp/memwatch.reader.XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/a.ledger", folder);
    builder_sample(&b);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    builder_free(&b);
    unlink(path);
    return rmdir(folder);
}

// Saves what `b` is now and reads it. The caller frees `m`.
static enum reader_status read_now(void) {
    assert_true(builder_save(&b, path, b.bytes));
    enum reader_status status = model_read(&m, path);
    if (status == READER_OK) check_model(&m, &check);
    return status;
}

static void must_read(void) {
    if (read_now() != READER_OK) fail_msg("not read: %s", m.reader.error);
}

static const struct model_account *account(int device, enum mw_space space) {
    for (unsigned i = 0; i < m.accounts; i++)
        if (m.account[i].device == device && m.account[i].space == space) return &m.account[i];
    fail_msg("no account of device %d, %s", device, space_name(space));
    return NULL;
}

static const struct model_thread *thread(uint32_t tid) {
    for (unsigned i = 0; i < m.threads; i++)
        if (m.thread[i].tid == tid) return &m.thread[i];
    fail_msg("no thread %u", tid);
    return NULL;
}

static uint64_t thread_live(uint32_t tid, int device, enum mw_space space) {
    return thread(tid)->share[account(device, space) - m.account].held.bytes;
}

// ---- what is understood ---------------------------------------------------------------------

static void totals_are_what_was_booked(void **state) {
    (void)state;
    must_read();
    const struct model_account *device0 = account(0, MW_SPACE_DEVICE);
    assert_int_equal(device0->held.bytes, (7 << 20) + (3 << 20) + 512 * 100);
    assert_int_equal(device0->held.blocks, 9);
    assert_int_equal(device0->tally.allocations, 12);
    assert_int_equal(device0->tally.frees, 3);
    assert_int_equal(device0->tally.freed_bytes, 3 << 20);
    assert_int_equal(device0->tally.failed, 1);
    assert_int_equal(device0->live_bytes, device0->held.bytes);
    assert_int_equal(account(1, MW_SPACE_DEVICE)->held.bytes, 4096);
    assert_int_equal(account(-1, MW_SPACE_PINNED)->held.bytes, 12345);
    assert_int_equal(account(0, MW_SPACE_PHYSICAL)->held.bytes, 2 << 20);
    assert_int_equal(account(0, MW_SPACE_MAPPED)->held.bytes, 2 << 20);
    assert_int_equal(m.records, 13);
    model_free(&m);
}

static void a_thread_has_what_it_allocated_and_nobody_freed(void **state) {
    (void)state;
    must_read();
    // Of the main thread's five blocks one was freed by itself and one by the worker.
    assert_int_equal(thread_live(4242, 0, MW_SPACE_DEVICE), (3 << 20) + (3 << 20));
    assert_int_equal(thread_live(4243, 0, MW_SPACE_DEVICE), (4 << 20) + 512 * 100);
    assert_int_equal(thread_live(4244, 0, MW_SPACE_DEVICE), 0);
    const struct model_share *worker =
        &thread(4244)->share[account(0, MW_SPACE_DEVICE) - m.account];
    assert_int_equal(worker->tally.frees, 1);
    assert_int_equal(worker->own_frees, 0);
    assert_string_equal(thread(4243)->name, "loader");
    assert_int_equal(m.calls[0], 11);
    model_free(&m);
}

static void the_largest_blocks_come_first(void **state) {
    (void)state;
    must_read();
    assert_int_equal(m.largest_count, 13);
    for (unsigned i = 1; i < m.largest_count; i++)
        assert_true(record_bytes(&m.largest[i - 1].record) >= record_bytes(&m.largest[i].record));
    assert_int_equal(record_bytes(&m.largest[0].record), 3 << 20);
    model_free(&m);
}

static void only_the_largest_of_many_blocks_are_kept(void **state) {
    (void)state;
    builder_free(&b);
    builder_init(&b, 4, 4096);
    unsigned api = builder_api(&b, "cuMemAlloc_v2", MW_LAYER_DRIVER);
    unsigned site = builder_site(&b, api, api, 0, MW_SPACE_DEVICE), t = builder_thread(&b, 7, "t");
    for (unsigned i = 0; i < 4000; i++) // sizes 1 to 4000, in a scattered order
        builder_alloc(&b, t, site, 0, MW_CLASS_ADDRESS, 0x1000 + i, i * 1237 % 4001 + 1,
                      i * 1237 % 4001 + 1);
    must_read();
    assert_int_equal(m.largest_count, LARGEST_BLOCKS);
    for (unsigned i = 1; i < LARGEST_BLOCKS; i++)
        assert_true(record_bytes(&m.largest[i - 1].record) > record_bytes(&m.largest[i].record));
    uint64_t larger = 0, limit = record_bytes(&m.largest[LARGEST_BLOCKS - 1].record);
    for (unsigned i = 0; i < 4000; i++) larger += i * 1237 % 4001 + 1 >= limit;
    assert_int_equal(larger, LARGEST_BLOCKS);
    model_free(&m);
}

static void pitched_memory_tells_what_was_asked_for(void **state) {
    (void)state;
    must_read();
    for (unsigned i = 0; i < m.largest_count; i++)
        if (record_bytes(&m.largest[i].record) == 512 * 100)
            assert_int_equal(record_asked(&m.largest[i].record), 500 * 100);
    model_free(&m);
}

static void cells_in_further_pages_are_found(void **state) {
    (void)state;
    struct mw_cell_page *page = builder_chunk(&b, MW_CHUNK_CELLS, 16, 16 * sizeof *page);
    // Page 3 takes over the main thread's cell of its first site.
    struct mw_cell *from = builder_cell(&b, 1, 1);
    page[3].cell[9] = *from;
    memset(from, 0, sizeof *from);
    b.thread[1].more_cells = 3 + 1;
    must_read();
    assert_true(check.ok);
    assert_int_equal(account(0, MW_SPACE_DEVICE)->tally.allocations, 12);
    model_free(&m);
}

static void pages_in_a_circle_are_read_once(void **state) {
    (void)state;
    struct mw_cell_page *page = builder_chunk(&b, MW_CHUNK_CELLS, 16, 16 * sizeof *page);
    page[3].cell[0].next_page = 5 + 1;
    page[5].cell[0].next_page = 3 + 1;
    b.thread[1].more_cells = b.thread[2].more_cells = 3 + 1;
    must_read();
    assert_true(check.ok);
    model_free(&m);
}

static void threads_in_a_second_chunk_have_the_next_numbers(void **state) {
    (void)state;
    struct mw_thread *more = builder_chunk(&b, MW_CHUNK_THREADS, 16, 16 * sizeof *more);
    more[4].state = MW_THREAD_RUNNING;
    more[4].tid = 99;
    b.record[3].owner = (b.record[3].owner & ~(UINT64_C(0xffff) << 32)) | (UINT64_C(12) << 32);
    must_read();
    assert_int_equal(thread_live(99, 0, MW_SPACE_DEVICE), 1 << 20);
    assert_false(check.ok); // it never counted that
    model_free(&m);
}

static void accounts_and_sites_interned_twice_are_one(void **state) {
    (void)state;
    struct mw_account *a = b.header->account, *first = &a[b.site[1].account];
    unsigned twin = 20;
    a[twin] = (struct mw_account){.state = 2, .device = first->device, .space = first->space};
    unsigned site = b.sites++;
    b.site[site] = b.site[1];
    b.site[site].account = (uint16_t)twin;
    builder_alloc(&b, 1, site, 1, MW_CLASS_ADDRESS, 0x7fff00000000, 1000, 1000);
    must_read();
    assert_true(check.ok);
    assert_int_equal(account(0, MW_SPACE_DEVICE)->tally.allocations, 13);
    unsigned equal = 0;
    for (unsigned i = 0; i < m.sites; i++) equal += m.site[i].api == 0;
    assert_int_equal(equal, 1);
    model_free(&m);
}

// ---- other versions -------------------------------------------------------------------------

// Every struct has `extra` bytes of something at its end that this program does not know.
static void regrow(unsigned extra) {
    const struct mw_header *h = b.header;
    struct array {
        size_t at, size;
        unsigned count;
    } arrays[] = {
        {offsetof(struct mw_header, account), sizeof(struct mw_account), MW_ACCOUNTS},
        {offsetof(struct mw_header, device), sizeof(struct mw_device), MW_DEVICES},
        {offsetof(struct mw_header, context), sizeof(struct mw_context), MW_CONTEXTS},
        {offsetof(struct mw_header, pool), sizeof(struct mw_pool), MW_POOLS},
        {offsetof(struct mw_header, failure), sizeof(struct mw_failure), MW_FAILURES},
        {offsetof(struct mw_header, lookup), sizeof(struct mw_lookup), MW_LOOKUPS},
        {offsetof(struct mw_header, chunk), sizeof(struct mw_chunk), MW_CHUNKS},
    };
    static const size_t sizes[] = {0,
                                   sizeof(struct mw_thread),
                                   0,
                                   sizeof(struct mw_site),
                                   sizeof(struct mw_place),
                                   sizeof(struct mw_api),
                                   sizeof(struct mw_record)};
    size_t capacity = 2 * b.bytes + (64 << 20), at = offsetof(struct mw_header, account);
    char *grown = calloc(1, capacity);
    memcpy(grown, b.image, at);
    struct mw_header *g = (struct mw_header *)grown;
    size_t end = MW_HEADER_BYTES;
    struct mw_chunk chunk[MW_CHUNKS] = {0};
    for (unsigned i = 0; i < MW_CHUNKS; i++) {
        const struct mw_chunk *c = &h->chunk[i];
        if (!c->kind) continue;
        size_t size = sizes[c->kind];
        for (unsigned k = 0; k < c->count; k++) {
            memcpy(grown + end + k * (size + extra), b.image + c->offset + k * size, size);
            memset(grown + end + k * (size + extra) + size, 0xaa, extra);
        }
        size_t bytes = (c->count * (size + extra) + 4095) & ~(size_t)4095;
        chunk[i] = (struct mw_chunk){end, bytes, c->count, c->kind};
        end += bytes;
    }
    assert_true(end <= capacity);
    memcpy(b.header->chunk, chunk, sizeof chunk);
    for (unsigned a = 0; a < sizeof arrays / sizeof arrays[0]; a++)
        for (unsigned i = 0; i < arrays[a].count; i++) {
            memcpy(grown + at, b.image + arrays[a].at + i * arrays[a].size, arrays[a].size);
            memset(grown + at + arrays[a].size, 0xaa, extra);
            at += arrays[a].size + extra;
        }
    assert_true(at <= MW_HEADER_BYTES);
    g->header_bytes = (uint32_t)at;
    uint32_t *told[] = {&g->thread_bytes, &g->site_bytes,    &g->place_bytes,  &g->api_bytes,
                        &g->record_bytes, &g->account_bytes, &g->device_bytes, &g->context_bytes,
                        &g->pool_bytes,   &g->failure_bytes, &g->lookup_bytes, &g->chunk_bytes};
    for (unsigned i = 0; i < sizeof told / sizeof told[0]; i++) *told[i] += extra;
    free(b.image);
    b.image = grown;
    b.bytes = end;
}

static void structs_that_grew_are_read_as_far_as_known(void **state) {
    (void)state;
    regrow(8);
    must_read();
    assert_true(check.ok);
    assert_int_equal(account(0, MW_SPACE_DEVICE)->tally.allocations, 12);
    assert_int_equal(account(0, MW_SPACE_DEVICE)->held.blocks, 9);
    assert_string_equal(m.reader.header.device[0].name, "Simulated GPU");
    assert_int_equal(m.reader.header.pool[0].handle, 0x900);
    assert_int_equal(m.reader.header.failure[0].result, 2);
    assert_string_equal(m.reader.header.lookup[0].name, "cuMemFancyNew");
    assert_string_equal(m.api[1].name, "cuMemAlloc_v2");
    model_free(&m);
}

static void chunks_of_an_unknown_kind_are_left_alone(void **state) {
    (void)state;
    memset(builder_chunk(&b, (enum mw_chunk_kind)77, 123456, 8192), 0xaa, 8192);
    must_read();
    assert_true(check.ok);
    model_free(&m);
}

// ---- what is refused ------------------------------------------------------------------------

static void refused(enum reader_status expected, const char *word) {
    enum reader_status status = read_now();
    if (status == READER_OK) model_free(&m);
    assert_int_equal(status, expected);
    if (!strstr(m.reader.error, word)) fail_msg("'%s' does not say '%s'", m.reader.error, word);
}

static void a_later_format_is_refused(void **state) {
    (void)state;
    b.header->format = MW_FORMAT + 1;
    refused(READER_NEWER, "format");
}

static void another_byte_order_is_refused(void **state) {
    (void)state;
    b.header->order = __builtin_bswap32(MW_ORDER);
    refused(READER_NEWER, "byte order");
}

static void another_kind_of_file_is_refused(void **state) {
    (void)state;
    memcpy(b.image, "\177ELF", 4);
    refused(READER_FOREIGN, "not a memwatch ledger");
}

static void a_ledger_that_was_never_completed_is_refused(void **state) {
    (void)state;
    b.header->life = MW_LIFE_NONE;
    refused(READER_DAMAGED, "never completed");
}

static void a_chunk_outside_of_the_file_is_refused(void **state) {
    (void)state;
    b.header->chunk[3].offset = UINT64_MAX - 4095;
    refused(READER_DAMAGED, "cut short");
    b.header->chunk[3].offset = b.bytes;
    b.header->chunk[3].bytes = UINT64_MAX;
    refused(READER_DAMAGED, "cut short");
}

static void chunks_that_overlap_are_refused(void **state) {
    (void)state;
    b.header->chunk[1].offset = b.header->chunk[0].offset + 4096;
    refused(READER_DAMAGED, "overlaps");
    b.header->chunk[1].offset = 0;
    refused(READER_DAMAGED, "overlaps");
}

static void more_entries_than_fit_are_refused(void **state) {
    (void)state;
    b.header->chunk[3].count = UINT32_MAX;
    refused(READER_DAMAGED, "too small");
}

static void impossible_struct_sizes_are_refused(void **state) {
    (void)state;
    static const uint32_t sizes[] = {0, 1, 8, 33, 1 << 20, UINT32_MAX};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        b.header->record_bytes = sizes[i];
        refused(READER_DAMAGED, "records");
    }
    b.header->record_bytes = sizeof(struct mw_record);
    b.header->device_bytes = 4096; // 32 of them are more than the header
    refused(READER_DAMAGED, "devices");
}

static void a_file_cut_anywhere_is_refused(void **state) {
    (void)state;
    for (size_t bytes = 0; bytes < b.bytes; bytes += bytes < MW_HEADER_BYTES ? 4093 : 65521) {
        assert_true(builder_save(&b, path, bytes));
        enum reader_status status = model_read(&m, path);
        assert_int_not_equal(status, READER_OK);
        assert_int_equal(status, bytes < 8 ? READER_FOREIGN : READER_DAMAGED);
        assert_true(strlen(m.reader.error) > 10);
    }
}

static void what_is_no_file_is_refused_without_waiting(void **state) {
    (void)state;
    assert_int_equal(model_read(&m, folder), READER_UNREADABLE);
    assert_int_equal(model_read(&m, "/tmp/memwatch.reader.no/such"), READER_MISSING);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(model_read(&m, path), READER_UNREADABLE);
}

// ---- the invariant --------------------------------------------------------------------------

static void must_disagree(const char *what) {
    must_read();
    if (check.ok) fail_msg("%s was not noticed", what);
    assert_true(check.lines > 0);
    model_free(&m);
}

static void each_wrong_number_is_noticed(void **state) {
    (void)state;
    must_read();
    assert_true(check.ok);
    assert_int_equal(check.lines, 0);
    model_free(&m);
    struct mw_cell *cell = builder_cell(&b, 1, 1);
    struct mw_account *a = &b.header->account[b.site[1].account];
    struct mw_remote *remote = &b.thread[1].remote[b.site[1].account];
    struct {
        const char *what;
        _Atomic uint64_t *number;
        uint64_t wrong_by;
    } wrong[] = {
        {"a byte too many allocated", &cell->bytes_in, 1},
        {"an allocation too many", &cell->allocations, 1},
        {"a byte too many freed", &cell->own_bytes, 1},
        {"a free too many", &cell->own_frees, 1},
        {"a free by another thread too many", &cell->foreign_frees, 1},
        {"a byte too many freed by others", &remote->bytes, 1},
        {"a free by others too few", &remote->frees, (uint64_t)-1},
        {"a byte too many in the running counter", &a->bound, 1},
        {"a byte of slack too many", &b.thread[2].slack[b.site[1].account], 1},
        {"a record too large", &b.record[5].size, 1},
        {"a record of another thread", &b.record[5].owner, (uint64_t)-1 << 32},
        {"a record of another site", &b.record[5].owner, 1},
        {"a record of no site", &b.record[5].owner, 1000},
        {"a record of no thread", &b.record[5].owner, UINT64_C(5) << 32},
        {"a record of no place", &b.record[5].size, UINT64_C(0xfff0) << 48},
        {"a peak below what is live", &a->peak, (uint64_t)-1 << 20},
    };
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint64_t right = *wrong[i].number;
        *wrong[i].number = right + wrong[i].wrong_by;
        must_disagree(wrong[i].what);
        *wrong[i].number = right;
    }
    b.record[5].commit = 0;
    must_disagree("a record that vanished");
}

static void slack_is_not_live(void **state) {
    (void)state;
    unsigned a = b.site[1].account;
    b.thread[2].slack[a] = 5000;
    b.header->account[a].bound += 5000;
    b.header->account[a].peak += 5000;
    must_read();
    assert_true(check.ok);
    model_free(&m);
}

// An allocation stopped after each of its stores.
static void a_thread_killed_in_an_allocation_is_not_accused(void **state) {
    (void)state;
    struct mw_account *a = &b.header->account[b.site[1].account];
    struct mw_cell *cell = builder_cell(&b, 1, 1);
    b.thread[1].in_flight = 1;
    b.record[500] = b.record[4];
    b.record[500].commit = mw_commit(MW_LIVE, 1, MW_CLASS_ADDRESS, 0x1234000);
    for (unsigned stores = 1; stores <= 4; stores++) {
        if (stores == 2) cell->allocations++;
        if (stores == 3) cell->bytes_in += 1 << 20;
        if (stores == 4) a->peak = a->bound += 1 << 20;
        must_read();
        if (!check.ok) fail_msg("after %u stores: %s", stores, check.line[0]);
        model_free(&m);
    }
}

static void a_killed_thread_excuses_one_event_only(void **state) {
    (void)state;
    b.thread[1].in_flight = 1;
    b.record[3].commit = b.record[4].commit = 0;
    must_disagree("two records that vanished in one event");
}

static void an_event_of_several_blocks_excuses_as_many(void **state) {
    (void)state;
    b.thread[1].in_flight = 2; // such as cuMemUnmap of two mappings
    b.record[3].commit = b.record[4].commit = 0;
    must_read();
    assert_true(check.ok);
    model_free(&m);
}

// ---- a writer at work -----------------------------------------------------------------------

#define CHURNED 1024u // all slots: each rests long enough to be read whole now and then
static _Atomic bool stop;
static struct mw_record *churned;

static uint64_t bytes_of_key(uint64_t key) {
    return key * 2654435761u % 1000003;
}

// Frees and allocates in the same slots, as the library stores it; a record's fields follow from
// its key.
static void *churn(void *unused) {
    (void)unused;
    for (uint64_t n = 1; !stop; n++) {
        struct mw_record *r = &churned[n % CHURNED];
        uint64_t generation = mw_commit_generation(r->commit) + 1, key = n % 100000 + 1;
        atomic_store_explicit(&r->commit, mw_commit(MW_FREE, generation - 1, 0, 0),
                              memory_order_relaxed);
        atomic_thread_fence(memory_order_release);
        atomic_store_explicit(&r->size, bytes_of_key(key), memory_order_relaxed);
        atomic_store_explicit(&r->owner, key << 32, memory_order_relaxed);
        atomic_store_explicit(&r->birth, key, memory_order_relaxed);
        atomic_store_explicit(&r->commit, mw_commit(MW_LIVE, generation, MW_CLASS_ADDRESS, key),
                              memory_order_release);
    }
    return NULL;
}

static void judge_record(void *seen, const struct reader_record *r) {
    ++*(uint64_t *)seen;
    if (r->size != bytes_of_key(r->key) || r->owner != r->key << 32 || r->birth != r->key)
        fail_msg("a torn record: key %llu", (unsigned long long)r->key);
}

// Stands in for libc's: what happens right after a chosen read of the record table.
static struct {
    off_t table;    // 0: nothing happens
    unsigned reads; // of the table so far
    unsigned when;  // after which of them
    enum { SCRAMBLE, REPLACE } what;
} upset;

static void replace_records(void) {
    for (unsigned i = 0; i < CHURNED; i++) {
        uint64_t key = 500000 + i;
        unsigned generation = mw_commit_generation(churned[i].commit) + 1;
        churned[i].size = bytes_of_key(key);
        churned[i].owner = key << 32;
        churned[i].birth = key;
        churned[i].commit = mw_commit(MW_LIVE, generation, MW_CLASS_ADDRESS, key);
    }
}

ssize_t pread(int fd, void *buffer, size_t bytes, off_t offset) {
    ssize_t n = syscall(SYS_pread64, fd, buffer, bytes, offset);
    if (!upset.table || offset != upset.table || ++upset.reads != upset.when) return n;
    if (upset.what == REPLACE) replace_records();
    // A copy that the writer overtook: the commit words are older than the rest.
    for (unsigned i = 0; upset.what == SCRAMBLE && i < CHURNED; i++)
        memset((char *)buffer + i * sizeof(struct mw_record) + 8, 0xaa, 24);
    return n;
}

static void *map_file(void) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *map = mmap(NULL, b.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    assert_ptr_not_equal(map, MAP_FAILED);
    return map;
}

static void a_record_is_never_mixed_from_two(void **state) {
    (void)state;
    off_t table = (char *)b.record - b.image;
    for (unsigned when = 1; when <= 3; when++) {
        assert_true(builder_save(&b, path, b.bytes));
        char *map = map_file();
        churned = (struct mw_record *)(map + table);
        replace_records();
        upset = (typeof(upset)){table, 0, when, REPLACE};
        struct reader r;
        uint64_t seen = 0;
        assert_int_equal(reader_open(&r, path), READER_OK);
        assert_true(reader_records(&r, judge_record, &seen));
        reader_close(&r);
        upset.table = 0;
        // Replaced after the last read: too late to be noticed. Before: nothing can be told.
        assert_int_equal(seen, when == 3 ? CHURNED : 0);
        munmap(map, b.bytes);
    }
}

static void a_copy_that_the_writer_overtook_is_not_believed(void **state) {
    (void)state;
    off_t table = (char *)b.record - b.image;
    assert_true(builder_save(&b, path, b.bytes));
    char *map = map_file();
    churned = (struct mw_record *)(map + table);
    replace_records();
    upset = (typeof(upset)){table, 0, 1, SCRAMBLE};
    struct reader r;
    uint64_t seen = 0;
    assert_int_equal(reader_open(&r, path), READER_OK);
    assert_true(reader_records(&r, judge_record, &seen));
    reader_close(&r);
    upset.table = 0;
    assert_int_equal(seen, CHURNED);
    munmap(map, b.bytes);
}

static void records_read_from_a_busy_file_are_whole(void **state) {
    (void)state;
    memset(b.record, 0, 1024 * sizeof *b.record);
    assert_true(builder_save(&b, path, b.bytes));
    char *map = map_file();
    churned = (struct mw_record *)(map + ((char *)b.record - b.image));
    pthread_t writer;
    stop = false;
    assert_int_equal(pthread_create(&writer, NULL, churn, NULL), 0);
    struct reader r;
    uint64_t seen = 0;
    assert_int_equal(reader_open(&r, path), READER_OK);
    for (unsigned i = 0; i < 2000 || (seen < 10000 && i < 200000); i++)
        assert_true(reader_records(&r, judge_record, &seen));
    reader_close(&r);
    stop = true;
    pthread_join(writer, NULL);
    assert_true(seen >= 10000);
    munmap(map, b.bytes);
}

static void a_file_that_shrinks_while_read_is_no_crash(void **state) {
    (void)state;
    assert_true(builder_save(&b, path, b.bytes));
    struct reader r;
    assert_int_equal(reader_open(&r, path), READER_OK);
    assert_int_equal(truncate(path, MW_HEADER_BYTES + 4096), 0);
    uint64_t seen = 0;
    assert_false(reader_records(&r, judge_record, &seen));
    assert_int_equal(r.status, READER_DAMAGED);
    assert_int_equal(reader_refresh(&r), READER_DAMAGED);
    reader_close(&r);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(totals_are_what_was_booked),
        TEST(a_thread_has_what_it_allocated_and_nobody_freed),
        TEST(the_largest_blocks_come_first),
        TEST(only_the_largest_of_many_blocks_are_kept),
        TEST(pitched_memory_tells_what_was_asked_for),
        TEST(cells_in_further_pages_are_found),
        TEST(pages_in_a_circle_are_read_once),
        TEST(threads_in_a_second_chunk_have_the_next_numbers),
        TEST(accounts_and_sites_interned_twice_are_one),
        TEST(structs_that_grew_are_read_as_far_as_known),
        TEST(chunks_of_an_unknown_kind_are_left_alone),
        TEST(a_later_format_is_refused),
        TEST(another_byte_order_is_refused),
        TEST(another_kind_of_file_is_refused),
        TEST(a_ledger_that_was_never_completed_is_refused),
        TEST(a_chunk_outside_of_the_file_is_refused),
        TEST(chunks_that_overlap_are_refused),
        TEST(more_entries_than_fit_are_refused),
        TEST(impossible_struct_sizes_are_refused),
        TEST(a_file_cut_anywhere_is_refused),
        TEST(what_is_no_file_is_refused_without_waiting),
        TEST(each_wrong_number_is_noticed),
        TEST(slack_is_not_live),
        TEST(a_thread_killed_in_an_allocation_is_not_accused),
        TEST(a_killed_thread_excuses_one_event_only),
        TEST(an_event_of_several_blocks_excuses_as_many),
        TEST(a_record_is_never_mixed_from_two),
        TEST(a_copy_that_the_writer_overtook_is_not_believed),
        TEST(records_read_from_a_busy_file_are_whole),
        TEST(a_file_that_shrinks_while_read_is_no_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
