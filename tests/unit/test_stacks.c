// SPDX-License-Identifier: Apache-2.0
// links: interpose/stacks.c interpose/arena.c interpose/map.c interpose/ledger.c
// links: interpose/records.c interpose/counters.c interpose/sites.c
// build: -D_GNU_SOURCE
//
// Stacks in the ledger, with walkers that say what the test wants: what was walked can be read from
// the file, the same stack is the same reference, and what lies at an old address is told apart.
#include "arena.h"
#include "ledger.h"
#include "stack_native.h"
#include "stack_python.h"
#include "stacks.h"
#include "wake.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static _Atomic uint32_t awake = MW_AWAKE;
_Atomic uint32_t *mw_wake_word = &awake;

// ---- walkers of the test's own ----

bool mw_python_ready, mw_native_ready;
static struct mw_python_frame python_frames[MW_STACK_DEPTH];
static unsigned python_count, python_flags, descriptions;
static const char *python_name; // of every function; the file is NAME.py
static uintptr_t native_pcs[MW_STACK_DEPTH];
static unsigned native_count;
struct mw_generation mw_generation;
static struct mw_native_module module_here;
static bool there_is_a_module;

void mw_python_find(struct mw_level *level) {
    level->state = MW_LEVEL_LIVE;
    mw_python_ready = true;
}

void mw_python_inherit(struct mw_level *level) {
    mw_python_find(level);
}

static unsigned python_gone; // so many frames fewer are found when they are to be kept

unsigned mw_python_walk(struct mw_python_frame *frames, unsigned limit, struct mw_walk *out) {
    assert_true(python_count <= limit);
    if (frames && python_gone) return python_count - python_gone;
    if (frames) memcpy(frames, python_frames, python_count * sizeof *frames);
    out->flags |= python_flags;
    for (unsigned i = 0; i < python_count; i++) {
        const struct mw_python_frame *f = &python_frames[i];
        out->hash = (out->hash + f->code + f->instruction * 3 + f->identity * 5 + f->entry) * 31;
    }
    return python_count;
}

static enum mw_python_phase python_phase;
enum mw_python_phase mw_python_phase(void) {
    return python_phase;
}
static uintptr_t end_mark;
const uintptr_t *mw_python_end_mark(void) {
    return &end_mark;
}

bool mw_python_describe(const struct mw_python_frame *frame, struct mw_python_place *place) {
    descriptions++;
    memset(place, 0, sizeof *place);
    place->name_bytes = (unsigned)snprintf(place->name, sizeof place->name, "%s", python_name);
    place->file_bytes = (unsigned)snprintf(place->file, sizeof place->file, "%s.py", python_name);
    place->line = (uint32_t)frame->instruction / 10; // ten instructions to a line
    place->first_line = 1;
    return true;
}

unsigned mw_python_thread_name(char *out, unsigned size) {
    return (unsigned)snprintf(out, size, "%s", "loader");
}

void mw_native_forked(void) {
    mw_generation.closing = 0;
}

void mw_native_find(struct mw_level *level) {
    level->state = MW_LEVEL_LIVE;
    mw_native_ready = true;
}

unsigned mw_native_walk(uintptr_t *pc, unsigned limit, bool *cut) {
    *cut = native_count > limit;
    unsigned n = native_count < limit ? native_count : limit;
    memcpy(pc, native_pcs, n * sizeof *pc);
    return n;
}

uint64_t mw_unsettled_generation(void) {
    static uint64_t asked;
    return MW_UNSETTLED | ++asked;
}

bool mw_native_module_at(uintptr_t pc, struct mw_native_module *out) {
    (void)pc;
    *out = module_here;
    return there_is_a_module;
}

// ---- a ledger and how to read it ----

static uint64_t room = UINT64_C(1) << 30;

static int fresh(void **state) {
    (void)state;
    char path[] = "/tmp/memwatch.unit.XXXXXX";
    int fd = mkstemp(path);
    unlink(path);
    struct mw_ledger_place place = {path, room, 1000, fd};
    if (mw_ledger_create(&place) < 0) return -1;
    python_count = python_flags = native_count = descriptions = 0;
    python_name = "train";
    mw_generation.present = 5;
    there_is_a_module = true;
    module_here = (struct mw_native_module){.path = "/usr/lib/libsome.so",
                                            .base = 0x7f0000000000,
                                            .build_id_bytes = 2,
                                            .build_id = {0xab, 0xcd}};
    struct mw_stack_options both = {.python = true,
                                    .native = true,
                                    .python_depth = MW_STACK_DEPTH,
                                    .native_depth = MW_STACK_DEPTH};
    mw_stacks_begin(&both);
    return 0;
}

