// SPDX-License-Identifier: Apache-2.0
//
// Who holds the memory, for people: sites with their stacks, or sums of them by line, function,
// thread, device or module. Like all of the text it is made from the JSON.
//
// Tensors lie inside the memory of other sites, so they have a table of their own, with shares of
// what tensors hold: before that of the memory, but behind it if no tensor is live and memory is.
// Sites in spaces that are no memory of their own (views, address space) come last and have no
// share, whatever they are sorted by: a reservation of a terabyte holds nothing.
#include "emit.h"

#include "memwatch.h"
#include "units.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NAME_WIDTH 30
#define CHAIN      8 // frames shown of a stack
#define INNERMOST  3 // of them, where the stack is deep
#define FRAME_TEXT 1024
#define PLACE_TEXT 768
#define WHOLE      180 // columns of a frame that is not shortened, but what is absurd

// ---- what is told of a site or a group ------------------------------------------------------

enum layer { LAYER_VIEW, LAYER_MEMORY, LAYER_TENSOR, LAYERS };

struct row {
    const cJSON *site; // the first one
    const char *key;   // what it is grouped by
    unsigned sites;
    enum layer layer;
    uint64_t live, blocks, peak, allocations, allocated, frees, failed;
    uint64_t oldest_ns; // CLOCK_MONOTONIC; UINT64_MAX = nothing is live, or it is not known
};

// What all rows need to know of the report.
struct picture {
    const cJSON *report;
    uint64_t live[LAYERS];
    uint64_t peak[LAYERS]; // if the peaks came together
    uint64_t now_ns;       // CLOCK_MONOTONIC of its end, or of the last event
    const char *cwd, *exe;
    const char *held; // heading of what is held: "live", or "at exit" where Python freed at its end
    const struct view *view;
};

static enum layer layer_of(const cJSON *report, const cJSON *site) {
    const char *space = json_text(site, "space");
    const cJSON *total;
    if (space && !strcmp(space, "tensor")) return LAYER_TENSOR;
    cJSON_ArrayForEach(total, json_get(report, "totals")) {
        const char *other = json_text(total, "space");
        if (space && other && !strcmp(space, other))
            return json_is_true(total, "counted_as_memory") ? LAYER_MEMORY : LAYER_VIEW;
    }
    return LAYER_VIEW;
}

bool python_freed_at_exit(const cJSON *report) {
    const cJSON *total;
    cJSON_ArrayForEach(total, json_get(report, "totals")) {
        if (held_bytes(total) > json_u64(total, "live_bytes")) return true;
    }
    return false;
}

uint64_t held_bytes(const cJSON *object) {
    return json_u64(object,
                    json_is_number(object, "at_exit_bytes") ? "at_exit_bytes" : "live_bytes");
}

uint64_t held_blocks(const cJSON *object) {
    bool told = json_is_number(object, "at_exit_blocks");
    return json_u64(object, told ? "at_exit_blocks" : "live_blocks");
}

bool counted_as_memory(const cJSON *report, const cJSON *account) {
    return layer_of(report, account) == LAYER_MEMORY;
}

static struct picture look_at(const cJSON *report, const struct view *view) {
    const cJSON *process = json_get(report, "process"), *end = json_get(process, "end"), *total;
    struct picture p = {.report = report,
                        .cwd = json_text(process, "cwd"),
                        .exe = json_text(process, "exe"),
                        .held = python_freed_at_exit(report) ? "at exit" : "live",
                        .view = view};
    p.now_ns =
        json_u64(cJSON_IsObject(end) ? end : json_get(process, "last_event"), "monotonic_ns");
    cJSON_ArrayForEach(total, json_get(report, "totals")) {
        enum layer layer = layer_of(report, total);
        p.live[layer] += held_bytes(total);
        p.peak[layer] += json_u64(total, "peak_bytes");
    }
    return p;
}

