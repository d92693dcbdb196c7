// SPDX-License-Identifier: Apache-2.0
//
// Whatever a log holds, matching it against all records, grouping what was found and printing that
// in every way must neither crash nor hang nor read a byte that is not its own; and what is found
// must not depend on the pieces in which the log comes.
//
//   fuzz_match [COUNT [SEED]]    reads COUNT logs made of the records' own examples, dressed up and
//                                damaged, always the same for the same seed: what `make test` does
//   with -fsanitize=fuzzer -DLIBFUZZER (clang) it is a libFuzzer target instead; good first inputs
//   are the records' examples
#include "advice.h"
#include "incidents.h"
#include "memwatch.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct knowledge *knowledge;
static struct matcher *matcher;
static struct incidents *incidents;
static FILE *nowhere;

// What one reading of a log gave.
static struct { uint64_t hash, hits, place; } seen;
static size_t found; // in all logs

static void mix(uint64_t value) {
    seen.hash = (seen.hash ^ value) * UINT64_C(1099511628211);
}

static void mix_bytes(const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) mix((unsigned char)bytes[i]);
}

static void look(void *context, const struct hit *hits, size_t count) {
    assert(context == &seen && count);
    assert(hits[0].end > seen.place); // places come in the text's order
    seen.place = hits[0].begin;
    for (size_t i = 0; i < count; i++) {
        const struct hit *h = &hits[i];
        assert(h->line && h->line <= h->last_line && h->begin < h->end);
        assert(h->match_begin < h->match_end && h->match_end <= h->text_length);
        assert(h->fields <= HIT_FIELDS);
        mix_bytes(h->record->id, strlen(h->record->id));
        mix(h->line << 32 | h->last_line);
        mix(h->begin);
        mix(h->end);
        mix_bytes(h->text, h->text_length);
        for (size_t k = 0; k < h->fields; k++) {
            const struct hit_field *f = &h->field[k];
            assert(f->length && f->text >= h->text &&
                   f->text + f->length <= h->text + h->text_length);
            mix_bytes(f->name, strlen(f->name));
            mix_bytes(f->text, f->length);
        }
        seen.hits++;
    }
    incidents_add(incidents, hits, count);
}

static void start(void) {
    incidents = incidents_new(knowledge);
    if (!incidents) abort();
    memset(&seen, 0, sizeof seen);
}

static void new_matcher(void) {
    matcher_free(matcher);
    matcher = matcher_new(knowledge, look, &seen);
    if (!matcher) abort();
}

static void print_all(void) {
    size_t count;
    incidents_add_code(incidents, "cuda-runtime", 2, 3);
    const struct incident *const *list = incidents_ranked(incidents, &count);
    for (size_t i = 0; i < count; i++) {
        struct observation one = {list[i], i % 2 ? "a.log" : NULL};
        enum language language = i % 3 ? LANGUAGE_EN : LANGUAGE_ZH;
        advice_print(nowhere, knowledge, &one, 1, (enum advice_detail)(i < 8 ? i % 3 : 0),
                     language);
        cJSON *json = advice_json_incident(&one, language);
        char *text = cJSON_PrintUnformatted(json);
        assert(text);
        free(text);
        cJSON_Delete(json);
    }
}

// Runs of expressions that a limit ended: then the same text may give less another time.
static uint64_t refused(const struct matcher *m) {
    struct match_statistics s;
    matcher_statistics(m, &s);
    assert(!s.memory_ran_out);
    return s.refused + s.disabled;
}

// Without machine code the same is found.
static void read_interpreted(const char *log, size_t size, uint64_t hash) {
    static struct matcher *interpreter;
    if (interpreter && refused(interpreter)) {
        matcher_free(interpreter);
        interpreter = NULL;
    }
    if (!interpreter) {
        interpreter = matcher_new(knowledge, look, &seen);
        if (!interpreter) abort();
        matcher_interpret(interpreter);
    }
    start();
    matcher_feed(interpreter, log, size);
    matcher_finish(interpreter);
    incidents_free(incidents);
    assert(seen.hash == hash || refused(interpreter));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *log = (const char *)data;
    if (!knowledge) {
        nowhere = fopen("/dev/null", "w");
        knowledge = knowledge_new();
        if (!nowhere || !knowledge || !knowledge_load_bundled(knowledge, NULL, NULL)) abort();
        new_matcher();
    }
    start();
    matcher_feed(matcher, log, size);
    matcher_finish(matcher);
    print_all();
    incidents_free(incidents);
    uint64_t hash = seen.hash, hits = seen.hits;
    found += hits;

    start();
    for (size_t at = 0, n; at < size; at += n) {
        n = 1 + (data[at] * 7919u + at) % 997;
        if (n > size - at) n = size - at;
        matcher_feed(matcher, log + at, n);
    }
    matcher_finish(matcher);
    incidents_free(incidents);
    // A pattern that was given up in between finds less; a new matcher has all of them again.
    if (refused(matcher)) {
        new_matcher();
    } else {
        assert(seen.hash == hash && seen.hits == hits);
        read_interpreted(log, size, hash);
    }

    start();
    for (size_t at = 0; at < size; at += 300) {
        matcher_feed(matcher, log + at, size - at < 300 ? size - at : 300);
        matcher_flush(matcher);
    }
    matcher_finish(matcher);
    incidents_free(incidents);
    return 0;
}

