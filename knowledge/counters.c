// SPDX-License-Identifier: Apache-2.0
//
// The classifier (counters.h): each detector below looks at the number in each of its readings and
// adds what it finds with a score; the sorted list is the answer. The patterns come from reports of
// real failures; tests/unit/test_counters.c has them by number.
//
// Scores only order. From 50, the score of "plausible", on a class outranks it; so what is merely
// compatible with an unsuspicious number scores less.
#include "counters.h"

#include "counters_internal.h"

#include <string.h>

#define PLAUSIBLE 50
#define HINT      45 // below plausible: a second reading worth printing
#define FOOTNOTE  20 // not even that

#define GIB TWO_TO(30)
#define TIB TWO_TO(40)

// The largest machines sold have 64 TiB. Beyond four times that no byte count is believed, whatever
// the device; below, only what fits a pattern is doubted.
#define LARGEST_HOST (64 * TIB)
#define FACTOR       4
// A total or limit below is of something else.
#define SMALLEST_DEVICE TWO_TO(26)

// A difference goes below zero by what was mixed up: a part of a device, not more than a TiB.
#define DEFICIT_MOST TIB
// Digits that leave more than this open tell nothing about a value's low bits.
#define COARSE (2 * GIB)
// What went through a float near 2^56 leaves half of this open; so do addresses in TiB.
#define FLOAT_SPAN (16 * GIB)

// ---- what is known --------------------------------------------------------------------------

static const struct sentinel sentinels[] = {
    {TOP - 1,
     64,
     false,
     "2^64-1",
     {"NVML's \"not available\" (usual for memory of a process on WSL2 and WDDM), or \"unlimited\" "
      "(PyTorch without a memory fraction, ONNX Runtime's arena)",
      "NVML 的“不可用”（WSL2 与 WDDM 上的进程显存通常如此），或“不限”（未设显存比例的 "
      "PyTorch、ONNX Runtime 的 arena）"}},
    {TWO_TO(63) - 1, 64, false, "2^63-1", {"\"unlimited\"", "“不限”"}},
    {TWO_TO(63) - 4096,
     64,
     false,
     "2^63-4096",
     {"a Linux memory cgroup without a limit", "未设上限的 Linux 内存 cgroup"}},
    {TWO_TO(32) - 1,
     32,
     false,
     "2^32-1",
     {"\"not available\" or \"unlimited\" in a field of 32 bits", "32 位字段的“不可用”或“不限”"}},
    {TWO_TO(31) - 1,
     32,
     false,
     "2^31-1",
     {"\"unlimited\" in a signed field of 32 bits", "32 位有符号字段的“不限”"}},
    {1,
     0,
     true,
     "-1",
     {"\"not available\", \"unlimited\" or \"default\"", "“不可用”、“不限”或“默认”"}},
};
#define SENTINELS (sizeof sentinels / sizeof sentinels[0])

// -1 of a counter in MiB, made bytes: seen as 17179869183.999 GB from an AMD driver.
static const struct sentinel minus_one_mib = {
    TOP - TWO_TO(20),
    64,
    false,
    "2^64-2^20",
    {"a driver's -1, \"not available\", taken for so many MiB and turned into bytes",
     "驱动返回的 -1（“不可用”）被当作 MiB 数量并换算成了字节"}};

static const struct magic magics[] = {
    {0x0100000cfeedfacf,
     ~0ull,
     true,
     true,
     {"the start of a 64-bit Mach-O file: magic FEEDFACF, then CPU type 0100000C (ARM64)",
      "64 位 Mach-O 文件的开头：魔数 FEEDFACF，其后是 CPU 类型 0100000C（ARM64）"}},
    {0x01000007feedfacf,
     ~0ull,
     true,
     true,
     {"the start of a 64-bit Mach-O file: magic FEEDFACF, then CPU type 01000007 (x86-64)",
      "64 位 Mach-O 文件的开头：魔数 FEEDFACF，其后是 CPU 类型 01000007（x86-64）"}},
    {0xfeedfacf,
     0xffffffff,
     true,
     true,
     {"the start of a 64-bit Mach-O file: magic FEEDFACF",
      "64 位 Mach-O 文件的开头：魔数 FEEDFACF"}},
    {0xfeedface,
     0xffffffff,
     true,
     true,
     {"the start of a 32-bit Mach-O file: magic FEEDFACE",
      "32 位 Mach-O 文件的开头：魔数 FEEDFACE"}},
    {0x02000000bebafeca,
     ~0ull,
     true,
     true,
     {"the start of a universal Mach-O file: bytes CA FE BA BE, then two architectures",
      "通用 Mach-O 文件的开头：字节 CA FE BA BE，其后为两种架构"}},
    {0xbebafeca,
     0xffffffff,
     true,
     true,
     {"the start of a universal Mach-O file (or Java class): bytes CA FE BA BE",
      "通用 Mach-O 文件（或 Java class）的开头：字节 CA FE BA BE"}},
    {0x00010102464c457f,
     ~0ull,
     true,
     false,
     {"the start of an ELF file: 7F \"ELF\", 64 bits, little-endian",
      "ELF 文件的开头：7F “ELF”，64 位，小端"}},
    {0x03010102464c457f,
     ~0ull,
     true,
     false,
     {"the start of an ELF file: 7F \"ELF\", 64 bits, little-endian, GNU ABI",
      "ELF 文件的开头：7F “ELF”，64 位，小端，GNU ABI"}},
    {0x464c457f,
     0xffffffff,
     true,
     false,
     {"the start of an ELF file: 7F \"ELF\"", "ELF 文件的开头：7F “ELF”"}},
    {0xdeadbeefdeadbeef, ~0ull, false, false, {"the fill pattern DEADBEEF", "填充模式 DEADBEEF"}},
    {0xbaadf00dbaadf00d,
     ~0ull,
     false,
     false,
     {"the fill pattern BAADF00D of a debug heap", "调试堆的填充模式 BAADF00D"}},
    {0xfeeefeeefeeefeee,
     ~0ull,
     false,
     false,
     {"the fill pattern FEEE of freed memory in a debug heap",
      "调试堆中已释放内存的填充模式 FEEE"}},
};
#define MAGICS (sizeof magics / sizeof magics[0])

