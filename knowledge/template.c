// SPDX-License-Identifier: Apache-2.0
//
// A template, or an imported expression, is first read into a tree of nodes. From the tree comes
// what the header promises: the literals that every match contains, and, of templates, the regular
// expression. One tree for both keeps one rule for literals.
//
// All nodes of a text are one array: no text makes more nodes than it has bytes and a few.
#include "template.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NESTING     16 // of optional parts, alternatives and groups: bounds the recursion
#define LITERALS    64 // alternatives of one literal, at most
#define GAP         200
#define LONGEST_GAP 1000

enum node_kind {
    NODE_CHARACTER,
    NODE_BLANK,
    NODE_GAP,
    NODE_FIELD,
    NODE_OPTIONAL,     // one branch
    NODE_ALTERNATIVES, // branches
    NODE_LINE_BEGIN,
    NODE_LINE_END,
    NODE_OTHER // of an expression: something whose text is not known
};

struct node {
    struct node *next;   // in its sequence
    struct node *branch; // NODE_OPTIONAL, NODE_ALTERNATIVES: the first of a list of…
    struct node *inside; // …nodes of no kind, which hold a sequence each
    enum node_kind kind;
    unsigned number; // NODE_GAP: characters; NODE_FIELD: index; NODE_CHARACTER: the byte
    bool unbounded;  // of an expression: repeats without end in it
};

// Numbers as number.h reads them; bounded, like everything here.
#define DIGITS "-?[0-9][0-9,]{0,39}"
#define NUMBER DIGITS "(?:\\.[0-9]{1,20})?(?:e[-+]?[0-9]{1,3})?"

// So many digits of a unit are 90 TiB or more: nothing that a GPU or its host has.
#define MANY(digits, unit) "[0-9]{" digits ",39}(?:\\.[0-9]{1,20})?\\s{0,9}" unit

static const struct type {
    const char *name, *inside;
    const char *around;  // not part of the field
    const char *at_end;  // instead of `inside` where nothing follows
    const char *told_as; // the field's type for readers, if it is not `name`
    unsigned fixed;      // characters that the type fixes, as good as literals
} types[] = {
    // The word boundary keeps "5 minutes" from being 5 MiB.
    {.name = "size", .inside = NUMBER "\\s{0,9}(?:bytes?|[kmgtpezy]i?b?|b)\\b"},
    {.name = "huge",
     .inside = "(?:" MANY("6", "[gtpezy]i?b?") "|" MANY("9", "mi?b?") "|" MANY(
         "12", "ki?b?") "|" MANY("15", "(?:bytes?|b)") ")\\b",
     .told_as = "size",
     .fixed = 6},
    {.name = "bytes", .inside = DIGITS},
    {.name = "int", .inside = "-?[0-9]{1,20}"},
    {.name = "number", .inside = NUMBER},
    {.name = "hex", .inside = "(?:0x)?[0-9a-f]{1,32}"},
    {.name = "word", .inside = "\\S{1,200}"},
    {.name = "path", .inside = "[^\\s\"'<>|]{1,512}"},
    {.name = "text", .inside = ".{0,200}?", .at_end = "[^\\n]{0,200}"},
    {.name = "quoted", .inside = "[^\"'`\\n]{0,200}", .around = "[\"'`]"},
};
#define TYPES (sizeof types / sizeof types[0])

struct parser {
    const char *text, *at;
    struct node *pool;
    size_t used, room;
    unsigned depth;
    const struct type *type[TEMPLATE_FIELDS]; // of the fields in `out`
    struct template *out;
    struct template_error *error;
};

__attribute__((format(printf, 3, 4))) static bool refuse(struct parser *p, const char *at,
                                                         const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    p->error->at = (size_t)(at - p->text);
    vsnprintf(p->error->reason, sizeof p->error->reason, format, arguments);
    va_end(arguments);
    return false;
}

static struct node *node_new(struct parser *p, enum node_kind kind, unsigned number) {
    struct node *node = p->used < p->room ? &p->pool[p->used++] : NULL;
    if (!node) {
        refuse(p, p->at, "it is too complicated");
        return NULL;
    }
    node->kind = kind;
    node->number = number;
    return node;
}

static bool is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

