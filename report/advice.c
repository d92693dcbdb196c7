// SPDX-License-Identifier: Apache-2.0
//
// Incidents and records as text for a terminal (advice.h): observed, numbers, matched, known,
// cause, what helps, what does not; and in the whole text, with the sources, false claims, what it
// is confused with, what comes of it.
#include "advice.h"

#include "paragraph.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

// Columns: labels begin at 2, texts at LABELLED, the texts of list items at LISTED.
#define LABELLED 14
#define LISTED   6
// What is shown of a long message, from a little before the match on.
#define MESSAGE_SHOWN  600
#define MESSAGE_BEFORE 120
// Observations of one record that are shown in full.
#define OBSERVATIONS 5
// In short: so many things to do and not to do, and so many bytes of a cause, in whole sentences.
#define HELPS_SHOWN 4
#define FAILS_SHOWN 3
#define CAUSE_SHOWN 300

#define LINE 8192

static const char *const words[][LANGUAGES] = {
#define W_OBSERVED 0
    {"observed", "观察到"},
#define W_NUMBERS 1
    {"numbers", "数值"},
#define W_MATCHED 2
    {"matched", "匹配"},
#define W_KNOWN 3
    {"known", "可信度"},
#define W_CAUSE 4
    {"cause", "原因"},
#define W_CAUSE_DISPUTED 5
    {"not so", "不成立"},
#define W_GUESS 6
    {"hypothesis", "推测"},
#define W_HELPS 7
    {"What helps", "有效的办法"},
#define W_FAILS 8
    {"What does not help", "无效的办法"},
#define W_FALSE 9
    {"Known false claims (no advice)", "已知的错误说法（并非建议）"},
#define W_CONFUSED 10
    {"Not to be confused with", "不要与以下错误混淆"},
#define W_LEADS 11
    {"May be followed by", "可能导致"},
#define W_PRECEDED 12
    {"May come from", "可能源于"},
#define W_WARNING 13
    {"WARNING: ", "警告："},
#define W_SOURCES 14
    {"sources: ", "来源："},
#define W_FALSE_VERDICT 15
    {"false", "错误"},
#define W_DOUBTFUL_VERDICT 16
    {"doubtful", "存疑"},
#define W_RECOVERED 17
    {"recovered", "已恢复"},
#define W_ALSO 18
    {"also fits", "也符合"},
#define W_THEN 19
    {"then", "随后"},
#define W_VERSIONS 20
    {"Versions", "版本"},
#define W_MORE 21
    {"more", "更多"},
};

static const char *word(size_t which, enum language language) {
    return words[which][language];
}

// ---- pieces ---------------------------------------------------------------------------------

// A line that grows; what does not fit is left out.
struct line {
    char text[LINE];
    size_t length;
};

__attribute__((format(printf, 2, 3))) static void append(struct line *l, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(l->text + l->length, sizeof l->text - l->length, format, arguments);
    va_end(arguments);
    if (n > 0) l->length += (size_t)n;
    if (l->length > sizeof l->text - 1) l->length = sizeof l->text - 1;
}

// Appends a text of any length without cutting a UTF-8 sequence in two.
static void append_text(struct line *l, const char *text) {
    size_t room = sizeof l->text - 1 - l->length, n = strlen(text);
    if (n > room) {
        n = room;
        while (n && ((unsigned char)text[n] & 0xc0) == 0x80) n--;
    }
    memcpy(l->text + l->length, text, n);
    l->length += n;
    l->text[l->length] = '\0';
}

// Where the sentence that begins a text ends: behind its full stop.
static size_t sentence(const char *text) {
    static const char stop[] = "。";
    for (size_t i = 0; text[i]; i++) {
        if (!strncmp(text + i, stop, sizeof stop - 1)) return i + sizeof stop - 1;
        // Not in "2.9", "e.g. ".
        bool ends = i > 1 && strchr(".!?", text[i]) && text[i + 1] == ' ' && text[i - 2] != '.';
        if (ends) return i + 1;
    }
    return strlen(text);
}

