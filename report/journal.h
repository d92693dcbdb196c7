// SPDX-License-Identifier: Apache-2.0
//
// How `memwatch run` learns of every report that its program and that program's descendants leave:
// a private file, named in the environment, to which each monitor adds a line when it begins to
// watch a ledger and one when it has written the report. Looking into the report folder instead
// would also find the reports of others, and looking into the ledger folders would miss processes
// that were over before we looked.
#ifndef MEMWATCH_JOURNAL_H
#define MEMWATCH_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rendered; // memwatch.h

struct journal_entry {
    char *ledger;
    char *report;                             // NULL until it is written
    uint64_t live_bytes, live_blocks, losses; // as in struct rendered; known with the report
    bool watched;                             // its monitor has told us of it
    bool failed;                              // it cannot be rendered
};

struct journal {
    struct journal_entry *entry;
    size_t count;
};

// Makes the file and puts its name into this process's environment, for children to inherit. False:
// no folder to put it in; then the functions below do nothing.
bool journal_create(void);

// The file, open in `run` and in the process that copies (relay.h), locked as long as one of them
// lives; -1: there is none. Not for children that execute something else.
int journal_descriptor(void);

// Removes the files of runs that were killed from a folder: nobody has locked them, and nobody has
// written to them for a minute. Returns how many runs' they were.
size_t journal_sweep(const char *folder);

// Is this process, or one of its ancestors, under `memwatch run`?
bool journal_is_kept(void);

// Called by whoever watches a ledger, with NULL, and by whoever has rendered it. No-op outside of
// `run`. Atomic among processes: one write to a file opened for appending.
void journal_note(const char *ledger, const struct rendered *rendered);

// Adds what the file says to the list, one entry a ledger. Free with journal_free.
void journal_read(struct journal *list);
void journal_free(struct journal *list);

// Finds or adds the entry of a ledger. NULL: no memory.
struct journal_entry *journal_entry(struct journal *list, const char *ledger);

// Stores what was rendered.
void journal_rendered(struct journal_entry *entry, const struct rendered *rendered);

// The name of a further file of this run, beside the journal: `what` stands in it for "run". False
// outside of `run`, and if the name is too long.
bool journal_beside(const char *what, char *path, size_t bytes);

// Removes the file. Monitors that still watch then write nothing.
void journal_remove(void);

#endif
