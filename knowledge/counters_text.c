// SPDX-License-Identifier: Apache-2.0
//
// What the classifier found, in words (counters.h): the arithmetic with the digits that it
// reproduces, apart from that the guess at how the number came about, and what it is not. Each
// sentence stands here twice, in English and in Chinese, with the same arguments in the same order.
#include "counters.h"

#include "counters_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// ---- names ----------------------------------------------------------------------------------

static const struct {
    const char *id;
    const char *name[LANGUAGES];
} kinds[COUNTER_KINDS] = {
    [COUNTER_PLAUSIBLE] = {"plausible", {"plausible", "合理"}},
    [COUNTER_SENTINEL] = {"sentinel", {"sentinel, no amount", "哨兵值，不是数量"}},
    [COUNTER_UNDERFLOW] = {"unsigned_underflow", {"64-bit unsigned underflow", "64 位无符号下溢"}},
    [COUNTER_UNDERFLOW_IN_UNIT] = {"unsigned_underflow_in_unit",
                                   {"unsigned underflow of a counter in larger units or of 32 bits",
                                    "较大单位或 32 位计数器的无符号下溢"}},
    [COUNTER_WRAP] = {"wrap", {"upper bits lost", "高位丢失（回绕）"}},
    [COUNTER_NEGATIVE] = {"negative", {"negative number", "负数"}},
    [COUNTER_POINTER] = {"pointer_as_size", {"address taken for a size", "地址被当作大小"}},
    [COUNTER_MAGIC] = {"magic_as_size",
                       {"known bytes taken for a size", "已知的魔数字节被当作大小"}},
    [COUNTER_FLOATS] = {"floats_as_integer",
                        {"floating-point data taken for an integer", "浮点数据被当作整数"}},
    [COUNTER_TAG] = {"tagged_high_byte",
                     {"plausible number under a marked high byte", "最高字节带标记的合理数值"}},
    [COUNTER_FLAGS] = {"flag_bytes", {"flag bytes taken for an integer", "标志字节被当作整数"}},
    [COUNTER_UNIT_MIXUP] = {"unit_mixup", {"right number in a wrong unit", "数值正确但单位有误"}},
    [COUNTER_FLOAT_ROUNDING] = {"float_rounding",
                                {"rounded by a 24-bit float", "经 24 位尾数浮点舍入"}},
    [COUNTER_STALE_AFTER_FORK] = {"stale_after_fork",
                                  {"state of the parent process after fork",
                                   "fork 后残留的父进程状态"}},
    [COUNTER_WRAPPED_TO_ZERO] = {"wrapped_to_zero",
                                 {"size that rounding up turns into 0",
                                  "向上取整后回绕为 0 的大小"}},
    [COUNTER_EXCEEDS] = {"exceeds_total", {"more than there is", "超过总量"}},
    [COUNTER_OVERSIZED_REQUEST] = {"oversized_request",
                                   {"real request, too large", "真实但过大的请求"}},
    [COUNTER_UNEXPLAINED] = {"unexplained",
                             {"impossible, of no known pattern", "不可能成立，且无已知模式"}},
};

const char *counters_kind_id(enum counter_kind kind) {
    return (unsigned)kind < COUNTER_KINDS ? kinds[kind].id : "unexplained";
}

const char *counters_kind_name(enum counter_kind kind, enum language language) {
    if ((unsigned)kind >= COUNTER_KINDS) kind = COUNTER_UNEXPLAINED;
    return kinds[kind].name[language == LANGUAGE_ZH];
}

const char *counters_verdict_id(enum counter_verdict verdict) {
    static const char *const ids[] = {"plausible", "ambiguous", "sentinel", "oversized_request",
                                      "implausible"};
    return (unsigned)verdict < sizeof ids / sizeof ids[0] ? ids[verdict] : "plausible";
}

const char *counters_strength_id(enum counter_strength strength) {
    static const char *const ids[] = {"possible", "printed_digits", "exact"};
    return (unsigned)strength < sizeof ids / sizeof ids[0] ? ids[strength] : "possible";
}

static const char *role_name(enum counter_role role, enum language language) {
    static const char *const zh[] = {
        [ROLE_NONE] = "该数值",     [ROLE_REQUEST] = "请求", [ROLE_ALLOCATED] = "已分配",
        [ROLE_RESERVED] = "已保留", [ROLE_FREE] = "空闲",    [ROLE_TOTAL] = "总量",
        [ROLE_LIMIT] = "上限",      [ROLE_OTHER] = "其他",   [ROLE_USED] = "已用",
        [ROLE_COUNT] = "计数",
    };
    if ((unsigned)role > ROLE_COUNT) role = ROLE_NONE;
    if (language == LANGUAGE_ZH) return zh[role];
    return role == ROLE_NONE ? "the number" : counters_role_name(role);
}