// The text's first sentences, as far as they are short, with what tells that there are more.
static void append_sentences(struct line *l, const char *text, size_t most) {
    size_t shown = sentence(text);
    for (size_t next = shown; text[next]; shown = next) {
        next += sentence(text + next);
        if (next > most) break;
    }
    append(l, "%.*s", (int)shown, text);
    if (text[shown]) append_text(l, " …");
}

// "train.log:123: ", "line 123: ", ""
static void append_place(struct line *l, const char *source, uint64_t line,
                         enum language language) {
    if (!line) return;
    if (source)
        append(l, "%.400s:%" PRIu64 ": ", source, line);
    else
        append(l, language == LANGUAGE_ZH ? "第 %" PRIu64 " 行：" : "line %" PRIu64 ": ", line);
}

static void labelled(FILE *out, size_t which, enum language language, const char *text) {
    char label[64];
    snprintf(label, sizeof label, "  %s", word(which, language));
    print_paragraph(out, label, LABELLED, text);
}

static void heading(FILE *out, size_t which, enum language language) {
    fprintf(out, "\n  %s\n", word(which, language));
}

// ---- what was observed ----------------------------------------------------------------------

// The part of the message around the match.
static void append_message(struct line *l, const struct incident *incident) {
    const char *text = incident->text;
    size_t length = strlen(text), from = 0, to = length;
    if (length > MESSAGE_SHOWN) {
        if (incident->match_begin > MESSAGE_BEFORE) from = incident->match_begin - MESSAGE_BEFORE;
        if (to - from > MESSAGE_SHOWN) to = from + MESSAGE_SHOWN;
        while (from && ((unsigned char)text[from] & 0xc0) == 0x80) from--;
        while (to < length && ((unsigned char)text[to] & 0xc0) == 0x80) to--;
    }
    append(l, "%s%.*s%s", from ? "…" : "", (int)(to - from), text + from, to < length ? "…" : "");
}

static void append_ranks(struct line *l, const struct incident *incident, enum language language) {
    append(l, language == LANGUAGE_ZH ? "；rank " : incident->ranks > 1 ? "; ranks " : "; rank ");
    for (size_t i = 0; i < incident->ranks; i++) {
        size_t last = i;
        while (last + 1 < incident->ranks && incident->rank[last + 1] == incident->rank[last] + 1)
            last++;
        append(l, last > i ? "%s%d–%d" : "%s%d", i ? ", " : "", incident->rank[i],
               incident->rank[last]);
        i = last;
    }
}

static void print_observed(FILE *out, const struct observation *seen, enum language language) {
    const struct incident *incident = seen->incident;
    struct line l = {.length = 0};
    bool zh = language == LANGUAGE_ZH;
    if (incident->evidence & EVIDENCE_TEXT) {
        append_place(&l, seen->source, incident->line, language);
        append_message(&l, incident);
        labelled(out, W_OBSERVED, language, l.text);
        l.length = 0;
        if (incident->count > 1)
            append(&l,
                   zh ? "共 %" PRIu64 " 条消息，至第 %" PRIu64 " 行"
                      : "%" PRIu64 " messages, up to line %" PRIu64,
                   incident->count, incident->last_line);
        if (incident->ranks) append_ranks(&l, incident, language);
        if (incident->origin.source[0])
            append(&l, zh ? "；来自 %s" : "; from %s", incident->origin.source);
        // Without the first part there is nothing that "; " would follow.
        const char *text = l.text + (!strncmp(l.text, "; ", 2)   ? 2
                                     : !strncmp(l.text, "；", 3) ? 3
                                                                 : 0);
        if (l.length) print_paragraph(out, "", LABELLED, text);
    }
    if (incident->evidence & EVIDENCE_CODE) {
        l.length = 0;
        append(&l,
               zh                     ? "%s 调用返回 %" PRId64 "（%" PRIu64 " 次）"
               : incident->calls == 1 ? "calls of %s returned %" PRId64 ", %" PRIu64 " time"
                                      : "calls of %s returned %" PRId64 ", %" PRIu64 " times",
               incident->api, incident->code, incident->calls);
        labelled(out, W_OBSERVED, language, l.text);
    }
}

