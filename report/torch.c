// SPDX-License-Identifier: Apache-2.0
//
// PyTorch's books beside ours (torch.h).
//
// A segment is memory of the driver that PyTorch's caching allocator took for itself: that is told
// by who called the driver or the runtime, libc10_cuda (or _hip, _xpu), which the native stack of
// the site says. Not by whether tensors lie in it, since a cached segment has none. With expandable
// segments the bytes are those of the physical memory, and the places those of its mappings; what
// is mapped side by side is one place, since a tensor may lie across.
#define _GNU_SOURCE // memmem
#include "torch.h"

#include "memwatch.h"
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- who took a block -----------------------------------------------------------------------

static struct span base_name(struct span path) {
    const char *slash = memrchr(path.bytes ? path.bytes : "", '/', path.length);
    if (!slash) return path;
    size_t head = (size_t)(slash + 1 - path.bytes);
    return (struct span){slash + 1, path.length - head};
}

static bool begins_with_any(struct span text, const char *const *words) {
    for (; *words; words++)
        if (text.length >= strlen(*words) && !memcmp(text.bytes, *words, strlen(*words)))
            return true;
    return false;
}

enum torch_origin torch_origin(const struct model *m, uint32_t site) {
    static const char *const between[] = {"libcudart", "libcuda.", "libamdhip64", "libmemwatch",
                                          NULL};
    static const char *const allocators[] = {"libc10_cuda", "libc10_hip", "libc10_xpu", NULL};
    enum mw_space space = m->account[m->site[site].account].space;
    if (space != MW_SPACE_DEVICE && space != MW_SPACE_PHYSICAL && space != MW_SPACE_MAPPED)
        return TORCH_NOT;
    const struct mw_stack *stack = stack_at(&m->arena, m->site[site].stack);
    for (unsigned i = 0; stack && i < stack->native; i++) {
        struct native_frame frame;
        stack_native(&m->arena, stack, i, &frame);
        struct span name = base_name(frame.path);
        if (begins_with_any(name, between)) continue;
        return begins_with_any(name, allocators) ? TORCH_SEGMENT : TORCH_NOT;
    }
    return TORCH_UNKNOWN;
}

// ---- places ---------------------------------------------------------------------------------

enum range_kind { SEGMENT, MAPPING, PHYSICAL, TENSOR };
struct torch_range {
    uint64_t start, bytes;
    int16_t device;
    uint8_t kind; // enum range_kind
};

static void add_range(struct torch_ranges *r, struct torch_range one) {
    if (r->count == r->room) {
        size_t room = r->room ? 2 * r->room : 1024;
        struct torch_range *more = realloc(r->item, room * sizeof *more);
        if (!more) exit(fail(EXIT_DAMAGED, "out of memory"));
        r->item = more;
        r->room = room;
    }
    r->item[r->count++] = one;
}

void torch_note(struct torch_ranges *ranges, const struct model *m, uint32_t site,
                const struct reader_record *record) {
    const struct model_site *s = &m->site[site];
    const struct model_account *a = &m->account[s->account];
    struct torch_range r = {record->key, record_bytes(record), (int16_t)a->device, TENSOR};
    if (a->device < 0 || a->device >= (int)MW_DEVICES) return;
    if (a->space == MW_SPACE_TENSOR) {
        r.start = mw_tensor_pointer(r.start);
    } else if (s->origin == TORCH_SEGMENT && !(record->owner >> 48 & MW_FLAG_STREAM_ORDERED)) {
        r.kind = a->space == MW_SPACE_DEVICE     ? SEGMENT
                 : a->space == MW_SPACE_PHYSICAL ? PHYSICAL
                                                 : MAPPING;
    } else {
        return;
    }
    add_range(ranges, r);
}

// By device, tensors last, then by address.
static int by_place(const void *x, const void *y) {
    const struct torch_range *a = x, *b = y;
    if (a->device != b->device) return a->device < b->device ? -1 : 1;
    if ((a->kind == TENSOR) != (b->kind == TENSOR)) return a->kind == TENSOR ? 1 : -1;
    if (a->start != b->start) return a->start < b->start ? -1 : 1;
    return 0;
}

// The places of a device, sorted, and its tensors, sorted, each a part of one array.
struct layout {
    const struct torch_range *place, *tensor;
    size_t places, tensors;
};

