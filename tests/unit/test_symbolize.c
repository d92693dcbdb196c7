// SPDX-License-Identifier: Apache-2.0
// links: report/symbolize.c report/debug_files.c report/resolver.c report/places.c
// build: -ldw -lelf -liberty
//
// What stands at an address: this program asks about its own code. Inlined functions and lines must
// be exact; a file that is gone, replaced, no file, or damaged in any way must be told and do no
// harm. (C++, Rust and separate debug files: tests/report/test_sites.py.)
#define _GNU_SOURCE // dl_iterate_phdr
#include "resolver.h"
#include "symbolize.h"

#include <elfutils/libdwelf.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char self[PATH_MAX], folder[64], copy[128];
static unsigned char id[64];
static struct build build = {.path = self, .id = id};
static const struct debug_search nowhere = {NULL, NULL};

// ---- code to be asked about -----------------------------------------------------------------

#define APART __attribute__((noinline))

static uintptr_t bias;
static int line_of_inner, line_of_middle, line_of_outer;

// The address of the call that called it, as in the file.
APART static uint64_t here(void) {
    return (uint64_t)__builtin_return_address(0) - bias - 1;
}

__attribute__((always_inline)) static inline uint64_t inner(void) {
    line_of_inner = __LINE__ + 1;
    uint64_t address = here();
    __asm__ volatile("" : "+r"(address));
    return address;
}

__attribute__((always_inline)) static inline uint64_t middle(void) {
    line_of_middle = __LINE__ + 1;
    return inner() + 0;
}

// Another one that is inlined, before.
__attribute__((always_inline)) static inline void aside(void) {
    uint64_t address = here();
    __asm__ volatile("" ::"r"(address));
}

APART uint64_t outer(void);
APART uint64_t outer(void) {
    aside();
    line_of_outer = __LINE__ + 1;
    uint64_t address = middle();
    __asm__ volatile("" : "+r"(address));
    return address;
}

// Names that only this file knows come second.
__attribute__((alias("outer"), used)) static uint64_t zz_outer(void);

static int first_object(struct dl_phdr_info *info, size_t size, void *out) {
    (void)size;
    *(uintptr_t *)out = info->dlpi_addr;
    return 1;
}

static int find_self(void **state) {
    (void)state;
    dl_iterate_phdr(first_object, &bias);
    if (!realpath("/proc/self/exe", self)) return -1;
    elf_version(EV_CURRENT);
    int fd = open(self, O_RDONLY | O_CLOEXEC);
    Elf *elf = elf_begin(fd, ELF_C_READ, NULL);
    const void *found;
    ssize_t bytes = dwelf_elf_gnu_build_id(elf, &found);
    if (bytes > 0 && (size_t)bytes <= sizeof id) {
        memcpy(id, found, (size_t)bytes);
        build.id_bytes = (size_t)bytes;
    }
    elf_end(elf);
    close(fd);
    strcpy(folder, "/tmp/memwatch.symbolize.XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(copy, sizeof copy, "%s/copy", folder);
    return 0;
}

static int clean(void **state) {
    (void)state;
    unlink(copy);
    return rmdir(folder);
}

static const char *basename_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

// ---- what is there --------------------------------------------------------------------------

static void inlined_functions_and_lines_are_exact(void **state) {
    (void)state;
    struct symbol symbol[8];
    uint64_t address = outer();
    struct object *object = object_open(&nowhere, &build);
    assert_null(object_reason(object));
    assert_true(object_has_lines(object));
    assert_int_equal(object_symbols(object, address, symbol, 8), 3);
    assert_string_equal(symbol[0].function, "inner");
    assert_int_equal(symbol[0].line, line_of_inner);
    assert_true(symbol[0].inlined);
    assert_string_equal(symbol[1].function, "middle");
    assert_int_equal(symbol[1].line, line_of_middle);
    assert_true(symbol[1].inlined);
    assert_string_equal(symbol[2].function, "outer");
    assert_int_equal(symbol[2].line, line_of_outer);
    assert_false(symbol[2].inlined);
    for (unsigned i = 0; i < 3; i++)
        assert_string_equal(basename_of(symbol[i].file), "test_symbolize.c");
    assert_int_equal(object_symbols(object, address, symbol, 1), 1); // no more than there is room
    object_close(object);
}

static void the_symbol_table_knows_functions_as_far_as_they_reach(void **state) {
    (void)state;
    char name[SYMBOL_NAME];
    struct object *object = object_open(&nowhere, &build);
    assert_true(object_name(object, (uintptr_t)outer - bias, name));
    assert_string_equal(name, "outer");
    assert_true(object_name(object, outer(), name));
    assert_string_equal(name, "outer");
    assert_false(object_name(object, 0, name));
    assert_false(object_name(object, UINT64_MAX, name));
    assert_false(object_name(object, (uintptr_t)&line_of_outer - bias, name)); // no code
    struct symbol symbol[4];
    assert_int_equal(object_symbols(object, UINT64_MAX, symbol, 4), 0);
    object_close(object);
}

// ---- what is not ----------------------------------------------------------------------------

static void must_refuse(const struct build *asked, const char *word) {
    char name[SYMBOL_NAME];
    struct symbol symbol[4];
    struct object *object = object_open(&nowhere, asked);
    const char *reason = object_reason(object);
    if (!reason || !strstr(reason, word))
        fail_msg("'%s' does not say '%s'", reason ? reason : "nothing", word);
    assert_false(object_name(object, outer(), name));
    assert_false(object_has_lines(object));
    assert_int_equal(object_symbols(object, outer(), symbol, 4), 0);
    object_close(object);
}

static void another_build_is_not_believed(void **state) {
    (void)state;
    struct build other = build;
    unsigned char wrong[sizeof id];
    assert_true(build.id_bytes > 0);
    memcpy(wrong, id, sizeof id);
    wrong[build.id_bytes - 1] ^= 1;
    other.id = wrong;
    must_refuse(&other, "another build");
    other.id = id;
    other.id_bytes = build.id_bytes - 1; // a part of it is not it
    must_refuse(&other, "another build");
    other.id_bytes = 0; // not known: the path must do
    struct object *object = object_open(&nowhere, &other);
    assert_null(object_reason(object));
    object_close(object);
}

static void what_is_no_file_is_not_touched(void **state) {
    (void)state;
    const char *const paths[] = {"/nonexistent/lib.so", "", "/", "/dev/zero", "relative.so"};
    for (unsigned i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct build gone = {.path = paths[i]};
        must_refuse(&gone, "not there");
    }
    struct build pipe = {.path = copy};
    assert_int_equal(mkfifo(copy, 0600), 0);
    must_refuse(&pipe, "not there");
    unlink(copy);
    int fd = open(copy, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "#!/bin/sh\n", 10), 10);
    close(fd);
    must_refuse(&pipe, "no ELF file");
}