static const struct region regions[] = {
    {0x7e0000000000,
     0x7fffffffffff,
     {"of stacks and libraries on x86-64", "x86-64 上栈与动态库所在的地址区"}},
    {0xffff00000000,
     0xffffffffffff,
     {"of stacks and libraries on ARM64 Linux", "ARM64 Linux 上栈与动态库所在的地址区"}},
    {0xffff800000000000,
     0xfffffeffffffffff,
     {"of the kernel on x86-64 and ARM64", "x86-64 与 ARM64 的内核地址区"}},
};
#define REGIONS (sizeof regions / sizeof regions[0])

static const struct {
    const char *field;
    enum counter_role role;
} roles[] = {
    {"request", ROLE_REQUEST}, {"allocated", ROLE_ALLOCATED}, {"reserved", ROLE_RESERVED},
    {"free", ROLE_FREE},       {"total", ROLE_TOTAL},         {"limit", ROLE_LIMIT},
    {"other", ROLE_OTHER},     {"used", ROLE_USED},           {"count", ROLE_COUNT},
    {"device", ROLE_COUNT},    {"pid", ROLE_COUNT},           {"rank", ROLE_COUNT},
    {"code", ROLE_COUNT},      {"shape", ROLE_COUNT},         {"bytes", ROLE_NONE},
};
#define ROLES (sizeof roles / sizeof roles[0])

enum counter_role counters_role(const char *field) {
    for (size_t i = 0; field && i < ROLES; i++)
        if (strcmp(roles[i].field, field) == 0) return roles[i].role;
    return ROLE_NONE;
}

const char *counters_role_name(enum counter_role role) {
    for (size_t i = 0; i < ROLES; i++)
        if (roles[i].role == role) return roles[i].field;
    return "bytes";
}

// ---- the number and its readings ------------------------------------------------------------

// The byte values that the number may stand for, under one assumption.
struct reading {
    uint64_t unit_bytes;
    number_wide low, high;
    int added;    // the sibling that this is the sum with, or -1
    bool widened; // the number went through a float
    int penalty;
};

#define READINGS 6
#define FOUND    32

struct analysis {
    const struct number *n;
    const struct counter_context *c;
    number_wide device; // what there is, or what may be used; 0 if unknown
    number_wide total;  // what there is
    number_wide most;   // above it no byte count is believed
    bool summed;        // there are readings as a sum with a sibling
    bool vague;         // may as well count something else: no unit, no role
    struct reading reading[READINGS];
    size_t readings;
    struct counter_class found[FOUND + 1]; // the last one takes what does not fit
    size_t count;
};

number_wide counters_middle(const struct number *n, uint64_t unit_bytes) {
    number_wide low, high;
    number_range(n, unit_bytes, &low, &high);
    return low + (high - low) / 2;
}

int counters_top_bit(number_wide value) {
    int bit = 0;
    while (bit < 127 && value >> (bit + 1)) bit++;
    return bit;
}

static const struct number *sibling(const struct analysis *a, int i) {
    return &a->c->siblings[i].number;
}

// A class for the number in this reading; the caller fills in the rest.
static struct counter_class *add(struct analysis *a, const struct reading *r,
                                 enum counter_kind kind, enum counter_strength strength,
                                 int score) {
    struct counter_class *class = &a->found[a->count];
    if (a->count < FOUND) a->count++;
    if (r->widened || (strength == STRENGTH_EXACT && r->low != r->high))
        strength = STRENGTH_PRINTED;
    *class = (struct counter_class){.kind = kind,
                                    .strength = strength,
                                    .score = score - r->penalty,
                                    .value = r->low + (r->high - r->low) / 2,
                                    .unit_bytes = r->unit_bytes,
                                    .as_float = r->widened,
                                    .sibling = r->added,
                                    .sibling2 = -1};
    return class;
}

