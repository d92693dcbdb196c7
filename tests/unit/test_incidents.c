// SPDX-License-Identifier: Apache-2.0
// links: knowledge/automaton.c knowledge/incidents.c knowledge/lines.c knowledge/match.c
// links: knowledge/number.c knowledge/record.c knowledge/template.c knowledge/window.c
//
// One failure is one incident, however many ranks, tracebacks and retries speak of it; two failures
// are two.
#include "incidents.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// A trainer's out-of-memory error, with the driver's own words for it and what may follow.
static const char *const records[] = {
    "{\"schema\":\"memwatch-knowledge/1\",\"id\":\"x/oom\",\"title\":\"t\",\"severity\":\"error\","
    "\"domain\":\"torch\",\"templates\":[\"CUDA out of memory. Tried to allocate {request:size}\"],"
    "\"recovered_by\":[\"retrying with batch size {n:int}\"],"
    "\"codes\":[{\"api\":\"cuda-runtime\",\"code\":2},{\"api\":\"cuda-driver\",\"code\":2}],"
    "\"transition_graph\":{\"leads_to\":[{\"error_id\":\"x/nccl\"}]}}",
    "{\"schema\":\"memwatch-knowledge/1\",\"id\":\"x/"
    "driver\",\"title\":\"t\",\"severity\":\"error\","
    "\"domain\":\"cuda\",\"templates\":[\"CUDA out of memory\"],"
    "\"codes\":[{\"api\":\"cuda-runtime\",\"code\":2}]}",
    "{\"schema\":\"memwatch-knowledge/1\",\"id\":\"x/nccl\",\"title\":\"t\",\"severity\":\"fatal\","
    "\"domain\":\"nccl\",\"templates\":[\"NCCL watchdog timeout\"]}",
    "{\"schema\":\"memwatch-knowledge/1\",\"id\":\"x/note\",\"title\":\"t\",\"severity\":\"note\","
    "\"domain\":\"x\",\"templates\":[\"memory is unlimited\"],"
    "\"recovered_by\":[\"unlimited is fine\"]}"};

static struct knowledge *knowledge;
static struct incidents *all;

static void complain(void *context, const char *file, size_t line, const char *reason) {
    (void)context;
    fail_msg("%s:%zu: %s", file, line, reason);
}

static int begin(void **state) {
    (void)state;
    knowledge = knowledge_new();
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        char file[20];
        snprintf(file, sizeof file, "%zu.json", i);
        if (!knowledge_load_text(knowledge, file, records[i], strlen(records[i]), complain, NULL))
            return 1;
    }
    return 0;
}

static int end(void **state) {
    (void)state;
    incidents_free(all);
    all = NULL;
    knowledge_free(knowledge);
    return 0;
}

static const struct incident *const *list;
static size_t count;

static void read_text(const char *text) {
    incidents_free(all);
    all = incidents_of_text(knowledge, text, strlen(text));
    assert_non_null(all);
    list = incidents_ranked(all, &count);
}

#define OOM "CUDA out of memory. Tried to allocate 2.00 GiB\n"

static char *repeated(const char *text, size_t times, const char *after) {
    char *out = malloc(strlen(text) * times + strlen(after) + 1), *to = out;
    for (size_t i = 0; i < times; i++) to = stpcpy(to, text);
    strcpy(to, after);
    return out;
}

// ---- together -------------------------------------------------------------------------------

static void ranks_that_fail_alike_are_one_incident_with_their_numbers(void **state) {
    (void)state;
    char text[8000] = "", *to = text;
    static const int ranks[] = {3, 0, 7, 1, 3};
    for (size_t i = 0; i < 5; i++) {
        for (int line = 0; line < 80; line++) to += sprintf(to, "[rank%d]: frame\n", ranks[i]);
        to += sprintf(to, "[rank%d]: " OOM, ranks[i]);
        if (i == 3) to = stpcpy(to, "[rank3]: again\n");
    }
    read_text(text);
    // Rank 3 said it again a hundred lines later: that is another failure, or the same; not near.
    assert_int_equal(count, 2);
    assert_int_equal(list[0]->count, 4);
    assert_int_equal(list[0]->ranks, 4);
    assert_memory_equal(list[0]->rank, ((int[]){0, 1, 3, 7}), 4 * sizeof(int));
    assert_int_equal(list[0]->line, 81);
    assert_int_equal(list[0]->last_line, 4 * 81);
    assert_int_equal(list[1]->count, 1);
}

