// SPDX-License-Identifier: Apache-2.0
//
// Another tool's preload library, as virtualisation layers for GPUs are built: it has a dlsym and a
// cuGetProcAddress of its own. It counts what the CUDA runtime asks for, and prints at exit how
// many look-ups there were and a hash of their order, names, versions and flags.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static unsigned by_name, by_resolver;
static uint64_t hash = 14695981039346656037u;
typedef int (*resolver)(const char *, void **, int, uint64_t);
typedef int (*resolver_v2)(const char *, void **, int, uint64_t, int *);
static void *real, *real_v2;

static void mix(const void *bytes, size_t count) {
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * 1099511628211u;
}

static void count(const char *name, int version, uint64_t flags) {
    by_resolver++;
    mix(name, strlen(name));
    mix(&version, sizeof version);
    mix(&flags, sizeof flags);
}

int cuGetProcAddress(const char *, void **, int, uint64_t);
int cuGetProcAddress_v2(const char *, void **, int, uint64_t, int *);

// A runtime asks the resolver for the resolver, and goes on with what it is given.
static void stay(void **pointer) {
    if (*pointer == real)
        *pointer = (void *)cuGetProcAddress;
    else if (*pointer == real_v2)
        *pointer = (void *)cuGetProcAddress_v2;
}

int cuGetProcAddress(const char *name, void **pointer, int version, uint64_t flags) {
    count(name, version, flags);
    int result = ((resolver)real)(name, pointer, version, flags);
    if (result == 0 && *pointer) stay(pointer);
    return result;
}

int cuGetProcAddress_v2(const char *name, void **pointer, int version, uint64_t flags,
                        int *status) {
    count(name, version, flags);
    int result = ((resolver_v2)real_v2)(name, pointer, version, flags, status);
    if (result == 0 && *pointer) stay(pointer);
    return result;
}

void *dlsym(void *handle, const char *name) {
    static void *(*next)(void *, const char *);
    if (!next) next = (void *(*)(void *, const char *))dlvsym(RTLD_NEXT, "dlsym", GLIBC_FLOOR);
    if (handle == RTLD_NEXT) return next(handle, name); // a tail call: it depends on who asks
    void *found = next(handle, name);
    if (!found || strncmp(name, "cu", 2) != 0) return found;
    by_name++;
    mix(name, strlen(name));
    if (strncmp(name, "cuGetProcAddress", 16) == 0) {
        real = next(handle, "cuGetProcAddress");
        real_v2 = next(handle, "cuGetProcAddress_v2");
        stay(&found);
    }
    return found;
}

__attribute__((destructor)) static void print(void) {
    printf("look-ups: %u by name, %u by resolver, hash %016llx\n", by_name, by_resolver,
           (unsigned long long)hash);
}
