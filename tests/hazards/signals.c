// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda -pthread
//
// A signal handler that allocates and frees. What a handler does between two GPU calls of its
// thread is counted like anything else; when it interrupts one, nothing may break.
#include "hazard.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static CUcontext context;
static _Atomic int handled, stop;

static void handle(int signal_number) {
    (void)signal_number;
    CUdeviceptr block = hazard_block(MIB);
    MUST(cuMemFree(block));
    hazard_block(512);
    atomic_fetch_add(&handled, 1);
}

static void *allocate(void *unused) {
    (void)unused;
    MUST(cuCtxSetCurrent(context));
    while (!atomic_load(&stop)) MUST(cuMemFree(hazard_block(4096)));
    return NULL;
}

int main(int argc, char **argv) {
    const char *how = argc == 2 ? argv[1] : "";
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    context = hazard_use(0);
    if (!strcmp(how, "first")) { // the very first allocation wakes the library in a handler
        raise(SIGUSR1);
    } else if (!strcmp(how, "between")) {
        pthread_t thread;
        pthread_create(&thread, NULL, allocate, NULL);
        for (int i = 0; i < 100; i++) raise(SIGUSR1);
        atomic_store(&stop, 1);
        pthread_join(thread, NULL);
    } else { // the test makes the interrupted call slow
        pid_t self = getpid();
        union sigval none = {0};
        for (int i = 0; i < 20; i++) {
            sigqueue(self, SIGUSR1, none);
            hazard_block(4096);
        }
    }
    printf("handled: %d\n", atomic_load(&handled) > 0);
    return 0;
}
