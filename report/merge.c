// SPDX-License-Identifier: Apache-2.0
//
// Python's and native frames → one stack (merge.h).
//
// A run of the interpreter's loop is one native frame and one or more Python frames, the outermost
// of which is marked as an entry (before CPython 3.11 each frame has a run of its own). So the
// native frame of the loop is replaced by the Python frames up to and including the next entry.
// Where the two lists do not match (an interpreter without symbols, a stack that was cut in the
// middle, greenlets), the native frames above the interpreter come first, then all Python frames,
// then the rest.
#define _GNU_SOURCE // memmem
#include "merge.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static struct span span_of(const char *text) {
    return text ? (struct span){text, strlen(text)} : (struct span){0};
}

static bool begins(struct span span, const char *with) {
    size_t n = strlen(with);
    return span.length >= n && !memcmp(span.bytes, with, n);
}

static bool equals(struct span span, const char *text) {
    return span.length == strlen(text) && begins(span, text);
}

static bool holds(struct span span, const char *text) {
    return span.bytes && memmem(span.bytes, span.length, text, strlen(text));
}

static struct span basename_of(struct span path) {
    const char *slash = path.bytes ? memrchr(path.bytes, '/', path.length) : NULL;
    if (!slash) return path;
    return (struct span){slash + 1, path.length - (size_t)(slash + 1 - path.bytes)};
}

// ---- what a native frame is -----------------------------------------------------------------

enum role {
    ROLE_PROGRAM,     // what the reader wants to see
    ROLE_OWN,         // libmemwatch.so
    ROLE_INTERPRETER, // CPython
    ROLE_GLUE,        // how Python calls C without an extension of its own
    ROLE_DRIVER,      // who gives the memory, below the call that is reported anyway
    ROLE_RUNTIME      // where threads and programs begin; below that, it is code like any other
};

static enum role role_of_module(struct span path) {
    static const struct {
        const char *begins;
        enum role role;
    } files[] = {
        {"libmemwatch.so", ROLE_OWN},    {"libpython", ROLE_INTERPRETER},
        {"_ctypes.", ROLE_GLUE},         {"libffi.so", ROLE_GLUE},
        {"libffi-", ROLE_GLUE},          {"libcuda.so", ROLE_DRIVER},
        {"libcudart.so", ROLE_DRIVER},   {"libcudart-", ROLE_DRIVER},
        {"libc10", ROLE_DRIVER}, // PyTorch's allocator, likewise
        {"libc.so", ROLE_RUNTIME},       {"libc-", ROLE_RUNTIME},
        {"libpthread.so", ROLE_RUNTIME}, {"libpthread-", ROLE_RUNTIME},
        {"libstdc++.so", ROLE_RUNTIME},  {"libc++.so", ROLE_RUNTIME},
        {"ld-linux", ROLE_RUNTIME},      {"ld-musl-", ROLE_RUNTIME},
    };
    struct span name = basename_of(path);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (begins(name, files[i].begins)) return files[i].role;
    // python, python3, python3.11, python3.13t, python3-dbg
    if (begins(name, "python")) {
        size_t i = strlen("python");
        while (i < name.length && (isdigit((unsigned char)name.bytes[i]) || name.bytes[i] == '.'))
            i++;
        if (i == name.length || equals((struct span){name.bytes + i, name.length - i}, "t") ||
            name.bytes[i] == '-')
            return ROLE_INTERPRETER;
    }
    return ROLE_PROGRAM;
}

// By the name, where the interpreter is part of another program: PyObject_Call, _PyEval_Vector.
static bool is_interpreter_name(struct span function) {
    if (begins(function, "_Py")) return true;
    return begins(function, "Py") && function.length > 2 &&
           isupper((unsigned char)function.bytes[2]);
}

static bool is_start_name(struct span function) {
    return equals(function, "_start") || begins(function, "__libc_start") ||
           equals(function, "start_thread") || equals(function, "clone") ||
           equals(function, "clone3");
}

// The loop itself. Since 3.14 it may be built of functions that jump to one another, each of which
// may be what stands on the stack; the plain one may be below it.
enum loop { LOOP_NONE, LOOP_PART, LOOP_WHOLE };

static enum loop loop_of(struct span function) {
    if (equals(function, "_PyEval_EvalFrameDefault")) return LOOP_WHOLE;
    return begins(function, "_TAIL_CALL_") ? LOOP_PART : LOOP_NONE;
}

// The frames of calls through an inline header are the program's by module, and have exact lines
// which are of no use to its author: cuda_runtime.h's templates over cudaMalloc, thrust, <memory>.
// "cuda", "cuda13", "cuda-12.4" with headers in it; a program's folder "cuda-app" is none.
static bool in_cuda_include(struct span file) {
    const char *end = file.bytes + file.length, *at = file.bytes;
    if (!holds(file, "/include/")) return false;
    while ((at = memmem(at, (size_t)(end - at), "/cuda", 5))) {
        at += 5;
        while (at < end && (isdigit((unsigned char)*at) || *at == '.' || *at == '-')) at++;
        if (at == end || *at != '/') continue;
        struct span below = {at + 1, (size_t)(end - at - 1)};
        // cuda/targets/x86_64-linux/include, cuda/12.4/include
        if (begins(below, "include/") || begins(below, "targets/") ||
            (below.length && isdigit((unsigned char)*below.bytes)))
            return true;
    }
    return false;
}

