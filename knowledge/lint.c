// SPDX-License-Identifier: Apache-2.0
//
// The rules, one function each. A rule that does not hold is a finding; all are tried, so that an
// author sees everything at once.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "lint.h"
#include "template.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <pcre2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A record's expression must do with this on any line of a few hundred characters.
#define MATCH_LIMIT 1000000u
#define HEAP_LIMIT  8192u // KiB

struct pattern {
    const char *member; // "templates", "regex"
    size_t index;
    pcre2_code *code; // NULL: it does not compile
    bool proved;      // matches the signature or an example
};

struct run {
    const struct lint *lint;
    const struct record *record;
    size_t errors;
    struct pattern *pattern; // templates and regex
    size_t patterns;
    pcre2_match_data *data;
    pcre2_match_context *limits;
};

__attribute__((format(printf, 4, 5))) static void
find(struct run *run, enum lint_level level, const char *member, const char *format, ...) {
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *c = text; *c; c++)
        if (iscntrl((unsigned char)*c)) *c = ' ';
    run->errors += level == LINT_ERROR;
    if (run->lint->finding)
        run->lint->finding(run->lint->context, run->record, level, member, text);
}
#define error(run, member, ...) find(run, LINT_ERROR, member, __VA_ARGS__)
#define note(run, member, ...)  find(run, LINT_NOTE, member, __VA_ARGS__)

// ---- what exists ----------------------------------------------------------------------------

bool lint_env_known(const char *name, size_t length) {
    static const char *const known[] = {
#define ENV_NAME(name, reader) name,
#include "env_names.def"
#undef ENV_NAME
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strlen(known[i]) == length && !memcmp(known[i], name, length)) return true;
    return false;
}

bool lint_code_known(const char *api, const char *name, bool has_code, long long code) {
    static const struct {
        const char *api, *name;
        long long code;
    } known[] = {
#define ERROR_NAME(api, code, name) {api, name, code},
#include "error_names.def"
#undef ERROR_NAME
    };
    bool api_listed = !*api;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (*api && strcmp(api, known[i].api) != 0) continue;
        api_listed = true;
        if ((!*name || !strcmp(name, known[i].name)) && (!has_code || code == known[i].code))
            return true;
    }
    return !api_listed;
}

// ---- expressions ----------------------------------------------------------------------------

static pcre2_code *compile(struct run *run, const char *member, size_t index, const char *text,
                           bool imported) {
    struct template template;
    struct template_error why;
    pcre2_code *code = NULL;
    if (!(imported ? template_import : template_compile)(text, &template, &why)) {
        error(run, member, "%s[%zu], at character %zu: %s", member, index, why.at, why.reason);
    } else {
        int number;
        PCRE2_SIZE at;
        PCRE2_UCHAR reason[160] = "";
        code = pcre2_compile((PCRE2_SPTR) template.regex, PCRE2_ZERO_TERMINATED, PCRE2_CASELESS,
                             &number, &at, NULL);
        if (!code) {
            pcre2_get_error_message(number, reason, sizeof reason);
            error(run, member, "%s[%zu] does not compile, at %zu: %s", member, index, (size_t)at,
                  (const char *)reason);
        }
        if (template.shortest < TEMPLATE_LITERAL)
            error(run, member,
                  "%s[%zu] has no text of %d characters or more that every match contains", member,
                  index, TEMPLATE_LITERAL);
    }
    template_free(&template);
    return code;
}

static bool matches(struct run *run, struct pattern *pattern, const char *text, size_t length) {
    if (!pattern->code) return false;
    int n = pcre2_match(pattern->code, (PCRE2_SPTR)text, length, 0, 0, run->data, run->limits);
    if (n < 0 && n != PCRE2_ERROR_NOMATCH)
        error(run, pattern->member, "%s[%zu] takes too long on: %.*s", pattern->member,
              pattern->index, length < 80 ? (int)length : 80, text);
    return n >= 0;
}

static bool any_matches(struct run *run, const char *text) {
    bool any = false;
    for (size_t i = 0; i < run->patterns; i++)
        if (matches(run, &run->pattern[i], text, strlen(text))) any = run->pattern[i].proved = true;
    return any;
}

