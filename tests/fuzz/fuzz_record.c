// SPDX-License-Identifier: Apache-2.0
//
// Whatever a record's file holds, loading it, reading all of it and checking it with the lint must
// neither crash nor hang nor read a byte that is not its own; what is refused has a reason.
// Whatever a template says, the expression made from it is one that PCRE2 takes, and each of its
// matches contains one of the template's literals: on that the matcher relies.
//
//   fuzz_record [COUNT [SEED]]   reads COUNT mutations of records, always the same for the same
//                                seed: what `make test` does
//   with -fsanitize=fuzzer -DLIBFUZZER (clang) it is a libFuzzer target instead; good first inputs
//   are the files of knowledge/records
#define PCRE2_CODE_UNIT_WIDTH 8
#include "lint.h"
#include "template.h"

#include <assert.h>
#include <ctype.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t complaints, records, matches, read_bytes;

static void complain(void *context, const char *file, size_t line, const char *reason) {
    (void)line;
    assert(context == &complaints && *file && *reason && !strchr(reason, '\n'));
    complaints++;
}

static void finding(void *context, const struct record *record, enum lint_level level,
                    const char *member, const char *text) {
    assert(context == &complaints && record->id && level <= LINT_ERROR && member && *text);
    assert(!strchr(text, '\n'));
}

// ---- everything that a reader of records may touch ------------------------------------------

static void touch(const char *text) {
    read_bytes += strlen(text);
}

static void touch_both(const struct bilingual *text) {
    touch(record_text(text, LANGUAGE_EN));
    touch(record_text(text, LANGUAGE_ZH));
}

static void touch_list(const struct strings *list) {
    for (size_t i = 0; i < list->count; i++) touch(list->item[i]);
}

static void touch_actions(const struct record_action *action, size_t count) {
    for (size_t i = 0; i < count; i++) {
        touch_both(&action[i].action);
        touch_both(&action[i].why_fails);
        touch_both(&action[i].condition);
        touch_both(&action[i].warning);
        touch_list(&action[i].env);
        touch_list(&action[i].sources);
        touch(tier_name(action[i].tier, LANGUAGE_ZH));
    }
}

static void touch_edges(const struct record_edges *edges) {
    for (size_t i = 0; i < edges->count; i++) {
        touch(edges->item[i].id);
        touch_both(&edges->item[i].condition);
        touch_both(&edges->item[i].distinction);
    }
}

static void touch_record(const struct record *r) {
    touch(r->id);
    touch(r->file);
    touch_both(&r->title);
    touch(r->domain);
    touch(r->category);
    touch(severity_name(r->severity, LANGUAGE_EN));
    touch(tier_id(r->tier));
    touch(r->signature);
    touch(r->regex);
    touch_list(&r->templates);
    touch_list(&r->recovered_by);
    touch_list(&r->examples);
    touch_list(&r->sources);
    touch_list(&r->tags);
    touch_both(&r->cause.text);
    touch_both(&r->cause.hypothesis);
    touch_list(&r->cause.sources);
    touch_actions(r->workaround, r->workarounds);
    touch_actions(r->dead_end, r->dead_ends);
    touch_edges(&r->leads_to);
    touch_edges(&r->preceded_by);
    touch_edges(&r->confused_with);
    for (size_t i = 0; i < r->codes; i++) {
        touch(r->code[i].api);
        touch(r->code[i].name);
    }
    for (size_t i = 0; i < r->fields; i++) touch_both(record_sentinel(r, r->field[i].name));
    for (size_t i = 0; i < r->versions; i++) {
        touch(r->version[i].version);
        touch_both(&r->version[i].behavior_change);
    }
    for (size_t i = 0; i < r->disputes; i++) {
        touch_both(&r->dispute[i].claim);
        touch_list(dispute_evidence(&r->dispute[i], LANGUAGE_EN));
        touch_list(dispute_evidence(&r->dispute[i], LANGUAGE_ZH));
        touch(r->dispute[i].checked_on);
        touch_both(&r->dispute[i].checked_against);
        touch(r->dispute[i].see);
        touch(claim_verdict_id(r->dispute[i].verdict));
    }
    assert(record_confidence(r, r->tier) >= 0 && record_confidence(r, r->tier) <= 1);
}

// ---- templates ------------------------------------------------------------------------------

