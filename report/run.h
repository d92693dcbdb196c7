// SPDX-License-Identifier: Apache-2.0
//
// The parts of `memwatch run`: its command line (run_options.c), the program (run.c), its standard
// error (relay.h), the reports at the end (run_reports.c).
#ifndef MEMWATCH_RUN_H
#define MEMWATCH_RUN_H

#include "journal.h"

#include <stdbool.h>
#include <sys/types.h>

struct run_options {
    char **command; // argv of the program, NULL-terminated
    bool quiet;
    bool pass_stderr; // as it is, without reading it along
    bool all_stderr;  // is read along on a terminal, too
};

// Reads the command line and puts what the program shall inherit into our own environment: the
// library in front of LD_PRELOAD, the options. -1: go on; else the exit code, after a line on
// standard error or the help on standard output.
int run_options(int argc, char **argv, struct run_options *out);

// A child that has ended and is not reaped yet: stores how it ended into its ledger, if it has one,
// and adds that to the list. `status` as wait(2) gives it.
void run_reports_ended(struct journal *list, pid_t pid, int status);

// Waits until each ledger whose owner is dead has become a report, renders what nobody else does,
// and prints a line for each report. Calls `idle` while it waits, which may end the wait by
// returning false; it must not take long, but should sleep some milliseconds.
void run_reports_finish(struct journal *list, const struct run_options *options,
                        bool (*idle)(void *), void *argument);

#endif