static struct row row_of(const struct picture *p, const cJSON *site) {
    const cJSON *oldest = json_get(site, "oldest_block");
    return (struct row){
        .site = site,
        .sites = 1,
        .layer = layer_of(p->report, site),
        .live = held_bytes(site),
        .blocks = held_blocks(site),
        .peak = json_u64(site, "peak_bytes"),
        .allocations = json_u64(site, "allocations"),
        .allocated = json_u64(site, "allocated_bytes"),
        .frees = json_u64(site, "frees"),
        .failed = json_u64(site, "failed"),
        .oldest_ns = cJSON_IsObject(oldest) ? json_u64(oldest, "monotonic_ns") : UINT64_MAX,
    };
}

static void add_row(struct row *to, const struct row *r) {
    to->sites += r->sites;
    to->live += r->live;
    to->blocks += r->blocks;
    to->peak += r->peak;
    to->allocations += r->allocations;
    to->allocated += r->allocated;
    to->frees += r->frees;
    to->failed += r->failed;
    if (r->oldest_ns < to->oldest_ns) to->oldest_ns = r->oldest_ns;
}

// ---- order ----------------------------------------------------------------------------------

static uint64_t sorted_by(const struct row *r, enum sort_key sort) {
    switch (sort) {
    case SORT_PEAK:
        return r->peak;
    case SORT_ALLOCATED:
        return r->allocated;
    case SORT_FAILED:
        return r->failed;
    case SORT_AGE:
        return ~r->oldest_ns;
    default:
        return r->live;
    }
}

static enum sort_key order; // of compare_rows: qsort has no argument for it

static int compare_rows(const void *x, const void *y) {
    const struct row *a = x, *b = y;
    const uint64_t keys[][2] = {{a->layer, b->layer},
                                {sorted_by(a, order), sorted_by(b, order)},
                                {a->live, b->live},
                                {a->peak, b->peak},
                                {a->allocated, b->allocated}};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (keys[i][0] != keys[i][1]) return keys[i][0] < keys[i][1] ? 1 : -1;
    if (a->key && b->key) return strcmp(a->key, b->key);
    return a->site < b->site ? -1 : a->site > b->site;
}

static void sort_rows(struct row *row, size_t count, enum sort_key sort) {
    order = sort;
    qsort(row, count, sizeof *row, compare_rows);
}

// ---- names ----------------------------------------------------------------------------------

static const char *basename_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

// A source file as one knows it: from the working directory on, or from the package's folder on.
static const char *short_file(const struct picture *p, const char *file) {
    static const char *const roots[] = {"/site-packages/", "/dist-packages/"};
    size_t n = p->cwd ? strlen(p->cwd) : 0;
    if (n > 1 && !strncmp(file, p->cwd, n) && file[n] == '/') return file + n + 1;
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        const char *at = strstr(file, roots[i]);
        if (at) return at + strlen(roots[i]);
    }
    // A compiler's relative path tells of a folder that is nobody's here.
    return file[0] == '/' || !strncmp(file, "../", 3) ? basename_of(file) : file;
}

static bool is_python(const cJSON *frame) {
    const char *kind = json_text(frame, "kind");
    return kind && !strcmp(kind, "python");
}

// The end of a path in `room` columns, if it can be from a folder on: ".../examples/bindings.py".
static void shorten_path(const char *path, unsigned room, char out[PLACE_TEXT]) {
    const char *base = basename_of(path), *at = path, *dots = "";
    if (fit_columns(path) > room) {
        do at = strchr(at + 1, '/');
        while (at && at + 1 < base && (!strncmp(at, "/../", 4) || 3 + fit_columns(at) > room));
        bool folders = at && at + 1 < base;
        if (folders) dots = "...";
        path = folders ? at : base;
    }
    if (!*dots && fit_columns(path) > room) {
        dots = "...";
        while (fit_columns(path) + 3 > room) path++;
        while (((unsigned char)*path & 0xc0) == 0x80) path++;
    }
    snprintf(out, PLACE_TEXT, "%s%s", dots, path);
}

