// SPDX-License-Identifier: Apache-2.0
//
// Which Python is loaded, and how it is laid out.
//
// Told by its symbols, wherever they are: in libpython, or in a program that Python is linked into
// (python3 of Debian and conda). No function of it is called: the dynamic linker lists objects
// before it has relocated them. Up to 3.10 nothing but newly added functions tells the versions
// apart; since 3.11 there is a word with the version in it, and since 3.13 a table of offsets.
#include "ledger.h"
#include "python_layout.h"
#include "stack_python.h"
#include "symbols.h"
#include "text.h"

#include <assert.h>

static_assert(sizeof(void *) == 8, "the offsets are those of 64-bit builds");

MW_READ_MOSTLY struct mw_interpreter *_Atomic mw_interpreter;
bool mw_python_ready;

// ---- symbols ---------------------------------------------------------------------------------

// X(identifier, symbol). Data may stand in the program itself, copied there by the linker, with the
// functions in libpython: the first definition in the order of loading is what everybody uses.
#define SYMBOLS(X)                                                                                 \
    X(RUNTIME, "_PyRuntime")                                                                       \
    X(VERSION, "Py_Version") /* since 3.11 */                                                      \
    X(GET_VERSION, "Py_GetVersion")                                                                \
    X(THIS_THREAD, "PyGILState_GetThisThreadState")                                                \
    X(CODE_TYPE, "PyCode_Type")                                                                    \
    X(STRING_TYPE, "PyUnicode_Type")                                                               \
    X(BYTES_TYPE, "PyBytes_Type")                                                                  \
    X(NEW_IN_8, "PyCode_NewWithPosOnlyArgs") /* gone again in 3.12 */                              \
    X(NEW_IN_9, "PyFrame_GetCode")                                                                 \
    X(NEW_IN_10, "PyGC_Enable")                                                                    \
    X(TRACE_REFS, "_Py_PrintReferences") /* only with Py_TRACE_REFS */                             \
    X(REF_DEBUG, "_Py_NegativeRefcount") /* only with Py_REF_DEBUG, thus Py_DEBUG */               \
    X(PYPY, "rpython_startup_code")
enum symbol {
#define X(id, text) id,
    SYMBOLS(X)
#undef X
        SYMBOL_COUNT
};
static const char *const symbol_names[] = {
#define X(id, text) text,
    SYMBOLS(X)
#undef X
};

struct search {
    struct mw_elf_name name[SYMBOL_COUNT];
    const char *at[SYMBOL_COUNT];
};

static void find(struct search *s, const struct mw_elf *object, enum symbol id) {
    if (!s->at[id]) s->at[id] = mw_elf_find(object, s->name[id], NULL);
}

// Whether there is a Python: stops at the first object that is or contains one.
static int look_for_landmarks(struct dl_phdr_info *info, size_t size, void *data) {
    struct search *s = data;
    struct mw_elf object;
    (void)size;
    if (!mw_elf_read(&object, info)) return 0;
    find(s, &object, RUNTIME);
    find(s, &object, GET_VERSION);
    find(s, &object, PYPY);
    return s->at[RUNTIME] || s->at[GET_VERSION] || s->at[PYPY];
}

static int look_for_all(struct dl_phdr_info *info, size_t size, void *data) {
    struct mw_elf object;
    (void)size;
    if (mw_elf_read(&object, info))
        for (enum symbol id = 0; id < SYMBOL_COUNT; id++) find(data, &object, id);
    return 0;
}

// ---- layouts ---------------------------------------------------------------------------------

