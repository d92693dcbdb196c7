// SPDX-License-Identifier: Apache-2.0
// links: interpose/cfi.c
// build: -D_GNU_SOURCE
//
// Call frame information is read as DWARF defines it, for each instruction and each way to write an
// address; and tables that are damaged in any way are read without leaving the object. (That real
// programs' tables are read right is seen by test_stack_hazards.py, which compares whole walks.)
#include "cfi.h"

#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#if defined(__x86_64__)
enum { FP = 6, SP = 7, RA = 16, OTHER = 3 };
#else
enum { FP = 29, SP = 31, RA = 30, OTHER = 19 };
#endif

// ---- a table made by hand --------------------------------------------------------------------

// One object in a page of its own: code (which nobody looks at), then .eh_frame_hdr and .eh_frame.
#define CODE     0x100u
#define FUNCTION 64u // bytes of code a function
#define HEADER   0x400u
#define EH_FRAME 0x500u
#define MOST     8u
static uint8_t *image;
static struct mw_cfi_object object;
static uint8_t *at; // where the next byte goes

static void byte(unsigned value) {
    *at++ = (uint8_t)value;
}
static void word4(uint64_t value) {
    for (int i = 0; i < 4; i++) byte(value >> 8 * i & 0xff);
}
static void word8(uint64_t value) {
    word4(value);
    word4(value >> 32);
}

static uint8_t *begin_entry(void) {
    uint8_t *start = at;
    word4(0);
    return start;
}
static void end_entry(uint8_t *start) {
    while ((at - start - 4) % 8) byte(0); // DW_CFA_nop
    uint32_t length = (uint32_t)(at - start - 4);
    memcpy(start, &length, 4);
}

struct table {
    unsigned encoding; // of the functions' addresses
    const char *augmentation;
    unsigned version;
};
static const struct table usual = {0x1b, "zR", 1};

// The CIE says: CFA = SP + 8, the return address at CFA - 8.
static void write_common(struct table t) {
    uint8_t *start = begin_entry();
    word4(0);
    byte(t.version);
    for (const char *c = t.augmentation; *c; c++) byte((unsigned char)*c);
    byte(0);
    if (t.version == 4) byte(8), byte(0); // sizes of addresses and of segment selectors
    byte(1);                              // unit of code
    byte(0x78);                           // unit of data: -8
    byte(RA);
    uint8_t *length = at;
    if (*t.augmentation == 'z') byte(0);
    for (const char *c = t.augmentation; *c; c++) {
        if (*c == 'R') byte(t.encoding);
        if (*c == 'L') byte(0x1b);
        if (*c == 'P') byte(0x9b), word4(0x1234); // a pointer to a pointer, four bytes
    }
    if (*t.augmentation == 'z') *length = (uint8_t)(at - length - 1);
    byte(0x0c), byte(SP), byte(8); // DW_CFA_def_cfa
    byte(0x80 | RA), byte(1);      // DW_CFA_offset
    end_entry(start);
}

static void write_address(unsigned encoding, uintptr_t address, bool distance) {
    if (!distance && (encoding & 0x70) == 0x10) address -= (uintptr_t)at;
    if (!distance && (encoding & 0x70) == 0x30) address -= object.header;
    if ((encoding & 7) == 2)
        byte(address & 0xff), byte(address >> 8 & 0xff);
    else if ((encoding & 7) == 3)
        word4(address);
    else
        word8(address);
}

