// SPDX-License-Identifier: Apache-2.0
//
// What a pair of allocation and free costs, bare and watched, in one process and in turns, so that
// whatever else the machine does meanwhile hits both alike. Times are of the processor.
//
//     pairs DOOR KIND THREADS LIVE PAIRS REPEATS [deep]
//
// DOOR     how the program came by the watched functions: symbol, dlsym, getproc; bare is the
//          driver's own once more; malloc compares malloc with the C library's own
// KIND     own      each thread frees what it allocated
//          cold     the same, and the entry of the victim in the thread's list comes from memory
//          cross    each block is freed by the other thread
//          line     no calls: two threads hand a line of the cache to one another PAIRS times
//          unknown  frees of what was never allocated: before and after PAIRS pairs
//          count    through DOOR alone, untimed: for counting instructions
//          hold     LIVE blocks, then wait for the end of standard input
//          sites    the same, each block from a stack of 20 frames of its own
// LIVE     blocks of all threads together; a victim is chosen at random among the thread's own
// deep     the calls come from 20 frames down, each of another function
// Answers one line of JSON: nanoseconds per pair and thread (KIND unknown: per free; line: one
// way).
//
// As a library it does the same for KIND own in threads of its caller's, which may be Python's:
// pairs_set_up once, then pairs_in_this_thread in each thread, then pairs_answer.
#include <cuda.h>
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_THREADS = 8, MAX_REPEATS = 64, BATCH = 512, BATCHES = 8, UNKNOWN_FREES = 200000 };
enum { AHEAD = 16 }; // a power of two
enum side { BARE, WATCHED, SIDES };

struct functions {
    CUresult (*alloc)(CUdeviceptr *, size_t);
    CUresult (*release)(CUdeviceptr);
};
extern const struct functions nulldriver_bare;

static struct functions functions[SIDES];
static const char *kind;
static unsigned threads, repeats;
static bool deep, cold;
static size_t live, pairs;
static pthread_barrier_t everybody;

// Blocks on their way to the thread that frees them; one writer, one reader.
struct mailbox {
    alignas(64) _Atomic uint64_t filled;
    alignas(64) _Atomic uint64_t emptied;
    CUdeviceptr batch[BATCHES][BATCH];
};

struct worker {
    pthread_t thread;
    unsigned index;
    uint64_t random;
    CUdeviceptr *blocks[SIDES];
    CUdeviceptr *victims[SIDES][AHEAD]; // the next ones, in a ring
    unsigned next;                      // in that
    size_t count;
    struct mailbox mailbox;
    double waited; // for the partner, in this turn
    double nanoseconds[MAX_REPEATS][SIDES];
};
static struct worker workers[MAX_THREADS];

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "pairs: %s\n", what);
    exit(2);
}

// This thread's time on a processor: what else the machine runs meanwhile does not count, but what
// that does to the caches does.
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

// ---- the functions that are measured ---------------------------------------------------------

extern void *__libc_malloc(size_t);
extern void __libc_free(void *);

static CUresult plain_malloc(CUdeviceptr *out, size_t bytes) {
    *out = (CUdeviceptr)(uintptr_t)__libc_malloc(bytes);
    return CUDA_SUCCESS;
}
static CUresult plain_free(CUdeviceptr p) {
    __libc_free((void *)(uintptr_t)p);
    return CUDA_SUCCESS;
}
static CUresult any_malloc(CUdeviceptr *out, size_t bytes) {
    *out = (CUdeviceptr)(uintptr_t)malloc(bytes);
    return CUDA_SUCCESS;
}
static CUresult any_free(CUdeviceptr p) {
    free((void *)(uintptr_t)p);
    return CUDA_SUCCESS;
}

static void choose_functions(const char *door) {
    struct functions *watched = &functions[WATCHED];
    functions[BARE] = nulldriver_bare;
    if (!strcmp(door, "bare")) {
        *watched = nulldriver_bare;
    } else if (!strcmp(door, "malloc")) {
        functions[BARE] = (struct functions){plain_malloc, plain_free};
        *watched = (struct functions){any_malloc, any_free};
    } else if (!strcmp(door, "symbol")) {
        *watched = (struct functions){cuMemAlloc, cuMemFree};
    } else if (!strcmp(door, "dlsym")) {
        void *driver = dlopen("libcuda.so.1", RTLD_NOW);
        if (!driver) fail(dlerror());
        *(void **)&watched->alloc = dlsym(driver, "cuMemAlloc_v2");
        *(void **)&watched->release = dlsym(driver, "cuMemFree_v2");
    } else if (!strcmp(door, "getproc")) {
        cuGetProcAddress("cuMemAlloc", (void **)&watched->alloc, CUDA_VERSION, 0, NULL);
        cuGetProcAddress("cuMemFree", (void **)&watched->release, CUDA_VERSION, 0, NULL);
    } else {
        fail("no such door");
    }
    if (!watched->alloc || !watched->release) fail("the driver has no cuMemAlloc");
}

