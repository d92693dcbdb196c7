// SPDX-License-Identifier: Apache-2.0
//
// Starts `memwatch` from within the watched process so that the process does not notice.
//
// The usual ways all show: a forked child is reaped by the program's own wait(), its end raises
// SIGCHLD, and fork() copies the page tables of a process of a hundred gigabytes and runs atfork
// handlers. So: clone with CLONE_VM|CLONE_VFORK (no copy) and no exit signal, which makes a child
// that wait() without __WCLONE does not see. That child starts the companion in the same way and
// ends; the companion is an orphan from the start. (A single clone would not do: exec gives a child
// its exit signal SIGCHLD back.)
//
// The two clones run on a stack of their own in our memory while this thread is stopped, as vfork's
// child does: only system calls, no libc state is touched.
#include "monitor.h"

#include "startup.h"
#include "text.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#    define SYS_pidfd_open 434 // Linux 5.3; the same number on every architecture
#endif
#ifndef SYS_close_range
#    define SYS_close_range 436 // Linux 5.9
#endif

#define STACK_BYTES 32768
#define MAX_ENV     4096

// The kernel's mask itself: glibc's calls leave out the two signals that it uses for cancellation
// and setuid, and pthread_sigmask is not in libc before 2.32.
uint64_t mw_block_signals(void) {
    uint64_t all = ~UINT64_C(0), before = 0;
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, &before, sizeof all);
    return before;
}

void mw_restore_signals(uint64_t before) {
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
}

// ThreadSanitizer's clone keeps books that a child in our memory would ruin; glibc's other name for
// it is not intercepted. musl has it too.
extern int __clone(int (*)(void *), void *, int, void *, ...) __attribute__((weak));
#define raw_clone(...) (__clone ? __clone(__VA_ARGS__) : clone(__VA_ARGS__))

struct plan {
    const char *program;
    char *const *arguments;
    char **environment;
    char *inner_stack_top;
    bool wait;
    int done_pipe[2]; // with wait: the companion holds the write end until it ends
    int watched;      // pidfd of this process for the companion's descriptor 3, or -1
    volatile int failed;
};

// Past every `_exit` that somebody wraps (a sanitizer's runtime does, and draws its balance there):
// it would run in our memory, which is the watched program's.
static _Noreturn void leave(int status) {
    for (;;) syscall(SYS_exit_group, status);
}

// What the exec'ed program must not inherit: dispositions other than the default (ignored signals
// survive exec), the blocked mask, low descriptors of the watched program.
static int become_companion(void *argument) {
    struct plan *p = argument;
    struct sigaction standard = {.sa_handler = SIG_DFL};
    for (int s = 1; s < NSIG; s++) sigaction(s, &standard, NULL);
    mw_restore_signals(0);
    setsid();
    int keep = 3, hand_over = p->wait ? p->done_pipe[1] : p->watched;
    if (hand_over >= 0) {
        if (hand_over != 3) dup2(hand_over, 3);
        fcntl(3, F_SETFD, 0);
        keep = 4;
    }
    // Everything else of the watched program's: a pipe that we held would keep its reader waiting.
    if (syscall(SYS_close_range, (unsigned)keep, ~0u, 0u) != 0)
        for (int fd = keep; fd < 4096; fd++) close(fd);
    // What the companion complains of (the ledger is gone) is not for the watched program's stderr.
    // Closed before another is opened: the process may be at its limit of descriptors (ulimit -n).
    for (int fd = 0; fd < 3; fd++) close(fd);
    if (open("/dev/null", O_RDWR) < 0) open("/", O_PATH); // no /dev: what cannot be written
    dup2(0, 1);
    dup2(0, 2);
    execve(p->program, p->arguments, p->environment);
    p->failed = errno;
    leave(127);
}

static int start_companion(void *argument) {
    struct plan *p = argument;
    if (raw_clone(become_companion, p->inner_stack_top, CLONE_VM | CLONE_VFORK, p) < 0)
        p->failed = errno;
    leave(0);
}

// The environment as the program was started with: its array is never freed or moved, while another
// thread may be in the midst of setenv, which moves the present one.
MW_STARTUP static char **first_environment;
__attribute__((constructor)) static void keep_environment(void) {
    first_environment = environ;
}

static bool is_preload(const char *variable) {
    static const char name[] = "LD_PRELOAD=";
    return strncmp(variable, name, sizeof name - 1) == 0;
}

// Waits until the companion's end closes the pipe, at most ten seconds.
static void wait_for_end(int fd) {
    struct pollfd poll_end = {.fd = fd, .events = POLLIN};
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int left = 10000; left > 0;) {
        if (poll(&poll_end, 1, left) >= 0 || errno != EINTR) return;
        clock_gettime(CLOCK_MONOTONIC, &now);
        left = 10000 - (int)((now.tv_sec - start.tv_sec) * 1000);
    }
}

bool mw_companion_start(const char *program, char *const arguments[], bool wait) {
    size_t bytes = 2 * STACK_BYTES + MAX_ENV * sizeof(char *);
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return false;
    struct plan plan = {.program = program,
                        .arguments = arguments,
                        .wait = wait,
                        .done_pipe = {-1, -1},
                        .watched = -1};
    plan.environment = (char **)(memory + 2 * STACK_BYTES);
    plan.inner_stack_top = memory + STACK_BYTES;
    size_t n = 0;
    for (char **e = first_environment ? first_environment : environ; e && *e && n < MAX_ENV - 1;
         e++)
        if (!is_preload(*e)) plan.environment[n++] = *e;
    plan.environment[n] = NULL;
    // Opened here and not by the companion: the process may be dead and reaped before that starts.
    if (!wait) plan.watched = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (wait && pipe2(plan.done_pipe, O_CLOEXEC) != 0) plan.wait = false;

    uint64_t before = mw_block_signals();
    int child = raw_clone(start_companion, memory + 2 * STACK_BYTES, CLONE_VM | CLONE_VFORK, &plan);
    if (child > 0)
        while (waitpid(child, NULL, __WCLONE) < 0 && errno == EINTR) {
        }
    mw_restore_signals(before);
    if (plan.wait) {
        close(plan.done_pipe[1]);
        if (child > 0 && !plan.failed) wait_for_end(plan.done_pipe[0]);
        close(plan.done_pipe[0]);
    }
    if (plan.watched >= 0) close(plan.watched);
    munmap(memory, bytes);
    return child > 0 && !plan.failed;
}

struct own_path {
    char *path;
    size_t size;
    bool found;
};

static int is_own_object(struct dl_phdr_info *info, size_t size, void *argument) {
    (void)size;
    struct own_path *own = argument;
    uintptr_t here = (uintptr_t)&mw_companion_find;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD || here - info->dlpi_addr - p->p_vaddr >= p->p_memsz) continue;
        struct mw_text t = mw_text(own->path, own->size);
        mw_put(&t, info->dlpi_name);
        own->found = !t.full;
        return 1;
    }
    return 0;
}

bool mw_companion_find(const char *option, char *path, size_t size) {
    struct mw_text t = mw_text(path, size);
    if (*option) {
        mw_put(&t, option);
        return !t.full && access(path, X_OK) == 0;
    }
    static const char *const beside[] = {"/memwatch", "/../bin/memwatch"};
    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) {
        struct own_path own = {path, size, false};
        dl_iterate_phdr(is_own_object, &own);
        char *slash = own.found ? strrchr(path, '/') : NULL;
        if (!slash) return false;
        t = (struct mw_text){slash, size - (size_t)(slash - path), false};
        mw_put(&t, beside[i]);
        if (!t.full && access(path, X_OK) == 0) return true;
    }
    return false;
}
