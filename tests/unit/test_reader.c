// SPDX-License-Identifier: Apache-2.0
// links: report/reader.c report/messages.c report/frames.c report/model.c report/check.c
// links: report/torch.c
// links: report/places.c tests/unit/ledger_builder.c
//
// The reader on files made by other code: what stands in a ledger is understood, whatever its
// writer's struct sizes; a file that is cut, foreign or damaged is refused with a reason; a ledger
// that does not agree with itself is found out, one whose process was killed is not accused.
#include "check.h"
#include "ledger_builder.h"
#include "model.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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
    // More sites than a page has cells, a block each: the pages become a tree of several levels.
    unsigned first = b.sites;
    for (unsigned i = 0; i < 600; i++) builder_site(&b, 0, 1, 0, MW_SPACE_DEVICE);
    for (unsigned i = 0; i < 600; i++) {
        builder_site_at(&b, first + i)->api = (uint16_t)(1000 + i);
        builder_alloc(&b, 1 + i % 2, first + i, 1, MW_CLASS_ADDRESS, 0x7fff00000000 + i, 1000 + i,
                      1000 + i);
    }
    assert_true(b.pages > 2 * MW_PAGE_CHILDREN);
    must_read();
    assert_true(check.ok);
    assert_int_equal(account(0, MW_SPACE_DEVICE)->tally.allocations, 12 + 600);
    model_free(&m);
}