// ---- sentences ------------------------------------------------------------------------------

struct sentence {
    const struct number *n;
    const struct counter_context *context;
    const struct counter_class *class;
    enum language language;
    char *out;
    size_t size, length;
    unsigned next; // of the buffers below
    char buffer[8][NUMBER_TEXT + 16];
};

__attribute__((format(printf, 2, 4), format(printf, 3, 4))) static void
say(struct sentence *s, const char *en, const char *zh, ...) {
    va_list arguments;
    va_start(arguments, zh);
    if (s->length < s->size) {
        int n = vsnprintf(s->out + s->length, s->size - s->length,
                          s->language == LANGUAGE_ZH ? zh : en, arguments);
        if (n > 0) s->length += (size_t)n;
    }
    va_end(arguments);
}

// A text that lives until eight further ones were made: enough for one say().
static char *buffer(struct sentence *s) {
    return s->buffer[s->next++ % 8];
}

static const char *hex(struct sentence *s, number_wide value) {
    char *out = buffer(s);
    if (value >> 64)
        snprintf(out, sizeof s->buffer[0], "0x%" PRIX64 "%016" PRIX64, (uint64_t)(value >> 64),
                 (uint64_t)value);
    else
        snprintf(out, sizeof s->buffer[0], "0x%016" PRIX64, (uint64_t)value);
    return out;
}

static const char *decimal(struct sentence *s, number_wide value) {
    return number_text(value, 1, 0, buffer(s));
}

// For people: "51.20 MiB".
static const char *size(struct sentence *s, number_wide bytes) {
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 0;
    while (unit < 6 && bytes >> (10 * (unit + 1))) unit++;
    char *out = buffer(s);
    number_text(bytes, UINT64_C(1) << (10 * unit), unit ? 2 : 0, out);
    strcat(strcat(out, " "), names[unit]);
    return out;
}

static const char *unit_name(const struct sentence *s) {
    if (s->n->kind == NUMBER_PLAIN) return "B";
    return s->n->unit;
}

// In the number's own unit, with so many digits more than it was printed with.
static const char *in_unit(struct sentence *s, number_wide bytes, int more) {
    char *out = buffer(s);
    uint64_t unit = s->n->kind == NUMBER_PLAIN ? 1 : s->class->unit_bytes;
    int decimals = unit == 1 ? 0 : s->n->decimals + more;
    number_text(bytes, unit, decimals, out);
    strcat(strcat(out, " "), unit_name(s));
    return out;
}

// The digits as they were printed, sign and unit included.
static const char *printed(struct sentence *s) {
    const struct number *n = s->n;
    char *out = buffer(s), digits[NUMBER_TEXT];
    number_wide scale = 1;
    for (int i = 0; i < n->decimals && i < 18; i++) scale *= 10;
    number_text(n->digits / scale, 1, 0, digits);
    int length = snprintf(out, sizeof s->buffer[0], "%s%.40s", n->negative ? "−" : "", digits);
    if (n->decimals > 0)
        length += snprintf(out + length, sizeof s->buffer[0] - (size_t)length, ".%0*" PRIu64,
                           n->decimals, (uint64_t)(n->digits % scale));
    if (n->decimals < 0)
        length += snprintf(out + length, sizeof s->buffer[0] - (size_t)length, "e%d", -n->decimals);
    const char *gap = n->has_unit || n->kind == NUMBER_PERCENT ? " " : "";
    snprintf(out + length, sizeof s->buffer[0] - (size_t)length, "%s%s%s", gap, n->unit,
             n->kind == NUMBER_RATE ? "/s" : "");
    return out;
}

static const struct counter_sibling *sibling(const struct sentence *s, int i) {
    if (i < 0 || (size_t)i >= s->context->siblings_count) return NULL;
    return &s->context->siblings[i];
}

static number_wide amount(const struct counter_sibling *s) {
    return counters_middle(&s->number, s->number.unit_bytes);
}

// "1.49 GiB", as the sibling was printed.
static const char *as_printed(struct sentence *s, const struct number *n) {
    struct sentence other = {.n = n};
    char *out = buffer(s);
    snprintf(out, sizeof s->buffer[0], "%s", printed(&other));
    return out;
}

// Does `bytes` print with the number's digits?
static bool prints_so(const struct sentence *s, number_wide bytes) {
    number_wide low, high;
    number_range(s->n, s->class->unit_bytes, &low, &high);
    return bytes >= low && bytes <= high;
}

