// SPDX-License-Identifier: Apache-2.0
//
// memwatch explain: what one number, or one message with the numbers in it, really says. The
// numbers of a message that a record describes are told with the record (advice.h), in the record's
// words for them; here are those of every other text, whose roles the words around them tell.
#include "advice.h"
#include "kb.h"
#include "memwatch.h"
#include "paragraph.h"
#include "roles.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPLANATION_SCHEMA "memwatch-explanation/1"

// One message; a log is for `memwatch diagnose`.
#define INPUT_BYTES (1u << 20)
#define FIGURES     64 // numbers that are looked at; each is compared with all others
#define SEEN_IN     4
// From this many digits on the same number in a record's own message is no coincidence.
#define UNUSUAL 100000

#define BLANKS " \t\r\n"

#define LABELLED 14
#define CLASSES  3 // that are shown of a number

static const char help[] =
    "Usage: memwatch explain [OPTION]... NUMBER|MESSAGE|-\n"
    "\n"
    "Says what a number that cannot be true really is, and which known error a\n"
    "message is: \"67108914.49 GiB\", 18446744073709551615, or all of an error\n"
    "message, with which each of its numbers is seen beside the others. For - it is\n"
    "read from standard input. Several arguments are taken as one text.\n"
    "\n"
    "      --device-memory SIZE  what the device has, such as \"24 GiB\"\n"
    "      --platform NAME       where it was printed: linux, windows, macos; on\n"
    "                            Windows more may be in use than the device has\n"
    "      --json                as JSON\n"
    "      --lang LANGUAGE       en or zh; otherwise as LC_ALL, LC_MESSAGES, LANG say\n" KB_HELP
    "  -h, --help                this text\n"
    "\n"
    "Exit status: 0 it is explained; 4 nothing is known about it, and its numbers are\n"
    "plausible; 3 standard input cannot be read; 2 wrong usage.\n";

struct options {
    bool json;
    enum language language;
    struct kb_paths paths;
    uint64_t device_bytes;
    enum counter_platform platform;
    char *text; // allocated
    size_t length;
};

static const char *say(const struct options *o, const char *en, const char *zh) {
    return o->language == LANGUAGE_ZH ? zh : en;
}

// ---- the input ------------------------------------------------------------------------------

static int read_input(struct options *o) {
    o->text = allocate(INPUT_BYTES + 1, 1);
    while (o->length <= INPUT_BYTES) {
        ssize_t n = read(STDIN_FILENO, o->text + o->length, INPUT_BYTES + 1 - o->length);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail(EXIT_DAMAGED, "explain: standard input: %s", strerror(errno));
        if (n == 0) return -1;
        o->length += (size_t)n;
    }
    return fail(EXIT_USAGE, "explain: more than %u bytes are no message; see `memwatch diagnose`",
                INPUT_BYTES);
}

static int join_arguments(struct options *o, int count, char **words) {
    if (!count) return fail(EXIT_USAGE, "explain: a number or a message is needed");
    if (count == 1 && strcmp(words[0], "-") == 0) return read_input(o);
    size_t bytes = 1;
    for (int i = 0; i < count; i++) bytes += strlen(words[i]) + 1;
    if (bytes > INPUT_BYTES)
        return fail(EXIT_USAGE,
                    "explain: more than %u bytes are no message; see `memwatch diagnose`",
                    INPUT_BYTES);
    o->text = allocate(bytes, 1);
    for (int i = 0; i < count; i++) strcat(strcat(o->text, i ? " " : ""), words[i]);
    o->length = strlen(o->text);
    return -1;
}

static bool read_size(const char *text, uint64_t *out) {
    struct number n;
    size_t length = strlen(text);
    if (!length || number_parse(text, length, &n) != length || n.negative || n.saturated ||
        n.kind == NUMBER_RATE || n.kind == NUMBER_PERCENT)
        return false;
    *out = number_bytes(&n);
    return *out > 0;
}

static bool read_platform(const char *text, enum counter_platform *out) {
    static const char *const names[] = {
        [PLATFORM_LINUX] = "linux", [PLATFORM_WINDOWS] = "windows", [PLATFORM_MACOS] = "macos"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i] && !strcmp(names[i], text)) {
            *out = (enum counter_platform)i;
            return true;
        }
    return false;
}

