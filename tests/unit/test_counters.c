// SPDX-License-Identifier: Apache-2.0
// links: knowledge/number.c knowledge/counters.c knowledge/counters_text.c
//
// What an impossible number is: each of the reports that the classifier was made from gets the
// class that its maintainers, or its bits, say; the arithmetic that is printed is right; and
// numbers that are large for a good reason are left alone.
#include "../../knowledge/counters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

// A number as it was reported and what was known beside it. Siblings are "role=number".
struct report {
    const char *where, *number;
    enum counter_role role;
    enum counter_kind expected; // the first class
    // What is 0 is not known, or not asked.
    const char *sibling[3], *device;
    enum counter_kind also; // a class that must be there as well
    uint64_t value;         // what the first class takes it for
    const char *fact;       // a part of its arithmetic
    struct counter_context context;
};

#define REPORT(w, n, r, kind, ...)                                                                 \
    { .where = (w), .number = (n), .role = (r), .expected = (kind), __VA_ARGS__ }

static struct counter_class found[COUNTER_CLASSES];
static size_t count;
static struct number number;
static struct counter_sibling sibling[8];
static struct counter_context context;
static char text[COUNTER_TEXT];

static struct number parsed(const char *s) {
    struct number n;
    if (number_parse(s, strlen(s), &n) != strlen(s)) fail_msg("not a number: %s", s);
    return n;
}

static const struct counter_mapping heap = {0x5DF000000000, 0x5E0000000000, "heap"};

static void classify(const struct report *r) {
    context = r->context;
    context.role = r->role;
    context.siblings = sibling;
    context.siblings_count = 0;
    for (size_t i = 0; i < 3 && r->sibling[i]; i++) {
        const char *equals = strchr(r->sibling[i], '=');
        char name[16];
        snprintf(name, sizeof name, "%.*s", (int)(equals - r->sibling[i]), r->sibling[i]);
        sibling[i] = (struct counter_sibling){counters_role(name), parsed(equals + 1)};
        context.siblings_count++;
    }
    struct number device;
    if (r->device) device = parsed(r->device), context.device_bytes = number_bytes(&device);
    number = parsed(r->number);
    count = counters_classify(&number, &context, found, COUNTER_CLASSES);
}

static const char *fact(size_t i) {
    return counters_text(&number, &context, &found[i], TEXT_FACT, LANGUAGE_EN, text, sizeof text);
}

static void check(const struct report *r) {
    classify(r);
    if (!count) fail_msg("%s: %s: no class", r->where, r->number);
    bool also = !r->also;
    for (size_t i = 0; i < count; i++) also |= found[i].kind == r->also;
    for (size_t i = 1; i < count; i++) assert_true(found[i - 1].score >= found[i].score);
    if (found[0].kind != r->expected || !also)
        fail_msg("%s: %s: is %s, not %s; %s", r->where, r->number, counters_kind_id(found[0].kind),
                 counters_kind_id(r->expected), fact(0));
    if (r->value && found[0].value != r->value)
        fail_msg("%s: %s: 0x%llx, not 0x%llx", r->where, r->number,
                 (unsigned long long)found[0].value, (unsigned long long)r->value);
    if (r->fact && !strstr(fact(0), r->fact))
        fail_msg("%s: %s: \"%s\" is not in \"%s\"", r->where, r->number, r->fact, text);
}

#define EACH(reports)                                                                              \
    for (size_t i = 0; i < sizeof(reports) / sizeof(reports)[0]; i++) check(&(reports)[i])

