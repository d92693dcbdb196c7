// SPDX-License-Identifier: Apache-2.0
// links: interpose/stack_python.c interpose/python_find.c interpose/python_place.c
// build: -D_GNU_SOURCE
//
// The walk of Python frames in interpreters that are made here, byte by byte, from the layouts that
// the headers of CPython publish: free-threaded ones and the newest, which few machines have, and
// broken ones, which nobody has. Real ones are walked by tests/stacks.
//
// Each test runs in a child process: an interpreter is found once, and a crash is one failure.
#include "ledger_format.h"
#include "python_layout.h"
#include "stack_python.h"
#include "symbols.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

// ---- a process without Python, in which symbols are what a test says --------------------------

static struct {
    const char *name;
    const void *address;
} exported[32];

static void export_symbol(const char *name, const void *address) {
    size_t i = 0;
    while (exported[i].name && strcmp(exported[i].name, name) != 0) i++;
    exported[i].name = name;
    exported[i].address = address;
}

struct mw_elf_name mw_elf_name(const char *text) {
    return (struct mw_elf_name){text, 0};
}

bool mw_elf_read(struct mw_elf *object, const struct dl_phdr_info *info) {
    (void)object, (void)info;
    return true;
}

void *mw_elf_find(const struct mw_elf *object, struct mw_elf_name name, const char *version) {
    (void)object, (void)version;
    for (size_t i = 0; exported[i].name; i++)
        if (strcmp(exported[i].name, name.text) == 0) return (void *)(uintptr_t)exported[i].address;
    return NULL;
}

// ---- layouts as published ---------------------------------------------------------------------

// Offsets by the headers of 3.13.5 and 3.14.10, without and with Py_GIL_DISABLED.
struct published {
    const char *words;
    uint64_t version;
    bool free_threaded;
    unsigned minor, runtime_bytes, finalizing, interpreters;
    unsigned frame_bytes, owner, bytecode_index;
    unsigned code_bytes, first_line, file, bytecodes, bytecode, first_traceable;
    unsigned header;       // sizeof(PyObject)
    unsigned string_shift; // of `kind` in the state
    unsigned tag;          // of a frame's reference to its code
};
static const struct published published[] = {
    {"CPython 3.13.5", 0x030d05f0, false, 13, 700, 608, 632, 80, 70, 0, 208, 68, 112, 0, 200, 184,
     16, 2, 0},
    {"CPython 3.13.5, free-threaded", 0x030d05f0, true, 13, 700, 608, 632, 80, 70, 0, 224, 84, 128,
     0, 216, 200, 32, 2, 0},
    {"CPython 3.14.10", 0x030e0af0, false, 14, 900, 784, 808, 88, 74, 0, 216, 68, 112, 0, 208, 192,
     16, 2, 1},
    {"CPython 3.14.10, free-threaded", 0x030e0af0, true, 14, 900, 784, 808, 88, 78, 72, 240, 84,
     128, 224, 232, 208, 32, 8, 1},
};
enum { GIL_13, THREADED_13, GIL_14, THREADED_14, LAYOUTS };
enum { INTERPRETER = 16, CURRENT_FRAME = 72, PREVIOUS = 8, EXECUTABLE = 0, INSTRUCTION = 56 };

// ---- an interpreter ---------------------------------------------------------------------------

static const struct published *p;
static uint64_t runtime[128], version;
static char thread[512], interpreter[64], *current;
static char code_type[512], string_type[512], bytes_type[512], none[64], none_type[512];
static bool may_ask; // this_thread() may be called

static void *this_thread(void) {
    if (!may_ask) abort();
    return current;
}

static const char *get_version(void) {
    return "3.9.18 (main)";
}

static void put(char *object, unsigned offset, const void *value) {
    memcpy(object + offset, &value, sizeof value);
}
static void put_int(char *object, unsigned offset, int32_t value) {
    memcpy(object + offset, &value, sizeof value);
}

static char *object(size_t bytes, const char *type, int64_t size) {
    char *new = calloc(1, bytes + 64);
    put(new, p->header - 8, type);
    put(new, p->header, (void *)(intptr_t)size);
    return new;
}

// `width` bytes a character; 0: ASCII. All are PyASCIIObject or PyCompactUnicodeObject.
static char *string(unsigned width, const void *text, size_t length) {
    unsigned ascii_bytes = p->header + 24, data = width ? ascii_bytes + 16 : ascii_bytes;
    char *new = object(data + 4 * length + 4, string_type, (int64_t)length);
    put(new, p->header + 8, (void *)-1);
    uint32_t state = (width ? width : 1) | 8 | (width ? 0 : 16);
    put_int(new, p->header + 16, (int32_t)(state << p->string_shift));
    memcpy(new + data, text, length * (width ? width : 1));
    return new;
}
static char *ascii(const char *text) {
    return string(0, text, strlen(text));
}
static char *bytes(const void *data, size_t n) {
    char *new = object(p->header + 17 + n, bytes_type, (int64_t)n);
    memcpy(new + p->header + 16, data, n);
    return new;
}

