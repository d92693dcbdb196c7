// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda -pthread -fomit-frame-pointer -fno-optimize-sibling-calls
//
// Allocations where the stack is out of the ordinary. The functions' names tell the test what a
// stack must show.
#include "hazard.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#define NOINLINE __attribute__((noinline))
#define STAY     __asm__ volatile("") // what was called before this is not called by a jump

static CUcontext context;

static NOINLINE void allocate(size_t bytes) {
    MUST(cuMemFree(hazard_block(bytes)));
    hazard_block(bytes);
    STAY;
}

// ---- functions without frame pointers, with frames of all sorts ------------------------------

static NOINLINE void in_an_aligned_frame(size_t bytes) {
    volatile _Alignas(128) char room[128];
    volatile char *more = __builtin_alloca(bytes % 1000);
    room[0] = more[0] = 1;
    allocate(bytes);
    if (room[0] != more[0]) exit(3);
}

static NOINLINE void in_a_frame_of_variable_size(size_t bytes) {
    volatile char *room = __builtin_alloca(bytes % 2000);
    room[0] = 1;
    in_an_aligned_frame(bytes);
    if (room[0] != 1) exit(3);
}

static NOINLINE void in_a_large_frame(size_t bytes) {
    volatile char room[100000];
    room[0] = 1;
    in_a_frame_of_variable_size(bytes);
    if (room[0] != 1) exit(3);
}

// ---- signal handlers -------------------------------------------------------------------------

static void handle(int signal_number) {
    (void)signal_number;
    allocate(3 * MIB);
}

static NOINLINE void be_interrupted(void) {
    raise(SIGUSR1);
    STAY;
}

static void interrupt(int flags) {
    stack_t own = {.ss_size = 64 << 10};
    own.ss_sp = mmap(NULL, own.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sigaction action = {.sa_handler = handle, .sa_flags = flags};
    sigaltstack(&own, NULL);
    sigaction(SIGUSR1, &action, NULL);
    be_interrupted();
}

// ---- threads ---------------------------------------------------------------------------------

static void *allocate_in_a_thread(void *unused) {
    (void)unused;
    MUST(cuCtxSetCurrent(context));
    allocate(5 * MIB);
    return NULL;
}

static void run_thread(void *(*function)(void *), size_t stack_bytes) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (stack_bytes) pthread_attr_setstacksize(&attributes, stack_bytes);
    if (pthread_create(&thread, &attributes, function, NULL) != 0) exit(4);
    pthread_join(thread, NULL);
}

static pthread_key_t key;

static void at_thread_exit(void *rounds) {
    allocate(7 * MIB);
    if (rounds != (void *)1) pthread_setspecific(key, (char *)rounds - 1);
}

static void *leave_a_destructor(void *unused) {
    (void)unused;
    MUST(cuCtxSetCurrent(context));
    pthread_setspecific(key, (void *)PTHREAD_DESTRUCTOR_ITERATIONS);
    return NULL;
}

int main(int argc, char **argv) {
    const char *how = argc == 2 ? argv[1] : "";
    context = hazard_use(0);
    if (!strcmp(how, "frames")) {
        in_a_large_frame(2 * MIB + 512);
    } else if (!strcmp(how, "signal")) {
        interrupt(0);
    } else if (!strcmp(how, "altstack")) {
        interrupt(SA_ONSTACK);
    } else if (!strcmp(how, "tiny")) {
        for (int i = 0; i < 20; i++) run_thread(allocate_in_a_thread, (size_t)PTHREAD_STACK_MIN);
    } else if (!strcmp(how, "destructor")) {
        pthread_key_create(&key, at_thread_exit);
        for (int i = 0; i < 20; i++) run_thread(leave_a_destructor, 0);
    } else {
        return 2;
    }
    return 0;
}
