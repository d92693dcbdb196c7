// SPDX-License-Identifier: Apache-2.0
//
// Lines found, cleaned and joined (window.h).
#include "window.h"

#include <string.h>

// How far from the place the ends of its line are looked for; of a longer line half as much is
// shown.
#define LINE_REACH LINE_KEPT
// Between a place and the first and the last line of its window, the place's own line left out.
#define LINES_REACH (WINDOW_REACH - 2 * LINE_REACH)
// What is narrower was not wrapped.
#define NARROWEST 40

static bool ends_line(char c) {
    return c == '\n' || c == '\r';
}

// Where the line that goes on at `at` begins, looking back to `least`.
static size_t line_begin(const struct piece *p, size_t at, size_t least) {
    while (at > least && !ends_line(p->bytes[at - 1])) at--;
    return at;
}

// Where it ends, looking on to `most`.
static size_t line_end(const struct piece *p, size_t at, size_t most) {
    while (at < most && !ends_line(p->bytes[at])) at++;
    return at;
}

struct span window_line(const struct piece *p, size_t at) {
    size_t least = at > LINE_REACH ? at - LINE_REACH : 0;
    size_t most = p->length - at > LINE_REACH ? at + LINE_REACH : p->length;
    struct span s = {.begin = line_begin(p, at, least), .end = line_end(p, at, most)};
    s.from_start = s.begin > least || !least;
    s.to_end = s.end < most || most == p->length;
    if (s.end - s.begin <= LINE_KEPT) return s;
    if (at - s.begin > LINE_REACH / 2) s.begin = at - LINE_REACH / 2, s.from_start = false;
    if (s.end - at > LINE_REACH / 2) s.end = at + LINE_REACH / 2, s.to_end = false;
    return s;
}

