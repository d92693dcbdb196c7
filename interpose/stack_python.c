// SPDX-License-Identifier: Apache-2.0
//
// The calling thread's Python frames, read out of the interpreter's own structures.
//
// Not through its API: that counts references, makes objects and may collect garbage, and wants
// the GIL, for which a GPU call must not wait. It is sound without, because a thread's chain of
// frames is changed by that thread alone, which is here; each frame keeps its code object alive;
// and what a code object says of itself never changes. The one function called is
// PyGILState_GetThisThreadState, which reads a thread-specific value and nothing else.
//
// What could be elsewhere than supposed is looked at once, with the first frames that are found,
// through reads that cannot crash (check, below). An interpreter that is not laid out as its
// version should be, a patched or a strangely configured one, is given up then with the reason in
// the report: no line is better than a wrong one.
//
// Known limits. A thread state that was made on one thread for use on another is taken for the
// maker's, as PyGILState_GetThisThreadState itself does. A daemon thread that is between here and
// the end of a walk at the very moment in which the interpreter deletes its thread state
// (finalization, after it was marked) reads freed memory.
#include "stack_python.h"

#include "ledger.h"
#include "map.h"
#include "python_layout.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096u // or a multiple of it

// ---- identity --------------------------------------------------------------------------------

// The first word of an object's data, and the last. Where there is less than a word, the first is
// also of what lies behind the object, in the rest of the 16 bytes that it was given, and the last
// of what stands before the data in it.
MW_INLINE uint64_t first_word(const char *data) {
    return (uint64_t)mw_load_long(data, 0);
}
MW_INLINE uint64_t last_word(const char *data, int64_t bytes) {
    return (uint64_t)mw_load_long(data, bytes - 8) + (uint64_t)bytes;
}

// Are both compact and ASCII, as nearly all are?
MW_INLINE bool are_plain(const struct mw_python_layout *at, const char *a, const char *b) {
    uint32_t plain = (MW_STRING_COMPACT | MW_STRING_ASCII) << at->string_state_shift;
    uint32_t both = (uint32_t)(mw_load_int(a, at->string_state) & mw_load_int(b, at->string_state));
    return (both & plain) == plain;
}

MW_INLINE const char *characters(const struct mw_python_layout *at, bool plain, const char *string,
                                 int64_t *bytes) {
    *bytes = mw_load_long(string, at->string_length);
    if (mw_likely(plain || are_plain(at, string, string))) return string + at->string_ascii_data;
    uint32_t state = (uint32_t)mw_load_int(string, at->string_state) >> at->string_state_shift;
    *bytes = state & MW_STRING_COMPACT ? *bytes * (int64_t)(state & MW_STRING_WIDTH) : 0;
    return string + at->string_data;
}

// Tells a code object from another that later lies at the same address: a program that runs
// generated code in a loop gets the same addresses again and again, for the names in it too. Since
// 3.12 each code object has a number of its own, until 2^32 of them have been made. Before, what a
// frame is described by is looked at: hashes that are known already (function names are interned;
// line tables are hashed where the compiler made them, from 3.10 on), else what most likely
// differs. To look at all of it would cost more than the rest of the walk.
MW_INLINE uint32_t looks(const struct mw_python_layout *at, const char *code) {
    int64_t bytes;
    const char *path = mw_load(code, at->code_file);
    const char *qualified = at->minor >= 11 ? mw_load(code, at->code_qualified_name) : path;
    bool plain = are_plain(at, path, qualified);
    const char *data = characters(at, plain, path, &bytes);
    uint64_t file = last_word(data, bytes);
    uint64_t name = (uint64_t)mw_load_long(mw_load(code, at->code_name), at->string_hash);
    if (at->minor >= 11) { // the name is how the qualified one ends
        data = characters(at, plain, qualified, &bytes);
        name += first_word(data) + (uint64_t)bytes;
    }
    const char *table = mw_load(code, at->code_lines);
    uint64_t lines = at->minor < 10 ? UINT64_MAX : (uint64_t)mw_load_long(table, at->bytes_hash);
    if (lines == UINT64_MAX) {
        data = table + at->bytes_data;
        uint64_t first = first_word(data);
        lines = (first << 21 | first >> 43) + last_word(data, mw_load_long(table, at->object_size));
    }
    lines += (uint64_t)mw_load_int(code, at->code_first_line) << 40;
    // The path by a product: names and paths differ by few bits, which would make up for one
    // another in any sum of the two.
    return (uint32_t)mw_mix(name + file * MW_MIX_A, lines);
}

