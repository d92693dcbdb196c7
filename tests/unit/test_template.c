// SPDX-License-Identifier: Apache-2.0
// links: knowledge/template.c
//
// A template matches the message that it writes down, in all its forms, and nothing else; its
// fields come out; each match contains one of its literals. What is no template is refused with a
// reason.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "../../knowledge/template.h"

#include <ctype.h>
#include <pcre2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct result {
    bool matched;
    char all[512], field[TEMPLATE_FIELDS][256];
};

static void take(char *out, size_t size, const char *text, const PCRE2_SIZE *ends) {
    bool set = ends[0] != PCRE2_UNSET;
    snprintf(out, size, "%.*s", set ? (int)(ends[1] - ends[0]) : 0, set ? text + ends[0] : "");
}

// Does one of the literals occur in the text, as the header says that they are to be looked for?
static bool has_literal(const struct template *t, const char *text) {
    char plain[2048];
    size_t n = 0;
    for (; *text && n + 1 < sizeof plain; text++) {
        bool blank = isspace((unsigned char)*text);
        if (blank && n && plain[n - 1] == ' ') continue;
        plain[n++] = blank ? ' ' : (char)tolower((unsigned char)*text);
    }
    plain[n] = 0;
    for (size_t i = 0; i < t->literals; i++)
        if (strstr(plain, t->literal[i])) return true;
    return !t->literals;
}

static struct result run(const struct template *t, const char *text) {
    struct result r = {.matched = false};
    int number;
    PCRE2_SIZE at;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)t->regex, PCRE2_ZERO_TERMINATED, PCRE2_CASELESS,
                                     &number, &at, NULL);
    if (!code) fail_msg("PCRE2 error %d at %zu of %s", number, (size_t)at, t->regex);
    pcre2_match_data *data = pcre2_match_data_create(TEMPLATE_FIELDS + 1, NULL);
    int n = pcre2_match(code, (PCRE2_SPTR)text, strlen(text), 0, 0, data, NULL);
    if (n >= 0) {
        const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(data);
        uint32_t groups = 0;
        pcre2_pattern_info(code, PCRE2_INFO_CAPTURECOUNT, &groups);
        r.matched = true;
        take(r.all, sizeof r.all, text, ends);
        if (groups != t->fields && t->fields) fail_msg("%u groups, %zu fields", groups, t->fields);
        for (int i = 1; i < n && (size_t)i <= t->fields; i++)
            take(r.field[i - 1], sizeof r.field[0], text, ends + 2 * i);
        if (!has_literal(t, r.all)) fail_msg("none of the literals is in: %s", r.all);
    } else {
        assert_int_equal(n, PCRE2_ERROR_NOMATCH);
    }
    pcre2_match_data_free(data);
    pcre2_code_free(code);
    return r;
}

static struct result match(const char *text, const char *message) {
    struct template t;
    struct template_error error;
    if (!template_compile(text, &t, &error)) fail_msg("%s: %zu: %s", text, error.at, error.reason);
    struct result r = run(&t, message);
    template_free(&t);
    return r;
}

#define MATCHES(template, message)                                                                 \
    do {                                                                                           \
        if (!match(template, message).matched) fail_msg("no match: %s", message);                  \
    } while (0)
#define DIFFERS(template, message)                                                                 \
    do {                                                                                           \
        if (match(template, message).matched) fail_msg("a match: %s", message);                    \
    } while (0)

#define OOM                                                                                        \
    "CUDA out of memory. Tried to allocate {request:size} (GPU {device:int}; {total:size} total "  \
    "capacity; {allocated:size} already allocated[; {free:size} free])"

