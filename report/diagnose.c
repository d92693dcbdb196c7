// SPDX-License-Identifier: Apache-2.0
//
// memwatch diagnose: what the errors in a log are. The log may be any file, of any size, or a pipe;
// with --follow it may still grow.
#include "advice.h"
#include "kb.h"
#include "memwatch.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DIAGNOSIS_SCHEMA "memwatch-diagnosis/1"
#define READ_BYTES       (256u << 10)
// How often a followed file is looked at.
#define FOLLOW_MS 200

static const char help[] =
    "Usage: memwatch diagnose [OPTION]... [FILE|-]...\n"
    "\n"
    "Says which known errors are in logs, what the numbers in them mean, what helps\n"
    "and what is known not to. Without FILE, or for -, standard input is read.\n"
    "\n"
    "      --full           all that is known of each error: sources, claims that are\n"
    "                       known to be false, and which errors it is not\n"
    "      --json           as JSON, with all of it; with --follow an object a line\n"
    "      --lang LANGUAGE  en or zh; otherwise as LC_ALL, LC_MESSAGES, LANG say\n"
    "      --follow         go on reading one FILE as it grows, until interrupted,\n"
    "                       and tell each error when it comes\n" KB_HELP
    "  -h, --help           this text\n"
    "\n"
    "Exit status: 0 something known was found; 4 nothing known was; 3 a file cannot\n"
    "be read; 2 wrong usage.\n";

struct options {
    bool json, follow, full;
    enum language language;
    struct kb_paths paths;
    char **files;
    int count;
};

// One text and the incidents in it.
struct text {
    const char *name; // NULL: standard input
    struct incidents *incidents;
    uint64_t bytes, lines;
    size_t told; // incidents that were printed already
    bool any;    // some were, of this file or one that it has replaced
};

struct diagnosis {
    const struct options *options;
    struct knowledge *knowledge;
    struct matcher *matcher;
    struct text *text;
    size_t texts;
    bool read;                     // at least one text was, to its end
    const struct record **claimed; // records whose claims were printed already
    size_t claims;
};

static volatile sig_atomic_t interrupted;

static void interrupt(int unused) {
    (void)unused;
    interrupted = 1;
}

// -1: go on.
static int read_command_line(int argc, char **argv, struct options *o) {
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"lang", required_argument, NULL, 'l'},
                                            {"follow", no_argument, NULL, 'f'},
                                            {"kb", required_argument, NULL, 'k'},
                                            {"full", no_argument, NULL, 'F'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    optind = 1;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        bool known = c != '?';
        if (c == 'h') {
            fputs(help, stdout);
            return EXIT_OK;
        }
        if (c == 'j') o->json = true;
        if (c == 'f') o->follow = true;
        if (c == 'F') o->full = true;
        if (c == 'l' && !language_parse(optarg, &o->language))
            return fail(EXIT_USAGE, "diagnose: --lang takes en or zh, not '%s'", optarg);
        if (c == 'k') known = kb_paths_add(&o->paths, optarg);
        if (!known)
            return fail(EXIT_USAGE, "diagnose: wrong argument '%s'; see `memwatch diagnose --help`",
                        c == '?' ? argv[optind - 1] : optarg);
    }
    o->files = argv + optind;
    o->count = argc - optind;
    if (o->follow && o->count > 1) return fail(EXIT_USAGE, "diagnose: --follow takes one file");
    return -1;
}

// ---- printing -------------------------------------------------------------------------------

// Is this the first time that the record's claims are told?
static bool claim(struct diagnosis *d, const struct record *record) {
    for (size_t i = 0; i < d->claims; i++)
        if (d->claimed[i] == record) return false;
    d->claimed[d->claims++] = record;
    return true;
}

// How much of a record's claims is told: when it comes up for the first time, and later.
static enum advice_detail detail(struct diagnosis *d, const struct record *record) {
    if (!claim(d, record)) return ADVICE_NONE;
    return d->options->full ? ADVICE_WHOLE : ADVICE_SHORT;
}

