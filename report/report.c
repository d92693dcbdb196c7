// SPDX-License-Identifier: Apache-2.0
//
// memwatch report: what a ledger, a report, a folder of them or a process has to tell.
#define _GNU_SOURCE // versionsort
#include "emit.h"
#include "journal.h"
#include "memwatch.h"
#include "source.h"
#include "summary.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char help[] =
    "Usage: memwatch report [OPTION]... FILE|DIR|PID...\n"
    "\n"
    "Shows what was recorded. FILE is a ledger, also of a process that still runs, or\n"
    "a JSON report. DIR is a folder of them: a line for each and totals. PID is a\n"
    "process, running or dead, whose ledger or report can be found. Several\n"
    "are shown one after another, as text.\n"
    "\n"
    "      --format FORMAT  text (default) or json\n"
    "      --sort KEY       by what sites are sorted: live (default), peak,\n"
    "                       allocated, failed, age (the oldest live block first)\n"
    "      --group-by WHAT  add sites up by line, function, module, thread or device;\n"
    "                       site (default) shows each with its stack\n"
    "      --limit N        show so many sites or groups (10)\n"
    "      --all-frames     show whole stacks, with the frames of the interpreter, of\n"
    "                       the loader and of memwatch itself\n"
    "      --debug-dir DIR  look there, too, for debug files and for copies of the\n"
    "                       program's files; also MEMWATCH_DEBUG_DIR\n"
    "      --check          tell instead whether the ledger agrees with itself\n"
    "  -o, --output FILE    write to FILE instead of standard output\n"
    "      --sweep          also turn each ledger whose process is dead into a report\n"
    "                       where the process wanted it, and remove the ledger; of a\n"
    "                       DIR also the files that killed `memwatch run`s have left\n"
    "  -h, --help           this text\n"
    "\n"
    "Exit status: 0; 1 a check did not hold; 2 wrong usage; 3 a file is unreadable,\n"
    "damaged, not ours or of another version; 4 there is nothing to report.\n";

struct options {
    bool json, check, sweep;
    const char *output, *debug_dir;
    char *const *subject; // until NULL
    struct view view;
};

// Of a finished process nobody waits for this but the user, who can end it.
#define NAMING_MS 30000

// A wrong value of an option that takes one of several words.
static int wrong_word(const char *option, const char *value, const char *(*name)(unsigned)) {
    char words[128];
    size_t n = 0;
    for (unsigned i = 0; name(i) && n < sizeof words; i++)
        n += (size_t)snprintf(words + n, sizeof words - n, "%s%s",
                              !i            ? ""
                              : name(i + 1) ? ", "
                                            : " or ",
                              name(i));
    return fail(EXIT_USAGE, "report: --%s takes %s, not '%s'", option, words, value);
}

static int read_view_option(int option, struct options *o) {
    struct stat st;
    unsigned long limit;
    char *end;
    switch (option) {
    case 'S':
        return view_sort(optarg, &o->view.sort) ? -1 : wrong_word("sort", optarg, view_sort_name);
    case 'g':
        return view_group(optarg, &o->view.group) ? -1
                                                  : wrong_word("group-by", optarg, view_group_name);
    case 'l':
        limit = strtoul(optarg, &end, 10);
        o->view.limit = (unsigned)limit;
        if (*optarg >= '0' && *optarg <= '9' && !*end && limit && limit <= INT_MAX) return -1;
        return fail(EXIT_USAGE, "report: --limit takes a number from 1 on, not '%s'", optarg);
    case 'd':
        o->debug_dir = optarg;
        if (stat(optarg, &st) == 0 && S_ISDIR(st.st_mode)) return -1;
        return fail(EXIT_USAGE, "report: --debug-dir: %s is no folder", optarg);
    }
    return -1;
}

// -1: go on.
static int read_command_line(int argc, char **argv, struct options *o) {
    static const struct option options[] = {{"format", required_argument, NULL, 'f'},
                                            {"check", no_argument, NULL, 'c'},
                                            {"output", required_argument, NULL, 'o'},
                                            {"sweep", no_argument, NULL, 's'},
                                            {"sort", required_argument, NULL, 'S'},
                                            {"group-by", required_argument, NULL, 'g'},
                                            {"limit", required_argument, NULL, 'l'},
                                            {"all-frames", no_argument, NULL, 'a'},
                                            {"debug-dir", required_argument, NULL, 'd'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    optind = 1;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "ho:", options, NULL)) != -1;) {
        bool known = c != '?';
        if (c == 'h') {
            fputs(help, stdout);
            return EXIT_OK;
        }
        if (c == 'a') o->view.all_frames = true;
        int code = read_view_option(c, o);
        if (code >= 0) return code;
        if (c == 'c') o->check = true;
        if (c == 's') o->sweep = true;
        if (c == 'o') o->output = optarg;
        if (c == 'f') {
            o->json = !strcmp(optarg, "json");
            if (!o->json && strcmp(optarg, "text") != 0)
                return fail(EXIT_USAGE, "report: --format takes text or json, not '%s'", optarg);
        }
        if (!known)
            return fail(EXIT_USAGE, "report: wrong argument '%s'; see `memwatch report --help`",
                        argv[optind - 1]);
    }
    if (optind == argc)
        return fail(EXIT_USAGE,
                    "report: a FILE, DIR or PID is needed; see `memwatch report --help`");
    if (o->json && argc - optind > 1)
        return fail(EXIT_USAGE, "report: --format json is one document: give one FILE, DIR or PID");
    o->subject = argv + optind;
    return -1;
}

