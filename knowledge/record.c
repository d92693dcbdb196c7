// SPDX-License-Identifier: Apache-2.0
//
// From a JSON text to a struct record. The strings of a record are those of its cJSON tree, which
// stays; its arrays lie in an arena. A member of the wrong type is complained about and reads as
// missing, so that one slip does not cost a record.
#define _GNU_SOURCE // memmem, asprintf
#include "record.h"
#include "record_load.h"
#include "template.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH      32     // of JSON in JSON; a record needs 5
#define ARENA      32768u // bytes a block
#define COMPLAINTS 20     // about one file; a hostile one could earn a million
#define LONGEST_ID 200

struct block {
    struct block *next;
    size_t used, room;
    _Alignas(16) char bytes[];
};

struct knowledge {
    struct record **record;
    size_t count, room;
    size_t *slot; // 1 + index in `record` by hash of the id; 0: free
    size_t slots; // a power of two, at least twice `count`
    struct block *arena;
    cJSON **tree;
    size_t trees;
};

struct loader {
    struct knowledge *knowledge;
    const char *file;  // for complaints
    const char *bytes; // of the file
    size_t length;
    knowledge_complaint *complain;
    void *context;
    enum tier tier; // of claims that do not name theirs
    unsigned complaints;
    bool no_memory;
};

// ---- memory ---------------------------------------------------------------------------------

// Zeroed, owned by the knowledge. NULL without memory, which *no_memory notes.
static void *take(struct loader *l, size_t count, size_t bytes) {
    struct block *block = l->knowledge->arena;
    size_t wanted = (count * bytes + 15) & ~(size_t)15; // counts are of nodes in memory: no wrap
    if (!block || block->room - block->used < wanted) {
        size_t room = wanted > ARENA ? wanted : ARENA;
        block = malloc(sizeof *block + room);
        if (!block) {
            l->no_memory = true;
            return NULL;
        }
        block->next = l->knowledge->arena;
        block->used = 0;
        block->room = room;
        l->knowledge->arena = block;
    }
    void *taken = block->bytes + block->used;
    block->used += wanted;
    return memset(taken, 0, wanted);
}

struct knowledge *knowledge_new(void) {
    struct knowledge *knowledge = calloc(1, sizeof *knowledge);
    if (!knowledge) return NULL;
    knowledge->slots = 256;
    knowledge->slot = calloc(knowledge->slots, sizeof *knowledge->slot);
    if (knowledge->slot) return knowledge;
    free(knowledge);
    return NULL;
}