static void a_traceback_that_repeats_it_belongs_to_it(void **state) {
    (void)state;
    read_text(OOM "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n    g()\n"
                  "torch.OutOfMemoryError: " OOM);
    assert_int_equal(count, 1);
    assert_int_equal(list[0]->count, 2);
    assert_int_equal(list[0]->line, 1);
    assert_int_equal(list[0]->last_line, 5);
    assert_int_equal(list[0]->offset, 0);
    assert_string_equal(list[0]->field[0].name, "request");
    assert_int_equal(list[0]->field[0].number.unit_bytes, 1 << 30);
}

static void a_record_that_fits_less_closely_is_mentioned_and_no_incident(void **state) {
    (void)state;
    read_text(OOM "RuntimeError: CUDA out of memory\n");
    assert_int_equal(count, 1);
    assert_string_equal(list[0]->record->id, "x/oom");
    assert_int_equal(list[0]->count, 2);
    assert_int_equal(list[0]->alsos, 1);
    assert_string_equal(list[0]->also[0].record->id, "x/driver");
}

static void what_follows_from_it_belongs_to_it_whichever_is_printed_first(void **state) {
    (void)state;
    static const char *const texts[] = {OOM "NCCL watchdog timeout\n",
                                        "NCCL watchdog timeout\n" OOM};
    for (size_t i = 0; i < 2; i++) {
        read_text(texts[i]);
        assert_int_equal(count, 1);
        assert_string_equal(list[0]->record->id, "x/oom");
        assert_int_equal(list[0]->line, i + 1);
        assert_int_equal(list[0]->offset, i * strlen("NCCL watchdog timeout\n"));
        assert_int_equal(list[0]->consequences, 1);
        assert_string_equal(list[0]->consequence[0].record->id, "x/nccl");
        assert_int_equal(list[0]->consequence[0].line, 2 - i);
    }
}

// ---- apart ----------------------------------------------------------------------------------

static void far_apart_in_the_text_are_two(void **state) {
    (void)state;
    char *text = repeated("step\n", 100, OOM), both[2000];
    sprintf(both, "%s%s", text, text);
    read_text(both);
    assert_int_equal(count, 2);
    assert_int_equal(list[0]->line, 101);
    assert_int_equal(list[1]->line, 202);
    free(text);
}

static void time_decides_where_lines_have_time_stamps(void **state) {
    (void)state;
    static const char between[] = "x\nx\nx\nx\nx\n";
    char text[1000];
    sprintf(text, "2025-06-15 12:00:00,000 " OOM "%s2025-06-15 12:00:10,000 " OOM, between);
    read_text(text);
    assert_int_equal(count, 2);
    char *long_between = repeated("x\n", 100, "");
    char near[2000];
    sprintf(near, "2025-06-15 12:00:00,000 " OOM "%s2025-06-15 12:00:01,500 " OOM, long_between);
    read_text(near);
    assert_int_equal(count, 1);
    // Tries that wait between one another follow at once in the text.
    read_text("2025-06-15 12:00:00,000 " OOM "2025-06-15 12:00:10,000 " OOM);
    assert_int_equal(count, 1);
    free(long_between);
}

static void other_records_are_other_incidents_the_worst_first(void **state) {
    (void)state;
    char *text = repeated("x\n", 100, OOM "NCCL watchdog timeout\n"), all_of_it[1000];
    snprintf(all_of_it, sizeof all_of_it, "memory is unlimited\n%s", text);
    read_text(all_of_it);
    // The note is first in the text. What is fatal followed from the error.
    assert_int_equal(count, 2);
    assert_string_equal(list[0]->record->id, "x/oom");
    assert_int_equal(list[0]->severity, SEVERITY_FATAL);
    assert_string_equal(list[1]->record->id, "x/note");
    assert_string_equal(incidents_get(all, 0)->record->id, "x/note");
    assert_int_equal(incidents_count(all), 2);
    free(text);
}

static void there_is_a_bound_to_incidents(void **state) {
    (void)state;
    char *one = repeated("x\n", 70, OOM), *text = repeated(one, INCIDENTS_MOST + 50, "");
    char *more = repeated(text, 1, "memory is unlimited\n");
    read_text(text);
    assert_int_equal(count, INCIDENTS_MOST);
    assert_int_equal(list[INCIDENTS_MOST - 1]->count, 51);
    assert_int_equal(incidents_left_out(all), 0);
    read_text(more);
    assert_int_equal(incidents_left_out(all), 1);
    free(one);
    free(text);
    free(more);
}

