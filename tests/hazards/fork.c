// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda -pthread
//
// Forks: while other threads allocate, before the first GPU call, and by vfork. A child of a
// process that has used the GPU cannot use it; its exits, frees and failing calls must not reach
// the parent's records. A child forked before has a GPU, and a report, of its own.
#include "hazard.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 3, FORKS = 40 };
static CUcontext context;
static _Atomic int stop;

static void *allocate(void *unused) {
    (void)unused;
    MUST(cuCtxSetCurrent(context));
    while (!atomic_load(&stop)) {
        CUdeviceptr block = hazard_block(4096);
        MUST(cuMemFree(block));
    }
    return NULL;
}

static void wait_for(pid_t child) {
    int status;
    if (waitpid(child, &status, 0) != child || status != 0) {
        fprintf(stderr, "a child ended with status %x\n", (unsigned)status);
        exit(2);
    }
}

// In the child. Whether it exits through the handlers of exit or without is up to the caller.
static void try_the_gpu(CUdeviceptr of_parent) {
    CUdeviceptr block;
    alarm(20);
    if (cuMemAlloc(&block, MIB) != CUDA_ERROR_NOT_INITIALIZED) _exit(3);
    if (cuMemFree(of_parent) != CUDA_ERROR_NOT_INITIALIZED) _exit(4);
}

static void fork_among_threads(void) {
    pthread_t thread[THREADS];
    CUdeviceptr block;
    context = hazard_use(0);
    block = hazard_block(MIB);
    for (int i = 0; i < THREADS; i++) pthread_create(&thread[i], NULL, allocate, NULL);
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        if (child == 0) {
            try_the_gpu(block);
            _exit(0);
        }
        wait_for(child);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
}

static void fork_and_exit(void) {
    context = hazard_use(0);
    CUdeviceptr block = hazard_block(MIB);
    pid_t child = fork();
    if (child == 0) {
        try_the_gpu(block);
        exit(0);
    }
    wait_for(child);
    hazard_block(3 * MIB);
}

static void fork_first(void) {
    pid_t child = fork();
    hazard_use(0);
    hazard_block(child ? 5 * MIB : 7 * MIB);
    if (child == 0) exit(0);
    wait_for(child);
}

static void vfork_and_exec(void) {
    context = hazard_use(0);
    hazard_block(MIB);
    pid_t child = vfork();
    if (child == 0) {
        execl("/bin/true", "true", NULL);
        _exit(127);
    }
    wait_for(child);
    hazard_block(11 * MIB);
}

int main(int argc, char **argv) {
    const char *how = argc == 2 ? argv[1] : "";
    if (!strcmp(how, "among-threads"))
        fork_among_threads();
    else if (!strcmp(how, "and-exit"))
        fork_and_exit();
    else if (!strcmp(how, "first"))
        fork_first();
    else if (!strcmp(how, "vfork"))
        vfork_and_exec();
    else
        return 2;
    return 0;
}
