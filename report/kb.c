// SPDX-License-Identifier: Apache-2.0
//
// memwatch kb: the records themselves. Lint is what their authors need; list, show and search are
// for whoever wants to know what is known.
#define _GNU_SOURCE // strcasestr
#include "kb.h"

#include "advice.h"
#include "emit.h"
#include "incidents.h"
#include "json.h"
#include "lint.h"
#include "memwatch.h"
#include "paragraph.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: memwatch kb lint [OPTION]... [PATH]...\n"
    "       memwatch kb list [OPTION]...\n"
    "       memwatch kb show [OPTION]... ID...\n"
    "       memwatch kb search [OPTION]... WORD...\n"
    "\n"
    "What is known about errors: one record for each, in a JSON file.\n"
    "\n"
    "  lint    check the records of folders and files, or the bundled ones: form,\n"
    "          expressions, sources, names. Exits with 1 if something does not hold\n"
    "  list    all records: id, severity, how well it is known, title\n"
    "  show    what a record says\n"
    "  search  records in which all words occur, or which know them as a message,\n"
    "          best first\n"
    "\n" KB_HELP "  --domain NAME        list: only of this domain (cuda, apple-mps, vllm ...)\n"
    "  --negatives FILE     lint: lines that no record may match; \"# \" begins a\n"
    "                       comment\n"
    "  --json               as JSON\n"
    "  --lang en|zh         the language of texts\n"
    "  --help, -h           this text\n";

struct options {
    struct kb_paths kb;
    const char *domain, *negatives;
    bool json;
    enum language language;
    char **word;
    int words;
};

// ---- where records come from ----------------------------------------------------------------

bool kb_paths_add(struct kb_paths *paths, const char *path) {
    if (paths->count == KB_PATHS) return false;
    paths->path[paths->count++] = path;
    return true;
}

static void complain(void *context, const char *file, size_t line, const char *reason) {
    (void)context;
    if (line)
        fprintf(stderr, "memwatch: %s:%zu: %s\n", file, line, reason);
    else
        fprintf(stderr, "memwatch: %s: %s\n", file, reason);
}

static struct knowledge *new_knowledge(void) {
    struct knowledge *knowledge = knowledge_new();
    if (!knowledge) exit(fail(EXIT_DAMAGED, "no memory"));
    return knowledge;
}

struct knowledge *kb_open(const struct kb_paths *paths) {
    struct knowledge *knowledge = new_knowledge();
    const char *more = getenv("MEMWATCH_KB");
    knowledge_load_bundled(knowledge, complain, NULL);
    for (size_t i = 0; paths && i < paths->count; i++)
        knowledge_load_path(knowledge, paths->path[i], complain, NULL);
    while (more && *more) {
        size_t length = strcspn(more, ":");
        char *path = strndup(more, length);
        if (path && length) knowledge_load_path(knowledge, path, complain, NULL);
        free(path);
        more += length + (more[length] == ':');
    }
    return knowledge;
}

// ---- lint -----------------------------------------------------------------------------------

struct lint_run {
    const struct options *options;
    cJSON *findings; // NULL: printed at once
    size_t errors, notes, unreadable;
    // The file that was read last, for line numbers.
    char *text;
    char *file;
};

// A whole file, NUL-terminated. NULL if it cannot be read, with errno set.
static char *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "re");
    char *text = NULL;
    size_t room = 0;
    *length = 0;
    if (!file) return NULL;
    for (;;) {
        if (*length + 1 >= room) {
            char *larger = realloc(text, room = 2 * room + 65536);
            if (!larger) break;
            text = larger;
        }
        size_t n = fread(text + *length, 1, room - *length - 1, file);
        *length += n;
        if (!n) break;
    }
    bool failed = ferror(file) || !text;
    int number = errno;
    fclose(file);
    if (failed) {
        free(text);
        errno = number ? number : ENOMEM;
        return NULL;
    }
    text[*length] = '\0';
    return text;
}

// Where a record's file first has the member; 0 if nobody can tell.
static size_t line_of(struct lint_run *run, const struct record *record, const char *member) {
    char quoted[64];
    size_t line = 1, length;
    if (record->bundled || !*member) return 0;
    if (!run->file || strcmp(run->file, record->file) != 0) {
        free(run->text);
        free(run->file);
        run->text = read_file(record->file, &length);
        run->file = strdup(record->file);
    }
    snprintf(quoted, sizeof quoted, "\"%s\"", member);
    const char *at = run->text ? strstr(run->text, quoted) : NULL;
    if (!at) return 0;
    for (const char *c = run->text; c < at; c++) line += *c == '\n';
    return line;
}

