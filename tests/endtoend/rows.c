// SPDX-License-Identifier: Apache-2.0
//
// How a program comes by the functions that it calls: the doors (rows.h).
#include "rows.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef LINKED
#    define ADDRESS(symbol) (void *)symbol
#else
#    define ADDRESS(symbol) NULL
#endif

struct row rows[ROWS] = {
#define ROW(symbol, since, parameters) {#symbol, since, ADDRESS(symbol), 0},
#include "entrypoints.def"
#undef ROW
};

static _Noreturn void fail(const char *what, const char *symbol) {
    fprintf(stderr, "rows: %s: %s\n", symbol, what);
    exit(1);
}

static void *library(const char *name) {
    void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!handle) fail(dlerror(), name);
    return handle;
}

static void *symbol_in(const char *name, const char *symbol) {
    void *found = dlsym(library(name), symbol);
    if (!found) fail(dlerror(), symbol);
    return found;
}

#ifdef RUNTIME_ROWS
#    define LIBRARY "libcudart.so.12"
#else
#    define LIBRARY "libcuda.so.1"
#endif

#ifndef LINKED
void *other_function(const char *symbol) {
    return symbol_in(LIBRARY, symbol);
}
#endif

#ifndef RUNTIME_ROWS

enum { PER_THREAD_STREAM = 2, FIRST_PER_THREAD_STREAM = 7000 };

typedef mwResult resolver_v1(const char *, void **, int, uint64_t);
typedef mwResult resolver_v2(const char *, void **, int, uint64_t, int *);
typedef mwResult runtime_resolver(const char *, void **, unsigned, unsigned long long, int *);

// What a look-up by version is asked for: "cuMemAllocAsync_ptsz" is "cuMemAllocAsync" with a flag.
struct question {
    char base[64];
    int version;
    uint64_t flags;
};

static struct question question_of(const struct row *row) {
    struct question q = {.version = row->since};
    snprintf(q.base, sizeof q.base, "%s", row->symbol);
    char *suffix = strstr(q.base, "_ptsz");
    if (suffix) {
        *suffix = 0;
        q.flags = PER_THREAD_STREAM;
        if (q.version < FIRST_PER_THREAD_STREAM) q.version = FIRST_PER_THREAD_STREAM;
    }
    suffix = strstr(q.base, "_v");
    if (suffix) *suffix = 0;
    return q;
}

static void *by_version(const char *door, const struct row *row) {
    struct question q = question_of(row);
    void *found = NULL;
    int status = 0;
    if (strcmp(door, "getproc") == 0) {
        resolver_v2 *ask = symbol_in(LIBRARY, "cuGetProcAddress_v2");
        ask(q.base, &found, q.version, q.flags, &status);
    } else if (strcmp(door, "getproc_v1") == 0) {
        resolver_v1 *ask = symbol_in(LIBRARY, "cuGetProcAddress");
        ask(q.base, &found, q.version, q.flags);
    } else if (strcmp(door, "runtime") == 0) {
        runtime_resolver *ask = symbol_in("libcudart.so.12", "cudaGetDriverEntryPointByVersion");
        ask(q.base, &found, (unsigned)q.version, q.flags, &status);
    } else {
        fail("no such door", door);
    }
    return found;
}

#else

static void *by_version(const char *door, const struct row *row) {
    (void)row;
    fail("no such door", door);
}

#endif

void doors_open(const char *door) {
    bool linked = strcmp(door, "symbol") == 0, named = strcmp(door, "dlsym") == 0;
    for (unsigned i = 0; i < ROWS; i++) {
        struct row *row = &rows[i];
        if (!linked) row->address = named ? symbol_in(LIBRARY, row->symbol) : by_version(door, row);
        if (!row->address) fail("not found through this door", row->symbol);
    }
}

void doors_print_calls(void) {
    for (unsigned i = 0; i < ROWS; i++)
        printf("%s %llu\n", rows[i].symbol, (unsigned long long)atomic_load(&rows[i].calls));
}
