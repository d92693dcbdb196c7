// SPDX-License-Identifier: Apache-2.0
//
// What happened, from what was printed: one failure that ranks repeat, tracebacks echo and retries
// print again is one incident.
#ifndef MEMWATCH_INCIDENTS_H
#define MEMWATCH_INCIDENTS_H

#include "match.h"
#include "number.h"
#include "record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INCIDENT_RANKS   64 // of which the numbers are kept
#define INCIDENT_RECORDS 8

// So many incidents are told apart. After that, what repeats a record counts with its last
// incident, and the rest is only counted (incidents_left_out).
#define INCIDENTS_MOST 2000

struct incident_field {
    char name[24];
    const char *type; // as in struct hit_field
    char text[64];    // as printed; cut
    bool has_number;
    struct number number;
};

// How sure the identification is: what the program printed, what a call returned, or both.
enum incident_evidence { EVIDENCE_TEXT = 1, EVIDENCE_CODE = 2 };

// Another record with which an incident has to do.
struct incident_record {
    const struct record *record;
    uint64_t line; // of its first message; 0: the incident's own words fit it
};

struct incident {
    const struct record *record;
    unsigned evidence;      // enum incident_evidence, or-ed
    enum severity severity; // the record's, lowered if it was recovered from
    uint64_t count;         // messages
    // The first message of the record; "" if there is only a code. The match within it.
    char *text;
    size_t match_begin, match_end;
    uint64_t line, last_line; // of this message and of the last one; 0: no text
    uint64_t offset;          // of the match in the text, in bytes
    struct incident_field *field;
    size_t fields;
    int rank[INCIDENT_RANKS]; // whose messages these are: ascending, without repeats
    size_t ranks;
    struct line_origin origin; // of the first message
    double last_seconds;       // time stamp of the last one, NAN without
    // Records that fit the same words, less specifically; and those of failures that followed from
    // this one, by the knowledge's graph.
    struct incident_record also[INCIDENT_RECORDS], consequence[INCIDENT_RECORDS];
    size_t alsos, consequences;
    // What it was recovered by; NULL if it was not.
    char *recovered_text;
    uint64_t recovered_line;
    // The failed calls, if evidence has EVIDENCE_CODE.
    char api[24];
    int64_t code;
    uint64_t calls;
};

struct incidents; // a collection; one thread at a time

struct incidents *incidents_new(const struct knowledge *knowledge); // NULL without memory
void incidents_free(struct incidents *incidents);

// A hits_function: matcher_new(knowledge, incidents_add, incidents).
void incidents_add(void *incidents, const struct hit *hits, size_t count);

// `calls` calls of `api` returned `code`. What text says about it, before or later, gains
// EVIDENCE_CODE; if there is no such text, the code is an incident by itself, of the record that is
// nearest to the API, and the code's other records are its `also`.
void incidents_add_code(struct incidents *incidents, const char *api, int64_t code, uint64_t calls);

// All incidents, those that matter most first: by severity, then by evidence (code and text before
// code before text), then in the order of their first message. The array and what it refers to
// belong to `incidents` and are good until the next call with it.
const struct incident *const *incidents_ranked(struct incidents *incidents, size_t *count);

// How many incidents there are so far, and the i-th in the order of their first message: for who
// prints each when it comes. NULL if there is none.
size_t incidents_count(const struct incidents *incidents);
const struct incident *incidents_get(const struct incidents *incidents, size_t i);

// Messages that belong to none, because there are too many incidents or memory ran out.
uint64_t incidents_left_out(const struct incidents *incidents);

// The incidents of a text in memory. NULL without memory; the caller frees.
struct incidents *incidents_of_text(const struct knowledge *knowledge, const char *text,
                                    size_t length);

#endif