static void say_prints(struct sentence *s, number_wide bytes) {
    char digits[NUMBER_TEXT];
    if (s->n->kind != NUMBER_SIZE) return;
    // What 24 bits keep of it; the conversion rounds to nearest, as the program's own did.
    number_wide kept =
        s->class->as_float && bytes < TOP ? (number_wide)(float)(uint64_t)bytes : bytes;
    number_text(kept, s->class->unit_bytes, s->n->decimals, digits);
    if (!prints_so(s, kept))
        say(s, ", within the rounding of what was printed", "，在所显示数字的舍入范围内");
    else if (s->class->as_float)
        say(s, " → as a 24-bit float prints %s", " → 作为 24 位尾数的 float 显示为 %s", digits);
    else
        say(s, " → prints %s", " → 显示为 %s", digits);
}

// The number in hexadecimal, as far as its digits tell.
static void say_bits(struct sentence *s, number_wide low, number_wide high) {
    if (low == high)
        say(s, "%s = %s", "%s = %s", printed(s), hex(s, low));
    else if (s->n->decimals == 0)
        say(s, "%s = %s (or what rounds to it)", "%s = %s（或舍入后与之相等的数）", printed(s),
            hex(s, low + (high - low) / 2));
    else
        say(s, "%s is a number from %s to %s", "%s 是 %s 到 %s 之间的数", printed(s), hex(s, low),
            hex(s, high));
}

// ---- one kind each --------------------------------------------------------------------------

static void sentinel_fact(struct sentence *s) {
    const struct sentinel *entry = s->class->entry;
    if (entry->negative) {
        say(s, "%s is -1.", "%s 即 -1。", printed(s));
    } else if (s->n->kind == NUMBER_PLAIN && s->class->unit_bytes > 1) {
        unsigned shift = (unsigned)__builtin_ctzll(s->class->unit_bytes);
        static const char *const units[] = {
            [10] = "KiB", [12] = "pages of 4 KiB", [20] = "MiB", [30] = "GiB"};
        say(s, "Read as bytes, %s is %s. Read as %s, it is 2^64 bytes, as %s (%s) prints.",
            "按字节读，%s 是 %s；按 %s 读，它是 2^64 字节，即 %s（%s）的显示结果。", printed(s),
            size(s, s->n->wide_low), units[shift], entry->name, hex(s, entry->value));
    } else if (s->n->decimals == 0 &&
               (s->n->digits == entry->value || s->n->digits == entry->value + 1)) {
        say(s, "%s is %s = %s.", "%s 是 %s = %s。", printed(s), entry->name, hex(s, entry->value));
        if (s->n->digits != entry->value)
            say(s, " The one more is a double's rounding.", "多出的 1 来自 double 的舍入。");
    } else {
        const struct counter_sibling *added = sibling(s, s->class->sibling);
        say(s, "%s = %s bytes = %s", "%s = %s 字节 = %s", entry->name, hex(s, entry->value),
            in_unit(s, entry->value, 1));
        if (added)
            say(s, "; less %s (%s) it is %s", "；减去%s（%s）得 %s",
                role_name(added->role, s->language), as_printed(s, &added->number),
                in_unit(s, entry->value - amount(added), 1));
        number_wide value = added ? entry->value - amount(added) : entry->value;
        // Cut off, not rounded, it may print so all the same.
        if (prints_so(s, value) || added)
            say_prints(s, value);
        else if (s->n->kind == NUMBER_SIZE)
            say(s, ", cut off without rounding: %s", "，不舍入直接截断：%s", printed(s));
        say(s, ".", "。");
    }
}

static void sentinel_guess(struct sentence *s) {
    const struct sentinel *entry = s->class->entry;
    say(s, "Usual meaning: %s.", "常见含义：%s。", entry->meaning[s->language == LANGUAGE_ZH]);
}

static void sentinel_not(struct sentence *s) {
    say(s, "Not an amount of memory: nothing leaks, and nothing is used up.",
        "不是内存数量：既没有泄漏，也没有被占用。");
    if (s->n->has_unit && s->class->value == TOP - 1)
        say(s, " Nor is it %s of hidden cost.", "也不是 %s 的隐性开销。", "16 GiB");
}

