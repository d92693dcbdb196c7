// SPDX-License-Identifier: Apache-2.0
//
// The matcher (match.h): bytes → automaton → window → regular expression → hits → places.
//
// The text passes through a buffer. What has been scanned stays there for WINDOW_REACH more bytes,
// and what comes next is there before a place is decided on, so that no decision depends on how the
// text was cut. A hit is told when no later hit can overlap it.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "match.h"

#include "automaton.h"
#include "template.h"
#include "window.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// Per step of the buffer; larger does not pay.
#define BUFFER (1u << 20)

// A regular expression gets so many steps from each place in its text (PCRE2 counts so, and counts
// fewer when it runs as machine code), and so much heap. Ours need a few hundred; what needs more
// is hostile, expression or text.
#define MATCH_LIMIT       100000
#define INTERPRETER_LIMIT 20000
#define HEAP_LIMIT_KIB    1024
// And so much time on one line. Between stretches of so many places to begin at the clock is looked
// at: one stretch has its end by the limit of steps. To look at the clock costs as much as machine
// code needs for hundreds of places.
#define LINE_SECONDS        0.05
#define STRETCH             2048
#define INTERPRETER_STRETCH 256
#define JIT_STACK_MOST      (512u << 10)
// The circuit breaker: after so many times that a limit was reached, or so much time if that
// was less than so many bytes a second, a pattern is not tried any more. Of what logs hold the
// interpreter does ten times as much, machine code a hundred times.
#define MOST_REFUSED 3
#define SLOW_SECONDS 1.0
#define SLOW_BYTES   1e5
// Messages of several lines have no longer ones.
#define LONGEST_OF_SEVERAL 4096
// How often a match is passed over that is not the one looked for.
#define MOST_PASSED_OVER 4
// What stands on one line no further apart than this is one place: "MemoryError: ...: out of
// memory".
#define SAME_PLACE 2048

// Of a line: see window.h.
#define THE_LINE    0
#define THE_MESSAGE (1 + WINDOW_JOINS)
#define WINDOWS     (2 + WINDOW_JOINS)

enum pattern_state { PATTERN_NEW, PATTERN_READY, PATTERN_UNUSABLE, PATTERN_DISABLED };

struct pattern {
    const struct record *record;
    enum hit_kind kind;
    size_t index; // of the template in the record
    struct template template;
    enum pattern_state state;
    pcre2_code *code; // compiled when it is first tried
    bool machine;     // to machine code
    unsigned refused;
    double seconds; // spent on lines
    double bytes;   // of these lines
    uint64_t quiet; // what was found before this offset has been decided on
    uint64_t told;  // end of the last match
    char why[96];   // it is disabled
};

// A hit that is not told yet, and its text.
struct pending {
    struct hit hit;
    char *text;
    size_t weight;
};

struct matcher {
    hits_function *function;
    void *context;

    struct pattern *pattern;
    size_t patterns;
    size_t *owner; // of each literal of the automaton: its pattern
    struct automaton *automaton;
    pcre2_match_context *limits;
    pcre2_match_data *data;
    pcre2_jit_stack *stack;

    unsigned char *buffer; // BUFFER + 2 * WINDOW_REACH bytes
    struct piece piece;    // what is in it
    size_t scanned;        // up to here, in the buffer
    automaton_state state;
    size_t counted; // up to here, in the buffer, lines are counted
    uint64_t line;  // number of the line there

    struct window window[WINDOWS]; // the line alone, then by enum window_join, then its message
    bool made[WINDOWS], there[WINDOWS];
    struct span span; // that the windows are made for
    double deadline;  // for the pattern that is tried on them, by now()

    struct pending *pending;
    size_t pendings, room;

    bool interpret; // whether or not machine code can be made
    struct match_statistics statistics;
};

// ---- patterns -------------------------------------------------------------------------------

static void add_pattern(struct matcher *m, const struct record *record, enum hit_kind kind,
                        size_t index, const char *text, bool imported) {
    struct pattern *p = &m->pattern[m->patterns];
    struct template_error error;
    *p = (struct pattern){.record = record, .kind = kind, .index = index};
    bool usable = imported ? template_import(text, &p->template, &error)
                           : template_compile(text, &p->template, &error);
    // Without a literal there is nothing to find it by.
    if (usable && p->template.literals) {
        m->patterns++;
        return;
    }
    template_free(&p->template);
    m->statistics.left_out++;
}

