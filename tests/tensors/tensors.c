// SPDX-License-Identifier: Apache-2.0
//
// tensors SCENARIO ALLOCATOR [ALLOCATOR]: loads a caching allocator with RTLD_LOCAL, as Python
// does, does something with it, and prints the allocator's own books, a JSON object a line, and
// whether a profiler behind it got what it gave.
#include "allocator.h"
#include "c10.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct allocator {
    void *handle;
    void *(*alloc)(int device, size_t bytes);
    void (*release)(void *);
    void (*empty_cache)(int);
    void (*books)(int, struct books *);
    void (*gave)(struct profile *);
    void (*profile)(struct profile *);
    void (*type)(int device, int type);
    void (*lock)(int), (*unlock)(int);
    void (*corrupt)(int device, int64_t by);
    void (*stray)(int device);
    void *(*host_alloc)(size_t);
    void (*host_free)(void *, size_t);
} a, second;

static void *must_find(void *handle, const char *name) {
    void *found = dlsym(handle, name);
    if (found) return found;
    fprintf(stderr, "tensors: %s\n", dlerror());
    exit(2);
}

static struct allocator load(const char *path, int flags) {
    void *h = dlopen(path, RTLD_NOW | flags);
    if (!h) {
        fprintf(stderr, "tensors: %s\n", dlerror());
        exit(2);
    }
    return (struct allocator){.handle = h,
                              .alloc = must_find(h, "c10_alloc"),
                              .release = must_find(h, "c10_free"),
                              .empty_cache = must_find(h, "c10_empty_cache"),
                              .books = must_find(h, "c10_books"),
                              .gave = must_find(h, "c10_gave"),
                              .profile = must_find(h, "c10_profile"),
                              .type = must_find(h, "c10_type"),
                              .lock = must_find(h, "c10_lock"),
                              .unlock = must_find(h, "c10_unlock"),
                              .corrupt = must_find(h, "c10_corrupt"),
                              .stray = must_find(h, "c10_stray"),
                              .host_alloc = must_find(h, "c10_host_alloc"),
                              .host_free = must_find(h, "c10_host_free")};
}

static void print_books(const struct allocator *of, int device) {
    struct books b;
    of->books(device, &b);
    printf("{\"device\": %d, \"allocated\": %lu, \"allocated_peak\": %lu, \"reserved\": %lu, "
           "\"reserved_peak\": %lu, \"blocks\": %lu, \"segments\": %lu, \"largest_gap\": %lu, "
           "\"allocations\": %lu, \"frees\": %lu, \"ooms\": %lu}\n",
           device, b.allocated, b.allocated_peak, b.reserved, b.reserved_peak, b.blocks, b.segments,
           b.largest_gap, b.allocations, b.frees, b.ooms);
    fflush(stdout);
}

// Did the profiler get each event, with the arguments that it was given with?
static void print_profile(const struct allocator *of) {
    struct profile gave, got;
    of->gave(&gave);
    of->profile(&got);
    printf("{\"gave\": %lu, \"got\": %lu, \"same\": %s}\n", gave.usages + gave.ooms,
           got.usages + got.ooms, memcmp(&gave, &got, sizeof gave) ? "false" : "true");
    fflush(stdout);
}

// ---- workloads -------------------------------------------------------------------------------

