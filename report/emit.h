// SPDX-License-Identifier: Apache-2.0
//
// A model → the JSON report (report/schema.json) → text for a terminal. The text is made from the
// JSON alone, so that it can be made from a ledger and from a report that was written long ago.
#ifndef MEMWATCH_EMIT_H
#define MEMWATCH_EMIT_H

#include "check.h"
#include "json.h"
#include "model.h"

#include <stdio.h>

// The report as a document; the caller frees with cJSON_Delete. `path` is the ledger's, `alive`
// whether its process still runs.
cJSON *report_document(const struct model *m, const struct check *c, const char *path, bool alive);

// Prints a report in at most 80 columns. Control characters of names become '?': a terminal must
// not obey them.
void print_report(FILE *out, const cJSON *report);

// Text that may be printed: `text` in at most `width` columns (one a code point), control
// characters replaced, "..." where it was cut. NULL gives "?". Returns `out`.
#define FIT_TEXT 324 // COLUMNS code points of four bytes
const char *fit(char out[FIT_TEXT], const char *text, unsigned width);

// `text` in lines of 80 columns, each indented, with control characters replaced.
void print_wrapped(FILE *out, const char *text, unsigned indent);

#endif
