// SPDX-License-Identifier: Apache-2.0
//
// Asks a libcuda for functions in every way a program can, and prints what it was given. The
// names come from standard input, one a line; needs no GPU and calls nothing but the resolvers.
//
//   door_lookups LIBCUDA VERSION...
//
// A line of output: door name version flags result status object+offset ("-" for NULL)
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int (*resolver1)(const char *, void **, int, uint64_t);
typedef int (*resolver2)(const char *, void **, int, uint64_t, int *);

enum { FLAGS = 3 }; // default, legacy stream, per-thread stream

static void print(const char *door, const char *name, int version, int flags, int result,
                  int status, void *pointer) {
    Dl_info info = {0};
    printf("%s %s %d %d %d %d ", door, *name ? name : "''", version, flags, result, status);
    if (!pointer) {
        puts("-");
    } else if (dladdr(pointer, &info)) {
        const char *slash = strrchr(info.dli_fname, '/');
        printf("%s+%zx\n", slash ? slash + 1 : info.dli_fname,
               (size_t)((char *)pointer - (char *)info.dli_fbase));
    } else {
        puts("nowhere");
    }
}

// A look-up that fails must leave what was there, and errno is nobody's business.
static void *const untouched = (void *)&print;

static void *ask1(const char *door, resolver1 resolve, const char *name, int version, int flags) {
    void *pointer = untouched;
    errno = 77;
    int result = resolve(name, &pointer, version, (uint64_t)flags);
    print(door, name, version, flags, result, errno, pointer);
    return pointer;
}

static void *ask2(const char *door, resolver2 resolve, const char *name, int version, int flags) {
    void *pointer = untouched;
    int status = 99;
    errno = 77;
    int result = resolve(name, &pointer, version, (uint64_t)flags, &status);
    print(door, name, version, flags, result, status * 1000 + errno, pointer);
    return pointer;
}

int main(int argc, char **argv) {
    char name[128];
    if (argc < 3) return 2;
    void *library = dlopen(argv[1], RTLD_NOW);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    resolver1 first = (resolver1)dlsym(library, "cuGetProcAddress");
    resolver2 second = (resolver2)dlsym(library, "cuGetProcAddress_v2");
    // What a resolver gives for its own name is what a runtime goes on with.
    resolver1 first_again = NULL;
    resolver2 second_again = NULL;
    if (first) first_again = (resolver1)ask1("itself", first, "cuGetProcAddress", 11030, 0);
    if (second) second_again = (resolver2)ask2("itself_v2", second, "cuGetProcAddress", 12000, 0);
    if (second) ask2("itself_v2", second, "cuGetProcAddress", 11030, 0);
    while (fgets(name, sizeof name, stdin)) {
        name[strcspn(name, "\n")] = 0;
        print("dlsym", name, 0, 0, 0, 0, dlsym(library, name));
        for (int i = 2; i < argc; i++)
            for (int flags = 0; flags < FLAGS; flags++) {
                int version = atoi(argv[i]);
                if (first) ask1("getproc", first, name, version, flags);
                if (second) ask2("getproc_v2", second, name, version, flags);
                if (first_again) ask1("again", first_again, name, version, flags);
                if (second_again) ask2("again_v2", second_again, name, version, flags);
            }
    }
    return 0;
}