static bool has_literal(const struct template *t, const char *text, size_t length) {
    char *plain = malloc(length + 1);
    size_t n = 0;
    bool found = !t->literals;
    for (size_t i = 0; i < length; i++) {
        bool blank = text[i] == ' ' || (text[i] >= '\t' && text[i] <= '\r');
        if (blank && n && plain[n - 1] == ' ') continue;
        plain[n++] = blank ? ' ' : (char)tolower((unsigned char)text[i]);
    }
    plain[n] = 0;
    for (size_t i = 0; i < t->literals && !found; i++) found = strstr(plain, t->literal[i]);
    free(plain);
    return found;
}

static void try_expression(const struct template *t, bool imported, const char *text) {
    int number;
    PCRE2_SIZE at;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)t->regex, PCRE2_ZERO_TERMINATED, PCRE2_CASELESS,
                                     &number, &at, NULL);
    assert(code || imported || number == PCRE2_ERROR_PATTERN_TOO_LARGE);
    if (!code) return;
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(code, NULL);
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    pcre2_set_match_limit(limits, 20000);
    if (pcre2_match(code, (PCRE2_SPTR)text, strlen(text), 0, 0, data, limits) >= 0) {
        const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(data);
        assert(has_literal(t, text + ends[0], ends[1] - ends[0]));
        matches++;
    }
    pcre2_match_context_free(limits);
    pcre2_match_data_free(data);
    pcre2_code_free(code);
}

// The text as a template, and as an expression; what it matches is looked for in itself and in what
// a template becomes when its marks are left out.
static void try_template(const char *text) {
    struct template t;
    struct template_error error;
    char *plain = strdup(text);
    size_t n = 0;
    for (const char *c = text; *c; c++)
        if (!strchr("\\[]<>|{}()?*+.", *c)) plain[n++] = *c;
    plain[n] = 0;
    for (int imported = 0; imported < 2; imported++) {
        bool ok = imported ? template_import(text, &t, &error) : template_compile(text, &t, &error);
        assert(ok || (error.reason[0] && error.at <= strlen(text)));
        if (ok) {
            try_expression(&t, imported, text);
            try_expression(&t, imported, plain);
        }
        template_free(&t);
    }
    free(plain);
}

static void try_record(const struct record *r) {
    for (size_t i = 0; i < r->templates.count && i < 8; i++) try_template(r->templates.item[i]);
    if (*r->regex) try_template(r->regex);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char negatives[] = "# a comment\nnothing here\n\nCUDA is fine\n";
    struct knowledge *knowledge = knowledge_new();
    char *text = malloc(size + 1);
    if (!knowledge || !text) abort();
    memcpy(text, data, size);
    text[size] = 0;
    complaints = 0;
    size_t n = knowledge_load_text(knowledge, "input", text, size, complain, &complaints);
    assert(n == knowledge_count(knowledge) && (n || complaints));
    records += n;
    if (n) {
        struct lint lint = {.knowledge = knowledge,
                            .negatives = negatives,
                            .negatives_length = strlen(negatives),
                            .finding = finding,
                            .context = &complaints};
        const struct record *r = knowledge_get(knowledge, 0);
        touch_record(r);
        try_record(r);
        if (size < 20000) lint_record(&lint, r); // its work grows with templates times examples
        // A second time: the id is taken.
        assert(!knowledge_load_text(knowledge, "again", text, size, complain, &complaints));
        assert(knowledge_find(knowledge, r->id) == r);
    }
    try_template(text);
    knowledge_free(knowledge);
    free(text);
    return 0;
}

#ifndef LIBFUZZER

static uint64_t state;

// xorshift64*: the same numbers everywhere.
static uint64_t number(void) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * UINT64_C(2685821657736338717);
}

static size_t below(size_t n) {
    return number() % n;
}

