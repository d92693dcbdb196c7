// SPDX-License-Identifier: Apache-2.0
//
// Names and lines of native frames, for as long as there is time.
//
// The work is done in a child process: an object file that is damaged, made up, very large or on a
// network disk that does not answer then costs at most the time that was given, never the report.
// What was learnt is kept, for the next report of the same process.
#ifndef MEMWATCH_RESOLVER_H
#define MEMWATCH_RESOLVER_H

#include "frames.h"

struct resolver;

// `debug_dir`: a folder with debug files or copies of object files; NULL: $MEMWATCH_DEBUG_DIR, if
// that is set. Never NULL; not thread-safe.
struct resolver *resolver_new(const char *debug_dir);
void resolver_free(struct resolver *resolver);

// Asks what stands at a frame's address; the same again costs nothing. `cwd` is what a relative
// path is relative to. Returns the question's number.
uint32_t resolver_ask(struct resolver *resolver, const struct native_frame *frame, const char *cwd);

// Answers what was asked, the first question first, for at most that long.
void resolver_run(struct resolver *resolver, unsigned limit_ms);

// One name of a frame. The texts are terminated, NULL if not known, and live until the next
// resolver_run.
struct name {
    const char *function, *file;
    uint32_t line; // 0 = not known
    bool inlined;  // into the next one
};

// The i-th name, innermost first. False: there are no more.
bool resolver_name(const struct resolver *resolver, uint32_t question, unsigned i,
                   struct name *out);

// What is known of the object files that were asked about.
struct resolver_module {
    const char *path; // "" = code outside any file
    struct span build;
    const char *reason; // why it has no names; NULL if it has
    bool lines;         // has line numbers
};
unsigned resolver_modules(const struct resolver *resolver);
struct resolver_module resolver_module(const struct resolver *resolver, unsigned i);

// Was all that was asked also looked at? False: the time was over.
bool resolver_complete(const struct resolver *resolver);

#endif