// ---- churning --------------------------------------------------------------------------------

static inline uint64_t next_random(struct worker *w) {
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random;
}

// Victims are chosen some pairs ahead, and their entries in the list fetched. A list of a million
// does not fit a cache; the bare driver, which waits for nothing, lets the processor fetch many
// entries at once, and what watches it does not, so that misses of ours would be told as its cost.
static inline CUdeviceptr *next_victim(struct worker *w, enum side side, uint64_t random) {
    CUdeviceptr **next = &w->victims[side][w->next++ % AHEAD], *victim = *next;
    *next = &w->blocks[side][(random >> 32) * w->count >> 32];
    if (!cold) __builtin_prefetch(*next, 1);
    return victim;
}

static inline size_t some_size(uint64_t random) {
    return (size_t)512 << (random & 7);
}

static void churn_own(struct worker *w, enum side side, size_t n) {
    struct functions f = functions[side];
    while (n--) {
        uint64_t random = next_random(w);
        CUdeviceptr *block = next_victim(w, side, random);
        f.release(*block);
        f.alloc(block, some_size(random));
    }
}

static bool empty_one(struct mailbox *from, struct functions f) {
    uint64_t emptied = atomic_load_explicit(&from->emptied, memory_order_relaxed);
    if (atomic_load_explicit(&from->filled, memory_order_acquire) == emptied) return false;
    for (size_t i = 0; i < BATCH; i++) f.release(from->batch[emptied % BATCHES][i]);
    atomic_store_explicit(&from->emptied, emptied + 1, memory_order_release);
    return true;
}

// The partner may be waiting for this very processor. Waiting is not what is measured.
static bool empty_or_wait(struct worker *w, struct mailbox *from, struct functions f) {
    if (empty_one(from, f)) return true;
    double start = now();
    sched_yield();
    w->waited += now() - start;
    return false;
}

static void churn_cross(struct worker *w, enum side side, size_t n) {
    struct functions f = functions[side];
    struct mailbox *mine = &w->mailbox, *theirs = &workers[(w->index + 1) % threads].mailbox;
    size_t emptied = 0, batches = n / BATCH;
    for (size_t filled = 0; filled < batches; filled++) {
        while (atomic_load_explicit(&mine->filled, memory_order_relaxed) -
                   atomic_load_explicit(&mine->emptied, memory_order_acquire) ==
               BATCHES)
            emptied += empty_or_wait(w, theirs, f);
        uint64_t at = atomic_load_explicit(&mine->filled, memory_order_relaxed);
        for (size_t i = 0; i < BATCH; i++) {
            uint64_t random = next_random(w);
            CUdeviceptr *block = next_victim(w, side, random);
            mine->batch[at % BATCHES][i] = *block;
            f.alloc(block, some_size(random));
        }
        atomic_store_explicit(&mine->filled, at + 1, memory_order_release);
        emptied += empty_one(theirs, f);
    }
    while (emptied < batches) emptied += empty_or_wait(w, theirs, f);
}

// Frees of addresses that no driver of this program gave, each once.
static double free_unknown(enum side side) {
    static CUdeviceptr next = (CUdeviceptr)1 << 45;
    double start = now();
    for (int i = 0; i < UNKNOWN_FREES; i++) functions[side].release(next += 512);
    return (now() - start) / UNKNOWN_FREES;
}

// ---- depth -----------------------------------------------------------------------------------

typedef void (*churn_function)(struct worker *, enum side, size_t);

