// SPDX-License-Identifier: Apache-2.0
//
// For tests/bench/run: how fast logs are searched, with all records or otherwise.
//
//   scan make FILE MEGABYTES ERRORS   writes a log as training writes it, ERRORS of it real ones
//   scan records FILE TIMES           the matcher with all bundled records, incidents included
//   scan regex FILE TIMES WORD        one caseless expression, PCRE2 with JIT, line by line
//   scan start TIMES                  records loaded and a matcher made
//
// The last three print how many seconds of processor time each of TIMES runs took, and what they
// found, as JSON. The log is read into memory first.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "incidents.h"

#include <inttypes.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t state = 20250615;

static unsigned below(unsigned n) {
    state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)((state >> 33) % n);
}

static double real(void) {
    return below(1000000) / 1e6;
}

static int usage(void) {
    fputs("scan: see its source for how it is called\n", stderr);
    return 2;
}

// ---- a log ----------------------------------------------------------------------------------

// The lines of which training logs consist, among them some with the words of errors.
static void print_step(FILE *out, unsigned step) {
    unsigned h = step / 3600 % 24, m = step / 60 % 60, s = step % 60, kind = below(100);
    if (kind < 40) {
        fprintf(
            out,
            "[2025-06-15 %02u:%02u:%02u,%03u] [INFO] [logging.py:96:log_dist] [Rank 0] step=%u, "
            "skipped=0, lr=[%.6e], mom=[(0.9, 0.999)]\n",
            h, m, s, below(1000), step, real());
    } else if (kind < 60) {
        fprintf(out,
                "2025-06-15 %02u:%02u:%02u - trainer - INFO - step %u loss %.4f grad_norm %.3f "
                "tokens/s %u memory allocated %.1f GiB reserved 20.1 GiB\n",
                h, m, s, step, 3 * real(), real(), below(10000), 20 * real());
    } else if (kind < 75) {
        for (unsigned p = 0; p < 100; p += 20)
            fprintf(out,
                    "\rEpoch 3:  %u%%|█████     | %u/1000 [00:%02u<01:00, %.2fit/s, loss=%.3f]", p,
                    p * 10, p % 60, 20 * real(), real());
        fputs("\n", out);
    } else if (kind < 85) {
        fprintf(
            out,
            "[rank%u]:[I%u] ProcessGroupNCCL.cpp:%u] [PG 0 Rank 3] NCCL watchdog heartbeat, last "
            "enqueued work: %u, allocator cached blocks: %u\n",
            below(8), below(9999), below(999), step, below(500));
    } else if (kind < 90) {
        fprintf(out,
                "node7:%u:%u [3] NCCL INFO Channel 0%u/0 : 3[3] -> 4[4] via P2P/CUMEM, memory "
                "registered\n",
                below(99999), below(99999), below(10));
    } else if (kind < 95) {
        fprintf(out,
                "/usr/lib/python3/site-packages/torch/utils/checkpoint.py:%u: UserWarning: None of "
                "the inputs have requires_grad=True. CUDA out of sync; memory usage may be higher\n"
                "  warnings.warn(\n",
                below(999));
    } else {
        fprintf(
            out,
            "\x1b[32m2025-06-15 %02u:%02u:%02u\x1b[0m | \x1b[1mDEBUG   \x1b[0m | loader:next:%u - "
            "shard %06u.tar, %u bytes, failed to allocate 0 times\n",
            h, m, s, below(999), below(1000000), below(1000000000));
    }
}

