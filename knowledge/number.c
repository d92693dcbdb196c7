// SPDX-License-Identifier: Apache-2.0
//
// Numbers in text (number.h). Decimal digits are kept as an integer of 128 bits and a power of ten,
// so that the range of byte values behind "67108914.49 GiB" is exact; a double has too few bits.
#include "number.h"

#include <stdio.h>
#include <string.h>

// Beyond this everything is equally absurd, and two such numbers can still be added.
#define WIDE_MOST ((number_wide)1 << 120)

#define MOST_DIGITS   30 // whose integer fits well; further ones before the point saturate
#define MOST_DECIMALS 18 // further ones are cut
#define MOST_EXPONENT 60

#define TWO(power) (UINT64_C(1) << (power))
#define TEN(power) ((uint64_t)1e##power) // exact: doubles hold 10^22

// Names are compared without case, but for single letters: "500m" is no amount of memory. Those
// that are not `apart` must follow the number immediately. `other` is the decimal reading.
static const struct unit {
    const char *name;
    uint64_t bytes, other;
    bool apart;
} units[] = {
    {"bytes", 1, 0, true},
    {"byte", 1, 0, true},
    {"pages", TWO(12), 0, true},
    {"page", TWO(12), 0, true},
    {"KiB", TWO(10), 0, true},
    {"MiB", TWO(20), 0, true},
    {"GiB", TWO(30), 0, true},
    {"TiB", TWO(40), 0, true},
    {"PiB", TWO(50), 0, true},
    {"EiB", TWO(60), 0, true},
    {"KB", TWO(10), TEN(3), true},
    {"MB", TWO(20), TEN(6), true},
    {"GB", TWO(30), TEN(9), true},
    {"TB", TWO(40), TEN(12), true},
    {"PB", TWO(50), TEN(15), true},
    {"EB", TWO(60), TEN(18), true},
    {"Ki", TWO(10), 0, false},
    {"Mi", TWO(20), 0, false},
    {"Gi", TWO(30), 0, false},
    {"Ti", TWO(40), 0, false},
    {"Pi", TWO(50), 0, false},
    {"Ei", TWO(60), 0, false},
    {"B", 1, 0, true},
    {"b", 1, 0, true},
    {"K", TWO(10), TEN(3), false},
    {"k", TWO(10), TEN(3), false},
    {"M", TWO(20), TEN(6), true},
    {"G", TWO(30), TEN(9), true},
    {"T", TWO(40), TEN(12), true},
};
#define UNITS (sizeof units / sizeof units[0])

// Of ASCII, whatever the locale says.
static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool is_word(char c) {
    return is_digit(c) || c == '_' || (lower(c) >= 'a' && lower(c) <= 'z');
}

static int hex_value(char c) {
    if (is_digit(c)) return c - '0';
    return lower(c) >= 'a' && lower(c) <= 'f' ? lower(c) - 'a' + 10 : -1;
}

// The text being read. At its end there are only NUL bytes.
struct cursor {
    const char *text;
    size_t length, at;
};

static char peek(const struct cursor *c, size_t ahead) {
    return ahead < c->length - c->at ? c->text[c->at + ahead] : '\0';
}

// ---- arithmetic -----------------------------------------------------------------------------

static number_wide power_of_ten(int n) {
    number_wide power = 1;
    while (n-- > 0) power *= 10;
    return power;
}

static number_wide times(number_wide a, number_wide b) {
    number_wide product;
    return __builtin_mul_overflow(a, b, &product) || product > WIDE_MOST ? WIDE_MOST : product;
}

// Bytes and pages are printed as they are, not rounded.
static bool is_exact(const struct number *n, uint64_t unit_bytes) {
    return n->decimals == 0 && (unit_bytes == 1 || unit_bytes == TWO(12));
}

void number_range(const struct number *n, uint64_t unit_bytes, number_wide *low,
                  number_wide *high) {
    if (n->digits >= WIDE_MOST) {
        *low = *high = WIDE_MOST;
    } else if (is_exact(n, unit_bytes)) {
        *low = *high = times(n->digits, unit_bytes);
    } else if (n->decimals <= 0) {
        // Half of the last digit's unit to either side; all factors are even or one is 1.
        number_wide step = times(power_of_ten(-n->decimals), unit_bytes);
        number_wide middle = times(n->digits, step);
        *low = middle < step / 2 ? 0 : middle - step / 2;
        *high = middle >= WIDE_MOST ? WIDE_MOST : middle + step / 2;
    } else {
        // (2 digits ± 1) unit / (2 10^decimals), rounded inwards. Before it would overflow, digits
        // that no longer matter are dropped.
        number_wide digits = n->digits;
        int decimals = n->decimals;
        while (decimals > 0 && times(2 * digits + 1, unit_bytes) == WIDE_MOST)
            digits /= 10, decimals--;
        number_wide scale = 2 * power_of_ten(decimals);
        *low = digits ? times(2 * digits - 1, unit_bytes) : 0;
        *low = *low / scale + (*low % scale != 0);
        *high = times(2 * digits + 1, unit_bytes) / scale;
        if (*high < *low) *high = *low; // finer than bytes
    }
}

