// SPDX-License-Identifier: Apache-2.0
//
// Object files and their debug files (debug_files.h).
//
// The places are those that gdb and elfutils look at: a tree of build-ids, the .gnu_debuglink
// beside the file or under /usr/lib/debug, and what debuginfod's client has fetched before.
// debuginfod itself is never asked: a report must not wait for a network.
#define _GNU_SOURCE // asprintf
#include "debug_files.h"

#include <elfutils/libdwelf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYSTEM_DEBUG "/usr/lib/debug"
#define MAX_ID       64u

// Paths come from a ledger that somebody may have made up: no pipe may make us wait, no device may
// be touched.
static int open_file(const char *path) {
    struct stat st;
    if (!path || stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

enum match { NOT_ELF, OTHER_BUILD, NO_ID, SAME_BUILD };

static enum match match(int fd, const struct build *build) {
    elf_version(EV_CURRENT);
    Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    enum match result = NOT_ELF;
    if (elf && elf_kind(elf) == ELF_K_ELF) {
        const void *id = NULL;
        ssize_t bytes = dwelf_elf_gnu_build_id(elf, &id);
        if (bytes <= 0 || !build->id_bytes)
            result = build->id_bytes ? OTHER_BUILD : NO_ID;
        else
            result = (size_t)bytes == build->id_bytes && !memcmp(id, build->id, build->id_bytes)
                         ? SAME_BUILD
                         : OTHER_BUILD;
    }
    if (elf) elf_end(elf);
    return result;
}

// ---- places ---------------------------------------------------------------------------------

// The build-id as hexadecimal digits, the first two followed by `between`; "" if there is none.
static const char *id_text(const struct build *build, const char *between,
                           char out[2 * MAX_ID + 2]) {
    size_t n = 0;
    out[0] = '\0';
    if (build->id_bytes < 2 || build->id_bytes > MAX_ID) return out;
    for (size_t i = 0; i < build->id_bytes; i++) {
        n += (size_t)sprintf(out + n, "%02x", build->id[i]);
        if (i == 0) n += (size_t)sprintf(out + n, "%s", between);
    }
    return out;
}

// The debug file in a tree of build-ids. The caller frees; NULL = there can be none.
static char *in_tree(const char *root, const struct build *build) {
    char id[2 * MAX_ID + 2], *path = NULL;
    if (!root || !*id_text(build, "/", id)) return NULL;
    return asprintf(&path, "%s/.build-id/%s.debug", root, id) < 0 ? NULL : path;
}

// A file that debuginfod's client fetched: `what` is "executable" or "debuginfo". It looks in these
// folders, too (debuginfod_find_debuginfo(3)).
static char *in_cache(const struct build *build, const char *what) {
    static const struct {
        const char *variable, *below;
    } folders[] = {{"DEBUGINFOD_CACHE_PATH", ""},
                   {"XDG_CACHE_HOME", "/debuginfod_client"},
                   {"HOME", "/.cache/debuginfod_client"},
                   {"HOME", "/.debuginfod_client_cache"}};
    char id[2 * MAX_ID + 2], *path = NULL;
    if (!*id_text(build, "", id)) return NULL;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        const char *root = getenv(folders[i].variable);
        if (!root || !*root) continue;
        if (asprintf(&path, "%s%s/%s/%s", root, folders[i].below, id, what) < 0) return NULL;
        if (access(path, R_OK) == 0) return path;
        free(path);
    }
    return NULL;
}

__attribute__((format(printf, 1, 2))) static char *path_of(const char *format, ...) {
    va_list arguments;
    char *path;
    va_start(arguments, format);
    if (vasprintf(&path, format, arguments) < 0) path = NULL;
    va_end(arguments);
    return path;
}

static const char *basename_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

// ---- the object -----------------------------------------------------------------------------

#define CANDIDATES 8

int debug_open_object(const struct debug_search *search, const struct build *build,
                      const char **reason) {
    const char *dir = search->debug_dir, *path = build->path ? build->path : "";
    bool absolute = path[0] == '/';
    char *candidate[CANDIDATES];
    size_t n = 0;
    *reason = "the file is not there";
    if (*path)
        candidate[n++] = absolute      ? strdup(path)
                         : search->cwd ? path_of("%s/%s", search->cwd, path)
                                       : NULL;
    if (*path && dir) {
        candidate[n++] = path_of("%s%s%s", dir, absolute ? "" : "/", path);
        candidate[n++] = path_of("%s/%s", dir, basename_of(path));
        candidate[n++] = path_of("%s/%s.debug", dir, basename_of(path));
    }
    candidate[n++] = in_cache(build, "executable");
    candidate[n++] = in_tree(dir, build);
    candidate[n++] = in_tree(SYSTEM_DEBUG, build);
    candidate[n++] = in_cache(build, "debuginfo");
    int found = -1;
    for (size_t i = 0; i < n; i++) {
        int fd = found < 0 ? open_file(candidate[i]) : -1;
        free(candidate[i]);
        if (fd < 0) continue;
        enum match how = match(fd, build);
        if (how == SAME_BUILD || how == NO_ID) {
            found = fd;
            continue;
        }
        *reason = how == NOT_ELF ? "the file is damaged or no ELF file"
                                 : "another build of the file is there now";
        close(fd);
    }
    return found;
}

// ---- its debug information ------------------------------------------------------------------

// The checksum of .gnu_debuglink: CRC-32 as in Ethernet.
static uint32_t checksum(int fd) {
    static uint32_t table[256];
    static unsigned char buffer[1 << 16];
    uint32_t crc = ~0u;
    for (uint32_t i = 0; !table[255] && i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320 : 0);
    }
    off_t at = 0;
    for (ssize_t n; (n = pread(fd, buffer, sizeof buffer, at)) > 0; at += n)
        for (ssize_t i = 0; i < n; i++) crc = table[(crc ^ buffer[i]) & 0xff] ^ crc >> 8;
    return ~crc;
}

