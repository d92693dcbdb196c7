// SPDX-License-Identifier: Apache-2.0
// links: knowledge/number.c
//
// Numbers as programs print them are read with their units, and the byte values that print so are
// known exactly; what only looks like a number of its own is not taken for one.
#include "../../knowledge/number.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define WIDE(high, low) ((number_wide)UINT64_C(high) * UINT64_C(10000000000) + UINT64_C(low))

static struct number parsed(const char *s) {
    struct number n;
    if (number_parse(s, strlen(s), &n) != strlen(s)) fail_msg("not read as a whole: %s", s);
    return n;
}

static void every_way_to_write_a_size_is_understood(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes, unit, other;
    } cases[] = {
        {"1 B", 1, 1, 0},
        {"256 bytes", 256, 1, 0},
        {"1 byte", 1, 1, 0},
        {"1,234,567 bytes", 1234567, 1, 0},
        {"12345", 12345, 1, 0},
        {"1.50 KiB", 1536, 1024, 0},
        {"1.5kB", 1536, 1024, 1000},
        {"9.19 MiB", 9636413, 1 << 20, 0},
        {"9.19MiB", 9636413, 1 << 20, 0},
        {"176.00mib", 184549376, 1 << 20, 0},
        {"3 MB", 3 << 20, 1 << 20, 1000000},
        {"2 GiB", UINT64_C(1) << 31, 1 << 30, 0},
        {"17.79G", 19101867049, 1 << 30, 1000000000},
        {"4 G", UINT64_C(1) << 32, 1 << 30, 1000000000},
        {"17179869183.000Gi", UINT64_MAX - (1 << 30) + 1, 1 << 30, 0},
        {"2.5 Gb", 2684354560, 1 << 30, 1000000000},
        {"1.25TiB", 1374389534720, UINT64_C(1) << 40, 0},
        {"1.25\nTiB", 1374389534720, UINT64_C(1) << 40, 0},
        {"1 PB", UINT64_C(1) << 50, UINT64_C(1) << 50, 1000000000000000},
        {"2EiB", UINT64_C(1) << 61, UINT64_C(1) << 60, 0},
        {"1EB", UINT64_C(1) << 60, UINT64_C(1) << 60, 1000000000000000000},
        {"3 pages", 12288, 4096, 0},
        {"0x1000", 4096, 1, 0},
        {"0XfF bytes", 255, 1, 0},
        {"2e9", 2000000000, 1, 0},
        {"1.5e3 KiB", 1536000, 1024, 0},
        {"0", 0, 1, 0},
        {"000000000000000000000000000000000000000007", 7, 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct number n = parsed(cases[i].text);
        if (number_bytes(&n) != cases[i].bytes || n.unit_bytes != cases[i].unit ||
            n.other_bytes != cases[i].other || n.negative)
            fail_msg("%s: %llu bytes in units of %llu or %llu", cases[i].text,
                     (unsigned long long)number_bytes(&n), (unsigned long long)n.unit_bytes,
                     (unsigned long long)n.other_bytes);
        assert_int_equal(n.binary, !n.other_bytes);
        assert_int_equal(n.has_unit, n.unit[0] != '\0');
    }
}

static void what_is_no_amount_of_bytes_is_told_apart(void **state) {
    (void)state;
    assert_int_equal(parsed("12").kind, NUMBER_PLAIN);
    assert_int_equal(parsed("12 MiB").kind, NUMBER_SIZE);
    assert_int_equal(parsed("65536 MB/s").kind, NUMBER_RATE);
    assert_int_equal(parsed("1.5 GiB/sec").kind, NUMBER_RATE);
    assert_int_equal(parsed("112 %").kind, NUMBER_PERCENT);
    assert_int_equal(parsed("99.5%").kind, NUMBER_PERCENT);
    assert_int_equal(parsed("0x0100000CFEEDFACF").hexadecimal, true);
}

static void a_minus_is_a_sign_in_ascii_and_in_unicode(void **state) {
    (void)state;
    static const char *const texts[] = {"-76898304 B", "−76898304 B"};
    for (size_t i = 0; i < 2; i++) {
        struct number n = parsed(texts[i]);
        assert_true(n.negative);
        assert_true(n.value == -76898304.0);
        assert_true(n.integer == 76898304 && n.low == 76898304 && n.high == 76898304);
    }
    assert_false(parsed("+5").negative);
}

