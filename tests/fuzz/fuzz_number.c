// SPDX-License-Identifier: Apache-2.0
//
// Whatever a text holds, finding its numbers, their roles and classes, each beside the others, must
// neither crash nor overflow nor read a byte that is not its own, and what comes out is in order:
// ranges are ranges, classes are ranked, texts are UTF-8, and no small amount is called impossible.
//
//   fuzz_number [COUNT [SEED]]   reads COUNT mutations of messages, always the same for the same
//                                seed: what `make test` does
//   with -fsanitize=fuzzer -DLIBFUZZER (clang) it is a libFuzzer target instead
#include "counters.h"
#include "roles.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NUMBERS 24

// The context comes from the input's first bytes, so that libFuzzer, too, can change it.
static struct counter_context context_of(const uint8_t *data, size_t size) {
    static const uint64_t sizes[] = {0, 1, UINT64_C(24) << 30, UINT64_C(1) << 46, UINT64_MAX};
    static const struct counter_mapping mappings[] = {{0x5DF000000000, 0x5E0000000000, "heap"},
                                                      {UINT64_MAX - 9, UINT64_MAX, NULL},
                                                      {9, 3, "none"}};
    uint8_t byte[6] = {0};
    memcpy(byte, data, size < sizeof byte ? size : sizeof byte);
    return (struct counter_context){.role = byte[0] % (ROLE_COUNT + 1),
                                    .device_bytes = sizes[byte[1] % 5],
                                    .host_bytes = sizes[byte[2] % 5],
                                    .expected_bytes = sizes[byte[3] % 5],
                                    .platform = byte[4] % 4,
                                    .forked = byte[5] & 1,
                                    .at_least = byte[5] & 2,
                                    .mappings = mappings,
                                    .mappings_count = byte[5] >> 2 & 3};
}

static void must_be_utf8(const char *text) {
    for (const unsigned char *s = (const unsigned char *)text; *s; s++) {
        int more = *s < 0x80 ? 0 : *s >= 0xf0 ? 3 : *s >= 0xe0 ? 2 : 1;
        assert(*s < 0x80 || (*s >= 0xc2 && *s < 0xf5));
        for (; more; more--) assert((*++s & 0xc0) == 0x80);
    }
}

static void must_be_in_order(const struct number *n, const char *text, size_t taken) {
    struct number again;
    char digits[NUMBER_TEXT];
    assert(number_parse(text, taken, &again) == taken && again.digits == n->digits);
    assert(n->wide_low <= n->wide_high && n->low <= n->high);
    assert(n->saturated == (n->wide_high > UINT64_MAX) && n->unit_bytes > 0);
    assert(n->saturated || (number_bytes(n) >= n->low && number_bytes(n) <= n->high) ||
           n->high - n->low <= 1);
    assert(strlen(number_text(n->wide_high, n->unit_bytes, n->decimals, digits)) < NUMBER_TEXT);
}