static void check_patterns(struct run *run) {
    const struct record *r = run->record;
    for (size_t i = 0; i < r->templates.count; i++)
        run->pattern[run->patterns++] = (struct pattern){
            "templates", i, compile(run, "templates", i, r->templates.item[i], false), false};
    if (*r->regex)
        run->pattern[run->patterns++] =
            (struct pattern){"regex", 0, compile(run, "regex", 0, r->regex, true), false};
    for (size_t i = 0; i < r->recovered_by.count; i++)
        pcre2_code_free(compile(run, "recovered_by", i, r->recovered_by.item[i], false));
    if (*r->regex && r->tier > TIER_REPORTED)
        error(run, "regex", "a record with an imported expression is at most \"reported\"");
    if (!run->patterns && !r->codes)
        error(run, "templates", "there is no template and no code: nothing can match it");
}

static void check_examples(struct run *run) {
    const struct record *r = run->record;
    if (!run->patterns) return;
    if (!*r->signature)
        error(run, "signature", "there is no signature");
    else if (!any_matches(run, r->signature))
        error(run, "signature", "the record does not match its own signature");
    if (!r->examples.count) error(run, "examples", "there is no example of a real message");
    for (size_t i = 0; i < r->examples.count; i++)
        if (!any_matches(run, r->examples.item[i]))
            error(run, "examples", "examples[%zu] does not match: %.120s", i, r->examples.item[i]);
    for (size_t i = 0; i < run->patterns; i++)
        if (run->pattern[i].code && !run->pattern[i].proved)
            note(run, run->pattern[i].member, "%s[%zu] matches neither signature nor any example",
                 run->pattern[i].member, run->pattern[i].index);
}

// A note may say what a harmless line means; everything above would be a false alarm.
static void check_negatives(struct run *run) {
    const char *at = run->lint->negatives, *end = at + run->lint->negatives_length;
    if (!at || run->record->severity == SEVERITY_NOTE) return;
    for (size_t line = 1; at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        size_t length = (size_t)(stop - at);
        bool comment = *at == '#' && (length == 1 || at[1] == ' ');
        for (size_t i = 0; length && !comment && i < run->patterns; i++)
            if (matches(run, &run->pattern[i], at, length))
                error(run, run->pattern[i].member,
                      "%s[%zu] matches line %zu of the negatives: %.*s", run->pattern[i].member,
                      run->pattern[i].index, line, length < 120 ? (int)length : 120, at);
        at = stop + (stop < end);
    }
}

// ---- names ----------------------------------------------------------------------------------

static void check_codes(struct run *run) {
    for (size_t i = 0; i < run->record->codes; i++) {
        const struct record_code *code = &run->record->code[i];
        const char *member = run->record->founding ? "error_code" : "codes";
        bool known = lint_code_known(code->api, code->name, code->has_code, code->code);
        if (!code->has_code && !*code->name)
            error(run, member, "codes[%zu] has neither code nor name", i);
        else if (!known && !code->disputed)
            error(run, member, "there is no error %s%s%s",
                  *code->name ? code->name : "of this code", *code->api ? " of " : "", code->api);
        else if (known && code->disputed)
            error(run, member, "%s exists: it cannot be disputed", code->name);
    }
}

static bool in_list(const struct strings *list, const char *name, size_t length) {
    for (size_t i = 0; i < list->count; i++)
        if (strlen(list->item[i]) == length && !memcmp(list->item[i], name, length)) return true;
    return false;
}

// "NAME=" in a text is an environment variable that it tells to set, if the name is like one.
// `env`: those that are named beside the text; NULL: nothing is.
static void check_assignments(struct run *run, const char *member, size_t index, const char *text,
                              const struct strings *env) {
    for (const char *equals = strchr(text, '='); equals; equals = strchr(equals + 1, '=')) {
        const char *begin = equals;
        bool underscore = false;
        while (begin > text && (isupper((unsigned char)begin[-1]) ||
                                isdigit((unsigned char)begin[-1]) || begin[-1] == '_'))
            underscore |= *--begin == '_';
        size_t length = (size_t)(equals - begin);
        bool inside = begin > text && (isalpha((unsigned char)begin[-1]) || begin[-1] == '-');
        if (!underscore || inside || !isupper((unsigned char)*begin)) continue;
        if (!lint_env_known(begin, length))
            error(run, member, "%s[%zu] sets %.*s, which is no known environment variable", member,
                  index, (int)length, begin);
        else if (env && !in_list(env, begin, length))
            note(run, member, "%s[%zu] sets %.*s, which its \"env\" does not name", member, index,
                 (int)length, begin);
    }
}