void knowledge_free(struct knowledge *knowledge) {
    if (!knowledge) return;
    for (size_t i = 0; i < knowledge->trees; i++) cJSON_Delete(knowledge->tree[i]);
    for (struct block *block = knowledge->arena, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    free((void *)knowledge->tree);
    free((void *)knowledge->record);
    free(knowledge->slot);
    free(knowledge);
}

// ---- complaints -----------------------------------------------------------------------------

static size_t line_at(const char *bytes, size_t offset) {
    size_t line = 1;
    for (size_t i = 0; i < offset; i++) line += bytes[i] == '\n';
    return line;
}

// Where a member of this name is first written; 1 if it is nowhere.
static size_t line_of(struct loader *l, const char *member) {
    char quoted[64];
    if (l->complaints >= COMPLAINTS) return 0; // nobody will hear of it
    int n = snprintf(quoted, sizeof quoted, "\"%s\"", member);
    const char *at = memmem(l->bytes, l->length, quoted, (size_t)n);
    return at ? line_at(l->bytes, (size_t)(at - l->bytes)) : 1;
}

__attribute__((format(printf, 3, 4))) static void complain(struct loader *l, size_t line,
                                                           const char *format, ...) {
    char reason[512];
    va_list arguments;
    if (!l->complain || l->complaints++ >= COMPLAINTS) return;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    // Whatever the file says, the complaint stays one line.
    for (char *c = reason; *c; c++)
        if (iscntrl((unsigned char)*c)) *c = '?';
    l->complain(l->context, l->file, line, reason);
}

// ---- members --------------------------------------------------------------------------------

static const cJSON *member(const cJSON *object, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNull(item) ? NULL : item;
}

static void wrong(struct loader *l, const char *name, const char *what) {
    complain(l, line_of(l, name), "\"%s\" is not %s: left out", name, what);
}

static const char *text_or(struct loader *l, const cJSON *object, const char *name,
                           const char *otherwise) {
    const cJSON *item = member(object, name);
    if (!item) return otherwise;
    if (cJSON_IsString(item)) return item->valuestring;
    wrong(l, name, "a text");
    return otherwise;
}

static const char *text(struct loader *l, const cJSON *object, const char *name) {
    return text_or(l, object, name, "");
}

// `name` and its Chinese twin "name_zh".
static struct bilingual both(struct loader *l, const cJSON *object, const char *name) {
    char zh[32];
    snprintf(zh, sizeof zh, "%s_zh", name);
    struct bilingual out = {{text(l, object, name), text_or(l, object, zh, NULL)}};
    if (out.text[LANGUAGE_ZH] && !*out.text[LANGUAGE_ZH]) out.text[LANGUAGE_ZH] = NULL;
    return out;
}

static double number_or(struct loader *l, const cJSON *object, const char *name, double otherwise) {
    const cJSON *item = member(object, name);
    if (!item) return otherwise;
    if (cJSON_IsNumber(item)) return item->valuedouble;
    wrong(l, name, "a number");
    return otherwise;
}

// A count or a code: what is no whole number of 53 bits is no such thing.
static bool whole(struct loader *l, const cJSON *object, const char *name, int64_t *out) {
    double value = number_or(l, object, name, -0x1p60);
    if (value >= -0x1p53 && value <= 0x1p53 && value == (double)(int64_t)value) {
        *out = (int64_t)value;
        return true;
    }
    if (value > -0x1p60) wrong(l, name, "a whole number");
    return false;
}

static uint64_t count_of(struct loader *l, const cJSON *object, const char *name) {
    int64_t value;
    return whole(l, object, name, &value) && value > 0 ? (uint64_t)value : 0;
}

static const cJSON *array(struct loader *l, const cJSON *object, const char *name) {
    const cJSON *item = member(object, name);
    if (!item || cJSON_IsArray(item)) return item;
    wrong(l, name, "a list");
    return NULL;
}

static size_t items(const cJSON *list) {
    int n = list ? cJSON_GetArraySize(list) : 0;
    return n > 0 ? (size_t)n : 0;
}

// A list of texts; a single text is a list of one.
static struct strings texts(struct loader *l, const cJSON *object, const char *name) {
    struct strings out = {0};
    const cJSON *list = member(object, name), *item;
    bool one = cJSON_IsString(list);
    if (!one) list = array(l, object, name);
    size_t n = one ? 1 : items(list);
    if (!n || !(out.item = take(l, n, sizeof *out.item))) return out;
    if (one) {
        out.item[out.count++] = list->valuestring;
        return out;
    }
    cJSON_ArrayForEach(item, list) {
        if (cJSON_IsString(item))
            out.item[out.count++] = item->valuestring;
        else
            wrong(l, name, "a list of texts, all of it");
    }
    return out;
}

static const struct {
    const char *name;
    enum tier tier;
} tiers[] = {
    {"disputed", TIER_DISPUTED},
    {"ai_generated", TIER_AI_GENERATED},
    {"reported", TIER_REPORTED},
    {"corroborated", TIER_CORROBORATED},
    {"source_verified", TIER_SOURCE_VERIFIED},
    {"reproduced", TIER_REPRODUCED},
    // Of the format from which the founding one descends.
    {"auto_generated", TIER_AI_GENERATED},
    {"human_reviewed", TIER_REPORTED},
    {"community_verified", TIER_CORROBORATED},
};

static enum tier tier_of(struct loader *l, const cJSON *object, const char *name) {
    const char *value = text_or(l, object, name, NULL);
    if (!value) return l->tier;
    for (size_t i = 0; i < sizeof tiers / sizeof tiers[0]; i++)
        if (!strcmp(value, tiers[i].name)) return tiers[i].tier;
    complain(l, line_of(l, name), "there is no tier \"%s\": taken as ai_generated", value);
    return TIER_AI_GENERATED;
}

// ---- parts of a record ----------------------------------------------------------------------

static void read_cause(struct loader *l, const cJSON *json, struct record_cause *out) {
    const cJSON *cause = member(json, "root_cause");
    out->tier = l->tier;
    if (cJSON_IsObject(cause)) {
        out->text = both(l, cause, "text");
        out->hypothesis = both(l, cause, "hypothesis");
        out->tier = tier_of(l, cause, "tier");
        out->sources = texts(l, cause, "sources");
    } else {
        out->text = both(l, json, "root_cause");
        out->hypothesis.text[LANGUAGE_EN] = "";
    }
}

static void read_action(struct loader *l, const cJSON *json, const char *rate,
                        struct record_action *out) {
    *out = (struct record_action){.tier = l->tier, .stated_rate = -1};
    if (cJSON_IsString(json)) {
        out->action.text[LANGUAGE_EN] = json->valuestring;
        out->why_fails = out->condition = out->warning = (struct bilingual){{"", NULL}};
        return;
    }
    out->action = both(l, json, "action");
    out->why_fails = both(l, json, "why_fails");
    out->condition = both(l, json, "condition");
    out->warning = both(l, json, "warning");
    out->env = texts(l, json, "env");
    out->tier = tier_of(l, json, "tier");
    out->sources = texts(l, json, "sources");
    out->tried = count_of(l, json, "n");
    out->worked = count_of(l, json, "k");
    out->stated_rate = number_or(l, json, rate, -1);
}

// Founding records have the Chinese actions in a list beside the English one.
static const struct record_action *read_actions(struct loader *l, const cJSON *json,
                                                const char *name, const char *name_zh,
                                                const char *rate, size_t *count) {
    const cJSON *list = array(l, json, name), *item;
    struct record_action *out = items(list) ? take(l, items(list), sizeof *out) : NULL;
    *count = 0;
    if (!out) return NULL;
    struct strings zh = texts(l, json, name_zh);
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsObject(item) && !cJSON_IsString(item)) {
            wrong(l, name, "a list of objects, all of it");
            continue;
        }
        struct record_action *action = &out[*count];
        read_action(l, item, rate, action);
        if (!action->action.text[LANGUAGE_ZH] && *count < zh.count)
            action->action.text[LANGUAGE_ZH] = zh.item[*count];
        ++*count;
    }
    return out;
}