// A table of `count` functions, the instructions of which are the same.
static void make(struct table t, unsigned count, const uint8_t *instructions, size_t bytes) {
    uintptr_t entries[MOST];
    memset(image, 0xcc, 4096);
    object = (struct mw_cfi_object){(uintptr_t)image, (uintptr_t)image + 4096,
                                    (uintptr_t)image + HEADER};
    at = image + EH_FRAME;
    uint8_t *common = at;
    write_common(t);
    for (unsigned i = 0; i < count; i++) {
        uint8_t *start = begin_entry();
        entries[i] = (uintptr_t)start;
        word4((uint64_t)(at - common));
        write_address(t.encoding, (uintptr_t)image + CODE + i * FUNCTION, false);
        write_address(t.encoding, FUNCTION - 16, true); // the rest is a gap
        if (*t.augmentation == 'z') byte(0);
        memcpy(at, instructions, bytes);
        at += bytes;
        end_entry(start);
    }
    word4(0);
    at = image + HEADER;
    byte(1), byte(0x1b), byte(0x03), byte(0x3b);
    word4(EH_FRAME - HEADER - 4);
    word4(count);
    for (unsigned i = 0; i < count; i++) {
        word4((uint64_t)(int64_t)(CODE + i * FUNCTION) - HEADER);
        word4(entries[i] - object.header);
    }
}

