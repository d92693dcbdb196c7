// SPDX-License-Identifier: Apache-2.0
//
// The rows of interpose/entrypoints.def as functions to call: one pointer a row, got by the door
// that the program's first argument names. driver_rows.c and runtime_rows.c call every row through
// it, so a row without an operation is found by its count of calls being zero.
//
//   symbol      the program is linked with the library: the dynamic linker's answer
//   dlsym       dlopen and dlsym with that handle
//   getproc     cuGetProcAddress_v2 by base name and version, as CUDA 12 and 13 do
//   getproc_v1  cuGetProcAddress with four arguments, as CUDA 11.3 to 11.8 do
//   runtime     cudaGetDriverEntryPointByVersion of libcudart.so.12
//
// Compiled with RUNTIME_ROWS the rows are those of the runtime API, with LINKED the program is
// linked (or has the static runtime in it).
#ifndef MEMWATCH_TEST_ROWS_H
#define MEMWATCH_TEST_ROWS_H

#include "cuda_abi.h"

#include <stdatomic.h>

#ifdef RUNTIME_ROWS
#    define DRIVER(...)
#    define RUNTIME(symbol, parameters, ...) ROW(symbol, 0, parameters)
#else
#    define DRIVER(symbol, since, parameters, ...) ROW(symbol, since, parameters)
#    define RUNTIME(...)
#endif

#define ROW(symbol, since, parameters)                                                             \
    mwResult symbol parameters;                                                                    \
    typedef mwResult type_of_##symbol parameters;
#include "entrypoints.def"
#undef ROW

enum row_id {
#define ROW(symbol, since, parameters) ROW_##symbol,
#include "entrypoints.def"
#undef ROW
    ROWS
};

struct row {
    const char *symbol;
    int since; // CUDA version of this ABI
    void *address;
    atomic_ullong calls;
};
extern struct row rows[ROWS];

// Calls a row through its door, and counts that.
#define CALL(symbol, ...)                                                                          \
    (atomic_fetch_add(&rows[ROW_##symbol].calls, 1),                                               \
     ((type_of_##symbol *)rows[ROW_##symbol].address)(__VA_ARGS__))

// Functions that are no rows, such as cuInit. A program lists those it needs as OTHERS(X), each
// X(symbol, parameters), before it includes this, and then calls other.cuInit(0).
void *other_function(const char *symbol); // by dlsym; not where LINKED
#ifdef OTHERS
#    define X(symbol, parameters) mwResult symbol parameters;
OTHERS(X)
#    undef X
static struct {
#    define X(symbol, parameters) mwResult(*symbol) parameters;
    OTHERS(X)
#    undef X
} other;
#    ifdef LINKED
#        define X(symbol, parameters) other.symbol = symbol;
#    else
#        define X(symbol, parameters)                                                              \
            other.symbol = (mwResult(*) parameters)other_function(#symbol);
#    endif
static inline void find_others(void) {
    OTHERS(X)
}
#    undef X
#endif
void doors_open(const char *door);
void doors_print_calls(void); // "SYMBOL COUNT" a line

#endif