static void underflow_fact(struct sentence *s) {
    const struct counter_class *c = s->class;
    const struct counter_sibling *b = sibling(s, c->sibling), *a = sibling(s, c->sibling2);
    if (b && b->number.negative) {
        say(s, "The same text says %s; 2^64 bytes − %s = %s",
            "同一文本中写有 %s；2^64 字节 − %s = %s", as_printed(s, &b->number),
            size(s, c->deficit), in_unit(s, TOP - c->deficit, 1));
        say_prints(s, TOP - c->deficit);
        say(s, ".", "。");
    } else if (b) {
        say(s, "%s − %s = %s − %s = −%s; in 64 unsigned bits this is 2^64 bytes − %s = %s",
            "%s − %s = %s − %s = −%s；以 64 位无符号数表示即 2^64 字节 − %s = %s",
            a ? role_name(a->role, s->language) : "0", role_name(b->role, s->language),
            a ? as_printed(s, &a->number) : "0", as_printed(s, &b->number), size(s, c->deficit),
            size(s, c->deficit), in_unit(s, TOP - c->deficit, 1));
        say_prints(s, TOP - c->deficit);
        say(s, ".", "。");
    } else if (prints_so(s, TOP - 1) && s->n->wide_low != s->n->wide_high) {
        say(s,
            "Up to 2^64 bytes the digits are the same: a difference of −1 B to −%s prints so, too.",
            "直到 2^64 字节为止显示的数字都相同：−1 B 到 −%s 的差也会这样显示。",
            size(s, c->deficit));
    } else {
        number_wide half = (s->n->wide_high - s->n->wide_low) / 2;
        say(s, "2^64 bytes − %s = %s", "2^64 字节 − %s = %s", printed(s), size(s, c->deficit));
        if (half) say(s, " (±%s)", "（±%s）", size(s, half));
        say(s, ": in 64 unsigned bits what −%s is with a sign.",
            "：带符号时就是 −%s 的 64 位无符号形式。", size(s, c->deficit));
    }
}

static void underflow_guess(struct sentence *s) {
    switch (s->context->role) {
    case ROLE_REQUEST:
        say(s,
            "A size was computed below zero, such as a workspace size from a failed query or a "
            "shape with a negative dimension.",
            "某个大小被算成了负数，例如查询失败时的工作区大小，或含负维度的形状。");
        break;
    case ROLE_FREE:
        say(s,
            "Free was computed as limit less usage, without a clamp, while usage was the larger.",
            "空闲量按“上限减用量”计算且未做下限处理，而当时用量更大。");
        break;
    default:
        say(s,
            "More was subtracted than there was: two counters read at different times or over "
            "different scopes, or something taken out of the books twice.",
            "减去的比已有的多：两个计数器的读取时刻或统计范围不同，或同一项被重复扣除。");
    }
}

static void in_unit_fact(struct sentence *s) {
    const struct counter_class *c = s->class;
    if (s->n->kind == NUMBER_PLAIN) {
        static const char *const units[] = {
            [10] = "KiB", [12] = "pages of 4 KiB", [20] = "MiB", [30] = "GiB"};
        say(s, "Read as bytes, %s is %s. Read as %s, it is 2^64 bytes − %s.",
            "按字节读，%s 是 %s；按 %s 读，它是 2^64 字节 − %s。", printed(s),
            size(s, s->n->wide_low), units[__builtin_ctzll(c->unit_bytes)], size(s, c->deficit));
    } else {
        say(s,
            "2^%u %s − %s = %s: in a counter of %u bits that counts in %s, what −%s is with a "
            "sign.",
            "2^%u %s − %s = %s：在 %u 位、以 %s 为单位的计数器中，带符号即 −%s。", c->bits,
            unit_name(s), printed(s), size(s, c->deficit), c->bits, unit_name(s),
            size(s, c->deficit));
    }
}

static void wrap_fact(struct sentence *s) {
    const struct counter_class *c = s->class;
    if (c->bits == 16)
        say(s, "%s is where a field of 16 bits ends (2^16 = 65536).",
            "%s 正是 16 位字段的上限（2^16 = 65536）。", printed(s));
    else if (s->n->negative)
        say(s, "The same 32 bits without a sign are 2^32 − %s = %s bytes = %s.",
            "相同的 32 位按无符号读是 2^32 − %s = %s 字节 = %s。", decimal(s, s->n->digits),
            decimal(s, c->value), size(s, c->value));
    else
        say(s, "The second source says %s; less %s × 2^32 bytes (%s) this is %s, as printed.",
            "另一来源给出 %s；减去 %s × 2^32 字节（%s）正是 %s，与显示一致。", size(s, c->value),
            decimal(s, c->deficit >> 32), size(s, c->deficit), printed(s));
}

static void wrap_guess(struct sentence *s) {
    if (s->class->bits == 16)
        say(s, "A driver's 16-bit field that is full or wrapped; the real figure is not in it.",
            "驱动的 16 位字段已满或回绕；真实数值不在其中。");
    else
        say(s, "Somewhere on its way the number was kept in 32 bits.",
            "该数值在传递途中曾以 32 位保存。");
}

