// SPDX-License-Identifier: Apache-2.0
//
// The command line of `memwatch run`, and the environment that comes of it. Every option of the
// library (interpose/options.def) is an option here: MEMWATCH_LEDGER_DIR is --ledger-dir.
#include "library.h"
#include "memwatch.h"
#include "run.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum kind { KIND_BOOL, KIND_MIB, KIND_COUNT, KIND_PATH, KIND_CHOICE };

struct row {
    const char *name, *variable;
    enum kind kind;
    const char *words; // of a choice, separated by '|'
    uint64_t most;     // of a count
};
#define BOOL                                        KIND_BOOL, NULL, 0
#define MIB                                         KIND_MIB, NULL, 0
#define COUNT(most)                                 KIND_COUNT, NULL, most
#define PATH(use)                                   KIND_PATH, NULL, 0
#define CHOICE(words)                               KIND_CHOICE, words, 0
#define OPTION(id, variable, kind, otherwise, help) {#id, variable, kind},
static const struct row rows[] = {
#include "../interpose/options.def"
};
#define ROWS (sizeof rows / sizeof rows[0])

// An option's name as it is typed: ledger_dir is --ledger-dir.
static void typed_name(const char *id, char *out, size_t bytes) {
    snprintf(out, bytes, "%s", id);
    for (char *c = out; *c; c++)
        if (*c == '_') *c = '-';
}

static const char *argument_name(const struct row *row) {
    static const char *const names[] = {
        [KIND_BOOL] = "0|1", [KIND_MIB] = "MIB", [KIND_COUNT] = "COUNT", [KIND_PATH] = "PATH"};
    return row->kind == KIND_CHOICE ? row->words : names[row->kind];
}

// What the option takes, as a sentence says it.
static const char *taken(const struct row *row, char *out, size_t bytes) {
    size_t n = 0;
    switch (row->kind) {
    case KIND_BOOL:
        return "0 or 1";
    case KIND_MIB:
        return "a whole number of MiB from 1 on";
    case KIND_COUNT:
        snprintf(out, bytes, "a number from 1 to %" PRIu64, row->most);
        return out;
    case KIND_CHOICE:
        for (const char *w = row->words; *w && n < bytes; w++)
            n += (size_t)snprintf(out + n, bytes - n,
                                  *w != '|'            ? "%.1s"
                                  : strchr(w + 1, '|') ? ", "
                                                       : " or ",
                                  w);
        return out;
    case KIND_PATH:
        break;
    }
    return "a path";
}

static void print_help(void) {
    puts("Usage: memwatch run [OPTION]... [--] COMMAND [ARGUMENT]...\n"
         "\n"
         "Runs COMMAND with GPU memory recorded, and leaves a JSON report of every process\n"
         "of it that used a GPU. Input, output, signals, the terminal and the exit status\n"
         "are COMMAND's own; a line on standard error names each report. What COMMAND\n"
         "prints to standard error is read along for the reports, but not on a terminal.\n"
         "\n"
         "  -q, --quiet             do not print those lines\n"
         "      --no-stderr         give COMMAND our standard error itself: for programs\n"
         "                          that read from it, or that must know what it is\n"
         "      --all-stderr        read it along also where it is the terminal that\n"
         "                          standard output goes to: what COMMAND prints to the\n"
         "                          one may then overtake what it prints to the other");
    for (size_t i = 0; i < ROWS; i++) {
        char name[32], typed[64];
        typed_name(rows[i].name, name, sizeof name);
        snprintf(typed, sizeof typed, "--%s %s", name, argument_name(&rows[i]));
        printf("      %-22s as %s\n", typed, rows[i].variable);
    }
    puts("  -h, --help              this text\n"
         "\n"
         "`memwatch --help` explains the MEMWATCH_* variables. MEMWATCH_LIBRARY names\n"
         "libmemwatch.so where it is neither beside this program nor in ../lib.\n"
         "\n"
         "Exit status: COMMAND's; if a signal ended it, the same signal ends us.\n"
         "125: `memwatch run` itself failed, 126: COMMAND cannot be executed, 127: it was\n"
         "not found.");
}

static bool is_word(const char *words, const char *value) {
    size_t n = strlen(value);
    for (const char *w = words; w; w = strchr(w, '|') ? strchr(w, '|') + 1 : NULL)
        if (strncmp(w, value, n) == 0 && (w[n] == '|' || w[n] == '\0')) return n > 0;
    return false;
}

