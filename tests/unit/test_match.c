// SPDX-License-Identifier: Apache-2.0
// links: knowledge/automaton.c knowledge/lines.c knowledge/match.c knowledge/number.c
// links: knowledge/record.c knowledge/template.c knowledge/window.c
//
// The matcher finds what records describe, wherever and however it was printed, tells which line,
// which numbers and which record is the most specific, and does not depend on how the text comes
// in.
#include "match.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

// ---- knowledge and hits of a test -----------------------------------------------------------

static struct knowledge *knowledge;

static void complain(void *context, const char *file, size_t line, const char *reason) {
    (void)context;
    fail_msg("%s:%zu: %s", file, line, reason);
}

// A record with one template, or an imported one with one regular expression.
static void add(const char *id, const char *kind, const char *pattern) {
    char json[4096], file[100];
    bool templates = strcmp(kind, "regex") != 0;
    int n = snprintf(json, sizeof json,
                     "{\"schema\":\"memwatch-knowledge/1\",\"id\":\"%s\",\"title\":\"t\","
                     "\"domain\":\"cuda\",\"category\":\"c\",\"severity\":\"error\","
                     "\"verification_tier\":\"reported\",\"%s\":%s\"%s\"%s}",
                     id, kind, templates ? "[" : "", pattern, templates ? "]" : "");
    assert_in_range(n, 1, sizeof json - 1);
    snprintf(file, sizeof file, "%.90s.json", id);
    assert_int_equal(knowledge_load_text(knowledge, file, json, strlen(json), complain, NULL), 1);
}

#define HITS 3000
static struct {
    const struct record *record;
    enum hit_kind kind;
    uint64_t line, last_line;
    size_t in_place; // 0: the most specific of its place
    int rank;
    char text[300], match[300], fields[300];
} found[HITS];
static size_t hits, places;

static void keep(void *context, const struct hit *list, size_t count) {
    (void)context;
    places++;
    for (size_t i = 0; i < count; i++) {
        const struct hit *h = &list[i];
        assert_in_range(h->match_end, h->match_begin + 1, h->text_length);
        if (hits == HITS) continue;
        snprintf(found[hits].text, 300, "%.*s", (int)h->text_length, h->text);
        snprintf(found[hits].match, 300, "%.*s", (int)(h->match_end - h->match_begin),
                 h->text + h->match_begin);
        found[hits].fields[0] = '\0';
        for (size_t k = 0; k < h->fields; k++) {
            char *to = found[hits].fields + strlen(found[hits].fields);
            const struct hit_field *f = &h->field[k];
            snprintf(to, (size_t)(found[hits].fields + 300 - to), "%s=%.*s%s ", f->name,
                     (int)f->length, f->text, f->has_number ? "#" : "");
        }
        found[hits].record = h->record;
        found[hits].kind = h->kind;
        found[hits].line = h->line;
        found[hits].last_line = h->last_line;
        found[hits].in_place = i;
        found[hits].rank = h->origin.rank;
        hits++;
    }
}

// Matches a text that comes in pieces of `piece` bytes.
static struct match_statistics match_pieces(const char *text, size_t length, size_t piece) {
    struct match_statistics s;
    struct matcher *m = matcher_new(knowledge, keep, NULL);
    assert_non_null(m);
    hits = places = 0;
    for (size_t at = 0; at < length; at += piece)
        matcher_feed(m, text + at, length - at < piece ? length - at : piece);
    matcher_finish(m);
    matcher_statistics(m, &s);
    matcher_free(m);
    return s;
}

static struct match_statistics match(const char *text) {
    return match_pieces(text, strlen(text), strlen(text) + 1);
}

#define OOM "CUDA out of memory. Tried to allocate {request:size} (GPU {device:int}"

static int begin(void **state) {
    (void)state;
    knowledge = knowledge_new();
    add("test/oom", "templates", OOM);
    return 0;
}

static int end(void **state) {
    (void)state;
    knowledge_free(knowledge);
    return 0;
}

static void assert_one_hit(const char *text, uint64_t line) {
    match(text);
    if (hits != 1) fail_msg("%zu hits in '%s'", hits, text);
    assert_string_equal(found[0].record->id, "test/oom");
    assert_int_equal(found[0].line, line);
}

// ---- finding --------------------------------------------------------------------------------