// `path` if it is the debug file of this build; it is freed if not.
static int open_candidate(char *path, const struct build *build, const uint32_t *crc,
                          char **found) {
    int fd = open_file(path);
    if (fd >= 0) {
        enum match how = match(fd, build);
        bool same = how == SAME_BUILD || (how != NOT_ELF && crc && checksum(fd) == *crc);
        if (same) {
            *found = path;
            return fd;
        }
        close(fd);
    }
    free(path);
    return -1;
}

int debug_open_symbols(const struct debug_search *search, const struct build *build,
                       const char *path, const char *link, uint32_t crc, char **found) {
    const char *dir = search->debug_dir;
    int fd = open_candidate(in_tree(dir, build), build, NULL, found);
    if (fd < 0) fd = open_candidate(in_tree(SYSTEM_DEBUG, build), build, NULL, found);
    // A name without a folder is what objcopy writes; gdb follows no other, nor do we.
    if (fd < 0 && link && *link && !strchr(link, '/') && path) {
        int folder = (int)(basename_of(path) - path);
        char *const candidates[] = {
            path_of("%.*s%s", folder, path, link),
            path_of("%.*s.debug/%s", folder, path, link),
            dir ? path_of("%s%.*s%s", dir, folder, path, link) : NULL,
            dir ? path_of("%s/%s", dir, link) : NULL,
            path_of(SYSTEM_DEBUG "%.*s%s", folder, path, link),
        };
        for (size_t i = 0; i < sizeof candidates / sizeof candidates[0]; i++)
            if (fd < 0)
                fd = open_candidate(candidates[i], build, &crc, found);
            else
                free(candidates[i]);
    }
    if (fd < 0 && dir && path)
        fd = open_candidate(path_of("%s/%s.debug", dir, basename_of(path)), build, NULL, found);
    if (fd < 0 && dir && path)
        fd = open_candidate(path_of("%s/%s", dir, basename_of(path)), build, NULL, found);
    if (fd < 0) fd = open_candidate(in_cache(build, "debuginfo"), build, NULL, found);
    return fd;
}