static void tell_finding(struct lint_run *run, const char *file, size_t line, const char *id,
                         const char *level, const char *text) {
    if (run->findings) {
        cJSON *finding = json_add_object(run->findings, NULL);
        json_add_text(finding, "file", file);
        if (line)
            json_add_u64(finding, "line", line);
        else
            json_add_null(finding, "line");
        json_add_text(finding, "id", id);
        json_add_text(finding, "level", level);
        json_add_text(finding, "text", text);
        return;
    }
    if (line)
        printf("%s:%zu: ", file, line);
    else
        printf("%s: ", file);
    printf("%s: %s\n", level, text);
}

static void unreadable(void *context, const char *file, size_t line, const char *reason) {
    struct lint_run *run = context;
    run->unreadable++;
    tell_finding(run, file, line, NULL, "error", reason);
}

static void finding(void *context, const struct record *record, enum lint_level level,
                    const char *member, const char *text) {
    struct lint_run *run = context;
    bool error = level == LINT_ERROR;
    ++*(error ? &run->errors : &run->notes);
    tell_finding(run, record->file, line_of(run, record, member), record->id,
                 error ? "error" : "note", text);
}

// The summary; the exit code.
static int lint_end(struct lint_run *run, size_t checked) {
    size_t errors = run->errors + run->unreadable;
    if (run->findings) {
        cJSON *document = cJSON_CreateObject();
        json_add_u64(document, "records", checked);
        json_add_u64(document, "errors", errors);
        json_add_u64(document, "notes", run->notes);
        cJSON_AddItemToObject(document, "findings", run->findings);
        char *text = cJSON_Print(document);
        if (text) puts(text);
        free(text);
        cJSON_Delete(document);
    } else {
        printf("%zu record%s checked: %zu error%s, %zu note%s\n", checked, checked == 1 ? "" : "s",
               errors, errors == 1 ? "" : "s", run->notes, run->notes == 1 ? "" : "s");
    }
    free(run->text);
    free(run->file);
    return errors ? EXIT_FINDING : EXIT_OK;
}

static int lint(const struct options *o) {
    struct lint_run run = {.options = o};
    char *negatives = NULL;
    size_t length = 0, checked = 0;
    if (o->negatives && !(negatives = read_file(o->negatives, &length)))
        return fail(EXIT_DAMAGED, "kb lint: cannot read %s: %s", o->negatives, strerror(errno));
    if (o->json) run.findings = cJSON_CreateArray();
    // The users' records first: one that replaces a bundled one is checked, and not refused.
    struct knowledge *knowledge = new_knowledge();
    for (size_t i = 0; i < o->kb.count; i++)
        knowledge_load_path(knowledge, o->kb.path[i], unreadable, &run);
    for (int i = 0; i < o->words; i++) knowledge_load_path(knowledge, o->word[i], unreadable, &run);
    bool bundled = !o->words && !o->kb.count;
    knowledge_load_bundled(knowledge, bundled ? unreadable : NULL, &run);
    struct lint lint = {.knowledge = knowledge,
                        .negatives = negatives,
                        .negatives_length = length,
                        .finding = finding,
                        .context = &run};
    for (size_t i = 0; i < knowledge_count(knowledge); i++) {
        const struct record *record = knowledge_get(knowledge, i);
        if (record->bundled != bundled) continue;
        lint_record(&lint, record);
        checked++;
    }
    int code = lint_end(&run, checked);
    knowledge_free(knowledge);
    free(negatives);
    return code;
}

// ---- list and search ------------------------------------------------------------------------

static cJSON *summary(const struct record *r, enum language language) {
    cJSON *out = cJSON_CreateObject();
    json_add_text(out, "id", r->id);
    json_add_text(out, "title", record_text(&r->title, language));
    json_add_text(out, "domain", r->domain);
    json_add_text(out, "category", r->category);
    json_add_text(out, "severity", severity_id(r->severity));
    json_add_text(out, "tier", tier_id(r->tier));
    json_add_text(out, "file", r->file);
    json_add_bool(out, "bundled", r->bundled);
    return out;
}