static void read_dispute(struct loader *l, const cJSON *json, struct record_dispute *out) {
    const char *verdict = text(l, json, "verdict");
    out->claim = both(l, json, "claim");
    out->verdict = !strcmp(verdict, "false") ? CLAIM_FALSE : CLAIM_DOUBTFUL;
    out->evidence[LANGUAGE_EN] = texts(l, json, "evidence");
    out->evidence[LANGUAGE_ZH] = texts(l, json, "evidence_zh");
    out->checked_on = text(l, json, "checked_on");
    out->checked_against = both(l, json, "checked_against");
    out->see = text(l, json, "see");
    out->stated_rate = number_or(l, json, "stated_rate", -1);
}

static void read_code(struct loader *l, const cJSON *json, struct record_code *out) {
    out->api = text(l, json, "api");
    out->has_code = whole(l, json, "code", &out->code);
    out->name = text(l, json, "name");
    out->disputed = cJSON_IsTrue(member(json, "disputed"));
}

static void read_version(struct loader *l, const cJSON *json, struct record_version *out) {
    out->version = text(l, json, "version");
    out->behavior_change = both(l, json, "behavior_change");
}

static void read_codes(struct loader *l, const cJSON *json, struct record *r) {
    const cJSON *list = array(l, json, "codes"), *item;
    const cJSON *single = member(json, "error_code"); // founding records: a name or a number
    struct record_code *code = take(l, items(list) + 1, sizeof *code);
    r->code = code;
    if (!code) return;
    cJSON_ArrayForEach(item, list) {
        if (cJSON_IsObject(item))
            read_code(l, item, &code[r->codes++]);
        else
            wrong(l, "codes", "a list of objects, all of it");
    }
    if (!single || r->codes) return;
    code->api = code->name = "";
    if (cJSON_IsString(single))
        code->name = single->valuestring;
    else
        code->has_code = whole(l, json, "error_code", &code->code);
    r->codes = code->has_code || *code->name;
}