#define MAKE(...)                                                                                  \
    make(usual, 1, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static bool find(unsigned offset, struct mw_cfi_step *s) {
    return mw_cfi_find(&object, (uintptr_t)image + CODE + offset, s);
}

// What `wanted` does not mention is as the CIE says.
static void expect(unsigned offset, struct mw_cfi_step wanted) {
    struct mw_cfi_step s;
    if (!wanted.cfa) wanted.cfa = 8;
    if (wanted.ra_place == MW_CFI_KEPT) wanted.ra_place = MW_CFI_AT_CFA, wanted.ra = -8;
    assert_true(find(offset, &s));
    assert_int_equal(s.cfa_from_fp, wanted.cfa_from_fp);
    assert_int_equal(s.cfa_loaded, wanted.cfa_loaded);
    assert_int_equal(s.cfa, wanted.cfa);
    assert_int_equal(s.fp_place, wanted.fp_place);
    if (s.fp_place != MW_CFI_KEPT && s.fp_place != MW_CFI_LOST) assert_int_equal(s.fp, wanted.fp);
    assert_int_equal(s.ra_place, wanted.ra_place);
    if (s.ra_place != MW_CFI_KEPT && s.ra_place != MW_CFI_LOST) assert_int_equal(s.ra, wanted.ra);
    assert_int_equal(s.interrupted, wanted.interrupted);
}

static void expect_nothing(unsigned offset) {
    struct mw_cfi_step s;
    assert_false(find(offset, &s));
}

#define ROW(...) ((struct mw_cfi_step){__VA_ARGS__})

// ---- tests -----------------------------------------------------------------------------------

static void test_a_row_holds_from_its_location_to_the_next(void **state) {
    (void)state;
    MAKE(0x41, 0x0e, 16, 0x80 | FP, 2, // after 1 byte: push
         0x43, 0x0d, FP,               // after 3 more: CFA by the frame pointer
         0x02, 20, 0xc0 | FP, 0x0c, SP, 8);
    expect(0, ROW(0));
    expect(1, ROW(.cfa = 16, .fp_place = MW_CFI_AT_CFA, .fp = -16));
    expect(3, ROW(.cfa = 16, .fp_place = MW_CFI_AT_CFA, .fp = -16));
    expect(4, ROW(.cfa = 16, .fp_place = MW_CFI_AT_CFA, .fp = -16, .cfa_from_fp = true));
    expect(23, ROW(.cfa = 16, .fp_place = MW_CFI_AT_CFA, .fp = -16, .cfa_from_fp = true));
    expect(24, ROW(0));
    expect(FUNCTION - 17, ROW(0));
}

static void test_each_instruction_does_what_dwarf_says(void **state) {
    (void)state;
    static const struct {
        uint8_t bytes[12];
        struct mw_cfi_step row;
    } cases[] = {
#define C(...) {__VA_ARGS__}
        {C(0x00), ROW(0)},
        {C(0x03, 1, 0, 0x0e, 24), ROW(0)}, // not reached: location 1
        {C(0x04, 0, 0, 0, 0, 0x0e, 24), ROW(.cfa = 24)},
        {C(0x05, FP, 3), ROW(.fp_place = MW_CFI_AT_CFA, .fp = -24)},
        {C(0x11, FP, 0x7e), ROW(.fp_place = MW_CFI_AT_CFA, .fp = 16)},
        {C(0x2f, FP, 3), ROW(.fp_place = MW_CFI_AT_CFA, .fp = 24)},
        {C(0x05, FP, 3, 0x06, FP), ROW(0)},
        {C(0x05, FP, 3, 0x08, FP), ROW(0)},
        {C(0x07, FP), ROW(.fp_place = MW_CFI_LOST)},
        {C(0x07, RA), ROW(.ra_place = MW_CFI_LOST)},
        {C(0x09, FP, OTHER), ROW(.fp_place = MW_CFI_LOST)},
        {C(0x0a, 0x0e, 40, 0x80 | FP, 2, 0x0b), ROW(0)},
        {C(0x0a, 0x0e, 40, 0x0a, 0x0e, 48, 0x0b), ROW(.cfa = 40)},
        {C(0x0c, FP, 16), ROW(.cfa_from_fp = true, .cfa = 16)},
        {C(0x12, FP, 0x7e), ROW(.cfa_from_fp = true, .cfa = 16)},
        {C(0x13, 0x7d), ROW(.cfa = 24)},
        {C(0x0e, 0x80, 0x20), ROW(.cfa = 4096)},
        {C(0x2e, 0x80, 0x01, 0x0e, 32), ROW(.cfa = 32)},
        {C(0x2d, 0x0e, 32), ROW(.cfa = 32)},
        {C(0x0f, 3, 0x70 + FP, 0x78, 0x06),
         ROW(.cfa_from_fp = true, .cfa_loaded = true, .cfa = -8)},
        {C(0x0f, 3, 0x70 + SP, 0xa0, 0x01), ROW(.cfa = 160)},
        {C(0x10, FP, 2, 0x70 + FP, 0), ROW(.fp_place = MW_CFI_AT_FP, .fp = 0)},
        {C(0x10, RA, 3, 0x70 + SP, 0xa8, 0x01), ROW(.ra_place = MW_CFI_AT_SP, .ra = 168)},
        {C(0x14, FP, 2), ROW(.fp_place = MW_CFI_LOST)},
        {C(0x15, FP, 0x7e), ROW(.fp_place = MW_CFI_LOST)},
        {C(0x16, FP, 2, 0x70 + SP, 0), ROW(.fp_place = MW_CFI_LOST)},
        {C(0x05, OTHER, 3, 0x16, OTHER, 1, 0x30, 0x0e, 24), ROW(.cfa = 24)},
#undef C
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make(usual, 1, cases[i].bytes, sizeof cases[i].bytes); // the rest are zeros: nothing
        expect(0, cases[i].row);
    }
}

static void test_what_three_registers_cannot_tell_is_not_told(void **state) {
    (void)state;
    static const uint8_t cases[][8] = {
        {0x0c, OTHER, 8},                 // CFA by another register
        {0x0f, 2, 0x30, 0x06},            // by an expression of another shape
        {0x0f, 4, 0x70 + SP, 8, 0x06, 6}, // longer than the known one
        {0x10, RA, 2, 0x70 + OTHER, 0},   // the return address is somewhere else
        {0x09, RA, OTHER},
        {0x0e, 12},                           // not a whole word
        {0x0e, 0x80, 0x80, 0x80, 0x80, 0x08}, // a frame of 2 GiB
        {0x3f},                               // no such instruction
        {0x0b},                               // nothing was remembered
        {0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a}, // too much was
        {0x0f, 0x7f, 0x70},                   // a block that is longer than the rest
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make(usual, 1, cases[i], sizeof cases[i]);
        expect_nothing(0);
    }
}

static void test_the_function_of_an_address_is_found_and_no_other(void **state) {
    (void)state;
    for (unsigned count = 1; count <= MOST; count++) {
        make(usual, count, (const uint8_t[]){0x41, 0x0e, 24}, 3);
        for (unsigned i = 0; i < count; i++) {
            expect(i * FUNCTION, ROW(0));
            expect(i * FUNCTION + 1, ROW(.cfa = 24));
            expect(i * FUNCTION + FUNCTION - 17, ROW(.cfa = 24));
            expect_nothing(i * FUNCTION + FUNCTION - 16);
            expect_nothing(i * FUNCTION + FUNCTION - 1);
        }
        expect_nothing((unsigned)-1);
        expect_nothing(count * FUNCTION);
    }
    make(usual, 0, NULL, 0);
    expect_nothing(0);
    object.header = 0;
    expect_nothing(0);
}

static void test_addresses_may_be_written_in_many_ways(void **state) {
    (void)state;
    static const unsigned encodings[] = {0x1b, 0x10, 0x14, 0x1c, 0x3b, 0x30, 0x00, 0x04, 0x0c};
    for (size_t i = 0; i < sizeof encodings / sizeof *encodings; i++) {
        make((struct table){encodings[i], "zR", 1}, 3, (const uint8_t[]){0x0e, 24}, 2);
        expect(FUNCTION, ROW(.cfa = 24));
    }
    static const unsigned unknown[] = {0x9b, 0x50, 0x2b, 0x05, 0x01};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        make((struct table){unknown[i], "zR", 1}, 3, (const uint8_t[]){0x0e, 24}, 2);
        expect_nothing(FUNCTION);
    }
}

