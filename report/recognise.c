// SPDX-License-Identifier: Apache-2.0
//
// Texts and return codes → known errors (recognise.h).
#include "recognise.h"

#include "kb.h"
#include "match.h"
#include "memwatch.h"

#include <stdlib.h>
#include <string.h>

// Where hits began, so that an incident's message is found again. As many as the kept text can
// hold, were every line an error.
#define PLACES_MOST 16384u

// A text about memory that ran out belongs to a failed call if it was printed so soon after: an
// exception unwinds and is printed at once, frameworks free their caches and try again before.
#define AGREES_NS UINT64_C(10000000000)

static const char out_of_memory[] = "out_of_memory";

struct place {
    const struct record *record;
    uint64_t line, begin;
};

// What the matcher's callback fills.
static struct {
    struct incidents *incidents;
    struct place *place;
    size_t places;
} listening;

static void add_hits(void *unused, const struct hit *hits, size_t count) {
    (void)unused;
    incidents_add(listening.incidents, hits, count);
    for (size_t i = 0; i < count && listening.places < PLACES_MOST; i++)
        listening.place[listening.places++] =
            (struct place){hits[i].record, hits[i].line, hits[i].begin};
}

// Loaded once for a process that renders several times (the monitor), and not at all for a report
// without texts and failures.
static const struct knowledge *knowledge(void) {
    static struct knowledge *loaded;
    if (!loaded) loaded = kb_open(NULL);
    return loaded;
}

static struct matcher *matcher(void) {
    static struct matcher *made;
    if (!made) made = matcher_new(knowledge(), add_hits, NULL);
    return made;
}

const struct mw_failure *failure_at(const struct mw_header *h, uint64_t ordinal) {
    const struct mw_failure *f = &h->failure[ordinal % MW_FAILURES];
    return f->sequence == 2 * ordinal + 2 ? f : NULL; // else torn or replaced
}

static uint64_t first_failure(const struct mw_header *h) {
    return h->failures_total > MW_FAILURES ? h->failures_total - MW_FAILURES : 0;
}

// ---- text -----------------------------------------------------------------------------------

// Feeds all texts; start[i] gets the offset at which message i begins. What was cut out of the
// middle leaves a line's end, so that the halves are not read as one line.
static void feed(const struct messages *all, struct matcher *matcher, uint64_t *start) {
    uint64_t offset = 0;
    for (size_t i = 0; i < all->count; i++) {
        const struct message *m = &all->item[i];
        start[i] = offset;
        matcher_feed(matcher, m->text, m->head);
        if (m->cut) matcher_feed(matcher, "\n", 1);
        matcher_feed(matcher, m->text + m->head, m->bytes - m->head);
        offset += m->bytes + (m->cut != 0);
    }
    matcher_finish(matcher);
}

// The message in which the text of an incident begins.
static const struct message *message_of(const struct messages *all, const uint64_t *start,
                                        const struct incident *incident) {
    const struct place *p = listening.place, *end = p + listening.places;
    while (p < end && (p->record != incident->record || p->line != incident->line)) p++;
    if (p == end || !all->count) return NULL;
    size_t low = 0, high = all->count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (start[middle] <= p->begin)
            low = middle;
        else
            high = middle;
    }
    return &all->item[low];
}

// ---- calls ----------------------------------------------------------------------------------

// As records name the API that returned a code. Driver and runtime share their numbers.
static const char *api_of(const struct model *m, const struct mw_failure *f) {
    bool runtime = f->api < m->apis && m->api[f->api].layer == MW_LAYER_RUNTIME;
    return runtime ? "cuda-runtime" : "cuda-driver";
}

static void add_codes(const struct model *m, struct incidents *incidents) {
    const struct mw_header *h = &m->reader.header;
    for (uint64_t i = first_failure(h); i != h->failures_total; i++) {
        const struct mw_failure *f = failure_at(h, i);
        if (f) incidents_add_code(incidents, api_of(m, f), f->result, 1);
    }
}

static bool returned(const struct model *m, const struct mw_failure *f,
                     const struct incident *incident) {
    return f->result == incident->code && !strcmp(api_of(m, f), incident->api);
}

// The last of the calls that returned an incident's code.
static void find_call(const struct model *m, struct recognised *r) {
    const struct mw_header *h = &m->reader.header;
    for (uint64_t i = first_failure(h); i != h->failures_total; i++) {
        const struct mw_failure *f = failure_at(h, i);
        if (!f || !returned(m, f, r->incident)) continue;
        r->call = f;
        r->calls++;
    }
}

