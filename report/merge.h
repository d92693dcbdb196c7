// SPDX-License-Identifier: Apache-2.0
//
// One stack of Python's and native frames, in the order in which they called one another, with the
// frames marked that say nothing to the program's author.
#ifndef MEMWATCH_MERGE_H
#define MEMWATCH_MERGE_H

#include "frames.h"
#include "resolver.h"

#define MERGED_MOST 2048u // frames: each native one may stand for several inlined functions

// A frame as it is reported. Texts that are not known have no bytes.
struct merged_frame {
    struct span function, file;
    uint32_t line; // 0 = not known
    bool python;
    // The interpreter's own, the loader's, ours, what CUDA and the C++ library do inside: folded
    // away unless everything is asked for.
    bool folded;
    // Of native frames:
    bool inlined; // into the next frame
    struct span module, build;
    uint64_t offset; // of the call in the file; of an inlined function, as of the one it is in
};

// Asks for the names of a stack's native frames.
void merge_ask(struct resolver *resolver, const struct arena *arena, const struct mw_stack *stack,
               const char *cwd);

// The frames, innermost first, after the resolver ran. Returns how many, at most MERGED_MOST.
unsigned merge_frames(struct resolver *resolver, const struct arena *arena,
                      const struct mw_stack *stack, const char *cwd, struct merged_frame *out);

// Which of them stands for the whole stack: the innermost of the program's own Python code, else
// of any code that is not folded. -1: there is none.
int merge_where(const struct merged_frame *frames, unsigned count);

// Is it a file of the CUDA toolkit's or the C++ library's inline code (cuda_runtime.h, <vector>)?
// A frame there is folded: it is not the program's own, though it is part of the program's module.
bool merge_is_header(struct span file);

#endif