static void negative_fact(struct sentence *s) {
    const struct counter_class *c = s->class;
    const struct counter_sibling *b = sibling(s, c->sibling), *a = sibling(s, c->sibling2);
    if (s->n->negative && a && b)
        say(s, "%s − %s = %s − %s = −%s.", "%s − %s = %s − %s = −%s。",
            role_name(a->role, s->language), role_name(b->role, s->language),
            as_printed(s, &a->number), as_printed(s, &b->number), size(s, c->deficit));
    else if (s->n->negative)
        say(s, "%s is below zero; in 64 unsigned bits it would be %s.",
            "%s 小于零；以 64 位无符号数表示为 %s。", printed(s), hex(s, TOP - s->n->wide_low));
    else if (s->context->at_least)
        say(s,
            "At least 2^60 bytes: %s. No memory is that large; a negative number that becomes an "
            "unsigned size is at least 2^63.",
            "至少 2^60 字节：%s。没有这么大的内存；负数转成无符号大小后至少是 2^63。",
            size(s, TWO_TO(60)));
    else
        say(s, "%s ≥ 2^63: with a sign, the same bits are −%s.",
            "%s ≥ 2^63：同样的位按有符号读是 −%s。", hex(s, c->value), size(s, c->deficit));
}

static void negative_guess(struct sentence *s) {
    switch (s->context->role) {
    case ROLE_REQUEST:
        say(s,
            "A negative or overflowed size reached the allocator: a wrong shape, a dimension of "
            "-1, a product in too few bits.",
            "负数或溢出的大小传到了分配器：形状错误、维度为 -1，或乘积的位数不足。");
        break;
    default:
        say(s,
            "A difference of two figures that were taken over different scopes or at different "
            "times, or a number kept in too few bits.",
            "统计范围或时刻不同的两个数值之差，或保存位数不足的数值。");
    }
}

static void pointer_fact(struct sentence *s) {
    const struct counter_class *c = s->class;
    const struct counter_sibling *from = sibling(s, c->sibling);
    const struct region *region = c->entry;
    number_wide low, high;
    number_range(s->n, c->unit_bytes, &low, &high);
    if (!region && from) {
        say(s,
            "It is %s less a tenth, once or more; that one (%s) lies among the addresses of stacks "
            "and libraries.",
            "它是 %s 逐次减去十分之一的结果；而后者（%s）位于栈与动态库的地址区。",
            as_printed(s, &from->number), hex(s, c->value));
        return;
    }
    say_bits(s, low, high);
    const char *mapping = NULL;
    for (size_t i = 0; !region && i < s->context->mappings_count; i++)
        if (c->value >= s->context->mappings[i].first && c->value < s->context->mappings[i].end)
            mapping = s->context->mappings[i].name;
    if (region)
        say(s, ", which lies among the addresses %s.", "，位于 %s。",
            region->name[s->language == LANGUAGE_ZH]);
    else
        say(s, ", which lies among the addresses of the process's own memory%s%s.",
            "，位于该进程自身内存的地址区%s%s。", mapping ? ": " : "", mapping ? mapping : "");
}

static void magic_fact(struct sentence *s) {
    const struct counter_class *c = s->class;
    const struct magic *m = c->entry;
    const struct counter_sibling *added = sibling(s, c->sibling);
    bool zh = s->language == LANGUAGE_ZH;
    if (added)
        say(s, "%s + %s = %s + %s, as if read from the device: ",
            "%s + %s = %s + %s，即从设备读到的值：", role_name(s->context->role, s->language),
            role_name(added->role, s->language), printed(s), as_printed(s, &added->number));
    say(s, "%s = %s bytes", "%s = %s 字节", hex(s, c->value), decimal(s, c->value));
    if (s->class->unit_bytes > 1) say(s, " = %s", " = %s", in_unit(s, c->value, 1));
    if (added) {
        number_wide rest = c->value - amount(added);
        say(s, "; %s − %s = %s", "；%s − %s = %s", in_unit(s, c->value, 1),
            as_printed(s, &added->number), in_unit(s, rest, 1));
        say_prints(s, rest);
    } else if (c->deficit) {
        say(s, ", which is %s more than %s", "，比 %2$s 多 %1$s", size(s, c->deficit), printed(s));
    } else if (s->n->wide_low != s->n->wide_high) {
        say_prints(s, c->value);
    }
    say(s, ". In memory these bytes are %s.", "。这些字节在内存中的含义：%s。",
        m ? m->name[zh]
          : (zh ? "同一字节的重复（填充模式）" : "one byte repeated, a fill pattern"));
}

