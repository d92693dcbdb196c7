// SPDX-License-Identifier: Apache-2.0
//
// The automaton as a table of states by classes of bytes (automaton.h).
//
// An entry is the next state's row as an offset into the table, so that a step is one addition and
// two loads; the two upper bits say that the scan must stop there. The rows of the first states are
// used for nearly every byte and stay in the cache.
#include "automaton.h"

#include <stdlib.h>
#include <string.h>

#define FOUND     0x80000000u
#define PAUSE     0x40000000u
#define FLAGS     (FOUND | PAUSE)
#define MOST_ROWS (256u << 20)

// A line may end within a literal, and the next one begin with a prefix. Shorter beginnings than
// this are not worth stopping for: they end so many lines that it would cost time.
#define PENDING 4

// Classes of bytes. Those that occur in literals follow.
enum { CLASS_OTHER, CLASS_BLANK, CLASS_LINE, CLASS_ESCAPE, CLASS_NUL, CLASSES };

struct output {
    size_t literal;
    uint32_t next; // index + 1 of the next one that ends here; 0: none
};

struct automaton {
    uint8_t class[256];
    uint32_t width; // of a row: classes, rounded up to a power of 2
    uint32_t states;
    uint32_t *table;
    uint8_t *depth;  // by state
    uint8_t *blank;  // by state: does it end in a blank?
    uint32_t *chain; // by state: index + 1 of its first output; 0: none
    struct output *output;
};

static unsigned char folded(unsigned char c) {
    if (c >= 'A' && c <= 'Z') return c + ('a' - 'A');
    return (c <= ' ' && c) || c == 0x7f ? ' ' : c;
}

size_t automaton_literal(const char *text, size_t length, char out[AUTOMATON_LITERAL]) {
    size_t n = 0;
    for (size_t i = 0; i < length && n < AUTOMATON_LITERAL - 1; i++) {
        char c = (char)folded((unsigned char)text[i]);
        if (!c || (c == ' ' && (!n || out[n - 1] == ' '))) continue;
        out[n++] = c;
    }
    while (n && out[n - 1] == ' ') n--;
    out[n] = '\0';
    return n;
}

static void number_classes(struct automaton *a, const char *const *literal, size_t count) {
    uint8_t next = CLASSES;
    for (size_t i = 0; i < count; i++)
        for (const char *s = literal[i]; *s; s++) {
            unsigned char c = (unsigned char)*s;
            if (c != ' ' && !a->class[c]) a->class[c] = next++;
        }
    for (unsigned c = 0; c < 256; c++) {
        unsigned char f = folded((unsigned char)c);
        a->class[c] = f == ' ' ? CLASS_BLANK : a->class[f];
    }
    a->class['\n'] = a->class['\r'] = CLASS_LINE;
    a->class[0x1b] = CLASS_ESCAPE;
    a->class[0] = CLASS_NUL;
    a->width = 8;
    while (a->width < next) a->width *= 2;
}

// Adds the path of a literal; entries are states until link() makes them offsets.
static void add_literal(struct automaton *a, const char *text, size_t literal) {
    uint32_t s = 0;
    if (!*text) return;
    for (; *text; text++) {
        uint32_t *entry = &a->table[s * a->width + a->class[(unsigned char)*text]];
        if (!*entry) {
            *entry = a->states++;
            a->depth[*entry] = (uint8_t)(a->depth[s] + 1);
            a->blank[*entry] = *text == ' ';
        }
        s = *entry;
    }
    a->output[literal] = (struct output){.literal = literal, .next = a->chain[s]};
    a->chain[s] = (uint32_t)literal + 1;
}

// The outputs of the state that `s` falls back to are its own, too: they go to the end of its list.
static void inherit(struct automaton *a, uint32_t s, uint32_t fallback) {
    uint32_t *end = &a->chain[s];
    while (*end) end = &a->output[*end - 1].next;
    *end = a->chain[fallback];
}