// The largest free part of one place, [from, to). *next: the first tensor that may lie in it, then
// the first behind it. False: a tensor lies across its end, or before it in no place at all.
static bool largest_hole(const struct layout *l, uint64_t from, uint64_t to, size_t *next,
                         uint64_t *hole) {
    uint64_t free_from = from;
    for (; *next < l->tensors && l->tensor[*next].start < to; ++*next) {
        const struct torch_range *t = &l->tensor[*next];
        if (t->start < free_from || t->bytes > to - t->start) return false;
        if (t->start - free_from > *hole) *hole = t->start - free_from;
        free_from = t->start + t->bytes;
    }
    if (to - free_from > *hole) *hole = to - free_from;
    return true;
}

static void find_gap(const struct layout *l, struct torch_device *out) {
    size_t next = 0;
    uint64_t hole = 0;
    bool known = true;
    for (size_t i = 0; known && i < l->places;) {
        if (l->place[i].kind == PHYSICAL) { // its address is a handle
            i++;
            continue;
        }
        uint64_t from = l->place[i].start, to = from + l->place[i].bytes;
        bool mapped = l->place[i].kind == MAPPING;
        for (i++; mapped && i < l->places; i++) {
            if (l->place[i].kind == PHYSICAL) continue;
            if (l->place[i].kind != MAPPING || l->place[i].start != to) break;
            to += l->place[i].bytes;
        }
        known = from < to && largest_hole(l, from, to, &next, &hole);
    }
    out->gap_known = known && next == l->tensors;
    out->largest_gap = hole;
}

void torch_add_up(struct model *m, struct torch_ranges *ranges) {
    struct torch *t = &m->torch;
    if (ranges->count) qsort(ranges->item, ranges->count, sizeof *ranges->item, by_place);
    t->segments_known = true;
    for (unsigned i = 0; i < m->sites; i++)
        if (m->site[i].origin == TORCH_UNKNOWN && m->site[i].held.blocks) t->segments_known = false;
    for (size_t i = 0; i < ranges->count;) {
        int device = ranges->item[i].device;
        struct torch_device *d = &t->device[device];
        struct layout l = {.place = &ranges->item[i]};
        for (; i < ranges->count && ranges->item[i].device == device; i++) {
            const struct torch_range *r = &ranges->item[i];
            if (r->kind == TENSOR) {
                if (!l.tensors++) l.tensor = r;
                continue;
            }
            l.places++;
            if (r->kind == MAPPING) continue;
            d->segments++;
            d->segment_bytes += r->bytes;
        }
        find_gap(&l, d);
    }
    free(ranges->item);
    *ranges = (struct torch_ranges){0};
    // Torch to 1.9 names its own structs instead of addresses.
    for (unsigned i = 0; i < MW_DEVICES; i++)
        if (!t->segments_known || t->told.device[i].known != 2) t->device[i].gap_known = false;
}

// ---- what is told ---------------------------------------------------------------------------

uint64_t torch_events(const struct model *m) {
    uint64_t events = 0;
    for (unsigned i = 0; i < m->apis && i < MW_APIS; i++)
        if (m->api[i].layer == MW_LAYER_FRAMEWORK) events += m->calls[i];
    return events;
}

unsigned torch_since(const struct model *m) {
    unsigned since = 0;
    for (unsigned i = 0; i < m->apis && i < MW_APIS; i++)
        if (m->api[i].layer == MW_LAYER_FRAMEWORK && m->calls[i] && m->api[i].since > since)
            since = m->api[i].since;
    return since;
}

bool torch_is_one(const struct model *m) {
    unsigned seen = 0; // a bit for each generation of the interface
    for (unsigned i = 0; i < m->apis && i < MW_APIS; i++)
        if (m->api[i].layer == MW_LAYER_FRAMEWORK && m->calls[i])
            seen |= m->api[i].since >= 2000 ? 4 : m->api[i].since >= 1100 ? 2 : 1;
    return !(seen & (seen - 1)) && !m->torch.told.ambiguous;
}

struct held torch_tensors(const struct model *m, unsigned device) {
    for (unsigned i = 0; i < m->accounts; i++)
        if (m->account[i].device == (int)device && m->account[i].space == MW_SPACE_TENSOR)
            return m->account[i].held;
    return (struct held){0};
}

bool torch_device_known(const struct model *m, unsigned device) {
    return m->torch.told.device[device].known || torch_tensors(m, device).blocks;
}

bool torch_drift(const struct model *m, unsigned device, int64_t *drift) {
    const struct mw_torch_device *d = &m->torch.told.device[device];
    if (d->known != 2 || d->before || !torch_is_one(m)) return false;
    *drift = (int64_t)(d->allocated - torch_tensors(m, device).bytes);
    return true;
}

