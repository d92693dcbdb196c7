// SPDX-License-Identifier: Apache-2.0
//
// Incidents and records as JSON (advice.h). Keys and identifiers are English in every language.
#include "advice.h"

#include <string.h>

static void add_strings(cJSON *object, const char *name, const struct strings *strings) {
    cJSON *array = json_add_array(object, name);
    for (size_t i = 0; i < strings->count; i++) json_add_text(array, NULL, strings->item[i]);
}

static void add_bilingual(cJSON *object, const char *name, const struct bilingual *text,
                          enum language language) {
    json_add_text(object, name, record_text(text, language));
}

// ---- what was observed ----------------------------------------------------------------------

static void add_number(cJSON *object, const struct number *n) {
    cJSON_AddItemToObject(object, "value", cJSON_CreateNumber(n->value));
    if (n->has_unit) {
        json_add_text(object, "unit", n->unit);
        json_add_u64(object, "bytes", number_bytes(n));
    }
}

static void add_classes(cJSON *object, const struct incident *incident, size_t i,
                        enum language language) {
    static const struct {
        enum counter_text which;
        const char *name;
    } texts[] = {{TEXT_FACT, "fact"}, {TEXT_HYPOTHESIS, "hypothesis"}, {TEXT_NOT, "not"}};
    struct reading r;
    char text[COUNTER_TEXT];
    if (!advice_read_field(incident, i, &r)) return;
    json_add_text(object, "verdict", counters_verdict_id(r.verdict));
    if (!advice_reading_matters(&r)) return;
    if (r.sentinel) add_bilingual(object, "means", r.sentinel, language);
    cJSON *classes = json_add_array(object, "classes");
    for (size_t k = 0; k < r.classes; k++) {
        cJSON *class = json_add_object(classes, NULL);
        json_add_text(class, "kind", counters_kind_id(r.class[k].kind));
        json_add_text(class, "strength", counters_strength_id(r.class[k].strength));
        for (size_t t = 0; t < 3; t++)
            json_add_text(class, texts[t].name,
                          counters_text(&incident->field[i].number, &r.context, &r.class[k],
                                        texts[t].which, language, text, sizeof text));
    }
}

static void add_fields(cJSON *object, const struct incident *incident, enum language language) {
    cJSON *fields = json_add_array(object, "fields");
    for (size_t i = 0; i < incident->fields; i++) {
        const struct incident_field *f = &incident->field[i];
        cJSON *field = json_add_object(fields, NULL);
        json_add_text(field, "name", f->name);
        json_add_text(field, "type", f->type);
        json_add_bytes(field, "text", f->text, sizeof f->text);
        if (f->has_number) add_number(field, &f->number);
        add_classes(field, incident, i, language);
    }
}

static void add_records(cJSON *object, const char *name, const struct incident_record *list,
                        size_t count) {
    cJSON *array = json_add_array(object, name);
    for (size_t i = 0; i < count; i++) {
        cJSON *item = json_add_object(array, NULL);
        json_add_text(item, "record", list[i].record->id);
        if (list[i].line) json_add_u64(item, "line", list[i].line);
    }
}

static void add_message(cJSON *object, const struct incident *incident, const char *source) {
    cJSON *message = json_add_object(object, "message");
    json_add_text(message, "source", source);
    json_add_u64(message, "line", incident->line);
    json_add_u64(message, "last_line", incident->last_line);
    json_add_bytes(message, "text", incident->text, strlen(incident->text));
    json_add_bytes(message, "matched", incident->text + incident->match_begin,
                   incident->match_end - incident->match_begin);
    if (incident->origin.pid >= 0) json_add_i64(message, "pid", incident->origin.pid);
    if (incident->origin.source[0])
        json_add_bytes(message, "from", incident->origin.source, sizeof incident->origin.source);
}

cJSON *advice_json_incident(const struct observation *seen, enum language language) {
    const struct incident *incident = seen->incident;
    cJSON *object = cJSON_CreateObject();
    json_add_text(object, "record", incident->record->id);
    json_add_text(object, "severity", severity_id(incident->severity));
    cJSON *evidence = json_add_array(object, "evidence");
    if (incident->evidence & EVIDENCE_TEXT) json_add_text(evidence, NULL, "text");
    if (incident->evidence & EVIDENCE_CODE) json_add_text(evidence, NULL, "code");
    json_add_u64(object, "count", incident->count);
    cJSON *ranks = json_add_array(object, "ranks");
    for (size_t i = 0; i < incident->ranks; i++) json_add_i64(ranks, NULL, incident->rank[i]);
    if (incident->evidence & EVIDENCE_TEXT) {
        add_message(object, incident, seen->source);
        add_fields(object, incident, language);
    }
    if (incident->evidence & EVIDENCE_CODE) {
        cJSON *call = json_add_object(object, "call");
        json_add_text(call, "api", incident->api);
        json_add_i64(call, "code", incident->code);
        json_add_u64(call, "count", incident->calls);
    }
    add_records(object, "also", incident->also, incident->alsos);
    add_records(object, "followed_by", incident->consequence, incident->consequences);
    if (incident->recovered_text) {
        cJSON *recovered = json_add_object(object, "recovered");
        json_add_u64(recovered, "line", incident->recovered_line);
        json_add_bytes(recovered, "text", incident->recovered_text,
                       strlen(incident->recovered_text));
    }
    return object;
}

