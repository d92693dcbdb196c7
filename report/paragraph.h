// SPDX-License-Identifier: Apache-2.0
//
// Text for people in lines of a terminal, whatever the text's script and whoever wrote it.
#ifndef MEMWATCH_PARAGRAPH_H
#define MEMWATCH_PARAGRAPH_H

#include <stddef.h>
#include <stdio.h>

#define PARAGRAPH_COLUMNS 80

// Prints `text` in lines of at most PARAGRAPH_COLUMNS columns, the first behind `label`, all from
// column `indent` on (a label that is longer gets a line of its own). Lines break at blanks and, in
// Chinese, between characters. Control characters become '?', what is not UTF-8 U+FFFD: text may
// come from a log, and no terminal may obey it. A \n in the text begins a new line.
void print_paragraph(FILE *out, const char *label, size_t indent, const char *text);

// Columns of a text that ends with NUL.
size_t text_columns(const char *text);

#endif
