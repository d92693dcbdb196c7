// SPDX-License-Identifier: Apache-2.0
//
// counter_corruption: a number that the program printed or was told, and that cannot be true
// (knowledge/counters.h). What the process really had live, by the ledger, stands beside it.
//
// A number that is merely unusual is none: more allocated than a device has is normal where the
// driver spills to system memory, and a process may be told less than a device has (NVIDIA MPS,
// MIG).
#include "advice.h"
#include "findings.h"
#include "forked.h"
#include "memwatch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

// One number and where it comes from.
struct figure {
    struct number number;
    struct counter_context context;
    const char *name;   // "free memory", "the figure 'other' of the message"
    const char *stated; // as printed
    const char *source;
    int device; // -1: none
    const struct message *message;
    const struct record *record; // that the message matched; NULL
};

// Whether the process is a fork of one that used a GPU takes a look at files: only when a number is
// suspicious. 0 = not asked, 1 = no, 2 = yes.
struct search {
    const struct inquiry *q;
    unsigned forked;
};

static bool is_forked(struct search *s) {
    if (!s->forked) s->forked = 1 + forked_from_watched(s->q->m, s->q->ledger);
    return s->forked == 2;
}

static double confidence_in(const struct counter_class *best) {
    static const double by_strength[] = {
        [STRENGTH_POSSIBLE] = 0.7, [STRENGTH_PRINTED] = 0.9, [STRENGTH_EXACT] = 0.95};
    return by_strength[best->strength];
}

// What else it may be, each in one line.
static void add_readings(cJSON *finding, const struct figure *f, const struct counter_class *class,
                         size_t classes) {
    char text[COUNTER_TEXT + 96], fact[COUNTER_TEXT];
    for (size_t i = 1; i < classes && i < 3; i++) {
        counters_text(&f->number, &f->context, &class[i], TEXT_FACT, LANGUAGE_EN, fact,
                      sizeof fact);
        int n = snprintf(text, sizeof text, "%s: %s",
                         counters_kind_name(class[i].kind, LANGUAGE_EN), fact);
        finding_text(finding, "or", text, (size_t)n, f->source);
    }
}

static void add_finding(struct search *s, const struct figure *f, const struct counter_class *class,
                        size_t classes, enum counter_verdict verdict) {
    const struct model *m = s->q->m;
    char title[256], fact[COUNTER_TEXT], not [COUNTER_TEXT], guess[COUNTER_TEXT];
    char explanation[2 * COUNTER_TEXT];
    bool sentinel = verdict == VERDICT_SENTINEL;
    snprintf(title, sizeof title, "%s of %s %s (%s)", f->name, f->stated,
             sentinel ? "is no amount of memory" : "cannot be true",
             counters_kind_name(class[0].kind, LANGUAGE_EN));
    counters_text(&f->number, &f->context, class, TEXT_FACT, LANGUAGE_EN, fact, sizeof fact);
    counters_text(&f->number, &f->context, class, TEXT_NOT, LANGUAGE_EN, not, sizeof not );
    counters_text(&f->number, &f->context, class, TEXT_HYPOTHESIS, LANGUAGE_EN, guess,
                  sizeof guess);
    snprintf(explanation, sizeof explanation, "%s%s%s", fact, *not ? " " : "", not );
    // That the number is wrong is sure where a value is exact; what it is, as sure as its class.
    cJSON *finding =
        finding_new(s->q->findings, "counter_corruption", SEVERITY_WARNING, confidence_in(class),
                    &(struct finding_words){title, explanation, guess});
    finding_stated(finding, f->name, f->stated, number_bytes(&f->number), f->source);
    for (size_t i = 0; i < f->context.siblings_count; i++) {
        const struct counter_sibling *sibling = &f->context.siblings[i];
        if (!sibling->number.negative)
            finding_bytes(finding, counters_role_name(sibling->role),
                          number_bytes(&sibling->number), f->source);
    }
    add_readings(finding, f, class, classes);
    if (f->message && f->message->live_device != MESSAGE_LIVE_UNKNOWN)
        finding_bytes(finding, "live on devices when it was printed", f->message->live_device,
                      SOURCE_LEDGER);
    if (!f->message) {
        uint64_t live = 0;
        for (unsigned i = 0; i < m->accounts; i++)
            if (m->account[i].device == f->device && space_is_memory(m->account[i].space))
                live += m->account[i].held.bytes;
        finding_bytes(finding, "live of this process on the device", live, SOURCE_LEDGER);
    }
    if (s->forked == 2) {
        static const char text[] = "the process was forked from one that used a GPU";
        finding_text(finding, "fork", text, sizeof text - 1, SOURCE_LEDGER);
    }
    finding_device(finding, m, f->device);
    if (f->record) finding_knowledge(finding, f->record);
}

// `sentinels`: also a number that means "not available", where none is expected.
static void judge(struct search *s, struct figure *f, bool sentinels) {
    struct counter_class class[COUNTER_CLASSES];
    size_t classes = counters_classify(&f->number, &f->context, class, COUNTER_CLASSES);
    enum counter_verdict verdict = counters_verdict(class, classes);
    if (verdict != VERDICT_IMPLAUSIBLE && !(verdict == VERDICT_SENTINEL && sentinels)) return;
    if (is_forked(s)) {
        f->context.forked = true;
        classes = counters_classify(&f->number, &f->context, class, COUNTER_CLASSES);
    }
    add_finding(s, f, class, classes, verdict);
}

// ---- what the program printed ---------------------------------------------------------------