// Out of the way of what has a number.
static __attribute__((noinline)) uint32_t looks_without_number(const char *code) {
    struct mw_interpreter *p = atomic_load_explicit(&mw_interpreter, memory_order_acquire);
    return p ? looks(&p->at, code) : 0;
}

MW_INLINE uint32_t identity(const struct mw_python_layout *at, const char *code) {
    if (at->minor < 12) return looks(at, code);
    uint32_t version = (uint32_t)mw_load_int(code, at->code_version);
    return mw_likely(version) ? version : looks_without_number(code);
}

// ---- one frame -------------------------------------------------------------------------------

// Where a frame is in its code, in bytes; before 3.11 in what the version counts in.
MW_INLINE uintptr_t instruction(const struct mw_python_layout *at, const char *frame,
                                const char *code) {
    if (at->minor < 11) return (uintptr_t)mw_load_int(frame, at->frame_instruction);
    const char *start = code + at->code_bytecode;
    const char *here = mw_load(frame, at->frame_instruction);
    if (mw_likely(at->code_bytecodes == MW_ABSENT)) return (uintptr_t)(here - start);
    // Free-threaded 3.14: a copy of the bytecode for each thread, so that each can specialize its
    // own. The first is the code's, and its array may just be replaced by a longer one.
    size_t bytes = 2 * (size_t)mw_load_long(code, at->object_size);
    if ((size_t)(here - start) < bytes) return (uintptr_t)(here - start);
    const char *copies = mw_load(code, at->code_bytecodes);
    int64_t index = mw_load_int(frame, at->frame_bytecode_index);
    if (copies && index >= 0 && index < mw_load_long(copies, 0)) {
        start = mw_load(copies, 8 + 8 * (unsigned)index);
        if ((size_t)(here - start) < bytes) return (uintptr_t)(here - start);
    }
    return MW_INSTRUCTION_UNKNOWN;
}

// A frame is not one to Python until its function's first own instruction: cells and generators
// are still being made. The frame that waits for an __init__ called by specialized code (3.12)
// never is: all of its code lies before.
MW_INLINE bool incomplete(const struct mw_python_layout *at, unsigned owner, const char *code,
                          uintptr_t instruction) {
    return at->minor >= 11 &&
           mw_unlikely((intptr_t)instruction <
                       2 * (intptr_t)mw_load_int(code, at->code_first_traceable)) &&
           (at->code_bytecodes == MW_ABSENT || instruction != MW_INSTRUCTION_UNKNOWN) &&
           owner != MW_OWNER_GENERATOR;
}

// 3.14 marks in the lowest bits of a reference who counts it.
MW_INLINE const char *code_of(const struct mw_python_layout *at, const char *frame) {
    uintptr_t reference = (uintptr_t)mw_load(frame, at->frame_code);
    return (const char *)(at->minor >= 14 ? reference & ~(uintptr_t)3 : reference);
}

MW_INLINE const char *first_frame(const struct mw_python_layout *at, const char *thread) {
    const char *frame = mw_load(thread, at->thread_frame);
    if (at->cframe_frame != MW_ABSENT && frame) frame = mw_load(frame, at->cframe_frame);
    return frame;
}

// ---- the walk --------------------------------------------------------------------------------

// A frame as it is hashed, together with the hash of those before it. It waits until the frame
// behind it was seen, which tells whether it is an entry.
struct two_words {
    uint64_t what, where;
};
#define ENTRY (UINT64_C(1) << 63) // no address has this bit

MW_INLINE uint64_t add_words(uint64_t hash, struct two_words w) {
    return mw_mix(hash ^ w.what, w.where);
}

