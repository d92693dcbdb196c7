// SPDX-License-Identifier: Apache-2.0
//
// The sites of a JSON report, with their stacks (emit_parts.h).
//
// A process may have a hundred thousand sites. Those that hold or held most are listed whole, the
// others are summed up; only the frames of those that are listed are resolved.
#define _GNU_SOURCE // qsort_r
#include "emit_parts.h"

#include "memwatch.h"
#include "merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- order ----------------------------------------------------------------------------------

static int more_first(uint64_t a, uint64_t b) {
    return a < b ? 1 : a > b ? -1 : 0;
}

static uint64_t key(const struct model_site *s, enum sort_key sort) {
    switch (sort) {
    case SORT_PEAK:
        return s->peak_bytes;
    case SORT_ALLOCATED:
        return s->tally.allocated_bytes;
    case SORT_FAILED:
        return s->tally.failed;
    case SORT_AGE:
        return ~s->oldest_ms; // the oldest first, and last those of which nothing is live
    default:
        return s->held.bytes + s->ended.bytes;
    }
}

struct sorting {
    const struct model *model;
    enum sort_key sort;
};

// What is no memory of its own comes last: a reservation of a terabyte holds nothing. Tensors
// before that, since they tell what is in the memory.
static unsigned rank(const struct model *m, const struct model_site *s) {
    enum mw_space space = m->account[s->account].space;
    return space_is_memory(space) ? 2 : space == MW_SPACE_TENSOR ? 1 : 0;
}

static int compare_sites(const void *x, const void *y, void *context) {
    const struct model_site *a = *(const struct model_site *const *)x,
                            *b = *(const struct model_site *const *)y;
    const struct sorting *by = context;
    int order = more_first(rank(by->model, a), rank(by->model, b));
    if (!order) order = more_first(key(a, by->sort), key(b, by->sort));
    if (!order) order = more_first(key(a, SORT_LIVE), key(b, SORT_LIVE));
    if (!order) order = more_first(a->peak_bytes, b->peak_bytes);
    if (!order) order = more_first(a->tally.allocated_bytes, b->tally.allocated_bytes);
    return order ? order : a < b ? -1 : a > b;
}

// ---- frames ---------------------------------------------------------------------------------

static void add_span(cJSON *object, const char *name, struct span span) {
    if (span.length)
        json_add_bytes(object, name, span.bytes, span.length);
    else
        json_add_null(object, name);
}

static void add_line(cJSON *object, uint32_t line) {
    if (line)
        json_add_u64(object, "line", line);
    else
        json_add_null(object, "line");
}

static void add_build(cJSON *object, struct span build) {
    char text[2 * 64 + 1] = "";
    for (size_t i = 0; i < build.length && i < 64; i++)
        sprintf(text + 2 * i, "%02x", (unsigned char)build.bytes[i]);
    json_add_text(object, "build_id", text);
}

// What is true of few frames is told of those alone.
static void add_frame(cJSON *frames, const struct merged_frame *f, bool approximate) {
    cJSON *frame = json_add_object(frames, NULL);
    json_add_text(frame, "kind", f->python ? "python" : "native");
    add_span(frame, "function", f->function);
    add_span(frame, "file", f->file);
    add_line(frame, f->line);
    if (f->python) {
        if (approximate) json_add_bool(frame, "approximate", true);
    } else {
        add_span(frame, "module", f->module);
        add_build(frame, f->build);
        json_add_handle(frame, "offset", f->offset);
        if (f->inlined) json_add_bool(frame, "inlined", true);
    }
    if (f->folded) json_add_bool(frame, "folded", true);
}

void emit_stack(cJSON *object, const struct model *m, struct resolver *resolver,
                uint32_t reference) {
    static struct merged_frame merged[MERGED_MOST];
    const struct mw_stack *stack = stack_at(&m->arena, reference);
    unsigned flags = stack ? stack->flags : 0, n = 0;
    int where = -1;
    if (stack) {
        n = merge_frames(resolver, &m->arena, stack, m->reader.header.cwd, merged);
        where = merge_where(merged, n);
    }
    if (where >= 0)
        json_add_i64(object, "where", where);
    else
        json_add_null(object, "where");
    json_add_bool(object, "stack_cut", flags & (MW_STACK_PYTHON_CUT | MW_STACK_NATIVE_CUT));
    json_add_bool(object, "stack_unsure", flags & MW_STACK_UNSURE);
    cJSON *frames = json_add_array(object, "frames");
    for (unsigned i = 0; i < n; i++) add_frame(frames, &merged[i], flags & MW_STACK_APPROXIMATE);
}