static const char *const samples[] = {
    "{\"schema\": \"memwatch-knowledge/1\", \"id\": \"a/b\", \"title\": \"T\", \"title_zh\": "
    "\"标题\","
    " \"domain\": \"cuda\", \"category\": \"limit\", \"severity\": \"fatal\", \"signature\": "
    "\"CUDA out"
    " of memory. Tried to allocate 2 GiB (GPU 0)\", \"templates\": [\"CUDA out of memory. Tried to"
    " allocate {request:size} (GPU {device:int}[; {:40} capacity])\", \"<one|two {x:word}> "
    "\\\\[it\\\\]"
    " {} end {why:text}\"], \"recovered_by\": [\"retrying\"], \"fields\": {\"limit\": "
    "{\"sentinel\":"
    " \"unlimited\"}}, \"codes\": [{\"api\": \"cuda-driver\", \"code\": 2, \"name\":"
    " \"CUDA_ERROR_OUT_OF_MEMORY\"}], \"root_cause\": {\"text\": \"why\", \"text_zh\": \"原因\","
    " \"tier\": \"source_verified\", \"sources\": [\"o/r:a.c\"]}, \"workarounds\": [{\"action\":"
    " \"PYTORCH_ALLOC_CONF=x\", \"condition\": \"if\", \"warning\": \"w\", \"env\":"
    " [\"PYTORCH_ALLOC_CONF\"], \"tier\": \"reported\", \"sources\": [\"o/r#2\"], \"n\": 3, \"k\": "
    "2}],"
    " \"dead_ends\": [{\"action\": \"try\", \"why_fails\": \"no\", \"tier\": \"reproduced\","
    " \"sources\": [\"t\"]}], \"disputed\": [{\"claim\": \"so\", \"verdict\": \"false\", "
    "\"evidence\":"
    " [\"not\"], \"checked_on\": \"2026-01-02\", \"checked_against\": \"it\", \"see\": \"c/d\"}],"
    " \"transition_graph\": {\"leads_to\": [{\"error_id\": \"c/d\", \"condition\": \"then\"}],"
    " \"frequently_confused_with\": [{\"error_id\": \"a/b\", \"distinction\": \"d\"}]}, "
    "\"versions\":"
    " [{\"version\": \"1\", \"behavior_change\": \"new\"}], \"examples\": [\"two x [it] y end z\"],"
    " \"verification_tier\": \"corroborated\", \"last_updated\": \"2026-01-02\", \"tags\": "
    "[\"t\"]}",
    "{\"id\": \"cuda/some-limit\", \"signature\": \"some limit\", \"signature_zh\": \"限制\","
    " \"regex\": \"some.*(limit|border)s?[a-z]{1,3}\\\\d+\", \"domain\": \"cuda\", \"subcategory\":"
    " null, \"root_cause\": \"It is full.\", \"root_cause_zh\": \"已满。\", \"versions\": "
    "[{\"version\":"
    " \"CUDA 1\", \"behavior_change\": null}], \"dead_ends\": [{\"action\": \"\", \"why_fails\":"
    " \"No.\", \"fail_rate\": 0.9}], \"workarounds\": [{\"action\": \"Less.\", \"success_rate\": "
    "0.85},"
    " \"More.\"], \"workarounds_zh\": [\"减少。\"], \"transition_graph\": {\"leads_to\": "
    "[\"cuda/n\"]},"
    " \"error_code\": \"cudaErrorSome\", \"verification_tier\": \"ai_generated\", \"confidence\": "
    "0.87,"
    " \"resolvable\": \"true\", \"evidence_count\": 1}",
    "CUDA out of memory. Tried to <allocate|get> {request:size} [(GPU {device:int}{:9})] \\{x\\}",
    "out of (?:memory|room) on [a-z]+ \\d{1,3}(, (?:retry|stop))? here",
};
#    define SAMPLES (sizeof samples / sizeof samples[0])

// What decides something in JSON, templates and expressions.
static const char telling[] = "{}[]\",:\\<>|()?*+.^$0123456789-eE \n\t/abn\x80\xc2\xff";

static size_t mutate(char *data, size_t size, size_t room) {
    for (size_t n = below(6); n; n--) {
        size_t at = below(size), bytes = 1 + below(20), from = below(size);
        if (bytes > size - at) bytes = size - at;
        if (bytes > size - from) bytes = size - from;
        switch (below(5)) {
        case 0:
            data[at] = telling[below(sizeof telling)];
            break;
        case 1:
            data[at] = (char)number();
            break;
        case 2:
            memmove(data + at, data + from, bytes);
            break;
        case 3: // out
            memmove(data + at, data + at + bytes, size - at - bytes);
            size -= bytes < size ? bytes : 0;
            break;
        default: // in again
            if (size + bytes > room) break;
            memmove(data + at + bytes, data + at, size - at);
            size += bytes;
        }
    }
    return size;
}

int main(int argc, char **argv) {
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 6000;
    state = argc > 2 ? strtoul(argv[2], NULL, 10) : 20260214;
    char data[8192];
    for (unsigned long i = 0; i < count; i++) {
        size_t size = strlen(samples[i % SAMPLES]);
        memcpy(data, samples[i % SAMPLES], size);
        size = mutate(data, size, sizeof data);
        LLVMFuzzerTestOneInput((const uint8_t *)data, below(32) ? size : below(size + 1));
    }
    printf("%lu inputs read: %zu records, %zu matches\n", count, records, matches);
    return 0;
}

#endif