// Fills in, state by state in the order of their depth, where a byte leads that does not continue
// the state's own literal: to where it leads from the longest proper suffix that is a state.
static void link_states(struct automaton *a, uint32_t *queue, uint32_t *fallback) {
    uint32_t from = 0, to = 0;
    queue[to++] = 0;
    while (from < to) {
        uint32_t s = queue[from++], *row = a->table + (size_t)s * a->width;
        const uint32_t *other = a->table + (size_t)fallback[s] * a->width;
        for (uint32_t c = 0; c < a->width; c++) {
            if (!row[c]) {
                row[c] = s ? other[c] : 0;
                continue;
            }
            fallback[row[c]] = s ? other[c] : 0;
            queue[to++] = row[c];
        }
        inherit(a, s, fallback[s]);
    }
}

// Turns states into offsets and adds what is no literal: blanks that repeat, line ends, escapes,
// NULs.
static void finish_rows(struct automaton *a) {
    for (uint32_t s = 0; s < a->states; s++) {
        uint32_t *row = a->table + (size_t)s * a->width, self = s * a->width;
        for (uint32_t c = 0; c < a->width; c++)
            row[c] = row[c] * a->width | (a->chain[row[c]] ? FOUND : 0);
        if (a->blank[s]) row[CLASS_BLANK] = self;
        row[CLASS_NUL] = self;
        row[CLASS_ESCAPE] = s ? self | PAUSE : 0;
        row[CLASS_LINE] = a->depth[s] >= PENDING ? self | PAUSE : row[CLASS_BLANK];
    }
}

struct automaton *automaton_new(const char *const *literal, size_t count) {
    struct automaton *a = calloc(1, sizeof *a);
    size_t most = 1;
    if (!a) return NULL;
    number_classes(a, literal, count);
    for (size_t i = 0; i < count; i++) most += strlen(literal[i]);
    if (count >= FOUND || most > MOST_ROWS / sizeof *a->table / a->width) {
        free(a);
        return NULL;
    }
    a->table = calloc(most * a->width, sizeof *a->table);
    a->depth = calloc(most, sizeof *a->depth);
    a->blank = calloc(most, sizeof *a->blank);
    a->chain = calloc(most, sizeof *a->chain);
    a->output = calloc(count + 1, sizeof *a->output);
    uint32_t *work = calloc(2 * most, sizeof *work);
    bool ready = a->table && a->depth && a->blank && a->chain && a->output && work;
    if (ready) {
        a->states = 1;
        for (size_t i = 0; i < count; i++) add_literal(a, literal[i], i);
        link_states(a, work, work + most);
        finish_rows(a);
    }
    free(work);
    if (ready) return a;
    automaton_free(a);
    return NULL;
}

void automaton_free(struct automaton *a) {
    if (!a) return;
    free(a->table);
    free(a->depth);
    free(a->blank);
    free(a->chain);
    free(a->output);
    free(a);
}

enum automaton_stop automaton_scan(const struct automaton *a, automaton_state *state,
                                   const unsigned char **at, const unsigned char *end) {
    const uint32_t *table = a->table;
    const uint8_t *class = a->class;
    const unsigned char *p = *at;
    uint32_t s = *state;
    while (p < end && !(s & FLAGS)) s = table[s + class[*p++]];
    *at = p;
    *state = s & ~FLAGS;
    if (s & FOUND) return AUTOMATON_FOUND;
    if (!(s & PAUSE)) return AUTOMATON_END;
    return p[-1] == 0x1b ? AUTOMATON_ESCAPE : AUTOMATON_LINE;
}

automaton_state automaton_blank(const struct automaton *a, automaton_state state) {
    return a->table[state + CLASS_BLANK] & ~FLAGS;
}

unsigned automaton_depth(const struct automaton *a, automaton_state state) {
    return a->depth[state / a->width];
}

bool automaton_found(const struct automaton *a, automaton_state state, uint32_t *chain,
                     size_t *literal) {
    uint32_t i = *chain == AUTOMATON_FIRST ? a->chain[state / a->width] : *chain;
    if (!i) return false;
    *literal = a->output[i - 1].literal;
    *chain = a->output[i - 1].next;
    return true;
}