static void a_message_is_found_with_its_line_and_its_numbers(void **state) {
    (void)state;
    match("step 1\nstep 2\nRuntimeError: CUDA out of memory. Tried to allocate 2.50 GiB (GPU 3; "
          "79 GiB\n");
    assert_int_equal(hits, 1);
    assert_int_equal(found[0].line, 3);
    assert_int_equal(found[0].last_line, 3);
    assert_string_equal(found[0].fields, "request=2.50 GiB# device=3# ");
    assert_string_equal(found[0].match, "CUDA out of memory. Tried to allocate 2.50 GiB (GPU 3");
}

static void the_case_of_letters_and_the_width_of_blanks_do_not_matter(void **state) {
    (void)state;
    assert_one_hit("cuda OUT  of\tmemory.  tried to   allocate 2 GIB (gpu 0", 1);
}

static void lines_are_counted_by_line_feeds_only(void **state) {
    (void)state;
    assert_one_hit(
        "a\r\nb\r\n10%\r20%\r30%\nCUDA out of memory. Tried to allocate 1 GiB (GPU 0\r\n", 4);
    assert_one_hit(" 10%|#\r 20%|##\rCUDA out of memory. Tried to allocate 1 GiB (GPU 0\n", 1);
}

static void colours_within_the_message_do_not_hide_it(void **state) {
    (void)state;
    assert_one_hit("\x1b[31mCUDA \x1b[1mout of\x1b[0m memory\x1b[0m. Tried to \x1b[4mallocate 1 "
                   "GiB (GPU\x1b[0m 0",
                   1);
    assert_one_hit("CUDA out of mem\x1b[31mory. Tried to allocate 1 GiB (GPU 0", 1);
}

static void nul_bytes_and_utf_16_do_not_hide_it(void **state) {
    (void)state;
    static const char text[] = "one\nCUDA out of memory. Tried to allocate 1 GiB (GPU 0\n";
    char wide[2 * sizeof text];
    for (size_t i = 0; i < sizeof text - 1; i++) wide[2 * i] = text[i], wide[2 * i + 1] = '\0';
    match_pieces(wide, 2 * (sizeof text - 1), 1000);
    assert_int_equal(hits, 1);
    assert_int_equal(found[0].line, 2);
}

static void bytes_that_are_no_utf_8_do_not_hide_it(void **state) {
    (void)state;
    assert_one_hit("\xff\xfe\x80 CUDA out of memory. Tried to allocate 1 GiB (GPU 0 \xc3(", 1);
}

static void a_line_that_never_ends_is_searched_from_its_head_to_its_tail(void **state) {
    (void)state;
    static const char message[] = " CUDA out of memory. Tried to allocate 1 GiB (GPU 0 ";
    static const size_t places_in_line[] = {0, 7000, 100000, 2500000, 3000000 - sizeof message};
    char *text = malloc(3000000);
    for (size_t i = 0; i < sizeof places_in_line / sizeof places_in_line[0]; i++) {
        memset(text, 'x', 3000000);
        text[1] = '\n';
        size_t at = places_in_line[i] + (i ? 0 : 2);
        memcpy(text + at, message, sizeof message - 1);
        match_pieces(text, 3000000, 65536);
        assert_int_equal(hits, 1);
        assert_int_equal(found[0].line, 2);
        assert_string_equal(found[0].fields, "request=1 GiB# device=0# ");
    }
    free(text);
}

static void a_message_may_go_on_over_several_prefixed_lines(void **state) {
    (void)state;
    assert_one_hit("CUDA out of memory.\nTried to\n  allocate 1 GiB (GPU 0", 1);
    assert_int_equal(found[0].last_line, 3);
    assert_one_hit("one\n[rank1]: CUDA out of\n[rank1]: memory. Tried to allocate 1 GiB\n"
                   "[rank1]: (GPU 0",
                   2);
    assert_int_equal(found[0].rank, 1);
    assert_one_hit(
        "worker-1  | CUDA out of memory. Tried to allocate\r\nworker-1  | 1 GiB (GPU 0\r\n", 1);
    // What a progress bar wrote in between was overwritten on the screen.
    assert_one_hit("CUDA out of memory.\n 10%\r 11%\r 12%\rTried to allocate 1 GiB (GPU 0\n", 1);
}