// All incidents, those of one record together, in the order of the first of each.
static void print_text(struct diagnosis *d, const struct observation *all, size_t count) {
    struct observation *group = allocate(count, sizeof *group);
    bool *told = allocate(count, sizeof *told);
    for (size_t i = 0; i < count; i++) {
        size_t n = 0;
        for (size_t k = i; k < count; k++) {
            if (told[k] || all[k].incident->record != all[i].incident->record) continue;
            told[k] = true;
            group[n++] = all[k];
        }
        if (!n) continue;
        if (i) fputs("\n\n", stdout);
        advice_print(stdout, d->knowledge, group, n, detail(d, all[i].incident->record),
                     d->options->language);
    }
    free(group);
    free(told);
}

static const char *name_of(const struct text *t) {
    return t->name ? t->name : "-";
}

static void add_statistics(cJSON *document, const struct diagnosis *d) {
    struct match_statistics s;
    const struct record *record;
    const char *why;
    matcher_statistics(d->matcher, &s);
    cJSON *object = json_add_object(document, "statistics");
    json_add_u64(object, "bytes", s.bytes);
    json_add_u64(object, "lines", s.lines);
    json_add_u64(object, "candidates", s.candidates);
    json_add_u64(object, "tried", s.tried);
    json_add_u64(object, "not_evaluated", s.refused);
    json_add_u64(object, "patterns", s.patterns);
    json_add_u64(object, "patterns_left_out", s.left_out);
    json_add_bool(object, "jit", s.jit);
    cJSON *array = json_add_array(object, "patterns_disabled");
    for (size_t i = 0; (record = matcher_disabled(d->matcher, i, &why)); i++) {
        cJSON *item = json_add_object(array, NULL);
        json_add_text(item, "record", record->id);
        json_add_text(item, "why", why);
    }
}

static void print_document(cJSON *document, bool formatted) {
    char *text = formatted ? cJSON_Print(document) : cJSON_PrintUnformatted(document);
    if (text) puts(text);
    cJSON_free(text);
    cJSON_Delete(document);
}

static void print_json(struct diagnosis *d, const struct observation *all, size_t count) {
    cJSON *document = cJSON_CreateObject();
    json_add_text(document, "schema", DIAGNOSIS_SCHEMA);
    json_add_text(document, "version", MEMWATCH_VERSION);
    cJSON *texts = json_add_array(document, "texts");
    for (size_t i = 0; i < d->texts; i++) {
        cJSON *text = json_add_object(texts, NULL);
        json_add_bytes(text, "name", name_of(&d->text[i]), 4096);
        json_add_u64(text, "bytes", d->text[i].bytes);
        json_add_u64(text, "lines", d->text[i].lines);
        json_add_u64(text, "left_out", incidents_left_out(d->text[i].incidents));
    }
    cJSON *incidents = json_add_array(document, "incidents");
    cJSON *records = json_add_array(document, "records");
    for (size_t i = 0; i < count; i++) {
        cJSON_AddItemToArray(incidents, advice_json_incident(&all[i], d->options->language));
        if (claim(d, all[i].incident->record))
            cJSON_AddItemToArray(records, advice_json_record(d->knowledge, all[i].incident->record,
                                                             d->options->language));
    }
    add_statistics(document, d);
    print_document(document, true);
}

// What could not be looked at, on standard error.
static void print_troubles(const struct diagnosis *d) {
    struct match_statistics s;
    const struct record *record;
    const char *why;
    matcher_statistics(d->matcher, &s);
    for (size_t i = 0; (record = matcher_disabled(d->matcher, i, &why)); i++)
        fail(EXIT_OK, "record %s: a pattern was not tried any more: %s", record->id, why);
    if (s.memory_ran_out) fail(EXIT_OK, "memory ran out: messages are missing");
    for (size_t i = 0; i < d->texts; i++)
        if (incidents_left_out(d->text[i].incidents))
            fail(EXIT_OK, "%s: %" PRIu64 " more messages are not listed", name_of(&d->text[i]),
                 incidents_left_out(d->text[i].incidents));
}

static int compare(const void *a, const void *b) {
    const struct observation *x = a, *y = b;
    if (x->incident->severity != y->incident->severity)
        return x->incident->severity > y->incident->severity ? -1 : 1;
    return 0;
}

