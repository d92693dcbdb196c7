// SPDX-License-Identifier: Apache-2.0
// links: knowledge/record.c knowledge/folder.c
//
// Records in both formats are read whole; what is missing reads as empty; what cannot be read is
// told with file, line and reason, and costs nothing but itself.
#include "../../knowledge/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct heard {
    unsigned count;
    size_t line;      // of the first complaint
    char reason[512]; // of the first
    char file[256];
};

static void hear(void *context, const char *file, size_t line, const char *reason) {
    struct heard *heard = context;
    if (heard->count++) return;
    heard->line = line;
    snprintf(heard->reason, sizeof heard->reason, "%s", reason);
    snprintf(heard->file, sizeof heard->file, "%s", file);
}

static struct knowledge *knowledge;
static struct heard heard;

static int begin(void **state) {
    (void)state;
    knowledge = knowledge_new();
    memset(&heard, 0, sizeof heard);
    return knowledge ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    knowledge_free(knowledge);
    return 0;
}

static const struct record *load(const char *json) {
    size_t before = knowledge_count(knowledge);
    size_t n = knowledge_load_text(knowledge, "a.json", json, strlen(json), hear, &heard);
    assert_int_equal(knowledge_count(knowledge), before + n);
    return n ? knowledge_get(knowledge, before) : NULL;
}

#define MINIMAL "{\"id\": \"a/b\"}"

static const char own[] =
    "{\"schema\": \"memwatch-knowledge/1\", \"id\": \"family/name\",\n"
    " \"title\": \"A title\", \"title_zh\": \"标题\", \"domain\": \"cuda\", \"category\": "
    "\"limit\",\n"
    " \"severity\": \"fatal\", \"signature\": \"it failed\",\n"
    " \"templates\": [\"it {x:word}\", \"or that\"], \"recovered_by\": [\"went on\"],\n"
    " \"fields\": {\"limit\": {\"sentinel\": \"unlimited\", \"sentinel_zh\": \"不限\"}},\n"
    " \"codes\": [{\"api\": \"cuda-driver\", \"code\": 2, \"name\": "
    "\"CUDA_ERROR_OUT_OF_MEMORY\"},\n"
    "           {\"name\": \"cudaErrorMadeUp\", \"disputed\": true}],\n"
    " \"root_cause\": {\"text\": \"why\", \"text_zh\": \"原因\", \"hypothesis\": \"perhaps\",\n"
    "                \"tier\": \"source_verified\", \"sources\": [\"o/r:a.c\", \"o/r#1\"]},\n"
    " \"workarounds\": [{\"action\": \"do\", \"action_zh\": \"做\", \"condition\": \"if\",\n"
    "                  \"warning\": \"risk\", \"env\": [\"A_B\"], \"tier\": \"reported\",\n"
    "                  \"sources\": [\"o/r#2\"], \"n\": 10, \"k\": 7}],\n"
    " \"dead_ends\": [{\"action\": \"try\", \"why_fails\": \"no\", \"why_fails_zh\": \"否\",\n"
    "                \"tier\": \"reproduced\", \"sources\": [\"t\"]}],\n"
    " \"disputed\": [{\"claim\": \"so\", \"verdict\": \"false\", \"evidence\": [\"not so\"],\n"
    "               \"evidence_zh\": [\"并非\"],\n"
    "               \"checked_on\": \"2026-01-02\", \"checked_against\": \"it\", "
    "\"checked_against_zh\": \"它\", \"see\": "
    "\"c/d\",\n"
    "               \"stated_rate\": 0.9}],\n"
    " \"transition_graph\": {\"leads_to\": [{\"error_id\": \"c/d\", \"condition\": \"then\"}],\n"
    "   \"frequently_confused_with\": [{\"error_id\": \"e/f\", \"distinction\": \"other\"}]},\n"
    " \"versions\": [{\"version\": \"1\", \"behavior_change\": \"new\", \"behavior_change_zh\": "
    "\"新\"}],\n"
    " \"examples\": [\"it failed\\nhere\"], \"verification_tier\": \"corroborated\",\n"
    " \"last_updated\": \"2026-01-02\", \"tags\": [\"t\"]}";

