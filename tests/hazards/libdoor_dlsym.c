// SPDX-License-Identifier: Apache-2.0
//
// A plug-in that opens libcuda by itself and asks for each function by dlsym.
#include "door.h"

#include <dlfcn.h>
#include <string.h>

static void *driver;

int plugin_work(void) {
    void *functions[DOOR_FUNCTIONS];
    struct door_functions gpu;
    driver = dlopen("libcuda.so.1", RTLD_NOW);
    for (int i = 0; i < DOOR_FUNCTIONS; i++)
        if (!driver || !(functions[i] = dlsym(driver, door_symbols[i]))) return -3;
    memcpy(&gpu, functions, sizeof gpu);
    return door_work(&gpu);
}

__attribute__((destructor)) static void unload(void) {
    if (driver) dlclose(driver);
}