uint64_t number_bytes(const struct number *n) {
    number_wide bytes = times(n->digits, n->unit_bytes), scale = power_of_ten(n->decimals);
    if (n->decimals < 0) bytes = times(bytes, power_of_ten(-n->decimals));
    // Where not all digits can be multiplied the range is fine enough.
    if (bytes >= WIDE_MOST / 2)
        bytes = n->wide_low + (n->wide_high - n->wide_low) / 2;
    else
        bytes = (bytes + scale / 2) / scale;
    return bytes > UINT64_MAX ? UINT64_MAX : (uint64_t)bytes;
}

const char *number_text(number_wide bytes, uint64_t unit_bytes, int decimals,
                        char out[NUMBER_TEXT]) {
    if (decimals < 0) decimals = 0;
    if (decimals > 9) decimals = 9;
    if (bytes > WIDE_MOST) bytes = WIDE_MOST;
    if (!unit_bytes) unit_bytes = 1;
    number_wide scale = power_of_ten(decimals), whole = bytes / unit_bytes;
    number_wide scaled = bytes % unit_bytes * scale;
    number_wide fraction = scaled / unit_bytes, rest = scaled % unit_bytes;
    // A tie goes to the even digit.
    if (2 * rest > unit_bytes || (2 * rest == unit_bytes && fraction % 2)) fraction++;
    whole += fraction / scale;
    fraction %= scale;
    char digits[40];
    size_t first = sizeof digits;
    do digits[--first] = (char)('0' + (int)(whole % 10));
    while (whole /= 10);
    int n = snprintf(out, NUMBER_TEXT, "%.*s", (int)(sizeof digits - first), digits + first);
    if (decimals)
        snprintf(out + n, NUMBER_TEXT - (size_t)n, ".%0*llu", decimals,
                 (unsigned long long)fraction);
    return out;
}

// ---- reading --------------------------------------------------------------------------------

// Digits, in groups of three if parted by commas. *digits saturates at WIDE_MOST.
static void read_integer(struct cursor *c, number_wide *digits) {
    size_t count = 0;
    for (bool grouped = false;; grouped = true) {
        size_t from = c->at;
        for (; is_digit(peek(c, 0)); c->at++) {
            if (*digits || peek(c, 0) != '0') count++;
            *digits =
                count > MOST_DIGITS ? WIDE_MOST : *digits * 10 + (number_wide)(peek(c, 0) - '0');
        }
        size_t length = c->at - from;
        bool group = peek(c, 0) == ',' && is_digit(peek(c, 1)) && is_digit(peek(c, 2)) &&
                     is_digit(peek(c, 3)) && !is_digit(peek(c, 4));
        if (!group || (grouped ? length != 3 : length > 3)) return;
        c->at++;
    }
}

static void read_fraction(struct cursor *c, struct number *n) {
    if (peek(c, 0) != '.' || !is_digit(peek(c, 1))) return;
    for (c->at++; is_digit(peek(c, 0)); c->at++) {
        if (n->decimals == MOST_DECIMALS || n->digits >= power_of_ten(MOST_DIGITS)) continue;
        n->digits = n->digits * 10 + (number_wide)(peek(c, 0) - '0');
        n->decimals++;
    }
}

static void read_exponent(struct cursor *c, struct number *n) {
    size_t sign = peek(c, 1) == '+' || peek(c, 1) == '-';
    if (lower(peek(c, 0)) != 'e' || !is_digit(peek(c, 1 + sign))) return;
    bool negative = peek(c, 1) == '-';
    int exponent = 0;
    for (c->at += 1 + sign; is_digit(peek(c, 0)); c->at++)
        if (exponent < 1000) exponent = exponent * 10 + (peek(c, 0) - '0');
    n->decimals += negative ? exponent : -exponent;
    if (n->decimals < -MOST_EXPONENT && n->digits) n->digits = WIDE_MOST;
    if (n->decimals < 0 && n->digits >= power_of_ten(MOST_DIGITS)) n->digits = WIDE_MOST;
    if (n->decimals < -MOST_DIGITS) n->decimals = -MOST_DIGITS;
    for (; n->decimals > MOST_DECIMALS; n->decimals--) n->digits /= 10;
}

static bool read_hexadecimal(struct cursor *c, struct number *n) {
    if (peek(c, 0) != '0' || lower(peek(c, 1)) != 'x' || hex_value(peek(c, 2)) < 0) return false;
    for (c->at += 2; hex_value(peek(c, 0)) >= 0; c->at++)
        n->digits =
            n->digits >> 112 ? WIDE_MOST : n->digits << 4 | (number_wide)hex_value(peek(c, 0));
    n->hexadecimal = true;
    return true;
}

static bool begins_with(const struct cursor *c, size_t ahead, const char *name) {
    size_t length = strlen(name);
    for (size_t i = 0; i < length; i++) {
        char there = peek(c, ahead + i);
        if (length == 1 ? there != name[i] : lower(there) != lower(name[i])) return false;
    }
    return !is_word(peek(c, ahead + length));
}

