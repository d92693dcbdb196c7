// SPDX-License-Identifier: Apache-2.0
//
// cJSON with two of its habits put right: numbers are exact integers (cJSON's are doubles, which
// lose bytes from 2^53 on), and every text is valid UTF-8, whatever the file said.
//
// Reading is tolerant: a member that is missing or of another type reads as nothing. Reports may
// come from anywhere.
#ifndef MEMWATCH_JSON_H
#define MEMWATCH_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// All add a member to `object`; an array takes name NULL.
void json_add_u64(cJSON *object, const char *name, uint64_t value);
void json_add_i64(cJSON *object, const char *name, int64_t value);
void json_add_null(cJSON *object, const char *name);
void json_add_bool(cJSON *object, const char *name, bool value);
// At most `most` bytes of `text`, up to the first NUL; what is not UTF-8 becomes U+FFFD.
void json_add_bytes(cJSON *object, const char *name, const char *text, size_t most);
// NULL or "" is null.
void json_add_text(cJSON *object, const char *name, const char *text);
// "0x1234"; 0 is null.
void json_add_handle(cJSON *object, const char *name, uint64_t handle);
cJSON *json_add_object(cJSON *object, const char *name);
cJSON *json_add_array(cJSON *object, const char *name);

// Members of an object that may be NULL or no object.
const cJSON *json_get(const cJSON *object, const char *name);
uint64_t json_value(const cJSON *item);                   // 0 if it is no such number
uint64_t json_u64(const cJSON *object, const char *name); // 0 if there is no such number
int64_t json_i64(const cJSON *object, const char *name);
bool json_is_number(const cJSON *object, const char *name);
bool json_is_true(const cJSON *object, const char *name);
const char *json_text(const cJSON *object, const char *name); // NULL if there is no such text

#endif
