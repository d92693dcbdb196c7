// SPDX-License-Identifier: Apache-2.0
//
// What the doors need to know of the table of entry points (entrypoints.def): for every exported
// wrapper its name and the two places where the address of the real function is kept.
//
// Two wrappers a driver row. The exported symbol forwards to the *next* definition after us in load
// order, as RTLD_NEXT would: a foreign interposer that sits between us and the driver keeps its
// place. A pointer that a look-up returned (dlsym with a handle, cuGetProcAddress) is replaced by a
// wrapper that forwards to exactly that pointer: where it is the next definition, by the exported
// wrapper, else by the routed one. So the watched program reaches the very function it would have
// reached without us.
//
// Runtime rows are exported once for each libcudart (symbol versions libcudart.so.11.0, .12, .13),
// since one process may hold several; they have no routed wrapper.
//
// The rows of torch.def have numbers too, since records and counters name them, but no entry here:
// nobody looks them up, and torch.c finds what they forward to.
#ifndef MEMWATCH_ENTRYPOINTS_H
#define MEMWATCH_ENTRYPOINTS_H

#include "cuda_abi.h"

#include <stdatomic.h>

typedef _Atomic(void *) mw_pointer;

struct mw_entry {
    const char *name;    // exported symbol
    const char *version; // its symbol version; NULL = none (driver)
    void *wrapper;       // forwards to *next
    void *routed;        // forwards to *driver; NULL for runtime rows
    mw_pointer *next;    // next definition after us in load order; NULL until resolved
    mw_pointer *driver;  // definition in the driver library; NULL until its object was seen
};

// Row numbers: what records and counters call an entry point. Driver rows first.
enum mw_api_id {
#define DRIVER(name, ...) MW_API_##name,
#define RUNTIME(name, ...)
#include "entrypoints.def"
#undef RUNTIME
#undef DRIVER
    MW_API_DRIVER_ROWS,
    MW_API_BEFORE_RUNTIME = MW_API_DRIVER_ROWS - 1,
#define DRIVER(name, ...)
#define RUNTIME(name, ...) MW_API_##name,
#include "entrypoints.def"
#undef RUNTIME
#undef DRIVER
    MW_API_TORCH_FIRST,
    MW_API_BEFORE_TORCH = MW_API_TORCH_FIRST - 1,
#define TORCH(symbol, ...) MW_API_##symbol,
#include "torch.def"
#undef TORCH
    MW_API_ROWS
};

enum {
    MW_RUNTIME_ROWS = MW_API_TORCH_FIRST - MW_API_DRIVER_ROWS,
    MW_RUNTIME_VERSIONS = 3, // libcudart.so.11.0, .12, .13
    MW_ENTRIES = MW_API_DRIVER_ROWS + MW_RUNTIME_ROWS * MW_RUNTIME_VERSIONS
};
// Where the real functions are, by the number of the entry: driver rows first (number = row
// number), then the runtime rows of each version.
extern mw_pointer mw_next[MW_ENTRIES], mw_driver[MW_API_DRIVER_ROWS];

struct mw_entry mw_entry(unsigned number);

// The wrappers.
#define DRIVER(name, since, parameters, ...)                                                       \
    mwResult name parameters;                                                                      \
    mwResult name##_routed parameters;
#define RUNTIME(name, parameters, ...)                                                             \
    mwResult name##_11 parameters;                                                                 \
    mwResult name##_12 parameters;                                                                 \
    mwResult name##_13 parameters;
#include "entrypoints.def"
#undef RUNTIME
#undef DRIVER

struct mw_api_row {
    const char *name;
    unsigned char layer; // enum mw_layer
    unsigned since;      // version that brought this ABI, as in struct mw_api; 0 = not told
};
struct mw_api_row mw_api_row(unsigned api);

#endif
