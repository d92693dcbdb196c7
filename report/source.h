// SPDX-License-Identifier: Apache-2.0
//
// What `memwatch report` can read: a ledger, or a report that was made of one. Either becomes the
// same document.
#ifndef MEMWATCH_SOURCE_H
#define MEMWATCH_SOURCE_H

#include "check.h"
#include "emit.h"
#include "memwatch.h"

struct source {
    cJSON *report; // NULL if it could not be read
    bool is_ledger;
    bool alive;         // a ledger whose process still runs
    struct check check; // of a ledger
    char error[512];    // what is wrong and what to do, without the file's name
};

// Reads a file. EXIT_OK, EXIT_DAMAGED or EXIT_NOTHING (no such file). Call source_free after
// either. A report's sites are what they are; of a ledger they are listed as `naming` says.
enum exit_code source_read(const char *path, const struct naming *naming, struct source *out);
void source_free(struct source *source);

// Finds what there is of a process: its ledger, else its latest report in the working directory, in
// $MEMWATCH_DIR or in the user's state directory. False: nothing.
bool source_find(long pid, char *path, size_t bytes);

// Is this a name of a ledger, of a report?
bool is_ledger_name(const char *name);
bool is_report_name(const char *name);

#endif
