// SPDX-License-Identifier: Apache-2.0
//
// framework_drift: PyTorch's total is not what its own events sum up to. Exact, since each event
// brings the total that includes it; so only if PyTorch was seen from its first tensor on, if there
// are not two of it with a total each, and not while events are under way.
//
// out_of_memory: a request that PyTorch's allocator had to refuse, what it said of its books then,
// and who held its tensors.
#include "findings.h"
#include "units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void add_drift(const struct inquiry *q, unsigned device, int64_t drift) {
    const struct model *m = q->m;
    const struct mw_header *h = &m->reader.header;
    uint64_t told = m->torch.told.device[device].allocated;
    uint64_t ours = torch_tensors(m, device).bytes;
    char title[160], a[BYTES_TEXT], b[BYTES_TEXT];
    snprintf(title, sizeof title,
             "PyTorch says that %s are allocated on device %u, but its events sum up to %s",
             bytes_text(told, a), device, bytes_text(ours, b));
    static const enum mw_loss of_tensors[] = {MW_LOSS_RECORDS,     MW_LOSS_TENSORS,
                                              MW_LOSS_WAKING,      MW_LOSS_UNKNOWN_TENSORS,
                                              MW_LOSS_REUSED_KEYS, MW_LOSS_ACCOUNTS};
    bool lost = false;
    for (size_t i = 0; i < sizeof of_tensors / sizeof of_tensors[0]; i++)
        lost |= h->losses[of_tensors[i]] != 0;
    const struct finding_words words = {
        .title = title,
        .explanation =
            drift < 0
                ? "PyTorch's counter is too low, or it did not tell of a tensor's end. "
                  "torch.cuda.memory_allocated() is such a number."
                : "PyTorch's counter is too high, or it did not tell of a tensor's beginning. "
                  "torch.cuda.memory_allocated() is such a number.",
        .hypothesis = lost
                          ? "Events were lost in the recording (coverage.losses tells which): then "
                            "it is our sum that is wrong."
                          : NULL};
    cJSON *f =
        finding_new(q->findings, "framework_drift", SEVERITY_WARNING, lost ? 0.3 : 0.9, &words);
    finding_bytes(f, "allocated, by PyTorch's last total", told, SOURCE_FRAMEWORK);
    finding_bytes(f, "live by the tensors' events", ours, SOURCE_LEDGER);
}

static void add_reserve(const struct inquiry *q, unsigned device) {
    const struct model *m = q->m;
    uint64_t told = m->torch.told.device[device].reserved_bytes;
    uint64_t ours = m->torch.device[device].segment_bytes;
    char title[160], a[BYTES_TEXT], b[BYTES_TEXT];
    snprintf(title, sizeof title,
             "PyTorch says that %s are reserved on device %u, but its segments sum up to %s",
             bytes_text(told, a), device, bytes_text(ours, b));
    const struct finding_words words = {
        .title = title,
        .explanation = "Its allocator took more from the driver than its counter says. "
                       "torch.cuda.memory_reserved() is such a number."};
    cJSON *f = finding_new(q->findings, "framework_drift", SEVERITY_WARNING, 0.7, &words);
    finding_bytes(f, "reserved, by PyTorch's last total", told, SOURCE_FRAMEWORK);
    finding_bytes(f, "live in its segments", ours, SOURCE_LEDGER);
}

void find_framework_drift(const struct inquiry *q) {
    const struct model *m = q->m;
    if (!m->torch.there || m->inflight || m->moved) return;
    for (unsigned i = 0; i < MW_DEVICES; i++) {
        const struct mw_torch_device *told = &m->torch.told.device[i];
        int64_t drift;
        if (torch_drift(m, i, &drift) && drift) add_drift(q, i, drift);
        // Less is no drift: what PyTorch gave back since its last event it did not tell.
        if (told->known == 2 && m->torch.segments_known && torch_is_one(m) &&
            m->torch.device[i].segment_bytes > told->reserved_bytes)
            add_reserve(q, i);
    }
}

// From a driver's refusal to PyTorch's it is one call of PyTorch's, which may free what it kept and
// try again meanwhile. An exception is printed soon after, but may be caught and told of later.
#define CALL_NS    UINT64_C(1000000000)
#define MESSAGE_NS UINT64_C(10000000000)

const struct mw_oom *framework_oom_of(const struct inquiry *q, const struct recognised *r,
                                      int device) {
    if (!strcmp(r->incident->record->domain, "host")) return NULL;
    for (unsigned i = torch_ooms(q->m); i--;) {
        const struct mw_oom *o = torch_oom(q->m, i);
        if (!o || (device >= 0 && o->device != device)) continue;
        // Modulo 2^64: what came in the other order does not belong together.
        if (r->call && o->when_ns - r->call->when_ns <= CALL_NS) return o;
        if (!r->call && r->message && r->message->when_ns - o->when_ns <= MESSAGE_NS) return o;
    }
    return NULL;
}

void finding_tensors(cJSON *finding, const struct inquiry *q, const struct mw_oom *o) {
    for (unsigned i = 0; i < MW_OOM_SITES; i++) {
        uint32_t index = o->site[i].site;
        if (index && index <= q->m->sites) finding_site(finding, q, index - 1, o->site[i].bytes);
    }
}

