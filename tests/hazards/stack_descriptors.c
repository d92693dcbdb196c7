// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda -pthread
//
// Closes every descriptor, as a daemon does, and opens files of its own, which get the lowest
// numbers again. What others had open in this process under those numbers is theirs no longer.
#include "hazard.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

enum { FILES = 8, BYTES = 64 };
static CUcontext context;

static void *allocate(void *unused) {
    (void)unused;
    MUST(cuCtxSetCurrent(context));
    hazard_block(MIB);
    return NULL;
}

static void allocate_in_new_threads(void) {
    for (int i = 0; i < 10; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, allocate, NULL);
        pthread_join(thread, NULL);
    }
}

int main(void) {
    char text[BYTES];
    int file[FILES];
    context = hazard_use(0);
    allocate_in_new_threads();
    for (int fd = 3; fd < 1000; fd++) close(fd);
    for (int i = 0; i < FILES; i++) {
        char name[32];
        snprintf(name, sizeof name, "file%d", i);
        file[i] = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (write(file[i], "0123456789", 10) != 10 || lseek(file[i], 3, SEEK_SET) != 3) return 2;
    }
    allocate_in_new_threads();
    for (int i = 0; i < FILES; i++) {
        off_t at = lseek(file[i], 0, SEEK_CUR);
        ssize_t n = pread(file[i], text, BYTES, 0);
        printf("%d: %d bytes, \"%.*s\", at %d\n", file[i], (int)n, (int)n, text, (int)at);
    }
    return 0;
}