static bool in_packages(struct span path) {
    return holds(path, "/site-packages/") || holds(path, "/dist-packages/");
}

bool merge_is_header(struct span file) {
    // As installed, in the sources of CCCL, and as a compiler without folders tells them.
    static const char *const folders[] = {"/usr/include/",    "/include/c++/", "/c++/v1/",
                                          "/include/thrust/", "/include/cub/", "/include/cccl/",
                                          "/thrust/thrust/",  "/cub/cub/",     "/libcudacxx/"};
    static const char *const relative[] = {"bits/", "thrust/", "cub/"};
    if (!file.length) return false;
    struct span name = basename_of(file);
    if (equals(name, "cuda_runtime.h") || equals(name, "cuda_runtime_api.h")) return true;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        if (holds(file, folders[i])) return true;
    for (size_t i = 0; i < sizeof relative / sizeof relative[0]; i++)
        if (begins(file, relative[i])) return true;
    return in_cuda_include(file) || (in_packages(file) && holds(file, "/include/"));
}

// cuMemAlloc_v2, cudaMalloc<float>. NVIDIA's libraries carry no lines (a static cudart is part of
// the program's file); what has one was written by somebody who calls functions like CUDA does.
static bool is_api(const struct merged_frame *f) {
    size_t n = begins(f->function, "cuda") ? 4 : begins(f->function, "cu") ? 2 : 0;
    return !f->python && !f->file.length && n && f->function.length > n &&
           isupper((unsigned char)f->function.bytes[n]);
}

// ---- the two lists --------------------------------------------------------------------------

struct native {
    struct native_frame frame;
    uint32_t question;
    enum role role;
    bool loop; // stands for a run of Python frames
};

struct lists {
    struct python_frame python[MW_STACK_DEPTH * 2];
    struct native native[MW_STACK_DEPTH * 2];
    unsigned pythons, natives;
};

// The unwinder gives the addresses that calls return to, also of the innermost frame; the call is
// before that, and so are its line and the functions inlined there.
static void call_of(const struct arena *arena, const struct mw_stack *stack, unsigned i,
                    struct native_frame *out) {
    stack_native(arena, stack, i, out);
    out->address--;
}

void merge_ask(struct resolver *resolver, const struct arena *arena, const struct mw_stack *stack,
               const char *cwd) {
    for (unsigned i = 0; i < stack->native; i++) {
        struct native_frame frame;
        call_of(arena, stack, i, &frame);
        resolver_ask(resolver, &frame, cwd);
    }
}

// The function that holds the address: the last name, after those inlined into it.
static struct span function_of(const struct resolver *resolver, uint32_t question) {
    struct name name, last = {0};
    for (unsigned i = 0; resolver_name(resolver, question, i, &name); i++) last = name;
    return span_of(last.function);
}

static void fill(struct lists *l, struct resolver *resolver, const struct arena *arena,
                 const struct mw_stack *stack, const char *cwd) {
    l->pythons = stack->python;
    l->natives = stack->native;
    for (unsigned i = 0; i < l->pythons; i++) stack_python(arena, stack, i, &l->python[i]);
    enum loop before = LOOP_NONE;
    for (unsigned i = 0; i < l->natives; i++) {
        struct native *n = &l->native[i];
        call_of(arena, stack, i, &n->frame);
        n->question = resolver_ask(resolver, &n->frame, cwd);
        n->role = role_of_module(n->frame.path);
        struct span function = function_of(resolver, n->question);
        enum loop loop = loop_of(function);
        if (n->role == ROLE_PROGRAM && l->pythons && is_interpreter_name(function))
            n->role = ROLE_INTERPRETER;
        if (is_start_name(function)) n->role = ROLE_RUNTIME;
        n->loop = loop != LOOP_NONE && before != LOOP_PART;
        before = loop;
    }
}

// ---- merging --------------------------------------------------------------------------------

struct output {
    struct merged_frame *frame;
    unsigned count;
};

static struct merged_frame *next(struct output *o) {
    if (o->count == MERGED_MOST) o->count--; // the outermost is lost
    struct merged_frame *f = &o->frame[o->count++];
    *f = (struct merged_frame){0};
    return f;
}

static void put_python(struct output *o, const struct python_frame *p) {
    struct merged_frame *f = next(o);
    *f = (struct merged_frame){
        .python = true,
        .function = p->function,
        .file = p->file,
        .line = p->line,
        // How modules are imported and run: written in Python, but part of the interpreter.
        .folded = begins(p->file, "<frozen "),
    };
}

