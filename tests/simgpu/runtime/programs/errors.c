// SPDX-License-Identifier: Apache-2.0
//
// How the runtime reports errors: one situation per run, named by the argument.

#include <cuda_runtime_api.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *what, cudaError_t error) {
    printf("%s: %s\n", what, cudaGetErrorName(error));
    fflush(stdout);
}

static void *other_thread(void *unused) {
    (void)unused;
    say("another thread's last", cudaPeekAtLastError());
    return NULL;
}

static void last(void) {
    void *memory;
    pthread_t thread;
    int device;
    say("malloc", cudaMalloc(&memory, (size_t)1 << 50));
    say("get device", cudaGetDevice(&device));
    say("peek", cudaPeekAtLastError());
    pthread_create(&thread, NULL, other_thread, NULL);
    pthread_join(thread, NULL);
    say("last", cudaGetLastError());
    say("last again", cudaGetLastError());
}

// Run with a fault that makes the synchronisation say "illegal address".
static void lasting(void) {
    void *memory;
    say("malloc", cudaMalloc(&memory, 100));
    say("synchronize", cudaDeviceSynchronize());
    say("last", cudaGetLastError());
    say("last again", cudaGetLastError());
    say("free", cudaFree(memory));
}

static void forked(void) {
    void *memory;
    int status;
    say("parent", cudaMalloc(&memory, 100));
    pid_t child = fork();
    if (child == 0) {
        say("child", cudaMalloc(&memory, 100));
        _exit(0);
    }
    waitpid(child, &status, 0);
    say("parent", cudaFree(memory));
}

static void *kept;

// As a library's destructor would: after the runtime's own.
static void late(void) {
    say("at exit", cudaFree(kept));
}

__attribute__((destructor(101))) static void last_of_all(void) {
    if (kept) late();
}

static void at_exit(void) {
    say("malloc", cudaMalloc(&kept, 100));
}

static void first_call(void) {
    void *memory;
    int count = -1, version = -1;
    say("driver version", cudaDriverGetVersion(&version));
    say("count", cudaGetDeviceCount(&count));
    say("malloc", cudaMalloc(&memory, 100));
    say("last", cudaGetLastError());
    printf("version: %d\n%s\n", version, cudaGetErrorString(cudaErrorMemoryAllocation));
}

// Run with a fault that makes the third question fail.
static void device(void) {
    int found = -1;
    say("set device", cudaSetDevice(1));
    for (int i = 0; i < 3; i++) say("get device", cudaGetDevice(&found));
    printf("found: %d\n", found);
}

static void *driver_function(const char *name) {
    return dlsym(dlopen("libcuda.so.1", RTLD_NOW), name);
}

static void *destroy(void *context) {
    int (*destroy_context)(void *) = (int (*)(void *))driver_function("cuCtxDestroy_v2");
    destroy_context(context);
    return NULL;
}

// The program's own context, which is current here, is destroyed by another thread.
static void destroyed(void) {
    int (*create)(void **, unsigned, int) =
        (int (*)(void **, unsigned, int))driver_function("cuCtxCreate_v2");
    void *context;
    pthread_t thread;
    int found;
    say("first call", cudaGetDevice(&found));
    create(&context, 0, 1);
    say("get device", cudaGetDevice(&found));
    printf("found: %d\n", found);
    pthread_create(&thread, NULL, destroy, context);
    pthread_join(thread, NULL);
    say("get device", cudaGetDevice(&found));
    say("reset", cudaDeviceReset());
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } situations[] = {
        {"last", last},           {"lasting", lasting},       {"forked", forked},
        {"at-exit", at_exit},     {"first-call", first_call}, {"device", device},
        {"destroyed", destroyed},
    };
    for (size_t i = 0; i < sizeof situations / sizeof *situations; i++) {
        if (argc != 2 || strcmp(argv[1], situations[i].name) != 0) continue;
        situations[i].run();
        return 0;
    }
    fprintf(stderr, "usage: errors SITUATION\n");
    return 2;
}