static void magic_guess(struct sentence *s) {
    const struct magic *m = s->class->entry;
    if (s->class->deficit && s->class->sibling < 0)
        say(s, "If %s was subtracted from it (\"other\" is a total less what is allocated): ",
            "如果从中减去了 %s（“其他”等于总量减已分配）：", size(s, s->class->deficit));
    if (m && m->mach_o)
        say(s,
            "Metal used after fork. The counter lies in a page that the driver shares with the "
            "process; a forked child does not inherit it and would read the header of whatever "
            "library was mapped there later. Not reproduced.",
            "fork 之后使用了 Metal。计数器位于驱动与进程共享的页面；fork "
            "出的子进程不继承该页面，读到的会是之后映射到该处的动态库的文件头。尚未复现。");
    else if (m && m->header)
        say(s, "A counter read through a pointer that now leads to a mapped file.",
            "计数器经由某个指针读取，而该指针现在指向一个映射的文件。");
    else
        say(s, "A counter read from memory that was never set or already freed.",
            "计数器读自从未初始化或已释放的内存。");
    if (s->context->forked && m && m->mach_o)
        say(s, " This process is a fork of the one that set the GPU up.",
            "该进程正是由初始化 GPU 的进程 fork 出来的。");
}

static void magic_not(struct sentence *s) {
    say(s,
        "No overflow: a 32-bit counter ends at 4 GiB, and a 64-bit one that fell below zero would "
        "print about 17179869184 GiB. No leak either: nobody holds these bytes.",
        "不是溢出：32 位计数器到 4 GiB 为止，而 64 位计数器下溢会显示约 17179869184 "
        "GiB。也不是泄漏："
        "没有人占用这些字节。");
}

static void floats_fact(struct sentence *s) {
    uint64_t bits = (uint64_t)s->class->value;
    float high, low;
    double d;
    bool exact = s->n->wide_low == s->n->wide_high;
    const char *about = exact ? "=" : "≈";
    if (s->class->bits == 32 && counters_two_floats(bits, &high, &low))
        say(s, "%s %s %s: as two floats %.7g (upper half) and %.7g (lower half).",
            "%s %s %s：按两个 float 读是 %.7g（高半）与 %.7g（低半）。", printed(s), about,
            hex(s, bits), (double)high, (double)low);
    else if (counters_one_double(bits, &d))
        say(s, "%s %s %s: as one double %.10g.", "%s %s %s：按一个 double 读是 %.10g。", printed(s),
            about, hex(s, bits), d);
}

static void tag_fact(struct sentence *s) {
    number_wide v = s->class->value, tag = v >> 56, rest = v & (TWO_TO(56) - 1);
    say(s, "%s ≈ %s: high byte %02X, below it %s.", "%s ≈ %s：最高字节为 %02X，其下是 %s。",
        printed(s), hex(s, v), (unsigned)tag, size(s, rest));
}

static void flags_fact(struct sentence *s) {
    unsigned upper = (unsigned)(s->class->value >> 32);
    say(s, "%s ≈ %s: its upper bytes are %02X %02X %02X %02X, each 0 or 1.",
        "%s ≈ %s：其高位字节为 %02X %02X %02X %02X，均为 0 或 1。", printed(s),
        hex(s, s->class->value), upper >> 24, upper >> 16 & 0xff, upper >> 8 & 0xff, upper & 0xff);
}

static void unit_fact(struct sentence *s) {
    say(s, "A known total is %s; %s is that, off by a factor of %s.",
        "已知总量为 %s；%s 与它恰好相差 %s 倍。", size(s, s->class->value), printed(s),
        decimal(s, s->class->deficit));
}

static void rounding_fact(struct sentence *s) {
    int exponent = counters_top_bit(counters_middle(s->n, s->n->unit_bytes));
    if (exponent < 24) return; // the classifier finds none there
    say(s,
        "%s is a number of 24 significant bits; there, floats lie %s apart, so the digits after "
        "the "
        "point say nothing.",
        "%s 只有 24 个有效位；在此量级 float 的间距是 %s，小数部分没有意义。", printed(s),
        size(s, TWO_TO(exponent - 23)));
}

static void zero_fact(struct sentence *s) {
    number_wide v = s->n->wide_low;
    unsigned step = TOP - v < 512 ? 512 : 4096;
    say(s, "%s = 2^64 − %s: rounded up to a multiple of %u it is 2^64, which 64 bits keep as 0.",
        "%s = 2^64 − %s：向上取整到 %u 的倍数得 2^64，在 64 位中变为 0。", hex(s, v),
        decimal(s, TOP - v), step);
}