static void check_env(struct run *run, const char *member, size_t index,
                      const struct record_action *a) {
    for (size_t i = 0; i < a->env.count; i++)
        if (!lint_env_known(a->env.item[i], strlen(a->env.item[i])))
            error(run, member, "%s[%zu]: there is no environment variable %s", member, index,
                  a->env.item[i]);
    check_assignments(run, member, index, record_text(&a->action, LANGUAGE_EN), &a->env);
    check_assignments(run, member, index, record_text(&a->condition, LANGUAGE_EN), &a->env);
    check_assignments(run, member, index, record_text(&a->warning, LANGUAGE_EN), &a->env);
}

static void check_id(struct run *run, const char *member, const char *id) {
    if (!strcmp(id, run->record->id))
        error(run, member, "\"%s\" is the record itself", id);
    else if (!knowledge_find(run->lint->knowledge, id))
        error(run, member, "there is no record \"%s\"", id);
}

static void check_edges(struct run *run, const char *member, const struct record_edges *edges,
                        bool distinct) {
    for (size_t i = 0; i < edges->count; i++) {
        const struct record_edge *edge = &edges->item[i];
        check_id(run, member, edge->id);
        if (distinct && !*record_text(&edge->distinction, LANGUAGE_EN))
            error(run, member, "%s[%zu] does not say how to tell them apart", member, i);
    }
}

// ---- claims ---------------------------------------------------------------------------------

// A program's source is named "owner/repository:path", or with its version, "CUDA 13.0: cuda.h".
static bool names_program_source(const struct strings *sources) {
    for (size_t i = 0; i < sources->count; i++) {
        const char *colon = strchr(sources->item[i], ':');
        if (colon && colon != sources->item[i] && strncmp(colon, "://", 3) != 0) return true;
    }
    return false;
}

static bool says_nothing(const char *text) {
    return text[strspn(text, " \t\r\n")] == '\0';
}

// Different ones that have a name.
static size_t count_sources(const struct strings *sources) {
    size_t n = 0;
    for (size_t i = 0; i < sources->count; i++) {
        bool again = says_nothing(sources->item[i]);
        for (size_t k = 0; k < i; k++) again |= !strcmp(sources->item[k], sources->item[i]);
        n += !again;
    }
    return n;
}

static void check_sources(struct run *run, const char *member, const char *what, enum tier tier,
                          const struct strings *sources) {
    size_t count = count_sources(sources);
    if (tier > TIER_AI_GENERATED && !count)
        error(run, member, "%s is \"%s\", but has no source", what, tier_id(tier));
    else if (tier == TIER_CORROBORATED && count < 2)
        error(run, member, "%s is \"corroborated\", but has one source only", what);
    else if (tier == TIER_SOURCE_VERIFIED && !names_program_source(sources))
        error(run, member, "%s is \"source_verified\", but no source is a program's (REPO:PATH)",
              what);
}

static void check_action(struct run *run, const char *member, size_t i,
                         const struct record_action *a, bool dead_end) {
    char what[64];
    snprintf(what, sizeof what, "%s[%zu]", member, i);
    if (says_nothing(record_text(&a->action, LANGUAGE_EN)))
        error(run, member, "%s says nothing to do", what);
    if (dead_end && says_nothing(record_text(&a->why_fails, LANGUAGE_EN)))
        error(run, member, "%s does not say why it fails", what);
    if (a->stated_rate > 0 && !a->tried)
        error(run, member, "%s has a rate, but not of how many (\"n\", \"k\")", what);
    if (a->worked > a->tried) error(run, member, "%s helped more often than it was tried", what);
    if (a->tier == TIER_DISPUTED)
        error(run, member, "%s is disputed: then it belongs into \"disputed\"", what);
    check_sources(run, member, what, a->tier, &a->sources);
    check_env(run, member, i, a);
}