static void put_native(struct output *o, const struct resolver *resolver, const struct native *n) {
    struct name name;
    unsigned i = 0;
    bool folded = n->role != ROLE_PROGRAM && n->role != ROLE_RUNTIME;
    do {
        bool known = resolver_name(resolver, n->question, i, &name);
        if (!known && i) break;
        *next(o) = (struct merged_frame){
            .function = span_of(name.function),
            .file = span_of(name.file),
            .line = name.line,
            .module = n->frame.path,
            .build = n->frame.build,
            .offset = n->frame.address,
            .inlined = name.inlined,
            .folded = folded || merge_is_header(span_of(name.file)) ||
                      (!known && in_packages(n->frame.path)),
        };
        if (!known) break;
    } while (++i);
}

// Do the runs of the loop and the entries among the Python frames tell the same story?
static bool lists_match(const struct lists *l, const struct mw_stack *stack) {
    unsigned loops = 0, runs = 0;
    for (unsigned i = 0; i < l->natives; i++) loops += l->native[i].loop;
    for (unsigned i = 0; i < l->pythons; i++) runs += l->python[i].entry;
    bool open = l->pythons && !l->python[l->pythons - 1].entry; // a run whose entry is not there
    bool python_cut = stack->flags & MW_STACK_PYTHON_CUT;
    bool native_cut = stack->flags & MW_STACK_NATIVE_CUT;
    if (!loops) return false;
    runs += open;
    if (loops < runs) return native_cut;
    return loops == runs || python_cut;
}

static void merge_matching(struct output *o, const struct resolver *resolver,
                           const struct lists *l) {
    unsigned p = 0;
    for (unsigned i = 0; i < l->natives; i++) {
        bool run = l->native[i].loop && p < l->pythons;
        while (run) {
            put_python(o, &l->python[p]);
            run = !l->python[p].entry && p + 1 < l->pythons;
            p++;
        }
        put_native(o, resolver, &l->native[i]);
    }
    while (p < l->pythons) put_python(o, &l->python[p++]); // further than the native frames reach
}

static void merge_blindly(struct output *o, const struct resolver *resolver,
                          const struct lists *l) {
    unsigned i = 0;
    while (i < l->natives && !l->native[i].loop && l->native[i].role != ROLE_INTERPRETER)
        put_native(o, resolver, &l->native[i++]);
    for (unsigned p = 0; p < l->pythons; p++) put_python(o, &l->python[p]);
    while (i < l->natives) put_native(o, resolver, &l->native[i++]);
}

// ---- folding --------------------------------------------------------------------------------

static bool is_runtime(const struct merged_frame *f) {
    return !f->python && (is_start_name(f->function) || role_of_module(f->module) == ROLE_RUNTIME);
}

// A call of CUDA's and what is inside it. A line of the program's inside would be of a callback.
static void fold_api(struct merged_frame *frame, unsigned count) {
    unsigned inside = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!frame[i].folded && (frame[i].python || frame[i].file.length)) break;
        if (is_api(&frame[i])) inside = i + 1;
    }
    for (unsigned i = 0; i < inside; i++) frame[i].folded = true;
}

static void fold(struct merged_frame *frame, unsigned count, bool has_python) {
    fold_api(frame, count);
    // The outer end, where threads and programs begin. A program without symbols does not tell the
    // name of its _start.
    unsigned end = count;
    bool nameless = end > 1 && !frame[end - 1].python && !frame[end - 1].function.length;
    if (nameless && is_runtime(&frame[end - 2])) frame[--end].folded = true;
    for (unsigned i = end; i && (is_runtime(&frame[i - 1]) || frame[i - 1].folded); i--)
        frame[i - 1].folded = true;
    unsigned shown = 0;
    for (unsigned i = 0; i < count; i++) shown += !frame[i].folded;
    if (shown) return;
    // Nothing would be left: whatever there is, but for what is ours, says more than that.
    for (unsigned i = 0; i < count; i++) {
        enum role role = role_of_module(frame[i].module);
        frame[i].folded =
            !frame[i].python && (has_python || role == ROLE_OWN || is_runtime(&frame[i]));
    }
}

unsigned merge_frames(struct resolver *resolver, const struct arena *arena,
                      const struct mw_stack *stack, const char *cwd, struct merged_frame *out) {
    static struct lists l; // large
    struct output o = {out, 0};
    fill(&l, resolver, arena, stack, cwd);
    if (lists_match(&l, stack))
        merge_matching(&o, resolver, &l);
    else
        merge_blindly(&o, resolver, &l);
    fold(out, o.count, l.pythons > 0);
    return o.count;
}

static bool is_library_code(struct span file) {
    return in_packages(file) || holds(file, "/lib/python3") || begins(file, "<");
}

int merge_where(const struct merged_frame *frames, unsigned count) {
    int python = -1, any = -1, lines = -1, gradient = -1;
    for (unsigned i = 0; i < count; i++) {
        const struct merged_frame *f = &frames[i];
        if (f->folded) continue;
        if (f->python && f->file.length && !is_library_code(f->file)) return (int)i;
        if (f->python && python < 0) python = (int)i;
        if (f->line && lines < 0) lines = (int)i;
        // Of a backward pass, which runs on threads without Python: which operation's.
        if (begins(f->function, "torch::autograd::generated::")) gradient = (int)i;
        if (any < 0) any = (int)i;
    }
    if (python < 0 && gradient >= 0) return gradient;
    return python >= 0 ? python : lines >= 0 ? lines : any;
}
