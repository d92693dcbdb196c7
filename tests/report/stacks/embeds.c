// SPDX-License-Identifier: Apache-2.0
//
// A C program that runs Python scripts, each in an interpreter that begins and ends, and that may
// go on without.
//
//   embeds LIBPYTHON ALLOCATIONS SCRIPT...
#include <cuda.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void *symbol(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (!found) printf("no %s\n", name), exit(2);
    return found;
}

int main(int argc, char **argv) {
    void *python = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
    if (!python) return puts(dlerror()), 2;
    void (*initialize)(int) = (void (*)(int))symbol(python, "Py_InitializeEx");
    int (*finalize)(void) = (int (*)(void))symbol(python, "Py_FinalizeEx");
    int (*run)(const char *, void *) =
        (int (*)(const char *, void *))symbol(python, "PyRun_SimpleStringFlags");
    for (int i = 3; i < argc; i++) {
        initialize(0);
        if (run(argv[i], NULL)) return 3;
        finalize();
    }
    for (int i = atoi(argv[2]); i; i--) {
        CUdeviceptr block;
        if (cuMemAlloc(&block, 64 << 20) || cuMemFree(block)) return 4;
    }
    return 0;
}