MW_INLINE unsigned walk(const struct mw_python_layout *at, const char *thread,
                        struct mw_python_frame *frames, unsigned limit, struct mw_walk *out) {
    struct two_words last = {0};
    uint64_t hash = 0;
    unsigned n = 0;
    // Shims and incomplete frames come on top of the limit, but a chain that has no end is cut.
    unsigned skips = 2 * limit + 64;
    for (const char *frame = first_frame(at, thread), *previous; frame; frame = previous) {
        previous = mw_load(frame, at->frame_previous);
        unsigned owner = at->frame_owner == MW_ABSENT ? 0 : (unsigned char)frame[at->frame_owner];
        if (at->minor >= 12 && owner >= MW_OWNER_SHIM) {
            last.what |= ENTRY;
            if (frames && n) frames[n - 1].entry = true;
            if (!skips--) break;
            continue;
        }
        const char *code = code_of(at, frame);
        uintptr_t where = instruction(at, frame, code);
        if (mw_unlikely(incomplete(at, owner, code, where))) {
            if (!skips--) break;
            continue;
        }
        if (mw_unlikely(n == limit)) {
            out->flags |= MW_STACK_PYTHON_CUT;
            break;
        }
        if (at->code_bytecodes != MW_ABSENT && where == MW_INSTRUCTION_UNKNOWN)
            out->flags |= MW_STACK_APPROXIMATE;
        hash = add_words(hash, last);
        bool entry = at->frame_entry != MW_ABSENT ? frame[at->frame_entry] : at->minor < 11;
        uint32_t who = identity(at, code);
        last.what = (uintptr_t)code | (entry ? ENTRY : 0);
        last.where = where ^ (uint64_t)who << 32;
        if (frames) frames[n] = (struct mw_python_frame){(uintptr_t)code, where, who, entry};
        n++;
    }
    // The outermost is always called from C.
    if (n && !(out->flags & MW_STACK_PYTHON_CUT)) {
        last.what |= ENTRY;
        if (frames) frames[n - 1].entry = true;
    }
    out->hash = add_words(hash, last);
    return n;
}

// One walk is compiled for each version of the table, with its numbers in it, and one for each kind
// of interpreter that tells them by itself, with what is the same in all of the kind; each of them
// once with nothing to be kept, which is how nearly all walks are.
#define WALK(name, ...)                                                                            \
    MW_HOT static unsigned name(const struct mw_python_layout *told, const char *thread,           \
                                struct mw_python_frame *frames, unsigned limit,                    \
                                struct mw_walk *out) {                                             \
        struct mw_python_layout at = *told;                                                        \
        __VA_ARGS__;                                                                               \
        return frames ? walk(&at, thread, frames, limit, out)                                      \
                      : walk(&at, thread, NULL, limit, out);                                       \
    }
WALK(walk8, at = mw_python_layouts[0])
WALK(walk9, at = mw_python_layouts[1])
WALK(walk10, at = mw_python_layouts[2])
WALK(walk11, at = mw_python_layouts[3])
WALK(walk12, at = mw_python_layouts[4])
#define TOLD at.cframe_frame = at.frame_entry = MW_ABSENT, at.frame_owner &= 255
WALK(walk13, TOLD, at.minor = 13, at.code_bytecodes = MW_ABSENT)
WALK(walk14, TOLD, at.minor = 14, at.code_bytecodes = MW_ABSENT)
WALK(walk14_threaded, TOLD, at.minor = 14, at.code_bytecodes &= 1023)

void mw_python_choose_walk(struct mw_interpreter *p) {
    static mw_python_walker *const walks[] = {walk8, walk9, walk10, walk11, walk12, walk13, walk14};
    bool copies = p->at.code_bytecodes != MW_ABSENT;
    p->walk = copies ? walk14_threaded : walks[p->at.minor - MW_PYTHON_OLDEST];
}

// The calling thread's state, if it can be read now. Python deletes the states of all other
// threads once it finalizes, while those may still be in a C function. Before there is an
// interpreter the library may not even be relocated.
MW_INLINE const char *thread_state(const struct mw_interpreter *p) {
    if (!mw_load(p->runtime, p->at.runtime_interpreters)) return NULL;
    const char *thread = p->this_thread();
    const char *finalizing = mw_load(p->runtime, p->at.runtime_finalizing);
    return finalizing && finalizing != thread ? NULL : thread;
}

static bool check(struct mw_interpreter *p, const char *thread);

// The same, of an interpreter that was found good.
MW_INLINE const char *good_thread_state(struct mw_interpreter *p) {
    const char *thread = p ? thread_state(p) : NULL;
    if (!thread) return NULL;
    if (mw_unlikely(atomic_load_explicit(&p->checked, memory_order_relaxed) != MW_PYTHON_GOOD) &&
        !check(p, thread))
        return NULL;
    return thread;
}