static void ask_names(const struct model *m, struct resolver *resolver, uint32_t reference) {
    const struct mw_stack *stack = stack_at(&m->arena, reference);
    if (stack) merge_ask(resolver, &m->arena, stack, m->reader.header.cwd);
}

// ---- sites ----------------------------------------------------------------------------------

static void add_lifetimes(cJSON *site, const struct model_site *s) {
    static const uint64_t ends[MW_LIFETIMES - 1] = MW_LIFETIME_ENDS;
    cJSON *lifetimes = json_add_array(site, "lifetimes");
    for (unsigned i = 0; i < MW_LIFETIMES; i++) {
        if (!s->lifetime[i]) continue;
        cJSON *class = json_add_object(lifetimes, NULL);
        if (i + 1 < MW_LIFETIMES)
            json_add_u64(class, "below_ms", ends[i]);
        else
            json_add_null(class, "below_ms");
        json_add_u64(class, "blocks", s->lifetime[i]);
    }
}

static void add_site(cJSON *sites, const struct model *m, struct resolver *resolver,
                     const struct model_site *s) {
    const struct model_account *a = &m->account[s->account];
    cJSON *site = json_add_object(sites, NULL);
    emit_api(site, "api", m, s->api);
    emit_api(site, "driver_api", m, s->driver_api);
    emit_pair(site, a->device, a->space);
    emit_held_at_exit(site, &s->held, &s->ended);
    json_add_u64(site, "peak_bytes", s->peak_bytes);
    emit_time_if(site, "peak_time", m, s->peak_bytes, s->peak_ms * 1000000);
    emit_tally(site, &s->tally);
    bool allocated = s->tally.allocations;
    emit_time_if(site, "first_allocation", m, allocated, s->first_ms * UINT64_C(1000000));
    emit_time_if(site, "last_allocation", m, allocated, s->last_ms * UINT64_C(1000000));
    emit_time_if(site, "oldest_block", m, s->oldest_ms != UINT64_MAX, s->oldest_ms * 1000000);
    add_lifetimes(site, s);
    json_add_bool(site, "overflow", s->overflow);
    emit_stack(site, m, resolver, s->stack);
}

static void add_omitted(cJSON *report, const struct model_site *const *site, unsigned count) {
    struct held held = {0}, ended = {0};
    struct tally tally = {0};
    for (unsigned i = 0; i < count; i++) {
        held = held_sum(&held, &site[i]->held);
        ended = held_sum(&ended, &site[i]->ended);
        tally_add(&tally, &site[i]->tally);
    }
    cJSON *omitted = json_add_object(report, "sites_omitted");
    json_add_u64(omitted, "count", count);
    emit_held_at_exit(omitted, &held, &ended);
    emit_tally(omitted, &tally);
}

void emit_sites(cJSON *report, const struct model *m, const struct naming *naming, int *position) {
    const struct model_site **order = allocate(m->sites, sizeof *order);
    unsigned n = 0;
    for (unsigned i = 0; i < m->sites; i++) {
        const struct model_site *s = &m->site[i];
        position[i] = -1;
        if (s->tally.allocations || s->tally.failed || s->held.blocks) order[n++] = s;
    }
    struct sorting by = {m, naming->sort};
    qsort_r(order, n, sizeof *order, compare_sites, &by);
    unsigned listed = n < SITES_LISTED ? n : SITES_LISTED;
    for (unsigned i = 0; i < listed; i++) ask_names(m, naming->resolver, order[i]->stack);
    for (unsigned i = 0; i < MW_FAILURES; i++)
        ask_names(m, naming->resolver, m->reader.header.failure[i].stack);
    resolver_run(naming->resolver, naming->limit_ms);
    cJSON *sites = json_add_array(report, "sites");
    for (unsigned i = 0; i < listed; i++) {
        position[order[i] - m->site] = (int)i;
        add_site(sites, m, naming->resolver, order[i]);
    }
    add_omitted(report, order + listed, n - listed);
    free(order);
}

void emit_modules(cJSON *object, const struct resolver *resolver) {
    cJSON *modules = json_add_array(object, "modules");
    for (unsigned i = 0; i < resolver_modules(resolver); i++) {
        struct resolver_module m = resolver_module(resolver, i);
        cJSON *module = json_add_object(modules, NULL);
        json_add_text(module, "path", m.path);
        add_build(module, m.build);
        json_add_bool(module, "lines", m.lines);
        json_add_text(module, "reason", m.reason);
    }
}
