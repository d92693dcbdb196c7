// SPDX-License-Identifier: Apache-2.0
//
// Lines of logs as people's tools leave them: coloured, prefixed by launchers and collectors, ended
// by \n or \r (progress bars), with NUL bytes (UTF-16, sparse files) and of any length.
#ifndef MEMWATCH_LINES_H
#define MEMWATCH_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What is kept of a line: its head and its tail.
#define LINE_HEAD 6144u
#define LINE_TAIL 2048u
#define LINE_KEPT (LINE_HEAD + LINE_TAIL)

// Who wrote a line and when, as its prefixes tell.
struct line_origin {
    int rank;        // -1: not told
    int64_t pid;     // -1: not told
    double seconds;  // time stamp; only differences mean something. NAN: not told
    char source[48]; // container, pod or host; "" if not told
};

// How many bytes the ANSI escape sequence at `text` (which begins with ESC) has within `length`.
// One that does not end there is only its introducer: what follows it may be a message.
size_t line_escape(const char *text, size_t length);

// Copies a line (without its end) to `out` as plain text: escape sequences, NULs and trailing
// blanks are gone, other control characters are blanks. Of a longer line the first LINE_HEAD and
// the last LINE_TAIL bytes are kept, adjoining; *cut tells. Bytes that are no UTF-8 stay what they
// are. Returns the length in `out`; no NUL is added.
size_t line_clean(const char *raw, size_t length, char out[LINE_KEPT], bool *cut);

// The length of all prefixes that log collectors and launchers put before a cleaned line: time
// stamps, [rank3]:, "worker-1  | ", (Actor pid=7), glog's and syslog's heads, levels. Blanks that
// belong to the message stay. What no prefix tells is left as it is in `origin`, which may be NULL:
// line_origin_init comes first.
size_t line_prefix(const char *text, size_t length, struct line_origin *origin);
void line_origin_init(struct line_origin *origin);

#endif