#define CODE_UNITS 20

// Ten code units on each of two lines: `first` + 1 and `first` + 11.
static char *code_object(const char *file, const char *name, int first) {
    static const unsigned char lines[] = {
        0x80 | 11 << 3 | 7, 0, 0, 0x80 | 10 << 3 | 1, 0, 0, 0x80 | 13 << 3 | 7, 20,
        0x80 | 13 << 3 | 1, 0};
    char *new = object(p->code_bytes + 2 * CODE_UNITS, code_type, CODE_UNITS);
    put_int(new, p->first_line, first);
    put_int(new, p->first_line + 24, first + 7000); // co_version
    put_int(new, p->first_traceable, 2);
    put(new, p->file, ascii(file));
    put(new, p->file + 8, ascii("plain name"));
    put(new, p->file + 16, ascii(name));
    put(new, p->file + 24, bytes(lines, sizeof lines));
    return new;
}

// On top of the others. `unit`: where it is in its code.
static char *push(char *code, unsigned unit, unsigned owner) {
    char *new = calloc(1, p->frame_bytes + 64), *previous;
    memcpy(&previous, current + CURRENT_FRAME, sizeof previous);
    put(new, PREVIOUS, previous);
    put(new, EXECUTABLE, code + p->tag);
    put(new, INSTRUCTION, code + p->bytecode + 2 * unit);
    new[p->owner] = (char)owner;
    put(current, CURRENT_FRAME, new);
    return new;
}

static void group(unsigned *word, const uint64_t *offsets, size_t n) {
    memcpy(runtime + *word, offsets, n * sizeof *offsets);
    *word += (unsigned)n;
}
#define GROUP(...)                                                                                 \
    group(&word, (const uint64_t[]){__VA_ARGS__},                                                  \
          sizeof(const uint64_t[]){__VA_ARGS__} / sizeof(uint64_t))

// struct _Py_DebugOffsets, in the order of the version's header.
static void make_debug_offsets(void) {
    unsigned word = 0, h = p->header;
    memcpy(runtime, "xdebugpy", 8);
    runtime[1] = p->version;
    runtime[2] = p->free_threaded;
    word = 3;
    GROUP(p->runtime_bytes, p->finalizing, p->interpreters);
    word += p->minor == 13 ? 13 : 16;                                // interpreter_state
    GROUP(304, 0, 8, INTERPRETER, CURRENT_FRAME, 152, 160, 240, 32); // thread_state
    GROUP(p->frame_bytes, PREVIOUS, EXECUTABLE, INSTRUCTION, 80, p->owner);
    if (p->minor >= 14) GROUP(64, p->bytecode_index);
    GROUP(p->code_bytes, p->file, p->file + 8, p->file + 16, p->file + 24, p->first_line, 52,
          p->first_line + 28, p->first_line + 36, p->bytecode);
    if (p->minor >= 14) GROUP(p->bytecodes);
    GROUP(h, h - 8);                        // pyobject
    GROUP(h + 400, h + 8, h + 72, h + 152); // type_object
    GROUP(h + 16, h + 8, h);                // tuple_object
    GROUP(h + 24, h + 8, h);                // list_object
    if (p->minor >= 14) GROUP(200, h + 8, h + 24, h + 16);
    GROUP(h + 32, h + 16, h + 24);    // dict_object
    GROUP(h + 8, h);                  // float_object
    GROUP(h + 16, h, h + 8);          // long_object
    GROUP(h + 24, h, h + 16);         // bytes_object
    GROUP(h + 48, h + 16, h, h + 24); // unicode_object
}

static struct mw_level level;

static void make(unsigned layout) {
    p = &published[layout];
    version = p->version;
    make_debug_offsets();
    put((char *)runtime, p->interpreters, interpreter);
    put((char *)runtime, p->interpreters + 8, interpreter);
    put(thread, INTERPRETER, interpreter);
    current = thread;
    may_ask = true;
    export_symbol("_PyRuntime", runtime);
    export_symbol("Py_Version", &version);
    export_symbol("Py_GetVersion", (void *)get_version);
    export_symbol("PyGILState_GetThisThreadState", (void *)this_thread);
    export_symbol("PyCode_Type", code_type);
    export_symbol("PyUnicode_Type", string_type);
    export_symbol("PyBytes_Type", bytes_type);
    put(none, p->header - 8, none_type);
}

