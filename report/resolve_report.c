// SPDX-License-Identifier: Apache-2.0
//
// The names that were missing when a report was made (emit.h): the program's files may have been
// stripped there, and their debug files be here. A report tells of each native frame its object
// file, build and offset, which is all that is needed.
#include "emit_parts.h"
#include "merge.h"

#include <stdlib.h>
#include <string.h>

// A frame of the report as the resolver takes it. False: it is none that could be named better.
static bool frame_of(const cJSON *frame, struct native_frame *out, unsigned char id[64]) {
    const char *module = json_text(frame, "module"), *offset = json_text(frame, "offset");
    const char *build = json_text(frame, "build_id");
    if (!module || !offset || json_u64(frame, "line") || json_is_true(frame, "inlined"))
        return false;
    size_t bytes = 0;
    for (unsigned value; build && bytes < 64 && sscanf(build, "%2x", &value) == 1; build += 2) {
        id[bytes++] = (unsigned char)value;
        if (!build[1]) break;
    }
    *out = (struct native_frame){.path = {module, strlen(module)},
                                 .build = {(const char *)id, bytes},
                                 .address = strtoull(offset, NULL, 16)};
    return true;
}

static bool is_header(const struct name *name) {
    return name->file && merge_is_header((struct span){name->file, strlen(name->file)});
}

static cJSON *renamed(const cJSON *frame, const struct name *name) {
    cJSON *copy = cJSON_CreateObject(), *member;
    json_add_text(copy, "kind", "native");
    json_add_text(copy, "function", name->function);
    json_add_text(copy, "file", name->file);
    if (name->line)
        json_add_u64(copy, "line", name->line);
    else
        json_add_null(copy, "line");
    static const char *const kept[] = {"module", "build_id", "offset", "folded"};
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        member = cJSON_GetObjectItemCaseSensitive(frame, kept[i]);
        if (member) cJSON_AddItemToObject(copy, kept[i], cJSON_Duplicate(member, true));
    }
    if (name->inlined) json_add_bool(copy, "inlined", true);
    if (is_header(name) && !json_is_true(frame, "folded")) json_add_bool(copy, "folded", true);
    return copy;
}

// The frames of a site or failure with the names that are known now. *where moves along.
static cJSON *renamed_frames(const cJSON *frames, const struct naming *naming, const char *cwd,
                             int64_t *where) {
    cJSON *list = cJSON_CreateArray();
    const cJSON *frame;
    int64_t old = 0, now = 0, moved = *where;
    cJSON_ArrayForEach(frame, frames) {
        struct native_frame native;
        struct name name;
        unsigned char id[64];
        unsigned names = 0, headers = 0; // of its functions, the innermost ones
        bool here = old++ == *where;
        if (frame_of(frame, &native, id)) {
            uint32_t question = resolver_ask(naming->resolver, &native, cwd);
            for (; resolver_name(naming->resolver, question, names, &name); names++) {
                cJSON_AddItemToArray(list, renamed(frame, &name));
                if (headers == names && is_header(&name)) headers++;
            }
        }
        if (here) moved = now + (headers < names ? headers : 0);
        if (!names) cJSON_AddItemToArray(list, cJSON_Duplicate(frame, true));
        now += names ? names : 1;
    }
    *where = moved;
    return list;
}

static void ask_names(const cJSON *item, const struct naming *naming, const char *cwd) {
    const cJSON *frame;
    cJSON_ArrayForEach(frame, json_get(item, "frames")) {
        struct native_frame native;
        unsigned char id[64];
        if (frame_of(frame, &native, id)) resolver_ask(naming->resolver, &native, cwd);
    }
}

static void rename_frames(cJSON *item, const struct naming *naming, const char *cwd) {
    int64_t where = json_is_number(item, "where") ? json_i64(item, "where") : -1;
    cJSON *frames = renamed_frames(json_get(item, "frames"), naming, cwd, &where);
    cJSON_ReplaceItemInObjectCaseSensitive(item, "frames", frames);
    if (where >= 0)
        cJSON_ReplaceItemInObjectCaseSensitive(item, "where", cJSON_CreateNumber((double)where));
}

void report_resolve(cJSON *report, const struct naming *naming) {
    static const char *const lists[] = {"sites", "failures"}; // of what has a stack
    enum { LISTS = sizeof lists / sizeof lists[0] };
    cJSON *coverage = cJSON_GetObjectItemCaseSensitive(report, "coverage");
    cJSON *symbols = cJSON_GetObjectItemCaseSensitive(coverage, "symbols");
    const char *cwd = json_text(json_get(report, "process"), "cwd");
    cJSON *item;
    if (!cwd) cwd = "";
    for (int i = 0; i < LISTS; i++)
        cJSON_ArrayForEach(item, json_get(report, lists[i])) ask_names(item, naming, cwd);
    resolver_run(naming->resolver, naming->limit_ms);
    for (int i = 0; i < LISTS; i++)
        cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(
                                     report, lists[i])) if (cJSON_IsArray(json_get(item, "frames")))
            rename_frames(item, naming, cwd);
    if (!cJSON_IsObject(symbols)) return;
    cJSON_DeleteItemFromObjectCaseSensitive(symbols, "complete");
    cJSON_DeleteItemFromObjectCaseSensitive(symbols, "modules");
    json_add_bool(symbols, "complete", resolver_complete(naming->resolver));
    emit_modules(symbols, naming->resolver);
}
