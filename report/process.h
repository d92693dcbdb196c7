// SPDX-License-Identifier: Apache-2.0
//
// Processes that are not ours: do they live, are they still the same one, how did they end.
//
// A pid alone names nobody: it is given to another process as soon as its owner was reaped. So
// every question takes the start time as well (field 22 of /proc/PID/stat, in clock ticks since
// boot), and 0 stands for "not known", as in the ledger's header.
//
// All functions are thread-safe, keep no state and print nothing.
#ifndef MEMWATCH_PROCESS_H
#define MEMWATCH_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum process_life {
    PROCESS_GONE,   // no such process, or another one has its pid
    PROCESS_ZOMBIE, // dead, its parent has not asked for its status yet
    PROCESS_RUNNING // has a thread that can still run
};

struct process_stat {
    char state; // as in /proc/PID/stat: R, S, D, T, t, Z, X, I
    pid_t ppid;
    uint64_t start_ticks;
    int status;        // as wait(2) would give it; only for a zombie
    bool status_known; // false: not a zombie, or the kernel hides the status from us
};

// Reads /proc/PID/stat. False: no such process, or no /proc.
bool process_read_stat(pid_t pid, struct process_stat *out);

// Without /proc it can only tell that somebody has this pid, and says PROCESS_RUNNING.
enum process_life process_life(pid_t pid, uint64_t start_ticks);

// A descriptor that becomes readable when the process is dead; close-on-exec. -1 with errno: ESRCH
// no such process, ENOSYS a kernel older than 5.3, or a sandbox.
int process_open(pid_t pid);

// How the process behind a pidfd ended, as wait(2) would give it. Known from Linux 6.15 on, and
// only once its parent has reaped it. False: not known (yet).
bool process_exit_status(int pidfd, int *status);

// Does the process map a file of this name (last component only, since namespaces and chroots
// change the rest)? 1 yes, 0 no: it executed another program, -1 cannot be told: no permission, no
// /proc, or the process is ending.
int process_maps(pid_t pid, const char *basename);

// Closes this process's descriptors but those given (-1 is none) and, with `standard`, 0 to 2.
void process_close_all_but(const int *keep, size_t count, bool standard);

#endif