static void print_classes(FILE *out, const struct incident *incident, size_t i,
                          const struct reading *r, enum language language) {
    static const enum counter_text texts[] = {TEXT_FACT, TEXT_NOT, TEXT_HYPOTHESIS};
    const struct incident_field *f = &incident->field[i];
    char text[COUNTER_TEXT];
    // Of a number that is impossible the best class; of one with two readings both.
    size_t shown = r->verdict == VERDICT_AMBIGUOUS ? r->classes : 1;
    for (size_t k = 0; k < shown && k < 2; k++) {
        struct line l = {.length = 0};
        append(&l, "%s %s: ", f->name, f->text);
        append_text(&l, counters_kind_name(r->class[k].kind, language));
        if (r->sentinel)
            append(&l, language == LANGUAGE_ZH ? "（%s）" : " (%s)",
                   record_text(r->sentinel, language));
        labelled(out, W_NUMBERS, language, l.text);
        for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) {
            counters_text(&f->number, &r->context, &r->class[k], texts[t], language, text,
                          sizeof text);
            if (!*text) continue;
            if (texts[t] == TEXT_HYPOTHESIS)
                labelled(out, W_GUESS, language, text);
            else
                print_paragraph(out, "", LABELLED, text);
        }
    }
}

static void print_numbers(FILE *out, const struct incident *incident, enum language language) {
    struct line l = {.length = 0};
    for (size_t i = 0; i < incident->fields; i++) {
        const struct incident_field *f = &incident->field[i];
        if (f->has_number) append(&l, "%s%s %s", l.length ? " · " : "", f->name, f->text);
    }
    if (l.length) labelled(out, W_NUMBERS, language, l.text);
    for (size_t i = 0; i < incident->fields; i++) {
        struct reading r;
        if (advice_read_field(incident, i, &r) && advice_reading_matters(&r))
            print_classes(out, incident, i, &r, language);
    }
}

static void print_relations(FILE *out, const struct knowledge *knowledge,
                            const struct observation *seen, enum language language) {
    const struct incident *incident = seen->incident;
    (void)knowledge;
    for (size_t i = 0; i < incident->alsos; i++) {
        const struct record *r = incident->also[i].record;
        struct line l = {.length = 0};
        append(&l, "%s: ", r->id);
        append_text(&l, record_text(&r->title, language));
        labelled(out, W_ALSO, language, l.text);
    }
    for (size_t i = 0; i < incident->consequences; i++) {
        const struct record *r = incident->consequence[i].record;
        struct line l = {.length = 0};
        append_place(&l, seen->source, incident->consequence[i].line, language);
        append(&l, "%s: ", r->id);
        append_text(&l, record_text(&r->title, language));
        labelled(out, W_THEN, language, l.text);
    }
    if (incident->recovered_text) {
        struct line l = {.length = 0};
        append_place(&l, seen->source, incident->recovered_line, language);
        append_text(&l, incident->recovered_text);
        labelled(out, W_RECOVERED, language, l.text);
    }
}

static void print_matched(FILE *out, const struct observation *seen, enum language language) {
    const struct incident *incident = seen->incident;
    static const char *const how[][LANGUAGES] = {
        {"", ""},
        {"its text", "消息文本"},
        {"its return code", "返回码"},
        {"its text and its return code", "消息文本和返回码"},
    };
    struct line l = {.length = 0};
    append(&l, language == LANGUAGE_ZH ? "记录 %s，依据：" : "record %s, by ",
           incident->record->id);
    append_text(&l, how[incident->evidence & 3][language]);
    labelled(out, W_MATCHED, language, l.text);
}

// ---- what is known --------------------------------------------------------------------------