static void each_reported_number_gets_the_class_of_its_cause(void **state) {
    (void)state;
    static const struct report reports[] = {
        REPORT("1 image-search-service", "67108914.49 GiB", ROLE_OTHER, COUNTER_MAGIC,
               .sibling = {"allocated=1.49 GiB", "limit=30.19 GiB", "request=9.19 MiB"},
               .value = 0x0100000CFEEDFACF,
               .fact = "67108915.983 GiB − 1.49 GiB = 67108914.493 GiB → prints 67108914.49"),
        REPORT("1 in a child that is known to be forked", "67108914.49 GiB", ROLE_OTHER,
               COUNTER_MAGIC, .sibling = {"allocated=1.49 GiB"}, .also = COUNTER_STALE_AFTER_FORK,
               .value = 0x0100000CFEEDFACF, .context.forked = true),
        REPORT("1 the number alone", "67108914.49 GiB", ROLE_NONE, COUNTER_MAGIC,
               .also = COUNTER_TAG, .value = 0x0100000CFEEDFACF,
               .fact = "which is 1.49 GiB more than 67108914.49 GiB"),
        REPORT("1 the difference alone, in the unit of old builds", "67108914.49 GB", ROLE_OTHER,
               COUNTER_MAGIC, .value = 0x0100000CFEEDFACF),
        REPORT("1 of an Intel Mac", "67108894.49 GiB", ROLE_OTHER, COUNTER_MAGIC,
               .sibling = {"allocated=1.49 GiB"}, .value = 0x01000007FEEDFACF,
               .fact = "67108894.49"),
        REPORT("1 printed by PyTorch up to 2.6", "67108912.00 GB", ROLE_OTHER, COUNTER_MAGIC,
               .sibling = {"allocated=1.49 GB"}, .also = COUNTER_FLOAT_ROUNDING,
               .value = 0x0100000CFEEDFACF,
               .fact = "67108914.493 GB → as a 24-bit float prints 67108912.00"),
        REPORT("2 pytorch#182286", "17179869184.00 GiB", ROLE_USED, COUNTER_SENTINEL,
               .sibling = {"total=24.00 GiB"}, .value = UINT64_MAX, .fact = "2^64-1"),
        REPORT("3 pytorch#33143", "17179869183.95 GiB", ROLE_REQUEST, COUNTER_UNDERFLOW,
               .sibling = {"total=10.92 GiB"}, .fact = "51.20 MiB"),
        REPORT("4 nvtop#432", "17179869184.000Gi", ROLE_USED, COUNTER_SENTINEL,
               .value = UINT64_MAX),
        REPORT("5 HAMi-core#200", "18 EB", ROLE_FREE, COUNTER_UNDERFLOW, .also = COUNTER_SENTINEL),
        REPORT("5 with what it was computed from", "17179869182.00 GiB", ROLE_FREE,
               COUNTER_UNDERFLOW, .sibling = {"limit=10.00 GiB", "used=12.00 GiB"},
               .fact = "limit − used = 10.00 GiB − 12.00 GiB = −2.00 GiB"),
        REPORT("6 nvtop#333", "-76898304 B", ROLE_USED, COUNTER_NEGATIVE, .fact = "below zero"),
        REPORT("6 its percentage", "112 %", ROLE_USED, COUNTER_EXCEEDS, .fact = "more than all"),
        REPORT("7 pytorch#145369", "1EB", ROLE_REQUEST, COUNTER_NEGATIVE, .fact = "At least 2^60",
               .context.at_least = true),
        REPORT("8 pytorch#177827", "-1024", ROLE_REQUEST, COUNTER_NEGATIVE),
        REPORT("9 pytorch#182446, lowest", "18446744073709551105", ROLE_REQUEST,
               COUNTER_WRAPPED_TO_ZERO, .also = COUNTER_UNDERFLOW, .fact = "a multiple of 512"),
        REPORT("9 in between", "18446744073709551400", ROLE_REQUEST, COUNTER_WRAPPED_TO_ZERO,
               .also = COUNTER_UNDERFLOW),
        REPORT("9 highest", "18446744073709551615", ROLE_REQUEST, COUNTER_WRAPPED_TO_ZERO,
               .also = COUNTER_SENTINEL),
        REPORT("10 diff-gaussian-rasterization#93", "131060.03 GiB", ROLE_REQUEST, COUNTER_POINTER,
               .sibling = {"total=23.65 GiB"}, .fact = "stacks and libraries"),
        REPORT("11 mvsplat#104", "131062.02 GiB", ROLE_REQUEST, COUNTER_POINTER),
        REPORT("11 in MiB", "133792483 MiB", ROLE_REQUEST, COUNTER_POINTER),
        REPORT("12 keras#13889", "127.99TiB", ROLE_TOTAL, COUNTER_POINTER),
        REPORT("12 in bytes", "140729850295296 bytes", ROLE_REQUEST, COUNTER_POINTER,
               .value = 0x7FFE38BC7400, .fact = "0x00007FFE38BC7400"),
        REPORT("12 asked again for 0.9 of it", "126656865265766 bytes", ROLE_REQUEST,
               COUNTER_POINTER, .sibling = {"request=140729850295296 bytes"},
               .value = 0x7FFE38BC7400, .fact = "less a tenth"),
        REPORT("12 and again", "113991178739190 bytes", ROLE_REQUEST, COUNTER_POINTER,
               .sibling = {"request=140729850295296 bytes"}, .value = 0x7FFE38BC7400,
               .fact = "less a tenth"),
        REPORT("13 NVIDIA/caffe#353", "140632G", ROLE_REQUEST, COUNTER_POINTER),
        REPORT("14 GRM#3", "67371012.07 GiB", ROLE_REQUEST, COUNTER_FLAGS, .fact = "01 01 00 01"),
        REPORT("14 STAG4D#15", "1050587.26 GiB", ROLE_REQUEST, COUNTER_UNEXPLAINED,
               .fact = "no known pattern"),
        REPORT("15 onnxruntime#22702", "4585490524328388608 B", ROLE_REQUEST, COUNTER_FLOATS,
               .value = 0x3FA2EF563F836800,
               .fact = "1.272929 (upper half) and 1.026611 (lower half)"),
        REPORT("16 triton server#3776", "18446744073709551615", ROLE_LIMIT, COUNTER_SENTINEL,
               .value = UINT64_MAX),
        REPORT("17 iree#18767", "4294967295 B", ROLE_NONE, COUNTER_SENTINEL, .value = UINT32_MAX),
        REPORT("18 Theano#2618", "-1610612736 B", ROLE_REQUEST, COUNTER_NEGATIVE,
               .also = COUNTER_WRAP),
        REPORT("19 gpustat#107", "4820 %", ROLE_USED, COUNTER_EXCEEDS),
        REPORT("20 amdgpu_top#146", "65536 MB/s", ROLE_NONE, COUNTER_WRAP, .fact = "16 bits"),
        REPORT("20 nvtop#436", "55.00 GiB", ROLE_USED, COUNTER_EXCEEDS, .device = "24 GiB",
               .fact = "more than the device has", .context.platform = PLATFORM_LINUX),
        REPORT("20 nvtop#436, highest", "58 GiB", ROLE_USED, COUNTER_EXCEEDS, .device = "24 GiB",
               .context.platform = PLATFORM_LINUX),
        REPORT("vllm#44740", "-3.20 GiB", ROLE_USED, COUNTER_NEGATIVE),
        REPORT("LM Studio, AMD", "17179869183.999 GB", ROLE_TOTAL, COUNTER_SENTINEL,
               .fact = "2^64-2^20"),
        REPORT("R 2.14", "17179869183.6 Gb", ROLE_REQUEST, COUNTER_UNDERFLOW),
        REPORT("TCLB#496", "18446744073.7 GB", ROLE_ALLOCATED, COUNTER_UNDERFLOW,
               .sibling = {"bytes=-24577536 b"}, .fact = "The same text says −24577536 b"),
    };
    EACH(reports);
}

