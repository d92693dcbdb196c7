// SPDX-License-Identifier: Apache-2.0
//
// Where libmemwatch.so is (library.h).
#include "library.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void program_path(char out[PATH_MAX]) {
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
    out[n > 0 ? n : 0] = '\0';
}

bool library_find(char out[PATH_MAX]) {
    const char *given = getenv("MEMWATCH_LIBRARY");
    if (given && *given) return realpath(given, out) != NULL;
    static const char *const places[] = {"", "../lib/", "../lib64/"};
    char program[PATH_MAX];
    program_path(program);
    const char *slash = strrchr(program, '/');
    for (size_t i = 0; slash && i < sizeof places / sizeof places[0]; i++) {
        char candidate[PATH_MAX + 64];
        snprintf(candidate, sizeof candidate, "%.*s/%slibmemwatch.so", (int)(slash - program),
                 program, places[i]);
        if (realpath(candidate, out)) return true;
    }
    return false;
}

// Is this file already in the list? Then a `run` around us put it there, or the user.
static bool is_preloaded(const char *list, const char *library) {
    char *copy = strdup(list), *save = NULL, real[PATH_MAX];
    bool found = false;
    for (char *w = copy ? strtok_r(copy, PRELOAD_SEPARATORS, &save) : NULL; w && !found;
         w = strtok_r(NULL, PRELOAD_SEPARATORS, &save))
        found = realpath(w, real) && strcmp(real, library) == 0;
    free(copy);
    return found;
}

static bool is_sanitizer(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    return fnmatch("lib*san.so*", name, 0) == 0 || fnmatch("libclang_rt.*", name, 0) == 0;
}

char *library_preload_list(const char *library) {
    const char *before = getenv("LD_PRELOAD");
    if (!before) before = "";
    if (is_preloaded(before, library)) return strdup(before);
    size_t n = strlen(before) + strlen(library) + 3;
    char *copy = strdup(before), *list = malloc(n), *save = NULL;
    bool placed = false;
    if (!copy || !list) {
        free(copy);
        free(list);
        return NULL;
    }
    *list = '\0';
    for (char *w = strtok_r(copy, PRELOAD_SEPARATORS, &save); w;
         w = strtok_r(NULL, PRELOAD_SEPARATORS, &save)) {
        if (!placed && !is_sanitizer(w)) {
            strcat(strcat(list, library), ":");
            placed = true;
        }
        strcat(strcat(list, w), ":");
    }
    free(copy);
    if (!placed)
        strcat(list, library);
    else
        list[strlen(list) - 1] = '\0';
    return list;
}
