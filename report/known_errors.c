// SPDX-License-Identifier: Apache-2.0
//
// known_error: what the program printed, or what its calls returned, is an error that is known.
// Beside the text stands what the process really held when it printed it.
#include "findings.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

// A text may be quoted or be another program's; a code was returned. Where both say the same, what
// doubt the record leaves is halved.
static double confidence_of(const struct recognised *r) {
    const struct record *record = r->incident->record;
    double c = record_confidence(record, record->tier);
    if (r->evidence == (EVIDENCE_TEXT | EVIDENCE_CODE)) return 1 - (1 - c) / 2;
    if (r->evidence == EVIDENCE_CODE && c < 0.8) return 0.8;
    return c;
}

static void add_repetition(cJSON *finding, const struct incident *incident) {
    char text[512];
    int n = 0;
    if (incident->count > 1)
        n = snprintf(text, sizeof text, "%" PRIu64 " messages", incident->count);
    for (size_t i = 0; i < incident->ranks && n < (int)sizeof text - 16; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%d",
                      i   ? ", "
                      : n ? " of ranks "
                          : "rank ",
                      incident->rank[i]);
    if (n) finding_text(finding, "repeated", text, (size_t)n, SOURCE_MESSAGE);
}

static void add_message(cJSON *finding, const struct recognised *r) {
    const struct incident *incident = r->incident;
    finding_text(finding, "printed", incident->text, strlen(incident->text), SOURCE_MESSAGE);
    add_repetition(finding, incident);
    if (incident->recovered_text)
        finding_text(finding, "recovered", incident->recovered_text,
                     strlen(incident->recovered_text), SOURCE_MESSAGE);
    for (size_t i = 0; i < incident->fields; i++) {
        const struct incident_field *f = &incident->field[i];
        bool bytes = f->has_number && (f->number.has_unit || !strcmp(f->type, "bytes"));
        if (bytes && !f->number.negative)
            finding_stated(finding, f->name, f->text, number_bytes(&f->number), SOURCE_MESSAGE);
    }
    if (!r->message || r->message->live_device == MESSAGE_LIVE_UNKNOWN) return;
    finding_bytes(finding, "live on devices when it was printed", r->message->live_device,
                  SOURCE_LEDGER);
    if (r->message->live_host)
        finding_bytes(finding, "live as pinned memory when it was printed", r->message->live_host,
                      SOURCE_LEDGER);
}

static void add_call(cJSON *finding, const struct model *m, const struct recognised *r,
                     const char *asked) {
    const struct mw_failure *f = r->call;
    const char *api = f->api < m->apis ? m->api[f->api].name : "a call";
    char text[128];
    snprintf(text, sizeof text, "%s returned %" PRIu32 "%s", api, f->result,
             r->calls > 1 ? ", not only once" : "");
    finding_text(finding, "failed call", text, strlen(text), SOURCE_CALL);
    if (f->asked) finding_bytes(finding, asked, f->asked, SOURCE_CALL);
    const struct mw_account *a =
        &m->reader.header.account[f->account < MW_ACCOUNTS ? f->account : MW_ACCOUNTS - 1];
    bool allocation = a->state == 2 && a->space != MW_SPACE_NONE && a->space < MW_SPACE_COUNT;
    if (!allocation) return;
    char what[64];
    snprintf(what, sizeof what, "live then, of %s memory", space_name(a->space));
    finding_bytes(finding, what, f->live, SOURCE_LEDGER);
}

// The device that a message names.
static int device_of(const struct recognised *r, const struct model *m) {
    const struct incident *incident = r->incident;
    for (size_t i = 0; i < incident->fields; i++)
        if (!strcmp(incident->field[i].name, "device") && incident->field[i].has_number &&
            incident->field[i].number.integer < MW_DEVICES)
            return (int)incident->field[i].number.integer;
    if (r->call && r->call->account < MW_ACCOUNTS)
        return m->reader.header.account[r->call->account].device;
    return -1;
}

static bool ran_out(const struct recognised *r) {
    return !strcmp(r->incident->record->category, "out_of_memory");
}

const struct mw_oom *known_error_oom(const struct inquiry *q, const struct recognised *r) {
    return ran_out(r) ? framework_oom_of(q, r, device_of(r, q->m)) : NULL;
}

// Who holds the memory that ran out. Of PyTorch's segments, whoever asked first for a part of one
// is not who holds it: where PyTorch refused the request, its tensors are told of instead.
static void add_holders(cJSON *f, const struct inquiry *q, const struct recognised *r) {
    static const char whose[] = "those of tensors: what the driver gave are PyTorch's segments";
    const struct mw_oom *o = known_error_oom(q, r);
    finding_device(f, q->m, device_of(r, q->m));
    if (o && o->site[0].site) {
        finding_text(f, "holders", whose, sizeof whose - 1, SOURCE_LEDGER);
        finding_tensors(f, q, o);
        return;
    }
    finding_top_sites(f, q,
                      r->message ? r->message->live_device
                      : r->call  ? r->call->live
                                 : MESSAGE_LIVE_UNKNOWN);
}

struct finding_words known_error_words(const struct recognised *r) {
    const struct record *record = r->incident->record;
    bool cause_known = record->cause.tier != TIER_DISPUTED;
    return (struct finding_words){
        .title = record_text(&record->title, LANGUAGE_EN),
        .explanation = cause_known ? record_text(&record->cause.text, LANGUAGE_EN) : NULL,
        .hypothesis = record_text(&record->cause.hypothesis, LANGUAGE_EN)};
}

void known_error_evidence(cJSON *finding, const struct inquiry *q, const struct recognised *r,
                          const char *asked) {
    if (r->evidence & EVIDENCE_TEXT) add_message(finding, r);
    if (!r->call) return;
    add_call(finding, q->m, r, asked);
    finding_failure(finding, q, r->call);
}

static void add_error(const struct inquiry *q, const struct recognised *r) {
    struct finding_words words = known_error_words(r);
    cJSON *f = finding_new(q->findings, "known_error", r->severity, confidence_of(r), &words);
    known_error_evidence(f, q, r, "asked for");
    if (ran_out(r)) add_holders(f, q, r);
    finding_knowledge(f, r->incident->record);
}

void find_known_errors(const struct inquiry *q) {
    for (size_t i = 0; i < q->recognition->count && i < FINDINGS_LISTED; i++) {
        const struct recognised *r = &q->recognition->item[i];
        if (!framework_oom_telling(q, r)) add_error(q, r);
    }
}