// ---- tests in children ------------------------------------------------------------------------

#define EXPECT(condition, ...)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s: ", __LINE__, #condition);                                \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\n");                                                                 \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static void expect_level(enum mw_level_state state, const char *words) {
    EXPECT(level.state == (unsigned)state && strcmp(level.words, words) == 0, "level %u \"%s\"",
           level.state, level.words);
}

static void in_child(void (*test)(unsigned), unsigned argument) {
    pid_t child = fork();
    if (child == 0) {
        test(argument);
        _exit(0);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status != 0) fail_msg("case %u ended with status %x", argument, status);
}

static void for_each_layout(void (*test)(unsigned)) {
    for (unsigned layout = 0; layout < LAYOUTS; layout++) in_child(test, layout);
}

// A test that runs another in a child: for each layout, or once.
#define TEST(name, run)                                                                            \
    static void name(void **state) {                                                               \
        (void)state;                                                                               \
        run;                                                                                       \
    }
#define EACH_LAYOUT(name, test) TEST(name, for_each_layout(test))
#define ONCE(name, test)        TEST(name, in_child(test, 0))

static struct mw_python_frame frame[64];

static uint64_t hash; // of the last walk

static unsigned walk(unsigned limit, unsigned expected_flags) {
    struct mw_walk kept = {0}, hashed = {0};
    errno = 77;
    unsigned n = mw_python_walk(frame, limit, &kept);
    EXPECT(kept.flags == expected_flags, "flags %u", kept.flags);
    EXPECT(errno == 77, "errno %d", errno);
    if (n)
        EXPECT(mw_python_walk(NULL, limit, &hashed) == n && hashed.hash == kept.hash &&
                   hashed.flags == kept.flags,
               "not the same when nothing is kept");
    hash = kept.hash;
    return n;
}

static void expect_frame(unsigned i, const char *file, const char *name, unsigned line,
                         bool entry) {
    struct mw_python_place place;
    EXPECT(mw_python_describe(&frame[i], &place), "frame %u", i);
    EXPECT(strcmp(place.file, file) == 0 && strcmp(place.name, name) == 0 && place.line == line &&
               frame[i].entry == entry,
           "%u: %s:%u in %s, entry %d", i, place.file, place.line, place.name, frame[i].entry);
    EXPECT(place.file_bytes == strlen(file) && place.name_bytes == strlen(name), "lengths");
}

static void walk_a_stack(unsigned layout) {
    make(layout);
    char *main_code = code_object("/a/main.py", "<module>", 1);
    char *function = code_object("/a/b.py", "Class.method", 40);
    push(none, 0, 3); // the loop's shim
    push(main_code, 5, 0);
    push(function, 10, 0);
    push(function, 1, 0); // has not begun: not to be seen
    push(none, 0, published[layout].minor == 13 ? 3 : 4);
    push(function, 19, 1);
    push(function, 0, 1); // a generator's is always one
    mw_python_find(&level);
    expect_level(MW_LEVEL_LIVE, p->words);
    EXPECT(mw_python_ready, "not ready");
    EXPECT(walk(64, 0) == 4, "frames");
    expect_level(MW_LEVEL_LIVE, p->words);
    expect_frame(0, "/a/b.py", "Class.method", 41, false);
    expect_frame(1, "/a/b.py", "Class.method", 51, true);
    expect_frame(2, "/a/b.py", "Class.method", 51, false);
    expect_frame(3, "/a/main.py", "<module>", 2, true);
    EXPECT(walk(2, MW_STACK_PYTHON_CUT) == 2, "limit");
    EXPECT(frame[1].entry, "a shim beyond the limit");
    EXPECT(walk(4, 0) == 4 && walk(0, MW_STACK_PYTHON_CUT) == 0, "limits");
    EXPECT(frame[0].identity == 7040, "identity is co_version: %u", frame[0].identity);
}

EACH_LAYOUT(every_published_layout_is_walked, walk_a_stack)

// Stacks are known again by their hash alone.
static void tell_stacks_apart(unsigned layout) {
    if (published[layout].free_threaded) return; // whose code here is too short for this
    make(layout);
    char *code = code_object("/a/b.py", "f", 1), *near = code_object("/a/b.py", "g", 1);
    int apart = (int)((uintptr_t)code ^ (uintptr_t)near); // as far as the bits of an instruction
    const struct {
        char *code;
        int unit;
        bool entry;
    } stacks[] = {{code, 3, false},
                  {near, 3 + apart / 2, false}, // the words differ in the same bits
                  {near, 3, false},
                  {code, 3 + apart / 2, false},
                  {code, 3, true}};
    enum { STACKS = sizeof stacks / sizeof stacks[0] };
    uint64_t hashes[STACKS];
    mw_python_find(&level);
    for (unsigned i = 0; i < STACKS; i++) {
        current = thread;
        put(thread, CURRENT_FRAME, NULL);
        push(none, 0, 3);
        push(code, 7, 0);
        if (stacks[i].entry) push(none, 0, published[layout].minor == 13 ? 3 : 4);
        push(stacks[i].code, (unsigned)stacks[i].unit, 0);
        EXPECT(walk(64, 0) == 2, "frames");
        hashes[i] = hash;
        for (unsigned k = 0; k < i; k++) EXPECT(hashes[i] != hashes[k], "%u and %u", i, k);
    }
}

