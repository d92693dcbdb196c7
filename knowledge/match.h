// SPDX-License-Identifier: Apache-2.0
//
// Which records does a text match, and what numbers does it state?
//
// The text is read once by an automaton that knows the literals which the records' templates cannot
// do without. Only where it finds one is a line framed (lines.h) and the template's regular
// expression tried, with limits, first on the line and then on the lines around it. So what is not
// an error costs one table look-up a byte.
//
// A matcher belongs to one thread at a time; several may use the same knowledge.
#ifndef MEMWATCH_MATCH_H
#define MEMWATCH_MATCH_H

#include "lines.h"
#include "number.h"
#include "record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum hit_kind {
    HIT_FAILURE, // one of the record's templates
    HIT_RECOVERY // one of its recovered_by templates: what failed went on
};

#define HIT_FIELDS 24

struct hit_field {
    const char *name; // of the template: "request", "total"
    const char *type; // "size", "bytes", "int", "number", "hex", "word", "path", "text", "quoted"
    const char *text; // as printed, `length` bytes, not terminated
    size_t length;
    bool has_number;
    struct number number; // meaningful if has_number
};

// One place where one template matched. Its texts belong to the matcher and live until the callback
// returns.
struct hit {
    const struct record *record;
    enum hit_kind kind;
    size_t template;     // index in the record's templates (or recovered_by)
    uint64_t line;       // of the first matched byte, counted from 1; only \n ends a line here
    uint64_t last_line;  // of the last one
    uint64_t begin, end; // where in the text, about: offsets that order and overlap as matches do
    // The line, cleaned; of several, joined by \n, only the first keeps its prefixes.
    const char *text;
    size_t text_length;
    size_t match_begin, match_end; // the match within `text`
    struct hit_field field[HIT_FIELDS];
    size_t fields;
    struct line_origin origin;
    size_t literals; // characters that the template fixes: how much the match says
};

// Called with the hits of one place, whose matches overlap or stand on one line: the most specific
// first, at most one a record and kind. Places come in the text's order.
typedef void hits_function(void *context, const struct hit *hits, size_t count);

struct matcher;

// NULL without memory. `knowledge` must outlive the matcher.
struct matcher *matcher_new(const struct knowledge *knowledge, hits_function *function,
                            void *context);
void matcher_free(struct matcher *matcher);

// Before the first text: never to make machine code of regular expressions, as on systems that do
// not allow it.
void matcher_interpret(struct matcher *matcher);

// The next bytes of the text. The result does not depend on how the text is cut into pieces.
void matcher_feed(struct matcher *matcher, const char *bytes, size_t length);

// Decides on all complete lines fed so far, for a text that pauses; more may follow. A message of
// several lines of which some have not come yet may then be told as what its first ones say, or not
// at all.
void matcher_flush(struct matcher *matcher);

// The text is over. The next byte fed would be the first of another one.
void matcher_finish(struct matcher *matcher);

// ---- what it did ----------------------------------------------------------------------------

struct match_statistics {
    uint64_t bytes, lines;
    uint64_t candidates; // places where a literal was found
    uint64_t tried;      // runs of a regular expression
    uint64_t refused;    // of those: ended by a limit, so that nothing is known
    size_t patterns;     // templates and recovered_by templates in use
    size_t left_out;     // that could not be used: no literal, not compilable
    size_t disabled;     // by the circuit breaker, see matcher_disabled
    bool jit;            // regular expressions run as machine code
    bool memory_ran_out; // hits are missing
};
void matcher_statistics(const struct matcher *matcher, struct match_statistics *out);

// The i-th pattern that reached a limit too often, or takes too long, and is not tried any more:
// its record, and in one line why. NULL if there is none.
const struct record *matcher_disabled(const struct matcher *matcher, size_t i, const char **why);

// ---- by return code -------------------------------------------------------------------------

// The records for what a call of `api` ("cuda-driver", "cuda-runtime", "nccl" …) returned. At most
// `most` of them, in the knowledge's order; returns how many there are.
size_t match_code(const struct knowledge *knowledge, const char *api, int64_t code,
                  const struct record **out, size_t most);

#endif
