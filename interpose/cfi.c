// SPDX-License-Identifier: Apache-2.0
//
// Call frame information, as described by DWARF 5 (section 6.4), the System V ABI supplements of
// x86-64 and AArch64 (register numbers) and the Linux Standard Base (.eh_frame, .eh_frame_hdr).
//
// Only three registers are followed, the frame pointer, the stack pointer and the return address:
// they are enough to find the callers, and what they need fits in a few numbers that hold for an
// address as long as its object is loaded, so that it is read once and then remembered
// (stack_native.c). Of DWARF's expressions two shapes are understood, "a register + n" and "the
// word at a register + n". Compilers use those for functions that realign their stack, and the C
// library for the frame of a signal handler.
//
// The tables come from files that somebody built: no length or offset in them is trusted to stay
// within the object.
#include "cfi.h"

#include <stddef.h>

#if defined(__x86_64__)
enum { FP = 6, SP = 7 };
#elif defined(__aarch64__)
enum { FP = 29, SP = 31 };
#endif

// ---- reading ---------------------------------------------------------------------------------

struct reader {
    const uint8_t *at, *end;
    bool bad; // read beyond the end, or something unknown
};

static uint64_t read_fixed(struct reader *r, size_t bytes) {
    uint64_t value = 0;
    if ((size_t)(r->end - r->at) < bytes) {
        r->bad = true;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)r->at[i] << 8 * i; // both are little-endian
    r->at += bytes;
    return value;
}

static uint64_t read_leb(struct reader *r, bool has_sign) {
    uint64_t value = 0;
    for (unsigned shift = 0; r->at < r->end; shift += 7) {
        uint8_t byte = *r->at++;
        if (shift < 64) value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte & 0x80) continue;
        if (has_sign && byte & 0x40 && shift + 7 < 64) value |= ~UINT64_C(0) << (shift + 7);
        return value;
    }
    r->bad = true;
    return 0;
}

static uint64_t read_unsigned(struct reader *r) {
    return read_leb(r, false);
}

static int64_t read_signed(struct reader *r) {
    return (int64_t)read_leb(r, true);
}

static void skip(struct reader *r, uint64_t bytes) {
    if ((uint64_t)(r->end - r->at) < bytes)
        r->bad = true;
    else
        r->at += bytes;
}

// The part of an object from an address on.
static struct reader read_from(const struct mw_cfi_object *object, uintptr_t at) {
    if (at < object->start || at >= object->end) return (struct reader){.bad = true};
    return (struct reader){(const uint8_t *)at, (const uint8_t *)object->end, false};
}

// Pointers: how they are written in the low four bits, what is added in the next three.
enum { ABSOLUTE = 0, DATA2 = 2, DATA4 = 3, DATA8 = 4, SIGNED = 8, FORMAT = 0x0f };
enum { FROM_HERE = 0x10, FROM_HEADER = 0x30, NO_POINTER = 0xff };

static uint64_t read_pointer(struct reader *r, uint8_t encoding, uintptr_t header) {
    uintptr_t here = (uintptr_t)r->at;
    uint64_t value;
    switch (encoding & FORMAT) {
    case ABSOLUTE:
    case DATA8:
    case DATA8 | SIGNED:
        value = read_fixed(r, 8);
        break;
    case DATA4:
        value = read_fixed(r, 4);
        break;
    case DATA4 | SIGNED:
        value = (uint64_t)(int32_t)read_fixed(r, 4);
        break;
    case DATA2:
        value = read_fixed(r, 2);
        break;
    case DATA2 | SIGNED:
        value = (uint64_t)(int16_t)read_fixed(r, 2);
        break;
    default:
        r->bad = true;
        return 0;
    }
    switch (encoding & ~FORMAT) {
    case 0:
        return value;
    case FROM_HERE:
        return value + here;
    case FROM_HEADER:
        return value + header;
    }
    r->bad = true; // indirect, or relative to what only exception tables have
    return 0;
}

// ---- the entry for an address ----------------------------------------------------------------

