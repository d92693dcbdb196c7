// SPDX-License-Identifier: Apache-2.0
//
// Many reports in one table, and as one document: memwatch-folder/1 of schema.json.
#ifndef MEMWATCH_SUMMARY_H
#define MEMWATCH_SUMMARY_H

#include "json.h"

#include <stdbool.h>
#include <stdio.h>

#define SUMMARY_SPACES 32u

struct summary_space {
    char space[24];
    bool memory;
    uint64_t live, live_blocks, held, blocks; // held, in `blocks`: at the exit (held_bytes)
    uint64_t highest_peak, allocations, failed;
};

struct summary {
    FILE *table; // NULL: no table
    cJSON *document, *list, *unreadable;
    unsigned reports;
    unsigned spaces;
    struct summary_space space[SUMMARY_SPACES];
};

// `table`: where a line of each report is printed; NULL = nowhere.
void summary_begin(struct summary *s, FILE *table, const char *folder);
void summary_add(struct summary *s, const char *file, const cJSON *report, bool check_holds);
void summary_add_unreadable(struct summary *s, const char *file, const char *error);
// Prints the totals. The caller deletes the document.
cJSON *summary_end(struct summary *s);

#endif
