// SPDX-License-Identifier: Apache-2.0
//
// How findings are built, collected and put into order (findings.h), and the records that they
// refer to.
#include "findings.h"

#include "emit_parts.h"
#include "memwatch.h"

#include <stdlib.h>
#include <string.h>

#define TOP_SITES     5
#define ADVICE_LISTED 8 // of a record: what helps, and what does not
#define TEXT_SHOWN    2000

// ---- building one ---------------------------------------------------------------------------

cJSON *finding_new(cJSON *findings, const char *type, enum severity severity, double confidence,
                   const struct finding_words *words) {
    cJSON *f = json_add_object(findings, NULL);
    json_add_text(f, "type", type);
    json_add_text(f, "severity", severity_id(severity));
    cJSON_AddNumberToObject(f, "confidence", (int)(confidence * 100 + 0.5) / 100.0);
    json_add_text(f, "title", words->title);
    json_add_text(f, "explanation", words->explanation);
    json_add_text(f, "hypothesis", words->hypothesis);
    json_add_array(f, "evidence");
    json_add_null(f, "failure");
    json_add_array(f, "sites");
    json_add_array(f, "knowledge");
    json_add_array(f, "do");
    json_add_array(f, "do_not");
    return f;
}

static cJSON *member(cJSON *object, const char *name) {
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static cJSON *add_evidence(cJSON *finding, const char *what, const char *source) {
    cJSON *e = json_add_object(member(finding, "evidence"), NULL);
    json_add_text(e, "what", what);
    json_add_text(e, "source", source);
    return e;
}

void finding_bytes(cJSON *finding, const char *what, uint64_t bytes, const char *source) {
    cJSON *e = add_evidence(finding, what, source);
    json_add_null(e, "text");
    json_add_u64(e, "bytes", bytes);
}

void finding_text(cJSON *finding, const char *what, const char *text, size_t length,
                  const char *source) {
    cJSON *e = add_evidence(finding, what, source);
    json_add_bytes(e, "text", text, length < TEXT_SHOWN ? length : TEXT_SHOWN);
    json_add_null(e, "bytes");
}

void finding_stated(cJSON *finding, const char *what, const char *text, uint64_t bytes,
                    const char *source) {
    cJSON *e = add_evidence(finding, what, source);
    json_add_text(e, "text", text);
    json_add_u64(e, "bytes", bytes);
}

void finding_device(cJSON *finding, const struct model *m, int device) {
    const struct mw_device *all = m->reader.header.device;
    int only = -1, known = 0;
    for (int i = 0; i < (int)MW_DEVICES; i++)
        if (all[i].total || all[i].info_n) only = i, known++;
    if (device < 0 && known == 1) device = only;
    if (device < 0 || device >= (int)MW_DEVICES) return;
    const struct mw_device *d = &all[device];
    if (d->total) finding_bytes(finding, "memory of the device", d->total, SOURCE_DRIVER);
    if (!d->info_n) return;
    finding_bytes(finding, "free on the device, when the program last asked", d->info_free,
                  SOURCE_DRIVER);
    finding_bytes(finding, "total of the device, when the program last asked", d->info_total,
                  SOURCE_DRIVER);
}

// ---- sites ----------------------------------------------------------------------------------

struct weighed {
    int position;
    uint64_t bytes;
};

static int heaviest_first(const void *a, const void *b) {
    const struct weighed *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->position < y->position ? -1 : x->position > y->position;
}

void finding_top_sites(cJSON *finding, const struct inquiry *q, uint64_t live_then) {
    const struct model *m = q->m;
    struct weighed *sites = allocate(m->sites, sizeof *sites);
    cJSON *list = member(finding, "sites");
    uint64_t live = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < m->sites; i++)
        if (space_is_memory(m->account[m->site[i].account].space)) live += m->site[i].held.bytes;
    bool gone = live_then != MESSAGE_LIVE_UNKNOWN && live < live_then / 2;
    for (unsigned i = 0; i < m->sites; i++) {
        const struct model_site *s = &m->site[i];
        const struct model_account *a = &m->account[s->account];
        uint64_t bytes = gone ? s->peak_bytes : s->held.bytes;
        if (!space_is_memory(a->space) || a->device < 0 || q->position[i] < 0 || !bytes) continue;
        sites[n++] = (struct weighed){q->position[i], bytes};
    }
    qsort(sites, n, sizeof *sites, heaviest_first);
    for (unsigned i = 0; i < n && i < TOP_SITES; i++) json_add_i64(list, NULL, sites[i].position);
    free(sites);
}