static void each_row_of_the_classes_has_its_landmarks(void **state) {
    (void)state;
    static const struct report reports[] = {
        REPORT("2^63-1", "8589934592 GiB", ROLE_LIMIT, COUNTER_SENTINEL, .value = INT64_MAX),
        REPORT("2^31-1", "2147483647", ROLE_LIMIT, COUNTER_SENTINEL, .value = INT32_MAX),
        REPORT("a cgroup without limit", "9223372036854771712", ROLE_LIMIT, COUNTER_SENTINEL,
               .value = 0x7FFFFFFFFFFFF000, .fact = "2^63-4096"),
        REPORT("2^64-1 through a double", "18446744073709551616", ROLE_LIMIT, COUNTER_SENTINEL,
               .value = UINT64_MAX, .fact = "double"),
        REPORT("2^64-1 through Python's float", "1.8446744073709552e+19", ROLE_LIMIT,
               COUNTER_SENTINEL, .value = UINT64_MAX),
        REPORT("2^64 in MiB", "17592186044416 MiB", ROLE_USED, COUNTER_SENTINEL,
               .value = UINT64_MAX),
        REPORT("2^64-1 cut to MiB", "17592186044415 MiB", ROLE_USED, COUNTER_SENTINEL),
        REPORT("2^64 in KiB", "18014398509481984 KiB", ROLE_USED, COUNTER_SENTINEL,
               .value = UINT64_MAX),
        REPORT("2^64 in pages", "4503599627370496 pages", ROLE_USED, COUNTER_SENTINEL,
               .value = UINT64_MAX),
        REPORT("2^64 in TiB", "16777216 TiB", ROLE_USED, COUNTER_UNDERFLOW,
               .also = COUNTER_SENTINEL),
        REPORT("2^64 in EiB", "16 EiB", ROLE_USED, COUNTER_UNDERFLOW, .also = COUNTER_SENTINEL),
        REPORT("2^64 in EiB as a limit", "16 EiB", ROLE_LIMIT, COUNTER_SENTINEL,
               .also = COUNTER_UNDERFLOW),
        REPORT("-1 as a limit", "-1", ROLE_LIMIT, COUNTER_SENTINEL, .also = COUNTER_NEGATIVE),
        REPORT("the largest int of a field in MiB", "4294967295 MiB", ROLE_USED, COUNTER_SENTINEL,
               .value = UINT32_MAX),
        REPORT("a counter of KiB below zero", "18446744073709551000 KiB", ROLE_USED,
               COUNTER_UNDERFLOW_IN_UNIT, .fact = "616.00 KiB"),
        REPORT("a 32-bit counter of MiB below zero", "4294967200 MiB", ROLE_USED,
               COUNTER_UNDERFLOW_IN_UNIT, .device = "24 GiB", .fact = "96.00 MiB"),
        REPORT("nothing less what is allocated", "17179869182.51 GiB", ROLE_OTHER,
               COUNTER_UNDERFLOW, .sibling = {"allocated=1.49 GiB"},
               .fact = "0 − allocated = 0 − 1.49 GiB = −1.49 GiB"),
        REPORT("a second source shows a lost 2^32", "8589934592 bytes", ROLE_USED, COUNTER_WRAP,
               .value = UINT64_C(17179869184), .fact = "less 2 × 2^32",
               .context.expected_bytes = UINT64_C(17179869184)),
        REPORT("ELF", "263177.10 GiB", ROLE_USED, COUNTER_MAGIC, .value = 0x00010102464C457F),
        REPORT("Mach-O, exactly", "0x0100000CFEEDFACF", ROLE_NONE, COUNTER_MAGIC,
               .value = 0x0100000CFEEDFACF, .fact = "ARM64"),
        REPORT("Mach-O of a processor unknown to us", "0x01000012FEEDFACF", ROLE_USED,
               COUNTER_MAGIC, .value = 0x01000012FEEDFACF),
        REPORT("universal Mach-O", "0x02000000BEBAFECA", ROLE_USED, COUNTER_MAGIC),
        REPORT("DEADBEEF", "16045690984833335023", ROLE_NONE, COUNTER_MAGIC,
               .value = 0xDEADBEEFDEADBEEF),
        REPORT("fresh memory of a debug heap", "13811267383.22 GiB", ROLE_USED, COUNTER_MAGIC,
               .value = 0xCDCDCDCDCDCDCDCD),
        REPORT("one double", "4607182418800017408 B", ROLE_USED, COUNTER_FLOATS,
               .fact = "one double 1."),
        REPORT("a tag over 24 GiB", "67108888.00 GiB", ROLE_TOTAL, COUNTER_TAG, .device = "24 GiB",
               .fact = "high byte 01, below it 24.00 GiB"),
        REPORT("KiB printed as GiB", "25165824 GiB", ROLE_TOTAL, COUNTER_UNIT_MIXUP,
               .device = "24 GiB", .fact = "factor of 1048576"),
        REPORT("2^64 - 3 GiB through a float", "17179869184.00 GB", ROLE_OTHER, COUNTER_SENTINEL,
               .sibling = {"allocated=3.25 GB"}, .also = COUNTER_FLOAT_ROUNDING),
        REPORT("2^64 - 3 GiB through a double", "17179869181.00 GiB", ROLE_OTHER, COUNTER_UNDERFLOW,
               .fact = "3.00 GiB"),
        REPORT("an address in a mapping", "93.99 TiB", ROLE_REQUEST, COUNTER_POINTER,
               .fact = "heap", .context.mappings = &heap, .context.mappings_count = 1),
        REPORT("a kernel's address", "0xFFFF888012345678", ROLE_USED, COUNTER_POINTER,
               .fact = "kernel"),
        REPORT("more free than there is", "30.00 GiB", ROLE_FREE, COUNTER_EXCEEDS,
               .sibling = {"total=24.00 GiB"}, .fact = "24.00 GiB"),
        REPORT("a request that is only too large", "1.25TiB", ROLE_REQUEST,
               COUNTER_OVERSIZED_REQUEST, .device = "24 GiB",
               .fact = "53 times what the device has"),
        REPORT("more than 64 bits", "1000000 EiB", ROLE_USED, COUNTER_UNEXPLAINED,
               .fact = "more than 64 bits can hold"),
        REPORT("10^24 bytes", "1000000000000000000000000 bytes", ROLE_USED, COUNTER_UNEXPLAINED,
               .fact = "more than 64 bits can hold"),
    };
    EACH(reports);
}

