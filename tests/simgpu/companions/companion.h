// SPDX-License-Identifier: Apache-2.0
//
// What the functions of a simulated companion library do (behaviours.def). They know no prototypes:
// every parameter of an integer or pointer type arrives in a `long`, and floating-point ones, which
// travel in registers of their own, are not counted. A NULL output is left alone, as the real
// libraries do or, where they would not, to the caller's advantage.

#ifndef SIMGPU_COMPANION_H
#define SIMGPU_COMPANION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Handles are compared and used as keys, so each has an address of its own.
enum { COMPANION_HANDLE_BYTES = 64 };

static inline void companion_handle(long out) {
    if (out) *(void **)out = calloc(1, COMPANION_HANDLE_BYTES);
}

static inline void companion_free(long handle) {
    free((void *)handle);
}

// Some of the real ones keep memory of the device for each handle. They get it, as here, from a
// runtime of their own that is linked into them, so that nothing of the caller's is asked for it.
// None where there is no more: then the handle does without.
int cudaMalloc(void **pointer, size_t bytes);
int cudaFree(void *pointer);
int cudaGetDevice(int *device);
int cudaSetDevice(int device);

static inline void companion_take(long out, size_t bytes) {
    if (out && *(void ***)out && cudaMalloc(*(void ***)out, bytes)) **(void ***)out = NULL;
}

static inline void companion_give(long handle) {
    if (handle) cudaFree(*(void **)handle);
}

// For functions that take the address of the handle.
static inline void companion_release(long address) {
    if (!address) return;
    free(*(void **)address);
    *(void **)address = NULL;
}

static inline void companion_int(long out, int value) {
    if (out) *(int *)out = value;
}

static inline void companion_size(long out, size_t value) {
    if (out) *(size_t *)out = value;
}

static inline void companion_pointer(long out, long value) {
    if (out) *(long *)out = value;
}

static inline void companion_zero(long out, size_t bytes) {
    if (out) memset((void *)out, 0, bytes);
}

// The last function that a thread was refused; the library's error texts name it.
static _Thread_local char companion_refused[96];

static inline void companion_refuse(const char *name) {
    strncpy(companion_refused, name, sizeof companion_refused - 1);
}

static inline long companion_text(void) {
    static _Thread_local char text[160];
    const char *name = companion_refused;
    snprintf(text, sizeof text, "%s%s", name, *name ? " is not simulated" : "simulated");
    return (long)text;
}

// A function written by hand (LIBRARY.c): generate.py looks for these.
#define COMPANION(type, name, parameters)                                                          \
    type name parameters;                                                                          \
    type name parameters

#endif