static void test_augmentations_are_understood_or_refused(void **state) {
    (void)state;
    static const char *const known[] = {"zR", "zPLR", "zRB", "zRG", "zPR"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        make((struct table){0x1b, known[i], 1}, 1, (const uint8_t[]){0x0e, 24}, 2);
        expect(0, ROW(.cfa = 24));
    }
    make((struct table){0x1b, "zRS", 1}, 1, (const uint8_t[]){0x0e, 24}, 2);
    expect(0, ROW(.cfa = 24, .interrupted = true));
    make((struct table){0x00, "", 1}, 1, (const uint8_t[]){0x0e, 24}, 2);
    expect(0, ROW(.cfa = 24));
    for (unsigned version = 0; version < 6; version++) {
        make((struct table){0x1b, "zR", version}, 1, (const uint8_t[]){0x0e, 24}, 2);
        if (version == 1 || version == 3 || version == 4)
            expect(0, ROW(.cfa = 24));
        else
            expect_nothing(0);
    }
    make((struct table){0x1b, "eh", 1}, 1, (const uint8_t[]){0x0e, 24}, 2);
    expect_nothing(0);
    make((struct table){0x1b, "zRx", 1}, 1, (const uint8_t[]){0x0e, 24}, 2);
    expect_nothing(0);
}

// ---- damage ----------------------------------------------------------------------------------

// A copy of the C library as it is loaded, between pages that fault.
static uintptr_t copy_start, header_at, frames_at;
static size_t copy_bytes;

static int copy_libc(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size, (void)unused;
    uintptr_t end = 0, header = 0;
    if (!strstr(info->dlpi_name, "libc.")) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_LOAD && !(p->p_flags & PF_W)) end = p->p_vaddr + p->p_filesz;
        if (p->p_type == PT_GNU_EH_FRAME) header = p->p_vaddr;
    }
    copy_bytes = (end + 4095) & ~(size_t)4095;
    char *room = mmap(NULL, copy_bytes + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    copy_start = (uintptr_t)room + 4096;
    mprotect(room + 4096, copy_bytes, PROT_READ | PROT_WRITE);
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_LOAD && !(p->p_flags & PF_W))
            memcpy(room + 4096 + p->p_vaddr, (void *)(info->dlpi_addr + p->p_vaddr), p->p_filesz);
    }
    header_at = copy_start + header;
    frames_at = header_at + 4 + (uintptr_t) * (int32_t *)(header_at + 4);
    return 1;
}

