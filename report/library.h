// SPDX-License-Identifier: Apache-2.0
//
// Where libmemwatch.so is, as `memwatch run` and `memwatch doctor` look for it.
#ifndef MEMWATCH_LIBRARY_H
#define MEMWATCH_LIBRARY_H

#include <limits.h>
#include <stdbool.h>

// This program's own path, "" without /proc.
void program_path(char out[PATH_MAX]);

// $MEMWATCH_LIBRARY if set, else beside this program (a build folder), else ../lib or ../lib64 from
// there (an installation). False: in none of them. The path is absolute and without links.
bool library_find(char out[PATH_MAX]);

// What LD_PRELOAD must be for a program under the library: the library, then what stands there
// already; but behind the runtimes of sanitizers, which end the program at once if anything stands
// before them. Unchanged if it has the library. The caller frees. NULL: no memory.
char *library_preload_list(const char *library);

// LD_PRELOAD separates names by these: a path that has one cannot be preloaded.
#define PRELOAD_SEPARATORS " :"

#endif