static const void *object(uint32_t reference, enum mw_object_kind kind) {
    assert_int_not_equal(reference, 0);
    const struct mw_object *o = (const void *)((const char *)mw_ledger + (uint64_t)reference * 8);
    assert_int_equal(o->kind, kind);
    return o;
}

static void assert_string(uint32_t reference, const char *expected) {
    const struct mw_string *s = object(reference, MW_STRING);
    assert_int_equal(s->object.bytes - sizeof *s, strlen(expected));
    assert_memory_equal(s->bytes, expected, strlen(expected));
}

static void python(unsigned i, uintptr_t code, uintptr_t instruction, uint32_t identity) {
    python_frames[i] = (struct mw_python_frame){code, instruction, identity, i == 1};
    if (python_count <= i) python_count = i + 1;
}

// ---- tests ----

// Between the walk that finds a stack to be new and the one that keeps its frames, the main thread
// may begin to end the interpreter: there is nothing to be described any more.
static void frames_that_went_meanwhile_are_not_described(void **state) {
    (void)state;
    python(0, 0x1000, 420, 1);
    python(1, 0x2000, 70, 1);
    for (python_gone = 2; python_gone; python_gone--) {
        assert_int_equal(mw_stack_here(false), MW_NO_STACK);
        assert_int_equal(descriptions, 0);
    }
    assert_int_equal(mw_ledger->losses[MW_LOSS_STACKS], 2);
    assert_int_not_equal(mw_stack_here(false), MW_NO_STACK); // it is not remembered as none
}

static void a_stack_can_be_read_from_the_file_alone(void **state) {
    (void)state;
    python(0, 0x1000, 420, 1);
    python(1, 0x2000, 70, 1);
    python_flags = MW_STACK_PYTHON_CUT;
    native_pcs[0] = 0x7f0000000123;
    native_count = 1;
    const struct mw_stack *s = object(mw_stack_here(false), MW_STACK);
    assert_int_equal(s->python, 2);
    assert_int_equal(s->native, 1);
    assert_int_equal(s->flags, MW_STACK_PYTHON_CUT);
    assert_int_equal(s->frame[0] >> 32, 42);
    assert_int_equal(s->frame[1] >> 32, UINT64_C(1) << 31 | 7); // entered from C
    const struct mw_code *code = object((uint32_t)s->frame[0], MW_CODE);
    assert_string(code->file, "train.py");
    assert_string(code->name, "train");
    const struct mw_module *module = object((uint32_t)(s->frame[2] >> 32), MW_MODULE);
    assert_int_equal((uint32_t)s->frame[2] + module->offset, 0x123);
    assert_string(module->path, "/usr/lib/libsome.so");
    assert_int_equal(module->base, 0x7f0000000000);
    assert_int_equal(module->build_id[1], 0xcd);
}

static void a_known_stack_is_not_described_again(void **state) {
    (void)state;
    python(0, 0x1000, 420, 1);
    uint32_t first = mw_stack_here(false);
    for (int i = 0; i < 1000; i++) assert_int_equal(mw_stack_here(false), first);
    assert_int_equal(descriptions, 1);
    assert_int_not_equal(first, MW_NO_STACK);
}

static void two_instructions_of_a_line_are_one_stack(void **state) {
    (void)state;
    python(0, 0x1000, 420, 1);
    uint32_t first = mw_stack_here(false);
    python(0, 0x1000, 425, 1);
    assert_int_equal(mw_stack_here(false), first);
    python(0, 0x1000, 430, 1);
    assert_int_not_equal(mw_stack_here(false), first);
}

static void other_code_at_the_same_address_is_another_stack(void **state) {
    (void)state;
    python(0, 0x1000, 420, 1);
    uint32_t first = mw_stack_here(false);
    python_name = "other";
    python(0, 0x1000, 420, 2);
    uint32_t second = mw_stack_here(false);
    const struct mw_stack *s = object(second, MW_STACK);
    const struct mw_code *code = object((uint32_t)s->frame[0], MW_CODE);
    assert_string(code->name, "other");
    assert_int_not_equal(first, second);
}

