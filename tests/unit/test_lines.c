// SPDX-License-Identifier: Apache-2.0
// links: knowledge/lines.c
//
// A line of a log as it was written, before terminals, launchers and collectors added theirs.
#include "lines.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char cleaned[LINE_KEPT + 1];
static bool cut;

static const char *clean_bytes(const char *raw, size_t length) {
    size_t n = line_clean(raw, length, cleaned, &cut);
    cleaned[n] = '\0';
    return cleaned;
}

static const char *clean(const char *raw) {
    return clean_bytes(raw, strlen(raw));
}

// ---- cleaning -------------------------------------------------------------------------------

static void colours_titles_and_links_are_taken_out(void **state) {
    (void)state;
    assert_string_equal(clean("\x1b[1;31mCUDA\x1b[0m out of \x1b[4mmemory\x1b[m"),
                        "CUDA out of memory");
    assert_string_equal(clean("\x1b]0;title\aerror"), "error");
    assert_string_equal(clean("\x1b]8;;http://x\x1b\\error\x1b]8;;\x1b\\"), "error");
    assert_string_equal(clean("\x1b(Berror\x1b=\x1b[?25l"), "error");
}

static void an_escape_sequence_that_never_ends_does_not_swallow_the_message(void **state) {
    (void)state;
    assert_string_equal(clean("\x1b]CUDA out of memory"), "CUDA out of memory");
    assert_string_equal(clean("\x1b[31"), "");
    assert_string_equal(clean("text\x1b"), "text");
    assert_string_equal(clean("\x1b[\xff error"), "\xff error");
}

static void nul_bytes_vanish_so_that_utf_16_can_be_read(void **state) {
    (void)state;
    assert_string_equal(clean_bytes("o\0u\0t\0 \0o\0f\0", 12), "out of");
}

static void controls_are_blanks_and_trailing_blanks_are_gone(void **state) {
    (void)state;
    assert_string_equal(clean("\ta\tb\x7f\b \t \x01"), " a b");
    assert_string_equal(clean(" \t \x01"), "");
}

static void bytes_that_are_no_utf_8_stay(void **state) {
    (void)state;
    assert_string_equal(clean("\xff\xfe \xe5\x86 memory"), "\xff\xfe \xe5\x86 memory");
}

static void of_a_long_line_the_head_and_the_tail_are_kept(void **state) {
    (void)state;
    static const size_t lengths[] = {LINE_KEPT - 1,   LINE_KEPT,     LINE_KEPT + 1,
                                     LINE_KEPT + 100, LINE_KEPT * 2, LINE_KEPT * 2 + 1234};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        size_t length = lengths[i];
        char *raw = malloc(length + 500);
        for (size_t k = 0; k < length; k++) raw[k] = (char)('0' + k * 7 % 61);
        memset(raw + length, ' ', 500); // trailing blanks must not push the tail out
        size_t n = line_clean(raw, length + 500, cleaned, &cut);
        assert_int_equal(cut, length > LINE_KEPT);
        assert_int_equal(n, cut ? LINE_KEPT : length);
        if (cut) {
            assert_memory_equal(cleaned, raw, LINE_HEAD);
            assert_memory_equal(cleaned + LINE_HEAD, raw + length - LINE_TAIL, LINE_TAIL);
        } else {
            assert_memory_equal(cleaned, raw, length);
        }
        free(raw);
    }
}

// ---- prefixes -------------------------------------------------------------------------------

static struct line_origin origin;

// What is left of a line without its prefixes.
static const char *message(const char *line) {
    line_origin_init(&origin);
    return line + line_prefix(line, strlen(line), &origin);
}

static void assert_message(const char *line) {
    if (strcmp(message(line), "boom") != 0) fail_msg("of '%s' is left '%s'", line, message(line));
}

static void the_prefixes_of_launchers_tell_the_rank(void **state) {
    (void)state;
    static const struct {
        const char *line;
        int rank;
    } lines[] = {{"[rank3]: boom", 3},
                 {"[default7]:boom", 7},
                 {"[Rank 12] boom", 12},
                 {"rank5: boom", 5},
                 {"14: boom", 14},
                 {"[1,3]<stderr>:boom", 3},
                 {"[1,11]<stderr> boom", 11},
                 {"(VllmWorker rank=2 pid=77) boom", 2}};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        assert_message(lines[i].line);
        assert_int_equal(origin.rank, lines[i].rank);
    }
}