#ifndef LIBFUZZER

#    define LOG (96u << 10)

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

static size_t put(char *to, size_t room, const char *text, size_t length) {
    if (length > room) length = room;
    memcpy(to, text, length);
    return length;
}

static size_t put_text(char *to, size_t room, const char *text) {
    return put(to, room, text, strlen(text));
}

// What collectors put before lines, what terminals and progress bars put between them.
static const char *prefix(void) {
    static const char *const texts[] = {"",
                                        "",
                                        "",
                                        "[rank3]: ",
                                        "worker-1  | ",
                                        "2025-06-15 12:00:00,123 [ERROR] ",
                                        "(Actor pid=7) ",
                                        "\x1b[31m",
                                        "Jun 15 12:00:00 node python[7]: ",
                                        "    ",
                                        "E   ",
                                        "10%|#\r"};
    return texts[below(sizeof texts / sizeof texts[0])];
}

static const char *line_end(void) {
    static const char *const texts[] = {"\n", "\n", "\n", "\r\n", "\r", "\x1b[0m\n", " ", "\n\n"};
    return texts[below(sizeof texts / sizeof texts[0])];
}

// An example in a log, perhaps wrapped, or with something in its middle.
static size_t put_example(char *to, size_t room, const char *text) {
    size_t n = put_text(to, room, prefix()), width = below(4) ? SIZE_MAX : 20 + below(100);
    size_t strange = below(6) ? SIZE_MAX : below(strlen(text) + 1);
    for (size_t i = 0, column = 0; text[i] && n < room; i++, column++) {
        if (text[i] == '\n' || column == width) {
            n += put_text(to + n, room - n, line_end());
            if (text[i] == '\n' || below(2)) n += put_text(to + n, room - n, prefix());
            column = 0;
        }
        if (i == strange) {
            static const char *const texts[] = {"\x1b[1m", "\x1b]0;", "\xff", "\n", "  ", "\x1b"};
            n += put_text(to + n, room - n, texts[below(6)]);
        }
        if (text[i] != '\n') n += put(to + n, room - n, &text[i], 1);
    }
    n += put_text(to + n, room - n, line_end());
    return n;
}

static const char *some_example(void) {
    for (;;) {
        const struct record *r = knowledge_get(knowledge, below(knowledge_count(knowledge)));
        if (r->examples.count) return r->examples.item[below(r->examples.count)];
    }
}

static size_t make_log(char *log) {
    size_t size = 0, most = below(20) ? 200 + below(4000) : LOG;
    while (size < most) {
        size_t left = most - size;
        const char *example = some_example();
        if (below(3)) {
            size += put_example(log + size, left, example);
        } else if (below(2)) {
            // Part of one: what nearly matches.
            size += put(log + size, left, example, below(strlen(example) + 1));
        } else if (below(8) == 0) {
            size_t run = below(below(4) ? 100 : 20000);
            if (run > left) run = left;
            memset(log + size, " x\0\n\x1b"[below(5)], run);
            size += run;
        } else {
            size += put_text(log + size, left, "step 1 loss 2.5 memory 3.2 GiB\n");
        }
    }
    return size;
}

static void damage(char *log, size_t size) {
    static const char telling[] = "\r\n\x1b[m ]\0\\0123456789.GiB{}%\xff\x80";
    for (size_t n = below(10); n; n--) {
        size_t at = below(size), bytes = below(size - at < 200 ? size - at : 200);
        if (below(3))
            log[at] = telling[below(sizeof telling)];
        else
            memmove(log + at, log + below(size - bytes), bytes);
    }
}

int main(int argc, char **argv) {
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 1500;
    char *log = malloc(LOG);
    if (!log) return 1;
    state = argc > 2 ? strtoul(argv[2], NULL, 10) : 20250615;
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (unsigned long i = 0; i < count; i++) {
        size_t size = make_log(log);
        if (i % 3) damage(log, size);
        // A copy of its exact size, so that a byte too many is noticed.
        uint8_t *data = malloc(size);
        if (!data) return 1;
        memcpy(data, log, size);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    printf("%lu inputs read, %zu matches\n", count, found);
    matcher_free(matcher);
    knowledge_free(knowledge);
    fclose(nowhere);
    free(log);
    return 0;
}

#endif
