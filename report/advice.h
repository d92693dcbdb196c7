// SPDX-License-Identifier: Apache-2.0
//
// How a matched record is told: what was observed, what it matched, how well that is known, and
// only then what helps and what does not. A claim that is known to be false is shown as such and
// never as advice. `memwatch diagnose`, `memwatch explain` and the reports say it with the same
// words.
#ifndef MEMWATCH_ADVICE_H
#define MEMWATCH_ADVICE_H

#include "counters.h"
#include "incidents.h"
#include "json.h"
#include "language.h"

#include <stdio.h>

// "en", "zh" and what begins so ("zh_CN.UTF-8"). False: no language of ours.
bool language_parse(const char *text, enum language *out);
// What LC_ALL, LC_MESSAGES and LANG ask for; English if nothing.
enum language language_of_environment(void);

// Which message stands in which text, for who prints several.
struct observation {
    const struct incident *incident;
    const char *source; // name of the text; NULL: it has none
};

// How much of a record's claims is told.
enum advice_detail {
    ADVICE_NONE,  // they have been told already
    ADVICE_SHORT, // what it is, the first things to do and not to do, and where the rest is
    ADVICE_WHOLE
};

// Several incidents of one record, `seen[0 .. count)`: each of them, then the record's claims once.
void advice_print(FILE *out, const struct knowledge *knowledge, const struct observation *seen,
                  size_t count, enum advice_detail detail, enum language language);

// A record's claims alone: cause, what helps, what does not, false claims, what it is confused
// with.
void advice_print_record(FILE *out, const struct knowledge *knowledge, const struct record *record,
                         enum language language);

// What was observed and what it matched; and a record's claims. New objects, which the caller owns.
cJSON *advice_json_incident(const struct observation *seen, enum language language);
cJSON *advice_json_record(const struct knowledge *knowledge, const struct record *record,
                          enum language language);

// ---- the numbers in a message (advice_numbers.c) --------------------------------------------

#define READING_SIBLINGS 8

struct reading {
    struct counter_context context;
    struct counter_sibling sibling[READING_SIBLINGS]; // context.siblings
    struct counter_class class[COUNTER_CLASSES];
    size_t classes;
    enum counter_verdict verdict;
    // What the record says that the largest number means here; NULL: nothing.
    const struct bilingual *sentinel;
};

// What the incident's i-th field really is. False if it is no byte count. `out` must stay where it
// is while context is used.
bool advice_read_field(const struct incident *incident, size_t i, struct reading *out);

// Is it worth a word? Sentinels that the record knows are.
bool advice_reading_matters(const struct reading *reading);

#endif
