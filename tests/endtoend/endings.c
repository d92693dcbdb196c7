// SPDX-License-Identifier: Apache-2.0
//
// Allocates some GPU memory, then ends in the way that the first argument says (the table below).
// build: -lcuda
#include <cuda.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void must(int result, const char *what) {
    if (!result) return;
    fprintf(stderr, "endings: %s: %d\n", what, result);
    _exit(99);
}

static void use_context(void) {
    CUcontext context;
    must(cuInit(0), "cuInit");
    must(cuDevicePrimaryCtxRetain(&context, 0), "cuDevicePrimaryCtxRetain");
    must(cuCtxSetCurrent(context), "cuCtxSetCurrent");
}

static CUdeviceptr allocate(size_t bytes) {
    CUdeviceptr dptr;
    must(cuMemAlloc(&dptr, bytes), "cuMemAlloc");
    return dptr;
}

// What every ending leaves behind, and one block that is freed.
static void use_gpu(void) {
    void *host;
    use_context();
    allocate(1 << 20);
    must(cuMemAllocHost(&host, 4096), "cuMemAllocHost");
    must(cuMemFree(allocate(3000)), "cuMemFree");
}

static void say(const char *text) {
    puts(text);
    fflush(stdout);
}

static void no_core_file(void) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
}

// ---- one process -------------------------------------------------------------------------------

static void by_return(void) {
    use_gpu();
}

static void by_exit(void) {
    use_gpu();
    exit(3);
}

static void by_underscore_exit(void) {
    use_gpu();
    _exit(4);
}

static void quick_exit_handler(void) {
    say("quick");
}

static void by_quick_exit(void) {
    at_quick_exit(quick_exit_handler);
    use_gpu();
    quick_exit(5);
}

static void by_segv(void) {
    use_gpu();
    no_core_file();
    // A page that may not be touched: a sanitizer would report a null pointer before the signal.
    volatile char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *page = 1;
}

static void by_abort(void) {
    use_gpu();
    no_core_file();
    abort();
}

static void by_sigterm(void) {
    use_gpu();
    raise(SIGTERM);
}

static void by_sigkill(void) {
    use_gpu();
    raise(SIGKILL);
}

static void by_exec(void) {
    use_gpu();
    execlp("echo", "echo", "another program", NULL);
}

static void by_exec_of_itself(void) {
    use_gpu();
    execl("/proc/self/exe", "endings", "return", NULL);
}

static void *exit_in_thread(void *unused) {
    (void)unused;
    exit(3);
}

static void by_thread(void) { // the main thread ends first
    pthread_t thread;
    use_gpu();
    must(pthread_create(&thread, NULL, exit_in_thread, NULL), "pthread_create");
    pthread_exit(NULL);
}

static void never(void) {
    use_gpu();
    say("ready");
    for (;;) pause();
}

static CUdeviceptr freed_last;
static void free_it(void) {
    must(cuMemFree(freed_last), "cuMemFree at exit");
}

static void with_a_free_at_exit(void) {
    use_gpu();
    freed_last = allocate(7777);
    atexit(free_it);
}

// ---- several processes -------------------------------------------------------------------------

static int wait_for(pid_t child) {
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return -1;
    return status;
}

// Both use the GPU, each for itself.
static void fork_first(void) {
    pid_t child = fork();
    use_gpu();
    if (!child) {
        allocate(5000);
        exit(6);
    }
    printf("child: %d\n", WEXITSTATUS(wait_for(child)));
}

// The driver does not work in a child of a process that used it; its failures are its own.
static void fork_later(void) {
    use_gpu();
    pid_t child = fork();
    if (!child) {
        CUdeviceptr dptr;
        _exit(cuMemAlloc(&dptr, 100) == CUDA_ERROR_NOT_INITIALIZED ? 7 : 8);
    }
    printf("child: %d\n", WEXITSTATUS(wait_for(child)));
    allocate(2000);
}

// A child that does nothing with the GPU, and ends through its exit handlers.
static void fork_idle(void) {
    use_gpu();
    pid_t child = fork();
    if (!child) exit(9);
    printf("child: %d\n", WEXITSTATUS(wait_for(child)));
    allocate(2000);
}