void finding_failure(cJSON *finding, const struct inquiry *q, const struct mw_failure *call) {
    int listed = q->failure_position[call - q->m->reader.header.failure];
    if (listed >= 0)
        cJSON_ReplaceItemInObjectCaseSensitive(finding, "failure", cJSON_CreateNumber(listed));
}

void finding_site(cJSON *finding, const struct inquiry *q, uint32_t site, uint64_t bytes) {
    cJSON *list = member(finding, "sites");
    if (q->position[site] < 0 || cJSON_GetArraySize(list) >= TOP_SITES) return;
    json_add_i64(list, NULL, q->position[site]);
    if (!member(finding, "sites_bytes")) json_add_array(finding, "sites_bytes");
    json_add_u64(member(finding, "sites_bytes"), NULL, bytes);
}

// ---- records --------------------------------------------------------------------------------

static bool is_advice(const struct record_action *a) {
    return a->tier != TIER_DISPUTED && *record_text(&a->action, LANGUAGE_EN);
}

static void add_actions(cJSON *list, const struct record_action *actions, size_t count,
                        bool helps) {
    size_t n = 0;
    for (size_t i = 0; i < count && n < ADVICE_LISTED; i++) {
        const struct record_action *a = &actions[i];
        if (!is_advice(a)) continue;
        n++;
        cJSON *item = json_add_object(list, NULL);
        json_add_text(item, "action", record_text(&a->action, LANGUAGE_EN));
        if (helps) {
            json_add_text(item, "condition", record_text(&a->condition, LANGUAGE_EN));
            json_add_text(item, "warning", record_text(&a->warning, LANGUAGE_EN));
        } else {
            json_add_text(item, "why", record_text(&a->why_fails, LANGUAGE_EN));
        }
        json_add_text(item, "tier", tier_id(a->tier));
    }
}

void finding_knowledge(cJSON *finding, const struct record *record) {
    json_add_text(member(finding, "knowledge"), NULL, record->id);
    add_actions(member(finding, "do"), record->workaround, record->workarounds, true);
    add_actions(member(finding, "do_not"), record->dead_end, record->dead_ends, false);
}

static void add_false_claims(cJSON *object, const struct record *record) {
    cJSON *list = json_add_array(object, "false_claims");
    for (size_t i = 0; i < record->disputes; i++) {
        const struct record_dispute *d = &record->dispute[i];
        cJSON *claim = json_add_object(list, NULL);
        json_add_text(claim, "claim", record_text(&d->claim, LANGUAGE_EN));
        json_add_text(claim, "verdict", claim_verdict_id(d->verdict));
        const struct strings *evidence = dispute_evidence(d, LANGUAGE_EN);
        json_add_text(claim, "evidence", evidence->count ? evidence->item[0] : NULL);
    }
    // What a record gives as advice although it is known to be untrue.
    for (size_t i = 0; i < record->workarounds; i++) {
        const struct record_action *a = &record->workaround[i];
        if (a->tier != TIER_DISPUTED) continue;
        cJSON *claim = json_add_object(list, NULL);
        json_add_text(claim, "claim", record_text(&a->action, LANGUAGE_EN));
        json_add_text(claim, "verdict", claim_verdict_id(CLAIM_FALSE));
        json_add_null(claim, "evidence");
    }
}

static void add_confused(cJSON *object, const struct knowledge *knowledge,
                         const struct record *record) {
    cJSON *list = json_add_array(object, "confused_with");
    for (size_t i = 0; i < record->confused_with.count; i++) {
        const struct record_edge *edge = &record->confused_with.item[i];
        const struct record *other = knowledge_find(knowledge, edge->id);
        cJSON *item = json_add_object(list, NULL);
        json_add_text(item, "id", edge->id);
        json_add_text(item, "title", other ? record_text(&other->title, LANGUAGE_EN) : NULL);
        json_add_text(item, "distinction", record_text(&edge->distinction, LANGUAGE_EN));
    }
}

