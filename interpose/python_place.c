// SPDX-License-Identifier: Apache-2.0
//
// What a frame says to a reader: file, qualified name, line.
//
// Read once a frame, when it is first seen, and while it stands: its code object, the strings and
// the line table of that live as long and never change.
#include "ledger.h"
#include "python_layout.h"
#include "stack_python.h"

// ---- text ------------------------------------------------------------------------------------

static uint32_t character(const struct mw_python_string *s, size_t i) {
    uint32_t wide;
    uint16_t half;
    switch (s->width) {
    case 1:
        return s->data[i];
    case 2:
        memcpy(&half, s->data + 2 * i, sizeof half);
        return half;
    default:
        memcpy(&wide, s->data + 4 * i, sizeof wide);
        return wide;
    }
}

// One character in UTF-8, of which at most 4 bytes are used; returns how many. What no text may
// hold, the lone surrogates that stand for undecodable bytes of a path and the terminator, becomes
// U+FFFD.
static unsigned utf8(uint32_t c, char *out) {
    if (c == 0 || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff) c = 0xfffd;
    unsigned more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const unsigned char lead[] = {0, 0xc0, 0xe0, 0xf0};
    out[0] = (char)(lead[more] | c >> 6 * more);
    for (unsigned i = 1; i <= more; i++) out[i] = (char)(0x80 | (c >> 6 * (more - i) & 0x3f));
    return more + 1;
}

unsigned mw_python_copy_text(const struct mw_python_layout *at, const char *string, char *out,
                             unsigned size) {
    struct mw_python_string s;
    unsigned used = 0;
    if (mw_python_string(at, string, &s)) {
        for (size_t i = 0; i < s.length; i++) {
            char bytes[4];
            unsigned n = utf8(character(&s, i), bytes);
            if (used + n >= size) break;
            for (unsigned j = 0; j < n; j++) out[used++] = bytes[j];
        }
    }
    out[used] = 0;
    return used;
}

// ---- lines -----------------------------------------------------------------------------------

struct line_table {
    const unsigned char *at, *end;
};

static struct line_table line_table(const struct mw_python_layout *at, const char *code) {
    const char *lines = mw_load(code, at->code_lines);
    const unsigned char *first = (const unsigned char *)lines + at->bytes_data;
    return (struct line_table){first, first + mw_load_long(lines, at->object_size)};
}

// 3.8 and 3.9, co_lnotab: pairs of how many bytes of code (unsigned) and lines (signed) further.
static int64_t line_by_steps(struct line_table table, int64_t line, int64_t instruction) {
    int64_t address = 0;
    for (; table.end - table.at >= 2; table.at += 2) {
        address += table.at[0];
        if (address > instruction) break;
        line += (int8_t)table.at[1];
    }
    return line;
}

// 3.10, co_linetable: pairs of how long a range is (unsigned) and how many lines further it lies
// (signed); -128: it belongs to no line.
static int64_t line_by_ranges(struct line_table table, int64_t line, int64_t instruction) {
    int64_t end = 0;
    if (instruction < 0) return line;
    for (; table.end - table.at >= 2; table.at += 2) {
        bool none = table.at[1] == 128;
        end += table.at[0];
        if (!none) line += (int8_t)table.at[1];
        if (instruction < end) return none ? 0 : line;
    }
    return 0;
}

// Six bits a byte, lowest first; the seventh says that there are more.
static uint32_t read_varint(struct line_table *table) {
    uint32_t value = 0;
    for (unsigned shift = 0; table->at < table->end && shift < 32; shift += 6) {
        unsigned byte = *table->at++;
        value |= (byte & 63) << shift;
        if (!(byte & 64)) break;
    }
    return value;
}

// 3.11 and later, co_linetable: entries led by a byte with the highest bit set, four bits of what
// kind it is and three for how many code units of two bytes it covers; then columns, and for some
// kinds the lines further (CPython's Objects/locations.md).
enum { ONE_LINE_0 = 10, ONE_LINE_2 = 12, NO_COLUMNS, LONG, NO_LINE };

static int64_t line_by_locations(struct line_table table, int64_t line, int64_t instruction) {
    int64_t end = 0;
    if (instruction < 0) return line;
    while (table.at < table.end) {
        unsigned lead = *table.at++, kind = lead >> 3 & 15;
        if (kind == NO_COLUMNS || kind == LONG) {
            uint32_t step = read_varint(&table); // the lowest bit is the sign
            line += step & 1 ? -(int64_t)(step >> 1) : (int64_t)(step >> 1);
        } else if (kind >= ONE_LINE_0 && kind <= ONE_LINE_2) {
            line += kind - ONE_LINE_0;
        }
        end += 2 * ((lead & 7) + 1);
        if (instruction < end) return kind == NO_LINE ? 0 : line;
        while (table.at < table.end && !(*table.at & 128)) table.at++;
    }
    return 0;
}

static uint32_t line_of(const struct mw_python_layout *at, const char *code,
                        uintptr_t instruction) {
    int64_t first = mw_load_int(code, at->code_first_line), where = (intptr_t)instruction;
    struct line_table table = line_table(at, code);
    int64_t line = at->minor < 10    ? line_by_steps(table, first, where)
                   : at->minor == 10 ? line_by_ranges(table, first, 2 * where)
                                     : line_by_locations(table, first, where);
    return line > 0 && line <= INT32_MAX ? (uint32_t)line : 0;
}

bool mw_python_describe(const struct mw_python_frame *frame, struct mw_python_place *place) {
    struct mw_interpreter *p = atomic_load_explicit(&mw_interpreter, memory_order_acquire);
    const char *code = (const char *)frame->code;
    if (!p || mw_load(code, p->at.object_type) != p->code_type) return false;
    const struct mw_python_layout *at = &p->at;
    uint16_t name = at->code_qualified_name == MW_ABSENT ? at->code_name : at->code_qualified_name;
    place->file_bytes =
        mw_python_copy_text(at, mw_load(code, at->code_file), place->file, sizeof place->file);
    place->name_bytes =
        mw_python_copy_text(at, mw_load(code, name), place->name, sizeof place->name);
    int32_t first = mw_load_int(code, at->code_first_line);
    place->first_line = first > 0 ? (uint32_t)first : 0;
    place->line = line_of(at, code, frame->instruction);
    return true;
}