static void another_library_at_the_same_address_is_another_stack(void **state) {
    (void)state;
    native_pcs[0] = 0x7f0000000123;
    native_count = 1;
    uint32_t first = mw_stack_here(false);
    module_here.path = "/usr/lib/libother.so";
    mw_generation.present++; // one was unloaded, one loaded
    const struct mw_stack *s = object(mw_stack_here(false), MW_STACK);
    const struct mw_module *module = object((uint32_t)(s->frame[0] >> 32), MW_MODULE);
    assert_string(module->path, "/usr/lib/libother.so");
    assert_int_not_equal(first, mw_stack_here(false));
}

static void code_outside_any_file_keeps_its_address(void **state) {
    (void)state;
    native_pcs[0] = 0x7f1234567890;
    native_count = 1;
    there_is_a_module = false;
    const struct mw_stack *s = object(mw_stack_here(false), MW_STACK);
    const struct mw_module *module = object((uint32_t)(s->frame[0] >> 32), MW_MODULE);
    assert_int_equal(module->path, 0);
    assert_int_equal(module->offset + (uint32_t)s->frame[0], 0x7f1234567890);
}

static void a_thread_without_any_frame_has_no_stack(void **state) {
    (void)state;
    assert_int_equal(mw_stack_here(false), MW_NO_STACK);
    assert_int_equal(mw_ledger->losses[MW_LOSS_STACKS], 0);
}

static void the_deepest_stack_is_kept_whole(void **state) {
    (void)state;
    for (unsigned i = 0; i < MW_STACK_DEPTH; i++) {
        python(i, 0x1000 + i * 64, 10 * i, 1);
        native_pcs[i] = 0x7f0000000000 + i;
    }
    native_count = MW_STACK_DEPTH;
    const struct mw_stack *s = object(mw_stack_here(false), MW_STACK);
    assert_int_equal(s->python + s->native, 2 * MW_STACK_DEPTH);
    assert_int_equal((uint32_t)s->frame[2 * MW_STACK_DEPTH - 1], MW_STACK_DEPTH - 1);
}

static void long_names_are_cut_between_characters(void **state) {
    (void)state;
    char text[MW_STRING_MAX + 2];
    memset(text, 'x', sizeof text);
    memcpy(text + MW_STRING_MAX - 1, "\xc3\xa9", 2); // an e with an accent over the edge
    const struct mw_string *s = object(mw_intern_string(text, sizeof text), MW_STRING);
    assert_int_equal(s->object.bytes - sizeof *s, MW_STRING_MAX - 1);
}

static void a_full_arena_is_counted_and_nothing_breaks(void **state) {
    (void)state;
    room = UINT64_C(4) << 20;
    fresh(state);
    room = UINT64_C(1) << 30;
    uint32_t stacks = 0, last = 0;
    for (uintptr_t i = 0; i < 200000; i++) {
        python(0, 0x1000, 10 * i, 1);
        uint32_t stack = mw_stack_here(false);
        if (!stack) continue;
        stacks++;
        last = stack;
    }
    assert_true(stacks > 1000 && stacks < 200000);
    assert_int_equal(mw_ledger->losses[MW_LOSS_STACKS], 200000 - stacks);
    object(last, MW_STACK);
}

static void a_chunk_of_the_arena_is_filled_before_the_next_is_begun(void **state) {
    (void)state;
    enum { NAME = 500, NAMES = 4000 };
    uint64_t end[MW_CHUNKS] = {0};
    char text[NAME];
    memset(text, 'x', sizeof text);
    for (unsigned i = 0; i < NAMES; i++) {
        snprintf(text, sizeof text, "%u", i);
        uint64_t at = mw_intern_string(text, sizeof text) * UINT64_C(8);
        assert_true(at);
        for (unsigned k = 0; k < MW_CHUNKS; k++) {
            const struct mw_chunk *c = &mw_ledger->chunk[k];
            if (at >= c->offset && at < c->offset + c->bytes) end[k] = at + 8 + sizeof text;
        }
    }
    unsigned filled = 0;
    for (unsigned k = 0; k < MW_CHUNKS; k++) {
        const struct mw_chunk *c = &mw_ledger->chunk[k];
        if (c->kind != MW_CHUNK_ARENA || c->bytes >= UINT64_C(1) << 20) continue;
        assert_in_range(c->offset + c->bytes - end[k], 0, 8 + sizeof text);
        filled++;
    }
    assert_int_equal(filled, 6); // two each of 128, 256 and 512 KiB
}