static void a_message_is_found_by_its_last_line_too(void **state) {
    (void)state;
    add("test/pool", "templates", "needed {request:size} more of the device memory pool");
    match("x\nneeded 3 GiB\n 10%\r 11%\r 12%\rmore of the device memory pool\n");
    assert_int_equal(hits, 1);
    assert_int_equal(found[0].line, 2);
    assert_int_equal(found[0].last_line, 3);
    assert_string_equal(found[0].fields, "request=3 GiB# ");
}

static void a_line_that_a_terminal_broke_is_put_together(void **state) {
    (void)state;
    // At 48 columns, in the middle of a word and of a number.
    assert_one_hit("....:....1....:....2....:....3....:....4....:...\n"
                   "torch.OutOfMemoryError: rank zero says: CUDA out\n"
                   " of memory. Tried to allocate 1.25 GiB (GPU 0; 8",
                   2);
    assert_string_equal(found[0].fields, "request=1.25 GiB# device=0# ");
    assert_one_hit("torch.OutOfMemoryError: rank zero said:: CUDA ou\n"
                   "t of memory. Tried to allocate 1.2 GiB (GPU 0; 8",
                   1);
}

static void a_gap_reaches_over_a_wrapped_line_but_not_over_a_line_s_end(void **state) {
    (void)state;
    add("test/gap", "templates", "failed to allocate {request:size} for {what:text} on device");
    match("failed to allocate 1 GiB for the\noptimizer on device\n");
    assert_int_equal(hits, 0);
    match("the trainer failed to allocate 1 GiB for the\n"
          "optimizer: all other lines are wider than the first one on device\n");
    assert_int_equal(hits, 0);
    match("the trainer failed to allocate 1 GiB for the\n"
          "gradients of the layer on device 0\n");
    assert_int_equal(hits, 1);
    assert_string_equal(found[0].fields, "request=1 GiB# what=the gradients of the layer ");
    // Broken at 41 columns: first within a word, then where the blank at the edge was trimmed.
    match("rank 3 of the big trainer failed to alloc\nate 1 GiB for the gradients of the first\n"
          "layers and of all the others on device 0");
    assert_int_equal(hits, 1);
    assert_string_equal(found[0].fields,
                        "request=1 GiB# what=the gradients of the first layers and "
                        "of all the others ");
}

static void what_a_traceback_shows_of_the_source_is_not_a_message(void **state) {
    (void)state;
    add("test/plain", "templates", "CUDA error: out of memory");
    match("[rank0]:   File \"train.py\", line 3, in step\n"
          "[rank0]:     raise RuntimeError(\"CUDA error: out of memory\")\n");
    assert_int_equal(hits, 0);
    match("  no traceback\n    CUDA error: out of memory\n");
    assert_int_equal(hits, 1);
    // Nor is it one by way of what comes next.
    match("  File \"train.py\", line 3, in step\n"
          "    raise Error(\"CUDA out of memory. Tried to allocate 1 GiB (GPU 0\")\n"
          "CUDA out of memory. Tried to allocate nothing\n");
    assert_int_equal(hits, 0);
    // A source line as wide as a page does not go on in the message below it.
    add("test/code", "templates", "result{:60}E_NO_MEMORY");
    match("  File \"train.py\", line 3, in step\n"
          "    raise RuntimeError(f\"{function.__name__}{arguments}: {result.name}\")\n"
          "RuntimeError: allocate(8589934592,): E_NO_MEMORY\n");
    assert_int_equal(hits, 0);
}

static void words_are_found_whole(void **state) {
    (void)state;
    add("test/host", "templates", "MemoryError: no room");
    match("torch.OutOfMemoryError: no room\n");
    assert_int_equal(hits, 0);
    match("x.MemoryError: no room\n");
    assert_int_equal(hits, 1);
    match("{\"log\":\"Traceback\\nMemoryError: no room\\n\"}\n");
    assert_int_equal(hits, 1);
    match("{\"log\":\"\\u001b[31mMemoryError: no room\"}\n");
    assert_int_equal(hits, 1);
}

// ---- several ---------------------------------------------------------------------------------

static void of_one_place_the_most_specific_record_comes_first(void **state) {
    (void)state;
    add("test/generic", "templates", "CUDA out of memory");
    add("test/detailed", "templates", OOM "; {total:size} total capacity");
    match("CUDA out of memory. Tried to allocate 1 GiB (GPU 0; 8 GiB total capacity\n");
    assert_int_equal(places, 1);
    assert_int_equal(hits, 3);
    assert_string_equal(found[0].record->id, "test/detailed");
    assert_string_equal(found[1].record->id, "test/oom");
    assert_string_equal(found[2].record->id, "test/generic");
}