static int make(const char *path, unsigned long megabytes, unsigned long errors) {
    FILE *out = fopen(path, "w");
    if (!out) return usage();
    unsigned long every = errors ? megabytes * 1000000 / errors : ~0ul, next = every;
    for (unsigned step = 0; (unsigned long)ftell(out) < megabytes * 1000000; step++) {
        print_step(out, step);
        if ((unsigned long)ftell(out) < next) continue;
        next += every;
        fprintf(
            out,
            "[rank%u]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate %u.00 MiB. "
            "GPU 0 has a total capacity of 79.11 GiB of which %.2f GiB is free. Including "
            "non-PyTorch memory, this process has 77.05 GiB memory in use. Of the allocated "
            "memory 70.10 GiB is allocated by PyTorch, and 5.00 GiB is reserved by PyTorch but "
            "unallocated.\n",
            below(8), 1 + below(4000), real());
    }
    return fclose(out) == 0 ? 0 : 1;
}

// ---- searching ------------------------------------------------------------------------------

static char *log_text;
static size_t log_bytes;

static bool read_log(const char *path) {
    FILE *in = fopen(path, "r");
    if (!in || fseek(in, 0, SEEK_END) != 0) return false;
    log_bytes = (size_t)ftell(in);
    rewind(in);
    log_text = malloc(log_bytes + 1);
    return log_text && fread(log_text, 1, log_bytes, in) == log_bytes && fclose(in) == 0;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct knowledge *load(void) {
    struct knowledge *knowledge = knowledge_new();
    if (!knowledge || !knowledge_load_bundled(knowledge, NULL, NULL)) abort();
    return knowledge;
}

static void no_hits(void *context, const struct hit *hits, size_t count) {
    (void)context, (void)hits, (void)count;
}

static size_t search_records(struct knowledge *knowledge) {
    struct incidents *all = incidents_new(knowledge);
    struct matcher *m = matcher_new(knowledge, incidents_add, all);
    size_t messages = 0;
    // As files are read: in pieces.
    for (size_t at = 0; at < log_bytes; at += 256 << 10)
        matcher_feed(m, log_text + at, log_bytes - at < 256 << 10 ? log_bytes - at : 256 << 10);
    matcher_finish(m);
    matcher_free(m);
    for (size_t i = 0; i < incidents_count(all); i++) messages += incidents_get(all, i)->count;
    incidents_free(all);
    return messages;
}

static size_t search_regex(const char *word) {
    int error;
    PCRE2_SIZE at;
    size_t found = 0;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)word, PCRE2_ZERO_TERMINATED, PCRE2_CASELESS, &error, &at, NULL);
    if (!code) abort();
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    for (const char *line = log_text, *end = log_text + log_bytes, *next; line < end;
         line = next + 1) {
        next = memchr(line, '\n', (size_t)(end - line));
        if (!next) next = end;
        found += pcre2_match(code, (PCRE2_SPTR)line, (size_t)(next - line), 0, 0, data, NULL) >= 0;
    }
    pcre2_match_data_free(data);
    pcre2_code_free(code);
    return found;
}

int main(int argc, char **argv) {
    if (argc == 5 && !strcmp(argv[1], "make"))
        return make(argv[2], strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10));
    bool start = argc == 3 && !strcmp(argv[1], "start");
    bool regex = argc == 5 && !strcmp(argv[1], "regex");
    if (!start && !regex && (argc != 4 || strcmp(argv[1], "records") != 0)) return usage();
    if (!start && !read_log(argv[2])) return usage();
    int times = atoi(argv[start ? 2 : 3]);
    size_t found = 0;
    struct knowledge *knowledge = start ? NULL : load();
    printf("{\"seconds\": [");
    for (int i = 0; i < times; i++) {
        double begin = seconds();
        if (start) {
            struct knowledge *again = load();
            struct matcher *m = matcher_new(again, no_hits, NULL);
            found = knowledge_count(again);
            matcher_free(m);
            knowledge_free(again);
        } else {
            found = regex ? search_regex(argv[4]) : search_records(knowledge);
        }
        printf("%s%.6f", i ? ", " : "", seconds() - begin);
    }
    printf("], \"bytes\": %zu, \"found\": %zu}\n", log_bytes, found);
    knowledge_free(knowledge);
    free(log_text);
    return 0;
}