EACH_LAYOUT(different_stacks_have_different_hashes, tell_stacks_apart)

// Code without a number of its own is told apart by its names: also where two bytes differ alike,
// so that a sum or difference of the halves would not show it.
static void tell_names_apart(unsigned layout) {
    make(layout);
    static const char pairs[][2][12] = {{"Lay0Lay0.f", "Lay1Lay1.f"},
                                        {"A.a", "B.b"},
                                        {"C100.f\0000", "C102.f\0002"}}; // left behind the name
    char *code = code_object("file", "", 1);
    put_int(code, p->first_line + 24, 0);
    push(none, 0, 3);
    push(code, 5, 0);
    mw_python_find(&level);
    for (unsigned i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        uint32_t identity[2];
        for (unsigned k = 0; k < 2; k++) {
            char *name = string(0, pairs[i][k], 8);
            put(name, p->header, (void *)(intptr_t)strlen(pairs[i][k])); // its length
            put(code, p->file + 16, name);
            EXPECT(walk(64, 0) == 1, "frames");
            identity[k] = frame[0].identity;
        }
        EXPECT(identity[0] != identity[1], "%s and %s: both %x", pairs[i][0], pairs[i][1],
               identity[0]);
    }
}

EACH_LAYOUT(names_that_differ_are_told_apart, tell_names_apart)

