// SPDX-License-Identifier: Apache-2.0
//
// Starting the `memwatch` program as a companion of the watched process. See monitor.c.
#ifndef MEMWATCH_MONITOR_H
#define MEMWATCH_MONITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Blocks every signal of this thread and returns the mask before; restores it.
uint64_t mw_block_signals(void);
void mw_restore_signals(uint64_t before);

// Starts `program` with `arguments` (NULL-terminated, arguments[0] included), LD_PRELOAD taken out
// of its environment, in a session of its own, as no child of ours. Its descriptor 3 is a pidfd of
// the calling process, where the kernel has them. With `wait`, it is something else, and this
// returns when it ended (at most ten seconds later). True if it was started. Uses no malloc; leaves
// no zombie and no SIGCHLD to the watched program.
bool mw_companion_start(const char *program, char *const arguments[], bool wait);

// Finds the memwatch program: `option` if not empty, else beside the library, else ../bin/memwatch
// from the library's folder. False if there is none.
bool mw_companion_find(const char *option, char *path, size_t size);

#endif