// Stable, which qsort is not: texts in their order, incidents in the order of incidents_ranked().
static void sort(struct observation *all, size_t count) {
    struct observation one;
    for (size_t i = 1; i < count; i++) {
        size_t k = i;
        one = all[i];
        for (; k && compare(&all[k - 1], &one) > 0; k--) all[k] = all[k - 1];
        all[k] = one;
    }
}

static int conclude(struct diagnosis *d) {
    size_t count = 0, n;
    for (size_t i = 0; i < d->texts; i++) count += incidents_count(d->text[i].incidents);
    // Of what could not be read it is not true that nothing in it is known.
    if (!count && !d->read) return EXIT_DAMAGED;
    struct observation *all = allocate(count + 1, sizeof *all);
    count = 0;
    for (size_t i = 0; i < d->texts; i++) {
        const struct incident *const *list = incidents_ranked(d->text[i].incidents, &n);
        for (size_t k = 0; k < n; k++)
            all[count++] = (struct observation){list[k], name_of(&d->text[i])};
    }
    sort(all, count);
    if (d->options->json)
        print_json(d, all, count);
    else if (count)
        print_text(d, all, count);
    else
        puts(d->options->language == LANGUAGE_ZH ? "没有已知的错误。" : "Nothing known.");
    free(all);
    return count ? EXIT_OK : EXIT_NOTHING;
}

// With --follow: what came since the last time.
static void tell_new(struct diagnosis *d, struct text *t) {
    for (; t->told < incidents_count(t->incidents); t->told++) {
        struct observation one = {incidents_get(t->incidents, t->told), name_of(t)};
        if (t->any && !d->options->json) fputs("\n\n", stdout);
        t->any = true;
        if (d->options->json) {
            cJSON *object = advice_json_incident(&one, d->options->language);
            if (claim(d, one.incident->record))
                cJSON_AddItemToObject(
                    object, "knowledge",
                    advice_json_record(d->knowledge, one.incident->record, d->options->language));
            print_document(object, false);
        } else {
            advice_print(stdout, d->knowledge, &one, 1, detail(d, one.incident->record),
                         d->options->language);
        }
    }
    fflush(stdout);
}

// ---- reading --------------------------------------------------------------------------------

static void count_text(struct diagnosis *d, struct text *t) {
    struct match_statistics s;
    uint64_t bytes = 0, lines = 0;
    matcher_statistics(d->matcher, &s);
    for (struct text *other = d->text; other < t; other++)
        bytes += other->bytes, lines += other->lines;
    t->bytes = s.bytes - bytes;
    t->lines = s.lines - lines;
}

// Reads what there is. -1: an error, errno is set.
static int read_all(struct diagnosis *d, int fd) {
    static char buffer[READ_BYTES];
    while (!interrupted) {
        ssize_t n = read(fd, buffer, sizeof buffer);
        if (n == 0) return 0;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        matcher_feed(d->matcher, buffer, (size_t)n);
    }
    return 0;
}

// A pipe: what comes is told when no more comes for a moment.
static int follow_pipe(struct diagnosis *d, struct text *t, int fd) {
    static char buffer[READ_BYTES];
    while (!interrupted) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int ready = poll(&p, 1, FOLLOW_MS);
        if (ready < 0 && errno != EINTR) return -1;
        if (ready > 0) {
            ssize_t n = read(fd, buffer, sizeof buffer);
            if (n == 0) break;
            if (n < 0 && errno != EINTR) return -1;
            if (n > 0) matcher_feed(d->matcher, buffer, (size_t)n);
        } else if (ready == 0) {
            matcher_flush(d->matcher);
            tell_new(d, t);
        }
    }
    return 0;
}

// What is read from now on is another text.
static void begin_again(struct diagnosis *d, struct text *t, const char *why) {
    fail(EXIT_OK, "%s was %s: reading it from its beginning", t->name, why);
    matcher_finish(d->matcher);
    tell_new(d, t);
    struct incidents *incidents = incidents_new(d->knowledge);
    if (!incidents) return; // they go on with the old ones
    incidents_free(t->incidents);
    t->incidents = incidents;
    t->told = 0;
}

