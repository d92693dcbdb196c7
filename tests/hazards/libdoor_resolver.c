// SPDX-License-Identifier: Apache-2.0
//
// A plug-in that finds its functions as a CUDA runtime does: dlopen, one dlsym for the resolver,
// and the resolver for itself and for everything else.
#include "door.h"

#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

typedef CUresult (*resolver)(const char *, void **, int, uint64_t, int *);

static void *driver;

int plugin_work(void) {
    void *functions[DOOR_FUNCTIONS], *again = NULL;
    struct door_functions gpu;
    int status;
    driver = dlopen("libcuda.so.1", RTLD_NOW);
    resolver resolve = driver ? (resolver)dlsym(driver, "cuGetProcAddress_v2") : NULL;
    if (!resolve || resolve("cuGetProcAddress", &again, 12000, 0, &status) || !again) return -3;
    resolve = (resolver)again;
    for (int i = 0; i < DOOR_FUNCTIONS; i++)
        if (resolve(door_base_names[i], &functions[i], 12000, 0, &status) || !functions[i])
            return -4;
    memcpy(&gpu, functions, sizeof gpu);
    return door_work(&gpu);
}

__attribute__((destructor)) static void unload(void) {
    if (driver) dlclose(driver);
}