static void excess_fact(struct sentence *s) {
    if (s->n->kind == NUMBER_PERCENT) {
        say(s, "%s is more than all.", "%s 超过了全部。", printed(s));
        return;
    }
    number_wide total = s->context->device_bytes;
    for (size_t i = 0; i < s->context->siblings_count && !total; i++)
        if (s->context->siblings[i].role == ROLE_TOTAL) total = amount(&s->context->siblings[i]);
    if (s->context->role == ROLE_NONE)
        say(s, "%s is more than the device has (%s).", "%s 超过了设备的容量（%s）。", printed(s),
            size(s, total));
    else
        say(s, "%s %s is more than the device has (%s).", "%s %s 超过了设备的容量（%s）。",
            role_name(s->context->role, s->language), printed(s), size(s, total));
}

static void excess_guess(struct sentence *s) {
    if (s->context->role == ROLE_FREE)
        say(s, "Free and total are of different devices or sources, or one of them is made up.",
            "空闲量与总量来自不同设备或来源，或其中之一是伪造的。");
    else if (s->context->role == ROLE_NONE)
        say(s,
            "If it is what the device holds, it is wrong or of another device; as a request, or "
            "where the driver moves allocations to system memory (Windows), it can be true.",
            "若它表示设备上的占用量，则数值有误或属于另一设备；若是请求量，或在驱动会把分配移到系统"
            "内存的平台（Windows）上，它可能是真的。");
    else
        say(s,
            "The same memory was counted twice (framebuffer plus BAR1), the two figures have "
            "different scopes, or a structure of another version was read. Where the driver moves "
            "allocations to system memory (Windows), it can be true.",
            "同一内存被计了两次（显存加 BAR1）、两个数值的统计范围不同，或读取了其他版本的结构体。"
            "在驱动会把分配移到系统内存的平台（Windows）上，它可能是真的。");
}

static void request_fact(struct sentence *s) {
    say(s, "A request of %s", "请求了 %s", size(s, s->class->value));
    number_wide total = s->context->device_bytes;
    for (size_t i = 0; i < s->context->siblings_count && !total; i++)
        if (s->context->siblings[i].role == ROLE_TOTAL) total = amount(&s->context->siblings[i]);
    if (total)
        say(s, ", %s times what the device has (%s)", "，是设备容量（%2$s）的 %1$s 倍",
            decimal(s, s->class->value / total), size(s, total));
    say(s, ".", "。");
}

static void unexplained_fact(struct sentence *s) {
    number_wide low, high;
    number_range(s->n, s->class->unit_bytes, &low, &high);
    if (low >= TOP)
        say(s, "%s is more than 64 bits can hold (%s): no counter of bytes.",
            "%s 超出 64 位所能表示的范围（%s），不是字节计数器。", printed(s), "16 EiB");
    else
        say_bits(s, low, high);
    if (low < TOP)
        say(s, "; no machine has that much memory, and it fits no known pattern.",
            "；没有机器有这么多内存，也不符合任何已知模式。");
}

static void plausible_fact(struct sentence *s) {
    const struct number *n = s->n;
    if (n->kind == NUMBER_PLAIN && n->decimals <= 0 && !n->negative && n->wide_low < TOP)
        say(s, "%s = %s; in bytes %s.", "%s = %s；按字节计为 %s。", printed(s), hex(s, n->wide_low),
            size(s, n->wide_low));
    else if (n->kind == NUMBER_SIZE && n->wide_low == n->wide_high)
        say(s, "%s = %s.", "%s = %s。", printed(s), size(s, n->wide_low));
    else if (n->kind == NUMBER_SIZE)
        say(s, "%s is a number of bytes from %s to %s.", "%s 是 %s 到 %s 之间的字节数。",
            printed(s), decimal(s, n->wide_low), decimal(s, n->wide_high));
    else
        say(s, "%s.", "%s。", printed(s));
}

// Guesses that need no arguments.
#define GUESS(name, en, zh)                                                                        \
    static void name(struct sentence *s) {                                                         \
        say(s, "%s", "%s", s->language == LANGUAGE_ZH ? zh : en);                                  \
    }

GUESS(
    pointer_guess,
    "A variable that was never set, such as the result of a query or kernel that failed, kept what "
    "the stack had held before. After \"no kernel image\": rebuild for the device's architecture.",
    "从未被赋值的变量（如失败的查询或内核的结果）残留了栈上原有的内容。若先出现“no kernel "
    "image”：请按设备架构重新编译。")
GUESS(floats_guess, "Memory that holds floating-point data was read as a size.",
      "存放浮点数据的内存被当作大小读取。")
GUESS(tag_guess,
      "The high byte of an otherwise right number is marked: a tagged pointer's habit, or a struct "
      "member read together with its neighbour.",
      "其余部分正常而最高字节被标记：带标记指针的做法，或结构体成员与相邻成员被一起读取。")
GUESS(flags_guess, "Several small members of a struct were read as one size.",
      "结构体中的若干小成员被当作一个大小读取。")