static void print_json(FILE *out, const cJSON *document) {
    char *text = cJSON_PrintBuffered(document, 1 << 16, true);
    if (!text) exit(fail(EXIT_DAMAGED, "out of memory"));
    fputs(text, out);
    fputs("\n", out);
    free(text);
}

// ---- one file -------------------------------------------------------------------------------

static bool check_holds(const struct source *s) {
    if (s->is_ledger) return s->check.ok;
    return json_is_true(json_get(json_get(s->report, "ledger"), "check"), "ok");
}

// What holds and what does not, a line each.
static void print_check(FILE *out, const struct source *s) {
    const cJSON *ledger = json_get(s->report, "ledger"), *line;
    uint64_t in_flight = json_u64(ledger, "in_flight");
    for (unsigned i = 0; i < s->check.rows; i++) {
        const struct check_row *row = &s->check.row[i];
        fprintf(out, "%s  ", row->ok ? "ok   " : "WRONG");
        fprintf(out, "%llu %s", (unsigned long long)row->compared, row->holds);
        if (row->differing) fprintf(out, " (off by %llu)", (unsigned long long)row->differing);
        fputs("\n", out);
    }
    cJSON_ArrayForEach(line,
                       json_get(json_get(ledger, "check"), "differences")) if (cJSON_IsString(line))
        print_wrapped(out, line->valuestring, 7);
    bool holds = check_holds(s);
    fprintf(out, "the ledger %s with itself", holds ? "agrees" : "does not agree");
    if (in_flight)
        fprintf(out, "%s for %llu events under way", holds ? ", but" : ", even allowing",
                (unsigned long long)in_flight);
    fputs("\n", out);
}

// A dead process's ledger becomes a report.
static enum exit_code sweep(const char *path, const struct source *s) {
    struct rendered rendered;
    if (!s->is_ledger || s->alive) return EXIT_OK;
    enum exit_code code = render_ledger(path, path, RENDER_FINAL, &rendered);
    if (code != EXIT_OK) return (enum exit_code)fail(code, "%s: %s", path, rendered.error);
    fprintf(stderr, "memwatch: %s\n", rendered.path);
    return EXIT_OK;
}

static enum exit_code report_file(FILE *out, const char *path, const struct options *o) {
    struct source s;
    struct naming naming = {resolver_new(o->debug_dir), o->check ? 0 : NAMING_MS, o->view.sort};
    enum exit_code code = source_read(path, &naming, &s);
    if (code == EXIT_OK && !s.is_ledger && (o->debug_dir || getenv("MEMWATCH_DEBUG_DIR")))
        report_resolve(s.report, &naming);
    resolver_free(naming.resolver);
    if (code != EXIT_OK) return (enum exit_code)fail(code, "%s: %s", path, s.error);
    if (o->json)
        print_json(out, s.report);
    else if (o->check)
        print_check(out, &s);
    else
        print_report(out, s.report, &o->view);
    if (o->check && !check_holds(&s)) code = EXIT_FINDING;
    if (o->sweep) {
        enum exit_code swept = sweep(path, &s);
        if (code == EXIT_OK) code = swept;
    }
    source_free(&s);
    return code;
}

// ---- a folder -------------------------------------------------------------------------------

static int ours(const struct dirent *e) {
    return is_ledger_name(e->d_name) || is_report_name(e->d_name);
}

// A ledger's report so far stands beside it under the same name: the ledger knows better.
static bool superseded(char *const name[], int n, int i) {
    if (!is_report_name(name[i])) return false;
    size_t stem = strlen(name[i]) - strlen("json");
    for (int k = 0; k < n; k++)
        if (is_ledger_name(name[k]) && strlen(name[k]) == stem + strlen("ledger") &&
            !strncmp(name[k], name[i], stem))
            return true;
    return false;
}

static bool is_default(const struct view *v) {
    const struct view d = VIEW_DEFAULT;
    return v->sort == d.sort && v->group == d.group && v->limit == d.limit &&
           v->all_frames == d.all_frames;
}