// Scores of what could as well be an id or a time stand back if nothing says that it is bytes.
static int if_bytes(const struct analysis *a, int score) {
    int most = !a->vague ? 100 : a->c->role == ROLE_COUNT ? FOOTNOTE : HINT;
    return score < most ? score : most;
}

static bool holds(const struct reading *r, number_wide value) {
    return value >= r->low && value <= r->high;
}

static void add_reading(struct analysis *a, struct reading r) {
    if (a->readings < READINGS) a->reading[a->readings++] = r;
}

// Did the number go through a float of 24 bits before it was printed? PyTorch up to 2.6 does that
// on MPS. Then it ends in zeros, and its neighbours among floats are further away than its last
// digit.
static void read_as_float(struct analysis *a) {
    const struct number *n = a->n;
    number_wide scale = 1, v = counters_middle(n, n->unit_bytes);
    for (int i = 0; i < n->decimals; i++) scale *= 10;
    if (!n->other_bytes || n->decimals < 1 || n->digits % scale || v <= a->most || v > TOP) return;
    int exponent = counters_top_bit(v);
    if (exponent < 24 || v & (TWO_TO(exponent - 23) - 1)) return;
    // Rounding to nearest; below a power of two floats lie twice as close.
    number_wide above = TWO_TO(exponent - 24);
    number_wide below = v == TWO_TO(exponent) ? above / 2 : above;
    if (below < n->unit_bytes / (2 * scale)) return;
    add_reading(a, (struct reading){n->unit_bytes, v - below, v + above, -1, true, 20});
}

static void find_readings(struct analysis *a) {
    struct reading r = {.unit_bytes = a->n->unit_bytes, .added = -1};
    number_range(a->n, r.unit_bytes, &r.low, &r.high);
    add_reading(a, r);
    if (a->n->negative) return;
    if (a->n->other_bytes) {
        r.unit_bytes = a->n->other_bytes;
        r.penalty = 3;
        number_range(a->n, r.unit_bytes, &r.low, &r.high);
        add_reading(a, r);
    }
    read_as_float(a);
    if (a->c->role != ROLE_OTHER) return;
    // "Other" is a difference: the sum with what was subtracted is what was read from the device.
    int allocated = -1;
    for (size_t i = 0; i < a->c->siblings_count && allocated < 0; i++)
        if (a->c->siblings[i].role == ROLE_ALLOCATED && !sibling(a, (int)i)->negative)
            allocated = (int)i;
    for (size_t i = 0, n = a->readings; allocated >= 0 && i < n; i++) {
        // The difference itself may still be what is strange, but of two that fit it is the sum.
        a->reading[i].penalty++;
        number_wide low, high;
        const struct number *s = sibling(a, allocated);
        bool same_unit = s->unit_bytes == a->n->unit_bytes; // then also the same reading of it
        number_range(s, same_unit ? a->reading[i].unit_bytes : s->unit_bytes, &low, &high);
        r = a->reading[i];
        r.penalty--;
        r.low += low;
        r.high += high;
        r.added = allocated;
        a->summed = true;
        add_reading(a, r);
    }
}

// ---- detectors ------------------------------------------------------------------------------

static void add_sentinel(struct analysis *a, const struct reading *r, const struct sentinel *s,
                         enum counter_strength strength, int score) {
    struct counter_class *class = add(a, r, COUNTER_SENTINEL, strength, score);
    class->value = s->value;
    class->bits = s->bits;
    class->entry = s;
}

static void find_sentinel(struct analysis *a, const struct reading *r) {
    const struct number *n = a->n;
    bool whole = n->decimals == 0, coarse = r->high - r->low > COARSE;
    bool unlimited = a->c->role == ROLE_LIMIT || a->c->role == ROLE_TOTAL;
    for (const struct sentinel *s = sentinels; s < sentinels + SENTINELS; s++) {
        if (s->negative != n->negative || r->widened) continue;
        // As it is in its own unit, without any rounding; also after a double, which turns 2^64-1
        // into 2^64.
        bool itself = whole && (n->digits == s->value ||
                                (s->bits == 64 && s->value & 1 && n->digits == s->value + 1));
        if (itself && r->added < 0)
            add_sentinel(a, r, s, STRENGTH_EXACT, s->negative ? if_bytes(a, 91) : 96 - r->penalty);
        else if (s->bits == 64 && (holds(r, s->value) || (s->value & 1 && holds(r, s->value + 1))))
            add_sentinel(a, r, s, coarse ? STRENGTH_POSSIBLE : STRENGTH_PRINTED,
                         coarse ? (unlimited ? 70 : 58) : (r->added < 0 ? 92 : 78));
        else if (s->bits == 64 && whole && r->unit_bytes > 1 && r->added < 0 &&
                 n->digits == s->value / r->unit_bytes)
            add_sentinel(a, r, s, STRENGTH_POSSIBLE, 86); // cut off, not rounded
        else if (s->bits == 32 && holds(r, s->value) && r->added < 0)
            add_sentinel(a, r, s, STRENGTH_POSSIBLE, FOOTNOTE); // "4.00 GiB"
    }
    if (!n->negative && r->added < 0 && !r->widened && !coarse && !holds(r, TOP - 1) &&
        holds(r, minus_one_mib.value))
        add_sentinel(a, r, &minus_one_mib, STRENGTH_PRINTED, 89);
}