// Code points: what a terminal counts, but for wide characters.
static size_t columns(const char *text, size_t length) {
    size_t n = 0;
    for (size_t i = 0; i < length; i++) n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

// Appends a line. False if nothing is left of it.
static bool add(struct window *w, const struct piece *p, size_t begin, size_t end, bool from_start,
                bool keep_prefix) {
    char clean[LINE_KEPT];
    bool cut;
    size_t length = line_clean(p->bytes + begin, end - begin, clean, &cut);
    struct window_part part = {.at = begin};
    line_origin_init(&part.origin);
    if (from_start) part.prefix = line_prefix(clean, length, &part.origin);
    part.indented = part.prefix < length && clean[part.prefix] == ' ';
    if (keep_prefix) part.prefix = 0;
    if (part.prefix == length) return false;
    if (w->length) w->text[w->length++] = '\n';
    part.begin = w->length;
    memcpy(w->text + w->length, clean + part.prefix, length - part.prefix);
    part.end = w->length += length - part.prefix;
    const char *word = clean + part.prefix, *stop = clean + length;
    while (word < stop && *word == ' ') word++;
    const char *blank = memchr(word, ' ', (size_t)(stop - word));
    w->columns[w->parts] = columns(clean, length);
    w->first_word[w->parts] = columns(word, (size_t)((blank ? blank : stop) - word));
    w->part[w->parts++] = part;
    return true;
}

void window_single(const struct piece *p, const struct span *line, struct window *w) {
    w->length = w->parts = w->middle = 0;
    add(w, p, line->begin, line->end, line->from_start, true);
}

void window_message(const struct piece *p, const struct span *line, struct window *w) {
    w->length = w->parts = w->middle = 0;
    if (line->from_start) add(w, p, line->begin, line->end, true, false);
    // Without a prefix it would be the line as it is.
    if (w->parts && !w->part[0].prefix) w->parts = 0;
}

// Was the line that ends at `end` overwritten by what comes after a lone \r? (\r\0 is UTF-16's.)
static bool overwritten(const struct piece *p, size_t end) {
    if (end >= p->length || p->bytes[end] != '\r') return false;
    for (end++; end < p->length && !p->bytes[end]; end++) {
    }
    return end < p->length && p->bytes[end] != '\n';
}

size_t window_next_line(const struct piece *p, size_t at) {
    size_t next = at + 1, most = p->length - at > LINES_REACH ? at + LINES_REACH : p->length;
    if (overwritten(p, at)) return next;
    for (size_t end; (end = line_end(p, next, most)) < most && overwritten(p, end);) next = end + 1;
    return next;
}

void window_lines(const struct piece *p, const struct span *line, struct window *w) {
    struct span before[WINDOW_LINES];
    size_t count = 0;
    bool bars = !overwritten(p, line->end); // then lines that are were progress bars
    w->length = w->parts = 0;
    size_t least = line->begin > LINES_REACH ? line->begin - LINES_REACH : 0;
    for (size_t end = line->begin; line->from_start && count < WINDOW_LINES && end > least;) {
        size_t stop = --end; // on the line's end
        size_t begin = line_begin(p, stop, stop > WINDOW_PART ? stop - WINDOW_PART : 0);
        bool whole = !begin || ends_line(p->bytes[begin - 1]);
        if (begin < stop && !(bars && overwritten(p, stop)))
            before[count++] = (struct span){begin, stop, whole, true};
        end = begin;
        if (!whole) break;
    }
    while (count--)
        add(w, p, before[count].begin, before[count].end, before[count].from_start, false);
    w->middle = w->parts;
    // A line of nothing but prefixes is still the middle one.
    if (!add(w, p, line->begin, line->end, line->from_start, false) &&
        !add(w, p, line->begin, line->end, line->from_start, true))
        return;
    size_t most = p->length - line->end > LINES_REACH ? line->end + LINES_REACH : p->length;
    for (size_t begin = line->end;
         line->to_end && begin < most && w->parts <= w->middle + WINDOW_LINES;) {
        begin++;
        size_t limit = p->length - begin > WINDOW_PART ? begin + WINDOW_PART : p->length;
        size_t end = line_end(p, begin, limit);
        if (!(bars && overwritten(p, end))) add(w, p, begin, end, true, false);
        if (end < p->length && !ends_line(p->bytes[end])) break; // longer than what is kept
        begin = end;
    }
}

// Is part i source code: "  File "train.py", line 12, in step", and it, indented deeper, below it?
static bool source_code(const struct window *w, size_t i) {
    if (!i || i >= w->parts) return false;
    const struct window_part *above = &w->part[i - 1], *here = &w->part[i];
    const char *s = w->text + above->begin, *end = w->text + above->end;
    while (s < end && *s == ' ') s++;
    if (!here->indented || end - s < 8 || memcmp(s, "File \"", 6) != 0) return false;
    const char *quote = memchr(s + 6, '"', (size_t)(end - s - 6));
    return quote && end - quote > 7 && !memcmp(quote, "\", line ", 8);
}

bool window_source_code(const struct window *w) {
    return source_code(w, w->middle);
}

// What joins part i to the next one.
static char joint(const struct window *w, size_t i, enum window_join join, size_t widest) {
    const char *next = w->text + w->part[i + 1].begin;
    if (join == JOIN_LINES || w->part[i + 1].prefix || widest < NARROWEST) return '\n';
    if (source_code(w, i)) return '\n'; // no words of the message below it
    if (join == JOIN_WORDS) {
        bool filled = w->columns[i] + 1 + w->first_word[i + 1] > widest;
        return filled && w->columns[i] >= NARROWEST ? ' ' : '\n';
    }
    if (w->columns[i] == widest) return '\0';
    // The blank at the edge was trimmed.
    return w->columns[i] + 1 == widest && *next != ' ' ? ' ' : '\n';
}

bool window_unwrap(struct window *w, enum window_join join) {
    size_t widest = 0, to = 0;
    bool changed = false;
    char joints[WINDOW_PARTS] = "";
    for (size_t i = 0; i < w->parts; i++)
        if (w->columns[i] > widest) widest = w->columns[i];
    for (size_t i = 0; i + 1 < w->parts; i++) {
        joints[i] = joint(w, i, join, widest);
        changed |= joints[i] != '\n';
    }
    if (!changed) return false;
    for (size_t i = 0; i < w->parts; i++) {
        struct window_part *part = &w->part[i];
        size_t length = part->end - part->begin;
        if (i && joints[i - 1]) w->text[to++] = joints[i - 1];
        memmove(w->text + to, w->text + part->begin, length);
        part->begin = to;
        part->end = to += length;
    }
    w->length = to;
    return true;
}