// A place for a byte in an error's text: itself if it can be shown.
static int shown(char c) {
    return isgraph((unsigned char)c) ? c : '?';
}

// ---- templates ------------------------------------------------------------------------------

static const struct type *type_of(const char *name, size_t length) {
    for (size_t i = 0; i < TYPES; i++)
        if (strlen(types[i].name) == length && !memcmp(types[i].name, name, length))
            return &types[i];
    return NULL;
}

static struct node *parse_gap(struct parser *p, const char *begin, const char *end) {
    unsigned long most = GAP;
    if (end > begin) {
        most = 0;
        for (const char *c = begin + 1; c < end && most <= LONGEST_GAP; c++)
            most = isdigit((unsigned char)*c) ? most * 10 + (unsigned)(*c - '0') : LONGEST_GAP + 1;
        if (!most || most > LONGEST_GAP) {
            refuse(p, begin, "a gap is {} or {:N} with N from 1 to %d", LONGEST_GAP);
            return NULL;
        }
    }
    return node_new(p, NODE_GAP, (unsigned)most);
}

// At "{".
static struct node *parse_field(struct parser *p) {
    const char *begin = p->at + 1, *end = begin + strcspn(begin, "{}");
    if (*end != '}') {
        refuse(p, p->at, "'{' is not closed; a literal one is written \\{");
        return NULL;
    }
    p->at = end + 1;
    const char *colon = memchr(begin, ':', (size_t)(end - begin));
    if (end == begin || colon == begin) return parse_gap(p, begin, end);
    if (!colon) {
        refuse(p, begin, "field '%.*s' needs a type: {%.*s:size}", (int)(end - begin), begin,
               (int)(end - begin), begin);
        return NULL;
    }
    struct template_field *field = &p->out->field[p->out->fields];
    const struct type *type = type_of(colon + 1, (size_t)(end - colon - 1));
    size_t length = (size_t)(colon - begin);
    if (!type)
        refuse(p, colon + 1, "there is no type '%.*s'", (int)(end - colon - 1), colon + 1);
    else if (p->out->fields == TEMPLATE_FIELDS)
        refuse(p, begin, "more than %d fields", TEMPLATE_FIELDS);
    else if (length >= sizeof field->name ||
             strspn(begin, "abcdefghijklmnopqrstuvwxyz0123456789_") != length)
        refuse(p, begin, "a field's name is at most %zu of a-z, 0-9 and _", sizeof field->name - 1);
    else {
        memcpy(field->name, begin, length);
        field->name[length] = 0;
        field->type = type->told_as ? type->told_as : type->name;
        p->type[p->out->fields] = type;
        return node_new(p, NODE_FIELD, (unsigned)p->out->fields++);
    }
    return NULL;
}

static bool parse_sequence(struct parser *p, struct node **out);

// At "[" or "<".
static struct node *parse_branches(struct parser *p) {
    const char *begin = p->at;
    bool optional = *begin == '[';
    struct node *node = node_new(p, optional ? NODE_OPTIONAL : NODE_ALTERNATIVES, 0);
    if (!node) return NULL;
    if (++p->depth > NESTING) {
        refuse(p, begin, "nested deeper than %d", NESTING);
        return NULL;
    }
    struct node **end = &node->branch;
    do {
        p->at++;
        *end = node_new(p, NODE_OTHER, 0);
        if (!*end || !parse_sequence(p, &(*end)->inside)) return NULL;
        end = &(*end)->next;
    } while (!optional && *p->at == '|');
    if (*p->at != (optional ? ']' : '>')) {
        if (*p->at)
            refuse(p, p->at, "'%c' does not belong here; a literal one is written \\%c", *p->at,
                   *p->at);
        else
            refuse(p, begin, "'%c' is not closed; a literal one is written \\%c", *begin, *begin);
        return NULL;
    }
    p->at++;
    p->depth--;
    return node;
}

