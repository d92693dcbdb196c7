// SPDX-License-Identifier: Apache-2.0
//
// Loads a library that allocates in its constructor and frees in its destructor (liblate_frees.c),
// once to unload it again, once to leave it to the end of the process.
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    void *library = NULL;
    for (int i = 1; i < argc && (library = dlopen(argv[1], RTLD_NOW)); i++)
        if (!strcmp(argv[i], "unload")) dlclose(library);
    if (library) return 0;
    fprintf(stderr, "%s\n", dlerror());
    return 2;
}