static void print_records(const struct record *const *record, size_t count,
                          const struct options *o) {
    char title[FIT_TEXT];
    if (o->json) {
        cJSON *list = cJSON_CreateArray();
        for (size_t i = 0; i < count; i++)
            cJSON_AddItemToArray(list, summary(record[i], o->language));
        char *text = cJSON_Print(list);
        if (text) puts(text);
        free(text);
        cJSON_Delete(list);
        return;
    }
    for (size_t i = 0; i < count; i++)
        printf("%-38s %-8s %-15s %s\n", record[i]->id, severity_id(record[i]->severity),
               tier_id(record[i]->tier),
               fit(title, record_text(&record[i]->title, o->language), 80));
}

static int by_id(const void *a, const void *b) {
    const struct record *const *x = a, *const *y = b;
    return strcmp((*x)->id, (*y)->id);
}

static int list(const struct options *o) {
    struct knowledge *knowledge = kb_open(&o->kb);
    size_t n = knowledge_count(knowledge), chosen = 0;
    const struct record **record = allocate(n + 1, sizeof *record);
    for (size_t i = 0; i < n; i++) {
        const struct record *r = knowledge_get(knowledge, i);
        if (!o->domain || !strcmp(r->domain, o->domain)) record[chosen++] = r;
    }
    qsort((void *)record, chosen, sizeof *record, by_id);
    print_records(record, chosen, o);
    free((void *)record);
    knowledge_free(knowledge);
    if (chosen) return EXIT_OK;
    return fail(EXIT_NOTHING, "kb list: there is no record of domain '%s'", o->domain);
}

// What is listed of a search; --json has all.
#define ROWS 15
// How many times as much a whole word counts as a part within a word.
#define WHOLE_WORD 4

struct ranked {
    const struct record *record;
    unsigned message; // how the words fit it as a message
    unsigned phrase;  // and as its name
    bool disputed;
    unsigned score; // of the words one by one
};

struct query {
    char *text;  // as it was given
    char *plain; // see plain_text()
    char **word;
    size_t words;
};

static bool in_word(char c) {
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

// A whole word counts more than its beginning, and that more than any other part: "oom" is looked
// for, it is in "OOM killer" rather than in "oom_score" or in "room". What is not ASCII has no
// bounds.
static unsigned in_text(const char *text, const char *word, unsigned weight) {
    size_t length = strlen(word);
    unsigned best = 0;
    for (const char *at = text; at && (at = strcasestr(at, word)); at++) {
        bool unbounded = (unsigned char)*word >= 0x80;
        bool begins = unbounded || at == text || !in_word(at[-1]);
        bool ends = unbounded || !in_word(at[length]);
        unsigned found = weight * (begins && ends ? WHOLE_WORD : begins ? 2 : 1);
        if (found > best) best = found;
    }
    return best;
}

static unsigned in_texts(const struct bilingual *text, const char *word, unsigned weight) {
    unsigned en = in_text(text->text[LANGUAGE_EN], word, weight),
             zh = in_text(text->text[LANGUAGE_ZH], word, weight);
    return en > zh ? en : zh;
}

static unsigned in_list(const struct strings *list, const char *word, unsigned weight) {
    unsigned best = 0;
    for (size_t i = 0; i < list->count; i++) {
        unsigned score = in_text(list->item[i], word, weight);
        if (score > best) best = score;
    }
    return best;
}

static unsigned in_actions(const struct record_action *action, size_t count, const char *word) {
    for (size_t i = 0; i < count; i++)
        if (in_texts(&action[i].action, word, 1) | in_texts(&action[i].why_fails, word, 1) |
            in_list(&action[i].env, word, 1))
            return 1;
    return 0;
}

// How much a record has to do with a word: names count more than texts.
static unsigned word_score(const struct record *r, const char *word) {
    unsigned score =
        in_text(r->id, word, 8) + in_texts(&r->title, word, 8) + in_text(r->signature, word, 4) +
        in_text(r->regex, word, 2) + in_list(&r->templates, word, 4) + in_text(r->domain, word, 2) +
        in_list(&r->tags, word, 2) + in_list(&r->examples, word, 2) +
        in_texts(&r->cause.text, word, 1) + in_actions(r->workaround, r->workarounds, word) +
        in_actions(r->dead_end, r->dead_ends, word);
    unsigned code = 0, dispute = 0; // the best: a record is no nearer for having many
    for (size_t i = 0; i < r->codes; i++) {
        unsigned one = in_text(r->code[i].name, word, 4);
        if (one > code) code = one;
    }
    for (size_t i = 0; i < r->disputes; i++) {
        unsigned one = in_texts(&r->dispute[i].claim, word, 1);
        if (one > dispute) dispute = one;
    }
    return score + code + dispute;
}

// Words that are a message are looked for as one: its record first, then those that fit it, too.
static unsigned message_score(const struct record *r, const struct incident *const *incident,
                              size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (incident[i]->record == r) return 2;
        for (size_t k = 0; k < incident[i]->alsos; k++)
            if (incident[i]->also[k].record == r) return 1;
    }
    return 0;
}