// Did the process end well, or not yet? Then what failed was borne.
static bool went_on(const struct mw_header *h) {
    if (h->exit_kind == MW_EXIT_CODE) return h->exit_value == 0;
    return h->exit_kind == MW_EXIT_UNKNOWN || h->exit_kind == MW_EXIT_EXEC;
}

static bool is_category(const struct recognised *r, const char *category) {
    return !strcmp(r->incident->record->category, category);
}

static const char *domain_of(const struct recognised *r) {
    return r->incident->record->domain;
}

// Frameworks' own texts about memory that ran out do not name the code, but a call that failed for
// want of memory just before says the same. The last such call, or NULL.
static const struct mw_failure *call_before(const struct model *m, const struct recognised *text,
                                            const struct recognised *code) {
    const struct mw_header *h = &m->reader.header;
    const struct mw_failure *last = NULL;
    if (!text->message || text->evidence != EVIDENCE_TEXT || !strcmp(domain_of(text), "host"))
        return NULL;
    if (!is_category(text, out_of_memory) || !is_category(code, out_of_memory)) return NULL;
    for (uint64_t i = first_failure(h); i != h->failures_total; i++) {
        const struct mw_failure *f = failure_at(h, i);
        if (!f || !returned(m, f, code->incident)) continue;
        // Modulo 2^64: a message from before the call is no answer to it.
        if (text->message->when_ns - f->when_ns <= AGREES_NS) last = f;
    }
    return last;
}

// Gives each code that a text speaks of to that text, and drops it as an error by itself.
static void unite(const struct model *m, struct recognition *r) {
    size_t kept = 0;
    bool *told = allocate(r->count, sizeof *told);
    for (size_t c = 0; c < r->count; c++) {
        const struct recognised *code = &r->item[c];
        for (size_t t = 0; code->evidence == EVIDENCE_CODE && t < r->count; t++) {
            struct recognised *text = &r->item[t];
            const struct mw_failure *call = call_before(m, text, code);
            if (!call) continue;
            text->evidence |= EVIDENCE_CODE;
            text->call = call;
            text->calls = code->calls;
            told[c] = true;
        }
    }
    for (size_t i = 0; i < r->count; i++)
        if (!told[i]) r->item[kept++] = r->item[i];
    r->count = kept;
    free(told);
}

static bool before(const struct recognised *a, const struct recognised *b) {
    if (a->severity != b->severity) return a->severity > b->severity;
    return a->evidence > b->evidence;
}

// Stable, which qsort is not: they come in the order of incidents_ranked().
static void rank(struct recognition *r) {
    for (size_t i = 1; i < r->count; i++) {
        struct recognised one = r->item[i];
        size_t k = i;
        for (; k && before(&one, &r->item[k - 1]); k--) r->item[k] = r->item[k - 1];
        r->item[k] = one;
    }
}

// ---- the whole ------------------------------------------------------------------------------

static void collect(const struct model *m, struct recognition *out, const uint64_t *start) {
    const struct mw_header *h = &m->reader.header;
    size_t count;
    const struct incident *const *list = incidents_ranked(out->incidents, &count);
    out->item = allocate(count, sizeof *out->item);
    for (size_t i = 0; i < count; i++) {
        struct recognised *r = &out->item[out->count++];
        *r = (struct recognised){
            .incident = list[i], .severity = list[i]->severity, .evidence = list[i]->evidence};
        if (r->evidence & EVIDENCE_TEXT) r->message = message_of(&m->messages, start, list[i]);
        if (r->evidence & EVIDENCE_CODE) find_call(m, r);
        if (r->evidence == EVIDENCE_CODE && went_on(h) && r->severity > SEVERITY_WARNING)
            r->severity = SEVERITY_WARNING;
    }
}

void recognise(const struct model *m, struct recognition *out) {
    memset(out, 0, sizeof *out);
    if (!m->messages.count && !m->reader.header.failures_total) return;
    struct matcher *matching = matcher();
    out->knowledge = knowledge();
    out->incidents = incidents_new(out->knowledge);
    if (!matching || !out->incidents) exit(fail(EXIT_DAMAGED, "out of memory"));
    uint64_t *start = allocate(m->messages.count, sizeof *start);
    listening.incidents = out->incidents;
    listening.place = allocate(PLACES_MOST, sizeof *listening.place);
    listening.places = 0;
    feed(&m->messages, matching, start);
    add_codes(m, out->incidents);
    collect(m, out, start);
    unite(m, out);
    rank(out);
    out->left_out = incidents_left_out(out->incidents);
    free(listening.place);
    free(start);
}

void recognition_free(struct recognition *r) {
    incidents_free(r->incidents);
    free(r->item);
    memset(r, 0, sizeof *r);
}
