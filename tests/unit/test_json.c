// SPDX-License-Identifier: Apache-2.0
// links: report/json.c report/places.c
//
// What is written as JSON is exact and valid, and what is read as JSON may be anything.
#include "json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// The document as text, without white space.
static char *text_of(cJSON *document) {
    static char text[4096];
    assert_true(cJSON_PrintPreallocated(document, text, sizeof text, false));
    cJSON_Delete(document);
    return text;
}

static void integers_are_exact_beyond_the_reach_of_doubles(void **state) {
    (void)state;
    cJSON *d = cJSON_CreateObject();
    json_add_u64(d, "largest", UINT64_MAX);
    json_add_u64(d, "odd", (UINT64_C(1) << 53) + 1);
    json_add_i64(d, "lowest", INT64_MIN);
    assert_true(json_u64(d, "odd") == (UINT64_C(1) << 53) + 1);
    assert_string_equal(text_of(d), "{\"largest\":18446744073709551615,\"odd\":9007199254740993,"
                                    "\"lowest\":-9223372036854775808}");
}

static void what_is_not_utf8_is_replaced_byte_by_byte(void **state) {
    (void)state;
#define BAD "\xef\xbf\xbd"
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain", "plain"},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"a\x80z", "a" BAD "z"},               // a continuation without a beginning
        {"\xe2\x82", BAD BAD},                 // cut short
        {"\xc0\xaf", BAD BAD},                 // overlong
        {"\xe0\x80\xaf", BAD BAD BAD},         // overlong
        {"\xf0\x80\x80\xaf", BAD BAD BAD BAD}, // overlong
        {"\xed\xa0\x80", BAD BAD BAD},         // a surrogate
        {"\xf4\x90\x80\x80", BAD BAD BAD BAD}, // beyond U+10FFFF
        {"\xff\xfe", BAD BAD},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cJSON *d = cJSON_CreateObject();
        json_add_bytes(d, "text", cases[i].in, strlen(cases[i].in));
        assert_string_equal(json_text(d, "text"), cases[i].out);
        cJSON_Delete(d);
    }
}

static void a_text_ends_at_its_length_or_its_first_nul(void **state) {
    (void)state;
    cJSON *d = cJSON_CreateObject();
    json_add_bytes(d, "cut", "abcdef", 3);
    json_add_bytes(d, "nul", "ab\0cd", 5);
    json_add_text(d, "empty", "");
    json_add_handle(d, "handle", 0x7f00);
    json_add_handle(d, "none", 0);
    assert_string_equal(text_of(d), "{\"cut\":\"abc\",\"nul\":\"ab\",\"empty\":null,"
                                    "\"handle\":\"0x7f00\",\"none\":null}");
}

static void members_that_are_missing_or_of_another_type_read_as_nothing(void **state) {
    (void)state;
    cJSON *d = cJSON_Parse("{\"n\":-1,\"big\":1e300,\"low\":-1e300,\"t\":\"x\",\"l\":[1]}");
    assert_true(json_u64(d, "n") == 0);
    assert_true(json_i64(d, "n") == -1);
    assert_true(json_u64(d, "big") == UINT64_MAX);
    assert_true(json_i64(d, "big") == INT64_MAX);
    assert_true(json_i64(d, "low") == INT64_MIN);
    assert_true(json_u64(d, "t") == 0);
    assert_true(json_u64(d, "missing") == 0);
    assert_null(json_text(d, "n"));
    assert_null(json_text(NULL, "n"));
    assert_null(json_get(json_get(d, "l"), "n"));
    assert_false(json_is_true(d, "t"));
    cJSON_Delete(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_are_exact_beyond_the_reach_of_doubles),
        cmocka_unit_test(what_is_not_utf8_is_replaced_byte_by_byte),
        cmocka_unit_test(a_text_ends_at_its_length_or_its_first_nul),
        cmocka_unit_test(members_that_are_missing_or_of_another_type_read_as_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
