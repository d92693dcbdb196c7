// SPDX-License-Identifier: Apache-2.0
//
// Exact numbers and clean texts for cJSON (json.h).
#define _GNU_SOURCE // mempcpy
#include "json.h"

#include "memwatch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(cJSON *object, const char *name, cJSON *item) {
    if (name)
        cJSON_AddItemToObject(object, name, item);
    else
        cJSON_AddItemToArray(object, item);
}

void json_add_u64(cJSON *object, const char *name, uint64_t value) {
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, value);
    add(object, name, cJSON_CreateRaw(digits));
}

void json_add_i64(cJSON *object, const char *name, int64_t value) {
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRId64, value);
    add(object, name, cJSON_CreateRaw(digits));
}

void json_add_null(cJSON *object, const char *name) {
    add(object, name, cJSON_CreateNull());
}
void json_add_bool(cJSON *object, const char *name, bool value) {
    add(object, name, cJSON_CreateBool(value));
}

// Length of the UTF-8 sequence at `s` with `left` bytes, 0 if it is none (RFC 3629: no overlong
// forms, no surrogates, nothing beyond U+10FFFF).
static size_t sequence(const unsigned char *s, size_t left) {
    if (s[0] < 0x80) return 1;
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || n > left) return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if (s[0] == 0xe0 && s[1] < 0xa0) return 0;
    if (s[0] == 0xed && s[1] > 0x9f) return 0;
    if (s[0] == 0xf0 && s[1] < 0x90) return 0;
    if (s[0] == 0xf4 && s[1] > 0x8f) return 0;
    return n;
}

void json_add_bytes(cJSON *object, const char *name, const char *text, size_t most) {
    size_t bytes = strnlen(text, most);
    char *clean = allocate(3 * bytes + 1, 1), *to = clean;
    for (size_t i = 0; i < bytes;) {
        size_t n = sequence((const unsigned char *)text + i, bytes - i);
        if (n)
            to = mempcpy(to, text + i, n);
        else
            to = mempcpy(to, "\xef\xbf\xbd", 3);
        i += n ? n : 1;
    }
    add(object, name, cJSON_CreateString(clean));
    free(clean);
}

void json_add_text(cJSON *object, const char *name, const char *text) {
    if (text && *text)
        json_add_bytes(object, name, text, strlen(text));
    else
        json_add_null(object, name);
}

void json_add_handle(cJSON *object, const char *name, uint64_t handle) {
    char digits[24];
    snprintf(digits, sizeof digits, "0x%" PRIx64, handle);
    json_add_text(object, name, handle ? digits : NULL);
}

cJSON *json_add_object(cJSON *object, const char *name) {
    cJSON *item = cJSON_CreateObject();
    add(object, name, item);
    return item;
}

cJSON *json_add_array(cJSON *object, const char *name) {
    cJSON *item = cJSON_CreateArray();
    add(object, name, item);
    return item;
}

const cJSON *json_get(const cJSON *object, const char *name) {
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, name) : NULL;
}

bool json_is_number(const cJSON *object, const char *name) {
    const cJSON *item = json_get(object, name);
    return cJSON_IsNumber(item) || cJSON_IsRaw(item);
}

uint64_t json_value(const cJSON *item) {
    if (cJSON_IsRaw(item)) return strtoull(item->valuestring, NULL, 10);
    if (!cJSON_IsNumber(item) || !(item->valuedouble > 0)) return 0;
    return item->valuedouble < 0x1p64 ? (uint64_t)item->valuedouble : UINT64_MAX;
}

uint64_t json_u64(const cJSON *object, const char *name) {
    return json_value(json_get(object, name));
}

int64_t json_i64(const cJSON *object, const char *name) {
    const cJSON *item = json_get(object, name);
    if (cJSON_IsRaw(item)) return strtoll(item->valuestring, NULL, 10);
    if (!cJSON_IsNumber(item)) return 0;
    if (!(item->valuedouble > -0x1p63)) return INT64_MIN;
    return item->valuedouble < 0x1p63 ? (int64_t)item->valuedouble : INT64_MAX;
}

bool json_is_true(const cJSON *object, const char *name) {
    return cJSON_IsTrue(json_get(object, name));
}

const char *json_text(const cJSON *object, const char *name) {
    const cJSON *item = json_get(object, name);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}
