// SPDX-License-Identifier: Apache-2.0
// links: knowledge/automaton.c
//
// The automaton finds exactly what a naive search finds, in text with any blanks, case and NULs,
// and stops where a literal may go on behind the end of a line or an escape sequence.
#include "automaton.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t random_state = 20250615;

static unsigned below(unsigned n) {
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)((random_state >> 33) % n);
}

static void literals_are_folded_trimmed_and_cut(void **state) {
    (void)state;
    char out[AUTOMATON_LITERAL];
    assert_int_equal(automaton_literal("  Out \t\n OF  ", 13, out), 6);
    assert_string_equal(out, "out of");
    assert_int_equal(automaton_literal("a\0b", 3, out), 2);
    assert_string_equal(out, "ab");
    assert_int_equal(automaton_literal("   ", 3, out), 0);
    // Cut before a blank, there is none at the end.
    assert_int_equal(automaton_literal("0123456789012345678901234567890 1", 33, out), 31);
    assert_int_equal(automaton_literal("012345678901234567890123456789 12", 33, out), 30);
}

// Literals and a text of few characters, so that they meet often.
static size_t make(char *to, size_t most, const char *set) {
    size_t n = 1 + below((unsigned)most), count = strlen(set);
    for (size_t i = 0; i < n; i++) to[i] = set[below((unsigned)count)];
    return n;
}

static void it_finds_what_a_naive_search_finds(void **state) {
    (void)state;
    enum { LITERALS = 12, TEXT = 400 };
    for (int round = 0; round < 500; round++) {
        char literal[LITERALS][AUTOMATON_LITERAL], raw[TEXT], text[TEXT], seen[LITERALS][TEXT];
        const char *list[LITERALS];
        memset(seen, 0, sizeof seen);
        for (int i = 0; i < LITERALS; i++) {
            size_t n = make(raw, 9, "abAB \xe5");
            automaton_literal(raw, n, literal[i]);
            list[i] = literal[i];
        }
        struct automaton *a = automaton_new(list, LITERALS);
        assert_non_null(a);
        size_t length = make(raw, TEXT, "abAB  \t\xe5x"), n = 0;
        for (int i = 0; i < 5; i++) raw[below((unsigned)length)] = '\0';
        // The text as the literals are: folded, blanks as one, no NULs; and where each byte was.
        size_t at[TEXT];
        for (size_t i = 0; i < length; i++) {
            unsigned char c = (unsigned char)raw[i];
            if (!c) continue;
            char f = c == '\t' ? ' ' : c < 128 ? (char)tolower(c) : raw[i];
            if (f == ' ' && n && text[n - 1] == ' ') continue;
            at[n] = i;
            text[n++] = f;
        }
        automaton_state s = 0;
        const unsigned char *p = (unsigned char *)raw, *end = p + length;
        enum automaton_stop stop;
        while ((stop = automaton_scan(a, &s, &p, end)) != AUTOMATON_END) {
            assert_int_equal(stop, AUTOMATON_FOUND);
            uint32_t chain = AUTOMATON_FIRST;
            size_t which, depth = automaton_depth(a, s);
            while (automaton_found(a, s, &chain, &which)) {
                assert_true(strlen(literal[which]) <= depth);
                seen[which][p - (unsigned char *)raw - 1] = 1;
            }
        }
        for (int i = 0; i < LITERALS; i++) {
            size_t m = strlen(literal[i]);
            for (size_t k = 0; m && k + m <= n; k++) {
                bool here = !memcmp(text + k, literal[i], m);
                assert_int_equal(here, seen[i][at[k + m - 1]]);
                seen[i][at[k + m - 1]] = 0;
            }
            for (size_t k = 0; k < length; k++) assert_int_equal(seen[i][k], 0);
        }
        automaton_free(a);
    }
}

static void it_stops_only_where_a_literal_is_pending(void **state) {
    (void)state;
    const char *list[] = {"out of memory"};
    struct automaton *a = automaton_new(list, 1);
    static const struct {
        const char *text;
        enum automaton_stop stop;
        size_t at;
    } cases[] = {{"step\nstep\r\x1b[0m", AUTOMATON_END, 0},
                 {"ou\nt of", AUTOMATON_END, 0},
                 {"out\nof", AUTOMATON_END, 0}, // too little to stop for
                 {"out o\nf", AUTOMATON_LINE, 6},
                 {"out of\nmemory", AUTOMATON_LINE, 7},
                 {"out of \r\nmemory", AUTOMATON_LINE, 8},
                 {"out o\x1b[0mf", AUTOMATON_ESCAPE, 6},
                 {"x out of memory\n", AUTOMATON_FOUND, 15}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const unsigned char *begin = (const unsigned char *)cases[i].text, *p = begin;
        automaton_state s = 0;
        enum automaton_stop stop = automaton_scan(a, &s, &p, begin + strlen(cases[i].text));
        assert_int_equal(stop, cases[i].stop);
        if (stop != AUTOMATON_END) assert_int_equal((size_t)(p - begin), cases[i].at);
    }
    automaton_free(a);
}

static void no_literals_are_never_found(void **state) {
    (void)state;
    const char *empty[] = {"", ""};
    static const unsigned char text[] = "anything\n\x1b[0m";
    for (size_t count = 0; count <= 2; count += 2) {
        struct automaton *a = automaton_new(empty, count);
        automaton_state s = 0;
        const unsigned char *p = text;
        assert_int_equal(automaton_scan(a, &s, &p, text + sizeof text), AUTOMATON_END);
        automaton_free(a);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals_are_folded_trimmed_and_cut),
        cmocka_unit_test(it_finds_what_a_naive_search_finds),
        cmocka_unit_test(it_stops_only_where_a_literal_is_pending),
        cmocka_unit_test(no_literals_are_never_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
