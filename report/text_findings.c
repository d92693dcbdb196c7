// SPDX-License-Identifier: Apache-2.0
//
// Findings for people: what it is, what it rests on, what to do and what not. The JSON and
// `memwatch kb show` have the rest. Like all of the text it is made from the JSON.
#include "emit.h"
#include "lines.h"
#include "memwatch.h"
#include "paragraph.h"
#include "units.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LISTED    8   // findings
#define INDENT    11  // of their texts
#define ADVICE    3   // of what helps, and of what does not
#define EXPLAINED 320 // bytes of what a record has to say; its beginning is the gist
#define QUOTED    400
#define LINES     8 // of last words
#define LINE      2048

// ---- pieces ---------------------------------------------------------------------------------

// A growing line; what does not fit is left out, and never half of a character stays.
struct line {
    char text[LINE];
    size_t length;
};

static void append(struct line *l, const char *text, size_t most) {
    size_t room = sizeof l->text - 1 - l->length, n = strlen(text);
    if (most < room) room = most;
    if (n > room) {
        n = room;
        while (n && ((unsigned char)text[n] & 0xc0) == 0x80) n--;
    }
    memcpy(l->text + l->length, text, n);
    l->length += n;
    l->text[l->length] = '\0';
}

// Whole sentences of a text, as many as fit into `most` bytes, but at least one.
static void append_sentences(struct line *l, const char *text, size_t most) {
    size_t length = strlen(text), end = length;
    if (length > most) {
        end = 0;
        for (size_t i = 0; i + 1 < length; i++) {
            bool stop = strchr(".:?!", text[i]) && text[i + 1] == ' ';
            if (stop && end && i > most) break;
            if (stop && text[i] == '.') end = i + 1;
        }
        if (!end) end = length;
    }
    append(l, text, end);
}

static void labelled(FILE *out, const char *label, const char *text) {
    char indented[24];
    snprintf(indented, sizeof indented, "  %s", label);
    print_paragraph(out, indented, INDENT, text);
}

static bool is_text(const cJSON *object, const char *name, const char *text) {
    const char *value = json_text(object, name);
    return value && !strcmp(value, text);
}

// ---- evidence -------------------------------------------------------------------------------

static void print_quote(FILE *out, const cJSON *evidence) {
    struct line l = {.length = 0};
    const char *text = json_text(evidence, "text"), *what = json_text(evidence, "what");
    append(&l, what ? what : "?", 40);
    append(&l, ": ", 2);
    size_t before = l.length;
    append(&l, text, QUOTED);
    if (l.length - before < strlen(text)) append(&l, "...", 3);
    // A traceback is not printed as one.
    for (char *c = l.text; *c; c++)
        if (*c == '\n') *c = ' ';
    labelled(out, "", l.text);
}

// Rows of one source in a line: "asked for 64.00 GiB, live then 3.00 MiB".
static void print_numbers(FILE *out, const cJSON *all, const char *source) {
    struct line l = {.length = 0};
    const cJSON *evidence;
    cJSON_ArrayForEach(evidence, all) {
        char bytes[BYTES_TEXT];
        const char *what = json_text(evidence, "what"), *text = json_text(evidence, "text");
        if (!what || !is_text(evidence, "source", source)) continue;
        append(&l, l.length ? "; " : "", 2);
        append(&l, what, 80);
        append(&l, ": ", 2);
        if (json_is_number(evidence, "bytes"))
            append(&l, bytes_text(json_u64(evidence, "bytes"), bytes), 40);
        else
            append(&l, text ? text : "?", QUOTED);
    }
    if (l.length) labelled(out, "", l.text);
}

static void print_evidence(FILE *out, const cJSON *finding) {
    static const char *const quoted[] = {"printed", "repeated", "recovered"};
    static const char *const sources[] = {"call", "framework", "ledger", "driver"};
    const cJSON *all = json_get(finding, "evidence"), *evidence;
    // The numbers of a message stand in its text.
    cJSON_ArrayForEach(evidence, all) for (size_t i = 0; i < sizeof quoted / sizeof *quoted;
                                           i++) if (is_text(evidence, "what", quoted[i]) &&
                                                    json_text(evidence, "text"))
        print_quote(out, evidence);
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        print_numbers(out, all, sources[i]);
}

// The line that made the call which failed.
static void print_caller(FILE *out, const cJSON *report, const cJSON *finding) {
    char label[FIT_TEXT], text[FIT_TEXT + 16];
    int64_t index = json_i64(finding, "failure");
    if (!json_is_number(finding, "failure") || index < 0 || index > INT32_MAX) return;
    const cJSON *failure = cJSON_GetArrayItem(json_get(report, "failures"), (int)index);
    if (!failure_label(report, failure, label)) return;
    snprintf(text, sizeof text, "called by %s", label);
    labelled(out, "", text);
}