static void daemonise(void) {
    if (fork()) return;
    setsid();
    if (fork()) _exit(0);
    use_gpu();
    exit(10);
}

static atomic_bool stop;

static void *churn(void *unused) {
    (void)unused;
    use_context();
    while (!atomic_load(&stop)) must(cuMemFree(allocate(512)), "cuMemFree");
    return NULL;
}

// Starts programs in every way while other threads allocate.
static void start_programs(void) {
    static char *const command[] = {"true", NULL};
    pthread_t threads[3];
    use_gpu();
    for (int i = 0; i < 3; i++) must(pthread_create(&threads[i], NULL, churn, NULL), "thread");
    for (int i = 0; i < 20; i++) {
        pid_t child = i % 2 ? vfork() : fork();
        if (!child) {
            execvp(command[0], command);
            _exit(127);
        }
        must(wait_for(child), "fork and exec");
        must(posix_spawnp(&child, command[0], NULL, NULL, command, environ), "posix_spawnp");
        must(wait_for(child), "posix_spawn");
        must(system("true"), "system");
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
}

// ---- threads -----------------------------------------------------------------------------------

enum { THREADS = 40 };

static void *leave_a_block(void *how) {
    use_context();
    allocate(1000);
    must(cuMemFree(allocate(100)), "cuMemFree");
    if (how) pthread_exit(NULL);
    return NULL;
}

// One after the other: a thread's counters outlive it.
static void threads_end(void) {
    use_gpu();
    for (uintptr_t i = 0; i < THREADS; i++) {
        pthread_t thread;
        must(pthread_create(&thread, NULL, leave_a_block, (void *)(i % 2)), "pthread_create");
        must(pthread_join(thread, NULL), "pthread_join");
    }
}

static void *loop_until_cancelled(void *asynchronous) {
    int before;
    use_context();
    if (asynchronous) pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &before);
    while (true) {
        CUdeviceptr dptr;
        cuMemAlloc(&dptr, 700);
        cuMemFree(dptr);
        if (!asynchronous) pthread_testcancel();
    }
    return NULL;
}

static void cancel_threads(uintptr_t asynchronous) {
    use_gpu();
    for (int round = 0; round < THREADS; round++) {
        pthread_t thread;
        must(pthread_create(&thread, NULL, loop_until_cancelled, (void *)asynchronous), "create");
        usleep(200 + 37 * (useconds_t)round);
        must(pthread_cancel(thread), "pthread_cancel");
        must(pthread_join(thread, NULL), "pthread_join");
    }
    allocate(900);
}

static void threads_cancelled(void) {
    cancel_threads(0);
}
static void threads_cancelled_anywhere(void) {
    cancel_threads(1);
}

static const struct {
    const char *name;
    void (*end)(void);
} endings[] = {
    {"return", by_return},
    {"exit", by_exit},
    {"_exit", by_underscore_exit},
    {"quick_exit", by_quick_exit},
    {"segv", by_segv},
    {"abort", by_abort},
    {"sigterm", by_sigterm},
    {"sigkill", by_sigkill},
    {"exec", by_exec},
    {"exec-itself", by_exec_of_itself},
    {"thread", by_thread},
    {"never", never},
    {"free-at-exit", with_a_free_at_exit},
    {"fork-first", fork_first},
    {"fork-later", fork_later},
    {"fork-idle", fork_idle},
    {"daemon", daemonise},
    {"start-programs", start_programs},
    {"threads-end", threads_end},
    {"threads-cancelled", threads_cancelled},
    {"threads-cancelled-anywhere", threads_cancelled_anywhere},
};

int main(int argc, char **argv) {
    for (size_t i = 0; argc > 1 && i < sizeof endings / sizeof endings[0]; i++)
        if (strcmp(argv[1], endings[i].name) == 0) {
            printf("%s\n", argv[1]);
            fflush(stdout);
            endings[i].end();
            return 0;
        }
    fprintf(stderr, "usage: endings HOW\n");
    return 2;
}
