// SPDX-License-Identifier: Apache-2.0
//
// `memwatch run` reads its program's standard error along, since the library sees only what passes
// through write and writev, not what C's stdio prints. The program gets the end of a pipe, or,
// where standard error is a terminal, of a pseudo-terminal, so that isatty(2) stays true. A process
// of its own copies what comes out to where it should go, and keeps its beginning and end
// (capture.h).
//
// Where standard output and standard error are one terminal, nothing is done unless somebody
// insists: what is printed to the one would overtake what was printed to the other (Python's prompt
// comes before the traceback that it follows).
//
// That process lives until nobody holds the program's end any more. So whatever the program leaves
// running can go on printing when `run` is long gone, and when it was killed.
#ifndef MEMWATCH_RELAY_H
#define MEMWATCH_RELAY_H

#include <stdbool.h>
#include <sys/types.h>

struct relay {
    int end;       // what the program gets; -1: standard error is passed on as it is
    bool both;     // standard output goes there, too: both are one file, and keep their order
    bool terminal; // the end is a pseudo-terminal's
    int orders;    // the pipe that the copying process takes orders from; -1: there is none
    char why[160]; // why it is passed on as it is, if it need not be so; else ""
};

// After journal_create(), with all signals blocked, and before this process becomes a subreaper:
// the copying process is nobody's child.
void relay_start(struct relay *r, bool insist);

// In the child that becomes the program.
void relay_become(const struct relay *r);

// Closes this process's copy of the program's end.
void relay_started(struct relay *r);

// The terminal has another size: passes it on, and then the signal once more, since the program may
// have looked before.
void relay_resized(const struct relay *r, pid_t program);

// Waits until all that was printed before has been copied, or until nobody can copy it any more.
// Calls `idle` meanwhile, as run_reports_finish() does.
void relay_settle(const struct relay *r, bool (*idle)(void *), void *argument);

// Removes the files.
void relay_remove(void);

#endif
