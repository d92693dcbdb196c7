// SPDX-License-Identifier: Apache-2.0
//
// The table of entry points as data: for the doors (which pointer belongs to which wrapper) and for
// the ledger file (the names of the rows).
//
// Not as an array of structs with pointers: the dynamic linker would have to write each of a
// thousand pointers, in every process that we are preloaded into, and most of those never see a
// GPU. What is here needs no relocation: names by their offsets in one object, wrappers by their
// distances from the table itself.
#include "entrypoints.h"

#include "ledger_format.h"

#include <stdbool.h>

mw_pointer mw_next[MW_ENTRIES], mw_driver[MW_API_DRIVER_ROWS];

// ---- names -----------------------------------------------------------------------------------

#define RUNTIME(...) DRIVER(__VA_ARGS__)
static const struct names {
#define DRIVER(name, ...)        char text_##name[sizeof #name];
#define TORCH(symbol, name, ...) char text_##symbol[sizeof name];
#include "entrypoints.def"
#include "torch.def"
#undef TORCH
#undef DRIVER
} names = {
#define DRIVER(name, ...)        #name,
#define TORCH(symbol, name, ...) name,
#include "entrypoints.def"
#include "torch.def"
#undef TORCH
#undef DRIVER
};
static const uint16_t name_at[] = {
#define DRIVER(name, ...)  offsetof(struct names, text_##name),
#define TORCH(symbol, ...) offsetof(struct names, text_##symbol),
#include "entrypoints.def"
#include "torch.def"
#undef TORCH
#undef DRIVER
};
#undef RUNTIME
static_assert(sizeof name_at / sizeof *name_at == MW_API_ROWS, "a name each row");
static_assert(sizeof names <= UINT16_MAX, "offsets of 16 bits");
static_assert(MW_API_ROWS <= MW_APIS, "a thread's call counters have room for each row");

static const char versions[MW_RUNTIME_VERSIONS][20] = {"libcudart.so.11.0", "libcudart.so.12",
                                                       "libcudart.so.13"};

static const uint16_t since[] = {
#define DRIVER(name, since, ...)        since,
#define RUNTIME(name, ...)              0,
#define TORCH(symbol, name, since, ...) since,
#include "entrypoints.def"
#include "torch.def"
#undef TORCH
#undef RUNTIME
#undef DRIVER
};

struct mw_api_row mw_api_row(unsigned api) {
    return (struct mw_api_row){(const char *)&names + name_at[api],
                               api < MW_API_DRIVER_ROWS   ? MW_LAYER_DRIVER
                               : api < MW_API_TORCH_FIRST ? MW_LAYER_RUNTIME
                                                          : MW_LAYER_FRAMEWORK,
                               since[api]};
}

// ---- wrappers --------------------------------------------------------------------------------

// In the order of the entries; those of the driver's rows, then the routed ones.
#define ENTRY(function) "    .long " #function " - mw_wrapper_distances\n"
__asm__(".pushsection .rodata\n    .balign 4\nmw_wrapper_distances:\n"
#define RUNTIME(name, ...)
#define DRIVER(name, ...) ENTRY(name)
#include "entrypoints.def"
#undef RUNTIME
#undef DRIVER
#define DRIVER(name, ...)
#define RUNTIME(name, ...) ENTRY(name##_11)
#include "entrypoints.def"
#undef RUNTIME
#define RUNTIME(name, ...) ENTRY(name##_12)
#include "entrypoints.def"
#undef RUNTIME
#define RUNTIME(name, ...) ENTRY(name##_13)
#include "entrypoints.def"
#undef RUNTIME
#undef DRIVER
#define RUNTIME(name, ...)
#define DRIVER(name, ...) ENTRY(name##_routed)
#include "entrypoints.def"
#undef RUNTIME
#undef DRIVER
        "    .popsection\n");
extern const int32_t mw_wrapper_distances[MW_ENTRIES + MW_API_DRIVER_ROWS]
    __attribute__((visibility("hidden")));

static void *wrapper(unsigned index) {
    return (char *)mw_wrapper_distances + mw_wrapper_distances[index];
}

struct mw_entry mw_entry(unsigned number) {
    struct mw_entry e = {.wrapper = wrapper(number), .next = &mw_next[number]};
    if (number < MW_API_DRIVER_ROWS) {
        e.name = mw_api_row(number).name;
        e.routed = wrapper(MW_ENTRIES + number);
        e.driver = &mw_driver[number];
    } else {
        unsigned runtime = number - MW_API_DRIVER_ROWS;
        e.name = mw_api_row(MW_API_DRIVER_ROWS + runtime % MW_RUNTIME_ROWS).name;
        e.version = versions[runtime / MW_RUNTIME_ROWS];
    }
    return e;
}