// ---- several threads ----

enum { THREADS = 8, STRINGS = 20000 };

static uint32_t reference[THREADS][STRINGS];

// Each thread begins elsewhere: in step they would meet at every name.
static void *intern_all(void *argument) {
    uint32_t *mine = argument;
    unsigned start = (unsigned)((uint32_t(*)[STRINGS])argument - reference) * (STRINGS / THREADS);
    for (unsigned k = 0; k < STRINGS; k++) {
        char text[32];
        unsigned i = (start + k) % STRINGS;
        unsigned length = (unsigned)snprintf(text, sizeof text, "a name, number %u", i);
        mine[i] = mw_intern_string(text, length);
    }
    return NULL;
}

static void eight_threads_store_every_name_whole(void **state) {
    (void)state;
    pthread_t thread[THREADS];
    for (int t = 0; t < THREADS; t++) pthread_create(&thread[t], NULL, intern_all, reference[t]);
    for (int t = 0; t < THREADS; t++) pthread_join(thread[t], NULL);
    for (unsigned i = 0; i < STRINGS; i++) {
        char text[32];
        snprintf(text, sizeof text, "a name, number %u", i);
        // 0: it met a chunk in the making.
        for (int t = 0; t < THREADS; t++)
            if (reference[t][i]) assert_string(reference[t][i], text);
    }
    // Threads that met may have stored a name twice or not at all. From now on each has one.
    intern_all(reference[0]);
    for (unsigned i = 0; i < STRINGS; i++) {
        char text[32];
        unsigned length = (unsigned)snprintf(text, sizeof text, "a name, number %u", i);
        assert_int_not_equal(reference[0][i], 0);
        assert_int_equal(reference[0][i], mw_intern_string(text, length));
    }
}

// The interpreter might be what is unloaded.
static void while_a_library_is_being_unloaded_python_is_not_asked(void **state) {
    (void)state;
    python(0, 0x1000, 420, 1);
    mw_generation.closing = 1;
    assert_int_equal(mw_stack_here(false), MW_NO_STACK);
    mw_generation.closing = 0;
    assert_int_not_equal(mw_stack_here(false), MW_NO_STACK);
}

// The thread that was unloading one is not in the child.
static void a_forked_child_does_not_wait_for_what_its_parent_was_unloading(void **state) {
    (void)state;
    const struct mw_stack_options python_alone = {.python = true, .python_depth = MW_STACK_DEPTH};
    python(0, 0x1000, 420, 1);
    mw_generation.closing = 1;
    mw_stacks_begin(&python_alone);
    assert_int_not_equal(mw_stack_here(false), MW_NO_STACK);
}

static void python_ends_while_its_mark_and_its_phase_say_so(void **state) {
    (void)state;
    python_phase = MW_PYTHON_ENDS;
    assert_false(mw_stacks_python_ends());
    end_mark = 1;
    assert_true(mw_stacks_python_ends());
    mw_generation.closing = 1; // it may just be unloaded: the mark is not read
    assert_false(mw_stacks_python_ends());
    mw_generation.closing = 0;
    python_phase = MW_PYTHON_NONE; // it is gone, and left its mark
    assert_false(mw_stacks_python_ends());
    end_mark = 0;
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, fresh)
    const struct CMUnitTest tests[] = {
        TEST(a_stack_can_be_read_from_the_file_alone),
        TEST(frames_that_went_meanwhile_are_not_described),
        TEST(a_known_stack_is_not_described_again),
        TEST(two_instructions_of_a_line_are_one_stack),
        TEST(other_code_at_the_same_address_is_another_stack),
        TEST(another_library_at_the_same_address_is_another_stack),
        TEST(code_outside_any_file_keeps_its_address),
        TEST(a_thread_without_any_frame_has_no_stack),
        TEST(the_deepest_stack_is_kept_whole),
        TEST(long_names_are_cut_between_characters),
        TEST(a_full_arena_is_counted_and_nothing_breaks),
        TEST(a_chunk_of_the_arena_is_filled_before_the_next_is_begun),
        TEST(eight_threads_store_every_name_whole),
        TEST(python_ends_while_its_mark_and_its_phase_say_so),
        TEST(while_a_library_is_being_unloaded_python_is_not_asked),
        TEST(a_forked_child_does_not_wait_for_what_its_parent_was_unloading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