unsigned torch_ooms(const struct model *m) {
    uint64_t total = m->torch.told.ooms;
    return total < MW_OOMS ? (unsigned)total : MW_OOMS;
}

const struct mw_oom *torch_oom(const struct model *m, unsigned i) {
    uint64_t ordinal = m->torch.told.ooms - torch_ooms(m) + i;
    const struct mw_oom *o = &m->torch.told.oom[ordinal % MW_OOMS];
    return o->sequence == 2 * ordinal + 2 ? o : NULL;
}

// ---- why there are no tensors ---------------------------------------------------------------

// The first of a list of words that is in the path of any frame.
static int framework_in_stacks(const struct model *m, const char *const *words) {
    for (unsigned s = 0; s < m->sites; s++) {
        const struct mw_stack *stack = stack_at(&m->arena, m->site[s].stack);
        for (unsigned i = 0; stack && i < stack->native; i++) {
            struct native_frame frame;
            stack_native(&m->arena, stack, i, &frame);
            for (int w = 0; words[w]; w++)
                if (frame.path.length &&
                    memmem(frame.path.bytes, frame.path.length, words[w], strlen(words[w])))
                    return w;
        }
    }
    return -1;
}

static const char *no_torch(const struct model *m, char text[TORCH_TEXT]) {
    static const char *const words[] = {"/jaxlib/", "/tensorflow/", "/cupy/", "/libtorch", NULL};
    static const char *const names[] = {"JAX", "TensorFlow", "CuPy"};
    int found = framework_in_stacks(m, words);
    if (found < 0) {
        snprintf(text, TORCH_TEXT, "no PyTorch in this process");
        return "none";
    }
    if (words[found + 1])
        snprintf(text, TORCH_TEXT, "%s does not tell of what it makes of its memory", names[found]);
    else
        snprintf(text, TORCH_TEXT,
                 "this PyTorch has no libc10 that can be watched: it is linked "
                 "statically, or hides its functions");
    return "unavailable";
}

static bool allocated_on_a_device(const struct model *m) {
    for (unsigned i = 0; i < m->accounts; i++)
        if (m->account[i].device >= 0 && space_is_memory(m->account[i].space) &&
            m->account[i].tally.allocations)
            return true;
    return false;
}

static const char *silent_torch(const struct model *m, char text[TORCH_TEXT]) {
    const struct mw_torch *told = &m->torch.told;
    const char *why = NULL;
    if (strstr(told->allocator, "cudaMallocAsync"))
        why =
            "its allocator is cudaMallocAsync, which does not tell of tensors: each is a block of "
            "the driver's, with a site of its own";
    else if (told->no_caching)
        why = "it does not cache memory (PYTORCH_NO_CUDA_MEMORY_CACHING): each tensor is a block "
              "of the driver's, with a site of its own";
    else if (m->reader.header.deepbinds)
        why = "it told nothing: loaded with RTLD_DEEPBIND its calls pass by, unless under "
              "MEMWATCH_DEEPBIND=clear";
    else if (allocated_on_a_device(m))
        why = "its caching allocator told nothing: another allocator was plugged in, or nothing "
              "was allocated through it";
    snprintf(text, TORCH_TEXT, "%s%s",
             why ? "PyTorch is there, but "
                 : "PyTorch is there, and "
                   "has allocated nothing on a GPU",
             why ? why : "");
    return why ? "unavailable" : "none";
}

const char *torch_level(const struct model *m, char text[TORCH_TEXT]) {
    const struct mw_torch *told = &m->torch.told;
    unsigned since = torch_since(m);
    if (!m->torch.there) {
        snprintf(text, TORCH_TEXT, "the library that recorded this did not look for them");
        return "none";
    }
    if (told->tensors == MW_TENSORS_OFF) {
        snprintf(text, TORCH_TEXT, "by MEMWATCH_TENSORS");
        return "off";
    }
    if (!torch_events(m)) return told->defined ? silent_torch(m, text) : no_torch(m, text);
    snprintf(text, TORCH_TEXT, "PyTorch %s%s%s%s%s",
             since >= 2000   ? "2.0 or later"
             : since >= 1100 ? "1.10 to 1.13"
                             : "1.6 to 1.9",
             *told->path ? ", " : "", told->path,
             told->tensors == MW_TENSORS_ALL
                 ? "; of the host's tensors it tells only while its profiler records memory"
                 : "",
             told->ambiguous
                 ? "; there are two of this library, so PyTorch's profiler gets none of "
                   "these events"
                 : "");
    return "live";
}
