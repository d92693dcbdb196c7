// SPDX-License-Identifier: Apache-2.0
//
// The Python frames of the calling thread, read without the GIL and without a call that allocates
// or counts references. See stack_python.c.
#ifndef MEMWATCH_STACK_PYTHON_H
#define MEMWATCH_STACK_PYTHON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A frame as it stands in the interpreter. The three words together tell one source position from
// another as long as the interpreter lives: `identity` changes when another code object comes to
// lie at the address of one that was freed. Certain since 3.12; before, two that are alike in
// function name, first line, and the ends of path, qualified name and line table are not told
// apart.
struct mw_python_frame {
    uintptr_t code;        // PyCodeObject *, valid while the frame is on the stack
    uintptr_t instruction; // relative to the code, in what the version counts in
    uint32_t identity;
    bool entry; // called from C: the frame before it (towards the root) belongs to an earlier run
                // of the interpreter's loop
};

// What a frame says to a reader.
struct mw_python_place {
    char file[1024], name[256]; // UTF-8, terminated, cut at a code point
    unsigned file_bytes, name_bytes;
    uint32_t line; // 0 = not known
    uint32_t first_line;
};

// Looks for an interpreter among the loaded objects and prepares for its version; says in *level
// what came of it (ledger_format.h): live with "CPython 3.11.7", unavailable with the reason, or
// none. Called at wake-up, in a forked child for its own ledger, and again whenever libraries were
// loaded or unloaded: an interpreter that was unloaded must not be walked. Keeps `level`, for what
// the first walk finds out. Walks the loaded objects' symbol tables; no dl function, no allocation,
// no lock but dl_iterate_phdr's. Any thread; callers make sure that one thread at a time calls it.
struct mw_level;
void mw_python_find(struct mw_level *level);

// In a forked child: reports what the parent found. Looks for nothing, takes no lock.
void mw_python_inherit(struct mw_level *level);

// True once an interpreter that can be read was found: the walk is worth calling.
extern bool mw_python_ready;

// What a walk tells beside the frames; starts as zero.
struct mw_walk {
    uint64_t hash;  // of all frames: the same again for the same frames
    unsigned flags; // MW_STACK_*
};

// The calling thread's frames, innermost first, at most `limit`, into `frames` or, if that is NULL,
// into the hash alone. Returns how many. 0 for threads that Python does not know, before the
// interpreter is initialized and, in all but the thread that ends it, after it began to end. Safe
// in any thread at any time between the interpreter's instructions, with or without the GIL, but
// not from a signal handler. Preserves errno. The first walk that finds frames checks, with some
// hundred system calls, that they are what they should be; if not the level becomes unavailable.
unsigned mw_python_walk(struct mw_python_frame *frames, unsigned limit, struct mw_walk *out);

// MW_PYTHON_ENDS from when the interpreter marked that it finalizes, which is after the functions
// that the program registered with atexit, until it is gone. Any thread. Only of one that was found
// good, else MW_PYTHON_NONE.
enum mw_python_phase { MW_PYTHON_NONE, MW_PYTHON_LIVES, MW_PYTHON_ENDS };
enum mw_python_phase mw_python_phase(void);

// A word that is zero unless the phase is MW_PYTHON_ENDS, or MW_PYTHON_NONE again: to ask at every
// event. Of the interpreter that was found; NULL = none was.
const uintptr_t *mw_python_end_mark(void);

// What Python calls the calling thread, into out[size], terminated, in UTF-8 and cut at a code
// point; returns the bytes. 0: none, as for the main thread, for threads that were not started by
// the threading module, in free-threaded builds, and since 3.14, where the kernel knows the name.
// Asks the kernel some dozen times whether memory can be read.
unsigned mw_python_thread_name(char *out, unsigned size);

// Names and line of a frame that the last walk of this thread returned. False: unreadable, the
// frame is to be shown as unknown.
bool mw_python_describe(const struct mw_python_frame *frame, struct mw_python_place *place);

#endif