static void find_underflow(struct analysis *a, const struct reading *r) {
    if (a->n->negative || r->low >= TOP || r->added >= 0) return;
    number_wide least = r->high >= TOP ? 0 : TOP - r->high,
                middle = r->low + (r->high - r->low) / 2;
    if (least > DEFICIT_MOST) return;
    number_wide usual = a->device ? FACTOR * a->device : DEFICIT_MOST;
    bool coarse = r->high - r->low > COARSE && !r->widened;
    // Where the digits reach up to 2^64 they do not tell the deficit, but at most how much it is.
    bool open = middle + 1 >= TOP || r->high >= TOP;
    struct counter_class *class =
        add(a, r, COUNTER_UNDERFLOW, coarse ? STRENGTH_POSSIBLE : STRENGTH_EXACT,
            coarse           ? 62
            : open           ? 70
            : least <= usual ? 88
                             : 80);
    class->bits = 64;
    class->deficit = TOP - (open ? r->low : middle);
}

// Do the siblings reproduce it? a - b, where b is larger; 0 - b; or one that states the same
// difference as a signed number.
static void find_difference(struct analysis *a, const struct reading *r) {
    int count = a->c->siblings_count > 64 ? 64 : (int)a->c->siblings_count;
    if (r->added >= 0 || r->low >= TOP || r->high - r->low > COARSE) return;
    number_wide low = a->n->negative ? r->low : TOP - (r->high >= TOP ? TOP - 1 : r->high);
    number_wide high = a->n->negative ? r->high : TOP - r->low;
    if (low > DEFICIT_MOST) return;
    for (int j = 0; j < count; j++) {
        const struct number *b = sibling(a, j);
        if (a->c->siblings[j].role == ROLE_COUNT || a->c->siblings[j].role == ROLE_REQUEST)
            continue;
        if (b->negative && !a->n->negative && b->wide_low <= high && b->wide_high >= low &&
            (b->has_unit || !a->vague)) {
            struct counter_class *class = add(a, r, COUNTER_UNDERFLOW, STRENGTH_EXACT, 97);
            class->bits = 64;
            class->deficit = counters_middle(b, b->unit_bytes);
            class->sibling = j;
        }
        for (int i = -1; i < count; i++) {
            const struct number *x = i < 0 ? NULL : sibling(a, i);
            if (b->negative || i == j || (x ? x->negative : a->n->negative) || !b->has_unit)
                continue;
            if (x && (a->c->siblings[i].role == ROLE_COUNT || !x->has_unit)) continue;
            number_wide from = x ? x->wide_low : 0, to = x ? x->wide_high : 0;
            if (b->wide_low <= to || b->wide_low - to > high || b->wide_high - from < low) continue;
            // Coarse numbers agree with everything.
            if (b->wide_high - from - (b->wide_low - to) > COARSE) continue;
            struct counter_class *class =
                add(a, r, a->n->negative ? COUNTER_NEGATIVE : COUNTER_UNDERFLOW, STRENGTH_EXACT,
                    a->n->negative ? 93
                    : x            ? 95
                                   : 94);
            class->bits = 64;
            class->deficit =
                counters_middle(b, b->unit_bytes) - (x ? counters_middle(x, x->unit_bytes) : 0);
            class->sibling = j;
            class->sibling2 = i;
        }
    }
}