// ---- what is known --------------------------------------------------------------------------

static void add_support(cJSON *object, const struct record *record, enum tier tier,
                        const struct strings *sources) {
    json_add_text(object, "tier", tier_id(tier));
    cJSON_AddItemToObject(object, "confidence",
                          cJSON_CreateNumber(record_confidence(record, tier)));
    add_strings(object, "sources", sources);
}

static void add_action(cJSON *array, const struct record *record, const struct record_action *a,
                       bool helps, enum language language) {
    cJSON *object = json_add_object(array, NULL);
    add_bilingual(object, "action", &a->action, language);
    if (helps) {
        add_bilingual(object, "condition", &a->condition, language);
        add_bilingual(object, "warning", &a->warning, language);
        add_strings(object, "env", &a->env);
    } else {
        add_bilingual(object, "why_fails", &a->why_fails, language);
    }
    if (a->tried) {
        json_add_u64(object, "tried", a->tried);
        json_add_u64(object, "worked", a->worked);
    }
    add_support(object, record, a->tier, &a->sources);
}

static void add_false_claims(cJSON *object, const struct record *record, enum language language) {
    cJSON *array = json_add_array(object, "false_claims");
    for (size_t i = 0; i < record->disputes; i++) {
        const struct record_dispute *d = &record->dispute[i];
        cJSON *claim = json_add_object(array, NULL);
        add_bilingual(claim, "claim", &d->claim, language);
        json_add_text(claim, "verdict", claim_verdict_id(d->verdict));
        add_strings(claim, "evidence", dispute_evidence(d, language));
        json_add_text(claim, "checked_on", d->checked_on);
        add_bilingual(claim, "checked_against", &d->checked_against, language);
        json_add_text(claim, "see", d->see);
    }
    // What a record gives as advice although it is known to be untrue.
    for (size_t i = 0; i < record->workarounds; i++) {
        if (record->workaround[i].tier != TIER_DISPUTED) continue;
        cJSON *claim = json_add_object(array, NULL);
        add_bilingual(claim, "claim", &record->workaround[i].action, language);
        json_add_text(claim, "verdict", claim_verdict_id(CLAIM_FALSE));
    }
}

static void add_edges(cJSON *object, const char *name, const struct knowledge *knowledge,
                      const struct record_edges *edges, enum language language) {
    cJSON *array = json_add_array(object, name);
    for (size_t i = 0; i < edges->count; i++) {
        const struct record_edge *edge = &edges->item[i];
        const struct record *other = knowledge_find(knowledge, edge->id);
        cJSON *item = json_add_object(array, NULL);
        json_add_text(item, "record", edge->id);
        json_add_text(item, "title", other ? record_text(&other->title, language) : NULL);
        if (*record_text(&edge->distinction, language))
            add_bilingual(item, "distinction", &edge->distinction, language);
        if (*record_text(&edge->condition, language))
            add_bilingual(item, "condition", &edge->condition, language);
    }
}

cJSON *advice_json_record(const struct knowledge *knowledge, const struct record *record,
                          enum language language) {
    cJSON *object = cJSON_CreateObject();
    json_add_text(object, "id", record->id);
    add_bilingual(object, "title", &record->title, language);
    json_add_text(object, "domain", record->domain);
    json_add_text(object, "category", record->category);
    json_add_text(object, "severity", severity_id(record->severity));
    json_add_text(object, "last_updated", record->last_updated);
    add_support(object, record, record->tier, &record->sources);
    bool cause_known = record->cause.tier != TIER_DISPUTED;
    cJSON *cause = json_add_object(object, cause_known ? "root_cause" : "disputed_root_cause");
    add_bilingual(cause, "text", &record->cause.text, language);
    add_bilingual(cause, "hypothesis", &record->cause.hypothesis, language);
    add_support(cause, record, record->cause.tier, &record->cause.sources);
    cJSON *workarounds = json_add_array(object, "workarounds");
    for (size_t i = 0; i < record->workarounds; i++)
        if (record->workaround[i].tier != TIER_DISPUTED)
            add_action(workarounds, record, &record->workaround[i], true, language);
    cJSON *dead_ends = json_add_array(object, "dead_ends");
    for (size_t i = 0; i < record->dead_ends; i++)
        if (record->dead_end[i].tier != TIER_DISPUTED)
            add_action(dead_ends, record, &record->dead_end[i], false, language);
    add_false_claims(object, record, language);
    add_edges(object, "confused_with", knowledge, &record->confused_with, language);
    add_edges(object, "leads_to", knowledge, &record->leads_to, language);
    add_edges(object, "preceded_by", knowledge, &record->preceded_by, language);
    cJSON *versions = json_add_array(object, "versions");
    for (size_t i = 0; i < record->versions; i++) {
        cJSON *version = json_add_object(versions, NULL);
        json_add_text(version, "version", record->version[i].version);
        add_bilingual(version, "behavior_change", &record->version[i].behavior_change, language);
    }
    return object;
}