// "[read in the source]", with the counts if somebody counted; a rate without counts is a guess.
static void append_tier(struct line *l, enum tier tier, enum language language) {
    append(l, " [%s]", tier_name(tier, language));
}

static void append_list(struct line *l, const struct strings *list, const char *separator) {
    for (size_t i = 0; i < list->count; i++) {
        if (i) append_text(l, separator);
        append_text(l, list->item[i]);
    }
}

static void print_item(FILE *out, const struct line *l) {
    print_paragraph(out, "    - ", LISTED, l->text);
}

static void print_sources(FILE *out, const struct strings *sources, enum language language) {
    struct line l = {.length = 0};
    if (!sources->count) return;
    append_text(&l, word(W_SOURCES, language));
    append_list(&l, sources, ", ");
    print_paragraph(out, "", LISTED, l.text);
}

static void print_known(FILE *out, const struct record *record, enum language language) {
    struct line l = {.length = 0};
    append_text(&l, tier_name(record->tier, language));
    append(&l, language == LANGUAGE_ZH ? "，置信度不高于 %.1f" : ", confidence at most %.1f",
           record_confidence(record, record->tier));
    if (*record->last_updated)
        append(&l, language == LANGUAGE_ZH ? "，更新于 %.20s" : ", last updated %.20s",
               record->last_updated);
    if (record->tier == TIER_AI_GENERATED)
        append(&l, "%s", language == LANGUAGE_ZH ? "；尚未核实" : "; nobody has verified it");
    labelled(out, W_KNOWN, language, l.text);
}

static void print_cause(FILE *out, const struct record *record, bool whole,
                        enum language language) {
    struct line l = {.length = 0};
    const char *text = record_text(&record->cause.text, language);
    if (*text) {
        bool disputed = record->cause.tier == TIER_DISPUTED;
        append_sentences(&l, text, whole ? strlen(text) : CAUSE_SHOWN);
        append_tier(&l, record->cause.tier, language);
        labelled(out, disputed ? W_CAUSE_DISPUTED : W_CAUSE, language, l.text);
    }
    if (!whole) return;
    text = record_text(&record->cause.hypothesis, language);
    if (*text) labelled(out, W_GUESS, language, text);
    if (record->cause.sources.count) {
        l.length = 0;
        append_text(&l, word(W_SOURCES, language));
        append_list(&l, &record->cause.sources, ", ");
        print_paragraph(out, "", LABELLED, l.text);
    }
}

static void print_action(FILE *out, const struct record_action *a, bool helps, bool whole,
                         enum language language) {
    struct line l = {.length = 0};
    const char *condition = record_text(&a->condition, language);
    const char *warning = record_text(&a->warning, language);
    const char *why = record_text(&a->why_fails, language);
    bool zh = language == LANGUAGE_ZH;
    append_text(&l, record_text(&a->action, language));
    if (helps && *condition) {
        append_text(&l, zh ? "（情形：" : " (case: ");
        append_text(&l, condition);
        append_text(&l, zh ? "）" : ")");
    }
    if (!helps && *why) {
        append_text(&l, zh ? "：" : ": ");
        append_text(&l, why);
    }
    // A risk is told in the same breath.
    if (helps && *warning) {
        append_text(&l, " ");
        append_text(&l, word(W_WARNING, language));
        append_text(&l, warning);
    }
    append_tier(&l, a->tier, language);
    if (a->tried)
        append(&l,
               zh ? " （%" PRIu64 " 次中 %" PRIu64 " 次有效）"
                  : " (of %" PRIu64 " attempts %" PRIu64 " helped)",
               a->tried, a->worked);
    print_item(out, &l);
    if (whole) print_sources(out, &a->sources, language);
}

// Returns how many were left out, since they are beyond the first `most`.
static size_t print_actions(FILE *out, const struct record_action *list, size_t count, bool helps,
                            size_t most, enum language language) {
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (list[i].tier == TIER_DISPUTED || !*record_text(&list[i].action, language)) continue;
        if (!n) heading(out, helps ? W_HELPS : W_FAILS, language);
        if (n++ < most) print_action(out, &list[i], helps, most == SIZE_MAX, language);
    }
    return n > most ? n - most : 0;
}