static unsigned words_score(const struct record *r, const struct query *q) {
    unsigned all = 0;
    for (size_t i = 0; i < q->words; i++) {
        unsigned score = word_score(r, q->word[i]);
        if (!score) return 0;
        all += score;
    }
    return all;
}

// In small letters, one blank before, between and after words, "oom" for "out of memory": so
// "cuda/out-of-memory", "CUDA: out of memory" and "cuda oom" are one. The caller frees.
static char *plain_text(const char *text) {
    static const char *const shortages[] = {" out of memory ", " out of device memory "};
    static const char abbreviation[] = " oom ";
    char *plain = allocate(strlen(text) + 3, 1), *end = plain;
    *end++ = ' ';
    for (; *text; text++) {
        if (in_word(*text))
            *end++ = (char)tolower((unsigned char)*text);
        else if (end[-1] != ' ')
            *end++ = ' ';
    }
    if (end[-1] != ' ') *end = ' ';
    for (size_t i = 0; i < sizeof shortages / sizeof shortages[0]; i++)
        for (char *at = plain; (at = strstr(at, shortages[i]));) {
            char *rest = at + strlen(shortages[i]);
            memcpy(at, abbreviation, sizeof abbreviation - 1);
            memmove(at + sizeof abbreviation - 1, rest, strlen(rest) + 1);
        }
    return plain;
}

// How far the words, as they follow each other, are the record's name: all of its id; a part of id
// and title, and all of the id behind the family's name; a part of both, of the id, of the title,
// or none.
static unsigned phrase_score(const struct record *r, const struct query *q) {
    const char *slash = strchr(r->id, '/');
    char *id = plain_text(r->id), *name = plain_text(slash ? slash : r->id),
         *title = plain_text(record_text(&r->title, LANGUAGE_EN));
    bool in_id = strstr(id, q->plain), in_title = strstr(title, q->plain);
    unsigned score = !strcmp(id, q->plain) ? 5
                     : in_id && in_title   ? 3 + !strcmp(name, q->plain)
                     : in_id               ? 2
                                           : in_title;
    free(id);
    free(name);
    free(title);
    return score;
}

static int by_rank(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->message != y->message) return x->message > y->message ? -1 : 1;
    if (x->phrase != y->phrase) return x->phrase > y->phrase ? -1 : 1;
    if (x->disputed != y->disputed) return x->disputed ? 1 : -1;
    // Of records of one name the one that says least besides is the plainest.
    size_t m = strlen(x->record->id), n = strlen(y->record->id);
    if (x->phrase && m != n) return m < n ? -1 : 1;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return strcmp(x->record->id, y->record->id);
}

// The arguments as one text, and its words, without what ends a sentence.
static struct query read_query(const struct options *o) {
    struct query q = {0};
    size_t bytes = 1;
    for (int i = 0; i < o->words; i++) bytes += strlen(o->word[i]) + 1;
    q.text = allocate(bytes, 1);
    for (int i = 0; i < o->words; i++) strcat(strcat(q.text, i ? " " : ""), o->word[i]);
    q.plain = plain_text(q.text);
    q.word = allocate(bytes, sizeof *q.word);
    for (const char *at = q.text; *(at += strspn(at, " \t\n"));) {
        size_t length = strcspn(at, " \t\n"), kept = length;
        while (kept > 1 && strchr(".,;:!?", at[kept - 1])) kept--;
        char *word = strndup(at, kept);
        if (word) q.word[q.words++] = word;
        at += length;
    }
    return q;
}