static void what_is_large_for_a_good_reason_is_left_alone(void **state) {
    (void)state;
    static const struct report reports[] = {
        REPORT("iPASSR#9: Windows spills to system memory", "17.20 GiB", ROLE_ALLOCATED,
               COUNTER_PLAUSIBLE, .sibling = {"total=8.00 GiB"}),
        REPORT("its used memory there", "17.20 GiB", ROLE_USED, COUNTER_PLAUSIBLE,
               .device = "8 GiB", .context.platform = PLATFORM_WINDOWS),
        REPORT("managed memory beyond the device", "60.00 GiB", ROLE_ALLOCATED, COUNTER_PLAUSIBLE,
               .device = "24 GiB", .context.platform = PLATFORM_LINUX),
        REPORT("a host with 64 TiB", "64 TiB", ROLE_TOTAL, COUNTER_PLAUSIBLE),
        REPORT("it in KiB", "68719476736 kB", ROLE_TOTAL, COUNTER_PLAUSIBLE),
        REPORT("it beside a GPU", "63.99 TiB", ROLE_USED, COUNTER_PLAUSIBLE, .device = "24 GiB",
               .context.host_bytes = UINT64_C(70368744177664),
               .context.platform = PLATFORM_WINDOWS),
        REPORT("a pool of 2^40 bytes", "1099511627776", ROLE_RESERVED, COUNTER_PLAUSIBLE,
               .device = "24 GiB"),
        REPORT("a pool's limit of 2^40 bytes", "1.00 TiB", ROLE_LIMIT, COUNTER_PLAUSIBLE,
               .device = "24 GiB"),
        REPORT("a count of resources", "499000", ROLE_COUNT, COUNTER_PLAUSIBLE, .device = "24 GiB"),
        REPORT("a count of tokens", "15000000000000", ROLE_NONE, COUNTER_PLAUSIBLE,
               .device = "24 GiB"),
        REPORT("a pid", "4194304", ROLE_COUNT, COUNTER_PLAUSIBLE),
        REPORT("an error code", "-11", ROLE_COUNT, COUNTER_PLAUSIBLE),
        REPORT("a time in ns", "1735689600000000000", ROLE_NONE, COUNTER_PLAUSIBLE),
        REPORT("4 GiB", "4.00 GiB", ROLE_REQUEST, COUNTER_PLAUSIBLE,
               .sibling = {"total=24.00 GiB"}),
        REPORT("2 GiB", "2.00 GiB", ROLE_NONE, COUNTER_PLAUSIBLE),
        REPORT("4096 MiB", "4096 MiB", ROLE_TOTAL, COUNTER_PLAUSIBLE),
        REPORT("2^32 bytes", "4294967296 B", ROLE_NONE, COUNTER_PLAUSIBLE),
        REPORT("16 GiB in bytes", "17179869184 bytes", ROLE_NONE, COUNTER_PLAUSIBLE),
        REPORT("nothing", "0 bytes", ROLE_FREE, COUNTER_PLAUSIBLE, .sibling = {"total=24.00 GiB"}),
        REPORT("PyTorch's reserve of addresses", "27.00 GiB", ROLE_RESERVED, COUNTER_PLAUSIBLE,
               .sibling = {"total=24.00 GiB"}),
        REPORT("all of it is free, as another tool rounds", "24.01 GiB", ROLE_FREE,
               COUNTER_PLAUSIBLE, .sibling = {"total=24.00 GiB"}),
        REPORT("pytorch#145151: real growth in the driver", "36.24 GB", ROLE_OTHER,
               COUNTER_PLAUSIBLE, .sibling = {"allocated=24.00 MB", "limit=36.27 GB"}),
        REPORT("a real MPS limit", "18.13 GB", ROLE_LIMIT, COUNTER_PLAUSIBLE,
               .sibling = {"allocated=9.05 GB"}),
        REPORT("a fast link", "65000 MB/s", ROLE_NONE, COUNTER_PLAUSIBLE),
        REPORT("full", "100 %", ROLE_USED, COUNTER_PLAUSIBLE),
        REPORT("a program's need in XLA, more than the device has", "49.34G", ROLE_USED,
               COUNTER_PLAUSIBLE, .sibling = {"total=15.48G"}),
        REPORT("more than a pool's limit", "10.371208 GiB", ROLE_REQUEST, COUNTER_PLAUSIBLE,
               .sibling = {"limit=2.00 GiB"}),
        REPORT("pages available, and a limit of 100 MB", "83242", ROLE_FREE, COUNTER_PLAUSIBLE,
               .sibling = {"limit=100", "total=100"}),
        REPORT("eight busy cores", "800 %", ROLE_NONE, COUNTER_PLAUSIBLE),
    };
    for (size_t i = 0; i < sizeof reports / sizeof reports[0]; i++) {
        check(&reports[i]);
        enum counter_verdict verdict = counters_verdict(found, count);
        bool ambiguous =
            i + 1 == sizeof reports / sizeof reports[0] || reports[i].role == ROLE_NONE;
        if (verdict != VERDICT_PLAUSIBLE && !(ambiguous && verdict == VERDICT_AMBIGUOUS))
            fail_msg("%s: %s: %s", reports[i].where, reports[i].number,
                     counters_verdict_id(verdict));
    }
}

