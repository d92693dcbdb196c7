// SPDX-License-Identifier: Apache-2.0
//
// Reads the options table (options.def) from the environment: silently at the start, and again when
// the library wakes. Complaining about a wrong value, then, is the only thing it ever prints: a
// process that uses no GPU says nothing.
#include "options.h"

#include "ledger_format.h"
#include "text.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define PATH_BYTES 512 // more than a path in the ledger or of the companion may have

enum kind { KIND_BOOL, KIND_MIB, KIND_COUNT, KIND_PATH, KIND_CHOICE };

enum use { FOLDER, NEW_FOLDER, PROGRAM };

struct row {
    const char *name, *words; // words of a CHOICE, separated by '|'; what a COUNT or PATH must be
    enum kind kind;
    uint64_t most; // of a COUNT; of a PATH its enum use
    size_t offset;
    uint64_t number;  // default of a number
    const char *path; // default of a path
};

// A default is a number or a string by the option's kind: _Generic picks the field.
#define NUMBER(x)        _Generic((x), char * : 0, default : (x))
#define STRING(x)        _Generic((x), char * : (x), default : "")
#define BOOL             KIND_BOOL, NULL, 0
#define MIB              KIND_MIB, NULL, 0
#define COUNT(most)      KIND_COUNT, "a number from 1 to " #most, most
#define PATH(use)        KIND_PATH, use##_WORDS, use
#define FOLDER_WORDS     "a folder that can be written to"
#define NEW_FOLDER_WORDS FOLDER_WORDS " or made"
#define PROGRAM_WORDS    "a program that can be executed"
#define CHOICE(words)    KIND_CHOICE, words, 0
#define ROW(id, environment, kind_, words_, most_, otherwise)                                      \
    {.name = (environment),                                                                        \
     .words = (words_),                                                                            \
     .kind = (kind_),                                                                              \
     .most = (most_),                                                                              \
     .offset = offsetof(struct mw_options, id),                                                    \
     .number = NUMBER(otherwise),                                                                  \
     .path = STRING(otherwise)},
#define EXPAND(...)                                    ROW(__VA_ARGS__) // a kind expands to three of ROW's arguments
#define OPTION(id, environment, kind, otherwise, help) EXPAND(id, environment, kind, otherwise)
static const struct row rows[] = {
#include "options.def"
};

static void tell_wrong(const struct row *r, const char *value) {
    static const char *const wanted[] = {[KIND_BOOL] = "0 or 1",
                                         [KIND_MIB] = "a number of MiB, at least 4",
                                         [KIND_COUNT] = "",
                                         [KIND_PATH] = "",
                                         [KIND_CHOICE] = "one of "};
    char line[512];
    struct mw_text t = mw_text(line, sizeof line);
    mw_put(&t, "memwatch: ");
    mw_put(&t, r->name);
    mw_put(&t, "=");
    for (size_t i = 0; value[i] && i < 64; i++) // a value may hold anything: keep it on one line
        mw_put(&t, (char[]){value[i] >= ' ' && value[i] < 127 ? value[i] : '?', 0});
    mw_put(&t, " is not ");
    mw_put(&t, wanted[r->kind]);
    if (r->words) mw_put(&t, r->words);
    mw_put(&t, "; the default is used\n");
    // Only where it can neither block nor raise SIGPIPE: a pipe that is full, or that nobody reads.
    struct pollfd standard_error = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&standard_error, 1, 0) != 1 || standard_error.revents != POLLOUT) return;
    ssize_t ignored = write(STDERR_FILENO, line, (size_t)(t.at - line));
    (void)ignored;
}

// The index of `value` among words separated by '|', or -1.
static int choice(const char *words, const char *value) {
    for (int index = 0;; index++) {
        const char *v = value;
        while (*words && *words != '|' && *words == *v) words++, v++;
        if ((*words == 0 || *words == '|') && *v == 0) return index;
        while (*words && *words != '|') words++;
        if (*words++ == 0) return -1;
    }
}

static bool parse(const struct row *r, const char *value, uint64_t *out) {
    int index;
    switch (r->kind) {
    case KIND_BOOL:
        return mw_number(value, 1, out);
    case KIND_MIB:
        return mw_number(value, UINT64_C(1) << 20, out) && *out >= 4;
    case KIND_COUNT:
        return mw_number(value, r->most, out) && *out >= 1;
    case KIND_CHOICE:
        index = choice(r->words, value);
        *out = (uint64_t)index;
        return index >= 0;
    default:
        return false;
    }
}

// The dot: of anything but a folder it is not there.
static bool is_folder(const char *path, int mode) {
    char dot[PATH_BYTES + 2];
    struct mw_text t = mw_text(dot, sizeof dot);
    mw_put(&t, path);
    mw_put(&t, "/.");
    return !t.full && access(dot, mode) == 0;
}

// As far as the folders of a path are there; the others can be made if the last of those lets them.
static bool can_be_made(const char *folder) {
    char path[PATH_BYTES];
    struct mw_text t = mw_text(path, sizeof path);
    mw_put(&t, *folder == '/' ? "" : "./");
    mw_put(&t, folder);
    if (t.full) return false;
    while (access(path, F_OK) != 0 && errno == ENOENT) {
        char *slash = strrchr(path, '/');
        if (!slash) return false;
        slash[slash == path] = 0; // of the root the slash stays
    }
    return is_folder(path, W_OK | X_OK);
}

static bool is_usable(const struct row *r, const char *path) {
    switch ((enum use)r->most) {
    case FOLDER:
        return is_folder(path, W_OK | X_OK);
    case NEW_FOLDER:
        return can_be_made(path);
    default:
        return strlen(path) < PATH_BYTES && access(path, X_OK) == 0 && !is_folder(path, F_OK);
    }
}

void mw_options_read(struct mw_options *options, bool complain) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *r = &rows[i];
        char *field = (char *)options + r->offset;
        const char *value = getenv(r->name);
        if (r->kind == KIND_PATH) {
            bool wrong = complain && value && *value && !is_usable(r, value);
            if (wrong) tell_wrong(r, value);
            *(const char **)field = value && !wrong ? value : r->path;
            continue;
        }
        uint64_t number = r->number;
        if (value && *value && !parse(r, value, &number)) {
            if (complain) tell_wrong(r, value);
            number = r->number;
        }
        *(uint64_t *)field = number;
    }
}

// One option, before the others are wanted. In a setuid program the environment is not trusted.
static uint64_t option_at(size_t offset, uint64_t otherwise) {
    struct mw_options all;
    if (getauxval(AT_SECURE)) return otherwise;
    mw_options_read(&all, false);
    return *(const uint64_t *)((const char *)&all + offset);
}

bool mw_option_deepbind(void) {
    return option_at(offsetof(struct mw_options, deepbind), false);
}

int mw_option_tensors(void) {
    return (int)option_at(offsetof(struct mw_options, tensors), MW_TENSORS_OFF);
}