// Since 3.13 _PyRuntime begins with struct _Py_DebugOffsets: a cookie, the version, whether
// free-threaded, then groups of offsets, all of 8 bytes, each group led by the size of what it
// describes. Groups grow at their ends from one minor version to the next, so what differs is at
// which word each begins (Include/internal/pycore_debug_offsets.h of the release).
static const char COOKIE[8] = "xdebugpy";
enum { DEBUG_VERSION = 1, DEBUG_FREE_THREADED, DEBUG_RUNTIME };
static const struct debug_groups {
    uint8_t minor, thread, frame, code, object, type, bytes, string;
} debug_groups[] = {
    {13, 19, 28, 34, 44, 46, 64, 67},
    {14, 22, 31, 39, 50, 52, 74, 77},
};

// A word of the table, or MW_ABSENT if it cannot be an offset into what the group describes.
static uint16_t debug_offset(const char *runtime, unsigned group, unsigned word) {
    uint64_t offset = (uint64_t)mw_load_long(runtime, 8 * (group + word));
    uint64_t size = (uint64_t)mw_load_long(runtime, 8 * group);
    return offset < size && offset < MW_ABSENT ? (uint16_t)offset : MW_ABSENT;
}

static bool read_debug_offsets(struct mw_python_layout *at, const char *runtime, uint64_t version) {
    const struct debug_groups *g = debug_groups;
    while (g->minor != at->minor) g++;
    if (memcmp(runtime, COOKIE, sizeof COOKIE) != 0 ||
        (uint64_t)mw_load_long(runtime, 8 * DEBUG_VERSION) != version)
        return false;
    at->free_threaded = mw_load_long(runtime, 8 * DEBUG_FREE_THREADED) != 0;
    const struct {
        uint16_t *field;
        unsigned group, word;
    } told[] = {
        {&at->runtime_finalizing, DEBUG_RUNTIME, 1},
        {&at->runtime_interpreters, DEBUG_RUNTIME, 2},
        {&at->thread_interpreter, g->thread, 3},
        {&at->thread_frame, g->thread, 4},
        {&at->frame_previous, g->frame, 1},
        {&at->frame_code, g->frame, 2},
        {&at->frame_instruction, g->frame, 3},
        {&at->frame_owner, g->frame, 5},
        {&at->code_file, g->code, 1},
        {&at->code_name, g->code, 2},
        {&at->code_qualified_name, g->code, 3},
        {&at->code_lines, g->code, 4},
        {&at->code_first_line, g->code, 5},
        {&at->code_bytecode, g->code, 9},
        {&at->object_type, g->object, 1},
        {&at->type_flags, g->type, 3},
        {&at->object_size, g->bytes, 1},
        {&at->bytes_data, g->bytes, 2},
        {&at->string_state, g->string, 1},
        {&at->string_length, g->string, 2},
        {&at->string_ascii_data, g->string, 3},
    };
    for (unsigned i = 0; i < sizeof told / sizeof told[0]; i++) {
        *told[i].field = debug_offset(runtime, told[i].group, told[i].word);
        if (*told[i].field == MW_ABSENT) return false;
    }
    bool copies = at->free_threaded && at->minor >= 14;
    at->frame_bytecode_index = copies ? debug_offset(runtime, g->frame, 7) : MW_ABSENT;
    at->code_bytecodes = copies ? debug_offset(runtime, g->code, 10) : MW_ABSENT;
    if (copies && (at->frame_bytecode_index == MW_ABSENT || at->code_bytecodes == MW_ABSENT))
        return false;

    // What the table does not tell follows from its neighbours, as the headers of both versions
    // have it. co_version is the last of seven words, co_firstlineno the first of them, and the
    // pointer after them is in the table; _co_firsttraceable stands before co_extra and the code.
    if (debug_offset(runtime, g->code, 7) != at->code_first_line + 28) return false;
    at->code_version = at->code_first_line + 24;
    at->code_first_traceable = (copies ? at->code_bytecodes : at->code_bytecode) - 16;
    at->bytes_hash = at->bytes_data - 8;
    at->string_hash = at->string_length + 8;
    at->string_data = at->string_ascii_data + 16;
    // `interned` has two bits, but a byte of its own in free-threaded 3.14.
    at->string_state_shift = copies ? 8 : 2;
    at->runtime_next_id = at->cframe_frame = at->frame_entry = MW_ABSENT;
    return true;
}