static uint64_t random_of(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

// Allocations and frees in no order; what is left stays.
static void churn(const struct allocator *of, int device, unsigned events, uint64_t seed) {
    enum { SLOTS = 64 };
    void *slot[SLOTS] = {0};
    for (unsigned i = 0; i < events; i++) {
        unsigned s = random_of(&seed) % SLOTS;
        if (slot[s]) {
            of->release(slot[s]);
            slot[s] = NULL;
        } else {
            slot[s] = of->alloc(device, random_of(&seed) % (1 << (8 + random_of(&seed) % 15)));
        }
    }
}

static void out_of_memory(void) {
    for (int i = 0; i < 5; i++) a.alloc(0, (size_t)3 << 20);
    void *large = a.alloc(0, (size_t)64 << 20);
    if (a.alloc(0, (size_t)1 << 50)) exit(3);
    a.release(large); // what is live at the end is not what was live then
}

// ---- threads ---------------------------------------------------------------------------------

enum { THREADS = 8, EVENTS = 4000, MAILBOX = 256 };
static void *mailbox[MAILBOX];
static unsigned worked; // events of all threads

static void *work(void *argument) {
    uint64_t seed = 88172645463325252u + (uintptr_t)argument * 7919;
    int device = (int)((uintptr_t)argument % 2);
    for (unsigned i = 0; i < EVENTS; i++) {
        void *mine = a.alloc(device, 1 + random_of(&seed) % 100000);
        // Swapped with what another thread left there, which this one frees.
        void *others =
            __atomic_exchange_n(&mailbox[random_of(&seed) % MAILBOX], mine, __ATOMIC_ACQ_REL);
        if (others) a.release(others);
        __atomic_fetch_add(&worked, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void threads(void) {
    pthread_t t[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) pthread_create(&t[i], NULL, work, (void *)i);
    for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
}

static void threads_until_killed(void) {
    pthread_t t;
    for (uintptr_t i = 0; i < THREADS; i++) pthread_create(&t, NULL, work, (void *)i);
    while (__atomic_load_n(&worked, __ATOMIC_RELAXED) < 2 * EVENTS) usleep(100);
    kill(getpid(), SIGKILL);
}

// ---- what a hook may not do ------------------------------------------------------------------

// Events of a thread, while this one holds the loader's list and the allocator's mutex belongs to
// that thread: a hook that wants the list would wait for ever.
static void *a_few_events(void *unused) {
    a.lock(0);
    churn(&a, 0, 1000, 99);
    a.unlock(0);
    return unused;
}
static int hold_the_list(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)info, (void)size, (void)unused;
    pthread_t t;
    pthread_create(&t, NULL, a_few_events, NULL);
    pthread_join(t, NULL);
    return 1;
}

// From now on a system call other than to write or to leave ends the process. False: no such filter
// can be had here.
static bool forbid_system_calls(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), // the number
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// No event makes a system call, once its stack and what it needs of the ledger are known.
static void no_system_calls(void) {
    void *kept[100] = {0};
    for (int round = 0; round < 1000; round++) {
        if (round == 2 && !forbid_system_calls()) {
            puts("{\"skip\": \"no seccomp filter\"}");
            return;
        }
        for (int i = 0; i < 100; i++)
            if (kept[i]) a.release(kept[i]);
        for (int i = 0; i < 100; i++) kept[i] = a.alloc(0, 512);
    }
    static const char done[] = "{\"done\": true}\n";
    if (write(1, done, sizeof done - 1) < 0) _exit(3);
    _exit(0);
}

static void keeps_errno(void) {
    int wrong = 0;
    for (int i = 0; i < 100; i++) {
        errno = 1000 + i;
        void *p = a.alloc(0, 4096);
        wrong += errno != 1000 + i && i; // the first one makes a segment, whose errno is cudart's
        errno = 2000 + i;
        a.release(p);
        wrong += errno != 2000 + i;
    }
    errno = 7;
    a.alloc(0, (size_t)1 << 50);
    printf("{\"wrong\": %d}\n", wrong);
}

// ---- forks, copies, host ---------------------------------------------------------------------

static void forked(void) {
    void *parents = a.alloc(0, 1 << 20), *more = a.alloc(0, 1 << 20);
    pid_t child = fork();
    if (!child) {
        a.release(parents);  // not the child's: neither recorded nor lost
        a.alloc(0, 1 << 19); // in its place; CUDA gives a forked child no more
        a.release(more);
        print_books(&a, 0);
        print_profile(&a);
        printf("{\"child\": %d}\n", (int)getpid());
        exit(0);
    }
    waitpid(child, NULL, 0);
    a.release(more);
}

static void host(void) {
    void *p = a.host_alloc(4096), *q = a.host_alloc(10000);
    a.alloc(0, 1 << 20);
    a.host_free(p, 4096);
    (void)q;
}

static void reload(const char *path) {
    churn(&a, 0, 100, 3);
    for (int i = 0; i < 3; i++) {
        print_profile(&a);
        dlclose(a.handle);
        a = load(path, RTLD_LOCAL);
        churn(&a, 1, 100, 4);
    }
}

int main(int argc, char **argv) {
    const char *scenario = argc > 2 ? argv[1] : "";
    bool deep = !strcmp(scenario, "deep");
    if (argc < 3) return 2;
    a = load(argv[2], deep ? RTLD_LOCAL | RTLD_DEEPBIND : RTLD_LOCAL);
    if (argc > 3) second = load(argv[3], RTLD_LOCAL);
    if (!strcmp(scenario, "churn") || deep) {
        churn(&a, 0, 5000, 1);
        churn(&a, 2, 5000, 2);
    } else if (!strcmp(scenario, "types")) {
        for (int i = 0; i < 4; i++) a.type(i, (int[]){CUDA, HIP, XPU, PRIVATE_USE}[i]);
        for (int i = 0; i < 4; i++) a.alloc(i, 1000 << i);
    } else if (!strcmp(scenario, "oom")) {
        out_of_memory();
    } else if (!strcmp(scenario, "threads")) {
        threads();
    } else if (!strcmp(scenario, "killed")) {
        churn(&a, 0, 1000, 1);
        print_books(&a, 0);
        kill(getpid(), SIGKILL);
    } else if (!strcmp(scenario, "killed_threads")) {
        threads_until_killed();
    } else if (!strcmp(scenario, "list")) {
        churn(&a, 0, 10, 1);
        dl_iterate_phdr(hold_the_list, NULL);
    } else if (!strcmp(scenario, "syscalls")) {
        no_system_calls();
    } else if (!strcmp(scenario, "errno")) {
        keeps_errno();
    } else if (!strcmp(scenario, "fork")) {
        forked();
    } else if (!strcmp(scenario, "host")) {
        host();
    } else if (!strcmp(scenario, "reload")) {
        reload(argv[2]);
    } else if (!strcmp(scenario, "corrupt")) {
        churn(&a, 0, 100, 1);
        a.corrupt(0, -(int64_t)(1 << 20));
        a.alloc(0, 512);
    } else if (!strcmp(scenario, "stray")) {
        churn(&a, 0, 100, 1);
        a.stray(0);
    } else if (!strcmp(scenario, "late")) { // something was allocated before the first event
        a.corrupt(0, 1 << 20);
        churn(&a, 0, 100, 1);
        a.stray(0);
    } else if (!strcmp(scenario, "two")) {
        churn(&a, 0, 100, 1);
        churn(&second, 1, 100, 2);
        print_profile(&second);
        print_books(&second, 1);
    } else if (!strcmp(scenario, "loaded")) {
        // never used
    } else {
        fprintf(stderr, "tensors: no scenario \"%s\"\n", scenario);
        return 2;
    }
    for (int i = 0; i < 4; i++) print_books(&a, i);
    print_profile(&a);
    return 0;
}