static void a_message_is_matched_and_its_fields_come_out(void **state) {
    (void)state;
    struct result r = match(OOM, "E: RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB "
                                 "(GPU 0; 7.79 GiB total capacity; 6.94 GiB already allocated; "
                                 "43.12 MiB free) more");
    assert_true(r.matched);
    assert_string_equal(r.field[0], "2.00 GiB");
    assert_string_equal(r.field[1], "0");
    assert_string_equal(r.field[2], "7.79 GiB");
    assert_string_equal(r.field[3], "6.94 GiB");
    assert_string_equal(r.field[4], "43.12 MiB");
    r = match(OOM, "CUDA OUT OF MEMORY.  Tried to\n      allocate 2.00GiB (GPU 0; 7.79\nGiB total "
                   "capacity; 6.94 GiB already allocated)");
    assert_true(r.matched); // wrapped, in capitals, without the optional part
    assert_string_equal(r.field[4], "");
    DIFFERS(OOM, "CUDA out of memory. Tried to allocate two bytes (GPU 0; 7.79 GiB total capacity; "
                 "6.94 GiB already allocated)");
}

static void every_type_of_field_takes_what_it_says(void **state) {
    (void)state;
    static const struct {
        const char *type, *yes, *no;
    } cases[] = {
        {"size", "1.5 KiB", "1.5"},
        {"size", "9.19MiB", "MiB"},
        {"size", "256 bytes", "256"},
        {"size", "1,024 B", "1024 x"},
        {"size", "17G", "17 metres"},
        {"size", "-76898304 B", "- B"},
        {"size", "1.8446744073709552e+19 bytes", "e+19 bytes"},
        {"huge", "67108914.49 GiB", "36.24 GB"},
        {"huge", "18446744073709551615 bytes", "68719476736 bytes"}, // 64 GiB in bytes is no wonder
        {"huge", "17592186044416 MiB", "81920.00 MiB"},
        {"bytes", "1,024", "x"},
        {"int", "-12", "."},
        {"number", "12.5", "a"},
        {"hex", "0x77f00000", "xyz"},
        {"word", "cuda:0", " "},
        {"path", "/usr/lib/libcuda.so.1", "\""},
        {"text", "what there is", NULL},
        {"quoted", "\"out of memory\"", "out of memory"},
        {"quoted", "'out of memory'", "'out"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char template[128], yes[128], no[128];
        snprintf(template, sizeof template, "begins {x:%s} ends", cases[i].type);
        snprintf(yes, sizeof yes, "begins %s ends", cases[i].yes);
        snprintf(no, sizeof no, "begins %s ends", cases[i].no ? cases[i].no : "");
        MATCHES(template, yes);
        struct result r = match(template, yes);
        if (strcmp(cases[i].type, "quoted") != 0) assert_string_equal(r.field[0], cases[i].yes);
        if (cases[i].no) DIFFERS(template, no);
    }
    assert_string_equal(match("say {x:quoted}", "say 'out of memory'").field[0], "out of memory");
    assert_string_equal(match("because: {why:text}", "because: of this\nand").field[0], "of this");
}

static void gaps_are_bounded_and_stay_within_a_line(void **state) {
    (void)state;
    char text[2048];
    snprintf(text, sizeof text, "first %200s last", "");
    memset(text + 6, 'x', 200);
    MATCHES("first {} last", text);
    snprintf(text, sizeof text, "first %201s last", "");
    memset(text + 6, 'x', 201);
    DIFFERS("first {} last", text);
    MATCHES("first {:201} last", text);
    DIFFERS("first {:3} last", "first four last");
    DIFFERS("first {} last", "first line\nanother last");
}

static void optional_parts_take_their_blank_with_them(void **state) {
    (void)state;
    for (const char *const *t =
             (const char *const[]){"one [two] three", "one[ two] three", "one [two ]three", NULL};
         *t; t++) {
        MATCHES(*t, "one two three");
        MATCHES(*t, "one three");
        DIFFERS(*t, "onethree");
    }
    MATCHES("[two] three", "two three");
    MATCHES("[two] three", "three");
    MATCHES("begin [end]", "begin");
    assert_string_equal(match("begin [end]", "begin end").all, "begin end");
    MATCHES("one [two [three]] four", "one two four");
    MATCHES("one [two [three]] four", "one two three four");
    DIFFERS("one [two [three]] four", "one three four");
}

static void alternatives_hold_fields_and_may_be_empty(void **state) {
    (void)state;
    const char *t = "free <{free:size}|unknown|> memory";
    assert_string_equal(match(t, "free 2 GiB memory").field[0], "2 GiB");
    MATCHES(t, "free unknown memory");
    MATCHES(t, "free  memory");
    DIFFERS(t, "free none memory");
}

static void escaped_characters_are_themselves(void **state) {
    (void)state;
    MATCHES("\\[rank\\] \\{x\\} a\\|b \\<c\\> \\\\ 1+1=2? (yes) 5*$^.",
            "[rank] {x} a|b <c> \\ 1+1=2? (yes) 5*$^.");
    DIFFERS("1.5", "1x5");
}

static void a_template_may_have_to_begin_or_end_a_line(void **state) {
    (void)state;
    MATCHES("^[{}: ]E_NO_MEMORY$", "before\nE_NO_MEMORY\nafter");
    MATCHES("^[{}: ]E_NO_MEMORY$", "open: E_NO_MEMORY");
    DIFFERS("^[{}: ]E_NO_MEMORY$", "if (x == E_NO_MEMORY)");
    DIFFERS("^[{}: ]E_NO_MEMORY$", "  E_NO_MEMORY = 2,");
    DIFFERS("^[{}: ]E_NO_MEMORY$", "case E_NO_MEMORY");
    MATCHES("costs ^5$ or more", "it costs ^5$ or more"); // anywhere else they are themselves
    MATCHES("it costs 5\\$", "it costs 5$ or more");
}

static void literals_are_what_every_match_contains(void **state) {
    (void)state;
    static const struct {
        const char *template, *literal[3];
        size_t fixed;
    } cases[] = {
        {"CUDA  out of\nmemory", {"cuda out of memory"}, 15},
        {"a {x:int} longer [longest of all] b", {"longer"}, 8},
        {"x <first one|second> y", {"first one", "second"}, 2 + 6},
        {"x <first one|> y", {"x"}, 2},
        {"{x:int}", {NULL}, 0},
        {"{x:huge} GiB", {"gib"}, 9},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct template t;
        struct template_error error;
        assert_true(template_compile(cases[i].template, &t, &error));
        size_t n = 0;
        while (n < 3 && cases[i].literal[n]) n++;
        assert_int_equal(t.literals, n);
        for (size_t k = 0; k < n; k++) {
            assert_string_equal(t.literal[k], cases[i].literal[k]);
            assert_true(t.shortest <= strlen(t.literal[k]));
        }
        assert_int_equal(t.fixed, cases[i].fixed);
        template_free(&t);
    }
}

static void what_is_no_template_is_refused_with_place_and_reason(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t at;
        const char *reason;
    } cases[] = {
        {"", 0, "empty"},
        {"a {x", 2, "not closed"},
        {"a {x} b", 3, "needs a type"},
        {"a {x:sice} b", 5, "no type 'sice'"},
        {"a {X:size} b", 3, "name"},
        {"a {:0} b", 3, "gap"},
        {"a {:1001} b", 3, "gap"},
        {"a [b", 2, "not closed"},
        {"a <b|c", 2, "not closed"},
        {"a > b", 2, "literal one is written"},
        {"a ] b", 2, "literal one is written"},
        {"a | b", 2, "literal one is written"},
        {"a } b", 2, "literal one is written"},
        {"a <b]", 4, "does not belong here"},
        {"a\\nb", 1, "no escape"},
        {"a \\", 2, "no escape"},
        {"a\\ b", 1, "no escape"},
        {"[[[[[[[[[[[[[[[[[a]]]]]]]]]]]]]]]]]", 16, "nested"},
        {"{a:int}{a:int}{a:int}{a:int}{a:int}{a:int}{a:int}{a:int}{a:int}{a:int}{a:int}{a:int}"
         "{a:int}{a:int}{a:int}{a:int}{a:int}{a:int}{a:int}{a:int}{a:int}{a:int}{a:int}{a:int}"
         "{a:int}",
         169, "fields"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct template t;
        struct template_error error;
        if (template_compile(cases[i].text, &t, &error)) fail_msg("taken: %s", cases[i].text);
        if (error.at != cases[i].at || !strstr(error.reason, cases[i].reason))
            fail_msg("%s: %zu: %s", cases[i].text, error.at, error.reason);
        template_free(&t);
    }
    char *huge = malloc(TEMPLATE_BYTES + 2);
    memset(huge, 'a', TEMPLATE_BYTES + 1);
    huge[TEMPLATE_BYTES + 1] = 0;
    struct template t;
    struct template_error error;
    assert_false(template_compile(huge, &t, &error));
    template_free(&t);
    free(huge);
}

static void literals_of_imported_expressions_are_found(void **state) {
    (void)state;
    static const struct {
        const char *regex, *literal[3], *match;
    } cases[] = {
        {"MPS heap memory limit exceeded", {"mps heap memory limit exceeded"}, NULL},
        {"torch\\.cuda\\.OutOfMemoryError.*CUDA out of memory.*Tried to allocate",
         {"torch.cuda.outofmemoryerror"},
         "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate"},
        {"(CUDA|HIP) out of memory", {"out of memory"}, "HIP out of memory"},
        {"(?:failed here|broken)", {"failed here", "broken"}, "it is broken"},
        {"one|two", {"one", "two"}, "two"},
        {"colou?r", {"colo"}, "color"},
        {"ab*cde+fg", {"cde"}, "acdeefg"},
        {"x{0,3}word{2}s", {"word"}, "wordds"}, // the d of "word" is there, with more after it
        {"[a-z]\\d+ fails", {"fails"}, "a1 fails"},
        {"[[:alpha:]\\]x] fails", {"fails"}, "] fails"},
        {"[[:a]b:]|c", {"b:]", "c"}, "c"},
        {"(?i)Error:\\s+memory", {"error: memory"}, NULL},
        {"a(?P<n>b)c{", {"a", NULL}, NULL},
        {".*", {NULL}, "x"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct template t;
        struct template_error error;
        if (!template_import(cases[i].regex, &t, &error))
            fail_msg("%s: %s", cases[i].regex, error.reason);
        assert_string_equal(t.regex, cases[i].regex);
        assert_int_equal(t.fixed, t.shortest); // between its literals it is loose
        if (cases[i].match) {
            for (size_t k = 0; k < 3 && cases[i].literal[k]; k++)
                if (k >= t.literals || strcmp(t.literal[k], cases[i].literal[k]) != 0)
                    fail_msg("%s: %s", cases[i].regex, t.literals ? t.literal[0] : "none");
            assert_true(run(&t, cases[i].match).matched);
        }
        template_free(&t);
    }
}

static void expressions_beyond_the_common_subset_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"a(?=b)",   "a(?!b)",   "(?<=a)b", "(?<!a)b", "(a)\\1",
                                      "a++b",     "(?>a)b",   "a\\Z",    "(?m)a",   "(a+)+",
                                      "(a",       "a)",       "[a",      "*a",      "\\p{L}",
                                      "a(*FAIL)", "((a*)b)*", "\\",      "a{,3}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct template t;
        struct template_error error;
        if (template_import(bad[i], &t, &error)) fail_msg("taken: %s", bad[i]);
        assert_true(error.reason[0]);
        template_free(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_matched_and_its_fields_come_out),
        cmocka_unit_test(every_type_of_field_takes_what_it_says),
        cmocka_unit_test(gaps_are_bounded_and_stay_within_a_line),
        cmocka_unit_test(optional_parts_take_their_blank_with_them),
        cmocka_unit_test(alternatives_hold_fields_and_may_be_empty),
        cmocka_unit_test(escaped_characters_are_themselves),
        cmocka_unit_test(a_template_may_have_to_begin_or_end_a_line),
        cmocka_unit_test(literals_are_what_every_match_contains),
        cmocka_unit_test(what_is_no_template_is_refused_with_place_and_reason),
        cmocka_unit_test(literals_of_imported_expressions_are_found),
        cmocka_unit_test(expressions_beyond_the_common_subset_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