static void who_wraps_another_s_words_comes_before_it(void **state) {
    (void)state;
    add("test/driver", "templates", "cudaErrorMemoryAllocation: out of memory");
    add("test/library", "templates", "scan failed: {} out of memory");
    match("scan failed: cudaErrorMemoryAllocation: out of memory\n");
    assert_int_equal(places, 1);
    assert_string_equal(found[0].record->id, "test/library");
}

static void what_stands_on_one_line_is_one_place(void **state) {
    (void)state;
    add("test/host", "templates", "MemoryError: no room");
    match("MemoryError: no room: [CUDA out of memory. Tried to allocate 1 GiB (GPU 0]\n"
          "MemoryError: no room\n");
    assert_int_equal(places, 2);
    assert_int_equal(hits, 3);
    char far[6000];
    memset(far, 'x', sizeof far);
    memcpy(far, "MemoryError: no room ", 21);
    strcpy(far + 5000, " CUDA out of memory. Tried to allocate 1 GiB (GPU 0");
    match(far);
    assert_int_equal(places, 2);
}

static void what_joins_two_lines_is_in_no_match(void **state) {
    (void)state;
    add("test/blank", "regex", "\\\\sdevice gone\\\\s");
    match("one\ndevice gone\ntwo\n");
    assert_int_equal(hits, 1);
    assert_string_equal(found[0].match, "device gone");
    assert_int_equal(found[0].line, 2);
    assert_int_equal(found[0].last_line, 2);
}

static void a_record_appears_once_in_a_place(void **state) {
    (void)state;
    add("test/two", "templates", "CUDA out of memory\",\"out of memory. Tried to allocate");
    match("CUDA out of memory. Tried to allocate 1 GiB (GPU 0\n");
    assert_int_equal(hits, 2);
}

static void the_same_message_on_the_next_line_is_another_place(void **state) {
    (void)state;
    match("CUDA out of memory. Tried to allocate 1 GiB (GPU 0\n"
          "CUDA out of memory. Tried to allocate 2 GiB (GPU 0\n"
          "CUDA out of memory. Tried to allocate 3 GiB (GPU 0\n"
          "CUDA out of memory. Tried to allocate 4 GiB (GPU 0\n"
          "CUDA out of memory. Tried to allocate 5 GiB (GPU 0\n"
          "CUDA out of memory. Tried to allocate 6 GiB (GPU 0\n"
          "CUDA out of memory. Tried to\nallocate 7 GiB (GPU 0\n");
    assert_int_equal(places, 7);
    assert_int_equal(found[5].line, 6);
    assert_int_equal(found[6].line, 7);
    assert_int_equal(found[6].last_line, 8);
}

static void a_recovery_is_told_as_such(void **state) {
    (void)state;
    add("test/retry", "recovered_by", "retrying with a smaller batch");
    match("retrying with a smaller batch of 8\n");
    assert_int_equal(hits, 1);
    assert_int_equal(found[0].kind, HIT_RECOVERY);
}

// ---- in pieces ------------------------------------------------------------------------------

// A log of everything above, so much of it that the buffer turns over.
static char *long_log(size_t *length) {
    static const char *const parts[] = {
        "step %zu loss 2.5 memory 3.2 GiB\n",
        "[rank1]: CUDA out of\n[rank1]: memory. Tried to allocate %zu GiB\n[rank1]: (GPU 0\n",
        " 10%%|#\r 20%%|##%zu\r",
        "\x1b[31mCUDA out \x1b[0mof memory. Tried to allocate %zu MiB (GPU 1; 8 GiB\r\n",
        "CUDA out of memory. but %zu\n",
        "CUDA out of mem",
        "torch.OutOfMemoryError: CUDA out of memory.\n  Tried to allocate %zu B\n(GPU 0\n",
    };
    char *text = malloc(2 << 20);
    size_t n = 0, i = 0;
    uint64_t random = 1;
    while (n < (3 << 19)) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        n += (size_t)sprintf(text + n, parts[(random >> 33) % 7], i++);
        if ((random >> 40) % 500) continue;
        memset(text + n, (random >> 50) % 2 ? 'x' : ' ', 40000); // a long line
        n += 40000;
    }
    *length = n;
    return text;
}