static bool is_valid(const struct row *row, const char *value) {
    char *end;
    switch (row->kind) {
    case KIND_BOOL:
        return strcmp(value, "0") == 0 || strcmp(value, "1") == 0;
    case KIND_MIB:
        return strtoull(value, &end, 10) > 0 && *end == '\0' && value[0] != '-';
    case KIND_COUNT:
        return value[0] >= '0' && value[0] <= '9' && strtoull(value, &end, 10) > 0 &&
               strtoull(value, &end, 10) <= row->most && *end == '\0';
    case KIND_CHOICE:
        return is_word(row->words, value);
    case KIND_PATH:
        break;
    }
    return *value != '\0';
}

// Puts one option into the environment. Paths are made absolute, since the program may change its
// working directory before the library reads them; folders are made if need be.
static int set_option(const struct row *row, const char *value) {
    char name[32], words[128], absolute[PATH_MAX];
    typed_name(row->name, name, sizeof name);
    if (!is_valid(row, value))
        return fail(EXIT_RUN_FAILED, "run: --%s takes %s, not '%s'", name,
                    taken(row, words, sizeof words), value);
    if (row->kind == KIND_PATH) {
        size_t n = strlen(name);
        bool folder = n >= 3 && strcmp(name + n - 3, "dir") == 0;
        if (folder && mkdir(value, 0777) != 0 && errno != EEXIST)
            return fail(EXIT_RUN_FAILED, "run: cannot make the folder %s: %s", value,
                        strerror(errno));
        if (!realpath(value, absolute))
            return fail(EXIT_RUN_FAILED, "run: %s: %s", value, strerror(errno));
        value = absolute;
    }
    return setenv(row->variable, value, 1) == 0 ? -1
                                                : fail(EXIT_RUN_FAILED, "run: %s", strerror(errno));
}

static int preload(void) {
    char program[PATH_MAX], library[PATH_MAX];
    program_path(program);
    if (!library_find(library))
        return fail(
            EXIT_RUN_FAILED,
            "run: libmemwatch.so is neither where MEMWATCH_LIBRARY says nor beside this program "
            "nor in ../lib; set MEMWATCH_LIBRARY to its path");
    if (strpbrk(library, PRELOAD_SEPARATORS))
        return fail(EXIT_RUN_FAILED,
                    "run: %s cannot be preloaded: the path has a space or a colon, which separate "
                    "names in LD_PRELOAD; link or copy it elsewhere and set MEMWATCH_LIBRARY",
                    library);
    if (*program) setenv("MEMWATCH_PROGRAM", program, 0);
    char *list = library_preload_list(library);
    bool ok = list && setenv("LD_PRELOAD", list, 1) == 0;
    free(list);
    return ok ? -1 : fail(EXIT_RUN_FAILED, "run: %s", strerror(ENOMEM));
}

int run_options(int argc, char **argv, struct run_options *out) {
    enum { OPTION_ROW = 256, OWN = 4 };
    static char names[ROWS][32];
    struct option options[ROWS + OWN + 1] = {{"help", no_argument, NULL, 'h'},
                                             {"quiet", no_argument, NULL, 'q'},
                                             {"no-stderr", no_argument, NULL, 'n'},
                                             {"all-stderr", no_argument, NULL, 'a'}};
    for (size_t i = 0; i < ROWS; i++) {
        typed_name(rows[i].name, names[i], sizeof names[i]);
        options[i + OWN] = (struct option){names[i], required_argument, NULL, OPTION_ROW + (int)i};
    }
    *out = (struct run_options){0};
    optind = 1;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "+:hq", options, NULL)) != -1;) {
        int code = -1;
        if (c == 'h') {
            print_help();
            return 0;
        }
        if (c == 'q')
            out->quiet = true;
        else if (c == 'n')
            out->pass_stderr = true;
        else if (c == 'a')
            out->all_stderr = true;
        else if (c >= OPTION_ROW)
            code = set_option(&rows[c - OPTION_ROW], optarg);
        else if (c == ':')
            code = fail(EXIT_RUN_FAILED, "run: %s needs a value", argv[optind - 1]);
        else if (c == '?')
            code = fail(EXIT_RUN_FAILED, "run: unknown option %s; see `memwatch run --help`",
                        argv[optind - 1]);
        if (code >= 0) return code;
    }
    const char *keep = getenv("MEMWATCH_STDERR"); // --keep-stderr is there, too
    if (keep && !strcmp(keep, "0")) out->pass_stderr = true;
    out->command = argv + optind;
    if (!out->command[0])
        return fail(EXIT_RUN_FAILED, "run: no command given; see `memwatch run --help`");
    return preload();
}