static void free_query(struct query *q) {
    for (size_t i = 0; i < q->words; i++) free(q->word[i]);
    free(q->word);
    free(q->plain);
    free(q->text);
}

// The records that fit, best first; how many.
static size_t rank(const struct knowledge *knowledge, const struct query *q,
                   struct ranked *ranked) {
    size_t found = 0, count = 0;
    struct incidents *incidents = incidents_of_text(knowledge, q->text, strlen(q->text));
    const struct incident *const *list = incidents ? incidents_ranked(incidents, &count) : NULL;
    for (size_t i = 0; i < knowledge_count(knowledge); i++) {
        const struct record *r = knowledge_get(knowledge, i);
        struct ranked one = {.record = r,
                             .message = message_score(r, list, count),
                             .phrase = phrase_score(r, q),
                             .disputed = r->tier == TIER_DISPUTED,
                             .score = words_score(r, q)};
        if (one.message || one.phrase || one.score) ranked[found++] = one;
    }
    incidents_free(incidents);
    qsort(ranked, found, sizeof *ranked, by_rank);
    return found;
}

static int search(const struct options *o) {
    struct query q = read_query(o);
    if (!q.words) {
        free_query(&q);
        return fail(EXIT_USAGE, "kb search: words to look for are needed");
    }
    struct knowledge *knowledge = kb_open(&o->kb);
    size_t n = knowledge_count(knowledge);
    struct ranked *ranked = allocate(n + 1, sizeof *ranked);
    const struct record **record = allocate(n + 1, sizeof *record);
    size_t found = rank(knowledge, &q, ranked), shown = found > ROWS && !o->json ? ROWS : found;
    for (size_t i = 0; i < found; i++) record[i] = ranked[i].record;
    if (found || o->json) print_records(record, shown, o);
    if (found > shown)
        printf("and %zu more: another word narrows it down, --json lists all\n", found - shown);
    bool several = q.words > 1;
    free_query(&q);
    free((void *)record);
    free(ranked);
    knowledge_free(knowledge);
    if (found) return EXIT_OK;
    return fail(EXIT_NOTHING, "kb search: no record has %s",
                several ? "all of these words" : "this word");
}

// ---- show -----------------------------------------------------------------------------------

// The record of this id, or the only one whose id has the text in it. NULL if there is none or more
// than one, which standard error tells.
static const struct record *find_record(const struct knowledge *knowledge, const char *id) {
    const struct record *found = knowledge_find(knowledge, id);
    size_t alike = 0;
    if (found) return found;
    for (size_t i = 0; i < knowledge_count(knowledge); i++) {
        const struct record *record = knowledge_get(knowledge, i);
        if (!strstr(record->id, id)) continue;
        found = record;
        alike++;
    }
    if (alike == 1) return found;
    if (alike) {
        fail(EXIT_NOTHING, "kb show: %zu ids have '%s' in them:", alike, id);
        for (size_t i = 0; i < knowledge_count(knowledge); i++)
            if (strstr(knowledge_get(knowledge, i)->id, id))
                fprintf(stderr, "  %s\n", knowledge_get(knowledge, i)->id);
    } else {
        fail(EXIT_NOTHING, "kb show: there is no record '%s'; see `memwatch kb list`", id);
    }
    return NULL;
}

// As advice_print_record() prints its own.
static void print_labelled(const char *label, const char *text) {
    char indented[64];
    snprintf(indented, sizeof indented, "  %s", label);
    if (*text) print_paragraph(stdout, indented, 14, text);
}

// What advice_print_record() does not tell: which record it is, and how it is recognised.
static void print_head(const struct record *r, const struct options *o) {
    static const char *const labels[LANGUAGES][3] = {{"message", "codes", "file"},
                                                     {"消息", "错误码", "文件"}};
    const char *const *label = labels[o->language];
    char kind[256], codes[1024] = "";
    size_t used = 0;
    for (size_t i = 0; i < r->codes && used < sizeof codes; i++) {
        const struct record_code *c = &r->code[i];
        used += (size_t)snprintf(codes + used, sizeof codes - used, "%s%s%s%s", i ? ", " : "",
                                 c->api, *c->api ? " " : "", c->name);
        if (c->has_code && used < sizeof codes)
            used +=
                (size_t)snprintf(codes + used, sizeof codes - used, " (%lld)", (long long)c->code);
    }
    print_paragraph(stdout, "", 0, r->id);
    print_paragraph(stdout, "", 2, record_text(&r->title, o->language));
    snprintf(kind, sizeof kind, "%s, %s, %s", r->domain, r->category,
             severity_name(r->severity, o->language));
    print_paragraph(stdout, "", 2, kind);
    print_labelled(label[0], r->signature);
    print_labelled(label[1], codes);
    if (!r->bundled) print_labelled(label[2], r->file);
}