static void the_result_does_not_depend_on_how_the_text_is_cut(void **state) {
    (void)state;
    static const size_t pieces[] = {1, 997, 65537, 5 << 20};
    size_t length, first_hits = 0;
    char *text = long_log(&length);
    static typeof(found) first;
    add("test/generic", "templates", "CUDA out of memory");
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct match_statistics s = match_pieces(text, length, pieces[i]);
        assert_int_equal(s.bytes, length);
        if (!i) {
            memcpy(first, found, sizeof found);
            first_hits = hits;
            assert_true(hits == HITS); // and more
        }
        assert_int_equal(hits, first_hits);
        assert_memory_equal(first, found, sizeof found);
    }
    free(text);
}

static void line_numbers_stay_right_over_a_long_text(void **state) {
    (void)state;
    size_t length = 0, line = 1;
    char *text = malloc(6 << 20);
    uint64_t expected[40];
    size_t n = 0;
    while (length < (5 << 20)) {
        if (line % 3571 == 0 && n < 40) {
            expected[n++] = line;
            length += (size_t)sprintf(text + length,
                                      "CUDA out of memory. Tried to allocate 1 GiB (GPU 0\n");
        } else {
            length += (size_t)sprintf(text + length, "%zu: step\rstep again %zu\r\n", line, line);
        }
        line++;
    }
    match_pieces(text, length, 100000);
    assert_int_equal(hits, n);
    for (size_t i = 0; i < n; i++) assert_int_equal(found[i].line, expected[i]);
    free(text);
}

static void no_message_is_lost_where_the_buffer_turns_over(void **state) {
    (void)state;
    // Of one the last line is what it is found by, of the other one the first; and that one
    // overlaps with a third.
    static const char message[] = "needed 3 GiB\nmore of the device memory pool\n"
                                  "no device memory while it needed\n3 GiB in pool seven\n";
    enum { LENGTH = 1200000, DENSE = 1080000, MESSAGES = 900 };
    add("test/pool", "templates", "needed {request:size} more of the device memory pool");
    add("test/need", "templates", "no device memory while it needed {request:size}");
    add("test/seven", "templates", "it needed {request:size} in pool seven");
    char *text = malloc(LENGTH);
    for (size_t shift = 0; shift < sizeof message - 1; shift += 4) {
        memset(text, 'x', DENSE + shift);
        char *to = text + DENSE + shift;
        for (size_t i = 0; i < MESSAGES; i++) to = stpcpy(to, message);
        text[DENSE + shift - 1] = '\n';
        match_pieces(text, (size_t)(to - text), LENGTH);
        assert_int_equal(places, 2 * MESSAGES);
        assert_int_equal(hits, 3 * MESSAGES);
    }
    free(text);
}

static void a_line_is_tried_once_a_pattern(void **state) {
    (void)state;
    char text[2100], *to = text;
    for (int i = 0; i < 50; i++) to = stpcpy(to, "CUDA out of memory. Tried to allocate ");
    struct match_statistics s = match(text);
    assert_int_equal(s.candidates, 1);
}

static void a_flush_tells_what_is_there_and_the_rest_comes_later(void **state) {
    (void)state;
    struct matcher *m = matcher_new(knowledge, keep, NULL);
    static const char one[] = "x\nCUDA out of memory. Tried to allocate 1 GiB (GPU 0\n"
                              "CUDA out of memory. Tried to allocate 2",
                      two[] = ".5 GiB (GPU 0\n";
    hits = places = 0;
    matcher_feed(m, one, sizeof one - 1);
    assert_int_equal(hits, 0);
    matcher_flush(m);
    assert_int_equal(hits, 1);
    matcher_flush(m);
    assert_int_equal(hits, 1);
    matcher_feed(m, two, sizeof two - 1);
    matcher_flush(m);
    assert_int_equal(hits, 2);
    assert_int_equal(found[1].line, 3);
    matcher_finish(m);
    assert_int_equal(hits, 2);
    // The next text begins with line 1, and what was pending is forgotten.
    matcher_feed(m, "CUDA out of", 11);
    matcher_finish(m);
    matcher_feed(m, " memory. Tried to allocate 1 GiB (GPU 0", 39);
    matcher_finish(m);
    assert_int_equal(hits, 2);
    matcher_feed(m, "CUDA out of memory. Tried to allocate 1 GiB (GPU 0", 50);
    matcher_finish(m);
    assert_int_equal(hits, 3);
    assert_int_equal(found[2].line, 1);
    matcher_free(m);
}