static void print_false_claims(FILE *out, const struct record *record, enum language language) {
    bool any = false, zh = language == LANGUAGE_ZH;
    for (size_t i = 0; i < record->disputes; i++) {
        const struct record_dispute *d = &record->dispute[i];
        struct line l = {.length = 0};
        if (!any) heading(out, W_FALSE, language);
        any = true;
        append_text(&l, zh ? "“" : "\"");
        append_text(&l, record_text(&d->claim, language));
        append_text(&l, zh ? "”：" : "\": ");
        append_text(
            &l, word(d->verdict == CLAIM_FALSE ? W_FALSE_VERDICT : W_DOUBTFUL_VERDICT, language));
        const struct strings *evidence = dispute_evidence(d, language);
        if (evidence->count) append_text(&l, zh ? "。" : ". ");
        append_list(&l, evidence, zh ? "；" : "; ");
        if (*d->checked_on) append(&l, zh ? "（核对于 %.20s" : " (checked %.20s", d->checked_on);
        const char *against = record_text(&d->checked_against, language);
        if (*d->checked_on && *against) append(&l, zh ? "，依据 " : " against ");
        if (*d->checked_on) {
            append_text(&l, against);
            append_text(&l, zh ? "）" : ")");
        }
        if (*d->see) append(&l, zh ? "；参见 %.100s" : "; see %.100s", d->see);
        print_item(out, &l);
    }
    for (size_t i = 0; i < record->workarounds; i++) {
        struct line l = {.length = 0};
        if (record->workaround[i].tier != TIER_DISPUTED) continue;
        if (!any) heading(out, W_FALSE, language);
        any = true;
        append_text(&l, zh ? "“" : "\"");
        append_text(&l, record_text(&record->workaround[i].action, language));
        append_text(&l, zh ? "”：" : "\": ");
        append_text(&l, word(W_FALSE_VERDICT, language));
        print_item(out, &l);
    }
}

static void print_edges(FILE *out, size_t which, const struct knowledge *knowledge,
                        const struct record_edges *edges, enum language language) {
    if (edges->count) heading(out, which, language);
    for (size_t i = 0; i < edges->count; i++) {
        const struct record_edge *edge = &edges->item[i];
        const struct record *other = knowledge_find(knowledge, edge->id);
        const char *more = record_text(&edge->distinction, language);
        struct line l = {.length = 0};
        if (!*more) more = record_text(&edge->condition, language);
        append_text(&l, edge->id);
        if (other) {
            append_text(&l, language == LANGUAGE_ZH ? "（" : " (");
            append_text(&l, record_text(&other->title, language));
            append_text(&l, language == LANGUAGE_ZH ? "）" : ")");
        }
        if (*more) {
            append_text(&l, language == LANGUAGE_ZH ? "：" : ": ");
            append_text(&l, more);
        }
        print_item(out, &l);
    }
}

static void print_versions(FILE *out, const struct record *record, enum language language) {
    bool any = false;
    for (size_t i = 0; i < record->versions; i++) {
        const char *text = record_text(&record->version[i].behavior_change, language);
        struct line l = {.length = 0};
        if (!*text) continue;
        if (!any) heading(out, W_VERSIONS, language);
        any = true;
        append_text(&l, record->version[i].version);
        append_text(&l, language == LANGUAGE_ZH ? "：" : ": ");
        append_text(&l, text);
        print_item(out, &l);
    }
}

void advice_print_record(FILE *out, const struct knowledge *knowledge, const struct record *record,
                         enum language language) {
    print_known(out, record, language);
    print_cause(out, record, true, language);
    print_actions(out, record->workaround, record->workarounds, true, SIZE_MAX, language);
    print_actions(out, record->dead_end, record->dead_ends, false, SIZE_MAX, language);
    print_false_claims(out, record, language);
    print_edges(out, W_CONFUSED, knowledge, &record->confused_with, language);
    print_edges(out, W_LEADS, knowledge, &record->leads_to, language);
    print_edges(out, W_PRECEDED, knowledge, &record->preceded_by, language);
    print_versions(out, record, language);
}