// -1: go on.
static int read_command_line(int argc, char **argv, struct options *o) {
    static const struct option options[] = {{"device-memory", required_argument, NULL, 'd'},
                                            {"platform", required_argument, NULL, 'p'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"lang", required_argument, NULL, 'l'},
                                            {"kb", required_argument, NULL, 'k'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    // "-1024" is a number, not an option.
    int end = 1;
    while (end < argc && !(argv[end][0] == '-' && isdigit((unsigned char)argv[end][1]))) end++;
    optind = 1;
    opterr = 0;
    for (int c; (c = getopt_long(end, argv, "+h", options, NULL)) != -1;) {
        bool known = c != '?';
        if (c == 'h') {
            fputs(help, stdout);
            return EXIT_OK;
        }
        if (c == 'j') o->json = true;
        if (c == 'p' && !read_platform(optarg, &o->platform))
            return fail(EXIT_USAGE, "explain: --platform takes linux, windows or macos, not '%s'",
                        optarg);
        if (c == 'd' && !read_size(optarg, &o->device_bytes))
            return fail(EXIT_USAGE,
                        "explain: --device-memory takes a size such as \"24 GiB\", not '%s'",
                        optarg);
        if (c == 'l' && !language_parse(optarg, &o->language))
            return fail(EXIT_USAGE, "explain: --lang takes en or zh, not '%s'", optarg);
        if (c == 'k') known = kb_paths_add(&o->paths, optarg);
        if (!known)
            return fail(EXIT_USAGE, "explain: wrong argument '%s'; see `memwatch explain --help`",
                        c == '?' ? argv[optind - 1] : optarg);
    }
    int code = join_arguments(o, argc - optind, argv + optind);
    if (code >= 0) return code;
    if (!o->text || strspn(o->text, BLANKS) == o->length)
        return fail(EXIT_USAGE, "explain: the text is empty");
    return -1;
}

// ---- the numbers ----------------------------------------------------------------------------

struct figure {
    struct number number;
    size_t at, length; // in the text
    enum counter_role role;
    bool at_least;
    bool told;   // a record's field: advice_print() has it
    int same_as; // the same amount in bytes, in parentheses behind it: its index, or -1
    struct counter_context context;
    struct counter_sibling sibling[FIGURES];
    struct counter_class class[COUNTER_CLASSES];
    size_t classes;
    enum counter_verdict verdict;
    const struct record *seen_in[SEEN_IN];
    size_t seen;
};

struct explanation {
    const struct options *options;
    struct knowledge *knowledge;
    struct incidents *incidents;
    const struct incident *const *incident;
    size_t incident_count;
    struct figure *figure; // FIGURES
    size_t figures;
    bool alone; // the text is one number
    bool more;  // there are further numbers
};

static void find_figures(struct explanation *e) {
    const char *text = e->options->text;
    size_t length = e->options->length, taken;
    struct number n;
    for (size_t at = 0; (at = number_find(text, length, at, &n, &taken)) < length; at += taken) {
        if (e->figures == FIGURES) {
            e->more = true;
            return;
        }
        struct figure *f = &e->figure[e->figures++];
        *f = (struct figure){.number = n, .at = at, .length = taken, .same_as = -1};
        f->role = roles_guess(text, length, at, taken, &f->at_least);
        // Addresses and ids; no program prints amounts so.
        if (n.hexadecimal && !n.has_unit) f->role = ROLE_NONE;
    }
    // The text is one number and nothing else.
    const struct figure *f = e->figure;
    e->alone = e->figures == 1 && f->at == strspn(text, BLANKS) &&
               f->at + f->length + strspn(text + f->at + f->length, BLANKS) == length;
}

// "17.79G (19104890880 bytes)", "127.99TiB (140729850295296)": the second says it exactly.
static void find_twins(struct explanation *e) {
    for (size_t i = 0; i + 1 < e->figures; i++) {
        struct figure *f = &e->figure[i], *next = f + 1;
        const struct number *n = &f->number, *exact = &next->number;
        const char *between = e->options->text + f->at + f->length;
        size_t gap = next->at - f->at - f->length;
        bool bracket = gap <= 3 && gap > 0 && between[gap - 1] == '(';
        if (!bracket || !n->has_unit || exact->unit_bytes != 1 ||
            exact->wide_low != exact->wide_high)
            continue;
        number_wide low, high;
        number_range(n, n->unit_bytes, &low, &high);
        bool same = exact->wide_low >= low && exact->wide_low <= high;
        if (!same && n->other_bytes) {
            number_range(n, n->other_bytes, &low, &high);
            same = exact->wide_low >= low && exact->wide_low <= high;
        }
        if (!same) continue;
        f->same_as = (int)i + 1;
        if (next->role == ROLE_NONE) next->role = f->role;
    }
}

static void find_told(struct explanation *e) {
    for (size_t i = 0; i < e->incident_count; i++)
        for (size_t k = 0; k < e->incident[i]->fields; k++) {
            const struct incident_field *field = &e->incident[i]->field[k];
            for (size_t n = 0; n < e->figures; n++) {
                struct figure *f = &e->figure[n];
                f->told |= field->has_number && strlen(field->text) == f->length &&
                           !memcmp(field->text, e->options->text + f->at, f->length);
            }
        }
}

static bool has_number(const char *text, const struct number *wanted) {
    size_t length = strlen(text), taken;
    struct number n;
    for (size_t at = 0; (at = number_find(text, length, at, &n, &taken)) < length; at += taken)
        if (n.digits == wanted->digits && n.decimals == wanted->decimals &&
            n.unit_bytes == wanted->unit_bytes && n.negative == wanted->negative)
            return true;
    return false;
}

// Records whose own messages have the very number.
static void find_records(const struct explanation *e, struct figure *f) {
    if (f->number.digits < UNUSUAL) return;
    for (size_t i = 0; i < knowledge_count(e->knowledge) && f->seen < SEEN_IN; i++) {
        const struct record *r = knowledge_get(e->knowledge, i);
        bool has = has_number(r->signature, &f->number);
        for (size_t k = 0; k < r->examples.count && !has; k++)
            has = has_number(r->examples.item[k], &f->number);
        if (has) f->seen_in[f->seen++] = r;
    }
}

static void judge(struct figure *f, uint64_t device_bytes) {
    f->context.device_bytes = device_bytes;
    f->context.device_stated = device_bytes;
    f->classes = counters_classify(&f->number, &f->context, f->class, COUNTER_CLASSES);
    f->verdict = counters_verdict(f->class, f->classes);
}

static void classify(struct explanation *e) {
    uint64_t device = e->options->device_bytes;
    for (size_t i = 0; i < e->figures; i++) {
        struct figure *f = &e->figure[i];
        size_t count = 0;
        for (size_t k = 0; k < e->figures; k++) {
            const struct figure *other = &e->figure[k];
            if (k == i) continue;
            if (other->role == ROLE_COUNT || (other->role == ROLE_NONE && !other->number.has_unit))
                continue;
            f->sibling[count++] = (struct counter_sibling){other->role, other->number};
        }
        f->context = (struct counter_context){.role = f->role,
                                              .at_least = f->at_least,
                                              .platform = e->options->platform,
                                              .siblings = f->sibling,
                                              .siblings_count = count};
        judge(f, 0);
        if (device) {
            // Records are told without the device: what it changes is worth saying after them.
            enum counter_verdict without = f->verdict;
            judge(f, device);
            if (f->verdict != without) f->told = false;
        }
        if (f->verdict == VERDICT_IMPLAUSIBLE || f->verdict == VERDICT_SENTINEL) find_records(e, f);
    }
}

// Is it worth telling? A plain number may be anything: only what stands out by itself is.
static bool matters(const struct explanation *e, const struct figure *f) {
    if (f->told || f->verdict == VERDICT_PLAUSIBLE || f->same_as >= 0) return e->alone;
    return e->alone || f->number.kind != NUMBER_PLAIN || f->verdict != VERDICT_AMBIGUOUS;
}

// ---- text -----------------------------------------------------------------------------------

static const char *verdict_name(const struct options *o, enum counter_verdict verdict) {
    switch (verdict) {
    case VERDICT_PLAUSIBLE:
        return say(o, "plausible", "合理");
    case VERDICT_AMBIGUOUS:
        return say(o, "ambiguous", "有歧义");
    case VERDICT_SENTINEL:
        return say(o, "no amount", "不是数量");
    case VERDICT_REQUEST:
        return say(o, "real, but too large a request", "数值真实，但请求过大");
    case VERDICT_IMPLAUSIBLE:
        break;
    }
    return say(o, "cannot be true", "不可能成立");
}

static void print_class(const struct explanation *e, const struct figure *f, size_t i) {
    static const struct {
        enum counter_text which;
        const char *label[LANGUAGES];
    } texts[] = {{TEXT_FACT, {"  fact", "  事实"}},
                 {TEXT_NOT, {"  not", "  并非"}},
                 {TEXT_HYPOTHESIS, {"  hypothesis", "  推测"}}};
    static const char *const strengths[][LANGUAGES] = {
        [STRENGTH_POSSIBLE] = {"possible", "可能"},
        [STRENGTH_PRINTED] = {"agrees with all printed digits", "与所显示的数字全部相符"},
        [STRENGTH_EXACT] = {"exact", "精确"}};
    const struct options *o = e->options;
    const struct counter_class *c = &f->class[i];
    char text[COUNTER_TEXT];
    if (c->kind != COUNTER_PLAUSIBLE) {
        snprintf(text, sizeof text, "%zu. %s [%s]", i + 1, counters_kind_name(c->kind, o->language),
                 strengths[c->strength][o->language]);
        print_paragraph(stdout, "", 2, text);
    } else if (f->verdict != VERDICT_PLAUSIBLE) {
        snprintf(text, sizeof text, "%zu. %s", i + 1, counters_kind_name(c->kind, o->language));
        print_paragraph(stdout, "", 2, text);
    }
    for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) {
        counters_text(&f->number, &f->context, c, texts[t].which, o->language, text, sizeof text);
        // What it is not need not be said of each class.
        if (*text && (!i || texts[t].which != TEXT_NOT))
            print_paragraph(stdout, texts[t].label[o->language], LABELLED, text);
    }
}

static void print_figure(const struct explanation *e, const struct figure *f) {
    const struct options *o = e->options;
    char title[256];
    bool role = f->role != ROLE_NONE && !e->alone;
    snprintf(title, sizeof title, "%s%s%.*s: %s", role ? counters_role_name(f->role) : "",
             role ? " " : "", f->length > 100 ? 100 : (int)f->length, o->text + f->at,
             verdict_name(o, f->verdict));
    print_paragraph(stdout, "", 0, title);
    size_t shown = f->verdict == VERDICT_PLAUSIBLE ? 1
                   : f->classes < CLASSES          ? f->classes
                                                   : CLASSES;
    for (size_t i = 0; i < shown; i++) print_class(e, f, i);
    for (size_t i = 0; i < f->seen; i++) {
        snprintf(title, sizeof title, "%s: %s", f->seen_in[i]->id,
                 record_text(&f->seen_in[i]->title, o->language));
        print_paragraph(stdout, i ? "" : say(o, "  seen in", "  见于"), LABELLED, title);
    }
}

// All incidents of one record together, in the order of the first of each.
static void print_incidents(const struct explanation *e) {
    struct observation *group = allocate(e->incident_count + 1, sizeof *group);
    for (size_t i = 0; i < e->incident_count; i++) {
        size_t n = 0;
        bool told = false;
        for (size_t k = 0; k < e->incident_count; k++) {
            if (e->incident[k]->record != e->incident[i]->record) continue;
            told |= k < i;
            group[n++] = (struct observation){.incident = e->incident[k]};
        }
        if (told) continue;
        if (i) fputs("\n\n", stdout);
        advice_print(stdout, e->knowledge, group, n, ADVICE_WHOLE, e->options->language);
    }
    free(group);
}

static void print_text(const struct explanation *e) {
    const struct options *o = e->options;
    bool known = e->incident_count, any = known;
    print_incidents(e);
    for (size_t i = 0; i < e->figures; i++) {
        if (!matters(e, &e->figure[i])) continue;
        if (any) putchar('\n');
        print_figure(e, &e->figure[i]);
        any = true;
    }
    // What it is comes before what it is not.
    if (!known && !e->alone && any)
        printf("\n%s\n",
               say(o, "As a message it is no known error.", "作为消息，它不是已知的错误。"));
    if (!known && !e->alone && !any) puts(say(o, "No known error.", "没有已知的错误。"));
    if (e->figures && !any) puts(say(o, "Its numbers are plausible.", "其中的数值都合理。"));
    if (e->more)
        print_paragraph(stdout, "", 0,
                        say(o, "Further numbers were not looked at.", "其余数值未作检查。"));
}

// ---- JSON -----------------------------------------------------------------------------------

// As text: beyond 2^53 readers of JSON lose digits, and beyond 2^64 there are no integers.
static void add_wide(cJSON *object, const char *name, number_wide value) {
    char text[NUMBER_TEXT];
    json_add_text(object, name, number_text(value, 1, 0, text));
}

static void add_class(cJSON *array, const struct figure *f, const struct counter_class *c,
                      enum language language) {
    static const char *const names[] = {
        [TEXT_FACT] = "fact", [TEXT_HYPOTHESIS] = "hypothesis", [TEXT_NOT] = "not"};
    cJSON *object = json_add_object(array, NULL);
    char text[COUNTER_TEXT];
    json_add_text(object, "kind", counters_kind_id(c->kind));
    json_add_text(object, "name", counters_kind_name(c->kind, language));
    json_add_text(object, "strength", counters_strength_id(c->strength));
    json_add_i64(object, "score", c->score);
    add_wide(object, "bytes", c->value);
    if (c->value <= UINT64_MAX) {
        snprintf(text, sizeof text, "0x%016llX", (unsigned long long)c->value);
        json_add_text(object, "hex", text);
    }
    if (c->deficit) add_wide(object, "deficit", c->deficit);
    for (size_t t = 0; t < sizeof names / sizeof names[0]; t++)
        json_add_text(object, names[t],
                      counters_text(&f->number, &f->context, c, t, language, text, sizeof text));
}

static void add_figure(cJSON *array, const struct explanation *e, const struct figure *f) {
    const struct number *n = &f->number;
    cJSON *object = json_add_object(array, NULL);
    json_add_bytes(object, "text", e->options->text + f->at, f->length);
    json_add_text(object, "role", counters_role_name(f->role));
    cJSON_AddItemToObject(object, "value", cJSON_CreateNumber(n->value));
    json_add_text(object, "unit", n->unit);
    add_wide(object, "least", n->wide_low);
    add_wide(object, "most", n->wide_high);
    json_add_text(object, "verdict", counters_verdict_id(f->verdict));
    cJSON *classes = json_add_array(object, "classes");
    for (size_t i = 0; i < f->classes; i++)
        add_class(classes, f, &f->class[i], e -> options -> language);
    cJSON *seen = json_add_array(object, "seen_in");
    for (size_t i = 0; i < f->seen; i++) json_add_text(seen, NULL, f->seen_in[i]->id);
}

static void print_json(const struct explanation *e) {
    cJSON *document = cJSON_CreateObject();
    enum language language = e->options->language;
    json_add_text(document, "schema", EXPLANATION_SCHEMA);
    json_add_text(document, "version", MEMWATCH_VERSION);
    json_add_bytes(document, "text", e->options->text, e->options->length);
    cJSON *numbers = json_add_array(document, "numbers");
    for (size_t i = 0; i < e->figures; i++) add_figure(numbers, e, &e->figure[i]);
    json_add_bool(document, "numbers_left_out", e->more);
    cJSON *incidents = json_add_array(document, "incidents");
    cJSON *records = json_add_array(document, "records");
    for (size_t i = 0; i < e->incident_count; i++) {
        struct observation seen = {.incident = e->incident[i]};
        bool told = false;
        for (size_t k = 0; k < i; k++) told |= e->incident[k]->record == e->incident[i]->record;
        cJSON_AddItemToArray(incidents, advice_json_incident(&seen, language));
        if (!told)
            cJSON_AddItemToArray(
                records, advice_json_record(e->knowledge, e->incident[i]->record, language));
    }
    char *text = cJSON_Print(document);
    if (text) puts(text);
    cJSON_free(text);
    cJSON_Delete(document);
}

// ---- the command ----------------------------------------------------------------------------

int cmd_explain(int argc, char **argv) {
    struct options o = {.language = language_of_environment()};
    struct explanation e = {.options = &o};
    int code = read_command_line(argc, argv, &o);
    if (code >= 0) {
        free(o.text);
        return code;
    }
    e.figure = allocate(FIGURES, sizeof *e.figure);
    e.knowledge = kb_open(&o.paths);
    find_figures(&e);
    find_twins(&e);
    // A number alone is no message: no matcher is needed.
    if (!e.alone) e.incidents = incidents_of_text(e.knowledge, o.text, o.length);
    if (!e.alone && !e.incidents) return fail(EXIT_DAMAGED, "no memory");
    if (e.incidents) e.incident = incidents_ranked(e.incidents, &e.incident_count);
    find_told(&e);
    classify(&e);
    if (o.json)
        print_json(&e);
    else
        print_text(&e);
    bool explained = e.incident_count > 0;
    for (size_t i = 0; i < e.figures; i++)
        explained |= matters(&e, &e.figure[i]) && e.figure[i].verdict != VERDICT_PLAUSIBLE;
    incidents_free(e.incidents);
    knowledge_free(e.knowledge);
    free(e.figure);
    free(o.text);
    return explained ? EXIT_OK : EXIT_NOTHING;
}
