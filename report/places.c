// SPDX-License-Identifier: Apache-2.0
//
// In which folders ledgers and reports lie (memwatch.h), and the small things that every
// subcommand needs.
#include "memwatch.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int fail(enum exit_code code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("memwatch: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("\n", stderr);
    va_end(arguments);
    return code;
}

void *allocate(size_t count, size_t bytes) {
    void *memory = calloc(count ? count : 1, bytes);
    if (!memory) exit(fail(EXIT_DAMAGED, "out of memory"));
    return memory;
}

size_t ledger_folders(const char *out[LEDGER_FOLDERS]) {
    // As create_ledger() in interpose/wake.c tries them.
    const char *const folders[LEDGER_FOLDERS] = {getenv("MEMWATCH_LEDGER_DIR"),
                                                 getenv("XDG_RUNTIME_DIR"),
                                                 "/dev/shm",
                                                 getenv("TMPDIR"),
                                                 "/tmp",
                                                 getenv("MEMWATCH_DIR"),
                                                 "."};
    size_t n = 0;
    for (size_t i = 0; i < LEDGER_FOLDERS; i++)
        if (folders[i] && *folders[i]) out[n++] = folders[i];
    return n;
}

// Two parts of a path; nothing is added if it does not fit or is not absolute.
static void add_folder(struct report_folders *out, const char *front, const char *back,
                       bool may_make) {
    char *path = out->path[out->count];
    int n = snprintf(path, sizeof out->path[0], "%s%s", front, back);
    if (n <= 0 || (size_t)n >= sizeof out->path[0] || path[0] != '/') return;
    out->may_make[out->count++] = may_make;
}

void report_folders(const char *configured, const char *cwd, struct report_folders *out) {
    char relative[1024];
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    out->count = 0;
    if (*configured == '/') {
        add_folder(out, configured, "", true);
    } else if (*configured && *cwd) { // an unknown cwd would make it a folder of the root
        snprintf(relative, sizeof relative, "/%s", configured);
        add_folder(out, cwd, relative, true);
    }
    add_folder(out, cwd, "", false);
    if (state && *state)
        add_folder(out, state, "/memwatch", true);
    else if (home && *home)
        add_folder(out, home, "/.local/state/memwatch", true);
    add_folder(out, "/tmp", "", false);
}

// mkdir -p. Failures show when the folder is used.
static void make_folder(const char *folder) {
    char path[1024];
    if (snprintf(path, sizeof path, "%s", folder) >= (int)sizeof path) return;
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    mkdir(path, 0700);
}

bool folder_writable(const char *folder) {
    struct stat st;
    return stat(folder, &st) == 0 && S_ISDIR(st.st_mode) && access(folder, W_OK | X_OK) == 0;
}

bool report_folder_ready(const struct report_folders *folders, size_t i) {
    const char *folder = folders->path[i];
    if (folders->may_make[i] && access(folder, F_OK) != 0) make_folder(folder);
    return folder_writable(folder);
}