// What a person needs first, and where the rest is.
static void print_short(FILE *out, const struct record *record, enum language language) {
    struct line l = {.length = 0};
    bool zh = language == LANGUAGE_ZH;
    size_t confused = record->confused_with.count;
    print_known(out, record, language);
    print_cause(out, record, false, language);
    size_t left =
        print_actions(out, record->workaround, record->workarounds, true, HELPS_SHOWN, language);
    left += print_actions(out, record->dead_end, record->dead_ends, false, FAILS_SHOWN, language);
    fputs("\n", out);
    append_text(&l, "memwatch kb show ");
    if (!record->bundled) append(&l, "--kb %.400s ", record->file);
    append(&l, zh ? "%s：来源" : "%s: sources", record->id);
    if (left)
        append(&l,
               zh          ? "、另外 %zu 条建议"
               : left == 1 ? ", %zu more piece of advice"
                           : ", %zu more pieces of advice",
               left);
    if (record->disputes)
        append(&l,
               zh                      ? "、%zu 条已知的错误说法"
               : record->disputes == 1 ? ", %zu known false claim"
                                       : ", %zu known false claims",
               record->disputes);
    if (confused)
        append(&l,
               zh              ? "、%zu 个易混淆的错误"
               : confused == 1 ? ", %zu error not to be confused with it"
                               : ", %zu errors not to be confused with it",
               confused);
    labelled(out, W_MORE, language, l.text);
}

void advice_print(FILE *out, const struct knowledge *knowledge, const struct observation *seen,
                  size_t count, enum advice_detail detail, enum language language) {
    const struct record *record = seen[0].incident->record;
    enum severity severity = SEVERITY_NOTE;
    struct line l = {.length = 0};
    for (size_t i = 0; i < count; i++)
        if (seen[i].incident->severity > severity) severity = seen[i].incident->severity;
    append(&l, language == LANGUAGE_ZH ? "%s：" : "%s: ", severity_name(severity, language));
    append_text(&l, record_text(&record->title, language));
    print_paragraph(out, "", 0, l.text);
    for (size_t i = 0; i < count && i < OBSERVATIONS; i++) {
        print_observed(out, &seen[i], language);
        print_numbers(out, seen[i].incident, language);
        print_matched(out, &seen[i], language);
        print_relations(out, knowledge, &seen[i], language);
    }
    if (count > OBSERVATIONS) {
        l.length = 0;
        append(&l,
               language == LANGUAGE_ZH     ? "另有 %zu 处"
               : count - OBSERVATIONS == 1 ? "and %zu more time"
                                           : "and %zu more times",
               count - OBSERVATIONS);
        print_paragraph(out, "", LABELLED, l.text);
    }
    if (detail == ADVICE_WHOLE) advice_print_record(out, knowledge, record, language);
    if (detail == ADVICE_SHORT) print_short(out, record, language);
}

// ---- languages ------------------------------------------------------------------------------

bool language_parse(const char *text, enum language *out) {
    static const char *const names[LANGUAGES] = {"en", "zh"};
    for (int i = 0; i < LANGUAGES; i++)
        if (!strncmp(text, names[i], 2) && !strchr("abcdefghijklmnopqrstuvwxyz", text[2] | 0x20)) {
            *out = (enum language)i;
            return true;
        }
    return false;
}

enum language language_of_environment(void) {
    static const char *const variables[] = {"LC_ALL", "LC_MESSAGES", "LANG"};
    enum language language = LANGUAGE_EN;
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        const char *value = getenv(variables[i]);
        if (!value || !*value) continue;
        language_parse(value, &language);
        break;
    }
    return language;
}