GUESS(unit_guess, "Printed in a unit that it was not converted to.", "数值未换算就按另一单位显示。")
GUESS(rounding_guess,
      "It went through a 24-bit float before it was printed, as in PyTorch up to 2.6 on MPS; other "
      "values around it print the same.",
      "显示前经过了 24 位尾数的 float（如 2.6 及以前的 PyTorch MPS）；附近的其他值显示相同。")
GUESS(stale_fact, "The process that printed it is a fork of the one that had set the GPU up.",
      "打印该数值的进程是初始化 GPU 的进程 fork 出来的。")
GUESS(
    stale_guess,
    "Handles and shared pages of the GPU do not survive a fork: what the child reads there belongs "
    "to the parent or to nobody. Start workers with spawn.",
    "GPU 的句柄与共享页面不能跨 fork 存续：子进程读到的内容属于父进程或无效。请用 spawn "
    "启动子进程。")
GUESS(zero_guess,
      "A negative size or an overflowed product. An allocator that does not check returns an empty "
      "block, and two live blocks may share one address.",
      "负的大小或溢出的乘积。不做检查的分配器会返回空块，可能有两个有效块共用同一地址。")
GUESS(
    request_guess,
    "The size was computed from a wrong shape or a far too long input; the number itself is right.",
    "该大小由错误的形状或过长的输入算得；数值本身没有问题。")
GUESS(unexplained_guess, "A value that was never set, or memory of another kind read as a size.",
      "从未赋值的变量，或其他内容的内存被当作大小读取。")
GUESS(corrupt_not, "Not a leak: nobody holds that much memory.", "不是泄漏：没有人占用这么多内存。")
GUESS(request_not, "Not a corrupt counter.", "不是计数器损坏。")

static const struct {
    void (*say[3])(struct sentence *); // in the order of enum counter_text
} sentences[COUNTER_KINDS] = {
    [COUNTER_PLAUSIBLE] = {{plausible_fact, NULL, NULL}},
    [COUNTER_SENTINEL] = {{sentinel_fact, sentinel_guess, sentinel_not}},
    [COUNTER_UNDERFLOW] = {{underflow_fact, underflow_guess, corrupt_not}},
    [COUNTER_UNDERFLOW_IN_UNIT] = {{in_unit_fact, underflow_guess, corrupt_not}},
    [COUNTER_WRAP] = {{wrap_fact, wrap_guess, NULL}},
    [COUNTER_NEGATIVE] = {{negative_fact, negative_guess, NULL}},
    [COUNTER_POINTER] = {{pointer_fact, pointer_guess, corrupt_not}},
    [COUNTER_MAGIC] = {{magic_fact, magic_guess, magic_not}},
    [COUNTER_FLOATS] = {{floats_fact, floats_guess, corrupt_not}},
    [COUNTER_TAG] = {{tag_fact, tag_guess, corrupt_not}},
    [COUNTER_FLAGS] = {{flags_fact, flags_guess, corrupt_not}},
    [COUNTER_UNIT_MIXUP] = {{unit_fact, unit_guess, corrupt_not}},
    [COUNTER_FLOAT_ROUNDING] = {{rounding_fact, rounding_guess, NULL}},
    [COUNTER_STALE_AFTER_FORK] = {{stale_fact, stale_guess, NULL}},
    [COUNTER_WRAPPED_TO_ZERO] = {{zero_fact, zero_guess, NULL}},
    [COUNTER_EXCEEDS] = {{excess_fact, excess_guess, NULL}},
    [COUNTER_OVERSIZED_REQUEST] = {{request_fact, request_guess, request_not}},
    [COUNTER_UNEXPLAINED] = {{unexplained_fact, unexplained_guess, corrupt_not}},
};

const char *counters_text(const struct number *n, const struct counter_context *context,
                          const struct counter_class *class, enum counter_text which,
                          enum language language, char *out, size_t size) {
    struct sentence s = {
        .n = n, .context = context, .class = class, .language = language, .out = out, .size = size};
    if (!size) return out;
    *out = '\0';
    if ((unsigned)class->kind < COUNTER_KINDS && (unsigned)which < 3 &&
        sentences[class->kind].say[which])
        sentences[class->kind].say[which](&s);
    if (which == TEXT_FACT && class->unit_bytes == n->other_bytes && s.length)
        say(&s, " (%s taken as %s bytes.)", "（%s 按 %s 字节计。）", n->unit,
            decimal(&s, class->unit_bytes));
    if (s.length >= size) {
        // Cut: not within a character.
        size_t end = size - 1;
        while (end && ((unsigned char)out[end - 1] & 0xc0) == 0x80) end--;
        if (end && (unsigned char)out[end - 1] >= 0xc0) end--;
        out[end] = '\0';
    }
    return out;
}