// Counters that count KiB, MiB or pages, and plain numbers that may be such.
static void find_underflow_in_unit(struct analysis *a, const struct reading *r) {
    static const unsigned shifts[] = {30, 20, 12, 10};
    const struct number *n = a->n;
    if (n->negative || n->decimals != 0 || r->added >= 0 || r->widened || a->c->role == ROLE_COUNT)
        return;
    for (unsigned bits = 32; bits <= 64 && r->unit_bytes > 1; bits += 32) {
        number_wide below = TWO_TO(bits) - n->digits, deficit = below * r->unit_bytes;
        number_wide usual = a->device ? FACTOR * a->device : DEFICIT_MOST;
        if (n->digits >= TWO_TO(bits) || below == 1 || below > DEFICIT_MOST || deficit > usual ||
            r->low <= a->most)
            continue;
        struct counter_class *class = add(a, r, COUNTER_UNDERFLOW_IN_UNIT, STRENGTH_PRINTED, 86);
        class->bits = bits;
        class->deficit = deficit;
    }
    for (size_t i = 0; n->kind == NUMBER_PLAIN && i < sizeof shifts / sizeof shifts[0]; i++) {
        uint64_t unit = UINT64_C(1) << shifts[i];
        number_wide wraps = TOP >> shifts[i], least = DEFICIT_MOST >> shifts[i];
        if (n->digits > wraps || wraps - n->digits >= least) continue;
        struct counter_class *class;
        if (n->digits == wraps || n->digits == (TOP - 1) >> shifts[i]) {
            class = add(a, r, COUNTER_SENTINEL, STRENGTH_POSSIBLE, HINT);
            class->entry = &sentinels[0];
            class->value = TOP - 1;
        } else {
            class = add(a, r, COUNTER_UNDERFLOW_IN_UNIT, STRENGTH_POSSIBLE, HINT - 5);
            class->deficit = (wraps - n->digits) * unit;
        }
        class->bits = 64;
        class->unit_bytes = unit;
    }
}

static void find_wrap(struct analysis *a, const struct reading *r) {
    const struct number *n = a->n;
    number_wide expected = a->c->expected_bytes;
    if (n->kind == NUMBER_RATE && n->decimals == 0 && r == a->reading &&
        (n->digits == TWO_TO(16) || n->digits == TWO_TO(16) - 1))
        add(a, r, COUNTER_WRAP, STRENGTH_POSSIBLE, 75)->bits = 16;
    if (n->negative || r->added >= 0 || r->widened || expected <= r->high ||
        r->high - r->low > TWO_TO(28))
        return;
    number_wide wraps = (expected - r->low) >> 32;
    if (!wraps || !holds(r, expected - (wraps << 32))) return;
    struct counter_class *class = add(a, r, COUNTER_WRAP, STRENGTH_EXACT, 87);
    class->bits = 32;
    class->value = expected;
    class->deficit = wraps << 32;
}

static void find_negative(struct analysis *a, const struct reading *r) {
    const struct number *n = a->n;
    if (r->added >= 0) return;
    if (n->negative) {
        if (!n->digits) return;
        add(a, r, COUNTER_NEGATIVE, STRENGTH_EXACT, if_bytes(a, 90))->bits = 64;
        // The same 32 bits without a sign: a size between 2 and 4 GiB.
        if (r->low != r->high || r->low > TWO_TO(31) || r->unit_bytes != 1) return;
        struct counter_class *class = add(a, r, COUNTER_WRAP, STRENGTH_POSSIBLE, if_bytes(a, 60));
        class->bits = 32;
        class->value = TWO_TO(32) - r->low;
    } else if (a->c->at_least && counters_middle(n, r->unit_bytes) >= TWO_TO(60)) {
        add(a, r, COUNTER_NEGATIVE, STRENGTH_POSSIBLE, 85)->bits = 64;
    } else if (r == a->reading && r->low >= TWO_TO(63) && r->high < TOP - DEFICIT_MOST) {
        struct counter_class *class = add(a, r, COUNTER_NEGATIVE, STRENGTH_EXACT, if_bytes(a, 55));
        class->bits = 64;
        class->deficit = TOP - class->value;
    }
}

static void find_pointer(struct analysis *a, const struct reading *r) {
    number_wide known = a->c->host_bytes > a->device ? a->c->host_bytes : a->device;
    if (a->n->negative || r->widened || r->low <= known || r->high - r->low > FLOAT_SPAN) return;
    for (size_t i = 0; i < a->c->mappings_count; i++) {
        const struct counter_mapping *m = &a->c->mappings[i];
        if (r->low >= m->first && r->high < m->end && r->low > TIB)
            add(a, r, COUNTER_POINTER, STRENGTH_PRINTED, if_bytes(a, 90));
    }
    for (size_t i = 0; i < REGIONS; i++)
        if (r->low >= regions[i].first && r->high <= regions[i].last)
            add(a, r, COUNTER_POINTER, STRENGTH_PRINTED, if_bytes(a, 84))->entry = &regions[i];
    // TensorFlow asks again for nine tenths of it, and again.
    for (size_t i = 0; i < a->c->siblings_count && r->added < 0; i++) {
        number_wide low = sibling(a, (int)i)->wide_low, high = sibling(a, (int)i)->wide_high;
        if (low < regions[0].first || high > regions[0].last || high <= r->low) continue;
        number_wide address = low + (high - low) / 2;
        for (int step = 0; step < 40 && high >= r->low; step++) {
            low = low * 9 / 10 - 1;
            high = high * 9 / 10 + 1;
            if (low > r->high || high < r->low) continue;
            struct counter_class *class = add(a, r, COUNTER_POINTER, STRENGTH_PRINTED, 82);
            class->sibling = (int)i;
            class->value = address;
            break;
        }
    }
}