// ---- judging ---------------------------------------------------------------------------------

static struct mw_level *_Atomic reported; // where we said last what we know

static void report(struct mw_level *level, enum mw_level_state state, const char *words) {
    struct mw_text t = mw_text(level->words, sizeof level->words);
    mw_put(&t, words);
    atomic_store_explicit(&level->state, state, memory_order_release);
}

// Which minor version of Python 3, as the symbols tell.
static unsigned minor_version(const struct search *s, uint64_t version) {
    if (version) return version >> 24 == 3 ? version >> 16 & 255 : 255;
    if (!s->at[RUNTIME] || !s->at[NEW_IN_8]) return 7;
    return s->at[NEW_IN_10] ? 10 : s->at[NEW_IN_9] ? 9 : 8;
}

// "CPython 3.11.7" or, not knowing more, "CPython 3.9"
static void name_it(struct mw_text *t, unsigned minor, uint64_t version) {
    mw_put(t, "CPython 3.");
    mw_put_number(t, minor);
    if (version) {
        mw_put(t, ".");
        mw_put_number(t, version >> 8 & 255);
        // The release level: a, b, c in hexadecimal stand for alpha, beta, candidate.
        unsigned level = version >> 4 & 15;
        if (level != 15) mw_put(t, level == 10 ? "a" : level == 11 ? "b" : "rc");
        if (level != 15) mw_put_number(t, version & 15);
    }
}

// NULL if `out` can be walked, else the reason why not.
static const char *prepare(const struct search *s, struct mw_interpreter *out) {
    uint64_t version = s->at[VERSION] ? (uint64_t)mw_load_long(s->at[VERSION], 0) : 0;
    unsigned minor = minor_version(s, version);
    struct mw_text name = mw_text(out->name, sizeof out->name);
    if (s->at[PYPY]) return "PyPy, whose frames are not CPython's";
    if (minor < MW_PYTHON_OLDEST) return "Python older than 3.8";
    name_it(&name, minor, version);
    if (minor > MW_PYTHON_NEWEST) return "newer than what this library knows";
    if (version && (version >> 4 & 15) < 12) return "a pre-release, whose layout is not settled";
    if (s->at[TRACE_REFS]) return "built with Py_TRACE_REFS";
    if (s->at[REF_DEBUG]) return "built with Py_DEBUG";
    for (enum symbol id = RUNTIME; id <= BYTES_TYPE; id++)
        if (!s->at[id] && id != VERSION) return "incomplete: it hides its symbols";

    if (minor <= MW_PYTHON_LAST_IN_TABLE)
        out->at = mw_python_layouts[minor - MW_PYTHON_OLDEST];
    else if (!(out->at.minor = (uint8_t)minor,
               read_debug_offsets(&out->at, s->at[RUNTIME], version)))
        return "its debug offsets are not those of the release";

    out->runtime = s->at[RUNTIME];
    out->this_thread = (void *(*)(void))(uintptr_t)s->at[THIS_THREAD];
    out->version = (const char *(*)(void))(uintptr_t)s->at[GET_VERSION];
    out->code_type = s->at[CODE_TYPE];
    out->string_type = s->at[STRING_TYPE];
    out->bytes_type = s->at[BYTES_TYPE];
    if (out->at.free_threaded) mw_put(&name, ", free-threaded");
    return NULL;
}

static void report_bad(struct mw_level *level, const char *name, const char *reason,
                       const char *detail) {
    char words[sizeof level->words];
    struct mw_text t = mw_text(words, sizeof words);
    mw_put(&t, name);
    mw_put(&t, *name ? ": " : "");
    mw_put(&t, reason);
    mw_put(&t, detail);
    report(level, MW_LEVEL_UNAVAILABLE, words);
}