static void test_damaged_tables_are_never_read_beyond_the_object(void **state) {
    (void)state;
    dl_iterate_phdr(copy_libc, NULL);
    assert_int_not_equal(copy_bytes, 0);
    struct mw_cfi_object o = {copy_start, copy_start + copy_bytes, header_at};
    const uint32_t functions = *(const uint32_t *)(header_at + 8);
    const int32_t *table = (const int32_t *)(header_at + 12);
    unsigned found = 0, tried = 0;
    srand(1);
    for (int round = 0; round < 20000; round++) {
        uint32_t function = (uint32_t)rand() % functions;
        int32_t start = table[2 * function], entry = table[2 * function + 1];
        uintptr_t pc = header_at + (uintptr_t)(intptr_t)start;
        struct mw_cfi_step s;
        // In turns: the entry itself, a common part, the header, the sorted table.
        uintptr_t places[] = {header_at + (uintptr_t)(intptr_t)entry, frames_at, header_at,
                              (uintptr_t)&table[2 * function]};
        static const size_t extents[] = {40, 32, 12, 8};
        uint8_t *damaged = (uint8_t *)places[round % 4] + (unsigned)rand() % extents[round % 4];
        if ((uintptr_t)damaged < copy_start || (uintptr_t)damaged >= copy_start + copy_bytes)
            continue;
        static const uint8_t nasty[] = {0, 1, 0x7f, 0x80, 0xff, 0x0f, 0x10, 0x16};
        uint8_t before = *damaged;
        *damaged = round % 3 ? nasty[(unsigned)rand() % sizeof nasty] : (uint8_t)rand();
        found += mw_cfi_find(&o, pc + (unsigned)rand() % 64, &s);
        *damaged = before;
        tried++;
    }
    // Otherwise the damage was such that nothing was tried.
    assert_true(found > tried / 10);
    assert_true(found < tried);
}

// The same object, cut off at each of its bytes, with a page that faults behind the cut.
static void test_tables_that_are_cut_off_are_never_read_beyond_their_end(void **state) {
    (void)state;
    static const uint8_t instructions[] = {0x41, 0x0e, 24, 0x02, 4, 0x0f, 3, 0x70 + FP, 0x78, 0x06};
    uint8_t whole[4096];
    make(usual, MOST, instructions, sizeof instructions);
    memcpy(whole, image, sizeof whole);
    for (unsigned end = HEADER; end < 0x800; end++) {
        uint8_t *start = image + 4096 - end;
        memcpy(start, whole, end);
        struct mw_cfi_object cut = {(uintptr_t)start, (uintptr_t)start + end,
                                    (uintptr_t)start + HEADER};
        for (unsigned i = 0; i < MOST; i++) {
            struct mw_cfi_step s;
            mw_cfi_find(&cut, (uintptr_t)start + CODE + i * FUNCTION + 40, &s);
        }
    }
}

static int begin(void **state) {
    (void)state;
    char *room = mmap(NULL, 3 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    image = (uint8_t *)room + 4096;
    return mprotect(image, 4096, PROT_READ | PROT_WRITE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_row_holds_from_its_location_to_the_next),
        cmocka_unit_test(test_each_instruction_does_what_dwarf_says),
        cmocka_unit_test(test_what_three_registers_cannot_tell_is_not_told),
        cmocka_unit_test(test_the_function_of_an_address_is_found_and_no_other),
        cmocka_unit_test(test_addresses_may_be_written_in_many_ways),
        cmocka_unit_test(test_augmentations_are_understood_or_refused),
        cmocka_unit_test(test_damaged_tables_are_never_read_beyond_the_object),
        cmocka_unit_test(test_tables_that_are_cut_off_are_never_read_beyond_their_end),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