static void a_record_of_our_format_is_read_whole(void **state) {
    (void)state;
    const struct record *r = load(own);
    assert_non_null(r);
    assert_int_equal(heard.count, 0);
    assert_string_equal(r->id, "family/name");
    assert_string_equal(r->file, "a.json");
    assert_false(r->founding || r->bundled);
    assert_string_equal(record_text(&r->title, LANGUAGE_ZH), "标题");
    assert_string_equal(record_text(&r->title, LANGUAGE_EN), "A title");
    assert_int_equal(r->severity, SEVERITY_FATAL);
    assert_int_equal(r->tier, TIER_CORROBORATED);
    assert_int_equal(r->templates.count, 2);
    assert_string_equal(r->templates.item[1], "or that");
    assert_string_equal(r->recovered_by.item[0], "went on");
    assert_string_equal(record_text(record_sentinel(r, "limit"), LANGUAGE_EN), "unlimited");
    assert_string_equal(record_text(record_sentinel(r, "limit"), LANGUAGE_ZH), "不限");
    assert_null(record_sentinel(r, "total"));
    assert_int_equal(r->codes, 2);
    assert_true(r->code[0].has_code && r->code[0].code == 2 && !r->code[0].disputed);
    assert_true(!r->code[1].has_code && r->code[1].disputed && !*r->code[1].api);
    assert_string_equal(record_text(&r->cause.text, LANGUAGE_ZH), "原因");
    assert_string_equal(record_text(&r->cause.hypothesis, LANGUAGE_EN), "perhaps");
    assert_int_equal(r->cause.tier, TIER_SOURCE_VERIFIED);
    assert_int_equal(r->cause.sources.count, 2);
    assert_string_equal(r->workaround[0].warning.text[LANGUAGE_EN], "risk");
    assert_string_equal(r->workaround[0].env.item[0], "A_B");
    assert_true(r->workaround[0].tried == 10 && r->workaround[0].worked == 7);
    assert_int_equal(r->dead_end[0].tier, TIER_REPRODUCED);
    assert_string_equal(record_text(&r->dead_end[0].why_fails, LANGUAGE_ZH), "否");
    assert_int_equal(r->dispute[0].verdict, CLAIM_FALSE);
    assert_string_equal(r->dispute[0].see, "c/d");
    assert_string_equal(dispute_evidence(&r->dispute[0], LANGUAGE_EN)->item[0], "not so");
    assert_string_equal(dispute_evidence(&r->dispute[0], LANGUAGE_ZH)->item[0], "并非");
    assert_string_equal(record_text(&r->dispute[0].checked_against, LANGUAGE_ZH), "它");
    assert_true(r->dispute[0].stated_rate == 0.9);
    assert_string_equal(r->leads_to.item[0].condition.text[LANGUAGE_EN], "then");
    assert_string_equal(r->confused_with.item[0].distinction.text[LANGUAGE_EN], "other");
    assert_string_equal(record_text(&r->version[0].behavior_change, LANGUAGE_EN), "new");
    assert_string_equal(record_text(&r->version[0].behavior_change, LANGUAGE_ZH), "新");
    assert_string_equal(r->examples.item[0], "it failed\nhere");
    assert_ptr_equal(knowledge_find(knowledge, "family/name"), r);
}