// Every value in the range prints as it was printed, and its neighbours do not.
static void the_range_is_of_all_values_that_print_so(void **state) {
    (void)state;
    static const struct {
        const char *text, *digits;
    } cases[] = {
        {"67108914.49 GiB", "67108914.49"},
        {"17179869183.95 GiB", "17179869183.95"},
        {"0.00 GiB", "0.00"},
        {"1.49 GiB", "1.49"},
        {"127.99TiB", "127.99"},
        {"4096 MiB", "4096"},
        {"1.2 KiB", "1.2"},
        {"17179869184.000Gi", "17179869184.000"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[NUMBER_TEXT];
        struct number n = parsed(cases[i].text);
        number_wide low, high;
        number_range(&n, n.unit_bytes, &low, &high);
        assert_true(low == n.wide_low && high == n.wide_high);
        // Halves, where rounding goes to the even digit, belong to either.
        if (high - low > 2) low++, high--;
        assert_string_equal(number_text(low, n.unit_bytes, n.decimals, text), cases[i].digits);
        assert_string_equal(number_text(high, n.unit_bytes, n.decimals, text), cases[i].digits);
        if (n.wide_low > 1) {
            number_text(n.wide_low - 2, n.unit_bytes, n.decimals, text);
            assert_string_not_equal(text, cases[i].digits);
        }
        number_text(n.wide_high + 2, n.unit_bytes, n.decimals, text);
        assert_string_not_equal(text, cases[i].digits);
    }
}

static void whole_bytes_and_pages_are_exact(void **state) {
    (void)state;
    static const char *const texts[] = {"18446744073709551615", "4294967295 B", "3 pages",
                                        "0x7FFE38BC7400", "1,234 bytes"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct number n = parsed(texts[i]);
        assert_true(n.low == n.high && !n.saturated);
    }
}

static void nothing_wraps_beyond_64_bits(void **state) {
    (void)state;
    struct number n = parsed("1000000000000000000000000 bytes"); // 10^24
    assert_true(n.saturated && n.wide_low == WIDE(100000000000000, 0));
    assert_true(n.low == UINT64_MAX && n.high == UINT64_MAX && number_bytes(&n) == UINT64_MAX);
    n = parsed("18446744073709551616");
    assert_true(n.saturated && n.wide_low == (number_wide)1 << 64 && n.integer == UINT64_MAX);
    n = parsed("18446744073709551615");
    assert_true(!n.saturated && n.integer == UINT64_MAX);
    n = parsed("17179869184.00 GiB"); // both sides of 2^64
    assert_true(n.saturated && n.low < UINT64_MAX && n.high == UINT64_MAX);
    n = parsed("1000000 EiB");
    assert_true(n.saturated && n.wide_low > WIDE(100000000000000, 0));
    // As many digits as there may be: large, not small.
    static const char *const huge[] = {
        "99999999999999999999999999999999999999999999999999999999999999999999999999 EiB",
        "99999999999999999999999999999999999999999999.99999999999999999999999999999999 EiB",
        "1e400",
        "9999999999999999999999999999999e60 EiB",
        "0xffffffffffffffffffffffffffffffffffff",
        "1e99999999999999999999"};
    for (size_t i = 0; i < sizeof huge / sizeof huge[0]; i++) {
        n = parsed(huge[i]);
        if (!n.saturated || n.low != UINT64_MAX || n.wide_low < (number_wide)1 << 100)
            fail_msg("%s became small", huge[i]);
    }
    assert_true(number_bytes(&(struct number){.unit_bytes = 1}) == 0);
    assert_true(parsed("1e-400").high == 0);
}

static void what_python_prints_of_a_float_is_understood(void **state) {
    (void)state;
    struct number n = parsed("1.8446744073709552e+19"); // float(2**64 - 1)
    assert_true(n.wide_low <= UINT64_MAX && n.wide_high >= (number_wide)1 << 64);
    assert_true(n.wide_high - n.wide_low == 1000);
}

static void only_what_belongs_to_the_number_is_taken(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t taken;
    } cases[] = {
        {"12,345,6", 6},    {"12,34", 2},  {"1234,567", 4}, {"1.", 1},
        {"1.x", 1},         {"5 Good", 1}, {"5 GiBs", 1},   {"5\nB", 1},
        {"7   \n  GiB", 1}, {"0xZZ", 1},   {"1e", 1},       {"1e+", 1},
        {"12 m", 2},        {"12m", 2},    {"5 Gi", 1},     {"5 GiB/step", 5},
        {"3 GiB, 4", 5},    {"1EB)", 3},   {"", 0},         {"x1", 0},
        {"-", 0},           {"- 1", 0},    {".5", 0},       {"\xe2\x88\x92", 0},
        {"\xe2\x88", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct number n;
        size_t taken = number_parse(cases[i].text, strlen(cases[i].text), &n);
        if (taken != cases[i].taken)
            fail_msg("'%s': %zu bytes taken, not %zu", cases[i].text, taken, cases[i].taken);
    }
}

static void the_numbers_of_a_message_are_found(void **state) {
    (void)state;
    static const struct {
        const char *text, *numbers; // each with a | behind it
    } cases[] = {
        {"MPS backend out of memory (MPS allocated: 1.49 GiB, other allocations: 67108914.49 GiB, "
         "max allowed: 30.19 GiB). Tried to allocate 9.19 MiB on private pool.",
         "1.49 GiB|67108914.49 GiB|30.19 GiB|9.19 MiB|"},
        {"failed to allocate 17.79G (19104890880 bytes) from device", "17.79G|19104890880 bytes|"},
        {"2025-03-24 10:31:07 torch-2.9.1+cu128 sm_90 RTX4090 v1.2.3 lib.so.12 a1b2 0x7f", "0x7f|"},
        {"22.1/24.0 GiB, 4-8 GiB; -5 MiB (-6) x=-7", "22.1|24.0 GiB|8 GiB|-5 MiB|-6|-7|"},
        {"使用了67108914.49 GiB，剩余−2 GiB。", "67108914.49 GiB|−2 GiB|"},
        {"[1, 2,3] 1,024 bytes", "1|2|1,024 bytes|"},
        {"train.py:431: 5 GiBs 10 GiB\n", "431|5|10 GiB|"},
        {"7 B\0 8 MiB", "7 B|"},
        {"no number", ""},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *text = cases[i].text;
        size_t length = strlen(text), at = 0, taken;
        char found[512] = "";
        struct number n;
        while ((at = number_find(text, length, at, &n, &taken)) < length) {
            assert_true(taken > 0 && at + taken <= length);
            strncat(strncat(found, text + at, taken), "|", 2);
            at += taken;
        }
        assert_string_equal(found, cases[i].numbers);
    }
}

static void a_text_need_not_end_with_nul(void **state) {
    (void)state;
    struct number n;
    char text[] = {'1', '2', '.', '5', ' ', 'G', 'i', 'B'};
    assert_int_equal(number_parse(text, sizeof text, &n), sizeof text);
    assert_int_equal(number_parse(text, 6, &n), 6); // "12.5 G"
    assert_int_equal(number_parse(text, 3, &n), 2);
    assert_int_equal(number_parse(text, 0, &n), 0);
}

static void numbers_are_printed_as_printf_rounds_them(void **state) {
    (void)state;
    static const uint64_t values[] = {
        0, 1, 511, 512, 1535, 1610612736, 72057649854544591, UINT32_MAX, 10737418, 5368709};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        for (int decimals = 0; decimals <= 9; decimals++) {
            char ours[NUMBER_TEXT], theirs[NUMBER_TEXT];
            // Exact in a long double of 64 bits.
            snprintf(theirs, sizeof theirs, "%.*Lf", decimals, (long double)values[i] / 1024);
            assert_string_equal(number_text(values[i], 1024, decimals, ours), theirs);
        }
    char text[NUMBER_TEXT];
    assert_string_equal(number_text((number_wide)-1, 1, 9, text),
                        "1329227995784915872903807060280344576.000000000"); // 2^120, where it ends
    assert_string_equal(number_text(5, 0, -3, text), "5");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_to_write_a_size_is_understood),
        cmocka_unit_test(what_is_no_amount_of_bytes_is_told_apart),
        cmocka_unit_test(a_minus_is_a_sign_in_ascii_and_in_unicode),
        cmocka_unit_test(the_range_is_of_all_values_that_print_so),
        cmocka_unit_test(whole_bytes_and_pages_are_exact),
        cmocka_unit_test(nothing_wraps_beyond_64_bits),
        cmocka_unit_test(what_python_prints_of_a_float_is_understood),
        cmocka_unit_test(only_what_belongs_to_the_number_is_taken),
        cmocka_unit_test(the_numbers_of_a_message_are_found),
        cmocka_unit_test(a_text_need_not_end_with_nul),
        cmocka_unit_test(numbers_are_printed_as_printf_rounds_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