static void name_in_every_width(unsigned layout) {
    make(layout);
    static const uint16_t two[] = {0x95a2, 0x6570, 0xd800};
    static const uint32_t four[] = {0x1d4bb, 0x1d4ca};
    static const unsigned char latin[] = {'g', 0xf6, 0xdf, 'e'};
    char *code = code_object("file", "name", 1);
    push(none, 0, 3);
    push(code, 5, 0);
    mw_python_find(&level);
    const struct {
        char *string;
        const char *utf8;
    } cases[] = {
        {string(1, latin, 4), "g\xc3\xb6\xc3\x9f"
                              "e"},
        {string(2, two, 3), "\xe9\x96\xa2\xe6\x95\xb0\xef\xbf\xbd"},
        {string(4, four, 2), "\xf0\x9d\x92\xbb\xf0\x9d\x93\x8a"},
        {string(0, "", 0), ""},
        {string(0, "a\0b", 3), "a\xef\xbf\xbd"
                               "b"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put(code, p->file, cases[i].string);
        put(code, p->file + 16, cases[i].string);
        EXPECT(walk(64, 0) == 1, "frames");
        expect_frame(0, cases[i].utf8, cases[i].utf8, 2, true);
    }
}

// As code.replace(co_filename=...) makes it: its characters are elsewhere.
static void name_of_a_subclass(unsigned layout) {
    make(layout);
    static char subclass[512];
    put(subclass, p->header + 152, (void *)(1l << 28)); // Py_TPFLAGS_UNICODE_SUBCLASS
    char *code = code_object("file", "name", 1), *name = string(1, "", 0);
    put(name, p->header - 8, subclass);
    put(name, p->header, (void *)5);
    put_int(name, p->header + 16, (int32_t)(1u | 16) << p->string_shift);
    put(name, p->header + 40, "apart and more");
    put(code, p->file, name);
    push(none, 0, 3);
    push(code, 5, 0);
    mw_python_find(&level);
    EXPECT(walk(64, 0) == 1, "frames");
    expect_level(MW_LEVEL_LIVE, p->words);
    expect_frame(0, "apart", "name", 2, true);
}

EACH_LAYOUT(names_of_a_string_s_subclass_are_read, name_of_a_subclass)

EACH_LAYOUT(names_are_read_in_every_width, name_in_every_width)

// Free-threaded 3.14: each thread specializes a copy of its own, which an array leads to.
static void copies_of_bytecode(unsigned unused) {
    (void)unused;
    make(THREADED_14);
    char *code = code_object("/a/b.py", "f", 40);
    char copy[2 * CODE_UNITS];
    const void *array[] = {(void *)3, code + p->bytecode, NULL, copy};
    put(code, p->bytecodes, array);
    push(none, 0, 3);
    char *top = push(code, 12, 0);
    mw_python_find(&level);
    EXPECT(walk(64, 0) == 1, "frames");
    expect_frame(0, "/a/b.py", "f", 51, true);
    put(top, INSTRUCTION, copy + 2 * 5);
    put_int(top, p->bytecode_index, 2);
    EXPECT(walk(64, 0) == 1, "frames");
    expect_frame(0, "/a/b.py", "f", 41, true);
    // An array that was just replaced: no line rather than a wrong one, and said so.
    for (int32_t index = 0; index < 5; index++) {
        if (index == 2) continue;
        put_int(top, p->bytecode_index, index);
        EXPECT(walk(64, MW_STACK_APPROXIMATE) == 1, "frames");
        expect_frame(0, "/a/b.py", "f", 40, true);
    }
    put(code, p->bytecodes, NULL);
    EXPECT(walk(64, MW_STACK_APPROXIMATE) == 1, "frames");
}

ONCE(a_thread_s_own_copy_of_the_bytecode_is_followed, copies_of_bytecode)

// ---- refusals ---------------------------------------------------------------------------------

static void refuse(const char *words) {
    mw_python_find(&level);
    expect_level(MW_LEVEL_UNAVAILABLE, words);
    EXPECT(!mw_python_ready && walk(64, 0) == 0, "walked");
}

static void refuse_one(unsigned i) {
    make(GIL_14);
    push(none, 0, 3);
    push(code_object("f", "n", 1), 5, 0);
    switch (i) {
    case 0:
        version = 0x030f00f0;
        return refuse("CPython 3.15.0: newer than what this library knows");
    case 1:
        version = runtime[1] = 0x030e00b3;
        return refuse("CPython 3.14.0b3: a pre-release, whose layout is not settled");
    case 2:
        export_symbol("_Py_PrintReferences", "");
        return refuse("CPython 3.14.10: built with Py_TRACE_REFS");
    case 3:
        export_symbol("_Py_NegativeRefcount", "");
        return refuse("CPython 3.14.10: built with Py_DEBUG");
    case 4:
        runtime[0] ^= 1;
        return refuse("CPython 3.14.10: its debug offsets are not those of the release");
    case 5:
        runtime[1] = 0x030d0af0;
        return refuse("CPython 3.14.10: its debug offsets are not those of the release");
    case 6: // the groups of 3.13 under the version of 3.14
        make(GIL_13);
        version = runtime[1] = 0x030e0af0;
        return refuse("CPython 3.14.10: its debug offsets are not those of the release");
    case 7:
        runtime[31 + 2] = 4096; // beyond the frame that it is to lie in
        return refuse("CPython 3.14.10: its debug offsets are not those of the release");
    case 8:
        runtime[39 + 7] += 8; // co_version is not where it was
        return refuse("CPython 3.14.10: its debug offsets are not those of the release");
    case 9:
        version = 0;
        return refuse("Python older than 3.8");
    case 10:
        export_symbol("PyGILState_GetThisThreadState", NULL);
        return refuse("CPython 3.14.10: incomplete: it hides its symbols");
    case 11:
        export_symbol("rpython_startup_code", "");
        return refuse("PyPy, whose frames are not CPython's");
    case 12:
        export_symbol("_PyRuntime", NULL);
        return refuse("CPython 3.14.10: incomplete: it hides its symbols");
    case 13:
        export_symbol("_PyRuntime", NULL);
        export_symbol("Py_Version", NULL);
        return refuse("Python older than 3.8");
    }
}

static void what_is_not_known_is_refused_with_a_reason(void **state) {
    (void)state;
    for (unsigned i = 0; i < 14; i++) in_child(refuse_one, i);
}

static void no_python(unsigned unused) {
    (void)unused;
    strcpy(level.words, "something before");
    mw_python_find(&level);
    expect_level(MW_LEVEL_NONE, "");
    EXPECT(!mw_python_ready && walk(64, 0) == 0, "walked");
}

ONCE(a_process_without_python_has_no_level, no_python)

// ---- interpreters that are not what they say --------------------------------------------------

static char *unmapped;

// Puts something wrong into an otherwise good interpreter. False: no such case.
static bool spoil(unsigned i, char *top, char *code) {
    char *wrong_type = object(64, none_type, 0), *long_string = ascii("x");
    char *not_a_kind = ascii("x");
    put(long_string, p->header, (void *)((intptr_t)1 << 40));
    put_int(not_a_kind, p->header + 16, (int32_t)(3u << p->string_shift | 8u << p->string_shift));
    char *endless = bytes("x", 1);
    put(endless, p->header, (void *)((intptr_t)1 << 40));
    const struct {
        char *where;
        unsigned offset;
        const void *value;
    } cases[] = {
        {thread, CURRENT_FRAME, unmapped},
        {thread, CURRENT_FRAME, unmapped + 3},
        {thread, CURRENT_FRAME, (void *)16},
        {thread, CURRENT_FRAME, (void *)INTPTR_MIN},
        {top, PREVIOUS, unmapped},
        {top, EXECUTABLE, unmapped},
        {top, EXECUTABLE, NULL},
        {top, EXECUTABLE, wrong_type},
        {top, INSTRUCTION, unmapped},
        {top, INSTRUCTION, code + p->bytecode + 2 * CODE_UNITS},
        {top, INSTRUCTION, code + p->bytecode - 4},
        {top, p->owner & ~7u, (void *)-1},
        {code, p->header - 8, bytes_type},
        {code, p->file, unmapped},
        {code, p->file, wrong_type},
        {code, p->file, long_string},
        {code, p->file, not_a_kind},
        {code, p->file + 8, unmapped},
        {code, p->file + 16, NULL},
        {code, p->file + 24, unmapped},
        {code, p->file + 24, wrong_type},
        {code, p->file + 24, endless},
        {code, p->first_line & ~7u, (void *)-1},
        {code, p->first_traceable, (void *)0x7fffffff},
        {code, p->header, NULL},
    };
    if (i >= sizeof cases / sizeof cases[0]) return false;
    // The instruction of free-threaded 3.14 may be in a copy: unknown, not wrong.
    if (p->bytecodes && cases[i].offset == INSTRUCTION) return true;
    put(cases[i].where, cases[i].offset, cases[i].value);
    mw_python_find(&level);
    EXPECT(walk(64, 0) == 0, "case %u was walked", i);
    EXPECT(level.state == MW_LEVEL_UNAVAILABLE &&
               strstr(level.words, ": not laid out as it should be: "),
           "case %u: level %u \"%s\"", i, level.state, level.words);
    EXPECT(!mw_python_ready && walk(64, 0) == 0, "walked again");
    // And so it stays, also in another ledger.
    struct mw_level first = level, next = {0};
    mw_python_find(&next);
    EXPECT(memcmp(&first, &next, sizeof next) == 0, "\"%s\"", next.words);
    EXPECT(!mw_python_ready && walk(64, 0) == 0, "walked again");
    return true;
}

static void spoil_one(unsigned argument) {
    make(argument % LAYOUTS);
    char *code = code_object("/a/b.py", "name", 5);
    push(none, 0, 3);
    push(code_object("/a/main.py", "<module>", 1), 5, 0);
    char *top = push(code, 5, 0);
    unmapped = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!spoil(argument / LAYOUTS, top, code)) _exit(0);
}

