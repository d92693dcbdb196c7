// SPDX-License-Identifier: Apache-2.0
//
// A model → the JSON report (report/schema.json) → text for a terminal. The text is made from the
// JSON alone, so that it can be made from a ledger and from a report that was written long ago.
#ifndef MEMWATCH_EMIT_H
#define MEMWATCH_EMIT_H

#include "check.h"
#include "json.h"
#include "model.h"
#include "resolver.h"
#include "view.h"

#include <stdio.h>

// What sites are listed, and who names their native frames.
struct naming {
    struct resolver *resolver;
    unsigned limit_ms; // for that; 0 = not at all
    enum sort_key sort;
};

// The report as a document; the caller frees with cJSON_Delete. `path` is the ledger's, `alive`
// whether its process still runs.
cJSON *report_document(const struct model *m, const struct check *c, const char *path, bool alive,
                       const struct naming *naming);

// Looks again for the names that are missing in a report (resolve_report.c).
void report_resolve(cJSON *report, const struct naming *naming);

// Prints a report in at most 80 columns. Control characters of names become '?': a terminal must
// not obey them.
void print_report(FILE *out, const cJSON *report, const struct view *view);
// Its part about findings, and, if the program ended badly, what it printed last (text_findings.c).
void print_findings(FILE *out, const cJSON *report);
void print_last_words(FILE *out, const cJSON *report);
// Its part about PyTorch's own books (text_torch.c).
void print_torch(FILE *out, const cJSON *report);
// Its part about sites, or groups of them (text_sites.c).
void print_sites(FILE *out, const cJSON *report, const struct view *view);

// Text that may be printed: `text` in at most `width` columns (one a code point), control
// characters replaced, "..." where it was cut. NULL gives "?". Returns `out`.
#define FIT_TEXT 324 // COLUMNS code points of four bytes
const char *fit(char out[FIT_TEXT], const char *text, unsigned width);
unsigned fit_columns(const char *fitted); // how many it takes

// What a process runs, by its argv: of an interpreter the script or module, without folders. NULL:
// it is not known. program_word() tells which word of argv that is, -1 = none.
const char *program_name(const cJSON *process);
int program_word(const cJSON *argv);

// What a thread of the report is called: by Python if it has a name there, else by the kernel. In
// at most `width` columns, cut in the middle: threads of a pool differ at the end.
const char *thread_label(const cJSON *thread, unsigned width, char out[FIT_TEXT]);

#define NO_MEMORY_OF_ITS_OWN                                                                       \
    "* no memory of its own: views, tensors, address space, others' memory\n"

// Is the space of an account, a site or a total of the report memory of its own?
bool counted_as_memory(const cJSON *report, const cJSON *account);

// What a site or a total of the report held when the process ended, or when Python began to end if
// it did: its end lets go of everything. Did it free anything?
uint64_t held_bytes(const cJSON *object);
uint64_t held_blocks(const cJSON *object);
bool python_freed_at_exit(const cJSON *report);

// What stands for a site of the report: "train.py:42 in Model.forward". NULL if there is no such
// site; else `out`, in at most SITE_WIDTH columns.
#define SITE_WIDTH 60
const char *site_label(const cJSON *report, int64_t index, char out[FIT_TEXT]);
// The line that made a failed call of the report; NULL if no line of it is known.
const char *failure_label(const cJSON *report, const cJSON *failure, char out[FIT_TEXT]);

// `text` in lines of 80 columns, each indented, with control characters replaced.
void print_wrapped(FILE *out, const char *text, unsigned indent);

#endif
