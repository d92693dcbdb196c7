// SPDX-License-Identifier: Apache-2.0
//
// Lines broken where Latin and Chinese text may break (paragraph.h).
#include "paragraph.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

// The code point at `s`, and its bytes. What is not UTF-8 is one byte of U+FFFD.
static uint32_t decode(const char *text, size_t *bytes) {
    const unsigned char *s = (const unsigned char *)text;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    uint32_t c = n == 1 ? s[0] : s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) n = 0; // also at the end of the text
        c = c << 6 | (s[i] & 0x3f);
    }
    *bytes = n ? n : 1;
    bool valid = n && c >= least[n] && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
    if (!valid) *bytes = 1;
    return valid ? c : 0xfffd;
}

// Two columns: CJK, kana, Hangul, fullwidth forms, emoji (Unicode's East Asian Width W and F, by
// blocks).
static bool is_wide(uint32_t c) {
    static const struct {
        uint32_t first, last;
    } blocks[] = {{0x1100, 0x115f},   {0x2e80, 0x303e},   {0x3041, 0xa4cf},  {0xac00, 0xd7a3},
                  {0xf900, 0xfaff},   {0xfe30, 0xfe4f},   {0xff00, 0xff60},  {0xffe0, 0xffe6},
                  {0x1f300, 0x1f64f}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd}};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        if (c >= blocks[i].first && c <= blocks[i].last) return true;
    return false;
}

// No line begins with these: 、。〉》」』】〕 and the fullwidth ！），．：；？
static bool must_not_begin(uint32_t c) {
    static const uint32_t marks[] = {0x3001, 0x3002, 0x3009, 0x300b, 0x300d, 0x300f, 0x3011, 0x3015,
                                     0xff01, 0xff09, 0xff0c, 0xff0e, 0xff1a, 0xff1b, 0xff1f};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (c == marks[i]) return true;
    return false;
}

// No line ends with these: 〈《「『【〔 and the fullwidth （, and opening quotes.
static bool must_not_end(uint32_t c) {
    static const uint32_t marks[] = {0x3008, 0x300a, 0x300c, 0x300e, 0x3010,
                                     0x3014, 0xff08, 0x2018, 0x201c};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (c == marks[i]) return true;
    return false;
}

// Not to be obeyed: C0, DEL, C1, and the marks that turn the direction of text.
static bool is_control(uint32_t c) {
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

size_t text_columns(const char *text) {
    size_t n = 0, bytes;
    for (; *text; text += bytes) n += is_wide(decode(text, &bytes)) ? 2 : 1;
    return n;
}

static void print_clean(FILE *out, const char *text, const char *end) {
    size_t bytes;
    for (; text < end; text += bytes) {
        uint32_t c = decode(text, &bytes);
        if (is_control(c))
            fputc('?', out);
        else if (c == 0xfffd)
            fputs("\xef\xbf\xbd", out);
        else
            fwrite(text, 1, bytes, out);
    }
}

// May a line break between these two, neither of which is a blank?
static bool may_part(uint32_t before, uint32_t c) {
    return (is_wide(before) || is_wide(c)) && !must_not_end(before) && !must_not_begin(c);
}

// Where the line that begins at `text` ends, and, in *next, where the following one begins.
static const char *line_end(const char *text, size_t room, const char **next) {
    const char *s = text, *end = NULL;
    size_t used = 0, bytes;
    uint32_t before = ' ';
    while (*s && *s != '\n') {
        uint32_t c = decode(s, &bytes);
        if (c == ' ' && before != ' ') {
            end = s;
            *next = s + 1;
        } else if (c != ' ' && before != ' ' && may_part(before, c)) {
            end = *next = s;
        }
        used += is_wide(c) ? 2 : 1;
        if (used > room && c != ' ') {
            if (!end) end = *next = s > text ? s : s + bytes; // a word longer than the line
            return end;
        }
        before = c;
        s += bytes;
    }
    *next = *s ? s + 1 : s;
    return s;
}

void print_paragraph(FILE *out, const char *label, size_t indent, const char *text) {
    size_t used = text_columns(label);
    const char *end;
    fputs(label, out);
    if (used > indent) {
        fputc('\n', out);
        used = 0;
    }
    do {
        const char *next;
        while (*text == ' ') text++;
        end = line_end(text, PARAGRAPH_COLUMNS - indent, &next);
        fprintf(out, "%*s", (int)(indent > used ? indent - used : 0), "");
        print_clean(out, text, end);
        fputc('\n', out);
        text = next;
        used = 0;
    } while (*text);
}
