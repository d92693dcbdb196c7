// SPDX-License-Identifier: Apache-2.0
// links: report/resolver.c report/places.c
//
// The resolver gives names within its time, whatever happens in the process that looks for them:
// it may crash, hang or lie. What reads object files is the test's own here.
#include "resolver.h"
#include "symbolize.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

// ---- object files that behave as their path says --------------------------------------------

struct object {
    const char *path;
};

struct object *object_open(const struct debug_search *search, const struct build *build) {
    static struct object objects[8192];
    static unsigned n;
    (void)search;
    if (!strcmp(build->path, "crashes")) abort();
    objects[n] = (struct object){build->path};
    return &objects[n++];
}
void object_close(struct object *object) {
    (void)object;
}
const char *object_reason(const struct object *object) {
    return strcmp(object->path, "missing") ? NULL : "it is not there";
}
bool object_has_lines(struct object *object) {
    if (!strcmp(object->path, "crashes later")) abort();
    if (!strcmp(object->path, "hangs")) pause();
    return !strcmp(object->path, "good");
}
bool object_name(struct object *object, uint64_t address, char out[SYMBOL_NAME]) {
    if (!strcmp(object->path, "missing")) return false;
    snprintf(out, SYMBOL_NAME, "name_%llu", (unsigned long long)address);
    return true;
}
unsigned object_symbols(struct object *object, uint64_t address, struct symbol *out,
                        unsigned limit) {
    if (limit < 2) abort();
    if (strcmp(object->path, "good") != 0) return 0;
    out[0] = (struct symbol){.line = 1, .inlined = true};
    out[1] = (struct symbol){.line = (unsigned)address};
    strcpy(out[0].function, "inner");
    memset(out[0].file, 'f', SYMBOL_FILE - 1);
    snprintf(out[1].function, SYMBOL_NAME, "outer_%llu", (unsigned long long)address);
    return 2;
}

// ---- asking ---------------------------------------------------------------------------------

static struct resolver *r;

static int set_up(void **state) {
    (void)state;
    r = resolver_new(NULL);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    resolver_free(r);
    // No child is left.
    return waitpid(-1, NULL, WNOHANG) == -1 ? 0 : -1;
}

static uint32_t ask(const char *path, uint64_t address) {
    struct native_frame frame = {.path = {path, strlen(path)}, .address = address};
    return resolver_ask(r, &frame, "");
}

static const char *function(uint32_t question, unsigned i) {
    static struct name name;
    return resolver_name(r, question, i, &name) ? name.function : "none";
}

static const char *reason(const char *path) {
    for (unsigned i = 0; i < resolver_modules(r); i++) {
        struct resolver_module m = resolver_module(r, i);
        if (!strcmp(m.path, path)) return m.reason ? m.reason : "none";
    }
    return "no such module";
}

static void a_frame_has_its_names(void **state) {
    (void)state;
    uint32_t a = ask("good", 5), b = ask("plain", 6), c = ask("missing", 7);
    resolver_run(r, 60000);
    struct name name;
    assert_true(resolver_complete(r));
    assert_true(resolver_name(r, a, 0, &name));
    assert_string_equal(name.function, "inner");
    assert_int_equal(strlen(name.file), SYMBOL_FILE - 1);
    assert_true(name.inlined);
    assert_true(resolver_name(r, a, 1, &name));
    assert_string_equal(name.function, "outer_5");
    assert_null(name.file);
    assert_int_equal(name.line, 5);
    assert_false(name.inlined);
    assert_false(resolver_name(r, a, 2, &name));
    assert_string_equal(function(b, 0), "name_6");
    assert_string_equal(function(b, 1), "none");
    assert_string_equal(function(c, 0), "none");
    assert_string_equal(reason("missing"), "it is not there");
    assert_string_equal(reason("good"), "none");
}

static void equal_questions_are_one(void **state) {
    (void)state;
    uint32_t first = ask("good", 5);
    for (uint64_t i = 0; i < 5000; i++) ask(i % 2 ? "good" : "plain", i);
    assert_int_equal(ask("good", 5), first);
    struct native_frame other = {
        .path = {"good", 4}, .build = {"id", 2}, .address = 5}; // another build
    assert_int_not_equal(resolver_ask(r, &other, ""), first);
    assert_int_not_equal(resolver_ask(r, &other, "/elsewhere"), resolver_ask(r, &other, ""));
    resolver_run(r, 60000);
    assert_true(resolver_complete(r));
    assert_string_equal(function(ask("good", 4999), 1), "outer_4999");
    assert_string_equal(function(ask("plain", 4998), 0), "name_4998");
}

static void a_file_that_crashes_us_costs_its_own_names_only(void **state) {
    (void)state;
    uint32_t before = ask("good", 1), crash = ask("crashes", 2), between = ask("good", 3);
    uint32_t later = ask("crashes later", 4), after = ask("plain", 5);
    resolver_run(r, 60000);
    assert_true(resolver_complete(r));
    assert_string_equal(function(before, 1), "outer_1");
    assert_string_equal(function(crash, 0), "none");
    assert_string_equal(function(between, 1), "outer_3");
    assert_string_equal(function(later, 0), "name_4"); // known before it crashed
    assert_string_equal(function(after, 0), "name_5");
    assert_string_equal(reason("crashes"), "it could not be read");
    assert_string_equal(reason("crashes later"), "it could not be read");
}

static void when_the_time_is_over_what_is_known_is_told(void **state) {
    (void)state;
    uint32_t before = ask("good", 1), hang = ask("hangs", 2), after = ask("good", 3);
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    resolver_run(r, 1000);
    clock_gettime(CLOCK_MONOTONIC, &end);
    assert_true(end.tv_sec - begin.tv_sec < 30); // and not for ever
    assert_false(resolver_complete(r));
    assert_string_equal(function(before, 0), "inner");
    assert_string_equal(function(hang, 0), "name_2");
    assert_string_equal(function(after, 0), "name_3"); // but not its lines
    assert_string_equal(reason("hangs"), "none");      // slow is not broken
    resolver_run(r, 0);
    assert_false(resolver_complete(r));
}

static void what_was_learnt_is_kept(void **state) {
    (void)state;
    uint32_t a = ask("good", 1);
    resolver_run(r, 60000);
    uint32_t b = ask("crashes", 2), c = ask("good", 3);
    assert_string_equal(function(a, 1), "outer_1");
    resolver_run(r, 60000);
    assert_string_equal(function(a, 1), "outer_1");
    assert_string_equal(function(b, 0), "none");
    assert_string_equal(function(c, 1), "outer_3");
    ask("good", 1);
    resolver_run(r, 0); // nothing is left to do
    assert_true(resolver_complete(r));
}

static void any_number_of_files_is_no_trouble(void **state) {
    (void)state;
    for (unsigned i = 0; i < 6000; i++) {
        char path[32];
        snprintf(path, sizeof path, "file %u", i);
        ask(path, i);
    }
    resolver_run(r, 60000);
    assert_string_equal(function(ask("file 7", 7), 0), "name_7");
    assert_true(resolver_modules(r) <= 4096);
    assert_string_equal(function(ask("file 5999", 5999), 0), "none");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_frame_has_its_names),
        TEST(equal_questions_are_one),
        TEST(a_file_that_crashes_us_costs_its_own_names_only),
        TEST(when_the_time_is_over_what_is_known_is_told),
        TEST(what_was_learnt_is_kept),
        TEST(any_number_of_files_is_no_trouble),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