static void pages_in_a_circle_are_read_once(void **state) {
    (void)state;
    size_t pages = 16 * sizeof(struct mw_cell_page);
    struct mw_cell_page *page = builder_chunk(&b, MW_CHUNK_CELLS, 16, pages);
    page[3].cell[0].next_page = page[3].cell[1].next_page = 5 + 1;
    page[5].cell[3].next_page = 3 + 1;
    page[5].cell[2].next_page = 5 + 1;
    page[5].cell[4] = *builder_cell(&b, 1, 1);
    memset(builder_cell(&b, 1, 1), 0, sizeof(struct mw_cell));
    struct mw_cell *root = b.thread[1].cells.cell, *other = b.thread[2].cells.cell;
    root[1].next_page = root[2].next_page = other[0].next_page = 3 + 1;
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
    b.site[site] = (struct mw_site){.state = 2, .driver_api = 1, .stack = b.site[1].stack};
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

// ---- sites ----------------------------------------------------------------------------------

// The only site with that entry point.
static const struct model_site *site_of(const char *api) {
    const struct model_site *found = NULL;
    for (unsigned i = 0; i < m.sites; i++) {
        if (m.site[i].api < 0 || strcmp(m.api[m.site[i].api].name, api) != 0) continue;
        if (found) fail_msg("two sites of %s", api);
        found = &m.site[i];
    }
    if (!found) fail_msg("no site of %s", api);
    return found;
}

static void a_site_tells_what_it_had_at_most_and_when(void **state) {
    (void)state;
    must_read();
    const struct model_site *s = site_of("cudaMalloc");
    assert_int_equal(s->held.bytes, 7 << 20);
    assert_int_equal(s->live_bytes, 7 << 20);
    assert_int_equal(s->peak_bytes, 10 << 20);
    assert_int_equal(s->peak_ms, 10);
    assert_int_equal(s->first_ms, 1);
    assert_int_equal(s->last_ms, 10);
    assert_int_equal(s->oldest_ms, 4); // the first three are gone
    assert_int_equal(s->lifetime[2], 3);
    model_free(&m);
}

// A site's peak may be told too high: by what threads keep to themselves, or because two threads
// made two entries of it.
static void a_sites_peak_is_not_more_than_was_allocated_there(void **state) {
    (void)state;
    b.site[1].peak = UINT64_C(1) << 40;
    builder_site_at(&b, 2)->peak = UINT64_C(1) << 40;
    must_read();
    assert_int_equal(site_of("cudaMalloc")->peak_bytes, 10 << 20);
    for (unsigned i = 0; i < m.sites; i++) {
        assert_true(m.site[i].peak_bytes <= m.site[i].tally.allocated_bytes);
        assert_true(m.site[i].peak_bytes <= m.account[m.site[i].account].peak_bytes);
    }
    model_free(&m);
}

static bool says(struct span span, const char *text) {
    return span.length == strlen(text) && !memcmp(span.bytes, text, span.length);
}

static void a_stack_tells_its_frames(void **state) {
    (void)state;
    must_read();
    const struct mw_stack *stack = stack_at(&m.arena, site_of("cudaMalloc")->stack);
    struct python_frame python;
    struct native_frame native;
    assert_non_null(stack);
    assert_int_equal(stack->python, 2);
    assert_int_equal(stack->native, 4);
    assert_true(stack_python(&m.arena, stack, 0, &python));
    assert_true(says(python.file, "/home/ada/train.py"));
    assert_true(says(python.function, "Model.forward"));
    assert_int_equal(python.line, 42);
    assert_int_equal(python.first_line, 40);
    assert_false(python.entry);
    assert_true(stack_python(&m.arena, stack, 1, &python));
    assert_true(python.entry);
    assert_true(stack_native(&m.arena, stack, 0, &native));
    assert_true(says(native.path, "/opt/torch/lib/libtorch.so"));
    assert_true(says(native.build, "\x01\x23\x45\x67"));
    assert_int_equal(native.address, 0x1000 + 0x234);
    model_free(&m);
}

// The same stack, stored again by a thread that met another one: each object twice, and the module
// loaded elsewhere.
static void stacks_that_say_the_same_are_one_site(void **state) {
    (void)state;
    unsigned sites[3];
    for (unsigned i = 0; i < 3; i++) {
        uint32_t code = builder_code(&b, "/a.py", "f", 1);
        uint32_t module = builder_module(&b, "/lib/a.so", 0, "id", 2);
        uint64_t python = PYTHON_FRAME(code, 7, true), native = NATIVE_FRAME(module, 0x99 + i / 2);
        if (i == 1) { // further up in the address space, but the same place in the file
            module = builder_module(&b, "/lib/a.so", 0x90, "id", 2);
            native = NATIVE_FRAME(module, 0x9);
        }
        uint32_t stack = builder_stack(&b, &python, 1, &native, 1, 0);
        sites[i] = builder_site(&b, 1, 1, 0, MW_SPACE_DEVICE);
        builder_site_at(&b, sites[i])->stack = stack;
        builder_alloc(&b, 1, sites[i], 1, MW_CLASS_ADDRESS, 0x7fff00000000 + i, 1000, 1000);
    }
    must_read();
    assert_true(check.ok);
    unsigned with_stack[2] = {0};
    for (unsigned i = 0; i < m.sites; i++)
        if (m.site[i].held.bytes % 1000 == 0 && m.site[i].held.bytes <= 2000 && m.site[i].stack)
            with_stack[m.site[i].held.bytes / 1000 - 1]++;
    assert_int_equal(with_stack[0], 1); // another offset
    assert_int_equal(with_stack[1], 1); // the two equal ones
    model_free(&m);
}

// ---- references -----------------------------------------------------------------------------

static void a_reference_to_nothing_is_noticed(void **state) {
    (void)state;
    uint32_t right = b.site[1].stack;
    uint64_t arena = right * UINT64_C(8);
    uint32_t string = builder_string(&b, "a string");
    const uint32_t wrong[] = {
        1,                                 // the header
        (uint32_t)(MW_HEADER_BYTES / 8),   // the threads
        string,                            // an object of another kind
        right + 1,                         // the middle of the stack
        (uint32_t)((b.arena_end - 8) / 8), // the arena's unused end
        (uint32_t)(b.bytes / 8),           // behind the file
        UINT32_MAX - 1,
    };
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        b.site[1].stack = wrong[i];
        must_read();
        assert_false(check.ok);
        assert_int_equal(m.broken_stacks, 1);
        assert_null(stack_at(&m.arena, site_of("cudaMalloc")->stack));
        model_free(&m);
    }
    b.site[1].stack = right;
    must_read();
    assert_int_equal(m.broken_stacks, 0);
    model_free(&m);
    // An object that its chunk ends in; one shorter than its frames need; frames of nothing.
    struct mw_stack *stack = (struct mw_stack *)(b.image + arena);
    struct mw_chunk *chunk = &b.header->chunk[5];
    assert_int_equal(chunk->kind, MW_CHUNK_ARENA);
    const uint32_t count = chunk->count;
    const struct mw_stack good = *stack;
    const uint64_t frame[2] = {stack->frame[0], stack->frame[2]};
    for (unsigned i = 0; i < 7; i++) {
        if (i == 0) chunk->count = (uint32_t)((arena + sizeof good - chunk->offset) / 8);
        if (i == 1) stack->object.bytes = sizeof good;
        if (i == 2) stack->object.bytes = 0;
        if (i == 3) stack->native = 255;
        if (i == 4) stack->frame[0] = PYTHON_FRAME(string, 1, 0);
        if (i == 5) stack->frame[2] = NATIVE_FRAME(string, 1);
        if (i == 6) stack->object.kind = MW_STRING;
        must_read();
        if (!m.broken_stacks) fail_msg("damage %u was not noticed", i);
        model_free(&m);
        chunk->count = count;
        *stack = good;
        stack->frame[0] = frame[0];
        stack->frame[2] = frame[1];
    }
    must_read();
    assert_int_equal(m.broken_stacks, 0);
    model_free(&m);
}