// Sites that read alike, as two calls in one line do, or one line reached by several ways.
struct holder {
    uint64_t live, peak;
    unsigned sites;
    char label[FIT_TEXT];
};
#define HOLDERS 8

// `then`: what it held at the moment that is told of; NULL = not known.
static void add_holder(struct holder *all, int *count, const cJSON *report, int64_t index,
                       const cJSON *then) {
    struct holder h = {.sites = 1};
    if (!site_label(report, index, h.label)) return;
    const cJSON *site = cJSON_GetArrayItem(json_get(report, "sites"), (int)index);
    h.live = then ? json_value(then) : json_u64(site, "live_bytes");
    h.peak = json_u64(site, "peak_bytes");
    int i = 0;
    while (i < *count && strcmp(all[i].label, h.label) != 0) i++;
    if (i == HOLDERS) return;
    if (i == *count) {
        all[(*count)++] = h;
        return;
    }
    all[i].live += h.live;
    all[i].peak += h.peak;
    all[i].sites++;
}

static void print_holders(FILE *out, const cJSON *report, const cJSON *finding) {
    struct holder all[HOLDERS];
    struct line l = {.length = 0};
    const cJSON *index;
    const cJSON *then = json_get(finding, "sites_bytes");
    int count = 0, n = 0;
    cJSON_ArrayForEach(index, json_get(finding, "sites")) {
        int64_t i = cJSON_IsNumber(index) ? (int64_t)index->valuedouble : -1;
        if (cJSON_IsRaw(index)) i = strtoll(index->valuestring, NULL, 10);
        add_holder(all, &count, report, i, cJSON_GetArrayItem(then, n++));
    }
    for (int i = 0; i < count; i++) {
        const struct holder *h = &all[i];
        char bytes[BYTES_TEXT], stacks[32] = "";
        append(&l, l.length ? "; " : then ? "held then by " : "held by ", 20);
        append(&l, h->label, LINE);
        append(&l, h->live ? " (" : h->sites > 1 ? " (at its peak at most " : " (at its peak ", 24);
        append(&l, bytes_text(h->live ? h->live : h->peak, bytes), 40);
        if (h->sites > 1) snprintf(stacks, sizeof stacks, ", by %u stacks", h->sites);
        append(&l, stacks, sizeof stacks);
        append(&l, ")", 1);
    }
    if (l.length) labelled(out, "", l.text);
}

// ---- what to do -----------------------------------------------------------------------------

static void append_if(struct line *l, const char *before, const char *text, const char *after) {
    if (!text) return;
    append(l, before, LINE);
    append(l, text, LINE);
    append(l, after, LINE);
}

static void print_advice(FILE *out, const cJSON *finding, const char *name, const char *label) {
    const cJSON *list = json_get(finding, name), *item;
    int n = 0, all = cJSON_GetArraySize(list);
    cJSON_ArrayForEach(item, list) {
        struct line l = {.length = 0};
        char item_label[24];
        const char *action = json_text(item, "action");
        if (!action) continue;
        if (n == ADVICE) break;
        append(&l, action, LINE);
        append_if(&l, " (if ", json_text(item, "condition"), ")");
        append_if(&l, ": ", json_text(item, "why"), "");
        // A risk is told in the same breath.
        append_if(&l, " WARNING: ", json_text(item, "warning"), "");
        if (is_text(item, "tier", "ai_generated")) append(&l, " [nobody has verified it]", 30);
        snprintf(item_label, sizeof item_label, "  %-7s- ", n++ ? "" : label);
        print_paragraph(out, item_label, INDENT, l.text);
    }
    if (all > ADVICE) {
        char more[40];
        snprintf(more, sizeof more, "and %d more", all - ADVICE);
        labelled(out, "", more);
    }
}

// Findings about the same record say the same: only the first one's advice is printed.
static bool told_before(const cJSON *findings, const cJSON *finding) {
    const cJSON *earlier, *id = cJSON_GetArrayItem(json_get(finding, "knowledge"), 0);
    cJSON_ArrayForEach(earlier, findings) {
        if (earlier == finding) return false;
        const cJSON *other = cJSON_GetArrayItem(json_get(earlier, "knowledge"), 0);
        if (cJSON_IsString(id) && cJSON_IsString(other) &&
            !strcmp(id->valuestring, other->valuestring))
            return true;
    }
    return false;
}