static void an_interpreter_laid_out_otherwise_is_given_up_without_a_crash(void **state) {
    (void)state;
    for (unsigned i = 0; i < 25 * LAYOUTS; i++) in_child(spoil_one, i);
}

static void strange_thread_states(unsigned layout) {
    make(layout);
    push(none, 0, 3);
    push(code_object("/a/main.py", "<module>", 1), 5, 0);
    mw_python_find(&level);
    // Of another interpreter: nothing to judge by. But if there is never any other, it is wrong.
    put(thread, INTERPRETER, interpreter + 8);
    for (int i = 0; i < 500; i++) EXPECT(walk(64, 0) == 0, "walked");
    expect_level(MW_LEVEL_LIVE, p->words);
    put(thread, INTERPRETER, interpreter);
    EXPECT(walk(64, 0) == 1, "the main interpreter's");
    put(thread, INTERPRETER, interpreter + 8);
    EXPECT(walk(64, 0) == 1, "another's, when all is known to be good");
}

static void only_strange_thread_states(unsigned layout) {
    make(layout);
    push(code_object("/a/main.py", "<module>", 1), 5, 0);
    put(thread, INTERPRETER, interpreter + 8);
    mw_python_find(&level);
    for (int i = 0; i < 2000; i++) EXPECT(walk(64, 0) == 0, "walked");
    EXPECT(level.state == MW_LEVEL_UNAVAILABLE && strstr(level.words, "a thread state"), "\"%s\"",
           level.words);
}

static void thread_states_of_other_interpreters_are_no_proof(void **state) {
    (void)state;
    for_each_layout(strange_thread_states);
    for_each_layout(only_strange_thread_states);
}

// ---- moments ----------------------------------------------------------------------------------