// "train.py:42 in Model.forward", "alloc.cpp:7 in grow (libpool.so)", "libpool.so+0x1234". Where
// `width` columns are not enough, folders are left out, then the end of the function: the number of
// a line, or an offset, never is.
// PyTorch's namespace of what it generates says less than the operation's name behind it.
static const char *short_function(const char *function) {
    static const char generated[] = "torch::autograd::generated::";
    size_t n = sizeof generated - 1;
    return function && !strncmp(function, generated, n) ? function + n : function;
}

static const char *frame_text(const struct picture *p, const cJSON *frame, unsigned width,
                              char out[FRAME_TEXT]) {
    const char *function = short_function(json_text(frame, "function")),
               *file = json_text(frame, "file"), *module = json_text(frame, "module"),
               *offset = json_text(frame, "offset");
    char place[PLACE_TEXT], number[32] = "", tail[512] = "", code[128] = "";
    uint64_t line = json_u64(frame, "line");
    const char *path = file ? short_file(p, file) : NULL;
    bool foreign = module && (!p->exe || strcmp(module, p->exe) != 0);
    if (foreign) snprintf(code, sizeof code, " (%s)", basename_of(module));
    if (function || path)
        snprintf(tail, sizeof tail, "%s%s%s", path && function ? " in " : "",
                 function ? function : "", code);
    if (path && line) snprintf(number, sizeof number, ":%" PRIu64, line);
    if (!path && !function && !is_python(frame)) {
        path = module ? basename_of(module) : "code in no file";
        snprintf(number, sizeof number, "+%s", offset ? offset : "?");
    }
    if (!path) {
        snprintf(out, FRAME_TEXT, "%s", function ? tail : "unknown Python code");
        return out;
    }
    unsigned base = fit_columns(basename_of(path)) + fit_columns(number), end = fit_columns(tail);
    // The beginning of a name, if no more than that, with the dots of its own.
    if (base + end > width && base + strlen(" in name...") > width) *tail = '\0', end = 0;
    unsigned room = base + end > width && end ? base : width - end;
    shorten_path(path, room - fit_columns(number), place);
    if (snprintf(out, FRAME_TEXT, "%s%s%s", place, number, tail) < 0) *out = '\0';
    return out;
}

static const cJSON *where_of(const cJSON *site) {
    const cJSON *frames = json_get(site, "frames");
    int64_t where = json_i64(site, "where");
    if (!json_is_number(site, "where") || where < 0 || where > INT16_MAX) return NULL;
    return cJSON_GetArrayItem(frames, (int)where);
}

static const char *site_text(const struct picture *p, const cJSON *site, unsigned width,
                             char out[FRAME_TEXT]) {
    const cJSON *where = where_of(site);
    const char *api = json_text(site, "api");
    if (where) return frame_text(p, where, width, out);
    snprintf(out, FRAME_TEXT, "%s%s", json_is_true(site, "overflow") ? "further sites of " : "",
             api ? api : "other calls");
    return out;
}

const char *site_label(const cJSON *report, int64_t index, char out[FIT_TEXT]) {
    const struct view view = VIEW_DEFAULT;
    const struct picture p = look_at(report, &view);
    const cJSON *sites = json_get(report, "sites"), *site;
    char text[FRAME_TEXT];
    site = index >= 0 && index < INT32_MAX ? cJSON_GetArrayItem(sites, (int)index) : NULL;
    return cJSON_IsObject(site) ? fit(out, site_text(&p, site, SITE_WIDTH, text), SITE_WIDTH)
                                : NULL;
}

const char *failure_label(const cJSON *report, const cJSON *failure, char out[FIT_TEXT]) {
    const cJSON *site = failure;
    if (!where_of(failure) && json_is_number(failure, "site")) {
        int64_t index = json_i64(failure, "site");
        if (index < 0 || index > INT32_MAX) return NULL;
        site = cJSON_GetArrayItem(json_get(report, "sites"), (int)index);
    }
    const struct view view = VIEW_DEFAULT;
    const struct picture p = look_at(report, &view);
    const cJSON *where = where_of(site);
    char text[FRAME_TEXT];
    return where ? fit(out, frame_text(&p, where, SITE_WIDTH, text), SITE_WIDTH) : NULL;
}