MW_HOT unsigned mw_python_walk(struct mw_python_frame *frames, unsigned limit,
                               struct mw_walk *out) {
    struct mw_interpreter *p = atomic_load_explicit(&mw_interpreter, memory_order_acquire);
    const char *thread = good_thread_state(p);
    if (!thread) return 0;
    // Up to 3.11 a thread's state is the first that it was given, whichever interpreter's runs.
    if (p->at.runtime_next_id != MW_ABSENT && mw_load_long(p->runtime, p->at.runtime_next_id) > 1)
        out->flags |= MW_STACK_UNSURE;
    return p->walk(&p->at, thread, frames, limit, out);
}

enum mw_python_phase mw_python_phase(void) {
    struct mw_interpreter *p = atomic_load_explicit(&mw_interpreter, memory_order_acquire);
    if (!p || atomic_load_explicit(&p->checked, memory_order_relaxed) != MW_PYTHON_GOOD ||
        !mw_load(p->runtime, p->at.runtime_interpreters))
        return MW_PYTHON_NONE;
    return mw_load(p->runtime, p->at.runtime_finalizing) ? MW_PYTHON_ENDS : MW_PYTHON_LIVES;
}

const uintptr_t *mw_python_end_mark(void) {
    struct mw_interpreter *p = atomic_load_explicit(&mw_interpreter, memory_order_acquire);
    return p ? (const uintptr_t *)(p->runtime + p->at.runtime_finalizing) : NULL;
}

#define DEEPEST 100000u // as far as the outermost frame is looked for

const char *mw_python_outermost(const struct mw_interpreter **out, const char **code) {
    struct mw_interpreter *p = atomic_load_explicit(&mw_interpreter, memory_order_acquire);
    const char *thread = good_thread_state(p), *outermost = NULL;
    if (!thread) return NULL;
    const struct mw_python_layout *at = &p->at;
    const char *frame = first_frame(at, thread);
    for (unsigned i = 0; frame && i < DEEPEST; i++, frame = mw_load(frame, at->frame_previous)) {
        unsigned owner = at->frame_owner == MW_ABSENT ? 0 : (unsigned char)frame[at->frame_owner];
        if (at->minor < 12 || owner < MW_OWNER_SHIM) outermost = frame;
    }
    if (!outermost || frame) return NULL;
    *out = p;
    *code = code_of(at, outermost);
    return outermost;
}

// ---- the first look --------------------------------------------------------------------------

// The kernel reads the signal set before it finds that there is no such operation: EFAULT says that
// it could not be read. Unlike process_vm_readv it is nowhere forbidden.
static bool word_readable(uintptr_t word) {
    int saved = errno;
    bool readable = syscall(SYS_rt_sigprocmask, ~0, word, NULL, 8) == 0 || errno != EFAULT;
    errno = saved;
    return readable;
}

bool mw_python_readable(const void *start, size_t n) {
    uintptr_t at = (uintptr_t)start & ~(uintptr_t)7, end = (uintptr_t)start + n;
    bool all = at >= PAGE && n < 1u << 20 && end > at;
    for (; all && at < end; at = (at | (PAGE - 1)) + 1) all = word_readable(at);
    return all;
}

// One fact about what was read; if it does not hold, the words for what is not as it should be.
#define EXPECT(condition, words)                                                                   \
    do {                                                                                           \
        if (!(condition)) return words;                                                            \
    } while (0)

static bool is_bytes(const struct mw_interpreter *p, const char *object) {
    return mw_python_readable(object, p->at.bytes_data) &&
           mw_load(object, p->at.object_type) == p->bytes_type &&
           mw_load_long(object, p->at.object_size) >= 0 &&
           mw_python_readable(object + p->at.bytes_data,
                              (size_t)mw_load_long(object, p->at.object_size) + 1);
}

static const char *check_string(const struct mw_interpreter *p, const char *string) {
    const struct mw_python_layout *at = &p->at;
    EXPECT(mw_python_readable(string, at->string_ascii_data), "a name");
    const char *type = mw_load(string, at->object_type);
    // Py_TPFLAGS_UNICODE_SUBCLASS: code.replace() accepts any kind of string.
    EXPECT(type == p->string_type || (mw_python_readable(type, at->type_flags + 8u) &&
                                      mw_load_long(type, at->type_flags) >> 28 & 1),
           "the type of a name");
    struct mw_python_string s;
    EXPECT(mw_python_string(at, string, &s), "the form of a name");
    EXPECT(s.length < 65536 && mw_python_readable(s.data, s.length * s.width + 1),
           "the length of a name");
    return NULL;
}

