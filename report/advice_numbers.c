// SPDX-License-Identifier: Apache-2.0
//
// The byte counts of a message, each seen beside the others (advice.h).
#include "advice.h"

#include <string.h>

static bool is_byte_count(const struct incident_field *f) {
    bool typed = !strcmp(f->type, "size") || !strcmp(f->type, "huge") || !strcmp(f->type, "bytes");
    return typed && f->has_number && counters_role(f->name) != ROLE_COUNT;
}

bool advice_read_field(const struct incident *incident, size_t i, struct reading *out) {
    const struct incident_field *f = &incident->field[i];
    *out = (struct reading){.context.role = counters_role(f->name)};
    if (!is_byte_count(f)) return false;
    size_t n = 0;
    for (size_t k = 0; k < incident->fields && n < READING_SIBLINGS; k++) {
        const struct incident_field *other = &incident->field[k];
        if (k == i || !is_byte_count(other)) continue;
        out->sibling[n++] = (struct counter_sibling){counters_role(other->name), other->number};
    }
    out->context.siblings = out->sibling;
    out->context.siblings_count = n;
    out->classes = counters_classify(&f->number, &out->context, out->class, COUNTER_CLASSES);
    out->verdict = counters_verdict(out->class, out->classes);
    if (out->verdict == VERDICT_SENTINEL)
        out->sentinel = record_sentinel(incident->record, f->name);
    return true;
}

bool advice_reading_matters(const struct reading *reading) {
    return reading->classes && reading->verdict != VERDICT_PLAUSIBLE;
}
