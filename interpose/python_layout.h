// SPDX-License-Identifier: Apache-2.0
//
// How the structures of one CPython look in memory: shared by what finds the interpreter
// (python_find.c), what walks its frames (stack_python.c) and what reads their names
// (python_place.c).
#ifndef MEMWATCH_PYTHON_LAYOUT_H
#define MEMWATCH_PYTHON_LAYOUT_H

#include "stack_python.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MW_PYTHON_OLDEST 8 // 3.8
#define MW_PYTHON_NEWEST 14

struct mw_python_layout {
    uint8_t minor; // of 3.minor
    bool free_threaded;
    // Where `kind`, `compact` and `ascii` begin in a string's state word, after `interned`.
    uint8_t string_state_shift;
#define FIELD(name, ...) uint16_t name;
#include "python_offsets.def"
#undef FIELD
};
#define MW_ABSENT UINT16_MAX // a field that the version does not have

// Those that the table has. In a header, so that the compiler can put the numbers into the walks.
#define MW_PYTHON_LAST_IN_TABLE 12
#define NONE                    MW_ABSENT
#define ROW(minor_)             .minor = (minor_), .string_state_shift = 2
static const struct mw_python_layout mw_python_layouts[] = {
#define FIELD(name, v8, v9, v10, v11, v12) .name = v8,
    {
        ROW(8),
#include "python_offsets.def"
    },
#undef FIELD
#define FIELD(name, v8, v9, v10, v11, v12) .name = v9,
    {
        ROW(9),
#include "python_offsets.def"
    },
#undef FIELD
#define FIELD(name, v8, v9, v10, v11, v12) .name = v10,
    {
        ROW(10),
#include "python_offsets.def"
    },
#undef FIELD
#define FIELD(name, v8, v9, v10, v11, v12) .name = v11,
    {
        ROW(11),
#include "python_offsets.def"
    },
#undef FIELD
#define FIELD(name, v8, v9, v10, v11, v12) .name = v12,
    {
        ROW(12),
#include "python_offsets.def"
    },
#undef FIELD
};
#undef ROW
#undef NONE

// Owners of a frame. From MW_OWNER_SHIM on, it is none of a function: 3.12 and later mark so where
// the interpreter's loop was entered from C.
enum { MW_OWNER_GENERATOR = 1, MW_OWNER_SHIM = 3 };

// mw_python_frame.instruction where it could not be made relative to the code.
#define MW_INSTRUCTION_UNKNOWN ((uintptr_t)INTPTR_MIN)

enum mw_python_checked { MW_PYTHON_UNCHECKED, MW_PYTHON_GOOD, MW_PYTHON_BAD };

typedef unsigned mw_python_walker(const struct mw_python_layout *at, const char *thread,
                                  struct mw_python_frame *frames, unsigned limit,
                                  struct mw_walk *out);

struct mw_interpreter {
    struct mw_python_layout at;
    _Atomic uint32_t checked;     // enum mw_python_checked: what the first walk found
    _Atomic uint32_t judged;      // somebody is about to set it
    _Atomic uint32_t strangers;   // walks from thread states that could not be judged by
    const char *runtime;          // _PyRuntime
    void *(*this_thread)(void);   // PyGILState_GetThisThreadState
    const char *(*version)(void); // Py_GetVersion
    const void *code_type, *string_type, *bytes_type;
    mw_python_walker *walk;
    const char *bad; // what the first walk found wrong
    char name[64];   // "CPython 3.11.7"; before 3.11 "CPython 3.9" until it could be asked
};

// The interpreter that is walked; NULL as long as there is none.
extern struct mw_interpreter *_Atomic mw_interpreter;

// Sets `walk` by the layout.
void mw_python_choose_walk(struct mw_interpreter *interpreter);

// What the first walk found: NULL if all is as it should be, else what is not. Goes into the level.
void mw_python_judge(struct mw_interpreter *interpreter, const char *bad);

// The outermost frame of the calling thread and its code; NULL if there is none to be had. The
// frame stands as long as its thread has not left it.
const char *mw_python_outermost(const struct mw_interpreter **interpreter, const char **code);

// Asks the kernel: one system call a page.
bool mw_python_readable(const void *start, size_t bytes);

// A string of Python's as UTF-8, terminated, cut at a code point. Returns the bytes.
unsigned mw_python_copy_text(const struct mw_python_layout *at, const char *string, char *out,
                             unsigned size);

// The fields of foreign structures.
static inline const char *mw_load(const char *object, unsigned offset) {
    const char *value;
    memcpy(&value, object + offset, sizeof value);
    return value;
}
static inline int64_t mw_load_long(const char *object, ptrdiff_t offset) {
    int64_t value;
    memcpy(&value, object + offset, sizeof value);
    return value;
}
static inline int32_t mw_load_int(const char *object, unsigned offset) {
    int32_t value;
    memcpy(&value, object + offset, sizeof value);
    return value;
}

// The bits of a string's state, from `kind` on.
#define MW_STRING_WIDTH   7u // bytes a character: 1, 2 or 4
#define MW_STRING_COMPACT 8u // the characters follow the object
#define MW_STRING_ASCII   16u

// A string's characters where they stand. False for a string in a form that is not read: legacy
// ones that were never made ready.
struct mw_python_string {
    const unsigned char *data;
    size_t length;  // characters
    unsigned width; // bytes a character
};
static inline bool mw_python_string(const struct mw_python_layout *at, const char *string,
                                    struct mw_python_string *out) {
    uint32_t state = (uint32_t)mw_load_int(string, at->string_state) >> at->string_state_shift;
    bool compact = state & MW_STRING_COMPACT, ascii = state & MW_STRING_ASCII;
    out->width = state & MW_STRING_WIDTH;
    out->length = (size_t)mw_load_long(string, at->string_length);
    if (compact && ascii)
        out->data = (const unsigned char *)string + at->string_ascii_data;
    else if (compact)
        out->data = (const unsigned char *)string + at->string_data;
    else
        out->data = (const unsigned char *)mw_load(string, at->string_data);
    return (out->width == 1 || out->width == 2 || out->width == 4) && out->data;
}

#endif