static void moments(unsigned layout) {
    make(layout);
    may_ask = false;
    put((char *)runtime, p->interpreters, NULL);
    mw_python_find(&level);
    expect_level(MW_LEVEL_LIVE, p->words);
    EXPECT(walk(64, 0) == 0, "before there is an interpreter");
    EXPECT(mw_python_phase() == MW_PYTHON_NONE, "not begun");
    put((char *)runtime, p->interpreters, interpreter);
    may_ask = true;
    EXPECT(walk(64, 0) == 0, "a thread without frames");
    push(none, 0, 3);
    EXPECT(walk(64, 0) == 0, "nothing but a shim");
    push(code_object("/a/main.py", "<module>", 1), 5, 0);
    EXPECT(walk(64, 0) == 1, "running");
    EXPECT(mw_python_phase() == MW_PYTHON_LIVES && !*mw_python_end_mark(), "running");
    put((char *)runtime, p->finalizing, thread);
    EXPECT(mw_python_phase() == MW_PYTHON_ENDS && *mw_python_end_mark(), "finalizes");
    EXPECT(walk(64, 0) == 1, "the thread that finalizes");
    put((char *)runtime, p->finalizing, thread + 8);
    put(thread, CURRENT_FRAME, (void *)16); // freed, and used otherwise
    EXPECT(walk(64, 0) == 0, "another thread finalizes");
    put((char *)runtime, p->finalizing, NULL);
    current = NULL;
    EXPECT(walk(64, 0) == 0, "a thread that Python does not know");
    put((char *)runtime, p->interpreters, NULL);
    EXPECT(mw_python_phase() == MW_PYTHON_NONE, "gone");
}

EACH_LAYOUT(frames_are_read_only_when_they_stand, moments)

static void endless_chains(unsigned layout) {
    make(layout);
    char *shim = push(none, 0, 3);
    char *top = push(code_object("/a/main.py", "<module>", 1), 5, 0);
    mw_python_find(&level);
    EXPECT(walk(64, 0) == 1, "good");
    put(shim, PREVIOUS, shim);
    EXPECT(walk(64, 0) == 1, "shims without end");
    put(top, PREVIOUS, top);
    EXPECT(walk(64, MW_STACK_PYTHON_CUT) == 64, "frames without end");
}

EACH_LAYOUT(a_chain_without_end_is_cut, endless_chains)

static void loaded_and_unloaded(unsigned unused) {
    (void)unused;
    make(GIL_14);
    push(code_object("/a/main.py", "<module>", 1), 5, 0);
    mw_python_find(&level);
    EXPECT(walk(64, 0) == 1, "loaded");
    may_ask = false;
    export_symbol("_PyRuntime", NULL);
    export_symbol("Py_GetVersion", NULL);
    mw_python_find(&level);
    expect_level(MW_LEVEL_NONE, "");
    EXPECT(!mw_python_ready && walk(64, 0) == 0, "unloaded");
    make(GIL_14);
    for (unsigned i = 0; i < 9; i++) { // the same all the time
        struct mw_level next = {0};
        mw_python_find(&next);
        EXPECT(next.state == MW_LEVEL_LIVE && mw_python_ready && walk(64, 0) == 1, "again");
    }
}

ONCE(an_interpreter_may_be_unloaded, loaded_and_unloaded)

// ---- line tables ------------------------------------------------------------------------------

// Line of an instruction by a table in the form of a version; 3.8 to 3.10 have no layout of their
// own here, only their decoding is asked for.
static unsigned line(unsigned minor, const void *table, size_t n, intptr_t instruction) {
    static struct mw_interpreter told;
    make(GIL_13);
    char *code = code_object("f", "n", 100);
    put(code, p->file + 24, bytes(table, n));
    mw_python_find(&level);
    told = *mw_interpreter;
    told.at.minor = (uint8_t)minor;
    mw_interpreter = &told;
    struct mw_python_frame one = {.code = (uintptr_t)code, .instruction = (uintptr_t)instruction};
    struct mw_python_place place;
    EXPECT(mw_python_describe(&one, &place), "not described");
    EXPECT(place.first_line == 100, "first line %u", place.first_line);
    return place.line;
}
#define LINE(minor, instruction, ...)                                                              \
    line(minor, (const unsigned char[]){__VA_ARGS__}, sizeof(const unsigned char[]){__VA_ARGS__},  \
         instruction)

