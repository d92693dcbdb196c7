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
// running can go on printing when `run` is long gone, and when it was killed. While `run` lives it
// starts that process again, should it be killed.
#ifndef MEMWATCH_RELAY_H
#define MEMWATCH_RELAY_H

#include "capture.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

// What the copying process works with.
struct copier {
    int in, out, orders; // -1: none
    bool both, terminal;
    struct capture_writer capture;
};
#define RELAY_NOTHING_KEPT                                                                         \
    {                                                                                              \
        .in = -1, .out = -1, .orders = -1, .capture = {.fd = -1 }                                  \
    }

struct relay {
    int end;            // what the program gets; -1: standard error is passed on as it is
    bool both;          // standard output goes there, too: both are one file, and keep their order
    bool terminal;      // the end is a pseudo-terminal's
    int orders;         // the pipe that the copying process takes orders from; -1: there is none
    pid_t copier;       // the copying process, a child of ours; 0: it has ended, or there was none
    struct copier kept; // for the next one, but for its end of the orders
    char why[160];      // why it is passed on as it is, if it need not be so; else ""
};

// After journal_create() and with all signals blocked.
void relay_start(struct relay *r, bool insist);

// In the child that becomes the program.
void relay_become(const struct relay *r);

// Closes this process's copy of the program's end.
void relay_started(struct relay *r);

// The copying process has ended, as wait(2) tells: reaped, or about to be.
void relay_ended(struct relay *r, int status);

// Which descriptors it needs; -1 is none.
#define RELAY_DESCRIPTORS 4
size_t relay_descriptors(const struct relay *r, int fd[RELAY_DESCRIPTORS]);

// The terminal has another size: passes it on, and then the signal once more, since the program may
// have looked before.
void relay_resized(const struct relay *r, pid_t program);

// Waits until all that was printed before has been copied, or until nobody can copy it any more.
// Calls `idle` meanwhile, as run_reports_finish() does.
void relay_settle(const struct relay *r, bool (*idle)(void *), void *argument);

// Removes the files.
void relay_remove(void);

#endif
