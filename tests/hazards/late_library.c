// SPDX-License-Identifier: Apache-2.0
//
// Loads a library that allocates in its constructor and frees in its destructor (liblate_frees.c):
// left to the end of the process, or with a second argument unloaded before.
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    if (!library) {
        fprintf(stderr, "late_library: cannot load the library\n");
        return 2;
    }
    if (argc > 2) dlclose(library);
    return 0;
}
