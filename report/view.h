// SPDX-License-Identifier: Apache-2.0
//
// How sites are looked at: by what they are sorted and grouped, and how many are shown.
#ifndef MEMWATCH_VIEW_H
#define MEMWATCH_VIEW_H

#include <stdbool.h>

enum sort_key { SORT_LIVE, SORT_PEAK, SORT_ALLOCATED, SORT_FAILED, SORT_AGE, SORTS };
enum grouping {
    GROUP_SITE,     // each stack, call, device and space by itself
    GROUP_LINE,     // the innermost line of the program's own code
    GROUP_FUNCTION, // the function that holds that line
    GROUP_THREAD,
    GROUP_DEVICE,
    GROUP_MODULE, // the file that this code is in: a Python source file, an object file
    GROUPS
};

struct view {
    enum sort_key sort;
    enum grouping group;
    unsigned limit;  // of sites or groups that are shown
    bool all_frames; // also those that say nothing to the program's author
};
#define VIEW_LIMIT   10u
#define VIEW_DEFAULT ((struct view){.limit = VIEW_LIMIT})

// The word of --sort and --group-by; false if it is none.
bool view_sort(const char *word, enum sort_key *out);
bool view_group(const char *word, enum grouping *out);
// All of them by number; NULL behind the last.
const char *view_sort_name(unsigned sort);
const char *view_group_name(unsigned group);

#endif