static bool has_bounds(const struct counter_context *c) {
    for (size_t i = 0; i < c->siblings_count; i++)
        if (c->siblings[i].role == ROLE_TOTAL || c->siblings[i].role == ROLE_LIMIT) return true;
    return false;
}

// Memory of the device that our process was told of, if it is only one.
static uint64_t only_device(const struct model *m) {
    uint64_t total = 0;
    for (unsigned i = 0; i < MW_DEVICES; i++) {
        const struct mw_device *d = &m->reader.header.device[i];
        if (!d->total) continue;
        if (total) return 0;
        total = d->total;
    }
    return total;
}

static void judge_message(struct search *s, const struct recognised *r) {
    const struct incident *incident = r->incident;
    for (size_t i = 0; i < incident->fields; i++) {
        struct reading reading;
        char name[64];
        if (!advice_read_field(incident, i, &reading) || !advice_reading_matters(&reading))
            continue;
        snprintf(name, sizeof name, "The message's figure '%s'", incident->field[i].name);
        struct figure f = {.number = incident->field[i].number,
                           .context = reading.context,
                           .name = name,
                           .stated = incident->field[i].text,
                           .source = SOURCE_MESSAGE,
                           .device = -1,
                           .message = r->message,
                           .record = incident->record};
        // What the message says of its device is nearer than what the driver says of ours.
        if (!has_bounds(&f.context)) f.context.device_bytes = only_device(s->q->m);
        // A record that knows what the largest number means here has said it already.
        judge(s, &f, !reading.sentinel);
    }
}

// ---- what the program was told --------------------------------------------------------------

// A number that an API returned, in bytes.
static void judge_value(struct search *s, const char *name, uint64_t value, enum counter_role role,
                        int device, const struct counter_sibling *sibling) {
    char stated[32];
    struct figure f = {.context = {.role = role,
                                   .platform = PLATFORM_LINUX,
                                   .siblings = sibling,
                                   .siblings_count = sibling != NULL},
                       .name = name,
                       .stated = stated,
                       .source = SOURCE_DRIVER,
                       .device = device};
    int n = snprintf(stated, sizeof stated, "%" PRIu64 " B", value);
    number_parse(stated, (size_t)n, &f.number);
    if (device >= 0 && device < (int)MW_DEVICES)
        f.context.device_bytes = s->q->m->reader.header.device[device].total;
    // No API that says how many bytes there are has a value for "not available".
    judge(s, &f, true);
}

static struct counter_sibling sibling_of(enum counter_role role, uint64_t value) {
    char text[32];
    struct counter_sibling sibling = {.role = role};
    int n = snprintf(text, sizeof text, "%" PRIu64 " B", value);
    number_parse(text, (size_t)n, &sibling.number);
    return sibling;
}

static void judge_device(struct search *s, int device) {
    const struct mw_device *d = &s->q->m->reader.header.device[device];
    char name[96];
    if (d->info_n) {
        struct counter_sibling total = sibling_of(ROLE_TOTAL, d->info_total),
                               free = sibling_of(ROLE_FREE, d->info_free);
        snprintf(name, sizeof name, "Free memory of device %d by cuMemGetInfo", device);
        judge_value(s, name, d->info_free, ROLE_FREE, device, &total);
        snprintf(name, sizeof name, "Total memory of device %d by cuMemGetInfo", device);
        judge_value(s, name, d->info_total, ROLE_TOTAL, device, &free);
    }
    if (!d->graph_ns) return;
    const struct {
        const char *name;
        uint64_t value;
        enum counter_role role;
    } told[] = {{"used memory", d->graph_used, ROLE_ALLOCATED},
                {"peak of used memory", d->graph_used_high, ROLE_ALLOCATED},
                {"reserved memory", d->graph_reserved, ROLE_RESERVED},
                {"peak of reserved memory", d->graph_reserved_high, ROLE_RESERVED}};
    for (size_t i = 0; i < sizeof told / sizeof told[0]; i++) {
        snprintf(name, sizeof name, "Graphs' %s on device %d", told[i].name, device);
        judge_value(s, name, told[i].value, told[i].role, device, NULL);
    }
}

static void judge_pool(struct search *s, const struct mw_pool *p) {
    // Not the release threshold: the largest number is its way to say "keep all".
    const struct {
        const char *name;
        uint64_t value;
        enum counter_role role;
    } told[] = {{"Used memory", p->used, ROLE_ALLOCATED},
                {"Peak of used memory", p->used_high, ROLE_ALLOCATED},
                {"Reserved memory", p->reserved_bytes, ROLE_RESERVED},
                {"Peak of reserved memory", p->reserved_high, ROLE_RESERVED}};
    for (size_t i = 0; i < sizeof told / sizeof told[0]; i++) {
        char name[96];
        snprintf(name, sizeof name, "%s of pool 0x%" PRIx64, told[i].name, p->handle);
        judge_value(s, name, told[i].value, told[i].role, p->device, NULL);
    }
}

void find_counter_corruption(const struct inquiry *q) {
    struct search s = {.q = q};
    const struct mw_header *h = &q->m->reader.header;
    for (size_t i = 0; i < q->recognition->count && i < FINDINGS_LISTED; i++)
        if (q->recognition->item[i].evidence & EVIDENCE_TEXT)
            judge_message(&s, &q->recognition->item[i]);
    for (int i = 0; i < (int)MW_DEVICES; i++) judge_device(&s, i);
    for (unsigned i = 0; i < MW_POOLS; i++)
        if (h->pool[i].state >= 2 && h->pool[i].observed_ns) judge_pool(&s, &h->pool[i]);
}