// ---- damage ---------------------------------------------------------------------------------

static uint64_t number;
static uint64_t below(uint64_t n) {
    number ^= number << 13;
    number ^= number >> 7;
    number ^= number << 17;
    return number % n;
}

// Bytes of a copy are overwritten, mostly where they decide something: the headers and the
// sections with tables and debug information, which lie in the file's second half.
static void damage(unsigned char *bytes, size_t size) {
    for (uint64_t n = 1 + below(24); n; n--) {
        size_t at = below(3)   ? size / 2 + below(size / 2)
                    : below(4) ? size - 1 - below(4096)
                               : below(1024);
        bytes[at] = below(2) ? (unsigned char)below(256) : bytes[at] ^ (1 << below(8));
    }
}

static void a_damaged_file_does_no_harm(void **state) {
    (void)state;
    struct stat st;
    int fd = open(self, O_RDONLY | O_CLOEXEC);
    assert_int_equal(fstat(fd, &st), 0);
    size_t size = (size_t)st.st_size;
    unsigned char *whole = malloc(size), *bytes = malloc(size);
    assert_int_equal(read(fd, whole, size), size);
    close(fd);
    number = 88172645463325252;
    unsigned named = 0;
    for (unsigned i = 0; i < 200; i++) {
        memcpy(bytes, whole, size);
        damage(bytes, size);
        size_t kept = below(4) ? size : below(size);
        fd = open(copy, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_int_equal(write(fd, bytes, kept), kept);
        close(fd);
        struct resolver *r = resolver_new(NULL);
        struct native_frame frame = {.path = {copy, strlen(copy)}, .address = outer()};
        uint32_t question = resolver_ask(r, &frame, "");
        for (uint64_t address = 0; address < 64; address++) {
            frame.address = address * size / 64;
            resolver_ask(r, &frame, "");
        }
        resolver_run(r, 5000);
        struct name name;
        named += resolver_name(r, question, 0, &name);
        resolver_free(r);
    }
    assert_true(named > 0); // the damage left something to look at
    free(whole);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inlined_functions_and_lines_are_exact),
        cmocka_unit_test(the_symbol_table_knows_functions_as_far_as_they_reach),
        cmocka_unit_test(another_build_is_not_believed),
        cmocka_unit_test(what_is_no_file_is_not_touched),
        cmocka_unit_test(a_damaged_file_does_no_harm),
    };
    return cmocka_run_group_tests(tests, find_self, clean);
}