// Each is a frame of a size of its own; what follows the call keeps it from being a jump.
#define LEVEL(name, below)                                                                         \
    static __attribute__((noinline)) void name(churn_function churn, struct worker *w,             \
                                               enum side side, size_t n) {                         \
        volatile char room[sizeof #below * 8];                                                     \
        room[0] = 1;                                                                               \
        below;                                                                                     \
        if (!room[0]) fail("the stack is damaged");                                                \
    }
LEVEL(level_1, churn(w, side, n))
LEVEL(level_2, level_1(churn, w, side, n))
LEVEL(level_3, level_2(churn, w, side, n))
LEVEL(level_4, level_3(churn, w, side, n))
LEVEL(level_5, level_4(churn, w, side, n))
LEVEL(level_6, level_5(churn, w, side, n))
LEVEL(level_7, level_6(churn, w, side, n))
LEVEL(level_8, level_7(churn, w, side, n))
LEVEL(level_9, level_8(churn, w, side, n))
LEVEL(level_10, level_9(churn, w, side, n))
LEVEL(level_11, level_10(churn, w, side, n))
LEVEL(level_12, level_11(churn, w, side, n))
LEVEL(level_13, level_12(churn, w, side, n))
LEVEL(level_14, level_13(churn, w, side, n))
LEVEL(level_15, level_14(churn, w, side, n))
LEVEL(level_16, level_15(churn, w, side, n))

// Two functions call one another as the bits of a number say: 2^17 stacks of 20 frames, with main
// and two of the C library.
enum { BITS = 17 };
static void one(unsigned bits, unsigned left, CUdeviceptr *block);
static void zero(unsigned bits, unsigned left, CUdeviceptr *block);

#define TURN(name)                                                                                 \
    static __attribute__((noinline)) void name(unsigned bits, unsigned left, CUdeviceptr *block) { \
        if (!left)                                                                                 \
            functions[WATCHED].alloc(block, 512);                                                  \
        else if (bits & 1)                                                                         \
            one(bits >> 1, left - 1, block);                                                       \
        else                                                                                       \
            zero(bits >> 1, left - 1, block);                                                      \
        __asm__ volatile("" ::: "memory");                                                         \
    }
TURN(one)
TURN(zero)

// ---- the schedule ----------------------------------------------------------------------------

static void prepare(struct worker *w) {
    CUcontext context;
    cuDevicePrimaryCtxRetain(&context, 0);
    cuCtxSetCurrent(context);
    w->random = UINT64_C(0x9e3779b97f4a7c15) * (w->index + 1);
    w->count = live / threads;
    for (enum side side = BARE; side < SIDES; side++) {
        w->blocks[side] = calloc(w->count, sizeof *w->blocks[side]);
        if (!w->blocks[side]) fail("no memory for the list of blocks");
        for (size_t i = 0; i < w->count; i++)
            functions[side].alloc(&w->blocks[side][i], some_size(next_random(w)));
        for (unsigned i = 0; i < AHEAD; i++) next_victim(w, side, next_random(w));
    }
}

static void pin(unsigned index) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(index % (unsigned)sysconf(_SC_NPROCESSORS_ONLN), &cpus);
    pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus); // a hint: it may be forbidden
}

// The first turns bring the tables of what watches to their steady state and are not timed.
static void *take_turns(void *argument) {
    struct worker *w = argument;
    churn_function churn = strcmp(kind, "cross") ? churn_own : churn_cross;
    pin(w->index);
    prepare(w);
    for (unsigned turn = 0; turn <= repeats; turn++)
        for (unsigned i = 0; i < SIDES; i++) {
            enum side side = (turn + i) % SIDES;
            size_t n = turn ? pairs : 2 * w->count + pairs / 8;
            pthread_barrier_wait(&everybody);
            w->waited = 0;
            double start = now();
            if (deep) // 16 levels, the churning, this function and two of the C library
                level_16(churn, w, side, n);
            else
                churn(w, side, n);
            if (turn) w->nanoseconds[turn - 1][side] = (now() - start - w->waited) / (double)pairs;
        }
    return NULL;
}

static void print_side(enum side side, const char *name, const char *end) {
    printf("\"%s\": [", name);
    for (unsigned r = 0; r < repeats; r++) {
        double slowest = 0;
        for (unsigned t = 0; t < threads; t++)
            if (workers[t].nanoseconds[r][side] > slowest)
                slowest = workers[t].nanoseconds[r][side];
        printf("%s%.2f", r ? ", " : "", slowest);
    }
    printf("]%s", end);
}

static void begin(void) {
    if (threads < 1 || threads > MAX_THREADS || live < threads || repeats > MAX_REPEATS)
        fail("an argument is out of range");
    pthread_barrier_init(&everybody, NULL, threads);
    for (unsigned i = 0; i < threads; i++) workers[i].index = i;
}

