// SPDX-License-Identifier: Apache-2.0
//
// The words of --sort and --group-by (view.h).
#include "view.h"

#include <string.h>

static const char *const sorts[SORTS] = {[SORT_LIVE] = "live",
                                         [SORT_PEAK] = "peak",
                                         [SORT_ALLOCATED] = "allocated",
                                         [SORT_FAILED] = "failed",
                                         [SORT_AGE] = "age"};
static const char *const groups[GROUPS] = {
    [GROUP_SITE] = "site",     [GROUP_LINE] = "line",     [GROUP_FUNCTION] = "function",
    [GROUP_THREAD] = "thread", [GROUP_DEVICE] = "device", [GROUP_MODULE] = "module"};

static int find(const char *const *words, int count, const char *word) {
    for (int i = 0; i < count; i++)
        if (!strcmp(words[i], word)) return i;
    return -1;
}

bool view_sort(const char *word, enum sort_key *out) {
    int i = find(sorts, SORTS, word);
    if (i >= 0) *out = (enum sort_key)i;
    return i >= 0;
}

bool view_group(const char *word, enum grouping *out) {
    int i = find(groups, GROUPS, word);
    if (i >= 0) *out = (enum grouping)i;
    return i >= 0;
}

const char *view_sort_name(unsigned sort) {
    return sort < SORTS ? sorts[sort] : NULL;
}
const char *view_group_name(unsigned group) {
    return group < GROUPS ? groups[group] : NULL;
}