static void must_classify(const struct number *n, const struct counter_context *context,
                          size_t room) {
    struct counter_class class[COUNTER_CLASSES];
    char text[COUNTER_TEXT];
    size_t count = counters_classify(n, context, class, COUNTER_CLASSES);
    assert(count >= 1 && count <= COUNTER_CLASSES);
    enum counter_verdict verdict = counters_verdict(class, count);
    bool known = context->siblings_count || context->device_bytes || context->host_bytes ||
                 context->expected_bytes || context->mappings_count || context->at_least;
    if (!n->negative && n->wide_high <= UINT64_C(1) << 36 && !known && n->kind == NUMBER_SIZE)
        assert(verdict != VERDICT_IMPLAUSIBLE && verdict != VERDICT_REQUEST);
    for (size_t i = 0; i < count; i++) {
        assert(!i || class[i - 1].score >= class[i].score);
        assert((unsigned)class[i].kind < COUNTER_KINDS);
        for (int which = 0; which < 3; which++)
            for (int language = 0; language < LANGUAGES; language++) {
                counters_text(n, context, &class[i], which, language, text, sizeof text);
                must_be_utf8(text);
                assert(which != TEXT_FACT || *text);
                assert(strlen(text) < sizeof text - 8); // it was not cut
                must_be_utf8(counters_text(n, context, &class[i], which, language, text, room));
                assert(strlen(text) < room);
            }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct counter_sibling sibling[NUMBERS], others[NUMBERS];
    struct counter_context context = context_of(data, size);
    char *text = malloc(size ? size : 1); // so that a byte too many is noticed
    size_t count = 0, taken;
    if (!text) abort();
    memcpy(text, data, size);
    struct number n;
    for (size_t at = 0; (at = number_find(text, size, at, &n, &taken)) < size; at += taken) {
        assert(taken > 0 && at + taken <= size);
        must_be_in_order(&n, text + at, taken);
        if (count == NUMBERS) continue;
        bool at_least;
        enum counter_role role = roles_guess(text, size, at, taken, &at_least);
        assert((unsigned)role <= ROLE_COUNT);
        if (role == ROLE_NONE) role = (n.low + at) % (ROLE_COUNT + 1);
        sibling[count++] = (struct counter_sibling){role, n};
    }
    for (size_t i = 0; i < count; i++) {
        must_classify(&sibling[i].number, &context, 1 + (sibling[i].number.low + size) % 90);
        memcpy(others, sibling, i * sizeof *others);
        memcpy(others + i, sibling + i + 1, (count - i - 1) * sizeof *others);
        context.role = sibling[i].role;
        context.siblings = others;
        context.siblings_count = count - 1;
        must_classify(&sibling[i].number, &context, 1 + size % 90);
        context.siblings = NULL;
        context.siblings_count = 0;
    }
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

static uint64_t below(uint64_t n) {
    return number() % n;
}

// What the messages are made of.
static const char *const pieces[] = {
    ("MPS backend out of memory (MPS allocated: 1.49 GiB, other allocations: 67108914.49 GiB, max "
     "allowed: 30.19 GiB). Tried to allocate 9.19 MiB on private pool."),
    "-24577536 b (18446744073.7 GB)",
    "17179869184.00 GiB",
    "17.79G (19104890880 bytes)",
    "127.99TiB (140729850295296)",
    "0x0100000CFEEDFACF",
    "1,234,567 bytes",
    "1.8446744073709552e+19",
    "65536 MB/s",
    "−112 %",
    "18446744073709551615",
    "99999999999999999999999999999999",
    " KiB ",
    " EB",
    "e99",
    ".00 GB ",
    "4294967295 pages",
    ",",
    "-",
    "2.9.1",
};
#    define PIECES (sizeof pieces / sizeof pieces[0])

static size_t message(uint8_t *data, size_t most) {
    static const char telling[] = "0123456789.,-+eExX %bBkKMGTiPE\n\xe2\x88\x92\x80\xff";
    size_t size = 0;
    for (uint64_t n = 1 + below(5); n; n--) {
        // Powers of two are where classes begin and end.
        char power[40];
        snprintf(power, sizeof power, "%llu",
                 (unsigned long long)((UINT64_C(1) << below(64)) + below(7) - 3));
        const char *piece = below(3) ? pieces[below(PIECES)] : power;
        size_t length = strlen(piece);
        if (size + length > most) break;
        memcpy(data + size, piece, length);
        size += length;
        if (below(2) && size < most) data[size++] = ' ';
    }
    for (uint64_t n = below(6); n && size; n--) {
        size_t at = below(size), from = below(size);
        if (below(3))
            data[at] = (uint8_t)telling[below(sizeof telling)];
        else
            memmove(data + at, data + from, below(size - (at > from ? at : from)));
    }
    return size;
}

int main(int argc, char **argv) {
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 20000;
    uint8_t data[600];
    state = argc > 2 ? strtoul(argv[2], NULL, 10) : 20250615;
    for (unsigned long i = 0; i < count; i++)
        LLVMFuzzerTestOneInput(data, message(data, sizeof data));
    printf("%lu inputs read\n", count);
    return 0;
}

#endif