static bool collect_patterns(struct matcher *m, const struct knowledge *knowledge) {
    size_t most = 0;
    for (size_t i = 0; i < knowledge_count(knowledge); i++) {
        const struct record *r = knowledge_get(knowledge, i);
        most += r->templates.count + r->recovered_by.count + (*r->regex != '\0');
    }
    m->pattern = calloc(most + 1, sizeof *m->pattern);
    if (!m->pattern) return false;
    for (size_t i = 0; i < knowledge_count(knowledge); i++) {
        const struct record *r = knowledge_get(knowledge, i);
        for (size_t k = 0; k < r->templates.count; k++)
            add_pattern(m, r, HIT_FAILURE, k, r->templates.item[k], false);
        if (*r->regex) add_pattern(m, r, HIT_FAILURE, r->templates.count, r->regex, true);
        for (size_t k = 0; k < r->recovered_by.count; k++)
            add_pattern(m, r, HIT_RECOVERY, k, r->recovered_by.item[k], false);
    }
    m->statistics.patterns = m->patterns;
    return true;
}

static bool make_automaton(struct matcher *m) {
    size_t count = 0, n = 0;
    for (size_t i = 0; i < m->patterns; i++) count += m->pattern[i].template.literals;
    char(*text)[AUTOMATON_LITERAL] = calloc(count + 1, sizeof *text);
    const char **literal = calloc(count + 1, sizeof *literal);
    m->owner = calloc(count + 1, sizeof *m->owner);
    if (text && literal && m->owner) {
        for (size_t i = 0; i < m->patterns; i++) {
            const struct template *t = &m->pattern[i].template;
            for (size_t k = 0; k < t->literals; k++, n++) {
                automaton_literal(t->literal[k], strlen(t->literal[k]), text[n]);
                literal[n] = text[n];
                m->owner[n] = i;
            }
        }
        m->automaton = automaton_new(literal, count);
    }
    free(text);
    free(literal);
    return m->automaton != NULL;
}

static void forget(struct matcher *m) {
    m->piece = (struct piece){.bytes = (const char *)m->buffer};
    m->scanned = m->counted = 0;
    m->state = 0;
    m->line = 1;
    for (size_t i = 0; i < m->patterns; i++) m->pattern[i].quiet = m->pattern[i].told = 0;
}

struct matcher *matcher_new(const struct knowledge *knowledge, hits_function *function,
                            void *context) {
    struct matcher *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->function = function;
    m->context = context;
    m->limits = pcre2_match_context_create(NULL);
    m->data = pcre2_match_data_create(HIT_FIELDS + 1, NULL);
    m->buffer = malloc(BUFFER + 2 * WINDOW_REACH);
    if (!m->limits || !m->data || !m->buffer || !collect_patterns(m, knowledge) ||
        !make_automaton(m)) {
        matcher_free(m);
        return NULL;
    }
    pcre2_set_heap_limit(m->limits, HEAP_LIMIT_KIB);
    uint32_t jit = 0;
    pcre2_config(PCRE2_CONFIG_JIT, &jit);
    m->statistics.jit = jit != 0;
    // Without a stack of its own, machine code gets 32 KiB of ours.
    if (jit) m->stack = pcre2_jit_stack_create(32u << 10, JIT_STACK_MOST, NULL);
    if (m->stack) pcre2_jit_stack_assign(m->limits, NULL, m->stack);
    forget(m);
    return m;
}

void matcher_interpret(struct matcher *m) {
    m->interpret = true;
    m->statistics.jit = false;
}

void matcher_free(struct matcher *m) {
    if (!m) return;
    for (size_t i = 0; i < m->patterns; i++) {
        pcre2_code_free(m->pattern[i].code);
        template_free(&m->pattern[i].template);
    }
    for (size_t i = 0; i < m->pendings; i++) free(m->pending[i].text);
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->limits);
    pcre2_jit_stack_free(m->stack);
    automaton_free(m->automaton);
    free(m->pattern);
    free(m->owner);
    free(m->buffer);
    free(m->pending);
    free(m);
}

