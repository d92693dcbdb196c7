// SPDX-License-Identifier: Apache-2.0
//
// The table of entry points as data: for the doors (which pointer belongs to which wrapper) and for
// the ledger file (the names of the rows).
#include "entrypoints.h"

#include "ledger_format.h"

mw_pointer mw_next[MW_ENTRIES], mw_driver[MW_API_DRIVER_ROWS];

#define RUNTIME_ENTRY(name, suffix, version, slot)                                                 \
    {#name, version, (void *)name##suffix, NULL, &mw_next[slot], NULL},
#define RUNTIME_SLOT(name, index)                                                                  \
    (MW_API_DRIVER_ROWS + (index)*MW_RUNTIME_ROWS + MW_API_##name - MW_API_DRIVER_ROWS)

const struct mw_entry mw_entries[] = {
#define DRIVER(name, ...)                                                                          \
    {#name,                                                                                        \
     NULL,                                                                                         \
     (void *)name,                                                                                 \
     (void *)name##_routed,                                                                        \
     &mw_next[MW_API_##name],                                                                      \
     &mw_driver[MW_API_##name]},
#define RUNTIME(name, ...)
#include "entrypoints.def"
#undef RUNTIME
#undef DRIVER
#define DRIVER(name, ...)
#define RUNTIME(name, ...) RUNTIME_ENTRY(name, _11, "libcudart.so.11.0", RUNTIME_SLOT(name, 0))
#include "entrypoints.def"
#undef RUNTIME
#define RUNTIME(name, ...) RUNTIME_ENTRY(name, _12, "libcudart.so.12", RUNTIME_SLOT(name, 1))
#include "entrypoints.def"
#undef RUNTIME
#define RUNTIME(name, ...) RUNTIME_ENTRY(name, _13, "libcudart.so.13", RUNTIME_SLOT(name, 2))
#include "entrypoints.def"
#undef RUNTIME
#undef DRIVER
};
const unsigned mw_entry_count = MW_ENTRIES;
static_assert(sizeof mw_entries / sizeof mw_entries[0] == MW_ENTRIES, "one entry a wrapper");
static_assert(MW_API_ROWS <= MW_APIS, "a thread's call counters have room for each row");

const struct mw_api_row mw_api_rows[] = {
#define DRIVER(name, since, ...) {#name, MW_LAYER_DRIVER, since},
#define RUNTIME(name, ...)
#include "entrypoints.def"
#undef RUNTIME
#undef DRIVER
#define DRIVER(name, ...)
#define RUNTIME(name, ...) {#name, MW_LAYER_RUNTIME, 0},
#include "entrypoints.def"
#undef RUNTIME
#undef DRIVER
};
const unsigned mw_api_count = MW_API_ROWS;