static void the_prefixes_of_collectors_and_loggers_are_found(void **state) {
    (void)state;
    assert_message("worker-1  | boom");
    assert_string_equal(origin.source, "worker-1");
    assert_message("[pod/trainer-0/main] boom");
    assert_string_equal(origin.source, "trainer-0/main");
    assert_message("(TrainWorker pid=4711, ip=10.0.0.7) boom");
    assert_int_equal(origin.pid, 4711);
    assert_message("Jun 15 12:00:00 node7 python3[4242]: boom");
    assert_int_equal(origin.pid, 4242);
    assert_string_equal(origin.source, "node7");
    assert_message("E0615 12:00:00.123456  4242 file.cc:123] boom");
    assert_int_equal(origin.pid, 4242);
    static const char *const lines[] = {
        "2025-06-15T12:00:00.123456Z boom",
        "2025-06-15 12:00:00,123 - boom",
        "2025/06/15 12:00:00 boom",
        "[2025-06-15 12:00:00,123] [ERROR] [launch.py:315:sigkill_handler] boom",
        "2025-06-15 12:00:00.123456: W tensorflow/core/bfc_allocator.cc:497] boom",
        "ERROR 06-15 12:00:00 [engine.py:160] boom",
        "2025-06-15 12:00:00.123 | ERROR    | trainer.loop:step:12 - boom",
        "ERROR:root:boom",
        "[12345.678901] boom",
        "trainer-0  | 2025-06-15T12:00:00Z [rank1]: boom",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) assert_message(lines[i]);
    assert_int_equal(origin.rank, 1);
    assert_string_equal(origin.source, "trainer-0");
    // pytest's mark is an E and two blanks; the third one is the message's.
    assert_string_equal(message("E   boom"), " boom");
}

static void time_stamps_of_one_form_can_be_subtracted(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"2024-02-29T23:59:59.5Z boom", "2024-03-01T00:00:01.0Z boom"},
        {"2025-12-31 23:59:59,500 boom", "2026-01-01 00:00:01,000 boom"},
        {"E1231 23:59:59.500000 1 a.c:1] boom", "E1231 23:59:61.000000 1 a.c:1] boom"},
        {"[1.500000] boom", "[    3.000000] boom"},
        {"06-15 12:00:00.5 boom", "06-15 12:00:02 boom"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        message(pairs[i][0]);
        double before = origin.seconds;
        message(pairs[i][1]);
        assert_true(fabs(origin.seconds - before - 1.5) < 1e-3);
    }
    message("no time here");
    assert_true(isnan(origin.seconds));
}

static void what_only_looks_like_a_prefix_stays(void **state) {
    (void)state;
    static const char *const lines[] = {
        "out of memory",
        "12:30 is no rank",
        "1234567: too many digits for a rank",
        "RANKING: 3",
        "Errors: 2 of 7",
        "INFORMATION: none",
        "[0] is an index",
        "(no pid here) text",
        "2025-06-15 is a day",
        "CUDA error: out of memory",
        "",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        assert_string_equal(message(lines[i]), lines[i]);
}

static void a_line_of_nothing_but_prefixes_is_bounded(void **state) {
    (void)state;
    char many[400] = "";
    for (int i = 0; i < 40; i++) strcat(many, "[rank1]: ");
    assert_true(strlen(message(many)) >= 32 * 9);
    assert_int_equal(line_prefix("x", 0, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(colours_titles_and_links_are_taken_out),
        cmocka_unit_test(an_escape_sequence_that_never_ends_does_not_swallow_the_message),
        cmocka_unit_test(nul_bytes_vanish_so_that_utf_16_can_be_read),
        cmocka_unit_test(controls_are_blanks_and_trailing_blanks_are_gone),
        cmocka_unit_test(bytes_that_are_no_utf_8_stay),
        cmocka_unit_test(of_a_long_line_the_head_and_the_tail_are_kept),
        cmocka_unit_test(the_prefixes_of_launchers_tell_the_rank),
        cmocka_unit_test(the_prefixes_of_collectors_and_loggers_are_found),
        cmocka_unit_test(time_stamps_of_one_form_can_be_subtracted),
        cmocka_unit_test(what_only_looks_like_a_prefix_stays),
        cmocka_unit_test(a_line_of_nothing_but_prefixes_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
