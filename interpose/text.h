// SPDX-License-Identifier: Apache-2.0
//
// Text in fixed buffers without stdio: the library runs where stdio may be unready, locked by a
// stopped thread, or the program's own. Every buffer is always NUL-terminated; what does not fit is
// cut, and `full` tells so.
#ifndef MEMWATCH_TEXT_H
#define MEMWATCH_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mw_text {
    char *at;
    size_t room; // bytes left, the terminator's included
    bool full;
};

static inline struct mw_text mw_text(char *buffer, size_t size) {
    buffer[0] = 0;
    return (struct mw_text){buffer, size, false};
}

static inline void mw_put(struct mw_text *t, const char *s) {
    for (; *s; s++) {
        if (t->room < 2) {
            t->full = true;
            return;
        }
        *t->at++ = *s;
        t->room--;
        *t->at = 0;
    }
}

static inline void mw_put_number(struct mw_text *t, uint64_t n) {
    char digits[21], *d = digits + 20;
    *d = 0;
    do *--d = (char)('0' + n % 10);
    while (n /= 10);
    mw_put(t, d);
}

static inline bool mw_same(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

// A decimal number that fills the whole string; false otherwise, or if it exceeds `max`.
static inline bool mw_number(const char *s, uint64_t max, uint64_t *out) {
    uint64_t n = 0;
    if (!*s) return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9' || n > max / 10) return false;
        n = n * 10 + (uint64_t)(*s - '0');
        if (n > max) return false;
    }
    *out = n;
    return true;
}

#endif
