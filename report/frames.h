// SPDX-License-Identifier: Apache-2.0
//
// Stacks as they stand in a ledger's arena, each reference checked. Nothing is resolved here: a
// native frame is an address in a file (symbolize.h finds its name), and Python's and native frames
// are two lists (merge.h makes one of them).
#ifndef MEMWATCH_FRAMES_H
#define MEMWATCH_FRAMES_H

#include "reader.h"

// Bytes of the arena, not terminated; NULL and 0 for none.
struct span {
    const char *bytes;
    size_t length;
};

struct python_frame {
    struct span file, function;
    uint32_t line, first_line; // 0 = not known
    bool entry;                // called from C
};

struct native_frame {
    struct span path;  // none: code outside any file
    struct span build; // the build-id's bytes
    uint64_t address;  // as in the file's own symbol table
    uint64_t module;   // distinguishes modules: their reference in the arena; 0 = not told
};

// The stack that a reference names, or NULL: there is none, or it is broken.
const struct mw_stack *stack_at(const struct arena *arena, uint32_t reference);

// The i-th Python frame (i < stack->python), the i-th native frame (i < stack->native), innermost
// first. False: what it refers to is not there; *out is empty then. A frame that refers to nothing
// is empty, too, but true: the writer did not know.
bool stack_python(const struct arena *arena, const struct mw_stack *stack, unsigned i,
                  struct python_frame *out);
bool stack_native(const struct arena *arena, const struct mw_stack *stack, unsigned i,
                  struct native_frame *out);

// A string; empty if there is none.
struct span string_at(const struct arena *arena, uint32_t reference);

// Is everything there that the stack refers to?
bool stack_whole(const struct arena *arena, uint32_t reference);

// A total order by content, for finding equal ones: the same frames in files of the same path and
// build. 0 = equal.
int stack_compare(const struct arena *arena, uint32_t a, uint32_t b);

#endif
