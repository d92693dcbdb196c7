// SPDX-License-Identifier: Apache-2.0
//
// What the code at an address of an object file is: function, source file, line, and the functions
// that were inlined there. C++ and Rust names are demangled.
//
// The files may be damaged or made up, and libdw reads them by the rules of formats that nobody can
// check beforehand: it may take for ever or, for all we know, crash. Whoever cares calls this in a
// process of its own (resolver.h).
#ifndef MEMWATCH_SYMBOLIZE_H
#define MEMWATCH_SYMBOLIZE_H

#include "debug_files.h"

#include <stdbool.h>

#define SYMBOL_NAME 512u // longer ones are cut
#define SYMBOL_FILE 512u

struct symbol {
    char function[SYMBOL_NAME]; // "" = not known
    char file[SYMBOL_FILE];     // "" = not known
    unsigned line;              // 0 = not known
    bool inlined;               // into the next one
};

struct object;

// Finds and opens a file. Never NULL: what cannot be found or read has no symbols, for the reason
// that object_reason tells. The strings of `search` and `build` must outlive it.
struct object *object_open(const struct debug_search *search, const struct build *build);
void object_close(struct object *object);

// Why it has no symbols, in a few words; NULL if it has some. Valid until it is closed.
const char *object_reason(const struct object *object);

// Has it line numbers? Reads its debug information.
bool object_has_lines(struct object *object);

// The name of the function at an address as in the file's symbol table, quickly. False: not known.
bool object_name(struct object *object, uint64_t address, char out[SYMBOL_NAME]);

// What stands at an address, innermost first: inlined functions, then the one that holds them all.
// Returns how many, at most `limit`; 0 = nothing is known that object_name would not tell.
unsigned object_symbols(struct object *object, uint64_t address, struct symbol *out,
                        unsigned limit);

#endif