// The last entry of the sorted table that begins at or before pc; 0 = none. The table is pairs of
// 4-byte offsets from the header, function and description; linkers write no other kind.
static uintptr_t search_header(const struct mw_cfi_object *object, uintptr_t pc) {
    struct reader r = read_from(object, object->header);
    uint8_t version = (uint8_t)read_fixed(&r, 1), frame_encoding = (uint8_t)read_fixed(&r, 1);
    uint8_t count_encoding = (uint8_t)read_fixed(&r, 1),
            table_encoding = (uint8_t)read_fixed(&r, 1);
    if (r.bad || version != 1 || count_encoding == NO_POINTER ||
        table_encoding != (FROM_HEADER | SIGNED | DATA4))
        return 0;
    read_pointer(&r, frame_encoding, object->header);
    uint64_t count = read_pointer(&r, count_encoding, object->header);
    if (r.bad || count > (uint64_t)(r.end - r.at) / 8) return 0;
    const uint8_t *table = r.at;
    uint64_t low = 0, high = count; // what is wanted is in [low - 1, high)
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        struct reader entry = {table + 8 * middle, r.end, false};
        if (object->header + (uint64_t)(int32_t)read_fixed(&entry, 4) <= pc)
            low = middle + 1;
        else
            high = middle;
    }
    if (!low) return 0;
    struct reader entry = {table + 8 * (low - 1) + 4, r.end, false};
    return object->header + (uint64_t)(int32_t)read_fixed(&entry, 4);
}

// What an entry and the common part that it refers to say.
struct description {
    struct reader common, own; // instructions
    uintptr_t start, end;      // code that it is about
    uint64_t code_unit;
    int64_t data_unit;
    uint64_t ra; // number of the return address's register
    uint8_t encoding;
    bool augmented, interrupted;
};

// Limits the reader to the entry that begins there. False: the end of the table, or a bad length.
static bool enter(struct reader *r) {
    uint64_t length = read_fixed(r, 4);
    if (length == UINT32_MAX) length = read_fixed(r, 8);
    if (r->bad || !length || length > (uint64_t)(r->end - r->at)) return false;
    r->end = r->at + length;
    return true;
}

static bool read_common(const struct mw_cfi_object *object, uintptr_t at, struct description *d) {
    struct reader r = read_from(object, at);
    if (r.bad || !enter(&r) || read_fixed(&r, 4) != 0) return false;
    uint8_t version = (uint8_t)read_fixed(&r, 1);
    const char *words = (const char *)r.at;
    while (read_fixed(&r, 1)) {
    }
    if (r.bad || (version != 1 && version != 3 && version != 4)) return false;
    if (version == 4) skip(&r, 2); // sizes of addresses and of segment selectors
    d->code_unit = read_unsigned(&r);
    d->data_unit = read_signed(&r);
    d->ra = version == 1 ? read_fixed(&r, 1) : read_unsigned(&r);
    d->encoding = ABSOLUTE;
    struct reader data = r;
    if (*words == 'z') {
        uint64_t length = read_unsigned(&r);
        data = r;
        skip(&r, length);
        d->augmented = true;
        words++;
    }
    for (; *words && !data.bad; words++) {
        switch (*words) {
        case 'R':
            d->encoding = (uint8_t)read_fixed(&data, 1);
            break;
        case 'L':
            skip(&data, 1);
            break;
        case 'P': {
            // Of what kind the pointer to the personality routine is does not matter, its size
            // does.
            uint8_t encoding = (uint8_t)read_fixed(&data, 1);
            read_pointer(&data, encoding & FORMAT, 0);
            break;
        }
        case 'S':
            d->interrupted = true;
            break;
        case 'B': // the key that signs return addresses on AArch64
        case 'G': // memory tagging
            break;
        default:
            return false;
        }
    }
    d->common = r;
    return !r.bad && !data.bad;
}

static bool read_description(const struct mw_cfi_object *object, uintptr_t pc,
                             struct description *d) {
    uintptr_t at = search_header(object, pc);
    if (!at) return false;
    struct reader r = read_from(object, at);
    if (r.bad || !enter(&r)) return false;
    uintptr_t back = (uintptr_t)r.at;
    uint64_t distance = read_fixed(&r, 4);
    if (r.bad || !distance || !read_common(object, back - distance, d)) return false;
    d->start = read_pointer(&r, d->encoding, object->header);
    d->end = d->start + read_pointer(&r, d->encoding & FORMAT, 0);
    if (d->augmented) skip(&r, read_unsigned(&r));
    d->own = r;
    return !r.bad && pc >= d->start && pc < d->end;
}

// ---- instructions ----------------------------------------------------------------------------

struct rule {
    uint8_t place; // enum mw_cfi_place, or BEYOND
    int64_t offset;
};
#define BEYOND 0xff // what is said cannot be told with a struct mw_cfi_step

// One row of the table that the instructions build.
struct row {
    uint64_t cfa_register;
    int64_t cfa_offset;
    bool cfa_loaded, cfa_beyond;
    struct rule fp, ra;
};