static void add_record(cJSON *list, const struct knowledge *knowledge, const struct recognised *r) {
    const struct incident *incident = r->incident;
    const struct record *record = incident->record;
    cJSON *object = json_add_object(list, NULL);
    json_add_text(object, "id", record->id);
    json_add_text(object, "title", record_text(&record->title, LANGUAGE_EN));
    json_add_text(object, "domain", record->domain);
    json_add_text(object, "category", record->category);
    json_add_text(object, "severity", severity_id(record->severity));
    json_add_text(object, "tier", tier_id(record->tier));
    cJSON_AddNumberToObject(object, "confidence", record_confidence(record, record->tier));
    json_add_text(object, "last_updated", record->last_updated);
    cJSON *by = json_add_array(object, "matched_by");
    if (r->evidence & EVIDENCE_CODE) json_add_text(by, NULL, "code");
    if (r->evidence & EVIDENCE_TEXT) json_add_text(by, NULL, "text");
    if (incident->match_end > incident->match_begin)
        json_add_bytes(object, "matched", incident->text + incident->match_begin,
                       incident->match_end - incident->match_begin);
    else
        json_add_null(object, "matched");
    cJSON *fields = json_add_array(object, "fields");
    for (size_t i = 0; i < incident->fields; i++) {
        const struct incident_field *f = &incident->field[i];
        cJSON *field = json_add_object(fields, NULL);
        json_add_text(field, "name", f->name);
        json_add_text(field, "type", f->type);
        json_add_bytes(field, "text", f->text, sizeof f->text);
        if (f->has_number && f->number.has_unit)
            json_add_u64(field, "bytes", number_bytes(&f->number));
        else
            json_add_null(field, "bytes");
    }
    cJSON *advice = json_add_array(object, "advice");
    for (size_t i = 0; i < record->workarounds; i++)
        if (is_advice(&record->workaround[i]))
            json_add_text(advice, NULL, record_text(&record->workaround[i].action, LANGUAGE_EN));
    add_false_claims(object, record);
    add_confused(object, knowledge, record);
}

// Each record once, as its first and weightiest incident shows it.
static void add_knowledge(cJSON *report, const struct recognition *r) {
    cJSON *list = json_add_array(report, "knowledge");
    for (size_t i = 0; i < r->count && i < FINDINGS_LISTED; i++) {
        bool before = false;
        for (size_t k = 0; k < i && !before; k++)
            before = r->item[k].incident->record == r->item[i].incident->record;
        if (!before) add_record(list, r->knowledge, &r->item[i]);
    }
}

// ---- the whole ------------------------------------------------------------------------------

static int weight(const cJSON *finding) {
    const char *severity = json_text(finding, "severity");
    int rank = 0;
    for (int s = 0; s < SEVERITIES; s++)
        if (severity && !strcmp(severity, severity_id((enum severity)s))) rank = s;
    const cJSON *confidence = json_get(finding, "confidence");
    return rank * 1000 + (int)(cJSON_IsNumber(confidence) ? confidence->valuedouble * 100 : 0);
}

// Those that matter most first; equal ones stay in the order in which they were found.
static cJSON *sorted(cJSON *findings) {
    int n = cJSON_GetArraySize(findings), i = 0;
    cJSON **order = allocate((size_t)n, sizeof(cJSON *)), *all = cJSON_CreateArray();
    for (; i < n; i++) {
        cJSON *one = cJSON_DetachItemFromArray(findings, 0);
        int k = i;
        for (; k && weight(order[k - 1]) < weight(one); k--) order[k] = order[k - 1];
        order[k] = one;
    }
    for (i = 0; i < n; i++) {
        if (i < FINDINGS_LISTED)
            cJSON_AddItemToArray(all, order[i]);
        else
            cJSON_Delete(order[i]);
    }
    free(order);
    return all;
}

void emit_findings(cJSON *report, const struct model *m, const char *ledger, const int *position,
                   const int *failure_position) {
    struct recognition recognition;
    recognise(m, &recognition);
    struct inquiry q = {m, ledger, position, failure_position, &recognition, cJSON_CreateArray()};
    find_known_errors(&q);
    find_counter_corruption(&q);
    find_framework_drift(&q);
    find_framework_oom(&q);
    uint64_t found = (uint64_t)cJSON_GetArraySize(q.findings), omitted = recognition.left_out;
    if (found > FINDINGS_LISTED) omitted += found - FINDINGS_LISTED;
    if (recognition.count > FINDINGS_LISTED) omitted += recognition.count - FINDINGS_LISTED;
    cJSON_AddItemToObject(report, "findings", sorted(q.findings));
    json_add_u64(report, "findings_omitted", omitted);
    add_knowledge(report, &recognition);
    cJSON_Delete(q.findings);
    recognition_free(&recognition);
}