static struct counter_class *add_magic(struct analysis *a, const struct reading *r,
                                       const struct magic *m, number_wide value, int score) {
    struct counter_class *class =
        add(a, r, COUNTER_MAGIC, r->added < 0 ? STRENGTH_EXACT : STRENGTH_PRINTED, score);
    class->value = value;
    class->entry = m;
    return class;
}

static void find_magic(struct analysis *a, const struct reading *r) {
    bool exact = r->low == r->high;
    if (a->n->negative || r->low >= TOP || r->high - r->low > FLOAT_SPAN) return;
    for (const struct magic *m = magics; m < magics + MAGICS; m++) {
        uint64_t low = (uint64_t)r->low;
        if (m->mask == ~0ull && holds(r, m->value))
            add_magic(a, r, m, m->value, exact ? 97 : 94);
        else if (exact && (low & m->mask) == m->value && low >> 32)
            add_magic(a, r, m, low, 96 - 20 * (a->vague && low <= LARGEST_HOST));
        else if (exact && !m->header && low == m->value >> 32)
            add_magic(a, r, m, low, HINT);
        // Something was subtracted from it that is not known.
        number_wide missing = a->device ? FACTOR * a->device : 64 * GIB;
        if (!m->header || m->mask != ~0ull || a->summed || r->high >= m->value ||
            m->value - r->high > missing || r->high - r->low > GIB ||
            (a->c->role != ROLE_NONE && a->c->role != ROLE_OTHER))
            continue;
        struct counter_class *class = add_magic(a, r, m, m->value, if_bytes(a, 70));
        class->strength = STRENGTH_POSSIBLE;
        class->deficit = m->value - (r->low + (r->high - r->low) / 2);
    }
    uint64_t byte = (uint64_t)(r->low >> 56), fill = byte * 0x0101010101010101;
    if (byte && byte != 0xff && holds(r, fill)) add_magic(a, r, NULL, fill, exact ? 95 : 93);
}

bool counters_two_floats(uint64_t bits, float *high, float *low) {
    uint32_t half[2] = {(uint32_t)(bits >> 32), (uint32_t)bits};
    memcpy(high, &half[0], sizeof *high);
    memcpy(low, &half[1], sizeof *low);
    float h = *high < 0 ? -*high : *high, l = *low < 0 ? -*low : *low;
    return h >= 1e-6F && h <= 1e6F && l >= 1e-6F && l <= 1e6F;
}

bool counters_one_double(uint64_t bits, double *out) {
    memcpy(out, &bits, sizeof bits);
    double d = *out < 0 ? -*out : *out;
    return d >= 1e-6 && d <= 1e6;
}

static void find_floats(struct analysis *a, const struct reading *r) {
    float high, low;
    double d;
    if (a->n->negative || r->high >= TOP || r->widened || r->high - r->low > GIB) return;
    uint64_t from = (uint64_t)r->low, to = (uint64_t)r->high;
    if (from >> 32 != to >> 32) return;
    int printed = from == to ? 0 : 12;
    if (counters_two_floats(from, &high, &low) && counters_two_floats(to, &high, &low))
        add(a, r, COUNTER_FLOATS, STRENGTH_EXACT, if_bytes(a, 82 - printed))->bits = 32;
    // A double with few digits, as programs write them, ends in zero bits.
    if (counters_one_double(from, &d))
        add(a, r, COUNTER_FLOATS, STRENGTH_EXACT, if_bytes(a, (from & 0xfffff ? 76 : 86) - printed))
            ->bits = 64;
}

static void find_bytes(struct analysis *a, const struct reading *r) {
    if (a->n->negative || r->high >= TOP || r->widened || r->low <= a->most) return;
    uint64_t from = (uint64_t)r->low, to = (uint64_t)r->high;
    unsigned ones = 0, others = 0;
    for (unsigned shift = 32; shift < 64; shift += 8) {
        ones += (from >> shift & 0xff) == 1;
        others += (from >> shift & 0xff) > 1;
    }
    if (from >> 32 == to >> 32 && ones >= 2 && !others)
        add(a, r, COUNTER_FLAGS, STRENGTH_PRINTED, if_bytes(a, 74));
    uint64_t tag = from >> 56, rest = to & ((UINT64_C(1) << 56) - 1);
    number_wide usual = a->device ? FACTOR * a->device : TIB;
    if (tag && tag == to >> 56 && tag != 0xff && rest <= usual)
        add(a, r, COUNTER_TAG, STRENGTH_POSSIBLE, if_bytes(a, r->added < 0 ? 68 : 66));
}

