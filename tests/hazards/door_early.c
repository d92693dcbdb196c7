// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// Asks for functions before any constructor has run, ours included, and uses them later. Sanitizer
// runtimes and some language runtimes begin so.
#define _GNU_SOURCE
#include "door.h"

#include <dlfcn.h>
#include <string.h>

static void *functions[DOOR_FUNCTIONS], *libc_function;

static void ask(int argc, char **argv, char **environment) {
    (void)argc, (void)argv, (void)environment;
    libc_function = dlsym(RTLD_NEXT, "malloc");
    for (int i = 0; i < DOOR_FUNCTIONS; i++) functions[i] = dlsym(RTLD_DEFAULT, door_symbols[i]);
}

__attribute__((section(".preinit_array"), used)) static void (*const before_all)(int, char **,
                                                                                 char **) = ask;

int main(void) {
    struct door_functions gpu;
    if (!libc_function || !functions[0]) return 2;
    memcpy(&gpu, functions, sizeof gpu);
    // Named here so that the linker keeps the library.
    if (cuInit(0) || door_work(&gpu)) return 1;
    return 0;
}