static struct node *parse_element(struct parser *p) {
    const char *at = p->at;
    if (*at == '{') return parse_field(p);
    if (*at == '[' || *at == '<') return parse_branches(p);
    if (*at == '\\') {
        if (!at[1] || isalnum((unsigned char)at[1]) || is_blank(at[1])) {
            refuse(p, at,
                   "\\%c is no escape; a blank stands for a line's end, \\\\ for a backslash",
                   shown(at[1]));
            return NULL;
        }
        p->at += 2;
        return node_new(p, NODE_CHARACTER, (unsigned char)at[1]);
    }
    if (is_blank(*at)) {
        while (is_blank(*p->at)) p->at++;
        return node_new(p, NODE_BLANK, 0);
    }
    p->at++;
    if (*at == '^' && at == p->text) return node_new(p, NODE_LINE_BEGIN, 0);
    if (*at == '$' && !at[1]) return node_new(p, NODE_LINE_END, 0);
    return node_new(p, NODE_CHARACTER, (unsigned char)*at);
}

// "a [b] c" means "a b c" and "a c": the blank before the optional part goes into it, if one
// follows or nothing does; at the beginning the one after it goes in.
static void share_blanks(struct node **sequence) {
    for (struct node **link = sequence; *link; link = &(*link)->next) {
        struct node *first = *link, *optional = first->next;
        if (first->kind == NODE_BLANK && optional && optional->kind == NODE_OPTIONAL &&
            (!optional->next || optional->next->kind == NODE_BLANK)) {
            struct node *branch = optional->branch;
            if (branch->inside && branch->inside->kind == NODE_BLANK) continue;
            first->next = branch->inside;
            branch->inside = first;
            *link = optional;
        }
    }
    struct node *optional = *sequence;
    if (!optional || optional->kind != NODE_OPTIONAL || !optional->next ||
        optional->next->kind != NODE_BLANK)
        return;
    struct node **end = &optional->branch->inside, *blank = optional->next;
    while (*end) end = &(*end)->next;
    *end = blank;
    optional->next = blank->next;
    blank->next = NULL;
}

// Up to the end of the text or to what ends a branch.
static bool parse_sequence(struct parser *p, struct node **out) {
    struct node **end = out;
    while (*p->at && !strchr("]>|}", *p->at)) {
        *end = parse_element(p);
        if (!*end) return false;
        end = &(*end)->next;
    }
    share_blanks(out);
    return true;
}

// ---- expressions ----------------------------------------------------------------------------

static bool import_branches(struct parser *p, struct node *node);

// At "(": a group, as a node of alternatives.
static struct node *import_group(struct parser *p) {
    const char *begin = p->at++;
    if (!strncmp(p->at, "?:", 2)) {
        p->at += 2;
    } else if (!strncmp(p->at, "?P<", 3) ||
               (!strncmp(p->at, "?<", 2) && isalpha((unsigned char)p->at[2]))) {
        p->at += strcspn(p->at, ">");
        if (*p->at) p->at++;
    } else if (*p->at == '?' || *p->at == '*') {
        refuse(p, begin, "only plain, (?:…) and named groups are understood");
        return NULL;
    }
    struct node *node = node_new(p, NODE_ALTERNATIVES, 0);
    if (!node) return NULL;
    if (++p->depth > NESTING) {
        refuse(p, begin, "nested deeper than %d", NESTING);
        return NULL;
    }
    if (!import_branches(p, node)) return NULL;
    if (*p->at != ')') {
        refuse(p, begin, "'(' is not closed");
        return NULL;
    }
    p->at++;
    p->depth--;
    return node;
}

// Within a class: past an escape or a named class, "[:alpha:]", which may hold what looks like the
// end. NULL, with *p->error set, if the dialects differ about it.
static const char *class_element(struct parser *p, const char *at) {
    if (*at == '[' && at[1] == ':') {
        const char *end = at + 2 + strspn(at + 2, "abcdefghijklmnopqrstuvwxyz^");
        if (end[0] == ':' && end[1] == ']') return end + 2;
    } else if (*at == '\\') {
        if (at[1] && (!isalnum((unsigned char)at[1]) || strchr("dDwWsSbntrfv", at[1])))
            return at + 2;
        refuse(p, at, "\\%c in a class is not in the common subset of expressions", shown(at[1]));
        return NULL;
    }
    return at + 1;
}

static struct node *import_class(struct parser *p) {
    const char *begin = p->at++;
    if (*p->at == '^') p->at++;
    if (*p->at == ']') p->at++; // a literal one in first place
    while (*p->at && *p->at != ']') {
        p->at = class_element(p, p->at);
        if (!p->at) return NULL;
    }
    if (!*p->at) {
        refuse(p, begin, "'[' is not closed");
        return NULL;
    }
    p->at++;
    return node_new(p, NODE_OTHER, 0);
}

