// SPDX-License-Identifier: Apache-2.0
//
// Who a ledger belongs to, and how that process ended: the few fields of the header that
// `memwatch run` and `memwatch monitor` need while the process still lives, read without the rest
// of the file, and the one fact they add to it.
//
// The file is hostile input as everywhere in this program: it is read, never mapped.
#ifndef MEMWATCH_OWNER_H
#define MEMWATCH_OWNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct owner {
    pid_t pid;
    uint64_t start_ticks; // 0 = not known
    uint64_t start_monotonic_ns;
    uint32_t life;      // enum mw_life
    uint32_t exit_kind; // enum mw_exit_kind
};

// False: not there, not a ledger, or of another format or byte order.
bool owner_read(const char *ledger, struct owner *out);

// Stores how the owner ended, `status` as wait(2) gives it, unless somebody did already. Whoever
// stores it knew it from the kernel, so two writers store the same. False: could not be written.
bool owner_ended(const char *ledger, int status);

// Stores that the owner went on as another program.
bool owner_executed(const char *ledger);

// Finds the ledger of a process, alive or not yet reaped, in the folders where the library may have
// put it, as the environment tells. False: it has none. The path is absolute unless only the
// working directory was left.
bool owner_find(pid_t pid, uint64_t start_ticks, char *path, size_t bytes);

#endif