static void check_claims(struct run *run) {
    const struct record *r = run->record;
    const char *cause = record_text(&r->cause.text, LANGUAGE_EN);
    if (says_nothing(cause)) error(run, "root_cause", "there is no cause");
    check_assignments(run, "root_cause", 0, cause, NULL);
    check_sources(run, "root_cause", "the cause", r->cause.tier, &r->cause.sources);
    // What identifies the error may be told by the same sources as the cause.
    check_sources(run, "verification_tier", "the record", r->tier,
                  r->sources.count ? &r->sources : &r->cause.sources);
    for (size_t i = 0; i < r->workarounds; i++)
        check_action(run, "workarounds", i, &r->workaround[i], false);
    for (size_t i = 0; i < r->dead_ends; i++)
        check_action(run, "dead_ends", i, &r->dead_end[i], true);
    if (r->tier == TIER_DISPUTED && !r->disputes)
        error(run, "disputed", "the record is disputed, but \"disputed\" does not say why");
    for (size_t i = 0; i < r->disputes; i++) {
        const struct record_dispute *d = &r->dispute[i];
        if (!*record_text(&d->claim, LANGUAGE_EN))
            error(run, "disputed", "disputed[%zu] has no claim", i);
        size_t evidence = d->evidence[LANGUAGE_EN].count, zh = d->evidence[LANGUAGE_ZH].count;
        if (!evidence) error(run, "disputed", "disputed[%zu] has no evidence", i);
        if (zh && zh != evidence)
            error(run, "disputed", "disputed[%zu] has other evidence in Chinese than in English",
                  i);
        if (!*d->checked_on || !*record_text(&d->checked_against, LANGUAGE_EN))
            error(run, "disputed", "disputed[%zu] does not say when, against what it was checked",
                  i);
        if (*d->see) check_id(run, "disputed", d->see);
    }
}

// Guesses that look like statistics.
static void check_figures(struct run *run) {
    static const char *const figures[] = {"confidence", "fix_success_rate", "success_rate",
                                          "fail_rate"};
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(run->record->json, figures[i]);
        if (cJSON_IsNumber(item) && item->valuedouble > 0)
            error(run, figures[i], "\"%s\" is a rate without counts", figures[i]);
    }
}

static void check_head(struct run *run) {
    const struct record *r = run->record;
    const struct {
        const char *member, *text;
    } heads[] = {{"title", record_text(&r->title, LANGUAGE_EN)},
                 {"domain", r->domain},
                 {"category", r->category},
                 {"last_updated", r->last_updated}};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        if (!*heads[i].text) error(run, heads[i].member, "there is no \"%s\"", heads[i].member);
}

// A misspelt member would be ignored in silence. The founding format has others, of no use here.
static void check_members(struct run *run) {
    static const char *const known[] = {"$schema",      "schema",           "id",
                                        "title",        "title_zh",         "domain",
                                        "category",     "severity",         "signature",
                                        "signature_zh", "templates",        "regex",
                                        "recovered_by", "fields",           "codes",
                                        "root_cause",   "workarounds",      "dead_ends",
                                        "disputed",     "transition_graph", "versions",
                                        "examples",     "sources",          "first_seen",
                                        "last_updated", "founding",         "verification_tier",
                                        "tags"};
    const cJSON *item;
    if (run->record->founding) return;
    cJSON_ArrayForEach(item, (const cJSON *)run->record->json) {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
            found |= !strcmp(item->string, known[i]);
        if (!found) error(run, item->string, "\"%.60s\" is not part of the format", item->string);
    }
}

// ---- all ------------------------------------------------------------------------------------

size_t lint_record(const struct lint *lint, const struct record *record) {
    struct run run = {.lint = lint, .record = record};
    run.pattern = calloc(record->templates.count + 1, sizeof *run.pattern);
    run.data = pcre2_match_data_create(TEMPLATE_FIELDS + 1, NULL);
    run.limits = pcre2_match_context_create(NULL);
    if (!run.pattern || !run.data || !run.limits) {
        error(&run, "", "no memory to check it");
    } else {
        pcre2_set_match_limit(run.limits, MATCH_LIMIT);
        pcre2_set_heap_limit(run.limits, HEAP_LIMIT);
        check_head(&run);
        check_members(&run);
        check_patterns(&run);
        check_examples(&run);
        check_negatives(&run);
        check_codes(&run);
        check_claims(&run);
        check_figures(&run);
        check_edges(&run, "leads_to", &record->leads_to, false);
        check_edges(&run, "preceded_by", &record->preceded_by, false);
        check_edges(&run, "frequently_confused_with", &record->confused_with, true);
    }
    for (size_t i = 0; i < run.patterns; i++) pcre2_code_free(run.pattern[i].code);
    pcre2_match_context_free(run.limits);
    pcre2_match_data_free(run.data);
    free(run.pattern);
    return run.errors;
}
