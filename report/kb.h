// SPDX-License-Identifier: Apache-2.0
//
// What the commands know: the records that come with memwatch and those of users' folders.
#ifndef MEMWATCH_KB_H
#define MEMWATCH_KB_H

#include "record.h"

// The help's lines on where records come from, for all commands that take --kb.
#define KB_HELP                                                                                    \
    "      --kb PATH        records of a folder or file beside the bundled ones; may\n"            \
    "                       be given several times. MEMWATCH_KB is a list of more,\n"              \
    "                       parted by ':'\n"

// The paths that --kb options named, in their order. The strings are argv's.
#define KB_PATHS 32
struct kb_paths {
    const char *path[KB_PATHS];
    size_t count;
};
// False if there are too many.
bool kb_paths_add(struct kb_paths *paths, const char *path);

// The bundled records, then those of `paths` (may be NULL), then those of MEMWATCH_KB. What cannot
// be read is told on standard error, with file and line; the rest is loaded. Never NULL: without
// memory the program ends. The caller frees with knowledge_free().
struct knowledge *kb_open(const struct kb_paths *paths);

#endif