static bool ready(struct matcher *m, struct pattern *p) {
    int error;
    PCRE2_SIZE at;
    if (p->state != PATTERN_NEW) return p->state == PATTERN_READY;
    p->code = pcre2_compile((PCRE2_SPTR)p->template.regex, PCRE2_ZERO_TERMINATED,
                            PCRE2_CASELESS | PCRE2_USE_OFFSET_LIMIT, &error, &at, NULL);
    if (!p->code) {
        p->state = PATTERN_UNUSABLE;
        m->statistics.left_out++;
        return false;
    }
    // Where memory may not become code (SELinux, hardened kernels) the interpreter takes over.
    p->machine = !m->interpret && pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0;
    if (!p->machine) m->statistics.jit = false;
    p->state = PATTERN_READY;
    return true;
}

// ---- trying ---------------------------------------------------------------------------------

// Of this thread's own time, so that a busy machine turns no pattern off.
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void disable(struct matcher *m, struct pattern *p, const char *why) {
    p->state = PATTERN_DISABLED;
    snprintf(p->why, sizeof p->why, "%s", why);
    m->statistics.disabled++;
}

static bool in_word(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

// "MemoryError" is not in "OutOfMemoryError". Texts inside JSON have their line ends and colours
// escaped: \nCUDA, \u001b[31mCUDA.
static bool begins_within_word(const char *text, size_t at) {
    if (!at || !in_word(text[at]) || !in_word(text[at - 1])) return false;
    if (at < 2) return true;
    bool escaped = text[at - 2] == '\\' && strchr("nrt", text[at - 1]);
    bool coloured = text[at - 2] >= '0' && text[at - 2] <= '9' && text[at - 1] == 'm';
    return !escaped && !coloured;
}

// Matches that begin from `start` to `last`.
static int run_stretch(struct matcher *m, const struct pattern *p, const char *text, size_t length,
                       size_t start, size_t last) {
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    pcre2_set_offset_limit(m->limits, last);
    pcre2_set_match_limit(m->limits, p->machine ? MATCH_LIMIT : INTERPRETER_LIMIT);
    int result = pcre2_match(p->code, subject, length, start, 0, m->data, m->limits);
    if (result != PCRE2_ERROR_JIT_STACKLIMIT) return result;
    pcre2_set_match_limit(m->limits, INTERPRETER_LIMIT);
    return pcre2_match(p->code, subject, length, start, PCRE2_NO_JIT, m->data, m->limits);
}

// Runs the expression on `text` from `start`. The match is in m->data.
static bool run_pattern(struct matcher *m, struct pattern *p, const char *text, size_t length,
                        size_t start) {
    int result = PCRE2_ERROR_NOMATCH;
    bool late = false;
    for (size_t last; result == PCRE2_ERROR_NOMATCH && start <= length && !late; start = last + 1) {
        last = start + (p->machine ? STRETCH : INTERPRETER_STRETCH);
        result = run_stretch(m, p, text, length, start, last);
        late = last < length && result == PCRE2_ERROR_NOMATCH && now() > m->deadline;
    }
    m->statistics.tried++;
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(m->data);
    // An imported expression may match nothing at all, or (\K) end before it begins.
    if (result >= 0) return ends[0] < ends[1];
    if (result != PCRE2_ERROR_NOMATCH || late) {
        m->statistics.refused++;
        p->refused++;
    }
    return false;
}

// The first match of the pattern in `text` from `start` on that begins a word, in m->data.
static bool try_pattern(struct matcher *m, struct pattern *p, const char *text, size_t length,
                        size_t start) {
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(m->data);
    for (unsigned i = 0; i < MOST_PASSED_OVER && run_pattern(m, p, text, length, start); i++) {
        if (!begins_within_word(text, ends[0])) return true;
        start = ends[0] + 1;
    }
    return false;
}

// The window for the present line, made when it is first asked for. NULL if there is none.
static const struct window *window_for(struct matcher *m, size_t which) {
    if (m->made[which]) return m->there[which] ? &m->window[which] : NULL;
    m->made[which] = true;
    if (which == THE_LINE || which == THE_MESSAGE) {
        (which == THE_LINE ? window_single : window_message)(&m->piece, &m->span,
                                                             &m->window[which]);
        m->there[which] = m->window[which].parts != 0;
    } else if (which == 1 + JOIN_LINES) {
        window_lines(&m->piece, &m->span, &m->window[which]);
        m->there[which] = m->window[which].parts > m->window[which].middle;
    } else if (window_for(m, 1 + JOIN_LINES)) {
        memcpy(&m->window[which], &m->window[1 + JOIN_LINES], sizeof m->window[which]);
        m->there[which] = window_unwrap(&m->window[which], (enum window_join)(which - 1));
    }
    return m->there[which] ? &m->window[which] : NULL;
}

static size_t count_lines(const char *bytes, size_t length) {
    size_t n = 0;
    for (const char *end = bytes + length; (bytes = memchr(bytes, '\n', (size_t)(end - bytes)));
         bytes++)
        n++;
    return n;
}

static void count_to(struct matcher *m, size_t at) {
    if (at <= m->counted) return;
    m->line += count_lines(m->piece.bytes + m->counted, at - m->counted);
    m->counted = at;
}

// The number of the line at `at`, which may lie a little before where lines are counted to.
static uint64_t line_number(struct matcher *m, size_t at) {
    count_to(m, at);
    return m->line - count_lines(m->piece.bytes + at, m->counted - at);
}

// The part of a window that holds a byte of its text.
static const struct window_part *part_at(const struct window *w, size_t at) {
    size_t i = 0;
    while (i + 1 < w->parts && w->part[i + 1].begin <= at) i++;
    return &w->part[i];
}

static uint64_t offset_in_text(const struct matcher *m, const struct window_part *part, size_t at) {
    return m->piece.offset + part->at + part->prefix + (at - part->begin);
}

static void read_fields(struct matcher *m, const struct pattern *p, const char *subject,
                        struct pending *to) {
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(m->data);
    uint32_t pairs = pcre2_get_ovector_count(m->data);
    struct hit *hit = &to->hit;
    for (size_t i = 0; i < p->template.fields && i + 1 < pairs; i++) {
        PCRE2_SIZE begin = ends[2 * i + 2], end = ends[2 * i + 3];
        if (begin == PCRE2_UNSET || begin >= end) continue;
        const struct template_field *declared = &p->template.field[i];
        struct hit_field *f = &hit->field[hit->fields++];
        *f = (struct hit_field){.name = declared->name,
                                .type = declared->type,
                                .text = to->text + (subject + begin - hit->text),
                                .length = end - begin};
        f->has_number = number_parse(f->text, f->length, &f->number) == f->length;
    }
}

// Keeps the match in m->data, of the window's text from `from` on.
static void keep_hit(struct matcher *m, struct pattern *p, const struct window *w) {
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(m->data);
    size_t begin = ends[0], end = ends[1];
    // What joins the lines belongs to none of them.
    while (begin < end && strchr("\n ", w->text[begin])) begin++;
    while (begin < end && strchr("\n ", w->text[end - 1])) end--;
    if (begin == end) return;
    const struct window_part *first = part_at(w, begin), *last = part_at(w, end - 1);
    if (m->pendings == m->room) {
        size_t room = m->room ? 2 * m->room : 16;
        struct pending *more = realloc(m->pending, room * sizeof *more);
        if (!more) {
            m->statistics.memory_ran_out = true;
            return;
        }
        m->pending = more;
        m->room = room;
    }
    struct pending *to = &m->pending[m->pendings];
    size_t length = last->end - first->begin;
    to->text = malloc(length + 1);
    if (!to->text) {
        m->statistics.memory_ran_out = true;
        return;
    }
    memcpy(to->text, w->text + first->begin, length);
    to->text[length] = '\0';
    // `text` is the window's until the fields are read.
    to->hit = (struct hit){.record = p->record,
                           .kind = p->kind,
                           .template = p->index,
                           .line = line_number(m, first->at),
                           .last_line = line_number(m, last->at),
                           .begin = offset_in_text(m, first, begin),
                           .end = offset_in_text(m, last, end),
                           .text = w->text + first->begin,
                           .text_length = length,
                           .match_begin = begin - first->begin,
                           .match_end = end - first->begin,
                           .origin = first->origin,
                           .literals = p->template.fixed};
    read_fields(m, p, w->text, to);
    to->hit.text = to->text;
    p->told = to->hit.end;
    if (p->told > p->quiet) p->quiet = p->told;
    m->pendings++;
}

// Where in a window's text the pattern's last match ends; 0 if before it.
static size_t told_in(const struct matcher *m, const struct pattern *p, const struct window *w) {
    for (size_t i = w->parts; i--;) {
        uint64_t begin = offset_in_text(m, &w->part[i], w->part[i].begin);
        if (p->told <= begin) continue;
        size_t length = w->part[i].end - w->part[i].begin;
        return w->part[i].begin + (p->told - begin < length ? (size_t)(p->told - begin) : length);
    }
    return 0;
}

// In a window of several lines: a match that touches the line in the middle. What is further up or
// down has a place of its own.
static bool try_window(struct matcher *m, struct pattern *p, const struct window *w) {
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(m->data);
    const struct window_part *middle = &w->part[w->middle];
    size_t start = told_in(m, p, w);
    for (unsigned i = 0; i < MOST_PASSED_OVER; i++) {
        if (!try_pattern(m, p, w->text, w->length, start) || ends[0] >= middle->end) return false;
        if (ends[1] > middle->begin) {
            keep_hit(m, p, w);
            return true;
        }
        start = ends[1];
    }
    return false;
}

// Tries the pattern on the line m->span and on what is around it.
static void try_line(struct matcher *m, struct pattern *p) {
    const struct window *single = window_for(m, THE_LINE), *lines, *message;
    unsigned refused = p->refused;
    if (single && single->part[0].indented && (lines = window_for(m, 1 + JOIN_LINES)) &&
        window_source_code(lines))
        return;
    if (single && try_pattern(m, p, single->text, single->length, 0)) {
        keep_hit(m, p, single);
        return;
    }
    if (p->template.from_begin && (message = window_for(m, THE_MESSAGE)) &&
        try_pattern(m, p, message->text, message->length, 0)) {
        keep_hit(m, p, message);
        return;
    }
    if (m->span.end - m->span.begin > LONGEST_OF_SEVERAL) return;
    // A text that the expression cannot cope with is left alone.
    for (size_t which = 1; which < 1 + WINDOW_JOINS && p->refused == refused; which++) {
        const struct window *w = window_for(m, which);
        if (w && w->parts > 1 && try_window(m, p, w)) return;
    }
}

// A literal of the pattern ends at `at`, in the buffer.
static void decide(struct matcher *m, struct pattern *p, size_t at) {
    uint64_t offset = m->piece.offset + at;
    if (offset < p->quiet || !ready(m, p)) return;
    m->statistics.candidates++;
    struct span span = window_line(&m->piece, at);
    if (span.begin != m->span.begin || span.end != m->span.end || !m->made[0]) {
        memset(m->made, 0, sizeof m->made);
        memset(m->there, 0, sizeof m->there);
        m->span = span;
    }
    p->quiet = m->piece.offset + span.end;
    double begin = now();
    m->deadline = begin + LINE_SECONDS;
    try_line(m, p);
    p->seconds += now() - begin;
    p->bytes += (double)(span.end - span.begin);
    if (p->refused >= MOST_REFUSED)
        disable(m, p, "it reached the limit of steps three times");
    else if (p->seconds > SLOW_SECONDS && p->bytes < p->seconds * SLOW_BYTES)
        disable(m, p, "it takes too long");
}

static void decide_all(struct matcher *m, automaton_state state, size_t at) {
    uint32_t chain = AUTOMATON_FIRST;
    size_t literal;
    while (automaton_found(m->automaton, state, &chain, &literal))
        decide(m, &m->pattern[m->owner[literal]], at);
}

// ---- scanning -------------------------------------------------------------------------------

// Does a literal go on in `text`, the next line? It is found where it began, at the end of the line
// before, `at`.
static void scan_on(struct matcher *m, automaton_state state, const char *text, size_t length,
                    size_t at) {
    const unsigned char *from = (const unsigned char *)text, *p = from, *end = from + length;
    if (end > p + AUTOMATON_LITERAL) end = p + AUTOMATON_LITERAL;
    if (!state) return;
    for (;;) {
        enum automaton_stop stop = automaton_scan(m->automaton, &state, &p, end);
        // What began on this line is found again, or for the first time, by the scan of the text.
        if (stop == AUTOMATON_END || automaton_depth(m->automaton, state) <= (size_t)(p - from))
            return;
        if (stop == AUTOMATON_FOUND) decide_all(m, state, at);
    }
}

// A line ends at `at` while a literal is pending: it may go on behind the next line's prefix,
// behind progress bars, or in the middle of a word.
static void scan_over_end(struct matcher *m, size_t at) {
    char clean[LINE_KEPT];
    size_t begin = window_next_line(&m->piece, at), length = m->piece.length - begin;
    const char *next = m->piece.bytes + begin;
    bool cut, elsewhere = begin != at + 1;
    if (length > 512) length = 512;
    while (length && (*next == '\n' || *next == '\0')) next++, length--; // of \r\n, in UTF-16 too
    const char *end = length ? memchr(next, '\n', length) : NULL;
    size_t cleaned = line_clean(next, end ? (size_t)(end - next) : length, clean, &cut);
    size_t prefix = line_prefix(clean, cleaned, NULL);
    scan_on(m, m->state, clean + prefix, cleaned - prefix, at);
    if (prefix || elsewhere)
        scan_on(m, automaton_blank(m->automaton, m->state), clean + prefix, cleaned - prefix, at);
}

static void scan(struct matcher *m, size_t limit) {
    const unsigned char *begin = m->buffer, *at = begin + m->scanned, *end = begin + limit;
    for (;;) {
        enum automaton_stop stop = automaton_scan(m->automaton, &m->state, &at, end);
        size_t here = (size_t)(at - begin);
        if (stop == AUTOMATON_END) break;
        if (stop == AUTOMATON_FOUND) {
            decide_all(m, m->state, here - 1);
        } else if (stop == AUTOMATON_LINE) {
            scan_over_end(m, here - 1);
            m->state = automaton_blank(m->automaton, m->state);
        } else {
            // An escape sequence is not there. Its end may lie beyond `limit`, but not beyond what
            // is in the buffer.
            at += line_escape((const char *)at - 1, m->piece.length - here + 1) - 1;
            if (at > end) break;
        }
    }
    m->scanned = (size_t)(at - begin);
}

// ---- telling --------------------------------------------------------------------------------

static int by_place(const void *a, const void *b) {
    const struct hit *x = &((const struct pending *)a)->hit, *y = &((const struct pending *)b)->hit;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_length(const void *a, const void *b) {
    const struct hit *x = &((const struct pending *)a)->hit, *y = &((const struct pending *)b)->hit;
    uint64_t long_x = x->end - x->begin, long_y = y->end - y->begin;
    if (long_x != long_y) return long_x < long_y ? -1 : 1;
    return by_place(a, b);
}

// A match weighs what its template fixes. But who begins earlier and holds all of another's words
// knows more about them: libraries put what the driver said behind words of their own.
static void weigh(struct pending *p, size_t count) {
    qsort(p, count, sizeof *p, by_length);
    for (size_t i = 0; i < count; i++) {
        p[i].weight = p[i].hit.literals;
        for (size_t k = 0; k < i; k++) {
            bool wraps = p[i].hit.begin < p[k].hit.begin && p[i].hit.end >= p[k].hit.end;
            if (wraps && p[k].weight >= p[i].weight) p[i].weight = p[k].weight + 1;
        }
    }
}

// The most specific first.
static int by_weight(const void *a, const void *b) {
    const struct pending *p = a, *q = b;
    const struct hit *x = &p->hit, *y = &q->hit;
    uint64_t long_x = x->end - x->begin, long_y = y->end - y->begin;
    if (p->weight != q->weight) return p->weight > q->weight ? -1 : 1;
    if (long_x != long_y) return long_x > long_y ? -1 : 1;
    if (x->record->tier != y->record->tier) return x->record->tier > y->record->tier ? -1 : 1;
    int id = strcmp(x->record->id, y->record->id);
    if (id) return id;
    return x->template <y->template ? -1 : x->template > y->template;
}

// One hit a record and kind. Returns how many are left.
static size_t keep_best(struct pending *p, size_t count) {
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        bool known = false;
        for (size_t k = 0; k < kept; k++)
            known |= p[k].hit.record == p[i].hit.record && p[k].hit.kind == p[i].hit.kind;
        if (known)
            free(p[i].text);
        else
            p[kept++] = p[i];
    }
    return kept;
}

static void tell(struct matcher *m, struct pending *p, size_t count) {
    weigh(p, count);
    qsort(p, count, sizeof *p, by_weight);
    count = keep_best(p, count);
    struct hit *hits = malloc(count * sizeof *hits);
    if (hits) {
        for (size_t i = 0; i < count; i++) hits[i] = p[i].hit;
        m->function(m->context, hits, count);
    } else {
        m->statistics.memory_ran_out = true;
    }
    for (size_t i = 0; i < count; i++) free(p[i].text);
    free(hits);
}

// How many of the hits, from the first on, are one place.
static size_t place(const struct pending *p, size_t count) {
    uint64_t end = p->hit.end, line = p->hit.last_line;
    size_t n = 1;
    // Places are bounded: there are texts of one endless line.
    for (; n < count && p[n].hit.begin < p->hit.begin + LINE_KEPT; n++) {
        const struct hit *next = &p[n].hit;
        bool same_line = next->line <= line && next->begin < end + SAME_PLACE;
        if (next->begin >= end && !same_line) break;
        if (next->end > end) end = next->end;
        if (next->last_line > line) line = next->last_line;
    }
    return n;
}

// Tells the places that no hit can join which begins at `safe` or later.
static void release(struct matcher *m, uint64_t safe) {
    size_t from = 0;
    if (!m->pendings) return;
    qsort(m->pending, m->pendings, sizeof *m->pending, by_place);
    while (from < m->pendings && m->pending[from].hit.begin + LINE_KEPT <= safe) {
        size_t count = place(m->pending + from, m->pendings - from);
        tell(m, m->pending + from, count);
        from += count;
    }
    m->pendings -= from;
    memmove(m->pending, m->pending + from, m->pendings * sizeof *m->pending);
}

// Scans up to `limit` and forgets what no window can need any more.
static void process(struct matcher *m, size_t limit) {
    memset(m->made, 0, sizeof m->made);
    if (limit > m->scanned) scan(m, limit);
    size_t keep = m->scanned > WINDOW_REACH ? m->scanned - WINDOW_REACH : 0;
    release(m, m->piece.offset + keep);
    if (!keep) return;
    count_to(m, keep);
    m->piece.length -= keep;
    m->piece.offset += keep;
    m->scanned -= keep;
    m->counted -= keep;
    memmove(m->buffer, m->buffer + keep, m->piece.length);
}

void matcher_feed(struct matcher *m, const char *bytes, size_t length) {
    const size_t most = BUFFER + 2 * WINDOW_REACH;
    m->statistics.bytes += length;
    m->statistics.lines += count_lines(bytes, length);
    while (length) {
        size_t n = most - m->piece.length < length ? most - m->piece.length : length;
        memcpy(m->buffer + m->piece.length, bytes, n);
        m->piece.length += n;
        bytes += n;
        length -= n;
        if (m->piece.length == most) process(m, most - WINDOW_REACH);
    }
}

void matcher_flush(struct matcher *m) {
    size_t end = m->piece.length;
    while (end > m->scanned && m->buffer[end - 1] != '\n' && m->buffer[end - 1] != '\r') end--;
    process(m, end);
    release(m, UINT64_MAX);
}

void matcher_finish(struct matcher *m) {
    process(m, m->piece.length);
    release(m, UINT64_MAX);
    forget(m);
}

void matcher_statistics(const struct matcher *m, struct match_statistics *out) {
    *out = m->statistics;
}

const struct record *matcher_disabled(const struct matcher *m, size_t i, const char **why) {
    for (size_t k = 0; k < m->patterns; k++) {
        if (m->pattern[k].state != PATTERN_DISABLED || i--) continue;
        *why = m->pattern[k].why;
        return m->pattern[k].record;
    }
    return NULL;
}

size_t match_code(const struct knowledge *knowledge, const char *api, int64_t code,
                  const struct record **out, size_t most) {
    size_t count = 0;
    for (size_t i = 0; i < knowledge_count(knowledge); i++) {
        const struct record *r = knowledge_get(knowledge, i);
        for (size_t k = 0; k < r->codes; k++) {
            const struct record_code *c = &r->code[k];
            if (!c->has_code || c->disputed || c->code != code || strcmp(c->api, api) != 0)
                continue;
            if (count < most) out[count] = r;
            count++;
            break;
        }
    }
    return count;
}