static void read_unit(struct cursor *c, struct number *n) {
    size_t blanks = 0;
    while (blanks < 3 && strchr(" \t\n", peek(c, blanks)) && peek(c, blanks)) blanks++;
    if (blanks == 3) return;
    if (peek(c, blanks) == '%' && !n->hexadecimal) {
        c->at += blanks + 1;
        n->kind = NUMBER_PERCENT;
        strcpy(n->unit, "%");
        return;
    }
    for (const struct unit *u = units; u < units + UNITS; u++) {
        size_t length = strlen(u->name);
        if (!begins_with(c, blanks, u->name)) continue;
        // "GPU 0\nM": letters of the next line are no unit, words are.
        if (blanks && (!u->apart || (length == 1 && memchr(c->text + c->at, '\n', blanks)))) return;
        memcpy(n->unit, c->text + c->at + blanks, length);
        n->unit_bytes = u->bytes;
        n->other_bytes = u->other;
        n->binary = !u->other;
        c->at += blanks + length;
        bool rate = begins_with(c, 0, "/s") || begins_with(c, 0, "/sec");
        if (rate) c->at += begins_with(c, 0, "/s") ? 2 : 4;
        n->kind = rate ? NUMBER_RATE : NUMBER_SIZE;
        n->has_unit = true;
        return;
    }
}

static void read_sign(struct cursor *c, struct number *n) {
    static const char minus[] = "\xe2\x88\x92"; // U+2212
    if (peek(c, 0) == '-' || peek(c, 0) == '+') {
        n->negative = peek(c, 0) == '-';
        c->at++;
    } else if (c->length - c->at > 3 && memcmp(c->text + c->at, minus, 3) == 0) {
        n->negative = true;
        c->at += 3;
    }
}

size_t number_parse(const char *text, size_t length, struct number *out) {
    struct cursor c = {text, length, 0};
    struct number n = {.unit_bytes = 1, .binary = true};
    read_sign(&c, &n);
    if (!is_digit(peek(&c, 0))) return 0;
    if (!read_hexadecimal(&c, &n)) {
        read_integer(&c, &n.digits);
        n.integer = n.digits > UINT64_MAX ? UINT64_MAX : (uint64_t)n.digits;
        read_fraction(&c, &n);
        read_exponent(&c, &n);
    } else {
        n.integer = n.digits > UINT64_MAX ? UINT64_MAX : (uint64_t)n.digits;
    }
    read_unit(&c, &n);

    double scale = 1;
    for (int i = n.decimals; i; i += i < 0 ? 1 : -1) scale *= 10;
    n.value = n.decimals < 0 ? (double)n.digits * scale : (double)n.digits / scale;
    if (n.negative) n.value = -n.value;
    number_range(&n, n.unit_bytes, &n.wide_low, &n.wide_high);
    n.low = n.wide_low > UINT64_MAX ? UINT64_MAX : (uint64_t)n.wide_low;
    n.high = n.wide_high > UINT64_MAX ? UINT64_MAX : (uint64_t)n.wide_high;
    n.saturated = n.wide_high > UINT64_MAX;
    *out = n;
    return c.at;
}

// ---- finding --------------------------------------------------------------------------------

// Is the digit at `at` part of something else that ends there: a word, a version, a time, a date?
// A minus before it is looked at by the caller.
static bool continues(const char *text, size_t at) {
    if (!at) return false;
    char before = text[at - 1], further = at > 1 ? text[at - 2] : ' ';
    return is_word(before) || (before == '.' && is_word(further)) ||
           ((before == ':' || before == ',') && is_digit(further));
}

static bool goes_on(const struct cursor *c, const struct number *n) {
    char next = peek(c, 0);
    if (is_word(next)) return true;
    if (!is_digit(peek(c, 1))) return false;
    return next == '.' || (!n->has_unit && (next == ':' || next == '-'));
}

size_t number_find(const char *text, size_t length, size_t from, struct number *out,
                   size_t *taken) {
    struct cursor c = {text, length, from > length ? length : from};
    while (c.at < length) {
        if (!is_digit(text[c.at])) {
            c.at++;
            continue;
        }
        size_t begin = c.at, first = begin;
        bool dash = begin && text[begin - 1] == '-', joined = false;
        if (dash) {
            joined = begin > 1 && (is_word(text[begin - 2]) || text[begin - 2] == ')');
            if (!joined && begin > from) first--;
        } else if (begin >= from + 3 && memcmp(text + begin - 3, "\xe2\x88\x92", 3) == 0) {
            first -= 3;
        }
        struct number n;
        size_t read = continues(text, begin) ? 0 : number_parse(text + first, length - first, &n);
        if (read) {
            c.at = first + read;
            // "torch-2.9" is none, "4-8 GiB" is the second.
            if (!goes_on(&c, &n) && (!joined || n.has_unit)) {
                *out = n;
                *taken = read;
                return first;
            }
        }
        // Past the whole word, so that no tail of it is taken for a number.
        if (c.at == begin) c.at++;
        while (c.at < length &&
               (is_word(text[c.at]) || (text[c.at] == '.' && is_digit(peek(&c, 1)))))
            c.at++;
    }
    *taken = 0;
    return length;
}
