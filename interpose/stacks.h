// SPDX-License-Identifier: Apache-2.0
//
// The stack of an event, as a reference into the ledger's arena. See stacks.c.
#ifndef MEMWATCH_STACKS_H
#define MEMWATCH_STACKS_H

#include <stdbool.h>
#include <stdint.h>

struct mw_stack_options {
    bool python, native;
    bool native_of_tensors;              // although there is Python
    unsigned python_depth, native_depth; // most frames, at most MW_STACK_DEPTH
};

// For a new ledger: which stacks to take; looks for the interpreter and loads the unwinder, and
// notes in the header's levels what came of it. Nobody may be taking stacks. May take
// milliseconds; errno is preserved.
void mw_stacks_begin(const struct mw_stack_options *options);

// Looks again for an interpreter: the doors call it when objects have come or gone. Not in a hook:
// it takes the lock of the loader's list. No-op while not awake.
void mw_stacks_look(void);

// Is Python ending just now? It lets go of every object then: what it frees was held to the end.
// Costs some loads. False where there is no Python, or its stacks are not wanted.
bool mw_stacks_python_ends(void);

// What Python calls the calling thread: a reference to a string in the arena, 0 = nothing. As
// mw_stack_here, but takes some microseconds.
uint32_t mw_stacks_thread_name(void);

// The calling thread's stack: a reference to a struct mw_stack, or MW_NO_STACK. Only while awake
// and not from a signal handler that interrupts it: the depth in mw_self keeps those out. A stack
// that was seen before costs the walk and one look-up. Of a tensor's event native frames are left
// out where there are Python's to tell: there are many such events, and what is native there is the
// inside of the framework. (On a thread of the backward pass there are none of Python's.)
uint32_t mw_stack_here(bool tensor);

#endif
