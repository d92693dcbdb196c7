// SPDX-License-Identifier: Apache-2.0
// links: report/reader.c tests/unit/ledger_builder.c
//
// The reader on a file that changes while it is read, as that of a living process does: no record,
// failed call or refusal is told half old and half new, and a file that gets shorter is no crash.
#define _GNU_SOURCE // syscall
#include "ledger_builder.h"
#include "reader.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64], path[96];
static struct builder b;

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

// ---- records --------------------------------------------------------------------------------

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

// ---- rings ----------------------------------------------------------------------------------

// Failed calls and refusals, each with its ordinal in its fields; as counters.c and torch.c do.
static struct mw_header *ringed;
static struct mw_torch *refusing;

static void *fill_rings(void *unused) {
    for (uint64_t n = 0; !stop; n++) {
        struct mw_failure *f = &ringed->failure[n % MW_FAILURES];
        struct mw_oom *o = &refusing->oom[n % MW_OOMS];
        ringed->failures_total = n + 1;
        refusing->ooms = n + 1;
        atomic_store_explicit(&f->sequence, 2 * n + 1, memory_order_relaxed);
        atomic_store_explicit(&o->sequence, 2 * n + 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_release);
        f->when_ns = f->asked = f->live = n;
        o->asked = o->live = o->site[0].bytes = o->site[MW_OOM_SITES - 1].bytes = n;
        atomic_store_explicit(&f->sequence, 2 * n + 2, memory_order_release);
        atomic_store_explicit(&o->sequence, 2 * n + 2, memory_order_release);
        for (volatile int i = 0; i < 50; i++) continue;
    }
    return unused;
}

static void rings_read_from_a_busy_file_are_whole(void **state) {
    (void)state;
    uint64_t at = (b.bytes + 4095) / 4096 * 4096, size = at + 16384, seen = 0;
    assert_true(builder_save(&b, path, b.bytes));
    assert_int_equal(truncate(path, (off_t)size), 0);
    int fd = open(path, O_RDWR);
    char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    assert_true(map != MAP_FAILED);
    ringed = (struct mw_header *)map;
    refusing = (struct mw_torch *)(map + at);
    refusing->bytes = sizeof *refusing;
    memset(ringed->failure, 0, sizeof ringed->failure);
    ringed->chunk[MW_CHUNKS - 1] = (struct mw_chunk){at, 16384, 1, MW_CHUNK_TORCH};
    pthread_t writer;
    stop = false;
    assert_int_equal(pthread_create(&writer, NULL, fill_rings, NULL), 0);
    static struct reader r;
    static struct mw_torch torch;
    assert_int_equal(reader_open(&r, path), READER_OK);
    for (unsigned i = 0; i < 60000; i++) {
        if (i % 10 == 0) assert_int_equal(reader_refresh(&r), READER_OK);
        assert_true(reader_torch(&r, &torch));
        for (unsigned k = 0; k < MW_FAILURES; k++) {
            const struct mw_failure *f = &r.header.failure[k];
            if (!f->sequence || f->sequence % 2) continue;
            uint64_t n = f->sequence / 2 - 1;
            assert_true(f->when_ns == n && f->asked == n && f->live == n);
            seen++;
        }
        for (unsigned k = 0; k < MW_OOMS; k++) {
            const struct mw_oom *o = &torch.oom[k];
            if (!o->sequence || o->sequence % 2) continue;
            uint64_t n = o->sequence / 2 - 1;
            assert_true(o->asked == n && o->live == n && o->site[0].bytes == n &&
                        o->site[MW_OOM_SITES - 1].bytes == n);
            seen++;
        }
    }
    stop = true;
    pthread_join(writer, NULL);
    reader_close(&r);
    assert_true(seen >= 10000);
    munmap(map, size);
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
        TEST(a_record_is_never_mixed_from_two),
        TEST(a_copy_that_the_writer_overtook_is_not_believed),
        TEST(records_read_from_a_busy_file_are_whole),
        TEST(rings_read_from_a_busy_file_are_whole),
        TEST(a_file_that_shrinks_while_read_is_no_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
