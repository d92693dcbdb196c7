// SPDX-License-Identifier: Apache-2.0
//
// What is known about errors: records, one a JSON file, some bundled in the program
// (records/*.json), others from users' folders. README.md tells how they are written, schema.json
// is their schema.
//
// Two formats are read: "memwatch-knowledge/1", and the founding format that it extends, in which
// texts may be missing, empty or null. What is missing reads as "" or 0; nothing here is NULL
// unless it says so. What no program can use (no id, no JSON) is refused with a complaint, and the
// rest still loads. Whether what a record says is any good is lint.h's question, not the loader's.
//
// Everything belongs to the struct knowledge and stays as it is until knowledge_free(); several
// threads may read it.
#ifndef KNOWLEDGE_RECORD_H
#define KNOWLEDGE_RECORD_H

#include "language.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KNOWLEDGE_SCHEMA "memwatch-knowledge/1"

// How well a claim is supported, ascending.
enum tier {
    TIER_DISPUTED,        // known to be untrue
    TIER_AI_GENERATED,    // nobody checked it
    TIER_REPORTED,        // one primary source
    TIER_CORROBORATED,    // two or more that do not depend on each other
    TIER_SOURCE_VERIFIED, // read in the program's source, at a named version or file
    TIER_REPRODUCED       // a test of ours raised it
};
#define TIERS (TIER_REPRODUCED + 1)

enum severity { SEVERITY_NOTE, SEVERITY_WARNING, SEVERITY_ERROR, SEVERITY_FATAL };
#define SEVERITIES (SEVERITY_FATAL + 1)

enum claim_verdict { CLAIM_FALSE, CLAIM_DOUBTFUL };

// A text for people. Chinese may be NULL; English is never. Use record_text().
struct bilingual {
    const char *text[LANGUAGES];
};

struct strings {
    const char **item;
    size_t count;
};

struct record_cause {
    struct bilingual text;
    enum tier tier;
    struct strings sources;
    // What is guessed beyond the facts of `text`; "" mostly.
    struct bilingual hypothesis;
};

// A workaround, or a dead end: something that people try and that does not help.
struct record_action {
    struct bilingual action;
    struct bilingual why_fails; // dead ends
    struct bilingual condition; // workarounds: when it helps
    struct bilingual warning;   // its risk; to be shown in the same place as the action
    struct strings env;         // environment variables that it names
    enum tier tier;
    struct strings sources;
    // Of `tried` attempts `worked` helped; 0 if nobody counted. A rate without counts (founding
    // format) is a guess: only `stated_rate` has it, negative if there is none, and it is not shown
    // as a probability.
    uint64_t tried, worked;
    double stated_rate;
};

// A claim that circulates about this error and is not so. Never advice.
struct record_dispute {
    struct bilingual claim;
    enum claim_verdict verdict;
    struct strings evidence[LANGUAGES]; // Chinese: as many as English, or none
    const char *checked_on;
    struct bilingual checked_against;
    const char *see; // id of the record that has it right, or ""
    double stated_rate;
};

// An edge of the graph to another record, which need not exist: knowledge_find().
struct record_edge {
    const char *id;
    struct bilingual condition, distinction;
};
struct record_edges {
    const struct record_edge *item;
    size_t count;
};

// What a call returns when this happens.
struct record_code {
    const char *api; // "cuda-runtime", "cuda-driver", "nccl", …; "" if the record does not say
    bool has_code;   // else only the name is known
    int64_t code;
    const char *name; // "cudaErrorMemoryAllocation", or ""
    bool disputed;    // no such code exists, the record is about the claim that it does
};

struct record_version {
    const char *version;
    struct bilingual behavior_change;
};

// A field of the templates in which a number that looks impossible is legitimate.
struct record_field {
    const char *name;          // "limit"
    struct bilingual sentinel; // what the largest number means there: "unlimited", "not available"
};

struct record {
    const char *id;
    const char *file; // as complaints name it
    bool bundled;     // comes with the program
    bool founding;    // founding format: no "schema" member
    struct bilingual title;
    const char *domain, *category;
    enum severity severity;
    enum tier tier; // of the identification: that this text means this error
    const char *signature;
    struct strings templates;    // see template.h
    const char *regex;           // imported records have it instead of templates; else ""
    struct strings recovered_by; // templates of later lines that say that it went on
    struct strings examples;
    const struct record_code *code;
    size_t codes;
    const struct record_field *field;
    size_t fields;
    struct record_cause cause;
    const struct record_action *workaround, *dead_end;
    size_t workarounds, dead_ends;
    const struct record_dispute *dispute;
    size_t disputes;
    struct record_edges leads_to, preceded_by, confused_with;
    const struct record_version *version;
    size_t versions;
    struct strings sources, tags;
    const char *first_seen, *last_updated; // "YYYY-MM-DD", or ""
    double stated_confidence;              // negative: none
    const void *json;                      // the cJSON object it was read from
};

struct knowledge;

// A file, or a record in it, that cannot be read: where (line 0: no certain line), and why, in one
// line of text. Called while loading, in the loading thread; may be NULL.
typedef void knowledge_complaint(void *context, const char *file, size_t line, const char *reason);

struct knowledge *knowledge_new(void); // NULL without memory
void knowledge_free(struct knowledge *knowledge);

// Each adds records to what is there and returns how many. An id that is there already stays what
// it was: the later record is left out with a complaint.
size_t knowledge_load_bundled(struct knowledge *knowledge, knowledge_complaint *complain,
                              void *context);
// A folder (its *.json files, in alphabetical order; folders in it are not entered) or one file.
size_t knowledge_load_path(struct knowledge *knowledge, const char *path,
                           knowledge_complaint *complain, void *context);
// The bytes of a file with one record, which may be anything. `file` is the name for complaints.
size_t knowledge_load_text(struct knowledge *knowledge, const char *file, const char *bytes,
                           size_t length, knowledge_complaint *complain, void *context);

size_t knowledge_count(const struct knowledge *knowledge);
// In the order of loading; i < knowledge_count().
const struct record *knowledge_get(const struct knowledge *knowledge, size_t i);
const struct record *knowledge_find(const struct knowledge *knowledge, const char *id); // or NULL

// In the language if the text has it, else in English; never NULL.
const char *record_text(const struct bilingual *text, enum language language);
// What speaks against a claim: in the language, or else in English.
const struct strings *dispute_evidence(const struct record_dispute *dispute,
                                       enum language language);
// What the sentinel means that the record allows in a field, or NULL.
const struct bilingual *record_sentinel(const struct record *record, const char *field);
// How far to trust a claim, from 0 to 1, as its tier and the record's own figure allow.
double record_confidence(const struct record *record, enum tier tier);

// Names as in the files, for people and JSON. Never NULL.
const char *tier_id(enum tier tier);
const char *tier_name(enum tier tier, enum language language);
const char *severity_id(enum severity severity);
const char *severity_name(enum severity severity, enum language language);
const char *claim_verdict_id(enum claim_verdict verdict);

#endif