#define DEVICE_TEXT 32
static const char *device_text(const cJSON *object, char out[DEVICE_TEXT]) {
    int64_t device = json_i64(object, "device");
    if (device < 0)
        snprintf(out, DEVICE_TEXT, "host");
    else
        snprintf(out, DEVICE_TEXT, "device %" PRId64, device);
    return out;
}

// ---- tables ---------------------------------------------------------------------------------

static void print_heading(FILE *out, const struct picture *p, enum layer layer, const char *by) {
    const char *column = p->view->sort == SORT_ALLOCATED ? "allocated"
                         : p->view->sort == SORT_FAILED  ? "failed"
                                                         : "peak";
    char title[40];
    snprintf(title, sizeof title, "%sby %s", layer == LAYER_TENSOR ? "tensors " : "", by);
    fprintf(out, "\n%-*s %11s %6s %8s %12s %8s\n", NAME_WIDTH, title, p->held, "share", "blocks",
            column, "oldest");
}

static void print_row(FILE *out, const struct picture *p, const struct row *r, const char *name) {
    char cut[FIT_TEXT], live[BYTES_TEXT], bytes[BYTES_TEXT], share[16] = "-", column[40] = "-",
                                                             age[DURATION_TEXT] = "-";
    uint64_t most = r->layer == LAYER_VIEW ? UINT64_MAX : p->peak[r->layer];
    if (r->layer != LAYER_VIEW && p->live[r->layer])
        snprintf(share, sizeof share, "%.1f%%", 100 * (double)r->live / (double)p->live[r->layer]);
    if (p->view->sort == SORT_FAILED)
        snprintf(column, sizeof column, "%" PRIu64, r->failed);
    else if (p->view->sort == SORT_ALLOCATED)
        snprintf(column, sizeof column, "%s", bytes_text(r->allocated, bytes));
    else if (r->peak) // of several sites no more than an upper limit is known
        snprintf(column, sizeof column, "%s%s", r->sites > 1 ? "<=" : "",
                 bytes_text(r->peak < most ? r->peak : most, bytes));
    if (r->oldest_ns != UINT64_MAX && p->now_ns >= r->oldest_ns)
        duration_text(p->now_ns - r->oldest_ns, age);
    fprintf(out, "%-*s %11s %6s %8" PRIu64 " %12s %8s\n",
            NAME_WIDTH + (int)(strlen(fit(cut, name, NAME_WIDTH)) - fit_columns(cut)), cut,
            bytes_text(r->live, live), share, r->blocks, column, age);
}

static void print_more(FILE *out, size_t rows, size_t shown, const char *what) {
    size_t more = rows > shown ? rows - shown : 0;
    if (more)
        fprintf(out, "and %zu more %s%s: --limit shows %s\n", more, what, more == 1 ? "" : "s",
                more == 1 ? "it" : "them");
}

static void print_omitted(FILE *out, const cJSON *report) {
    const cJSON *omitted = json_get(report, "sites_omitted");
    uint64_t count = json_u64(omitted, "count");
    char live[BYTES_TEXT];
    if (count)
        fprintf(out, "and %" PRIu64 " further site%s with %s %s, which this report only sums up\n",
                count, count == 1 ? "" : "s", bytes_text(held_bytes(omitted), live),
                python_freed_at_exit(report) ? "at exit" : "live");
}

// ---- sites ----------------------------------------------------------------------------------

static void print_call(FILE *out, const struct row *r) {
    char api[FIT_TEXT], space[FIT_TEXT], bytes[BYTES_TEXT], device[DEVICE_TEXT], failed[32] = "";
    if (r->failed) snprintf(failed, sizeof failed, ", %" PRIu64 " failed", r->failed);
    char line[400];
    bool tensor = r->layer == LAYER_TENSOR; // whose call is a matter of PyTorch's inside
    snprintf(line, sizeof line, "%s%s%s, %s: %" PRIu64 " allocated (%s), %" PRIu64 " freed%s",
             tensor ? "" : fit(api, json_text(r->site, "api"), 30), tensor ? "" : ", ",
             device_text(r->site, device),
             tensor ? "tensors" : fit(space, json_text(r->site, "space"), 12), r->allocations,
             bytes_text(r->allocated, bytes), r->frees, failed);
    char cut[FIT_TEXT];
    fprintf(out, "    %s\n", fit(cut, line, 76));
}

