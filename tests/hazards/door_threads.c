// SPDX-License-Identifier: Apache-2.0
// build: -pthread
//
// Many threads go through the doors for the first time at the same moment. Each must be given the
// same functions; which ones, the test sees by the books.
#define _GNU_SOURCE
#include "door.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { THREADS = 16 };
static pthread_barrier_t together;
static void *driver;

static void *ask(void *functions) {
    void **found = functions;
    pthread_barrier_wait(&together);
    for (int i = 0; i < DOOR_FUNCTIONS; i++) found[i] = dlsym(driver, door_symbols[i]);
    return NULL;
}

int main(void) {
    static void *found[THREADS][DOOR_FUNCTIONS];
    pthread_t threads[THREADS];
    int different = 0, failed = 0;
    driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (!driver) return 2;
    pthread_barrier_init(&together, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, ask, found[i]);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++) {
        struct door_functions gpu;
        memcpy(&gpu, found[i], sizeof gpu);
        if (memcmp(found[i], found[0], sizeof found[0]) != 0) different++;
        if (door_work(&gpu)) failed++;
    }
    printf("%d differ, %d failed\n", different, failed);
    return different || failed;
}