static void frames_that_refer_to_nothing_are_unknown(void **state) {
    (void)state;
    uint64_t python = PYTHON_FRAME(0, 0, false), native = NATIVE_FRAME(0, 0x1234);
    uint32_t reference = builder_stack(&b, &python, 1, &native, 1, MW_STACK_APPROXIMATE);
    builder_site_at(&b, 1)->stack = reference;
    must_read();
    assert_true(check.ok);
    const struct mw_stack *stack = stack_at(&m.arena, site_of("cudaMalloc")->stack);
    struct python_frame a;
    struct native_frame n;
    assert_true(stack_python(&m.arena, stack, 0, &a) && stack_native(&m.arena, stack, 0, &n));
    assert_null(a.file.bytes);
    assert_null(n.path.bytes);
    assert_int_equal(n.address, 0x1234);
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
        {offsetof(struct mw_header, level), sizeof(struct mw_level), MW_LEVEL_COUNT},
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
    memcpy(grown, b.image, b.bytes);
    struct mw_header *g = (struct mw_header *)grown;
    size_t end = b.bytes; // the old tables stay as dead bytes: the arena may not move
    struct mw_chunk chunk[MW_CHUNKS] = {0};
    for (unsigned i = 0; i < MW_CHUNKS; i++) {
        const struct mw_chunk *c = &h->chunk[i];
        chunk[i] = *c;
        if (!c->kind || c->kind >= MW_CHUNK_ARENA) continue; // nor do texts have a size
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
                        &g->pool_bytes,   &g->failure_bytes, &g->lookup_bytes, &g->chunk_bytes,
                        &g->level_bytes};
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
    assert_string_equal(m.reader.header.level[MW_LEVEL_PYTHON].words, "CPython 3.11.7");
    assert_non_null(stack_at(&m.arena, site_of("cudaMalloc")->stack));
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

static void another_format_is_refused(void **state) {
    (void)state;
    b.header->format = MW_FORMAT + 1;
    refused(READER_VERSION, "a later version");
    b.header->format = MW_FORMAT_OLDEST - 1;
    refused(READER_VERSION, "an older version");
}

static void another_byte_order_is_refused(void **state) {
    (void)state;
    b.header->order = __builtin_bswap32(MW_ORDER);
    refused(READER_VERSION, "byte order");
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
    b.header->cell_bytes = MW_PAGE_BYTES + 8;
    refused(READER_DAMAGED, "cells");
    b.header->cell_bytes = sizeof(struct mw_cell);
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
        {"a byte too many in the site's running counter", &b.site[1].bound, 1},
        {"a byte of a site's slack too many", &cell->slack, 1},
        {"a site's peak below what is live", &b.site[1].peak, (uint64_t)-4 << 20},
        {"more bytes freed by Python's end than were freed", &b.site[1].exit_bytes, 1 << 30},
        {"more blocks freed by Python's end than were freed", &b.site[1].exit_blocks, 1 << 20},
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
    builder_cell(&b, 2, 1)->slack = 300;
    b.site[1].bound += 300;
    must_read();
    assert_true(check.ok);
    model_free(&m);
}

// An allocation stopped after each of its stores.
static void a_thread_killed_in_an_allocation_is_not_accused(void **state) {
    (void)state;
    struct mw_account *a = &b.header->account[b.site[1].account];
    struct mw_cell *cell = builder_cell(&b, 1, 1);
    struct mw_site *site = &b.site[1];
    b.thread[1].in_flight = 1;
    b.record[500] = b.record[4];
    b.record[500].commit = mw_commit(MW_LIVE, 1, MW_CLASS_ADDRESS, 0x1234000);
    for (unsigned stores = 1; stores <= 5; stores++) {
        if (stores == 2) cell->allocations++;
        if (stores == 3) cell->bytes_in += 1 << 20;
        if (stores == 4) a->peak = a->bound += 1 << 20;
        if (stores == 5) site->peak = site->bound += 1 << 20;
        must_read();
        if (!check.ok) fail_msg("after %u stores: %s", stores, check.line[0]);
        model_free(&m);
    }
}

// A slot that it was filling, or emptying, is nobody's.
static void a_slot_that_a_killed_thread_had_claimed_is_no_block(void **state) {
    (void)state;
    b.record[500] = b.record[4];
    b.record[500].commit = mw_commit(MW_BUSY, 7, 0, 0);
    must_read();
    assert_true(check.ok);
    assert_int_equal(m.records, 13);
    model_free(&m);
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
        TEST(a_site_tells_what_it_had_at_most_and_when),
        TEST(a_sites_peak_is_not_more_than_was_allocated_there),
        TEST(a_stack_tells_its_frames),
        TEST(stacks_that_say_the_same_are_one_site),
        TEST(a_reference_to_nothing_is_noticed),
        TEST(frames_that_refer_to_nothing_are_unknown),
        TEST(threads_in_a_second_chunk_have_the_next_numbers),
        TEST(accounts_and_sites_interned_twice_are_one),
        TEST(structs_that_grew_are_read_as_far_as_known),
        TEST(chunks_of_an_unknown_kind_are_left_alone),
        TEST(another_format_is_refused),
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
        TEST(a_slot_that_a_killed_thread_had_claimed_is_no_block),
        TEST(a_killed_thread_excuses_one_event_only),
        TEST(an_event_of_several_blocks_excuses_as_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