static void print_left_out(FILE *out, unsigned *frames) {
    if (*frames)
        fprintf(out, "      ... %u frame%s, shown with --all-frames\n", *frames,
                *frames == 1 ? "" : "s");
    *frames = 0;
}

// The frames of a stack, innermost first. Of a deep one the innermost few, and from the one on that
// stands for the whole: what is between them is how a library works inside.
static void print_chain(FILE *out, const struct picture *p, const struct row *r) {
    const cJSON *frame, *where = where_of(r->site);
    bool all = p->view->all_frames;
    unsigned visible = 0, at = 0, n = 0, left_out = 0;
    cJSON_ArrayForEach(frame, json_get(r->site, "frames")) {
        if (frame == where) at = visible;
        visible += !json_is_true(frame, "folded");
    }
    unsigned begin = at > INNERMOST && visible > CHAIN ? at : INNERMOST;
    cJSON_ArrayForEach(frame, json_get(r->site, "frames")) {
        char text[FRAME_TEXT], cut[FIT_TEXT];
        if (!all && json_is_true(frame, "folded")) continue;
        unsigned i = n++;
        if (!all && ((i >= INNERMOST && i < begin) || i >= begin + CHAIN - INNERMOST)) {
            left_out++;
            continue;
        }
        print_left_out(out, &left_out);
        const char *note = json_is_true(frame, "inlined")       ? " [inlined]"
                           : json_is_true(frame, "approximate") ? " [line approximate]"
                                                                : "";
        unsigned width = 74 - (unsigned)strlen(note);
        fprintf(out, "      %s%s\n", fit(cut, frame_text(p, frame, width, text), width), note);
    }
    print_left_out(out, &left_out);
    if (json_is_true(r->site, "stack_cut")) fputs("      ... (the stack was deeper)\n", out);
    if (json_is_true(r->site, "stack_unsure"))
        fputs("      (the Python frames may be of another interpreter in this process)\n", out);
}

// ---- groups ---------------------------------------------------------------------------------

// Sites whose stacks differ only in frames that are not shown look alike, and so they are one.
static char *visible_key(const struct picture *p, const cJSON *site) {
    char *key = NULL, text[FRAME_TEXT];
    size_t bytes;
    FILE *stream = open_memstream(&key, &bytes);
    const cJSON *frame;
    if (!stream) return NULL;
    const char *api = json_text(site, "api"), *space = json_text(site, "space");
    fprintf(stream, "%s\n%s\n%" PRId64 "\n%d", api ? api : "", space ? space : "",
            json_i64(site, "device"), json_is_true(site, "overflow"));
    cJSON_ArrayForEach(frame, json_get(site, "frames")) if (!json_is_true(frame, "folded"))
        fprintf(stream, "\n%s", frame_text(p, frame, WHOLE, text));
    fclose(stream);
    return key;
}

// What a site is grouped by. The caller frees.
static char *key_of(const struct picture *p, const cJSON *site) {
    const cJSON *where = where_of(site);
    const char *function = json_text(where, "function"), *file = json_text(where, "file"),
               *module = json_text(where, "module");
    char text[FRAME_TEXT];
    if (p->view->group == GROUP_SITE) return visible_key(p, site);
    if (!where) return strdup(site_text(p, site, WHOLE, text));
    switch (p->view->group) {
    case GROUP_MODULE:
        snprintf(text, sizeof text, "%s",
                 is_python(where) ? (file ? file : "unknown Python code")
                 : module         ? module
                                  : "code in no file");
        break;
    case GROUP_FUNCTION:
        if (!function) return strdup(frame_text(p, where, WHOLE, text));
        const char *in = is_python(where) ? file : module;
        snprintf(text, sizeof text, "%s (%s)", function, in ? short_file(p, in) : "?");
        break;
    default:
        frame_text(p, where, WHOLE, text);
    }
    return strdup(text);
}