static void print_record(FILE *out, const cJSON *report, const cJSON *finding) {
    const cJSON *id = cJSON_GetArrayItem(json_get(finding, "knowledge"), 0), *known;
    if (!cJSON_IsString(id)) return;
    cJSON_ArrayForEach(known, json_get(report, "knowledge")) {
        struct line l = {.length = 0};
        if (!is_text(known, "id", id->valuestring)) continue;
        bool code = false, text = false;
        const cJSON *by;
        cJSON_ArrayForEach(by, json_get(known, "matched_by")) {
            code |= cJSON_IsString(by) && !strcmp(by->valuestring, "code");
            text |= cJSON_IsString(by) && !strcmp(by->valuestring, "text");
        }
        append(&l, "memwatch kb show ", 30);
        append(&l, id->valuestring, 200);
        append(&l, " (known by its ", 20);
        append(&l, text && code ? "text and return code)" : code ? "return code)" : "text)", 40);
        labelled(out, "more", l.text);
        return;
    }
}

// ---- the parts ------------------------------------------------------------------------------

static void print_finding(FILE *out, const cJSON *report, const cJSON *finding) {
    const char *severity = json_text(finding, "severity"), *title = json_text(finding, "title"),
               *explanation = json_text(finding, "explanation"),
               *hypothesis = json_text(finding, "hypothesis");
    struct line l = {.length = 0};
    fputs("\n", out);
    labelled(out, severity ? severity : "", title ? title : "?");
    print_evidence(out, finding);
    print_caller(out, report, finding);
    print_holders(out, report, finding);
    if (explanation) {
        // The arithmetic of a number is told in full.
        append_sentences(&l, explanation,
                         is_text(finding, "type", "known_error") ? EXPLAINED : LINE);
        labelled(out, "", l.text);
    }
    if (hypothesis) {
        l.length = 0;
        append(&l, "Perhaps: ", 20);
        append_sentences(&l, hypothesis, EXPLAINED);
        labelled(out, "", l.text);
    }
    if (told_before(json_get(report, "findings"), finding)) return;
    print_advice(out, finding, "do", "do");
    print_advice(out, finding, "do_not", "do not");
    print_record(out, report, finding);
}

void print_findings(FILE *out, const cJSON *report) {
    const cJSON *findings = json_get(report, "findings"), *finding;
    uint64_t rest = json_u64(report, "findings_omitted");
    int n = 0, all = cJSON_GetArraySize(findings);
    if (!all) return;
    fputs("\nfindings\n", out);
    cJSON_ArrayForEach(finding, findings) {
        if (n++ == LISTED) break;
        print_finding(out, report, finding);
    }
    if (all > LISTED) rest += (uint64_t)(all - LISTED);
    if (rest) fprintf(out, "\n  and %" PRIu64 " more: see the JSON\n", rest);
}

static bool ended_badly(const cJSON *report) {
    const cJSON *end = json_get(json_get(report, "process"), "exit");
    return is_text(end, "kind", "signal") ||
           (is_text(end, "kind", "code") && json_i64(end, "code") != 0);
}

// The last lines of a text that ends at `end`: where they begin.
static const char *last_lines(const char *text, const char *end, int *lines) {
    const char *from = end;
    while (from > text && from[-1] == '\n') from--;
    while (from > text && *lines) {
        from--;
        if (*from == '\n') --*lines;
    }
    return *lines ? text : from + 1;
}

// One line as a terminal would show it in the end: of progress bars the last one, without colours.
static void print_line(FILE *out, const char *text, const char *end) {
    char clean[LINE_KEPT + 1], cut[FIT_TEXT];
    bool longer;
    while (end > text && end[-1] == '\r') end--;
    const char *begin = end;
    while (begin > text && begin[-1] != '\r') begin--;
    clean[line_clean(begin, (size_t)(end - begin), clean, &longer)] = '\0';
    fprintf(out, "  %s\n", fit(cut, clean, 78));
}

void print_last_words(FILE *out, const cJSON *report) {
    const cJSON *messages = json_get(report, "messages");
    int lines = LINES, first = cJSON_GetArraySize(messages), all = first;
    const char *begin = NULL;
    if (!all || !ended_badly(report)) return;
    while (first && lines > 0) {
        const char *text = json_text(cJSON_GetArrayItem(messages, --first), "text");
        if (!text) text = "";
        begin = last_lines(text, text + strlen(text), &lines);
        if (lines > 0) lines--; // the one that the text begins with
    }
    fputs("\nlast words on standard error\n", out);
    for (int i = first; i < all; i++) {
        const char *text = json_text(cJSON_GetArrayItem(messages, i), "text");
        if (i == first) text = begin;
        while (text && *text) {
            const char *end = strchr(text, '\n');
            print_line(out, text, end ? end : text + strlen(text));
            text = end ? end + 1 : NULL;
        }
    }
}
