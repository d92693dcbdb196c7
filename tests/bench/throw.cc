// SPDX-License-Identifier: Apache-2.0
//
// What it costs to throw an exception and catch it ten frames up, in a process that has used the
// GPU (so that whatever watches it is awake).
//
//     throw COUNT REPEATS
//
// Answers one line of JSON: nanoseconds a throw, one number each repeat.
#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

__attribute__((noinline)) static void down(int depth) {
    if (!depth) throw depth;
    down(depth - 1);
    __asm__ volatile("");
}

static double now() {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: throw COUNT REPEATS\n");
        return 2;
    }
    int count = atoi(argv[1]), repeats = atoi(argv[2]), caught = 0;
    CUcontext context;
    CUdeviceptr block;
    if (cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context) ||
        cuMemAlloc(&block, 512))
        return 2;
    for (int r = 0; r <= repeats; r++) { // the first brings the caches to their steady state
        double start = now();
        for (int i = 0; i < count; i++) {
            try {
                down(10);
            } catch (int) {
                caught++;
            }
        }
        if (r) printf("%s%.1f", r > 1 ? ", " : "[", (now() - start) / count);
    }
    puts("]");
    return caught == count * (repeats + 1) ? 0 : 2;
}