static struct node *import_escape(struct parser *p) {
    char c = p->at[1];
    p->at += 2;
    if (c && strchr("dDwWSbBntrfv", c)) return node_new(p, NODE_OTHER, 0);
    if (c == 's' || is_blank(c)) return node_new(p, NODE_BLANK, 0);
    if (c && !isalnum((unsigned char)c)) return node_new(p, NODE_CHARACTER, (unsigned char)c);
    p->at -= 2;
    refuse(p, p->at, "\\%c is not in the common subset of expressions", shown(c));
    return NULL;
}

static struct node *import_atom(struct parser *p) {
    const char *at = p->at;
    switch (*at) {
    case '(':
        return import_group(p);
    case '[':
        return import_class(p);
    case '\\':
        return import_escape(p);
    case '*':
    case '+':
    case '?':
        refuse(p, at, "'%c' repeats nothing", *at);
        return NULL;
    case '{':
        if (at[1] == ',') { // a repeat in some dialects, itself in others
            refuse(p, at, "{,n} is to be written {0,n}");
            return NULL;
        }
        p->at++;
        break;
    case '.':
    case '^':
    case '$':
        p->at++;
        return node_new(p, NODE_OTHER, 0);
    default:
        p->at++;
    }
    if (is_blank(*at)) return node_new(p, NODE_BLANK, 0);
    return node_new(p, NODE_CHARACTER, (unsigned char)*at);
}

// How often the atom before `p->at` is to come: false if nothing is said.
static bool import_repeat(struct parser *p, bool *none, bool *unbounded) {
    char *end;
    *none = *unbounded = false;
    if (*p->at == '*' || *p->at == '?' || *p->at == '+') {
        *none = *p->at != '+';
        *unbounded = *p->at != '?';
        p->at++;
        return true;
    }
    if (*p->at != '{' || !isdigit((unsigned char)p->at[1])) return false;
    *none = strtoul(p->at + 1, &end, 10) == 0;
    if (*end == ',') {
        end++;
        *unbounded = *end == '}';
        while (isdigit((unsigned char)*end)) end++;
    }
    if (*end != '}') return false;
    p->at = end + 1;
    return true;
}

static bool import_sequence(struct parser *p, struct node **out, bool *unbounded) {
    struct node **end = out;
    while (*p->at && *p->at != '|' && *p->at != ')') {
        const char *begin = p->at;
        struct node *atom = import_atom(p);
        bool none, endless;
        if (!atom) return false;
        if (import_repeat(p, &none, &endless)) {
            if (endless && atom->unbounded)
                return refuse(p, begin, "a repeat without end within a repeat without end");
            if (*p->at == '+') return refuse(p, p->at, "possessive repeats are not understood");
            if (*p->at == '?') p->at++;
            atom->unbounded |= endless;
            *unbounded |= atom->unbounded;
            // What is repeated is there, if at all, but what follows is not beside it.
            struct node *other = node_new(p, NODE_OTHER, 0);
            if (!other) return false;
            if (none) {
                *end = other;
            } else {
                *end = atom;
                atom->next = other;
            }
            end = &other->next;
            continue;
        }
        *unbounded |= atom->unbounded;
        *end = atom;
        end = &atom->next;
    }
    return true;
}

static bool import_branches(struct parser *p, struct node *node) {
    struct node **end = &node->branch;
    for (;;) {
        *end = node_new(p, NODE_OTHER, 0);
        if (!*end || !import_sequence(p, &(*end)->inside, &node->unbounded)) return false;
        if (*p->at != '|') return true;
        p->at++;
        end = &(*end)->next;
    }
}

// ---- literals -------------------------------------------------------------------------------

// Literals of which every match has at least one.
struct set {
    char *literal[LITERALS];
    size_t count, shortest;
};

static void set_clear(struct set *set) {
    for (size_t i = 0; i < set->count; i++) free(set->literal[i]);
    set->count = set->shortest = 0;
}

