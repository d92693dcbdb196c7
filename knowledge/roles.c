// SPDX-License-Identifier: Apache-2.0
//
// Roles by words (roles.h). Programs write "max allowed: 30.19 GiB" or "7.79 GiB total capacity":
// whether the words come first is told by the clause's beginning, and of several the nearest
// counts.
#include "roles.h"

#include <string.h>

#define CLAUSE 80 // bytes to either side; further away words belong to something else

// Words of messages listed in the records. Longer ones come first where one contains another.
static const struct {
    const char *words;
    enum counter_role role;
} table[] = {
    {"other allocations", ROLE_OTHER},
    {"tried to allocate", ROLE_REQUEST},
    {"trying to allocate", ROLE_REQUEST},
    {"failed to alloc", ROLE_REQUEST},
    {"unable to allocate", ROLE_REQUEST},
    {"attempting to allocate", ROLE_REQUEST},
    {"max allowed", ROLE_LIMIT},
    {"not allocated", ROLE_FREE},
    {"to allocate", ROLE_REQUEST},
    {"allocating", ROLE_REQUEST},
    {"request", ROLE_REQUEST},
    {"allocated", ROLE_ALLOCATED},
    {"limit", ROLE_LIMIT},
    {"maximum", ROLE_LIMIT},
    {"reserved", ROLE_RESERVED},
    {"cached", ROLE_RESERVED},
    {"total", ROLE_TOTAL},
    {"capacity", ROLE_TOTAL},
    {"capacty", ROLE_TOTAL}, // so it is spelled in PyTorch 2.1
    {"free", ROLE_FREE},
    {"available", ROLE_FREE},
    {"remaining", ROLE_FREE},
    {"in use", ROLE_USED},
    {"used", ROLE_USED},
    {"usage", ROLE_USED},
};
#define ROWS (sizeof table / sizeof table[0])

// What follows these is a name or a number of order.
static const char *const labels[] = {"gpu",  "device", "process", "pid",  "rank",  "step",
                                     "line", "code",   "error",   "node", "epoch", "worker"};
#define LABELS (sizeof labels / sizeof labels[0])

static const char *const separators[] = {", ",          ";", "(",          ")",     "\n",
                                         ". ",          "|", " of which ", " and ", "\xef\xbc\x8c",
                                         "\xe3\x80\x82"}; // "，", "。"
#define SEPARATORS (sizeof separators / sizeof separators[0])

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool is_letter(char c) {
    return lower(c) >= 'a' && lower(c) <= 'z';
}

static bool here(const char *text, size_t length, size_t at, const char *words) {
    for (; *words; words++, at++)
        if (at >= length || lower(text[at]) != *words) return false;
    return true;
}

// The length of the separator at `at`, 0 if there is none.
static size_t separator(const char *text, size_t length, size_t at) {
    for (size_t i = 0; i < SEPARATORS; i++)
        if (here(text, length, at, separators[i])) return strlen(separators[i]);
    return 0;
}

static size_t clause_begin(const char *text, size_t length, size_t at) {
    size_t from = at > CLAUSE ? at - CLAUSE : 0;
    for (size_t i = at; i > from; i--) {
        size_t n = separator(text, length, i - 1);
        if (n && i - 1 + n <= at) return i - 1 + n;
    }
    return from;
}

static size_t clause_end(const char *text, size_t length, size_t at) {
    size_t to = length - at > CLAUSE ? at + CLAUSE : length;
    for (size_t i = at; i < to; i++)
        if (separator(text, length, i)) return i;
    return to;
}

// The row of the words that begin at `at`, or ROWS.
static size_t row_at(const char *text, size_t begin, size_t end, size_t at) {
    if (at > begin && is_letter(text[at - 1])) return ROWS;
    for (size_t i = 0; i < ROWS; i++)
        if (here(text, end, at, table[i].words)) return i;
    return ROWS;
}

// The role of the words nearest to the near end of [begin, end): its end, if `last`.
static enum counter_role nearest(const char *text, size_t begin, size_t end, bool last) {
    enum counter_role role = ROLE_NONE;
    for (size_t i = begin; i < end;) {
        size_t row = row_at(text, begin, end, i);
        if (row == ROWS) {
            i++;
            continue;
        }
        role = table[row].role;
        if (!last) return role;
        i += strlen(table[row].words);
    }
    return role;
}

static bool words_come_first(const char *text, size_t begin, size_t at) {
    for (size_t i = begin; i < at; i++) {
        if (text[i] >= '0' && text[i] <= '9') return false;
        if (row_at(text, begin, at, i) < ROWS) return true;
    }
    return false;
}

static bool is_labelled(const char *text, size_t at) {
    while (at && strchr(" :=#", text[at - 1])) at--;
    for (size_t i = 0; i < LABELS; i++) {
        size_t n = strlen(labels[i]);
        if (at >= n && here(text, at, at - n, labels[i]) &&
            (at == n || !is_letter(text[at - n - 1])))
            return true;
    }
    return false;
}

enum counter_role roles_guess(const char *text, size_t length, size_t at, size_t taken,
                              bool *at_least) {
    static const char more_than[] = "more than ";
    size_t after = at + taken, begin = clause_begin(text, length, at);
    size_t end = clause_end(text, length, after);
    *at_least = at - begin >= sizeof more_than - 1 &&
                here(text, at, at - (sizeof more_than - 1), more_than);
    if (is_labelled(text, at)) return ROLE_COUNT;
    bool first = words_come_first(text, begin, at);
    enum counter_role role =
        first ? nearest(text, begin, at, true) : nearest(text, after, end, false);
    if (role != ROLE_NONE) return role;
    return first ? nearest(text, after, end, false) : nearest(text, begin, at, true);
}