static enum exit_code report_folder(FILE *out, const char *folder, const struct options *o) {
    struct dirent **entry;
    if (!is_default(&o->view))
        return (enum exit_code)fail(EXIT_USAGE,
                                    "report: %s is a folder, whose processes are only summed up: "
                                    "--sort, --group-by, --limit and --all-frames are for the "
                                    "files in it",
                                    folder);
    size_t runs = o->sweep ? journal_sweep(folder) : 0;
    if (runs) fprintf(stderr, "memwatch: %s: removed what %zu killed runs left\n", folder, runs);
    int n = scandir(folder, &entry, ours, versionsort); // rank2 before rank10
    if (n < 0) return (enum exit_code)fail(EXIT_DAMAGED, "%s: %s", folder, strerror(errno));
    char **name = allocate((size_t)n, sizeof *name);
    for (int i = 0; i < n; i++) name[i] = entry[i]->d_name;
    struct summary sum;
    enum exit_code worst = EXIT_OK;
    // A line a process names no functions.
    struct naming naming = {.resolver = resolver_new(NULL)};
    summary_begin(&sum, o->json ? NULL : out, folder);
    for (int i = 0; i < n; i++) {
        char path[PATH_MAX];
        struct source s;
        if (superseded(name, n, i) ||
            snprintf(path, sizeof path, "%s/%s", folder, name[i]) >= (int)sizeof path)
            continue;
        enum exit_code code = source_read(path, &naming, &s);
        if (code == EXIT_NOTHING) continue; // rendered and removed since the folder was read
        if (code == EXIT_OK) {
            bool holds = check_holds(&s);
            summary_add(&sum, name[i], s.report, holds);
            if (o->check && !holds) {
                fail(EXIT_FINDING, "%s: the ledger does not agree with itself", path);
                code = EXIT_FINDING;
            }
            if (o->sweep && sweep(path, &s) != EXIT_OK) code = EXIT_DAMAGED;
        } else {
            fail(code, "%s: %s", path, s.error);
            summary_add_unreadable(&sum, name[i], s.error);
        }
        source_free(&s);
        if (code > worst) worst = code;
    }
    cJSON *document = summary_end(&sum);
    if (o->json) print_json(out, document);
    cJSON_Delete(document);
    resolver_free(naming.resolver);
    for (int i = 0; i < n; i++) free(entry[i]);
    free(entry);
    free(name);
    if (worst == EXIT_OK && !sum.reports && !runs)
        return (enum exit_code)fail(EXIT_NOTHING, "%s: no ledgers and no reports in it", folder);
    return worst;
}

// ---- the command ----------------------------------------------------------------------------

static enum exit_code report_subject(FILE *out, const char *subject, const struct options *o) {
    struct stat st;
    char path[PATH_MAX], *end;
    if (stat(subject, &st) == 0)
        return S_ISDIR(st.st_mode) ? report_folder(out, subject, o) : report_file(out, subject, o);
    if (strchr(subject, '*'))
        return (enum exit_code)fail(EXIT_NOTHING,
                                    "%s: there is no such file yet: a report is written a moment "
                                    "after its process has ended (`memwatch run` waits for it)",
                                    subject);
    errno = 0;
    long pid = strtol(subject, &end, 10);
    if (*end || errno || pid <= 0 || pid > INT_MAX)
        return (enum exit_code)fail(EXIT_NOTHING,
                                    "%s: no such file or folder, and not a process id", subject);
    if (source_find(pid, path, sizeof path)) return report_file(out, path, o);
    return (enum exit_code)fail(EXIT_NOTHING,
                                "no ledger and no report of process %ld: give the file, or set "
                                "MEMWATCH_LEDGER_DIR or MEMWATCH_DIR as for the process",
                                pid);
}

// The worst of what became of each: one that cannot be read does not hide the others.
static enum exit_code report_subjects(FILE *out, const struct options *o) {
    enum exit_code worst = EXIT_OK;
    bool shown = false;
    if (!o->subject) return EXIT_USAGE;
    for (char *const *subject = o->subject; *subject; subject++) {
        if (shown) fputs("\n", out);
        enum exit_code code = report_subject(out, *subject, o);
        shown = code <= EXIT_FINDING;
        if (code > worst) worst = code;
    }
    return worst;
}

int cmd_report(int argc, char **argv) {
    struct options o = {.view = VIEW_DEFAULT};
    int code = read_command_line(argc, argv, &o);
    if (code >= 0) return code;
    FILE *out = o.output ? fopen(o.output, "we") : stdout;
    if (!out) return fail(EXIT_USAGE, "report: cannot write %s: %s", o.output, strerror(errno));
    code = report_subjects(out, &o);
    // A full disk shows late.
    bool written = !ferror(out) && fflush(out) == 0;
    if (o.output && fclose(out) != 0) written = false;
    if (!written)
        return fail(EXIT_DAMAGED, "report: cannot write %s: %s",
                    o.output ? o.output : "standard output", strerror(errno));
    return code;
}
