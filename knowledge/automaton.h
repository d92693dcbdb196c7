// SPDX-License-Identifier: Apache-2.0
//
// Many literals found in one pass over raw log bytes (Aho and Corasick, "Efficient string
// matching", 1975), as a dense table: one look-up a byte, whatever the number of literals.
//
// Letters are folded (ASCII), control characters are blanks, a run of blanks is one, and NULs are
// nothing, so that UTF-16 text and wrapped lines need no copy. Where more than a table is needed,
// at the end of a line or an escape sequence in the middle of a literal, the scan pauses.
#ifndef MEMWATCH_AUTOMATON_H
#define MEMWATCH_AUTOMATON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct automaton;

// Longer literals are looked for by their first bytes.
#define AUTOMATON_LITERAL 32

// Prepares a literal: folded, runs of blanks made one, none at the ends, cut. Returns its length.
size_t automaton_literal(const char *text, size_t length, char out[AUTOMATON_LITERAL]);

// `literal[i]` is NUL-terminated and prepared; equal ones are welcome, "" is never found. NULL
// without memory or if the table would exceed 256 MiB. The texts are not kept.
struct automaton *automaton_new(const char *const *literal, size_t count);
void automaton_free(struct automaton *automaton);

// A state is what of the literals the text seen so far ends with. The first one is 0.
typedef uint32_t automaton_state;

enum automaton_stop {
    AUTOMATON_END,    // of the text
    AUTOMATON_FOUND,  // literals end with the byte before `*at`: automaton_found
    AUTOMATON_LINE,   // a line ends with the byte before `*at`, within a literal perhaps; the state
                      // is the one before that byte
    AUTOMATON_ESCAPE, // the byte before `*at` is ESC; the state is the one before it
};

// Reads on from `*at` to `end`, until something is to be told. Line ends and escapes at which no
// literal can be pending do not stop it.
enum automaton_stop automaton_scan(const struct automaton *automaton, automaton_state *state,
                                   const unsigned char **at, const unsigned char *end);

// The state after a blank; 0 if nothing can be pending any more.
automaton_state automaton_blank(const struct automaton *automaton, automaton_state state);
// How many bytes of prepared literal the state stands for.
unsigned automaton_depth(const struct automaton *automaton, automaton_state state);

// Which literals end in a state: starts with `*chain` = AUTOMATON_FIRST, false when there are no
// more.
#define AUTOMATON_FIRST UINT32_MAX
bool automaton_found(const struct automaton *automaton, automaton_state state, uint32_t *chain,
                     size_t *literal);

#endif