static const char founding[] =
    "{\"id\": \"cuda/some-limit\", \"signature\": \"CUDA error: some limit\",\n"
    " \"signature_zh\": \"CUDA 错误\", \"regex\": \"some limit\", \"domain\": \"cuda\",\n"
    " \"category\": \"resource_error\", \"subcategory\": null, \"root_cause\": \"It is full.\",\n"
    " \"root_cause_type\": \"generic\", \"root_cause_zh\": \"已满。\",\n"
    " \"versions\": [{\"version\": \"CUDA 1\", \"introduced\": null, \"behavior_change\": null}],\n"
    " \"os_specific\": {}, \"dead_ends\": [{\"action\": \"\", \"why_fails\": \"No.\",\n"
    "   \"fail_rate\": 0.9, \"condition\": \"\", \"sources\": []}],\n"
    " \"workarounds\": [{\"action\": \"Less.\", \"success_rate\": 0.85, \"how\": \"Less.\",\n"
    "   \"condition\": \"\", \"sources\": []}, \"More.\"], \"workarounds_zh\": [\"减少。\", "
    "\"增加。\"],\n"
    " \"transition_graph\": {\"leads_to\": [\"cuda/next\"], \"preceded_by\": [],\n"
    "   \"frequently_confused_with\": []}, \"official_doc_url\": \"https://example.org\",\n"
    " \"error_code\": \"cudaErrorSomeLimit\", \"verification_tier\": \"ai_generated\",\n"
    " \"confidence\": 0.87, \"resolvable\": \"true\", \"last_updated\": \"2025-04-10\",\n"
    " \"evidence_count\": 1, \"tags\": [], \"locale\": \"en\", \"aliases\": []}";

static void a_record_of_the_founding_format_is_read_as_it_is(void **state) {
    (void)state;
    const struct record *r = load(founding);
    assert_non_null(r);
    assert_int_equal(heard.count, 0);
    assert_true(r->founding);
    assert_string_equal(r->regex, "some limit");
    assert_string_equal(record_text(&r->title, LANGUAGE_EN), "CUDA error: some limit");
    assert_string_equal(record_text(&r->title, LANGUAGE_ZH), "CUDA 错误");
    assert_string_equal(record_text(&r->cause.text, LANGUAGE_ZH), "已满。");
    assert_int_equal(r->cause.tier, TIER_AI_GENERATED);
    assert_int_equal(r->severity, SEVERITY_ERROR);
    assert_int_equal(r->workarounds, 2);
    assert_string_equal(record_text(&r->workaround[1].action, LANGUAGE_EN), "More.");
    assert_string_equal(record_text(&r->workaround[1].action, LANGUAGE_ZH), "增加。");
    assert_true(r->workaround[0].stated_rate == 0.85 && !r->workaround[0].tried);
    assert_string_equal(record_text(&r->dead_end[0].action, LANGUAGE_EN), "");
    assert_true(r->dead_end[0].stated_rate == 0.9);
    assert_int_equal(r->codes, 1);
    assert_string_equal(r->code[0].name, "cudaErrorSomeLimit");
    assert_string_equal(r->leads_to.item[0].id, "cuda/next");
    assert_string_equal(record_text(&r->version[0].behavior_change, LANGUAGE_EN), "");
}

static void nothing_but_an_id_is_needed(void **state) {
    (void)state;
    const struct record *r = load(MINIMAL);
    assert_non_null(r);
    assert_int_equal(heard.count, 0);
    assert_string_equal(r->signature, "");
    assert_string_equal(record_text(&r->title, LANGUAGE_ZH), "");
    assert_string_equal(record_text(&r->cause.hypothesis, LANGUAGE_EN), "");
    assert_int_equal(r->workarounds + r->templates.count + r->codes + r->leads_to.count, 0);
}

static void confidence_is_capped_by_the_tier(void **state) {
    (void)state;
    const struct record *r = load(founding);
    assert_true(record_confidence(r, TIER_DISPUTED) == 0);
    assert_true(record_confidence(r, TIER_AI_GENERATED) == 0.3);
    assert_true(record_confidence(r, TIER_REPORTED) == 0.5);
    assert_true(record_confidence(r, TIER_CORROBORATED) == 0.7);
    assert_true(record_confidence(r, TIER_SOURCE_VERIFIED) == 0.87); // its own figure is lower
}

static void tiers_of_the_older_format_have_their_like(void **state) {
    (void)state;
    static const struct {
        const char *name;
        enum tier tier;
    } cases[] = {{"auto_generated", TIER_AI_GENERATED},
                 {"human_reviewed", TIER_REPORTED},
                 {"community_verified", TIER_CORROBORATED},
                 {"disputed", TIER_DISPUTED}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char json[200];
        snprintf(json, sizeof json, "{\"id\": \"a/b%zu\", \"verification_tier\": \"%s\"}", i,
                 cases[i].name);
        assert_int_equal(load(json)->tier, cases[i].tier);
    }
    assert_int_equal(heard.count, 0);
}