static bool mixed_up(const struct reading *r, number_wide total, uint64_t factor, bool larger) {
    number_wide low = larger ? r->low / factor : r->low * factor;
    number_wide high = larger ? r->high / factor + 1 : r->high * factor;
    return high >= total - total / 200 && low <= total + total / 200;
}

// Right in another unit: it must then be something that is known.
static void find_unit(struct analysis *a, const struct reading *r) {
    if (a->n->negative || r->added >= 0 || r->widened || r->high > TWO_TO(80)) return;
    bool total = a->c->role == ROLE_TOTAL;
    for (int i = -2; i < (int)a->c->siblings_count && i < 64; i++) {
        number_wide known = i == -2 ? a->c->device_bytes : a->c->host_bytes;
        if (i >= 0) {
            enum counter_role role = a->c->siblings[i].role;
            if (role != ROLE_TOTAL && role != ROLE_LIMIT) continue;
            known = counters_middle(sibling(a, i), sibling(a, i)->unit_bytes);
        }
        if (known < TWO_TO(20) || known > LARGEST_HOST) continue;
        uint64_t factor = 1;
        for (int power = 1; power <= 3; power++) {
            factor <<= 10;
            bool larger = r->low > FACTOR * known && mixed_up(r, known, factor, true);
            if (!larger && (!total || i >= 0 || !mixed_up(r, known, factor, false))) continue;
            struct counter_class *class =
                add(a, r, COUNTER_UNIT_MIXUP, STRENGTH_PRINTED, if_bytes(a, 72));
            class->value = known;
            class->deficit = factor;
            class->sibling = i < 0 ? -1 : i;
        }
    }
}

static void find_rounding(struct analysis *a, const struct reading *r) {
    if (r->widened && r->added < 0) add(a, r, COUNTER_FLOAT_ROUNDING, STRENGTH_POSSIBLE, 80);
    if (!a->n->negative && r->low == r->high && r->added < 0 && r->low < TOP &&
        r->low >= TOP - 4095)
        add(a, r, COUNTER_WRAPPED_TO_ZERO, STRENGTH_EXACT,
            a->c->role == ROLE_REQUEST ? 98 : PLAUSIBLE + 5);
}

// An amount that a device may be thought to hold: neither asked for nor what there is at most.
static bool is_held(const struct number *n, enum counter_role role) {
    return role == ROLE_USED || role == ROLE_ALLOCATED || role == ROLE_RESERVED ||
           role == ROLE_OTHER || (role == ROLE_NONE && n->kind == NUMBER_SIZE);
}

// More than there is.
static void find_excess(struct analysis *a, const struct reading *r) {
    const struct number *n = a->n;
    enum counter_role role = a->c->role;
    if (n->negative || r != a->reading) return;
    if (n->kind == NUMBER_PERCENT) {
        if (n->value > 100)
            add(a, r, COUNTER_EXCEEDS, STRENGTH_POSSIBLE,
                role == ROLE_NONE || role == ROLE_COUNT ? HINT : 78);
        return;
    }
    // A device's own figures, and two ways to count the same: not to the byte. Where the driver may
    // move allocations to system memory, or nobody knows, more may be used than there is.
    if (!a->total || r->low <= a->total + a->total / 16 || r->low > a->most) return;
    bool spills = a->c->platform == PLATFORM_WINDOWS || a->c->platform == PLATFORM_UNKNOWN;
    if (role == ROLE_FREE || (role == ROLE_USED && !spills))
        add(a, r, COUNTER_EXCEEDS, STRENGTH_PRINTED, 78);
    else if (a->c->device_stated && a->c->platform != PLATFORM_WINDOWS && is_held(n, role))
        add(a, r, COUNTER_EXCEEDS, STRENGTH_POSSIBLE, PLAUSIBLE + 5);
}

static void find_plausible(struct analysis *a, const struct reading *r) {
    const struct number *n = a->n;
    if (r != a->reading || (n->negative && !a->vague && n->digits)) return;
    if (a->c->role == ROLE_REQUEST && n->kind != NUMBER_PERCENT) {
        number_wide usual = a->total ? FACTOR * a->total : LARGEST_HOST;
        if (r->low > usual && r->low <= TWO_TO(47)) {
            add(a, r, COUNTER_OVERSIZED_REQUEST, STRENGTH_PRINTED, PLAUSIBLE + r->penalty);
            return;
        }
    }
    bool share = n->kind == NUMBER_PERCENT;
    if (share && n->value > 100 && a->c->role != ROLE_NONE && a->c->role != ROLE_COUNT) return;
    if (r->low <= a->most || a->vague || a->c->role == ROLE_COUNT || share)
        add(a, r, COUNTER_PLAUSIBLE, STRENGTH_POSSIBLE, PLAUSIBLE + r->penalty);
}

