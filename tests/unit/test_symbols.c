// SPDX-License-Identifier: Apache-2.0
// links: interpose/symbols.c
// build: -D_GNU_SOURCE -rdynamic -Wl,--hash-style=sysv
//
// Reading symbol tables must give what the dynamic linker gives: for every function and variable of
// every loaded library, for each version of it, and in both kinds of hash table (this program has
// the old one).
#include "symbols.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// To be found in this program.
int exported_function(void);
int exported_function(void) {
    return 1;
}

static struct mw_elf objects[64];
static size_t object_count;

static int remember(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size, (void)unused;
    if (object_count < 64 && mw_elf_read(&objects[object_count], info)) object_count++;
    return 0;
}

static const struct mw_elf *object_named(const char *part) {
    for (size_t i = 0; i < object_count; i++)
        if (strstr(objects[i].path, part)) return &objects[i];
    fail_msg("%s is not loaded", part);
    return NULL;
}

static int load_objects(void **state) {
    (void)state;
    dl_iterate_phdr(remember, NULL);
    return 0;
}

static void *find(const struct mw_elf *object, const char *name, const char *version) {
    return mw_elf_find(object, mw_elf_name(name), version);
}

// How many symbols the table has: the GNU table's last chain ends it.
static size_t symbol_count(const struct mw_elf *object) {
    if (object->hash) return object->hash[1];
    const uint32_t *header = object->gnu_hash;
    const uint32_t *buckets =
        (const void *)((const ElfW(Addr) *)(const void *)(header + 4) + header[2]);
    const uint32_t *hashes = buckets + header[0];
    uint32_t last = 0;
    for (uint32_t i = 0; i < header[0]; i++)
        if (buckets[i] > last) last = buckets[i];
    if (last < header[1]) return header[1];
    while (!(hashes[last - header[1]] & 1)) last++;
    return last + 1;
}

static bool is_plain(const ElfW(Sym) * symbol) {
    unsigned type = symbol->st_info & 15;
    return (type == STT_FUNC || type == STT_OBJECT) && symbol->st_info >> 4 != STB_LOCAL &&
           symbol->st_shndx != SHN_UNDEF && symbol->st_value;
}

// dlsym may answer for an indirect function of the same name (another version), which has no fixed
// address: those names are left out.
static bool has_indirect_twin(const struct mw_elf *object, const char *name, size_t count) {
    for (size_t i = 0; i < count; i++)
        if ((object->symbols[i].st_info & 15) == STT_GNU_IFUNC &&
            strcmp(object->strings + object->symbols[i].st_name, name) == 0)
            return true;
    return false;
}

static void compare_with_the_dynamic_linker(const char *library, size_t at_least) {
    const struct mw_elf *object = object_named(library);
    size_t count = symbol_count(object), compared = 0;
    void *handle = dlopen(object->path, RTLD_NOW | RTLD_NOLOAD);
    assert_non_null(handle);
    for (size_t i = 0; i < count; i++) {
        const char *name = object->strings + object->symbols[i].st_name;
        if (!is_plain(&object->symbols[i]) || has_indirect_twin(object, name, count)) continue;
        void *theirs = dlsym(handle, name);
        if (!theirs) continue; // only old, hidden versions
        // With a handle dlsym also looks into the libraries that this one needs.
        if (!mw_elf_contains(object, theirs)) continue;
        if (find(object, name, NULL) != theirs) fail_msg("%s in %s", name, library);
        compared++;
    }
    assert_in_range(compared, at_least, count);
}

static void everything_of_libc_is_found(void **state) {
    (void)state;
    compare_with_the_dynamic_linker("libc.so", 1000);
}

static void everything_of_cmocka_is_found(void **state) {
    (void)state;
    compare_with_the_dynamic_linker("libcmocka", 50);
}

static void each_version_of_a_function_is_found(void **state) {
    (void)state;
    const struct mw_elf *libc = object_named("libc.so");
    static const char *const names[] = {"pthread_create", "dlsym", "pthread_cond_wait", "regexec"};
    static const char *const versions[] = {"GLIBC_2.2.5", "GLIBC_2.3.2", "GLIBC_2.3.4",
                                           "GLIBC_2.17",  "GLIBC_2.34",  "GLIBC_1.0"};
    size_t found = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (size_t j = 0; j < sizeof versions / sizeof versions[0]; j++) {
            void *theirs = dlvsym(RTLD_DEFAULT, names[i], versions[j]);
            assert_ptr_equal(find(libc, names[i], versions[j]), theirs);
            found += theirs != NULL;
        }
    assert_true(found >= 4);
}

static void variables_are_found_too(void **state) {
    (void)state;
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    assert_non_null(dlsym(libc, "optind"));
    assert_ptr_equal(find(object_named("libc.so"), "optind", NULL), dlsym(libc, "optind"));
}

static void a_program_with_the_old_hash_table_is_read_too(void **state) {
    (void)state;
    const struct mw_elf *program = &objects[0];
    assert_string_equal(program->path, "");
    assert_non_null(program->hash);
    assert_null(program->gnu_hash);
    assert_ptr_equal(find(program, "exported_function", NULL), (void *)exported_function);
    // An object without versions answers for any.
    assert_ptr_equal(find(program, "exported_function", "ANY_1.0"), (void *)exported_function);
    assert_null(find(program, "no_such_function", NULL));
}

static void what_an_object_only_needs_it_does_not_define(void **state) {
    (void)state;
    assert_null(find(&objects[0], "dlsym", NULL));
    assert_non_null(find(object_named("libcmocka"), "_assert_true", NULL));
    assert_null(find(object_named("libcmocka"), "malloc", NULL));
}

static void addresses_are_told_to_their_objects(void **state) {
    (void)state;
    const struct mw_elf *libc = object_named("libc.so");
    assert_true(mw_elf_contains(libc, (void *)getenv));
    assert_true(mw_elf_contains(&objects[0], (void *)exported_function));
    assert_false(mw_elf_contains(libc, (void *)exported_function));
    assert_false(mw_elf_contains(libc, NULL));
}

static void names_of_libraries_are_known(void **state) {
    (void)state;
    assert_string_equal(object_named("libc.so")->soname, "libc.so.6");
    assert_null(objects[0].soname);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_of_libc_is_found),
        cmocka_unit_test(everything_of_cmocka_is_found),
        cmocka_unit_test(each_version_of_a_function_is_found),
        cmocka_unit_test(variables_are_found_too),
        cmocka_unit_test(a_program_with_the_old_hash_table_is_read_too),
        cmocka_unit_test(what_an_object_only_needs_it_does_not_define),
        cmocka_unit_test(addresses_are_told_to_their_objects),
        cmocka_unit_test(names_of_libraries_are_known),
    };
    return cmocka_run_group_tests(tests, load_objects, NULL);
}