// "A register + n", and after it "the word there": DW_OP_breg0…31, DW_OP_deref.
struct expression {
    bool known, loaded;
    uint64_t base;
    int64_t offset;
};

static struct expression read_expression(struct reader *r) {
    enum { BREG0 = 0x70, BREG31 = 0x8f, DEREF = 0x06 };
    uint64_t length = read_unsigned(r);
    struct reader block = *r;
    skip(r, length);
    if (r->bad) return (struct expression){.known = false};
    block.end = block.at + length;
    uint64_t operation = read_fixed(&block, 1);
    struct expression e = {.base = operation - BREG0, .offset = read_signed(&block)};
    if (!block.bad && block.at < block.end) e.loaded = read_fixed(&block, 1) == DEREF;
    e.known = operation >= BREG0 && operation <= BREG31 && !block.bad && block.at == block.end;
    return e;
}

static struct rule saved_at(struct expression e) {
    if (!e.known || e.loaded || (e.base != FP && e.base != SP)) return (struct rule){BEYOND, 0};
    return (struct rule){e.base == FP ? MW_CFI_AT_FP : MW_CFI_AT_SP, e.offset};
}

#define MOST_REMEMBERED 4

struct machine {
    const struct description *d;
    uintptr_t pc, location;
    struct row row, initial, remembered[MOST_REMEMBERED];
    unsigned depth;
    bool bad;
};

static void set_rule(struct machine *m, uint64_t number, struct rule rule) {
    if (number == FP) m->row.fp = rule;
    if (number == m->d->ra) m->row.ra = rule;
}

static void restore_rule(struct machine *m, uint64_t number) {
    if (number == FP) m->row.fp = m->initial.fp;
    if (number == m->d->ra) m->row.ra = m->initial.ra;
}

static void set_cfa(struct machine *m, uint64_t number, int64_t offset) {
    m->row.cfa_register = number;
    m->row.cfa_offset = offset;
    m->row.cfa_loaded = m->row.cfa_beyond = false;
}

static void remember(struct machine *m) {
    if (m->depth == MOST_REMEMBERED)
        m->bad = true;
    else
        m->remembered[m->depth++] = m->row;
}

static void recall(struct machine *m) {
    if (!m->depth)
        m->bad = true;
    else
        m->row = m->remembered[--m->depth];
}

static void scaled_rule(struct machine *m, uint64_t number, int64_t factor) {
    set_rule(m, number, (struct rule){MW_CFI_AT_CFA, factor * m->d->data_unit});
}

// DW_CFA_*: those with an operand in their low bits, then the others in order.
enum {
    ADVANCE = 0x40,
    OFFSET = 0x80,
    RESTORE = 0xc0,
    NOP = 0,
    SET_LOCATION,
    ADVANCE1,
    ADVANCE2,
    ADVANCE4,
    OFFSET_EXTENDED,
    RESTORE_EXTENDED,
    UNDEFINED,
    SAME_VALUE,
    IN_REGISTER,
    REMEMBER,
    RECALL,
    CFA,
    CFA_REGISTER,
    CFA_OFFSET,
    CFA_EXPRESSION,
    EXPRESSION,
    OFFSET_SIGNED,
    CFA_SIGNED,
    CFA_OFFSET_SIGNED,
    VALUE_OFFSET,
    VALUE_OFFSET_SIGNED,
    VALUE_EXPRESSION,
    SIGNED_RA_WITH_PC = 0x2c, // AArch64: the return address is signed from here on, or no longer
    SIGNED_RA = 0x2d,
    ARGUMENTS_SIZE = 0x2e,
    OFFSET_NEGATIVE = 0x2f,
};

