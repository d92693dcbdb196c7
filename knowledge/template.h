// SPDX-License-Identifier: Apache-2.0
//
// Templates: how records write down a message. Literal text with typed places for what varies:
//
//   CUDA out of memory. Tried to allocate {request:size} (GPU {device:int}; {total:size} total …
//
//   text          itself, in any case; a run of blanks is any run of blanks, line breaks included
//   {name:type}   a field; types are in the table of template.c, and in README.md
//   {}  {:N}      a gap of at most 200 or N (to 1000) characters
//   [ … ]         may be missing. Where blanks stand on both sides of it, one run goes with it
//   <a|b|c>       one of these; they may hold anything, also nothing
//   ^…  …$        the template's first or last character: a line begins or ends here
//   \x            the character x itself
//
// From a template come the regular expression, the list of its fields and the literals that every
// match contains. The expressions are in the common subset of PCRE2 and Python's re: bounded
// repeats only, no lookaround, no backreference. So they need time proportional to the text, but
// for a bounded factor.
#ifndef KNOWLEDGE_TEMPLATE_H
#define KNOWLEDGE_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#define TEMPLATE_FIELDS  24   // at most
#define TEMPLATE_BYTES   8192 // of a template or an imported expression, at most
#define TEMPLATE_LITERAL 5    // shortest literal that a record's template must have; see lint.h

struct template_field {
    char name[24];    // "request", "device", …; several fields may share a name (alternatives)
    const char *type; // "size", "bytes", "int", …: static storage. {x:huge} is told as "size"
};

struct template {
    // To be compiled caseless, as bytes (PCRE2_CASELESS, no PCRE2_UTF). Gaps and {x:text} are made
    // with ".": within a line without PCRE2_DOTALL, over line breaks with it.
    char *regex;
    // Field i is the regular expression's group i + 1; there are no other capturing groups.
    struct template_field field[TEMPLATE_FIELDS];
    size_t fields;
    // Every match contains at least one of these: lower case, a run of blanks is one ' ', none at
    // the ends. None if nothing is certain (an imported expression, a template of fields alone).
    char **literal;
    size_t literals;
    size_t shortest; // length of the shortest of them, 0 if there are none
    bool from_begin; // it begins with ^: matches begin where a line or a message does
    size_t fixed;    // characters that every match has to have: how much a match says. Of an
                     // imported expression only those of the literal
};

// Where and why a template is none; one line of text.
struct template_error {
    size_t at; // byte offset in the text
    char reason[120];
};

// Fills *out, which the caller hands to template_free() in either case. `text` ends with NUL and
// may be anything. False, with *error set, if it is no template. Safe in any thread.
bool template_compile(const char *text, struct template *out, struct template_error *error);

// The same of a regular expression (imported records have one instead of templates): no fields, the
// literals found in it, the expression itself unchanged. False for syntax beyond the common subset
// (lookaround, backreferences, possessive and atomic groups, inline flags but a leading "(?i)") and
// for what is no expression at all; but only PCRE2 knows for sure.
bool template_import(const char *regex, struct template *out, struct template_error *error);

void template_free(struct template *out);

#endif