static void what_cannot_be_read_is_told_with_line_and_reason(void **state) {
    (void)state;
    static const struct {
        const char *json;
        size_t line;
        const char *reason;
    } cases[] = {
        {"", 1, "too early"},
        {"{\n\"id\": \"a/b\",\n\"title\": oops}", 3, "not valid JSON here: oops"},
        {"{\"id\": \"a/b\"", 1, "too early"},
        {"{\"id\": \"a/b\"}\n\nx", 3, "follows"},
        {"[]", 1, "no JSON object"},
        {"{}", 1, "no \"id\""},
        {"{\n\"id\": 5}", 1, "no \"id\""},
        {"{\n\n\"id\": \"one\"}", 3, "is no id"},
        {"{\"id\": \"a/b/c/d\"}", 1, "is no id"},
        {"{\"id\": \"A/b\"}", 1, "is no id"},
        {"{\"id\": \"a/\"}", 1, "is no id"},
        {"{\"id\": \"a/b\",\n\"schema\": \"memwatch-knowledge/2\"}", 2, "memwatch-knowledge/2"},
        {"{\"id\": \"a/b\",\n\n\"title\": \"\xff\"}", 3, "not UTF-8"},
        {"{\"id\": \"a/b\", \"title\": \"\xed\xa0\x80\"}", 1, "not UTF-8"}, // a surrogate
        {"{\"id\": \"a/b\", \"title\": \"\xc0\xaf\"}", 1, "not UTF-8"},     // overlong
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memset(&heard, 0, sizeof heard);
        assert_null(load(cases[i].json));
        if (heard.count != 1 || heard.line != cases[i].line ||
            !strstr(heard.reason, cases[i].reason))
            fail_msg("%s: %u complaints, line %zu: %s", cases[i].json, heard.count, heard.line,
                     heard.reason);
        assert_string_equal(heard.file, "a.json");
    }
    memset(&heard, 0, sizeof heard);
    assert_int_equal(knowledge_load_text(knowledge, "n", "{\0}", 3, hear, &heard), 0);
    assert_non_null(strstr(heard.reason, "NUL"));
    assert_non_null(load(MINIMAL)); // and the rest still loads
}

static void a_member_of_the_wrong_type_costs_only_itself(void **state) {
    (void)state;
    const struct record *r =
        load("{\"id\": \"a/b\", \"domain\": \"cuda\",\n\"title\": 5, \"templates\": [\"one\", 2],\n"
             "\"workarounds\": [3, {\"action\": \"do\"}], \"severity\": \"huge\"}");
    assert_non_null(r);
    assert_int_equal(heard.count, 4);
    assert_int_equal(heard.line, 2);
    assert_string_equal(heard.reason, "\"title\" is not a text: left out");
    assert_string_equal(r->domain, "cuda");
    assert_int_equal(r->templates.count, 1);
    assert_int_equal(r->workarounds, 1);
    assert_string_equal(record_text(&r->workaround[0].action, LANGUAGE_EN), "do");
    assert_int_equal(r->severity, SEVERITY_ERROR);
}

static void an_id_that_is_there_already_stays_what_it_was(void **state) {
    (void)state;
    assert_non_null(load("{\"id\": \"a/b\", \"domain\": \"first\"}"));
    assert_null(load("{\n\"id\": \"a/b\", \"domain\": \"second\"}"));
    assert_int_equal(heard.line, 2);
    assert_non_null(strstr(heard.reason, "a/b is there already, from a.json"));
    assert_string_equal(knowledge_find(knowledge, "a/b")->domain, "first");
}

