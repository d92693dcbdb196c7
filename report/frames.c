// SPDX-License-Identifier: Apache-2.0
//
// References of the arena → frames (frames.h).
//
// Equal objects are usually one object, since the writer interns them; but two threads that meet at
// the first sight of one may store it twice, and a library that was unloaded and loaded again has
// two modules. So stacks are compared by what they say, and by reference only to be quick.
#include "frames.h"

#include <string.h>

// What an object holds beyond its struct.
static bool span_of(const struct arena *arena, uint32_t reference, struct span *out) {
    size_t bytes;
    *out = (struct span){0};
    if (!reference) return true;
    const struct mw_string *string = arena_object(arena, reference, MW_STRING, &bytes);
    if (!string) return false;
    *out = (struct span){string->bytes, bytes - sizeof *string};
    return true;
}

struct span string_at(const struct arena *arena, uint32_t reference) {
    struct span span;
    span_of(arena, reference, &span);
    return span;
}

const struct mw_stack *stack_at(const struct arena *arena, uint32_t reference) {
    size_t bytes;
    return arena_object(arena, reference, MW_STACK, &bytes);
}

bool stack_python(const struct arena *arena, const struct mw_stack *stack, unsigned i,
                  struct python_frame *out) {
    uint64_t frame = stack->frame[i];
    uint32_t reference = (uint32_t)frame;
    size_t bytes;
    *out = (struct python_frame){.line = frame >> 32 & INT32_MAX, .entry = frame >> 63};
    if (!reference) return true;
    const struct mw_code *code = arena_object(arena, reference, MW_CODE, &bytes);
    if (!code) return false;
    out->first_line = code->first_line;
    // Both, even if the first is missing.
    bool file = span_of(arena, code->file, &out->file);
    return span_of(arena, code->name, &out->function) && file;
}

bool stack_native(const struct arena *arena, const struct mw_stack *stack, unsigned i,
                  struct native_frame *out) {
    uint64_t frame = stack->frame[stack->python + i];
    uint32_t reference = (uint32_t)(frame >> 32);
    size_t bytes;
    *out = (struct native_frame){.address = (uint32_t)frame, .module = reference};
    if (!reference) return true;
    const struct mw_module *module = arena_object(arena, reference, MW_MODULE, &bytes);
    if (!module) return false;
    out->address += module->offset;
    if (module->build_id_bytes && module->build_id_bytes <= sizeof module->build_id)
        out->build = (struct span){(const char *)module->build_id, module->build_id_bytes};
    return span_of(arena, module->path, &out->path);
}

bool stack_whole(const struct arena *arena, uint32_t reference) {
    const struct mw_stack *stack = stack_at(arena, reference);
    struct python_frame python;
    struct native_frame native;
    bool whole = stack != NULL;
    for (unsigned i = 0; whole && i < stack->python; i++)
        whole = stack_python(arena, stack, i, &python);
    for (unsigned i = 0; whole && i < stack->native; i++)
        whole = stack_native(arena, stack, i, &native);
    return whole;
}

static int compare_numbers(uint64_t a, uint64_t b) {
    return a < b ? -1 : a > b;
}

static int compare_spans(struct span a, struct span b) {
    if (a.length != b.length) return compare_numbers(a.length, b.length);
    return a.length ? memcmp(a.bytes, b.bytes, a.length) : 0;
}

static int compare_python(const struct arena *arena, const struct mw_stack *a,
                          const struct mw_stack *b, unsigned i) {
    struct python_frame x, y;
    if (a->frame[i] == b->frame[i]) return 0;
    stack_python(arena, a, i, &x);
    stack_python(arena, b, i, &y);
    int order = compare_numbers(x.line, y.line);
    if (!order) order = compare_numbers(x.entry, y.entry);
    if (!order) order = compare_numbers(x.first_line, y.first_line);
    if (!order) order = compare_spans(x.function, y.function);
    return order ? order : compare_spans(x.file, y.file);
}

static int compare_native(const struct arena *arena, const struct mw_stack *a,
                          const struct mw_stack *b, unsigned i) {
    struct native_frame x, y;
    if (a->frame[a->python + i] == b->frame[b->python + i]) return 0;
    stack_native(arena, a, i, &x);
    stack_native(arena, b, i, &y);
    int order = compare_numbers(x.address, y.address);
    if (!order) order = compare_spans(x.build, y.build);
    return order ? order : compare_spans(x.path, y.path);
}

int stack_compare(const struct arena *arena, uint32_t a, uint32_t b) {
    if (a == b) return 0;
    const struct mw_stack *x = stack_at(arena, a), *y = stack_at(arena, b);
    if (!x || !y) return compare_numbers(x != NULL, y != NULL);
    int order = compare_numbers(x->flags, y->flags);
    if (!order) order = compare_numbers(x->python, y->python);
    if (!order) order = compare_numbers(x->native, y->native);
    for (unsigned i = 0; !order && i < x->python; i++) order = compare_python(arena, x, y, i);
    for (unsigned i = 0; !order && i < x->native; i++) order = compare_native(arena, x, y, i);
    return order;
}