static struct record_edges read_edges(struct loader *l, const cJSON *graph, const char *name) {
    const cJSON *list = array(l, graph, name), *item;
    size_t n = items(list);
    struct record_edge *edge = n ? take(l, n, sizeof *edge) : NULL;
    struct record_edges out = {edge, 0};
    if (!edge) return out;
    cJSON_ArrayForEach(item, list) {
        struct record_edge e = {"", {{"", NULL}}, {{"", NULL}}};
        if (cJSON_IsString(item)) {
            e.id = item->valuestring;
        } else if (cJSON_IsObject(item)) {
            e.id = text(l, item, "error_id");
            e.condition = both(l, item, "condition");
            e.distinction = both(l, item, "distinction");
        }
        if (*e.id)
            edge[out.count++] = e;
        else
            complain(l, line_of(l, name), "\"%s\" has an entry without an id: left out", name);
    }
    return out;
}

static void read_fields(struct loader *l, const cJSON *json, struct record *r) {
    const cJSON *fields = member(json, "fields"), *item;
    size_t n = cJSON_IsObject(fields) ? items(fields) : 0;
    struct record_field *field = n ? take(l, n, sizeof *field) : NULL;
    r->field = field;
    if (fields && !cJSON_IsObject(fields)) wrong(l, "fields", "an object");
    if (!field) return;
    cJSON_ArrayForEach(item, fields) {
        field[r->fields].name = item->string;
        field[r->fields++].sentinel = both(l, item, "sentinel");
    }
}

static const char *const severities[SEVERITIES] = {"note", "warning", "error", "fatal"};

static enum severity read_severity(struct loader *l, const cJSON *json) {
    const char *value = text_or(l, json, "severity", "error");
    for (size_t i = 0; i < SEVERITIES; i++)
        if (!strcmp(value, severities[i])) return (enum severity)i;
    complain(l, line_of(l, "severity"), "there is no severity \"%s\": taken as error", value);
    return SEVERITY_ERROR;
}

static void read_lists(struct loader *l, const cJSON *json, struct record *r) {
    const cJSON *list, *item, *graph = member(json, "transition_graph");
    r->templates = texts(l, json, "templates");
    r->recovered_by = texts(l, json, "recovered_by");
    r->examples = texts(l, json, "examples");
    r->sources = texts(l, json, "sources");
    r->tags = texts(l, json, "tags");
    read_codes(l, json, r);
    read_fields(l, json, r);
    r->workaround =
        read_actions(l, json, "workarounds", "workarounds_zh", "success_rate", &r->workarounds);
    r->dead_end = read_actions(l, json, "dead_ends", "dead_ends_zh", "fail_rate", &r->dead_ends);
    list = array(l, json, "disputed");
    struct record_dispute *dispute = items(list) ? take(l, items(list), sizeof *dispute) : NULL;
    r->dispute = dispute;
    if (dispute) cJSON_ArrayForEach(item, list) read_dispute(l, item, &dispute[r->disputes++]);
    list = array(l, json, "versions");
    struct record_version *version = items(list) ? take(l, items(list), sizeof *version) : NULL;
    r->version = version;
    if (version) cJSON_ArrayForEach(item, list) read_version(l, item, &version[r->versions++]);
    r->leads_to = read_edges(l, graph, "leads_to");
    r->preceded_by = read_edges(l, graph, "preceded_by");
    r->confused_with = read_edges(l, graph, "frequently_confused_with");
}

