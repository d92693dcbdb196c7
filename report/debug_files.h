// SPDX-License-Identifier: Apache-2.0
//
// Where an object file and its debug information lie on this machine. Only files are looked at,
// nothing is fetched.
#ifndef MEMWATCH_DEBUG_FILES_H
#define MEMWATCH_DEBUG_FILES_H

#include <stddef.h>
#include <stdint.h>

// A loaded object file as it was told in the watched process.
struct build {
    const char *path;        // as the loader knew it; may be relative to the process's folder
    const unsigned char *id; // build-id; without one a file is taken for the same by its path
    size_t id_bytes;
};

// Where to look besides the usual places. NULL = nowhere.
struct debug_search {
    const char *debug_dir; // the user's folder: build-id tree, copies of the files, debug files
    const char *cwd;       // what relative paths are relative to
};

// The file that the code came from: itself, a copy, or, if neither is there, its debug file, which
// has the same addresses. Returns a descriptor, or -1 and why not in a few words (*reason). Of
// another build than the one that ran nothing is returned.
int debug_open_object(const struct debug_search *search, const struct build *build,
                      const char **reason);

// Its separate debug information: by build-id, by the link in the file (`link`, may be NULL, whose
// checksum is `crc`), from the local cache of debuginfod. `path` is where the object lies. Returns
// a descriptor and the debug file's path (*found, the caller frees), or -1.
int debug_open_symbols(const struct debug_search *search, const struct build *build,
                       const char *path, const char *link, uint32_t crc, char **found);

#endif