// Founding records: what they stated, and what of it holds.
static void print_founding(const struct record *r, const struct options *o) {
    const cJSON *founding = json_get(r->json, "founding"), *item;
    bool zh = o->language == LANGUAGE_ZH;
    if (!founding) return;
    printf("\n  %s\n", zh ? "原始记录中成立的说法" : "What holds of what the founding record said");
    cJSON_ArrayForEach(item, json_get(founding, "confirmed")) {
        const char *claim = zh ? json_text(item, "claim_zh") : NULL;
        if (!claim) claim = json_text(item, "claim");
        if (claim) print_paragraph(stdout, "    - ", 6, claim);
    }
    if (!json_get(founding, "figures")) return;
    printf("\n  %s\n",
           zh ? "它声称的数字（没有任何统计依据）" : "Its own figures (nothing was counted)");
    cJSON_ArrayForEach(item, json_get(founding, "figures")) if (cJSON_IsNumber(item)) {
        char figure[128];
        snprintf(figure, sizeof figure, "%s: %g", item->string, item->valuedouble);
        print_paragraph(stdout, "    - ", 6, figure);
    }
}

static int show(const struct options *o) {
    if (!o->words) return fail(EXIT_USAGE, "kb show: a record's id is needed");
    struct knowledge *knowledge = kb_open(&o->kb);
    int code = EXIT_OK;
    for (int i = 0; i < o->words; i++) {
        const struct record *record = find_record(knowledge, o->word[i]);
        if (!record) {
            code = EXIT_NOTHING;
        } else if (o->json) {
            char *text = cJSON_Print(record->json);
            if (text) puts(text);
            free(text);
        } else {
            if (i) fputs("\n", stdout);
            print_head(record, o);
            advice_print_record(stdout, knowledge, record, o->language);
            print_founding(record, o);
        }
    }
    knowledge_free(knowledge);
    return code;
}

// ---- the command line -----------------------------------------------------------------------

static const struct {
    const char *name;
    int (*function)(const struct options *o);
} actions[] = {{"lint", lint}, {"list", list}, {"show", show}, {"search", search}};
#define ACTIONS (sizeof actions / sizeof actions[0])

// -1: go on; else an exit code.
static int read_command_line(int argc, char **argv, struct options *o) {
    static const struct option options[] = {{"kb", required_argument, NULL, 'k'},
                                            {"domain", required_argument, NULL, 'd'},
                                            {"lang", required_argument, NULL, 'l'},
                                            {"negatives", required_argument, NULL, 'n'},
                                            {"json", no_argument, NULL, 'j'},
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
        if (c == 'k') known = kb_paths_add(&o->kb, optarg);
        if (c == 'd') o->domain = optarg;
        if (c == 'n') o->negatives = optarg;
        if (c == 'j') o->json = true;
        if (c == 'l' && !language_parse(optarg, &o->language))
            return fail(EXIT_USAGE, "kb: --lang takes en or zh, not '%s'", optarg);
        if (!known)
            return fail(EXIT_USAGE, "kb: wrong argument '%s'; see `memwatch kb --help`",
                        argv[optind - 1]);
    }
    o->word = argv + optind;
    o->words = argc - optind;
    return -1;
}

int cmd_kb(int argc, char **argv) {
    struct options o = {.language = language_of_environment()};
    int code = read_command_line(argc, argv, &o);
    if (code >= 0) return code;
    const char *name = o.words ? o.word[0] : "";
    for (size_t i = 0; i < ACTIONS; i++) {
        if (strcmp(name, actions[i].name) != 0) continue;
        o.word++;
        o.words--;
        code = actions[i].function(&o);
        if (ferror(stdout) || fflush(stdout) != 0)
            return fail(EXIT_DAMAGED, "kb: cannot write: %s", strerror(errno));
        return code;
    }
    return fail(EXIT_USAGE, "kb: lint, list, show or search, not '%s'; see `memwatch kb --help`",
                name);
}