// A file, as `tail -F` does: from its beginning, and again from there if it is cut or replaced.
static int follow_file(struct diagnosis *d, struct text *t, int fd) {
    const struct timespec moment = {.tv_nsec = FOLLOW_MS * 1000000L};
    int result = 0;
    while (!interrupted && result == 0) {
        struct stat here, there;
        result = read_all(d, fd);
        matcher_flush(d->matcher);
        tell_new(d, t);
        nanosleep(&moment, NULL);
        off_t at = lseek(fd, 0, SEEK_CUR);
        if (fstat(fd, &here) != 0) continue;
        if (here.st_size < at) {
            begin_again(d, t, "cut");
            lseek(fd, 0, SEEK_SET);
            continue;
        }
        if (stat(t->name, &there) != 0) continue;
        if (there.st_ino == here.st_ino && there.st_dev == here.st_dev) continue;
        int other = open(t->name, O_RDONLY | O_CLOEXEC);
        if (other < 0) continue;
        result = read_all(d, fd); // the old file's rest
        begin_again(d, t, "replaced");
        dup2(other, fd);
        close(other);
    }
    return result;
}

// Reads one text. Returns EXIT_OK, or EXIT_DAMAGED with the reason told.
static int read_text(struct diagnosis *d, struct text *t) {
    struct stat st;
    const struct options *o = d->options;
    int fd = t->name ? open(t->name, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    if (fd < 0) return fail(EXIT_DAMAGED, "cannot read '%s': %s", t->name, strerror(errno));
    bool file = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    int result = !o->follow        ? read_all(d, fd)
                 : file && t->name ? follow_file(d, t, fd)
                                   : follow_pipe(d, t, fd);
    int error = errno;
    matcher_finish(d->matcher);
    count_text(d, t);
    if (t->name) close(fd);
    if (result != 0) return fail(EXIT_DAMAGED, "cannot read '%s': %s", name_of(t), strerror(error));
    if (o->follow) tell_new(d, t);
    return EXIT_OK;
}

// The matcher works for all texts in turn.
static void add_hits(void *context, const struct hit *hits, size_t count) {
    struct diagnosis *d = context;
    incidents_add(d->text[d->texts - 1].incidents, hits, count);
}

static int diagnose(struct diagnosis *d) {
    const struct options *o = d->options;
    int code = EXIT_OK;
    for (int i = 0; i < (o->count ? o->count : 1) && !interrupted; i++) {
        struct text *t = &d->text[d->texts++];
        const char *name = o->count ? o->files[i] : "-";
        t->name = strcmp(name, "-") != 0 ? name : NULL;
        t->incidents = incidents_new(d->knowledge);
        if (!t->incidents) return fail(EXIT_DAMAGED, "no memory");
        int result = read_text(d, t);
        if (result == EXIT_OK)
            d->read = true;
        else
            code = result;
    }
    int concluded = EXIT_OK;
    if (!o->follow)
        concluded = conclude(d);
    else
        concluded = d->text[0].any ? EXIT_OK : EXIT_NOTHING;
    print_troubles(d);
    return code != EXIT_OK ? code : concluded;
}

int cmd_diagnose(int argc, char **argv) {
    struct options o = {.language = language_of_environment()};
    struct diagnosis d = {.options = &o};
    int code = read_command_line(argc, argv, &o);
    if (code >= 0) return code;
    if (o.follow) {
        struct sigaction action = {.sa_handler = interrupt};
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
    }
    d.knowledge = kb_open(&o.paths);
    d.matcher = matcher_new(d.knowledge, add_hits, &d);
    if (!d.matcher) return fail(EXIT_DAMAGED, "no memory");
    d.text = allocate((size_t)o.count + 1, sizeof *d.text);
    d.claimed = allocate(knowledge_count(d.knowledge) + 1, sizeof *d.claimed);
    code = diagnose(&d);
    for (size_t i = 0; i < d.texts; i++) incidents_free(d.text[i].incidents);
    free(d.text);
    free(d.claimed);
    matcher_free(d.matcher);
    knowledge_free(d.knowledge);
    return code;
}