static void read_record(struct loader *l, const cJSON *json, struct record *r) {
    r->json = json;
    r->file = l->file;
    r->founding = !member(json, "schema");
    l->tier = TIER_AI_GENERATED;
    l->tier = r->tier = tier_of(l, json, "verification_tier");
    // A disproved identification says nothing about each piece of advice; its claims name their
    // own.
    if (l->tier == TIER_DISPUTED) l->tier = TIER_AI_GENERATED;
    r->signature = text(l, json, "signature");
    r->title = both(l, json, member(json, "title") ? "title" : "signature");
    r->domain = text(l, json, "domain");
    r->category = text(l, json, "category");
    r->severity = read_severity(l, json);
    r->regex = text(l, json, "regex");
    r->first_seen = text(l, json, "first_seen");
    r->last_updated = text(l, json, "last_updated");
    r->stated_confidence = number_or(l, json, "confidence", -1);
    read_cause(l, json, &r->cause);
    read_lists(l, json, r);
}

// ---- the table of records -------------------------------------------------------------------

static size_t hash(const char *id) {
    size_t h = 14695981039346656037u; // FNV-1a
    for (; *id; id++) h = (h ^ (unsigned char)*id) * 1099511628211u;
    return h;
}

// The slot that has the id, or the free one where it belongs.
static size_t *slot_of(const struct knowledge *knowledge, const char *id) {
    for (size_t i = hash(id);; i++) {
        size_t *slot = &knowledge->slot[i & (knowledge->slots - 1)];
        if (!*slot || !strcmp(knowledge->record[*slot - 1]->id, id)) return slot;
    }
}

// Room for one more record and its tree.
static bool make_room(struct knowledge *knowledge) {
    if (knowledge->count == knowledge->room) {
        size_t room = knowledge->room ? 2 * knowledge->room : 128;
        void *larger = realloc((void *)knowledge->record, room * sizeof *knowledge->record);
        if (!larger) return false;
        knowledge->record = larger;
        larger = realloc((void *)knowledge->tree, room * sizeof *knowledge->tree);
        if (!larger) return false;
        knowledge->tree = larger;
        knowledge->room = room;
    }
    if (2 * knowledge->count < knowledge->slots) return true;
    size_t slots = 2 * knowledge->slots;
    size_t *slot = slots ? calloc(slots, sizeof *slot) : NULL;
    if (!slot) return false;
    free(knowledge->slot);
    knowledge->slot = slot;
    knowledge->slots = slots;
    for (size_t i = 0; i < knowledge->count; i++)
        *slot_of(knowledge, knowledge->record[i]->id) = i + 1;
    return true;
}

// ^[a-z0-9-]+(/[a-z0-9._-]+){1,2}$
static bool id_valid(const char *id) {
    size_t segments = 0, length = strlen(id);
    if (length > LONGEST_ID) return false;
    for (;; segments++) {
        size_t n = strspn(id, segments ? "abcdefghijklmnopqrstuvwxyz0123456789._-"
                                       : "abcdefghijklmnopqrstuvwxyz0123456789-");
        id += n;
        if (!n || (*id && *id != '/')) return false;
        if (!*id) return segments == 1 || segments == 2;
        id++;
    }
}