static void execute(struct machine *m, struct reader *r, uint8_t operation) {
    struct expression e;
    uint64_t number;
    switch (operation) {
    case NOP:
    case SIGNED_RA:
    case SIGNED_RA_WITH_PC:
        break;
    case SET_LOCATION:
        m->location = read_pointer(r, m->d->encoding, 0);
        break;
    case ADVANCE1:
        m->location += read_fixed(r, 1) * m->d->code_unit;
        break;
    case ADVANCE2:
        m->location += read_fixed(r, 2) * m->d->code_unit;
        break;
    case ADVANCE4:
        m->location += read_fixed(r, 4) * m->d->code_unit;
        break;
    case OFFSET_EXTENDED:
        number = read_unsigned(r);
        scaled_rule(m, number, (int64_t)read_unsigned(r));
        break;
    case OFFSET_SIGNED:
        number = read_unsigned(r);
        scaled_rule(m, number, read_signed(r));
        break;
    case OFFSET_NEGATIVE:
        number = read_unsigned(r);
        scaled_rule(m, number, -(int64_t)read_unsigned(r));
        break;
    case RESTORE_EXTENDED:
        restore_rule(m, read_unsigned(r));
        break;
    case UNDEFINED:
        set_rule(m, read_unsigned(r), (struct rule){MW_CFI_LOST, 0});
        break;
    case SAME_VALUE:
        set_rule(m, read_unsigned(r), (struct rule){MW_CFI_KEPT, 0});
        break;
    case IN_REGISTER:
    case VALUE_OFFSET:
        number = read_unsigned(r);
        read_unsigned(r);
        set_rule(m, number, (struct rule){BEYOND, 0});
        break;
    case VALUE_OFFSET_SIGNED:
        number = read_unsigned(r);
        read_signed(r);
        set_rule(m, number, (struct rule){BEYOND, 0});
        break;
    case VALUE_EXPRESSION:
        number = read_unsigned(r);
        read_expression(r);
        set_rule(m, number, (struct rule){BEYOND, 0});
        break;
    case REMEMBER:
        remember(m);
        break;
    case RECALL:
        recall(m);
        break;
    case CFA:
        number = read_unsigned(r);
        set_cfa(m, number, (int64_t)read_unsigned(r));
        break;
    case CFA_SIGNED:
        number = read_unsigned(r);
        set_cfa(m, number, read_signed(r) * m->d->data_unit);
        break;
    case CFA_REGISTER:
        set_cfa(m, read_unsigned(r), m->row.cfa_offset);
        break;
    case CFA_OFFSET:
        set_cfa(m, m->row.cfa_register, (int64_t)read_unsigned(r));
        break;
    case CFA_OFFSET_SIGNED:
        set_cfa(m, m->row.cfa_register, read_signed(r) * m->d->data_unit);
        break;
    case CFA_EXPRESSION:
        e = read_expression(r);
        set_cfa(m, e.base, e.offset);
        m->row.cfa_loaded = e.loaded;
        m->row.cfa_beyond = !e.known;
        break;
    case EXPRESSION:
        number = read_unsigned(r);
        set_rule(m, number, saved_at(read_expression(r)));
        break;
    case ARGUMENTS_SIZE:
        read_unsigned(r);
        break;
    default:
        m->bad = true;
    }
}

// Runs until the row for pc is complete.
static bool run(struct machine *m, struct reader r) {
    while (!m->bad && !r.bad && r.at < r.end && m->location <= m->pc) {
        uint8_t byte = *r.at++, operand = byte & 0x3f;
        switch (byte & 0xc0) {
        case ADVANCE:
            m->location += operand * m->d->code_unit;
            break;
        case OFFSET:
            scaled_rule(m, operand, (int64_t)read_unsigned(&r));
            break;
        case RESTORE:
            restore_rule(m, operand);
            break;
        default:
            execute(m, &r, byte);
        }
    }
    return !m->bad && !r.bad;
}

static bool fits(int64_t offset) {
    return offset % 8 == 0 && offset > -(INT64_C(1) << 19) && offset < INT64_C(1) << 19;
}

bool mw_cfi_find(const struct mw_cfi_object *object, uintptr_t pc, struct mw_cfi_step *step) {
    struct description d = {.augmented = false};
    if (!object->header || !read_description(object, pc, &d)) return false;
    // Where nothing is said, a callee leaves the frame pointer alone, and (AArch64) the return
    // address where the call put it.
    struct machine m = {.d = &d, .pc = pc, .location = d.start};
    if (!run(&m, d.common)) return false;
    m.initial = m.row;
    m.location = d.start;
    if (!run(&m, d.own)) return false;

    const struct row *row = &m.row;
    bool from_fp = row->cfa_register == FP;
    if (row->cfa_beyond || (!from_fp && row->cfa_register != SP) || row->ra.place == BEYOND ||
        !fits(row->cfa_offset) || !fits(row->fp.offset) || !fits(row->ra.offset))
        return false;
    *step = (struct mw_cfi_step){
        .cfa_from_fp = from_fp,
        .cfa_loaded = row->cfa_loaded,
        .interrupted = d.interrupted,
        .fp_place = row->fp.place == BEYOND ? MW_CFI_LOST : row->fp.place,
        .ra_place = row->ra.place,
        .cfa = (int32_t)row->cfa_offset,
        .fp = (int32_t)row->fp.offset,
        .ra = (int32_t)row->ra.offset,
    };
    return true;
}