// What may be bytes as well as a count of larger units, or no amount at all.
static void plain_numbers_get_each_of_their_readings(void **state) {
    (void)state;
    static const struct {
        const char *number;
        enum counter_kind second;
        const char *fact;
    } cases[] = {
        {"17179869184", COUNTER_SENTINEL, "is 16.00 GiB. Read as GiB, it is 2^64 bytes"},
        {"17592186044416", COUNTER_SENTINEL, "is 16.00 TiB. Read as MiB, it is 2^64 bytes"},
        {"17592186044415", COUNTER_SENTINEL, "Read as MiB, it is 2^64 bytes"},
        {"4503599627370496", COUNTER_SENTINEL, "Read as pages of 4 KiB, it is 2^64 bytes"},
        {"18014398509481984", COUNTER_SENTINEL, "Read as KiB, it is 2^64 bytes"},
        {"17179869181", COUNTER_UNDERFLOW_IN_UNIT, "Read as GiB, it is 2^64 bytes − 3.00 GiB"},
        {"17592186044386", COUNTER_UNDERFLOW_IN_UNIT, "Read as MiB, it is 2^64 bytes − 30.00 MiB"},
        {"140729850295296", COUNTER_POINTER, "0x00007FFE38BC7400"},
        {"-1024", COUNTER_NEGATIVE, "below zero"},
        {"-1", COUNTER_SENTINEL, "is -1"},
        {"4585490524328388608", COUNTER_FLOATS, "two floats"},
        {"13835058055282163712", COUNTER_NEGATIVE, "with a sign, the same bits are −4.00 EiB"},
        {"112 %", COUNTER_EXCEEDS, "more than all"},
        {"3735928559", COUNTER_MAGIC, "DEADBEEF"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check(&(struct report)REPORT("plain", cases[i].number, ROLE_NONE, COUNTER_PLAUSIBLE));
        assert_int_equal(counters_verdict(found, count), VERDICT_AMBIGUOUS);
        assert_true(count > 1);
        if (found[1].kind != cases[i].second || !strstr(fact(1), cases[i].fact))
            fail_msg("%s: %s: %s", cases[i].number, counters_kind_id(found[1].kind), fact(1));
        // Of a count there is only one.
        if (number.kind == NUMBER_PERCENT || cases[i].second == COUNTER_MAGIC) continue;
        classify(&(struct report)REPORT("count", cases[i].number, ROLE_COUNT, COUNTER_PLAUSIBLE));
        assert_int_equal(found[0].kind, COUNTER_PLAUSIBLE);
        assert_int_equal(counters_verdict(found, count), VERDICT_PLAUSIBLE);
    }
    // With a unit there is nothing to doubt.
    classify(&(struct report)REPORT("unit", "17179869184 bytes", ROLE_NONE, COUNTER_PLAUSIBLE));
    assert_int_equal(counters_verdict(found, count), VERDICT_PLAUSIBLE);
}

static void what_is_known_of_the_machine_decides(void **state) {
    (void)state;
    const uint64_t gib = UINT64_C(1) << 30;
    static const struct report reports[] = {
        REPORT("a fifth of the host's memory", "300 GiB", ROLE_FREE, COUNTER_PLAUSIBLE,
               .context.host_bytes = UINT64_C(1) << 40),
        REPORT("five times the host's memory", "5 TiB", ROLE_FREE, COUNTER_UNEXPLAINED,
               .context.host_bytes = UINT64_C(1) << 40),
        REPORT("five times the host's memory", "5 TiB", ROLE_USED, COUNTER_UNEXPLAINED,
               .context.host_bytes = UINT64_C(1) << 40),
        REPORT("five times the host's memory", "5 TiB", ROLE_OTHER, COUNTER_UNEXPLAINED,
               .context.host_bytes = UINT64_C(1) << 40),
        REPORT("five times the host's memory", "5 TiB", ROLE_ALLOCATED, COUNTER_UNEXPLAINED,
               .context.host_bytes = UINT64_C(1) << 40),
        REPORT("a limit may be anything", "5 TiB", ROLE_LIMIT, COUNTER_PLAUSIBLE,
               .context.host_bytes = UINT64_C(1) << 40),
        REPORT("an address below what the host has", "127 TiB", ROLE_TOTAL, COUNTER_PLAUSIBLE,
               .context.host_bytes = UINT64_C(1) << 47),
        REPORT("the host's memory, off by 1024", "1048576 TiB", ROLE_TOTAL, COUNTER_UNIT_MIXUP,
               .context.host_bytes = UINT64_C(1) << 40, .fact = "factor of 1048576"),
        REPORT("a total that is too small by 1024", "24 MiB", ROLE_TOTAL, COUNTER_UNIT_MIXUP,
               .device = "24 GiB", .fact = "factor of 1024"),
        REPORT("no total", "24 MiB", ROLE_ALLOCATED, COUNTER_PLAUSIBLE, .device = "24 GiB"),
        REPORT("no lost 2^32", "8589934593 bytes", ROLE_USED, COUNTER_PLAUSIBLE,
               .context.expected_bytes = UINT64_C(17179869184)),
        REPORT("the same from both sources", "17179869184 bytes", ROLE_USED, COUNTER_PLAUSIBLE,
               .context.expected_bytes = UINT64_C(17179869184)),
        REPORT("a request is subtracted from nothing", "17179869182.51 GiB", ROLE_OTHER,
               COUNTER_UNDERFLOW, .sibling = {"request=1.49 GiB"}, .fact = "2^64 bytes − 1717"),
        REPORT("a device's index is subtracted from nothing", "18446744073709551612 B", ROLE_FREE,
               COUNTER_UNDERFLOW, .sibling = {"device=4 B"}, .fact = "2^64 bytes − 1844"),
        REPORT("a negative difference", "-2.00 GiB", ROLE_FREE, COUNTER_NEGATIVE,
               .sibling = {"limit=10.00 GiB", "used=12.00 GiB"},
               .fact = "limit − used = 10.00 GiB − 12.00 GiB = −2.00 GiB"),
        REPORT("floats, as far as the digits go", "4270570371.00 GiB", ROLE_USED, COUNTER_FLOATS,
               .fact = "two floats 1.2729"),
        REPORT("a tag is no tag over more than there is", "67109888.00 GiB", ROLE_TOTAL,
               COUNTER_UNEXPLAINED, .device = "24 GiB"),
    };
    EACH(reports);
    // A fork by itself makes no number suspicious.
    classify(&(struct report)REPORT("forked", "5 GiB", ROLE_USED, COUNTER_PLAUSIBLE,
                                    .context.forked = true));
    assert_int_equal(count, 1);
    assert_int_equal(counters_verdict(found, count), VERDICT_PLAUSIBLE);
    // As little does it make a sentinel.
    classify(&(struct report)REPORT("forked", "17179869184.00 GiB", ROLE_USED, COUNTER_SENTINEL,
                                    .context.forked = true));
    for (size_t i = 0; i < count; i++)
        assert_int_not_equal(found[i].kind, COUNTER_STALE_AFTER_FORK);
    // The deficit is what would have to be added.
    classify(
        &(struct report)REPORT("deficit", "17179869181.00 GiB", ROLE_OTHER, COUNTER_UNDERFLOW));
    assert_true(found[0].deficit == 3 * gib && found[0].bits == 64);
}

static void each_class_is_told_in_both_languages(void **state) {
    (void)state;
    static const char *const numbers[] = {"67108914.49 GiB",
                                          "67108912.00 GB",
                                          "17179869184.00 GiB",
                                          "17179869183.95 GiB",
                                          "18446744073709551000 KiB",
                                          "65536 MB/s",
                                          "-76898304 B",
                                          "131060.03 GiB",
                                          "4585490524328388608 B",
                                          "67371012.07 GiB",
                                          "25165824 GiB",
                                          "18446744073709551105 B",
                                          "30 GiB",
                                          "1050587.26 GiB",
                                          "17179869184"};
    bool seen[COUNTER_KINDS] = {false};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        for (int role = ROLE_NONE; role <= ROLE_COUNT; role++) {
            classify(&(struct report)REPORT("text", numbers[i], (enum counter_role)role,
                                            COUNTER_PLAUSIBLE, .sibling = {"allocated=1.49 GiB"},
                                            .device = "24 GiB", .context.forked = true,
                                            .context.platform = PLATFORM_LINUX));
            for (size_t k = 0; k < count; k++)
                for (int which = 0; which < 3; which++) {
                    char en[COUNTER_TEXT], zh[COUNTER_TEXT];
                    seen[found[k].kind] = true;
                    counters_text(&number, &context, &found[k], which, LANGUAGE_EN, en, sizeof en);
                    counters_text(&number, &context, &found[k], which, LANGUAGE_ZH, zh, sizeof zh);
                    assert_int_equal(*en != '\0', *zh != '\0');
                    assert_true(which != TEXT_FACT || *en);
                    assert_true(!*en || strcmp(en, zh) != 0);
                    // A fact guesses nothing.
                    assert_true(which != TEXT_FACT || !strstr(en, "erhaps"));
                }
        }
    seen[COUNTER_OVERSIZED_REQUEST] = true; // 30 GiB is not: see the table above
    for (int kind = 0; kind < COUNTER_KINDS; kind++) {
        if (!seen[kind]) fail_msg("no number is a %s", counters_kind_id(kind));
        for (int other = 0; other < kind; other++)
            assert_string_not_equal(counters_kind_id(kind), counters_kind_id(other));
        assert_string_not_equal(counters_kind_name(kind, LANGUAGE_EN),
                                counters_kind_name(kind, LANGUAGE_ZH));
    }
}

static void roles_are_the_names_of_fields(void **state) {
    (void)state;
    static const char *const names[] = {"bytes", "request", "allocated", "reserved", "free",
                                        "total", "limit",   "other",     "used",     "count"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_string_equal(counters_role_name(counters_role(names[i])), names[i]);
    assert_int_equal(counters_role("pid"), ROLE_COUNT);
    assert_int_equal(counters_role("shape"), ROLE_COUNT);
    assert_int_equal(counters_role("name"), ROLE_NONE);
    assert_int_equal(counters_role(NULL), ROLE_NONE);
}

static void the_verdict_is_that_of_the_best_class(void **state) {
    (void)state;
    static const struct {
        const char *number;
        enum counter_role role;
        enum counter_verdict verdict;
    } cases[] = {
        {"24 GiB", ROLE_NONE, VERDICT_PLAUSIBLE},
        {"4.00 GiB", ROLE_NONE, VERDICT_PLAUSIBLE},
        {"17179869184", ROLE_NONE, VERDICT_AMBIGUOUS},
        {"65536 MB/s", ROLE_NONE, VERDICT_AMBIGUOUS},
        {"17179869184.00 GiB", ROLE_USED, VERDICT_SENTINEL},
        {"100 TiB", ROLE_REQUEST, VERDICT_REQUEST},
        {"67108914.49 GiB", ROLE_OTHER, VERDICT_IMPLAUSIBLE},
        {"1050587.26 GiB", ROLE_REQUEST, VERDICT_IMPLAUSIBLE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        classify(
            &(struct report)REPORT("verdict", cases[i].number, cases[i].role, COUNTER_PLAUSIBLE));
        if (counters_verdict(found, count) != cases[i].verdict)
            fail_msg("%s: %s", cases[i].number,
                     counters_verdict_id(counters_verdict(found, count)));
    }
    assert_int_equal(counters_verdict(NULL, 0), VERDICT_PLAUSIBLE);
}

static void how_well_a_class_is_supported_is_told(void **state) {
    (void)state;
    static const struct {
        const char *number;
        enum counter_role role;
        enum counter_strength strength;
    } cases[] = {
        {"4294967295 B", ROLE_USED, STRENGTH_EXACT},
        {"0x0100000CFEEDFACF", ROLE_USED, STRENGTH_EXACT},
        {"17179869183.95 GiB", ROLE_USED, STRENGTH_PRINTED},
        {"17179869184.00 GiB", ROLE_USED, STRENGTH_PRINTED},
        {"67108914.49 GiB", ROLE_OTHER, STRENGTH_PRINTED},
        {"67108914.49 GiB", ROLE_NONE, STRENGTH_POSSIBLE},
        {"18 EB", ROLE_FREE, STRENGTH_POSSIBLE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool other = cases[i].role == ROLE_OTHER;
        classify(&(struct report)REPORT("strength", cases[i].number, cases[i].role,
                                        COUNTER_PLAUSIBLE,
                                        .sibling = {other ? "allocated=1.49 GiB" : NULL}));
        if (found[0].strength != cases[i].strength)
            fail_msg("%s: %s", cases[i].number, counters_strength_id(found[0].strength));
        // What is impossible for sure is not plausible besides.
        for (size_t k = 0; k < count; k++)
            assert_true(found[k].kind != COUNTER_PLAUSIBLE &&
                        found[k].kind != COUNTER_OVERSIZED_REQUEST);
    }
    // Only "other" is what is left when something was subtracted.
    classify(&(struct report)REPORT("used", "67108914.49 GiB", ROLE_USED, COUNTER_TAG,
                                    .sibling = {"allocated=1.49 GiB"}));
    assert_int_equal(found[0].kind, COUNTER_TAG);
}

static void little_room_cuts_texts_between_characters(void **state) {
    (void)state;
    classify(&(struct report)REPORT("cut", "67108914.49 GiB", ROLE_OTHER, COUNTER_MAGIC,
                                    .sibling = {"allocated=1.49 GiB"}));
    char whole[COUNTER_TEXT], part[COUNTER_TEXT];
    counters_text(&number, &context, found, TEXT_FACT, LANGUAGE_ZH, whole, sizeof whole);
    for (size_t size = 1; size < strlen(whole) + 2; size++) {
        memset(part, 'x', sizeof part);
        counters_text(&number, &context, found, TEXT_FACT, LANGUAGE_ZH, part, size);
        size_t length = strlen(part);
        assert_true(length < size && length + 4 >= size - (size > strlen(whole)));
        assert_memory_equal(part, whole, length);
        assert_true(((unsigned char)whole[length] & 0xc0) != 0x80);
        assert_int_equal(part[size], 'x');
    }
    assert_int_equal(counters_classify(&number, &context, found, 1), 1);
    assert_int_equal(counters_classify(&number, &context, found, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_numbers_get_each_of_their_readings),
        cmocka_unit_test(what_is_known_of_the_machine_decides),
        cmocka_unit_test(each_class_is_told_in_both_languages),
        cmocka_unit_test(roles_are_the_names_of_fields),
        cmocka_unit_test(the_verdict_is_that_of_the_best_class),
        cmocka_unit_test(how_well_a_class_is_supported_is_told),
        cmocka_unit_test(little_room_cuts_texts_between_characters),
        cmocka_unit_test(each_reported_number_gets_the_class_of_its_cause),
        cmocka_unit_test(each_row_of_the_classes_has_its_landmarks),
        cmocka_unit_test(what_is_large_for_a_good_reason_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