// Why the object cannot be a record; false then.
static bool acceptable(struct loader *l, const cJSON *json) {
    const cJSON *schema = member(json, "schema"), *id = member(json, "id");
    if (!cJSON_IsObject(json)) {
        complain(l, 1, "is no JSON object, so no record");
    } else if (schema &&
               (!cJSON_IsString(schema) || strcmp(schema->valuestring, KNOWLEDGE_SCHEMA) != 0)) {
        complain(l, line_of(l, "schema"),
                 "is of schema \"%s\"; only \"" KNOWLEDGE_SCHEMA
                 "\" and records without one (founding format) are read",
                 cJSON_IsString(schema) ? schema->valuestring : "?");
    } else if (!cJSON_IsString(id)) {
        complain(l, 1, "has no \"id\"");
    } else if (!id_valid(id->valuestring)) {
        complain(l, line_of(l, "id"),
                 "\"%s\" is no id: two or three parts of a-z, 0-9 and -, as in "
                 "\"cuda/out-of-memory\"",
                 id->valuestring);
    } else {
        size_t known = *slot_of(l->knowledge, id->valuestring);
        if (!known) return true;
        complain(l, line_of(l, "id"), "%s is there already, from %s: this one is left out",
                 id->valuestring, l->knowledge->record[known - 1]->file);
    }
    return false;
}

// ---- the text of a file ---------------------------------------------------------------------