static void a_line_begins_behind_what_collectors_put_before_it(void **state) {
    (void)state;
    add("test/bare", "templates", "^MemoryError$");
    match("MemoryError\n[rank1]: MemoryError\n"
          "trainer-1  | 2025-06-15T12:00:00.123Z [rank3]: MemoryError\n"
          "2026-01-02 03:04:05 ERROR MemoryError");
    assert_int_equal(hits, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(found[i].match, "MemoryError");
        assert_int_equal(found[i].line, i + 1);
    }
    assert_int_equal(found[2].rank, 3);
    match("raise MemoryError\n- MemoryError: it\nMemoryError is told\n");
    assert_int_equal(hits, 0);
}

// ---- limits ---------------------------------------------------------------------------------

static void an_expression_that_explodes_is_stopped_and_given_up(void **state) {
    (void)state;
    struct match_statistics s;
    const char *why = NULL;
    // How often 28 letters can be parted in ones and twos: half a million times.
    static const char lines[] = "boom aaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
                                "CUDA out of memory. Tried to allocate 1 GiB (GPU 0\n";
    add("test/bomb", "regex", "boom (a|aa)+[cd]");
    struct matcher *m = matcher_new(knowledge, keep, NULL);
    hits = places = 0;
    for (int i = 0; i < 1000; i++) matcher_feed(m, lines, sizeof lines - 1);
    matcher_finish(m);
    matcher_statistics(m, &s);
    assert_int_equal(s.refused, 3);
    assert_int_equal(s.disabled, 1);
    assert_string_equal(matcher_disabled(m, 0, &why)->id, "test/bomb");
    assert_non_null(strstr(why, "limit"));
    assert_null(matcher_disabled(m, 1, &why));
    assert_int_equal(hits, 1000); // all others go on
    matcher_free(m);
}

static void hostile_text_takes_a_bounded_time(void **state) {
    (void)state;
    // Each literal begins a match that nearly succeeds; 8 MiB took hours without limits.
    add("test/gaps", "templates",
        "alloc {:1000} failed {:1000} device {:1000} memory of {:1000} end");
    size_t length = 8 << 20;
    char *text = malloc(length);
    for (size_t i = 0; i + 32 < length; i += 32)
        memcpy(text + i, "alloc failed device memory of   ", 32);
    memset(text + length - 32, ' ', 32);
    match_pieces(text, length, length);
    for (size_t i = 4000; i < length; i += 4000) text[i] = '\n';
    match_pieces(text, length, length);
    free(text);
}

// A text can stay below the limit of steps at each of thousands of places where a match may begin.
// Where there is no machine code that is slow, and the clock ends it.
static void a_line_takes_a_bounded_time_without_machine_code_too(void **state) {
    (void)state;
    struct match_statistics s;
    add("test/gaps", "templates", "{:200}alloc {:400}cc");
    struct matcher *m = matcher_new(knowledge, keep, NULL);
    matcher_interpret(m);
    hits = 0;
    for (int line = 0; line < 4; line++) {
        for (int i = 0; i < 1300; i++) matcher_feed(m, "alloc ", 6);
        matcher_feed(m, "\n", 1);
    }
    static const char error[] = "CUDA out of memory. Tried to allocate 1 GiB (GPU 0\n";
    matcher_feed(m, error, sizeof error - 1);
    matcher_finish(m);
    assert_int_equal(hits, 1);
    matcher_statistics(m, &s);
    assert_int_equal(s.refused, 3);
    assert_int_equal(s.disabled, 1);
    assert_false(s.jit);
    matcher_free(m);
}

static void patterns_without_a_literal_or_sense_are_left_out_and_counted(void **state) {
    (void)state;
    add("test/none", "regex", "[a-z]+");
    add("test/broken", "templates", "out of {unclosed");
    struct match_statistics s = match("out of luck [a-z]+ CUDA out of memory. Tried to\n");
    assert_int_equal(s.left_out, 2);
    assert_int_equal(s.patterns, 1);
}

static void no_knowledge_finds_nothing(void **state) {
    (void)state;
    knowledge_free(knowledge);
    knowledge = knowledge_new();
    struct match_statistics s = match("CUDA out of memory\n");
    assert_int_equal(hits, 0);
    assert_int_equal(s.lines, 1);
    match("");
}