static int by_key(const void *x, const void *y) {
    const struct row *a = x, *b = y;
    if (a->layer != b->layer) return (int)b->layer - (int)a->layer;
    return strcmp(a->key, b->key);
}

// Adds up the rows of one key; returns how many are left.
static size_t unite(struct row *row, size_t count) {
    size_t n = 0;
    qsort(row, count, sizeof *row, by_key);
    for (size_t i = 0; i < count; i++)
        if (n && row[n - 1].layer == row[i].layer && !strcmp(row[n - 1].key, row[i].key))
            add_row(&row[n - 1], &row[i]);
        else
            row[n++] = row[i];
    return n;
}

static void print_rows(FILE *out, const struct picture *p, struct row *row, size_t count) {
    size_t shown = count < p->view->limit ? count : p->view->limit;
    const char *by = view_group_name(p->view->group);
    print_heading(out, p, row->layer, by);
    for (size_t i = 0; i < shown; i++) {
        // The end of a long path says more than its beginning.
        const char *name = row[i].key;
        char text[FRAME_TEXT];
        size_t n = strlen(name);
        if (p->view->group == GROUP_LINE) name = site_text(p, row[i].site, NAME_WIDTH, text);
        if (p->view->group == GROUP_MODULE && n > NAME_WIDTH) name = short_file(p, name);
        print_row(out, p, &row[i], name);
    }
    print_more(out, count, shown, by);
}

static void print_by_site(FILE *out, const struct picture *p, struct row *row, size_t count) {
    size_t shown = count < p->view->limit ? count : p->view->limit;
    print_heading(out, p, row->layer, "site");
    for (size_t i = 0; i < shown; i++) {
        char text[FRAME_TEXT];
        print_row(out, p, &row[i], site_text(p, row[i].site, NAME_WIDTH, text));
        print_call(out, &row[i]);
        print_chain(out, p, &row[i]);
    }
    print_more(out, count, shown, "site");
}

static void print_groups(FILE *out, const struct picture *p, struct row *row, size_t count) {
    char **keys = allocate(count, sizeof *keys);
    for (size_t i = 0; i < count; i++) {
        keys[i] = key_of(p, row[i].site);
        row[i].key = keys[i] ? keys[i] : "";
    }
    size_t groups = unite(row, count);
    sort_rows(row, groups, p->view->sort);
    if (p->view->group == GROUP_SITE)
        print_by_site(out, p, row, groups);
    else
        print_rows(out, p, row, groups);
    for (size_t i = 0; i < count; i++) free(keys[i]);
    free(keys);
}

// Sorted rows: tensors, which lie in the others' memory, in a table of their own.
static void print_layers(FILE *out, const struct picture *p, struct row *row, size_t count) {
    size_t tensors = 0;
    while (tensors < count && row[tensors].layer == LAYER_TENSOR) tensors++;
    if (tensors) print_rows(out, p, row, tensors);
    if (count > tensors) print_rows(out, p, row + tensors, count - tensors);
}

// Devices and threads have sums of their own in the report, of all their sites.
static void print_by_device(FILE *out, const struct picture *p) {
    const cJSON *totals = json_get(p->report, "totals"), *total;
    size_t n = 0, most = (size_t)cJSON_GetArraySize(totals);
    struct row *row = allocate(most, sizeof *row);
    char(*name)[48] = allocate(most, sizeof *name);
    cJSON_ArrayForEach(total, totals) {
        char device[DEVICE_TEXT];
        if (n == most) break;
        row[n] = row_of(p, total);
        snprintf(name[n], sizeof name[n], "%s%s", device_text(total, device),
                 row[n].layer == LAYER_VIEW ? "*" : ""); // as in the totals
        row[n].key = name[n];
        n++;
    }
    // How old the oldest block is, sites know.
    const cJSON *site;
    cJSON_ArrayForEach(site, json_get(p->report, "sites")) {
        struct row r = row_of(p, site);
        for (size_t i = 0; i < n; i++)
            if (json_i64(row[i].site, "device") == json_i64(site, "device") &&
                row[i].layer == r.layer && r.oldest_ns < row[i].oldest_ns)
                row[i].oldest_ns = r.oldest_ns;
    }
    n = unite(row, n);
    sort_rows(row, n, p->view->sort);
    print_layers(out, p, row, n);
    free(name);
    free(row);
}