static const char *check_code(const struct mw_interpreter *p, const char *code,
                              uintptr_t instruction) {
    const struct mw_python_layout *at = &p->at;
    const uint16_t names[] = {at->code_file, at->code_name, at->code_qualified_name};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *bad = names[i] == MW_ABSENT ? NULL : check_string(p, mw_load(code, names[i]));
        if (bad) return bad;
    }
    EXPECT(is_bytes(p, mw_load(code, at->code_lines)), "a line table");
    EXPECT(mw_load_int(code, at->code_first_line) >= 0, "a first line");
    int64_t bytes = 2 * mw_load_long(code, at->object_size);
    if (at->minor < 11) {
        const char *bytecode = mw_load(code, at->code_bytecode);
        EXPECT(is_bytes(p, bytecode), "the bytecode");
        bytes = mw_load_long(bytecode, at->object_size) / (at->minor < 10 ? 1 : 2);
    }
    EXPECT(bytes > 0 && (instruction == MW_INSTRUCTION_UNKNOWN ||
                         ((intptr_t)instruction >= -2 && (intptr_t)instruction < bytes)),
           "the place in the bytecode");
    if (at->code_first_traceable != MW_ABSENT) {
        int64_t first = mw_load_int(code, at->code_first_traceable);
        EXPECT(first >= 0 && 2 * first < bytes, "the first traceable instruction");
    }
    return NULL;
}

// NULL if the thread's frames are what they should be; *seen: how many were looked at.
static const char *check_frames(const struct mw_interpreter *p, const char *thread,
                                unsigned *seen) {
    const struct mw_python_layout *at = &p->at;
    bool old = at->frame_owner == MW_ABSENT;
    size_t frame_bytes = (old ? at->frame_instruction : at->frame_owner) + 8u;
    size_t code_bytes = at->minor < 11 ? at->code_lines + 8u : at->code_bytecode;
    if (at->cframe_frame != MW_ABSENT)
        EXPECT(mw_python_readable(mw_load(thread, at->thread_frame), at->cframe_frame + 8u),
               "a C frame");
    const char *frame = first_frame(at, thread);
    for (unsigned steps = 64; frame && steps--; frame = mw_load(frame, at->frame_previous)) {
        EXPECT(!((uintptr_t)frame & 7) && mw_python_readable(frame, frame_bytes), "a frame");
        unsigned owner = old ? 0 : (unsigned char)frame[at->frame_owner];
        EXPECT(owner <= MW_OWNER_SHIM + 1, "the owner of a frame");
        if (at->minor >= 12 && owner >= MW_OWNER_SHIM) continue;
        if (at->frame_entry != MW_ABSENT)
            EXPECT((unsigned char)frame[at->frame_entry] <= 1, "the entry mark of a frame");
        const char *code = code_of(at, frame);
        EXPECT(!((uintptr_t)code & 7) && mw_python_readable(code, code_bytes) &&
                   mw_load(code, at->object_type) == p->code_type,
               "the code of a frame");
        const char *bad = check_code(p, code, instruction(at, frame, code));
        if (bad) return bad;
        ++*seen;
    }
    return NULL;
}

// Judges the interpreter by the frames of a thread of its main interpreter, whose thread states can
// be told by a pointer that is known from elsewhere. True if it is good.
static bool check(struct mw_interpreter *p, const char *thread) {
    if (atomic_load_explicit(&p->checked, memory_order_relaxed) == MW_PYTHON_BAD) return false;
    const char *bad = "a thread state";
    unsigned seen = 0;
    if (word_readable(8)) {
        bad = "memory that cannot be asked about";
    } else if (mw_python_readable(thread, p->at.thread_frame + 8u)) {
        const char *interpreter = mw_load(thread, p->at.thread_interpreter);
        const char *newest = mw_load(p->runtime, p->at.runtime_interpreters);
        const char *main = mw_load(p->runtime, p->at.runtime_interpreters + 8u);
        if (interpreter == newest || interpreter == main)
            bad = check_frames(p, thread, &seen);
        else if (++p->strangers < 1000) // of another interpreter, most likely
            return false;
    }
    if (!bad && !seen) return false; // nothing to judge by yet
    mw_python_judge(p, bad);
    return !bad;
}
