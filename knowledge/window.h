// SPDX-License-Identifier: Apache-2.0
//
// What stands around a place of a log: its line, and the lines before and after it, as one text
// that regular expressions can be tried on.
//
// Lines that a progress bar has overwritten, empty lines and the prefixes of continuation lines are
// left out. Terminals and mailers wrap long lines; a text that may have been wrapped is offered
// with its wraps undone, too.
#ifndef MEMWATCH_WINDOW_H
#define MEMWATCH_WINDOW_H

#include "lines.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Lines of a window: so many before the line in the middle and as many after it.
#define WINDOW_LINES 7u
#define WINDOW_PARTS (2u * WINDOW_LINES + 1u)
// What is kept of each of those beside the middle one: of the ones before the tail, of the ones
// after the head.
#define WINDOW_PART  1024u
#define WINDOW_BYTES (LINE_KEPT + 2u * WINDOW_LINES * WINDOW_PART + WINDOW_PARTS)
// No byte further away than this from the place has a say in its window, for any log.
#define WINDOW_REACH 49152u

// Bytes of a log, and where they stand in it.
struct piece {
    const char *bytes;
    size_t length;
    uint64_t offset; // of bytes[0]
};

// A line in a piece: [begin, end) without its end. Of a long line what is next to the place.
struct span {
    size_t begin, end;
    bool from_start, to_end; // it begins and ends where the line does
};

// The line that holds bytes[at]; at < length. The character at a line's end belongs to that line.
struct span window_line(const struct piece *piece, size_t at);

// Where the line after the end at bytes[at] begins, progress bars that it has overwritten left out.
// At most the piece's length.
size_t window_next_line(const struct piece *piece, size_t at);

// How the lines of a window are put together.
enum window_join {
    JOIN_LINES, // by \n
    JOIN_WORDS, // where a line seems to be filled up with words, by a blank
    JOIN_WIDTH, // where a line is as wide as the widest, by nothing
};
#define WINDOW_JOINS 3

struct window_part {
    size_t begin, end; // in the text
    size_t at;         // in the piece: where the line (or what is kept of it) begins
    size_t prefix;     // so many cleaned bytes of it are not in the text
    bool indented;     // blanks come before the message
    struct line_origin origin;
};

struct window {
    char text[WINDOW_BYTES];
    size_t length;
    struct window_part part[WINDOW_PARTS];
    size_t parts;
    size_t middle; // the part that the window was made for
    // For the joins: of each part the columns of the whole line and of its first word.
    size_t columns[WINDOW_PARTS], first_word[WINDOW_PARTS];
};

// The middle line alone, with its prefixes; and without them. No parts: there is nothing.
void window_single(const struct piece *piece, const struct span *line, struct window *out);
void window_message(const struct piece *piece, const struct span *line, struct window *out);
// The lines around it, joined by \n and without prefixes.
void window_lines(const struct piece *piece, const struct span *line, struct window *out);
// Undoes wraps in a window of lines. False if nothing looks wrapped so; the window is unchanged
// then.
bool window_unwrap(struct window *window, enum window_join join);

// Is the middle line of a window of lines source code that a Python traceback shows?
bool window_source_code(const struct window *window);

#endif