static void (*const detectors[])(struct analysis *, const struct reading *) = {
    find_sentinel, find_underflow, find_difference, find_underflow_in_unit,
    find_wrap,     find_negative,  find_pointer,    find_magic,
    find_floats,   find_bytes,     find_unit,       find_rounding,
    find_excess,   find_plausible,
};
#define DETECTORS (sizeof detectors / sizeof detectors[0])

// ---- putting it together --------------------------------------------------------------------

// What the device has, as far as anything says so.
static void find_bounds(struct analysis *a) {
    const struct counter_context *c = a->c;
    a->device = a->total = c->device_bytes;
    enum counter_role wanted[] = {ROLE_TOTAL, ROLE_LIMIT};
    for (size_t w = 0; w < 2; w++)
        for (size_t i = 0; i < c->siblings_count && !a->device; i++) {
            const struct number *s = &c->siblings[i].number;
            if (c->siblings[i].role == wanted[w] && !s->negative &&
                s->wide_low >= SMALLEST_DEVICE && s->wide_high <= LARGEST_HOST)
                a->device = counters_middle(s, s->unit_bytes);
            if (wanted[w] == ROLE_TOTAL) a->total = a->device;
        }
    number_wide memory = c->host_bytes > a->device ? c->host_bytes : a->device;
    bool of_device = c->role == ROLE_ALLOCATED || c->role == ROLE_FREE || c->role == ROLE_OTHER ||
                     c->role == ROLE_USED;
    a->most = FACTOR * (of_device && c->host_bytes ? memory : LARGEST_HOST);
    a->vague = a->n->kind == NUMBER_PLAIN && (c->role == ROLE_NONE || c->role == ROLE_COUNT);
}

static bool is_corrupt(enum counter_kind kind) {
    return kind != COUNTER_PLAUSIBLE && kind != COUNTER_SENTINEL &&
           kind != COUNTER_OVERSIZED_REQUEST;
}

static void sort(struct counter_class *classes, size_t count) {
    for (size_t i = 1; i < count; i++) {
        struct counter_class class = classes[i];
        size_t j = i;
        for (; j && classes[j - 1].score < class.score; j--) classes[j] = classes[j - 1];
        classes[j] = class;
    }
}

// The best of each kind; wraps of different widths are different kinds, as are floats and doubles.
static size_t without_repeats(struct counter_class *classes, size_t count) {
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        bool seen = false;
        for (size_t j = 0; j < kept; j++)
            seen |= classes[j].kind == classes[i].kind && classes[j].bits == classes[i].bits;
        if (!seen) classes[kept++] = classes[i];
    }
    return kept;
}

static size_t without_harmless(struct counter_class *classes, size_t count) {
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (classes[i].kind != COUNTER_PLAUSIBLE && classes[i].kind != COUNTER_OVERSIZED_REQUEST)
            classes[kept++] = classes[i];
    return kept;
}

size_t counters_classify(const struct number *n, const struct counter_context *context,
                         struct counter_class *out, size_t max) {
    struct analysis a = {.n = n, .c = context};
    find_bounds(&a);
    find_readings(&a);
    for (size_t i = 0; i < a.readings; i++)
        for (size_t d = 0; d < DETECTORS; d++) detectors[d](&a, &a.reading[i]);
    sort(a.found, a.count);
    if (!a.count || a.found[0].score < PLAUSIBLE)
        add(&a, a.reading, COUNTER_UNEXPLAINED, STRENGTH_EXACT, PLAUSIBLE);
    else if (context->forked && is_corrupt(a.found[0].kind))
        add(&a, a.reading, COUNTER_STALE_AFTER_FORK, STRENGTH_POSSIBLE, 65);
    sort(a.found, a.count);
    a.count = without_repeats(a.found, a.count);
    // What explains nothing is not a second reading.
    if (a.count > 1 && a.found[0].score > PLAUSIBLE + 10 &&
        a.found[0].strength != STRENGTH_POSSIBLE && !a.vague)
        a.count = without_harmless(a.found, a.count);
    if (a.count > max) a.count = max;
    memcpy(out, a.found, a.count * sizeof *out);
    return a.count;
}

enum counter_verdict counters_verdict(const struct counter_class *classes, size_t count) {
    if (!count) return VERDICT_PLAUSIBLE;
    bool plausible = false;
    for (size_t i = 1; i < count; i++) plausible |= classes[i].kind == COUNTER_PLAUSIBLE;
    switch (classes[0].kind) {
    case COUNTER_PLAUSIBLE:
        return count > 1 && classes[1].score > FOOTNOTE ? VERDICT_AMBIGUOUS : VERDICT_PLAUSIBLE;
    case COUNTER_SENTINEL:
        return VERDICT_SENTINEL;
    case COUNTER_OVERSIZED_REQUEST:
        return VERDICT_REQUEST;
    default:
        return plausible && classes[0].strength == STRENGTH_POSSIBLE ? VERDICT_AMBIGUOUS
                                                                     : VERDICT_IMPLAUSIBLE;
    }
}
