// SPDX-License-Identifier: Apache-2.0
//
// The library that libstack_one.c and libstack_two.c make two of. FRAME is a number that takes the
// same room in an instruction in both.
#include "hazard.h"

#define JOIN_(a, b) a##_##b
#define JOIN(a, b)  JOIN_(a, b)
#define NOINLINE    __attribute__((noinline))

static NOINLINE void JOIN(innermost, THIS)(size_t bytes) {
    volatile char room[FRAME];
    room[0] = room[FRAME - 1] = 1;
    hazard_block(bytes);
    if (room[0] != room[FRAME - 1]) exit(3);
}

static NOINLINE void JOIN(between, THIS)(size_t bytes) {
    volatile char room[2 * FRAME];
    room[0] = room[2 * FRAME - 1] = 1;
    JOIN(innermost, THIS)(bytes);
    if (room[0] != room[2 * FRAME - 1]) exit(3);
}

NOINLINE void library_allocates(size_t bytes);
void library_allocates(size_t bytes) {
    JOIN(between, THIS)(bytes);
    __asm__ volatile("");
}