// Of a device the last one is told, which is what a program dies of; the others stand in `torch`.
static const struct mw_oom *last_oom(const struct inquiry *q, int device, unsigned *times) {
    const struct mw_oom *last = NULL;
    *times = 0;
    for (unsigned i = 0; i < torch_ooms(q->m); i++) {
        const struct mw_oom *o = torch_oom(q->m, i);
        if (!o || o->device != device) continue;
        last = o;
        ++*times;
    }
    return last;
}

// "1.50 GiB" is of any number of bytes that is written so.
static bool is_about(uint64_t stated, uint64_t asked) {
    uint64_t off = stated > asked ? stated - asked : asked - stated;
    return off <= asked / 64;
}

// Not every error near in time is of this refusal: another library may have failed, too. PyTorch's
// own text names what was asked for; a call for a segment asks for no less.
static bool speaks_of(const struct recognised *r, const struct mw_oom *o) {
    const struct incident *incident = r->incident;
    if (r->evidence == EVIDENCE_CODE) return r->call->asked >= o->asked;
    if (strncmp(incident->record->id, "torch/", strlen("torch/")) != 0) return false;
    for (size_t i = 0; i < incident->fields; i++) {
        const struct incident_field *f = &incident->field[i];
        if (!strcmp(f->name, "request") && f->has_number && !f->number.negative)
            return is_about(number_bytes(&f->number), o->asked);
    }
    return true;
}

const struct mw_oom *framework_oom_telling(const struct inquiry *q, const struct recognised *r) {
    const struct mw_oom *o = known_error_oom(q, r);
    unsigned times;
    bool told =
        o && o->device >= 0 && o->device < (int)MW_DEVICES && last_oom(q, o->device, &times) == o;
    return told && speaks_of(r, o) ? o : NULL;
}

// The errors that were printed or returned on account of a refusal: first those that PyTorch's own
// text tells of. NULL behind the last.
static const struct recognised *next_error(const struct inquiry *q, const struct mw_oom *o,
                                           size_t *at) {
    size_t most = q->recognition->count < FINDINGS_LISTED ? q->recognition->count : FINDINGS_LISTED;
    while (*at < 2 * most) {
        bool text = *at < most;
        const struct recognised *r = &q->recognition->item[text ? *at : *at - most];
        ++*at;
        if (text == ((r->evidence & EVIDENCE_TEXT) != 0) && framework_oom_telling(q, r) == o)
            return r;
    }
    return NULL;
}

static bool totals_are_told(const struct mw_oom *o) {
    return o->reserved_bytes != UINT64_MAX && o->reserved_bytes >= o->allocated;
}

static void add_books(cJSON *f, const struct mw_oom *o, unsigned times) {
    char again[48];
    finding_bytes(f, "asked for", o->asked, SOURCE_CALL);
    if (totals_are_told(o)) {
        finding_bytes(f, "allocated then, by PyTorch", o->allocated, SOURCE_FRAMEWORK);
        finding_bytes(f, "reserved then", o->reserved_bytes, SOURCE_FRAMEWORK);
        finding_bytes(f, "of that unused", o->reserved_bytes - o->allocated, SOURCE_FRAMEWORK);
    }
    finding_bytes(f, "live then, of tensors", o->live, SOURCE_LEDGER);
    if (times < 2) return;
    int n = snprintf(again, sizeof again, "%u more before, of those that are kept", times - 1);
    finding_text(f, "refused", again, (size_t)n, SOURCE_LEDGER);
}

static void add_oom(const struct inquiry *q, const struct mw_oom *o, unsigned times) {
    const struct mw_header *h = &q->m->reader.header;
    char title[160], asked[BYTES_TEXT], unused[BYTES_TEXT], explanation[400] = "";
    bool ended_well = h->exit_kind == MW_EXIT_CODE && !h->exit_value;
    uint64_t idle = totals_are_told(o) ? o->reserved_bytes - o->allocated : 0;
    size_t i = 0;
    const struct recognised *error = next_error(q, o, &i);
    struct finding_words words = error ? known_error_words(error) : (struct finding_words){0};
    snprintf(title, sizeof title, "PyTorch could not get %s on device %d",
             bytes_text(o->asked, asked), o->device);
    words.title = title;
    if (idle >= o->asked) {
        words.hypothesis = NULL;
        snprintf(explanation, sizeof explanation,
                 "It held %s that no tensor used, which would have been enough, but not in one "
                 "piece that this request may use: the memory was fragmented, or that of other "
                 "streams, or kept for CUDA graphs and memory pools.",
                 bytes_text(idle, unused));
        words.explanation = explanation;
    }
    enum severity severity = ended_well ? SEVERITY_WARNING : SEVERITY_ERROR;
    if (error && error->severity > severity) severity = error->severity;
    cJSON *f = finding_new(q->findings, "out_of_memory", severity, 1, &words);
    add_books(f, o, times);
    for (const struct recognised *r = error; r; r = next_error(q, o, &i)) {
        known_error_evidence(f, q, r, "asked for, of the driver");
        finding_knowledge(f, r->incident->record);
    }
    finding_device(f, q->m, o->device);
    finding_tensors(f, q, o);
}

void find_framework_oom(const struct inquiry *q) {
    for (int device = 0; device < (int)MW_DEVICES; device++) {
        unsigned times;
        const struct mw_oom *last = last_oom(q, device, &times);
        if (last) add_oom(q, last, times);
    }
}