// Longer literals are rarer; of equally long ones fewer are better.
static void set_keep_better(struct set *best, struct set *other) {
    if (other->shortest > best->shortest ||
        (other->shortest == best->shortest && other->count < best->count)) {
        struct set worse = *best;
        *best = *other;
        *other = worse;
    }
    set_clear(other);
}

struct run {
    char *text; // as long as the whole template
    size_t length;
};

static bool run_end(struct run *run, struct set *best) {
    struct set one = {.count = 1};
    if (run->length && run->text[run->length - 1] == ' ') run->length--;
    if (run->length > best->shortest) {
        one.literal[0] = strndup(run->text, run->length);
        one.shortest = run->length;
        if (!one.literal[0]) return false;
        set_keep_better(best, &one);
    }
    run->length = 0;
    return true;
}

static bool find_literals(const struct parser *p, const struct node *sequence, struct set *best,
                          size_t *fixed);

// Of alternatives, if each has one: all of them together.
static bool find_in_branches(const struct parser *p, const struct node *node, struct set *best,
                             size_t *fixed) {
    struct set all = {.shortest = (size_t)-1};
    size_t least = (size_t)-1;
    bool certain = true, ok = true;
    for (const struct node *branch = node->branch; branch && ok; branch = branch->next) {
        struct set one = {0};
        size_t branch_fixed = 0;
        ok = find_literals(p, branch->inside, &one, &branch_fixed);
        if (branch_fixed < least) least = branch_fixed;
        certain = certain && one.count && all.count + one.count <= LITERALS;
        if (certain) {
            memcpy(all.literal + all.count, one.literal, one.count * sizeof one.literal[0]);
            all.count += one.count;
            if (one.shortest < all.shortest) all.shortest = one.shortest;
        } else {
            set_clear(&one);
        }
    }
    *fixed += least;
    if (!certain || !ok || !all.count)
        set_clear(&all);
    else
        set_keep_better(best, &all);
    return ok;
}

static bool find_literals(const struct parser *p, const struct node *sequence, struct set *best,
                          size_t *fixed) {
    struct run run = {malloc(p->room), 0};
    bool ok = run.text != NULL;
    for (const struct node *node = sequence; node && ok; node = node->next) {
        if (node->kind == NODE_CHARACTER) {
            run.text[run.length++] = (char)tolower((int)node->number);
            ++*fixed;
        } else if (node->kind == NODE_BLANK) {
            if (run.length && run.text[run.length - 1] != ' ') run.text[run.length++] = ' ';
        } else {
            ok = run_end(&run, best);
            if (node->kind == NODE_FIELD) *fixed += p->type[node->number]->fixed;
            if (ok && node->kind == NODE_ALTERNATIVES) ok = find_in_branches(p, node, best, fixed);
        }
    }
    ok = ok && run_end(&run, best);
    free(run.text);
    return ok;
}

// ---- the expression of a template -----------------------------------------------------------

struct buffer {
    char *text;
    size_t length, room;
    bool failed; // no memory
};

__attribute__((format(printf, 2, 3))) static void put(struct buffer *b, const char *format, ...) {
    va_list arguments;
    if (b->room - b->length < 256 && !b->failed) {
        char *larger = realloc(b->text, b->room = 2 * b->room + 1024);
        b->failed = !larger;
        if (larger) b->text = larger;
    }
    if (b->failed) return;
    va_start(arguments, format);
    b->length += (size_t)vsnprintf(b->text + b->length, b->room - b->length, format, arguments);
    va_end(arguments);
}

static void put_character(struct buffer *b, unsigned char c) {
    if (c < 0x20 || c == 0x7f)
        put(b, "\\x%02x", c);
    else
        put(b, strchr("\\^$.[]|()?*+{}", c) ? "\\%c" : "%c", c);
}

static void put_field(struct buffer *b, const struct type *type, bool last) {
    const char *around = type->around ? type->around : "";
    put(b, "%s(%s)%s", around, last && type->at_end ? type->at_end : type->inside, around);
}