// In spaces that are memory the thread's own sums; tensors are one of its accounts.
static struct row row_of_thread(const struct picture *p, const cJSON *thread, enum layer layer) {
    struct row sum = {.site = thread, .sites = 1, .layer = layer, .oldest_ns = UINT64_MAX};
    const cJSON *account;
    cJSON_ArrayForEach(account, json_get(thread, "accounts")) {
        struct row r = row_of(p, account);
        if (layer != LAYER_TENSOR) sum.failed += r.failed;
        if (r.layer != layer) continue;
        if (layer == LAYER_TENSOR) sum.failed += r.failed;
        sum.live += r.live;
        sum.blocks += r.blocks;
        sum.allocated += r.allocated;
        sum.allocations += r.allocations;
    }
    return sum;
}

static void print_by_thread(FILE *out, const struct picture *p) {
    const cJSON *threads = json_get(p->report, "threads"), *thread;
    size_t n = 0, most = (size_t)cJSON_GetArraySize(threads);
    struct row *row = allocate(2 * most, sizeof *row);
    char(*name)[FIT_TEXT + 32] = allocate(most, sizeof *name);
    struct picture now = *p; // what threads held at the exit is not told
    now.held = "live";
    memset(now.live, 0, sizeof now.live);
    size_t index = 0;
    cJSON_ArrayForEach(thread, threads) {
        char label[FIT_TEXT], tid[32];
        if (index == most) break;
        int digits = snprintf(tid, sizeof tid, " (%" PRIu64 ")", json_u64(thread, "tid"));
        thread_label(thread, NAME_WIDTH - (unsigned)digits, label);
        snprintf(name[index], sizeof name[index], "%s%s", label, tid);
        struct row memory = row_of_thread(p, thread, LAYER_MEMORY),
                   tensors = row_of_thread(p, thread, LAYER_TENSOR);
        memory.key = tensors.key = name[index++];
        row[n++] = memory;
        if (tensors.allocations || tensors.failed) row[n++] = tensors;
        now.live[LAYER_MEMORY] += memory.live;
        now.live[LAYER_TENSOR] += tensors.live;
    }
    sort_rows(row, n, p->view->sort);
    print_layers(out, &now, row, n);
    free(name);
    free(row);
}

static void print_table(FILE *out, const struct picture *p, struct row *row, size_t count) {
    if (!count) return;
    if (p->view->group == GROUP_SITE && p->view->all_frames)
        print_by_site(out, p, row, count);
    else
        print_groups(out, p, row, count);
}

void print_sites(FILE *out, const cJSON *report, const struct view *view) {
    const cJSON *sites = json_get(report, "sites"), *site;
    struct picture p = look_at(report, view);
    if (view->group == GROUP_DEVICE) return print_by_device(out, &p);
    if (view->group == GROUP_THREAD) return print_by_thread(out, &p);
    size_t n = 0, most = (size_t)cJSON_GetArraySize(sites);
    if (!most) return;
    struct row *row = allocate(most, sizeof *row);
    cJSON_ArrayForEach(site, sites) if (n < most) row[n++] = row_of(&p, site);
    sort_rows(row, n, view->sort); // tensors first
    size_t tensors = 0;
    while (tensors < n && row[tensors].layer == LAYER_TENSOR) tensors++;
    bool behind = !p.live[LAYER_TENSOR] && p.live[LAYER_MEMORY];
    if (!behind) print_table(out, &p, row, tensors);
    print_table(out, &p, row + tensors, n - tensors);
    if (behind) print_table(out, &p, row, tensors);
    print_omitted(out, report);
    free(row);
}
