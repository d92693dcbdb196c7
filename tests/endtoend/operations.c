// SPDX-License-Identifier: Apache-2.0
//
// The main program of driver_rows and runtime_rows: DOOR THREADS leak|free (see rows.h and
// operations.h). Prints how often it called each row.
#include "operations.h"

#include "rows.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

enum { ROUNDS = 4, THREADS = 8, THINGS = 256, DEVICES = 2, LEAK_EVERY = 3 };
enum { SMALL = 1, LARGE = 40 };

struct made {
    const struct operation *operation;
    struct thing thing;
};

static struct made made[THREADS][THINGS];
static unsigned threads;
static bool leaks;
static pthread_barrier_t barrier;

static struct thing new_thing(const struct worker *w, unsigned variant, unsigned scale) {
    return (struct thing){.variant = variant, .bytes = (1000u + 24u * w->number) * scale};
}

static void churn(const struct worker *w) {
    for (unsigned round = 0; round < ROUNDS; round++)
        for (unsigned i = 0; i < operation_count; i++)
            for (unsigned v = 0; v < operations[i].variants; v++) {
                struct thing thing = new_thing(w, v, SMALL);
                operations[i].make(w, &thing);
                operations[i].undo(w, &thing);
            }
}

// Returns how many things there are.
static unsigned make_all(const struct worker *w, struct made *to, const struct operation *list,
                         unsigned count, unsigned scale) {
    unsigned n = 0;
    for (unsigned i = 0; i < count; i++)
        for (unsigned v = 0; v < list[i].variants; v++) {
            if (n == THINGS) abort();
            to[n] = (struct made){&list[i], new_thing(w, v, scale)};
            list[i].make(w, &to[n].thing);
            n++;
        }
    return n;
}

static void undo_all(const struct worker *w, struct made *all, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (!leaks || i % LEAK_EVERY) all[i].operation->undo(w, &all[i].thing);
}

static void *work(void *argument) {
    struct worker w = {.number = (unsigned)(uintptr_t)argument};
    w.device = (int)(w.number % DEVICES);
    begin(&w);
    churn(&w);
    pthread_barrier_wait(&barrier);
    unsigned count = make_all(&w, made[w.number], operations, operation_count, LARGE);
    pthread_barrier_wait(&barrier);
    undo_all(&w, made[(w.number + 1) % threads], count);
    fail_calls(&w);
    return NULL;
}

int main(int argc, char **argv) {
    static struct made made_alone[THINGS];
    pthread_t thread[THREADS];
    if (argc != 4) {
        fprintf(stderr, "usage: %s DOOR THREADS leak|free\n", argv[0]);
        return 2;
    }
    threads = (unsigned)strtoul(argv[2], NULL, 10);
    if (threads < 1 || threads > THREADS) return 2;
    leaks = strcmp(argv[3], "leak") == 0;
    prepare();
    doors_open(argv[1]);
    pthread_barrier_init(&barrier, NULL, threads);
    for (uintptr_t i = 0; i < threads; i++) pthread_create(&thread[i], NULL, work, (void *)i);
    for (unsigned i = 0; i < threads; i++) pthread_join(thread[i], NULL);

    struct worker alone = {.number = threads, .device = DEVICES};
    begin(&alone);
    unsigned count = make_all(&alone, made_alone, operations_alone, operation_alone_count, SMALL);
    undo_all(&alone, made_alone, count);
    doors_print_calls();
    return 0;
}