// `last`: nothing follows the sequence.
static void put_sequence(struct buffer *b, const struct parser *p, const struct node *sequence,
                         bool last) {
    for (const struct node *node = sequence; node; node = node->next) {
        bool node_last = last && !node->next;
        switch (node->kind) {
        case NODE_CHARACTER:
            put_character(b, (unsigned char)node->number);
            break;
        // Aligned columns and wrapped, indented lines have long runs, but not endless ones.
        case NODE_BLANK:
            put(b, "\\s{1,99}");
            break;
        case NODE_GAP:
            put(b, ".{0,%u}?", node->number);
            break;
        case NODE_LINE_BEGIN:
            put(b, "(?:^|\\n)");
            break;
        case NODE_LINE_END:
            put(b, "(?:\\n|$)");
            break;
        case NODE_FIELD:
            put_field(b, p->type[node->number], node_last);
            break;
        case NODE_OPTIONAL:
        case NODE_ALTERNATIVES:
            for (const struct node *branch = node->branch; branch; branch = branch->next) {
                put(b, branch == node->branch ? "(?:" : "|");
                put_sequence(b, p, branch->inside, node_last);
            }
            put(b, node->kind == NODE_OPTIONAL ? ")?" : ")");
            break;
        case NODE_OTHER:
            break;
        }
    }
}

// ---- both -----------------------------------------------------------------------------------

static bool begin(struct parser *p, const char *text, struct template *out,
                  struct template_error *error) {
    *p = (struct parser){.text = text, .at = text, .out = out, .error = error};
    memset(out, 0, sizeof *out);
    memset(error, 0, sizeof *error);
    size_t length = strnlen(text, TEMPLATE_BYTES + 1);
    if (length > TEMPLATE_BYTES) return refuse(p, text, "longer than %d bytes", TEMPLATE_BYTES);
    if (!length) return refuse(p, text, "it is empty");
    p->room = 2 * length + 4;
    p->pool = calloc(p->room, sizeof *p->pool);
    return p->pool ? true : refuse(p, text, "no memory");
}

static bool take_literals(struct parser *p, const struct node *sequence) {
    struct set best = {0};
    struct template *out = p->out;
    bool ok = find_literals(p, sequence, &best, &out->fixed);
    if (ok && best.count) {
        out->literal = calloc(best.count, sizeof *out->literal);
        ok = out->literal != NULL;
    }
    if (!ok) {
        set_clear(&best);
        return refuse(p, p->text, "no memory");
    }
    if (best.count) memcpy(out->literal, best.literal, best.count * sizeof best.literal[0]);
    out->literals = best.count;
    out->shortest = best.shortest;
    return true;
}

bool template_compile(const char *text, struct template *out, struct template_error *error) {
    struct parser p;
    struct node *sequence = NULL;
    struct buffer b = {0};
    bool ok = begin(&p, text, out, error) && parse_sequence(&p, &sequence);
    if (ok && *p.at)
        ok = refuse(&p, p.at, "'%c' does not belong here; a literal one is written \\%c", *p.at,
                    *p.at);
    if (ok && !sequence) ok = refuse(&p, text, "it is empty");
    if (ok && sequence && (ok = take_literals(&p, sequence))) {
        put_sequence(&b, &p, sequence, true);
        out->regex = b.text;
        out->from_begin = sequence->kind == NODE_LINE_BEGIN;
        if (b.failed) ok = refuse(&p, text, "no memory");
    }
    free(p.pool);
    return ok;
}

bool template_import(const char *regex, struct template *out, struct template_error *error) {
    struct parser p;
    struct node top = {.kind = NODE_ALTERNATIVES}, sequence = {0};
    bool ok = begin(&p, regex, out, error);
    if (ok && !strncmp(p.at, "(?i)", 4)) p.at += 4;
    ok = ok && import_branches(&p, &top);
    if (ok && *p.at) ok = refuse(&p, p.at, "')' closes nothing");
    sequence = top;
    // Without "|" the top is a plain sequence.
    ok = ok && take_literals(&p, top.branch && !top.branch->next ? top.branch->inside : &sequence);
    // Between its literals an imported expression is loose: one literal is all that it fixes.
    out->fixed = out->shortest;
    if (ok) {
        out->regex = strdup(regex);
        if (!out->regex) ok = refuse(&p, regex, "no memory");
    }
    free(p.pool);
    return ok;
}

void template_free(struct template *out) {
    for (size_t i = 0; i < out->literals; i++) free(out->literal[i]);
    free(out->literal);
    free(out->regex);
    memset(out, 0, sizeof *out);
}