static void decode_lines(unsigned unused) {
    (void)unused;
    // 3.8, 3.9: (bytes further, lines further), line signed.
    EXPECT(LINE(8, 0, 0, 1, 4, 2, 6, 0xff) == 101, "3.8");
    EXPECT(LINE(8, 3, 0, 1, 4, 2, 6, 0xff) == 101, "3.8");
    EXPECT(LINE(9, 4, 0, 1, 4, 2, 6, 0xff) == 103, "3.9");
    EXPECT(LINE(9, 10, 0, 1, 4, 2, 6, 0xff) == 102, "3.9");
    EXPECT(LINE(9, 300, 255, 0, 1, 127, 0, 127) == 354, "3.9, steps too long for a pair");
    EXPECT(LINE(9, -1, 0, 1, 4, 2) == 100, "3.9, not begun");
    // 3.10: (bytes long, lines further), -128 none; the instruction counts units of two bytes.
    EXPECT(LINE(10, 0, 4, 1, 2, 0x80, 4, 2) == 101, "3.10");
    EXPECT(LINE(10, 1, 4, 1, 2, 0x80, 4, 2) == 101, "3.10");
    EXPECT(LINE(10, 2, 4, 1, 2, 0x80, 4, 2) == 0, "3.10, no line");
    EXPECT(LINE(10, 3, 4, 1, 2, 0x80, 4, 2) == 103, "3.10");
    EXPECT(LINE(10, 5, 4, 1, 2, 0x80, 4, 2) == 0, "3.10, beyond the end");
    EXPECT(LINE(10, 1, 0, 50, 4, 1) == 151, "3.10, an empty range");
    EXPECT(LINE(10, -1, 4, 1) == 100, "3.10, not begun");
    // 3.11: kinds short, 10 to 12 (0 to 2 lines further), 13 and 14 (signed), 15 (none).
#define KIND(kind, units) (0x80 | (kind) << 3 | ((units)-1))
    for (unsigned minor = 11; minor <= 14; minor++) {
        EXPECT(LINE(minor, 0, KIND(11, 1), 0, 0, KIND(3, 2), 7) == 101, "one line");
        EXPECT(LINE(minor, 4, KIND(11, 1), 0, 0, KIND(3, 2), 7) == 101, "short");
        EXPECT(LINE(minor, 2, KIND(12, 1), 0, 0, KIND(10, 8), 0, 0) == 102, "the same line");
        EXPECT(LINE(minor, 17, KIND(12, 1), 0, 0, KIND(10, 8), 0, 0) == 102, "eight units");
        EXPECT(LINE(minor, 18, KIND(12, 1), 0, 0, KIND(10, 8), 0, 0) == 0, "beyond the end");
        EXPECT(LINE(minor, 0, KIND(13, 1), 5) == 98, "backwards");
        EXPECT(LINE(minor, 0, KIND(13, 1), 0x40, 0x41, 0x02) == 100 + (2 << 12 | 1 << 6) / 2,
               "a long number");
        EXPECT(LINE(minor, 2, KIND(14, 1), 4, 1, 1, 1, KIND(14, 1), 2, 0, 0, 0) == 103, "long");
        EXPECT(LINE(minor, 0, KIND(15, 1), KIND(11, 1), 0, 0) == 0, "no line");
        EXPECT(LINE(minor, 2, KIND(15, 1), KIND(11, 1), 0, 0) == 101, "after no line");
        EXPECT(LINE(minor, -2, KIND(11, 1), 0, 0) == 100, "not begun");
        // Cut off and senseless: anything but a crash or a read beyond.
        EXPECT(LINE(minor, 0, KIND(13, 1)) == 100, "no number");
        EXPECT(LINE(minor, 0, KIND(13, 1), 0x7f, 0x7f) != 1, "a number without end");
        EXPECT(LINE(minor, 0, KIND(13, 1), 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f) == 0,
               "a number too long: no line");
        EXPECT(LINE(minor, 2, 1, 2, 3) != 1, "entries that do not begin");
        EXPECT(line(minor, "", 0, 0) == 0, "an empty table");
    }
    EXPECT(line(9, "", 0, 5) == 100 && line(10, "", 0, 5) == 0, "empty tables");
    EXPECT(LINE(9, 5, 3) == 100 && LINE(10, 5, 3) == 0, "half a pair");
}

ONCE(line_tables_of_every_version_are_read, decode_lines)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_published_layout_is_walked),
        cmocka_unit_test(different_stacks_have_different_hashes),
        cmocka_unit_test(names_that_differ_are_told_apart),
        cmocka_unit_test(names_are_read_in_every_width),
        cmocka_unit_test(names_of_a_string_s_subclass_are_read),
        cmocka_unit_test(a_thread_s_own_copy_of_the_bytecode_is_followed),
        cmocka_unit_test(what_is_not_known_is_refused_with_a_reason),
        cmocka_unit_test(a_process_without_python_has_no_level),
        cmocka_unit_test(an_interpreter_laid_out_otherwise_is_given_up_without_a_crash),
        cmocka_unit_test(thread_states_of_other_interpreters_are_no_proof),
        cmocka_unit_test(frames_are_read_only_when_they_stand),
        cmocka_unit_test(a_chain_without_end_is_cut),
        cmocka_unit_test(an_interpreter_may_be_unloaded),
        cmocka_unit_test(line_tables_of_every_version_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