static void a_thousand_records_are_found_by_their_ids(void **state) {
    (void)state;
    char json[64];
    for (int i = 0; i < 1000; i++) {
        snprintf(json, sizeof json, "{\"id\": \"many/r%d\"}", i);
        assert_non_null(load(json));
    }
    for (int i = 0; i < 1000; i++) {
        snprintf(json, sizeof json, "many/r%d", i);
        assert_string_equal(knowledge_find(knowledge, json)->id, json);
    }
    assert_null(knowledge_find(knowledge, "many/r1000"));
    assert_null(knowledge_find(knowledge, ""));
}

static void deep_and_huge_and_hostile_texts_are_refused(void **state) {
    (void)state;
    size_t size = 2 << 20;
    char *text = malloc(size);
    memset(text, '[', size);
    assert_int_equal(knowledge_load_text(knowledge, "deep", text, 100000, hear, &heard), 0);
    assert_non_null(strstr(heard.reason, "nested deeper"));
    memset(&heard, 0, sizeof heard);
    assert_int_equal(knowledge_load_text(knowledge, "huge", text, size, hear, &heard), 0);
    assert_non_null(strstr(heard.reason, "larger than"));
    memset(&heard, 0, sizeof heard);
    // Half a million wrong entries: one record, a few complaints, no long wait.
    size_t n = (size_t)sprintf(text, "{\"id\": \"a/b\", \"templates\": [0");
    while (n < 1000000) n += (size_t)sprintf(text + n, ",0");
    n += (size_t)sprintf(text + n, "]}");
    assert_int_equal(knowledge_load_text(knowledge, "many", text, n, hear, &heard), 1);
    assert_in_range(heard.count, 1, 20);
    free(text);
}

// ---- folders --------------------------------------------------------------------------------

static void write_file(const char *folder, const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void a_folder_s_records_are_read_in_order_whatever_else_lies_there(void **state) {
    (void)state;
    char folder[] = "/tmp/memwatch-records.XXXXXX", path[512], command[600];
    assert_non_null(mkdtemp(folder));
    write_file(folder, "b.json", "{\"id\": \"x/b\"}");
    write_file(folder, "a.json", "{\"id\": \"x/a\"}");
    write_file(folder, "broken.json", "{");
    write_file(folder, "notes.txt", "no record");
    write_file(folder, ".hidden.json", "{\"id\": \"x/hidden\"}");
    snprintf(path, sizeof path, "%s/pipe.json", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    snprintf(path, sizeof path, "%s/loop.json", folder);
    assert_int_equal(symlink(path, path), 0);
    snprintf(path, sizeof path, "%s/folder.json", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(knowledge_load_path(knowledge, folder, hear, &heard), 2);
    assert_string_equal(knowledge_get(knowledge, 0)->id, "x/a");
    assert_string_equal(knowledge_get(knowledge, 1)->id, "x/b");
    assert_int_equal(heard.count, 4); // broken, folder, loop, pipe
    snprintf(path, sizeof path, "%s/broken.json", folder);
    assert_string_equal(heard.file, path);
    snprintf(path, sizeof path, "%s/b.json", folder);
    assert_int_equal(knowledge_load_path(knowledge, path, hear, &heard), 0); // known by now
    snprintf(path, sizeof path, "%s/none", folder);
    memset(&heard, 0, sizeof heard);
    assert_int_equal(knowledge_load_path(knowledge, path, hear, &heard), 0);
    assert_string_equal(heard.reason, "No such file or directory");
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(a_record_of_our_format_is_read_whole),
        TEST(a_record_of_the_founding_format_is_read_as_it_is),
        TEST(nothing_but_an_id_is_needed),
        TEST(confidence_is_capped_by_the_tier),
        TEST(tiers_of_the_older_format_have_their_like),
        TEST(what_cannot_be_read_is_told_with_line_and_reason),
        TEST(a_member_of_the_wrong_type_costs_only_itself),
        TEST(an_id_that_is_there_already_stays_what_it_was),
        TEST(a_thousand_records_are_found_by_their_ids),
        TEST(deep_and_huge_and_hostile_texts_are_refused),
        TEST(a_folder_s_records_are_read_in_order_whatever_else_lies_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