// ---- recovered ------------------------------------------------------------------------------

static void what_was_recovered_from_weighs_less(void **state) {
    (void)state;
    read_text(OOM "x\nretrying with batch size 8\n");
    assert_int_equal(count, 1);
    assert_int_equal(list[0]->severity, SEVERITY_WARNING);
    assert_string_equal(list[0]->recovered_text, "retrying with batch size 8");
    assert_int_equal(list[0]->recovered_line, 3);
    read_text("memory is unlimited\nunlimited is fine\n");
    assert_int_equal(list[0]->severity, SEVERITY_NOTE);
}

static void who_fails_again_after_it_has_not_recovered(void **state) {
    (void)state;
    read_text(OOM "retrying with batch size 8\n" OOM "retrying with batch size 4\n" OOM);
    assert_int_equal(count, 1);
    assert_int_equal(list[0]->count, 3);
    assert_int_equal(list[0]->severity, SEVERITY_ERROR);
    assert_null(list[0]->recovered_text);
}

static void a_recovery_without_a_failure_is_nothing(void **state) {
    (void)state;
    read_text("retrying with batch size 8\n" OOM);
    assert_int_equal(count, 1);
    assert_int_equal(list[0]->severity, SEVERITY_ERROR);
}

// ---- codes ----------------------------------------------------------------------------------

static void a_code_that_agrees_with_the_text_raises_its_rank(void **state) {
    (void)state;
    char *text = repeated("x\n", 100, OOM);
    char both[2000];
    sprintf(both, "NCCL watchdog timeout\n%s", text);
    all = incidents_of_text(knowledge, both, strlen(both));
    incidents_add_code(all, "cuda-driver", 2, 1);
    incidents_add_code(all, "cuda-driver", 2, 2);
    incidents_add_code(all, "cuda-driver", 999, 1); // nobody knows it
    list = incidents_ranked(all, &count);
    assert_int_equal(count, 2);
    assert_string_equal(list[0]->record->id, "x/nccl"); // it is fatal
    assert_string_equal(list[1]->record->id, "x/oom");
    assert_int_equal(list[1]->evidence, EVIDENCE_TEXT | EVIDENCE_CODE);
    assert_int_equal(list[1]->calls, 3);
    assert_string_equal(list[1]->api, "cuda-driver");
    assert_int_equal(list[1]->code, 2);
    // Of two errors the one with both comes first, although it is the later one in the text.
    sprintf(both, "CUDA out of memory\n%s", text);
    incidents_free(all);
    all = incidents_of_text(knowledge, both, strlen(both));
    incidents_add_code(all, "cuda-driver", 2, 1);
    list = incidents_ranked(all, &count);
    assert_int_equal(count, 2);
    assert_string_equal(list[0]->record->id, "x/oom");
    assert_int_equal(list[1]->evidence, EVIDENCE_TEXT);
    free(text);
}

static void a_code_alone_is_an_incident_of_the_nearest_record(void **state) {
    (void)state;
    all = incidents_new(knowledge);
    incidents_add_code(all, "cuda-runtime", 2, 5);
    for (int again = 0; again < 2; again++) {
        list = incidents_ranked(all, &count);
        assert_int_equal(count, 1);
        assert_string_equal(list[0]->record->id, "x/driver");
        assert_int_equal(list[0]->evidence, EVIDENCE_CODE);
        assert_int_equal(list[0]->calls, 5);
        assert_int_equal(list[0]->count, 0);
        assert_string_equal(list[0]->text, "");
        assert_string_equal(list[0]->also[0].record->id, "x/oom");
    }
    assert_int_equal(incidents_count(all), 0); // of messages
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(ranks_that_fail_alike_are_one_incident_with_their_numbers),
        TEST(a_traceback_that_repeats_it_belongs_to_it),
        TEST(a_record_that_fits_less_closely_is_mentioned_and_no_incident),
        TEST(what_follows_from_it_belongs_to_it_whichever_is_printed_first),
        TEST(far_apart_in_the_text_are_two),
        TEST(time_decides_where_lines_have_time_stamps),
        TEST(other_records_are_other_incidents_the_worst_first),
        TEST(there_is_a_bound_to_incidents),
        TEST(what_was_recovered_from_weighs_less),
        TEST(who_fails_again_after_it_has_not_recovered),
        TEST(a_recovery_without_a_failure_is_nothing),
        TEST(a_code_that_agrees_with_the_text_raises_its_rank),
        TEST(a_code_alone_is_an_incident_of_the_nearest_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
