// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda -pthread -fno-optimize-sibling-calls
//
//     stack_reload DOOR LIBRARY LIBRARY
//
// Loads a library, allocates in it and unloads it, then does the same with another one, which comes
// to lie at the same address. By the DOOR "linked" the library is closed by dlclose; by "own" by
// the address of dlclose in the C library, which nobody but the C library sees.
#define _GNU_SOURCE
#include "hazard.h"

#include <dlfcn.h>
#include <gnu/lib-names.h>
#include <link.h>
#include <string.h>

static int (*close_library)(void *) = dlclose;

static uintptr_t allocate_with(const char *path, size_t bytes) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
    void (*allocate)(size_t) = (void (*)(size_t))dlsym(library, "library_allocates");
    struct link_map *map;
    dlinfo(library, RTLD_DI_LINKMAP, &map);
    uintptr_t at = map->l_addr;
    for (int i = 0; i < 3; i++) allocate(bytes);
    if (close_library(library) != 0) exit(2);
    if (dlopen(path, RTLD_NOW | RTLD_NOLOAD)) exit(2);
    return at;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    void *libc = dlopen(LIBC_SO, RTLD_NOW);
    if (!strcmp(argv[1], "own")) close_library = (int (*)(void *))dlsym(libc, "dlclose");
    hazard_use(0);
    uintptr_t first = allocate_with(argv[2], MIB);
    for (int round = 0; round < 3; round++) {
        uintptr_t second = allocate_with(argv[3], 2 * MIB);
        uintptr_t third = allocate_with(argv[2], MIB);
        if (first != second || first != third) {
            printf("at different addresses\n");
            return 77;
        }
    }
    printf("at the same address\n");
    return 0;
}