// The length of the UTF-8 character at `at`, 0 if there is none: no overlong forms, no surrogates.
static size_t utf8_length(const unsigned char *at, size_t length) {
    unsigned char c = at[0];
    size_t n = c < 0x80                ? 1
               : c >= 0xc2 && c < 0xe0 ? 2
               : c >= 0xe0 && c < 0xf0 ? 3
               : c >= 0xf0 && c < 0xf5 ? 4
                                       : 0;
    if (!n || n > length) return 0;
    for (size_t i = 1; i < n; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    if ((c == 0xe0 && at[1] < 0xa0) || (c == 0xed && at[1] > 0x9f) || (c == 0xf0 && at[1] < 0x90) ||
        (c == 0xf4 && at[1] > 0x8f))
        return 0;
    return n;
}

// What cJSON would not say, or not in words that help.
static bool readable(struct loader *l) {
    const unsigned char *bytes = (const unsigned char *)l->bytes;
    size_t depth = 0, line = 1;
    bool quoted = false;
    for (size_t i = 0, n; i < l->length; i += n) {
        n = utf8_length(bytes + i, l->length - i);
        if (!n) {
            complain(l, line, "is not UTF-8: byte 0x%02x at offset %zu", bytes[i], i);
            return false;
        }
        if (n > 1) continue;
        switch (bytes[i]) {
        case 0:
            complain(l, line, "has a NUL byte at offset %zu", i);
            return false;
        case '\n':
            line++;
            break;
        case '"':
            quoted = !quoted;
            break;
        case '\\':
            n = quoted && i + 1 < l->length && bytes[i + 1] < 0x80 ? 2 : 1;
            break;
        case '[':
        case '{':
            if (!quoted && ++depth > DEPTH) {
                complain(l, line, "is nested deeper than %d", DEPTH);
                return false;
            }
            break;
        case ']':
        case '}':
            depth -= !quoted && depth;
            break;
        default:
            break;
        }
    }
    return true;
}

// The tree, or NULL with a complaint.
static cJSON *parse(struct loader *l) {
    const char *end = NULL;
    cJSON *json = cJSON_ParseWithLengthOpts(l->bytes, l->length, &end, 0);
    size_t at = end ? (size_t)(end - l->bytes) : 0;
    if (json) {
        while (at < l->length && isspace((unsigned char)l->bytes[at])) at++;
        if (at >= l->length) return json;
        cJSON_Delete(json);
        complain(l, line_at(l->bytes, at), "something follows the record's closing brace");
        return NULL;
    }
    // cJSON points at the last byte when it misses more.
    if (at + 1 >= l->length)
        complain(l, line_at(l->bytes, l->length), "is not valid JSON: it ends too early");
    else
        complain(l, line_at(l->bytes, at), "is not valid JSON here: %.*s",
                 (int)(l->length - at < 20 ? l->length - at : 20), l->bytes + at);
    return NULL;
}

size_t record_load(struct knowledge *knowledge, const char *file, const char *bytes, size_t length,
                   bool bundled, knowledge_complaint *function, void *context) {
    struct loader l = {.knowledge = knowledge,
                       .file = file,
                       .bytes = bytes,
                       .length = length,
                       .complain = function,
                       .context = context};
    if (length > RECORD_BYTES) {
        complain(&l, 0, "is larger than %d bytes, so no record", RECORD_BYTES);
        return 0;
    }
    // The tests have read the bundled records; start-up need not do so each time.
    if (!bundled && !readable(&l)) return 0;
    cJSON *json = parse(&l);
    if (!json) return 0;
    if (!acceptable(&l, json)) {
        cJSON_Delete(json);
        return 0;
    }
    struct record *r = take(&l, 1, sizeof *r);
    char *name = bundled ? NULL : take(&l, strlen(file) + 1, 1);
    if (r && (bundled || name) && make_room(knowledge)) {
        if (name) l.file = strcpy(name, file);
        read_record(&l, json, r);
        r->bundled = bundled;
        r->id = member(json, "id")->valuestring;
        if (!l.no_memory) {
            knowledge->tree[knowledge->trees++] = json;
            knowledge->record[knowledge->count++] = r;
            *slot_of(knowledge, r->id) = knowledge->count;
            return 1;
        }
    }
    complain(&l, 0, "no memory");
    cJSON_Delete(json);
    return 0;
}

size_t knowledge_load_text(struct knowledge *knowledge, const char *file, const char *bytes,
                           size_t length, knowledge_complaint *function, void *context) {
    return record_load(knowledge, file, bytes, length, false, function, context);
}

// ---- asking ---------------------------------------------------------------------------------

size_t knowledge_count(const struct knowledge *knowledge) {
    return knowledge->count;
}

const struct record *knowledge_get(const struct knowledge *knowledge, size_t i) {
    return knowledge->record[i];
}

const struct record *knowledge_find(const struct knowledge *knowledge, const char *id) {
    size_t known = *slot_of(knowledge, id);
    return known ? knowledge->record[known - 1] : NULL;
}

const char *record_text(const struct bilingual *text, enum language language) {
    const char *words = language < LANGUAGES ? text->text[language] : NULL;
    if (!words) words = text->text[LANGUAGE_EN];
    return words ? words : "";
}

const struct strings *dispute_evidence(const struct record_dispute *dispute,
                                       enum language language) {
    const struct strings *own = language < LANGUAGES ? &dispute->evidence[language] : NULL;
    return own && own->count ? own : &dispute->evidence[LANGUAGE_EN];
}

const struct bilingual *record_sentinel(const struct record *record, const char *field) {
    for (size_t i = 0; i < record->fields; i++)
        if (!strcmp(record->field[i].name, field)) return &record->field[i].sentinel;
    return NULL;
}

double record_confidence(const struct record *record, enum tier tier) {
    static const double cap[TIERS] = {0, 0.3, 0.5, 0.7, 0.9, 0.95};
    double stated = record->stated_confidence;
    return stated >= 0 && stated < cap[tier] ? stated : cap[tier];
}

static const char *const tier_names[LANGUAGES][TIERS] = {
    {"known to be untrue", "unverified", "reported once", "reported by several",
     "read in the program's source", "reproduced by a test"},
    {"已知不实", "未经核实", "有一份报告", "有多份独立报告", "已对照程序源代码", "已由测试复现"},
};

const char *tier_id(enum tier tier) {
    return tiers[tier].name; // the first TIERS rows are in the order of the values
}

const char *tier_name(enum tier tier, enum language language) {
    return tier_names[language < LANGUAGES ? language : LANGUAGE_EN][tier];
}

const char *severity_id(enum severity severity) {
    return severities[severity];
}

const char *severity_name(enum severity severity, enum language language) {
    static const char *const zh[SEVERITIES] = {"提示", "警告", "错误", "致命错误"};
    return language == LANGUAGE_ZH ? zh[severity] : severities[severity];
}

const char *claim_verdict_id(enum claim_verdict verdict) {
    return verdict == CLAIM_FALSE ? "false" : "doubtful";
}
