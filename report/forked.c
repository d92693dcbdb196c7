// SPDX-License-Identifier: Apache-2.0
//
// A forked child has its parent's executable and command line, and began when the parent had its
// ledger. So has a program that executed itself with the very same arguments: this is a hint, and
// counts as one.
#include "forked.h"

#include "memwatch.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Is `name` a ledger of this pid? memwatch.<host>[.rank<N>].<pid>.<unix ms>.ledger, read from its
// end, since hosts may hold dots.
static bool is_ledger_of(const char *name, uint32_t pid) {
    char text[NAME_MAX + 1], wanted[16];
    if (strncmp(name, "memwatch.", 9) != 0) return false;
    snprintf(text, sizeof text, "%s", name);
    char *dot = strrchr(text, '.');
    if (!dot || strcmp(dot, ".ledger") != 0) return false;
    *dot = '\0';
    dot = strrchr(text, '.');
    if (!dot) return false;
    *dot = '\0';
    dot = strrchr(text, '.');
    snprintf(wanted, sizeof wanted, "%u", pid);
    return dot && !strcmp(dot + 1, wanted);
}

// Did the child begin before the parent had used a GPU? Then it inherited nothing. Its start is
// told in ticks since boot, which is no less than CLOCK_MONOTONIC tells.
static bool began_before(const struct mw_header *child, const struct mw_header *parent) {
    long ticks = sysconf(_SC_CLK_TCK);
    if (!child->start_ticks || ticks <= 0) return false;
    double began = (double)(child->start_ticks + 1) / (double)ticks;
    return began < (double)parent->start_monotonic_ns / 1e9;
}

static bool is_parent(const struct mw_header *parent, const struct mw_header *child) {
    return parent->pid == child->ppid && !strcmp(parent->boot_id, child->boot_id) &&
           parent->start_monotonic_ns < child->start_monotonic_ns &&
           !strcmp(parent->exe, child->exe) && parent->argv_bytes == child->argv_bytes &&
           !memcmp(parent->argv, child->argv, child->argv_bytes) && !began_before(child, parent);
}

bool forked_from_watched(const struct model *m, const char *ledger) {
    const struct mw_header *child = &m->reader.header;
    char folder[PATH_MAX], path[PATH_MAX];
    bool found = false;
    snprintf(folder, sizeof folder, "%s", ledger);
    char *slash = strrchr(folder, '/');
    if (!slash || !child->argv_bytes) return false;
    slash[1] = '\0';
    DIR *dir = opendir(folder);
    struct reader *parent = allocate(1, sizeof *parent);
    for (struct dirent *e; dir && !found && (e = readdir(dir));) {
        if (!is_ledger_of(e->d_name, child->ppid) ||
            snprintf(path, sizeof path, "%s%s", folder, e->d_name) >= (int)sizeof path ||
            reader_open(parent, path) != READER_OK)
            continue;
        found = is_parent(&parent->header, child);
        reader_close(parent);
    }
    if (dir) closedir(dir);
    free(parent);
    return found;
}
