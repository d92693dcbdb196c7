// SPDX-License-Identifier: Apache-2.0
//
// What an impossible number really is. A number that a message, an API or a framework states is
// compared with what goes wrong in counters: sentinels, subtractions below zero, wraps, addresses,
// file headers and floats read as sizes, mixed-up units. Arithmetic is exact, in 128 bits, over all
// values that print as the number was printed.
//
// The answer may be that the number is plausible, or that it has two readings. What is arithmetic
// (a fact) and what would explain it (a hypothesis) are separate texts.
//
// Nothing here allocates or keeps state: safe in any thread.
#ifndef KNOWLEDGE_COUNTERS_H
#define KNOWLEDGE_COUNTERS_H

#include "language.h"
#include "number.h"

// What the number counts. The names are those of the fields in the records' templates.
enum counter_role {
    ROLE_NONE,      // not known, or "bytes"
    ROLE_REQUEST,   // what was asked for
    ROLE_ALLOCATED, // by the program
    ROLE_RESERVED,
    ROLE_FREE,
    ROLE_TOTAL, // what the device has
    ROLE_LIMIT,
    ROLE_OTHER, // what others hold: a difference, the device's own figure less ROLE_ALLOCATED
    ROLE_USED,  // of the whole device, as monitors show it
    ROLE_COUNT  // no bytes: a device's index, a pid, a rank, an error code, a shape, a count
};

// By the name of a template's field: "request", "device", …; ROLE_NONE for all others.
enum counter_role counters_role(const char *field);
// Its name, never NULL; of ROLE_NONE "bytes".
const char *counters_role_name(enum counter_role role);

enum counter_platform {
    PLATFORM_UNKNOWN,
    PLATFORM_LINUX,
    PLATFORM_WINDOWS, // allocations beyond the device's memory go to system memory: legitimate
    PLATFORM_MACOS
};

// A number that stands in the same message or comes from the same call.
struct counter_sibling {
    enum counter_role role;
    struct number number;
};

// Addresses that are mapped: a "size" among them is an address.
struct counter_mapping {
    uint64_t first, end; // [first, end)
    const char *name;    // for people; may be NULL
};

// What else is known; all zero is "nothing". Nothing is kept beyond the call.
struct counter_context {
    enum counter_role role;
    uint64_t device_bytes; // memory of the device; 0: unknown, then a sibling of ROLE_TOTAL serves
    bool device_stated;    // by who asks: whatever is more than device_bytes is worth telling then
    uint64_t host_bytes;   // RAM and swap; 0: unknown
    uint64_t expected_bytes; // the same quantity from a second source; 0: there is none
    enum counter_platform platform;
    bool forked;   // the process that printed it is a fork of the one that set the GPU up
    bool at_least; // the text says "more than" before it
    const struct counter_sibling *siblings; // without the number itself
    size_t siblings_count;
    const struct counter_mapping *mappings;
    size_t mappings_count;
};

enum counter_kind {
    COUNTER_PLAUSIBLE,
    COUNTER_SENTINEL,          // "not available" or "unlimited": 2^64-1, 2^63-1, 2^32-1, -1, …
    COUNTER_UNDERFLOW,         // a difference below zero in 64 unsigned bits
    COUNTER_UNDERFLOW_IN_UNIT, // the same in a counter of KiB, MiB or pages, or of 32 bits
    COUNTER_WRAP,              // the upper bits are lost: 2^32 or 2^16 were left out
    COUNTER_NEGATIVE,          // negative, or such that a signed reader sees it negative
    COUNTER_POINTER,           // an address
    COUNTER_MAGIC,             // a file's header or a debugger's fill pattern
    COUNTER_FLOATS,            // two floats or one double
    COUNTER_TAG,               // a plausible number under a marked high byte
    COUNTER_FLAGS,             // small flag bytes read as one integer
    COUNTER_UNIT_MIXUP,        // right in another unit
    COUNTER_FLOAT_ROUNDING,    // went through a 24-bit float: the digits are not its own
    COUNTER_STALE_AFTER_FORK,  // what the parent process had set up, read in a forked child
    COUNTER_WRAPPED_TO_ZERO,   // a request that rounding up turns into 0
    COUNTER_EXCEEDS,           // more than there is: counted twice, or over different scopes
    COUNTER_OVERSIZED_REQUEST, // a real request that no device can meet: wrong shape, not counter
    COUNTER_UNEXPLAINED        // impossible, and of no known pattern
};
#define COUNTER_KINDS (COUNTER_UNEXPLAINED + 1)

// How well a class is supported. Whatever the strength, how the value came to be there remains a
// hypothesis.
enum counter_strength {
    STRENGTH_POSSIBLE, // compatible with it; others are, too
    STRENGTH_PRINTED,  // reproduces all printed digits
    STRENGTH_EXACT     // bit by bit
};

struct counter_class {
    enum counter_kind kind;
    enum counter_strength strength;
    int score;             // 0 to 100; classes come in falling order of it
    number_wide value;     // the bytes that the class takes the number for, before any sibling was
                           // subtracted; for COUNTER_NEGATIVE the magnitude
    number_wide deficit;   // underflows: by how many bytes the difference fell below zero
    uint64_t unit_bytes;   // the reading of the number's unit that this rests on
    unsigned bits;         // of the counter: 16, 32, 64; 0 where it does not matter
    int sibling, sibling2; // indices of the siblings that take part, or -1
    bool as_float;         // rests on the number having gone through a 24-bit float
    const void *entry;     // of the classifier's own tables
};

#define COUNTER_CLASSES 8 // enough for every number seen; more would not be read

// Classes that fit, best first; at least one, which may be COUNTER_PLAUSIBLE, if `max` is not 0.
// Any number and any context are welcome, also senseless ones.
size_t counters_classify(const struct number *n, const struct counter_context *context,
                         struct counter_class *out, size_t max);

enum counter_verdict {
    VERDICT_PLAUSIBLE,  // nothing to say
    VERDICT_AMBIGUOUS,  // plausible, but there is a second reading
    VERDICT_SENTINEL,   // no amount at all
    VERDICT_REQUEST,    // a real number; the request is what is wrong
    VERDICT_IMPLAUSIBLE // cannot be true: a finding
};
enum counter_verdict counters_verdict(const struct counter_class *classes, size_t count);

// Short names, for JSON ("unsigned_underflow") and for people. Never NULL.
const char *counters_kind_id(enum counter_kind kind);
const char *counters_kind_name(enum counter_kind kind, enum language language);
const char *counters_verdict_id(enum counter_verdict verdict);
const char *counters_strength_id(enum counter_strength strength);

enum counter_text {
    TEXT_FACT,       // the arithmetic: true whatever the cause
    TEXT_HYPOTHESIS, // what would explain it; "" if there is nothing to guess
    TEXT_NOT         // what it is not, where it is often mistaken; "" mostly
};
#define COUNTER_TEXT 768

// One or two sentences on a class that counters_classify() returned for this number and context.
// UTF-8, one line, always NUL-terminated, cut if `size` is too small. Returns `out`.
const char *counters_text(const struct number *n, const struct counter_context *context,
                          const struct counter_class *class, enum counter_text which,
                          enum language language, char *out, size_t size);

#endif
