// SPDX-License-Identifier: Apache-2.0
//
// Is what a record says any good? Its expressions compile, match what they should and nothing that
// they should not; the codes and variables that it names exist; each claim has the sources that its
// tier promises; advice says something. Invented records fail here (README.md lists the rules).
#ifndef KNOWLEDGE_LINT_H
#define KNOWLEDGE_LINT_H

#include "record.h"

#include <stdbool.h>
#include <stddef.h>

enum lint_level {
    LINT_NOTE, // could be better
    LINT_ERROR // must not be bundled
};

// `member`: the record's JSON member that is at fault, or "". One line of text.
typedef void lint_finding(void *context, const struct record *record, enum lint_level level,
                          const char *member, const char *text);

struct lint {
    const struct knowledge *knowledge; // where ids are looked up
    // Lines that no record of a real problem may match; those that begin with '#' and blank ones
    // are comments. NULL: none. They stay the caller's.
    const char *negatives;
    size_t negatives_length;
    lint_finding *finding;
    void *context;
};

// The number of errors found. Safe in any thread.
size_t lint_record(const struct lint *lint, const struct record *record);

// Is this an environment variable that some program reads (env_names.def)?
bool lint_env_known(const char *name, size_t length);

// Is there such an error code of the API (error_names.def)? "" is any API. True also for an API
// that the list does not have.
bool lint_code_known(const char *api, const char *name, bool has_code, long long code);

#endif