static void report_interpreter(struct mw_level *level, const struct mw_interpreter *p) {
    if (atomic_load_explicit(&p->checked, memory_order_acquire) == MW_PYTHON_BAD)
        report_bad(level, p->name, "not laid out as it should be: ", p->bad);
    else
        report(level, MW_LEVEL_LIVE, p->name);
}

static void set_ready(bool ready) {
    __atomic_store_n(&mw_python_ready, ready, __ATOMIC_RELEASE);
}

// Before 3.11 only the interpreter itself can say the whole of its version; it writes it into a
// buffer of its own, always the same.
static bool ask_version(struct mw_interpreter *p) {
    char name[sizeof p->name];
    struct mw_text t = mw_text(name, sizeof name);
    mw_put(&t, "CPython ");
    for (const char *c = p->version(); *c && *c != ' '; c++) mw_put(&t, (char[]){*c, 0});
    size_t known = strlen(p->name);
    if (strncmp(name, p->name, known) != 0 || name[known] != '.') return false;
    memcpy(p->name, name, sizeof name);
    return true;
}

void mw_python_judge(struct mw_interpreter *p, const char *bad) {
    // Threads that walked first at the same time come to the same judgement.
    if (atomic_exchange_explicit(&p->judged, 1, memory_order_relaxed)) return;
    if (!bad && p->at.minor < 11 && !ask_version(p)) bad = "its version";
    p->bad = bad;
    atomic_store_explicit(&p->checked, bad ? MW_PYTHON_BAD : MW_PYTHON_GOOD, memory_order_release);
    if (bad) set_ready(false);
    report_interpreter(atomic_load_explicit(&reported, memory_order_acquire), p);
}

void mw_python_inherit(struct mw_level *level) {
    struct mw_interpreter *p = atomic_load_explicit(&mw_interpreter, memory_order_relaxed);
    atomic_store_explicit(&reported, level, memory_order_release);
    if (!p) {
        report(level, MW_LEVEL_NONE, "");
        return;
    }
    // Whoever was judging may be gone.
    if (!atomic_load_explicit(&p->checked, memory_order_relaxed))
        atomic_store_explicit(&p->judged, 0, memory_order_relaxed);
    report_interpreter(level, p);
}

void mw_python_find(struct mw_level *level) {
    // One for each interpreter that comes after another was unloaded. They are not used again,
    // since a thread may be walking by an old one.
    static struct mw_interpreter interpreters[4];
    static unsigned used;

    atomic_store_explicit(&reported, level, memory_order_release);
    struct search s = {0};
    for (enum symbol id = 0; id < SYMBOL_COUNT; id++) s.name[id] = mw_elf_name(symbol_names[id]);
    struct mw_interpreter *p = atomic_load_explicit(&mw_interpreter, memory_order_relaxed);
    if (dl_iterate_phdr(look_for_landmarks, &s)) dl_iterate_phdr(look_for_all, &s);
    if (p && p->runtime == s.at[RUNTIME] && p->code_type == s.at[CODE_TYPE]) {
        report_interpreter(level, p);
        return;
    }
    set_ready(false);
    atomic_store_explicit(&mw_interpreter, NULL, memory_order_release);
    if (!s.at[RUNTIME] && !s.at[GET_VERSION] && !s.at[PYPY]) {
        report(level, MW_LEVEL_NONE, "");
        return;
    }
    if (used == sizeof interpreters / sizeof interpreters[0]) {
        report_bad(level, "", "too many interpreters came and went", "");
        return;
    }
    p = &interpreters[used];
    const char *reason = prepare(&s, p);
    if (reason) {
        report_bad(level, p->name, reason, "");
        return;
    }
    used++;
    mw_python_choose_walk(p);
    report_interpreter(level, p);
    atomic_store_explicit(&mw_interpreter, p, memory_order_release);
    set_ready(true);
}
