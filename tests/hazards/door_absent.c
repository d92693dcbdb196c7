// SPDX-License-Identifier: Apache-2.0
//
// A program without CUDA asks whether CUDA is there, in the ways in which programs ask. Prints the
// answers, which must be no, whoever is preloaded.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>

static void ask(const char *how, void *handle, const char *name) {
    errno = 77;
    void *found = dlsym(handle, name);
    const char *message = dlerror();
    printf("%s %s: %s, %s, errno %d\n", how, name, found ? "there" : "not there",
           message ? "a message" : "no message", errno);
}

int main(void) {
    static const char *const names[] = {
        "cuMemAlloc_v2", "cuGetProcAddress_v2", "cudaMalloc", "cuInit",
        "cuNothing",     "cudaNothing",         "cudart",     "cu"};
    void *program = dlopen(NULL, RTLD_NOW), *libc = dlopen("libm.so.6", RTLD_NOW);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        ask("RTLD_DEFAULT", RTLD_DEFAULT, names[i]);
        ask("the program", program, names[i]);
        if (libc) ask("a library", libc, names[i]);
    }
    printf("puts is %s\n",
           dlsym(RTLD_DEFAULT, "puts") && dlsym(program, "puts") ? "there" : "lost");
    return 0;
}