static void answer(void) {
    printf("{");
    print_side(BARE, "bare", ", ");
    print_side(WATCHED, "watched", "}\n");
    fflush(stdout);
}

static void measure_pairs(void) {
    for (unsigned i = 0; i < threads; i++)
        if (pthread_create(&workers[i].thread, NULL, take_turns, &workers[i]) != 0)
            fail("cannot make a thread");
    for (unsigned i = 0; i < threads; i++) pthread_join(workers[i].thread, NULL);
    answer();
}

void pairs_set_up(unsigned of_threads, size_t blocks, size_t each, unsigned turns);
void pairs_set_up(unsigned of_threads, size_t blocks, size_t each, unsigned turns) {
    kind = "own";
    threads = of_threads;
    live = blocks;
    pairs = each;
    repeats = turns;
    choose_functions("symbol");
    begin();
}

void pairs_in_this_thread(unsigned index);
void pairs_in_this_thread(unsigned index) {
    take_turns(&workers[index]);
}

void pairs_answer(void);
void pairs_answer(void) {
    answer();
}

// What two threads pay the machine for each line of the cache that both write to.
static void *pass_back(void *line) {
    _Atomic uint64_t *turn = line;
    pin(1);
    for (uint64_t i = 0; i < pairs; i++) {
        while (atomic_load_explicit(turn, memory_order_acquire) != 2 * i + 1) {
        }
        atomic_store_explicit(turn, 2 * i + 2, memory_order_release);
    }
    return NULL;
}

static void measure_line(void) {
    static alignas(128) _Atomic uint64_t turn;
    pthread_t other;
    pin(0);
    if (pthread_create(&other, NULL, pass_back, &turn) != 0) fail("cannot make a thread");
    double start = now();
    for (uint64_t i = 0; i < pairs; i++) {
        atomic_store_explicit(&turn, 2 * i + 1, memory_order_release);
        while (atomic_load_explicit(&turn, memory_order_acquire) != 2 * i + 2) {
        }
    }
    printf("{\"line\": %.2f}\n", (now() - start) / (2 * (double)pairs));
    pthread_join(other, NULL);
}

static void measure_unknown(void) {
    double before[SIDES], after[SIDES];
    prepare(&workers[0]);
    for (enum side side = BARE; side < SIDES; side++) before[side] = free_unknown(side);
    churn_own(&workers[0], WATCHED, pairs);
    for (enum side side = BARE; side < SIDES; side++) after[side] = free_unknown(side);
    printf("{\"before\": %.2f, \"after\": %.2f}\n", before[WATCHED] - before[BARE],
           after[WATCHED] - after[BARE]);
}

int main(int argc, char **argv) {
    deep = argc == 8 && !strcmp(argv[7], "deep");
    if (argc != 7 && !deep) fail("usage: pairs DOOR KIND THREADS LIVE PAIRS REPEATS [deep]");
    kind = argv[2];
    threads = (unsigned)atoi(argv[3]);
    live = (size_t)atol(argv[4]);
    pairs = (size_t)atol(argv[5]);
    repeats = (unsigned)atoi(argv[6]);
    choose_functions(argv[1]);
    begin();
    cold = !strcmp(kind, "cold");
    if (!strcmp(kind, "own") || cold || !strcmp(kind, "cross")) {
        measure_pairs();
    } else if (!strcmp(kind, "line")) {
        measure_line();
    } else if (!strcmp(kind, "unknown")) {
        measure_unknown();
    } else if (!strcmp(kind, "count")) {
        functions[BARE] = functions[WATCHED];
        prepare(&workers[0]);
        churn_own(&workers[0], WATCHED, pairs);
    } else if (!strcmp(kind, "hold") || !strcmp(kind, "sites")) {
        size_t blocks = live;
        functions[BARE] = nulldriver_bare;
        if (!strcmp(kind, "sites")) live = 1;
        prepare(&workers[0]);
        if (blocks > (size_t)1 << (BITS - 1)) blocks = (size_t)1 << (BITS - 1);
        for (size_t i = live; i < blocks; i++)
            one((unsigned)i, BITS - 1, &workers[0].blocks[WATCHED][0]);
        puts("ready");
        fflush(stdout);
        while (getchar() != EOF) {
        }
    } else {
        fail("no such kind");
    }
    return 0;
}
