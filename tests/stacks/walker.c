// SPDX-License-Identifier: Apache-2.0
//
// The walk of Python frames as functions for ctypes, which calls with the GIL released (CDLL) or
// held (PyDLL). Results are text, so that nothing of Python's happens between a walk and what it
// found.
#include "ledger_format.h"
#include "stack_python.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define MOST 256u

static struct mw_level level;

// "STATE words" of the level: what the report would say.
const char *walker_level(void);
const char *walker_level(void) {
    static char words[160];
    snprintf(words, sizeof words, "%u %s", level.state, level.words);
    return words;
}

const char *walker_find(void);
const char *walker_find(void) {
    mw_python_find(&level);
    return walker_level();
}

// How often the interpreter's loop is on the native stack, as the C library's own unwinder sees it.
static unsigned loops(void) {
    static const void *_Atomic loop;
    void *pc[4096];
    unsigned n = 0;
    if (!loop) loop = dlsym(RTLD_DEFAULT, "_PyEval_EvalFrameDefault");
    int frames = backtrace(pc, sizeof pc / sizeof pc[0]);
    for (int i = 0; i < frames; i++) {
        Dl_info in;
        n += dladdr((char *)pc[i] - 1, &in) && in.dli_saddr == loop;
    }
    return n;
}

// "flags F errno E loops L", then for each frame, led by 0x1e and parted by 0x1f: entry, line,
// first line, code, instruction, identity, name, file.
int walker_walk(char *out, int size, unsigned limit);
int walker_walk(char *out, int size, unsigned limit) {
    struct mw_python_frame frame[MOST];
    struct mw_python_place place;
    struct mw_walk walk = {0};
    errno = 1234;
    unsigned n = mw_python_walk(frame, limit < MOST ? limit : MOST, &walk);
    int used = snprintf(out, (size_t)size, "flags %u errno %d loops ", walk.flags, errno);
    used += snprintf(out + used, (size_t)(size - used), "%u", loops());
    for (unsigned i = 0; i < n && used < size; i++) {
        if (!mw_python_describe(&frame[i], &place)) return -1;
        used += snprintf(
            out + used, (size_t)(size - used), "\x1e%d\x1f%u\x1f%u\x1f%lx\x1f%lx\x1f%x\x1f%s\x1f%s",
            frame[i].entry, place.line, place.first_line, (unsigned long)frame[i].code,
            (unsigned long)frame[i].instruction, frame[i].identity, place.name, place.file);
    }
    return used < size ? (int)n : -1;
}

// As an extension does that releases the GIL by itself. To be called with it held.
int walker_walk_released(char *out, int size, unsigned limit);
int walker_walk_released(char *out, int size, unsigned limit) {
    void *(*save)(void) = (void *(*)(void))dlsym(RTLD_DEFAULT, "PyEval_SaveThread");
    void (*restore)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "PyEval_RestoreThread");
    void *state = save();
    int n = walker_walk(out, size, limit);
    restore(state);
    return n;
}

// Only how many frames there are.
unsigned walker_count(void);
unsigned walker_count(void) {
    struct mw_walk walk = {0};
    return mw_python_walk(NULL, MOST, &walk);
}

static bool same(const struct mw_python_frame *a, const struct mw_python_frame *b) {
    return a->code == b->code && a->instruction == b->instruction && a->identity == b->identity &&
           a->entry == b->entry;
}

// Walks that often and returns how many walks did not give what the first one gave.
unsigned walker_repeat(unsigned walks);
unsigned walker_repeat(unsigned walks) {
    struct mw_python_frame first[MOST], frame[MOST];
    struct mw_walk kept = {0};
    unsigned n = mw_python_walk(first, MOST, &kept), different = 0;
    for (unsigned i = 1; i < walks; i++) {
        struct mw_walk again = {0}, hashed = {0};
        bool equal = mw_python_walk(frame, MOST, &again) == n && again.hash == kept.hash;
        for (unsigned k = 0; equal && k < n; k++) equal = same(&first[k], &frame[k]);
        // The walk that keeps nothing, by which a stack is known again.
        equal = equal && mw_python_walk(NULL, MOST, &hashed) == n && hashed.hash == kept.hash &&
                hashed.flags == kept.flags;
        different += !equal;
    }
    return different;
}

const char *walker_thread_name(char *out, int size);
const char *walker_thread_name(char *out, int size) {
    char name[256];
    snprintf(out, (size_t)size, "%.*s", (int)mw_python_thread_name(name, sizeof name), name);
    return out;
}

// ---- other moments ---------------------------------------------------------------------------

static void *count_in_thread(void *n) {
    *(unsigned *)n = walker_count();
    return NULL;
}

// Frames of a thread that Python knows nothing of.
unsigned walker_foreign_thread(void);
unsigned walker_foreign_thread(void) {
    unsigned n = MOST;
    pthread_t thread;
    if (pthread_create(&thread, NULL, count_in_thread, &n) == 0) pthread_join(thread, NULL);
    return n;
}

static unsigned in_child = MOST;

static void after_fork(void) {
    in_child = walker_count();
}

// Walks in the child of each fork from now on, before Python has put itself right there.
void walker_watch_fork(void);
void walker_watch_fork(void) {
    pthread_atfork(NULL, NULL, after_fork);
}

unsigned walker_in_child(void);
unsigned walker_in_child(void) {
    return in_child;
}

static bool tell_at_end;

void walker_watch_end(void);
void walker_watch_end(void) {
    tell_at_end = true;
}

// After the interpreter is gone.
__attribute__((destructor)) static void end(void) {
    if (!tell_at_end) return;
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL); // for threads that still walk
    char line[64];
    int n = snprintf(line, sizeof line, "frames after the end: %u\n", walker_count());
    (void)!write(1, line, (size_t)n);
}

// Walks now and then until the process ends, from a daemon thread that the interpreter does not
// wait for; a walk that gives another number than `frames` or 0 ends it. Not all the time: to be
// interrupted within a walk just when the interpreter deletes thread states is a known limit.
void walker_walk_on(unsigned frames);
void walker_walk_on(unsigned frames) {
    for (;;) {
        unsigned n = walker_count();
        if (n != frames && n != 0) {
            static const char words[] = "wrong frames while the interpreter ended\n";
            (void)!write(1, words, sizeof words - 1);
            _exit(3);
        }
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    }
}

// Nanoseconds of processor time a walk of at most `limit` frames; -1 if there are none.
double walker_time(unsigned walks, unsigned limit);
double walker_time(unsigned walks, unsigned limit) {
    struct timespec a, b;
    unsigned n = 0;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    for (unsigned i = 0; i < walks; i++) {
        struct mw_walk walk = {0};
        n = mw_python_walk(NULL, limit, &walk);
        __asm__ volatile("" ::"r"(walk.hash) : "memory");
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    double ns = (double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec);
    return n == limit ? ns / walks : -1;
}