// Memory that is written to may not become code, as under SELinux: mmap and mprotect refuse.
static bool forbid_code(void) {
#ifdef __x86_64__
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
#else
    return false;
#endif
}

static void without_leave_to_make_code_the_interpreter_matches(void **state) {
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        if (!forbid_code()) _exit(77);
        struct match_statistics s = match("CUDA out of memory. Tried to allocate 1 GiB (GPU 0");
        _exit(hits == 1 && !s.jit ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) skip();
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

// ---- codes ----------------------------------------------------------------------------------

static void a_return_code_finds_its_records(void **state) {
    (void)state;
    static const char *const records[] = {
        "{\"schema\":\"memwatch-knowledge/1\",\"id\":\"c/"
        "two\",\"codes\":[{\"api\":\"cuda-runtime\","
        "\"code\":2,\"name\":\"cudaErrorMemoryAllocation\"}]}",
        "{\"schema\":\"memwatch-knowledge/1\",\"id\":\"c/nccl\",\"codes\":[{\"api\":\"nccl\","
        "\"code\":2}]}",
        "{\"schema\":\"memwatch-knowledge/1\",\"id\":\"c/"
        "both\",\"codes\":[{\"api\":\"cuda-driver\","
        "\"code\":2},{\"api\":\"cuda-runtime\",\"code\":2}]}"};
    for (size_t i = 0; i < 3; i++)
        knowledge_load_text(knowledge, "c.json", records[i], strlen(records[i]), complain, NULL);
    const struct record *list[4];
    assert_int_equal(match_code(knowledge, "cuda-runtime", 2, list, 4), 2);
    assert_string_equal(list[0]->id, "c/two");
    assert_string_equal(list[1]->id, "c/both");
    assert_int_equal(match_code(knowledge, "cuda-runtime", 2, list, 1), 2);
    assert_int_equal(match_code(knowledge, "cuda-driver", 2, list, 4), 1);
    assert_int_equal(match_code(knowledge, "cuda-driver", 3, list, 4), 0);
    assert_int_equal(match_code(knowledge, "hip", 2, list, 4), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        // The first: later there is memory for code that can be used again.
        TEST(without_leave_to_make_code_the_interpreter_matches),
        TEST(a_message_is_found_with_its_line_and_its_numbers),
        TEST(the_case_of_letters_and_the_width_of_blanks_do_not_matter),
        TEST(lines_are_counted_by_line_feeds_only),
        TEST(colours_within_the_message_do_not_hide_it),
        TEST(nul_bytes_and_utf_16_do_not_hide_it),
        TEST(bytes_that_are_no_utf_8_do_not_hide_it),
        TEST(a_line_that_never_ends_is_searched_from_its_head_to_its_tail),
        TEST(a_message_may_go_on_over_several_prefixed_lines),
        TEST(a_message_is_found_by_its_last_line_too),
        TEST(a_line_that_a_terminal_broke_is_put_together),
        TEST(a_gap_reaches_over_a_wrapped_line_but_not_over_a_line_s_end),
        TEST(what_a_traceback_shows_of_the_source_is_not_a_message),
        TEST(words_are_found_whole),
        TEST(of_one_place_the_most_specific_record_comes_first),
        TEST(who_wraps_another_s_words_comes_before_it),
        TEST(what_stands_on_one_line_is_one_place),
        TEST(what_joins_two_lines_is_in_no_match),
        TEST(a_record_appears_once_in_a_place),
        TEST(the_same_message_on_the_next_line_is_another_place),
        TEST(a_line_begins_behind_what_collectors_put_before_it),
        TEST(a_recovery_is_told_as_such),
        TEST(the_result_does_not_depend_on_how_the_text_is_cut),
        TEST(line_numbers_stay_right_over_a_long_text),
        TEST(no_message_is_lost_where_the_buffer_turns_over),
        TEST(a_line_is_tried_once_a_pattern),
        TEST(a_flush_tells_what_is_there_and_the_rest_comes_later),
        TEST(an_expression_that_explodes_is_stopped_and_given_up),
        TEST(hostile_text_takes_a_bounded_time),
        TEST(a_line_takes_a_bounded_time_without_machine_code_too),
        TEST(patterns_without_a_literal_or_sense_are_left_out_and_counted),
        TEST(no_knowledge_finds_nothing),
        TEST(a_return_code_finds_its_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
